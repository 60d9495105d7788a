//! The accounts, aliases and local domains of this server, as one snapshot that never changes.
//!
//! Each change takes a snapshot and gives the next or a [`DirectoryError`]; who holds the old one goes on with
//! it. Entries are shared between snapshots, so a change costs a copy of the tables, not of the accounts. The
//! one thing that moves is the count of bytes an account uses: its owner writes it, everybody reads it at
//! RCPT, and it goes from snapshot to snapshot with the account.
//!
//! Local parts are compared without regard to case, domains in their A-label form.
//!
//! Invariants: an id is given once, also when the account is purged; an address is an open account or an
//! alias, never both; the domain of an open account or alias is local; removing an account keeps its id, its
//! log and its mail for the day the same address comes back.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::auth::password::{Cost, PasswordHash, PasswordRecord, ScramVerifier};
use crate::auth::resolve::Resolution;
use crate::limits::auth::ALIAS_TARGETS_MAX;
use crate::mail::address::{Address, AddressError, domain_key, is_domain_or_literal};

/// A longer name is nobody's: 64 bytes, an `@`, and a domain that has 255 in its A-label form. Strangers write
/// names, and IDNA is not for free.
const LOGIN_BYTES_MAX: usize = 1024;

/// See the module.
#[derive(Clone, Debug)]
pub struct Directory {
    pub(super) next_id: u32,
    /// Accounts made from here on have mailboxes with a UIDVALIDITY above this; 0 before the first restore or purge.
    pub(super) uid_validity: u32,
    /// What decoys are made of.
    pub(super) secret: [u8; 32],
    pub(super) accounts: BTreeMap<u32, Arc<Account>>,
    /// Ids of accounts, open and closed, by [`address_key`].
    pub(super) ids: HashMap<String, u32>,
    /// By [`AliasName::key`].
    pub(super) aliases: BTreeMap<String, Arc<Alias>>,
    pub(super) domains: BTreeSet<String>,
}

/// Somebody with mail here.
#[derive(Clone, Debug)]
pub struct Account {
    pub id: u32,
    /// As it was written when the account was made; its domain in A-labels.
    pub address: Address,
    /// The number of the log that its mail lies in.
    pub log: u16,
    pub password: PasswordRecord,
    pub quota_bytes: Option<u64>,
    /// Removed: no mail comes in and nobody logs in, and what was there is kept.
    pub is_closed: bool,
    /// Bytes in its mailboxes as its owner last said.
    pub usage: Arc<AtomicU64>,
}

/// An account to be.
#[derive(Clone, Debug)]
pub struct NewAccount {
    pub address: Address,
    /// For a new account; one that comes back stays where its mail is.
    pub log: u16,
    pub password: PasswordRecord,
    pub quota_bytes: Option<u64>,
}

/// A name for other addresses, here or elsewhere.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Alias {
    pub name: AliasName,
    pub targets: Vec<Address>,
}

/// An address, or all of a domain that nothing else takes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum AliasName {
    Address(Address),
    /// `@domain`
    CatchAll(String),
}

/// What a login is checked against. For a login that nobody has it looks the same, and no password is right.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LoginCheck {
    /// The login in its one spelling, for the cache and the throttle.
    pub key: String,
    pub account: Option<u32>,
    pub hash: PasswordHash,
    pub scram: ScramVerifier,
}

/// Why a change cannot be made; worded for whoever asked for it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum DirectoryError {
    AccountExists(Address),
    AliasExists(AliasName),
    NoAccount(Address),
    NoAlias(AliasName),
    DomainExists(String),
    NoDomain(String),
    /// Not a domain.
    BadDomain(String),
    /// Not an address.
    BadAddress(AddressError),
    /// The domain of an alias is not local.
    NotLocal(String),
    /// The domain has open accounts or aliases; here is one.
    DomainInUse(String, Address),
    NoTargets,
    TooManyTargets,
    /// A target at a local domain that nobody has, or an alias that leads back to itself.
    DeadTarget(Address),
    /// All ids have been given.
    Full,
}

impl Directory {
    /// An empty directory. `secret` is random and stays with it, in its file, for ever.
    pub fn new(secret: [u8; 32]) -> Self {
        Self {
            next_id: 1,
            uid_validity: 0,
            secret,
            accounts: BTreeMap::new(),
            ids: HashMap::new(),
            aliases: BTreeMap::new(),
            domains: BTreeSet::new(),
        }
    }

