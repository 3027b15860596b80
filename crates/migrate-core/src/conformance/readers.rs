//! Whoever else reads page tables, at rest and in the middle of a run: munmap, exit, mremap, mprotect, fork, truncate.

use alloc::format;
use core::cell::Cell;

use mm_types::scenario::{Edge as At, Mover};
use mm_types::{Outcome, Pte, Site, Vpn};

use super::bench::{Bench, Mapped, VALUE};
use super::call::Ran;
use super::contract as promise;
use super::verdict::{Done, Halt, hold, same};
use crate::Frames;
use crate::fixture::{Capabilities, Fixture};

/// Runs over the page; `act` comes in the middle, or, where there is no `at`, between isolation and run.
fn run<F: Fixture>(b: &Bench<F>, page: &Mapped, at: Option<At>, act: impl FnOnce() -> Done) -> Result<Ran, Halt> {
    match at {
        Some(at) => b.while_moving(page.pfn, at, act),
        None => {
            let isolated = b.isolate(page.pfn)?;
            act()?;
            b.call(&[]).targets(1).run_isolated([isolated].into())
        }
    }
}

fn munmap<F: Fixture>(b: &Bench<F>, at: Option<At>) -> Done {
    b.needs(Capabilities::UNMAP)?;
    let page = b.page()?;
    let ran = run(b, &page, at, || b.fixture.unmap(page.site()))?;
    let pte = b.entry(page.site());
    hold(promise::ZAP, pte.is_none(), || {
        format!("{:?} has {pte:?} after munmap", page.site())
    })?;
    b.cannot_read(promise::ZAP, page.site())?;
    // Nobody has the page any more, wherever it went.
    let now = match ran.outcome(page.pfn) {
        Some(Outcome::Moved { to }) => to,
        _ => page.pfn,
    };
    for pfn in [page.pfn, now] {
        hold(promise::PUT, b.backend().get(pfn).is_none(), || {
            format!("{pfn:?} is in use, and nobody has it")
        })?;
    }
    Ok(())
}

/// One of three sites goes, and the others stay.
fn one_goes<F: Fixture>(b: &Bench<F>, at: Option<At>, act: impl FnOnce(Site) -> Done) -> Done {
    b.needs(Capabilities::UNMAP)?;
    let mut page = b.shared()?;
    let Some(gone) = page.sites.pop() else { return Ok(()) };
    let ran = run(b, &page, at, || act(gone))?;
    b.is_at(&page, ran.moved_to(page.pfn)?)?;
    let found = b.count(ran.moved_to(page.pfn)?)?;
    same(promise::LEDGER, "references", found, page.entries())
}

fn munmap_of_one_site<F: Fixture>(b: &Bench<F>, at: Option<At>) -> Done {
    let gone = Cell::new(None);
    one_goes(b, at, |site| {
        gone.set(Some(site));
        b.fixture.unmap(site)
    })?;
    let pte = gone.get().map(|site| b.entry(site));
    hold(promise::ZAP, pte.is_some_and(Pte::is_none), || {
        format!("{:?} has {pte:?} after munmap", gone.get())
    })
}

fn exit<F: Fixture>(b: &Bench<F>, at: Option<At>) -> Done {
    one_goes(b, at, |site| b.fixture.exit(site.space))
}

fn mremap<F: Fixture>(b: &Bench<F>, at: Option<At>) -> Done {
    b.needs(Capabilities::REMAP)?;
    let mut page = b.page()?;
    let (from, to) = (page.site(), Site::new(page.site().space, Vpn::new(0x20)));
    let ran = run(b, &page, at, || b.fixture.remap(from, to))?;
    page.sites = alloc::vec![to];
    hold(promise::RELOCATE, b.entry(from).is_none(), || {
        format!("{from:?} has {:?} after mremap", b.entry(from))
    })?;
    hold(promise::RELOCATE, !b.entry(to).is_migration(), || {
        format!("{to:?} has {:?} after the run", b.entry(to))
    })?;
    hold(promise::RELOCATE, !b.entry(to).is_none(), || {
        format!("neither {from:?} nor {to:?} has an entry after mremap")
    })?;
    b.is_at(&page, ran.moved_to(page.pfn)?)?;
    b.write(to, !VALUE)
}

