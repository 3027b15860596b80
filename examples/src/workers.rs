//! The program whose pages move: threads that write and read until told to stop, then look at everything once more.

use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::Mutex;

use crate::file_check;
use crate::random::Random;
use crate::words::{WORDS, Writer};

/// The live memory that threads use.
#[derive(Clone, Debug)]
pub struct Memory<'m> {
    /// Anonymous memory, which writers share.
    pub anon: &'m [AtomicU64],
    /// The file, once for each space that maps it.
    pub views: Vec<&'m [AtomicU64]>,
    /// The file's contents, read by ordinary means.
    pub contents: &'m [u8],
}

impl Memory<'_> {
    const fn anon_pages(&self) -> usize {
        self.anon.len() / WORDS
    }

    const fn file_pages(&self) -> usize {
        self.contents.len().div_ceil(WORDS * 8)
    }
}

/// How many examples of damage are kept, so that a job gone wrong still ends with a report.
const EXAMPLES: usize = 8;

/// What all threads found so far.
#[derive(Debug, Default)]
pub struct Findings {
    lost: AtomicU64,
    wrong: AtomicU64,
    words_written: AtomicU64,
    words_read: AtomicU64,
    examples: Mutex<Vec<String>>,
}

impl Findings {
    /// Returns how many words a writer did not find as it had left them.
    #[must_use]
    pub fn lost_writes(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }

    /// Returns how many words of the file were read wrongly.
    #[must_use]
    pub fn wrong_reads(&self) -> u64 {
        self.wrong.load(Ordering::Relaxed)
    }

    /// Returns how many words were written.
    #[must_use]
    pub fn words_written(&self) -> u64 {
        self.words_written.load(Ordering::Relaxed)
    }

    /// Returns how many words of the file were read and compared.
    #[must_use]
    pub fn words_read(&self) -> u64 {
        self.words_read.load(Ordering::Relaxed)
    }

    /// Returns the first few things found, in words.
    #[must_use]
    pub fn examples(&self) -> Vec<String> {
        self.examples.lock().map(|all| all.clone()).unwrap_or_default()
    }

    /// Counts a word that its writer did not find as it had left it.
    pub(crate) fn lost(&self, text: impl FnOnce() -> String) {
        self.lost.fetch_add(1, Ordering::Relaxed);
        self.example(text);
    }

    /// Counts a word that a reader of a file found to be wrong.
    pub(crate) fn wrong(&self, text: impl FnOnce() -> String) {
        self.wrong.fetch_add(1, Ordering::Relaxed);
        self.example(text);
    }

    fn example(&self, text: impl FnOnce() -> String) {
        if let Ok(mut all) = self.examples.lock()
            && all.len() < EXAMPLES
        {
            all.push(text());
        }
    }
}

/// What a thread does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Writes anonymous memory.
    Writer,
    /// Reads the file.
    Reader,
    /// Does both in turn: there is only one thread.
    Both,
}

/// Returns what thread `number` of `threads` does: the first half write, the others read.
#[must_use]
pub const fn role(number: usize, threads: usize) -> Role {
    if threads <= 1 {
        Role::Both
    } else if number < threads.div_ceil(2) {
        Role::Writer
    } else {
        Role::Reader
    }
}

/// Returns how many of `threads` write.
#[must_use]
pub const fn writers(threads: usize) -> usize {
    threads.div_ceil(2)
}

/// One thread: its role, its words and its own order of pages.
#[derive(Debug)]
pub struct Worker<'m> {
    memory: Memory<'m>,
    findings: &'m Findings,
    writer: Option<Writer>,
    reads: bool,
    random: Random,
}

impl<'m> Worker<'m> {
    /// Makes thread `number` of `threads`.
    #[must_use]
    pub fn new(memory: Memory<'m>, findings: &'m Findings, seed: u64, number: usize, threads: usize) -> Self {
        let role = role(number, threads);
        let pages = memory.anon_pages();
        Self {
            memory,
            findings,
            writer: (role != Role::Reader).then(|| Writer::new(seed, number, writers(threads), pages)),
            reads: role != Role::Writer,
            random: Random::new(seed, number as u64),
        }
    }

    /// Touches everything that is this thread's, so that memory is there before the first page moves; ends early on `stop`.
    pub fn prepare(&mut self, stop: &AtomicBool) {
        if self.writer.is_some() {
            for page in 0..self.memory.anon_pages() {
                if stop.load(Ordering::Relaxed) {
                    return;
                }
                self.write(page);
            }
        }
        if self.reads {
            self.read_all(stop);
        }
    }

