//! Messages: a query written, a response read.
//!
//! ```text
//! header 12: id, flags (QR opcode AA TC RD RA AD CD rcode), 4 counts
//! question:  name, type, class
//! answer, authority, additional: name, type, class, ttl, length, data; each section as often as counted
//! ```
//!
//! The frame of records is read here and the data of those that matter by the codec, so that a record of a type
//! that nobody asked for cannot spoil an answer.
//!
//! Invariants: a message that does not answer `question` under `id` is [`Unread::Stray`] whatever else is in it; of
//! each section only so many records are looked at; no bytes panic.

use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::{DNSClass, Name, RData, RecordType};
use hickory_proto::serialize::binary::{BinDecodable, BinDecoder, DecodeError, Restrict};

use super::answer::Data;
use crate::limits;

/// BADVERS (RFC 6891 9), which TSIG calls BADSIG and the codec, too.
pub const BAD_VERSION: ResponseCode = ResponseCode::BADSIG;

/// What can be asked about a name.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Kind {
    A,
    Aaaa,
    Mx,
    Ptr,
    Txt,
}

/// Names are equal in any case.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Question {
    pub name: Name,
    pub kind: Kind,
}

/// Whether a query says what a resolver of today says, or only what one of 1987 did.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Dialect {
    /// EDNS (RFC 6891): room for large answers.
    Extended,
    Plain,
}

/// A response to the question that is open.
#[derive(PartialEq, Eq, Debug)]
pub struct Response {
    pub code: ResponseCode,
    /// There was more than the carrier takes; nothing is read of what came.
    pub is_truncated: bool,
    /// The server vouches for it (AD).
    pub is_authentic: bool,
    pub records: Vec<Record>,
    pub authority: Authority,
}

/// An alias or a record of the kind that was asked for.
#[derive(PartialEq, Eq, Debug)]
pub struct Record {
    pub owner: Name,
    pub ttl_s: u32,
    pub content: Content,
}

#[derive(PartialEq, Eq, Debug)]
pub enum Content {
    Alias(Name),
    Data(Data),
}

/// What the authority section says about an answer without records.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Authority {
    /// A zone says so, and for how many seconds (RFC 2308 5).
    Denial {
        ttl_s: u32,
    },
    /// Others would know: this server does not recurse.
    Referral,
    None,
}

/// Why bytes are no [`Response`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Unread {
    /// Not an answer to the open question: late, forged, or noise.
    Stray,
    /// An answer under the right number that cannot be read.
    Broken,
}

impl Question {
    /// The message that asks it.
    pub fn to_message(&self, id: u16, dialect: Dialect) -> Vec<u8> {
        let mut message = Message::new(id, MessageType::Query, OpCode::Query);
        message.metadata.recursion_desired = true;
        // RFC 6840 5.7: we understand AD.
        message.metadata.authentic_data = true;
        message.add_query(Query::query(self.name.clone(), self.kind.record_type()));
        if dialect == Dialect::Extended {
            let mut edns = Edns::new();
            edns.set_max_payload(limits::dns::UDP_PAYLOAD_BYTES);
            message.set_edns(edns);
        }
        message.to_vec().expect("a name that was read or checked can be written")
    }

    /// The name as operators write it, with what no name should have in it escaped.
    pub fn text(&self) -> String {
        let text = self.name.to_ascii();
        text.strip_suffix('.').map(str::to_owned).unwrap_or(text)
    }
}

impl Kind {
    fn record_type(self) -> RecordType {
        match self {
            Self::A => RecordType::A,
            Self::Aaaa => RecordType::AAAA,
            Self::Mx => RecordType::MX,
            Self::Ptr => RecordType::PTR,
            Self::Txt => RecordType::TXT,
        }
    }

    /// As operators write it.
    pub fn name(self) -> &'static str {
        match self {
            Self::A => "A",
            Self::Aaaa => "AAAA",
            Self::Mx => "MX",
            Self::Ptr => "PTR",
            Self::Txt => "TXT",
        }
    }
}

