//! Chapters: prose in which `{{ name }}` stands for a block.

use crate::Error;
use crate::blocks::Blocks;
use crate::marks::marked;

/// Fills a chapter. A name alone on its line becomes the block between markers; within a line or in code, its
/// bare text.
pub(crate) fn fill(file: &'static str, template: &str, blocks: &Blocks) -> Result<String, Error> {
    let mut filled = String::new();
    let mut fenced = false;
    for (n, line) in template.lines().enumerate() {
        let block = |name: &str| {
            blocks.get(name).ok_or_else(|| Error::NoBlock {
                file,
                line: n + 1,
                block: name.to_owned(),
            })
        };
        fenced ^= line.starts_with("```");
        let alone = line.strip_prefix("{{ ").and_then(|rest| rest.strip_suffix(" }}"));
        if let Some(name) = alone.filter(|name| !fenced && !name.contains(['{', '}'])) {
            filled.push_str(&marked(name, block(name)?));
            continue;
        }
        let mut rest = line;
        while let Some((before, after)) = rest.split_once("{{ ") {
            let (name, tail) = after.split_once(" }}").unwrap_or((after, ""));
            filled.push_str(before);
            filled.push_str(block(name)?.trim());
            rest = tail;
        }
        filled.push_str(rest);
        filled.push('\n');
    }
    Ok(filled)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_stands_alone_with_markers_or_within_a_line_without() {
        let blocks = Blocks::from([("n", "7\n".to_owned())]);
        let filled = fill("a.md", "x {{ n }} y {{ n }}\n{{ n }}\n", &blocks).unwrap();
        assert_eq!(fill("a.md", "```\n{{ n }}\n```\n", &blocks).unwrap(), "```\n7\n```\n");
        assert_eq!(filled, "x 7 y 7\n<!-- docs-gen: n -->\n\n7\n\n<!-- end -->\n");
    }

    #[test]
    fn a_name_that_is_no_block_is_told_with_its_line() {
        let error = fill("a.md", "\nx {{ gone }}\n", &Blocks::new()).unwrap_err();
        assert_eq!(error.to_string(), "a.md, line 2: there is no block \"gone\"");
    }
}
