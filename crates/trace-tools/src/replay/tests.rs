use std::string::{String, ToString};
use std::vec::Vec;

use migrate_core::conformance::{Recorded, scenarios};
use mm_types::trace::{CheckError, Event, Line};
use mm_types::{ActorId, Pfn, Pte, Rules, Site, SpaceId, Vpn};
use proptest::prelude::*;

use super::{Changed, Doing, List, Pair, Replay};

fn lines(scenario: &Recorded) -> Vec<Line> {
    crate::parse(scenario.trace().as_bytes()).unwrap()
}

fn named(name: &str, rules: Rules) -> Replay {
    let scenario = scenarios()
        .iter()
        .find(|scenario| scenario.name == name && scenario.profile.rules == rules)
        .unwrap();
    Replay::new(lines(scenario))
}

/// Goes to just behind the first event whose text begins so.
fn after(replay: &mut Replay, text: &str) {
    let at = replay
        .lines()
        .iter()
        .position(|line| line.to_string().starts_with(text));
    replay.go_to(at.unwrap() + 1);
}

/// Everything that is seen, as text.
fn seen(replay: &Replay) -> String {
    let state = replay.state();
    let mut text = std::format!("{:?} {:?}\n", state.run(), state.barriers());
    for space in state.spaces() {
        text += &std::format!("{space:?} {}\n", state.pending(space));
    }
    let mut frames: Vec<_> = state.frames().collect();
    frames.sort_by_key(|frame| frame.pfn);
    let mut entries: Vec<_> = state.entries().collect();
    entries.sort_by_key(|entry| entry.site);
    let actors: Vec<_> = state.actors().collect();
    text + &std::format!("{frames:?}\n{entries:?}\n{actors:?}")
}

fn site() -> Site {
    Site::new(SpaceId::new(0), Vpn::new(3))
}

const OLD: Pfn = Pfn::new(0);
const NEW: Pfn = Pfn::new(1);

#[test]
fn a_page_in_flight_is_seen_from_all_sides() {
    let mut replay = named("fault_in_the_middle", Rules::Modern);
    after(&mut replay, "set_migration_pte");
    let state = replay.state();
    let entry = state.entry(site()).unwrap();
    assert_eq!(entry.pte.to_string(), "write+dirty");
    assert_eq!(state.stale(entry).unwrap().to_string(), "rw+dirty+exclusive");
    assert_eq!(state.pending(state.spaces().next().unwrap()), 1);
    let (old, new) = (state.frame(OLD).unwrap(), state.frame(NEW).unwrap());
    assert!(old.locked && old.isolated && new.locked && !new.isolated);
    assert_eq!((old.list, new.list), (List::From, List::To));
    assert_eq!(
        (old.mapped, old.entries, old.content, new.content),
        (0, 1, Some(0), None)
    );
    assert_eq!(
        (old.pair, new.pair),
        (Some(Pair::Destination(NEW)), Some(Pair::Source(OLD)))
    );

    replay.forward();
    let state = replay.state();
    assert_eq!(state.stale(state.entry(site()).unwrap()), None, "the barrier was");
    assert_eq!(state.pending(state.spaces().next().unwrap()), 0);
    assert_eq!(replay.changed(), [Changed::Barrier]);

    after(&mut replay, "migration_entry_wait");
    let waiters: Vec<_> = replay
        .state()
        .waiters()
        .map(|(actor, site, pfn)| (actor.actor, site, pfn))
        .collect();
    assert_eq!(waiters, [(ActorId::new(1), site(), OLD)]);
    after(&mut replay, "wake");
    assert_eq!(replay.state().waiters().count(), 0);
    assert_eq!(replay.state().actors().next().unwrap().doing, Doing::Running);

    replay.go_to(usize::MAX);
    let state = replay.state();
    assert_eq!(state.list(List::Moved), [state.frame(OLD).unwrap()]);
    assert_eq!(state.list(List::Lru), [state.frame(NEW).unwrap()]);
    assert_eq!(state.frame(NEW).unwrap().content, Some(0));
    assert_eq!(state.frame(NEW).unwrap().flags.unwrap().to_string(), "uptodate+dirty");
    assert!(state.run().unwrap().over);
    assert_eq!(replay.verdict().unwrap().succeeded, 1);
}

#[test]
fn a_page_that_stays_shows_its_refusal_and_its_references() {
    let mut replay = named("extra_reference", Rules::Linux2617);
    replay.go_to(usize::MAX);
    let state = replay.state();
    let frame = state.frames().find(|frame| frame.refused.is_some()).unwrap();
    let refused = frame.refused.unwrap();
    assert!(refused.last && refused.refusal.to_string().starts_with("extra_reference "));
    assert!(frame.references.unwrap().found > frame.references.unwrap().expected);
    assert_eq!(frame.attempts, 11, "2.6.17 makes eleven passes");
    assert_eq!(state.run().unwrap().left, 1);

    let mut replay = named("copy_fails", Rules::Linux2617);
    replay.go_to(usize::MAX);
    let state = replay.state();
    assert_eq!(state.list(List::Failed).len(), 1);
    assert!(state.frame(NEW).unwrap().in_error);
}

