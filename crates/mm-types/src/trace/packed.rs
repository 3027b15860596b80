//! An event in a fixed number of 32-bit words, which is what a ring without locks can store.
//!
//! The first word is the event's kind; the rest is written and read in one order. Words that a reader does not
//! understand are `None`: they were overwritten while it read them.

use super::Event;
use crate::{
    ActorId, MigrationEntry, MigrationFlags, MigrationKind, Mode, PageFlags, Pfn, Pte, PteFlags, Reason, Refusal,
    Rules, Site, SpaceId, SwapEntry, SwapPteFlags, SwapType, Vpn,
};

/// How many words an event takes at most.
pub(crate) const WORDS: usize = 14;

/// An event's words.
pub(crate) type Packed = [u32; WORDS];

struct Writer {
    words: Packed,
    at: usize,
}

impl Writer {
    fn u32(&mut self, word: u32) -> &mut Self {
        if let Some(slot) = self.words.get_mut(self.at) {
            *slot = word;
        }
        self.at = self.at.saturating_add(1);
        self
    }

    fn u64(&mut self, value: u64) -> &mut Self {
        let [a, b, c, d, e, f, g, h] = value.to_le_bytes();
        self.u32(u32::from_le_bytes([a, b, c, d]))
            .u32(u32::from_le_bytes([e, f, g, h]))
    }

    fn pfn(&mut self, pfn: Pfn) -> &mut Self {
        self.u64(pfn.raw())
    }

    fn site(&mut self, site: Site) -> &mut Self {
        self.u32(site.space.raw()).u64(site.page.raw())
    }

    fn maybe_site(&mut self, site: Option<Site>) -> &mut Self {
        match site {
            Some(site) => self.u32(1).site(site),
            None => self.u32(0),
        }
    }

    // Three words: what it is and its flags, then the frame, the slot or the offset.
    fn pte(&mut self, pte: Pte) -> &mut Self {
        let head = |kind: u8, low: u8, high: u8, more: u8| u32::from_le_bytes([kind, low, high, more]);
        match pte {
            Pte::None => self.u32(head(0, 0, 0, 0)).u64(0),
            Pte::Present { pfn, flags } => {
                let [low, high] = flags.bits().to_le_bytes();
                self.u32(head(1, low, high, 0)).pfn(pfn)
            }
            Pte::Swap { entry, flags } => self.u32(head(2, flags.bits(), entry.ty().raw(), 0)).u64(entry.offset()),
            Pte::Migration(entry) => {
                let kind = match entry.kind() {
                    MigrationKind::Read => 3,
                    MigrationKind::ReadExclusive => 4,
                    MigrationKind::Write => 5,
                };
                self.u32(head(kind, entry.flags().bits(), 0, 0)).pfn(entry.pfn())
            }
            Pte::File { offset } => self.u32(head(6, 0, 0, 0)).u64(offset),
            Pte::Poison(pfn) => self.u32(head(7, 0, 0, 0)).pfn(pfn),
        }
    }

    fn refusal(&mut self, refusal: Refusal) -> &mut Self {
        let place = Refusal::EXAMPLES
            .iter()
            .position(|example| example.word() == refusal.word());
        self.u32(place.and_then(|n| u32::try_from(n).ok()).unwrap_or(u32::MAX));
        match refusal {
            Refusal::Mapped { site } | Refusal::Mlocked { site } => self.maybe_site(site),
            Refusal::ExtraReference { expected, found } => self.u32(expected).u32(found),
            Refusal::Pinned { pins } => self.u32(pins),
            Refusal::Backend { code } => self.u32(u32::from_le_bytes(code.to_le_bytes())),
            _ => self,
        }
    }
}

fn place<T: PartialEq>(all: &[T], value: &T) -> u32 {
    all.iter()
        .position(|other| other == value)
        .and_then(|n| u32::try_from(n).ok())
        .unwrap_or(u32::MAX)
}

