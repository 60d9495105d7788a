//! FETCH and UID FETCH.
//!
//! Where the index answers, a message costs a few copies. Where the message itself is asked for, it is read
//! through the mapping and its parts leave as slices of it. The answer goes out in bursts; between two of them
//! other sessions have their turn, and the mailbox may change.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use memchr::memchr;

use super::news::{flags_row, keyword_names, tell_keywords};
use super::session::{Session, numbering, too_much};
use super::{expunged, mailbox_gone, not_stored, refused};
use crate::bytes::{Output, Slice};
use crate::io::executor::Turns;
use crate::limits;
use crate::mail::digest::Digest;
use crate::mail::flags::{Flags, FlagsAction, SystemFlags};
use crate::mail::header::Header;
use crate::mail::mime::Structure;
use crate::mail::part::{
    BinaryError, Decoded, SectionBytes, binary, binary_len, header_len, message_bytes, section_bytes,
};
use crate::mail::render::{Form, body, body_structure, may_differ};
use crate::mail::section::{Section, SectionText};
use crate::mail::set::Ranges;
use crate::mailbox::plan::StoreFlags;
use crate::mailbox::view::Message;
use crate::proto::imap::command::{Access, Fetch, Numbering};
use crate::proto::imap::render::fetch::{self, Content, FetchPart, FetchPlan};
use crate::proto::imap::reply::{Code, Done};
use crate::proto::imap::server::Enabled;
use crate::store::index::RowDigest;
use crate::store::{Locator, MailboxId};

/// What a client can do about it is in the words.
const TOO_MUCH: &str =
    "More was asked for of a message than a session may hold; ask for a part of it at a time";

/// What went wrong with some messages while others were told.
#[derive(Default)]
struct Trouble {
    /// Expunged by another session, and this one was not told yet.
    expunged: bool,
    /// They cannot be read.
    unreadable: bool,
    /// BINARY cannot decode a part (RFC 3516 4.3).
    unknown_encoding: bool,
    /// BINARY of a part that has no content of its own.
    no_leaf: bool,
    /// Of some, more was asked for than a session may hold.
    too_much: bool,
}

/// The digest of a message that was not read since a start, on its way to the mailbox.
type Supplied = Vec<(u32, Arc<Digest>)>;

impl Session {
    pub(super) async fn fetch(&mut self, command: &Fetch) -> Done {
        let Some((mailbox, access)) = self.selected_mailbox() else {
            return mailbox_gone();
        };
        let mut spans = match self.resolve(&command.numbers, numbering(command.numbering)) {
            Ok(spans) => spans,
            Err(done) => return done,
        };
        let plan = FetchPlan::new(command, self.engine.enabled());
        let mut seen = Ranges::default();
        let mut changed_since = command.changed_since.unwrap_or(0);
        if plan.sets_seen() && access == Access::ReadWrite {
            if changed_since > 0 {
                // Those that have changed by now: to be seen is a change, too.
                spans = match self.changed(mailbox, &spans, std::mem::take(&mut changed_since)) {
                    Ok(changed) => changed,
                    Err(done) => return done,
                };
            }
            match self.set_seen(mailbox, &spans).await {
                Ok(changed) => seen = changed,
                Err(done) => return done,
            }
        }
        let burst = Burst {
            plan: &plan,
            numbering: command.numbering,
            spans: &spans,
            seen: &seen,
            changed_since,
            room_bytes: self.room_bytes(),
            enabled: self.engine.enabled(),
            places: RefCell::default(),
        };
        let mut trouble = Trouble::default();
        let mut turns = Turns::begin();
        let mut after = Some(0);
        while let Some(from) = after {
            after = self.burst(&burst, from, &mut trouble);
            if self.conn.flush().await.is_err() {
                return Done::no(Some(Code::Unavailable), "The client went away");
            }
            if after.is_some() {
                turns.give().await;
            }
        }
        match self.has_lost_its_mailbox() {
            true => mailbox_gone(),
            false => trouble.done(),
        }
    }

