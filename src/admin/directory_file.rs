//! The directory's file, and how a change that an operator asks for becomes the next directory.
//!
//! The file `directory` in the data directory is replaced whole, and before it a copy, `directory.copy`, which is read
//! where a bad sector has made the first one useless. Whoever changes them holds the lock of the data directory: the
//! running server, or a command while no server runs.
//!
//! Invariants: a file that cannot be read is never taken for an empty one; a change is acknowledged when both have it.

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::admin::control::{Change, Refusal, Secrets};
use crate::admin::failure::Failure;
use crate::auth::directory::AliasName;
use crate::auth::{
    Account, Alias, Directory, DirectoryError, NewAccount, PasswordHash, PasswordRecord, ScramVerifier,
};
use crate::io::disk::replace_file;
use crate::io::random;
use crate::mail::address::{Address, domain_key};

const NAME: &str = "directory";
const COPY: &str = "directory.copy";

/// Reads the directory under `data`, or makes an empty one where there is none yet, and adds the domains that
/// the configuration names. Nothing is written.
pub fn read(data: &Path, domains: &[String]) -> Result<Directory, Failure> {
    let directory = match (read_file(&path(data)), read_file(&copy_path(data))) {
        (Err(Unread::Later(why)), _) | (_, Err(Unread::Later(why))) => {
            return Err(Failure::unavailable(format!("{why}; run the program that wrote it")));
        }
        (Ok(Some(directory)), _) => directory,
        (Ok(None), Ok(None)) => Directory::new(random::bytes()),
        (first, Ok(Some(directory))) => {
            let why = match first {
                Err(why) => why.to_string(),
                Ok(_) => format!("{} is not there", path(data).display()),
            };
            tracing::error!("{why}; its copy is read instead, and the next start or change writes it anew");
            directory
        }
        (Err(why), _) | (Ok(None), Err(why)) => {
            return Err(Failure::unavailable(format!("{why}; put back a copy of the file")));
        }
    };
    directory.with_domains(domains.iter().map(String::as_str)).map_err(Failure::wrong)
}

/// Replaces both files under `data`; durable on return. The copy comes first: it is never older, and what is read from
/// it instead is at least what was acknowledged.
pub fn write(data: &Path, directory: &Directory) -> Result<(), Refusal> {
    let bytes = directory.render();
    replace_file(&copy_path(data), &bytes).map_err(Refusal::unavailable)?;
    replace_file(&path(data), &bytes).map_err(Refusal::unavailable)
}

/// Makes both files the same again, if a bad sector or a crash has made them differ: what [`read`] takes stays.
pub fn mend(data: &Path) -> Result<(), Failure> {
    let (first, copy) = (fs::read(path(data)).ok(), fs::read(copy_path(data)).ok());
    let is_good =
        |bytes: &Option<Vec<u8>>| bytes.as_ref().is_some_and(|bytes| Directory::parse(bytes).is_ok());
    let (from, to) = match (is_good(&first), is_good(&copy)) {
        (true, true) if first == copy => return Ok(()),
        (true, _) => (first, copy_path(data)),
        (false, true) => (copy, path(data)),
        (false, false) => return Ok(()),
    };
    let bytes = from.unwrap_or_default();
    // Its sectors may be bad: it is not written over but replaced.
    replace_file(&to, &bytes).map_err(Failure::unavailable)
}

/// What is wrong with the two files, in words.
pub fn damage(data: &Path) -> Vec<String> {
    let unread = [path(data), copy_path(data)].into_iter().filter_map(|path| read_file(&path).err());
    unread.map(|why| why.to_string()).collect()
}

/// Why one of the files cannot be used, in words.
enum Unread {
    /// It is lost, and the other may be good.
    Lost(String),
    /// A later program wrote it: what it says must not be passed over.
    Later(String),
}

impl fmt::Display for Unread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self::Lost(why) | Self::Later(why)) = self;
        f.write_str(why)
    }
}

/// `None` if there is no such file.
fn read_file(path: &Path) -> Result<Option<Directory>, Unread> {
    match fs::read(path) {
        Ok(bytes) => Directory::parse(&bytes).map(Some).map_err(|damage| {
            let why = format!("{}: {damage}", path.display());
            if damage.later_version.is_some() { Unread::Later(why) } else { Unread::Lost(why) }
        }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Unread::Lost(format!("{} cannot be read: {error}", path.display()))),
    }
}

