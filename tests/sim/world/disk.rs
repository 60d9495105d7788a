//! A disk that forgets what was not synced, and fails when it is told to.
//!
//! The files are real, in memory, and are what a page cache shows: reads and mappings see every write at once. Beside
//! them stands what a crash may bring back. For each sector that was written and not synced its old content is kept;
//! a crash leaves each old, new or as garbage. What was created, renamed and removed in a directory that was not synced
//! since is undone from the end, as far as the crash likes. A sync that fails loses what it was for: it stays to be
//! seen, no later sync writes it, and a crash or a look past the cache brings back what was there before.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use ringpost::io::world::{Change, Permit};

use super::sim;

pub const SECTOR_BYTES: u64 = 512;

pub struct Disk {
    root: PathBuf,
    /// By inode.
    files: RefCell<BTreeMap<u64, Unsynced>>,
    /// By directory.
    entries: RefCell<BTreeMap<PathBuf, Vec<Entry>>>,
    graves: Cell<u64>,
    /// Changes since the beginning.
    changes: Cell<u64>,
    /// What befalls it.
    pub weather: Cell<Weather>,
    /// Nothing works any more until the server starts again.
    is_dead: Cell<bool>,
    /// Faults that the server was told of.
    faults: Cell<u64>,
    /// Sees every change and may answer it, before anything else does.
    #[allow(clippy::type_complexity)]
    pub mutant: RefCell<Option<Box<dyn Fn(&Disk, &Change<'_>) -> Option<io::Result<Permit>>>>>,
}

/// What befalls a disk. Each number says in how many changes of its kind one fails; 0 is never.
#[derive(Clone, Copy, Default, Debug)]
pub struct Weather {
    pub syncs: u64,
    pub writes: u64,
    pub short: u64,
    /// Nothing may grow.
    pub is_full: bool,
    /// The power goes at this change.
    pub cut_at: Option<u64>,
    /// This change fails, and all after it.
    pub fails_at: Option<(u64, Fault)>,
}

/// A fault at one change or from it on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Fault {
    pub what: Failure,
    pub is_lasting: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Failure {
    /// EIO for whatever it is.
    Broken,
    /// ENOSPC for what takes space.
    Full,
    /// EDQUOT for what takes space.
    Quota,
    /// A write takes half of its bytes.
    Short,
    /// EIO for a sync.
    Sync,
    /// EROFS for whatever it is.
    ReadOnly,
}

/// What was written into a file and is not durable.
#[derive(Default)]
struct Unsynced {
    /// Old content of sectors, by number.
    sectors: BTreeMap<u64, Vec<u8>>,
    /// The same of those whose sync failed.
    lost: BTreeMap<u64, Vec<u8>>,
    /// The durable length, if it is another.
    length: Option<u64>,
}

/// Something that happened in a directory.
enum Entry {
    Created(PathBuf),
    MadeDirectory(PathBuf),
    Renamed {
        from: PathBuf,
        to: PathBuf,
    },
    /// Moved into a grave: removed, or about to be replaced.
    Buried {
        path: PathBuf,
        grave: PathBuf,
    },
}

impl Disk {
    pub fn new(root: &Path) -> Self {
        fs::create_dir_all(root.join("graves")).expect("a place for what was removed");
        Self {
            root: root.to_owned(),
            files: RefCell::default(),
            entries: RefCell::default(),
            graves: Cell::new(0),
            changes: Cell::new(0),
            weather: Cell::default(),
            is_dead: Cell::new(false),
            faults: Cell::new(0),
            mutant: RefCell::new(None),
        }
    }

    /// Where the server's data is.
    pub fn data(&self) -> PathBuf {
        self.root.join("data")
    }

    pub fn changes(&self) -> u64 {
        self.changes.get()
    }

    pub fn faults(&self) -> u64 {
        self.faults.get()
    }

    pub fn is_dead(&self) -> bool {
        self.is_dead.get()
    }

    pub fn set_weather(&self, change: impl FnOnce(&mut Weather)) {
        let mut weather = self.weather.get();
        change(&mut weather);
        self.weather.set(weather);
    }

