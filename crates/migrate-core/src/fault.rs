//! The fault side: what a thread does that touched a page in flight.

use mm_types::trace::{Event, Observer};
use mm_types::{ActorId, Site};

use crate::{Faults, Profile};

/// Waits until the migration entry at `site`, if there still is one, may be gone (2.6.17 `migration_entry_wait`).
///
/// Called by a fault handler that found a migration entry, with no lock held; may sleep. Returns at once where the entry is
/// something else by now. The caller then lets the access run again: the entry says what is true.
///
/// In the 2006 profile the waiter holds a reference while it sleeps, which makes an attempt of the migrator fail; today's
/// waiter holds none.
pub fn migration_entry_wait<B: Faults, O: Observer>(
    backend: &B,
    profile: &Profile,
    site: Site,
    actor: ActorId,
    observer: O,
) {
    let mut held = None;
    let mut slept = false;
    backend.wait_on(site, &mut |pte| {
        let pfn = pte.migration()?.pfn();
        if profile.waiter_holds_a_reference() {
            // Get-unless-zero: the entry holds no reference, and the page may be frozen at this moment.
            held = backend.get(pfn);
        }
        slept = true;
        observer.note(|| Event::Wait { actor, site, pfn });
        Some(pfn)
    });
    if let Some(page) = held {
        backend.put(page);
    }
    if slept {
        observer.note(|| Event::Wake { actor, site });
    }
}
