//! Reading the text that `/sys/kernel/tracing/trace` and `trace-cmd report` print.

use core::time::Duration;

use super::names;
use crate::source::{Unreadable, text};

/// A task, as the first column names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Task<'a> {
    /// Its name.
    pub comm: &'a str,
    /// Its number.
    pub pid: u32,
}

/// What the kernel says of a run that ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ended<'a> {
    /// Base pages moved.
    pub succeeded: u64,
    /// Base pages that stayed.
    pub failed: u64,
    /// Huge pages moved whole.
    pub thp_succeeded: u64,
    /// Huge pages that did not move whole.
    pub thp_failed: u64,
    /// Huge pages split.
    pub thp_split: u64,
    /// Large folios split; not told before 6.7.
    pub split: Option<u64>,
    /// What the run might wait for.
    pub mode: &'a str,
    /// Why it was asked for.
    pub reason: &'a str,
}

/// One event of the kernel's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Happened<'a> {
    /// `mm_migrate_pages_start`.
    Start {
        /// What the run may wait for.
        mode: &'a str,
        /// Why it was asked for.
        reason: &'a str,
    },
    /// `mm_migrate_pages`.
    End(Ended<'a>),
    /// `set_migration_pte`.
    Set {
        /// The virtual address; of which space is not told.
        addr: u64,
        /// The migration entry, as the hardware's word.
        pte: u64,
        /// log2 of the pages of the folio.
        order: u32,
    },
    /// `remove_migration_pte`.
    Remove {
        /// The virtual address; of which space is not told.
        addr: u64,
        /// The entry that maps the page again, as the hardware's word.
        pte: u64,
        /// log2 of the pages of the folio.
        order: u32,
    },
    /// An event of another kind.
    Other,
}

/// One line that is an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    /// The line, from 1.
    pub line: usize,
    /// Who did it.
    pub task: Task<'a>,
    /// When, by the kernel's clock; `None` where that counts something else than time.
    pub time: Option<Duration>,
    /// What.
    pub happened: Happened<'a>,
}

/// A part of a line, and the column it begins in.
#[derive(Clone, Copy)]
struct Part<'a> {
    text: &'a str,
    column: usize,
}

impl Part<'_> {
    fn skip(self, bytes: usize) -> Self {
        Self {
            text: self.text.get(bytes..).unwrap_or_default(),
            column: self.column.saturating_add(bytes),
        }
    }

    fn trim(self) -> Self {
        self.skip(self.text.len().saturating_sub(self.text.trim_start().len()))
    }

    /// The next word and the rest.
    fn word(self) -> (Self, Self) {
        let part = self.trim();
        let end = part.text.find(char::is_whitespace).unwrap_or(part.text.len());
        let text = part.text.get(..end).unwrap_or_default();
        (Self { text, ..part }, part.skip(end))
    }

    fn wrong(self, what: &str) -> Wrong {
        Wrong {
            column: self.column,
            what: what.into(),
        }
    }
}

struct Wrong {
    column: usize,
    what: alloc::string::String,
}

// A task's name has at most 15 bytes; its number, its group's and the padding of columns come on top.
const FIRST_COLUMN: usize = 128;

/// The head of an event's line: the task, and what comes behind the number of the CPU.
pub(super) fn head(line: &str) -> Option<(Task<'_>, usize)> {
    let mut from = 0usize;
    loop {
        let open = from.checked_add(line.get(from..)?.find('[')?)?;
        if open > FIRST_COLUMN {
            return None;
        }
        let after = open.checked_add(1)?;
        let digits = line.get(after..)?.find(|c: char| !c.is_ascii_digit())?;
        let close = after.checked_add(digits)?;
        if digits > 0
            && line.get(close..)?.starts_with(']')
            && let Some(task) = task(line.get(..open)?)
        {
            return Some((task, close.checked_add(1)?));
        }
        from = after;
    }
}

