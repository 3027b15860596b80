//! The rules that the kernel's events can show: entries come back, all of a page on one frame, and the counts add up.
//!
//! Each task is judged by itself: a task runs one migration at a time, and restores what it replaced. Entries are also
//! replaced outside of a run, where a huge page is split. The events name addresses and no spaces, so two spaces may have an
//! entry at the same address.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;
use alloc::{format, string::ToString};
use core::fmt;
use core::ops::RangeInclusive;

use mm_types::trace::Rule;
use mm_types::{EntryFormat, Invariant};

use super::read::{Ended, Happened, Record, Records};
use crate::source::Unreadable;

/// A place where the kernel's trace breaks a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broken {
    /// The line, from 1.
    pub line: usize,
    /// The rule.
    pub rule: Rule,
    /// What was seen.
    pub what: String,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}: {}", self.line, self.rule, self.what)
    }
}

/// What a trace that was accepted contains.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Judged {
    /// Events of migration.
    pub events: usize,
    /// Whole runs.
    pub runs: usize,
    /// Entries that were replaced and came back.
    pub pairs: usize,
    /// Base pages that came back on another frame, as far as the words of the entries could be read.
    pub moved: u64,
    /// Base pages that the kernel says it moved; more, for most pages of files are mapped nowhere.
    pub succeeded: u64,
    /// Base pages that the kernel says stayed.
    pub failed: u64,
    /// Entries that came back and had been copied in flight, by a fork.
    pub copied: usize,
    /// Entries that came back and had been replaced before the first line.
    pub before: usize,
    /// Entries still in flight at the last line, in a run that had not ended.
    pub after: usize,
    /// Entries outside the addresses that were held against the rules, and without their other half.
    pub elsewhere: usize,
}

/// Why a trace of the kernel's was not accepted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Wrong {
    /// It cannot be read.
    #[error(transparent)]
    Unreadable(#[from] Unreadable),
    /// It breaks a rule.
    #[error("{0}")]
    Broken(Broken),
}

impl From<Broken> for Wrong {
    fn from(broken: Broken) -> Self {
        Self::Broken(broken)
    }
}

fn broken<T>(line: usize, rule: impl Into<Rule>, what: impl fmt::Display) -> Result<T, Broken> {
    Err(Broken {
        line,
        rule: rule.into(),
        what: what.to_string(),
    })
}

/// The frames of a folio: the first of them, and how many.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Folio {
    head: u64,
    pages: u64,
}

/// An entry in flight.
#[derive(Clone, Copy, Debug)]
struct Open {
    line: usize,
    frame: Option<u64>,
    folio: Option<Folio>,
}

/// What became of a folio in a run.
#[derive(Clone, Copy, Debug, Default)]
struct Fate {
    // How far from the old frames the entries of this attempt came back.
    by: Option<u64>,
    moved: bool,
}

#[derive(Debug)]
struct Run<'a> {
    line: usize,
    mode: &'a str,
    reason: &'a str,
    folios: BTreeMap<Folio, Fate>,
}

#[derive(Debug, Default)]
struct TaskState<'a> {
    // Something of it was seen from its beginning: what comes back was replaced after the first line.
    known: bool,
    run: Option<Run<'a>>,
    open: BTreeMap<u64, Vec<Open>>,
    // Where an address last came back, since the run began.
    back: BTreeMap<u64, u64>,
}

/// Frames of words in the layout of x86-64, where they are such words.
mod words {
    use super::EntryFormat;

    const FORMAT: EntryFormat = EntryFormat::X86_64;
    // 46 bits of a physical address, less the page's: where young begins with four levels of tables. A frame beyond (64 TiB)
    // is cut, alike in every word of it.
    const FRAME: u64 = (1 << 34) - 1;
    const SPECIAL: u64 = 24;
    const FRAME_SHIFT: u32 = 12;
    const PRESENT: u64 = 1;
    const PROT_NONE: u64 = 1 << 8;
    // Marks of a word that is not present: soft-dirty, userfaultfd, exclusive.
    const MARKS: u64 = 0xe;

    /// The frame that a migration entry names.
    pub(super) fn in_flight(word: u64) -> Option<u64> {
        let low = word & ((1 << FORMAT.offset_shift) - 1);
        let offset = (!word >> FORMAT.offset_shift) & ((1 << FORMAT.offset_bits) - 1);
        // The types for files come first, and no machine has frames that reach into the top bits.
        let x86 = low & !MARKS == 0 && word >> FORMAT.type_shift >= SPECIAL && offset >> 44 == 0;
        x86.then_some(offset & FRAME)
    }

