//! Swap types, and the words that entries are packed into.

use core::fmt::Write;

use mm_types::{
    EntryFormat, Lost, MigrationEntry, MigrationFlags, MigrationKind, NonPresent, Pfn, SwapLayout, SwapType,
};

use crate::figures::{self, Field, bits_of};
use crate::source::{Members, said, variant};
use crate::table::{Table, code, plain};

const SWAP: &str = include_str!("../../../mm-types/src/swap_entry.rs");
const CODEC: &str = include_str!("../../../mm-types/src/format/codec.rs");
const MIGRATION: &str = include_str!("../../../mm-types/src/migration_entry.rs");

const LAYOUTS: [(&str, SwapLayout); 3] = [
    ("2.6.17 without migration", SwapLayout::LINUX_2_6_17_NO_MIGRATION),
    ("2.6.17 with migration", SwapLayout::LINUX_2_6_17),
    ("6.1", SwapLayout::MODERN),
];

const FORMATS: [(&str, EntryFormat); 4] = [
    (
        "Linux 2.6.17, independent of the machine",
        EntryFormat::SWP_ENTRY_2_6_17,
    ),
    ("Linux 2.6.17, x86-64", EntryFormat::X86_64_2_6_17),
    ("Linux 2.6.17, i386", EntryFormat::I386_2_6_17),
    ("Linux 6.1, x86-64", EntryFormat::X86_64),
];

/// Which type number means what in each layout; neighbours that mean the same share a row.
pub(super) fn swap_types() -> String {
    let mut table = Table::new(["types", LAYOUTS[0].0, LAYOUTS[1].0, LAYOUTS[2].0]);
    let kinds = |ty| LAYOUTS.map(|(_, layout)| layout.kind(ty));
    let mut types = SwapType::all().peekable();
    while let Some(first) = types.next() {
        let mut last = first;
        while let Some(next) = types.next_if(|next| kinds(*next) == kinds(first)) {
            last = next;
        }
        let range = if first == last {
            first.to_string()
        } else {
            format!("{first}–{last}")
        };
        let [a, b, c] = kinds(first).map(|kind| said(&kind));
        table.row([range, a, b, c]);
    }
    table.to_string()
}

pub(super) fn type_kinds() -> Result<String, String> {
    let members = Members::read(SWAP, "pub enum TypeKind {");
    let mut table = Table::new(["kind", "meaning"]);
    for name in members.names() {
        table.row([plain(name), members.doc(name)?.to_owned()]);
    }
    Ok(table.to_string())
}

pub(super) fn migration_kinds() -> Result<String, String> {
    let members = Members::read(MIGRATION, "pub enum MigrationKind {");
    let mut table = Table::new(["entry", "meaning"]);
    for kind in [MigrationKind::Read, MigrationKind::ReadExclusive, MigrationKind::Write] {
        table.row([code(kind), members.doc(&variant(&kind))?.to_owned()]);
    }
    Ok(table.to_string())
}

pub(super) fn migration_marks() -> Result<String, String> {
    let members = Members::read(MIGRATION, "pub struct MigrationFlags: u8 {");
    let mut table = Table::new(["mark", "meaning"]);
    for (name, flag) in MigrationFlags::all().iter_names() {
        let entry = MigrationEntry::readable(Pfn::new(0)).with_flags(flag);
        let text = mm_types::Pte::Migration(entry).to_string();
        let word = text.split('+').nth(1).ok_or_else(|| format!("{name} is not printed"))?;
        table.row([code(word), members.doc(name)?.to_owned()]);
    }
    Ok(table.to_string())
}

/// One drawing a format: bit numbers above the fields, the highest bit on the left.
pub(super) fn drawings() -> String {
    let mut text = String::new();
    for (name, format) in FORMATS {
        // Writing to a string does not fail.
        let _ = write!(
            text,
            "{name}, {} bits:\n\n```text\n{}```\n\n",
            format.word_bits,
            drawing(&format)
        );
    }
    text
}

/// The fields of a word, from the highest bit down.
fn fields(format: &EntryFormat) -> Vec<Field> {
    let mut fields: Vec<Field> = Vec::new();
    for bit in (0..format.word_bits).rev() {
        let field = field(format, bit);
        match fields.last_mut() {
            Some((_, low, name)) if *name == field => *low = bit,
            _ => fields.push((bit, bit, field)),
        }
    }
    fields
}

/// The same as a figure.
pub(super) fn figure() -> String {
    figures::bits(&FORMATS.map(|(name, format)| (name, format, fields(&format))))
}

