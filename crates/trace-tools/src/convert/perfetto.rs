//! Perfetto's TrackEvent protobuf, for ui.perfetto.dev: a track for each thread, page and waiter, and a count of what no
//! barrier has covered yet.
//!
//! A trace knows threads and no CPUs, and no time: the timestamps, which Perfetto takes for nanoseconds, count events. The name
//! of the process says so to who reads the picture.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::{vec, vec::Vec};

use mm_types::Pfn;
use mm_types::trace::{Event, Line};
use prost::Message;

use super::proto::{
    ChildTracksOrdering, CounterDescriptor, DebugAnnotation, ProcessDescriptor, ThreadDescriptor, TracePacket,
    TrackDescriptor, TrackEvent, Type,
};

const SEQUENCE: u32 = 1;
// Perfetto: TracePacket.SequenceFlags.SEQ_INCREMENTAL_STATE_CLEARED.
const CLEARED: u32 = 1;
const CATEGORY: &str = "migrate";
const PROCESS: &str = "page migration (1 ns is 1 event)";

/// Tracks, by what they show.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Track {
    Process,
    Thread(u32),
    Pages,
    Page(u32),
    // A frame that holds no content that the trace names.
    Frame(u64),
    Waiters,
    Waiter(u32),
    Pending,
}

/// A way from a fault to the waking of its thread.
type Flow = u64;

struct Writer {
    // The packets, written as they are made: a long trace has many.
    bytes: Vec<u8>,
    uuids: BTreeMap<Track, u64>,
    // The slices that are open on each track, by name.
    open: BTreeMap<Track, Vec<String>>,
    now: u64,
}

/// Returns the lines as a Perfetto trace.
#[must_use]
pub fn perfetto(lines: &[Line]) -> Vec<u8> {
    let flows = flows(lines);
    let mut writer = Writer {
        bytes: Vec::new(),
        uuids: BTreeMap::new(),
        open: BTreeMap::new(),
        now: 0,
    };
    writer.track(Track::Process);
    writer.track(Track::Thread(0));
    let mut pages = Pages::default();
    for (at, line) in lines.iter().enumerate() {
        writer.now = (at as u64).saturating_add(1);
        writer.line(line, &mut pages, flows.get(&at).copied());
    }
    writer.now = writer.now.saturating_add(1);
    writer.close_all();
    writer.bytes
}

/// The flow that each fault, wait and wake belongs to: only faults that wait and are woken have one.
fn flows(lines: &[Line]) -> BTreeMap<usize, Flow> {
    let mut faults: BTreeMap<u32, usize> = BTreeMap::new();
    let mut waits: BTreeMap<u32, (usize, Option<usize>)> = BTreeMap::new();
    let mut flows = BTreeMap::new();
    let mut next: Flow = 1;
    for (at, line) in lines.iter().enumerate() {
        match line.event {
            Event::Fault { actor, .. } => {
                faults.insert(actor.raw(), at);
            }
            Event::Wait { actor, .. } => {
                waits.insert(actor.raw(), (at, faults.remove(&actor.raw())));
            }
            Event::Wake { actor, .. } => {
                if let Some((wait, Some(fault))) = waits.remove(&actor.raw()) {
                    for at in [fault, wait, at] {
                        flows.insert(at, next);
                    }
                    next = next.saturating_add(1);
                }
            }
            _ => {}
        }
    }
    flows
}

/// What the pages' tracks have to know of each frame.
#[derive(Default)]
struct Pages {
    // Locked by the migration as the page to move; its new page is locked beside it.
    locked: BTreeSet<Pfn>,
    entries: BTreeMap<Pfn, u32>,
    pending: i64,
}

impl Pages {
    fn came(&mut self, pfn: Pfn) -> bool {
        let entries = self.entries.entry(pfn).or_default();
        *entries = entries.saturating_add(1);
        *entries == 1
    }

    fn went(&mut self, pfn: Pfn) -> bool {
        let entries = self.entries.entry(pfn).or_default();
        let last = *entries == 1;
        *entries = entries.saturating_sub(1);
        last
    }
}

/// The track of the page that the line is about: its content's, for a content goes from frame to frame.
fn track_of(line: &Line) -> Option<Track> {
    let pfn = line.event.frame()?;
    Some(line.page.map_or(Track::Frame(pfn.raw()), Track::Page))
}

