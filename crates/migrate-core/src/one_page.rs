//! One page, without lists.

use mm_types::trace::Observer;
use mm_types::{Mode, Outcome, Reason, Refusal};

use crate::{Args, Backend, ConfigError, Isolated, NewPages, Profile, Slot, Wait, migrate_pages};

/// What came of a single page.
#[derive(Debug)]
#[must_use = "a page that stayed is still isolated"]
pub enum OnePage<P> {
    /// It moved; the old page is the caller's to put back or free.
    Moved {
        /// The old page.
        old: Isolated<P>,
    },
    /// Its users had freed it; the new page was not used.
    Freed {
        /// The old page.
        old: Isolated<P>,
        /// The new page.
        unused: P,
    },
    /// It stayed, and why.
    Stayed {
        /// The page, still isolated.
        page: Isolated<P>,
        /// The new page, where it was not used up by a copy that failed after the switch.
        unused: Option<P>,
        /// The rule and the holder.
        refusal: Refusal,
    },
}

/// Moves one isolated page to `new`; may sleep as the mode allows.
///
/// Entry and exit are those of [`migrate_pages`], for a list of one.
///
/// # Errors
/// None that a caller can cause: the lists and the slot are its own.
pub fn migrate_page<B, O>(
    backend: &B,
    page: Isolated<B::Page>,
    new: B::Page,
    profile: &Profile,
    mode: Mode,
    reason: Reason,
    observer: O,
) -> Result<OnePage<B::Page>, ConfigError>
where
    B: Backend + Wait,
    O: Observer,
{
    let (mut from, mut news) = (Some(page), Some(new));
    let (mut moved, mut failed) = (None, None);
    let mut slot = [Slot::new()];
    let mut last = Refusal::NoTarget;
    let mut freed = false;
    let args = Args {
        from: &mut from,
        target: NewPages(&mut news),
        moved: Some(&mut moved),
        failed: &mut failed,
        slots: &mut slot,
        profile,
        mode,
        reason,
        outcome: &mut |_, outcome| match outcome {
            Outcome::Refused(refusal) | Outcome::Retry(refusal) => last = refusal,
            Outcome::Freed => freed = true,
            Outcome::Moved { .. } => {}
        },
        observer,
    };
    migrate_pages(backend, args)?;
    Ok(match (moved, from.or(failed), news) {
        (Some(old), _, Some(unused)) if freed => OnePage::Freed { old, unused },
        (Some(old), ..) => OnePage::Moved { old },
        (None, Some(page), unused) => OnePage::Stayed {
            page,
            unused,
            refusal: last,
        },
        // Every page of a run is on one of its lists when it ends.
        (None, None, _) => return Err(ConfigError::SlotInUse),
    })
}
