//! The accounts and messages that the clients are tried with.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::thread;
use std::time::Duration;

use crate::program::{command, run};
use crate::server::{IMAPS, PASSWORD, Server};

pub const ALICE: &str = "alice@example.test";
pub const BOB: &str = "bob@example.test";

/// The name in the server's certificate; its loopback address is not in there.
pub const HOST: &str = "mail.example.test";

/// A server with two accounts.
pub fn server() -> Server {
    Server::with_accounts(&[ALICE, BOB])
}

/// The certificate authority that clients trust.
pub fn ca(server: &Server) -> PathBuf {
    server.data().join("tls/ca.pem")
}

/// A message with what goes wrong where a client or a server is careless: dots, long lines, 8-bit text.
pub fn message(number: usize, size: usize) -> Vec<u8> {
    let mut text = format!(
        "From: Alice <{ALICE}>\r\nTo: Bob <{BOB}>\r\nSubject: message {number}\r\n\
         Date: Tue, 24 Nov 2026 10:00:00 +0000\r\nMessage-ID: <{number}@example.test>\r\n\
         MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n\
         .a line that begins with a dot\r\n..and one with two\r\n.\r\n\r\nFrom here on\r\n{}\r\n",
        "long ".repeat(190)
    )
    .into_bytes();
    let mut line = 0;
    while text.len() < size {
        text.extend_from_slice(format!("line {line} of message {number}, caf\u{e9}\r\n").as_bytes());
        line += 1;
    }
    text
}

/// True if `stored` is the message as it was sent, behind its trace fields.
pub fn came_through(stored: &[u8], sent: &[u8]) -> bool {
    stored
        .strip_suffix(sent)
        .is_some_and(|front| front.starts_with(b"Return-Path: ") && front.ends_with(b"\r\n"))
}

/// Puts a message into a mailbox, with the one program that every test needs anyway.
pub fn append(server: &Server, account: &str, mailbox: &str, message: &[u8]) {
    let file = server.folder().join("to-append");
    fs::write(&file, message).expect("a file to append");
    let mut curl = curl(server, account, "imaps", IMAPS, mailbox);
    curl.arg("-T").arg(file);
    run(curl, b"").ok();
}

/// What an IMAP command answers.
pub fn imap(server: &Server, account: &str, mailbox: &str, request: &str) -> String {
    let mut curl = curl(server, account, "imaps", IMAPS, mailbox);
    curl.args(["-X", request]);
    String::from_utf8(run(curl, b"").ok()).expect("replies are text")
}

/// Waits until a mailbox holds `count` messages: deliveries follow the 250.
pub fn wait_for(server: &Server, account: &str, count: usize) {
    let wanted = format!("(MESSAGES {count})");
    for _ in 0..200 {
        if imap(server, account, "", "STATUS INBOX (MESSAGES)").contains(&wanted) {
            return;
        }
        thread::sleep(Duration::from_millis(100));
    }
    panic!("{account} did not get {count} messages; log:\n{}", server.log());
}

/// curl on one of the server's ports, as one of its accounts.
pub fn curl(server: &Server, account: &str, scheme: &str, port: u16, path: &str) -> Command {
    let mut curl = command("curl", server.folder());
    curl.args(["-sS", "--max-time", "120", "--cacert"]).arg(ca(server));
    curl.args(["-u", &format!("{account}:{PASSWORD}")]);
    curl.args(["--connect-to", &format!("{HOST}:{port}:{}:{port}", server.address())]);
    curl.arg(format!("{scheme}://{HOST}:{port}/{path}"));
    curl
}
