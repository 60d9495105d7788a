//! Differences between a peer's answers and ours as data: each is written down once, with the reason why ours is right.
//!
//! ```text
//! # A comment.
//! case: smtp/commands lengths      the case; several of them may stand here, with a | between
//! variants: 512 | 1024             only variants with one of these in their names
//! theirs: 5xx 2xx                  what the peer answers, in classes (`class.rs`); several lines are several patterns
//! they: are stricter               stricter, laxer, or just different
//! why: RFC 5321 4.5.3.1.4 ...      what is right, and where it says so
//! ```

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::answer::matches;

/// How the peer differs.
const MANNERS: [&str; 3] = ["are stricter", "are laxer", "are different"];

#[derive(Default)]
struct Difference {
    cases: Vec<String>,
    variants: Vec<String>,
    theirs: Vec<String>,
    they: String,
    why: String,
    at: String,
    count: AtomicUsize,
}

/// All that is known of one peer.
pub struct Differences(Vec<Difference>);

impl Differences {
    pub fn read(path: &Path) -> Self {
        let text = fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let mut all: Vec<Difference> = Vec::new();
        for (index, line) in text.lines().enumerate() {
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let at = format!("{}:{}", path.display(), index + 1);
            let (key, value) = line.split_once(": ").unwrap_or_else(|| panic!("{at}: {line:?}"));
            if key == "case" {
                let cases = value.split(" | ").map(str::to_owned).collect();
                all.push(Difference { cases, at, ..Difference::default() });
                continue;
            }
            all.last_mut().unwrap_or_else(|| panic!("{at}: no case yet")).set(key, value, &at);
        }
        for difference in &all {
            let is_whole = !difference.theirs.is_empty() && MANNERS.contains(&difference.they.as_str());
            assert!(is_whole && !difference.why.is_empty(), "{}: something is missing", difference.at);
        }
        Self(all)
    }

    /// Finds the difference in the list. One that stands there twice is not classified once.
    pub fn find(&self, case: &str, variant: &str, theirs: &[String]) -> Result<(), String> {
        let found: Vec<&Difference> =
            self.0.iter().filter(|difference| difference.is(case, variant, theirs)).collect();
        match found.as_slice() {
            [only] => {
                only.count.fetch_add(1, Ordering::Relaxed);
                Ok(())
            }
            [] => Err("is not classified".into()),
            [first, second, ..] => Err(format!("is classified twice: {}, {}", first.at, second.at)),
        }
    }

    /// Those that were never seen.
    pub fn unseen(&self) -> Vec<&str> {
        let is_unseen = |difference: &&Difference| difference.count.load(Ordering::Relaxed) == 0;
        self.0.iter().filter(is_unseen).map(|difference| difference.at.as_str()).collect()
    }

    /// How often they differed in each manner.
    pub fn summary(&self) -> String {
        let count = |they: &str| -> usize {
            let all = self.0.iter().filter(|difference| difference.they == they);
            all.map(|difference| difference.count.load(Ordering::Relaxed)).sum()
        };
        MANNERS.iter().map(|they| format!("they {they} {}", count(they))).collect::<Vec<_>>().join(", ")
    }
}

impl Difference {
    fn set(&mut self, key: &str, value: &str, at: &str) {
        match key {
            "variants" => self.variants.extend(value.split(" | ").map(str::to_owned)),
            "theirs" => self.theirs.push(value.to_owned()),
            "they" => self.they = value.to_owned(),
            "why" if self.why.is_empty() => self.why = value.to_owned(),
            "why" => self.why = format!("{} {value}", self.why),
            _ => panic!("{at}: unknown {key:?}"),
        }
    }

    fn is(&self, case: &str, variant: &str, theirs: &[String]) -> bool {
        self.cases.iter().any(|known| known == case)
            && (self.variants.is_empty() || self.variants.iter().any(|part| variant.contains(part)))
            && self.theirs.iter().any(|pattern| matches(pattern, theirs))
    }
}
