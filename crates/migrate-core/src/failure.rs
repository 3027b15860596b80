//! Every way in which a step of the protocol can fail, as a table, and what a run makes of each.
//!
//! A failure is what somebody else could have done at that moment or before it, or what the hardware or the file system could
//! have answered; never what no kernel can do. So a run must cope with each of them, at each occurrence, in any mixture:
//! [`FailurePlan`](crate::FailurePlan) makes them happen, and [`Injection::effect`] says what must come of it.
//!
//! The table is of what one answer of the seam can say, where a hook may be asked: never under an entry lock. So these are not in
//! it, and are there as pages of their own kind, set up before a run: a page cut off its file that belongs to nothing any more
//! (that takes its mapping, its slots and its count together), one whose users have freed it, and one that is being read in. That
//! [`Frames::get`](crate::Frames::get) gives nothing for a frozen page, which a waiter of 2006 finds out under an entry lock, is
//! for whoever runs threads.

use core::fmt;

use mm_types::errno;
use mm_types::{Mode, Refusal};

use crate::{BufferLock, EdgeKind, MoveOrder, Profile};

/// A way in which a step fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Failure {
    /// Somebody else holds the lock.
    Busy,
    /// Somebody else gets the lock first; it is ours only after he has opened it again.
    Late,
    /// The sleep ends before what it waited for has happened.
    Early,
    /// There is no new page.
    NoTarget,
    /// The move would take longer than the caller allows.
    StallBudget,
    /// The backend's own error, EIO.
    Backend,
    /// The page is being written back.
    Writeback,
    /// The frame is bad.
    Poisoned,
    /// The page is pinned, once more than it is.
    Pinned,
    /// More mappings would be needed than the system allows.
    MappingLimit,
    /// An entry maps the page still.
    Mapped,
    /// Every area that maps the page is locked in memory.
    Mlocked,
    /// Every area that maps the page but the first is locked in memory.
    PartlyMlocked,
    /// The mapping's method refuses to move the page.
    NeverMoves,
    /// Somebody dirties the page just before; it is dirty then.
    Dirtied,
    /// A page with private data was cut off its file before it was locked: no slot has it.
    Truncated,
    /// Somebody holds one reference more.
    ExtraReference,
    /// There are fewer references than there should be.
    FewerReferences,
    /// The contents cannot be read.
    Unreadable,
    /// A cache slot holds another page.
    SlotChanged,
    /// Private data stay.
    NotReleasable,
    /// The mapping has no way to write.
    NoWritepage,
    /// Somebody else has cleared the dirty flag, and writes.
    AlreadyClean,
    /// Writing fails; the page is dirty again, and locked still.
    WriteFailed,
    /// Writing fails after the page was unlocked; it is dirty again.
    WriteFailedUnlocked,
    /// The file system will not write now (`AOP_WRITEPAGE_ACTIVATE`); the page is dirty again, and locked still.
    Activate,
    /// The page is written and unlocked, and somebody dirties it at once.
    Redirtied,
    /// The page is on no list.
    NotOnLru,
}

impl Failure {
    /// Returns the stable word.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Busy => "busy",
            Self::Late => "late",
            Self::Early => "early",
            Self::NoTarget => "no_target",
            Self::StallBudget => "stall_budget",
            Self::Backend => "backend",
            Self::Writeback => "writeback",
            Self::Poisoned => "poisoned",
            Self::Pinned => "pinned",
            Self::MappingLimit => "mapping_limit",
            Self::Mapped => "mapped",
            Self::Mlocked => "mlocked",
            Self::PartlyMlocked => "partly_mlocked",
            Self::NeverMoves => "never_moves",
            Self::Dirtied => "dirtied",
            Self::Truncated => "truncated",
            Self::ExtraReference => "extra_reference",
            Self::FewerReferences => "fewer_references",
            Self::Unreadable => "unreadable",
            Self::SlotChanged => "slot_changed",
            Self::NotReleasable => "not_releasable",
            Self::NoWritepage => "no_writepage",
            Self::AlreadyClean => "already_clean",
            Self::WriteFailed => "write_failed",
            Self::WriteFailedUnlocked => "write_failed_unlocked",
            Self::Activate => "activate",
            Self::Redirtied => "redirtied",
            Self::NotOnLru => "not_on_lru",
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.word())
    }
}

