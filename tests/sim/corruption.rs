//! A small store in which every bit is flipped, every sector zeroed, swapped with another, and replaced by an older
//! version of itself: what is damaged is told or harmless, and no message is ever taken for another.
//!
//! Recovery and reading are the server's own, on real files. Of the large number of cases the suite takes a sample;
//! `RINGPOST_CORRUPTION=all` takes them all.

use std::collections::BTreeMap;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use ringpost::auth::Directory;
use ringpost::io::disk::DiskError;
use ringpost::io::disk::layout::DataDir;
use ringpost::io::disk::open::{Begin, open_log, verify_log};
use ringpost::io::disk::reader::Reader;
use ringpost::mail::digest::Digest;
use ringpost::shard::restore::Loading;
use ringpost::store::LogId;
use ringpost::store::owed::Row;

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
}

/// How a case ended.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Outcome {
    Harmless,
    Told,
    /// What the last batch held is missing, as if it had never been synced.
    LastBatch,
    /// The server does not start, and says why.
    Refused,
}

/// A store, as it was and as it is.
struct Bench {
    data: PathBuf,
    older: PathBuf,
    files: BTreeMap<PathBuf, Vec<u8>>,
    whole: Found,
    /// Where the last batch of each log begins. Nobody can tell one that was lost from one that was never written.
    ends: BTreeMap<PathBuf, usize>,
}

impl Bench {
    /// The store that a seed makes, and the same some time before its end.
    fn of(seed: u64, root: &Path) -> Self {
        whole::make_store(seed, root);
        let data = root.join("world/data");
        copy(&root.join("data"), &data);
        let files = files(&data);
        let ends = last_batches(&data);
        let mut bench = Self { data, older: root.join("older"), files, whole: Found::default(), ends };
        bench.whole = bench.look().expect("a whole store can be opened");
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
            let (opened, loading) = open_log(
                &data,
                id,
                |begin| match begin {
                    Begin::Checkpoint(index) => Loading::restore(id, index),
                    Begin::Base(parts) => Loading::restore_base(id, parts),
                    Begin::Nothing => Some(Loading::empty(id)),
                },
                Loading::replay,
            )?;
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
    fn judge(&self, path: &Path, damage: Damage) -> Outcome {
        let mut bytes = self.files[path].clone();
        if !damage.befall(&mut bytes, &self.older.join(path.strip_prefix(&self.data).expect("it is inside")))
        {
            return Outcome::Harmless;
        }
        fs::write(path, &bytes).expect("it can be written");
        let found = catch_unwind(AssertUnwindSafe(|| self.look()));
        self.mend(Some(path));
        let name = path.strip_prefix(&self.data).expect("it is inside").display();
        let found = found.unwrap_or_else(|_| panic!("{name} {damage:?}: a panic"));
        let found = match found {
            Ok(found) => found,
            // One bad sector that hits both what a checkpoint and what the log's base need.
            Err(why) => {
                assert!(why.to_string().contains("freed segments"), "{name} {damage:?}: {why}");
                return Outcome::Refused;
            }
        };
        for (key, message) in &found.messages {
            let right = self.whole.messages.get(key);
            let is_right = message.is_none() || right == Some(message);
            assert!(is_right, "{name} {damage:?}: {key:?} is another message");
        }
        assert_eq!(found.wrong_digests, 0, "{name} {damage:?}: a header that is not the message's");
        if found.is_told || found.torn != self.whole.torn {
            return Outcome::Told;
        }
        let is_end = self.ends.get(path).is_some_and(|end| damage.reaches() >= *end);
        assert!(found == self.whole || is_end, "{name} {damage:?}: something is missing, and nobody says so");
        if found == self.whole { Outcome::Harmless } else { Outcome::LastBatch }
    }
}

impl Damage {
    /// False if it changes nothing.
    fn befall(self, bytes: &mut [u8], older: &Path) -> bool {
        let before = bytes.to_vec();
        let range = |sector: usize| sector * SECTOR_BYTES..((sector + 1) * SECTOR_BYTES).min(before.len());
        match self {
            Self::Flip { bit } => bytes[bit / 8] ^= 1 << (bit % 8),
            Self::Zero { sector } => bytes[range(sector)].fill(0),
            Self::Swap { one, other } => {
                let length = range(one).len().min(range(other).len());
                let (from, to) = (range(one).start, range(other).start);
                bytes[from..from + length].copy_from_slice(&before[to..to + length]);
                bytes[to..to + length].copy_from_slice(&before[from..from + length]);
            }
            Self::Old { sector } => {
                if let Ok(old) = fs::read(older)
                    && old.len() >= range(sector).end
                {
                    bytes[range(sector)].copy_from_slice(&old[range(sector)]);
                }
            }
        }
        bytes != before
    }

