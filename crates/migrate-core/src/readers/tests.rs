//! What a reader makes of an entry of any kind.

#![cfg(feature = "model")]

use core::cell::Cell;

use mm_types::{MigrationEntry, Pfn, Pte, PteFlags, Site, SpaceId, SwapEntry, SwapPteFlags, SwapType, Vpn};

use super::Readers;
use crate::model::{Config, Model};
use crate::{Edited, Entry};

const PAGE: Pfn = Pfn::new(5);

/// An entry in nobody's page table; the hardware may set a bit in it between a look and an exchange.
struct Slot {
    pte: Cell<Pte>,
    set_meanwhile: PteFlags,
    stores: Cell<u32>,
}

impl Slot {
    const fn new(pte: Pte) -> Self {
        Self {
            pte: Cell::new(pte),
            set_meanwhile: PteFlags::empty(),
            stores: Cell::new(0),
        }
    }
}

impl Entry for Slot {
    fn site(&self) -> Site {
        Site::new(SpaceId::new(0), Vpn::new(1))
    }

    fn read(&self) -> Pte {
        self.pte.get()
    }

    fn update(&mut self, edit: &dyn Fn(Pte) -> Option<Pte>) -> Option<Edited> {
        if let Pte::Present { pfn, flags } = self.pte.get() {
            self.pte.set(Pte::present(pfn, flags | self.set_meanwhile));
        }
        let before = self.pte.get();
        let after = edit(before)?;
        self.pte.set(after);
        self.stores.set(self.stores.get() + 1);
        Some(Edited { before, after })
    }
}

fn swap(offset: u64) -> SwapEntry {
    SwapEntry::new(SwapType::new(3).unwrap(), offset).unwrap()
}

/// An entry of each kind that there is.
fn every_kind() -> [Pte; 6] {
    [
        Pte::present(PAGE, PteFlags::WRITE),
        Pte::Migration(MigrationEntry::readable(PAGE)),
        Pte::Swap {
            entry: swap(0x10),
            flags: SwapPteFlags::empty(),
        },
        Pte::File { offset: 4 },
        Pte::Poison(PAGE),
        Pte::None,
    ]
}

fn with_readers(test: impl FnOnce(&Readers<'_, Model, ()>)) {
    let model = Model::new(Config::default());
    let space = model.new_space();
    test(&Readers::begin(&model, space, ()));
}

#[test]
fn a_bit_that_the_hardware_sets_while_an_entry_moves_goes_with_it() {
    with_readers(|readers| {
        for set in [PteFlags::empty(), PteFlags::YOUNG, PteFlags::YOUNG | PteFlags::DIRTY] {
            let mut from = Slot::new(Pte::present(PAGE, PteFlags::WRITE));
            from.set_meanwhile = set;
            let mut to = Slot::new(Pte::None);
            assert!(readers.relocate(&mut from, &mut to));
            assert_eq!(to.read(), Pte::present(PAGE, PteFlags::WRITE | set));
            assert_eq!(from.read(), Pte::None);
        }
    });
}

#[test]
fn an_entry_of_any_kind_moves_to_an_empty_one_and_onto_no_other() {
    with_readers(|readers| {
        for source in every_kind() {
            for target in every_kind() {
                let (mut from, mut to) = (Slot::new(source), Slot::new(target));
                let moves = !source.is_none() && target.is_none();
                assert_eq!(readers.relocate(&mut from, &mut to), moves, "{source} to {target}");
                let after = if moves { (Pte::None, source) } else { (source, target) };
                assert_eq!((from.read(), to.read()), after, "{source} to {target}");
                let stores = u32::from(moves);
                assert_eq!((from.stores.get(), to.stores.get()), (stores, stores));
            }
        }
    });
}

#[test]
fn swapoff_finds_the_entry_of_its_slot_and_takes_no_other_for_it() {
    with_readers(|readers| {
        for pte in every_kind() {
            let is_it = matches!(pte, Pte::Swap { .. });
            assert_eq!(readers.is_swap_of(&Slot::new(pte), swap(0x10)), is_it, "{pte}");
            assert!(!readers.is_swap_of(&Slot::new(pte), swap(0x11)), "{pte}");
        }
    });
}

#[test]
fn aging_forgets_the_use_of_a_present_entry_once_and_looks_at_no_other() {
    with_readers(|readers| {
        let mut used = Slot::new(Pte::present(PAGE, PteFlags::YOUNG | PteFlags::DIRTY));
        assert!(readers.referenced(&mut used));
        assert_eq!(used.read(), Pte::present(PAGE, PteFlags::DIRTY));
        assert!(!readers.referenced(&mut used));
        for pte in every_kind() {
            let mut slot = Slot::new(pte);
            assert!(!readers.referenced(&mut slot), "{pte}");
            assert_eq!(slot.read(), pte);
        }
    });
}

#[test]
fn who_counts_sees_the_frame_of_what_is_mapped_or_in_flight() {
    with_readers(|readers| {
        let seen = every_kind().map(|pte| readers.residence(&Slot::new(pte)));
        let entry = MigrationEntry::readable(PAGE);
        assert_eq!(seen[..2], [Some((PAGE, None)), Some((PAGE, Some(entry)))]);
        assert_eq!(seen[2..4], [None, None]);
        assert_eq!(seen[5], None);
    });
}
