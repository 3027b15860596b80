//! Documents made from the code.
#![forbid(unsafe_code)]
