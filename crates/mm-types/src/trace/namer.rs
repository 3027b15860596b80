//! Small ids in order of first appearance, so that the same steps make the same text on every backend.
//!
//! Frames, spaces and actors are numbered as they appear (actors from 1: `t0` is the migrator). A *content* is numbered when its frame first appears as
//! somebody's page; it follows the copy to the new frame, and leaves the old one when the page has moved. A destination
//! that nothing was copied to holds no content, and its lines print none.

use super::table::{Full, Slot, Table};
use super::{Event, Line};
use crate::{ActorId, MigrationEntry, MigrationKind, Pfn, Pte, Site, SpaceId};

/// What a namer remembers of a frame.
#[derive(Clone, Copy, Debug)]
pub struct Named {
    id: u32,
    content: Option<u32>,
    // True from the moment the frame is known to hold nobody's page: lines about it then make no new content.
    bare: bool,
}

/// Room for a frame's name.
pub type FrameName = Slot<u64, Named>;
/// Room for the name of a space or an actor.
pub type SmallName = Slot<u32, u32>;

/// Gives ids to the events of one trace.
#[derive(Debug)]
pub struct Namer<'s> {
    frames: Table<'s, u64, Named>,
    spaces: Table<'s, u32, u32>,
    actors: Table<'s, u32, u32>,
    contents: u32,
}

impl<'s> Namer<'s> {
    /// Makes a namer over lent room: a slot for each frame, space and actor that will appear.
    #[must_use]
    pub fn new(frames: &'s mut [FrameName], spaces: &'s mut [SmallName], actors: &'s mut [SmallName]) -> Self {
        Self {
            frames: Table::new("frame", frames),
            spaces: Table::new("space", spaces),
            actors: Table::new("actor", actors),
            contents: 0,
        }
    }

    /// Returns the line that `event` is in this trace; events must come in their order.
    ///
    /// # Errors
    ///
    /// [`Full`] where the room lent does not do; the namer is of no more use then.
    pub fn name(&mut self, event: Event) -> Result<Line, Full> {
        self.before(event)?;
        let actor = match event {
            Event::Fault { actor, .. } | Event::Wait { actor, .. } | Event::Wake { actor, .. } => {
                Some(self.actor(actor)?)
            }
            _ => None,
        };
        let page = match event.frame() {
            Some(pfn) => self.content(pfn)?,
            None => None,
        };
        let named = self.renamed(event, actor.unwrap_or_default())?;
        self.after(event)?;
        Ok(Line { page, event: named })
    }

    /// What has to be known of contents before the line is printed.
    fn before(&mut self, event: Event) -> Result<(), Full> {
        match event {
            // Whoever isolates or maps a frame has a page in it, whatever was there before.
            Event::Isolate(pfn) => self.frame(pfn)?.bare = false,
            Event::Map { after, .. } => {
                if let Some(pfn) = after.pfn() {
                    self.frame(pfn)?.bare = false;
                }
            }
            Event::GiveBack(new) => self.strip(new)?,
            _ => {}
        }
        Ok(())
    }

    /// What the event changed about contents.
    fn after(&mut self, event: Event) -> Result<(), Full> {
        match event {
            Event::NewPage { new, .. } => self.strip(new),
            Event::Copy { old, new } => {
                let content = self.frame(old)?.content;
                let new = self.frame(new)?;
                new.content = content;
                new.bare = content.is_none();
                Ok(())
            }
            Event::Moved { old, .. } | Event::Freed(old) => self.strip(old),
            _ => Ok(()),
        }
    }

    fn strip(&mut self, pfn: Pfn) -> Result<(), Full> {
        let frame = self.frame(pfn)?;
        frame.content = None;
        frame.bare = true;
        Ok(())
    }

    fn frame(&mut self, pfn: Pfn) -> Result<&mut Named, Full> {
        let id = small(self.frames.len());
        self.frames.entry(pfn.raw(), || Named {
            id,
            content: None,
            bare: false,
        })
    }

    fn content(&mut self, pfn: Pfn) -> Result<Option<u32>, Full> {
        let next = self.contents;
        let frame = self.frame(pfn)?;
        if frame.content.is_none() && !frame.bare {
            frame.content = Some(next);
            self.contents = next.saturating_add(1);
        }
        Ok(self.frame(pfn)?.content)
    }

    fn pfn(&mut self, pfn: Pfn) -> Result<Pfn, Full> {
        Ok(Pfn::new(self.frame(pfn)?.id.into()))
    }

    fn actor(&mut self, actor: ActorId) -> Result<ActorId, Full> {
        // 0 is the migrator's; the others are counted from 1.
        if actor.raw() == 0 {
            return Ok(actor);
        }
        let id = small(self.actors.len()).saturating_add(1);
        self.actors.entry(actor.raw(), || id).map(|id| ActorId::new(*id))
    }

    fn space(&mut self, space: SpaceId) -> Result<SpaceId, Full> {
        let id = small(self.spaces.len());
        self.spaces.entry(space.raw(), || id).map(|id| SpaceId::new(*id))
    }

