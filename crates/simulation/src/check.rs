//! What is compared after each call, and at the end.

use migrate_core::invariants::{Held as Counted, Violation, check_at_rest, check_between_calls, check_contents};
use migrate_core::model::{Config, Op};
use migrate_core::{UsesPageMap, migrate_prep};
use mm_types::{Invariant, NodeId, PageFlags, Pfn, Pte, PteFlags, Site};

use crate::counts::Kind;
use crate::reference::Page;
use crate::step::Step;
use crate::world::{World, site_name};

/// Frames that are looked at after each call, in turn, whether somebody touched them or not.
const IN_TURN: u64 = 4;

/// The words for a look at everything: between two calls, and between two steps of a run.
pub const EVERYTHING: [&str; 2] = ["everything", "everything, in the middle of a run"];

/// What does not hold, as a report says it.
pub(crate) fn words(violation: Violation) -> String {
    violation.to_string()
}

impl World {
    /// Looks at what the last call touched, and a little more; and at everything, when it is time for that.
    ///
    /// # Errors
    /// The first thing that does not hold.
    pub(crate) fn look(&self) -> Result<(), String> {
        if self.is_time_for_all() {
            return self.check();
        }
        self.look_at_some()
    }

    /// As [`World::look`], between two steps of a run.
    pub(crate) fn look_in_run(&self) -> Result<(), String> {
        if !self.is_time_for_all() {
            return self.look_at_some();
        }
        self.counts.add(Kind::Check, EVERYTHING[1]);
        check_between_calls(&self.model).map_err(words)?;
        self.check_packing()?;
        self.check_entries()
    }

    fn is_time_for_all(&self) -> bool {
        self.looks.set(self.looks.get().wrapping_add(1));
        self.looks.get() % self.care.every == 0
    }

    fn look_at_some(&self) -> Result<(), String> {
        self.counts.add(Kind::Check, "what was touched");
        self.model.check_noticed().map_err(words)?;
        let reference = self.reference.borrow();
        let place = self.cursor.get();
        self.cursor.set(place.wrapping_add(1));
        let in_turn = (place * IN_TURN..(place + 1) * IN_TURN)
            .map(|n| Pfn::new(Config::default().base.raw() + n % self.size.all_frames()));
        for pfn in in_turn {
            self.model.check_frame(pfn).map_err(words)?;
        }
        for site in self.touched.borrow().iter() {
            self.model.check_site(*site).map_err(words)?;
            if let Pte::Present { pfn, .. } = self.model.pte(*site) {
                self.model.check_frame(pfn).map_err(words)?;
                if let Some(page) = reference.pages.get(site) {
                    self.check_entry(*site, page).map_err(words)?;
                    self.check_alone(*site, page).map_err(words)?;
                }
            }
        }
        Ok(())
    }

    /// Compares all there is to be seen without touching anything, and recounts the model.
    ///
    /// # Errors
    /// The first thing that does not hold.
    pub(crate) fn check(&self) -> Result<(), String> {
        self.counts.add(Kind::Check, EVERYTHING[0]);
        self.check_rest().map_err(words)?;
        self.check_entries()
    }

    /// Recounts the model, to which no migration is in progress.
    pub(crate) fn check_rest(&self) -> Result<(), Violation> {
        let (isolated, references) = self.held().frames();
        let held = Counted {
            isolated: &isolated,
            references: &references,
        };
        check_at_rest(&self.model, &held)
    }

    /// Every entry shows what it should, and allows no more than programs asked for (I9, I14).
    pub(crate) fn check_entries(&self) -> Result<(), String> {
        let reference = self.reference.borrow();
        let mut pages = reference.pages.iter();
        pages
            .try_for_each(|(site, page)| self.check_entry(*site, page))
            .map_err(words)
    }

    fn check_entry(&self, site: Site, page: &Page) -> Result<(), Violation> {
        let stored = self.reference.borrow().word(page);
        check_contents(&self.model, |site| self.model.pte(site), [(site, stored)])?;
        let pte = self.model.pte(site);
        if pte.writable() && !page.writable {
            let what = format_args!("{} may be written, and was protected: {pte}", site_name(site));
            return Err(Violation::new(Invariant::WriteNotWidened, what));
        }
        Ok(())
    }

