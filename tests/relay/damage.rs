//! Mail that the disk has damaged: it is never sent, never lost sight of, and ends in a way that somebody sees.

use std::fs;
use std::path::PathBuf;

use crate::dsn::Notification;
use crate::mail::{
    ALICE, Setup, careful_text, count_mail, is_queued, note, queue, send, wait_for, wait_for_arrivals,
    wait_for_mail, wait_until_done,
};
use crate::remote::{Character, PORT, Remote, own_address};
use crate::server::Server;

/// Files below a folder of the data.
fn files(server: &Server, folder: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for log in fs::read_dir(server.data().join(folder)).expect("the folder is there").flatten() {
        found.extend(fs::read_dir(log.path()).expect("of a log").flatten().map(|entry| entry.path()));
    }
    found
}

/// Turns a bit around in the middle of these words, wherever they are; they must be somewhere.
fn damage(files: Vec<PathBuf>, words: &[u8]) {
    let mut times = 0;
    for path in files {
        let mut bytes = fs::read(&path).expect("it can be read");
        let found = memchr::memmem::find_iter(&bytes, words).collect::<Vec<_>>();
        times += found.len();
        found.iter().for_each(|at| bytes[at + words.len() / 2] ^= 1);
        if !found.is_empty() {
            fs::write(&path, bytes).expect("it can be written");
        }
    }
    assert!(times > 0, "the words are on the disk");
}

#[test]
fn a_message_that_cannot_be_read_is_held_and_the_others_go() {
    let (address, mut server) = server_before_its_remote();
    send(&server, ALICE, &["good1@remote.test"], &note("first good"));
    send(&server, ALICE, &["bad@remote.test", "bad2@remote.test"], &note("to be damaged"));
    send(&server, ALICE, &["good2@remote.test"], &note("second good"));
    let id = {
        let lines = server.done(&["queue", "list", "--recipient", "bad@remote.test", "--json"]);
        let row: serde_json::Value =
            serde_json::from_str(lines.lines().next().expect("a row")).expect("JSON");
        row["id"].as_str().expect("an id").to_owned()
    };
    server.stop();
    damage(files(&server, "log"), b"The text of to be damaged.");
    let remote = Remote::at(address, Character::decent());
    server.start();
    wait_for_arrivals(&server, &remote, 2);
    let list = wait_for("it is held", &server, || {
        let list = queue(&server);
        (list.matches("held").count() == 2).then_some(list)
    });
    assert!(list.contains("cannot be read") && list.contains(&id), "{list}");
    assert!(server.done(&["queue", "show", &id]).contains("cannot be read"));
    // Another look, by an operator, comes to the same.
    server.done(&["queue", "release", &id]);
    wait_for("it is held again", &server, || (queue(&server).matches("held").count() == 2).then_some(()));
    let mut taken: Vec<String> =
        remote.arrivals().into_iter().flat_map(|arrival| arrival.taken_for).collect();
    taken.sort();
    assert_eq!(taken, ["good1@remote.test", "good2@remote.test"], "each once, and nothing of the third");
    server.kill();
    server.start();
    assert_eq!(queue(&server).matches("held").count(), 2, "{}", queue(&server));
    server.done(&["queue", "bounce", &id, "--reason", "it is lost"]);
    assert!(!queue(&server).contains(&id));
    assert_eq!(count_mail(&server, ALICE), 0);
}

/// A server whose mail for remote.test waits for somebody to listen at the address.
fn server_before_its_remote() -> (std::net::SocketAddr, Server) {
    let address = std::net::SocketAddr::new(own_address().into(), PORT);
    let server = Setup::new()
        .cores(1)
        .more(&format!("\n[[route]]\ndomain = \"remote.test\"\nto = [\"{address}\"]\n"))
        .more("\n[[shaping]]\ndead_first_s = 1\ndead_max_s = 1\n")
        .start();
    (address, server)
}

#[test]
fn a_sender_hears_of_a_body_that_is_damaged() {
    let (address, mut server) = server_before_its_remote();
    let mut text = careful_text(600_000);
    text.extend_from_slice(b"what the disk forgets\r\n");
    send(&server, ALICE, &["bad@remote.test"], &text);
    send(&server, ALICE, &["good@remote.test"], &careful_text(600_000));
    server.stop();
    damage(files(&server, "large"), b"what the disk forgets");
    let remote = Remote::at(address, Character::decent());
    server.start();
    wait_for_arrivals(&server, &remote, 1);
    let bounce = Notification::read(&wait_for_mail(&server, ALICE, 1)[0]);
    assert_eq!(bounce.verdict("bad@remote.test"), ("failed", "5.3.0"));
    assert!(bounce.recipient("bad@remote.test")["diagnostic-code"].contains("damaged here"));
    assert_eq!(bounce.returned, b"");
    wait_until_done(&server, "remote.test");
    assert!(!is_queued(&server, "bad@remote.test"));
    assert_eq!(remote.arrivals().len(), 1);
    assert_eq!(remote.arrivals()[0].taken_for, ["good@remote.test"]);
}

#[test]
fn queued_mail_that_is_damaged_is_named_and_put_aside() {
    let (address, mut server) = server_before_its_remote();
    let mut large = careful_text(600_000);
    large.extend_from_slice(b"what the disk forgets\r\n");
    send(&server, ALICE, &["whole@remote.test"], &note("the whole one"));
    send(&server, ALICE, &["small@remote.test", "small2@remote.test"], &note("to be damaged"));
    send(&server, ALICE, &["large@remote.test"], &large);
    server.stop();
    damage(files(&server, "log"), b"The text of to be damaged.");
    damage(files(&server, "large"), b"what the disk forgets");
    let output = server.command(&["store", "verify", "--json"], b"");
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let rows: Vec<serde_json::Value> =
        text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert!(rows.len() == 2 && rows.iter().all(|row| row["what"] == "queued"), "{text}");
    let ids: Vec<&str> = rows.iter().filter_map(|row| row["queue_id"].as_str()).collect();
    // Of the small one the envelope is lost with the text: where it goes is all that is known.
    assert_eq!(rows[0]["recipients"], serde_json::json!(["remote.test", "remote.test"]), "{text}");
    assert_eq!(rows[1]["recipients"], serde_json::json!(["large@remote.test"]), "{text}");
    assert_eq!(rows[1]["from"], ALICE, "{text}");
    let list = queue(&server);
    assert!(ids.iter().all(|id| list.contains(id)), "{list}");

    let done = server.done(&["store", "repair"]);
    assert!(done.contains("returned to its sender") && done.contains("nobody can be told"), "{done}");
    assert!(server.done(&["store", "verify"]).contains("all that is stored is sound"));
    assert!(server.done(&["store", "repair"]).contains("nothing was changed"));
    for id in ids {
        assert!(!queue(&server).contains(id), "{}", queue(&server));
        assert!(server.data().join(format!("quarantine/{id}-queued.eml")).exists());
    }
    let remote = Remote::at(address, Character::decent());
    server.start();
    let bounce = Notification::read(&wait_for_mail(&server, ALICE, 1)[0]);
    assert_eq!(bounce.verdict("large@remote.test"), ("failed", "5.3.0"));
    wait_until_done(&server, "remote.test");
    let taken: Vec<String> = remote.arrivals().into_iter().flat_map(|arrival| arrival.taken_for).collect();
    assert_eq!(taken, ["whole@remote.test"]);
    assert_eq!(count_mail(&server, ALICE), 1, "one notification, and no second one");
}
