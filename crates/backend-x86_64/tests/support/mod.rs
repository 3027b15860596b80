//! A kernel over a machine of ordinary memory, and what tests do with it: areas, accesses with their faults, and runs.
//!
//! The machine: frames and threads that sleep (`machine.rs`), CPUs that walk the tables and keep stale translations (`cpu.rs`).

#![allow(dead_code, clippy::allow_attributes, reason = "each test file uses a part of it")]

use std::collections::VecDeque;

mod cpu;
pub(crate) mod fixture;
mod machine;

use backend_x86_64::{Kernel, Paging, Space, Storage};
use migrate_core::{
    Args, FromFn, Isolated, Lru as _, MODERN, PageRef, Profile, Slot, Tally, UsesPageMap, isolate_lru_page,
    migrate_pages, migrate_prep, putback_lru_pages,
};
use mm_types::trace::Observer;
use mm_types::{
    ActorId, AnonVma, AnonVmaLink, Mode, Outcome, Page, PageMap, Pfn, Pte, Reason, Refusal, Site, SpaceId, VirtAddr,
    VmaFlags, VmaSlot,
};

pub(crate) use cpu::Op;
pub(crate) use machine::BASE;
use machine::Machine;

pub(crate) type Host<'s> = Kernel<'s, Machine>;

#[cfg(not(miri))]
pub(crate) const PROFILES: [&Profile; 2] = [&migrate_core::LINUX_2_6_17, &MODERN];
// Miri looks at memory, and slowly: the other rules are in the storm's tests.
#[cfg(miri)]
pub(crate) const PROFILES: [&Profile; 1] = [&MODERN];
pub(crate) const READ_WRITE: VmaFlags = VmaFlags::READ
    .union(VmaFlags::WRITE)
    .union(VmaFlags::MAYREAD)
    .union(VmaFlags::MAYWRITE);

/// Runs `f` on a kernel over a machine of `frames` frames and `cpus` CPUs; then everything must be free again once `f` has
/// destroyed its spaces.
pub(crate) fn with_kernel(
    frames: usize,
    cpus: usize,
    paging: Paging,
    profile: &'static Profile,
    f: impl FnOnce(&Host<'_>),
) {
    let pages: Box<[Page]> = (0..frames).map(|_| Page::new()).collect();
    let spaces: Box<[Space]> = (0..12).map(|_| Space::new()).collect();
    let (mut vmas, mut roots, mut links) = (
        [VmaSlot::default(); 96],
        [AnonVma::default(); 96],
        [AnonVmaLink::default(); 96],
    );
    let storage = Storage {
        pages: PageMap::new(BASE, &pages),
        spaces: &spaces,
        vmas: &mut vmas,
        anon_vmas: &mut roots,
        links: &mut links,
    };
    let kernel = Kernel::new(Machine::new(frames, cpus, paging), paging, profile, storage);
    f(&kernel);
    kernel.drain();
    for (id, space) in (0..).zip(&spaces) {
        if space.root().is_some() {
            assert_eq!(kernel.destroy_space(SpaceId::new(id), ()), Ok(()));
        }
        assert!(!space.is_pending(), "a gather of {id} was never flushed");
        assert_eq!(space.rss(), 0);
    }
    kernel.drain();
    assert_eq!(kernel.platform().free_frames().len(), frames, "a frame leaked");
    for page in &pages {
        assert_eq!((page.count(), page.mapcount()), (0, 0));
    }
}

/// The page at `addr` of `space`.
pub(crate) fn site(space: SpaceId, addr: u64) -> Site {
    Site::new(space, VirtAddr::new(addr).vpn())
}

/// Where tests have their pages.
pub(crate) const AT: u64 = 0x40_0000;

pub(crate) fn addr(page: u64) -> VirtAddr {
    VirtAddr::new(AT + page * 4096)
}

pub(crate) fn area(kernel: &Host<'_>, space: SpaceId, pages: u64) {
    kernel.map_area(space, addr(0), pages, READ_WRITE).unwrap();
}

pub(crate) fn at(space: SpaceId, page: u64) -> Site {
    site(space, AT + page * 4096)
}

/// One access with its faults; `None` where it is not allowed.
pub(crate) fn access<O: Observer>(
    kernel: &Host<'_>,
    cpu: usize,
    at: Site,
    word: usize,
    op: Op,
    observer: O,
) -> Option<u64> {
    let root = kernel.space(at.space).unwrap().root().unwrap();
    let addr = at.page.addr().unwrap();
    loop {
        match kernel.platform().access(cpu, root, at.space, at.page, word, op) {
            Ok(value) => return Some(value),
            Err(code) => {
                let actor = ActorId::new(u32::try_from(cpu).unwrap() + 1);
                let handled = kernel.page_fault(at.space, addr, code, actor, observer);
                match handled {
                    Ok(_) => {}
                    Err(backend_x86_64::FaultError::NotAllowed) => return None,
                    Err(error) => panic!("{at:?}: {error}"),
                }
            }
        }
    }
}

pub(crate) fn load(kernel: &Host<'_>, at: Site) -> u64 {
    access(kernel, 0, at, 0, Op::Load, ()).expect("it may be read")
}

pub(crate) fn store(kernel: &Host<'_>, at: Site, value: u64) {
    access(kernel, 0, at, 0, Op::Store(value), ()).expect("it may be written");
}

pub(crate) fn frame_of(kernel: &Host<'_>, at: Site) -> Pfn {
    match kernel.entry(at) {
        Pte::Present { pfn, .. } => pfn,
        other => panic!("{at:?} is {other}"),
    }
}

/// What a run came to, page by page.
#[derive(Debug, Default)]
pub(crate) struct Moved {
    pub(crate) tally: Tally,
    pub(crate) refusals: Vec<Refusal>,
}

/// Moves the pages at `sites` to node `to`; pages that stayed are put back.
pub(crate) fn migrate<O: Observer>(kernel: &Host<'_>, sites: &[Site], to: usize, mode: Mode, observer: O) -> Moved {
    migrate_prep(kernel);
    let mut from: VecDeque<Isolated<PageRef>> = VecDeque::new();
    for at in sites {
        let pfn = kernel.entry(*at).pfn();
        let Some(page) = pfn.and_then(|pfn| PageRef::get(kernel.page_map(), pfn)) else {
            continue;
        };
        from.extend(isolate_lru_page(kernel, &page, observer));
        migrate_core::Frames::put(kernel, page);
    }
    let mut failed = VecDeque::new();
    let mut slots: Vec<Slot<Host<'_>>> = (0..sites.len().clamp(1, 512)).map(|_| Slot::new()).collect();
    let mut moved = Moved::default();
    let args = Args {
        from: &mut from,
        target: FromFn {
            take: |_: &PageRef| {
                let pfn = kernel.platform().take_from(to).ok_or(Refusal::NoTarget)?;
                PageRef::allocate(kernel.page_map(), pfn).ok_or(Refusal::NoTarget)
            },
            give_back: |page| migrate_core::Frames::put(kernel, page),
        },
        moved: None,
        failed: &mut failed,
        slots: &mut slots,
        profile: kernel.profile(),
        mode,
        reason: Reason::Compaction,
        outcome: &mut |_, outcome| {
            if let Outcome::Refused(refusal) | Outcome::Retry(refusal) = outcome {
                moved.refusals.push(refusal);
            }
        },
        observer,
    };
    moved.tally = migrate_pages(kernel, args).expect("slots were lent");
    putback_lru_pages(kernel, &mut from, observer);
    putback_lru_pages(kernel, &mut failed, observer);
    kernel.drain();
    moved
}
