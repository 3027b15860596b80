//! A way there and back: two runs with which nobody interferes, and everything is as it was but for the frames.

use std::collections::BTreeMap;

use migrate_core::invariants::{Inspect as _, Snapshot, check_round_trip};
use migrate_core::{Mover, migrate_prep};
use mm_types::{Mapping, NodeId, Outcome, PageFlags, Pfn, Pte, PteFlags, Refusal};

use crate::check::words;
use crate::counts::Kind;
use crate::ran::Ran;
use crate::step::Migrate;
use crate::world::World;

/// The word for a way there and back whose ends were compared.
const COMPARED: &str = "a way there and back";

impl World {
    /// Moves pages, moves those that moved back to the nodes where they were, and compares (I39).
    ///
    /// # Errors
    /// What does not hold.
    pub(crate) fn there_and_back(&self, migrate: &Migrate) -> Result<(), String> {
        let leg = Migrate {
            isolated: false,
            middle: Vec::new(),
            fails: Vec::new(),
            ..migrate.clone()
        };
        let profile = self.rules_of(migrate);
        let traced = self.runs.get() % self.care.traces == 0;
        // Pages that go to staging are held there: old ones of 2006 too, which nobody wants any more.
        let drained = || {
            migrate_prep(&self.model);
            Snapshot::of(&self.model)
        };
        let before = traced.then(drained);
        let there = self.one_way(&leg, None)?;
        let home = self.where_they_were(&there);
        self.look()?;
        let back = self.one_way(&leg, Some(&home))?;
        match before {
            Some(mut before) if self.comes_back(&[&there, &back], &before) => {
                self.counts.add(Kind::Check, COMPARED);
                let after = drained();
                say_what_is_sure(&mut before, &after);
                check_round_trip(&before, &after, profile.entries, profile.rules).map_err(words)
            }
            _ => Ok(()),
        }
    }

    /// The pages that moved, each with the node that it came from.
    fn where_they_were(&self, ran: &Ran) -> BTreeMap<Pfn, NodeId> {
        let moved = ran.outcomes.iter().filter_map(|(pfn, outcome)| match outcome {
            Outcome::Moved { to } => Some((*to, self.model.node_of(*pfn))),
            _ => None,
        });
        moved.collect()
    }

    /// True where nothing was done to a page but moving it: nobody let go of it while a run slept, it was not freed or written out,
    /// and its file did not have to give up its private data, which are made again by whoever wants them.
    fn comes_back(&self, legs: &[&Ran], before: &Snapshot) -> bool {
        let keeps = |(pfn, outcome): &(Pfn, Outcome)| {
            let page = before.frame(*pfn).unwrap_or_default();
            let released = match page.mapping {
                Mapping::File(file) => page.flags.contains(PageFlags::PRIVATE) && self.mover(file) == Mover::Fallback,
                _ => false,
            };
            !released && !matches!(outcome, Outcome::Freed | Outcome::Refused(Refusal::WrittenOut))
        };
        legs.iter().all(|ran| ran.slept == 0 && ran.outcomes.iter().all(keeps))
    }
}

/// A writable mapping of a private page is exclusive, also where its entry did not say so: 2006 has no such mark, and its runs lose it.
fn say_what_is_sure(before: &mut Snapshot, after: &Snapshot) {
    let exclusive = |pte: Pte| pte.flags().contains(PteFlags::EXCLUSIVE);
    for entry in &mut before.entries {
        if entry.pte.writable() && exclusive(after.pte(entry.site)) {
            if let Pte::Present { flags, .. } = &mut entry.pte {
                flags.insert(PteFlags::EXCLUSIVE);
            }
        }
    }
}
