//! The four lists: which page ends where, in which order, and what the return value says (§1.11, oddities included).

use alloc::{collections::VecDeque, format, vec::Vec};

use mm_types::{Mode, Outcome, Pfn, Reason, Refusal, Rules};

use super::bench::{Bench, Mapped};
use super::contract as promise;
use super::verdict::{Done, Halt, broken, hold, same};
use crate::fixture::{Capabilities, Fixture, PageOf};
use crate::{Frames, OnePage, migrate_page};

fn frames(pages: &[Mapped]) -> Vec<Pfn> {
    pages.iter().map(|page| page.pfn).collect()
}

/// References to the pages with these numbers, while `f` runs.
fn holding<F: Fixture, R>(
    b: &Bench<F>,
    pages: &[Mapped],
    held: &[usize],
    f: impl FnOnce() -> Result<R, Halt>,
) -> Result<R, Halt> {
    b.needs(Capabilities::EXTRA_REF)?;
    let picked = held.iter().filter_map(|n| pages.get(*n));
    let taken: Result<Vec<PageOf<F>>, Halt> = picked.map(|page| b.hold(page.pfn)).collect();
    let taken = taken?;
    let done = f();
    taken.into_iter().for_each(|page| b.backend().put(page));
    done
}

pub(super) fn an_empty_list_is_done_at_once<F: Fixture>(b: &Bench<F>) -> Done {
    let ran = b.call(&[]).targets(1).run()?;
    same(promise::LISTS, "what the run returned", ran.tally.return_value(), 0)?;
    same(promise::LISTS, "new pages left", ran.unused, ran.lent)
}

pub(super) fn pages_that_moved_are_on_moved_in_their_order<F: Fixture>(b: &Bench<F>) -> Done {
    let pages = b.pages(5)?;
    let ran = b.call(&frames(&pages)).run()?;
    same(promise::LISTS, "pages on `moved`", ran.moved, frames(&pages))?;
    same(promise::LISTS, "what the run returned", ran.tally.return_value(), 0)
}

pub(super) fn refused_pages_keep_their_order_among_those_that_moved<F: Fixture>(b: &Bench<F>) -> Done {
    let pages = b.pages(6)?;
    let ran = holding(b, &pages, &[0, 2, 5], || b.call(&frames(&pages)).run())?;
    let stayed: Vec<Pfn> = [0, 2, 5]
        .iter()
        .filter_map(|n| pages.get(*n))
        .map(|page| page.pfn)
        .collect();
    same(promise::LISTS, "pages on `from`", ran.from, stayed)?;
    same(
        promise::LISTS,
        "what the run returned",
        (ran.tally.moved, ran.tally.return_value()),
        (3, 3),
    )?;
    pages.iter().try_for_each(|page| b.sees(page))
}

pub(super) fn pages_never_reached_stay_on_from_and_are_in_no_count<F: Fixture>(b: &Bench<F>) -> Done {
    let pages = b.pages(3)?;
    let ran = b.call(&frames(&pages)).targets(0).run()?;
    let tally = (ran.tally.return_value(), ran.tally.not_reached, ran.tally.moved);
    same(promise::LISTS, "returned, not reached, moved", tally, (0, 3, 0))?;
    same(promise::LISTS, "pages on `from`", ran.from.clone(), frames(&pages))?;
    pages
        .iter()
        .try_for_each(|page| ran.refused(promise::LISTS, page.pfn, "no_target"))
}

pub(super) fn the_pages_before_the_new_pages_run_out_move<F: Fixture>(b: &Bench<F>) -> Done {
    let pages = b.pages(4)?;
    let ran = b.call(&frames(&pages)).targets(2).run()?;
    same(
        promise::LISTS,
        "pages on `moved`",
        ran.moved,
        frames(&pages).into_iter().take(2).collect(),
    )?;
    same(
        promise::LISTS,
        "pages on `from`",
        ran.from,
        frames(&pages).into_iter().skip(2).collect(),
    )
}

pub(super) fn the_new_page_comes_from_the_tail<F: Fixture>(b: &Bench<F>) -> Done {
    let page = b.page()?;
    let ran = b.call(&[page.pfn]).targets(3).run()?;
    same(
        promise::LISTS,
        "the new page",
        Some(ran.moved_to(page.pfn)?),
        ran.lent.last().copied(),
    )?;
    same(promise::LISTS, "new pages left", ran.unused.len(), 2)
}

pub(super) fn a_new_page_that_was_not_used_stays_linked_for_the_next<F: Fixture>(b: &Bench<F>) -> Done {
    let pages = b.pages(2)?;
    let ran = holding(b, &pages, &[0], || b.call(&frames(&pages)).batch(1).targets(1).run())?;
    let last = pages.last().map_or(Pfn::new(0), |page| page.pfn);
    same(
        promise::LISTS,
        "the new page",
        Some(ran.moved_to(last)?),
        ran.lent.last().copied(),
    )
}

