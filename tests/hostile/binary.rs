//! Cases against the real binary: in bursts, byte by byte, cut at random and under TLS, while mailboxes are watched in
//! which nothing may appear but what was meant.

use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};

use crate::answer::{Protocol, matches};
use crate::bytes::Cut;
use crate::case::{Case, Variant};
use crate::client::{Imap, Smtp};
use crate::opening::{MEANT, PASSWORD, READER};
use crate::server::{IMAP, SMTP, Server};
use crate::wire::{Channel, Leaving, Place, Telling, Told, port, tell};
use crate::{THREADS, cases, engines, opening, replay_all};

/// Longer ones are not sent byte by byte, nor under TLS.
const BYTES_MAX: usize = 2000;
const TLS_BYTES_MAX: usize = 12 << 10;

/// Under TLS goes one variant of so many: a handshake costs as much as ten replays.
const TLS_EACH: u32 = 6;

const ARRIVAL_MAX: Duration = Duration::from_secs(30);

const VICTIM: &str = "victim@here.test";

/// What the cases rely on.
const LIMITS: &str = "[limits]\nmessage_bytes = 65_536\n";

/// A mailbox for what one thread's cases mean to deliver, and a session that looks into it.
struct Watch {
    account: String,
    imap: Imap,
    /// Of its messages, those that were looked at, and those that were told of.
    seen: usize,
    known: usize,
}

struct Binary {
    server: Server,
    place: Place,
    watches: Mutex<Vec<Watch>>,
    appended: Mutex<usize>,
}

impl Binary {
    fn start() -> Self {
        let mut server = Server::prepare(2, LIMITS);
        let accounts: Vec<String> = (0..THREADS).map(account).collect();
        for account in accounts.iter().map(String::as_str).chain([MEANT, VICTIM, READER]) {
            let output =
                server.command(&["account", "add", account, "--password-stdin"], PASSWORD.as_bytes());
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        }
        server.start();
        let mut reader = imap(&server, READER);
        for number in 0..3 {
            let message = format!("Subject: {number}\r\n\r\ntext of {number}\r\n..\r\n");
            reader.append("INBOX", message.as_bytes()).expect("appended");
        }
        reader.ok("CREATE Box").expect("created");
        let mut roots = RootCertStore::empty();
        let ca = CertificateDer::from_pem_file(server.data().join("tls/ca.pem")).expect("a CA");
        roots.add(ca).expect("a CA that can be trusted");
        let tls = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
        let watches = accounts.into_iter().map(|account| Watch::new(&server, account)).collect();
        let place =
            Place { address: server.address(), port, tls: Some(Arc::new(tls)), leaving: Leaving::AtOnce };
        Self { server, place, watches: Mutex::new(watches), appended: Mutex::new(0) }
    }

    fn replay(&self, case: &Case, variant: &Variant) -> Result<usize, String> {
        let mut watch =
            self.watches.lock().expect("nobody panics with it").pop().expect("one for each thread");
        let result = self.replay_watched(case, variant, &mut watch);
        self.watches.lock().expect("nobody panics with it").push(watch);
        result
    }

    fn replay_watched(&self, case: &Case, variant: &Variant, watch: &mut Watch) -> Result<usize, String> {
        let seed = u64::from(crc32fast::hash(variant.name.as_bytes()));
        let random = Telling::Polite(Cut::Random { seed });
        let len = variant.say.len();
        let mut tellings = vec![(Channel::Clear, Telling::Burst), (Channel::Clear, random)];
        if len <= BYTES_MAX {
            tellings.push((Channel::Clear, Telling::Polite(Cut::Bytes)));
        }
        if case.is_only_for("tls") {
            tellings.iter_mut().for_each(|(channel, _)| *channel = Channel::Tls);
        }
        let is_for_tls = case.is_for("wire");
        if is_for_tls && len <= TLS_BYTES_MAX && seed.is_multiple_of(TLS_EACH.into()) {
            tellings.push((Channel::Tls, random));
        }
        if is_for_tls && len <= BYTES_MAX / 8 && seed.is_multiple_of(u64::from(TLS_EACH) * 2) {
            tellings.push((Channel::Tls, Telling::Polite(Cut::Bytes)));
        }
        let (answer, kept) = engines::expected(case, variant);
        let say = replaced(&variant.say, MEANT, &watch.account);
        for (channel, telling) in &tellings {
            let how = |wrong: String| format!("{channel:?} {telling:?}: {wrong}");
            let commands = opening::commands(&case.on, &case.given, &watch.account);
            let told = Told { on: &case.on, commands: &commands, say: &say };
            let words = tell(&self.place, told, *channel, *telling).map_err(how)?;
            if !matches(&answer, &words) {
                return Err(how(format!("expected {answer:?}, found {:?}", words.join(" "))));
            }
            match Protocol::of(&case.on) {
                Protocol::Smtp => watch.see(&kept).map_err(how)?,
                Protocol::Imap if kept.is_empty() => {}
                Protocol::Imap => *self.appended.lock().expect("nobody panics with it") += kept.len(),
                Protocol::Pop3 => {}
            }
        }
        Ok(tellings.len())
    }

