//! mpop: fetches and keeps, fetches what is new, fetches and deletes.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::mail::{ALICE, HOST, append, ca, imap, message, server};
use crate::program::{available, command, run};
use crate::server::{PASSWORD, POP3, POP3S, Server};

/// Fetches into a Maildir; the messages that are there afterwards, in the order of their content.
fn fetch(server: &Server, port: u16, keep: &str) -> Vec<Vec<u8>> {
    let home = server.folder();
    let maildir = home.join("Maildir");
    for folder in ["cur", "new", "tmp"] {
        fs::create_dir_all(maildir.join(folder)).expect("a Maildir");
    }
    let starttls = if port == POP3 { "on" } else { "off" };
    let config = format!(
        "defaults\ntls on\ntls_starttls {starttls}\ntls_trust_file {}\ntls_host_override {HOST}\n\
         account a\nhost {}\nport {port}\nuser {ALICE}\npassword {PASSWORD}\nkeep {keep}\nreceived_header off\n\
         uidls_file {home}/uidls\ndelivery maildir {}\naccount default : a\n",
        ca(server).display(),
        server.address(),
        maildir.display(),
        home = home.display(),
    );
    let path = home.join("mpoprc");
    write_private(&path, &config);
    let mut mpop = command("mpop", home);
    mpop.arg("--file").arg(path);
    run(mpop, b"").ok();
    let mut messages: Vec<Vec<u8>> = fs::read_dir(maildir.join("new"))
        .expect("the Maildir's new")
        .map(|entry| fs::read(entry.expect("an entry").path()).expect("a message"))
        .collect();
    messages.sort();
    messages
}

/// mpop reads no password from a file that others may read.
fn write_private(path: &Path, text: &str) {
    fs::write(path, text).expect("the configuration is written");
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).expect("its mode is set");
}

#[test]
fn mpop_keeps_fetches_what_is_new_and_deletes() {
    if !available("mpop") || !available("curl") {
        return;
    }
    let server = server();
    let mut sent: Vec<Vec<u8>> = (0..30).map(|number| message(number, 1500)).collect();
    for text in &sent {
        append(&server, ALICE, "INBOX", text);
    }
    let stored = |sent: &[Vec<u8>]| {
        let mut stored: Vec<Vec<u8>> = sent.iter().map(|text| without_cr(text)).collect();
        stored.sort();
        stored
    };
    assert!(fetch(&server, POP3S, "on") == stored(&sent), "all came, unchanged");
    assert!(fetch(&server, POP3, "on") == stored(&sent), "the second time nothing came");
    sent.push(message(30, 80_000));
    append(&server, ALICE, "INBOX", &sent[30]);
    assert!(fetch(&server, POP3, "on") == stored(&sent), "the third time the new one came");
    assert!(fetch(&server, POP3S, "off") == stored(&sent));
    let status = imap(&server, ALICE, "", "STATUS INBOX (MESSAGES UIDNEXT)");
    assert!(status.contains("(MESSAGES 0 UIDNEXT 32)"), "all are deleted: {status}");
}

fn without_cr(text: &[u8]) -> Vec<u8> {
    text.iter().copied().filter(|byte| *byte != b'\r').collect()
}
