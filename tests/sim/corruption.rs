//! A small store in which every bit is flipped, every sector zeroed, swapped with another, and replaced by an older
//! version of itself: what is damaged is told or harmless, and no message is ever taken for another.
//!
//! Recovery and reading are the server's own, on real files. Of the large number of cases the suite takes a sample;
//! `RINGPOST_CORRUPTION=all` takes them all, and `RINGPOST_CORRUPTION=3/100` every hundredth from the third on.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::rc::Rc;

use ringpost::auth::Directory;
use ringpost::bytes::Slice;
use ringpost::io::disk::DiskError;
use ringpost::io::disk::layout::DataDir;
use ringpost::io::disk::open::{Begin, open_log, verify_log};
use ringpost::io::disk::reader::Reader;
use ringpost::mail::digest::Digest;
use ringpost::shard::restore::Loading;
use ringpost::store::owed::Row;
use ringpost::store::record::{Body, Record};
use ringpost::store::recover::{Found as Read, Recovered, Scan, SegmentFile};
use ringpost::store::{LogId, MessageId, Place};

use crate::random::Random;
use crate::whole::{self, copy};
use crate::world::Sim;

const SECTOR_BYTES: usize = 512;

/// Cases of each kind and file in a sample.
const SAMPLE: u64 = 8;

/// What was done to a file.
#[derive(Clone, Copy, Debug)]
enum Damage {
    Flip { bit: usize },
    Zero { sector: usize },
    Swap { one: usize, other: usize },
    Old { sector: usize },
}

/// What a start and a look at everything found.
#[derive(Clone, PartialEq, Debug, Default)]
struct Found {
    /// By account, mailbox and UID; `None` if it cannot be read.
    messages: BTreeMap<(u32, String, u32), Option<Vec<u8>>>,
    /// UIDVALIDITY, UIDNEXT, HIGHESTMODSEQ, unseen, octets.
    mailboxes: BTreeMap<(u32, String), [u64; 5]>,
    owed: Vec<Row>,
    /// Where what was written last is not whole: of segments that are used again, what they held before.
    torn: Vec<(u32, u64)>,
    /// Something was reported.
    is_told: bool,
    /// A digest that is not that of its message.
    wrong_digests: usize,
    ids: BTreeMap<(u32, String, u32), MessageId>,
    /// Which message a large file holds, whose record may be gone.
    large: BTreeMap<(LogId, u64), MessageId>,
}

/// How a case ended.
#[derive(Clone, Copy, Debug)]
enum Outcome {
    Harmless,
    Told,
    /// What the last batch held is missing, as if it had never been synced.
    LastBatch,
    /// The index is lost, and what stands in the log instead is damaged: the server does not start, and says why.
    Refused,
}

/// What a stretch of a file holds of the mail: without it the message is lost, and no other.
#[derive(Clone, Debug)]
struct Stretch {
    bytes: Range<usize>,
    holds: Holds,
}

#[derive(Clone, PartialEq, Debug)]
enum Holds {
    /// A message itself.
    Message(MessageId),
    /// That it came into a mailbox of an account, and under which UID.
    Delivery(u32, u32),
    /// What stands for segments that were freed.
    BasePart,
}

/// Whether the store has its index, which is the second copy of what the log has for freed segments.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Index {
    There,
    Lost,
}

/// A store, as it was and as it is.
struct Bench {
    data: PathBuf,
    files: BTreeMap<PathBuf, Vec<u8>>,
    /// What was in them some time before.
    older: BTreeMap<PathBuf, Vec<u8>>,
    whole: Found,
    /// Where the last batch of each log begins. Nobody can tell one that was lost from one that was never written.
    ends: BTreeMap<PathBuf, usize>,
    stretches: BTreeMap<PathBuf, Vec<Stretch>>,
    index: Index,
    /// Whose message has which identity.
    ids: BTreeMap<(u32, String, u32), MessageId>,
}

