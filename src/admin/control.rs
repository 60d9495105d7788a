//! The words of the control socket, and the client's end of it.
//!
//! ```text
//!   C: {"change":{"add_domain":{"name":"example.org"}}}
//!   S: "done"
//!
//!   C: {"import":{"account":"bob@example.org"}}
//!   C: {"message":{"mailbox":"INBOX",…,"bytes":5}}     5 octets follow the line
//!   C: "commit"
//!   S: {"progress":{"done":1,"total":0}}               so many are durable; `failed` follows if not all are
//!   C: "end"
//!   S: "done"
//!
//!   C: {"export":{"account":"bob@example.org","mailbox":null}}
//!   S: {"mailbox":{"name":"INBOX","messages":1}}
//!   S: {"message":{"mailbox":"INBOX",…,"bytes":5}}     5 octets follow the line
//!   S: {"damage":{"what":"message","text":"…"}}        in the place of one that cannot be read
//!   S: "done"
//!
//!   C: {"submit":{"sender":"bob@example.org","recipients":[{"address":"eve@example.net"}],…,"bytes":5}}
//!   S: {"submitted":{"id":"00010000002A","refused":[]}}   durable; 5 octets followed the request
//!   S: "done"
//!
//!   C: "backup"
//!   S: {"kept":{"path":"log/00/0000000001.seg","extent":{"bytes":8192,"length":2097152}}}
//!   S: {"all_kept":{"store":"5f0c…"}}              those stay as they are from here on
//!   C: "still"                                         now and then, while it copies
//!   C: "end"                                           it may change again
//!   S: "done"
//! ```
//!
//! Each line is one JSON value. A request is answered by any number of lines, of which the last is `done` or
//! `failed`; then the next request may come. An import is in lockstep: the server answers each `commit`, and
//! the client waits for it.
//!
//! Invariants: no line is longer than `LINE_BYTES_MAX`; octets are announced by the line before them; passwords
//! never travel, only what is kept of them.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::admin::failure::Failure;
use crate::admin::queue::words::{QueueReply, QueueRequest};
use crate::mail::envelope::{Notify, Ret};
use crate::mail::flags::{Flags, SystemFlags};
use crate::mail::time::Timestamp;
use crate::proto::smtp::{MessageRefusal, RecipientVerdict};

/// An alias with as many targets as it may have, each as long as it may be, fits.
pub const LINE_BYTES_MAX: u64 = 8 << 20;

/// What can be asked.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Request {
    Change(Change),
    Accounts,
    Aliases,
    Domains,
    Queue(QueueRequest),
    Stats,
    /// Gives back the space of mail that nobody has.
    Clean,
    /// Reads everything that is stored and checks it.
    Verify,
    /// The same, and puts aside what cannot be read.
    Repair,
    /// Keeps all files as they are and names those that a copy needs; [`BackupItem`]s follow.
    Backup,
    /// [`ImportItem`]s follow.
    Import {
        account: String,
    },
    /// All mailboxes, or one.
    Export {
        account: String,
        mailbox: Option<String>,
    },
    /// Takes responsibility for a message, whose octets follow the line.
    Submit(SubmitHead),
    /// Whether a message for this address would be taken.
    Judge {
        address: String,
    },
}

/// The envelope of a message that a program on this machine hands in.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct SubmitHead {
    /// Empty for `<>`.
    pub sender: String,
    pub recipients: Vec<SubmitRecipient>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ret: Option<Ret>,
    /// In xtext, as in ENVID.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub envid: Option<String>,
    pub bytes: u64,
}

#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct SubmitRecipient {
    pub address: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub notify: Option<Notify>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub orcpt: Option<String>,
}

/// A change of the directory. Addresses are as the operator wrote them.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    AddAccount {
        address: String,
        secrets: Secrets,
        quota_bytes: Option<u64>,
    },
    SetPassword {
        address: String,
        secrets: Secrets,
    },
    /// Without `purge` the mail stays for the day the address comes back.
    RemoveAccount {
        address: String,
        purge: bool,
    },
    AddAlias {
        name: String,
        targets: Vec<String>,
    },
    RemoveAlias {
        name: String,
    },
    AddDomain {
        name: String,
    },
    RemoveDomain {
        name: String,
    },
}

/// What is kept of a password, in the forms of the directory's file.
#[derive(Serialize, Deserialize)]
pub struct Secrets {
    pub hash: String,
    pub scram: String,
}

/// What follows a request to import.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ImportItem {
    /// The octets of the message follow the line.
    Message(MessageHead),
    /// Make all since the last one durable.
    Commit,
    End,
}

/// What follows a request for a backup.
#[derive(Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BackupItem {
    Still,
    End,
}

