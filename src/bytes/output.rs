//! A burst of reply bytes on its way to a socket.
//!
//! Engines append to it, and look back only to take a response away that has become too large. Pieces under
//! [`COPY_BYTES_MAX`] are copied into one buffer; larger slices are kept as they are and sent from where they lie.

use std::fmt;

use super::Slice;

/// Below this a copy costs less than another entry in the list that the socket is written from.
const COPY_BYTES_MAX: usize = 4096;

/// Room for a few replies at once: they are written piece by piece, and would grow it at each.
const TEXT_BYTES: usize = 256;

/// Reply bytes in order: text that was written here, with large slices between.
#[derive(Default, Debug)]
pub struct Output {
    text: Vec<u8>,
    /// Each slice with the length that `text` had when it was added.
    slices: Vec<(usize, Slice)>,
    slices_bytes: usize,
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
        self.slices.push((self.text.len(), slice));
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
        self.text.len() + self.slices.len() * size_of::<(usize, Slice)>()
    }

    /// The pieces in order; none is empty.
    pub fn chunks(&self) -> impl Iterator<Item = Chunk<'_>> {
        let mut from = 0;
        let mut slices = self.slices.iter();
        let mut held: Option<&Slice> = None;
        let mut finished = false;
        std::iter::from_fn(move || {
            loop {
                if let Some(slice) = held.take() {
                    return Some(Chunk::Slice(slice));
                }
                if finished {
                    return None;
                }
                let to = match slices.next() {
                    Some((at, slice)) => {
                        held = Some(slice);
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
            all.extend_from_slice(chunk.bytes());
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

impl<'a> Chunk<'a> {
    pub fn bytes(&self) -> &'a [u8] {
        match self {
            Chunk::Text(text) => text,
            Chunk::Slice(slice) => slice,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{COPY_BYTES_MAX, Chunk, Output, Slice};

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
                Chunk::Slice(slice) => slice.len().to_string(),
            })
            .collect();
        assert_eq!(kinds, ["4096", "middlesmall", "4096", "end"]);
        assert_eq!(output.len(), output.to_vec().len());
        assert_eq!(output.held_bytes(), 14 + 2 * size_of::<(usize, Slice)>());
        let mark = output.mark();
        output.push(b"more");
        output.push_slice(large.clone());
        output.take_back(mark);
        assert_eq!(output.to_vec(), [&large[..], b"middlesmall", &large[..], b"end"].concat());
        assert_eq!(output.len(), output.to_vec().len());
        output.clear();
        assert!(output.is_empty() && output.chunks().next().is_none());
    }
}
