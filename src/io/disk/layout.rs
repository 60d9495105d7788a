//! The data directory: its names, its modes, its lock.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{FlockOperation, IFlags, flock, fstatfs, ioctl_getflags, ioctl_setflags};
use rustix::io::Errno;

use super::files::{LogFiles, Shared};
use super::{DiskError, file, replace_file, sync_parent};
use crate::io::{privilege, random};
use crate::store::LogId;
use crate::store::log::Sizes;

/// Stands in a data directory for as long as a restore into it is not finished.
const RESTORING: &str = "restoring";

/// What a restore makes, and so what one may remove that begins again.
const RESTORED: [&str; 10] = [
    "directory",
    "directory.copy",
    "directory.copy.tmp",
    "directory.tmp",
    "events",
    "identity",
    "large",
    "log",
    "outbound",
    "tls",
];

/// What may be in a directory that counts as empty: a file system has the latter at its root.
const NOTHING: [&str; 2] = ["lock", "lost+found"];

/// The data directory of a server, locked for as long as this lives. The kernel gives the lock up with the
/// process, however that ends.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    shared: Arc<Shared>,
    _lock: File,
    sizes: Sizes,
}

impl DataDir {
    /// Creates what is missing and takes the lock. The error is `WouldBlock` if another server has it. A directory that
    /// others could have put something into is refused.
    pub fn open(path: &Path) -> Result<Self, DiskError> {
        let data = Self::take(path)?;
        match path.join(RESTORING).exists() {
            false => Ok(data),
            true => Err(DiskError::invalid(
                "use",
                path,
                "a restore into it was not finished; run `ringpost restore` again, which begins anew",
            )),
        }
    }

    /// Takes a directory for a restore: one that is empty, or in which a restore was not finished, which is emptied.
    /// Nobody opens it before [`DataDir::finish_restore`].
    pub fn open_for_restore(path: &Path) -> Result<Self, DiskError> {
        let is_unfinished = path.join(RESTORING).exists();
        if !is_unfinished && !Self::is_empty(path)? {
            return Err(DiskError::new("restore into", path)(io::ErrorKind::DirectoryNotEmpty.into()));
        }
        let data = Self::take(path)?;
        replace_file(&path.join(RESTORING), b"a restore into this directory was not finished\n")?;
        for name in RESTORED.map(|name| path.join(name)).into_iter().filter(|name| name.exists()) {
            let removed = if name.is_dir() { fs::remove_dir_all(&name) } else { fs::remove_file(&name) };
            removed.map_err(DiskError::new("remove", &name))?;
        }
        Ok(data)
    }

    /// All is there, and durable. The caller has the lock still.
    pub fn finish_restore(path: &Path) -> Result<(), DiskError> {
        let name = path.join(RESTORING);
        file::remove(&name).map_err(DiskError::new("remove", &name))?;
        sync_parent(&name)
    }

    /// Whether there is nothing in a directory, or no directory.
    pub fn is_empty(path: &Path) -> Result<bool, DiskError> {
        Ok(list(path)?.iter().all(|name| NOTHING.contains(&name.as_str())))
    }

    /// Renames a data directory that no server uses, and says how.
    pub fn set_aside(path: &Path) -> Result<PathBuf, DiskError> {
        if Self::is_in_use(path) {
            return Err(DiskError::new("move", path)(io::ErrorKind::WouldBlock.into()));
        }
        let aside = |number: u32| {
            let mut name = path.file_name().unwrap_or_default().to_owned();
            name.push(format!(".before-restore-{number}"));
            path.with_file_name(name)
        };
        let aside = (1..).map(aside).find(|name| !name.exists()).expect("not all names are in use");
        file::rename(path, &aside).map_err(DiskError::new("move", path))?;
        sync_parent(path)?;
        Ok(aside)
    }

    /// What tells this store from others, and from what is restored from its backups: made when it is first asked
    /// for, and in no backup.
    pub fn identity(&self) -> Result<String, DiskError> {
        let path = self.path.join("identity");
        match fs::read_to_string(&path) {
            Ok(text) => Ok(text.trim_end().to_owned()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let identity = format!("{:032x}", u128::from_le_bytes(random::bytes()));
                replace_file(&path, format!("{identity}\n").as_bytes())?;
                Ok(identity)
            }
            Err(error) => Err(DiskError::new("read", &path)(error)),
        }
    }

