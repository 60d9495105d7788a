//! SASL: PLAIN (RFC 4616), LOGIN, SCRAM-SHA-256 and SCRAM-SHA-256-PLUS (RFC 5802, RFC 7677) as the server, and as a
//! client ([`Prover`]) all but the last.
//!
//! An [`Exchange`] is begun with the mechanism and the client's first response, if it came along. Each [`Step`]
//! says what is next: send a challenge and hand in the client's line, ask the directory, or stop. Lines and
//! challenges are base64 as they stand on the wire, the same in SMTP, POP3 and IMAP; prefixes, CRLF and
//! reply codes are the protocol's. None of the three can carry data beside its success, so the last word of
//! SCRAM is a challenge that the client answers with an empty line.
//!
//! ```text
//!   start ──> Challenge <──> handle_line ──> Verify (a password: the driver judges; the exchange is over)
//!                                       ├──> Lookup ──> handle_verifier ──> Challenge ...
//!                                       ├──> Success (the client proved that it knows the password)
//!                                       └──> Failure
//! ```
//!
//! Invariants: this folder knows no account and no randomness: verifiers and nonces are handed in; secrets
//! print as `***`; proofs are compared in constant time; any line leads to a step.

mod client;
mod scram;
mod secret;

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use scram::{ClientFinal, ClientFirst, ServerFinal};

pub use client::{Prover, Refused};
pub use secret::Secret;

/// A mechanism of this server.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mechanism {
    ScramSha256Plus,
    ScramSha256,
    Plain,
    Login,
}

/// What binds an exchange to its TLS channel. All `None` on a connection in the clear.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Bindings {
    /// RFC 9266: 32 bytes exported under `EXPORTER-Channel-Binding`.
    pub exporter: Option<[u8; 32]>,
    /// RFC 5929 4: the hash of the server's certificate.
    pub server_end_point: Option<Vec<u8>>,
}

/// Randomness for one SCRAM exchange.
#[derive(Clone, Copy)]
pub struct Nonce(pub [u8; 18]);

/// A login that a password must prove.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Credentials {
    pub identity: Identity,
    pub password: Secret,
}

/// Who logs in, and as whom.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Identity {
    /// Whose mail it shall be; `None` is the login itself.
    pub authzid: Option<String>,
    /// Whose password it is. Never empty.
    pub login: String,
}

/// What the server keeps of a password for SCRAM (RFC 5802 2.2 and 3).
#[derive(Clone, PartialEq, Eq)]
pub struct Verifier {
    pub salt: Vec<u8>,
    pub iterations: u32,
    pub stored_key: [u8; 32],
    pub server_key: [u8; 32],
}

/// What comes next in an exchange.
#[derive(PartialEq, Eq, Debug)]
pub enum Step {
    /// Send this after the protocol's prefix; the client's next line goes to [`Exchange::handle_line`].
    Challenge(String),
    /// Judge this password. The exchange is over.
    Verify(Credentials),
    /// Find the verifier and hand it to [`Exchange::handle_verifier`].
    Lookup(Identity),
    /// The client has proved to be who it says. The exchange is over.
    Success(Identity),
    /// The exchange is over.
    Failure(Failure),
}

/// Why an exchange failed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Failure {
    /// The client sent `*`.
    Cancelled,
    /// Not base64.
    Encoding,
    /// Base64, but not a message of this mechanism.
    Malformed,
    /// A wrong proof, an unknown login, or a channel binding that is not this channel's.
    Rejected,
}

/// One run of a mechanism.
#[derive(Debug)]
pub struct Exchange {
    state: State,
    /// Whose verifier was asked for.
    claimed: Option<Identity>,
}

#[derive(Debug)]
enum State {
    PlainMessage,
    LoginName,
    LoginPassword { login: String },
    ScramClientFirst(ClientFirst),
    ScramVerifier(Box<scram::ClientFirstMessage>),
    ScramClientFinal(Box<ClientFinal>),
    ScramServerFinal(ServerFinal),
    Over,
}

impl Mechanism {
    /// In the order of preference.
    pub const ALL: [Self; 4] = [Self::ScramSha256Plus, Self::ScramSha256, Self::Plain, Self::Login];

