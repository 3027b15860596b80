//! What a busy system does to a machine while its pages move, and checks word by word.

use core::sync::atomic::{AtomicBool, Ordering};
use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};

use backend_user::{Area, EngineInUse, Machine, MappedFile, Prot, Sharing, Space};
use mm_types::PAGE_SIZE;

use crate::random::Random;
use crate::words::{Damage, WORDS, Writer, verify};
use crate::workers::Findings;

/// Pages of the operator's own space.
const SIDE: usize = 2048;
/// The largest of its areas.
const AREA: usize = 48;
/// Areas that it has at a time.
const AREAS: usize = 8;
/// Copies of the workers' space that it has at a time.
const COPIES: usize = 2;
/// Pages of a copy that are looked at.
const SAMPLE: usize = 24;
/// Pages of a file that it writes and cuts off.
const FILE: usize = 64;

/// How often each thing was done.
pub(super) type Times = BTreeMap<&'static str, u64>;

/// Everything that is done, and whether it takes pages that have several places.
const THINGS: [(&str, bool); 12] = [
    ("fork", true),
    ("write to a copy", true),
    ("map", false),
    ("write", false),
    ("protect", false),
    ("mremap", false),
    ("unmap", false),
    ("write to a file", false),
    ("sync", false),
    ("truncate", false),
    ("pin", false),
    ("watch", false),
];

/// Returns all that is done on an engine.
pub(super) fn things(engine: EngineInUse) -> impl Iterator<Item = &'static str> {
    let one_place = matches!(engine, EngineInUse::Private(_));
    let done = THINGS
        .iter()
        .filter(move |(_, several_places)| !(one_place && *several_places));
    done.map(|(word, _)| *word)
}

/// Memory that the operator alone writes.
struct Own {
    area: Area,
    writer: Writer,
    writable: bool,
    /// Cut short: pages that come back are new ones.
    shrunk: bool,
}

/// A copy of the workers' space, as it was when it was made.
struct Copied {
    area: Area,
    /// The pages that are looked at, and the words they have.
    pages: Vec<(usize, Vec<u64>)>,
}

/// A file that the operator writes through one space and reads through another.
struct Cut {
    path: PathBuf,
    file: MappedFile,
    views: [Area; 2],
    writer: Writer,
    pages: usize,
}

/// Does one thing after the other.
pub(super) struct Operator<'m> {
    machine: &'m Machine,
    one_place: bool,
    home: &'m Space,
    anon: &'m Area,
    side: Space,
    other: Space,
    scratch: &'m Path,
    findings: &'m Findings,
    random: Random,
    /// The workers' seed: their words depend on it.
    seed: u64,
    own: Vec<Own>,
    copies: Vec<Copied>,
    cut: Option<Cut>,
    made: u64,
    times: Times,
}

type Done = Result<(), String>;

/// Says what was being done when something did not work.
fn during<E: core::fmt::Display>(what: &str) -> impl Fn(E) -> String {
    move |error| format!("{what}: {error}")
}

impl<'m> Operator<'m> {
    /// Makes its two spaces. `home` and `anon` are the workers', whose words depend on `seed`.
    pub(super) fn new(
        machine: &'m Machine,
        (home, anon): (&'m Space, &'m Area),
        scratch: &'m Path,
        findings: &'m Findings,
        seed: u64,
    ) -> Result<Self, String> {
        let space = || machine.space(SIDE).map_err(during("a space"));
        Ok(Self {
            machine,
            one_place: matches!(machine.engine(), EngineInUse::Private(_)),
            home,
            anon,
            side: space()?,
            other: space()?,
            scratch,
            findings,
            random: Random::new(seed, 3),
            seed,
            own: Vec::new(),
            copies: Vec::new(),
            cut: None,
            made: 0,
            times: Times::new(),
        })
    }

    /// Goes on until `ended`; then looks at everything once more, and gives it all back.
    pub(super) fn work(&mut self, ended: &AtomicBool) -> Result<Times, String> {
        while !ended.load(Ordering::Relaxed) {
            let (word, done) = match self.random.below(16) {
                // The workers' pages have one place each then.
                0..=2 if self.one_place => ("fork, or write to a copy: not applicable", Ok(())),
                0 => ("fork", self.copy()),
                1 | 2 => ("write to a copy", self.write_copy()),
                3 => ("map", self.map()),
                4 | 5 => ("write", self.write()),
                6 => ("protect", self.protect()),
                7 => ("mremap", self.relocate()),
                8 => ("unmap", self.unmap()),
                9 | 10 => ("write to a file", self.write_file()),
                11 => ("sync", self.sync()),
                12 => ("truncate", self.truncate()),
                13 | 14 => ("pin", self.pin()),
                _ => ("watch", self.watch()),
            };
            done.map_err(during(word))?;
            *self.times.entry(word).or_default() += 1;
        }
        for own in self.own.drain(..) {
            own.check(self.findings);
        }
        for copied in self.copies.drain(..) {
            copied.check(self.findings);
        }
        while self.cut.is_some() {
            self.truncate()?;
        }
        Ok(core::mem::take(&mut self.times))
    }