    /// Whether it was restored or not, whoever looks.
    fn take(path: &Path) -> Result<Self, DiskError> {
        create_directory(path)?;
        make_private(path)?;
        let name = path.join("lock");
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(false).mode(0o600);
        let lock = options.open(&name).map_err(DiskError::new("open", &name))?;
        flock(&lock, FlockOperation::NonBlockingLockExclusive)
            .map_err(|errno| DiskError::new("lock", &name)(errno.into()))?;
        Ok(Self { path: path.to_owned(), shared: Arc::default(), _lock: lock, sizes: Sizes::default() })
    }

    /// Whether a server has the lock. Nothing is made for it, and a server that looks as well sees no lock of ours.
    pub fn is_in_use(path: &Path) -> bool {
        let mut options = OpenOptions::new();
        options.read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK);
        // What cannot be opened is told by whoever opens the directory.
        let looked =
            options.open(path.join("lock")).map(|lock| flock(&lock, FlockOperation::NonBlockingLockShared));
        matches!(looked, Ok(Err(Errno::WOULDBLOCK)))
    }

    /// With segments and batches of other sizes than usual.
    pub fn with_sizes(self, sizes: Sizes) -> Self {
        Self { sizes, ..self }
    }

    pub fn sizes(&self) -> Sizes {
        self.sizes
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The logs that exist, ascending.
    pub fn logs(&self) -> Result<Vec<LogId>, DiskError> {
        let names = list(&self.path.join("log"))?;
        let mut logs: Vec<LogId> = names.iter().filter_map(|name| name.parse().ok().map(LogId)).collect();
        logs.sort_unstable();
        Ok(logs)
    }

    /// The places of a log, which are created if they are missing.
    pub fn log(&self, id: LogId) -> Result<LogDir, DiskError> {
        let dir = self.log_dir(id);
        create_directory(&self.path.join("log"))?;
        create_directory(&dir.log)?;
        write_in_place(&dir.log);
        create_directory(&self.path.join("large"))?;
        create_directory(&dir.large)?;
        Ok(dir)
    }

    /// Bytes of all segments of all logs.
    pub fn segment_bytes(&self) -> Result<u64, DiskError> {
        let mut bytes = 0;
        for log in self.logs()? {
            let dir = self.log_dir(log);
            for number in dir.segments()? {
                let path = dir.segment(number);
                bytes += fs::metadata(&path).map_err(DiskError::new("look at", &path))?.len();
            }
        }
        Ok(bytes)
    }

    /// The places of a log, whether they exist or not.
    pub fn log_dir(&self, id: LogId) -> LogDir {
        log_dir_in(&self.path, &self.shared, id)
    }

    /// What is shared by all who use the directory.
    pub(super) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }
}

/// The places of a log for who has no lock to keep.
pub(super) fn log_dir_in(path: &Path, shared: &Shared, id: LogId) -> LogDir {
    let name = format!("{:02}", id.0);
    let (log, large) = (path.join("log").join(&name), path.join("large").join(&name));
    LogDir { id, log, large, files: shared.of_log(id) }
}

/// Where the files of one log are.
#[derive(Clone, Debug)]
pub struct LogDir {
    pub id: LogId,
    log: PathBuf,
    large: PathBuf,
    /// What is known of them beside their names.
    pub files: Arc<LogFiles>,
}

impl LogDir {
    pub fn segment(&self, number: u32) -> PathBuf {
        self.log.join(format!("{number:010}.seg"))
    }

    /// A segment that was freed and waits to be used again.
    pub fn old_segment(&self, number: u32) -> PathBuf {
        self.log.join(format!("{number:010}.old"))
    }

    pub fn index(&self, generation: u64) -> PathBuf {
        self.log.join(format!("{generation:010}.idx"))
    }

    pub fn index_root(&self) -> PathBuf {
        self.log.join("index.root")
    }