    /// For accounts that are made from here on; see [`Self::uid_validity`].
    pub fn with_uid_validity(&self, floor: u32) -> Self {
        Self { uid_validity: floor, ..self.clone() }
    }

    /// Accounts that this directory knows nothing of have used numbers up to this for their mailboxes: those that were
    /// made after the backup that it is from, and those that were purged.
    pub fn uid_validity(&self) -> u32 {
        self.uid_validity
    }

    /// Makes an account, or opens the closed one of this address again. Its domain becomes local.
    pub fn add(&self, new: NewAccount) -> Result<Self, DirectoryError> {
        let address = with_domain_key(new.address)?;
        let key = address_key(&address);
        if self.aliases.contains_key(&key) {
            return Err(DirectoryError::AliasExists(AliasName::Address(address)));
        }
        let mut next = self.clone();
        let fresh = match self.account_at(&address) {
            Some(open) if !open.is_closed => return Err(DirectoryError::AccountExists(address)),
            Some(closed) => Account { is_closed: false, ..closed.clone() },
            None => Account {
                id: next.take_id()?,
                address,
                log: new.log,
                password: new.password.clone(),
                quota_bytes: None,
                is_closed: false,
                usage: Arc::default(),
            },
        };
        next.domains.insert(fresh.address.domain.clone());
        next.ids.insert(key, fresh.id);
        let account = Account { password: new.password, quota_bytes: new.quota_bytes, ..fresh };
        next.accounts.insert(account.id, Arc::new(account));
        Ok(next)
    }

    /// Closes an account. Its mail stays; what is kept of its password does not.
    pub fn remove(&self, address: &Address) -> Result<Self, DirectoryError> {
        let password = PasswordRecord {
            hash: PasswordHash::decoy(&self.secret, Cost::DEFAULT),
            scram: ScramVerifier::decoy(&self.secret, "", Cost::DEFAULT),
        };
        self.change(address, |account| Account { is_closed: true, password, ..account })
    }

    /// Takes an account, open or closed, out of the directory. The caller removes the mail of its id.
    pub fn purge(&self, address: &Address) -> Result<Self, DirectoryError> {
        let account = self.account_at(address).ok_or_else(|| DirectoryError::NoAccount(address.clone()))?;
        let mut next = self.clone();
        next.ids.remove(&address_key(&account.address));
        next.accounts.remove(&account.id);
        Ok(next)
    }

    pub fn set_password(&self, address: &Address, password: PasswordRecord) -> Result<Self, DirectoryError> {
        self.change(address, |account| Account { password, ..account })
    }

    pub fn set_quota(&self, address: &Address, quota_bytes: Option<u64>) -> Result<Self, DirectoryError> {
        self.change(address, |account| Account { quota_bytes, ..account })
    }

    /// Its mail lies in another log from now on.
    pub fn set_log(&self, address: &Address, log: u16) -> Result<Self, DirectoryError> {
        self.change(address, |account| Account { log, ..account })
    }

    /// Adds an alias whose name is new.
    pub fn add_alias(&self, alias: Alias) -> Result<Self, DirectoryError> {
        match self.aliases.contains_key(&alias.name.key()) {
            true => Err(DirectoryError::AliasExists(alias.name)),
            false => self.put_alias(alias),
        }
    }

    /// Gives an alias other targets.
    pub fn replace_alias(&self, alias: Alias) -> Result<Self, DirectoryError> {
        match self.aliases.contains_key(&alias.name.key()) {
            true => self.put_alias(alias),
            false => Err(DirectoryError::NoAlias(alias.name)),
        }
    }

    pub fn remove_alias(&self, name: &AliasName) -> Result<Self, DirectoryError> {
        let mut next = self.clone();
        let removed = next.aliases.remove(&name.key());
        removed.map(|_| next).ok_or_else(|| DirectoryError::NoAlias(name.clone()))
    }

    pub fn add_domain(&self, domain: &str) -> Result<Self, DirectoryError> {
        let domain = valid_domain(domain)?;
        let mut next = self.clone();
        match next.domains.insert(domain.clone()) {
            true => Ok(next),
            false => Err(DirectoryError::DomainExists(domain)),
        }
    }

