//! A disk in trouble under a server at work: reads, writes or flushes are answered with EIO, the file system fills or
//! turns read-only, the data goes away and comes back. Clients go on, ask again for what is refused, and are looked at
//! while the trouble lasts, when it is over, and after the server's next start.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{self, File};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use clap::ValueEnum;
use rustix::fs::{Advice, FallocateFlags, fadvise, fallocate};

use crate::audit::PATIENCE;
use crate::cast::{Kind, RELAYERS, SENDERS, WORKERS};
use crate::conduct::{Conduct, names_the_cause, print};
use crate::device::{BLOCK, FileSystem, told};
use crate::disk::now;
use crate::kill::{audit, carry_over};
use crate::ledger::{Entry, Ledger, Step};
use crate::load::{Clients, Refusals};
use crate::random::Random;
use crate::stage::{Load, Stage, start_clients, wait_for_clients};
use crate::trouble::{Request, Term, Trouble};
use crate::witness::{Witness, exists};

/// All goes well for so long before the trouble begins.
const CALM: Duration = Duration::from_millis(400);

/// Behind the trouble every client gets something done by then.
const BACK_MAX: Duration = Duration::from_secs(30);

/// Requests that are still answered, for each kind of them.
const SPARED_WRITES: u64 = 40;
const SPARED_FLUSHES: u64 = 20;

/// Places that cannot be read, each of so many blocks at most.
const BAD_PLACES: usize = 16;
const BAD_BLOCKS: u64 = 3;

/// Stands in every message of the clients.
const OF_A_MESSAGE: &[u8] = b" of message ";

/// Marks a batch of the log, behind its checksum.
const BATCH: &[u8; 4] = b"RPB1";

/// One of the last so many.
const LATE_BATCHES: u64 = 8;

#[derive(clap::Args, Clone)]
pub struct Orders {
    #[arg(long, value_enum, default_value = "ringpost")]
    pub server: Kind,
    /// All, one after the other, unless some are named.
    #[arg(long = "case", value_enum)]
    pub cases: Vec<Case>,
    /// Of each case.
    #[arg(long, default_value_t = 10)]
    pub rounds: u64,
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// How long the trouble lasts.
    #[arg(long, default_value_t = 1500)]
    pub span_ms: u64,
    /// Between two commands of a client.
    #[arg(long, default_value_t = 5)]
    pub pause_ms: u64,
    /// Prints what the server logs in rounds in which something was refused.
    #[arg(long)]
    pub log: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, ValueEnum)]
pub enum Case {
    /// EIO for one write to a file.
    WriteOnce,
    /// EIO for all of them.
    Write,
    /// EIO for one flush, which may be one that the file system needs for itself.
    FlushOnce,
    Flush,
    /// EIO for what the file system writes to its journal: it turns read-only.
    Journal,
    /// EIO for reads of some blocks of mail, none of which is in memory.
    Read,
    /// EIO for reads of one of the batches that were written last, while the server starts.
    ReadAtStart,
    /// No space is left.
    Full,
    /// Files may not become longer than so much: writes are short, then EFBIG.
    Limit,
    /// The folder of the data is elsewhere.
    Missing,
    /// The disk says that writes are done and forgets them, which no server can stand: losses are seen.
    Lying,
}

/// An error is why this machine cannot do it.
pub fn run(orders: &Orders) -> Result<bool, String> {
    let begun = Instant::now();
    let mut random = Random::new(orders.seed);
    let mut table: BTreeMap<Case, Conduct> = BTreeMap::new();
    let cases: Vec<Case> = match orders.cases.as_slice() {
        [] => Case::value_variants().iter().copied().filter(|case| case.is_for(orders.server)).collect(),
        named => named.to_vec(),
    };
    let rounds = (0..orders.rounds).flat_map(|_| &cases).zip(0..);
    let mut trial = None;
    for (case, number) in rounds {
        let mut current = trial.take().map_or_else(|| Trial::begin(orders), Ok)?;
        let mut conduct = Conduct { rounds: 1, ..Conduct::default() };
        if let Err(error) = current.round(*case, 2 * number, &mut Random::new(random.next()), &mut conduct) {
            conduct.findings.note(|counts| &mut counts.dead, error);
        }
        if conduct.is_bad(orders.server) {
            eprintln!("seed {}, round {number}, {case}: {conduct}", orders.seed);
        }
        // What is wrong in one round is not to be found in the next.
        trial = (conduct.findings.broken() == 0).then_some(current);
        table.entry(*case).or_default().add(conduct);
    }
    print(orders.server, &table);
    println!("{} s", begun.elapsed().as_secs());
    Ok(table.values().all(|conduct| !conduct.is_bad(orders.server)))
}

