//! The model passes the kit.

use migrate_core::model::ModelFixture;

migrate_core::conformance!(ModelFixture::new);
