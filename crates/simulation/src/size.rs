//! How large a world is, and so what is drawn for it.

/// How much of everything there is, and how much of it one call is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// CPUs, each with a TLB.
    pub cpus: u8,
    /// Memory nodes.
    pub nodes: u16,
    /// Frames of each node; together more than all spaces, files and targets can want.
    pub frames: u64,
    /// Address spaces alive at a time.
    pub alive: usize,
    /// Address spaces that there can ever be.
    pub ever: usize,
    /// Pages of a space among which areas begin.
    pub span: u8,
    /// The most pages that are mapped by one call.
    pub area: u8,
    /// The most pages that one call changes.
    pub range: u8,
    /// Files alive at a time; each fourth has the same way to move.
    pub files: usize,
    /// Pages of a file when it is made.
    pub file_pages: u8,
    /// The most pages of a run, of its batches, and on its list of new pages.
    pub run: u8,
    /// Runs for each six single calls.
    pub runs: u32,
    /// Steps of a run, roughly: where others act and failures happen.
    pub edges: u16,
    /// Of five runs, in how many steps fail; at most one step in 25 of each.
    pub failing: u32,
    /// References, pins, page locks and isolated pages that somebody has meanwhile, of each the most.
    pub held: usize,
    /// Events of a run's trace that are kept.
    pub events: usize,
}

impl Size {
    /// A few pages, so that everything meets everything, and what fails is short.
    pub const SMALL: Self = Self {
        cpus: 4,
        nodes: 2,
        // In Miri each borrow goes through all of them, and cases are short.
        frames: if cfg!(miri) { 48 } else { 160 },
        alive: 4,
        ever: 16,
        span: 20,
        area: 4,
        range: 3,
        files: 4,
        file_pages: 4,
        run: 8,
        runs: 3,
        edges: 30,
        failing: 2,
        held: 16,
        events: if cfg!(miri) { 1 << 9 } else { 1 << 13 },
    };

    /// Many CPUs, spaces and pages.
    pub const LARGE: Self = Self {
        cpus: 16,
        nodes: 4,
        frames: 1536,
        alive: 16,
        ever: 512,
        span: 96,
        area: 16,
        range: 12,
        files: 8,
        file_pages: 48,
        run: 64,
        runs: 3,
        edges: 700,
        failing: 3,
        held: 12,
        events: 1 << 13,
    };

    /// All frames.
    #[must_use]
    pub const fn all_frames(&self) -> u64 {
        self.nodes as u64 * self.frames
    }
}
