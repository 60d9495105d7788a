//! What a session is told, and what follows from it: the next command, a message that succeeded, one that failed.

use super::Generator;
use crate::engine::Ports;
use crate::ledger::{Acknowledged, Line};
use crate::smtp::load::{Connections, Envelope, Greeting, OnError, Pace, Security, Transfer};
use crate::smtp::reply;
use crate::smtp::session::{Message, Stage, Step};

impl Generator {
    pub(super) fn handle_reply(&mut self, ports: &mut Ports, index: usize, line: reply::Line<'_>, now: u64) {
        let session = &mut self.sessions[index];
        session.heard_at = now;
        let Some(step) = session.expected.pop_front() else {
            return self.break_off(ports, index, "a reply to nothing", now);
        };
        let code = line.code;
        let is_good = code / 100 == 2;
        match step {
            Step::Greeting if code == 220 => self.send_hello(ports, index),
            Step::Hello if is_good => self.handle_hello(ports, index, now),
            Step::StartTls if code == 220 => self.begin_tls(ports, index, now),
            Step::Auth if code == 235 => self.enter(ports, index, now),
            Step::Greeting | Step::Hello | Step::StartTls | Step::Auth => {
                session.expected.push_front(step);
                self.break_off(ports, index, &format!("{code}"), now);
            }
            Step::Mail => self.handle_mail(ports, index, code, now),
            Step::Recipient => self.handle_recipient(ports, index, code, now),
            Step::Data => self.handle_go_ahead(ports, index, code, now),
            Step::End => self.handle_end(ports, index, line, now),
            Step::Void => self.start_over(ports, index),
            Step::Reset => self.free(ports, index, now),
            Step::Quit => {
                if let Some(port) = session.port {
                    ports.reset(port);
                }
                session.forget_connection();
                self.free(ports, index, now);
            }
        }
    }

    fn handle_hello(&mut self, ports: &mut Ports, index: usize, now: u64) {
        let is_secure = self.sessions[index].is_secure;
        match (&self.load.security, &self.load.login) {
            (Security::StartTls(_), _) if !is_secure => {
                self.send(ports, index, b"STARTTLS\r\n", Step::StartTls)
            }
            (_, Some(login)) => {
                let number = self.share.index + index as u64 * self.share.of;
                let response = format!("\0{}\0{}", login.user.name(number), login.password);
                let command = format!("AUTH PLAIN {}\r\n", base64(response.as_bytes()));
                self.send(ports, index, command.as_bytes(), Step::Auth);
            }
            _ => self.enter(ports, index, now),
        }
    }

    pub(super) fn begin_tls(&mut self, ports: &mut Ports, index: usize, now: u64) {
        let (Security::StartTls(tls) | Security::Tls(tls)) = &self.load.security else { return };
        let session = &mut self.sessions[index];
        session.is_secure = true;
        let Some(port) = session.port else { return };
        if let Err(error) = ports.begin_client_tls(port, tls) {
            self.break_off(ports, index, &error.to_string(), now);
        }
    }

    fn handle_mail(&mut self, ports: &mut Ports, index: usize, code: u16, now: u64) {
        let is_stepwise = self.envelope_of(index) == Envelope::Stepwise;
        match (code, is_stepwise) {
            (250, true) => self.send_recipient(ports, index),
            (250, false) => {}
            (code, true) => self.refuse(ports, index, &format!("MAIL {code}"), now),
            (code, false) => self.sessions[index].refusal = Some(format!("MAIL {code}")),
        }
    }

    fn send_recipient(&mut self, ports: &mut Ports, index: usize) {
        let mut out = Vec::new();
        self.write_recipient(index, self.sessions[index].asked, &mut out);
        self.sessions[index].asked += 1;
        self.send(ports, index, &out, Step::Recipient);
    }

    fn handle_recipient(&mut self, ports: &mut Ports, index: usize, code: u16, now: u64) {
        let session = &mut self.sessions[index];
        match code / 100 {
            2 => session.accepted += 1,
            _ if session.refusal.is_some() => {}
            _ => self.tally.note(&format!("RCPT {code}")),
        }
        if self.envelope_of(index) != Envelope::Stepwise {
            return;
        }
        let session = &self.sessions[index];
        if session.asked < self.load.recipients_each {
            return self.send_recipient(ports, index);
        }
        match (session.accepted, self.load.transfer) {
            (0, _) => self.refuse(ports, index, "no recipient was accepted", now),
            (_, Transfer::Data) => self.send(ports, index, b"DATA\r\n", Step::Data),
            (_, Transfer::Bdat) => self.send_chunk(ports, index, &mut Vec::new()),
        }
    }