    /// With the domains that the configuration names, as far as they were not there.
    pub fn with_domains<'a>(&self, names: impl IntoIterator<Item = &'a str>) -> Result<Self, DirectoryError> {
        let mut next = self.clone();
        for name in names {
            next.domains.insert(valid_domain(name)?);
        }
        Ok(next)
    }

    /// The domain is local no more. Its closed accounts stay as they are.
    pub fn remove_domain(&self, domain: &str) -> Result<Self, DirectoryError> {
        let domain = domain_key(domain);
        let users =
            self.accounts().filter(|account| !account.is_closed).map(|account| account.address.clone());
        let named = self.aliases().map(|alias| alias.name.to_address());
        if let Some(user) = users.chain(named).find(|address| address.domain == domain) {
            return Err(DirectoryError::DomainInUse(domain, user));
        }
        let mut next = self.clone();
        match next.domains.remove(&domain) {
            true => Ok(next),
            false => Err(DirectoryError::NoDomain(domain)),
        }
    }

    /// Takes over what `older` knows of the bytes in use, after the file was read again.
    pub fn with_usage_of(mut self, older: &Self) -> Self {
        for (id, account) in &mut self.accounts {
            if let Some(known) = older.accounts.get(id) {
                Arc::make_mut(account).usage = Arc::clone(&known.usage);
            }
        }
        self
    }

    /// All accounts, open and closed, the oldest first.
    pub fn accounts(&self) -> impl Iterator<Item = &Account> {
        self.accounts.values().map(|account| &**account)
    }

    /// The account of this id, open or closed.
    pub fn account(&self, id: u32) -> Option<&Account> {
        self.accounts.get(&id).map(|account| &**account)
    }

    /// Whether it is there and was not removed.
    pub fn is_open(&self, id: u32) -> bool {
        self.account(id).is_some_and(|account| !account.is_closed)
    }

    /// The account of exactly this address, open or closed.
    pub fn account_at(&self, address: &Address) -> Option<&Account> {
        self.account(*self.ids.get(&address_key(address))?)
    }

    pub fn aliases(&self) -> impl Iterator<Item = &Alias> {
        self.aliases.values().map(|alias| &**alias)
    }

    /// The local domains in their A-label form, in order.
    pub fn domains(&self) -> impl Iterator<Item = &str> {
        self.domains.iter().map(String::as_str)
    }

    pub fn is_local(&self, domain: &str) -> bool {
        self.domains.contains(&domain_key(domain))
    }

    /// The open account that logs in as `name`: `user@domain`, or `user` where there is but one domain.
    pub fn login(&self, name: &str) -> Option<&Account> {
        let account = self.account(*self.ids.get(&self.login_key(name))?)?;
        (!account.is_closed).then_some(account)
    }

    /// The one spelling of a login name.
    pub fn login_key(&self, name: &str) -> String {
        if name.len() > LOGIN_BYTES_MAX {
            return name.to_owned();
        }
        let mut domains = self.domains();
        match (name.rsplit_once('@'), domains.next(), domains.next()) {
            (Some((local, domain)), _, _) => joined_key(local, &domain_key(domain)),
            (None, Some(only), None) => joined_key(name, only),
            (None, _, _) => name.to_lowercase(),
        }
    }

    /// What a login as `name` is checked against, be there such an account or not.
    pub fn login_check(&self, name: &str) -> LoginCheck {
        let key = self.login_key(name);
        let Some(account) = self.login(name) else {
            let hash = PasswordHash::decoy(&self.secret, Cost::DEFAULT);
            let scram = ScramVerifier::decoy(&self.secret, &key, Cost::DEFAULT);
            return LoginCheck { key, account: None, hash, scram };
        };
        let PasswordRecord { hash, scram } = account.password.clone();
        LoginCheck { key, account: Some(account.id), hash, scram }
    }

    fn take_id(&mut self) -> Result<u32, DirectoryError> {
        let id = self.next_id;
        self.next_id = id.checked_add(1).ok_or(DirectoryError::Full)?;
        Ok(id)
    }

    fn change(&self, at: &Address, change: impl FnOnce(Account) -> Account) -> Result<Self, DirectoryError> {
        let open = self.account_at(at).filter(|account| !account.is_closed);
        let changed = change(open.ok_or_else(|| DirectoryError::NoAccount(at.clone()))?.clone());
        let mut next = self.clone();
        next.accounts.insert(changed.id, Arc::new(changed));
        Ok(next)
    }

    fn put_alias(&self, alias: Alias) -> Result<Self, DirectoryError> {
        let name = alias.name.with_domain_key()?;
        if alias.targets.is_empty() {
            return Err(DirectoryError::NoTargets);
        }
        if alias.targets.len() > ALIAS_TARGETS_MAX {
            return Err(DirectoryError::TooManyTargets);
        }
        let address = name.to_address();
        if !self.domains.contains(&address.domain) {
            return Err(DirectoryError::NotLocal(address.domain));
        }
        if self.account_at(&address).is_some_and(|account| !account.is_closed) {
            return Err(DirectoryError::AccountExists(address));
        }
        let mut next = self.clone();
        let targets = alias.targets.into_iter().map(with_domain_key).collect::<Result<Vec<_>, _>>()?;
        let put = Arc::new(Alias { name, targets });
        next.aliases.insert(put.name.key(), Arc::clone(&put));
        let dead = put.targets.iter().find(|target| next.resolve(target) == Resolution::UnknownUser);
        match dead {
            Some(target) => Err(DirectoryError::DeadTarget(target.clone())),
            None => Ok(next),
        }
    }
}

