//! Waiting as a bound: a run either may sleep, on a backend that can, or never does, on any.

use crate::{Frames, Wait};

/// The blocking capability of a run.
pub(crate) trait Waiting<B: Frames> {
    /// True where the methods sleep.
    const MAY: bool;

    /// Takes the page lock; a run that never sleeps only tries.
    fn lock(backend: &B, page: B::Page) -> Result<B::Locked, B::Page>;

    /// Waits for writeback to end; false in a run that never sleeps.
    fn wait_writeback(backend: &B, page: &B::Locked) -> bool;

    /// Waits for a buffer to be unlocked; false in a run that never sleeps.
    fn wait_buffers(backend: &B, page: &B::Locked) -> bool;
}

/// Never sleeps.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Never;

impl<B: Frames> Waiting<B> for Never {
    const MAY: bool = false;

    fn lock(backend: &B, page: B::Page) -> Result<B::Locked, B::Page> {
        backend.try_lock(page)
    }

    fn wait_writeback(_backend: &B, _page: &B::Locked) -> bool {
        false
    }

    fn wait_buffers(_backend: &B, _page: &B::Locked) -> bool {
        false
    }
}

/// May sleep, one page at a time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct May;

impl<B: Wait> Waiting<B> for May {
    const MAY: bool = true;

    fn lock(backend: &B, page: B::Page) -> Result<B::Locked, B::Page> {
        Ok(backend.lock(page))
    }

    fn wait_writeback(backend: &B, page: &B::Locked) -> bool {
        backend.wait_writeback(page);
        true
    }

    fn wait_buffers(backend: &B, page: &B::Locked) -> bool {
        backend.wait_buffers(page);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::told::{Locked, Told};

    #[test]
    fn a_run_that_never_sleeps_waits_for_nothing_and_tries_for_a_lock() {
        let told = Told::default();
        assert!(!Never::wait_writeback(&told, &Locked(1)) && !Never::wait_buffers(&told, &Locked(1)));
        assert_eq!(told.asked(), [""; 0]);
        assert!(May::wait_writeback(&told, &Locked(1)) && May::wait_buffers(&told, &Locked(1)));
        assert_eq!(told.asked().len(), 2);
    }
}
