//! Holds a server that was started again against the ledger: through IMAP, in maildirs, and at the receiving end.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use crate::cast::{ELSEWHERE, RELAYERS, SENDERS, SHARED, WORKERS, is_whole, name, number};
use crate::client::{Imap, Response};
use crate::ledger::{Copy, Expected, Flags, Folder, Holding, Key, Ledger, Place};
use crate::remote::Remote;
use crate::server::{IMAP, PASSWORD};
use crate::servers::MailServer;

/// Mail that was on its way between shards, or to elsewhere, has arrived by then.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// So often, a mailbox is asked for again that could not be read.
const TRIES_MAX: usize = 10;

const DETAILS_MAX: usize = 20;

/// What was promised and is not so.
#[derive(Clone, Default)]
pub struct Findings {
    /// Times that a server or file system did not come up.
    pub dead: usize,
    pub lost: usize,
    /// Of the lost, those that were there after the server's operator had its indexes rebuilt.
    pub mended: usize,
    /// Expunged, or never sent, and there.
    pub returned: usize,
    pub doubled: usize,
    pub corrupted: usize,
    pub flags: usize,
    pub uids: usize,
    /// Times that a mailbox could not be read at first.
    pub refused: usize,
    /// Sent on once more, because the outcome was not durable. Allowed.
    pub repeated: usize,
    pub details: Vec<String>,
}

/// One copy of a message in a mailbox.
#[derive(Clone, Debug)]
pub struct Found {
    pub place: Option<Place>,
    pub flags: Flags,
    is_whole: bool,
}

/// What an account holds.
#[derive(Clone, Default)]
pub struct Seen {
    pub copies: BTreeMap<Key, Vec<Found>>,
    /// UIDVALIDITY and the highest UID that may have been given out.
    pub given: BTreeMap<Folder, Place>,
    /// Messages that nobody sent.
    strangers: usize,
}

/// What an audit looks at, and from when.
pub struct Audit<'a> {
    pub server: &'a dyn MailServer,
    pub ledger: &'a Ledger,
    /// When the server died.
    pub until: u64,
    pub remote: &'a Remote,
    /// Messages that had arrived elsewhere by then.
    pub arrived: &'a BTreeSet<u64>,
    /// How many the remote had when the server was started again.
    pub arrivals_before: usize,
    /// How long mail may be on its way.
    pub patience: Duration,
}

impl Audit<'_> {
    /// All of it; what the accounts hold as well.
    pub fn run(&self) -> (Findings, BTreeMap<usize, Seen>) {
        let mut findings = Findings::default();
        let mut all = BTreeMap::new();
        let workers = WORKERS.into_iter().filter(|_| self.server.kind().has_mailboxes());
        for account in SHARED.into_iter().chain(workers) {
            let (found, seen) = self.account(account);
            findings.add(found);
            all.insert(account, seen);
        }
        if self.server.kind().relays() {
            findings.add(self.relayed());
        }
        (findings, all)
    }

    /// What is not as promised in an account, and what is there.
    fn account(&self, account: usize) -> (Findings, Seen) {
        let expected = match SHARED.contains(&account) {
            true => self.ledger.expected_shared(account, &SENDERS, self.until),
            false => self.ledger.expected(account, self.until),
        };
        let begun = Instant::now();
        let mut refused = Findings::default();
        loop {
            let seen = match self.seen(account) {
                Err(reply) if refused.refused < TRIES_MAX => {
                    let log = self.server.log();
                    let why: Vec<&str> = log.lines().filter(|line| line.contains("Error:")).collect();
                    let why = why.last().unwrap_or(&"");
                    refused.note(|counts| &mut counts.refused, format!("{}: {reply} {why}", name(account)));
                    thread::sleep(Duration::from_millis(200));
                    continue;
                }
                // What cannot be read is lost.
                Err(_) => Seen::default(),
                Ok(seen) => seen,
            };
            let mut findings = expected.compare(&seen, &name(account));
            findings.add(refused.clone());
            let may_still_come = SHARED.contains(&account) && begun.elapsed() < self.patience;
            if findings.lost > 0 && !may_still_come && self.server.mend(account) {
                let mended = self.seen(account).map(|seen| expected.compare(&seen, &name(account)).lost);
                findings.mended = findings.lost - mended.unwrap_or(findings.lost).min(findings.lost);
            }
            if findings.lost == 0 || !may_still_come {
                return (findings, seen);
            }
            thread::sleep(Duration::from_millis(50));
        }
    }

    fn seen(&self, account: usize) -> Result<Seen, String> {
        match self.server.maildir(account) {
            Some(folder) => Ok(Seen::in_maildir(&folder)),
            None => Seen::by_imap(self.server, account),
        }
    }

    /// Messages to elsewhere: each has arrived, whole.
    fn relayed(&self) -> Findings {
        let relayed = self.ledger.relayed(&RELAYERS, self.until);
        let begun = Instant::now();
        loop {
            let mut findings = self.check_relayed(&relayed);
            if findings.lost == 0 || begun.elapsed() > self.patience {
                if findings.lost > 0 {
                    findings.details.push(format!("log:\n{}", self.server.log()));
                }
                return findings;
            }
            thread::sleep(Duration::from_millis(20));
        }
    }

    fn check_relayed(&self, relayed: &BTreeMap<u64, bool>) -> Findings {
        let mut findings = Findings::default();
        let mut arrived = self.arrived.clone();
        let remote = self.remote.ledger();
        for arrival in &remote.arrivals[self.arrivals_before..] {
            let Some(number) = number(&arrival.content) else {
                findings
                    .note(|counts| &mut counts.corrupted, "a message arrived that nobody sent".to_owned());
                continue;
            };
            if !is_whole(&arrival.content, number) || !arrival.has(&format!("to{number}@{ELSEWHERE}")) {
                findings.note(|counts| &mut counts.corrupted, format!("{number} arrived damaged"));
            }
            if !arrived.insert(number) {
                findings.repeated += 1;
            }
            if !relayed.contains_key(&number) {
                findings.note(|counts| &mut counts.returned, format!("{number} was not sent then"));
            }
        }
        for number in relayed.iter().filter(|(_, is_done)| **is_done).map(|(number, _)| number) {
            if !arrived.contains(number) {
                findings.note(|counts| &mut counts.lost, format!("{number} did not arrive elsewhere"));
            }
        }
        findings
    }
}

