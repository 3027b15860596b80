//! How long the kernel's runs took, by the times of its two events.

use alloc::vec::Vec;
use core::time::Duration;

use super::{Ended, Happened, Records};
use crate::source::Unreadable;

/// A run of the kernel's `migrate_pages()`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run<'a> {
    /// From `mm_migrate_pages_start` to `mm_migrate_pages`, by a clock that usually tells microseconds.
    pub took: Duration,
    /// What came of it.
    pub ended: Ended<'a>,
}

/// Reads a text of ftrace, and pairs the beginning and the end of each run. What began or ended outside the text is no run.
///
/// # Errors
/// The first line that is no event.
pub fn runs(bytes: &[u8]) -> Result<Vec<Run<'_>>, Unreadable> {
    let mut begun: Vec<(u32, Option<Duration>)> = Vec::new();
    let mut runs = Vec::new();
    for record in Records::new(bytes)? {
        let record = record?;
        match record.happened {
            Happened::Start { .. } => {
                begun.retain(|(pid, _)| *pid != record.task.pid);
                begun.push((record.task.pid, record.time));
            }
            Happened::End(ended) => {
                let Some(at) = begun.iter().position(|(pid, _)| *pid == record.task.pid) else {
                    continue;
                };
                let (_, start) = begun.swap_remove(at);
                let took = record.time.zip(start).and_then(|(end, start)| end.checked_sub(start));
                runs.extend(took.map(|took| Run { took, ended }));
            }
            Happened::Set { .. } | Happened::Remove { .. } | Happened::Other => {}
        }
    }
    Ok(runs)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TWO_TASKS: &str = "\
# tracer: nop
a-1 [000] ..... 1.000009: mm_migrate_pages: nr_succeeded=9 nr_failed=0 mode=MIGRATE_SYNC reason=compaction
a-1 [000] ..... 1.000010: mm_migrate_pages_start: mode=MIGRATE_SYNC reason=compaction
b-2 [001] ..... 1.000015: mm_migrate_pages_start: mode=MIGRATE_ASYNC reason=compaction
a-1 [000] ..... 1.000052: mm_migrate_pages: nr_succeeded=31 nr_failed=1 mode=MIGRATE_SYNC reason=compaction
b-2 [001] ..... 2.100015: mm_migrate_pages: nr_succeeded=32 nr_failed=0 mode=MIGRATE_ASYNC reason=compaction
a-1 [000] ..... 3.000000: mm_migrate_pages_start: mode=MIGRATE_SYNC reason=compaction
";

    #[test]
    fn runs_of_two_tasks_are_told_apart_and_halves_are_none() {
        let runs = runs(TWO_TASKS.as_bytes()).unwrap();
        let told: Vec<_> = runs
            .iter()
            .map(|run| (run.took, run.ended.succeeded, run.ended.failed))
            .collect();
        assert_eq!(
            told,
            [(Duration::from_micros(42), 31, 1), (Duration::from_millis(1100), 32, 0)]
        );
    }

    #[test]
    fn a_clock_that_counts_cycles_tells_no_time() {
        let text = TWO_TASKS.replace("1.0000", "10000").replace("2.1000", "21000");
        assert_eq!(runs(text.as_bytes()).unwrap(), []);
    }
}
