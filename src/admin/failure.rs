//! How a command ends when it does not end well.

use std::fmt;
use std::io;
use std::process::ExitCode;

use crate::io::disk::DiskError;

/// What went wrong, for a person, and the exit status that says whose move it is.
#[derive(Debug)]
pub enum Failure {
    /// 1: the thing asked for is wrong.
    Wrong(String),
    /// 3: the server or its data cannot be reached or used.
    Unavailable(String),
    /// Whoever read our output has left; there is nothing to say and nobody to hear it.
    Unheard,
}

impl Failure {
    pub fn wrong(text: impl fmt::Display) -> Self {
        Self::Wrong(text.to_string())
    }

    pub fn unavailable(text: impl fmt::Display) -> Self {
        Self::Unavailable(text.to_string())
    }

    /// Says what happened on standard error.
    pub fn report(&self) -> ExitCode {
        match self {
            Self::Wrong(text) => {
                eprintln!("{text}");
                ExitCode::from(1)
            }
            Self::Unavailable(text) => {
                eprintln!("{text}");
                ExitCode::from(3)
            }
            Self::Unheard => ExitCode::SUCCESS,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Wrong(text) | Self::Unavailable(text) => f.write_str(text),
            Self::Unheard => f.write_str("nobody hears"),
        }
    }
}

impl From<DiskError> for Failure {
    fn from(error: DiskError) -> Self {
        Self::unavailable(error)
    }
}

/// Failures of our own standard output.
impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::Unheard,
            _ => Self::Unavailable(format!("the output cannot be written: {error}")),
        }
    }
}
