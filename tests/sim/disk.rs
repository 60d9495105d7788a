//! Segment files on a disk that forgets.

use std::collections::BTreeMap;

use ringpost::bytes::Slice;
use ringpost::store::log::Write;
use ringpost::store::recover::SegmentFile;

use crate::random::Random;

const SECTOR_BYTES: usize = 512;

/// What is on the platter, and what was written since the last sync.
#[derive(Clone, Default)]
pub struct Disk {
    files: BTreeMap<u32, File>,
}

#[derive(Clone, Default)]
struct File {
    durable: Vec<u8>,
    written: Vec<(usize, Vec<u8>)>,
}

impl Disk {
    /// A segment made ready; what it holds is durable.
    pub fn create(&mut self, number: u32, content: Vec<u8>) {
        self.files.insert(number, File { durable: content, written: Vec::new() });
    }

    pub fn write(&mut self, write: &Write) {
        let bytes: Vec<u8> = write.pieces.iter().flat_map(|piece| piece.to_vec()).collect();
        assert_eq!(bytes.len() as u64, write.length);
        assert_eq!((write.offset % 4096, write.length % 4096), (0, 0), "whole pages");
        let file = self.files.get_mut(&write.segment).expect("the segment was made ready");
        assert!(write.offset as usize + bytes.len() <= file.durable.len(), "inside of its segment");
        file.written.push((write.offset as usize, bytes));
    }

    pub fn sync(&mut self) {
        for file in self.files.values_mut() {
            for (offset, bytes) in std::mem::take(&mut file.written) {
                file.durable[offset..offset + bytes.len()].copy_from_slice(&bytes);
            }
        }
    }

    /// Power is lost: each sector of what was not synced is as before, as written, or neither.
    pub fn crash(&mut self, random: &mut Random) {
        let mood = random.below(4);
        for file in self.files.values_mut() {
            for (offset, bytes) in std::mem::take(&mut file.written) {
                for (index, sector) in bytes.chunks(SECTOR_BYTES).enumerate() {
                    let at = offset + index * SECTOR_BYTES;
                    let place = &mut file.durable[at..at + sector.len()];
                    match if mood < 2 { mood } else { random.below(4) } {
                        0 => {}
                        1 | 2 => place.copy_from_slice(sector),
                        _ => place.copy_from_slice(&random.bytes(SECTOR_BYTES)),
                    }
                }
            }
        }
    }

    pub fn segments(&self) -> Vec<SegmentFile> {
        let files = self.files.iter();
        files
            .map(|(&number, file)| SegmentFile { number, bytes: Slice::from(file.durable.clone()) })
            .collect()
    }

    pub fn file_mut(&mut self, number: u32) -> &mut Vec<u8> {
        &mut self.files.get_mut(&number).expect("a file of this number").durable
    }

    pub fn numbers(&self) -> Vec<u32> {
        self.files.keys().copied().collect()
    }

    pub fn remove(&mut self, number: u32) {
        self.files.remove(&number);
    }
}
