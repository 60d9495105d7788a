//! What EHLO lists (RFC 5321 4.1.1.1): a table, with the moment at which each keyword may be there.

use std::fmt::Write;

use crate::bytes::Output;
use crate::limits::smtp::RECIPIENTS_MAX;

use super::session::{Policy, Session};

/// A keyword of EHLO.
struct Extension {
    keyword: &'static str,
    is_offered: fn(&Policy, &Session) -> bool,
    /// Appends the parameters, each with a space in front.
    parameters: fn(&Policy, &Session, &mut Output),
}

const ALWAYS: fn(&Policy, &Session) -> bool = |_, _| true;
const NONE: fn(&Policy, &Session, &mut Output) = |_, _, _| {};

const EXTENSIONS: [Extension; 11] = [
    Extension { keyword: "PIPELINING", is_offered: ALWAYS, parameters: NONE },
    Extension { keyword: "SIZE", is_offered: ALWAYS, parameters: size },
    Extension { keyword: "STARTTLS", is_offered: offers_tls, parameters: NONE },
    Extension { keyword: "AUTH", is_offered: Policy::offers_auth, parameters: mechanisms },
    Extension { keyword: "ENHANCEDSTATUSCODES", is_offered: ALWAYS, parameters: NONE },
    Extension { keyword: "8BITMIME", is_offered: ALWAYS, parameters: NONE },
    Extension { keyword: "BINARYMIME", is_offered: ALWAYS, parameters: NONE },
    Extension { keyword: "CHUNKING", is_offered: ALWAYS, parameters: NONE },
    Extension { keyword: "SMTPUTF8", is_offered: ALWAYS, parameters: NONE },
    Extension { keyword: "DSN", is_offered: ALWAYS, parameters: NONE },
    Extension { keyword: "LIMITS", is_offered: ALWAYS, parameters: limits },
];

/// The reply to EHLO.
pub fn ehlo(policy: &Policy, session: &Session, out: &mut Output) {
    out.push(b"250-");
    out.push(policy.hostname.as_bytes());
    let mut offered = EXTENSIONS.iter().filter(|row| (row.is_offered)(policy, session)).peekable();
    while let Some(row) = offered.next() {
        out.push(if offered.peek().is_some() { b"\r\n250-" } else { b"\r\n250 " });
        out.push(row.keyword.as_bytes());
        (row.parameters)(policy, session, out);
    }
    out.push(b"\r\n");
}

/// RFC 3207 4.2: not once it is active.
fn offers_tls(policy: &Policy, session: &Session) -> bool {
    policy.is_tls_available && session.tls.is_none()
}

fn size(policy: &Policy, _: &Session, out: &mut Output) {
    number(out, "", policy.message_bytes_max);
}

fn mechanisms(policy: &Policy, session: &Session, out: &mut Output) {
    for mechanism in policy.mechanisms_for(session) {
        out.push(b" ");
        out.push(mechanism.name().as_bytes());
    }
}

/// RFC 9422 4: numbers of at most six digits.
fn limits(policy: &Policy, _: &Session, out: &mut Output) {
    if let Some(mails_max) = policy.mails_max {
        number(out, "MAILMAX=", u64::from(mails_max).min(999_999));
    }
    number(out, "RCPTMAX=", policy.recipients_max as u64);
}

fn number(out: &mut Output, name: &str, number: u64) {
    write!(out, " {name}{number}").expect("writing to memory does not fail");
}

const _: () = assert!(RECIPIENTS_MAX <= 999_999, "RFC 9422 4.2");
