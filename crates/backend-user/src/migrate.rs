//! Moving pages: one call that isolates, finds targets, runs the core, and puts back.

use core::num::NonZeroU32;
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use core::time::Duration;
use std::borrow::Cow;
use std::sync::Arc;
use std::time::Instant;

use migrate_core::{
    Args, Frames, FromFn, Isolated, List, Lru, MAX_PASSES, MODERN, MapList, PageRef, Profile, Slot, Tally, UsesPageMap,
    migrate_pages, migrate_pages_nowait, migrate_prep, putback_lru_pages,
};
use mm_types::trace::{Event, Observer};
use mm_types::{ListId, Mode, NodeId, Outcome, PageList, Pfn, Pte, PteFlags, Reason, Refusal, Rules, Site};

use crate::error::MachineError;
use crate::kernel::{Kernel, lock};
use crate::machine::Machine;
use crate::mm::Mm;
use crate::spaces::Area;

/// Room for pages in flight, kept from one call to the next.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    slots: Vec<Slot<Kernel>>,
}

/// Which pages.
#[derive(Clone, Copy, Debug)]
pub enum Pages<'p> {
    /// Those of an area that are there.
    Area(&'p Area),
    /// Those mapped at these places.
    Sites(&'p [Site]),
    /// These frames.
    Frames(&'p [Pfn]),
    /// All pages of a node.
    Node(NodeId),
}

impl<'p> From<&'p Area> for Pages<'p> {
    fn from(area: &'p Area) -> Self {
        Self::Area(area)
    }
}

impl<'p> From<&'p [Site]> for Pages<'p> {
    fn from(sites: &'p [Site]) -> Self {
        Self::Sites(sites)
    }
}

/// A migration to be made.
pub struct Migrate<'m> {
    /// Which pages. Those in neighbouring places go to neighbouring frames, so give them in order.
    pub pages: Pages<'m>,
    /// The node to move them to.
    pub to: NodeId,
    /// Whose rules.
    pub profile: &'m Profile,
    /// What the run may wait for.
    pub mode: Mode,
    /// Why.
    pub reason: Reason,
    /// Pages in flight at a time, at least 1. Each is blocked for about as long as all of them take.
    pub batch: usize,
    /// Looked at between batches: when it is true, the run ends after the batch it is in.
    pub stop: Option<&'m AtomicBool>,
    /// Told what became of each page, by its frame before.
    pub outcome: Option<&'m mut dyn FnMut(Pfn, Outcome)>,
}

impl core::fmt::Debug for Migrate<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Migrate")
            .field("pages", &self.pages)
            .field("to", &self.to)
            .field("profile", &self.profile.rules)
            .field("mode", &self.mode)
            .field("batch", &self.batch)
            .finish_non_exhaustive()
    }
}

impl<'m> Migrate<'m> {
    /// Moves `pages` to node `to`: today's rules, never sleeping, 512 pages at a time.
    #[must_use]
    pub fn new(pages: impl Into<Pages<'m>>, to: NodeId) -> Self {
        Self {
            pages: pages.into(),
            to,
            profile: &MODERN,
            mode: Mode::Async,
            reason: Reason::SyscallOrCpuset,
            batch: MODERN.max_batch,
            stop: None,
            outcome: None,
        }
    }

    /// Sets whose rules are followed.
    #[must_use]
    pub fn profile(mut self, profile: &'m Profile) -> Self {
        self.profile = profile;
        self
    }

    /// Sets what the run may wait for.
    #[must_use]
    pub fn mode(mut self, mode: Mode) -> Self {
        self.mode = mode;
        self
    }

    /// Sets why.
    #[must_use]
    pub fn reason(mut self, reason: Reason) -> Self {
        self.reason = reason;
        self
    }

    /// Sets how many pages are in flight at a time.
    #[must_use]
    pub fn batch(mut self, pages: usize) -> Self {
        self.batch = pages.max(1);
        self
    }

    /// Sets what ends the run early.
    #[must_use]
    pub fn stop(mut self, stop: &'m AtomicBool) -> Self {
        self.stop = Some(stop);
        self
    }

    /// Sets who is told what became of each page.
    #[must_use]
    pub fn outcome(mut self, outcome: &'m mut dyn FnMut(Pfn, Outcome)) -> Self {
        self.outcome = Some(outcome);
        self
    }
}

