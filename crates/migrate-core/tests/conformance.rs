//! The model passes the kit, and the kit says what it ran.

use std::collections::BTreeSet;

use migrate_core::conformance::{CaseName, Reporter, Verdict, names, run, run_one};
use migrate_core::model::ModelFixture;

migrate_core::conformance!(ModelFixture::new);

#[test]
fn there_are_hundreds_of_cases_and_each_has_a_name_of_its_own() {
    let all = names::<ModelFixture>();
    assert!(all.len() >= 600, "{}", all.len());
    assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), all.len());
}

#[test]
fn a_case_that_does_not_exist_is_a_failure() {
    let name = CaseName {
        profile: "modern",
        group: "seam",
        name: "pages_are_made_of_cheese",
    };
    let Verdict::Failed(failure) = run_one(ModelFixture::new, name) else {
        panic!("it ran");
    };
    assert_eq!(failure.found, "there is no case modern::seam::pages_are_made_of_cheese");
}

/// Hears of cases as a kernel's console would.
#[derive(Default)]
struct Console {
    begun: Vec<CaseName>,
    ended: Vec<CaseName>,
    passed: usize,
}

impl Reporter for Console {
    fn begins(&mut self, case: CaseName) {
        assert_eq!(
            self.begun.len(),
            self.ended.len(),
            "{case} begins before another has ended"
        );
        self.begun.push(case);
    }

    fn ended(&mut self, case: CaseName, verdict: &Verdict) {
        self.passed += usize::from(*verdict == Verdict::Passed);
        self.ended.push(case);
    }
}

#[test]
fn a_reporter_hears_of_every_case_before_and_after_it() {
    let mut console = Console::default();
    let counts = run(ModelFixture::new, &mut console);
    assert_eq!(console.begun, names::<ModelFixture>());
    assert_eq!(console.ended, names::<ModelFixture>());
    let total = counts.total();
    assert_eq!((total.passed, total.failed), (console.passed, 0));
    // A frame of the model is one word: each profile has a case about the others.
    assert_eq!(total.not_applicable, 2);
}
