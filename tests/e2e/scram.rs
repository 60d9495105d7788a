//! A client of SCRAM-SHA-256 without channel binding (RFC 5802, RFC 7677), on whatever carries its lines.

use std::num::NonZeroU32;

use aws_lc_rs::{digest, hmac, pbkdf2};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

const NONCE: &str = "rOprNGfwEbeRWgbNEkqO";

/// The response beside the mechanism's name.
fn first(login: &str) -> String {
    STANDARD.encode(format!("n,,{}", bare(login)))
}

/// The response with the proof, to the server's first challenge.
fn last(login: &str, password: &str, challenge: &str) -> String {
    let challenge = STANDARD.decode(challenge).expect("a challenge is base64");
    let challenge = String::from_utf8(challenge).expect("a challenge is text");
    let field = |name: &str| {
        let mut fields = challenge.split(',');
        fields.find_map(|field| field.strip_prefix(name)).expect("the challenge has it")
    };
    let salt = STANDARD.decode(field("s=")).expect("salt is base64");
    let iterations: NonZeroU32 = field("i=").parse().expect("a number that is not zero");
    let mut salted = [0; 32];
    pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, iterations, &salt, password.as_bytes(), &mut salted);
    let key = sign(&salted, "Client Key");
    let stored_key = digest::digest(&digest::SHA256, key.as_ref());
    let without_proof = format!("c=biws,r={}", field("r="));
    let signature = sign(stored_key.as_ref(), &format!("{},{challenge},{without_proof}", bare(login)));
    let proof: Vec<u8> = key.as_ref().iter().zip(signature.as_ref()).map(|(a, b)| a ^ b).collect();
    STANDARD.encode(format!("{without_proof},p={}", STANDARD.encode(proof)))
}

/// Runs the exchange; `say` sends a line and gives the reply. The last reply.
pub fn log_in(command: &str, login: &str, password: &str, mut say: impl FnMut(&str) -> String) -> String {
    let reply = say(&format!("{command} SCRAM-SHA-256 {}", first(login)));
    let proof = last(login, password, challenge(&reply).expect("a challenge"));
    let reply = say(&proof);
    match challenge(&reply) {
        Some(_) => say(""),
        None => reply,
    }
}

/// `334 text` of SMTP, `+ text` of IMAP and POP3.
fn challenge(reply: &str) -> Option<&str> {
    reply.strip_prefix("334 ").or_else(|| reply.strip_prefix("+ "))
}

fn bare(login: &str) -> String {
    format!("n={login},r={NONCE}")
}

fn sign(key: &[u8], text: &str) -> hmac::Tag {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text.as_bytes())
}
