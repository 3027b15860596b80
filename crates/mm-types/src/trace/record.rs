//! Recorders: where a run's events wait until somebody reads them.
//!
//! [`Ring`] has fixed room, takes no lock and never allocates, so that a fault handler may write to it; it keeps the
//! newest events and counts the others. `Recorder` (feature `std`) keeps everything and takes a mutex: not for a
//! signal handler.
//!
//! The ring's protocol: a writer draws a ticket, which is the event's place in the order; it claims the slot by making
//! the slot's stamp odd, writes the words, and publishes by making it even again. A writer that finds its slot claimed,
//! or already used by a later ticket, drops its own event: it has been overtaken by a whole round. A reader takes the
//! words only if the stamp was the same, even one before and after.

use core::sync::atomic::{AtomicU32, AtomicUsize, Ordering, fence};

use super::packed::{Packed, WORDS, pack, unpack};
use super::{Event, Observer};

// These are `core`'s atomics, not those of the interleaving explorers: a recorder is beside what they explore, and
// must be constructible in a `static`.

/// Room for one event of a [`Ring`].
#[derive(Debug)]
pub struct RingSlot {
    // 0: never used. Odd: being written. Even: twice (the round it was used in, from 1).
    stamp: AtomicUsize,
    words: [AtomicU32; WORDS],
}

impl RingSlot {
    /// Makes a slot that holds nothing.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            stamp: AtomicUsize::new(0),
            words: [const { AtomicU32::new(0) }; WORDS],
        }
    }

    /// Makes the stamp odd, so that readers and other writers keep off; `None` where one has, or was here in this round or later.
    fn claim(&self, stamp: usize) -> Option<()> {
        let found = self.stamp.load(Ordering::Relaxed);
        if found & 1 == 1 || found >= stamp {
            return None;
        }
        self.stamp
            .compare_exchange(found, found | 1, Ordering::Acquire, Ordering::Relaxed)
            .ok()?;
        // The odd stamp must be seen before any of the new words.
        fence(Ordering::Release);
        Some(())
    }
}

impl Default for RingSlot {
    fn default() -> Self {
        Self::new()
    }
}

/// A recorder with fixed room: the newest events, in order. Shared as `&Ring` with as many threads as like.
///
/// `S` is where the slots are: an array, a lent slice, or a box.
#[derive(Debug)]
pub struct Ring<S> {
    slots: S,
    next: AtomicUsize,
    overtaken: AtomicUsize,
}

impl<const N: usize> Ring<[RingSlot; N]> {
    /// Makes an empty ring with room for `N` events, for a `static` or the stack.
    #[must_use]
    pub const fn new() -> Self {
        Self::over([const { RingSlot::new() }; N])
    }
}

impl<const N: usize> Default for Ring<[RingSlot; N]> {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(feature = "alloc")]
impl Ring<alloc::boxed::Box<[RingSlot]>> {
    /// Makes an empty ring with room for `room` events on the heap; nothing is allocated afterwards.
    #[must_use]
    pub fn with_capacity(room: usize) -> Self {
        Self::over((0..room).map(|_| RingSlot::new()).collect())
    }
}

impl<S> Ring<S> {
    /// Makes a ring over slots that nobody used.
    #[must_use]
    pub const fn over(slots: S) -> Self {
        Self {
            slots,
            next: AtomicUsize::new(0),
            overtaken: AtomicUsize::new(0),
        }
    }
}

