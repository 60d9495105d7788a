//! Servers that relay, the mail that goes through them, and waiting for what comes of it.

use std::fmt::Write;
use std::fs;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::client::{Imap, Smtp, stuffed};
use crate::remote::{Arrival, Remote};
use crate::server::{IMAP, PASSWORD, SMTP, Server};

pub const ALICE: &str = "alice@example.test";
pub const POSTMASTER: &str = "postmaster@example.test";

/// What should happen has happened within this, on a busy machine, too.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A server that relays for this machine, being put together.
pub struct Setup {
    queue: String,
    more: String,
    accounts: Vec<String>,
    environment: Vec<(String, String)>,
    cores: usize,
}

impl Setup {
    /// Two shards, Alice, and retries after a second or two.
    pub fn new() -> Self {
        Self {
            queue: "retry_first_s = 1\nretry_max_s = 1\nretry_jitter_percent = 0\n".to_owned(),
            more: "[relay]\nallow = [\"127.0.0.0/8\"]\n".to_owned(),
            accounts: vec![ALICE.to_owned()],
            environment: Vec::new(),
            cores: 2,
        }
    }

    pub fn account(mut self, name: &str) -> Self {
        self.accounts.push(name.to_owned());
        self
    }

    pub fn cores(self, cores: usize) -> Self {
        Self { cores, ..self }
    }

    /// Other times than a second or two.
    pub fn retries(self, first_s: u32, max_s: u32) -> Self {
        let queue = format!("retry_first_s = {first_s}\nretry_max_s = {max_s}\nretry_jitter_percent = 0\n");
        Self { queue, ..self }
    }

    /// Besides short retries.
    pub fn also_queue(mut self, keys: &str) -> Self {
        self.queue.push_str(keys);
        self
    }

    pub fn more(mut self, sections: &str) -> Self {
        self.more.push_str(sections);
        self
    }

