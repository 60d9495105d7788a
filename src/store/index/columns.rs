//! The columns of a chunk, as they lie on disk.
//!
//! ```text
//! header      64  see Header
//! uid          4  × rows
//! came        18  × rows
//! source      31  × rows
//! texts        5  × rows
//! heap            of each row with a digest the heading of its texts, and the texts
//! ```

use rkyv::Portable;
use rkyv::bytecheck::CheckBytes;
use rkyv::rancor::Failure;
use rkyv::rend::unaligned::{i16_ule, i64_ule, u16_ule, u32_ule, u64_ule};

use crate::mail::time::Timestamp;
use crate::store::{Locator, LogId, MessageId, Place, Sequence};

pub const MAGIC: [u8; 4] = *b"RPC1";

/// Raised with a change of what follows. A chunk of another version is made again from the log; a base in the log holds
/// chunks as well, without texts, and those of older versions must go on being read (see `older`).
pub const VERSION: u16 = 4;

/// A struct of a column: its bytes are exactly its fields, and any bytes are one.
///
/// `to_bytes` and `at` are the two ends of the same layout.
macro_rules! column {
    ($(#[$doc:meta])* $name:ident $bytes:literal { $($(#[$field_doc:meta])* $field:ident: $type:ty,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Debug, Portable, CheckBytes)]
        #[bytecheck(crate = rkyv::bytecheck)]
        #[rkyv(crate = rkyv)]
        #[repr(C)]
        pub struct $name {
            $($(#[$field_doc])* pub $field: $type,)*
        }

        impl Column for $name {
            fn put(&self, to: &mut Vec<u8>) {
                $(self.$field.put(to);)*
            }
        }

        const _: () = assert!(size_of::<$name>() == $bytes && align_of::<$name>() == 1);
    };
}

pub(super) use column;

/// What can be an element of a column.
pub trait Column: Portable + Sized {
    fn put(&self, to: &mut Vec<u8>);
}

macro_rules! scalars {
    ($($type:ty: $native:ty,)*) => {
        $(impl Column for $type {
            fn put(&self, to: &mut Vec<u8>) {
                to.extend_from_slice(&<$native>::from(*self).to_le_bytes());
            }
        })*
    };
}

scalars! { u8: u8, u16_ule: u16, u32_ule: u32, u64_ule: u64, i16_ule: i16, i64_ule: i64, }

impl<const N: usize> Column for [u8; N] {
    fn put(&self, to: &mut Vec<u8>) {
        to.extend_from_slice(self);
    }
}

column! {
    /// The beginning of a chunk.
    Header 64 {
        /// Of all that follows this field, to the end of the columns. The texts of each row have one of their own.
        checksum: u32_ule,
        magic: [u8; 4],
        version: u16_ule,
        /// So that a chunk of another layout is never read as this one.
        row_bytes: u16_ule,
        rows: u32_ule,
        uid_first: u32_ule,
        uid_last: u32_ule,
        heap_bytes: u64_ule,
        spare: [u8; 32],
    }
}

column! {
    /// When the message came, and when it was put here.
    Came 18 {
        internal: i64_ule,
        internal_zone: i16_ule,
        saved: i64_ule,
    }
}

column! {
    /// The locator.
    Source 31 {
        log: u16_ule,
        sequence: u64_ule,
        /// 0: in a segment, 1: in a large file.
        place: u8,
        /// Of the segment; of a large file the lower half of its number.
        number: u32_ule,
        /// In the segment; of a large file the upper half of its number.
        offset: u32_ule,
        length: u64_ule,
        return_path_length: u32_ule,
    }
}

column! {
    /// What is known of the digest without looking at it, and where it is.
    Texts 5 {
        /// Bits: `HAS_DIGEST`, and with it `IS_UNENDED`, `IS_PLAIN`.
        has: u8,
        /// Of its heading in the heap.
        offset: u32_ule,
    }
}

column! {
    /// In front of a row's texts, so that who lists it looks in one place.
    Heading 31 {
        /// Of the rest of the heading and of the texts behind it.
        checksum: u32_ule,
        sent: i64_ule,
        sent_zone: i16_ule,
        /// 1 if there is a sent date.
        has_sent: u8,
        envelope: u32_ule,
        body: u32_ule,
        body_structure: u32_ule,
        fields: u32_ule,
    }
}

/// There is a digest.
pub const HAS_DIGEST: u8 = 1;
/// There is, and it is of a message whose last line lacks its CRLF.
pub const IS_UNENDED: u8 = 2;
/// There is, and it is of a message that is text as it lies.
pub const IS_PLAIN: u8 = 4;

/// How much of a row is in front of each column, and all of it.
pub const CAME: usize = size_of::<u32_ule>();
pub const SOURCE: usize = CAME + size_of::<Came>();
pub const TEXTS: usize = SOURCE + size_of::<Source>();
pub const ROW_BYTES: usize = TEXTS + size_of::<Texts>();

/// The element at `index` of a column that begins at `from`. `None` beyond the end of `bytes`.
pub fn at<T>(bytes: &[u8], from: usize, index: usize) -> Option<&T>
where
    T: Column + for<'a> CheckBytes<rkyv::api::high::HighValidator<'a, Failure>>,
{
    let from = from.checked_add(index.checked_mul(size_of::<T>())?)?;
    let element = bytes.get(from..from.checked_add(size_of::<T>())?)?;
    rkyv::access::<T, Failure>(element).ok()
}

impl Source {
    pub fn of(locator: &Locator) -> Self {
        let (place, number, offset) = match locator.place {
            Place::Segment { number, offset } => (0, number, offset),
            Place::File { number } => (1, number as u32, (number >> 32) as u32),
        };
        Self {
            log: locator.id.log.0.into(),
            sequence: locator.id.sequence.0.into(),
            place,
            number: number.into(),
            offset: offset.into(),
            length: locator.length.into(),
            return_path_length: locator.return_path_length.into(),
        }
    }

    pub fn locator(&self) -> Locator {
        let (number, offset) = (self.number.to_native(), self.offset.to_native());
        let place = match self.place {
            0 => Place::Segment { number, offset },
            _ => Place::File { number: u64::from(number) | u64::from(offset) << 32 },
        };
        Locator {
            id: MessageId { log: LogId(self.log.to_native()), sequence: Sequence(self.sequence.to_native()) },
            place,
            length: self.length.to_native(),
            return_path_length: self.return_path_length.to_native(),
        }
    }
}

impl Came {
    pub fn internal(&self) -> Timestamp {
        Timestamp { seconds: self.internal.to_native(), zone_minutes: self.internal_zone.to_native() }
    }
}

impl Heading {
    pub fn sent(&self) -> Option<Timestamp> {
        let sent = Timestamp { seconds: self.sent.to_native(), zone_minutes: self.sent_zone.to_native() };
        (self.has_sent == 1).then_some(sent)
    }
}

impl Texts {
    /// Whether the last line of the message has its CRLF. `None` without a digest.
    pub fn is_ended(&self) -> Option<bool> {
        match self.has & !IS_PLAIN {
            HAS_DIGEST => Some(true),
            has => (has == HAS_DIGEST | IS_UNENDED).then_some(false),
        }
    }

    pub fn is_plain(&self) -> bool {
        self.has & (HAS_DIGEST | IS_PLAIN) == HAS_DIGEST | IS_PLAIN
    }
}
