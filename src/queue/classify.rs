//! What a refusal is about, in one word: for reports, dashboards and lists of addresses not to write to again.
//!
//! The reply's text says more than its code, so it is looked at first: the operator's classes, then those of
//! `classes.toml`, which has the table and how it is read. The names are those that other mail servers' reports use.
//!
//! Invariant: each reply has a class; one that nothing fits is [`UNCATEGORIZED`].

use std::collections::HashMap;
use std::fmt;
use std::sync::OnceLock;

use regex::{RegexSet, RegexSetBuilder};

use crate::limits::outbound::CLASSES_BYTES_MAX;
use crate::mail::reply::{EnhancedCode, Reply};

/// The class of what nothing fits.
pub const UNCATEGORIZED: &str = "Uncategorized";

/// The table that comes with the server.
const STANDARD: &str = include_str!("classes.toml");

/// One class, as it is written.
#[derive(Clone, PartialEq, Eq, Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Class {
    pub name: String,
    /// Regular expressions, whatever the case of the letters.
    #[serde(default)]
    pub texts: Vec<String>,
    /// `550`, `5.1.1`, or `x.1.1` for both classes of failure.
    #[serde(default)]
    pub codes: Vec<Code>,
}

/// A code that a class is known by.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, serde::Deserialize)]
#[serde(try_from = "String")]
pub enum Code {
    /// `550`.
    Basic(u16),
    /// `5.1.1`.
    Enhanced(EnhancedCode),
    /// `x.1.1`: subject and detail.
    Either(u16, u16),
}

/// Text that is not a [`Code`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NotACode;

/// The classes of an operator, before those that come with the server.
#[derive(Clone, Debug, Default)]
pub struct Classifier {
    classes: Vec<Class>,
    table: Option<Table>,
}

/// Classes, ready to be looked up.
#[derive(Clone, Debug)]
struct Table {
    names: Vec<String>,
    texts: RegexSet,
    /// Of each text, the number of its class.
    classes_of_texts: Vec<usize>,
    codes: HashMap<Code, usize>,
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    class: Vec<Class>,
}

impl Classifier {
    /// The texts are expressions, each of which [`super::rule::Words`] takes; together they may be too large still.
    pub fn new(classes: Vec<Class>) -> Result<Self, regex::Error> {
        let table = if classes.is_empty() { None } else { Some(Table::new(&classes)?) };
        Ok(Self { classes, table })
    }

    /// The class of a reply that is not positive.
    pub fn classify(&self, reply: &Reply) -> &str {
        let line = reply.to_string();
        let tables = || self.table.iter().chain([standard()]);
        let by_text = tables().find_map(|table| table.by_text(&line));
        let by_code = || tables().find_map(|table| table.by_code(reply));
        by_text.or_else(by_code).unwrap_or(UNCATEGORIZED)
    }

    /// The operator's own.
    pub fn classes(&self) -> &[Class] {
        &self.classes
    }
}

/// Made when it is first needed: most commands of the program never do.
fn standard() -> &'static Table {
    static TABLE: OnceLock<Table> = OnceLock::new();
    TABLE.get_or_init(|| {
        let file: File = toml::from_str(STANDARD).expect("a test reads the table");
        Table::new(&file.class).expect("a test makes the table")
    })
}

impl Table {
    fn new(classes: &[Class]) -> Result<Self, regex::Error> {
        let mut classes_of_texts = Vec::new();
        let mut codes = HashMap::new();
        for (number, class) in classes.iter().enumerate() {
            classes_of_texts.extend(class.texts.iter().map(|_| number));
            for code in &class.codes {
                codes.entry(*code).or_insert(number);
            }
        }
        let texts = RegexSetBuilder::new(classes.iter().flat_map(|class| &class.texts))
            .case_insensitive(true)
            .size_limit(CLASSES_BYTES_MAX)
            .dfa_size_limit(CLASSES_BYTES_MAX)
            .build()?;
        let names = classes.iter().map(|class| class.name.clone()).collect();
        Ok(Self { names, texts, classes_of_texts, codes })
    }

