//! Whole sessions in each state. The first byte says how many cuts there are, the next ones where; the rest is said by
//! the other side, at once and cut, and both must come to the same.

use ringpost::bytes::Output;

use crate::engine::{Engine, Header};
use crate::opening::{self, MEANT};
use crate::{imap, pop3, smtp, smtp_client};

/// Replies and effects.
type Outcome = (Vec<u8>, Vec<String>);

/// The adapter of POP3 keeps all replies, and the engine waits until they are sent.
const POP3_BYTES_MAX: usize = 2048;

pub fn relay(given: &str, input: &[u8]) {
    cut::<smtp::Session>(&[("tls", "offered"), ("size", "65536")], ("relay", given), input);
}

pub fn submission(given: &str, input: &[u8]) {
    let header = [
        ("role", "submission"),
        ("tls", "implicit"),
        ("auth", "PLAIN LOGIN SCRAM-SHA-256"),
        ("size", "65536"),
    ];
    cut::<smtp::Session>(&header, ("submission", given), input);
}

pub fn imap(given: &str, input: &[u8]) {
    cut::<imap::Session>(
        &[("channel", "trusted"), ("starttls", "yes"), ("size", "65536")],
        ("imap", given),
        input,
    );
}

pub fn pop3(given: &str, input: &[u8]) {
    let input = &input[..input.len().min(POP3_BYTES_MAX)];
    cut::<pop3::Session>(&[("tls", "offered"), ("mail", "hello dots lines")], ("pop3", given), input);
}

/// A server that says anything, from its greeting on and behind a decent EHLO.
pub fn smtp_client(before: &str, input: &[u8]) {
    let say = |pieces: &mut dyn Iterator<Item = &[u8]>| {
        let mut out = Output::new();
        let mut client = smtp_client::Session::start(&header(&[]), &mut out);
        client.feed(before.as_bytes(), &mut out);
        if client.effects().contains(&"ready".to_owned()) {
            client.direct("begin from=a@b.test to=c@d.test to=e@d.test part=hello\\r\\n", &mut out);
            client.direct("send", &mut out);
        }
        pieces.for_each(|piece| client.feed(piece, &mut out));
        client.direct("end closed", &mut out);
        (out.to_vec(), client.effects())
    };
    let (cuts, said) = cuts(input);
    let (whole, cut) = (say(&mut std::iter::once(said)), say(&mut pieces(cuts, said)));
    assert_eq!(whole.1, cut.1);
}

fn cut<E: Engine>(rows: &[(&str, &str)], (on, given): (&str, &str), input: &[u8]) {
    let before = opening::commands(on, given, MEANT).concat();
    let say = |pieces: &mut dyn Iterator<Item = &[u8]>| -> Outcome {
        let mut out = Output::new();
        let mut session = E::start(&header(rows), &mut out);
        session.feed(before.as_bytes(), &mut out);
        pieces.for_each(|piece| session.feed(piece, &mut out));
        (out.to_vec(), session.effects())
    };
    let (cuts, said) = cuts(input);
    let (whole, cut) = (say(&mut std::iter::once(said)), say(&mut pieces(cuts, said)));
    assert_eq!(whole.0.escape_ascii().to_string(), cut.0.escape_ascii().to_string());
    assert_eq!(whole.1, cut.1);
}

fn header(rows: &[(&str, &str)]) -> Header {
    Header(rows.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect())
}

fn cuts(input: &[u8]) -> (&[u8], &[u8]) {
    let Some((&count, rest)) = input.split_first() else {
        return (&[], &[]);
    };
    rest.split_at(usize::from(count % 16).min(rest.len()))
}

/// Pieces as long as `cuts` say, over and over; of an octet each where they do not.
fn pieces<'a>(cuts: &'a [u8], said: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
    let mut lengths = cuts.iter().map(|cut| usize::from(*cut).max(1)).chain([1]).cycle();
    let mut rest = said;
    std::iter::from_fn(move || {
        let len = lengths.next().unwrap_or(1).min(rest.len());
        let (piece, after) = rest.split_at(len);
        rest = after;
        (!piece.is_empty()).then_some(piece)
    })
}
