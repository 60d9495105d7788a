//! The parts of a message (RFC 2045, 2046).
//!
//! One scan from front to back. The parts that are open at a place form a stack: multiparts, messages in
//! messages, and a leaf on top. A line that begins with `--` is compared with the boundaries of the open
//! multiparts, the innermost first; a match ends what is above it and begins the next part. A boundary matches
//! whole or not at all: `--ab` is no line of boundary `a`. The CRLF before the line belongs to the boundary,
//! unless the part would end before its body began.
//!
//! Invariants: a tree by construction, each part before its children in the list; the range of a part lies in
//! its parent's body and behind its elder siblings; a multipart and a message have at least one child; no more
//! than `limits::mime::NESTING_MAX` parts lie within each other, and the scan opens no more than
//! `limits::mime::PARTS_MAX`. The work is linear in the message, times the open boundaries only for lines that
//! are as long as one of them.

use std::borrow::Cow;
use std::cell::OnceCell;
use std::ops::Range;

use memchr::memchr_iter;
use memchr::memmem::Finder;

use super::content::{MediaType, first_token};
use super::header::{Field, Header, is_blank, line_end};
use super::transfer::Encoding;
use crate::limits::mime::{HEADER_BYTES_MAX, NESTING_MAX, PARTS_MAX};

/// The tree of parts; ranges count from the beginning of the message.
#[derive(Clone, Debug)]
pub struct Structure<'a> {
    message: &'a [u8],
    parts: Vec<Part<'a>>,
    /// Of each part, once somebody has asked.
    lines: OnceCell<Vec<u64>>,
}

/// The number of a part in its [`Structure`]; the message itself is [`PartId::MESSAGE`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PartId(u32);

/// A part: a leaf, a multipart, or a message with one child, the message in it.
#[derive(Clone, Debug)]
pub struct Part<'a> {
    pub kind: Kind,
    /// Declared, or what counts where nothing valid is declared.
    pub media: MediaType<'a>,
    /// With the empty line.
    pub header: Range<usize>,
    pub body: Range<usize>,
    /// Raw field values.
    pub fields: Fields<'a>,
    first_child: Option<PartId>,
    next_sibling: Option<PartId>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    Text,
    /// `message/rfc822` or `message/global`.
    Message,
    Multipart,
    Basic,
}

/// The raw values of the fields that describe a part; of several, the first.
#[derive(Clone, Debug, Default)]
pub struct Fields<'a> {
    pub content_type: Option<&'a [u8]>,
    pub encoding: Option<&'a [u8]>,
    pub id: Option<&'a [u8]>,
    pub description: Option<&'a [u8]>,
    pub disposition: Option<&'a [u8]>,
    pub language: Option<&'a [u8]>,
    pub location: Option<&'a [u8]>,
    pub md5: Option<&'a [u8]>,
}

impl PartId {
    pub const MESSAGE: Self = Self(0);
}

impl<'a> Structure<'a> {
    pub fn of(message: &'a [u8]) -> Self {
        let mut scan = Scan {
            message,
            parts: Vec::new(),
            open: Vec::new(),
            live_boundaries: 0,
            at: 0,
            line_with_dashes: Finder::new(b"\r\n--"),
        };
        scan.run();
        Self { message, parts: scan.parts, lines: OnceCell::new() }
    }

    pub fn part(&self, id: PartId) -> &Part<'a> {
        &self.parts[id.0 as usize]
    }

    /// All parts, each before its children.
    pub fn parts(&self) -> impl Iterator<Item = (PartId, &Part<'a>)> {
        (0..).map(PartId).zip(&self.parts)
    }

    pub fn children(&self, id: PartId) -> impl Iterator<Item = PartId> {
        let first = self.part(id).first_child;
        std::iter::successors(first, |child| self.part(*child).next_sibling)
    }

    pub fn message(&self) -> &'a [u8] {
        self.message
    }

    /// The header of a part, or of the message that it is.
    pub fn header(&self, id: PartId) -> Header<'a> {
        Header::whole(&self.message[self.part(id).header.clone()])
    }

    pub fn body(&self, id: PartId) -> &'a [u8] {
        &self.message[self.part(id).body.clone()]
    }

    /// Line ends in a body, and one for an unfinished last line. All are counted when the first is asked for.
    pub fn lines(&self, id: PartId) -> u64 {
        self.lines.get_or_init(|| count_lines(self.message, &self.parts))[id.0 as usize]
    }
}

