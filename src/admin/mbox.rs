//! Mailboxes as one file: mbox, in its `mboxrd` form.
//!
//! ```text
//!   From bob@example.org Thu Jan  1 00:00:00 2026
//!   Status: RO                       flags: R is \Seen
//!   X-Status: AF                     A \Answered, F \Flagged, D \Deleted, T \Draft
//!   Subject: hello
//!
//!   >From here on a line that would look like a separator has one ">" more.
//!
//!   From …
//! ```
//!
//! A separator stands at the beginning of the file or after an empty line, and has a time of day in it; lines that only
//! begin with "From " are text. The fields that keep flags are the file's, not the message's: they are written
//! in front of it and taken out when it is read.
//!
//! Invariants: what is written reads back byte for byte, if its lines end with CRLF and its last line has an
//! end; memory is bounded by the largest message that is wanted.

use std::io::{self, BufRead, Read, Write};

use crate::admin::line_ends::{to_crlf, to_lf};
use crate::mail::date::{Rfc5322, parse_rfc5322};
use crate::mail::flags::{Flags, SystemFlags};
use crate::mail::time::Timestamp;

/// A longer line is read in pieces, and only its first can be a separator or quoted.
const LINE_BYTES_MAX: u64 = 64 << 10;

const FLAG_FIELDS: [&[u8]; 3] = [b"status:", b"x-status:", b"x-keywords:"];

const STATUS_LETTERS: [(u8, SystemFlags); 5] = [
    (b'R', SystemFlags::SEEN),
    (b'A', SystemFlags::ANSWERED),
    (b'F', SystemFlags::FLAGGED),
    (b'D', SystemFlags::DELETED),
    (b'T', SystemFlags::DRAFT),
];

/// The messages of a file, in order.
pub struct Messages<R> {
    reader: R,
    message_bytes_max: u64,
    /// The separator of the message that comes next.
    separator: Option<Vec<u8>>,
    line: Vec<u8>,
}

/// What stands between two separators.
#[derive(Debug, PartialEq, Eq)]
pub enum Item {
    Message(Message),
    /// More than is wanted, and so left out.
    TooLarge {
        bytes: u64,
    },
}

#[derive(Debug, PartialEq, Eq)]
pub struct Message {
    pub flags: Flags,
    /// From the separator.
    pub date: Option<Timestamp>,
    /// Its lines end with CRLF.
    pub bytes: Vec<u8>,
}

impl<R: BufRead> Messages<R> {
    /// The messages that `reader` holds; an error if it is not an mbox.
    pub fn of(mut reader: R, message_bytes_max: u64) -> io::Result<Self> {
        let mut line = Vec::new();
        // Empty lines in front are harmless.
        while read_piece(&mut reader, &mut line)? && is_empty(&line) {}
        if !line.is_empty() && !is_separator(&line) {
            let text = "it does not begin with a \"From \" line, so it is no mbox";
            return Err(io::Error::new(io::ErrorKind::InvalidData, text));
        }
        let separator = (!line.is_empty()).then(|| line.clone());
        Ok(Self { reader, message_bytes_max, separator, line })
    }

    fn read(&mut self, separator: &[u8]) -> io::Result<Item> {
        let mut raw = Raw::default();
        let (mut is_line_start, mut is_after_empty) = (true, true);
        while read_piece(&mut self.reader, &mut self.line)? {
            if is_line_start && is_after_empty && is_separator(&self.line) {
                self.separator = Some(self.line.clone());
                break;
            }
            let line = if is_line_start { unquoted(&self.line) } else { &self.line };
            raw.push(line, self.message_bytes_max);
            is_after_empty = is_line_start && is_empty(&self.line);
            is_line_start = self.line.ends_with(b"\n");
        }
        if raw.count > self.message_bytes_max {
            return Ok(Item::TooLarge { bytes: raw.count });
        }
        Ok(Item::Message(raw.into_message(separator)))
    }
}

impl<R: BufRead> Iterator for Messages<R> {
    type Item = io::Result<Item>;

    fn next(&mut self) -> Option<io::Result<Item>> {
        let separator = self.separator.take()?;
        Some(self.read(&separator))
    }
}

/// The octets between two separators, as far as they are wanted.
#[derive(Default)]
struct Raw {
    bytes: Vec<u8>,
    count: u64,
}

impl Raw {
    fn push(&mut self, line: &[u8], bytes_max: u64) {
        self.count += line.len() as u64;
        match self.count <= bytes_max {
            true => self.bytes.extend_from_slice(line),
            false => self.bytes = Vec::new(),
        }
    }

    fn into_message(self, separator: &[u8]) -> Message {
        let mut bytes = to_crlf(&self.bytes);
        // The empty line in front of the next separator belongs to the file.
        if bytes.ends_with(b"\r\n\r\n") {
            bytes.truncate(bytes.len() - 2);
        }
        let mut flags = Flags::default();
        let bytes = without_flag_fields(&bytes, &mut flags);
        Message { flags, date: separator_date(separator), bytes }
    }
}

