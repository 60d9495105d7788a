//! What a session costs in each state of each protocol.

use std::thread;
use std::time::Duration;

use crate::client::{Imap, Lines, Pop3, Smtp};
use crate::server::{IMAP, PASSWORD, POP3, SMTP, Server};
use crate::{ALICE, memory_of, note};

const SESSIONS: usize = 2000;

/// Opened before anything is measured, so that what is shared is there.
const SESSIONS_BEFORE: usize = 500;

/// Messages of the mailbox that is opened.
const MESSAGES: usize = 100;

/// Sent of a message or literal that is under way.
const PART: usize = 64 << 10;

/// Memory is as good as still when it changes by less between two looks.
const SETTLED_BYTES: u64 = 256 << 10;
const SETTLED_LOOKS_MAX: usize = 15;

/// A session that is held in a state.
enum Held {
    Lines(#[expect(dead_code, reason = "it is held open")] Lines),
    Smtp(#[expect(dead_code, reason = "it is held open")] Smtp),
    Imap(#[expect(dead_code, reason = "it is held open")] Imap),
    Pop3(#[expect(dead_code, reason = "it is held open")] Pop3),
}

struct State {
    name: &'static str,
    bytes_max: u64,
    enter: fn(&Server) -> Held,
}

const STATES: [State; 11] = [
    State { name: "SMTP, greeted", bytes_max: 16 << 10, enter: |server| greeted(server, SMTP) },
    State { name: "SMTP, after EHLO", bytes_max: 16 << 10, enter: |server| Held::Smtp(server.smtp()) },
    State { name: "SMTP, after ten recipients", bytes_max: 16 << 10, enter: recipients },
    State { name: "SMTP, 64 KiB of a message came", bytes_max: 160 << 10, enter: half_a_message },
    State {
        name: "submission, logged in, TLS",
        bytes_max: 64 << 10,
        enter: |server| Held::Smtp(server.submission(ALICE)),
    },
    State { name: "IMAP, greeted", bytes_max: 16 << 10, enter: |server| greeted(server, IMAP) },
    State { name: "IMAP, logged in", bytes_max: 16 << 10, enter: |server| Held::Imap(server.imap(ALICE)) },
    State { name: "IMAP, a mailbox of 100 open, IDLE", bytes_max: 16 << 10, enter: idle },
    State { name: "IMAP, 64 KiB of a literal came", bytes_max: 160 << 10, enter: half_a_literal },
    State { name: "POP3, greeted", bytes_max: 16 << 10, enter: |server| greeted(server, POP3) },
    State {
        name: "POP3, logged in to 100 messages",
        bytes_max: 32 << 10,
        enter: |server| Held::Pop3(server.pop3(ALICE)),
    },
];

#[test]
fn sessions_cost_no_more_than_they_should_in_any_state() {
    println!("| state | bytes of the process for a session | held to |\n|---|---|---|");
    for State { name, bytes_max, enter } in STATES {
        let server = Server::with_accounts(&[ALICE]);
        fill(&server);
        let _before: Vec<Held> = (0..SESSIONS_BEFORE).map(|_| enter(&server)).collect();
        let before = settled(&server);
        let _held: Vec<Held> = (0..SESSIONS).map(|_| enter(&server)).collect();
        let each = settled(&server).saturating_sub(before) / SESSIONS as u64;
        println!("| {name} | {each} | {bytes_max} |");
        assert!(each <= bytes_max, "{name}: {each} bytes, {bytes_max} at most");
    }
}

/// When it no longer changes: what the allocator keeps of a password's check is given back by then.
fn settled(server: &Server) -> u64 {
    let mut last = memory_of(server);
    for _ in 0..SETTLED_LOOKS_MAX {
        thread::sleep(Duration::from_millis(700));
        let now = memory_of(server);
        if now.abs_diff(last) < SETTLED_BYTES {
            return now;
        }
        last = now;
    }
    last
}

fn fill(server: &Server) {
    let mut imap = server.imap(ALICE);
    for number in 0..MESSAGES {
        imap.append("INBOX", &note(number)).expect("a reply");
    }
}

fn greeted(server: &Server, port: u16) -> Held {
    let mut lines = Lines::connect(server.address(), port).expect("the server answers");
    lines.line().expect("a greeting");
    Held::Lines(lines)
}

fn recipients(server: &Server) -> Held {
    let mut smtp = server.smtp();
    assert_eq!(smtp.code("MAIL FROM:<sender@elsewhere.test>"), 250);
    for _ in 0..10 {
        assert_eq!(smtp.code(&format!("RCPT TO:<{ALICE}>")), 250);
    }
    Held::Smtp(smtp)
}

fn half_a_message(server: &Server) -> Held {
    let mut smtp = server.smtp();
    assert_eq!(smtp.code("MAIL FROM:<sender@elsewhere.test>"), 250);
    assert_eq!(smtp.code(&format!("RCPT TO:<{ALICE}>")), 250);
    assert_eq!(smtp.code("DATA"), 354);
    smtp.raw(&part()).expect("the server reads");
    Held::Smtp(smtp)
}

fn idle(server: &Server) -> Held {
    let mut imap = server.imap(ALICE);
    imap.ok("SELECT INBOX").expect("it opens");
    imap.send("IDLE").expect("it is sent");
    assert!(imap.lines().line().expect("a reply").starts_with('+'));
    Held::Imap(imap)
}

fn half_a_literal(server: &Server) -> Held {
    let mut imap = Imap::login(server.address(), IMAP, ALICE, PASSWORD).expect("IMAP login");
    imap.send(&format!("APPEND INBOX {{{}}}", PART * 2)).expect("it is sent");
    assert!(imap.lines().line().expect("a reply").starts_with('+'));
    imap.raw(&part()).expect("the server reads");
    Held::Imap(imap)
}

fn part() -> Vec<u8> {
    b"a line of the sort that messages are made of\r\n".iter().copied().cycle().take(PART).collect()
}
