//! What is compared after each call, and at the end.

use migrate_core::invariants::{Held as Counted, check_at_rest, check_contents};
use migrate_core::model::{Config, Op};
use migrate_core::{UsesPageMap, migrate_prep};
use mm_types::{NodeId, PageFlags, Pfn};

use super::step::Step;
use super::world::{FRAMES, World, site_name};

impl World {
    /// Compares all there is to be seen without touching anything, and recounts the model.
    ///
    /// # Errors
    /// The first thing that does not hold.
    pub(crate) fn check(&self) -> Result<(), String> {
        let (isolated, references) = self.held().frames();
        let held = Counted {
            isolated: &isolated,
            references: &references,
        };
        check_at_rest(&self.model, &held).map_err(|violation| violation.to_string())?;
        self.check_entries()
    }

    /// Every entry shows what it should, and allows no more than programs asked for (I9, I14).
    pub(crate) fn check_entries(&self) -> Result<(), String> {
        let reference = self.reference.borrow();
        let stored = reference.pages.keys().map(|site| (*site, reference.value(*site)));
        check_contents(&self.model, |site| self.model.pte(site), stored).map_err(|violation| violation.to_string())?;
        for (site, page) in &reference.pages {
            let pte = self.model.pte(*site);
            if pte.writable() && !page.writable {
                let name = site_name(*site);
                return Err(format!("I14: {name} may be written, and was protected: {pte}"));
            }
        }
        Ok(())
    }

    /// Everybody lets go; every page is read, stored to and read again; then all ends, and memory is free again.
    pub(crate) fn end(&self) -> Result<(), String> {
        let all = Step::Putback { nth: 0 };
        for step in [
            Step::Put { nth: 0 },
            Step::Unpin { nth: 0 },
            Step::Unlock { nth: 0 },
            Step::Idle { nth: 0 },
            all,
        ] {
            for _ in 0..64 {
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
        let sites = self.sites(|_, _| true);
        for (cpu, write) in [(1, false), (2, true), (3, false)] {
            for site in &sites {
                let op = if write { Op::Write(self.new_word()) } else { Op::Read };
                self.access(*site, cpu, op, ())?;
                self.check_entries()?;
            }
            self.check()?;
        }
        let (spaces, files) = (self.reference.borrow().spaces.clone(), self.held().files.clone());
        for space in spaces {
            self.note(format!("exit m{}", space.raw()));
            self.model.exit(space, ());
            self.reference.borrow_mut().exit(space);
        }
        for file in files {
            self.note(format!("truncate file {} to 0", file.raw()));
            self.model.truncate(file, 0, ());
            self.reference.borrow_mut().truncate(file, 0);
        }
        migrate_prep(&self.model);
        self.check()?;
        self.nothing_is_left()
    }

    /// No frame is lost: what is not free waits for reclaim, which the model does not have.
    fn nothing_is_left(&self) -> Result<(), String> {
        let free: usize = [0, 1]
            .map(|node| self.model.free_frames(NodeId::new(node)))
            .iter()
            .sum();
        let map = self.model.page_map();
        let first = Config::default().base.raw();
        let kept = (first..first + 2 * FRAMES).map(Pfn::new).filter(|pfn| {
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
        if !lost.is_empty() || free + waiting != 2 * FRAMES as usize {
            return Err(format!(
                "{free} frames are free, {waiting} wait for reclaim, lost: {lost:?}"
            ));
        }
        Ok(())
    }
}
