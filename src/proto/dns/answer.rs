//! What a response says about a name, with its aliases followed.
//!
//! Invariants: only records of the name that was asked for, or of one that it is an alias of, count; aliases are
//! followed so far and no farther; a response that contradicts itself is [`Reading::Useless`], never a name that
//! does not exist.

use std::net::IpAddr;

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::{Name, RData};

use super::message::{Authority, Content, Question, Record, Response};
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
        ResponseCode::FormErr | ResponseCode::NotImp | ResponseCode::BADVERS => {
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