/// `COMM-PID`, and perhaps the thread group in brackets behind it.
fn task(text: &str) -> Option<Task<'_>> {
    let mut text = text.trim();
    if text.ends_with(')') {
        text = text.get(..text.rfind('(')?)?.trim_end();
    }
    let (comm, pid) = text.rsplit_once('-')?;
    let digits = !pid.is_empty() && pid.bytes().all(|byte| byte.is_ascii_digit());
    let pid = pid.parse().ok().filter(|_| digits)?;
    Some(Task { comm, pid })
}

/// The events of a text, in order; ends at the first error.
#[derive(Clone, Debug)]
pub struct Records<'a> {
    lines: core::str::Lines<'a>,
    line: usize,
    stopped: bool,
}

impl<'a> Records<'a> {
    /// Makes a reader of `bytes`.
    ///
    /// # Errors
    ///
    /// The first byte that is not UTF-8, or the end of a last line that was cut.
    pub fn new(bytes: &'a [u8]) -> Result<Self, Unreadable> {
        Ok(Self {
            lines: text(bytes)?.lines(),
            line: 0,
            stopped: false,
        })
    }

    fn read(&self, line: &'a str) -> Result<Option<Record<'a>>, Wrong> {
        let whole = Part { text: line, column: 1 };
        // What trace-cmd says before the first event.
        let preamble = ["#", "cpus=", "version = "].iter().any(|mark| line.starts_with(mark));
        if preamble || line.trim().is_empty() {
            return Ok(None);
        }
        if line.contains("LOST") && line.contains("EVENTS") && line.starts_with("CPU") {
            return Err(
                whole.wrong("the kernel lost events here, and no pair can be judged; record with larger buffers")
            );
        }
        let Some((task, behind)) = head(line) else {
            return Err(whole.wrong("expected an event, such as `bash-17 [000] ...1. 3.5: set_migration_pte: addr=…`"));
        };
        let (mut time, mut rest) = whole.skip(behind).word();
        if !is_time(time.text) {
            // The column of flags, which can be left out.
            (time, rest) = rest.word();
        }
        if !is_time(time.text) {
            return Err(time.wrong("expected a time such as 3.000125:"));
        }
        let (name, fields) = rest.word();
        let Some(name) = name.text.strip_suffix(':').filter(|name| !name.is_empty()) else {
            return Err(name.wrong("expected the name of an event such as set_migration_pte:"));
        };
        let happened = happened(name, Fields(fields))?;
        Ok(Some(Record {
            line: self.line,
            task,
            time: seconds(time.text),
            happened,
        }))
    }
}

fn is_time(text: &str) -> bool {
    let number = text.strip_suffix(':').unwrap_or_default();
    number.starts_with(|c: char| c.is_ascii_digit()) && number.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.')
}

/// `3.000125:`, which has at most nine digits behind its point.
fn seconds(text: &str) -> Option<Duration> {
    let (whole, part) = text.strip_suffix(':')?.split_once('.')?;
    let places = u32::try_from(part.len())
        .ok()
        .filter(|places| (1..=9).contains(places))?;
    let part: u32 = part.parse().ok()?;
    Some(Duration::new(
        whole.parse().ok()?,
        part.checked_mul(10u32.pow(9 - places))?,
    ))
}

impl<'a> Iterator for Records<'a> {
    type Item = Result<Record<'a>, Unreadable>;

    fn next(&mut self) -> Option<Self::Item> {
        while !self.stopped {
            let line = self.lines.next()?;
            self.line = self.line.saturating_add(1);
            match self.read(line) {
                Ok(None) => {}
                Ok(Some(record)) => return Some(Ok(record)),
                Err(wrong) => {
                    self.stopped = true;
                    return Some(Err(Unreadable::new(self.line, wrong.column, wrong.what)));
                }
            }
        }
        None
    }
}

/// The fields of an event: `key=value`, with spaces or commas between.
struct Fields<'a>(Part<'a>);