impl Bench {
    /// The store that a seed makes, and the same some time before its end.
    fn of(seed: u64, root: &Path, index: Index) -> Self {
        whole::make_store(seed, root);
        let data = root.join("world/data");
        copy(&root.join("data"), &data);
        if index == Index::Lost {
            let is_index = |path: &PathBuf| path.extension().is_some_and(|end| end == "idx" || end == "root");
            files_in(&data).iter().filter(|path| is_index(path)).for_each(|path| {
                fs::remove_file(path).expect("it can be removed");
            });
        }
        let files = files(&data);
        let ends = last_batches(&data);
        let older_data = root.join("older");
        let older = self::files(&older_data).into_iter();
        let older = older.map(|(path, bytes)| (data.join(inside(&path, &older_data)), bytes)).collect();
        let stretches = stretches(&data);
        let (whole, ids) = (Found::default(), BTreeMap::new());
        let mut bench = Self { data, files, older, whole, ends, stretches, index, ids };
        bench.whole = bench.look().expect("a whole store can be opened");
        bench.ids = bench.whole.ids.clone();
        for (&(log, number), &id) in &bench.whole.large {
            let path = bench.data.join(format!("large/{:02}/{number:012}", log.0));
            assert!(bench.files.contains_key(&path), "{} is there", path.display());
            let whole = Stretch { bytes: 0..usize::MAX, holds: Holds::Message(id) };
            bench.stretches.entry(path).or_default().push(whole);
        }
        assert!(bench.whole.messages.len() > 10, "there is something to damage");
        let unreadable: Vec<_> = bench.whole.messages.iter().filter(|(_, bytes)| bytes.is_none()).collect();
        assert!(unreadable.is_empty() && !bench.whole.is_told, "{unreadable:?}");
        bench.mend(None);
        bench
    }

    /// Starts both logs and reads everything.
    fn look(&self) -> Result<Found, DiskError> {
        let data = DataDir::open(&self.data)?;
        let mut found = Found::default();
        let (reader, mut accounts) = (Reader::new(&data), Vec::new());
        for id in [LogId(0), LogId(1)] {
            let (opened, mut loading) = open_log(
                &data,
                id,
                |begin| match begin {
                    Begin::Checkpoint(index) => Loading::restore(id, index),
                    Begin::Base(parts) => Loading::restore_base(id, parts),
                    Begin::Nothing => Some(Loading::empty(id)),
                },
                Loading::replay,
            )?;
            loading.allow_for(&opened.damage);
            found.is_told |= !opened.damage.is_empty();
            found.torn.extend(opened.torn.iter().map(|torn| (torn.segment, torn.offset)));
            // A reader finds messages that were written again by what the log says of them.
            opened.writer.dir().files.change_places(|places| *places = loading.places);
            found.owed.extend(loading.owed.rows().copied());
            accounts.extend(loading.accounts.into_values().map(|loaded| loaded.account));
        }
        for account in accounts {
            for mailbox in account.mailboxes() {
                let name = (account.id().0, mailbox.name().to_owned());
                let counts = mailbox.counts();
                let numbers = [mailbox.uid_validity(), mailbox.uid_next(), counts.unseen].map(u64::from);
                let [validity, next, unseen] = numbers;
                let state = [validity, next, mailbox.highest_modseq(), unseen, counts.size];
                found.mailboxes.insert(name.clone(), state);
                for (uid, locator, _) in mailbox.places() {
                    let message = reader.message(&locator).ok();
                    if let (Some(message), Some(digest)) = (&message, mailbox.digest(uid)) {
                        let right = Digest::of(message);
                        let is_right = right.envelope == digest.envelope && right.fields == digest.fields;
                        found.wrong_digests += usize::from(!is_right);
                    }
                    found.is_told |= message.is_none();
                    let key = (name.0, name.1.clone(), uid);
                    found.ids.insert(key.clone(), locator.id);
                    if let Place::File { number } = locator.place {
                        found.large.insert((locator.id.log, number), locator.id);
                    }
                    found.messages.insert(key, message.map(|message| message.to_vec()));
                }
            }
        }
        Ok(found)
    }