pub(super) fn a_refused_page_leaves_its_new_page_as_it_was<F: Fixture>(b: &Bench<F>) -> Done {
    let pages = b.pages(1)?;
    let ran = holding(b, &pages, &[0], || b.call(&frames(&pages)).run())?;
    // That they are untouched is looked at in every run.
    same(promise::ROLLBACK, "new pages left", ran.unused, ran.lent)
}

pub(super) fn retries_vanish_when_the_new_pages_run_out_before_the_next_pass<F: Fixture>(b: &Bench<F>) -> Done {
    let pages = b.pages(2)?;
    let ran = holding(b, &pages, &[0], || b.call(&frames(&pages)).batch(1).targets(1).run())?;
    let first = pages.first().map_or(Pfn::new(0), |page| page.pfn);
    same(promise::LISTS, "passes", ran.tally.passes, 2)?;
    same(
        promise::LISTS,
        "what the run returned, which is odd",
        ran.tally.return_value(),
        0,
    )?;
    let told = ran
        .outcomes
        .iter()
        .find(|(pfn, _)| *pfn == first)
        .map(|(_, outcome)| *outcome);
    let busy = Outcome::Retry(Refusal::ExtraReference { expected: 1, found: 2 });
    same(promise::LISTS, "the first word about the page", told, Some(busy))?;
    ran.refused(promise::LISTS, first, "no_target")
}

pub(super) fn a_page_to_retry_is_tried_in_every_pass<F: Fixture>(b: &Bench<F>) -> Done {
    let pages = b.pages(1)?;
    let ran = holding(b, &pages, &[0], || b.call(&frames(&pages)).run())?;
    let passes = match b.profile.rules {
        Rules::Linux2617 => 11,
        Rules::Modern => 10,
    };
    same(promise::PASSES, "passes", ran.tally.passes, passes)?;
    let retried: u32 = ran.tally.retried.iter().sum();
    same(promise::PASSES, "attempts refused for now", retried, passes)
}

pub(super) fn a_page_freed_meanwhile_is_on_moved_and_uses_no_new_page<F: Fixture>(b: &Bench<F>) -> Done {
    b.needs(Capabilities::UNMAP)?;
    let pages = b.pages(2)?;
    let (Some(gone), Some(here)) = (pages.first(), pages.last()) else {
        return Ok(());
    };
    let isolated = VecDeque::from([b.isolate(gone.pfn)?, b.isolate(here.pfn)?]);
    b.fixture.unmap(gone.site())?;
    let ran = b.call(&[]).targets(1).run_isolated(isolated)?;
    same(
        promise::LISTS,
        "the freed page",
        ran.outcome(gone.pfn),
        Some(Outcome::Freed),
    )?;
    same(
        promise::LISTS,
        "freed, moved",
        (ran.tally.freed, ran.tally.moved),
        (1, 1),
    )?;
    b.is_at(here, ran.moved_to(here.pfn)?)?;
    hold(promise::PUTBACK, b.backend().get(gone.pfn).is_none(), || {
        format!("{:?} is in use", gone.pfn)
    })
}

pub(super) fn a_freed_page_needs_no_new_page_at_all<F: Fixture>(b: &Bench<F>) -> Done {
    b.needs(Capabilities::UNMAP)?;
    let page = b.page()?;
    let isolated = VecDeque::from([b.isolate(page.pfn)?]);
    b.fixture.unmap(page.site())?;
    let ran = b.call(&[]).targets(0).run_isolated(isolated)?;
    same(
        promise::LISTS,
        "the freed page",
        ran.outcome(page.pfn),
        Some(Outcome::Freed),
    )
}

/// The old frames of pages that moved are free, and nobody has put them anywhere.
fn are_free<F: Fixture>(b: &Bench<F>, pages: &[Mapped]) -> Done {
    pages.iter().try_for_each(|page| {
        hold(promise::PUTBACK, b.backend().get(page.pfn).is_none(), || {
            format!(
                "{:?} has moved, its caller did not want it back, and it is in use",
                page.pfn
            )
        })
    })
}

pub(super) fn old_pages_that_nobody_wants_back_are_freed_by_the_run<F: Fixture>(b: &Bench<F>) -> Done {
    let pages = b.pages(5)?;
    let ran = b.call(&frames(&pages)).batch(2).releasing().run()?;
    same(promise::LISTS, "pages moved", ran.tally.moved, 5)?;
    for page in &pages {
        b.is_at(page, ran.moved_to(page.pfn)?)?;
    }
    are_free(b, &pages)
}

