//! A process plays a kernel.
