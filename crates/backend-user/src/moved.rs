//! Making places agree with entries, on the second engine: what [`Mm::settle`] does there.
//!
//! A page is shown by moving its frame's memory to its place, and hidden by moving it to its slot. All that is to be hidden
//! is hidden first: a frame may be on its way from one place to another. Runs of neighbours in neighbouring frames move
//! together, and whole blocks for the price of a page where they are large.
//!
//! A move makes a page writable, so a page that may only be read is copied to its place, write-protected from its first moment.

use core::ops::Range;

use mm_types::{PAGE_SIZE, Pfn, Pte};

use crate::kernel::Kernel;
use crate::mm::{Mm, Real, State};
use crate::private::Private;
use crate::sys::arena::{Arena, BLOCK, advise};
use crate::sys::error::MapError;
use crate::sys::node::HUGE;
use crate::sys::range::Prot;
use crate::sys::uffd::{Cut, os};

/// What a place needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// The frame's memory back into its slot.
    Hide(Pfn),
    /// The frame's memory here.
    Show(Pfn, Prot),
    /// What is here allows more, or less.
    Protect(Prot),
}

impl Step {
    /// True where `next`, `n` pages on, can be done by the same calls.
    fn continues(self, kernel: &Kernel, next: Self, n: usize) -> bool {
        match (self, next) {
            (Self::Hide(a), Self::Hide(b)) => kernel.neighbours(a, b, n),
            (Self::Show(a, pa), Self::Show(b, pb)) => pa == pb && kernel.neighbours(a, b, n),
            (a, b) => a == b,
        }
    }
}

/// A step that `n` neighbours need, from `page` on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Steps {
    page: usize,
    n: usize,
    step: Step,
}

impl Steps {
    const fn new(page: usize, step: Step) -> Self {
        Self { page, n: 1, step }
    }

    /// True where `page` needs it next.
    fn takes(&self, kernel: &Kernel, page: usize, step: Step) -> bool {
        page == self.page + self.n && self.step.continues(kernel, step, self.n)
    }
}

/// Steps of which the last may go on.
#[derive(Default)]
struct Runs {
    last: Option<Steps>,
}

impl Runs {
    /// Adds a page's step; returns the run that it does not belong to.
    fn add(&mut self, kernel: &Kernel, page: usize, step: Step) -> Option<Steps> {
        match &mut self.last {
            Some(run) if run.takes(kernel, page, step) => {
                run.n += 1;
                None
            }
            last => last.replace(Steps::new(page, step)),
        }
    }
}

/// A run of neighbours: pages of a space, and the frames shown there.
#[derive(Clone, Copy)]
struct Run<'r> {
    kernel: &'r Kernel,
    private: &'r Private,
    page: usize,
    n: usize,
    pfn: Pfn,
}

impl<'r> Run<'r> {
    /// Returns the arena and the first slot.
    fn slots(&self) -> Option<(&'r Arena, usize)> {
        let (node, frame) = self.kernel.place_of(self.pfn.index()?);
        Some((self.private.arena(node)?, frame))
    }

    fn one(&self, offset: usize) -> Self {
        Self {
            page: self.page + offset,
            n: 1,
            pfn: Pfn::new(self.pfn.raw() + offset as u64),
            ..*self
        }
    }
}

impl Mm {
    /// As [`settle`](Self::settle), for sorted places of the second engine.
    pub(crate) fn settle_private(
        &self,
        kernel: &Kernel,
        private: &Private,
        state: &mut State,
        pages: &[usize],
    ) -> Result<(), MapError> {
        let mut result = Ok(());
        let mut hides = Runs::default();
        let mut shows = core::mem::take(&mut state.shows);
        for page in pages {
            if let Err(error) = self.unbar(state, *page) {
                result = Err(error);
                state.unsettled(*page, true);
                continue;
            }
            let (hide, rest) = self.steps(private, state, *page);
            if let Some(run) = hide.and_then(|step| hides.add(kernel, *page, step)) {
                result = self.take(kernel, private, state, run).and(result);
            }
            if let Some(step) = rest {
                match shows.last_mut() {
                    Some(run) if run.takes(kernel, *page, step) => run.n += 1,
                    _ => shows.push(Steps::new(*page, step)),
                }
            }
        }
        if let Some(run) = hides.last {
            result = self.take(kernel, private, state, run).and(result);
        }
        for run in shows.drain(..) {
            result = self.take(kernel, private, state, run).and(result);
        }
        state.shows = shows;
        private.stalls_end(kernel, self, pages);
        result
    }

