//! Telling the story to a person.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use mm_types::{Refusal, Site};

use super::{Attempt, End, Explanation, Holder, Tried};

fn site(site: Site) -> String {
    format!("m{}+{:#x}", site.space.raw(), site.page.raw())
}

fn plural(n: usize, one: &str, many: &str) -> String {
    if n == 1 {
        format!("1 {one}")
    } else {
        format!("{n} {many}")
    }
}

impl Explanation {
    /// Returns how the page's last attempt ended; `None` where no run tried it.
    #[must_use]
    pub fn end(&self) -> Option<End> {
        Some(self.runs.last()?.attempts.last()?.end)
    }
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.page.map_or_else(|| "the page".into(), |page| format!("p{page}"));
        let frames: Vec<String> = self.frames.iter().map(|pfn| format!("f{}", pfn.raw())).collect();
        let sites: Vec<String> = self.sites.iter().copied().map(site).collect();
        let tries: usize = self.runs.iter().map(|tried| tried.attempts.len()).sum();
        let tries = plural(tries, "attempt", "attempts");
        match self.end() {
            None => writeln!(f, "{name} was tried by no run")?,
            Some(End::Moved(to)) => writeln!(f, "{name} moved to f{} after {tries}", to.raw())?,
            Some(End::Freed) => writeln!(f, "{name} had been freed by its users: nothing had to be moved")?,
            Some(End::Refused { refusal, last: true }) => {
                let list = if refusal.is_transient() { "from" } else { "failed" };
                writeln!(f, "{name} stayed, on `{list}`, after {tries}: {}", refusal.word())?;
            }
            Some(End::Refused { .. }) => writeln!(f, "{name} was to be tried again when the trace ends")?,
            Some(End::Open) => writeln!(f, "{name} was being moved when the trace ends")?,
        }
        writeln!(f, "frames: {}", frames.join(", "))?;
        if !sites.is_empty() {
            writeln!(f, "mapped at: {}", sites.join(", "))?;
        }
        self.runs.iter().try_for_each(|tried| run(f, tried))
    }
}

fn run(f: &mut fmt::Formatter<'_>, tried: &Tried) -> fmt::Result {
    writeln!(f)?;
    if tried.run == 0 {
        writeln!(f, "a run that began before the trace")?;
    } else {
        writeln!(
            f,
            "run {}, line {}: profile={} mode={} reason={}",
            tried.run, tried.line, tried.rules, tried.mode, tried.reason
        )?;
    }
    let mut attempts = tried.attempts.as_slice();
    let mut number = 1usize;
    while let Some((first, rest)) = attempts.split_first() {
        // Attempts that all ended alike, and did alike, are told once.
        let alike = rest.iter().take_while(|next| like(first, next)).count();
        let last = rest.get(..alike).and_then(<[Attempt]>::last);
        let until = number.saturating_add(alike);
        attempt(f, (number, until), first, last)?;
        number = until.saturating_add(1);
        attempts = rest.get(alike..).unwrap_or_default();
    }
    if let Some(End::Refused { refusal, last: true }) = tried.attempts.last().map(|attempt| attempt.end) {
        writeln!(f, "  {}", refusal.advice())?;
        let errno = refusal.errno(tried.rules);
        writeln!(f, "  a kernel by these rules would have said errno {errno}")?;
    }
    Ok(())
}

/// True where `next` is `first` again: only then the steps need not be told twice. The last attempt of a run differs in being
/// the last.
fn like(first: &Attempt, next: &Attempt) -> bool {
    let same = match (first.end, next.end) {
        (End::Refused { refusal: a, .. }, End::Refused { refusal: b, .. }) => a == b,
        _ => false,
    };
    same && first.done == next.done && first.holders == next.holders && first.released.is_none()
}

fn attempt(
    f: &mut fmt::Formatter<'_>,
    (number, until): (usize, usize),
    first: &Attempt,
    last: Option<&Attempt>,
) -> fmt::Result {
    match last {
        None => write!(
            f,
            "  attempt {number}, pass {}, lines {}-{}: ",
            first.pass, first.lines.0, first.lines.1
        )?,
        Some(last) => write!(
            f,
            "  attempts {number}-{until}, passes {}-{}, lines {}-{}: ",
            first.pass, last.pass, first.lines.0, last.lines.1
        )?,
    }
    let steps: Vec<String> = first
        .done
        .iter()
        .map(|(word, times)| {
            if *times == 1 {
                (*word).into()
            } else {
                format!("{word} x{times}")
            }
        })
        .collect();
    match first.end {
        End::Moved(to) => writeln!(f, "moved to f{}", to.raw())?,
        End::Freed => writeln!(f, "freed by its users")?,
        End::Refused { refusal, .. } => writeln!(f, "refused: {refusal}")?,
        End::Open => writeln!(f, "not over")?,
    }
    if !steps.is_empty() {
        writeln!(f, "    done: {}", steps.join(", "))?;
    }
    for held in &first.holders {
        writeln!(f, "    held by: {}", holder(*held, first.end))?;
    }
    let released = last.unwrap_or(first).released;
    match released {
        Some(released) if released.seen => writeln!(f, "    released by line {}: {}", released.line, released.what),
        // Nobody has to be looked for.
        Some(released) if first.holders.contains(&Holder::OwnWrite) => {
            writeln!(f, "    over before line {}: {}", released.line, released.what)
        }
        Some(released) => writeln!(
            f,
            "    released by somebody whom the trace does not show, before line {}: {}",
            released.line, released.what
        ),
        None => Ok(()),
    }
}

fn holder(holder: Holder, end: End) -> String {
    match holder {
        Holder::Entry(at) => format!("the entry at {}", site(at)),
        Holder::Waiter(actor, at) => format!(
            "t{}, which waits at {} and by the rules of 2006 holds a reference",
            actor.raw(),
            site(at)
        ),
        Holder::Unnamed(n) => {
            let pins = matches!(
                end,
                End::Refused {
                    refusal: Refusal::Pinned { .. },
                    ..
                }
            );
            let (one, many) = if pins {
                ("pin", "pins")
            } else {
                ("reference", "references")
            };
            let n = plural(usize::try_from(n).unwrap_or(usize::MAX), one, many);
            format!("somebody whom the trace does not name, with {n}")
        }
        Holder::OwnWrite => "the write that the attempt began".into(),
        Holder::Taken(line) => format!("the pages tried before it: the last new page was taken in line {line}"),
    }
}