    /// Which of the messages have changed after this mod-sequence (RFC 7162 3.1.4.1). Those that are expunged are among
    /// them, to be told as such.
    fn changed(&mut self, mailbox: MailboxId, spans: &Ranges, since: u64) -> Result<Ranges, Done> {
        let Some(selected) = &mut self.selected else {
            return Err(mailbox_gone());
        };
        let account = self.seat.account();
        let mailbox = account.mailbox(mailbox).ok_or_else(mailbox_gone)?;
        let look = selected.view.look(mailbox);
        let is_changed = |message: &Message<'_>| message.row.is_none_or(|row| row.modseq > since);
        Ok(look.messages(spans, 0).filter(is_changed).map(|message| message.uid).collect())
    }

    /// Sets \Seen before the rows are told, so that they tell it (RFC 9051 6.4.5).
    async fn set_seen(&mut self, mailbox: MailboxId, spans: &Ranges) -> Result<Ranges, Done> {
        let seen = Flags::system(SystemFlags::SEEN);
        let unseen: Ranges = {
            let Some(selected) = &mut self.selected else {
                return Err(mailbox_gone());
            };
            let account = self.seat.account();
            let mailbox = account.mailbox(mailbox).ok_or_else(mailbox_gone)?;
            let look = selected.view.look(mailbox);
            let is_unseen =
                |message: &Message<'_>| message.row.is_some_and(|row| !row.flags.contains(SystemFlags::SEEN));
            look.messages(spans, 0).filter(is_unseen).map(|message| message.uid).collect()
        };
        if unseen.is_empty() {
            return Ok(unseen);
        }
        let wanted =
            StoreFlags { uids: &unseen, action: FlagsAction::Add, flags: &seen, unchanged_since: None };
        let planned = self.seat.account_mut().plan_store(mailbox, wanted);
        let plan = planned.map_err(refused)?;
        let stored = self.seat.carry_out(plan).await.map_err(not_stored)?;
        if let (Some(modseq), Some(selected)) = (stored.modseq, &mut self.selected) {
            selected.view.silence(modseq);
        }
        Ok(unseen)
    }

    /// Tells messages above UID `after` until the burst is full; gives the last UID if there are more.
    fn burst(&mut self, burst: &Burst<'_>, after: u32, trouble: &mut Trouble) -> Option<u32> {
        let mut supplied = Supplied::new();
        let (mailbox_id, last) = {
            let selected = self.selected.as_mut()?;
            let account = self.seat.account();
            let mailbox = account.mailbox(selected.view.mailbox())?;
            let names = keyword_names(mailbox);
            tell_keywords(self.conn.out(), selected, mailbox);
            let look = selected.view.look(mailbox);
            let (mut last, mut looked_bytes) = (None, 0);
            if after > 0 {
                // The burst before was full, and the last message goes a little beyond that.
                self.conn.out().text_mut().reserve(limits::imap::OUTPUT_BURST_BYTES / 8 * 9);
            }
            for message in look.messages(burst.spans, after) {
                let out = self.conn.out();
                let is_full = out.len() >= limits::imap::OUTPUT_BURST_BYTES
                    || looked_bytes >= limits::imap::LOOKED_BURST_BYTES;
                if is_full {
                    break;
                }
                let read = |locator: &Locator| self.shard.read(locator);
                looked_bytes += burst.tell(&message, &names, read, out, trouble, &mut supplied);
                last = Some(message.uid);
            }
            (mailbox.id(), last)
        };
        if !supplied.is_empty() {
            let mut account = self.seat.account_mut();
            for (uid, digest) in supplied {
                account.supply(mailbox_id, uid, &digest);
            }
        }
        last
    }
}

