//! What a response says about a name, with its aliases followed.
//!
//! Invariants: only records of the name that was asked for, or of one that it is an alias of, count; aliases are
//! followed so far and no farther; a response that contradicts itself is [`Reading::Useless`], never a name that
//! does not exist.

use std::net::IpAddr;

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::{Name, RData};

use super::message::{Authority, BAD_VERSION, Content, Question, Record, Response};
use crate::limits;

/// What a record says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Data {
    Address(IpAddr),
    /// A host that takes mail; the root says that there is none.
    Mail {
        preference: u16,
        exchange: Name,
    },
    Pointer(Name),
    /// Its strings, joined (RFC 7208 3.3).
    Text(Vec<u8>),
}

/// What is known about a question.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Answer {
    pub found: Found,
    /// A validating resolver on this machine vouches for it.
    pub is_authentic: bool,
    /// For how many seconds it holds; none is not to be kept.
    pub ttl_s: Option<u32>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Found {
    /// At least one.
    Data(Vec<Data>),
    /// The name exists and has nothing of that kind.
    Nothing,
    NoSuchName,
}

/// What one response is worth.
#[derive(PartialEq, Eq, Debug)]
pub enum Reading {
    Answered(Answer),
    /// The rest of the way has to be asked for: the last alias, how many there were, and what holds so far.
    Alias {
        target: Name,
        hops: usize,
        ttl_s: u32,
    },
    /// The server does not know this form of a query.
    NotUnderstood,
    /// What the server said, to be told to an operator.
    Useless(String),
}

impl TryFrom<RData> for Data {
    type Error = RData;

    fn try_from(data: RData) -> Result<Self, RData> {
        match data {
            RData::A(a) => Ok(Self::Address(a.0.into())),
            RData::AAAA(aaaa) => Ok(Self::Address(aaaa.0.into())),
            RData::MX(mx) => Ok(Self::Mail { preference: mx.preference, exchange: mx.exchange }),
            RData::PTR(pointer) => Ok(Self::Pointer(pointer.0)),
            RData::TXT(text) => Ok(Self::Text(text.txt_data.concat())),
            other => Err(other),
        }
    }
}

/// Reads a whole (not truncated) response to `question`.
pub fn read(response: Response, question: &Question) -> Reading {
    match response.code {
        ResponseCode::NoError | ResponseCode::NXDomain => {}
        ResponseCode::FormErr | ResponseCode::NotImp | BAD_VERSION => {
            return Reading::NotUnderstood;
        }
        code => return Reading::Useless(format!("said {}", code_name(code))),
    }
    let Some(way) = follow(&response.records, &question.name) else {
        return Reading::Useless(format!("gave more than {} aliases in a row", limits::dns::ALIASES_MAX));
    };
    let is_authentic = response.is_authentic;
    let is_missing = response.code == ResponseCode::NXDomain;
    let target = way.name.clone();
    let (data, data_ttl_s) = data_of(response.records, &target);
    if !data.is_empty() {
        if is_missing {
            return Reading::Useless("gave records of a name and said that it does not exist".to_owned());
        }
        let ttl_s = Some(way.ttl_s.min(data_ttl_s));
        return Reading::Answered(Answer { found: Found::Data(data), is_authentic, ttl_s });
    }
    let found = if is_missing { Found::NoSuchName } else { Found::Nothing };
    let ttl_s = match response.authority {
        Authority::Denial { ttl_s } => Some(ttl_s.min(way.ttl_s)),
        // RFC 6604 2: the code is about the last name, also of a server that did not show its zone.
        _ if is_missing => None,
        _ if way.hops > 0 => return Reading::Alias { target, hops: way.hops, ttl_s: way.ttl_s },
        Authority::Referral => return Reading::Useless("does not look names up for others".to_owned()),
        Authority::None => None,
    };
    Reading::Answered(Answer { found, is_authentic, ttl_s })
}

