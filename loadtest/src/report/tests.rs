//! What a page of known runs must say, and that it is well-formed.

use std::collections::BTreeSet;

use super::charts::MAILBOX_MESSAGES;
use super::{check_well_formed, date, of_records};
use crate::cost::Cost;
use crate::record::{LedgerCounts, Moment, Record};

/// A run with latencies from 1 to 1,000 us at a rate, on a server of this name.
fn record(target: &str, rate: f64) -> Record {
    let mut record = Record::new("smtp", "message", target, "synced before 250");
    record.what.started_at = 1_795_651_200;
    record.what.arguments = vec!["loadtest".to_owned(), "smtp".to_owned(), "<&>".to_owned()];
    let spectrum = record.latency.entry("corrected".to_owned()).or_default();
    (1..=1000).for_each(|us| spectrum.record(us * 1000));
    record.rate = rate;
    record.counts.succeeded = 1000;
    record.seconds = 3.0;
    record.series = (0..3)
        .map(|second| Moment { second, succeeded: 300 + second, p99_ns: 900_000, ..Moment::default() })
        .collect();
    record.cost = Some(Cost {
        cpu_us: 57_000,
        machine_cpu_us: 157_000,
        system_calls: Some(2500),
        syncs: Some(34),
        ..Cost::default()
    });
    record.ledger = Some(LedgerCounts { acknowledged: 1000, received: 1000, ..LedgerCounts::default() });
    record
}

#[test]
fn a_page_holds_every_figure_as_it_was_given() {
    let page = of_records("Two servers", &[record("ours <1>", 4321.0), record("theirs", 1234.0)]);
    check_well_formed(&page);
    for words in [
        "ours &lt;1&gt;",
        "theirs",
        "synced before 250",
        "4321",
        "1234",
        // Costs for each message.
        ">57<",
        ">2.5<",
        ">0.034<",
        // Percentiles in the table.
        "500.2 us",
        "990.2 us",
        "2026-11-26 00:00 UTC",
        "loadtest smtp &lt;&amp;&gt;",
        "Latency by percentile",
        "Rate over time",
        "Processor time for each operation",
        "prefers-color-scheme: dark",
    ] {
        assert!(page.contains(words), "{words} is not in the page");
    }
    assert!(!page.contains("<script") && !page.contains("http://localhost"));
    // Only the name of the namespace is an address: nothing is fetched.
    let addresses: BTreeSet<&str> =
        page.split("http").skip(1).map(|rest| rest.split('"').next().unwrap_or_default()).collect();
    assert_eq!(addresses.into_iter().collect::<Vec<_>>(), ["://www.w3.org/2000/svg"]);
}

#[test]
fn runs_at_several_rates_are_one_curve() {
    let page = of_records("Sweep", &[record("ours", 100.0), record("ours", 5000.0), record("ours", 900.0)]);
    check_well_formed(&page);
    let drawing = page.split("Latency by rate</title>").nth(1).expect("there is a drawing");
    let drawing = drawing.split("</svg>").next().expect("it ends");
    for title in ["ours, p50: 100/s, 500 us", "ours, p50: 5000/s", "ours, p99: 900/s, 990 us"] {
        assert!(drawing.contains(title), "{title} is not in {drawing}");
    }
    // From left to right, whatever the order of the records.
    let path = drawing.split("class=\"line s0\" d=\"M").nth(1).expect("a line");
    let path = path.split('"').next().expect("it ends");
    let places: Vec<f64> =
        path.split('L').filter_map(|point| point.split(' ').next()?.parse().ok()).collect();
    assert!(places.len() == 3 && places.is_sorted(), "{places:?}");
}

#[test]
fn growth_is_drawn_for_each_operation() {
    let sized = |target: &str, messages: f64, nanos: u64| {
        let mut record = Record::new("imap", "command", target, "");
        record.figures.insert(MAILBOX_MESSAGES.to_owned(), messages);
        record.latency.entry("SELECT".to_owned()).or_default().record(nanos);
        record
    };
    let records = [
        sized("ours", 1e3, 200_000),
        sized("ours", 1e6, 210_000),
        sized("theirs", 1e3, 300_000),
        sized("theirs", 1e6, 90_000_000),
    ];
    let page = of_records("Growth", &records);
    check_well_formed(&page);
    let drawing = page.split("SELECT in a growing mailbox</title>").nth(1).expect("there is a drawing");
    for title in ["theirs: 1M, 90", "ours: 1000, 200", "messages in the mailbox"] {
        assert!(drawing.contains(title), "{title}");
    }
}

#[test]
fn what_an_invalid_run_measured_is_not_shown() {
    let mut late = record("late", 777.0);
    late.health.invalid = Some("the generator was late".to_owned());
    let page = of_records("One", &[late, record("ours", 500.0)]);
    check_well_formed(&page);
    assert!(page.contains("late is left out: the generator was late."));
    assert!(!page.contains("777"), "its rate is in the page");
}

#[test]
fn no_records_make_an_empty_page() {
    check_well_formed(&of_records("Nothing", &[]));
}

#[test]
fn dates_are_right() {
    for (seconds, text) in [
        (0, "1970-01-01 00:00 UTC"),
        (951_782_400, "2000-02-29 00:00 UTC"),
        (1_795_651_259, "2026-11-26 00:00 UTC"),
        (4_107_542_399, "2100-02-28 23:59 UTC"),
    ] {
        assert_eq!(date(seconds), text);
    }
}
