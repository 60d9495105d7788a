//! DATA and BDAT: from the command to the complete message (RFC 5321 4.1.1.4, RFC 3030).
//!
//! ```text
//!   Transaction ── DATA, BDAT ──> Beginning ──┬─> Data ─────────────────────────┐
//!                  (the driver gives the      │                                 ├─> Complete ──> Storing
//!                   trace fields)             └─> Chunk <──> Chunks (BDAT ...) ─┘
//! ```
//!
//! Invariants: a body that was begun ends in `Complete` or in `Aborted`; the octets of a chunk are never read as
//! commands; the transaction is over after a failed chunk, so that the rest of its chunks are refused too.

use crate::bytes::Output;
use crate::mail::envelope::{BodyKind, Envelope};
use crate::mail::time::Instant;

use super::body::{Body, Text};
use super::command::{Chunk, Stage};
use super::data::Dots;
use super::event::MessageRefusal;
use super::reply::{self, Reply};
use super::server::{Phase, Server};
use super::session::Role;
use super::transaction::Transaction;

/// A message on its way in.
#[derive(Debug)]
pub struct Receiving {
    envelope: Envelope,
    pub body: Body,
}

/// What follows once the driver is ready for a message.
#[derive(Clone, Copy, Debug)]
pub enum Opening {
    Data,
    Chunk(Chunk),
}

impl Server {
    pub(super) fn start_data(&mut self, transaction: Transaction, out: &mut Output) {
        let reply = match &transaction.envelope {
            envelope if envelope.recipients.is_empty() => Reply::NO_RECIPIENTS,
            // RFC 3030 3: BINARYMIME and DATA do not go together.
            envelope if envelope.body == BodyKind::BinaryMime => Reply::BINARY_NEEDS_CHUNKS,
            _ => return self.ask(Phase::Beginning(transaction, Opening::Data)),
        };
        self.phase = Phase::Transaction(transaction);
        self.refuse("DATA", reply, out);
    }

    pub(super) fn start_chunk(&mut self, chunk: Chunk, out: &mut Output) {
        if let Some(reply) = self.chunk_refusal(chunk) {
            return self.swallow(chunk, reply, out);
        }
        match self.leave() {
            Phase::Chunks(receiving) => self.open_chunk(receiving, chunk, out),
            Phase::Transaction(transaction) => {
                self.ask(Phase::Beginning(transaction, Opening::Chunk(chunk)));
            }
            phase => self.phase = phase,
        }
    }

    /// The driver has a buffer for the message.
    pub(super) fn begin(
        &mut self,
        transaction: Transaction,
        opening: Opening,
        prefix: Vec<u8>,
        out: &mut Output,
    ) {
        let envelope = transaction.envelope;
        let text = match (envelope.body, self.policy.role) {
            (BodyKind::BinaryMime, _) => Text::Binary,
            (_, Role::Submission) => Text::Mended,
            (_, Role::Relay) => Text::Strict,
        };
        let body = Body::new(prefix, text, self.policy.message_bytes_max);
        let receiving = Receiving { envelope, body };
        match opening {
            Opening::Chunk(chunk) => self.open_chunk(receiving, chunk, out),
            Opening::Data => {
                Reply::START_DATA.write(out);
                self.phase = Phase::Data(receiving, Dots::default());
            }
        }
    }

    /// The driver has no place for the message. The transaction is over.
    pub(super) fn begin_refused(&mut self, opening: Opening, refusal: MessageRefusal, out: &mut Output) {
        match opening {
            Opening::Data => self.refuse("DATA", Reply::from(refusal), out),
            Opening::Chunk(chunk) => self.swallow(chunk, Reply::from(refusal), out),
        }
    }

    /// Input while DATA is open.
    pub(super) fn take_data(&mut self, input: &[u8], out: &mut Output, now: Instant) -> usize {
        self.active = now;
        let Phase::Data(receiving, dots) = &mut self.phase else {
            return 0;
        };
        if receiving.body.must_spill() {
            self.ask_again();
            return 0;
        }
        let taken_max = receiving.body.room_bytes().min(input.len());
        let (used, is_end) = dots.take(&input[..taken_max], &mut receiving.body);
        if is_end && let Phase::Data(receiving, _) = self.leave() {
            self.complete("DATA", receiving, out);
        }
        used
    }

