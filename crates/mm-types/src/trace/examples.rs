//! One line of every kind, for tests that must not forget one.

use std::vec::Vec;

use super::{Event, Line};
use crate::{
    ActorId, MigrationEntry, MigrationFlags, Mode, PageFlags, Pfn, Pte, PteFlags, Reason, Refusal, Rules, Site,
    SpaceId, SwapEntry, SwapPteFlags, SwapType, Vpn,
};

/// Returns one line of every event, and of every refusal and kind of entry.
pub(crate) fn lines() -> Vec<Line> {
    let old = Pfn::new(0);
    let new = Pfn::new(1);
    let site = Site::new(SpaceId::new(0), Vpn::new(3));
    let other = Site::new(SpaceId::new(1), Vpn::new(u64::MAX >> 12));
    let actor = ActorId::new(1);
    let rw = Pte::present(old, PteFlags::WRITE | PteFlags::YOUNG | PteFlags::DIRTY);
    let write = Pte::Migration(MigrationEntry::writable(old));
    let read = Pte::Migration(MigrationEntry::readable(old));
    let exclusive = Pte::Migration(MigrationEntry::readable_exclusive(old).with_flags(MigrationFlags::all()));
    let slot = SwapEntry::new(SwapType::new(3).unwrap(), 0x10).unwrap();
    let swap = Pte::Swap {
        entry: slot,
        flags: SwapPteFlags::all(),
    };
    let mut lines = Vec::new();
    let mut push = |event: Event| {
        let plain = event.frame().is_none();
        lines.push(Line {
            page: if plain { None } else { Some(0) },
            event,
        });
    };
    for (rules, mode) in Rules::ALL.iter().zip(Mode::ALL) {
        for reason in Reason::ALL {
            push(Event::Start {
                rules: *rules,
                mode: *mode,
                reason: *reason,
            });
        }
    }
    push(Event::Pass { number: 10 });
    push(Event::End {
        succeeded: u32::MAX,
        failed: 1,
        left: 2,
    });
    for event in [
        Event::Isolate,
        Event::Putback,
        Event::Lock,
        Event::Unlock,
        Event::WaitWriteback,
    ] {
        push(event(old));
    }
    push(Event::NewPage { old, new });
    push(Event::GiveBack(new));
    push(Event::SetMapping { old, new });
    for after in [
        write,
        read,
        exclusive,
        swap,
        Pte::File { offset: 4 },
        Pte::None,
        Pte::Poison(old),
        rw,
    ] {
        push(Event::Unmap {
            pfn: old,
            site,
            before: rw,
            after,
        });
    }
    push(Event::Restore {
        old,
        new,
        site,
        before: write,
        after: Pte::present(new, PteFlags::WRITE),
    });
    push(Event::Restore {
        old,
        new: old,
        site: other,
        before: exclusive,
        after: Pte::present(new, PteFlags::all()),
    });
    push(Event::Flush { entries: 3 });
    push(Event::Copy { old, new });
    push(Event::Freeze { pfn: old, expected: 1 });
    push(Event::Switch { old, new, slots: 0 });
    push(Event::Transfer {
        old,
        new,
        flags: PageFlags::UPTODATE | PageFlags::ACTIVE,
    });
    push(Event::Transfer {
        old,
        new,
        flags: PageFlags::empty(),
    });
    push(Event::Writeout { pfn: old, ok: true });
    push(Event::Writeout { pfn: old, ok: false });
    push(Event::Moved { old, new });
    push(Event::Freed(old));
    for (n, refusal) in Refusal::EXAMPLES.iter().enumerate() {
        push(Event::Refuse {
            pfn: old,
            refusal: *refusal,
            last: n % 2 == 0,
        });
    }
    push(Event::Refuse {
        pfn: old,
        refusal: Refusal::ExtraReference { expected: 1, found: 2 },
        last: false,
    });
    push(Event::Refuse {
        pfn: old,
        refusal: Refusal::Mapped { site: Some(other) },
        last: true,
    });
    push(Event::Refuse {
        pfn: old,
        refusal: Refusal::Mlocked { site: Some(other) },
        last: true,
    });
    push(Event::Refuse {
        pfn: old,
        refusal: Refusal::Backend { code: i32::MIN },
        last: true,
    });
    push(Event::Map { site, after: rw });
    push(Event::Map { site, after: swap });
    push(Event::Zap {
        site,
        before: Pte::None,
    });
    push(Event::Protect {
        site,
        before: write,
        after: exclusive,
    });
    push(Event::CopyPte {
        from: site,
        to: other,
        parent: read,
        child: read,
    });
    push(Event::MovePte {
        from: site,
        to: other,
        pte: write,
    });
    push(Event::FlushPending(SpaceId::new(1)));
    push(Event::Fault {
        actor,
        site,
        write: true,
    });
    push(Event::Fault {
        actor,
        site,
        write: false,
    });
    push(Event::Wait { actor, site, pfn: old });
    push(Event::Wake { actor, site });
    lines
}
