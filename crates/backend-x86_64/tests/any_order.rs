//! Any order of calls, against two plain maps: what each page holds, and what may be done with it.

use std::collections::BTreeMap;

use backend_x86_64::fixture::Shown;
use backend_x86_64::{MapError, Paging};
use migrate_core::invariants::{Held, check_at_rest};
use migrate_core::{LINUX_2_6_17, Lru as _, MODERN};
use mm_types::{Mode, SpaceId, VirtAddr, VmaError, VmaFlags};
use proptest::prelude::*;

mod support;
use support::{Host, Op, READ_WRITE, access, migrate, site, with_kernel};

// Around the edge of a table of entries, so that ranges span two.
const FIRST: u64 = (2 << 20) - 4 * 4096;
const PAGES: u64 = 8;
const SPACES: usize = 5;
/// Slots for spaces that the kernel was lent.
const SPACES_EVER: u32 = 12;

#[derive(Clone, Copy, Debug)]
enum Call {
    Map(usize, u64, u64),
    Unmap(usize, u64, u64),
    Protect(usize, u64, u64, bool),
    Move(usize, u64, u64, u64),
    Store(usize, u64, u64),
    Load(usize, u64),
    Fork(usize),
    Exit(usize),
    Migrate(usize, u64, u64),
}

fn calls() -> impl Strategy<Value = Vec<Call>> {
    let (space, page, pages) = (0..SPACES, 0..PAGES, 1..4u64);
    let range = (space.clone(), page.clone(), pages);
    let call = prop_oneof![
        3 => range.clone().prop_map(|(space, page, pages)| Call::Map(space, page, pages)),
        2 => range.clone().prop_map(|(space, page, pages)| Call::Unmap(space, page, pages)),
        2 => (range.clone(), any::<bool>()).prop_map(|((space, page, pages), write)| Call::Protect(space, page, pages, write)),
        2 => (range.clone(), page.clone()).prop_map(|((space, page, pages), to)| Call::Move(space, page, pages, to)),
        6 => (space.clone(), page.clone(), 1..1000u64).prop_map(|(space, page, value)| Call::Store(space, page, value)),
        3 => (space.clone(), page).prop_map(|(space, page)| Call::Load(space, page)),
        1 => space.clone().prop_map(Call::Fork),
        1 => space.prop_map(Call::Exit),
        3 => range.prop_map(|(space, page, pages)| Call::Migrate(space, page, pages)),
    ];
    proptest::collection::vec(call, 1..60)
}

#[derive(Clone, Copy, Debug)]
struct Cell {
    value: u64,
    write: bool,
}

/// What should be there.
type Plain = BTreeMap<u64, Cell>;

struct Both<'k, 's> {
    kernel: &'k Host<'s>,
    plain: Vec<Option<(SpaceId, Plain)>>,
    node: usize,
}

fn addr(page: u64) -> VirtAddr {
    VirtAddr::new(FIRST + page * 4096)
}