impl Account {
    pub fn usage_bytes(&self) -> u64 {
        self.usage.load(Ordering::Relaxed)
    }

    /// Whether so many bytes more are within the quota.
    pub fn has_room_for(&self, bytes: u64) -> bool {
        self.quota_bytes.is_none_or(|quota| self.usage_bytes().saturating_add(bytes) <= quota)
    }
}

impl AliasName {
    /// `user@domain` or `@domain`.
    pub fn parse(text: &str) -> Result<Self, DirectoryError> {
        match text.strip_prefix('@') {
            Some(domain) => Ok(Self::CatchAll(valid_domain(domain)?)),
            None => Ok(Self::Address(Address::parse(text).map_err(DirectoryError::BadAddress)?)),
        }
    }

    pub(super) fn key(&self) -> String {
        match self {
            Self::Address(address) => address_key(address),
            Self::CatchAll(domain) => joined_key("", &domain_key(domain)),
        }
    }

    /// The local part of a catch-all is empty.
    fn to_address(&self) -> Address {
        match self {
            Self::Address(address) => address.clone(),
            Self::CatchAll(domain) => Address { local: String::new(), domain: domain.clone() },
        }
    }

    fn with_domain_key(self) -> Result<Self, DirectoryError> {
        Ok(match self {
            Self::Address(address) => Self::Address(with_domain_key(address)?),
            Self::CatchAll(domain) => Self::CatchAll(valid_domain(&domain)?),
        })
    }
}

impl fmt::Display for AliasName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => address.fmt(f),
            Self::CatchAll(domain) => write!(f, "@{domain}"),
        }
    }
}

impl fmt::Display for DirectoryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AccountExists(address) => write!(f, "there is an account {address} already"),
            Self::AliasExists(name) => write!(f, "there is an alias {name} already"),
            Self::NoAccount(address) => write!(f, "there is no account {address}"),
            Self::NoAlias(name) => write!(f, "there is no alias {name}"),
            Self::DomainExists(domain) => write!(f, "the domain {domain} is local already"),
            Self::NoDomain(domain) => write!(f, "the domain {domain} is not local"),
            Self::BadDomain(domain) => write!(f, "{domain:?} is not a domain"),
            Self::BadAddress(AddressError::LocalTooLong) => f.write_str("more than 64 bytes before the @"),
            Self::BadAddress(AddressError::DomainTooLong) => f.write_str("more than 255 bytes after the @"),
            Self::BadAddress(_) => f.write_str("not an address of the form user@domain"),
            Self::NotLocal(domain) => {
                write!(f, "the domain {domain} is not local; add it first: ringpost domain add {domain}")
            }
            Self::DomainInUse(domain, user) => write!(f, "the domain {domain} is in use, by {user} for one"),
            Self::NoTargets => f.write_str("an alias names at least one address"),
            Self::TooManyTargets => write!(f, "an alias names at most {ALIAS_TARGETS_MAX} addresses"),
            Self::DeadTarget(target) => write!(f, "mail for {target} would reach nobody"),
            Self::Full => f.write_str("no account number is left"),
        }
    }
}

impl std::error::Error for DirectoryError {}

/// The key under which a mailbox is found.
pub(super) fn address_key(address: &Address) -> String {
    joined_key(&address.local, &domain_key(&address.domain))
}

pub(super) fn joined_key(local: &str, domain_key: &str) -> String {
    let mut key = local.to_lowercase();
    key.push('@');
    key.push_str(domain_key);
    key
}

/// The address with its domain in A-labels, if its written form can be read again.
fn with_domain_key(address: Address) -> Result<Address, DirectoryError> {
    let address = Address { domain: valid_domain(&address.domain)?, ..address };
    Address::parse(&address.to_string()).map_err(DirectoryError::BadAddress)
}

