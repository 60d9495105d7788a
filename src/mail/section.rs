//! Which part of a message is asked for (RFC 9051 6.4.5.1, `section-spec`).

/// A section: `""`, `1.2.HEADER`, `TEXT`, `3.MIME` and so on.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Section {
    /// Part numbers from the outside in; empty for the message itself. Each is at least 1.
    pub part: Vec<u32>,
    pub text: SectionText,
}

/// What of the part.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum SectionText {
    /// All of it: the whole message, or the content of the part.
    #[default]
    Whole,
    Header,
    /// The named fields, as the client spelt them, in the client's order.
    HeaderFields(Vec<String>),
    HeaderFieldsNot(Vec<String>),
    Text,
    Mime,
}

/// `<offset.length>` of a FETCH.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Partial {
    pub offset: u64,
    /// At least 1.
    pub length: u64,
}

impl Section {
    /// Bytes of memory beside the value itself.
    pub fn held_bytes(&self) -> usize {
        let names = match &self.text {
            SectionText::HeaderFields(names) | SectionText::HeaderFieldsNot(names) => names.as_slice(),
            _ => &[],
        };
        let names = names.iter().map(|name| size_of::<String>() + name.len()).sum::<usize>();
        size_of_val(&*self.part) + names
    }
}

impl Partial {
    /// The range within `len` bytes that is asked for; empty beyond the end.
    pub fn range(self, len: usize) -> std::ops::Range<usize> {
        let clamp = |at: u64| usize::try_from(at).unwrap_or(usize::MAX).min(len);
        clamp(self.offset)..clamp(self.offset.saturating_add(self.length))
    }
}
