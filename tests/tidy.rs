//! Holds the shape of the tree: who may use whom, where `unsafe`, `async` and clocks may stand, how long a
//! file may grow, and that the documents' links lead somewhere.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Folders of `src/` and the folders they must not name, besides what the order of `lib.rs` forbids.
const WALLS: [(&str, &[&str]); 4] = [
    ("proto", &["store", "queue", "auth", "mailbox", "config", "io", "shard", "admin"]),
    ("store", &["proto", "queue", "auth", "mailbox", "config", "io", "shard", "admin"]),
    ("queue", &["proto", "store", "auth", "mailbox", "config", "io", "shard", "admin"]),
    ("auth", &["proto", "store", "queue", "mailbox", "config", "io", "shard", "admin"]),
];

/// The order in which folders may use each other: only those to the left of them.
const ORDER: [&str; 11] =
    ["bytes", "mail", "auth", "queue", "config", "proto", "store", "mailbox", "io", "shard", "admin"];

/// The one file outside `io/` that reads mapped bytes as records.
const INDEX_READER: &str = "src/store/index/";

const FILE_LINES_MAX: usize = 1000;
const LINE_CHARS_MAX: usize = 120;

struct Source {
    path: String,
    text: String,
}

impl Source {
    /// The code without comments and without its tests at the end.
    fn code(&self) -> String {
        let body = self.text.split("#[cfg(test)]").next().unwrap_or_default();
        body.lines().map(|line| line.split("//").next().unwrap_or_default()).collect::<Vec<_>>().join("\n")
    }

    fn folder(&self) -> &str {
        self.path.strip_prefix("src/").and_then(|rest| rest.split_once('/')).map_or("", |(folder, _)| folder)
    }

