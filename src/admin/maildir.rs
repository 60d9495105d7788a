//! Mailboxes as folders of files: Maildir, and its `Maildir++` subfolders.
//!
//! ```text
//!   PATH/cur/1767262830.U0000000007.ringpost,S=4321:2,FS   INBOX: flags behind ":2,"
//!   PATH/new/…                                      not looked at by any client yet
//!   PATH/tmp/…                                      being written
//!   PATH/.Sent/cur/…                                the mailbox Sent
//!   PATH/.Lists.Rust/cur/…                          the mailbox Lists/Rust, names in modified UTF-7
//! ```
//!
//! A file's time of change is the internal date. Of the keywords only `$Forwarded` has a letter (P); files of
//! other programs that give meaning to more are not read.
//!
//! Invariants: a message appears in `cur` whole or not at all; the name of an exported message depends on its
//! mailbox, UID and date alone, so an export that was cut short goes on where it was; files are read in the
//! order of their names, so an import can be told how many to skip.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use crate::admin::line_ends::to_lf;
use crate::mail::flags::{Flags, SystemFlags};
use crate::mail::mutf7;
use crate::mail::time::Timestamp;

const LETTERS: [(u8, SystemFlags); 5] = [
    // In the order of the alphabet, as the format asks for.
    (b'D', SystemFlags::DRAFT),
    (b'F', SystemFlags::FLAGGED),
    (b'R', SystemFlags::ANSWERED),
    (b'S', SystemFlags::SEEN),
    (b'T', SystemFlags::DELETED),
];

const FORWARDED: &str = "$Forwarded";

/// A dot inside of a name, which would look like the separator of folders.
const DOT: &str = "&AC4-";

/// One mailbox of a Maildir.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Folder {
    pub path: PathBuf,
    pub mailbox: String,
}

/// One message of a folder.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Entry {
    pub path: PathBuf,
    pub flags: Flags,
    pub date: Timestamp,
    pub bytes: u64,
}

/// The folder of `root` itself, whose mailbox is `mailbox`, and the folders in it; an error if it is no Maildir.
pub fn folders(root: &Path, mailbox: &str) -> io::Result<Vec<Folder>> {
    if !is_folder(root) {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "it has neither cur nor new, so it is no Maildir",
        ));
    }
    let mut folders = vec![Folder { path: root.to_owned(), mailbox: mailbox.to_owned() }];
    for path in sorted_paths(root)? {
        let Some(name) = path.file_name().and_then(|name| name.as_bytes().strip_prefix(b".")) else {
            continue;
        };
        if name.is_empty() || !is_folder(&path) {
            continue;
        }
        let child = folder_mailbox(name);
        let is_inbox = mailbox.eq_ignore_ascii_case("INBOX");
        folders.push(Folder { mailbox: if is_inbox { child } else { format!("{mailbox}/{child}") }, path });
    }
    Ok(folders)
}

/// The messages of a folder, in the order of their names.
pub fn entries(folder: &Folder) -> io::Result<Vec<Entry>> {
    let mut entries = Vec::new();
    for part in ["new", "cur"] {
        let path = folder.path.join(part);
        if !path.is_dir() {
            continue;
        }
        for path in sorted_paths(&path)? {
            let metadata = fs::metadata(&path)?;
            let name = path.file_name().map(OsStr::as_bytes).unwrap_or_default();
            if !metadata.is_file() || name.starts_with(b".") {
                continue;
            }
            let since_epoch = metadata.modified()?.duration_since(UNIX_EPOCH).unwrap_or_default();
            let seconds = i64::try_from(since_epoch.as_secs()).unwrap_or(i64::MAX);
            let (flags, date) = (flags_of(name), Timestamp { seconds, zone_minutes: 0 });
            entries.push(Entry { flags, date, bytes: metadata.len(), path });
        }
    }
    Ok(entries)
}

