//! What a page is at one moment, and whether it is the same at another (I21).

use std::collections::BTreeMap;

use migrate_core::{Profile, SwapCacheEntries, UsesPageMap};
use mm_types::{EntryStyle, LruList, Mapping, PageFlags, Pfn, Pte, PteFlags, Site};

use super::stage::{Kind, Listed, Stage};

/// All that a descriptor, the lists and memory say of a page.
#[derive(Clone, Debug, PartialEq, Eq)]
struct PageState {
    flags: PageFlags,
    count: u32,
    mapcount: u32,
    mapping: Mapping,
    index: usize,
    private: usize,
    pins: u32,
    word: u64,
    list: Option<LruList>,
    cached: bool,
    stored: Option<u64>,
}

/// Every page of a stage and every entry of it.
pub(crate) struct Snapshot {
    pages: BTreeMap<Pfn, PageState>,
    entries: BTreeMap<Site, Pte>,
}

const LISTS: [LruList; 4] = [
    LruList::Active,
    LruList::Inactive,
    LruList::StagedActive,
    LruList::StagedInactive,
];

impl Snapshot {
    pub(crate) fn take(stage: &Stage) -> Self {
        let model = &stage.model;
        let of_page = |page: &Listed| {
            let (pfn, at) = (page.pfn, model.page(page.pfn));
            let on = |list: &LruList| model.with_lru(|lru| lru.list(*list).iter(model.page_map()).any(|at| at == pfn));
            let index = usize::from(page.kind == Kind::Nonlinear);
            let state = PageState {
                flags: at.flags().load(),
                count: at.count(),
                mapcount: at.mapcount(),
                mapping: at.mapping(),
                index: at.index(),
                private: at.private(),
                pins: at.pins(),
                word: model.word(pfn),
                list: LISTS.into_iter().find(on),
                cached: page.file.is_some_and(|file| model.cached(file, index) == Some(pfn)),
                stored: page.file.and_then(|file| model.stored(file, index)),
            };
            (pfn, state)
        };
        let sites = stage.pages.iter().flat_map(|page| &page.sites);
        Self {
            pages: stage.pages.iter().map(of_page).collect(),
            entries: sites.map(|site| (*site, model.pte(*site))).collect(),
        }
    }

    fn is_dirty(&self, page: &Listed) -> bool {
        let in_entries = page.sites.iter().any(|site| {
            let pte = self.entries[site];
            pte.maps(page.pfn) && pte.dirty()
        });
        in_entries || self.pages[&page.pfn].flags.contains(PageFlags::DIRTY)
    }

    /// A page that stayed is what it was, as far as the profile owes it: what entries of 2006 forget is not
    /// compared, and nonlinear and swap-cache mappings come back by faults. One that somebody dirtied meanwhile may be dirty.
    ///
    /// # Errors
    /// What differs.
    pub(crate) fn same(&self, later: &Self, page: &Listed, dirtied: bool, profile: &Profile) -> Result<(), String> {
        let (was, is) = (&self.pages[&page.pfn], &later.pages[&page.pfn]);
        let differ = |what: &str, was: &dyn core::fmt::Debug, is: &dyn core::fmt::Debug| {
            Err(format!(
                "{:?} {:?}: {what} was {was:x?}, is {is:x?} (I21)",
                page.kind, page.pfn
            ))
        };
        let released = page.may_lose_private_data() && !is.flags.contains(PageFlags::PRIVATE);
        let of_private = |state: &PageState| u32::from(state.flags.contains(PageFlags::PRIVATE));
        // Locks and writeback are others'; dirty has a rule of its own below.
        let mut others = PageFlags::LOCKED | PageFlags::WAITERS | PageFlags::WRITEBACK | PageFlags::DIRTY;
        others.set(PageFlags::PRIVATE, released);
        others.set(PageFlags::UPTODATE, page.kind == Kind::ReadIn);
        if was.flags.difference(others) != is.flags.difference(others) {
            return differ("flags", &was.flags, &is.flags);
        }
        // Entries are compared one by one: all other references are the same ones.
        let held = |state: &PageState| state.count - state.mapcount - of_private(state);
        if held(was) != held(is) {
            return differ("references", was, is);
        }
        if !released && (of_private(was), was.private) != (of_private(is), is.private) {
            return differ("private data", &was.private, &is.private);
        }
        let rest = |state: &PageState| {
            (
                state.mapping,
                state.index,
                state.pins,
                state.word,
                state.list,
                state.cached,
            )
        };
        if rest(was) != rest(is) {
            return differ(
                "mapping, index, pins, contents, list or cache slot",
                &rest(was),
                &rest(is),
            );
        }
        match (self.is_dirty(page), later.is_dirty(page)) {
            (false, true) if !dirtied => return differ("dirty", &false, &true),
            (true, false) if !(profile.writes_out && is.stored == Some(is.word)) => {
                return differ("dirty", &true, &false);
            }
            _ => {}
        }
        for site in &page.sites {
            let (was, is) = (self.entries[site], later.entries[site]);
            if !same_entry(was, is, page, profile) {
                return differ("an entry", &was, &is);
            }
        }
        Ok(())
    }