    /// After everything: nothing came late, nothing where it must not be, and others are served as ever.
    fn look_back(mut self) {
        thread::sleep(Duration::from_millis(500));
        for watch in self.watches.get_mut().expect("nobody panicked with it") {
            watch.see(&[]).expect("nothing came late");
        }
        let mut victim = imap(&self.server, VICTIM);
        assert_eq!(messages(&mut victim, "INBOX"), 0, "smuggled");
        let mut reader = imap(&self.server, READER);
        assert_eq!(messages(&mut reader, "INBOX"), 3);
        assert_eq!(messages(&mut reader, "Box"), *self.appended.get_mut().expect("nobody panicked with it"));
        let mut smtp = Smtp::connect(self.server.address(), SMTP).expect("SMTP answers");
        assert!(smtp.message("a@b.test", &[MEANT], b"Subject: x\r\n\r\ny\r\n").expect("a reply"));
        let log = self.server.log();
        assert!(!log.contains("panic"), "{log}");
        let is_clean = |char: char| char == '\n' || !char.is_control();
        assert!(log.chars().all(is_clean), "a control character in the log:\n{}", log.escape_debug());
        assert!(!log.contains(PASSWORD), "a password in the log:\n{log}");
        self.server.stop();
    }
}

impl Watch {
    fn new(server: &Server, account: String) -> Self {
        let imap = imap(server, &account);
        let mut watch = Self { account, imap, seen: 0, known: 0 };
        watch.imap.ok("SELECT INBOX").expect("selected");
        watch
    }

    /// Exactly `kept` has come since the last look, in this order.
    fn see(&mut self, kept: &[Vec<u8>]) -> Result<(), String> {
        let wanted = self.seen + kept.len();
        let begun = Instant::now();
        while self.exists() < wanted {
            if begun.elapsed() > ARRIVAL_MAX {
                return Err(format!("{} of {} messages came", self.exists() - self.seen, kept.len()));
            }
            thread::sleep(Duration::from_millis(2));
        }
        let count = self.exists();
        let seen = std::mem::replace(&mut self.seen, count);
        if count == seen {
            return Ok(());
        }
        // BODY has another octet in the place of a NUL.
        let fetched = self
            .imap
            .ok(&format!("FETCH {}:{count} BINARY.PEEK[]", seen + 1))
            .map_err(|error| error.to_string())?;
        let found: Vec<Vec<u8>> = fetched.into_iter().flat_map(|response| response.literals).collect();
        let is_meant =
            found.len() == kept.len() && found.iter().zip(kept).all(|(found, kept)| found.ends_with(kept));
        match is_meant {
            true => Ok(()),
            false => {
                Err(found.iter().map(|found| found.escape_ascii().to_string()).collect::<Vec<_>>().join("\n"))
            }
        }
    }

    fn exists(&mut self) -> usize {
        let responses = self.imap.texts("NOOP");
        let exists = responses
            .iter()
            .rev()
            .find_map(|text| text.strip_prefix("* ")?.strip_suffix(" EXISTS")?.parse().ok());
        self.known = exists.unwrap_or(self.known);
        self.known
    }
}

/// As long as [`MEANT`], so that lengths which a case tells hold.
fn account(number: usize) -> String {
    format!("mean{number}@here.test")
}

fn replaced(bytes: &[u8], from: &str, to: &str) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    let found: Vec<usize> = memchr::memmem::find_iter(&bytes, from).collect();
    for at in found {
        bytes[at..at + to.len()].copy_from_slice(to.as_bytes());
    }
    bytes
}

fn imap(server: &Server, account: &str) -> Imap {
    Imap::login(server.address(), IMAP, account, PASSWORD).expect("IMAP login")
}

fn messages(imap: &mut Imap, mailbox: &str) -> usize {
    let texts = imap.texts(&format!("STATUS {mailbox} (MESSAGES)"));
    let count = texts[0].split_once("(MESSAGES ").and_then(|(_, rest)| rest.strip_suffix(')')?.parse().ok());
    count.unwrap_or_else(|| panic!("{texts:?}"))
}

#[test]
fn the_server_answers_and_keeps_what_it_must() {
    let binary = Binary::start();
    replay_all(&cases(&["wire", "clear", "tls"]), |case, variant| binary.replay(case, variant));
    binary.look_back();
}
