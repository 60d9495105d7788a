//! A small store in which every bit is flipped, every sector zeroed, swapped with another, and replaced by an older
//! version of itself: what is damaged is told or harmless, and no message is ever taken for another.
//!
//! Recovery and reading are the server's own, on real files. Of the large number of cases the suite takes a sample;
//! `RINGPOST_CORRUPTION=all` takes them all, and `RINGPOST_CORRUPTION=3/100` every hundredth from the third on. Where a
//! rule is broken, what is printed says how to do that case again.

mod damage;
mod look;
mod workers;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs::{self, File};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::str::FromStr;

use ringpost::auth::Directory;
use ringpost::bytes::Slice;
use ringpost::io::disk::DiskError;
use ringpost::io::disk::layout::DataDir;
use ringpost::io::disk::open::verify_log;
use ringpost::io::world::{Change, Permit};
use ringpost::store::record::{Body, Record};
use ringpost::store::recover::{Found as Read, Recovered, Scan, SegmentFile};
use ringpost::store::{LogId, MessageId};

use crate::random::Random;
use crate::whole::{self, copy};
use crate::world::Sim;
use damage::{Damage, SECTOR_BYTES};
use look::{Found, Key, LOGS, Look};
use workers::judge_all;

/// Which store is made.
const SEED: &str = "RINGPOST_CORRUPTION_SEED";

/// The one case that is done, as [`Case`] is told.
const CASE: &str = "RINGPOST_CORRUPTION_CASE";

/// Of so many cases one looks at the whole store after all. No divisor of what cases repeat by.
const WHOLE_LOOK_EVERY: usize = 997;

/// A file, by its path in the data directory, and what is done to it.
struct Case {
    path: PathBuf,
    damage: Damage,
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
    /// By their paths in the data directory.
    files: BTreeMap<PathBuf, Vec<u8>>,
    /// What was in them some time before.
    older: BTreeMap<PathBuf, Vec<u8>>,
    whole: Found,
    look: Look,
    /// What a start has changed since the store was mended.
    changed: Changed,
    /// Where the last batch of each log begins. Nobody can tell one that was lost from one that was never written.
    ends: BTreeMap<PathBuf, usize>,
    stretches: BTreeMap<PathBuf, Vec<Stretch>>,
    index: Index,
}

impl Bench {
    /// The store that a seed makes, and the same some time before its end.
    fn of(seed: u64, root: &Path, index: Index, sim: &Sim) -> Self {
        whole::make_store(seed, root);
        let data = root.join("world/data");
        copy(&root.join("data"), &data);
        if index == Index::Lost {
            let is_index = |path: &PathBuf| path.extension().is_some_and(|end| end == "idx" || end == "root");
            files_in(&data).iter().filter(|path| is_index(path)).for_each(|path| {
                fs::remove_file(path).expect("it can be removed");
            });
        }
        let (files, older) = (files(&data), self::files(&root.join("older")));
        let (ends, mut stretches) = (last_batches(&data), stretches(&data));
        // A start may change something, and the look keeps mappings.
        let undamaged = ["undamaged", "looked-at"].map(|name| root.join(name));
        undamaged.iter().for_each(|undamaged| copy(&data, undamaged));
        let whole = Look::at_all(&undamaged[0]).expect("a whole store can be opened");
        let look = Look::before_damage(&undamaged[1]).expect("a whole store can be opened");
        for (&(log, number), &id) in &whole.large {
            let path = PathBuf::from(format!("large/{:02}/{number:012}", log.0));
            assert!(files.contains_key(&path), "{} is there", path.display());
            let whole = Stretch { bytes: 0..usize::MAX, holds: Holds::Message(id) };
            stretches.entry(path).or_default().push(whole);
        }
        assert!(whole.messages.len() > 10, "there is something to damage");
        let unreadable: Vec<_> = whole.messages.iter().filter(|(_, bytes)| bytes.is_none()).collect();
        assert!(unreadable.is_empty() && !whole.is_told, "{unreadable:?}");
        Self { data, files, older, whole, look, changed: note_changes(sim), ends, stretches, index }
    }

    /// All of them, a share, or a sample.
    fn cases<'a>(&'a self, random: &'a mut Random) -> impl Iterator<Item = Case> + 'a {
        let files = self.files.iter().filter(|(path, _)| !path.ends_with("lock"));
        files.flat_map(|(path, bytes)| {
            let cases = Damage::cases(bytes, random).into_iter();
            cases.map(|damage| Case { path: path.clone(), damage })
        })
    }

    /// Does damage to a file, starts, looks, and mends the file and whatever the start has changed. The error is why
    /// there is no start.
    fn try_on(
        &self,
        path: &Path,
        patches: &[(usize, Vec<u8>)],
        look: impl Fn() -> Result<Found, DiskError>,
    ) -> Result<Found, String> {
        let place = self.data.join(path);
        let file = File::options().write(true).open(&place).expect("it can be opened");
        for (at, bytes) in patches {
            file.write_all_at(bytes, *at as u64).expect("it can be written");
        }
        let found = catch_unwind(AssertUnwindSafe(look));
        for (at, bytes) in patches {
            let whole = &self.files[path][*at..*at + bytes.len()];
            file.write_all_at(whole, *at as u64).expect("it can be written");
        }
        for changed in self.changed.take() {
            match self.files.get(inside(&changed, &self.data)) {
                Some(bytes) => fs::write(&changed, bytes).expect("it can be written"),
                None if changed.exists() => fs::remove_file(&changed).expect("it can be removed"),
                None => {}
            }
        }
        found.unwrap_or_else(|_| panic!("a panic")).map_err(|why| why.to_string())
    }

