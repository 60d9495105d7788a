//! The same cases against Postfix and Dovecot, as a second opinion: what they answer otherwise is known, with the
//! reason why ours is right, or it is a failure.
//!
//! The differences stand in `peers/`; `difference.rs` says how they are written. Compared are classes of answers.
//! Each variant is said once, as a polite client would, or with `RINGPOST_PEERS=whole` in all cuts and under TLS
//! too. Both run on loopback, started and stopped by the scripts of `loadtest/peers`.

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::process::{Command, Output};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};

use rustls::ClientConfig;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{DigitallySignedStruct, Error, SignatureScheme};
use tempfile::TempDir;

use crate::answer::{Protocol, matches};
use crate::bytes::Cut;
use crate::case::{Case, Variant};
use crate::client::Imap;
use crate::difference::Differences;
use crate::opening::{MEANT, PASSWORD, READER};
use crate::server::IMAP;
use crate::wire::{Channel, Leaving, Place, Telling, Told, port, tell};
use crate::{cases, class, engines, folder, opening, replay_all};

/// Mailboxes that nobody has used yet; each variant over IMAP gets its own.
const ACCOUNTS: usize = 12_000;

/// Longer ones are not said byte by byte.
const BYTES_MAX: usize = 2000;

/// What a case with `mail` in its opening relies on.
const NAMES: &str = "meant john victim postmaster";

/// As strict as it can be made: what it refuses by itself is not to look like a difference.
const POSTFIX_SETTINGS: &str = "\
myorigin = here.test
virtual_mailbox_domains = here.test
virtual_mailbox_maps = inline:{ {meant@here.test = x} {john@here.test = x} {victim@here.test = x} \
    {postmaster@here.test = x} }
mynetworks = 192.0.2.1/32
message_size_limit = 65536
strict_rfc821_envelopes = yes
smtpd_helo_required = yes
smtpd_error_sleep_time = 0
smtpd_forbid_bare_newline = reject
smtpd_forbid_bare_newline_exclusions =
smtpd_per_request_deadline = yes
smtpd_relay_restrictions = permit_sasl_authenticated, reject_unauth_destination
smtpd_recipient_restrictions = reject_unlisted_recipient
smtpd_tls_auth_only = yes
smtpd_sasl_type = dovecot
smtpd_sasl_path = SASL
smtps_auth = yes
smtpd_sender_login_maps = inline:{ {john@here.test = john@here.test} }
smtps_sender_restrictions = reject_sender_login_mismatch, permit_sasl_authenticated, reject
";

const DOVECOT_SETTINGS: &str = "\
auth_mechanisms = plain login scram-sha-256
mail_max_keyword_length = 100
service auth {
  unix_listener SASL {
    mode = 0666
  }
}
";

/// One of them, running.
struct Peer {
    name: &'static str,
    place: Place,
    differences: Differences,
    settings: String,
    home: TempDir,
    accounts: AtomicUsize,
}

impl Peer {
    /// With its socket for logins in `sasl`.
    fn start(name: &'static str, settings: &str, sasl: &TempDir) -> Self {
        static NEXT: AtomicU8 = AtomicU8::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let [_, _, high, low] = std::process::id().to_be_bytes();
        let tls = ClientConfig::builder()
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(AnyCertificate(aws_lc_rs::default_provider())))
            .with_no_client_auth();
        let peer = Self {
            name,
            place: Place {
                address: Ipv4Addr::new(127, 94 + number, high, low.clamp(1, 254)),
                port,
                tls: Some(Arc::new(tls)),
                leaving: Leaving::WhenQuiet,
            },
            differences: Differences::read(&folder().join("peers").join(format!("{name}.txt"))),
            settings: settings.replace("SASL", &sasl.path().join("auth").display().to_string()),
            home: TempDir::new().expect("a folder"),
            accounts: AtomicUsize::new(0),
        };
        let output = peer.script("start");
        let (said, complaint) =
            (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{name} does not start: {said}{complaint}");
        peer
    }

    fn script(&self, verb: &str) -> Output {
        let script = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("loadtest/peers").join(self.name);
        let mut command = Command::new(script);
        command.arg(verb).arg(self.home.path());
        command.envs([
            ("PEER_ADDRESS", self.place.address.to_string()),
            ("PEER_MODE", "accept".into()),
            ("PEER_ACCOUNTS", ACCOUNTS.to_string()),
            ("PEER_NAMES", NAMES.into()),
            ("PEER_DOMAIN", "here.test".into()),
            ("PEER_PASSWORD", PASSWORD.into()),
            ("PEER_FSYNC", "no".into()),
            ("PEER_CONNECTIONS", "100".into()),
            ("PEER_SETTINGS", self.settings.clone()),
        ]);
        command.output().expect("a script of ours runs")
    }

