//! Edits of a page-table entry never widen a permission, and its text reads back.
//!
//! Random sequences of edits run against a two-bit reference: what the mapping may still do, whatever
//! its entry says.

use mm_types::{
    EntryFormat, EntryStyle, MigrationEntry, MigrationFlags, MigrationKind, NonPresent, Pfn, Pte, PteFlags, Restore,
    SwapEntry, SwapPteFlags, SwapType,
};
use proptest::prelude::{Just, ProptestConfig, Strategy, any, prop_oneof};
use proptest::{prop_assert, prop_assert_eq, proptest};

const KINDS: [fn(Pfn) -> MigrationEntry; 3] = [
    MigrationEntry::readable,
    MigrationEntry::readable_exclusive,
    MigrationEntry::writable,
];
const OLD: Pfn = Pfn::new(0x40);

/// One thing that happens to an entry: the reader edits, the two migration edits, and the packing.
#[derive(Clone, Copy, Debug)]
enum Edit {
    Install,
    Restore { vma_may_write: bool, page_dirty: bool },
    Fork { cow: bool, into_child: bool },
    Protect { allow_write: bool },
    Pack,
}

fn edit() -> impl Strategy<Value = Edit> {
    prop_oneof![
        3 => Just(Edit::Install),
        3 => (any::<bool>(), any::<bool>())
            .prop_map(|(vma_may_write, page_dirty)| Edit::Restore { vma_may_write, page_dirty }),
        1 => (any::<bool>(), any::<bool>()).prop_map(|(cow, into_child)| Edit::Fork { cow, into_child }),
        1 => any::<bool>().prop_map(|allow_write| Edit::Protect { allow_write }),
        2 => Just(Edit::Pack),
    ]
}

fn pte_flags() -> impl Strategy<Value = PteFlags> {
    (0..=PteFlags::all().bits()).prop_map(PteFlags::from_bits_truncate)
}

fn style() -> impl Strategy<Value = EntryStyle> {
    prop_oneof![Just(EntryStyle::Lossy), Just(EntryStyle::Lossless)]
}

fn any_entry() -> impl Strategy<Value = MigrationEntry> {
    (any::<u64>(), 0..KINDS.len(), 0..=MigrationFlags::all().bits())
        .prop_map(|(pfn, kind, flags)| KINDS[kind](Pfn::new(pfn)).with_flags(MigrationFlags::from_bits_truncate(flags)))
}

/// What a kernel can hold of an anonymous or file page: writable and anonymous means exclusive, a
/// watched page is not writable, a file page is nobody's alone.
fn plausible(flags: PteFlags, anon: bool) -> PteFlags {
    let mut flags = flags;
    if flags.contains(PteFlags::UFFD_WP) {
        flags.remove(PteFlags::WRITE);
    }
    flags.set(
        PteFlags::EXCLUSIVE,
        anon && flags.intersects(PteFlags::EXCLUSIVE | PteFlags::WRITE),
    );
    flags
}

