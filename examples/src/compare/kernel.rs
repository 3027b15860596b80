//! The running kernel's own `migrate_pages()`, timed by its tracepoints while it compacts memory.

use core::sync::atomic::AtomicU64;
use core::time::Duration;

use trace_tools::kernel::{names, runs};

use crate::linux::{Fragments, Tracing, cannot_compact, compact};

use super::engine::{Engine, Went};

/// The name in the table.
pub const NAME: &str = "Linux migrate_pages(), compaction";

/// How many pages compaction isolates before it moves them (Linux: `COMPACT_CLUSTER_MAX`).
const CLUSTER: usize = 32;

/// Room for two events a run.
const BUFFER_KB: usize = 2048;

/// Memory in the way of compaction, and the kernel's trace of it.
#[derive(Debug)]
pub struct Kernel {
    pages: usize,
    tracing: Tracing,
    /// Those of earlier rounds too: their frames, were they free, would be used again, and are in nobody's way where they are now.
    fragments: Vec<Fragments>,
}

impl Kernel {
    /// Prepares tracing; `pages` pages will be touched, and half of them stay in the way.
    ///
    /// # Errors
    /// Why this kernel cannot, or we may not.
    pub fn new(pages: usize) -> Result<Self, String> {
        if let Some(why) = cannot_compact() {
            return Err(why);
        }
        let tracing = Tracing::new(&[names::START, names::END], BUFFER_KB)?;
        tracing.only_this_thread()?;
        Ok(Self {
            pages,
            tracing,
            fragments: Vec::new(),
        })
    }
}

impl Engine for Kernel {
    fn name(&self) -> &'static str {
        NAME
    }

    fn pages(&self) -> usize {
        self.pages / 2
    }

    fn batches(&self, _asked: &[usize]) -> Vec<usize> {
        vec![CLUSTER]
    }

    fn prepare(&mut self) -> Result<(), String> {
        let fragments = Fragments::new(self.pages).map_err(|error| error.to_string())?;
        self.fragments.push(fragments);
        Ok(())
    }

    fn memory(&self) -> Vec<&[AtomicU64]> {
        self.fragments.last().map(Fragments::words).unwrap_or_default()
    }

    fn go(&self, _batch: usize) -> Result<Went, String> {
        self.tracing.clear()?;
        self.tracing.on(true)?;
        let compacted = compact();
        self.tracing.on(false)?;
        compacted.map_err(|error| error.to_string())?;
        let text = self.tracing.text()?;
        let mut went = Went::default();
        for run in runs(&text).map_err(|error| error.to_string())? {
            went.took += run.took;
            went.moved += run.ended.succeeded;
            went.stayed += run.ended.failed;
        }
        // Of a handful no cost of a page is to be had: what is told is that of those that stayed.
        let few = (8 * CLUSTER) as u64;
        if went.moved < few || went.took == Duration::ZERO {
            return Err(format!(
                "asked to compact its memory, the kernel moved {} pages, of {} that were to be in its way",
                went.moved,
                self.pages()
            ));
        }
        Ok(went)
    }
}
