//! Passwords: what is kept of them, how they are checked, how good they are.
//!
//! Of a password an account keeps an argon2id hash, for mechanisms that send the password, and a
//! SCRAM-SHA-256 verifier (RFC 5802, RFC 7677), for the one that does not. Whoever steals the file attacks the
//! cheaper of the two, the verifier: that is the price of SCRAM, and why long passwords are asked for.
//!
//! Before either is made, a password is prepared: see [`prepare`]. Comparisons take the same time wherever
//! the first difference is. Random bytes come from the caller.
//!
//! Invariants: any password that is not empty can be set and used; what is kept never prints; hashing is
//! slow by design and belongs on a thread that serves no sessions.

use std::borrow::Cow;
use std::fmt;
use std::num::NonZeroU32;

use argon2::password_hash::{PasswordHasher, PasswordVerifier, Salt, SaltString};
use argon2::{Algorithm, Argon2, Params, Version};
use aws_lc_rs::{constant_time, digest, hmac, pbkdf2};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};

/// Random bytes for one set of [`PasswordRecord`]: a salt for each of its two parts.
pub const ENTROPY_BYTES: usize = 2 * SALT_BYTES;

/// Random bytes for [`random_password`]: five bits of each are used, 100 in all.
pub const RANDOM_PASSWORD_BYTES: usize = 20;

const SALT_BYTES: usize = 16;

/// What a guess costs, us and an attacker alike.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Cost {
    pub memory_kib: u32,
    pub passes: u32,
    pub lanes: u32,
    pub scram_iterations: u32,
}

/// An argon2id hash in PHC form (`$argon2id$v=19$m=…,t=…,p=…$salt$hash`).
#[derive(Clone, PartialEq, Eq)]
pub struct PasswordHash(String);

/// What a server keeps for SCRAM-SHA-256 (RFC 5802 3).
#[derive(Clone, PartialEq, Eq)]
pub struct ScramVerifier {
    pub salt: Vec<u8>,
    pub iterations: u32,
    pub stored_key: [u8; 32],
    pub server_key: [u8; 32],
}

/// All that is kept of a password.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PasswordRecord {
    pub hash: PasswordHash,
    pub scram: ScramVerifier,
}

/// An empty password, or one that preparation leaves nothing of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct EmptyPassword;

impl Cost {
    /// 19 MiB and two passes are the least that OWASP asks for: about 20 ms of a core. One lane, since many
    /// logins at once use the other cores already. Iterations: RFC 7677 4 asks for 4096 at least and gives
    /// 15,000 as its rule of thumb; the client pays for them at each login.
    pub const DEFAULT: Self = Self { memory_kib: 19 << 10, passes: 2, lanes: 1, scram_iterations: 15_000 };

    fn argon2(self) -> Argon2<'static> {
        let params = Params::new(self.memory_kib, self.passes, self.lanes, None)
            .expect("costs are constants within what argon2 takes");
        Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
    }
}

impl PasswordRecord {
    pub fn derive(password: &str, entropy: &[u8; ENTROPY_BYTES], cost: Cost) -> Result<Self, EmptyPassword> {
        let password = prepare(password);
        if password.is_empty() {
            return Err(EmptyPassword);
        }
        let (hash_salt, scram_salt) = entropy.split_at(SALT_BYTES);
        Ok(Self {
            hash: PasswordHash::derive(&password, hash_salt, cost),
            scram: ScramVerifier::derive(&password, scram_salt, cost.scram_iterations),
        })
    }
}

impl PasswordHash {
    /// Takes a hash as it was kept; `None` if it is none of ours.
    pub fn parse(phc: &str) -> Option<Self> {
        let hash = argon2::PasswordHash::new(phc).ok()?;
        let ours = hash.algorithm.as_str() == "argon2id" && hash.salt.is_some() && hash.hash.is_some();
        (ours && Params::try_from(&hash).is_ok()).then(|| Self(phc.to_owned()))
    }

