//! Trace fields: Return-Path and Received (RFC 5321 4.4).
//!
//! ```text
//! Received: from <greeting> (<reverse name> [<address>]) by <host>
//!     with <protocol> id <id> [for <recipient>] [tls <cipher>] [PRIORITY <n>];
//!     <date>
//! ```
//!
//! Invariants: whatever a client said, the fields hold one line end per line that we meant, no control
//! character and no parenthesis of the client's; lines are under 78 octets where the words allow it.

use std::fmt::Write;
use std::net::IpAddr;

use super::address::Address;
use super::date::Rfc5322;
use super::header::Header;
use super::time::Timestamp;

/// RFC 5322 2.1.1: what a line should stay within, its CRLF not counted.
const LINE_BYTES: usize = 78;

/// What is shown of a greeting or a name from DNS.
const NAME_BYTES_MAX: usize = 255;

/// What a Received field says.
#[derive(Clone, Debug)]
pub struct Received<'a> {
    /// The argument of EHLO as it came; what does not belong in a field is replaced.
    pub greeting: &'a [u8],
    /// The name that DNS has for the client.
    pub reverse_name: Option<&'a str>,
    pub client: IpAddr,
    /// Our name.
    pub host: &'a str,
    pub protocol: Protocol,
    /// The queue id.
    pub id: &'a str,
    /// Given only if there is exactly one recipient, so that no other learns of it. One that is not ASCII is left out:
    /// it alone would make a header that only servers with SMTPUTF8 take.
    pub recipient: Option<&'a Address>,
    /// The cipher suite by its registered name, such as `TLS_AES_128_GCM_SHA256` (RFC 8314 4.3).
    pub cipher: Option<&'a str>,
    /// MT-PRIORITY as it was allowed (RFC 6710 4.1).
    pub priority: Option<i8>,
    pub at: Timestamp,
}

/// How the message came; names the keyword of RFC 3848 and RFC 6531 4.3.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Protocol {
    pub dialect: Dialect,
    pub tls: bool,
    pub authenticated: bool,
    pub smtputf8: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Dialect {
    /// Greeted by HELO.
    Smtp,
    /// Greeted by EHLO.
    Esmtp,
    Lmtp,
}

impl Received<'_> {
    /// Appends the field with its line ends.
    pub fn render(&self, out: &mut Vec<u8>) {
        let mut lines = Lines { text: "Received:".to_owned(), line_start: 0 };
        lines.push(&format!("from {}", sanitised(self.greeting)));
        let reverse_name = self.reverse_name.map_or("unknown".to_owned(), |name| sanitised(name.as_bytes()));
        lines.push(&format!("({reverse_name} {})", Literal(self.client)));
        lines.push(&format!("by {}", self.host));
        lines.push(&format!("with {}", self.protocol.keyword()));
        if !self.id.is_empty() {
            lines.push(&format!("id {}", self.id));
        }
        if let Some(recipient) = self.recipient.filter(|address| address.is_ascii()) {
            lines.push(&format!("for <{recipient}>"));
        }
        if let Some(cipher) = self.cipher {
            lines.push(&format!("tls {}", sanitised(cipher.as_bytes())));
        }
        if let Some(priority) = self.priority {
            lines.push(&format!("PRIORITY {priority}"));
        }
        lines.text.push(';');
        lines.push(&Rfc5322(self.at).to_string());
        lines.text.push_str("\r\n");
        out.extend_from_slice(lines.text.as_bytes());
    }
}

/// What the Received field of a message from a program on this machine says (RFC 5322 3.6.7): nobody greeted us,
/// so that there is no `from`.
#[derive(Clone, Debug)]
pub struct LocalReceived<'a> {
    /// Our name.
    pub host: &'a str,
    /// The user id of the program.
    pub user: u32,
    /// The queue id.
    pub id: &'a str,
    /// Given only if there is exactly one recipient.
    pub recipient: Option<&'a Address>,
    pub at: Timestamp,
}

