//! What a case works with: a fixture that has begun, pages on it, and runs whose every promise is looked at.

use alloc::{collections::BTreeMap, format, sync::Arc, vec::Vec};
use core::cell::{Cell, RefCell};
use core::ops::ControlFlow;

use mm_types::scenario::{Edge as At, Mover, Sharing};
use mm_types::trace::{Event, Observer, check_events, text_of};
use mm_types::{ActorId, EntryStyle, Mapping, MappingId, PageFlags, Pfn, Pte, PteFlags, Site, SpaceId, Vpn};

use super::call::{Call, Ran};
use super::contract as promise;
use super::verdict::{Done, Halt, broken, hold, same};
use crate::fixture::middle::Moments;
use crate::fixture::report::settle;
use crate::fixture::{Access, Capabilities, Fixture, FixtureError, LockedOf, PageOf, Recording};
use crate::{Edge, Frames, Isolated, Profile, Rmap, Verdict, isolate_lru_page, migrate_prep, putback_lru_pages};

/// Events that a case may have.
const ROOM: usize = 1 << 12;

/// What the kit writes into pages.
pub(super) const VALUE: u64 = 0x5eed_0000_0000_002a;

/// The place at which most cases map their page.
pub(super) const HERE: Vpn = Vpn::new(3);

/// A page, where it is mapped, and what stands in it.
#[derive(Clone, Debug)]
pub(super) struct Mapped {
    pub(super) pfn: Pfn,
    pub(super) sites: Vec<Site>,
    pub(super) value: u64,
}

impl Mapped {
    /// The first site it is mapped at.
    pub(super) fn site(&self) -> Site {
        self.sites.first().copied().unwrap_or(Site::new(SpaceId::new(0), HERE))
    }

    /// Its references: one for each entry.
    pub(super) fn entries(&self) -> u32 {
        u32::try_from(self.sites.len()).unwrap_or(u32::MAX)
    }
}

/// All that can be seen of a page from outside, but for the frame; dirtiness of entries and page in one (I21).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Looks {
    entries: Vec<(Site, PteFlags)>,
    count: u32,
    dirty: bool,
    flags: PageFlags,
    mapping: Mapping,
}

/// A fixture that has begun.
pub(super) struct Bench<F: Fixture> {
    pub(super) fixture: F,
    pub(super) profile: &'static Profile,
    recording: Arc<Recording>,
}

impl<F: Fixture> Bench<F> {
    pub(super) fn new(mut fixture: F, profile: &'static Profile) -> Self {
        let recording = Arc::new(Recording::with_capacity(ROOM));
        fixture.begin(profile, Arc::clone(&recording));
        Self {
            fixture,
            profile,
            recording,
        }
    }

    /// Ends the case as not applicable where the fixture lacks something.
    pub(super) fn needs(&self, needed: Capabilities) -> Done {
        let lacks = needed.difference(self.fixture.capabilities());
        if lacks.is_empty() {
            Ok(())
        } else {
            Err(Halt::Lacks(lacks))
        }
    }

    pub(super) fn backend(&self) -> &F::Backend {
        self.fixture.backend()
    }

    pub(super) fn recording(&self) -> &Recording {
        &self.recording
    }

    /// What a case ends with: nobody sleeps, the backend is sound, and every event was one that the rules allow.
    pub(super) fn end(&self) -> Done {
        self.finish_faults()?;
        migrate_prep(self.backend());
        self.fixture
            .check()
            .map_err(|text| broken(promise::of_check(&text), text))?;
        if self.recording.dropped() > 0 {
            return Err(broken(
                promise::TRACE,
                format!("{} events were lost", self.recording.dropped()),
            ));
        }
        let events = settle(self.recording.events());
        let whole = || text_of(events.iter().copied());
        check_events(&events)
            .map(drop)
            .map_err(|error| broken(promise::TRACE, format!("{error}\n{}", whole())))
    }

    // Pages.

    pub(super) fn space(&self) -> Result<SpaceId, Halt> {
        Ok(self.fixture.space()?)
    }

    fn note_map(&self, site: Site) {
        let after = self.fixture.entry(site);
        self.recording().note(|| Event::Map { site, after });
    }

