//! LIST and LSUB (RFC 9051 6.3.9, RFC 5258, RFC 6154).
//!
//! All names are laid out as nodes first: mailboxes, names that are only subscribed, and the parents of both, which may
//! not exist. Then each node says whether it meets the selection, tells its parents if the pattern leaves it out, and
//! what both selection and pattern let through is listed.

use std::borrow::Cow;
use std::collections::BTreeMap;

use super::account::Account;
use super::mailbox::Mailbox;
use super::name::{Pattern, composed, parents};
use crate::store::MailboxId;
use crate::store::record::SpecialUse;

/// What is asked for. The reference is put in front of each pattern by the caller.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ListQuery {
    /// In UTF-8.
    pub patterns: Vec<String>,
    /// SUBSCRIBED as a selection option.
    pub subscribed: bool,
    /// SPECIAL-USE as a selection option.
    pub special_use: bool,
    /// RECURSIVEMATCH, which needs `subscribed`.
    pub recursive: bool,
}

/// One line of a LIST. All of it is accurate, whatever was asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Listed<'a> {
    pub name: &'a str,
    /// `None`: \NonExistent, or \Noselect to a client that does not know that.
    pub mailbox: Option<MailboxId>,
    pub subscribed: bool,
    pub has_children: bool,
    pub special_use: Option<SpecialUse>,
    /// Below is something that meets the selection and that the patterns leave out: CHILDINFO with the
    /// selection options.
    pub childinfo: bool,
}

impl Account {
    /// In order of names, each name once.
    pub fn list(&self, query: &ListQuery) -> impl Iterator<Item = Listed<'_>> + use<'_> {
        let mut patterns = Vec::with_capacity(query.patterns.len());
        for pattern in &query.patterns {
            patterns.push(Pattern::new(pattern));
            if let Cow::Owned(composed) = composed(pattern) {
                patterns.push(Pattern::new(&composed));
            }
        }
        let mut nodes = self.nodes(query.subscribed);
        let mut listed = Vec::new();
        let mut left_out = Vec::new();
        for (name, node) in &mut nodes {
            node.selected =
                (!query.subscribed || node.subscribed) && (!query.special_use || node.special_use.is_some());
            node.matches = patterns.iter().any(|pattern| pattern.matches(name));
            if node.selected && !node.matches {
                left_out.push(*name);
            }
        }
        if query.recursive {
            mark_parents(&mut nodes, &left_out);
        }
        for (name, node) in nodes {
            if node.matches && (node.selected || node.childinfo) {
                listed.push(node.listed(name));
            }
        }
        listed.into_iter()
    }

    /// LSUB (RFC 3501 6.3.9). Lines that are not `subscribed` stand for what the pattern leaves out below
    /// them: \Noselect.
    pub fn list_subscribed(&self, pattern: &str) -> impl Iterator<Item = Listed<'_>> + use<'_> {
        let patterns = vec![pattern.to_owned()];
        self.list(&ListQuery { patterns, subscribed: true, special_use: false, recursive: true })
    }

    /// Every name that can be listed: mailboxes and their parents, and what is subscribed if that counts.
    fn nodes(&self, with_subscriptions: bool) -> BTreeMap<&str, Node> {
        let mut nodes: BTreeMap<&str, Node> = BTreeMap::new();
        for mailbox in self.names.values().filter_map(|id| self.mailboxes.get(id)) {
            nodes.entry(mailbox.name()).or_default().is(mailbox);
            for parent in parents(mailbox.name()) {
                let node = nodes.entry(parent).or_default();
                if std::mem::replace(&mut node.has_children, true) {
                    break;
                }
            }
        }
        for name in &self.subscriptions {
            match nodes.get_mut(name.as_str()) {
                Some(node) => node.subscribed = true,
                None if with_subscriptions => {
                    nodes.entry(name).or_default().subscribed = true;
                    for parent in parents(name) {
                        nodes.entry(parent).or_default();
                    }
                }
                None => {}
            }
        }
        nodes
    }
}

/// A name and what is known of it.
#[derive(Default)]
struct Node {
    mailbox: Option<MailboxId>,
    special_use: Option<SpecialUse>,
    subscribed: bool,
    has_children: bool,
    selected: bool,
    matches: bool,
    childinfo: bool,
}

impl Node {
    fn is(&mut self, mailbox: &Mailbox) {
        self.mailbox = Some(mailbox.id());
        self.special_use = mailbox.special_use();
    }

