//! Loads and stores: on a CPU, and by a thread that sleeps on a page in flight.

use std::sync::Arc;

use migrate_core::fixture::Recording;
use migrate_core::invariants::Inspect;
use migrate_core::model::{Access, Op};
use mm_types::trace::Observer;
use mm_types::{ActorId, Invariant, PageFlags, Pfn, Pte, Site, Vpn};

use super::{Answer, DONE};
use crate::counts::Kind;
use crate::step::Step;
use crate::world::{World, pick, site_name};

impl World {
    pub(super) fn use_memory<O: Observer>(&self, step: &Step, observer: O) -> Answer {
        let op = |write: bool| if write { Op::Write(self.new_word()) } else { Op::Read };
        let (site, cpu, op) = match *step {
            // Now and then where nothing is ever mapped.
            Step::Read { at, cpu } if at % 256 == 255 => {
                let beyond = Vpn::new(2 * u64::from(u8::MAX));
                (Site::new(self.space(at)?, beyond), cpu, Op::Read)
            }
            Step::Read { at, cpu } => (self.site(at)?, cpu, Op::Read),
            Step::Write { at, cpu } => (self.site(at)?, cpu, op(true)),
            Step::SwapIn { at, write } => {
                let swapped = |site, _: &_| matches!(self.model.pte(site), Pte::Swap { .. });
                (self.find_site(at, swapped)?, 0, op(write))
            }
            Step::Wait { at, write } => {
                let in_flight = |site: &Site| self.model.pte(*site).is_migration();
                let of_run: Vec<Site> = self.run_sites.borrow().iter().copied().filter(in_flight).collect();
                let elsewhere = || self.find_site(at, |site, _| in_flight(&site));
                self.wait(pick(&of_run, at).or_else(elsewhere)?, op(write));
                return DONE;
            }
            Step::Again { nth, write } => {
                // The same CPU: what it remembers of the place must not be used where the place has changed.
                let (site, cpu) = self.recent(nth)?;
                (site, cpu, op(write))
            }
            _ => return None,
        };
        let word = match (step, op) {
            (Step::SwapIn { .. }, _) => "swap_in",
            (_, Op::Read) => "read",
            (_, Op::Write(_)) => "write",
        };
        Some(self.access(word, site, cpu, op, observer))
    }

    pub(crate) fn new_word(&self) -> u64 {
        self.words.set(self.words.get() + 1);
        self.words.get()
    }

    /// One access, which either comes to what the reference says, or is in the way of somebody who has the page.
    pub(crate) fn access<O: Observer>(
        &self,
        word: &'static str,
        site: Site,
        cpu: u8,
        op: Op,
        observer: O,
    ) -> Result<(), String> {
        let what = || match op {
            Op::Read => format!("{} on cpu {cpu}", site_name(site)),
            Op::Write(value) => format!("{} {value:#x} on cpu {cpu}", site_name(site)),
        };
        self.note(word, what);
        self.note_access(site, cpu);
        self.touch([site]);
        let expected = self.reference.borrow().access(site, op);
        let found = self.model.access(ActorId::new(cpu.into()), site, op, observer);
        match found {
            Access::MustWait(at) if self.in_run.get() && at == site => self.counts.add(Kind::Wait, "for an entry"),
            // Frozen, or locked by whoever has it.
            Access::Busy(pfn) if self.is_in_use(pfn) => self.counts.add(Kind::Wait, "for a page"),
            found if found == expected => {
                if let (Access::Done(word), Op::Write(_)) = (found, op) {
                    self.reference.borrow_mut().store(site, word);
                }
            }
            found => {
                let broken = self.broken_by(cpu.into(), site, found).id();
                return Err(format!(
                    "{broken}: {word} {}: {found:?}, and should be {expected:?}",
                    what()
                ));
            }
        }
        Ok(())
    }

    /// A thread of its own touches a page in flight; what it comes to is looked at when it has.
    fn wait(&self, site: Site, op: Op) {
        // Threads that wait have numbers of their own; the CPUs come before.
        let n = self.threads.replace(self.threads.get().wrapping_add(1));
        let actor = ActorId::new(n.wrapping_add(2 * u32::from(self.size.cpus)));
        self.note("wait", || {
            format!("of thread {} for {}: {op:?}", actor.raw(), site_name(site))
        });
        self.waits.borrow_mut().insert(actor, op);
        self.touch([site]);
        self.disturb_site(site);
        let unheard = || Arc::new(Recording::with_capacity(0));
        let recording = self.recording.borrow().clone().unwrap_or_else(unheard);
        self.model.access_in_thread(actor, site, op, &recording);
    }

    /// What threads came to since the last look is what the reference says.
    ///
    /// # Errors
    /// As [`World::access`].
    pub(crate) fn finish_waits(&self) -> Result<(), String> {
        for (actor, site, found) in self.model.take_finished() {
            let Some(op) = self.waits.borrow_mut().remove(&actor) else {
                continue;
            };
            self.touch([site]);
            self.disturb_site(site);
            let expected = self.reference.borrow().access(site, op);
            match found {
                // Frozen at that moment: the thread would look again.
                Access::MustWait(_) | Access::Busy(_) => self.counts.add(Kind::Wait, "a thread would look again"),
                found if found == expected => {
                    self.counts.add(Kind::Wait, "a thread woke");
                    if let (Access::Done(word), Op::Write(_)) = (found, op) {
                        self.reference.borrow_mut().store(site, word);
                    }
                }
                found => {
                    return Err(format!(
                        "{}: thread {} at {}: {found:?}, and should be {expected:?}",
                        self.broken_by(actor.raw(), site, found).id(),
                        actor.raw(),
                        site_name(site)
                    ));
                }
            }
        }
        Ok(())
    }

    /// What does not hold where an access came to something else than it should have.
    fn broken_by(&self, cpu: u32, site: Site, found: Access) -> Invariant {
        // Threads share the processors that there are.
        let on = cpu % u32::from(self.size.cpus);
        let mut stale = false;
        let pte = self.model.pte(site);
        self.model.translations(&mut |held| {
            stale |= (held.cpu, held.site) == (on, site) && !pte.maps(held.pfn);
        });
        match found {
            // The processor did as its old translation said.
            Access::Done(_) if stale => Invariant::NoStaleTranslation,
            Access::Done(_) => Invariant::Contents,
            Access::MustWait(_) | Access::Busy(_) => Invariant::WaitersWake,
            Access::Segv | Access::Bus | Access::OutOfMemory => Invariant::MappedAsBefore,
        }
    }

    fn is_in_use(&self, pfn: Pfn) -> bool {
        self.flags(pfn).contains(PageFlags::LOCKED) || self.model.page(pfn).count() == 0
    }
}
