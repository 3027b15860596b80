//! What a kernel lends: memory, frames, and interrupts to other CPUs.

use core::ptr::NonNull;
use core::sync::atomic::AtomicU64;

use mm_types::{Pfn, Sleep};

use crate::Stale;

/// One frame, as page tables see it: 512 words that other CPUs read and write too.
pub type FrameWords = [AtomicU64; 512];

/// Where the kernel sees its frames (Linux: the direct map, `page_address`).
///
/// # Implementation safety
///
/// 1. A pointer returned is aligned to 8 bytes, and valid for reads and writes of 4,096 bytes for as long as `self` is not dropped.
/// 2. The pointers of different frames do not overlap; the pointer of one frame is always the same.
/// 3. While this crate owns a frame (it took it from a [`FrameSource`] and did not give it back), and while a page table or a page
///    descriptor of this crate names it, nobody accesses its bytes but through atomics, a CPU's translations, and this crate.
/// 4. Moving `self` does not move the frames.
pub unsafe trait FrameMapping {
    /// Returns where the kernel sees `pfn`, or `None` where it does not.
    ///
    /// Called under spinning locks; must not sleep.
    fn frame(&self, pfn: Pfn) -> Option<NonNull<FrameWords>>;
}

/// What a frame is wanted for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Purpose {
    /// A page table.
    Table,
    /// Contents: a fault's.
    Page,
}

/// Where frames come from and go to (Linux: `alloc_page`, `__free_page`).
///
/// Frames given have a descriptor in the page map, with a count of 0, and no translation names them. Called under spinning
/// locks, so it must not sleep and must not call the kernel it is lent to; its own lock is the innermost.
pub trait FrameSource {
    /// Gives a free frame, with any contents; `None` where there is none.
    fn take(&self, purpose: Purpose) -> Option<Pfn>;

    /// Takes a frame back, whatever it was used for. No CPU has a translation to it any more.
    fn give_back(&self, pfn: Pfn);
}

/// Invalidating translations on every CPU that may have them (Linux: `flush_tlb_mm_range`, `arch_tlbbatch_flush`).
pub trait Shootdown {
    /// Returns when no CPU can use a translation that `stale` names, nor anything cached on the way to one.
    ///
    /// The entries in memory are changed already. Called with no spinning lock held, with interrupts as the caller of this crate
    /// has them, perhaps with page locks held. The CPU that calls is one of the CPUs meant. Returning means acknowledged, not
    /// sent: the next thing done is a copy that another CPU's late store would escape.
    ///
    /// # PCID
    ///
    /// A space is named, never a PCID: this crate neither assigns nor knows them. A kernel that runs without PCIDs has one tag,
    /// and CPUs that do not run the space have nothing of it (a CR3 load dropped it). A kernel that uses them must also reach
    /// CPUs that ran the space before and may come back to it without a flush: by INVPCID there, or by making their next load
    /// of that PCID flush (Linux: `tlb_gen`). INVLPG on the space's own CPU reaches the current PCID only. Global translations
    /// are not asked for: user entries are never global.
    fn shootdown(&self, stale: Stale<'_>);
}

/// A kernel's four promises in one value; nothing to write.
pub trait Platform: FrameMapping + FrameSource + Shootdown + Sleep {}

impl<P: FrameMapping + FrameSource + Shootdown + Sleep> Platform for P {}