    /// The last byte that it changes, or one behind it.
    fn reaches(self) -> usize {
        match self {
            Self::Flip { bit } => bit / 8,
            Self::Zero { sector } | Self::Old { sector } => (sector + 1) * SECTOR_BYTES - 1,
            Self::Swap { one, other } => (one.max(other) + 1) * SECTOR_BYTES - 1,
        }
    }

    /// All damage there can be to a file of this length, or a sample.
    fn cases(length: usize, random: &mut Random) -> Vec<Self> {
        let sectors = length.div_ceil(SECTOR_BYTES);
        if takes_all() {
            let flips = (0..length * 8).map(|bit| Self::Flip { bit });
            let zeroes = (0..sectors).map(|sector| Self::Zero { sector });
            let swaps = (0..sectors).flat_map(|one| [1, 2, 8, 16].map(|far| (one, one + far)));
            let swaps = swaps.filter(|(_, other)| *other < sectors);
            let swaps = swaps.map(|(one, other)| Self::Swap { one, other });
            let olds = (0..sectors).map(|sector| Self::Old { sector });
            return zeroes.chain(swaps).chain(olds).chain(flips).collect();
        }
        let mut cases = Vec::new();
        for _ in 0..SAMPLE {
            let mut sector = || random.below(sectors as u64) as usize;
            cases.extend([Self::Zero { sector: sector() }, Self::Old { sector: sector() }]);
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

fn takes_all() -> bool {
    std::env::var("RINGPOST_CORRUPTION").is_ok_and(|value| value == "all")
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

fn files(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    files_in(folder).into_iter().map(|path| (path.clone(), fs::read(path).expect("it can be read"))).collect()
}

#[test]
fn damage_to_any_file_is_told_or_harmless() {
    whole::prepare();
    // The thread gets a world of its own, so that recovery starts no threads.
    let judged = std::thread::Builder::new().stack_size(16 << 20).spawn(|| {
        let folder = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).expect("a folder");
        let sim: Rc<Sim> = Sim::begin(1, &folder.path().join("world"));
        let mut random = Random::new(99);
        let mut table: BTreeMap<(String, String, Outcome), u64> = BTreeMap::new();
        let bench = Bench::of(5, folder.path());
        for path in bench.files.keys().filter(|path| !path.ends_with("lock")) {
            let length = bench.files[path].len();
            let kind = path.extension().map_or("large", |end| end.to_str().unwrap_or_default()).to_owned();
            for damage in Damage::cases(length, &mut random) {
                let outcome = bench.judge(path, damage);
                let how = format!("{damage:?}").split(' ').next().unwrap_or_default().to_owned();
                *table.entry((kind.clone(), how, outcome)).or_default() += 1;
            }
        }
        drop(sim);
        table
    });
    let table = judged.expect("a thread").join().unwrap_or_else(|_| panic!("see above"));
    println!("| file | damage | outcome | cases |\n|---|---|---|---|");
    for ((file, how, outcome), count) in &table {
        println!("| {file} | {how} | {outcome:?} | {count} |");
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
