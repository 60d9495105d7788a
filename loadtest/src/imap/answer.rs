//! Answers of an IMAP server: where each one ends, and what it says.
//!
//! [`Reader`] takes bytes in any cut and gives whole answers, literals included; [`Answer::parse`] looks into one.
//! Both are strict where a client depends on it (numbers, parentheses, the shape of FETCH) and let pass what is
//! only text. Nothing is copied but quoted strings with escapes.

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;

use memchr::memchr;

/// An answer that no client could read.
#[derive(Debug, PartialEq, Eq)]
pub struct Malformed {
    pub offset: usize,
    pub expected: &'static str,
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "an answer without {} at byte {}", self.expected, self.offset)
    }
}

/// A literal longer than this is a broken length, not a message.
const LITERAL_BYTES_MAX: usize = 1 << 30;

/// Bytes come in, whole answers go out.
#[derive(Default)]
pub struct Reader {
    input: Vec<u8>,
    /// Where the answer begins that is being read.
    start: usize,
    /// Where the line begins in which its end is looked for; behind what is there while a literal is under way.
    scanned: usize,
}

impl Reader {
    pub fn extend(&mut self, bytes: &[u8]) {
        if self.start == self.input.len() {
            self.input.clear();
        } else if self.start > self.input.len() / 2 {
            self.input.drain(..self.start);
        } else {
            self.input.extend_from_slice(bytes);
            return;
        }
        self.scanned -= self.start;
        self.start = 0;
        self.input.extend_from_slice(bytes);
    }

    /// The next whole answer without its last line end.
    pub fn poll(&mut self) -> Result<Option<&[u8]>, Malformed> {
        let Some(answer) = self.find()? else {
            return Ok(None);
        };
        (self.start, self.scanned) = (answer.end + 2, answer.end + 2);
        Ok(Some(&self.input[answer]))
    }

    /// Whether bytes are needed before there is another answer.
    pub fn is_starved(&mut self) -> Result<bool, Malformed> {
        Ok(self.find()?.is_none())
    }

    /// Where the next whole answer lies; it stays there.
    fn find(&mut self) -> Result<Option<Range<usize>>, Malformed> {
        loop {
            let unseen = self.input.get(self.scanned..).unwrap_or_default();
            let Some(length) = memchr(b'\n', unseen) else {
                return Ok(None);
            };
            let line_start = self.scanned;
            let end = self.scanned + length;
            let Some(line) = self.input[line_start..end].strip_suffix(b"\r") else {
                return Err(Malformed { offset: end - self.start, expected: "CR before LF" });
            };
            match literal_length(line) {
                Some(length) if length > LITERAL_BYTES_MAX => {
                    return Err(Malformed { offset: end - self.start, expected: "a literal of sane length" });
                }
                Some(length) => {
                    self.scanned = end + 1 + length;
                    // A short read must not be scanned as if it were a line.
                    if self.scanned > self.input.len() {
                        // More is known to be coming: room for it is made once.
                        self.input.reserve(self.scanned - self.input.len() + 64);
                        return Ok(None);
                    }
                }
                None => return Ok(Some(self.start..end - 1)),
            }
        }
    }

    /// Bytes of an answer that has not ended.
    pub fn is_within_answer(&self) -> bool {
        self.start < self.input.len()
    }
}

/// `{12}` or `~{12}` at the end of a line.
fn literal_length(line: &[u8]) -> Option<usize> {
    let line = line.strip_suffix(b"}")?;
    let open = line.iter().rposition(|byte| *byte == b'{')?;
    std::str::from_utf8(&line[open + 1..]).ok()?.trim_end_matches('+').parse().ok()
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    Ok,
    No,
    Bad,
    Bye,
    Preauth,
}

