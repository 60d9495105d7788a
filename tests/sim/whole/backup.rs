//! A backup of a server that goes on, in a made world: its logs are cut at different moments and its files copied
//! later, while a cleaner would like to have them. A server of another world starts on the copy.
//!
//! What was acknowledged before the backup began must be there, every message whole, and each for all of its
//! recipients or for none: in whichever logs message and mailboxes lie.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use ringpost::io::disk::copy::Extent;
use ringpost::io::inbox::Inbox;
use ringpost::shard::control::Request;
use ringpost::shard::mesh::Letter;

use super::ledger::{Known, Sent};
use super::server::{End, State};
use super::{Plan, Run, SETTLED_US, prepare};
use crate::mutants::{FORGETS_CUTS, Mutant};

/// What is known of the first world when the second begins.
struct Taken {
    sent: BTreeMap<String, (Vec<u8>, Vec<String>, Known)>,
    /// Acknowledged when the backup began.
    before: BTreeSet<String>,
    /// Expunged, or perhaps, by account and token.
    gone: BTreeSet<(String, String)>,
    /// Deliveries that are to be told, by token and recipient.
    wished: BTreeSet<(String, String)>,
}

/// How the holder of the pins behaves.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Holder {
    Holds,
    /// As if there were no pins.
    LetsGo,
}

/// Takes a backup and looks at what is restored from it: how many copies of messages that was.
fn run(seed: u64, mutant: Option<&'static Mutant>, holder: Holder) -> Result<usize, String> {
    prepare();
    let folder = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).expect("a folder");
    let copy = folder.path().join("copy");
    let taken = within(seed, {
        let copy = copy.clone();
        move || take(seed, mutant, holder, &copy)
    })?;
    within(seed, move || look(seed, &copy, taken))
}

fn within<T: Send + 'static>(seed: u64, work: impl FnOnce() -> T + Send + 'static) -> Result<T, String> {
    let thread = std::thread::Builder::new().name(format!("seed {seed}")).stack_size(16 << 20);
    thread.spawn(work).expect("a thread").join().map_err(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned())).unwrap_or_default()
    })
}

fn take(seed: u64, mutant: Option<&'static Mutant>, holder: Holder, to: &Path) -> Taken {
    let run = Run::begin(seed, Plan { mutant, ..Plan::default() });
    run.people_the_world();
    run.calm();
    run.server.start();
    run.until("it serves", SETTLED_US, |run| run.server.state() == State::Up);
    run.pass(1_000_000 + run.sim.below(4_000_000));

    let is_taken = |(token, sent): (&String, &Sent)| (sent.taken == Known::Yes).then(|| token.clone());
    let before: BTreeSet<String> = run.ledger.sent.borrow().iter().filter_map(is_taken).collect();
    let release = run.pin();
    if holder == Holder::LetsGo {
        release.iter().for_each(|release| release.post(()));
    }
    let files = run.cut();
    // Whatever is garbage by now would be freed.
    let cleaned = run.ask_all(Request::Clean);
    run.until("it is cleaned", SETTLED_US, |_| cleaned.iter().all(|cleaned| !cleaned.is_empty()));
    for file in files {
        run.pass(run.sim.below(20_000));
        copy_extent(&file, &run.sim.disk.data(), to);
    }
    if holder == Holder::Holds {
        release.iter().for_each(|release| release.post(()));
    }

    run.ledger.is_over.set(true);
    run.until("clients end", SETTLED_US, |run| run.ledger.busy.get() == 0);
    let sent = std::mem::take(&mut *run.ledger.sent.borrow_mut()).into_iter();
    let sent = sent.map(|(token, Sent { bytes, recipients, taken })| (token, (bytes, recipients, taken)));
    let mut gone = BTreeSet::new();
    for (account, mail) in run.ledger.mail.borrow().iter() {
        let uids = mail.gone.iter().chain(&mail.doubtful).filter_map(|uid| mail.seen.get(uid));
        gone.extend(uids.map(|token| (account.clone(), token.clone())));
    }
    run.end(End::Kill);
    Taken { sent: sent.collect(), before, gone, wished: run.ledger.wished.take() }
}

impl Run {
    /// Pins all logs until each shard is told by one of these.
    fn pin(&self) -> Vec<Inbox<()>> {
        let release: Vec<Inbox<()>> = self.server.inboxes().iter().map(|_| Inbox::new()).collect();
        let mut waiting = release.iter();
        let pinned = self
            .ask_all(|pinned| Request::Pin(pinned, waiting.next().expect("one each").clone(), Inbox::new()));
        self.until("all is pinned", SETTLED_US, |_| pinned.iter().all(|pinned| !pinned.is_empty()));
        release
    }