    /// The mechanism of this name, in any case.
    pub fn named(name: &[u8]) -> Option<Self> {
        Self::ALL.into_iter().find(|mechanism| mechanism.name().as_bytes().eq_ignore_ascii_case(name))
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::ScramSha256Plus => "SCRAM-SHA-256-PLUS",
            Self::ScramSha256 => "SCRAM-SHA-256",
            Self::Plain => "PLAIN",
            Self::Login => "LOGIN",
        }
    }

    /// The password itself crosses the wire.
    pub fn shows_password(self) -> bool {
        matches!(self, Self::Plain | Self::Login)
    }

    /// The mechanism can be run on a channel with these bindings.
    pub fn is_possible(self, bindings: &Bindings) -> bool {
        self != Self::ScramSha256Plus || !bindings.is_empty()
    }
}

impl Bindings {
    pub const NONE: Self = Self { exporter: None, server_end_point: None };

    pub fn is_empty(&self) -> bool {
        self.exporter.is_none() && self.server_end_point.is_none()
    }
}

impl Exchange {
    /// Begins. `initial` is what stood beside the mechanism's name, as it came: base64, or `=` for a response
    /// that is there and empty. `bindings` are none where SCRAM-SHA-256-PLUS was not offered: with them, a client
    /// that says it could have bound but was not offered to is refused (RFC 5802 6).
    pub fn start(mechanism: Mechanism, initial: Option<&[u8]>, bindings: &Bindings) -> (Self, Step) {
        let mut exchange = Self { state: State::first(mechanism, bindings), claimed: None };
        let step = match initial {
            // RFC 4954 4: `=` is the only way to write an empty initial response.
            Some(b"=") => exchange.handle_response(Vec::new()),
            Some(b"") => exchange.fail(Failure::Encoding),
            Some(response) => exchange.handle_encoded(response),
            None => Step::Challenge(exchange.state.opening().to_owned()),
        };
        (exchange, step)
    }

    /// The client's answer to a challenge, without CRLF.
    pub fn handle_line(&mut self, line: &[u8]) -> Step {
        match line {
            b"*" => self.fail(Failure::Cancelled),
            line => self.handle_encoded(line),
        }
    }

    /// The answer to [`Step::Lookup`]. A login without an account should get a verifier too, made up but always
    /// the same for that login, so that it cannot be told from others; `None` fails at once.
    pub fn handle_verifier(&mut self, verifier: Option<Verifier>, nonce: Nonce) -> Step {
        match (std::mem::replace(&mut self.state, State::Over), verifier) {
            (State::ScramVerifier(first), Some(verifier)) => {
                let (server_first, state) = first.answer(verifier, nonce);
                self.state = State::ScramClientFinal(Box::new(state));
                challenge(&server_first)
            }
            _ => Step::Failure(Failure::Rejected),
        }
    }

    /// Whom the proof was to be of, once a verifier was asked for: after [`Failure::Rejected`], whose password
    /// was guessed at.
    pub fn into_claimed(self) -> Option<Identity> {
        self.claimed
    }

    fn handle_encoded(&mut self, encoded: &[u8]) -> Step {
        match STANDARD.decode(encoded) {
            Ok(response) => self.handle_response(response),
            Err(_) => self.fail(Failure::Encoding),
        }
    }

    /// One decoded response, to the state that waits for it.
    fn handle_response(&mut self, response: Vec<u8>) -> Step {
        let response = Secret::from(response);
        let stepped = match std::mem::replace(&mut self.state, State::Over) {
            State::PlainMessage => plain_credentials(response.bytes()).map(Step::Verify),
            State::LoginName => login_name(response.bytes()).map(|login| {
                self.state = State::LoginPassword { login };
                challenge(b"Password:")
            }),
            State::LoginPassword { login } => login_credentials(login, response).map(Step::Verify),
            State::ScramClientFirst(expected) => expected.parse(response.bytes()).map(|first| {
                let identity = first.identity().clone();
                self.state = State::ScramVerifier(Box::new(first));
                self.claimed = Some(identity.clone());
                Step::Lookup(identity)
            }),
            State::ScramClientFinal(expected) => expected.verify(response.bytes()).map(|(message, state)| {
                self.state = State::ScramServerFinal(state);
                challenge(&message)
            }),
            State::ScramServerFinal(proved) => match response.bytes() {
                b"" => Ok(Step::Success(proved.identity)),
                _ => Err(Failure::Malformed),
            },
            State::ScramVerifier(_) | State::Over => Err(Failure::Malformed),
        };
        stepped.unwrap_or_else(Step::Failure)
    }