    fn is_under(&self, prefixes: &[&str]) -> bool {
        prefixes.iter().any(|prefix| self.path.starts_with(prefix))
    }
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn files_under(folder: &Path, extension: &str, found: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(folder) else {
        return;
    };
    for entry in entries.flatten() {
        let path = entry.path();
        let hidden = entry.file_name().to_string_lossy().starts_with('.');
        if path.is_dir() && !hidden && !path.ends_with("target") {
            files_under(&path, extension, found);
        } else if path.extension().is_some_and(|known| known == extension) {
            found.push(path);
        }
    }
}

fn read(path: &Path) -> Source {
    let text = fs::read_to_string(path).expect("a file of the tree is readable UTF-8");
    let path = path.strip_prefix(root()).expect("the file is in the tree").to_string_lossy().into_owned();
    Source { path, text }
}

fn sources(folder: &str, extension: &str) -> Vec<Source> {
    let mut found = Vec::new();
    files_under(&root().join(folder), extension, &mut found);
    found.sort();
    found.iter().map(|path| read(path)).collect()
}

fn fail_if_any(rule: &str, offenders: Vec<String>) {
    assert!(offenders.is_empty(), "{rule}:\n  {}", offenders.join("\n  "));
}

#[test]
fn folders_use_only_what_stands_before_them() {
    let walls: BTreeMap<_, _> = WALLS.into_iter().collect();
    let mut offenders = Vec::new();
    for source in sources("src", "rs") {
        let folder = source.folder().to_owned();
        let Some(place) = ORDER.iter().position(|known| *known == folder) else {
            continue;
        };
        let mut forbidden = ORDER[place + 1..].to_vec();
        forbidden.extend(walls.get(folder.as_str()).copied().unwrap_or_default());
        let code = source.code();
        for other in forbidden {
            if code.contains(&format!("crate::{other}::")) || code.contains(&format!("crate::{other};")) {
                offenders.push(format!("{} names {other}", source.path));
            }
        }
    }
    fail_if_any("a folder uses only folders that stand before it, within the walls", offenders);
}

#[test]
fn packages_stay_behind_their_doors() {
    let doors: [(&str, &[&str]); 2] =
        [("glommio", &["src/io/", "src/shard/server.rs", "src/main.rs"]), ("rustls", &["src/io/tls"])];
    let mut offenders = Vec::new();
    for source in sources("src", "rs") {
        let code = source.code();
        for (package, places) in doors {
            let named = code.contains(&format!("{package}::")) || code.contains(&format!("use {package};"));
            if named && !source.is_under(places) {
                offenders.push(format!("{} names {package}", source.path));
            }
        }
    }
    fail_if_any("glommio and rustls are named only behind their doors", offenders);
}

#[test]
fn values_have_no_effects() {
    let drivers = ["src/io/", "src/shard/", "src/admin/", "src/main.rs", "src/build.rs"];
    let rules: [(&str, &[&str]); 4] = [
        ("async fn", &drivers),
        ("SystemTime::now", &["src/io/clock.rs"]),
        ("Instant::now", &["src/io/clock.rs"]),
        ("Arc<Mutex<", &["src/io/"]),
    ];
    let mut offenders = Vec::new();
    for source in sources("src", "rs") {
        let code = source.code();
        for (words, places) in rules {
            if code.contains(words) && !source.is_under(places) {
                offenders.push(format!("{} has {words}", source.path));
            }
        }
    }
    fail_if_any("only drivers wait, read clocks and lock", offenders);
}

#[test]
fn unsafe_stands_in_its_places_with_a_proof() {
    let mut offenders = Vec::new();
    for source in sources("src", "rs") {
        let lines: Vec<&str> = source.text.lines().collect();
        for (index, line) in lines.iter().enumerate() {
            let code = line.split("//").next().unwrap_or_default();
            if !code.split(|c: char| !c.is_alphanumeric() && c != '_').any(|word| word == "unsafe") {
                continue;
            }
            if code.contains("unsafe_code") || code.contains("\"unsafe") {
                continue;
            }
            let place = format!("{}:{}", source.path, index + 1);
            if !source.is_under(&["src/io/", INDEX_READER]) {
                offenders.push(format!("{place}: unsafe outside of io/ and the index reader"));
            }
            let before = &lines[index.saturating_sub(8)..index];
            if !before.iter().any(|line| line.contains("SAFETY:")) {
                offenders.push(format!("{place}: unsafe without a SAFETY comment above it"));
            }
        }
    }
    fail_if_any("unsafe is rare and proven", offenders);
}

#[test]
fn files_are_chapters() {
    let mut offenders = Vec::new();
    for source in ["src", "tests", "benches", "loadtest"].iter().flat_map(|folder| sources(folder, "rs")) {
        let count = source.text.lines().count();
        if count > FILE_LINES_MAX {
            offenders.push(format!("{} has {count} lines", source.path));
        }
        if !source.text.starts_with("//!") {
            offenders.push(format!("{} does not say what it is", source.path));
        }
        // Rows of a table are as long as their data, and tables stand in tests.
        let tests_begin = source.text.find("#[cfg(test)]").unwrap_or(source.text.len());
        let code_lines = source.text[..tests_begin].lines().count();
        for (index, line) in source.text.lines().enumerate() {
            let is_long = index < code_lines && line.chars().count() > LINE_CHARS_MAX;
            if is_long || line.ends_with(' ') || line.contains('\t') {
                offenders.push(format!("{}:{} is too long or has stray blanks", source.path, index + 1));
            }
        }
    }
    fail_if_any("a file is a chapter with a title", offenders);
}

#[test]
fn the_main_file_is_short() {
    let main = read(&root().join("src/main.rs"));
    assert!(main.text.lines().count() < 100);
}

#[test]
fn the_top_level_is_what_was_agreed() {
    let agreed = [
        "Cargo.toml",
        "Cargo.lock",
        "src",
        "benches",
        "loadtest",
        "tests",
        "docs",
        "README.md",
        "LICENSE-MIT",
        "LICENSE-APACHE",
        "target",
        "ringpost-data",
    ];
    let mut offenders = Vec::new();
    for entry in fs::read_dir(root()).expect("the tree is readable").flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if !name.starts_with('.') && !agreed.contains(&name.as_str()) {
            offenders.push(name);
        }
    }
    fail_if_any("nothing else stands at the top", offenders);
}

