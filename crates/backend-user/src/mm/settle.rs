//! Settling: the range is made to agree with the table, in as few system calls as runs of pages allow.

use migrate_core::Frames as _;
use mm_types::{Pfn, Pte};

use super::{Mm, State};
use crate::kernel::Kernel;
use crate::sys::error::MapError;
use crate::sys::range::{PageRange, Prot};

/// A page to settle.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Todo {
    page: usize,
    /// While its page is in flight it may not even be read.
    hide: bool,
    /// The frame that its page will have if nothing goes wrong: mapped at the first barrier, inaccessible, so that the second
    /// only has to open it.
    ahead: Option<Pfn>,
}

impl Todo {
    const fn hidden(page: usize) -> Self {
        Self {
            page,
            hide: true,
            ahead: None,
        }
    }
}

/// What one system call does to a run of pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    Protect(Prot),
    /// The first page's frame; the following pages get the following frames.
    Map(Pfn, Prot),
    Reserve,
}

impl Mm {
    /// Makes the range agree with the table at every page on `todo`.
    ///
    /// # Errors
    /// What the operating system refused after all ballast was given up. The pages stay on `todo`; those that had to become
    /// inaccessible are.
    ///
    /// Then drops the references that edits of the table left: programs reach none of those pages now.
    pub(crate) fn settle(&self, kernel: &Kernel, state: &mut State) -> Result<(), MapError> {
        if state.todo.is_empty() {
            return Ok(());
        }
        let mut todo = core::mem::take(&mut state.todo);
        if !todo.is_sorted() {
            todo.sort_unstable();
        }
        // Two notes about one page: the stricter one comes last.
        todo.dedup_by(|later, kept| {
            let same = later.page == kept.page;
            if same {
                *kept = *later;
            }
            same
        });
        let before = state.edges;
        let mut result = Ok(());
        if let Some(private) = kernel.private.as_deref().filter(|_| !state.private.is_empty()) {
            let mut pages = core::mem::take(&mut state.moves);
            pages.extend(todo.iter().map(|todo| todo.page).filter(|page| state.is_private(*page)));
            todo.retain(|todo| !state.is_private(todo.page));
            result = self.settle_private(kernel, private, state, &pages);
            pages.clear();
            state.moves = pages;
        }
        let mut rest = todo.as_slice();
        while let Some((first, after)) = rest.split_first() {
            rest = after;
            let Some(change) = self.change(state, *first) else {
                continue;
            };
            let start = first.page;
            let mut n = 1;
            while let Some((next, after)) = rest.split_first() {
                let follows = next.page == start + n
                    && self
                        .change(state, *next)
                        .is_some_and(|next| kernel.continues(change, next, n));
                if !follows {
                    break;
                }
                rest = after;
                n += 1;
            }
            if let Err(e) = self.apply(kernel, state, start, n, change) {
                result = Err(e);
                state.todo.extend((start..start + n).map(Todo::hidden));
            }
        }
        kernel.mappings_changed(before, state.edges);
        todo.clear();
        if state.todo.is_empty() {
            // Keeps the room: a batch allocates nothing after the first.
            state.todo = todo;
        }
        state.drop_owed(kernel);
        result
    }

    /// Returns what the page needs, or `None` where it agrees.
    fn change(&self, state: &State, todo: Todo) -> Option<Change> {
        let page = todo.page;
        let real = state.real.get(page)?.get();
        match (self.read(page), real) {
            (Pte::Present { pfn, .. }, Some((frame, prot))) if frame == pfn => {
                let want = state.prot(self.read(page));
                (want != prot).then_some(Change::Protect(want))
            }
            (pte @ Pte::Present { pfn, .. }, _) => Some(Change::Map(pfn, state.prot(pte))),
            (Pte::None, Some(_)) => Some(Change::Reserve),
            (Pte::Migration(entry), Some((frame, prot))) => {
                let readable = !todo.hide && frame == entry.pfn() && prot != Prot::None;
                match todo.ahead.filter(|ahead| !readable && *ahead != frame) {
                    Some(ahead) => Some(Change::Map(ahead, Prot::None)),
                    None => {
                        let want = if readable { Prot::Read } else { Prot::None };
                        (want != prot).then_some(Change::Protect(want))
                    }
                }
            }
            (_, Some((_, prot))) => (prot != Prot::None).then_some(Change::Protect(Prot::None)),
            (_, None) => None,
        }
    }

