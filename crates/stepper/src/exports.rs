//! What the page calls. Numbers go in; bytes go through two buffers that belong to this module and are pointed out to the page.
//!
//! A page has one thread, and calls one export after the other. It writes to the input buffer between [`input`] and the export
//! that reads it, and reads the output buffer before its next call; Rust code touches neither meanwhile. There is no unsafe block
//! here: pointers are made and handed out, and only the page follows them.

use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::{Panel, Query, Session};

struct Page {
    input: Vec<u8>,
    output: Vec<u8>,
    session: Option<Session>,
}

static PAGE: Mutex<Page> = Mutex::new(Page {
    input: Vec::new(),
    output: Vec::new(),
    session: None,
});

fn page() -> MutexGuard<'static, Page> {
    PAGE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Answers a question about the open trace, or `null` where none is open.
fn answer(ask: impl FnOnce(&mut Session) -> serde_json::Value) {
    let mut page = page();
    let value = page.session.as_mut().map(ask).unwrap_or_default();
    page.output = value.to_string().into_bytes();
}

/// Makes room for `length` bytes of input, and returns where.
#[unsafe(no_mangle)]
extern "C" fn input(length: usize) -> *mut u8 {
    let mut page = page();
    page.input.clear();
    page.input.resize(length, 0);
    page.input.as_mut_ptr()
}

/// Returns where the last answer is.
#[unsafe(no_mangle)]
extern "C" fn output() -> *const u8 {
    page().output.as_ptr()
}

/// Returns how long the last answer is.
#[unsafe(no_mangle)]
extern "C" fn output_length() -> usize {
    page().output.len()
}

/// Opens the trace in the input.
#[unsafe(no_mangle)]
extern "C" fn open() {
    let session = Session::open(&page().input);
    page().session = Some(session);
    answer(|session| session.opened());
}

/// Goes to a step.
#[unsafe(no_mangle)]
extern "C" fn go(step: usize) {
    answer(|session| session.go(step));
}

/// Answers with rows of the panel of this number.
#[unsafe(no_mangle)]
extern "C" fn rows(panel: usize, from: usize, count: usize) {
    let panel = Panel::ALL.get(panel).copied();
    answer(|session| panel.map(|panel| session.rows(panel, from, count)).unwrap_or_default());
}

/// Answers with lines of the trace.
#[unsafe(no_mangle)]
extern "C" fn lines(from: usize, count: usize) {
    answer(|session| session.lines(from, count));
}

/// Answers with the steps that the query in the input finds.
#[unsafe(no_mangle)]
extern "C" fn find() {
    let query = Query::new(&String::from_utf8_lossy(&page().input));
    answer(|session| session.find(&query).into());
}