impl<'a> Part<'a> {
    /// How the body is encoded; `None` if that is unknown.
    pub fn transfer(&self) -> Option<Encoding> {
        Encoding::named(self.encoding_name())
    }

    /// Content-Transfer-Encoding as spelt; RFC 2045 6.1 says what counts without it.
    pub fn encoding_name(&self) -> &'a [u8] {
        self.fields.encoding.and_then(first_token).unwrap_or(b"7BIT")
    }

    /// The same part, as if its fields said nothing but its type.
    pub(super) fn without_description(&self) -> Self {
        let media = MediaType { parameters: b"", ..self.media };
        let fields = Fields { encoding: self.fields.encoding, ..Fields::default() };
        Self { media, fields, header: self.header.clone(), body: self.body.clone(), ..*self }
    }

    /// A part of which the scan has seen the header but not the end.
    fn begin(header: Range<usize>, fields: Fields<'a>) -> Self {
        Self {
            kind: Kind::Text,
            media: MediaType::PLAIN,
            body: header.end..header.end,
            header,
            fields,
            first_child: None,
            next_sibling: None,
        }
    }
}

impl<'a> Fields<'a> {
    fn take(&mut self, field: &Field<'a>) {
        const PREFIX: &[u8] = b"content-";
        let Some((prefix, name)) = field.name.split_at_checked(PREFIX.len()) else {
            return;
        };
        if !prefix.eq_ignore_ascii_case(PREFIX) {
            return;
        }
        let slot = match name.to_ascii_lowercase().as_slice() {
            b"type" => &mut self.content_type,
            b"transfer-encoding" => &mut self.encoding,
            b"id" => &mut self.id,
            b"description" => &mut self.description,
            b"disposition" => &mut self.disposition,
            b"language" => &mut self.language,
            b"location" => &mut self.location,
            b"md5" => &mut self.md5,
            _ => return,
        };
        slot.get_or_insert(field.value);
    }
}

struct Scan<'a> {
    message: &'a [u8],
    parts: Vec<Part<'a>>,
    /// The parts that have not ended, outermost first.
    open: Vec<Open<'a>>,
    /// How many of them wait for a boundary.
    live_boundaries: usize,
    /// The beginning of a line.
    at: usize,
    line_with_dashes: Finder<'static>,
}

struct Open<'a> {
    part: PartId,
    last_child: Option<PartId>,
    /// Of a multipart that has not been closed.
    boundary: Option<Cow<'a, [u8]>>,
    is_digest: bool,
}

/// A line that ends parts.
struct Delimiter {
    /// The place in `Scan::open` of the multipart whose boundary it is.
    level: usize,
    is_close: bool,
    line: Range<usize>,
}

impl<'a> Scan<'a> {
    fn run(&mut self) {
        self.begin_part();
        while let Some(delimiter) = self.next_delimiter() {
            if self.parts.len() >= PARTS_MAX && !delimiter.is_close {
                break;
            }
            // The CRLF before the line is the boundary's (RFC 2046 5.1.1).
            self.end_parts(delimiter.level + 1, delimiter.line.start.saturating_sub(2));
            self.at = delimiter.line.end;
            match delimiter.is_close {
                true => self.close_boundary(delimiter.level),
                false => self.begin_part(),
            }
        }
        self.end_parts(0, self.message.len());
    }

