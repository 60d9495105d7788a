//! Mail in from other programs' files, and out to them.
//!
//! Import reads in an order that does not change and commits in batches, so that whoever sees it end early is told
//! with which `--skip` it goes on. Export writes each message, or each mbox file, whole or not at all.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use indicatif::ProgressBar;
use signal_hook::consts::SIGINT;

use crate::admin::cli::{Export, Format, Import};
use crate::admin::control::{ImportItem, MessageHead, Reply, Request};
use crate::admin::failure::Failure;
use crate::admin::line_ends::to_crlf;
use crate::admin::offline::{OpenStore, Session};
use crate::admin::server::{BATCH_BYTES, BATCH_MESSAGES};
use crate::admin::storage::progress_bar;
use crate::admin::{maildir, mbox};
use crate::io::clock;
use crate::mail::flags::Flags;
use crate::mail::time::Timestamp;

const INBOX: &str = "INBOX";
const MBOX_EXTENSION: &str = "mbox";

/// Folders of mbox files below each other; deeper ones are not looked at.
const MBOX_DEPTH_MAX: usize = 32;

pub fn import(import: &Import, open: OpenStore) -> Result<ExitCode, Failure> {
    let config = import.place.load()?;
    let session = Session::for_mail(&config, open)?;
    let is_interrupted = Arc::new(AtomicBool::new(false));
    signal_hook::flag::register(SIGINT, Arc::clone(&is_interrupted)).map_err(Failure::unavailable)?;
    import_through(session, import, config.limits.message_bytes, is_interrupted)
}

fn import_through(
    mut session: Session,
    import: &Import,
    message_bytes_max: u64,
    is_interrupted: Arc<AtomicBool>,
) -> Result<ExitCode, Failure> {
    session.control().send(&Request::Import { account: import.account.clone() })?;
    let mut importer = Importer {
        session,
        bar: progress_bar("{spinner} {pos} messages, {per_sec}"),
        message_bytes_max,
        is_interrupted,
        skipped: import.skip,
        seen: 0,
        left_out: 0,
        waiting: Vec::new(),
        waiting_bytes: 0,
        taken: 0,
        durable: 0,
    };
    let read = match import.format {
        Format::Maildir => importer.maildir(&import.path, import.mailbox.as_deref()),
        Format::Mbox => importer.mbox(&import.path, import.mailbox.as_deref()),
    };
    importer.finish(read)
}

/// One import under way.
struct Importer {
    session: Session,
    bar: ProgressBar,
    message_bytes_max: u64,
    is_interrupted: Arc<AtomicBool>,
    /// Messages at the front that are there already.
    skipped: u64,
    seen: u64,
    /// Messages that are too large.
    left_out: u64,
    /// The numbers of those that were sent and not committed; messages that were left out have some in between.
    waiting: Vec<u64>,
    waiting_bytes: u64,
    /// So many were committed.
    taken: u64,
    /// Messages at the front that need not be sent again.
    durable: u64,
}

/// Why reading ended before the end.
enum Stop {
    /// By the operator.
    Interrupted,
    Failed(Failure),
}

impl From<Failure> for Stop {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

impl Importer {
    fn maildir(&mut self, root: &Path, mailbox: Option<&str>) -> Result<(), Stop> {
        let unreadable = |error| unreadable(root, &error);
        for folder in maildir::folders(root, mailbox.unwrap_or(INBOX)).map_err(unreadable)? {
            for entry in maildir::entries(&folder).map_err(unreadable)? {
                // With CRLF a message is not smaller than its file: what is too large already is not read.
                if !self.takes_next()? || self.leaves_out(entry.bytes, &entry.path) {
                    continue;
                }
                let bytes = fs::read(&entry.path).map_err(|error| self::unreadable(&entry.path, &error))?;
                let bytes = to_crlf(&bytes);
                if !self.leaves_out(bytes.len() as u64, &entry.path) {
                    self.put(&folder.mailbox, &entry.flags, entry.date, &bytes)?;
                }
            }
        }
        Ok(())
    }

    fn mbox(&mut self, path: &Path, mailbox: Option<&str>) -> Result<(), Stop> {
        for (file, mailbox) in mbox_files(path, mailbox)? {
            self.mbox_file(&file, &mailbox)?;
        }
        Ok(())
    }