    /// A hash of this cost that no password is known for.
    pub fn decoy(secret: &[u8; 32], cost: Cost) -> Self {
        let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
        let (salt, hash) = (tag(&key, &[b"hash salt"]), tag(&key, &[b"hash"]));
        let (salt, hash) = (STANDARD_NO_PAD.encode(&salt[..SALT_BYTES]), STANDARD_NO_PAD.encode(hash));
        let Cost { memory_kib, passes, lanes, .. } = cost;
        Self(format!("$argon2id$v=19$m={memory_kib},t={passes},p={lanes}${salt}${hash}"))
    }

    fn derive(prepared: &str, salt: &[u8], cost: Cost) -> Self {
        let salt = SaltString::encode_b64(salt).expect("16 bytes are a salt");
        let hash = cost.argon2().hash_password(prepared.as_bytes(), Salt::from(&salt));
        Self(hash.expect("argon2 takes passwords up to 4 GiB").to_string())
    }

    /// Whether this is the hash of `password`. Slow: run it where no session waits.
    pub fn verify(&self, password: &[u8]) -> bool {
        let (Ok(hash), Ok(password)) = (argon2::PasswordHash::new(&self.0), std::str::from_utf8(password))
        else {
            return false;
        };
        // The cost is read from the hash, so that old hashes go on working when the default rises.
        Argon2::default().verify_password(prepare(password).as_bytes(), &hash).is_ok()
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for PasswordHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PasswordHash(***)")
    }
}

impl ScramVerifier {
    /// Takes a verifier as [`Self::render`] wrote it.
    ///
    /// ```text
    /// "SCRAM-SHA-256$" iterations ":" base64(salt) "$" base64(StoredKey) ":" base64(ServerKey)
    /// ```
    pub fn parse(text: &str) -> Option<Self> {
        let (cost, keys) = text.strip_prefix("SCRAM-SHA-256$")?.split_once('$')?;
        let ((iterations, salt), (stored, server)) = (cost.split_once(':')?, keys.split_once(':')?);
        let key = |text: &str| STANDARD.decode(text).ok()?.try_into().ok();
        let verifier = Self {
            salt: STANDARD.decode(salt).ok()?,
            iterations: iterations.parse().ok()?,
            stored_key: key(stored)?,
            server_key: key(server)?,
        };
        (verifier.iterations > 0 && !verifier.salt.is_empty()).then_some(verifier)
    }

    /// The form of RFC 5803, with the mechanism's name as PostgreSQL writes it.
    pub fn render(&self) -> String {
        let [salt, stored, server] =
            [&self.salt[..], &self.stored_key, &self.server_key].map(|bytes| STANDARD.encode(bytes));
        format!("SCRAM-SHA-256${}:{salt}${stored}:{server}", self.iterations)
    }

    /// A verifier that no password is known for: the same for the same login at every time, so that asking
    /// twice does not tell it from a true one.
    pub fn decoy(secret: &[u8; 32], login: &str, cost: Cost) -> Self {
        let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
        let part = |name: &[u8]| tag(&key, &[name, b"\0", login.as_bytes()]);
        Self {
            salt: part(b"salt")[..SALT_BYTES].to_vec(),
            iterations: cost.scram_iterations,
            stored_key: part(b"stored key"),
            server_key: part(b"server key"),
        }
    }

    /// RFC 5802 3: SaltedPassword, and of it the two keys.
    fn derive(prepared: &str, salt: &[u8], iterations: u32) -> Self {
        let rounds = NonZeroU32::new(iterations).unwrap_or(NonZeroU32::MIN);
        let mut salted = [0; 32];
        pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, rounds, salt, prepared.as_bytes(), &mut salted);
        let key = hmac::Key::new(hmac::HMAC_SHA256, &salted);
        Self {
            salt: salt.to_vec(),
            iterations: rounds.get(),
            stored_key: sha256(&tag(&key, &[b"Client Key"])),
            server_key: tag(&key, &[b"Server Key"]),
        }
    }
}

impl fmt::Debug for ScramVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ScramVerifier(***)")
    }
}

impl fmt::Display for EmptyPassword {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the password is empty")
    }
}

