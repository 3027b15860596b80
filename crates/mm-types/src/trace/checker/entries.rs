//! Entries, and who meets them: I3, I6, I7, I10, I14, I15, I17, I23, I33.

use super::{Checker, Hold, Invariant, Step, ensure};
use crate::{ActorId, MigrationKind, Pfn, Pte, Rules, Site, SpaceId};

fn kind(pte: Pte) -> Option<MigrationKind> {
    pte.migration().map(|entry| entry.kind())
}

fn will_write(pte: Pte) -> bool {
    pte.writable() || kind(pte) == Some(MigrationKind::Write)
}

impl Checker<'_> {
    /// Holds what an event says it found against what the trace left there. Only entries in flight must be accounted for:
    /// a present one may have been mapped before the first line.
    fn found(&self, site: Site, before: Pte) -> Step {
        match (
            self.sites.get(site).copied().and_then(Pte::migration),
            before.migration(),
        ) {
            (Some(known), Some(found)) => {
                ensure(
                    known.pfn() == found.pfn(),
                    Invariant::NoEntryLeft,
                    "the entry names another page than it did",
                )?;
                let same = known.kind() == found.kind();
                ensure(
                    same,
                    Invariant::WriteNotWidened,
                    "the entry's permission changed between two events",
                )
            }
            (Some(_), None) => ensure(false, Invariant::NoEntryLeft, "a migration entry vanished"),
            (None, Some(_)) => ensure(false, Invariant::NoEntryLeft, "a migration entry that nobody installed"),
            (None, None) => Ok(()),
        }
    }

    /// Puts `pte` at `site` and keeps the counts of both frames.
    fn put(&mut self, site: Site, pte: Pte) -> Step {
        if let Some(old) = self.sites.remove(site) {
            if let Some(pfn) = old.pfn() {
                let frame = self.edit(pfn)?;
                let count = if old.is_present() {
                    &mut frame.mapped
                } else {
                    &mut frame.entries
                };
                *count = count.saturating_sub(1);
            }
        }
        if !pte.is_present() && !pte.is_migration() {
            return Ok(());
        }
        if let Some(pfn) = pte.pfn() {
            let frame = self.edit(pfn)?;
            if pte.is_migration() {
                ensure(
                    frame.locked,
                    Invariant::EntryNamesLocked,
                    "a migration entry for a page that is not locked",
                )?;
            }
            let count = if pte.is_present() {
                &mut frame.mapped
            } else {
                &mut frame.entries
            };
            *count = count.saturating_add(1);
        }
        self.sites.set(site, pte)?;
        Ok(())
    }

    pub(super) fn unmap(&mut self, pfn: Pfn, site: Site, before: Pte, after: Pte) -> Step {
        self.found(site, before)?;
        let barriers = self.barriers;
        let rules = self.rules();
        ensure(
            before.maps(pfn),
            Invariant::RestoresRightFrame,
            "replaced an entry that does not map the page",
        )?;
        ensure(
            !after.is_present(),
            Invariant::RestoresRightFrame,
            "unmapped to an entry that is present",
        )?;
        if let Some(entry) = after.migration() {
            ensure(
                entry.pfn() == pfn,
                Invariant::RestoresRightFrame,
                "the migration entry names another page",
            )?;
            let widened = entry.is_write() && !before.writable();
            ensure(
                !widened,
                Invariant::WriteNotWidened,
                "a write entry for a mapping that was not writable",
            )?;
            let remembers = rules == Some(Rules::Linux2617) && (after.young() || after.dirty());
            ensure(
                !remembers,
                Invariant::YoungAsProfile,
                "a 2006 entry remembers young or dirty",
            )?;
        }
        let frame = self.edit(pfn)?;
        ensure(frame.locked, Invariant::EntryNamesLocked, "unmapped without its lock")?;
        let late = frame.copied || frame.frozen || frame.switched;
        ensure(
            !late,
            Invariant::NoStaleTranslation,
            "unmapped after the copy or the switch",
        )?;
        (frame.unmapped_at, frame.in_run) = (Some(barriers), true);
        self.edits = self.edits.saturating_add(1);
        self.spaces.entry(site.space.raw(), Default::default)?.unmapped_at = Some(barriers);
        self.put(site, after)
    }

    pub(super) fn restore(&mut self, old: Pfn, new: Pfn, site: Site, before: Pte, after: Pte) -> Step {
        self.found(site, before)?;
        let named = before.migration().is_some_and(|entry| entry.pfn() == old);
        ensure(
            named,
            Invariant::RestoresRightFrame,
            "restored an entry that does not name the page",
        )?;
        ensure(
            after.maps(new),
            Invariant::RestoresRightFrame,
            "the restored entry maps another page",
        )?;
        let page = self.frame(old);
        ensure(
            page.locked,
            Invariant::EntryNamesLocked,
            "restored without the old page's lock",
        )?;
        if page.switched {
            let right = page.partner == Some(new.raw());
            ensure(
                right,
                Invariant::RestoresRightFrame,
                "the page moved and another page is mapped",
            )?;
            let there = page.copied || page.in_error;
            ensure(
                there,
                Invariant::CopyBeforeUse,
                "the new page is mapped before the copy",
            )?;
            ensure(
                self.frame(new).locked,
                Invariant::CopyBeforeUse,
                "the new page is not locked",
            )?;
        } else {
            ensure(
                new == old,
                Invariant::RestoresRightFrame,
                "the new page is mapped and the page did not move",
            )?;
        }
        let widened = after.writable() && kind(before) != Some(MigrationKind::Write);
        ensure(
            !widened,
            Invariant::WriteNotWidened,
            "restored writable from an entry that is not",
        )?;
        match self.rules() {
            Some(Rules::Linux2617) => {
                let old = !after.young() && !after.dirty();
                ensure(old, Invariant::YoungAsProfile, "2006 restores entries old and clean")?;
            }
            Some(Rules::Modern) => {
                ensure(
                    after.young() == before.young(),
                    Invariant::YoungAsProfile,
                    "young is not as it was",
                )?;
                ensure(
                    before.dirty() || !after.dirty(),
                    Invariant::YoungAsProfile,
                    "dirty, but the entry was not",
                )?;
            }
            None => {}
        }
        let barriers = self.barriers;
        self.edit(old)?.restored_at = Some(barriers);
        self.edit(new)?.restored_at = Some(barriers);
        self.edits = self.edits.saturating_add(1);
        self.put(site, after)
    }

    pub(super) fn map(&mut self, site: Site, after: Pte) -> Step {
        let in_flight = self.sites.get(site).is_some_and(|pte| pte.is_migration());
        ensure(!in_flight, Invariant::NoEntryLeft, "mapped over a migration entry")?;
        ensure(
            !after.is_migration(),
            Invariant::NoEntryLeft,
            "a migration entry was mapped, not installed",
        )?;
        if let Pte::Present { pfn, .. } = after {
            ensure(
                self.frame(pfn).hold != Hold::New,
                Invariant::CopyBeforeUse,
                "a new page without contents is mapped",
            )?;
        }
        self.put(site, after)
    }

    pub(super) fn zap(&mut self, site: Site, before: Pte) -> Step {
        self.found(site, before)?;
        self.owe(site, before);
        self.put(site, Pte::None)
    }

    pub(super) fn protect(&mut self, site: Site, before: Pte, after: Pte) -> Step {
        self.found(site, before)?;
        ensure(
            before.pfn() == after.pfn(),
            Invariant::RestoresRightFrame,
            "the page changed with the permission",
        )?;
        ensure(
            before.is_migration() == after.is_migration(),
            Invariant::NoEntryLeft,
            "an entry in flight changed its kind",
        )?;
        let widened = kind(after) == Some(MigrationKind::Write) && kind(before) != Some(MigrationKind::Write);
        ensure(
            !widened,
            Invariant::WriteNotWidened,
            "an entry in flight became writable",
        )?;
        self.owe(site, before);
        self.put(site, after)
    }

    pub(super) fn copy_pte(&mut self, from: Site, to: Site, parent: Pte, child: Pte) -> Step {
        if let Some(known) = self.sites.get(from).copied().filter(|known| known.is_migration()) {
            ensure(
                parent.is_migration(),
                Invariant::NoEntryLeft,
                "a migration entry vanished",
            )?;
            ensure(
                parent.pfn() == known.pfn(),
                Invariant::NoEntryLeft,
                "the entry names another page than it did",
            )?;
            let widened = will_write(parent) && !will_write(known);
            ensure(
                !widened,
                Invariant::WriteNotWidened,
                "fork made an entry in flight writable",
            )?;
        } else {
            ensure(
                !parent.is_migration(),
                Invariant::NoEntryLeft,
                "a migration entry that nobody installed",
            )?;
        }
        ensure(
            parent.pfn() == child.pfn(),
            Invariant::RestoresRightFrame,
            "parent and child have different pages",
        )?;
        ensure(
            !will_write(child) || will_write(parent),
            Invariant::ForkIsReadOnly,
            "only the child may write",
        )?;
        let taken = self.sites.get(to).is_some_and(|pte| pte.is_migration());
        ensure(!taken, Invariant::NoEntryLeft, "copied over a migration entry")?;
        self.owe(from, parent);
        self.put(from, parent)?;
        self.put(to, child)
    }

    pub(super) fn move_pte(&mut self, from: Site, to: Site, pte: Pte) -> Step {
        self.found(from, pte)?;
        let taken = self.sites.get(to).is_some_and(|pte| pte.is_migration());
        ensure(!taken, Invariant::NoEntryLeft, "moved over a migration entry")?;
        self.owe(from, pte);
        self.put(from, Pte::None)?;
        self.put(to, pte)
    }

    /// Who copies, clears or changes an entry in flight before the batch's barrier must flush before it goes on: another
    /// CPU may still write through the old translation.
    fn owe(&mut self, site: Site, pte: Pte) {
        let barriers = self.barriers;
        if let Some(space) = self.spaces.get_mut(site.space.raw()) {
            let owes = pte.is_migration() && space.unmapped_at == Some(barriers);
            self.owing = self.owing.saturating_add((owes && !space.owes_flush).into());
            space.owes_flush |= owes;
        }
    }

    pub(super) fn flush_pending(&mut self, space: SpaceId) -> Step {
        if let Some(space) = self.spaces.get_mut(space.raw()) {
            self.owing = self.owing.saturating_sub(space.owes_flush.into());
            space.owes_flush = false;
        }
        Ok(())
    }

    pub(super) fn wait(&mut self, actor: ActorId, site: Site, pfn: Pfn) -> Step {
        let entry = self.sites.get(site).copied().and_then(Pte::migration);
        let named = entry.is_some_and(|entry| entry.pfn() == pfn);
        ensure(named, Invariant::WaitersWake, "waits where no entry names the page")?;
        ensure(
            self.frame(pfn).locked,
            Invariant::WaitersWake,
            "waits on a page that nobody will unlock",
        )?;
        ensure(
            self.waiting.get(actor.raw()).is_none(),
            Invariant::WaitersWake,
            "waits twice at a time",
        )?;
        self.waiting.set(actor.raw(), site)?;
        Ok(())
    }

    pub(super) fn wake(&mut self, actor: ActorId) -> Step {
        let waited = self.waiting.remove(actor.raw());
        ensure(waited.is_some(), Invariant::WaitersWake, "wakes and was not waiting")
    }
}
