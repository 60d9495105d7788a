//! TLS without a network: handshakes a second, full and resumed, and how fast records are sealed and opened.
//!
//! Client and server are two values that hand each other bytes in one thread, with a P-256 certificate made for the
//! run. The time of each side is counted apart, since only one of them is a server's.

use std::io::{self, Read, Write};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rcgen::{CertificateParams, KeyPair};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, HandshakeKind, RootCertStore, ServerConfig, ServerConnection};

use super::Bound;

const RUN: Duration = Duration::from_secs(1);
const NAME: &str = "mail.load.test";

/// What one record holds at most.
const RECORD_BYTES: usize = 16 << 10;

pub fn measure() -> io::Result<Vec<Bound>> {
    let (client, server) = configurations().map_err(io::Error::other)?;
    let mut bounds = Vec::new();
    let mut no_tickets = (*client).clone();
    no_tickets.resumption = rustls::client::Resumption::disabled();
    for (config, kind, name) in [
        (Arc::new(no_tickets), HandshakeKind::Full, "full handshakes"),
        (Arc::clone(&client), HandshakeKind::Resumed, "resumed handshakes"),
    ] {
        let (rate, server_us) = handshakes(&config, &server, kind)?;
        bounds.push(Bound::new(name, rate, "/s"));
        bounds.push(Bound::new(format!("{name}, server's side"), server_us, "us"));
    }
    bounds.push(Bound::new("sealed and opened", stream(&client, &server)?, "GB/s"));
    Ok(bounds)
}

fn configurations() -> Result<(Arc<ClientConfig>, Arc<ServerConfig>), Box<dyn std::error::Error + Send + Sync>>
{
    let key = KeyPair::generate()?;
    let certificate = CertificateParams::new(vec![NAME.to_owned()])?.self_signed(&key)?.der().clone();
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let mut roots = RootCertStore::empty();
    roots.add(certificate.clone())?;
    let client = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    let mut server =
        ServerConfig::builder().with_no_client_auth().with_single_cert(vec![certificate], key)?;
    server.ticketer = rustls::crypto::aws_lc_rs::Ticketer::new()?;
    Ok((Arc::new(client), Arc::new(server)))
}

/// Handshakes a second of both sides in one thread, and the server's time for each in microseconds.
fn handshakes(
    client: &Arc<ClientConfig>,
    server: &Arc<ServerConfig>,
    kind: HandshakeKind,
) -> io::Result<(f64, f64)> {
    // What is resumed was begun once.
    Pair::shake(client, server)?;
    let began = Instant::now();
    let mut count = 0_u32;
    let mut server_time = Duration::ZERO;
    while began.elapsed() < RUN {
        let pair = Pair::shake(client, server)?;
        if pair.server.handshake_kind() != Some(kind) {
            return Err(io::Error::other(format!("a handshake was not {kind:?}")));
        }
        server_time += pair.server_time;
        count += 1;
    }
    let took = began.elapsed().as_secs_f64();
    Ok((f64::from(count) / took, server_time.as_secs_f64() * 1e6 / f64::from(count)))
}

/// Gigabytes a second from a writer to a reader in one thread.
fn stream(client: &Arc<ClientConfig>, server: &Arc<ServerConfig>) -> io::Result<f64> {
    let mut pair = Pair::shake(client, server)?;
    let text = vec![b'x'; RECORD_BYTES];
    let mut opened = vec![0; RECORD_BYTES];
    let began = Instant::now();
    let mut bytes = 0;
    while began.elapsed() < RUN {
        pair.client.writer().write_all(&text)?;
        pair.feed_server()?;
        pair.server.reader().read_exact(&mut opened)?;
        bytes += RECORD_BYTES;
    }
    Ok(bytes as f64 / began.elapsed().as_secs_f64() / 1e9)
}

struct Pair {
    client: ClientConnection,
    server: ServerConnection,
    server_time: Duration,
    /// On the way from one to the other.
    wire: Vec<u8>,
}

impl Pair {
    fn shake(client: &Arc<ClientConfig>, server: &Arc<ServerConfig>) -> io::Result<Self> {
        let name = ServerName::try_from(NAME).map_err(io::Error::other)?;
        let client = ClientConnection::new(Arc::clone(client), name).map_err(io::Error::other)?;
        let began = Instant::now();
        let server = ServerConnection::new(Arc::clone(server)).map_err(io::Error::other)?;
        let mut pair = Self { client, server, server_time: began.elapsed(), wire: Vec::new() };
        while pair.client.is_handshaking() || pair.server.is_handshaking() {
            pair.feed_server()?;
            pair.feed_client()?;
        }
        // Tickets follow the handshake.
        pair.feed_client()?;
        Ok(pair)
    }

    fn feed_server(&mut self) -> io::Result<()> {
        self.wire.clear();
        while self.client.wants_write() {
            self.client.write_tls(&mut self.wire)?;
        }
        let began = Instant::now();
        let mut rest = self.wire.as_slice();
        while !rest.is_empty() {
            self.server.read_tls(&mut rest)?;
            self.server.process_new_packets().map_err(io::Error::other)?;
        }
        self.server_time += began.elapsed();
        Ok(())
    }

    fn feed_client(&mut self) -> io::Result<()> {
        self.wire.clear();
        let began = Instant::now();
        while self.server.wants_write() {
            self.server.write_tls(&mut self.wire)?;
        }
        self.server_time += began.elapsed();
        let mut rest = self.wire.as_slice();
        while !rest.is_empty() {
            self.client.read_tls(&mut rest)?;
            self.client.process_new_packets().map_err(io::Error::other)?;
        }
        Ok(())
    }
}