/// Writes one message at the end of a file.
pub fn write(out: &mut impl Write, flags: &Flags, date: Timestamp, bytes: &[u8]) -> io::Result<()> {
    writeln!(out, "From MAILER-DAEMON {}", asctime(date))?;
    writeln!(out, "Status: {}O", letters(flags, &STATUS_LETTERS[..1]))?;
    let more = letters(flags, &STATUS_LETTERS[1..]);
    if !more.is_empty() {
        writeln!(out, "X-Status: {more}")?;
    }
    if !flags.keywords.is_empty() {
        writeln!(out, "X-Keywords: {}", flags.keywords.join(" "))?;
    }
    let text = to_lf(bytes);
    for line in text.split_inclusive(|byte| *byte == b'\n') {
        let without_quotes = line.iter().position(|byte| *byte != b'>').map_or(line, |start| &line[start..]);
        if without_quotes.starts_with(b"From ") {
            out.write_all(b">")?;
        }
        out.write_all(line)?;
    }
    out.write_all(if text.ends_with(b"\n") { b"\n" } else { b"\n\n" })
}

fn letters(flags: &Flags, letters: &[(u8, SystemFlags)]) -> String {
    let set = letters.iter().filter(|(_, flag)| flags.system.contains(*flag));
    set.map(|(letter, _)| char::from(*letter)).collect()
}

/// Reads a line, or a piece of a very long one, into `line`; false at the end.
fn read_piece(reader: &mut impl BufRead, line: &mut Vec<u8>) -> io::Result<bool> {
    line.clear();
    reader.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', line)?;
    Ok(!line.is_empty())
}

fn is_empty(line: &[u8]) -> bool {
    line == b"\n" || line == b"\r\n"
}

fn is_separator(line: &[u8]) -> bool {
    // `hh:mm`: sentences that begin with "From " seldom have one.
    line.starts_with(b"From ")
        && line.windows(5).any(|word| {
            word[2] == b':'
                && [0, 1, 3, 4].iter().all(|index| word[*index].is_ascii_digit() || word[*index] == b' ')
        })
}

/// One ">" less in front of "From ".
fn unquoted(line: &[u8]) -> &[u8] {
    let quotes = line.iter().take_while(|byte| **byte == b'>').count();
    if quotes > 0 && line[quotes..].starts_with(b"From ") { &line[1..] } else { line }
}

/// The date of `From sender Thu Jan  1 00:00:00 2026`, perhaps with a zone somewhere behind the time.
fn separator_date(line: &[u8]) -> Option<Timestamp> {
    let text = String::from_utf8_lossy(line);
    let words: Vec<&str> = text.split_ascii_whitespace().collect();
    let time = words.iter().position(|word| word.contains(':'))?;
    let (month, day) = (words.get(time.checked_sub(2)?)?, words.get(time - 1)?);
    let after = words.get(time + 1..)?;
    let year = after.iter().find(|word| word.len() == 4 && word.bytes().all(|byte| byte.is_ascii_digit()))?;
    let zone = after.iter().find(|word| word.starts_with(['+', '-'])).unwrap_or(&"+0000");
    parse_rfc5322(format!("{day} {month} {year} {} {zone}", words[time]).as_bytes())
}

/// `Thu Jan  1 00:00:00 2026`, in UTC.
fn asctime(date: Timestamp) -> String {
    let text = Rfc5322(Timestamp { zone_minutes: 0, ..date }).to_string();
    let words: Vec<&str> = text.split([' ', ',']).filter(|word| !word.is_empty()).collect();
    match words[..] {
        [weekday, day, month, year, time, ..] => {
            format!("{weekday} {month} {:>2} {time} {year}", day.trim_start_matches('0'))
        }
        _ => "Thu Jan  1 00:00:00 1970".to_owned(),
    }
}

/// The message without the fields that keep flags; what they say goes to `flags`.
fn without_flag_fields(bytes: &[u8], flags: &mut Flags) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    let mut is_dropping = false;
    while !rest.is_empty() && !is_empty(rest.get(..2).unwrap_or_default()) {
        let end = memchr::memchr(b'\n', rest).map_or(rest.len(), |end| end + 1);
        let (line, after) = rest.split_at(end);
        rest = after;
        let is_folded = line.starts_with(b" ") || line.starts_with(b"\t");
        if !is_folded {
            is_dropping = read_flag_field(line, flags);
        }
        if !is_dropping {
            out.extend_from_slice(line);
        }
    }
    out.extend_from_slice(rest);
    out
}

