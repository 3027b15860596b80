//! Isolation, and putting pages back.

use alloc::format;

use mm_types::trace::{Event, Observer};
use mm_types::{PageFlags, Refusal};

use super::super::bench::Bench;
use super::super::contract as promise;
use super::super::verdict::{Done, broken, hold, same};
use crate::fixture::{Capabilities, Fixture};
use crate::{Frames, Lru, isolate_lru_page};

pub(in super::super) fn a_page_is_isolated_once<F: Fixture>(b: &Bench<F>) -> Done {
    let page = b.page()?;
    let isolated = b.isolate(page.pfn)?;
    let flags = b.flags(page.pfn)?;
    let again = b.with(page.pfn, |backend, page| isolate_lru_page(backend, page, ()))?;
    let count = b.count(page.pfn)?;
    b.put_back(isolated);
    hold(promise::ISOLATE, !flags.contains(PageFlags::LRU), || {
        format!("an isolated page has flags {flags}")
    })?;
    match again {
        Err(refusal) => same(
            promise::ISOLATE,
            "the refusal of a second isolation",
            refusal,
            Refusal::NotOnLru,
        )?,
        Ok(twice) => {
            b.put_back(twice);
            return Err(broken(promise::ISOLATE, format!("{:?} was isolated twice", page.pfn)));
        }
    }
    same(promise::ISOLATE, "references of an isolated page", count, 2)
}

pub(in super::super) fn a_page_that_is_on_no_list_is_not_isolated<F: Fixture>(b: &Bench<F>) -> Done {
    let page = b.fixture.new_page()?;
    let isolated = isolate_lru_page(b.backend(), &page, ());
    let count = b.backend().count(&page);
    b.backend().put(page);
    hold(promise::ISOLATE, isolated.is_err(), || {
        "a new page, which is on no list, was isolated".into()
    })?;
    same(promise::ISOLATE, "references after an isolation that failed", count, 1)
}

pub(in super::super) fn a_page_put_back_can_be_isolated_again<F: Fixture>(b: &Bench<F>) -> Done {
    let page = b.page()?;
    for _ in 0..3 {
        let isolated = b.isolate(page.pfn)?;
        b.put_back(isolated);
        let flags = b.flags(page.pfn)?;
        hold(promise::PUTBACK, flags.contains(PageFlags::LRU), || {
            format!("a page put back has flags {flags}")
        })?;
        same(promise::PUTBACK, "references of a page put back", b.count(page.pfn)?, 1)?;
    }
    Ok(())
}

pub(in super::super) fn a_page_put_back_directly_is_on_its_list_at_once<F: Fixture>(b: &Bench<F>) -> Done {
    let page = b.page()?;
    let isolated = b.isolate(page.pfn)?;
    b.recording().note(|| Event::Putback(page.pfn));
    b.backend().putback_direct(isolated.into_page());
    let isolated = b.isolate(page.pfn)?;
    b.put_back(isolated);
    same(promise::PUTBACK, "references of a page put back", b.count(page.pfn)?, 1)
}

pub(in super::super) fn a_page_put_back_after_everybody_let_go_is_freed<F: Fixture>(b: &Bench<F>) -> Done {
    b.needs(Capabilities::UNMAP)?;
    let page = b.page()?;
    let isolated = b.isolate(page.pfn)?;
    b.fixture.unmap(page.site())?;
    same(
        promise::ZAP,
        "references of an isolated page without entries",
        b.count(page.pfn)?,
        1,
    )?;
    b.put_back(isolated);
    hold(promise::PUTBACK, b.backend().get(page.pfn).is_none(), || {
        format!("{:?} is in use, and nobody has it", page.pfn)
    })
}
