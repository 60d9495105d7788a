//! What the engines of all protocols look like to a test: an adapter drives one session with canned outcomes.

use ringpost::bytes::Output;

/// What a protocol's adapter does: it drives one session with canned outcomes.
pub trait Engine: Sized {
    const SIDE: Side = Side::Server;

    /// A session as the header says, its greeting in `out`.
    fn start(header: &Header, out: &mut Output) -> Self;

    /// Gives the engine `input` and answers its events until neither makes progress.
    fn feed(&mut self, input: &[u8], out: &mut Output);

    /// A `D:` line.
    fn direct(&mut self, directive: &str, out: &mut Output);

    /// The effects since the last call.
    fn effects(&mut self) -> Vec<String>;
}

/// Which side of the dialogue the engine is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Side {
    Server,
    Client,
}

/// The `name: value` lines at the top of a file.
#[derive(Clone, Default)]
pub struct Header(pub Vec<(String, String)>);

impl Side {
    /// The kind of the lines that the engine is told.
    pub fn input(self) -> &'static str {
        match self {
            Self::Server => "C:",
            Self::Client => "S:",
        }
    }
}

impl Header {
    /// The value of `name`, or `default`.
    pub fn value<'a>(&'a self, name: &str, default: &'a str) -> &'a str {
        self.0.iter().find(|(known, _)| known == name).map_or(default, |(_, value)| value)
    }
}
