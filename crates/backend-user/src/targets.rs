//! Where pages go: beside their neighbours, so that neighbouring pages stay in neighbouring frames however often they move.
//!
//! Neighbours in neighbouring frames are one mapping, and move by one system call. So pages that are neighbours in their space and
//! leave together arrive together, in neighbouring frames; and a page that leaves alone goes beside a neighbour that is there
//! already, or, as the first of its neighbourhood, to the place in its node that it had in the one it comes from.

use std::sync::Arc;

use migrate_core::PageRef;
use mm_types::{NodeId, Pfn, Pte, Refusal};

use crate::kernel::Kernel;
use crate::mm::Mm;

/// The pages of a batch, in the order in which they were isolated.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    pages: Vec<Planned>,
    runs: Vec<Run>,
}

/// One page.
#[derive(Clone, Copy, Debug)]
struct Planned {
    old: Pfn,
    /// The run that it is of.
    run: usize,
}

/// Pages that are neighbours in a space, or, where no space was named, in their node.
#[derive(Debug)]
struct Run {
    /// The first of them, in [`Plan::pages`].
    first: usize,
    n: usize,
    /// Where the first of them is in its space.
    site: Option<(Arc<Mm>, usize)>,
}

impl Run {
    /// True where a page is the next of this run; `last` is the frame of its last one.
    fn goes_on_with(&self, last: Pfn, old: Pfn, site: Option<(&Arc<Mm>, usize)>) -> bool {
        match (&self.site, site) {
            (Some((mm, first)), Some((same, page))) => Arc::ptr_eq(mm, same) && first + self.n == page,
            (None, None) => last.raw() + 1 == old.raw(),
            _ => false,
        }
    }
}

impl Plan {
    pub(crate) fn clear(&mut self) {
        self.pages.clear();
        self.runs.clear();
    }

    /// Adds the page in frame `old`, which was found at `site`.
    pub(crate) fn add(&mut self, old: Pfn, site: Option<(&Arc<Mm>, usize)>) {
        let last = self.pages.last().map(|page| page.old);
        let run = self.runs.last_mut().zip(last);
        match run.filter(|(run, last)| run.goes_on_with(*last, old, site)) {
            Some((run, _)) => run.n += 1,
            None => self.runs.push(Run {
                first: self.pages.len(),
                n: 1,
                site: site.map(|(mm, page)| (mm.clone(), page)),
            }),
        }
        self.pages.push(Planned {
            old,
            run: self.runs.len() - 1,
        });
    }
}

/// Frames for one batch.
pub(crate) struct Targets<'k> {
    kernel: &'k Kernel,
    node: NodeId,
    plan: &'k Plan,
    /// No stall budget cuts the batch: blocks of it move as large pages, if they are some.
    whole: bool,
    /// The planned page after the one that a frame was taken for last: what is taken and left is for those from here on.
    at: usize,
    /// The planned pages up to here have been asked for: who asks again does so alone.
    asked: usize,
    next: u64,
    left: usize,
}

impl<'k> Targets<'k> {
    pub(crate) const fn new(kernel: &'k Kernel, node: NodeId, plan: &'k Plan, whole: bool) -> Self {
        Self {
            kernel,
            node,
            plan,
            whole,
            at: 0,
            asked: 0,
            next: 0,
            left: 0,
        }
    }

    /// Takes a frame for the page in `old`, and makes it a page.
    ///
    /// # Errors
    /// [`Refusal::NoTarget`]: the node is full.
    pub(crate) fn take(&mut self, old: Pfn) -> Result<PageRef, Refusal> {
        let at = self.find(old);
        let skipped = at.checked_sub(self.at).filter(|skipped| *skipped < self.left);
        match skipped {
            Some(skipped) => self.give_back(skipped),
            None => {
                self.give_back(self.left);
                self.take_from(at, old)?;
            }
        }
        let pfn = Pfn::new(self.next);
        (self.next, self.left, self.at) = (self.next + 1, self.left - 1, at + 1);
        self.asked = self.asked.max(self.at);
        self.kernel.new_page(pfn).ok_or(Refusal::NoTarget)
    }