/// What every message of a FETCH is told by.
struct Burst<'a> {
    plan: &'a FetchPlan,
    numbering: Numbering,
    spans: &'a Ranges,
    /// Messages whose \Seen this command has set.
    seen: &'a Ranges,
    /// Only messages changed after this; 0 for all (RFC 7162 3.1.4.1).
    changed_since: u64,
    /// What the copies that one message's parts are made of may take, before the last of them.
    room_bytes: usize,
    /// What decides about \Recent, and the form of BODY and BODYSTRUCTURE.
    enabled: Enabled,
    /// Where the places of fields are gathered.
    places: RefCell<Vec<Range<usize>>>,
}

impl Burst<'_> {
    /// Gives the octets that were looked through for it.
    #[expect(clippy::too_many_arguments, reason = "one message with everything around it, in one place")]
    fn tell(
        &self,
        message: &Message<'_>,
        names: &[&str],
        read: impl Fn(&Locator) -> Option<Slice>,
        out: &mut Output,
        trouble: &mut Trouble,
        supplied: &mut Supplied,
    ) -> usize {
        let Some(row) = message.row else {
            // RFC 9051 6.4.9: a UID that is not there is passed over.
            trouble.expunged |= self.numbering == Numbering::Sequence;
            return 0;
        };
        if self.changed_since > 0 && row.modseq <= self.changed_since {
            return 0;
        }
        let mut bytes = None;
        let kept = if self.plan.needs_digest() { row.digest.get() } else { None };
        let is_other_form = |digest: RowDigest<'_>| {
            self.enabled.rev2 && self.plan.needs_structure() && may_differ(digest.body_structure)
        };
        let needs_message = self.plan.needs_message()
            || (self.plan.needs_digest() && kept.is_none())
            || kept.is_some_and(is_other_form);
        if needs_message {
            bytes = read(&row.locator);
            if bytes.is_none() {
                trouble.unreadable = true;
                return 0;
            }
        }
        let made = match (&bytes, kept) {
            (Some(bytes), None) if self.plan.needs_digest() => Some(Arc::new(Digest::of(bytes))),
            _ => None,
        };
        let digest = kept.or_else(|| made.as_deref().map(RowDigest::from));
        // The digest is in the other form, which makes a difference for these.
        let structures = bytes.as_deref().filter(|_| digest.is_some_and(is_other_form)).map(structures);
        let Some(mut row) = flags_row(message, names, self.enabled) else {
            return 0;
        };
        row.flags.changed = self.seen.contains(message.uid);
        if let Some(digest) = digest {
            (row.envelope, row.body, row.body_structure) =
                (digest.envelope, digest.body, digest.body_structure);
        }
        if let Some((body, body_structure)) = &structures {
            row.body = body;
            row.body_structure = body_structure;
        }
        let begun = out.mark();
        fetch::open(out, self.plan, &row);
        let opened_bytes = out.held_bytes();
        let mut parts = Parts::of(bytes.as_ref(), digest.map(|digest| digest.fields));
        for part in self.plan.parts() {
            // What is copied for one part alone is bounded by the message.
            if out.held_bytes() - opened_bytes + parts.searched_bytes > self.room_bytes {
                out.take_back(begun);
                if row.flags.changed {
                    fetch::row(out, self.plan, &row);
                }
                trouble.too_much = true;
                return parts.looked_bytes();
            }
            parts.tell(part, out, trouble, &mut self.places.borrow_mut());
        }
        fetch::close(out);
        let looked_bytes = parts.looked_bytes();
        supplied.extend(made.map(|digest| (message.uid, digest)));
        looked_bytes
    }
}

/// BODY and BODYSTRUCTURE as IMAP4rev2 has them (RFC 9051 7.5.2; 9, media-message).
fn structures(message: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let structure = Structure::of(message);
    let (mut short, mut long) = (Vec::new(), Vec::new());
    body(&structure, Form::Utf8, &mut short);
    body_structure(&structure, Form::Utf8, &mut long);
    (short, long)
}

/// Parts overlap, and thousands of them may be the same octets. No client has a use for more than a few.
const NUL_LOOKS_MAX: usize = 8;

