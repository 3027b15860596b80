//! Which rules each kind of event is held against.

use mm_types::Invariant;
use mm_types::trace::{Event, Rule};

macro_rules! rules {
    (order $(, $name:ident)*) => {
        &[Rule::StepOrder $(, Rule::Invariant(Invariant::$name))*]
    };
    ($($name:ident),*) => {
        &[$(Rule::Invariant(Invariant::$name)),*]
    };
}

/// Returns the rules that a checker holds `event` against, the most telling first.
#[must_use]
pub const fn rules_of(event: &Event) -> &'static [Rule] {
    match event {
        Event::Start { .. } => rules![order],
        Event::Pass { .. } => rules![order, Bounded],
        Event::End { .. } => rules![order, OneOutcome, NoEntryLeft, WaitersWake, Bounded],
        Event::Isolate(_) => rules![OneList],
        Event::Putback(_) => rules![Isolation, OneList, OneOutcome],
        Event::Lock(_) => rules![EntryNamesLocked, Isolation, OneOutcome],
        Event::Unlock(_) => rules![order, NoEntryLeft, NoStaleTranslation, EntryNamesLocked],
        Event::WaitWriteback(_) => rules![AsyncNeverWaits, NoWaitWithLocks],
        Event::NewPage { .. } => rules![Bounded, OneList, EntryNamesLocked, NoEntryLeft, OneOutcome],
        Event::GiveBack(_) => rules![order, OnlyForward, OneList],
        Event::SetMapping { .. } => {
            rules![
                DestinationUntouched,
                RestoresRightFrame,
                EntryNamesLocked,
                CopyBeforeUse
            ]
        }
        Event::Unmap { .. } => rules![
            EntryNamesLocked,
            WriteNotWidened,
            YoungAsProfile,
            RestoresRightFrame,
            NoEntryLeft,
            NoStaleTranslation
        ],
        Event::Restore { .. } => rules![
            RestoresRightFrame,
            WriteNotWidened,
            YoungAsProfile,
            CopyBeforeUse,
            NoEntryLeft,
            EntryNamesLocked
        ],
        Event::Flush { .. } | Event::FlushPending(_) => rules![NoStaleTranslation],
        Event::Copy { .. } => rules![
            NoStaleTranslation,
            SwitchFrozen,
            RestoresRightFrame,
            EntryNamesLocked,
            CopyBeforeUse
        ],
        Event::Freeze { .. } => rules![SwitchFrozen, EntryNamesLocked, OnlyForward],
        Event::Switch { .. } => rules![SwitchFrozen, RestoresRightFrame, EntryNamesLocked, CopyBeforeUse],
        Event::Transfer { .. } => rules![
            DestinationUntouched,
            CopyBeforeUse,
            RestoresRightFrame,
            EntryNamesLocked
        ],
        Event::Writeout { .. } => rules![NoEntriesAtCallback, EntryNamesLocked],
        Event::Moved { .. } => rules![
            OneOutcome,
            SwitchFrozen,
            RestoresRightFrame,
            NoEntryLeft,
            CopyErrorReported
        ],
        Event::Freed(_) => rules![OneOutcome, OneList, OnlyForward],
        Event::Refuse { .. } => rules![OneOutcome, OnlyForward, Bounded],
        Event::Map { .. } => rules![CopyBeforeUse, NoEntryLeft],
        Event::Zap { .. } => rules![NoEntryLeft, WriteNotWidened],
        Event::Protect { .. } => rules![WriteNotWidened, RestoresRightFrame, NoEntryLeft, EntryNamesLocked],
        Event::CopyPte { .. } => rules![
            ForkIsReadOnly,
            WriteNotWidened,
            RestoresRightFrame,
            NoEntryLeft,
            EntryNamesLocked
        ],
        Event::MovePte { .. } => rules![NoEntryLeft, WriteNotWidened, EntryNamesLocked],
        Event::Fault { .. } => &[],
        Event::Wait { .. } | Event::Wake { .. } => rules![WaitersWake],
    }
}
