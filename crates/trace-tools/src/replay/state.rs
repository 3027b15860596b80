//! What a trace lets one see between two events: frames, entries, spaces, threads, the run.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use mm_types::{ActorId, Mode, PageFlags, Pfn, Pte, Reason, Refusal, Rules, Site, SpaceId};

/// Where a page is, as far as lists go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum List {
    /// The trace has not said.
    #[default]
    Unknown,
    /// On the LRU.
    Lru,
    /// Isolated, and to be moved, or tried and left for now.
    From,
    /// A new page, taken or given back.
    To,
    /// Moved away, or freed by its users; isolated until the caller puts it back.
    Moved,
    /// Isolated, and refused for good.
    Failed,
    /// An old page whose contents are elsewhere, put back: nobody holds it.
    Free,
}

impl List {
    /// Every list, in the order of a page's way.
    pub const ALL: &'static [Self] = &[
        Self::Unknown,
        Self::Lru,
        Self::From,
        Self::To,
        Self::Moved,
        Self::Failed,
        Self::Free,
    ];

    /// Returns the word for it.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Lru => "lru",
            Self::From => "from",
            Self::To => "to",
            Self::Moved => "moved",
            Self::Failed => "failed",
            Self::Free => "free",
        }
    }
}

/// The other page of a pair: whose new page this is, or which new page it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pair {
    /// The frame is to be emptied into this one.
    Destination(Pfn),
    /// The frame was taken for this one.
    Source(Pfn),
}

/// References, where the trace tells of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct References {
    /// Those the migration and the cache account for.
    pub expected: u32,
    /// Those there were.
    pub found: u32,
}

/// What became of an attempt that did not move the page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused {
    /// The rule, and the holder.
    pub refusal: Refusal,
    /// True where the run does not try again.
    pub last: bool,
    /// The event that said so, counted from 0.
    pub at: usize,
}

/// What the trace has told of a frame.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Frame {
    /// Its id in the trace.
    pub pfn: Pfn,
    /// Which content it holds, `p`.
    pub content: Option<u32>,
    /// The list it is on.
    pub list: List,
    /// The event that put it there, counted from 0: the order within a list.
    pub since: usize,
    /// Off the LRU, with one reference more.
    pub isolated: bool,
    /// The migration holds the page lock.
    pub locked: bool,
    /// Handed to the file system, which may have unlocked it.
    pub lock_unsure: bool,
    /// The reference count is frozen.
    pub frozen: bool,
    /// Its contents were copied away.
    pub copied: bool,
    /// Past the point of no return, as the page that leaves.
    pub switched: bool,
    /// Past the point of no return, as the page that comes.
    pub arrived: bool,
    /// A new page with the mapping and index of the old one.
    pub has_mapping: bool,
    /// A page that moved without its contents.
    pub in_error: bool,
    /// The page it is paired with.
    pub pair: Option<Pair>,
    /// Entries that map it.
    pub mapped: u32,
    /// Migration entries that name it.
    pub entries: u32,
    /// Its flags, the lock aside, since they were last told.
    pub flags: Option<PageFlags>,
    /// Its references, since they were last told.
    pub references: Option<References>,
    /// Its last refusal.
    pub refused: Option<Refused>,
    /// How often the run has tried it in vain.
    pub attempts: u32,
    /// The run that tried it.
    pub(super) run: u32,
    pub(super) seen: bool,
}

/// What the trace has told of one entry of a page table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Entry {
    /// Where.
    pub site: Site,
    /// What is there; `Pte::None` where nothing is.
    pub pte: Pte,
    /// What was there before the entry was last replaced.
    pub was: Pte,
    /// The event that put it there, counted from 0.
    pub since: usize,
    // The number of barriers when it was replaced, while it matters.
    pub(super) replaced: Option<u32>,
    pub(super) seen: bool,
}

/// What the trace has told of an address space.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Space {
    /// Which.
    pub space: SpaceId,
    /// Somebody read or changed an entry in flight before the barrier, and has not flushed yet.
    pub owes_flush: bool,
    pub(super) edits: u32,
    pub(super) edited: u32,
    pub(super) seen: bool,
}

/// What a thread that met a migration does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Doing {
    /// It goes on.
    #[default]
    Running,
    /// It touched a page and could not go on.
    Faulting {
        /// Where.
        site: Site,
        /// True for a store.
        write: bool,
    },
    /// It sleeps until a page lock opens.
    Waiting {
        /// Where it met the entry.
        site: Site,
        /// The frame that the entry names.
        pfn: Pfn,
    },
}

/// What the trace has told of a thread.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Actor {
    /// Which; 0 is the migrator.
    pub actor: ActorId,
    /// What it does.
    pub doing: Doing,
    /// Since which event, counted from 0.
    pub since: usize,
    pub(super) seen: bool,
}

