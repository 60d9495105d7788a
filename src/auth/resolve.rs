//! Where mail for an address goes, and who may send as it.
//!
//! In this order: an account or alias of exactly this address; the same without its `+tag`; the domain's
//! catch-all; for `postmaster`, which RFC 5321 4.5.1 has every domain accept, the oldest account. Aliases are
//! followed, here, at RCPT, until accounts and addresses elsewhere are left.
//!
//! Invariants: each alias is opened once per question, so a loop ends and the work is linear in what the
//! aliases name; nothing comes twice; a closed account takes no mail.

use std::collections::HashSet;

use crate::auth::directory::{Account, Alias, Directory, address_key, joined_key};
use crate::mail::address::{Address, domain_key};

/// The answer to RCPT.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Resolution {
    /// These get the message; at least one.
    Local(Vec<Target>),
    /// The domain is local and nobody has the address.
    UnknownUser,
    /// The domain is not local.
    NotLocal,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Target {
    /// The account of this id.
    Account(u32),
    /// Somebody elsewhere whom an alias names.
    Remote(Address),
}

/// What one address is.
enum Place<'a> {
    Account(&'a Account),
    Alias(&'a Alias),
    Nobody,
    Elsewhere,
}

impl Directory {
    pub fn resolve(&self, address: &Address) -> Resolution {
        let alias = match self.place(address) {
            Place::Account(account) => return Resolution::Local(vec![Target::Account(account.id)]),
            Place::Nobody => return Resolution::UnknownUser,
            Place::Elsewhere => return Resolution::NotLocal,
            Place::Alias(alias) => alias,
        };
        let mut targets = self.expand(alias);
        if targets.is_empty() && is_postmaster(address) {
            targets.extend(self.oldest().map(|account| Target::Account(account.id)));
        }
        match targets.is_empty() {
            true => Resolution::UnknownUser,
            false => Resolution::Local(targets),
        }
    }

    /// Whether an account may use `address` as its sender: who gets its mail may write in its name. So its own
    /// address, with any tag, and every alias that leads to it.
    pub fn may_send_as(&self, account: u32, address: &Address) -> bool {
        match self.resolve(address) {
            Resolution::Local(targets) => targets.contains(&Target::Account(account)),
            Resolution::UnknownUser | Resolution::NotLocal => false,
        }
    }

    /// Follows an alias, in the order in which its targets are written.
    fn expand(&self, alias: &Alias) -> Vec<Target> {
        let mut targets = Vec::new();
        let mut seen = HashSet::from([alias.name.key()]);
        let mut open: Vec<&Address> = alias.targets.iter().rev().collect();
        while let Some(address) = open.pop() {
            match self.place(address) {
                Place::Account(account) if seen.insert(address_key(&account.address)) => {
                    targets.push(Target::Account(account.id));
                }
                Place::Alias(alias) if seen.insert(alias.name.key()) => {
                    open.extend(alias.targets.iter().rev())
                }
                // RFC 5321 2.4: elsewhere the case of a local part may matter; the tab keeps these keys apart.
                Place::Elsewhere if seen.insert(format!("\t{address}")) => {
                    targets.push(Target::Remote(address.clone()));
                }
                _ => {}
            }
        }
        targets
    }

    fn place(&self, address: &Address) -> Place<'_> {
        let domain = domain_key(&address.domain);
        if domain.is_empty() {
            return self.bare_postmaster(address);
        }
        if !self.domains.contains(&domain) {
            return Place::Elsewhere;
        }
        let base = address.base_local();
        let place = self.exact_place(&address.local, &domain);
        let place =
            place.or_else(|| (base != address.local).then(|| self.exact_place(base, &domain)).flatten());
        let place = place.or_else(|| self.exact_place("", &domain));
        let fallback = || self.oldest().filter(|_| is_postmaster(address)).map(Place::Account);
        place.or_else(fallback).unwrap_or(Place::Nobody)
    }

    /// RFC 5321 4.5.1: `<Postmaster>` without a domain. It is the postmaster of the oldest account's domain, or
    /// of another one, or the oldest account.
    fn bare_postmaster(&self, address: &Address) -> Place<'_> {
        let Some(oldest) = self.oldest().filter(|_| is_postmaster(address)) else {
            return Place::Nobody;
        };
        let mut domains = std::iter::once(oldest.address.domain.as_str()).chain(self.domains());
        domains.find_map(|domain| self.exact_place("postmaster", domain)).unwrap_or(Place::Account(oldest))
    }

    fn exact_place(&self, local: &str, domain_key: &str) -> Option<Place<'_>> {
        let key = joined_key(local, domain_key);
        let account =
            self.ids.get(&key).and_then(|id| self.account(*id)).filter(|account| !account.is_closed);
        let alias = || self.aliases.get(&key).map(|alias| Place::Alias(alias));
        account.map(Place::Account).or_else(alias)
    }

    fn oldest(&self) -> Option<&Account> {
        self.accounts().find(|account| !account.is_closed)
    }
}

fn is_postmaster(address: &Address) -> bool {
    address.local.eq_ignore_ascii_case("postmaster")
}

#[cfg(test)]
mod tests {
    use super::{Resolution, Target};
    use crate::auth::directory::Directory;
    use crate::auth::directory::tests::{address, alias, with_accounts};
    use crate::mail::address::Address;

