//! What the generator itself spends, beside Postfix's: a message costs it at most 0.8 of what it costs smtp-source, one
//! command at a time, and a third when it pipelines.
//!
//! `cargo test --release -p loadtest --test harness -- --ignored --nocapture thrift`

use std::path::Path;
use std::process::Command;

use loadtest::sink::{Conduct, Sink};
use loadtest::stats::Ratio;

const HARNESS: &str = env!("CARGO_BIN_EXE_loadtest");
const SOURCE: &str = "/usr/sbin/smtp-source";

const ROUNDS: usize = 10;

/// Letters that both know.
const DIALOGUE: [&str; 7] = ["-s", "20", "-l", "4096", "-m", "10000", "-d"];

/// Processor time of a whole run, user and system, in milliseconds.
fn spend(program: &str, arguments: &[&str], to: &str) -> f64 {
    let script = "TIMEFORMAT='%U %S'; time \"$@\" >/dev/null 2>&1";
    let mut command = Command::new("bash");
    command.args(["-c", script, "bash", program]).args(arguments).args(DIALOGUE).arg(to);
    let output = command.output().expect("bash runs");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(matches!(output.status.code(), Some(0 | 3)), "{program}: {said}");
    let times = said.split_whitespace().map(|word| word.parse::<f64>().expect("bash says seconds"));
    times.sum::<f64>() * 1e3
}

#[test]
#[ignore = "processor time means something in a release build alone"]
fn thrift() {
    assert!(Path::new(SOURCE).exists(), "smtp-source is not installed (Debian package postfix)");
    let sink = Sink::start(([127, 0, 0, 1], 0).into(), Conduct::default(), None, 1).expect("a free port");
    let to = sink.address().to_string();
    let stepwise = || spend(HARNESS, &["smtp"], &to);
    let pipelined = || spend(HARNESS, &["smtp", "--pipeline"], &to);
    let grouped = || spend(HARNESS, &["smtp", "--pipeline=group"], &to);
    let source = || spend(SOURCE, &[], &to);
    let mut samples = [const { Vec::new() }; 4];
    for round in 0..ROUNDS {
        let mut turns: [(usize, &dyn Fn() -> f64); 4] =
            [(0, &stepwise), (1, &pipelined), (2, &grouped), (3, &source)];
        if round % 2 == 1 {
            turns.reverse();
        }
        turns.iter().for_each(|(who, spend)| samples[*who].push(spend()));
    }
    assert_eq!(sink.taken(), 4 * ROUNDS as u64 * 10_000);
    let [stepwise, pipelined, grouped, source] = samples;
    // Two round trips for each message: what the kernel takes for them is a third alone.
    println!("--pipeline=group: {:.3} of smtp-source", Ratio::of(&grouped, &source).value);
    for (name, ours, most) in [("one command at a time", stepwise, 0.8), ("pipelined", pipelined, 1.0 / 3.0)]
    {
        let ratio = Ratio::of(&ours, &source);
        println!("{name}: {:.3} of smtp-source ({:.3} to {:.3})", ratio.value, ratio.low, ratio.high);
        assert!(ratio.value <= most, "{name}: {ratio:?}, ours {ours:?}, theirs {source:?}");
    }
}
