//! What a disk refuses with EIO, reads, writes or flushes, at some places, once or until somebody mends it; or what it
//! forgets and says that it is done.

use std::ops::Range;

/// What a disk is asked to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Request {
    Read,
    Write,
    Flush,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Term {
    Once,
    UntilMended,
}

/// What the disk says of what it does not do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Word {
    Eio,
    /// That it is done: a lie.
    Done,
}

pub struct Trouble {
    request: Request,
    /// Bytes of the disk; a flush is of all of them.
    places: Vec<Range<usize>>,
    term: Term,
    /// So many such requests are still answered.
    spared: u64,
    word: Word,
    /// So many were not.
    pub refused: u64,
}

impl Trouble {
    /// For the requests of a kind that touch one of these places, `spared` of them left out.
    pub fn new(request: Request, places: Vec<Range<usize>>, term: Term, spared: u64) -> Self {
        Self { request, places, term, spared, word: Word::Eio, refused: 0 }
    }

    /// It says that all is done.
    pub fn lying(self) -> Self {
        Self { word: Word::Done, ..self }
    }

    /// What the disk says to this request, if it does not do it.
    pub fn strikes(&mut self, request: Request, range: &Range<usize>) -> Option<Word> {
        let touches = |place: &Range<usize>| place.start < range.end && range.start < place.end;
        let is_meant =
            request == self.request && (request == Request::Flush || self.places.iter().any(touches));
        let is_over = self.term == Term::Once && self.refused > 0;
        if !is_meant || is_over {
            return None;
        }
        if self.spared > 0 {
            self.spared -= 1;
            return None;
        }
        self.refused += 1;
        Some(self.word)
    }
}
