//! SCRAM-SHA-256 with and without channel binding (RFC 5802, RFC 7677), as the states of its server.
//!
//! ```text
//!   C: n,,n=user,r=CNONCE                    ClientFirst  -> ClientFirstMessage
//!   S: r=CNONCE SNONCE,s=SALT,i=4096         answer       -> ClientFinal
//!   C: c=biws,r=CNONCE SNONCE,p=PROOF        verify       -> ServerFinal
//!   S: v=SIGNATURE
//! ```

use aws_lc_rs::{constant_time, digest, hmac};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::{Bindings, Failure, Identity, Nonce, Verifier};

/// Waits for the client's first message.
#[derive(Debug)]
pub struct ClientFirst {
    bindings: Bindings,
    is_bound: bool,
}

/// A first message, parsed; the verifier is being looked up.
#[derive(Debug)]
pub struct ClientFirstMessage {
    identity: Identity,
    /// `client-first-message-bare`
    bare: String,
    /// Where the client's nonce begins in `bare`.
    nonce: std::ops::Range<usize>,
    /// What `c=` of the final message must decode to: `gs2-header [cbind-data]`.
    binding_input: Vec<u8>,
}

/// Waits for the client's final message.
#[derive(Debug)]
pub struct ClientFinal {
    identity: Identity,
    verifier: Verifier,
    /// `client-first-message-bare "," server-first-message ","`
    transcript: String,
    nonce: String,
    binding_input: Vec<u8>,
}

/// Waits for the empty response that ends the exchange.
#[derive(Debug)]
pub struct ServerFinal {
    pub identity: Identity,
}

impl ClientFirst {
    /// For SCRAM-SHA-256.
    pub fn unbound(bindings: &Bindings) -> Self {
        Self { bindings: bindings.clone(), is_bound: false }
    }

    /// For SCRAM-SHA-256-PLUS.
    pub fn bound(bindings: &Bindings) -> Self {
        Self { bindings: bindings.clone(), is_bound: true }
    }

    /// `client-first-message = gs2-cbind-flag "," [authzid] "," client-first-message-bare` (RFC 5802 7)
    pub fn parse(self, message: &[u8]) -> Result<ClientFirstMessage, Failure> {
        let message = std::str::from_utf8(message).map_err(|_| Failure::Malformed)?;
        let (flag, rest) = message.split_once(',').ok_or(Failure::Malformed)?;
        let (authzid, bare) = rest.split_once(',').ok_or(Failure::Malformed)?;
        let header_bytes = message.len() - bare.len();
        let mut binding_input = message.as_bytes()[..header_bytes].to_vec();
        binding_input.extend_from_slice(self.binding(flag)?);
        let authzid = match authzid.strip_prefix("a=") {
            Some(name) => Some(saslname(name)?),
            None if authzid.is_empty() => None,
            None => return Err(Failure::Malformed),
        };
        // RFC 5802 5.1: `m=` in front is an extension that we must not ignore; it fails here.
        let (name, rest) = bare.split_once(',').ok_or(Failure::Malformed)?;
        let login = saslname(name.strip_prefix("n=").ok_or(Failure::Malformed)?)?;
        let nonce = nonce_value(rest.split(',').next().unwrap_or_default())?;
        let nonce_at = name.len() + ",r=".len();
        Ok(ClientFirstMessage {
            identity: Identity { authzid, login },
            nonce: nonce_at..nonce_at + nonce.len(),
            bare: bare.to_owned(),
            binding_input,
        })
    }

    /// The bytes that `gs2-cbind-flag` binds to (RFC 5802 6).
    fn binding(&self, flag: &str) -> Result<&[u8], Failure> {
        let data = match (flag, self.is_bound) {
            ("n", false) => Some(&[][..]),
            // The client would bind but believes that we cannot: if we can, somebody took -PLUS from our list.
            ("y", false) => self.bindings.is_empty().then_some(&[][..]),
            ("p=tls-exporter", true) => self.bindings.exporter.as_ref().map(|bytes| &bytes[..]),
            ("p=tls-server-end-point", true) => self.bindings.server_end_point.as_deref(),
            ("n" | "y", true) => return Err(Failure::Malformed),
            (flag, _) if flag.starts_with("p=") => None,
            _ => return Err(Failure::Malformed),
        };
        data.ok_or(Failure::Rejected)
    }
}

impl ClientFirstMessage {
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// `server-first-message`, and the state that waits for the answer to it.
    pub fn answer(self, verifier: Verifier, nonce: Nonce) -> (Vec<u8>, ClientFinal) {
        let nonce = format!("{}{}", &self.bare[self.nonce], STANDARD.encode(nonce.0));
        let message = format!("r={nonce},s={},i={}", STANDARD.encode(&verifier.salt), verifier.iterations);
        let transcript = format!("{},{message},", self.bare);
        let state = ClientFinal {
            identity: self.identity,
            verifier,
            transcript,
            nonce,
            binding_input: self.binding_input,
        };
        (message.into_bytes(), state)
    }
}

