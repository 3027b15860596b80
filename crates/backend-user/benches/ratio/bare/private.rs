//! Private pages: a call that takes them away, a copy, and a call that shows the new ones.

use core::ptr;
use std::io;

use backend_user::sys::arena::Arena;
use backend_user::sys::node::HUGE;
use backend_user::sys::uffd::Uffd;
use mm_types::PAGE_SIZE;

/// Pages of anonymous memory in slots of one of two arenas, shown in a view.
///
/// # Invariants
/// 1. The slots of `arenas` and of `view` are `pages` pages each, and this object's own; nobody has references into them.
/// 2. The view shows the pages of arena `half`, whose slots are missing; those of the other have memory. Not so once a call has
///    failed: then it is not used again, as nobody answers who waits for a page.
pub(crate) struct Private {
    uffd: Uffd,
    arenas: [Arena; 2],
    /// Room for pages that are shown: none of its own was ever taken.
    view: Arena,
    pages: usize,
    half: usize,
}

impl Private {
    pub(crate) fn new(pages: usize) -> io::Result<Self> {
        let uffd = Uffd::open(false).map_err(io::Error::other)?;
        let arena = || Arena::new(pages, None, true).map_err(io::Error::other);
        let (arenas, view) = ([arena()?, arena()?], arena()?);
        for arena in &arenas {
            for block in (0..pages).step_by(HUGE) {
                arena.ready(&uffd, block).map_err(io::Error::other)?;
            }
        }
        uffd.register(view.slot(0), pages, false).map_err(io::Error::other)?;
        // INVARIANT 1: just made. INVARIANT 2: the pages of the first are shown.
        let private = Self {
            uffd,
            arenas,
            view,
            pages,
            half: 0,
        };
        private.carry(private.arenas[0].slot(0), private.view.slot(0), pages)?;
        Ok(private)
    }

    fn carry(&self, from: *mut u8, to: *mut u8, n: usize) -> io::Result<()> {
        // SAFETY: both runs are slots of this object's own, into which nobody has references (invariant 1).
        let moved = unsafe { self.uffd.move_run(to, from, n, true) };
        moved.map_err(|cut| io::Error::from_raw_os_error(cut.why.raw()))
    }
}

impl super::Bare for Private {
    fn touch(&mut self) {
        for page in 0..self.pages {
            // SAFETY: the page is shown between two moves (invariant 2); no reference to it exists.
            unsafe { self.view.slot(page).write_volatile(1) };
        }
    }

    fn go(&mut self, batch: usize) -> io::Result<()> {
        let [from, to] = [&self.arenas[self.half], &self.arenas[1 - self.half]];
        for page in (0..self.pages).step_by(batch) {
            let n = batch.min(self.pages - page);
            let (source, target, shown) = (from.slot(page), to.slot(page), self.view.slot(page));
            self.carry(shown, source, n)?;
            // SAFETY: the runs lie in different arenas and have memory, the source since it was carried there (invariant 2); nobody
            // else reaches them.
            unsafe { ptr::copy_nonoverlapping(source.cast_const(), target, n * PAGE_SIZE) };
            self.carry(target, shown, n)?;
        }
        self.half = 1 - self.half;
        Ok(())
    }
}
