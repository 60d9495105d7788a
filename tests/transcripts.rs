//! Dialogues as files, replayed against the engines in many cuts.
//!
//! ```text
//! # A comment.
//! role: relay                      header: what the session is, up to an empty line
//!
//! S: 220 mx.test ESMTP Ringpost    a line of the server
//! C: NOOP                          a line of the client; CRLF is added
//! R: .\r                           bytes of the client; nothing is added
//! S: 250 2.0.0 Ok
//! E: close                         an effect, as the adapter of the protocol prints it
//! D: tls                           a directive to the adapter, such as a TLS handshake or time that passes
//! ```
//!
//! Where the engine is a client, the roles swap: `S` and `R` are what it is told, `C` is what it says.
//!
//! In `C`, `R` and `S`: `\r`, `\n`, `\t`, `\\`, `\xHH`, and `\{3:ab}` for `ababab` (not nested).
//!
//! Each file is replayed turn by turn (the client's lines up to the next line of the server at once, byte by
//! byte, and cut at random), and with everything between two directives in one burst. Replies and effects must
//! be the same each time. A protocol joins in with an adapter: an `impl` of [`Engine`] and a `#[test]` below.

#[path = "transcripts/bytes.rs"]
mod bytes;
#[path = "transcripts/engine.rs"]
mod engine;
#[path = "transcripts/imap.rs"]
mod imap;
#[path = "transcripts/pop3.rs"]
mod pop3;
#[path = "transcripts/smtp.rs"]
mod smtp;
#[path = "transcripts/smtp_client.rs"]
mod smtp_client;

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

use ringpost::bytes::Output;

use bytes::{Cut, unescaped};
use engine::{Engine, Header, Side};

/// What the client does, and what must come of it.
#[derive(Default)]
struct Turn {
    line: usize,
    does: Does,
    replies: Vec<u8>,
    effects: Vec<String>,
}

enum Does {
    Say(Vec<u8>),
    Direct(String),
}

struct Transcript {
    header: Header,
    turns: Vec<Turn>,
}

const SEEDS: u64 = 16;

#[test]
fn pop3_transcripts() {
    replay_all::<pop3::Session>("pop3");
}

#[test]
fn imap_transcripts() {
    replay_all::<imap::Session>("imap");
}

#[test]
fn smtp_transcripts() {
    replay_all::<smtp::Session>("smtp");
}

#[test]
fn smtp_client_transcripts() {
    replay_all::<smtp_client::Session>("smtp_client");
}

fn replay_all<E: Engine>(protocol: &str) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/transcripts").join(protocol);
    let entries = fs::read_dir(&folder).expect("the folder is there").flatten().map(|entry| entry.path());
    let mut files: Vec<PathBuf> =
        entries.filter(|path| path.extension().is_some_and(|end| end == "txt")).collect();
    files.sort();
    assert!(!files.is_empty(), "no transcripts in {}", folder.display());
    let replayed = files.iter().map(|file| {
        let name = format!("{protocol}/{}", file.file_stem().unwrap_or_default().to_string_lossy());
        let transcript = Transcript::parse(&fs::read_to_string(file).expect("it is text"), E::SIDE, &name);
        transcript.replay::<E>(&name)
    });
    let failures: Vec<String> = replayed.filter_map(Result::err).collect();
    assert!(failures.is_empty(), "\n{}", failures.join("\n"));
}

impl Transcript {
    fn parse(text: &str, side: Side, name: &str) -> Self {
        let mut lines = text.lines().enumerate().filter(|(_, line)| !line.starts_with('#')).peekable();
        let mut header = Header::default();
        for (_, line) in lines.by_ref().take_while(|(_, line)| !line.is_empty()) {
            let (key, value) =
                line.split_once(": ").unwrap_or_else(|| panic!("{name}: {line:?} in the header"));
            header.0.push((key.to_owned(), value.to_owned()));
        }
        let mut turns = vec![Turn::default()];
        for (number, line) in lines.filter(|(_, line)| !line.is_empty()) {
            let at = || format!("{name}:{}", number + 1);
            let (kind, rest) = (line.get(..2), line.get(2..).unwrap_or_default());
            let rest = rest.strip_prefix(' ').unwrap_or(rest);
            match kind {
                Some("C:" | "S:") if kind == Some(side.input()) => {
                    Turn::say(&mut turns, number + 1, &[unescaped(rest, &at()), b"\r\n".to_vec()].concat())
                }
                Some("R:") => Turn::say(&mut turns, number + 1, &unescaped(rest, &at())),
                Some("D:") => turns.push(Turn {
                    line: number + 1,
                    does: Does::Direct(rest.to_owned()),
                    ..Turn::default()
                }),
                Some("C:" | "S:") => {
                    let replies = &mut turns.last_mut().expect("there is one").replies;
                    replies.extend([unescaped(rest, &at()), b"\r\n".to_vec()].concat());
                }
                Some("E:") => turns.last_mut().expect("there is one").effects.push(rest.to_owned()),
                _ => panic!("{}: not a line of a transcript", at()),
            }
        }
        Self { header, turns }
    }

