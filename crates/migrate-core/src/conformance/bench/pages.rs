//! Pages of a case: anonymous ones, shared ones, and pages of a file.

use alloc::format;
use alloc::vec::Vec;

use mm_types::scenario::{Mover, Sharing};
use mm_types::trace::{Event, Observer};
use mm_types::{EntryStyle, MappingId, Pfn, Pte, PteFlags, Site, SpaceId, Vpn};

use super::super::contract as promise;
use super::super::verdict::{Done, Halt, broken, same};
use super::{Bench, HERE, VALUE};
use crate::fixture::{Capabilities, Fixture};

/// A page, where it is mapped, and what stands in it.
#[derive(Clone, Debug)]
pub(in super::super) struct Mapped {
    pub(in super::super) pfn: Pfn,
    pub(in super::super) sites: Vec<Site>,
    pub(in super::super) value: u64,
}

impl Mapped {
    /// The first site it is mapped at.
    pub(in super::super) fn site(&self) -> Site {
        self.sites.first().copied().unwrap_or(Site::new(SpaceId::new(0), HERE))
    }

    /// Its references: one for each entry.
    pub(in super::super) fn entries(&self) -> u32 {
        u32::try_from(self.sites.len()).unwrap_or(u32::MAX)
    }
}

impl<F: Fixture> Bench<F> {
    pub(in super::super) fn space(&self) -> Result<SpaceId, Halt> {
        self.fixture.space()
    }

    fn note_map(&self, site: Site) {
        let after = self.entry(site);
        self.recording().note(|| Event::Map { site, after });
    }

    /// An anonymous page at a site of its own, with nothing written into it.
    pub(in super::super) fn anon(&self, site: Site, writable: bool) -> Result<Pfn, Halt> {
        let pfn = self.fixture.map_anon(site, writable)?;
        self.note_map(site);
        // Said here, or each case would blame the migration for what was so before it.
        let kept = PteFlags::WRITE.union(PteFlags::EXCLUSIVE);
        let mut flags = PteFlags::empty();
        flags.set(PteFlags::WRITE, writable);
        flags.set(PteFlags::EXCLUSIVE, self.profile.entries == EntryStyle::Lossless);
        let entry = match self.entry(site) {
            Pte::Present { pfn, flags } => Pte::present(pfn, flags & kept),
            other => other,
        };
        same(
            promise::MAP_ANON,
            &format!("the entry at {site:?}, permission and exclusive mark"),
            entry,
            Pte::present(pfn, flags),
        )?;
        same(
            promise::MAP_ANON,
            &format!("references of {pfn:?}"),
            self.count(pfn)?,
            1,
        )?;
        Ok(pfn)
    }

    pub(in super::super) fn share(&self, pfn: Pfn, to: Site, writable: bool) -> Done {
        self.fixture.share(pfn, to, writable)?;
        self.note_map(to);
        Ok(())
    }

    /// Anonymous pages with something written into each, one after the other from [`HERE`] on, in a space of their own.
    pub(in super::super) fn pages(&self, n: u64) -> Result<Vec<Mapped>, Halt> {
        let space = self.space()?;
        let sites = (0..n).map(|n| Site::new(space, Vpn::new(HERE.raw().saturating_add(n))));
        let mut pages = Vec::new();
        for (site, n) in sites.zip(0u64..) {
            let (pfn, value) = (self.anon(site, true)?, VALUE.wrapping_add(n));
            self.write(site, value)?;
            pages.push(Mapped {
                pfn,
                sites: alloc::vec![site],
                value,
            });
        }
        Ok(pages)
    }

    /// One anonymous page with something written into it.
    pub(in super::super) fn page(&self) -> Result<Mapped, Halt> {
        self.pages(1)?.pop().ok_or(broken(promise::DONE, "no page"))
    }

    /// One anonymous page in three spaces, written into; the third may only read.
    pub(in super::super) fn shared(&self) -> Result<Mapped, Halt> {
        self.needs(Capabilities::SEVERAL_SPACES.union(Capabilities::SHARED))?;
        let mut page = self.page()?;
        for writable in [true, false] {
            let to = Site::new(self.space()?, page.site().page);
            self.share(page.pfn, to, writable)?;
            page.sites.push(to);
        }
        self.write(page.site(), page.value)?;
        Ok(page)
    }

    /// Page 1 of a file of four whose pages move as `mover` says, mapped shared and writable; clean.
    pub(in super::super) fn file(&self, mover: Mover) -> Result<(MappingId, Mapped), Halt> {
        self.file_mapped(mover, Sharing::Shared)
    }

    pub(in super::super) fn file_mapped(&self, mover: Mover, sharing: Sharing) -> Result<(MappingId, Mapped), Halt> {
        let more = match mover {
            Mover::Buffers => Capabilities::BUFFERS,
            Mover::Fallback => Capabilities::WRITEOUT,
            _ => Capabilities::empty(),
        };
        self.needs(Capabilities::FILE.union(more))?;
        let (space, file) = (self.space()?, self.fixture.file(4, mover)?);
        let site = Site::new(space, HERE);
        let pfn = self.map_file(file, 1, site, sharing)?;
        let value = self.read(site)?;
        Ok((
            file,
            Mapped {
                pfn,
                sites: alloc::vec![site],
                value,
            },
        ))
    }

    /// Maps a page of a file, writable.
    pub(in super::super) fn map_file(
        &self,
        file: MappingId,
        index: u64,
        site: Site,
        sharing: Sharing,
    ) -> Result<Pfn, Halt> {
        let pfn = self.fixture.map_file(file, index, site, true, sharing)?;
        self.note_map(site);
        Ok(pfn)
    }
}
