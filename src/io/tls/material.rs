//! A certificate and its key, read from files and checked, as what every session starts from.

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use aws_lc_rs::digest;
use rustls::crypto::aws_lc_rs::{Ticketer, default_provider};
use rustls::server::NoServerSessionStorage;
use rustls::{InconsistentKeys, ServerConfig, ServerConnection};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use x509_parser::certificate::X509Certificate;
use x509_parser::oid_registry;
use x509_parser::prelude::FromDer;

use super::{TlsSession, authority};
use crate::config::{Config, TlsFiles};
use crate::mail::time::Timestamp;

/// What sessions of this server start from.
#[derive(Clone)]
pub struct ServerTls {
    config: Arc<ServerConfig>,
    /// RFC 5929 4.1.
    end_point: Option<Arc<[u8]>>,
}

/// Why there is no certificate to show, or no session to go on with.
#[derive(Debug)]
pub enum TlsError {
    Unreadable {
        path: PathBuf,
        error: io::Error,
    },
    Unwritable {
        path: PathBuf,
        error: io::Error,
    },
    /// Nothing of this kind is in the file.
    Missing {
        path: PathBuf,
        what: &'static str,
    },
    /// Something is in the file that cannot be used; in words.
    Bad {
        path: PathBuf,
        why: String,
    },
    KeyOfAnother {
        certificate: PathBuf,
        key: PathBuf,
    },
    /// The certificate's time is over, since then.
    Expired {
        path: PathBuf,
        since: String,
    },
    /// The certificate's time has not come.
    NotYet {
        path: PathBuf,
        from: String,
    },
    /// The peer broke the protocol, or went another way than we offer.
    Session(rustls::Error),
}

impl ServerTls {
    /// What `config` says: the operator's certificate, or one of the local CA under the data directory.
    pub fn open(config: &Config, now: Timestamp) -> Result<Self, TlsError> {
        match &config.tls {
            Some(files) => Self::load(files, now),
            None => Self::local(&config.data, &config.hostname, now),
        }
    }

    /// A certificate of the CA in `tls/` under `data`; whatever of both is missing or too old is made.
    pub fn local(data: &Path, hostname: &str, now: Timestamp) -> Result<Self, TlsError> {
        Self::load(&authority::certify(data, hostname, now)?, now)
    }

    /// Reads a certificate chain and a key and checks that they belong together and to this time.
    pub fn load(files: &TlsFiles, now: Timestamp) -> Result<Self, TlsError> {
        let chain = read_chain(&files.certificate)?;
        let end_point = check_certificate(&files.certificate, &chain[0], now)?;
        let config = server_config(files, chain, read_key(&files.key)?)?;
        Ok(Self { config: Arc::new(config), end_point })
    }

    /// The state of a connection on which TLS begins now.
    pub fn session(&self) -> io::Result<TlsSession> {
        let connection = ServerConnection::new(Arc::clone(&self.config)).map_err(io::Error::other)?;
        Ok(TlsSession::server(connection, self.end_point.clone()))
    }
}

impl TlsError {
    /// For what rustls says through `io`.
    pub(super) fn session(error: io::Error) -> Self {
        Self::Session(rustls::Error::General(error.to_string()))
    }
}

impl fmt::Display for TlsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable { path, error } => write!(f, "{} cannot be read: {error}", path.display()),
            Self::Unwritable { path, error } => write!(f, "{} cannot be written: {error}", path.display()),
            Self::Missing { path, what } => write!(f, "{} holds no {what} in PEM form", path.display()),
            Self::Bad { path, why } => write!(f, "{} cannot be used: {why}", path.display()),
            Self::KeyOfAnother { certificate, key } => {
                let (certificate, key) = (certificate.display(), key.display());
                write!(f, "the key in {key} is not the one of the first certificate in {certificate}")
            }
            Self::Expired { path, since } => {
                write!(f, "the certificate in {} expired on {since}; get a new one", path.display())
            }
            Self::NotYet { path, from } => {
                write!(
                    f,
                    "the certificate in {} is valid from {from} on; is the clock right?",
                    path.display()
                )
            }
            Self::Session(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for TlsError {}

/// At least one certificate.
pub(super) fn read_chain(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let bytes = read(path)?;
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    let chain = chain.map_err(|error| TlsError::Bad { path: path.to_owned(), why: error.to_string() })?;
    match chain.is_empty() {
        true => Err(TlsError::Missing { path: path.to_owned(), what: "certificate" }),
        false => Ok(chain),
    }
}

fn read_key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    PrivateKeyDer::from_pem_slice(&read(path)?).map_err(|error| match error {
        rustls_pki_types::pem::Error::NoItemsFound => {
            TlsError::Missing { path: path.to_owned(), what: "private key" }
        }
        other => TlsError::Bad { path: path.to_owned(), why: other.to_string() },
    })
}

pub(super) fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    fs::read(path).map_err(|error| TlsError::Unreadable { path: path.to_owned(), error })
}

pub(super) fn parse<'a>(path: &Path, der: &'a CertificateDer<'_>) -> Result<X509Certificate<'a>, TlsError> {
    let parsed = X509Certificate::from_der(der);
    let (_, certificate) =
        parsed.map_err(|error| TlsError::Bad { path: path.to_owned(), why: error.to_string() })?;
    Ok(certificate)
}

