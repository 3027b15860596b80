//! The running kernel's `move_pages(2)`, where there are two nodes to move pages between.

use core::cell::Cell;
use core::ffi::{c_int, c_void};
use core::sync::atomic::{AtomicU64, Ordering};
use std::io;
use std::time::Instant;

use backend_user::sys::numa::real_nodes;
use memmap2::{MmapMut, MmapOptions};
use mm_types::PAGE_SIZE;

use crate::words::WORDS;

use super::engine::{Engine, Went};

/// The name in the table.
pub const NAME: &str = "Linux move_pages(2)";

/// Only this process's own pages, as anybody may (Linux: `MPOL_MF_MOVE`).
const MOVE: c_int = 2;

/// Anonymous memory of this process.
#[derive(Debug)]
pub struct MovePages {
    map: MmapMut,
    nodes: [c_int; 2],
    at: Cell<usize>,
}

impl MovePages {
    /// Maps `pages` pages, and brings them in.
    ///
    /// # Errors
    /// There are no two nodes, or no memory.
    pub fn new(pages: usize) -> Result<Self, String> {
        match real_nodes()[..] {
            [one, two, ..] => Self::between([one, two], pages),
            _ => Err("this machine has one node: there is nothing to move pages between".to_owned()),
        }
    }

    fn between(nodes: [u32; 2], pages: usize) -> Result<Self, String> {
        let nodes = nodes.map(|node| c_int::try_from(node).unwrap_or(0));
        let map = MmapOptions::new().len(pages * PAGE_SIZE).map_anon();
        let map = map.map_err(|error| format!("{pages} pages: {error}"))?;
        let engine = Self {
            map,
            nodes,
            at: Cell::new(0),
        };
        for page in engine.memory() {
            for word in page {
                word.store(1, Ordering::Relaxed);
            }
        }
        Ok(engine)
    }

    /// Moves the pages from page `first` on to `node`; returns how many are there then.
    fn batch(&self, first: usize, count: usize, node: c_int) -> io::Result<u64> {
        let at = |page: usize| {
            self.map
                .as_ptr()
                .wrapping_add(page * PAGE_SIZE)
                .cast_mut()
                .cast::<c_void>()
        };
        let mut places: Vec<*mut c_void> = (first..first + count).map(at).collect();
        let nodes = vec![node; count];
        let mut status: Vec<c_int> = vec![-1; count];
        // SAFETY: three arrays of `count` elements that live for the call; a page that moves keeps its address and its contents.
        let answer = unsafe {
            libc::syscall(
                libc::SYS_move_pages,
                0,
                count,
                places.as_mut_ptr(),
                nodes.as_ptr(),
                status.as_mut_ptr(),
                MOVE,
            )
        };
        if answer < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(status.iter().filter(|there| **there == node).count() as u64)
    }
}

impl Engine for MovePages {
    fn name(&self) -> &'static str {
        NAME
    }

    fn pages(&self) -> usize {
        self.map.len() / PAGE_SIZE
    }

    fn memory(&self) -> Vec<&[AtomicU64]> {
        let start = self.map.as_ptr().cast::<AtomicU64>();
        let page = |page: usize| {
            // SAFETY: a page of the mapping, on a page boundary; nobody takes it mutably, and all that use it do so by these words.
            unsafe { core::slice::from_raw_parts(start.wrapping_add(page * WORDS), WORDS) }
        };
        (0..self.pages()).map(page).collect()
    }

    fn go(&self, batch: usize) -> Result<Went, String> {
        let next = 1 - self.at.get();
        self.at.set(next);
        let node = self.nodes.get(next).copied().unwrap_or(0);
        let pages = self.pages();
        let mut moved = 0;
        let begun = Instant::now();
        for first in (0..pages).step_by(batch.max(1)) {
            let count = batch.min(pages - first);
            moved += self
                .batch(first, count, node)
                .map_err(|error| format!("{NAME}: {error}"))?;
        }
        Ok(Went {
            took: begun.elapsed(),
            moved,
            stayed: pages as u64 - moved,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_that_move_to_where_they_are_are_there() {
        let Some(node) = real_nodes().first().copied() else {
            // A kernel without nodes has no such call.
            return;
        };
        let engine = MovePages::between([node, node], 37).unwrap();
        match engine.go(8) {
            Ok(went) => assert_eq!((went.moved, went.stayed), (37, 0)),
            // A sandbox may forbid it.
            Err(error) => assert!(error.starts_with(NAME), "{error}"),
        }
        let memory = engine.memory();
        assert_eq!(super::super::accessor::sum(&memory), 37 * 512);
    }
}
