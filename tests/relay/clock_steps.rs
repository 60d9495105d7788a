//! The wall clock is set forth and back under the server: sessions stay, mail comes in order and goes out, and a
//! start with another date finds all of it.
//!
//! libfaketime stands between the program and the wall clock; monotonic time goes on, as when somebody sets the clock
//! of a machine. Where that library is not installed the test is skipped.

use std::fs;
use std::path::{Path, PathBuf};

use crate::client::Imap;
use crate::mail::{ALICE, Setup, note, send, wait_for, wait_for_arrivals, wait_until_done};
use crate::remote::Remote;
use crate::server::{IMAP, PASSWORD};

/// The offset of the server's clock, in a file that is read at each look at the clock.
struct Clock {
    file: PathBuf,
    _folder: tempfile::TempDir,
}

impl Clock {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let clock = Self { file: folder.path().join("offset"), _folder: folder };
        clock.set("+0");
        clock
    }

    /// Such as `+10d` or `-3h`, from the real time.
    fn set(&self, offset: &str) {
        let next = self.file.with_extension("next");
        fs::write(&next, format!("{offset}\n"))
            .and_then(|()| fs::rename(&next, &self.file))
            .expect("written");
    }

    /// A server that sees this clock.
    fn over(&self, setup: Setup, library: &Path) -> Setup {
        setup
            .environment("LD_PRELOAD", &library.display().to_string())
            .environment("FAKETIME_TIMESTAMP_FILE", &self.file.display().to_string())
            .environment("FAKETIME_NO_CACHE", "1")
            .environment("FAKETIME_DONT_FAKE_MONOTONIC", "1")
    }
}

fn library() -> Option<PathBuf> {
    let folders = fs::read_dir("/usr/lib").ok()?.flatten().map(|entry| entry.path());
    let paths = folders.map(|folder| folder.join("faketime/libfaketimeMT.so.1"));
    paths.into_iter().find(|path| path.is_file())
}

#[test]
fn a_clock_that_is_set_forth_and_back_costs_no_mail_and_no_session() {
    let Some(library) = library() else {
        eprintln!("skipped: libfaketime is not installed");
        return;
    };
    let (clock, remote) = (Clock::new(), Remote::decent());
    let mut server = clock.over(Setup::new().route("one.test", &remote), &library).start();
    let mut session = Imap::login(server.address(), IMAP, ALICE, PASSWORD).expect("IMAP login");
    session.ok("SELECT INBOX").expect("it opens");
    let offsets = ["+0", "+3d", "-10d", "+2d", "-400d", "+0"];
    for (number, offset) in (1..).zip(offsets) {
        clock.set(offset);
        let subject = format!("number {number}");
        send(&server, ALICE, &[ALICE, &format!("to{number}@one.test")], &note(&subject));
        wait_for_arrivals(&server, &remote, number);
        let listed = wait_for("it is delivered", &server, || {
            session.ok("NOOP").expect("the session is still there");
            let listed = session.texts("UID SEARCH ALL");
            (listed[0].split_whitespace().count() == 2 + number).then_some(listed)
        });
        assert!(listed[0].ends_with(&format!(" {number}")), "UIDs go on: {listed:?}");
    }
    wait_until_done(&server, "one.test");
    // The dates are those of the server's clock, so that it was really set.
    let dates = session.texts("FETCH 1:* INTERNALDATE");
    let first = |date: &String| date.split('"').nth(1).expect("a date")[..11].to_owned();
    assert!(first(&dates[0]) != first(&dates[1]) && first(&dates[4]) != first(&dates[3]), "{dates:?}");
    let validity = |server: &crate::server::Server| {
        let mut imap = Imap::login(server.address(), IMAP, ALICE, PASSWORD).expect("IMAP login");
        let selected = imap.texts("SELECT INBOX");
        selected
            .into_iter()
            .filter(|line| line.contains("UIDVALIDITY") || line.contains("EXISTS"))
            .collect::<Vec<_>>()
    };
    let before = validity(&server);
    server.kill();
    // Before its certificate was made, it asks whether that can be.
    clock.set("-30d");
    let (status, said) = server.refusal(&["serve"]);
    assert!(status != Some(0) && said.contains("is the clock right?"), "{said}");
    clock.set("-6h");
    server.start();
    assert_eq!(validity(&server), before);
    assert_eq!(remote.arrivals().len(), offsets.len(), "nothing goes twice");
    server.kill();
}

/// What was put off by another clock is tried by this one's time, or when an operator says so.
#[test]
fn retry_starts_what_was_put_off_before_the_clock_was_set() {
    let Some(library) = library() else {
        eprintln!("skipped: libfaketime is not installed");
        return;
    };
    for offset in ["-3h", "-40d", "+2h"] {
        let (clock, remote) = (Clock::new(), Remote::decent());
        let setup = Setup::new().retries(7200, 7200).route("one.test", &remote);
        let server = clock.over(setup, &library).start();
        send(&server, ALICE, &["grey1@one.test"], &note("put off"));
        wait_for("it is put off", &server, || {
            server.done(&["events", "--type", "TransientFailure"]).contains("grey1@one.test").then_some(())
        });
        clock.set(offset);
        server.done(&["queue", "retry", "--everything"]);
        wait_for_arrivals(&server, &remote, 1);
    }
}
