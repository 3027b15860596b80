//! A process plays a kernel.

#[doc(hidden)]
pub mod sys;
