//! The backend: a platform, the storage it was lent, and the page map behind the seam.

use core::fmt;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicU32, Ordering};

use migrate_core::{CopyError, Profile, UsesPageMap};
use mm_types::{
    AnonVma, AnonVmaLink, Lru, Mapping, NodeId, PAGE_SIZE, Page, PageFlags, PageMap, Pfn, Pte, Site, SpaceId, VmaSlot,
};

use crate::areas::Areas;
use crate::entry::HwEntry;
use crate::gather::Pending;
use crate::lock::SpinLock;
use crate::{MapError, Paging, Platform, Space};

/// What a kernel lends for the life of its memory management.
///
/// Areas beyond the number of anon-vmas or links are not used: lend as many of each.
#[derive(Debug)]
pub struct Storage<'s> {
    /// The descriptors of all frames that pages and tables may be in.
    pub pages: PageMap<'s>,
    /// Address spaces; a space's number is its place here.
    pub spaces: &'s [Space],
    /// Areas of all spaces.
    pub vmas: &'s mut [VmaSlot],
    /// Anon-vmas.
    pub anon_vmas: &'s mut [AnonVma],
    /// Places of areas on anon-vmas.
    pub links: &'s mut [AnonVmaLink],
}

/// Page tables, areas and LRU lists over a [`Platform`]; a [`Backend`](migrate_core::Backend).
pub struct Kernel<'s, P> {
    platform: P,
    paging: Paging,
    profile: &'static Profile,
    map: PageMap<'s>,
    spaces: &'s [Space],
    areas: SpinLock<Areas<'s>>,
    lru: SpinLock<Lru>,
    pending_everywhere: AtomicU32,
}

impl<P> fmt::Debug for Kernel<'_, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Kernel")
            .field("paging", &self.paging)
            .field("profile", &self.profile.rules)
            .field("frames", &self.map.len())
            .field("spaces", &self.spaces.len())
            .finish_non_exhaustive()
    }
}

impl<'s, P: Platform> Kernel<'s, P> {
    /// Makes a kernel without spaces. `profile` says whose rules faults, `mprotect` and waiting follow; runs of `migrate_pages` are
    /// given the same one.
    #[must_use]
    pub fn new(platform: P, paging: Paging, profile: &'static Profile, storage: Storage<'s>) -> Self {
        let areas = Areas::new(storage.vmas, storage.anon_vmas, storage.links);
        Self {
            platform,
            paging,
            profile,
            map: storage.pages,
            spaces: storage.spaces,
            areas: SpinLock::new(areas),
            lru: SpinLock::new(Lru::new(NodeId::new(0))),
            pending_everywhere: AtomicU32::new(0),
        }
    }

    /// Returns the platform.
    pub const fn platform(&self) -> &P {
        &self.platform
    }

    /// Returns how many levels the tables have.
    #[must_use]
    pub const fn paging(&self) -> Paging {
        self.paging
    }

