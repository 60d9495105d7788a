//! Numbers and strings as bytes: little-endian, in the order they are put, without gaps.
//!
//! A [`Put`] is a vector or a mere count, so that one description of a record gives both its bytes and its length.
//! A [`Take`] reads them back and errs at the first byte that is not there or not as it must be.

/// Where fields go.
pub trait Put {
    fn put(&mut self, bytes: &[u8]);

    fn put_u8(&mut self, value: u8) {
        self.put(&[value]);
    }

    fn put_u16(&mut self, value: u16) {
        self.put(&value.to_le_bytes());
    }

    fn put_u32(&mut self, value: u32) {
        self.put(&value.to_le_bytes());
    }

    fn put_u64(&mut self, value: u64) {
        self.put(&value.to_le_bytes());
    }

    fn put_i16(&mut self, value: i16) {
        self.put(&value.to_le_bytes());
    }

    fn put_i64(&mut self, value: i64) {
        self.put(&value.to_le_bytes());
    }

    /// Bytes with their length in front.
    fn put_bytes(&mut self, bytes: &[u8]) {
        self.put_u32(u32::try_from(bytes.len()).expect("no field has 4 GiB"));
        self.put(bytes);
    }

    fn put_text(&mut self, text: &str) {
        self.put_bytes(text.as_bytes());
    }
}

impl Put for Vec<u8> {
    fn put(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }
}

/// How many bytes were put.
#[derive(Default)]
pub struct Count(pub usize);

impl Put for Count {
    fn put(&mut self, bytes: &[u8]) {
        self.0 += bytes.len();
    }
}

/// What could not be understood, and where.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Malformed {
    pub offset: usize,
}

/// Fields being read.
pub struct Take<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Take<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    pub fn take(&mut self, count: usize) -> Result<&'a [u8], Malformed> {
        let taken = self.bytes[self.at..].get(..count).ok_or(self.malformed())?;
        self.at += count;
        Ok(taken)
    }

    pub fn u8(&mut self) -> Result<u8, Malformed> {
        Ok(self.array::<1>()?[0])
    }

    pub fn u16(&mut self) -> Result<u16, Malformed> {
        Ok(u16::from_le_bytes(self.array()?))
    }

    pub fn u32(&mut self) -> Result<u32, Malformed> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    pub fn u64(&mut self) -> Result<u64, Malformed> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    pub fn i16(&mut self) -> Result<i16, Malformed> {
        Ok(i16::from_le_bytes(self.array()?))
    }

    pub fn i64(&mut self) -> Result<i64, Malformed> {
        Ok(i64::from_le_bytes(self.array()?))
    }

    pub fn bytes(&mut self) -> Result<&'a [u8], Malformed> {
        let count = self.u32()?;
        self.take(count as usize)
    }

    pub fn text(&mut self) -> Result<&'a str, Malformed> {
        let malformed = self.malformed();
        std::str::from_utf8(self.bytes()?).map_err(|_| malformed)
    }

    /// The number of items that follow, refused if they cannot all be there with `item_bytes_min` each.
    pub fn count(&mut self, item_bytes_min: usize) -> Result<usize, Malformed> {
        let malformed = self.malformed();
        let count = self.u32()? as usize;
        match count <= self.left() / item_bytes_min {
            true => Ok(count),
            false => Err(malformed),
        }
    }

    /// Bytes not yet taken.
    pub fn left(&self) -> usize {
        self.bytes.len() - self.at
    }

    /// An error at the place that is read next.
    pub fn malformed(&self) -> Malformed {
        Malformed { offset: self.at }
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let malformed = self.malformed();
        self.take(N)?.try_into().map_err(|_| malformed)
    }
}

#[cfg(test)]
mod tests {
    use super::{Count, Malformed, Put, Take};

    #[test]
    fn what_is_put_is_taken_and_counted() {
        fn put(to: &mut impl Put) {
            to.put_u8(7);
            to.put_i16(-2);
            to.put_u32(1 << 20);
            to.put_i64(-5);
            to.put_text("grüße");
        }
        let (mut bytes, mut count) = (Vec::new(), Count::default());
        put(&mut bytes);
        put(&mut count);
        assert_eq!(bytes.len(), count.0);
        let mut take = Take::new(&bytes);
        assert_eq!((take.u8(), take.i16(), take.u32(), take.i64()), (Ok(7), Ok(-2), Ok(1 << 20), Ok(-5)));
        assert_eq!(take.text(), Ok("grüße"));
        assert_eq!((take.left(), take.u8()), (0, Err(Malformed { offset: bytes.len() })));
    }

    #[test]
    fn a_count_that_cannot_be_true_is_refused() {
        assert_eq!(Take::new(&[255, 255, 255, 255, 1]).count(1), Err(Malformed { offset: 0 }));
    }
}
