//! Connections that do next to nothing: opened and closed, with TLS, with a login, or idle.

use std::collections::VecDeque;
use std::fs;
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use rustls::client::{ClientSessionStore, Resumption, Tls12ClientSessionValue, Tls13ClientSessionValue};
use rustls::pki_types::ServerName;
use rustls::{ClientConnection, HandshakeKind, NamedGroup, StreamOwned};

use crate::compare::bench::{Bench, samples};
use crate::compare::mailbox::{LISTED_BYTES, Set, account, login};
use crate::compare::row::{Better, Goal, Measure, Samples};
use crate::compare::server::{self, AuthCache, Mode, PASSWORD, Running, Server, Setup};
use crate::cost::tree_pss_bytes;
use crate::engine::tls::{self, ClientTls, Trust};
use crate::imap::answer::Answer;
use crate::imap::client::{Client, Login};
use crate::imap::options::Security;
use crate::report::scale::Unit;
use crate::wire::Wire;

/// Clients at a time.
const CLIENTS: usize = 8;

/// Visits before those that count.
const WARM: Duration = Duration::from_millis(300);

/// Who is connected to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    Smtp,
    Imap,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Handshake {
    None,
    Full,
    Resumed,
}

/// Whose password is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Logins {
    /// Each account logs in once: every password is hashed.
    Distinct,
    /// One account again and again: servers that remember passwords do.
    Repeated,
}

impl Protocol {
    fn port(self, handshake: Handshake) -> &'static str {
        match (self, handshake) {
            (Self::Smtp, Handshake::None) => "smtp",
            (Self::Smtp, _) => "smtps",
            (Self::Imap, Handshake::None) => "imap",
            (Self::Imap, _) => "imaps",
        }
    }

    fn farewell(self) -> &'static [u8] {
        match self {
            Self::Smtp => b"QUIT\r\n",
            Self::Imap => b"a LOGOUT\r\n",
        }
    }
}

pub fn connect_measures(handshake: Handshake) -> Vec<Measure> {
    let goal = match handshake {
        Handshake::None => 5.0,
        Handshake::Full => 1.8,
        Handshake::Resumed => 2.0,
    };
    vec![
        Measure::new("per core", "connections a second of CPU", Unit::PerSecond, Better::More)
            .with_goal(Goal::Times(goal)),
        Measure::new("rate", "connections a second", Unit::PerSecond, Better::More),
    ]
}

/// Connection, greeting, farewell, its reply, end.
pub fn measure_connect(
    bench: &Bench,
    server: Server,
    protocol: Protocol,
    handshake: Handshake,
) -> io::Result<Samples> {
    let mode = if protocol == Protocol::Smtp { Mode::Accept } else { Mode::Mailbox };
    let setup = Setup { accounts: 1, ..bench.setup(mode) };
    let running = bench.start_fresh(server, &setup)?;
    let address = running.port(protocol.port(handshake))?;
    let length = Duration::from_secs_f64(bench.sizes.seconds);
    let tickets = Arc::new(Tickets::default());
    let mut tls = ClientTls::new("mail.load.test", Trust::Anyone, tls::Handshake::Full)?;
    if handshake == Handshake::Resumed {
        let config = Arc::make_mut(&mut tls.config);
        config.resumption = Resumption::store(Arc::clone(&tickets) as Arc<dyn ClientSessionStore>);
        repeat(length, &|| visit_with_tls(address, protocol, &tls, Handshake::Full))?;
        tickets.are_spent.store(true, Ordering::Relaxed);
    }
    let visit = || match handshake {
        Handshake::None => visit_plainly(address, protocol),
        _ => visit_with_tls(address, protocol, &tls, handshake),
    };
    if handshake != Handshake::Resumed {
        repeat(WARM, &visit)?;
    }
    let ((count, seconds), cost) = bench.metered(&running, || repeat(length, &visit))?;
    if count == 0 {
        return Err(io::Error::other("no session was resumed"));
    }
    Ok(samples([
        ("per core", count as f64 * 1e6 / cost.cpu_us.max(1) as f64),
        ("rate", count as f64 / seconds),
    ]))
}

/// What clients learnt in their sessions. Each ticket is used once (RFC 8446 C.4), and some servers, Postfix among
/// them, give no new one to who resumes; so tickets are collected first, by full handshakes, and then spent.
#[derive(Debug, Default)]
struct Tickets {
    kept: Mutex<VecDeque<Tls13ClientSessionValue>>,
    are_spent: AtomicBool,
}