    /// The files of a cut; shards are asked for it long after each other, in any order.
    fn cut(&self) -> Vec<Extent> {
        let inboxes = self.server.inboxes();
        let first = self.sim.below(inboxes.len() as u64) as usize;
        let mut answers = Vec::new();
        for shard in (first..first + inboxes.len()).map(|shard| shard % inboxes.len()) {
            let answer = Inbox::new();
            inboxes[shard].post(Letter::Control(Request::FilesAt(1, answer.clone())));
            answers.push(answer);
            self.pass(self.sim.below(2_000_000));
        }
        self.until("all is cut", SETTLED_US, |_| answers.iter().all(|answer| !answer.is_empty()));
        let files = answers.iter().filter_map(Inbox::try_next);
        files.flat_map(|files| files.expect("the disk is good")).collect()
    }

    fn ask_all<T>(&self, mut request: impl FnMut(Inbox<T>) -> Request) -> Vec<Inbox<T>> {
        let ask = |inbox: &Inbox<Letter>| {
            let answer = Inbox::new();
            inbox.post(Letter::Control(request(answer.clone())));
            answer
        };
        self.server.inboxes().iter().map(ask).collect()
    }
}

fn copy_extent(file: &Extent, data: &Path, to: &Path) {
    let to = to.join(file.path.strip_prefix(data).expect("it is below the data directory"));
    fs::create_dir_all(to.parent().expect("a folder")).expect("made");
    let bytes = fs::read(&file.path);
    rule!("what is kept stays", bytes.is_ok(), "{}: {bytes:?}", file.path.display());
    let mut bytes = bytes.expect("just looked at");
    bytes.truncate(usize::try_from(file.bytes).expect("it is small"));
    bytes.resize(usize::try_from(file.length).expect("it is small"), 0);
    fs::write(to, bytes).expect("written");
}

fn look(seed: u64, copy: &Path, taken: Taken) -> usize {
    let Taken { sent, before, gone, wished } = taken;
    let run = Run::begin(seed, Plan::default());
    *run.ledger.wished.borrow_mut() = wished;
    super::copy(copy, &run.sim.disk.data());
    for (token, (bytes, recipients, taken)) in &sent {
        let sent = Sent { bytes: bytes.clone(), recipients: recipients.clone(), taken: *taken };
        run.ledger.sent.borrow_mut().insert(token.clone(), sent);
    }
    run.server.start();
    run.until("it serves", SETTLED_US, |run| run.server.state() == State::Up);
    // What was on its way between logs arrives.
    run.pass(10_000_000);
    run.look();
    run.ledger.check_doubles();
    let mail = run.ledger.mail.borrow();
    let has = |account: &str, token: &String| {
        mail.get(account).is_some_and(|mail| mail.seen.values().any(|seen| seen == token))
    };
    let mut copies = 0;
    for (token, (_, recipients, _)) in &sent {
        let local = recipients.iter().filter_map(|recipient| recipient.strip_suffix("@here.test"));
        let (there, missing): (Vec<&str>, Vec<&str>) = local.partition(|account| has(account, token));
        let missing: Vec<&str> = missing
            .into_iter()
            .filter(|account| !gone.contains(&((*account).to_owned(), token.clone())))
            .collect();
        rule!(
            "what was taken is in the backup",
            missing.is_empty() || !before.contains(token),
            "{token}: {missing:?}"
        );
        rule!(
            "all get it or none",
            missing.is_empty() || there.is_empty(),
            "{token}: {there:?}, not {missing:?}"
        );
        copies += there.len();
    }
    run.end(End::Kill);
    copies
}

#[test]
fn a_backup_is_of_one_moment() {
    let mut copies = 0;
    for seed in 0..20 {
        match run(seed, None, Holder::Holds) {
            Ok(count) => copies += count,
            Err(broken) => panic!("seed {seed}: {broken}"),
        }
    }
    println!("{copies} copies of messages");
    assert!(copies > 200, "there was something to look at: {copies}");
}

#[test]
fn a_backup_of_several_moments_and_one_without_pins_are_noticed() {
    let caught = |mutant, holder| (0..60).find_map(|seed| Some((seed, run(seed, mutant, holder).err()?)));
    let (seed, broken) = caught(Some(&FORGETS_CUTS), Holder::Holds).expect("letters without numbers of cuts");
    println!("letters forget the cut: seed {seed}: {broken}");
    assert!(broken.starts_with('['), "{broken}");
    let (seed, broken) = caught(None, Holder::LetsGo).expect("files that are not kept");
    println!("nothing is pinned: seed {seed}: {broken}");
    assert!(broken.starts_with('['), "{broken}");
}
