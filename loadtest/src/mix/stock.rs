//! Text that the bodies of letters are cut from: made before the run, since whoever writes ten megabytes word by word
//! is late for all that is due meanwhile.
//!
//! A body begins at a line and ends with one. Any two are as good as never alike, and none has a line that begins with
//! a dot.

use crate::imap::fill::fill_body;
use crate::plan::random::Random;

pub struct Stock(Vec<u8>);

/// With its end.
const LINE_BYTES: usize = 74;

/// Lines that a body may begin at.
const BEGINNINGS: usize = 10_000;

impl Stock {
    /// For bodies of at most so many bytes.
    pub fn new(bytes_max: usize) -> Self {
        let lines = BEGINNINGS + bytes_max.div_ceil(LINE_BYTES);
        let mut text = Vec::with_capacity(lines * LINE_BYTES);
        fill_body(&mut text, 0, lines * LINE_BYTES);
        Self(text)
    }

    /// Whole lines, so many bytes and up to a line more.
    pub fn cut(&self, bytes: usize, random: &mut Random) -> &[u8] {
        let from = random.below(BEGINNINGS) * LINE_BYTES;
        let end = from + bytes.div_ceil(LINE_BYTES) * LINE_BYTES;
        &self.0[from..end.min(self.0.len())]
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::{LINE_BYTES, Stock};
    use crate::plan::random::Random;

    #[test]
    fn bodies_are_whole_lines_and_differ() {
        let (stock, mut random) = (Stock::new(1 << 20), Random::new(1, 0));
        let mut seen = BTreeSet::new();
        for bytes in [0, 1, 74, 75, 1000, 70_000, 1 << 20] {
            for _ in 0..5 {
                let body = stock.cut(bytes, &mut random);
                assert!((bytes..bytes + LINE_BYTES).contains(&body.len()), "{} for {bytes}", body.len());
                for line in body.chunks(LINE_BYTES) {
                    assert!(line.ends_with(b"\r\n") && line.len() == LINE_BYTES, "{line:?}");
                    assert!(line[0] != b'.' && !line[..LINE_BYTES - 2].contains(&b'\n'), "{line:?}");
                }
                assert!(bytes == 0 || seen.insert(body.to_vec()), "the same body twice");
            }
        }
    }
}
