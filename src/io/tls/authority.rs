//! The local CA: certificates for servers whose operator has none yet.
//!
//! Under the data directory lie `tls/ca.pem`, which clients may be told to trust, and `tls/ca.key`,
//! `tls/server.pem`, `tls/server.key`. What is missing, too old, or not for this host's name is made; the rest
//! stays, so that a client trusts this server once.
//!
//! Invariants: the folder is 0700 and keys are 0600 from the moment they exist; a file appears whole or not at
//! all; a CA is never replaced before its time is nearly over, nor when only its key is lost.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, date_time_ymd,
};
use x509_parser::extensions::GeneralName;

use super::TlsError;
use super::material::{parse, read, read_chain};
use crate::config::TlsFiles;
use crate::mail::time::Timestamp;

const DAY_S: i64 = 86_400;
const AUTHORITY_S: i64 = 3653 * DAY_S;

/// Apple's clients refuse certificates of more than 825 days.
const CERTIFICATE_S: i64 = 730 * DAY_S;

/// With less than this left, the next start or reload makes a new one.
const RENEWED_S: i64 = 30 * DAY_S;

/// Clients whose clocks are behind accept it too.
const BACKDATED_S: i64 = DAY_S;

/// Makes sure of a certificate for `hostname` and this machine in `tls/` under `data`, and says where it is.
pub fn certify(data: &Path, hostname: &str, now: Timestamp) -> Result<TlsFiles, TlsError> {
    let paths = Paths::under(data);
    let files = TlsFiles { certificate: paths.server.clone(), key: paths.server_key.clone() };
    if is_good(&paths.server, now)?
        && paths.server_key.exists()
        && names(&paths.server)?.contains(&hostname.to_owned())
        && is_trusted_for_long(&paths, now)
    {
        return Ok(files);
    }
    make_folder(&paths.folder)?;
    let issuer = issuer(&paths, hostname, now)?;
    let key = generate(&paths.server_key)?;
    let made = server_params(hostname, now).and_then(|params| params.signed_by(&key, &issuer));
    let certificate = made.map_err(|error| bad(&paths.server, &error))?;
    // The key first: a certificate without its key would look usable.
    write_file(&paths.server_key, key.serialize_pem().as_bytes(), 0o600)?;
    write_file(&paths.server, certificate.pem().as_bytes(), 0o644)?;
    Ok(files)
}

/// Where the certificate lies that clients may be told to trust.
pub fn ca_path(data: &Path) -> PathBuf {
    Paths::under(data).ca
}

struct Paths {
    folder: PathBuf,
    ca: PathBuf,
    ca_key: PathBuf,
    server: PathBuf,
    server_key: PathBuf,
}

impl Paths {
    fn under(data: &Path) -> Self {
        let folder = data.join("tls");
        let [ca, ca_key, server, server_key] =
            ["ca.pem", "ca.key", "server.pem", "server.key"].map(|name| folder.join(name));
        Self { folder, ca, ca_key, server, server_key }
    }
}

/// Whether the certificate at `path` exists and is valid for a while yet.
fn is_good(path: &Path, now: Timestamp) -> Result<bool, TlsError> {
    if !path.exists() {
        return Ok(false);
    }
    let (_, not_after) = validity(path)?;
    Ok(now.seconds + RENEWED_S < not_after)
}

/// Whether the CA is valid for a while yet, and the one that has signed the certificate: it is younger if a crash came
/// before there was a new certificate, too. A CA that is lost, or cannot be read, is no reason for another one.
fn is_trusted_for_long(paths: &Paths, now: Timestamp) -> bool {
    let (Ok((ca_from, ca_until)), Ok((from, _))) = (validity(&paths.ca), validity(&paths.server)) else {
        return true;
    };
    now.seconds + RENEWED_S < ca_until && ca_from <= from
}

/// From when on and until when a certificate is valid, in Unix seconds.
fn validity(path: &Path) -> Result<(i64, i64), TlsError> {
    let chain = read_chain(path)?;
    let certificate = parse(path, &chain[0])?;
    let validity = certificate.validity();
    Ok((validity.not_before.timestamp(), validity.not_after.timestamp()))
}