/// A kind of step, and one way in which it can fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Injection {
    /// The step.
    pub edge: EdgeKind,
    /// How it fails.
    pub failure: Failure,
}

const fn at(edge: EdgeKind, failure: Failure) -> Injection {
    Injection { edge, failure }
}

/// What a failure does to the page that meets it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// The attempt is refused by this rule (whatever the numbers in it), and everything is as it was before.
    Refused(Refusal),
    /// Nothing that anybody could see: the run copes with it.
    Unseen,
    /// The step is not there, or cannot fail so, in such a run; and why.
    Impossible(&'static str),
}

impl Effect {
    /// True where `refusal` is by the rule expected.
    #[must_use]
    pub fn is(self, refusal: Refusal) -> bool {
        matches!(self, Self::Refused(expected) if expected.word() == refusal.word())
    }
}

const NEVER_SLEEPS: Effect = Effect::Impossible("a run that never sleeps only tries for locks");
const WRITES_NOTHING: Effect = Effect::Impossible("today's migration writes nothing out");

impl Injection {
    /// Every pair.
    pub const ALL: &'static [Self] = &[
        at(EdgeKind::TryLock, Failure::Busy),
        at(EdgeKind::TryLockNew, Failure::Busy),
        at(EdgeKind::Lock, Failure::Late),
        at(EdgeKind::WaitBuffers, Failure::Early),
        at(EdgeKind::WaitOn, Failure::Early),
        at(EdgeKind::Take, Failure::NoTarget),
        at(EdgeKind::Take, Failure::StallBudget),
        at(EdgeKind::Take, Failure::Backend),
        at(EdgeKind::Flags, Failure::Writeback),
        at(EdgeKind::Flags, Failure::Poisoned),
        at(EdgeKind::Pins, Failure::Pinned),
        at(EdgeKind::Reserve, Failure::MappingLimit),
        at(EdgeKind::Reserve, Failure::Backend),
        at(EdgeKind::Walk, Failure::Mlocked),
        at(EdgeKind::Walk, Failure::PartlyMlocked),
        at(EdgeKind::IsMapped, Failure::Mapped),
        at(EdgeKind::Slots, Failure::Truncated),
        at(EdgeKind::Mover, Failure::NeverMoves),
        at(EdgeKind::Mover, Failure::Dirtied),
        at(EdgeKind::Count, Failure::ExtraReference),
        at(EdgeKind::Count, Failure::FewerReferences),
        at(EdgeKind::Copy, Failure::Unreadable),
        at(EdgeKind::Freeze, Failure::ExtraReference),
        at(EdgeKind::Freeze, Failure::FewerReferences),
        at(EdgeKind::Switch, Failure::SlotChanged),
        at(EdgeKind::TryLockBuffers, Failure::Busy),
        at(EdgeKind::ReleaseBuffers, Failure::NotReleasable),
        at(EdgeKind::CanWrite, Failure::NoWritepage),
        at(EdgeKind::ClearDirty, Failure::AlreadyClean),
        at(EdgeKind::Writeout, Failure::WriteFailed),
        at(EdgeKind::Writeout, Failure::WriteFailedUnlocked),
        at(EdgeKind::Writeout, Failure::Activate),
        at(EdgeKind::Writeout, Failure::Redirtied),
        at(EdgeKind::Isolate, Failure::NotOnLru),
    ];

    /// Returns what must come of the failure in a run under `profile` in `mode`.
    ///
    /// A failure may also meet a moment where it makes no difference: the second look at flags that decided something
    /// already, the first look whether a page is mapped. Then the page goes on as if it had not been there.
    #[must_use]
    pub const fn effect(self, profile: &Profile, mode: Mode) -> Effect {
        let extra = Refusal::ExtraReference { expected: 1, found: 2 };
        let backend = Refusal::Backend { code: errno::EIO };
        let sleeps = profile.blocks(mode);
        Effect::Refused(match (self.edge, self.failure) {
            (EdgeKind::Lock | EdgeKind::WaitBuffers, _) if !sleeps => return NEVER_SLEEPS,
            // 2006 looks only whether users have freed the page, and counts at the switch.
            (EdgeKind::Count, _) if matches!(profile.order, MoveOrder::SwitchThenCopy) => return Effect::Unseen,
            (EdgeKind::CanWrite | EdgeKind::ClearDirty | EdgeKind::Writeout, _) if !profile.writes_out => {
                return WRITES_NOTHING;
            }
            (EdgeKind::TryLockBuffers | EdgeKind::WaitBuffers, _) => match profile.buffers {
                BufferLock::BeforeSwitch => Refusal::BuffersBusy,
                // It is too late to refuse: the run waits until it has them.
                BufferLock::AfterSwitch => return Effect::Unseen,
            },
            // Today's kernel moves what is locked in memory as well.
            (EdgeKind::Walk, _) if !profile.mlocked_stays => return Effect::Unseen,
            (_, Failure::Late | Failure::Early) => return Effect::Unseen,
            (_, Failure::Busy) => Refusal::LockBusy,
            (_, Failure::NoTarget) => Refusal::NoTarget,
            (_, Failure::StallBudget) => Refusal::StallBudget,
            (_, Failure::Backend) => backend,
            (_, Failure::Writeback) => Refusal::Writeback,
            (_, Failure::Poisoned) => Refusal::Poisoned,
            (_, Failure::Pinned) => Refusal::Pinned { pins: 1 },
            (_, Failure::MappingLimit) => Refusal::MappingLimit,
            (_, Failure::Mapped) => Refusal::Mapped { site: None },
            (_, Failure::Mlocked | Failure::PartlyMlocked) => Refusal::Mlocked { site: None },
            (_, Failure::NeverMoves) => Refusal::NeverMoves,
            (_, Failure::Dirtied) if profile.writes_out => Refusal::WrittenOut,
            (_, Failure::Dirtied) => Refusal::Dirty,
            (_, Failure::Truncated) => Refusal::Truncated,
            (_, Failure::ExtraReference | Failure::FewerReferences) => extra,
            (_, Failure::Unreadable) => match profile.order {
                MoveOrder::CopyThenSwitch => Refusal::CopyFailed,
                MoveOrder::SwitchThenCopy => Refusal::CopiedTooLate,
            },
            (_, Failure::SlotChanged) => Refusal::SlotChanged,
            (_, Failure::NotReleasable) => Refusal::BuffersNotReleasable,
            (_, Failure::NoWritepage) => Refusal::NoWritepage,
            (_, Failure::AlreadyClean | Failure::Activate | Failure::Redirtied) => Refusal::WrittenOut,
            (_, Failure::WriteFailed | Failure::WriteFailedUnlocked) => Refusal::WriteFailed,
            (_, Failure::NotOnLru) => Refusal::NotOnLru,
        })
    }
}