    pub fn environment(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Mail for the domain goes to this remote.
    pub fn route(self, domain: &str, to: &Remote) -> Self {
        self.route_with(domain, to, "")
    }

    /// As [`Setup::route`], with more keys.
    pub fn route_with(self, domain: &str, to: &Remote, keys: &str) -> Self {
        let target = to.target();
        self.more(&format!("\n[[route]]\ndomain = \"{domain}\"\nto = [{target}]\n{keys}"))
    }

    /// Hosts are found through this name server, and may be on this machine.
    pub fn resolver(self, server: SocketAddr) -> Self {
        let port = crate::remote::PORT;
        self.also_queue("private_addresses = \"allow\"\n").more(&format!(
            "\n[dns]\nservers = [\"{server}\"]\ntimeout_s = 2\nattempts = 1\n\n[[route]]\ndomain = \"*\"\n\
             port = {port}\n"
        ))
    }

    pub fn prepare(self) -> Server {
        let Self { queue, more, accounts, environment, cores } = self;
        let mut server = Server::prepare(cores, &format!("\n[queue]\n{queue}\n{more}"));
        environment.iter().for_each(|(name, value)| server.set_environment(name, value));
        accounts.iter().for_each(|account| server.add_account(account));
        server
    }

    pub fn start(self) -> Server {
        let mut server = self.prepare();
        server.start();
        server
    }
}

/// Sends a message from this machine; it is taken.
pub fn send(server: &Server, sender: &str, recipients: &[&str], message: &[u8]) {
    let taken = server.smtp().message(sender, recipients, message).expect("a reply");
    assert!(taken, "the message is taken; log:\n{}", server.log());
}

/// As [`send`], with whole arguments of MAIL and RCPT.
pub fn send_with(server: &Server, mail: &str, recipients: &[&str], message: &[u8]) {
    let mut smtp = server.smtp();
    let mut say = |command: &str| {
        let (code, lines) = smtp.command(command).expect("a reply");
        assert!(code == 250 || code == 354, "{command}: {lines:?}");
    };
    say(&format!("MAIL FROM:{mail}"));
    recipients.iter().for_each(|recipient| say(&format!("RCPT TO:{recipient}")));
    say("DATA");
    smtp.raw(&stuffed(message)).expect("the message goes out");
    let (code, lines) = smtp.reply().expect("a reply");
    assert_eq!(code, 250, "{lines:?}");
}

/// A short message with a subject of its own.
pub fn note(subject: &str) -> Vec<u8> {
    format!(
        "From: <{ALICE}>\r\nTo: somebody\r\nSubject: {subject}\r\nDate: Tue, 24 Nov 2026 10:00:00 +0000\r\n\
         Message-ID: <{}@example.test>\r\n\r\nThe text of {subject}.\r\n",
        subject.replace(' ', ".")
    )
    .into_bytes()
}

/// What is there of a message behind the trace field of this server; there must be one, and no Return-Path.
pub fn behind_trace(content: &[u8]) -> &[u8] {
    assert!(
        content.starts_with(b"Received: "),
        "{}",
        String::from_utf8_lossy(&content[..100.min(content.len())])
    );
    let mut at = 0;
    loop {
        let end = content[at..].iter().position(|byte| *byte == b'\n').expect("a trace field ends");
        at += end + 1;
        if !matches!(content[at], b' ' | b'\t') {
            break;
        }
    }
    let trace = String::from_utf8_lossy(&content[..at]).into_owned();
    assert!(trace.contains("by mail.example.test"), "{trace}");
    &content[at..]
}

/// Waits until there is something.
pub fn wait_for<T>(what: &str, server: &Server, mut look: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(begun.elapsed() < PATIENCE, "{what}: not within {PATIENCE:?}; log:\n{}", server.log());
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Waits until the remote has so many messages.
pub fn wait_for_arrivals(server: &Server, remote: &Remote, count: usize) -> Vec<Arrival> {
    let what = format!("{count} messages at {}", remote.address);
    wait_for(&what, server, || {
        let ledger = remote.ledger();
        (ledger.arrivals.len() >= count).then(|| ledger.arrivals.clone())
    })
}

/// Waits until an INBOX holds so many messages; all of them.
pub fn wait_for_mail(server: &Server, account: &str, count: usize) -> Vec<Vec<u8>> {
    let mut imap = Imap::login(server.address(), IMAP, account, PASSWORD).expect("IMAP login");
    let what = format!("{count} messages for {account}");
    let exists = format!("* {count} EXISTS");
    wait_for(&what, server, || {
        let selected = imap.ok("SELECT INBOX").expect("INBOX opens");
        selected.iter().any(|response| response.text == exists).then_some(())
    });
    imap.bodies().expect("bodies")
}

/// What an INBOX holds, whatever still comes.
pub fn mail_of(server: &Server, account: &str) -> Vec<Vec<u8>> {
    let mut imap = Imap::login(server.address(), IMAP, account, PASSWORD).expect("IMAP login");
    imap.ok("SELECT INBOX").expect("INBOX opens");
    let responses = imap.ok("UID FETCH 1:* BODY.PEEK[]").expect("bodies");
    responses.into_iter().flat_map(|response| response.literals).collect()
}

/// How many messages an INBOX holds.
pub fn count_mail(server: &Server, account: &str) -> usize {
    let mut imap = Imap::login(server.address(), IMAP, account, PASSWORD).expect("IMAP login");
    let selected = imap.ok("SELECT INBOX").expect("INBOX opens");
    let exists = selected
        .iter()
        .find_map(|response| response.text.strip_prefix("* ")?.strip_suffix(" EXISTS")?.parse().ok());
    exists.expect("EXISTS")
}

/// What the queue holds, as `ringpost queue list` shows it.
pub fn queue(server: &Server) -> String {
    server.done(&["queue", "list"])
}

pub fn is_queued(server: &Server, recipient: &str) -> bool {
    queue(server).contains(recipient)
}

/// Waits until nothing is owed to anybody of this domain.
pub fn wait_until_done(server: &Server, domain: &str) {
    wait_for(&format!("mail for {domain} is done"), server, || {
        (!queue(server).contains(&format!("@{domain}"))).then_some(())
    });
}

/// Kilobytes of memory that the server's process has now. Mapped files, which the system takes back, do not count.
pub fn resident_kb(server: &Server) -> usize {
    let status = fs::read_to_string(format!("/proc/{}/status", server.process_id())).expect("it runs");
    let line = status.lines().find(|line| line.starts_with("RssAnon:")).expect("Linux says it");
    line.split_whitespace().nth(1).and_then(|number| number.parse().ok()).expect("a number")
}

/// Recipients `name0` to `name{count - 1}` at a domain.
pub fn recipients(name: &str, domain: &str, count: usize) -> Vec<String> {
    (0..count).map(|index| format!("{name}{index}@{domain}")).collect()
}

/// For functions that take slices of them.
pub fn refs(all: &[String]) -> Vec<&str> {
    all.iter().map(String::as_str).collect()
}

/// A connection from this machine.
pub fn smtp(server: &Server) -> Smtp {
    Smtp::connect(server.address(), SMTP).expect("SMTP answers")
}

/// Text of so many bytes with what goes wrong where somebody is careless: dots, 8-bit bytes, long lines.
pub fn careful_text(size: usize) -> Vec<u8> {
    let mut text =
        String::from("Subject: careful\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n");
    text.push_str("Content-Transfer-Encoding: 8bit\r\n\r\n.\r\n..\r\n.one\r\n...three\r\n\r\nFrom me\r\n");
    let _ = write!(text, "{}\r\n", "long ".repeat(190));
    let mut bytes = text.into_bytes();
    let mut line = 0_u32;
    while bytes.len() < size {
        let dots = &"...."[..line as usize % 5];
        bytes.extend_from_slice(
            format!("{dots}line {line} caf\u{e9} of some length, so that there are fewer of them\r\n")
                .as_bytes(),
        );
        if line.is_multiple_of(7) {
            bytes.extend_from_slice(b"\xff\xfe\x80 not UTF-8\r\n");
        }
        line += 1;
    }
    bytes
}
