//! What scenarios need of the toy kernel beyond the seam: an allocator, system calls, and a program that uses the pages.

use core::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::sync::Arc;

use migrate_core::fixture::{Capabilities, Fixture, FixtureError, Recording};
use migrate_core::{Entry, Faults, Frames, Lru, Profile, Readers, conformance};
use mm_types::trace::{Event, Observer};
use mm_types::{AnonVmaId, EntryStyle, Mapping, PageFlags, Pfn, Pte, PteFlags, Site, SpaceId, Vpn};

use super::{Page, Ref, Slot, Toy};

// What the kit asks for, and no more.
pub(super) const SOURCE: usize = conformance::FRAMES;
pub(super) const TARGET: usize = conformance::FRAMES;
pub(super) const SPACES: usize = conformance::SPACES as usize;
pub(super) const PAGES: usize = conformance::PAGES as usize;
pub(super) type Kernel = Toy<{ SOURCE + TARGET }, SPACES, PAGES>;

/// One CPU cannot sleep and let another go on: it looks once.
impl<const F: usize, const S: usize, const P: usize> Faults for Toy<F, S, P> {
    fn wait_on(&self, site: Site, look: &mut dyn FnMut(Pte) -> Option<Pfn>) {
        look(self.pte(site).get());
    }
}

impl Kernel {
    pub(super) fn boot() -> Self {
        Self {
            pages: core::array::from_fn(|_| Page::default()),
            tables: core::array::from_fn(|_| core::array::from_fn(|_| Cell::new(Pte::None))),
            shared: core::array::from_fn(|_| core::array::from_fn(|_| Cell::new(false))),
        }
    }

    pub(super) fn allocate(&self, node: core::ops::Range<usize>) -> Option<Ref> {
        let free = node.into_iter().find(|page| self.pages[*page].count.get() == 0)?;
        let page = &self.pages[free];
        page.flags.take();
        page.owner.take();
        page.index.take();
        page.contents.take();
        Some(self.hold(free))
    }

    pub(super) fn slot(&self, site: Site) -> Slot<'_, { SOURCE + TARGET }, SPACES, PAGES> {
        Slot(self, site)
    }
}

/// The kernel, and a program in it.
pub(super) struct Board {
    pub(super) kernel: Kernel,
    spaces: Cell<u32>,
    vmas: RefCell<BTreeMap<Site, bool>>,
    style: Cell<EntryStyle>,
    recording: Option<Arc<Recording>>,
}

impl Board {
    pub(super) fn new() -> Self {
        Self {
            kernel: Kernel::boot(),
            spaces: Cell::new(0),
            vmas: RefCell::default(),
            style: Cell::new(EntryStyle::Lossless),
            recording: None,
        }
    }

    fn vma(&self, site: Site) -> Option<bool> {
        self.vmas.borrow().get(&site).copied()
    }

    fn shared(&self, site: Site) -> &Cell<bool> {
        &self.kernel.shared[site.space.raw() as usize][site.page.raw() as usize]
    }

    fn readers<R>(&self, space: SpaceId, act: impl FnOnce(&dyn Calls) -> R) -> R {
        match &self.recording {
            Some(recording) => act(&Readers::begin(&self.kernel, space, &**recording)),
            None => act(&Readers::begin(&self.kernel, space, ())),
        }
    }

    fn map(&self, site: Site, pfn: Pfn, write: bool, alone: bool) {
        let mut flags = PteFlags::empty();
        flags.set(PteFlags::WRITE, write);
        flags.set(PteFlags::EXCLUSIVE, alone && self.style.get() == EntryStyle::Lossless);
        self.kernel.slot(site).update(&|_| Some(Pte::present(pfn, flags)));
    }
}

/// What the system calls do to entries, whoever records it.
trait Calls {
    fn copy(&self, parent: &mut dyn Entry, child: &mut dyn Entry, cow: bool);
    fn protect(&self, entry: &mut dyn Entry, write: bool, style: EntryStyle);
    fn zap(&self, entry: &mut dyn Entry);
}

