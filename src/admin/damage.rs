//! `ringpost store verify` and `repair`: all that is stored is read, what is damaged gets a name, and is put aside.
//!
//! ```text
//!   verify    the records of each log, then every message of every mailbox, then what is owed
//!   repair    the same; each message that cannot be read is kept in the quarantine, and leaves its mailbox or the
//!             queue; each damaged segment is kept there, and the log made to do without it
//! ```
//!
//! A record in a log is damaged, or a message is: both are found, and where the second explains the first only the
//! message is told of. What happens in the mail is seen to by `shard::damage`, in the log by `shard::clean`.
//!
//! Invariants: what goes is in the quarantine, synced, before it goes; a repair that is cut off anywhere can be run
//! again, and one that came to its end finds nothing to do.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::io;

use crate::admin::backend::ShardBackend;
use crate::admin::control::{DamageKind, DamageRow, Refusal};
use crate::admin::directory_file;
use crate::admin::server::{Backend, Finding};
use crate::io::clock;
use crate::io::disk::DiskError;
use crate::io::disk::open::verify_log;
use crate::io::disk::quarantine::{Quarantine, header_left};
use crate::mail::date::Rfc5322;
use crate::mail::encoded_word;
use crate::mail::header::{Header, trim, unfold};
use crate::shard::control::{Figures, MailboxSummary, Request};
use crate::shard::damage::{self, CheckedQueue, DamagedMessage, DamagedQueued};
use crate::store::recover::Damage;
use crate::store::{AccountId, Locator, LogId, MailboxId, Place, Sequence};

/// Who is told of progress and of what is damaged; its error ends the work.
type Report<'a> = &'a mut dyn FnMut(Finding) -> io::Result<()>;

/// Of a field of a message that is told of.
const FIELD_CHARS_MAX: usize = 200;

/// What is damaged.
#[derive(Default)]
struct Survey {
    messages: Vec<InMailbox>,
    queued: Vec<DamagedQueued>,
    stretches: Vec<(LogId, Damage)>,
}

/// A damaged message with where it is.
struct InMailbox {
    address: String,
    account: AccountId,
    /// That drives the account.
    log: LogId,
    mailbox: MailboxId,
    mailbox_name: String,
    message: DamagedMessage,
}

impl ShardBackend {
    pub fn verify_all(&self, report: Report<'_>) -> Result<(), Refusal> {
        self.survey(report)?;
        Ok(())
    }

    pub fn repair_all(&self, report: Report<'_>) -> Result<(), Refusal> {
        let survey = self.survey(&mut |finding| match finding {
            Finding::Progress { .. } => report(finding),
            // They are told of with what was done.
            Finding::Damage(_) => Ok(()),
        })?;
        let quarantine = Quarantine::open(self.data().path()).map_err(Refusal::unavailable)?;
        for found in &survey.messages {
            self.set_aside(&quarantine, found, report)?;
        }
        for found in &survey.queued {
            self.set_aside_queued(&quarantine, found, report)?;
        }
        let mut segments: BTreeMap<LogId, BTreeSet<u32>> = BTreeMap::new();
        for (log, damage) in &survey.stretches {
            segments.entry(*log).or_default().insert(damage.segment);
        }
        for (log, segments) in segments {
            self.evict(&quarantine, (log, segments), report)?;
        }
        directory_file::mend(self.data().path()).map_err(Refusal::unavailable)
    }

    /// Reads everything, and tells of what is damaged.
    fn survey(&self, report: Report<'_>) -> Result<Survey, Refusal> {
        let mut survey = Survey::default();
        for why in directory_file::damage(self.data().path()) {
            tell(report, DamageRow::of(DamageKind::File, why))?;
        }
        for log in self.logs()? {
            // What is written from now on may be half there when it is read.
            let CheckedQueue { synced, .. } = self.check_queue(log, Sequence(0));
            let verified = verify_log(self.data(), log).map_err(Refusal::unavailable)?;
            let found = verified.damage.into_iter().filter(|damage| damage.first <= synced);
            survey.stretches.extend(found.map(|damage| (log, damage)));
        }
        self.survey_mailboxes(&mut survey, report)?;
        self.survey_queue(&mut survey, report)?;
        for (log, damage) in &survey.stretches {
            if !self.is_explained(&survey, *log, damage) {
                tell(report, stretch_row(*log, damage))?;
            }
        }
        Ok(survey)
    }

