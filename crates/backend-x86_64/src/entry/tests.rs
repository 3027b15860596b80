use super::*;
use mm_types::{MigrationEntry, MigrationFlags, SwapEntry, SwapPteFlags, SwapType};
use proptest::prelude::*;
use std::vec::Vec;

fn flags() -> impl Strategy<Value = PteFlags> {
    (0..=PteFlags::all().bits()).prop_map(PteFlags::from_bits_truncate)
}

fn pfn() -> impl Strategy<Value = Pfn> {
    prop_oneof![0u64..4096, 0u64..1 << 40, Just((1u64 << 40) - 1)].prop_map(Pfn::new)
}

fn migration() -> impl Strategy<Value = MigrationEntry> {
    let make = (0usize..3).prop_map(|n| {
        [
            MigrationEntry::readable,
            MigrationEntry::readable_exclusive,
            MigrationEntry::writable,
        ][n]
    });
    let marks = (0..=MigrationFlags::all().bits()).prop_map(MigrationFlags::from_bits_truncate);
    (make, pfn(), marks).prop_map(|(make, pfn, marks)| make(pfn).with_flags(marks))
}

fn swap() -> impl Strategy<Value = Pte> {
    let entry = (0u8..20, 0u64..(1 << 50) - 1);
    let entry = entry.prop_map(|(ty, offset)| SwapEntry::new(SwapType::new(ty).unwrap(), offset).unwrap());
    let marks = (0..=SwapPteFlags::all().bits()).prop_map(SwapPteFlags::from_bits_truncate);
    (entry, marks).prop_map(|(entry, flags)| Pte::Swap { entry, flags })
}

fn any_pte() -> impl Strategy<Value = Pte> {
    prop_oneof![
        Just(Pte::None),
        (pfn(), flags()).prop_map(|(pfn, flags)| Pte::present(pfn, flags)),
        migration().prop_map(Pte::Migration),
        pfn().prop_map(Pte::Poison),
        swap(),
    ]
}

fn attributes() -> impl Strategy<Value = Attributes> {
    let access = (0u32..8).prop_map(|bits| Attributes::of(VmaFlags::from_bits_truncate(bits)));
    access.boxed()
}

// What a word says, written down bit by bit and by nobody's macro.
fn plainly(pte: Pte, user: bool, no_execute: bool) -> u64 {
    let bit = |set: bool, n: u32| u64::from(set) << n;
    match pte {
        Pte::Present { pfn, flags } => {
            let mut word = 1 | (pfn.raw() * 4096) | bit(user, 2) | bit(no_execute, 63);
            let write = flags.contains(PteFlags::WRITE) && !flags.contains(PteFlags::UFFD_WP);
            word |= bit(write, 1) | bit(flags.contains(PteFlags::YOUNG), 5) | bit(flags.contains(PteFlags::DIRTY), 6);
            word |= bit(flags.contains(PteFlags::UFFD_WP), 10) | bit(flags.contains(PteFlags::SOFT_DIRTY), 11);
            word | bit(flags.contains(PteFlags::EXCLUSIVE), 52)
        }
        Pte::Migration(entry) => {
            let marks = entry.flags();
            let young = bit(marks.contains(MigrationFlags::YOUNG), 40);
            let dirty = bit(marks.contains(MigrationFlags::DIRTY), 41);
            let offset = entry.pfn().raw() | young | dirty;
            let ty: u64 = match entry.kind() {
                mm_types::MigrationKind::Read => 23,
                mm_types::MigrationKind::ReadExclusive => 24,
                mm_types::MigrationKind::Write => 25,
            };
            let inverted = !offset & ((1 << 50) - 1);
            let marks =
                bit(marks.contains(MigrationFlags::SOFT_DIRTY), 1) | bit(marks.contains(MigrationFlags::UFFD_WP), 2);
            (ty << 59) | (inverted << 9) | marks
        }
        _ => unreachable!("not written down here"),
    }
}

