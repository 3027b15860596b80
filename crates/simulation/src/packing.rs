//! Entries in flight as words: what a run makes fits the words of the kernel that would hold it.

use migrate_core::invariants::{Looks, check_packing};
use mm_types::{EntryFormat, MigrationEntry, MigrationKind, NonPresent, Pte, Rules};

use crate::check::words;
use crate::world::World;

impl World {
    /// Every entry in flight reads back from its word, which looks like nothing else (I40).
    ///
    /// # Errors
    /// The first that does not.
    pub(crate) fn check_packing(&self) -> Result<(), String> {
        let in_flight = self.entries().into_iter().filter_map(|(_, pte)| pte.migration());
        in_flight.into_iter().try_for_each(|entry| self.check_packed(entry))
    }

    fn check_packed(&self, entry: MigrationEntry) -> Result<(), String> {
        // Today's engine, in a kernel of 2006, makes entries that only today's words can hold.
        let of_today = !entry.flags().is_empty() || entry.kind() == MigrationKind::ReadExclusive;
        let format = match self.profile.rules {
            Rules::Linux2617 if !of_today => EntryFormat::X86_64_2_6_17,
            _ => EntryFormat::X86_64,
        };
        let word = format
            .encode(NonPresent::Migration(entry))
            .map_err(|error| format!("{entry:?} has no word: {error} (I40)"))?;
        let looks = |word| Looks {
            present: format.is_present(word),
            none: format.is_none(word),
            file: format.is_file(word),
        };
        let decode = |word| match format.decode(word)? {
            NonPresent::Migration(entry) => Some(Pte::Migration(entry)),
            _ => None,
        };
        check_packing(Pte::Migration(entry), word, looks, decode).map_err(words)
    }
}
