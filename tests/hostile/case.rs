//! Cases as files: what a client says in which state, in all its variants, and what must come of it.
//!
//! ```text
//! # A comment.
//! case: lookalikes                 a name; the next case begins with the next one
//! covers: SM-01 SM-02              the classes that this shows
//! on: relay                        relay, submission, imap or pop3; `imaps`, `pop3s` and `submissions` are ports
//!                                  of TLS that are spoken to without
//! given: data                      what was said before, see `opening`
//! where: engine wire               where it is replayed; both if it does not say. `clear` is the wire
//!                                  without TLS, `tls` with nothing else
//! vary A: \r\n | \n | \r           a value for each ${A}, also in axes below; all combinations are variants
//! unless: \r\n.\r\n                variants that have this in what they say are left out
//! say: x${A}.${A}NOOP\r\n          what the client says; several lines follow upon each other
//! answer: 354 5xx|4xx              each reply in its order; `end` where the session takes nothing more
//! kept: x\r\n                      a message that is delivered then; several lines are several messages
//! ```
//!
//! What stands between `‹` and `›` is said as a literal: `{5+}`, a line's end, and the five octets.
//!
//! `answer: by content` stands for what RFC 5321 says of the bytes themselves, read a line at a time: see
//! [`super::content`]; variants whose content ends before what is said does are left out. Bytes are written as in the
//! transcripts. A file may set `on` and `given` at its top, for all cases in it.

use std::fs;
use std::path::{Path, PathBuf};

use crate::bytes::unescaped;
use crate::content;

pub const BY_CONTENT: &str = "by content";

/// One case with its variants not yet made.
#[derive(Clone, Default, Debug)]
pub struct Case {
    /// The file and the name in it: `smtp/ends lookalikes`.
    pub name: String,
    pub covers: Vec<String>,
    pub on: String,
    pub given: String,
    pub places: Vec<String>,
    pub answer: String,
    axes: Vec<(String, Vec<String>)>,
    unless: Vec<Vec<u8>>,
    say: String,
    kept: Vec<String>,
    at: String,
}

/// What a client says, and what must come of it.
#[derive(Clone, Debug)]
pub struct Variant {
    /// The values of the axes, as they are written.
    pub name: String,
    pub say: Vec<u8>,
    pub kept: Vec<Vec<u8>>,
}

/// All cases below `folder`, in the order of their names.
pub fn read_all(folder: &Path) -> Vec<Case> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).expect("the folder is there").flatten() {
        match entry.path().is_dir() {
            true => files.extend(fs::read_dir(entry.path()).expect("the folder is there").flatten()),
            false => files.push(entry),
        }
    }
    let mut paths: Vec<PathBuf> = files.iter().map(std::fs::DirEntry::path).collect();
    paths.sort();
    let cases: Vec<Case> = paths.iter().flat_map(|path| read_file(folder, path)).collect();
    assert!(!cases.is_empty(), "no cases in {}", folder.display());
    cases
}

fn read_file(folder: &Path, path: &Path) -> Vec<Case> {
    let text = fs::read_to_string(path).expect("it is text");
    let file = path.with_extension("");
    let file = file.strip_prefix(folder).expect("it is below").to_string_lossy().into_owned();
    let (mut common, mut cases) = (Case::default(), Vec::new());
    for (index, line) in text.lines().enumerate() {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let at = format!("{file}:{}", index + 1);
        let (key, value) = line.split_once(": ").unwrap_or_else(|| panic!("{at}: {line:?}"));
        if key == "case" {
            let name = format!("{file} {value}");
            cases.push(Case { name, at, ..common.clone() });
            continue;
        }
        cases.last_mut().unwrap_or(&mut common).set(key, value, &at);
    }
    cases
}

impl Case {
    pub fn is_for(&self, place: &str) -> bool {
        self.places.is_empty() || self.places.iter().any(|known| known == place)
    }

    pub fn is_only_for(&self, place: &str) -> bool {
        self.places == [place]
    }

    /// All combinations of the values of the axes.
    pub fn variants(&self) -> Vec<Variant> {
        let mut chosen: Vec<Vec<&str>> = vec![Vec::new()];
        for (_, values) in &self.axes {
            let mut longer = Vec::with_capacity(chosen.len() * values.len());
            for before in &chosen {
                longer.extend(values.iter().map(|value| [before.as_slice(), &[value.as_str()]].concat()));
            }
            chosen = longer;
        }
        let variants: Vec<Variant> = chosen
            .iter()
            .map(|values| self.variant(values))
            .filter(|variant| !self.is_left_out(variant))
            .collect();
        assert!(!variants.is_empty(), "{}: no variants", self.at);
        variants
    }

    fn variant(&self, values: &[&str]) -> Variant {
        let filled = |text: &str| {
            let mut text = text.to_owned();
            for ((name, _), value) in self.axes.iter().zip(values).rev() {
                text = text.replace(&format!("${{{name}}}"), value);
            }
            with_literals(&text, &self.at)
        };
        let kept = self.kept.iter().map(|text| filled(text)).collect();
        Variant { name: values.join(" "), say: filled(&self.say), kept }
    }

    fn is_left_out(&self, variant: &Variant) -> bool {
        if self.answer == BY_CONTENT && content::ends_early(&variant.say) {
            return true;
        }
        let has = |bytes: &Vec<u8>| variant.say.windows(bytes.len()).any(|window| window == bytes.as_slice());
        self.unless.iter().any(has)
    }

    fn set(&mut self, key: &str, value: &str, at: &str) {
        let words = || value.split_whitespace().map(str::to_owned).collect();
        match key.split_once(' ').unwrap_or((key, "")) {
            ("covers", "") => self.covers = words(),
            ("on", "") => self.on = value.to_owned(),
            ("given", "") => self.given = value.to_owned(),
            ("where", "") => self.places = words(),
            ("vary", axis) => {
                let values = value.split(" | ").map(str::to_owned).collect();
                self.axes.push((axis.to_owned(), values));
            }
            ("unless", "") => self.unless.push(unescaped(value, at)),
            ("say", "") => self.say.push_str(value),
            ("answer", "") => self.answer = value.to_owned(),
            ("kept", "") => self.kept.push(value.to_owned()),
            _ => panic!("{at}: unknown {key:?}"),
        }
    }
}

/// The bytes that are written in `text`, literals with their lengths.
fn with_literals(text: &str, at: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = text;
    while let Some((before, behind)) = rest.split_once('‹') {
        let (literal, after) =
            behind.split_once('›').unwrap_or_else(|| panic!("{at}: a literal without end"));
        let literal = unescaped(literal, at);
        bytes.extend(unescaped(before, at));
        bytes.extend(format!("{{{}+}}\r\n", literal.len()).into_bytes());
        bytes.extend(literal);
        rest = after;
    }
    bytes.extend(unescaped(rest, at));
    bytes
}
