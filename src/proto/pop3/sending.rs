//! Responses of many lines on their way out, in bursts: listings, and messages with their dots doubled.
//!
//! A message is not copied: the runs between two doubled dots go out as parts of its slice. TOP is found while
//! it is sent, so a burst looks at no more bytes than it may send.
//!
//! What came as BINARYMIME may hold a CR or an LF alone. Many clients take an LF for the end of a line, and would take
//! a dot behind it for the end of the message and the rest for our replies. So a space is sent for each, and the octets
//! are as many as were counted; what is binary in such a message cannot go by lines anyway.
//!
//! Invariants: work and output of one burst are bounded; every response ends in CRLF, a dot and CRLF, once; a CR or
//! LF is sent as half of a CRLF alone; a line that begins with a dot gets another (RFC 1939 3).

use std::ops::Range;

use memchr::memmem;

use crate::bytes::{Output, Slice};
use crate::limits::pop3::OUTPUT_BURST_BYTES;
use crate::mail::line_ends;
use crate::proto::pop3::Maildrop;
use crate::proto::pop3::reply::{end_of_lines, line};

/// Rows of a listing that are looked at in one burst, deleted ones too.
const ROWS_PER_BURST: u32 = 8192;

/// A response that is not complete.
#[derive(Debug)]
pub(super) enum Sending {
    Listing(Listing),
    Message(Message),
}

/// What a listing says of each message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Column {
    Octets,
    UniqueId,
}

/// LIST or UIDL without an argument.
#[derive(Debug)]
pub(super) struct Listing {
    column: Column,
    next_number: u32,
}

/// RETR or TOP.
#[derive(Debug)]
pub(super) struct Message {
    message: Slice,
    /// Bytes that are sent.
    sent: usize,
    extent: Extent,
}

/// Where a message ends for this response.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Extent {
    Whole,
    /// TOP, and the end of the header is not found yet.
    Header {
        lines: u64,
    },
    /// TOP: so many lines of the body are still wanted.
    Lines {
        lines: u64,
    },
    /// TOP, found: the bytes before this.
    Until(usize),
}

impl Sending {
    /// Appends what one burst holds; true when the response is complete.
    pub fn poll(&mut self, maildrop: &Maildrop, out: &mut Output) -> bool {
        match self {
            Self::Listing(listing) => listing.poll(maildrop, out),
            Self::Message(message) => message.poll(out),
        }
    }
}

impl Listing {
    pub fn new(column: Column) -> Self {
        Self { column, next_number: 1 }
    }

    fn poll(&mut self, maildrop: &Maildrop, out: &mut Output) -> bool {
        let last = maildrop.numbers_max();
        let burst_last = last.min(self.next_number.saturating_add(ROWS_PER_BURST));
        while self.next_number <= burst_last && out.len() < OUTPUT_BURST_BYTES {
            self.push_row(self.next_number, maildrop, out);
            self.next_number += 1;
        }
        let is_complete = self.next_number > last;
        if is_complete {
            end_of_lines(out);
        }
        is_complete
    }

    fn push_row(&self, number: u32, maildrop: &Maildrop, out: &mut Output) {
        let Some(index) = maildrop.index(number) else {
            return;
        };
        match self.column {
            Column::Octets => line(out, format_args!("{number} {}", maildrop.octets_of(index))),
            Column::UniqueId => line(out, format_args!("{number} {}", maildrop.unique_id_of(index))),
        }
    }
}

impl Message {
    pub fn whole(message: Slice) -> Self {
        Self { message, sent: 0, extent: Extent::Whole }
    }

    /// The header, the line between, and so many lines of the body.
    pub fn top(message: Slice, lines: u64) -> Self {
        // A message without any field begins with the empty line.
        let extent = match message.starts_with(b"\r\n") {
            true if lines == 0 => Extent::Until(2),
            true => Extent::Lines { lines: lines.saturating_add(1) },
            false => Extent::Header { lines },
        };
        Self { message, sent: 0, extent }
    }

