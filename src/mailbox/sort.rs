//! SORT (RFC 5256 3), in slices.
//!
//! Each message is asked once for what the criteria go by; the answers stand in columns, and the order is made at the
//! end. Strings are compared by i;unicode-casemap (`mail::casemap`); a missing field is the empty string. What compares
//! equal stays in the order of the mailbox, also under REVERSE.

use std::cmp::Ordering;

use super::mailbox::Row;
use super::search::{Bodies, Budget, Nothing, Progress};
use super::view::Look;
use crate::mail::address_list::first_mailbox;
use crate::mail::casemap::casemapped;
use crate::mail::date::parse_rfc5322;
use crate::mail::digest::kept;
use crate::mail::header::Header;
use crate::mail::query::{SortBy, SortKey};
use crate::mail::set::Ranges;
use crate::mail::subject::base_subject;

/// A sort under way.
pub struct Sort {
    keys: Vec<SortKey>,
    walk: Walk,
    uids: Vec<u32>,
    /// One for each key, in the order of `uids`.
    columns: Vec<Column>,
}

/// The UIDs in order, in one go and by what is kept beside the rows alone: for few messages.
pub fn sort(look: &Look<'_>, uids: &[u32], keys: &[SortKey]) -> Vec<u32> {
    let mut sort = Sort::new(uids, keys);
    while sort.step(look, &Nothing, Budget::UNBOUNDED) == Progress::More {}
    sort.finish()
}

enum Column {
    Numbers(Vec<i64>),
    Texts(Vec<Box<str>>),
}

/// Goes through the messages of a search in slices.
pub(super) struct Walk {
    uids: Ranges,
    after: u32,
}

impl Sort {
    /// Of messages that a search found.
    pub fn new(uids: &[u32], keys: &[SortKey]) -> Self {
        // The second of the same kind decides nothing.
        let is_first =
            |(index, key): &(usize, &SortKey)| keys[..*index].iter().all(|before| before.by != key.by);
        let keys: Vec<_> = keys.iter().enumerate().filter(is_first).map(|(_, key)| *key).collect();
        let columns = keys.iter().map(|key| Column::of(key.by)).collect();
        Self { keys, walk: Walk::new(uids), uids: Vec::with_capacity(uids.len()), columns }
    }

    pub fn step(&mut self, look: &Look<'_>, bodies: &dyn Bodies, budget: Budget) -> Progress {
        let Self { keys, walk, uids, columns } = self;
        walk.step(look, budget, |row| {
            uids.push(row.uid);
            with_fields(row, bodies, |fields| {
                for (key, column) in keys.iter().zip(&mut *columns) {
                    column.push(key.by, row, fields);
                }
            })
        })
    }

    /// The UIDs in order. What went from the view meanwhile is left out.
    pub fn finish(self) -> Vec<u32> {
        let mut order: Vec<usize> = (0..self.uids.len()).collect();
        order.sort_by(|&one, &other| self.compare(one, other));
        order.into_iter().map(|index| self.uids[index]).collect()
    }

    fn compare(&self, one: usize, other: usize) -> Ordering {
        let by_key = |(key, column): (&SortKey, &Column)| match key.reverse {
            true => column.compare(other, one),
            false => column.compare(one, other),
        };
        self.keys.iter().zip(&self.columns).map(by_key).find(|order| order.is_ne()).unwrap_or(Ordering::Equal)
    }
}

impl Column {
    fn of(by: SortBy) -> Self {
        match by {
            SortBy::Arrival | SortBy::Date | SortBy::Size => Self::Numbers(Vec::new()),
            SortBy::Cc | SortBy::From | SortBy::Subject | SortBy::To => Self::Texts(Vec::new()),
        }
    }

    fn push(&mut self, by: SortBy, row: &Row<'_>, fields: &Header<'_>) {
        match self {
            Self::Numbers(numbers) => numbers.push(match by {
                SortBy::Arrival => row.internal.seconds,
                SortBy::Size => i64::try_from(row.locator.length).unwrap_or(i64::MAX),
                _ => sent_seconds(row, fields),
            }),
            Self::Texts(texts) => texts.push(match by {
                SortBy::Cc => first_local(fields, "Cc"),
                SortBy::From => first_local(fields, "From"),
                SortBy::To => first_local(fields, "To"),
                _ => fields
                    .find("Subject")
                    .map(|value| casemapped(&base_subject(value).text).into())
                    .unwrap_or_default(),
            }),
        }
    }

    fn compare(&self, one: usize, other: usize) -> Ordering {
        match self {
            Self::Numbers(numbers) => numbers[one].cmp(&numbers[other]),
            Self::Texts(texts) => texts[one].cmp(&texts[other]),
        }
    }
}

impl Walk {
    pub fn new(uids: &[u32]) -> Self {
        Self { uids: uids.iter().copied().collect(), after: 0 }
    }

