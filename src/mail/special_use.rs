//! What a mailbox is for (RFC 6154 2).

/// A special use, as CREATE asks for it and LIST tells it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum SpecialUse {
    All,
    Archive,
    Drafts,
    Flagged,
    Junk,
    Sent,
    Trash,
}

impl SpecialUse {
    /// Each use with the attribute that names it.
    pub const NAMES: [(Self, &'static str); 7] = [
        (Self::All, "\\All"),
        (Self::Archive, "\\Archive"),
        (Self::Drafts, "\\Drafts"),
        (Self::Flagged, "\\Flagged"),
        (Self::Junk, "\\Junk"),
        (Self::Sent, "\\Sent"),
        (Self::Trash, "\\Trash"),
    ];

    /// The use of this attribute, in any case, with its backslash.
    pub fn named(name: &str) -> Option<Self> {
        let row = Self::NAMES.iter().find(|(_, known)| known.eq_ignore_ascii_case(name));
        row.map(|(special_use, _)| *special_use)
    }

    /// The attribute.
    pub fn name(self) -> &'static str {
        match self {
            Self::All => "\\All",
            Self::Archive => "\\Archive",
            Self::Drafts => "\\Drafts",
            Self::Flagged => "\\Flagged",
            Self::Junk => "\\Junk",
            Self::Sent => "\\Sent",
            Self::Trash => "\\Trash",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::SpecialUse;

    #[test]
    fn names_and_uses_are_one_to_one() {
        for (special_use, name) in SpecialUse::NAMES {
            assert_eq!(special_use.name(), name);
            assert_eq!(SpecialUse::named(&name.to_ascii_uppercase()), Some(special_use));
        }
        assert_eq!(SpecialUse::named("Sent"), None);
    }
}