impl Writer {
    fn line(&mut self, line: &Line, pages: &mut Pages, flow: Option<Flow>) {
        let text = line.to_string();
        match line.event {
            Event::Start { rules, mode, reason } => {
                self.begin(
                    Track::Thread(0),
                    &format!("migrate_pages {rules} {mode} {reason}"),
                    &text,
                    &[],
                );
            }
            Event::Pass { number } => {
                let passes = "pass ";
                self.end(Track::Thread(0), |name| name.starts_with(passes));
                self.begin(Track::Thread(0), &format!("{passes}{number}"), &text, &[]);
            }
            Event::End { .. } => {
                self.instant(Track::Thread(0), line.event.word(), &text, &[], &[]);
                self.end(Track::Thread(0), |name| name.starts_with("migrate_pages"));
            }
            Event::Flush { .. } => {
                self.instant(Track::Thread(0), line.event.word(), &text, &[], &[]);
                self.pending(pages, 0);
            }
            Event::FlushPending(_) => self.instant(Track::Thread(0), line.event.word(), &text, &[], &[]),
            Event::Fault { actor, .. } => {
                let flows: Vec<_> = flow.into_iter().collect();
                self.instant(Track::Thread(actor.raw()), line.event.word(), &text, &flows, &[]);
            }
            Event::Wait { actor, .. } => {
                let flows: Vec<_> = flow.into_iter().collect();
                let track = Track::Waiter(actor.raw());
                self.end(track, |_| true);
                self.begin(track, line.event.word(), &text, &flows);
            }
            Event::Wake { actor, .. } => {
                self.end(Track::Waiter(actor.raw()), |_| true);
                let flows: Vec<_> = flow.into_iter().collect();
                self.instant(Track::Thread(actor.raw()), line.event.word(), &text, &[], &flows);
            }
            _ => self.page(line, &text, pages),
        }
    }

    /// A page is isolated, locked meanwhile, and in flight while it is locked.
    fn page(&mut self, line: &Line, text: &str, pages: &mut Pages) {
        const ISOLATED: &str = "isolated";
        const LOCKED: &str = "locked";
        const IN_FLIGHT: &str = "in flight";
        let word = line.event.word();
        let Some(track) = track_of(line) else {
            self.instant(Track::Thread(0), word, text, &[], &[]);
            return;
        };
        match line.event {
            Event::Isolate(_) => return self.begin(track, ISOLATED, text, &[]),
            Event::Lock(pfn) => {
                pages.locked.insert(pfn);
                return self.begin(track, LOCKED, text, &[]);
            }
            Event::Unmap { pfn, after, .. } if after.is_migration() && pages.came(pfn) => {
                self.begin(track, IN_FLIGHT, text, &[]);
            }
            Event::CopyPte { child, .. } => {
                if let Some(entry) = child.migration() {
                    pages.came(entry.pfn());
                }
            }
            _ => {}
        }
        self.instant(track, word, text, &[], &[]);
        let ends = match line.event {
            Event::Putback(_) => Some(ISOLATED),
            Event::Unlock(pfn) if pages.locked.remove(&pfn) => Some(LOCKED),
            Event::Restore { old, .. } if pages.went(old) => Some(IN_FLIGHT),
            Event::Zap { before, .. } if before.migration().is_some_and(|entry| pages.went(entry.pfn())) => {
                Some(IN_FLIGHT)
            }
            _ => None,
        };
        if let Some(ends) = ends {
            self.end(track, |name| name == ends);
        }
        if matches!(line.event, Event::Unmap { .. } | Event::Restore { .. }) {
            let pending = pages.pending.saturating_add(1);
            self.pending(pages, pending);
        }
    }