/// A server whose disk is in trouble again and again.
struct Trial<'a> {
    orders: &'a Orders,
    stage: Stage,
    ledger: PathBuf,
    /// Where the files of the file system begin.
    files_begin: usize,
    /// How long mail may be on its way.
    patience: Duration,
    is_up: bool,
}

impl<'a> Trial<'a> {
    fn begin(orders: &'a Orders) -> Result<Self, String> {
        let mut stage = Stage::set(orders.server, FileSystem::Ext4)?;
        stage.device.unmount();
        let files_begin = stage.device.files_begin()?;
        stage.device.mount()?;
        let ledger = stage.scratch.path().join("ledger");
        fs::write(&ledger, "").expect("the ledger is made");
        stage.server.start()?;
        let is_lying = orders.cases.contains(&Case::Lying);
        let patience = if is_lying { Duration::from_millis(100) } else { PATIENCE };
        Ok(Self { orders, stage, ledger, files_begin, patience, is_up: true })
    }

    /// The server runs before it, and after it unless that is an error. The number, and the one behind it, are of this
    /// round alone.
    fn round(
        &mut self,
        case: Case,
        round: u64,
        random: &mut Random,
        conduct: &mut Conduct,
    ) -> Result<(), String> {
        match case {
            Case::ReadAtStart => self.start_blind(round, random, conduct)?,
            _ => self.work_on(case, round, random, conduct)?,
        }
        self.start()?;
        self.audit(conduct);
        Ok(())
    }

    /// Trouble under load. Then the server is killed, and the disk in order.
    fn work_on(
        &mut self,
        case: Case,
        round: u64,
        random: &mut Random,
        conduct: &mut Conduct,
    ) -> Result<(), String> {
        if case == Case::Read {
            // Nothing of it is in memory.
            self.kill();
            self.remount()?;
            self.start()?;
        }
        let mut is_writable = true;
        let mut suffered = Conduct::default();
        let load = self.load(round, Clients::All);
        self.work(load, |trial| is_writable = trial.suffer(case, random, &mut suffered), conduct);
        conduct.add(suffered);
        if case == Case::Limit {
            // The limit is for the log's own file, too.
            conduct.silent = 0;
        }
        match !is_writable || case == Case::Lying || random.one_in(2) {
            true => self.remount(),
            false => Ok(()),
        }
    }

    /// The trouble, from its beginning to what comes behind it, under load. Whether the file system takes files then.
    fn suffer(&mut self, case: Case, random: &mut Random, conduct: &mut Conduct) -> bool {
        thread::sleep(CALM);
        self.strike(case, random);
        let begun = Instant::now();
        match case {
            Case::Read => self.read_all(Mail::WithGaps, conduct),
            _ => self.witness().look().unwrap_or_else(|reply| conduct.note_unread(reply)),
        }
        thread::sleep(Duration::from_millis(self.orders.span_ms).saturating_sub(begun.elapsed()));
        self.mend(case, conduct);
        let mended = now();
        let is_writable = self.is_writable();
        conduct.read_only += u64::from(!is_writable);
        if case == Case::Read {
            self.read_all(Mail::Whole, conduct);
        }
        if is_writable {
            self.wait_until_back(mended, conduct);
        }
        is_writable
    }