    /// The frame that a present entry maps.
    pub(super) fn mapped(word: u64) -> Option<u64> {
        let frame = |word: u64| (word >> FRAME_SHIFT) & FRAME;
        if word & PRESENT != 0 {
            Some(frame(word))
        } else if word & PROT_NONE != 0 {
            // Inverted, as what is not present is.
            Some(frame(!word))
        } else {
            None
        }
    }
}

/// Holds a trace of the kernel's against the rules.
///
/// # Errors
///
/// [`Wrong`]: the first place that cannot be read, or that breaks a rule.
pub fn judge(bytes: &[u8]) -> Result<Judged, Wrong> {
    judge_within(bytes, &(0..=u64::MAX))
}

/// As [`judge`], but only entries at addresses `within` must come back: whoever owns those knows that nobody forks, unmaps or
/// remaps them meanwhile. Of other processes that is not known, and the kernel has no events for it.
///
/// # Errors
///
/// As [`judge`].
pub fn judge_within(bytes: &[u8], within: &RangeInclusive<u64>) -> Result<Judged, Wrong> {
    let mut judged = Judged::default();
    let mut tasks: BTreeMap<u32, TaskState<'_>> = BTreeMap::new();
    for record in Records::new(bytes)? {
        let record = record?;
        if record.happened == Happened::Other {
            continue;
        }
        judged.events = judged.events.saturating_add(1);
        tasks
            .entry(record.task.pid)
            .or_default()
            .record(&record, within, &mut judged)?;
    }
    for task in tasks.values() {
        // The recording may have ended within a run, or within a split.
        judged.after = judged.after.saturating_add(task.open.len());
    }
    Ok(judged)
}

impl<'a> TaskState<'a> {
    fn record(&mut self, record: &Record<'a>, within: &RangeInclusive<u64>, judged: &mut Judged) -> Result<(), Broken> {
        let line = record.line;
        match record.happened {
            Happened::Start { mode, reason } => {
                self.all_back(line, within, judged)?;
                self.start(line, mode, reason)
            }
            Happened::End(ended) => {
                self.all_back(line, within, judged)?;
                self.end(line, &ended, judged)
            }
            Happened::Set { addr, pte, order } => {
                self.set(line, addr, pte, order);
                Ok(())
            }
            Happened::Remove { addr, pte, .. } => match self.remove(line, addr, pte, judged) {
                Err(alone) if alone.rule == Invariant::NoEntryLeft && !within.contains(&addr) => {
                    judged.elsewhere = judged.elsewhere.saturating_add(1);
                    Ok(())
                }
                judgement => judgement,
            },
            Happened::Other => Ok(()),
        }
    }

    fn start(&mut self, line: usize, mode: &'a str, reason: &'a str) -> Result<(), Broken> {
        if let Some(run) = &self.run {
            return broken(
                line,
                Rule::StepOrder,
                format!("a run begins within the run of line {}", run.line),
            );
        }
        self.known = true;
        self.back.clear();
        self.run = Some(Run {
            line,
            mode,
            reason,
            folios: BTreeMap::new(),
        });
        Ok(())
    }

    /// Nothing may be in flight when a run begins, or ends.
    fn all_back(&mut self, line: usize, within: &RangeInclusive<u64>, judged: &mut Judged) -> Result<(), Broken> {
        let left = self.open.range(within.clone());
        let left = left.into_iter().find_map(|(addr, open)| Some((addr, open.first()?)));
        let Some((addr, open)) = left else {
            let elsewhere = core::mem::take(&mut self.open);
            judged.elsewhere = elsewhere
                .values()
                .map(Vec::len)
                .fold(judged.elsewhere, usize::saturating_add);
            return Ok(());
        };
        let what = format!(
            "the entry at {addr:x} that was replaced in line {} has not come back (or was unmapped in flight, of which the kernel does not tell)",
            open.line
        );
        broken(line, Invariant::NoEntryLeft, what)
    }

