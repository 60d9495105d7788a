//! What was learnt, until it expires.
//!
//! Bounded by what it holds: what expires first goes first. Answers come and go by `Rc`, so that a lookup costs no
//! copy.
//!
//! Invariants: nothing is given after it expired; `bytes` is the sum of what is held and at most
//! `limits::dns::CACHE_BYTES_MAX`; each entry stands in `by_expiry` once.

use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;
use std::time::Duration;

use super::answer::{Answer, Data, Found};
use super::message::Question;
use crate::limits;
use crate::mail::time::Instant;

/// What an entry takes beside its names and texts.
const ENTRY_BYTES: usize = 256;

/// An answer with the time at which it ends.
#[derive(PartialEq, Eq, Debug)]
pub struct Known {
    pub answer: Answer,
    pub expires: Instant,
}

/// The answers that a shard keeps.
#[derive(Default, Debug)]
pub struct Cache {
    entries: HashMap<Question, Entry>,
    by_expiry: BTreeMap<(Instant, u64), Question>,
    bytes: usize,
    /// Of entries so far: tells those apart that expire together.
    count: u64,
}

#[derive(Debug)]
struct Entry {
    known: Rc<Known>,
    serial: u64,
    bytes: usize,
}

impl Cache {
    /// Keeps `answer` for as long as it says, within bounds.
    pub fn insert(&mut self, question: Question, answer: Answer, now: Instant) -> Rc<Known> {
        let known = Rc::new(Known { expires: expiry(&answer, now), answer });
        self.remove(&question);
        if known.answer.ttl_s.is_none() {
            return known;
        }
        let bytes = ENTRY_BYTES + 2 * question.name.len() + bytes_of(&known.answer.found);
        self.count += 1;
        self.bytes += bytes;
        self.by_expiry.insert((known.expires, self.count), question.clone());
        self.entries.insert(question, Entry { known: known.clone(), serial: self.count, bytes });
        while self.bytes > limits::dns::CACHE_BYTES_MAX {
            let first = self.by_expiry.values().next().expect("what has bytes has an entry").clone();
            self.remove(&first);
        }
        known
    }

    fn remove(&mut self, question: &Question) {
        if let Some(entry) = self.entries.remove(question) {
            self.bytes -= entry.bytes;
            self.by_expiry.remove(&(entry.known.expires, entry.serial));
        }
    }

    /// What is known about `question`, and holds yet.
    pub fn get(&self, question: &Question, now: Instant) -> Option<Rc<Known>> {
        let entry = self.entries.get(question)?;
        (entry.known.expires > now).then(|| entry.known.clone())
    }
}

fn expiry(answer: &Answer, now: Instant) -> Instant {
    let most = match answer.found {
        Found::Data(_) => limits::dns::TTL_S_MAX,
        Found::Nothing | Found::NoSuchName => limits::dns::TTL_ABSENT_S_MAX,
    };
    let ttl_s = answer.ttl_s.unwrap_or(0).clamp(limits::dns::TTL_S_MIN, most);
    now + Duration::from_secs(u64::from(ttl_s))
}

fn bytes_of(found: &Found) -> usize {
    let Found::Data(all) = found else {
        return 0;
    };
    let beside = |data: &Data| match data {
        Data::Address(_) => 0,
        Data::Mail { exchange: name, .. } | Data::Pointer(name) => name.len(),
        Data::Text(text) => text.len(),
    };
    all.iter().map(|data| size_of::<Data>() + beside(data)).sum()
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::{Cache, Data, Found, Question};
    use crate::limits::dns::{CACHE_BYTES_MAX, TTL_ABSENT_S_MAX, TTL_S_MAX};
    use crate::mail::time::Instant;
    use crate::proto::dns::{Answer, Kind, name};

    fn question(text: &str) -> Question {
        Question { name: name::from_text(text).unwrap(), kind: Kind::A }
    }

    fn answer(found: Found, ttl_s: Option<u32>) -> Answer {
        Answer { found, is_authentic: false, ttl_s }
    }

    fn address() -> Found {
        Found::Data(vec![Data::Address(Ipv4Addr::LOCALHOST.into())])
    }

    #[test]
    fn lifetimes_are_within_bounds() {
        let day = u64::from(TTL_S_MAX) * 1000;
        let hour = u64::from(TTL_ABSENT_S_MAX) * 1000;
        let table = [
            (address(), Some(0), 5_000),
            (address(), Some(300), 300_000),
            (address(), Some(u32::MAX), day),
            (Found::Nothing, Some(60), 60_000),
            (Found::Nothing, Some(86_400), hour),
            (Found::NoSuchName, Some(u32::MAX), hour),
        ];
        for (found, ttl_s, lasts_ms) in table {
            let mut cache = Cache::default();
            let question = question("a.example");
            let known = cache.insert(question.clone(), answer(found, ttl_s), Instant(7));
            assert_eq!(known.expires, Instant(7 + lasts_ms), "{ttl_s:?}");
            assert!(cache.get(&question, Instant(6 + lasts_ms)).is_some());
            assert!(cache.get(&question, Instant(7 + lasts_ms)).is_none());
        }
    }

    /// RFC 2308 5: an absence that no zone vouches for is not kept.
    #[test]
    fn what_has_no_lifetime_is_not_kept() {
        let mut cache = Cache::default();
        cache.insert(question("a.example"), answer(address(), Some(60)), Instant(0));
        let known = cache.insert(question("a.example"), answer(Found::Nothing, None), Instant(0));
        assert_eq!(known.expires, Instant(5_000));
        assert!(cache.get(&question("a.example"), Instant(0)).is_none());
        assert!(cache.bytes == 0 && cache.by_expiry.is_empty());
    }

    #[test]
    fn names_are_one_in_any_case_and_kinds_are_not() {
        let mut cache = Cache::default();
        cache.insert(question("A.Example"), answer(address(), Some(60)), Instant(0));
        assert!(cache.get(&question("a.eXample"), Instant(0)).is_some());
        let other = Question { kind: Kind::Aaaa, ..question("a.example") };
        assert!(cache.get(&other, Instant(0)).is_none());
    }

    #[test]
    fn what_expires_first_makes_room() {
        let mut cache = Cache::default();
        let text = |bytes: usize| answer(Found::Data(vec![Data::Text(vec![b'x'; bytes])]), Some(60));
        let soon = answer(address(), Some(5));
        cache.insert(question("soon.example"), soon, Instant(0));
        let mut count = 0;
        while count < 2 * CACHE_BYTES_MAX / (1 << 20) {
            cache.insert(question(&format!("t{count}.example")), text(1 << 20), Instant(count as u64));
            assert!(cache.bytes <= CACHE_BYTES_MAX);
            count += 1;
        }
        assert!(cache.get(&question("soon.example"), Instant(0)).is_none());
        assert!(cache.get(&question("t0.example"), Instant(0)).is_none());
        assert!(cache.get(&question(&format!("t{}.example", count - 1)), Instant(0)).is_some());
        let sum: usize = cache.entries.values().map(|entry| entry.bytes).sum();
        assert_eq!((cache.bytes, cache.by_expiry.len()), (sum, cache.entries.len()));
    }
}
