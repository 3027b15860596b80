//! The conformance kit in user space: real memory, real faults, real threads, and byte for byte the traces of the model; on both engines.

use backend_user::fixture::UserFixture;

migrate_core::conformance!(UserFixture::default);

/// Private pages by userfaultfd.
mod private {
    use super::UserFixture;

    migrate_core::conformance!(UserFixture::private);
}
