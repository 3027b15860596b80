//! Which failures happened under which rules, and what they did: the table, and what is missing in it.

use core::fmt::Write as _;
use std::collections::BTreeMap;

use migrate_core::{Effect, Injection, Profile};
use mm_types::{Mode, Rules};

/// Whose rules, and what a run may wait for: one column.
pub(crate) type Column = (&'static Profile, Mode);

#[derive(Clone, Copy, Debug, Default)]
struct Cell {
    runs: u32,
    injected: u32,
    effects: u32,
}

/// All that happened.
#[derive(Debug, Default)]
pub(crate) struct Coverage(BTreeMap<(usize, Injection), Cell>);

impl Coverage {
    /// Counts one run: failures injected, and how many of them a page was refused for.
    pub(crate) fn count(&mut self, column: usize, injection: Injection, injected: u32, effects: u32) {
        let cell = self.0.entry((column, injection)).or_default();
        cell.runs += 1;
        cell.injected += injected;
        cell.effects += effects;
    }

    pub(crate) fn add(&mut self, other: Self) {
        for (at, more) in other.0 {
            let cell = self.0.entry(at).or_default();
            cell.runs += more.runs;
            cell.injected += more.injected;
            cell.effects += more.effects;
        }
    }

    /// The table, and everything in it that should be otherwise.
    pub(crate) fn table(&self, columns: &[Column]) -> (String, Vec<String>) {
        let mut table = format!("{:42}", "failure: times injected / seen as the refusal");
        for (profile, mode) in columns {
            let name = match profile.rules {
                Rules::Linux2617 => "2.6.17".to_owned(),
                Rules::Modern => format!("modern {mode}"),
            };
            let _ = write!(table, "{name:>20}");
        }
        let (mut gaps, mut reasons): (Vec<String>, Vec<&str>) = (Vec::new(), Vec::new());
        let (mut covered, mut cells) = (0, 0);
        for injection in Injection::ALL {
            let name = format!("{:16} {}", injection.edge.word(), injection.failure);
            let _ = write!(table, "\n{name:42}");
            for (n, (profile, mode)) in columns.iter().enumerate() {
                let cell = self.0.get(&(n, *injection)).copied().unwrap_or_default();
                let effect = injection.effect(profile, *mode);
                let (text, good) = match effect {
                    Effect::Refused(_) => (format!("{}/{}", cell.injected, cell.effects), cell.effects > 0),
                    Effect::Unseen => (format!("{}/unseen", cell.injected), cell.injected > 0),
                    Effect::Impossible(reason) => {
                        let note = reasons.iter().position(|at| *at == reason).unwrap_or_else(|| {
                            reasons.push(reason);
                            reasons.len() - 1
                        });
                        (format!("({})", note + 1), cell.injected == 0)
                    }
                };
                let _ = write!(table, "{text:>20}");
                cells += 1;
                covered += u32::from(good);
                if !good {
                    gaps.push(format!("{injection}, {} {mode}: {text}", profile.rules));
                }
            }
        }
        for (n, reason) in reasons.iter().enumerate() {
            let _ = write!(table, "\n({}) impossible: {reason}", n + 1);
        }
        let runs: u32 = self.0.values().map(|cell| cell.runs).sum();
        let _ = write!(
            table,
            "\nproof: failures pairs={} columns={} covered_or_impossible={covered} of={cells} runs={runs}",
            Injection::ALL.len(),
            columns.len(),
        );
        (table, gaps)
    }
}