/// The DNS names that the certificate at `path` is for.
fn names(path: &Path) -> Result<Vec<String>, TlsError> {
    let chain = read_chain(path)?;
    let certificate = parse(path, &chain[0])?;
    let Ok(Some(alternatives)) = certificate.subject_alternative_name() else {
        return Ok(Vec::new());
    };
    let names = alternatives.value.general_names.iter().filter_map(|name| match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        _ => None,
    });
    Ok(names.collect())
}

/// The CA that is there, or a new one.
fn issuer(paths: &Paths, hostname: &str, now: Timestamp) -> Result<Issuer<'static, KeyPair>, TlsError> {
    if !is_good(&paths.ca, now)? {
        make_authority(paths, hostname, now)?;
    }
    let key_pem = read(&paths.ca_key)?;
    let key =
        KeyPair::from_pem(&String::from_utf8_lossy(&key_pem)).map_err(|error| bad(&paths.ca_key, &error))?;
    let chain = read_chain(&paths.ca)?;
    let certificate = parse(&paths.ca, &chain[0])?;
    if certificate.public_key().subject_public_key.data.as_ref() != key.public_key_raw() {
        return Err(TlsError::KeyOfAnother { certificate: paths.ca.clone(), key: paths.ca_key.clone() });
    }
    Issuer::from_ca_cert_der(&chain[0], key).map_err(|error| bad(&paths.ca, &error))
}

fn make_authority(paths: &Paths, hostname: &str, now: Timestamp) -> Result<(), TlsError> {
    let mut params = dated(now, AUTHORITY_S);
    params.distinguished_name.push(DnType::CommonName, format!("Ringpost CA of {hostname}"));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let key = generate(&paths.ca_key)?;
    let certificate = params.self_signed(&key).map_err(|error| bad(&paths.ca, &error))?;
    write_file(&paths.ca_key, key.serialize_pem().as_bytes(), 0o600)?;
    write_file(&paths.ca, certificate.pem().as_bytes(), 0o644)
}

fn server_params(hostname: &str, now: Timestamp) -> Result<CertificateParams, rcgen::Error> {
    let mut names = ["localhost", "127.0.0.1", "::1"].map(str::to_owned).to_vec();
    if hostname != "localhost" {
        names.push(hostname.to_owned());
    }
    let mut params = dated(now, CERTIFICATE_S);
    params.subject_alt_names = CertificateParams::new(names)?.subject_alt_names;
    // A common name has at most 64 characters (RFC 5280 A.1); nothing looks at it.
    params.distinguished_name.push(DnType::CommonName, "Ringpost server");
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.use_authority_key_identifier_extension = true;
    Ok(params)
}

/// Parameters of a certificate that is valid from yesterday on, for `valid_s`.
fn dated(now: Timestamp, valid_s: i64) -> CertificateParams {
    let at = |seconds: i64| date_time_ymd(1970, 1, 1) + Duration::from_secs(seconds.max(0).unsigned_abs());
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.not_before = at(now.seconds - BACKDATED_S);
    params.not_after = at(now.seconds + valid_s);
    params
}

/// ECDSA on P-256, which every client of this century's second decade verifies.
fn generate(path: &Path) -> Result<KeyPair, TlsError> {
    KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).map_err(|error| bad(path, &error))
}

fn bad(path: &Path, error: &rcgen::Error) -> TlsError {
    TlsError::Bad { path: path.to_owned(), why: error.to_string() }
}

fn make_folder(path: &Path) -> Result<(), TlsError> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.map_err(|error| TlsError::Unwritable { path: path.to_owned(), error })
}

fn write_file(path: &Path, bytes: &[u8], mode: u32) -> Result<(), TlsError> {
    replace(path, bytes, mode).map_err(|error| TlsError::Unwritable { path: path.to_owned(), error })
}