impl ClientFinal {
    /// `client-final-message = "c=" base64 "," "r=" nonce ["," extensions] "," "p=" base64` (RFC 5802 7)
    ///
    /// Gives `server-final-message` when the proof holds.
    pub fn verify(self, message: &[u8]) -> Result<(Vec<u8>, ServerFinal), Failure> {
        let message = std::str::from_utf8(message).map_err(|_| Failure::Malformed)?;
        let (without_proof, proof) = message.rsplit_once(",p=").ok_or(Failure::Malformed)?;
        let mut fields = without_proof.split(',');
        let binding = fields.next().and_then(|field| field.strip_prefix("c=")).ok_or(Failure::Malformed)?;
        let nonce = fields.next().and_then(|field| field.strip_prefix("r=")).ok_or(Failure::Malformed)?;
        let binding = STANDARD.decode(binding).map_err(|_| Failure::Malformed)?;
        let proof = STANDARD.decode(proof).map_err(|_| Failure::Malformed)?;
        let signed = self.transcript + without_proof;
        let is_proved = proves(&self.verifier.stored_key, signed.as_bytes(), &proof);
        if !is_proved || binding != self.binding_input || nonce != self.nonce {
            return Err(Failure::Rejected);
        }
        let signature = sign(&self.verifier.server_key, signed.as_bytes());
        let message = format!("v={}", STANDARD.encode(signature));
        Ok((message.into_bytes(), ServerFinal { identity: self.identity }))
    }
}

/// `ClientKey := ClientProof XOR ClientSignature`, and `H(ClientKey)` is the stored key (RFC 5802 3).
fn proves(stored_key: &[u8; 32], signed: &[u8], proof: &[u8]) -> bool {
    let signature = sign(stored_key, signed);
    let client_key: Vec<u8> = proof.iter().zip(signature.as_ref()).map(|(a, b)| a ^ b).collect();
    let hashed = digest::digest(&digest::SHA256, &client_key);
    let is_equal = constant_time::verify_slices_are_equal(hashed.as_ref(), stored_key).is_ok();
    is_equal && proof.len() == stored_key.len()
}

pub(super) fn sign(key: &[u8], message: &[u8]) -> hmac::Tag {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), message)
}

/// `saslname = 1*(value-safe-char / "=2C" / "=3D")` (RFC 5802 5.1)
fn saslname(encoded: &str) -> Result<String, Failure> {
    let mut parts = encoded.split('=');
    let mut name = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (decoded, rest) = match part.get(..2) {
            Some("2C") => (',', &part[2..]),
            Some("3D") => ('=', &part[2..]),
            _ => return Err(Failure::Malformed),
        };
        name.push(decoded);
        name.push_str(rest);
    }
    match name.is_empty() || name.contains('\0') {
        true => Err(Failure::Malformed),
        false => Ok(name),
    }
}

