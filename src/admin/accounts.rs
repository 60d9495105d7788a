//! The commands about accounts, aliases and domains.

use std::io::{self, BufRead, Read, Write};

use crate::admin::cli::{AccountCommand, AliasCommand, DomainCommand, Place};
use crate::admin::control::{AccountRow, Change, Reply, Request, Secrets};
use crate::admin::failure::Failure;
use crate::admin::offline::{OpenStore, Session};
use crate::auth::password::{random_password, weakness};
use crate::auth::{Cost, PasswordRecord};
use crate::io::random;

/// A longer line is no password but a mistake.
const PASSWORD_BYTES_MAX: u64 = 4096;

pub fn account(command: AccountCommand, open_store: OpenStore) -> Result<(), Failure> {
    match command {
        AccountCommand::Add { address, password_stdin, quota, place } => {
            let password = password(password_stdin)?;
            let secrets = secrets(&password)?;
            open(&place)?.change(Change::AddAccount { address, secrets, quota_bytes: quota })?;
            tell_made_up(&password)
        }
        AccountCommand::List { place } => list(&place, &Request::Accounts),
        AccountCommand::Passwd { address, password_stdin, place } => {
            let password = password(password_stdin)?;
            let secrets = secrets(&password)?;
            open(&place)?.change(Change::SetPassword { address, secrets })?;
            tell_made_up(&password)
        }
        AccountCommand::Remove { address, purge, place } => {
            let mut session = match purge {
                true => Session::for_mail(&place.load()?, open_store)?,
                false => open(&place)?,
            };
            session.change(Change::RemoveAccount { address, purge })
        }
    }
}

pub fn alias(command: AliasCommand) -> Result<(), Failure> {
    match command {
        AliasCommand::Add { alias, targets, place } => {
            open(&place)?.change(Change::AddAlias { name: alias, targets })
        }
        AliasCommand::List { place } => list(&place, &Request::Aliases),
        AliasCommand::Remove { alias, place } => open(&place)?.change(Change::RemoveAlias { name: alias }),
    }
}

pub fn domain(command: DomainCommand) -> Result<(), Failure> {
    match command {
        DomainCommand::List { place } => list(&place, &Request::Domains),
        DomainCommand::Add { domain, place } => open(&place)?.change(Change::AddDomain { name: domain }),
        DomainCommand::Remove { domain, place } => {
            open(&place)?.change(Change::RemoveDomain { name: domain })
        }
    }
}

fn open(place: &Place) -> Result<Session, Failure> {
    Session::for_directory(&place.load()?)
}

/// A password, and whose idea it was.
enum Password {
    Given(String),
    MadeUp(String),
}

fn password(from_stdin: bool) -> Result<Password, Failure> {
    if !from_stdin {
        return Ok(Password::MadeUp(random_password(&random::bytes())));
    }
    let password = read_password(&mut io::stdin().lock())?;
    if let Some(why) = weakness(&password) {
        eprintln!("warning: the password is weak: {why}");
    }
    Ok(Password::Given(password))
}

/// The first line, without its end.
fn read_password(input: &mut impl BufRead) -> Result<String, Failure> {
    let mut line = Vec::new();
    let read = input.take(PASSWORD_BYTES_MAX + 1).read_until(b'\n', &mut line);
    read.map_err(|error| Failure::unavailable(format!("standard input cannot be read: {error}")))?;
    if line.len() as u64 > PASSWORD_BYTES_MAX {
        return Err(Failure::wrong(format!("the password has more than {PASSWORD_BYTES_MAX} bytes")));
    }
    if line.ends_with(b"\n") {
        line.pop();
    }
    if line.ends_with(b"\r") {
        line.pop();
    }
    let password = String::from_utf8(line).map_err(|_| Failure::wrong("the password is not UTF-8"))?;
    match password.is_empty() {
        true => Err(Failure::wrong("the password is empty; give one on the first line of standard input")),
        false => Ok(password),
    }
}

/// What is kept of it. It takes a moment by design.
fn secrets(password: &Password) -> Result<Secrets, Failure> {
    let (Password::Given(text) | Password::MadeUp(text)) = password;
    let record = PasswordRecord::derive(text, &random::bytes(), Cost::DEFAULT)
        .map_err(|_| Failure::wrong("nothing is left of the password once it is prepared (RFC 8265)"))?;
    Ok(Secrets { hash: record.hash.as_str().to_owned(), scram: record.scram.render() })
}

fn tell_made_up(password: &Password) -> Result<(), Failure> {
    if let Password::MadeUp(text) = password {
        writeln!(io::stdout(), "password: {text}")?;
    }
    Ok(())
}

fn list(place: &Place, request: &Request) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    open(place)?.ask(request, |reply| {
        match reply {
            Reply::Account(row) => writeln!(out, "{}", account_line(&row))?,
            Reply::Alias { name, targets } => writeln!(out, "{name}  {}", targets.join(" "))?,
            Reply::Domain { name } => writeln!(out, "{name}")?,
            _ => {}
        }
        Ok(())
    })
}

fn account_line(row: &AccountRow) -> String {
    let quota = row.quota_bytes.map_or_else(|| "-".to_owned(), |bytes| bytes.to_string());
    let removed = if row.is_closed { "  removed" } else { "" };
    format!("{}  {}  {quota}{removed}", row.address, row.usage_bytes)
}

#[cfg(test)]
mod tests {
    use super::{PASSWORD_BYTES_MAX, account_line, read_password};
    use crate::admin::control::AccountRow;

    #[test]
    fn passwords_from_a_line() {
        let long = "x".repeat(PASSWORD_BYTES_MAX as usize);
        let longer = format!("{long}x");
        let table: [(&[u8], Option<&str>); 10] = [
            (b"secret\n", Some("secret")),
            (b"secret", Some("secret")),
            (b"secret\r\n", Some("secret")),
            (b" with spaces \nmore\n", Some(" with spaces ")),
            ("schlüssel\n".as_bytes(), Some("schlüssel")),
            (b"", None),
            (b"\n", None),
            (b"\xff\n", None),
            (long.as_bytes(), Some(&long)),
            (longer.as_bytes(), None),
        ];
        for (input, expected) in table {
            assert_eq!(read_password(&mut &input[..]).ok().as_deref(), expected);
        }
    }

    #[test]
    fn lines() {
        let row = AccountRow {
            address: "bob@example.org".to_owned(),
            log: 0,
            usage_bytes: 12,
            quota_bytes: None,
            is_closed: true,
        };
        assert_eq!(account_line(&row), "bob@example.org  12  -  removed");
    }
}
