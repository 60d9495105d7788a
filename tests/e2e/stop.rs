//! The ways down: asked once, asked twice, with sessions that are idle or busy; and what is kept out.

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::Command;
use std::time::Duration;

use crate::client::Imap;
use crate::flow::{message, wait_for};
use crate::server::{IMAP, PASSWORD, Server};

const ALICE: &str = "alice@example.test";
const SENDER: &str = "sender@elsewhere.test";

/// Sessions are given ten seconds; a debug build on a busy machine a little more.
const STOP_MAX: Duration = Duration::from_secs(20);

#[test]
fn idle_sessions_are_sent_away_and_the_server_ends_soon() {
    let mut server = Server::with_accounts(&[ALICE]);
    let mut smtp = server.smtp();
    let mut idle = server.imap(ALICE);
    idle.ok("SELECT INBOX").expect("opens");
    idle.send("IDLE").expect("sent");
    while !idle.response().expect("a reply").text.starts_with('+') {}
    let mut quiet = server.imap(ALICE);
    let mut fresh = Imap::connect(server.address(), IMAP).expect("IMAP answers");
    let _pop3 = server.pop3(ALICE);
    server.signal("TERM");
    assert_eq!(smtp.reply().expect("a reply").0, 421);
    for imap in [&mut idle, &mut quiet, &mut fresh] {
        let farewell = imap.response().expect("a farewell").text;
        assert!(farewell.starts_with("* BYE"), "{farewell}");
    }
    let (success, took) = server.wait_for_end();
    assert!(success && took < Duration::from_secs(8), "{took:?}; log:\n{}", server.log());
}

#[test]
fn a_client_in_the_middle_of_a_message_delays_the_end_by_a_bound_and_loses_nothing() {
    let mut server = Server::with_accounts(&[ALICE]);
    let mut smtp = server.smtp();
    assert!(smtp.message(SENDER, &[ALICE], &message(1, 900)).expect("a reply"));
    smtp.command("MAIL FROM:<>").expect("a reply");
    smtp.command(&format!("RCPT TO:<{ALICE}>")).expect("a reply");
    assert_eq!(smtp.code("DATA"), 354);
    smtp.raw(b"Subject: half\r\n\r\nhalf a message").expect("sent");
    let mut imap = server.imap(ALICE);
    imap.send("APPEND INBOX {100000}").expect("sent");
    imap.response().expect("a continuation");
    server.signal("TERM");
    let (success, took) = server.wait_for_end();
    assert!(success && took < STOP_MAX, "{took:?}; log:\n{}", server.log());
    server.start();
    wait_for(&server, ALICE, 1);
    let status = server.imap(ALICE).texts("STATUS INBOX (MESSAGES)");
    assert!(status[0].contains("MESSAGES 1)"), "{status:?}");
}

#[test]
fn a_second_signal_ends_the_server_at_once_and_loses_nothing() {
    let mut server = Server::with_accounts(&[ALICE]);
    let mut smtp = server.smtp();
    for number in 0..5 {
        assert!(smtp.message(SENDER, &[ALICE], &message(number, 900)).expect("a reply"));
    }
    smtp.command("MAIL FROM:<>").expect("a reply");
    server.signal("TERM");
    std::thread::sleep(Duration::from_millis(30));
    server.signal("TERM");
    let (success, took) = server.wait_for_end();
    assert!(success && took < Duration::from_secs(3), "{took:?}");
    server.start();
    wait_for(&server, ALICE, 5);
}

