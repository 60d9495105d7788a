//! What a table of known results must say.

use crate::compare::bench::Sizes;
use crate::compare::results::{Measured, Side};
use crate::compare::row::Samples;
use crate::compare::rows::{self, Row};
use crate::compare::server::Server;
use crate::compare::table::Table;

fn side(version: &str, values: &[(&str, f64)]) -> Side {
    let samples: Samples = values.iter().map(|(name, value)| ((*name).to_owned(), *value)).collect();
    let durability = "synced before 250".to_owned();
    Side { version: version.to_owned(), durability, samples: vec![samples; 5], failed: None }
}

fn row<'a>(rows: &'a [Row], name: &str) -> &'a Row {
    rows.iter().find(|row| row.name == name).expect("there is such a row")
}

fn measured(name: &str, sides: Vec<(Server, Side)>) -> Measured {
    let mut measured = Measured::new(name, "abc1234", "full sizes", 1_795_651_200);
    measured.command = "target/release/loadtest compare".to_owned();
    measured.servers = sides.into_iter().collect();
    measured
}

#[test]
fn the_table_gives_both_sides_the_ratio_and_the_verdict() {
    let rows = rows::all(&Sizes::full());
    let mut failed = side("", &[]);
    failed.samples.clear();
    failed.failed = Some("it is not installed".to_owned());
    let accept = measured(
        "accept-64",
        vec![
            (
                Server::Ringpost,
                side("Ringpost 0.1.0", &[("cpu", 60.0), ("rate", 10_000.0), ("flushes", 0.04)]),
            ),
            (Server::Postfix, side("Postfix 3.7.11", &[("cpu", 1800.0), ("rate", 800.0), ("flushes", 2.0)])),
            (Server::Exim, failed),
        ],
    );
    let table = Table::new(vec![(row(&rows, "accept-64"), accept)]);
    let markdown = table.markdown();
    for words in [
        "| CPU a message | 60 us | 1.8 ms, Postfix (synced) | 30x (30x to 30x) | >= 25x Postfix | held |",
        "| messages a second | 10k/s | 800/s, Postfix (synced) | 12.5x (12.5x to 12.5x) | >= 15x the best | missed |",
        "| device flushes a message | 0.04 | 2, Postfix (synced) | 50x (50x to 50x) | <= 0.05 | held |",
        "2 goals held, 1 missed, 0 not measured",
        "- 2026-11-26, commit abc1234: `loadtest compare`, full sizes",
        "- Postfix 3.7.11: synced before 250",
        "- Exim was not measured in accept-64: it is not installed",
    ] {
        assert!(markdown.contains(words), "{words} is not in\n{markdown}");
    }
    let page = table.page();
    crate::report::check_well_formed(&page);
    for words in [
        "accept-64, cpu",
        "30x Postfix, held",
        "12.5x Postfix, missed",
        "<th class=\"n\">Postfix (synced)</th>",
        ">1.8 ms<",
    ] {
        assert!(page.contains(words), "{words} is not in the page");
    }
}

#[test]
fn growth_is_drawn_from_its_row() {
    let rows = rows::all(&Sizes::full());
    let ours = side("Ringpost", &[("SELECT 1000", 2e5), ("SELECT 1000000", 2.2e5), ("SELECT growth", 1.1)]);
    let theirs = side("Dovecot", &[("SELECT 1000", 3e5), ("SELECT 1000000", 9e7), ("SELECT growth", 300.0)]);
    let growth = measured("growth", vec![(Server::Ringpost, ours), (Server::DovecotMaildir, theirs)]);
    let table = Table::new(vec![(row(&rows, "growth"), growth)]);
    let page = table.page();
    crate::report::check_well_formed(&page);
    assert!(page.contains("SELECT in a growing mailbox"));
    assert!(page.contains("Dovecot maildir (messages synced): 1M, 90 ms"));
    let markdown = table.markdown();
    assert!(
        markdown.contains(
            "| 1.1x | 300x, Dovecot maildir (messages synced) | 273x (273x to 273x) | <= 1.5x | held |"
        ),
        "{markdown}"
    );
}

#[test]
fn what_is_written_can_be_read() {
    let rows = rows::all(&Sizes::full());
    let scaling = measured("scaling", vec![(Server::Ringpost, side("Ringpost", &[("growth", 1.4)]))]);
    let table = Table::new(vec![(row(&rows, "scaling"), scaling)]);
    let folder = tempfile::tempdir().expect("a folder");
    table.write(folder.path()).expect("it is written");
    let json = std::fs::read_to_string(folder.path().join("comparison.json")).expect("it is there");
    let json: serde_json::Value = serde_json::from_str(&json).expect("it is JSON");
    assert_eq!(json["lines"][0]["verdict"], "missed");
    assert_eq!(json["rows"][0]["servers"]["ringpost"]["samples"][4]["growth"], 1.4);
    for name in ["comparison.md", "comparison.html"] {
        assert!(folder.path().join(name).exists(), "{name}");
    }
}
