//! Where pages go: the caller's choice, one new page at a time.

use mm_types::Refusal;

use crate::{Frames, List};

/// Gives new pages, and takes unused ones back. Each page taken is used or given back exactly once (I30).
pub trait Target<B: Frames> {
    /// True where there is certainly no new page left. 2.6.17 looks before it locks a page.
    fn is_exhausted(&self) -> bool {
        false
    }

    /// Gives a new page for `old`: one reference, nobody else knows it, on no list.
    ///
    /// Called with the page locks of the batch held, `old`'s among them in 2006: takes no page lock, and sleeps for nothing that
    /// may need one (I32), nor at all in a run that may not (I31).
    ///
    /// # Errors
    /// The refusal, [`Refusal::NoTarget`] where there is none: no more pages are tried.
    fn take(&mut self, backend: &B, old: &B::Page) -> Result<B::Page, Refusal>;

    /// Takes back a page that was not used, as it was given. Called with no page lock held.
    fn give_back(&mut self, backend: &B, page: B::Page);
}

/// The new-page list of 2006: taken from the tail, and put back there, so that a page refused leaves it where it was.
#[derive(Debug)]
pub struct NewPages<'l, L>(pub &'l mut L);

impl<B: Frames, L: List<B::Page>> Target<B> for NewPages<'_, L> {
    fn is_exhausted(&self) -> bool {
        self.0.is_empty()
    }

    fn take(&mut self, _backend: &B, _old: &B::Page) -> Result<B::Page, Refusal> {
        self.0.pop_back().ok_or(Refusal::NoTarget)
    }

    fn give_back(&mut self, _backend: &B, page: B::Page) {
        self.0.push_back(page);
    }
}

/// A pair of closures: allocate and free (Linux: `new_folio_t`, `free_folio_t`).
#[derive(Debug)]
pub struct FromFn<A, F> {
    /// Allocates a page for the old one.
    pub take: A,
    /// Frees a page that was not used.
    pub give_back: F,
}

impl<B, A, F> Target<B> for FromFn<A, F>
where
    B: Frames,
    A: FnMut(&B::Page) -> Result<B::Page, Refusal>,
    F: FnMut(B::Page),
{
    fn take(&mut self, _backend: &B, old: &B::Page) -> Result<B::Page, Refusal> {
        (self.take)(old)
    }

    fn give_back(&mut self, _backend: &B, page: B::Page) {
        (self.give_back)(page);
    }
}

impl<B: Frames, T: Target<B> + ?Sized> Target<B> for &mut T {
    fn is_exhausted(&self) -> bool {
        (**self).is_exhausted()
    }

    fn take(&mut self, backend: &B, old: &B::Page) -> Result<B::Page, Refusal> {
        (**self).take(backend, old)
    }

    fn give_back(&mut self, backend: &B, page: B::Page) {
        (**self).give_back(backend, page);
    }
}
