//! What may be done through an entry: neither more after a move than before, nor less.

use mm_types::scenario::{Edge as At, Mover, Sharing};
use mm_types::{PteFlags, Rules, Site};

use super::bench::{Bench, HERE, Mapped, VALUE};
use super::contract as promise;
use super::verdict::{Done, Halt, hold, same};
use crate::fixture::{Capabilities, Fixture};

/// The entry at `site` may be written through, or not.
fn writable<F: Fixture>(b: &Bench<F>, contract: promise::Contract, site: Site, must: bool) -> Done {
    let pte = b.entry(site);
    hold(contract, pte.writable() == must, || {
        alloc::format!(
            "{site:?} has {pte:?}, which must {}be writable",
            if must { "" } else { "not " }
        )
    })
}

fn read_only<F: Fixture>(b: &Bench<F>) -> Result<Mapped, Halt> {
    let site = Site::new(b.space()?, HERE);
    let pfn = b.anon(site, false)?;
    Ok(Mapped {
        pfn,
        sites: alloc::vec![site],
        value: 0,
    })
}

pub(super) fn a_writable_page_stays_writable<F: Fixture>(b: &Bench<F>) -> Done {
    let page = b.page()?;
    b.moves(&page)?;
    writable(b, promise::EDIT, page.site(), true)?;
    b.write(page.site(), !VALUE)
}

pub(super) fn a_read_only_page_stays_read_only<F: Fixture>(b: &Bench<F>) -> Done {
    let page = read_only(b)?;
    b.moves(&page)?;
    writable(b, promise::EDIT, page.site(), false)?;
    b.cannot_write(promise::EDIT, page.site())
}

pub(super) fn a_read_only_page_stays_read_only_over_many_moves<F: Fixture>(b: &Bench<F>) -> Done {
    let mut page = read_only(b)?;
    for _ in 0..4 {
        page.pfn = b.moves(&page)?;
        writable(b, promise::EDIT, page.site(), false)?;
    }
    Ok(())
}

pub(super) fn each_site_keeps_its_own_permission<F: Fixture>(b: &Bench<F>) -> Done {
    let page = b.shared()?;
    b.moves(&page)?;
    for (site, must) in page.sites.iter().zip([true, true, false]) {
        writable(b, promise::EDIT, *site, must)?;
    }
    Ok(())
}

pub(super) fn a_refused_page_keeps_its_permission<F: Fixture>(b: &Bench<F>) -> Done {
    b.needs(Capabilities::EXTRA_REF)?;
    let page = read_only(b)?;
    b.refuses_held(&page)?;
    writable(b, promise::EDIT, page.site(), false)
}

pub(super) fn permission_taken_before_the_move_is_not_given_back<F: Fixture>(b: &Bench<F>) -> Done {
    b.needs(Capabilities::PROTECT)?;
    let page = b.page()?;
    b.fixture.protect(page.site(), false)?;
    b.moves(&page)?;
    writable(b, promise::EDIT, page.site(), false)?;
    b.cannot_write(promise::EDIT, page.site())
}

pub(super) fn permission_taken_in_flight_is_not_given_back<F: Fixture>(b: &Bench<F>) -> Done {
    b.needs(Capabilities::PROTECT)?;
    let page = b.page()?;
    let ran = b.while_moving(page.pfn, At::Copy, || b.fixture.protect(page.site(), false))?;
    b.is_at(&page, ran.moved_to(page.pfn)?)?;
    writable(b, promise::PROTECT, page.site(), false)?;
    b.cannot_write(promise::PROTECT, page.site())
}

pub(super) fn permission_taken_and_given_in_flight_comes_with_a_fault<F: Fixture>(b: &Bench<F>) -> Done {
    b.needs(Capabilities::PROTECT)?;
    let page = b.page()?;
    let ran = b.while_moving(page.pfn, At::Copy, || {
        b.fixture.protect(page.site(), false)?;
        b.fixture.protect(page.site(), true)
    })?;
    b.is_at(&page, ran.moved_to(page.pfn)?)?;
    writable(b, promise::PROTECT, page.site(), false)?;
    b.write(page.site(), !VALUE)?;
    same(promise::MAPPED, "what was stored", b.read(page.site())?, !VALUE)
}

pub(super) fn permission_given_in_flight_comes_with_a_fault<F: Fixture>(b: &Bench<F>) -> Done {
    b.needs(Capabilities::PROTECT)?;
    let page = read_only(b)?;
    let ran = b.while_moving(page.pfn, At::Copy, || b.fixture.protect(page.site(), true))?;
    b.is_at(&page, ran.moved_to(page.pfn)?)?;
    writable(b, promise::EDIT, page.site(), false)?;
    b.write(page.site(), VALUE)?;
    same(promise::MAPPED, "what was stored", b.read(page.site())?, VALUE)
}

