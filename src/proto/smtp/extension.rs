//! What EHLO lists (RFC 5321 4.1.1.1): a table, with the moment at which each keyword may be there.

use std::fmt::Write;

use crate::bytes::Output;
use crate::limits::smtp::RECIPIENTS_MAX;
use crate::mail::date::Rfc3339;
use crate::mail::time::Timestamp;

use super::session::{Policy, Role, Session};

/// A keyword of EHLO.
struct Extension {
    keyword: &'static str,
    is_offered: fn(&Policy, &Session) -> bool,
    /// Appends the parameters, each with a space in front.
    parameters: fn(&Policy, &Session, Timestamp, &mut Output),
}

const ALWAYS: fn(&Policy, &Session) -> bool = |_, _| true;
const NONE: fn(&Policy, &Session, Timestamp, &mut Output) = |_, _, _, _| {};

const EXTENSIONS: [Extension; 14] = [
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
    Extension { keyword: "DELIVERBY", is_offered: ALWAYS, parameters: deliver_by },
    Extension { keyword: "MT-PRIORITY", is_offered: ALWAYS, parameters: NONE },
    Extension { keyword: "FUTURERELEASE", is_offered: offers_hold, parameters: hold },
    Extension { keyword: "LIMITS", is_offered: ALWAYS, parameters: limits },
];

/// The reply to EHLO.
pub fn ehlo(policy: &Policy, session: &Session, at: Timestamp, out: &mut Output) {
    out.push(b"250-");
    out.push(policy.hostname.as_bytes());
    let mut offered = EXTENSIONS.iter().filter(|row| (row.is_offered)(policy, session)).peekable();
    while let Some(row) = offered.next() {
        out.push(if offered.peek().is_some() { b"\r\n250-" } else { b"\r\n250 " });
        out.push(row.keyword.as_bytes());
        (row.parameters)(policy, session, at, out);
    }
    out.push(b"\r\n");
}

/// RFC 3207 4.2: not once it is active.
fn offers_tls(policy: &Policy, session: &Session) -> bool {
    policy.is_tls_available && session.tls.is_none()
}

fn size(policy: &Policy, _: &Session, _: Timestamp, out: &mut Output) {
    number(out, "", policy.message_bytes_max);
}

fn mechanisms(policy: &Policy, session: &Session, _: Timestamp, out: &mut Output) {
    for mechanism in policy.mechanisms_for(session) {
        out.push(b" ");
        out.push(mechanism.name().as_bytes());
    }
}

/// RFC 4865 4.2: on submission alone.
fn offers_hold(policy: &Policy, _: &Session) -> bool {
    policy.role == Role::Submission
}

/// RFC 4865 3: the longest span, and the last moment that it reaches from now on.
fn hold(policy: &Policy, _: &Session, at: Timestamp, out: &mut Output) {
    number(out, "", u64::from(policy.hold_s_max));
    let last = Timestamp::utc(at.seconds.saturating_add(i64::from(policy.hold_s_max)));
    write!(out, " {}", Rfc3339(last)).expect("writing to memory does not fail");
}

/// RFC 2852 2
fn deliver_by(policy: &Policy, _: &Session, _: Timestamp, out: &mut Output) {
    number(out, "", u64::from(policy.deliver_by_s_min));
}

/// RFC 9422 4: numbers of at most six digits.
fn limits(policy: &Policy, _: &Session, _: Timestamp, out: &mut Output) {
    if let Some(mails_max) = policy.mails_max {
        number(out, "MAILMAX=", u64::from(mails_max).min(999_999));
    }
    number(out, "RCPTMAX=", policy.recipients_max as u64);
}

fn number(out: &mut Output, name: &str, number: u64) {
    write!(out, " {name}{number}").expect("writing to memory does not fail");
}

const _: () = assert!(RECIPIENTS_MAX <= 999_999, "RFC 9422 4.2");