#[derive(Debug, PartialEq)]
pub enum Answer<'a> {
    /// `a1 OK [CODE ...] text`
    Tagged {
        tag: &'a [u8],
        status: Status,
        code: Option<&'a [u8]>,
        text: &'a [u8],
    },
    /// `+ text`
    Continue,
    /// `* OK [CODE ...] text`
    Status {
        status: Status,
        code: Option<&'a [u8]>,
        text: &'a [u8],
    },
    Exists(u32),
    Recent,
    Expunge(u32),
    Fetch(u32, Row<'a>),
    /// `* STATUS box (MESSAGES 3 ...)`
    MailboxStatus(Vec<(&'a [u8], u64)>),
    Search(Vec<u32>),
    /// The words of `* CAPABILITY`.
    Capability(&'a [u8]),
    /// `* ESEARCH`, `* LIST`, `* FLAGS` and whatever else: the keyword.
    Other(&'a [u8]),
}

/// One message of a FETCH.
#[derive(Debug, Default, PartialEq)]
pub struct Row<'a> {
    pub uid: Option<u32>,
    /// What stands in the parentheses.
    pub flags: Option<&'a [u8]>,
    pub size: Option<u64>,
    pub internal_date: Option<Cow<'a, [u8]>>,
    pub has_envelope: bool,
    /// `BODY[section]` and its bytes.
    pub bodies: Vec<(&'a [u8], Cow<'a, [u8]>)>,
}

impl Row<'_> {
    /// The whole message, if it was asked for.
    pub fn message(&self) -> Option<&[u8]> {
        self.bodies.iter().find(|(section, _)| section.is_empty()).map(|(_, bytes)| bytes.as_ref())
    }
}

impl<'a> Answer<'a> {
    /// Looks into one answer, as [`Reader::poll`] gave it.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let mut cursor = Cursor { bytes, at: 0 };
        if bytes.first() == Some(&b'+') {
            return Ok(Self::Continue);
        }
        let tag = cursor.word();
        cursor.expect(b' ', "a space after the tag")?;
        if tag == b"*" {
            return cursor.untagged();
        }
        let word = cursor.word();
        match status(word) {
            Some(status @ (Status::Ok | Status::No | Status::Bad)) if !tag.is_empty() => {
                let (code, text) = cursor.response_text()?;
                Ok(Self::Tagged { tag, status, code, text })
            }
            _ => Err(cursor.malformed("OK, NO or BAD")),
        }
    }
}

fn status(word: &[u8]) -> Option<Status> {
    let table: [(&[u8], Status); 5] = [
        (b"OK", Status::Ok),
        (b"NO", Status::No),
        (b"BAD", Status::Bad),
        (b"BYE", Status::Bye),
        (b"PREAUTH", Status::Preauth),
    ];
    table.iter().find(|(name, _)| word.eq_ignore_ascii_case(name)).map(|(_, status)| *status)
}

struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    fn untagged(&mut self) -> Result<Answer<'a>, Malformed> {
        let word = self.word();
        if let Some(status) = status(word) {
            let (code, text) = self.response_text()?;
            return Ok(Answer::Status { status, code, text });
        }
        if word.first().is_some_and(u8::is_ascii_digit) {
            let number = number(word).ok_or_else(|| self.malformed("a number"))?;
            self.expect(b' ', "a space after the number")?;
            return self.numbered(number);
        }
        match word.to_ascii_uppercase().as_slice() {
            b"SEARCH" => self.numbers().map(Answer::Search),
            b"STATUS" => self.mailbox_status(),
            b"CAPABILITY" => Ok(Answer::Capability(self.bytes[self.at..].trim_ascii())),
            _ => Ok(Answer::Other(word)),
        }
    }

    fn numbered(&mut self, number: u32) -> Result<Answer<'a>, Malformed> {
        let word = self.word();
        match word.to_ascii_uppercase().as_slice() {
            b"EXISTS" => Ok(Answer::Exists(number)),
            b"RECENT" => Ok(Answer::Recent),
            b"EXPUNGE" => Ok(Answer::Expunge(number)),
            b"FETCH" => {
                self.expect(b' ', "a space after FETCH")?;
                Ok(Answer::Fetch(number, self.row()?))
            }
            _ => Ok(Answer::Other(word)),
        }
    }

    fn row(&mut self) -> Result<Row<'a>, Malformed> {
        let mut row = Row::default();
        self.expect(b'(', "( of FETCH")?;
        loop {
            let item = self.item_name();
            let section = self.section()?;
            self.expect(b' ', "a space after the item")?;
            match (item.to_ascii_uppercase().as_slice(), section) {
                (b"UID", None) => row.uid = Some(self.number()?),
                (b"RFC822.SIZE", None) => row.size = Some(self.number_64()?),
                (b"FLAGS", None) => row.flags = Some(self.list()?),
                (b"INTERNALDATE", None) => row.internal_date = self.string()?,
                (b"BODY" | b"BINARY", Some(section)) => {
                    let bytes = self.string()?.unwrap_or_default();
                    row.bodies.push((section, bytes));
                }
                (b"ENVELOPE", None) => {
                    row.has_envelope = true;
                    self.skip()?;
                }
                _ => self.skip()?,
            }
            match self.next() {
                Some(b' ') => {}
                Some(b')') if self.at == self.bytes.len() => return Ok(row),
                _ => return Err(self.malformed("a space or the last ) of FETCH")),
            }
        }
    }

    /// `[...]` and `<0>` after an item's name.
    fn section(&mut self) -> Result<Option<&'a [u8]>, Malformed> {
        if self.peek() != Some(b'[') {
            return Ok(None);
        }
        let open = self.at + 1;
        let close = memchr(b']', &self.bytes[open..]).ok_or_else(|| self.malformed("]"))?;
        self.at = open + close + 1;
        if self.peek() == Some(b'<') {
            let end = memchr(b'>', &self.bytes[self.at..]).ok_or_else(|| self.malformed(">"))?;
            self.at += end + 1;
        }
        Ok(Some(&self.bytes[open..open + close]))
    }

    fn mailbox_status(&mut self) -> Result<Answer<'a>, Malformed> {
        self.expect(b' ', "a space before the mailbox")?;
        self.skip()?;
        self.expect(b' ', "a space after the mailbox")?;
        let list = self.list()?;
        let mut items = Vec::new();
        let mut words = list.split(|byte| *byte == b' ').filter(|word| !word.is_empty());
        while let Some(name) = words.next() {
            let value = words.next().and_then(|word| std::str::from_utf8(word).ok()?.parse().ok());
            items.push((name, value.ok_or_else(|| self.malformed("a number for each item"))?));
        }
        Ok(Answer::MailboxStatus(items))
    }

    /// ` 1 2 3`; a `(MODSEQ ...)` after them is let pass.
    fn numbers(&mut self) -> Result<Vec<u32>, Malformed> {
        let mut found = Vec::new();
        while self.peek() == Some(b' ') {
            self.at += 1;
            if matches!(self.peek(), None | Some(b'(')) {
                break;
            }
            found.push(self.number()?);
        }
        Ok(found)
    }

    /// ` [CODE arguments] text`, all of it optional.
    fn response_text(&mut self) -> Result<(Option<&'a [u8]>, &'a [u8]), Malformed> {
        let rest = &self.bytes[self.at..];
        let rest = rest.strip_prefix(b" ").unwrap_or(rest);
        let Some(inside) = rest.strip_prefix(b"[") else {
            return Ok((None, rest));
        };
        let close = memchr(b']', inside).ok_or_else(|| self.malformed("] of a response code"))?;
        Ok((Some(&inside[..close]), inside[close + 1..].trim_ascii_start()))
    }

    /// What stands between parentheses that hold no others.
    fn list(&mut self) -> Result<&'a [u8], Malformed> {
        self.expect(b'(', "(")?;
        let start = self.at;
        let length = memchr(b')', &self.bytes[start..]).ok_or_else(|| self.malformed(")"))?;
        self.at += length + 1;
        Ok(&self.bytes[start..start + length])
    }

    /// A quoted string, a literal, or NIL.
    fn string(&mut self) -> Result<Option<Cow<'a, [u8]>>, Malformed> {
        match self.peek() {
            Some(b'"') => self.quoted().map(Some),
            Some(b'{' | b'~') => self.literal().map(|bytes| Some(Cow::Borrowed(bytes))),
            _ if self.word().eq_ignore_ascii_case(b"NIL") => Ok(None),
            _ => Err(self.malformed("a string or NIL")),
        }
    }

    fn quoted(&mut self) -> Result<Cow<'a, [u8]>, Malformed> {
        let start = self.at + 1;
        let mut escapes = false;
        self.at = start;
        loop {
            match self.next() {
                Some(b'"') => break,
                Some(b'\\') => {
                    escapes = true;
                    self.at += 1;
                }
                Some(_) => {}
                None => return Err(self.malformed("the quote that closes")),
            }
        }
        let raw = &self.bytes[start..self.at - 1];
        if !escapes {
            return Ok(Cow::Borrowed(raw));
        }
        let mut plain = Vec::with_capacity(raw.len());
        let mut bytes = raw.iter();
        while let Some(byte) = bytes.next() {
            plain.extend(if *byte == b'\\' { bytes.next() } else { Some(byte) });
        }
        Ok(Cow::Owned(plain))
    }

    fn literal(&mut self) -> Result<&'a [u8], Malformed> {
        let rest = &self.bytes[self.at..];
        let line =
            memchr(b'\n', rest).ok_or_else(|| self.malformed("a line end after a literal's length"))?;
        let header = rest[..line].strip_suffix(b"\r").unwrap_or(&rest[..line]);
        let length = literal_length(header).ok_or_else(|| self.malformed("a literal's length"))?;
        let start = self.at + line + 1;
        let bytes = self.bytes.get(start..start + length).ok_or_else(|| self.malformed("a whole literal"))?;
        self.at = start + length;
        Ok(bytes)
    }

    /// Passes one value: an atom, a string, or a list of values however deep.
    fn skip(&mut self) -> Result<(), Malformed> {
        let mut depth = 0_u32;
        loop {
            match self.peek() {
                Some(b'(') => {
                    depth += 1;
                    self.at += 1;
                }
                Some(b')') if depth > 0 => {
                    depth -= 1;
                    self.at += 1;
                }
                Some(b' ') if depth > 0 => self.at += 1,
                Some(b'"') => drop(self.quoted()?),
                Some(b'{') => drop(self.literal()?),
                Some(b'~') if self.bytes.get(self.at + 1) == Some(&b'{') => drop(self.literal()?),
                Some(_) if !self.word().is_empty() => {}
                _ => return Err(self.malformed("a value")),
            }
            if depth == 0 {
                return Ok(());
            }
        }
    }

    fn number(&mut self) -> Result<u32, Malformed> {
        number(self.word()).ok_or_else(|| self.malformed("a number"))
    }

    fn number_64(&mut self) -> Result<u64, Malformed> {
        let word = self.word();
        std::str::from_utf8(word)
            .ok()
            .and_then(|word| word.parse().ok())
            .ok_or_else(|| self.malformed("a number"))
    }

    /// Up to a space or a parenthesis.
    fn word(&mut self) -> &'a [u8] {
        self.take_until(|byte| matches!(byte, b' ' | b'(' | b')'))
    }

    fn item_name(&mut self) -> &'a [u8] {
        self.take_until(|byte| matches!(byte, b' ' | b'(' | b')' | b'['))
    }

    fn take_until(&mut self, ends: impl Fn(u8) -> bool) -> &'a [u8] {
        let rest = &self.bytes[self.at..];
        let length = rest.iter().position(|byte| ends(*byte)).unwrap_or(rest.len());
        self.at += length;
        &rest[..length]
    }

    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn next(&mut self) -> Option<u8> {
        let byte = self.peek()?;
        self.at += 1;
        Some(byte)
    }

    fn expect(&mut self, byte: u8, expected: &'static str) -> Result<(), Malformed> {
        match self.next() {
            Some(found) if found == byte => Ok(()),
            _ => Err(self.malformed(expected)),
        }
    }

    fn malformed(&self, expected: &'static str) -> Malformed {
        Malformed { offset: self.at, expected }
    }
}