/// A store by either side of a fork is not seen by the other.
fn isolated<F: Fixture>(b: &Bench<F>, page: &Mapped, child: Site) -> Done {
    same(promise::FORK, "what the child sees", b.read(child)?, page.value)?;
    b.write(page.site(), 1)?;
    same(
        promise::FORK,
        "what the child sees of the parent's store",
        b.read(child)?,
        page.value,
    )?;
    b.write(child, 2)?;
    same(
        promise::FORK,
        "what the parent sees of the child's store",
        b.read(page.site())?,
        1,
    )?;
    same(promise::FORK, "what the child sees of its own store", b.read(child)?, 2)
}

fn fork<F: Fixture>(b: &Bench<F>, page: &Mapped) -> Result<Site, Halt> {
    b.needs(Capabilities::FORK.union(Capabilities::SEVERAL_SPACES))?;
    Ok(Site::new(b.fixture.fork(page.site().space)?, page.site().page))
}

pub(super) fn parent_and_child_stay_apart_when_their_page_moves<F: Fixture>(b: &Bench<F>) -> Done {
    let mut page = b.page()?;
    let child = fork(b, &page)?;
    page.sites.push(child);
    b.moves(&page)?;
    isolated(b, &page, child)
}

/// Forks in the middle of a run; neither side may write without a fault afterwards.
fn fork_at<F: Fixture>(b: &Bench<F>, at: At) -> Result<(Mapped, Site), Halt> {
    b.needs(Capabilities::FORK.union(Capabilities::SEVERAL_SPACES))?;
    let page = b.page()?;
    let mut child = None;
    let ran = b.while_moving(page.pfn, at, || {
        child = Some(fork(b, &page)?);
        Ok(())
    })?;
    let child = child.unwrap_or(page.site());
    let both = Mapped {
        sites: alloc::vec![page.site(), child],
        ..page.clone()
    };
    b.is_at(&both, ran.moved_to(page.pfn)?)?;
    Ok((page, child))
}

pub(super) fn a_fork_before_the_copy_leaves_parent_and_child_apart<F: Fixture>(b: &Bench<F>) -> Done {
    let (page, child) = fork_at(b, At::Copy)?;
    isolated(b, &page, child)
}

pub(super) fn a_fork_before_the_flush_leaves_parent_and_child_apart<F: Fixture>(b: &Bench<F>) -> Done {
    let (page, child) = fork_at(b, At::Flush)?;
    isolated(b, &page, child)
}

pub(super) fn a_fork_before_the_locks_open_leaves_parent_and_child_apart<F: Fixture>(b: &Bench<F>) -> Done {
    let (page, child) = fork_at(b, At::Unlock)?;
    isolated(b, &page, child)
}

pub(super) fn neither_side_of_a_fork_in_flight_is_writable<F: Fixture>(b: &Bench<F>) -> Done {
    let (page, child) = fork_at(b, At::Copy)?;
    writable(b, promise::FORK, page.site(), false)?;
    writable(b, promise::FORK, child, false)
}

pub(super) fn a_page_of_two_spaces_is_exclusive_to_neither<F: Fixture>(b: &Bench<F>) -> Done {
    let (page, child) = fork_at(b, At::Copy)?;
    for site in [page.site(), child] {
        let pte = b.entry(site);
        hold(promise::FORK, !pte.flags().contains(PteFlags::EXCLUSIVE), || {
            alloc::format!("{site:?} has {pte:?}")
        })?;
    }
    Ok(())
}

pub(super) fn exclusiveness_is_kept_where_entries_remember_it<F: Fixture>(b: &Bench<F>) -> Done {
    let page = b.page()?;
    let before = b.entry(page.site()).flags().contains(PteFlags::EXCLUSIVE);
    b.moves(&page)?;
    let after = b.entry(page.site()).flags().contains(PteFlags::EXCLUSIVE);
    let must = before && b.profile.rules == Rules::Modern;
    same(promise::EDIT, "exclusiveness of the restored entry", after, must)
}

pub(super) fn a_private_mapping_of_a_file_stays_copy_on_write<F: Fixture>(b: &Bench<F>) -> Done {
    let (file, page) = b.file_mapped(Mover::Plain, Sharing::Private)?;
    let to = b.moves(&page)?;
    writable(b, promise::EDIT, page.site(), false)?;
    b.write(page.site(), VALUE)?;
    same(
        promise::SWITCH,
        "the cached page after a private store",
        b.fixture.cached(file, 1)?,
        Some(to),
    )?;
    hold(promise::EDIT, !b.entry(page.site()).maps(to), || {
        "a private store went into the file's page".into()
    })?;
    same(promise::MAPPED, "what was stored", b.read(page.site())?, VALUE)
}
