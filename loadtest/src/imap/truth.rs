//! What all sessions on one mailbox know of it together: the measure of every answer.
//!
//! Each message has one owner among the sessions, by its UID, and only the owner changes its flags. So what the
//! owner was last told OK for is what the flags are, and everybody who looks at a message whose flags have rested
//! since
//! before he looked must see them. Sizes and contents never change, UIDs never come again, and only a message with
//! `\Deleted` may go. The mailbox must be left alone by others for the time of the test.

use std::collections::BTreeMap;
use std::fmt;

/// Flags that sessions set; `\Recent` and what others may have set do not count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flags(u16);

const NAMES: [&str; 10] = [
    "\\Deleted",
    "\\Seen",
    "\\Answered",
    "\\Flagged",
    "\\Draft",
    "$Label1",
    "$Label2",
    "$Label3",
    "$Label4",
    "$Label5",
];

impl Flags {
    pub const DELETED: Self = Self(1);
    /// How many there are to choose from by number; the first is `\Deleted`.
    pub const COUNT: usize = NAMES.len();

    pub fn parse(list: &[u8]) -> Self {
        let bit = |word: &[u8]| {
            let place = NAMES.iter().position(|name| name.as_bytes().eq_ignore_ascii_case(word));
            place.map_or(0, |place| 1 << place)
        };
        Self(list.split(|byte| *byte == b' ').map(bit).fold(0, |all, bit| all | bit))
    }

    pub fn numbered(number: usize) -> Self {
        Self(1 << number)
    }

    pub fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    pub fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    pub fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

impl fmt::Display for Flags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = NAMES.iter().enumerate().filter(|(place, _)| self.0 & (1 << place) != 0);
        let names: Vec<_> = names.map(|(_, name)| *name).collect();
        write!(f, "({})", names.join(" "))
    }
}

/// A rule that an answer broke.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rule {
    Unreadable,
    UnknownTag,
    Refused,
    Goodbye,
    ExistsShrank,
    NumberOutOfRange,
    ExpungeForbidden,
    ExpungedUndeleted,
    DeletedStayed,
    UidChanged,
    UidOrder,
    UidReused,
    ValidityChanged,
    RowMissing,
    ItemMissing,
    FlagsWrong,
    SizeWrong,
    BodyWrong,
    MessageLost,
    Stalled,
}

impl Rule {
    pub fn name(self) -> &'static str {
        match self {
            Self::Unreadable => "an answer that cannot be read",
            Self::UnknownTag => "a tag that no command has",
            Self::Refused => "BAD for a right command",
            Self::Goodbye => "BYE without LOGOUT",
            Self::ExistsShrank => "EXISTS below what was there",
            Self::NumberOutOfRange => "a number that no message has",
            Self::ExpungeForbidden => "EXPUNGE while sequence numbers were in use",
            Self::ExpungedUndeleted => "an expunged message that was not deleted",
            Self::DeletedStayed => "a deleted message after EXPUNGE",
            Self::UidChanged => "another UID for the same message",
            Self::UidOrder => "UIDs out of order",
            Self::UidReused => "a UID that came before",
            Self::ValidityChanged => "another UIDVALIDITY",
            Self::RowMissing => "a message that cannot be fetched",
            Self::ItemMissing => "a row without what was asked for",
            Self::FlagsWrong => "flags that nobody set, or lost ones",
            Self::SizeWrong => "a size that the message does not have",
            Self::BodyWrong => "a body that was not sent",
            Self::MessageLost => "a message that is gone",
            Self::Stalled => "news that did not come in time",
        }
    }
}

/// An answer that no right server gives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wrong {
    pub rule: Rule,
    pub detail: String,
}

impl Wrong {
    pub fn new(rule: Rule, detail: impl Into<String>) -> Self {
        Self { rule, detail: detail.into() }
    }
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.rule.name(), self.detail)
    }
}

/// What never changes of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Contents {
    pub bytes: u64,
    pub crc: u32,
}

impl Contents {
    pub fn of(message: &[u8]) -> Self {
        Self { bytes: message.len() as u64, crc: crc32fast::hash(message) }
    }
}

#[derive(Clone, Debug, Default)]
struct Known {
    /// As the owner was last told, or as first seen.
    flags: Option<Flags>,
    /// The owner has changes under way.
    is_in_flux: bool,
    /// When the flags last changed or began to.
    touched: u64,
    /// When it was first known of.
    since: u64,
    bytes: Option<u64>,
    contents: Option<Contents>,
    is_appended: bool,
    is_gone: bool,
}

/// The mailbox.
#[derive(Debug)]
pub struct Truth {
    owners: u32,
    validity: Option<u32>,
    messages: BTreeMap<u32, Known>,
    /// Counts what sessions do, to tell before from after.
    clock: u64,
    /// How many sessions have EXPUNGE under way, and when there were last two at once.
    expunging: u32,
    overlapped: u64,
}