/// What is known of a message besides its octets.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct MessageHead {
    pub mailbox: String,
    /// `\Seen` and its like, and keywords.
    pub flags: Vec<String>,
    /// The internal date.
    pub seconds: i64,
    pub zone_minutes: i16,
    /// 0 where it has none yet.
    #[serde(default)]
    pub uid: u32,
    pub bytes: u64,
}

/// What comes back.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reply {
    /// `total` is 0 where nobody knows it.
    Progress {
        done: u64,
        total: u64,
    },
    Account(AccountRow),
    Alias {
        name: String,
        targets: Vec<String>,
    },
    Domain {
        name: String,
    },
    Queue(QueueReply),
    /// How the cleaning of a log went.
    Cleaned {
        text: String,
    },
    Uncleaned {
        text: String,
    },
    Stat {
        name: String,
        value: u64,
    },
    /// Something that is stored and cannot be read.
    Damage(Box<DamageRow>),
    /// A file of the data directory: how much of it counts, and how long it is.
    Kept(KeptFile),
    /// Those were all, of the store with this identity.
    AllKept {
        store: String,
    },
    Mailbox {
        name: String,
        messages: u64,
    },
    /// The octets of the message follow the line.
    Message(MessageHead),
    /// Without an id there was no recipient to take it for.
    Submitted {
        id: Option<String>,
        refused: Vec<(String, RecipientVerdict)>,
    },
    /// Why a message that was to be submitted is not kept.
    NotKept(MessageRefusal),
    Judged(RecipientVerdict),
    Done,
    Failed(Refusal),
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct AccountRow {
    pub address: String,
    pub log: u16,
    pub usage_bytes: u64,
    pub quota_bytes: Option<u64>,
    pub is_closed: bool,
}

/// Something that is stored and is not what was written.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct DamageRow {
    pub what: DamageKind,
    /// All of it as a sentence.
    pub text: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mailbox: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub recipients: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log: Option<u16>,
    /// Below the data directory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub offset: Option<u64>,
    /// What a repair made of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub done: Option<String>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DamageKind {
    /// A message in a mailbox.
    Message,
    /// A message that is owed to somebody.
    Queued,
    /// Records of a log that no mail needs, as far as is known.
    Records,
    /// A file beside the logs.
    File,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct KeptFile {
    /// Below the data directory.
    pub path: String,
    /// `None` for one that is replaced as a whole: it is to be taken as it is found.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub extent: Option<KeptBytes>,
}

/// How much of a file counts, from its beginning; the rest of its length is zeroes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct KeptBytes {
    pub bytes: u64,
    pub length: u64,
}

/// Why something was not done, as a sentence, and whose fault it is.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Refusal {
    pub kind: RefusalKind,
    pub text: String,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RefusalKind {
    /// What was asked for is wrong.
    Wrong,
    /// The server cannot do it now.
    Unavailable,
}

/// The client's end: one request after the other.
pub struct Control {
    reader: BufReader<UnixStream>,
    writer: UnixStream,
}

impl Control {
    pub fn over(stream: UnixStream) -> io::Result<Self> {
        let writer = stream.try_clone()?;
        Ok(Self { reader: BufReader::new(stream), writer })
    }

    /// Asks, and hands each line of the answer but the last to `each`.
    pub fn ask(
        &mut self,
        request: &Request,
        mut each: impl FnMut(Reply) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        self.send(request)?;
        loop {
            match self.receive()? {
                Reply::Done => return Ok(()),
                reply => each(reply)?,
            }
        }
    }

    /// Sends a line. A server that has refused hangs up; why is in its last words.
    pub fn send(&mut self, line: &impl Serialize) -> Result<(), Failure> {
        let sent = write_line(&mut self.writer, line);
        self.or_last_words(sent)
    }

    /// Sends the octets that the line before announced.
    pub fn send_octets(&mut self, octets: &[u8]) -> Result<(), Failure> {
        let sent = self.writer.write_all(octets);
        self.or_last_words(sent)
    }

    /// The next line of an answer; a refusal is a failure.
    pub fn receive(&mut self) -> Result<Reply, Failure> {
        match read_line(&mut self.reader) {
            Ok(Some(Reply::Failed(refusal))) => Err(refusal.into()),
            Ok(Some(reply)) => Ok(reply),
            Ok(None) => Err(lost("it hung up")),
            Err(error) => Err(lost(error)),
        }
    }

    /// The octets that the line before announced.
    pub fn receive_octets(&mut self, count: u64) -> Result<Vec<u8>, Failure> {
        read_octets(&mut self.reader, count).map_err(lost)
    }

    fn or_last_words(&mut self, sent: io::Result<()>) -> Result<(), Failure> {
        let Err(error) = sent else {
            return Ok(());
        };
        match self.receive() {
            Err(failure) => Err(failure),
            Ok(_) => Err(lost(error)),
        }
    }
}