impl<O: Observer> Calls for Readers<'_, Kernel, O> {
    fn copy(&self, parent: &mut dyn Entry, child: &mut dyn Entry, cow: bool) {
        Readers::copy(self, parent, child, cow);
    }
    fn protect(&self, entry: &mut dyn Entry, write: bool, style: EntryStyle) {
        Readers::protect(self, entry, write, true, style);
    }
    fn zap(&self, entry: &mut dyn Entry) {
        Readers::zap(self, entry);
    }
}

impl Fixture for Board {
    type Backend = Kernel;

    fn backend(&self) -> &Kernel {
        &self.kernel
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities::ANON
            | Capabilities::SEVERAL_SPACES
            | Capabilities::SHARED
            | Capabilities::FORK
            | Capabilities::PROTECT
            | Capabilities::UNMAP
            | Capabilities::EXTRA_REF
            | Capabilities::LOCK_BY_OTHER
            | Capabilities::MIDDLE
    }

    fn begin(&mut self, profile: &'static Profile, recording: Arc<Recording>) {
        self.style.set(profile.entries);
        self.recording = Some(recording);
    }

    fn space(&self) -> Result<SpaceId, FixtureError> {
        let space = self.spaces.get();
        if space as usize == SPACES {
            return Err(FixtureError::Other("no free space".into()));
        }
        self.spaces.set(space + 1);
        Ok(SpaceId::new(space))
    }

    fn map_anon(&self, site: Site, writable: bool) -> Result<Pfn, FixtureError> {
        if self.vma(site).is_some() || site.page.raw() as usize >= PAGES {
            return Err(FixtureError::BadSite(site));
        }
        let page = self.kernel.allocate(0..SOURCE).ok_or(FixtureError::NoFrame)?;
        let pfn = self.kernel.pfn(&page);
        let descriptor = &self.kernel.pages[page.0];
        descriptor.owner.set(Mapping::Anon(AnonVmaId::new(0)));
        descriptor.index.set(site.page.raw() as usize);
        descriptor.flags.set(PageFlags::UPTODATE);
        self.vmas.borrow_mut().insert(site, writable);
        self.map(site, pfn, writable, true);
        self.kernel.putback(page);
        Ok(pfn)
    }

    fn share(&self, pfn: Pfn, to: Site, writable: bool) -> Result<(), FixtureError> {
        let page = pfn.index().ok_or(FixtureError::BadFrame(pfn))?;
        if self.kernel.pages[page].index.get() != to.page.raw() as usize {
            // A page is found at its index in every space, and nowhere else.
            return Err(FixtureError::BadSite(to));
        }
        // Nobody has it alone any more, and a store is to be seen by all of them.
        for (site, _) in self
            .vmas
            .borrow()
            .iter()
            .filter(|(site, _)| self.entry(**site).maps(pfn))
        {
            self.shared(*site).set(true);
            self.kernel.slot(*site).update(&|pte| match pte {
                Pte::Present { pfn, flags } => Some(Pte::present(pfn, flags - PteFlags::EXCLUSIVE)),
                _ => None,
            });
        }
        self.vmas.borrow_mut().insert(to, writable);
        self.shared(to).set(true);
        self.map(to, pfn, writable, false);
        Ok(())
    }

    fn read(&self, site: Site) -> Result<u64, FixtureError> {
        let page = self
            .page_at(site)
            .and_then(Pfn::index)
            .ok_or(FixtureError::BadSite(site))?;
        Ok(self.kernel.pages[page].contents.get())
    }

