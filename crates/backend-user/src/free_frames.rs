//! The free frames of one node: who asks for many gets neighbours where there are some.
//!
//! Neighbouring pages in neighbouring frames are one mapping, and one system call moves them; scattered ones are a mapping
//! each, of which a process may have some 65,000.

use mm_types::Pfn;

use crate::sys::node::HUGE;

/// Runs looked at before the longest of them has to do.
const LOOKS: usize = 64;

/// A set bit is a free frame.
#[derive(Debug)]
pub(crate) struct FreeFrames {
    first: u64,
    frames: usize,
    bits: Vec<u64>,
    free: usize,
    /// Where the next search begins.
    next: usize,
}

impl FreeFrames {
    /// Makes the set of the `frames` frames from `first` on, all free.
    pub(crate) fn new(first: Pfn, frames: usize) -> Self {
        let mut bits = vec![u64::MAX; frames / 64];
        if frames % 64 != 0 {
            bits.push((1 << (frames % 64)) - 1);
        }
        Self {
            first: first.raw(),
            frames,
            bits,
            free: frames,
            next: 0,
        }
    }

    /// Returns how many frames are free.
    pub(crate) const fn len(&self) -> usize {
        self.free
    }

    /// Visits every free frame.
    pub(crate) fn iter(&self) -> impl Iterator<Item = Pfn> + '_ {
        let numbers = (0..self.frames).zip(self.first..);
        numbers
            .filter(|(slot, _)| self.is_free(*slot))
            .map(|(_, pfn)| Pfn::new(pfn))
    }

    fn slot(&self, pfn: Pfn) -> Option<usize> {
        let slot = usize::try_from(pfn.raw().checked_sub(self.first)?).ok()?;
        (slot < self.frames).then_some(slot)
    }

    fn is_free(&self, slot: usize) -> bool {
        self.bits
            .get(slot / 64)
            .is_some_and(|word| word >> (slot % 64) & 1 == 1)
    }

    /// Returns the first free slot at or after `from`.
    fn free_from(&self, from: usize) -> Option<usize> {
        let mut word = self.bits.get(from / 64)? & (u64::MAX << (from % 64));
        let mut at = from / 64;
        while word == 0 {
            at += 1;
            word = *self.bits.get(at)?;
        }
        Some(at * 64 + word.trailing_zeros() as usize)
    }

    /// Returns how many slots from `from` on are free, up to `most`.
    fn run(&self, from: usize, most: usize) -> usize {
        let mut n = 0;
        while n < most {
            let slot = from + n;
            let Some(word) = self.bits.get(slot / 64) else { break };
            // Of the shifted word the upper bits are 0: a run ends there at the latest.
            let here = (word >> (slot % 64)).trailing_ones() as usize;
            n += here;
            if here == 0 || (slot + here) % 64 != 0 {
                break;
            }
        }
        n.min(most)
    }

    fn set(&mut self, slot: usize, n: usize, free: bool) {
        for slot in slot..slot + n {
            if let Some(word) = self.bits.get_mut(slot / 64) {
                let bit = 1 << (slot % 64);
                if free {
                    *word |= bit;
                } else {
                    *word &= !bit;
                }
            }
        }
    }

    /// Takes exactly this frame; false where it is not free, or another node's.
    pub(crate) fn take_at(&mut self, pfn: Pfn) -> bool {
        self.take_all_at(pfn, 1)
    }

    /// Takes exactly the `n` frames from `pfn` on; false, and nothing taken, where one is not free, or another node's.
    pub(crate) fn take_all_at(&mut self, pfn: Pfn, n: usize) -> bool {
        let Some(slot) = self.slot(pfn).filter(|slot| self.run(*slot, n) == n) else {
            return false;
        };
        self.set(slot, n, false);
        self.free -= n;
        true
    }

    /// Finds `want` neighbouring free frames, or the longest run of a limited search; takes nothing.
    ///
    /// With `like`, the first of them lies in its large page as `like` does in its own, where there is such a run.
    pub(crate) fn find(&self, want: usize, like: Option<usize>) -> Option<(Pfn, usize)> {
        let mut best: Option<(usize, usize)> = None;
        let mut from = self.next;
        let mut wrapped = from == 0;
        for _ in 0..LOOKS {
            let Some(slot) = self.free_from(from) else {
                if wrapped {
                    break;
                }
                wrapped = true;
                from = 0;
                continue;
            };
            let n = self.run(slot, want + like.map_or(0, |_| HUGE));
            let skip = like.map_or(0, |like| (like % HUGE + HUGE - slot % HUGE) % HUGE);
            // A run that is long enough, but not at the right place, is better than none.
            let (first, fits) = if n > skip { (slot + skip, n - skip) } else { (slot, n) };
            let fits = fits.min(want);
            if best.is_none_or(|(_, longest)| fits > longest) {
                best = Some((first, fits));
            }
            if fits >= want {
                break;
            }
            from = slot + n;
        }
        best.map(|(slot, n)| (Pfn::new(self.first + slot as u64), n))
    }

    /// Takes up to `want` neighbouring frames; fewer where there is no such run, `None` where none is free.
    pub(crate) fn take_run(&mut self, want: usize, like: Option<usize>) -> Option<(Pfn, usize)> {
        let (pfn, n) = self.find(want.max(1), like)?;
        let slot = self.slot(pfn)?;
        self.set(slot, n, false);
        self.free -= n;
        self.next = if slot + n < self.frames { slot + n } else { 0 };
        Some((pfn, n))
    }

    /// Takes a frame back.
    pub(crate) fn give_back(&mut self, pfn: Pfn) {
        let slot = self.slot(pfn).filter(|slot| !self.is_free(*slot));
        debug_assert!(slot.is_some(), "{pfn:?} was given back twice, or to the wrong node");
        if let Some(slot) = slot {
            self.set(slot, 1, true);
            self.free += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_are_found_where_there_are_some() {
        let mut free = FreeFrames::new(Pfn::new(1000), 200);
        assert_eq!(free.take_run(130, None), Some((Pfn::new(1000), 130)));
        assert_eq!(free.take_run(100, None), Some((Pfn::new(1130), 70)), "the rest");
        assert_eq!(free.take_run(1, None), None);
        for pfn in [1010, 1011, 1012, 1100, 1101, 1128] {
            free.give_back(Pfn::new(pfn));
        }
        assert_eq!(free.take_run(3, None), Some((Pfn::new(1010), 3)));
        assert_eq!(free.take_run(3, None), Some((Pfn::new(1100), 2)));
        assert_eq!(free.len(), 1);
        assert!(free.take_at(Pfn::new(1128)) && !free.take_at(Pfn::new(1128)));
        assert!(!free.take_at(Pfn::new(999)) && !free.take_at(Pfn::new(1200)));
    }

    #[test]
    fn a_run_lies_in_its_large_page_as_asked() {
        let mut free = FreeFrames::new(Pfn::new(100), 4096);
        assert_eq!(free.take_run(10, None), Some((Pfn::new(100), 10)));
        assert_eq!(free.take_run(512, Some(0)), Some((Pfn::new(612), 512)));
        assert_eq!(
            free.take_run(600, Some(1024 + 7)),
            Some((Pfn::new(100 + 1024 + 7), 600))
        );
        assert_eq!(
            free.take_run(4000, Some(3)).map(|(first, _)| (first.raw() - 100) % 512),
            Some(3)
        );
    }

    // Against a plain set, with a seed that a failure prints.
    #[test]
    fn no_frame_is_given_twice_or_lost() {
        let seed = 0x9e37_79b9_7f4a_7c15u64;
        let mut state = seed;
        let mut random = |below: usize| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state % below as u64) as usize
        };
        let mut free = FreeFrames::new(Pfn::new(5), 333);
        let mut taken: Vec<Pfn> = Vec::new();
        for step in 0..20_000 {
            if random(2) == 0 {
                let want = 1 + random(70);
                if let Some((first, n)) = free.take_run(want, None) {
                    assert!(n >= 1 && n <= want, "seed {seed:#x} step {step}");
                    for pfn in first.raw()..first.raw() + n as u64 {
                        assert!((5..338).contains(&pfn), "seed {seed:#x} step {step}");
                        assert!(!taken.contains(&Pfn::new(pfn)), "seed {seed:#x} step {step}");
                        taken.push(Pfn::new(pfn));
                    }
                } else {
                    assert_eq!(taken.len(), 333, "seed {seed:#x} step {step}");
                }
            } else {
                for _ in 0..random(60) {
                    if !taken.is_empty() {
                        free.give_back(taken.swap_remove(random(taken.len())));
                    }
                }
            }
            assert_eq!(free.len() + taken.len(), 333, "seed {seed:#x} step {step}");
        }
    }
}
