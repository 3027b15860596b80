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
#[path = "interleavings/pages.rs"]
mod pages;
#[path = "interleavings/schedule.rs"]
mod schedule;
#[path = "interleavings/spaces.rs"]
mod spaces;
#[path = "interleavings/swap.rs"]
mod swap;
#[path = "interleavings/world.rs"]
mod world;

/// Each scenario is a test of its own name.
macro_rules! scenarios {
    ($($module:ident::$name:ident),* $(,)?) => {
        $(
            #[test]
            fn $name() {
                explore::explore(stringify!($name), $module::$name);
            }
        )*
    };
}

scenarios! {
    spaces::fork_against_restore,
    spaces::mremap_against_restore,
    spaces::zap_against_entry,
    spaces::mprotect_against_entry,
    pages::fault_against_migrate,
    pages::two_migrators_on_one_page,
    pages::migrate_against_reclaim,
    pages::isolation_against_free,
    pages::pin_against_freeze,
    swap::swap_in_against_swap_cache_migration,
    files::lookup_against_switch,
    files::buffers_against_switch,
    files::write_out_unlocks,
    files::write_out_starts,
    files::write_out_fails_unlocked,
    files::truncate_against_entry,
    crowds::one_waiter,
    crowds::two_waiters,
    crowds::eight_waiters,
    crowds::everything_on_anonymous_memory,
    crowds::everything_on_files,
}