impl Response {
    /// Reads `bytes` as an answer to `question`, which was asked under `id`.
    pub fn read(bytes: &[u8], id: u16, question: &Question) -> Result<Self, Unread> {
        let mut decoder = BinDecoder::new(bytes);
        let header = Header::read(&mut decoder).map_err(|_| Unread::Stray)?;
        if header.id != id || !header.is_response || !header.is_query_opcode {
            return Err(Unread::Stray);
        }
        header.read_question(&mut decoder, question)?;
        let mut response = Self {
            code: header.code,
            is_truncated: header.is_truncated,
            is_authentic: header.is_authentic,
            records: Vec::new(),
            authority: Authority::None,
        };
        let has_records = matches!(header.code, ResponseCode::NoError | ResponseCode::NXDomain);
        if header.is_truncated || !has_records {
            return Ok(response);
        }
        response.read_sections(&mut decoder, &header, question.kind).map_err(|_| Unread::Broken)?;
        Ok(response)
    }

    fn read_sections(
        &mut self,
        decoder: &mut BinDecoder<'_>,
        header: &Header,
        kind: Kind,
    ) -> Result<(), DecodeError> {
        let [answers, authorities, additionals] = header.counts;
        for index in 0..answers {
            // A domain has a handful of hosts; whoever has more loses those at the end.
            if index >= limits::dns::RECORDS_MAX {
                return Ok(());
            }
            let Frame { owner, class, ttl_s, data, .. } = Frame::read(decoder, kind)?;
            let content = match data.map(Data::try_from) {
                Some(Ok(data)) => Content::Data(data),
                Some(Err(RData::CNAME(target))) => Content::Alias(target.0),
                _ => continue,
            };
            if class == DNSClass::IN {
                self.records.push(Record { owner, ttl_s, content });
            }
        }
        for _ in 0..authorities.min(limits::dns::RECORDS_MAX) {
            let frame = Frame::read(decoder, kind)?;
            match frame.data {
                Some(RData::SOA(zone)) => {
                    let ttl_s = frame.ttl_s.min(sane_ttl(zone.minimum));
                    self.authority = Authority::Denial { ttl_s };
                }
                _ if frame.record_type == RecordType::NS && self.authority == Authority::None => {
                    self.authority = Authority::Referral;
                }
                _ => {}
            }
        }
        if header.is_authoritative && self.authority == Authority::Referral {
            self.authority = Authority::None;
        }
        if authorities <= limits::dns::RECORDS_MAX {
            self.read_extended_code(decoder, additionals, kind);
        }
        Ok(())
    }

    /// The upper bits of the code are in the OPT record (RFC 6891 6.1.3). Rubbish behind the answer is not worth
    /// the answer.
    fn read_extended_code(&mut self, decoder: &mut BinDecoder<'_>, count: u16, kind: Kind) {
        for _ in 0..count.min(limits::dns::RECORDS_MAX) {
            let Ok(frame) = Frame::read(decoder, kind) else {
                return;
            };
            if frame.record_type == RecordType::OPT {
                let high = frame.wire_ttl.to_be_bytes()[0];
                self.code = ResponseCode::from(high, self.code.low());
                return;
            }
        }
    }
}

/// What the first 12 octets say.
struct Header {
    id: u16,
    is_response: bool,
    is_query_opcode: bool,
    is_truncated: bool,
    is_authoritative: bool,
    is_authentic: bool,
    code: ResponseCode,
    questions: u16,
    /// Answers, authorities, additionals.
    counts: [u16; 3],
}

impl Header {
    fn read(decoder: &mut BinDecoder<'_>) -> Result<Self, DecodeError> {
        let header = hickory_proto::op::Header::read(decoder)?;
        let counts = header.counts;
        Ok(Self {
            id: header.id,
            is_response: header.message_type == MessageType::Response,
            is_query_opcode: header.op_code == OpCode::Query,
            is_truncated: header.truncation,
            is_authoritative: header.authoritative,
            is_authentic: header.authentic_data,
            code: header.response_code,
            questions: counts.queries,
            counts: [counts.answers, counts.authorities, counts.additionals],
        })
    }

    /// The question comes back as it was asked. A server that refuses may have read none.
    fn read_question(&self, decoder: &mut BinDecoder<'_>, question: &Question) -> Result<(), Unread> {
        let is_refusal = !matches!(self.code, ResponseCode::NoError | ResponseCode::NXDomain);
        if self.questions == 0 && is_refusal {
            return Ok(());
        }
        if self.questions != 1 {
            return Err(Unread::Stray);
        }
        let asked = Query::read(decoder).map_err(|_| Unread::Stray)?;
        let is_same = asked.name == question.name
            && asked.query_type == question.kind.record_type()
            && asked.query_class == DNSClass::IN;
        if is_same { Ok(()) } else { Err(Unread::Stray) }
    }
}

