//! What a later version may have written is refused with its name and number, and left as it is; what can be made again
//! is made again.

use std::fs;
use std::path::Path;

use crate::client::Imap;
use crate::flow::message;
use crate::server::Server;

const ALICE: &str = "alice@example.test";

fn with_mail() -> Server {
    let mut server = Server::prepare(1, "");
    server.add_account(ALICE);
    server.start();
    let mut imap: Imap = server.imap(ALICE);
    for number in 0..3 {
        imap.append("INBOX", &message(number, 500)).expect("a reply");
    }
    server.stop();
    server
}

/// The start fails and says these words; no byte of the file changed.
fn refused(server: &Server, file: &Path, words: &[&str]) {
    let before = fs::read(file).expect("read");
    let (status, said) = server.refusal(&["serve"]);
    assert_eq!(status, Some(3), "{said}");
    assert!(words.iter().all(|word| said.contains(word)), "{said}");
    assert!(fs::read(file).expect("read") == before, "{} was changed", file.display());
}

#[test]
fn a_later_version_of_a_file_is_refused_by_its_name() {
    let server = with_mail();
    let segment = server.data().join("log/00/0000000001.seg");
    let whole = fs::read(&segment).expect("read");
    let mut later = whole.clone();
    for page in [0, 4096] {
        later[page + 8..page + 10].copy_from_slice(&9_u16.to_le_bytes());
        let checksum = crc32fast::hash(&later[page + 4..page + 64]);
        later[page..page + 4].copy_from_slice(&checksum.to_le_bytes());
    }
    fs::write(&segment, later).expect("written");
    refused(&server, &segment, &["log/00", "segment 1 has version 9"]);
    fs::write(&segment, whole).expect("put back");

    let directory = server.data().join("directory");
    let whole = fs::read_to_string(&directory).expect("read");
    let (rows, _) = whole.rsplit_once("crc32 ").expect("a checksum");
    let later = rows.replacen("ringpost directory 2", "ringpost directory 9", 1);
    let later = format!("{later}crc32 {:08x}\n", crc32fast::hash(later.as_bytes()));
    fs::write(&directory, later).expect("written");
    refused(&server, &directory, &["/directory: ", "version 9"]);
    // What version 1 wrote is read.
    let earlier = rows.replacen("ringpost directory 2", "ringpost directory 1", 1);
    let earlier = format!("{earlier}crc32 {:08x}\n", crc32fast::hash(earlier.as_bytes()));
    fs::write(&directory, earlier).expect("written");
    assert!(server.done(&["account", "list"]).contains(ALICE));
}

#[test]
fn an_index_of_a_later_version_is_made_again() {
    let mut server = with_mail();
    let root = server.data().join("log/00/index.root");
    let mut later = fs::read(&root).expect("read");
    later[8..10].copy_from_slice(&99_u16.to_le_bytes());
    let checksum = crc32fast::hash(&later[4..64]);
    later[..4].copy_from_slice(&checksum.to_le_bytes());
    fs::write(&root, later).expect("written");
    server.start();
    let mut imap = server.imap(ALICE);
    imap.ok("SELECT INBOX").expect("opens");
    assert_eq!(imap.bodies().expect("bodies").len(), 3);
    assert!(server.log().contains("with_checkpoint=false"), "{}", server.log());
}

#[test]
fn a_backup_of_a_later_version_is_refused() {
    let server = with_mail();
    let folder = server.folder().join("backup");
    let name = folder.to_str().expect("it is UTF-8");
    server.done(&["backup", name]);
    let manifest = folder.join("manifest");
    let later = fs::read_to_string(&manifest).expect("read").replacen("backup 1", "backup 9", 1);
    fs::write(&manifest, later).expect("written");
    for arguments in [&["backup", name][..], &["restore", name, "--check"]] {
        let output = server.command(arguments, b"");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains("manifest has version 9"), "{said}");
    }
}

fn u32_at(bytes: &[u8], at: usize) -> usize {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes")) as usize
}

fn checksum(parts: &[&[u8]]) -> [u8; 4] {
    let mut hasher = crc32fast::Hasher::new();
    parts.iter().for_each(|part| hasher.update(part));
    hasher.finalize().to_le_bytes()
}

#[test]
fn a_record_of_a_later_kind_is_refused_and_the_log_left_alone() {
    let server = with_mail();
    fs::remove_file(server.data().join("log/00/index.root")).expect("removed");
    let segment = server.data().join("log/00/0000000001.seg");
    let mut bytes = fs::read(&segment).expect("read");
    // The layout as docs/storage.md draws it: the last frame of the first batch becomes one of kind 99.
    let key = bytes[16..24].to_vec();
    let batch = 8192;
    let (count, length) = (u32_at(&bytes, batch + 28), u32_at(&bytes, batch + 48));
    let (mut at, mut headers) = (batch + 64, Vec::new());
    for _ in 0..count {
        let payload = u32_at(&bytes, at + 8);
        let header = 24 + 4 * payload.div_ceil(65536);
        headers.push(at..at + header);
        at += header + payload;
    }
    assert_eq!(at, batch + 64 + length);
    let last = headers.last().expect("a batch has records").clone();
    bytes[last.start + 4] = 99;
    let sum = checksum(&[&key, &bytes[last.start + 4..last.end]]);
    bytes[last.start..last.start + 4].copy_from_slice(&sum);
    let all: Vec<&[u8]> = headers.iter().map(|header| &bytes[header.clone()]).collect();
    let sum = checksum(&all);
    bytes[batch + 52..batch + 56].copy_from_slice(&sum);
    let sum = checksum(&[&key, &bytes[batch + 4..batch + 64]]);
    bytes[batch..batch + 4].copy_from_slice(&sum);
    fs::write(&segment, bytes).expect("written");
    refused(&server, &segment, &["log/00", "is of a kind that this program does not know"]);
}
