//! Entries survive their packing: every format, type, mark combination and extreme frame number, and
//! random words and frames besides.

use mm_types::{
    EncodeError, EntryFormat, Lost, MigrationEntry, MigrationFlags, NonPresent, Pfn, SwapEntry, SwapLayout,
    SwapPteFlags, SwapType, TypeKind,
};
use proptest::prelude::{ProptestConfig, Strategy, any};
use proptest::{prop_assert, prop_assert_eq, proptest};

const FORMATS: [(&str, EntryFormat); 7] = [
    ("swp_entry 2.6.17", EntryFormat::SWP_ENTRY_2_6_17),
    ("x86-64 2.6.17", EntryFormat::X86_64_2_6_17),
    ("x86-64 2.6.17, no migration", no_migration()),
    ("i386 2.6.17", EntryFormat::I386_2_6_17),
    ("x86-64 6.1", EntryFormat::X86_64),
    ("x86-64 6.1 without room", without_room()),
    (
        "swp_entry 6.1 types",
        EntryFormat {
            layout: SwapLayout::MODERN,
            ..EntryFormat::SWP_ENTRY_2_6_17
        },
    ),
];
const KINDS: [fn(Pfn) -> MigrationEntry; 3] = [
    MigrationEntry::readable,
    MigrationEntry::readable_exclusive,
    MigrationEntry::writable,
];

const fn no_migration() -> EntryFormat {
    EntryFormat {
        layout: SwapLayout::LINUX_2_6_17_NO_MIGRATION,
        ..EntryFormat::X86_64_2_6_17
    }
}

const fn without_room() -> EntryFormat {
    EntryFormat {
        pfn_bits: 49,
        uffd_wp_bit: None,
        ..EntryFormat::X86_64
    }
}

fn extremes(max: u64) -> impl Iterator<Item = u64> {
    let powers = (0..64).map(|bit| 1u64 << bit).filter(move |&n| n <= max);
    [0, 1, max / 2, max - 1, max].into_iter().chain(powers)
}

fn all_migration_flags() -> impl Iterator<Item = MigrationFlags> {
    (0..=MigrationFlags::all().bits()).map(MigrationFlags::from_bits_truncate)
}

fn all_swap_flags() -> impl Iterator<Item = SwapPteFlags> {
    (0..=SwapPteFlags::all().bits()).map(SwapPteFlags::from_bits_truncate)
}

fn max_offset(format: &EntryFormat) -> u64 {
    (1 << format.offset_bits) - 1
}

/// Checks one encoded word: it is what it should be, and nothing a kernel would test for first.
fn assert_round_trip(name: &str, format: &EntryFormat, entry: NonPresent) {
    let word = format
        .encode(entry)
        .unwrap_or_else(|e| panic!("{name}: {entry:?}: {e}"));
    assert!(!format.is_present(word), "{name}: {entry:?} is present: {word:#x}");
    assert!(!format.is_none(word), "{name}: {entry:?} is none");
    assert!(!format.is_file(word), "{name}: {entry:?} is a file entry: {word:#x}");
    assert!(
        format.word_bits == 64 || word >> format.word_bits == 0,
        "{name}: {entry:?} leaves the word: {word:#x}"
    );
    assert_eq!(format.decode(word), Some(entry), "{name}: {word:#x}");
}

#[test]
fn every_migration_entry_round_trips_in_every_format() {
    for (name, format) in &FORMATS {
        assert!(format.is_sound(), "{name}");
        for pfn in extremes(format.max_pfn().raw()).map(Pfn::new) {
            for make in KINDS {
                for flags in all_migration_flags() {
                    let (fitted, _) = format.fit(make(pfn).with_flags(flags));
                    if format.layout == SwapLayout::LINUX_2_6_17_NO_MIGRATION {
                        let refused = Err(EncodeError::NoType(TypeKind::MigrationRead));
                        assert_eq!(format.encode(NonPresent::Migration(fitted)), refused);
                    } else {
                        assert_round_trip(name, format, NonPresent::Migration(fitted));
                    }
                }
            }
        }
    }
}

#[test]
fn every_swap_type_round_trips_in_every_format() {
    for (name, format) in &FORMATS {
        for ty in SwapType::all() {
            for entry in extremes(max_offset(format)).map(|offset| SwapEntry::new(ty, offset).unwrap()) {
                for flags in all_swap_flags().map(|flags| format.fit_swap(flags).0) {
                    let swap = NonPresent::Swap { entry, flags };
                    let empty = if format.invert_offset { max_offset(format) } else { 0 };
                    if format.layout.kind(ty) != TypeKind::SwapFile {
                        assert_eq!(format.encode(swap), Err(EncodeError::NotASwapFile(ty)), "{name}");
                    } else if ty.raw() == 0 && entry.offset() == empty && flags.is_empty() {
                        assert_eq!(format.encode(swap), Err(EncodeError::LooksEmpty), "{name}");
                    } else {
                        assert_round_trip(name, format, swap);
                    }
                }
            }
        }
    }
}