/// A record as it lies on the wire; data only of types that matter to a question of one kind.
struct Frame {
    owner: Name,
    record_type: RecordType,
    class: DNSClass,
    ttl_s: u32,
    wire_ttl: u32,
    data: Option<RData>,
}

impl Frame {
    fn read(decoder: &mut BinDecoder<'_>, kind: Kind) -> Result<Self, DecodeError> {
        let owner = Name::read(decoder)?;
        let record_type = RecordType::read(decoder)?;
        let class = match record_type {
            // There the class is a size.
            RecordType::OPT => decoder.read_u16().map(|_| DNSClass::IN)?,
            _ => DNSClass::read(decoder)?,
        };
        let wire_ttl = decoder.read_u32()?.unverified();
        let length = decoder.read_u16()?.unverified();
        let is_wanted =
            record_type == kind.record_type() || matches!(record_type, RecordType::CNAME | RecordType::SOA);
        let data = if is_wanted {
            Some(RData::read(decoder, record_type, Restrict::new(length))?)
        } else {
            decoder.read_slice(usize::from(length))?;
            None
        };
        Ok(Self { owner, record_type, class, ttl_s: sane_ttl(wire_ttl), wire_ttl, data })
    }
}

/// RFC 2181 8: a TTL with its top bit set is none.
fn sane_ttl(wire_ttl: u32) -> u32 {
    if wire_ttl > i32::MAX.unsigned_abs() { 0 } else { wire_ttl }
}

#[cfg(test)]
mod tests {
    use hickory_proto::op::{Message, ResponseCode};
    use proptest::prelude::{any, prop, proptest};

    use super::{Authority, BAD_VERSION, Content, Dialect, Kind, Question, Response, Unread};
    use crate::limits;
    use crate::proto::dns::test_wire::{answered, bytes, question, raw, response};

    const ID: u16 = 0x1234;
    /// QR, RD, RA.
    const ANSWER: u16 = 0x8180;
    /// `a.test IN A`, in 12 octets: the section behind it begins at 24.
    const ASKED: &[u8] = b"\x01a\x04test\0\0\x01\0\x01";

    fn asked() -> Question {
        question("a.test", Kind::A)
    }

    fn read(bytes: &[u8]) -> Result<Response, Unread> {
        Response::read(bytes, ID, &asked())
    }

    /// An answer whose records are `section`, of which there are said to be `count`.
    fn with_answers(count: u16, section: &[u8]) -> Vec<u8> {
        raw(ID, ANSWER, [1, count, 0, 0], &[ASKED, section].concat())
    }

    #[test]
    fn queries_say_who_asks_what() {
        let extended = asked().to_message(ID, Dialect::Extended);
        let expected = raw(ID, 0x0120, [1, 0, 0, 1], &[ASKED, b"\0\0\x29\x04\xd0\0\0\0\0\0\0"].concat());
        assert_eq!(extended, expected);
        assert_eq!(asked().to_message(ID, Dialect::Plain), raw(ID, 0x0120, [1, 0, 0, 0], ASKED));
    }

    /// SA-13: whoever does not know the number and the question is not heard.
    #[test]
    fn strays() {
        let good = bytes(&answered(ID, &asked(), &["a.test 60 A 192.0.2.1"], &[]));
        assert!(read(&good).is_ok());
        let changed = |change: &dyn Fn(&mut Message)| {
            let mut message = Message::from_vec(&good).unwrap();
            change(&mut message);
            bytes(&message)
        };
        let strays: [(&str, Vec<u8>); 8] = [
            ("nothing", Vec::new()),
            ("half a header", good[..11].to_vec()),
            ("another number", changed(&|message| message.metadata.id ^= 1)),
            ("a query", asked().to_message(ID, Dialect::Plain)),
            ("no question", changed(&|message| message.queries.clear())),
            ("two questions", changed(&|message| message.queries.push(message.queries[0].clone()))),
            ("another name", bytes(&answered(ID, &question("b.test", Kind::A), &[], &[]))),
            ("another type", bytes(&answered(ID, &question("a.test", Kind::Mx), &[], &[]))),
        ];
        for (what, stray) in strays {
            assert_eq!(read(&stray), Err(Unread::Stray), "{what}");
        }
        // Class CHAOS.
        let chaos = raw(ID, ANSWER, [1, 0, 0, 0], b"\x01a\x04test\0\0\x01\0\x03");
        assert_eq!(read(&chaos), Err(Unread::Stray));
    }

