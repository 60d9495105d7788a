//! What a session sends: envelopes one command at a time or together, and messages behind them.

use std::io::Write;
use std::mem;
use std::sync::Arc;

use super::Generator;
use crate::engine::{PortId, Ports};
use crate::ledger::HEADER;
use crate::smtp::load::{Connections, Envelope, Greeting, Transfer};
use crate::smtp::session::{Stage, Step};

impl Generator {
    pub(super) fn send(&mut self, ports: &mut Ports, index: usize, text: &[u8], step: Step) {
        let session = &mut self.sessions[index];
        session.expected.push_back(step);
        if let Some(port) = session.port {
            ports.send(port, &[text]);
        }
    }

    pub(super) fn send_hello(&mut self, ports: &mut Ports, index: usize) {
        let command = self.load.greeting.command();
        self.send(ports, index, command.as_bytes(), Step::Hello);
    }

    pub(super) fn envelope_of(&self, index: usize) -> Envelope {
        match (self.load.envelope, self.load.connections) {
            _ if !self.sessions[index].has_pipelining => Envelope::Stepwise,
            (Envelope::Ahead, Connections::New) => Envelope::Group,
            (envelope, _) => envelope,
        }
    }

    pub(super) fn send_envelope(&mut self, ports: &mut Ports, index: usize, now: u64) {
        self.sessions[index].heard_at = now;
        let mut out = mem::take(&mut self.scratch);
        out.clear();
        match self.envelope_of(index) {
            Envelope::Stepwise => {
                self.begin_envelope(index);
                self.write_mail(&mut out);
                self.send(ports, index, &out, Step::Mail);
            }
            Envelope::Group | Envelope::Ahead => {
                self.write_group(index, &mut out);
                if self.load.transfer == Transfer::Bdat {
                    self.send_chunk(ports, index, &mut out);
                } else if let Some(port) = self.sessions[index].port {
                    ports.send(port, &[&out]);
                }
            }
        }
        self.scratch = out;
    }

    fn begin_envelope(&mut self, index: usize) {
        self.sessions[index].begin_envelope(self.recipients);
        self.recipients += self.load.recipients_each as u64;
    }

    /// MAIL, all RCPT, and DATA if that is what follows.
    fn write_group(&mut self, index: usize, out: &mut Vec<u8>) {
        self.begin_envelope(index);
        self.write_mail(out);
        for number in 0..self.load.recipients_each {
            self.write_recipient(index, number, out);
        }
        let is_data = self.load.transfer == Transfer::Data;
        let expected = &mut self.sessions[index].expected;
        expected.push_back(Step::Mail);
        expected.extend((0..self.load.recipients_each).map(|_| Step::Recipient));
        if is_data {
            expected.push_back(Step::Data);
            out.extend_from_slice(b"DATA\r\n");
        }
    }

    fn write_mail(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"MAIL FROM:<");
        out.extend_from_slice(self.load.sender.as_bytes());
        out.extend_from_slice(b">\r\n");
    }

    pub(super) fn write_recipient(&self, index: usize, number: usize, out: &mut Vec<u8>) {
        out.extend_from_slice(b"RCPT TO:<");
        self.load.recipients.write(self.sessions[index].first_recipient + number as u64, out);
        out.extend_from_slice(b">\r\n");
    }

    fn write_head(&self, index: usize, out: &mut Vec<u8>) {
        let load = &self.load;
        let session = &self.sessions[index];
        let number = session.message.map_or(0, |message| message.number);
        let checksum = load.bodies.of(number).checksum;
        let session_number = self.share.index + index as u64 * self.share.of;
        out.extend_from_slice(b"From: <");
        out.extend_from_slice(load.sender.as_bytes());
        out.extend_from_slice(b">\r\nTo: <");
        load.recipients.write(session.first_recipient, out);
        write!(
            out,
            ">\r\nSubject: load {number}\r\nDate: Tue, 24 Nov 2026 10:00:00 +0000\r\n\
             Message-ID: <{number}.{run}@load.test>\r\n\
             {HEADER}{run} {session_number} {number} {checksum:08x}\r\nMIME-Version: 1.0\r\n\
             Content-Type: text/plain; charset=us-ascii\r\n\r\n",
            run = load.run,
        )
        .expect("a Vec takes everything");
    }

    /// The message, and the next envelope behind it if that is wanted.
    pub(super) fn send_data(&mut self, ports: &mut Ports, index: usize) {
        let (mut head, mut tail) = (mem::take(&mut self.scratch), mem::take(&mut self.tail));
        head.clear();
        tail.clear();
        self.write_head(index, &mut head);
        tail.extend_from_slice(b".\r\n");
        let session = &mut self.sessions[index];
        let copies = session.accepted;
        session.stage = Stage::None;
        let ends = if matches!(self.load.greeting, Greeting::Lhlo(_)) { copies } else { 1 };
        session.expected.extend((0..ends).map(|_| Step::End));
        if self.envelope_of(index) == Envelope::Ahead && !self.is_dry() {
            self.write_group(index, &mut tail);
        }
        let load = Arc::clone(&self.load);
        let Some((number, port)) = self.under_way(index) else { return };
        let body = load.bodies.of(number);
        ports.send(port, &[&head, body.stuffed, &tail]);
        self.note_sent(ports, index, Some(copies), head.len() + body.text.len());
        (self.scratch, self.tail) = (head, tail);
    }

    /// The same as one chunk, behind what `out` holds.
    pub(super) fn send_chunk(&mut self, ports: &mut Ports, index: usize, out: &mut Vec<u8>) {
        let mut head = mem::take(&mut self.tail);
        head.clear();
        self.write_head(index, &mut head);
        let load = Arc::clone(&self.load);
        let Some((number, port)) = self.under_way(index) else { return };
        let body = load.bodies.of(number);
        write!(out, "BDAT {} LAST\r\n", head.len() + body.text.len()).expect("a Vec takes everything");
        ports.send(port, &[out, &head, body.text]);
        let session = &mut self.sessions[index];
        session.stage = Stage::None;
        session.expected.push_back(Step::End);
        self.note_sent(ports, index, None, head.len() + body.text.len());
        self.tail = head;
    }

    fn under_way(&self, index: usize) -> Option<(u64, PortId)> {
        let session = &self.sessions[index];
        Some((session.message?.number, session.port?))
    }

    fn note_sent(&mut self, ports: &Ports, index: usize, copies: Option<u64>, bytes: usize) {
        if let Some(message) = &mut self.sessions[index].message {
            message.sent = Some(ports.now());
            message.copies = copies;
            message.bytes = bytes as u64;
        }
    }
}
