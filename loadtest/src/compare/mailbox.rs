//! Mailboxes of every size: listed, searched, changed. They are made once, for all repetitions and rows.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::compare::bench::Bench;
use crate::compare::disk;
use crate::compare::listing::Listing;
use crate::compare::row::{Better, Goal, Measure, Samples};
use crate::compare::server::{DOMAIN, End, Mode, PASSWORD, Running, Server, Setup};
use crate::imap::client::Login;
use crate::imap::fill;
use crate::imap::operations::{self, Measured, Operation, median};
use crate::imap::options::Security;
use crate::report::scale::Unit;

/// One mailbox: so many messages of so many bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Set {
    pub messages: usize,
    pub bytes: usize,
}

/// What a listing finds in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Memory {
    /// Everything, since it has been listed before.
    Warm,
    /// Nothing, but the server has listed it before.
    Cold,
    /// Mail, but nothing that was made by listing it.
    NeverListed,
}

/// Bytes of a message where many are listed and few are read.
pub const LISTED_BYTES: usize = 1024;

/// Listings in one session that count, after one that does not.
const WARM_ROUNDS: usize = 3;

const NAME: &str = "box";

const CHANGES: [(Operation, &str, f64); 7] = [
    (Operation::Select, "SELECT", 1.5),
    (Operation::Status, "STATUS", 1.2),
    (Operation::Noop, "NOOP", 1.2),
    (Operation::Last50, "FETCH last 50", 1.2),
    (Operation::Store, "STORE", 1.2),
    (Operation::Expunge, "EXPUNGE", 1.2),
    (Operation::Append, "APPEND", 1.2),
];

impl Set {
    fn key(self) -> String {
        format!("{}x{}", self.messages, self.bytes)
    }

    /// As a Maildir, which every server can take in.
    fn maildir(self, bench: &Bench) -> io::Result<PathBuf> {
        let folder = bench.folder.join("sets").join(self.key());
        let is_done = folder.join("done");
        if is_done.exists() {
            return Ok(folder.join("maildir"));
        }
        let maildir = folder.join("maildir");
        if maildir.exists() {
            fs::remove_dir_all(&maildir)?;
        }
        for name in ["cur", "new", "tmp"] {
            fs::create_dir_all(maildir.join(name))?;
        }
        for number in 0..self.messages {
            let text = fill::message(number, self.bytes);
            let with_crlf = text.len();
            let text: Vec<u8> = text.into_iter().filter(|byte| *byte != b'\r').collect();
            // The sizes in the name spare Dovecot from asking for them.
            let name =
                format!("{}.M{number}P1.load,S={},W={with_crlf}:2,", 1_700_000_000 + number, text.len());
            fs::write(maildir.join("cur").join(name), text)?;
        }
        fs::write(is_done, "")?;
        Ok(maildir)
    }

    /// The server with this mailbox in it.
    pub fn start(self, bench: &Bench, server: Server) -> io::Result<Running> {
        let (folder, setup) = (self.folder(bench, server), setup(bench));
        let is_filled = folder.join("filled");
        if is_filled.exists() {
            return bench.scripts.start(server, &folder, &setup);
        }
        if folder.exists() {
            fs::remove_dir_all(&folder)?;
        }
        let maildir = self.maildir(bench)?;
        let running = bench.scripts.start(server, &folder, &setup)?;
        bench.scripts.fill(server, &folder, &account(), &maildir)?;
        // What the first listing makes is made, and what filling left to do is done.
        list(&running, &[Operation::Envelope, Operation::Headers], 1)?;
        running.stop(End::Clean)?;
        fs::write(is_filled, "")?;
        bench.scripts.start(server, &folder, &setup)
    }

    pub fn folder(self, bench: &Bench, server: Server) -> PathBuf {
        bench.kept_folder(server, &self.key())
    }