    /// Makes one change to a run, with ballast where the limit of mappings is in the way.
    fn apply(&self, kernel: &Kernel, state: &mut State, page: usize, n: usize, change: Change) -> Result<(), MapError> {
        kernel.before_change(self.id, matches!(change, Change::Map(..)));
        let done = kernel.rescue(|| self.call(kernel, page, n, change));
        match (done, change) {
            (Ok(()), _) => {
                state.note(kernel, page, n, change);
                Ok(())
            }
            // A run over several mappings may have been changed in part: what each page has must be known again.
            (Err(_), Change::Protect(prot)) => {
                for page in page..page + n {
                    match kernel.rescue(|| self.call(kernel, page, 1, change)) {
                        Ok(()) => state.note(kernel, page, 1, change),
                        Err(e) if prot == Prot::ReadWrite => return Err(e),
                        Err(_) => self.hide_around(kernel, state, page)?,
                    }
                }
                Ok(())
            }
            // Not ahead then: hidden is enough.
            (Err(_), Change::Map(_, Prot::None)) => self.apply(kernel, state, page, n, Change::Protect(Prot::None)),
            (Err(e), _) => Err(e),
        }
    }

    /// Hides the whole mapping around `page`: the one change that needs no mapping more. What else it hides is found by faults.
    fn hide_around(&self, kernel: &Kernel, state: &mut State, page: usize) -> Result<(), MapError> {
        let mut start = page;
        while start > 0 && !state.edge(kernel, start - 1) {
            start -= 1;
        }
        let mut end = page + 1;
        while end < self.pages() && !state.edge(kernel, end - 1) {
            end += 1;
        }
        let change = Change::Protect(Prot::None);
        self.call(kernel, start, end - start, change)?;
        state.note(kernel, start, end - start, change);
        state.todo.extend((start..end).map(Todo::hidden));
        Ok(())
    }

    fn call(&self, kernel: &Kernel, page: usize, n: usize, change: Change) -> Result<(), MapError> {
        match change {
            Change::Protect(prot) => self.range.protect_run(page, n, prot),
            Change::Reserve => self.range.unmap_run(page, n),
            Change::Map(pfn, prot) => kernel.map_run(&self.range, page, n, pfn, prot),
        }
    }
}

impl State {
    /// Drops the references of entries that are gone to pages that no program can reach any more.
    fn drop_owed(&mut self, kernel: &Kernel) {
        let mut owed = core::mem::take(&mut self.owed);
        for page in owed.drain(..) {
            if self.shows(page.pfn()) {
                self.owed.push(page);
            } else {
                kernel.put(page);
            }
        }
        if self.owed.is_empty() {
            self.owed = owed;
        }
    }

    /// True where a page that could not be made to agree still shows the frame to programs.
    fn shows(&self, pfn: Pfn) -> bool {
        let real = |todo: &Todo| self.real.get(todo.page).and_then(|real| real.get());
        let shown = |(frame, prot)| frame == pfn && prot != Prot::None;
        self.todo.iter().filter_map(real).any(shown)
    }

    /// True where the range agrees with the entry of `page`.
    pub(crate) fn is_settled(&self, page: usize) -> bool {
        !self.todo.iter().any(|todo| todo.page == page)
    }

    /// Notes that `page` no longer agrees; `hide`: where its page is in flight it may not even be read.
    pub(crate) fn unsettled(&mut self, page: usize, hide: bool) {
        self.in_flight(page, hide, None);
    }

    /// As [`unsettled`](Self::unsettled), for a page that is on its way to frame `ahead`.
    pub(crate) fn in_flight(&mut self, page: usize, hide: bool, ahead: Option<Pfn>) {
        self.todo.push(Todo { page, hide, ahead });
    }
}

impl Kernel {
    /// True where `next`, `n` pages after the page of `change`, can go into the same system call.
    fn continues(&self, change: Change, next: Change, n: usize) -> bool {
        match (change, next) {
            (Change::Map(a, pa), Change::Map(b, pb)) => pa == pb && self.neighbours(a, b, n),
            (a, b) => a == b,
        }
    }

    fn map_run(&self, range: &PageRange, page: usize, n: usize, pfn: Pfn, prot: Prot) -> Result<(), MapError> {
        let missing = MapError::OutOfRange { page, pages: n, len: 0 };
        let (node, frame) = self.frame(pfn).ok_or(missing)?;
        range.map_run(page, n, std::os::fd::AsFd::as_fd(node), frame, prot, self.populates(n))
    }
}
