//! Code as it is shown on a page: the documented steps beside a trace's lines stand out, and so does what differs.

/// Returns the text of a code block as HTML.
pub(super) fn code(language: &str, text: &str) -> String {
    let mut html = String::new();
    for line in text.lines() {
        let line = escaped(line);
        html.push_str(&match language {
            "diff" => differing(&line),
            "text" => traced(&line),
            "console" if line.starts_with("$ ") => format!("<span class=\"typed\">{line}</span>"),
            _ => line,
        });
        html.push('\n');
    }
    html
}

/// A line that only one of two traces has, or that breaks a rule.
fn differing(line: &str) -> String {
    match line.chars().next() {
        Some('+') => format!("<span class=\"plus\">{line}</span>"),
        Some('-') => format!("<span class=\"minus\">{line}</span>"),
        Some('!') => format!("<span class=\"broken\">{line}</span>"),
        _ => line.to_owned(),
    }
}

/// A line of a trace with the numbers of its steps, or a comment.
fn traced(line: &str) -> String {
    match line.split_once(']') {
        Some((step, rest)) if step.starts_with('[') && step.chars().count() < 8 => {
            format!("<span class=\"step\">{step}]</span>{rest}")
        }
        _ if line.starts_with('#') => format!("<span class=\"note\">{line}</span>"),
        _ => line.to_owned(),
    }
}

/// Text as it stands between tags and in quotes.
pub(super) fn escaped(text: &str) -> String {
    let text = text.replace('&', "&amp;").replace('<', "&lt;");
    text.replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_comments_and_differences_are_marked_and_nothing_else() {
        let shown = code("text", "[    1] lock p0\n        flush\n# a <note>\na[0] = 1\n");
        assert_eq!(
            shown,
            "<span class=\"step\">[    1]</span> lock p0\n        flush\n<span class=\"note\"># a &lt;note&gt;</span>\na[0] = 1\n"
        );
        let differing = code("diff", "  a\n+ b\n- c\n! d\n");
        assert_eq!(
            differing,
            "  a\n<span class=\"plus\">+ b</span>\n<span class=\"minus\">- c</span>\n<span class=\"broken\">! d</span>\n"
        );
        assert_eq!(code("rust", "# [x]\n"), "# [x]\n");
        assert_eq!(code("console", "$ a\nb\n"), "<span class=\"typed\">$ a</span>\nb\n");
    }
}
