//! A folder of backups: one that can be restored, in files that the next may share.
//!
//! ```text
//! DIR/lock                          flock'ed by whoever writes or reads backups
//! DIR/manifest                      what counts: see `manifest.rs`; replaced by rename
//! DIR/log/00/0000000001.seg.1       a file of the store, as the backup with this number found it
//! ```
//!
//! A new backup writes files beside those of the last, syncs them and their folders, replaces the manifest, and
//! removes what that does not name. Whatever the crash, the manifest names files that are whole.
//!
//! Invariants: a folder that is not empty and has no manifest, or that of another store, is not touched; a file that
//! the manifest names is never written.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crate::admin::backup::manifest::{Manifest, ROOTS, Stored};
use crate::admin::failure::Failure;
use crate::io::disk::layout::{DataDir, create_directory};
use crate::io::disk::{replace_file, sync_directory};

const MANIFEST: &str = "manifest";

pub struct Folder {
    path: PathBuf,
    pub manifest: Manifest,
    _lock: File,
}

impl Folder {
    /// A folder that is there, for the next backup of a store; what unfinished ones left behind is removed.
    pub fn open(path: &Path, store: &str) -> Result<Self, Failure> {
        let is_new = !path.join(MANIFEST).exists();
        if is_new && !is_empty(path)? {
            return Err(Failure::wrong(format!(
                "{} is not empty and holds no backup; name another folder",
                path.display()
            )));
        }
        let lock =
            OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path.join("lock"));
        let lock = locked(lock.map_err(|error| unusable(path, &error))?, path, File::try_lock)?;
        if is_new {
            let manifest = Manifest::new(store.to_owned());
            replace_file(&path.join(MANIFEST), &manifest.render())?;
        }
        let folder = Self { path: path.to_owned(), manifest: read(path)?, _lock: lock };
        if folder.manifest.store != store {
            return Err(Failure::wrong(format!(
                "{} holds backups of another store, perhaps of the one that this one was restored from; name \
                 another folder",
                path.display()
            )));
        }
        folder.sweep()?;
        Ok(folder)
    }

    /// With a backup that was finished, to be read.
    pub fn open_finished(path: &Path) -> Result<Self, Failure> {
        if !path.join(MANIFEST).exists() {
            return Err(Failure::wrong(format!("there is no backup in {}", path.display())));
        }
        let lock = File::open(path.join("lock")).map_err(|error| unusable(path, &error))?;
        let lock = locked(lock, path, File::try_lock_shared)?;
        let manifest = read(path)?;
        match manifest.number {
            0 => Err(Failure::wrong(format!("the first backup in {} was not finished", path.display()))),
            _ => Ok(Self { path: path.to_owned(), manifest, _lock: lock }),
        }
    }

    /// Where a file lies that came with a backup.
    pub fn place(&self, path: &str, number: u64) -> PathBuf {
        self.path.join(Manifest::place(path, number))
    }

    /// Makes the folders that the path of a file leads through.
    pub fn make_way(&self, path: &str) -> Result<(), Failure> {
        for (at, _) in path.match_indices('/') {
            create_directory(&self.path.join(&path[..at]))?;
        }
        Ok(())
    }

    /// From here on these files count, all of which are synced; then those are removed that do not.
    pub fn publish(&mut self, manifest: Manifest) -> Result<(), Failure> {
        for folder in folders(&self.path)? {
            sync_directory(&folder)?;
        }
        replace_file(&self.path.join(MANIFEST), &manifest.render())?;
        self.manifest = manifest;
        self.sweep()
    }

    /// Removes all files that the manifest does not name.
    pub fn sweep(&self) -> Result<(), Failure> {
        let files = self.manifest.files.iter();
        let named: std::collections::HashSet<PathBuf> =
            files.map(|(path, Stored { number, .. })| self.place(path, *number)).collect();
        for folder in folders(&self.path)? {
            for path in entries(&folder)?.into_iter().filter(|path| !named.contains(path) && !path.is_dir()) {
                let is_own = folder != self.path || is_of_root(&path);
                if is_own {
                    fs::remove_file(&path).map_err(|error| unusable(&path, &error))?;
                }
            }
        }
        Ok(())
    }
}

/// The folder and those below it in which files of a store lie.
fn folders(path: &Path) -> Result<Vec<PathBuf>, Failure> {
    let mut found = vec![path.to_owned()];
    let mut open: Vec<PathBuf> =
        ROOTS.iter().map(|root| path.join(root)).filter(|path| path.is_dir()).collect();
    while let Some(folder) = open.pop() {
        open.extend(entries(&folder)?.into_iter().filter(|path| path.is_dir()));
        found.push(folder);
    }
    Ok(found)
}