    /// Matches come in the order of the table.
    fn by_text(&self, line: &str) -> Option<&str> {
        let first = self.texts.matches(line).iter().next()?;
        self.name(*self.classes_of_texts.get(first)?)
    }

    fn by_code(&self, reply: &Reply) -> Option<&str> {
        let enhanced = reply
            .enhanced
            .iter()
            .flat_map(|code| [Code::Enhanced(*code), Code::Either(code.subject, code.detail)]);
        let number = enhanced.chain([Code::Basic(reply.code)]).find_map(|code| self.codes.get(&code))?;
        self.name(*number)
    }

    fn name(&self, number: usize) -> Option<&str> {
        self.names.get(number).map(String::as_str)
    }
}

impl PartialEq for Classifier {
    fn eq(&self, other: &Self) -> bool {
        self.classes == other.classes
    }
}

impl Eq for Classifier {}

impl TryFrom<String> for Code {
    type Error = NotACode;

    fn try_from(text: String) -> Result<Self, NotACode> {
        if let Some(rest) = text.strip_prefix("x.") {
            let (code, _) = EnhancedCode::take(&format!("5.{rest}")).ok_or(NotACode)?;
            return Ok(Self::Either(code.subject, code.detail));
        }
        if let Some((code, "")) = EnhancedCode::take(&text) {
            return Ok(Self::Enhanced(code));
        }
        let code = text.parse().ok().filter(|code| (400..=599).contains(code));
        code.map(Self::Basic).ok_or(NotACode)
    }
}

impl fmt::Display for NotACode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("expected a code such as \"550\", \"5.1.1\" or \"x.1.1\"")
    }
}

#[cfg(test)]
mod tests {
    use super::{Class, Classifier, Code, File, NotACode, STANDARD, UNCATEGORIZED};
    use crate::mail::reply::Reply;

    fn reply(line: &str) -> Reply {
        let (code, text) = line.split_at(3);
        Reply::of_lines(code.parse().unwrap(), text.trim().lines().map(str::as_bytes))
    }

