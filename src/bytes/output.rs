//! A burst of reply bytes on its way to a socket.
//!
//! Engines append to it, and look back only to take a response away that has become too large. Pieces under
//! [`COPY_BYTES_MAX`] are copied into one buffer; larger slices are kept as they are and sent from where they lie.
//! Where an octet of a slice is sent as another one, the copy is made when it is sent, a piece at a time.

use std::fmt;

use super::Slice;

/// Below this a copy costs less than another entry in the list that the socket is written from.
const COPY_BYTES_MAX: usize = 4096;

/// Room for a few replies at once: they are written piece by piece, and would grow it at each.
const TEXT_BYTES: usize = 256;

/// As much of a slice that is not sent as it lies is copied at a time.
const SWAPPED_BYTES: usize = 64 << 10;

/// Reply bytes in order: text that was written here, with large slices between.
#[derive(Default, Debug)]
pub struct Output {
    text: Vec<u8>,
    slices: Vec<Piece>,
    slices_bytes: usize,
}

#[derive(Debug)]
struct Piece {
    /// The length that `text` had when it was added.
    at: usize,
    slice: Slice,
    swap: Option<Swap>,
}

/// An octet, and the one that is sent for it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Swap {
    pub from: u8,
    pub to: u8,
}

/// How far an [`Output`] was written.
#[derive(Clone, Copy, Debug)]
pub struct Mark {
    text: usize,
    slices: usize,
    slices_bytes: usize,
}

