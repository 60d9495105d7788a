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
