//! The directory as the bytes of its file.
//!
//! ```text
//!   ringpost directory 2
//!   {"next_id":3,"secret":"<base64>"}
//!   {"domain":"example.org"}
//!   {"account":{"id":1,"address":"bob@example.org","log":0,"hash":"$argon2id$…","scram":"SCRAM-SHA-256$…"}}
//!   {"alias":{"name":"info@example.org","targets":["bob@example.org"]}}
//!   crc32 89abcdef
//! ```
//!
//! `uid_validity` in the second line is there after a restore or a purge. Version 1 did not have it.
//!
//! One row a line, so that an operator can read and compare it. The last line is the checksum of all before:
//! the file is replaced whole, and one that does not end so was cut or changed, and is refused rather than
//! half believed.
//!
//! Invariants: `parse(render(d))` is `d`, but for the bytes in use, which are nobody's to keep here; what is
//! read keeps the invariants of [`Directory`], or is damage.

use std::fmt;
use std::io::Write;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use crate::auth::directory::{Account, Alias, AliasName, Directory, address_key};
use crate::auth::password::{PasswordHash, PasswordRecord, ScramVerifier};
use crate::mail::address::{Address, domain_key};

const NAME: &str = "ringpost directory";

const VERSION: u32 = 2;

/// Why bytes are not a directory, and in which line.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DirectoryDamage {
    pub line: usize,
    pub what: String,
    /// A later program wrote it, in a version of the format that is not known here.
    pub later_version: Option<u32>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct HeadRow {
    next_id: u32,
    #[serde(default, skip_serializing_if = "is_zero")]
    uid_validity: u32,
    secret: String,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Row {
    Domain(String),
    Account(AccountRow),
    Alias(AliasRow),
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct AccountRow {
    id: u32,
    address: String,
    log: u16,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    quota_bytes: Option<u64>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    closed: bool,
    hash: String,
    scram: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct AliasRow {
    name: String,
    targets: Vec<String>,
}

impl Directory {
    /// The bytes of its file.
    pub fn render(&self) -> Vec<u8> {
        let mut bytes = format!("{NAME} {VERSION}\n").into_bytes();
        let secret = STANDARD.encode(self.secret);
        push_row(&mut bytes, &HeadRow { next_id: self.next_id, uid_validity: self.uid_validity, secret });
        self.domains().for_each(|domain| push_row(&mut bytes, &Row::Domain(domain.to_owned())));
        self.accounts().for_each(|account| push_row(&mut bytes, &Row::Account(account.into())));
        self.aliases().for_each(|alias| push_row(&mut bytes, &Row::Alias(alias.into())));
        let checksum = crc32fast::hash(&bytes);
        writeln!(bytes, "crc32 {checksum:08x}").expect("a vector takes all");
        bytes
    }

    /// Takes the bytes of a file that [`Self::render`] made.
    pub fn parse(bytes: &[u8]) -> Result<Self, DirectoryDamage> {
        let text = checked_text(bytes)?;
        let mut rows = text.lines().enumerate().map(|(index, line)| (index + 1, line));
        check_version(rows.next().map_or("", |(_, line)| line))?;
        let head = rows.next().ok_or_else(|| damage(2, "there is no second line"))?;
        let mut directory = Self::from_head(head.1).map_err(|what| damage(2, what))?;
        for (line, row) in rows {
            let row = serde_json::from_str(row).map_err(|error| damage(line, error))?;
            directory.take_row(row).map_err(|what| damage(line, what))?;
        }
        Ok(directory)
    }

    fn from_head(line: &str) -> Result<Self, String> {
        let head: HeadRow = serde_json::from_str(line).map_err(|error| error.to_string())?;
        let secret = STANDARD.decode(head.secret).ok().and_then(|bytes| bytes.try_into().ok());
        let secret = secret.ok_or("the secret is not 32 bytes of base64")?;
        Ok(Self { next_id: head.next_id, uid_validity: head.uid_validity, ..Self::new(secret) })
    }

    fn take_row(&mut self, row: Row) -> Result<(), &'static str> {
        match row {
            Row::Domain(domain) if domain != domain_key(&domain) => {
                Err("the domain is not in its A-label form")
            }
            Row::Domain(domain) => {
                self.domains.insert(domain);
                Ok(())
            }
            Row::Account(row) => self.take_account(row),
            Row::Alias(row) => self.take_alias(row),
        }
    }

    fn take_account(&mut self, row: AccountRow) -> Result<(), &'static str> {
        let account = row.into_account()?;
        if account.id >= self.next_id {
            return Err("the account's number was not given yet");
        }
        if !account.is_closed && !self.domains.contains(&account.address.domain) {
            return Err("the account's domain is not local");
        }
        if self.ids.insert(address_key(&account.address), account.id).is_some() {
            return Err("the address is there twice");
        }
        match self.accounts.insert(account.id, Arc::new(account)) {
            Some(_) => Err("the account's number is there twice"),
            None => Ok(()),
        }
    }

    fn take_alias(&mut self, row: AliasRow) -> Result<(), &'static str> {
        let name = AliasName::parse(&row.name).map_err(|_| "the alias has no valid name")?;
        let targets = row.targets.iter().map(|target| Address::parse(target)).collect::<Result<Vec<_>, _>>();
        let targets = targets.map_err(|_| "the alias names something that is not an address")?;
        let key = name.key();
        if self.ids.get(&key).and_then(|id| self.account(*id)).is_some_and(|account| !account.is_closed) {
            return Err("the alias is an account too");
        }
        match self.aliases.insert(key, Arc::new(Alias { name, targets })) {
            Some(_) => Err("the alias is there twice"),
            None => Ok(()),
        }
    }
}

