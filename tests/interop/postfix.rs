//! Postfix, the server that most mail meets: as the next hop, as a client, and both at once; and its `smtp-sink`.
//!
//! Each test runs a Postfix of its own, whose configuration, queue and mailboxes lie in a temporary folder. Its master
//! has to be root; elsewhere these tests are skipped.

use std::fs;
use std::net::{Ipv4Addr, TcpStream};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::authority::Authority;
use crate::client::{Imap, Smtp, stuffed};
use crate::mail::{ALICE, BOB, message};
use crate::program::available;
use crate::server::{IMAP, PASSWORD, SMTP, Server};

const START_MAX: Duration = Duration::from_secs(60);
const MAIL_MAX: Duration = Duration::from_secs(90);

const PORT: u16 = 2727;
const DAEMONS: &str = "/usr/lib/postfix/sbin";

/// Address of the mailbox at Postfix.
const CAROL: &str = "carol@postfix.test";

const SERVICES: &str = "\
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
tlsmgr unix - - n 1000? 1 tlsmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
verify unix - - n - 1 verify
proxymap unix - - n - - proxymap
smtp unix - - n - - smtp
relay unix - - n - - smtp
error unix - - n - - error
retry unix - - n - - error
discard unix - - n - - discard
virtual unix - n n - - virtual
anvil unix - - n - 1 anvil
scache unix - - n - 1 scache
postlog unix-dgram n - n - 1 postlogd
";

/// Runs until it is dropped.
struct Postfix {
    child: Child,
    folder: TempDir,
    address: Ipv4Addr,
}

/// Where nothing else listens, from the process and a number.
fn own_address(number: u8) -> Ipv4Addr {
    let [_, _, high, low] = std::process::id().to_be_bytes();
    Ipv4Addr::new(127, 40 + number, high, low.clamp(1, 254))
}

fn is_possible() -> bool {
    if !available("postfix") {
        return false;
    }
    let is_root = rustix::process::geteuid().is_root();
    let required = std::env::var("RINGPOST_INTEROP").is_ok_and(|value| value == "required");
    assert!(is_root || !required, "Postfix is required here, and needs root");
    if !is_root {
        eprintln!("skipped: Postfix needs root");
    }
    is_root
}

/// A user's or group's number, as `getent` knows it.
fn id_of(database: &str, name: &str) -> u32 {
    let output = Command::new("getent").args([database, name]).output().expect("getent runs");
    let line = String::from_utf8_lossy(&output.stdout).into_owned();
    line.split(':').nth(2).and_then(|id| id.parse().ok()).unwrap_or_else(|| panic!("{database} has {name}"))
}

