//! Refusals: their words, what they mean, which list they lead to, and the errno of each era.

use mm_types::{Outcome, Pfn, Refusal, Rules, errno};

use crate::source::{Members, fields, variant};
use crate::table::{Table, code, yes};

const SOURCE: &str = include_str!("../../../mm-types/src/outcome.rs");

pub(super) fn refusals() -> String {
    let mut table = Table::new(["rule", "what held the page, and what to do", "ends on"]);
    for refusal in Refusal::EXAMPLES {
        table.row([code(refusal.word()), refusal.advice().to_owned(), code(list(*refusal))]);
    }
    table.to_string()
}

fn list(refusal: Refusal) -> &'static str {
    if refusal.is_transient() { "from" } else { "failed" }
}

pub(super) fn errnos() -> String {
    let mut table = Table::new(["rule", "it also names", "transient", "errno in 2.6.17", "errno today"]);
    for refusal in Refusal::EXAMPLES {
        let named = fields(refusal).join(", ");
        table.row([
            code(refusal.word()),
            if named.is_empty() { "–".to_owned() } else { named },
            yes(refusal.is_transient()).to_owned(),
            errno_of(*refusal, Rules::Linux2617),
            errno_of(*refusal, Rules::Modern),
        ]);
    }
    table.to_string()
}

fn errno_of(refusal: Refusal, rules: Rules) -> String {
    // A backend's own number is handed through, whatever it is: two that differ show it.
    if let Refusal::Backend { .. } = refusal {
        let through = |code| Refusal::Backend { code }.errno(rules) == code;
        if through(errno::EPERM) && through(errno::ENOMEM) {
            return format!("its code, else {}", name(Refusal::Backend { code: 0 }.errno(rules)));
        }
    }
    name(refusal.errno(rules))
}

fn name(number: i32) -> String {
    let known = [
        (errno::EPERM, "EPERM"),
        (errno::EIO, "EIO"),
        (errno::EAGAIN, "EAGAIN"),
        (errno::ENOMEM, "ENOMEM"),
        (errno::EBUSY, "EBUSY"),
        (errno::EINVAL, "EINVAL"),
        (errno::EHWPOISON, "EHWPOISON"),
    ];
    let name = known.iter().find(|(code, _)| *code == number).map(|(_, name)| *name);
    name.map_or_else(|| number.to_string(), str::to_owned)
}

pub(super) fn lists() -> Result<String, String> {
    let members = Members::read(SOURCE, "pub enum Outcome {");
    let mut table = Table::new(["outcome", "meaning", "the page's last"]);
    for outcome in [
        Outcome::Moved { to: Pfn::new(0) },
        Outcome::Freed,
        Outcome::Retry(Refusal::LockBusy),
        Outcome::Refused(Refusal::LockBusy),
    ] {
        let name = variant(&outcome);
        let doc = members.doc(&name)?.to_owned();
        table.row([code(name.to_lowercase()), doc, yes(outcome.is_final()).to_owned()]);
    }
    if members.names().count() != 4 {
        return Err("an outcome is missing from the table".to_owned());
    }
    Ok(table.to_string())
}