pub(super) fn pages_that_stay_are_handed_back_where_those_that_move_are_not<F: Fixture>(b: &Bench<F>) -> Done {
    let pages = b.pages(4)?;
    let ran = holding(b, &pages, &[1, 3], || b.call(&frames(&pages)).releasing().run())?;
    let picked = |n: [usize; 2]| n.into_iter().filter_map(|n| pages.get(n).cloned()).collect::<Vec<_>>();
    let stayed = picked([1, 3]);
    let must: Vec<Pfn> = stayed.iter().map(|page| page.pfn).collect();
    same(promise::LISTS, "pages on `from`", &ran.from, &must)?;
    for page in &stayed {
        b.is_at(page, page.pfn)?;
        b.moves(page)?;
    }
    are_free(b, &picked([0, 2]))
}

pub(super) fn a_page_of_a_file_that_nobody_wants_back_is_freed_by_the_run<F: Fixture>(b: &Bench<F>) -> Done {
    let (file, page) = b.file(mm_types::scenario::Mover::Plain)?;
    let to = b.call(&[page.pfn]).releasing().run()?.moved_to(page.pfn)?;
    b.is_at(&page, to)?;
    same(promise::SWITCH, "the cached page", b.fixture.cached(file, 1)?, Some(to))?;
    are_free(b, core::slice::from_ref(&page))
}

pub(super) fn a_page_freed_meanwhile_that_nobody_wants_back_is_gone<F: Fixture>(b: &Bench<F>) -> Done {
    b.needs(Capabilities::UNMAP)?;
    let page = b.page()?;
    let isolated = VecDeque::from([b.isolate(page.pfn)?]);
    b.fixture.unmap(page.site())?;
    let ran = b.call(&[]).targets(1).releasing().run_isolated(isolated)?;
    let outcome = ran.outcome(page.pfn);
    same(promise::LISTS, "the freed page", outcome, Some(Outcome::Freed))?;
    are_free(b, core::slice::from_ref(&page))
}

pub(super) fn a_page_that_stayed_moves_in_a_later_run<F: Fixture>(b: &Bench<F>) -> Done {
    let pages = b.pages(1)?;
    let ran = holding(b, &pages, &[0], || b.call(&frames(&pages)).run())?;
    for page in &pages {
        ran.refused(promise::STAYS, page.pfn, "extra_reference")?;
        b.moves(page)?;
    }
    Ok(())
}

pub(super) fn every_page_is_told_one_last_outcome<F: Fixture>(b: &Bench<F>) -> Done {
    let pages = b.pages(8)?;
    let ran = holding(b, &pages, &[3, 4], || b.call(&frames(&pages)).batch(3).targets(7).run())?;
    let told = ran.outcomes.iter().filter(|(_, outcome)| outcome.is_final()).count();
    same(promise::LISTS, "last outcomes", told, 8)?;
    pages.iter().try_for_each(|page| b.sees(page))
}

fn one<F: Fixture>(b: &Bench<F>, pfn: Pfn) -> Result<OnePage<PageOf<F>>, Halt> {
    let (page, new) = (b.isolate(pfn)?, b.fixture.new_page()?);
    let done = migrate_page(
        b.backend(),
        page,
        new,
        b.profile,
        Mode::Sync,
        Reason::Compaction,
        b.recording(),
    );
    done.map_err(|error| broken(promise::TYPED, format!("{error}")))
}

pub(super) fn the_one_page_call_hands_the_old_page_back<F: Fixture>(b: &Bench<F>) -> Done {
    let page = b.page()?;
    match one(b, page.pfn)? {
        OnePage::Moved { old } => {
            same(
                promise::LISTS,
                "the page handed back",
                b.backend().pfn(old.page()),
                page.pfn,
            )?;
            b.put_back(old);
            b.sees(&page)
        }
        other => Err(broken(
            promise::LISTS,
            format!("the page did not move: {}", variant(&other)),
        )),
    }
}

pub(super) fn the_one_page_call_hands_both_pages_back_where_it_stayed<F: Fixture>(b: &Bench<F>) -> Done {
    let pages = b.pages(1)?;
    let pfn = pages.first().map_or(Pfn::new(0), |page| page.pfn);
    match holding(b, &pages, &[0], || one(b, pfn))? {
        OnePage::Stayed {
            page,
            unused: Some(unused),
            refusal,
        } => {
            b.pristine(&unused, promise::ROLLBACK)?;
            b.backend().put(unused);
            b.put_back(page);
            let must = Refusal::ExtraReference { expected: 1, found: 2 };
            same(promise::STAYS, "the refusal", refusal, must)
        }
        other => Err(broken(
            promise::LISTS,
            format!("the page did not stay: {}", variant(&other)),
        )),
    }
}

const fn variant<P>(page: &OnePage<P>) -> &'static str {
    match page {
        OnePage::Moved { .. } => "moved",
        OnePage::Freed { .. } => "freed",
        OnePage::Stayed { .. } => "stayed",
    }
}