impl Expected {
    /// Against what is sure or what may be, whichever is nearer.
    fn compare(&self, seen: &Seen, who: &str) -> Findings {
        let with_sure = self.compare_to(&self.sure, seen, who);
        let with_perhaps = self.perhaps.as_ref().map(|perhaps| self.compare_to(perhaps, seen, who));
        match with_perhaps {
            Some(other) if other.broken() < with_sure.broken() => other,
            _ => with_sure,
        }
    }

    fn compare_to(&self, holding: &Holding, seen: &Seen, who: &str) -> Findings {
        let mut findings = Findings::default();
        for (key, copy) in &holding.copies {
            match seen.copies.get(key) {
                None => findings.note(|counts| &mut counts.lost, format!("{who} lacks {key:?}")),
                Some(found) => findings.check(*copy, found, &format!("{who} {key:?}")),
            }
        }
        for (key, found) in &seen.copies {
            if holding.copies.contains_key(key) {
                continue;
            }
            let is_optional = key.0 == Folder::Inbox && self.optional.contains(&key.1);
            match is_optional {
                true => findings.check(Copy::default(), found, &format!("{who} {key:?}")),
                false => {
                    findings.note(|counts| &mut counts.returned, format!("{who} has {key:?}: {found:?}"))
                }
            }
        }
        for (folder, (validity, uid)) in &holding.highest {
            let given = seen.given.get(folder).copied().unwrap_or_default();
            if given.0 != *validity || given.1 < *uid {
                let text = format!("{who} {folder:?}: {given:?} after {:?}", (validity, uid));
                findings.note(|counts| &mut counts.uids, text);
            }
        }
        for _ in 0..seen.strangers {
            findings.note(|counts| &mut counts.corrupted, format!("{who} has a message that nobody sent"));
        }
        findings
    }
}

impl Seen {
    fn by_imap(server: &dyn MailServer, account: usize) -> Result<Self, String> {
        let mut imap = Imap::login(server.address(), IMAP, &name(account), PASSWORD)
            .unwrap_or_else(|error| panic!("IMAP login: {error}; log:\n{}", server.log()));
        let mut ask = |command: &str| {
            let replies = imap.command(command).map_err(|error| format!("{command}: {error}"))?;
            let last = &replies[replies.len() - 1].text;
            if last.contains(" OK") { Ok(replies) } else { Err(format!("{command}: {last}")) }
        };
        let mut seen = Self::default();
        for folder in Folder::ALL {
            let selected = ask(&format!("SELECT {}", folder.name()))?;
            let value = |word: &str| selected.iter().find_map(|response| value_after(&response.text, word));
            let validity = value("[UIDVALIDITY ").expect("SELECT tells UIDVALIDITY");
            let next = value("[UIDNEXT ").expect("SELECT tells UIDNEXT");
            seen.given.insert(folder, (validity, next - 1));
            if selected.iter().any(|response| response.text == "* 0 EXISTS") {
                continue;
            }
            for response in ask("FETCH 1:* (UID FLAGS BODY.PEEK[])")? {
                seen.add(folder, validity, &response);
            }
        }
        Ok(seen)
    }