/// Whether the certificate is of this time, and its binding.
fn check_certificate(
    path: &Path,
    der: &CertificateDer<'_>,
    now: Timestamp,
) -> Result<Option<Arc<[u8]>>, TlsError> {
    let certificate = parse(path, der)?;
    let validity = certificate.validity();
    if now.seconds > validity.not_after.timestamp() {
        return Err(TlsError::Expired { path: path.to_owned(), since: validity.not_after.to_string() });
    }
    if now.seconds < validity.not_before.timestamp() {
        return Err(TlsError::NotYet { path: path.to_owned(), from: validity.not_before.to_string() });
    }
    let algorithm = end_point_digest(&certificate);
    Ok(algorithm.map(|algorithm| Arc::from(digest::digest(algorithm, der).as_ref())))
}

/// RFC 5929 4.1: the hash of the certificate's signature, SHA-256 in place of MD5 and SHA-1; none where the
/// signature has no single hash.
fn end_point_digest(certificate: &X509Certificate<'_>) -> Option<&'static digest::Algorithm> {
    let signature = &certificate.signature_algorithm.algorithm;
    let sha256 = [
        &oid_registry::OID_PKCS1_MD5WITHRSAENC,
        &oid_registry::OID_PKCS1_SHA1WITHRSA,
        &oid_registry::OID_PKCS1_SHA256WITHRSA,
        &oid_registry::OID_SIG_ECDSA_WITH_SHA256,
    ];
    let sha384 = [&oid_registry::OID_PKCS1_SHA384WITHRSA, &oid_registry::OID_SIG_ECDSA_WITH_SHA384];
    let sha512 = [&oid_registry::OID_PKCS1_SHA512WITHRSA, &oid_registry::OID_SIG_ECDSA_WITH_SHA512];
    match signature {
        known if sha256.contains(&known) => Some(&digest::SHA256),
        known if sha384.contains(&known) => Some(&digest::SHA384),
        known if sha512.contains(&known) => Some(&digest::SHA512),
        _ => None,
    }
}

fn server_config(
    files: &TlsFiles,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<ServerConfig, TlsError> {
    let builder = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .expect("the provider speaks TLS 1.2 and 1.3");
    let built = builder.with_no_client_auth().with_single_cert(chain, key);
    let mut config = built.map_err(|error| match error {
        rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => {
            TlsError::KeyOfAnother { certificate: files.certificate.clone(), key: files.key.clone() }
        }
        other => TlsError::Bad { path: files.key.clone(), why: other.to_string() },
    })?;
    // Resumption is by tickets, whose key changes every few hours: shards share no table of sessions.
    config.ticketer = Ticketer::new().map_err(TlsError::Session)?;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    // Clients of mail use one ticket at a time, and each costs bytes in every handshake.
    config.send_tls13_tickets = 1;
    Ok(config)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use rcgen::{CertificateParams, KeyPair, date_time_ymd};
    use tempfile::TempDir;

    use super::{ServerTls, TlsError};
    use crate::config::TlsFiles;
    use crate::mail::time::Timestamp;

    /// In 2025.
    const NOW: Timestamp = Timestamp { seconds: 1_750_000_000, zone_minutes: 0 };

    fn certificate(years: (i32, i32), key: &KeyPair) -> String {
        let mut params = CertificateParams::new(["mail.example.org".to_owned()]).unwrap();
        params.not_before = date_time_ymd(years.0, 1, 1);
        params.not_after = date_time_ymd(years.1, 1, 1);
        params.self_signed(key).unwrap().pem()
    }

    fn load(certificate: &str, key: &str) -> Result<ServerTls, TlsError> {
        let folder = TempDir::new().unwrap();
        let files =
            TlsFiles { certificate: folder.path().join("cert.pem"), key: folder.path().join("key.pem") };
        fs::write(&files.certificate, certificate).unwrap();
        fs::write(&files.key, key).unwrap();
        ServerTls::load(&files, NOW)
    }

    #[test]
    fn what_can_be_wrong_with_files() {
        let (key, other) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
        let good = certificate((2020, 2030), &key);
        let (key_pem, other_pem) = (key.serialize_pem(), other.serialize_pem());
        let table = [
            (good.clone(), &key_pem, ""),
            (good.clone(), &other_pem, "is not the one of the first certificate"),
            (certificate((2020, 2021), &key), &key_pem, "expired on"),
            (certificate((2028, 2030), &key), &key_pem, "is the clock right?"),
            (String::new(), &key_pem, "cert.pem holds no certificate in PEM form"),
            (key_pem.clone(), &key_pem, "cert.pem holds no certificate in PEM form"),
            (good.clone(), &good, "key.pem holds no private key in PEM form"),
            (good.replace("MII", "!!!"), &key_pem, "cert.pem cannot be used"),
            (good.replace("MII", "AAA"), &key_pem, "cert.pem cannot be used"),
        ];
        for (certificate, key, expected) in table {
            match load(&certificate, key) {
                Ok(_) => assert_eq!(expected, ""),
                Err(error) => {
                    let text = error.to_string();
                    assert!(!expected.is_empty() && text.contains(expected), "{text}");
                }
            }
        }
    }

    #[test]
    fn a_missing_file_is_named() {
        let files = TlsFiles { certificate: "no/such.pem".into(), key: "no/such.key".into() };
        let text = ServerTls::load(&files, NOW).err().unwrap().to_string();
        assert!(text.starts_with("no/such.pem cannot be read"), "{text}");
    }
}
