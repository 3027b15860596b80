//! Real x86-64 page tables behind the seam of `migrate-core`.
#![no_std]
