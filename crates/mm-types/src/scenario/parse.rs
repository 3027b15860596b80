//! Reading scenarios.

use core::str::FromStr;

use super::{Backing, Edge, Expectation, Instruction, PageRange, PageSet, Sharing, Step};
use crate::trace::text::{ParseError, ParseErrorKind, Word, Words, actor};
use crate::{Refusal, Site, SpaceId};

/// The first line of a scenario.
pub const HEADER: &str = "scenario v1";

/// The instructions of a scenario's text, with their line numbers (from 1).
///
/// Ends at the first error.
#[derive(Clone, Debug)]
pub struct Scenario<'a> {
    rest: core::str::Lines<'a>,
    number: usize,
    stopped: bool,
}

impl<'a> Scenario<'a> {
    /// Reads the version line of `text`.
    ///
    /// # Errors
    ///
    /// [`ParseErrorKind::Version`] where the first line is not [`HEADER`].
    pub fn new(text: &'a str) -> Result<Self, ParseError> {
        let mut rest = text.lines();
        match rest.next() {
            Some(HEADER) => Ok(Self {
                rest,
                number: 1,
                stopped: false,
            }),
            _ => Err(ParseError::at(1, ParseErrorKind::Version(HEADER))),
        }
    }
}

impl Iterator for Scenario<'_> {
    type Item = Result<(usize, Instruction), ParseError>;

    fn next(&mut self) -> Option<Self::Item> {
        while !self.stopped {
            let line = self.rest.next()?;
            self.number = self.number.saturating_add(1);
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let instruction = line.parse::<Instruction>().map_err(|error| error.on_line(self.number));
            self.stopped = instruction.is_err();
            return Some(instruction.map(|instruction| (self.number, instruction)));
        }
        None
    }
}

const WORDS: &str = "the word of a step such as map";
const PAGE: &str = "a page such as p0";
const SITE: &str = "a site such as m0+0x3";
const SPACE: &str = "a space such as m0";
const COUNT: &str = "a count";

impl FromStr for Instruction {
    type Err = ParseError;

    fn from_str(line: &str) -> Result<Self, ParseError> {
        let mut words = Words::new(line);
        let mut word = words.need(WORDS)?;
        let mut at = None;
        if word.text == "at" {
            let edge = words.need("an edge and a colon, such as copy:")?;
            let Some((name, Word { text: "", .. })) = edge.split(':') else {
                return Err(edge.err(ParseErrorKind::Expected("an edge and a colon, such as copy:")));
            };
            at = Some(name.known::<Edge>()?);
            word = words.need(WORDS)?;
        }
        let step = step(word, &mut words)?;
        words.end()?;
        if at.is_some() && !step.in_the_middle() {
            return Err(word.err(ParseErrorKind::Contradiction(
                "this step cannot be done in the middle of a run",
            )));
        }
        Ok(Self { at, step })
    }
}

