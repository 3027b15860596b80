//! The same reasons with nothing emulated but the kernel: pages of this process that stay, in front of the real memory manager.
//!
//! Only those that a process can meet or bring about. Each provocation has a machine of its own with one page.

use core::time::Duration;
use std::time::Instant;

use backend_user::{Area, Kernel, Machine, Migrate, Prot, Sharing};
use migrate_core::{Frames, PageRef, UsesPageMap, isolate_lru_page, migrate_prep, putback_lru_pages};
use mm_types::{Mode, NodeId, Outcome, PAGE_SIZE, PageFlags, Pfn, Refusal};

use super::crowd::Crowd;

/// Provokes a refusal in user space; `None` where that is not possible.
///
/// # Errors
/// What went wrong, or what came instead.
pub fn provoke(word: &str) -> Option<Result<Refusal, String>> {
    let how: fn(&Stage) -> Result<Vec<Outcome>, String> = match word {
        "lock_busy" => lock_busy,
        "writeback" => |stage| stage.marked(PageFlags::WRITEBACK),
        "poisoned" => |stage| stage.marked(PageFlags::HWPOISON),
        "extra_reference" => extra_reference,
        "not_on_lru" => not_on_lru,
        "no_target" => no_target,
        "mapping_limit" if Crowd::is_possible() => mapping_limit,
        _ => return None,
    };
    Some(Stage::new().and_then(|stage| {
        let outcomes = how(&stage)?;
        stage.unharmed()?;
        let refusal = outcomes.iter().find_map(|outcome| match outcome {
            Outcome::Refused(refusal) if refusal.word() == word => Some(*refusal),
            _ => None,
        });
        refusal.ok_or_else(|| format!("{word}: {outcomes:?}"))
    }))
}

/// What the page says.
const WORD: u64 = 0x600d_f00d;
/// Frames of each node.
const FRAMES: usize = 4;

/// A machine with one page that says [`WORD`].
struct Stage {
    machine: Machine,
    area: Area,
    pfn: Pfn,
}

impl Stage {
    fn new() -> Result<Self, String> {
        let text = |error: backend_user::MachineError| error.to_string();
        let machine = Machine::builder()
            .nodes(2)
            .frames_per_node(FRAMES)
            .build()
            .map_err(text)?;
        // Twice the frames there are: who wants may use up a node.
        let space = machine.space(2 * FRAMES).map_err(text)?;
        let area = space
            .map_anonymous(1, Prot::ReadWrite, Sharing::Private)
            .map_err(text)?;
        let word = area.words().first().ok_or("an area without words")?;
        word.store(WORD, core::sync::atomic::Ordering::Relaxed);
        let pfn = space.entry(0).pfn().ok_or("the page is not mapped")?;
        Ok(Self { machine, area, pfn })
    }

    fn kernel(&self) -> &Kernel {
        self.machine.kernel()
    }

    fn page(&self) -> Result<PageRef, String> {
        self.kernel().get(self.pfn).ok_or_else(|| "the page is gone".to_owned())
    }

    fn run(&self, to: u16) -> Result<Vec<Outcome>, String> {
        let mut outcomes = Vec::new();
        let mut outcome = |_, outcome| outcomes.push(outcome);
        let request = Migrate::new(&self.area, NodeId::new(to)).mode(Mode::Async);
        let report = self.machine.migrate(request.outcome(&mut outcome));
        report.map_err(|error| error.to_string())?;
        Ok(outcomes)
    }

    /// A run while a flag of the page is set.
    fn marked(&self, flag: PageFlags) -> Result<Vec<Outcome>, String> {
        let map = self.kernel().page_map();
        let page = map.page(self.pfn).ok_or("no such frame")?;
        page.flags().edit(flag, PageFlags::empty());
        let outcomes = self.run(1);
        page.flags().edit(PageFlags::empty(), flag);
        outcomes
    }

    /// Whatever was tried, the page must be as it was, and move once nobody is in the way.
    fn unharmed(&self) -> Result<(), String> {
        let read = || {
            self.area
                .words()
                .first()
                .map(|word| word.load(core::sync::atomic::Ordering::Relaxed))
        };
        if read() != Some(WORD) {
            return Err(format!("the page says {:x?}", read()));
        }
        Ok(())
    }
}

fn lock_busy(stage: &Stage) -> Result<Vec<Outcome>, String> {
    let kernel = stage.kernel();
    let locked = kernel
        .try_lock(stage.page()?)
        .map_err(|_| "the page is locked already")?;
    let outcomes = stage.run(1);
    kernel.put(kernel.unlock(locked));
    outcomes
}

fn extra_reference(stage: &Stage) -> Result<Vec<Outcome>, String> {
    let page = stage.page()?;
    let outcomes = stage.run(1);
    stage.kernel().put(page);
    outcomes
}

fn not_on_lru(stage: &Stage) -> Result<Vec<Outcome>, String> {
    let kernel = stage.kernel();
    let page = stage.page()?;
    migrate_prep(kernel);
    let isolated = isolate_lru_page(kernel, &page, ()).map_err(|refusal| refusal.to_string());
    kernel.put(page);
    let isolated = isolated?;
    let outcomes = stage.run(1);
    putback_lru_pages(kernel, &mut Some(isolated), ());
    outcomes
}

/// Fills the other node.
fn no_target(stage: &Stage) -> Result<Vec<Outcome>, String> {
    let text = |error: backend_user::MachineError| error.to_string();
    stage.machine.prefer(NodeId::new(1)).map_err(text)?;
    let others = stage
        .area
        .space()
        .map_anonymous(FRAMES, Prot::ReadWrite, Sharing::Private)
        .map_err(text)?;
    for word in others.words().iter().step_by(PAGE_SIZE / 8) {
        word.store(1, core::sync::atomic::Ordering::Relaxed);
    }
    stage.run(1)
}

/// Uses up the mappings that this process may have.
fn mapping_limit(stage: &Stage) -> Result<Vec<Outcome>, String> {
    let crowd = Crowd::gather().map_err(|error| error.to_string())?;
    // The machine looks at the process's mappings now and then, not at each call.
    let begun = Instant::now();
    let mut to = 1;
    let outcomes = loop {
        let outcomes = stage.run(to)?;
        if !matches!(outcomes.last(), Some(Outcome::Moved { .. })) || begun.elapsed() > Duration::from_secs(5) {
            break outcomes;
        }
        to = 1 - to;
    };
    drop(crowd);
    Ok(outcomes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_process_can_meet_is_met() {
        for word in [
            "lock_busy",
            "writeback",
            "poisoned",
            "extra_reference",
            "not_on_lru",
            "no_target",
        ] {
            let refusal = provoke(word).unwrap().unwrap_or_else(|error| panic!("{error}"));
            assert_eq!(refusal.word(), word);
        }
        assert!(provoke("mlocked").is_none());
    }
}