    /// Returns whose rules it follows.
    #[must_use]
    pub const fn profile(&self) -> &'static Profile {
        self.profile
    }

    pub(crate) const fn map(&self) -> PageMap<'s> {
        self.map
    }

    pub(crate) const fn areas(&self) -> &SpinLock<Areas<'s>> {
        &self.areas
    }

    pub(crate) const fn pending(&self) -> Pending<'_> {
        Pending {
            spaces: self.spaces,
            everywhere: &self.pending_everywhere,
        }
    }

    fn slot(&self, id: SpaceId) -> Result<&'s Space, MapError> {
        let slot = usize::try_from(id.raw()).ok().and_then(|at| self.spaces.get(at));
        slot.ok_or(MapError::NoSpace(id))
    }

    /// Returns an address space, for its root and its sums.
    ///
    /// # Errors
    /// [`MapError::NoSpace`].
    pub fn space(&self, id: SpaceId) -> Result<&'s Space, MapError> {
        let space = self.slot(id)?;
        space.root().map(|_| space).ok_or(MapError::NoSpace(id))
    }

    /// Makes an empty address space. The upper half of its root is copied from `template`'s, the kernel's own root, where there
    /// is one: those entries are there for good, and what is below them is shared.
    ///
    /// # Errors
    /// [`MapError`] where there is no slot, or no frame.
    pub fn create_space(&self, template: Option<Pfn>) -> Result<SpaceId, MapError> {
        let root = self.new_table()?;
        if let (Some(from), Some(to)) = (template.and_then(|pfn| self.words(pfn)), self.words(root)) {
            for (from, to) in from.iter().zip(to).skip(from.len() >> 1) {
                to.store(from.load(Ordering::Acquire), Ordering::Relaxed);
            }
        }
        for (id, space) in (0..).zip(self.spaces) {
            if space.root().is_none() && space.claim(root) {
                return Ok(SpaceId::new(id));
            }
        }
        self.drop_unseen_table(root);
        Err(MapError::SpacesFull)
    }

    /// Returns the entry at `site` without waiting or faulting; empty where there is no table.
    #[must_use]
    pub fn entry(&self, site: Site) -> Pte {
        // A word that is not ours reads as empty.
        self.word(site).decode().unwrap_or_default()
    }

    /// Returns the word at `site`, as the CPU finds it; empty where there is no table.
    #[must_use]
    pub fn word(&self, site: Site) -> HwEntry {
        self.look_at(site, |word| word).ok().flatten().unwrap_or_default()
    }

    /// Copies contents from a frame that nobody writes to one that nobody else knows, for somebody who is about to use it.
    pub(crate) fn copy_contents(&self, from: Pfn, to: Pfn) -> Result<(), CopyError> {
        let (source, target) = self.two_frames(from, to)?;
        // SAFETY: see `two_frames`. Nobody writes the source and nobody accesses the target meanwhile: the caller holds the page and has
        // flushed, and took the target from the allocator.
        unsafe { core::ptr::copy_nonoverlapping(source.as_ptr(), target.as_ptr(), PAGE_SIZE) };
        Ok(())
    }

    // Both are aligned, valid for a frame's bytes, and do not overlap (conditions 1 and 2 of `FrameMapping`, `from != to`).
    fn two_frames(&self, from: Pfn, to: Pfn) -> Result<(NonNull<u8>, NonNull<u8>), CopyError> {
        let [source, target] = [from, to].map(|pfn| self.platform.frame(pfn).ok_or(CopyError));
        if from == to {
            return Err(CopyError);
        }
        Ok((source?.cast(), target?.cast()))
    }

    /// Fills a frame that nobody else knows with zeros.
    pub(crate) fn zero(&self, pfn: Pfn) {
        if let Some(words) = self.words(pfn) {
            words.iter().for_each(|word| word.store(0, Ordering::Relaxed));
        }
    }

    /// Gives a frame without references back to the platform.
    pub(crate) fn give_back(&self, pfn: Pfn) {
        if let Some(page) = self.map.page(pfn) {
            page.set_mapping(Mapping::None);
            page.set_private(0);
            debug_assert_eq!(page.check_free(), Ok(()), "{pfn:?}");
        }
        self.platform.give_back(pfn);
    }
}

impl<P: Platform> UsesPageMap for Kernel<'_, P> {
    type Sleep = P;

    fn page_map(&self) -> PageMap<'_> {
        self.map
    }

    fn sleeper(&self) -> &P {
        &self.platform
    }

    fn with_lru<R>(&self, f: impl FnOnce(&mut Lru) -> R) -> R {
        f(&mut self.lru.lock())
    }

    // Safe to call by anybody, so it looks for itself whether nobody can write: both locked, neither mapped, neither a table.
    fn copy_frame(&self, from: Pfn, to: Pfn) -> Result<(), CopyError> {
        let quiet = |page: &Page| {
            let flags = page.flags().load();
            flags.contains(PageFlags::LOCKED) && !flags.contains(PageFlags::RESERVED) && page.mapcount() == 0
        };
        let both = [from, to].map(|pfn| self.map.page(pfn).is_some_and(quiet));
        if both != [true; 2] {
            debug_assert!(
                false,
                "a page was to be copied that somebody may write: {from:?} to {to:?}"
            );
            return Err(CopyError);
        }
        let (source, target) = self.two_frames(from, to)?;
        // SAFETY: see `two_frames`; and nobody can reach either, as was just looked at.
        unsafe { crate::copy::copy_frame(source.as_ptr(), target.as_ptr()) };
        Ok(())
    }

    fn free_frame(&self, pfn: Pfn) {
        self.give_back(pfn);
    }
}
