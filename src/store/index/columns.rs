//! The columns of a chunk, as they lie on disk.
//!
//! ```text
//! header      64  see Header
//! uid          4  × rows
//! times       30  × rows
//! source      35  × rows
//! texts       29  × rows
//! heap            envelope, body, body structure and fields of each row, one behind the other
//! ```

use rkyv::Portable;
use rkyv::bytecheck::CheckBytes;
use rkyv::rancor::Failure;
use rkyv::rend::unaligned::{i16_ule, i64_ule, u16_ule, u32_ule, u64_ule};

use crate::mail::time::Timestamp;
use crate::store::{Locator, LogId, MessageId, Place, Sequence};

pub const MAGIC: [u8; 4] = *b"RPC1";

/// Raised with a change of what follows. A chunk of a version that is not known is made again from the log; a base in
/// the log holds chunks as well, without texts, and those of older versions must go on being read.
pub const VERSION: u16 = 3;

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
        /// Of all that follows this field, to the end of the columns. Each row has one of its own for its texts.
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
    Times 30 {
        internal: i64_ule,
        internal_zone: i16_ule,
        saved: i64_ule,
        sent: i64_ule,
        sent_zone: i16_ule,
        /// 1 if there is a sent date.
        has_sent: u8,
        spare: u8,
    }
}

column! {
    /// The locator.
    Source 35 {
        log: u16_ule,
        sequence: u64_ule,
        /// 0: in a segment, 1: in a large file.
        place: u8,
        number: u64_ule,
        offset: u32_ule,
        length: u64_ule,
        return_path_length: u32_ule,
    }
}

column! {
    /// Where the digest is in the heap.
    Texts 29 {
        /// Bits: `HAS_DIGEST`, and with it `IS_UNENDED`, `IS_PLAIN`.
        has: u8,
        offset: u64_ule,
        envelope: u32_ule,
        body: u32_ule,
        body_structure: u32_ule,
        fields: u32_ule,
        /// Of the four texts, as they stand in the heap.
        checksum: u32_ule,
    }
}

/// There is a digest.
pub const HAS_DIGEST: u8 = 1;
/// There is, and it is of a message whose last line lacks its CRLF.
pub const IS_UNENDED: u8 = 2;
/// There is, and it is of a message that is text as it lies.
pub const IS_PLAIN: u8 = 4;

/// Which columns a version has: all of a row together, and how much of it is in front of each.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Layout {
    pub row_bytes: usize,
    pub times: usize,
    pub source: usize,
    pub texts: usize,
}

impl Layout {
    pub const NEWEST: Self = Self::behind(size_of::<u32_ule>(), 0);

    /// Flags as they once were stood behind the UIDs (17 bytes), and ids that nobody ever gave at the end (24).
    const SECOND: Self = Self::behind(size_of::<u32_ule>() + 17, 24);

    const fn behind(front: usize, end: usize) -> Self {
        let (times, source) = (front, front + size_of::<Times>());
        let texts = source + size_of::<Source>();
        Self { row_bytes: texts + size_of::<Texts>() + end, times, source, texts }
    }

    /// `None` for a version that is not known.
    pub fn of(version: u16) -> Option<Self> {
        match version {
            VERSION => Some(Self::NEWEST),
            2 => Some(Self::SECOND),
            _ => None,
        }
    }
}

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
            Place::Segment { number, offset } => (0, u64::from(number), offset),
            Place::File { number } => (1, number, 0),
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
        let number = self.number.to_native();
        let place = match (self.place, u32::try_from(number)) {
            (0, Ok(number)) => Place::Segment { number, offset: self.offset.to_native() },
            _ => Place::File { number },
        };
        Locator {
            id: MessageId { log: LogId(self.log.to_native()), sequence: Sequence(self.sequence.to_native()) },
            place,
            length: self.length.to_native(),
            return_path_length: self.return_path_length.to_native(),
        }
    }
}

impl Times {
    pub fn internal(&self) -> Timestamp {
        Timestamp { seconds: self.internal.to_native(), zone_minutes: self.internal_zone.to_native() }
    }

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
