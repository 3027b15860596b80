//! Many schedules of many threads on the whole model: the pairs that history has shown to matter, each by name, and crowds.
//!
//! Built with `--cfg shuttle` the model's locks, its page lock, its counts and its sleeping are shuttle's, so that another thread
//! can run between any two steps. Each scenario runs under all rules and two schedulers: at random, and by priorities that change
//! at a few random steps (PCT), which finds what needs few switches at the right places. In every execution the threads know what
//! they wrote, and the model recounts itself at the end and whenever nobody holds a lock; threads that all sleep are a lost
//! wake-up. `ci/shuttle` runs them.
//!
//! A schedule that fails is made shorter as long as it fails the same way, and printed as the canonical trace, with what to say to
//! see it again:
//!
//! | variable | what |
//! |---|---|
//! | `INTERLEAVINGS_SCHEDULES` | how many schedules of each scenario; 2000 where it is not set |
//! | `INTERLEAVINGS_SEED` | the seed they are drawn from; 1 where it is not set |
//! | `INTERLEAVINGS_REPLAY` | rules and a schedule to play instead |
//! | `INTERLEAVINGS_STOP` | set: the first failure ends the process |

#![cfg(all(shuttle, feature = "model"))]

#[path = "interleavings/crowds.rs"]
mod crowds;
#[path = "interleavings/explore.rs"]
mod explore;
#[path = "interleavings/files.rs"]
mod files;
#[path = "interleavings/meeting.rs"]
mod meeting;
#[path = "interleavings/pages.rs"]
mod pages;
#[path = "interleavings/schedule.rs"]
mod schedule;
#[path = "interleavings/spaces.rs"]
mod spaces;
#[path = "interleavings/steps.rs"]
mod steps;
#[path = "interleavings/swap.rs"]
mod swap;
#[path = "threads/traces.rs"]
mod traces;
#[path = "interleavings/world.rs"]
mod world;

use meeting::Meeting::{
    Asleep, BufferBusy, BuffersTaken, Cleared, Copied, FaultUnderLock, Freed, Frozen, Held, Isolated, Locked, Moved,
    Protected, Written,
};

/// Each scenario is a test of its own name; how its threads have to meet is said beside it.
macro_rules! scenarios {
    ($($module:ident::$name:ident: $($meeting:expr),+;)*) => {
        $(
            #[test]
            fn $name() {
                explore::explore(stringify!($name), &[$($meeting),+], $module::$name);
            }
        )*
    };
}

scenarios! {
    spaces::fork_against_restore: Copied, Asleep(1);
    spaces::mremap_against_restore: Moved;
    spaces::zap_against_entry: Cleared;
    spaces::mprotect_against_entry: Protected;
    pages::fault_against_migrate: Asleep(1);
    pages::two_migrators_on_one_page: Isolated;
    pages::migrate_against_reclaim: Isolated, Locked;
    pages::isolation_against_free: Freed;
    pages::pin_against_freeze: Frozen, Held;
    swap::swap_in_against_swap_cache_migration: FaultUnderLock, Asleep(1);
    files::lookup_against_switch: Frozen, Held;
    files::buffers_against_switch: BufferBusy, BuffersTaken;
    files::write_out_unlocks: Written;
    files::write_out_starts: Written;
    files::write_out_fails_unlocked: Written;
    files::truncate_against_entry: Cleared, Asleep(1);
    crowds::one_waiter: Asleep(1);
    crowds::two_waiters: Asleep(2);
    crowds::eight_waiters: Asleep(8);
    crowds::everything_on_anonymous_memory: Copied, Cleared, Asleep(1), Isolated;
    crowds::everything_on_files: Cleared, Asleep(1), Isolated, Frozen;
}
