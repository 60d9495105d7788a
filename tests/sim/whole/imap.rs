//! Clients that read, sort and throw away, by IMAP and by POP3.

use std::collections::BTreeSet;
use std::io;
use std::rc::Rc;

use super::ledger::{Ledger, Uid};
use super::server::{PASSWORD, address};
use super::smtp;
use crate::world::net::Lines;
use crate::world::{Sim, sim};

const INBOX: &str = "INBOX";
const OTHER: &str = "Other";
const FLAGS: [&str; 4] = ["\\Seen", "\\Flagged", "\\Answered", "$k"];

/// A session that has logged in.
pub struct Imap {
    lines: Lines,
    account: String,
    tags: u32,
    selected: Option<(String, u32)>,
}

/// What a command was answered with.
pub struct Answer {
    pub untagged: Vec<String>,
    pub tagged: String,
    /// Literals, in their order.
    pub literals: Vec<Vec<u8>>,
}

/// One message as it was listed.
struct Row {
    uid: u32,
    flags: BTreeSet<String>,
    modseq: u64,
    identity: Option<String>,
}

/// Reads and changes an account's mail until the ledger is closed.
pub async fn read(account: &'static str, ledger: Rc<Ledger>) {
    while !ledger.is_over.get() {
        let sim = sim();
        ledger.busy.set(ledger.busy.get() + 1);
        let _ = session(&sim, &ledger, account).await;
        ledger.busy.set(ledger.busy.get() - 1);
        sim.sleep_us(sim.below(1_500_000)).await;
    }
}

async fn session(sim: &Sim, ledger: &Ledger, account: &str) -> io::Result<()> {
    let mut imap = Imap::log_in(account).await?;
    if sim.one_in(4) {
        imap.command(&format!("CREATE {OTHER}")).await?;
    }
    let mailbox = if sim.one_in(3) { OTHER } else { INBOX };
    let Some(uids) = imap.open(ledger, mailbox).await? else {
        return imap.log_out().await;
    };
    for _ in 0..1 + sim.below(4) {
        if ledger.is_over.get() {
            break;
        }
        imap.change(sim, ledger, &uids).await?;
        sim.sleep_us(sim.below(50_000)).await;
    }
    imap.log_out().await
}

impl Imap {
    pub async fn log_in(account: &str) -> io::Result<Self> {
        let lines = Lines::connect(address(143)).await?;
        let mut imap = Self { lines, account: account.to_owned(), tags: 0, selected: None };
        imap.lines.line().await?;
        let answer = imap.command(&format!("LOGIN {account}@here.test {PASSWORD}")).await?;
        match answer.is_ok() {
            true => Ok(imap),
            false => Err(io::ErrorKind::ConnectionRefused.into()),
        }
    }

    pub async fn log_out(mut self) -> io::Result<()> {
        self.command("LOGOUT").await.map(drop)
    }

    pub async fn command(&mut self, command: &str) -> io::Result<Answer> {
        self.tags += 1;
        let tag = format!("a{}", self.tags);
        self.lines.send(format!("{tag} {command}\r\n")).await?;
        self.answer(&tag).await
    }

    async fn answer(&mut self, tag: &str) -> io::Result<Answer> {
        let mut answer = Answer { untagged: Vec::new(), tagged: String::new(), literals: Vec::new() };
        loop {
            let mut line = self.lines.line().await?;
            while let Some(length) = literal_length(&line) {
                answer.literals.push(self.lines.octets(length).await?);
                line.push_str(&self.lines.line().await?);
            }
            if line.starts_with("* BYE") && !self.account.is_empty() {
                answer.untagged.push(line);
            } else if let Some(rest) = line.strip_prefix(&format!("{tag} ")) {
                answer.tagged = rest.to_owned();
                let is_known = ["OK", "NO", "BAD"].iter().any(|word| rest.starts_with(word));
                assert!(is_known && !rest.starts_with("BAD"), "[replies] {line}");
                let is_coded = rest.starts_with("OK") || rest.starts_with("NO [");
                rule!("a refusal says why", is_coded, "{line}");
                return Ok(answer);
            } else {
                answer.untagged.push(line);
            }
        }
    }

