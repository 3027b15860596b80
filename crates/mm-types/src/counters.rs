//! The counters of `/proc/vmstat` that migration moves, by their exact names.

use core::fmt;

use crate::sync::{AtomicUsize, Ordering};

macro_rules! counters {
    ($($(#[$doc:meta])* $variant:ident = $name:literal,)*) => {
        /// One counter.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Counter {
            $($(#[$doc])* $variant,)*
        }

        impl Counter {
            /// Every counter, in declaration order.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// Returns the name it has in `/proc/vmstat`.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }
        }

        const COUNT: usize = [$(Counter::$variant),*].len();
    };
}

counters! {
    /// Base pages moved; a huge page moved whole counts all of its own.
    PgmigrateSuccess = "pgmigrate_success",
    /// Base pages that stayed.
    PgmigrateFail = "pgmigrate_fail",
    /// Huge pages moved whole.
    ThpMigrationSuccess = "thp_migration_success",
    /// Huge pages that were not moved whole, split ones among them.
    ThpMigrationFail = "thp_migration_fail",
    /// Huge pages that had to be split.
    ThpMigrationSplit = "thp_migration_split",
    /// Base pages moved because another node used them.
    NumaPagesMigrated = "numa_pages_migrated",
    /// Base pages moved to a faster tier.
    PgpromoteSuccess = "pgpromote_success",
    /// Base pages that were to move to a faster tier.
    PgpromoteCandidate = "pgpromote_candidate",
    /// Base pages moved to a slower tier by background reclaim.
    PgdemoteKswapd = "pgdemote_kswapd",
    /// Base pages moved to a slower tier by an allocation's own reclaim.
    PgdemoteDirect = "pgdemote_direct",
    /// Base pages moved to a slower tier for a huge page.
    PgdemoteKhugepaged = "pgdemote_khugepaged",
    /// Base pages moved to a slower tier because a user asked.
    PgdemoteProactive = "pgdemote_proactive",
    /// Anonymous base pages isolated now: it falls again when they are put back.
    NrIsolatedAnon = "nr_isolated_anon",
    /// Base pages of files isolated now: it falls again when they are put back.
    NrIsolatedFile = "nr_isolated_file",
    /// Base pages that compaction looked at as sources.
    CompactMigrateScanned = "compact_migrate_scanned",
    /// Base pages that compaction isolated.
    CompactIsolated = "compact_isolated",
}

impl fmt::Display for Counter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// All counters; many threads count at once, none waits.
///
/// A value is exact, but two values read one after the other need not belong to the same moment.
#[derive(Debug)]
pub struct Counters([AtomicUsize; COUNT]);

impl Counters {
    /// Makes counters that are all 0.
    #[must_use]
    pub fn new() -> Self {
        Self(core::array::from_fn(|_| AtomicUsize::new(0)))
    }

    fn cell(&self, counter: Counter) -> Option<&AtomicUsize> {
        self.0.get(counter as usize)
    }

    /// Counts `n` more. Wraps around at `usize::MAX`, as Linux's do.
    pub fn add(&self, counter: Counter, n: usize) {
        if let Some(cell) = self.cell(counter) {
            cell.fetch_add(n, Ordering::Relaxed);
        }
    }

    /// Counts `n` less: only for the two that say how many are isolated *now*.
    pub fn sub(&self, counter: Counter, n: usize) {
        debug_assert!(
            matches!(counter, Counter::NrIsolatedAnon | Counter::NrIsolatedFile),
            "{counter} only ever grows"
        );
        if let Some(cell) = self.cell(counter) {
            let before = cell.fetch_sub(n, Ordering::Relaxed);
            debug_assert!(before >= n, "{counter} counted below 0");
        }
    }

    /// Returns the value at this moment.
    #[must_use]
    pub fn get(&self, counter: Counter) -> usize {
        self.cell(counter).map_or(0, |cell| cell.load(Ordering::Relaxed))
    }

    /// Visits every name and value, in declaration order.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, usize)> {
        Counter::ALL.iter().map(|counter| (counter.name(), self.get(*counter)))
    }
}

impl Default for Counters {
    fn default() -> Self {
        Self::new()
    }
}

/// One `name value` a line, the form of `/proc/vmstat`.
impl fmt::Display for Counters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, value) in self.iter() {
            writeln!(f, "{name} {value}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_counter_has_its_own_cell_and_its_own_name() {
        let names: BTreeSet<_> = Counter::ALL.iter().map(|counter| counter.name()).collect();
        assert_eq!(names.len(), Counter::ALL.len());
        for counter in Counter::ALL {
            let counters = Counters::new();
            counters.add(*counter, 7);
            let moved: std::vec::Vec<_> = counters.iter().filter(|(_, value)| *value != 0).collect();
            assert_eq!(moved, [(counter.name(), 7)]);
        }
    }

    #[test]
    fn what_is_isolated_now_falls_again() {
        let counters = Counters::new();
        counters.add(Counter::NrIsolatedAnon, 5);
        counters.sub(Counter::NrIsolatedAnon, 3);
        assert_eq!(counters.get(Counter::NrIsolatedAnon), 2);
    }

    #[test]
    fn the_text_is_that_of_vmstat() {
        let counters = Counters::new();
        counters.add(Counter::PgmigrateSuccess, 512);
        let text = std::format!("{counters}");
        assert!(text.starts_with("pgmigrate_success 512\npgmigrate_fail 0\n"));
        assert_eq!(text.lines().count(), Counter::ALL.len());
    }

    #[test]
    fn threads_lose_no_count() {
        const EACH: usize = if cfg!(miri) { 50 } else { 1000 };
        let counters = Counters::new();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..EACH).for_each(|_| counters.add(Counter::PgmigrateFail, 1)));
            }
        });
        assert_eq!(counters.get(Counter::PgmigrateFail), 4 * EACH);
    }

    #[test]
    fn a_counter_prints_its_name() {
        assert_eq!(std::format!("{}", Counter::PgmigrateSuccess), "pgmigrate_success");
    }
}