    /// bob 1 and eve 2 at example.org, carl 3 at other.org.
    fn directory() -> Directory {
        let directory = with_accounts(&["bob@example.org", "eve@example.org", "carl@other.org"]);
        let aliases = [
            alias(
                "info@example.org",
                &["bob@example.org", "bob+x@example.org", "far@away.net", "BOB@example.org"],
            ),
            alias(
                "all@example.org",
                &["info@example.org", "eve@example.org", "carl@other.org", "Far@away.net"],
            ),
            alias("loop@example.org", &["all@example.org"]),
            alias("bob+special@example.org", &["eve@example.org"]),
            alias("@other.org", &["bob@example.org"]),
        ];
        let made = aliases.into_iter().try_fold(directory, |directory, alias| directory.add_alias(alias));
        let looped = made.and_then(|made| {
            made.replace_alias(alias(
                "all@example.org",
                &[
                    "loop@example.org",
                    "info@example.org",
                    "eve@example.org",
                    "carl@other.org",
                    "Far@away.net",
                ],
            ))
        });
        looped.expect("all of it is allowed")
    }

    fn shown(resolution: &Resolution) -> String {
        let target = |target: &Target| match target {
            Target::Account(id) => id.to_string(),
            Target::Remote(address) => address.to_string(),
        };
        match resolution {
            Resolution::Local(targets) => targets.iter().map(target).collect::<Vec<_>>().join(" "),
            Resolution::UnknownUser => "unknown".into(),
            Resolution::NotLocal => "elsewhere".into(),
        }
    }

    #[test]
    fn where_mail_goes() {
        let directory = directory();
        let table = [
            ("bob@example.org", "1"),
            ("Bob@EXAMPLE.ORG", "1"),
            ("bob+tag@example.org", "1"),
            ("bob+a+b@example.org", "1"),
            ("+bob@example.org", "unknown"),
            ("bob+special@example.org", "2"),
            ("info@example.org", "1 far@away.net"),
            ("info+tag@example.org", "1 far@away.net"),
            ("all@example.org", "1 far@away.net 2 3 Far@away.net"),
            ("loop@example.org", "1 far@away.net 2 3 Far@away.net"),
            ("nobody@example.org", "unknown"),
            ("nobody@other.org", "1"),
            ("carl@other.org", "3"),
            ("bob@elsewhere.net", "elsewhere"),
            ("postmaster@example.org", "1"),
            ("PostMaster@other.org", "1"),
            ("postmaster@elsewhere.net", "elsewhere"),
        ];
        for (text, expected) in table {
            assert_eq!(shown(&directory.resolve(&address(text))), expected, "{text}");
        }
    }

    #[test]
    fn postmaster_is_always_somebody() {
        let bare = Address { local: "Postmaster".into(), domain: String::new() };
        let directory = directory();
        assert_eq!(shown(&directory.resolve(&bare)), "1");
        let named =
            directory.add_alias(alias("postmaster@other.org", &["carl@other.org"])).expect("it is new");
        assert_eq!(shown(&named.resolve(&bare)), "3");
        assert_eq!(shown(&named.resolve(&address("postmaster@example.org"))), "1");
        // Its target is gone, and somebody must read it still.
        let dead = named.remove(&address("carl@other.org")).expect("carl is there");
        let dead = dead.remove_alias(&alias("@other.org", &[]).name).expect("it is there");
        assert_eq!(shown(&dead.resolve(&address("postmaster@other.org"))), "1");
        let without_first = dead.remove(&address("bob@example.org")).expect("bob is there");
        assert_eq!(shown(&without_first.resolve(&address("postmaster@example.org"))), "2");
        let bare_other = Address { local: "bob".into(), domain: String::new() };
        assert_eq!(directory.resolve(&bare_other), Resolution::UnknownUser);
        assert_eq!(Directory::new([0; 32]).resolve(&bare), Resolution::UnknownUser);
    }

    #[test]
    fn closed_accounts_take_no_mail() {
        let directory = directory().remove(&address("eve@example.org")).expect("eve is there");
        assert_eq!(shown(&directory.resolve(&address("eve@example.org"))), "unknown");
        assert_eq!(shown(&directory.resolve(&address("all@example.org"))), "1 far@away.net 3 Far@away.net");
        assert_eq!(shown(&directory.resolve(&address("bob+special@example.org"))), "unknown");
    }

    #[test]
    fn who_may_send_as_whom() {
        let directory = directory();
        let table = [
            (1, "bob@example.org", true),
            (1, "bob+tag@example.org", true),
            (1, "info@example.org", true),
            (1, "loop@example.org", true),
            (1, "anything@other.org", true),
            (1, "carl@other.org", false),
            (1, "eve@example.org", false),
            (1, "bob+special@example.org", false),
            (2, "info@example.org", false),
            (2, "bob@example.org", false),
            (2, "nobody@example.org", false),
            (2, "eve@elsewhere.net", false),
            (9, "bob@example.org", false),
        ];
        for (id, text, expected) in table {
            assert_eq!(directory.may_send_as(id, &address(text)), expected, "{id} {text}");
        }
    }
}