    pub fn change(&self, change: &Change<'_>) -> io::Result<Permit> {
        let sim = sim();
        sim.note(what(change).as_bytes());
        self.changes.set(self.changes.get() + 1);
        if self.is_dead.get() {
            return Err(eio());
        }
        let weather = self.weather.get();
        if weather.cut_at.is_some_and(|at| self.changes.get() >= at) {
            self.is_dead.set(true);
            return Err(eio());
        }
        if let Some(mutant) = &*self.mutant.borrow()
            && let Some(answer) = mutant(self, change)
        {
            return answer;
        }
        self.handle(change)
    }

    /// What a disk without mutants does.
    pub fn handle(&self, change: &Change<'_>) -> io::Result<Permit> {
        let answer = self.fate(change).and_then(|permit| self.carry_out(change, permit));
        if answer.is_err() {
            self.faults.set(self.faults.get() + 1);
        }
        answer
    }

    /// Whether it fails.
    fn fate(&self, change: &Change<'_>) -> io::Result<Permit> {
        let (sim, weather) = (sim(), self.weather.get());
        let happens = |one_in: u64| one_in > 0 && sim.one_in(one_in);
        if let Some((at, fault)) = weather.fails_at {
            let now = self.changes.get();
            if now == at || (fault.is_lasting && now > at) {
                return fault.befall(change);
            }
        }
        match change {
            _ if weather.is_full && self.takes_space(change) => Err(enospc()),
            Change::Sync { .. } | Change::SyncDirectory { .. } if happens(weather.syncs) => {
                self.lose(change);
                Err(eio())
            }
            Change::Write { .. } if happens(weather.writes) => Err(eio()),
            Change::Write { length, .. } if *length > 1 && happens(weather.short) => {
                Ok(Permit::Bytes(1 + sim.below(*length as u64 - 1) as usize))
            }
            _ => Ok(Permit::All),
        }
    }

    fn takes_space(&self, change: &Change<'_>) -> bool {
        match change {
            Change::Create { .. } | Change::MakeDirectory { .. } => true,
            Change::Write { path, offset, length } => {
                fs::metadata(path).map_or(0, |file| file.len()) < offset + *length as u64
            }
            Change::Resize { path, length } => fs::metadata(path).map_or(0, |file| file.len()) < *length,
            _ => false,
        }
    }

    /// Keeps what is needed to undo it.
    fn carry_out(&self, change: &Change<'_>, permit: Permit) -> io::Result<Permit> {
        match *change {
            Change::Create { path } => {
                if path.exists() {
                    self.bury(path)?;
                }
                self.enter(path, Entry::Created(path.to_owned()));
            }
            Change::Write { path, offset, length } => self.keep(path, offset, length as u64)?,
            Change::Resize { path, length } => {
                let old = fs::metadata(path)?.len();
                self.keep(path, length.min(old), old.saturating_sub(length))?;
            }
            Change::Sync { path } => {
                if let Some(unsynced) = self.files.borrow_mut().get_mut(&fs::metadata(path)?.ino()) {
                    unsynced.sectors.clear();
                    unsynced.length = None;
                }
            }
            Change::Rename { from, to } => {
                if to.exists() {
                    self.bury(to)?;
                }
                self.enter(from, Entry::Renamed { from: from.to_owned(), to: to.to_owned() });
            }
            Change::Remove { path } => {
                self.bury(path)?;
                return Ok(Permit::Done);
            }
            Change::MakeDirectory { path } => {
                if !path.exists() {
                    self.enter(path, Entry::MadeDirectory(path.to_owned()));
                }
            }
            Change::SyncDirectory { path } => drop(self.entries.borrow_mut().remove(path)),
            Change::Reread { path } => self.drop_cache(path)?,
        }
        Ok(permit)
    }

    fn enter(&self, path: &Path, entry: Entry) {
        let directory = path.parent().expect("a file lies in a directory").to_owned();
        self.entries.borrow_mut().entry(directory).or_default().push(entry);
    }

    fn bury(&self, path: &Path) -> io::Result<()> {
        self.graves.set(self.graves.get() + 1);
        let grave = self.root.join("graves").join(self.graves.get().to_string());
        fs::rename(path, &grave)?;
        self.enter(path, Entry::Buried { path: path.to_owned(), grave });
        Ok(())
    }

