//! The kernel's lines: `name word=value word=value`.

use serde_json::{Map, Value};

/// The words of a line and their values, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Values(Vec<(String, String)>);

impl Values {
    /// Reads what follows the name of a line.
    #[must_use]
    pub fn new(rest: &str) -> Self {
        let words = rest.split_ascii_whitespace().filter_map(|word| word.split_once('='));
        Self(words.map(|(word, value)| (word.to_owned(), value.to_owned())).collect())
    }

    /// Returns the value of a word.
    #[must_use]
    pub fn value(&self, word: &str) -> Option<&str> {
        let found = self.0.iter().find(|(name, _)| name == word);
        found.map(|(_, value)| value.as_str())
    }

    /// Returns the number of a word; `None` where it is missing or no number.
    #[must_use]
    pub fn number(&self, word: &str) -> Option<u64> {
        self.value(word)?.parse().ok()
    }

    /// Returns them as an object: numbers where they are numbers.
    #[must_use]
    pub fn object(&self) -> Map<String, Value> {
        let value = |text: &String| text.parse::<u64>().map_or_else(|_| text.clone().into(), Value::from);
        self.0.iter().map(|(word, text)| (word.clone(), value(text))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_read_word_by_word() {
        let values = Values::new("profile=modern moved=12 odd lost_writes=0");
        assert_eq!(values.value("profile"), Some("modern"));
        assert_eq!(values.number("moved"), Some(12));
        assert_eq!(values.number("profile"), None);
        assert_eq!(values.number("odd"), None);
        assert_eq!(values.object()["moved"], 12);
    }
}