#[test]
fn links_in_documents_lead_somewhere() {
    let mut documents = sources("docs", "md");
    documents.push(read(&root().join("README.md")));
    let mut offenders = Vec::new();
    for document in &documents {
        let folder = root().join(&document.path).parent().expect("a file has a folder").to_owned();
        for target in document.text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let path = target.split('#').next().unwrap_or_default();
            if path.is_empty() || path.contains("://") {
                continue;
            }
            if !folder.join(path).exists() {
                offenders.push(format!("{} -> {target}", document.path));
            }
        }
    }
    fail_if_any("every link has an end", offenders);
}

/// The exposure that docs/operating.md states, as far as other versions of systemd may see it.
const EXPOSURE_MAX: &str = "--threshold=20";

#[test]
fn the_unit_is_right_and_tight() {
    let unit = read(&root().join("docs/ringpost.service")).text;
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("ringpost.service");
    // The program is not installed where the tests run.
    let here = unit.replace("/usr/local/bin/ringpost", env!("CARGO_BIN_EXE_ringpost"));
    assert_ne!(here, unit);
    fs::write(&path, here).expect("written");
    for arguments in [&["verify"][..], &["security", "--offline=true", EXPOSURE_MAX]] {
        let output = match Command::new("systemd-analyze").args(arguments).arg(&path).output() {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                let is_required = std::env::var("RINGPOST_INTEROP").is_ok_and(|value| value == "required");
                assert!(!is_required, "systemd-analyze is required here and not installed");
                return eprintln!("skipped: systemd-analyze is not installed");
            }
            output => output.expect("it runs"),
        };
        let said = [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
        assert!(output.status.success(), "{arguments:?}: {}{}", said[0], said[1]);
        assert!(!said[1].contains("ringpost.service:"), "{}", said[1]);
    }
}

#[test]
fn the_unit_may_write_where_documents_put_data_and_events() {
    let unit = read(&root().join("docs/ringpost.service")).text;
    let document = read(&root().join("docs/configuration.md")).text;
    let table = [
        ("data = \"/var/lib/ringpost\"", "StateDirectory"),
        ("dir = \"/var/log/ringpost\"", "LogsDirectory"),
    ];
    for (key, directory) in table {
        assert!(document.contains(key), "{key}");
        for line in [format!("{directory}=ringpost"), format!("{directory}Mode=0700")] {
            assert!(unit.lines().any(|known| known == line), "{line}");
        }
    }
}

/// Words in backticks.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

/// Names of all functions under `#[test]`, those of proptest too.
fn test_names() -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for source in ["src", "tests", "loadtest"].iter().flat_map(|folder| sources(folder, "rs")) {
        let mut lines = source.text.lines().map(str::trim);
        while let Some(line) = lines.next() {
            if line != "#[test]" {
                continue;
            }
            let function = lines.by_ref().find_map(|line| line.strip_prefix("fn "));
            names.extend(function.and_then(|rest| rest.split('(').next()).map(str::to_owned));
        }
    }
    names
}

#[test]
fn the_tables_of_protocols_name_what_exists() {
    let document = read(&root().join("docs/protocols.md"));
    let tests = test_names();
    let is_missing = |word: &str| match word {
        file if file.ends_with(".rs") => !root().join("src").join(file).exists(),
        transcript if transcript.ends_with(".txt") => {
            !root().join("tests/transcripts").join(transcript).exists()
        }
        test => !tests.contains(test),
    };
    let mut offenders = Vec::new();
    let mut rows = 0;
    for (index, line) in document.text.lines().enumerate() {
        // | What | RFC section | File | Shown by |
        let columns: Vec<&str> = line.trim_matches('|').split('|').collect();
        let is_file = |column: &&str| quoted(column).any(|word| word.ends_with(".rs"));
        let Some(file) = columns.iter().position(is_file).filter(|_| line.starts_with('|')) else {
            continue;
        };
        rows += 1;
        let words = columns[file..].iter().flat_map(|column| quoted(column));
        offenders
            .extend(words.filter(|word| is_missing(word)).map(|word| format!("line {}: {word}", index + 1)));
        if columns.get(file + 1).is_some_and(|shown| quoted(shown).next().is_none()) {
            offenders.push(format!("line {}: nothing shows it", index + 1));
        }
    }
    assert!(rows > 60, "only {rows} rows were found");
    fail_if_any("docs/protocols.md names files and tests that exist", offenders);
}
