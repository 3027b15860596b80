//! What a session answers at a place, and what of a trace that cannot be read or breaks a rule.

use super::*;

const MOVES: &str = "trace v1
map_pte p0 f0 site=m0+0x3 now=rw+dirty
isolate p0 f0
mm_migrate_pages_start profile=modern mode=sync reason=compaction
pass number=0
lock p0 f0
new_page p0 f0 new=f1
set_migration_pte p0 f0 site=m0+0x3 was=rw+dirty now=write+dirty
flush entries=1
copy p0 f0 new=f1
";

/// The row of a panel that begins with `first`: its cells, and what those that changed were.
fn row(session: &Session, panel: Panel, first: &str) -> (Vec<String>, Vec<Option<String>>) {
    let rows = session.rows(panel, 0, usize::MAX);
    let row = rows
        .as_array()
        .unwrap()
        .iter()
        .find(|row| row["cells"][0] == first)
        .unwrap();
    let texts = |key: &str| {
        row[key]
            .as_array()
            .map(|texts| texts.iter().map(|text| text.as_str().map(str::to_owned)).collect())
    };
    let cells: Vec<Option<String>> = texts("cells").unwrap();
    let was = texts("was").unwrap_or_else(|| vec![None; cells.len()]);
    (cells.into_iter().flatten().collect(), was)
}

fn step_of(word: &str) -> usize {
    MOVES.lines().position(|line| line.starts_with(word)).unwrap()
}

#[test]
fn a_translation_is_stale_from_the_unmapping_to_the_flush() {
    let mut session = Session::open(MOVES.as_bytes());
    session.go(step_of("set_migration_pte"));
    let (cells, was) = row(&session, Panel::Tlbs, "m0+0x3");
    assert_eq!(cells, ["m0+0x3", "rw+dirty f0", "the flush"]);
    assert_eq!(was, [None, None, Some("–".to_owned())]);
    let (cells, was) = row(&session, Panel::Entries, "m0+0x3");
    assert_eq!(cells, ["m0+0x3", "write+dirty", "f0", "rw+dirty"]);
    assert_eq!(was[1].as_deref(), Some("rw+dirty"));
    session.go(step_of("flush"));
    let (cells, was) = row(&session, Panel::Tlbs, "m0+0x3");
    assert_eq!(cells, ["m0+0x3", "–", "–"]);
    assert_eq!(was[1].as_deref(), Some("rw+dirty f0"), "a barrier marks what it ends");
    session.go(step_of("copy"));
    assert_eq!(row(&session, Panel::Tlbs, "m0+0x3").1, [None, None, None]);
}

#[test]
fn a_row_that_was_not_there_is_new_in_every_cell() {
    let mut session = Session::open(MOVES.as_bytes());
    let state = session.go(step_of("new_page"));
    let (cells, was) = row(&session, Panel::Frames, "f1");
    assert_eq!(cells[2..5], ["to", "locked", "← f0"]);
    assert!(was.iter().all(|was| was.as_deref() == Some("")), "{was:?}");
    let frames = Panel::ALL.iter().position(|panel| *panel == Panel::Frames).unwrap();
    assert_eq!(
        state["panels"][frames]["focus"], 0,
        "the pair of f0 changed too, and comes first"
    );
    session.go(step_of("new_page") - 1);
    assert_eq!(
        session.rows(Panel::Frames, 0, 9).as_array().unwrap().len(),
        1,
        "and gone when one goes back"
    );
}

#[test]
fn lists_say_who_came_last_and_count_the_others() {
    let mut text = "trace v1\n".to_owned();
    for page in 0..100 {
        text += &format!("isolate p{page} f{page}\n");
    }
    let mut session = Session::open(text.as_bytes());
    session.go(100);
    let (cells, was) = row(&session, Panel::Lists, "from");
    assert_eq!(cells[1], "100");
    assert!(
        cells[2].starts_with("76 more … f76 f77 ") && cells[2].ends_with(" f98 f99"),
        "{}",
        cells[2]
    );
    assert_eq!(was[1].as_deref(), Some("99"));
    assert_eq!(row(&session, Panel::Lists, "moved").1, [None, None, None]);
}

#[test]
fn a_place_is_the_same_wherever_one_comes_from() {
    let mut session = Session::open(MOVES.as_bytes());
    let all = |session: &Session| -> Vec<Value> {
        Panel::ALL
            .iter()
            .map(|panel| session.rows(*panel, 0, usize::MAX))
            .collect()
    };
    let mut forward = Vec::new();
    for step in 0..=session.steps() {
        forward.push((session.go(step), all(&session)));
    }
    for step in [5, 0, 9, 3, 8, 1, 7, 2, 6, 4] {
        let here = (session.go(step), all(&session));
        assert_eq!(here, forward[step], "at step {step}");
    }
    assert_eq!(session.go(usize::MAX), forward.last().unwrap().0);
}

#[test]
fn what_comes_before_an_error_is_shown() {
    let session = Session::open(b"trace v1\nisolate p0 f0\nlock p0 f0\nlock\xffp0\n");
    assert_eq!(session.steps(), 2);
    let problem = &session.opened()["problem"];
    assert_eq!((&problem["line"], &problem["column"]), (&json!(4), &json!(5)));
    assert_eq!(problem["excerpt"], "lock\u{fffd}p0");
    assert_eq!(Session::open(b"\xff").steps(), 0);
    let long = Session::open(format!("trace v1\n{}\n", "y".repeat(10 << 20)).as_bytes());
    assert!(long.opened()["problem"]["excerpt"].as_str().unwrap().chars().count() < 100);
}

#[test]
fn a_rule_that_breaks_is_named_at_its_step() {
    let broken = MOVES.replace("flush entries=1\n", "");
    let mut session = Session::open(broken.as_bytes());
    let problem = session.opened()["problem"].clone();
    assert_eq!(
        (&problem["rule"], &problem["step"], &problem["line"]),
        (&json!("I33"), &json!(8), &json!(9))
    );
    assert_eq!(session.go(8)["broken"], true);
    assert_eq!(session.go(7)["broken"], false);
    // The whole of it ends within a run: that is at its end.
    let cut = Session::open(MOVES.as_bytes());
    assert_eq!(cut.opened()["problem"]["step"], cut.steps());
    assert_eq!(cut.opened()["problem"]["ends"], true);
}

#[test]
fn a_refusal_is_told_with_what_it_knows() {
    let text = format!(
        "{}unlock p0 f0\nrefuse p0 f0 reason=pinned pins=3\n",
        MOVES.split("new_page").next().unwrap()
    );
    let mut session = Session::open(text.as_bytes());
    let step = session.go(session.steps());
    let refusal = &step["event"]["refusal"];
    assert_eq!(refusal["value"], "Pinned { pins: 3 }");
    assert_eq!(
        (&refusal["page"], &refusal["last"], &refusal["transient"]),
        (&json!("p0"), &json!(true), &json!(true))
    );
    assert_eq!(row(&session, Panel::Frames, "f0").0[7], "refused: pinned pins=3");
}

#[test]
fn a_search_finds_steps() {
    let session = Session::open(MOVES.as_bytes());
    assert_eq!(session.find(&Query::new("f1")), [6, 9]);
    assert_eq!(session.find(&Query::new("m0")), [1, 7]);
    assert!(session.find(&Query::new("nothing")).is_empty());
}
