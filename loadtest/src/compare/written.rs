//! What the device has to write of mail: while the server's files grow, and once they are used again.
//!
//! The same load in rounds, one behind the other. Mail of a round is gone before the next: relayed, or deleted from
//! the mailboxes that it was delivered to. While files grow, a server that makes them ready ahead of use writes them
//! twice; that is the growth phase, and the first round stands for it. What counts is the first round after which a
//! server's files take no more room on the disk than they ever did: everything in it went into room that was there. A
//! server that gives room back and takes it again pays for that in each round. A peer whose spool is empty between two
//! messages is there in its second round.
//!
//! What a server does behind its replies, such as cleaning, falls into the next round, and that of the round before
//! into this one.

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::thread;
use std::time::Duration;

use crate::compare::bench::{Bench, SETTLE, samples};
use crate::compare::disk;
use crate::compare::drive::{Connections, Drive, Until};
use crate::compare::relay::relay;
use crate::compare::row::{Better, Goal, Measure, Samples};
use crate::compare::server::{self, Mode, PASSWORD, Running, Server};
use crate::cost::{Calls, Meter};
use crate::imap::client::Login;
use crate::imap::options::Security;
use crate::report::scale::Unit;

/// Which way mail goes whose writes are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    Relayed,
    Delivered,
}

/// What a round found.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Round {
    /// To the device, for each byte of mail.
    written: f64,
    /// The same of deleting the mail, where it has to be deleted.
    removed: Option<f64>,
    /// Room that the files take at its end, for each byte of mail.
    room: f64,
}

const SESSIONS: usize = 64;

/// Messages in a peer's round.
const PEERS_MAX: usize = 100;

/// A store that grows has not settled after so many rounds.
const ROUNDS_MAX: usize = 20;

/// Growth that is none: indexes that are written beside what they replace. What goes there is counted like everything
/// else.
const GROWN_MAX: f64 = 0.1;

/// Until a server has cleaned up behind mail that was deleted.
const CLEANING: Duration = Duration::from_millis(2500);

pub fn measures(way: Way, bytes: usize) -> Vec<Measure> {
    let bound = match (way, bytes) {
        (Way::Delivered, _) => 1.6,
        (Way::Relayed, 4096) => 1.15,
        (Way::Relayed, _) => 1.03,
    };
    let times = |name: &str, what: &str| Measure::new(name, what, Unit::Times, Better::Less);
    let mut measures = vec![
        times("steady", "device bytes a message byte, once files are used again")
            .with_goal(Goal::AtMost(bound)),
        times("growth", "the same in the first round, while files are made"),
        Measure::new("rounds", "rounds until files are used again", Unit::Count, Better::Less).uncompared(),
    ];
    if way == Way::Delivered {
        measures.push(times("removed", "device bytes of deleting it, a message byte"));
    }
    // What is relayed before the kernel writes it is never written by who does not sync.
    let among_synced = |measure: Measure| match measure.name.as_str() {
        "rounds" => measure,
        _ => measure.among_synced(),
    };
    measures.into_iter().map(among_synced).collect()
}

pub fn measure(bench: &Bench, server: Server, way: Way, bytes: usize) -> io::Result<Samples> {
    let mode = if way == Way::Relayed { Mode::Relay } else { Mode::Mailbox };
    let running = bench.start_fresh(server, &bench.setup(mode))?;
    let all = (bench.sizes.written / bytes as u64) as usize;
    // Who writes each message by itself needs no more of them to be counted.
    let most = if server == Server::Ringpost { usize::MAX } else { PEERS_MAX };
    let messages = all.clamp(SESSIONS, most);
    let load = Load { bench, running: &running, way, bytes, messages };
    let rounds = settle(|| load.round())?;
    let [first, .., last] = rounds.as_slice() else {
        return Err(io::Error::other("one round is not enough"));
    };
    let mut samples =
        samples([("growth", first.written), ("steady", last.written), ("rounds", rounds.len() as f64)]);
    samples.extend(last.removed.map(|removed| ("removed".to_owned(), removed)));
    Ok(samples)
}

/// Rounds up to the first that took no more room than one before; the very first one only grows.
fn settle(mut round: impl FnMut() -> io::Result<Round>) -> io::Result<Vec<Round>> {
    let mut rounds = vec![round()?];
    while rounds.len() < ROUNDS_MAX {
        let most = rounds.iter().map(|round| round.room).fold(0.0, f64::max);
        rounds.push(round()?);
        if rounds.last().is_some_and(|last| last.room <= most + GROWN_MAX) {
            return Ok(rounds);
        }
    }
    let rooms: Vec<String> = rounds.iter().map(|round| format!("{:.2}", round.room)).collect();
    Err(io::Error::other(format!(
        "its files grow in each of {ROUNDS_MAX} rounds; a round's mail has the room of {}",
        rooms.join(", ")
    )))
}

