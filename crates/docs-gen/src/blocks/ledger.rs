//! Who holds a page: reference counts at each moment, computed from the functions that the engine uses.

use mm_types::{MigrationEntry, Pfn, Pte, PteFlags, SwapEntry, SwapPteFlags, SwapType, expected_count, ledger};

use crate::table::Table;

const OLD: Pfn = Pfn::new(5);
const NEW: Pfn = Pfn::new(9);

/// What else than entries holds the page.
#[derive(Clone, Copy, PartialEq)]
enum Kind {
    /// Anonymous, in no cache.
    Anon,
    /// In the page cache.
    File,
    /// Anonymous and in the swap cache, as 2.6.17 unmaps it: swap entries, which nobody restores.
    SwapCache2006,
}

const MOMENTS: [&str; 11] = [
    "before",
    "after isolation",
    "after unmapping",
    "after the switch, old",
    "after private data moved, old",
    "new, allocated",
    "new, after the switch",
    "new, after private data moved",
    "new, after the entries are restored",
    "new, back on the LRU",
    "old, at the end, on `moved`",
];

fn mapped(pfn: Pfn) -> Pte {
    Pte::present(pfn, PteFlags::WRITE)
}

/// What one edit of an entry does to the count of `pfn`.
fn change(before: Pte, after: Pte, pfn: Pfn) -> i64 {
    let edit = ledger(before, after);
    i64::from(edit.get == Some(pfn)) - i64::from(edit.put == Some(pfn))
}

/// The counts at each moment, for a page with `entries` entries and private data or not.
fn counts(kind: Kind, entries: i64, private: bool) -> Result<[i64; MOMENTS.len()], String> {
    let slots = u32::from(kind != Kind::Anon);
    let (cached, buffers) = (i64::from(slots), i64::from(private));
    let entry = match kind {
        Kind::SwapCache2006 => swap()?,
        _ => Pte::Migration(MigrationEntry::make(OLD, true)),
    };
    let mut old = cached + buffers + entries * change(Pte::None, mapped(OLD), OLD);
    let before = old;
    old += 1;
    let isolated = old;
    old += entries * change(mapped(OLD), entry, OLD);
    let unmapped = old;
    if unmapped != i64::from(expected_count(slots, private)) {
        return Err(format!(
            "{unmapped} references are left where the engine expects others"
        ));
    }
    old -= cached;
    let switched = old;
    let mut new = i64::from(expected_count(0, false));
    let allocated = new;
    new += cached;
    let new_switched = new;
    old -= buffers;
    new += buffers;
    let new_buffers = new;
    if entry.is_migration() {
        new += entries * change(entry, mapped(NEW), NEW);
    }
    let restored = new;
    Ok([
        before,
        isolated,
        unmapped,
        switched,
        old,
        allocated,
        new_switched,
        new_buffers,
        restored,
        new - 1,
        old,
    ])
}

fn swap() -> Result<Pte, String> {
    let entry = SwapType::new(0)
        .and_then(|ty| SwapEntry::new(ty, 0x10))
        .ok_or("no such slot")?;
    Ok(Pte::Swap {
        entry,
        flags: SwapPteFlags::empty(),
    })
}

/// The table: each count as a sum of a constant, the entries (k) and the private data (p).
pub(super) fn moments() -> Result<String, String> {
    let mut columns = Vec::new();
    for (kind, has_private) in [(Kind::Anon, false), (Kind::File, true), (Kind::SwapCache2006, false)] {
        let none = counts(kind, 0, false)?;
        let entry = counts(kind, 1, false)?;
        let data = counts(kind, 0, has_private)?;
        let proof = counts(kind, 3, has_private)?;
        let mut cells = Vec::new();
        for n in 0..MOMENTS.len() {
            let (k, p) = (entry[n] - none[n], data[n] - none[n]);
            if proof[n] != none[n] + 3 * k + p {
                return Err(format!("{} is no sum", MOMENTS[n]));
            }
            cells.push(sum(none[n], k, p));
        }
        columns.push(cells);
    }
    let mut table = Table::new(["moment", "anonymous", "file", "swap cache, 2.6.17"]);
    for (n, moment) in MOMENTS.iter().enumerate() {
        table.row([*moment, &columns[0][n], &columns[1][n], &columns[2][n]]);
    }
    Ok(table.to_string())
}

fn sum(constant: i64, k: i64, p: i64) -> String {
    let mut parts = Vec::new();
    for (times, letter) in [(k, "k"), (p, "p")] {
        match times {
            0 => {}
            1 => parts.push(letter.to_owned()),
            _ => parts.push(format!("{times}{letter}")),
        }
    }
    if constant != 0 || parts.is_empty() {
        parts.insert(0, constant.to_string());
    }
    parts.join(" + ")
}

/// What edits of one entry do, by the function that every edit goes through.
pub(super) fn edits() -> String {
    let write = Pte::Migration(MigrationEntry::writable(OLD));
    let read_only = Pte::present(OLD, PteFlags::empty());
    let mut table = Table::new([
        "edit of one entry",
        "from",
        "to",
        "references of the old page",
        "of the new page",
        "resident pages",
    ]);
    for (what, before, after) in [
        ("a fault maps a page", Pte::None, mapped(OLD)),
        ("migration unmaps it", mapped(OLD), write),
        ("migration restores it", write, mapped(NEW)),
        ("a page that stays is restored", write, mapped(OLD)),
        ("fork copies the entry of a page in flight", Pte::None, write),
        ("munmap meets a page in flight", write, Pte::None),
        ("mprotect takes write permission away", mapped(OLD), read_only),
        ("copy-on-write", read_only, mapped(NEW)),
        ("munmap", mapped(OLD), Pte::None),
    ] {
        let edit = ledger(before, after);
        let signed = |n: i64| if n == 0 { "–".to_owned() } else { format!("{n:+}") };
        table.row([
            what.to_owned(),
            format!("`{before}`"),
            format!("`{after}`"),
            signed(change(before, after, OLD)),
            signed(change(before, after, NEW)),
            signed(i64::from(edit.rss)),
        ]);
    }
    table.to_string()
}
