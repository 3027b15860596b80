//! Where traces come from.

use std::fmt;
use std::fs;
use std::io::{self, Read};
use std::path::Path;

use mm_types::trace::Line;
use trace_tools::kernel::is_kernels;
use trace_tools::parse;

/// What a person got wrong, in one line.
#[derive(Debug)]
pub(crate) struct Mistake(pub(crate) String);

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A file's bytes, and what to call it.
pub(crate) struct Input {
    pub(crate) name: String,
    pub(crate) bytes: Vec<u8>,
}

pub(crate) fn is_stdin(path: &Path) -> bool {
    path.as_os_str() == "-"
}

/// Where the header of an `insta` snapshot ends, if that is what the bytes begin with: lines between two of `---`.
fn header(bytes: &[u8]) -> Option<usize> {
    const OPENS: &[u8] = b"---\n";
    const CLOSES: &[u8] = b"\n---\n";
    let after = bytes.strip_prefix(OPENS)?;
    let close = after.windows(CLOSES.len()).position(|window| window == CLOSES)?;
    Some(OPENS.len() + close + CLOSES.len())
}

impl Input {
    pub(crate) fn read(path: &Path) -> Result<Self, Mistake> {
        let name = if is_stdin(path) {
            "standard input".into()
        } else {
            path.display().to_string()
        };
        let bytes = if is_stdin(path) {
            let mut bytes = Vec::new();
            io::stdin().lock().read_to_end(&mut bytes).map(|_| bytes)
        } else {
            fs::read(path)
        };
        match bytes {
            Ok(mut bytes) => match header(&bytes) {
                None => Ok(Self { name, bytes }),
                Some(end) => {
                    bytes.drain(..end);
                    Ok(Self {
                        name: format!("{name}, below its header"),
                        bytes,
                    })
                }
            },
            Err(error) => Err(Mistake(format!("{name}: {error}"))),
        }
    }

    pub(crate) fn is_kernels(&self) -> bool {
        is_kernels(&self.bytes)
    }

    /// Reads the bytes as a trace of this project.
    pub(crate) fn lines(&self) -> Result<Vec<Line>, Mistake> {
        if self.is_kernels() {
            let what = "this is the kernel's own trace, which only check and stats read";
            return Err(self.wrong(what));
        }
        parse(&self.bytes).map_err(|error| self.wrong(error))
    }

    pub(crate) fn wrong(&self, what: impl fmt::Display) -> Mistake {
        Mistake(format!("{}: {what}", self.name))
    }
}
