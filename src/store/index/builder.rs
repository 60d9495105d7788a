//! Making a chunk.

use super::columns::{
    Came, Column, HAS_DIGEST, Header, Heading, IS_PLAIN, IS_UNENDED, MAGIC, ROW_BYTES, Source, Texts, VERSION,
};
use super::{Kept, RowDigest};
use crate::limits;

/// Gathers rows, ascending by UID, into the bytes of a chunk.
#[derive(Default)]
pub struct ChunkBuilder {
    rows: usize,
    uid_first: u32,
    uid_last: u32,
    uids: Vec<u8>,
    came: Vec<u8>,
    sources: Vec<u8>,
    texts: Vec<u8>,
    heap: Vec<u8>,
}

impl ChunkBuilder {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn push(&mut self, uid: u32, kept: &Kept<'_>) {
        assert!(self.rows == 0 || uid > self.uid_last, "rows ascend by UID");
        if self.rows == 0 {
            self.uid_first = uid;
        }
        (self.rows, self.uid_last) = (self.rows + 1, uid);
        self.uids.extend_from_slice(&uid.to_le_bytes());
        let came = Came {
            internal: kept.internal.seconds.into(),
            internal_zone: kept.internal.zone_minutes.into(),
            saved: kept.saved.into(),
        };
        came.put(&mut self.came);
        Source::of(&kept.locator).put(&mut self.sources);
        let texts =
            kept.digest.get().map_or(Texts { has: 0, offset: 0.into() }, |digest| self.push_texts(&digest));
        texts.put(&mut self.texts);
    }

    fn push_texts(&mut self, digest: &RowDigest<'_>) -> Texts {
        let from = self.heap.len();
        let texts = [digest.envelope, digest.body, digest.body_structure, digest.fields];
        let [envelope, body, body_structure, fields] =
            texts.map(|text| u32::try_from(text.len()).expect("a digest is bounded").into());
        let sent = digest.sent.unwrap_or_default();
        let heading = Heading {
            checksum: 0.into(),
            sent: sent.seconds.into(),
            sent_zone: sent.zone_minutes.into(),
            has_sent: u8::from(digest.sent.is_some()),
            envelope,
            body,
            body_structure,
            fields,
        };
        heading.put(&mut self.heap);
        texts.iter().for_each(|text| self.heap.extend_from_slice(text));
        let (checksum, checked) = self.heap[from..].split_at_mut(size_of_val(&heading.checksum));
        checksum.copy_from_slice(&crc32fast::hash(checked).to_le_bytes());
        let is_unended = if digest.is_ended { 0 } else { IS_UNENDED };
        let is_plain = if digest.is_plain { IS_PLAIN } else { 0 };
        let offset = u32::try_from(from).expect("a heap is bounded").into();
        Texts { has: HAS_DIGEST | is_unended | is_plain, offset }
    }

    /// Whether the chunk should be sealed before anything more is pushed.
    pub fn is_full(&self) -> bool {
        self.rows >= limits::store::CHUNK_ROWS_MAX || self.heap.len() >= limits::store::CHUNK_HEAP_BYTES_MAX
    }

    pub fn len(&self) -> usize {
        self.rows
    }

    pub fn is_empty(&self) -> bool {
        self.rows == 0
    }

    /// The chunk: what [`super::Chunk::open`] takes.
    pub fn finish(self) -> Vec<u8> {
        let mut header = Header {
            checksum: 0.into(),
            magic: MAGIC,
            version: VERSION.into(),
            row_bytes: (ROW_BYTES as u16).into(),
            rows: u32::try_from(self.rows).expect("rows have different UIDs").into(),
            uid_first: self.uid_first.into(),
            uid_last: self.uid_last.into(),
            heap_bytes: (self.heap.len() as u64).into(),
            spare: [0; 32],
        };
        let columns_end = size_of::<Header>() + self.rows * ROW_BYTES;
        let mut bytes = Vec::with_capacity(columns_end + self.heap.len());
        header.put(&mut bytes);
        for part in [self.uids, self.came, self.sources, self.texts] {
            bytes.extend_from_slice(&part);
        }
        header.checksum = crc32fast::hash(&bytes[4..]).into();
        bytes.extend_from_slice(&self.heap);
        bytes[..4].copy_from_slice(&header.checksum.to_native().to_le_bytes());
        bytes
    }
}
