//! The client's side of an exchange: PLAIN, LOGIN and SCRAM-SHA-256, for a server that wants us to log in.
//!
//! ```text
//!   start ──> initial response ──> handle_challenge <──> answer ... ──> is_complete, when the server says so, too
//! ```
//!
//! Invariants: any challenge leads to an answer or a failure; SCRAM is complete only when the server has proved
//! that it knows the password, too; the work that a server can ask for is bounded.

use std::num::NonZeroU32;

use aws_lc_rs::{constant_time, digest, pbkdf2};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::scram::sign;
use super::{Mechanism, Nonce, Secret};

/// One run of a mechanism, seen from the client.
#[derive(Debug)]
pub struct Prover {
    state: State,
    iterations_max: u32,
}

/// Why a run ended. In words that can stand in a log.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Refused(pub &'static str);

#[derive(Debug)]
enum State {
    LoginName { name: String, password: Secret },
    LoginPassword(Secret),
    ServerFirst { bare: String, nonce: String, password: Secret },
    ServerFinal { signature: Vec<u8> },
    Complete,
    Over,
}

impl Prover {
    /// Mechanisms we know, the best first.
    pub const MECHANISMS: [Mechanism; 3] = [Mechanism::ScramSha256, Mechanism::Plain, Mechanism::Login];

    /// Begins; gives the initial response in base64 if the mechanism has one.
    pub fn start(
        mechanism: Mechanism,
        name: &str,
        password: &Secret,
        nonce: Nonce,
        iterations_max: u32,
    ) -> (Self, Option<String>) {
        let (state, initial) = match mechanism {
            Mechanism::Plain => {
                // RFC 4616 2: no authzid.
                let message = [b"\0", name.as_bytes(), b"\0", password.bytes()].concat();
                (State::Complete, Some(STANDARD.encode(message)))
            }
            Mechanism::Login => {
                (State::LoginName { name: name.to_owned(), password: password.clone() }, None)
            }
            Mechanism::ScramSha256 | Mechanism::ScramSha256Plus => {
                let nonce = STANDARD.encode(nonce.0);
                // RFC 5802 5.1
                let bare = format!("n={},r={nonce}", name.replace('=', "=3D").replace(',', "=2C"));
                let initial = STANDARD.encode(format!("n,,{bare}"));
                (State::ServerFirst { bare, nonce, password: password.clone() }, Some(initial))
            }
        };
        (Self { state, iterations_max }, initial)
    }

    /// A challenge in base64, as it stands behind the protocol's prefix; gives the answer in base64.
    pub fn handle_challenge(&mut self, challenge: &[u8]) -> Result<String, Refused> {
        let state = std::mem::replace(&mut self.state, State::Over);
        match state {
            // What servers ask here differs; what they mean does not.
            State::LoginName { name, password } => {
                self.state = State::LoginPassword(password);
                Ok(STANDARD.encode(name))
            }
            State::LoginPassword(password) => {
                self.state = State::Complete;
                Ok(STANDARD.encode(password.bytes()))
            }
            State::ServerFirst { bare, nonce, password } => {
                let message = decoded(challenge)?;
                let (answer, signature) =
                    client_final(&message, &bare, &nonce, &password, self.iterations_max)?;
                self.state = State::ServerFinal { signature };
                Ok(STANDARD.encode(answer))
            }
            State::ServerFinal { signature } => {
                let message = decoded(challenge)?;
                let proof = message.strip_prefix("v=").and_then(|proof| STANDARD.decode(proof).ok());
                let proof = proof.ok_or(Refused("the server does not prove itself"))?;
                constant_time::verify_slices_are_equal(&proof, &signature)
                    .map_err(|_| Refused("the server does not know the password"))?;
                self.state = State::Complete;
                Ok(String::new())
            }
            State::Complete | State::Over => Err(Refused("a challenge too many")),
        }
    }

    /// All is said and proved, so that the server may say yes.
    pub fn is_complete(&self) -> bool {
        matches!(self.state, State::Complete)
    }
}

/// `client-final-message`, and what the server must prove itself with (RFC 5802 3).
fn client_final(
    server_first: &str,
    bare: &str,
    nonce: &str,
    password: &Secret,
    iterations_max: u32,
) -> Result<(String, Vec<u8>), Refused> {
    const MALFORMED: Refused = Refused("not a challenge of SCRAM");
    // RFC 5802 7: server-first-message = "r=" c-nonce s-nonce "," "s=" base64 "," "i=" number ["," extensions]
    let mut fields = server_first.split(',');
    let mut field = |name| fields.next().and_then(|field| field.strip_prefix(name)).ok_or(MALFORMED);
    let (full_nonce, salt, iterations) = (field("r=")?, field("s=")?, field("i=")?);
    if !full_nonce.starts_with(nonce) || full_nonce.len() == nonce.len() {
        return Err(Refused("the server's nonce does not go on from ours"));
    }
    let salt = STANDARD.decode(salt).map_err(|_| MALFORMED)?;
    let iterations = iterations.parse::<NonZeroU32>().map_err(|_| MALFORMED)?;
    if iterations.get() > iterations_max {
        return Err(Refused("the server asks for too many iterations"));
    }
    let mut salted = [0; digest::SHA256_OUTPUT_LEN];
    pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, iterations, &salt, password.bytes(), &mut salted);
    let client_key = sign(&salted, b"Client Key");
    let stored_key = digest::digest(&digest::SHA256, client_key.as_ref());
    let server_key = sign(&salted, b"Server Key");
    salted.fill(0);
    // `biws` is `n,,`: no channel binding.
    let without_proof = format!("c=biws,r={full_nonce}");
    let signed = format!("{bare},{server_first},{without_proof}");
    let signature = sign(stored_key.as_ref(), signed.as_bytes());
    let proof: Vec<u8> = client_key.as_ref().iter().zip(signature.as_ref()).map(|(a, b)| a ^ b).collect();
    let answer = format!("{without_proof},p={}", STANDARD.encode(proof));
    Ok((answer, sign(server_key.as_ref(), signed.as_bytes()).as_ref().to_vec()))
}