    /// Octets that RETR sends, before dots are doubled, with the final CRLF that the message may lack.
    pub fn octets(&self) -> u64 {
        let missing = if self.is_unended() { 2 } else { 0 };
        self.message.len() as u64 + missing
    }

    fn poll(&mut self, out: &mut Output) -> bool {
        let room = OUTPUT_BURST_BYTES.saturating_sub(out.len());
        let window_end = self.message.len().min(self.sent + room);
        self.find_extent(window_end);
        let (burst_end, end) = match self.extent {
            Extent::Until(end) => (end.min(window_end), end),
            _ => (window_end, self.message.len()),
        };
        self.push_stuffed(burst_end, out);
        if self.sent < end || room == 0 {
            return false;
        }
        if end == self.message.len() && self.is_unended() {
            out.push(b"\r\n");
        }
        end_of_lines(out);
        true
    }

    /// Looks for the end of TOP before `window_end`.
    fn find_extent(&mut self, window_end: usize) {
        let window = &self.message[..window_end];
        if let Extent::Header { lines } = self.extent {
            // The empty line may have begun in the burst before.
            let from = self.sent.saturating_sub(3);
            let Some(found) = memmem::find(&window[from..], b"\r\n\r\n") else {
                return;
            };
            self.extent = self.until_line(from + found + 4, lines, window_end);
        } else if let Extent::Lines { lines } = self.extent {
            self.extent = self.until_line(self.sent, lines, window_end);
        }
    }

    /// The place behind `lines` lines from `from` on, or how many are wanted beyond the window.
    fn until_line(&self, from: usize, lines: u64, window_end: usize) -> Extent {
        if lines == 0 {
            return Extent::Until(from);
        }
        // The CR of the first line's end may be the last byte of the burst before.
        let begin = match from == self.sent {
            true => from.saturating_sub(1),
            false => from,
        };
        let mut wanted = lines;
        for found in memmem::find_iter(&self.message[begin..window_end], b"\r\n") {
            wanted -= 1;
            if wanted == 0 {
                return Extent::Until(begin + found + 2);
            }
        }
        Extent::Lines { lines: wanted }
    }

    /// Sends up to `end`, with a dot before each dot that begins a line.
    fn push_stuffed(&mut self, end: usize, out: &mut Output) {
        if self.sent == 0 && end > 0 && self.message[0] == b'.' {
            out.push(b".");
        }
        // A line's end may lie in the burst before, so that its dot is the first byte of this one.
        let from = self.sent.saturating_sub(2);
        let mut run = self.sent;
        for found in memmem::find_iter(&self.message[from..end], b"\r\n.") {
            let dot = from + found + 2;
            self.push_run(run..dot, out);
            out.push(b".");
            run = dot;
        }
        if run < end {
            self.push_run(run..end, out);
        }
        self.sent = end;
    }

    /// Sends a run as it is, but for a CR or LF that stands alone.
    fn push_run(&self, run: Range<usize>, out: &mut Output) {
        let message = &*self.message;
        let before = run.start.checked_sub(1).map_or(0, |at| message[at]);
        let is_return_alone = |at: usize| message[at] == b'\r' && message.get(at + 1) != Some(&b'\n');
        let is_feed_alone = |at: usize| message[at] == b'\n' && (at == 0 || message[at - 1] != b'\r');
        let ends_in_return = run.end > run.start && is_return_alone(run.end - 1);
        if !ends_in_return && !line_ends::has_stray(before, &message[run.clone()]) {
            return out.push_slice(self.message.part(run));
        }
        let is_alone = |at: usize| is_return_alone(at) || is_feed_alone(at);
        out.text_mut().extend(run.map(|at| if is_alone(at) { b' ' } else { message[at] }));
    }