    /// Takes the steps of a run of neighbours.
    fn take(&self, kernel: &Kernel, private: &Private, state: &mut State, steps: Steps) -> Result<(), MapError> {
        let Steps { page, n, step } = steps;
        let run = |pfn| Run {
            kernel,
            private,
            page,
            n,
            pfn,
        };
        match step {
            Step::Hide(pfn) => self.hide(state, run(pfn)),
            Step::Show(pfn, prot) => self.show_run(state, run(pfn), prot),
            Step::Protect(prot) => self.protect_place(private, state, page, n, prot),
        }
    }

    /// Returns what a place needs: what is here to be hidden, and what comes after that.
    fn steps(&self, private: &Private, state: &State, page: usize) -> (Option<Step>, Option<Step>) {
        let real = state.real.get(page).and_then(|real| real.get());
        let want = match self.read(page) {
            pte @ Pte::Present { pfn, .. } => Some((pfn, state.prot(pte))).filter(|(_, prot)| *prot != Prot::None),
            _ => None,
        };
        match (real, want) {
            (Some((frame, prot)), Some((pfn, wanted))) if frame == pfn => {
                // It was to be hidden once, and is to be seen again.
                private.unstick(frame);
                (None, (prot != wanted).then_some(Step::Protect(wanted)))
            }
            (real, want) => (
                real.map(|(frame, _)| Step::Hide(frame)),
                want.map(|(pfn, prot)| Step::Show(pfn, prot)),
            ),
        }
    }

    fn place(&self, page: usize) -> *mut u8 {
        self.range.as_ptr().wrapping_add(page * PAGE_SIZE)
    }

    /// Moves a run's memory from its places to its slots.
    fn hide(&self, state: &mut State, run: Run<'_>) -> Result<(), MapError> {
        let Some((arena, frame)) = run.slots() else {
            return Ok(());
        };
        // A place in pages moves in pages, whatever it was before.
        self.note_blocks(state, arena, run, frame, |state, block, _| !state.in_pages(block));
        let mut done = 0;
        let mut result = Ok(());
        while done < run.n {
            let (from, to) = (self.place(run.page + done), arena.slot(frame + done));
            // SAFETY: the place is of a private area of this space and shows the frame, whose slot is missing; the table is locked.
            // References into places are to atomics, which any thread may find missing for a while.
            let moved = unsafe { run.private.uffd.move_run(to, from, run.n - done, false) };
            let n = moved.map_or_else(|cut| cut.moved, |()| run.n - done);
            for offset in done..done + n {
                run.private.set_stuck(run.one(offset).pfn, false);
                state.set_real(run.page + offset, Real::NOTHING);
            }
            done += n;
            let Err(Cut { why, .. }) = moved else { break };
            if let Err(error) = self.not_hidden(state, run.one(done), why.raw()) {
                result = Err(error);
            }
            done += 1;
        }
        result
    }

    /// Deals with the one page of `run`, which cannot be moved: somebody else has its memory too.
    fn not_hidden(&self, state: &mut State, run: Run<'_>, why: i32) -> Result<(), MapError> {
        if !self.read(run.page).is_none() {
            run.private.set_stuck(run.pfn, true);
            state.unsettled(run.page, true);
            let errno = crate::sys::error::Errno::new(why);
            return Err(os("UFFDIO_MOVE", errno));
        }
        let Some((arena, frame)) = run.slots() else {
            return Ok(());
        };
        // Its page may have an entry elsewhere by now (mremap): the others keep that memory, and the frame gets new one that holds the
        // same.
        let place = self.place(run.page);
        // SAFETY: the slot is missing, for its memory is at the place, which is readable: what bars a page is taken away before.
        let copied = unsafe { run.private.uffd.copy_run(arena.slot(frame), place, 1, false, false) };
        if let Err(Cut { why, .. }) = copied {
            // Still there, and still reached: its reference is kept until this has worked.
            state.unsettled(run.page, true);
            return Err(os("UFFDIO_COPY", why));
        }
        state.set_real(run.page, Real::NOTHING);
        run.private.set_stuck(run.pfn, false);
        advise(place.cast(), PAGE_SIZE, libc::MADV_DONTNEED)
    }