impl DamageRow {
    pub fn of(what: DamageKind, text: String) -> Self {
        Self {
            what,
            text,
            account: None,
            mailbox: None,
            uid: None,
            queue_id: None,
            from: None,
            recipients: Vec::new(),
            subject: None,
            message_id: None,
            log: None,
            file: None,
            offset: None,
            done: None,
        }
    }
}

impl Refusal {
    pub fn wrong(text: impl ToString) -> Self {
        Self { kind: RefusalKind::Wrong, text: text.to_string() }
    }

    pub fn unavailable(text: impl ToString) -> Self {
        Self { kind: RefusalKind::Unavailable, text: text.to_string() }
    }
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        match refusal.kind {
            RefusalKind::Wrong => Self::Wrong(refusal.text),
            RefusalKind::Unavailable => Self::Unavailable(refusal.text),
        }
    }
}

impl MessageHead {
    pub fn new(mailbox: &str, flags: &Flags, date: Timestamp, bytes: usize) -> Self {
        let system = SystemFlags::NAMES.iter().filter(|(flag, _)| flags.system.contains(*flag));
        let names = system.map(|(_, name)| (*name).to_owned()).chain(flags.keywords.iter().cloned());
        Self {
            mailbox: mailbox.to_owned(),
            flags: names.collect(),
            seconds: date.seconds,
            zone_minutes: date.zone_minutes,
            uid: 0,
            bytes: bytes as u64,
        }
    }

    pub fn flags(&self) -> Flags {
        let mut flags = Flags::default();
        for name in &self.flags {
            match SystemFlags::named(name) {
                Some(flag) => flags.system |= flag,
                None => flags.add_keyword(name),
            }
        }
        flags
    }

    pub fn date(&self) -> Timestamp {
        Timestamp { seconds: self.seconds, zone_minutes: self.zone_minutes }
    }
}

/// One JSON value and a line feed, in one write.
pub fn write_line(writer: &mut impl Write, line: &impl Serialize) -> io::Result<()> {
    let mut bytes = serde_json::to_vec(line)?;
    bytes.push(b'\n');
    writer.write_all(&bytes)
}

/// The next line; `None` at the end.
pub fn read_line<T: DeserializeOwned>(reader: &mut impl BufRead) -> io::Result<Option<T>> {
    let mut line = Vec::new();
    reader.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', &mut line)?;
    match line.pop() {
        None => Ok(None),
        Some(b'\n') => Ok(Some(serde_json::from_slice(&line)?)),
        Some(_) => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

/// Exactly `count` octets. Memory grows with what comes, not with what was announced.
pub fn read_octets(reader: &mut impl Read, count: u64) -> io::Result<Vec<u8>> {
    let mut octets = Vec::new();
    reader.by_ref().take(count).read_to_end(&mut octets)?;
    match octets.len() as u64 == count {
        true => Ok(octets),
        false => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

fn lost(error: impl std::fmt::Display) -> Failure {
    Failure::Unavailable(format!(
        "the server was lost in mid-answer ({error}); look at its log, then try again"
    ))
}

#[cfg(test)]
mod tests {
    use std::io::BufReader;

    use super::{MessageHead, Reply, Request, read_line, read_octets, write_line};
    use crate::mail::flags::{Flags, SystemFlags};
    use crate::mail::time::Timestamp;

    #[test]
    fn lines_and_octets() {
        let mut wire = Vec::new();
        write_line(&mut wire, &Request::Import { account: "bob@example.org".to_owned() }).unwrap();
        write_line(&mut wire, &Reply::Message(MessageHead { bytes: 5, ..MessageHead::default() })).unwrap();
        wire.extend_from_slice(b"a\nb\nc");
        write_line(&mut wire, &Reply::Done).unwrap();
        let mut reader = BufReader::new(&wire[..]);
        let request: Request = read_line(&mut reader).unwrap().unwrap();
        assert!(matches!(request, Request::Import { account } if account == "bob@example.org"));
        let Some(Reply::Message(head)) = read_line(&mut reader).unwrap() else {
            panic!("a message was announced");
        };
        assert_eq!(read_octets(&mut reader, head.bytes).unwrap(), b"a\nb\nc");
        assert!(matches!(read_line(&mut reader).unwrap(), Some(Reply::Done)));
        assert!(read_line::<Reply>(&mut reader).unwrap().is_none());
        assert!(read_line::<Reply>(&mut BufReader::new(&b"\"done\""[..])).is_err());
        assert!(read_octets(&mut &b"abc"[..], 4).is_err());
    }

    #[test]
    fn heads_keep_flags_and_dates() {
        let mut flags = Flags::system(SystemFlags::SEEN | SystemFlags::DRAFT);
        flags.add_keyword("$Forwarded");
        let date = Timestamp { seconds: 1_750_000_000, zone_minutes: -90 };
        let head = MessageHead::new("Sent", &flags, date, 7);
        assert_eq!((head.flags(), head.date(), head.bytes), (flags, date, 7));
    }
}
