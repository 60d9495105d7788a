//! Tests that hold the default text, `docs/configuration.md` and the keys together, and the examples of
//! `docs/operating.md` with them.
//!
//! The default text is the source: a key's sentence is the comment above it, and the tables of the document
//! repeat key, value and sentence. `RINGPOST_PRINT_REFERENCE=1 cargo test reference -- --nocapture` prints them.

use crate::config::document::sections;
use crate::config::{Config, DEFAULT_TEXT};

const DOCUMENT: &str = include_str!("../../docs/configuration.md");
const OPERATING: &str = include_str!("../../docs/operating.md");

/// A key of the default text.
struct Entry {
    section: String,
    key: String,
    value: String,
    sentence: String,
}

impl Entry {
    /// Its row in the document.
    fn row(&self) -> String {
        let Self { key, value, sentence, .. } = self;
        format!("| `{key}` | `{value}` | {sentence} |")
    }
}

/// The keys that have a sentence, each the first time that it stands there.
fn entries() -> Vec<Entry> {
    let mut entries: Vec<Entry> = Vec::new();
    let (mut section, mut sentence) = (String::new(), String::new());
    for line in DEFAULT_TEXT.lines() {
        if let Some(comment) = line.strip_prefix("# ") {
            sentence = format!("{sentence} {comment}").trim().to_owned();
            continue;
        }
        let setting = line.strip_prefix('#').unwrap_or(line);
        if setting.starts_with('[') {
            section = setting.trim_matches(['[', ']']).to_owned();
        } else if let Some((key, value)) = setting.split_once(" = ") {
            let is_known = entries.iter().any(|entry| entry.section == section && entry.key == key);
            if !is_known {
                let (key, value) = (key.to_owned(), value.to_owned());
                entries.push(Entry { section: section.clone(), key, value, sentence });
            }
        }
        sentence = String::new();
    }
    entries
}

#[test]
fn every_key_has_a_sentence() {
    let entries = entries();
    for (section, keys) in sections() {
        for key in keys {
            let found = entries.iter().find(|entry| entry.section == section && entry.key == key);
            let entry = found.unwrap_or_else(|| panic!("`{key}` of `{section}` is not in default.toml"));
            let is_sentence = entry.sentence.ends_with('.') && entry.sentence.starts_with(char::is_uppercase);
            assert!(is_sentence, "`{key}` of `{section}`: {:?}", entry.sentence);
        }
    }
    let count: usize = sections().iter().map(|(_, keys)| keys.len()).sum();
    assert_eq!(entries.len(), count, "default.toml has keys that nobody reads");
}

#[test]
fn the_document_repeats_each_key() {
    for entry in entries() {
        if std::env::var_os("RINGPOST_PRINT_REFERENCE").is_some() {
            println!("{} {}", entry.section, entry.row());
            continue;
        }
        assert!(DOCUMENT.contains(&entry.row()), "docs/configuration.md lacks this line:\n{}", entry.row());
    }
}

#[test]
fn every_example_loads() {
    for document in [DOCUMENT, OPERATING] {
        let pieces = document.split("```toml\n").skip(1);
        let examples: Vec<&str> = pieces.map(|rest| rest.split("```").next().unwrap_or_default()).collect();
        assert!(examples.len() >= 7);
        for example in examples {
            if let Err(problems) = Config::parse(example, "here.example") {
                panic!("{example}\n{problems:?}");
            }
        }
    }
}

/// Every setting that the default text shows behind a "#" is one.
#[test]
fn every_setting_of_the_default_loads() {
    let uncommented: Vec<&str> = DEFAULT_TEXT
        .lines()
        .map(|line| match line.strip_prefix('#') {
            Some(setting) if !setting.starts_with(' ') => setting,
            _ => line,
        })
        .collect();
    let config = Config::parse(&uncommented.join("\n"), "here.example").unwrap();
    assert!(config.tls.is_some() && config.cores.is_some());
    assert_eq!((config.domains.len(), config.outbound.routes.iter().count()), (1, 1));
}
