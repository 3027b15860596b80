//! Moving pages: one call that isolates, finds targets, runs the core, and puts back.

use core::num::NonZeroU32;
use core::sync::atomic::{AtomicU32, Ordering};
use std::borrow::Cow;
use std::sync::Arc;
use std::time::Instant;

use migrate_core::{
    Args, Frames, FromFn, Isolated, List, Lru, MapList, PageRef, Profile, Slot, UsesPageMap, migrate_pages,
    migrate_pages_nowait, migrate_prep, putback_lru_pages,
};
use mm_types::trace::{Event, Observer};
use mm_types::{ListId, NodeId, Outcome, PageList, Pfn, Pte, PteFlags, Refusal, Rules};

use crate::error::MachineError;
use crate::kernel::{Kernel, lock};
use crate::machine::Machine;
use crate::mm::Mm;
use crate::report::Report;
use crate::request::{Migrate, Pages};
use crate::stall::CondResched;
use crate::targets::{Plan, Targets};

/// Room for pages in flight, kept from one call to the next.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    slots: Vec<Slot<Kernel>>,
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

    fn site(&self) -> Option<(&Arc<Mm>, usize)> {
        match self {
            Self::Site(mm, page) => Some((mm, *page)),
            Self::Frame(_) | Self::Nowhere => None,
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
    /// There is no such node, or the area is another machine's. Nothing was touched.
    pub fn migrate(&self, request: Migrate<'_>) -> Result<Report, MachineError> {
        let kernel = self.kernel();
        let exists = |node: NodeId| {
            let exists = usize::from(node.raw()) < kernel.nodes.len();
            exists.then_some(()).ok_or(MachineError::NoNode(node))
        };
        exists(request.to)?;
        match request.pages {
            // Its frames' numbers mean other pages here, and those would move.
            Pages::Area(area) if !Arc::ptr_eq(&self.inner, &area.space.inner.machine) => {
                return Err(MachineError::Foreign);
            }
            Pages::Node(node) => exists(node)?,
            Pages::Area(_) | Pages::Sites(_) | Pages::Frames(_) => {}
        }
        let mut scratch = lock(&self.inner.scratch).pop().unwrap_or_default();
        // No more pages can be in flight than there are frames, whatever was asked for.
        let frames = kernel.nodes.len().saturating_mul(kernel.frames_per_node);
        let batch = request.batch.clamp(1, frames);
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
    let mut plan = Plan::default();
    let (mut ended, mut resched) = (false, CondResched::new());
    while !ended {
        resched.between_batches();
        if request.stop.is_some_and(|stop| stop.load(Ordering::Relaxed)) {
            report.stopped = true;
            break;
        }
        migrate_prep(kernel);
        ended = isolate(
            kernel,
            &mut source,
            &mut from,
            &mut plan,
            slots.len(),
            request.to,
            &mut report,
            tell,
            observer,
        );
        if List::<PageRef>::len(&from) == 0 {
            continue;
        }
        let budget = request.stall_budget.map(|hold| kernel.cost.within(hold));
        let profile = Profile {
            stall: request.profile.stall.or(budget),
            ..*request.profile
        };
        let mut targets = Targets::new(kernel, request.to, &plan, profile.stall.is_none());
        let references = from.iter().fold(0u32, |sum, pfn| {
            let others = kernel.page(pfn).map_or(0, |page| page.count().saturating_sub(1));
            sum.saturating_add(others)
        });
        let (running, mut over_budget) = (Instant::now(), false);
        let tally = {
            let (report, tell) = (&mut report, &mut *tell);
            let mut outcome = |page: &PageRef, outcome: Outcome| {
                let outcome = kernel.by_its_number(page.pfn(), outcome);
                match outcome {
                    Outcome::Moved { .. } => report.moved += 1,
                    Outcome::Freed => report.freed += 1,
                    Outcome::Retry(_) => {}
                    Outcome::Refused(refusal) => {
                        over_budget |= refusal == Refusal::StallBudget;
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
                profile: &profile,
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
        if over_budget && tally.moved == 0 {
            kernel.cost.doubt();
        } else if tally.passes == 1 {
            // One that had to try again may have slept in between.
            kernel.cost.learn(references, running.elapsed());
        }
        drop(targets);
        report.batches += 1;
        report.add_retries(&tally);
        putback_lru_pages::<_, O>(kernel, &mut from, observer);
        putback_lru_pages::<_, O>(kernel, &mut failed, observer);
    }
    // 2006 frees old pages when the staging arrays drain.
    kernel.drain();
    report.wall = begun.elapsed();
    report
}

/// Fills `from` with up to `room` isolated pages, and `plan` with where they are; true at the end of the request.
#[expect(clippy::too_many_arguments, reason = "the parts of one loop")]
fn isolate<O: Observer>(
    kernel: &Kernel,
    source: &mut Source<'_>,
    from: &mut MapList<'_>,
    plan: &mut Plan,
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
    plan.clear();
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
                plan.add(pfn, place.site());
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