/// Aliases from one name to the next.
struct Way {
    name: Name,
    hops: usize,
    ttl_s: u32,
}

/// The end of the aliases of `name` in `records`; none if there are too many.
fn follow(records: &[Record], name: &Name) -> Option<Way> {
    let mut way = Way { name: name.clone(), hops: 0, ttl_s: u32::MAX };
    loop {
        let owned = || records.iter().filter(|record| record.owner == way.name);
        let has_data = owned().any(|record| matches!(record.content, Content::Data(_)));
        let alias = owned().find_map(|record| match &record.content {
            Content::Alias(target) => Some((target, record.ttl_s)),
            Content::Data(_) => None,
        });
        let Some((target, ttl_s)) = alias.filter(|_| !has_data) else {
            return Some(way);
        };
        if way.hops == limits::dns::ALIASES_MAX {
            return None;
        }
        way = Way { name: target.clone(), hops: way.hops + 1, ttl_s: way.ttl_s.min(ttl_s) };
    }
}

/// The data of `owner` and the least of their TTLs.
fn data_of(records: Vec<Record>, owner: &Name) -> (Vec<Data>, u32) {
    let mut least_ttl_s = u32::MAX;
    let mut all = Vec::new();
    for record in records.into_iter().filter(|record| record.owner == *owner) {
        if let Content::Data(data) = record.content {
            least_ttl_s = least_ttl_s.min(record.ttl_s);
            all.push(data);
        }
    }
    (all, least_ttl_s)
}

/// As operators know it from `dig`.
fn code_name(code: ResponseCode) -> String {
    match code {
        ResponseCode::ServFail => "SERVFAIL".to_owned(),
        ResponseCode::Refused => "REFUSED".to_owned(),
        other => format!("code {}", u16::from(other)),
    }
}

#[cfg(test)]
mod tests {
    use hickory_proto::op::ResponseCode;

    use super::{Answer, BAD_VERSION, Data, Found, Reading, read};
    use crate::limits;
    use crate::proto::dns::test_wire::{answered, bytes, name, question};
    use crate::proto::dns::{Kind, message::Response};

    fn reading(answers: &[&str], authorities: &[&str], code: ResponseCode) -> Reading {
        let question = question("a.test", Kind::Mx);
        let mut message = answered(1, &question, answers, authorities);
        message.metadata.response_code = code;
        read(Response::read(&bytes(&message), 1, &question).unwrap(), &question)
    }

