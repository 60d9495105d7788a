//! The generator against sinks that refuse, hang up, dawdle and list little.

use std::io::{BufRead, BufReader, Write};
use std::mem;
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use loadtest::plan::{Bodies, Sizes};
use loadtest::sink::{Conduct, Fate, Sink};
use loadtest::smtp::{Connections, Envelope, Greeting, Limit, Load, Sent, Transfer};

fn sink(conduct: Conduct) -> Sink {
    Sink::start(([127, 0, 0, 1], 0).into(), conduct, None, 1).expect("a free port")
}

fn load(sink: &Sink, messages: u64) -> Load {
    let bodies = Arc::new(Bodies::new(&Sizes::Same(2000), 1));
    Load::plain(sink.address(), 4, Limit::Messages(messages), bodies)
}

fn conduct(fate: Fate, chance: &str) -> Conduct {
    Conduct { fates: vec![(fate, chance.parse().expect("a chance"))], ..Conduct::default() }
}

/// Everything is accounted for.
fn check(sent: &Sent, sink: &Sink, messages: u64) {
    let counts = sent.tally.counts;
    assert_eq!(counts.started, messages);
    assert_eq!(counts.succeeded + counts.failed, messages, "{:?}", sent.tally.errors);
    assert_eq!(counts.succeeded, sink.taken(), "{:?}", sent.tally.errors);
}

#[test]
fn refusals_are_counted_and_no_message_is_lost_from_sight() {
    for place in ["mail", "rcpt", "data", "dot"] {
        for envelope in [Envelope::Stepwise, Envelope::Group, Envelope::Ahead] {
            for connections in [Connections::Kept, Connections::New] {
                let sink = sink(conduct(Fate::Temporary, &format!("{place}:20")));
                let load = Load { envelope, connections, ..load(&sink, 200) };
                let sent = load.run().expect("it runs");
                check(&sent, &sink, 200);
                assert!(
                    (10..90).contains(&sent.tally.counts.failed),
                    "{place} {envelope:?}: {:?}",
                    sent.tally.errors
                );
            }
        }
    }
}

#[test]
fn connections_that_break_are_dialled_again() {
    for place in ["mail", "rcpt", "data", "dot"] {
        let sink = sink(conduct(Fate::Drop, &format!("{place}:10")));
        let sent = load(&sink, 200).run().expect("it runs");
        check(&sent, &sink, 200);
        assert!(sent.tally.counts.failed > 0 && sent.tally.counts.connections > 4);
    }
}

#[test]
fn one_connection_for_each_message() {
    let sink = sink(Conduct::default());
    let sent = Load { connections: Connections::New, ..load(&sink, 100) }.run().expect("it runs");
    check(&sent, &sink, 100);
    assert_eq!(sink.counts().connections.load(Ordering::Relaxed), 100);
}

#[test]
fn chunks_lmtp_and_poor_servers() {
    let sink = sink(Conduct::default());
    for envelope in [Envelope::Stepwise, Envelope::Group] {
        let sent = Load { transfer: Transfer::Bdat, envelope, ..load(&sink, 50) }.run().expect("it runs");
        assert_eq!(sent.tally.counts.succeeded, 50);
    }
    let greeting = Greeting::Lhlo("load.test".to_owned());
    let sent = Load { greeting, recipients_each: 3, ..load(&sink, 50) }.run().expect("it runs");
    assert_eq!(sent.tally.counts.succeeded, 50, "{:?}", sent.tally.errors);
    assert_eq!(sink.counts().copies.load(Ordering::Relaxed), 50 + 50 + 150);
    assert_eq!(sink.counts().corrupted.load(Ordering::Relaxed), 0);
    // Where it is not offered, nothing is pipelined.
    let poor = self::sink(Conduct { hidden: vec!["PIPELINING"], ..Conduct::default() });
    let sent = Load { envelope: Envelope::Ahead, ..load(&poor, 50) }.run().expect("it runs");
    check(&sent, &poor, 50);
}

