//! Single values that prose mentions.

use migrate_core::MODERN;
use mm_types::SwapLayout;
use mm_types::trace::{HEADER, STEPS_2006};

pub(super) fn header() -> String {
    format!("```text\n{HEADER}\n```\n")
}

pub(super) fn max_batch() -> String {
    MODERN.max_batch.to_string()
}

/// The numbers that the document of 2006 leaves out.
pub(super) fn gaps_2006() -> String {
    let known: Vec<u32> = STEPS_2006.iter().filter_map(|step| step.number.parse().ok()).collect();
    let last = known.iter().copied().max().unwrap_or(0);
    let gaps: Vec<String> = (1..=last)
        .filter(|n| !known.contains(n))
        .map(|n| n.to_string())
        .collect();
    gaps.join(" and ")
}

pub(super) fn swap_files_2006() -> String {
    SwapLayout::LINUX_2_6_17.swap_files().to_string()
}

pub(super) fn swap_files_modern() -> String {
    SwapLayout::MODERN.swap_files().to_string()
}