    /// A page that moved is in its new frame what it was in the old one.
    ///
    /// # Errors
    /// What differs.
    pub(crate) fn moved(&self, stage: &Stage, page: &Listed, to: Pfn, profile: &Profile) -> Result<(), String> {
        let model = &stage.model;
        let (was, new) = (&self.pages[&page.pfn], model.page(to));
        let differ = |what: &str, was: &dyn core::fmt::Debug, is: &dyn core::fmt::Debug| {
            Err(format!(
                "{:?} {:?} moved to {to:?}: {what} was {was:x?}, is {is:x?}",
                page.kind, page.pfn
            ))
        };
        if (was.mapping, was.index) != (new.mapping(), new.index()) {
            return differ("mapping", &(was.mapping, was.index), &(new.mapping(), new.index()));
        }
        if was.word != model.word(to) {
            return differ("contents", &was.word, &model.word(to));
        }
        let index = usize::from(page.kind == Kind::Nonlinear);
        let cached = page.file.is_some_and(|file| model.cached(file, index) == Some(to));
        if was.cached != cached {
            return differ("cache slot", &was.cached, &cached);
        }
        for site in &page.sites {
            let (was, is) = (self.entries[site], model.pte(*site));
            let here = match is {
                Pte::Present { pfn, flags } if pfn == to => Pte::present(page.pfn, flags),
                other => other,
            };
            if !same_entry(was, here, page, profile) {
                return differ("an entry", &was, &is);
            }
        }
        Ok(())
    }
}

/// The entry allows what it allowed, and remembers what the profile's entries remember.
fn same_entry(was: Pte, is: Pte, page: &Listed, profile: &Profile) -> bool {
    let (Pte::Present { pfn, flags: before }, true) = (was, was.maps(page.pfn)) else {
        return was == is;
    };
    match is {
        Pte::Present { pfn: at, flags: now } if at == pfn => {
            let mut free = PteFlags::DIRTY;
            if profile.entries == EntryStyle::Lossy {
                free |= PteFlags::YOUNG | PteFlags::SOFT_DIRTY | PteFlags::UFFD_WP | PteFlags::EXCLUSIVE;
            }
            // A pass over a nonlinear area ages what it finds young.
            free.set(
                PteFlags::YOUNG,
                free.contains(PteFlags::YOUNG) || page.kind == Kind::Nonlinear,
            );
            let granted = now.difference(before).contains(PteFlags::WRITE);
            before.difference(free) == now.difference(free) && !granted
        }
        Pte::Swap { .. } => {
            let cached = page.kind == Kind::SwapCache;
            cached && profile.swap_cache == SwapCacheEntries::Swap
        }
        Pte::File { .. } => page.kind == Kind::Nonlinear,
        _ => false,
    }
}
