//! CAPABILITY: what the session may use now, printed from the table of extensions.

use super::{Channel, Phase, Server};
use crate::bytes::Output;
use crate::proto::imap::parse::table::{EXTENSIONS, Listed};
use crate::proto::imap::render::text;
use crate::proto::imap::reply::Done;
use crate::proto::sasl::{Bindings, Mechanism};

impl Server {
    /// `capability-data = "CAPABILITY" *(SP capability)`
    pub(super) fn write_capabilities(&self, text: &mut Vec<u8>) {
        text.extend_from_slice(b"CAPABILITY");
        let is_in = self.phase != Phase::NotAuthenticated;
        let may_login = !is_in && self.channel != Channel::Clear;
        for (name, listed) in EXTENSIONS {
            let is_listed = match listed {
                Listed::Always => true,
                Listed::BeforeTls => !is_in && self.offers_tls(),
                // RFC 9051 6.2.3
                Listed::InTheClear => !is_in && self.channel == Channel::Clear,
                Listed::Mechanisms => {
                    if may_login {
                        self.write_mechanisms(text);
                    }
                    false
                }
                Listed::AfterLogin | Listed::AppendLimit => is_in,
            };
            if !is_listed {
                continue;
            }
            text.push(b' ');
            text.extend_from_slice(name.as_bytes());
            if listed == Listed::AppendLimit {
                text.push(b'=');
                text::number(text, self.settings.message_bytes_max);
            }
        }
    }

    fn write_mechanisms(&self, text: &mut Vec<u8>) {
        for mechanism in Mechanism::ALL {
            if mechanism.is_possible(&self.bindings()) {
                text.extend_from_slice(b" AUTH=");
                text.extend_from_slice(mechanism.name().as_bytes());
            }
        }
    }

    pub(super) fn tell_capabilities(&mut self, out: &mut Output) {
        out.push(b"* ");
        self.write_capabilities(out.text_mut());
        out.push(b"\r\n");
        self.finish(Done::ok("CAPABILITY completed"), out);
    }

    pub(super) fn offers_tls(&self) -> bool {
        self.settings.starttls && !matches!(self.channel, Channel::Tls(_))
    }

    pub(super) fn bindings(&self) -> Bindings {
        match &self.channel {
            Channel::Tls(bindings) => bindings.clone(),
            Channel::Clear | Channel::Trusted => Bindings::default(),
        }
    }
}
