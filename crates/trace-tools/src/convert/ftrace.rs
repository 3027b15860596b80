//! The kernel's own ftrace text, of the events that the kernel has.
//!
//! The header and the columns are those of `/sys/kernel/tracing/trace`, the words of the entries those of x86-64 with frames for
//! frame numbers. What the kernel has no event for (locks, copies, barriers, faults) is left out.

use alloc::string::String;
use core::fmt::Write;

use mm_types::trace::{Event, Line};
use mm_types::{EntryFormat, PAGE_SHIFT, Pte, PteFlags, Site};

use crate::kernel::{mode_word, names};

const HEADER: &str = "\
#                                _-----=> irqs-off/BH-disabled
#                               / _----=> need-resched
#                              | / _---=> hardirq/softirq
#                              || / _--=> preempt-depth
#                              ||| / _-=> migrate-disable
#                              |||| /     delay
#           TASK-PID     CPU#  |||||  TIMESTAMP  FUNCTION
#              | |         |   |||||     |         |
";
const MIGRATOR: &str = "migrator-1";
const MICROS: usize = 1_000_000;

/// Returns the lines as the kernel's ftrace text; the time counts events as microseconds.
#[must_use]
pub fn ftrace(lines: &[Line]) -> String {
    let mut events = String::new();
    let mut count = 0usize;
    // The kernel says at the end of a run what it said at its beginning.
    let mut run = (mm_types::Mode::Sync, mm_types::Reason::SyscallOrCpuset);
    for (at, line) in lines.iter().enumerate() {
        if let Event::Start { mode, reason, .. } = line.event {
            run = (mode, reason);
        }
        let mut text = String::new();
        // A string takes all that is written to it.
        if !matches!(event(&mut text, line.event, run), Ok(true)) {
            continue;
        }
        count = count.saturating_add(1);
        let time = at.saturating_add(1);
        let (seconds, micros) = (time / MICROS, time % MICROS);
        let _ = writeln!(events, "{MIGRATOR:>22}   [000] ..... {seconds:>5}.{micros:06}: {text}");
    }
    let mut whole = String::from("# tracer: nop\n#\n");
    let _ = writeln!(whole, "# entries-in-buffer/entries-written: {count}/{count}   #P:1");
    whole.push_str("#\n");
    whole.push_str(HEADER);
    whole.push_str(&events);
    whole
}

/// Writes what the kernel says of `event`; false where it says nothing.
fn event(
    text: &mut String,
    event: Event,
    (mode, reason): (mm_types::Mode, mm_types::Reason),
) -> Result<bool, core::fmt::Error> {
    let mode = mode_word(mode);
    match event {
        Event::Start { .. } => write!(text, "{}: mode={mode} reason={reason}", names::START)?,
        Event::End {
            succeeded,
            failed,
            left,
        } => {
            let failed = u64::from(failed).saturating_add(left.into());
            write!(
                text,
                "{}: nr_succeeded={succeeded} nr_failed={failed} nr_thp_succeeded=0 nr_thp_failed=0 nr_thp_split=0 \
                 nr_split=0 mode={mode} reason={reason}",
                names::END
            )?;
        }
        Event::Unmap { site, after, .. } if after.is_migration() => pte(text, names::SET, site, after)?,
        Event::Restore { site, after, .. } => pte(text, names::REMOVE, site, after)?,
        _ => return Ok(false),
    }
    Ok(true)
}

fn pte(text: &mut String, name: &str, site: Site, pte: Pte) -> core::fmt::Result {
    let addr = site.page.raw().wrapping_shl(PAGE_SHIFT);
    write!(text, "{name}: addr={addr:x}, pte={:x} order=0", word(pte))
}

/// The word that x86-64 has for `pte`; 0 where it has none.
fn word(pte: Pte) -> u64 {
    const PRESENT: u64 = 1 | 1 << 2;
    const MARKS: [(PteFlags, u64); 5] = [
        (PteFlags::WRITE, 1 << 1),
        (PteFlags::YOUNG, 1 << 5),
        (PteFlags::DIRTY, 1 << 6),
        (PteFlags::UFFD_WP, 1 << 10),
        (PteFlags::SOFT_DIRTY, 1 << 11),
    ];
    match pte {
        Pte::Present { pfn, flags } => {
            let bits = MARKS.iter().filter(|(flag, _)| flags.contains(*flag));
            bits.fold(PRESENT | pfn.raw().wrapping_shl(PAGE_SHIFT), |word, (_, bit)| {
                word | bit
            })
        }
        other => other
            .non_present()
            .and_then(|entry| EntryFormat::X86_64.encode(entry).ok())
            .unwrap_or(0),
    }
}
