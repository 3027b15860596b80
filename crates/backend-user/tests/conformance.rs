//! The conformance kit in user space: real memory, real faults, real threads, and byte for byte the traces of the model.

use backend_user::fixture::UserFixture;

migrate_core::conformance!(UserFixture::default);
