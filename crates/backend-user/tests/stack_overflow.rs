//! Rust's own stack-overflow message still appears, on the main thread and on others, with our handler in front.

mod support;

use std::process::{Command, Output};

use backend_user::sys::altstack::AltStack;

/// Uses the stack up.
#[expect(unconditional_recursion, reason = "that is the point")]
fn overflow(depth: usize) -> usize {
    let frame = core::hint::black_box([depth; 64]);
    overflow(depth + 1) + frame.iter().sum::<usize>()
}

fn run(case: &str) -> Output {
    Command::new(std::env::current_exe().unwrap())
        .env(support::CHILD, case)
        .output()
        .unwrap()
}

fn child(case: &str) {
    let (demand, _registration) = support::Demand::new(4);
    // Our handler has run and gone on working before the overflow.
    demand.store(1, 7);
    assert_eq!(demand.faults.load(core::sync::atomic::Ordering::Relaxed), 1);
    match case {
        "main" => drop(overflow(0)),
        "spawned" => drop(std::thread::spawn(|| overflow(0)).join()),
        "guarded" => drop(
            std::thread::spawn(|| {
                let _stack = AltStack::ensure().unwrap();
                overflow(0)
            })
            .join(),
        ),
        other => panic!("no case {other}"),
    }
}

fn main() {
    if let Ok(case) = std::env::var(support::CHILD) {
        return child(&case);
    }
    for case in ["main", "spawned", "guarded"] {
        let out = run(case);
        let said = support::stderr(&out);
        assert!(said.contains("has overflowed its stack"), "{case}: {out:?}");
        support::died_by(&out, libc::SIGABRT);
        println!("the overflow of the {case} thread is told ... ok");
    }
}
