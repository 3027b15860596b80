//! Isolation, locks and the protocol of one page: I1–I3, I10, I19–I22, I30–I34.

use super::{Checker, FrameState, Hold, Invariant, Rule, Step, Stop, ensure};
use crate::{Mode, PageFlags, Pfn, Rules};

impl Checker<'_> {
    pub(super) fn isolate(&mut self, pfn: Pfn) -> Step {
        let frame = self.edit(pfn)?;
        match frame.hold {
            Hold::Isolated => ensure(false, Invariant::OneList, "isolated twice")?,
            Hold::New => ensure(false, Invariant::OneList, "a destination was isolated")?,
            Hold::Arrived => ensure(false, Invariant::OneList, "isolated before it was put back")?,
            Hold::Unknown | Hold::Loose | Hold::OnMoved => {}
        }
        // A new user: nothing of an earlier migration counts.
        *frame = FrameState {
            hold: Hold::Isolated,
            entries: frame.entries,
            mapped: frame.mapped,
            locked: frame.locked,
            mark: frame.mark,
            ..FrameState::default()
        };
        Ok(())
    }

    pub(super) fn putback(&mut self, pfn: Pfn) -> Step {
        let frame = self.edit(pfn)?;
        match frame.hold {
            Hold::Isolated => {
                ensure(
                    !frame.locked,
                    Invariant::Isolation,
                    "put back while the migration has it locked",
                )?;
                ensure(
                    frame.done || !frame.in_run,
                    Invariant::OneOutcome,
                    "put back before it has an outcome",
                )?;
            }
            Hold::OnMoved | Hold::Arrived => {}
            Hold::New => ensure(false, Invariant::OneList, "put back before anything moved into it")?,
            Hold::Unknown | Hold::Loose => ensure(false, Invariant::Isolation, "put back, but not isolated")?,
        }
        frame.hold = Hold::Loose;
        Ok(())
    }

    pub(super) fn lock(&mut self, pfn: Pfn) -> Step {
        let frame = self.edit(pfn)?;
        ensure(!frame.done, Invariant::OneOutcome, "locked again after its outcome")?;
        ensure(!frame.locked, Invariant::EntryNamesLocked, "locked twice")?;
        if frame.hold == Hold::Unknown {
            frame.hold = Hold::Isolated;
        }
        let held = matches!(frame.hold, Hold::Isolated | Hold::New);
        ensure(held, Invariant::Isolation, "locked for migration, but not isolated")?;
        (frame.locked, frame.lock_unsure, frame.in_run) = (true, false, true);
        self.locks = self.locks.saturating_add(1);
        Ok(())
    }

    pub(super) fn unlock(&mut self, pfn: Pfn) -> Step {
        let frame = self.frame(pfn);
        let held = frame.locked || frame.lock_unsure;
        ensure(held, Invariant::EntryNamesLocked, "unlocked, but not locked")?;
        ensure(
            frame.entries == 0,
            Invariant::NoEntryLeft,
            "unlocked while entries name it",
        )?;
        let flushed = frame.restored_at != Some(self.barriers);
        ensure(
            flushed,
            Invariant::NoStaleTranslation,
            "no barrier between restoring and unlocking",
        )?;
        if let Some(partner) = frame.partner.map(Pfn::new) {
            let other = self.frame(partner);
            if frame.switched {
                ensure(
                    !other.locked,
                    Rule::StepOrder,
                    "the old page was unlocked before the new one",
                )?;
            } else if other.switched {
                let restored = other.entries == 0;
                ensure(
                    restored,
                    Invariant::NoEntryLeft,
                    "the new page was unlocked before entries were restored",
                )?;
            }
        }
        let frame = self.edit(pfn)?;
        let locked = frame.locked;
        (frame.locked, frame.lock_unsure) = (false, false);
        if !frame.switched {
            (frame.copied, frame.frozen) = (false, false);
        }
        self.locks = self.locks.saturating_sub(locked.into());
        Ok(())
    }

    pub(super) fn wait_writeback(&mut self, pfn: Pfn) -> Step {
        if let Some(run) = self.run {
            let may = run.rules == Rules::Linux2617 || run.mode == Mode::Sync;
            ensure(
                may,
                Invariant::AsyncNeverWaits,
                "waited for writeback in a mode that may not",
            )?;
        }
        let frame = self.frame(pfn);
        let new = frame.partner.map(Pfn::new).is_some_and(|new| self.frame(new).locked);
        let own = u32::from(frame.locked).saturating_add(u32::from(new));
        ensure(
            self.locks <= own,
            Invariant::NoWaitWithLocks,
            "waited for writeback with another page locked",
        )
    }

    pub(super) fn new_page(&mut self, old: Pfn, new: Pfn) -> Step {
        let taken = self.edit(new)?;
        match taken.hold {
            Hold::New => ensure(false, Invariant::Bounded, "a new page was taken twice")?,
            Hold::Isolated => ensure(false, Invariant::OneList, "an isolated page was taken as a new page")?,
            Hold::Arrived => ensure(
                false,
                Invariant::Bounded,
                "a new page was taken again after it was used",
            )?,
            Hold::Unknown | Hold::Loose | Hold::OnMoved => {}
        }
        ensure(
            old != new,
            Invariant::Bounded,
            "a page was taken as its own destination",
        )?;
        ensure(
            !taken.locked,
            Invariant::EntryNamesLocked,
            "a locked page was taken as a new page",
        )?;
        ensure(taken.entries == 0, Invariant::NoEntryLeft, "entries name the new page")?;
        *taken = FrameState {
            hold: Hold::New,
            locked: true,
            partner: Some(old.raw()),
            mark: taken.mark,
            ..FrameState::default()
        };
        self.locks = self.locks.saturating_add(1);
        let source = self.edit(old)?;
        ensure(
            source.partner.is_none(),
            Invariant::Bounded,
            "a second new page for one page",
        )?;
        ensure(
            !source.done,
            Invariant::OneOutcome,
            "a new page was taken after the outcome",
        )?;
        (source.partner, source.in_run) = (Some(new.raw()), true);
        Ok(())
    }

    pub(super) fn give_back(&mut self, new: Pfn) -> Step {
        let frame = self.edit(new)?;
        ensure(
            frame.hold != Hold::Arrived,
            Invariant::OnlyForward,
            "a new page was given back after the switch",
        )?;
        ensure(
            frame.hold != Hold::Isolated,
            Invariant::OneList,
            "an isolated page was given back as a new page",
        )?;
        ensure(!frame.locked, Rule::StepOrder, "a new page was given back locked")?;
        // A page that was taken and never locked, because the old page's lock was busy, is not announced.
        let old = frame.partner;
        (frame.hold, frame.partner) = (Hold::Loose, None);
        if let Some(old) = old {
            self.edit(Pfn::new(old))?.partner = None;
        }
        Ok(())
    }

    /// The source of a pair, which must be this one, both locked.
    fn pair(&mut self, old: Pfn, new: Pfn) -> Result<FrameState, Stop> {
        let source = self.frame(old);
        let paired = source.partner == Some(new.raw());
        ensure(
            paired,
            Invariant::RestoresRightFrame,
            "the new page was not taken for this page",
        )?;
        ensure(source.locked, Invariant::EntryNamesLocked, "the old page is not locked")?;
        ensure(
            self.frame(new).locked,
            Invariant::CopyBeforeUse,
            "the new page is not locked",
        )?;
        Ok(source)
    }

    pub(super) fn set_mapping(&mut self, old: Pfn, new: Pfn) -> Step {
        let source = self.pair(old, new)?;
        let early = self.rules() == Some(Rules::Linux2617);
        let late = source.frozen || source.switched;
        ensure(
            early || late,
            Invariant::DestinationUntouched,
            "the new page got its mapping before the switch",
        )
    }

    pub(super) fn copy(&mut self, old: Pfn, new: Pfn) -> Step {
        let source = self.pair(old, new)?;
        let flushed = source.unmapped_at != Some(self.barriers);
        ensure(
            flushed,
            Invariant::NoStaleTranslation,
            "no barrier between unmapping and copying",
        )?;
        ensure(
            source.mapped == 0,
            Invariant::NoStaleTranslation,
            "copied while an entry still maps the page",
        )?;
        ensure(
            self.owing == 0,
            Invariant::NoStaleTranslation,
            "a reader of an entry in flight had not flushed",
        )?;
        match self.rules() {
            Some(Rules::Linux2617) => {
                ensure(source.switched, Invariant::SwitchFrozen, "2006 copies after the switch")?;
            }
            Some(Rules::Modern) => {
                ensure(
                    !source.switched,
                    Invariant::SwitchFrozen,
                    "today copies before the switch",
                )?;
            }
            None => {}
        }
        let modern = self.rules() == Some(Rules::Modern);
        let frame = self.edit(old)?;
        frame.copied = true;
        // A copy after a freeze is another attempt: the slot had changed, and the count thawed without a word.
        frame.frozen &= !modern;
        Ok(())
    }

    pub(super) fn freeze(&mut self, pfn: Pfn) -> Step {
        let modern = self.rules() == Some(Rules::Modern);
        let frame = self.edit(pfn)?;
        ensure(frame.locked, Invariant::EntryNamesLocked, "frozen without its lock")?;
        ensure(!frame.frozen, Invariant::SwitchFrozen, "frozen twice")?;
        ensure(!frame.switched, Invariant::OnlyForward, "frozen after the switch")?;
        ensure(
            frame.copied || !modern,
            Invariant::SwitchFrozen,
            "today copies before the count is frozen",
        )?;
        frame.frozen = true;
        Ok(())
    }

    pub(super) fn switch(&mut self, old: Pfn, new: Pfn) -> Step {
        let source = self.pair(old, new)?;
        ensure(!source.switched, Invariant::SwitchFrozen, "switched twice")?;
        ensure(
            source.frozen,
            Invariant::SwitchFrozen,
            "switched without freezing the count",
        )?;
        let frame = self.edit(old)?;
        (frame.frozen, frame.switched) = (false, true);
        self.edit(new)?.hold = Hold::Arrived;
        Ok(())
    }

    pub(super) fn transfer(&mut self, old: Pfn, new: Pfn, flags: PageFlags) -> Step {
        let source = self.pair(old, new)?;
        ensure(
            source.switched,
            Invariant::DestinationUntouched,
            "flags were handed over before the switch",
        )?;
        let early = flags.contains(PageFlags::UPTODATE) && !source.copied;
        ensure(
            !early,
            Invariant::CopyBeforeUse,
            "the new page is up to date before the copy",
        )?;
        self.edit(old)?.in_error = !source.copied && flags.contains(PageFlags::ERROR);
        Ok(())
    }

    pub(super) fn writeout(&mut self, pfn: Pfn) -> Step {
        let frame = self.edit(pfn)?;
        ensure(
            frame.locked,
            Invariant::EntryNamesLocked,
            "written out without its lock",
        )?;
        ensure(
            frame.entries == 0,
            Invariant::NoEntriesAtCallback,
            "written out while entries name it",
        )?;
        // It may come back unlocked, and then nobody says so.
        (frame.locked, frame.lock_unsure) = (false, true);
        self.locks = self.locks.saturating_sub(1);
        Ok(())
    }

    pub(super) fn flush(&mut self, entries: u32) -> Step {
        let all = entries >= self.edits;
        ensure(
            all,
            Invariant::NoStaleTranslation,
            "the barrier covers fewer entries than were changed",
        )?;
        self.barriers = self.barriers.saturating_add(1);
        self.edits = 0;
        Ok(())
    }
}
