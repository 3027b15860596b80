//! Stale translations: another CPU has used the page, and may try to go on using it as it did.

use alloc::format;

use mm_types::Site;
use mm_types::scenario::Edge as At;

use super::bench::{Bench, Mapped, VALUE};
use super::contract as promise;
use super::verdict::{Done, Halt, broken, same};
use crate::Rmap;
use crate::fixture::{Access, Capabilities, Fixture};

/// The thread, and so the CPU, that has the translation.
const OTHER: u32 = 1;

/// A page that another CPU has just stored to: if it has a TLB, a writable translation is in it.
fn used<F: Fixture>(b: &Bench<F>) -> Result<Mapped, Halt> {
    b.needs(Capabilities::FAULT_THREAD.union(Capabilities::MIDDLE))?;
    let page = b.page()?;
    match b.touch(OTHER, page.site(), Some(page.value))? {
        Access::Done(_) => Ok(page),
        Access::Asleep => Err(broken(promise::ASLEEP, "a thread sleeps, and nothing is in flight")),
    }
}

pub(super) fn a_store_once_the_copy_begins_is_not_lost<F: Fixture>(b: &Bench<F>) -> Done {
    let mut page = used(b)?;
    let ran = b.while_moving(page.pfn, At::Copy, || match b.touch(OTHER, page.site(), Some(9))? {
        Access::Asleep => Ok(()),
        Access::Done(_) => Err(broken(
            promise::FLUSH,
            format!(
                "a store at {:?} went to {:?} while it was copied",
                page.site(),
                page.pfn
            ),
        )),
    })?;
    page.value = 9;
    b.is_at(&page, ran.moved_to(page.pfn)?)
}

pub(super) fn a_load_after_the_move_sees_the_new_page<F: Fixture>(b: &Bench<F>) -> Done {
    let page = used(b)?;
    b.moves(&page)?;
    b.write(page.site(), 9)?;
    match b.touch(OTHER, page.site(), None)? {
        Access::Done(saw) => same(
            promise::FLUSH,
            "what the other CPU sees of a store after the move",
            saw,
            9,
        ),
        Access::Asleep => Err(broken(promise::ASLEEP, "a thread sleeps, and nothing is in flight")),
    }
}

pub(super) fn a_store_after_the_move_goes_to_the_new_page<F: Fixture>(b: &Bench<F>) -> Done {
    let page = used(b)?;
    b.moves(&page)?;
    b.touch(OTHER, page.site(), Some(9))?;
    same(
        promise::FLUSH,
        "what this CPU sees of the other's store after the move",
        b.read(page.site())?,
        9,
    )
}

pub(super) fn a_store_before_the_barrier_is_copied<F: Fixture>(b: &Bench<F>) -> Done {
    let mut page = used(b)?;
    let ran = b.while_moving(page.pfn, At::Flush, || {
        // Through the old translation, which is good until the barrier, or after the fault: seen by everybody either way.
        b.touch(OTHER, page.site(), Some(9)).map(drop)
    })?;
    page.value = 9;
    let to = ran.moved_to(page.pfn).or_else(|halt| {
        // In 2006 a thread that sleeps holds a reference, and this attempt may have been the last.
        if b.profile.waiter == crate::WaiterRef::Take {
            b.moves(&page)
        } else {
            Err(halt)
        }
    })?;
    b.is_at(&page, to)
}

/// Something takes the page away from other CPUs between the entries and the barrier; afterwards a store must not go through.
fn pending<F: Fixture>(
    b: &Bench<F>,
    what: &str,
    act: impl FnOnce(&Mapped) -> Result<(), Halt>,
    store: Option<u64>,
) -> Result<Mapped, Halt> {
    let page = used(b)?;
    b.while_moving(page.pfn, At::Flush, || {
        act(&page)?;
        match b.touch_or_end(OTHER, page.site(), store)? {
            Some(Access::Asleep) | None => Ok(()),
            Some(Access::Done(value)) => Err(broken(
                promise::FLUSH_PENDING,
                format!(
                    "after {what} returned another CPU still has {:?} as it was: {value:#x}",
                    page.site()
                ),
            )),
        }
    })?;
    Ok(page)
}

pub(super) fn mprotect_of_a_page_in_flight_reaches_every_cpu<F: Fixture>(b: &Bench<F>) -> Done {
    b.needs(Capabilities::PROTECT)?;
    let page = pending(b, "mprotect", |page| b.fixture.protect(page.site(), false), Some(9))?;
    same(
        promise::FLUSH_PENDING,
        "what is in the page",
        b.read(page.site())?,
        VALUE,
    )
}

pub(super) fn munmap_of_a_page_in_flight_reaches_every_cpu<F: Fixture>(b: &Bench<F>) -> Done {
    b.needs(Capabilities::UNMAP)?;
    pending(b, "munmap", |page| b.fixture.unmap(page.site()), None).map(drop)
}

pub(super) fn fork_with_a_page_in_flight_reaches_every_cpu<F: Fixture>(b: &Bench<F>) -> Done {
    b.needs(Capabilities::FORK.union(Capabilities::SEVERAL_SPACES))?;
    let mut child = None;
    let page = pending(
        b,
        "fork",
        |page| {
            child = Some(b.fixture.fork(page.site().space)?);
            Ok(())
        },
        Some(9),
    )?;
    let Some(child) = child else { return Ok(()) };
    let saw = b.read(Site::new(child, page.site().page))?;
    same(promise::FLUSH_PENDING, "what the child sees", saw, VALUE)
}

pub(super) fn mremap_of_a_page_in_flight_reaches_every_cpu<F: Fixture>(b: &Bench<F>) -> Done {
    b.needs(Capabilities::REMAP)?;
    let act = |page: &Mapped| {
        let to = Site::new(page.site().space, mm_types::Vpn::new(0x20));
        b.fixture.remap(page.site(), to)
    };
    pending(b, "mremap", act, None).map(drop)
}

pub(super) fn a_flush_of_what_is_pending_reaches_every_cpu<F: Fixture>(b: &Bench<F>) -> Done {
    let page = used(b)?;
    let ran = b.while_moving(page.pfn, At::Flush, || {
        b.backend().flush_pending(page.site().space);
        match b.touch(OTHER, page.site(), Some(9))? {
            Access::Asleep => Ok(()),
            Access::Done(_) => Err(broken(
                promise::FLUSH_PENDING,
                format!("another CPU still stores at {:?}", page.site()),
            )),
        }
    })?;
    same(
        promise::ASLEEP,
        "what the other CPU's thread stored in the end",
        ran.woken.get(&OTHER),
        Some(&9),
    )
}