    /// Copies the workers' space in the middle of their stores: each word of the copy is one that its owner stored, no older than
    /// what was there before, and stays.
    fn copy(&mut self) -> Done {
        if self.copies.len() >= COPIES {
            let gone = self.copies.remove(0);
            gone.check(self.findings);
        }
        let pages: Vec<usize> = (0..SAMPLE).map(|_| self.random.below(self.anon.pages())).collect();
        let before: Vec<Vec<u64>> = pages.iter().map(|page| load(self.anon, *page)).collect();
        let child = self.home.fork().map_err(during("the copy"))?;
        let area = child.same(self.anon).map_err(during("the copy's area"))?;
        let mut copied = Copied {
            area,
            pages: Vec::new(),
        };
        for (page, before) in pages.into_iter().zip(before) {
            let now = load(&copied.area, page);
            for (at, (before, now)) in before.iter().zip(&now).enumerate() {
                let (index, generation) = ((page * WORDS + at) as u64, (before & 0xffff_ffff) as u32);
                match verify(self.seed, index, generation, *now) {
                    // Stored between the look and the copy.
                    Ok(()) | Err(Damage::Duplicated { .. }) => {}
                    Err(damage) => self.findings.lost(|| format!("copy, page {page} word {at}: {damage}")),
                }
            }
            copied.pages.push((page, now));
        }
        // A page that was drawn twice was looked at twice, and changes for both.
        copied.pages.sort_by_key(|(page, _)| *page);
        copied.pages.dedup_by_key(|(page, _)| *page);
        self.copies.push(copied);
        Ok(())
    }

    /// Stores to a copy: only the copy sees it.
    fn write_copy(&mut self) -> Done {
        let nth = self.random.below(self.copies.len());
        let random = &mut self.random;
        if let Some(copied) = self.copies.get_mut(nth) {
            copied.check(self.findings);
            let n = random.below(copied.pages.len());
            if let Some((page, words)) = copied.pages.get_mut(n) {
                for (slot, word) in copied.area.page(*page).iter().zip(words) {
                    *word = random.next();
                    slot.store(*word, Ordering::Relaxed);
                }
            }
        }
        Ok(())
    }

    fn map(&mut self) -> Done {
        if self.own.len() >= AREAS {
            return Ok(());
        }
        let pages = 1 + self.random.below(AREA);
        let area = self.side.map_anonymous(pages, Prot::ReadWrite, Sharing::Private);
        self.made += 1;
        self.own.push(Own {
            area: area.map_err(during("an area"))?,
            writer: Writer::new(self.seed ^ self.made, 0, 1, AREA),
            writable: true,
            shrunk: false,
        });
        Ok(())
    }

    fn write(&mut self) -> Done {
        let nth = self.random.below(self.own.len());
        if let Some(own) = self.own.get_mut(nth) {
            own.write(self.findings);
        }
        Ok(())
    }

    fn protect(&mut self) -> Done {
        let nth = self.random.below(self.own.len());
        let Some(own) = self.own.get_mut(nth) else {
            return Ok(());
        };
        own.writable = !own.writable;
        let prot = if own.writable { Prot::ReadWrite } else { Prot::Read };
        self.side.protect(&own.area, prot).map_err(during("mprotect"))?;
        own.write(self.findings);
        Ok(())
    }

    fn relocate(&mut self) -> Done {
        if self.own.is_empty() {
            return Ok(());
        }
        let mut own = self.own.swap_remove(self.random.below(self.own.len()));
        let (before, most) = (own.area.pages(), if own.shrunk { own.area.pages() } else { AREA });
        let pages = 1 + self.random.below(most);
        own.area = self.side.remap(own.area, pages).map_err(during("mremap"))?;
        own.shrunk |= pages < before;
        own.check(self.findings);
        self.own.push(own);
        Ok(())
    }

    fn unmap(&mut self) -> Done {
        if self.own.is_empty() {
            return Ok(());
        }
        let own = self.own.swap_remove(self.random.below(self.own.len()));
        own.check(self.findings);
        self.side.unmap(own.area).map_err(during("munmap"))
    }

    /// Writes a file through one space and reads it through another; makes one where there is none.
    fn write_file(&mut self) -> Done {
        if self.cut.is_none() {
            self.made += 1;
            let path = self.scratch.join(format!("cut-{}", self.made));
            let made = File::create(&path).and_then(|file| file.set_len((FILE * PAGE_SIZE) as u64));
            made.map_err(during("a file"))?;
            let file = self.machine.open_rw(&path).map_err(during("a file"))?;
            let view = |space: &Space, prot| {
                let view = space.map_file(&file, 0, FILE, prot, Sharing::Shared);
                view.map_err(during("a file's area"))
            };
            let views = [view(&self.side, Prot::ReadWrite)?, view(&self.other, Prot::Read)?];
            self.cut = Some(Cut {
                path,
                file,
                views,
                writer: Writer::new(self.seed ^ self.made, 0, 1, FILE),
                pages: FILE,
            });
        }
        if let Some(cut) = &mut self.cut {
            let [ours, _] = &cut.views;
            for _ in 0..8 {
                let page = self.random.below(cut.pages);
                let wrong = |at, damage| self.findings.lost(|| format!("file, word {at}: {damage}"));
                cut.writer.visit(ours.words(), page, wrong);
            }
            cut.check(self.findings);
        }
        Ok(())
    }