/// A password in the form that is hashed: SASLprep (RFC 4013) as far as it can be had without surprises.
///
/// ASCII stays as it is. Of the rest, other spaces become a space (2.1, table C.1.2) and what is invisible
/// goes away (table B.1). There is no NFKC (2.2): a password typed in two normal forms is two passwords; and
/// nothing is prohibited (2.3), since any password may be set here, and the same preparation at setting and
/// at login makes it work.
pub fn prepare(password: &str) -> Cow<'_, str> {
    if password.is_ascii() {
        return Cow::Borrowed(password);
    }
    let is_space = |c| match c {
        '\u{A0}' | '\u{1680}' | '\u{202F}' | '\u{205F}' | '\u{3000}' => true,
        c => ('\u{2000}'..='\u{200B}').contains(&c),
    };
    let is_nothing = |c| match c {
        '\u{AD}' | '\u{34F}' | '\u{1806}' | '\u{200C}' | '\u{200D}' | '\u{2060}' | '\u{FEFF}' => true,
        c => ('\u{180B}'..='\u{180D}').contains(&c) || ('\u{FE00}'..='\u{FE0F}').contains(&c),
    };
    let kept = password.chars().filter(|c| !is_nothing(*c));
    Cow::Owned(kept.map(|c| if is_space(c) { ' ' } else { c }).collect())
}

/// Why a password is a bad choice, for a warning; it is taken all the same.
pub fn weakness(password: &str) -> Option<&'static str> {
    let mut chars = password.chars();
    let first = chars.next();
    if password.chars().any(char::is_control) {
        return Some("it has a control character, which many programs cannot send");
    }
    if password.trim() != password {
        return Some("it begins or ends with a space, which some programs drop");
    }
    if password.chars().count() < 8 {
        return Some("it is shorter than 8 characters");
    }
    if chars.all(|c| Some(c) == first) {
        return Some("it is one character again and again");
    }
    if password.chars().count() < 12 && password.bytes().all(|b| b.is_ascii_digit()) {
        return Some("it is a short number");
    }
    let lower = password.to_ascii_lowercase();
    let letters = lower.trim_end_matches(|c: char| c.is_ascii_digit() || "!.$#?*".contains(c));
    COMMON.contains(&letters).then_some("it is among the first that are tried")
}

/// Words that passwords are made of most often, without the digits that are put behind them.
const COMMON: [&str; 14] = [
    "password",
    "passw0rd",
    "p@ssw0rd",
    "p@ssword",
    "qwertyuiop",
    "qwertz",
    "qwerty",
    "asdfghjkl",
    "iloveyou",
    "letmein",
    "changeme",
    "administrator",
    "admin",
    "welcome",
];

/// A password of 100 bits that is easy to type: four groups of letters and digits that cannot be mistaken.
pub fn random_password(random: &[u8; RANDOM_PASSWORD_BYTES]) -> String {
    const ALPHABET: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";
    let symbol = |byte: &u8| char::from(ALPHABET[usize::from(byte % 32)]);
    let groups: Vec<String> = random.chunks(5).map(|group| group.iter().map(symbol).collect()).collect();
    groups.join("-")
}

/// Whether two secrets are the same, in a time that does not depend on where they differ.
pub fn is_same_secret(one: &[u8], other: &[u8]) -> bool {
    constant_time::verify_slices_are_equal(one, other).is_ok()
}

/// HMAC-SHA-256 over the parts one after another.
pub(super) fn tag(key: &hmac::Key, parts: &[&[u8]]) -> [u8; 32] {
    let mut signing = hmac::Context::with_key(key);
    parts.iter().for_each(|part| signing.update(part));
    let mut all = [0; 32];
    all.copy_from_slice(signing.sign().as_ref());
    all
}

fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut all = [0; 32];
    all.copy_from_slice(digest::digest(&digest::SHA256, bytes).as_ref());
    all
}

#[cfg(test)]
pub(super) const TEST_COST: Cost = Cost { memory_kib: 8, passes: 1, lanes: 1, scram_iterations: 16 };

#[cfg(test)]
mod tests {
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;

    use super::{
        Cost, EmptyPassword, PasswordHash, PasswordRecord, ScramVerifier, TEST_COST, is_same_secret, prepare,
        random_password, weakness,
    };

