//! What a client is told of mailboxes by name: LIST, LSUB, STATUS, NAMESPACE.

use super::text;
use crate::bytes::Output;
use crate::mail::special_use::SpecialUse;
use crate::proto::imap::command::StatusItem;

/// How mailbox names travel.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Names {
    /// RFC 3501 5.1.3.
    #[default]
    ModifiedUtf7,
    /// After ENABLE IMAP4rev2 (RFC 9051 5.1).
    Utf8,
}

/// A line of LIST.
#[derive(Clone, Copy, Debug)]
pub struct ListLine<'a> {
    /// In UTF-8; empty only for the root.
    pub name: &'a str,
    pub attributes: &'a [Attribute],
    /// It is here for descendants that are subscribed (RFC 5258 3.5).
    pub child_info_subscribed: bool,
    /// The name that the client knows it by (RFC 9051 6.3.9.7).
    pub old_name: Option<&'a str>,
}

/// A mailbox attribute (RFC 9051 7.3.1).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Attribute {
    NonExistent,
    NoSelect,
    NoInferiors,
    HasChildren,
    HasNoChildren,
    Marked,
    Unmarked,
    Subscribed,
    Remote,
    For(SpecialUse),
}

impl Attribute {
    pub fn name(self) -> &'static str {
        match self {
            Self::NonExistent => "\\NonExistent",
            Self::NoSelect => "\\Noselect",
            Self::NoInferiors => "\\Noinferiors",
            Self::HasChildren => "\\HasChildren",
            Self::HasNoChildren => "\\HasNoChildren",
            Self::Marked => "\\Marked",
            Self::Unmarked => "\\Unmarked",
            Self::Subscribed => "\\Subscribed",
            Self::Remote => "\\Remote",
            Self::For(special_use) => special_use.name(),
        }
    }
}

/// `* LIST (\HasNoChildren) "/" Drafts`
pub fn list(out: &mut Output, line: &ListLine<'_>, names: Names) {
    let text = out.text_mut();
    text.extend_from_slice(b"* LIST ");
    mailbox_list(text, line.name, line.attributes, names);
    match (line.child_info_subscribed, line.old_name) {
        (false, None) => (),
        (true, None) => text.extend_from_slice(b" (\"CHILDINFO\" (\"SUBSCRIBED\"))"),
        (child_info, Some(old_name)) => {
            text.extend_from_slice(b" (");
            if child_info {
                text.extend_from_slice(b"\"CHILDINFO\" (\"SUBSCRIBED\") ");
            }
            text.extend_from_slice(b"\"OLDNAME\" (");
            text::mailbox(text, old_name, names);
            text.extend_from_slice(b"))");
        }
    }
    text.extend_from_slice(b"\r\n");
}

/// `* LSUB () "/" Drafts`
pub fn lsub(out: &mut Output, name: &str, attributes: &[Attribute], names: Names) {
    let text = out.text_mut();
    text.extend_from_slice(b"* LSUB ");
    mailbox_list(text, name, attributes, names);
    text.extend_from_slice(b"\r\n");
}

/// `mailbox-list = "(" [mbx-list-flags] ")" SP DQUOTE QUOTED-CHAR DQUOTE SP mailbox`
fn mailbox_list(text: &mut Vec<u8>, name: &str, attributes: &[Attribute], names: Names) {
    text::list(text, attributes.iter().map(|attribute| attribute.name()));
    text.extend_from_slice(b" \"/\" ");
    text::mailbox(text, name, names);
}

/// `* STATUS Drafts (MESSAGES 3 UIDNEXT 9)`. A value of `None` is NIL.
pub fn status(out: &mut Output, name: &str, values: &[(StatusItem, Option<u64>)], names: Names) {
    let text = out.text_mut();
    text.extend_from_slice(b"* STATUS ");
    text::mailbox(text, name, names);
    text.extend_from_slice(b" (");
    for (index, (item, value)) in values.iter().enumerate() {
        if index > 0 {
            text.push(b' ');
        }
        text.extend_from_slice(item.name().as_bytes());
        text.push(b' ');
        match value {
            Some(value) => text::number(text, *value),
            None => text.extend_from_slice(b"NIL"),
        }
    }
    text.extend_from_slice(b")\r\n");
}

/// `* NAMESPACE (("" "/")) NIL NIL`: one personal namespace (RFC 9051 6.3.10).
pub fn namespace(out: &mut Output) {
    out.push(b"* NAMESPACE ((\"\" \"/\")) NIL NIL\r\n");
}

#[cfg(test)]
mod tests {
    use super::{Attribute, ListLine, Names, list, lsub, namespace, status};
    use crate::bytes::Output;
    use crate::mail::special_use::SpecialUse;
    use crate::proto::imap::command::StatusItem;

    #[test]
    fn lines() {
        let mut out = Output::new();
        let line = ListLine { name: "", attributes: &[], child_info_subscribed: false, old_name: None };
        list(&mut out, &ListLine { attributes: &[Attribute::NoSelect], ..line }, Names::ModifiedUtf7);
        let sent = [Attribute::HasNoChildren, Attribute::For(SpecialUse::Sent)];
        list(&mut out, &ListLine { name: "Gesendet ä", attributes: &sent, ..line }, Names::ModifiedUtf7);
        list(&mut out, &ListLine { name: "Foo", child_info_subscribed: true, ..line }, Names::ModifiedUtf7);
        list(&mut out, &ListLine { name: "ä", old_name: Some("a b"), ..line }, Names::Utf8);
        list(
            &mut out,
            &ListLine { name: "x", child_info_subscribed: true, old_name: Some("y"), ..line },
            Names::Utf8,
        );
        lsub(&mut out, "INBOX", &[], Names::ModifiedUtf7);
        let values = [(StatusItem::Messages, Some(3)), (StatusItem::AppendLimit, None)];
        status(&mut out, "INBOX", &values, Names::ModifiedUtf7);
        namespace(&mut out);
        let expected = "* LIST (\\Noselect) \"/\" \"\"\r\n\
            * LIST (\\HasNoChildren \\Sent) \"/\" \"Gesendet &AOQ-\"\r\n\
            * LIST () \"/\" Foo (\"CHILDINFO\" (\"SUBSCRIBED\"))\r\n\
            * LIST () \"/\" \"ä\" (\"OLDNAME\" (\"a b\"))\r\n\
            * LIST () \"/\" x (\"CHILDINFO\" (\"SUBSCRIBED\") \"OLDNAME\" (y))\r\n\
            * LSUB () \"/\" INBOX\r\n\
            * STATUS INBOX (MESSAGES 3 APPENDLIMIT NIL)\r\n\
            * NAMESPACE ((\"\" \"/\")) NIL NIL\r\n";
        assert_eq!(String::from_utf8_lossy(&out.to_vec()), expected);
    }

    #[test]
    fn names_of_status_items_stand_in_order() {
        for (item, name) in StatusItem::NAMES {
            assert_eq!(item.name(), name);
        }
    }
}