fn valid_domain(domain: &str) -> Result<String, DirectoryError> {
    let key = domain_key(domain.trim_end_matches('.'));
    match is_domain_or_literal(key.as_bytes()) {
        true => Ok(key),
        false => Err(DirectoryError::BadDomain(domain.to_owned())),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::sync::atomic::Ordering;

    use super::{Account, Alias, AliasName, Directory, DirectoryError, NewAccount};
    use crate::auth::password::{PasswordRecord, TEST_COST};
    use crate::mail::address::Address;

    pub fn address(text: &str) -> Address {
        Address::parse(text).expect("tests use addresses")
    }

    pub fn account(text: &str) -> NewAccount {
        let password = PasswordRecord::derive("secret", &[3; 32], TEST_COST).expect("not empty");
        NewAccount { address: address(text), log: 2, password, quota_bytes: Some(1000) }
    }

    pub fn alias(name: &str, targets: &[&str]) -> Alias {
        let name = AliasName::parse(name).expect("tests use addresses");
        Alias { name, targets: targets.iter().map(|target| address(target)).collect() }
    }

    /// Accounts in the order given.
    pub fn with_accounts(addresses: &[&str]) -> Directory {
        let empty = Directory::new([5; 32]);
        addresses.iter().fold(empty, |directory, text| directory.add(account(text)).expect("it is new"))
    }

    fn ids(directory: &Directory) -> Vec<(u32, bool)> {
        directory.accounts().map(|account| (account.id, account.is_closed)).collect()
    }

    #[test]
    fn ids_are_given_once_and_addresses_come_back() {
        let directory = with_accounts(&["bob@example.org", "eve@example.org"]);
        let (bob, eve) = (address("BOB@Example.ORG"), address("eve@example.org"));
        let removed = directory.remove(&bob).expect("bob is there");
        assert_eq!(ids(&removed), [(1, true), (2, false)]);
        assert!(removed.login("bob@example.org").is_none());
        assert_eq!(removed.remove(&bob).unwrap_err(), DirectoryError::NoAccount(bob.clone()));

        let again = removed.add(account("bob@example.org")).expect("it is closed");
        assert_eq!(ids(&again), [(1, false), (2, false)]);
        let purged = again.remove(&eve).and_then(|closed| closed.purge(&eve)).expect("eve is there");
        let renewed = purged.add(account("eve@example.org")).expect("it is free");
        assert_eq!(ids(&renewed), [(1, false), (3, false)]);
        // The snapshots from before are what they were.
        assert_eq!(ids(&directory), [(1, false), (2, false)]);
    }

    #[test]
    fn one_who_comes_back_stays_in_his_log_and_brings_a_new_password() {
        let directory = with_accounts(&["bob@example.org"]);
        let bob = address("bob@example.org");
        directory.account_at(&bob).expect("bob").usage.store(77, Ordering::Relaxed);
        let removed = directory.remove(&bob).expect("bob is there");
        let closed = removed.account_at(&bob).expect("the account stays");
        assert!(!closed.password.hash.verify(b"secret"));
        let again = removed.add(NewAccount { log: 9, quota_bytes: None, ..account("bob@example.org") });
        let again = again.expect("it is closed");
        let bob = again.login("bob").expect("there is one domain");
        assert_eq!((bob.log, bob.quota_bytes, bob.usage_bytes()), (2, None, 77));
        assert!(bob.password.hash.verify(b"secret"));
    }

    #[test]
    fn refusals() {
        let directory = with_accounts(&["bob@example.org"]);
        let directory =
            directory.add_alias(alias("info@example.org", &["bob@example.org"])).expect("it is new");
        let refused = |change: Result<Directory, DirectoryError>| change.unwrap_err().to_string();
        let bob = address("bob@example.org");
        let table = [
            (
                refused(directory.add(account("Bob@EXAMPLE.org"))),
                "there is an account Bob@example.org already",
            ),
            (
                refused(directory.add(account("info@example.org"))),
                "there is an alias info@example.org already",
            ),
            (refused(directory.purge(&address("eve@x"))), "there is no account eve@x"),
            (
                refused(directory.add_alias(alias("bob@example.org", &["a@b"]))),
                "there is an account bob@example.org already",
            ),
            (
                refused(directory.add_alias(alias("INFO@example.org", &["a@b"]))),
                "there is an alias INFO@example.org already",
            ),
            (
                refused(directory.replace_alias(alias("x@example.org", &["a@b"]))),
                "there is no alias x@example.org",
            ),
            (
                refused(directory.add_alias(alias("x@example.org", &[]))),
                "an alias names at least one address",
            ),
            (
                refused(directory.add_alias(alias("x@other.org", &["a@b"]))),
                "the domain other.org is not local; add it first: ringpost domain add other.org",
            ),
            (
                refused(directory.add_alias(alias("x@example.org", &["a@b", "nobody@example.org"]))),
                "mail for nobody@example.org would reach nobody",
            ),
            (
                refused(directory.replace_alias(alias("info@example.org", &["info@example.org"]))),
                "mail for info@example.org would reach nobody",
            ),
            (
                refused(directory.remove_alias(&AliasName::CatchAll("x.org".into()))),
                "there is no alias @x.org",
            ),
            (refused(directory.add_domain("Example.org.")), "the domain example.org is local already"),
            (refused(directory.add_domain("no domain")), "\"no domain\" is not a domain"),
            (refused(directory.remove_domain("x.org")), "the domain x.org is not local"),
            (
                refused(directory.remove_domain("example.org")),
                "the domain example.org is in use, by bob@example.org for one",
            ),
            (
                refused(
                    directory
                        .remove(&bob)
                        .and_then(|closed| closed.purge(&bob)?.remove_domain("example.org")),
                ),
                "the domain example.org is in use, by info@example.org for one",
            ),
        ];
        for (refusal, expected) in table {
            assert_eq!(refusal, expected);
        }
    }

    #[test]
    fn a_domain_stays_until_it_is_removed() {
        let bob = address("bob@example.org");
        let directory = with_accounts(&["bob@example.org"]);
        let purged = directory.purge(&bob).expect("bob is there");
        assert!(purged.is_local("EXAMPLE.org"));
        let without = purged.remove_domain("example.org").expect("nobody uses it");
        assert!(!without.is_local("example.org"));
        let named = without.with_domains(["b\u{fc}cher.example", "example.org"]).expect("they are domains");
        let domains: Vec<&str> = named.domains().collect();
        assert_eq!(domains, ["example.org", "xn--bcher-kva.example"]);
        assert!(named.is_local("B\u{dc}CHER.example") && named.with_domains(["-"]).is_err());
    }

    #[test]
    fn login_names() {
        let one = with_accounts(&["Bob@example.org"]);
        let two = one.add_domain("other.org").expect("it is new");
        let table = [
            (&one, "bob@example.org", true),
            (&one, "BOB@EXAMPLE.ORG", true),
            (&one, "bob", true),
            (&one, "bob+tag", false),
            (&one, "eve", false),
            (&one, "", false),
            (&one, "@example.org", false),
            (&two, "bob", false),
            (&two, "bob@example.org", true),
            (&two, "bob@other.org", false),
        ];
        for (directory, name, expected) in table {
            assert_eq!(directory.login(name).is_some(), expected, "{name}");
        }
    }

    #[test]
    fn an_unknown_login_looks_like_a_known_one() {
        let directory = with_accounts(&["bob@example.org"]);
        let known = directory.login_check("Bob");
        assert_eq!((known.key.as_str(), known.account), ("bob@example.org", Some(1)));
        let unknown = directory.login_check("eve");
        assert_eq!((unknown.key.as_str(), unknown.account), ("eve@example.org", None));
        assert_eq!(unknown.scram.salt.len(), known.scram.salt.len());
        // The same question has the same answer, also in another spelling and after a restart.
        let restarted = Directory::parse(&directory.render()).expect("it was just written");
        assert_eq!(restarted.login_check("EVE@example.org"), unknown);
    }

    #[test]
    fn changes_of_one_account() {
        let bob = address("bob@example.org");
        let directory = with_accounts(&["bob@example.org"]);
        let other = PasswordRecord::derive("other", &[4; 32], TEST_COST).expect("not empty");
        let changed = directory.set_password(&bob, other).expect("bob is there");
        let changed = changed.set_log(&bob, 7).and_then(|next| next.set_quota(&bob, Some(5)));
        let changed = changed.expect("bob is there");
        let account: &Account = changed.account(1).expect("bob is there");
        assert!(account.password.hash.verify(b"other"));
        account.usage.store(3, Ordering::Relaxed);
        assert_eq!((account.log, account.has_room_for(2), account.has_room_for(3)), (7, true, false));
        assert!(directory.account(1).expect("bob").has_room_for(997));
        let read = Directory::parse(&changed.render()).expect("it was just written").with_usage_of(&changed);
        assert_eq!(read.account(1).expect("bob").usage_bytes(), 3);
    }
}