fn step(word: Word<'_>, words: &mut Words<'_>) -> Result<Step, ParseError> {
    if let Some(step) = of_a_page(word.text) {
        return words.id("p", PAGE).map(step);
    }
    Ok(match word.text {
        "profile" => Step::Profile(words.need("a profile")?.known()?),
        "mode" => Step::Mode(words.need("a mode")?.known()?),
        "reason" => Step::Reason(words.need("a reason")?.known()?),
        "batch" => Step::Batch(positive(words.need(COUNT)?)?),
        "seed" => Step::Seed(value(words.need("a number")?)?),
        "space" => Step::Space(space(words)?),
        "file" => Step::File {
            file: words.id("b", "a file such as b0")?,
            pages: words.value("pages=")?.decimal(COUNT)?,
            mover: words.value("mover=")?.known()?,
        },
        "map" => map(words)?,
        "share" => Step::Share {
            page: words.id("p", PAGE)?,
            site: site(words)?,
            write: access(words)?,
        },
        "touch" => Step::Touch(site(words)?),
        "write" => Step::Write {
            site: site(words)?,
            value: value(words.need("a value")?)?,
        },
        "mlock" => Step::Mlock(site(words)?),
        "nonlinear" => Step::Nonlinear(site(words)?),
        "protect" => Step::Protect {
            site: site(words)?,
            write: access(words)?,
        },
        "unmap" => Step::Unmap(site(words)?),
        "mremap" => Step::Mremap {
            from: site(words)?,
            to: site(words)?,
        },
        "fork" => Step::Fork {
            parent: space(words)?,
            child: space(words)?,
        },
        "fault" => Step::Fault {
            actor: actor(words)?,
            site: site(words)?,
            write: load_or_store(words)?,
        },
        "drain" => Step::Drain,
        "targets" => Step::Targets(words.need(COUNT)?.decimal(COUNT)?),
        "fail" => {
            let what = words.need("target or copy")?;
            match what.text {
                "target" => Step::FailTarget(positive(words.need(COUNT)?)?),
                "copy" => Step::FailCopy(words.id("p", PAGE)?),
                _ => return Err(what.err(ParseErrorKind::Expected("target or copy"))),
            }
        }
        "isolate" => Step::Isolate(pages(words)?),
        "migrate" => Step::Migrate(pages(words)?),
        "putback" => Step::Putback(pages(words)?),
        "expect" => Step::Expect(expectation(words)?),
        _ => return Err(word.err(ParseErrorKind::UnknownWord(WORDS))),
    })
}

/// The steps that are a word and a page.
fn of_a_page(word: &str) -> Option<fn(u32) -> Step> {
    Some(match word {
        "dirty" => Step::Dirty,
        "swapcache" => Step::Swapcache,
        "lock" => Step::Lock,
        "unlock" => Step::Unlock,
        "writeback" => Step::Writeback,
        "end_writeback" => Step::EndWriteback,
        "get" => Step::Get,
        "put" => Step::Put,
        "pin" => Step::Pin,
        "unpin" => Step::Unpin,
        "buffers_busy" => Step::BuffersBusy,
        "buffers_free" => Step::BuffersFree,
        "truncate" => Step::Truncate,
        "free" => Step::Free,
        _ => return None,
    })
}

fn map(words: &mut Words<'_>) -> Result<Step, ParseError> {
    const BACKING: &str = "anon, or a file's page such as file=b0+0x1";
    let pages = run(words.need(PAGE)?)?;
    let site = site(words)?;
    let word = words.need(BACKING)?;
    let place = word.strip("file=").and_then(|place| place.split('+'));
    let (backing, write) = match (word.text, place) {
        ("anon", _) => (Backing::Anon, access(words)?),
        (_, Some((file, index))) => {
            let (file, index) = (file.id("b", BACKING)?, index.hex(BACKING)?);
            let write = access(words)?;
            let sharing = match words.peek() {
                None => Sharing::Shared,
                Some(_) => words.need("shared or private")?.known()?,
            };
            (Backing::File { file, index, sharing }, write)
        }
        _ => return Err(word.err(ParseErrorKind::Expected(BACKING))),
    };
    Ok(Step::Map {
        pages,
        site,
        backing,
        write,
    })
}

fn expectation(words: &mut Words<'_>) -> Result<Expectation, ParseError> {
    const WHAT: &str = "moved, freed, refused or read";
    let word = words.need(WHAT)?;
    Ok(match word.text {
        "moved" => Expectation::Moved {
            page: words.id("p", PAGE)?,
        },
        "freed" => Expectation::Freed {
            page: words.id("p", PAGE)?,
        },
        "refused" => {
            let page = words.id("p", PAGE)?;
            let word = words.need("the word of a refusal such as lock_busy")?;
            let rule = Refusal::EXAMPLES
                .iter()
                .map(|example| example.word())
                .find(|rule| *rule == word.text);
            let rule = rule.ok_or(word.err(ParseErrorKind::Expected("the word of a refusal such as lock_busy")))?;
            Expectation::Refused { page, rule }
        }
        "read" => Expectation::Read {
            site: site(words)?,
            value: value(words.need("a value")?)?,
        },
        _ => return Err(word.err(ParseErrorKind::Expected(WHAT))),
    })
}