/// Writes messages into the folder of one mailbox.
pub struct Writer {
    path: PathBuf,
    /// The names that are there, without their flags.
    known: HashSet<Vec<u8>>,
}

impl Writer {
    /// The folder of `mailbox` below `root`, made if it is missing.
    pub fn open(root: &Path, mailbox: &str) -> io::Result<Self> {
        let path = match mailbox.eq_ignore_ascii_case("INBOX") {
            true => root.to_owned(),
            false => root.join(folder_name(mailbox)),
        };
        for part in ["tmp", "new", "cur"] {
            fs::create_dir_all(path.join(part))?;
        }
        let mut known = HashSet::new();
        for path in sorted_paths(&path.join("cur"))? {
            let name = path.file_name().map(OsStr::as_bytes).unwrap_or_default();
            known.insert(base(name).to_vec());
        }
        if path != root {
            // Maildir++ knows its folders by this file.
            File::create(path.join("maildirfolder"))?;
        }
        Ok(Self { path, known })
    }

    /// Writes a message unless it is there; says whether it was written.
    pub fn put(&mut self, uid: u32, flags: &Flags, date: Timestamp, bytes: &[u8]) -> io::Result<bool> {
        let text = to_lf(bytes);
        // Padded, so that messages of one second sort by their UID.
        let base = format!("{}.U{uid:010}.ringpost,S={}", date.seconds, text.len());
        if !self.known.insert(base.clone().into_bytes()) {
            return Ok(false);
        }
        let fresh = self.path.join("tmp").join(&base);
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&fresh)?;
        file.write_all(&text)?;
        file.set_modified(UNIX_EPOCH + Duration::from_secs(date.seconds.max(0).unsigned_abs()))?;
        fs::rename(&fresh, self.path.join("cur").join(format!("{base}:2,{}", letters(flags))))?;
        Ok(true)
    }
}

fn is_folder(path: &Path) -> bool {
    path.join("cur").is_dir() || path.join("new").is_dir()
}

fn sorted_paths(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for entry in fs::read_dir(folder)? {
        paths.push(entry?.path());
    }
    paths.sort();
    Ok(paths)
}

/// The flags behind `:2,` (or behind `;2,` and `!2,`, where a file system has no colons).
fn flags_of(name: &[u8]) -> Flags {
    let mut flags = Flags::default();
    let letters = &name[base(name).len()..];
    let Some([_, b'2', b',', letters @ ..]) = Some(letters) else {
        return flags;
    };
    for (letter, flag) in LETTERS {
        if letters.contains(&letter) {
            flags.system |= flag;
        }
    }
    if letters.contains(&b'P') {
        flags.add_keyword(FORWARDED);
    }
    flags
}

/// The name without its flags.
fn base(name: &[u8]) -> &[u8] {
    let end = name.windows(3).rposition(|word| matches!(word, [b':' | b';' | b'!', b'2', b',']));
    &name[..end.unwrap_or(name.len())]
}

fn letters(flags: &Flags) -> String {
    let is_forwarded = flags.keywords.iter().any(|keyword| keyword.eq_ignore_ascii_case(FORWARDED));
    let set = LETTERS.iter().filter(|(_, flag)| flags.system.contains(*flag)).map(|(letter, _)| *letter);
    let mut letters: Vec<u8> = set.chain(is_forwarded.then_some(b'P')).collect();
    letters.sort_unstable();
    letters.into_iter().map(char::from).collect()
}

/// `Lists.Rust` is the mailbox `Lists/Rust`. Some programs write names in UTF-8, and those are taken too.
fn folder_mailbox(name: &[u8]) -> String {
    let parts = name.split(|byte| *byte == b'.').map(|part| {
        let text = String::from_utf8_lossy(part);
        let pieces =
            text.split(DOT).map(|piece| mutf7::decode(piece.as_bytes()).unwrap_or_else(|_| piece.to_owned()));
        pieces.collect::<Vec<_>>().join(".")
    });
    // A slash in a name cannot be kept, nor an empty part.
    let parts = parts.filter(|part| !part.is_empty()).map(|part| part.replace('/', "_"));
    parts.collect::<Vec<_>>().join("/")
}