    /// Returns which of the planned pages `old` is. They come in their order, some of them again in later passes.
    fn find(&self, old: Pfn) -> usize {
        let is = |at: &usize| self.plan.pages.get(*at).is_some_and(|page| page.old == old);
        let mut all = (self.at..self.plan.pages.len()).chain(0..self.at);
        all.find(is).unwrap_or(self.plan.pages.len())
    }

    /// Takes frames for the pages of a run from `at` on, of which the first is in `old`; for that alone where it was asked for before, as
    /// the others need not be tried again.
    fn take_from(&mut self, at: usize, old: Pfn) -> Result<(), Refusal> {
        let run = self.plan.pages.get(at).and_then(|page| self.plan.runs.get(page.run));
        let rest = run.filter(|_| at >= self.asked).map(|run| run.first + run.n - at);
        let want = rest.unwrap_or(1);
        let beside = run.and_then(|run| {
            let (mm, first) = run.site.as_ref()?;
            self.beside(mm, first + at - run.first, want)
        });
        let taken = self.kernel.take_on(self.node, want, old, beside);
        let (first, n) = taken.ok_or(Refusal::NoTarget)?;
        if let Some(private) = self.kernel.private.as_deref() {
            self.kernel.prepare_private(private, old, (first, n), self.whole);
        }
        (self.next, self.left) = (first.raw(), n);
        Ok(())
    }

    /// Returns where `n` pages from `page` on would lie beside the page before them, or the one after them, if it is on the node.
    fn beside(&self, mm: &Mm, page: usize, n: usize) -> Option<Pfn> {
        let frame = |page| match mm.read(page) {
            Pte::Present { pfn, .. } => Some(pfn).filter(|pfn| self.kernel.node_of(*pfn) == self.node),
            _ => None,
        };
        let before = page.checked_sub(1).and_then(frame);
        let after = || frame(page + n)?.raw().checked_sub(n as u64);
        before.map(|pfn| pfn.raw() + 1).or_else(after).map(Pfn::new)
    }

    /// Gives the next `n` of the frames back that were taken.
    fn give_back(&mut self, n: usize) {
        for pfn in self.next..self.next + n as u64 {
            self.kernel.untake(Pfn::new(pfn));
        }
        (self.next, self.left) = (self.next + n as u64, self.left - n);
    }
}

impl Drop for Targets<'_> {
    fn drop(&mut self) {
        self.give_back(self.left);
    }
}

#[cfg(test)]
mod tests {
    use core::sync::atomic::Ordering;
    use core::time::Duration;

    use migrate_core::{Frames as _, Lru as _};

    use super::*;
    use crate::sys::node::HUGE;
    use crate::{Area, Engine, Machine, Migrate, Pages, Prot, Sharing};

    const PAGES: usize = 96;

    /// An area of which every page was written to.
    fn area(machine: &Machine) -> Area {
        let space = machine.space(PAGES).unwrap();
        let area = space.map_anonymous(PAGES, Prot::ReadWrite, Sharing::Private).unwrap();
        for page in 0..PAGES {
            area.page(page)[0].store(page as u64, Ordering::Relaxed);
        }
        area
    }

    fn frames(area: &Area) -> Vec<u64> {
        let entries = (0..PAGES).map(|page| area.space().entry(area.first + page));
        entries.map(|pte| pte.pfn().unwrap().raw()).collect()
    }

    fn is_one_run(frames: &[u64]) -> bool {
        frames.windows(2).all(|pair| matches!(pair, [a, b] if a + 1 == *b))
    }

    #[test]
    fn pages_that_move_in_random_order_stay_in_neighbouring_frames() {
        let machine = Machine::builder().frames_per_node(256).build().unwrap();
        let area = area(&machine);
        assert!(is_one_run(&frames(&area)));
        let mut sites: Vec<_> = area.sites().collect();
        // A step that has no divisor in common with the number of pages: another order in each round.
        for (round, step) in [(1u16, 5), (2, 7), (3, 11), (4, 13), (5, 17), (6, 19)] {
            sites = (0..PAGES).map(|n| sites[n * step % PAGES]).collect();
            let request = Migrate::new(Pages::Sites(&sites), NodeId::new(round % 2)).batch(10);
            assert_eq!(machine.migrate(request).unwrap().moved, PAGES as u64);
            assert!(is_one_run(&frames(&area)), "round {round}: {:?}", frames(&area));
        }
        for page in 0..PAGES {
            assert_eq!(area.page(page)[0].load(Ordering::Relaxed), page as u64);
        }
    }