#[test]
fn a_second_server_on_the_same_data_is_refused_with_a_reason() {
    let server = Server::with_accounts(&[ALICE]);
    // On an address of its own, so that nothing but the data is in its way.
    let elsewhere = server.folder().join("elsewhere.toml");
    let config = fs::read_to_string(server.config_path()).expect("a configuration");
    let config = config.replace(&server.address().to_string(), "127.255.255.253");
    fs::write(&elsewhere, config).expect("written");
    let second = Command::new(env!("CARGO_BIN_EXE_ringpost"))
        .args(["serve", "--cores", "1", "--config"])
        .arg(&elsewhere)
        .output()
        .expect("the binary starts");
    assert!(!second.status.success());
    let reason = String::from_utf8_lossy(&second.stderr);
    assert!(reason.contains("in use") || reason.contains("another"), "{reason}");
    assert!(Imap::login(server.address(), IMAP, ALICE, PASSWORD).is_ok(), "the first goes on");
}

#[test]
fn a_configuration_that_is_wrong_is_kept_out_and_a_right_one_taken() {
    let server = Server::configured(&[ALICE], "[limits]\nmessage_bytes = 500000\n");
    let right = fs::read_to_string(server.config_path()).expect("a configuration");
    assert_eq!(announced_size(&server), "250-SIZE 500000");
    fs::write(server.config_path(), format!("{right}\nnonsense = [\n")).expect("written");
    server.signal("HUP");
    eventually(|| server.log().contains("the configuration stays as it was"));
    assert_eq!(announced_size(&server), "250-SIZE 500000");
    fs::write(server.config_path(), right.replace("500000", "600000")).expect("written");
    server.signal("HUP");
    eventually(|| announced_size(&server) == "250-SIZE 600000");
    assert!(Imap::login(server.address(), IMAP, ALICE, PASSWORD).is_ok());
}

#[test]
fn a_reload_does_not_move_the_data() {
    let server = Server::with_accounts(&[ALICE]);
    let elsewhere = server.folder().join("elsewhere");
    let config = fs::read_to_string(server.config_path()).expect("a configuration");
    let moved = config.replace(&format!("{:?}", server.data()), &format!("{elsewhere:?}"));
    assert_ne!(moved, config);
    fs::write(server.config_path(), moved).expect("written");
    server.signal("HUP");
    eventually(|| server.log().contains("were read again"));
    assert!(!elsewhere.exists());
    // Its own CA has signed what it shows.
    server.submission(ALICE);
}

#[test]
fn a_reload_holds_for_what_programs_of_this_machine_send_too() {
    let server = Server::configured(&[ALICE], "[limits]\nmessage_bytes = 100000\n");
    let text = format!("Subject: large\n\n{}", "a line of a message\n".repeat(10_000));
    let sent = || server.command(&["sendmail", ALICE], text.as_bytes()).status.success();
    let config = fs::read_to_string(server.config_path()).expect("a configuration");
    fs::write(server.config_path(), config.replace("100000", "500000")).expect("written");
    assert!(!sent(), "only the command knows");
    server.signal("HUP");
    eventually(sent);
}

#[test]
fn a_reload_that_is_wanted_during_the_start_follows_it() {
    let server = Server::prepare(1, "");
    let mut child = server.spawn(&["serve", "--cores", "1"]);
    // What follows is a first account, keys, a log.
    while !server.data().exists() {
        std::thread::sleep(Duration::from_millis(1));
    }
    let process = child.id().to_string();
    let signal = |name| Command::new("kill").args([name, process.as_str()]).status().expect("kill runs");
    assert!(signal("-HUP").success());
    let mut lines = BufReader::new(child.stdout.take().expect("a pipe")).lines().map_while(Result::ok);
    assert!(lines.any(|line| line.contains("is ready")), "it gets ready");
    assert!(signal("-TERM").success());
    let output = child.wait_with_output().expect("it ends");
    let log = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && log.contains("were read again"), "{log}");
}

fn announced_size(server: &Server) -> String {
    let (_, lines) = server.smtp().command("EHLO again").expect("a reply");
    lines.into_iter().find(|line| line.contains("SIZE")).unwrap_or_default()
}

fn eventually(is_so: impl Fn() -> bool) {
    for _ in 0..200 {
        if is_so() {
            return;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    panic!("it did not come to be in ten seconds");
}