    fn survey_mailboxes(&self, survey: &mut Survey, report: Report<'_>) -> Result<(), Refusal> {
        let directory = self.directory();
        let total =
            self.ask_all(Request::Figures).iter().map(|Figures { message_bytes, .. }| message_bytes).sum();
        let mut done = 0;
        for account in directory.accounts() {
            let (id, log) = (AccountId(account.id), LogId(account.log));
            let owner = self.driver_of(log);
            for MailboxSummary { id: mailbox, name, .. } in
                self.ask(owner, |answer| Request::Mailboxes(id, answer))
            {
                let mut above = 0;
                let check = |above| {
                    self.ask(owner, |answer| {
                        Request::Damage(damage::Request::CheckMailbox { account: id, mailbox, above, answer })
                    })
                };
                while let Some(checked) = check(above) {
                    above = checked.last;
                    done += checked.bytes;
                    report(Finding::Progress { done, total }).map_err(Refusal::unavailable)?;
                    for mut message in checked.damaged {
                        if message.header.is_empty() {
                            let of = message.message;
                            message.header = header_left(&self.data().log_dir(of.id.log), &of);
                        }
                        let (address, mailbox_name) = (account.address.to_string(), name.clone());
                        let found = InMailbox { address, account: id, log, mailbox, mailbox_name, message };
                        tell(report, self.message_row(&found))?;
                        survey.messages.push(found);
                    }
                }
            }
        }
        Ok(())
    }

    fn survey_queue(&self, survey: &mut Survey, report: Report<'_>) -> Result<(), Refusal> {
        for log in self.logs()? {
            let mut from = Some(Sequence(0));
            while let Some(at) = from {
                let CheckedQueue { next, damaged, .. } = self.check_queue(log, at);
                for found in damaged {
                    tell(report, self.queued_row(&found))?;
                    survey.queued.push(found);
                }
                from = next;
            }
        }
        Ok(())
    }

    fn check_queue(&self, log: LogId, from: Sequence) -> CheckedQueue {
        self.ask(self.driver_of(log), |answer| {
            Request::Damage(damage::Request::CheckQueue { log, from, answer })
        })
    }

    /// Whether what is damaged there is mail that is told of.
    fn is_explained(&self, survey: &Survey, log: LogId, damage: &Damage) -> bool {
        let is_there = |message: &Locator| {
            let within = damage.first..=damage.last;
            let place = self.placed_now(message);
            let is_at = |place| match place {
                Place::Segment { number, offset } => {
                    number == damage.segment && (damage.offset..damage.end).contains(&u64::from(offset))
                }
                Place::File { .. } => false,
            };
            message.id.log == log && (is_at(place) || within.contains(&message.id.sequence))
        };
        let mut all = survey.messages.iter().map(|found| &found.message.message);
        all.any(is_there) || survey.queued.iter().any(|found| is_there(&found.message))
    }

    /// A message that was written again is elsewhere than its mailbox says.
    fn placed_now(&self, message: &Locator) -> Place {
        let moved = self.data().log_dir(message.id.log).files.moved(message.id.sequence);
        moved.map_or(message.place, |record| message.placed(record).place)
    }

    fn file_of(&self, message: &Locator) -> (String, u64) {
        let log = message.id.log.0;
        match self.placed_now(message) {
            Place::Segment { number, offset } => {
                (format!("log/{log:02}/{number:010}.seg"), u64::from(offset))
            }
            Place::File { number } => (format!("large/{log:02}/{number:012}"), 0),
        }
    }