impl Both<'_, '_> {
    fn run(&mut self, call: Call) {
        match call {
            Call::Fork(from) => return self.fork(from),
            Call::Exit(space) if space > 0 => {
                if let Some((id, _)) = self.plain[space].take() {
                    self.kernel.destroy_space(id, ()).unwrap();
                }
                return;
            }
            _ => {}
        }
        let (kernel, node) = (self.kernel, &mut self.node);
        let (Call::Map(n, ..)
        | Call::Unmap(n, ..)
        | Call::Protect(n, ..)
        | Call::Move(n, ..)
        | Call::Store(n, ..)
        | Call::Load(n, ..)
        | Call::Migrate(n, ..)
        | Call::Fork(n)
        | Call::Exit(n)) = call;
        let Some((space, plain)) = &mut self.plain[n] else {
            return;
        };
        let space = *space;
        match call {
            Call::Map(_, page, pages) => {
                let free = plain.range(page..page + pages).next().is_none();
                let mapped = kernel.map_area(space, addr(page), pages, READ_WRITE);
                assert_eq!(mapped.is_ok(), free, "{mapped:?}");
                if free {
                    let fresh = Cell { value: 0, write: true };
                    plain.extend((page..page + pages).map(|page| (page, fresh)));
                }
            }
            Call::Unmap(_, page, pages) => {
                kernel.unmap(space, addr(page), pages, ()).unwrap();
                plain.retain(|at, _| !(page..page + pages).contains(at));
            }
            Call::Protect(_, page, pages, write) => {
                let mut flags = VmaFlags::READ;
                flags.set(VmaFlags::WRITE, write);
                kernel.protect(space, addr(page), pages, flags, ()).unwrap();
                plain
                    .range_mut(page..page + pages)
                    .for_each(|(_, cell)| cell.write = write);
            }
            Call::Move(_, page, pages, to) => {
                let apart = to + pages <= page || page + pages <= to;
                let free = apart && plain.range(to..to + pages).next().is_none();
                let moved = kernel.move_range(space, addr(page), pages, addr(to), ());
                assert_eq!(moved.is_ok(), free, "{moved:?}");
                if free {
                    for at in page..page + pages {
                        if let Some(cell) = plain.remove(&at) {
                            plain.insert(at - page + to, cell);
                        }
                    }
                } else if apart {
                    assert!(matches!(moved, Err(MapError::Area(VmaError::Overlap(_)))), "{moved:?}");
                } else {
                    assert!(matches!(moved, Err(MapError::RangesOverlap { .. })), "{moved:?}");
                }
            }
            Call::Store(_, page, value) => {
                let stored = access(kernel, n % 2, site(space, addr(page).raw()), 0, Op::Store(value), ());
                let cell = plain.get_mut(&page).filter(|cell| cell.write);
                assert_eq!(stored, cell.as_ref().map(|cell| cell.value));
                if let Some(cell) = cell {
                    cell.value = value;
                }
            }
            Call::Load(_, page) => {
                let loaded = access(kernel, n % 2, site(space, addr(page).raw()), 0, Op::Load, ());
                assert_eq!(loaded, plain.get(&page).map(|cell| cell.value));
            }
            Call::Migrate(_, page, pages) => {
                let sites: Vec<_> = (page..page + pages).map(|page| site(space, addr(page).raw())).collect();
                *node = 1 - *node;
                let moved = migrate(kernel, &sites, *node, Mode::Sync, ());
                assert_eq!(moved.refusals, [], "nothing holds them");
            }
            Call::Fork(_) | Call::Exit(_) => {}
        }
    }

    fn fork(&mut self, from: usize) {
        let Some(free) = self.plain.iter().position(Option::is_none) else {
            return;
        };
        let Some((space, plain)) = self.plain[from].clone() else {
            return;
        };
        let child = self.kernel.fork(space, ()).unwrap();
        self.plain[free] = Some((child, plain));
    }

    fn compare(&self) {
        let shown = Shown {
            kernel: self.kernel,
            spaces: SPACES_EVER,
            pages: (FIRST >> 12) + PAGES + 3,
        };
        self.kernel.drain();
        if !cfg!(miri) {
            assert_eq!(check_at_rest(&shown, &Held::default()), Ok(()));
        }
        for (space, plain) in self.plain.iter().flatten() {
            let read = |page| access(self.kernel, 0, site(*space, addr(page).raw()), 0, Op::Load, ());
            for page in 0..PAGES + 3 {
                assert_eq!(
                    read(page),
                    plain.get(&page).map(|cell| cell.value),
                    "page {page} of {space:?}"
                );
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: if cfg!(miri) { 1 } else { ProptestConfig::default().cases }, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_order_of_calls_leaves_what_two_plain_maps_say(calls in calls(), modern in any::<bool>(), five in any::<bool>()) {
        let paging = if five { Paging::Five } else { Paging::Four };
        let profile = if modern { &MODERN } else { &LINUX_2_6_17 };
        with_kernel(192, 2, paging, profile, |kernel| {
            let first = kernel.create_space(None).unwrap();
            let mut plain = vec![None; SPACES];
            plain[0] = Some((first, Plain::new()));
            let mut both = Both { kernel, plain, node: 0 };
            for call in calls {
                both.run(call);
                assert_eq!(kernel.platform().stale(|site| kernel.word(site)), None, "after {call:?}");
            }
            both.compare();
        });
    }
}