    #[test]
    fn what_servers_say() {
        let table = [
            (
                "550 5.1.1 <a@b.example>: Recipient address rejected: User unknown in virtual mailbox table",
                "InvalidRecipient",
            ),
            ("550-5.1.1 The email account that you tried to reach does not exist.", "InvalidRecipient"),
            ("550 Requested action not taken: mailbox unavailable", "InvalidRecipient"),
            ("550 No such user here", "InvalidRecipient"),
            ("550 5.1.1", "InvalidRecipient"),
            ("550 5.4.1 Recipient address rejected: Access denied. AS(201806281)", "InvalidRecipient"),
            ("554 5.7.1 <a@b.example>: Relay access denied", "RelayDenied"),
            ("550 5.7.1 Unable to relay", "RelayDenied"),
            ("452 4.2.2 The email account that you tried to reach is over quota", "QuotaIssues"),
            ("552 5.2.2 Mailbox full", "QuotaIssues"),
            ("450 4.2.0 <a@b.example>: Recipient address rejected: Greylisted, see the page", "GreyListing"),
            (
                "421 4.7.28 Our system has detected an unusual rate of unsolicited mail originating from your IP",
                "RateLimited",
            ),
            (
                "421 4.7.0 [TSS04] Messages from 192.0.2.1 temporarily deferred due to user complaints",
                "RateLimited",
            ),
            ("421 4.3.2 too many connections from your host", "RateLimited"),
            (
                "554 5.7.1 Service unavailable; Client host [192.0.2.1] blocked using zen.spamhaus.org",
                "SpamBlock",
            ),
            ("550 5.7.1 Your IP address is listed on our blacklist", "SpamBlock"),
            ("554 5.7.1 Message rejected as spam by Content Filtering", "SpamContent"),
            ("550 5.7.26 This message does not pass authentication checks", "AuthenticationFailed"),
            (
                "550 5.7.1 Unauthenticated email from a.example is not accepted due to domain's DMARC policy",
                "AuthenticationFailed",
            ),
            (
                "550 5.7.25 The IP address sending this message does not have a PTR record",
                "AuthenticationFailed",
            ),
            ("550 5.2.1 The email account that you tried to reach is disabled", "InactiveMailbox"),
            ("556 5.1.10 no", "BadDomain"),
            ("550 5.1.8 Sender address rejected: Domain not found", "BadDomain"),
            ("553 5.1.8 no", "InvalidSender"),
            ("552 5.3.4 Message size exceeds fixed limit", "MessageTooLarge"),
            ("530 5.7.0 Must issue a STARTTLS command first", "TlsRequired"),
            ("535 5.7.8 Username and password not accepted", "LoginFailed"),
            ("554 5.4.6 Too many hops", "RoutingErrors"),
            ("451 4.4.3 Temporary server error", "BadConnection"),
            ("451 4.4.3 hm", "DNSFailure"),
            ("554 5.4.7 hm", "MessageExpired"),
            ("451 4.4.1 hm", "NoAnswerFromHost"),
            ("421 4.4.2 hm", "BadConnection"),
            ("503 5.5.1 hm", "ProtocolErrors"),
            ("550 5.6.0 hm", "ContentRelated"),
            (
                "552 5.7.0 This message was blocked because its content presents a potential security issue",
                "ProhibitedAttachment",
            ),
            ("554 5.7.1 hm: contains a virus", "VirusDetected"),
            ("550 5.7.1 hm", "PolicyRelated"),
            ("451 hm", "Transient"),
            ("554 hm", "Refused"),
            ("599 hm", UNCATEGORIZED),
        ];
        let classifier = Classifier::default();
        let wrong: Vec<_> = table
            .iter()
            .map(|(line, class)| (classifier.classify(&reply(line)), *class, *line))
            .filter(|(found, expected, _)| found != expected)
            .collect();
        assert!(wrong.is_empty(), "{wrong:#?}");
    }

    #[test]
    fn every_class_of_the_table_is_reached_and_every_code_stands_once() {
        let file: File = toml::from_str(STANDARD).unwrap();
        let mut codes: Vec<Code> = file.class.iter().flat_map(|class| class.codes.clone()).collect();
        let count = codes.len();
        codes.sort_by_key(|code| format!("{code:?}"));
        codes.dedup();
        assert_eq!(codes.len(), count);
        for class in &file.class {
            assert!(!class.codes.is_empty() || !class.texts.is_empty(), "{}", class.name);
        }
    }

    #[test]
    fn the_operators_classes_go_first() {
        let own = |texts: &[&str], codes: &[&str]| Class {
            name: "Ours".to_owned(),
            texts: texts.iter().map(|&text| text.to_owned()).collect(),
            codes: codes.iter().map(|&code| Code::try_from(code.to_owned()).unwrap()).collect(),
        };
        let classifier = Classifier::new(vec![own(&["purple"], &["5.9.9"])]).unwrap();
        assert_eq!(classifier.classify(&reply("550 5.1.1 User unknown, Purple")), "Ours");
        assert_eq!(classifier.classify(&reply("550 5.9.9 hm")), "Ours");
        assert_eq!(classifier.classify(&reply("550 5.1.1 User unknown")), "InvalidRecipient");
        assert!(Classifier::new(vec![own(&["("], &[])]).is_err());
    }

    #[test]
    fn codes() {
        let code = |text: &str| Code::try_from(text.to_owned());
        assert_eq!(code("x.1.1"), Ok(Code::Either(1, 1)));
        assert_eq!(code("550"), Ok(Code::Basic(550)));
        assert!(matches!(code("4.7.28"), Ok(Code::Enhanced(_))));
        for text in ["", "250", "600", "x.1", "5.1", "5.1.1 x", "y.1.1"] {
            assert_eq!(code(text), Err(NotACode), "{text}");
        }
    }
}