/// The whole file under another name, synced, then renamed: no one sees half a key.
fn replace(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let fresh = path.with_extension("new");
    // Left over from a crash, perhaps with another mode.
    match fs::remove_file(&fresh) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&fresh)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&fresh, path)?;
    File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;
    use std::path::Path;

    use tempfile::TempDir;

    use super::{DAY_S, certify};
    use crate::io::tls::ServerTls;
    use crate::mail::time::Timestamp;

    fn at(days: i64) -> Timestamp {
        Timestamp { seconds: 1_750_000_000 + days * DAY_S, zone_minutes: 0 }
    }

    fn contents(data: &Path) -> (Vec<u8>, Vec<u8>) {
        (fs::read(data.join("tls/ca.pem")).unwrap(), fs::read(data.join("tls/server.pem")).unwrap())
    }

    #[test]
    fn made_once_and_renewed_in_time() {
        let folder = TempDir::new().unwrap();
        let data = folder.path().join("data");
        let mut before = (Vec::new(), Vec::new());
        // The day, the host's name, and which of CA and certificate are new.
        let table = [
            (0, "a.example", (true, true)),
            (1, "a.example", (false, false)),
            (690, "a.example", (false, false)),
            (705, "a.example", (false, true)),
            (706, "b.example", (false, true)),
            (707, "b.example", (false, false)),
            (3600, "b.example", (false, true)),
            (3620, "b.example", (false, false)),
            // The certificate would last, its CA does not.
            (3630, "b.example", (true, true)),
            (3631, "localhost", (false, false)),
        ];
        for (day, hostname, (new_ca, new_server)) in table {
            assert!(ServerTls::local(&data, hostname, at(day)).is_ok(), "{day}");
            let after = contents(&data);
            assert_eq!((after.0 != before.0, after.1 != before.1), (new_ca, new_server), "{day}");
            before = after;
        }
    }

    #[test]
    fn a_certificate_of_an_older_ca_is_replaced() {
        let folder = TempDir::new().unwrap();
        let server = ["tls/server.pem", "tls/server.key"].map(|name| folder.path().join(name));
        certify(folder.path(), "mail.example.org", at(0)).unwrap();
        certify(folder.path(), "mail.example.org", at(3600)).unwrap();
        let old = server.each_ref().map(|path| fs::read(path).unwrap());
        certify(folder.path(), "mail.example.org", at(3630)).unwrap();
        // As a crash leaves it that comes between the two.
        server.iter().zip(&old).for_each(|(path, bytes)| fs::write(path, bytes).unwrap());
        let before = contents(folder.path());
        certify(folder.path(), "mail.example.org", at(3631)).unwrap();
        let after = contents(folder.path());
        assert!(after.0 == before.0 && after.1 != before.1);
    }

    #[test]
    fn keys_are_private() {
        let folder = TempDir::new().unwrap();
        certify(folder.path(), "mail.example.org", at(0)).unwrap();
        let table = [("tls", 0o700), ("tls/ca.key", 0o600), ("tls/server.key", 0o600), ("tls/ca.pem", 0o644)];
        for (name, mode) in table {
            let found = fs::metadata(folder.path().join(name)).unwrap().permissions().mode();
            assert_eq!(found & 0o777 & !0o022, mode & !0o022, "{name}");
        }
        assert_eq!(fs::read_dir(folder.path().join("tls")).unwrap().count(), 4);
    }

    #[test]
    fn a_lost_key_is_not_made_up() {
        let folder = TempDir::new().unwrap();
        certify(folder.path(), "mail.example.org", at(0)).unwrap();
        fs::remove_file(folder.path().join("tls/ca.key")).unwrap();
        assert!(certify(folder.path(), "mail.example.org", at(1)).is_ok());
        let text = certify(folder.path(), "other.example.org", at(1)).unwrap_err().to_string();
        assert!(text.contains("tls/ca.key cannot be read"), "{text}");
        assert!(ServerTls::local(folder.path(), "mail.example.org", at(1)).is_ok());
        let key = fs::read(folder.path().join("tls/server.key")).unwrap();
        fs::write(folder.path().join("tls/ca.key"), key).unwrap();
        let text = certify(folder.path(), "other.example.org", at(1)).unwrap_err().to_string();
        assert!(text.contains("is not the one of the first certificate"), "{text}");
    }
}
