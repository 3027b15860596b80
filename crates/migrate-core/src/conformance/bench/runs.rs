//! Runs over a case's pages, and isolation and putting back without one.

use alloc::format;
use core::cell::{Cell, RefCell};

use mm_types::Pfn;
use mm_types::scenario::Edge as At;

use super::super::call::{Call, Ran};
use super::super::contract as promise;
use super::super::verdict::{Done, Halt, broken, same};
use super::{Bench, Mapped};
use crate::fixture::middle::Moments;
use crate::fixture::{Capabilities, Fixture, PageOf};
use crate::{Edge, Frames, Isolated, Verdict, isolate_lru_page, migrate_prep, putback_lru_pages};

impl<F: Fixture> Bench<F> {
    /// Takes a page off the LRU.
    pub(in super::super) fn isolate(&self, pfn: Pfn) -> Result<Isolated<PageOf<F>>, Halt> {
        let recording = self.recording();
        self.with(pfn, |backend, page| isolate_lru_page(backend, page, recording))?
            .map_err(|refusal| {
                broken(
                    promise::PUTBACK,
                    format!("{pfn:?} was put back, and is not on the LRU: {refusal}"),
                )
            })
    }

    /// Puts a page on the LRU, drained.
    pub(in super::super) fn put_back(&self, isolated: Isolated<PageOf<F>>) {
        putback_lru_pages(self.backend(), &mut Some(isolated), self.recording());
        migrate_prep(self.backend());
    }

    /// A run over `pages`, in this order.
    pub(in super::super) fn call<'b>(&'b self, pages: &[Pfn]) -> Call<'b, F> {
        Call::new(self, pages)
    }

    /// Moves one page, which must succeed; returns where it is.
    pub(in super::super) fn moves(&self, page: &Mapped) -> Result<Pfn, Halt> {
        let to = self.call(&[page.pfn]).run()?.moved_to(page.pfn)?;
        self.is_at(page, to)?;
        Ok(to)
    }

    /// A run over a page that somebody holds, so that it stays.
    pub(in super::super) fn refuses_held(&self, page: &Mapped) -> Result<Ran, Halt> {
        self.needs(Capabilities::EXTRA_REF)?;
        let held = self.hold(page.pfn)?;
        let ran = self.call(&[page.pfn]).run();
        self.backend().put(held);
        let ran = ran?;
        ran.refused(promise::FREEZE, page.pfn, "extra_reference")?;
        Ok(ran)
    }

    /// Moves one page there and further, twice; all but the frame is as before (I39).
    pub(in super::super) fn round_trip(&self, mut page: Mapped) -> Done {
        let before = self.looks(page.pfn, &page.sites)?;
        for _ in 0..2 {
            page.pfn = self.moves(&page)?;
        }
        let after = self.looks(page.pfn, &page.sites)?;
        same(promise::ROUND_TRIP, "the page after two moves", after, before)
    }

    /// A run over one page in which `act` is done just before the first step of the kind `at`.
    pub(in super::super) fn while_moving(&self, pfn: Pfn, at: At, act: impl FnOnce() -> Done) -> Result<Ran, Halt> {
        self.needs(Capabilities::MIDDLE)?;
        let (moments, act) = (Moments::default(), Cell::new(Some(act)));
        let done = RefCell::new(None);
        let hook = |edge: Edge| {
            if moments.of(edge) == Some(at) {
                if let Some(act) = act.take() {
                    done.replace(Some(act()));
                }
            }
            Verdict::Go
        };
        let ran = self.call(&[pfn]).hook(&hook).run();
        match done.into_inner() {
            Some(done) => done.and(ran),
            None => ran.and_then(|ran| {
                ran.moved_to(pfn)?;
                Err(broken(promise::BARRIERS, format!("the run of {pfn:?} had no {at}")))
            }),
        }
    }
}