    /// Keeps the old content of what is about to be written.
    fn keep(&self, path: &Path, offset: u64, length: u64) -> io::Result<()> {
        let file = fs::File::open(path)?;
        let metadata = file.metadata()?;
        let mut files = self.files.borrow_mut();
        let unsynced = files.entry(metadata.ino()).or_default();
        unsynced.length.get_or_insert(metadata.len());
        if length == 0 {
            return Ok(());
        }
        for sector in offset / SECTOR_BYTES..=(offset + length - 1) / SECTOR_BYTES {
            if let std::collections::btree_map::Entry::Vacant(vacant) = unsynced.sectors.entry(sector) {
                // What a failed sync lost is not what the disk has; written again, it can be synced again.
                let old = match unsynced.lost.remove(&sector) {
                    Some(old) => old,
                    None => read_sector(&file, sector)?,
                };
                vacant.insert(old);
            }
        }
        Ok(())
    }

    /// A sync failed: what it was for is clean, and not on the disk.
    fn lose(&self, change: &Change<'_>) {
        let Change::Sync { path } = change else {
            return;
        };
        let Ok(metadata) = fs::metadata(path) else {
            return;
        };
        if let Some(unsynced) = self.files.borrow_mut().get_mut(&metadata.ino()) {
            for (sector, old) in std::mem::take(&mut unsynced.sectors) {
                unsynced.lost.entry(sector).or_insert(old);
            }
        }
    }

    /// The file is read from the disk again.
    fn drop_cache(&self, path: &Path) -> io::Result<()> {
        let file = fs::File::options().write(true).open(path)?;
        if let Some(unsynced) = self.files.borrow_mut().get_mut(&file.metadata()?.ino()) {
            for (sector, old) in std::mem::take(&mut unsynced.lost) {
                file.write_all_at(&old, sector * SECTOR_BYTES)?;
            }
        }
        Ok(())
    }

    /// The process ends, the power stays: what was written stays to be seen.
    pub fn survive(&self) {
        self.is_dead.set(false);
        self.set_weather(|weather| weather.cut_at = None);
    }

    /// The power goes: what was not synced is anyone's guess.
    pub fn crash(&self) {
        self.survive();
        let sim = sim();
        let directories = std::mem::take(&mut *self.entries.borrow_mut());
        let files = std::mem::take(&mut *self.files.borrow_mut());
        let paths = paths_by_inode(&self.root);
        let mood = Mood::any();
        for (inode, unsynced) in files {
            if let Some(path) = paths.get(&inode) {
                sim.note(format!("crash {:?} {unsynced}", path.file_name()).as_bytes());
                unsynced.crash(path, mood).expect("a file can be written");
            }
        }
        // From the deepest on, so that what is undone is still there.
        for (_, mut entries) in directories.into_iter().rev() {
            let kept = match mood {
                Mood::Old => 0,
                Mood::New => entries.len() as u64,
                Mood::Any => sim.below(entries.len() as u64 + 1),
            };
            while entries.len() as u64 > kept {
                if let Some(entry) = entries.pop() {
                    sim.note(format!("undo {entry}").as_bytes());
                    entry.undo();
                }
            }
        }
    }
}

/// How much of what was not synced a crash leaves.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Mood {
    Old,
    New,
    Any,
}

impl Mood {
    fn any() -> Self {
        match sim().below(5) {
            0 => Self::Old,
            1 => Self::New,
            _ => Self::Any,
        }
    }
}

impl Unsynced {
    fn crash(self, path: &Path, mood: Mood) -> io::Result<()> {
        let sim = sim();
        let file = fs::File::options().write(true).open(path)?;
        let length = file.metadata()?.len();
        let durable = self.length.unwrap_or(length);
        for (sector, old) in self.sectors.into_iter().chain(self.lost) {
            let at = sector * SECTOR_BYTES;
            let bytes = match (mood, sim.below(5)) {
                (Mood::New, _) | (Mood::Any, 0 | 1) => continue,
                (Mood::Old, _) | (Mood::Any, 2 | 3) => {
                    let mut bytes = old;
                    bytes.resize(SECTOR_BYTES as usize, 0);
                    bytes
                }
                (Mood::Any, _) => (0..SECTOR_BYTES).map(|_| sim.below(256) as u8).collect(),
            };
            file.write_all_at(&bytes, at)?;
        }
        let left = match mood {
            Mood::Old => durable,
            Mood::New => length,
            Mood::Any if sim.one_in(2) => length,
            Mood::Any => durable.min(length) + sim.below(length.abs_diff(durable) + 1),
        };
        file.set_len(left)
    }
}