/// Whether a file at the top is of the store: `directory.3`.
fn is_of_root(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str()).and_then(|name| name.rsplit_once('.'));
    name.is_some_and(|(root, number)| ROOTS.contains(&root) && number.parse::<u64>().is_ok())
}

fn entries(folder: &Path) -> Result<Vec<PathBuf>, Failure> {
    let entries = fs::read_dir(folder).map_err(|error| unusable(folder, &error))?;
    let entries = entries.map(|entry| Ok(entry?.path())).collect::<io::Result<_>>();
    entries.map_err(|error| unusable(folder, &error))
}

/// What a first backup leaves that was interrupted before it had a manifest counts as nothing.
fn is_empty(path: &Path) -> Result<bool, Failure> {
    let unfinished = path.join(format!("{MANIFEST}.tmp"));
    let is_only_that = || -> Result<bool, Failure> {
        let others = entries(path)?.into_iter().filter(|entry| *entry != unfinished);
        Ok(others.into_iter().all(|entry| entry.ends_with("lock") || entry.ends_with("lost+found")))
    };
    Ok(DataDir::is_empty(path)? || is_only_that()?)
}

fn read(path: &Path) -> Result<Manifest, Failure> {
    let path = path.join(MANIFEST);
    let bytes = fs::read(&path).map_err(|error| unusable(&path, &error))?;
    Manifest::parse(&bytes).map_err(|why| Failure::wrong(format!("{} {why}", path.display())))
}

fn locked(lock: File, path: &Path, take: fn(&File) -> Result<(), TryLockError>) -> Result<File, Failure> {
    match take(&lock) {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => {
            Err(Failure::unavailable(format!("another backup or restore uses {}", path.display())))
        }
        Err(TryLockError::Error(error)) => Err(unusable(path, &error)),
    }
}

fn unusable(path: &Path, error: &io::Error) -> Failure {
    Failure::unavailable(format!("{} cannot be used: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::{Folder, Stored};
    use crate::admin::failure::Failure;

    fn put(folder: &mut Folder, path: &str) {
        let mut manifest = folder.manifest.clone();
        manifest.number += 1;
        let number = manifest.number;
        folder.make_way(path).unwrap();
        fs::write(folder.place(path, number), b"x").unwrap();
        manifest.files.insert(path.to_owned(), Stored { number, bytes: 1, length: 1, crc: 0 });
        folder.publish(manifest).unwrap();
    }

    #[test]
    fn what_does_not_count_is_removed_and_what_counts_stays() {
        let temporary = tempfile::tempdir().unwrap();
        let path = temporary.path();
        let mut folder = Folder::open(path, "one").unwrap();
        let busy = Folder::open(path, "one");
        assert!(matches!(busy, Err(Failure::Unavailable(text)) if text.contains("another backup")));
        assert!(matches!(Folder::open_finished(path), Err(Failure::Unavailable(_))));
        put(&mut folder, "log/00/1.seg");
        put(&mut folder, "directory");
        put(&mut folder, "directory");
        drop(folder);
        // What a backup leaves behind that is killed; and a file that is none of ours.
        fs::write(path.join("log/00/2.seg.4"), b"half").unwrap();
        fs::write(path.join("directory.4"), b"half").unwrap();
        fs::write(path.join("README"), b"backups of mail").unwrap();
        let folder = Folder::open(path, "one").unwrap();
        let exists = |name: &str| path.join(name).exists();
        let there = ["log/00/1.seg.1", "directory.3", "README"].map(exists);
        let gone = ["log/00/2.seg.4", "directory.2", "directory.4"].map(exists);
        assert_eq!((there, gone), ([true; 3], [false; 3]));
        drop(folder);
        assert_eq!(Folder::open_finished(path).unwrap().manifest.files.len(), 2);
    }

    #[test]
    fn folders_of_others_are_left_alone() {
        let temporary = tempfile::tempdir().unwrap();
        let path = temporary.path();
        fs::write(path.join("letter.txt"), b"dear").unwrap();
        assert!(matches!(Folder::open(path, "one"), Err(Failure::Wrong(text)) if text.contains("not empty")));
        assert_eq!(fs::read_dir(path).unwrap().count(), 1);
        assert!(
            matches!(Folder::open_finished(path), Err(Failure::Wrong(text)) if text.contains("no backup"))
        );
        fs::remove_file(path.join("letter.txt")).unwrap();
        drop(Folder::open(path, "one").unwrap());
        assert!(
            matches!(Folder::open(path, "two"), Err(Failure::Wrong(text)) if text.contains("another store"))
        );
        let unfinished = Folder::open_finished(path);
        assert!(matches!(unfinished, Err(Failure::Wrong(text)) if text.contains("not finished")));
        fs::write(path.join("manifest"), b"damaged").unwrap();
        assert!(matches!(Folder::open(path, "one"), Err(Failure::Wrong(text)) if text.contains("manifest")));
    }
}