/// A contiguous piece of an [`Output`].
#[derive(Debug)]
pub enum Chunk<'a> {
    Text(&'a [u8]),
    Slice(&'a Slice),
    Swapped(&'a Slice, Swap),
}

/// An [`Output`] in parts that are sent as they lie.
pub struct Bursts {
    text: Vec<u8>,
    /// Where the rest of it begins.
    from: usize,
    slices: std::vec::IntoIter<Piece>,
    /// What is being copied, and from where.
    swapped: Option<(Slice, Swap, usize)>,
}

impl Output {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn push(&mut self, bytes: &[u8]) {
        self.text_mut().extend_from_slice(bytes);
    }

    /// Appends `slice`, by copy if it is small.
    pub fn push_slice(&mut self, slice: Slice) {
        if slice.len() < COPY_BYTES_MAX {
            return self.push(&slice);
        }
        self.slices_bytes += slice.len();
        self.slices.push(Piece { at: self.text.len(), slice, swap: None });
    }

    /// The same, with one octet sent as another.
    pub fn push_swapped(&mut self, slice: Slice, swap: Swap) {
        if slice.len() < COPY_BYTES_MAX {
            return self.text_mut().extend(swap.of(&slice));
        }
        self.slices_bytes += slice.len();
        self.slices.push(Piece { at: self.text.len(), slice, swap: Some(swap) });
    }

    /// Whether all of it is sent as it lies.
    pub fn is_sent_as_it_lies(&self) -> bool {
        self.slices.iter().all(|piece| piece.swap.is_none())
    }

    pub fn into_bursts(self) -> Bursts {
        Bursts { text: self.text, from: 0, slices: self.slices.into_iter(), swapped: None }
    }

    /// The buffer for text, for writers that want a `Vec`. Only append to it.
    pub fn text_mut(&mut self) -> &mut Vec<u8> {
        if self.text.capacity() == 0 {
            self.text.reserve(TEXT_BYTES);
        }
        &mut self.text
    }

    /// How far it is written now.
    pub fn mark(&self) -> Mark {
        Mark { text: self.text.len(), slices: self.slices.len(), slices_bytes: self.slices_bytes }
    }

    /// Forgets what was appended since.
    pub fn take_back(&mut self, to: Mark) {
        self.text.truncate(to.text);
        self.slices.truncate(to.slices);
        self.slices_bytes = to.slices_bytes;
    }

    /// Forgets everything, and gives the memory back where it was much.
    pub fn clear(&mut self) {
        self.slices.clear();
        self.slices_bytes = 0;
        if self.text.capacity() > 4 * COPY_BYTES_MAX {
            self.text = Vec::new();
        }
        self.text.clear();
    }

    pub fn len(&self) -> usize {
        self.text.len() + self.slices_bytes
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes that only this output keeps in memory: the text. Slices are of what is kept anyway, or of what a command
    /// has decoded, which it counts itself.
    pub fn held_bytes(&self) -> usize {
        self.text.len() + self.slices.len() * size_of::<Piece>()
    }

    /// The pieces in order; none is empty.
    pub fn chunks(&self) -> impl Iterator<Item = Chunk<'_>> {
        let mut from = 0;
        let mut slices = self.slices.iter();
        let mut held = None;
        let mut finished = false;
        std::iter::from_fn(move || {
            loop {
                if let Some(chunk) = held.take() {
                    return Some(chunk);
                }
                if finished {
                    return None;
                }
                let to = match slices.next() {
                    Some(Piece { at, slice, swap }) => {
                        held = Some(swap.map_or(Chunk::Slice(slice), |swap| Chunk::Swapped(slice, swap)));
                        *at
                    }
                    None => {
                        finished = true;
                        self.text.len()
                    }
                };
                let text = &self.text[from..to];
                from = to;
                if !text.is_empty() {
                    return Some(Chunk::Text(text));
                }
            }
        })
    }

    /// All bytes in one vector, for tests and for small replies.
    pub fn to_vec(&self) -> Vec<u8> {
        self.chunks().fold(Vec::with_capacity(self.len()), |mut all, chunk| {
            match chunk {
                Chunk::Swapped(slice, swap) => all.extend(swap.of(slice)),
                chunk => all.extend_from_slice(chunk.bytes()),
            }
            all
        })
    }
}

impl fmt::Write for Output {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.push(text.as_bytes());
        Ok(())
    }
}

impl Swap {
    fn of(self, bytes: &[u8]) -> impl Iterator<Item = u8> {
        bytes.iter().map(move |&byte| if byte == self.from { self.to } else { byte })
    }
}

impl Iterator for Bursts {
    type Item = Output;

    fn next(&mut self) -> Option<Output> {
        let mut burst = Output::new();
        loop {
            if let Some((slice, swap, from)) = &mut self.swapped {
                let to = slice.len().min(*from + SWAPPED_BYTES);
                burst.text_mut().extend(swap.of(&slice[*from..to]));
                *from = to;
                if to == slice.len() {
                    self.swapped = None;
                }
                return Some(burst);
            }
            let Some(Piece { at, slice, swap }) = self.slices.next() else {
                burst.push(&self.text[self.from..]);
                self.from = self.text.len();
                return Some(burst).filter(|burst| !burst.is_empty());
            };
            burst.push(&self.text[self.from..at]);
            self.from = at;
            match swap {
                None => burst.push_slice(slice),
                Some(swap) => self.swapped = Some((slice, swap, 0)),
            }
        }
    }
}

impl<'a> Chunk<'a> {
    /// As they lie. What is not sent so is never asked: it goes through [`Output::into_bursts`].
    pub fn bytes(&self) -> &'a [u8] {
        match self {
            Chunk::Text(text) => text,
            Chunk::Slice(slice) => slice,
            Chunk::Swapped(..) => panic!("a slice with other octets is sent in bursts"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{COPY_BYTES_MAX, Chunk, Output, Piece, SWAPPED_BYTES, Slice, Swap};

    #[test]
    fn large_slices_keep_their_place_between_texts() {
        let large = Slice::from(vec![b'x'; COPY_BYTES_MAX]);
        let mut output = Output::new();
        output.push_slice(large.clone());
        output.push(b"middle");
        output.push_slice(Slice::from(b"small".to_vec()));
        output.push_slice(large.clone());
        output.push(b"end");
        let kinds: Vec<_> = output
            .chunks()
            .map(|chunk| match chunk {
                Chunk::Text(text) => String::from_utf8_lossy(text).into_owned(),
                Chunk::Slice(slice) | Chunk::Swapped(slice, _) => slice.len().to_string(),
            })
            .collect();
        assert_eq!(kinds, ["4096", "middlesmall", "4096", "end"]);
        assert_eq!(output.len(), output.to_vec().len());
        assert_eq!(output.held_bytes(), 14 + 2 * size_of::<Piece>());
        let mark = output.mark();
        output.push(b"more");
        output.push_slice(large.clone());
        output.take_back(mark);
        assert_eq!(output.to_vec(), [&large[..], b"middlesmall", &large[..], b"end"].concat());
        assert_eq!(output.len(), output.to_vec().len());
        output.clear();
        assert!(output.is_empty() && output.chunks().next().is_none());
    }

    #[test]
    fn what_is_sent_as_other_octets_is_copied_a_piece_at_a_time() {
        let swap = Swap { from: 0, to: b'0' };
        let large = Slice::from(b"a\0b".repeat(SWAPPED_BYTES));
        let mut output = Output::new();
        output.push(b"before");
        output.push_swapped(Slice::from(b"\0small".to_vec()), swap);
        output.push_slice(Slice::from(vec![0; COPY_BYTES_MAX]));
        assert!(output.is_sent_as_it_lies());
        output.push_swapped(large.clone(), swap);
        output.push(b"between");
        output.push_swapped(large.clone(), swap);
        output.push(b"end\0");
        assert!(!output.is_sent_as_it_lies() && output.held_bytes() < 1000);
        let swapped = b"a0b".repeat(SWAPPED_BYTES);
        let nuls = [0; COPY_BYTES_MAX];
        let expected = [b"before0small", &nuls[..], &swapped, b"between", &swapped, b"end\0"].concat();
        assert_eq!((output.to_vec() == expected, output.len()), (true, expected.len()));
        let bursts: Vec<Output> = output.into_bursts().collect();
        assert!(
            bursts.iter().all(|burst| burst.is_sent_as_it_lies() && burst.held_bytes() < SWAPPED_BYTES + 100)
        );
        assert!(bursts.iter().flat_map(Output::to_vec).eq(expected));
        assert!(Output::new().into_bursts().next().is_none());
    }
}