impl AccountRow {
    fn into_account(self) -> Result<Account, &'static str> {
        Ok(Account {
            id: self.id,
            address: Address::parse(&self.address).map_err(|_| "the account has no valid address")?,
            log: self.log,
            password: PasswordRecord {
                hash: PasswordHash::parse(&self.hash).ok_or("the hash is not of argon2id")?,
                scram: ScramVerifier::parse(&self.scram).ok_or("the SCRAM verifier cannot be read")?,
            },
            quota_bytes: self.quota_bytes,
            is_closed: self.closed,
            usage: Arc::default(),
        })
    }
}

impl From<&Account> for AccountRow {
    fn from(account: &Account) -> Self {
        Self {
            id: account.id,
            address: account.address.to_string(),
            log: account.log,
            quota_bytes: account.quota_bytes,
            closed: account.is_closed,
            hash: account.password.hash.as_str().to_owned(),
            scram: account.password.scram.render(),
        }
    }
}

impl From<&Alias> for AliasRow {
    fn from(alias: &Alias) -> Self {
        Self { name: alias.name.to_string(), targets: alias.targets.iter().map(Address::to_string).collect() }
    }
}

impl fmt::Display for DirectoryDamage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {} of the directory of accounts: {}", self.line, self.what)
    }
}

impl std::error::Error for DirectoryDamage {}

fn push_row(bytes: &mut Vec<u8>, row: &impl Serialize) {
    serde_json::to_writer(&mut *bytes, row).expect("rows have string keys and a vector takes all");
    bytes.push(b'\n');
}

fn is_zero(number: &u32) -> bool {
    *number == 0
}

fn check_version(first_line: &str) -> Result<(), DirectoryDamage> {
    let version = first_line.strip_prefix(NAME).and_then(|rest| rest.trim_start().parse::<u32>().ok());
    match version {
        Some(1..=VERSION) => Ok(()),
        Some(newer) => {
            let what = format!(
                "it has version {newer} of the format, and this program knows no later one than {VERSION}"
            );
            Err(DirectoryDamage { line: 1, what, later_version: Some(newer) })
        }
        None => Err(damage(1, format!("it does not begin with \"{NAME} {VERSION}\""))),
    }
}

/// The text before the checksum, if that is right.
fn checked_text(bytes: &[u8]) -> Result<&str, DirectoryDamage> {
    let last_line = line_count(bytes).max(1);
    let body = bytes.strip_suffix(b"\n").unwrap_or_default();
    let last = memchr::memrchr(b'\n', body).map_or(0, |lf| lf + 1);
    let (rows, checksum) = bytes.split_at(last);
    if checksum != format!("crc32 {:08x}\n", crc32fast::hash(rows)).as_bytes() {
        return Err(damage(last_line, "the checksum is missing or wrong; the file was cut or changed"));
    }
    std::str::from_utf8(rows).map_err(|_| damage(last_line, "it is not UTF-8"))
}

fn line_count(bytes: &[u8]) -> usize {
    memchr::memchr_iter(b'\n', bytes).count()
}