    fn handle_go_ahead(&mut self, ports: &mut Ports, index: usize, code: u16, now: u64) {
        let session = &mut self.sessions[index];
        let refusal = session.refusal.take();
        match (code, refusal) {
            (354, None) if session.accepted > 0 => {
                session.stage = Stage::Open;
                if session.message.is_some() {
                    self.send_data(ports, index);
                }
            }
            // RFC 2920, section 3.1: an empty message ends it, and is not one.
            (354, refusal) => {
                let what = refusal.unwrap_or_else(|| "no recipient was accepted".to_owned());
                self.fail(index, &what, now);
                self.send(ports, index, b".\r\n", Step::Void);
            }
            (code, refusal) => {
                let what = refusal.unwrap_or_else(|| format!("DATA {code}"));
                self.refuse(ports, index, &what, now);
            }
        }
    }

    fn handle_end(&mut self, ports: &mut Ports, index: usize, line: reply::Line<'_>, now: u64) {
        let session = &mut self.sessions[index];
        let is_more_to_come = session.expected.front() == Some(&Step::End);
        let accepted = session.accepted;
        let Some(message) = &mut session.message else {
            return self.break_off(ports, index, "a reply to nothing", now);
        };
        let copies = *message.copies.get_or_insert(accepted);
        let is_good = line.code / 100 == 2;
        if matches!(self.load.greeting, Greeting::Lhlo(_)) {
            message.acknowledged += u64::from(is_good);
            if !is_good {
                self.tally.note(&format!("end of data {} for one recipient", line.code));
            }
            if is_more_to_come {
                return;
            }
        } else if is_good {
            message.acknowledged = copies;
        }
        let message = *message;
        match message.acknowledged {
            0 => {
                let what = session.refusal.take().unwrap_or_else(|| format!("end of data {}", line.code));
                self.fail(index, &what, now);
            }
            _ => self.succeed(index, message, line, now),
        }
        match self.load.connections {
            Connections::Kept => self.free(ports, index, now),
            Connections::New => self.send(ports, index, b"QUIT\r\n", Step::Quit),
        }
    }

    fn succeed(&mut self, index: usize, message: Message, line: reply::Line<'_>, now: u64) {
        self.sessions[index].message = None;
        self.succeeded_at = now;
        let service = now - message.started;
        let sent = message.sent.unwrap_or(message.started);
        self.tally.service.record(service);
        self.tally.ack.record(now.saturating_sub(sent));
        self.tally.counts.bytes += message.bytes;
        let latency = match self.load.pace {
            Pace::Closed => service,
            Pace::Open(..) => {
                self.tally.corrected.record(now - message.intended);
                now - message.intended
            }
        };
        let since_begin = self.since_begin(now);
        self.tally.succeed(latency, since_begin);
        let Some(ledger) = &mut self.ledger else { return };
        let begin = now - since_begin;
        let promise = Line::Acknowledged(Acknowledged {
            run: self.load.run.clone(),
            session: self.share.index + index as u64 * self.share.of,
            number: message.number,
            copies: message.acknowledged,
            intended_ns: message.intended.saturating_sub(begin),
            sent_ns: sent.saturating_sub(begin),
            acknowledged_ns: since_begin,
            code: line.code,
            queue_id: reply::queue_id(line.text),
        });
        if let Err(error) = ledger.append(&promise) {
            self.fatal = Some(error);
        }
    }

    pub(super) fn fail(&mut self, index: usize, what: &str, now: u64) {
        let since_begin = self.since_begin(now);
        match self.sessions[index].message.take() {
            Some(_) => self.tally.fail(what, since_begin),
            // An envelope that was sent ahead has no message yet.
            None => self.tally.note(what),
        }
        if self.load.on_error == OnError::Stop {
            self.shared.stop();
        }
    }

    /// The server wants no data; the next message begins anew.
    fn refuse(&mut self, ports: &mut Ports, index: usize, what: &str, now: u64) {
        self.fail(index, what, now);
        self.start_over(ports, index);
    }

    fn start_over(&mut self, ports: &mut Ports, index: usize) {
        self.sessions[index].stage = Stage::None;
        match self.load.connections {
            Connections::Kept => self.send(ports, index, b"RSET\r\n", Step::Reset),
            Connections::New => self.send(ports, index, b"QUIT\r\n", Step::Quit),
        }
    }
}

fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let block = [chunk[0], chunk.get(1).copied().unwrap_or(0), chunk.get(2).copied().unwrap_or(0)];
        let number = u32::from_be_bytes([0, block[0], block[1], block[2]]);
        for place in 0..4 {
            match place <= chunk.len() {
                true => text.push(LETTERS[(number >> (18 - 6 * place)) as usize & 63] as char),
                false => text.push('='),
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    #[test]
    fn base64_is_padded() {
        assert_eq!(super::base64(b"\0user\0pw"), "AHVzZXIAcHc=");
        assert_eq!(super::base64(b"abc"), "YWJj");
        assert_eq!(super::base64(b"a"), "YQ==");
    }
}