#[test]
fn every_poison_entry_round_trips_where_the_layout_has_one() {
    for (name, format) in &FORMATS {
        for pfn in extremes(format.max_pfn().raw()).map(Pfn::new) {
            if format.layout.type_of(TypeKind::HwPoison).is_some() {
                assert_round_trip(name, format, NonPresent::Poison(pfn));
            } else {
                let refused = Err(EncodeError::NoType(TypeKind::HwPoison));
                assert_eq!(format.encode(NonPresent::Poison(pfn)), refused, "{name}");
            }
        }
    }
}

#[test]
fn the_architectures_word_and_the_independent_one_say_the_same_for_all_32_types() {
    let (pte, word) = (EntryFormat::X86_64_2_6_17, EntryFormat::SWP_ENTRY_2_6_17);
    for ty in SwapType::all() {
        for offset in extremes(max_offset(&pte)) {
            let raw = u64::from(ty.raw()) << word.type_shift | offset;
            let Some(entry) = word.decode(raw) else {
                assert_eq!(raw, 0);
                continue;
            };
            let there = pte.encode(entry).unwrap();
            assert_eq!(pte.decode(there).map(|entry| word.encode(entry)), Some(Ok(raw)));
        }
    }
}

#[test]
fn words_are_laid_out_as_in_linux() {
    let write = |pfn| NonPresent::Migration(MigrationEntry::writable(Pfn::new(pfn)));
    assert_eq!(
        EntryFormat::SWP_ENTRY_2_6_17.encode(write(0x1234)),
        Ok(31 << 59 | 0x1234)
    );
    assert_eq!(
        EntryFormat::X86_64_2_6_17.encode(write(0x1234)),
        Ok(0x1234 << 8 | 31 << 1)
    );
    assert_eq!(EntryFormat::I386_2_6_17.encode(write(0xff_ffff)), Ok(0xffff_ff3e));
    let inverted = |offset: u64| (offset ^ ((1 << 50) - 1)) << 9;
    assert_eq!(
        EntryFormat::X86_64.encode(write(0x1234)),
        Ok(25 << 59 | inverted(0x1234))
    );
    let all = MigrationEntry::readable(Pfn::new(0x1234)).with_flags(MigrationFlags::all());
    let word = 23 << 59 | inverted(1 << 41 | 1 << 40 | 0x1234) | 1 << 2 | 1 << 1;
    assert_eq!(EntryFormat::X86_64.encode(NonPresent::Migration(all)), Ok(word));
    let entry = SwapEntry::new(SwapType::new(21).unwrap(), 5).unwrap();
    let swap = NonPresent::Swap {
        entry,
        flags: SwapPteFlags::EXCLUSIVE,
    };
    assert_eq!(EntryFormat::X86_64.encode(swap), Ok(21 << 59 | inverted(5) | 1 << 3));
}

#[test]
fn what_does_not_fit_is_a_typed_error() {
    let format = EntryFormat::X86_64;
    let pfn = Pfn::new(1 << 40);
    let too_large = Err(EncodeError::PfnTooLarge { pfn, bits: 40 });
    assert_eq!(
        format.encode(NonPresent::Migration(MigrationEntry::readable(pfn))),
        too_large
    );
    assert_eq!(format.encode(NonPresent::Poison(pfn)), too_large);
    let entry = SwapEntry::new(SwapType::new(0).unwrap(), 1 << 50).unwrap();
    let too_far = Err(EncodeError::OffsetTooLarge {
        offset: 1 << 50,
        bits: 50,
    });
    assert_eq!(
        format.encode(NonPresent::Swap {
            entry,
            flags: SwapPteFlags::empty()
        }),
        too_far
    );
    let dirty = MigrationEntry::writable(Pfn::new(1)).with_flags(MigrationFlags::DIRTY);
    let no_room = Err(EncodeError::NoRoom(Lost::DIRTY));
    assert_eq!(EntryFormat::I386_2_6_17.encode(NonPresent::Migration(dirty)), no_room);
}