    fn witness(&self) -> Witness<'_> {
        Witness { server: self.stage.server.as_ref() }
    }

    /// Killed under load, then started where one of the last batches cannot be read.
    fn start_blind(&mut self, round: u64, random: &mut Random, conduct: &mut Conduct) -> Result<(), String> {
        self.work(self.load(round, Clients::All), |_| thread::sleep(CALM), conduct);
        self.remount()?;
        self.strike(Case::ReadAtStart, random);
        match self.start() {
            // It says what it cannot read, and waits for who can mend it.
            Err(log) if log.lines().any(names_the_cause) => conduct.refused_starts += 1,
            Err(_) => conduct.silent += 1,
            Ok(()) => self.work(self.load(round + 1, Clients::Senders), |_| thread::sleep(CALM), conduct),
        }
        self.mend(Case::ReadAtStart, conduct);
        // What a start could not read in between is not in the index; it is in the log.
        self.stage.server.forget_indexes();
        Ok(())
    }

    fn load(&self, round: u64, clients: Clients) -> Load {
        Load { round, pause_ms: self.orders.pause_ms, refusals: Refusals::ForNow, clients }
    }

    /// Clients work on the server while something happens; then it is killed.
    fn work(&mut self, load: Load, happen: impl FnOnce(&mut Self), conduct: &mut Conduct) {
        let (logged, begun) = (self.stage.server.log().len(), now());
        let mut clients = start_clients(self.stage.server.as_ref(), &self.ledger, load);
        happen(self);
        let killed = now();
        conduct.ended += usize::from(!self.stage.server.is_running());
        self.kill();
        wait_for_clients(&mut clients);
        self.count(logged, begun..killed, conduct);
    }

    fn strike(&mut self, case: Case, random: &mut Random) {
        let (files, tables) = (self.places_of_files(), 0..self.files_begin);
        let (writes, flushes) = (random.below(SPARED_WRITES), random.below(SPARED_FLUSHES));
        let trouble = match case {
            Case::WriteOnce => Trouble::new(Request::Write, files, Term::Once, writes),
            Case::Write => Trouble::new(Request::Write, files, Term::UntilMended, writes),
            Case::FlushOnce => Trouble::new(Request::Flush, Vec::new(), Term::Once, flushes),
            Case::Flush => Trouble::new(Request::Flush, Vec::new(), Term::UntilMended, flushes),
            Case::Journal => Trouble::new(Request::Write, vec![tables], Term::UntilMended, 0),
            Case::Read => {
                let places = self.bad_places(random);
                drop_cache(&self.data());
                Trouble::new(Request::Read, places, Term::UntilMended, 0)
            }
            Case::ReadAtStart => {
                Trouble::new(Request::Read, vec![self.late_batch(random)], Term::UntilMended, 0)
            }
            Case::Full => return fill(&self.ballast()),
            Case::Limit => return self.limit_files(&(65_536 + random.below(900_000)).to_string()),
            Case::Missing => return rename(&self.data(), &self.elsewhere()),
            Case::Lying => Trouble::new(Request::Write, files, Term::UntilMended, writes).lying(),
        };
        self.stage.device.disk().trouble = Some(trouble);
    }

    /// All of the disk but what the file system has for itself: tables and journal, which lie in front, and folders.
    fn places_of_files(&self) -> Vec<Range<usize>> {
        let mut folders = Vec::new();
        places_of_folders(self.stage.device.folder(), &mut folders);
        folders.sort_unstable_by_key(|place| place.start);
        let mut places = Vec::new();
        let mut from = self.files_begin;
        for folder in folders.into_iter().filter(|folder| folder.start >= self.files_begin) {
            places.push(from..folder.start);
            from = folder.end;
        }
        places.push(from..self.stage.device.disk().bytes());
        places
    }

    fn mend(&mut self, case: Case, conduct: &mut Conduct) {
        if let Some(trouble) = self.stage.device.disk().trouble.take() {
            conduct.struck += trouble.refused;
        }
        match case {
            Case::Full => fs::remove_file(self.ballast()).expect("the ballast can be removed"),
            Case::Limit => self.limit_files("unlimited"),
            Case::Missing => rename(&self.elsewhere(), &self.data()),
            _ => {}
        }
    }

    fn data(&self) -> PathBuf {
        self.stage.device.folder().join("server")
    }

    fn elsewhere(&self) -> PathBuf {
        self.stage.device.folder().join("elsewhere")
    }

    fn ballast(&self) -> PathBuf {
        self.stage.device.folder().join("ballast")
    }

    /// The bound stays one that can be lifted.
    fn limit_files(&self, bytes: &str) {
        let process = self.stage.server.process_id().to_string();
        let limit = format!("--fsize={bytes}:unlimited");
        // It may have ended, which is noticed elsewhere.
        let _ = told(Command::new("prlimit").args(["--pid", &process, &limit]));
    }

    /// Blocks that hold mail.
    fn bad_places(&self, random: &mut Random) -> Vec<Range<usize>> {
        let mut blocks = Vec::new();
        let disk = self.stage.device.disk();
        let mut block = [0; BLOCK];
        for offset in (self.files_begin..disk.bytes()).step_by(BLOCK) {
            disk.read(offset, &mut block);
            if memchr::memmem::find(&block, OF_A_MESSAGE).is_some() {
                blocks.push(offset);
            }
        }
        let mut places = Vec::new();
        for _ in 0..BAD_PLACES.min(blocks.len()) {
            let at = usize::try_from(random.below(blocks.len() as u64)).expect("below a size");
            let count = usize::try_from(1 + random.below(BAD_BLOCKS)).expect("a few");
            places.push(blocks[at]..blocks[at] + count * BLOCK);
        }
        places
    }

    /// The first block of one of the last batches of a log.
    fn late_batch(&self, random: &mut Random) -> Range<usize> {
        let disk = self.stage.device.disk();
        let mut block = [0; BLOCK];
        let mut batches = Vec::new();
        for offset in (self.files_begin..disk.bytes()).step_by(BLOCK) {
            disk.read(offset, &mut block);
            if block[4..8] == *BATCH {
                let sequence = u64::from_le_bytes(block[32..40].try_into().expect("eight bytes"));
                batches.push((sequence, offset));
            }
        }
        batches.sort_unstable();
        let late =
            batches.len().saturating_sub(1 + usize::try_from(random.below(LATE_BATCHES)).expect("a few"));
        let (_, offset) = batches[late];
        offset..offset + BLOCK
    }

    /// All mailboxes, message by message.
    fn read_all(&self, mail: Mail, conduct: &mut Conduct) {
        if !self.orders.server.has_mailboxes() {
            return;
        }
        match (self.witness().read_all(), mail) {
            (Err(reply), _) => conduct.note_unread(reply),
            (Ok(refused), Mail::WithGaps) => conduct.hidden += refused.len(),
            (Ok(refused), Mail::Whole) => refused.into_iter().for_each(|reply| conduct.note_unread(reply)),
        }
    }

    /// Whether the file system still takes files.
    fn is_writable(&self) -> bool {
        let probe = self.stage.device.folder().join("probe");
        let written = File::create(&probe).and_then(|file| file.sync_all());
        written.and_then(|()| fs::remove_file(&probe)).is_ok()
    }

    /// Until each client that has a connection got something done.
    fn wait_until_back(&self, mended: u64, conduct: &mut Conduct) {
        let begun = Instant::now();
        loop {
            let ledger = Ledger::read(&self.ledger).unwrap_or_default();
            let stuck: Vec<usize> =
                self.clients().filter(|client| !has_done(&ledger, *client, mended)).collect();
            if stuck.is_empty() {
                return;
            }
            if begun.elapsed() > BACK_MAX || !self.stage.server.is_running() {
                conduct.stuck += stuck.len();
                conduct.findings.details.push(format!("clients {stuck:?} get nothing done"));
                return;
            }
            thread::sleep(Duration::from_millis(50));
        }
    }

    fn clients(&self) -> impl Iterator<Item = usize> {
        let kind = self.orders.server;
        let relayers = RELAYERS.into_iter().filter(move |_| kind.relays());
        let workers = WORKERS.into_iter().filter(move |_| kind.has_mailboxes());
        SENDERS.into_iter().chain(relayers).chain(workers)
    }

    /// What the clients were told in this time, and what the log says of it, behind so many bytes.
    fn count(&self, logged: usize, span: Range<u64>, conduct: &mut Conduct) {
        let ledger = Ledger::read(&self.ledger).expect("the ledger can be read");
        let within = || ledger.entries.iter().filter(|entry| span.contains(&entry.at));
        let steps = |step| within().filter(|entry| entry.step == step).count();
        let is_done = |entry: &&Entry| matches!(entry.step, Step::Done(_)) && !entry.is_finding();
        conduct.acknowledged += within().filter(is_done).count();
        conduct.refused += steps(Step::Refused);
        conduct.wrong += steps(Step::Wrong);
        conduct.broken += steps(Step::Broken);
        let log = self.stage.server.log();
        let log = log.get(logged..).unwrap_or_default();
        if conduct.refused > 0 && !log.lines().any(names_the_cause) {
            conduct.silent += 1;
        }
        if self.orders.log && (conduct.refused > 0 || conduct.is_bad(self.orders.server)) {
            log.lines().for_each(|line| eprintln!("    {line}"));
        }
    }

    fn start(&mut self) -> Result<(), String> {
        self.stage.server.start()?;
        self.is_up = true;
        Ok(())
    }

    fn kill(&mut self) {
        self.is_up = false;
        self.stage.server.kill();
    }

    /// Once nobody uses it: what is read from here on comes from the disk.
    fn remount(&mut self) -> Result<(), String> {
        self.stage.device.try_unmount()?;
        self.stage.device.check();
        self.stage.device.mount()
    }

    fn audit(&mut self, conduct: &mut Conduct) {
        let ledger = Ledger::read(&self.ledger).expect("the ledger can be read");
        let server = self.stage.server.as_ref();
        let (findings, seen) = audit(server, &ledger, &self.stage.remote, self.patience);
        conduct.findings.add(findings);
        carry_over(server, &self.ledger, &ledger, seen, &self.stage.remote);
    }
}

