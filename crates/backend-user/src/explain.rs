//! What is known of one page, in plain words.

use core::fmt;

use mm_types::{LruList, Mapping, NodeId, Page, PageFlags, Pfn, Pte, Refusal, Site};

use migrate_core::UsesPageMap;

use crate::kernel::{Kernel, lock};
use crate::machine::Machine;

/// Who holds references to a page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Holder {
    /// A page table maps it here.
    Entry(Site),
    /// A file's page cache, at this index.
    Cache {
        /// The file.
        path: String,
        /// The page of it.
        index: usize,
    },
    /// Staging holds it until it is on an LRU list.
    Staging,
    /// So many pins.
    Pins(u32),
    /// So many references of somebody else: an isolation, a lookup, a waiting thread.
    Others(u32),
}

/// What is known of the page at a site, at one moment. `Display` says it in sentences.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct PageInfo {
    /// Where.
    pub site: Site,
    /// The entry.
    pub entry: Pte,
    /// The page, where there is one.
    pub page: Option<Frame>,
}

/// What is known of a frame that holds a page.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Frame {
    /// The frame.
    pub pfn: Pfn,
    /// Its node.
    pub node: NodeId,
    /// The page's flags.
    pub flags: PageFlags,
    /// References.
    pub count: u32,
    /// Present entries that map it.
    pub mapcount: u32,
    /// What it belongs to.
    pub mapping: Mapping,
    /// Who holds the references, as far as can be known.
    pub holders: Vec<Holder>,
    /// Why it stayed when it was last to move, where it did.
    pub last_refusal: Option<Refusal>,
}

impl Machine {
    /// Looks at the page at `site`, without touching it.
    #[must_use]
    pub fn explain(&self, site: Site) -> PageInfo {
        let kernel = self.kernel();
        let mm = kernel.areas().space(site.space).cloned();
        let page = usize::try_from(site.page.raw()).unwrap_or(usize::MAX);
        let entry = mm.map_or(Pte::None, |mm| mm.read(page));
        PageInfo {
            site,
            entry,
            page: entry.pfn().and_then(|pfn| kernel.explain(pfn)),
        }
    }
}

impl Kernel {
    fn explain(&self, pfn: Pfn) -> Option<Frame> {
        let page: &Page = self.page(pfn)?;
        let areas = self.areas();
        let mut holders = Vec::new();
        areas.sites(self.page_map(), pfn, |mm, _, at| {
            if mm.read(at).maps(pfn) {
                holders.push(Holder::Entry(mm.site(at)));
            }
            true
        });
        if let Some((file, index)) = self.slot_of(pfn) {
            if lock(&self.cache).lookup(file, index) == Some(pfn) {
                let path = areas.file(file).map_or_else(String::new, |file| file.path.clone());
                holders.push(Holder::Cache { path, index });
            }
        }
        let staged = self.with_lru(|lru| lru.list_of(self.page_map(), pfn));
        if matches!(staged, Some(LruList::StagedActive | LruList::StagedInactive)) {
            holders.push(Holder::Staging);
        }
        let known = u32::try_from(holders.len()).unwrap_or(u32::MAX);
        let (count, pins) = (page.count(), page.pins());
        if pins > 0 {
            holders.push(Holder::Pins(pins));
        }
        let others = count.saturating_sub(known).saturating_sub(pins);
        if others > 0 {
            holders.push(Holder::Others(others));
        }
        Some(Frame {
            pfn,
            node: self.node_of(pfn),
            flags: page.flags().load(),
            count,
            mapcount: page.mapcount(),
            mapping: page.mapping(),
            holders,
            last_refusal: self.refused.of(pfn),
        })
    }
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Entry(site) => write!(f, "space {} page {:#x}", site.space.raw(), site.page.raw()),
            Self::Cache { path, index } => write!(f, "the page cache of {path}, page {index}"),
            Self::Staging => f.write_str("the LRU's staging"),
            Self::Pins(1) => f.write_str("a pin"),
            Self::Pins(n) => write!(f, "{n} pins"),
            Self::Others(1) => f.write_str("somebody else"),
            Self::Others(n) => write!(f, "{n} others"),
        }
    }
}

impl fmt::Display for PageInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (space, page) = (self.site.space.raw(), self.site.page.raw());
        write!(f, "Space {space}, page {page:#x}: ")?;
        let Some(frame) = &self.page else {
            return f.write_str("no page is here.");
        };
        let (pfn, node) = (frame.pfn.raw(), frame.node.raw());
        match self.entry {
            Pte::Present { .. } if self.entry.writable() => write!(f, "maps frame {pfn:#x} of node {node}, writable.")?,
            Pte::Present { .. } => write!(f, "maps frame {pfn:#x} of node {node}, read-only.")?,
            Pte::Migration(_) => write!(f, "the page is moving; it was in frame {pfn:#x} of node {node}.")?,
            _ => write!(f, "names frame {pfn:#x} of node {node}.")?,
        }
        write!(f, " Flags: {}. References: {}", frame.flags, frame.count)?;
        for (n, holder) in frame.holders.iter().enumerate() {
            f.write_str(if n == 0 { ", held by " } else { ", " })?;
            holder.fmt(f)?;
        }
        f.write_str(".")?;
        match frame.last_refusal {
            None => Ok(()),
            Some(refusal) => write!(f, " It stayed when it was to move ({refusal}): {}.", refusal.advice()),
        }
    }
}