/// Packs `event`.
pub(crate) fn pack(event: Event) -> Packed {
    let mut w = Writer {
        words: [0; WORDS],
        at: 0,
    };
    match event {
        Event::Start { rules, mode, reason } => w
            .u32(0)
            .u32(place(Rules::ALL, &rules))
            .u32(place(Mode::ALL, &mode))
            .u32(place(Reason::ALL, &reason)),
        Event::Pass { number } => w.u32(1).u32(number),
        Event::End {
            succeeded,
            failed,
            left,
        } => w.u32(2).u32(succeeded).u32(failed).u32(left),
        Event::Isolate(pfn) => w.u32(3).pfn(pfn),
        Event::Putback(pfn) => w.u32(4).pfn(pfn),
        Event::Lock(pfn) => w.u32(5).pfn(pfn),
        Event::Unlock(pfn) => w.u32(6).pfn(pfn),
        Event::WaitWriteback(pfn) => w.u32(7).pfn(pfn),
        Event::NewPage { old, new } => w.u32(8).pfn(old).pfn(new),
        Event::GiveBack(pfn) => w.u32(9).pfn(pfn),
        Event::SetMapping { old, new } => w.u32(10).pfn(old).pfn(new),
        Event::Unmap {
            pfn,
            site,
            before,
            after,
        } => w.u32(11).pfn(pfn).site(site).pte(before).pte(after),
        Event::Restore {
            old,
            new,
            site,
            before,
            after,
        } => w.u32(12).pfn(old).pfn(new).site(site).pte(before).pte(after),
        Event::Flush { entries } => w.u32(13).u32(entries),
        Event::Copy { old, new } => w.u32(14).pfn(old).pfn(new),
        Event::Freeze { pfn, expected } => w.u32(15).pfn(pfn).u32(expected),
        Event::Switch { old, new, slots } => w.u32(16).pfn(old).pfn(new).u32(slots),
        Event::Transfer { old, new, flags } => w.u32(17).pfn(old).pfn(new).u32(flags.bits()),
        Event::Writeout { pfn, ok } => w.u32(18).pfn(pfn).u32(ok.into()),
        Event::Moved { old, new } => w.u32(19).pfn(old).pfn(new),
        Event::Freed(pfn) => w.u32(20).pfn(pfn),
        Event::Refuse { pfn, refusal, last } => w.u32(21).pfn(pfn).u32(last.into()).refusal(refusal),
        Event::Map { site, after } => w.u32(22).site(site).pte(after),
        Event::Zap { site, before } => w.u32(23).site(site).pte(before),
        Event::Protect { site, before, after } => w.u32(24).site(site).pte(before).pte(after),
        Event::CopyPte {
            from,
            to,
            parent,
            child,
        } => w.u32(25).site(from).site(to).pte(parent).pte(child),
        Event::MovePte { from, to, pte } => w.u32(26).site(from).site(to).pte(pte),
        Event::FlushPending(space) => w.u32(27).u32(space.raw()),
        Event::Fault { actor, site, write } => w.u32(28).u32(actor.raw()).site(site).u32(write.into()),
        Event::Wait { actor, site, pfn } => w.u32(29).u32(actor.raw()).site(site).pfn(pfn),
        Event::Wake { actor, site } => w.u32(30).u32(actor.raw()).site(site),
    };
    w.words
}

struct Reader<'a> {
    words: core::slice::Iter<'a, u32>,
}

impl Reader<'_> {
    fn u32(&mut self) -> Option<u32> {
        self.words.next().copied()
    }

    fn u64(&mut self) -> Option<u64> {
        let [a, b, c, d] = self.u32()?.to_le_bytes();
        let [e, f, g, h] = self.u32()?.to_le_bytes();
        Some(u64::from_le_bytes([a, b, c, d, e, f, g, h]))
    }

    fn bool(&mut self) -> Option<bool> {
        match self.u32()? {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        }
    }

    fn one_of<T: Copy>(&mut self, all: &[T]) -> Option<T> {
        all.get(usize::try_from(self.u32()?).ok()?).copied()
    }

    fn pfn(&mut self) -> Option<Pfn> {
        self.u64().map(Pfn::new)
    }

    fn actor(&mut self) -> Option<ActorId> {
        self.u32().map(ActorId::new)
    }

    fn site(&mut self) -> Option<Site> {
        Some(Site::new(SpaceId::new(self.u32()?), Vpn::new(self.u64()?)))
    }

    fn maybe_site(&mut self) -> Option<Option<Site>> {
        if self.bool()? {
            self.site().map(Some)
        } else {
            Some(None)
        }
    }

    fn pte(&mut self) -> Option<Pte> {
        let [kind, low, high, _] = self.u32()?.to_le_bytes();
        let value = self.u64()?;
        let pfn = Pfn::new(value);
        let moving =
            |entry: MigrationEntry| MigrationFlags::from_bits(low).map(|flags| Pte::Migration(entry.with_flags(flags)));
        match kind {
            0 => Some(Pte::None),
            1 => PteFlags::from_bits(u16::from_le_bytes([low, high])).map(|flags| Pte::present(pfn, flags)),
            2 => Some(Pte::Swap {
                entry: SwapEntry::new(SwapType::new(high)?, value)?,
                flags: SwapPteFlags::from_bits(low)?,
            }),
            3 => moving(MigrationEntry::readable(pfn)),
            4 => moving(MigrationEntry::readable_exclusive(pfn)),
            5 => moving(MigrationEntry::writable(pfn)),
            6 => Some(Pte::File { offset: value }),
            7 => Some(Pte::Poison(pfn)),
            _ => None,
        }
    }

    fn refusal(&mut self) -> Option<Refusal> {
        Some(match self.one_of(Refusal::EXAMPLES)? {
            Refusal::Mapped { .. } => Refusal::Mapped {
                site: self.maybe_site()?,
            },
            Refusal::Mlocked { .. } => Refusal::Mlocked {
                site: self.maybe_site()?,
            },
            Refusal::ExtraReference { .. } => Refusal::ExtraReference {
                expected: self.u32()?,
                found: self.u32()?,
            },
            Refusal::Pinned { .. } => Refusal::Pinned { pins: self.u32()? },
            Refusal::Backend { .. } => Refusal::Backend {
                code: i32::from_le_bytes(self.u32()?.to_le_bytes()),
            },
            plain => plain,
        })
    }
}