    /// Looks at the log that the file belongs to, and now and then at all.
    fn found_with(&self, path: &Path, patches: &[(usize, Vec<u8>)], number: usize) -> Result<Found, String> {
        let at_all = || self.try_on(path, patches, || Look::at_all(&self.data));
        let Some(log) = LOGS.into_iter().find(|log| is_of_log(path, *log)) else {
            return at_all();
        };
        let found = self.try_on(path, patches, || self.look.at_one(&self.data, log));
        if number.is_multiple_of(WHOLE_LOOK_EVERY) {
            assert!(found == at_all(), "the whole store says something else than the log");
            assert!(files(&self.data) == self.files, "the store is as it was");
        }
        found
    }

    /// Does damage to a file and judges what a start makes of it. `number` is that of the case.
    fn judge(&self, case: &Case, number: usize) -> Option<Outcome> {
        let &Case { ref path, damage } = case;
        let patches = damage.patches(&self.files[path], self.older.get(path).map_or(&[], Vec::as_slice));
        if patches.is_empty() {
            return None;
        }
        let name = path.display();
        let found = self.found_with(path, &patches, number);
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
    fn is_known(&self, found: &Found, key: &Key) -> bool {
        let id = found.ids[key];
        let same = |(whole, of): (&Key, &MessageId)| whole.0 == key.0 && *of == id;
        let validity = |of: &Found| of.mailboxes.get(&(key.0, key.1.clone())).map(|state| state[0]);
        let is_new = !self.whole.messages.contains_key(key) || validity(found) != validity(&self.whole);
        self.whole.ids.iter().any(same) || is_new
    }

    fn touched(&self, path: &Path, damage: Damage) -> impl Iterator<Item = &Holds> {
        let stretches = self.stretches.get(path).into_iter().flatten();
        stretches.filter(move |stretch| damage.touches(&stretch.bytes)).map(|stretch| &stretch.holds)
    }

    /// Nothing is lost but what the damaged bytes held, and no number is given again.
    fn check_extent(&self, path: &Path, damage: Damage, found: &Found) {
        let name = path.display();
        let touched: Vec<&Holds> = self.touched(path, damage).collect();
        let readable = |key: &Key| found.messages.get(key).is_some_and(Option::is_some);
        for (key, id) in self.whole.ids.iter().filter(|(key, _)| !readable(key)) {
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

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.path.display(), self.damage)
    }
}

impl FromStr for Case {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (path, damage) = text.split_once(' ').ok_or_else(|| format!("{text:?} is no case"))?;
        Ok(Self { path: path.into(), damage: damage.parse()? })
    }
}

/// The files that a start has created, written, renamed or removed.
type Changed = Rc<RefCell<BTreeSet<PathBuf>>>;

/// Nothing waits for a disk that is memory: a sync has nothing to do.
fn note_changes(sim: &Sim) -> Changed {
    let changed = Changed::default();
    let noted = Rc::clone(&changed);
    *sim.disk.mutant.borrow_mut() = Some(Box::new(move |_, change| {
        let note = |path: &Path| {
            noted.borrow_mut().insert(path.to_owned());
        };
        match change {
            Change::Create { path } | Change::Write { path, .. } => note(path),
            Change::Resize { path, .. } | Change::Remove { path } => note(path),
            Change::Rename { from, to } => [*from, *to].into_iter().for_each(note),
            Change::Sync { .. } | Change::SyncDirectory { .. } => return Some(Ok(Permit::Done)),
            Change::MakeDirectory { .. } | Change::Reread { .. } => {}
        }
        Some(Ok(Permit::All))
    }));
    changed
}

fn is_of_log(path: &Path, log: LogId) -> bool {
    ["log", "large"].iter().any(|kind| path.starts_with(format!("{kind}/{:02}", log.0)))
}

fn last_batches(data: &Path) -> BTreeMap<PathBuf, usize> {
    let opened = DataDir::open(data).expect("nobody else has it");
    let end = |id| {
        let position = verify_log(&opened, id).expect("a whole log").end.position?;
        let path = opened.log_dir(id).segment(position.segment);
        Some((inside(&path, data).to_owned(), position.offset as usize))
    };
    LOGS.into_iter().filter_map(end).collect()
}

/// Where each message and each delivery lies in the files, up to whatever comes behind it.
fn stretches(data: &Path) -> BTreeMap<PathBuf, Vec<Stretch>> {
    let opened = DataDir::open(data).expect("nobody else has it");
    let mut stretches: BTreeMap<PathBuf, Vec<Stretch>> = BTreeMap::new();
    for log in LOGS {
        let dir = opened.log_dir(log);
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
            let (path, at) = (inside(&dir.segment(place.segment), data).to_owned(), place.offset as usize);
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
                    Body::File { number, .. } => Some(inside(&dir.large(*number), data).to_owned()),
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
    std::env::var(SEED).ok().and_then(|seed| seed.parse().ok()).unwrap_or(6)
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

/// By their paths in the folder.
fn files(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let read = |path: PathBuf| (inside(&path, folder).to_owned(), fs::read(&path).expect("it can be read"));
    files_in(folder).into_iter().map(read).collect()
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