#[test]
fn a_format_without_room_loses_in_the_safe_direction_and_says_what() {
    let pfn = Pfn::new(9);
    let (entry, lost) = EntryFormat::I386_2_6_17.fit(MigrationEntry::readable_exclusive(pfn));
    assert_eq!((entry, lost), (MigrationEntry::readable(pfn), Lost::EXCLUSIVE));
    let hot = MigrationEntry::writable(pfn).with_flags(MigrationFlags::YOUNG | MigrationFlags::DIRTY);
    let (entry, lost) = EntryFormat::I386_2_6_17.fit(hot);
    assert_eq!(
        (entry, lost),
        (MigrationEntry::writable(pfn), Lost::YOUNG | Lost::DIRTY)
    );
    let watched = MigrationEntry::writable(pfn).with_flags(MigrationFlags::UFFD_WP);
    let (entry, lost) = without_room().fit(watched);
    assert_eq!(
        (entry, lost),
        (MigrationEntry::readable_exclusive(pfn), Lost::UFFD_WP | Lost::WRITE)
    );
    let (kept, lost) = EntryFormat::X86_64_2_6_17.fit_swap(SwapPteFlags::all());
    assert_eq!(
        (kept, lost),
        (
            SwapPteFlags::empty(),
            Lost::EXCLUSIVE | Lost::SOFT_DIRTY | Lost::UFFD_WP
        )
    );
    assert_eq!(EntryFormat::X86_64.fit(hot), (hot, Lost::empty()));
}

#[test]
fn a_layout_that_overlaps_is_not_sound() {
    assert!(
        !EntryFormat {
            offset_shift: 8,
            ..EntryFormat::X86_64
        }
        .is_sound()
    );
    assert!(
        !EntryFormat {
            type_bits: 4,
            ..EntryFormat::X86_64_2_6_17
        }
        .is_sound()
    );
    assert!(
        !EntryFormat {
            word_bits: 32,
            ..EntryFormat::X86_64_2_6_17
        }
        .is_sound()
    );
    assert!(
        !EntryFormat {
            pfn_bits: 51,
            ..EntryFormat::X86_64
        }
        .is_sound()
    );
    assert!(
        !EntryFormat {
            soft_dirty_bit: Some(2),
            ..EntryFormat::X86_64
        }
        .is_sound()
    );
}

fn any_entry() -> impl Strategy<Value = MigrationEntry> {
    (any::<u64>(), 0..KINDS.len(), 0..=MigrationFlags::all().bits())
        .prop_map(|(pfn, kind, flags)| KINDS[kind](Pfn::new(pfn)).with_flags(MigrationFlags::from_bits_truncate(flags)))
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 1024, ..ProptestConfig::default() })]

    #[test]
    fn a_word_that_decodes_is_the_word_its_entry_encodes_to(word in any::<u64>(), keep in any::<u64>(), ty in 0u64..32) {
        for (_, format) in &FORMATS {
            let typed = (ty << format.type_shift) | (word & keep & !(0x1f << format.type_shift));
            for word in [word, word & keep, typed, typed & !0x1c1, typed & 0xffff_fe0f | 31 << 59] {
                if let Some(entry) = format.decode(word) {
                    prop_assert_eq!(format.encode(entry), Ok(word));
                    prop_assert!(!format.is_present(word) && !format.is_file(word) && !format.is_none(word));
                }
            }
        }
    }

    #[test]
    fn any_frame_number_round_trips_or_is_refused(entry in any_entry(), shift in 0u32..64) {
        let pfn = Pfn::new(entry.pfn().raw() >> shift);
        let entry = MigrationEntry::make(pfn, entry.is_write()).with_flags(entry.flags());
        for (name, format) in FORMATS.iter().filter(|f| f.1.layout != SwapLayout::LINUX_2_6_17_NO_MIGRATION) {
            let (fitted, _) = format.fit(entry);
            if pfn <= format.max_pfn() {
                assert_round_trip(name, format, NonPresent::Migration(fitted));
            } else {
                let bits = format.pfn_bits;
                let refused = Err(EncodeError::PfnTooLarge { pfn, bits });
                prop_assert_eq!(format.encode(NonPresent::Migration(fitted)), refused);
            }
        }
    }

    #[test]
    fn fitting_loses_exactly_what_it_reports(entry in any_entry()) {
        for (_, format) in &FORMATS {
            let (fitted, lost) = format.fit(entry);
            prop_assert_eq!(format.fit(fitted), (fitted, Lost::empty()));
            prop_assert_eq!(fitted == entry, lost.is_empty());
            prop_assert!(entry.flags().contains(fitted.flags()));
            prop_assert!(entry.is_write() || !fitted.is_write());
            let dirty = |entry: MigrationEntry| entry.flags().contains(MigrationFlags::DIRTY);
            prop_assert_eq!(lost.contains(Lost::DIRTY), dirty(entry) && !dirty(fitted));
            prop_assert_eq!(lost.contains(Lost::WRITE), entry.is_write() && !fitted.is_write());
        }
    }
}