    #[test]
    fn the_question_may_come_back_in_another_case() {
        let shouted = raw(ID, ANSWER, [1, 0, 0, 0], b"\x01A\x04TeST\0\0\x01\0\x01");
        assert!(read(&shouted).is_ok());
    }

    /// A server that could not read the query may not repeat it.
    #[test]
    fn refusals_need_no_question() {
        for (flags, code) in [(0x8181, ResponseCode::FormErr), (0x8185, ResponseCode::Refused)] {
            assert_eq!(read(&raw(ID, flags, [0; 4], &[])).unwrap().code, code);
        }
        assert_eq!(read(&raw(ID, 0x8183, [0; 4], &[])), Err(Unread::Stray));
    }

    #[test]
    fn records_that_matter() {
        let mut message = answered(
            ID,
            &asked(),
            &["a.test 60 CNAME b.test", "b.test 7 A 192.0.2.1", "b.test 60 TXT x", "b.test 60 MX 1 c.test"],
            &["test 60 NS ns.test"],
        );
        message.metadata.authentic_data = true;
        let response = read(&bytes(&message)).unwrap();
        assert!(response.is_authentic && !response.is_truncated);
        let kinds: Vec<_> = response
            .records
            .iter()
            .map(|record| {
                (record.owner.to_ascii(), record.ttl_s, matches!(record.content, Content::Alias(_)))
            })
            .collect();
        assert_eq!(kinds, [("a.test.".to_owned(), 60, true), ("b.test.".to_owned(), 7, false)]);
        assert_eq!(response.authority, Authority::Referral);
    }

    #[test]
    fn what_a_zone_denies_and_for_how_long() {
        let table: [(&[&str], Authority); 5] = [
            (&["test 60 SOA 300"], Authority::Denial { ttl_s: 60 }),
            (&["test 600 NS ns.test", "test 600 SOA 300"], Authority::Denial { ttl_s: 300 }),
            // RFC 2181 8: with the top bit set it is 0.
            (&["test 4294967295 SOA 300"], Authority::Denial { ttl_s: 0 }),
            (&["test 600 SOA 2147483648"], Authority::Denial { ttl_s: 0 }),
            (&[], Authority::None),
        ];
        for (authorities, expected) in table {
            let message = answered(ID, &asked(), &[], authorities);
            assert_eq!(read(&bytes(&message)).unwrap().authority, expected, "{authorities:?}");
        }
        let mut own = answered(ID, &asked(), &[], &["test 60 NS ns.test"]);
        own.metadata.authoritative = true;
        assert_eq!(read(&bytes(&own)).unwrap().authority, Authority::None);
    }

    #[test]
    fn a_truncated_answer_is_not_read() {
        let mut cut = answered(ID, &asked(), &["a.test 60 A 192.0.2.1"], &[]);
        cut.metadata.truncation = true;
        let mut cut = bytes(&cut);
        cut.truncate(30);
        let response = read(&cut).unwrap();
        assert!(response.is_truncated && response.records.is_empty());
    }

    /// RFC 6891 6.1.3: the upper bits of BADVERS are in OPT; without them it would be NOERROR.
    #[test]
    fn the_upper_bits_of_the_code_count() {
        let message = bytes(&response(ID, &asked(), ResponseCode::BADVERS));
        assert_eq!(message[3] & 0x0f, 0);
        assert_eq!(read(&message).unwrap().code, BAD_VERSION);
    }

    /// SA-13. A name that points at itself or ahead, labels and names over their bounds, data over theirs.
    #[test]
    fn broken_answers() {
        let fixed = b"\0\x01\0\x01\0\0\0\x3c\0\x04\xc0\0\x02\x01";
        let long_name = b"\x3f0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcde".repeat(4);
        let table: [(&str, Vec<u8>); 9] = [
            ("a pointer at itself", [b"\xc0\x18", fixed.as_slice()].concat()),
            ("a loop of two", [b"\x01a\xc0\x1a", fixed.as_slice()].concat()),
            ("a pointer ahead", [b"\xc0\x40", fixed.as_slice()].concat()),
            ("a pointer out of the message", [b"\xff\xff", fixed.as_slice()].concat()),
            ("a label of 64", [b"\x40", [b'x'; 64].as_slice(), b"\0", fixed].concat()),
            ("a name of 256", [long_name.as_slice(), b"\0", fixed].concat()),
            ("fewer records than counted", Vec::new()),
            ("data beyond the end", b"\xc0\x0c\0\x01\0\x01\0\0\0\x3c\xff\xff\xc0\0\x02\x01".to_vec()),
            ("an address of 5 octets", b"\xc0\x0c\0\x01\0\x01\0\0\0\x3c\0\x05\xc0\0\x02\x01\x01".to_vec()),
        ];
        for (what, section) in table {
            assert_eq!(read(&with_answers(1, &section)), Err(Unread::Broken), "{what}");
        }
    }