    fn site(&mut self, site: Site) -> Result<Site, Full> {
        Ok(Site::new(self.space(site.space)?, site.page))
    }

    fn pte(&mut self, pte: Pte) -> Result<Pte, Full> {
        Ok(match pte {
            Pte::Present { pfn, flags } => Pte::Present {
                pfn: self.pfn(pfn)?,
                flags,
            },
            Pte::Poison(pfn) => Pte::Poison(self.pfn(pfn)?),
            Pte::Migration(entry) => {
                let pfn = self.pfn(entry.pfn())?;
                let made = match entry.kind() {
                    MigrationKind::Read => MigrationEntry::readable(pfn),
                    MigrationKind::ReadExclusive => MigrationEntry::readable_exclusive(pfn),
                    MigrationKind::Write => MigrationEntry::writable(pfn),
                };
                Pte::Migration(made.with_flags(entry.flags()))
            }
            Pte::None | Pte::Swap { .. } | Pte::File { .. } => pte,
        })
    }

    /// The event in ids. Its frame comes first, then the rest as the line prints it.
    fn renamed(&mut self, event: Event, who: ActorId) -> Result<Event, Full> {
        Ok(match event {
            Event::Start { .. } | Event::Pass { .. } | Event::End { .. } | Event::Flush { .. } => event,
            Event::Isolate(pfn) => Event::Isolate(self.pfn(pfn)?),
            Event::Putback(pfn) => Event::Putback(self.pfn(pfn)?),
            Event::Lock(pfn) => Event::Lock(self.pfn(pfn)?),
            Event::Unlock(pfn) => Event::Unlock(self.pfn(pfn)?),
            Event::WaitWriteback(pfn) => Event::WaitWriteback(self.pfn(pfn)?),
            Event::GiveBack(pfn) => Event::GiveBack(self.pfn(pfn)?),
            Event::Freed(pfn) => Event::Freed(self.pfn(pfn)?),
            Event::NewPage { old, new } => Event::NewPage {
                old: self.pfn(old)?,
                new: self.pfn(new)?,
            },
            Event::SetMapping { old, new } => Event::SetMapping {
                old: self.pfn(old)?,
                new: self.pfn(new)?,
            },
            Event::Copy { old, new } => Event::Copy {
                old: self.pfn(old)?,
                new: self.pfn(new)?,
            },
            Event::Moved { old, new } => Event::Moved {
                old: self.pfn(old)?,
                new: self.pfn(new)?,
            },
            Event::Switch { old, new, slots } => Event::Switch {
                old: self.pfn(old)?,
                new: self.pfn(new)?,
                slots,
            },
            Event::Transfer { old, new, flags } => Event::Transfer {
                old: self.pfn(old)?,
                new: self.pfn(new)?,
                flags,
            },
            Event::Freeze { pfn, expected } => Event::Freeze {
                pfn: self.pfn(pfn)?,
                expected,
            },
            Event::Writeout { pfn, ok } => Event::Writeout {
                pfn: self.pfn(pfn)?,
                ok,
            },
            Event::Refuse { pfn, refusal, last } => {
                let pfn = self.pfn(pfn)?;
                let refusal = match refusal {
                    crate::Refusal::Mapped { site: Some(site) } => crate::Refusal::Mapped {
                        site: Some(self.site(site)?),
                    },
                    crate::Refusal::Mlocked { site: Some(site) } => crate::Refusal::Mlocked {
                        site: Some(self.site(site)?),
                    },
                    other => other,
                };
                Event::Refuse { pfn, refusal, last }
            }
            Event::Unmap {
                pfn,
                site,
                before,
                after,
            } => Event::Unmap {
                pfn: self.pfn(pfn)?,
                site: self.site(site)?,
                before: self.pte(before)?,
                after: self.pte(after)?,
            },
            Event::Restore {
                old,
                new,
                site,
                before,
                after,
            } => Event::Restore {
                old: self.pfn(old)?,
                new: self.pfn(new)?,
                site: self.site(site)?,
                before: self.pte(before)?,
                after: self.pte(after)?,
            },
            Event::Map { site, after } => Event::Map {
                site: self.site(site)?,
                after: self.pte(after)?,
            },
            Event::Zap { site, before } => Event::Zap {
                site: self.site(site)?,
                before: self.pte(before)?,
            },
            Event::Protect { site, before, after } => Event::Protect {
                site: self.site(site)?,
                before: self.pte(before)?,
                after: self.pte(after)?,
            },
            Event::CopyPte {
                from,
                to,
                parent,
                child,
            } => Event::CopyPte {
                from: self.site(from)?,
                to: self.site(to)?,
                parent: self.pte(parent)?,
                child: self.pte(child)?,
            },
            Event::MovePte { from, to, pte } => Event::MovePte {
                from: self.site(from)?,
                to: self.site(to)?,
                pte: self.pte(pte)?,
            },
            Event::FlushPending(space) => Event::FlushPending(self.space(space)?),
            Event::Fault { site, write, .. } => Event::Fault {
                actor: who,
                site: self.site(site)?,
                write,
            },
            Event::Wait { site, pfn, .. } => Event::Wait {
                actor: who,
                pfn: self.pfn(pfn)?,
                site: self.site(site)?,
            },
            Event::Wake { site, .. } => Event::Wake {
                actor: who,
                site: self.site(site)?,
            },
        })
    }
}

