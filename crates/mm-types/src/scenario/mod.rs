//! Scenarios: texts of inputs, replayed on any backend to the same canonical trace.
//!
//! A version line, `scenario v1`, then one step a line. Empty lines and lines that start with `#` are skipped. The
//! format is for people to write; `Display` prints it as one would. Names: `p0` a page by its content, `m0` a space,
//! `b0` a file, `t1` a thread that may sleep (`t0` is the migrator), `m0+0x3` a page of a space, `b0+0x1` a page of a
//! file. Page lists are `p0 p2..p5`, ends included, at most eight items. Access is `rw` or `ro`.
//!
//! | step | meaning |
//! |---|---|
//! | `profile linux-2.6.17`, `profile modern` | whose rules |
//! | `mode async`, `sync-light`, `sync` | what a run may wait for |
//! | `reason compaction`, … | why it is asked for |
//! | `batch N`, `seed N` | pages in flight at once; seed of whatever is random |
//! | `space m0` | a new address space |
//! | `file b0 pages=4 mover=plain` | a file; its mover is `plain`, `buffers`, `fallback`, `fallback-nowrite` or `never` |
//! | `map p0 m0+0x3 anon rw` | first touch of an anonymous page, from now on `p0`; `p0..p7` maps a run of them |
//! | `map p0 m0+0x3 file=b0+0x1 rw shared` | a file's page, `shared` (the default) or `private` |
//! | `share p0 m1+0x3 ro` | the same page at another site |
//! | `touch m0+0x3`, `write m0+0x3 VALUE` | a load; a store of VALUE to the page's first word |
//! | `dirty p0`, `swapcache p0` | make dirty; put into the swap cache |
//! | `lock p0`, `unlock p0` | the page lock, by somebody else |
//! | `writeback p0`, `end_writeback p0` | writeback begins, ends |
//! | `get p0`, `put p0`, `pin p0`, `unpin p0` | an extra reference; a pin for direct access |
//! | `buffers_busy p0`, `buffers_free p0` | its buffers are locked by somebody else; are free again |
//! | `truncate p0`, `free p0` | cut off its file; its users drop it |
//! | `mlock m0+0x3`, `nonlinear m0+0x3` | the VMA at the site becomes locked, nonlinear |
//! | `protect m0+0x3 ro`, `unmap m0+0x3`, `mremap m0+0x3 m0+0x9` | mprotect, munmap, mremap of one page |
//! | `fork m0 m1` | `m1` becomes a copy of `m0` |
//! | `fault t1 m0+0x3 write` | a thread that may sleep touches the page (`read` or `write`) |
//! | `drain` | the staging arrays go to the LRU |
//! | `targets N`, `fail target 2`, `fail copy p0` | how many new pages there are; which taking, counted from 1, fails; whose copy fails |
//! | `isolate p0 p1`, `migrate p0 p1`, `putback p0 p1` | take off the LRU; one run over these; back to the LRU |
//! | `at copy: unlock p0` | do the step in the middle, just before that edge first happens in the next run |
//! | `expect moved p0`, `freed p0`, `refused p0 extra_reference` | the page's final outcome in the last run |
//! | `expect read m0+0x3 VALUE` | what a load sees |
//!
//! Edges are `unmap`, `flush`, `copy`, `freeze`, `switch`, `restore`, `unlock`, `wait`. What stands alone in time (settings,
//! `isolate`, `migrate`, outcomes expected) cannot be done in the middle.
//!
//! ```
//! use mm_types::scenario::{Scenario, Step};
//!
//! let text = "scenario v1\nspace m0\nmap p0 m0+0x3 anon rw\nmigrate p0\nexpect moved p0\n";
//! let last = Scenario::new(text)?.last().unwrap()?;
//! assert_eq!(last.1.to_string(), "expect moved p0");
//! # Ok::<(), mm_types::trace::ParseError>(())
//! ```

mod pages;
mod parse;
mod step;

pub use pages::{Items, PageRange, PageSet};
pub use parse::{HEADER, Scenario};
pub use step::{Backing, Edge, Expectation, Instruction, Mover, Sharing, Step};
