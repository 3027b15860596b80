//! The least that moving pages takes here, by the calls that each engine makes: pages are taken away, copied, and shown again. No table,
//! no counts, no page that stays, and nobody who waits. The copy is a plain one.

mod private;
mod shared;

use std::io;

use backend_user::Engine;

/// Pages that move from one place in memory to the other and back.
pub(crate) trait Bare {
    /// Makes translations of all pages, as of pages that are in use.
    fn touch(&mut self);

    /// Moves all pages, `batch` at a time, in order.
    fn go(&mut self, batch: usize) -> io::Result<()>;
}

/// Makes `pages` pages that move as those of `engine`.
pub(crate) fn of(engine: Engine, pages: usize) -> io::Result<Box<dyn Bare>> {
    Ok(match engine {
        Engine::Private => Box::new(private::Private::new(pages)?),
        _ => Box::new(shared::Shared::new(pages)?),
    })
}