    /// Removes it as every server has it, and what they were filled with. No server runs on it.
    pub fn remove(self, folder: &Path) -> io::Result<()> {
        for part in ["sets", "kept"] {
            match fs::remove_dir_all(folder.join(part).join(self.key())) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }
}

fn setup(bench: &Bench) -> Setup {
    Setup { accounts: 1, names: vec![NAME.to_owned()], ..bench.setup(Mode::Mailbox) }
}

pub fn account() -> String {
    format!("{NAME}@{DOMAIN}")
}

pub fn login(running: &Running) -> io::Result<Login> {
    Ok(Login {
        address: running.port("imap")?,
        security: Security::Plain,
        user: account(),
        pass: PASSWORD.to_owned(),
    })
}

fn list(
    running: &Running,
    wanted: &[Operation],
    rounds: usize,
) -> io::Result<std::collections::BTreeMap<Operation, Measured>> {
    let bench = operations::Bench {
        login: login(running)?,
        mailbox: "INBOX".to_owned(),
        rounds,
        cpu_ns: &|| crate::cost::cpu_ns(&[running.pid]),
        before_listing: &|| Ok(()),
    };
    bench.run(wanted)
}

pub fn listing_measures(memory: Memory) -> Vec<Measure> {
    let goal = match memory {
        Memory::Warm => Goal::Times(8.0),
        Memory::Cold | Memory::NeverListed => Goal::Times(30.0),
    };
    vec![
        Measure::new("envelope", "FETCH 1:* (UID FLAGS RFC822.SIZE ENVELOPE)", Unit::Nanos, Better::Less)
            .with_goal(goal),
        Measure::new("headers", "a mail client's HEADER.FIELDS list", Unit::Nanos, Better::Less)
            .with_goal(goal),
        Measure::new("first byte", "ENVELOPE, to the first byte", Unit::Nanos, Better::Less),
        Measure::new("cpu", "ENVELOPE, CPU a message", Unit::Nanos, Better::Less),
        Measure::new("headers cpu", "HEADER.FIELDS, CPU a message", Unit::Nanos, Better::Less),
    ]
}

pub fn measure_listing(bench: &Bench, server: Server, memory: Memory) -> io::Result<Samples> {
    let set = Set { messages: bench.sizes.listed, bytes: LISTED_BYTES };
    let running = set.start(bench, server)?;
    let mut samples = Samples::new();
    if memory == Memory::Warm {
        // Every answer is looked at once; what is timed after that is only counted.
        list(&running, &Listing::ALL.map(Listing::operation), 1)?;
        for listing in Listing::ALL {
            let rounds = (0..WARM_ROUNDS).map(|_| listing.time(&running, set.messages));
            listing.take(&mut samples, &rounds.collect::<io::Result<Vec<_>>>()?, set.messages);
        }
        return Ok(samples);
    }
    let mut running = Some(running);
    for listing in Listing::ALL {
        if let Some(running) = running.take() {
            running.stop(End::Clean)?;
        }
        let folder = set.folder(bench, server);
        match (memory, server) {
            (Memory::Cold, _) => disk::evict(&folder)?,
            // Ours made at delivery what it lists with; there is nothing that listing has made.
            (_, Server::Ringpost) => {}
            _ => bench.scripts.forget(server, &folder, &account())?,
        }
        let restarted = bench.scripts.start(server, &folder, &setup(bench))?;
        listing.take(&mut samples, &[listing.time(&restarted, set.messages)?], set.messages);
        running = Some(restarted);
    }
    Ok(samples)
}

pub fn growth_measures(sizes: &[usize]) -> Vec<Measure> {
    let (Some(smallest), Some(largest)) = (sizes.first(), sizes.last()) else {
        return Vec::new();
    };
    let mut measures = Vec::new();
    for (_, name, bound) in CHANGES {
        let what = format!("{name}, at {largest} to at {smallest}");
        measures.push(
            Measure::new(&format!("{name} growth"), &what, Unit::Times, Better::Less)
                .with_goal(Goal::AtMost(bound)),
        );
        measures.extend(sizes.iter().map(|size| {
            let what = format!("{name}, {size} messages");
            Measure::new(&format!("{name} {size}"), &what, Unit::Nanos, Better::Less)
        }));
    }
    measures
}

pub fn measure_growth(bench: &Bench, server: Server) -> io::Result<Samples> {
    let mut samples = Samples::new();
    let wanted = CHANGES.map(|(operation, ..)| operation);
    let sizes = &bench.sizes.grown;
    for &messages in sizes {
        let running = Set { messages, bytes: LISTED_BYTES }.start(bench, server)?;
        // Once for whatever is made at the first time.
        list(&running, &wanted, 1)?;
        for (operation, measured) in list(&running, &wanted, 1)? {
            samples.insert(format!("{} {messages}", name(operation)), median(&measured.whole_ns) as f64);
        }
    }
    if let (Some(smallest), Some(largest)) = (sizes.first(), sizes.last()) {
        for (_, name, _) in CHANGES {
            let at = |size: &usize| samples.get(&format!("{name} {size}")).copied().unwrap_or(f64::NAN);
            let growth = at(largest) / at(smallest);
            samples.insert(format!("{name} growth"), growth);
        }
    }
    Ok(samples)
}

fn name(operation: Operation) -> &'static str {
    CHANGES.iter().find(|change| change.0 == operation).map_or("", |change| change.1)
}

pub fn search_measures() -> Vec<Measure> {
    vec![
        Measure::new("text", "SEARCH TEXT", Unit::Nanos, Better::Less).with_goal(Goal::Times(30.0)),
        Measure::new("cpu", "CPU a message", Unit::Nanos, Better::Less),
    ]
}

pub fn measure_search(bench: &Bench, server: Server, set: Set) -> io::Result<Samples> {
    let running = set.start(bench, server)?;
    list(&running, &[Operation::Search], 1)?;
    let found = list(&running, &[Operation::Search], 1)?;
    let measured = found.get(&Operation::Search).ok_or_else(|| io::Error::other("nothing was searched"))?;
    let each = measured.cpu_us_each() * 1e3 / measured.messages.max(1) as f64;
    Ok(Samples::from([("text".to_owned(), median(&measured.whole_ns) as f64), ("cpu".to_owned(), each)]))
}

/// What a folder's files hold.
pub fn bytes_in(folder: &Path) -> io::Result<u64> {
    let mut bytes = 0;
    disk::each_file(folder, &mut |path| {
        bytes += fs::metadata(path)?.len();
        Ok(())
    })?;
    Ok(bytes)
}
