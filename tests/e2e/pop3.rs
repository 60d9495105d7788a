//! POP3 beside IMAP and through kills: a message goes at QUIT and not before.

use crate::client::{Lines, Pop3};
use crate::flow::message;
use crate::server::{PASSWORD, POP3, POP3S, Server};

const ALICE: &str = "alice@example.test";

fn with_messages(count: usize) -> Server {
    let server = Server::with_accounts(&[ALICE]);
    let mut imap = server.imap(ALICE);
    for number in 0..count {
        imap.append("INBOX", &message(number, 400)).expect("a reply");
    }
    server
}

fn unique_ids(server: &Server) -> Vec<String> {
    let listing = server.pop3(ALICE).lines("UIDL").expect("a listing");
    let text = String::from_utf8(listing).expect("ASCII");
    text.lines().map(|line| line.split_once(' ').expect("number and id").1.to_owned()).collect()
}

#[test]
fn marks_count_at_quit_alone_and_quit_is_durable() {
    let mut server = with_messages(4);
    let before = unique_ids(&server);
    let mut pop3 = server.pop3(ALICE);
    assert!(pop3.command("DELE 1").expect("a reply").starts_with("+OK"));
    assert!(pop3.command("RETR 1").expect("a reply").starts_with("-ERR"));
    drop(pop3);
    assert_eq!(unique_ids(&server), before, "a lost connection deletes nothing");

    let mut pop3 = server.pop3(ALICE);
    pop3.command("DELE 1").expect("a reply");
    pop3.command("DELE 3").expect("a reply");
    assert!(pop3.command("RSET").expect("a reply").starts_with("+OK"));
    pop3.command("DELE 2").expect("a reply");
    assert!(pop3.command("QUIT").expect("a reply").starts_with("+OK"));
    server.kill();
    server.start();
    let left = [0, 2, 3].map(|index| before[index].clone());
    assert_eq!(unique_ids(&server), left, "what QUIT acknowledged is done, and ids stay");
    server.set_cores(1);
    server.stop();
    server.start();
    assert_eq!(unique_ids(&server), left, "ids stay with another number of cores");
}

#[test]
fn sizes_are_those_of_what_is_sent_also_where_the_last_line_has_no_end() {
    let mut server = Server::with_accounts(&[ALICE]);
    let mut imap = server.imap(ALICE);
    // More than a checkpoint leaves in memory, so that some come out of a chunk after the start; one is large.
    for number in 0..80 {
        let mut text = message(number, if number == 71 { 300_000 } else { 300 });
        text.truncate(text.len() - number % 3);
        imap.append("INBOX", &text).expect("a reply");
    }
    for _ in 0..2 {
        let mut pop3 = server.pop3(ALICE);
        let listing = pop3.lines("LIST").expect("a listing");
        let sizes: Vec<usize> = String::from_utf8_lossy(&listing)
            .lines()
            .map(|line| line.split_once(' ').expect("number and size").1.parse().expect("a size"))
            .collect();
        let sent: Vec<usize> =
            (1..=80).map(|number| pop3.lines(&format!("RETR {number}")).expect("a message").len()).collect();
        assert_eq!(sizes, sent);
        let stat = pop3.command("STAT").expect("a reply");
        assert_eq!(stat, format!("+OK 80 {}", sent.iter().sum::<usize>()));
        server.stop();
        server.start();
    }
}

#[test]
fn a_message_that_imap_expunged_is_gone_for_an_open_session() {
    let server = with_messages(3);
    let mut pop3 = server.pop3(ALICE);
    let mut imap = server.imap(ALICE);
    imap.ok("SELECT INBOX").expect("opens");
    imap.ok("STORE 2 +FLAGS.SILENT (\\Deleted)").expect("stored");
    imap.ok("EXPUNGE").expect("expunged");
    assert!(pop3.command("STAT").expect("a reply").starts_with("+OK 3 "), "numbers stay");
    assert!(pop3.command("RETR 2").expect("a reply").starts_with("-ERR"));
    assert_eq!(pop3.lines("RETR 3").expect("a message"), message(2, 400));
    for number in [1, 2] {
        pop3.command(&format!("DELE {number}")).expect("a reply");
    }
    let quit = pop3.command("QUIT").expect("a reply");
    assert!(quit.starts_with("+OK"), "what is gone is gone: {quit}");
    assert_eq!(unique_ids(&server).len(), 1);
}

#[test]
fn imap_is_told_what_pop3_deleted() {
    let server = with_messages(2);
    let mut imap = server.imap(ALICE);
    imap.ok("SELECT INBOX").expect("opens");
    let mut pop3 = server.pop3(ALICE);
    pop3.command("DELE 1").expect("a reply");
    assert!(!imap.texts("NOOP").iter().any(|line| line.contains("EXPUNGE")));
    pop3.command("QUIT").expect("a reply");
    assert!(imap.texts("NOOP").contains(&"* 1 EXPUNGE".to_owned()));
}

#[test]
fn top_gives_the_header_and_so_many_lines() {
    let server = with_messages(1);
    let text = message(0, 400);
    let mut pop3 = server.pop3(ALICE);
    let top = pop3.lines("TOP 1 2").expect("a message");
    let header = text.windows(4).position(|window| window == b"\r\n\r\n").expect("a header") + 4;
    let expected = [&text[..header], b".a line that begins with a dot\r\n..and one with two\r\n"].concat();
    assert_eq!(String::from_utf8_lossy(&top), String::from_utf8_lossy(&expected));
}

#[test]
fn tls_serves_by_stls_and_from_the_start() {
    let server = with_messages(1);
    let mut lines = Lines::connect(server.address(), POP3S).expect("connected");
    lines.start_tls(&server.data()).expect("TLS");
    assert!(lines.line().expect("a greeting").starts_with("+OK"));
    let mut lines = Lines::connect(server.address(), POP3).expect("connected");
    lines.line().expect("a greeting");
    lines.send(b"STLS\r\n").expect("sent");
    assert!(lines.line().expect("a reply").starts_with("+OK"));
    lines.start_tls(&server.data()).expect("TLS");
    lines.send(format!("USER {ALICE}\r\nPASS {PASSWORD}\r\nSTAT\r\n").as_bytes()).expect("sent");
    let replies: Vec<String> = (0..3).map(|_| lines.line().expect("a reply")).collect();
    assert!(replies[2].starts_with("+OK 1 "), "{replies:?}");
}

#[test]
fn a_wrong_password_lets_nobody_in() {
    let server = with_messages(0);
    let mut pop3 = Pop3::connect(server.address(), POP3).expect("connected");
    pop3.command(&format!("USER {ALICE}")).expect("a reply");
    assert!(pop3.command("PASS wrong").expect("a reply").starts_with("-ERR [AUTH]"));
    assert!(pop3.command("STAT").expect("a reply").starts_with("-ERR"));
}