fn damage(line: usize, what: impl fmt::Display) -> DirectoryDamage {
    DirectoryDamage { line, what: what.to_string(), later_version: None }
}

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;

    use proptest::collection;
    use proptest::prelude::{any, proptest};

    use crate::auth::directory::Directory;
    use crate::auth::directory::tests::{address, alias, with_accounts};

    fn sample() -> Directory {
        let directory =
            with_accounts(&["bob@example.org", "\"a \\\" b\"@example.org", "gr\u{fc}n@b\u{fc}cher.example"]);
        let directory = directory.remove(&address("bob@example.org")).expect("bob is there");
        let directory =
            directory.add_alias(alias("@example.org", &["x@far.net", "gr\u{fc}n@b\u{fc}cher.example"]));
        let directory = directory.and_then(|next| next.add_domain("[192.0.2.1]")).expect("it is new");
        directory.set_quota(&address("gr\u{fc}n@b\u{fc}cher.example"), None).expect("it is there")
    }

    /// Without the checksum.
    fn sealed_rows(bytes: &[u8]) -> Vec<u8> {
        let body = &bytes[..bytes.len() - 1];
        let end = body.iter().rposition(|&byte| byte == b'\n').expect("there are lines") + 1;
        bytes[..end].to_vec()
    }

    /// With a checksum that is right.
    fn sealed(rows: &str) -> Vec<u8> {
        format!("{rows}crc32 {:08x}\n", crc32fast::hash(rows.as_bytes())).into_bytes()
    }

    #[test]
    fn what_is_written_is_read() {
        let bytes = sample().render();
        let read = Directory::parse(&bytes).expect("it was just written");
        assert_eq!(read.render(), bytes);
        let shown =
            |directory: &Directory| directory.accounts().map(|each| format!("{each:?}")).collect::<Vec<_>>();
        assert_eq!(shown(&read), shown(&sample()));
        assert_eq!((read.next_id, read.domains().count()), (4, 3));
        let first = String::from_utf8(sealed_rows(&bytes)).expect("it is text").replacen(
            "directory 2",
            "directory 1",
            1,
        );
        assert_eq!(Directory::parse(&sealed(&first)).expect("version 1 is read").render(), bytes);
        let restored =
            Directory::parse(&sample().with_uid_validity(7).render()).expect("it was just written");
        assert_eq!(restored.uid_validity(), 7);
        let empty = Directory::new([1; 32]);
        assert!(Directory::parse(&empty.render()).is_ok());
    }

    #[test]
    fn damage_is_named_with_its_line() {
        let text = String::from_utf8(sample().render()).expect("it is text");
        let rows: Vec<&str> = text.lines().collect();
        let rows = &rows[..rows.len() - 1];
        let with = |line: &str| sealed(&format!("{}\n{line}\n", rows.join("\n")));
        let bob = rows.iter().find(|row| row.contains("bob@")).expect("bob is there");
        let table: [(Vec<u8>, &str); 10] = [
            (
                Vec::new(),
                "line 1 of the directory of accounts: the checksum is missing or wrong; the file was cut or changed",
            ),
            (
                sealed("something else\n"),
                "line 1 of the directory of accounts: it does not begin with \"ringpost directory 2\"",
            ),
            (
                sealed("ringpost directory 3\n{\"next_id\":1,\"sort\":\"new\"}\n"),
                "line 1 of the directory of accounts: it has version 3 of the format, \
                 and this program knows no later one than 2",
            ),
            (
                sealed("ringpost directory 1\n"),
                "line 2 of the directory of accounts: there is no second line",
            ),
            (
                sealed("ringpost directory 1\n{\"next_id\":1,\"secret\":\"AAAA\"}\n"),
                "line 2 of the directory of accounts: the secret is not 32 bytes of base64",
            ),
            (with(bob), "line 10 of the directory of accounts: the address is there twice"),
            (
                with(&bob.replace("bob@", "rob@").replace("\"id\":1", "\"id\":4")),
                "line 10 of the directory of accounts: the account's number was not given yet",
            ),
            (
                with(&bob.replace("bob@", "rob@")),
                "line 10 of the directory of accounts: the account's number is there twice",
            ),
            (
                with("{\"domain\":\"B.org\"}"),
                "line 10 of the directory of accounts: the domain is not in its A-label form",
            ),
            (
                with("{\"alias\":{\"name\":\"@example.org\",\"targets\":[]}}"),
                "line 10 of the directory of accounts: the alias is there twice",
            ),
        ];
        for (bytes, expected) in table {
            assert_eq!(Directory::parse(&bytes).unwrap_err().to_string(), expected);
        }
        assert!(Directory::parse(&with("{\"account\":{}}")).is_err());
    }

    proptest! {
        #[test]
        fn no_cut_and_no_flip_is_believed(at in 0_usize..10_000, flip in 1_u8..) {
            static BYTES: LazyLock<Vec<u8>> = LazyLock::new(|| sample().render());
            let bytes = &*BYTES;
            let at = at % bytes.len();
            assert!(Directory::parse(&bytes[..at]).is_err());
            let mut flipped = bytes.clone();
            flipped[at] ^= flip;
            assert!(Directory::parse(&flipped).is_err());
        }

        #[test]
        fn no_rows_panic(rows in collection::vec(any::<u8>(), 0..60)) {
            let rows = format!("ringpost directory 1\n{}\n", String::from_utf8_lossy(&rows));
            assert!(Directory::parse(&sealed(&rows)).is_err());
        }
    }
}
