//! Servers with a mistake in them, which the simulation must notice.
//!
//! No mistake is in the server: the world makes it. A sync that is left out is one that the disk does not do; a
//! checksum that is not looked at is one that is made good again over other bytes; what recovery forgets is blanked in
//! the log while the server is down. Each mistake is switched on for seed after seed until a rule is broken, and must
//! be caught within a bounded number of them; the rule that it broke names what saw it.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use ringpost::io::disk::index_file::IndexFile;
use ringpost::io::disk::layout::DataDir;
use ringpost::io::disk::open::verify_log;
use ringpost::io::inbox::Inbox;
use ringpost::io::world::{Change, Permit};
use ringpost::shard::mesh::Letter;
use ringpost::store::checkpoint::{Directory, IndexOwner};
use ringpost::store::record::{Body, Delivered, Record};
use ringpost::store::segment::Heading;
use ringpost::store::{LogId, codec};

use crate::forge::{self, Forged};
use crate::whole::{self, Plan};
use crate::world::Sim;
use crate::world::disk::Disk;

/// A mistake, put in by the world that the server runs in.
pub struct Mutant {
    name: &'static str,
    infect: fn(&Sim),
    meddle: fn(&[Inbox<Letter>]),
    tamper: fn(&Sim),
}

/// Within so many seeds each is caught.
const SEEDS_MAX: u64 = 60;

const NOTHING: Mutant = Mutant { name: "", infect: |_| {}, meddle: |_| {}, tamper: |_| {} };

static MUTANTS: [Mutant; 14] = [
    Mutant { name: "the log is not synced", infect: |sim| drop_syncs(sim, is_segment), ..NOTHING },
    Mutant { name: "an acknowledgement before the sync", infect: sync_late, ..NOTHING },
    Mutant { name: "one sync of five is dropped", infect: drop_some_syncs, ..NOTHING },
    Mutant { name: "a failed sync is tried again", infect: retry_syncs, ..NOTHING },
    Mutant { name: "a short write counts as a whole one", infect: believe_short_writes, ..NOTHING },
    Mutant { name: "a large file is not synced", infect: |sim| drop_syncs(sim, is_large), ..NOTHING },
    Mutant { name: "directories are not synced", infect: drop_directory_syncs, ..NOTHING },
    Mutant { name: "checksums of messages are not checked", tamper: rot_messages, ..NOTHING },
    Mutant { name: "a message is read without asking whose", tamper: swap_messages, ..NOTHING },
    Mutant { name: "UIDNEXT is made of the messages that are left", tamper: reuse_uids, ..NOTHING },
    Mutant { name: "an expunge is forgotten", tamper: resurrect, ..NOTHING },
    Mutant { name: "a change of flags is forgotten", tamper: forget_flags, ..NOTHING },
    Mutant { name: "a checkpoint claims more than is in it", tamper: advance_checkpoints, ..NOTHING },
    Mutant { name: "letters between shards are lost", meddle: lose_letters, ..NOTHING },
];

/// For backups: letters do not say behind which cut they were sent.
pub static FORGETS_CUTS: Mutant = Mutant { name: "letters forget the cut", meddle: forget_cuts, ..NOTHING };

impl Mutant {
    /// Before the first start.
    pub fn infect(&self, sim: &Sim) {
        (self.infect)(sim);
    }

    /// Between two turns.
    pub fn meddle(&self, inboxes: &[Inbox<Letter>]) {
        (self.meddle)(inboxes);
    }

    /// While the server is down.
    pub fn tamper(&self, sim: &Sim) {
        (self.tamper)(sim);
    }
}

