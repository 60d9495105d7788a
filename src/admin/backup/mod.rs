//! `ringpost backup` and `ringpost restore`.
//!
//! A backup asks the server, or a store that it opens itself, to keep all files as they are; those that are named as of
//! one moment are copied into a [`folder`] whose [`manifest`] says at the end that they count. Segments that are full
//! and large files never change, so that the next backup needs only what is new. [`restore`] puts the files back and
//! sees to it that nothing of the lost time is taken for something else.
//!
//! Invariants: nothing counts before it is synced, and only if the files were kept until all were copied; the last
//! backup can be restored until the next one can; the data directory is only read.

mod folder;
mod manifest;
pub mod restore;

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use indicatif::ProgressBar;

use crate::admin::cli::Backup;
use crate::admin::control::{BackupItem, KeptBytes, KeptFile, Reply, Request};
use crate::admin::failure::Failure;
use crate::admin::offline::{OpenStore, Session};
use crate::admin::storage::progress_bar;
use crate::admin::user;
use crate::io::clock;
use crate::io::disk::DiskError;
use crate::io::disk::copy::{checksum, copy, is_alike};
use crate::io::disk::layout::create_directory;
use crate::io::disk::write_file;
use crate::limits::store::BACKUP_BYTES_PER_S;
use crate::mail::time::Instant;
use folder::Folder;
use manifest::{Manifest, Stored};

/// How often the server is told that its files are still needed. It waits for much longer.
const BETWEEN_WORDS: Duration = Duration::from_secs(5);

pub fn backup(backup: &Backup, open: OpenStore) -> Result<(), Failure> {
    let config = backup.place.load()?;
    user::become_configured(&config)?;
    check_apart(&backup.folder, &config.data)?;
    let mut session = Session::for_mail(&config, open)?;
    let taken = clock::timestamp().seconds;
    let (store, kept) = keep(&mut session)?;
    create_directory(&backup.folder).map_err(|error| user::no_directory(&config, &error))?;
    let mut folder = Folder::open(&backup.folder, &store)?;
    let bytes_per_s = match (backup.bytes_per_s, session.is_offline()) {
        (Some(rate), _) => rate.get(),
        (None, false) => BACKUP_BYTES_PER_S,
        (None, true) => u64::MAX,
    };
    let mut copier = Copier {
        session,
        data: config.data,
        pace: Pace::begin(bytes_per_s),
        spoken: clock::instant(),
        checks: backup.check,
    };
    let copied = copier.copy_all(&folder, kept, taken).and_then(|copied| copier.end().map(|()| copied));
    let Copied { manifest, files, bytes } = copied.map_err(|failure| without_harm(&folder, failure))?;
    let all = (manifest.files.len(), manifest.files.values().map(|stored| stored.bytes).sum::<u64>());
    folder.publish(manifest)?;
    writeln!(
        io::stdout(),
        "{} files of {} bytes are in the backup, of which {files} files of {bytes} bytes were copied",
        all.0,
        all.1
    )?;
    Ok(())
}

/// Neither may be in the other.
fn check_apart(folder: &Path, data: &Path) -> Result<(), Failure> {
    let real = |path: &Path| -> Option<PathBuf> {
        let found = path.ancestors().find_map(|above| Some((above, above.canonicalize().ok()?)));
        let (above, real) = match found {
            Some(found) => found,
            None => (Path::new(""), std::env::current_dir().ok()?),
        };
        Some(real.join(path.strip_prefix(above).ok()?))
    };
    match (real(folder), real(data)) {
        (Some(folder), Some(data)) if folder.starts_with(&data) || data.starts_with(&folder) => {
            Err(Failure::wrong("a folder of backups and a data directory cannot be in each other"))
        }
        _ => Ok(()),
    }
}

/// Has all files kept as they are; the identity of the store, and which files a copy needs.
fn keep(session: &mut Session) -> Result<(String, Vec<KeptFile>), Failure> {
    session.control().send(&Request::Backup)?;
    let mut files = Vec::new();
    loop {
        match session.control().receive()? {
            Reply::Kept(file) => files.push(file),
            Reply::AllKept { store } => return Ok((store, files)),
            _ => return Err(Failure::unavailable("the server answered a backup with something else")),
        }
    }
}

/// A backup that failed takes away what it wrote, which may have filled the disk.
fn without_harm(folder: &Folder, failure: Failure) -> Failure {
    let swept = folder.sweep();
    let what = match folder.manifest.number {
        0 => "there is no backup in the folder yet",
        _ => "the last backup in the folder is as it was",
    };
    match (failure, swept) {
        (Failure::Unavailable(text), Ok(())) => Failure::Unavailable(format!("{text}; {what}")),
        (failure, _) => failure,
    }
}

struct Copier {
    session: Session,
    data: PathBuf,
    pace: Pace,
    /// When the server was told last that its files are needed.
    spoken: Instant,
    /// Whether what the folder has already is read again.
    checks: bool,
}

struct Copied {
    manifest: Manifest,
    files: u64,
    bytes: u64,
}