fn pages(words: &mut Words<'_>) -> Result<PageSet, ParseError> {
    let mut set = PageSet::new();
    let mut next = Some(words.need(PAGE)?);
    while let Some(word) = next {
        let Some(more) = set.with(run(word)?) else {
            return Err(word.err(ParseErrorKind::OutOfRange("at most eight pages or runs such as p0..p7")));
        };
        set = more;
        next = words.next();
    }
    Ok(set)
}

fn run(word: Word<'_>) -> Result<PageRange, ParseError> {
    let Some((first, last)) = word.text.split_once("..") else {
        return word.id("p", PAGE).map(PageRange::one);
    };
    let column = word.column.saturating_add(first.len()).saturating_add(2);
    let first = Word { text: first, ..word }.id("p", PAGE)?;
    let last = Word { text: last, column }.id("p", PAGE)?;
    PageRange::new(first, last).ok_or(word.err(ParseErrorKind::OutOfRange("a run that ends after it begins")))
}

fn site(words: &mut Words<'_>) -> Result<Site, ParseError> {
    words.need(SITE)?.site()
}

fn space(words: &mut Words<'_>) -> Result<SpaceId, ParseError> {
    words.id("m", SPACE).map(SpaceId::new)
}

fn access(words: &mut Words<'_>) -> Result<bool, ParseError> {
    let word = words.need("rw or ro")?;
    match word.text {
        "rw" => Ok(true),
        "ro" => Ok(false),
        _ => Err(word.err(ParseErrorKind::Expected("rw or ro"))),
    }
}

fn load_or_store(words: &mut Words<'_>) -> Result<bool, ParseError> {
    let word = words.need("read or write")?;
    match word.text {
        "write" => Ok(true),
        "read" => Ok(false),
        _ => Err(word.err(ParseErrorKind::Expected("read or write"))),
    }
}

fn positive(word: Word<'_>) -> Result<u32, ParseError> {
    match word.decimal(COUNT)? {
        0 => Err(word.err(ParseErrorKind::OutOfRange("a count from 1"))),
        n => Ok(n),
    }
}