    /// Input while the octets of a chunk are due.
    pub(super) fn take_chunk(&mut self, input: &[u8], out: &mut Output, now: Instant) -> usize {
        self.active = now;
        let Phase::Chunk { receiving, left_bytes, .. } = &mut self.phase else {
            return 0;
        };
        if receiving.body.must_spill() {
            self.ask_again();
            return 0;
        }
        let taken_max = receiving.body.room_bytes().min(input.len());
        let taken = at_most(taken_max, *left_bytes);
        receiving.body.append(&input[..taken]);
        *left_bytes -= taken as u64;
        if *left_bytes == 0
            && let Phase::Chunk { receiving, chunk, .. } = self.leave()
        {
            self.close_chunk(receiving, chunk, out);
        }
        taken
    }

    /// Input while the octets of a refused chunk are due.
    pub(super) fn take_swallowed(&mut self, input: &[u8], out: &mut Output, now: Instant) -> usize {
        self.active = now;
        let Phase::Swallow { left_bytes, reply, .. } = &mut self.phase else {
            return 0;
        };
        let taken = at_most(input.len(), *left_bytes);
        *left_bytes -= taken as u64;
        let reply = *reply;
        if *left_bytes == 0 {
            self.leave();
            self.refuse("BDAT", reply, out);
        }
        taken
    }

    fn chunk_refusal(&self, chunk: Chunk) -> Option<Reply> {
        let bytes_max = self.policy.message_bytes_max;
        let (recipients, bytes) = match &self.phase {
            Phase::Transaction(transaction) => (transaction.envelope.recipients.len(), 0),
            Phase::Chunks(receiving) => (receiving.envelope.recipients.len(), receiving.body.bytes()),
            _ => (0, 0),
        };
        match self.stage() {
            _ if self.login_refusal().is_some() => self.login_refusal(),
            Stage::New => Some(Reply::EHLO_FIRST),
            Stage::Ready => Some(Reply::MAIL_FIRST),
            Stage::Mail | Stage::Chunks if recipients == 0 => Some(Reply::NO_RECIPIENTS),
            Stage::Mail | Stage::Chunks => {
                (bytes.saturating_add(chunk.bytes) > bytes_max).then_some(Reply::TOO_LARGE)
            }
        }
    }

    /// RFC 3030 2: the octets of a refused chunk are read before it is answered. Nobody means the size that is
    /// larger than any two messages together; reading on would only be work for us.
    fn swallow(&mut self, chunk: Chunk, reply: Reply, out: &mut Output) {
        self.reset();
        if chunk.bytes > self.policy.message_bytes_max.saturating_mul(2) {
            return self.close_with("BDAT", Reply::TOO_LARGE, out);
        }
        if chunk.bytes == 0 {
            return self.refuse("BDAT", reply, out);
        }
        self.phase = Phase::Swallow { bytes: chunk.bytes, left_bytes: chunk.bytes, reply };
    }

    fn open_chunk(&mut self, receiving: Receiving, chunk: Chunk, out: &mut Output) {
        match chunk.bytes {
            0 => self.close_chunk(receiving, chunk, out),
            left_bytes => self.phase = Phase::Chunk { receiving, chunk, left_bytes },
        }
    }

    fn close_chunk(&mut self, receiving: Receiving, chunk: Chunk, out: &mut Output) {
        if chunk.is_last || receiving.body.fault().is_some() {
            return self.complete("BDAT", receiving, out);
        }
        reply::chunk_taken(chunk.bytes, out);
        self.phase = Phase::Chunks(receiving);
    }

    fn complete(&mut self, verb: &'static str, receiving: Receiving, out: &mut Output) {
        match receiving.body.finish() {
            Ok(body) => self.ask(Phase::Complete { envelope: receiving.envelope, body }),
            Err(reply) => {
                self.is_aborted = true;
                self.refuse(verb, reply, out);
            }
        }
    }
}

fn at_most(len: usize, left_bytes: u64) -> usize {
    usize::try_from(left_bytes).map_or(len, |left| len.min(left))
}