/// Pages that stayed for one reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stayed {
    /// The reason, with the holder of the first such page.
    pub refusal: Refusal,
    /// How many.
    pub pages: u64,
    /// One of them.
    pub example: Pfn,
}

/// What a migration did, in pages.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Moved to the node.
    pub moved: u64,
    /// Freed by their users meanwhile.
    pub freed: u64,
    /// On the node already.
    pub already: u64,
    /// No page was there.
    pub absent: u64,
    /// Stayed, by the word of their refusal.
    pub stayed: Vec<Stayed>,
    /// Attempts refused for now, by pass.
    pub retried: [u64; MAX_PASSES],
    /// Runs of the core.
    pub batches: u64,
    /// Time from the first isolation to the last putback.
    pub wall: Duration,
    /// It was told to stop before the end.
    pub stopped: bool,
}

impl Report {
    /// Returns how many pages stayed.
    #[must_use]
    pub fn refused(&self) -> u64 {
        self.stayed.iter().map(|stayed| stayed.pages).sum()
    }

    /// Returns how many attempts were refused for now.
    #[must_use]
    pub fn retries(&self) -> u64 {
        self.retried.iter().sum()
    }

    fn stay(&mut self, pfn: Pfn, refusal: Refusal) {
        let known = self
            .stayed
            .iter_mut()
            .find(|stayed| stayed.refusal.word() == refusal.word());
        match known {
            Some(stayed) => stayed.pages += 1,
            None => self.stayed.push(Stayed {
                refusal,
                pages: 1,
                example: pfn,
            }),
        }
    }

    /// Adds what another migration did.
    pub fn add(&mut self, other: &Self) {
        self.moved += other.moved;
        self.freed += other.freed;
        self.already += other.already;
        self.absent += other.absent;
        self.batches += other.batches;
        self.wall += other.wall;
        self.stopped |= other.stopped;
        for (sum, n) in self.retried.iter_mut().zip(other.retried) {
            *sum += n;
        }
        for stayed in &other.stayed {
            let known = self
                .stayed
                .iter_mut()
                .find(|s| s.refusal.word() == stayed.refusal.word());
            match known {
                Some(sum) => sum.pages += stayed.pages,
                None => self.stayed.push(*stayed),
            }
        }
    }
}

/// The places of a request, one after the other.
struct Source<'s> {
    pages: Pages<'s>,
    next: usize,
    /// The space looked up last: sites come in runs.
    last: Option<Arc<Mm>>,
}

/// One place of a request.
#[derive(Clone)]
enum Place<'s> {
    /// A page of a space.
    Site(Cow<'s, Arc<Mm>>, usize),
    /// A frame, whatever maps it.
    Frame(Pfn),
    /// No such space.
    Nowhere,
}

impl<'s> Source<'s> {
    fn next(&mut self, kernel: &Kernel) -> Option<Place<'s>> {
        let n = self.next;
        self.next += 1;
        match self.pages {
            Pages::Area(area) => (n < area.pages).then(|| Place::Site(Cow::Borrowed(area.space.mm()), area.first + n)),
            Pages::Sites(sites) => sites.get(n).map(|site| {
                if self.last.as_ref().is_none_or(|mm| mm.id != site.space) {
                    self.last = kernel.areas().space(site.space).cloned();
                }
                let page = usize::try_from(site.page.raw()).unwrap_or(usize::MAX);
                let mm = self.last.clone();
                mm.map_or(Place::Nowhere, |mm| Place::Site(Cow::Owned(mm), page))
            }),
            Pages::Frames(frames) => frames.get(n).map(|pfn| Place::Frame(*pfn)),
            Pages::Node(node) => (n < kernel.frames_per_node).then(|| {
                let first = usize::from(node.raw()) * kernel.frames_per_node;
                Place::Frame(Pfn::new((first + n) as u64))
            }),
        }
    }
}

impl Place<'_> {
    fn look(&self) -> Pte {
        match self {
            Self::Site(mm, page) => mm.read(*page),
            Self::Frame(pfn) => Pte::present(*pfn, PteFlags::empty()),
            Self::Nowhere => Pte::None,
        }
    }
}

