//! An emulated address space: a range of the process, and a table of entries that says what each page of it is.
//!
//! The protocol: `table` is what is true, the range is what the processor does, and
//!
//! > whenever `state` is unlocked, the range agrees with the table at every page, but for those on `todo`.
//!
//! Entries are read by anybody, without the lock: a fault handler does. They are replaced, and the range is changed, with the
//! lock held. [`Mm::settle`] makes the range agree, *by what the entries say then*: so whoever completes somebody else's
//! work, or comes after somebody who changed an entry in between, cannot make a mapping that is out of date.

use core::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard};

use migrate_core::{Frames as _, PageRef};
use mm_types::{NodeId, Pfn, Pte, Site, SpaceId, Vpn};

use crate::kernel::{Kernel, lock};
use crate::moved::Steps;
use crate::sys::error::MapError;
use crate::sys::range::{PageRange, Prot};
use crate::word;

/// One address space.
#[derive(Debug)]
pub(crate) struct Mm {
    pub(crate) id: SpaceId,
    pub(crate) range: PageRange,
    table: Box<[AtomicU64]>,
    state: Mutex<State>,
}

/// What the table lock guards, beside the right to replace entries.
#[derive(Debug)]
pub(crate) struct State {
    /// Pages whose mapping need not agree with their entry.
    todo: Vec<Todo>,
    /// References of entries that are gone, while programs may still reach the pages: dropped when the range agrees.
    pub(crate) owed: Vec<PageRef>,
    /// What the range has at each page.
    pub(crate) real: Box<[Real]>,
    /// Neighbouring pages that are not one mapping.
    pub(crate) edges: usize,
    /// Pages that were not used since the last look are inaccessible.
    pub(crate) tracking: bool,
    /// A writable entry lets the processor write only once it is dirty.
    pub(crate) learn_dirty: bool,
    /// Pages resident, in flight ones among them.
    pub(crate) resident: usize,
    /// Where the pages of an area should have their frames: first page, pages, frame of the first.
    pub(crate) placed: Vec<(usize, usize, Pfn)>,
    /// Room for the places of the second engine that are settled now: a batch allocates nothing after the first.
    moves: Vec<usize>,
    /// Room for what is shown once everything is hidden that is to be.
    pub(crate) shows: Vec<Steps>,
    /// Places of the second engine; empty where there is none.
    private: Vec<bool>,
    /// Blocks of the range that have tables of single pages, of those that places of the second engine lie in.
    in_pages: Vec<bool>,
    /// Places of the second engine that are closed, because an access was not allowed.
    pub(crate) barred: Vec<usize>,
}

/// A page to settle.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Todo {
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

/// What the range has at a page: nothing, or a frame and what may be done with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Real(u64);

impl Real {
    pub(crate) const NOTHING: Self = Self(0);

    /// What the word grows by from one frame to the next.
    const ONE_FRAME: u64 = 1 << 2;

    pub(crate) const fn new(pfn: Pfn, prot: Prot) -> Self {
        let prot = match prot {
            Prot::None => 0,
            Prot::Read => 1,
            Prot::ReadWrite => 2,
        };
        Self((pfn.raw() + 1) << 2 | prot)
    }

    pub(crate) fn get(self) -> Option<(Pfn, Prot)> {
        let prot = match self.0 & 3 {
            0 => Prot::None,
            1 => Prot::Read,
            _ => Prot::ReadWrite,
        };
        (self.0 >> 2).checked_sub(1).map(|pfn| (Pfn::new(pfn), prot))
    }
}

/// What one system call does to a run of pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Change {
    Protect(Prot),
    /// The first page's frame; the following pages get the following frames.
    Map(Pfn, Prot),
    Reserve,
}

impl Mm {
    /// Reserves a space of `pages` pages.
    pub(crate) fn new(id: SpaceId, pages: usize, learn_dirty: bool) -> Result<Self, MapError> {
        let range = PageRange::reserve(pages)?;
        Ok(Self {
            id,
            range,
            table: (0..pages).map(|_| AtomicU64::new(0)).collect(),
            state: Mutex::new(State {
                todo: Vec::new(),
                owed: Vec::new(),
                real: vec![Real::NOTHING; pages].into_boxed_slice(),
                edges: 0,
                tracking: false,
                learn_dirty,
                resident: 0,
                placed: Vec::new(),
                moves: Vec::new(),
                shows: Vec::new(),
                private: Vec::new(),
                in_pages: Vec::new(),
                barred: Vec::new(),
            }),
        })
    }

    /// Takes the table lock.
    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// Reads an entry. Async-signal-safe. An entry outside the space is empty.
    pub(crate) fn read(&self, page: usize) -> Pte {
        word::decode(self.word(page))
    }

    /// Reads an entry's word.
    pub(crate) fn word(&self, page: usize) -> u64 {
        self.table.get(page).map_or(0, |word| word.load(Ordering::Acquire))
    }

    /// Replaces an entry. The caller holds the table lock, so that nobody else does.
    pub(crate) fn store(&self, page: usize, pte: Pte) {
        if let Some(word) = self.table.get(page) {
            word.store(word::encode(pte), Ordering::Release);
        }
    }

    /// Returns how many pages the space has.
    pub(crate) fn pages(&self) -> usize {
        self.table.len()
    }

    /// Names one of its pages.
    pub(crate) const fn site(&self, page: usize) -> Site {
        Site::new(self.id, Vpn::new(page as u64))
    }

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