    fn message_row(&self, found: &InMailbox) -> DamageRow {
        let InMailbox { address, mailbox_name, message: DamagedMessage { uid, message, header, .. }, .. } =
            found;
        let (file, offset) = self.file_of(message);
        let field = |name| field(header, name);
        let mut text = format!("{address}: message {uid} in {mailbox_name} cannot be read");
        for (words, value) in [(", from ", field("from")), (", subject ", field("subject"))] {
            let _ = value.map(|value| write!(text, "{words}{value:?}"));
        }
        let _ = write!(text, "; {file}, byte {offset}");
        DamageRow {
            account: Some(address.clone()),
            mailbox: Some(mailbox_name.clone()),
            uid: Some(*uid),
            message_id: field("message-id"),
            subject: field("subject"),
            from: field("from"),
            file: Some(file),
            offset: Some(offset),
            ..DamageRow::of(DamageKind::Message, text)
        }
    }

    fn queued_row(&self, found: &DamagedQueued) -> DamageRow {
        let DamagedQueued { message, recipients, sender, .. } = found;
        let (file, offset) = self.file_of(message);
        let (id, to) = (message.id.to_string(), recipients.join(", "));
        let text = match sender {
            Some(sender) => format!("queued message {id} from <{sender}> to {to} cannot be read"),
            None => format!("queued message {id} to {to} cannot be read, nor who sent it"),
        };
        DamageRow {
            queue_id: Some(id),
            from: sender.clone(),
            recipients: recipients.clone(),
            text: format!("{text}; {file}, byte {offset}"),
            file: Some(file),
            offset: Some(offset),
            ..DamageRow::of(DamageKind::Queued, String::new())
        }
    }

    fn set_aside(
        &self,
        quarantine: &Quarantine,
        found: &InMailbox,
        report: Report<'_>,
    ) -> Result<(), Refusal> {
        let mut row = self.message_row(found);
        let InMailbox { account, log, mailbox, message: DamagedMessage { uid, message, .. }, .. } = found;
        let name = format!("{}-account{}-mailbox{}-uid{uid}.eml", message.id, account.0, mailbox.0);
        let path = quarantine
            .keep_message(&name, &self.data().log_dir(message.id.log), message, &words(&row, found))
            .map_err(Refusal::unavailable)?;
        let note = self.note(found, &name);
        let gone = self.ask(self.driver_of(*log), |answer| {
            let (account, mailbox, uid) = (*account, *mailbox, *uid);
            Request::Damage(damage::Request::SetAside { account, mailbox, uid, note, answer })
        });
        if gone.map_err(Refusal::unavailable)? {
            row.done = Some(format!("a note is in its place, what is left is in {}", path.display()));
            tell(report, row)?;
        }
        Ok(())
    }

    fn set_aside_queued(
        &self,
        quarantine: &Quarantine,
        found: &DamagedQueued,
        report: Report<'_>,
    ) -> Result<(), Refusal> {
        let mut row = self.queued_row(found);
        let id = found.message.id;
        let text = format!("{}\nset aside: {}\n", row.text, Rfc5322(clock::timestamp()));
        let path = quarantine
            .keep_message(&format!("{id}-queued.eml"), &self.data().log_dir(id.log), &found.message, &text)
            .map_err(Refusal::unavailable)?;
        let gone = self.ask(self.driver_of(id.log), |answer| {
            Request::Damage(damage::Request::SetAsideQueued(id, answer))
        });
        if gone.map_err(Refusal::unavailable)? {
            let what = match found.sender {
                Some(_) => "it is returned to its sender",
                None => "it is taken out of the queue, and nobody can be told",
            };
            row.done = Some(format!("{what}; what is left is in {}", path.display()));
            tell(report, row)?;
        }
        Ok(())
    }

    /// Makes a log do without segments that are damaged.
    fn evict(
        &self,
        quarantine: &Quarantine,
        (log, segments): (LogId, BTreeSet<u32>),
        report: Report<'_>,
    ) -> Result<(), Refusal> {
        let dir = self.data().log_dir(log);
        let there: BTreeSet<u32> = dir.segments().map_err(Refusal::unavailable)?.into_iter().collect();
        for &number in segments.intersection(&there) {
            let words = format!(
                "segment {number} of log {} as it was when it was found damaged; what was good in it is elsewhere now\n\
                 set aside: {}\n",
                log.0,
                Rfc5322(clock::timestamp())
            );
            quarantine.keep_segment(&dir, number, &words).map_err(Refusal::unavailable)?;
        }
        let evict = segments.clone();
        let cleaned = self.ask(self.driver_of(log), |answer| Request::Evict(log, evict, answer));
        cleaned.map_err(Refusal::unavailable)?;
        let left: BTreeSet<u32> = dir.segments().map_err(Refusal::unavailable)?.into_iter().collect();
        for number in segments {
            let file = format!("log/{:02}/{number:010}.seg", log.0);
            let mut row = DamageRow::of(DamageKind::Records, format!("{file} is damaged"));
            row.done = match left.contains(&number) {
                false => Some("the log does without it; it is in the quarantine".to_owned()),
                true => None,
            };
            row.file = Some(file);
            tell(report, row)?;
        }
        Ok(())
    }

