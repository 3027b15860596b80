//! Two profiles side by side.

use migrate_core::model::{Config, Model};
use migrate_core::{Frames, LINUX_2_6_17, MODERN, Profile};
use mm_types::trace::{Event, Recorder};
use mm_types::{Mode, NodeId, Outcome};

use super::recorded::written_page;
use crate::source::{Members, item, said};
use crate::table::{Table, code, yes};

const SOURCE: &str = include_str!("../../../migrate-core/src/profile.rs");

/// The fields of a profile and their values, in words.
fn fields(profile: &Profile) -> [(&'static str, String); 13] {
    // Taken apart completely: a field that is added must be shown.
    let Profile {
        rules,
        entries,
        order,
        swap_cache,
        waiter,
        buffers,
        mlocked_stays,
        settings_early,
        new_page_first,
        writes_out,
        lru_staging,
        max_batch,
        stall,
    } = profile;
    [
        ("rules", rules.to_string()),
        ("entries", said(entries)),
        ("order", said(order)),
        ("swap_cache", said(swap_cache)),
        ("waiter", said(waiter)),
        ("buffers", said(buffers)),
        ("mlocked_stays", yes(*mlocked_stays).to_owned()),
        ("settings_early", yes(*settings_early).to_owned()),
        ("new_page_first", yes(*new_page_first).to_owned()),
        ("writes_out", yes(*writes_out).to_owned()),
        ("lru_staging", yes(*lru_staging).to_owned()),
        ("max_batch", max_batch.to_string()),
        (
            "stall",
            stall.map_or("none".to_owned(), |stall| format!("{} ns", stall.hold_ns)),
        ),
    ]
}

/// What a field decides: the comment of its type, where the type exists for it alone.
fn meaning(members: &Members, field: &str) -> Result<String, String> {
    let own = match field {
        "order" => "pub enum MoveOrder {",
        "swap_cache" => "pub enum SwapCacheEntries {",
        "waiter" => "pub enum WaiterRef {",
        "buffers" => "pub enum BufferLock {",
        _ => return members.doc(field).map(str::to_owned),
    };
    item(SOURCE, own)
}

pub(super) fn differences() -> Result<String, String> {
    let members = Members::read(SOURCE, "pub struct Profile {");
    let mut table = Table::new(["field", "meaning", "`LINUX_2_6_17`", "`MODERN`"]);
    for ((field, then), (_, now)) in fields(&LINUX_2_6_17).into_iter().zip(fields(&MODERN)) {
        // Whose rules they are is what the head of the table says.
        if then != now && field != "rules" {
            table.row([code(field), meaning(&members, field)?, then, now]);
        }
    }
    Ok(table.to_string())
}

/// How often a page that somebody else holds is tried: counted, by holding one.
pub(super) fn passes() -> Result<String, String> {
    let mut table = Table::new(["profile", "mode", "passes over a page that stays held", "may sleep"]);
    for profile in [&LINUX_2_6_17, &MODERN] {
        for mode in Mode::ALL {
            let model = Model::new(Config {
                profile,
                ..Config::default()
            });
            let page = written_page(&model, 1)?;
            let held = model.get(page).ok_or("the page is gone")?;
            let recorder = Recorder::new();
            let (_, outcomes) = model.migrate(&[page], NodeId::new(1), profile, *mode, 1, &recorder);
            model.put(held);
            if !matches!(outcomes.last(), Some((_, Outcome::Refused(_)))) {
                return Err(format!("a page that is held was not refused: {outcomes:?}"));
            }
            let tries = recorder
                .take()
                .iter()
                .filter(|event| matches!(event, Event::Pass { .. }))
                .count();
            table.row([
                code(profile.rules),
                code(mode),
                tries.to_string(),
                yes(profile.blocks(*mode)).to_owned(),
            ]);
        }
    }
    Ok(table.to_string())
}