    /// What the recount of all says of one entry: nobody may write, or is exclusive, who is not alone (I15, I16).
    fn check_alone(&self, site: Site, page: &Page) -> Result<(), Violation> {
        let pte = self.model.pte(site);
        let Pte::Present { pfn, flags } = pte else {
            return Ok(());
        };
        let of_one = self.model.page(pfn);
        let alone = of_one.mapping().is_anon() && of_one.mapcount() == 1;
        if pte.writable() && !page.shared() && !alone {
            let what = format_args!("{} may write a page that others see: {pte}", site_name(site));
            return Err(Violation::new(Invariant::ForkIsReadOnly, what));
        }
        if flags.contains(PteFlags::EXCLUSIVE) && (page.shared() || !alone) {
            let what = format_args!("{} is exclusive and not alone: {pte}", site_name(site));
            return Err(Violation::new(Invariant::MarksKept, what));
        }
        Ok(())
    }

    /// All entries that are not empty, by address.
    pub(crate) fn entries(&self) -> Vec<(Site, Pte)> {
        let reference = self.reference.borrow();
        let mut spaces = reference.spaces.clone();
        spaces.sort_unstable();
        spaces.into_iter().flat_map(|space| self.model.entries(space)).collect()
    }

    pub(crate) fn sites_that_map(&self, pfn: Pfn) -> Vec<(Site, Pte)> {
        let mut entries = self.entries();
        entries.retain(|(_, pte)| pte.maps(pfn));
        entries
    }

    /// Everybody lets go; every page is read, stored to and read again; then all ends, and memory is free again.
    ///
    /// # Errors
    /// As [`World::play`].
    pub fn end(&self) -> Result<(), String> {
        self.ending.set(true);
        let all = Step::Putback { nth: 0 };
        for step in [
            Step::Put { nth: 0 },
            Step::Unpin { nth: 0 },
            Step::Unlock { nth: 0 },
            Step::Idle { nth: 0 },
            all,
        ] {
            while self.held().has(&step) {
                self.act(&step, ())?;
            }
        }
        let asleep = self.model.asleep();
        if asleep > 0 {
            return Err(format!("{asleep} threads sleep on pages that nobody has locked (I23)"));
        }
        let written = self.held().written(&self.model);
        written.into_iter().for_each(|pfn| self.model.end_writeback(pfn));
        self.check()?;
        let sites: Vec<Site> = self.reference.borrow().pages.keys().copied().collect();
        for (cpu, write) in [(1, false), (2, true), (3, false)] {
            for site in &sites {
                let (word, op) = match write {
                    true => ("write", Op::Write(self.new_word())),
                    false => ("read", Op::Read),
                };
                self.touched.borrow_mut().clear();
                self.access(word, *site, cpu, op, ())?;
                self.look()?;
            }
            self.check()?;
        }
        let (spaces, files) = (self.reference.borrow().spaces.clone(), self.held().files.clone());
        for space in spaces {
            self.note("exit", || format!("m{}", space.raw()));
            self.model.exit(space, ());
            self.reference.borrow_mut().exit(space);
        }
        for file in files {
            self.note("truncate", || format!("file {} to 0", file.raw()));
            self.model.truncate(file, 0, ());
            self.reference.borrow_mut().truncate(file, 0);
        }
        migrate_prep(&self.model);
        self.check()?;
        self.nothing_is_left()
    }

    /// No frame is lost: what is not free waits for reclaim, which the model does not have.
    fn nothing_is_left(&self) -> Result<(), String> {
        let nodes = (0..self.size.nodes).map(NodeId::new);
        let free: usize = nodes.map(|node| self.model.free_frames(node)).sum();
        let (map, all) = (self.model.page_map(), self.size.all_frames());
        let first = Config::default().base.raw();
        let kept = (first..first + all).map(Pfn::new).filter(|pfn| {
            let page = map.page(*pfn);
            page.is_some_and(|page| page.count() > 0)
        });
        let reclaimable = PageFlags::PRIVATE | PageFlags::SWAPCACHE;
        let (mut waiting, mut lost) = (0, Vec::new());
        for pfn in kept {
            if self.flags(pfn).intersects(reclaimable) {
                waiting += 1;
            } else {
                lost.push(self.name(pfn));
            }
        }
        if !lost.is_empty() || (free + waiting) as u64 != all {
            return Err(format!(
                "I20: {free} frames are free, {waiting} wait for reclaim, lost: {lost:?}"
            ));
        }
        Ok(())
    }
}