    /// What stands in the place of a message that is gone.
    fn note(&self, found: &InMailbox, kept: &str) -> Vec<u8> {
        let config = self.config();
        let host = &config.hostname;
        let DamagedMessage { uid, message, internal, header, .. } = &found.message;
        let mut text = format!(
            "From: Mail system <postmaster@{host}>\r\nTo: <{}>\r\nDate: {}\r\n\
             Message-ID: <damaged.{}.{uid}@{host}>\r\nSubject: A message that was here is damaged\r\n\
             Auto-Submitted: auto-generated\r\nMIME-Version: 1.0\r\n\
             Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n\
             The disk of this mail server has damaged a message of this mailbox, and it\r\n\
             could not be read any more. This note is in its place.\r\n\r\n",
            found.address,
            Rfc5322(*internal),
            message.id,
        );
        for name in ["From", "To", "Subject", "Date", "Message-ID"] {
            if let Some(value) = field(header, name) {
                let _ = write!(text, "  {name}: {value}\r\n");
            }
        }
        let _ = write!(
            text,
            "\r\nIts sender may be able to send it again. What is left of it is kept at the\r\n\
             server; whoever runs it finds it under this name:\r\n\r\n  {kept}\r\n"
        );
        text.into_bytes()
    }
}

fn tell(report: Report<'_>, row: DamageRow) -> Result<(), Refusal> {
    report(Finding::Damage(Box::new(row))).map_err(Refusal::unavailable)
}

/// Records that no mail is known to need.
fn stretch_row(log: LogId, damage: &Damage) -> DamageRow {
    let Damage { segment, offset, first, last, .. } = damage;
    let file = format!("log/{:02}/{segment:010}.seg", log.0);
    let text = format!(
        "log {}: records {} to {} are damaged, and no mail that is there; {file}, byte {offset}",
        log.0, first.0, last.0
    );
    DamageRow {
        log: Some(log.0),
        file: Some(file),
        offset: Some(*offset),
        ..DamageRow::of(DamageKind::Records, text)
    }
}

/// What goes beside what is left of a message.
fn words(row: &DamageRow, found: &InMailbox) -> String {
    let mut text = format!("{}\nreceived: {}\n", row.text, Rfc5322(found.message.internal));
    let _ = writeln!(text, "set aside: {}\n", Rfc5322(clock::timestamp()));
    text.push_str(&String::from_utf8_lossy(&found.message.header));
    text
}

/// A field of a header as a person reads it.
fn field(header: &[u8], name: &str) -> Option<String> {
    let value = Header::whole(header).find(name)?;
    let value = unfold(value);
    let text = encoded_word::decode(trim(&value));
    let words = text.chars().map(|letter| if letter.is_control() { ' ' } else { letter });
    Some(words.take(FIELD_CHARS_MAX).collect())
}

impl From<DiskError> for Refusal {
    fn from(error: DiskError) -> Self {
        Self::unavailable(error)
    }
}

#[cfg(test)]
mod tests {
    use super::field;

    #[test]
    fn fields_are_one_harmless_line() {
        let header = b"Subject: =?utf-8?q?caf=C3=A9?=\r\n and\x07 more\r\nFrom: a@b\r\n\r\n";
        assert_eq!(field(header, "subject").as_deref(), Some("caf\u{e9} and  more"));
        assert_eq!(field(header, "from").as_deref(), Some("a@b"));
        assert_eq!(field(header, "message-id"), None);
        assert_eq!(field(b"", "from"), None);
    }
}
