//! A message on its way out, in bursts: with its dots doubled for DATA, or as it is for BDAT.
//!
//! The message is a list of parts and is not copied: the runs between two doubled dots go out as parts of its
//! slices. A line may begin at the border of two parts or of two bursts, so the last two bytes are remembered.
//!
//! Invariants: work and output of one burst are bounded; a line that begins with a dot gets another (RFC 5321
//! 4.5.2); what DATA sends ends in CRLF, a dot and CRLF, once.

use memchr::memmem;

use crate::bytes::{Output, Slice};
use crate::limits::smtp::client::OUTPUT_BURST_BYTES;

/// What is not sent yet.
#[derive(Debug)]
pub(super) struct Content {
    parts: Vec<Slice>,
    /// The part that is being sent, and how many of its bytes have been.
    index: usize,
    sent: usize,
    framing: Framing,
}

#[derive(Debug)]
enum Framing {
    Dots {
        /// The last two bytes; before the first it is as if a line had ended.
        tail: [u8; 2],
    },
    Raw,
}

/// Whether anything is left.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Left {
    More,
    Nothing,
}

impl Content {
    /// For DATA.
    pub fn dotted(parts: Vec<Slice>) -> Self {
        Self { parts, index: 0, sent: 0, framing: Framing::Dots { tail: *b"\r\n" } }
    }

    /// For BDAT.
    pub fn raw(parts: Vec<Slice>) -> Self {
        Self { parts, index: 0, sent: 0, framing: Framing::Raw }
    }

    /// Appends what one burst holds.
    pub fn poll(&mut self, out: &mut Output) -> Left {
        let mut room = OUTPUT_BURST_BYTES;
        while let Some(part) = self.parts.get(self.index) {
            let end = part.len().min(self.sent + room);
            let window = part.part(self.sent..end);
            room -= window.len();
            self.sent = end;
            if end == part.len() {
                self.index += 1;
                self.sent = 0;
            }
            match &mut self.framing {
                Framing::Dots { tail } => push_dotted(window, tail, out),
                Framing::Raw => out.push_slice(window),
            }
            if room == 0 {
                return Left::More;
            }
        }
        if let Framing::Dots { tail } = self.framing {
            out.push(if tail == *b"\r\n" { b".\r\n" } else { b"\r\n.\r\n" });
        }
        Left::Nothing
    }
}

/// Appends `window`, which follows `tail`, with a dot before each dot that begins a line.
fn push_dotted(window: Slice, tail: &mut [u8; 2], out: &mut Output) {
    let mut run = 0;
    let mut double = |dot: usize| {
        if run < dot {
            out.push_slice(window.part(run..dot));
        }
        out.push(b".");
        run = dot;
    };
    if tail == b"\r\n" && window.first() == Some(&b'.') {
        double(0);
    }
    if tail[1] == b'\r' && window.starts_with(b"\n.") {
        double(1);
    }
    memmem::find_iter(&window, b"\r\n.").for_each(|found| double(found + 2));
    if run < window.len() {
        out.push_slice(window.part(run..window.len()));
    }
    *tail = match *window {
        [] => *tail,
        [last] => [tail[1], last],
        [.., before, last] => [before, last],
    };
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{Just, Strategy, any, prop_oneof, proptest};
    use proptest::{collection, prop_assert_eq};

    use super::{Content, Left};
    use crate::bytes::{Chunk, Output, Slice};
    use crate::limits::smtp::client::OUTPUT_BURST_BYTES;

    fn sent(mut content: Content) -> Vec<u8> {
        let mut all = Vec::new();
        loop {
            let mut out = Output::new();
            let left = content.poll(&mut out);
            assert!(out.len() <= 2 * OUTPUT_BURST_BYTES + 8);
            all.extend(out.to_vec());
            if left == Left::Nothing {
                return all;
            }
        }
    }

    fn slices(parts: &[&[u8]]) -> Vec<Slice> {
        parts.iter().map(|part| Slice::from(part.to_vec())).collect()
    }

    /// The same, written the slow way.
    fn expected(message: &[u8]) -> Vec<u8> {
        let mut all = Vec::new();
        for &byte in message {
            if byte == b'.' && (all.is_empty() || all.ends_with(b"\r\n")) {
                all.push(b'.');
            }
            all.push(byte);
        }
        if !all.is_empty() && !all.ends_with(b"\r\n") {
            all.extend_from_slice(b"\r\n");
        }
        all.extend_from_slice(b".\r\n");
        all
    }

    #[test]
    fn borders_between_parts() {
        let table: &[(&[&[u8]], &[u8])] = &[
            (&[], b".\r\n"),
            (&[b""], b".\r\n"),
            (&[b".\r\n"], b"..\r\n.\r\n"),
            (&[b"a"], b"a\r\n.\r\n"),
            (&[b"a\r\n", b".b"], b"a\r\n..b\r\n.\r\n"),
            (&[b"a\r", b"\n.b\r\n"], b"a\r\n..b\r\n.\r\n"),
            (&[b"a\r", b"\n", b"", b".", b".b\r\n"], b"a\r\n...b\r\n.\r\n"),
            (&[b"a\n.b\r\n"], b"a\n.b\r\n.\r\n"),
        ];
        for (parts, expected) in table {
            let found = sent(Content::dotted(slices(parts)));
            assert_eq!(found.escape_ascii().to_string(), expected.escape_ascii().to_string());
        }
    }

    #[test]
    fn a_large_message_is_not_copied() {
        let large = Slice::from(b"0123456789abcde\r\n.".repeat(100_000));
        let mut content = Content::dotted(vec![Slice::from(b"Received: x\r\n".to_vec()), large.clone()]);
        let mut out = Output::new();
        while content.poll(&mut out) == Left::More {
            assert!(out.len() < 3 * OUTPUT_BURST_BYTES);
            out.clear();
        }
        let mut raw = Content::raw(vec![large.clone()]);
        let memory = large.as_ptr_range();
        loop {
            out.clear();
            let left = raw.poll(&mut out);
            for chunk in out.chunks() {
                let Chunk::Slice(slice) = chunk else {
                    assert!(out.len() < 4096, "only a last small piece is copied");
                    continue;
                };
                assert!(memory.contains(&slice.as_ptr()));
            }
            if left == Left::Nothing {
                break;
            }
        }
    }

    fn parts() -> impl Strategy<Value = Vec<Vec<u8>>> {
        let byte = prop_oneof![Just(b'.'), Just(b'\r'), Just(b'\n'), any::<u8>()];
        let long = (0..3 * OUTPUT_BURST_BYTES, 1_usize..40).prop_map(|(length, line)| {
            let line = [vec![b'.'; line], b"\r\n".to_vec()].concat();
            line.into_iter().cycle().take(length).collect()
        });
        collection::vec(prop_oneof![4 => collection::vec(byte, 0..6), 1 => long], 0..8)
    }

    proptest! {
        #[test]
        fn dots_are_doubled_wherever_it_is_cut(parts in parts()) {
            let slices = parts.iter().map(|part| Slice::from(part.clone())).collect::<Vec<_>>();
            prop_assert_eq!(sent(Content::dotted(slices.clone())), expected(&parts.concat()));
            prop_assert_eq!(sent(Content::raw(slices)), parts.concat());
        }
    }
}