    /// An anonymous page at a site of its own, with nothing written into it.
    pub(super) fn anon(&self, site: Site, writable: bool) -> Result<Pfn, Halt> {
        let pfn = self.fixture.map_anon(site, writable)?;
        self.note_map(site);
        // Said here, or each case would blame the migration for what was so before it.
        let kept = PteFlags::WRITE.union(PteFlags::EXCLUSIVE);
        let mut flags = PteFlags::empty();
        flags.set(PteFlags::WRITE, writable);
        flags.set(PteFlags::EXCLUSIVE, self.profile.entries == EntryStyle::Lossless);
        let entry = match self.fixture.entry(site) {
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

    pub(super) fn share(&self, pfn: Pfn, to: Site, writable: bool) -> Done {
        self.fixture.share(pfn, to, writable)?;
        self.note_map(to);
        Ok(())
    }

    /// Anonymous pages with something written into each, one after the other from [`HERE`] on, in a space of their own.
    pub(super) fn pages(&self, n: u64) -> Result<Vec<Mapped>, Halt> {
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
    pub(super) fn page(&self) -> Result<Mapped, Halt> {
        self.pages(1)?.pop().ok_or(broken(promise::DONE, "no page"))
    }

    /// One anonymous page in three spaces, written into; the third may only read.
    pub(super) fn shared(&self) -> Result<Mapped, Halt> {
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
    pub(super) fn file(&self, mover: Mover) -> Result<(MappingId, Mapped), Halt> {
        self.file_mapped(mover, Sharing::Shared)
    }

    pub(super) fn file_mapped(&self, mover: Mover, sharing: Sharing) -> Result<(MappingId, Mapped), Halt> {
        let more = match mover {
            Mover::Buffers => Capabilities::BUFFERS,
            Mover::Fallback => Capabilities::WRITEOUT,
            _ => Capabilities::empty(),
        };
        self.needs(Capabilities::FILE.union(more))?;
        let (space, file) = (self.space()?, self.fixture.file(4, mover)?);
        let site = Site::new(space, HERE);
        let pfn = self.fixture.map_file(file, 1, site, true, sharing)?;
        self.note_map(site);
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

    // What a program does.

    pub(super) fn read(&self, site: Site) -> Result<u64, Halt> {
        self.fixture
            .read(site)
            .map_err(|error| at_site(error, site, promise::MAPPED))
    }

    pub(super) fn write(&self, site: Site, value: u64) -> Done {
        self.fixture
            .write(site, value)
            .map_err(|error| at_site(error, site, promise::EDIT))
    }

    /// A store that must end the program.
    pub(super) fn cannot_write(&self, contract: promise::Contract, site: Site) -> Done {
        match self.fixture.write(site, !VALUE) {
            Err(FixtureError::Killed(_) | FixtureError::BadSite(_)) => Ok(()),
            Err(error) => Err(error.into()),
            Ok(()) => Err(broken(contract, format!("a store at {site:?} went through"))),
        }
    }

    /// A load that must end the program.
    pub(super) fn cannot_read(&self, contract: promise::Contract, site: Site) -> Done {
        match self.fixture.read(site) {
            Err(FixtureError::Killed(_) | FixtureError::BadSite(_)) => Ok(()),
            Err(error) => Err(error.into()),
            Ok(saw) => Err(broken(contract, format!("a load at {site:?} saw {saw:#x}"))),
        }
    }

    /// Another thread touches `site`.
    pub(super) fn touch(&self, actor: u32, site: Site, store: Option<u64>) -> Result<Access, FixtureError> {
        self.fixture.fault(ActorId::new(actor), site, store)
    }

    /// A thread that touches a page in flight has to sleep.
    pub(super) fn falls_asleep(&self, actor: u32, site: Site, store: Option<u64>) -> Done {
        match self.touch(actor, site, store)? {
            Access::Asleep => Ok(()),
            Access::Done(value) => Err(broken(
                promise::ASLEEP,
                format!("thread {actor} did not sleep at {site:?}, and has {value:#x}"),
            )),
        }
    }

    pub(super) fn finish_faults(&self) -> Result<BTreeMap<u32, u64>, Halt> {
        let woken = self.fixture.finish_faults().map_err(|error| match error {
            FixtureError::NotApplicable(lacks) => Halt::Lacks(lacks),
            other => broken(promise::UNLOCK, format!("{other}")),
        })?;
        Ok(woken.into_iter().map(|(actor, value)| (actor.raw(), value)).collect())
    }

    // What can be seen.

    /// The sites that a walk of `page` shows to map `pfn`.
    pub(super) fn sites(&self, page: Pfn, pfn: Pfn) -> Result<Vec<Site>, Halt> {
        self.with_lock(page, |backend, locked| {
            let (mut gather, mut sites) = (backend.gather(), Vec::new());
            backend.walk(locked, &mut gather, &mut |entry| {
                sites.extend(entry.read().maps(pfn).then(|| entry.site()));
                ControlFlow::Continue(())
            });
            backend.flush(gather);
            sites
        })
    }

    pub(super) fn entry(&self, site: Site) -> Pte {
        self.fixture.entry(site)
    }

    /// Lends a reference to a page.
    pub(super) fn with<R>(&self, pfn: Pfn, f: impl FnOnce(&F::Backend, &PageOf<F>) -> R) -> Result<R, Halt> {
        let page = self.hold(pfn)?;
        let done = f(self.backend(), &page);
        self.backend().put(page);
        Ok(done)
    }

    /// Takes a reference that the case gives back.
    pub(super) fn hold(&self, pfn: Pfn) -> Result<PageOf<F>, Halt> {
        let none = || broken(promise::GET, format!("none of {pfn:?}, which is in use"));
        self.backend().get(pfn).ok_or_else(none)
    }

    /// Lends the page lock.
    pub(super) fn with_lock<R>(&self, pfn: Pfn, f: impl FnOnce(&F::Backend, &LockedOf<F>) -> R) -> Result<R, Halt> {
        let locked = self.lock(pfn)?;
        let done = f(self.backend(), &locked);
        self.backend().put(self.backend().unlock(locked));
        Ok(done)
    }

    /// Takes a reference and the page lock, which the case gives back.
    pub(super) fn lock(&self, pfn: Pfn) -> Result<LockedOf<F>, Halt> {
        self.backend().try_lock(self.hold(pfn)?).map_err(|page| {
            self.backend().put(page);
            broken(promise::TRY_LOCK, format!("{pfn:?} is locked, and nobody locked it"))
        })
    }

    pub(super) fn count(&self, pfn: Pfn) -> Result<u32, Halt> {
        Ok(self.with(pfn, |backend, page| backend.count(page))?.saturating_sub(1))
    }

    pub(super) fn flags(&self, pfn: Pfn) -> Result<PageFlags, Halt> {
        self.with(pfn, |backend, page| backend.flags(page))
    }

    /// True where the page or an entry at one of `sites` is dirty.
    pub(super) fn dirty(&self, pfn: Pfn, sites: &[Site]) -> Result<bool, Halt> {
        let entries = sites
            .iter()
            .any(|site| self.entry(*site).maps(pfn) && self.entry(*site).dirty());
        Ok(entries || self.flags(pfn)?.contains(PageFlags::DIRTY))
    }

    /// What is to be compared with what there was before: accessed bits are the hardware's to set, and WAITERS a hint.
    pub(super) fn looks(&self, pfn: Pfn, sites: &[Site]) -> Result<Looks, Halt> {
        let mut entries = Vec::new();
        for site in sites {
            let pte = self.entry(*site);
            hold(promise::MAPPED, pte.maps(pfn), || {
                format!("{site:?} has {pte:?}, and not {pfn:?}")
            })?;
            let shown = PteFlags::YOUNG | PteFlags::DIRTY | PteFlags::SOFT_DIRTY;
            entries.push((*site, pte.flags().difference(shown)));
        }
        let hint = PageFlags::DIRTY | PageFlags::WAITERS | PageFlags::REFERENCED | PageFlags::ACTIVE;
        Ok(Looks {
            entries,
            count: self.count(pfn)?,
            dirty: self.dirty(pfn, sites)?,
            flags: self.flags(pfn)?.difference(hint),
            mapping: self.with(pfn, |backend, page| backend.mapping(page))?,
        })
    }

    /// Every site of the page maps `pfn`, and sees what was last written.
    pub(super) fn is_at(&self, page: &Mapped, pfn: Pfn) -> Done {
        for site in &page.sites {
            let pte = self.entry(*site);
            hold(promise::WALK, !pte.is_migration(), || {
                format!("{site:?} still has {pte:?}")
            })?;
            hold(promise::EDIT_FRAME, pte.maps(pfn), || {
                format!("{site:?} has {pte:?}, where it must map {pfn:?}")
            })?;
        }
        self.sees(page)
    }

    /// Every site of the page sees what was last written.
    pub(super) fn sees(&self, page: &Mapped) -> Done {
        for site in &page.sites {
            let saw = self.read(*site)?;
            hold(promise::COPY, saw == page.value, || {
                format!("{site:?} sees {saw:#x}, and {:#x} was written", page.value)
            })?;
        }
        Ok(())
    }

    // Runs.

    /// Takes a page off the LRU.
    pub(super) fn isolate(&self, pfn: Pfn) -> Result<Isolated<PageOf<F>>, Halt> {
        let recording = self.recording();
        self.with(pfn, |backend, page| isolate_lru_page(backend, page, recording))?
            .map_err(|refusal| {
                broken(
                    promise::PUTBACK,
                    format!("{pfn:?} was put back, and is not on the LRU: {refusal}"),
                )
            })
    }

    /// A run over `pages`, in this order.
    pub(super) fn call<'b>(&'b self, pages: &[Pfn]) -> Call<'b, F> {
        Call::new(self, pages)
    }

    /// A run over a page that somebody holds, so that it stays.
    pub(super) fn refuses_held(&self, page: &Mapped) -> Result<Ran, Halt> {
        self.needs(Capabilities::EXTRA_REF)?;
        let held = self.hold(page.pfn)?;
        let ran = self.call(&[page.pfn]).run();
        self.backend().put(held);
        let ran = ran?;
        ran.refused(promise::FREEZE, page.pfn, "extra_reference")?;
        Ok(ran)
    }

    /// Moves one page there and further, twice; all but the frame is as before (I39).
    pub(super) fn round_trip(&self, mut page: Mapped) -> Done {
        let before = self.looks(page.pfn, &page.sites)?;
        for _ in 0..2 {
            page.pfn = self.moves(&page)?;
        }
        let after = self.looks(page.pfn, &page.sites)?;
        same(promise::ROUND_TRIP, "the page after two moves", after, before)
    }

    /// Moves one page, which must succeed; returns where it is.
    pub(super) fn moves(&self, page: &Mapped) -> Result<Pfn, Halt> {
        let to = self.call(&[page.pfn]).run()?.moved_to(page.pfn)?;
        self.is_at(page, to)?;
        Ok(to)
    }

    /// A run over one page in which `act` is done just before the first step of the kind `at`.
    pub(super) fn while_moving(&self, pfn: Pfn, at: At, act: impl FnOnce() -> Done) -> Result<Ran, Halt> {
        self.needs(Capabilities::MIDDLE)?;
        let (moments, act) = (Moments::default(), Cell::new(Some(act)));
        let done = RefCell::new(None);
        let hook = |edge: Edge| {
            if moments.of(edge) == Some(at) {
                if let Some(act) = act.take() {
                    done.replace(Some(act()));
                }
            }
            Verdict::Go
        };
        let ran = self.call(&[pfn]).hook(&hook).run();
        match done.into_inner() {
            Some(done) => done.and(ran),
            None => ran.and_then(|ran| {
                ran.moved_to(pfn)?;
                Err(broken(promise::BARRIERS, format!("the run of {pfn:?} had no {at}")))
            }),
        }
    }

    /// Takes `n` new pages away again, and says that they are as a new page must be.
    pub(super) fn pristine(&self, page: &PageOf<F>, whose: promise::Contract) -> Done {
        let (backend, pfn) = (self.backend(), self.backend().pfn(page));
        let flags = backend.flags(page).difference(PageFlags::WAITERS);
        same(
            whose,
            &format!("references of the new page {pfn:?}"),
            backend.count(page),
            1,
        )?;
        same(
            whose,
            &format!("flags of the new page {pfn:?}"),
            flags,
            PageFlags::empty(),
        )?;
        same(
            whose,
            &format!("mapping of the new page {pfn:?}"),
            backend.mapping(page),
            Mapping::None,
        )
    }

    /// Puts a page on the LRU, drained.
    pub(super) fn put_back(&self, isolated: Isolated<PageOf<F>>) {
        putback_lru_pages(self.backend(), &mut Some(isolated), self.recording());
        migrate_prep(self.backend());
    }
}

fn at_site(error: FixtureError, site: Site, contract: promise::Contract) -> Halt {
    match error {
        FixtureError::Killed(_) | FixtureError::BadSite(_) | FixtureError::BadFrame(_) => {
            broken(contract, format!("at {site:?}: {error}"))
        }
        other => other.into(),
    }
}