/// Frames for one batch: neighbours where there are some.
struct Targets<'k> {
    kernel: &'k Kernel,
    node: NodeId,
    want: usize,
    next: u64,
    left: usize,
}

impl Targets<'_> {
    fn take(&mut self, old: Pfn) -> Result<PageRef, Refusal> {
        if self.left == 0 {
            let taken = self.kernel.take_on(self.node, self.want, Some(old));
            let (first, n) = taken.ok_or(Refusal::NoTarget)?;
            (self.next, self.left) = (first.raw(), n);
        }
        let pfn = Pfn::new(self.next);
        self.next += 1;
        self.left -= 1;
        self.want = self.want.saturating_sub(1).max(1);
        self.kernel.new_page(pfn).ok_or(Refusal::NoTarget)
    }
}

impl Drop for Targets<'_> {
    fn drop(&mut self) {
        for pfn in self.next..self.next + self.left as u64 {
            self.kernel.untake(Pfn::new(pfn));
        }
    }
}

/// Counts a run under 2006 rules for as long as it lasts.
struct Run2006<'k>(Option<&'k AtomicU32>);

impl<'k> Run2006<'k> {
    fn begin(kernel: &'k Kernel, profile: &Profile) -> Self {
        let count = (profile.rules == Rules::Linux2617).then_some(&kernel.runs_2006);
        if let Some(count) = count {
            count.fetch_add(1, Ordering::Relaxed);
        }
        Self(count)
    }
}

