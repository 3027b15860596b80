//! Runs and outcomes: I29, I30, and what must be over when a run is.

use super::{Checker, FrameState, Hold, Invariant, Rule, Run, Step, ensure};
use crate::{Mode, Pfn, Refusal, Rules};

// 2.6.17 makes 11 passes. Today: 10 in async mode; else 3 over batches, then 7 one by one; each stage (unmap, move)
// of each has that many.
const LAST_PASS_2006: u32 = 10;
const LAST_PASS_MODERN: u32 = 9;
const MODERN_SINGLE_FROM: u32 = 3;

impl Checker<'_> {
    pub(super) fn start(&mut self, rules: Rules, mode: Mode) -> Step {
        ensure(self.run.is_none(), Rule::StepOrder, "a run begins within a run")?;
        self.begun = self.begun.wrapping_add(1);
        self.run = Some(Run {
            rules,
            mode,
            pass: None,
            succeeded: 0,
            failed: 0,
            left: 0,
        });
        Ok(())
    }

    pub(super) fn pass(&mut self, number: u32) -> Step {
        let Some(run) = &mut self.run else {
            return ensure(false, Rule::StepOrder, "a pass outside a run");
        };
        let next = run.pass.map_or(0, |pass| pass.saturating_add(1));
        let (last, restarts) = match run.rules {
            Rules::Linux2617 => (LAST_PASS_2006, false),
            Rules::Modern => (LAST_PASS_MODERN, number == 0 || number == MODERN_SINGLE_FROM),
        };
        ensure(number <= last, Invariant::Bounded, "more passes than the profile makes")?;
        ensure(
            number == next || restarts,
            Invariant::Bounded,
            "passes are not numbered in order",
        )?;
        run.pass = Some(number);
        Ok(())
    }

    pub(super) fn end(&mut self, succeeded: u32, failed: u32, left: u32) -> Step {
        let Some(run) = self.run.take() else {
            return ensure(false, Rule::StepOrder, "a run ends that has not begun");
        };
        self.undone()?;
        for frame in self.changed() {
            ensure(
                !frame.in_run || frame.done,
                Invariant::OneOutcome,
                "a page was tried and has no outcome",
            )?;
        }
        self.settled();
        ensure(
            run.succeeded == succeeded,
            Invariant::OneOutcome,
            "succeeded is not the number of pages moved or freed",
        )?;
        ensure(
            run.failed == failed,
            Invariant::OneOutcome,
            "failed is not the number of pages refused for good",
        )?;
        ensure(
            run.left == left,
            Invariant::OneOutcome,
            "left is not the number of pages refused for now",
        )?;
        self.total.runs = self.total.runs.saturating_add(1);
        self.total.succeeded = self.total.succeeded.saturating_add(succeeded);
        Ok(())
    }

    /// What may not be left when a run ends, nor when the trace does.
    ///
    /// Frames that nothing has changed since the last run ended were found so then.
    fn undone(&self) -> Step {
        for frame in self.changed() {
            ensure(frame.entries == 0, Invariant::NoEntryLeft, "a migration entry is left")?;
            ensure(!frame.locked, Invariant::WaitersWake, "a page is left locked")?;
            ensure(
                frame.hold != Hold::New,
                Invariant::Bounded,
                "a new page was neither used nor given back",
            )?;
        }
        Ok(())
    }

    /// The frames that changed since the last run ended.
    fn changed(&self) -> impl Iterator<Item = FrameState> {
        let mut next = self.changed;
        core::iter::from_fn(move || {
            let frame = self.frame(Pfn::new(next?));
            next = frame.mark.next;
            Some(frame)
        })
    }

    fn settled(&mut self) {
        while let Some(frame) = self.changed.and_then(|pfn| self.frames.get_mut(pfn)) {
            frame.mark.changed = false;
            self.changed = frame.mark.next.take();
        }
    }

    pub(super) fn ended(&self) -> Step {
        ensure(self.run.is_none(), Rule::StepOrder, "the trace ends within a run")?;
        self.undone()?;
        ensure(
            self.waiting.is_empty(),
            Invariant::WaitersWake,
            "a thread waits and never wakes",
        )?;
        ensure(
            self.owing == 0,
            Invariant::NoStaleTranslation,
            "a reader of an entry in flight never flushed",
        )
    }

    pub(super) fn freed(&mut self, pfn: Pfn) -> Step {
        let frame = self.edit(pfn)?;
        ensure(!frame.switched, Invariant::OnlyForward, "freed after the switch")?;
        ensure(
            frame.hold != Hold::New && frame.hold != Hold::Arrived,
            Invariant::OneList,
            "a new page was freed",
        )?;
        finish(frame)?;
        frame.hold = Hold::OnMoved;
        if let Some(run) = &mut self.run {
            run.succeeded = run.succeeded.saturating_add(1);
        }
        Ok(())
    }

    pub(super) fn moved(&mut self, old: Pfn, new: Pfn) -> Step {
        let pair = self.frame(old);
        ensure(pair.switched, Invariant::SwitchFrozen, "moved without a switch")?;
        ensure(
            pair.partner == Some(new.raw()),
            Invariant::RestoresRightFrame,
            "moved to another page's new page",
        )?;
        ensure(
            pair.entries == 0,
            Invariant::NoEntryLeft,
            "moved while entries still name the old page",
        )?;
        ensure(
            pair.copied && !pair.in_error,
            Invariant::CopyErrorReported,
            "moved without its contents",
        )?;
        let frame = self.edit(old)?;
        finish(frame)?;
        frame.hold = Hold::OnMoved;
        frame.partner = None;
        self.edit(new)?.partner = None;
        if let Some(run) = &mut self.run {
            run.succeeded = run.succeeded.saturating_add(1);
        }
        Ok(())
    }

    pub(super) fn refuse(&mut self, pfn: Pfn, refusal: Refusal, last: bool) -> Step {
        let most = match self.rules() {
            Some(Rules::Linux2617) => LAST_PASS_2006.saturating_add(1),
            // Both stages of both rounds.
            _ => LAST_PASS_MODERN.saturating_add(1).saturating_mul(2),
        };
        let frame = self.edit(pfn)?;
        let too_late = last && refusal == Refusal::CopiedTooLate;
        ensure(
            !frame.switched || too_late,
            Invariant::OnlyForward,
            "refused after the point of no return",
        )?;
        ensure(
            frame.switched || !too_late,
            Invariant::OnlyForward,
            "copied too late, but the switch was not made",
        )?;
        if !last {
            ensure(!frame.done, Invariant::OneOutcome, "tried again after its outcome")?;
            frame.retries = frame.retries.saturating_add(1);
            return ensure(
                frame.retries <= most,
                Invariant::Bounded,
                "more attempts than the profile makes",
            );
        }
        finish(frame)?;
        if let Some(run) = &mut self.run {
            let count = if refusal.is_transient() {
                &mut run.left
            } else {
                &mut run.failed
            };
            *count = count.saturating_add(1);
        }
        Ok(())
    }
}

fn finish(frame: &mut FrameState) -> Step {
    ensure(!frame.done, Invariant::OneOutcome, "a second outcome of one page")?;
    frame.done = true;
    Ok(())
}
