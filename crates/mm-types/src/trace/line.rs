//! One line of a trace: an event in small ids, and the page's content it is about.
//!
//! `word [tN] [pN] [fN] key=value …`, keys in one order. An entry's text leaves out its frame where that is the one the
//! line names anyway; where it is another, which is always a bug worth seeing, it is added: `now=rw@f7`.

use core::fmt;

use super::Event;
use super::text::ShowSite;
use crate::{Pfn, Pte};

/// One line of a trace: an event whose frames, spaces and actors are small ids, and the id of the content it is about.
///
/// [`Namer`](super::Namer) makes lines of events. `Display` prints the canonical text, `FromStr` reads exactly that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Line {
    /// Which content, `p`; `None` where the frame holds none, or the event is about no page.
    pub page: Option<u32>,
    /// What happened; `Pfn`, `SpaceId` and `ActorId` are ids of this trace.
    pub event: Event,
}

impl Event {
    /// Returns the stable word the event's line begins with.
    #[must_use]
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Start { .. } => "mm_migrate_pages_start",
            Self::Pass { .. } => "pass",
            Self::End { .. } => "mm_migrate_pages",
            Self::Isolate(_) => "isolate",
            Self::Putback(_) => "putback",
            Self::Lock(_) => "lock",
            Self::Unlock(_) => "unlock",
            Self::WaitWriteback(_) => "wait_writeback",
            Self::NewPage { .. } => "new_page",
            Self::GiveBack(_) => "give_back",
            Self::SetMapping { .. } => "set_mapping",
            Self::Unmap { after, .. } => match after {
                Pte::Migration(_) => "set_migration_pte",
                Pte::Swap { .. } => "set_swap_pte",
                Pte::File { .. } => "set_file_pte",
                Pte::None => "clear_pte",
                Pte::Poison(_) => "set_poison_pte",
                Pte::Present { .. } => "set_pte",
            },
            Self::Restore { .. } => "remove_migration_pte",
            Self::Flush { .. } => "flush",
            Self::Copy { .. } => "copy",
            Self::Freeze { .. } => "freeze",
            Self::Switch { .. } => "switch",
            Self::Transfer { .. } => "transfer",
            Self::Writeout { .. } => "writeout",
            Self::Moved { .. } => "moved",
            Self::Freed(_) => "freed",
            Self::Refuse { last: false, .. } => "retry",
            Self::Refuse { last: true, .. } => "refuse",
            Self::Map { .. } => "map_pte",
            Self::Zap { .. } => "zap_pte",
            Self::Protect { .. } => "change_pte",
            Self::CopyPte { .. } => "copy_pte",
            Self::MovePte { .. } => "move_pte",
            Self::FlushPending(_) => "flush_pending",
            Self::Fault { .. } => "fault",
            Self::Wait { .. } => "migration_entry_wait",
            Self::Wake { .. } => "wake",
        }
    }

    /// Returns the frame the event is about: the source where there is a pair, an entry's where there is only one.
    #[must_use]
    pub fn frame(&self) -> Option<Pfn> {
        match *self {
            Self::Isolate(pfn)
            | Self::Putback(pfn)
            | Self::Lock(pfn)
            | Self::Unlock(pfn)
            | Self::WaitWriteback(pfn)
            | Self::GiveBack(pfn)
            | Self::Freed(pfn)
            | Self::Unmap { pfn, .. }
            | Self::Freeze { pfn, .. }
            | Self::Writeout { pfn, .. }
            | Self::Refuse { pfn, .. }
            | Self::Wait { pfn, .. } => Some(pfn),
            Self::NewPage { old, .. }
            | Self::SetMapping { old, .. }
            | Self::Restore { old, .. }
            | Self::Copy { old, .. }
            | Self::Switch { old, .. }
            | Self::Transfer { old, .. }
            | Self::Moved { old, .. } => Some(old),
            Self::Map { after, .. } => after.pfn(),
            Self::Zap { before, .. } => before.pfn(),
            Self::Protect { before, after, .. } => before.pfn().or(after.pfn()),
            Self::CopyPte { parent, child, .. } => parent.pfn().or(child.pfn()),
            Self::MovePte { pte, .. } => pte.pfn(),
            Self::Start { .. }
            | Self::Pass { .. }
            | Self::End { .. }
            | Self::Flush { .. }
            | Self::FlushPending(_)
            | Self::Fault { .. }
            | Self::Wake { .. } => None,
        }
    }
}

