//! The state transfer.

use std::collections::BTreeSet;

use mm_types::transfer::{Carry, TABLE};

use crate::source::{Members, said, variant};
use crate::table::{Table, code};

const FLAGS: &str = include_str!("../../../mm-types/src/flags.rs");
const SOURCE: &str = include_str!("../../../mm-types/src/transfer.rs");

pub(super) fn table() -> Result<String, String> {
    let members = Members::read(FLAGS, "pub struct PageFlags: u32 {");
    let mut table = Table::new(["flag", "what it says of a page", "2.6.17", "today"]);
    for row in TABLE {
        let (name, _) = row.flag.iter_names().next().ok_or("a row without a flag")?;
        table.row([
            code(row.flag),
            members.doc(name)?.to_owned(),
            said(&row.linux_2_6_17),
            said(&row.modern),
        ]);
    }
    Ok(table.to_string())
}

pub(super) fn legend() -> Result<String, String> {
    let members = Members::read(SOURCE, "pub enum Carry {");
    let used: BTreeSet<String> = TABLE
        .iter()
        .flat_map(|row| [row.linux_2_6_17, row.modern])
        .map(|c| variant(&c))
        .collect();
    let mut table = Table::new(["word", "meaning"]);
    for carry in [
        Carry::Copied,
        Carry::Moved,
        Carry::MovedWithAccounting,
        Carry::ClearedOnOld,
        Carry::EndedOnNew,
        Carry::Left,
    ] {
        let doc = members.doc(&variant(&carry))?.replace("`Carry::Moved`", "moved");
        table.row([said(&carry), doc]);
    }
    match used.iter().find(|name| !members.names().any(|known| known == *name)) {
        Some(name) => Err(format!("{name} has no comment")),
        None => Ok(table.to_string()),
    }
}