/// The run that goes on, or went on last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// Its number in the trace, from 1.
    pub number: u32,
    /// Whose rules it follows.
    pub rules: Rules,
    /// What it may wait for.
    pub mode: Mode,
    /// Why it was asked for.
    pub reason: Reason,
    /// The pass, once one has begun.
    pub pass: Option<u32>,
    /// Pages moved so far, or freed meanwhile.
    pub succeeded: u32,
    /// Pages refused for good so far.
    pub failed: u32,
    /// Pages refused for now so far.
    pub left: u32,
    /// True once it has ended.
    pub over: bool,
}

/// All of it, at one place of a trace.
#[derive(Clone, Debug, Default)]
pub struct State {
    pub(super) frames: Shelf<Pfn, Frame>,
    pub(super) entries: Shelf<Site, Entry>,
    pub(super) spaces: Shelf<SpaceId, Space>,
    pub(super) actors: Shelf<ActorId, Actor>,
    pub(super) run: Option<Run>,
    // Barriers so far.
    pub(super) barriers: u32,
}

/// Values in order of first appearance, and where each key's is.
///
/// A value stays on its shelf when the trace is gone back over, as one that was not seen.
#[derive(Clone, Debug)]
pub(super) struct Shelf<K, V> {
    at: BTreeMap<K, usize>,
    values: Vec<V>,
}

impl<K, V> Default for Shelf<K, V> {
    fn default() -> Self {
        Self {
            at: BTreeMap::new(),
            values: Vec::new(),
        }
    }
}

impl<K: Ord + Copy, V: Copy + Default> Shelf<K, V> {
    /// The place of `key`, made where it has none.
    pub(super) fn place(&mut self, key: K) -> usize {
        let next = self.values.len();
        let at = *self.at.entry(key).or_insert(next);
        if at == next {
            self.values.push(V::default());
        }
        at
    }

    pub(super) fn find(&self, key: K) -> Option<&V> {
        self.values.get(*self.at.get(&key)?)
    }

    pub(super) fn at(&self, place: usize) -> V {
        self.values.get(place).copied().unwrap_or_default()
    }

    pub(super) fn put(&mut self, place: usize, value: V) {
        if let Some(slot) = self.values.get_mut(place) {
            *slot = value;
        }
    }
}

impl State {
    /// Returns the frames seen so far, in order of first appearance.
    pub fn frames(&self) -> impl Iterator<Item = &Frame> {
        self.frames.values.iter().filter(|frame| frame.seen)
    }

    /// Returns the frame `pfn`; `None` where it has not appeared.
    #[must_use]
    pub fn frame(&self, pfn: Pfn) -> Option<&Frame> {
        self.frames.find(pfn).filter(|frame| frame.seen)
    }

    /// Returns the frames on `list`, in the order in which they came there.
    #[must_use]
    pub fn list(&self, list: List) -> Vec<&Frame> {
        let mut frames: Vec<_> = self.frames().filter(|frame| frame.list == list).collect();
        frames.sort_by_key(|frame| frame.since);
        frames
    }

    /// Returns the entries seen so far, in order of first appearance, empty ones too.
    pub fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.entries.values.iter().filter(|entry| entry.seen)
    }

    /// Returns the entry at `site`; `None` where it has not appeared.
    #[must_use]
    pub fn entry(&self, site: Site) -> Option<&Entry> {
        self.entries.find(site).filter(|entry| entry.seen)
    }

    /// Returns the translation that a CPU may still use although `entry` says otherwise: what was replaced since the last
    /// barrier.
    #[must_use]
    pub fn stale(&self, entry: &Entry) -> Option<Pte> {
        let pending = entry.replaced == Some(self.barriers);
        (pending && entry.was.is_present()).then_some(entry.was)
    }

    /// Returns the spaces seen so far, in order of first appearance.
    pub fn spaces(&self) -> impl Iterator<Item = &Space> {
        self.spaces.values.iter().filter(|space| space.seen)
    }

    /// Returns how many entries of `space` the migration changed since the last barrier: what the CPUs that run the space
    /// have not been told. A trace has no CPUs.
    #[must_use]
    pub const fn pending(&self, space: &Space) -> u32 {
        if space.edited == self.barriers { space.edits } else { 0 }
    }

    /// Returns how many barriers there have been.
    #[must_use]
    pub const fn barriers(&self) -> u32 {
        self.barriers
    }

    /// Returns the threads seen so far, in order of first appearance.
    pub fn actors(&self) -> impl Iterator<Item = &Actor> {
        self.actors.values.iter().filter(|actor| actor.seen)
    }

    /// Returns the threads that sleep until a page lock opens, with where, and the frame.
    pub fn waiters(&self) -> impl Iterator<Item = (&Actor, Site, Pfn)> {
        self.actors().filter_map(|actor| match actor.doing {
            Doing::Waiting { site, pfn } => Some((actor, site, pfn)),
            _ => None,
        })
    }

    /// Returns the run that goes on, or went on last.
    #[must_use]
    pub const fn run(&self) -> Option<&Run> {
        self.run.as_ref()
    }
}
