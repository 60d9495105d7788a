//! Connections that do next to nothing: opened and closed, with TLS, or with a login.

use std::collections::VecDeque;
use std::fs;
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};
use rustls::client::{ClientSessionStore, Resumption, Tls12ClientSessionValue, Tls13ClientSessionValue};
use rustls::pki_types::ServerName;
use rustls::{ClientConnection, HandshakeKind, NamedGroup, StreamOwned};

use crate::compare::bench::{Bench, samples};
use crate::compare::row::{Better, Goal, Measure, Samples};
use crate::compare::server::{self, AuthCache, Mode, PASSWORD, Running, Server, Setup};
use crate::engine::tls::{self, ClientTls, Trust};
use crate::imap::client::Login;
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
enum Logins {
    /// Each account logs in once: every password is hashed.
    Distinct,
    /// One account again and again: servers that remember passwords do. Dovecot's cache remembers the hash, which
    /// spares it a look into its file, and hashes every password all the same.
    Repeated,
}

impl Logins {
    const ALL: [Self; 2] = [Self::Distinct, Self::Repeated];

    fn key(self) -> &'static str {
        match self {
            Self::Distinct => "hashed",
            Self::Repeated => "remembered",
        }
    }

    fn words(self) -> &'static str {
        match self {
            Self::Distinct => "cache off: each account once, every password hashed",
            Self::Repeated => "cache on: one account again and again",
        }
    }
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
        Measure::new("busy", "how much of its processors the server used", Unit::Count, Better::Less)
            .uncompared(),
        Measure::new("clients", "CPU of the clients, a connection", Unit::Micros, Better::Less).uncompared(),
    ]
}

/// Connection, greeting, farewell, its reply, end.
///
/// A rate is the server's only where its processors were busy: a connection costs the kernel at the clients' end as
/// much as at the server's. What is judged is the server's own processor time.
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
    let (((count, seconds), clients), cost) = bench.metered(&running, || spent(|| repeat(length, &visit)))?;
    if count == 0 {
        return Err(io::Error::other("no session was resumed"));
    }
    Ok(samples([
        ("per core", count as f64 * 1e6 / cost.cpu_us.max(1) as f64),
        ("rate", count as f64 / seconds),
        ("busy", cost.cpu_us as f64 / 1e6 / seconds / setup.cores as f64),
        ("clients", clients.as_secs_f64() * 1e6 / count as f64),
    ]))
}

/// What `work` gives, and the processor time of this process meanwhile.
fn spent<T>(work: impl FnOnce() -> io::Result<T>) -> io::Result<(T, Duration)> {
    let used = || {
        let time = clock_gettime(ClockId::ProcessCPUTime);
        Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec.unsigned_abs() as u32)
    };
    let before = used();
    let given = work()?;
    Ok((given, used().saturating_sub(before)))
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
    let count = by_clients(|| {
        if began.elapsed() >= length {
            return Ok(false);
        }
        match visit() {
            Err(error) if error.kind() == io::ErrorKind::Unsupported => Ok(false),
            visited => visited.map(|()| true),
        }
    })?;
    Ok((count, began.elapsed().as_secs_f64()))
}

/// Has each of several clients work until there is nothing more for it; gives how often they did.
fn by_clients(work: impl Fn() -> io::Result<bool> + Sync) -> io::Result<u64> {
    let client = || -> io::Result<u64> {
        let mut count = 0;
        while work()? {
            count += 1;
        }
        Ok(count)
    };
    thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS).map(|_| scope.spawn(client)).collect();
        clients.into_iter().try_fold(0, |sum, client| {
            Ok(sum + client.join().map_err(|_| io::Error::other("a client panicked"))??)
        })
    })
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
    Logins::ALL
        .into_iter()
        .flat_map(|logins| {
            let (key, words) = (logins.key(), logins.words());
            let what = |measure: &str| format!("{measure}, {words}");
            [
                Measure::new(&format!("{key} rate"), &what("logins a second"), Unit::PerSecond, Better::More)
                    .with_goal(Goal::Times(5.0)),
                Measure::new(&format!("{key} cpu"), &what("CPU a login"), Unit::Micros, Better::Less),
            ]
        })
        .collect()
}

/// Connection, LOGIN, LOGOUT, without a cache of passwords and with one. The peers get the hash of one of our passwords
/// for all of theirs.
pub fn measure_logins(bench: &Bench, server: Server) -> io::Result<Samples> {
    let mut samples = Samples::new();
    for logins in Logins::ALL {
        let (rate, cpu) = time_logins(bench, server, logins)?;
        samples.insert(format!("{} rate", logins.key()), rate);
        samples.insert(format!("{} cpu", logins.key()), cpu);
    }
    Ok(samples)
}

/// Logins a second, and the server's microseconds for each.
fn time_logins(bench: &Bench, server: Server, logins: Logins) -> io::Result<(f64, f64)> {
    let accounts = bench.sizes.logins;
    let auth_cache = if logins == Logins::Repeated { AuthCache::On } else { AuthCache::Off };
    let hash = if server == Server::Ringpost { None } else { Some(our_hash(bench)?) };
    let setup = Setup { accounts, hash, auth_cache, ..bench.setup(Mode::Mailbox) };
    let running = bench.start_fresh(server, &setup)?;
    if logins == Logins::Repeated {
        log_in(&running, 0)?;
    }
    let (turns, began) = (AtomicUsize::new(0), Instant::now());
    let length = Duration::from_secs_f64(bench.sizes.seconds);
    let next = || {
        let turn = turns.fetch_add(1, Ordering::Relaxed);
        match logins {
            Logins::Distinct => (turn < accounts).then_some(turn),
            Logins::Repeated => (began.elapsed() < length).then_some(0),
        }
    };
    let ((count, seconds), cost) = bench.metered(&running, || {
        let count = by_clients(|| match next() {
            Some(number) => log_in(&running, number).map(|()| true),
            None => Ok(false),
        })?;
        Ok((count as f64, began.elapsed().as_secs_f64()))
    })?;
    Ok((count / seconds, cost.cpu_us as f64 / count))
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rustix::time::{ClockId, clock_gettime};

    use super::spent;

    #[test]
    fn clients_pay_for_what_they_do() {
        let thread = || clock_gettime(ClockId::ThreadCPUTime);
        let began = thread();
        let busy = Duration::from_millis(50);
        let used = || Duration::try_from(thread() - began).expect("it goes forwards");
        let work = || {
            while used() < busy {}
            Ok(())
        };
        let ((), time) = spent(work).expect("it cannot fail");
        assert!(time >= busy, "{time:?}");
    }
}