impl ClientSessionStore for Tickets {
    fn set_kx_hint(&self, _: ServerName<'static>, _: NamedGroup) {}

    fn kx_hint(&self, _: &ServerName<'_>) -> Option<NamedGroup> {
        None
    }

    fn set_tls12_session(&self, _: ServerName<'static>, _: Tls12ClientSessionValue) {}

    fn tls12_session(&self, _: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        None
    }

    fn remove_tls12_session(&self, _: &ServerName<'static>) {}

    fn insert_tls13_ticket(&self, _: ServerName<'static>, value: Tls13ClientSessionValue) {
        self.kept.lock().expect("nobody panics with it").push_back(value);
    }

    fn take_tls13_ticket(&self, _: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        let is_wanted = self.are_spent.load(Ordering::Relaxed);
        is_wanted.then(|| self.kept.lock().expect("nobody panics with it").pop_front()).flatten()
    }
}

/// As often as there is time for, or tickets, by several clients; gives how often, and in what time.
fn repeat(length: Duration, visit: &(impl Fn() -> io::Result<()> + Sync)) -> io::Result<(u64, f64)> {
    let began = Instant::now();
    let client = || -> io::Result<u64> {
        let mut count = 0;
        while began.elapsed() < length {
            match visit() {
                Err(error) if error.kind() == io::ErrorKind::Unsupported => break,
                visited => visited?,
            }
            count += 1;
        }
        Ok(count)
    };
    let count = thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS).map(|_| scope.spawn(client)).collect();
        clients.into_iter().try_fold(0, |sum, client| {
            Ok::<_, io::Error>(sum + client.join().map_err(|_| io::Error::other("a client panicked"))??)
        })
    })?;
    Ok((count, began.elapsed().as_secs_f64()))
}

fn visit_plainly(address: SocketAddr, protocol: Protocol) -> io::Result<()> {
    let mut wire = Wire::connect(address)?;
    wire.line()?;
    wire.send(protocol.farewell())?;
    while wire_line(&mut wire)? {}
    Ok(())
}

/// Whether there was one more line before the end.
fn wire_line(wire: &mut Wire) -> io::Result<bool> {
    match wire.line() {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) if error.kind() == io::ErrorKind::ConnectionReset => Ok(false),
        Err(error) => Err(error),
    }
}

fn visit_with_tls(
    address: SocketAddr,
    protocol: Protocol,
    tls: &ClientTls,
    wanted: Handshake,
) -> io::Result<()> {
    use std::io::{Read, Write};

    let tcp = TcpStream::connect(address)?;
    tcp.set_nodelay(true)?;
    tcp.set_read_timeout(Some(Duration::from_secs(60)))?;
    let session =
        ClientConnection::new(Arc::clone(&tls.config), tls.name.clone()).map_err(io::Error::other)?;
    let mut stream = StreamOwned::new(session, tcp);
    let mut buffer = [0; 4096];
    // The greeting; tickets come with it or before it.
    if stream.read(&mut buffer)? == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let is_resumed = stream.conn.handshake_kind() == Some(HandshakeKind::Resumed);
    stream.write_all(protocol.farewell())?;
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => break,
            Ok(_) => {}
            // Some servers close without saying so in TLS.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => break,
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => break,
            Err(error) => return Err(error),
        }
    }
    match (wanted, is_resumed) {
        (Handshake::Resumed, false) => {
            Err(io::Error::new(io::ErrorKind::Unsupported, "the server did not resume the session"))
        }
        (Handshake::Full, true) => Err(io::Error::other("a session was resumed that nobody remembers")),
        _ => Ok(()),
    }
}

pub fn login_measures() -> Vec<Measure> {
    vec![
        Measure::new("rate", "logins a second", Unit::PerSecond, Better::More).with_goal(Goal::Times(5.0)),
        Measure::new("cpu", "CPU a login", Unit::Micros, Better::Less),
    ]
}

