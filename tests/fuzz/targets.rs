//! The targets.

use std::hint::black_box;

use ringpost::bytes::Slice;
use ringpost::config::Config;
use ringpost::mail::address::{self, Address};
use ringpost::mail::address_list::entries;
use ringpost::mail::content::{self, Extended, MediaType};
use ringpost::mail::digest::Digest;
use ringpost::mail::header::Header;
use ringpost::mail::mime::Structure;
use ringpost::mail::reply::Reply;
use ringpost::mail::{date, encoded_word, message_id, mutf7, part, subject};
use ringpost::proto::dns::message::Response;
use ringpost::proto::dns::{Kind, Question, name};
use ringpost::store::LogId;
use ringpost::store::codec;
use ringpost::store::frame::{self, Frame};
use ringpost::store::index::{Chunk, ChunkBuilder};
use ringpost::store::recover::{Scan, SegmentFile};
use ringpost::store::segment::SegmentKey;

use crate::sessions;

/// Of the segment that frames stand in.
const KEY: SegmentKey = SegmentKey(7);

pub struct Target {
    pub name: &'static str,
    pub run: fn(&[u8]),
}

const fn target(name: &'static str, run: fn(&[u8])) -> Target {
    Target { name, run }
}

pub const TARGETS: [Target; 33] = [
    target("smtp new", |input| sessions::relay("new", input)),
    target("smtp hello", |input| sessions::relay("hello", input)),
    target("smtp recipient", |input| sessions::relay("recipient", input)),
    target("smtp data", |input| sessions::relay("data", input)),
    target("smtp chunk", |input| sessions::relay("chunk", input)),
    target("submission connected", |input| sessions::submission("connected", input)),
    target("submission data", |input| sessions::submission("data", input)),
    target("imap new", |input| sessions::imap("new", input)),
    target("imap login", |input| sessions::imap("login", input)),
    target("imap selected", |input| sessions::imap("selected", input)),
    target("pop3 new", |input| sessions::pop3("new", input)),
    target("pop3 login", |input| sessions::pop3("login", input)),
    target("client new", |input| sessions::smtp_client("", input)),
    target("client ready", |input| {
        sessions::smtp_client("220 a\r\n250-a\r\n250-PIPELINING\r\n250 SIZE\r\n", input)
    }),
    target("client chunks", |input| {
        sessions::smtp_client("220 a\r\n250-a\r\n250-CHUNKING\r\n250 DSN\r\n", input)
    }),
    target("mail message", message),
    target("mail address", mail_address),
    target("mail addresses", mail_addresses),
    target("mail media type", media_type),
    target("mail date", mail_date),
    target("mail encoded words", |input| drop(black_box(encoded_word::decode(input)))),
    target("mail subject", |input| drop(black_box(subject::base_subject(input)))),
    target("mail ids", |input| drop(black_box(message_id::ids(input)))),
    target("mail mutf7", mail_mutf7),
    target("mail reply", |input| drop(black_box(Reply::of_lines(550, [input])))),
    target("dns message", dns_message),
    target("store record", store_record),
    target("store frame", store_frame),
    target("store segment", store_segment),
    target("store chunk", store_chunk),
    target("config", |input| drop(black_box(Config::parse(&String::from_utf8_lossy(input), "mx.test")))),
    target("mail header", mail_header),
    target("mail parts", mail_parts),
];

/// As it is, and with the checksum of a writer: readers believe what stands behind one.
fn store_frame(input: &[u8]) {
    black_box(Frame::parse(input, KEY));
    let Some(length) = input.get(8..12).and_then(|word| word.try_into().ok()) else {
        return;
    };
    let header = frame::header_length(u32::from_le_bytes(length) as usize);
    let mut sealed = input.to_vec();
    if let Some(checked) = sealed.get(4..header) {
        let checksum = KEY.checksum(checked).to_le_bytes();
        sealed[..4].copy_from_slice(&checksum);
    }
    if let Some(frame) = Frame::parse(&sealed, KEY) {
        assert!(frame.fields().start == header && frame.fields().end <= frame.body().end);
        black_box(sealed.get(frame.payload()).is_some_and(|payload| frame.payload_is_good(payload)));
    }
}

fn mail_addresses(input: &[u8]) {
    black_box(entries(input).count());
}

fn message(input: &[u8]) {
    black_box(Digest::of(input));
}