impl LocalReceived<'_> {
    /// Appends the field with its line ends.
    pub fn render(&self, out: &mut Vec<u8>) {
        let mut lines = Lines { text: "Received:".to_owned(), line_start: 0 };
        lines.push(&format!("by {}", self.host));
        lines.push(&format!("(from user {})", self.user));
        lines.push(&format!("id {}", self.id));
        if let Some(recipient) = self.recipient.filter(|address| address.is_ascii()) {
            lines.push(&format!("for <{recipient}>"));
        }
        lines.text.push(';');
        lines.push(&Rfc5322(self.at).to_string());
        lines.text.push_str("\r\n");
        out.extend_from_slice(lines.text.as_bytes());
    }
}

impl Protocol {
    pub fn keyword(self) -> &'static str {
        let Self { dialect, tls, authenticated, smtputf8 } = self;
        match (dialect, smtputf8, tls, authenticated) {
            (Dialect::Smtp, _, _, _) => "SMTP",
            (Dialect::Esmtp, false, false, false) => "ESMTP",
            (Dialect::Esmtp, false, false, true) => "ESMTPA",
            (Dialect::Esmtp, false, true, false) => "ESMTPS",
            (Dialect::Esmtp, false, true, true) => "ESMTPSA",
            (Dialect::Esmtp, true, false, false) => "UTF8SMTP",
            (Dialect::Esmtp, true, false, true) => "UTF8SMTPA",
            (Dialect::Esmtp, true, true, false) => "UTF8SMTPS",
            (Dialect::Esmtp, true, true, true) => "UTF8SMTPSA",
            (Dialect::Lmtp, false, false, false) => "LMTP",
            (Dialect::Lmtp, false, false, true) => "LMTPA",
            (Dialect::Lmtp, false, true, false) => "LMTPS",
            (Dialect::Lmtp, false, true, true) => "LMTPSA",
            (Dialect::Lmtp, true, false, false) => "UTF8LMTP",
            (Dialect::Lmtp, true, false, true) => "UTF8LMTPA",
            (Dialect::Lmtp, true, true, false) => "UTF8LMTPS",
            (Dialect::Lmtp, true, true, true) => "UTF8LMTPSA",
        }
    }
}

/// Appends `Return-Path: <sender>`.
pub fn return_path(sender: Option<&Address>, out: &mut Vec<u8>) {
    let path = sender.map(Address::to_string).unwrap_or_default();
    out.extend_from_slice(format!("Return-Path: <{path}>\r\n").as_bytes());
}

/// How many Received fields a header has: too many are a loop (RFC 5321 6.3).
pub fn received_count(header: &Header<'_>) -> usize {
    header.all("Received").count()
}

/// A field in the making, folded between its words.
struct Lines {
    text: String,
    line_start: usize,
}

impl Lines {
    fn push(&mut self, words: &str) {
        let is_first = self.line_start == 0 && self.text.ends_with(':');
        // A semicolon may follow, and the blank before the words counts.
        let len = self.text.len() - self.line_start + words.len() + 2;
        if len > LINE_BYTES && !is_first {
            self.text.push_str("\r\n");
            self.line_start = self.text.len();
            self.text.push('\t');
        } else {
            self.text.push(' ');
        }
        self.text.push_str(words);
    }
}

/// An address as a literal of RFC 5321 4.1.3.
struct Literal(IpAddr);

impl std::fmt::Display for Literal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            IpAddr::V4(address) => write!(f, "[{address}]"),
            IpAddr::V6(address) => write!(f, "[IPv6:{address}]"),
        }
    }
}

