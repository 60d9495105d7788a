//! What FETCH tells of a message.
//!
//! A [`FetchPlan`] is made once per command and says what it needs of each message. Where the row is enough,
//! [`row`] writes the whole response: this is how clients list a mailbox, and it is a few copies. Where more is
//! needed, [`open`] writes the row's part, then for each of [`FetchPlan::parts`] one of [`section`], [`fields`],
//! [`binary`] and [`binary_size`] writes a part, then [`close`] ends the response.
//!
//! ```text
//!   * 12 FETCH (UID 47 FLAGS (\Seen) BODY[TEXT] {342}⏎ ...)⏎
//!   └───────── open ──────────────┘ └── section ────────┘└ close
//! ```

use std::fmt::Write;
use std::ops::Range;

use super::text;
use crate::bytes::{Output, Slice, Swap};
use crate::mail::date::ImapDateTime;
use crate::mail::digest::KeptNames;
use crate::mail::flags::SystemFlags;
use crate::mail::part::NUL_STAND_IN;
use crate::mail::section::Partial;
use crate::mail::time::Timestamp;
use crate::proto::imap::command::{Fetch, FetchBinary, FetchItem, FetchSection, Numbering};
use crate::proto::imap::server::Enabled;

/// How a FETCH command is answered for every message.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FetchPlan {
    /// Items that the row answers.
    columns: Vec<Column>,
    /// Items that the row does not answer.
    parts: Vec<FetchPart>,
    /// Items that are told beside these when the flags have changed under the command.
    columns_changed: Vec<Column>,
    sets_seen: bool,
}

/// An item that needs the message, or its digest.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum FetchPart {
    Section(FetchSection),
    /// A section that the digest answers: these of the fields that it keeps.
    Fields(FetchSection, KeptNames),
    Binary(FetchBinary),
    BinarySize(FetchBinary),
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Column {
    Flags,
    Uid,
    InternalDate,
    Size,
    Envelope,
    Body,
    BodyStructure,
    ModSeq,
    SaveDate,
}

/// A message as the index holds it.
#[derive(Clone, Copy, Debug)]
pub struct FetchRow<'a> {
    /// Its message sequence number in this session.
    pub number: u32,
    pub uid: u32,
    pub modseq: u64,
    pub flags: RowFlags<'a>,
    pub size: u64,
    pub internal: Timestamp,
    /// `None` is NIL (RFC 8514).
    pub saved: Option<Timestamp>,
    /// In wire form, as `mail::digest` makes them; empty where the plan does not ask.
    pub envelope: &'a [u8],
    pub body: &'a [u8],
    pub body_structure: &'a [u8],
}

/// The flags of a message.
#[derive(Clone, Copy, Debug, Default)]
pub struct RowFlags<'a> {
    pub system: SystemFlags,
    /// Bits of `names`.
    pub keywords: u64,
    /// The mailbox's keyword table, at most 64 names.
    pub names: &'a [&'a str],
    /// `\Recent` (RFC 3501 only).
    pub recent: bool,
    /// They changed under this command (an implicit `\Seen`): they are told also if they were not asked for.
    pub changed: bool,
}

/// Which parts of an unsolicited FETCH a session gets.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FlagsNews {
    /// Always right; needed in IMAP4rev2, after UID commands and with CONDSTORE.
    pub uid: bool,
    /// CONDSTORE is enabled.
    pub modseq: bool,
    /// False for a STORE with `.SILENT`.
    pub flags: bool,
}

/// The content of a part, decoded or not.
#[derive(Clone, Debug)]
pub enum Content {
    /// There is no such part: NIL.
    Missing,
    Bytes(Slice),
}

impl FetchPlan {
    pub fn new(fetch: &Fetch, enabled: Enabled) -> Self {
        let mut plan =
            Self { columns: Vec::new(), parts: Vec::new(), columns_changed: Vec::new(), sets_seen: false };
        // RFC 9051 6.4.9: every response to UID FETCH tells the UID.
        if fetch.numbering == Numbering::Uid {
            plan.add(Column::Uid);
        }
        for item in &fetch.items {
            plan.add_item(item);
        }
        // RFC 7162 3.1.4.1
        if fetch.changed_since.is_some() {
            plan.add(Column::ModSeq);
        }
        plan.columns_changed = plan.columns_for_change(enabled);
        plan
    }

