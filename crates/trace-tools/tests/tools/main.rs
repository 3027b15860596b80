//! The tools, on the traces of the shared scenarios and on what is no trace.

mod chapter;
mod commands;
mod hostile;
mod long;
mod snapshots;
mod support;
