//! Messages as servers write them, and as no server should, for tests.

use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::{CNAME, MX, NS, PTR, SOA, TXT};
use hickory_proto::rr::{Name, RData, Record, RecordType};

use super::{Kind, Question};

pub fn name(text: &str) -> Name {
    let labels = text.split_terminator('.').map(str::as_bytes);
    Name::from_labels(labels).expect("tests use names that fit")
}

pub fn question(text: &str, kind: Kind) -> Question {
    Question { name: name(text), kind }
}

/// A response to `question` under `id`.
pub fn response(id: u16, question: &Question, code: ResponseCode) -> Message {
    let record_type = match question.kind {
        Kind::A => RecordType::A,
        Kind::Aaaa => RecordType::AAAA,
        Kind::Mx => RecordType::MX,
        Kind::Ptr => RecordType::PTR,
        Kind::Txt => RecordType::TXT,
    };
    let mut message = Message::new(id, MessageType::Response, OpCode::Query);
    message.metadata.response_code = code;
    message.metadata.recursion_available = true;
    message.add_query(Query::query(question.name.clone(), record_type));
    message.set_edns(Edns::new());
    message
}

pub fn bytes(message: &Message) -> Vec<u8> {
    message.to_vec().expect("the message can be written")
}

/// `owner ttl TYPE data`, as in a zone file.
pub fn record(line: &str) -> Record {
    let words: Vec<&str> = line.split(' ').collect();
    let [owner, ttl_s, kind, data @ ..] = words.as_slice() else {
        panic!("{line:?} is no record");
    };
    let data = match (*kind, data) {
        ("A" | "AAAA", [ip]) => {
            RData::from(ip.parse::<std::net::IpAddr>().expect("tests use addresses that are some"))
        }
        ("MX", [preference, exchange]) => {
            RData::MX(MX::new(preference.parse().expect("a preference is a number"), name(exchange)))
        }
        ("CNAME", [target]) => RData::CNAME(CNAME(name(target))),
        ("PTR", [target]) => RData::PTR(PTR(name(target))),
        ("NS", [server]) => RData::NS(NS(name(server))),
        ("TXT", strings) => RData::TXT(TXT::from_bytes(strings.iter().map(|text| text.as_bytes()).collect())),
        ("SOA", [minimum]) => {
            let minimum = minimum.parse().expect("a time is a number");
            RData::SOA(SOA::new(name("ns.test"), name("admin.test"), 1, 2, 3, 4, minimum))
        }
        _ => panic!("{line:?} is no record"),
    };
    Record::from_rdata(name(owner), ttl_s.parse().expect("a TTL is a number"), data)
}

/// A response with records in its answer and authority sections.
pub fn answered(id: u16, question: &Question, answers: &[&str], authorities: &[&str]) -> Message {
    let mut message = response(id, question, ResponseCode::NoError);
    message.add_answers(answers.iter().map(|line| record(line)));
    message.add_authorities(authorities.iter().map(|line| record(line)));
    message
}

/// The first 12 octets and a question, by hand.
pub fn raw(id: u16, flags: u16, counts: [u16; 4], rest: &[u8]) -> Vec<u8> {
    let words = [id, flags].into_iter().chain(counts);
    let mut bytes: Vec<u8> = words.flat_map(u16::to_be_bytes).collect();
    bytes.extend_from_slice(rest);
    bytes
}
