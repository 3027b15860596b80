//! The canonical scenarios, as files.

use std::fs;
use std::path::Path;

use migrate_core::{LINUX_2_6_17, MODERN, Profile};

/// One scenario in one profile.
pub(crate) struct Case {
    /// The file's name without `.scn`, and the profile's.
    pub(crate) name: String,
    /// The text.
    pub(crate) text: String,
    /// Whose rules.
    pub(crate) profile: &'static Profile,
}

/// Returns every scenario in every profile it exists in, by name.
///
/// `NAME.scn` exists in both; `NAME.linux.scn` and `NAME.modern.scn` in one, which the text names too.
pub(crate) fn cases() -> Vec<Case> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scenarios");
    let mut cases = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "scn") {
            continue;
        }
        let text = fs::read_to_string(&path).unwrap();
        let stem = path.file_stem().unwrap().to_str().unwrap();
        let profiles: &[(&str, &'static Profile)] = match stem.split_once('.') {
            None => &[("linux", &LINUX_2_6_17), ("modern", &MODERN)],
            Some((_, "linux")) => &[("linux", &LINUX_2_6_17)],
            Some((_, "modern")) => &[("modern", &MODERN)],
            Some((_, other)) => panic!("no profile {other}"),
        };
        let base = stem.split('.').next().unwrap();
        for (word, profile) in profiles {
            assert!(
                profiles.len() == 2 || text.contains(&format!("profile {}", profile.rules)),
                "{stem}"
            );
            cases.push(Case {
                name: format!("{base}.{word}"),
                text: text.clone(),
                profile,
            });
        }
    }
    cases.sort_by(|a, b| a.name.cmp(&b.name));
    cases
}