impl Drop for Trial<'_> {
    fn drop(&mut self) {
        if self.is_up {
            self.kill();
        }
    }
}

/// What is to be found.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Mail {
    Whole,
    /// Some of it may be refused.
    WithGaps,
}

/// Whether a client got something done since, or has no connection any more, which is counted elsewhere.
fn has_done(ledger: &Ledger, client: usize, since: u64) -> bool {
    let mut own = ledger.entries.iter().filter(|entry| entry.account == client && !entry.is_finding());
    own.any(|entry| matches!(entry.step, Step::Done(_)) && entry.at > since)
        || (WORKERS.contains(&client) && exists(ledger, client, Step::Broken))
}

/// Adds the blocks that a folder and those below it lie in.
fn places_of_folders(folder: &Path, places: &mut Vec<Range<usize>>) {
    let told = told(Command::new("filefrag").arg("-v").arg(folder)).unwrap_or_default();
    places.extend(told.lines().filter_map(extent));
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let folders = entries.map(|entry| entry.path()).filter(|path| path.is_dir());
    folders.for_each(|folder| places_of_folders(&folder, places));
}

/// Of a line `0: 0.. 0: 2314.. 2314: 1: last,eof`: number, blocks of the file, blocks of the disk, how many.
fn extent(line: &str) -> Option<Range<usize>> {
    let mut columns = line.split(':');
    let _number: usize = columns.next()?.trim().parse().ok()?;
    let (first, last) = columns.nth(1)?.split_once("..")?;
    let (first, last): (usize, usize) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
    Some(first * BLOCK..(last + 1) * BLOCK)
}

