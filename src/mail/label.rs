//! Labels: the tenant that a message belongs to and the campaign it is part of, as a header field names them.
//!
//! Limits, figures and event lines are kept by label, so that a label is one short line of plain characters, or it is
//! none: a long one is not cut, since two of them could then be one.
//!
//! Invariant: a label is 1 to `LABEL_BYTES_MAX` printable ASCII characters and neither begins nor ends with a space.

use super::header::{Header, trim, unfold};

/// Longer than any name that people give, shorter than a message identity.
pub const LABEL_BYTES_MAX: usize = 100;

/// The label in the first field of this name.
pub fn label(header: &Header<'_>, field: &str) -> Option<String> {
    let value = unfold(header.find(field)?);
    let text = trim(&value);
    let is_plain = text.iter().all(|byte| (b' '..=b'~').contains(byte));
    let is_label = is_plain && !text.is_empty() && text.len() <= LABEL_BYTES_MAX;
    is_label.then(|| String::from_utf8_lossy(text).into_owned())
}

/// The tenant of a message: what the login stands for, since a login is proved and a field is only said; else what
/// the field says.
pub fn tenant(header: &Header<'_>, field: Option<&str>, of_login: Option<&str>) -> Option<String> {
    match of_login {
        Some(tenant) => Some(tenant.to_owned()),
        None => label(header, field?),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, proptest};

    use super::{LABEL_BYTES_MAX, label, tenant};
    use crate::mail::header::Header;

    #[test]
    fn labels_are_one_plain_line_or_none() {
        let (longest, longer) = ("x".repeat(LABEL_BYTES_MAX), "x".repeat(LABEL_BYTES_MAX + 1));
        let cases = [
            ("X-Campaign: spring 2026\r\n", Some("spring 2026")),
            ("x-campaign:\r\n  spring\r\n 2026 \r\n", Some("spring 2026")),
            ("X-Campaign: spring\t2026\r\n", None),
            ("X-Campaign: a\r\nX-Campaign: b\r\n", Some("a")),
            ("X-Campaign:  \r\nX-Campaign: b\r\n", None),
            ("X-Campaign: caf\u{e9}\r\n", None),
            ("X-Campaign: a\0b\r\n", None),
            ("X-Campaigns: a\r\n", None),
            ("\r\nX-Campaign: a\r\n", None),
            (&format!("X-Campaign: {longest}\r\n"), Some(&longest)),
            (&format!("X-Campaign: {longer}\r\n"), None),
        ];
        for (header, expected) in cases {
            assert_eq!(label(&Header::of(header.as_bytes()), "X-Campaign").as_deref(), expected, "{header}");
        }
    }

    #[test]
    fn a_login_goes_before_what_the_message_says() {
        let header = Header::of(b"X-Tenant: other\r\n\r\n");
        assert_eq!(tenant(&header, Some("X-Tenant"), Some("acme")).as_deref(), Some("acme"));
        assert_eq!(tenant(&header, Some("X-Tenant"), None).as_deref(), Some("other"));
        assert_eq!(tenant(&header, None, Some("acme")).as_deref(), Some("acme"));
        assert_eq!(tenant(&header, None, None), None);
    }

    proptest! {
        #[test]
        fn whatever_a_message_says(value in any::<Vec<u8>>()) {
            let bytes = [b"X-A: ", &value[..], b"\r\n\r\n"].concat();
            if let Some(label) = label(&Header::of(&bytes), "X-A") {
                assert!(!label.is_empty() && label.len() <= LABEL_BYTES_MAX && label.trim() == label);
                assert!(label.bytes().all(|byte| (b' '..=b'~').contains(&byte)));
            }
        }
    }
}