    fn mbox_file(&mut self, path: &Path, mailbox: &str) -> Result<(), Stop> {
        let unreadable = |error| unreadable(path, &error);
        let reader = BufReader::with_capacity(1 << 16, File::open(path).map_err(unreadable)?);
        for item in mbox::Messages::of(reader, self.message_bytes_max).map_err(unreadable)? {
            match item.map_err(unreadable)? {
                mbox::Item::TooLarge { bytes } => {
                    let _ = self.takes_next()? && self.leaves_out(bytes, path);
                }
                mbox::Item::Message(message) => {
                    if self.takes_next()? && !self.leaves_out(message.bytes.len() as u64, path) {
                        let date = message.date.unwrap_or_else(clock::timestamp);
                        self.put(mailbox, &message.flags, date, &message.bytes)?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Counts the next message; whether it is to be taken.
    fn takes_next(&mut self) -> Result<bool, Stop> {
        if self.is_interrupted.load(Ordering::Relaxed) {
            return Err(Stop::Interrupted);
        }
        self.seen += 1;
        Ok(self.seen > self.skipped)
    }

    /// Whether a message of this size, with CRLF, is too large; then it is told of and counted.
    fn leaves_out(&mut self, bytes: u64, path: &Path) -> bool {
        if bytes <= self.message_bytes_max {
            return false;
        }
        self.left_out += 1;
        let line = format!(
            "left out: message {} in {} has {bytes} bytes; message_bytes in [limits] says how many are taken",
            self.seen,
            path.display()
        );
        self.bar.suspend(|| eprintln!("{line}"));
        true
    }

    fn put(&mut self, mailbox: &str, flags: &Flags, date: Timestamp, bytes: &[u8]) -> Result<(), Failure> {
        let head = MessageHead::new(mailbox, flags, date, bytes.len());
        self.session.control().send(&ImportItem::Message(head))?;
        self.session.control().send_octets(bytes)?;
        self.waiting.push(self.seen);
        self.waiting_bytes += bytes.len() as u64;
        let is_full = self.waiting.len() >= BATCH_MESSAGES || self.waiting_bytes >= BATCH_BYTES;
        if is_full { self.commit() } else { Ok(()) }
    }

    fn commit(&mut self) -> Result<(), Failure> {
        if self.waiting.is_empty() {
            return Ok(());
        }
        self.session.control().send(&ImportItem::Commit)?;
        let Reply::Progress { done, .. } = self.session.control().receive()? else {
            return Err(Failure::unavailable("the server answered a commit with something else"));
        };
        self.bar.set_position(done);
        let sent = std::mem::take(&mut self.waiting);
        let taken = usize::try_from(done.saturating_sub(self.taken)).unwrap_or(usize::MAX);
        (self.waiting_bytes, self.taken) = (0, done);
        let Some(refused) = sent.get(taken) else {
            self.durable = self.seen;
            return Ok(());
        };
        self.durable = refused - 1;
        match self.session.control().receive() {
            Err(failure) => Err(failure),
            Ok(_) => Err(Failure::unavailable("the server took a part of a batch and did not say why")),
        }
    }

    fn end(&mut self) -> Result<(), Failure> {
        self.commit()?;
        self.session.control().send(&ImportItem::End)?;
        while !matches!(self.session.control().receive()?, Reply::Done) {}
        Ok(())
    }

    fn finish(mut self, read: Result<(), Stop>) -> Result<ExitCode, Failure> {
        let is_interrupted = matches!(read, Err(Stop::Interrupted));
        let ended = match read {
            Err(Stop::Failed(failure)) => Err(failure),
            Ok(()) | Err(Stop::Interrupted) => self.end(),
        };
        ended.map_err(|failure| go_on_behind(self.durable.max(self.skipped.min(self.seen)), failure))?;
        self.bar.finish_and_clear();
        let taken = self.seen.saturating_sub(self.skipped) - self.left_out;
        writeln!(io::stdout(), "{taken} messages imported")?;
        if is_interrupted {
            return Err(Failure::wrong(format!("interrupted; go on with --skip {}", self.seen)));
        }
        Ok(if self.left_out == 0 { ExitCode::SUCCESS } else { ExitCode::from(1) })
    }
}

/// What ended an import, behind words on how to go on.
fn go_on_behind(durable: u64, failure: Failure) -> Failure {
    let words = |why| format!("the first {durable} messages are in; go on with --skip {durable}\n{why}");
    match failure {
        Failure::Wrong(why) => Failure::Wrong(words(why)),
        Failure::Unavailable(why) => Failure::Unavailable(words(why)),
        Failure::Unheard => Failure::Unheard,
    }
}

/// The mbox files at `path` with their mailboxes: one file, or all `.mbox` files of a folder.
fn mbox_files(path: &Path, mailbox: Option<&str>) -> Result<Vec<(PathBuf, String)>, Failure> {
    if !path.is_dir() {
        return Ok(vec![(path.to_owned(), mailbox.unwrap_or(INBOX).to_owned())]);
    }
    let mut files = Vec::new();
    let mut folders = vec![(path.to_owned(), mailbox.unwrap_or_default().to_owned(), 0)];
    while let Some((folder, above, depth)) = folders.pop() {
        let entries = fs::read_dir(&folder).map_err(|error| unreadable(&folder, &error))?;
        for entry in entries {
            let path = entry.map_err(|error| unreadable(&folder, &error))?.path();
            let is_mbox = path.extension().is_some_and(|extension| extension == MBOX_EXTENSION);
            let name = if is_mbox && path.is_file() { path.file_stem() } else { path.file_name() };
            let name = mailbox_part(&name.unwrap_or_default().to_string_lossy());
            let mailbox = if above.is_empty() { name } else { format!("{above}/{name}") };
            if path.is_dir() && depth < MBOX_DEPTH_MAX {
                folders.push((path, mailbox, depth + 1));
            } else if is_mbox && path.is_file() {
                files.push((path, mailbox));
            }
        }
    }
    files.sort();
    Ok(files)
}

/// What cannot be read is told of and left out; then the status is 1.
pub fn export(export: &Export, open: OpenStore) -> Result<ExitCode, Failure> {
    export_through(&mut Session::for_mail(&export.place.load()?, open)?, export)
}

fn export_through(session: &mut Session, export: &Export) -> Result<ExitCode, Failure> {
    let request = Request::Export { account: export.account.clone(), mailbox: export.mailbox.clone() };
    session.control().send(&request)?;
    let bar = progress_bar("{bar:30} {pos} of {len} {msg}");
    let mut target = Target::None;
    let (mut count, mut left_out) = (0_u64, 0_u64);
    loop {
        match session.control().receive()? {
            Reply::Mailbox { name, messages } => {
                target.finish(&export.path)?;
                bar.set_length(messages);
                bar.set_position(0);
                bar.set_message(name.clone());
                target = Target::open(export, &name).map_err(|error| unwritable(&export.path, &error))?;
            }
            Reply::Message(head) => {
                let bytes = session.control().receive_octets(head.bytes)?;
                target.put(&head, &bytes).map_err(|error| unwritable(&export.path, &error))?;
                bar.inc(1);
                count += 1;
            }
            Reply::Damage(row) => {
                bar.suspend(|| eprintln!("left out: {}", row.text));
                bar.inc(1);
                left_out += 1;
            }
            Reply::Done => break,
            _ => {}
        }
    }
    target.finish(&export.path)?;
    bar.finish_and_clear();
    writeln!(io::stdout(), "{count} messages exported")?;
    Ok(if left_out == 0 { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

/// Where the messages of the mailbox of the moment go.
enum Target {
    None,
    Maildir(maildir::Writer),
    Mbox { out: BufWriter<File>, fresh: PathBuf, path: PathBuf },
}

impl Target {
    fn open(export: &Export, mailbox: &str) -> io::Result<Self> {
        let path = match (export.format, &export.mailbox) {
            (Format::Maildir, Some(_)) => {
                // The one mailbox that was asked for is PATH itself.
                return Ok(Self::Maildir(maildir::Writer::open(&export.path, INBOX)?));
            }
            (Format::Maildir, None) => {
                return Ok(Self::Maildir(maildir::Writer::open(&export.path, mailbox)?));
            }
            (Format::Mbox, Some(_)) => export.path.clone(),
            (Format::Mbox, None) => export.path.join(mbox_path(mailbox)),
        };
        if path.exists() {
            let text = format!("{} is there already and is not overwritten", path.display());
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, text));
        }
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        let mut fresh = path.clone().into_os_string();
        fresh.push(".part");
        let fresh = PathBuf::from(fresh);
        let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&fresh)?;
        Ok(Self::Mbox { out: BufWriter::new(file), fresh, path })
    }

    fn put(&mut self, head: &MessageHead, bytes: &[u8]) -> io::Result<()> {
        let (flags, date) = (head.flags(), head.date());
        match self {
            Self::None => Err(io::Error::other("a message came before its mailbox")),
            Self::Maildir(writer) => writer.put(head.uid, &flags, date, bytes).map(|_| ()),
            Self::Mbox { out, .. } => mbox::write(out, &flags, date, bytes),
        }
    }

    /// The mailbox is complete.
    fn finish(&mut self, root: &Path) -> Result<(), Failure> {
        let Self::Mbox { mut out, fresh, path } = std::mem::replace(self, Self::None) else {
            return Ok(());
        };
        let written =
            out.flush().and_then(|()| out.get_ref().sync_all()).and_then(|()| fs::rename(fresh, path));
        written.map_err(|error| unwritable(root, &error))
    }
}

/// `Lists/Rust` is `Lists/Rust.mbox`. No part of a mailbox's name leads out of the folder.
fn mbox_path(mailbox: &str) -> PathBuf {
    let parts: Vec<String> = mailbox.split('/').map(file_part).collect();
    PathBuf::from(format!("{}.{MBOX_EXTENSION}", parts.join("/")))
}

/// A part of a mailbox's name as one of a path: `.`, `..`, and what would be taken for our own marks are escaped.
fn file_part(part: &str) -> String {
    let escaped = part.replace('%', "%25").replace('\0', "%00");
    match escaped.strip_prefix('.') {
        Some(rest) => format!("%2E{rest}"),
        None if escaped.is_empty() => "%".to_owned(),
        None => escaped,
    }
}

fn mailbox_part(name: &str) -> String {
    match name {
        "%" => String::new(),
        _ => name.replace("%2E", ".").replace("%00", "\0").replace("%25", "%"),
    }
}

fn unreadable(path: &Path, error: &io::Error) -> Failure {
    Failure::wrong(format!("{} cannot be read: {error}", path.display()))
}

fn unwritable(path: &Path, error: &io::Error) -> Failure {
    Failure::unavailable(format!("{} cannot be written: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;
    use std::process::ExitCode;
    use std::sync::Arc;
    use std::sync::atomic::AtomicBool;

    use tempfile::TempDir;

    use super::{export_through, file_part, import_through, mailbox_part, mbox_path};
    use crate::admin::cli::{Export, Format, Import, Place};
    use crate::admin::failure::Failure;
    use crate::admin::memory::MemoryBackend;
    use crate::admin::offline::Session;
    use crate::admin::server::{BATCH_MESSAGES, Backend};

    fn import(
        backend: &Arc<MemoryBackend>,
        (format, path): (Format, &Path),
        mailbox: Option<&str>,
        skip: u64,
    ) -> Result<ExitCode, Failure> {
        let import = Import {
            format,
            path: path.to_owned(),
            account: "bob@example.org".to_owned(),
            mailbox: mailbox.map(str::to_owned),
            skip,
            place: Place::default(),
        };
        let session = Session::within(Arc::clone(backend) as Arc<dyn Backend>)?;
        import_through(session, &import, backend.message_bytes_max, Arc::new(AtomicBool::new(false)))
    }

    fn export(
        backend: &Arc<MemoryBackend>,
        (format, path): (Format, &Path),
        mailbox: Option<&str>,
    ) -> Result<ExitCode, Failure> {
        let export = Export {
            format,
            path: path.to_owned(),
            account: "bob@example.org".to_owned(),
            mailbox: mailbox.map(str::to_owned),
            place: Place::default(),
        };
        export_through(&mut Session::within(Arc::clone(backend) as Arc<dyn Backend>)?, &export)
    }

    /// An mbox file of `count` messages, the second of which is marked.
    fn mbox(count: usize) -> String {
        let message = |index: usize| {
            let status = if index == 1 { "Status: RO\nX-Status: F\n" } else { "" };
            format!("From a Thu Jan  1 10:20:30 2026\n{status}Subject: {index}\n\n>From here\n\n")
        };
        (0..count).map(message).collect()
    }

    #[test]
    fn around_and_around() {
        let folder = TempDir::new().unwrap();
        let path = |name: &str| folder.path().join(name);
        let first = MemoryBackend::with_bob();
        fs::write(path("in.mbox"), mbox(2 * BATCH_MESSAGES + 5)).unwrap();
        import(&first, (Format::Mbox, &path("in.mbox")), None, 0).unwrap();
        import(&first, (Format::Mbox, &path("in.mbox")), Some("Lists/v1.2"), 510).unwrap();
        assert_eq!((first.appends(), first.contents("Lists/v1.2").len()), (4, 7));
        let inbox = first.contents("INBOX");
        assert_eq!(inbox.len(), 2 * BATCH_MESSAGES + 5);
        assert_eq!(inbox[1].0, ["\\Flagged", "\\Seen"]);
        assert_eq!(inbox[1].2, b"Subject: 1\r\n\r\nFrom here\r\n");
        for format in [Format::Maildir, Format::Mbox] {
            let out = path(&format!("{format:?}"));
            export(&first, (format, &out), None).unwrap();
            let second = MemoryBackend::with_bob();
            import(&second, (format, &out), None, 0).unwrap();
            assert_eq!(second.mailbox_names(), first.mailbox_names());
            for mailbox in first.mailbox_names() {
                let mut there = (first.contents(&mailbox), second.contents(&mailbox));
                there.0.sort();
                there.1.sort();
                assert!(there.0 == there.1, "{format:?} {mailbox}");
            }
            let one = path(&format!("one-{format:?}"));
            export(&first, (format, &one), Some("Lists/v1.2")).unwrap();
            let third = MemoryBackend::with_bob();
            import(&third, (format, &one), Some("Here"), 0).unwrap();
            assert_eq!((third.mailbox_names(), third.contents("Here").len()), (vec!["Here".to_owned()], 7));
        }
        // A Maildir is completed, an mbox not written over.
        export(&first, (Format::Maildir, &path("Maildir")), None).unwrap();
        assert_eq!(fs::read_dir(path("Maildir/cur")).unwrap().count(), inbox.len());
        assert!(export(&first, (Format::Mbox, &path("Mbox")), None).is_err());
    }

    #[test]
    fn what_goes_wrong() {
        let folder = TempDir::new().unwrap();
        let path = |name: &str| folder.path().join(name);
        let backend = MemoryBackend::with_bob();
        fs::write(path("no.mbox"), "Subject: x\n\n").unwrap();
        fs::write(path("big.mbox"), mbox(2).replace("From here", &"x".repeat(20_000))).unwrap();
        for (format, name) in [(Format::Mbox, "no.mbox"), (Format::Mbox, "none"), (Format::Maildir, "none")] {
            assert!(
                matches!(import(&backend, (format, &path(name)), None, 0), Err(Failure::Wrong(_))),
                "{name}"
            );
        }
        let left_out = import(&backend, (Format::Mbox, &path("big.mbox")), None, 0).unwrap();
        assert_eq!(format!("{left_out:?}"), format!("{:?}", ExitCode::from(1)));
        assert!(matches!(export(&backend, (Format::Mbox, &path("x")), Some("None")), Err(Failure::Wrong(_))));
        fs::write(path("good.mbox"), mbox(3)).unwrap();
        assert!(matches!(
            import(&backend, (Format::Mbox, &path("good.mbox")), Some("Full"), 0),
            Err(Failure::Wrong(_))
        ));
        let import = Import {
            format: Format::Mbox,
            path: path("good.mbox"),
            account: "bob@example.org".to_owned(),
            mailbox: None,
            skip: 0,
            place: Place::default(),
        };
        let session = Session::within(Arc::clone(&backend) as Arc<dyn Backend>).unwrap();
        let interrupted = import_through(session, &import, 10_000, Arc::new(AtomicBool::new(true)));
        assert!(matches!(interrupted, Err(Failure::Wrong(text)) if text.contains("--skip 0")));
        assert!(backend.mailbox_names().is_empty());
    }

    #[test]
    fn a_message_counts_with_its_line_ends() {
        let folder = TempDir::new().unwrap();
        let path = |name: &str| folder.path().join(name);
        let backend = MemoryBackend::with_bob();
        fs::create_dir_all(path("cur")).unwrap();
        // The largest that fits, one that fits as it is and not with CRLF, one that is too large as it is.
        let lines = usize::try_from(backend.message_bytes_max).unwrap() / 10;
        for (name, lines) in [("1", lines), ("2", lines + 1), ("3", 2 * lines), ("4", 1)] {
            fs::write(path("cur").join(name), "8 octets\n".repeat(lines)).unwrap();
        }
        let code = import(&backend, (Format::Maildir, folder.path()), None, 0).unwrap();
        assert_eq!(format!("{code:?}"), format!("{:?}", ExitCode::from(1)));
        let sizes: Vec<usize> = backend.contents("INBOX").iter().map(|(_, _, bytes)| bytes.len()).collect();
        assert_eq!(sizes, [10 * lines, 10]);
    }

    #[test]
    fn what_cannot_be_read_is_left_out_of_an_export() {
        let folder = TempDir::new().unwrap();
        let path = |name: &str| folder.path().join(name);
        let backend = MemoryBackend::with_bob();
        fs::write(path("in.mbox"), mbox(9)).unwrap();
        import(&backend, (Format::Mbox, &path("in.mbox")), None, 0).unwrap();
        // One of a page, both of a page, and the last.
        [2, 5, 6, 9].iter().for_each(|uid| backend.damage("INBOX", *uid));
        let code = export(&backend, (Format::Maildir, &path("Maildir")), None).unwrap();
        assert_eq!(format!("{code:?}"), format!("{:?}", ExitCode::from(1)));
        assert_eq!(fs::read_dir(path("Maildir/cur")).unwrap().count(), 5);
        let code = export(&backend, (Format::Mbox, &path("out.mbox")), Some("INBOX")).unwrap();
        assert_eq!(format!("{code:?}"), format!("{:?}", ExitCode::from(1)));
        let out = fs::read_to_string(path("out.mbox")).unwrap();
        let kept: Vec<&str> = out.lines().filter_map(|line| line.strip_prefix("Subject: ")).collect();
        assert_eq!(kept, ["0", "2", "3", "6", "7"]);
    }

    #[test]
    fn a_refusal_in_a_batch_says_how_many_are_in() {
        let folder = TempDir::new().unwrap();
        let path = |name: &str| folder.path().join(name);
        let backend = MemoryBackend::with_bob();
        let able = mbox(2 * BATCH_MESSAGES + 5).replacen("From here", &"x".repeat(20_000), 1);
        fs::write(path("Able.mbox"), able).unwrap();
        fs::write(path("Full.mbox"), mbox(2)).unwrap();
        let in_able = 2 * BATCH_MESSAGES + 5;
        // Twice: nothing more is in behind the first time.
        for skip in [0, in_able] {
            let failure = import(&backend, (Format::Mbox, folder.path()), None, skip as u64).unwrap_err();
            let expected = format!(
                "the first {in_able} messages are in; go on with --skip {in_able}\nthe account is full"
            );
            assert!(matches!(&failure, Failure::Wrong(text) if *text == expected), "{failure}");
            assert_eq!(backend.contents("Able").len(), in_able - 1, "one is too large");
        }
        fs::rename(path("Full.mbox"), path("Later.mbox")).unwrap();
        import(&backend, (Format::Mbox, folder.path()), None, in_able as u64).unwrap();
        assert_eq!((backend.contents("Able").len(), backend.contents("Later").len()), (in_able - 1, 2));
    }

    #[test]
    fn names_stay_inside() {
        for (mailbox, path) in [
            ("Lists/Rust", "Lists/Rust.mbox"),
            ("../../etc/passwd", "%2E./%2E./etc/passwd.mbox"),
            ("/etc", "%/etc.mbox"),
            ("a//b", "a/%/b.mbox"),
            ("50%", "50%25.mbox"),
        ] {
            assert_eq!(mbox_path(mailbox), Path::new(path));
        }
        for part in ["..", ".", "", "%", "%2E", "a.b", ".hidden"] {
            assert_eq!(mailbox_part(&file_part(part)), part);
        }
    }
}