#[test]
fn each_event_has_its_documented_steps_and_its_rules() {
    let mut replay = named("one_anonymous_page", Rules::Linux2617);
    after(&mut replay, "switch");
    let numbers: Vec<_> = replay.documented().iter().map(|step| step.number).collect();
    assert_eq!(numbers, ["8", "9", "10", "11"]);
    assert_eq!(replay.rules()[0].id(), "I19");
    replay.go_to(0);
    assert!(replay.documented().is_empty() && replay.rules().is_empty() && replay.changed().is_empty());
}

#[test]
fn a_broken_trace_is_shown_to_its_end_and_its_violation_named() {
    let text = b"trace v1\nisolate p0 f0\nisolate p0 f0\nlock p0 f0\n";
    let mut replay = Replay::read(text).unwrap();
    let (at, violation) = replay.violation().unwrap();
    assert_eq!((at, violation.rule.id()), (1, "I1"));
    replay.go_to(3);
    assert!(replay.state().frame(OLD).unwrap().locked);
    let cut = Replay::read(b"trace v1\nisolate p0 f0\nlock p0 f0\n").unwrap();
    assert_eq!(cut.violation().unwrap().0, 2, "behind the last line");
}

#[test]
fn going_back_is_as_if_one_had_not_gone_on() {
    for scenario in scenarios() {
        let lines = lines(scenario);
        let mut replay = Replay::new(lines.clone());
        let mut states = std::vec![seen(&replay)];
        while replay.forward() {
            states.push(seen(&replay));
        }
        assert_eq!(states.len(), lines.len() + 1);
        for state in states.iter().rev() {
            assert_eq!(&seen(&replay), state, "{} at {}", scenario.name, replay.at());
            replay.back();
        }
        assert!(!replay.back());
    }
}

/// Any lines at all, of the words of real ones: most of what comes out breaks rules.
fn shuffled() -> impl Strategy<Value = Vec<Line>> {
    let pool: Vec<Line> = scenarios().iter().flat_map(lines).collect();
    proptest::collection::vec(proptest::sample::select(pool), 0..120)
}

proptest! {
    #[test]
    fn a_jump_ends_where_the_steps_end(lines in shuffled(), jumps in proptest::collection::vec(0usize..140, 1..6)) {
        let mut replay = Replay::new(lines.clone());
        for jump in jumps {
            replay.go_to(jump);
            let mut straight = Replay::new(lines.clone());
            straight.go_to(jump);
            prop_assert_eq!(replay.at(), jump.min(lines.len()));
            prop_assert_eq!(seen(&replay), seen(&straight));
        }
    }

    #[test]
    fn a_rule_that_the_checker_finds_broken_is_one_of_the_events_rules(lines in shuffled()) {
        if let Err(CheckError::Violation(violation)) = Replay::new(lines).verdict()
            && let Some(event) = violation.event
        {
            let rules = crate::rules_of(&event);
            prop_assert!(rules.contains(&violation.rule), "{violation}");
        }
    }

    #[test]
    fn the_counts_of_a_frame_are_those_of_its_entries(lines in shuffled()) {
        let mut replay = Replay::new(lines);
        while replay.forward() {
            for frame in replay.state().frames() {
                let all = || replay.state().entries().filter(|entry| entry.pte.pfn() == Some(frame.pfn));
                prop_assert_eq!(all().filter(|entry| entry.pte.is_present()).count(), frame.mapped as usize);
                prop_assert_eq!(all().filter(|entry| entry.pte.is_migration()).count(), frame.entries as usize);
            }
        }
    }
}

#[test]
fn an_entry_that_is_gone_is_an_empty_one() {
    let mut replay = Replay::new(std::vec![
        Line {
            page: Some(0),
            event: Event::Map {
                site: site(),
                after: Pte::present(OLD, mm_types::PteFlags::WRITE)
            }
        },
        Line {
            page: Some(0),
            event: Event::Zap {
                site: site(),
                before: Pte::present(OLD, mm_types::PteFlags::WRITE)
            }
        },
    ]);
    replay.go_to(1);
    assert_eq!(replay.state().frame(OLD).unwrap().mapped, 1);
    replay.go_to(2);
    assert_eq!(replay.state().entry(site()).unwrap().pte, Pte::None);
    assert_eq!(replay.state().frame(OLD).unwrap().mapped, 0);
}