    /// Writes the file back: what an ordinary read of it gives is what was stored.
    fn sync(&mut self) -> Done {
        let Some(cut) = &self.cut else { return Ok(()) };
        cut.file.sync().map_err(during("sync"))?;
        let bytes = std::fs::read(&cut.path).map_err(during("reading the file"))?;
        let stored = bytes.as_chunks::<8>().0;
        for page in 0..cut.pages {
            let first = page * WORDS;
            for (at, word) in load(&cut.views[0], page).iter().enumerate() {
                if stored.get(first + at) != Some(&word.to_ne_bytes()) {
                    self.findings
                        .wrong(|| format!("file page {page} word {at} was not written back"));
                }
            }
        }
        Ok(())
    }

    /// Cuts pages off the file; in the end the file itself goes.
    fn truncate(&mut self) -> Done {
        let Some(cut) = &mut self.cut else { return Ok(()) };
        cut.pages = self.random.below(cut.pages);
        cut.file.truncate(cut.pages).map_err(during("truncate"))?;
        cut.check(self.findings);
        if cut.pages == 0 {
            let resident = cut.file.resident();
            let Some(Cut { path, views, .. }) = self.cut.take() else {
                return Ok(());
            };
            let [ours, theirs] = views;
            self.side.unmap(ours).map_err(during("munmap"))?;
            self.other.unmap(theirs).map_err(during("munmap"))?;
            std::fs::remove_file(path).map_err(during("removing the file"))?;
            if resident > 0 {
                return Err(format!("{resident} pages of an empty file are in memory"));
            }
        }
        Ok(())
    }

    /// Pins pages of the workers: they stay where they are, and can be used.
    fn pin(&mut self) -> Done {
        let first = self.random.below(self.anon.pages());
        let last = (first + 1 + self.random.below(16)).min(self.anon.pages());
        let guard = self.machine.pin(self.anon, first..last).map_err(during("pin"))?;
        let at = usize::try_from(self.anon.first().raw()).map_err(during("an area"))?;
        let frames = || -> Vec<_> { (first..last).map(|page| self.home.entry(at + page).pfn()).collect() };
        let before = frames();
        for page in first..last {
            for (word, found) in load(self.anon, page).into_iter().enumerate() {
                let index = (page * WORDS + word) as u64;
                if let Err(damage @ Damage::Foreign { .. }) = verify(self.seed, index, 0, found) {
                    self.findings
                        .lost(|| format!("pinned page {page} word {word}: {damage}"));
                }
            }
        }
        let after = frames();
        drop(guard);
        if before != after || before.contains(&None) {
            return Err(format!("pinned pages were at {before:?} and are at {after:?}"));
        }
        Ok(())
    }

    /// Looks which pages the workers used; they are all theirs. Stops looking now and then.
    fn watch(&mut self) -> Done {
        let pages = self.home.pages() as u64;
        if let Some(page) = self.home.touched().iter().find(|page| page.raw() >= pages) {
            return Err(format!("page {page:?} is not in the space and was used"));
        }
        if self.random.below(4) == 0 {
            self.home.stop_watching();
        }
        Ok(())
    }
}

fn load(area: &Area, page: usize) -> Vec<u64> {
    let words = area.page(page).iter();
    words.map(|word| word.load(Ordering::Relaxed)).collect()
}

impl Own {
    fn check(&self, findings: &Findings) {
        for page in 0..self.area.pages() {
            let wrong = |at, damage| findings.lost(|| format!("area, word {at}: {damage}"));
            self.writer.check(self.area.words(), page, wrong);
        }
    }

    /// Writes all of it where it may be written; looks at all of it.
    fn write(&mut self, findings: &Findings) {
        for page in 0..self.area.pages() {
            let wrong = |at, damage| findings.lost(|| format!("area, word {at}: {damage}"));
            if self.writable {
                self.writer.visit(self.area.words(), page, wrong);
            } else {
                self.writer.check(self.area.words(), page, wrong);
            }
        }
    }
}

impl Copied {
    fn check(&self, findings: &Findings) {
        for (page, words) in &self.pages {
            for (at, (found, expected)) in load(&self.area, *page).iter().zip(words).enumerate() {
                if found != expected {
                    findings.lost(|| format!("copy, page {page} word {at}: {found:#x}, and was {expected:#x}"));
                }
            }
        }
    }
}

impl Cut {
    /// Both spaces see what was stored last.
    fn check(&self, findings: &Findings) {
        for (view, page) in self
            .views
            .iter()
            .flat_map(|view| (0..self.pages).map(move |page| (view, page)))
        {
            let wrong = |at, damage| findings.wrong(|| format!("file, word {at}: {damage}"));
            self.writer.check(view.words(), page, wrong);
        }
    }
}
