//! What a listener allows, and what is known of a client.

use crate::proto::sasl::{Bindings, Mechanism};

/// What one listener allows and says; the same for all of its sessions.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Policy {
    /// Our name in greetings.
    pub hostname: String,
    pub role: Role,
    /// There is a certificate, so that STARTTLS can be offered.
    pub is_tls_available: bool,
    pub message_bytes_max: u64,
    /// At most `limits::smtp::RECIPIENTS_MAX`.
    pub recipients_max: usize,
    /// How long a client may be silent (RFC 5321 4.5.3.2.7).
    pub idle_s: u64,
    /// MAIL commands of one session; `None` is no limit.
    pub mails_max: Option<u32>,
    /// How long a submitted message may be held (RFC 4865).
    pub hold_s_max: u32,
    /// The shortest time to deliver in that a message may be returned after (RFC 2852).
    pub deliver_by_s_min: u32,
    /// In the order in which they are listed; offered under TLS alone.
    pub mechanisms: Vec<Mechanism>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Role {
    /// Mail from anyone, port 25.
    Relay,
    /// Mail of our own users, ports 587 and 465 (RFC 6409): TLS and AUTH first.
    Submission,
}

/// What is known of a client.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Session {
    /// `None` before EHLO, and again after STARTTLS.
    pub greeting: Option<Greeting>,
    pub tls: Option<Tls>,
    /// The account it has logged in as.
    pub login: Option<String>,
}

/// What EHLO or HELO said.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Greeting {
    /// ASCII without spaces and controls; nothing more is certain.
    pub name: Box<str>,
    pub is_esmtp: bool,
}

/// What a TLS handshake leaves behind.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Tls {
    /// The cipher suite, for the Received field.
    pub cipher: String,
    pub bindings: Bindings,
}

impl Policy {
    /// The mechanisms that this session may use: none in the clear, none when it has logged in.
    pub fn mechanisms_for<'a>(&'a self, session: &'a Session) -> impl Iterator<Item = Mechanism> + 'a {
        let bindings = session.tls.as_ref().filter(|_| session.login.is_none()).map(|tls| &tls.bindings);
        let all = self.mechanisms.iter().copied();
        all.filter(move |mechanism| bindings.is_some_and(|bindings| mechanism.is_possible(bindings)))
    }

    pub fn offers_auth(&self, session: &Session) -> bool {
        self.mechanisms_for(session).next().is_some()
    }
}
