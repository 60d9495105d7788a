//! The rows: what is compared, with whom, and what ours has to reach.

use std::io;

use crate::compare::accept;
use crate::compare::bench::{Bench, Sizes};
use crate::compare::drive::Connections;
use crate::compare::idle;
use crate::compare::mailbox::{self, Memory, Set};
use crate::compare::pop3;
use crate::compare::relay;
use crate::compare::row::{Measure, Samples};
use crate::compare::server::Server;
use crate::compare::sessions::{self, Handshake, Protocol};
use crate::compare::start::{self, Before};
use crate::compare::written::{self, Way};
use crate::imap::options::Security;

pub struct Row {
    pub name: String,
    pub work: String,
    pub servers: Vec<Server>,
    pub measures: Vec<Measure>,
    /// Peers that cannot do this work, and why.
    pub left_out: Vec<(Server, &'static str)>,
    probe: Probe,
}

/// How a row is measured.
#[derive(Clone, Copy, Debug)]
enum Probe {
    Accept(usize, Connections),
    AcceptHalf,
    Relay(usize),
    Listing(Memory),
    Growth,
    Search(Set),
    Pop3,
    Idle(usize, Security),
    Connect(Protocol, Handshake),
    Logins,
    Start(Before, u64),
    Written(Way, usize),
    Scaling,
}

const RELAYS: [Server; 4] = [Server::Ringpost, Server::Postfix, Server::Exim, Server::OpenSmtpd];
const MAILBOXES: [Server; 3] = [Server::Ringpost, Server::DovecotMaildir, Server::DovecotSdbox];
const OURS: [Server; 1] = [Server::Ringpost];

/// More sessions than this, and a process for each needs more memory than most machines have.
const PROCESSES_MAX: usize = 1000;

/// Why OpenSMTPD is not where many connect at once.
const BACKLOG: &str = "its listener holds five connections that it has not accepted, as compiled in; of 64 at once the \
                       kernel answers the others with SYN cookies and forgets them";

/// Why it is not where TLS is.
const NO_KEY: &str = "Debian's build answers no handshake: its key lives in another process, and OpenSSL 3 signs \
                      with a copy that has none (OpenSMTPD's issue 1171)";

const LARGE: usize = 100 * 1024;

/// In the order of the table.
pub fn all(sizes: &Sizes) -> Vec<Row> {
    let mut rows = Vec::new();
    for &sessions in &sizes.sessions {
        let work = format!("durably accepted, 4 KiB, {sessions} kept connection(s)");
        let probe = Probe::Accept(sessions, Connections::Kept);
        let measures = accept::measures(sessions, Connections::Kept);
        rows.push(Row::new(format!("accept-{sessions}"), work, &RELAYS, probe, measures));
    }
    let work = "durably accepted, 4 KiB, a new connection for each of 64 at a time".to_owned();
    let probe = Probe::Accept(64, Connections::New);
    let measures = accept::measures(64, Connections::New);
    let row = Row::new("accept-new".to_owned(), work, &RELAYS, probe, measures);
    rows.push(row.without(Server::OpenSmtpd, BACKLOG));
    let work = "acknowledged at half of its own rate, on schedule".to_owned();
    let ours_and_postfix = [Server::Ringpost, Server::Postfix];
    let measures = accept::half_measures();
    rows.push(Row::new("accept-half".to_owned(), work, &ours_and_postfix, Probe::AcceptHalf, measures));
    for (name, bytes, words) in [("relay-4k", accept::BYTES, "4 KiB"), ("relay-100k", LARGE, "100 KiB")] {
        let work = format!("relayed through to a sink, {words}");
        rows.push(Row::new(name.to_owned(), work, &RELAYS, Probe::Relay(bytes), relay::measures()));
    }
    rows.extend(mailbox_rows(sizes));
    rows.extend(session_rows(sizes));
    rows.extend(store_rows(sizes));
    rows
}

fn mailbox_rows(sizes: &Sizes) -> Vec<Row> {
    let mut rows = Vec::new();
    for (name, memory, words) in [
        ("list-warm", Memory::Warm, "listed before, in memory"),
        ("list-cold", Memory::Cold, "listed before, on the disk"),
        ("list-first", Memory::NeverListed, "never listed before"),
    ] {
        let work = format!("listing {} messages, {words}", sizes.listed);
        let measures = mailbox::listing_measures(memory);
        rows.push(Row::new(name.to_owned(), work, &MAILBOXES, Probe::Listing(memory), measures));
    }
    let work = "small commands in a growing mailbox".to_owned();
    let measures = mailbox::growth_measures(&sizes.grown);
    rows.push(Row::new("growth".to_owned(), work, &MAILBOXES, Probe::Growth, measures));
    for &(messages, bytes) in &sizes.searched {
        let name = format!("search-{}k", messages.div_ceil(1000));
        let work =
            format!("SEARCH TEXT over {messages} messages of {} KiB, no full-text index", bytes / 1024);
        let probe = Probe::Search(Set { messages, bytes });
        rows.push(Row::new(name, work, &MAILBOXES, probe, mailbox::search_measures()));
    }
    let work = format!("POP3; the large maildrop holds {} messages", sizes.listed);
    rows.push(Row::new("pop3".to_owned(), work, &MAILBOXES, Probe::Pop3, pop3::measures()));
    rows
}

fn session_rows(sizes: &Sizes) -> Vec<Row> {
    let mut rows = Vec::new();
    for &sessions in &sizes.idle {
        for (kind, security) in [("plain", Security::Plain), ("tls", Security::Tls)] {
            let mut servers = vec![Server::Ringpost, Server::DovecotMaildir, Server::DovecotHibernate];
            servers.retain(|server| *server != Server::DovecotMaildir || sessions <= PROCESSES_MAX);
            let work = format!("{sessions} sessions in IDLE, {kind}");
            let probe = Probe::Idle(sessions, security);
            let measures = idle::measures(sessions, security);
            rows.push(Row::new(format!("idle-{kind}-{sessions}"), work, &servers, probe, measures));
        }
    }
    let dovecot = [Server::Ringpost, Server::DovecotMaildir];
    for (protocol, word, servers) in
        [(Protocol::Smtp, "smtp", &RELAYS[..]), (Protocol::Imap, "imap", &dovecot[..])]
    {
        for (handshake, name, words) in [
            (Handshake::None, "connect", "connection, greeting, farewell"),
            (Handshake::Full, "tls-full", "the same with a full TLS handshake"),
            (Handshake::Resumed, "tls-resumed", "the same with a resumed TLS session"),
        ] {
            let work = format!("{}: {words}", word.to_uppercase());
            let measures = sessions::connect_measures(handshake);
            let probe = Probe::Connect(protocol, handshake);
            let row = Row::new(format!("{name}-{word}"), work, servers, probe, measures);
            let is_plain = handshake == Handshake::None;
            rows.push(if is_plain { row } else { row.without(Server::OpenSmtpd, NO_KEY) });
        }
    }
    // Dovecot's cache keeps hashes and hashes all the same; the row says what the cache is worth to each.
    let work = "logins by passwords with the same hash".to_owned();
    let measures = sessions::login_measures();
    rows.push(Row::new("logins".to_owned(), work, &dovecot, Probe::Logins, measures));
    rows
}

fn store_rows(sizes: &Sizes) -> Vec<Row> {
    let mut rows = Vec::new();
    let both = [Server::Ringpost, Server::DovecotMaildir];
    for &stored in &sizes.stored {
        for (name, before, words, servers) in [
            ("clean", Before::Clean, "a clean stop", &both[..]),
            ("unindexed", Before::Unindexed, "deleting all indexes", &OURS[..]),
            // Last, since what it delivers stays in the set.
            ("killed", Before::Killed, "kill -9 amid deliveries", &both[..]),
        ] {
            let work = format!("start after {words}, {} MB of mail, nothing in memory", stored / 1_000_000);
            let name = format!("start-{name}-{}mb", stored / 1_000_000);
            rows.push(Row::new(name, work, servers, Probe::Start(before, stored), start::measures(before)));
        }
    }
    for (name, way, bytes, words, servers) in [
        ("written-relay-4k", Way::Relayed, accept::BYTES, "relayed, 4 KiB", &RELAYS[..]),
        ("written-relay-100k", Way::Relayed, LARGE, "relayed, 100 KiB", &RELAYS[..]),
        ("written-delivered-4k", Way::Delivered, accept::BYTES, "delivered, 4 KiB", &OURS[..]),
    ] {
        let work = format!("what the device writes of mail that is {words}, in rounds of the same load");
        let measures = written::measures(way, bytes);
        rows.push(Row::new(name.to_owned(), work, servers, Probe::Written(way, bytes), measures));
    }
    let work = "CPU a message at equal offered load, two executors against one".to_owned();
    rows.push(Row::new("scaling".to_owned(), work, &OURS, Probe::Scaling, start::scaling_measures()));
    rows
}

impl Row {
    fn new(name: String, work: String, servers: &[Server], probe: Probe, measures: Vec<Measure>) -> Self {
        Self { name, work, servers: servers.to_vec(), measures, left_out: Vec::new(), probe }
    }