/// Takes all space there is.
fn fill(ballast: &Path) {
    let file = File::create(ballast).expect("a file is made");
    let (mut length, mut step) = (0, 64 << 20);
    while step >= BLOCK as u64 {
        match fallocate(&file, FallocateFlags::empty(), length, step) {
            Ok(()) => length += step,
            Err(_) => step /= 2,
        }
    }
}

/// Has all files below a folder read from the disk again.
fn drop_cache(folder: &Path) {
    for entry in fs::read_dir(folder).expect("a folder").flatten() {
        let path = entry.path();
        match path.is_dir() {
            true => drop_cache(&path),
            false => {
                // It may have been removed since it was listed.
                let _ = File::open(&path).map(|file| fadvise(&file, 0, None, Advice::DontNeed));
            }
        }
    }
}

fn rename(from: &Path, to: &Path) {
    fs::rename(from, to).expect("a folder can be renamed");
}

impl Case {
    /// The others make files for each message and folders as they need them. A disk that lies is for who asks for it.
    pub fn is_for(self, server: Kind) -> bool {
        let is_peculiar = matches!(self, Self::Limit | Self::Missing | Self::ReadAtStart);
        self != Self::Lying && (server == Kind::Ringpost || !is_peculiar)
    }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = self.to_possible_value().expect("no case is hidden");
        f.write_str(value.get_name())
    }
}
