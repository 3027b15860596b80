//! Edits of a text, some of them inside others.

/// Replaces `start..end` by `parts`; an empty range inserts.
///
/// Of two edits one of which lies inside the other, the outer one comes first in the list.
#[derive(Clone, Debug)]
pub(crate) struct Edit {
    pub(crate) start: usize,
    pub(crate) end: usize,
    pub(crate) parts: Vec<Part>,
}

#[derive(Clone, Debug)]
pub(crate) enum Part {
    New(String),
    /// A range of the source inside the edit, with the edits inside it done.
    Old(usize, usize),
}

/// The source with all edits done.
pub(crate) fn splice(source: &str, edits: &[Edit]) -> String {
    let mut text = String::new();
    write(&mut text, source, edits, 0, (0, source.len()));
    text
}

/// Writes a range with those edits done that lie inside it and come at `from` in the list or later.
fn write(text: &mut String, source: &str, edits: &[Edit], from: usize, (start, end): (usize, usize)) {
    let (mut at, mut inserted) = (start, None);
    // The next edit is the one that begins first; an insertion before what is replaced there, a long one before one inside it.
    while let Some((index, edit)) = edits
        .iter()
        .enumerate()
        .skip(from)
        .filter(|(index, edit)| edit.start >= at && edit.end <= end && inserted != Some(*index))
        .min_by_key(|(index, edit)| (edit.start, edit.start != edit.end, usize::MAX - edit.end, *index))
    {
        text.push_str(&source[at..edit.start]);
        for part in &edit.parts {
            match part {
                Part::New(new) => text.push_str(new),
                Part::Old(start, end) => write(text, source, edits, index + 1, (*start, *end)),
            }
        }
        at = edit.end;
        inserted = (edit.start == edit.end).then_some(index);
    }
    text.push_str(&source[at..end]);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn edit(start: usize, end: usize, parts: &[Part]) -> Edit {
        Edit {
            start,
            end,
            parts: parts.to_vec(),
        }
    }

    #[test]
    fn an_edit_inside_another_is_done_wherever_the_outer_one_repeats_its_range() {
        let outer = edit(0, 5, &[Part::Old(0, 1), Part::New("|".into()), Part::Old(0, 5)]);
        let inner = edit(0, 1, &[Part::New("x".into())]);
        assert_eq!(splice("a + b", &[outer, inner]), "x|x + b");
    }

    #[test]
    fn an_insertion_comes_before_what_is_replaced_at_the_same_place() {
        let insert = edit(1, 1, &[Part::New("i".into())]);
        let replace = edit(1, 2, &[Part::New("r".into())]);
        assert_eq!(splice("abc", &[replace, insert]), "airc");
    }
}
