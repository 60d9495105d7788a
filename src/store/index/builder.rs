//! Making a chunk.

use super::columns::{
    Column, HAS_DIGEST, Header, IS_PLAIN, IS_UNENDED, Layout, MAGIC, Source, Texts, Times, VERSION,
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
    times: Vec<u8>,
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
        let digest = kept.digest.get();
        let sent = digest.and_then(|digest| digest.sent);
        let times = Times {
            internal: kept.internal.seconds.into(),
            internal_zone: kept.internal.zone_minutes.into(),
            saved: kept.saved.into(),
            sent: sent.unwrap_or_default().seconds.into(),
            sent_zone: sent.unwrap_or_default().zone_minutes.into(),
            has_sent: u8::from(sent.is_some()),
            spare: 0,
        };
        times.put(&mut self.times);
        Source::of(&kept.locator).put(&mut self.sources);
        self.push_texts(digest);
    }

    fn push_texts(&mut self, digest: Option<RowDigest<'_>>) {
        let from = self.heap.len();
        let mut add = |text: &[u8]| {
            self.heap.extend_from_slice(text);
            u32::try_from(text.len()).expect("a digest is bounded").into()
        };
        let [envelope, body, body_structure, fields] = match &digest {
            Some(digest) => {
                [digest.envelope, digest.body, digest.body_structure, digest.fields].map(&mut add)
            }
            None => [0.into(); 4],
        };
        let has = digest.map_or(0, |digest| {
            let is_unended = if digest.is_ended { 0 } else { IS_UNENDED };
            let is_plain = if digest.is_plain { IS_PLAIN } else { 0 };
            HAS_DIGEST | is_unended | is_plain
        });
        let (offset, checksum) = ((from as u64).into(), crc32fast::hash(&self.heap[from..]).into());
        Texts { has, offset, envelope, body, body_structure, fields, checksum }.put(&mut self.texts);
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
            row_bytes: (Layout::NEWEST.row_bytes as u16).into(),
            rows: u32::try_from(self.rows).expect("rows have different UIDs").into(),
            uid_first: self.uid_first.into(),
            uid_last: self.uid_last.into(),
            heap_bytes: (self.heap.len() as u64).into(),
            spare: [0; 32],
        };
        let columns_end = size_of::<Header>() + self.rows * Layout::NEWEST.row_bytes;
        let mut bytes = Vec::with_capacity(columns_end + self.heap.len());
        header.put(&mut bytes);
        for part in [self.uids, self.times, self.sources, self.texts] {
            bytes.extend_from_slice(&part);
        }
        header.checksum = crc32fast::hash(&bytes[4..]).into();
        bytes.extend_from_slice(&self.heap);
        bytes[..4].copy_from_slice(&header.checksum.to_native().to_le_bytes());
        bytes
    }
}