    /// Shows a run of frames, and wakes who waits for them; in a traced machine their stand-ins do.
    fn show_run(&self, state: &mut State, run: Run<'_>, prot: Prot) -> Result<(), MapError> {
        let Some((arena, frame)) = run.slots() else {
            return Ok(());
        };
        run.kernel.before_change(self.id, true);
        // An access that went on before its stand-in has noted the end of the wait could begin the next one meanwhile.
        let wake = run.kernel.trace.is_none();
        let writable = prot == Prot::ReadWrite;
        self.note_blocks(state, arena, run, frame, |_, block, slots| {
            // Nothing is here; what goes are tables that are in the way of a large page (Linux 6.14, `PT_RECLAIM`): of single
            // pages that were here, or made by an access that waits.
            let whole = writable && arena.is_large(slots);
            whole && advise(self.place(block * HUGE).cast(), BLOCK, libc::MADV_DONTNEED).is_ok()
        });
        let (to, from) = (self.place(run.page), arena.slot(frame));
        let shown = if writable {
            // SAFETY: the slots hold the frames' memory and the places are missing: that is what the state says, and the table is
            // locked. Nobody has references into slots.
            unsafe { run.private.uffd.move_run(to, from, run.n, wake) }
        } else {
            // SAFETY: as above.
            let copied = unsafe { run.private.uffd.copy_run(to, from, run.n, true, wake) };
            let n = copied.map_or_else(|cut| cut.moved, |()| run.n);
            if n > 0 {
                // The frames' memory is at their places now; the slots must be missing, as for every page that is shown.
                let freed = advise(from.cast(), n * PAGE_SIZE, libc::MADV_DONTNEED);
                debug_assert_eq!(freed, Ok(()));
            }
            copied
        };
        let n = shown.map_or_else(|cut| cut.moved, |()| run.n);
        for offset in 0..n {
            let one = run.one(offset);
            state.set_real(one.page, Real::new(one.pfn, prot));
        }
        for offset in n..run.n {
            state.unsettled(run.page + offset, true);
        }
        shown.map_err(|cut| os("UFFDIO_MOVE", cut.why))
    }

    /// Notes for each of the space's blocks that a run touches whether it is one large page afterwards: only where the run has all of
    /// it, its slots lie in a block as its places do, and `whole` says so of the two.
    fn note_blocks(
        &self,
        state: &mut State,
        arena: &Arena,
        run: Run<'_>,
        frame: usize,
        whole: impl Fn(&State, usize, usize) -> bool,
    ) {
        let aligned = self.range.as_ptr().addr() % BLOCK == 0;
        for block in run.page / HUGE..(run.page + run.n).div_ceil(HUGE) {
            let start = run.page.max(block * HUGE);
            let n = (run.page + run.n).min((block + 1) * HUGE) - start;
            let slot = frame + start - run.page;
            let large = aligned && n == HUGE && slot % HUGE == 0 && whole(state, block, slot / HUGE);
            state.set_in_pages(block, !large);
            if !large {
                (slot / HUGE..(slot + n).div_ceil(HUGE)).for_each(|slots| arena.split(slots));
            }
        }
    }

    fn protect_place(
        &self,
        private: &Private,
        state: &mut State,
        page: usize,
        n: usize,
        prot: Prot,
    ) -> Result<(), MapError> {
        private.uffd.protect_run(self.place(page), n, prot == Prot::Read)?;
        for page in page..page + n {
            if prot == Prot::Read {
                state.set_in_pages(page / HUGE, true);
            }
            if let Some((pfn, _)) = state.real.get(page).and_then(|real| real.get()) {
                state.set_real(page, Real::new(pfn, prot));
            }
        }
        Ok(())
    }

    /// Makes an access that is not allowed end as it does everywhere, by SIGSEGV: a thread that sleeps in the kernel cannot be told
    /// otherwise. The page is opened again when it is settled.
    pub(crate) fn bar(&self, private: &Private, state: &mut State, page: usize) -> Result<(), MapError> {
        let shown = state.real.get(page).is_some_and(|real| *real != Real::NOTHING);
        let prot = if shown { Prot::Read } else { Prot::None };
        self.range.protect_run(page, 1, prot)?;
        if !state.barred.contains(&page) {
            state.barred.push(page);
        }
        self.wake(private, page..page + 1);
        Ok(())
    }

    fn unbar(&self, state: &mut State, page: usize) -> Result<(), MapError> {
        if let Some(at) = state.barred.iter().position(|barred| *barred == page) {
            self.range.protect_run(page, 1, Prot::ReadWrite)?;
            state.barred.swap_remove(at);
        }
        Ok(())
    }

    /// Wakes who waits for pages.
    pub(crate) fn wake(&self, private: &Private, pages: Range<usize>) {
        private.uffd.wake(self.place(pages.start), pages.len());
    }
}