/// `nonce = "r=" 1*printable`, without commas
fn nonce_value(field: &str) -> Result<&str, Failure> {
    let nonce = field.strip_prefix("r=").ok_or(Failure::Malformed)?;
    let is_printable = nonce.bytes().all(|byte| byte.is_ascii_graphic());
    (is_printable && !nonce.is_empty()).then_some(nonce).ok_or(Failure::Malformed)
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use aws_lc_rs::{digest, pbkdf2};
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;

    use super::{Bindings, ClientFinal, ClientFirst, Failure, Nonce, Verifier, sign};

    fn verifier(password: &str, salt: &[u8]) -> Verifier {
        let iterations = NonZeroU32::new(4096).expect("4096 is not zero");
        let mut salted = [0; 32];
        pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, iterations, salt, password.as_bytes(), &mut salted);
        let client_key = sign(&salted, b"Client Key");
        let bytes = |bytes: &[u8]| <[u8; 32]>::try_from(bytes).expect("SHA-256 has 32 bytes");
        Verifier {
            salt: salt.to_vec(),
            iterations: iterations.get(),
            stored_key: bytes(digest::digest(&digest::SHA256, client_key.as_ref()).as_ref()),
            server_key: bytes(sign(&salted, b"Server Key").as_ref()),
        }
    }

    /// The client's final message without its proof, and with the proof that belongs to it.
    fn client_final(password: &str, state: &ClientFinal, without_proof: &str) -> String {
        let mut salted = [0; 32];
        let iterations = NonZeroU32::new(state.verifier.iterations).expect("the verifier has iterations");
        let salt = &state.verifier.salt;
        pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, iterations, salt, password.as_bytes(), &mut salted);
        let key = sign(&salted, b"Client Key");
        let stored = digest::digest(&digest::SHA256, key.as_ref());
        let signature = sign(stored.as_ref(), format!("{}{without_proof}", state.transcript).as_bytes());
        let proof: Vec<u8> = key.as_ref().iter().zip(signature.as_ref()).map(|(a, b)| a ^ b).collect();
        format!("{without_proof},p={}", STANDARD.encode(proof))
    }

    fn bindings() -> Bindings {
        Bindings { exporter: Some([7; 32]), server_end_point: Some(b"certificate".to_vec()) }
    }

    #[test]
    fn the_example_of_rfc_7677() {
        let first = ClientFirst::unbound(&Bindings::default());
        let first = first.parse(b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO").expect("it is the example");
        let salt = STANDARD.decode("W22ZaJ0SNY7soEsUEjb6gQ==").expect("it is base64");
        let (_, mut state) = first.answer(verifier("pencil", &salt), Nonce([0; 18]));
        // The example's nonce is not base64, so it takes the place of ours.
        state.nonce = "rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0".into();
        state.transcript =
            format!("n=user,r=rOprNGfwEbeRWgbNEkqO,r={},s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096,", state.nonce);
        let message = "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
                       p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";
        let (answer, done) = state.verify(message.as_bytes()).expect("the proof holds");
        assert_eq!(answer, b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=");
        assert_eq!(done.identity.login, "user");
    }

    #[test]
    fn first_messages() {
        let table: &[(bool, bool, &str, Result<&str, Failure>)] = &[
            (false, false, "n,,n=user,r=abc", Ok("user")),
            (false, false, "y,,n=us=2Cer=3D,r=abc,x=1", Ok("us,er=")),
            (false, true, "n,,n=user,r=abc", Ok("user")),
            (false, true, "y,,n=user,r=abc", Err(Failure::Rejected)),
            (true, true, "p=tls-exporter,,n=user,r=abc", Ok("user")),
            (true, true, "p=tls-server-end-point,a=other,n=user,r=abc", Ok("user")),
            (true, true, "p=tls-unique,,n=user,r=abc", Err(Failure::Rejected)),
            (true, true, "n,,n=user,r=abc", Err(Failure::Malformed)),
            (false, true, "p=tls-exporter,,n=user,r=abc", Err(Failure::Rejected)),
            (false, false, "n,,m=ext,n=user,r=abc", Err(Failure::Malformed)),
            (false, false, "n,,n=us=2cer,r=abc", Err(Failure::Malformed)),
            (false, false, "n,,n=us=", Err(Failure::Malformed)),
            (false, false, "n,,n=user", Err(Failure::Malformed)),
            (false, false, "n,,n=,r=abc", Err(Failure::Malformed)),
            (false, false, "n,,n=user,r=", Err(Failure::Malformed)),
            (false, false, "n,,n=user,r=a c", Err(Failure::Malformed)),
            (false, false, "n,x,n=user,r=abc", Err(Failure::Malformed)),
            (false, false, "", Err(Failure::Malformed)),
        ];
        for (is_bound, on_tls, message, expected) in table {
            let bindings = if *on_tls { bindings() } else { Bindings::default() };
            let first = ClientFirst { bindings, is_bound: *is_bound }.parse(message.as_bytes());
            let login = first.as_ref().map(|first| first.identity().login.as_str());
            assert_eq!(login.map_err(|failure| *failure), *expected, "{message}");
        }
    }

    #[test]
    fn proof_nonce_and_binding_must_all_hold() {
        let header = "p=tls-exporter,,";
        let start = || {
            let first = ClientFirst::bound(&bindings()).parse(format!("{header}n=user,r=abc").as_bytes());
            first.expect("it is well formed").answer(verifier("secret", b"salt"), Nonce([1; 18])).1
        };
        let channel = |bytes: &[u8]| STANDARD.encode([header.as_bytes(), bytes].concat());
        let (right, wrong) = (channel(&[7; 32]), channel(&[8; 32]));
        let nonce = start().nonce;
        let table = [
            ("secret", format!("c={right},r={nonce}"), true),
            ("secret", format!("c={right},r={nonce},ext=1"), true),
            ("Secret", format!("c={right},r={nonce}"), false),
            ("secret", format!("c={wrong},r={nonce}"), false),
            ("secret", format!("c={right},r={nonce}x"), false),
            ("secret", format!("r={nonce},c={right}"), false),
            ("secret", format!("c=*,r={nonce}"), false),
        ];
        for (password, without_proof, expected) in table {
            let state = start();
            let message = client_final(password, &state, &without_proof);
            assert_eq!(state.verify(message.as_bytes()).is_ok(), expected, "{without_proof}");
        }
        for proof in ["", "AAAA", "*"] {
            let message = format!("c={right},r={nonce},p={proof}");
            assert!(start().verify(message.as_bytes()).is_err());
        }
    }
}
