//! The event loop against itself: a work that is both ends of its connections.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use loadtest::engine::tls::{self, ClientTls, Handshake, Trust};
use loadtest::engine::{Clock, PortId, Ports, Waiting, Work, run};
use rustls::ServerConfig;

/// Clients send a block in pieces; servers send it back; clients count.
struct Echo {
    to: SocketAddr,
    clients: Vec<PortId>,
    to_dial: usize,
    tls: Option<(ClientTls, Arc<ServerConfig>)>,
    shaken: Vec<PortId>,
    servers: Vec<PortId>,
    returned: usize,
    expected: usize,
    ticks: Vec<u64>,
    due: u64,
}

const BLOCK: usize = 700_000;

impl Work for Echo {
    fn poll_due(&mut self, ports: &mut Ports, now: u64) -> Option<u64> {
        while self.to_dial > 0 {
            self.to_dial -= 1;
            self.clients.push(ports.dial(self.to, None).expect("loopback can be dialled"));
        }
        while self.due <= now {
            self.ticks.push(now - self.due);
            self.due += 1_000_000;
        }
        Some(self.due)
    }

    fn handle_opened(&mut self, ports: &mut Ports, port: PortId, _: u64) {
        if !self.clients.contains(&port) {
            return;
        }
        if let Some((client, _)) = self.tls.clone().filter(|_| !self.shaken.contains(&port)) {
            self.shaken.push(port);
            return ports.begin_client_tls(port, &client).expect("a client of TLS");
        }
        let block = vec![b'x'; BLOCK];
        ports.send(port, &[&block[..10], &block[10..1000], &block[1000..]]);
    }

    fn handle_accepted(&mut self, ports: &mut Ports, port: PortId, _: PortId, _: u64) {
        self.servers.push(port);
        if let Some((_, server)) = &self.tls {
            ports.begin_server_tls(port, server).expect("a server of TLS");
        }
    }

    fn handle_bytes(&mut self, ports: &mut Ports, port: PortId, bytes: &[u8], _: u64) -> usize {
        if self.clients.contains(&port) {
            // Some bytes are taken late: what is not used comes again.
            let used = bytes.len() - 50.min(bytes.len() / 4);
            self.returned += used;
            return used;
        }
        ports.send(port, &[bytes]);
        bytes.len()
    }

    fn handle_closed(&mut self, _: &mut Ports, _: PortId, error: Option<io::Error>, _: u64) {
        panic!("a connection ended: {error:?}");
    }

    fn is_done(&self) -> bool {
        // The last bytes may be kept back by the client forever.
        self.returned + 200 * self.clients.len() >= self.expected
    }
}

fn echo(tls: Option<(ClientTls, Arc<ServerConfig>)>) -> Echo {
    let mut ports = Ports::new(Clock::start()).expect("an epoll");
    let listener = ports.listen(SocketAddr::from(([127, 0, 0, 1], 0)), 64).expect("a free port");
    let to = ports.local_address(listener).expect("it has an address");
    let sessions = 5;
    let mut work = Echo {
        to,
        clients: Vec::new(),
        to_dial: sessions,
        tls,
        shaken: Vec::new(),
        servers: Vec::new(),
        returned: 0,
        expected: sessions * BLOCK,
        ticks: Vec::new(),
        due: ports.now(),
    };
    let effort = run(&mut work, &mut ports, Waiting::default()).expect("the loop runs");
    assert!(effort.elapsed_ns > 0 && effort.cpu_ns > 0);
    work
}

#[test]
fn large_blocks_come_back_whole() {
    let work = echo(None);
    assert_eq!(work.servers.len(), 5);
    assert!(!work.ticks.is_empty());
}

#[test]
fn tls_carries_the_same() {
    let folder = tempfile::tempdir().expect("a folder");
    let made = rcgen::generate_simple_self_signed(vec!["echo.test".to_owned()]).expect("a certificate");
    let (certificate, key) = (folder.path().join("cert.pem"), folder.path().join("key.pem"));
    std::fs::write(&certificate, made.cert.pem()).expect("it is written");
    std::fs::write(&key, made.signing_key.serialize_pem()).expect("it is written");
    let client = ClientTls::new("echo.test", Trust::Anyone, Handshake::Resumed).expect("a client");
    let server = tls::server(&certificate, &key).expect("a server");
    echo(Some((client, server)));
}

/// Wakes at times of its own.
struct Metronome {
    due: u64,
    lags: Vec<u64>,
}

impl Work for Metronome {
    fn poll_due(&mut self, _: &mut Ports, now: u64) -> Option<u64> {
        if self.due <= now {
            self.lags.push(now - self.due);
            self.due += 2_000_000;
        }
        Some(self.due)
    }

    fn handle_opened(&mut self, _: &mut Ports, _: PortId, _: u64) {}

    fn handle_bytes(&mut self, _: &mut Ports, _: PortId, bytes: &[u8], _: u64) -> usize {
        bytes.len()
    }

    fn handle_closed(&mut self, _: &mut Ports, _: PortId, _: Option<io::Error>, _: u64) {}

    fn is_done(&self) -> bool {
        self.lags.len() == 200
    }
}

#[test]
fn it_wakes_on_time_and_says_what_that_took() {
    let mut ports = Ports::new(Clock::start()).expect("an epoll");
    let mut work = Metronome { due: 0, lags: Vec::new() };
    let effort = run(&mut work, &mut ports, Waiting::Punctual(Duration::from_micros(100))).expect("it runs");
    work.lags.sort_unstable();
    // Where processors are to be had: on a busy machine that is not always.
    assert!(work.lags[10] < 100_000, "{:?}", &work.lags[..20]);
    assert!(effort.spin_ns > 0 && effort.spin_ns < effort.elapsed_ns / 2, "{effort:?}");
    assert!(effort.elapsed_ns >= 190 * 2_000_000);
}
