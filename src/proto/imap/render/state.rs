//! What a client is told of its mailbox and its session: EXISTS, EXPUNGE, FLAGS, OK with a code.

use super::text;
use crate::bytes::Output;
use crate::mail::flags::SystemFlags;
use crate::proto::imap::reply::{Code, Status};

/// `* 23 EXISTS`
pub fn exists(out: &mut Output, count: u32) {
    numbered(out, count, b" EXISTS\r\n");
}

/// `* 5 RECENT` (RFC 3501 only)
pub fn recent(out: &mut Output, count: u32) {
    numbered(out, count, b" RECENT\r\n");
}

/// `* 44 EXPUNGE`
pub fn expunge(out: &mut Output, number: u32) {
    numbered(out, number, b" EXPUNGE\r\n");
}

fn numbered(out: &mut Output, number: u32, rest: &[u8]) {
    let text = out.text_mut();
    text.extend_from_slice(b"* ");
    text::number(text, number.into());
    text.extend_from_slice(rest);
}

/// `* FLAGS (\Answered ... $Forwarded)`
pub fn flags(out: &mut Output, system: SystemFlags, keywords: &[&str]) {
    let text = out.text_mut();
    text.extend_from_slice(b"* FLAGS ");
    text::list(text, names(system).chain(keywords.iter().copied()));
    text.extend_from_slice(b"\r\n");
}

/// What PERMANENTFLAGS says of new keywords.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NewKeywords {
    Allowed,
    Refused,
}

/// `* OK [PERMANENTFLAGS (\Answered ... \*)] text`
pub fn permanent_flags(out: &mut Output, system: SystemFlags, keywords: &[&str], new: NewKeywords) {
    let any = (new == NewKeywords::Allowed).then_some("\\*");
    let text = out.text_mut();
    text.extend_from_slice(b"* OK [PERMANENTFLAGS ");
    text::list(text, names(system).chain(keywords.iter().copied()).chain(any));
    text.extend_from_slice(b"] Flags that can be kept\r\n");
}

fn names<'a>(system: SystemFlags) -> impl Iterator<Item = &'a str> {
    let names = SystemFlags::NAMES.into_iter();
    names.filter(move |(flag, _)| system.contains(*flag)).map(|(_, name)| name)
}

/// `* OK [UIDNEXT 4392] text`
pub fn ok(out: &mut Output, code: Option<&Code>, text: &str) {
    condition(out, "*", (Status::Ok, code), text);
}

/// `* NO [ALERT] text`: something is wrong, the command goes on.
pub fn no(out: &mut Output, code: Option<&Code>, text: &str) {
    condition(out, "*", (Status::No, code), text);
}

/// `tag status [code] text`
pub(in crate::proto::imap) fn condition(
    out: &mut Output,
    tag: &str,
    (status, code): (Status, Option<&Code>),
    line: &str,
) {
    let text = out.text_mut();
    text.extend_from_slice(tag.as_bytes());
    text.extend_from_slice(match status {
        Status::Ok => b" OK ",
        Status::No => b" NO ",
        Status::Bad => b" BAD ",
    });
    if let Some(code) = code {
        text.push(b'[');
        write_code(text, code);
        text.extend_from_slice(b"] ");
    }
    // What a driver says must not end the line.
    text.extend(line.bytes().map(|byte| if byte.is_ascii_control() { b' ' } else { byte }));
    text.extend_from_slice(b"\r\n");
}