/// What the parts of one message are made from. The plan says what is needed, and that is there.
struct Parts<'a> {
    bytes: Option<&'a Slice>,
    /// The fields that its digest keeps.
    kept: Option<&'a [u8]>,
    /// Made when the first part asks for it.
    structure: Option<Structure<'a>>,
    /// What was decoded, by the part's numbers: once, however often it is asked for. All together are not much longer
    /// than the message.
    decoded: BTreeMap<&'a [u32], Slice>,
    /// The same for BINARY.SIZE.
    sizes: BTreeMap<&'a [u32], u64>,
    /// Octets of headers that were looked through for fields or for their end, each time anew. No more was copied of
    /// them.
    searched_bytes: usize,
    /// Octets that were decoded.
    decoded_bytes: usize,
    /// Octets of the parts that were told.
    told_bytes: usize,
}

impl<'a> Parts<'a> {
    fn of(bytes: Option<&'a Slice>, kept: Option<&'a [u8]>) -> Self {
        Self {
            bytes,
            kept,
            structure: None,
            decoded: BTreeMap::new(),
            sizes: BTreeMap::new(),
            searched_bytes: 0,
            decoded_bytes: 0,
            told_bytes: 0,
        }
    }

    fn tell(
        &mut self,
        part: &'a FetchPart,
        out: &mut Output,
        trouble: &mut Trouble,
        places: &mut Vec<Range<usize>>,
    ) {
        match part {
            FetchPart::Fields(item, names) => {
                let kept = self.kept.unwrap_or_default();
                self.searched_bytes += kept.len();
                fetch::fields(out, item, names, kept, places);
            }
            FetchPart::Section(item) => {
                let content = self.section(&item.section);
                fetch::section(out, item, content, |bytes| self.may_hold_nul(bytes));
            }
            FetchPart::Binary(item) => {
                let content = self.binary(&item.part).unwrap_or_else(|error| {
                    trouble.add(error);
                    Content::Missing
                });
                fetch::binary(out, item, content, |bytes| self.may_hold_nul(bytes));
            }
            FetchPart::BinarySize(item) => {
                let size = self.binary_size(&item.part).unwrap_or_else(|error| {
                    trouble.add(error);
                    0
                });
                fetch::binary_size(out, item, size);
            }
        }
    }

    fn section(&mut self, section: &Section) -> Content {
        self.searched_bytes += self.header_len(section);
        let found = message_bytes(self.message(), section);
        match found.or_else(|| section_bytes(self.structure(), section)) {
            None => Content::Missing,
            Some(SectionBytes::Range(range)) => self.part(range),
            Some(SectionBytes::Owned(owned)) => Content::Bytes(Slice::from(owned)),
        }
    }

    /// Octets of the header that a section has to be looked for in.
    fn header_len(&mut self, section: &Section) -> usize {
        match section.text {
            SectionText::Whole | SectionText::Mime => 0,
            _ if section.part.is_empty() => Header::of(self.message()).len(),
            SectionText::HeaderFields(_) | SectionText::HeaderFieldsNot(_) => {
                header_len(self.structure(), section)
            }
            SectionText::Header | SectionText::Text => 0,
        }
    }

    fn binary(&mut self, part: &'a [u32]) -> Result<Content, BinaryError> {
        if let Some(decoded) = self.decoded.get(part) {
            return Ok(Content::Bytes(decoded.clone()));
        }
        match binary(self.structure(), part)? {
            Decoded::Range(range) => Ok(self.part(range)),
            Decoded::Owned(owned) => {
                self.decoded_bytes += owned.len();
                let decoded = Slice::from(owned);
                self.decoded.insert(part, decoded.clone());
                Ok(Content::Bytes(decoded))
            }
        }
    }

    fn binary_size(&mut self, part: &'a [u32]) -> Result<u64, BinaryError> {
        if let Some(size) = self.sizes.get(part) {
            return Ok(*size);
        }
        let size = binary_len(self.structure(), part)?;
        self.decoded_bytes += usize::try_from(size).unwrap_or(usize::MAX);
        self.sizes.insert(part, size);
        Ok(size)
    }