    /// Items that the row does not answer.
    pub fn parts(&self) -> &[FetchPart] {
        &self.parts
    }

    /// Whether the message must be read.
    pub fn needs_message(&self) -> bool {
        !self.parts.iter().all(|part| matches!(part, FetchPart::Fields(..)))
    }

    /// Some item sets `\Seen`, unless the mailbox is read-only. Set it before the row is made.
    pub fn sets_seen(&self) -> bool {
        self.sets_seen
    }

    /// BODY or BODYSTRUCTURE are asked for.
    pub fn needs_structure(&self) -> bool {
        self.columns.contains(&Column::Body) || self.columns.contains(&Column::BodyStructure)
    }

    /// ENVELOPE, BODY, BODYSTRUCTURE or fields that the digest keeps are asked for.
    pub fn needs_digest(&self) -> bool {
        let is_digested =
            |column: &Column| matches!(column, Column::Envelope | Column::Body | Column::BodyStructure);
        self.columns.iter().any(is_digested)
            || self.parts.iter().any(|part| matches!(part, FetchPart::Fields(..)))
    }

    /// What is asked for twice is told once.
    fn add(&mut self, column: Column) {
        if !self.columns.contains(&column) {
            self.columns.push(column);
        }
    }

    fn add_item(&mut self, item: &FetchItem) {
        match item {
            FetchItem::Flags => self.add(Column::Flags),
            FetchItem::Uid => self.add(Column::Uid),
            FetchItem::InternalDate => self.add(Column::InternalDate),
            FetchItem::Size => self.add(Column::Size),
            FetchItem::Envelope => self.add(Column::Envelope),
            FetchItem::Body => self.add(Column::Body),
            FetchItem::BodyStructure => self.add(Column::BodyStructure),
            FetchItem::ModSeq => self.add(Column::ModSeq),
            FetchItem::SaveDate => self.add(Column::SaveDate),
            FetchItem::Section(section) => {
                self.sets_seen |= section.sets_seen;
                self.parts.push(FetchPart::of(section.clone()));
            }
            FetchItem::Binary(binary) => {
                self.sets_seen |= binary.sets_seen;
                self.parts.push(FetchPart::Binary(binary.clone()));
            }
            FetchItem::BinarySize(binary) => self.parts.push(FetchPart::BinarySize(binary.clone())),
        }
    }

    /// A change of flags is told with UID in IMAP4rev2 (RFC 9051 7.5.2), with UID and MODSEQ under CONDSTORE
    /// (RFC 7162 3.2.4).
    fn columns_for_change(&self, enabled: Enabled) -> Vec<Column> {
        let wanted = [
            (Column::Flags, true),
            (Column::Uid, enabled.rev2 || enabled.condstore),
            (Column::ModSeq, enabled.condstore),
        ];
        let wanted = wanted.into_iter().filter(|(column, wanted)| *wanted && !self.columns.contains(column));
        wanted.map(|(column, _)| column).collect()
    }
}

impl FetchPart {
    fn of(item: FetchSection) -> Self {
        match KeptNames::asked_by(&item.section) {
            Some(names) => Self::Fields(item, names),
            None => Self::Section(item),
        }
    }
}

/// The whole response for a plan without parts.
pub fn row(out: &mut Output, plan: &FetchPlan, row: &FetchRow<'_>) {
    open(out, plan, row);
    close(out);
}

/// The response up to the first part. Every item leaves a space behind it.
pub fn open(out: &mut Output, plan: &FetchPlan, row: &FetchRow<'_>) {
    begin(out, row.number);
    for &column in &plan.columns {
        write_column(out, column, row);
    }
    if row.flags.changed {
        for &column in &plan.columns_changed {
            write_column(out, column, row);
        }
    }
}

