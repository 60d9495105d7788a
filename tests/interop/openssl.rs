//! `openssl s_client`: STARTTLS of each protocol and TLS from the start, TLS 1.2 and 1.3, with the chain verified;
//! and `openssl s_server`, for our client.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::Stdio;
use std::rc::Rc;

use ringpost::bytes::Output;
use ringpost::io::clock;
use ringpost::io::tls::{ClientTls, Trust, authority};
use ringpost::proto::sasl::Nonce;
use ringpost::proto::smtp::client::{Client, Event, Security, Settings};
use tempfile::TempDir;

use crate::mail::{HOST, ca, server};
use crate::program::{available, command, run};
use crate::server::{IMAP, IMAPS, POP3, POP3S, SMTP, SUBMISSION, SUBMISSIONS};

#[test]
fn tls_verifies_by_name_in_every_protocol() {
    if !available("openssl") {
        return;
    }
    let server = server();
    let ways = [
        (SMTP, Some("smtp"), "QUIT\r\n", "221 "),
        (SUBMISSION, Some("smtp"), "QUIT\r\n", "221 "),
        (SUBMISSIONS, None, "QUIT\r\n", "221 "),
        (IMAP, Some("imap"), "a LOGOUT\r\n", "a OK "),
        (IMAPS, None, "a LOGOUT\r\n", "a OK "),
        (POP3, Some("pop3"), "QUIT\r\n", "+OK "),
        (POP3S, None, "QUIT\r\n", "+OK "),
    ];
    for (port, starttls, goodbye, reply) in ways {
        for version in ["-tls1_2", "-tls1_3"] {
            let mut openssl = command("openssl", server.folder());
            openssl.args(["s_client", version, "-verify_return_error", "-verify_hostname", HOST, "-CAfile"]);
            openssl.arg(ca(&server)).args(["-connect", &format!("{}:{port}", server.address())]);
            openssl.args(["-quiet", "-ign_eof"]);
            if let Some(protocol) = starttls {
                openssl.args(["-starttls", protocol]);
            }
            let ran = run(openssl, goodbye.as_bytes());
            assert!(ran.text().contains(reply), "{port} {version}:\n{}\n{}", ran.text(), ran.stderr);
            assert!(!ran.stderr.contains("error"), "{port} {version}:\n{}", ran.stderr);
        }
    }
}

/// Speaks to `openssl s_server`, whose replies stand in `replies`; says what the SMTP client was told at last.
fn speak(
    address: SocketAddr,
    tls: &ClientTls,
    trust: Trust,
    replies: &mut impl Write,
) -> Result<Event, String> {
    let mut stream = TcpStream::connect(address).expect("it listens");
    // A system may know no authority at all.
    let mut session = tls.session(HOST, trust).map_err(|error| error.to_string())?;
    let (mut plain, mut sealed) = (Vec::new(), Vec::new());
    session.start(&mut sealed);
    let (settings, now) = (Rc::new(Settings::new("me.test")), clock::instant());
    let mut client = Client::new(settings, Security::Verified, Nonce([0; 18]), now);
    let mut out = Output::new();
    replies.write_all(b"220 mx.test\r\n250 mx.test\r\n").expect("the pipe is open");
    loop {
        if !session.is_handshaking() {
            session.seal(&out.to_vec(), &mut sealed).expect("the session is open");
            out.clear();
        }
        stream.write_all(&std::mem::take(&mut sealed)).expect("it is taken");
        let mut buffer = [0; 4096];
        let length = stream.read(&mut buffer).expect("it is read");
        let fed = session.feed(&buffer[..length], &mut plain, &mut sealed);
        if let Err(error) = fed {
            // The alert that says why.
            stream.write_all(&sealed).expect("it is taken");
            return Err(error.to_string());
        }
        client.handle_bytes(&std::mem::take(&mut plain), &mut out, now);
        match client.poll_event() {
            None => assert!(length > 0, "openssl went away"),
            Some(Event::Ready) => {
                assert_eq!(session.verify(clock::timestamp()).is_ok(), trust == Trust::Verified);
                client.quit(&mut out, now);
                replies.write_all(b"221 Bye\r\n").expect("the pipe is open");
            }
            Some(event) => return Ok(event),
        }
    }
}

#[test]
fn our_client_speaks_tls_to_it() {
    if !available("openssl") {
        return;
    }
    let folder = TempDir::new().expect("a folder can be made");
    let files = authority::certify(folder.path(), HOST, clock::timestamp()).expect("it can be made");
    let ours = ClientTls::trusting_file(&folder.path().join("tls/ca.pem")).expect("it was made");
    let system = ClientTls::open().expect("what the system trusts is optional");
    let ways = [
        ("-tls1_2", &ours, Trust::Verified, true),
        ("-tls1_3", &ours, Trust::Verified, true),
        ("-tls1_2", &system, Trust::Anyone, true),
        ("-tls1_3", &system, Trust::Anyone, true),
        ("-tls1_3", &system, Trust::Verified, false),
    ];
    for (version, tls, trust, is_trusted) in ways {
        let mut openssl = command("openssl", folder.path());
        openssl.args(["s_server", version, "-accept", "127.0.0.1:0", "-naccept", "1"]);
        openssl.arg("-cert").arg(&files.certificate).arg("-key").arg(&files.key);
        openssl.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut running = openssl.spawn().expect("openssl is there");
        let mut replies = running.stdin.take().expect("standard input is a pipe");
        let mut said = BufReader::new(running.stdout.take().expect("standard output is a pipe")).lines();
        let address = said.by_ref().map_while(Result::ok).find_map(|line| {
            line.strip_prefix("ACCEPT ").map(|address| address.parse().expect("it is an address"))
        });
        let outcome = speak(address.expect("it listens"), tls, trust, &mut replies);
        drop(replies);
        // It says what it heard in its own time, and ends with the one connection that it takes.
        let is_heard = is_trusted && said.map_while(Result::ok).any(|line| line.contains("EHLO me.test"));
        running.kill().expect("it was started here");
        running.wait().expect("it has ended");
        if !is_trusted {
            assert!(outcome.is_err(), "{version}: {outcome:?}");
            continue;
        }
        let closed = matches!(&outcome, Ok(Event::Closed(closed)) if closed.reply.code == 221);
        assert!(closed, "{version} {trust:?}: {outcome:?}");
        assert!(is_heard, "{version} {trust:?}");
    }
}