/// RFC 3501: a number of 32 bits that is written in digits alone.
fn number(word: &[u8]) -> Option<u32> {
    let digits = word.iter().all(u8::is_ascii_digit) && !word.is_empty();
    digits.then(|| std::str::from_utf8(word).ok()?.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    const STREAM: &[u8] = b"* OK [CAPABILITY IMAP4rev1] ready\r\n\
        * 3 EXISTS\r\n\
        * 2 FETCH (UID 7 FLAGS (\\Seen $x) RFC822.SIZE 12 BODY[] {12}\r\nA: {3}\r\n\r\nab)\r\n\
        * 1 FETCH (ENVELOPE (NIL \"a \\\"q\\\"\" ((NIL NIL \"u\" \"h\"))) UID 4)\r\n\
        a1 OK [READ-WRITE] done\r\n";

    fn whole(stream: &[u8], cut: usize) -> Vec<Vec<u8>> {
        let mut reader = Reader::default();
        let mut answers = Vec::new();
        for piece in stream.chunks(cut) {
            reader.extend(piece);
            while let Some(answer) = reader.poll().expect("the stream is well formed") {
                answers.push(answer.to_vec());
            }
        }
        assert!(!reader.is_within_answer());
        answers
    }

    #[test]
    fn answers_are_the_same_however_they_are_cut() {
        let all = whole(STREAM, STREAM.len());
        assert_eq!(all.len(), 5);
        for cut in 1..STREAM.len() {
            assert_eq!(whole(STREAM, cut), all, "cut every {cut} bytes");
        }
    }

    #[test]
    fn a_row_says_what_it_says() {
        let all = whole(STREAM, 7);
        let Ok(Answer::Fetch(2, row)) = Answer::parse(&all[2]) else {
            panic!("not a row");
        };
        assert_eq!((row.uid, row.size, row.flags), (Some(7), Some(12), Some(b"\\Seen $x".as_slice())));
        assert_eq!(row.message(), Some(b"A: {3}\r\n\r\nab".as_slice()));
        let Ok(Answer::Fetch(1, row)) = Answer::parse(&all[3]) else {
            panic!("not a row");
        };
        assert!(row.has_envelope && row.uid == Some(4) && row.message().is_none());
    }

    #[test]
    fn other_answers_say_what_they_say() {
        let parse = |text: &'static str| Answer::parse(text.as_bytes());
        assert_eq!(parse("* 5 EXPUNGE"), Ok(Answer::Expunge(5)));
        assert_eq!(parse("* SEARCH 1 5 9"), Ok(Answer::Search(vec![1, 5, 9])));
        assert_eq!(parse("* SEARCH"), Ok(Answer::Search(Vec::new())));
        let items: Vec<(&[u8], u64)> = vec![(b"MESSAGES", 3), (b"UNSEEN", 1)];
        assert_eq!(parse("* STATUS \"a b\" (MESSAGES 3 UNSEEN 1)"), Ok(Answer::MailboxStatus(items)));
        assert_eq!(parse("+ idling"), Ok(Answer::Continue));
        let tagged =
            Answer::Tagged { tag: b"x9", status: Status::No, code: Some(b"LIMIT"), text: b"too much" };
        assert_eq!(parse("x9 NO [LIMIT] too much"), Ok(tagged));
    }

    #[test]
    fn what_no_client_can_read_is_refused() {
        for text in [
            "* 2 FETCH (UID x)",
            "* 2 FETCH (UID 3",
            "* 2 FETCH (FLAGS (\\Seen)",
            "* 2 FETCH (BODY[ {3})",
            "* 99999999999 EXISTS",
            "a1 MAYBE",
            "a1",
            "* STATUS INBOX (MESSAGES)",
        ] {
            assert!(Answer::parse(text.as_bytes()).is_err(), "{text}");
        }
        let mut reader = Reader::default();
        reader.extend(b"* OK bare\n");
        assert!(reader.poll().is_err());
    }
}
