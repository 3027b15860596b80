//! What the converter writes, read back with Perfetto's own schema.

#[path = "../../trace-tools/tests/tools/long.rs"]
mod long;
#[path = "../../trace-tools/tests/tools/support.rs"]
mod support;

use std::collections::{BTreeMap, BTreeSet};

use migrate_core::conformance::scenarios;
use mm_types::trace::Line;
use perfetto_protos::trace::Trace;
use perfetto_protos::trace_packet::trace_packet::Data;
use perfetto_protos::track_event::TrackEvent;
use perfetto_protos::track_event::track_event::Type;
use protobuf::reflect::ReflectValueRef;
use protobuf::{Message, MessageDyn};
use trace_tools::convert::perfetto;
use trace_tools::parse;

use support::name;

fn read(lines: &[Line]) -> Trace {
    let bytes = perfetto(lines);
    let trace = Trace::parse_from_bytes(&bytes).unwrap();
    // What the schema reads is what it would write, up to the order of fields, in which encoders are free.
    let again = trace.write_to_bytes().unwrap();
    assert_eq!(again.len(), bytes.len());
    assert_eq!(Trace::parse_from_bytes(&again).unwrap(), trace);
    trace
}

/// No field that the schema does not know, at any depth.
fn known(message: &dyn MessageDyn) {
    let unknown: Vec<_> = message.unknown_fields_dyn().iter().collect();
    assert!(unknown.is_empty(), "{}: {unknown:?}", message.descriptor_dyn().name());
    for field in message.descriptor_dyn().fields() {
        let within = |value: ReflectValueRef<'_>| {
            if let ReflectValueRef::Message(message) = value {
                known(&*message);
            }
        };
        if field.is_repeated() {
            field.get_repeated(message).into_iter().for_each(within);
        } else if let Some(value) = field.get_singular(message) {
            within(value);
        }
    }
}

/// The events of a trace, with their times.
fn events(trace: &Trace) -> Vec<(u64, &TrackEvent)> {
    let mut events = Vec::new();
    for packet in &trace.packet {
        if let Some(Data::TrackEvent(event)) = &packet.data {
            events.push((packet.timestamp(), event));
        }
    }
    events
}

/// All that must hold of any trace for the viewer to show what is meant.
fn sound(lines: &[Line]) -> Trace {
    let trace = read(lines);
    known(&trace);
    let mut described = BTreeSet::new();
    let mut now: BTreeMap<u32, u64> = BTreeMap::new();
    let mut open: BTreeMap<u64, Vec<String>> = BTreeMap::new();
    let mut begun: BTreeMap<u64, usize> = BTreeMap::new();
    let mut ended: BTreeMap<u64, usize> = BTreeMap::new();
    for packet in &trace.packet {
        let last = now.entry(packet.trusted_packet_sequence_id()).or_default();
        assert!(packet.timestamp() >= *last, "the time of a sequence goes back");
        *last = packet.timestamp();
        match &packet.data {
            Some(Data::TrackDescriptor(track)) => {
                assert!(described.insert(track.uuid()), "a track is described twice");
                if let Some(parent) = track.parent_uuid {
                    assert!(described.contains(&parent), "a track's parent comes after it, or never");
                }
            }
            Some(Data::TrackEvent(event)) => {
                assert!(described.contains(&event.track_uuid()), "an event of no track");
                let stack = open.entry(event.track_uuid()).or_default();
                match event.type_() {
                    Type::TYPE_SLICE_BEGIN => stack.push(event.name().to_owned()),
                    Type::TYPE_SLICE_END => assert!(stack.pop().is_some(), "a slice ends that has not begun"),
                    Type::TYPE_INSTANT => assert!(!event.name().is_empty()),
                    Type::TYPE_COUNTER => assert!(event.has_counter_value()),
                    Type::TYPE_UNSPECIFIED => panic!("an event of no type"),
                }
                for flow in &event.flow_ids {
                    assert!(!ended.contains_key(flow), "a flow goes on after its end");
                    *begun.entry(*flow).or_default() += 1;
                }
                for flow in &event.terminating_flow_ids {
                    *ended.entry(*flow).or_default() += 1;
                }
            }
            other => panic!("a packet of another kind: {other:?}"),
        }
    }
    assert!(open.values().all(Vec::is_empty), "a slice that does not end: {open:?}");
    // A fault, the wait in the middle, and one end.
    assert!(begun.values().all(|count| *count == 2), "{begun:?}");
    assert!(ended.values().all(|count| *count == 1), "{ended:?}");
    assert!(begun.keys().eq(ended.keys()), "a flow with one end");
    trace
}

