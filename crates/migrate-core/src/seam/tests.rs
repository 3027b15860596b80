//! A backend that says no more than it must: anonymous pages move, and everything else is not there.

#![cfg(feature = "model")]

use std::vec::Vec;

use core::ops::ControlFlow;

use mm_types::{ActorId, CountMismatch, Mapping, Mode, NodeId, PageFlags, Pfn, Reason, Refusal, Site, SpaceId, Vpn};

use super::{Cache, CopyError, Frames, Lru, Mover, Rmap, Visit, Wait, WriteError, Written};
use crate::model::{Access, Config, Gather, Model, Op};
use crate::{Isolated, LINUX_2_6_17, LockedPage, MODERN, OnePage, PageRef, Pair, Profile, migrate_page};

const ME: ActorId = ActorId::new(0);

/// The required methods are the model's, the provided ones the seam's.
struct Least(Model);

impl Frames for Least {
    type Page = PageRef;
    type Locked = LockedPage;

    fn pfn(&self, page: &PageRef) -> Pfn {
        Frames::pfn(&self.0, page)
    }

    fn page<'l>(&self, locked: &'l LockedPage) -> &'l PageRef {
        Frames::page(&self.0, locked)
    }

    fn count(&self, page: &PageRef) -> u32 {
        Frames::count(&self.0, page)
    }

    fn get(&self, pfn: Pfn) -> Option<PageRef> {
        Frames::get(&self.0, pfn)
    }

    fn put(&self, page: PageRef) {
        Frames::put(&self.0, page);
    }

    fn try_lock(&self, page: PageRef) -> Result<LockedPage, PageRef> {
        Frames::try_lock(&self.0, page)
    }

    fn unlock(&self, locked: LockedPage) -> PageRef {
        Frames::unlock(&self.0, locked)
    }

    fn flags(&self, page: &PageRef) -> PageFlags {
        Frames::flags(&self.0, page)
    }

    fn edit_flags(&self, locked: &LockedPage, set: PageFlags, clear: PageFlags) -> PageFlags {
        Frames::edit_flags(&self.0, locked, set, clear)
    }

    fn mapping(&self, page: &PageRef) -> Mapping {
        Frames::mapping(&self.0, page)
    }

    fn adopt(&self, new: &LockedPage, old: &LockedPage) {
        Frames::adopt(&self.0, new, old);
    }

    fn disown(&self, locked: &LockedPage) {
        Frames::disown(&self.0, locked);
    }

    fn freeze(&self, locked: &LockedPage, expected: u32) -> Result<(), CountMismatch> {
        Frames::freeze(&self.0, locked, expected)
    }

    fn unfreeze(&self, locked: &LockedPage, count: u32) {
        Frames::unfreeze(&self.0, locked, count);
    }

    fn copy(&self, pair: Pair<'_, LockedPage>) -> Result<(), CopyError> {
        Frames::copy(&self.0, pair)
    }
}

impl Rmap for Least {
    type Gather = Gather;

    fn gather(&self) -> Gather {
        self.0.gather()
    }

    fn walk(&self, page: &LockedPage, gather: &mut Gather, visit: &mut Visit<'_>) {
        self.0.walk(page, gather, visit);
    }

    fn flush(&self, gather: Gather) {
        self.0.flush(gather);
    }

    fn flush_pending(&self, space: SpaceId) {
        self.0.flush_pending(space);
    }

    fn is_mapped(&self, page: &LockedPage) -> bool {
        self.0.is_mapped(page)
    }
}

impl Cache for Least {}

impl Lru for Least {
    fn isolate(&self, page: &PageRef) -> Result<PageRef, Refusal> {
        Lru::isolate(&self.0, page)
    }

    fn putback(&self, page: PageRef) {
        Lru::putback(&self.0, page);
    }
}

impl Wait for Least {
    fn lock(&self, page: PageRef) -> LockedPage {
        Wait::lock(&self.0, page)
    }

    fn wait_writeback(&self, page: &LockedPage) {
        Wait::wait_writeback(&self.0, page);
    }
}

/// A written page of its own, on the LRU.
fn one_page(profile: &'static Profile) -> (Least, Site, Pfn) {
    let model = Model::new(Config {
        profile,
        ..Config::default()
    });
    let site = Site::new(model.new_space(), Vpn::new(3));
    model.map_anon(site, 1);
    assert_eq!(model.access(ME, site, Op::Write(7), ()), Access::Done(7));
    let pfn = model.pte(site).pfn().unwrap();
    let least = Least(model);
    // What lacks a `drain` has no staging that would need one: this one's pages come from another's.
    least.drain();
    Lru::drain(&least.0);
    (least, site, pfn)
}

