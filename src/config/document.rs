//! The text cut into sections, each read by serde on its own.
//!
//! A key that is not known, or whose value has the wrong type, is reported and taken out, and the section is
//! read again, so that all such mistakes are found in one run. Only if a key that must be there was one of them,
//! `check` does not get to see the section.
//!
//! Invariant: for a text without problems, `Document` holds every value of it; the loop in `read` ends because
//! each round takes a key out.

use std::fmt;
use std::ops::Range;

use serde::Deserialize;
use serde::de::{DeserializeOwned, Deserializer, Error, Visitor};
use toml::Spanned;
use toml::de::{DeTable, DeValue, ValueDeserializer};

use crate::config::outbound::keys::OutboundKeys;
use crate::config::{LogLevel, Problem, Protocol, TlsMode};

/// What the file says, section by section; `None` where it says nothing or something that cannot be read.
#[derive(Default)]
pub struct Document {
    pub top: TopKeys,
    pub listeners: Option<Vec<ListenerKeys>>,
    pub tls: Option<TlsKeys>,
    pub limits: Option<LimitsKeys>,
    pub domains: Vec<DomainKeys>,
    pub relay: Option<RelayKeys>,
    pub outbound: OutboundKeys,
    pub dns: Option<DnsKeys>,
    pub log: Option<LogKeys>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub struct TopKeys {
    pub data: Option<Spanned<String>>,
    pub user: Option<Spanned<String>>,
    pub hostname: Option<Spanned<String>>,
    pub cores: Option<Spanned<i64>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ListenerKeys {
    pub protocol: Protocol,
    pub address: Spanned<String>,
    pub tls: Option<Spanned<TlsMode>>,
    pub plaintext_login: Option<Spanned<bool>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TlsKeys {
    pub certificate: Spanned<String>,
    pub key: Spanned<String>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub struct LimitsKeys {
    pub message_bytes: Option<Spanned<i64>>,
    pub recipients: Option<Spanned<i64>>,
    pub sessions: Option<Spanned<i64>>,
    pub sessions_per_address: Option<Spanned<i64>>,
    pub session_memory_bytes: Option<Spanned<i64>>,
    pub smtp_idle_s: Option<Spanned<i64>>,
    pub pop3_idle_s: Option<Spanned<i64>>,
    pub imap_idle_s: Option<Spanned<i64>>,
    pub login_s: Option<Spanned<i64>>,
    pub account_bytes: Option<Spanned<i64>>,
    pub checkpoint_bytes: Option<Spanned<i64>>,
    pub segment_bytes: Option<Spanned<i64>>,
    pub reserve_bytes: Option<Spanned<i64>>,
    pub clean_bytes_per_s: Option<Spanned<i64>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DomainKeys {
    pub name: Spanned<String>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub struct RelayKeys {
    #[serde(default)]
    pub allow: Vec<Spanned<String>>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub struct DnsKeys {
    #[serde(default)]
    pub servers: Vec<Spanned<String>>,
    pub timeout_s: Option<Spanned<i64>>,
    pub attempts: Option<Spanned<i64>>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub struct LogKeys {
    pub level: Option<LogLevel>,
}

/// Every section with its keys; the unnamed one is the top of the file.
pub fn sections() -> Vec<(&'static str, Vec<&'static str>)> {
    let mut sections = vec![
        ("", keys::<TopKeys>()),
        ("listener", keys::<ListenerKeys>()),
        ("tls", keys::<TlsKeys>()),
        ("limits", keys::<LimitsKeys>()),
        ("domain", keys::<DomainKeys>()),
        ("relay", keys::<RelayKeys>()),
    ];
    sections.extend(OutboundKeys::sections());
    sections.push(("dns", keys::<DnsKeys>()));
    sections.push(("log", keys::<LogKeys>()));
    sections
}

/// The names of the fields of `T`, which are its keys in the file.
pub fn keys<T: DeserializeOwned>() -> Vec<&'static str> {
    let mut names = Vec::new();
    // The probe refuses to give a value once it has seen the names, so this is always an error.
    drop(T::deserialize(FieldNames { names: &mut names }));
    names
}

/// Reads `text`, adding what is wrong with it to `problems`.
pub fn read(text: &str, problems: &mut Problems<'_>) -> Document {
    let (root, errors) = DeTable::parse_recoverable(text);
    for error in &errors {
        problems.add(error.span().unwrap_or(0..0), sentence(error.message()));
    }
    if !errors.is_empty() {
        return Document::default();
    }
    let span = root.span();
    let mut root = root.into_inner();
    let mut document = Document::default();
    if let Some(value) = root.remove("listener") {
        document.listeners = Some(list(value, "listener", problems));
    }
    document.tls = take_section(&mut root, "tls", problems);
    document.limits = take_section(&mut root, "limits", problems);
    document.relay = take_section(&mut root, "relay", problems);
    document.dns = take_section(&mut root, "dns", problems);
    document.log = take_section(&mut root, "log", problems);
    document.domains = take_list(&mut root, "domain", problems);
    document.outbound = OutboundKeys::take(&mut root, problems);
    document.top = keys_of(root, span, "", problems).unwrap_or_default();
    document
}

/// Problems with their places in the text they are about.
pub struct Problems<'a> {
    text: &'a str,
    found: Vec<(usize, String)>,
}

impl<'a> Problems<'a> {
    pub fn of(text: &'a str) -> Self {
        Self { text, found: Vec::new() }
    }

    pub fn add(&mut self, span: Range<usize>, problem: impl Into<String>) {
        self.found.push((span.start, problem.into()));
    }

    /// In the order of the text.
    pub fn into_sorted(mut self) -> Vec<Problem> {
        self.found.sort_by_key(|(offset, _)| *offset);
        let text = self.text;
        let place = |(offset, problem)| {
            let (line, column) = place(text, offset);
            Problem { line, column, text: problem }
        };
        self.found.into_iter().map(place).collect()
    }
}

/// Line and column, both from 1, of a byte of `text`.
fn place(text: &str, offset: usize) -> (usize, usize) {
    let before = &text[..text.floor_char_boundary(offset)];
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    let line = before.bytes().filter(|byte| *byte == b'\n').count() + 1;
    (line, before[line_start..].chars().count() + 1)
}

/// `[name]`, if it is there.
pub fn take_section<T: DeserializeOwned>(
    root: &mut DeTable<'_>,
    name: &str,
    problems: &mut Problems<'_>,
) -> Option<T> {
    root.remove(name).and_then(|value| section(value, name, problems))
}

/// All `[[name]]`.
pub fn take_list<T: DeserializeOwned>(
    root: &mut DeTable<'_>,
    name: &str,
    problems: &mut Problems<'_>,
) -> Vec<T> {
    root.remove(name).map(|value| list(value, name, problems)).unwrap_or_default()
}

/// `[[name]]`: each table by itself.
fn list<T: DeserializeOwned>(value: Spanned<DeValue<'_>>, name: &str, problems: &mut Problems<'_>) -> Vec<T> {
    let span = value.span();
    let DeValue::Array(values) = value.into_inner() else {
        problems.add(span, format!("`{name}` is a list of sections: write [[{name}]] above its keys"));
        return Vec::new();
    };
    values.into_iter().filter_map(|value| section(value, name, problems)).collect()
}

/// `[name]`, or one table of `[[name]]`.
fn section<T: DeserializeOwned>(
    value: Spanned<DeValue<'_>>,
    name: &str,
    problems: &mut Problems<'_>,
) -> Option<T> {
    let span = value.span();
    match value.into_inner() {
        DeValue::Table(table) => keys_of(table, span, name, problems),
        other => {
            let found = type_name(&other);
            problems.add(span, format!("found {found} where the section `{name}` was expected"));
            None
        }
    }
}

fn keys_of<T: DeserializeOwned>(
    mut table: DeTable<'_>,
    span: Range<usize>,
    section: &str,
    problems: &mut Problems<'_>,
) -> Option<T> {
    let mut is_sound = take_unknown(&mut table, section, keys::<T>(), problems);
    loop {
        let value = Spanned::new(span.clone(), DeValue::Table(table.clone()));
        let error = match T::deserialize(ValueDeserializer::from(value)) {
            Ok(value) => return Some(value),
            Err(error) => error,
        };
        let at = error.span().unwrap_or(span.clone());
        let around =
            table.iter().find(|(_, value)| value.span().start <= at.start && at.end <= value.span().end);
        let Some(key) = around.map(|(key, _)| key.clone()) else {
            // A key that is missing: only the first is named, and not where it was there and unreadable.
            if is_sound {
                problems.add(span, missing(section, error.message()));
            }
            return None;
        };
        problems.add(at, format!("`{}`: {}", key.get_ref(), sentence(error.message())));
        table.remove(&key);
        is_sound = false;
    }
}

/// Takes keys that nobody knows out of `table`; says whether there were none.
fn take_unknown(
    table: &mut DeTable<'_>,
    section: &str,
    mut known: Vec<&'static str>,
    problems: &mut Problems<'_>,
) -> bool {
    if section.is_empty() {
        known.extend(sections().iter().map(|(name, _)| *name).filter(|name| !name.is_empty()));
    }
    let unknown: Vec<_> =
        table.keys().filter(|key| !known.contains(&key.get_ref().as_ref())).cloned().collect();
    for key in &unknown {
        problems.add(key.span(), unknown_key(key.get_ref(), section, &known));
        table.remove(key);
    }
    unknown.is_empty()
}

fn unknown_key(key: &str, section: &str, known: &[&str]) -> String {
    let place =
        if section.is_empty() { "at the top of the file".to_owned() } else { format!("in `{section}`") };
    let nearest = known.iter().map(|name| (distance(key, name), name)).min();
    if let Some((steps, name)) = nearest
        && steps <= 2
    {
        return format!("unknown key `{key}` {place}; did you mean `{name}`?");
    }
    let elsewhere = sections().into_iter().find(|(name, keys)| *name != section && keys.contains(&key));
    match elsewhere {
        Some(("", _)) => format!("`{key}` belongs at the top of the file, above the first section"),
        Some((name, _)) => format!("unknown key `{key}` {place}; it belongs in `{name}`"),
        None => format!("unknown key `{key}` {place}; expected one of {}", known.join(", ")),
    }
}

fn missing(section: &str, message: &str) -> String {
    match message.strip_prefix("missing field ") {
        Some(key) => format!("the section `{section}` needs the key {key}"),
        None => sentence(message),
    }
}

/// What serde says, in our words: what was found, what was expected.
fn sentence(message: &str) -> String {
    let short = message.strip_prefix("invalid type: ").or(message.strip_prefix("invalid value: "));
    match short.or(message.strip_prefix("unknown variant ")) {
        Some(rest) => {
            let rest = rest.replace("expected i64", "expected a whole number");
            format!("found {}", rest.replace("expected a sequence", "expected a list"))
        }
        None => message.replace('\n', ", "),
    }
}

fn type_name(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "a whole number",
        DeValue::Float(_) => "a number",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a section",
    }
}

/// Edits from one word to another (Levenshtein); words here are short, and long ones are no typing errors.
fn distance(from: &str, to: &str) -> usize {
    if from.len() > 64 {
        return usize::MAX;
    }
    let mut row: Vec<usize> = (0..=to.chars().count()).collect();
    for (index, left) in from.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = index + 1;
        for (column, right) in to.chars().enumerate() {
            let replaced = diagonal + usize::from(left != right);
            diagonal = row[column + 1];
            row[column + 1] = replaced.min(diagonal + 1).min(row[column] + 1);
        }
    }
    row[row.len() - 1]
}

/// A deserializer that gives nothing and notes which fields were asked for.
struct FieldNames<'a> {
    names: &'a mut Vec<&'static str>,
}

impl<'de> Deserializer<'de> for FieldNames<'_> {
    type Error = Seen;

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Seen> {
        Err(Seen)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        _: V,
    ) -> Result<V::Value, Seen> {
        self.names.extend(fields);
        Err(Seen)
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit
        unit_struct newtype_struct seq tuple tuple_struct map enum identifier ignored_any
    }
}

/// The names were seen; there is no value.
#[derive(Debug)]
struct Seen;

impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of fields was asked for")
    }
}

impl std::error::Error for Seen {}

impl Error for Seen {
    fn custom<T: fmt::Display>(_: T) -> Self {
        Self
    }
}

#[cfg(test)]
mod tests {
    use super::{distance, place, sections};

    #[test]
    fn places() {
        let table = [(0, (1, 1)), (1, (1, 2)), (3, (2, 1)), (5, (2, 2)), (6, (2, 3)), (99, (3, 1))];
        for (offset, expected) in table {
            assert_eq!(place("ab\nä=\n", offset), expected, "{offset}");
        }
    }

    #[test]
    fn every_section_has_keys() {
        for (section, keys) in sections() {
            assert!(!keys.is_empty(), "{section}");
        }
    }

    #[test]
    fn distances() {
        let table =
            [("data", "data", 0), ("adress", "address", 1), ("", "to", 2), ("lsitener", "listener", 2)];
        for (from, to, expected) in table {
            assert_eq!(distance(from, to), expected, "{from} {to}");
        }
    }
}