    fn replay<E: Engine>(&self, name: &str) -> Result<(), String> {
        let cuts = [Cut::Whole, Cut::Bytes].into_iter();
        let cuts: Vec<Cut> = cuts.chain((0..SEEDS).map(|seed| Cut::Random { seed })).collect();
        for &cut in &cuts {
            self.replay_turns::<E>(name, cut, &self.turns)?;
        }
        let bursts = self.bursts();
        for &cut in &cuts[..3] {
            self.replay_turns::<E>(&format!("{name} (in bursts)"), cut, &bursts)?;
        }
        Ok(())
    }

    fn replay_turns<E: Engine>(&self, name: &str, cut: Cut, turns: &[Turn]) -> Result<(), String> {
        let mut out = Output::new();
        let mut engine = E::start(&self.header, &mut out);
        for turn in turns {
            match &turn.does {
                Does::Say(bytes) => cut.pieces(bytes).for_each(|piece| engine.feed(piece, &mut out)),
                Does::Direct(directive) => engine.direct(directive, &mut out),
            }
            let (replies, effects) = (out.to_vec(), engine.effects());
            out.clear();
            if replies != turn.replies || effects != turn.effects {
                let expected = shown(&turn.replies, &turn.effects);
                return Err(format!(
                    "{name}:{}, {cut:?}\n--- expected\n{expected}--- found\n{}",
                    turn.line,
                    shown(&replies, &effects)
                ));
            }
        }
        Ok(())
    }

    /// The same with all that the client says between two directives said at once.
    fn bursts(&self) -> Vec<Turn> {
        let mut bursts: Vec<Turn> = Vec::new();
        for turn in &self.turns {
            let last = bursts.last_mut().filter(|last| last.line > 0);
            match (&turn.does, last) {
                (Does::Say(more), Some(Turn { does: Does::Say(bytes), replies, effects, .. })) => {
                    bytes.extend_from_slice(more);
                    replies.extend_from_slice(&turn.replies);
                    effects.extend_from_slice(&turn.effects);
                }
                (Does::Say(bytes), _) => bursts.push(turn.with(Does::Say(bytes.clone()))),
                (Does::Direct(directive), _) => bursts.push(turn.with(Does::Direct(directive.clone()))),
            }
        }
        bursts
    }
}

impl Turn {
    /// Adds to what the client says, in a turn of its own if the server has spoken since.
    fn say(turns: &mut Vec<Self>, line: usize, bytes: &[u8]) {
        let last = turns.last_mut().expect("there is one");
        match &mut last.does {
            Does::Say(said) if last.line > 0 && last.replies.is_empty() && last.effects.is_empty() => {
                said.extend_from_slice(bytes);
            }
            _ => turns.push(Self { line, does: Does::Say(bytes.to_vec()), ..Self::default() }),
        }
    }

    fn with(&self, does: Does) -> Self {
        Self { line: self.line, does, replies: self.replies.clone(), effects: self.effects.clone() }
    }
}

impl Default for Does {
    fn default() -> Self {
        Self::Say(Vec::new())
    }
}

fn shown(replies: &[u8], effects: &[String]) -> String {
    let text = replies.escape_ascii().to_string();
    let mut shown = text.replace("\\r\\n", "\n").replace("\\'", "'").replace("\\\"", "\"");
    for effect in effects {
        writeln!(shown, "E: {effect}").expect("writing to a string does not fail");
    }
    shown
}
