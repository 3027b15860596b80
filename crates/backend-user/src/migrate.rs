//! Moving pages: one call that isolates, finds targets, runs the core, and puts back.

use core::num::NonZeroU32;
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use core::time::Duration;
use std::time::Instant;

use migrate_core::{
    Args, Frames, FromFn, Isolated, List, Lru, MAX_PASSES, MODERN, MapList, PageRef, Profile, Slot, Tally, UsesPageMap,
    isolate_lru_page, migrate_pages, migrate_pages_nowait, migrate_prep, putback_lru_pages,
};
use mm_types::trace::Observer;
use mm_types::{ListId, Mode, NodeId, Outcome, PageList, Pfn, Pte, Reason, Refusal, Rules, Site};

use crate::error::MachineError;
use crate::kernel::{Kernel, lock};
use crate::machine::Machine;
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

/// The pages of a request, one frame after the other.
struct Source<'s> {
    pages: Pages<'s>,
    next: usize,
}

/// What is at one place of a request.
enum Found {
    Page(PageRef),
    Busy(Pfn),
    Nothing,
}

impl Source<'_> {
    fn next(&mut self, kernel: &Kernel) -> Option<Found> {
        let n = self.next;
        self.next += 1;
        match self.pages {
            Pages::Area(area) => (n < area.pages).then(|| {
                let mm = area.space.mm();
                kernel.at(mm, area.first + n)
            }),
            Pages::Sites(sites) => sites.get(n).map(|site| {
                let mm = kernel.areas().space(site.space).cloned();
                let page = usize::try_from(site.page.raw()).unwrap_or(usize::MAX);
                mm.map_or(Found::Nothing, |mm| kernel.at(&mm, page))
            }),
            Pages::Frames(frames) => frames.get(n).map(|pfn| kernel.in_frame(*pfn)),
            Pages::Node(node) => (n < kernel.frames_per_node).then(|| {
                let first = usize::from(node.raw()) * kernel.frames_per_node;
                kernel.in_frame(Pfn::new((first + n) as u64))
            }),
        }
    }
}

impl Kernel {
    fn at(&self, mm: &crate::mm::Mm, page: usize) -> Found {
        match mm.read(page) {
            Pte::Present { pfn, .. } => match self.get(pfn) {
                // Between the look and the reference the frame may have become another page.
                Some(found) if mm.read(page).maps(pfn) => Found::Page(found),
                Some(other) => {
                    self.put(other);
                    Found::Nothing
                }
                None => Found::Busy(pfn),
            },
            Pte::Migration(entry) => Found::Busy(entry.pfn()),
            _ => Found::Nothing,
        }
    }

    fn in_frame(&self, pfn: Pfn) -> Found {
        self.get(pfn).map_or(Found::Nothing, Found::Page)
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
    fn take(&mut self) -> Result<PageRef, Refusal> {
        if self.left == 0 {
            let (first, n) = self.kernel.take_on(self.node, self.want).ok_or(Refusal::NoTarget)?;
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
                    take: |_: &PageRef| targets.take(),
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
    while List::<PageRef>::len(from) < room {
        let page = match source.next(kernel) {
            None => return true,
            Some(Found::Nothing) => {
                report.absent += 1;
                continue;
            }
            Some(Found::Busy(pfn)) => {
                report.stay(pfn, Refusal::LockBusy);
                tell(pfn, Outcome::Refused(Refusal::LockBusy));
                continue;
            }
            Some(Found::Page(page)) => page,
        };
        let pfn = page.pfn();
        if kernel.node_of(pfn) == to {
            report.already += 1;
        } else {
            match isolate_lru_page(kernel, &page, observer) {
                Ok(isolated) => List::<Isolated<PageRef>>::push_back(from, isolated),
                Err(refusal) => {
                    report.stay(pfn, refusal);
                    kernel.refused.remember(pfn, refusal);
                    tell(pfn, Outcome::Refused(refusal));
                }
            }
        }
        // Found by this reference, held by the isolation's.
        kernel.put(page);
    }
    false
}

fn add_retries(report: &mut Report, tally: &Tally) {
    for (sum, n) in report.retried.iter_mut().zip(tally.retried) {
        *sum += u64::from(n);
    }
}