impl fmt::Display for Unsynced {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { sectors, lost, length } = self;
        write!(f, "{} sectors, {} lost, length {length:?}", sectors.len(), lost.len())
    }
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = |path: &Path| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        match self {
            Self::Created(path) => write!(f, "create {}", name(path)),
            Self::MadeDirectory(path) => write!(f, "mkdir {}", name(path)),
            Self::Renamed { from, to } => write!(f, "rename {} {}", name(from), name(to)),
            Self::Buried { path, .. } => write!(f, "remove {}", name(path)),
        }
    }
}

impl Entry {
    fn undo(self) {
        // What lies in a directory that is gone by now is gone with it.
        let _ = match self {
            Self::Created(path) => fs::remove_file(path),
            Self::MadeDirectory(path) => fs::remove_dir_all(path),
            Self::Renamed { from, to } => fs::rename(to, from),
            Self::Buried { path, grave } => fs::rename(grave, path),
        };
    }
}

impl Fault {
    fn befall(self, change: &Change<'_>) -> io::Result<Permit> {
        let is_sync = matches!(change, Change::Sync { .. } | Change::SyncDirectory { .. });
        let disk = &sim().disk;
        match self.what {
            Failure::Broken => {
                disk.lose(change);
                Err(eio())
            }
            Failure::ReadOnly if is_sync => Ok(Permit::All),
            Failure::ReadOnly => Err(io::Error::from_raw_os_error(libc::EROFS)),
            Failure::Full if disk.takes_space(change) => Err(enospc()),
            Failure::Quota if disk.takes_space(change) => Err(io::Error::from_raw_os_error(libc::EDQUOT)),
            Failure::Sync if is_sync => {
                disk.lose(change);
                Err(eio())
            }
            Failure::Short => match change {
                Change::Write { length, .. } if *length > 1 => {
                    disk.faults.set(disk.faults.get() + 1);
                    Ok(Permit::Bytes(length / 2))
                }
                _ => Ok(Permit::All),
            },
            Failure::Full | Failure::Quota | Failure::Sync => Ok(Permit::All),
        }
    }
}

fn read_sector(file: &fs::File, sector: u64) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; SECTOR_BYTES as usize];
    let read = file.read_at(&mut bytes, sector * SECTOR_BYTES)?;
    bytes.truncate(read);
    Ok(bytes)
}

fn paths_by_inode(root: &Path) -> BTreeMap<u64, PathBuf> {
    let (mut paths, mut folders) = (BTreeMap::new(), vec![root.to_owned()]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a directory can be listed").flatten() {
            let path = entry.path();
            match entry.file_type().expect("an entry has a type").is_dir() {
                true => folders.push(path),
                false => drop(paths.insert(entry.metadata().expect("an entry can be looked at").ino(), path)),
            }
        }
    }
    paths
}

fn eio() -> io::Error {
    io::Error::from_raw_os_error(libc::EIO)
}

fn enospc() -> io::Error {
    io::Error::from_raw_os_error(libc::ENOSPC)
}

/// A change as the trace has it: the name of its file, without the folder that each run has for itself.
fn what(change: &Change<'_>) -> String {
    let name = |path: &Path| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    match change {
        Change::Create { path } => format!("create {}", name(path)),
        Change::Write { path, offset, length } => format!("write {} {offset} {length}", name(path)),
        Change::Sync { path } => format!("sync {}", name(path)),
        Change::Resize { path, length } => format!("resize {} {length}", name(path)),
        Change::Rename { from, to } => format!("rename {} {}", name(from), name(to)),
        Change::Remove { path } => format!("remove {}", name(path)),
        Change::MakeDirectory { path } => format!("mkdir {}", name(path)),
        Change::SyncDirectory { path } => format!("sync {}/", name(path)),
        Change::Reread { path } => format!("reread {}", name(path)),
    }
}
