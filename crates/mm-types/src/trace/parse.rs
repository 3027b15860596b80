//! Reading traces: one line, and the lines of a text.

use core::str::FromStr;

use super::text::{ParseError, ParseErrorKind, Word, Words, actor, canonical, frame, refusal};
use super::{Event, Line};
use crate::{Pfn, Pte, Site, SpaceId};

/// The first line of a trace.
pub const HEADER: &str = "trace v1";

impl FromStr for Line {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let mut words = Words::new(text);
        let line = line(&mut words)?;
        words.end()?;
        canonical(text, &line)?;
        Ok(line)
    }
}

const WORDS: &str = "the word of an event such as lock";

fn line(words: &mut Words<'_>) -> Result<Line, ParseError> {
    let word = words.need(WORDS)?;
    let plain = |event| Ok(Line { page: None, event });
    match word.text {
        "mm_migrate_pages_start" => plain(Event::Start {
            rules: words.value("profile=")?.known()?,
            mode: words.value("mode=")?.known()?,
            reason: words.value("reason=")?.known()?,
        }),
        "pass" => plain(Event::Pass {
            number: words.value("number=")?.decimal("a pass")?,
        }),
        "mm_migrate_pages" => plain(Event::End {
            succeeded: words.value("succeeded=")?.decimal("a count of pages")?,
            failed: words.value("failed=")?.decimal("a count of pages")?,
            left: words.value("left=")?.decimal("a count of pages")?,
        }),
        "flush" => plain(Event::Flush {
            entries: words.value("entries=")?.decimal("a count of entries")?,
        }),
        "flush_pending" => plain(Event::FlushPending(SpaceId::new(words.id("m", "a space such as m0")?))),
        "fault" => {
            let actor = actor(words)?;
            let site = words.value("site=")?.site()?;
            let write = either(words.value("access=")?, "write", "read", "write or read")?;
            plain(Event::Fault { actor, site, write })
        }
        "wake" => plain(Event::Wake {
            actor: actor(words)?,
            site: words.value("site=")?.site()?,
        }),
        "migration_entry_wait" => {
            let actor = actor(words)?;
            let page = page(words)?;
            let pfn = frame(words)?;
            Ok(Line {
                page,
                event: Event::Wait {
                    actor,
                    pfn,
                    site: words.value("site=")?.site()?,
                },
            })
        }
        "map_pte" | "zap_pte" | "change_pte" | "copy_pte" | "move_pte" => {
            let page = page(words)?;
            let named = words.maybe_id("f", "a frame such as f0")?.map(|id| Pfn::new(id.into()));
            Ok(Line {
                page,
                event: entry_event(word, named, words)?,
            })
        }
        _ => {
            let Some(shape) = shape(word.text) else {
                return Err(word.err(ParseErrorKind::UnknownWord(WORDS)));
            };
            let page = page(words)?;
            let pfn = frame(words)?;
            let event = shape(pfn, words)?;
            if event.word() != word.text {
                return Err(word.err(ParseErrorKind::Contradiction(
                    "the word does not fit the entry after now=",
                )));
            }
            Ok(Line { page, event })
        }
    }
}

fn page(words: &mut Words<'_>) -> Result<Option<u32>, ParseError> {
    words.maybe_id("p", "a page's content such as p0")
}

fn either(word: Word<'_>, yes: &str, no: &str, what: &'static str) -> Result<bool, ParseError> {
    match word.text {
        text if text == yes => Ok(true),
        text if text == no => Ok(false),
        _ => Err(word.err(ParseErrorKind::Expected(what))),
    }
}

fn pte(word: Word<'_>, named: Option<Pfn>) -> Result<Pte, ParseError> {
    const WHAT: &str = "an entry such as rw+young, write or none";
    let (text, named) = match word.split('@') {
        Some((text, other)) => (text, Some(Pfn::new(other.id("f", "a frame such as f0")?.into()))),
        None => (word, named),
    };
    Pte::parse(text.text, named).map_err(|_| word.err(ParseErrorKind::Expected(WHAT)))
}

fn entry_event(word: Word<'_>, named: Option<Pfn>, words: &mut Words<'_>) -> Result<Event, ParseError> {
    let place = |words: &mut Words<'_>, key| -> Result<Site, ParseError> { words.value(key)?.site() };
    let event = match word.text {
        "map_pte" => Event::Map {
            site: place(words, "site=")?,
            after: pte(words.value("now=")?, named)?,
        },
        "zap_pte" => Event::Zap {
            site: place(words, "site=")?,
            before: pte(words.value("was=")?, named)?,
        },
        "change_pte" => Event::Protect {
            site: place(words, "site=")?,
            before: pte(words.value("was=")?, named)?,
            after: pte(words.value("now=")?, named)?,
        },
        "copy_pte" => Event::CopyPte {
            from: place(words, "from=")?,
            to: place(words, "to=")?,
            parent: pte(words.value("parent=")?, named)?,
            child: pte(words.value("child=")?, named)?,
        },
        _ => Event::MovePte {
            from: place(words, "from=")?,
            to: place(words, "to=")?,
            pte: pte(words.value("entry=")?, named)?,
        },
    };
    Ok(event)
}

