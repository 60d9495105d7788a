//! A fault at the n-th change of the file system, for every n of a fixed workload, once and from then on.
//!
//! The workload is that of a seed: mail by SMTP, here and on, IMAP and POP3, from the first start on. Whatever fails,
//! clients get replies of the right kind, what is there can be read, a full disk can be emptied; when the cause is gone
//! the server serves again, without a start if it was running; and nothing that was acknowledged is lost behind it.
//! The suite takes the first changes and a sample of the others; `RINGPOST_FAULTS=all` takes every change.

use std::collections::BTreeMap;

use crate::whole::{self, Plan};
use crate::world::disk::{Failure, Fault};

const SEED: u64 = 77;

/// Those of the very first start, before there is a whole log: all are taken.
const FIRST_CHANGES: u64 = 60;

/// Changes in a sample of the others, of each kind of fault.
const SAMPLE: u64 = 2;

const FAILURES: [Failure; 6] =
    [Failure::Broken, Failure::Full, Failure::Quota, Failure::Short, Failure::Sync, Failure::ReadOnly];

#[test]
fn a_fault_at_any_change_of_the_disk_loses_nothing() {
    let run = |fault| whole::run(SEED, Plan { fault: Some(fault), ..Plan::default() });
    let quiet = run(None).unwrap_or_else(|broken| panic!("without any fault: {broken}"));
    assert!(quiet.acknowledged > 10 && quiet.faults == 0, "{quiet:?}");
    let takes_all = std::env::var("RINGPOST_FAULTS").is_ok_and(|value| value == "all");
    let step = quiet.changes / SAMPLE;
    let mut table: BTreeMap<String, (u64, u64)> = BTreeMap::new();
    for (kind, what) in (0..).zip(FAILURES) {
        for is_lasting in [false, true] {
            // Each kind of fault looks at other changes.
            let only = std::env::var("RINGPOST_FAULT_AT").ok().and_then(|text| text.parse::<u64>().ok());
            let is_taken = |at: u64| takes_all || at <= FIRST_CHANGES || (at + kind * 3).is_multiple_of(step);
            for at in (1..=quiet.changes).filter(|&at| only.map_or(is_taken(at), |only| only == at)) {
                let fault = Fault { what, is_lasting };
                match run(Some((at, fault))) {
                    Ok(report) => {
                        let counts = table.entry(format!("{fault:?}")).or_default();
                        counts.0 += 1;
                        counts.1 += u64::from(report.faults > 0);
                    }
                    Err(broken) => panic!("{fault:?} at change {at}: {broken}"),
                }
            }
        }
    }
    println!("| fault | runs | of these felt |\n|---|---|---|");
    for (fault, (runs, felt)) in table {
        println!("| {fault} | {runs} | {felt} |");
    }
}