    /// Puts back what a start has changed, and the damaged file.
    fn mend(&self, damaged: Option<&Path>) {
        for path in files_in(&self.data) {
            if !self.files.contains_key(&path) {
                fs::remove_file(&path).expect("it can be removed");
            }
        }
        for (path, bytes) in &self.files {
            let is_whole = fs::metadata(path).is_ok_and(|file| file.len() == bytes.len() as u64);
            if !is_whole || damaged.is_some_and(|damaged| damaged == path) {
                fs::write(path, bytes).expect("it can be written");
            }
        }
    }

    /// Does damage to a file and judges what a start makes of it.
    fn judge(&self, path: &Path, damage: Damage) -> Option<Outcome> {
        let patches = damage.patches(&self.files[path], self.older.get(path).map_or(&[], Vec::as_slice));
        if patches.is_empty() {
            return None;
        }
        let file = File::options().write(true).open(path).expect("it can be opened");
        for (at, bytes) in patches {
            file.write_all_at(&bytes, at as u64).expect("it can be written");
        }
        let found = catch_unwind(AssertUnwindSafe(|| self.look()));
        self.mend(Some(path));
        let name = inside(path, &self.data).display();
        let found = found.unwrap_or_else(|_| panic!("{name} {damage:?}: a panic"));
        let found = match found {
            Ok(found) => found,
            // The other copy is lost, too.
            Err(why) => {
                let is_base = self.touched(path, damage).any(|holds| *holds == Holds::BasePart);
                assert!(self.index == Index::Lost && is_base, "{name} {damage:?}: it does not start: {why}");
                return Some(Outcome::Refused);
            }
        };
        let is_end = self.ends.get(path).is_some_and(|end| damage.reaches() >= *end);
        let is_told = found.is_told || found.torn != self.whole.torn;
        for (key, message) in &found.messages {
            let right = self.whole.messages.get(key);
            let is_other = message.is_some() && right != Some(message);
            let is_right = !is_other || ((is_told || is_end) && self.is_known(&found, key));
            assert!(is_right, "{name} {damage:?}: {key:?} is another message");
        }
        assert_eq!(found.wrong_digests, 0, "{name} {damage:?}: a header that is not the message's");
        if !is_end {
            self.check_extent(path, damage, &found);
        }
        if is_told {
            return Some(Outcome::Told);
        }
        assert!(found == self.whole || is_end, "{name} {damage:?}: something is missing, and nobody says so");
        Some(if found == self.whole { Outcome::Harmless } else { Outcome::LastBatch })
    }
}

impl Bench {
    /// Where a name, a UID or an end is lost, the message has another name or UID, or is back: it is the account's own
    /// all the same, and no client takes it for the one that it knows under that UID.
    fn is_known(&self, found: &Found, key: &(u32, String, u32)) -> bool {
        let id = found.ids[key];
        let same = |(whole, of): (&(u32, String, u32), &MessageId)| whole.0 == key.0 && *of == id;
        let validity = |of: &Found| of.mailboxes.get(&(key.0, key.1.clone())).map(|state| state[0]);
        let is_new = !self.whole.messages.contains_key(key) || validity(found) != validity(&self.whole);
        self.ids.iter().any(same) || is_new
    }

    fn touched(&self, path: &Path, damage: Damage) -> impl Iterator<Item = &Holds> {
        let stretches = self.stretches.get(path).into_iter().flatten();
        stretches.filter(move |stretch| damage.touches(&stretch.bytes)).map(|stretch| &stretch.holds)
    }