type Shape = fn(Pfn, &mut Words<'_>) -> Result<Event, ParseError>;

/// How the rest of a line about one page is read.
fn shape(word: &str) -> Option<Shape> {
    Some(match word {
        "isolate" => |pfn, _| Ok(Event::Isolate(pfn)),
        "putback" => |pfn, _| Ok(Event::Putback(pfn)),
        "lock" => |pfn, _| Ok(Event::Lock(pfn)),
        "unlock" => |pfn, _| Ok(Event::Unlock(pfn)),
        "wait_writeback" => |pfn, _| Ok(Event::WaitWriteback(pfn)),
        "give_back" => |pfn, _| Ok(Event::GiveBack(pfn)),
        "freed" => |pfn, _| Ok(Event::Freed(pfn)),
        "new_page" => |old, words| Ok(Event::NewPage { old, new: new(words)? }),
        "set_mapping" => |old, words| Ok(Event::SetMapping { old, new: new(words)? }),
        "copy" => |old, words| Ok(Event::Copy { old, new: new(words)? }),
        "moved" => |old, words| Ok(Event::Moved { old, new: new(words)? }),
        "set_migration_pte" | "set_swap_pte" | "set_file_pte" | "clear_pte" | "set_poison_pte" | "set_pte" => {
            |pfn, words| {
                Ok(Event::Unmap {
                    pfn,
                    site: words.value("site=")?.site()?,
                    before: pte(words.value("was=")?, Some(pfn))?,
                    after: pte(words.value("now=")?, Some(pfn))?,
                })
            }
        }
        "remove_migration_pte" => |old, words| {
            let new = new(words)?;
            Ok(Event::Restore {
                old,
                new,
                site: words.value("site=")?.site()?,
                before: pte(words.value("was=")?, Some(old))?,
                after: pte(words.value("now=")?, Some(new))?,
            })
        },
        "freeze" => |pfn, words| {
            Ok(Event::Freeze {
                pfn,
                expected: words.value("expected=")?.decimal("a count of references")?,
            })
        },
        "switch" => |old, words| {
            Ok(Event::Switch {
                old,
                new: new(words)?,
                slots: words.value("slots=")?.decimal("a count of slots")?,
            })
        },
        "transfer" => |old, words| {
            Ok(Event::Transfer {
                old,
                new: new(words)?,
                flags: words.value("flags=")?.known()?,
            })
        },
        "writeout" => |pfn, words| {
            Ok(Event::Writeout {
                pfn,
                ok: either(words.value("accepted=")?, "yes", "no", "yes or no")?,
            })
        },
        "retry" => |pfn, words| refused(pfn, words, false),
        "refuse" => |pfn, words| refused(pfn, words, true),
        _ => return None,
    })
}

fn new(words: &mut Words<'_>) -> Result<Pfn, ParseError> {
    let value = words.value("new=")?;
    value.id("f", "a frame such as f1").map(|id| Pfn::new(id.into()))
}

fn refused(pfn: Pfn, words: &mut Words<'_>, last: bool) -> Result<Event, ParseError> {
    let word = words.value("reason=")?;
    Ok(Event::Refuse {
        pfn,
        refusal: refusal(word, words)?,
        last,
    })
}

/// The lines of a trace's text, after its version line.
///
/// Ends at the first error; the error carries the line's number.
#[derive(Clone, Debug)]
pub struct Lines<'a> {
    rest: core::str::Lines<'a>,
    number: usize,
    stopped: bool,
}

impl<'a> Lines<'a> {
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

    /// Returns the number of the line read last, from 1.
    #[must_use]
    pub const fn number(&self) -> usize {
        self.number
    }
}

