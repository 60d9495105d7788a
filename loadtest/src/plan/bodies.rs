//! The bodies of messages: made once, so that sending them costs no more than sending.
//!
//! All bodies are stretches of one text. A number of variants, each of a size drawn from the distribution and with
//! its
//! place in the text, are chosen ahead together with their checksums; a message takes the variant that its number
//! gives.
//! Some lines begin with a dot, so that a server that forgets to take the second dot away is found out.

use crate::plan::Sizes;
use crate::plan::random::Random;

pub struct Bodies {
    /// As it is.
    text: Vec<u8>,
    /// With the dots doubled that DATA wants doubled (RFC 5321, section 4.5.2).
    stuffed: Vec<u8>,
    variants: Vec<Variant>,
}

struct Variant {
    text: (usize, usize),
    stuffed: (usize, usize),
    checksum: u32,
}

/// A body to be sent.
#[derive(Clone, Copy)]
pub struct Body<'a> {
    pub text: &'a [u8],
    pub stuffed: &'a [u8],
    /// CRC-32 of the text.
    pub checksum: u32,
}

/// A distribution is as good as this many draws.
const VARIANTS: usize = 1024;

/// Places that bodies may begin at: variants of the same size differ by them.
const LEAD_LINES: usize = 64;

/// Without the CRLF.
const LINE_BYTES: usize = 70;

/// Every so manieth line begins with a dot.
const DOT_EVERY: usize = 17;

impl Bodies {
    pub fn new(sizes: &Sizes, seed: u64) -> Self {
        let mut random = Random::new(seed, 0);
        let drawn: Vec<usize> = (0..VARIANTS).map(|_| sizes.draw(&mut random)).collect();
        let longest = drawn.iter().copied().max().unwrap_or(0);
        let lines = LEAD_LINES + longest / (LINE_BYTES + 2) + 1;
        let (mut text, mut stuffed, mut starts) = (Vec::new(), Vec::new(), Vec::new());
        for line in 0..lines {
            starts.push((text.len(), stuffed.len()));
            if line % DOT_EVERY == DOT_EVERY - 1 {
                text.push(b'.');
                stuffed.extend_from_slice(b"..");
            }
            let begin = text.len();
            text.extend((0..LINE_BYTES).map(|_| letter(&mut random)));
            text.extend_from_slice(b"\r\n");
            stuffed.extend_from_slice(&text[begin..]);
        }
        let mut bodies = Self { text, stuffed, variants: Vec::new() };
        for bytes in drawn {
            let line = random.below(LEAD_LINES);
            bodies.variants.push(bodies.variant(&starts, line, bytes));
        }
        bodies
    }

    /// The body of a message.
    pub fn of(&self, number: u64) -> Body<'_> {
        let variant = &self.variants[(number.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 40) as usize % VARIANTS];
        Body {
            text: &self.text[variant.text.0..variant.text.1],
            stuffed: &self.stuffed[variant.stuffed.0..variant.stuffed.1],
            checksum: variant.checksum,
        }
    }

    /// Whole lines from `line` on: as many as `bytes` hold, but one.
    fn variant(&self, starts: &[(usize, usize)], line: usize, bytes: usize) -> Variant {
        let (begin, stuffed_begin) = starts[line];
        let last =
            starts[line + 1..].iter().take_while(|(at, _)| at - begin <= bytes.max(LINE_BYTES + 3)).last();
        let (end, stuffed_end) = last.copied().unwrap_or((self.text.len(), self.stuffed.len()));
        Variant {
            text: (begin, end),
            stuffed: (stuffed_begin, stuffed_end),
            checksum: crc32fast::hash(&self.text[begin..end]),
        }
    }
}

fn letter(random: &mut Random) -> u8 {
    match random.below(32) {
        at @ 0..26 => b'a' + at as u8,
        _ => b' ',
    }
}

#[cfg(test)]
mod tests {
    use super::Bodies;

    #[test]
    fn bodies_are_lines_of_the_size_asked_for() {
        for size in [1, 1000, 4096, 300_000] {
            let bodies = Bodies::new(&super::Sizes::Same(size), 5);
            for number in 0..200 {
                let body = bodies.of(number);
                assert!(body.text.ends_with(b"\r\n"));
                assert!(
                    body.text.len() <= size.max(80) && body.text.len() + 80 > size,
                    "{}",
                    body.text.len()
                );
                assert_eq!(crc32fast::hash(body.text), body.checksum);
                let unstuffed = String::from_utf8_lossy(body.stuffed).replace("\r\n..", "\r\n.");
                let unstuffed = unstuffed.strip_prefix('.').map_or(unstuffed.clone(), str::to_owned);
                assert_eq!(unstuffed.as_bytes(), body.text);
            }
        }
    }
}