    /// The message does not end with a line's end (RFC 1939 3: what we send does).
    fn is_unended(&self) -> bool {
        !line_ends::is_ended(&self.message)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{Just, Strategy, any, prop_assert_eq, prop_oneof, proptest};
    use proptest::{collection, option};

    use super::{Column, Listing, Message, Sending};
    use crate::bytes::{Chunk, Output, Slice};
    use crate::limits::pop3::OUTPUT_BURST_BYTES;
    use crate::proto::pop3::Maildrop;

    /// All of it, burst by burst; each burst begins in an output that holds `held` bytes already.
    fn sent(mut message: Message, held: usize) -> Vec<u8> {
        let mut all = Vec::new();
        loop {
            let mut out = Output::new();
            out.push(&vec![b'#'; held]);
            let is_complete = message.poll(&mut out);
            assert!(out.len() <= 2 * OUTPUT_BURST_BYTES + 8);
            all.extend_from_slice(&out.to_vec()[held..]);
            if is_complete {
                return all;
            }
        }
    }

    /// The same, written the slow way.
    fn expected(message: &[u8], lines: Option<u64>) -> Vec<u8> {
        let is_alone = |at: usize| match message[at] {
            b'\r' => message.get(at + 1) != Some(&b'\n'),
            b'\n' => at == 0 || message[at - 1] != b'\r',
            _ => false,
        };
        let told = |at: usize| if is_alone(at) { b' ' } else { message[at] };
        let message: &[u8] = &(0..message.len()).map(told).collect::<Vec<_>>();
        let mut kept: Vec<&[u8]> = Vec::new();
        let mut left = None;
        let mut rest = message;
        while !rest.is_empty() && left != Some(0) {
            let end = rest.windows(2).position(|pair| pair == b"\r\n").map_or(rest.len(), |at| at + 2);
            let (line, after) = rest.split_at(end);
            kept.push(line);
            rest = after;
            left = match (left, lines) {
                (Some(left), _) => Some(left - 1),
                (None, Some(lines)) if line == b"\r\n" => Some(lines),
                _ => None,
            };
        }
        let stuffed = kept.iter().flat_map(|line| {
            let dot: &[u8] = if line.starts_with(b".") { b"." } else { b"" };
            [dot, line]
        });
        let mut all: Vec<u8> = stuffed.collect::<Vec<_>>().concat();
        if !all.is_empty() && !all.ends_with(b"\r\n") {
            all.extend_from_slice(b"\r\n");
        }
        all.extend_from_slice(b".\r\n");
        all
    }

    #[test]
    fn dots_ends_and_tops() {
        let table: &[(&[u8], Option<u64>, &[u8])] = &[
            (b"", None, b".\r\n"),
            (b"", Some(3), b".\r\n"),
            (b".", None, b"..\r\n.\r\n"),
            (b".\r\n.\r\n..\r\n", None, b"..\r\n..\r\n...\r\n.\r\n"),
            (b"A: b\r\n\r\n.x", None, b"A: b\r\n\r\n..x\r\n.\r\n"),
            (b"A: b\r\n\r\n1\r\n2\r\n", Some(0), b"A: b\r\n\r\n.\r\n"),
            (b"A: b\r\n\r\n1\r\n2\r\n", Some(1), b"A: b\r\n\r\n1\r\n.\r\n"),
            (b"A: b\r\n\r\n1\r\n2\r\n", Some(2), b"A: b\r\n\r\n1\r\n2\r\n.\r\n"),
            (b"A: b\r\n\r\n1\r\n2", Some(u64::MAX), b"A: b\r\n\r\n1\r\n2\r\n.\r\n"),
            (b"A: b\r\n", Some(0), b"A: b\r\n.\r\n"),
            (b"A: b", Some(0), b"A: b\r\n.\r\n"),
            (b"\r\n1\r\n2\r\n", Some(1), b"\r\n1\r\n.\r\n"),
            (b"\r\n1\r\n", Some(0), b"\r\n.\r\n"),
            (b"\r\n\r\n\r\n", Some(1), b"\r\n\r\n.\r\n"),
            (b"A: b\r\n\r\n\n.\n", None, b"A: b\r\n\r\n . \r\n.\r\n"),
            (
                b"A: b\n\r\n\r\nx\n.\n+OK 5\r.\r\r\n\n\r\n.\r",
                None,
                b"A: b \r\n\r\nx . +OK 5 . \r\n \r\n.. \r\n.\r\n",
            ),
            (b"\nA: b\r\n\r\n1\n2\r\n3\r\n", Some(1), b" A: b\r\n\r\n1 2\r\n.\r\n"),
        ];
        for (bytes, lines, wire) in table {
            let message = Slice::from(bytes.to_vec());
            let sending =
                lines.map_or_else(|| Message::whole(message.clone()), |n| Message::top(message.clone(), n));
            assert_eq!(
                sent(sending, 0).escape_ascii().to_string(),
                wire.escape_ascii().to_string(),
                "{lines:?}"
            );
            assert_eq!(expected(bytes, *lines), *wire);
        }
    }

    #[test]
    fn octets_are_those_before_dots_are_doubled() {
        let table: [(&[u8], u64); 4] = [(b"", 0), (b".\r\n", 3), (b"x", 3), (b"x\r", 4)];
        for (bytes, octets) in table {
            assert_eq!(Message::whole(Slice::from(bytes.to_vec())).octets(), octets);
        }
    }

    #[test]
    fn a_large_message_is_not_copied() {
        let mut bytes = b"Subject: large\r\n\r\n".to_vec();
        bytes.extend(std::iter::repeat_n(b'x', 1 << 20));
        let mut message = Message::whole(Slice::from(bytes.clone()));
        let (mut copied, mut all) = (0, Vec::new());
        loop {
            let mut out = Output::new();
            let is_complete = message.poll(&mut out);
            for chunk in out.chunks() {
                copied += matches!(chunk, Chunk::Text(_)).then(|| chunk.bytes().len()).unwrap_or(0);
                all.extend_from_slice(chunk.bytes());
            }
            if is_complete {
                break;
            }
        }
        assert_eq!(all, expected(&bytes, None));
        assert!(copied < 4096);
    }

    #[test]
    fn listings_come_in_bursts() {
        let mut maildrop = Maildrop::new(1, (1..=20_000).map(|uid| (uid, 10)));
        (5..=19_990).for_each(|number| maildrop.mark(maildrop.index(number).expect("it is not marked")));
        let mut sending = Sending::Listing(Listing::new(Column::Octets));
        let (mut out, mut bursts) = (Output::new(), 1);
        while !sending.poll(&maildrop, &mut out) {
            bursts += 1;
        }
        let text = String::from_utf8(out.to_vec()).expect("it is ASCII");
        assert!(
            text.starts_with("1 10\r\n2 10\r\n3 10\r\n4 10\r\n19991 10\r\n")
                && text.ends_with("20000 10\r\n.\r\n")
        );
        assert_eq!(bursts, 3);
    }

    proptest! {
        #[test]
        fn no_burst_matters(
            pieces in collection::vec(
                prop_oneof![Just(b"\r\n".to_vec()), Just(b".".to_vec()), Just(b"\r".to_vec()), any::<[u8; 2]>().prop_map(Vec::from)],
                0..40,
            ),
            lines in option::of(0_u64..6),
            burst in 1_usize..9,
        ) {
            let bytes = pieces.concat();
            let message = Slice::from(bytes.clone());
            let start = || lines.map_or_else(|| Message::whole(message.clone()), |n| Message::top(message.clone(), n));
            let held = OUTPUT_BURST_BYTES - burst;
            prop_assert_eq!(sent(start(), held), expected(&bytes, lines));
            prop_assert_eq!(sent(start(), 0), expected(&bytes, lines));
        }
    }
}