/// An entry's text, with its frame where the line does not say it.
struct ShowPte(Pte, Option<Pfn>);

impl fmt::Display for ShowPte {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)?;
        match self.0.pfn() {
            Some(pfn) if Some(pfn) != self.1 => write!(f, "@f{}", pfn.raw()),
            _ => Ok(()),
        }
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.event.word())?;
        if let Event::Fault { actor, .. } | Event::Wait { actor, .. } | Event::Wake { actor, .. } = self.event {
            write!(f, " t{}", actor.raw())?;
        }
        if let Some(page) = self.page {
            write!(f, " p{page}")?;
        }
        let frame = self.event.frame();
        if let Some(frame) = frame {
            write!(f, " f{}", frame.raw())?;
        }
        let pte = |pte| ShowPte(pte, frame);
        match self.event {
            Event::Start { rules, mode, reason } => write!(f, " profile={rules} mode={mode} reason={reason}"),
            Event::Pass { number } => write!(f, " number={number}"),
            Event::End {
                succeeded,
                failed,
                left,
            } => write!(f, " succeeded={succeeded} failed={failed} left={left}"),
            Event::Isolate(_)
            | Event::Putback(_)
            | Event::Lock(_)
            | Event::Unlock(_)
            | Event::WaitWriteback(_)
            | Event::GiveBack(_)
            | Event::Freed(_) => Ok(()),
            Event::NewPage { new, .. }
            | Event::SetMapping { new, .. }
            | Event::Copy { new, .. }
            | Event::Moved { new, .. } => write!(f, " new=f{}", new.raw()),
            Event::Unmap {
                site, before, after, ..
            }
            | Event::Protect { site, before, after } => {
                write!(f, " site={} was={} now={}", ShowSite(site), pte(before), pte(after))
            }
            Event::Restore {
                new,
                site,
                before,
                after,
                ..
            } => {
                let now = ShowPte(after, Some(new));
                write!(
                    f,
                    " new=f{} site={} was={} now={now}",
                    new.raw(),
                    ShowSite(site),
                    pte(before)
                )
            }
            Event::Flush { entries } => write!(f, " entries={entries}"),
            Event::Freeze { expected, .. } => write!(f, " expected={expected}"),
            Event::Switch { new, slots, .. } => write!(f, " new=f{} slots={slots}", new.raw()),
            Event::Transfer { new, flags, .. } => write!(f, " new=f{} flags={flags}", new.raw()),
            Event::Writeout { ok, .. } => write!(f, " accepted={}", if ok { "yes" } else { "no" }),
            Event::Refuse { refusal, .. } => write!(f, " reason={refusal}"),
            Event::Map { site, after } => write!(f, " site={} now={}", ShowSite(site), pte(after)),
            Event::Zap { site, before } => write!(f, " site={} was={}", ShowSite(site), pte(before)),
            Event::CopyPte {
                from,
                to,
                parent,
                child,
            } => {
                write!(f, " from={} to={}", ShowSite(from), ShowSite(to))?;
                write!(f, " parent={} child={}", pte(parent), pte(child))
            }
            Event::MovePte { from, to, pte: entry } => {
                write!(f, " from={} to={} entry={}", ShowSite(from), ShowSite(to), pte(entry))
            }
            Event::FlushPending(space) => write!(f, " m{}", space.raw()),
            Event::Fault { site, write, .. } => {
                write!(
                    f,
                    " site={} access={}",
                    ShowSite(site),
                    if write { "write" } else { "read" }
                )
            }
            Event::Wait { site, .. } | Event::Wake { site, .. } => write!(f, " site={}", ShowSite(site)),
        }
    }
}