    /// Nothing is lost but what the damaged bytes held, and no number is given again.
    fn check_extent(&self, path: &Path, damage: Damage, found: &Found) {
        let name = inside(path, &self.data).display();
        let touched: Vec<&Holds> = self.touched(path, damage).collect();
        let readable = |key: &(u32, String, u32)| found.messages.get(key).is_some_and(Option::is_some);
        for (key, id) in self.ids.iter().filter(|(key, _)| !readable(key)) {
            let elsewhere = found.ids.iter().any(|(at, of)| at.0 == key.0 && of == id && readable(at));
            let was_hit = touched.iter().any(|holds| match holds {
                Holds::Message(message) => message == id,
                Holds::Delivery(account, uid) => (*account, *uid) == (key.0, key.2),
                Holds::BasePart => false,
            });
            assert!(elsewhere || was_hit, "{name} {damage:?}: {key:?} is lost, which was elsewhere");
        }
        for (key, [validity, next, modseq, ..]) in &self.whole.mailboxes {
            let Some([found_validity, found_next, found_modseq, ..]) = found.mailboxes.get(key) else {
                continue;
            };
            let is_kept = found_next >= next && found_modseq >= modseq;
            assert!(
                validity != found_validity || is_kept,
                "{name} {damage:?}: numbers of {key:?} are given again"
            );
        }
    }
}

impl Damage {
    /// What it changes in a file: where, and what stands there then.
    fn patches(self, file: &[u8], older: &[u8]) -> Vec<(usize, Vec<u8>)> {
        let range = |sector: usize| sector * SECTOR_BYTES..((sector + 1) * SECTOR_BYTES).min(file.len());
        let patches = match self {
            Self::Flip { bit } => vec![(bit / 8, vec![file[bit / 8] ^ 1 << (bit % 8)])],
            Self::Zero { sector } => vec![(range(sector).start, vec![0; range(sector).len()])],
            Self::Swap { one, other } => {
                let length = range(one).len().min(range(other).len());
                let sector = |number: usize| file[range(number)][..length].to_vec();
                vec![(range(one).start, sector(other)), (range(other).start, sector(one))]
            }
            Self::Old { sector } => {
                let old = older.get(range(sector)).map(<[u8]>::to_vec);
                old.into_iter().map(|old| (range(sector).start, old)).collect()
            }
        };
        patches.into_iter().filter(|(at, bytes)| file[*at..*at + bytes.len()] != **bytes).collect()
    }

    /// Whether it changes any of these bytes.
    fn touches(self, bytes: &Range<usize>) -> bool {
        let within =
            |sector: usize| sector * SECTOR_BYTES < bytes.end && bytes.start < (sector + 1) * SECTOR_BYTES;
        match self {
            Self::Flip { bit } => bytes.contains(&(bit / 8)),
            Self::Zero { sector } | Self::Old { sector } => within(sector),
            Self::Swap { one, other } => within(one) || within(other),
        }
    }

    /// The last byte that it changes, or one behind it.
    fn reaches(self) -> usize {
        match self {
            Self::Flip { bit } => bit / 8,
            Self::Zero { sector } | Self::Old { sector } => (sector + 1) * SECTOR_BYTES - 1,
            Self::Swap { one, other } => (one.max(other) + 1) * SECTOR_BYTES - 1,
        }
    }

    /// All damage there can be to a file, or a sample. Of a sector in which nothing stands one bit is flipped: to who
    /// reads it, all are the same.
    fn cases(file: &[u8], random: &mut Random) -> Vec<Self> {
        let length = file.len();
        let sectors = length.div_ceil(SECTOR_BYTES);
        if let Some((from, step)) = share() {
            let flips = file.chunks(SECTOR_BYTES).enumerate().flat_map(|(sector, bytes)| {
                let is_blank = bytes.iter().all(|byte| *byte == 0);
                let bits = sector * SECTOR_BYTES * 8..(sector * SECTOR_BYTES + bytes.len()) * 8;
                // Any of them, and another in the next.
                let of_blank = bits.start + sector * 37 % bits.len();
                if is_blank { of_blank..of_blank + 1 } else { bits }
            });
            let flips = flips.map(|bit| Self::Flip { bit });
            let zeroes = (0..sectors).map(|sector| Self::Zero { sector });
            let swaps = (0..sectors).flat_map(|one| [1, 2, 8, 16].map(|far| (one, one + far)));
            let swaps = swaps.filter(|(_, other)| *other < sectors);
            let swaps = swaps.map(|(one, other)| Self::Swap { one, other });
            let olds = (0..sectors).map(|sector| Self::Old { sector });
            return zeroes.chain(swaps).chain(olds).chain(flips).skip(from).step_by(step).collect();
        }
        // A sector that cannot be read: each of them.
        let mut cases: Vec<Self> = (0..sectors).map(|sector| Self::Zero { sector }).collect();
        for _ in 0..SAMPLE {
            let mut sector = || random.below(sectors as u64) as usize;
            cases.push(Self::Old { sector: sector() });
            cases.push(Self::Swap { one: sector(), other: sector() });
            cases.push(Self::Flip { bit: random.below(length as u64 * 8) as usize });
        }
        // Headers stand at the beginning.
        cases.extend((0..64 * 8).step_by(37).filter(|bit| *bit < length * 8).map(|bit| Self::Flip { bit }));
        cases
    }
}

