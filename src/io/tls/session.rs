//! One connection's TLS: ciphertext in, plaintext and replies out, and the other way around.
//!
//! rustls keeps a receive buffer of a few KiB per connection and gives back what a large record made of it only
//! at the next read; `shrink` makes that happen at once, so that an idle session holds what rustls needs to
//! go on and no more.
//!
//! Invariants: what `feed` and `seal` append to `out` goes to the peer in this order; after an error the
//! session is of no use but for the alert that `out` then holds; bytes after the peer's close_notify are
//! not looked at.

use std::io::{self, BufRead, Read, Write};
use std::sync::Arc;

use rustls::{ClientConnection, Connection, HandshakeKind, ProtocolVersion, ServerConnection};

use super::TlsError;
use super::client::Meant;
use crate::mail::time::Timestamp;

/// What RFC 9266 2 exports, and how much of it.
const EXPORTER_LABEL: &[u8] = b"EXPORTER-Channel-Binding";

/// See the module.
pub struct TlsSession {
    connection: Connection,
    side: Side,
    /// The peer's close_notify has come.
    is_over: bool,
}

/// What only one side knows.
enum Side {
    Server { end_point: Option<Arc<[u8]>> },
    Client(Box<Meant>),
}

impl TlsSession {
    pub(super) fn server(connection: ServerConnection, end_point: Option<Arc<[u8]>>) -> Self {
        Self { connection: connection.into(), side: Side::Server { end_point }, is_over: false }
    }

    pub(super) fn client(connection: ClientConnection, meant: Meant) -> Self {
        Self { connection: connection.into(), side: Side::Client(Box::new(meant)), is_over: false }
    }

    /// Appends the first words, which a client has and a server does not.
    pub fn start(&mut self, out: &mut Vec<u8>) {
        self.drain(out);
    }

    /// Takes ciphertext as it came, in any pieces. Appends what the peer said to `plaintext` and what must be
    /// sent to `out`, also when it fails. Says whether the peer may say more: no after its close_notify.
    pub fn feed(
        &mut self,
        mut input: &[u8],
        plaintext: &mut Vec<u8>,
        out: &mut Vec<u8>,
    ) -> Result<bool, TlsError> {
        while !input.is_empty() {
            let taken = self.connection.read_tls(&mut input).map_err(TlsError::session)?;
            if taken == 0 {
                return Ok(false);
            }
            let processed = self.connection.process_new_packets();
            // An alert that tells why goes out before the error comes back.
            self.drain(out);
            let state = processed.map_err(TlsError::Session)?;
            self.take_plaintext(plaintext)?;
            if state.peer_has_closed() {
                self.is_over = true;
                return Ok(false);
            }
        }
        self.shrink();
        Ok(true)
    }

    /// Appends the ciphertext of all of `plaintext` to `out`.
    pub fn seal(&mut self, mut plaintext: &[u8], out: &mut Vec<u8>) -> Result<(), TlsError> {
        assert!(!self.connection.is_handshaking(), "nothing is said before the handshake is done");
        while !plaintext.is_empty() {
            let taken = self.connection.writer().write(plaintext).map_err(TlsError::session)?;
            self.drain(out);
            plaintext = &plaintext[taken..];
        }
        Ok(())
    }

    /// Appends a close_notify: the peer can tell that nothing was cut off.
    pub fn close(&mut self, out: &mut Vec<u8>) {
        self.connection.send_close_notify();
        self.drain(out);
    }

    /// The peer says no more, though its socket may be open.
    pub fn is_over(&self) -> bool {
        self.is_over
    }

    pub fn is_handshaking(&self) -> bool {
        self.connection.is_handshaking()
    }

    /// RFC 9266: what binds a login to this session (tls-exporter). `None` before the handshake is done, and
    /// under TLS 1.2, where it needs an extended master secret and rustls does not say if there is one.
    pub fn exporter(&self) -> Option<[u8; 32]> {
        if self.is_handshaking() || self.connection.protocol_version() != Some(ProtocolVersion::TLSv1_3) {
            return None;
        }
        self.connection.export_keying_material([0; 32], EXPORTER_LABEL, None).ok()
    }

    /// RFC 5929 4: what binds a login to the server's certificate (tls-server-end-point).
    /// Its server alone knows.
    pub fn server_end_point(&self) -> Option<&[u8]> {
        match &self.side {
            Side::Server { end_point } => end_point.as_deref(),
            Side::Client(_) => None,
        }
    }

    /// Whether a known authority vouches for the server that this client was meant for; with [`super::Trust::Anyone`]
    /// nobody has looked yet. It costs the check of a few signatures.
    pub fn verify(&self, now: Timestamp) -> Result<(), TlsError> {
        match &self.side {
            Side::Client(meant) => meant.verify(self.connection.peer_certificates().unwrap_or_default(), now),
            Side::Server { .. } => Err(TlsError::Session(rustls::Error::NoCertificatesPresented)),
        }
    }

