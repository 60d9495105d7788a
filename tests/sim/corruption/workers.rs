//! Who does all the cases: as many processes as there are processors.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::damage::fraction;
use super::{Bench, CASE, Case, Index, SEED, seed};
use crate::random::Random;
use crate::whole;
use crate::world::Sim;

/// How the cases of each kind of file and damage ended.
pub type Table = BTreeMap<[String; 3], u64>;

/// Which worker a process is, of how many.
const PART: &str = "RINGPOST_CORRUPTION_PART";

/// How often a worker says how far it is.
const BETWEEN_WORDS: Duration = Duration::from_secs(30);

/// As many processes as there are processors run the test of this name, each with the same store for itself: as threads
/// they would wait for each other's mappings. `None` in such a process, which has printed what it found, and where one
/// case was repeated.
pub fn judge_all(test: &str, index: Index) -> Option<Table> {
    whole::prepare();
    if let Some(part) = std::env::var(PART).ok().and_then(|part| fraction(&part)) {
        let worker = Worker { test: test.to_owned(), index, part };
        let thread = std::thread::Builder::new().stack_size(16 << 20);
        let judged = thread.spawn(move || worker.judge()).expect("a thread");
        for ([file, how, outcome], count) in judged.join().unwrap_or_else(|_| panic!("see above")) {
            println!("| {file} | {how} | {outcome} | {count} |");
        }
        return None;
    }
    let is_repeated = std::env::var_os(CASE).is_some();
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let workers = if is_repeated { 1 } else { processors };
    let begin = |worker| {
        let mut command = Command::new(std::env::current_exe().expect("this program has a path"));
        command.args(["--exact", "--nocapture", &format!("corruption::{test}")]);
        command.env(PART, format!("{worker}/{workers}")).stdout(Stdio::piped()).spawn().expect("it starts")
    };
    let children: Vec<Child> = (1..=workers).map(begin).collect();
    let mut table = Table::new();
    for child in children {
        let output = child.wait_with_output().expect("it ends");
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{said}");
        for row in said.lines().filter_map(|line| line.strip_prefix("| ")?.strip_suffix(" |")) {
            let mut cells = row.split(" | ").map(str::to_owned);
            let of = [(); 3].map(|()| cells.next().unwrap_or_default());
            let count: u64 = cells.next().and_then(|count| count.parse().ok()).expect("a number of cases");
            *table.entry(of).or_default() += count;
        }
    }
    println!("| file | damage | outcome | cases |\n|---|---|---|---|");
    for ([file, how, outcome], count) in &table {
        println!("| {file} | {how} | {outcome} | {count} |");
    }
    println!("{} cases", table.values().sum::<u64>());
    (!is_repeated).then_some(table)
}

/// One of so many.
struct Worker {
    test: String,
    index: Index,
    part: (usize, usize),
}

impl Worker {
    /// Its thread has a world of its own, so that recovery starts no threads.
    fn judge(&self) -> Table {
        let folder = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).expect("a folder");
        let sim = Sim::begin(1, &folder.path().join("world"));
        // No log is written to, and what would wait for a write would wait for ever.
        sim.end_life(sim.life());
        let bench = Bench::of(seed(), folder.path(), self.index, &sim);
        let cases = self.cases(&bench);
        let begun = Instant::now();
        let mut said = begun;
        let mut table = Table::new();
        for (number, case) in cases.iter().enumerate() {
            let outcome = catch_unwind(AssertUnwindSafe(|| bench.judge(case, number)));
            let outcome = outcome.unwrap_or_else(|panic| {
                eprintln!("{}", self.how_to_repeat(case));
                resume_unwind(panic)
            });
            if said.elapsed() > BETWEEN_WORDS {
                said = Instant::now();
                eprintln!("{}", self.progress(number, cases.len(), begun.elapsed()));
            }
            // What changes nothing is no case.
            let Some(outcome) = outcome else {
                continue;
            };
            let kind = case.path.extension().map_or("large", |end| end.to_str().unwrap_or_default());
            let how = format!("{:?}", case.damage).split(' ').next().unwrap_or_default().to_owned();
            *table.entry([kind.to_owned(), how, format!("{outcome:?}")]).or_default() += 1;
        }
        table
    }

    /// All that are this worker's, or the one that is repeated.
    fn cases(&self, bench: &Bench) -> Vec<Case> {
        if let Ok(case) = std::env::var(CASE) {
            return vec![case.parse().unwrap_or_else(|why| panic!("{CASE}: {why}"))];
        }
        let (worker, workers) = self.part;
        bench.cases(&mut Random::new(99)).skip(worker).step_by(workers).collect()
    }

    fn how_to_repeat(&self, case: &Case) -> String {
        format!(
            "to repeat it: {SEED}={} {CASE}='{case}' cargo test --release --test sim corruption::{} -- --exact \
             --nocapture",
            seed(),
            self.test
        )
    }

    fn progress(&self, done: usize, of: usize, span: Duration) -> String {
        let (worker, workers) = self.part;
        let rate = done as f64 / span.as_secs_f64();
        let minutes_left = (of - done) as f64 / rate / 60.0;
        format!(
            "{}, worker {} of {workers}: {done} of {of} cases, {rate:.0} a second, {minutes_left:.0} minutes left",
            self.test,
            worker + 1
        )
    }
}