#[test]
fn answers_come_as_late_as_asked_and_slow_readers_are_slow() {
    let delays = vec!["rcpt:20ms".parse().expect("a delay"), "dot:30ms..40ms".parse().expect("a delay")];
    let sink = sink(Conduct { delays, ..Conduct::default() });
    let sent = Load { envelope: Envelope::Group, ..load(&sink, 20) }.run().expect("it runs");
    check(&sent, &sink, 20);
    assert!(sent.tally.ack.min() >= 29_000_000, "{}", sent.tally.ack.min());
    assert!(sent.tally.service.min() >= 49_000_000, "{}", sent.tally.service.min());
    let slow = self::sink(Conduct { read_rate: Some(100_000), ..Conduct::default() });
    let bodies = Arc::new(Bodies::new(&Sizes::Same(50_000), 1));
    let began = Instant::now();
    let sent = Load::plain(slow.address(), 1, Limit::Messages(1), bodies).run().expect("it runs");
    assert_eq!(sent.tally.counts.succeeded, 1);
    assert!(began.elapsed() > Duration::from_millis(300));
}

/// Takes every message.
fn serve(stream: TcpStream) -> std::io::Result<()> {
    let (mut output, input) = (stream.try_clone()?, BufReader::new(stream));
    output.write_all(b"220 hello\r\n")?;
    let mut is_data = false;
    for line in input.lines() {
        let line = line?;
        let reply = match (is_data, line.as_str()) {
            (true, ".") | (false, _) if line != "DATA" => "250 fine\r\n",
            (true, _) => continue,
            (false, _) => "354 go\r\n",
        };
        is_data = reply.starts_with("354");
        output.write_all(reply.as_bytes())?;
    }
    Ok(())
}

#[test]
fn a_connection_that_nobody_greets_is_dialled_again() {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
    let address = listener.local_addr().expect("it has an address");
    thread::spawn(move || {
        // The first stays open, and silent.
        let silent = listener.accept();
        for stream in listener.incoming().flatten() {
            thread::spawn(move || serve(stream));
        }
        drop(silent);
    });
    let bodies = Arc::new(Bodies::new(&Sizes::Same(2000), 1));
    let load = Load::plain(address, 1, Limit::Messages(3), bodies);
    let sent = Load { reply_max: Duration::from_millis(500), ..load }.run().expect("it runs");
    let tally = &sent.tally;
    assert_eq!((tally.counts.succeeded, tally.counts.connections), (3, 2), "{:?}", tally.errors);
    assert!(tally.errors.keys().any(|error| error.contains("no answer in greeting")), "{:?}", tally.errors);
}

/// Takes messages, but answers to the end of one only when the next command has come; how the client leaves is its own
/// affair.
fn take_with_what_follows(stream: TcpStream) -> std::io::Result<u64> {
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    let (mut output, input) = (stream.try_clone()?, BufReader::new(stream));
    output.write_all(b"220 hello\r\n")?;
    let (mut is_data, mut taken, mut replies) = (false, 0, Vec::new());
    let mut lines = input.lines();
    while let Some(Ok(mut line)) = lines.next() {
        if is_data && line != "." {
            continue;
        }
        if is_data {
            let Some(Ok(next)) = lines.next() else { break };
            (line, taken) = (next, taken + 1);
            replies.extend_from_slice(b"250 taken\r\n");
        }
        is_data = line == "DATA";
        replies.extend_from_slice(match line.get(..4) {
            Some("EHLO") => b"250-hello\r\n250 PIPELINING\r\n",
            Some("DATA") => b"354 go\r\n",
            _ => b"250 fine\r\n",
        });
        if output.write_all(&mem::take(&mut replies)).is_err() {
            break;
        }
    }
    Ok(taken)
}

/// RFC 2920, section 3.1: message text may be followed by the next group at once.
#[test]
fn pipelining_sends_the_next_envelope_behind_the_message() {
    for (option, comes) in [("--pipeline", true), ("--pipeline=group", false)] {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
        let to = listener.local_addr().expect("it has an address").to_string();
        let server = thread::spawn(move || {
            let (stream, _) = listener.accept().expect("somebody comes");
            // Nobody else does: what is dialled again is refused.
            drop(listener);
            take_with_what_follows(stream)
        });
        let mut client = Command::new(env!("CARGO_BIN_EXE_loadtest"))
            .args(["smtp", option, "-s", "1", "-m", "2", "-d", &to])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("the program runs");
        let taken = server.join().expect("it ends");
        client.kill().expect("it ends, or has ended");
        client.wait().expect("it has ended");
        assert_eq!(taken.is_ok_and(|taken| taken >= 1), comes, "{option}");
    }
}