/// Whether the line is a field that keeps flags.
fn read_flag_field(line: &[u8], flags: &mut Flags) -> bool {
    let name_matches =
        |name: &&&[u8]| line.get(..name.len()).is_some_and(|found| found.eq_ignore_ascii_case(name));
    let Some(name) = FLAG_FIELDS.iter().find(name_matches) else {
        return false;
    };
    let value = &line[name.len()..];
    if name.starts_with(b"x-k") {
        let words = String::from_utf8_lossy(value);
        words.split_ascii_whitespace().for_each(|keyword| flags.add_keyword(keyword));
        return true;
    }
    for (letter, flag) in STATUS_LETTERS {
        if value.contains(&letter) {
            flags.system |= flag;
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use std::io::BufReader;

    use proptest::collection;
    use proptest::prelude::{ProptestConfig, any, proptest};

    use super::{Item, Message, Messages, asctime, separator_date, write};
    use crate::mail::flags::{Flags, SystemFlags};
    use crate::mail::time::Timestamp;

    fn read(file: &[u8], capacity: usize) -> Vec<Item> {
        let reader = BufReader::with_capacity(capacity, file);
        Messages::of(reader, 10_000).unwrap().map(|item| item.unwrap()).collect()
    }

    fn message(item: &Item) -> &Message {
        match item {
            Item::Message(message) => message,
            Item::TooLarge { bytes } => panic!("{bytes} bytes are too many"),
        }
    }

    #[test]
    fn a_file_of_another_program() {
        let file = b"From bob@example.org Thu Jan  1 10:20:30 2026\n\
            Status: RO\nX-Status: AF\nSubject: one\nX-Keywords: NonJunk\n $Label1 work\n\n\
            >From the start\n>>From more\nFrom here on it is text\n\nFrom me to you, no time\n\nlast\n\n\
            From MAILER-DAEMON Sat Jan 10 00:00:00 +0100 2026\r\n\r\nno header\r\n\r\n\r\n\
            From x Sat Jan 10 00:00:00 2026 -0130\n";
        for capacity in [1, 5, 8192] {
            let items = read(file, capacity);
            assert_eq!(items.len(), 3);
            let first = message(&items[0]);
            let text = "Subject: one\r\n\r\nFrom the start\r\n>From more\r\nFrom here on it is text\r\n\r\n\
                From me to you, no time\r\n\r\nlast\r\n";
            assert_eq!(String::from_utf8_lossy(&first.bytes), text);
            assert_eq!(first.flags.system, SystemFlags::SEEN | SystemFlags::ANSWERED | SystemFlags::FLAGGED);
            assert_eq!(first.flags.keywords, ["NonJunk"]);
            assert_eq!(first.date, Some(Timestamp { seconds: 1_767_262_830, zone_minutes: 0 }));
            assert_eq!(message(&items[1]).bytes, b"\r\nno header\r\n\r\n");
            assert_eq!(message(&items[1]).date, Some(Timestamp { seconds: 1_767_999_600, zone_minutes: 60 }));
            assert_eq!(message(&items[2]).bytes, b"");
            assert_eq!(message(&items[2]).date.map(|date| date.zone_minutes), Some(-90));
        }
    }

    #[test]
    fn what_is_no_mbox_and_what_is_empty() {
        assert!(Messages::of(&b"Subject: hello\n\n"[..], 100).is_err());
        assert!(Messages::of(&b"From now on\n"[..], 100).is_err());
        assert!(Messages::of(&b""[..], 100).unwrap().next().is_none());
        assert!(Messages::of(&b"\n\n"[..], 100).unwrap().next().is_none());
    }

    #[test]
    fn what_is_too_large_is_left_out() {
        let mut file = b"From a Thu Jan  1 10:20:30 2026\n".to_vec();
        file.extend(b"x".repeat(200_000));
        file.extend(b"\n\nFrom b Thu Jan  1 10:20:30 2026\n\nsmall\n");
        let items = read(&file, 8192);
        assert_eq!(items[0], Item::TooLarge { bytes: 200_002 });
        assert_eq!(message(&items[1]).bytes, b"\r\nsmall\r\n");
    }

    #[test]
    fn separators() {
        let date = Timestamp { seconds: 1_767_262_830, zone_minutes: 120 };
        assert_eq!(asctime(date), "Thu Jan  1 10:20:30 2026");
        let table: [&[u8]; 4] = [b"From ", b"From a 10:20", b"From a Foo 99 10:20:30 2026", b"From a :"];
        for line in table {
            assert_eq!(separator_date(line), None, "{line:?}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn what_is_written_reads_back(
            bodies in collection::vec(("((>{0,2}From [a-z ]{0,3}12:34|[a-zA-Z: >]{0,9})\r\n){0,6}", 0_u8..32), 0..5),
            capacity in 1_usize..40,
            keyword in any::<bool>(),
        ) {
            let mut file = Vec::new();
            let mut expected = Vec::new();
            for (body, bits) in bodies {
                let bytes = format!("Subject: x\r\n\r\n{body}").into_bytes();
                let keywords = if keyword { vec!["$MDNSent".to_owned()] } else { Vec::new() };
                let flags = Flags { system: SystemFlags(bits), keywords };
                let date = Timestamp { seconds: 1_767_262_830 + i64::from(bits), zone_minutes: 0 };
                write(&mut file, &flags, date, &bytes).unwrap();
                expected.push(Item::Message(Message { flags, date: Some(date), bytes }));
            }
            assert_eq!(read(&file, capacity), expected);
        }

        #[test]
        fn nothing_panics(junk in collection::vec(any::<u8>(), 0..200)) {
            let mut file = b"From a Thu Jan  1 10:20:30 2026\n".to_vec();
            file.extend(junk);
            assert!(!read(&file, 7).is_empty());
        }
    }
}
