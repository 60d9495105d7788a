//! The machine runs out of descriptors or memory, or stops the server for a while.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use crate::client::{Imap, Lines, Smtp};
use crate::server::{IMAP, PASSWORD, SMTP, Server};
use crate::{ALICE, descriptors_of, note};

/// What has run out and is there again is used again within this.
const BACK_MAX: Duration = Duration::from_secs(20);

/// Memory for what the server takes after its start, under which it cannot hold [`HELD`].
const MEMORY_MAX: u64 = 48 << 20;

/// Sessions, each with a literal under way that is kept in memory.
const HELD: usize = 400;
const LITERAL_BYTES: usize = 200 << 10;

#[test]
fn descriptors_run_out_and_come_back() {
    let server = Server::with_accounts(&[ALICE]);
    let mut imap = server.imap(ALICE);
    let mut smtp = server.smtp();
    set_descriptors(&server, descriptors_of(&server) + 20);
    let crowd: Vec<Lines> =
        (0..60).map(|_| Lines::connect(server.address(), SMTP).expect("the kernel takes it")).collect();
    // It is said. The number in use tells less: a thread that waits in accept(2) has one that nobody sees.
    wait_until("descriptors run out", || server.log().contains("accept failed"));
    // Those who are there go on.
    assert!(smtp.message("sender@elsewhere.test", &[ALICE], &note(1)).expect("a reply"));
    imap.append("INBOX", &note(2)).expect("a reply");
    drop(crowd);
    let mut again = Lines::connect(server.address(), SMTP).expect("the kernel takes it");
    again.set_patience(BACK_MAX).expect("a socket has a timeout");
    assert!(again.line().expect("a greeting").starts_with("220 "));
    Imap::login(server.address(), IMAP, ALICE, PASSWORD).expect("IMAP login");
    assert!(!server.log().contains("panic"), "{}", server.log());
}

#[test]
fn a_server_that_was_stopped_goes_on_where_it_was() {
    let server = Server::with_accounts(&[ALICE]);
    let mut imap = server.imap(ALICE);
    imap.ok("SELECT INBOX").expect("it opens");
    let mut smtp = server.smtp();
    server.signal("STOP");
    imap.send("NOOP").expect("the kernel takes it");
    let late = thread::spawn(move || smtp.message("sender@elsewhere.test", &[ALICE], &note(1)));
    thread::sleep(Duration::from_secs(5));
    server.signal("CONT");
    assert!(late.join().expect("the client ends well").expect("a reply"));
    imap.until("t3").expect("a reply");
    wait_until("the message is there", || {
        server.imap(ALICE).texts("STATUS INBOX (MESSAGES)")[0].contains(" 1)")
    });
}

/// The kernel ends the server as `kill -9` does, and it comes back the same way.
#[test]
fn what_was_acknowledged_outlives_the_killer_of_those_without_memory() {
    let Some(group) = MemoryGroup::make() else {
        return;
    };
    let mut server = Server::with_accounts(&[ALICE]);
    group.take(&server);
    let mut smtp = server.smtp();
    let mut acknowledged = 0;
    let mut held = Vec::new();
    for number in 0..HELD {
        // At some point there is nobody to answer.
        let sent = send(&mut smtp, number).and_then(|()| hold(&server));
        match sent {
            Ok(imap) => held.push(imap),
            Err(_) => break,
        }
        acknowledged = number + 1;
    }
    assert!(held.len() < HELD, "the memory was not enough");
    let (ended_well, _) = server.wait_for_end();
    assert!(!ended_well, "it was killed");
    assert!(acknowledged > 0, "something was acknowledged");
    server.start();
    let mut imap = server.imap(ALICE);
    imap.ok("SELECT INBOX").expect("it opens");
    let bodies = imap.bodies().expect("bodies");
    for number in 0..acknowledged {
        assert!(
            bodies.iter().any(|body| body.ends_with(&note(number))),
            "{number} of {acknowledged} is lost"
        );
    }
    println!(
        "killed with {acknowledged} messages acknowledged and {} literals held; all are there",
        held.len()
    );
}

fn send(smtp: &mut Smtp, number: usize) -> std::io::Result<()> {
    let taken = smtp.message("sender@elsewhere.test", &[ALICE], &note(number))?;
    assert!(taken, "every message gets its 250");
    Ok(())
}

fn hold(server: &Server) -> std::io::Result<Imap> {
    let mut imap = Imap::connect(server.address(), IMAP)?;
    let login = imap.command(&format!("LOGIN {ALICE} \"{PASSWORD}\""))?;
    assert!(login[login.len() - 1].text.contains(" OK"));
    imap.send(&format!("APPEND INBOX {{{}}}", LITERAL_BYTES + 1))?;
    imap.lines().line()?;
    imap.raw(&vec![b'x'; LITERAL_BYTES])?;
    Ok(imap)
}

fn set_descriptors(server: &Server, count: usize) {
    let process = server.process_id().to_string();
    let status = Command::new("prlimit").args(["--pid", &process, &format!("--nofile={count}")]).status();
    assert!(status.is_ok_and(|status| status.success()), "prlimit sets the limit");
}

fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < BACK_MAX, "{what}: not within {BACK_MAX:?}");
        thread::sleep(Duration::from_millis(20));
    }
}

/// A control group with little memory; removed when it is dropped and its process has ended.
struct MemoryGroup {
    folder: PathBuf,
}

impl MemoryGroup {
    fn make() -> Option<Self> {
        // The first is of cgroup 1.
        let places = [("/sys/fs/cgroup/memory", "memory.limit_in_bytes"), ("/sys/fs/cgroup", "memory.max")];
        let (root, limit) =
            places.into_iter().find(|(root, _)| Path::new(root).join("cgroup.procs").exists())?;
        let folder = Path::new(root).join(format!("ringpost-limits-{}", std::process::id()));
        let made =
            fs::create_dir(&folder).and_then(|()| fs::write(folder.join(limit), MEMORY_MAX.to_string()));
        if let Err(error) = made {
            eprintln!("skipped: no control group with little memory: {error}");
            return None;
        }
        Some(Self { folder })
    }

    fn take(&self, server: &Server) {
        fs::write(self.folder.join("cgroup.procs"), server.process_id().to_string()).expect("root may");
    }
}

impl Drop for MemoryGroup {
    fn drop(&mut self) {
        // It stays as long as the server lives, which ends after it.
        let _ = fs::remove_dir(&self.folder);
    }
}
