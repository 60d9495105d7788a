//! FETCH and UID FETCH.
//!
//! Where the index answers, a message costs a few copies. Where the message itself is asked for, it is read
//! through the mapping and its parts leave as slices of it. The answer goes out in bursts; between two of them
//! other sessions have their turn, and the mailbox may change.

use std::cell::RefCell;
use std::ops::Range;
use std::sync::Arc;

use super::news::{flags_row, keyword_names};
use super::session::{Session, numbering};
use super::{mailbox_gone, not_stored, refused};
use crate::bytes::{Output, Slice};
use crate::io::executor::Turns;
use crate::limits;
use crate::mail::digest::Digest;
use crate::mail::flags::{Flags, FlagsAction, SystemFlags};
use crate::mail::mime::Structure;
use crate::mail::part::{
    BinaryError, Decoded, SectionBytes, binary, binary_len, message_bytes, section_bytes,
};
use crate::mail::section::Section;
use crate::mail::set::Ranges;
use crate::mailbox::plan::StoreFlags;
use crate::mailbox::view::Message;
use crate::proto::imap::command::{Access, Fetch};
use crate::proto::imap::render::fetch::{self, Content, FetchPart, FetchPlan};
use crate::proto::imap::reply::{Code, Done};
use crate::store::index::RowDigest;
use crate::store::{Locator, MailboxId};

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
}

/// The digest of a message that was not read since a start, on its way to the mailbox.
type Supplied = Vec<(u32, Arc<Digest>)>;

impl Session {
    pub(super) async fn fetch(&mut self, command: &Fetch) -> Done {
        let Some((mailbox, access)) = self.selected_mailbox() else {
            return mailbox_gone();
        };
        let spans = match self.resolve(&command.numbers, numbering(command.numbering)) {
            Ok(spans) => spans,
            Err(done) => return done,
        };
        let plan = FetchPlan::new(command, self.engine.enabled());
        let mut seen = Ranges::default();
        if plan.sets_seen() && access == Access::ReadWrite {
            match self.set_seen(mailbox, &spans).await {
                Ok(changed) => seen = changed,
                Err(done) => return done,
            }
        }
        let burst = Burst {
            plan: &plan,
            spans: &spans,
            seen: &seen,
            changed_since: command.changed_since.unwrap_or(0),
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
        trouble.done()
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
            let look = selected.view.look(mailbox);
            let mut last = None;
            if after > 0 {
                // The burst before was full, and the last message goes a little beyond that.
                self.conn.out().text_mut().reserve(limits::imap::OUTPUT_BURST_BYTES / 8 * 9);
            }
            for message in look.messages(burst.spans, after) {
                let out = self.conn.out();
                if out.len() >= limits::imap::OUTPUT_BURST_BYTES {
                    break;
                }
                let read = |locator: &Locator| self.shard.read(locator);
                burst.tell(&message, &names, read, out, trouble, &mut supplied);
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
    spans: &'a Ranges,
    /// Messages whose \Seen this command has set.
    seen: &'a Ranges,
    /// Only messages changed after this; 0 for all (RFC 7162 3.1.4.1).
    changed_since: u64,
    /// Where the places of fields are gathered.
    places: RefCell<Vec<Range<usize>>>,
}

impl Burst<'_> {
    #[expect(clippy::too_many_arguments, reason = "one message with everything around it, in one place")]
    fn tell(
        &self,
        message: &Message<'_>,
        names: &[&str],
        read: impl Fn(&Locator) -> Option<Slice>,
        out: &mut Output,
        trouble: &mut Trouble,
        supplied: &mut Supplied,
    ) {
        let Some(row) = message.row else {
            trouble.expunged = true;
            return;
        };
        if self.changed_since > 0 && row.modseq <= self.changed_since {
            return;
        }
        let mut bytes = None;
        let kept = if self.plan.needs_digest() { row.digest.get() } else { None };
        let needs_message = self.plan.needs_message() || (self.plan.needs_digest() && kept.is_none());
        if needs_message {
            bytes = read(&row.locator);
            if bytes.is_none() {
                trouble.unreadable = true;
                return;
            }
        }
        let made = match (&bytes, kept) {
            (Some(bytes), None) if self.plan.needs_digest() => Some(Arc::new(Digest::of(bytes))),
            _ => None,
        };
        let digest = kept.or_else(|| made.as_deref().map(RowDigest::from));
        let Some(mut row) = flags_row(message, names) else {
            return;
        };
        row.flags.changed = self.seen.contains(message.uid);
        if let Some(digest) = digest {
            (row.envelope, row.body, row.body_structure) =
                (digest.envelope, digest.body, digest.body_structure);
        }
        fetch::open(out, self.plan, &row);
        let mut parts =
            Parts { bytes: bytes.as_ref(), kept: digest.map(|digest| digest.fields), structure: None };
        for part in self.plan.parts() {
            parts.tell(part, out, trouble, &mut self.places.borrow_mut());
        }
        fetch::close(out);
        supplied.extend(made.map(|digest| (message.uid, digest)));
    }
}

/// What the parts of one message are made from. The plan says what is needed, and that is there.
struct Parts<'a> {
    bytes: Option<&'a Slice>,
    /// The fields that its digest keeps.
    kept: Option<&'a [u8]>,
    /// Made when the first part asks for it.
    structure: Option<Structure<'a>>,
}

impl<'a> Parts<'a> {
    fn tell(
        &mut self,
        part: &FetchPart,
        out: &mut Output,
        trouble: &mut Trouble,
        places: &mut Vec<Range<usize>>,
    ) {
        match part {
            FetchPart::Fields(item, names) => {
                fetch::fields(out, item, names, self.kept.unwrap_or_default(), places);
            }
            FetchPart::Section(item) => fetch::section(out, item, self.section(&item.section)),
            FetchPart::Binary(item) => {
                let content = match binary(self.structure(), &item.part) {
                    Ok(Decoded::Range(range)) => self.part(range),
                    Ok(Decoded::Owned(owned)) => Content::Bytes(Slice::from(owned)),
                    Err(error) => {
                        trouble.add(error);
                        Content::Missing
                    }
                };
                fetch::binary(out, item, content);
            }
            FetchPart::BinarySize(item) => {
                let size = binary_len(self.structure(), &item.part).unwrap_or_else(|error| {
                    trouble.add(error);
                    0
                });
                fetch::binary_size(out, item, size);
            }
        }
    }

    fn section(&mut self, section: &Section) -> Content {
        let found = message_bytes(self.message(), section);
        match found.or_else(|| section_bytes(self.structure(), section)) {
            None => Content::Missing,
            Some(SectionBytes::Range(range)) => self.part(range),
            Some(SectionBytes::Owned(owned)) => Content::Bytes(Slice::from(owned)),
        }
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
            return Done::no(Some(Code::ExpungeIssued), "Some messages were expunged by others");
        }
        Done::ok("Fetch completed")
    }
}
