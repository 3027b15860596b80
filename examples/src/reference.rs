//! The plain copy that migration is compared with: the same number of pages, in the same order, between two pieces of
//! memory of the kind that nodes are made of, in the same seconds and under the same load.

use core::ptr;
use core::time::Duration;
use std::time::Instant;

use backend_user::sys::node::{NodeError, NodeMemory};
use mm_types::{NodeId, PAGE_SIZE};

use crate::memory::REFERENCE_BYTES;

/// Two buffers, each as large as what moves, up to a bound.
#[derive(Debug)]
pub struct Reference {
    source: NodeMemory,
    target: NodeMemory,
    pages: usize,
    /// Which way the next round goes: as migration, there and back.
    back: bool,
}

impl Reference {
    /// Makes the buffers for `pages` pages and touches all of them, so that no copy pays for the first touch.
    ///
    /// # Errors
    /// As [`NodeMemory::new`].
    pub fn new(pages: usize) -> Result<Self, NodeError> {
        let most = usize::try_from(REFERENCE_BYTES).unwrap_or(usize::MAX) / PAGE_SIZE;
        let pages = pages.min(most);
        // Not nodes of the machine; the number is for error texts.
        let buffer = |id| NodeMemory::new(NodeId::new(id), pages, None);
        let (source, target) = (buffer(u16::MAX - 1)?, buffer(u16::MAX)?);
        for (node, byte) in [(&source, 0x5a), (&target, 0)] {
            for page in 0..pages {
                // SAFETY: the node was just made and nobody else has it.
                let filled = unsafe { node.fill(page, byte) };
                debug_assert!(filled.is_ok());
            }
        }
        Ok(Self {
            source,
            target,
            pages,
            back: false,
        })
    }

    /// Turns round: what was the source becomes the target.
    pub const fn turn(&mut self) {
        self.back = !self.back;
    }

    /// Copies `count` pages from page `first` on, one after the other, and returns how long that took. Beyond the end of the buffers
    /// it goes on from their beginning.
    #[must_use]
    pub fn copy(&self, first: usize, count: usize) -> Duration {
        let (from, to) = if self.back {
            (&self.target, &self.source)
        } else {
            (&self.source, &self.target)
        };
        let started = Instant::now();
        for page in first..first + count {
            let page = page % self.pages;
            let (Ok(source), Ok(target)) = (from.frame(page), to.frame(page)) else {
                debug_assert!(false, "page {page} of {}", self.pages);
                continue;
            };
            // Not by what copies pages that move, which passes the caches by: this is what everybody else would do.
            // SAFETY: a page each of two buffers that are this object's; no reference to them leaves it, so that nobody else reads
            // or writes them.
            unsafe { ptr::copy_nonoverlapping(source.cast_const(), target, PAGE_SIZE) };
        }
        started.elapsed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn first_byte(node: &NodeMemory, page: usize) -> u8 {
        let mut bytes = [0; PAGE_SIZE];
        // SAFETY: the node is this test's own.
        unsafe { node.read(page, &mut bytes) }.unwrap();
        bytes[0]
    }

    #[test]
    fn pages_are_really_copied_there_and_back() {
        let mut reference = Reference::new(4).unwrap();
        let time = reference.copy(1, 2);
        assert!(time > Duration::ZERO);
        let target = |page| first_byte(&reference.target, page);
        assert_eq!([target(0), target(1), target(2), target(3)], [0, 0x5a, 0x5a, 0]);
        reference.turn();
        let _ = reference.copy(3, 2);
        assert_eq!(
            (first_byte(&reference.source, 3), first_byte(&reference.source, 0)),
            (0, 0)
        );
    }
}