    /// The handshake went on from an earlier session.
    pub fn is_resumed(&self) -> bool {
        self.connection.handshake_kind() == Some(HandshakeKind::Resumed)
    }

    /// `TLSv1.3` or `TLSv1.2`, once agreed.
    pub fn version(&self) -> Option<&'static str> {
        self.connection.protocol_version().and_then(|version| version.as_str()).map(|name| match name {
            "TLSv1_3" => "TLSv1.3",
            "TLSv1_2" => "TLSv1.2",
            other => other,
        })
    }

    /// The registered name of the cipher suite, such as `TLS_AES_128_GCM_SHA256`, once agreed.
    pub fn cipher(&self) -> Option<String> {
        let name = self.connection.negotiated_cipher_suite()?.suite().as_str()?;
        // rustls marks those of TLS 1.3 in a way of its own.
        Some(name.replacen("TLS13_", "TLS_", 1))
    }

    fn take_plaintext(&mut self, plaintext: &mut Vec<u8>) -> Result<(), TlsError> {
        let mut reader = self.connection.reader();
        loop {
            let chunk = match reader.fill_buf() {
                Ok(chunk) => chunk,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(TlsError::session(error)),
            };
            if chunk.is_empty() {
                return Ok(());
            }
            plaintext.extend_from_slice(chunk);
            let length = chunk.len();
            reader.consume(length);
        }
    }

    fn drain(&mut self, out: &mut Vec<u8>) {
        while self.connection.wants_write() {
            self.connection.write_tls(out).expect("a vector takes all that is written to it");
        }
    }

    /// Offers a read that gives nothing: rustls shrinks its buffer before each read.
    fn shrink(&mut self) {
        // The error is the one of `Nothing`, which says that there is nothing now and not that it is the end.
        let _ = self.connection.read_tls(&mut Nothing);
    }
}

/// A reader that has nothing yet.
struct Nothing;

impl Read for Nothing {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        Err(io::ErrorKind::WouldBlock.into())
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::sync::Arc;

    use rustls::client::Resumption;
    use rustls::crypto::aws_lc_rs;
    use rustls::version::{TLS12, TLS13};
    use rustls::{ClientConfig, ClientConnection, HandshakeKind, RootCertStore, SupportedProtocolVersion};
    use rustls_pki_types::pem::PemObject;
    use rustls_pki_types::{CertificateDer, ServerName};
    use tempfile::TempDir;

    use super::TlsSession;
    use crate::io::tls::ServerTls;

    struct Peers {
        server: ServerTls,
        client: Arc<ClientConfig>,
        _folder: TempDir,
    }

