//! Nothing but its tests: what `trace convert --to perfetto` writes is read back with Perfetto's own schema.

#![no_std]
#![forbid(unsafe_code)]