/// `BODY[1]<0> {342}` and the content, of which this cuts what the client asked for. No such literal holds a NUL (RFC
/// 9051 9, CHAR8): where `may_hold_nul` says that there is one, another octet is told for each.
pub fn section(
    out: &mut Output,
    item: &FetchSection,
    content: Content,
    may_hold_nul: impl FnOnce(&[u8]) -> bool,
) {
    out.push(item.label.as_bytes());
    out.push(b" ");
    let Some(bytes) = cut(content, item.partial) else {
        return out.push(b"NIL ");
    };
    if bytes.is_empty() || !may_hold_nul(&bytes) {
        return write_string(out, bytes);
    }
    text::literal_head(out.text_mut(), bytes.len());
    out.push_swapped(bytes, Swap { from: 0, to: NUL_STAND_IN });
    out.push(b" ");
}

/// `BODY[HEADER.FIELDS (FROM)] {34}` and those of the digest's fields, of which this cuts what the client asked for.
/// Their places are gathered in `places`.
pub fn fields(
    out: &mut Output,
    item: &FetchSection,
    names: &KeptNames,
    kept: &[u8],
    places: &mut Vec<Range<usize>>,
) {
    let length = names.find_in(kept, places);
    let asked = item.partial.map_or(0..length, |partial| partial.range(length));
    let text = out.text_mut();
    text.extend_from_slice(item.label.as_bytes());
    text.push(b' ');
    if asked.is_empty() {
        return text.extend_from_slice(b"\"\" ");
    }
    text::literal_head(text, asked.len());
    let from = text.len();
    for place in places.drain(..) {
        text.extend_from_slice(&kept[place]);
    }
    text.truncate(from + asked.end);
    text.drain(from..from + asked.start);
    text.push(b' ');
}

/// `BINARY[1] {342}`, or `~{342}` if `may_hold_nul` says so of the content (RFC 3516 4.2), and the content, cut.
pub fn binary(
    out: &mut Output,
    item: &FetchBinary,
    content: Content,
    may_hold_nul: impl FnOnce(&[u8]) -> bool,
) {
    out.push(item.label.as_bytes());
    out.push(b" ");
    let Some(bytes) = cut(content, item.partial) else {
        return out.push(b"NIL ");
    };
    if !bytes.is_empty() && may_hold_nul(&bytes) {
        out.push(b"~");
    }
    write_string(out, bytes);
}

/// `BINARY.SIZE[1] 342`
pub fn binary_size(out: &mut Output, item: &FetchBinary, size: u64) {
    let text = out.text_mut();
    text.extend_from_slice(item.label.as_bytes());
    text.push(b' ');
    text::number(text, size);
    text.push(b' ');
}

/// The end of the response: the space behind the last item gives way to the parenthesis.
pub fn close(out: &mut Output) {
    let text = out.text_mut();
    let space = text.pop();
    assert_eq!(space, Some(b' '), "a response without items");
    text.extend_from_slice(b")\r\n");
}

/// `* 12 FETCH (UID 47 FLAGS (\Seen) MODSEQ (9))`: what a STORE or another session changed.
pub fn flags_changed(out: &mut Output, row: &FetchRow<'_>, news: FlagsNews) {
    if !news.flags && !news.modseq {
        return;
    }
    begin(out, row.number);
    let columns = [(Column::Uid, news.uid), (Column::Flags, news.flags), (Column::ModSeq, news.modseq)];
    for (column, _) in columns.into_iter().filter(|(_, wanted)| *wanted) {
        write_column(out, column, row);
    }
    close(out);
}

fn begin(out: &mut Output, number: u32) {
    let text = out.text_mut();
    text.extend_from_slice(b"* ");
    text::number(text, number.into());
    text.extend_from_slice(b" FETCH (");
}

