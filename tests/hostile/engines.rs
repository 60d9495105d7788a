//! Cases against the engines, without a socket: so fast that every cut of a case can be tried.

use ringpost::bytes::Output;

use crate::answer::{Protocol, matches, words};
use crate::bytes::Cut;
use crate::case::{BY_CONTENT, Case, Variant};
use crate::engine::{Engine, Header};
use crate::opening::MEANT;
use crate::{content, imap, opening, pop3, smtp};

/// One short variant of so many is cut in two at each place; all others byte by byte and at random.
const EVERY_CUT_EACH: u32 = 10;
const EVERY_CUT_BYTES_MAX: usize = 300;
const RANDOM_CUTS: u64 = 2;
/// What is longer is not given byte by byte.
const BYTES_MAX: usize = 20_000;

/// Replies and effects.
type Outcome = (Vec<u8>, Vec<String>);

/// The variant replayed whole and in cuts; how often, or what is wrong.
pub fn replay(case: &Case, variant: &Variant) -> Result<usize, String> {
    match case.on.as_str() {
        "imap" => replay_on::<imap::Session>(case, variant),
        "pop3" => replay_on::<pop3::Session>(case, variant),
        _ => replay_on::<smtp::Session>(case, variant),
    }
}

fn replay_on<E: Engine>(case: &Case, variant: &Variant) -> Result<usize, String> {
    let before = opening::commands(&case.on, &case.given, MEANT).concat();
    let protocol = Protocol::of(&case.on);
    let say = [&variant.say, protocol.farewell()].concat();
    let whole = said::<E>(case, before.as_bytes(), [say.as_slice()].into_iter());
    judge(case, variant, &whole)?;
    let mut count = 1;
    let mut same = |how: &str, found: Outcome| {
        count += 1;
        match found == whole {
            true => Ok(()),
            false => Err(format!("{how}:\n{}whole:\n{}", shown(&found), shown(&whole))),
        }
    };
    if say.len() <= BYTES_MAX {
        same("bytes", said::<E>(case, before.as_bytes(), Cut::Bytes.pieces(&say)))?;
    }
    for seed in 0..RANDOM_CUTS {
        let cut = Cut::Random { seed };
        same(&format!("{cut:?}"), said::<E>(case, before.as_bytes(), cut.pieces(&say)))?;
    }
    let is_chosen = say.len() <= EVERY_CUT_BYTES_MAX && crc32fast::hash(&say).is_multiple_of(EVERY_CUT_EACH);
    for at in (1..say.len()).filter(|_| is_chosen) {
        let (first, second) = say.split_at(at);
        same(&format!("cut at {at}"), said::<E>(case, before.as_bytes(), [first, second].into_iter()))?;
    }
    Ok(count)
}

fn said<'a, E: Engine>(case: &Case, before: &[u8], pieces: impl Iterator<Item = &'a [u8]>) -> Outcome {
    let mut out = Output::new();
    let mut engine = E::start(&header(&case.on), &mut out);
    engine.feed(before, &mut out);
    engine.effects();
    out.clear();
    pieces.for_each(|piece| engine.feed(piece, &mut out));
    (out.to_vec(), engine.effects())
}

fn judge(case: &Case, variant: &Variant, (replies, effects): &Outcome) -> Result<(), String> {
    let protocol = Protocol::of(&case.on);
    let (answer, kept) = expected(case, variant);
    let found = words(protocol, replies);
    if !matches(&answer, &found) {
        return Err(format!("expected {answer:?}, found {:?}", found.join(" ")));
    }
    if protocol != Protocol::Smtp {
        return Ok(());
    }
    let messages: Vec<&String> = effects.iter().filter(|effect| effect.starts_with("message ")).collect();
    let is_kept = |(message, content): (&&String, &Vec<u8>)| {
        let shown = content.escape_ascii().to_string().replace("\\'", "'").replace("\\\"", "\"");
        message.ends_with(&format!(":{shown}")) || message.ends_with(" bytes")
    };
    match messages.len() == kept.len() && messages.iter().zip(&kept).all(is_kept) {
        true => Ok(()),
        false => Err(format!("{messages:?} were kept")),
    }
}

/// The answer and the messages that a case wants of a variant.
pub fn expected(case: &Case, variant: &Variant) -> (String, Vec<Vec<u8>>) {
    if case.answer != BY_CONTENT {
        return (case.answer.clone(), variant.kept.clone());
    }
    assert_eq!(case.given, "data", "{}: only content is judged so", case.name);
    let manners = match case.on.as_str() {
        "submission" => content::Manners::Mended,
        _ => content::Manners::Strict,
    };
    let expected = content::expected(&variant.say, manners);
    (expected.answer.to_owned(), expected.kept)
}

/// What the engine is told of the listener: as the server of the tests of the wire has it.
fn header(on: &str) -> Header {
    let rows: &[(&str, &str)] = match on {
        "relay" => &[("role", "relay"), ("tls", "offered"), ("size", "65536"), ("recipients", "1000")],
        "submission" => &[
            ("role", "submission"),
            ("tls", "implicit"),
            ("auth", "PLAIN LOGIN SCRAM-SHA-256"),
            ("size", "65536"),
            ("recipients", "1000"),
        ],
        "imap" => &[("channel", "trusted"), ("starttls", "yes"), ("size", "65536")],
        _ => &[("tls", "offered"), ("clear", "yes"), ("mail", "hello dots lines")],
    };
    Header(rows.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect())
}

fn shown((replies, effects): &Outcome) -> String {
    format!("{}\n{effects:?}\n", String::from_utf8_lossy(replies))
}
