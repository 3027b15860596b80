//! The conformance kit in user space: real memory, real faults, real threads, and byte for byte the traces of the model; on both engines.

use backend_user::fixture::UserFixture;

migrate_core::conformance!(UserFixture::default, not_applicable: 100);

/// Private pages by userfaultfd, where the system lets them: then a page has one place.
mod private {
    use super::UserFixture;
    use backend_user::EngineInUse;

    migrate_core::conformance!(UserFixture::private, not_applicable: match UserFixture::private().engine() {
        EngineInUse::Shared(_) => 100,
        EngineInUse::Private(_) => 234,
    });

    #[test]
    fn the_engine_in_use_is_told() {
        let engine = UserFixture::private().engine();
        println!("engine for private pages: {}\n{engine}", engine.word());
    }
}