fn pack(format: &EntryFormat, pte: Pte) -> Pte {
    match pte.migration() {
        Some(entry) => {
            let word = format.encode(NonPresent::Migration(format.fit(entry).0)).unwrap();
            format.decode(word).unwrap().into()
        }
        None => pte,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 1024, ..ProptestConfig::default() })]

    #[test]
    fn taking_write_away_twice_is_taking_it_away_once(entry in any_entry()) {
        prop_assert_eq!(entry.make_read().make_read(), entry.make_read());
        prop_assert_eq!(entry.make_read_exclusive().make_read(), entry.make_read());
        prop_assert_eq!(entry.make_read().make_read_exclusive(), entry.make_read());
        prop_assert_eq!((entry.make_read().pfn(), entry.make_read().flags()), (entry.pfn(), entry.flags()));
    }

    #[test]
    fn a_lossless_entry_brings_the_whole_mapping_back(flags in pte_flags(), anon in any::<bool>(), dirty in any::<bool>()) {
        let before = Pte::present(OLD, plausible(flags, anon));
        let style = EntryStyle::Lossless;
        let entry = pack(&EntryFormat::X86_64, before.install_migration(OLD, style).unwrap());
        let to = Restore { old: OLD, new: OLD, vma_may_write: true, anon, page_dirty: dirty, style };
        let mut expected = before.flags();
        expected.set(PteFlags::DIRTY, dirty && before.dirty());
        prop_assert_eq!(entry.restore(to), Some(Pte::present(OLD, expected)));
    }

    #[test]
    fn a_2006_entry_comes_back_old_and_clean(flags in pte_flags(), anon in any::<bool>(), page_dirty in any::<bool>()) {
        let before = Pte::present(OLD, plausible(flags, anon));
        let style = EntryStyle::Lossy;
        let to = Restore { old: OLD, new: Pfn::new(0x41), vma_may_write: true, anon, page_dirty, style };
        let installed = before.install_migration(OLD, style).unwrap();
        let (_, lost) = EntryFormat::X86_64_2_6_17.fit(installed.migration().unwrap());
        prop_assert!(lost.is_empty());
        let after = pack(&EntryFormat::X86_64_2_6_17, installed).restore(to).unwrap();
        prop_assert_eq!(after, Pte::present(to.new, before.flags() & PteFlags::WRITE));
    }

    #[test]
    fn no_sequence_of_edits_widens_a_permission(
        flags in pte_flags(),
        anon in any::<bool>(),
        style in style(),
        tight in any::<bool>(),
        edits in proptest::collection::vec(edit(), 0..40),
    ) {
        let format = if tight { EntryFormat::X86_64_2_6_17 } else { EntryFormat::X86_64 };
        let mut pte = Pte::present(OLD, plausible(flags, anon));
        // The reference: what the mapping may still do, whatever the entry says.
        let (mut may_write, mut exclusive) = (pte.writable(), pte.flags().contains(PteFlags::EXCLUSIVE));
        for edit in edits {
            let in_flight = pte.is_migration();
            pte = match edit {
                Edit::Install => pte.install_migration(OLD, style).unwrap_or(pte),
                Edit::Restore { vma_may_write, page_dirty } => {
                    may_write &= vma_may_write || !in_flight;
                    let to = Restore { old: OLD, new: OLD, vma_may_write, anon, page_dirty, style };
                    pte.restore(to).unwrap_or(pte)
                }
                Edit::Fork { cow, into_child } => {
                    (may_write, exclusive) = (may_write && !cow, exclusive && !cow);
                    let (parent, child) = pte.fork_copy(cow);
                    prop_assert_eq!(parent.writable(), child.writable());
                    if into_child { child } else { parent }
                }
                Edit::Protect { allow_write } => {
                    may_write &= allow_write && !in_flight;
                    pte.protect(allow_write, anon, style)
                }
                Edit::Pack => pack(&format, pte),
            };
            let entry = pte.migration();
            let grants = pte.writable() || entry.is_some_and(MigrationEntry::is_write);
            prop_assert!(may_write || !grants, "{pte} after {edit:?}");
            let claims = pte.flags().contains(PteFlags::EXCLUSIVE)
                || entry.is_some_and(|entry| entry.kind() == MigrationKind::ReadExclusive);
            prop_assert!(exclusive || !claims, "{pte} after {edit:?}");
            prop_assert_eq!(pte.pfn(), Some(OLD));
        }
    }

    #[test]
    fn the_text_of_an_entry_reads_back(
        flags in pte_flags(), entry in any_entry(), ty in 0u8..32, offset in 0..=SwapEntry::MAX_OFFSET, marks in 0u8..8,
    ) {
        let swap = SwapEntry::new(SwapType::new(ty).unwrap(), offset).unwrap();
        let ptes = [
            Pte::None,
            Pte::present(entry.pfn(), flags),
            Pte::Migration(entry),
            Pte::Swap { entry: swap, flags: SwapPteFlags::from_bits_truncate(marks) },
            Pte::File { offset },
            Pte::Poison(entry.pfn()),
        ];
        for pte in ptes {
            let text = pte.to_string();
            prop_assert!(!text.contains(' '));
            prop_assert_eq!(Pte::parse(&text, pte.pfn()), Ok(pte));
        }
    }

    #[test]
    fn text_that_reads_prints_the_same(text in "(none|ro|rw|read|write|read-exclusive|swap:[0-9]{1,2}:0x[0-9a-f]{1,3}|file:0x[0-9a-f]{1,3}|poison)(\\+(young|dirty|soft-dirty|uffd-wp|exclusive)){0,3}") {
        if let Ok(pte) = Pte::parse(&text, OLD) {
            prop_assert_eq!(pte.to_string(), text);
        }
    }
}