/// The directory after `change`. The mail of a new account goes to the one of `logs` that has the fewest.
pub fn apply(change: Change, directory: &Directory, logs: &[u16]) -> Result<Directory, Refusal> {
    match change {
        Change::AddAccount { address, secrets, quota_bytes } => {
            let (address, password) = (parse_address(&address)?, password_record(&secrets)?);
            let log = emptiest_log(directory, logs);
            done(directory.add(NewAccount { address, log, password, quota_bytes }))
        }
        Change::SetPassword { address, secrets } => {
            done(directory.set_password(&parse_address(&address)?, password_record(&secrets)?))
        }
        Change::RemoveAccount { address, purge: false } => done(directory.remove(&parse_address(&address)?)),
        Change::RemoveAccount { address, purge: true } => done(directory.purge(&parse_address(&address)?)),
        Change::AddAlias { name, targets } => {
            let name = AliasName::parse(&name).map_err(|error| Refusal::wrong(format!("{name}: {error}")))?;
            let targets = targets.iter().map(|target| parse_address(target)).collect::<Result<_, _>>()?;
            done(directory.add_alias(Alias { name, targets }))
        }
        Change::RemoveAlias { name } => {
            let name = AliasName::parse(&name).map_err(|error| Refusal::wrong(format!("{name}: {error}")))?;
            done(directory.remove_alias(&name))
        }
        Change::AddDomain { name } => done(directory.add_domain(&name)),
        Change::RemoveDomain { name } => done(directory.remove_domain(&name)),
    }
}

impl Change {
    /// A domain that the configuration names cannot be removed for good by a command.
    pub fn check_against(&self, domains: &[String]) -> Result<(), Refusal> {
        match self {
            Self::RemoveDomain { name } if domains.contains(&domain_key(name)) => Err(Refusal::wrong(
                format!("the configuration names {name} in a [[domain]] section; take it out there"),
            )),
            _ => Ok(()),
        }
    }
}

fn path(data: &Path) -> PathBuf {
    data.join(NAME)
}

fn copy_path(data: &Path) -> PathBuf {
    data.join(COPY)
}

fn done(next: Result<Directory, DirectoryError>) -> Result<Directory, Refusal> {
    next.map_err(Refusal::wrong)
}

fn parse_address(text: &str) -> Result<Address, Refusal> {
    let parsed = Address::parse(text);
    parsed.map_err(|error| Refusal::wrong(format!("{text}: {}", DirectoryError::BadAddress(error))))
}

fn password_record(secrets: &Secrets) -> Result<PasswordRecord, Refusal> {
    let parsed = PasswordHash::parse(&secrets.hash).zip(ScramVerifier::parse(&secrets.scram));
    let (hash, scram) = parsed.ok_or_else(|| Refusal::wrong("the password was not hashed as we do it"))?;
    Ok(PasswordRecord { hash, scram })
}

/// Accounts are spread by number; what each brings nobody knows yet.
fn emptiest_log(directory: &Directory, logs: &[u16]) -> u16 {
    let accounts = |log: u16| {
        let in_log = |account: &&Account| account.log == log && !account.is_closed;
        directory.accounts().filter(in_log).count()
    };
    logs.iter().copied().min_by_key(|log| (accounts(*log), *log)).unwrap_or(0)
}

#[cfg(test)]
pub mod tests {
    use std::fs;

    use super::{apply, emptiest_log, mend, password_record, read, write};
    use crate::admin::control::{Change, RefusalKind, Secrets};
    use crate::auth::{Cost, Directory, PasswordRecord};

    /// What is kept of a password, made cheaply.
    pub fn secrets(password: &str) -> Secrets {
        let cost = Cost { memory_kib: 8, passes: 1, lanes: 1, scram_iterations: 4096 };
        let made = PasswordRecord::derive(password, &[7; 32], cost).unwrap();
        Secrets { hash: made.hash.as_str().to_owned(), scram: made.scram.render() }
    }

    fn add(address: &str) -> Change {
        Change::AddAccount { address: address.to_owned(), secrets: secrets("x"), quota_bytes: None }
    }

