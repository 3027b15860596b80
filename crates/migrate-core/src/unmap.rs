//! Entries out and back: every mapping of a page becomes a migration entry, and every migration entry a mapping again.

use core::ops::ControlFlow;

use mm_types::museum::{self, Bug};
use mm_types::trace::{Event, Observer};
use mm_types::{PageFlags, Pfn, Pte, PteFlags, Refusal, Restore, Site};

use crate::guard::pfn_of;
use crate::run::{Cx, Pending, Stage};
use crate::{Backend, Entry, Slot, SwapCacheEntries};

impl<B: Backend> Slot<B> {
    /// Replaces every present entry of the locked old page (2.6.17 `try_to_unmap(page, 1)`, 6.x `try_to_migrate`).
    ///
    /// # Errors
    /// Why the page stays; entries replaced so far are restored by the end of the batch.
    pub(crate) fn unmap<O: Observer>(&mut self, cx: Cx<'_, B, O>, pending: &mut Pending<B>) -> Result<(), Refusal> {
        let Some(old) = self.old.locked() else { return Ok(()) };
        if !cx.backend.is_mapped(old) {
            return Ok(());
        }
        let (gather, edits) = pending.parts(cx.backend);
        cx.backend.reserve(old, self.new.locked(), gather)?;
        self.state.unmapped = true;
        let pfn = pfn_of(cx.backend, old);
        let swap = match cx.profile.swap_cache {
            SwapCacheEntries::Swap => cx.backend.swap_entry(old),
            SwapCacheEntries::Migration => None,
        };
        let mut refusal = None;
        // A site seen to map the page, in case it is still mapped in the end.
        let mut holder = None;
        cx.backend.walk(old, gather, &mut |entry| {
            if cx.profile.mlocked_stays && entry.vma().locked && entry.read().maps(pfn) {
                refusal = Some(Refusal::Mlocked {
                    site: Some(entry.site()),
                });
                return ControlFlow::Break(());
            }
            let edited = entry.update(&|pte| match swap {
                Some(slot) => pte.install_swap(pfn, slot),
                None => pte.install_migration(pfn, cx.profile.entries),
            });
            if let Some(edited) = edited {
                // After this the page flag is the holder of dirtiness, whatever becomes of the entry (I11).
                if edited.before.dirty() && !museum::has(Bug::B20) {
                    cx.backend.set_dirty(old);
                }
                if edited.after.is_migration() {
                    count_entries(cx, pfn, 1);
                }
                count_edits::<O>(edits);
                cx.observer.note(|| Event::Unmap {
                    pfn,
                    site: entry.site(),
                    before: edited.before,
                    after: edited.after,
                });
            } else if entry.read().maps(pfn) {
                holder = Some(entry.site());
            }
            ControlFlow::Continue(())
        });
        if let Some(refusal) = refusal {
            return Err(refusal);
        }
        // 2.6.17 passes locked nonlinear areas by, and gives the page up for good where it met no other.
        let (mut mlocked, mut unlocked) = (None, false);
        cx.backend.walk_nonlinear(old, gather, &mut |entry| {
            if cx.profile.mlocked_stays && entry.vma().locked {
                if entry.read().maps(pfn) {
                    mlocked = Some(entry.site());
                }
            } else {
                unlocked = true;
                holder = unmap_nonlinear(cx, old, pfn, entry, edits).or(holder);
            }
            ControlFlow::Continue(())
        });
        if cx.backend.is_mapped(old) {
            return Err(match mlocked {
                Some(site) if !unlocked => Refusal::Mlocked { site: Some(site) },
                _ => Refusal::Mapped {
                    site: holder.or(mlocked),
                },
            });
        }
        Ok(())
    }

    /// Makes every migration entry of the page a mapping again (2.6.17 `remove_migration_ptes`): of the new frame once the
    /// page has switched, of the old one before.
    pub(crate) fn restore<O: Observer>(&mut self, cx: Cx<'_, B, O>, pending: &mut Pending<B>) {
        if !core::mem::take(&mut self.state.unmapped) {
            return;
        }
        let Some(old) = self.old.locked() else { return };
        let to = match (self.state.stage, self.new.locked()) {
            (Stage::Switched, Some(new)) => new,
            _ => old,
        };
        let (old, new) = (pfn_of(cx.backend, old), pfn_of(cx.backend, to));
        let page = cx.backend.page(to);
        let anon = cx.backend.mapping(page).is_anon();
        let page_dirty = cx.backend.flags(page).contains(PageFlags::DIRTY);
        let (gather, edits) = pending.parts(cx.backend);
        // 2.6.17 cleared the old page's mapping at the switch, so the walk is the new page's from then on.
        cx.backend.walk(to, gather, &mut |entry| {
            let vma = entry.vma();
            let edited = entry.update(&|pte| {
                pte.restore(Restore {
                    old,
                    new,
                    vma_may_write: vma.may_write,
                    anon: anon && !vma.shared,
                    page_dirty,
                    style: cx.profile.entries,
                })
            });
            if let Some(edited) = edited {
                count_entries(cx, old, -1);
                count_edits::<O>(edits);
                cx.observer.note(|| Event::Restore {
                    old,
                    new,
                    site: entry.site(),
                    before: edited.before,
                    after: edited.after,
                });
            }
            ControlFlow::Continue(())
        });
    }
}

/// 2.6.17 `try_to_unmap_cluster`, for the page of interest: a young entry is only aged and goes in a later pass; the others
/// come back by an ordinary fault, never by restoring. Returns the site where the page stays mapped.
fn unmap_nonlinear<B: Backend, O: Observer>(
    cx: Cx<'_, B, O>,
    old: &B::Locked,
    pfn: Pfn,
    entry: &mut dyn Entry,
    edits: &mut u32,
) -> Option<Site> {
    let offset = entry.vma().nonlinear?;
    let edited = entry.update(&|pte| match pte {
        Pte::Present { pfn: at, flags } if at == pfn && flags.contains(PteFlags::YOUNG) => {
            Some(Pte::present(pfn, flags.difference(PteFlags::YOUNG)))
        }
        _ => pte.clear_to_file(pfn, offset),
    })?;
    let site = entry.site();
    count_edits::<O>(edits);
    if edited.after.maps(pfn) {
        return Some(site);
    }
    if edited.before.dirty() {
        cx.backend.set_dirty(old);
    }
    cx.observer.note(|| Event::Unmap {
        pfn,
        site,
        before: edited.before,
        after: edited.after,
    });
    None
}

/// Counts an edit for the line that the next barrier leaves in the trace.
fn count_edits<O: Observer>(edits: &mut u32) {
    if O::ENABLED {
        *edits = edits.saturating_add(1);
    }
}

/// Debug builds count entries out, so that one the second walk missed is found at the unlock and not by a process that hangs.
fn count_entries<B: Backend, O: Observer>(cx: Cx<'_, B, O>, pfn: Pfn, change: i32) {
    if cfg!(debug_assertions) {
        cx.backend.entries_out(pfn, change);
    }
}