    /// Whether there may be a NUL in these bytes of the message, decoded or not. That is looked for until all parts
    /// together are [`NUL_LOOKS_MAX`] times the message; from there on there may be one anywhere.
    fn may_hold_nul(&mut self, bytes: &[u8]) -> bool {
        self.told_bytes = self.told_bytes.saturating_add(bytes.len());
        let is_looked_for = self.told_bytes <= self.message().len().saturating_mul(NUL_LOOKS_MAX);
        !is_looked_for || memchr(0, bytes).is_some()
    }

    fn part(&self, range: Range<usize>) -> Content {
        self.bytes.map_or(Content::Missing, |bytes| Content::Bytes(bytes.part(range)))
    }

    fn message(&self) -> &'a [u8] {
        self.bytes.map_or(&[], |bytes| bytes)
    }

    fn structure(&mut self) -> &Structure<'a> {
        let message = self.message();
        self.structure.get_or_insert_with(|| Structure::of(message))
    }

    /// All that was looked through: the message as it was read, and what was done with it.
    fn looked_bytes(&self) -> usize {
        self.message().len() + self.searched_bytes + self.decoded_bytes
    }
}

impl Trouble {
    fn add(&mut self, error: BinaryError) {
        match error {
            BinaryError::Missing => {}
            BinaryError::NotALeaf => self.no_leaf = true,
            BinaryError::UnknownEncoding => self.unknown_encoding = true,
        }
    }

    fn done(&self) -> Done {
        if self.too_much {
            return too_much(TOO_MUCH);
        }
        if self.unknown_encoding {
            return Done::no(Some(Code::UnknownCte), "A part has a transfer encoding that is not known");
        }
        if self.no_leaf {
            return Done::no(Some(Code::Cannot), "A multipart or message has no content of its own");
        }
        if self.unreadable {
            return Done::no(Some(Code::ServerBug), "Some messages cannot be read; the operator was told");
        }
        if self.expunged {
            return expunged();
        }
        Done::ok("Fetch completed")
    }
}

#[cfg(test)]
mod tests {
    use super::{
        Burst, Enabled, Fetch, FetchPlan, Locator, Message, Numbering, Output, Ranges, RefCell, Section,
        SectionText, Slice, Supplied, SystemFlags, Trouble,
    };
    use crate::mail::section::Partial;
    use crate::mail::set::NumberSet;
    use crate::mail::time::Timestamp;
    use crate::mailbox::Row;
    use crate::proto::imap::command::{FetchBinary, FetchItem, FetchSection};
    use crate::proto::imap::reply::Status;
    use crate::store::index::LazyDigest;
    use crate::store::{LogId, MessageId, Place, Sequence};

    /// What is told of a message, how many octets were looked through for it, and how the command ends.
    fn told(message: &[u8], items: Vec<FetchItem>, room_bytes: usize) -> (String, usize, Status) {
        let numbers = NumberSet::Ranges(Vec::new());
        let command = Fetch { numbering: Numbering::Sequence, numbers, items, changed_since: None };
        let plan = FetchPlan::new(&command, Enabled::default());
        let bytes = Slice::from(message.to_vec());
        let locator = Locator {
            id: MessageId { log: LogId(1), sequence: Sequence(1) },
            place: Place::File { number: 1 },
            length: message.len() as u64,
            return_path_length: 0,
        };
        let row = Row {
            uid: 1,
            modseq: 1,
            flags: SystemFlags::NONE,
            keywords: 0,
            internal: Timestamp::default(),
            saved: 0,
            locator,
            digest: LazyDigest::Missing,
        };
        let message = Message { msn: 1, uid: 1, recent: false, row: Some(row) };
        let none = Ranges::default();
        let places = RefCell::default();
        let (enabled, changed_since) = (Enabled::default(), 0);
        let burst = Burst {
            plan: &plan,
            numbering: command.numbering,
            spans: &none,
            seen: &none,
            changed_since,
            room_bytes,
            enabled,
            places,
        };
        let (mut out, mut trouble, mut supplied) = (Output::new(), Trouble::default(), Supplied::new());
        out.push(b"before ");
        let read = |_: &Locator| Some(bytes.clone());
        let looked_bytes = burst.tell(&message, &[], read, &mut out, &mut trouble, &mut supplied);
        let text = String::from_utf8_lossy(&out.to_vec()).into_owned();
        (text, looked_bytes, trouble.done().status)
    }

