//! The conformance kit in user space: real memory, real faults, real threads, and byte for byte the traces of the model. With
//! `--cfg second_engine` on that one too (`ci/second-engine`).

use backend_user::fixture::UserFixture;

migrate_core::conformance!(UserFixture::default);

/// Private pages by userfaultfd.
#[cfg(second_engine)]
mod private {
    use super::UserFixture;

    migrate_core::conformance!(UserFixture::private);
}
