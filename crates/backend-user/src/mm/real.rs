//! What a range really has at each page, as far as is known: how many mappings that is, and whether it agrees with the entries.

use mm_types::{Pfn, Pte};

use super::settle::Change;
use super::{Mm, State};
use crate::kernel::Kernel;
use crate::sys::range::Prot;

/// What the range has at a page: nothing, or a frame and what may be done with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Real(u64);

impl Real {
    pub(crate) const NOTHING: Self = Self(0);

    /// What the word grows by from one frame to the next.
    const ONE_FRAME: u64 = 1 << 2;

    pub(crate) const fn new(pfn: Pfn, prot: Prot) -> Self {
        let prot = match prot {
            Prot::None => 0,
            Prot::Read => 1,
            Prot::ReadWrite => 2,
        };
        Self((pfn.raw() + 1) << 2 | prot)
    }

    pub(crate) fn get(self) -> Option<(Pfn, Prot)> {
        let prot = match self.0 & 3 {
            0 => Prot::None,
            1 => Prot::Read,
            _ => Prot::ReadWrite,
        };
        (self.0 >> 2).checked_sub(1).map(|pfn| (Pfn::new(pfn), prot))
    }
}

impl State {
    /// Notes what a place of the second engine has.
    pub(crate) fn set_real(&mut self, page: usize, real: Real) {
        if let Some(at) = self.real.get_mut(page) {
            *at = real;
        }
    }

    /// True where page `page` and the next are not one mapping.
    pub(super) fn edge(&self, kernel: &Kernel, page: usize) -> bool {
        let (Some(a), Some(b)) = (self.real.get(page), self.real.get(page + 1)) else {
            return false;
        };
        // One mapping for ever, whatever is shown in it.
        match (self.is_private(page), self.is_private(page + 1)) {
            (true, true) => return false,
            (false, false) => {}
            _ => return true,
        }
        match b.get() {
            // One word more by one frame: the next frame with the same protection, unless a node begins there.
            Some((pfn, _)) => *a == Real::NOTHING || b.0 != a.0 + Real::ONE_FRAME || kernel.begins_node(pfn),
            None => *a != Real::NOTHING,
        }
    }

    pub(super) fn edges_of(&self, kernel: &Kernel, page: usize, n: usize) -> usize {
        (page.saturating_sub(1)..page + n)
            .filter(|page| self.edge(kernel, *page))
            .count()
    }

    /// Writes down what a run has now.
    pub(super) fn note(&mut self, kernel: &Kernel, page: usize, n: usize, change: Change) {
        let before = self.edges_of(kernel, page, n);
        let run = self.real.get_mut(page..page + n).unwrap_or_default();
        for (real, offset) in run.iter_mut().zip(0..) {
            *real = match (change, real.get()) {
                (Change::Reserve, _) => Real::NOTHING,
                (Change::Map(pfn, prot), _) => Real::new(Pfn::new(pfn.raw() + offset), prot),
                (Change::Protect(prot), Some((pfn, _))) => Real::new(pfn, prot),
                (Change::Protect(_), None) => Real::NOTHING,
            };
        }
        let after = self.edges_of(kernel, page, n);
        self.edges = (self.edges + after).saturating_sub(before);
    }

    /// Checks that the range agrees with every entry; for tests. `space` is the space whose state this is.
    pub(crate) fn check(&self, space: &Mm) -> Result<(), String> {
        for page in 0..space.pages() {
            if !self.is_settled(page) {
                continue;
            }
            let pte = space.read(page);
            let real = self.real.get(page).and_then(|real| real.get());
            let agrees = match (pte, real) {
                // What may not be touched is not there.
                (pte, real) if self.is_private(page) => {
                    let shown = Some(self.prot(pte)).filter(|prot| pte.is_present() && *prot != Prot::None);
                    real == shown.and_then(|prot| Some((pte.pfn()?, prot)))
                }
                (Pte::None, real) => real.is_none(),
                (Pte::Present { pfn, .. }, Some(real)) => real == (pfn, self.prot(pte)),
                (Pte::Present { .. }, None) => false,
                (_, real) => real.is_none_or(|(_, prot)| prot != Prot::ReadWrite),
            };
            if !agrees {
                return Err(format!("{:?}: entry {pte:?}, mapped {real:?}", space.site(page)));
            }
        }
        Ok(())
    }
}