    fn binary(offset: u64) -> FetchItem {
        let partial = Some(Partial { offset, length: 2 });
        FetchItem::Binary(FetchBinary {
            part: vec![1],
            partial,
            sets_seen: false,
            label: "BINARY[1]".to_owned(),
        })
    }

    fn fields(part: &[u32], text: SectionText) -> FetchItem {
        let section = Section { part: part.to_vec(), text };
        FetchItem::Section(FetchSection {
            section,
            partial: None,
            sets_seen: false,
            label: "BODY[]".to_owned(),
        })
    }

    #[test]
    fn a_part_is_decoded_once_however_often_it_is_asked_for() {
        let header = b"Content-Transfer-Encoding: base64\r\n\r\n";
        let message = [header.as_slice(), b"YWJj".repeat(10_000).as_slice()].concat();
        let size = FetchBinary { part: vec![1], partial: None, sets_seen: false, label: "SIZE".to_owned() };
        let sizes = std::iter::repeat_n(FetchItem::BinarySize(size), 1000);
        let items = (0..1000).map(binary).chain(sizes).collect();
        let (text, looked_bytes, status) = told(&message, items, 1 << 20);
        assert!(
            text.starts_with("before * 1 FETCH (BINARY[1] {2}\r\nab BINARY[1] {2}\r\nbc BINARY[1] {2}\r\nca")
        );
        assert!(text.ends_with("SIZE 30000 SIZE 30000)\r\n"));
        assert_eq!((looked_bytes, status), (message.len() + 2 * 30_000, Status::Ok));
    }

    #[test]
    fn a_message_of_which_too_much_is_asked_for_is_not_told() {
        let header = format!("Subject: a\r\nX-Long: {}\r\n\r\n", "x".repeat(9_000));
        let inner = format!("Content-Type: message/rfc822\r\n\r\n{header}text\r\n");
        let not = || SectionText::HeaderFieldsNot(vec!["y".to_owned()]);
        let none = || SectionText::HeaderFields(vec!["y".to_owned()]);
        let subject = || SectionText::HeaderFields(vec!["subject".to_owned()]);
        let table: [(&str, &dyn Fn() -> FetchItem); 6] = [
            (&header, &|| fields(&[], not())),
            (&header, &|| fields(&[], none())),
            (&header, &|| fields(&[], SectionText::Header)),
            (&header, &|| fields(&[], SectionText::Text)),
            (&inner, &|| fields(&[1], not())),
            (&inner, &|| fields(&[1], none())),
        ];
        for (message, item) in table {
            let items = |count| (0..count).map(|_| item()).collect();
            let (text, looked_bytes, status) = told(message.as_bytes(), items(100), 100_000);
            assert_eq!((text.as_str(), status), ("before ", Status::No));
            assert!(looked_bytes < message.len() + 130_000, "{looked_bytes}");
            // A few are told, and one always.
            for (count, room_bytes) in [(10, 200_000), (1, 0)] {
                let (text, _, status) = told(message.as_bytes(), items(count), room_bytes);
                assert!(text.ends_with(")\r\n") && status == Status::Ok);
            }
        }
        let items = (0..100).map(|_| fields(&[], subject())).collect();
        let (text, _, status) = told(header.as_bytes(), items, 2_000);
        assert_eq!((text.as_str(), status), ("before ", Status::No));
    }
}