fn drawing(format: &EntryFormat) -> String {
    let fields = fields(format);
    let (mut numbers, mut top, mut middle, mut bottom) =
        (String::new(), String::from("┌"), String::from("│"), String::from("└"));
    for (n, field) in fields.iter().enumerate() {
        let bits = bits_of(field);
        let width = bits.chars().count().max(field.2.chars().count()) + 2;
        numbers.push_str(&format!("  {bits:<w$}", w = width - 1));
        middle.push_str(&format!(" {:<w$}│", field.2, w = width - 1));
        top.push_str(&"─".repeat(width));
        bottom.push_str(&"─".repeat(width));
        let last = n + 1 == fields.len();
        top.push(if last { '┐' } else { '┬' });
        bottom.push(if last { '┘' } else { '┴' });
    }
    let inverted = if format.invert_offset {
        let (low, high) = (format.offset_shift, format.offset_shift + format.offset_bits - 1);
        format!("bits {high}–{low} are stored inverted\n")
    } else {
        String::new()
    };
    format!("{}\n{top}\n{middle}\n{bottom}\n{inverted}", numbers.trim_end())
}

/// What a bit of a migration entry belongs to.
fn field(format: &EntryFormat, bit: u32) -> &'static str {
    let within = |low: u32, bits: u32| bit >= low && bit < low + bits;
    let above_frame = format.offset_shift + format.pfn_bits;
    let marks = format.keeps_young_and_dirty();
    match bit {
        _ if within(format.type_shift, format.type_bits) => "type",
        _ if within(format.offset_shift, format.pfn_bits) => "frame",
        _ if marks && bit == above_frame => "young",
        _ if marks && bit == above_frame + 1 => "dirty",
        _ if within(format.offset_shift, format.offset_bits) => "not used",
        _ if format.present_mask >> bit & 1 == 1 => "present = 0",
        _ if format.file_mask >> bit & 1 == 1 => "file = 0",
        _ if format.soft_dirty_bit == Some(bit) => "soft-dirty",
        _ if format.uffd_wp_bit == Some(bit) => "uffd-wp",
        _ if format.exclusive_bit == Some(bit) => "exclusive",
        _ => "0",
    }
}

/// Entries of frame 7, packed by each format.
pub(super) fn packed() -> Result<String, String> {
    let frame = Pfn::new(7);
    let mut table = Table::new(["format", "`read`, frame 7", "`write`, frame 7", "largest frame"]);
    for (name, format) in FORMATS {
        let word = |entry| {
            let digits = usize::try_from(format.word_bits / 4).unwrap_or_default();
            let word = format
                .encode(NonPresent::Migration(entry))
                .map_err(|error| error.to_string())?;
            if format.decode(word) != Some(NonPresent::Migration(entry)) {
                return Err(format!("{word:#x} does not read back"));
            }
            Ok(format!("`{word:0digits$x}`"))
        };
        table.row([
            name.to_owned(),
            word(MigrationEntry::readable(frame))?,
            word(MigrationEntry::writable(frame))?,
            format!("{:#x}", format.max_pfn().raw()),
        ]);
    }
    Ok(table.to_string())
}

/// What each format keeps of an entry that has one thing to lose.
pub(super) fn losses() -> Result<String, String> {
    let members = Members::read(CODEC, "pub struct Lost: u8 {");
    let mut table = Table::new([
        "what a mapping had",
        "where it is lost",
        FORMATS[1].0,
        FORMATS[2].0,
        FORMATS[3].0,
    ]);
    for (name, mark) in Lost::all().iter_names() {
        let writable = MigrationEntry::writable(Pfn::new(7));
        let entry = match mark {
            Lost::YOUNG => writable.with_flags(MigrationFlags::YOUNG),
            Lost::DIRTY => writable.with_flags(MigrationFlags::DIRTY),
            Lost::SOFT_DIRTY => writable.with_flags(MigrationFlags::SOFT_DIRTY),
            Lost::UFFD_WP => writable.with_flags(MigrationFlags::UFFD_WP),
            Lost::EXCLUSIVE => writable.make_read_exclusive(),
            Lost::WRITE => writable,
            _ => return Err(format!("{name} is not asked for")),
        };
        let [_, a, b, c] = FORMATS.map(|(_, format)| {
            let (_, lost) = format.fit(entry);
            if lost.contains(mark) { "lost" } else { "kept" }
        });
        let doc = members.doc(name)?;
        // The comment names the mark, then what follows from losing it.
        let follows = doc.split_once(": ").map_or(doc, |(_, follows)| follows);
        table.row([name.to_lowercase().replace('_', "-").as_str(), follows, a, b, c]);
    }
    Ok(table.to_string())
}