fn small(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{PteFlags, Vpn};
    use std::{format, string::String};

    fn text(events: &[Event]) -> String {
        let (mut frames, mut spaces, mut actors) = ([Slot::FREE; 16], [Slot::FREE; 4], [Slot::FREE; 4]);
        let mut namer = Namer::new(&mut frames, &mut spaces, &mut actors);
        events
            .iter()
            .map(|event| format!("{}\n", namer.name(*event).unwrap()))
            .collect()
    }

    fn f(n: u64) -> Pfn {
        Pfn::new(0x8_0000_0000 + n)
    }

    #[test]
    fn a_content_follows_the_copy_and_leaves_the_frame_that_moved() {
        let site = Site::new(SpaceId::new(77), Vpn::new(3));
        let events = [
            Event::Isolate(f(9)),
            Event::NewPage { old: f(9), new: f(4) },
            Event::Copy { old: f(9), new: f(4) },
            Event::Restore {
                old: f(9),
                new: f(4),
                site,
                before: Pte::Migration(MigrationEntry::writable(f(9))),
                after: Pte::present(f(4), PteFlags::WRITE),
            },
            Event::Unlock(f(4)),
            Event::Putback(f(4)),
            Event::Moved { old: f(9), new: f(4) },
            Event::Putback(f(9)),
            Event::Isolate(f(9)),
            Event::Isolate(f(4)),
        ];
        let expected = "isolate p0 f0\nnew_page p0 f0 new=f1\ncopy p0 f0 new=f1\n\
            remove_migration_pte p0 f0 new=f1 site=m0+0x3 was=write now=rw\nunlock p0 f1\nputback p0 f1\n\
            moved p0 f0 new=f1\nputback f0\nisolate p1 f0\nisolate p0 f1\n";
        assert_eq!(text(&events), expected);
    }

    #[test]
    fn whatever_is_mapped_in_a_frame_that_was_left_is_another_content() {
        let site = Site::new(SpaceId::new(77), Vpn::new(3));
        let events = [
            Event::Isolate(f(9)),
            Event::Freed(f(9)),
            Event::Lock(f(9)),
            Event::Map {
                site,
                after: Pte::present(f(9), PteFlags::WRITE),
            },
            Event::Zap {
                site,
                before: Pte::present(f(9), PteFlags::WRITE),
            },
        ];
        let expected = "isolate p0 f0\nfreed p0 f0\nlock f0\nmap_pte p1 f0 site=m0+0x3 now=rw\n\
            zap_pte p1 f0 site=m0+0x3 was=rw\n";
        assert_eq!(text(&events), expected);
    }

    #[test]
    fn a_destination_that_goes_back_unused_has_no_content() {
        let events = [
            Event::NewPage { old: f(1), new: f(2) },
            Event::Unlock(f(2)),
            Event::GiveBack(f(2)),
            Event::NewPage { old: f(3), new: f(2) },
            Event::Copy { old: f(3), new: f(2) },
            Event::GiveBack(f(2)),
            Event::Unlock(f(3)),
        ];
        let expected = "new_page p0 f0 new=f1\nunlock f1\ngive_back f1\nnew_page p1 f2 new=f1\ncopy p1 f2 new=f1\n\
            give_back f1\nunlock p1 f2\n";
        assert_eq!(text(&events), expected);
    }

    #[test]
    fn the_same_steps_on_other_frames_and_spaces_make_the_same_text() {
        let steps = |base: u64, space: u32| {
            let site = Site::new(SpaceId::new(space), Vpn::new(3));
            let actor = ActorId::new(space * 100);
            text(&[
                Event::Map {
                    site,
                    after: Pte::present(Pfn::new(base), PteFlags::WRITE),
                },
                Event::Fault {
                    actor,
                    site,
                    write: true,
                },
                Event::Wait {
                    actor,
                    site,
                    pfn: Pfn::new(base),
                },
            ])
        };
        assert_eq!(steps(5, 1), steps(0x77_7777, 9));
        assert_eq!(
            steps(5, 1),
            "map_pte p0 f0 site=m0+0x3 now=rw\nfault t1 site=m0+0x3 access=write\n\
             migration_entry_wait t1 p0 f0 site=m0+0x3\n"
        );
    }

    #[test]
    fn too_little_room_is_an_error() {
        let (mut frames, mut spaces, mut actors) = ([Slot::FREE; 1], [Slot::FREE; 1], [Slot::FREE; 0]);
        let mut namer = Namer::new(&mut frames, &mut spaces, &mut actors);
        assert!(namer.name(Event::Lock(f(0))).is_ok());
        assert_eq!(namer.name(Event::Lock(f(1))), Err(Full { what: "frame", room: 1 }));
    }
}
