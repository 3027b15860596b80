//! The steps of a scenario, and how they print.

use core::{fmt, str::FromStr};

use super::{PageRange, PageSet};
use crate::mode::{UnknownWord, words};
use crate::trace::text::ShowSite;
use crate::{ActorId, Mode, Reason, Rules, Site, SpaceId};

words! {
    /// How a file's pages are moved.
    Mover, "mover", "plain, buffers, fallback, fallback-nowrite, never", {
        /// Contents and flags are copied (Linux: `migrate_page`).
        Plain = "plain",
        /// Pages have buffers, which move along (Linux: `buffer_migrate_page`).
        Buffers = "buffers",
        /// No method: clean pages move, dirty ones are written first (Linux: `fallback_migrate_page`).
        Fallback = "fallback",
        /// As fallback, and the file system cannot write.
        FallbackNowrite = "fallback-nowrite",
        /// Pages never move (Linux: `fail_migrate_page`).
        Never = "never",
    }
}

words! {
    /// Who sees stores to a file's mapping.
    Sharing, "sharing", "shared, private", {
        /// The file and everybody.
        Shared = "shared",
        /// Nobody else: the first store copies.
        Private = "private",
    }
}

words! {
    /// A place in the middle of a run: just before the first such event.
    Edge, "edge", "unmap, flush, copy, freeze, switch, restore, unlock, wait", {
        /// The first entry of a page is replaced.
        Unmap = "unmap",
        /// The barrier after entries were replaced.
        Flush = "flush",
        /// Contents are copied.
        Copy = "copy",
        /// The reference count is frozen.
        Freeze = "freeze",
        /// The point of no return.
        Switch = "switch",
        /// The first entry is restored.
        Restore = "restore",
        /// The first page lock opens.
        Unlock = "unlock",
        /// The run sleeps, for a page lock, a buffer or the end of writeback.
        Wait = "wait",
    }
}

/// What is behind a new mapping.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Backing {
    /// A fresh anonymous page.
    Anon,
    /// A page of a file.
    File {
        /// The file.
        file: u32,
        /// The page's index in it; a run of pages goes on from there.
        index: u64,
        /// Who sees stores.
        sharing: Sharing,
    },
}

/// What must be true, or the scenario has failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Expectation {
    /// The page moved in the last run.
    Moved {
        /// The page.
        page: u32,
    },
    /// Its users had freed the page.
    Freed {
        /// The page.
        page: u32,
    },
    /// The page stayed.
    Refused {
        /// The page.
        page: u32,
        /// The word of the refusal ([`Refusal::word`](crate::Refusal::word)).
        rule: &'static str,
    },
    /// A load sees this value.
    Read {
        /// Where.
        site: Site,
        /// The value of the page's first word.
        value: u64,
    },
}

