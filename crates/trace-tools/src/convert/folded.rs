//! Folded stacks of blocked time, for flame graphs: who waited, for what, and what the migration did meanwhile.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use core::fmt::Write;

use mm_types::trace::{Event, Line};

/// How many events of each kind there have been.
type Passed = BTreeMap<&'static str, u64>;

/// Returns a line for each stack, `thread;access;page;step count`: how many events of that kind passed while the thread slept.
///
/// The counts of one thread add up to the events that it was blocked for, its waking included. A thread that is never woken is
/// blocked until the end.
#[must_use]
pub fn folded(lines: &[Line]) -> String {
    let mut access: BTreeMap<u32, &str> = BTreeMap::new();
    let mut waiting: BTreeMap<u32, (String, Passed)> = BTreeMap::new();
    let mut stacks: BTreeMap<(String, &'static str), u64> = BTreeMap::new();
    let mut passed = Passed::new();
    for line in lines {
        let count = passed.entry(line.event.word()).or_default();
        *count = count.saturating_add(1);
        match line.event {
            Event::Fault { actor, write, .. } => {
                access.insert(actor.raw(), if write { "write" } else { "read" });
            }
            Event::Wait { actor, site, pfn } => {
                let page = line
                    .page
                    .map_or_else(|| format!("f{}", pfn.raw()), |page| format!("p{page}"));
                let access = access.get(&actor.raw()).copied().unwrap_or("access");
                let head = format!(
                    "t{};{access} m{}+{:#x};migration_entry_wait {page}",
                    actor.raw(),
                    site.space.raw(),
                    site.page.raw()
                );
                if let Some(earlier) = waiting.insert(actor.raw(), (head, passed.clone())) {
                    add(&mut stacks, earlier, &passed);
                }
            }
            Event::Wake { actor, .. } => {
                if let Some(waited) = waiting.remove(&actor.raw()) {
                    add(&mut stacks, waited, &passed);
                }
            }
            _ => {}
        }
    }
    for waited in waiting.into_values() {
        add(&mut stacks, waited, &passed);
    }
    let mut text = String::new();
    for ((head, step), count) in stacks {
        // A string takes all that is written to it.
        let _ = writeln!(text, "{head};{step} {count}");
    }
    text
}

/// Adds what passed since a thread began to wait.
fn add(stacks: &mut BTreeMap<(String, &'static str), u64>, (head, since): (String, Passed), passed: &Passed) {
    for (step, count) in passed {
        let count = count.saturating_sub(since.get(step).copied().unwrap_or(0));
        if count > 0 {
            let sum = stacks.entry((head.clone(), step)).or_default();
            *sum = sum.saturating_add(count);
        }
    }
}
