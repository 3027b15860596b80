//! FILE and the trace's file: opened, looked at, and refused in one line where that is all that can be done.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::args::TraceFile;

/// Opens FILE and returns its size.
pub(crate) fn open_file(path: &Path) -> Result<(File, u64), String> {
    let name = path.display();
    // Asked before opening: to open a fifo would wait for its other end.
    let before = std::fs::metadata(path).map_err(|e| format!("{name}: {}", plain(&e)))?;
    if before.is_dir() {
        return Err(format!("{name}: a directory, not a file"));
    }
    if !before.is_file() {
        return Err(format!("{name}: not a regular file"));
    }
    let file = File::open(path).map_err(|e| format!("{name}: {}", plain(&e)))?;
    let size = file.metadata().map_err(|e| format!("{name}: {}", plain(&e)))?.len();
    if size == 0 {
        return Err(format!("{name}: empty; there must be a page to map"));
    }
    Ok((file, size))
}

/// Reads all of it; `size` bytes, or somebody is writing to it.
pub(crate) fn read_file(path: &Path, file: &mut File, size: u64) -> Result<Vec<u8>, String> {
    let name = path.display();
    let mut contents = Vec::new();
    // One byte more than there were: a file that grows meanwhile is no file to compare with.
    file.take(size.saturating_add(1))
        .read_to_end(&mut contents)
        .map_err(|e| format!("{name}: {}", plain(&e)))?;
    if contents.len() as u64 == size {
        Ok(contents)
    } else {
        Err(format!("{name}: changed while it was read"))
    }
}

/// Opens the trace's file for writing, and takes care not to destroy FILE with it.
pub(crate) fn open_trace(path: PathBuf, file: &File) -> Result<TraceFile, String> {
    let name = path.display();
    let trace = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path)
        .map_err(|e| format!("--trace {name}: {}", plain(&e)))?;
    if let (Ok(trace), Ok(file)) = (trace.metadata(), file.metadata())
        && (trace.dev(), trace.ino()) == (file.dev(), file.ino())
    {
        return Err(format!("--trace {name}: is FILE itself"));
    }
    Ok(TraceFile { path, file: trace })
}

/// Says an error of the system in a few words, without its number.
pub(crate) fn plain(error: &io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    text.to_lowercase()
}
