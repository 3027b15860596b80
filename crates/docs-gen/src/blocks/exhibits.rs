//! What a bug of the museum leaves, beside what the system leaves without it.

use mm_types::trace::numbered_text;

use crate::diff::{Change, changes};
use crate::exhibits::{EXHIBITS, Exhibit, Finding, LIVE, live as live_bug};
use crate::table::{Table, code};

/// Lines that are the same, shown before and after those that differ.
const AROUND: usize = 2;

/// The exhibits, and how each shows itself.
pub(super) fn list() -> Result<String, String> {
    let mut table = Table::new(["bug", "breaks", "shows itself"]);
    for exhibit in EXHIBITS {
        let shows = match exhibit.finding()? {
            Finding::Line(violation) => format!("on line {} of its trace", violation.line),
            Finding::Recount(noticed) if noticed.starts_with("at the end") => "by the recount at the end".to_owned(),
            Finding::Recount(_) => "by what the scenario expects".to_owned(),
        };
        table.row([exhibit.id, exhibit.catalogued()?.breaks.id(), &shows]);
    }
    Ok(table.to_string())
}

/// One exhibit: what happened once, the scenario, and where the two traces part.
pub(super) fn shown(id: &str) -> Result<String, String> {
    let exhibit = EXHIBITS.iter().find(|exhibit| exhibit.id == id);
    let exhibit = exhibit.ok_or_else(|| format!("there is no exhibit {id}"))?;
    let bug = exhibit.catalogued()?;
    let finding = exhibit.finding()?;
    let broken = match &finding {
        Finding::Line(violation) => Some(violation.line),
        Finding::Recount(_) => None,
    };
    let says = match &finding {
        Finding::Line(violation) => format!("The checker, of the line with `!`: {}", said(&violation.to_string())),
        Finding::Recount(noticed) if noticed.starts_with("at the end") => {
            format!("The recount, {}", said(noticed))
        }
        Finding::Recount(noticed) => format!("The scenario, {}", said(noticed)),
    };
    let parting = match parting(exhibit, broken)? {
        None => "The trace is the same, line by line: what went wrong is in no event.".to_owned(),
        Some(lines) => format!("```diff\n{lines}```"),
    };
    Ok(format!(
        "**{}** ({}). {}\n\n```text\n{}```\n\n{parting}\n\n{says}\n",
        bug.id, bug.fix, bug.scenario, exhibit.scenario,
    ))
}

/// What a live process saw of the bug that no trace shows.
pub(super) fn live() -> Result<String, String> {
    let bug = live_bug()?;
    let recorded = LIVE.trim_end();
    Ok(format!(
        "**{}** ({}). {}\n\n```text\n{recorded}\n```\n",
        bug.id, bug.fix, bug.scenario
    ))
}

/// Marks what a check said as code, so that no character of it is read as markup.
fn said(text: &str) -> String {
    code(text.replace('`', "'"))
}

/// The recorded trace beside the sound one: `-` before what only the sound one has, `+` before what only the recorded one has,
/// `!` before the line that breaks the invariant. It ends there, or a little behind what differs; `None` where nothing does.
fn parting(exhibit: &Exhibit, broken: Option<usize>) -> Result<Option<String>, String> {
    let numbered = |text: &str| numbered_text(text).map_err(|error| format!("{}: {error}", exhibit.id));
    let (sound, recorded) = (numbered(&exhibit.sound()?)?, numbered(exhibit.trace())?);
    // A numbered text has no version line, which is line 1.
    let broken = broken.map(|line| line.saturating_sub(2));
    let lines = merged(&sound, &recorded, broken);
    if !lines.iter().any(|(mark, _)| *mark != ' ') {
        return Ok(None);
    }
    let end = lines
        .iter()
        .position(|(mark, _)| *mark == '!')
        .map_or(lines.len(), |at| at + 1);
    let near = |n: usize| {
        let around = n.saturating_sub(AROUND)..=n.saturating_add(AROUND);
        lines
            .iter()
            .take(end)
            .enumerate()
            .any(|(at, (mark, _))| *mark != ' ' && around.contains(&at))
    };
    let (mut text, mut left_out) = (String::new(), false);
    for (n, (mark, line)) in lines.iter().take(end).enumerate() {
        if near(n) {
            text.push_str(&format!("{mark} {line}\n"));
        } else if !left_out {
            text.push_str("  …\n");
        }
        left_out = !near(n);
    }
    if end < lines.len() {
        text.push_str("  …\n");
    }
    Ok(Some(text))
}

/// All lines of both texts, in order, each with its mark.
fn merged<'t>(sound: &'t str, recorded: &'t str, broken: Option<usize>) -> Vec<(char, &'t str)> {
    let mut differing = changes(sound, recorded).into_iter().peekable();
    let mut merged = Vec::new();
    // Where the next line of the sound text is: what both have moves both on.
    let mut at = 0;
    for (n, line) in recorded.lines().enumerate() {
        while let Some(Change::Old(_, gone)) =
            differing.next_if(|change| matches!(change, Change::Old(old, _) if *old == at))
        {
            merged.push(('-', gone));
            at += 1;
        }
        let added = differing
            .next_if(|change| matches!(change, Change::New(new, _) if *new == n))
            .is_some();
        at += usize::from(!added);
        let mark = if broken == Some(n) {
            '!'
        } else if added {
            '+'
        } else {
            ' '
        };
        merged.push((mark, line));
    }
    merged.extend(differing.map(|change| match change {
        Change::Old(_, line) => ('-', line),
        Change::New(_, line) => ('+', line),
    }));
    merged
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_both_texts_come_in_order_with_their_marks() {
        let marks = |sound, recorded, broken| -> Vec<String> {
            let lines = merged(sound, recorded, broken);
            lines.iter().map(|(mark, line)| format!("{mark}{line}")).collect()
        };
        assert_eq!(marks("a\nb\nc\n", "a\nx\nc\n", Some(2)), [" a", "-b", "+x", "!c"]);
        assert_eq!(marks("a\nb\nc\nd\n", "a\nd\n", None), [" a", "-b", "-c", " d"]);
        assert_eq!(marks("a\nb\n", "a\n", None), [" a", "-b"]);
        assert_eq!(marks("a\n", "y\na\nz\n", None), ["+y", " a", "+z"]);
    }
}