fn decoded(challenge: &[u8]) -> Result<String, Refused> {
    let bytes = STANDARD.decode(challenge).map_err(|_| Refused("a challenge that is not base64"))?;
    String::from_utf8(bytes).map_err(|_| Refused("a challenge that is not text"))
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use aws_lc_rs::{digest, pbkdf2};
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;

    use super::{Prover, Refused, client_final};
    use crate::proto::sasl::scram::sign;
    use crate::proto::sasl::{Bindings, Exchange, Identity, Mechanism, Nonce, Secret, Step, Verifier};

    const NAME: &str = "us=er,name";

    fn verifier(password: &str) -> Verifier {
        let iterations = NonZeroU32::new(4096).expect("4096 is not zero");
        let mut salted = [0; 32];
        pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, iterations, b"salt", password.as_bytes(), &mut salted);
        let bytes = |bytes: &[u8]| <[u8; 32]>::try_from(bytes).expect("SHA-256 has 32 bytes");
        let client_key = sign(&salted, b"Client Key");
        Verifier {
            salt: b"salt".to_vec(),
            iterations: iterations.get(),
            stored_key: bytes(digest::digest(&digest::SHA256, client_key.as_ref()).as_ref()),
            server_key: bytes(sign(&salted, b"Server Key").as_ref()),
        }
    }

    /// Runs against our own server, which knows the password `secret`; says how it ended on both sides.
    fn run(mechanism: Mechanism, password: &str) -> (Step, bool) {
        let password = Secret::from(password.as_bytes().to_vec());
        let (mut prover, initial) = Prover::start(mechanism, NAME, &password, Nonce([1; 18]), 4096);
        let initial = initial.map(String::into_bytes);
        let (mut server, mut step) = Exchange::start(mechanism, initial.as_deref(), &Bindings::NONE);
        loop {
            step = match step {
                Step::Challenge(challenge) => {
                    let answer = prover.handle_challenge(challenge.as_bytes()).expect("it is ours");
                    server.handle_line(answer.as_bytes())
                }
                Step::Lookup(_) => server.handle_verifier(Some(verifier("secret")), Nonce([2; 18])),
                over => return (over, prover.is_complete()),
            }
        }
    }

    #[test]
    fn our_server_understands_it() {
        let identity = Identity { authzid: None, login: NAME.into() };
        assert_eq!(run(Mechanism::ScramSha256, "secret"), (Step::Success(identity.clone()), true));
        let (step, is_complete) = run(Mechanism::ScramSha256, "wrong");
        assert!(matches!(step, Step::Failure(_)) && !is_complete);
        for mechanism in [Mechanism::Plain, Mechanism::Login] {
            let (step, is_complete) = run(mechanism, "secret");
            let Step::Verify(credentials) = step else { panic!("{step:?}") };
            assert_eq!(
                (credentials.identity, credentials.password.bytes()),
                (identity.clone(), &b"secret"[..])
            );
            assert!(is_complete);
        }
    }

    #[test]
    fn the_example_of_rfc_7677_from_the_client() {
        let first = "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";
        let password = Secret::from(b"pencil".to_vec());
        let bare = "n=user,r=rOprNGfwEbeRWgbNEkqO";
        let (answer, signature) =
            client_final(first, bare, "rOprNGfwEbeRWgbNEkqO", &password, 4096).expect("it is the example");
        assert!(answer.ends_with(",p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="), "{answer}");
        assert_eq!(STANDARD.encode(signature), "6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=");
    }

    #[test]
    fn a_server_that_proves_nothing_is_refused() {
        let password = Secret::from(b"secret".to_vec());
        let start = || Prover::start(Mechanism::ScramSha256, "a", &password, Nonce([1; 18]), 5000).0;
        let nonce = STANDARD.encode([1; 18]);
        let table = [
            "*".to_owned(),
            STANDARD.encode([0xff]),
            STANDARD.encode("r=other,s=c2FsdA==,i=4096"),
            STANDARD.encode(format!("r={nonce},s=c2FsdA==,i=4096")),
            STANDARD.encode(format!("r={nonce}x,s=*,i=4096")),
            STANDARD.encode(format!("r={nonce}x,s=c2FsdA==,i=0")),
            STANDARD.encode(format!("r={nonce}x,s=c2FsdA==,i=5001")),
            STANDARD.encode(format!("m=ext,r={nonce}x,s=c2FsdA==,i=4096")),
        ];
        for challenge in table {
            let mut prover = start();
            assert!(prover.handle_challenge(challenge.as_bytes()).is_err(), "{challenge}");
            assert!(!prover.is_complete());
        }
        let first = STANDARD.encode(format!("r={nonce}x,s=c2FsdA==,i=4096"));
        for last in ["", "v=AAAA", "e=other-error", "v=*"] {
            let mut prover = start();
            prover.handle_challenge(first.as_bytes()).expect("it is well formed");
            assert!(prover.handle_challenge(STANDARD.encode(last).as_bytes()).is_err(), "{last}");
            assert!(!prover.is_complete());
        }
        let (mut plain, _) = Prover::start(Mechanism::Plain, "a", &password, Nonce([1; 18]), 5000);
        assert_eq!(plain.handle_challenge(b""), Err(Refused("a challenge too many")));
    }
}
