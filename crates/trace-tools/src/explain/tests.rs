use std::string::ToString;

use super::{Asked, End, Explanation, Holder, explain};
use mm_types::{ActorId, Pfn, Site, SpaceId, Vpn};

fn told(text: &str, asked: &str) -> Explanation {
    let lines = crate::parse(text.as_bytes()).unwrap();
    explain(&lines, asked.parse().unwrap()).unwrap()
}

fn site() -> Site {
    Site::new(SpaceId::new(0), Vpn::new(3))
}

const WAITER: &str = "trace v1
mm_migrate_pages_start profile=linux-2.6.17 mode=sync reason=damon
pass number=0
lock p0 f0
set_migration_pte p0 f0 site=m0+0x3 was=rw now=write
flush entries=1
fault t1 site=m0+0x3 access=write
migration_entry_wait t1 p0 f0 site=m0+0x3
new_page p0 f0 new=f1
set_mapping p0 f0 new=f1
remove_migration_pte p0 f0 new=f0 site=m0+0x3 was=write now=rw
flush entries=1
unlock f1
unlock p0 f0
give_back f1
retry p0 f0 reason=extra_reference expected=1 found=3
wake t1 site=m0+0x3
pass number=1
lock p0 f0
set_migration_pte p0 f0 site=m0+0x3 was=rw now=write
flush entries=1
new_page p0 f0 new=f1
set_mapping p0 f0 new=f1
freeze p0 f0 expected=1
";

#[test]
fn in_2006_a_waiter_holds_the_page_and_its_waking_releases_it() {
    let told = told(WAITER, "p0");
    let [first, second] = told.runs[0].attempts.as_slice() else {
        panic!("{told}")
    };
    assert_eq!(
        first.holders,
        [Holder::Waiter(ActorId::new(1), site()), Holder::Unnamed(1)]
    );
    let released = first.released.unwrap();
    assert!(released.seen);
    assert_eq!(
        (released.line, released.what.to_string().as_str()),
        (17, "wake t1 site=m0+0x3")
    );
    assert_eq!((second.end, second.pass, second.lines), (End::Open, 1, (19, 24)));
    assert!(
        told.to_string().starts_with("p0 was being moved when the trace ends\n"),
        "{told}"
    );
}

#[test]
fn today_a_waiter_holds_nothing() {
    let told = told(&WAITER.replace("linux-2.6.17", "modern"), "p0");
    let first = &told.runs[0].attempts[0];
    assert_eq!(first.holders, [Holder::Unnamed(2)]);
    let released = first.released.unwrap();
    assert!(!released.seen, "nobody says who it was");
    assert_eq!(released.line, 24, "at the freeze it was over");
}

#[test]
fn an_entry_that_holds_a_page_is_named_and_so_is_its_end() {
    let text = "trace v1
mm_migrate_pages_start profile=modern mode=sync reason=damon
pass number=0
lock p0 f0
unlock p0 f0
retry p0 f0 reason=mapped site=m0+0x3
zap_pte p0 f0 site=m0+0x3 was=rw
pass number=1
freed p0 f0
mm_migrate_pages succeeded=1 failed=0 left=0
";
    let told = told(text, "m0+0x3");
    let first = &told.runs[0].attempts[0];
    assert_eq!(first.holders, [Holder::Entry(site())]);
    assert_eq!(
        first.released.map(|released| (released.line, released.seen)),
        Some((7, true))
    );
    assert_eq!(told.end(), Some(End::Freed));
}

#[test]
fn a_page_is_asked_for_by_content_frame_or_site() {
    assert_eq!("p7".parse(), Ok(Asked::Page(7)));
    assert_eq!("f7".parse(), Ok(Asked::Frame(Pfn::new(7))));
    assert_eq!("m0+0x3".parse(), Ok(Asked::Site(site())));
    for wrong in [
        "",
        "p",
        "p-1",
        "p+1",
        "f4294967296",
        "m0",
        "m0+3",
        "q1",
        "p1 p2",
        "m0+0x3 x",
    ] {
        assert!(wrong.parse::<Asked>().is_err(), "{wrong:?}");
    }
    let moved = "trace v1
isolate p0 f0
copy p0 f0 new=f1
moved p0 f0 new=f1
putback f0
isolate p1 f0
";
    assert_eq!(told(moved, "f1").page, Some(0));
    assert_eq!(told(moved, "f0").page, Some(1), "what is in it now");
    assert_eq!(told(moved, "p0").frames, [Pfn::new(0), Pfn::new(1)]);
}

#[test]
fn a_trace_that_begins_within_a_run_is_explained_too() {
    let told = told("trace v1\nlock p0 f0\nrefuse p0 f0 reason=poisoned\n", "p0");
    assert_eq!(told.runs[0].run, 0);
    assert!(told.to_string().contains("a run that began before the trace"), "{told}");
}