/// Writes a name, its value and a space.
fn write_column(out: &mut Output, column: Column, row: &FetchRow<'_>) {
    let text = out.text_mut();
    match column {
        Column::Flags => write_flags(text, row.flags),
        Column::Uid => write_number(text, (b"UID ", b" "), row.uid.into()),
        Column::Size => write_number(text, (b"RFC822.SIZE ", b" "), row.size),
        Column::ModSeq => write_number(text, (b"MODSEQ (", b") "), row.modseq),
        Column::InternalDate => write_date(out, "INTERNALDATE", Some(row.internal)),
        Column::SaveDate => write_date(out, "SAVEDATE", row.saved),
        Column::Envelope => write_bytes(text, b"ENVELOPE ", row.envelope),
        Column::Body => write_bytes(text, b"BODY ", row.body),
        Column::BodyStructure => write_bytes(text, b"BODYSTRUCTURE ", row.body_structure),
    }
}

fn write_bytes(text: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    text.extend_from_slice(name);
    text.extend_from_slice(value);
    text.push(b' ');
}

fn write_number(text: &mut Vec<u8>, (before, after): (&[u8], &[u8]), number: u64) {
    text.extend_from_slice(before);
    text::number(text, number);
    text.extend_from_slice(after);
}

fn write_flags(text: &mut Vec<u8>, flags: RowFlags<'_>) {
    text.extend_from_slice(b"FLAGS (");
    let empty = text.len();
    for (flag, name) in SystemFlags::NAMES {
        if flags.system.contains(flag) {
            text.extend_from_slice(name.as_bytes());
            text.push(b' ');
        }
    }
    if flags.recent {
        text.extend_from_slice(b"\\Recent ");
    }
    let mut keywords = flags.keywords;
    while keywords != 0 {
        if let Some(name) = flags.names.get(keywords.trailing_zeros() as usize) {
            text.extend_from_slice(name.as_bytes());
            text.push(b' ');
        }
        keywords &= keywords - 1;
    }
    if text.len() > empty {
        text.pop();
    }
    text.extend_from_slice(b") ");
}

fn write_date(out: &mut Output, name: &str, date: Option<Timestamp>) {
    let written = match date {
        Some(date) => write!(out, "{name} \"{}\" ", ImapDateTime(date)),
        None => write!(out, "{name} NIL "),
    };
    written.expect("an Output takes all that is written to it");
}

/// What is asked for of the content; `None` if there is none.
fn cut(content: Content, partial: Option<Partial>) -> Option<Slice> {
    let Content::Bytes(slice) = content else {
        return None;
    };
    Some(match partial {
        Some(partial) => slice.part(partial.range(slice.len())),
        None => slice,
    })
}

/// Bytes as a string, and a space.
fn write_string(out: &mut Output, bytes: Slice) {
    if bytes.is_empty() {
        return out.push(b"\"\" ");
    }
    text::literal_head(out.text_mut(), bytes.len());
    out.push_slice(bytes);
    out.push(b" ");
}

#[cfg(test)]
mod tests {
    use super::{
        Content, Enabled, FetchPart, FetchPlan, FetchRow, FlagsNews, RowFlags, SystemFlags, Timestamp,
        binary, binary_size, close, fields, flags_changed, open, row, section,
    };
    use crate::bytes::{Output, Slice};
    use crate::proto::imap::command::Command;
    use crate::proto::imap::lexer::Dialect;
    use crate::proto::imap::parse::{Request, head};

