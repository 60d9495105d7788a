//! The data of a message as it streams in: dots taken away, head kept, body summed.

use crc32fast::Hasher;
use memchr::memmem;

use crate::ledger::Mark;

/// A message that is not over.
pub struct Data {
    head: Vec<u8>,
    is_body: bool,
    body: Hasher,
    bytes: u64,
    is_line_start: bool,
}

/// What a message was.
pub struct Taken {
    pub mark: Option<Mark>,
    pub checksum: u32,
    pub bytes: u64,
}

/// Header sections beyond this are not looked at for marks.
const HEAD_BYTES_MAX: usize = 64 << 10;

impl Default for Data {
    fn default() -> Self {
        Self { head: Vec::new(), is_body: false, body: Hasher::new(), bytes: 0, is_line_start: true }
    }
}

impl Data {
    /// Takes what belongs to the message; says how much that was, and whether it is over.
    pub fn take_dotted(&mut self, input: &[u8]) -> (usize, bool) {
        let mut used = 0;
        loop {
            let rest = &input[used..];
            if self.is_line_start {
                match rest {
                    [b'.', b'\r', b'\n', ..] => return (used + 3, true),
                    // Not enough to know.
                    [] | [b'.'] | [b'.', b'\r'] => return (used, false),
                    // RFC 5321, section 4.5.2.
                    [b'.', ..] => used += 1,
                    _ => {}
                }
                self.is_line_start = false;
            }
            let rest = &input[used..];
            match memmem::find(rest, b"\r\n.") {
                Some(at) => {
                    self.take_plain(&rest[..at + 2]);
                    used += at + 2;
                    self.is_line_start = true;
                }
                None => {
                    // A CRLF at the end may be followed by a dot.
                    let kept = if rest.ends_with(b"\r\n") { 2 } else { usize::from(rest.ends_with(b"\r")) };
                    self.take_plain(&rest[..rest.len() - kept]);
                    return (input.len() - kept, false);
                }
            }
        }
    }

    /// Takes bytes as they are, as those of BDAT.
    pub fn take_plain(&mut self, bytes: &[u8]) {
        self.bytes += bytes.len() as u64;
        if self.is_body {
            return self.body.update(bytes);
        }
        let searched = self.head.len().saturating_sub(3);
        self.head.extend_from_slice(bytes);
        if let Some(at) = memmem::find(&self.head[searched..], b"\r\n\r\n") {
            let body = self.head.split_off(searched + at + 4);
            self.body.update(&body);
            self.is_body = true;
        } else if self.head.len() > HEAD_BYTES_MAX {
            self.is_body = true;
        }
    }

    pub fn end(self) -> Taken {
        Taken { mark: Mark::find(&self.head), checksum: self.body.finalize(), bytes: self.bytes }
    }
}

#[cfg(test)]
mod tests {
    use super::Data;

    const WIRE: &[u8] = b"Subject: x\r\nX-Loadtest: r 1 2 0000000a\r\n\r\n..one\r\ntwo\r\n\r\n.\r\n";

    #[test]
    fn data_is_the_same_however_it_is_cut() {
        for first in 0..=WIRE.len() {
            for second in first..=WIRE.len() {
                let mut data = Data::default();
                let (mut kept, mut over) = (Vec::new(), false);
                for part in [&WIRE[..first], &WIRE[first..second], &WIRE[second..], b"QUIT\r\n"] {
                    kept.extend_from_slice(part);
                    if !over {
                        let (used, is_over) = data.take_dotted(&kept);
                        kept.drain(..used);
                        over = is_over;
                    }
                }
                assert!(over);
                assert_eq!(kept, b"QUIT\r\n");
                let taken = data.end();
                assert_eq!(taken.checksum, crc32fast::hash(b".one\r\ntwo\r\n\r\n"));
                assert_eq!(taken.mark.map(|mark| mark.checksum), Some(10));
            }
        }
    }
}
