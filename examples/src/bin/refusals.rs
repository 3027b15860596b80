//! Every reason a page can stay, provoked on purpose: the rule, who holds the page, and what to do about it.
//!
//! `cargo run -p examples --bin refusals`

use std::process::ExitCode;

use examples::console;
use examples::provoke::{ALL, How, Provocation, Provoked, live};
use mm_types::{Refusal, Rules};

fn main() -> ExitCode {
    if let Some(extra) = std::env::args_os().nth(1) {
        return console::refuse("refusals", format_args!("takes no arguments, not {}", extra.display()));
    }
    console::result("every reason a page can stay, provoked on the model, and where it can be, in this very process\n");
    let mut failed = 0;
    for provocation in ALL {
        let live = live::provoke(provocation.word).transpose();
        match provocation.provoke().and_then(|provoked| Ok((provoked, live?))) {
            Ok((provoked, live)) => console::result(describe(provocation, provoked, live)),
            Err(error) => {
                console::result(format_args!("{error}: NOT PROVOKED\n"));
                failed += 1;
            }
        }
    }
    if failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn describe(provocation: &Provocation, provoked: Option<Provoked>, live: Option<Refusal>) -> String {
    let mut text = format!("{}\n    because  {}\n", provocation.word, provocation.story);
    let Some(Provoked { refusal, stayed }) = provoked else {
        if let How::Unreachable(why) = provocation.how {
            text += &format!("    not reachable: {why}\n");
        }
        return text;
    };
    let whole = refusal.to_string();
    let holder = whole.strip_prefix(refusal.word()).unwrap_or_default().trim_start();
    let holder = if holder.is_empty() {
        "as the rule says; nothing more is known of it"
    } else {
        holder
    };
    let end = match (stayed, refusal.is_transient()) {
        (false, _) => "moved in a later pass of the same run",
        (true, true) => "stayed on `from`: may be tried again",
        (true, false) => "went to `failed`: trying again is of no use",
    };
    let [old, new] = [Rules::Linux2617, Rules::Modern].map(|rules| refusal.errno(rules));
    text += &format!("    profile  {}\n", provocation.rules());
    text += &format!("    holder   {holder}\n");
    text += &format!("    errno    {old} in 2006, {new} today\n");
    text += &format!("    page     {end}\n");
    if let Some(live) = live {
        text += &format!("    live     refused in user space too: {live}\n");
    }
    text += &format!("    advice   {}\n", refusal.advice());
    text
}