    fn add(&mut self, folder: Folder, validity: u32, fetched: &Response) {
        let [body] = fetched.literals.as_slice() else {
            return;
        };
        let Some(number) = number(body) else {
            self.strangers += 1;
            return;
        };
        let place = value_after(&fetched.text, "UID ").map(|uid| (validity, uid));
        let flags = Flags {
            is_kept: fetched.text.contains("\\Flagged") && fetched.text.contains("Kept"),
            is_deleted: fetched.text.contains("\\Deleted"),
        };
        let found = Found { place, flags, is_whole: is_whole(body, number) };
        self.copies.entry((folder, number)).or_default().push(found);
    }

    fn in_maildir(folder: &Path) -> Self {
        let mut seen = Self::default();
        for entry in fs::read_dir(folder.join("new")).into_iter().flatten().flatten() {
            let text = fs::read(entry.path()).expect("a file of the maildir can be read");
            let text = with_crlf(&text);
            let Some(number) = number(&text) else {
                seen.strangers += 1;
                continue;
            };
            let found = Found { place: None, flags: Flags::default(), is_whole: is_whole(&text, number) };
            seen.copies.entry((Folder::Inbox, number)).or_default().push(found);
        }
        seen
    }
}

impl Findings {
    /// How much is not as promised.
    pub fn broken(&self) -> usize {
        self.dead
            + self.lost
            + self.returned
            + self.doubled
            + self.corrupted
            + self.flags
            + self.uids
            + self.refused
    }

    pub fn add(&mut self, other: Self) {
        self.dead += other.dead;
        self.lost += other.lost;
        self.mended += other.mended;
        self.returned += other.returned;
        self.doubled += other.doubled;
        self.corrupted += other.corrupted;
        self.flags += other.flags;
        self.uids += other.uids;
        self.refused += other.refused;
        self.repeated += other.repeated;
        self.details.extend(other.details);
        self.details.truncate(DETAILS_MAX);
    }

    pub fn note(&mut self, count: impl Fn(&mut Self) -> &mut usize, detail: String) {
        *count(self) += 1;
        if self.details.len() < DETAILS_MAX {
            self.details.push(detail);
        }
    }

    /// The copies of one message that should be there once.
    fn check(&mut self, copy: Copy, found: &[Found], what: &str) {
        for other in &found[1..] {
            self.note(|counts| &mut counts.doubled, format!("{what} is there again: {other:?}"));
        }
        let first = &found[0];
        if !first.is_whole {
            self.note(|counts| &mut counts.corrupted, format!("{what} is damaged"));
        }
        if copy.place.is_some() && first.place.is_some() && copy.place != first.place {
            self.note(
                |counts| &mut counts.uids,
                format!("{what} is {:?}, was {:?}", first.place, copy.place),
            );
        }
        if copy.flags != first.flags {
            self.note(
                |counts| &mut counts.flags,
                format!("{what}: {:?}, were {:?}", first.flags, copy.flags),
            );
        }
    }
}

impl fmt::Display for Findings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { dead, lost, mended, returned, doubled, corrupted, flags, uids, refused, repeated, .. } =
            self;
        write!(
            f,
            "{dead} not started, {lost} lost ({mended} mended), {returned} came back, {doubled} doubled, \
             {corrupted} damaged, {flags} without their flags, {uids} with another UID, {refused} mailboxes not \
             readable at first; {repeated} sent on again"
        )
    }
}

/// The number behind a word.
fn value_after(text: &str, word: &str) -> Option<u32> {
    let rest = text.split(word).nth(1)?;
    rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

fn with_crlf(text: &[u8]) -> Vec<u8> {
    let lines = text.split_inclusive(|byte| *byte == b'\n');
    lines.flat_map(|line| [line.strip_suffix(b"\n").unwrap_or(line), b"\r\n"].concat()).collect()
}
