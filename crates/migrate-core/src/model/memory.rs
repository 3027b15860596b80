//! Nodes, allocation, and contents: one word for each frame.

use alloc::boxed::Box;
use alloc::collections::{BTreeSet, VecDeque};
use alloc::vec;

use mm_types::{Invariant, Mapping, NodeId, PageFlags, Pfn};

use super::{Config, Model, Op};
use crate::invariants::Violation;
use crate::{CopyError, PageRef, UsesPageMap};

/// What stands in a frame that is free, or allocated and not filled yet: who reads it reads too early, or too late.
pub const POISON: u64 = 0xdead_beef_dead_beef;

#[derive(Debug)]
pub(super) struct Memory {
    base: Pfn,
    words: Box<[u64]>,
    // Oldest first, so that a frame stays free for as long as it can and a late access meets poison.
    free: Box<[VecDeque<Pfn>]>,
    unreadable: BTreeSet<Pfn>,
    fail_in: Option<u32>,
}

impl Memory {
    pub(super) fn new(config: &Config) -> Self {
        let node = |n: u64| {
            let first = config.base.raw() + n * config.frames;
            (first..first + config.frames).map(Pfn::new).collect()
        };
        let free: Box<[VecDeque<Pfn>]> = (0..u64::from(config.nodes)).map(node).collect();
        let frames = free.iter().map(VecDeque::len).sum();
        Self {
            base: config.base,
            words: vec![POISON; frames].into(),
            free,
            unreadable: BTreeSet::new(),
            fail_in: None,
        }
    }

    fn at(&mut self, pfn: Pfn) -> &mut u64 {
        let n = pfn.raw() - self.base.raw();
        &mut self.words[usize::try_from(n).expect("a frame of the model")]
    }

    /// What one instruction does to a frame that its CPU found.
    pub(super) fn access(&mut self, pfn: Pfn, op: Op) -> u64 {
        if let Op::Write(word) = op {
            *self.at(pfn) = word;
        }
        *self.at(pfn)
    }

    pub(super) fn copy(&mut self, from: Pfn, to: Pfn) -> Result<(), CopyError> {
        if self.unreadable.contains(&from) {
            return Err(CopyError);
        }
        *self.at(to) = *self.at(from);
        Ok(())
    }

    pub(super) fn free_frames(&self) -> impl Iterator<Item = Pfn> + '_ {
        self.free.iter().flatten().copied()
    }
}

impl Model {
    /// Reads a frame's word, as the kernel does: through no page table.
    #[must_use]
    pub fn word(&self, pfn: Pfn) -> u64 {
        *self.memory.lock().at(pfn)
    }

    /// Stores a frame's word, as the kernel does: through no page table.
    pub fn set_word(&self, pfn: Pfn, word: u64) {
        *self.memory.lock().at(pfn) = word;
    }

    /// Makes copies of `pfn` fail from now on, or no longer: a machine check.
    pub fn set_unreadable(&self, pfn: Pfn, unreadable: bool) {
        let mut memory = self.memory.lock();
        if unreadable {
            memory.unreadable.insert(pfn);
        } else {
            memory.unreadable.remove(&pfn);
        }
    }

    /// Makes the `n`th allocation from now fail, counted from 1.
    pub fn fail_allocation(&self, n: u32) {
        self.memory.lock().fail_in = Some(n);
    }

    /// Returns the node of a frame.
    #[must_use]
    pub fn node_of(&self, pfn: Pfn) -> NodeId {
        let n = (pfn.raw() - self.config.base.raw()) / self.config.frames;
        NodeId::new(u16::try_from(n).expect("a frame of the model"))
    }

    /// Returns how many frames of `node` are free.
    #[must_use]
    pub fn free_frames(&self, node: NodeId) -> usize {
        self.memory.lock().free[usize::from(node.raw())].len()
    }

    /// Allocates a frame of `node` and of no other: one reference, no flags, poison inside.
    #[must_use]
    pub fn allocate(&self, node: NodeId) -> Option<PageRef> {
        let mut memory = self.memory.lock();
        if let Some(n) = &mut memory.fail_in {
            *n = n.saturating_sub(1);
            if *n == 0 {
                memory.fail_in = None;
                return None;
            }
        }
        let pfn = memory.free[usize::from(node.raw())].pop_front()?;
        PageRef::allocate(self.page_map(), pfn)
    }

    /// Allocates anywhere, the first nodes first, as a fault does.
    pub(super) fn allocate_any(&self) -> Option<PageRef> {
        loop {
            let nodes = (0..self.config.nodes).map(NodeId::new);
            let node = nodes.into_iter().find(|node| self.free_frames(*node) > 0)?;
            let page = self.allocate(node);
            // Somebody else may have taken the last frame of the node since it was looked at; another may have one.
            if page.is_some() || self.free_frames(node) > 0 {
                return page;
            }
        }
    }

    /// Takes a frame back, with the checks of the 2.6.17 allocator.
    pub(super) fn free(&self, pfn: Pfn) {
        let page = self.page(pfn);
        if page.mapping().is_anon() {
            // As `free_hot_cold_page`: an anonymous page keeps its mapping until here, because entries may name it.
            page.set_mapping(Mapping::None);
        }
        if let Err(bad) = page.check_free() {
            self.violation(Violation::new(Invariant::OnlyForward, bad));
        }
        if page.pins() != 0 || page.entries_out(0) != 0 {
            self.violation(Violation::new(
                Invariant::NotFreedInUse,
                format_args!("{pfn:?} was freed while it was pinned or in flight"),
            ));
        }
        page.flags().edit(PageFlags::empty(), PageFlags::all());
        let node = usize::from(self.node_of(pfn).raw());
        let mut memory = self.memory.lock();
        *memory.at(pfn) = POISON;
        memory.unreadable.remove(&pfn);
        memory.free[node].push_back(pfn);
    }
}
