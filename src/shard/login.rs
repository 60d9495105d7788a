//! Who is let in: passwords and SCRAM proofs, with the brakes on guessing.
//!
//! A password is hashed on a worker thread; one that was right a moment ago is known, and one that is being hashed
//! is waited for: the devices of a user that come all at once cost one run. Each shard brakes for itself, so that a
//! guesser who is spread over all shards by the kernel gets as many tries as there are cores.
//!
//! A stranger's attempt is judged after the one before: a password's hash is run and a proof has come, or will not.

use std::cell::RefCell;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::future::poll_fn;
use std::hash::Hash;
use std::net::IpAddr;
use std::rc::Rc;
use std::task::{Poll, Waker};

use super::Shard;
use crate::auth::directory::LoginCheck;
use crate::auth::throttle::Stranger;
use crate::auth::{Account, Directory, ScramVerifier};
use crate::io::clock;
use crate::io::executor::sleep;
use crate::proto::sasl::{Credentials, Identity, Verifier};
use crate::store::{AccountId, LogId};

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

impl Shard {
    /// Judges a password. Wrong ones wait for their answer.
    pub async fn check_password(
        &self,
        peer: IpAddr,
        credentials: &Credentials,
    ) -> Result<Admitted, NotAdmitted> {
        let Credentials { identity, password } = credentials;
        let directory = self.directory();
        let check = directory.login_check(&identity.login);
        let _attempt = self.brake(peer, &check.key).await;
        let right = self.is_right(&check, password.bytes()).await?;
        if !right || check.account.is_none() {
            self.record_failure(peer, identity, &check.key);
            return Err(NotAdmitted::Wrong);
        }
        self.admit(peer, identity)
    }

    /// What a SCRAM exchange is checked against; a decoy for a login that nobody has. Where proofs were wrong of
    /// late, it waits. The session keeps the attempt until its proof is judged, and drops it before it makes another.
    pub async fn scram_verifier(&self, peer: IpAddr, identity: &Identity) -> (Verifier, Option<Attempt>) {
        let key = self.directory().login_key(&identity.login);
        let attempt = self.brake(peer, &key).await;
        let ScramVerifier { salt, iterations, stored_key, server_key } =
            self.directory().login_check(&identity.login).scram;
        (Verifier { salt, iterations, stored_key, server_key }, attempt)
    }

    /// A SCRAM proof was wrong.
    pub fn reject_proof(&self, peer: IpAddr, identity: &Identity) {
        let key = self.directory().login_key(&identity.login);
        self.record_failure(peer, identity, &key);
    }

    /// Opens the account of a login that was proved, by its password or by SCRAM.
    pub fn admit(&self, peer: IpAddr, identity: &Identity) -> Result<Admitted, NotAdmitted> {
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
    async fn brake(&self, peer: IpAddr, key: &str) -> Option<Attempt> {
        let stranger = || self.throttle.borrow().stranger(peer, key, clock::instant());
        let attempt = match stranger() {
            Some(stranger) => Some(self.judged_now.turn(stranger).await),
            None => None,
        };
        // One before may have been right: then nobody has to wait for this one.
        let attempt = attempt.filter(|_| stranger().is_some());
        let delay = self.throttle.borrow().delay(peer, key, clock::instant());
        if !delay.is_zero() {
            sleep(delay).await;
        }
        attempt
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

/// A stranger's attempt: while it lives no other of the same is judged.
pub type Attempt = Turn<Stranger>;

/// Things that are done once at a time each, such as the hash of a login with its password, and who waits to do one.
pub(super) struct Turns<K>(Rc<RefCell<HashMap<K, Vec<Waker>>>>);

/// While it lives nobody else does the same.
pub struct Turn<K: Copy + Eq + Hash> {
    all: Rc<RefCell<HashMap<K, Vec<Waker>>>>,
    thing: K,
}

impl<K: Copy + Eq + Hash> Turns<K> {
    async fn turn(&self, thing: K) -> Turn<K> {
        poll_fn(|context| match self.0.borrow_mut().entry(thing) {
            Entry::Vacant(free) => {
                free.insert(Vec::new());
                Poll::Ready(())
            }
            Entry::Occupied(mut taken) => {
                taken.get_mut().push(context.waker().clone());
                Poll::Pending
            }
        })
        .await;
        Turn { all: Rc::clone(&self.0), thing }
    }
}

impl<K> Default for Turns<K> {
    fn default() -> Self {
        Self(Rc::default())
    }
}

impl<K: Copy + Eq + Hash> Drop for Turn<K> {
    fn drop(&mut self) {
        // All, since the first of them may have given up.
        let waiting = self.all.borrow_mut().remove(&self.thing);
        waiting.into_iter().flatten().for_each(Waker::wake);
    }
}

fn is_same_login(directory: &Directory, name: &str, account: &Account) -> bool {
    directory.login(name).is_some_and(|other| other.id == account.id)
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use futures_lite::future::{block_on, poll_once, yield_now, zip};

    use super::Turns;

    #[test]
    fn the_same_password_is_hashed_by_one_at_a_time_and_others_go_on() {
        let now = Turns::default();
        let order = Cell::new(Vec::new());
        let note = |what| order.set([order.take(), vec![what]].concat());
        let hash = async |tag, begins, ends| {
            let _turn = now.turn([tag; 32]).await;
            note(begins);
            yield_now().await;
            note(ends);
        };
        block_on(zip(
            hash(1, "a begins", "a ends"),
            zip(hash(1, "b begins", "b ends"), hash(2, "c begins", "c ends")),
        ));
        let order = order.take();
        let at = |what| order.iter().position(|noted| *noted == what).expect("it happened");
        assert!(at("a ends") < at("b begins"), "{order:?}");
        assert!(at("c begins") < at("a ends"), "{order:?}");
        assert!(now.0.borrow().is_empty(), "nobody is remembered");
    }

    #[test]
    fn who_gives_up_leaves_the_turn_to_others() {
        let now = Turns::default();
        let turn = block_on(now.turn([1; 32]));
        let mut gives_up = Box::pin(now.turn([1; 32]));
        assert!(block_on(poll_once(&mut gives_up)).is_none());
        drop(turn);
        drop(gives_up);
        block_on(now.turn([1; 32]));
    }
}