    #[test]
    fn accounts_are_spread_over_logs() {
        let mut directory = Directory::new([1; 32]);
        for number in 0..9 {
            directory = apply(add(&format!("user{number}@example.org")), &directory, &[0, 1, 2]).unwrap();
        }
        let logs: Vec<u16> = directory.accounts().map(|account| account.log).collect();
        assert_eq!(logs, [0, 1, 2, 0, 1, 2, 0, 1, 2]);
        assert_eq!((emptiest_log(&directory, &[2, 3]), emptiest_log(&directory, &[])), (3, 0));
    }

    #[test]
    fn changes_and_refusals() {
        let name = |name: &str| name.to_owned();
        let alias =
            |alias: &str, target: &str| Change::AddAlias { name: name(alias), targets: vec![name(target)] };
        let remove = |address: &str, purge| Change::RemoveAccount { address: name(address), purge };
        let steps = [
            (add("bob@example.org"), true),
            (add("Bob@EXAMPLE.org"), false),
            (add("bob"), false),
            (alias("info@example.org", "bob@example.org"), true),
            (alias("info@elsewhere.example", "bob@example.org"), false),
            (alias("all@example.org", "nobody@example.org"), false),
            (Change::RemoveDomain { name: name("example.org") }, false),
            (Change::RemoveAlias { name: name("info@example.org") }, true),
            (Change::RemoveAlias { name: name("info@example.org") }, false),
            (Change::SetPassword { address: name("bob@example.org"), secrets: secrets("y") }, true),
            (Change::SetPassword { address: name("eve@example.org"), secrets: secrets("y") }, false),
            (remove("bob@example.org", false), true),
            (remove("bob@example.org", false), false),
            (remove("bob@example.org", true), true),
            (Change::RemoveDomain { name: name("example.org") }, true),
            (Change::AddDomain { name: name("example.net") }, true),
            (Change::AddDomain { name: name("example.net") }, false),
            (Change::AddDomain { name: name("not a domain") }, false),
        ];
        let mut directory = Directory::new([1; 32]);
        for (index, (change, expected)) in steps.into_iter().enumerate() {
            match apply(change, &directory, &[0]) {
                Ok(next) => {
                    assert!(expected, "step {index}");
                    directory = next;
                }
                Err(refusal) => {
                    assert!(!expected, "step {index}: {}", refusal.text);
                    assert_eq!(refusal.kind, RefusalKind::Wrong);
                }
            }
        }
    }

    #[test]
    fn a_bad_sector_in_either_file_costs_nothing() {
        let folder = tempfile::TempDir::new().unwrap();
        let data = folder.path();
        let mut directory = Directory::new([1; 32]);
        for number in 0..9 {
            directory = apply(add(&format!("user{number}@example.org")), &directory, &[0]).unwrap();
        }
        write(data, &directory).unwrap_or_else(|_| panic!());
        let whole = directory.render();
        for name in ["directory", "directory.copy"] {
            for sector in 0..whole.len().div_ceil(512) {
                let mut bytes = whole.clone();
                let range = sector * 512..whole.len().min((sector + 1) * 512);
                bytes[range].fill(0);
                fs::write(data.join(name), &bytes).unwrap();
                assert_eq!(read(data, &[]).unwrap().render(), whole, "{name} {sector}");
                mend(data).unwrap();
                let files = ["directory", "directory.copy"].map(|name| fs::read(data.join(name)).unwrap());
                assert!(files.iter().all(|bytes| *bytes == whole), "{name} {sector}");
            }
            fs::remove_file(data.join(name)).unwrap();
            assert_eq!(read(data, &[]).unwrap().render(), whole);
            mend(data).unwrap();
        }
        for name in ["directory", "directory.copy"] {
            fs::write(data.join(name), "no directory").unwrap();
        }
        assert!(read(data, &[]).is_err(), "two bad files are not an empty one");
        mend(data).unwrap();
        assert_eq!(fs::read(data.join("directory")).unwrap(), b"no directory", "nothing is thrown away");
    }

    #[test]
    fn domains_of_the_configuration_stay() {
        let domains = ["example.org".to_owned()];
        let remove = |name: &str| Change::RemoveDomain { name: name.to_owned() };
        assert!(remove("Example.ORG").check_against(&domains).is_err());
        assert!(remove("example.net").check_against(&domains).is_ok());
    }

    #[test]
    fn foreign_hashes_are_refused() {
        let good = secrets("x");
        assert!(password_record(&good).is_ok());
        assert!(password_record(&Secrets { hash: "$1$abc".to_owned(), scram: good.scram }).is_err());
    }
}