    pub fn closed(&self) -> PathBuf {
        self.log.join("closed")
    }

    pub fn large(&self, number: u64) -> PathBuf {
        self.large.join(format!("{number:012}"))
    }

    /// The numbers of the segments, ascending.
    pub fn segments(&self) -> Result<Vec<u32>, DiskError> {
        numbers(&self.log, ".seg")
    }

    /// The segments with their lengths, ascending.
    pub fn segment_sizes(&self) -> Result<Vec<(u32, u64)>, DiskError> {
        let sized = |number: u32| {
            let path = self.segment(number);
            Ok((number, fs::metadata(&path).map_err(DiskError::new("look at", &path))?.len()))
        };
        self.segments()?.into_iter().map(sized).collect()
    }

    /// The numbers of segments that were freed.
    pub fn old_segments(&self) -> Result<Vec<u32>, DiskError> {
        numbers(&self.log, ".old")
    }

    /// The generations of the index file, ascending.
    pub fn indexes(&self) -> Result<Vec<u64>, DiskError> {
        numbers(&self.log, ".idx")
    }

    /// The numbers of the large files, ascending.
    pub fn large_files(&self) -> Result<Vec<u64>, DiskError> {
        numbers(&self.large, "")
    }

    /// Files that a crash left half made.
    pub fn unfinished(&self) -> Result<Vec<PathBuf>, DiskError> {
        let names = list(&self.log)?;
        Ok(names.iter().filter(|name| name.ends_with(".tmp")).map(|name| self.log.join(name)).collect())
    }
}

/// Makes a directory, if it is not there, and its name durable: who found it may be the second to try, after a first
/// that could not sync the name.
pub(crate) fn create_directory(path: &Path) -> Result<(), DiskError> {
    match file::make_directory(path) {
        Ok(()) => sync_parent(path),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => sync_parent(path),
        Err(error) => Err(DiskError::new("create", path)(error)),
    }
}

/// Files that are made in a directory from now on are written in place, where the file system would put what is written
/// elsewhere: there a segment that was made ahead takes space again as it is filled, and a full disk refuses what the
/// reserve is for. That file system's checksums go with it; ours stay.
fn write_in_place(directory: &Path) {
    let mark = |directory: File| {
        if fstatfs(&directory)?.f_type != libc::BTRFS_SUPER_MAGIC {
            return Ok(());
        }
        ioctl_setflags(&directory, ioctl_getflags(&directory)? | IFlags::NOCOW)
    };
    let marked = File::open(directory).and_then(|directory| mark(directory).map_err(io::Error::from));
    if let Err(error) = marked {
        let directory = directory.display();
        let what = "what is written here takes space twice; a full disk may refuse deletes, too";
        tracing::warn!(%directory, %error, "{what}");
    }
}

/// Refuses a directory of another user, and one that others can write: who can do that can put mail, accounts and
/// keys into it. One that others can only look into is closed to them.
fn make_private(path: &Path) -> Result<(), DiskError> {
    let metadata = fs::metadata(path).map_err(DiskError::new("look at", path))?;
    let refuse =
        |why: String| DiskError::new("use", path)(io::Error::new(io::ErrorKind::PermissionDenied, why));
    let (owner, current) = (metadata.uid(), privilege::current_uid());
    if owner != current {
        let (owner, current) = (privilege::name_of(owner), privilege::name_of(current));
        return Err(refuse(format!(
            "it belongs to {owner}, and this runs as {current}; run it as {owner} (root does with `user` in the \
             configuration), or give {current} the directory: chown -R {current}: {}",
            path.display()
        )));
    }
    if metadata.mode() & 0o022 != 0 {
        return Err(refuse(format!(
            "users besides its owner can write to it; look for what is not yours in it, then: chmod 700 {}",
            path.display()
        )));
    }
    if metadata.mode() & 0o077 != 0 {
        let private = fs::Permissions::from_mode(0o700);
        fs::set_permissions(path, private).map_err(DiskError::new("close to others", path))?;
    }
    Ok(())
}