fn folder_name(mailbox: &str) -> String {
    let parts =
        mailbox.split('/').map(|part| part.split('.').map(mutf7::encode).collect::<Vec<_>>().join(DOT));
    format!(".{}", parts.collect::<Vec<_>>().join("."))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use tempfile::TempDir;

    use super::{Writer, entries, flags_of, folder_mailbox, folder_name, folders, letters};
    use crate::mail::flags::{Flags, SystemFlags};
    use crate::mail::time::Timestamp;

    #[test]
    fn flags() {
        let table: [(&[u8], u8, bool); 7] = [
            (b"1.host:2,", 0, false),
            (b"1.host", 0, false),
            (b"1.host:2,S", 8, false),
            (b"1.host,S=12:2,DFPRST", 31, true),
            (b"1.host;2,F", 2, false),
            (b"1:2,x.host:2,Tab", 4, false),
            (b"1.host:1,S", 0, false),
        ];
        for (name, bits, is_forwarded) in table {
            let flags = flags_of(name);
            assert_eq!((flags.system.0, flags.keywords.len()), (bits, usize::from(is_forwarded)), "{name:?}");
            let again = flags_of(format!("1:2,{}", letters(&flags)).as_bytes());
            assert_eq!(again, flags);
        }
    }

    #[test]
    fn names() {
        let table = [
            ("Sent", ".Sent"),
            ("Lists/Rust", ".Lists.Rust"),
            ("v1.2", ".v1&AC4-2"),
            ("Entwürfe", ".Entw&APw-rfe"),
        ];
        for (mailbox, name) in table {
            assert_eq!(folder_name(mailbox), name);
            assert_eq!(folder_mailbox(&name.as_bytes()[1..]), mailbox);
        }
        assert_eq!(folder_mailbox("Entwürfe".as_bytes()), "Entwürfe");
        assert_eq!(folder_mailbox(b"a..b"), "a/b");
    }

    #[test]
    fn written_and_read_back() {
        let folder = TempDir::new().unwrap();
        let root = folder.path().join("mail");
        assert!(folders(&root, "INBOX").is_err());
        let date = Timestamp { seconds: 1_767_262_830, zone_minutes: 0 };
        let flags = Flags::system(SystemFlags::SEEN);
        for mailbox in ["INBOX", "Lists/Rust"] {
            let mut writer = Writer::open(&root, mailbox).unwrap();
            assert!(writer.put(7, &flags, date, b"Subject: x\r\n\r\nhello\r\n").unwrap());
            assert!(!writer.put(7, &flags, date, b"Subject: x\r\n\r\nhello\r\n").unwrap());
            assert!(
                !Writer::open(&root, mailbox)
                    .unwrap()
                    .put(7, &flags, date, b"Subject: x\r\n\r\nhello\r\n")
                    .unwrap()
            );
        }
        fs::write(root.join("new/1.other"), "Subject: new\n\n").unwrap();
        let found = folders(&root, "INBOX").unwrap();
        let names: Vec<&str> = found.iter().map(|folder| folder.mailbox.as_str()).collect();
        assert_eq!(names, ["INBOX", "Lists/Rust"]);
        let inbox = entries(&found[0]).unwrap();
        assert_eq!(inbox.len(), 2);
        assert!(inbox[0].path.ends_with("new/1.other"));
        assert_eq!((&inbox[1].flags, inbox[1].date), (&flags, date));
        assert_eq!(fs::read(&inbox[1].path).unwrap(), b"Subject: x\n\nhello\n");
        let below = folders(&root, "Old").unwrap();
        assert_eq!(below[1].mailbox, "Old/Lists/Rust");
    }
}