    /// True for a place of the second engine.
    pub(crate) fn is_private(&self, page: usize) -> bool {
        self.private.get(page).copied().unwrap_or(false)
    }

    /// True where a block of the range has tables of single pages.
    pub(crate) fn in_pages(&self, block: usize) -> bool {
        self.in_pages.get(block).copied().unwrap_or(true)
    }

    /// Notes whether it has.
    pub(crate) fn set_in_pages(&mut self, block: usize, in_pages: bool) {
        if let Some(block) = self.in_pages.get_mut(block) {
            *block = in_pages;
        }
    }

    /// Notes what a place of the second engine has.
    pub(crate) fn set_real(&mut self, page: usize, real: Real) {
        if let Some(at) = self.real.get_mut(page) {
            *at = real;
        }
    }

    /// Makes places the second engine's, or the first's again; nothing is there now.
    pub(crate) fn set_private(&mut self, kernel: &Kernel, pages: core::ops::Range<usize>, private: bool) {
        let before = self.edges_of(kernel, pages.start, pages.len());
        if self.private.is_empty() {
            self.private.resize(self.real.len(), false);
            self.in_pages
                .resize(self.real.len().div_ceil(crate::sys::node::HUGE), false);
        }
        self.barred.retain(|page| !pages.contains(page));
        if let Some(run) = self.private.get_mut(pages.clone()) {
            run.fill(private);
        }
        let after = self.edges_of(kernel, pages.start, pages.len());
        let edges = self.edges;
        self.edges = (edges + after).saturating_sub(before);
        kernel.mappings_changed(edges, self.edges);
    }

    /// Returns what a present entry lets the processor do.
    pub(crate) fn prot(&self, pte: Pte) -> Prot {
        if self.tracking && !pte.young() {
            Prot::None
        } else if pte.writable() && (!self.learn_dirty || pte.dirty()) {
            Prot::ReadWrite
        } else {
            Prot::Read
        }
    }

    /// True where page `page` and the next are not one mapping.
    fn edge(&self, kernel: &Kernel, page: usize) -> bool {
        let (Some(a), Some(b)) = (self.real.get(page), self.real.get(page + 1)) else {
            return false;
        };
        // One mapping for ever, whatever is shown in it.
        match (self.is_private(page), self.is_private(page + 1)) {
            (true, true) => return false,
            (false, false) => {}
            _ => return true,
        }
        match b.get() {
            // One word more by one frame: the next frame with the same protection, unless a node begins there.
            Some((pfn, _)) => *a == Real::NOTHING || b.0 != a.0 + Real::ONE_FRAME || kernel.begins_node(pfn),
            None => *a != Real::NOTHING,
        }
    }

    fn edges_of(&self, kernel: &Kernel, page: usize, n: usize) -> usize {
        (page.saturating_sub(1)..page + n)
            .filter(|page| self.edge(kernel, *page))
            .count()
    }

    /// Writes down what a run has now.
    fn note(&mut self, kernel: &Kernel, page: usize, n: usize, change: Change) {
        let before = self.edges_of(kernel, page, n);
        let run = self.real.get_mut(page..page + n).unwrap_or_default();
        for (real, offset) in run.iter_mut().zip(0..) {
            *real = match (change, real.get()) {
                (Change::Reserve, _) => Real::NOTHING,
                (Change::Map(pfn, prot), _) => Real::new(Pfn::new(pfn.raw() + offset), prot),
                (Change::Protect(prot), Some((pfn, _))) => Real::new(pfn, prot),
                (Change::Protect(_), None) => Real::NOTHING,
            };
        }
        let after = self.edges_of(kernel, page, n);
        self.edges = (self.edges + after).saturating_sub(before);
    }

    /// Checks that the range agrees with every entry; for tests. `space` is the space whose state this is.
    pub(crate) fn check(&self, space: &Mm) -> Result<(), String> {
        for page in 0..space.pages() {
            if !self.is_settled(page) {
                continue;
            }
            let pte = space.read(page);
            let real = self.real.get(page).and_then(|real| real.get());
            let agrees = match (pte, real) {
                // What may not be touched is not there.
                (pte, real) if self.is_private(page) => {
                    let shown = Some(self.prot(pte)).filter(|prot| pte.is_present() && *prot != Prot::None);
                    real == shown.and_then(|prot| Some((pte.pfn()?, prot)))
                }
                (Pte::None, real) => real.is_none(),
                (Pte::Present { pfn, .. }, Some(real)) => real == (pfn, self.prot(pte)),
                (Pte::Present { .. }, None) => false,
                (_, real) => real.is_none_or(|(_, prot)| prot != Prot::ReadWrite),
            };
            if !agrees {
                return Err(format!("{:?}: entry {pte:?}, mapped {real:?}", space.site(page)));
            }
        }
        Ok(())
    }
}

impl Kernel {
    /// True where frame `b` is `n` after `a`, in the same node.
    pub(crate) fn neighbours(&self, a: Pfn, b: Pfn, n: usize) -> bool {
        b.raw() == a.raw() + n as u64 && self.node_of(a) == self.node_of(b)
    }

    /// True for the first frame of a node.
    fn begins_node(&self, pfn: Pfn) -> bool {
        self.place_of(pfn.raw() as usize).1 == 0
    }

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

    /// Returns the node that a frame is of.
    pub(crate) fn node_of(&self, pfn: Pfn) -> NodeId {
        let (node, _) = self.place_of(pfn.raw() as usize);
        NodeId::new(u16::try_from(node).unwrap_or(u16::MAX))
    }
}
