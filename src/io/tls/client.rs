//! What sessions to other servers start from: whom we trust, and how far.

use std::io;
use std::net::IpAddr;
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::Duration;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::crypto::{
    CryptoProvider, WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature,
};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, RootCertStore, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use super::material::read_chain;
use super::{TlsError, TlsSession};
use crate::mail::time::Timestamp;

/// Sessions that each kind of trust remembers for resumption.
const RESUMED_MAX: usize = 4096;

/// See the module. One for the whole process: cheap to clone, never changed.
#[derive(Clone)]
pub struct ClientTls {
    anyone: Arc<ClientConfig>,
    /// Set once the authorities were read; `None` where there is none to trust.
    verified: Arc<OnceLock<Option<Verified>>>,
}

#[derive(Clone)]
struct Verified {
    config: Arc<ClientConfig>,
    verifier: Arc<WebPkiServerVerifier>,
}

/// How much a peer must prove.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Trust {
    /// Any certificate will do, or an expired one, or one of another name; what it was is told afterwards.
    Anyone,
    /// The handshake fails unless a known authority vouches for the name.
    Verified,
}

/// Whom a session was meant for, and who can tell whether it is them.
pub(super) struct Meant {
    name: ServerName<'static>,
    verifier: Option<Arc<WebPkiServerVerifier>>,
}

impl ClientTls {
    /// Trusts the authorities of the system. A thread reads those, for they are many small files and a start does not
    /// wait for them; the first sessions do. A system without authorities is no error: nobody is verified then.
    pub fn open() -> io::Result<Self> {
        let provider = Arc::new(default_provider());
        let tls = Self::unverified(&provider);
        let verified = Arc::clone(&tls.verified);
        let read = move || verified.get_or_init(|| Verified::by(&provider, system_roots())).is_some();
        thread::Builder::new().name("authorities".to_owned()).spawn(read)?;
        Ok(tls)
    }

    /// Trusts the authorities in this PEM file alone.
    pub fn trusting_file(path: &Path) -> Result<Self, TlsError> {
        let mut roots = RootCertStore::empty();
        for certificate in read_chain(path)? {
            let bad = |error: rustls::Error| TlsError::Bad { path: path.to_owned(), why: error.to_string() };
            roots.add(certificate).map_err(bad)?;
        }
        Ok(Self::trusting(roots))
    }

    fn trusting(roots: RootCertStore) -> Self {
        let provider = Arc::new(default_provider());
        let tls = Self::unverified(&provider);
        tls.verified.get_or_init(|| Verified::by(&provider, roots));
        tls
    }

    fn unverified(provider: &Arc<CryptoProvider>) -> Self {
        let anyone = Arc::new(Anyone { algorithms: provider.signature_verification_algorithms });
        Self { anyone: client_config(provider, anyone), verified: Arc::default() }
    }

    /// The state of a connection on which TLS begins now, with the server of this name (an address in text is
    /// taken as one).
    pub fn session(&self, name: &str, trust: Trust) -> io::Result<TlsSession> {
        let verified = self.verified.wait().as_ref();
        let config = match (trust, verified) {
            (Trust::Anyone, _) => &self.anyone,
            (Trust::Verified, Some(verified)) => &verified.config,
            (Trust::Verified, None) => return Err(io::Error::other("there is no authority to trust")),
        };
        let name = server_name(name)?;
        let connection = ClientConnection::new(Arc::clone(config), name.clone()).map_err(io::Error::other)?;
        let verifier = verified.map(|verified| Arc::clone(&verified.verifier));
        Ok(TlsSession::client(connection, Meant { name, verifier }))
    }
}

impl Verified {
    /// By these authorities, if there are any.
    fn by(provider: &Arc<CryptoProvider>, roots: RootCertStore) -> Option<Self> {
        if roots.is_empty() {
            return None;
        }
        let built =
            WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider)).build();
        let verifier = built.expect("there are authorities, and no lists of revoked certificates");
        let config = client_config(provider, Arc::<WebPkiServerVerifier>::clone(&verifier));
        Some(Self { config, verifier })
    }
}

impl Meant {
    /// Whether the chain is the one of the server that was meant, at this time.
    pub fn verify(&self, chain: &[CertificateDer<'_>], now: Timestamp) -> Result<(), TlsError> {
        let general = |text: &str| TlsError::Session(rustls::Error::General(text.into()));
        let verifier = self.verifier.as_ref().ok_or_else(|| general("there is no authority to trust"))?;
        let (own, others) = chain.split_first().ok_or_else(|| general("the server showed no certificate"))?;
        let now = Duration::from_secs(u64::try_from(now.seconds).unwrap_or(0));
        let now = UnixTime::since_unix_epoch(now);
        verifier.verify_server_cert(own, others, &self.name, &[], now).map(drop).map_err(TlsError::Session)
    }
}

fn system_roots() -> RootCertStore {
    let found = rustls_native_certs::load_native_certs();
    for error in &found.errors {
        tracing::warn!(%error, "an authority of the system cannot be read");
    }
    let mut roots = RootCertStore::empty();
    // Systems carry authorities that are too old to be understood.
    let _ = roots.add_parsable_certificates(found.certs);
    roots
}

/// A name without the dot of its root, or an address.
fn server_name(name: &str) -> io::Result<ServerName<'static>> {
    if let Ok(address) = name.parse::<IpAddr>() {
        return Ok(ServerName::from(address));
    }
    let name = name.strip_suffix('.').unwrap_or(name);
    ServerName::try_from(name.to_owned()).map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))
}