/// One input. Pages and files are named by their numbers; see the module's table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Step {
    /// `profile modern`: whose rules runs follow.
    Profile(Rules),
    /// `mode sync`: what a run may wait for.
    Mode(Mode),
    /// `reason compaction`: why runs are asked for.
    Reason(Reason),
    /// `batch 64`: how many pages are in flight at once.
    Batch(u32),
    /// `seed 7`: the seed of whatever is random.
    Seed(u64),
    /// `space m0`: a new address space.
    Space(SpaceId),
    /// `file b0 pages=4 mover=plain`: a new file.
    File {
        /// Its number.
        file: u32,
        /// Its length in pages.
        pages: u64,
        /// How its pages move.
        mover: Mover,
    },
    /// `map p0 m0+0x3 anon rw`: new pages, mapped from `site` on.
    Map {
        /// Their names.
        pages: PageRange,
        /// Where the first is.
        site: Site,
        /// What is behind them.
        backing: Backing,
        /// True where stores are allowed.
        write: bool,
    },
    /// `share p0 m1+0x3 rw`: a page at another site too.
    Share {
        /// The page.
        page: u32,
        /// The other site.
        site: Site,
        /// True where stores are allowed.
        write: bool,
    },
    /// `touch m0+0x3`: a load.
    Touch(Site),
    /// `write m0+0x3 7`: a store to the page's first word.
    Write {
        /// Where.
        site: Site,
        /// What.
        value: u64,
    },
    /// `dirty p0`: the page becomes dirty.
    Dirty(u32),
    /// `swapcache p0`: the page enters the swap cache.
    Swapcache(u32),
    /// `lock p0`: somebody else takes the page lock.
    Lock(u32),
    /// `unlock p0`: they give it up.
    Unlock(u32),
    /// `writeback p0`: writeback begins.
    Writeback(u32),
    /// `end_writeback p0`: writeback ends.
    EndWriteback(u32),
    /// `get p0`: somebody takes a reference.
    Get(u32),
    /// `put p0`: they drop it.
    Put(u32),
    /// `pin p0`: somebody pins the page for direct access.
    Pin(u32),
    /// `unpin p0`: they unpin it.
    Unpin(u32),
    /// `buffers_busy p0`: somebody locks its buffers.
    BuffersBusy(u32),
    /// `buffers_free p0`: they unlock them.
    BuffersFree(u32),
    /// `truncate p0`: the page is cut off its file.
    Truncate(u32),
    /// `free p0`: its users unmap and drop it.
    Free(u32),
    /// `mlock m0+0x3`: the VMA becomes locked.
    Mlock(Site),
    /// `nonlinear m0+0x3`: the VMA becomes nonlinear.
    Nonlinear(Site),
    /// `protect m0+0x3 ro`: mprotect of one page.
    Protect {
        /// Where.
        site: Site,
        /// True where stores are to be allowed.
        write: bool,
    },
    /// `unmap m0+0x3`: munmap of one page.
    Unmap(Site),
    /// `mremap m0+0x3 m0+0x9`: mremap of one page.
    Mremap {
        /// Where it is.
        from: Site,
        /// Where it goes.
        to: Site,
    },
    /// `fork m0 m1`: a copy of a space.
    Fork {
        /// The space copied.
        parent: SpaceId,
        /// The new one.
        child: SpaceId,
    },
    /// `fault t1 m0+0x3 write`: a thread that may sleep touches a page.
    Fault {
        /// The thread.
        actor: ActorId,
        /// Where.
        site: Site,
        /// True for a store.
        write: bool,
    },
    /// `drain`: the staging arrays go to the LRU.
    Drain,
    /// `targets 2`: how many new pages there are.
    Targets(u32),
    /// `fail target 2`: this taking of a new page, from 1, fails.
    FailTarget(u32),
    /// `fail copy p0`: the copy of this page fails.
    FailCopy(u32),
    /// `isolate p0 p1`: off the LRU.
    Isolate(PageSet),
    /// `migrate p0 p1`: one run over these pages; isolates those that are not.
    Migrate(PageSet),
    /// `putback p0 p1`: back to the LRU.
    Putback(PageSet),
    /// `expect moved p0`: what must be true.
    Expect(Expectation),
}

impl Step {
    /// Returns the step's word.
    #[must_use]
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Profile(_) => "profile",
            Self::Mode(_) => "mode",
            Self::Reason(_) => "reason",
            Self::Batch(_) => "batch",
            Self::Seed(_) => "seed",
            Self::Space(_) => "space",
            Self::File { .. } => "file",
            Self::Map { .. } => "map",
            Self::Share { .. } => "share",
            Self::Touch(_) => "touch",
            Self::Write { .. } => "write",
            Self::Dirty(_) => "dirty",
            Self::Swapcache(_) => "swapcache",
            Self::Lock(_) => "lock",
            Self::Unlock(_) => "unlock",
            Self::Writeback(_) => "writeback",
            Self::EndWriteback(_) => "end_writeback",
            Self::Get(_) => "get",
            Self::Put(_) => "put",
            Self::Pin(_) => "pin",
            Self::Unpin(_) => "unpin",
            Self::BuffersBusy(_) => "buffers_busy",
            Self::BuffersFree(_) => "buffers_free",
            Self::Truncate(_) => "truncate",
            Self::Free(_) => "free",
            Self::Mlock(_) => "mlock",
            Self::Nonlinear(_) => "nonlinear",
            Self::Protect { .. } => "protect",
            Self::Unmap(_) => "unmap",
            Self::Mremap { .. } => "mremap",
            Self::Fork { .. } => "fork",
            Self::Fault { .. } => "fault",
            Self::Drain => "drain",
            Self::Targets(_) => "targets",
            Self::FailTarget(_) | Self::FailCopy(_) => "fail",
            Self::Isolate(_) => "isolate",
            Self::Migrate(_) => "migrate",
            Self::Putback(_) => "putback",
            Self::Expect(_) => "expect",
        }
    }

    /// True where the step can be done in the middle of a run, with `at`.
    #[must_use]
    pub const fn in_the_middle(&self) -> bool {
        match self {
            Self::Profile(_)
            | Self::Mode(_)
            | Self::Reason(_)
            | Self::Batch(_)
            | Self::Seed(_)
            | Self::Targets(_)
            // Sets the stage: entries in flight would not be found where the area's are from then on.
            | Self::Nonlinear(_)
            | Self::Isolate(_)
            | Self::Migrate(_)
            | Self::Putback(_) => false,
            Self::Expect(expectation) => matches!(expectation, Expectation::Read { .. }),
            _ => true,
        }
    }
}