    /// Writes and reads pages in random order until `stop`.
    pub fn run(&mut self, stop: &AtomicBool) {
        while !stop.load(Ordering::Relaxed) {
            if self.writer.is_some() {
                let page = self.random.below(self.memory.anon_pages());
                self.write(page);
            }
            if self.reads {
                let view = self.random.below(self.memory.views.len());
                let page = self.random.below(self.memory.file_pages());
                self.read(view, page);
            }
        }
    }

    /// Looks at everything once more, without writing.
    pub fn finish(&mut self) {
        if let Some(writer) = &self.writer {
            for page in 0..self.memory.anon_pages() {
                writer.check(self.memory.anon, page, |at, damage| lost(self.findings, at, damage));
            }
        }
        if self.reads {
            self.read_all(&AtomicBool::new(false));
        }
    }

    fn write(&mut self, page: usize) {
        let findings = self.findings;
        if let Some(writer) = &mut self.writer {
            writer.visit(self.memory.anon, page, |at, damage| lost(findings, at, damage));
            let words = writer.words_per_page() as u64;
            findings.words_written.fetch_add(words, Ordering::Relaxed);
        }
    }

    fn read_all(&self, stop: &AtomicBool) {
        for view in 0..self.memory.views.len() {
            for page in 0..self.memory.file_pages() {
                if stop.load(Ordering::Relaxed) {
                    return;
                }
                self.read(view, page);
            }
        }
    }

    fn read(&self, view: usize, page: usize) {
        let Some(&words) = self.memory.views.get(view) else {
            return;
        };
        file_check::check(words, self.memory.contents, page, |wrong| {
            self.findings.wrong(|| format!("wrong read, space {view}, {wrong}"));
        });
        self.findings.words_read.fetch_add(WORDS as u64, Ordering::Relaxed);
    }
}

fn lost(findings: &Findings, at: usize, damage: crate::words::Damage) {
    findings.lost(|| format!("anonymous page {} word {}: {damage}", at / WORDS, at % WORDS));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn memory(pages: usize) -> Vec<AtomicU64> {
        (0..pages * WORDS).map(|_| AtomicU64::new(0)).collect()
    }

    #[test]
    fn any_number_of_threads_has_a_writer_and_a_reader() {
        assert_eq!(role(0, 1), Role::Both);
        for threads in 2..9 {
            let roles: Vec<_> = (0..threads).map(|n| role(n, threads)).collect();
            assert_eq!(roles.iter().filter(|r| **r == Role::Writer).count(), writers(threads));
            assert!(roles.contains(&Role::Reader));
        }
    }

    #[test]
    fn threads_over_memory_that_stays_find_nothing_wrong() {
        for threads in [1, 2, 5] {
            let (anon, file) = (memory(4), memory(2));
            let contents = vec![0; 5000];
            let findings = Findings::default();
            let memory = Memory {
                anon: &anon,
                views: vec![&file, &file],
                contents: &contents,
            };
            let stop = AtomicBool::new(false);
            std::thread::scope(|scope| {
                for number in 0..threads {
                    let mut worker = Worker::new(memory.clone(), &findings, 3, number, threads);
                    let stop = &stop;
                    scope.spawn(move || {
                        worker.prepare(stop);
                        worker.run(stop);
                        worker.finish();
                    });
                }
                while findings.words_written() < 20_000 || findings.words_read() < 20_000 {
                    std::thread::yield_now();
                }
                stop.store(true, Ordering::Relaxed);
            });
            assert_eq!(
                (findings.lost_writes(), findings.wrong_reads()),
                (0, 0),
                "{:?}",
                findings.examples()
            );
        }
    }

    #[test]
    fn damage_is_counted_and_a_few_examples_kept() {
        let (anon, file) = (memory(1), memory(1));
        let contents = vec![0; 4096];
        let findings = Findings::default();
        let memory = Memory {
            anon: &anon,
            views: vec![&file],
            contents: &contents,
        };
        let mut worker = Worker::new(memory, &findings, 3, 0, 1);
        worker.prepare(&AtomicBool::new(false));
        for word in &anon[..20] {
            word.store(1, Ordering::Relaxed);
        }
        file[7].store(1, Ordering::Relaxed);
        worker.finish();
        assert_eq!((findings.lost_writes(), findings.wrong_reads()), (20, 1));
        assert_eq!(findings.examples().len(), EXAMPLES);
        assert!(
            findings.examples()[0].starts_with("anonymous page 0 word 0: "),
            "{:?}",
            findings.examples()
        );
    }
}
