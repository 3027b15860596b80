//! What was written is read, through every site, across any number of moves.

use mm_types::scenario::{Edge as At, Mover};
use mm_types::{PAGE_SIZE, Site, Vpn};

use super::bench::{Bench, HERE, Mapped, VALUE};
use super::contract as promise;
use super::verdict::{Done, hold, same};
use crate::Frames;
use crate::fixture::{Capabilities, Fixture};

pub(super) fn a_moved_page_holds_what_was_written<F: Fixture>(b: &Bench<F>) -> Done {
    let page = b.page()?;
    b.moves(&page).map(drop)
}

pub(super) fn a_page_nobody_wrote_to_moves_as_zeroes<F: Fixture>(b: &Bench<F>) -> Done {
    let site = Site::new(b.space()?, HERE);
    let pfn = b.anon(site, true)?;
    b.moves(&Mapped {
        pfn,
        sites: alloc::vec![site],
        value: 0,
    })
    .map(drop)
}

pub(super) fn every_site_sees_the_same_page<F: Fixture>(b: &Bench<F>) -> Done {
    let page = b.shared()?;
    b.moves(&page).map(drop)
}

pub(super) fn a_store_after_the_move_is_seen_through_every_site<F: Fixture>(b: &Bench<F>) -> Done {
    let mut page = b.shared()?;
    let to = b.moves(&page)?;
    page.value = !VALUE;
    b.write(page.site(), page.value)?;
    b.is_at(&page, to)
}

pub(super) fn a_store_between_two_moves_is_kept<F: Fixture>(b: &Bench<F>) -> Done {
    let mut page = b.page()?;
    page.pfn = b.moves(&page)?;
    page.value = !VALUE;
    b.write(page.site(), page.value)?;
    b.moves(&page).map(drop)
}

pub(super) fn contents_survive_many_moves<F: Fixture>(b: &Bench<F>) -> Done {
    let mut page = b.page()?;
    for n in 0..8 {
        page.value = VALUE ^ n;
        b.write(page.site(), page.value)?;
        page.pfn = b.moves(&page)?;
    }
    Ok(())
}

pub(super) fn a_shared_page_survives_many_moves<F: Fixture>(b: &Bench<F>) -> Done {
    let mut page = b.shared()?;
    for _ in 0..4 {
        page.pfn = b.moves(&page)?;
    }
    Ok(())
}

pub(super) fn a_round_trip_leaves_everything_but_the_frame<F: Fixture>(b: &Bench<F>) -> Done {
    b.round_trip(b.page()?)
}

pub(super) fn a_round_trip_of_a_shared_page_leaves_everything_but_the_frame<F: Fixture>(b: &Bench<F>) -> Done {
    b.round_trip(b.shared()?)
}

pub(super) fn the_old_frame_is_free_afterwards<F: Fixture>(b: &Bench<F>) -> Done {
    let page = b.page()?;
    b.moves(&page)?;
    hold(promise::PUT, b.backend().get(page.pfn).is_none(), || {
        alloc::format!("{:?} was given back, and is in use", page.pfn)
    })
}

pub(super) fn pages_that_move_together_keep_their_own_contents<F: Fixture>(b: &Bench<F>) -> Done {
    let pages = b.pages(4)?;
    let frames: alloc::vec::Vec<_> = pages.iter().map(|page| page.pfn).collect();
    let ran = b.call(&frames).run()?;
    pages.iter().try_for_each(|page| b.is_at(page, ran.moved_to(page.pfn)?))
}

pub(super) fn every_word_of_a_page_moves<F: Fixture>(b: &Bench<F>) -> Done {
    b.needs(Capabilities::WHOLE_PAGES)?;
    let page = b.page()?;
    let words = PAGE_SIZE / 8;
    // The first and the last, and words in each eighth between them.
    for word in (1..words).step_by(63).chain([words.saturating_sub(1)]) {
        b.fixture.write_word(page.site(), word, VALUE ^ word as u64)?;
    }
    b.moves(&page)?;
    for word in (1..words).step_by(63).chain([words.saturating_sub(1)]) {
        let saw = b.fixture.read_word(page.site(), word)?;
        same(
            promise::COPY,
            &alloc::format!("word {word} of the page"),
            saw,
            VALUE ^ word as u64,
        )?;
    }
    Ok(())
}

pub(super) fn a_page_of_a_file_moves_with_its_contents<F: Fixture>(b: &Bench<F>) -> Done {
    let (_, page) = b.file(Mover::Plain)?;
    b.moves(&page).map(drop)
}

pub(super) fn a_page_of_a_file_moves_with_what_was_stored<F: Fixture>(b: &Bench<F>) -> Done {
    b.needs(Capabilities::DIRTY_FILE)?;
    let (_, mut page) = b.file(Mover::Plain)?;
    page.value = VALUE;
    b.write(page.site(), VALUE)?;
    b.moves(&page).map(drop)
}

pub(super) fn a_refused_page_holds_what_was_written<F: Fixture>(b: &Bench<F>) -> Done {
    let page = b.page()?;
    b.refuses_held(&page)?;
    b.is_at(&page, page.pfn)
}

pub(super) fn a_neighbour_mapped_in_flight_is_not_disturbed<F: Fixture>(b: &Bench<F>) -> Done {
    let page = b.page()?;
    let near = Site::new(page.site().space, Vpn::new(HERE.raw().saturating_add(1)));
    let ran = b.while_moving(page.pfn, At::Copy, || {
        b.anon(near, true)?;
        b.write(near, VALUE)
    })?;
    b.is_at(&page, ran.moved_to(page.pfn)?)?;
    same(promise::MAPPED, "the neighbour", b.read(near)?, VALUE)
}
