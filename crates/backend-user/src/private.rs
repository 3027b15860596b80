//! The second engine: private pages whose memory moves by userfaultfd.
//!
//! A private anonymous area is one mapping for ever, and a page of it is shown by moving the frame's memory from the frame's slot
//! ([`Arena`]) to the page's place, and hidden by moving it back (`UFFDIO_MOVE`). The table of entries is the same, and so is the
//! protocol; a migration entry's page is missing, and an access to it sleeps in the kernel until the page is back:
//! [`missing`](crate::missing) hears of it and notes it. Nothing splits a mapping, so no limit of mappings is
//! met, and system calls wait as instructions do, where the process may ask for that.
//!
//! A page has one place: what two spaces map is the business of the first engine, side by side with this one. A frame serves
//! either, one at a time: [`Private::has`] says which.

use core::fmt;
use core::str::FromStr;
use core::sync::atomic::{AtomicU8, AtomicUsize, Ordering, fence};
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use migrate_core::CopyError;
use mm_types::{Outcome, Pfn, Refusal, SpaceId, errno};

use crate::kernel::{Kernel, lock};
use crate::mm::Mm;
use crate::sys::arena::Arena;
use crate::sys::copy;
use crate::sys::error::MapError;
use crate::sys::node::HUGE;
use crate::sys::uffd::{SystemCalls, Uffd, UffdError};

/// Which engine moves the pages of private anonymous areas; all other pages are the first's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Hash)]
pub enum Engine {
    /// Frames are mapped and protected (`mmap`, `mprotect`): a page may have several places, in any spaces.
    #[default]
    Shared,
    /// Memory moves by userfaultfd: a page has one place. A machine that cannot have that is not built.
    Private,
    /// The second where the system has it, else the first; [`Machine::engine`](crate::Machine::engine) says which, and why.
    Auto,
}

impl Engine {
    /// Returns the word that [`FromStr`] reads.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Shared => "shared",
            Self::Private => "private",
            Self::Auto => "auto",
        }
    }
}

impl fmt::Display for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// The word is no engine's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an engine; it is one of shared, private, auto")]
pub struct NoEngine;

impl FromStr for Engine {
    type Err = NoEngine;

    fn from_str(word: &str) -> Result<Self, NoEngine> {
        let all = [Self::Shared, Self::Private, Self::Auto];
        all.into_iter().find(|engine| engine.word() == word).ok_or(NoEngine)
    }
}

/// Which engine a machine has for private pages, and why. `Display` says it in a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EngineInUse {
    /// The first: it was asked for, or the second cannot be had for this reason.
    Shared(Option<UffdError>),
    /// The second, and what becomes of system calls that meet a page in flight.
    Private(SystemCalls),
}

impl EngineInUse {
    /// Returns the word of the engine that is in use.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Shared(_) => Engine::Shared.word(),
            Self::Private(_) => Engine::Private.word(),
        }
    }
}

impl fmt::Display for EngineInUse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Shared(None) => f.write_str("private pages by mprotect and mmap"),
            Self::Shared(Some(why)) => write!(f, "private pages by mprotect and mmap, because {why}"),
            Self::Private(SystemCalls::Wait) => f.write_str("private pages by userfaultfd; system calls wait for them"),
            Self::Private(SystemCalls::Fail) => f.write_str(
                "private pages by userfaultfd; system calls fail on a page in flight, because the process may ask for its \
                 own faults only (vm.unprivileged_userfaultfd, /dev/userfaultfd)",
            ),
        }
    }
}

/// The frame's memory is in the arena, or at a place.
const OURS: u8 = 1 << 0;
/// It is at a place that it could not be taken from.
const STUCK: u8 = 1 << 1;
/// So it was when its page was last to be hidden.
const WAS_STUCK: u8 = 1 << 2;

/// What the second engine has.
#[derive(Debug)]
pub(crate) struct Private {
    pub(crate) uffd: Uffd,
    arenas: Box<[Arena]>,
    frames: Box<[AtomicU8]>,
    stalled: Stalled,
    /// Threads that wait in place of those that sleep in the kernel.
    stand_ins: Mutex<Vec<JoinHandle<()>>>,
    /// Whom they wait for, as the kernel numbers threads: those that do what an access to a page in flight would do.
    standing: Mutex<BTreeSet<u32>>,
}

/// A thread has a stand-in; dropped, it has none.
#[derive(Debug)]
pub(crate) struct Standing {
    private: Arc<Private>,
    thread: u32,
}