    /// Reads the header of a part at the place of the scan and opens the part; of a message in it, likewise.
    fn begin_part(&mut self) {
        loop {
            let id = self.read_header();
            let (media, kind) = self.kind_of(id);
            let part = &mut self.parts[id.0 as usize];
            (part.media, part.kind) = (media, kind);
            let boundary = match kind {
                Kind::Multipart => {
                    media.parameter("boundary").map(trim_boundary).filter(|text| !text.is_empty())
                }
                _ => None,
            };
            self.live_boundaries += usize::from(boundary.is_some());
            let is_digest = media.is("multipart", "digest");
            self.open.push(Open { part: id, last_child: None, boundary, is_digest });
            if kind != Kind::Message {
                return;
            }
        }
    }

    /// Takes the header fields and makes a part of them, a child of the innermost open one.
    fn read_header(&mut self) -> PartId {
        let start = self.at;
        let mut fields = Fields::default();
        loop {
            let rest = &self.message[self.at..];
            if rest.is_empty() || self.boundary_at(self.at).is_some() {
                break;
            }
            if rest.starts_with(b"\r\n") {
                self.at += 2;
                break;
            }
            let field = self.field_end();
            if field - start <= HEADER_BYTES_MAX {
                fields.take(&Field::of(&self.message[self.at..field]));
            }
            self.at = field;
        }
        self.add(Part::begin(start..self.at, fields))
    }

    /// Where the field at the place of the scan ends.
    fn field_end(&self) -> usize {
        let mut end = line_end(self.message, self.at);
        while self.message.get(end).copied().is_some_and(is_blank) {
            end = line_end(self.message, end);
        }
        end
    }

    /// What the part is taken for, at its place in the tree.
    fn kind_of(&self, id: PartId) -> (MediaType<'a>, Kind) {
        let in_digest = self.open.last().is_some_and(|parent| parent.is_digest);
        let media = match self.parts[id.0 as usize].fields.content_type {
            Some(value) => MediaType::parse(value).unwrap_or(MediaType::PLAIN),
            None if in_digest => MediaType::RFC822,
            None => MediaType::PLAIN,
        };
        let kind = match () {
            () if media.is_a("multipart") => Kind::Multipart,
            () if media.is("message", "rfc822") || media.is("message", "global") => Kind::Message,
            () if media.is_a("text") => return (media, Kind::Text),
            () => return (media, Kind::Basic),
        };
        match self.open.len() < NESTING_MAX && self.parts.len() < PARTS_MAX {
            true => (media, kind),
            false => (MediaType::OPAQUE, Kind::Basic),
        }
    }

    fn add(&mut self, part: Part<'a>) -> PartId {
        let id = PartId(u32::try_from(self.parts.len()).expect("parts are bounded"));
        self.parts.push(part);
        if let Some(parent) = self.open.last_mut() {
            match parent.last_child.replace(id) {
                Some(elder) => self.parts[elder.0 as usize].next_sibling = Some(id),
                None => self.parts[parent.part.0 as usize].first_child = Some(id),
            }
        }
        id
    }

    fn next_delimiter(&mut self) -> Option<Delimiter> {
        while self.live_boundaries > 0 {
            if let Some(delimiter) = self.boundary_at(self.at) {
                return Some(delimiter);
            }
            self.at += self.line_with_dashes.find(&self.message[self.at..])? + 2;
        }
        None
    }

    /// The delimiter that the line at `at` is, if it is one.
    fn boundary_at(&self, at: usize) -> Option<Delimiter> {
        if self.live_boundaries == 0 || !self.message[at..].starts_with(b"--") {
            return None;
        }
        let line = at..line_end(self.message, at);
        let text = trim_boundary_line(&self.message[at + 2..line.end]);
        let mut levels = self.open.iter().enumerate().rev();
        levels.find_map(|(level, open)| {
            let after = text.strip_prefix(&**open.boundary.as_ref()?)?;
            let is_close = after == b"--";
            (is_close || after.is_empty()).then(|| Delimiter { level, is_close, line: line.clone() })
        })
    }

    fn close_boundary(&mut self, level: usize) {
        self.open[level].boundary = None;
        self.live_boundaries -= 1;
    }

