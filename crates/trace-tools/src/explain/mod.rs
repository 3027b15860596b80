//! Why a page stayed, or how it moved after all: each attempt, what refused it, who held the page, what released it.

mod gather;
mod show;
#[cfg(test)]
mod tests;

use alloc::string::String;
use alloc::vec::Vec;
use core::str::FromStr;

use mm_types::trace::Line;
use mm_types::{ActorId, Mode, Pfn, Reason, Refusal, Rules, Site};

/// Which page is asked about: a content such as `p0`, a frame such as `f3`, or a site such as `m0+0x3`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// What a frame held, and where it went.
    Page(u32),
    /// Whatever was in this frame last.
    Frame(Pfn),
    /// Whatever was mapped here last.
    Site(Site),
}

/// Text that names no page.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no page: give a content such as p0, a frame such as f3, or a site such as m0+0x3")]
pub struct NoPage(pub String);

impl FromStr for Asked {
    type Err = NoPage;

    fn from_str(text: &str) -> Result<Self, NoPage> {
        let digits = |text: &str| -> Option<u32> {
            let plain = text.bytes().all(|byte| byte.is_ascii_digit());
            text.parse().ok().filter(|_| plain)
        };
        let page = || Some(Self::Page(digits(text.strip_prefix('p')?)?));
        let frame = || Some(Self::Frame(Pfn::new(digits(text.strip_prefix('f')?)?.into())));
        let site = || {
            // A line's own reader knows what a site is.
            let line: Line = alloc::format!("wake t1 site={text}").parse().ok()?;
            match line.event {
                mm_types::trace::Event::Wake { site, .. } => Some(Self::Site(site)),
                _ => None,
            }
        };
        page().or_else(frame).or_else(site).ok_or_else(|| NoPage(text.into()))
    }
}

/// Who held the page when it was refused, as far as the trace tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holder {
    /// An entry that still maps it.
    Entry(Site),
    /// A thread that waits for it; by the rules of 2006 it holds a reference.
    Waiter(ActorId, Site),
    /// So many references or pins of somebody whom the trace does not name.
    Unnamed(u32),
    /// The write that the migration itself began.
    OwnWrite,
    /// Other pages of the run took the new pages; the last of them in this line.
    Taken(usize),
}

/// What let a later attempt get past what had refused one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Released {
    /// The line that shows it, or that shows at the latest that it had happened.
    pub line: usize,
    /// What that line says.
    pub what: Line,
    /// True where that line is the release itself.
    pub seen: bool,
}

/// One attempt to move the page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// The pass.
    pub pass: u32,
    /// The first line about it and the last, counted as a text has them.
    pub lines: (usize, usize),
    /// What was done, as the words of events, with how often.
    pub done: Vec<(&'static str, usize)>,
    /// How it ended.
    pub end: End,
    /// Who held the page.
    pub holders: Vec<Holder>,
    /// What ended that, where a later attempt got further.
    pub released: Option<Released>,
}

/// How an attempt ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The page is in this frame.
    Moved(Pfn),
    /// Its users had freed it.
    Freed,
    /// It was refused; `last` where the run did not try again.
    Refused {
        /// The rule, and the holder.
        refusal: Refusal,
        /// True where that was the outcome.
        last: bool,
    },
    /// The trace ends before it did.
    Open,
}

/// What one run did with the page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tried {
    /// The run's number in the trace, from 1.
    pub run: u32,
    /// The line where it begins.
    pub line: usize,
    /// Whose rules.
    pub rules: Rules,
    /// What it might wait for.
    pub mode: Mode,
    /// Why it was asked for.
    pub reason: Reason,
    /// Its attempts.
    pub attempts: Vec<Attempt>,
}

/// The story of one page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation {
    /// Its content.
    pub page: Option<u32>,
    /// The frames it was in, in order.
    pub frames: Vec<Pfn>,
    /// Where it was ever mapped or in flight.
    pub sites: Vec<Site>,
    /// The runs that tried it.
    pub runs: Vec<Tried>,
}

/// Tells the story of the page `asked` for; `None` where the trace does not know it.
#[must_use]
pub fn explain(lines: &[Line], asked: Asked) -> Option<Explanation> {
    gather::gather(lines, asked)
}
