//! The calls: each made of the model and of the reference, whose answers must be the same.

use std::collections::VecDeque;
use std::sync::Arc;

use migrate_core::fixture::Recording;
use migrate_core::model::{Access, Op};
use migrate_core::{Frames, LockedPage, PageRef, putback_lru_pages};
use mm_types::trace::{Event, Observer};
use mm_types::{ActorId, Mapping, MappingId, PageFlags, Pfn, Pte, Site, SpaceId, SwapType, TypeKind, Vpn};

use crate::counts::Kind;
use crate::held::open;
use crate::reference::{What, after};
use crate::step::Step;
use crate::world::{World, pick, site_name};

/// A call's answer; `None` where its picks found nothing and it was not made.
type Answer = Option<Result<(), String>>;

const DONE: Answer = Some(Ok(()));

impl World {
    /// Makes one call, of the model and of the reference. Picks that find nothing do nothing.
    ///
    /// # Errors
    /// What the two do not agree on.
    pub(crate) fn act<O: Observer>(&self, step: &Step, observer: O) -> Result<(), String> {
        self.touched.borrow_mut().clear();
        let answer = match *step {
            Step::Migrate(ref migrate) if !self.in_run.get() => Some(self.migrate(migrate)),
            Step::Migrate(_) => None,
            Step::MapAnon { .. } | Step::MapFile { .. } => self.map(step),
            Step::Read { .. } | Step::Write { .. } | Step::SwapIn { .. } | Step::Again { .. } | Step::Wait { .. } => {
                self.use_memory(step, observer)
            }
            Step::Fork { .. }
            | Step::Exit { .. }
            | Step::Protect { .. }
            | Step::Unmap { .. }
            | Step::Move { .. }
            | Step::Mlock { .. }
            | Step::Remap { .. }
            | Step::SoftDirty { .. }
            | Step::Truncate { .. }
            | Step::CutOff { .. } => {
                let answer = self.change_mappings(step, observer);
                self.changed.borrow_mut().clone_from(&self.touched.borrow());
                answer
            }
            Step::SwapOut { .. }
            | Step::SwapCache { .. }
            | Step::SwapOn { .. }
            | Step::Dirty { .. }
            | Step::DirtyBuffer { .. }
            | Step::WriteBack { .. }
            | Step::BeginWriteback { .. }
            | Step::EndWriteback { .. }
            | Step::Corrupt { .. } => self.keep_house(step, observer),
            Step::Get { .. }
            | Step::Pin { .. }
            | Step::Lock { .. }
            | Step::Reading { .. }
            | Step::Busy { .. }
            | Step::Isolate { .. } => self.hold(step, observer),
            Step::Put { nth }
            | Step::Unpin { nth }
            | Step::Unlock { nth }
            | Step::Idle { nth }
            | Step::Putback { nth } => {
                self.let_go(step, nth, observer);
                None
            }
        };
        answer.unwrap_or(Ok(()))?;
        self.finish_waits()
    }

    /// Remembers what a call is about: it is looked at afterwards.
    fn touch(&self, sites: impl IntoIterator<Item = Site>) {
        self.touched.borrow_mut().extend(sites);
    }

    fn space(&self, at: u32) -> Option<SpaceId> {
        pick(&self.reference.borrow().spaces, at)
    }

