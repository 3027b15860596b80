//! The blocks: each made from the one place where the code says it.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use crate::Error;
use crate::figures;
use crate::performance::Against;

mod entry;
mod exhibits;
mod invariants;
mod kernel;
mod ledger;
mod museum;
mod numbers;
mod outcomes;
mod performance;
mod profiles;
mod recorded;
mod steps;
mod trace;
mod transfer;
mod vocabulary;

/// The blocks by name.
pub type Blocks = BTreeMap<&'static str, String>;

type Make = fn() -> Result<String, String>;

/// What is read off the code's tables and files: nothing runs.
const TABLES: &[(&str, Make)] = &[
    ("contents", vocabulary::contents),
    ("steps-2006", || steps::table(mm_types::Rules::Linux2617)),
    ("steps-modern", || steps::table(mm_types::Rules::Modern)),
    ("refusals", || Ok(outcomes::refusals())),
    ("errnos", || Ok(outcomes::errnos())),
    ("outcomes", outcomes::lists),
    ("transfer", transfer::table),
    ("carries", transfer::legend),
    ("swap-types", || Ok(entry::swap_types())),
    ("type-kinds", entry::type_kinds),
    ("entry-kinds", entry::migration_kinds),
    ("entry-marks", entry::migration_marks),
    ("entry-bits", || Ok(entry::drawings())),
    ("entry-words", entry::packed),
    ("entry-losses", entry::losses),
    ("ledger", ledger::moments),
    ("edits", || Ok(ledger::edits())),
    ("profiles", profiles::differences),
    ("modes", vocabulary::modes),
    ("reasons", vocabulary::reasons),
    ("counters", vocabulary::counters),
    ("capabilities", vocabulary::capabilities),
    ("events", trace::events),
    ("texts-of-entries", || Ok(trace::entries())),
    ("trace-rules", || Ok(trace::rules())),
    ("invariants", invariants::table),
    ("invariants-checked", || Ok(invariants::checked())),
    ("invariants-looked-at", || Ok(invariants::looked_at())),
    ("exemptions", || Ok(invariants::exemptions())),
    ("invariants-in-traces", || Ok(trace::invariants_in_traces())),
    ("scenario-fault", || Ok(recorded::scenario_fault())),
    ("museum", || Ok(museum::bugs())),
    ("museum-absent", || Ok(museum::absent())),
    ("entry-bits.svg", || Ok(entry::figure())),
    ("exhibits", exhibits::list),
    ("seam-frame-mapping", kernel::frame_mapping),
    ("seam-frame-source", kernel::frame_source),
    ("seam-shootdown", kernel::shootdown),
    ("seam-on-shootdown", kernel::on_shootdown),
    ("seam-sleep", kernel::sleep),
    ("seam-new-mm", kernel::new_mm),
    ("seam-traits", kernel::traits),
    ("migrate-a-batch", kernel::migrate),
    ("seam-toy-entry", kernel::toy_entry),
    ("seam-toy-run", kernel::toy_run),
    ("page-map-kernel", kernel::page_map_kernel),
    ("page-map-first-page", kernel::page_map_first_page),
    ("x86-64-types", kernel::types),
    ("header", || Ok(numbers::header())),
    ("max-batch", || Ok(numbers::max_batch())),
    ("gaps-2006", || Ok(numbers::gaps_2006())),
    ("swap-files-2006", || Ok(numbers::swap_files_2006())),
    ("swap-files-modern", || Ok(numbers::swap_files_modern())),
    ("performance-machine", performance::machine),
    ("performance-table", performance::ratios),
    ("performance-left-out", performance::left_out),
    ("performance-goals", performance::goals),
    ("performance-by-pages", || performance::points(Against::Pages)),
    ("performance-by-mappings", || performance::points(Against::Mappings)),
    ("performance-by-threads", || performance::points(Against::Threads)),
    ("performance-ratios.svg", || {
        performance::chart("performance-ratios.svg")
    }),
    ("performance-pages.svg", || performance::chart("performance-pages.svg")),
    ("performance-mappings.svg", || {
        performance::chart("performance-mappings.svg")
    }),
    ("performance-threads.svg", || {
        performance::chart("performance-threads.svg")
    }),
];

/// What has to be recorded: pages of the model move, and where a table is wrong the model may stop the program.
const RUNS: &[(&str, Make)] = &[
    ("steps-order", steps::order),
    ("passes", profiles::passes),
    ("run-modern", || recorded::one_page(&migrate_core::MODERN)),
    ("run-2006", || recorded::one_page(&migrate_core::LINUX_2_6_17)),
    ("run-batch", recorded::batch),
    ("run-refused", recorded::refused),
    ("run-fault-modern", || recorded::fault(&migrate_core::MODERN)),
    ("run-fault-2006", || recorded::fault(&migrate_core::LINUX_2_6_17)),
    ("timeline-2006.svg", || figures::timeline(&migrate_core::LINUX_2_6_17)),
    ("timeline-modern.svg", || figures::timeline(&migrate_core::MODERN)),
    ("lists-2006.svg", || figures::lists(&migrate_core::LINUX_2_6_17)),
    ("lists-modern.svg", || figures::lists(&migrate_core::MODERN)),
    ("states-2006.svg", || figures::states(&migrate_core::LINUX_2_6_17)),
    ("states-modern.svg", || figures::states(&migrate_core::MODERN)),
    ("unmapped-2006", || recorded::entry_2006("set_migration_pte", "was=")),
    ("restored-2006", || recorded::entry_2006("remove_migration_pte", "now=")),
    ("exhibit-prot-read", exhibits::live),
    ("exhibit-b10", || exhibits::shown("B10")),
    ("exhibit-b16", || exhibits::shown("B16")),
    ("exhibit-b20", || exhibits::shown("B20")),
    ("exhibit-b22", || exhibits::shown("B22")),
    ("exhibit-b28", || exhibits::shown("B28")),
    ("exhibit-b37", || exhibits::shown("B37")),
    ("exhibit-b50", || exhibits::shown("B50")),
    ("exhibit-b53", || exhibits::shown("B53")),
    ("exhibit-b59", || exhibits::shown("B59")),
    ("exhibit-b69", || exhibits::shown("B69")),
    ("exhibit-rss", || exhibits::shown("RSS")),
];

/// The block that is being made.
static MAKING: Mutex<Option<&str>> = Mutex::new(None);

/// Returns the block that is being made: what a panic is about.
#[must_use]
pub fn being_made() -> Option<&'static str> {
    *MAKING.lock().unwrap_or_else(PoisonError::into_inner)
}

fn made(what: &[(&'static str, Make)]) -> Result<Blocks, Error> {
    let making = |block| *MAKING.lock().unwrap_or_else(PoisonError::into_inner) = block;
    let one = |&(block, make): &(&'static str, Make)| {
        making(Some(block));
        let text = make().map_err(|what| Error::Gap { block, what })?;
        making(None);
        Ok((block, text))
    };
    what.iter().map(one).collect()
}

/// Makes the blocks that are read off the code's tables and files.
///
/// # Errors
/// A value has no description, or two tables do not fit together.
pub fn tables() -> Result<Blocks, Error> {
    made(TABLES)
}

/// Makes every block.
///
/// # Errors
/// Those of [`tables`], or a run on the model did not go as a block needs it.
pub fn render() -> Result<Blocks, Error> {
    let mut blocks = tables()?;
    blocks.extend(made(RUNS)?);
    Ok(blocks)
}
