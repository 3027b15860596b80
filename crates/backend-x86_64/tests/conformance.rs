//! The conformance kit on page tables over a host's memory, by CPUs that keep stale translations.

#![cfg(not(miri))]

mod support;
use support::fixture::HostFixture;

migrate_core::conformance!(HostFixture::default, not_applicable: 212);
