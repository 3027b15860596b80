//! Doc comments as a source of truth: what a field or a variant means is said once, beside it, and read from there.

use std::collections::BTreeMap;

use crate::table::plain;

/// The documented members of one enum, struct or table, in their order.
pub(crate) struct Members {
    of: &'static str,
    order: Vec<String>,
    docs: BTreeMap<String, String>,
}

impl Members {
    /// Reads the members of what begins on the first line of `source` that contains `head`, such as `pub enum Event {`.
    pub(crate) fn read(source: &str, head: &'static str) -> Self {
        let mut members = Self {
            of: head,
            order: Vec::new(),
            docs: BTreeMap::new(),
        };
        let (mut depth, mut begun) = (0usize, false);
        let mut doc = String::new();
        for line in source.lines().skip_while(|line| !line.contains(head)) {
            let line = line.trim();
            if let Some(text) = line.strip_prefix("///") {
                if depth == 1 {
                    doc.push_str(text);
                }
                continue;
            }
            let at_member = depth == 1 && begun && !line.starts_with("#[") && !line.starts_with("//");
            if let (true, Some(name)) = (at_member, name(line)) {
                members.order.push(name.clone());
                members.docs.insert(name, prose(&doc));
                doc.clear();
            }
            // Braces in strings do not occur where members are declared.
            depth = (depth + line.matches('{').count()).saturating_sub(line.matches('}').count());
            begun |= line.contains('{');
            if begun && depth == 0 {
                break;
            }
        }
        members
    }

    /// Returns the names, in their order.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.order.iter().map(String::as_str)
    }

    /// Returns what a member's comment says.
    pub(crate) fn doc(&self, name: &str) -> Result<&str, String> {
        match self.docs.get(name).map(String::as_str) {
            Some("") | None => Err(format!("{name} has no comment after {:?}", self.of)),
            Some(doc) => Ok(doc),
        }
    }
}

/// Returns the comment above the item that begins on the first line of `source` that contains `head`.
pub(crate) fn item(source: &str, head: &str) -> Result<String, String> {
    let mut doc = String::new();
    for line in source.lines() {
        match line.strip_prefix("///") {
            _ if line.contains(head) && !doc.is_empty() => return Ok(prose(&doc)),
            Some(text) => doc.push_str(text),
            None if line.starts_with("#[") => {}
            None => doc.clear(),
        }
    }
    Err(format!("{head:?} has no comment"))
}

/// Returns the member's name that a line declares.
fn name(line: &str) -> Option<String> {
    let line = line.strip_prefix("pub ").unwrap_or(line);
    let line = line.strip_prefix("const ").unwrap_or(line);
    let name: String = line.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
    (!name.is_empty()).then_some(name)
}

/// Makes a doc comment readable outside rustdoc: links become plain code.
pub(crate) fn prose(doc: &str) -> String {
    let mut text = String::new();
    let mut rest = doc.trim();
    while let Some((before, after)) = rest.split_once("[`") {
        let Some((link, tail)) = after.split_once("`]") else {
            break;
        };
        text.push_str(before);
        // `[`transfer`](crate::transfer)`: the target is rustdoc's.
        let tail = match tail.strip_prefix('(').and_then(|target| target.split_once(')')) {
            Some((_, tail)) => tail,
            None => tail,
        };
        text.push_str(&format!("`{link}`"));
        rest = tail;
    }
    text.push_str(rest);
    text
}

/// Returns the name of an enum's value, from its debug form: `Refuse { .. }` is `Refuse`.
pub(crate) fn variant(value: &impl core::fmt::Debug) -> String {
    format!("{value:?}")
        .chars()
        .take_while(|c| c.is_alphanumeric() || *c == '_')
        .collect()
}

/// Returns the names of a value's fields, from its debug form.
pub(crate) fn fields(value: &impl core::fmt::Debug) -> Vec<String> {
    let text = format!("{value:?}");
    let inside = text.split_once('{').map_or("", |(_, inside)| inside);
    inside
        .split(',')
        .filter_map(|field| field.split_once(':'))
        .map(|(name, _)| name.trim().to_owned())
        .collect()
}

/// Says an enum's value in words: `SwitchThenCopy` is `switch then copy`.
pub(crate) fn said(value: &impl core::fmt::Debug) -> String {
    plain(&variant(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOURCE: &str = "
/// Not this.
pub enum Other { /// No.
    A, }

pub enum Event {
    /// A run begins,
    /// as [`Start`] and [`that`](crate::that).
    Start {
        /// Not a member.
        rules: Rules,
    },
    #[doc(hidden)]
    /// A page.
    Isolate(Pfn),
    Bare,
}

/// Beyond.
pub enum After { /// No.
    B }
";

    #[test]
    fn members_come_with_their_comments_and_nobody_elses() {
        let members = Members::read(SOURCE, "pub enum Event {");
        assert_eq!(members.names().collect::<Vec<_>>(), ["Start", "Isolate", "Bare"]);
        assert_eq!(members.doc("Start"), Ok("A run begins, as `Start` and `that`."));
        assert_eq!(members.doc("Isolate"), Ok("A page."));
        assert!(members.doc("Bare").is_err() && members.doc("Missing").is_err());
    }

    #[test]
    fn an_item_has_the_comment_right_above_it() {
        assert_eq!(item(SOURCE, "pub enum After {"), Ok("Beyond.".to_owned()));
        assert!(item(SOURCE, "pub enum Event {").is_err());
    }

    #[test]
    fn an_enum_that_is_not_there_has_no_members() {
        assert_eq!(Members::read(SOURCE, "pub enum Gone {").names().count(), 0);
    }

    #[test]
    fn fields_and_names_come_from_values() {
        let refusal = mm_types::Refusal::ExtraReference { expected: 1, found: 2 };
        assert_eq!(variant(&refusal), "ExtraReference");
        assert_eq!(fields(&refusal), ["expected", "found"]);
        assert!(fields(&mm_types::Refusal::LockBusy).is_empty());
    }
}
