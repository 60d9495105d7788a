//! What the targets begin with: the cases of `tests/hostile` for the sessions, and the lines of `corpus/`.
//!
//! A target has one file there. Each line is an input, written with the escapes of the transcripts; `#` begins a
//! comment. First come those by hand, and every input that ever broke the target. Then those that libFuzzer found
//! to reach what the others do not; `tests/fuzz/run keep` writes them anew (`keep.rs`).

use std::fs;
use std::path::{Path, PathBuf};

use crate::bytes::unescaped;
use crate::case;

/// Of one case; the generators make more of them.
const VARIANTS_MAX: usize = 4;
const BYTES_MAX: usize = 2000;

/// The program of libFuzzer belongs to a package of its own, which stands here.
pub fn folder() -> PathBuf {
    let here = if cfg!(test) { "tests/fuzz" } else { "" };
    Path::new(env!("CARGO_MANIFEST_DIR")).join(here).join("corpus")
}

/// The file of a target's own inputs.
pub fn corpus(target: &str) -> PathBuf {
    folder().join(target.replace(' ', "-")).with_extension("txt")
}

/// The seeds of a target, of which there is at least one.
pub fn of(target: &str) -> Vec<Vec<u8>> {
    let mut seeds = match target.split_once(' ') {
        Some((port @ ("smtp" | "submission" | "imap" | "pop3"), _)) => of_session(port),
        Some(("client", state)) if state != "new" => of_corpus("client new"),
        Some(("mail", "header" | "parts")) => of_corpus("mail message"),
        _ => Vec::new(),
    };
    seeds.extend(of_corpus(target));
    assert!(!seeds.is_empty(), "no seeds for {target}");
    seeds
}

fn of_corpus(target: &str) -> Vec<Vec<u8>> {
    let text = fs::read_to_string(corpus(target)).unwrap_or_default();
    let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines.map(|line| unescaped(line, target)).collect()
}

/// What the cases for the port say, with two cuts.
fn of_session(port: &str) -> Vec<Vec<u8>> {
    let port = if port == "smtp" { "relay" } else { port };
    let cases = case::read_all(&folder().join("../../hostile/cases"));
    let variants = cases
        .iter()
        .filter(|case| case.on == port)
        .flat_map(|case| case.variants().into_iter().take(VARIANTS_MAX))
        .filter(|variant| variant.say.len() < BYTES_MAX);
    variants.map(|variant| [b"\x02\x03\x20", variant.say.as_slice()].concat()).collect()
}

/// An input as a line of the corpus.
pub fn escaped(input: &[u8]) -> String {
    let mut line = String::new();
    for (index, byte) in input.iter().enumerate() {
        match byte {
            b'#' if index == 0 => line.push_str("\\x23"),
            b'"' | b'\'' => line.push(char::from(*byte)),
            _ => line.extend(byte.escape_ascii().map(char::from)),
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::{corpus, escaped};
    use crate::bytes::unescaped;

    #[test]
    fn inputs_are_read_as_they_were_written() {
        let all: Vec<u8> = (0..=255).chain(*b"#\\x41\\\"'\\{2:a}").collect();
        assert_eq!(unescaped(&escaped(&all), "all bytes"), all);
        assert_eq!(escaped(b"#\r\n"), "\\x23\\r\\n");
        assert!(corpus("mail message").ends_with("tests/fuzz/corpus/mail-message.txt"));
    }
}