impl Iterator for Lines<'_> {
    type Item = Result<Line, ParseError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.stopped {
            return None;
        }
        let text = self.rest.next()?;
        self.number = self.number.saturating_add(1);
        let line = text.parse::<Line>().map_err(|error| error.on_line(self.number));
        self.stopped = line.is_err();
        Some(line)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::examples::lines;
    use proptest::prelude::*;
    use std::{format, string::String, string::ToString};

    #[test]
    fn every_event_reads_back_as_itself() {
        for line in lines() {
            let text = line.to_string();
            assert_eq!(text.parse(), Ok(line), "{text}");
            assert!(text.starts_with(line.event.word()));
            assert!(text.is_ascii() && !text.contains('\n'));
        }
    }

    #[test]
    fn the_words_of_the_protocol_are_these() {
        let texts: String = lines().iter().map(|line| format!("{line}\n")).collect();
        for text in [
            "isolate p0 f0\n",
            "new_page p0 f0 new=f1\n",
            "set_migration_pte p0 f0 site=m0+0x3 was=rw+young+dirty now=write\n",
            "remove_migration_pte p0 f0 new=f1 site=m0+0x3 was=write now=rw\n",
            "flush entries=3\n",
            "transfer p0 f0 new=f1 flags=uptodate+active\n",
            "retry p0 f0 reason=extra_reference expected=1 found=2\n",
            "fault t1 site=m0+0x3 access=write\n",
            "migration_entry_wait t1 p0 f0 site=m0+0x3\n",
        ] {
            assert!(texts.contains(text), "{text} not in\n{texts}");
        }
    }

    fn error(text: &str) -> (usize, ParseErrorKind) {
        let error = text.parse::<Line>().unwrap_err();
        (error.column, error.kind)
    }

    #[test]
    fn a_wrong_line_says_where_and_what_was_expected() {
        use ParseErrorKind::{Contradiction, Expected, NotCanonical, OutOfRange, Repeated, Trailing, UnknownWord};
        assert_eq!(error(""), (1, Expected(WORDS)));
        assert_eq!(error("lokc f0"), (1, UnknownWord(WORDS)));
        assert_eq!(error("lock"), (6, Expected("a frame such as f0")));
        assert_eq!(error("lock p0"), (9, Expected("a frame such as f0")));
        assert_eq!(error("lock  f0"), (6, Expected("a frame such as f0")));
        assert_eq!(error("lock f0 f1"), (9, Trailing));
        assert_eq!(error("lock f00"), (7, NotCanonical));
        assert_eq!(error("lock f0 "), (8, NotCanonical));
        assert_eq!(
            error("fault t1 site=m0+0x3 access=both"),
            (29, Expected("write or read"))
        );
        assert_eq!(error("writeout f0 accepted=maybe"), (22, Expected("yes or no")));
        assert_eq!(error("lock f4294967296"), (7, OutOfRange("a frame such as f0")));
        assert_eq!(error("lock f-1"), (6, Expected("a frame such as f0")));
        assert_eq!(error("new_page f0 new=f1 new=f1"), (20, Repeated));
        assert_eq!(error("switch f0 new=f1 new=f1"), (18, Repeated));
        assert_eq!(error("switch f0 slots=0"), (11, Expected("new=")));
        assert_eq!(
            error("flush entries=4294967296"),
            (15, OutOfRange("a count of entries"))
        );
        assert_eq!(error("flush entries=+4"), (15, Expected("a count of entries")));
        assert_eq!(
            error("set_swap_pte f0 site=m0+0x3 was=rw now=write"),
            (1, Contradiction("the word does not fit the entry after now="))
        );
        assert_eq!(
            error("map_pte site=m0+0x3 now=rw"),
            (25, Expected("an entry such as rw+young, write or none"))
        );
        assert_eq!(
            error("zap_pte f0 site=m0+0xG was=rw"),
            (20, Expected("a site such as m0+0x3"))
        );
        assert_eq!(error("transfer f0 new=f1 flags=active+uptodate"), (26, NotCanonical));
    }

    #[test]
    fn hostile_lines_are_errors() {
        const LONG: usize = if cfg!(miri) { 1 << 10 } else { 10 << 20 };
        let long = "x".repeat(LONG);
        assert_eq!(error(&long).0, 1);
        assert_eq!(error(&format!("lock f{}", "9".repeat(LONG))).0, 7);
        for text in [
            "lock\0f0",
            "lock f0\0",
            "lock f\u{661}",
            "\u{feff}lock f0",
            "lock\tf0",
            "retry f0 reason=",
        ] {
            assert!(text.parse::<Line>().is_err(), "{text:?}");
        }
        assert!(Lines::new("trace v2\n").is_err());
        assert!(Lines::new("").is_err());
        let mut lines = Lines::new("trace v1\nlock f0\n\nlock f1\n").unwrap();
        assert_eq!(lines.number(), 1, "the version line");
        assert!(lines.next().unwrap().is_ok());
        assert_eq!(lines.number(), 2);
        assert_eq!(lines.next().unwrap().unwrap_err().line, 3);
        assert!(lines.next().is_none(), "nothing is read past an error");
    }

    #[test]
    fn an_entry_that_names_another_frame_shows_it() {
        let line: Line = "remove_migration_pte p0 f0 new=f1 site=m0+0x3 was=write@f2 now=rw@f0"
            .parse()
            .unwrap();
        let Event::Restore { old, before, after, .. } = line.event else {
            panic!("{line}")
        };
        assert_eq!(before.pfn(), Some(Pfn::new(2)));
        assert_eq!(after.pfn(), Some(old));
    }

    proptest! {
        #[test]
        fn any_line_is_read_or_refused_within_its_length(text in "\\PC*") {
            if let Err(error) = text.parse::<Line>() {
                prop_assert!(error.column <= text.len() + 2);
            }
        }

        #[test]
        fn a_line_with_one_byte_changed_is_another_line_or_an_error(at: prop::sample::Index, byte in 0u8..128) {
            for line in lines() {
                let mut bytes = line.to_string().into_bytes();
                let at = at.index(bytes.len());
                bytes[at] = byte;
                let text = String::from_utf8(bytes).unwrap();
                if let Ok(read) = text.parse::<Line>() {
                    prop_assert_eq!(read.to_string(), text);
                }
            }
        }
    }
}