type Hook = Box<dyn Fn(&Disk, &Change<'_>) -> Option<io::Result<Permit>>>;

fn hook(sim: &Sim, hook: impl Fn(&Disk, &Change<'_>) -> Option<io::Result<Permit>> + 'static) {
    let hook: Hook = Box::new(hook);
    sim.disk.mutant.replace(Some(hook));
}

fn is_segment(path: &Path) -> bool {
    path.extension().is_some_and(|end| end == "seg")
}

fn is_large(path: &Path) -> bool {
    path.components().any(|part| part.as_os_str() == "large")
}

fn drop_syncs(sim: &Sim, of: fn(&Path) -> bool) {
    hook(sim, move |_, change| match change {
        Change::Sync { path } if of(path) => Some(Ok(Permit::Done)),
        _ => None,
    });
}

fn drop_some_syncs(sim: &Sim) {
    let count = Cell::new(0);
    hook(sim, move |_, change| match change {
        Change::Sync { path } if is_segment(path) => {
            count.set(count.get() + 1);
            (count.get() % 5 == 0).then_some(Ok(Permit::Done))
        }
        _ => None,
    });
}

fn drop_directory_syncs(sim: &Sim) {
    hook(sim, |_, change| match change {
        Change::SyncDirectory { .. } => Some(Ok(Permit::Done)),
        _ => None,
    });
}

/// The sync is done when the disk is used next.
fn sync_late(sim: &Sim) {
    let late: RefCell<Option<PathBuf>> = RefCell::default();
    hook(sim, move |disk, change| {
        if let Some(path) = late.take() {
            let _ = disk.handle(&Change::Sync { path: &path });
        }
        match change {
            Change::Sync { path } if is_segment(path) => {
                late.replace(Some(path.to_path_buf()));
                Some(Ok(Permit::Done))
            }
            _ => None,
        }
    });
}

fn retry_syncs(sim: &Sim) {
    hook(sim, |disk, change| match change {
        Change::Sync { .. } => {
            Some((0..5).map(|_| disk.handle(change)).find(Result::is_ok).unwrap_or(Ok(Permit::Done)))
        }
        _ => None,
    });
}

/// What is behind the part that was written stays as it was, and nobody is told.
fn believe_short_writes(sim: &Sim) {
    let rest: RefCell<Option<(PathBuf, u64, u64)>> = RefCell::default();
    let count = Cell::new(0);
    hook(sim, move |_, change| {
        let Change::Sync { .. } = change else {
            if let Change::Write { path, offset, length } = change
                && is_segment(path)
                && *length > 8192
            {
                count.set(count.get() + 1);
                let half = *length as u64 / 2;
                let is_short = count.get() % 8 == 0;
                rest.replace(is_short.then(|| (path.to_path_buf(), offset + half, *length as u64 - half)));
            }
            return None;
        };
        if let Some((path, offset, length)) = rest.take() {
            let file = std::fs::File::options().write(true).open(&path).expect("it is there");
            let zeroes = vec![0; length as usize];
            std::os::unix::fs::FileExt::write_all_at(&file, &zeroes, offset).expect("it can be written");
        }
        None
    });
}

/// Bytes of messages change, and their checksums with them.
fn rot_messages(sim: &Sim) {
    for path in forge::segments(&sim.disk.data()) {
        let mut left = 3;
        forge::rewrite(&path, |record, content| match record {
            Record::Message(message) if left > 0 && message.body.length() > 100 => {
                let Body::Inline { .. } = message.body else {
                    return None;
                };
                left -= 1;
                let at = content.len() - 3;
                content[at] ^= 0x20;
                Some(Forged::Content)
            }
            _ => None,
        });
    }
}

/// Two deliveries of different accounts change their messages.
fn swap_messages(sim: &Sim) {
    let mut last: Option<Delivered> = None;
    for path in forge::segments(&sim.disk.data()) {
        forge::rewrite(&path, |record, content| {
            let Record::Delivered(delivered) = record else {
                return None;
            };
            let other = last.replace(delivered.clone())?;
            if other.account == delivered.account {
                return None;
            }
            let swapped = Delivered { message: other.message, ..delivered.clone() };
            let mut fields = Vec::new();
            codec::encode(&Record::Delivered(swapped), &mut fields);
            (fields.len() == content.len()).then(|| {
                content.copy_from_slice(&fields);
                Forged::Content
            })
        });
    }
    forge::forget_indexes(&sim.disk.data());
}

/// Of each mailbox the last message is blanked if it is expunged, with its expunge.
fn reuse_uids(sim: &Sim) {
    let data = sim.disk.data();
    let mut last: BTreeMap<(u32, u32), u32> = BTreeMap::new();
    let mut expunged: BTreeMap<(u32, u32), Vec<u32>> = BTreeMap::new();
    for path in forge::segments(&data) {
        forge::rewrite(&path, |record, _| {
            match record {
                Record::Delivered(of) => {
                    let highest = last.entry((of.account.0, of.mailbox.0)).or_default();
                    *highest = of.uid.max(*highest);
                }
                Record::Expunged(of) => {
                    expunged.entry((of.account.0, of.mailbox.0)).or_default().extend(of.uids.iter());
                }
                _ => {}
            }
            None
        });
    }
    last.retain(|mailbox, uid| expunged.get(mailbox).is_some_and(|uids| uids.contains(uid)));
    for path in forge::segments(&data) {
        forge::rewrite(&path, |record, content| match record {
            Record::Delivered(of) if last.get(&(of.account.0, of.mailbox.0)) == Some(&of.uid) => {
                forge::blank(content, of.account)
            }
            _ => None,
        });
    }
    forge::forget_indexes(&data);
}

fn resurrect(sim: &Sim) {
    for path in forge::segments(&sim.disk.data()) {
        forge::rewrite(&path, |record, content| match record {
            Record::Expunged(of) => forge::blank(content, of.account),
            _ => None,
        });
    }
    forge::forget_indexes(&sim.disk.data());
}

fn forget_flags(sim: &Sim) {
    for path in forge::segments(&sim.disk.data()) {
        forge::rewrite(&path, |record, content| match record {
            Record::FlagsChanged(of) => forge::blank(content, of.account),
            _ => None,
        });
    }
    forge::forget_indexes(&sim.disk.data());
}

/// Replay begins at the end of the log, whatever the checkpoint holds.
fn advance_checkpoints(sim: &Sim) {
    let Ok(data) = DataDir::open(&sim.disk.data()) else {
        return;
    };
    for id in data.logs().unwrap_or_default() {
        let dir = data.log_dir(id);
        let Some(key) = key_of(&data, id) else {
            continue;
        };
        let Ok(Some(mut index)) = IndexFile::open(dir, IndexOwner { log: id, key }) else {
            continue;
        };
        let Ok(verified) = verify_log(&data, id) else {
            continue;
        };
        if let Some(found) = index.directory().cloned() {
            let position = verified.end.position;
            // The disk may be bad just now: then this checkpoint stays as it was.
            let _ = index.commit(Directory { position, ..found });
        }
    }
}

fn key_of(data: &DataDir, id: LogId) -> Option<ringpost::store::segment::SegmentKey> {
    let dir = data.log_dir(id);
    dir.segments().ok()?.into_iter().find_map(|number| {
        match Heading::read(&std::fs::read(dir.segment(number)).ok()?, number) {
            Heading::Good(header) => Some(header.log_key),
            _ => None,
        }
    })
}

thread_local! {
    static LETTERS: Cell<u64> = const { Cell::new(0) };
}

/// Every fourth delivery that one shard asks another for is not heard.
fn lose_letters(inboxes: &[Inbox<Letter>]) {
    for inbox in inboxes.iter().filter(|inbox| !inbox.is_empty()) {
        for _ in 0..inbox.len() {
            let Some(letter) = inbox.try_next() else {
                break;
            };
            LETTERS.set(LETTERS.get() + u64::from(matches!(letter, Letter::Deliver(_))));
            if !matches!(letter, Letter::Deliver(_)) || !LETTERS.get().is_multiple_of(4) {
                inbox.post(letter);
            }
        }
    }
}

fn forget_cuts(inboxes: &[Inbox<Letter>]) {
    for inbox in inboxes.iter().filter(|inbox| !inbox.is_empty()) {
        for _ in 0..inbox.len() {
            let Some(mut letter) = inbox.try_next() else {
                break;
            };
            match &mut letter {
                Letter::Deliver(deliver) => deliver.cut = 0,
                Letter::Delivered(delivered) => delivered.cut = 0,
                _ => {}
            }
            inbox.post(letter);
        }
    }
}

#[test]
fn every_mutant_is_caught() {
    println!("| mutant | caught by the rule | after seeds |\n|---|---|---|");
    let mut escaped = Vec::new();
    for mutant in &MUTANTS {
        let caught = (1..=SEEDS_MAX).find_map(|seed| {
            let broken = whole::run(1000 + seed, Plan { mutant: Some(mutant), ..Plan::default() }).err()?;
            assert!(broken.starts_with('['), "{}: {broken}", mutant.name);
            Some((seed, broken))
        });
        match caught {
            Some((seeds, broken)) => println!("| {} | {} | {seeds} |", mutant.name, rule_of(&broken)),
            None => escaped.push(mutant.name),
        }
    }
    assert!(escaped.is_empty(), "not caught within {SEEDS_MAX} seeds: {escaped:?}");
}

/// The rule that stands in front of the words.
fn rule_of(broken: &str) -> &str {
    let rule = broken.strip_prefix('[').and_then(|rest| rest.split_once(']'));
    rule.map_or_else(|| broken.lines().next().unwrap_or_default(), |(rule, _)| rule)
}
