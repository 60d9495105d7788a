//! Who is let in: passwords and SCRAM proofs, with the brakes on guessing.
//!
//! A password is hashed on a worker thread; one that was right a moment ago is known, and one that is being hashed
//! is waited for: the devices of a user that come all at once cost one run. Each shard brakes for itself, so that a
//! guesser who is spread over all shards by the kernel gets as many tries as there are cores.
//!
//! A stranger's attempt is judged after the one before: a password's hash is run and a proof has come, or will not. The
//! line of those who wait is short, and shorter where guesses were wrong: who is one too many is asked to come back.

mod turns;

use std::net::IpAddr;
use std::time::Duration;

use super::Shard;
use crate::auth::directory::LoginCheck;
use crate::auth::throttle::Stranger;
use crate::auth::{Account, Directory, ScramVerifier};
use crate::io::clock;
use crate::io::executor::sleep;
use crate::proto::sasl::{Credentials, Identity, Verifier};
use crate::store::{AccountId, LogId};
use turns::Turn;
pub use turns::Turns;

/// A stranger's attempts that wait for the one that is judged: more than a user has devices that come all at once.
const WAITING_MAX: usize = 64;

/// As [`WAITING_MAX`], once each attempt waits for its answer.
const BRAKED_MAX: usize = 8;

/// How long others wait for a proof: a round trip, and the password's hash on a slow device.
const PROOF_MAX: Duration = Duration::from_secs(4);

/// An account that was let in.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Admitted {
    pub account: AccountId,
    pub log: LogId,
    /// The account's address, as log lines name it.
    pub login: String,
}

/// Why nobody was let in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NotAdmitted {
    /// Wrong login or password, never saying which.
    Wrong,
    /// The login may not be that other account.
    Authorization,
    /// Too many want in at once.
    Unavailable,
}

/// What one connection tries to log in with: one thing at a time.
pub struct Tries {
    peer: IpAddr,
    /// Whose proof is to come.
    proving: Option<Attempt>,
}

/// A stranger's attempt: while it lives no other of the same is judged.
type Attempt = Turn<Stranger>;

impl Tries {
    pub fn of(peer: IpAddr) -> Self {
        Self { peer, proving: None }
    }

    /// Judges a password. Wrong ones wait for their answer.
    pub async fn password(
        &mut self,
        shard: &Shard,
        credentials: &Credentials,
    ) -> Result<Admitted, NotAdmitted> {
        self.proving = None;
        let Credentials { identity, password } = credentials;
        let directory = shard.directory();
        let check = directory.login_check(&identity.login);
        let _attempt = shard.brake(self.peer, &check.key).await?;
        let right = shard.is_right(&check, password.bytes()).await?;
        if !right || check.account.is_none() {
            shard.record_failure(self.peer, identity, &check.key);
            return Err(NotAdmitted::Wrong);
        }
        shard.admit(self.peer, identity)
    }

    /// What a SCRAM exchange is checked against; a decoy for a login that nobody has. Where proofs were wrong of
    /// late, it waits. Others wait for the proof, but not for ever.
    pub async fn verifier(&mut self, shard: &Shard, identity: &Identity) -> Result<Verifier, NotAdmitted> {
        self.proving = None;
        let key = shard.directory().login_key(&identity.login);
        self.proving = shard.brake(self.peer, &key).await?;
        if let Some(attempt) = &self.proving {
            attempt.run_out_after(PROOF_MAX);
        }
        let ScramVerifier { salt, iterations, stored_key, server_key } =
            shard.directory().login_check(&identity.login).scram;
        Ok(Verifier { salt, iterations, stored_key, server_key })
    }

    /// A SCRAM proof was wrong.
    pub fn reject(&mut self, shard: &Shard, identity: &Identity) {
        let key = shard.directory().login_key(&identity.login);
        shard.record_failure(self.peer, identity, &key);
        self.proving = None;
    }

    /// A SCRAM proof was right.
    pub fn admit(&mut self, shard: &Shard, identity: &Identity) -> Result<Admitted, NotAdmitted> {
        let admitted = shard.admit(self.peer, identity);
        self.proving = None;
        admitted
    }
}

impl Shard {
    /// Opens the account of a login that was proved, by its password or by SCRAM.
    fn admit(&self, peer: IpAddr, identity: &Identity) -> Result<Admitted, NotAdmitted> {
        let directory = self.directory();
        let account = directory.login(&identity.login).ok_or(NotAdmitted::Wrong)?;
        let key = directory.login_key(&identity.login);
        self.throttle.borrow_mut().record_success(peer, &key, clock::instant());
        let other = identity.authzid.as_deref().filter(|other| !is_same_login(&directory, other, account));
        if other.is_some() {
            return Err(NotAdmitted::Authorization);
        }
        Ok(Admitted {
            account: AccountId(account.id),
            log: LogId(account.log),
            login: account.address.to_string(),
        })
    }

    /// Waits for a stranger's attempts before this one, and as long as the throttle says.
    async fn brake(&self, peer: IpAddr, key: &str) -> Result<Option<Attempt>, NotAdmitted> {
        let stranger = || self.throttle.borrow().stranger(peer, key, clock::instant());
        let delay = || self.throttle.borrow().delay(peer, key, clock::instant());
        let attempt = match stranger() {
            Some(stranger) => {
                let most = if delay().is_zero() { WAITING_MAX } else { BRAKED_MAX };
                if self.judged_now.waiting(stranger) >= most {
                    return Err(NotAdmitted::Unavailable);
                }
                Some(self.judged_now.turn(stranger).await)
            }
            None => None,
        };
        // One before may have been right: then nobody has to wait for this one.
        let attempt = attempt.filter(|_| stranger().is_some());
        let delay = delay();
        if !delay.is_zero() {
            sleep(delay).await;
        }
        Ok(attempt)
    }

    fn record_failure(&self, peer: IpAddr, identity: &Identity, key: &str) {
        self.throttle.borrow_mut().record_failure(peer, key, clock::instant());
        tracing::info!(%peer, login = %identity.login.escape_debug(), "wrong login or password");
    }

    async fn is_right(&self, check: &LoginCheck, password: &[u8]) -> Result<bool, NotAdmitted> {
        let is_known = || self.logins.borrow_mut().knows(&check.key, password, &check.hash, clock::instant());
        if is_known() {
            return Ok(true);
        }
        let tag = self.logins.borrow().tag(&check.key, password, &check.hash);
        let _own_turn = self.hashed_now.turn(tag).await;
        // Whoever gave the same before has found out.
        if is_known() {
            return Ok(true);
        }
        let (hash, given) = (check.hash.clone(), password.to_vec());
        let verified = self.hashing.run(move || hash.verify(&given)).await;
        let right = verified.map_err(|_| NotAdmitted::Unavailable)?;
        if right && check.account.is_some() {
            self.logins.borrow_mut().remember(&check.key, password, &check.hash, clock::instant());
        }
        Ok(right)
    }
}

fn is_same_login(directory: &Directory, name: &str, account: &Account) -> bool {
    directory.login(name).is_some_and(|other| other.id == account.id)
}