impl Standing {
    /// Notes it; `None` where it has one already.
    pub(crate) fn begin(private: &Arc<Private>, thread: u32) -> Option<Self> {
        let private = private.clone();
        let first = lock(&private.standing).insert(thread);
        first.then_some(Self { private, thread })
    }
}

impl Drop for Standing {
    fn drop(&mut self) {
        lock(&self.private.standing).remove(&self.thread);
    }
}

/// Accesses that wait for pages in flight.
#[derive(Debug, Default)]
struct Stalled {
    /// How many, so that nobody who brings pages in takes the lock for nothing.
    any: AtomicUsize,
    since: Mutex<Vec<(SpaceId, usize, Instant)>>,
}

impl Private {
    /// Makes an arena for each node; `real` names the real node of each, where there is one.
    pub(crate) fn new(uffd: Uffd, frames_per_node: usize, large: bool, real: &[Option<u32>]) -> Result<Self, MapError> {
        let arenas: Result<_, _> = real
            .iter()
            .map(|real| Arena::new(frames_per_node, *real, large))
            .collect();
        Ok(Self {
            uffd,
            arenas: arenas?,
            frames: (0..frames_per_node * real.len()).map(|_| AtomicU8::new(0)).collect(),
            stalled: Stalled::default(),
            stand_ins: Mutex::default(),
            standing: Mutex::default(),
        })
    }

    fn frame(&self, pfn: Pfn) -> u8 {
        let frame = pfn.index().and_then(|index| self.frames.get(index));
        frame.map_or(0, |frame| frame.load(Ordering::Acquire))
    }

    fn mark(&self, pfn: Pfn, bit: u8, on: bool) {
        if let Some(frame) = pfn.index().and_then(|index| self.frames.get(index)) {
            if on {
                frame.fetch_or(bit, Ordering::AcqRel);
            } else {
                frame.fetch_and(!bit, Ordering::AcqRel);
            }
        }
    }

    /// True where the page in this frame is one of this engine's.
    pub(crate) fn has(&self, pfn: Pfn) -> bool {
        self.frame(pfn) & OURS != 0
    }

    /// True where the frame's memory could not be taken from its place, though its page is in flight.
    pub(crate) fn is_stuck(&self, pfn: Pfn) -> bool {
        self.frame(pfn) & STUCK != 0
    }

    fn was_stuck(&self, pfn: Pfn) -> bool {
        self.frame(pfn) & WAS_STUCK != 0
    }

    /// Notes whether it could.
    pub(crate) fn set_stuck(&self, pfn: Pfn, stuck: bool) {
        let bits = STUCK | WAS_STUCK;
        if stuck || self.frame(pfn) & bits != 0 {
            self.mark(pfn, bits, stuck);
        }
    }

    /// Notes that it is to be there again.
    pub(crate) fn unstick(&self, pfn: Pfn) {
        if self.is_stuck(pfn) {
            self.mark(pfn, STUCK, false);
        }
    }

    /// Returns a node's arena.
    pub(crate) fn arena(&self, node: usize) -> Option<&Arena> {
        self.arenas.get(node)
    }

    /// True for an address of any slot.
    pub(crate) fn is_slot(&self, addr: usize) -> bool {
        self.arenas.iter().any(|arena| arena.contains(addr))
    }

