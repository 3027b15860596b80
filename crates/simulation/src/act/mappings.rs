//! What programs ask for: map, fork, exit, mprotect, munmap, mremap, mlock, and truncated files.

use mm_types::trace::Observer;
use mm_types::{MappingId, Site, Vpn};

use super::{Answer, DONE};
use crate::reference::{Page, What, after};
use crate::step::Step;
use crate::world::{World, pick, site_name};

impl World {
    pub(super) fn map(&self, step: &Step) -> Answer {
        let (Step::MapAnon { space, page, pages } | Step::MapFile { space, page, pages, .. }) = *step else {
            return None;
        };
        let (site, pages) = (Site::new(self.space(space)?, Vpn::new(page.into())), u64::from(pages));
        if !self.reference.borrow().is_free(site, pages) {
            return None;
        }
        let what = match *step {
            Step::MapFile {
                file, index, shared, ..
            } => {
                let (file, index) = (pick(&self.held().files, file)?, usize::from(index));
                let how = if shared { "shared" } else { "private" };
                let name = || format!("{} x{pages} file={}+{index} {how}", site_name(site), file.raw());
                self.note("map", name);
                self.model.map_file(site, pages, file, index, shared);
                What::File { file, index, shared }
            }
            _ => {
                self.note("map", || format!("{} x{pages} anon", site_name(site)));
                self.model.map_anon(site, pages);
                What::Anon
            }
        };
        self.reference.borrow_mut().map(site, pages, what);
        self.touch((0..pages).map(|n| after(site, n)));
        DONE
    }

    pub(super) fn change_mappings<O: Observer>(&self, step: &Step, observer: O) -> Answer {
        let model = &self.model;
        match *step {
            Step::Fork { space } => {
                let parent = self.space(space)?;
                let (alive, ever) = (self.reference.borrow().spaces.len(), self.spaces_ever.get());
                if alive >= self.size.alive || ever >= self.size.ever {
                    return None;
                }
                self.spaces_ever.set(ever + 1);
                self.note("fork", || format!("m{}", parent.raw()));
                let child = model.fork(parent, observer);
                self.reference.borrow_mut().fork(parent, child);
                let reference = self.reference.borrow();
                let of_both = reference.sites_of(parent).chain(reference.sites_of(child));
                self.touch(of_both);
            }
            Step::Exit { space } => {
                if self.reference.borrow().spaces.len() <= 1 {
                    return None;
                }
                let space = self.space(space)?;
                self.note("exit", || format!("m{}", space.raw()));
                model.exit(space, observer);
                self.reference.borrow_mut().exit(space);
            }
            Step::Protect { at, pages, write } => {
                let (site, pages) = (self.site(at)?, u64::from(pages));
                let how = if write { "rw" } else { "ro" };
                self.note("protect", || format!("{} x{pages} {how}", site_name(site)));
                model.protect(site, pages, write, observer);
                self.change(site, pages, |page| page.writable = write);
            }
            Step::Unmap { at, pages } => {
                let (site, pages) = (self.site(at)?, u64::from(pages));
                self.note("unmap", || format!("{} x{pages}", site_name(site)));
                self.touch(self.reference.borrow().range(site, pages));
                model.munmap(site, pages, observer);
                self.reference.borrow_mut().unmap(site, pages);
            }
            Step::Move { at, pages, to } => {
                let (site, pages, to) = (self.site(at)?, u64::from(pages), Vpn::new(to.into()));
                self.note("mremap", || format!("{} x{pages} +{:#x}", site_name(site), to.raw()));
                let moved = model.mremap(site, pages, to, observer);
                let expected = self.reference.borrow_mut().relocate(site, pages, to);
                if moved != expected {
                    return Some(Err(format!("mremap said {moved}, and should have said {expected}")));
                }
                let there = Site::new(site.space, to);
                self.touch((0..pages).flat_map(|n| [after(site, n), after(there, n)]));
            }
            Step::Mlock { at, pages, locked } => {
                let (site, pages) = (self.site(at)?, u64::from(pages));
                self.note("mlock", || format!("{} x{pages} {locked}", site_name(site)));
                model.mlock(site, pages, locked);
                self.change(site, pages, |page| page.locked = locked);
            }
            Step::Remap { at, index } => {
                let shared = |site: &Site| self.reference.borrow().pages[site].shared();
                let near = || self.find_site(at, |_, page| page.shared());
                let (site, index) = (self.site(at).filter(shared).or_else(near)?, usize::from(index));
                self.note("nonlinear", || format!("{} page {index}", site_name(site)));
                model.remap_file(site, index as u64, observer);
                self.change(site, 1, |page| page.stands_for = Some(index));
            }
            Step::SoftDirty { at } => {
                let site = self.site(at)?;
                self.note("soft_dirty", || site_name(site));
                model.mark_soft_dirty(site);
                self.touch([site]);
            }
            Step::Truncate { file, pages } => {
                let file = pick(&self.held().files, file)?;
                let size = self.reference.borrow().files[file.raw() as usize].len();
                return self.truncate(file, pages as usize % (size + 1), observer);
            }
            Step::CutOff { at } => {
                let (file, index) = self.reference.borrow().pages[&self.site(at)?].file()?;
                return self.truncate(file, index, observer);
            }
            _ => return None,
        }
        DONE
    }

    fn change(&self, site: Site, pages: u64, change: impl FnMut(&mut Page)) {
        let mut reference = self.reference.borrow_mut();
        reference.change(site, pages, change);
        self.touch(reference.range(site, pages));
    }

    /// Cuts a file off; one of which nothing is left has another one in its place from now on.
    fn truncate<O: Observer>(&self, file: MappingId, pages: usize, observer: O) -> Answer {
        let beyond = self.model.cached_pages(file).into_iter();
        let mut beyond = beyond.filter(|(index, _)| *index >= pages);
        if beyond.any(|(_, pfn)| self.is_locked_by_a_run(pfn)) {
            return None;
        }
        self.note("truncate", || format!("file {} to {pages}", file.raw()));
        self.model.truncate(file, pages, observer);
        let mut reference = self.reference.borrow_mut();
        reference.truncate(file, pages);
        drop(reference);
        if pages == 0 && self.held().files.contains(&file) {
            let next = self.create_file();
            self.log(|| format!("file {} is made", next.raw()));
            let mut held = self.held();
            held.files
                .iter_mut()
                .filter(|at| **at == file)
                .for_each(|at| *at = next);
        }
        DONE
    }
}