impl<S: AsRef<[RingSlot]>> Ring<S> {
    /// Writes `event` down; never blocks.
    pub fn push(&self, event: Event) {
        let ticket = self.next.fetch_add(1, Ordering::Relaxed);
        if self.try_put(ticket, event).is_none() {
            self.overtaken.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn try_put(&self, ticket: usize, event: Event) -> Option<()> {
        let (slot, stamp) = self.place(ticket)?;
        slot.claim(stamp)?;
        for (to, word) in slot.words.iter().zip(pack(event)) {
            to.store(word, Ordering::Relaxed);
        }
        slot.stamp.store(stamp, Ordering::Release);
        Some(())
    }

    fn place(&self, ticket: usize) -> Option<(&RingSlot, usize)> {
        let slots = self.slots.as_ref();
        let slot = slots.get(ticket.checked_rem(slots.len())?)?;
        let round = ticket.checked_div(slots.len())?;
        Some((slot, round.checked_add(1)?.checked_mul(2)?))
    }

    fn read(&self, ticket: usize) -> Option<Event> {
        let (slot, stamp) = self.place(ticket)?;
        if slot.stamp.load(Ordering::Acquire) != stamp {
            return None;
        }
        let mut words: Packed = [0; WORDS];
        for (word, from) in words.iter_mut().zip(&slot.words) {
            *word = from.load(Ordering::Relaxed);
        }
        // The words must be read before the stamp is looked at again.
        fence(Ordering::Acquire);
        if slot.stamp.load(Ordering::Relaxed) != stamp {
            return None;
        }
        unpack(&words)
    }

    /// Returns the events that are still there, oldest first; skips one that is being overwritten meanwhile.
    pub fn events(&self) -> impl Iterator<Item = Event> + '_ {
        let next = self.next.load(Ordering::Acquire);
        let first = next.saturating_sub(self.slots.as_ref().len());
        (first..next).filter_map(|ticket| self.read(ticket))
    }

    /// Returns how many events are lost: overwritten by newer ones, or overtaken while they were written.
    #[must_use]
    pub fn dropped(&self) -> usize {
        let overwritten = self
            .next
            .load(Ordering::Acquire)
            .saturating_sub(self.slots.as_ref().len());
        overwritten.saturating_add(self.overtaken.load(Ordering::Relaxed))
    }

    /// Returns the canonical text of what is there.
    #[cfg(feature = "alloc")]
    #[must_use]
    pub fn text(&self) -> alloc::string::String {
        super::text_of(self.events())
    }
}

impl<S: AsRef<[RingSlot]>> Observer for &Ring<S> {
    const ENABLED: bool = true;