    #[test]
    fn neighbours_that_leave_together_arrive_together_where_their_places_are_taken() {
        let machine = Machine::builder().frames_per_node(256).build().unwrap();
        let area = area(&machine);
        let kernel = machine.kernel();
        // Somebody else has a frame in the middle of where they would go.
        let middle = Pfn::new(256 + frames(&area)[PAGES / 2]);
        assert!(kernel.take_at(middle));
        let report = machine.migrate(Migrate::new(&area, NodeId::new(1))).unwrap();
        assert_eq!(report.moved, PAGES as u64);
        assert!(is_one_run(&frames(&area)), "{:?}", frames(&area));
        kernel.untake(middle);
    }

    #[test]
    fn a_page_that_is_tried_again_takes_one_frame() {
        let machine = Machine::builder().frames_per_node(256).build().unwrap();
        let area = area(&machine);
        let (kernel, to) = (machine.kernel(), NodeId::new(1));
        let mut plan = Plan::default();
        for (page, pfn) in frames(&area).into_iter().enumerate() {
            plan.add(Pfn::new(pfn), Some((area.space().mm(), area.first + page)));
        }
        let mut targets = Targets::new(kernel, to, &plan, true);
        let mut taken = Vec::new();
        for page in [0, 1, 3, 1, 4] {
            taken.push(targets.take(plan.pages[page].old).unwrap());
            // In order, all that is left of the run, but for what was passed over; tried again, one.
            let expected = [PAGES, PAGES, PAGES - 1, 4, PAGES][taken.len() - 1];
            assert_eq!(256 - kernel.free_on(to), expected, "after page {page}");
        }
        drop(targets);
        assert_eq!(256 - kernel.free_on(to), taken.len());
        taken.into_iter().for_each(|page| kernel.put(page));
        kernel.drain();
        assert_eq!(kernel.free_on(to), 256);
    }

    #[test]
    fn a_batch_that_moves_in_parts_gets_no_new_large_pages() {
        let machine = Machine::builder().frames_per_node(2 * HUGE).engine(Engine::Auto);
        let machine = machine.build().unwrap();
        let Some(private) = machine.kernel().private.as_deref() else {
            return println!("not applicable: {}", machine.engine());
        };
        let space = machine.space(HUGE).unwrap();
        let area = space.map_anonymous(HUGE, Prot::ReadWrite, Sharing::Private).unwrap();
        area.populate().unwrap();
        // True where all of it lies in a large page after the move.
        let large_after = |to: u16, batch, budget: Option<Duration>| {
            let request = Migrate::new(&area, NodeId::new(to)).batch(batch);
            let report = machine.migrate(request.stall_budget(budget)).unwrap();
            assert_eq!(report.moved, HUGE as u64);
            let (node, frame) = machine.kernel().place_of(space.entry(0).pfn().unwrap().raw() as usize);
            frame % HUGE == 0 && private.arena(node).unwrap().is_large(frame / HUGE)
        };
        if !large_after(1, HUGE, None) {
            return println!("not applicable: the system gives no large page");
        }
        assert!(
            !large_after(0, 64, None) && !large_after(1, 64, None),
            "in parts it is split"
        );
        let long = Some(Duration::from_secs(3600));
        assert!(!large_after(0, HUGE, long) && !large_after(1, HUGE, long));
        assert!(large_after(0, HUGE, None));
    }

    #[test]
    fn a_page_that_leaves_alone_goes_beside_the_neighbour_that_left_before() {
        let machine = Machine::builder().frames_per_node(256).build().unwrap();
        let area = area(&machine);
        let kernel = machine.kernel();
        let sites: Vec<_> = area.sites().collect();
        let first = Pfn::new(256 + frames(&area)[40]);
        assert!(kernel.take_at(first));
        for page in [40, 41, 42] {
            let request = Migrate::new(Pages::Sites(&sites[page..=page]), NodeId::new(1));
            assert_eq!(machine.migrate(request).unwrap().moved, 1);
        }
        let now = frames(&area);
        assert!(now[40] != first.raw() && is_one_run(&now[40..43]), "{:?}", &now[40..43]);
        kernel.untake(first);
    }
}
