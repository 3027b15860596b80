//! `migrate_pages()`: passes over the caller's list, batches within a pass, steps within a batch.
//!
//! One engine for every profile. A batch is one page in 2006, and in every round that may sleep: while the locks of several
//! pages are held only try-locks are used (I32).

use mm_types::museum::{self, Bug};
use mm_types::trace::{Event, Observer};
use mm_types::{Mapping, Outcome, PageFlags, Refusal};

use crate::guard::pfn_of;
use crate::profile::Round;
use crate::run::{Cx, Held, PassNow, Pending, Run, Stage, batch};
use crate::waiting::{May, Never, Waiting};
use crate::{Args, Backend, ConfigError, Isolated, List, MoveOrder, Slot, Tally, Target, Wait};

/// Moves the pages of `args.from` to new frames; may sleep as the mode allows (2.6.17 `migrate_pages`, 6.x `migrate_pages`).
///
/// On entry the pages are isolated and unlocked, and the caller holds no page lock and no spin lock. On exit every page is on
/// one of the caller's lists, unlocked, and no migration entry names any of them. Pages left on `from` and `failed` are the
/// caller's to put back ([`putback_lru_pages`](crate::putback_lru_pages)).
///
/// # Errors
/// [`ConfigError`]: nothing was touched. What happened to pages is in the tally, the lists and `args.outcome`.
pub fn migrate_pages<B, L, T, O>(backend: &B, args: Args<'_, B, L, T, O>) -> Result<Tally, ConfigError>
where
    B: Backend + Wait,
    L: List<Isolated<B::Page>>,
    T: Target<B>,
    O: Observer,
{
    run::<May, B, L, T, O>(backend, args)
}

/// As [`migrate_pages`], on any backend, and never sleeps.
///
/// # Errors
/// [`ConfigError::WouldBlock`] where the profile would sleep in this mode, and as [`migrate_pages`].
pub fn migrate_pages_nowait<B, L, T, O>(backend: &B, args: Args<'_, B, L, T, O>) -> Result<Tally, ConfigError>
where
    B: Backend,
    L: List<Isolated<B::Page>>,
    T: Target<B>,
    O: Observer,
{
    if args.profile.blocks(args.mode) {
        return Err(ConfigError::WouldBlock(args.mode));
    }
    run::<Never, B, L, T, O>(backend, args)
}

fn run<W, B, L, T, O>(backend: &B, args: Args<'_, B, L, T, O>) -> Result<Tally, ConfigError>
where
    W: Waiting<B>,
    B: Backend,
    L: List<Isolated<B::Page>>,
    T: Target<B>,
    O: Observer,
{
    if args.slots.is_empty() {
        return Err(ConfigError::NoSlots);
    }
    if !args.slots.iter().all(Slot::is_empty) {
        return Err(ConfigError::SlotInUse);
    }
    let (profile, mode, reason, observer) = (args.profile, args.mode, args.reason, args.observer);
    observer.note(|| Event::Start {
        rules: profile.rules,
        mode,
        reason,
    });
    let mut run = Run {
        cx: Cx {
            backend,
            profile,
            observer,
        },
        from: args.from,
        target: args.target,
        moved: args.moved,
        failed: args.failed,
        slots: args.slots,
        used: 0,
        pending: Pending::new(),
        set_aside: None,
        held_ns: 0,
        in_hand: None,
        outcome: args.outcome,
        tally: Tally::default(),
        pass: PassNow {
            number: 0,
            last: false,
            tries: 1,
            may_lock: false,
            may_wait_writeback: false,
            uptodate_only: false,
        },
    };
    run.rounds::<W>(profile.rounds(mode));
    let tally = run.tally;
    observer.note(|| Event::End {
        succeeded: tally.moved.saturating_add(tally.freed),
        failed: tally.failed,
        left: tally.retry.saturating_add(tally.not_reached),
    });
    Ok(tally)
}

/// What became of a page that a batch was to take.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Begun {
    /// It is in the batch, refused or not.
    Taken,
    /// Held with the others it would exceed the stall budget: it is for the next batch.
    Full,
    /// There is no new page for it.
    Exhausted,
}

/// How a pass ended.
#[derive(Clone, Copy, PartialEq, Eq)]
enum PassEnd {
    /// Every page was tried.
    Whole,
    /// There was no new page for the next one; so many were not reached.
    Exhausted(usize),
}

impl<B, L, T, O> Run<'_, B, L, T, O>
where
    B: Backend,
    L: List<Isolated<B::Page>>,
    T: Target<B>,
    O: Observer,
{
    fn rounds<W: Waiting<B>>(&mut self, rounds: [Round; 2]) {
        let passes = rounds.iter().fold(0u32, |sum, round| sum.saturating_add(round.passes));
        for round in rounds {
            for n in 0..round.passes {
                let number = self.tally.passes;
                let waits = |round: &Round| round.writeback_from.is_some_and(|from| n >= from);
                let in_a_batch = museum::has(Bug::B53) && rounds.iter().any(waits);
                self.pass = PassNow {
                    number,
                    last: number.saturating_add(1) == passes,
                    tries: if round.batch > 1 { round.passes } else { 1 },
                    may_lock: W::MAY && round.lock_from.is_some_and(|from| n >= from),
                    may_wait_writeback: W::MAY && (waits(&round) || in_a_batch),
                    uptodate_only: round.uptodate_only,
                };
                self.tally.passes = number.saturating_add(1);
                if !museum::has(Bug::B69) {
                    self.tally.retry = 0;
                }
                self.cx.observer.note(|| Event::Pass { number });
                let end = self.one_pass::<W>(round.batch);
                if let PassEnd::Exhausted(unreached) = end {
                    // 2.6.17 tries again while anything asks for it, though nothing but freed pages can come of it; today's
                    // kernel gives up with -ENOMEM.
                    if self.cx.profile.new_page_first || self.tally.retry == 0 || self.pass.last {
                        self.give_up(unreached);
                        return;
                    }
                } else if self.tally.retry == 0 {
                    return;
                }
            }
        }
    }

    /// Tries every page of `from` once, in order; those refused for now are on `from` again, in their old order.
    fn one_pass<W: Waiting<B>>(&mut self, batch: usize) -> PassEnd {
        // A pass takes one page at least, or it would go on for ever: `max_batch` is the caller's to set.
        let batch = batch.min(self.slots.len()).max(1);
        let mut left = self.from.len();
        let mut exhausted = false;
        while left > 0 && !exhausted {
            self.held_ns = self.cx.profile.stall.map_or(0, |stall| stall.batch_ns);
            while left > 0 && self.used < batch {
                let Some(page) = self.set_aside.take().or_else(|| self.from.pop_front()) else {
                    break;
                };
                match self.begin::<W>(page) {
                    Begun::Taken => left = left.saturating_sub(1),
                    Begun::Full => break,
                    Begun::Exhausted => {
                        left = left.saturating_sub(1);
                        exhausted = true;
                        break;
                    }
                }
            }
            self.pending.barrier(self.cx);
            self.move_batch::<W>();
            self.finish_batch(true);
        }
        if !exhausted {
            return PassEnd::Whole;
        }
        // Order: those refused in this pass came before the page at which it stopped, and that one before the rest.
        let mut unreached = left;
        if let Some(page) = self.set_aside.take() {
            self.from.push_back(page);
            unreached = unreached.saturating_add(1);
        }
        for _ in 0..left {
            if let Some(page) = self.from.pop_front() {
                self.from.push_back(page);
            }
        }
        PassEnd::Exhausted(unreached)
    }

    /// The run ends for want of new pages: tells the outcome of every page that has none yet.
    fn give_up(&mut self, unreached: usize) {
        let total = self.from.len();
        // In a last pass the pages before the first unreached one have had their last word.
        let told = if self.pass.last {
            total.saturating_sub(unreached)
        } else {
            0
        };
        for n in 0..total {
            self.in_hand = self.from.pop_front();
            if n >= told {
                let refusal = Refusal::NoTarget;
                if let Some(page) = &self.in_hand {
                    let pfn = self.cx.backend.pfn(page.page());
                    self.cx.observer.note(|| Event::Refuse {
                        pfn,
                        refusal,
                        last: true,
                    });
                }
                self.tell(true, Outcome::Refused(refusal));
            }
            self.keep();
        }
        self.tally.not_reached = u32::try_from(unreached).unwrap_or(u32::MAX);
    }

    /// Takes one page into the batch: locks and unmaps it. One that it does not take is set aside.
    fn begin<W: Waiting<B>>(&mut self, page: Isolated<B::Page>) -> Begun {
        let cx = self.cx;
        let used = self.used;
        let alone = used == 0;
        let Some(slot) = self.slots.get_mut(used) else {
            self.from.push_back(page);
            return Begun::Taken;
        };
        let page = page.into_page();
        let references = cx.backend.count(&page);
        let freed = references == 1;
        slot.old = Held::Page(page);
        // From here on the slot holds the page, and so does the end of the batch.
        self.used = used.saturating_add(1);
        if freed {
            // Only the isolation holds it: its users freed it meanwhile. Uses no new page.
            slot.state.stage = Stage::Freed;
            return Begun::Taken;
        }
        let held_ns = match cx.profile.stall {
            None => 0,
            Some(stall) => {
                let held_ns = self.held_ns.saturating_add(stall.page(references));
                if held_ns > stall.hold_ns && alone {
                    slot.refuse(Refusal::StallBudget);
                    return Begun::Taken;
                }
                if held_ns > stall.hold_ns {
                    self.set_last_aside();
                    return Begun::Full;
                }
                held_ns
            }
        };
        let stop = if cx.profile.new_page_first {
            slot.take_new(cx, &mut self.target).err()
        } else {
            self.target.is_exhausted().then_some(Refusal::NoTarget)
        };
        match stop {
            None => {}
            Some(Refusal::NoTarget) => {
                self.set_last_aside();
                return Begun::Exhausted;
            }
            Some(refusal) => {
                slot.refuse(refusal);
                return Begun::Taken;
            }
        }
        match slot.lock_and_unmap::<W, O>(cx, &mut self.pending, &self.pass, alone) {
            Ok(()) => self.held_ns = held_ns,
            Err(refusal) => slot.refuse(refusal),
        }
        Begun::Taken
    }

    /// Takes the page that the batch got last out of it again, untouched, and sets it aside.
    fn set_last_aside(&mut self) {
        self.used = self.used.saturating_sub(1);
        if let Some(Held::Page(page)) = self.slots.get_mut(self.used).map(|slot| slot.old.take()) {
            self.set_aside = Some(Isolated::from_isolated(page));
        }
    }

    /// Moves every page of the batch that is still in work.
    fn move_batch<W: Waiting<B>>(&mut self) {
        let cx = self.cx;
        let may_wait = self.pass.may_lock;
        let tries = self.pass.tries;
        for attempt in 1..=tries {
            let mut again = false;
            // A page refused for now keeps its entries and both locks, and is tried again at once (6.3, phase M).
            let mut settle = |slot: &mut Slot<B>, done: Result<(), Refusal>| match done {
                Err(refusal) if attempt < tries && slot.is_pending() && refusal.is_transient() => again = true,
                Err(refusal) => slot.refuse(refusal),
                Ok(()) => {}
            };
            for slot in batch(self.slots, self.used) {
                if !slot.is_pending() {
                    continue;
                }
                // Has it one already, this is another try.
                if !cx.profile.new_page_first && slot.new.is_nothing() {
                    let taken = slot.take_new(cx, &mut self.target).and_then(|()| slot.lock_new(cx));
                    if let Err(refusal) = taken {
                        slot.refuse(refusal);
                        continue;
                    }
                }
                let done = match cx.profile.order {
                    MoveOrder::SwitchThenCopy => slot.switch_then_copy::<W, O>(cx, &mut self.pending),
                    MoveOrder::CopyThenSwitch => slot.copy_first::<W, O>(cx, &mut self.pending, may_wait),
                };
                settle(slot, done);
            }
            for slot in batch(self.slots, self.used) {
                if slot.is_pending() {
                    let done = slot.switch_copied(cx);
                    settle(slot, done);
                }
            }
            if !again {
                break;
            }
        }
    }
}

impl<B: Backend> Slot<B> {
    /// Locks the old page, waits for its writeback, and unmaps it, as far as this pass may.
    fn lock_and_unmap<W: Waiting<B>, O: Observer>(
        &mut self,
        cx: Cx<'_, B, O>,
        pending: &mut Pending<B>,
        pass: &PassNow,
        alone: bool,
    ) -> Result<(), Refusal> {
        let Held::Page(page) = self.old.take() else {
            return Ok(());
        };
        let locked = match cx.backend.try_lock(page) {
            Ok(locked) => locked,
            Err(page) => match lock_busy::<W, B, O>(cx, page, pass, alone) {
                Ok(locked) => locked,
                Err(page) => {
                    self.old = Held::Page(page);
                    return Err(Refusal::LockBusy);
                }
            },
        };
        let pfn = pfn_of(cx.backend, &locked);
        cx.observer.note(|| Event::Lock(pfn));
        let page = cx.backend.page(&locked);
        let flags = cx.backend.flags(page);
        let pins = cx.backend.pins(page);
        self.old = Held::Locked(locked);
        let Some(locked) = self.old.locked() else { return Ok(()) };
        if flags.contains(PageFlags::HWPOISON) {
            return Err(Refusal::Poisoned);
        }
        if flags.contains(PageFlags::WRITEBACK) {
            let alone = alone || museum::has(Bug::B53);
            if !(alone && pass.may_wait_writeback) {
                return Err(Refusal::Writeback);
            }
            cx.observer.note(|| Event::WaitWriteback(pfn));
            if !W::wait_writeback(cx.backend, locked) {
                return Err(Refusal::Writeback);
            }
        }
        if pins > 0 {
            return Err(Refusal::Pinned { pins });
        }
        if cx.profile.new_page_first {
            self.lock_new(cx)?;
            // What the page belongs to is looked at where it can matter; under the page lock it is what it was.
            if flags.contains(PageFlags::PRIVATE) && !museum::has(Bug::B37) {
                let Some(old) = self.old.locked() else { return Ok(()) };
                if cx.backend.mapping(cx.backend.page(old)) == Mapping::None {
                    // 6.x: an orphaned page with buffers; they are freed if they can be, and the page then frees itself.
                    cx.backend.release_buffers(old);
                    return Err(Refusal::Truncated);
                }
            }
        }
        if museum::has(Bug::B17) {
            self.refuse_dirty_early(cx)?;
        }
        self.unmap(cx, pending)
    }
}

/// Waits for a page lock that somebody else holds, where this pass may.
#[cold]
fn lock_busy<W: Waiting<B>, B: Backend, O: Observer>(
    cx: Cx<'_, B, O>,
    page: B::Page,
    pass: &PassNow,
    alone: bool,
) -> Result<B::Locked, B::Page> {
    // While locks of several pages are held only try-locks exist; a light run does not wait for a page being read.
    let may_wait = alone
        && pass.may_lock
        && (!pass.uptodate_only || cx.backend.flags(&page).contains(PageFlags::UPTODATE) || museum::has(Bug::B56));
    if may_wait { W::lock(cx.backend, page) } else { Err(page) }
}
