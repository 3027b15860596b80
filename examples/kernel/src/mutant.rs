//! Leaving one flush out, in a build made for that (`--cfg flush_mutants`): scenarios must see it.

use core::sync::atomic::AtomicU32;

/// What this kernel does when it is asked to invalidate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// INVLPG for each page named.
    Pages,
    /// A load of CR3, for a whole space.
    Space,
    /// Asking the other CPUs.
    Others,
}

#[cfg(flush_mutants)]
const STEPS: [(Step, &str); 3] = [
    (Step::Pages, "local_pages"),
    (Step::Space, "local_space"),
    (Step::Others, "other_cpus"),
];

impl Step {
    /// True where it is left out.
    pub fn is_missing(self) -> bool {
        cfg!(flush_mutants) && MISSING.load(core::sync::atomic::Ordering::Relaxed) == self as u32
    }
}

static MISSING: AtomicU32 = AtomicU32::new(u32::MAX);

/// Leaves out the flush of that name from now on.
#[cfg(flush_mutants)]
pub fn leave_out(name: &str) {
    let steps = STEPS.into_iter().find(|(_, word)| *word == name);
    let barriers = backend_x86_64::Barrier::ALL.into_iter().find(|(_, word)| *word == name);
    match (steps, barriers) {
        (Some((step, _)), _) => MISSING.store(step as u32, core::sync::atomic::Ordering::Relaxed),
        (None, Some((barrier, _))) => barrier.leave_out(),
        (None, None) => panic!("no flush is called {name}"),
    }
}

/// This build leaves nothing out.
#[cfg(not(flush_mutants))]
pub fn leave_out(name: &str) {
    panic!("{name} cannot be left out: build with --cfg flush_mutants");
}