struct Load<'a> {
    bench: &'a Bench,
    running: &'a Running,
    way: Way,
    bytes: usize,
    messages: usize,
}

impl Load<'_> {
    fn round(&self) -> io::Result<Round> {
        let written = self.written(SETTLE, || self.send())?;
        let room = room_of(self.running.folder())?;
        let removed = match self.way {
            Way::Relayed => None,
            Way::Delivered => Some(self.written(CLEANING, || self.delete())?),
        };
        let each = |bytes: u64| bytes as f64 / (self.messages * self.bytes) as f64;
        Ok(Round { written: each(written), removed: removed.map(each), room: each(room) })
    }

    /// Bytes that went to the device, with all that was still to be written at the end, and nothing from before.
    fn written(&self, pause: Duration, work: impl FnOnce() -> io::Result<()>) -> io::Result<u64> {
        // Of this file system alone: what others have to write elsewhere is not waited for.
        let folder = File::open(&self.bench.folder)?;
        rustix::fs::syncfs(&folder)?;
        let meter = Meter::start(&[self.running.pid], Some(&self.bench.folder), Calls::NotCounted)?;
        work()?;
        thread::sleep(pause);
        rustix::fs::syncfs(&folder)?;
        let device = meter.stop()?.device;
        device.map(|device| device.written_bytes).ok_or_else(|| io::Error::other("the device is not known"))
    }

    fn send(&self) -> io::Result<()> {
        if self.way == Way::Relayed {
            return relay(self.bench, self.running, self.bytes, self.messages);
        }
        let drive = Drive {
            to: self.running.port("smtp")?,
            sessions: SESSIONS.min(self.messages),
            bytes: self.bytes,
            recipients: self.bench.recipients(),
            connections: Connections::Kept,
            until: Until::Messages(self.messages),
        };
        drive.run().map(drop)
    }

    /// Every INBOX is emptied.
    fn delete(&self) -> io::Result<()> {
        for number in 0..self.bench.sizes.accounts {
            let login = Login {
                address: self.running.port("imap")?,
                security: Security::Plain,
                user: server::account(number),
                pass: PASSWORD.to_owned(),
            };
            let mut client = login.open()?;
            for command in ["SELECT INBOX", "UID STORE 1:* +FLAGS.SILENT (\\Deleted)", "EXPUNGE"] {
                client.command(command, |_| Ok(()))?;
            }
            client.logout()?;
        }
        Ok(())
    }
}

/// What the files of a folder take on the disk. One that goes meanwhile takes nothing.
fn room_of(folder: &Path) -> io::Result<u64> {
    let mut bytes = 0;
    let found = disk::each_file(folder, &mut |path| {
        match path.symlink_metadata() {
            Ok(file) => bytes += file.blocks() * 512,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        Ok(())
    });
    found.map(|()| bytes)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::{ROUNDS_MAX, Round, room_of, settle};

    fn settled(room: impl Fn(usize) -> f64) -> Result<usize, String> {
        let mut number = 0;
        let rounds = settle(|| {
            number += 1;
            Ok(Round { room: room(number), written: number as f64, removed: None })
        });
        rounds.map(|rounds| rounds.len()).map_err(|error| error.to_string())
    }

    #[test]
    fn only_a_round_in_room_that_was_there_counts() {
        // Files grow by the mail, then by half of it, then by the end of a log, and would grow again.
        assert_eq!(settled(|number| [1.0, 1.5, 1.51, 2.5][number - 1]), Ok(3));
        // Some are given back, and made again.
        assert_eq!(settled(|number| [1.0, 2.0, 1.2, 0.5][number - 1]), Ok(3));
        // The first round fills what was made ready before it.
        assert_eq!(settled(|_| 1.0), Ok(2));
        let error = settled(|number| number as f64 * 0.11).expect_err("it grows for ever");
        assert!(error.contains(&format!("each of {ROUNDS_MAX} rounds")), "{error}");
    }

    #[test]
    fn room_is_what_files_take_and_not_how_long_they_are() {
        let folder = tempfile::tempdir().expect("a folder");
        fs::create_dir(folder.path().join("spool")).expect("another in it");
        assert_eq!(room_of(folder.path()).expect("it is there"), 0);
        let hole = fs::File::create(folder.path().join("hole")).expect("a file");
        hole.set_len(1 << 20).expect("it is longer now");
        fs::write(folder.path().join("spool/message"), vec![1; 100_000]).expect("written");
        rustix::fs::syncfs(fs::File::open(folder.path()).expect("it is there")).expect("it is synced");
        let room = room_of(folder.path()).expect("it is there");
        assert!((100_000..200_000).contains(&room), "{room}");
    }
}