    /// Leaves a peer out, and says why.
    fn without(mut self, peer: Server, reason: &'static str) -> Self {
        // A row that it would not be in anyway needs no reason.
        if self.servers.contains(&peer) {
            self.servers.retain(|server| *server != peer);
            self.left_out.push((peer, reason));
        }
        self
    }

    /// Mailboxes that it is measured on, which are made for the first row that wants them and kept up to the last.
    pub fn sets(&self, sizes: &Sizes) -> Vec<Set> {
        let listed = |messages: &usize| Set { messages: *messages, bytes: mailbox::LISTED_BYTES };
        match self.probe {
            Probe::Listing(_) => vec![listed(&sizes.listed)],
            Probe::Growth => sizes.grown.iter().map(listed).collect(),
            Probe::Search(set) => vec![set],
            Probe::Pop3 => pop3::sets(sizes).to_vec(),
            Probe::Idle(..) => vec![idle::set(sizes)],
            Probe::Start(_, stored) => vec![start::set(stored)],
            _ => Vec::new(),
        }
    }

    /// One repetition on one server.
    pub fn measure(&self, bench: &Bench, server: Server) -> io::Result<Samples> {
        match self.probe {
            Probe::Accept(sessions, connections) => accept::measure(bench, server, sessions, connections),
            Probe::AcceptHalf => accept::measure_half(bench, server),
            Probe::Relay(bytes) => relay::measure(bench, server, bytes),
            Probe::Listing(memory) => mailbox::measure_listing(bench, server, memory),
            Probe::Growth => mailbox::measure_growth(bench, server),
            Probe::Search(set) => mailbox::measure_search(bench, server, set),
            Probe::Pop3 => pop3::measure(bench, server),
            Probe::Idle(count, security) => idle::measure(bench, server, count, security),
            Probe::Connect(protocol, handshake) => {
                sessions::measure_connect(bench, server, protocol, handshake)
            }
            Probe::Logins => sessions::measure_logins(bench, server),
            Probe::Start(before, stored) => start::measure(bench, server, before, stored),
            Probe::Written(way, bytes) => written::measure(bench, server, way, bytes),
            Probe::Scaling => start::measure_scaling(bench, server),
        }
    }
}

/// Sets of this row that none of the others wants.
pub fn last_of<'a>(row: &Row, others: impl Iterator<Item = &'a Row>, sizes: &Sizes) -> Vec<Set> {
    let wanted: Vec<Set> = others.flat_map(|other| other.sets(sizes)).collect();
    row.sets(sizes).into_iter().filter(|set| !wanted.contains(set)).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::{Sizes, all, last_of};
    use crate::compare::mailbox::Set;
    use crate::compare::server::Server;

    #[test]
    fn rows_have_names_of_their_own_and_measure_ours() {
        for sizes in [Sizes::full(), Sizes::quick(), Sizes::tiny()] {
            let rows = all(&sizes);
            let names: BTreeSet<&str> = rows.iter().map(|row| row.name.as_str()).collect();
            assert_eq!(names.len(), rows.len());
            for row in &rows {
                assert_eq!(row.servers.first(), Some(&Server::Ringpost), "{}", row.name);
                let measures: BTreeSet<&str> =
                    row.measures.iter().map(|measure| measure.name.as_str()).collect();
                assert_eq!(measures.len(), row.measures.len(), "{}", row.name);
                assert!(row.name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-'), "{}", row.name);
            }
        }
    }

    #[test]
    fn every_set_goes_once_and_with_its_last_row() {
        for sizes in [Sizes::full(), Sizes::quick(), Sizes::tiny()] {
            let rows = all(&sizes);
            let mut gone = Vec::new();
            for (at, row) in rows.iter().enumerate() {
                let sets = row.sets(&sizes);
                assert!(
                    sets.iter().all(|set| !gone.contains(set)),
                    "{} is measured on what is gone",
                    row.name
                );
                gone.extend(last_of(row, rows[at + 1..].iter(), &sizes));
            }
            let all_sets: BTreeSet<_> = rows.iter().flat_map(|row| row.sets(&sizes)).collect();
            assert_eq!(gone.len(), all_sets.len());
            assert_eq!(all_sets, gone.into_iter().collect());
        }
    }

    #[test]
    fn the_largest_sets_are_never_there_together() {
        let sizes = Sizes::full();
        let rows = all(&sizes);
        let mut held: BTreeSet<_> = BTreeSet::new();
        let mut most = 0;
        for (at, row) in rows.iter().enumerate() {
            held.extend(row.sets(&sizes));
            // As a Maildir, which Dovecot's takes in by links, in our log, and as sdbox where that is measured.
            let blocks = |bytes: usize| bytes.div_ceil(4096) * 4096;
            let room = |set: &Set| set.messages * (blocks(set.bytes + 512) + set.bytes);
            most = most.max(held.iter().map(room).sum::<usize>());
            let gone = last_of(row, rows[at + 1..].iter(), &sizes);
            held.retain(|set| !gone.contains(set));
        }
        assert!(most < 25_000_000_000, "{most} bytes");
    }

    #[test]
    fn ten_thousand_processes_are_nobodys_to_start() {
        for row in all(&Sizes::full()).iter().filter(|row| row.name.ends_with("-10000")) {
            assert!(!row.servers.contains(&Server::DovecotMaildir), "{}", row.name);
            assert!(row.servers.contains(&Server::DovecotHibernate), "{}", row.name);
        }
    }
}