    fn peers(version: &'static SupportedProtocolVersion) -> Peers {
        let folder = TempDir::new().unwrap();
        // The client reads the real clock, so the certificate must be of today.
        let now = crate::io::clock::timestamp();
        let server = ServerTls::local(folder.path(), "mail.example.org", now).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(folder.path().join("tls/ca.pem")).unwrap()).unwrap();
        let mut client = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_protocol_versions(&[version])
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        client.resumption = Resumption::in_memory_sessions(8);
        Peers { server, client: Arc::new(client), _folder: folder }
    }

    impl Peers {
        fn client(&self, name: &'static str) -> ClientConnection {
            ClientConnection::new(Arc::clone(&self.client), ServerName::try_from(name).unwrap()).unwrap()
        }

        fn shaken(&self, step: usize) -> (ClientConnection, TlsSession) {
            let mut client = self.client("mail.example.org");
            let mut server = self.server.session().unwrap();
            assert!(server.exporter().is_none());
            while client.is_handshaking() || server.is_handshaking() {
                exchange(&mut client, &mut server, step);
            }
            (client, server)
        }
    }

    /// Carries what the client has to say to the server in pieces, and the answers back.
    fn exchange(client: &mut ClientConnection, server: &mut TlsSession, step: usize) -> Vec<u8> {
        let mut sent = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut sent).unwrap();
        }
        let (mut plain, mut out) = (Vec::new(), Vec::new());
        for piece in sent.chunks(step) {
            server.feed(piece, &mut plain, &mut out).unwrap();
        }
        receive(client, &out);
        plain
    }

    fn receive(client: &mut ClientConnection, mut bytes: &[u8]) -> Vec<u8> {
        let mut plain = Vec::new();
        while !bytes.is_empty() {
            client.read_tls(&mut bytes).unwrap();
            let state = client.process_new_packets().unwrap();
            let mut part = vec![0; state.plaintext_bytes_to_read()];
            client.reader().read_exact(&mut part).unwrap();
            plain.extend(part);
        }
        plain
    }

    #[test]
    fn both_directions_in_any_pieces() {
        for version in [&TLS12, &TLS13] {
            let peers = peers(version);
            for step in [1, 7, 4096, usize::MAX] {
                let (mut client, mut server) = peers.shaken(step);
                let said: Vec<u8> = (0..40_000_u32).map(|index| (index % 251) as u8).collect();
                client.writer().write_all(&said).unwrap();
                assert_eq!(exchange(&mut client, &mut server, step), said);
                let long = said.repeat(10);
                let mut out = Vec::new();
                server.seal(&long, &mut out).unwrap();
                assert!(receive(&mut client, &out) == long);
            }
        }
    }

    #[test]
    fn bindings_agree() {
        let peers = peers(&TLS13);
        let (client, server) = peers.shaken(100);
        let seen = client.export_keying_material([0; 32], b"EXPORTER-Channel-Binding", None).unwrap();
        assert_eq!(server.exporter(), Some(seen));
        assert_eq!(server.server_end_point().unwrap().len(), 32);
        assert_eq!(server.version(), Some("TLSv1.3"));
        assert!(server.cipher().is_some_and(|name| name.starts_with("TLS_AES_")));
        assert_ne!(peers.shaken(100).1.exporter(), Some(seen));
        let (_, old) = self::peers(&TLS12).shaken(100);
        assert_eq!((old.exporter(), old.version()), (None, Some("TLSv1.2")));
    }

    #[test]
    fn a_client_that_comes_back_resumes() {
        for version in [&TLS12, &TLS13] {
            let peers = peers(version);
            let (mut client, mut server) = peers.shaken(usize::MAX);
            assert_eq!(client.handshake_kind(), Some(HandshakeKind::Full));
            exchange(&mut client, &mut server, usize::MAX);
            let (client, _) = peers.shaken(usize::MAX);
            assert_eq!(client.handshake_kind(), Some(HandshakeKind::Resumed), "{version:?}");
        }
    }

    #[test]
    fn both_say_goodbye() {
        let peers = peers(&TLS13);
        let (mut client, mut server) = peers.shaken(usize::MAX);
        client.writer().write_all(b"last words").unwrap();
        client.send_close_notify();
        let mut sent = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut sent).unwrap();
        }
        sent.extend_from_slice(b"\x17\x03\x03\x00\x05junk!");
        let (mut plain, mut out) = (Vec::new(), Vec::new());
        assert!(!server.is_over());
        assert!(!server.feed(&sent, &mut plain, &mut out).unwrap());
        assert!(server.is_over());
        assert!(!server.feed(b"more junk", &mut plain, &mut out).unwrap());
        assert_eq!(plain, b"last words");
        server.seal(b"bye", &mut out).unwrap();
        server.close(&mut out);
        let mut bytes = &out[..];
        client.read_tls(&mut bytes).unwrap();
        assert!(client.process_new_packets().unwrap().peer_has_closed());
    }

    #[test]
    fn junk_gets_an_alert() {
        let peers = peers(&TLS13);
        let greetings: [&[u8]; 4] =
            [b"EHLO there\r\n", b"\x16\x03\x01\xff\xff", b"\x15\x03\x03\x00\x02\x02\x28", &[0; 100]];
        for greeting in greetings {
            let (mut plain, mut out) = (Vec::new(), Vec::new());
            let mut server = peers.server.session().unwrap();
            assert!(server.feed(greeting, &mut plain, &mut out).is_err(), "{greeting:?}");
            assert!(plain.is_empty());
            assert!(out.first().is_none_or(|first| *first == 0x15), "an alert or nothing");
            assert!(server.feed(b"more", &mut plain, &mut out).is_err());
        }
        // A damaged record.
        let (mut client, mut server) = peers.shaken(usize::MAX);
        client.writer().write_all(b"hello").unwrap();
        let mut sent = Vec::new();
        client.write_tls(&mut sent).unwrap();
        *sent.last_mut().unwrap() ^= 1;
        let (mut plain, mut out) = (Vec::new(), Vec::new());
        assert!(server.feed(&sent, &mut plain, &mut out).is_err());
        assert!(plain.is_empty() && !out.is_empty());
    }

    #[test]
    fn the_name_is_certified() {
        let peers = peers(&TLS13);
        for (name, is_known) in
            [("localhost", true), ("127.0.0.1", true), ("::1", true), ("other.example", false)]
        {
            let mut client = peers.client(name);
            let mut server = peers.server.session().unwrap();
            let mut sent = Vec::new();
            client.write_tls(&mut sent).unwrap();
            let mut out = Vec::new();
            server.feed(&sent, &mut Vec::new(), &mut out).unwrap();
            let mut bytes = &out[..];
            let mut outcome = Ok(());
            while !bytes.is_empty() && outcome.is_ok() {
                client.read_tls(&mut bytes).unwrap();
                outcome = client.process_new_packets().map(|_| ());
            }
            assert_eq!(outcome.is_ok(), is_known, "{name}");
        }
    }
}
