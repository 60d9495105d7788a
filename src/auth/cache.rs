//! Logins whose password was right of late, so that a client that comes back each minute does not cost an
//! argon2 run each time.
//!
//! An entry holds a keyed hash over the login, the hash that the password was right for, and the password. So
//! a changed password, or an account made anew, finds no match without anybody having to clear the entry; and
//! with the key, which lives as long as the process, a dump of the entries alone is worth nothing.
//!
//! Invariants: two logins never share an entry; only a password that argon2 has taken is remembered; a wrong
//! password is never answered from here.

use std::time::Duration;

use aws_lc_rs::hmac;

use crate::auth::bounded::Bounded;
use crate::auth::password::{PasswordHash, is_same_secret, tag};
use crate::limits::auth::{CACHED_LOGIN_S, CACHED_LOGINS_MAX};
use crate::mail::time::Instant;

/// See the module.
pub struct LoginCache {
    key: hmac::Key,
    entries: Bounded<String, Entry>,
}

/// A login with its password, unreadable without the key of the process.
pub type Tag = [u8; 32];

struct Entry {
    tag: Tag,
    expires: Instant,
}

impl LoginCache {
    /// `key` is random and new for each process.
    pub fn new(key: &[u8; 32]) -> Self {
        Self { key: hmac::Key::new(hmac::HMAC_SHA256, key), entries: Bounded::new(CACHED_LOGINS_MAX) }
    }

    /// Whether `password` is known to be right for `login` while `hash` is what is kept of it. No means that
    /// it has to be hashed. `login` is the key of [`crate::auth::Directory::login_key`].
    pub fn knows(&mut self, login: &str, password: &[u8], hash: &PasswordHash, now: Instant) -> bool {
        let tag = self.tag(login, password, hash);
        let Some(entry) = self.entries.touch(login) else {
            return false;
        };
        now < entry.expires && is_same_secret(&entry.tag, &tag)
    }

    /// Remembers a password that `hash` has taken.
    pub fn remember(&mut self, login: &str, password: &[u8], hash: &PasswordHash, now: Instant) {
        let tag = self.tag(login, password, hash);
        let expires = now + Duration::from_secs(CACHED_LOGIN_S);
        self.entries.insert(login.to_owned(), Entry { tag, expires });
    }

    /// Forgets what is known of `login`.
    pub fn forget(&mut self, login: &str) {
        self.entries.remove(login);
    }

    /// What stands for a login with this password while `hash` is what is kept of it.
    pub fn tag(&self, login: &str, password: &[u8], hash: &PasswordHash) -> Tag {
        // The lengths in front keep the three parts apart.
        let hash = hash.as_str();
        let lengths = [login.len(), hash.len()].map(|length| (length as u64).to_be_bytes());
        tag(&self.key, &[&lengths[0], &lengths[1], login.as_bytes(), hash.as_bytes(), password])
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::LoginCache;
    use crate::auth::password::{PasswordHash, TEST_COST};
    use crate::limits::auth::CACHED_LOGIN_S;
    use crate::mail::time::Instant;

    #[test]
    fn only_the_same_login_password_and_hash_match_and_not_for_ever() {
        let [old, new] = [[1; 32], [2; 32]].map(|secret| PasswordHash::decoy(&secret, TEST_COST));
        let mut cache = LoginCache::new(&[7; 32]);
        let start = Instant(1000);
        cache.remember("bob@example.org", b"secret", &old, start);
        let later = start + Duration::from_secs(CACHED_LOGIN_S);
        let table: [(&str, &[u8], &PasswordHash, Instant, bool); 6] = [
            ("bob@example.org", b"secret", &old, start, true),
            ("bob@example.org", b"secret", &new, start, false),
            ("bob@example.org", b"Secret", &old, start, false),
            ("bob@example.orgs", b"ecret", &old, start, false),
            ("eve@example.org", b"secret", &old, start, false),
            ("bob@example.org", b"secret", &old, later, false),
        ];
        for (login, password, hash, now, expected) in table {
            assert_eq!(
                cache.knows(login, password, hash, now),
                expected,
                "{login} {}",
                password.escape_ascii()
            );
        }
        cache.forget("bob@example.org");
        assert!(!cache.knows("bob@example.org", b"secret", &old, start));
    }
}
