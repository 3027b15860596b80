//! The reference of the trace format: each event's word with an example of its line, the texts of entries, and the
//! rules that the checker knows.

use mm_types::trace::{Event, Line, Rule};
use mm_types::{
    ActorId, MigrationEntry, MigrationFlags, Mode, PageFlags, Pfn, Pte, PteFlags, Reason, Refusal, Rules, Site,
    SpaceId, SwapEntry, SwapPteFlags, SwapType, Vpn,
};

use crate::source::{Members, variant};
use crate::table::{Table, code};

const SOURCE: &str = include_str!("../../../mm-types/src/trace/event.rs");

const OLD: Pfn = Pfn::new(0);
const NEW: Pfn = Pfn::new(1);
const SITE: Site = Site::new(SpaceId::new(0), Vpn::new(3));
const OTHER: Site = Site::new(SpaceId::new(1), Vpn::new(9));
const ACTOR: ActorId = ActorId::new(1);

fn swap() -> Pte {
    Pte::Swap {
        entry: SwapType::new(0)
            .and_then(|ty| SwapEntry::new(ty, 0x10))
            .unwrap_or_default(),
        flags: SwapPteFlags::empty(),
    }
}

/// One event for each word.
fn examples() -> Vec<Event> {
    let rw = Pte::present(OLD, PteFlags::WRITE | PteFlags::DIRTY);
    let ro = Pte::present(OLD, PteFlags::empty());
    let write = Pte::Migration(MigrationEntry::writable(OLD).with_flags(MigrationFlags::DIRTY));
    let read = Pte::Migration(MigrationEntry::readable(OLD));
    let held = Refusal::ExtraReference { expected: 1, found: 2 };
    let (old, new, site, actor) = (OLD, NEW, SITE, ACTOR);
    let unmap = |after| Event::Unmap {
        pfn: old,
        site,
        before: rw,
        after,
    };
    vec![
        Event::Start {
            rules: Rules::Modern,
            mode: Mode::Async,
            reason: Reason::Compaction,
        },
        Event::Pass { number: 0 },
        Event::End {
            succeeded: 1,
            failed: 0,
            left: 0,
        },
        Event::Isolate(old),
        Event::Putback(new),
        Event::Lock(old),
        Event::Unlock(new),
        Event::WaitWriteback(old),
        Event::NewPage { old, new },
        Event::GiveBack(new),
        Event::SetMapping { old, new },
        unmap(write),
        unmap(swap()),
        unmap(Pte::File { offset: 4 }),
        unmap(Pte::None),
        unmap(Pte::Poison(old)),
        Event::Restore {
            old,
            new,
            site,
            before: write,
            after: Pte::present(new, PteFlags::WRITE | PteFlags::DIRTY),
        },
        Event::Flush { entries: 1 },
        Event::Copy { old, new },
        Event::Freeze { pfn: old, expected: 1 },
        Event::Switch { old, new, slots: 0 },
        Event::Transfer {
            old,
            new,
            flags: PageFlags::UPTODATE | PageFlags::DIRTY,
        },
        Event::Writeout { pfn: old, ok: true },
        Event::Moved { old, new },
        Event::Freed(old),
        Event::Refuse {
            pfn: old,
            refusal: held,
            last: false,
        },
        Event::Refuse {
            pfn: old,
            refusal: held,
            last: true,
        },
        Event::Map { site, after: rw },
        Event::Zap { site, before: rw },
        Event::Protect {
            site,
            before: write,
            after: read,
        },
        Event::CopyPte {
            from: site,
            to: OTHER,
            parent: read,
            child: read,
        },
        Event::MovePte {
            from: site,
            to: OTHER,
            pte: ro,
        },
        Event::FlushPending(SpaceId::new(0)),
        Event::Fault {
            actor,
            site,
            write: true,
        },
        Event::Wait { actor, site, pfn: old },
        Event::Wake { actor, site },
    ]
}

/// Every word, in the order of the events' declaration.
pub(super) fn events() -> Result<String, String> {
    let members = Members::read(SOURCE, "pub enum Event {");
    let examples = examples();
    if members.names().count() == 0 {
        return Err("no event was found".to_owned());
    }
    let mut table = Table::new(["word", "what happened", "example"]);
    for name in members.names() {
        let mut shown = 0;
        for event in examples.iter().filter(|event| variant(event) == name) {
            let page = event.frame().is_some().then_some(0);
            let line = Line { page, event: *event }.to_string();
            match line.parse::<Line>() {
                Ok(read) if read.event == *event => {}
                other => return Err(format!("{line:?} reads back as {other:?}")),
            }
            let doc = if shown == 0 {
                members.doc(name)?
            } else {
                "as above; the word tells the case"
            };
            table.row([code(event.word()), doc.to_owned(), code(line)]);
            shown += 1;
        }
        if shown == 0 {
            return Err(format!("{name} has no example"));
        }
    }
    Ok(table.to_string())
}

/// The texts that an entry has in `was=` and `now=`.
pub(super) fn entries() -> String {
    let mut table = Table::new(["text", "entry"]);
    for (pte, what) in [
        (Pte::None, "empty"),
        (Pte::present(OLD, PteFlags::empty()), "mapped, read-only"),
        (Pte::present(OLD, PteFlags::WRITE), "mapped, writable"),
        (Pte::present(OLD, PteFlags::all()), "mapped, with every mark"),
        (Pte::Migration(MigrationEntry::readable(OLD)), "in flight, read-only"),
        (
            Pte::Migration(MigrationEntry::readable_exclusive(OLD)),
            "in flight, read-only, and nobody else maps it",
        ),
        (Pte::Migration(MigrationEntry::writable(OLD)), "in flight, writable"),
        (
            Pte::Migration(MigrationEntry::writable(OLD).with_flags(MigrationFlags::all())),
            "in flight, with every mark",
        ),
        (swap(), "in swap: type and offset"),
        (
            Pte::File { offset: 4 },
            "a page of a nonlinear mapping: its offset in the file",
        ),
        (Pte::Poison(OLD), "a page with a memory error"),
    ] {
        table.row([code(pte), what.to_owned()]);
    }
    table.to_string()
}

pub(super) fn rules() -> String {
    let mut table = Table::new(["id", "rule"]);
    for rule in Rule::ALL {
        table.row([rule.id(), rule.rule()]);
    }
    table.to_string()
}

pub(super) fn invariants_in_traces() -> String {
    let ids: Vec<_> = Rule::ALL.iter().filter_map(|rule| rule.invariant()).collect();
    let ids: Vec<_> = ids.iter().map(|invariant| invariant.id()).collect();
    ids.join(", ")
}