    fn fail(&mut self, failure: Failure) -> Step {
        self.state = State::Over;
        Step::Failure(failure)
    }
}

impl State {
    fn first(mechanism: Mechanism, bindings: &Bindings) -> Self {
        match mechanism {
            Mechanism::Plain => Self::PlainMessage,
            Mechanism::Login => Self::LoginName,
            Mechanism::ScramSha256 => Self::ScramClientFirst(ClientFirst::unbound(bindings)),
            Mechanism::ScramSha256Plus => Self::ScramClientFirst(ClientFirst::bound(bindings)),
        }
    }

    /// The challenge for a client that sent no initial response: empty, except where the server speaks first.
    fn opening(&self) -> &'static str {
        match self {
            // `Username:`
            Self::LoginName => "VXNlcm5hbWU6",
            _ => "",
        }
    }
}

impl fmt::Debug for Bindings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Bindings(***)")
    }
}

impl fmt::Debug for Nonce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Nonce(***)")
    }
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Verifier(***)")
    }
}

fn challenge(message: &[u8]) -> Step {
    Step::Challenge(STANDARD.encode(message))
}

/// `message = [authzid] NUL authcid NUL passwd` (RFC 4616 2)
fn plain_credentials(message: &[u8]) -> Result<Credentials, Failure> {
    let mut fields = message.split(|&byte| byte == 0);
    let (Some(authzid), Some(authcid), Some(password), None) =
        (fields.next(), fields.next(), fields.next(), fields.next())
    else {
        return Err(Failure::Malformed);
    };
    let authzid = text(authzid)?;
    let login = login_name(authcid)?;
    text(password)?;
    if password.is_empty() {
        return Err(Failure::Malformed);
    }
    let identity = Identity { authzid: (!authzid.is_empty()).then_some(authzid), login };
    Ok(Credentials { identity, password: Secret::from(password.to_vec()) })
}

fn login_credentials(login: String, password: Secret) -> Result<Credentials, Failure> {
    match password.bytes() {
        b"" => Err(Failure::Malformed),
        _ => Ok(Credentials { identity: Identity { authzid: None, login }, password }),
    }
}

fn login_name(name: &[u8]) -> Result<String, Failure> {
    match text(name)? {
        name if name.is_empty() || name.contains('\0') => Err(Failure::Malformed),
        name => Ok(name),
    }
}

fn text(bytes: &[u8]) -> Result<String, Failure> {
    std::str::from_utf8(bytes).map(str::to_owned).map_err(|_| Failure::Malformed)
}

#[cfg(test)]
mod tests {
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;
    use proptest::prelude::{any, proptest};
    use proptest::{collection, option};

    use super::{Bindings, Exchange, Failure, Mechanism, Nonce, Step, Verifier};

    fn shown(step: &Step) -> String {
        match step {
            Step::Challenge(text) => format!("? {text}"),
            Step::Verify(credentials) => {
                let identity = &credentials.identity;
                let authzid = identity.authzid.as_deref().unwrap_or("-");
                format!("{authzid} {} {}", identity.login, credentials.password.bytes().escape_ascii())
            }
            Step::Lookup(identity) => format!("lookup {}", identity.login),
            Step::Success(identity) => format!("success {}", identity.login),
            Step::Failure(failure) => format!("{failure:?}"),
        }
    }