/// A response code without its brackets.
fn write_code(text: &mut Vec<u8>, code: &Code) {
    let name: &str = match code {
        Code::Alert => "ALERT",
        Code::AlreadyExists => "ALREADYEXISTS",
        Code::AppendUid { .. } => "APPENDUID ",
        Code::AuthenticationFailed => "AUTHENTICATIONFAILED",
        Code::AuthorizationFailed => "AUTHORIZATIONFAILED",
        Code::BadCharset => "BADCHARSET (US-ASCII UTF-8)",
        Code::Cannot => "CANNOT",
        Code::ClientBug => "CLIENTBUG",
        Code::Closed => "CLOSED",
        Code::CopyUid { .. } => "COPYUID ",
        Code::Corruption => "CORRUPTION",
        Code::ExpungeIssued => "EXPUNGEISSUED",
        Code::HasChildren => "HASCHILDREN",
        Code::HighestModSeq(_) => "HIGHESTMODSEQ ",
        Code::InUse => "INUSE",
        Code::Limit => "LIMIT",
        Code::Modified(_) => "MODIFIED ",
        Code::NoModSeq => "NOMODSEQ",
        Code::NonExistent => "NONEXISTENT",
        Code::NoPerm => "NOPERM",
        Code::NotSaved => "NOTSAVED",
        Code::OverQuota => "OVERQUOTA",
        Code::PrivacyRequired => "PRIVACYREQUIRED",
        Code::ReadOnly => "READ-ONLY",
        Code::ReadWrite => "READ-WRITE",
        Code::ServerBug => "SERVERBUG",
        Code::TooBig => "TOOBIG",
        Code::TryCreate => "TRYCREATE",
        Code::UidNext(_) => "UIDNEXT ",
        Code::UidValidity(_) => "UIDVALIDITY ",
        Code::Unavailable => "UNAVAILABLE",
        Code::UnknownCte => "UNKNOWN-CTE",
        Code::Unseen(_) => "UNSEEN ",
        Code::UseAttr => "USEATTR",
    };
    text.extend_from_slice(name.as_bytes());
    match code {
        Code::AppendUid { uid_validity, uid } => {
            text::number(text, (*uid_validity).into());
            text.push(b' ');
            text::number(text, (*uid).into());
        }
        Code::CopyUid { uid_validity, uids, copies } => {
            text::number(text, (*uid_validity).into());
            text.push(b' ');
            text::ranges(text, uids);
            text.push(b' ');
            text::ranges(text, copies);
        }
        Code::HighestModSeq(modseq) => text::number(text, *modseq),
        Code::Modified(numbers) => text::ranges(text, numbers),
        Code::UidNext(number) | Code::UidValidity(number) | Code::Unseen(number) => {
            text::number(text, (*number).into());
        }
        _ => (),
    }
}

#[cfg(test)]
mod tests {
    use super::{Code, NewKeywords, exists, expunge, flags, no, ok, permanent_flags, recent};
    use crate::bytes::Output;
    use crate::mail::flags::SystemFlags;

    #[test]
    fn lines() {
        let mut out = Output::new();
        exists(&mut out, 23);
        recent(&mut out, 0);
        expunge(&mut out, 4);
        flags(&mut out, SystemFlags::ALL, &["$Junk"]);
        permanent_flags(&mut out, SystemFlags::SEEN, &[], NewKeywords::Allowed);
        permanent_flags(&mut out, SystemFlags::NONE, &[], NewKeywords::Refused);
        ok(&mut out, Some(&Code::UidNext(4392)), "Next UID");
        no(&mut out, None, "two\r\nlines");
        let copies = [9, 10].into_iter().collect();
        let uids = [3, 5].into_iter().collect();
        ok(&mut out, Some(&Code::CopyUid { uid_validity: 38505, uids, copies }), "Moved");
        ok(&mut out, Some(&Code::AppendUid { uid_validity: 1, uid: 2 }), "Kept");
        ok(&mut out, Some(&Code::Modified([7, 9].into_iter().collect())), "Conditional STORE failed");
        let expected = "* 23 EXISTS\r\n\
            * 0 RECENT\r\n\
            * 4 EXPUNGE\r\n\
            * FLAGS (\\Answered \\Flagged \\Deleted \\Seen \\Draft $Junk)\r\n\
            * OK [PERMANENTFLAGS (\\Seen \\*)] Flags that can be kept\r\n\
            * OK [PERMANENTFLAGS ()] Flags that can be kept\r\n\
            * OK [UIDNEXT 4392] Next UID\r\n\
            * NO two  lines\r\n\
            * OK [COPYUID 38505 3,5 9:10] Moved\r\n\
            * OK [APPENDUID 1 2] Kept\r\n\
            * OK [MODIFIED 7,9] Conditional STORE failed\r\n";
        assert_eq!(String::from_utf8_lossy(&out.to_vec()), expected);
    }
}
