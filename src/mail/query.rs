//! What a client searches, sorts and threads by (RFC 9051 6.4.4, RFC 5256, RFC 7162, RFC 5032), as values:
//! the IMAP parser makes them, `mailbox` answers them.

use super::flags::SystemFlags;
use super::set::NumberSet;

/// A search key. Keys next to each other are an `And`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum SearchKey {
    All,
    And(Vec<SearchKey>),
    Or(Box<SearchKey>, Box<SearchKey>),
    Not(Box<SearchKey>),
    /// Message sequence numbers.
    Numbers(NumberSet),
    Uids(NumberSet),
    /// All of these system flags are set.
    Flags(SystemFlags),
    Keyword(String),
    /// RFC 3501 only; a session's affair.
    Recent,
    /// Octets of the message, strictly more.
    Larger(u64),
    /// Octets of the message, strictly less.
    Smaller(u64),
    Internal(DateTest),
    Sent(DateTest),
    Saved(DateTest),
    /// INTERNALDATE within this many seconds before now (RFC 5032).
    Younger(u32),
    /// INTERNALDATE at least this many seconds before now (RFC 5032).
    Older(u32),
    /// Field name without colon, and text; an empty text asks whether the field is there.
    Header(String, String),
    Body(String),
    Text(String),
    /// Mod-sequence at least this (RFC 7162 3.1.5).
    ModSequence(u64),
    EmailId(String),
    ThreadId(String),
}

impl SearchKey {
    /// Bytes of memory beside the value itself.
    pub fn held_bytes(&self) -> usize {
        let boxed = |key: &Self| size_of::<Self>() + key.held_bytes();
        match self {
            Self::And(keys) => {
                let spare = (keys.capacity() - keys.len()) * size_of::<Self>();
                spare + keys.iter().map(boxed).sum::<usize>()
            }
            Self::Or(one, other) => boxed(one) + boxed(other),
            Self::Not(key) => boxed(key),
            Self::Numbers(set) | Self::Uids(set) => set.held_bytes(),
            Self::Header(name, text) => name.len() + text.len(),
            Self::Keyword(text)
            | Self::Body(text)
            | Self::Text(text)
            | Self::EmailId(text)
            | Self::ThreadId(text) => text.len(),
            Self::All
            | Self::Flags(_)
            | Self::Recent
            | Self::Larger(_)
            | Self::Smaller(_)
            | Self::Internal(_)
            | Self::Sent(_)
            | Self::Saved(_)
            | Self::Younger(_)
            | Self::Older(_)
            | Self::ModSequence(_) => 0,
        }
    }
}

/// A comparison of calendar days; neither time nor zone counts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DateTest {
    Before(Day),
    On(Day),
    Since(Day),
}

/// Days since 1970-01-01.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Day(pub i32);

/// What a SEARCH, SORT or THREAD asks to be told (RFC 4731, RFC 5182).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct SearchReturn {
    pub min: bool,
    pub max: bool,
    pub all: bool,
    pub count: bool,
    pub save: bool,
}

/// One criterion of a SORT (RFC 5256 3).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SortKey {
    pub by: SortBy,
    pub reverse: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SortBy {
    Arrival,
    Cc,
    Date,
    From,
    Size,
    Subject,
    To,
}

/// A threading algorithm (RFC 5256 3).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ThreadBy {
    OrderedSubject,
    References,
}

/// A message with the messages that answer it. A parent that is not in the mailbox has no number.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Thread {
    pub number: Option<u32>,
    pub children: Vec<Thread>,
}

impl Drop for Thread {
    /// A reply to a reply, a hundred thousand deep, is taken apart without recursion.
    fn drop(&mut self) {
        let mut rest = std::mem::take(&mut self.children);
        while let Some(mut thread) = rest.pop() {
            rest.append(&mut thread.children);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::SearchKey;
    use crate::mail::set::{Bound, NumberSet};

    #[test]
    fn what_a_key_takes_grows_with_all_that_is_in_it() {
        let key = size_of::<SearchKey>();
        let numbers = NumberSet::Ranges(vec![(Bound::Number(1), Bound::Last)]);
        let set = size_of::<(Bound, Bound)>();
        let cases = [
            (SearchKey::All, 0),
            (SearchKey::Body("text".to_owned()), 4),
            (SearchKey::Header("to".to_owned(), "me".to_owned()), 4),
            (SearchKey::Uids(numbers.clone()), set),
            (SearchKey::Not(Box::new(SearchKey::Numbers(numbers))), key + set),
            (SearchKey::And(vec![SearchKey::All, SearchKey::Text("ab".to_owned())]), 2 * key + 2),
            (SearchKey::Or(Box::new(SearchKey::All), Box::new(SearchKey::Recent)), 2 * key),
        ];
        for (asked, bytes) in cases {
            assert_eq!(asked.held_bytes(), bytes, "{asked:?}");
        }
    }
}
