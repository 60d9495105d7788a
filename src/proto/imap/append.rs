//! The message of an APPEND on its way in: octets of a literal, in pieces, into a body buffer.
//!
//! A bare CR or LF becomes a line end, since outside of BINARY nothing that is emitted later may hold one
//! (RFC 5322 2.3); a literal8 is taken as it is.
//!
//! Invariants: the buffer stays near `limits::BODY_IN_MEMORY_BYTES_MAX`: when it is full the driver takes it;
//! what the message becomes does not depend on how its octets were cut.

use memchr::{memchr, memchr2_iter};

use crate::limits::BODY_IN_MEMORY_BYTES_MAX;

/// A message that is coming.
#[derive(Debug)]
pub struct Append {
    /// What the driver put in front, and the message so far; less what the driver has taken.
    body: Vec<u8>,
    /// Octets that have not come yet.
    left: u64,
    /// Octets that the message may still grow by.
    room: u64,
    form: Form,
    /// The last octet was a CR, whose line end has been written.
    after_cr: bool,
}

/// What the octets may be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Form {
    /// No NUL; only whole line ends.
    Text,
    /// A literal8: anything.
    Binary,
}

/// How far a message has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Progress {
    /// It wants more.
    More,
    /// The buffer is full.
    Full,
    /// All octets are here.
    Complete,
    /// There is a NUL in it.
    Nul,
    /// Completing its line ends has made it too large.
    TooBig,
}

impl Append {
    /// A message of `size` octets that may become `bytes_max` long.
    pub fn new(prefix: Vec<u8>, size: u64, bytes_max: u64, form: Form) -> Self {
        Self { body: prefix, left: size, room: bytes_max, form, after_cr: false }
    }

    /// Takes octets; says how many it took.
    pub fn take(&mut self, input: &[u8]) -> (usize, Progress) {
        let room = BODY_IN_MEMORY_BYTES_MAX.saturating_sub(self.body.len()).max(1);
        let wanted = usize::try_from(self.left).unwrap_or(usize::MAX);
        let mut octets = &input[..input.len().min(room).min(wanted)];
        let nul = (self.form == Form::Text).then(|| memchr(0, octets)).flatten();
        if let Some(nul) = nul {
            octets = &octets[..nul];
        }
        let before = self.body.len();
        match self.form {
            Form::Binary => self.body.extend_from_slice(octets),
            Form::Text => self.write_lines(octets),
        }
        self.left -= octets.len() as u64;
        let grown = (self.body.len() - before) as u64;
        let progress = match self.room.checked_sub(grown) {
            None => Progress::TooBig,
            Some(_) if nul.is_some() => Progress::Nul,
            Some(room) => {
                self.room = room;
                self.progress()
            }
        };
        (octets.len(), progress)
    }

    /// How far the message has come, without more octets.
    pub fn progress(&self) -> Progress {
        if self.left == 0 {
            Progress::Complete
        } else if self.body.len() >= BODY_IN_MEMORY_BYTES_MAX {
            Progress::Full
        } else {
            Progress::More
        }
    }

    /// Octets that have not come yet.
    pub fn left(&self) -> u64 {
        self.left
    }

    /// Bytes of the message that are in memory.
    pub fn held_bytes(&self) -> usize {
        self.body.len()
    }

    /// The body so far.
    pub fn take_body(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.body)
    }

    /// Every CR writes a line end, and so does an LF without a CR before it.
    fn write_lines(&mut self, octets: &[u8]) {
        let mut from = 0;
        for at in memchr2_iter(b'\r', b'\n', octets) {
            let follows_cr = match at.checked_sub(1) {
                Some(before) => octets[before] == b'\r',
                None => self.after_cr,
            };
            self.body.extend_from_slice(&octets[from..at]);
            if octets[at] == b'\r' || !follows_cr {
                self.body.extend_from_slice(b"\r\n");
            }
            from = at + 1;
        }
        self.body.extend_from_slice(&octets[from..]);
        if let Some(last) = octets.last() {
            self.after_cr = *last == b'\r';
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{Just, any, prop_oneof, proptest};
    use proptest::{collection, prop_assert_eq};

    use super::{Append, BODY_IN_MEMORY_BYTES_MAX, Form, Progress};

    /// The body of a message that comes in pieces, or what is wrong with it.
    fn appended(octets: &[u8], step: usize, form: Form) -> Result<Vec<u8>, Progress> {
        let mut append = Append::new(b"prefix ".to_vec(), octets.len() as u64, 1 << 20, form);
        for mut piece in octets.chunks(step) {
            while !piece.is_empty() {
                let (taken, progress) = append.take(piece);
                piece = &piece[taken..];
                if !matches!(progress, Progress::More | Progress::Complete) {
                    return Err(progress);
                }
            }
        }
        assert_eq!(append.progress(), Progress::Complete);
        Ok(append.take_body())
    }

    #[test]
    fn line_ends_become_whole() {
        for (octets, expected) in [
            ("a\r\nb\r\n", "a\r\nb\r\n"),
            ("a\nb", "a\r\nb"),
            ("a\rb", "a\r\nb"),
            ("\n\n", "\r\n\r\n"),
            ("\r\r\n\r", "\r\n\r\n\r\n"),
            ("", ""),
        ] {
            for step in 1..3 {
                let body = appended(octets.as_bytes(), step, Form::Text);
                assert_eq!(body, Ok(format!("prefix {expected}").into_bytes()), "{octets:?}");
            }
        }
        assert_eq!(appended(b"a\0b", 1, Form::Text), Err(Progress::Nul));
        assert_eq!(appended(b"a\0\nb", 1, Form::Binary), Ok(b"prefix a\0\nb".to_vec()));
    }

    #[test]
    fn a_full_buffer_is_handed_over() {
        let octets = vec![b'x'; 2 * BODY_IN_MEMORY_BYTES_MAX + 10];
        let mut append = Append::new(Vec::new(), octets.len() as u64, 1 << 20, Form::Text);
        let mut bodies = Vec::new();
        let mut rest = octets.as_slice();
        while append.progress() != Progress::Complete {
            let (taken, progress) = append.take(rest);
            rest = &rest[taken..];
            if progress != Progress::More {
                bodies.push(append.take_body().len());
            }
        }
        assert_eq!(bodies, [BODY_IN_MEMORY_BYTES_MAX, BODY_IN_MEMORY_BYTES_MAX, 10]);
    }

    #[test]
    fn line_ends_count_against_the_bound() {
        let mut append = Append::new(Vec::new(), 6, 10, Form::Text);
        assert_eq!(append.take(b"\n\n\n\n\n\n"), (6, Progress::TooBig));
    }

    proptest! {
        #[test]
        fn no_split_matters(
            octets in collection::vec(prop_oneof![Just(b'\r'), Just(b'\n'), any::<u8>()], 0..60),
            step in 1_usize..7,
        ) {
            let whole = appended(&octets, 60, Form::Text);
            prop_assert_eq!(appended(&octets, step, Form::Text), whole);
        }
    }
}