impl Truth {
    /// A mailbox that so many sessions share.
    pub fn new(owners: usize) -> Self {
        let owners = u32::try_from(owners).unwrap_or(u32::MAX).max(1);
        Self { owners, validity: None, messages: BTreeMap::new(), clock: 0, expunging: 0, overlapped: 0 }
    }

    pub fn now(&mut self) -> u64 {
        self.clock += 1;
        self.clock
    }

    pub fn is_owner(&self, session: usize, uid: u32) -> bool {
        (uid % self.owners) as usize == session % self.owners as usize
    }

    /// A session was told the UIDVALIDITY.
    pub fn check_validity(&mut self, validity: u32) -> Result<(), Wrong> {
        match self.validity.replace(validity) {
            Some(before) if before != validity => {
                Err(Wrong::new(Rule::ValidityChanged, format!("{before}, then {validity}")))
            }
            _ => Ok(()),
        }
    }

    /// The UID that every new message must pass.
    pub fn uid_max(&self) -> u32 {
        self.messages.keys().next_back().copied().unwrap_or(0)
    }

    /// APPEND was answered with this UID.
    pub fn appended(&mut self, uid: u32, contents: Contents) -> Result<(), Wrong> {
        let since = self.now();
        let known = self.messages.entry(uid).or_default();
        // Another session may have seen it already, but then it looked the same.
        let is_other = known.contents.is_some_and(|seen| seen != contents)
            || known.bytes.is_some_and(|bytes| bytes != contents.bytes);
        if known.is_appended || is_other {
            return Err(Wrong::new(
                Rule::UidReused,
                format!("APPEND gave UID {uid}, which another message has"),
            ));
        }
        known.contents = Some(contents);
        known.flags.get_or_insert_default();
        (known.is_appended, known.since) = (true, since);
        Ok(())
    }

    /// A session sees the message.
    pub fn saw(&mut self, uid: u32) {
        let since = self.now();
        self.messages.entry(uid).or_insert_with(|| Known { since, ..Known::default() });
    }

    /// A session that has looked since `looked` is told these flags.
    pub fn check_flags(&mut self, uid: u32, flags: Flags, session: usize, looked: u64) -> Result<(), Wrong> {
        let is_owner = self.is_owner(session, uid);
        let Some(known) = self.messages.get_mut(&uid) else {
            return Ok(());
        };
        if known.is_in_flux {
            return Ok(());
        }
        if !is_owner && known.touched >= looked {
            // Another session may still see what was before the last change.
            return Ok(());
        }
        match *known.flags.get_or_insert(flags) {
            expected if expected == flags => Ok(()),
            expected => {
                Err(Wrong::new(Rule::FlagsWrong, format!("UID {uid} has {flags} where {expected} was set")))
            }
        }
    }

    pub fn check_size(&mut self, uid: u32, bytes: u64) -> Result<(), Wrong> {
        // Of a message that another session has expunged, a server may have nothing left to give.
        let may_be_gone = self.may_be_gone(uid);
        let Some(known) = self.messages.get_mut(&uid).filter(|_| !may_be_gone) else {
            return Ok(());
        };
        let expected = known.contents.map(|contents| contents.bytes).or(known.bytes);
        known.bytes = Some(bytes);
        match expected {
            Some(expected) if expected != bytes => {
                Err(Wrong::new(Rule::SizeWrong, format!("UID {uid} has {bytes} bytes, not {expected}")))
            }
            _ => Ok(()),
        }
    }

    pub fn check_contents(&mut self, uid: u32, contents: Contents) -> Result<(), Wrong> {
        let may_be_gone = self.may_be_gone(uid);
        let Some(known) = self.messages.get_mut(&uid).filter(|_| !may_be_gone) else {
            return Ok(());
        };
        let expected = *known.contents.get_or_insert(contents);
        let sized = known.bytes.is_none_or(|bytes| bytes == contents.bytes);
        match expected == contents && sized {
            true => Ok(()),
            false => {
                let detail =
                    format!("UID {uid} gave {contents:?}, not {expected:?} with {:?} bytes", known.bytes);
                Err(Wrong::new(Rule::BodyWrong, detail))
            }
        }
    }

    /// The owner begins to change flags; until [`Self::changed`] nobody can say what they are.
    pub fn changing(&mut self, uid: u32) {
        let now = self.now();
        if let Some(known) = self.messages.get_mut(&uid) {
            (known.is_in_flux, known.touched) = (true, now);
        }
    }

    /// The change is done; `None` if nobody knows how it went.
    pub fn changed(&mut self, uid: u32, flags: Option<Flags>) {
        let now = self.now();
        if let Some(known) = self.messages.get_mut(&uid) {
            (known.is_in_flux, known.touched, known.flags) = (false, now, flags);
        }
    }

    pub fn flags(&self, uid: u32) -> Option<Flags> {
        self.messages.get(&uid)?.flags
    }

