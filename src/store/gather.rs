//! A batch in the making.
//!
//! Small things are copied into one text, large bodies are carried as slices from where they lie: a batch of
//! messages is written from the buffers they were received into.

use super::batch::{BATCH_HEADER_BYTES, BatchHeader, PAGE_BYTES, padded_length};
use super::codec;
use super::frame::{self, FrameSpec};
use super::log::Tail;
use super::record::Record;
use super::segment::{FIRST_BATCH_OFFSET, SegmentHeader, SegmentKey};
use super::{RecordPlace, Sequence};
use crate::bytes::Slice;

/// Below this a copy costs less than another piece to write.
const COPY_BYTES_MAX: usize = 4096;

/// Frames that will be written together, at a place that is already known.
#[derive(Debug)]
pub struct Gather {
    pub segment: u32,
    pub offset: u64,
    /// The segment that begins with this batch, if one does.
    pub begins: Option<Tail>,
    pub key: SegmentKey,
    pub first: Sequence,
    pub count: u32,
    /// Room for the batch header, then what is not carried as a slice.
    text: Vec<u8>,
    /// Each large body with the length that `text` had before it.
    bodies: Vec<(usize, Slice)>,
    bodies_length: usize,
    frame_headers: crc32fast::Hasher,
}

impl Gather {
    /// An empty batch at the end of the tail.
    pub fn new(tail: Tail, first: Sequence) -> Self {
        Self {
            segment: tail.number,
            offset: tail.offset,
            begins: tail.is_blank.then_some(tail),
            key: tail.key,
            first,
            count: 0,
            text: vec![0; BATCH_HEADER_BYTES],
            bodies: Vec::new(),
            bodies_length: 0,
            frame_headers: crc32fast::Hasher::new(),
        }
    }

    /// Where a record that is pushed after `skipped` more bytes of frames will be.
    pub fn place(&self, skipped: usize) -> RecordPlace {
        let offset = self.offset + (BATCH_HEADER_BYTES + self.frames_length() + skipped) as u64;
        let offset = u32::try_from(offset).expect("offsets in a segment have 32 bits");
        RecordPlace { segment: self.segment, offset }
    }

    pub fn push(&mut self, record: &Record) {
        let none = Slice::from(&b""[..]);
        let body = codec::body(record).unwrap_or(&none);
        let fields_length = codec::fields_length(record);
        let header_at = self.text.len();
        let fields_at = header_at + frame::header_length(fields_length + body.len());
        self.text.resize(fields_at, 0);
        codec::encode(record, &mut self.text);
        self.seal(codec::kind(record), header_at..fields_at, body);
        if body.len() < COPY_BYTES_MAX {
            self.text.extend_from_slice(body);
        } else {
            self.bodies.push((self.text.len(), body.clone()));
            self.bodies_length += body.len();
        }
    }

    /// The record that begins an incarnation; it says nothing but that it is there.
    pub fn push_opened(&mut self) {
        let header_at = self.text.len();
        let fields_at = header_at + frame::header_length(0);
        self.text.resize(fields_at, 0);
        self.seal(codec::OPENED, header_at..fields_at, &[]);
    }

    /// Headers, frames and padding, to be written from `offset`; or, with the header of a segment, from its start.
    pub fn finish(mut self, header: Option<SegmentHeader>, incarnation: u32, synced: Sequence) -> Vec<Slice> {
        let frames_length = self.frames_length();
        let batch = BatchHeader {
            segment: self.segment,
            page: u32::try_from(self.offset / PAGE_BYTES as u64).expect("a segment has fewer pages"),
            incarnation,
            count: self.count,
            first: self.first,
            synced_through: synced,
            length: u32::try_from(frames_length).expect("a batch is smaller than a segment"),
            frames_checksum: self.frame_headers.clone().finalize(),
        };
        self.text[..BATCH_HEADER_BYTES].copy_from_slice(&batch.to_bytes(self.key));
        let padding = padded_length(frames_length) - BATCH_HEADER_BYTES - frames_length;
        self.text.resize(self.text.len() + padding, 0);
        let mut pieces = Vec::with_capacity(2 + 2 * self.bodies.len());
        if let Some(header) = header {
            assert_eq!(self.offset, FIRST_BATCH_OFFSET as u64);
            pieces.push(Slice::from(header.to_pages()));
        }
        let text = Slice::from(self.text);
        let mut from = 0;
        for (to, body) in self.bodies {
            if from < to {
                pieces.push(text.part(from..to));
            }
            pieces.push(body);
            from = to;
        }
        if from < text.len() {
            pieces.push(text.part(from..text.len()));
        }
        pieces
    }

    /// Of all frames, without the batch header and the padding.
    pub fn frames_length(&self) -> usize {
        self.text.len() - BATCH_HEADER_BYTES + self.bodies_length
    }

    pub fn padded_length(&self) -> usize {
        padded_length(self.frames_length())
    }

    pub fn last(&self) -> Sequence {
        Sequence(self.first.0 + u64::from(self.count) - 1)
    }

    /// Writes the header of the frame whose fields end the text.
    fn seal(&mut self, kind: u8, header: std::ops::Range<usize>, body: &[u8]) {
        let spec = FrameSpec { kind, version: codec::VERSION, sequence: self.first + u64::from(self.count) };
        let (before, fields) = self.text.split_at_mut(header.end);
        frame::write_header(&mut before[header.start..], spec, [fields, body], self.key);
        self.frame_headers.update(&before[header.start..]);
        self.count += 1;
    }
}