#[test]
fn its_anonymous_pages_move() {
    for profile in [&MODERN, &LINUX_2_6_17] {
        let (least, site, pfn) = one_page(profile);
        let page: Isolated<PageRef> = least.0.isolate(pfn, ()).unwrap();
        let new = least.0.allocate(NodeId::new(1)).unwrap();
        let to = new.pfn();
        let done = migrate_page(&least, page, new, profile, Mode::Sync, Reason::SyscallOrCpuset, ()).unwrap();
        let OnePage::Moved { old } = done else {
            panic!("{done:?}")
        };
        assert_eq!(crate::putback_lru_pages(&least, &mut Some(old), ()), 1);
        Lru::drain(&least.0);
        assert_eq!(least.0.pte(site).pfn(), Some(to));
        assert_eq!(least.0.access(ME, site, Op::Read, ()), Access::Done(7));
        least.0.check(&[]).unwrap();
    }
}

#[test]
fn it_has_no_cache_no_buffers_no_pins_and_writes_nothing() {
    let (least, _, pfn) = one_page(&MODERN);
    let page = least.get(pfn).unwrap();
    assert_eq!(least.pins(&page), 0);
    assert_eq!(least.entries_out(pfn, 1), None);
    let page = least.try_lock(page).unwrap();
    let mut gather = least.gather();
    assert_eq!(least.reserve(&page, None, &mut gather), Ok(()));
    least.walk_nonlinear(&page, &mut gather, &mut |_| panic!("no entry is out of order"));
    let mut sites = Vec::new();
    least.walk(&page, &mut gather, &mut |entry| {
        sites.push(entry.site());
        assert_eq!(super::Entry::vma(&Plain), super::EntryVma::PLAIN);
        ControlFlow::Continue(())
    });
    assert_eq!(sites.len(), 1);
    least.flush(gather);
    assert_eq!((least.slots(&page), least.swap_entry(&page)), (0, None));
    assert_eq!(least.mover(&page), Mover::Plain);
    assert_eq!(least.try_lock_buffers(&page), Ok(()));
    assert!(!least.release_buffers(&page) && !least.can_write(&page));
    let page = least.unlock(page);
    least.put(page);
}

#[test]
fn its_pages_are_dirty_and_under_writeback_by_their_flags_alone() {
    let (least, _, pfn) = one_page(&MODERN);
    let flags = || least.0.page(pfn).flags().load();
    let page = least.try_lock(least.get(pfn).unwrap()).unwrap();
    least.edit_flags(&page, PageFlags::empty(), PageFlags::DIRTY);
    assert!(!least.clear_dirty_for_io(&page));
    least.set_dirty(&page);
    assert!(flags().contains(PageFlags::DIRTY));
    assert!(least.clear_dirty_for_io(&page));
    assert!(!flags().contains(PageFlags::DIRTY));
    least.edit_flags(&page, PageFlags::WRITEBACK, PageFlags::empty());
    least.end_writeback(&page);
    assert!(!flags().contains(PageFlags::WRITEBACK));
    // What cannot be written is dirty as before, and locked.
    let Written::Locked(page, result) = least.writeout(page) else {
        panic!("nobody unlocked it")
    };
    assert_eq!(result, Err(WriteError));
    assert!(flags().contains(PageFlags::DIRTY | PageFlags::LOCKED));
    let page = least.unlock(page);
    least.put(page);
}

#[test]
fn putting_back_directly_is_putting_back() {
    let (least, _, pfn) = one_page(&MODERN);
    let page = least.get(pfn).unwrap();
    let isolated = least.isolate(&page).unwrap();
    assert_eq!(least.isolate(&page), Err(Refusal::NotOnLru));
    least.putback_direct(isolated);
    least.put(page);
    Lru::drain(&least.0);
    least.0.check(&[]).unwrap();
}

/// An entry whose VMA nothing is known of.
struct Plain;

impl super::Entry for Plain {
    fn site(&self) -> Site {
        Site::new(SpaceId::new(0), Vpn::new(0))
    }

    fn read(&self) -> mm_types::Pte {
        mm_types::Pte::None
    }

    fn update(&mut self, _: &dyn Fn(mm_types::Pte) -> Option<mm_types::Pte>) -> Option<super::Edited> {
        None
    }
}
