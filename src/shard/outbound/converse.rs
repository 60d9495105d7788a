//! Drives an outbound SMTP or LMTP session over its connection, from one event to the next.

use std::io;

use futures_lite::FutureExt;
use futures_lite::future::poll_once;

use crate::io::clock;
use crate::io::executor::sleep;
use crate::io::net::{Conn, Filled};
use crate::io::tls::TlsSession;
use crate::limits;
use crate::limits::smtp::client::QUIT_S;
use crate::proto::smtp::client::{Client, Event, Security};

/// Sends what the client has to say and hands it what it is told, until it has an event: `Ready`, `Done` or `Closed`.
/// Hands are shaken here, with what `tls` gives. After `Closed` comes nothing but [`say_goodbye`]. While the client
/// waits between two transactions the future may be dropped without loss.
pub async fn converse(
    client: &mut Client,
    conn: &mut Conn,
    tls: impl Fn() -> io::Result<TlsSession>,
) -> Event {
    loop {
        match client.poll_event() {
            Some(Event::StartTls) => shake_hands(client, conn, &tls).await,
            Some(event) => return event,
            None => turn(client, conn).await,
        }
    }
}

/// Sends all there is, then waits for the answer.
async fn turn(client: &mut Client, conn: &mut Conn) {
    if let Err(error) = send(client, conn).await {
        // A peer that closes in the middle of a message may have said why.
        hear(client, conn).await;
        client.handle_timeout(clock::instant());
        return client.handle_end(&words(&error));
    }
    if client.has_event() {
        return;
    }
    conn.set_deadline(client.deadline());
    match conn.fill().await {
        Ok(Filled::Input) => take_input(client, conn),
        Ok(Filled::End) => client.handle_end("the server closed the connection"),
        Ok(Filled::Deadline) => client.handle_timeout(clock::instant()),
        Err(error) => client.handle_end(&words(&error)),
    }
}

/// Sends commands, and the message burst by burst. What the server says meanwhile is heard between two bursts.
async fn send(client: &mut Client, conn: &mut Conn) -> io::Result<()> {
    loop {
        let is_message = client.poll_output(conn.out(), clock::instant());
        flush(client, conn).await?;
        if !is_message {
            return Ok(());
        }
        hear(client, conn).await;
    }
}

/// Flushes within the time that the client has: a peer that takes a byte now and then holds nobody up.
async fn flush(client: &Client, conn: &mut Conn) -> io::Result<()> {
    if conn.out().is_empty() {
        return Ok(());
    }
    let deadline = client.deadline().unwrap_or(clock::instant() + limits::SEND_STALL);
    let late = async {
        sleep(deadline - clock::instant()).await;
        Err(io::ErrorKind::TimedOut.into())
    };
    conn.flush().or(late).await
}

/// Takes what is there already, without waiting.
async fn hear(client: &mut Client, conn: &mut Conn) {
    if let Some(Ok(Filled::Input)) = poll_once(conn.fill()).await {
        take_input(client, conn);
    }
}

fn take_input(client: &mut Client, conn: &mut Conn) {
    let (input, out) = conn.input_and_out();
    let used = client.handle_bytes(input, out, clock::instant());
    conn.consume(used);
}

async fn shake_hands(client: &mut Client, conn: &mut Conn, tls: &impl Fn() -> io::Result<TlsSession>) {
    if !conn.input().is_empty() {
        return take_input(client, conn);
    }
    let shaken = match tls() {
        Ok(session) => conn.start_tls(session).await,
        Err(error) => Err(error),
    };
    if let Err(error) = shaken {
        return client.handle_end(&words(&error));
    }
    let is_verified = conn.tls().is_some_and(|tls| tls.verify(clock::timestamp()).is_ok());
    let security = if is_verified { Security::Verified } else { Security::Encrypted };
    client.handle_tls(security, conn.out(), clock::instant());
}