fn last_batches(data: &Path) -> BTreeMap<PathBuf, usize> {
    let data = DataDir::open(data).expect("nobody else has it");
    let end = |id| {
        let position = verify_log(&data, id).expect("a whole log").end.position?;
        Some((data.log_dir(id).segment(position.segment), position.offset as usize))
    };
    [LogId(0), LogId(1)].into_iter().filter_map(end).collect()
}

/// Where each message and each delivery lies in the files, up to whatever comes behind it.
fn stretches(data: &Path) -> BTreeMap<PathBuf, Vec<Stretch>> {
    let data = DataDir::open(data).expect("nobody else has it");
    let mut stretches: BTreeMap<PathBuf, Vec<Stretch>> = BTreeMap::new();
    for log in [LogId(0), LogId(1)] {
        let dir = data.log_dir(log);
        let mut segments = Vec::new();
        for number in dir.segments().expect("they can be listed") {
            let bytes = fs::read(dir.segment(number)).expect("it can be read");
            segments.push(SegmentFile { number, bytes: Slice::from(bytes) });
        }
        let mut last: Option<(PathBuf, usize)> = None;
        for found in Scan::new(log, segments, None).expect("a whole log") {
            let Ok(Read::Record(Recovered { sequence, place, record })) = found else {
                panic!("a whole log");
            };
            let (path, at) = (dir.segment(place.segment), place.offset as usize);
            if let Some((path, of)) = last.take()
                && at > of
                && let Some(before) = stretches.get_mut(&path).and_then(|all| all.last_mut())
                && before.bytes.start == of
            {
                before.bytes.end = at;
            }
            last = Some((path.clone(), at));
            let message = |sequence, body: &Body| {
                let id = MessageId { log, sequence };
                let file = match body {
                    Body::File { number, .. } => Some(dir.large(*number)),
                    Body::Inline { .. } => None,
                };
                (Holds::Message(id), file)
            };
            let (holds, file) = match &record {
                Record::Message(content) => message(sequence, &content.body),
                Record::Moved(moved) => message(moved.message, &moved.content.body),
                Record::Delivered(delivered) => (Holds::Delivery(delivered.account.0, delivered.uid), None),
                Record::Part(_) => (Holds::BasePart, None),
                _ => continue,
            };
            if let Some(file) = file {
                stretches
                    .entry(file)
                    .or_default()
                    .push(Stretch { bytes: 0..usize::MAX, holds: holds.clone() });
            }
            stretches.entry(path).or_default().push(Stretch { bytes: at..usize::MAX, holds });
        }
    }
    stretches
}

fn seed() -> u64 {
    std::env::var("RINGPOST_CORRUPTION_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(6)
}

/// Which of all cases are taken: from which on, every how manieth. `None`: a sample of another kind.
fn share() -> Option<(usize, usize)> {
    let value = std::env::var("RINGPOST_CORRUPTION").ok()?;
    if value == "all" {
        return Some((0, 1));
    }
    Some(fraction(&value).unwrap_or_else(|| panic!("RINGPOST_CORRUPTION is neither all nor K/N")))
}

/// The K-th of N, from zero on, and N.
fn fraction(text: &str) -> Option<(usize, usize)> {
    let (at, of) = text.split_once('/')?;
    let (at, of): (usize, usize) = (at.parse().ok()?, of.parse().ok()?);
    (1..=of).contains(&at).then(|| (at - 1, of))
}

fn files_in(folder: &Path) -> Vec<PathBuf> {
    let (mut found, mut folders) = (Vec::new(), vec![folder.to_owned()]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("a folder").flatten() {
            match entry.path().is_dir() {
                true => folders.push(entry.path()),
                false => found.push(entry.path()),
            }
        }
    }
    found
}

fn inside<'a>(path: &'a Path, folder: &Path) -> &'a Path {
    path.strip_prefix(folder).expect("it is inside")
}