    fn write(&self, site: Site, value: u64) -> Result<(), FixtureError> {
        let found = self.kernel.pte(site).get();
        let (Some(pfn), true) = (found.pfn(), found.is_present()) else {
            return Err(FixtureError::BadSite(site));
        };
        let mut page = pfn.index().ok_or(FixtureError::BadFrame(pfn))?;
        if !found.writable() {
            if self.vma(site) != Some(true) {
                return Err(FixtureError::Killed(site));
            }
            if self.kernel.pages[page].count.get() > 1 {
                let copy = self.kernel.allocate(0..SOURCE).ok_or(FixtureError::NoFrame)?;
                let (from, to) = (&self.kernel.pages[page], &self.kernel.pages[copy.0]);
                to.contents.set(from.contents.get());
                to.owner.set(from.owner.get());
                to.index.set(from.index.get());
                to.flags.set(PageFlags::UPTODATE);
                page = copy.0;
                self.map(site, Pfn::new(page as u64), true, true);
                self.kernel.putback(copy);
            } else {
                self.map(site, pfn, true, true);
            }
            if let Some(recording) = &self.recording {
                (&**recording).note(|| Event::Map {
                    site,
                    after: self.kernel.pte(site).get(),
                });
            }
        }
        self.kernel.slot(site).update(&|pte| match pte {
            Pte::Present { pfn, flags } => Some(Pte::present(pfn, flags | PteFlags::DIRTY | PteFlags::YOUNG)),
            _ => None,
        });
        self.kernel.pages[page].contents.set(value);
        Ok(())
    }

    fn entry(&self, site: Site) -> Pte {
        self.kernel.pte(site).get()
    }

    fn new_page(&self) -> Result<Ref, FixtureError> {
        self.kernel
            .allocate(SOURCE..SOURCE + TARGET)
            .ok_or(FixtureError::NoFrame)
    }

    fn check(&self) -> Result<(), String> {
        for (number, page) in self.kernel.pages.iter().enumerate() {
            let pfn = Pfn::new(number as u64);
            let maps = self
                .kernel
                .tables
                .as_flattened()
                .iter()
                .filter(|pte| pte.get().maps(pfn))
                .count();
            if page.count.get() as usize != maps {
                return Err(format!(
                    "I5: frame {number} has {} references and {maps} entries",
                    page.count.get()
                ));
            }
            if page.flags.get().contains(PageFlags::LOCKED) {
                return Err(format!("I23: frame {number} is locked"));
            }
            if maps > 0 && !page.flags.get().contains(PageFlags::LRU) {
                return Err(format!("I1: frame {number} is in use and not on the LRU"));
            }
        }
        match self
            .kernel
            .tables
            .as_flattened()
            .iter()
            .find(|pte| pte.get().is_migration())
        {
            Some(entry) => Err(format!("I6: {:?} is left", entry.get())),
            None => Ok(()),
        }
    }

    fn fork(&self, parent: SpaceId) -> Result<SpaceId, FixtureError> {
        let child = self.space()?;
        self.readers(parent, |readers| {
            for page in (0..PAGES as u64).map(Vpn::new) {
                let (from, to) = (Site::new(parent, page), Site::new(child, page));
                if let Some(writable) = self.vma(from) {
                    self.vmas.borrow_mut().insert(to, writable);
                    let shared = self.shared(from).get();
                    self.shared(to).set(shared);
                    readers.copy(&mut self.kernel.slot(from), &mut self.kernel.slot(to), !shared);
                }
            }
        });
        Ok(child)
    }

    fn protect(&self, site: Site, writable: bool) -> Result<(), FixtureError> {
        self.vmas.borrow_mut().insert(site, writable);
        let style = self.style.get();
        self.readers(site.space, |readers| {
            readers.protect(&mut self.kernel.slot(site), writable, style);
        });
        Ok(())
    }

    fn unmap(&self, site: Site) -> Result<(), FixtureError> {
        self.vmas
            .borrow_mut()
            .remove(&site)
            .ok_or(FixtureError::BadSite(site))?;
        self.readers(site.space, |readers| readers.zap(&mut self.kernel.slot(site)));
        Ok(())
    }

    fn exit(&self, space: SpaceId) -> Result<(), FixtureError> {
        let sites: Vec<Site> = self
            .vmas
            .borrow()
            .keys()
            .filter(|site| site.space == space)
            .copied()
            .collect();
        sites.into_iter().try_for_each(|site| self.unmap(site))
    }

    fn free(&self, pfn: Pfn) -> Result<(), FixtureError> {
        let maps = |site: &&Site| self.kernel.pte(**site).get().pfn() == Some(pfn);
        let sites: Vec<Site> = self.vmas.borrow().keys().filter(maps).copied().collect();
        sites.into_iter().try_for_each(|site| self.unmap(site))
    }
}