    /// HINFO, a type that nobody knows, and an HTTPS record that is broken inside.
    #[test]
    fn records_that_nobody_asked_for_spoil_nothing() {
        let section = [
            b"\xc0\x0c\0\x0d\0\x01\0\0\0\x3c\0\x02\xff\xff".as_slice(),
            b"\xc0\x0c\xfe\xfe\0\x01\0\0\0\x3c\0\x01\0",
            b"\xc0\x0c\0\x41\0\x01\0\0\0\x3c\0\x03\xff\xff\xff",
            b"\xc0\x0c\0\x01\0\x01\0\0\0\x3c\0\x04\xc0\0\x02\x01",
        ];
        let response = read(&with_answers(4, &section.concat())).unwrap();
        assert_eq!(response.records.len(), 1);
        // Class CHAOS is another world.
        let chaos = read(&with_answers(1, b"\xc0\x0c\0\x01\0\x03\0\0\0\x3c\0\x04\xc0\0\x02\x01")).unwrap();
        assert!(chaos.records.is_empty());
    }

    /// SA-13: as many records as 64 KB hold.
    #[test]
    fn records_are_bounded() {
        let one = b"\xc0\x0c\0\x01\0\x01\0\0\0\x3c\0\x04\xc0\0\x02\x01";
        let count = 4090_u16;
        let response = read(&with_answers(count, &one.repeat(usize::from(count)))).unwrap();
        assert_eq!(response.records.len(), usize::from(limits::dns::RECORDS_MAX));
    }

    /// Each pointer leads to the one before it, and every record to the last: the most work that bytes can make.
    #[test]
    fn a_chain_of_pointers_is_bounded_by_the_records_that_are_read() {
        let mut section = b"\xc0\x0c\xfe\xfe\0\x01\0\0\0\x3c".to_vec();
        let chain: Vec<u8> = (0..8000_u16)
            .flat_map(|index| (0xc000 | (36 + 2 * index.saturating_sub(1))).to_be_bytes())
            .collect();
        section.extend_from_slice(&u16::try_from(chain.len()).unwrap().to_be_bytes());
        section.extend_from_slice(&[&[0xc0, 0x0c], &chain[2..]].concat());
        let last = (0xc000 | (36 + 2 * 7999_u16)).to_be_bytes();
        let one = [last.as_slice(), b"\0\x05\0\x01\0\0\0\x3c\0\x02", &last].concat();
        let count = 3300_u16;
        section.extend_from_slice(&one.repeat(usize::from(count)));
        let response = read(&with_answers(count + 1, &section)).unwrap();
        assert_eq!(response.records.len(), usize::from(limits::dns::RECORDS_MAX) - 1);
        assert_eq!(response.records[0].owner, asked().name);
    }

    proptest! {
        #[test]
        fn no_bytes_panic(noise in prop::collection::vec(any::<u8>(), 0..600)) {
            let _ = read(&noise);
            for kind in [Kind::A, Kind::Mx, Kind::Ptr, Kind::Txt] {
                let asked = question("a.test", kind);
                let mut answer = asked.to_message(ID, Dialect::Plain);
                answer[2] |= 0x80;
                answer[7] = 9;
                answer[9] = 9;
                answer.extend_from_slice(&noise);
                let _ = Response::read(&answer, ID, &asked);
            }
        }

        /// A good answer with one octet changed, at any place.
        #[test]
        fn a_changed_octet_panics_nowhere(at in 0_usize..200, to: u8) {
            let asked = question("a.test", Kind::Mx);
            let records = ["a.test 60 CNAME b.test", "b.test 60 MX 10 c.test", "b.test 60 MX 20 d.test"];
            let mut good = bytes(&answered(ID, &asked, &records, &["test 60 SOA 300"]));
            let at = at % good.len();
            good[at] = to;
            let _ = Response::read(&good, ID, &asked);
        }
    }
}