    const ROW: FetchRow<'_> = FetchRow {
        number: 12,
        uid: 47,
        modseq: 9,
        flags: RowFlags {
            system: SystemFlags(8 | 2),
            keywords: 0b101,
            names: &["$Forwarded", "b", "$Junk"],
            recent: false,
            changed: false,
        },
        size: 4321,
        internal: Timestamp { seconds: 0, zone_minutes: 0 },
        saved: None,
        envelope: b"(NIL)",
        body: b"(\"TEXT\")",
        body_structure: b"(\"TEXT\" NIL)",
    };

    fn plan_of(text: &str, enabled: Enabled) -> FetchPlan {
        match head(text.as_bytes(), Dialect::Rev1).and_then(|head| head.request()) {
            Ok(Request::Command(Command::Fetch(fetch))) => FetchPlan::new(&fetch, enabled),
            request => panic!("{text}: {request:?}"),
        }
    }

    fn shown(out: &Output) -> String {
        String::from_utf8_lossy(&out.to_vec()).into_owned()
    }

    #[test]
    fn rows() {
        let table = [
            ("a FETCH 1 FLAGS", "FLAGS (\\Flagged \\Seen $Forwarded $Junk)"),
            ("a UID FETCH 1 (RFC822.SIZE UID)", "UID 47 RFC822.SIZE 4321"),
            ("a FETCH 1 (UID UID MODSEQ)", "UID 47 MODSEQ (9)"),
            ("a FETCH 1 UID (CHANGEDSINCE 3)", "UID 47 MODSEQ (9)"),
            (
                "a FETCH 1 (ENVELOPE BODY BODYSTRUCTURE)",
                "ENVELOPE (NIL) BODY (\"TEXT\") BODYSTRUCTURE (\"TEXT\" NIL)",
            ),
            ("a FETCH 1 (INTERNALDATE SAVEDATE)", "INTERNALDATE \" 1-Jan-1970 00:00:00 +0000\" SAVEDATE NIL"),
        ];
        for (text, expected) in table {
            let plan = plan_of(text, Enabled::default());
            let mut out = Output::new();
            row(&mut out, &plan, &ROW);
            assert_eq!(shown(&out), format!("* 12 FETCH ({expected})\r\n"));
            assert!(plan.parts().is_empty() && !plan.sets_seen());
            assert_eq!(plan.needs_digest(), text.contains("BODY"), "{text}");
        }
    }

    #[test]
    fn no_flags_and_all_flags() {
        let plan = plan_of("a FETCH 1 FLAGS", Enabled::default());
        let mut out = Output::new();
        row(&mut out, &plan, &FetchRow { flags: RowFlags::default(), ..ROW });
        let all = RowFlags { system: SystemFlags::ALL, recent: true, ..RowFlags::default() };
        row(&mut out, &plan, &FetchRow { flags: all, ..ROW });
        let expected = "* 12 FETCH (FLAGS ())\r\n\
            * 12 FETCH (FLAGS (\\Answered \\Flagged \\Deleted \\Seen \\Draft \\Recent))\r\n";
        assert_eq!(shown(&out), expected);
    }

    /// The response to `text` where every part has this content.
    fn fetched(text: &str, content: Option<&[u8]>, enabled: Enabled) -> String {
        let plan = plan_of(text, enabled);
        let mut out = Output::new();
        let changed =
            RowFlags { system: SystemFlags::SEEN, changed: plan.sets_seen(), ..RowFlags::default() };
        open(&mut out, &plan, &FetchRow { flags: changed, ..ROW });
        let content = content.map_or(Content::Missing, |bytes| Content::Bytes(Slice::from(bytes.to_vec())));
        let has_nul = |bytes: &[u8]| bytes.contains(&0);
        for part in plan.parts() {
            match part {
                FetchPart::Section(item) => section(&mut out, item, content.clone(), has_nul),
                FetchPart::Fields(item, names) => {
                    fields(&mut out, item, names, b"Subject: a\r\nTo: b\r\n\r\n", &mut Vec::new());
                }
                FetchPart::Binary(item) => binary(&mut out, item, content.clone(), has_nul),
                FetchPart::BinarySize(item) => binary_size(&mut out, item, 7),
            }
        }
        close(&mut out);
        shown(&out)
    }

    #[test]
    fn parts() {
        let (rev1, condstore) = (Enabled::default(), Enabled { rev2: false, condstore: true });
        let some = Some(b"body (".as_slice());
        let nul = Some(b"a\0b".as_slice());
        for (text, content, enabled, expected) in [
            ("a FETCH 1 BODY.PEEK[1]", some, rev1, "BODY[1] {6}\r\nbody ("),
            ("a FETCH 1 (BODY.PEEK[] UID)", some, rev1, "UID 47 BODY[] {6}\r\nbody ("),
            ("a FETCH 1 BODY[9]", None, rev1, "FLAGS (\\Seen) BODY[9] NIL"),
            ("a FETCH 1 RFC822", some, condstore, "FLAGS (\\Seen) UID 47 MODSEQ (9) RFC822 {6}\r\nbody ("),
            ("a FETCH 1 BODY.PEEK[]<1.3>", some, rev1, "BODY[]<1> {3}\r\nody"),
            ("a FETCH 1 BODY.PEEK[]<6.3>", some, rev1, "BODY[]<6> \"\""),
            ("a FETCH 1 BODY.PEEK[]<99.3>", some, rev1, "BODY[]<99> \"\""),
            (
                "a FETCH 1 (BODY.PEEK[1] BODY.PEEK[HEADER.FIELDS (x)])",
                some,
                rev1,
                "BODY[1] {6}\r\nbody ( BODY[HEADER.FIELDS (x)] {6}\r\nbody (",
            ),
            (
                "a FETCH 1 BODY.PEEK[HEADER.FIELDS (to cc)]",
                None,
                rev1,
                "BODY[HEADER.FIELDS (to cc)] {9}\r\nTo: b\r\n\r\n",
            ),
            (
                "a FETCH 1 BODY.PEEK[HEADER.FIELDS (to)]<4.2>",
                None,
                rev1,
                "BODY[HEADER.FIELDS (to)]<4> {2}\r\nb\r",
            ),
            (
                "a FETCH 1 BODY.PEEK[HEADER.FIELDS (to)]<99.2>",
                None,
                rev1,
                "BODY[HEADER.FIELDS (to)]<99> \"\"",
            ),
            ("a FETCH 1 BINARY.PEEK[1]", nul, rev1, "BINARY[1] ~{3}\r\na\0b"),
            ("a FETCH 1 BODY.PEEK[1]", nul, rev1, "BODY[1] {3}\r\na\u{fffd}b"),
            ("a FETCH 1 BINARY.PEEK[1]<0.1>", nul, rev1, "BINARY[1]<0> {1}\r\na"),
            ("a FETCH 1 BINARY.PEEK[1]", None, rev1, "BINARY[1] NIL"),
            ("a FETCH 1 BINARY.SIZE[1.2]", None, rev1, "BINARY.SIZE[1.2] 7"),
        ] {
            assert_eq!(fetched(text, content, enabled), format!("* 12 FETCH ({expected})\r\n"), "{text}");
        }
        let large = vec![b'x'; 10_000];
        let response = fetched("a FETCH 1 (BODY.PEEK[1] BODY.PEEK[2])", Some(&large), rev1);
        assert_eq!(response.len(), 20_000 + "* 12 FETCH (BODY[1] {10000}\r\n BODY[2] {10000}\r\n)\r\n".len());
    }

    #[test]
    fn news() {
        let written = |news| {
            let mut out = Output::new();
            flags_changed(&mut out, &FetchRow { flags: RowFlags::default(), ..ROW }, news);
            shown(&out)
        };
        let all = FlagsNews { uid: true, modseq: true, flags: true };
        assert_eq!(written(all), "* 12 FETCH (UID 47 FLAGS () MODSEQ (9))\r\n");
        assert_eq!(written(FlagsNews { flags: false, ..all }), "* 12 FETCH (UID 47 MODSEQ (9))\r\n");
        assert_eq!(written(FlagsNews { flags: false, modseq: false, uid: true }), "");
    }

    #[test]
    fn a_large_part_with_a_nul_is_not_copied() {
        let plan = plan_of("a FETCH 1 BODY.PEEK[]", Enabled::default());
        let [FetchPart::Section(item)] = plan.parts() else {
            panic!("one section");
        };
        let mut out = Output::new();
        section(&mut out, item, Content::Bytes(Slice::from(b"a\0".repeat(50_000))), |_| true);
        assert!(out.held_bytes() < 200, "{}", out.held_bytes());
        assert!(out.to_vec() == [b"BODY[] {100000}\r\n", &b"a\x80".repeat(50_000)[..], b" "].concat());
    }
}