    fn event(self, event: Event) {
        self.push(event);
    }
}

/// A recorder that keeps every event, on the heap. Shared as `&Recorder` with other threads.
///
/// Takes a mutex and allocates: use a [`Ring`] where events come from a signal handler.
#[cfg(feature = "std")]
#[derive(Debug, Default)]
pub struct Recorder(std::sync::Mutex<alloc::vec::Vec<Event>>);

#[cfg(feature = "std")]
impl Recorder {
    /// Makes an empty recorder.
    #[must_use]
    pub const fn new() -> Self {
        Self(std::sync::Mutex::new(alloc::vec::Vec::new()))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, alloc::vec::Vec<Event>> {
        // A thread that panicked while it pushed left a whole vector.
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Returns a copy of the events so far, in order.
    #[must_use]
    pub fn events(&self) -> alloc::vec::Vec<Event> {
        self.lock().clone()
    }

    /// Takes the events so far out, in order.
    #[must_use]
    pub fn take(&self) -> alloc::vec::Vec<Event> {
        core::mem::take(&mut *self.lock())
    }

    /// Returns the canonical text of the events so far.
    #[must_use]
    pub fn text(&self) -> alloc::string::String {
        super::text_of(self.events())
    }
}

#[cfg(feature = "std")]
impl Observer for &Recorder {
    const ENABLED: bool = true;

    fn event(self, event: Event) {
        self.lock().push(event);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Pfn;
    use crate::trace::examples::lines;
    use std::vec::Vec;

    static STATIC: Ring<[RingSlot; 4]> = Ring::new();

    #[test]
    fn a_ring_keeps_the_newest_and_counts_the_rest() {
        for line in lines() {
            (&STATIC).note(|| line.event);
        }
        let all: Vec<_> = lines().iter().map(|line| line.event).collect();
        assert_eq!(STATIC.events().collect::<Vec<_>>(), all[all.len() - 4..]);
        assert_eq!(STATIC.dropped(), all.len() - 4);
    }

    #[test]
    fn a_slot_that_is_claimed_is_neither_claimed_again_nor_read() {
        let ring = Ring::<[RingSlot; 2]>::new();
        ring.push(Event::Pass { number: 0 });
        ring.push(Event::Pass { number: 1 });
        let (slot, _) = ring.place(0).unwrap();
        assert_eq!(slot.claim(4), Some(()), "a round later");
        assert_eq!(slot.claim(4), None, "somebody writes");
        assert_eq!(slot.claim(6), None, "nor does who comes a round later wait");
        assert_eq!(ring.events().collect::<Vec<_>>(), [Event::Pass { number: 1 }]);
        ring.push(Event::Pass { number: 2 });
        assert_eq!(ring.dropped(), 2, "the one overwritten and the one overtaken");
    }

    #[test]
    fn who_comes_a_round_late_does_not_overwrite_what_is_newer() {
        let ring = Ring::<[RingSlot; 2]>::new();
        let put = |ticket, number| ring.try_put(ticket, Event::Pass { number });
        assert_eq!(put(2, 7), Some(()));
        assert_eq!(put(0, 8), None, "overtaken");
        assert_eq!(put(2, 8), None, "a ticket is used once");
        assert_eq!(ring.read(2), Some(Event::Pass { number: 7 }));
        assert_eq!(ring.read(0), None);
    }

    #[test]
    fn a_ring_without_room_drops_everything() {
        let slots: &[RingSlot] = &[];
        let ring = Ring::over(slots);
        ring.push(Event::Pass { number: 0 });
        assert_eq!(ring.events().count(), 0);
        assert!(ring.dropped() > 0);
    }

    #[test]
    fn threads_that_share_a_ring_never_mix_the_words_of_two_events() {
        const NOTED: u64 = if cfg!(miri) { 50 } else { 20_000 };
        const READ: usize = if cfg!(miri) { 10 } else { 2_000 };
        let ring = Ring::<[RingSlot; 8]>::new();
        std::thread::scope(|scope| {
            for thread in 0..4u64 {
                let ring = &ring;
                scope.spawn(move || {
                    for n in 0..NOTED {
                        let twice = Pfn::new((thread << 32) | n);
                        ring.event(Event::Copy { old: twice, new: twice });
                    }
                });
            }
            for _ in 0..READ {
                for event in ring.events() {
                    let Event::Copy { old, new } = event else {
                        panic!("{event:?}")
                    };
                    assert_eq!(old, new);
                }
            }
        });
        assert!(ring.events().count() <= 8);
        assert!(ring.dropped() as u64 >= 4 * NOTED - 8);
    }

    #[cfg(feature = "std")]
    #[test]
    fn a_recorder_gives_the_canonical_text() {
        let recorder = Recorder::new();
        (&recorder).event(Event::Isolate(Pfn::new(0x77)));
        (&recorder).event(Event::Lock(Pfn::new(0x78)));
        assert_eq!(recorder.text(), "trace v1\nisolate p0 f0\nlock p1 f1\n");
        assert_eq!(recorder.take().len(), 2);
        assert_eq!(recorder.text(), "trace v1\n");
    }

    #[cfg(feature = "alloc")]
    #[test]
    fn a_ring_gives_the_canonical_text_of_what_it_keeps() {
        let ring = Ring::<[RingSlot; 8]>::new();
        ring.push(Event::Isolate(Pfn::new(0x77)));
        ring.push(Event::Lock(Pfn::new(0x78)));
        assert_eq!(ring.text(), "trace v1\nisolate p0 f0\nlock p1 f1\n");
    }
}