impl Postfix {
    /// On an address of its own; `more` goes into its `main.cf`.
    fn start(address: Ipv4Addr, authority: &Authority, more: &str) -> Self {
        let folder = TempDir::new().expect("there is room for a folder");
        // Its processes run as another user.
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).expect("the folder is ours");
        let user = id_of("passwd", "postfix");
        make_folders(folder.path(), user, id_of("group", "postdrop"));
        let (certificate, key) = authority.pem(&address.to_string());
        fs::write(folder.path().join("cert.pem"), certificate).expect("written");
        fs::write(folder.path().join("key.pem"), key).expect("written");
        authority.write(&folder.path().join("ca.pem"));
        fs::write(folder.path().join("main.cf"), main_cf(folder.path(), user, more)).expect("written");
        let master_cf = format!("{address}:{PORT} inet n - n - - smtpd\n{SERVICES}");
        fs::write(folder.path().join("master.cf"), master_cf).expect("written");
        let mut command = Command::new(format!("{DAEMONS}/master"));
        command.arg("-c").arg(folder.path()).arg("-d").env("MAIL_CONFIG", folder.path());
        let said = fs::File::create(folder.path().join("said")).expect("made");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(said);
        let mut postfix = Self { child: command.spawn().expect("Postfix is installed"), folder, address };
        postfix.wait_until_it_listens();
        postfix
    }

    fn wait_until_it_listens(&mut self) {
        let begun = Instant::now();
        while TcpStream::connect((self.address, PORT)).is_err() {
            let ended = self.child.try_wait().expect("Postfix was started here");
            assert!(
                ended.is_none() && begun.elapsed() < START_MAX,
                "Postfix does not listen:\n{}",
                self.log()
            );
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// What its master said before there was a log, and the log.
    fn log(&self) -> String {
        let texts = ["said", "log/postfix.log"].map(|name| fs::read_to_string(self.folder.path().join(name)));
        texts.into_iter().flatten().collect::<Vec<_>>().join("\n")
    }

    /// The messages in Carol's mailbox, with the line ends of the network.
    fn mail(&self) -> Vec<Vec<u8>> {
        let Ok(entries) = fs::read_dir(self.folder.path().join("mail/carol/new")) else {
            return Vec::new();
        };
        let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
        paths.sort();
        paths.iter().filter_map(|path| fs::read(path).ok()).map(|text| with_crlf(&text)).collect()
    }

    fn wait_for_mail(&self, server: &Server, count: usize) -> Vec<Vec<u8>> {
        let begun = Instant::now();
        loop {
            let mail = self.mail();
            if mail.len() >= count {
                return mail;
            }
            assert!(
                begun.elapsed() < MAIL_MAX,
                "{} of {count} messages; Postfix:\n{}\nlog:\n{}",
                mail.len(),
                self.log(),
                server.log()
            );
            thread::sleep(Duration::from_millis(50));
        }
    }
}

impl Drop for Postfix {
    /// Its master ends its children when it is asked to end.
    fn drop(&mut self) {
        let id = rustix::process::Pid::from_child(&self.child);
        // It may have ended already.
        let _ = rustix::process::kill_process(id, rustix::process::Signal::TERM);
        let _ = self.child.wait();
    }
}

fn make_folders(root: &Path, user: u32, postdrop: u32) {
    fs::create_dir(root.join("queue")).expect("made");
    for (name, owner, group, mode) in [
        ("queue/active", user, None, 0o700),
        ("queue/bounce", user, None, 0o700),
        ("queue/corrupt", user, None, 0o700),
        ("queue/defer", user, None, 0o700),
        ("queue/deferred", user, None, 0o700),
        ("queue/flush", user, None, 0o700),
        ("queue/hold", user, None, 0o700),
        ("queue/incoming", user, None, 0o700),
        ("queue/private", user, None, 0o700),
        ("queue/saved", user, None, 0o700),
        ("queue/trace", user, None, 0o700),
        ("queue/public", user, Some(postdrop), 0o710),
        ("queue/maildrop", user, Some(postdrop), 0o730),
        ("queue/pid", 0, None, 0o755),
        ("data", user, None, 0o700),
        ("mail", user, None, 0o700),
        ("log", user, None, 0o755),
    ] {
        let path = root.join(name);
        fs::create_dir(&path).expect("made");
        chown(&path, Some(owner), group).expect("root may");
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("root may");
    }
}

fn main_cf(folder: &Path, user: u32, more: &str) -> String {
    let path = folder.display();
    format!(
        "compatibility_level = 3.6
queue_directory = {path}/queue
data_directory = {path}/data
command_directory = /usr/sbin
daemon_directory = {DAEMONS}
mail_owner = postfix
setgid_group = postdrop
maillog_file = {path}/log/postfix.log
maillog_file_prefixes = {path}
inet_interfaces = loopback-only
inet_protocols = ipv4
myhostname = mx.postfix.test
mydestination =
mynetworks = 127.0.0.0/8
message_size_limit = 104857600
virtual_mailbox_limit = 0
virtual_mailbox_domains = postfix.test
virtual_mailbox_base = {path}/mail
virtual_mailbox_maps = inline:{{ {{ {CAROL} = carol/ }} }}
virtual_uid_maps = static:{user}
virtual_gid_maps = static:{user}
virtual_minimum_uid = 1
smtpd_tls_security_level = may
smtpd_tls_cert_file = {path}/cert.pem
smtpd_tls_key_file = {path}/key.pem
smtpd_tls_received_header = yes
smtp_dns_support_level = disabled
smtp_tls_session_cache_database =
minimal_backoff_time = 2s
queue_run_delay = 2s
strict_8bitmime = no
{more}
"
    )
}

fn with_crlf(text: &[u8]) -> Vec<u8> {
    let mut with = Vec::with_capacity(text.len() + text.len() / 30);
    for line in text.split_inclusive(|byte| *byte == b'\n') {
        with.extend_from_slice(line.strip_suffix(b"\n").unwrap_or(line));
        with.extend_from_slice(b"\r\n");
    }
    with
}

/// Alice and Bob, mail for Postfix's domain to Postfix under TLS that is verified, and whoever is near may relay.
fn server(postfix: Ipv4Addr, authority: &Authority, folder: &Path) -> Server {
    let bundle = folder.join("ca.pem");
    authority.write(&bundle);
    let more = format!(
        "\n[relay]\nallow = [\"127.0.0.0/8\"]\n\n[queue]\nretry_first_s = 1\nretry_max_s = 2\n\n[[route]]\ndomain = \
         \"postfix.test\"\nto = [\"{postfix}:{PORT}\"]\ntls = \"verified\"\n"
    );
    let mut server = Server::prepare(2, &more);
    server.set_environment("SSL_CERT_FILE", bundle.to_str().expect("a path of plain letters"));
    [ALICE, BOB].iter().for_each(|account| server.add_account(account));
    server.start();
    server
}

fn wait_for_inbox(server: &Server, postfix: &Postfix, account: &str, count: usize) -> Vec<Vec<u8>> {
    let mut imap = Imap::login(server.address(), IMAP, account, PASSWORD).expect("IMAP login");
    let begun = Instant::now();
    let wanted = format!("* {count} EXISTS");
    while !imap.texts("SELECT INBOX").contains(&wanted) {
        assert!(begun.elapsed() < MAIL_MAX, "Postfix:\n{}\nlog:\n{}", postfix.log(), server.log());
        thread::sleep(Duration::from_millis(50));
    }
    imap.bodies().expect("bodies")
}

/// Sizes of the messages that go each way.
fn sizes() -> Vec<usize> {
    let mut sizes: Vec<usize> = (0..60).map(|index| 500 + 97 * index).collect();
    sizes.extend([300_000, 5 << 20]);
    sizes
}

#[test]
fn postfix_takes_what_we_relay() {
    if !is_possible() {
        return;
    }
    let (authority, folder) = (Authority::new(), TempDir::new().expect("a folder"));
    let address = own_address(0);
    let postfix = Postfix::start(address, &authority, "");
    let server = server(address, &authority, folder.path());
    let mut smtp = Smtp::connect(server.address(), SMTP).expect("SMTP answers");
    let sent: Vec<Vec<u8>> =
        sizes().into_iter().enumerate().map(|(index, size)| message(index, size)).collect();
    for message in &sent {
        assert!(smtp.message(ALICE, &[CAROL], message).expect("a reply"));
    }
    let mail = postfix.wait_for_mail(&server, sent.len());
    for message in &sent {
        let found: Vec<&Vec<u8>> = mail.iter().filter(|mail| mail.ends_with(message)).collect();
        assert_eq!(found.len(), 1, "a message of {} bytes", message.len());
        let front = String::from_utf8_lossy(&found[0][..found[0].len() - message.len()]).into_owned();
        assert!(front.contains(&format!("Return-Path: <{ALICE}>")), "{front}");
        assert!(front.contains("(using TLSv1.3 with cipher"), "{front}");
        assert_eq!(front.matches("Received: from").count(), 2, "{front}");
    }
    // Who is not there is refused, and Alice is told in Postfix's words.
    assert!(smtp.message(ALICE, &["nobody@postfix.test", CAROL], &message(1000, 500)).expect("a reply"));
    postfix.wait_for_mail(&server, sent.len() + 1);
    let bounce = wait_for_inbox(&server, &postfix, ALICE, 1).remove(0);
    let bounce = String::from_utf8_lossy(&bounce).into_owned();
    assert!(bounce.contains("Status: 5.1.1\r\n"), "{bounce}");
    assert!(bounce.contains("User unknown in virtual mailbox table"), "{bounce}");
}

#[test]
fn we_take_what_postfix_relays() {
    if !is_possible() {
        return;
    }
    let (authority, folder) = (Authority::new(), TempDir::new().expect("a folder"));
    let address = own_address(1);
    let server = server(address, &authority, folder.path());
    let more = format!(
        "relayhost = [{}]:{SMTP}\nsmtp_tls_security_level = secure\nsmtp_tls_CAfile = {}\n\
         smtp_tls_secure_cert_match = mail.example.test",
        server.address(),
        server.data().join("tls/ca.pem").display()
    );
    let postfix = Postfix::start(address, &authority, &more);
    let mut smtp = Smtp::connect(address, PORT).expect("Postfix answers");
    let sent: Vec<Vec<u8>> =
        sizes().into_iter().enumerate().map(|(index, size)| message(index, size)).collect();
    for message in &sent {
        assert!(smtp.message("dave@elsewhere.test", &[ALICE, BOB], message).expect("a reply"));
    }
    for account in [ALICE, BOB] {
        let mail = wait_for_inbox(&server, &postfix, account, sent.len());
        for message in &sent {
            let found: Vec<&Vec<u8>> = mail.iter().filter(|mail| mail.ends_with(message)).collect();
            assert_eq!(found.len(), 1, "a message of {} bytes for {account}", message.len());
            let front = String::from_utf8_lossy(&found[0][..found[0].len() - message.len()]).into_owned();
            assert!(front.contains("with ESMTPS"), "{front}");
        }
    }
    // Whom we refuse, Postfix reports to the sender.
    assert!(smtp.message(CAROL, &["nobody@example.test"], &message(1000, 500)).expect("a reply"));
    let bounce = postfix.wait_for_mail(&server, 1).remove(0);
    let bounce = String::from_utf8_lossy(&bounce).into_owned();
    assert!(bounce.contains("Status: 5.1.1\r\n") && bounce.contains("nobody@example.test"), "{bounce}");
}

/// There and back: Postfix tells of its success by a notification that we asked it for.
#[test]
fn postfix_notifies_of_what_it_delivered() {
    if !is_possible() {
        return;
    }
    let (authority, folder) = (Authority::new(), TempDir::new().expect("a folder"));
    let address = own_address(2);
    let server = server(address, &authority, folder.path());
    let more = format!("relayhost = [{}]:{SMTP}\nsmtp_tls_security_level = may", server.address());
    let postfix = Postfix::start(address, &authority, &more);
    let mut smtp = Smtp::connect(server.address(), SMTP).expect("SMTP answers");
    for (command, expected) in [
        (format!("MAIL FROM:<{ALICE}> RET=HDRS ENVID=there+2Band+2Bback"), 250),
        (format!("RCPT TO:<{CAROL}> NOTIFY=SUCCESS ORCPT=rfc822;c@first.test"), 250),
        ("DATA".to_owned(), 354),
    ] {
        let (code, lines) = smtp.command(&command).expect("a reply");
        assert_eq!(code, expected, "{lines:?}");
    }
    smtp.raw(&stuffed(&message(7, 900))).expect("sent");
    assert_eq!(smtp.reply().expect("a reply").0, 250);
    postfix.wait_for_mail(&server, 1);
    let told = wait_for_inbox(&server, &postfix, ALICE, 1).remove(0);
    let told = String::from_utf8_lossy(&told).into_owned();
    assert!(told.contains("Action: delivered\r\n"), "{told}");
    assert!(told.contains("Original-Envelope-Id: there+and+back\r\n"), "{told}");
    assert!(told.contains("Original-Recipient: rfc822;c@first.test\r\n"), "{told}");
    assert!(told.contains("Reporting-MTA: dns; mx.postfix.test\r\n"), "{told}");
}

/// A thousand messages to a program that only counts.
#[test]
fn smtp_sink_gets_a_thousand_messages() {
    if !available("smtp-sink") {
        return;
    }
    let folder = TempDir::new().expect("a folder");
    let address = own_address(3);
    let dump = folder.path().join("dump");
    fs::create_dir(&dump).expect("made");
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).expect("the folder is ours");
    fs::set_permissions(&dump, fs::Permissions::from_mode(0o777)).expect("the folder is ours");
    let mut command = Command::new("smtp-sink");
    if rustix::process::geteuid().is_root() {
        command.args(["-u", "nobody"]);
    }
    command.arg("-d").arg(dump.join("m")).arg(format!("{address}:{PORT}")).arg("1000");
    command.current_dir(folder.path()).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut sink = command.spawn().expect("smtp-sink is installed");
    let more = format!(
        "\n[relay]\nallow = [\"127.0.0.0/8\"]\n\n[[route]]\ndomain = \"sink.test\"\nto = [\"{address}:{PORT}\"]\n"
    );
    let mut server = Server::prepare(2, &more);
    server.start();
    let mut smtp = Smtp::connect(server.address(), SMTP).expect("SMTP answers");
    for number in 0..1000 {
        let to = format!("r{number}@sink.test");
        assert!(smtp.message("dave@elsewhere.test", &[&to], &message(number, 1000)).expect("a reply"));
    }
    let begun = Instant::now();
    let count = || fs::read_dir(&dump).map_or(0, Iterator::count);
    while server.done(&["queue", "list"]).contains("sink.test") && begun.elapsed() < MAIL_MAX {
        thread::sleep(Duration::from_millis(100));
    }
    let got = count();
    sink.kill().expect("it was started here");
    sink.wait().expect("it has ended");
    assert_eq!(got, 1000, "log:\n{}", server.log());
}
