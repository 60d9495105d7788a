//! What was found: SEARCH, ESEARCH, SORT.

use super::text;
use crate::bytes::Output;
use crate::mail::query::SearchReturn;
use crate::mail::set::Ranges;
use crate::proto::imap::command::Numbering;

/// The answer to a SEARCH.
#[derive(Clone, Copy, Debug)]
pub struct SearchReply<'a> {
    pub tag: &'a str,
    pub numbering: Numbering,
    /// As in the command.
    pub returns: Option<SearchReturn>,
    pub matches: &'a Ranges,
    /// The highest mod-sequence of the matches that are told, if MODSEQ was a key.
    pub modseq: Option<u64>,
    /// IMAP4rev2 is enabled: only ESEARCH is spoken (RFC 9051 7.3.4).
    pub rev2: bool,
}

/// A number in an answer, with the space in front.
pub const NUMBER_BYTES_MAX: usize = 11;

/// The numbers of the answer are no longer than this.
pub fn length_max(reply: &SearchReply<'_>) -> usize {
    let ranges_bytes = reply.matches.ranges().len() * 2 * NUMBER_BYTES_MAX;
    match reply.returns {
        None if !reply.rev2 => {
            let count = usize::try_from(reply.matches.count()).unwrap_or(usize::MAX);
            count.saturating_mul(NUMBER_BYTES_MAX)
        }
        None => ranges_bytes,
        Some(returns) if returns.all => ranges_bytes,
        Some(_) => 0,
    }
}

/// `* SEARCH 2 84 882` or `* ESEARCH (TAG "A1") UID MIN 2 COUNT 3 ALL 2,84,882`; nothing for RETURN (SAVE).
pub fn search(out: &mut Output, reply: &SearchReply<'_>) {
    const SAVE: SearchReturn = SearchReturn { min: false, max: false, all: false, count: false, save: true };
    const ALL: SearchReturn = SearchReturn { all: true, save: false, ..SAVE };
    match reply.returns {
        // RFC 5182 2.1
        Some(SAVE) => (),
        Some(returns) => extended(out, reply, returns),
        None if reply.rev2 => extended(out, reply, ALL),
        None => numbers(out, b"* SEARCH", reply.matches.iter(), reply.modseq),
    }
}

/// `* SORT 2 84 882 (MODSEQ 12)` in the order of `numbers`.
pub fn sort(out: &mut Output, numbers_sorted: impl IntoIterator<Item = u32>, modseq: Option<u64>) {
    numbers(out, b"* SORT", numbers_sorted, modseq);
}

/// `* ESEARCH (TAG "A1") UID MIN 9 COUNT 3 ALL 9,2:3` of a SORT: MIN and MAX are the first and the last, and ALL is in
/// the order of `numbers_sorted`, where only what ascends one by one makes a range (RFC 5267 3.1).
pub fn sort_extended(
    out: &mut Output,
    (tag, numbering): (&str, Numbering),
    returns: SearchReturn,
    numbers_sorted: &[u32],
    modseq: Option<u64>,
) {
    let text = out.text_mut();
    begin(text, tag, numbering);
    if let Some(first) = numbers_sorted.first().filter(|_| returns.min) {
        item(text, b" MIN ", u64::from(*first));
    }
    if let Some(last) = numbers_sorted.last().filter(|_| returns.max) {
        item(text, b" MAX ", u64::from(*last));
    }
    if returns.count {
        item(text, b" COUNT ", numbers_sorted.len() as u64);
    }
    if returns.all && !numbers_sorted.is_empty() {
        text.extend_from_slice(b" ALL ");
        runs(text, numbers_sorted);
    }
    if let Some(modseq) = modseq {
        item(text, b" MODSEQ ", modseq);
    }
    text.extend_from_slice(b"\r\n");
}

/// Numbers in their order, with `a:b` for what ascends one by one.
fn runs(text: &mut Vec<u8>, numbers: &[u32]) {
    let follows = |one: &u32, next: &u32| one.checked_add(1) == Some(*next);
    for (index, run) in numbers.chunk_by(follows).enumerate() {
        if index > 0 {
            text.push(b',');
        }
        text::number(text, run[0].into());
        if let [_, .., last] = run {
            text.push(b':');
            text::number(text, (*last).into());
        }
    }
}

fn begin(text: &mut Vec<u8>, tag: &str, numbering: Numbering) {
    text.extend_from_slice(b"* ESEARCH (TAG ");
    text::string(text, tag.as_bytes());
    text.push(b')');
    if numbering == Numbering::Uid {
        text.extend_from_slice(b" UID");
    }
}

fn item(text: &mut Vec<u8>, name: &[u8], value: u64) {
    text.extend_from_slice(name);
    text::number(text, value);
}