fn value(word: Word<'_>) -> Result<u64, ParseError> {
    const WHAT: &str = "a number such as 7 or 0x7";
    if word.text.starts_with("0x") {
        word.hex(WHAT)
    } else {
        word.decimal(WHAT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{format, string::ToString, vec::Vec};

    const EVERY_STEP: &str = "profile linux-2.6.17
mode sync-light
reason numa_misplaced
batch 64
seed 18446744073709551615
space m0
file b0 pages=4 mover=fallback-nowrite
map p0 m0+0x3 anon rw
map p1..p512 m0+0x10 file=b0+0x1 ro private
share p0 m1+0x3 rw
touch m0+0x3
write m0+0x3 0xff
dirty p0
swapcache p0
lock p0
unlock p0
writeback p0
end_writeback p0
get p0
put p0
pin p0
unpin p0
buffers_busy p0
buffers_free p0
truncate p0
free p0
mlock m0+0x3
nonlinear m0+0x3
protect m0+0x3 ro
unmap m0+0x3
mremap m0+0x3 m0+0x9
fork m0 m1
fault t1 m0+0x3 write
drain
targets 0
fail target 2
fail copy p0
isolate p0 p2..p5
migrate p0
putback p0 p1 p2 p3 p4 p5 p6 p7
at copy: unlock p0
at restore: expect read m0+0x3 0x7
expect moved p0
expect freed p0
expect refused p0 extra_reference
expect read m0+0x3 0x7";

    #[test]
    fn every_step_prints_as_it_was_written() {
        for line in EVERY_STEP.lines() {
            let instruction: Instruction = line.parse().unwrap_or_else(|error| panic!("{line}: {error}"));
            assert_eq!(instruction.to_string(), line);
        }
    }

    #[test]
    fn every_cut_off_line_is_read_or_refused_but_never_panics() {
        const CUT: usize = if cfg!(miri) { 9 } else { 1 };
        for line in EVERY_STEP.lines() {
            for end in (0..line.len()).step_by(CUT) {
                if let Ok(instruction) = line[..end].parse::<Instruction>() {
                    assert_eq!(instruction.to_string().parse(), Ok(instruction));
                }
            }
        }
    }

    #[test]
    fn sharing_is_the_default_and_values_may_be_decimal() {
        let shared: Instruction = "map p0 m0+0x3 file=b0+0x0 rw".parse().unwrap();
        assert_eq!(shared.to_string(), "map p0 m0+0x3 file=b0+0x0 rw shared");
        let write: Instruction = "write m0+0x3 255".parse().unwrap();
        assert_eq!(write.to_string(), "write m0+0x3 0xff");
    }

    #[test]
    fn steps_that_set_the_stage_or_look_at_an_outcome_are_not_for_the_middle_of_a_run() {
        let whole = [
            "profile",
            "mode",
            "reason",
            "batch",
            "seed",
            "targets",
            "nonlinear",
            "isolate",
            "migrate",
            "putback",
        ];
        for line in EVERY_STEP.lines().filter(|line| !line.starts_with("at ")) {
            let word = line.split(' ').next().unwrap_or_default();
            let outcome = word == "expect" && !line.starts_with("expect read");
            let refused = format!("at copy: {line}")
                .parse::<Instruction>()
                .map_err(|error| error.kind);
            if outcome || whole.contains(&word) {
                let why = ParseErrorKind::Contradiction("this step cannot be done in the middle of a run");
                assert_eq!(refused, Err(why), "{line}");
            } else {
                assert_eq!(refused.map(|read| read.to_string()), Ok(format!("at copy: {line}")));
            }
        }
    }

    #[test]
    fn comments_and_empty_lines_are_skipped_and_lines_keep_their_numbers() {
        let text = "scenario v1\n# one page\n\nspace m0\nmap p0 m0+0x3 anon rw\n";
        let lines: Vec<_> = Scenario::new(text).unwrap().map(|line| line.unwrap().0).collect();
        assert_eq!(lines, [4, 5]);
    }

    #[test]
    fn a_wrong_step_says_where_and_what_was_expected() {
        use ParseErrorKind::{Expected, OutOfRange, Trailing, UnknownWord, Version};
        const LONG: usize = if cfg!(miri) { 1 << 10 } else { 10 << 20 };
        let error = |line: &str| {
            let text = format!("scenario v1\n{line}\n");
            let error = Scenario::new(&text).unwrap().find_map(Result::err).unwrap();
            assert_eq!(error.line, 2);
            (error.column, error.kind)
        };
        assert_eq!(error("mpa p0"), (1, UnknownWord(WORDS)));
        assert_eq!(error(" space m0"), (1, UnknownWord(WORDS)));
        assert_eq!(error("map p0 m0+3 anon rw"), (11, Expected(SITE)));
        assert_eq!(error("map p0 m0+0x3 anon"), (20, Expected("rw or ro")));
        assert_eq!(error("map p0 m0+0x3 anon rw shared"), (23, Trailing));
        assert_eq!(
            error("map p3..p1 m0+0x3 anon rw"),
            (5, OutOfRange("a run that ends after it begins"))
        );
        assert_eq!(error("file b0 pages=x mover=plain"), (15, Expected(COUNT)));
        assert_eq!(error("batch 0"), (7, OutOfRange("a count from 1")));
        assert_eq!(error("batch 4294967296"), (7, OutOfRange(COUNT)));
        assert_eq!(
            error("at copy lock p0"),
            (4, Expected("an edge and a colon, such as copy:"))
        );
        assert_eq!(error("at copy: at flush: lock p0").1, UnknownWord(WORDS));
        assert_eq!(error("isolate p0 p1 p2 p3 p4 p5 p6 p7 p8").0, 33);
        assert_eq!(
            error("expect refused p0 tired"),
            (19, Expected("the word of a refusal such as lock_busy"))
        );
        assert_eq!(error("lock\0p0"), (1, UnknownWord(WORDS)));
        assert_eq!(error(&"p".repeat(LONG)), (1, UnknownWord(WORDS)));
        assert_eq!(Scenario::new("scenario v2\n").unwrap_err().kind, Version(HEADER));
    }
}