    /// Ends the open parts from `level` on, but not before the innermost body has begun.
    fn end_parts(&mut self, level: usize, end: usize) {
        let Some(innermost) = self.open.get(level..).and_then(<[_]>::last) else {
            return;
        };
        let end = end.max(self.parts[innermost.part.0 as usize].body.start);
        while self.open.len() > level {
            self.end_innermost(end);
        }
    }

    fn end_innermost(&mut self, end: usize) {
        let Some(open) = self.open.last() else {
            return;
        };
        let part = &mut self.parts[open.part.0 as usize];
        part.body.end = end;
        if part.kind == Kind::Multipart && open.last_child.is_none() {
            // RFC 9051 has no form for a multipart without parts.
            let start = part.body.start;
            let media = MediaType { parameters: b"", ..MediaType::PLAIN };
            let empty = Part { media, ..Part::begin(start..start, Fields::default()) };
            self.add(empty);
        }
        let ended = self.open.pop();
        self.live_boundaries -= usize::from(ended.is_some_and(|open| open.boundary.is_some()));
    }
}

/// See [`Structure::lines`]. Bodies lie within each other, and no octet is looked at twice.
fn count_lines(message: &[u8], parts: &[Part<'_>]) -> Vec<u64> {
    let mut places: Vec<usize> = parts.iter().flat_map(|part| [part.body.start, part.body.end]).collect();
    places.sort_unstable();
    let (mut from, mut ends) = (places.first().copied().unwrap_or_default(), 0);
    let mut ends_before = Vec::with_capacity(places.len());
    for &place in &places {
        // Only CRLF ends a line, but outside of BINARYMIME no LF comes alone, and one octet is counted faster than two.
        ends += memchr_iter(b'\n', &message[from..place]).count() as u64;
        ends_before.push(ends);
        from = place;
    }
    let before = |place| ends_before[places.partition_point(|&other| other < place)];
    let lines = |part: &Part<'_>| {
        let is_unfinished = !part.body.is_empty() && message[part.body.end - 1] != b'\n';
        before(part.body.end) - before(part.body.start) + u64::from(is_unfinished)
    };
    parts.iter().map(lines).collect()
}

