use super::*;
use mm_types::Refusal;

fn report() -> Report {
    let mut refused = Refused::default();
    refused.add(Refusal::Pinned { pins: 2 });
    let mut retried = Refused::default();
    retried.add(Refusal::LockBusy);
    let mut retried_by_pass = [0; MAX_PASSES];
    retried_by_pass[2] = 1;
    Report {
        file: "/tmp/a \"quoted\"\nname".into(),
        file_bytes: 5000,
        anon_pages: 2,
        engine: EngineInUse::Shared(None),
        mappings: 3,
        threads: 4,
        rules: Rules::Modern,
        mode: Mode::Sync,
        batch: 512,
        stall_budget: Some(Duration::from_micros(150)),
        seed: u64::MAX,
        elapsed: Duration::from_millis(1500),
        rounds: 2,
        interrupted: false,
        moved: 15,
        freed: 0,
        refused,
        retried,
        retried_by_pass,
        ns_per_page: Some(500.0),
        memcpy_ns_per_page: Some(250.0),
        stalls: Stalls {
            count: 7,
            p50_us: 1.0,
            p99_us: 2.5,
            max_us: 99.0,
        },
        peak_mappings: 120,
        mapping_limit: Some(65530),
        words_written: 1024,
        words_read: 512,
        lost_writes: 0,
        wrong_reads: 0,
        examples: Vec::new(),
        traced: None,
        failure: None,
    }
}

#[test]
fn the_object_has_every_key_that_was_promised() {
    let text = report().json();
    assert_eq!(text.lines().count(), 1);
    let object: Value = serde_json::from_str(&text).unwrap();
    for key in [
        "moved",
        "refused",
        "retried",
        "lost_writes",
        "wrong_reads",
        "ns_per_page",
        "memcpy_ns_per_page",
        "ratio",
        "blocked",
        "stall_p50_us",
        "stall_p99_us",
        "stall_max_us",
        "peak_mappings",
        "seed",
        "profile",
        "batch",
        "stall_budget_us",
    ] {
        assert!(!object[key].is_null(), "{key}");
    }
    assert_eq!(object["refused"], json!({"pinned": 1}));
    assert_eq!(object["refused_by_holder"], json!({"pinned": {"pins=2": 1}}));
    assert_eq!((&object["ratio"], &object["retried"]), (&json!(2.0), &json!(1)));
    assert_eq!(object["seed"], json!(u64::MAX));
    assert_eq!(object["file"], json!("/tmp/a \"quoted\"\nname"));
}

#[test]
fn what_was_not_measured_is_null_and_not_a_number() {
    let nothing = Report {
        ns_per_page: None,
        ..report()
    };
    let object: Value = serde_json::from_str(&nothing.json()).unwrap();
    assert!(object["ns_per_page"].is_null() && object["ratio"].is_null());
    assert!(nothing.text().contains("not measured"));
}

#[test]
fn the_text_names_rule_holder_and_cost() {
    let text = report().text();
    for words in [
        "1  pinned: the page is pinned for direct access; unpin it, then try again",
        "held by pins=2",
        "pass 2: 1",
        "500 ns a page, 2.00 times the 250 ns of a plain copy",
        "7 accesses; p50 1.0 us, p99 2.5 us, worst 99.0 us",
        "120 of 65530",
        "/tmp/a \"quoted\"\\nname in 3 spaces",
    ] {
        assert!(text.contains(words), "{words:?} in\n{text}");
    }
}

#[test]
fn a_report_is_good_only_with_nothing_lost_and_nothing_wrong() {
    assert!(report().is_good());
    for bad in [
        Report {
            lost_writes: 1,
            ..report()
        },
        Report {
            wrong_reads: 1,
            ..report()
        },
        Report {
            failure: Some("x".into()),
            ..report()
        },
    ] {
        assert!(!bad.is_good());
    }
}