    /// Opens a mailbox and lists all of it; `None` if there is none of that name.
    pub async fn open(&mut self, ledger: &Ledger, mailbox: &str) -> io::Result<Option<Vec<u32>>> {
        let known: BTreeSet<Uid> = ledger.with(&self.account, |mail| mail.seen.keys().cloned().collect());
        let answer = self.command(&format!("SELECT {mailbox} (CONDSTORE)")).await?;
        if !answer.is_ok() {
            let was_seen = known.iter().any(|uid| uid.mailbox == mailbox);
            let is_away = answer.tagged.contains("[UNAVAILABLE]") || answer.tagged.contains("[LIMIT]");
            rule!(
                "a mailbox stays",
                !was_seen || is_away || ledger.is_rotten.get(),
                "{mailbox}: {}",
                answer.tagged
            );
            return Ok(None);
        }
        let validity = answer.number("[UIDVALIDITY ");
        let heights = (answer.number("[UIDNEXT ") as u32, answer.number("[HIGHESTMODSEQ "));
        ledger.opened(&self.account, mailbox, validity as u32, heights);
        self.selected = Some((mailbox.to_owned(), validity as u32));
        let rows = self.list().await?;
        let listed: BTreeSet<Uid> = rows.iter().map(|row| self.at(row.uid)).collect();
        for row in &rows {
            let at = self.at(row.uid);
            if let Some(identity) = &row.identity {
                ledger.observe(&self.account, &at, identity);
            }
            ledger.saw_flags(&self.account, &at, &row.flags, row.modseq);
        }
        ledger.listed(&self.account, mailbox, &known, &listed);
        Ok(Some(rows.iter().map(|row| row.uid).collect()))
    }

    fn at(&self, uid: u32) -> Uid {
        let (mailbox, validity) = self.selected.clone().expect("a mailbox is open");
        Uid { mailbox, validity, uid }
    }

    async fn list(&mut self) -> io::Result<Vec<Row>> {
        let wanted = "UID FETCH 1:* (FLAGS MODSEQ BODY.PEEK[HEADER.FIELDS (X-TOKEN MESSAGE-ID)])";
        let answer = self.command(wanted).await?;
        let mut literals = answer.literals.iter();
        let mut rows = Vec::new();
        for line in answer.untagged.iter().filter(|line| line.contains(" FETCH ")) {
            let header = line.contains("BODY[").then(|| literals.next()).flatten();
            let uid =
                number_behind(line, "UID ").unwrap_or_else(|| panic!("[replies] no UID: {line}")) as u32;
            let flags = between(line, "FLAGS (", ")");
            let flags = flags.split(' ').filter(|flag| !flag.is_empty() && *flag != "\\Recent");
            rows.push(Row {
                uid,
                flags: flags.map(str::to_owned).collect(),
                modseq: number_behind(line, "MODSEQ (").unwrap_or(0),
                identity: header.map(|header| identity(header)),
            });
        }
        Ok(rows)
    }

    /// Reads a message and compares it.
    pub async fn fetch(&mut self, ledger: &Ledger, uid: u32) -> io::Result<()> {
        let answer = self.command(&format!("UID FETCH {uid} BODY.PEEK[]")).await?;
        let Some(bytes) = answer.literals.first() else {
            let at = self.at(uid);
            let is_gone =
                ledger.with(&self.account, |mail| mail.gone.contains(&at) || mail.doubtful.contains(&at));
            rule!(
                "what is there can be read",
                is_gone || ledger.is_rotten.get(),
                "{} {at:?}: {} {:?}",
                self.account,
                answer.tagged,
                answer.untagged
            );
            return Ok(());
        };
        let header_end = bytes.windows(4).position(|four| four == b"\r\n\r\n").unwrap_or(bytes.len());
        let identity = identity(&bytes[..header_end]);
        ledger.observe(&self.account, &self.at(uid), &identity);
        ledger.read(&self.account, &identity, bytes);
        Ok(())
    }

    async fn change(&mut self, sim: &Sim, ledger: &Ledger, uids: &[u32]) -> io::Result<()> {
        if uids.is_empty() || sim.one_in(5) {
            return self.append(sim, ledger).await;
        }
        let uid = *sim.pick(uids);
        let is_inbox = self.selected.as_ref().is_some_and(|(mailbox, _)| mailbox == INBOX);
        match sim.below(10) {
            0..4 => self.store(sim, ledger, uid).await,
            4 if is_inbox => self.transfer(ledger, uid, "COPY").await,
            5 if is_inbox => self.transfer(ledger, uid, "MOVE").await,
            6 | 7 => self.expunge(ledger, uid).await,
            _ => self.fetch(ledger, uid).await,
        }
    }

