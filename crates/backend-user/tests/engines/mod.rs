//! Tests that hold on both engines.

#![allow(dead_code, unused_imports, unused_macros, reason = "each test program uses a part")]

use backend_user::Engine;

/// Makes each function of an [`Engine`] a test for each engine. Where the system has no second one, its tests are the first's again,
/// and say so.
macro_rules! on_both_engines {
    ($($test:ident,)*) => {
        mod shared_pages {
            $(#[test]
            fn $test() {
                super::$test(backend_user::Engine::Shared);
            })*
        }
        mod private_pages {
            $(#[test]
            fn $test() {
                super::$test($crate::engines::private());
            })*
        }
    };
}
pub(crate) use on_both_engines;

/// Returns the second engine, if the system has it; says why not where it has none.
pub(crate) fn private() -> Engine {
    let machine = backend_user::Machine::builder()
        .frames_per_node(1)
        .engine(Engine::Auto)
        .build();
    let engine = machine.unwrap().engine();
    if let backend_user::EngineInUse::Shared(_) = engine {
        println!("not applicable, and run on the first engine: {engine}");
        return Engine::Shared;
    }
    Engine::Private
}

/// Returns the whole name of the test of `engine` that is called `test`.
pub(crate) fn name(engine: Engine, test: &str) -> String {
    let module = if engine == Engine::Shared {
        "shared_pages"
    } else {
        "private_pages"
    };
    format!("{module}::{test}")
}