/// A name as it can stand in a field: what could end a word, comment or line becomes `?`.
fn sanitised(name: &[u8]) -> String {
    let kept = &name[..name.len().min(NAME_BYTES_MAX)];
    let mut out = String::with_capacity(kept.len());
    for &byte in kept {
        let is_plain = byte.is_ascii_graphic() && !b"()<>\\\";,".contains(&byte);
        // Writing to a string cannot fail.
        let _ = out.write_char(if is_plain { char::from(byte) } else { '?' });
    }
    match out.is_empty() {
        true => "unknown".to_owned(),
        false => out,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, proptest};

    use super::{Dialect, LocalReceived, Protocol, Received, received_count, return_path};
    use crate::mail::address::Address;
    use crate::mail::header::Header;
    use crate::mail::time::Timestamp;

    const ESMTPS: Protocol =
        Protocol { dialect: Dialect::Esmtp, tls: true, authenticated: false, smtputf8: false };

    fn received(greeting: &[u8]) -> Received<'_> {
        Received {
            greeting,
            reverse_name: Some("client.example"),
            client: "192.0.2.1".parse().expect("an address"),
            host: "mx.example.com",
            protocol: ESMTPS,
            id: "0000000001",
            recipient: None,
            cipher: None,
            priority: None,
            at: Timestamp { seconds: 1_795_514_400, zone_minutes: 60 },
        }
    }

    fn rendered(field: &Received<'_>) -> String {
        let mut out = Vec::new();
        field.render(&mut out);
        String::from_utf8(out).expect("text")
    }

    #[test]
    fn a_received_field() {
        let recipient = Address::parse("\"a b\"@example.com").expect("an address");
        let mut field = received(b"client.example");
        field.recipient = Some(&recipient);
        field.cipher = Some("TLS_AES_128_GCM_SHA256");
        let expected = "Received: from client.example (client.example [192.0.2.1]) by mx.example.com\r\n\
            \twith ESMTPS id 0000000001 for <\"a b\"@example.com> tls TLS_AES_128_GCM_SHA256;\r\n\
            \tTue, 24 Nov 2026 11:00:00 +0100\r\n";
        assert_eq!(rendered(&field), expected);
        field.client = "2001:db8::1".parse().expect("an address");
        field.reverse_name = None;
        assert!(rendered(&field).contains("(unknown [IPv6:2001:db8::1])"));
        field.priority = Some(-3);
        assert!(rendered(&field).contains("\tPRIORITY -3; Tue, "));
    }

    #[test]
    fn what_a_client_says_stays_in_its_word() {
        let cases: [(&[u8], &str); 4] = [
            (b"a)(b\r\nX: y", "from a??b??X:?y "),
            (b"", "from unknown "),
            (b"caf\xC3\xA9", "from caf?? "),
            (b"[192.0.2.7]", "from [192.0.2.7] "),
        ];
        for (greeting, expected) in cases {
            assert!(rendered(&received(greeting)).contains(expected));
        }
        let unicode = Address::parse("käse@d").expect("an address");
        let mut field = received(b"x");
        field.recipient = Some(&unicode);
        assert!(!rendered(&field).contains("for "));
        field.protocol.smtputf8 = true;
        let text = rendered(&field);
        assert!(text.contains("with UTF8SMTPS id 0000000001;") && text.is_ascii(), "{text}");
    }

    #[test]
    fn a_local_received_field() {
        let recipient = Address::parse("bob@example.org").expect("an address");
        let mut out = Vec::new();
        let (host, id, at) = ("mx.test", "00010000002A", Timestamp::utc(0));
        LocalReceived { host, user: 1000, id, recipient: Some(&recipient), at }.render(&mut out);
        let expected = "Received: by mx.test (from user 1000) id 00010000002A for <bob@example.org>;\r\n\t\
            Thu, 1 Jan 1970 00:00:00 +0000\r\n";
        assert_eq!(String::from_utf8_lossy(&out), expected);
    }

    #[test]
    fn return_paths_and_counts() {
        let mut out = Vec::new();
        return_path(None, &mut out);
        return_path(Address::parse("a@B").ok().as_ref(), &mut out);
        assert_eq!(out, b"Return-Path: <>\r\nReturn-Path: <a@b>\r\n");
        let header = Header::of(b"Received: a\r\nreceived : b\r\n c\r\nX-Received: d\r\n\r\nReceived: e\r\n");
        assert_eq!(received_count(&header), 2);
        let many = b"Received: x\r\n".repeat(5_000);
        assert_eq!(received_count(&Header::of(&many)), 5_000);
    }

    proptest! {
        #[test]
        fn one_field_whatever_was_said(greeting in any::<Vec<u8>>(), name in any::<String>()) {
            let mut field = received(&greeting);
            field.reverse_name = Some(&name);
            let text = rendered(&field);
            assert_eq!(Header::of(text.as_bytes()).fields().count(), 1);
            assert!(text.is_ascii() && text.lines().count() <= 5);
        }
    }
}
