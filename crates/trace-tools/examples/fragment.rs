//! Holds memory in pieces, so that a kernel that is asked to compact has mapped pages to move; and looks whether they kept
//! their contents.
//!
//! `cargo run -p trace-tools --example fragment -- 20000` maps so many pages one by one and gives every other one back, prints
//! the first address and the last that it holds, and waits until its standard input ends.

use std::io::{self, Read, Write};
use std::process::ExitCode;

use memmap2::{MmapMut, MmapOptions};

const PAGE: usize = mm_types::PAGE_SIZE;

fn stamp(page: usize) -> [u8; 8] {
    // No two pages alike, and none like a page of zeros.
    (page as u64)
        .wrapping_add(1)
        .wrapping_mul(0x9e37_79b9_7f4a_7c15)
        .to_le_bytes()
}

fn map(page: usize) -> io::Result<MmapMut> {
    let mut map = MmapOptions::new().len(PAGE).map_anon()?;
    for at in (0..PAGE).step_by(8) {
        map[at..at + 8].copy_from_slice(&stamp(page));
    }
    Ok(map)
}

fn main() -> ExitCode {
    let Some(pages) = std::env::args().nth(1).and_then(|pages| pages.parse::<usize>().ok()) else {
        eprintln!("usage: fragment PAGES");
        return ExitCode::from(2);
    };
    let maps: io::Result<Vec<MmapMut>> = (0..pages).map(map).collect();
    let maps = match maps {
        Ok(maps) => maps,
        Err(error) => {
            eprintln!("fragment: {pages} pages: {error}");
            return ExitCode::from(2);
        }
    };
    // Neighbours have come from one run of frames: with every other one gone, what is left is in the way.
    let kept: Vec<(usize, MmapMut)> = maps.into_iter().enumerate().filter(|(page, _)| page % 2 == 1).collect();
    let addresses = || kept.iter().map(|(_, map)| map.as_ptr().addr());
    let (Some(first), Some(last)) = (addresses().min(), addresses().max()) else {
        eprintln!("fragment: two pages at least");
        return ExitCode::from(2);
    };
    println!("{first:x}-{:x}", last.saturating_add(PAGE - 1));
    let waited = io::stdout()
        .flush()
        .and_then(|()| io::stdin().lock().read_to_end(&mut Vec::new()));
    if let Err(error) = waited {
        eprintln!("fragment: {error}");
        return ExitCode::from(2);
    }
    let lost = kept
        .iter()
        .filter(|(page, map)| map.chunks(8).any(|word| word != stamp(*page)));
    let lost = lost.count();
    println!("pages={} lost={lost}", kept.len());
    ExitCode::from(u8::from(lost > 0))
}
