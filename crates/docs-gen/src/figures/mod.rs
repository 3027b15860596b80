//! Figures: drawings that are made from recorded traces and from the code's own tables.
//!
//! Each is a file of its own in `docs/figures/`, which the chapters show, and a block like any other: one that has drifted is named.

mod bits;
mod chart;
mod lists;
mod ratios;
mod scaling;
mod states;
mod svg;
mod timeline;
mod watched;

use migrate_core::Profile;
use mm_types::EntryFormat;

use crate::performance::{Results, Scaling};

pub(crate) use bits::{Field, bits as bits_of};

/// Where figures are, in `docs/`.
pub(crate) const DIRECTORY: &str = "figures";

/// True for the name of a block that is a figure.
pub(crate) fn is_figure(block: &str) -> bool {
    block.ends_with(".svg")
}

/// Draws the timeline of one migration.
pub(crate) fn timeline(profile: &'static Profile) -> Result<String, String> {
    timeline::draw(profile)
}

/// Draws the lists before and after each pass of a run.
pub(crate) fn lists(profile: &'static Profile) -> Result<String, String> {
    lists::draw(profile)
}

/// Draws the states of a page, and the transitions that the recorded traces took.
pub(crate) fn states(profile: &'static Profile) -> Result<String, String> {
    states::draw(profile)
}

/// Draws the words of entry formats.
pub(crate) fn bits(formats: &[(&str, EntryFormat, Vec<Field>)]) -> String {
    bits::draw(formats)
}

/// Draws what pages cost beside a plain copy.
pub(crate) fn ratios(results: &Results) -> String {
    ratios::draw(results)
}

/// Draws what pages cost against something.
pub(crate) fn scaling(scaling: &Scaling) -> String {
    scaling::draw(scaling)
}