    /// Compares what the peer says with what we must say; how often, or what differs.
    fn replay(&self, case: &Case, variant: &Variant) -> Result<usize, String> {
        let (answer, _) = engines::expected(case, variant);
        let ours = class::of_pattern(&answer);
        let tellings = tellings(case, variant);
        for (channel, telling) in &tellings {
            let how = |wrong: String| format!("{channel:?} {telling:?}: {wrong}");
            let reader = match Protocol::of(&case.on) {
                Protocol::Smtp => READER.to_owned(),
                _ if case.given == "new" => READER.to_owned(),
                _ => self.fill_account().map_err(how)?,
            };
            let commands: Vec<String> = opening::commands(&case.on, &case.given, MEANT)
                .into_iter()
                .map(|command| command.replace(READER, &reader))
                .collect();
            let told = Told { on: &case.on, commands: &commands, say: &variant.say };
            let theirs = class::of_words(&tell(&self.place, told, *channel, *telling).map_err(how)?);
            if !matches(&ours, &theirs) {
                let found = self.differences.find(&case.name, &variant.name, &theirs);
                found.map_err(|wrong| {
                    how(format!("ours {ours:?}, theirs {:?} {wrong}", class::shown(&theirs)))
                })?;
            }
        }
        Ok(tellings.len())
    }

    /// What a case that has logged in finds: three messages, and a second mailbox.
    fn fill_account(&self) -> Result<String, String> {
        let number = self.accounts.fetch_add(1, Ordering::Relaxed);
        assert!(number < ACCOUNTS, "there are more variants than accounts");
        let account = format!("user{number}@here.test");
        self.fill(&account).map_err(|error| format!("{account}: {error}"))?;
        Ok(account)
    }

    fn fill(&self, account: &str) -> std::io::Result<()> {
        let mut imap = Imap::login(self.place.address, IMAP, account, PASSWORD)?;
        for number in 0..3 {
            let message = format!("Subject: {number}\r\n\r\ntext of {number}\r\n..\r\n");
            imap.append("INBOX", message.as_bytes())?;
        }
        imap.ok("CREATE Box").map(drop)
    }

    fn compare(&self, cases: &[Case]) {
        replay_all(cases, |case, variant| self.replay(case, variant));
        println!("{}: {}", self.name, self.differences.summary());
        if is_whole() {
            assert!(self.differences.unseen().is_empty(), "never seen: {:?}", self.differences.unseen());
        }
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let output = self.script("stop");
        if !output.status.success() {
            eprintln!("{}: {}", self.name, String::from_utf8_lossy(&output.stderr));
        }
    }
}

/// Takes whatever certificate there is: who the peer is makes no difference here.
#[derive(Debug)]
struct AnyCertificate(CryptoProvider);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _certificate: &CertificateDer<'_>,
        _chain: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

fn is_whole() -> bool {
    std::env::var("RINGPOST_PEERS").is_ok_and(|value| value == "whole")
}

fn tellings(case: &Case, variant: &Variant) -> Vec<(Channel, Telling)> {
    if case.is_only_for("tls") {
        return vec![(Channel::Tls, Telling::Polite(Cut::Whole))];
    }
    let mut tellings = vec![(Channel::Clear, Telling::Polite(Cut::Whole))];
    if is_whole() {
        let random = Telling::Polite(Cut::Random { seed: 1 });
        tellings.push((Channel::Clear, random));
        if variant.say.len() <= BYTES_MAX {
            tellings.push((Channel::Clear, Telling::Polite(Cut::Bytes)));
        }
        if case.is_for("wire") && variant.say.len() <= BYTES_MAX {
            tellings.push((Channel::Tls, random));
        }
    }
    tellings
}

/// Whether they can be compared with here. Where they are required, their absence is a failure.
fn are_installed() -> bool {
    let is_there = |path: &str| PathBuf::from(path).is_file();
    if is_there("/usr/lib/postfix/sbin/master")
        && is_there("/usr/sbin/dovecot")
        && rustix::process::getuid().is_root()
    {
        return true;
    }
    let is_required = std::env::var("RINGPOST_INTEROP").is_ok_and(|value| value == "required");
    assert!(!is_required, "Postfix and Dovecot are required here, and root");
    eprintln!("skipped: Postfix or Dovecot is not installed, or this is not root");
    false
}

fn cases_for(is_for: fn(Protocol) -> bool) -> Vec<Case> {
    let all = cases(&["wire", "clear", "tls"]);
    all.into_iter().filter(|case| is_for(Protocol::of(&case.on))).collect()
}

#[test]
fn dovecot_differs_as_it_is_known() {
    if are_installed() {
        let sasl = TempDir::new_in("/run").expect("a folder for a socket");
        let dovecot = Peer::start("dovecot", DOVECOT_SETTINGS, &sasl);
        dovecot.fill(READER).expect("a mailbox takes messages");
        dovecot.compare(&cases_for(|protocol| protocol != Protocol::Smtp));
    }
}

/// Its users log in with Dovecot's help.
#[test]
fn postfix_differs_as_it_is_known() {
    if are_installed() {
        let sasl = TempDir::new_in("/run").expect("a folder for a socket");
        let _dovecot = Peer::start("dovecot", DOVECOT_SETTINGS, &sasl);
        let postfix = Peer::start("postfix", POSTFIX_SETTINGS, &sasl);
        postfix.compare(&cases_for(|protocol| protocol == Protocol::Smtp));
    }
}