fn files(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    files_in(folder).into_iter().map(|path| (path.clone(), fs::read(path).expect("it can be read"))).collect()
}

/// How the cases of each kind of file and damage ended.
type Table = BTreeMap<[String; 3], u64>;

/// Which worker a process is, of how many.
const PART: &str = "RINGPOST_CORRUPTION_PART";

/// As many processes as there are processors run the test of this name, each with the same store for itself: as threads
/// they would wait for each other's mappings. `None` in such a process, which has printed what it found.
fn judge_all(test: &str, index: Index) -> Option<Table> {
    whole::prepare();
    if let Some((worker, workers)) = std::env::var(PART).ok().and_then(|part| fraction(&part)) {
        let thread = std::thread::Builder::new().stack_size(16 << 20);
        let judged = thread.spawn(move || judge_part(index, worker, workers)).expect("a thread");
        for ([file, how, outcome], count) in judged.join().unwrap_or_else(|_| panic!("see above")) {
            println!("| {file} | {how} | {outcome} | {count} |");
        }
        return None;
    }
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
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
    Some(table)
}

/// The cases of one of so many workers. Its thread has a world of its own, so that recovery starts no threads.
fn judge_part(index: Index, worker: usize, workers: usize) -> Table {
    let folder = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).expect("a folder");
    let sim: Rc<Sim> = Sim::begin(1, &folder.path().join("world"));
    let mut random = Random::new(99);
    let mut table = Table::new();
    let bench = Bench::of(seed(), folder.path(), index);
    for path in bench.files.keys().filter(|path| !path.ends_with("lock")) {
        let kind = path.extension().map_or("large", |end| end.to_str().unwrap_or_default()).to_owned();
        let cases = Damage::cases(&bench.files[path], &mut random);
        for damage in cases.into_iter().skip(worker).step_by(workers) {
            // What changes nothing is no case.
            let Some(outcome) = bench.judge(path, damage) else {
                continue;
            };
            let how = format!("{damage:?}").split(' ').next().unwrap_or_default().to_owned();
            *table.entry([kind.clone(), how, format!("{outcome:?}")]).or_default() += 1;
        }
    }
    drop(sim);
    table
}

#[test]
fn damage_to_any_file_is_told_or_harmless() {
    if let Some(table) = judge_all("damage_to_any_file_is_told_or_harmless", Index::There) {
        assert!(!table.is_empty() && table.keys().all(|[_, _, outcome]| outcome != "Refused"));
    }
}

#[test]
fn without_an_index_damage_costs_no_more_than_it_hit() {
    if let Some(table) = judge_all("without_an_index_damage_costs_no_more_than_it_hit", Index::Lost) {
        assert!(table.keys().any(|[_, _, outcome]| outcome == "Told"));
    }
}

#[test]
fn any_change_of_the_accounts_file_is_noticed() {
    let whole = whole::directory().render();
    assert!(Directory::parse(&whole).is_ok());
    for bit in 0..whole.len() * 8 {
        let mut bytes = whole.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        assert!(Directory::parse(&bytes).is_err(), "bit {bit}");
    }
    for sector in 0..whole.len().div_ceil(SECTOR_BYTES) {
        let range = sector * SECTOR_BYTES..((sector + 1) * SECTOR_BYTES).min(whole.len());
        let mut bytes = whole.clone();
        bytes[range.clone()].fill(0);
        assert!(Directory::parse(&bytes).is_err(), "sector {sector} is zero");
        assert!(Directory::parse(&whole[..range.start]).is_err(), "cut at sector {sector}");
    }
}
