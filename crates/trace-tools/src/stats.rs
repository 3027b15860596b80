//! Counters of a trace, under the names that `/proc/vmstat` has for them, and what it has none for.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::{String, ToString};
use core::fmt;

use mm_types::trace::{Event, Line};
use mm_types::{Counter, Reason};

use crate::kernel::{Ended, Happened, Records};
use crate::source::Unreadable;

/// The counters of `/proc/vmstat` that a trace tells. It does not tell who asked for a demotion, whether a page is anonymous, or
/// what compaction looked at: those counters are left out, not 0.
pub const TOLD: &[Counter] = &[
    Counter::PgmigrateSuccess,
    Counter::PgmigrateFail,
    Counter::ThpMigrationSuccess,
    Counter::ThpMigrationFail,
    Counter::ThpMigrationSplit,
    Counter::NumaPagesMigrated,
];

/// What was counted: `name value` a line, the kernel's names first, then those of the trace, which begin with `trace_`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    vmstat: BTreeMap<Counter, u64>,
    trace: BTreeMap<String, u64>,
}

impl Stats {
    /// Counts the events of a trace. Its pages are base pages, so there are no huge ones.
    #[must_use]
    pub fn of(lines: &[Line]) -> Self {
        let mut stats = Self::default();
        let mut reason = None;
        let mut asleep: BTreeMap<u32, usize> = BTreeMap::new();
        stats.count("trace_blocked_events", 0);
        for (at, line) in lines.iter().enumerate() {
            stats.count("trace_events", 1);
            stats.count(&format!("trace_{}", line.event.word()), 1);
            match line.event {
                Event::Start { reason: why, .. } => reason = Some(why),
                Event::End {
                    succeeded,
                    failed,
                    left,
                } => {
                    stats.vmstat(Counter::PgmigrateSuccess, succeeded.into());
                    stats.vmstat(Counter::PgmigrateFail, u64::from(failed).saturating_add(left.into()));
                    if reason == Some(Reason::NumaMisplaced) {
                        stats.vmstat(Counter::NumaPagesMigrated, succeeded.into());
                    }
                }
                Event::Flush { entries } => stats.count("trace_flushed_entries", entries.into()),
                Event::Refuse { refusal, last, .. } => {
                    let kind = if last { "refused" } else { "retried" };
                    stats.count(&format!("trace_{kind}_{}", refusal.word()), 1);
                }
                Event::Wait { actor, .. } => {
                    asleep.insert(actor.raw(), at);
                }
                Event::Wake { actor, .. } => {
                    let slept = asleep.remove(&actor.raw()).map_or(0, |since| at.saturating_sub(since));
                    stats.count("trace_blocked_events", u64::try_from(slept).unwrap_or(u64::MAX));
                }
                _ => {}
            }
        }
        for since in asleep.into_values() {
            let slept = lines.len().saturating_sub(since).saturating_sub(1);
            stats.count("trace_blocked_events", u64::try_from(slept).unwrap_or(u64::MAX));
        }
        stats
    }

    /// Counts what the kernel's own trace tells.
    ///
    /// # Errors
    ///
    /// The first place that cannot be read.
    pub fn of_kernels(bytes: &[u8]) -> Result<Self, Unreadable> {
        let mut stats = Self::default();
        for record in Records::new(bytes)? {
            match record?.happened {
                Happened::Start { .. } => stats.count("trace_mm_migrate_pages_start", 1),
                Happened::End(ended) => stats.ended(&ended),
                Happened::Set { .. } => stats.count("trace_set_migration_pte", 1),
                Happened::Remove { .. } => stats.count("trace_remove_migration_pte", 1),
                Happened::Other => continue,
            }
            stats.count("trace_events", 1);
        }
        Ok(stats)
    }

    fn ended(&mut self, ended: &Ended<'_>) {
        self.count("trace_mm_migrate_pages", 1);
        self.vmstat(Counter::PgmigrateSuccess, ended.succeeded);
        self.vmstat(Counter::PgmigrateFail, ended.failed);
        self.vmstat(Counter::ThpMigrationSuccess, ended.thp_succeeded);
        self.vmstat(Counter::ThpMigrationFail, ended.thp_failed);
        self.vmstat(Counter::ThpMigrationSplit, ended.thp_split);
        if ended.reason == Reason::NumaMisplaced.word() {
            self.vmstat(Counter::NumaPagesMigrated, ended.succeeded);
        }
    }

    fn vmstat(&mut self, counter: Counter, more: u64) {
        let sum = self.vmstat.entry(counter).or_default();
        *sum = sum.saturating_add(more);
    }

    fn count(&mut self, name: &str, more: u64) {
        if let Some(sum) = self.trace.get_mut(name) {
            *sum = sum.saturating_add(more);
        } else {
            self.trace.insert(name.to_string(), more);
        }
    }

    /// Returns the value of a counter that a trace tells; `None` for the others.
    #[must_use]
    pub fn counter(&self, counter: Counter) -> Option<u64> {
        TOLD.contains(&counter)
            .then(|| self.vmstat.get(&counter).copied().unwrap_or(0))
    }

    /// Returns every name and value.
    pub fn iter(&self) -> impl Iterator<Item = (&str, u64)> {
        let told = TOLD
            .iter()
            .filter_map(|counter| Some((counter.name(), self.counter(*counter)?)));
        told.chain(self.trace.iter().map(|(name, value)| (name.as_str(), *value)))
    }
}

impl fmt::Display for Stats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.iter().try_for_each(|(name, value)| writeln!(f, "{name} {value}"))
    }
}