impl Copier {
    fn copy_all(&mut self, folder: &Folder, kept: Vec<KeptFile>, taken: i64) -> Result<Copied, Failure> {
        let number = folder.manifest.number + 1;
        let mut manifest = Manifest { number, taken, ..Manifest::new(folder.manifest.store.clone()) };
        let mut fresh = Vec::new();
        for file in kept {
            match self.known(folder, &file) {
                Some(stored) if self.is_good(&folder.place(&file.path, stored.number), &stored)? => {
                    manifest.files.insert(file.path, stored);
                }
                _ => fresh.push(file),
            }
        }
        // What was read again has taken time, and of what is copied nothing.
        self.pace.begun = clock::instant();
        self.pace.bar.set_length(fresh.iter().filter_map(|file| Some(file.extent?.bytes)).sum());
        let mut copied = (0, 0);
        for KeptFile { path, extent } in fresh {
            folder.make_way(&path)?;
            let (from, to) = (self.data.join(&path), folder.place(&path, number));
            let made = match extent {
                Some(KeptBytes { bytes, length }) => {
                    let crc = copy(&from, &to, bytes, |bytes| self.go_on(bytes))?;
                    Some(Stored { number, bytes, length, crc })
                }
                None => copy_small(&from, &to, number)?,
            };
            if let Some(stored) = made {
                copied = (copied.0 + 1, copied.1 + stored.bytes);
                manifest.files.insert(path, stored);
            }
        }
        self.pace.bar.finish_and_clear();
        let (files, bytes) = copied;
        Ok(Copied { manifest, files, bytes })
    }

    /// A file that is in the folder already, and cannot have changed since.
    fn known(&self, folder: &Folder, file: &KeptFile) -> Option<Stored> {
        let KeptBytes { bytes, length } = file.extent?;
        let stored = *folder.manifest.files.get(&file.path)?;
        let place = folder.place(&file.path, stored.number);
        let is_same = (stored.bytes, stored.length) == (bytes, length)
            && place.metadata().ok()?.len() == bytes
            && is_alike(&self.data.join(&file.path), &place, bytes);
        is_same.then_some(stored)
    }

    /// Whether a copy is what was copied, as far as that is looked at. One that is not is made anew while there is what
    /// it is a copy of.
    fn is_good(&mut self, place: &Path, stored: &Stored) -> Result<bool, Failure> {
        if !self.checks {
            return Ok(true);
        }
        let mut spoken = Ok(());
        let found = checksum(place, stored.bytes, |_| {
            spoken = self.say_still();
            Ok::<_, DiskError>(())
        });
        spoken?;
        let is_good = found.is_ok_and(|crc| crc == stored.crc);
        if !is_good {
            writeln!(io::stdout(), "{} has gone bad and is copied again", place.display())?;
        }
        Ok(is_good)
    }

    fn say_still(&mut self) -> Result<(), Failure> {
        if clock::instant() >= self.spoken + BETWEEN_WORDS {
            self.session.control().send(&BackupItem::Still)?;
            self.spoken = clock::instant();
        }
        Ok(())
    }

    /// So many bytes are done: not faster than it may, and the server hears of it.
    fn go_on(&mut self, bytes: u64) -> Result<(), Failure> {
        let mut rest = self.pace.rest_after(bytes);
        loop {
            self.say_still()?;
            if rest.is_zero() {
                return Ok(());
            }
            let nap = rest.min(BETWEEN_WORDS);
            thread::sleep(nap);
            rest -= nap;
        }
    }

    /// All is copied. If the server is not there to hear it, nobody knows what was.
    fn end(&mut self) -> Result<(), Failure> {
        self.session.control().send(&BackupItem::End)?;
        match self.session.control().receive()? {
            Reply::Done => Ok(()),
            _ => Err(Failure::unavailable("the server ended a backup with something else")),
        }
    }
}

/// Copies a small file that is replaced as a whole; `None` if there is none any more.
fn copy_small(from: &Path, to: &Path, number: u64) -> Result<Option<Stored>, Failure> {
    let bytes = match fs::read(from) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => {
            return Err(Failure::unavailable(format!("{} cannot be read: {error}", from.display())));
        }
    };
    write_file(to, &bytes)?;
    let length = bytes.len() as u64;
    Ok(Some(Stored { number, bytes: length, length, crc: crc32fast::hash(&bytes) }))
}

/// How fast bytes may be copied, and how far that is, for people.
struct Pace {
    bar: ProgressBar,
    bytes_per_s: u64,
    begun: Instant,
    done: u64,
}

impl Pace {
    fn begin(bytes_per_s: u64) -> Self {
        let bar = progress_bar("{bar:30} {bytes} of {total_bytes}, {bytes_per_sec}, {eta} left");
        Self { bar, bytes_per_s, begun: clock::instant(), done: 0 }
    }

    /// How long to rest after so many bytes more.
    fn rest_after(&mut self, bytes: u64) -> Duration {
        self.bar.inc(bytes);
        self.done += bytes;
        let due_ms = u128::from(self.done) * 1000 / u128::from(self.bytes_per_s.max(1));
        let due = Duration::from_millis(u64::try_from(due_ms).unwrap_or(u64::MAX));
        due.saturating_sub(clock::instant() - self.begun)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::time::Duration;

    use super::{Pace, check_apart};

    #[test]
    fn folders_in_each_other_are_refused() {
        let temporary = tempfile::tempdir().unwrap();
        let data = temporary.path().join("data");
        std::fs::create_dir(&data).unwrap();
        let check = |folder: &Path| check_apart(folder, &data).is_ok();
        assert!(check(&temporary.path().join("backup")) && check(&temporary.path().join("data2")));
        assert!(!check(&data) && !check(&data.join("new/backup")) && !check(temporary.path()));
        assert!(check(Path::new("not/there/yet")));
    }

    #[test]
    fn bytes_take_their_time() {
        let mut pace = Pace::begin(1 << 20);
        let rest = pace.rest_after(2 << 20);
        assert!(rest > Duration::from_millis(1500) && rest <= Duration::from_secs(2), "{rest:?}");
        assert_eq!(Pace::begin(u64::MAX).rest_after(1 << 40), Duration::ZERO);
    }
}
