//! Every reason a page can stay, provoked on purpose.
//!
//! Most are scenarios: texts that the model replays. What a scenario cannot say is done to the model by hand; what the model
//! cannot do by itself is done to it by a hook that lets one step fail.

use migrate_core::LINUX_2_6_17;
use migrate_core::fixture::{Replay, run_scenario};
use migrate_core::model::ModelFixture;
use mm_types::trace::Event;
use mm_types::{Outcome, Refusal, Rules};

mod by_hand;
mod crowd;
pub mod live;

/// How a refusal is provoked.
#[derive(Clone, Copy)]
pub enum How {
    /// A scenario about page `p0`; everything after its version line and settings of profile and mode.
    Scenario(&'static str),
    /// By hand.
    ByHand(fn() -> Result<Vec<Outcome>, String>),
    /// Not at all, and why.
    Unreachable(&'static str),
}

impl core::fmt::Debug for How {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::Scenario(_) => "Scenario",
            Self::ByHand(_) => "ByHand",
            Self::Unreachable(_) => "Unreachable",
        })
    }
}

/// One reason, and how to provoke it.
#[derive(Clone, Copy, Debug)]
pub struct Provocation {
    /// The rule's word.
    pub word: &'static str,
    /// What is done, as a sentence.
    pub story: &'static str,
    /// How.
    pub how: How,
}

const fn scenario(word: &'static str, story: &'static str, text: &'static str) -> Provocation {
    Provocation {
        word,
        story,
        how: How::Scenario(text),
    }
}

const fn by_hand(word: &'static str, story: &'static str, how: fn() -> Result<Vec<Outcome>, String>) -> Provocation {
    Provocation {
        word,
        story,
        how: How::ByHand(how),
    }
}

/// All of them, in the order of [`Refusal::EXAMPLES`].
pub const ALL: &[Provocation] = &[
    scenario(
        "lock_busy",
        "somebody holds the page lock, and the run may not sleep",
        "profile modern\nmode async\nspace m0\nmap p0 m0+0x3 anon rw\nlock p0\nmigrate p0\n",
    ),
    scenario(
        "writeback",
        "the page is being written back, and the run may wait for locks only",
        "profile modern\nmode sync-light\nspace m0\nfile b0 pages=1 mover=plain\nmap p0 m0+0x3 file=b0+0x0 rw shared\nwriteback p0\nmigrate p0\n",
    ),
    by_hand(
        "mapped",
        "a nonlinear mapping was used lately: 2006 only ages its entry at first, and so the page is mapped still",
        by_hand::mapped,
    ),
    scenario(
        "extra_reference",
        "somebody outside the migration holds a reference",
        "profile modern\nspace m0\nmap p0 m0+0x3 anon rw\nget p0\nmigrate p0\n",
    ),
    scenario(
        "pinned",
        "the page is pinned for direct access, twice",
        "profile modern\nspace m0\nmap p0 m0+0x3 anon rw\npin p0\npin p0\nmigrate p0\n",
    ),
    scenario(
        "buffers_busy",
        "a buffer is under I/O, and the run may not wait",
        "profile modern\nmode async\nspace m0\nfile b0 pages=1 mover=buffers\nmap p0 m0+0x3 file=b0+0x0 rw shared\nbuffers_busy p0\nmigrate p0\n",
    ),
    by_hand(
        "buffers_not_releasable",
        "its file system keeps private data with the page and does not give them up",
        by_hand::buffers_not_releasable,
    ),
    by_hand(
        "slot_changed",
        "just before the switch, the page cache holds another page at this index",
        by_hand::slot_changed,
    ),
    scenario(
        "truncated",
        "the page was cut off its file while a buffer was under I/O",
        "profile modern\nspace m0\nfile b0 pages=1 mover=buffers\nmap p0 m0+0x3 file=b0+0x0 rw shared\nisolate p0\nbuffers_busy p0\ntruncate p0\nmigrate p0\n",
    ),
    by_hand(
        "not_on_lru",
        "another migration isolated the page first",
        by_hand::not_on_lru,
    ),
    scenario(
        "mlocked",
        "one of two spaces locked its mapping: in 2006 such a page does not move",
        "profile linux-2.6.17\nspace m0\nspace m1\nmap p0 m0+0x3 anon rw\nshare p0 m1+0x3 rw\nmlock m1+0x3\nmigrate p0\n",
    ),
    by_hand("poisoned", "the frame is known to be bad", by_hand::poisoned),
    scenario(
        "dirty",
        "a dirty page of a file that does not know how to move pages; today's kernel does not write it out",
        "profile modern\nspace m0\nfile b0 pages=1 mover=fallback\nmap p0 m0+0x3 file=b0+0x0 rw shared\nwrite m0+0x3 0x2a\nmigrate p0\n",
    ),
    scenario(
        "written_out",
        "the same in 2006, which writes the page out, leaves it for now, and moves it clean in a later pass",
        "profile linux-2.6.17\nspace m0\nfile b0 pages=1 mover=fallback\nmap p0 m0+0x3 file=b0+0x0 rw shared\nwrite m0+0x3 0x2a\nmigrate p0\n",
    ),
    scenario(
        "no_writepage",
        "the same in 2006, of a file that has no way to write",
        "profile linux-2.6.17\nspace m0\nfile b0 pages=1 mover=fallback-nowrite\nmap p0 m0+0x3 file=b0+0x0 rw shared\nwrite m0+0x3 0x2a\nmigrate p0\n",
    ),
    by_hand(
        "write_failed",
        "the same in 2006, and the file system reports an error",
        by_hand::write_failed,
    ),
    scenario(
        "never_moves",
        "the file forbids it",
        "profile modern\nspace m0\nfile b0 pages=1 mover=never\nmap p0 m0+0x3 file=b0+0x0 rw shared\nmigrate p0\n",
    ),
    scenario(
        "no_target",
        "there is no new page",
        "profile modern\nspace m0\nmap p0 m0+0x3 anon rw\ntargets 0\nmigrate p0\n",
    ),
    by_hand(
        "mapping_limit",
        "in user space, to protect one page in the middle of a mapping takes two more mappings, and there are none (here: a hook says so)",
        by_hand::mapping_limit,
    ),
    Provocation {
        word: "stall_budget",
        story: "the page would be held longer than its caller allows",
        how: How::Unreachable("no run takes a stall budget yet; the word is reserved"),
    },
    scenario(
        "copy_failed",
        "the contents cannot be read: today's kernel notices before the switch, and nothing has moved",
        "profile modern\nspace m0\nmap p0 m0+0x3 anon rw\nfail copy p0\nmigrate p0\n",
    ),
    scenario(
        "copied_too_late",
        "the same in 2006, which copies after the switch: the new page is in place, in error",
        "profile linux-2.6.17\nspace m0\nmap p0 m0+0x3 anon rw\nfail copy p0\nmigrate p0\n",
    ),
    by_hand(
        "backend",
        "what provides new pages fails with a number of its own",
        by_hand::backend_error,
    ),
];