    fn listed(self, name: &str) -> Listed<'_> {
        Listed {
            name,
            mailbox: self.mailbox,
            subscribed: self.subscribed,
            has_children: self.has_children,
            special_use: self.special_use,
            childinfo: self.childinfo,
        }
    }
}

/// RFC 5258 3.5: a parent speaks for what is selected below it and does not show by itself.
fn mark_parents(nodes: &mut BTreeMap<&str, Node>, left_out: &[&str]) {
    for name in left_out {
        for parent in parents(name) {
            let Some(node) = nodes.get_mut(parent) else {
                continue;
            };
            if std::mem::replace(&mut node.childinfo, true) {
                break;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Account, ListQuery};
    use crate::mailbox::Plan;
    use crate::mailbox::Refusal;
    use crate::store::AccountId;

    fn done<T>(account: &mut Account, plan: Result<Plan<T>, Refusal>) {
        for change in plan.expect("planned").changes {
            account.apply(&change.record, None);
        }
    }

    /// RFC 5258 5, examples 8 and 9, with `Fruit` and its like.
    fn fruits() -> Account {
        let mut account = Account::new(AccountId(1));
        for name in [
            "INBOX",
            "Fruit/Apple",
            "Fruit/Banana",
            "Tofu",
            "Vegetable",
            "Vegetable/Broccoli",
            "Vegetable/Corn",
        ] {
            let plan = account.plan_create(name, None);
            done(&mut account, plan);
        }
        for name in ["INBOX", "Fruit/Banana", "Vegetable", "Vegetable/Broccoli"] {
            let plan = account.plan_subscribe(name);
            done(&mut account, plan);
        }
        // A parent that is gone while its children stay, and a mailbox that is only subscribed.
        for name in ["Fruit", "Fruit/Banana"] {
            let plan = account.plan_delete(name);
            done(&mut account, plan);
        }
        account
    }

    fn lines(account: &Account, pattern: &str, options: &str) -> Vec<String> {
        let query = ListQuery {
            patterns: pattern.split(' ').map(str::to_owned).collect(),
            subscribed: options.contains('s'),
            special_use: options.contains('u'),
            recursive: options.contains('r'),
        };
        let line = |listed: super::Listed<'_>| {
            let mark = |is: bool, mark: &str| if is { mark.to_owned() } else { String::new() };
            let marks = [
                mark(listed.mailbox.is_none(), " nonexistent"),
                mark(listed.subscribed, " subscribed"),
                mark(listed.has_children, " children"),
                mark(listed.childinfo, " childinfo"),
            ];
            format!("{}{}", listed.name, marks.concat())
        };
        account.list(&query).map(line).collect()
    }

    #[test]
    fn names_are_listed_with_what_is_true_of_them() {
        let account = fruits();
        let table: [(&str, &str, &[&str]); 9] = [
            (
                "%",
                "",
                &["Fruit nonexistent children", "INBOX subscribed", "Tofu", "Vegetable subscribed children"],
            ),
            ("Fruit/*", "", &["Fruit/Apple"]),
            ("inbox Tofu tofu", "", &["INBOX subscribed", "Tofu"]),
            ("", "", &[]),
            (
                "*",
                "s",
                &[
                    "Fruit/Banana nonexistent subscribed",
                    "INBOX subscribed",
                    "Vegetable subscribed children",
                    "Vegetable/Broccoli subscribed",
                ],
            ),
            ("%", "s", &["INBOX subscribed", "Vegetable subscribed children"]),
            (
                "%",
                "sr",
                &[
                    "Fruit nonexistent children childinfo",
                    "INBOX subscribed",
                    "Vegetable subscribed children childinfo",
                ],
            ),
            (
                "*",
                "sr",
                &[
                    "Fruit/Banana nonexistent subscribed",
                    "INBOX subscribed",
                    "Vegetable subscribed children",
                    "Vegetable/Broccoli subscribed",
                ],
            ),
            ("*", "u", &[]),
        ];
        for (pattern, options, expected) in table {
            assert_eq!(lines(&account, pattern, options), expected, "{pattern} {options}");
        }
    }

    #[test]
    fn lsub_answers_for_what_the_percent_hides() {
        let account = fruits();
        let listed: Vec<_> =
            account.list_subscribed("%").map(|listed| (listed.name, listed.subscribed)).collect();
        assert_eq!(listed, [("Fruit", false), ("INBOX", true), ("Vegetable", true)]);
    }
}