/// The names in a directory; none if it does not exist.
pub(super) fn list(path: &Path) -> Result<Vec<String>, DiskError> {
    let entries = match std::fs::read_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(DiskError::new("list", path))?,
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.map_err(DiskError::new("list", path))?;
        names.extend(entry.file_name().into_string().ok());
    }
    Ok(names)
}

fn numbers<N: std::str::FromStr + Ord>(path: &Path, suffix: &str) -> Result<Vec<N>, DiskError> {
    let names = list(path)?;
    let mut numbers: Vec<N> =
        names.iter().filter_map(|name| name.strip_suffix(suffix)?.parse().ok()).collect();
    numbers.sort_unstable();
    Ok(numbers)
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::io;
    use std::os::unix::fs::PermissionsExt;

    use super::DataDir;
    use crate::store::LogId;

    #[test]
    fn a_second_server_is_refused_and_modes_are_private() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("data");
        let data = DataDir::open(&path).expect("opened");
        assert!(DataDir::is_in_use(&path));
        let refused = DataDir::open(&path).expect_err("it is in use");
        assert_eq!(refused.source.kind(), io::ErrorKind::WouldBlock);
        data.log(LogId(7)).expect("made");
        data.log(LogId(0)).expect("made");
        assert_eq!(data.logs().expect("listed"), [LogId(0), LogId(7)]);
        let mode = |name: &str| path.join(name).metadata().expect("it exists").permissions().mode() & 0o777;
        assert_eq!((mode(""), mode("lock"), mode("log/07")), (0o700, 0o600, 0o700));
        drop(data);
        assert!(!DataDir::is_in_use(&path));
        DataDir::open(&path).expect("free again");
    }

    #[test]
    fn a_restore_takes_what_is_empty_and_is_told_when_it_is_not_finished() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("data");
        let data = DataDir::open_for_restore(&path).expect("there is nothing");
        data.log(LogId(3)).expect("made");
        drop(data);
        let refused = DataDir::open(&path).expect_err("it is half done").to_string();
        assert!(refused.contains("ringpost restore"), "{refused}");
        let data = DataDir::open_for_restore(&path).expect("it begins anew");
        assert!(data.logs().expect("listed").is_empty());
        data.log(LogId(4)).expect("made");
        DataDir::finish_restore(&path).expect("finished");
        drop(data);
        let data = DataDir::open(&path).expect("it is done");
        assert_eq!(data.logs().expect("listed"), [LogId(4)]);
        let busy = DataDir::set_aside(&path).expect_err("it is in use");
        assert_eq!(busy.source.kind(), io::ErrorKind::WouldBlock);
        let identity = data.identity().expect("made");
        assert_eq!((data.identity().expect("read"), identity.len()), (identity, 32));
        drop(data);
        let full = DataDir::open_for_restore(&path).expect_err("there is something");
        assert_eq!(full.source.kind(), io::ErrorKind::DirectoryNotEmpty);
        let aside = DataDir::set_aside(&path).expect("moved");
        assert!(!path.exists() && aside.join("log/04").exists());
        DataDir::open_for_restore(&path).expect("there is nothing");
    }

    #[test]
    fn nothing_is_made_by_a_look() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("data");
        assert!(!DataDir::is_in_use(&path) && !path.exists());
        std::fs::create_dir(&path).expect("made");
        assert!(!DataDir::is_in_use(&path) && !path.join("lock").exists());
    }

    #[test]
    fn a_directory_that_others_can_write_is_refused_and_one_that_they_can_read_is_closed() {
        let dir = tempfile::tempdir().expect("a directory");
        let set =
            |mode| std::fs::set_permissions(dir.path(), Permissions::from_mode(mode)).expect("it is ours");
        for mode in [0o770, 0o702, 0o1777] {
            set(mode);
            let refused = DataDir::open(dir.path()).expect_err("others can write").to_string();
            assert!(refused.contains("chmod 700") && !dir.path().join("lock").exists(), "{refused}");
        }
        set(0o755);
        DataDir::open(dir.path()).expect("opened");
        assert_eq!(dir.path().metadata().expect("it exists").permissions().mode() & 0o7777, 0o700);
    }
}
