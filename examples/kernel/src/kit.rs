//! The conformance kit, at boot.

use alloc::collections::BTreeSet;
use alloc::string::{String, ToString};

use backend_x86_64::fixture::KernelFixture;
use migrate_core::conformance::{CaseName, Reporter, Verdict, run as run_kit};

use crate::println;
use crate::seam::Machine;

/// Says on the serial line which case runs, and which failed.
#[derive(Default)]
struct Serial {
    lacks: BTreeSet<String>,
}

impl Reporter for Serial {
    fn begins(&mut self, case: CaseName) {
        println!("case {case}");
    }

    fn ended(&mut self, case: CaseName, verdict: &Verdict) {
        match verdict {
            Verdict::Passed => {}
            Verdict::NotApplicable { lacks } => self.lacks.extend(lacks.words().map(ToString::to_string)),
            Verdict::Failed(failure) => println!("failed {case}: {failure}"),
        }
    }
}

/// Runs all of it; true where no case failed.
pub fn run() -> bool {
    let mut serial = Serial::default();
    let counts = run_kit(KernelFixture::<Machine>::default, &mut serial);
    let all = counts.total();
    println!(
        "kit passed={} not_applicable={} failed={}",
        all.passed, all.not_applicable, all.failed
    );
    for lacks in serial.lacks {
        println!("lacks {lacks}");
    }
    all.failed == 0 && all.passed > 0
}