impl<'a> Fields<'a> {
    /// Takes the value of `key`, which must come next.
    fn value(&mut self, key: &str) -> Result<Part<'a>, Wrong> {
        match self.maybe(key) {
            Some(value) => Ok(value),
            None => Err(self.0.trim().wrong(&alloc::format!("expected {key}"))),
        }
    }

    fn maybe(&mut self, key: &str) -> Option<Part<'a>> {
        let (word, rest) = self.0.word();
        let value = word.skip(word.text.strip_prefix(key).map(|_| key.len())?);
        self.0 = rest;
        let text = value.text.strip_suffix(',').unwrap_or(value.text);
        Some(Part { text, ..value })
    }

    fn number(&mut self, key: &str, radix: u32) -> Result<u64, Wrong> {
        let value = self.value(key)?;
        number(value, radix)
    }

    fn order(&mut self) -> Result<u32, Wrong> {
        let value = self.value("order=")?;
        let order = u32::try_from(number(value, 10)?)
            .ok()
            .filter(|order| *order < u64::BITS);
        order.ok_or_else(|| value.wrong("number out of range: expected log2 of a count of pages"))
    }

    fn known(&mut self, key: &str) -> Result<&'a str, Wrong> {
        let value = self.value(key)?;
        let word = !value.text.is_empty() && value.text.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'_');
        if word {
            Ok(value.text)
        } else {
            Err(value.wrong("expected a word"))
        }
    }

    /// What a later kernel may have added is let be, what is no field is not.
    fn end(mut self) -> Result<(), Wrong> {
        loop {
            let (word, rest) = self.0.word();
            if word.text.is_empty() {
                return Ok(());
            }
            if !word.text.contains('=') {
                return Err(word.wrong("the line should end here"));
            }
            self.0 = rest;
        }
    }
}

fn number(value: Part<'_>, radix: u32) -> Result<u64, Wrong> {
    let digits = !value.text.is_empty() && value.text.chars().all(|c| c.is_digit(radix));
    if !digits {
        let what = if radix == 16 {
            "expected a hexadecimal number"
        } else {
            "expected a number"
        };
        return Err(value.wrong(what));
    }
    u64::from_str_radix(value.text, radix).map_err(|_| value.wrong("number out of range"))
}

fn happened<'a>(name: &str, mut fields: Fields<'a>) -> Result<Happened<'a>, Wrong> {
    let happened = match name {
        names::START => Happened::Start {
            mode: fields.known("mode=")?,
            reason: fields.known("reason=")?,
        },
        names::END => {
            let mut ended = Ended {
                succeeded: fields.number("nr_succeeded=", 10)?,
                failed: fields.number("nr_failed=", 10)?,
                ..Ended::default()
            };
            // Huge pages are counted since 5.9, the split of others since 6.7.
            let counts: [(&str, &mut u64); 3] = [
                ("nr_thp_succeeded=", &mut ended.thp_succeeded),
                ("nr_thp_failed=", &mut ended.thp_failed),
                ("nr_thp_split=", &mut ended.thp_split),
            ];
            for (key, count) in counts {
                if let Some(value) = fields.maybe(key) {
                    *count = number(value, 10)?;
                }
            }
            ended.split = fields.maybe("nr_split=").map(|value| number(value, 10)).transpose()?;
            ended.mode = fields.known("mode=")?;
            ended.reason = fields.known("reason=")?;
            Happened::End(ended)
        }
        names::SET => Happened::Set {
            addr: fields.number("addr=", 16)?,
            pte: fields.number("pte=", 16)?,
            order: fields.order()?,
        },
        names::REMOVE => Happened::Remove {
            addr: fields.number("addr=", 16)?,
            pte: fields.number("pte=", 16)?,
            order: fields.order()?,
        },
        _ => return Ok(Happened::Other),
    };
    fields.end()?;
    Ok(happened)
}