fn client_config(provider: &Arc<CryptoProvider>, verifier: Arc<dyn ServerCertVerifier>) -> Arc<ClientConfig> {
    let mut config = ClientConfig::builder_with_provider(Arc::clone(provider))
        .with_safe_default_protocol_versions()
        .expect("the provider speaks TLS 1.2 and 1.3")
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    config.resumption = Resumption::in_memory_sessions(RESUMED_MAX);
    Arc::new(config)
}

/// Takes every certificate whose key the peer has (RFC 7435: better than nothing).
#[derive(Debug)]
struct Anyone {
    algorithms: WebPkiSupportedAlgorithms,
}

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use rustls::RootCertStore;
    use tempfile::TempDir;

    use super::{ClientTls, Trust};
    use crate::io::clock;
    use crate::io::tls::{ServerTls, TlsError, TlsSession};

    const NAME: &str = "mail.example.org";

    struct Peers {
        server: ServerTls,
        client: ClientTls,
        _folder: TempDir,
    }

    fn peers() -> Peers {
        let folder = TempDir::new().unwrap();
        let server = ServerTls::local(folder.path(), NAME, clock::timestamp()).unwrap();
        let client = ClientTls::trusting_file(&folder.path().join("tls/ca.pem")).unwrap();
        Peers { server, client, _folder: folder }
    }

    /// Carries bytes between both until the handshake is done, or the client gives up.
    fn shake(client: &mut TlsSession, server: &mut TlsSession) -> Result<(), TlsError> {
        let (mut to_server, mut to_client) = (Vec::new(), Vec::new());
        client.start(&mut to_server);
        while !(to_server.is_empty() && to_client.is_empty()) {
            // A client that gives up tells the server so.
            let _ = server.feed(&std::mem::take(&mut to_server), &mut Vec::new(), &mut to_client);
            client.feed(&std::mem::take(&mut to_client), &mut Vec::new(), &mut to_server)?;
        }
        assert!(!client.is_handshaking() && !server.is_handshaking());
        Ok(())
    }

    #[test]
    fn who_is_verified() {
        let peers = peers();
        let strangers = ClientTls::trusting(RootCertStore::empty());
        let table = [
            (&peers.client, NAME, true),
            (&peers.client, "mail.example.org.", true),
            (&peers.client, "127.0.0.1", true),
            (&peers.client, "other.example.org", false),
            (&strangers, NAME, false),
        ];
        for (client, name, is_verified) in table {
            let mut anyone = client.session(name, Trust::Anyone).unwrap();
            shake(&mut anyone, &mut peers.server.session().unwrap()).unwrap();
            assert_eq!(anyone.verify(clock::timestamp()).is_ok(), is_verified, "{name}");
            assert_eq!(anyone.version(), Some("TLSv1.3"));
            let outcome = client.session(name, Trust::Verified).map_err(|error| error.to_string());
            let outcome = outcome.and_then(|mut session| {
                let shaken = shake(&mut session, &mut peers.server.session().unwrap());
                shaken.map_err(|error| error.to_string())?;
                session.verify(clock::timestamp()).map_err(|error| error.to_string())
            });
            assert_eq!(outcome.is_ok(), is_verified, "{name}: {outcome:?}");
        }
        let server = peers.server.session().unwrap();
        assert!(server.verify(clock::timestamp()).is_err(), "a server asks nobody for a certificate");
    }

    #[test]
    fn a_server_that_is_known_is_resumed_and_judged_again() {
        let peers = peers();
        for trust in [Trust::Anyone, Trust::Verified] {
            let mut kinds = Vec::new();
            for _ in 0..2 {
                let mut client = peers.client.session(NAME, trust).unwrap();
                shake(&mut client, &mut peers.server.session().unwrap()).unwrap();
                assert!(client.verify(clock::timestamp()).is_ok());
                kinds.push(client.is_resumed());
            }
            assert_eq!(kinds, [false, true], "{trust:?}");
        }
    }

    #[test]
    fn both_sides_speak() {
        let peers = peers();
        let mut client = peers.client.session(NAME, Trust::Verified).unwrap();
        let mut server = peers.server.session().unwrap();
        shake(&mut client, &mut server).unwrap();
        let (mut sealed, mut plain) = (Vec::new(), Vec::new());
        client.seal(b"EHLO me.test\r\n", &mut sealed).unwrap();
        assert!(server.feed(&sealed, &mut plain, &mut Vec::new()).unwrap());
        assert_eq!(plain, b"EHLO me.test\r\n");
        assert_eq!(client.exporter(), server.exporter());
    }

    #[test]
    fn names_and_files_that_are_none() {
        let peers = peers();
        for name in ["", "a b", "-.test", "\u{fc}.test"] {
            assert!(peers.client.session(name, Trust::Anyone).is_err(), "{name}");
        }
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("ca.pem");
        assert!(matches!(ClientTls::trusting_file(&path), Err(TlsError::Unreadable { .. })));
        fs::write(&path, "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n").unwrap();
        assert!(matches!(ClientTls::trusting_file(&path), Err(TlsError::Bad { .. })));
    }
}
