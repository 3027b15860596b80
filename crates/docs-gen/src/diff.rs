//! The lines in which two texts differ.

/// A line that is in one text and not in the other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Change<'t> {
    /// On disk, and should not be; with its number, from 0.
    Old(usize, &'t str),
    /// Not on disk, and should be; with the number it should have, from 0.
    New(usize, &'t str),
}

/// Returns the changed lines, in order, by a longest common subsequence: the texts are short.
pub(crate) fn changes<'t>(old: &'t str, new: &'t str) -> Vec<Change<'t>> {
    let (old, new): (Vec<_>, Vec<_>) = (old.lines().collect(), new.lines().collect());
    let head = old.iter().zip(&new).take_while(|(a, b)| a == b).count();
    let room = old.len().min(new.len()) - head;
    let tail = old
        .iter()
        .rev()
        .zip(new.iter().rev())
        .take(room)
        .take_while(|(a, b)| a == b)
        .count();
    let (old, new) = (&old[head..old.len() - tail], &new[head..new.len() - tail]);

    let width = new.len() + 1;
    let mut common = vec![0usize; (old.len() + 1) * width];
    for i in (0..old.len()).rev() {
        for j in (0..new.len()).rev() {
            common[i * width + j] = if old[i] == new[j] {
                common[(i + 1) * width + j + 1] + 1
            } else {
                common[(i + 1) * width + j].max(common[i * width + j + 1])
            };
        }
    }
    let (mut i, mut j, mut changes) = (0, 0, Vec::new());
    while i < old.len() || j < new.len() {
        if i < old.len() && j < new.len() && old[i] == new[j] {
            (i, j) = (i + 1, j + 1);
        } else if i < old.len() && (j == new.len() || common[(i + 1) * width + j] >= common[i * width + j + 1]) {
            changes.push(Change::Old(head + i, old[i]));
            i += 1;
        } else {
            changes.push(Change::New(head + j, new[j]));
            j += 1;
        }
    }
    changes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_changed_line_is_one_old_and_one_new() {
        assert_eq!(
            changes("a\nb\nc\n", "a\nB\nc\n"),
            [Change::Old(1, "b"), Change::New(1, "B")]
        );
    }

    #[test]
    fn what_was_added_and_removed_apart_is_told_apart() {
        let found = changes("a\nb\nc\nd\ne\n", "x\na\nb\nd\ny\ne\n");
        assert_eq!(found, [Change::New(0, "x"), Change::Old(2, "c"), Change::New(4, "y")]);
        assert!(changes("same\n", "same\n").is_empty());
        assert_eq!(changes("", "a\n"), [Change::New(0, "a")]);
    }

    #[test]
    fn repeated_lines_are_counted_once_each() {
        assert_eq!(changes("a\na\n", "a\na\na\n"), [Change::New(2, "a")]);
    }
}
