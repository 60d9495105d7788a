//! Flags and keywords of a message (RFC 9051 2.3.2).

use std::ops::{BitAnd, BitOr, BitOrAssign, Not};

/// The system flags as a set of bits. `\Recent` is a session's affair and not among them.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Hash)]
pub struct SystemFlags(pub u8);

impl SystemFlags {
    pub const NONE: Self = Self(0);
    pub const ANSWERED: Self = Self(1);
    pub const FLAGGED: Self = Self(2);
    pub const DELETED: Self = Self(4);
    pub const SEEN: Self = Self(8);
    pub const DRAFT: Self = Self(16);
    pub const ALL: Self = Self(31);

    /// Each flag with its name, in the order in which they are listed.
    pub const NAMES: [(Self, &'static str); 5] = [
        (Self::ANSWERED, "\\Answered"),
        (Self::FLAGGED, "\\Flagged"),
        (Self::DELETED, "\\Deleted"),
        (Self::SEEN, "\\Seen"),
        (Self::DRAFT, "\\Draft"),
    ];

    /// The flag of this name, in any case, with its backslash.
    pub fn named(name: &str) -> Option<Self> {
        let row = Self::NAMES.iter().find(|(_, known)| known.eq_ignore_ascii_case(name));
        row.map(|(flag, _)| *flag)
    }

    pub fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    pub fn is_empty(self) -> bool {
        self.0 == 0
    }
}

impl BitOr for SystemFlags {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl BitOrAssign for SystemFlags {
    fn bitor_assign(&mut self, other: Self) {
        self.0 |= other.0;
    }
}

impl BitAnd for SystemFlags {
    type Output = Self;

    fn bitand(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }
}

impl Not for SystemFlags {
    type Output = Self;

    fn not(self) -> Self {
        Self(!self.0 & Self::ALL.0)
    }
}

/// Flags as a client names them: system flags and keywords, each keyword once (in any case), as first spelt.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Flags {
    pub system: SystemFlags,
    pub keywords: Vec<String>,
}

impl Flags {
    pub fn system(system: SystemFlags) -> Self {
        Self { system, keywords: Vec::new() }
    }

    /// Adds a keyword unless it is there in another case.
    pub fn add_keyword(&mut self, keyword: &str) {
        if !self.keywords.iter().any(|known| known.eq_ignore_ascii_case(keyword)) {
            self.keywords.push(keyword.to_owned());
        }
    }
}

/// What a STORE does with the flags it names (RFC 9051 6.4.6).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FlagsAction {
    Replace,
    Add,
    Remove,
}
