//! The process's mappings, of which the system allows so many: how many there are, and whether a migration has room for more.

use core::sync::atomic::{AtomicUsize, Ordering};
use core::time::Duration;
use std::sync::Mutex;
use std::time::Instant;

use super::{Kernel, lock};
use crate::sys::error::MapError;
use crate::sys::maps;

/// What is known of the process's mappings.
#[derive(Debug, Default)]
pub(super) struct Mappings {
    pub(super) limit: usize,
    /// Those that are not in any space, when last looked at.
    pub(super) others: AtomicUsize,
    /// Those in spaces: one for each, and one for each edge.
    pub(super) ours: AtomicUsize,
    pub(super) peak: AtomicUsize,
    /// When they were last looked at.
    looked: Mutex<Option<Instant>>,
}

impl Mappings {
    /// None is known yet, and the system allows `limit`.
    pub(super) fn new(limit: usize) -> Self {
        Self {
            limit,
            ..Self::default()
        }
    }
}

impl Kernel {
    /// Tries a change of mappings, giving ballast up as long as the limit is in the way.
    pub(crate) fn rescue(&self, op: impl FnMut() -> Result<(), MapError>) -> Result<(), MapError> {
        let done = self.ballast.rescue(op);
        if done.as_ref().is_err_and(MapError::is_mapping_limit) {
            self.mappings.peak.fetch_max(self.mappings.limit, Ordering::Relaxed);
        }
        done
    }

    /// Accounts for mappings of a space that came or went.
    pub(crate) fn mappings_changed(&self, before: usize, after: usize) {
        let ours = &self.mappings.ours;
        let now = if after >= before {
            ours.fetch_add(after - before, Ordering::Relaxed) + (after - before)
        } else {
            ours.fetch_sub(before - after, Ordering::Relaxed) - (before - after)
        };
        let all = now + self.mappings.others.load(Ordering::Relaxed);
        self.mappings.peak.fetch_max(all, Ordering::Relaxed);
    }

    /// Counts the process's mappings anew, now and then: others come and go without telling, and looking takes a while.
    pub(crate) fn look_at_mappings(&self) {
        let mut looked = lock(&self.mappings.looked);
        if looked.is_some_and(|looked| looked.elapsed() < Duration::from_millis(200)) {
            return;
        }
        *looked = Some(Instant::now());
        if let Ok(all) = maps::in_use() {
            let ours = self.mappings.ours.load(Ordering::Relaxed);
            self.mappings.others.store(all.saturating_sub(ours), Ordering::Relaxed);
            self.mappings.peak.fetch_max(all, Ordering::Relaxed);
        }
        // Best effort: what is missing now is asked for again at the next look.
        let _ = self.ballast.refill();
    }

    /// True where `sites` entries may be in flight, with two mappings more each, without coming near the limit.
    ///
    /// What other runs have in flight at the same time is what the ballast is for.
    pub(crate) fn has_room(&self, sites: usize) -> bool {
        const MARGIN: usize = 128;
        let used = self.mappings.others.load(Ordering::Relaxed) + self.mappings.ours.load(Ordering::Relaxed);
        used + 2 * sites + MARGIN <= self.mappings.limit
    }
}