    async fn store(&mut self, sim: &Sim, ledger: &Ledger, uid: u32) -> io::Result<()> {
        let flags: BTreeSet<String> =
            FLAGS.iter().filter(|_| sim.one_in(2)).map(|flag| (*flag).to_owned()).collect();
        let at = self.at(uid);
        ledger.with(&self.account, |mail| {
            mail.flags.remove(&at);
            mail.unsure.insert(at.clone());
        });
        let words = flags.iter().cloned().collect::<Vec<_>>().join(" ");
        let answer = self.command(&format!("UID STORE {uid} FLAGS.SILENT ({words})")).await?;
        if answer.is_ok() {
            ledger.acknowledge();
            ledger.with(&self.account, |mail| {
                mail.unsure.remove(&at);
                mail.flags.insert(at, flags);
            });
        }
        Ok(())
    }

    async fn expunge(&mut self, ledger: &Ledger, uid: u32) -> io::Result<()> {
        let at = self.at(uid);
        // What a notification says must be known before it goes.
        self.fetch(ledger, uid).await?;
        ledger.with(&self.account, |mail| {
            mail.flags.remove(&at);
            mail.unsure.insert(at.clone());
            mail.doubtful.insert(at.clone());
        });
        let stored = self.command(&format!("UID STORE {uid} +FLAGS.SILENT (\\Deleted)")).await?;
        let answer = self.command(&format!("UID EXPUNGE {uid}")).await?;
        if stored.is_ok() && answer.is_ok() {
            self.gone(ledger, at);
        }
        Ok(())
    }

    fn gone(&self, ledger: &Ledger, at: Uid) {
        ledger.acknowledge();
        ledger.with(&self.account, |mail| {
            mail.doubtful.remove(&at);
            mail.gone.insert(at);
        });
    }

    async fn transfer(&mut self, ledger: &Ledger, uid: u32, how: &str) -> io::Result<()> {
        let at = self.at(uid);
        if how == "MOVE" {
            ledger.with(&self.account, |mail| mail.doubtful.insert(at.clone()));
        }
        let answer = self.command(&format!("UID {how} {uid} {OTHER}")).await?;
        if !answer.is_ok() {
            return Ok(());
        }
        let told = answer.untagged.iter().chain([&answer.tagged]).find(|line| line.contains("[COPYUID "));
        if let Some(told) = told {
            let mut words = between(told, "[COPYUID ", "]").split(' ');
            let validity = words.next().and_then(|word| word.parse().ok()).unwrap_or(0);
            let copy = words.nth(1).and_then(|word| word.parse().ok()).unwrap_or(0);
            let identity = ledger.with(&self.account, |mail| mail.seen.get(&at).cloned());
            let to = Uid { mailbox: OTHER.to_owned(), validity, uid: copy };
            if let Some(identity) = identity {
                ledger.observe(&self.account, &to, &identity);
            }
            if how == "MOVE" {
                self.gone(ledger, at);
            }
        }
        Ok(())
    }

    async fn append(&mut self, sim: &Sim, ledger: &Ledger) -> io::Result<()> {
        let token = ledger.token();
        let bytes = smtp::message(sim, &token);
        let recipient = format!("{}@here.test", self.account);
        ledger.send(&token, &[recipient], bytes.clone());
        ledger.with(&self.account, |mail| mail.appended.insert(token.clone()));
        self.tags += 1;
        let tag = format!("a{}", self.tags);
        self.lines.send(format!("{tag} APPEND {INBOX} (\\Seen) {{{}}}\r\n", bytes.len())).await?;
        let line = self.lines.line().await?;
        if !line.starts_with('+') {
            return Ok(());
        }
        let mut burst = bytes;
        burst.extend_from_slice(b"\r\n");
        self.lines.send(burst).await?;
        let answer = self.answer(&tag).await?;
        if answer.is_ok() {
            ledger.taken(&token);
            let mut words = between(&answer.tagged, "[APPENDUID ", "]").split(' ');
            let mut word = || words.next().and_then(|word| word.parse().ok()).unwrap_or(0);
            let at = Uid { mailbox: INBOX.to_owned(), validity: word(), uid: word() };
            ledger.observe(&self.account, &at, &token);
        }
        Ok(())
    }
}

impl Answer {
    pub fn is_ok(&self) -> bool {
        self.tagged.starts_with("OK")
    }

    fn number(&self, behind: &str) -> u64 {
        let found = self.untagged.iter().chain([&self.tagged]).find_map(|line| number_behind(line, behind));
        found.unwrap_or(0)
    }
}