/// What a provocation led to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Provoked {
    /// The refusal, with its holder.
    pub refusal: Refusal,
    /// True where the page stayed in the end; false where a later pass moved it.
    pub stayed: bool,
}

impl Provocation {
    /// Does it, and finds the refusal among the page's outcomes; `None` where it cannot be provoked.
    ///
    /// # Errors
    /// What went wrong, or which outcomes came instead.
    pub fn provoke(&self) -> Result<Option<Provoked>, String> {
        let outcomes = match self.how {
            How::Unreachable(_) => return Ok(None),
            How::Scenario(text) => replay(text)?,
            How::ByHand(how) => how()?,
        };
        let refusal = outcomes.iter().find_map(|outcome| match outcome {
            Outcome::Retry(refusal) | Outcome::Refused(refusal) if refusal.word() == self.word => Some(*refusal),
            _ => None,
        });
        let refusal = refusal.ok_or_else(|| format!("{}: {outcomes:?}", self.word))?;
        let stayed = matches!(outcomes.last(), Some(Outcome::Refused(_)));
        Ok(Some(Provoked { refusal, stayed }))
    }

    /// Returns the profile in which it is provoked.
    #[must_use]
    pub fn rules(&self) -> Rules {
        match self.how {
            How::Scenario(text) if text.contains(LINUX_2_6_17.rules.word()) => Rules::Linux2617,
            How::ByHand(_) if matches!(self.word, "write_failed" | "mapped") => Rules::Linux2617,
            _ => Rules::Modern,
        }
    }
}

fn replay(text: &str) -> Result<Vec<Outcome>, String> {
    let text = format!("scenario v1\n{text}");
    match run_scenario(&mut ModelFixture::new(), &text, None) {
        // A scenario here has one page, so that whatever its trace says of refusals is about that page.
        Ok(Replay::Ran(report)) => Ok(report.events.iter().filter_map(outcome).collect()),
        Ok(Replay::NotApplicable { lacks }) => Err(format!("the model lacks {lacks}")),
        Err(error) => Err(error.to_string()),
    }
}

fn outcome(event: &Event) -> Option<Outcome> {
    match *event {
        Event::Refuse { refusal, last, .. } if last => Some(Outcome::Refused(refusal)),
        Event::Refuse { refusal, .. } => Some(Outcome::Retry(refusal)),
        Event::Moved { new, .. } => Some(Outcome::Moved { to: new }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_is_there_once_and_in_order() {
        let words: Vec<_> = ALL.iter().map(|provocation| provocation.word).collect();
        let known: Vec<_> = Refusal::EXAMPLES.iter().map(|refusal| refusal.word()).collect();
        assert_eq!(words, known);
    }

    #[test]
    fn every_provocation_ends_with_its_own_refusal() {
        let mut unreachable = Vec::new();
        for provocation in ALL {
            match provocation.provoke() {
                Ok(Some(provoked)) => assert_eq!(provoked.refusal.word(), provocation.word),
                Ok(None) => unreachable.push(provocation.word),
                Err(error) => panic!("{error}"),
            }
        }
        assert_eq!(unreachable, ["stall_budget"]);
    }

    #[test]
    fn holders_are_named_where_there_is_one() {
        let holder = |word: &str| {
            let provocation = ALL.iter().find(|provocation| provocation.word == word).unwrap();
            provocation.provoke().unwrap().unwrap().refusal.to_string()
        };
        assert_eq!(holder("extra_reference"), "extra_reference expected=1 found=2");
        assert_eq!(holder("pinned"), "pinned pins=2");
        assert!(holder("mlocked").starts_with("mlocked site=m"), "{}", holder("mlocked"));
        assert!(holder("mapped").starts_with("mapped site=m"), "{}", holder("mapped"));
        assert_eq!(holder("backend"), "backend code=5");
    }
}
