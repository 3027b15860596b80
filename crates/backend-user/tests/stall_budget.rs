//! How long pages may be in flight is the caller's to say: batches are cut, and a page that takes too long by itself stays.

use core::time::Duration;

use std::sync::Arc;

use backend_user::{Machine, Migrate, Prot, Recording, Sharing};
use mm_types::trace::Event;
use mm_types::{NodeId, Outcome, Pfn, Refusal};

const NODE1: NodeId = NodeId::new(1);

/// A traced machine with `pages` pages of one space; `mappings` more spaces map them.
fn moved(pages: usize, mappings: usize, budget: Option<Duration>) -> (Vec<Event>, Vec<(Pfn, Outcome)>) {
    let recording = Arc::new(Recording::with_capacity(1 << 14));
    let builder = Machine::builder().frames_per_node(pages + 64);
    let machine = builder.trace(Arc::clone(&recording)).build().unwrap();
    let space = machine.space(pages).unwrap();
    let area = space.map_anonymous(pages, Prot::ReadWrite, Sharing::Shared).unwrap();
    area.populate().unwrap();
    let _children: Vec<_> = (0..mappings).map(|_| space.fork().unwrap()).collect();
    let mut outcomes = Vec::new();
    let mut tell = |pfn, outcome: Outcome| {
        if outcome.is_final() {
            outcomes.push((pfn, outcome));
        }
    };
    let request = Migrate::new(&area, NODE1).stall_budget(budget).outcome(&mut tell);
    machine.migrate(request).unwrap();
    (recording.events().collect(), outcomes)
}

fn barriers(events: &[Event]) -> usize {
    events
        .iter()
        .filter(|event| matches!(event, Event::Flush { .. }))
        .count()
}

#[test]
fn without_a_budget_a_batch_is_as_large_as_it_was_asked_for() {
    let (events, outcomes) = moved(256, 0, None);
    assert_eq!(barriers(&events), 2, "one batch");
    assert!(
        outcomes
            .iter()
            .all(|(_, outcome)| matches!(outcome, Outcome::Moved { .. }))
    );
}

#[test]
fn within_a_budget_batches_are_cut_and_every_page_moves() {
    let (events, outcomes) = moved(256, 0, Some(Duration::from_micros(50)));
    // Nothing is known yet: a microsecond a page.
    assert!(barriers(&events) >= 2 * 5, "{} barriers", barriers(&events));
    assert_eq!(outcomes.len(), 256);
    assert!(
        outcomes
            .iter()
            .all(|(_, outcome)| matches!(outcome, Outcome::Moved { .. }))
    );
}

#[test]
fn a_page_that_many_places_map_stays_where_the_budget_is_too_short_for_it() {
    let (_, outcomes) = moved(4, 7, Some(Duration::from_micros(6)));
    assert_eq!(outcomes.len(), 4);
    for (pfn, outcome) in outcomes {
        assert_eq!(outcome, Outcome::Refused(Refusal::StallBudget), "{pfn:?}");
    }
    let (_, outcomes) = moved(4, 7, Some(Duration::from_micros(60)));
    assert!(
        outcomes
            .iter()
            .all(|(_, outcome)| matches!(outcome, Outcome::Moved { .. }))
    );
}
