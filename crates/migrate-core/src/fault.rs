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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::told::Told;
    use crate::{LINUX_2_6_17, MODERN};
    use core::cell::RefCell;
    use mm_types::trace::Tell;
    use mm_types::{Pfn, SpaceId, Vpn};
    use std::vec::Vec;

    #[test]
    fn a_waiter_of_2006_holds_the_page_while_it_sleeps_and_todays_does_not() {
        let (actor, site) = (ActorId::new(3), Site::new(SpaceId::new(0), Vpn::new(5)));
        for (profile, asked) in [
            (&LINUX_2_6_17, ["get 1", "wait_on 5 Some(Pfn(0x1))", "put 1"].as_slice()),
            (&MODERN, ["wait_on 5 Some(Pfn(0x1))"].as_slice()),
        ] {
            let (told, events) = (Told::default(), RefCell::new(Vec::new()));
            migration_entry_wait(
                &told,
                profile,
                site,
                actor,
                &Tell(|event| events.borrow_mut().push(event)),
            );
            assert_eq!(told.asked(), asked, "{}", profile.rules);
            let pfn = Pfn::new(1);
            assert_eq!(
                events.take(),
                [Event::Wait { actor, site, pfn }, Event::Wake { actor, site }]
            );
        }
    }
}