    fn end(&mut self, line: usize, ended: &Ended<'a>, judged: &mut Judged) -> Result<(), Broken> {
        let first = !core::mem::replace(&mut self.known, true);
        let Some(run) = self.run.take() else {
            if first {
                return Ok(());
            }
            return broken(line, Rule::StepOrder, "a run ends that has not begun");
        };
        if (run.mode, run.reason) != (ended.mode, ended.reason) {
            let what = format!(
                "the run began in line {} as mode={} reason={}",
                run.line, run.mode, run.reason
            );
            return broken(line, Rule::StepOrder, what);
        }
        let pages = |moved: bool| -> u64 {
            let fates = run.folios.iter().filter(|(_, fate)| fate.moved == moved);
            fates.map(|(folio, _)| folio.pages).fold(0, u64::saturating_add)
        };
        let (moved, stayed) = (pages(true), pages(false));
        if moved > ended.succeeded {
            let what = format!(
                "nr_succeeded={}, but entries of {moved} pages came back on another frame",
                ended.succeeded
            );
            return broken(line, Invariant::OneOutcome, what);
        }
        // The pieces of what was split are pages of their own, and would count twice.
        let split = ended.thp_split > 0 || ended.split.is_none_or(|split| split > 0);
        let told = ended.succeeded.saturating_add(ended.failed);
        if !split && moved.saturating_add(stayed) > told {
            let what = format!(
                "nr_succeeded={} nr_failed={}, but {moved} pages moved and {stayed} stayed",
                ended.succeeded, ended.failed
            );
            return broken(line, Invariant::OneOutcome, what);
        }
        judged.runs = judged.runs.saturating_add(1);
        judged.moved = judged.moved.saturating_add(moved);
        judged.succeeded = judged.succeeded.saturating_add(ended.succeeded);
        judged.failed = judged.failed.saturating_add(ended.failed);
        Ok(())
    }

    fn set(&mut self, line: usize, addr: u64, pte: u64, order: u32) {
        let frame = words::in_flight(pte);
        let pages = 1u64.checked_shl(order).unwrap_or(1);
        let folio = frame.map(|frame| Folio {
            head: frame & !pages.wrapping_sub(1),
            pages,
        });
        if let (Some(run), Some(folio)) = (&mut self.run, folio) {
            let fate = run.folios.entry(folio).or_default();
            // An entry is replaced after others came back: another attempt, which the last one does not bind.
            (fate.by, fate.moved) = (None, false);
        }
        self.back.remove(&addr);
        self.open.entry(addr).or_default().push(Open { line, frame, folio });
    }

    fn remove(&mut self, line: usize, addr: u64, pte: u64, judged: &mut Judged) -> Result<(), Broken> {
        let now = words::mapped(pte);
        let Some(open) = self.take(addr, now) else {
            return match now {
                // The entry was copied in flight, and both come back on the same frame.
                Some(now) if self.back.get(&addr) == Some(&now) => {
                    judged.copied = judged.copied.saturating_add(1);
                    Ok(())
                }
                _ if !self.known => {
                    judged.before = judged.before.saturating_add(1);
                    Ok(())
                }
                _ => broken(
                    line,
                    Invariant::NoEntryLeft,
                    format!(
                        "an entry comes back at {addr:x} where none was replaced (or moved there in flight, of which the kernel does not tell)"
                    ),
                ),
            };
        };
        judged.pairs = judged.pairs.saturating_add(1);
        let (Some(now), Some(was)) = (now, open.frame) else {
            return Ok(());
        };
        self.back.insert(addr, now);
        let fate = match (&mut self.run, open.folio) {
            (Some(run), Some(folio)) => run.folios.get_mut(&folio),
            _ => None,
        };
        let Some(fate) = fate else { return Ok(()) };
        let by = now.wrapping_sub(was);
        if fate.by.is_some_and(|earlier| earlier != by) {
            return broken(
                line,
                Invariant::RestoresRightFrame,
                format!("the entry at {addr:x} comes back on frame {now:x}, and others of its page elsewhere"),
            );
        }
        (fate.by, fate.moved) = (Some(by), by != 0);
        Ok(())
    }

    /// Takes an entry in flight at `addr`: the one that names `now`, where there are several, for it stays where it is.
    fn take(&mut self, addr: u64, now: Option<u64>) -> Option<Open> {
        let open = self.open.get_mut(&addr)?;
        let at = open.iter().position(|open| open.frame == now).unwrap_or(0);
        let taken = (at < open.len()).then(|| open.remove(at));
        if open.is_empty() {
            self.open.remove(&addr);
        }
        taken
    }
}