/// Unpacks an event, or `None` where the words are not one.
pub(crate) fn unpack(words: &Packed) -> Option<Event> {
    let mut r = Reader { words: words.iter() };
    Some(match r.u32()? {
        0 => Event::Start {
            rules: r.one_of(Rules::ALL)?,
            mode: r.one_of(Mode::ALL)?,
            reason: r.one_of(Reason::ALL)?,
        },
        1 => Event::Pass { number: r.u32()? },
        2 => Event::End {
            succeeded: r.u32()?,
            failed: r.u32()?,
            left: r.u32()?,
        },
        3 => Event::Isolate(r.pfn()?),
        4 => Event::Putback(r.pfn()?),
        5 => Event::Lock(r.pfn()?),
        6 => Event::Unlock(r.pfn()?),
        7 => Event::WaitWriteback(r.pfn()?),
        8 => Event::NewPage {
            old: r.pfn()?,
            new: r.pfn()?,
        },
        9 => Event::GiveBack(r.pfn()?),
        10 => Event::SetMapping {
            old: r.pfn()?,
            new: r.pfn()?,
        },
        11 => Event::Unmap {
            pfn: r.pfn()?,
            site: r.site()?,
            before: r.pte()?,
            after: r.pte()?,
        },
        12 => Event::Restore {
            old: r.pfn()?,
            new: r.pfn()?,
            site: r.site()?,
            before: r.pte()?,
            after: r.pte()?,
        },
        13 => Event::Flush { entries: r.u32()? },
        14 => Event::Copy {
            old: r.pfn()?,
            new: r.pfn()?,
        },
        15 => Event::Freeze {
            pfn: r.pfn()?,
            expected: r.u32()?,
        },
        16 => Event::Switch {
            old: r.pfn()?,
            new: r.pfn()?,
            slots: r.u32()?,
        },
        17 => Event::Transfer {
            old: r.pfn()?,
            new: r.pfn()?,
            flags: PageFlags::from_bits(r.u32()?)?,
        },
        18 => Event::Writeout {
            pfn: r.pfn()?,
            ok: r.bool()?,
        },
        19 => Event::Moved {
            old: r.pfn()?,
            new: r.pfn()?,
        },
        20 => Event::Freed(r.pfn()?),
        21 => {
            let pfn = r.pfn()?;
            let last = r.bool()?;
            Event::Refuse {
                pfn,
                refusal: r.refusal()?,
                last,
            }
        }
        22 => Event::Map {
            site: r.site()?,
            after: r.pte()?,
        },
        23 => Event::Zap {
            site: r.site()?,
            before: r.pte()?,
        },
        24 => Event::Protect {
            site: r.site()?,
            before: r.pte()?,
            after: r.pte()?,
        },
        25 => Event::CopyPte {
            from: r.site()?,
            to: r.site()?,
            parent: r.pte()?,
            child: r.pte()?,
        },
        26 => Event::MovePte {
            from: r.site()?,
            to: r.site()?,
            pte: r.pte()?,
        },
        27 => Event::FlushPending(SpaceId::new(r.u32()?)),
        28 => Event::Fault {
            actor: r.actor()?,
            site: r.site()?,
            write: r.bool()?,
        },
        29 => Event::Wait {
            actor: r.actor()?,
            site: r.site()?,
            pfn: r.pfn()?,
        },
        30 => Event::Wake {
            actor: r.actor()?,
            site: r.site()?,
        },
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::examples::lines;
    use proptest::prelude::*;

    #[test]
    fn every_event_unpacks_to_itself() {
        for line in lines() {
            assert_eq!(unpack(&pack(line.event)), Some(line.event), "{line}");
        }
    }

    #[test]
    fn the_largest_numbers_fit() {
        let site = Site::new(SpaceId::new(u32::MAX), Vpn::new(u64::MAX));
        let pfn = Pfn::new(u64::MAX);
        let pte = Pte::present(pfn, PteFlags::all());
        for event in [
            Event::Restore {
                old: pfn,
                new: pfn,
                site,
                before: pte,
                after: pte,
            },
            Event::CopyPte {
                from: site,
                to: site,
                parent: pte,
                child: pte,
            },
            Event::Refuse {
                pfn,
                refusal: Refusal::Mapped { site: Some(site) },
                last: true,
            },
        ] {
            assert_eq!(unpack(&pack(event)), Some(event));
        }
    }

    proptest! {
        #[test]
        fn words_that_are_no_event_are_refused_not_misread(words: Packed) {
            let _ = unpack(&words);
            for kind in 0..40 {
                let mut words = words;
                words[0] = kind;
                if let Some(event) = unpack(&words) {
                    prop_assert_eq!(unpack(&pack(event)), Some(event));
                }
            }
        }
    }
}