/// RFC 2046 5.1.1: a boundary does not end in a blank.
fn trim_boundary(text: Cow<'_, [u8]>) -> Cow<'_, [u8]> {
    let len = text.iter().rposition(|byte| !is_blank(*byte)).map_or(0, |last| last + 1);
    match text {
        Cow::Borrowed(text) => Cow::Borrowed(&text[..len]),
        Cow::Owned(mut text) => {
            text.truncate(len);
            Cow::Owned(text)
        }
    }
}

/// A line without its end and the blanks before it.
fn trim_boundary_line(line: &[u8]) -> &[u8] {
    let line = line.strip_suffix(b"\r\n").unwrap_or(line);
    let len = line.iter().rposition(|byte| !is_blank(*byte)).map_or(0, |last| last + 1);
    &line[..len]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, proptest};

    use super::{Header, Kind, PartId, Structure};
    use crate::limits::mime::{NESTING_MAX, PARTS_MAX};

    /// The tree as text: leaves by their body, multiparts and messages with what is in them.
    fn shown(structure: &Structure<'_>, id: PartId) -> String {
        let children: Vec<_> = structure.children(id).map(|child| shown(structure, child)).collect();
        match structure.part(id).kind {
            Kind::Multipart => format!("[{}]", children.join(", ")),
            Kind::Message => format!("<{}>", children.join(", ")),
            Kind::Text => structure.body(id).escape_ascii().to_string(),
            Kind::Basic => format!("!{}", structure.body(id).escape_ascii()),
        }
    }

    #[test]
    fn boundaries() {
        let cases = [
            (
                "pre\r\n--b\r\n\r\none\r\n--b\r\n\r\ntwo\r\n\r\n--b--\r\nepilogue\r\n--b\r\n\r\nno",
                "[one, two\\r\\n]",
            ),
            ("--b\r\n\r\nfirst line\r\n--b--", "[first line]"),
            ("--b\r\n\r\nno close\r\n", "[no close\\r\\n]"),
            ("--b \t\r\n\r\nblanks\r\n--b-- \r\n", "[blanks]"),
            (
                "--b\r\n\r\n--bc\r\n--b-\r\n--bb\r\n-b\r\n --b\r\n--b--",
                "[--bc\\r\\n--b-\\r\\n--bb\\r\\n-b\\r\\n --b]",
            ),
            ("--b\r\n\r\nx\n--b\ny\r\n--b--", "[x\\n--b\\ny]"),
            ("--b\r\n--b\r\n\r\n--b\r\nX: y\r\n--b--", "[, , ]"),
            ("nothing\r\n", "[]"),
            ("--b--\r\n", "[]"),
            ("", "[]"),
            (
                "--b\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\ninner\r\n--b--\r\n--b--\r\n",
                "[[inner]]",
            ),
            (
                "--b\r\nContent-Type: multipart/mixed; boundary=bc\r\n\r\n--bc\r\n\r\ninner\r\n--b\r\n\r\nouter ends it\r\n--b--",
                "[[inner], outer ends it]",
            ),
            (
                "--b\r\nContent-Type: multipart/mixed; boundary=b--\r\n\r\n--b--\r\n\r\nx\r\n--b----\r\n--b--\r\n",
                "[[x]]",
            ),
            (
                "--b\r\nContent-Type: multipart/mixed\r\n\r\nx\r\n--b\r\nContent-Type: multipart/mixed; boundary=\"\"\r\n\r\n--\r\n--b--",
                "[[], []]",
            ),
            ("--b\r\nContent-Type: message/rfc822\r\n\r\nSubject: x\r\n\r\ninner\r\n--b--", "[<inner>]"),
            ("--b\r\nContent-Type: message/rfc822\r\n\r\n--b--", "[<>]"),
            (
                "--b\r\nContent-Type: message/rfc822\r\n\r\nContent-Type: multipart/mixed; boundary=c\r\n\r\n--c\r\n\r\ndeep\r\n--b--",
                "[<[deep]>]",
            ),
            ("--b\r\nContent-Type: image/png\r\nContent-Type: text/plain\r\n\r\nx\r\n--b--", "[!x]"),
            ("--b\r\nContent-Type: text\r\n\r\nx\r\n--b--", "[x]"),
        ];
        for (body, expected) in cases {
            let message = format!("Content-Type: multipart/mixed; boundary=\"b \"\r\n\r\n{body}");
            let structure = Structure::of(message.as_bytes());
            assert_eq!(shown(&structure, PartId::MESSAGE), expected, "{body}");
        }
    }

    #[test]
    fn digests_and_messages() {
        let cases = [
            (
                "Content-Type: multipart/digest; boundary=b\r\n\r\n--b\r\n\r\nSubject: x\r\n\r\none\r\n--b\r\nContent-Type: text/plain\r\n\r\ntwo\r\n--b--",
                "[<one>, two]",
            ),
            ("Content-Type: message/rfc822\r\n\r\nSubject: x\r\n\r\ninner", "<inner>"),
            (
                "Content-Type: message/global\r\n\r\nContent-Type: message/rfc822\r\n\r\n\r\ninner",
                "<<inner>>",
            ),
            ("Content-Type: message/partial\r\n\r\nx", "!x"),
            ("\r\nbody", "body"),
            ("no header at all", ""),
            ("", ""),
        ];
        for (message, expected) in cases {
            let structure = Structure::of(message.as_bytes());
            assert_eq!(shown(&structure, PartId::MESSAGE), expected, "{message}");
        }
    }

    #[test]
    fn lines() {
        let cases = [("", 0), ("a", 1), ("a\r\n", 1), ("a\r\nb", 2), ("a\r\n\r\n", 2), ("\r\n", 1)];
        for (body, lines) in cases {
            let plain = format!("\r\n{body}");
            assert_eq!(Structure::of(plain.as_bytes()).lines(PartId::MESSAGE), lines, "{body:?}");
            let parts = format!(
                "Content-Type: multipart/mixed; boundary=b\r\n\r\nx\r\n\r\n--b\r\n\r\n{body}\r\n--b--"
            );
            assert_eq!(Structure::of(parts.as_bytes()).lines(PartId(1)), lines, "{body:?}");
        }
    }

    #[test]
    fn depth_is_bounded() {
        let multipart =
            |level: usize| format!("Content-Type: multipart/mixed; boundary=b{level}\r\n\r\n--b{level}\r\n");
        let nested = |depth: usize| (0..depth).map(multipart).collect::<String>() + "\r\nx";
        let messages = |depth: usize| "Content-Type: message/rfc822\r\n\r\n".repeat(depth) + "\r\nx";
        for build in [&nested as &dyn Fn(usize) -> String, &messages] {
            for (depth, parts) in [
                (NESTING_MAX, NESTING_MAX + 1),
                (NESTING_MAX + 1, NESTING_MAX + 1),
                (20_000, NESTING_MAX + 1),
            ] {
                let message = build(depth);
                let structure = Structure::of(message.as_bytes());
                assert_eq!(structure.parts().count(), parts);
                let last = structure.parts().last().expect("a part").1;
                assert_eq!(last.kind == Kind::Basic, depth > NESTING_MAX);
                assert_eq!(last.media.name, if depth > NESTING_MAX { &b"APPLICATION"[..] } else { b"TEXT" });
            }
        }
    }

    #[test]
    fn parts_are_bounded() {
        let message = "Content-Type: multipart/mixed; boundary=b\r\n\r\n".to_owned()
            + &"--b\r\n\r\nx\r\n".repeat(PARTS_MAX + 500)
            + "--b--";
        let structure = Structure::of(message.as_bytes());
        assert_eq!(structure.parts().count(), PARTS_MAX);
        let last = structure.parts().last().expect("a part").1;
        assert_eq!(last.body.end, message.len());
        assert!(last.body.len() > 500 * 8);
    }

    proptest! {
        #[test]
        fn ranges_nest(
            pieces in proptest::collection::vec(0usize..16, 0..40), junk in any::<Vec<u8>>(),
        ) {
            const PIECES: [&str; 16] = [
                "\r\n", "\r\n\r\n", "--a", "--ab", "--a--", "--ab--", "\r\n--a\r\n", "\r\n--ab\r\n", "\r\n--a--\r\n", "text", " ", "\n",
                "Content-Type: multipart/mixed; boundary=a\r\n", "Content-Type: multipart/digest; boundary=ab\r\n",
                "Content-Type: message/rfc822\r\n", "Content-Type: text/plain\r\n",
            ];
            let mut message: Vec<u8> = pieces.iter().flat_map(|piece| PIECES[*piece].bytes()).collect();
            message.extend(junk);
            let structure = Structure::of(&message);
            assert_eq!(structure.part(PartId::MESSAGE).body.end, message.len());
            assert_eq!(structure.header(PartId::MESSAGE).len(), Header::of(&message).len());
            let mut seen = 1;
            for (id, part) in structure.parts() {
                assert!(part.header.end == part.body.start && part.body.start <= part.body.end);
                let ends = structure.body(id).iter().filter(|byte| **byte == b'\n').count() as u64;
                let unfinished = structure.body(id).last().is_some_and(|byte| *byte != b'\n');
                assert_eq!(structure.lines(id), ends + u64::from(unfinished));
                let mut from = part.body.start;
                for child in structure.children(id) {
                    let inner = structure.part(child);
                    assert!(inner.header.start >= from && inner.body.end <= part.body.end);
                    from = inner.body.end;
                    seen += 1;
                }
                let children = structure.children(id).count();
                match part.kind {
                    Kind::Message => assert!(children == 1 && structure.part(structure.children(id).next().expect("one")).body.end == part.body.end),
                    Kind::Multipart => assert!(children > 0),
                    _ => assert_eq!(children, 0),
                }
            }
            assert_eq!(seen, structure.parts().count());
        }
    }
}
