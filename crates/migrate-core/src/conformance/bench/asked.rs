//! A fixture whose answers say which of its methods gave them, and to what.

use alloc::{format, string::String, vec::Vec};
use core::fmt::Debug;

use mm_types::scenario::{Mover, Sharing};
use mm_types::{ActorId, MappingId, Pfn, Site, SpaceId};

use super::super::contract as promise;
use super::super::verdict::{Halt, broken};
use crate::fixture::{Access, Capabilities, Fixture, FixtureError, PageOf};

/// A fixture as cases ask it: what it does not do ends the case, as its failure or as not applicable.
pub(in super::super) struct Asked<F>(F);

/// Methods whose errors name them.
macro_rules! asked {
    ($(fn $name:ident(&self $(, $arg:ident: $of:ty)*) -> $answer:ty;)*) => {
        impl<F: Fixture> Asked<F> {
            $(
                pub(in super::super) fn $name(&self $(, $arg: $of)*) -> Result<$answer, Halt> {
                    const METHOD: promise::Contract = promise::of_fixture(concat!("Fixture::", stringify!($name)));
                    self.0.$name($($arg),*).map_err(|error| self.halt(METHOD, &[$(&$arg),*], error))
                }
            )*
        }
    };
}

asked! {
    fn space(&self) -> SpaceId;
    fn map_anon(&self, site: Site, writable: bool) -> Pfn;
    fn read_word(&self, site: Site, word: usize) -> u64;
    fn write_word(&self, site: Site, word: usize, value: u64) -> ();
    fn new_page(&self) -> PageOf<F>;
    fn share(&self, pfn: Pfn, to: Site, writable: bool) -> ();
    fn fork(&self, parent: SpaceId) -> SpaceId;
    fn protect(&self, site: Site, writable: bool) -> ();
    fn unmap(&self, site: Site) -> ();
    fn exit(&self, space: SpaceId) -> ();
    fn remap(&self, from: Site, to: Site) -> ();
    fn pin(&self, pfn: Pfn) -> ();
    fn unpin(&self, pfn: Pfn) -> ();
    fn file(&self, pages: u64, mover: Mover) -> MappingId;
    fn map_file(&self, file: MappingId, index: u64, site: Site, writable: bool, sharing: Sharing) -> Pfn;
    fn cached(&self, file: MappingId, index: u64) -> Option<Pfn>;
    fn stored(&self, file: MappingId, index: u64) -> u64;
    fn truncate(&self, pfn: Pfn) -> ();
    fn dirty(&self, pfn: Pfn) -> ();
    fn buffers_busy(&self, pfn: Pfn, busy: bool) -> ();
    fn writeback(&self, pfn: Pfn, on: bool) -> ();
    fn end_writeback_later(&self, pfn: Pfn) -> ();
    fn swap_cache(&self, pfn: Pfn) -> ();
    fn mlock(&self, site: Site) -> ();
    fn fault(&self, actor: ActorId, site: Site, store: Option<u64>) -> Access;
}

impl<F: Fixture> Asked<F> {
    pub(in super::super) const fn new(fixture: F) -> Self {
        Self(fixture)
    }

    /// The fixture itself.
    pub(in super::super) const fn inner(&self) -> &F {
        &self.0
    }

    pub(in super::super) fn capabilities(&self) -> Capabilities {
        self.0.capabilities()
    }

    /// What comes of a question that was not answered: only what the fixture does not declare may be lacking.
    pub(in super::super) fn halt(&self, method: promise::Contract, of: &[&dyn Debug], error: FixtureError) -> Halt {
        let of: Vec<String> = of.iter().map(|of| format!("{of:?}")).collect();
        let asked = format!("{}({})", method.method.trim_start_matches("Fixture::"), of.join(", "));
        match error {
            FixtureError::NotApplicable(lacks) if lacks.is_empty() || lacks.intersects(self.capabilities()) => broken(
                method,
                format!("{asked}: declared, and answers not applicable ({lacks})"),
            ),
            FixtureError::NotApplicable(lacks) => Halt::Lacks(lacks),
            other => broken(method, format!("{asked}: {other}")),
        }
    }
}

#[cfg(all(test, feature = "model"))]
mod tests {
    use alloc::string::ToString;

    use mm_types::Vpn;

    use super::*;
    use crate::model::ModelFixture;

    fn told(halt: Halt) -> String {
        match halt {
            Halt::Failed(failure) => failure.to_string(),
            Halt::Lacks(lacks) => format!("lacks {lacks}"),
        }
    }

    #[test]
    fn what_could_not_be_done_names_the_method_and_what_it_was_asked() {
        let asked = Asked::new(ModelFixture::new());
        let site = Site::new(asked.space().unwrap(), Vpn::new(3));
        assert_eq!(
            told(asked.unmap(site).unwrap_err()),
            format!(
                "broken contract: Fixture::unmap (I8): does what was asked of it\n  found: unmap({site:?}): nothing to do this with at \
                 {site:?}"
            )
        );
    }

    #[test]
    fn only_what_is_not_declared_may_be_lacking() {
        let asked = Asked::new(ModelFixture::new());
        let method = promise::of_fixture("Fixture::fork");
        let answer = |lacks| told(asked.halt(method, &[], FixtureError::NotApplicable(lacks)));
        assert_eq!(answer(Capabilities::WHOLE_PAGES), "lacks every word of a page");
        for lacks in [
            Capabilities::FORK,
            Capabilities::FORK | Capabilities::WHOLE_PAGES,
            Capabilities::empty(),
        ] {
            let answer = answer(lacks);
            assert!(
                answer.ends_with(&format!("fork(): declared, and answers not applicable ({lacks})")),
                "{answer}"
            );
        }
    }
}