/// What was read prints as what reads the same.
fn mail_address(input: &[u8]) {
    for smtputf8 in [true, false] {
        if let Ok((Some(address), _)) = address::parse_path(input, smtputf8)
            && !address.domain.is_empty()
        {
            assert_eq!(Address::parse(&address.to_string()).as_ref(), Ok(&address));
        }
    }
    if let Ok(address) = Address::parse(&String::from_utf8_lossy(input)) {
        assert_eq!(Address::parse(&address.to_string()), Ok(address));
    }
}

fn media_type(input: &[u8]) {
    if let Some(media_type) = MediaType::parse(input) {
        black_box(media_type.parameter("boundary"));
    }
    black_box(content::disposition(input));
    black_box(content::joined_parameters(input, Extended::Decoded));
    black_box(content::joined_parameters(input, Extended::Joined));
}

fn mail_date(input: &[u8]) {
    black_box((date::parse_rfc5322(input), date::parse_imap_date_time(input), date::parse_imap_date(input)));
    black_box((date::parse_rfc3339_utc(input), date::parse_rfc3339(&String::from_utf8_lossy(input))));
}

/// One name has one form.
fn mail_mutf7(input: &[u8]) {
    if let Ok(name) = mutf7::decode(input) {
        assert_eq!(mutf7::encode(&name).as_bytes(), input);
    }
}

fn mail_header(input: &[u8]) {
    let header = Header::of(input);
    let fields: usize = header.fields().map(|field| field.value.len()).sum();
    assert!(fields <= input.len());
    black_box(message_id::thread_ids(&header));
}

fn mail_parts(input: &[u8]) {
    let structure = Structure::of(input);
    for (id, _) in structure.parts() {
        assert!(structure.body(id).len() <= input.len());
    }
    for numbers in [&[1][..], &[1, 1], &[2], &[1, 2, 3]] {
        black_box(part::binary(&structure, numbers).is_ok());
        black_box(part::binary_len(&structure, numbers).is_ok());
    }
}

fn dns_message(input: &[u8]) {
    let name = name::from_text("example.test").expect("it is a name");
    for kind in [Kind::Mx, Kind::A, Kind::Txt, Kind::Ptr] {
        black_box(Response::read(input, 0x1234, &Question { name: name.clone(), kind }).is_ok());
    }
}

fn store_record(input: &[u8]) {
    let Some((kind, fields)) = input.split_first() else {
        return;
    };
    if let Ok(record) = codec::decode(*kind, fields, Slice::from(Vec::new())) {
        let mut encoded = Vec::new();
        codec::encode(&record, &mut encoded);
        let again = codec::decode(*kind, &encoded, Slice::from(Vec::new())).expect("it was written so");
        assert_eq!(format!("{again:?}"), format!("{record:?}"));
    }
}

fn store_segment(input: &[u8]) {
    let file = SegmentFile { number: 1, bytes: Slice::from(input.to_vec()) };
    if let Ok(scan) = Scan::new(LogId(0), vec![file], None) {
        black_box(scan.take_while(Result::is_ok).count());
    }
}

/// As it is, and as the columns and the texts behind the header of a writer.
fn store_chunk(input: &[u8]) {
    read_chunk(input.to_vec());
    if let Some(sealed) = sealed_chunk(input) {
        read_chunk(sealed);
    }
}

fn read_chunk(bytes: Vec<u8>) {
    let Ok(chunk) = Chunk::open(Slice::from(bytes)) else {
        return;
    };
    for (index, uid) in chunk.uids().enumerate() {
        let kept = chunk.kept(index);
        assert_eq!((chunk.find(uid), chunk.uid(index)), (Some(index), uid));
        black_box((kept.internal, kept.saved, kept.locator, chunk.is_ended(index)));
        black_box(kept.digest.get().is_some());
    }
}

/// The first octet says how many rows there are.
fn sealed_chunk(input: &[u8]) -> Option<Vec<u8>> {
    let (rows, rest) = input.split_first()?;
    let rows = rows % 4;
    let mut bytes = ChunkBuilder::new().finish();
    let row_bytes = u16::from_le_bytes([bytes[10], bytes[11]]);
    let (columns, heap) = rest.split_at_checked(usize::from(rows) * usize::from(row_bytes))?;
    bytes[12..16].copy_from_slice(&u32::from(rows).to_le_bytes());
    bytes[24..32].copy_from_slice(&(heap.len() as u64).to_le_bytes());
    bytes.extend_from_slice(columns);
    let checksum = crc32fast::hash(&bytes[4..]).to_le_bytes();
    bytes[..4].copy_from_slice(&checksum);
    bytes.extend_from_slice(heap);
    Some(bytes)
}