impl fmt::Display for Injection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.edge, self.failure)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{LINUX_2_6_17, MODERN};
    use std::collections::BTreeSet;
    use std::string::ToString;

    #[test]
    fn every_pair_is_there_once_and_every_step_and_failure_has_its_own_word() {
        let pairs: BTreeSet<Injection> = Injection::ALL.iter().copied().collect();
        assert_eq!(pairs.len(), Injection::ALL.len());
        let words: BTreeSet<_> = Injection::ALL.iter().map(ToString::to_string).collect();
        assert_eq!(words.len(), Injection::ALL.len());
        let kinds: BTreeSet<_> = EdgeKind::ALL.iter().map(|kind| kind.word()).collect();
        assert_eq!(kinds.len(), EdgeKind::ALL.len());
        for (n, kind) in EdgeKind::ALL.iter().enumerate() {
            assert_eq!(*kind as usize, n, "counted under its own number");
        }
    }

    #[test]
    fn a_refusal_is_by_a_rule_whatever_its_numbers_are() {
        let extra = |found| Refusal::ExtraReference { expected: 1, found };
        assert!(Effect::Refused(extra(2)).is(extra(7)));
        assert!(!Effect::Refused(extra(2)).is(Refusal::LockBusy));
        for effect in [Effect::Unseen, NEVER_SLEEPS] {
            assert!(!effect.is(extra(2)));
        }
    }

    /// What comes of each failure in 2006, in a run of today that never sleeps, and in one that may: the rule by which the page is
    /// refused, `-` where nobody sees it, `x` where there is no such step.
    const EFFECTS: [(EdgeKind, Failure, [&str; 3]); 34] = {
        use EdgeKind::*;
        use Failure::*;
        [
            (TryLock, Busy, ["lock_busy"; 3]),
            (TryLockNew, Busy, ["lock_busy"; 3]),
            (Lock, Late, ["-", "x", "-"]),
            (WaitBuffers, Early, ["-", "x", "buffers_busy"]),
            (WaitOn, Early, ["-"; 3]),
            (Take, NoTarget, ["no_target"; 3]),
            (Take, StallBudget, ["stall_budget"; 3]),
            (Take, Backend, ["backend"; 3]),
            (Flags, Writeback, ["writeback"; 3]),
            (Flags, Poisoned, ["poisoned"; 3]),
            (Pins, Pinned, ["pinned"; 3]),
            (Reserve, MappingLimit, ["mapping_limit"; 3]),
            (Reserve, Backend, ["backend"; 3]),
            (Walk, Mlocked, ["mlocked", "-", "-"]),
            (Walk, PartlyMlocked, ["mlocked", "-", "-"]),
            (IsMapped, Mapped, ["mapped"; 3]),
            (Slots, Truncated, ["truncated"; 3]),
            (Mover, NeverMoves, ["never_moves"; 3]),
            (Mover, Dirtied, ["written_out", "dirty", "dirty"]),
            (Count, ExtraReference, ["-", "extra_reference", "extra_reference"]),
            (Count, FewerReferences, ["-", "extra_reference", "extra_reference"]),
            (Copy, Unreadable, ["copied_too_late", "copy_failed", "copy_failed"]),
            (Freeze, ExtraReference, ["extra_reference"; 3]),
            (Freeze, FewerReferences, ["extra_reference"; 3]),
            (Switch, SlotChanged, ["slot_changed"; 3]),
            (TryLockBuffers, Busy, ["-", "buffers_busy", "buffers_busy"]),
            (ReleaseBuffers, NotReleasable, ["buffers_not_releasable"; 3]),
            (CanWrite, NoWritepage, ["no_writepage", "x", "x"]),
            (ClearDirty, AlreadyClean, ["written_out", "x", "x"]),
            (Writeout, WriteFailed, ["write_failed", "x", "x"]),
            (Writeout, WriteFailedUnlocked, ["write_failed", "x", "x"]),
            (Writeout, Activate, ["written_out", "x", "x"]),
            (Writeout, Redirtied, ["written_out", "x", "x"]),
            (Isolate, NotOnLru, ["not_on_lru"; 3]),
        ]
    };

    #[test]
    fn each_failure_has_the_effect_that_its_profile_and_mode_give_it() {
        let effects = EFFECTS.map(|(edge, failure, _)| at(edge, failure));
        assert_eq!(effects, Injection::ALL, "the table has all of them");
        for (edge, failure, [in_2006, never_sleeps, may_sleep]) in EFFECTS {
            let told = |profile: &Profile, mode| match at(edge, failure).effect(profile, mode) {
                Effect::Refused(refusal) => refusal.word(),
                Effect::Unseen => "-",
                Effect::Impossible(why) => {
                    assert!(!why.is_empty());
                    "x"
                }
            };
            for mode in Mode::ALL {
                assert_eq!(told(&LINUX_2_6_17, *mode), in_2006, "{edge} {failure} in {mode}");
            }
            assert_eq!(told(&MODERN, Mode::Async), never_sleeps, "{edge} {failure}");
            for mode in [Mode::SyncLight, Mode::Sync] {
                assert_eq!(told(&MODERN, mode), may_sleep, "{edge} {failure} in {mode}");
            }
        }
    }
}
