//! What the fault server does for handlers: whatever may lock, allocate or read a file.

use std::sync::Arc;

use migrate_core::free_unused;
use mm_types::{Pfn, SpaceId};

use crate::error::MachineError;
use crate::fill::Filled;
use crate::kernel::Kernel;
use crate::sys::fork::say;
use crate::sys::server::{Answer, Request};

/// In place of a space: the address is a frame whose last reference a waiting thread dropped.
pub(crate) const FREE_FRAME: u64 = u64::MAX;

/// Answers one request.
pub(crate) fn serve(kernel: &Arc<Kernel>, request: Request) -> Answer {
    if request.space == FREE_FRAME {
        free_unused(&**kernel, Pfn::new(request.addr as u64));
        return Answer::Done;
    }
    let id = SpaceId::new(u32::try_from(request.space).unwrap_or(u32::MAX));
    let space = kernel.areas().space(id).cloned();
    let page = space.as_ref().and_then(|space| space.range.page_of(request.addr));
    let (Some(space), Some(page)) = (space, page) else {
        return Answer::Failed;
    };
    match kernel.fill(&space, page, request.write, kernel.options.around) {
        Ok(Filled::Accessible) => Answer::Done,
        // Nobody who holds a page lock waits for this thread: they never touch emulated memory.
        Ok(Filled::Busy(pfn)) => {
            kernel.wait_unlocked(pfn);
            Answer::Done
        }
        Err(MachineError::Denied) => Answer::Failed,
        Err(error) => {
            // The thread gets a signal that says nothing of this.
            let line = format!("backend-user: a page that was touched could not be brought in: {error}\n");
            say(line.as_bytes());
            Answer::Failed
        }
    }
}