/// Deletes the first message of an INBOX, if there is one.
pub async fn delete_one(account: &str, ledger: &Ledger) -> io::Result<()> {
    let mut imap = Imap::log_in(account).await?;
    if let Some(uids) = imap.open(ledger, INBOX).await?
        && let Some(uid) = uids.first()
    {
        let at = imap.at(*uid);
        imap.expunge(ledger, *uid).await?;
        let is_gone = ledger.with(account, |mail| mail.gone.contains(&at));
        rule!("a full disk can be emptied", is_gone, "{account} {at:?} cannot be deleted");
    }
    imap.log_out().await
}

/// Empties a maildrop now and then, until the ledger is closed.
pub async fn pop(account: &'static str, ledger: Rc<Ledger>) {
    while !ledger.is_over.get() {
        let sim = sim();
        ledger.busy.set(ledger.busy.get() + 1);
        let _ = pop_session(&sim, &ledger, account).await;
        ledger.busy.set(ledger.busy.get() - 1);
        sim.sleep_us(sim.below(3_000_000)).await;
    }
}

async fn pop_session(sim: &Sim, ledger: &Ledger, account: &str) -> io::Result<()> {
    let mut lines = Lines::connect(address(110)).await?;
    lines.line().await?;
    for command in
        [format!("USER {account}@here.test\r\n"), format!("PASS {PASSWORD}\r\n"), "UIDL\r\n".to_owned()]
    {
        lines.send(command).await?;
        if !lines.line().await?.starts_with("+OK") {
            return Ok(());
        }
    }
    let mut rows = Vec::new();
    loop {
        let line = lines.line().await?;
        let Some((number, id)) = line.split_once(' ') else {
            break;
        };
        rows.push((number.to_owned(), uid_of(id)));
    }
    let mut doomed = Vec::new();
    for (number, at) in &rows {
        if sim.one_in(2) {
            continue;
        }
        lines.send(format!("RETR {number}\r\n")).await?;
        if !lines.line().await?.starts_with("+OK") {
            rule!("what is there can be read", ledger.is_rotten.get(), "{account} {at:?} by POP3");
            continue;
        }
        let mut bytes = Vec::new();
        loop {
            let line = lines.line().await?;
            if line == "." {
                break;
            }
            bytes.extend_from_slice(line.strip_prefix('.').unwrap_or(&line).as_bytes());
            bytes.extend_from_slice(b"\r\n");
        }
        let header_end = bytes.windows(4).position(|four| four == b"\r\n\r\n").unwrap_or(bytes.len());
        let identity = identity(&bytes[..header_end]);
        ledger.observe(account, at, &identity);
        ledger.read(account, &identity, &bytes);
        if sim.one_in(2) {
            lines.send(format!("DELE {number}\r\n")).await?;
            lines.line().await?;
            doomed.push(at.clone());
        }
    }
    ledger.with(account, |mail| mail.doubtful.extend(doomed.iter().cloned()));
    lines.send("QUIT\r\n").await?;
    if lines.line().await?.starts_with("+OK") {
        ledger.acknowledge();
        ledger.with(account, |mail| {
            for at in doomed {
                mail.doubtful.remove(&at);
                mail.gone.insert(at);
            }
        });
    }
    Ok(())
}

/// UIDVALIDITY and UID are in the name that POP3 gives a message.
fn uid_of(id: &str) -> Uid {
    let number = |range: std::ops::Range<usize>| {
        let digits = id.get(range).and_then(|digits| u32::from_str_radix(digits, 16).ok());
        digits.unwrap_or_else(|| panic!("[replies] UIDL {id}"))
    };
    Uid { mailbox: INBOX.to_owned(), validity: number(0..8), uid: number(8..16) }
}

/// What a message is: its token, or the Message-ID of what the server wrote itself.
fn identity(header: &[u8]) -> String {
    if let Some(token) = smtp::token_of(header) {
        return token;
    }
    let text = String::from_utf8_lossy(header);
    let id = text.lines().find(|line| line.to_ascii_lowercase().starts_with("message-id:"));
    id.unwrap_or("no name").to_owned()
}

fn literal_length(line: &str) -> Option<usize> {
    line.strip_suffix('}')?.rsplit_once('{')?.1.parse().ok()
}

fn number_behind(line: &str, word: &str) -> Option<u64> {
    let rest = &line[line.find(word)? + word.len()..];
    let end = rest.find(|char: char| !char.is_ascii_digit()).unwrap_or(rest.len());
    rest[..end].parse().ok()
}

fn between<'a>(line: &'a str, from: &str, to: &str) -> &'a str {
    let Some(start) = line.find(from).map(|at| at + from.len()) else {
        return "";
    };
    let rest = &line[start..];
    &rest[..rest.find(to).unwrap_or(rest.len())]
}
