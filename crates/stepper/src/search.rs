//! Finding steps, by what a line names or says.

use mm_types::trace::Line;

/// What somebody looks for: words that a line must all have.
///
/// The id of a page, a frame, a space, a thread or a site (`p1`, `f0`, `m0`, `t1`, `m0+0x3`) is looked for as a whole, so that
/// `p1` does not find `p12`, and a space is found at each of its sites. Anything else is looked for as a part of the line.
#[derive(Clone, Debug)]
pub struct Query {
    words: Vec<String>,
}

impl Query {
    /// Makes a query of what was typed.
    #[must_use]
    pub fn new(typed: &str) -> Self {
        let words = typed.split_whitespace().map(str::to_ascii_lowercase).collect();
        Self { words }
    }

    /// True where nothing was typed, which finds nothing.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.words.is_empty()
    }

    /// True where `line` has every word.
    #[must_use]
    pub fn matches(&self, line: &Line) -> bool {
        let text = line.to_string();
        !self.is_empty() && self.words.iter().all(|word| has(&text, word))
    }
}

fn has(text: &str, word: &str) -> bool {
    if !is_id(word) {
        return text.contains(word);
    }
    let mut ids = text.split([' ', '=', '@']);
    ids.any(|id| {
        id == word
            || id
                .strip_prefix(word)
                .is_some_and(|rest| word.starts_with('m') && rest.starts_with('+'))
    })
}

/// True for `p1`, `f0`, `m0`, `t1` and `m0+0x3`.
fn is_id(word: &str) -> bool {
    let (id, page) = word.split_once('+').map_or((word, None), |(id, page)| (id, Some(page)));
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    match page {
        None => ["p", "f", "m", "t"]
            .iter()
            .any(|letter| id.strip_prefix(letter).is_some_and(digits)),
        Some(page) => id.strip_prefix('m').is_some_and(digits) && page.starts_with("0x"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(query: &str, line: &str) -> bool {
        Query::new(query).matches(&line.parse().unwrap())
    }

    const WAIT: &str = "migration_entry_wait t1 p12 f0 site=m0+0x3";

    #[test]
    fn an_id_is_found_whole() {
        assert!(found("p12", WAIT) && found("t1", WAIT) && found("m0+0x3", WAIT));
        assert!(!found("p1", WAIT) && !found("f01", WAIT) && !found("m0+0x", WAIT));
        let elsewhere = "remove_migration_pte p0 f0 new=f1 site=m0+0x3 was=write@f2 now=rw";
        assert!(found("f2", elsewhere) && found("f0", elsewhere) && !found("f3", elsewhere));
        assert!(found("f1", "copy p0 f0 new=f1") && !found("f1", "copy p0 f0 new=f11"));
    }

    #[test]
    fn a_space_is_found_at_each_of_its_sites() {
        assert!(found("m0", WAIT));
        assert!(found("m1", "flush_pending m1") && !found("m0", "flush_pending m1"));
        assert!(!found("m1", "map_pte p0 f0 site=m10+0x3 now=rw"));
    }

    #[test]
    fn a_word_is_found_in_part_and_all_words_are_needed() {
        assert!(found("entry_wait", WAIT) && found("WAIT p12", WAIT));
        assert!(!found("wait p3", WAIT) && !found("copy", WAIT));
        assert!(!found("", WAIT) && !found("  ", WAIT));
    }
}