    /// Visits live messages until the budget is used up. `visit` says how many octets it had to read.
    pub fn step(
        &mut self,
        look: &Look<'_>,
        budget: Budget,
        mut visit: impl FnMut(&Row<'_>) -> u64,
    ) -> Progress {
        let mut bytes_left = budget.bytes;
        for (visited, message) in (1..).zip(look.messages(&self.uids, self.after)) {
            self.after = message.uid;
            if let Some(row) = &message.row {
                bytes_left = bytes_left.saturating_sub(visit(row));
            }
            if visited >= budget.messages || bytes_left == 0 {
                return Progress::More;
            }
        }
        Progress::Done
    }
}

/// Looks at the header fields that sorting and threading go by, which are kept beside the row, or else in the
/// message. Gives the octets that had to be read.
pub(super) fn with_fields(row: &Row<'_>, bodies: &dyn Bodies, look: impl FnOnce(&Header<'_>)) -> u64 {
    if let Some(digest) = row.digest.get() {
        look(&Header::whole(digest.fields));
        return 0;
    }
    let message = bodies.message(&row.locator);
    let bytes = message.as_deref().unwrap_or_default();
    let header = Header::of(bytes);
    look(&header);
    header.len() as u64
}

/// RFC 5256 2.2: without a date that can be read, INTERNALDATE.
pub(super) fn sent_seconds(row: &Row<'_>, fields: &Header<'_>) -> i64 {
    debug_assert!(kept("Date"));
    let sent = fields.find("Date").and_then(parse_rfc5322);
    sent.unwrap_or(row.internal).seconds
}

/// `addr-mailbox` of the first address.
fn first_local(fields: &Header<'_>, name: &str) -> Box<str> {
    let first = fields.find(name).and_then(first_mailbox);
    first.map(|mailbox| casemapped(&String::from_utf8_lossy(&mailbox.local)).into()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::{Sort, kept};
    use crate::mail::query::{SortBy, SortKey};
    use crate::mailbox::search::{Budget, Nothing, Progress};
    use crate::mailbox::test_mail::mailbox_of;
    use crate::mailbox::view::{Access, View};

    #[test]
    fn what_sorting_and_threading_go_by_is_kept() {
        for name in ["Cc", "Date", "From", "In-Reply-To", "Message-ID", "References", "Subject", "To"] {
            assert!(kept(name), "{name}");
        }
    }

    fn sorted(headers: &[&str], keys: &[(SortBy, bool)]) -> Vec<u32> {
        let mailbox = mailbox_of(headers);
        let keys: Vec<_> = keys.iter().map(|&(by, reverse)| SortKey { by, reverse }).collect();
        let mut view = View::open(&mailbox, Access::ReadOnly);
        let look = view.look(&mailbox);
        let mut sort = Sort::new(mailbox.uids(), &keys);
        while sort.step(&look, &Nothing, Budget { messages: 2, bytes: 1 }) == Progress::More {}
        sort.finish()
    }

    #[test]
    fn strings_are_compared_by_unicode_casemap() {
        let headers = ["Subject: _", "Subject: a\u{308}B", "Subject: B", "Subject: \u{c4}b", "Subject: ab"];
        // Capitals come before the underscore, and a letter with dots behind the letter without.
        assert_eq!(sorted(&headers, &[(SortBy::Subject, false)]), [5, 2, 4, 3, 1]);
    }

    #[test]
    fn criteria_in_their_order() {
        let headers = [
            "Subject: beta\r\nFrom: Zoe <zoe@a>\r\nDate: Mon, 1 Jan 2001 10:00:00 +0000",
            "Subject: Re: Alpha\r\nFrom: \"adam\"@b\r\nDate: Mon, 1 Jan 2001 09:30:00 -0800",
            "Subject: [list] alpha (fwd)\r\nFrom: Bert <bert@a>\r\nDate: Mon, 1 Jan 2001 11:00:00 +0200",
            "From: BERT@x",
            "Subject: beta",
        ];
        // Without a date, a message counts by its arrival, and these arrived in 2026.
        type Row<'a> = (&'a [(SortBy, bool)], [u32; 5]);
        let table: [Row<'_>; 7] = [
            (&[(SortBy::Subject, false)], [4, 2, 3, 1, 5]),
            (&[(SortBy::Subject, true)], [1, 5, 2, 3, 4]),
            (&[(SortBy::Subject, false), (SortBy::Date, true)], [4, 2, 3, 5, 1]),
            (&[(SortBy::Date, false)], [3, 1, 2, 4, 5]),
            (&[(SortBy::From, false)], [5, 2, 3, 4, 1]),
            (&[(SortBy::From, true), (SortBy::From, false)], [1, 3, 4, 2, 5]),
            (&[(SortBy::Arrival, true)], [5, 4, 3, 2, 1]),
        ];
        for (keys, expected) in table {
            assert_eq!(sorted(&headers, keys), expected, "{keys:?}");
        }
    }
}