    /// Whether the message may be gone by now.
    pub fn may_be_gone(&self, uid: u32) -> bool {
        self.messages.get(&uid).is_none_or(|known| {
            let is_deleted = known.flags.is_none_or(|flags| flags.contains(Flags::DELETED));
            known.is_gone || known.is_in_flux || is_deleted
        })
    }

    /// Whether its owner was told that it is deleted, and nobody that it is gone.
    pub fn is_deleted(&self, uid: u32) -> bool {
        self.messages.get(&uid).is_some_and(|known| {
            let is_deleted = known.flags.is_some_and(|flags| flags.contains(Flags::DELETED));
            !known.is_gone && !known.is_in_flux && is_deleted
        })
    }

    /// A session sends EXPUNGE; what is given back goes to [`Self::expunge_ended`].
    pub fn expunge_began(&mut self) -> u64 {
        let now = self.now();
        self.expunging += 1;
        if self.expunging > 1 {
            self.overlapped = now;
        }
        now
    }

    /// Whether no other session's EXPUNGE ran at the same time, which may be taking away what this one did not find.
    pub fn expunge_ended(&mut self, began: u64) -> bool {
        self.expunging -= 1;
        self.overlapped < began
    }

    /// A session was told that the message is gone.
    pub fn expunged(&mut self, uid: u32) -> Result<(), Wrong> {
        let may_be_gone = self.may_be_gone(uid);
        if let Some(known) = self.messages.get_mut(&uid) {
            known.is_gone = true;
        }
        match may_be_gone {
            true => Ok(()),
            false => Err(Wrong::new(Rule::ExpungedUndeleted, format!("UID {uid}"))),
        }
    }

    /// A session that selected the mailbox at `looked` saw exactly `uids`, in their order.
    pub fn check_complete(&self, uids: &[u32], looked: u64) -> Result<(), Wrong> {
        let lost = self.messages.iter().find(|(uid, known)| {
            known.since < looked && !self.may_be_gone(**uid) && uids.binary_search(uid).is_err()
        });
        match lost {
            Some((uid, _)) => Err(Wrong::new(Rule::MessageLost, format!("UID {uid}"))),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: Contents = Contents { bytes: 3, crc: 1 };
    const NEW: Contents = Contents { bytes: 3, crc: 2 };

    fn rule<T>(result: Result<T, Wrong>) -> Option<Rule> {
        result.err().map(|wrong| wrong.rule)
    }

    #[test]
    fn flags_are_what_the_owner_was_told() {
        let mut truth = Truth::new(2);
        truth.saw(4);
        let none = Flags::parse(b"\\Recent");
        let seen = Flags::parse(b"$label1 \\SEEN");
        assert_eq!(truth.check_flags(4, none, 1, 9), Ok(()));
        truth.changing(4);
        assert_eq!(truth.check_flags(4, seen, 0, 9), Ok(()), "a change under way may show");
        let before_change = truth.now() - 2;
        truth.changed(4, Some(seen));
        let after_change = truth.now();
        assert_eq!(
            rule(truth.check_flags(4, none, 0, before_change)),
            Some(Rule::FlagsWrong),
            "the owner knows"
        );
        assert_eq!(truth.check_flags(4, none, 1, before_change), Ok(()), "another may be behind");
        assert_eq!(
            rule(truth.check_flags(4, none, 1, after_change)),
            Some(Rule::FlagsWrong),
            "but not for ever"
        );
        assert_eq!(truth.check_flags(4, seen, 1, after_change), Ok(()));
    }

    #[test]
    fn only_what_is_deleted_goes() {
        let mut truth = Truth::new(1);
        for uid in [1, 2] {
            truth.saw(uid);
            truth.changed(uid, Some(Flags::default()));
        }
        truth.changed(2, Some(Flags::DELETED));
        let looked = truth.now();
        assert_eq!(truth.check_complete(&[1], looked), Ok(()));
        assert_eq!(rule(truth.check_complete(&[2], looked)), Some(Rule::MessageLost));
        assert_eq!(truth.expunged(2), Ok(()));
        assert_eq!(rule(truth.expunged(1)), Some(Rule::ExpungedUndeleted));
    }

    #[test]
    fn contents_never_change() {
        let mut truth = Truth::new(1);
        assert_eq!(truth.appended(5, OLD), Ok(()));
        assert_eq!(rule(truth.appended(5, NEW)), Some(Rule::UidReused));
        assert_eq!(truth.check_contents(5, OLD), Ok(()));
        assert_eq!(rule(truth.check_contents(5, NEW)), Some(Rule::BodyWrong));
        assert_eq!(rule(truth.check_size(5, 4)), Some(Rule::SizeWrong));
        assert_eq!(truth.check_validity(1), Ok(()));
        assert_eq!(rule(truth.check_validity(2)), Some(Rule::ValidityChanged));
    }
}
