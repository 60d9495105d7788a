//! The engine of one connection, seen from the client.

use std::rc::Rc;

use crate::bytes::Output;
use crate::mail::time::Instant;
use crate::proto::sasl::Nonce;

use super::event::Event;
use super::offers::Offers;
use super::settings::{Security, Settings};
use super::transaction::Transaction;

/// One connection to a peer that takes mail.
#[derive(Debug)]
pub struct Client {}

impl Client {
    /// A connection that was just made; the greeting is awaited. `nonce` is for SCRAM.
    pub fn new(_settings: Rc<Settings>, _security: Security, _nonce: Nonce, _now: Instant) -> Self {
        todo!()
    }

    /// Takes what it can of `input`; says how many bytes that were.
    pub fn handle_bytes(&mut self, _input: &[u8], _out: &mut Output, _now: Instant) -> usize {
        todo!()
    }

    /// The handshake that `StartTls` asked for is done.
    pub fn handle_tls(&mut self, _security: Security, _out: &mut Output, _now: Instant) {
        todo!()
    }

    /// The connection has ended, or the handshake has failed; `why` is a few words for the log.
    pub fn handle_end(&mut self, _why: &str) {
        todo!()
    }

    /// The deadline has passed.
    pub fn handle_timeout(&mut self, _out: &mut Output, _now: Instant) {
        todo!()
    }

    /// Starts a transaction. Only after `Ready` or `Done`, see [`Client::is_ready`].
    pub fn begin(&mut self, _transaction: Transaction, _out: &mut Output, _now: Instant) {
        todo!()
    }

    /// Says goodbye between two transactions; `Closed` comes with the answer, which nobody has to wait for.
    pub fn quit(&mut self, _out: &mut Output, _now: Instant) {
        todo!()
    }

    pub fn poll_event(&mut self) -> Option<Event> {
        todo!()
    }

    /// Appends the next burst of the message, at most about `OUTPUT_BURST_BYTES`; false when nothing of it is left
    /// to send. To be called until then, each time after the output was sent and input that came meanwhile was
    /// handed in.
    pub fn poll_output(&mut self, _out: &mut Output, _now: Instant) -> bool {
        todo!()
    }

    /// When `handle_timeout` wants to be called. None between transactions: the driver knows how long a connection
    /// is worth keeping.
    pub fn deadline(&self) -> Option<Instant> {
        todo!()
    }

    /// A transaction may begin.
    pub fn is_ready(&self) -> bool {
        todo!()
    }

    /// Transactions that may still begin here (RFC 9422 4.1); `None` is no limit.
    pub fn transactions_left(&self) -> Option<u32> {
        todo!()
    }

    /// What the peer has offered.
    pub fn offers(&self) -> &Offers {
        todo!()
    }

    pub fn security(&self) -> Security {
        todo!()
    }
}
