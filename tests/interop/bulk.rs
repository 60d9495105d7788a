//! Much mail and large mail: what goes in by SMTP comes out of IMAP and POP3 byte for byte.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::thread;
use std::time::Duration;

use crate::mail::{BOB, came_through, message, server};
use crate::program::available;
use crate::python::script;
use crate::server::{SMTP, Server};

const MESSAGES: usize = 5_000;
const SENDERS: usize = 8;
const LARGE_BYTES: usize = 50 << 20;

/// Fetches all by both protocols and writes what it got into files.
const FETCH_ALL: &str = include_str!("python/fetch_all.py");

/// Sends messages over one connection, each in two writes, as a client with PIPELINING does.
fn send(server: &Server, messages: &[Vec<u8>]) {
    let stream = TcpStream::connect((server.address(), SMTP)).expect("SMTP answers");
    stream.set_read_timeout(Some(Duration::from_secs(120))).expect("a timeout is set");
    stream.set_nodelay(true).expect("no delay is set");
    let mut reader = BufReader::new(stream);
    let expect = |reader: &mut BufReader<TcpStream>, code: &str| {
        let mut line = String::new();
        while line.get(3..4) != Some(" ") {
            line.clear();
            reader.read_line(&mut line).expect("a reply");
            assert!(line.starts_with(code), "{line:?} for {code}; log:\n{}", server.log());
        }
    };
    expect(&mut reader, "220");
    reader.get_mut().write_all(b"EHLO client.example.test\r\n").expect("taken");
    expect(&mut reader, "250");
    for text in messages {
        let head = format!("MAIL FROM:<a@elsewhere.test>\r\nRCPT TO:<{BOB}>\r\nDATA\r\n");
        reader.get_mut().write_all(head.as_bytes()).expect("taken");
        for code in ["250", "250", "354"] {
            expect(&mut reader, code);
        }
        reader.get_mut().write_all(&stuffed(text)).expect("taken");
        expect(&mut reader, "250");
    }
}

/// Dots at the front of lines doubled, the end of data behind.
fn stuffed(text: &[u8]) -> Vec<u8> {
    let mut data = Vec::with_capacity(text.len() + 64);
    for line in text.split_inclusive(|byte| *byte == b'\n') {
        if line.starts_with(b".") {
            data.push(b'.');
        }
        data.extend_from_slice(line);
    }
    data.extend_from_slice(b".\r\n");
    data
}

/// Every message of the folder is one of those that were sent, and none is missing.
fn audit(folder: &std::path::Path, sent: &[Vec<u8>]) {
    let mut seen = vec![false; sent.len()];
    for entry in fs::read_dir(folder).expect("what was fetched") {
        let stored = fs::read(entry.expect("an entry").path()).expect("a message");
        let number = number_of(&stored);
        assert!(came_through(&stored, &sent[number]), "message {number} came out changed");
        assert!(!std::mem::replace(&mut seen[number], true), "message {number} came twice");
    }
    assert!(seen.iter().all(|seen| *seen), "all came");
}

fn number_of(stored: &[u8]) -> usize {
    let head = String::from_utf8_lossy(&stored[..stored.len().min(2000)]).into_owned();
    let number = head.split("Subject: message ").nth(1).and_then(|rest| rest.split("\r\n").next());
    number.and_then(|number| number.parse().ok()).expect("a message of this test")
}

#[test]
fn five_thousand_messages_and_a_large_one_come_out_as_they_went_in() {
    if !available("python3") {
        return;
    }
    let server = server();
    let mut sent: Vec<Vec<u8>> = (0..MESSAGES).map(|number| message(number, number % 4096)).collect();
    thread::scope(|scope| {
        for some in sent.chunks(MESSAGES.div_ceil(SENDERS)) {
            scope.spawn(|| send(&server, some));
        }
    });
    let large = message(MESSAGES, LARGE_BYTES);
    send(&server, std::slice::from_ref(&large));
    sent.push(large);
    script(&server, &format!("COUNT = {}\n{FETCH_ALL}", sent.len()));
    audit(&server.folder().join("by-imap"), &sent);
    audit(&server.folder().join("by-pop3"), &sent);
}
