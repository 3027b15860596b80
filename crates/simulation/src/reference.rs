//! The plain reference: what programs must see, as a map from address to value and permission.
//!
//! It knows no frame, no reference count, no list and no migration: moving a page changes nothing here, which is the point.

use core::ops::RangeInclusive;
use std::collections::BTreeMap;

use migrate_core::model::{Access, Op};
use mm_types::{MappingId, Site, SpaceId, Vpn};

/// What a page of an address space stands for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum What {
    /// Private memory, zero at first.
    Anon,
    /// A page of a file; a store is seen by all who share it, or makes a copy of one's own.
    File {
        file: MappingId,
        index: usize,
        shared: bool,
    },
}

/// One mapped page.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Page {
    pub(crate) what: What,
    pub(crate) writable: bool,
    pub(crate) locked: bool,
    /// Which page of the file it is, where that is not its place's.
    pub(crate) stands_for: Option<usize>,
    /// What this space alone has stored here.
    own: Option<u64>,
}

impl Page {
    /// The file's page that shows here as long as there is no copy.
    pub(crate) fn file(&self) -> Option<(MappingId, usize)> {
        match self.what {
            What::Anon => None,
            What::File { file, index, .. } => Some((file, self.stands_for.unwrap_or(index))),
        }
    }

    pub(crate) fn shared(&self) -> bool {
        matches!(self.what, What::File { shared: true, .. })
    }
}

/// Everything that programs can see.
#[derive(Clone, Debug, Default)]
pub(crate) struct Reference {
    pub(crate) pages: BTreeMap<Site, Page>,
    pub(crate) spaces: Vec<SpaceId>,
    /// Each file's words, as many as it has pages.
    pub(crate) files: Vec<Vec<u64>>,
}

impl Reference {
    pub(crate) fn range(&self, site: Site, pages: u64) -> impl Iterator<Item = Site> + use<> {
        let end = Site::new(site.space, Vpn::new(site.page.raw() + pages));
        let sites: Vec<Site> = self.pages.range(site..end).map(|(site, _)| *site).collect();
        sites.into_iter()
    }

    /// The mapped page at `from`, or the next one after it, in the order of addresses and round and round; and then all others.
    pub(crate) fn sites_from(&self, from: Site) -> impl Iterator<Item = (Site, &Page)> {
        let pages = self.pages.range(from..).chain(self.pages.range(..from));
        pages.map(|(site, page)| (*site, page))
    }

    pub(crate) fn sites_of(&self, space: SpaceId) -> impl Iterator<Item = Site> {
        self.pages.range(all_of(space)).map(|(site, _)| *site)
    }

    pub(crate) fn is_free(&self, site: Site, pages: u64) -> bool {
        self.range(site, pages).next().is_none()
    }

    pub(crate) fn map(&mut self, site: Site, pages: u64, what: What) {
        for n in 0..pages {
            let what = match what {
                What::Anon => What::Anon,
                What::File { file, index, shared } => What::File {
                    file,
                    index: index + n as usize,
                    shared,
                },
            };
            let page = Page {
                what,
                writable: true,
                locked: false,
                stands_for: None,
                own: None,
            };
            self.pages.insert(after(site, n), page);
        }
    }

    pub(crate) fn change(&mut self, site: Site, pages: u64, mut change: impl FnMut(&mut Page)) {
        for site in self.range(site, pages) {
            self.pages.get_mut(&site).into_iter().for_each(&mut change);
        }
    }

    pub(crate) fn unmap(&mut self, site: Site, pages: u64) {
        for site in self.range(site, pages) {
            self.pages.remove(&site);
        }
    }

    /// False where something is mapped at the new place, or the two overlap.
    pub(crate) fn relocate(&mut self, from: Site, pages: u64, to: Vpn) -> bool {
        let overlap = from.page.raw() < to.raw() + pages && to.raw() < from.page.raw() + pages;
        if overlap || !self.is_free(Site::new(from.space, to), pages) {
            return false;
        }
        for site in self.range(from, pages) {
            if let Some(page) = self.pages.remove(&site) {
                let to = Site::new(site.space, Vpn::new(to.raw() + (site.page.raw() - from.page.raw())));
                self.pages.insert(to, page);
            }
        }
        true
    }

    pub(crate) fn fork(&mut self, parent: SpaceId, child: SpaceId) {
        let copies: Vec<(Site, Page)> = self
            .pages
            .range(all_of(parent))
            .map(|(site, page)| (Site::new(child, site.page), Page { locked: false, ..*page }))
            .collect();
        self.pages.extend(copies);
        self.spaces.push(child);
    }

    pub(crate) fn exit(&mut self, space: SpaceId) {
        let gone: Vec<Site> = self.sites_of(space).collect();
        for site in gone {
            self.pages.remove(&site);
        }
        self.spaces.retain(|other| *other != space);
    }

    /// Cuts a file off: what was stored beyond is gone, private copies too.
    pub(crate) fn truncate(&mut self, file: MappingId, pages: usize) {
        self.files[file.raw() as usize].truncate(pages);
        for page in self.pages.values_mut() {
            if page.file().is_some_and(|(of, index)| of == file && index >= pages) {
                page.own = None;
                // The note that it stood for another page goes with the entry that held it.
                page.stands_for = None;
            }
        }
    }

    /// What is to be seen through `page`, where it can be seen at all.
    pub(crate) fn word(&self, page: &Page) -> Option<u64> {
        match (page.own, page.file()) {
            (Some(own), _) => Some(own),
            (None, None) => Some(0),
            (None, Some((file, index))) => self.files[file.raw() as usize].get(index).copied(),
        }
    }

    /// What an access must come to, were nobody in its way.
    pub(crate) fn access(&self, site: Site, op: Op) -> Access {
        let Some(page) = self.pages.get(&site) else {
            return Access::Segv;
        };
        if op != Op::Read && !page.writable {
            return Access::Segv;
        }
        match (self.word(page), op) {
            (None, _) => Access::Bus,
            (Some(word), Op::Read) | (Some(_), Op::Write(word)) => Access::Done(word),
        }
    }

    /// A store went through.
    pub(crate) fn store(&mut self, site: Site, word: u64) {
        let Some(page) = self.pages.get_mut(&site) else { return };
        match (page.shared(), page.file()) {
            (true, Some((file, index))) => {
                if let Some(at) = self.files[file.raw() as usize].get_mut(index) {
                    *at = word;
                }
            }
            _ => page.own = Some(word),
        }
    }
}

fn all_of(space: SpaceId) -> RangeInclusive<Site> {
    Site::new(space, Vpn::new(0))..=Site::new(space, Vpn::new(u64::MAX))
}

pub(crate) fn after(site: Site, pages: u64) -> Site {
    Site::new(site.space, Vpn::new(site.page.raw() + pages))
}