impl Drop for Run2006<'_> {
    fn drop(&mut self) {
        if let Some(count) = self.0 {
            count.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// Numbers for the lists of runs that are in progress at the same time.
static LISTS: AtomicU32 = AtomicU32::new(0);

fn new_list() -> PageList {
    let n = LISTS.fetch_add(1, Ordering::Relaxed) % (mm_types::Lru::FIRST_LIST - 1);
    PageList::new(ListId::new(NonZeroU32::MIN.saturating_add(n)))
}

impl Machine {
    /// Moves pages to another node, while programs use them.
    ///
    /// What cannot move is put back where it was, and the report says why. Several threads may call this at the same time.
    ///
    /// # Errors
    /// There is no such node. Nothing was touched.
    pub fn migrate(&self, request: Migrate<'_>) -> Result<Report, MachineError> {
        let kernel = self.kernel();
        if usize::from(request.to.raw()) >= kernel.nodes.len() {
            return Err(MachineError::NoNode(request.to));
        }
        let mut scratch = lock(&self.inner.scratch).pop().unwrap_or_default();
        let batch = request.batch.max(1);
        if scratch.slots.len() < batch {
            scratch.slots.resize_with(batch, Slot::new);
        }
        let slots = scratch.slots.get_mut(..batch).unwrap_or_default();
        kernel.look_at_mappings();
        let _rules = Run2006::begin(kernel, request.profile);
        let report = match kernel.trace.as_deref() {
            Some(recording) => run(kernel, request, slots, recording),
            None => run(kernel, request, slots, ()),
        };
        lock(&self.inner.scratch).push(scratch);
        Ok(report)
    }
}

fn run<O: Observer>(kernel: &Kernel, request: Migrate<'_>, slots: &mut [Slot<Kernel>], observer: O) -> Report {
    let begun = Instant::now();
    let mut report = Report::default();
    let mut nobody = |_: Pfn, _: Outcome| {};
    let tell: &mut dyn FnMut(Pfn, Outcome) = match request.outcome {
        Some(tell) => tell,
        None => &mut nobody,
    };
    let mut source = Source {
        pages: request.pages,
        next: 0,
        last: None,
    };
    let mut from = MapList::new(kernel.page_map(), new_list());
    let mut failed = MapList::new(kernel.page_map(), new_list());
    let mut ended = false;
    while !ended {
        if request.stop.is_some_and(|stop| stop.load(Ordering::Relaxed)) {
            report.stopped = true;
            break;
        }
        migrate_prep(kernel);
        ended = isolate(
            kernel,
            &mut source,
            &mut from,
            slots.len(),
            request.to,
            &mut report,
            tell,
            observer,
        );
        let isolated = List::<PageRef>::len(&from);
        if isolated == 0 {
            continue;
        }
        let mut targets = Targets {
            kernel,
            node: request.to,
            want: isolated,
            next: 0,
            left: 0,
        };
        let tally = {
            let (report, tell) = (&mut report, &mut *tell);
            let mut outcome = |page: &PageRef, outcome: Outcome| {
                match outcome {
                    Outcome::Moved { .. } => report.moved += 1,
                    Outcome::Freed => report.freed += 1,
                    Outcome::Retry(_) => {}
                    Outcome::Refused(refusal) => {
                        report.stay(page.pfn(), refusal);
                        kernel.refused.remember(page.pfn(), refusal);
                    }
                }
                tell(page.pfn(), outcome);
            };
            let args = Args {
                from: &mut from,
                target: FromFn {
                    take: |old: &PageRef| targets.take(old.pfn()),
                    give_back: |page| kernel.put(page),
                },
                moved: None,
                failed: &mut failed,
                slots: &mut *slots,
                profile: request.profile,
                mode: request.mode,
                reason: request.reason,
                outcome: &mut outcome,
                observer,
            };
            let done = if request.profile.blocks(request.mode) {
                migrate_pages(kernel, args)
            } else {
                migrate_pages_nowait(kernel, args)
            };
            debug_assert!(done.is_ok(), "slots were lent, empty: {done:?}");
            done.unwrap_or_default()
        };
        drop(targets);
        report.batches += 1;
        add_retries(&mut report, &tally);
        putback_lru_pages::<_, O>(kernel, &mut from, observer);
        putback_lru_pages::<_, O>(kernel, &mut failed, observer);
    }
    // 2006 frees old pages when the staging arrays drain.
    kernel.drain();
    report.wall = begun.elapsed();
    report
}

/// Fills `from` with up to `room` isolated pages; true at the end of the request.
#[expect(clippy::too_many_arguments, reason = "the parts of one loop")]
fn isolate<O: Observer>(
    kernel: &Kernel,
    source: &mut Source<'_>,
    from: &mut MapList<'_>,
    room: usize,
    to: NodeId,
    report: &mut Report,
    tell: &mut dyn FnMut(Pfn, Outcome),
    observer: O,
) -> bool {
    let map = kernel.page_map();
    let mut stayed = |report: &mut Report, pfn, refusal| {
        report.stay(pfn, refusal);
        kernel.refused.remember(pfn, refusal);
        tell(pfn, Outcome::Refused(refusal));
    };
    // Isolated first, then looked at once more: no reference is needed to find a page that its list keeps.
    let mut wrong = Vec::new();
    let mut refused = Vec::new();
    let mut busy = Vec::new();
    // Looked up before the lists are locked: spaces are behind a lock that comes first.
    let places: Vec<_> = (0..room).map_while(|_| source.next(kernel)).collect();
    kernel.with_lru(|lru| {
        for place in &places {
            let pfn = match place.look() {
                Pte::Present { pfn, .. } => pfn,
                Pte::Migration(entry) => {
                    busy.push(entry.pfn());
                    continue;
                }
                _ => {
                    report.absent += 1;
                    continue;
                }
            };
            let in_use = kernel.page(pfn).is_some_and(|page| page.count() != 0);
            if !in_use {
                report.absent += 1;
            } else if kernel.node_of(pfn) == to {
                report.already += 1;
            } else if let Err(refusal) = lru.isolate(map, pfn) {
                refused.push((pfn, refusal));
            } else if place.look().pfn() == Some(pfn) {
                observer.note(|| Event::Isolate(pfn));
                let isolated = Isolated::from_isolated(PageRef::counted(pfn));
                List::<Isolated<PageRef>>::push_back(from, isolated);
            } else {
                // The frame became another page's between the look and the isolation.
                wrong.push(pfn);
            }
        }
    });
    for pfn in wrong {
        kernel.putback(PageRef::counted(pfn));
        report.absent += 1;
    }
    for pfn in busy {
        stayed(report, pfn, Refusal::LockBusy);
    }
    for (pfn, refusal) in refused {
        stayed(report, pfn, refusal);
    }
    places.len() < room
}

fn add_retries(report: &mut Report, tally: &Tally) {
    for (sum, n) in report.retried.iter_mut().zip(tally.retried) {
        *sum += u64::from(n);
    }
}
