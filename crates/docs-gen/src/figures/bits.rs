//! The words that entries are packed into, bit by bit.

use mm_types::EntryFormat;

use super::svg::{Svg, mono_width};

const LEFT: i32 = 16;
const ROW: i32 = 96;
/// The least width of one bit.
const BIT: i32 = 9;
/// Bits a drawing may give one field: a frame number needs no more room than its name.
const WIDEST: u32 = 26;

/// A field of a word: its highest bit, its lowest, its name.
pub(crate) type Field = (u32, u32, &'static str);

/// Draws every format of `formats`: its name, its format, its fields from the highest bit down.
pub(super) fn draw(formats: &[(&str, EntryFormat, Vec<Field>)]) -> String {
    let wide = |fields: &[Field]| -> i32 { fields.iter().map(width).sum() };
    let width = formats.iter().map(|(_, _, fields)| wide(fields)).max().unwrap_or(0) + 2 * LEFT;
    let height = i32::try_from(formats.len()).unwrap_or(0) * ROW + 12;
    let says = "Each row is a word, with the highest bit on the left: the numbers of a field's bits above it, its name within.";
    let mut svg = Svg::new(width, height, "Migration entries as they are packed", says);
    let mut y = 8;
    for (name, format, fields) in formats {
        svg.text(LEFT, y + 16, "head", &format!("{name}, {} bits", format.word_bits));
        let mut x = LEFT;
        for field in fields {
            let wide = self::width(field);
            svg.text(x + wide / 2, y + 40, "mono soft mid", &bits(field));
            svg.rect([x, y + 46, wide, 30], class(field.2));
            svg.text(x + wide / 2, y + 65, "mono mid", field.2);
            x += wide;
        }
        if format.invert_offset {
            let (low, high) = (format.offset_shift, format.offset_shift + format.offset_bits - 1);
            svg.text(
                width - LEFT,
                y + 16,
                "ink soft end",
                &format!("bits {high}–{low} are stored inverted"),
            );
        }
        y += ROW;
    }
    svg.finish()
}

fn width(field: &Field) -> i32 {
    let count = (field.0 - field.1 + 1).min(WIDEST);
    let by_bits = i32::try_from(count).unwrap_or(0) * BIT;
    let words = mono_width(field.2).max(mono_width(&bits(field))) + 10;
    by_bits.max(words)
}

/// The numbers of a field's bits.
pub(crate) fn bits((high, low, _): &Field) -> String {
    if high == low {
        high.to_string()
    } else {
        format!("{high}–{low}")
    }
}

/// What a field is about: the frame, the kind of entry, what a mapping had, or nothing.
fn class(name: &str) -> &'static str {
    match name {
        "frame" => "old",
        "type" => "fly",
        "young" | "dirty" | "soft-dirty" | "uffd-wp" | "exclusive" => "new",
        _ => "box",
    }
}