    fn map(&self, step: &Step) -> Answer {
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

    fn use_memory<O: Observer>(&self, step: &Step, observer: O) -> Answer {
        let op = |write: bool| if write { Op::Write(self.new_word()) } else { Op::Read };
        let (site, cpu, op) = match *step {
            // Now and then where nothing is ever mapped.
            Step::Read { at, cpu } if at % 256 == 255 => {
                let beyond = Vpn::new(2 * u64::from(u8::MAX));
                (Site::new(self.space(at)?, beyond), cpu, Op::Read)
            }
            Step::Read { at, cpu } => (self.site(at)?, cpu, Op::Read),
            Step::Write { at, cpu } => (self.site(at)?, cpu, op(true)),
            Step::SwapIn { at, write } => {
                let swapped = |site, _: &_| matches!(self.model.pte(site), Pte::Swap { .. });
                (self.find_site(at, swapped)?, 0, op(write))
            }
            Step::Wait { at, write } => {
                let in_flight = |site: &Site| self.model.pte(*site).is_migration();
                let of_run: Vec<Site> = self.run_sites.borrow().iter().copied().filter(in_flight).collect();
                let elsewhere = || self.find_site(at, |site, _| in_flight(&site));
                self.wait(pick(&of_run, at).or_else(elsewhere)?, op(write));
                return DONE;
            }
            Step::Again { nth, write } => {
                // The same CPU: what it remembers of the place must not be used where the place has changed.
                let (site, cpu) = self.recent(nth)?;
                (site, cpu, op(write))
            }
            _ => return None,
        };
        Some(self.access(site, cpu, op, observer))
    }

    fn change_mappings<O: Observer>(&self, step: &Step, observer: O) -> Answer {
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

    fn change(&self, site: Site, pages: u64, change: impl FnMut(&mut crate::reference::Page)) {
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

    /// What the kernel does by itself: swap, dirty pages, writeback.
    fn keep_house<O: Observer>(&self, step: &Step, observer: O) -> Answer {
        let model = &self.model;
        match *step {
            Step::SwapOut { at } => {
                let pfn = self.anon_frame(at)?;
                self.note("swap_out", || self.name(pfn));
                let before = self.sites_that_map(pfn);
                model.swap_out(pfn);
                self.touch(before.iter().map(|(site, _)| *site));
                // Reclaim tells nobody; the checker of traces wants to know who does not map the page any more.
                for (site, before) in before.into_iter().filter(|(site, pte)| model.pte(*site) != *pte) {
                    observer.note(|| Event::Zap { site, before });
                }
            }
            Step::SwapCache { at } => {
                let pfn = self.anon_frame(at)?;
                self.note("swapcache", || self.name(pfn));
                model.swap_cache(pfn);
            }
            Step::Dirty { at } => {
                let pfn = self.frame(at)?;
                // Who dirties a page without its lock found it in an entry or in the cache, and it is not frozen.
                if self.is_locked_by_a_run(pfn) {
                    return None;
                }
                self.note("dirty", || self.name(pfn));
                model.dirty_page(pfn);
            }
            Step::DirtyBuffer { at, nth } => {
                let pfn = self.frame_with_buffers(at)?;
                if self.is_locked_by_a_run(pfn) {
                    return None;
                }
                self.note("dirty_buffer", || format!("{nth} of {}", self.name(pfn)));
                model.dirty_buffer(pfn, nth.into());
            }
            Step::SwapOn { ty } => {
                let ty = SwapType::new(ty)?;
                self.note("swapon", || ty.to_string());
                let (done, kind) = (model.swapon(ty), model.swap_layout().kind(ty));
                if done.is_ok() != (kind == TypeKind::SwapFile) {
                    return Some(Err(format!(
                        "swapon said {done:?} of type {ty}, which is {kind:?} (I40)"
                    )));
                }
            }
            Step::WriteBack { at } => {
                let pfn = self.frame(at).filter(|pfn| self.can_be_written(*pfn))?;
                if self.is_locked_by_a_run(pfn) {
                    return None;
                }
                self.note("write_back", || self.name(pfn));
                model.write_back(pfn);
            }
            Step::BeginWriteback { at } => {
                let pfn = self.frame(at).filter(|pfn| self.can_be_written(*pfn))?;
                if let Some(Ok(locked)) = model.get(pfn).map(|page| self.try_lock(page)) {
                    self.note("begin_writeback", || self.name(pfn));
                    model.begin_writeback(pfn);
                    let page = model.unlock(locked);
                    model.put(page);
                }
            }
            Step::EndWriteback { nth } => {
                let pfn = pick(&self.held().written(model), nth)?;
                self.note("end_writeback", || self.name(pfn));
                model.end_writeback(pfn);
            }
            Step::Corrupt { at } => {
                let present = |site, _: &_| self.model.pte(site).is_present();
                let pfn = self.find_site(at, present).and_then(|site| model.pte(site).pfn())?;
                self.note("corrupt", || self.name(pfn));
                model.set_word(pfn, !model.word(pfn));
            }
            _ => return None,
        }
        DONE
    }

    fn anon_frame(&self, at: u32) -> Option<Pfn> {
        self.frame(at).filter(|pfn| self.model.page(*pfn).mapping().is_anon())
    }

    /// Somebody takes something, and has it until he lets go.
    fn hold<O: Observer>(&self, step: &Step, observer: O) -> Answer {
        let (model, most) = (&self.model, self.size.held);
        match *step {
            Step::Get { at } => {
                let room = self.held().refs.len() < most;
                let page = model.get(self.frame(at).filter(|_| room)?)?;
                self.note("get", || self.name(page.pfn()));
                self.held().refs.push(page);
            }
            Step::Pin { at } => {
                let room = self.held().pins.len() < most;
                let pfn = self.frame(at).filter(|pfn| room && model.pin(*pfn))?;
                self.note("pin", || self.name(pfn));
                self.held().pins.push(pfn);
            }
            Step::Lock { at } => {
                let room = self.held().locks.len() < most;
                let page = model.get(self.frame(at).filter(|_| room)?)?;
                if let Ok(locked) = self.try_lock(page) {
                    self.note("lock", || self.name(locked.pfn()));
                    self.held().locks.push(locked);
                }
            }
            Step::Reading { at } => {
                // What is mapped has been read, and so has what a run has looked at.
                let room = self.held().locks.len() < most && !self.in_run.get();
                let unread = |pfn: &Pfn| room && model.page(*pfn).mapcount() == 0;
                let page = model.get(self.frame(at).filter(unread)?)?;
                if let Ok(locked) = self.try_lock(page) {
                    self.note("begin_reading", || self.name(locked.pfn()));
                    model.edit_flags(&locked, PageFlags::empty(), PageFlags::UPTODATE);
                    self.held().locks.push(locked);
                }
            }
            Step::Busy { at } => {
                let pfn = self.frame_with_buffers(at)?;
                if self.is_locked_by_a_run(pfn) || self.held().busy.contains(&pfn) {
                    return None;
                }
                self.note("buffers_busy", || self.name(pfn));
                model.set_buffers_busy(pfn, true);
                self.held().busy.push(pfn);
            }
            Step::Isolate { at } => {
                let room = self.held().isolated.len() < most;
                let pfn = self.frame(at).filter(|_| room)?;
                if let Ok(page) = model.isolate(pfn, observer) {
                    self.note("isolate", || self.name(pfn));
                    self.held().isolated.push_back(page);
                }
            }
            _ => return None,
        }
        DONE
    }

    fn let_go<O: Observer>(&self, step: &Step, nth: u32, observer: O) {
        fn take<T>(from: &mut Vec<T>, nth: u32) -> Option<T> {
            let n = (nth as usize).checked_rem(from.len())?;
            Some(from.remove(n))
        }
        let model = &self.model;
        match step {
            Step::Put { .. } => {
                let page = take(&mut self.held().refs, nth);
                if let Some(page) = page {
                    self.note("put", || self.name(page.pfn()));
                    model.put(page);
                }
            }
            Step::Unpin { .. } => {
                let pfn = take(&mut self.held().pins, nth);
                if let Some(pfn) = pfn {
                    self.note("unpin", || self.name(pfn));
                    model.unpin(pfn);
                }
            }
            Step::Unlock { .. } => {
                let locked = take(&mut self.held().locks, nth);
                if let Some(locked) = locked {
                    self.note("unlock", || self.name(locked.pfn()));
                    open(model, locked);
                }
            }
            Step::Idle { .. } => {
                let pfn = take(&mut self.held().busy, nth);
                if let Some(pfn) = pfn {
                    self.note("buffers_free", || self.name(pfn));
                    model.set_buffers_busy(pfn, false);
                }
            }
            _ => {
                let mut list = {
                    let mut held = self.held();
                    let n = (nth as usize).checked_rem(held.isolated.len());
                    VecDeque::from_iter(n.and_then(|n| held.isolated.remove(n)))
                };
                if let Some(page) = list.front() {
                    self.note("putback", || self.name(page.page().pfn()));
                    putback_lru_pages(model, &mut list, observer);
                }
            }
        }
    }

    fn try_lock(&self, page: PageRef) -> Result<LockedPage, ()> {
        self.model.try_lock(page).map_err(|page| self.model.put(page))
    }

    fn can_be_written(&self, pfn: Pfn) -> bool {
        let file = matches!(self.model.page(pfn).mapping(), Mapping::File(_));
        file && !self.flags(pfn).contains(PageFlags::WRITEBACK)
    }

    pub(crate) fn new_word(&self) -> u64 {
        self.words.set(self.words.get() + 1);
        self.words.get()
    }

    /// One access, which either comes to what the reference says, or is in the way of somebody who has the page.
    pub(crate) fn access<O: Observer>(&self, site: Site, cpu: u8, op: Op, observer: O) -> Result<(), String> {
        let word = if op == Op::Read { "read" } else { "write" };
        let what = || match op {
            Op::Read => format!("{} on cpu {cpu}", site_name(site)),
            Op::Write(word) => format!("{} {word:#x} on cpu {cpu}", site_name(site)),
        };
        self.note(word, what);
        self.note_access(site, cpu);
        self.touch([site]);
        let expected = self.reference.borrow().access(site, op);
        let found = self.model.access(ActorId::new(cpu.into()), site, op, observer);
        match found {
            Access::MustWait(at) if self.in_run.get() && at == site => self.counts.add(Kind::Wait, "for an entry"),
            // Frozen, or locked by whoever has it.
            Access::Busy(pfn) if self.is_in_use(pfn) => self.counts.add(Kind::Wait, "for a page"),
            found if found == expected => {
                if let (Access::Done(word), Op::Write(_)) = (found, op) {
                    self.reference.borrow_mut().store(site, word);
                }
            }
            found => return Err(format!("{word} {}: {found:?}, and should be {expected:?}", what())),
        }
        Ok(())
    }

    /// A thread of its own touches a page in flight; what it comes to is looked at when it has.
    fn wait(&self, site: Site, op: Op) {
        // Threads that wait have numbers of their own; the CPUs come before.
        let n = self.threads.replace(self.threads.get().wrapping_add(1));
        let actor = ActorId::new(n.wrapping_add(2 * u32::from(self.size.cpus)));
        self.note("wait", || {
            format!("of thread {} for {}: {op:?}", actor.raw(), site_name(site))
        });
        self.waits.borrow_mut().insert(actor, op);
        self.touch([site]);
        let unheard = || Arc::new(Recording::with_capacity(0));
        let recording = self.recording.borrow().clone().unwrap_or_else(unheard);
        self.model.access_in_thread(actor, site, op, &recording);
    }

    /// What threads came to since the last look is what the reference says.
    ///
    /// # Errors
    /// As [`World::access`].
    pub(crate) fn finish_waits(&self) -> Result<(), String> {
        for (actor, site, found) in self.model.take_finished() {
            let Some(op) = self.waits.borrow_mut().remove(&actor) else {
                continue;
            };
            self.touch([site]);
            let expected = self.reference.borrow().access(site, op);
            match found {
                // Frozen at that moment: the thread would look again.
                Access::MustWait(_) | Access::Busy(_) => self.counts.add(Kind::Wait, "a thread would look again"),
                found if found == expected => {
                    self.counts.add(Kind::Wait, "a thread woke");
                    if let (Access::Done(word), Op::Write(_)) = (found, op) {
                        self.reference.borrow_mut().store(site, word);
                    }
                }
                found => {
                    return Err(format!(
                        "thread {} at {}: {found:?}, and should be {expected:?}",
                        actor.raw(),
                        site_name(site)
                    ));
                }
            }
        }
        Ok(())
    }

    fn is_in_use(&self, pfn: Pfn) -> bool {
        self.flags(pfn).contains(PageFlags::LOCKED) || self.model.page(pfn).count() == 0
    }
}