    #[test]
    fn plain_and_login() {
        use Mechanism::{Login, Plain};
        type Case = (Mechanism, Option<&'static str>, &'static [&'static str], &'static [&'static str]);
        let table: &[Case] = &[
            (Plain, Some("AGpvaG4Ac2VjcmV0"), &[], &["- john secret"]),
            (Plain, None, &["AGpvaG4Ac2VjcmV0"], &["? ", "- john secret"]),
            (Plain, Some("YWRtaW4Aam9obgBzZWNyZXQ="), &[], &["admin john secret"]),
            (Plain, Some("="), &[], &["Malformed"]),
            (Plain, Some("AGpvaG4A"), &[], &["Malformed"]),
            (Plain, Some("AABzZWNyZXQ="), &[], &["Malformed"]),
            (Plain, Some("am9obgBzZWNyZXQ="), &[], &["Malformed"]),
            (Plain, Some("AGpvaG4Ac2VjAHJldA=="), &[], &["Malformed"]),
            (Plain, Some("AGpvaG4A/w=="), &[], &["Malformed"]),
            (Plain, Some("AGpvaG4Ac2VjcmV0="), &[], &["Encoding"]),
            (Plain, Some("AGpvaG4A=c2VjcmV0"), &[], &["Encoding"]),
            (Plain, Some("AGpv aG4Ac2VjcmV0"), &[], &["Encoding"]),
            (Plain, None, &["*"], &["? ", "Cancelled"]),
            (Plain, None, &["", ""], &["? ", "Malformed", "Malformed"]),
            (Login, None, &["am9obg==", "c2VjcmV0"], &["? VXNlcm5hbWU6", "? UGFzc3dvcmQ6", "- john secret"]),
            (Login, Some("am9obg=="), &["c2VjcmV0"], &["? UGFzc3dvcmQ6", "- john secret"]),
            (Login, None, &[""], &["? VXNlcm5hbWU6", "Malformed"]),
            (Login, Some("am9obg=="), &[""], &["? UGFzc3dvcmQ6", "Malformed"]),
            (Login, Some("am9obg=="), &["*"], &["? UGFzc3dvcmQ6", "Cancelled"]),
        ];
        for (mechanism, initial, lines, expected) in table {
            let initial = initial.map(str::as_bytes);
            let (mut exchange, step) = Exchange::start(*mechanism, initial, &Bindings::default());
            let mut steps = vec![shown(&step)];
            steps.extend(lines.iter().map(|line| shown(&exchange.handle_line(line.as_bytes()))));
            assert_eq!(steps, *expected);
        }
    }

    #[test]
    fn scram_asks_for_the_verifier_between_two_lines() {
        let first = STANDARD.encode("n,,n=john,r=abc");
        let (mut exchange, step) =
            Exchange::start(Mechanism::ScramSha256, Some(first.as_bytes()), &Bindings::default());
        assert_eq!(shown(&step), "lookup john");
        let verifier =
            Verifier { salt: b"salt".to_vec(), iterations: 4096, stored_key: [0; 32], server_key: [0; 32] };
        let Step::Challenge(challenge) = exchange.handle_verifier(Some(verifier), Nonce([0; 18])) else {
            panic!("a verifier leads to a challenge");
        };
        let expected = "r=abcAAAAAAAAAAAAAAAAAAAAAAAA,s=c2FsdA==,i=4096";
        assert_eq!(STANDARD.decode(challenge).as_deref(), Ok(expected.as_bytes()));
        let proof = STANDARD.encode("c=biws,r=abcAAAAAAAAAAAAAAAAAAAAAAAA,p=AAAA");
        assert_eq!(exchange.handle_line(proof.as_bytes()), Step::Failure(Failure::Rejected));
        assert_eq!(exchange.handle_verifier(None, Nonce([0; 18])), Step::Failure(Failure::Rejected));
    }

    #[test]
    fn secrets_print_as_stars() {
        let (exchange, step) =
            Exchange::start(Mechanism::Plain, Some(b"AGpvaG4Ac2VjcmV0"), &Bindings::default());
        let printed = format!(
            "{exchange:?} {step:?} {:?}",
            Bindings { exporter: Some([9; 32]), ..Bindings::default() }
        );
        assert!(
            printed.contains("***") && !printed.contains("secret") && !printed.contains('9'),
            "{printed}"
        );
    }

    #[test]
    fn names_of_mechanisms() {
        assert_eq!(Mechanism::named(b"scram-sha-256"), Some(Mechanism::ScramSha256));
        assert_eq!(Mechanism::named(b"CRAM-MD5"), None);
        assert!(!Mechanism::ScramSha256Plus.is_possible(&Bindings::default()));
    }

    proptest! {
        #[test]
        fn any_lines_lead_to_steps(
            which in 0_usize..4,
            initial in option::of(collection::vec(any::<u8>(), 0..20)),
            lines in collection::vec(collection::vec(any::<u8>(), 0..40), 0..4),
        ) {
            let initial = initial.map(|bytes| STANDARD.encode(bytes));
            let mechanism = Mechanism::ALL[which];
            let (mut exchange, _) =
                Exchange::start(mechanism, initial.as_ref().map(String::as_bytes), &Bindings::default());
            for line in lines {
                exchange.handle_line(STANDARD.encode(line).as_bytes());
            }
        }
    }
}