/// Connection, LOGIN, LOGOUT. The peers get the hash of one of our passwords for all of theirs.
pub fn measure_logins(bench: &Bench, server: Server, logins: Logins) -> io::Result<Samples> {
    let accounts = bench.sizes.logins;
    let auth_cache = if logins == Logins::Repeated { AuthCache::On } else { AuthCache::Off };
    let hash = if server == Server::Ringpost { None } else { Some(our_hash(bench)?) };
    let setup = Setup { accounts, hash, auth_cache, ..bench.setup(Mode::Mailbox) };
    let running = bench.start_fresh(server, &setup)?;
    let numbers: Vec<usize> = match logins {
        Logins::Distinct => (0..accounts).collect(),
        Logins::Repeated => {
            log_in(&running, 0)?;
            vec![0; accounts * 20]
        }
    };
    let next = AtomicUsize::new(0);
    let began = Instant::now();
    let (seconds, cost) = bench.metered(&running, || {
        thread::scope(|scope| {
            let clients: Vec<_> = (0..CLIENTS)
                .map(|_| {
                    scope.spawn(|| -> io::Result<()> {
                        let turn = || next.fetch_add(1, Ordering::Relaxed);
                        while let Some(number) = numbers.get(turn()) {
                            log_in(&running, *number)?;
                        }
                        Ok(())
                    })
                })
                .collect();
            clients
                .into_iter()
                .try_for_each(|client| client.join().map_err(|_| io::Error::other("a client panicked"))?)
        })?;
        Ok(began.elapsed().as_secs_f64())
    })?;
    let count = numbers.len() as f64;
    Ok(samples([("rate", count / seconds), ("cpu", cost.cpu_us as f64 / count)]))
}

fn log_in(running: &Running, number: usize) -> io::Result<()> {
    let login = Login {
        address: running.port("imap")?,
        security: Security::Plain,
        user: server::account(number),
        pass: PASSWORD.to_owned(),
    };
    login.open()?.logout()
}

/// The hash of `user0`, from the file that our server keeps its accounts in; made once.
fn our_hash(bench: &Bench) -> io::Result<String> {
    let folder = bench.folder.join("kept").join("hash");
    let setup = Setup { accounts: 1, ..bench.setup(Mode::Mailbox) };
    let directory = folder.join("data").join("directory");
    if !directory.exists() {
        bench.scripts.start(Server::Ringpost, &folder, &setup)?;
    }
    let text = fs::read_to_string(directory)?;
    let hash = text.split("\"hash\":\"").nth(1).and_then(|rest| rest.split('"').next());
    hash.map(str::to_owned).ok_or_else(|| io::Error::other("there is no hash in the directory of accounts"))
}

pub fn idle_measures(sessions: usize, security: Security) -> Vec<Measure> {
    let bound = if security == Security::Plain { 4096.0 } else { 24.0 * 1024.0 };
    let what = format!("memory of one of {sessions} sessions in IDLE");
    vec![
        Measure::new("memory", &what, Unit::Bytes, Better::Less).with_goal(Goal::AtMost(bound)),
        Measure::new("times", &what, Unit::Bytes, Better::Less)
            .with_goal(Goal::TimesOf(100.0, Server::DovecotMaildir)),
    ]
}

/// What all sessions but the first few add to the memory of the server's processes.
pub fn measure_idle(
    bench: &Bench,
    server: Server,
    sessions: usize,
    security: Security,
) -> io::Result<Samples> {
    raise_files();
    let set = Set { messages: bench.sizes.grown[0], bytes: LISTED_BYTES };
    // Filled by a server of the usual size; then one that takes so many sessions.
    drop(set.start(bench, server)?);
    let setup = Setup {
        accounts: 1,
        names: vec![account().split('@').next().unwrap_or_default().to_owned()],
        connections: sessions + 100,
        ..bench.setup(Mode::Mailbox)
    };
    let running = bench.scripts.start(server, &set.folder(bench, server), &setup)?;
    let port = if security == Security::Plain { "imap" } else { "imaps" };
    let login = Login { address: running.port(port)?, security, ..login(&running)? };
    let first = (sessions / 10).min(100);
    let mut open: Vec<Client> = (0..first).map(|_| idle(&login)).collect::<io::Result<_>>()?;
    let before = settled_memory(&running)?;
    for _ in first..sessions {
        open.push(idle(&login)?);
    }
    let after = settled_memory(&running)?;
    let each = after.saturating_sub(before) as f64 / (sessions - first) as f64;
    Ok(samples([("memory", each), ("times", each)]))
}

fn idle(login: &Login) -> io::Result<Client> {
    let mut client = login.open()?;
    client.command("SELECT INBOX", |_| Ok(()))?;
    client.send(b"i IDLE\r\n")?;
    while !client.answer(|answer| Ok(matches!(answer, Answer::Continue)))? {}
    Ok(client)
}

/// Of the whole tree, once it has given back what it gives back and hibernates what it hibernates.
fn settled_memory(running: &Running) -> io::Result<u64> {
    thread::sleep(Duration::from_secs(3));
    tree_pss_bytes(&[running.pid])
}

/// As many descriptors as this process may have.
fn raise_files() {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    let raised = rustix::process::Rlimit { current: limit.maximum, maximum: limit.maximum };
    // If it fails, connecting will say so.
    let _ = rustix::process::setrlimit(rustix::process::Resource::Nofile, raised);
}