    /// The number of a track, described before it is first used.
    fn track(&mut self, track: Track) -> u64 {
        if let Some(uuid) = self.uuids.get(&track) {
            return *uuid;
        }
        let parent = match track {
            Track::Process => None,
            Track::Thread(_) | Track::Pages | Track::Waiters | Track::Pending => Some(Track::Process),
            Track::Page(_) | Track::Frame(_) => Some(Track::Pages),
            Track::Waiter(_) => Some(Track::Waiters),
        };
        let parent_uuid = parent.map(|parent| self.track(parent));
        let uuid = (self.uuids.len() as u64).saturating_add(1);
        self.uuids.insert(track, uuid);
        let mut about = TrackDescriptor {
            uuid: Some(uuid),
            parent_uuid,
            ..TrackDescriptor::default()
        };
        let rank = |n: u64| i32::try_from(n).ok();
        match track {
            Track::Process => {
                about.process = Some(ProcessDescriptor {
                    pid: Some(1),
                    process_name: Some(PROCESS.into()),
                });
            }
            Track::Thread(actor) => {
                let name = if actor == 0 {
                    "migrator".into()
                } else {
                    format!("thread t{actor}")
                };
                // A thread belongs to its process by number, and needs no other parent.
                about.parent_uuid = None;
                about.thread = Some(ThreadDescriptor {
                    pid: Some(1),
                    tid: i32::try_from(actor).ok().and_then(|tid| tid.checked_add(1)),
                    thread_name: Some(name),
                });
            }
            Track::Pages | Track::Waiters => {
                about.name = Some(if track == Track::Pages { "pages" } else { "waiters" }.into());
                about.child_ordering = Some(ChildTracksOrdering::Explicit.into());
            }
            Track::Page(page) => {
                (about.name, about.sibling_order_rank) = (Some(format!("p{page}")), rank(page.into()));
            }
            Track::Frame(frame) => {
                // Below the contents.
                (about.name, about.sibling_order_rank) = (Some(format!("f{frame} (no content)")), Some(i32::MAX));
            }
            Track::Waiter(actor) => {
                (about.name, about.sibling_order_rank) = (Some(format!("t{actor} waits")), rank(actor.into()));
            }
            Track::Pending => {
                about.name = Some("entries changed since the last barrier".into());
                about.counter = Some(CounterDescriptor {
                    unit_name: Some("entries".into()),
                });
            }
        }
        let packet = TracePacket {
            track_descriptor: Some(about),
            ..self.packet()
        };
        self.write(&packet);
        uuid
    }

    /// A packet of this moment, to which its data has to be added.
    fn packet(&self) -> TracePacket {
        let first = self.bytes.is_empty();
        TracePacket {
            timestamp: Some(self.now),
            trusted_packet_sequence_id: Some(SEQUENCE),
            sequence_flags: first.then_some(CLEARED),
            ..TracePacket::default()
        }
    }

    fn write(&mut self, packet: &TracePacket) {
        // Of the message Trace, field 1, which has a length: all that it consists of.
        self.bytes.push(1 << 3 | 2);
        // A vector has room for all that is written to it.
        let _ = packet.encode_length_delimited(&mut self.bytes);
    }

    fn event(&mut self, track: Track, kind: Type, name: Option<&str>, event: TrackEvent) {
        let track_uuid = Some(self.track(track));
        let event = TrackEvent {
            r#type: Some(kind.into()),
            track_uuid,
            name: name.map(Into::into),
            categories: name.map(|_| CATEGORY.into()).into_iter().collect(),
            ..event
        };
        let packet = TracePacket {
            track_event: Some(event),
            ..self.packet()
        };
        self.write(&packet);
    }

    fn begin(&mut self, track: Track, name: &str, text: &str, flows: &[Flow]) {
        self.open.entry(track).or_default().push(name.into());
        let event = TrackEvent {
            debug_annotations: self.annotations(text),
            flow_ids: flows.to_vec(),
            ..TrackEvent::default()
        };
        self.event(track, Type::SliceBegin, Some(name), event);
    }

    /// Ends the innermost slice that `which` picks, and those within it; nothing where there is none.
    fn end(&mut self, track: Track, which: impl Fn(&str) -> bool) {
        let Some(open) = self.open.get_mut(&track) else { return };
        let Some(at) = open.iter().rposition(|name| which(name)) else {
            return;
        };
        let ended = open.split_off(at).len();
        for _ in 0..ended {
            self.event(track, Type::SliceEnd, None, TrackEvent::default());
        }
    }

    fn close_all(&mut self) {
        let open: Vec<Track> = self.open.keys().copied().collect();
        for track in open {
            while self.open.get(&track).is_some_and(|open| !open.is_empty()) {
                self.end(track, |_| true);
            }
        }
    }

    fn instant(&mut self, track: Track, name: &str, text: &str, flows: &[Flow], ending: &[Flow]) {
        let event = TrackEvent {
            debug_annotations: self.annotations(text),
            flow_ids: flows.to_vec(),
            terminating_flow_ids: ending.to_vec(),
            ..TrackEvent::default()
        };
        self.event(track, Type::Instant, Some(name), event);
    }

    fn pending(&mut self, pages: &mut Pages, entries: i64) {
        pages.pending = entries;
        let event = TrackEvent {
            counter_value: Some(entries),
            ..TrackEvent::default()
        };
        self.event(Track::Pending, Type::Counter, None, event);
    }

    fn annotations(&self, text: &str) -> Vec<DebugAnnotation> {
        let line = DebugAnnotation {
            name: Some("line".into()),
            uint_value: Some(self.now.saturating_add(1)),
            ..DebugAnnotation::default()
        };
        let text = DebugAnnotation {
            name: Some("text".into()),
            string_value: Some(text.into()),
            ..DebugAnnotation::default()
        };
        vec![line, text]
    }
}