fn numbers(out: &mut Output, name: &[u8], numbers: impl IntoIterator<Item = u32>, modseq: Option<u64>) {
    let text = out.text_mut();
    text.extend_from_slice(name);
    for number in numbers {
        text.push(b' ');
        text::number(text, number.into());
    }
    if let Some(modseq) = modseq {
        text.extend_from_slice(b" (MODSEQ ");
        text::number(text, modseq);
        text.push(b')');
    }
    text.extend_from_slice(b"\r\n");
}

/// `esearch-response = "ESEARCH" [search-correlator] [SP "UID"] *(SP search-return-data)`
fn extended(out: &mut Output, reply: &SearchReply<'_>, returns: SearchReturn) {
    let text = out.text_mut();
    begin(text, reply.tag, reply.numbering);
    let first = reply.matches.ranges().first().map(|range| range.0);
    if let Some(first) = first.filter(|_| returns.min) {
        item(text, b" MIN ", first.into());
    }
    if let Some(last) = reply.matches.last().filter(|_| returns.max) {
        item(text, b" MAX ", last.into());
    }
    if returns.count {
        item(text, b" COUNT ", reply.matches.count());
    }
    if returns.all && !reply.matches.is_empty() {
        text.extend_from_slice(b" ALL ");
        text::ranges(text, reply.matches);
    }
    if let Some(modseq) = reply.modseq {
        item(text, b" MODSEQ ", modseq);
    }
    text.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::{Numbering, SearchReply, SearchReturn, search, sort, sort_extended};
    use crate::bytes::Output;
    use crate::mail::set::Ranges;

    fn written(reply: SearchReply<'_>) -> String {
        let mut out = Output::new();
        search(&mut out, &reply);
        String::from_utf8_lossy(&out.to_vec()).into_owned()
    }

    #[test]
    fn forms() {
        let some: Ranges = [2, 10, 11, 12].into_iter().collect();
        let none = Ranges::default();
        let save = SearchReturn { save: true, ..Default::default() };
        let all = SearchReturn { min: true, max: true, all: true, count: true, save: true };
        let plain = SearchReply {
            tag: "a\"1",
            numbering: Numbering::Sequence,
            returns: None,
            matches: &some,
            modseq: None,
            rev2: false,
        };
        let empty = SearchReply { matches: &none, ..plain };
        for (reply, expected) in [
            (plain, "* SEARCH 2 10 11 12\r\n"),
            (SearchReply { modseq: Some(9), ..plain }, "* SEARCH 2 10 11 12 (MODSEQ 9)\r\n"),
            (empty, "* SEARCH\r\n"),
            (SearchReply { rev2: true, ..plain }, "* ESEARCH (TAG \"a\\\"1\") ALL 2,10:12\r\n"),
            (SearchReply { rev2: true, ..empty }, "* ESEARCH (TAG \"a\\\"1\")\r\n"),
            (SearchReply { returns: Some(save), ..plain }, ""),
            (
                SearchReply { returns: Some(all), numbering: Numbering::Uid, modseq: Some(9), ..plain },
                "* ESEARCH (TAG \"a\\\"1\") UID MIN 2 MAX 12 COUNT 4 ALL 2,10:12 MODSEQ 9\r\n",
            ),
            (SearchReply { returns: Some(all), ..empty }, "* ESEARCH (TAG \"a\\\"1\") COUNT 0\r\n"),
        ] {
            assert_eq!(written(reply), expected);
        }
    }

    #[test]
    fn sorted() {
        let mut out = Output::new();
        sort(&mut out, [5, 3], None);
        sort(&mut out, [], None);
        sort(&mut out, [1], Some(7));
        assert_eq!(out.to_vec(), b"* SORT 5 3\r\n* SORT\r\n* SORT 1 (MODSEQ 7)\r\n");
    }

    #[test]
    fn sorted_with_returns() {
        let all = SearchReturn { min: true, max: true, all: true, count: true, save: false };
        let cases: [(&[u32], SearchReturn, &str); 5] = [
            (&[9, 2, 3, 4, 12, 11, 10], all, " MIN 9 MAX 10 COUNT 7 ALL 9,2:4,12,11,10 MODSEQ 5"),
            (&[1, 2], SearchReturn { all: true, ..SearchReturn::default() }, " ALL 1:2 MODSEQ 5"),
            (&[u32::MAX, 1], all, " MIN 4294967295 MAX 1 COUNT 2 ALL 4294967295,1 MODSEQ 5"),
            (&[7], SearchReturn { max: true, ..SearchReturn::default() }, " MAX 7 MODSEQ 5"),
            (&[], all, " COUNT 0 MODSEQ 5"),
        ];
        for (numbers, returns, expected) in cases {
            let mut out = Output::new();
            sort_extended(&mut out, ("a", Numbering::Uid), returns, numbers, Some(5));
            let text = String::from_utf8(out.to_vec()).expect("ASCII");
            assert_eq!(text, format!("* ESEARCH (TAG \"a\") UID{expected}\r\n"));
        }
    }
}