fn mprotect<F: Fixture>(b: &Bench<F>, at: Option<At>) -> Done {
    b.needs(Capabilities::PROTECT)?;
    let page = b.page()?;
    let ran = run(b, &page, at, || b.fixture.protect(page.site(), false))?;
    b.is_at(&page, ran.moved_to(page.pfn)?)?;
    let pte = b.entry(page.site());
    hold(promise::PROTECT, !pte.writable(), || {
        format!("{:?} has {pte:?} after mprotect", page.site())
    })?;
    b.cannot_write(promise::PROTECT, page.site())
}

fn fork<F: Fixture>(b: &Bench<F>, at: Option<At>) -> Done {
    b.needs(Capabilities::FORK.union(Capabilities::SEVERAL_SPACES))?;
    let mut page = b.page()?;
    let mut child = None;
    let ran = run(b, &page, at, || {
        child = Some(b.fixture.fork(page.site().space)?);
        Ok(())
    })?;
    page.sites.extend(child.map(|space| Site::new(space, page.site().page)));
    same(promise::FORK, "sites", page.sites.len(), 2)?;
    b.is_at(&page, ran.moved_to(page.pfn)?)?;
    same(promise::LEDGER, "references", b.count(ran.moved_to(page.pfn)?)?, 2)?;
    b.write(page.site(), !VALUE)?;
    same(
        promise::FORK,
        "what the child sees",
        page.sites.last().map(|site| b.read(*site)).transpose()?,
        Some(page.value),
    )
}

fn truncate<F: Fixture>(b: &Bench<F>, at: Option<At>) -> Done {
    b.needs(Capabilities::TRUNCATE)?;
    let (file, page) = b.file(Mover::Plain)?;
    // Whichever of the two pages the cache holds at that moment.
    let cut = || match b.fixture.cached(file, 1)? {
        Some(cached) => b.fixture.truncate(cached),
        None => Ok(()),
    };
    run(b, &page, at, cut)?;
    // Lets go of what had to wait for the page lock.
    b.finish_faults()?;
    let pte = b.entry(page.site());
    hold(promise::ZAP, !pte.is_present() && !pte.is_migration(), || {
        format!("{:?} has {pte:?}, beyond the end of the file", page.site())
    })?;
    same(promise::SWITCH, "the cached page", b.fixture.cached(file, 1)?, None)
}

macro_rules! every_reader {
    ($at:expr) => {
        use super::super::bench::Bench;
        use super::super::verdict::Done;
        use crate::fixture::Fixture;

        pub(in super::super) fn munmap_leaves_nothing<F: Fixture>(b: &Bench<F>) -> Done {
            super::munmap(b, $at)
        }

        pub(in super::super) fn munmap_of_one_of_several_sites_leaves_the_others<F: Fixture>(b: &Bench<F>) -> Done {
            super::munmap_of_one_site(b, $at)
        }

        pub(in super::super) fn the_exit_of_one_of_several_spaces_leaves_the_others<F: Fixture>(b: &Bench<F>) -> Done {
            super::exit(b, $at)
        }

        pub(in super::super) fn mremap_takes_the_page_along<F: Fixture>(b: &Bench<F>) -> Done {
            super::mremap(b, $at)
        }

        pub(in super::super) fn mprotect_takes_write_permission_away<F: Fixture>(b: &Bench<F>) -> Done {
            super::mprotect(b, $at)
        }

        pub(in super::super) fn fork_gives_the_child_the_page<F: Fixture>(b: &Bench<F>) -> Done {
            super::fork(b, $at)
        }

        pub(in super::super) fn truncate_leaves_nothing_beyond_the_end<F: Fixture>(b: &Bench<F>) -> Done {
            super::truncate(b, $at)
        }
    };
}

pub(super) mod at_rest {
    every_reader!(None);
}

pub(super) mod before_the_flush {
    every_reader!(Some(mm_types::scenario::Edge::Flush));
}

pub(super) mod before_the_copy {
    every_reader!(Some(mm_types::scenario::Edge::Copy));
}

pub(super) mod before_the_freeze {
    every_reader!(Some(mm_types::scenario::Edge::Freeze));
}

pub(super) mod before_the_restore {
    every_reader!(Some(mm_types::scenario::Edge::Restore));
}

pub(super) mod before_the_locks_open {
    every_reader!(Some(mm_types::scenario::Edge::Unlock));
}