    /// Notes that an access waits for a page.
    pub(crate) fn stalls(&self, space: SpaceId, page: usize) {
        let mut since = lock(&self.stalled.since);
        since.push((space, page, Instant::now()));
        self.stalled.any.store(since.len(), Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }

    /// Ends the waits for those of `pages`, which are sorted and of `mm`, that are in flight no longer: the accesses look again.
    ///
    /// Showing a page wakes them, and does not suffice: a page that was in flight need not be shown when it is back. It may be one that is watched for use, which
    /// the access is to be told of, or may have been zapped; and one whose permission was waited for was never taken away if its
    /// migration was given up before the first barrier.
    pub(crate) fn stalls_end(&self, kernel: &Kernel, mm: &Mm, pages: &[usize]) {
        // Whoever notes a wait looks at the entry afterwards, and whoever is here has changed the entry before: one of the two sees
        // the other, with a fence on both sides.
        fence(Ordering::SeqCst);
        if self.stalled.any.load(Ordering::Relaxed) == 0 {
            return;
        }
        let mut since = lock(&self.stalled.since);
        since.retain(|(of, at, begun)| {
            let over = *of == mm.id && pages.binary_search(at).is_ok() && !mm.read(*at).is_migration();
            if over {
                kernel.stalled(*begun);
                mm.wake(self, *at..*at + 1);
            }
            !over
        });
        self.stalled.any.store(since.len(), Ordering::Relaxed);
    }

    /// Runs `wait` on a thread of its own: who sleeps in the kernel cannot do what it has to do. False where there is no thread.
    #[must_use]
    pub(crate) fn stand_in(&self, wait: impl FnOnce() + Send + 'static) -> bool {
        let spawned = thread::Builder::new().name("stand-in".into()).spawn(wait);
        let begun = spawned.is_ok();
        let mut stand_ins = lock(&self.stand_ins);
        stand_ins.retain(|thread| !thread.is_finished());
        stand_ins.extend(spawned);
        begun
    }

    /// Waits for all of them.
    pub(crate) fn join_stand_ins(&self) {
        loop {
            let Some(thread) = lock(&self.stand_ins).pop() else {
                return;
            };
            // A panic of one is reported by its own message.
            let _ = thread.join();
        }
    }
}

impl Kernel {
    /// Makes the contents of a taken frame the second engine's, or the first's; they are whatever they were.
    ///
    /// # Errors
    /// No memory.
    pub(crate) fn claim(&self, pfn: Pfn, ours: bool) -> Result<(), MapError> {
        let Some(private) = &self.private else { return Ok(()) };
        if ours {
            let (node, frame) = self.place_of(pfn.index().unwrap_or(usize::MAX));
            if let Some(arena) = private.arena(node) {
                arena.ready(&private.uffd, frame)?;
            }
        } else {
            self.enlarge_shared(pfn, 1);
        }
        if private.has(pfn) != ours {
            private.mark(pfn, OURS, ours);
        }
        Ok(())
    }

    /// Returns the slot of a frame, where its page is the second engine's.
    pub(crate) fn slot_of_frame(&self, pfn: Pfn) -> Option<*mut u8> {
        let private = self.private.as_deref().filter(|private| private.has(pfn))?;
        let (node, frame) = self.place_of(pfn.index()?);
        Some(private.arena(node)?.slot(frame))
    }

    /// Says why a page could not be copied that others have too: a fork of the process, or an I/O that has pinned it.
    pub(crate) fn by_its_number(&self, pfn: Pfn, outcome: Outcome) -> Outcome {
        let stuck = self.private.as_deref().is_some_and(|private| private.was_stuck(pfn));
        match outcome {
            // Its entry's reference is kept for as long as programs reach the page.
            Outcome::Refused(Refusal::CopyFailed | Refusal::ExtraReference { .. }) if stuck => {
                Outcome::Refused(Refusal::Backend { code: errno::EBUSY })
            }
            _ => outcome,
        }
    }

    /// Copies a page that is in flight from slot to slot.
    pub(crate) fn copy_private(&self, private: &Private, from: Pfn, to: Pfn) -> Result<(), CopyError> {
        if private.is_stuck(from) {
            return Err(CopyError);
        }
        self.claim(to, true).map_err(|_| CopyError)?;
        let source = self.slot_of_frame(from).ok_or(CopyError)?;
        let target = self.slot_of_frame(to).ok_or(CopyError)?;
        // SAFETY: both slots have memory: the source's page is in flight, not stuck, and the barrier is over, so it has been taken
        // from its place and nobody else reaches it; the target's frame is a new page's, shown nowhere before the next barrier. A
        // page is not its own target.
        unsafe { copy::page(source.cast_const(), target) };
        Ok(())
    }

    /// Makes sure that frames taken for pages such as that of `like` have memory, before anybody waits for it, and, with
    /// `whole`, large pages again where they lie in whole blocks: not where the batch moves in parts, which would split each of them, and
    /// that costs more than it saves. Best effort: [`claim`](Self::claim) decides.
    pub(crate) fn prepare_private(&self, private: &Private, like: Pfn, (first, n): (Pfn, usize), whole: bool) {
        let (node, frame) = self.place_of(first.index().unwrap_or(usize::MAX));
        let Some(arena) = private.arena(node).filter(|_| private.has(like)) else {
            return;
        };
        for block in frame / HUGE..(frame + n).div_ceil(HUGE) {
            let all_of_it = block * HUGE >= frame && (block + 1) * HUGE <= frame + n;
            let _ = if whole && all_of_it {
                arena.renew(&private.uffd, block)
            } else {
                arena.ready(&private.uffd, block * HUGE)
            };
        }
    }
}