#[test]
fn every_scenario_is_a_trace_that_perfetto_can_read() {
    for scenario in scenarios() {
        let lines = parse(scenario.trace().as_bytes()).unwrap();
        let trace = sound(&lines);
        // Nothing is lost: each line is told of, with its number.
        let mut told: Vec<u64> = events(&trace)
            .iter()
            .flat_map(|(_, event)| &event.debug_annotations)
            .filter(|annotation| annotation.name() == "line")
            .map(|annotation| annotation.uint_value())
            .collect();
        told.dedup();
        let all: Vec<u64> = (2..lines.len() as u64 + 2).collect();
        assert_eq!(told, all, "{}", name(scenario));
    }
}

#[test]
fn a_fault_a_wait_and_a_wake_are_one_flow_over_two_tracks() {
    let lines = parse(support::trace("fault_in_the_middle.modern").as_bytes()).unwrap();
    let trace = sound(&lines);
    let events = events(&trace);
    let of = |name: &str| events.iter().find(|(_, event)| event.name() == name).unwrap().1;
    let (fault, wait, wake) = (of("fault"), of("migration_entry_wait"), of("wake"));
    assert_eq!(
        (&fault.flow_ids, &wait.flow_ids, &wake.terminating_flow_ids),
        (&vec![1], &vec![1], &vec![1])
    );
    assert_eq!(fault.track_uuid(), wake.track_uuid());
    assert_ne!(fault.track_uuid(), wait.track_uuid());
}

#[test]
fn a_page_in_flight_is_a_slice_within_its_lock_within_its_isolation() {
    let lines = parse(support::trace("one_anonymous_page.modern").as_bytes()).unwrap();
    let trace = sound(&lines);
    let events = events(&trace);
    let page = events
        .iter()
        .find(|(_, event)| event.name() == "isolated")
        .unwrap()
        .1
        .track_uuid();
    let slices: Vec<_> = events
        .iter()
        .filter(|(_, event)| event.track_uuid() == page && event.type_() != Type::TYPE_INSTANT)
        .map(|(_, event)| event.name())
        .collect();
    assert_eq!(slices, ["isolated", "locked", "in flight", "", "", ""]);
}

#[test]
fn the_count_of_changed_entries_falls_to_0_at_a_barrier() {
    let lines = parse(support::trace("batch_of_eight.modern").as_bytes()).unwrap();
    let trace = sound(&lines);
    let counts = events(&trace);
    let counts: Vec<i64> = counts
        .iter()
        .filter(|(_, event)| event.type_() == Type::TYPE_COUNTER)
        .map(|(_, event)| event.counter_value())
        .collect();
    assert_eq!(counts, [1, 2, 3, 4, 5, 6, 7, 8, 0, 1, 2, 3, 4, 5, 6, 7, 8, 0]);
}

#[test]
fn lines_in_any_order_make_a_sound_trace() {
    let mut lines = long::long(3000);
    // A trace that breaks every rule: the same lines, far from where they belong.
    let step = 1009;
    let shuffled: Vec<Line> = (0..lines.len()).map(|at| lines[at * step % lines.len()]).collect();
    sound(&parse(long::text(&shuffled).as_bytes()).unwrap());
    lines.reverse();
    sound(&lines);
}