    #[test]
    fn the_verifier_of_rfc_7677() {
        // RFC 7677 3 gives salt, iterations and what the server signs with; its password is "pencil".
        let salt = STANDARD.decode("W22ZaJ0SNY7soEsUEjb6gQ==").expect("base64");
        let verifier = ScramVerifier::derive("pencil", &salt, 4096);
        let text = "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$\
                    WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=";
        assert_eq!(verifier.render(), text);
        assert_eq!(ScramVerifier::parse(text), Some(verifier));
    }

    #[test]
    fn any_password_but_the_empty_one() {
        for password in ["x", " ", "p w ", "Grüße", "\u{1F4EE}", "a\0b", "\u{FEFF}x"] {
            let record = PasswordRecord::derive(password, &[7; 32], TEST_COST).expect("not empty");
            assert!(record.hash.verify(password.as_bytes()), "{password:?}");
            assert!(!record.hash.verify(format!("{password}x").as_bytes()), "{password:?}");
        }
        for empty in ["", "\u{AD}"] {
            assert_eq!(PasswordRecord::derive(empty, &[7; 32], TEST_COST), Err(EmptyPassword));
        }
    }

    #[test]
    fn preparation_takes_what_cannot_be_seen() {
        let table = [("a b", "a b"), ("a\u{A0}b", "a b"), ("a\u{AD}b\u{3000}", "ab "), ("é", "é")];
        for (typed, prepared) in table {
            assert_eq!(prepare(typed), prepared);
        }
    }

    #[test]
    fn a_hash_carries_its_cost_and_never_prints() {
        let record = PasswordRecord::derive("secret", &[1; 32], TEST_COST).expect("not empty");
        assert!(record.hash.as_str().starts_with("$argon2id$v=19$m=8,t=1,p=1$"));
        assert_eq!(PasswordHash::parse(record.hash.as_str()), Some(record.hash.clone()));
        assert_eq!(
            format!("{record:?}"),
            "PasswordRecord { hash: PasswordHash(***), scram: ScramVerifier(***) }"
        );
        for foreign in ["", "secret", "$1$abc$def", "$argon2i$v=19$m=8,t=1,p=1$AAAAAAAAAAA$AAAAAAAAAAAAAAAA"]
        {
            assert_eq!(PasswordHash::parse(foreign), None, "{foreign}");
        }
    }

    #[test]
    fn decoys_look_like_the_real_thing_and_stay() {
        let decoy = PasswordHash::decoy(&[9; 32], TEST_COST);
        let real = PasswordRecord::derive("secret", &[1; 32], TEST_COST).expect("not empty").hash;
        assert_eq!(decoy.as_str().len(), real.as_str().len());
        assert!(PasswordHash::parse(decoy.as_str()).is_some() && !decoy.verify(b"secret"));
        let default = PasswordHash::decoy(&[9; 32], Cost::DEFAULT);
        assert!(PasswordHash::parse(default.as_str()).is_some());

        let scram = ScramVerifier::decoy(&[9; 32], "eve@example.org", TEST_COST);
        assert_eq!(scram, ScramVerifier::decoy(&[9; 32], "eve@example.org", TEST_COST));
        assert_ne!(scram.salt, ScramVerifier::decoy(&[9; 32], "eva@example.org", TEST_COST).salt);
        assert_eq!((scram.salt.len(), scram.iterations), (16, 16));
    }

    #[test]
    fn weak_passwords_are_named() {
        let weak =
            ["short", "aaaaaaaaaaaa", "12345678", "Password123!", "changeme1", " has edges ", "tab\tinside"];
        for password in weak {
            assert!(weakness(password).is_some(), "{password:?}");
        }
        for password in ["correct horse battery", "xk29-qqqa-mmz3", "Grüße aus Bern"] {
            assert_eq!(weakness(password), None, "{password:?}");
        }
    }

    #[test]
    fn a_random_password_is_easy_to_type_and_strong() {
        let bytes = std::array::from_fn(|at| (at * 37) as u8);
        let password = random_password(&bytes);
        assert_eq!(password.len(), 23);
        assert_eq!(weakness(&password), None);
        assert!(
            is_same_secret(b"abc", b"abc")
                && !is_same_secret(b"abc", b"abd")
                && !is_same_secret(b"abc", b"ab")
        );
    }
}
