//! Frames: where each is, which are free, who takes them and gives them back.

use core::sync::atomic::Ordering;

use migrate_core::{PageRef, UsesPageMap};
use mm_types::{NodeId, Pfn};

use super::{Kernel, lock};
use crate::sys::node::{HUGE, NodeMemory};

/// Frames that are made large pages together: the call takes a while, however many they are.
pub(super) const GROUP: usize = 32 * HUGE;

impl Kernel {
    /// Returns the node that holds a frame, and the frame's place in it.
    pub(crate) fn frame(&self, pfn: Pfn) -> Option<(&NodeMemory, usize)> {
        let (node, frame) = self.place_of(pfn.index()?);
        Some((self.nodes.get(node)?, frame))
    }

    /// Returns the node and the frame within it. There are few nodes and many calls: counting is quicker than dividing.
    pub(crate) fn place_of(&self, index: usize) -> (usize, usize) {
        let (mut node, mut frame) = (0, index);
        while frame >= self.frames_per_node && node < self.nodes.len() {
            frame -= self.frames_per_node;
            node += 1;
        }
        (node, frame)
    }

    /// Returns the node that a frame is of.
    pub(crate) fn node_of(&self, pfn: Pfn) -> NodeId {
        let (node, _) = self.place_of(pfn.raw() as usize);
        NodeId::new(u16::try_from(node).unwrap_or(u16::MAX))
    }

    /// True where frame `b` is `n` after `a`, in the same node.
    pub(crate) fn neighbours(&self, a: Pfn, b: Pfn, n: usize) -> bool {
        b.raw() == a.raw() + n as u64 && self.node_of(a) == self.node_of(b)
    }

    /// True for the first frame of a node.
    pub(crate) fn begins_node(&self, pfn: Pfn) -> bool {
        self.place_of(pfn.raw() as usize).1 == 0
    }

    /// Returns how many frames of a node are free.
    pub(crate) fn free_on(&self, node: NodeId) -> usize {
        self.free
            .get(usize::from(node.raw()))
            .map_or(0, |free| lock(free).len())
    }

    /// Visits every free frame, with its node's free frames locked.
    pub(crate) fn each_free(&self, see: &mut dyn FnMut(Pfn)) {
        for free in &self.free {
            lock(free).iter().for_each(&mut *see);
        }
    }

    /// True where the frame is on the node that demand faults prefer.
    pub(crate) fn prefers(&self, pfn: Pfn) -> bool {
        usize::from(self.node_of(pfn).raw()) == self.preferred.load(Ordering::Relaxed)
    }

    /// Says on which node demand faults take their frames.
    pub(crate) fn prefer(&self, node: NodeId) {
        self.preferred.store(usize::from(node.raw()), Ordering::Relaxed);
    }

    /// Takes up to `want` neighbouring frames of one node for pages of which the first is in `old`: from `beside` on, where these are
    /// free; else at the place of `old` in its own node; else where they lie in their large pages as those from `old` on, if possible.
    pub(crate) fn take_on(&self, node: NodeId, want: usize, old: Pfn, beside: Option<Pfn>) -> Option<(Pfn, usize)> {
        let (_, at) = self.place_of(old.index()?);
        let same = Pfn::new((usize::from(node.raw()) * self.frames_per_node + at) as u64);
        let mut free = lock(self.free.get(usize::from(node.raw()))?);
        let mut exactly = beside.into_iter().chain([same]);
        let taken = exactly
            .find(|pfn| free.take_all_at(*pfn, want))
            .map(|pfn| (pfn, want))
            .or_else(|| free.take_run(want, Some(at)));
        drop(free);
        taken.inspect(|(first, n)| self.taken(*first, *n))
    }

    /// Makes the memory of taken frames large.
    fn taken(&self, first: Pfn, n: usize) {
        // With two engines, what the frames are for is not known yet.
        if self.private.is_none() {
            self.enlarge_shared(first, n);
        }
    }

    /// Makes the memory of shared pages in taken frames large, the first time that any frame of a group is taken.
    pub(crate) fn enlarge_shared(&self, first: Pfn, n: usize) {
        let Some((node, frame)) = self.frame(first).filter(|_| self.options.large) else {
            return;
        };
        let groups = self.frames_per_node.div_ceil(GROUP);
        let base = usize::from(node.id().raw()) * groups;
        for group in frame / GROUP..(frame + n).div_ceil(GROUP) {
            let known = self.large.get(base + group);
            if known.is_some_and(|known| !known.load(Ordering::Relaxed) && !known.swap(true, Ordering::Relaxed)) {
                node.make_large(group * GROUP, GROUP);
            }
        }
    }

    /// Takes up to `want` neighbouring frames, on the preferred node where it has any.
    pub(crate) fn take_frames(&self, want: usize) -> Option<(Pfn, usize)> {
        let first = self.preferred.load(Ordering::Relaxed);
        let taken =
            (0..self.free.len()).find_map(|n| lock(self.free.get((first + n) % self.free.len())?).take_run(want, None));
        taken.inspect(|(first, n)| self.taken(*first, *n))
    }

    /// Takes exactly this frame, if it is free.
    pub(crate) fn take_at(&self, pfn: Pfn) -> bool {
        let node = usize::from(self.node_of(pfn).raw());
        let taken = self.free.get(node).is_some_and(|free| lock(free).take_at(pfn));
        if taken {
            self.taken(pfn, 1);
        }
        taken
    }

    /// Returns where on the preferred node `pages` neighbouring pages would fit, the first of which is page `at` of its range.
    pub(crate) fn place(&self, at: usize, pages: usize) -> Option<Pfn> {
        let first = self.preferred.load(Ordering::Relaxed);
        let (pfn, n) = lock(self.free.get(first)?).find(pages, Some(at))?;
        (n >= pages.min(64)).then_some(pfn)
    }

    /// Puts frames back that were taken and not made pages.
    pub(crate) fn untake(&self, pfn: Pfn) {
        if let Some(free) = self.free.get(usize::from(self.node_of(pfn).raw())) {
            lock(free).give_back(pfn);
        }
    }

    /// Makes a taken frame a page with one reference.
    pub(crate) fn new_page(&self, pfn: Pfn) -> Option<PageRef> {
        let page = PageRef::allocate(self.page_map(), pfn);
        debug_assert!(page.is_some(), "a free frame {pfn:?} is in use");
        page
    }

    /// Returns a new page on `node`: one reference, on no list, mapped nowhere. `None` where no frame is free there.
    ///
    /// For who drives the core without [`Machine::migrate`](crate::Machine::migrate); `put` frees it.
    pub fn allocate_on(&self, node: NodeId) -> Option<PageRef> {
        let (pfn, n) = lock(self.free.get(usize::from(node.raw()))?).take_run(1, None)?;
        self.taken(pfn, n);
        self.new_page(pfn)
    }
}
