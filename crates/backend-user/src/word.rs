//! The word of a software page-table entry.
//!
//! No hardware reads these words, so the format serves the handler: one load, and the low bits say what to do. A kind in
//! bits 0–2, its marks in bits 3–11, and a frame or an offset from bit 12 up. The word 0 is an empty entry.

use mm_types::{MigrationEntry, MigrationFlags, MigrationKind, Pfn, Pte, PteFlags, SwapEntry, SwapPteFlags, SwapType};

const KIND: u64 = 0b111;
const PRESENT: u64 = 1;
const MIGRATION: u64 = 2;
const SWAP: u64 = 3;
const FILE: u64 = 4;
const POISON: u64 = 5;

const MARKS: u32 = 3;
/// A migration entry's flags; its kind is in the two bits below.
const CARRIED: u32 = 5;
/// A swap entry's marks; its type is in the five bits below.
const SWAP_MARKS: u32 = 8;
const NUMBER: u32 = 12;

/// Frames and offsets below this have a word.
pub(crate) const NUMBERS: u64 = 1 << (64 - NUMBER);

/// Packs an entry whose frame or offset is below [`NUMBERS`].
pub(crate) fn encode(pte: Pte) -> u64 {
    debug_assert!(number(pte) < NUMBERS, "{pte:?} has no word");
    let marks = match pte {
        Pte::None => return 0,
        Pte::Present { flags, .. } => PRESENT | u64::from(flags.bits()) << MARKS,
        Pte::Migration(entry) => {
            let kind = match entry.kind() {
                MigrationKind::Read => 0,
                MigrationKind::ReadExclusive => 1,
                MigrationKind::Write => 2,
            };
            MIGRATION | kind << MARKS | u64::from(entry.flags().bits()) << CARRIED
        }
        Pte::Swap { entry, flags } => {
            SWAP | u64::from(entry.ty().raw()) << MARKS | u64::from(flags.bits()) << SWAP_MARKS
        }
        Pte::File { .. } => FILE,
        Pte::Poison(_) => POISON,
    };
    marks | number(pte) << NUMBER
}

fn number(pte: Pte) -> u64 {
    match pte {
        Pte::None => 0,
        Pte::Present { pfn, .. } | Pte::Poison(pfn) => pfn.raw(),
        Pte::Migration(entry) => entry.pfn().raw(),
        Pte::Swap { entry, .. } => entry.offset(),
        Pte::File { offset } => offset,
    }
}

/// Unpacks a word that [`encode`] made.
pub(crate) fn decode(word: u64) -> Pte {
    let pfn = Pfn::new(word >> NUMBER);
    let bits = |shift: u32, n: u32| (word >> shift) & ((1 << n) - 1);
    match word & KIND {
        PRESENT => Pte::Present {
            pfn,
            flags: PteFlags::from_bits_retain(bits(MARKS, 6) as u16),
        },
        MIGRATION => {
            let entry = match bits(MARKS, 2) {
                0 => MigrationEntry::readable(pfn),
                1 => MigrationEntry::readable_exclusive(pfn),
                _ => MigrationEntry::writable(pfn),
            };
            Pte::Migration(entry.with_flags(MigrationFlags::from_bits_retain(bits(CARRIED, 4) as u8)))
        }
        SWAP => {
            let ty = SwapType::new(bits(MARKS, 5) as u8);
            let flags = SwapPteFlags::from_bits_retain(bits(SWAP_MARKS, 3) as u8);
            ty.and_then(|ty| SwapEntry::new(ty, word >> NUMBER))
                .map_or(Pte::None, |entry| Pte::Swap { entry, flags })
        }
        FILE => Pte::File { offset: word >> NUMBER },
        POISON => Pte::Poison(pfn),
        _ => Pte::None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_entry_reads_back_as_itself() {
        let numbers = (0..52).map(|bit| 1 << bit).chain([0, NUMBERS - 1, 0x5555_5555_5555]);
        for number in numbers {
            let pfn = Pfn::new(number);
            let mut all = vec![Pte::None, Pte::Poison(pfn), Pte::File { offset: number }];
            for bits in 0..1u16 << 6 {
                all.push(Pte::present(pfn, PteFlags::from_bits_retain(bits)));
            }
            for bits in 0..1u8 << 4 {
                let flags = MigrationFlags::from_bits_retain(bits);
                for entry in [
                    MigrationEntry::readable(pfn),
                    MigrationEntry::readable_exclusive(pfn),
                    MigrationEntry::writable(pfn),
                ] {
                    all.push(Pte::Migration(entry.with_flags(flags)));
                }
            }
            for ty in 0..32 {
                for bits in 0..1u8 << 3 {
                    let entry = SwapEntry::new(SwapType::new(ty).unwrap(), number).unwrap();
                    let flags = SwapPteFlags::from_bits_retain(bits);
                    all.push(Pte::Swap { entry, flags });
                }
            }
            for pte in all {
                assert_eq!(decode(encode(pte)), pte);
                assert_eq!(encode(pte) == 0, pte.is_none());
            }
        }
    }

    #[test]
    fn every_flag_has_a_bit() {
        assert!(PteFlags::all().bits() < 1 << 6);
        assert!(MigrationFlags::all().bits() < 1 << 4);
        assert!(SwapPteFlags::all().bits() < 1 << 3);
    }
}
