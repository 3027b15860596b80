//! The calls: each made of the model and of the reference, whose answers must be the same.

use std::collections::VecDeque;

use migrate_core::model::{Access, Op};
use migrate_core::{Frames, LockedPage, PageRef, putback_lru_pages};
use mm_types::trace::{Event, Observer};
use mm_types::{ActorId, Mapping, MappingId, PageFlags, Pfn, Pte, Site, SpaceId, SwapType, TypeKind, Vpn};

use super::held::open;
use super::reference::What;
use super::step::Step;
use super::world::{ALIVE, FILE, SPACES, World, pick, site_name};

/// Threads that wait have numbers of their own; the CPUs come before.
const FIRST_THREAD: u32 = 8;

impl World {
    /// Makes one call, of the model and of the reference. Picks that find nothing do nothing.
    ///
    /// # Errors
    /// What the two do not agree on.
    pub(crate) fn act<O: Observer>(&self, step: &Step, observer: O) -> Result<(), String> {
        self.act_or_not(step, observer).unwrap_or(Ok(()))?;
        self.finish_waits()
    }

    fn act_or_not<O: Observer>(&self, step: &Step, observer: O) -> Option<Result<(), String>> {
        let model = &self.model;
        let space = |space: u8| pick(&self.reference.borrow().spaces, space);
        let any_site = |at: u8| pick(&self.sites(|_, _| true), at);
        // The page at a place, where the pick is even: calls that pick alike are about the same page.
        let placed = |at: u8| {
            let site = any_site(at).filter(|_| at % 2 == 0)?;
            model.pte(site).pfn().filter(|_| model.pte(site).is_present())
        };
        let frame = |at: u8| placed(at).or_else(|| pick(&self.frames(), at));
        let frame_with_buffers = |at: u8| {
            let has_buffers = |pfn: &Pfn| self.flags(*pfn).contains(PageFlags::PRIVATE);
            let mut frames = self.frames();
            frames.retain(has_buffers);
            placed(at).filter(has_buffers).or_else(|| pick(&frames, at))
        };
        match *step {
            Step::MapAnon { space: at, page, pages } => {
                let (site, pages) = (Site::new(space(at)?, Vpn::new(page.into())), u64::from(pages));
                if self.reference.borrow().is_free(site, pages) {
                    self.note(format!("map {} x{pages} anon", site_name(site)));
                    model.map_anon(site, pages);
                    self.reference.borrow_mut().map(site, pages, What::Anon);
                }
            }
            Step::MapFile {
                space: at,
                page,
                pages,
                file,
                index,
                shared,
            } => {
                let (site, pages) = (Site::new(space(at)?, Vpn::new(page.into())), u64::from(pages));
                let (file, index) = (pick(&self.held().files.clone(), file)?, usize::from(index));
                if self.reference.borrow().is_free(site, pages) {
                    let how = if shared { "shared" } else { "private" };
                    self.note(format!(
                        "map {} x{pages} file={}+{index} {how}",
                        site_name(site),
                        file.raw()
                    ));
                    model.map_file(site, pages, file, index, shared);
                    let what = What::File { file, index, shared };
                    self.reference.borrow_mut().map(site, pages, what);
                }
            }
            Step::Read { at: u8::MAX, cpu } => {
                let site = Site::new(space(0)?, Vpn::new(0x3f));
                return Some(self.access(site, cpu, Op::Read, observer));
            }
            Step::Read { at, cpu } => return Some(self.access(any_site(at)?, cpu, Op::Read, observer)),
            Step::Write { at, cpu } => {
                let site = any_site(at)?;
                return Some(self.access(site, cpu, Op::Write(self.new_word()), observer));
            }
            Step::SwapIn { at, write } => {
                let swapped = self.sites(|_, pte| matches!(pte, Pte::Swap { .. }));
                let op = if write { Op::Write(self.new_word()) } else { Op::Read };
                return Some(self.access(pick(&swapped, at)?, 0, op, observer));
            }
            Step::Again { nth, write } => {
                // The same CPU: what it remembers of the place must not be used where the place has changed.
                let (site, cpu) = *self.recent.borrow().iter().rev().nth(nth.into())?;
                let op = if write { Op::Write(self.new_word()) } else { Op::Read };
                return Some(self.access(site, cpu, op, observer));
            }
            Step::Fork { space: at } => {
                let parent = space(at)?;
                let ever = self.counts.borrow().get("spaces").copied().unwrap_or(0) as usize;
                if self.reference.borrow().spaces.len() < ALIVE && ever + 1 < SPACES {
                    self.count("spaces");
                    self.note(format!("fork m{}", parent.raw()));
                    let child = model.fork(parent, observer);
                    self.reference.borrow_mut().fork(parent, child);
                }
            }
            Step::Exit { space: at } => {
                if self.reference.borrow().spaces.len() > 1 {
                    let space: SpaceId = space(at)?;
                    self.note(format!("exit m{}", space.raw()));
                    model.exit(space, observer);
                    self.reference.borrow_mut().exit(space);
                }
            }
            Step::Protect { at, pages, write } => {
                let site = any_site(at)?;
                let how = if write { "rw" } else { "ro" };
                self.note(format!("protect {} x{pages} {how}", site_name(site)));
                model.protect(site, pages.into(), write, observer);
                let mut reference = self.reference.borrow_mut();
                reference.change(site, pages.into(), |page| page.writable = write);
            }
            Step::Unmap { at, pages } => {
                let site = any_site(at)?;
                self.note(format!("unmap {} x{pages}", site_name(site)));
                model.munmap(site, pages.into(), observer);
                self.reference.borrow_mut().unmap(site, pages.into());
            }
            Step::Move { at, pages, to } => {
                let (site, to) = (any_site(at)?, Vpn::new(to.into()));
                self.note(format!("mremap {} x{pages} +{:#x}", site_name(site), to.raw()));
                let moved = model.mremap(site, pages.into(), to, observer);
                let expected = self.reference.borrow_mut().relocate(site, pages.into(), to);
                if moved != expected {
                    return Some(Err(format!("mremap said {moved}, and should have said {expected}")));
                }
            }
            Step::Mlock { at, pages, locked } => {
                let site = any_site(at)?;
                self.note(format!("mlock {} x{pages} {locked}", site_name(site)));
                model.mlock(site, pages.into(), locked);
                let mut reference = self.reference.borrow_mut();
                reference.change(site, pages.into(), |page| page.locked = locked);
            }
            Step::Remap { at, index } => {
                let shared = self.sites(|site, _| self.reference.borrow().pages[&site].shared());
                let (site, index) = (pick(&shared, at)?, usize::from(index));
                self.note(format!("nonlinear {} page {index}", site_name(site)));
                model.remap_file(site, index as u64, observer);
                let mut reference = self.reference.borrow_mut();
                reference.change(site, 1, |page| page.stands_for = Some(index));
            }
            Step::Truncate { file, pages } => {
                let file = pick(&self.held().files.clone(), file)?;
                self.truncate(file, pages.into(), observer);
            }
            Step::CutOff { at } => {
                let (file, index) = self.reference.borrow().pages[&any_site(at)?].file()?;
                self.truncate(file, index, observer);
            }
            Step::SwapOut { at } => {
                let pfn = frame(at).filter(|pfn| model.page(*pfn).mapping().is_anon())?;
                self.note(format!("swap out {}", self.name(pfn)));
                let before = self.entries();
                model.swap_out(pfn);
                // Reclaim tells nobody; the checker of traces wants to know who does not map the page any more.
                for (site, before) in before.into_iter().filter(|(site, pte)| model.pte(*site) != *pte) {
                    observer.note(|| Event::Zap { site, before });
                }
            }
            Step::SwapCache { at } => {
                let pfn = frame(at).filter(|pfn| model.page(*pfn).mapping().is_anon())?;
                self.note(format!("swapcache {}", self.name(pfn)));
                model.swap_cache(pfn);
            }
            Step::Wait { at, write } => {
                let in_flight = self.sites(|_, pte| pte.is_migration());
                let op = if write { Op::Write(self.new_word()) } else { Op::Read };
                self.wait(pick(&in_flight, at)?, op);
            }
            Step::SoftDirty { at } => {
                let site = any_site(at)?;
                self.note(format!("soft_dirty {}", site_name(site)));
                model.mark_soft_dirty(site);
            }
            Step::SwapOn { ty } => {
                let ty = SwapType::new(ty)?;
                self.note(format!("swapon {ty}"));
                let (done, kind) = (model.swapon(ty), model.swap_layout().kind(ty));
                if done.is_ok() != (kind == TypeKind::SwapFile) {
                    return Some(Err(format!(
                        "swapon said {done:?} of type {ty}, which is {kind:?} (I40)"
                    )));
                }
            }
            Step::DirtyBuffer { at, nth } => {
                let pfn = frame_with_buffers(at)?;
                if !self.is_locked_by_a_run(pfn) {
                    self.note(format!("dirty buffer {nth} of {}", self.name(pfn)));
                    model.dirty_buffer(pfn, nth.into());
                }
            }
            Step::Reading { at } => {
                // What is mapped has been read, and so has what a run has looked at.
                let unread = |pfn: &Pfn| model.page(*pfn).mapcount() == 0 && !self.in_run.get();
                let pfn = frame(at).filter(unread)?;
                if let Ok(locked) = self.try_lock(model.get(pfn)?) {
                    self.note(format!("begin reading {}", self.name(pfn)));
                    model.edit_flags(&locked, PageFlags::empty(), PageFlags::UPTODATE);
                    self.held().locks.push(locked);
                }
            }
            Step::Dirty { at } => {
                let pfn = frame(at)?;
                // Who dirties a page without its lock found it in an entry or in the cache, and it is not frozen.
                if !self.is_locked_by_a_run(pfn) {
                    self.note(format!("dirty {}", self.name(pfn)));
                    model.dirty_page(pfn);
                }
            }
            Step::WriteBack { at } => {
                let pfn = frame(at).filter(|pfn| self.can_be_written(*pfn))?;
                if !self.is_locked_by_a_run(pfn) {
                    self.note(format!("write back {}", self.name(pfn)));
                    model.write_back(pfn);
                }
            }
            Step::BeginWriteback { at } => {
                let pfn = frame(at).filter(|pfn| self.can_be_written(*pfn))?;
                if let Some(Ok(locked)) = model.get(pfn).map(|page| self.try_lock(page)) {
                    self.note(format!("begin writeback {}", self.name(pfn)));
                    model.begin_writeback(pfn);
                    let page = model.unlock(locked);
                    model.put(page);
                }
            }
            Step::EndWriteback { nth } => {
                let pfn = pick(&self.held().written(model), nth)?;
                self.note(format!("end writeback {}", self.name(pfn)));
                model.end_writeback(pfn);
            }
            Step::Get { at } => {
                let page = model.get(frame(at)?)?;
                self.note(format!("get {}", self.name(page.pfn())));
                self.held().refs.push(page);
            }
            Step::Pin { at } => {
                let pfn = frame(at).filter(|pfn| model.pin(*pfn))?;
                self.note(format!("pin {}", self.name(pfn)));
                self.held().pins.push(pfn);
            }
            Step::Lock { at } => {
                let page = model.get(frame(at)?)?;
                if let Ok(locked) = self.try_lock(page) {
                    self.note(format!("lock {}", self.name(locked.pfn())));
                    self.held().locks.push(locked);
                }
            }
            Step::Busy { at } => {
                let pfn = frame_with_buffers(at)?;
                if !self.is_locked_by_a_run(pfn) && !self.held().busy.contains(&pfn) {
                    self.note(format!("buffers_busy {}", self.name(pfn)));
                    model.set_buffers_busy(pfn, true);
                    self.held().busy.push(pfn);
                }
            }
            Step::Isolate { at } => {
                let pfn = frame(at)?;
                if let Ok(page) = model.isolate(pfn, observer) {
                    self.note(format!("isolate {}", self.name(pfn)));
                    self.held().isolated.push_back(page);
                }
            }
            Step::Put { nth }
            | Step::Unpin { nth }
            | Step::Unlock { nth }
            | Step::Idle { nth }
            | Step::Putback { nth } => {
                self.let_go(step, nth, observer);
            }
            Step::Migrate(ref migrate) => {
                return Some(if self.in_run.get() {
                    Ok(())
                } else {
                    self.migrate(migrate)
                });
            }
        }
        Some(Ok(()))
    }