    /// The exchanges that were found and the lifetime.
    fn found(answers: &[&str]) -> (Vec<String>, Option<u32>) {
        match reading(answers, &[], ResponseCode::NoError) {
            Reading::Answered(Answer { found: Found::Data(all), ttl_s, .. }) => {
                let exchange = |data: &Data| match data {
                    Data::Mail { exchange, .. } => exchange.to_ascii(),
                    other => panic!("{other:?} is no MX"),
                };
                (all.iter().map(exchange).collect(), ttl_s)
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn records_of_the_name_and_of_what_it_is_an_alias_of() {
        let table: [(&[&str], &[&str], u32); 6] = [
            (&["a.test 60 MX 1 m.test", "A.TEST 50 MX 2 n.test"], &["m.test.", "n.test."], 50),
            (&["a.test 60 MX 1 m.test", "b.test 9 MX 2 evil.test"], &["m.test."], 60),
            (&["a.test 30 CNAME b.test", "b.test 60 MX 1 m.test"], &["m.test."], 30),
            (&["c.test 60 MX 1 m.test", "b.test 7 CNAME c.test", "a.test 30 CNAME b.test"], &["m.test."], 7),
            // RFC 1034 3.6.2 allows no data beside an alias: what was asked for wins.
            (&["a.test 60 CNAME b.test", "a.test 60 MX 1 m.test", "b.test 60 MX 1 n.test"], &["m.test."], 60),
            (&["a.test 0 MX 1 m.test"], &["m.test."], 0),
        ];
        for (answers, exchanges, ttl_s) in table {
            let (found, found_ttl_s) = found(answers);
            assert_eq!(
                (found.as_slice(), found_ttl_s),
                (&*exchanges.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>(), Some(ttl_s)),
                "{answers:?}"
            );
        }
    }

    #[test]
    fn nothing_and_no_such_name() {
        let soa: &[&str] = &["test 60 SOA 300"];
        let elsewhere: &[&str] = &["other.test 60 MX 1 m.test"];
        let alias: &[&str] = &["a.test 30 CNAME b.test"];
        let table = [
            (&[][..], soa, ResponseCode::NoError, Found::Nothing, Some(60)),
            (&[], &[], ResponseCode::NoError, Found::Nothing, None),
            (elsewhere, soa, ResponseCode::NoError, Found::Nothing, Some(60)),
            (alias, soa, ResponseCode::NoError, Found::Nothing, Some(30)),
            (&[], soa, ResponseCode::NXDomain, Found::NoSuchName, Some(60)),
            (&[], &[], ResponseCode::NXDomain, Found::NoSuchName, None),
            (alias, &[], ResponseCode::NXDomain, Found::NoSuchName, None),
        ];
        for (answers, authorities, code, expected, ttl_s) in table {
            let reading = reading(answers, authorities, code);
            let answer = Answer { found: expected, is_authentic: false, ttl_s };
            assert_eq!(reading, Reading::Answered(answer), "{answers:?} {authorities:?}");
        }
    }

    #[test]
    fn an_alias_whose_end_is_elsewhere() {
        let answers = ["a.test 30 CNAME b.test", "b.test 20 CNAME c.example"];
        let expected = Reading::Alias { target: name("c.example"), hops: 2, ttl_s: 20 };
        assert_eq!(reading(&answers, &[], ResponseCode::NoError), expected);
    }

    /// SA-13: chains of 50, loops.
    #[test]
    fn aliases_are_bounded() {
        let too_many = format!("gave more than {} aliases in a row", limits::dns::ALIASES_MAX);
        let chain: Vec<String> =
            (0..50).map(|index| format!("c{index}.test 60 CNAME c{}.test", index + 1)).collect();
        let mut answers: Vec<&str> = chain.iter().map(String::as_str).collect();
        answers.push("a.test 60 CNAME c0.test");
        answers.push("c50.test 60 MX 1 m.test");
        for answers in [
            answers.as_slice(),
            &["a.test 60 CNAME a.test"],
            &["a.test 60 CNAME b.test", "b.test 60 CNAME a.test"],
        ] {
            let reading = reading(answers, &[], ResponseCode::NoError);
            assert_eq!(reading, Reading::Useless(too_many.clone()), "{answers:?}");
        }
    }

    #[test]
    fn what_is_no_answer() {
        let data: &[&str] = &["a.test 60 MX 1 m.test"];
        let ns: &[&str] = &["test 60 NS ns.test"];
        let useless = |words: &str| Reading::Useless(words.to_owned());
        let table = [
            (&[][..], &[][..], ResponseCode::ServFail, useless("said SERVFAIL")),
            (&[], &[], ResponseCode::Refused, useless("said REFUSED")),
            (data, &[], ResponseCode::ServFail, useless("said SERVFAIL")),
            (&[], &[], ResponseCode::NotAuth, useless("said code 9")),
            (&[], &[], ResponseCode::FormErr, Reading::NotUnderstood),
            (&[], &[], ResponseCode::NotImp, Reading::NotUnderstood),
            (&[], &[], BAD_VERSION, Reading::NotUnderstood),
            (&[], ns, ResponseCode::NoError, useless("does not look names up for others")),
            (
                data,
                &[],
                ResponseCode::NXDomain,
                useless("gave records of a name and said that it does not exist"),
            ),
        ];
        for (answers, authorities, code, expected) in table {
            assert_eq!(reading(answers, authorities, code), expected, "{code:?} {answers:?}");
        }
    }
}