proptest! {
    #[test]
    fn every_entry_reads_back(pte in any_pte(), attributes in attributes()) {
        let word = HwEntry::encode(pte, attributes).unwrap();
        let mut expected = pte;
        if let Pte::Present { pfn, flags } = pte {
            // The mark takes the permission: bit 1 is what the CPU sees.
            let write = flags.contains(PteFlags::WRITE) && !flags.contains(PteFlags::UFFD_WP);
            let mut flags = flags;
            flags.set(PteFlags::WRITE, write);
            expected = Pte::present(pfn, flags);
        }
        prop_assert_eq!(word.decode(), Some(expected));
        prop_assert_eq!(word.is_present(), pte.is_present());
        prop_assert_eq!(word.looks_present(), pte.is_present());
        prop_assert_eq!(word.is_none(), pte.is_none());
    }

    #[test]
    fn every_word_is_what_the_tables_in_the_documents_say(
        pte in prop_oneof![
            (pfn(), flags()).prop_map(|(pfn, flags)| Pte::present(pfn, flags)),
            migration().prop_map(Pte::Migration),
        ],
        access in 0u32..8,
    ) {
        let area = VmaFlags::from_bits_truncate(access);
        let word = HwEntry::encode(pte, Attributes::of(area)).unwrap();
        prop_assert_eq!(word.bits(), plainly(pte, access != 0, access & 4 == 0));
    }

    #[test]
    fn an_entry_in_flight_never_looks_present_and_points_nowhere(entry in migration(), phys_bits in 36u32..=52) {
        let word = HwEntry::encode(Pte::Migration(entry), Attributes::of(VmaFlags::READ)).unwrap();
        prop_assert_eq!(word.bits() & (1 << 0 | 1 << 7 | 1 << 8), 0);
        // No frame lies beyond the machine's address bits. Above 49 of them young and dirty are among the bits it looks at; the CPUs
        // that have the fault have 46 at most.
        let reach = 1u64 << phys_bits;
        let nothing_above = if phys_bits <= 49 { reach / 8 * 7 } else { reach / 8 };
        if entry.pfn().raw() < reach >> 12 {
            prop_assert!(word.l1tf_address(phys_bits).raw() >= nothing_above);
        }
    }

    #[test]
    fn a_word_that_goes_on_mapping_its_frame_keeps_what_the_logical_entry_does_not_know(
        frame in pfn(), before in flags(), after in flags(), other in any::<u64>(),
    ) {
        let kept = HwBits::from_bits_truncate(other) & HwBits::ATTRIBUTES;
        let attributes = Attributes::of(VmaFlags::READ);
        let word = HwEntry::encode(Pte::present(frame, before), attributes).unwrap();
        let word = HwEntry::from_bits(word.bits() & !HwBits::ATTRIBUTES.bits() | kept.bits());
        let to = word.replaced_by(Pte::present(frame, after), attributes).unwrap();
        prop_assert_eq!(to.hw_bits() & HwBits::ATTRIBUTES, kept);
        prop_assert_eq!(to.frame(), frame);
    }

    #[test]
    fn only_a_change_that_allows_more_goes_without_a_flush(frame in pfn(), before in flags(), after in flags()) {
        let attributes = Attributes::of(VmaFlags::READ);
        let word = |flags| HwEntry::encode(Pte::present(frame, flags), attributes).unwrap();
        let (before, after) = (word(before), word(after));
        let lost = before.hw_bits().difference(after.hw_bits());
        let matters = HwBits::WRITE | HwBits::ACCESSED | HwBits::DIRTY;
        prop_assert_eq!(before.needs_flush(after), lost.intersects(matters));
        prop_assert!(before.needs_flush(HwEntry::NONE));
        prop_assert!(!HwEntry::NONE.needs_flush(after));
    }
}

#[test]
fn who_may_execute_or_use_a_page_matters_to_a_translation() {
    let word = |area| HwEntry::encode(Pte::present(Pfn::new(3), PteFlags::YOUNG), Attributes::of(area)).unwrap();
    let (nothing, read, all) = (
        word(VmaFlags::empty()),
        word(VmaFlags::READ),
        word(VmaFlags::READ | VmaFlags::EXEC),
    );
    assert!(!nothing.hw_bits().contains(HwBits::USER));
    assert!(read.needs_flush(nothing) && !nothing.needs_flush(read));
    assert!(all.needs_flush(read) && !read.needs_flush(all));
    assert_eq!(read.with_attributes(Attributes::of(VmaFlags::empty())), nothing);
    assert_eq!(
        HwEntry::NONE.with_attributes(Attributes::of(VmaFlags::READ)),
        HwEntry::NONE
    );
}

#[test]
fn words_of_others_are_not_decoded() {
    let special = 1 | 1 << 9;
    let prot_none = 1 << 8 | 5 << 12;
    let device = 27u64 << 59;
    let words: Vec<_> = [special, prot_none, device, 1 << 4]
        .map(|word| HwEntry::from_bits(word).decode())
        .to_vec();
    assert_eq!(words, [None; 4]);
}

#[test]
fn what_does_not_fit_is_refused() {
    let large = Pfn::new(1 << 40);
    let attributes = Attributes::default();
    assert_eq!(
        HwEntry::encode(Pte::present(large, PteFlags::empty()), attributes),
        Err(EntryError::FrameTooLarge(large))
    );
    assert!(matches!(
        HwEntry::encode(Pte::Migration(MigrationEntry::readable(large)), attributes),
        Err(EntryError::Format(_))
    ));
    assert_eq!(
        HwEntry::encode(Pte::File { offset: 1 }, attributes),
        Err(EntryError::NoFileEntries)
    );
    assert_eq!(HwEntry::table(large), None);
}
