//! What cargo-mutants would change, as its list says it.

use serde_json::Value;
use std::collections::BTreeMap;

/// One change to one place of the source.
#[derive(Clone, Debug)]
pub(crate) struct Mutant {
    /// From 1, in the order of the list; 0 is the original.
    pub(crate) id: usize,
    /// cargo-mutants' own name of it: file, line, column, and what is done.
    pub(crate) name: String,
    pub(crate) file: String,
    pub(crate) genre: Genre,
    /// What stands in place of what was there.
    pub(crate) replacement: String,
    /// Line and column from 1, columns in characters, as cargo-mutants counts.
    pub(crate) start: (usize, usize),
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Genre {
    /// A function answers at once.
    FnValue,
    /// A function that answers an unnamed type, of which it has to have one only: two answers do not fit into one program.
    Opaque,
    BinaryOperator,
    UnaryOperator,
    MatchArm,
    MatchArmGuard,
    StructField,
    /// One this program has not learned yet.
    Other,
}

/// Reads the output of `cargo mutants --list --json`.
pub(crate) fn list(text: &str) -> Result<Vec<Mutant>, String> {
    let list: Vec<Value> = serde_json::from_str(text).map_err(|error| format!("the list of mutants: {error}"))?;
    list.iter()
        .enumerate()
        .map(|(index, value)| mutant(index + 1, value).ok_or_else(|| format!("not a mutant: {value}")))
        .collect()
}

fn mutant(id: usize, value: &Value) -> Option<Mutant> {
    let word = |key: &str| Some(value.get(key)?.as_str()?.to_owned());
    let at = |key: &str| usize::try_from(value.pointer("/span/start")?.get(key)?.as_u64()?).ok();
    let answers = value
        .pointer("/function/return_type")
        .and_then(Value::as_str)
        .unwrap_or_default();
    Some(Mutant {
        id,
        name: word("name")?,
        file: word("file")?,
        genre: match word("genre")?.as_str() {
            "FnValue" if answers.contains("impl ") => Genre::Opaque,
            "FnValue" => Genre::FnValue,
            "BinaryOperator" => Genre::BinaryOperator,
            "UnaryOperator" => Genre::UnaryOperator,
            "MatchArm" => Genre::MatchArm,
            "MatchArmGuard" => Genre::MatchArmGuard,
            "StructField" => Genre::StructField,
            _ => Genre::Other,
        },
        replacement: word("replacement")?,
        start: (at("line")?, at("column")?),
    })
}

/// The mutants of each file.
pub(crate) fn by_file(mutants: &[Mutant]) -> BTreeMap<&str, Vec<&Mutant>> {
    let mut files: BTreeMap<&str, Vec<&Mutant>> = BTreeMap::new();
    for mutant in mutants {
        files.entry(&mutant.file).or_default().push(mutant);
    }
    files
}