const fn access(write: bool) -> &'static str {
    if write { "rw" } else { "ro" }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())?;
        match *self {
            Self::Profile(rules) => write!(f, " {rules}"),
            Self::Mode(mode) => write!(f, " {mode}"),
            Self::Reason(reason) => write!(f, " {reason}"),
            Self::Batch(n) | Self::Targets(n) => write!(f, " {n}"),
            Self::Seed(seed) => write!(f, " {seed}"),
            Self::Space(space) => write!(f, " m{}", space.raw()),
            Self::File { file, pages, mover } => write!(f, " b{file} pages={pages} mover={mover}"),
            Self::Map {
                pages,
                site,
                backing,
                write,
            } => {
                write!(f, " {pages} {}", ShowSite(site))?;
                match backing {
                    Backing::Anon => write!(f, " anon {}", access(write)),
                    Backing::File { file, index, sharing } => {
                        write!(f, " file=b{file}+{index:#x} {} {sharing}", access(write))
                    }
                }
            }
            Self::Share { page, site, write } => write!(f, " p{page} {} {}", ShowSite(site), access(write)),
            Self::Touch(site) | Self::Mlock(site) | Self::Nonlinear(site) | Self::Unmap(site) => {
                write!(f, " {}", ShowSite(site))
            }
            Self::Write { site, value } => write!(f, " {} {value:#x}", ShowSite(site)),
            Self::Dirty(page)
            | Self::Swapcache(page)
            | Self::Lock(page)
            | Self::Unlock(page)
            | Self::Writeback(page)
            | Self::EndWriteback(page)
            | Self::Get(page)
            | Self::Put(page)
            | Self::Pin(page)
            | Self::Unpin(page)
            | Self::BuffersBusy(page)
            | Self::BuffersFree(page)
            | Self::Truncate(page)
            | Self::Free(page) => write!(f, " p{page}"),
            Self::Protect { site, write } => write!(f, " {} {}", ShowSite(site), access(write)),
            Self::Mremap { from, to } => write!(f, " {} {}", ShowSite(from), ShowSite(to)),
            Self::Fork { parent, child } => write!(f, " m{} m{}", parent.raw(), child.raw()),
            Self::Fault { actor, site, write } => {
                let access = if write { "write" } else { "read" };
                write!(f, " t{} {} {access}", actor.raw(), ShowSite(site))
            }
            Self::Drain => Ok(()),
            Self::FailTarget(n) => write!(f, " target {n}"),
            Self::FailCopy(page) => write!(f, " copy p{page}"),
            Self::Isolate(pages) | Self::Migrate(pages) | Self::Putback(pages) => write!(f, " {pages}"),
            Self::Expect(Expectation::Moved { page }) => write!(f, " moved p{page}"),
            Self::Expect(Expectation::Freed { page }) => write!(f, " freed p{page}"),
            Self::Expect(Expectation::Refused { page, rule }) => write!(f, " refused p{page} {rule}"),
            Self::Expect(Expectation::Read { site, value }) => write!(f, " read {} {value:#x}", ShowSite(site)),
        }
    }
}

/// One line of a scenario: a step, now or in the middle of the next run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Instruction {
    /// `None`: now. Otherwise just before this edge first happens in the next run.
    pub at: Option<Edge>,
    /// What to do.
    pub step: Step,
}

impl fmt::Display for Instruction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.at {
            Some(edge) => write!(f, "at {edge}: {}", self.step),
            None => self.step.fmt(f),
        }
    }
}
