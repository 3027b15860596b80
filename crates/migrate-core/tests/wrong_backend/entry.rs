//! Entries of a backend with one defect.

use migrate_core::{Edited, Entry, EntryVma, Frames};
use mm_types::{Pte, PteFlags, Site};

use super::backend::Backend;
use super::wrong::Wrong;

/// An entry of the model, and a wrapper's way with it.
pub(crate) struct WrongEntry<'e> {
    pub(crate) entry: &'e mut dyn Entry,
    pub(crate) backend: &'e Backend,
}

impl Entry for WrongEntry<'_> {
    fn site(&self) -> Site {
        self.entry.site()
    }

    fn read(&self) -> Pte {
        self.entry.read()
    }

    fn update(&mut self, edit: &dyn Fn(Pte) -> Option<Pte>) -> Option<Edited> {
        let clean = |pte: Pte| match pte {
            Pte::Present { pfn, flags } => Pte::present(pfn, flags - PteFlags::DIRTY),
            other => other,
        };
        let edited = match self.backend.wrong {
            Wrong::DirtyBitLost => {
                let edited = self.entry.update(&|pte| edit(clean(pte)));
                edited.map(|Edited { before, after }| Edited {
                    before: clean(before),
                    after,
                })
            }
            Wrong::WriteWidened => self.entry.update(&|pte| match (pte, edit(pte)?) {
                (Pte::Migration(_), Pte::Present { pfn, flags }) => Some(Pte::present(pfn, flags | PteFlags::WRITE)),
                (_, after) => Some(after),
            }),
            Wrong::WriteWidenedInRollback => self.entry.update(&|pte| match (pte, edit(pte)?) {
                (Pte::Migration(entry), Pte::Present { pfn, flags }) if pfn == entry.pfn() => {
                    Some(Pte::present(pfn, flags | PteFlags::WRITE))
                }
                (_, after) => Some(after),
            }),
            Wrong::OldFrameRestored => self.entry.update(&|pte| match (pte, edit(pte)?) {
                (Pte::Migration(entry), Pte::Present { flags, .. }) => Some(Pte::present(entry.pfn(), flags)),
                (_, after) => Some(after),
            }),
            Wrong::EditDeclinedIsTold => {
                let edited = self.entry.update(edit);
                let read = self.entry.read();
                edited.or(read.is_present().then_some(Edited {
                    before: read,
                    after: read,
                }))
            }
            _ => self.entry.update(edit),
        };
        if let (true, Some(edited)) = (self.backend.is(Wrong::LedgerTwice), edited) {
            if let Pte::Present { pfn, .. } = edited.after {
                let _never_given_back = self.backend.model().get(pfn);
            }
        }
        edited
    }

    fn vma(&self) -> EntryVma {
        self.entry.vma()
    }
}
