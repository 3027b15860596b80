//! Words with one meaning each: modes, reasons, counters, and what a fixture may declare.

use migrate_core::fixture::Capabilities;
use migrate_core::{LINUX_2_6_17, MODERN};
use mm_types::{Counter, Mode, Reason};

use crate::CHAPTERS;
use crate::source::{Members, variant};
use crate::table::{Table, code, yes};

const MODE: &str = include_str!("../../../mm-types/src/mode.rs");
const COUNTERS: &str = include_str!("../../../mm-types/src/counters.rs");
const CAPABILITIES: &str = include_str!("../../../migrate-core/src/fixture/capability.rs");

pub(super) fn contents() -> Result<String, String> {
    let mut list = String::new();
    for (n, chapter) in CHAPTERS.iter().enumerate().skip(1) {
        let file = chapter.file.trim_start_matches("docs/");
        list.push_str(&format!("{n}. [{}]({file})\n", chapter.title()));
    }
    Ok(list)
}

pub(super) fn modes() -> Result<String, String> {
    let members = Members::read(MODE, "Mode, \"mode\"");
    let mut table = Table::new(["mode", "what it may wait for", "may sleep in 2.6.17", "may sleep today"]);
    for mode in Mode::ALL {
        let sleeps = |profile: migrate_core::Profile| yes(profile.blocks(*mode)).to_owned();
        table.row([
            code(mode),
            members.doc(&variant(mode))?.to_owned(),
            sleeps(LINUX_2_6_17),
            sleeps(MODERN),
        ]);
    }
    Ok(table.to_string())
}

pub(super) fn reasons() -> Result<String, String> {
    let members = Members::read(MODE, "Reason, \"reason\"");
    let mut table = Table::new(["reason", "meaning"]);
    for reason in Reason::ALL {
        table.row([code(reason), members.doc(&variant(reason))?.to_owned()]);
    }
    Ok(table.to_string())
}

pub(super) fn counters() -> Result<String, String> {
    let members = Members::read(COUNTERS, "counters! {");
    let mut table = Table::new(["counter", "counts"]);
    for counter in Counter::ALL {
        table.row([code(counter), members.doc(&variant(counter))?.to_owned()]);
    }
    Ok(table.to_string())
}

pub(super) fn capabilities() -> Result<String, String> {
    let members = Members::read(CAPABILITIES, "pub struct Capabilities: u32 {");
    let mut table = Table::new(["capability", "meaning"]);
    for (name, capability) in Capabilities::all().iter_names() {
        table.row([capability.to_string(), members.doc(name)?.to_owned()]);
    }
    Ok(table.to_string())
}