    /// Cuts a file off, unless that would wait for a run.
    fn truncate<O: Observer>(&self, file: MappingId, pages: usize, observer: O) {
        let beyond = (pages..FILE).filter_map(|index| self.model.cached(file, index));
        if !beyond.into_iter().any(|pfn| self.is_locked_by_a_run(pfn)) {
            self.note(format!("truncate file {} to {pages}", file.raw()));
            self.model.truncate(file, pages, observer);
            self.reference.borrow_mut().truncate(file, pages);
        }
    }

    fn let_go<O: Observer>(&self, step: &Step, nth: u8, observer: O) {
        fn take<T>(from: &mut Vec<T>, nth: u8) -> Option<T> {
            let n = usize::from(nth).checked_rem(from.len())?;
            Some(from.remove(n))
        }
        let model = &self.model;
        match step {
            Step::Put { .. } => {
                let page = take(&mut self.held().refs, nth);
                if let Some(page) = page {
                    self.note(format!("put {}", self.name(page.pfn())));
                    model.put(page);
                }
            }
            Step::Unpin { .. } => {
                let pfn = take(&mut self.held().pins, nth);
                if let Some(pfn) = pfn {
                    self.note(format!("unpin {}", self.name(pfn)));
                    model.unpin(pfn);
                }
            }
            Step::Unlock { .. } => {
                let locked = take(&mut self.held().locks, nth);
                if let Some(locked) = locked {
                    self.note(format!("unlock {}", self.name(locked.pfn())));
                    open(model, locked);
                }
            }
            Step::Idle { .. } => {
                let pfn = take(&mut self.held().busy, nth);
                if let Some(pfn) = pfn {
                    self.note(format!("buffers_free {}", self.name(pfn)));
                    model.set_buffers_busy(pfn, false);
                }
            }
            _ => {
                let mut list = {
                    let mut held = self.held();
                    let n = usize::from(nth).checked_rem(held.isolated.len());
                    VecDeque::from_iter(n.and_then(|n| held.isolated.remove(n)))
                };
                if let Some(page) = list.front() {
                    self.note(format!("putback {}", self.name(page.page().pfn())));
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
        let what = match op {
            Op::Read => format!("read {} on cpu {cpu}", site_name(site)),
            Op::Write(word) => format!("write {} {word:#x} on cpu {cpu}", site_name(site)),
        };
        self.note(what.clone());
        self.recent.borrow_mut().push((site, cpu));
        let expected = self.reference.borrow().access(site, op);
        let found = self.model.access(ActorId::new(cpu.into()), site, op, observer);
        match found {
            Access::MustWait(at) if self.in_run.get() && at == site => self.count("access waits for an entry"),
            // Frozen, or locked by whoever has it.
            Access::Busy(pfn) if self.is_in_use(pfn) => self.count("access waits for a page"),
            found if found == expected => {
                if let (Access::Done(word), Op::Write(_)) = (found, op) {
                    self.reference.borrow_mut().store(site, word);
                }
            }
            found => return Err(format!("{what}: {found:?}, and should be {expected:?}")),
        }
        Ok(())
    }

    /// A thread of its own touches a page in flight; what it comes to is looked at when it has.
    fn wait(&self, site: Site, op: Op) {
        let n = self.waits.borrow().len();
        let actor = ActorId::new(u32::try_from(n).unwrap_or(u32::MAX).saturating_add(FIRST_THREAD));
        self.note(format!("thread {} touches {}: {op:?}", actor.raw(), site_name(site)));
        self.waits.borrow_mut().push((actor, op));
        let recording = std::sync::Arc::clone(&self.recording.borrow());
        self.model.access_in_thread(actor, site, op, &recording);
    }

    /// What threads came to since the last look is what the reference says.
    ///
    /// # Errors
    /// As [`World::access`].
    pub(crate) fn finish_waits(&self) -> Result<(), String> {
        for (actor, site, found) in self.model.take_finished() {
            let op = self
                .waits
                .borrow()
                .iter()
                .find(|(who, _)| *who == actor)
                .map(|(_, op)| *op);
            let Some(op) = op else { continue };
            let expected = self.reference.borrow().access(site, op);
            match found {
                // Frozen at that moment: the thread would look again.
                Access::MustWait(_) | Access::Busy(_) => self.count("thread would look again"),
                found if found == expected => {
                    self.count("thread woke");
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