/// Sends the last word, and closes. Nothing depends on it any more.
pub async fn say_goodbye(conn: &mut Conn) {
    let late = async {
        sleep(std::time::Duration::from_secs(QUIT_S)).await;
        Ok(())
    };
    let _ = async {
        conn.flush().await?;
        conn.close().await;
        io::Result::Ok(())
    }
    .or(late)
    .await;
}

/// What happened, without the number that the system has for it.
fn words(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(_) => error.kind().to_string(),
        None => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
    use std::rc::Rc;
    use std::thread::{self, JoinHandle};
    use std::time::Duration;

    use tempfile::TempDir;

    use super::{converse, say_goodbye};
    use crate::bytes::Slice;
    use crate::io::net::{Conn, Deadlines, Sockets, dial};
    use crate::io::tls::{ClientTls, ServerTls, TlsSession, Trust};
    use crate::io::{clock, executor};
    use crate::mail::address::Address;
    use crate::mail::envelope::Recipient;
    use crate::proto::sasl::Nonce;
    use crate::proto::smtp::client::{
        Client, Done, Event, Fate, Phase, Security, Settings, TlsPolicy, Transaction,
    };

    const NAME: &str = "mx.test";
    const SOON: Duration = Duration::from_secs(30);

    /// A server that does what its script says, in a thread of its own.
    struct Peer {
        stream: TcpStream,
        tls: Option<TlsSession>,
        input: Vec<u8>,
    }

    impl Peer {
        fn start<T: Send + 'static>(
            script: impl FnOnce(&mut Self) -> T + Send + 'static,
        ) -> (SocketAddr, JoinHandle<T>) {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback is there");
            let address = listener.local_addr().expect("it is bound");
            let running = thread::spawn(move || {
                let (stream, _) = listener.accept().expect("somebody comes");
                stream.set_read_timeout(Some(SOON)).expect("it can be set");
                script(&mut Self { stream, tls: None, input: Vec::new() })
            });
            (address, running)
        }

        fn say(&mut self, text: &str) {
            let mut sealed = Vec::new();
            let bytes = match &mut self.tls {
                Some(tls) => {
                    tls.seal(text.as_bytes(), &mut sealed).expect("it is open");
                    &sealed
                }
                None => text.as_bytes(),
            };
            self.stream.write_all(bytes).expect("it is taken");
        }

        /// Reads up to the end of `text`; what came is given back.
        fn hear(&mut self, text: &str) -> Vec<u8> {
            let mut from = 0;
            loop {
                let window = &self.input[from..];
                if let Some(at) = memchr::memmem::find(window, text.as_bytes()) {
                    return self.input.drain(..from + at + text.len()).collect();
                }
                from = self.input.len().saturating_sub(text.len());
                assert!(self.read(), "the client went before it said {text:?}");
            }
        }

        /// Whether there is more to read.
        fn read(&mut self) -> bool {
            let mut buffer = [0; 64 << 10];
            let length = self.stream.read(&mut buffer).unwrap_or(0);
            match &mut self.tls {
                None => self.input.extend_from_slice(&buffer[..length]),
                Some(tls) => {
                    let mut out = Vec::new();
                    // A client that refuses the certificate says so.
                    if tls.feed(&buffer[..length], &mut self.input, &mut out).is_err() {
                        return false;
                    }
                    self.stream.write_all(&out).expect("it is taken");
                }
            }
            length > 0
        }

        fn greet(&mut self, extensions: &str) {
            self.say("220 mx.test ESMTP\r\n");
            self.hear("EHLO me.test\r\n");
            self.say(&format!("250-mx.test\r\n{extensions}250 HELP\r\n"));
        }

        /// Whether hands were shaken.
        fn start_tls(&mut self, tls: &ServerTls) -> bool {
            self.hear("STARTTLS\r\n");
            self.say("220 Go ahead\r\n");
            self.tls = Some(tls.session().expect("it can be made"));
            while self.tls.as_ref().is_some_and(TlsSession::is_handshaking) {
                if !self.read() {
                    return false;
                }
            }
            true
        }
    }

    /// Connects, and sends `transactions` one after the other; gives what came of it.
    fn run(
        address: SocketAddr,
        settings: Settings,
        tls: Option<ClientTls>,
        transactions: Vec<Transaction>,
    ) -> Vec<Event> {
        let (handle, _) = executor::start("client", None, move |_| async move {
            let deadlines = Rc::new(Deadlines::default());
            let sweeping = Rc::clone(&deadlines);
            executor::spawn("sweep", async move {
                loop {
                    crate::io::executor::sleep(Duration::from_millis(50)).await;
                    sweeping.sweep(clock::instant());
                }
            });
            let session = || tls.as_ref().expect("TLS is not used").session(NAME, Trust::Verified);
            let accepted = dial(address, None, clock::instant() + SOON).await.expect("it connects");
            let mut conn = Conn::new(accepted, &Sockets::open().expect("a ring"), &deadlines);
            let mut client =
                Client::new(Rc::new(settings), Security::Clear, Nonce([0; 18]), clock::instant());
            let mut events = Vec::new();
            let mut left = transactions.into_iter();
            loop {
                let event = converse(&mut client, &mut conn, session).await;
                let is_over = matches!(event, Event::Closed(_));
                if is_over {
                    say_goodbye(&mut conn).await;
                }
                events.push(event);
                if is_over {
                    return events;
                }
                if !client.is_ready() {
                    continue;
                }
                match left.next() {
                    Some(transaction) => client.begin(transaction, conn.out(), clock::instant()),
                    None => client.quit(conn.out(), clock::instant()),
                }
            }
        })
        .expect("it starts");
        handle.join().expect("it ends")
    }

    fn transaction(message: Vec<Slice>) -> Transaction {
        let recipient = Address::parse("b@there.test").expect("it is an address");
        Transaction { recipients: vec![Recipient::new(recipient)], message, ..Transaction::default() }
    }

    fn done(event: &Event) -> &Done {
        match event {
            Event::Done(done) => done,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn large_messages_in_verified_tls() {
        let folder = TempDir::new().expect("a folder can be made");
        let server = ServerTls::local(folder.path(), NAME, clock::timestamp()).expect("it can be made");
        let tls = ClientTls::trusting_file(&folder.path().join("tls/ca.pem")).expect("it was made");
        let line = b".a line that begins with a dot, and is long enough to be seen\r\n";
        let body = Slice::from(line.repeat(50_000));
        let expected = body.to_vec();
        let (address, peer) = Peer::start(move |peer| {
            peer.greet("250-STARTTLS\r\n");
            assert!(peer.start_tls(&server));
            peer.hear("EHLO me.test\r\n");
            peer.say("250-mx.test\r\n250-PIPELINING\r\n250 SIZE\r\n");
            let mut messages = Vec::new();
            for _ in 0..2 {
                peer.hear("DATA\r\n");
                peer.say("250 Ok\r\n250 Ok\r\n354 Go ahead\r\n");
                messages.push(peer.hear("\r\n.\r\n"));
                peer.say("250 2.0.0 Ok\r\n");
            }
            peer.hear("QUIT\r\n");
            peer.say("221 Bye\r\n");
            messages
        });
        let settings = Settings { tls: TlsPolicy::Required, ..Settings::new("me.test") };
        let parts = || vec![Slice::from(b"Received: x\r\n".to_vec()), body.clone()];
        let transactions = vec![transaction(parts()), transaction(parts())];
        let events = run(address, settings, Some(tls), transactions);
        let [Event::Ready, first, second, Event::Closed(closed)] = &events[..] else { panic!("{events:?}") };
        for event in [first, second] {
            assert!(matches!(&done(event).fates[..], [Fate::Accepted(_)]), "{event:?}");
        }
        assert_eq!((closed.reply.code, closed.phase), (221, Phase::Quit));
        for message in peer.join().expect("the peer is content") {
            let message = message.strip_prefix(b"Received: x\r\n").expect("the first part is first");
            let lines =
                message.strip_suffix(b".\r\n").expect("it ends").split_inclusive(|byte| *byte == b'\n');
            let undotted: Vec<u8> =
                lines.flat_map(|line| line.strip_prefix(b".").unwrap_or(line)).copied().collect();
            assert!(undotted == expected);
        }
    }

    #[test]
    fn a_stranger_gets_no_mail() {
        let folder = TempDir::new().expect("a folder can be made");
        let server =
            ServerTls::local(folder.path(), "other.test", clock::timestamp()).expect("it can be made");
        let tls = ClientTls::trusting_file(&folder.path().join("tls/ca.pem")).expect("it was made");
        let (address, peer) = Peer::start(move |peer| {
            peer.greet("250-STARTTLS\r\n");
            peer.start_tls(&server)
        });
        let settings = Settings { tls: TlsPolicy::Required, ..Settings::new("me.test") };
        let events = run(address, settings, Some(tls), Vec::new());
        let [Event::Closed(closed)] = &events[..] else { panic!("{events:?}") };
        assert_eq!((closed.phase, closed.transactions), (Phase::Tls, 0));
        assert!(closed.reply.text.contains("certificate"), "{}", closed.reply);
        assert!(!peer.join().expect("the peer is content"));
    }

    #[test]
    fn a_server_that_takes_nothing_holds_nobody_up() {
        let (address, peer) = Peer::start(|peer| {
            peer.greet("250-PIPELINING\r\n");
            peer.hear("DATA\r\n");
            peer.say("250 Ok\r\n250 Ok\r\n354 Go ahead\r\n");
            // It reads no more until the client is gone.
            peer.stream.peek(&mut [0]).expect("the message begins");
            thread::sleep(Duration::from_secs(3));
        });
        let mut settings = Settings::new("me.test");
        settings.tls = TlsPolicy::Never;
        settings.timeouts.block = Duration::from_secs(1);
        let message = transaction(vec![Slice::from(vec![b'x'; 64 << 20])]);
        let events = run(address, settings, None, vec![message]);
        let [Event::Ready, ended, Event::Closed(closed)] = &events[..] else { panic!("{events:?}") };
        let [Fate::Failed(failure)] = &done(ended).fates[..] else { panic!("{ended:?}") };
        assert_eq!((failure.phase, failure.reply.code), (Phase::Body, 421));
        assert_eq!(closed.reply.text, "the server took too long");
        peer.join().expect("the peer is content");
    }

    #[test]
    fn a_server_may_say_no_in_the_middle_of_a_message() {
        let (address, peer) = Peer::start(|peer| {
            peer.greet("250-PIPELINING\r\n250-CHUNKING\r\n");
            peer.hear("RCPT TO:<b@there.test>\r\n");
            peer.say("250 Ok\r\n250 Ok\r\n");
            peer.hear("BDAT 67108864 LAST\r\n");
            peer.say("552 5.3.4 Too much\r\n");
            let mut taken = 0;
            while peer.read() {
                taken += peer.input.len();
                peer.input.clear();
            }
            taken
        });
        let settings = Settings { tls: TlsPolicy::Never, ..Settings::new("me.test") };
        let message = transaction(vec![Slice::from(vec![b'x'; 64 << 20])]);
        let events = run(address, settings, None, vec![message]);
        let [Event::Ready, ended, Event::Closed(_)] = &events[..] else { panic!("{events:?}") };
        let [Fate::Failed(failure)] = &done(ended).fates[..] else { panic!("{ended:?}") };
        assert_eq!((failure.phase, failure.reply.code), (Phase::Body, 552));
        let taken = peer.join().expect("the peer is content");
        assert!(taken < 64 << 20, "{taken} bytes were sent in vain");
    }
}
