//! The engine of one connection, seen from the client.
//!
//! Invariants: each `begin` gets one `Done`; `Closed` comes once and last; whatever the peer sends, in whatever
//! pieces, gives a reply to a command or the end of the session.

use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;

use crate::bytes::Output;
use crate::mail::reply::EnhancedCode;
use crate::mail::time::Instant;
use crate::proto::sasl::Nonce;

use super::event::{Closed, Done, Event, Failure, Fate, Origin, Phase};
use super::offers::Offers;
use super::opening::Opening;
use super::plan::Plan;
use super::replies::{Answer, Replies, Taken};
use super::sending::{AtPeer, Progress, Sending};
use super::settings::{Security, Settings};
use super::transaction::Transaction;

/// One connection to a peer that takes mail.
#[derive(Debug)]
pub struct Client {
    pub(super) settings: Rc<Settings>,
    pub(super) security: Security,
    pub(super) nonce: Nonce,
    pub(super) offers: Offers,
    pub(super) state: State,
    replies: Replies,
    events: VecDeque<Event>,
    at_peer: AtPeer,
    /// Of all recipients so far, where the peer limits them.
    domains: Vec<String>,
    transactions: u32,
    /// MAIL commands, which RFC 9422 4.1 counts.
    mails: u32,
    /// When the reply that is awaited began to be.
    since: Instant,
    /// When the opening or the transaction began.
    begun: Instant,
}

/// What the session is at.
#[derive(Debug)]
pub(super) enum State {
    Opening(Opening),
    Ready,
    Sending(Box<Sending>),
    Quitting,
    Closed,
}

impl Client {
    /// A connection that was just made; the greeting is awaited. `nonce` is for SCRAM.
    pub fn new(settings: Rc<Settings>, security: Security, nonce: Nonce, now: Instant) -> Self {
        Self {
            settings,
            security,
            nonce,
            offers: Offers::default(),
            state: State::Opening(Opening::Greeting),
            replies: Replies::default(),
            events: VecDeque::new(),
            at_peer: AtPeer::Nothing,
            domains: Vec::new(),
            transactions: 0,
            mails: 0,
            since: now,
            begun: now,
        }
    }

    /// Takes what it can of `input`; says how many bytes that were.
    pub fn handle_bytes(&mut self, input: &[u8], out: &mut Output, now: Instant) -> usize {
        let mut used = 0;
        while used < input.len() {
            match self.state {
                State::Closed => return input.len(),
                // The driver first hears of `StartTls`; then what is left here ends the session.
                State::Opening(Opening::Handshake) if used > 0 => return used,
                // RFC 3207 6: whatever was sent in the clear behind the reply was put there by somebody else.
                State::Opening(Opening::Handshake) => {
                    self.end(Failure::confused(Phase::StartTls, "bytes in the clear behind STARTTLS"));
                    return input.len();
                }
                _ => {}
            }
            let (taken_bytes, taken) = self.replies.take(&input[used..]);
            used += taken_bytes;
            match taken {
                Taken::Answer(answer) => self.handle_answer(&answer, out, now),
                Taken::Unreadable(why) => self.end(Failure::confused(self.phase(), why)),
                Taken::More => {}
            }
        }
        used
    }

    /// The handshake that `StartTls` asked for is done.
    pub fn handle_tls(&mut self, security: Security, out: &mut Output, now: Instant) {
        assert!(matches!(self.state, State::Opening(Opening::Handshake)), "nobody asked for TLS");
        assert!(security != Security::Clear, "a handshake makes TLS");
        self.security = security;
        self.since = now;
        // RFC 3207 4.2: all that the server said before is forgotten.
        self.replies = Replies::default();
        self.say_ehlo(out);
    }

    /// The connection has ended, or the handshake has failed; `why` is a few words for the log.
    pub fn handle_end(&mut self, why: &str) {
        let failure = match self.phase() {
            Phase::Tls => Failure::local(454, EnhancedCode::new(4, 7, 5), why, Phase::Tls),
            phase => Failure::local(421, EnhancedCode::new(4, 4, 2), why, phase),
        };
        self.end(failure);
    }

    /// The deadline has passed.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.deadline().is_some_and(|deadline| deadline <= now) {
            let text = "the server took too long";
            self.end(Failure::local(421, EnhancedCode::new(4, 4, 2), text, self.phase()));
        }
    }

    /// Starts a transaction. Only where [`Client::is_ready`].
    pub fn begin(&mut self, transaction: Transaction, out: &mut Output, now: Instant) {
        assert!(self.is_ready(), "a transaction begins between two others");
        assert!(!transaction.recipients.is_empty(), "a message goes to somebody");
        let recipients_count = transaction.recipients.len();
        self.transactions = self.transactions.saturating_add(1);
        if !self.replies.is_empty() {
            // The beginning of a reply that nobody asked for.
            self.push_done(vec![Fate::NotTried; recipients_count]);
            return self.end(Failure::confused(Phase::Ready, "a reply that answers nothing"));
        }
        if self.transactions_left() == Some(0) {
            return self.push_done(vec![Fate::NotTried; recipients_count]);
        }
        (self.since, self.begun) = (now, now);
        match Plan::of(&transaction, &self.offers, &self.settings, &mut self.domains) {
            Ok(plan) => self.send(transaction, plan, out),
            Err(failure) => self.push_done(vec![Fate::Failed(failure); recipients_count]),
        }
    }

    /// Says goodbye between two transactions; `Closed` comes with the answer, for which nobody has to wait.
    pub fn quit(&mut self, out: &mut Output, now: Instant) {
        assert!(self.is_ready(), "a session ends between two transactions");
        out.push(b"QUIT\r\n");
        self.since = now;
        self.state = State::Quitting;
    }

    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// There is something to poll.
    pub fn has_event(&self) -> bool {
        !self.events.is_empty()
    }

    /// Appends the next burst of the message, at most about `OUTPUT_BURST_BYTES`; false when nothing of it is left
    /// to send. To be called until then, each time after the output was sent and input that came meanwhile was
    /// handed in.
    pub fn poll_output(&mut self, out: &mut Output, now: Instant) -> bool {
        let State::Sending(sending) = &mut self.state else {
            return false;
        };
        let is_any = sending.poll_content(out);
        if is_any {
            self.since = now;
        }
        is_any
    }

    /// When `handle_timeout` wants to be called. None between transactions: the driver knows how long a connection
    /// is worth keeping. None during a handshake, which has its own time.
    pub fn deadline(&self) -> Option<Instant> {
        let timeouts = &self.settings.timeouts;
        match &self.state {
            State::Ready | State::Closed | State::Opening(Opening::Handshake) => None,
            State::Quitting => Some(self.since + timeouts.quit),
            State::Opening(_) => {
                Some((self.since + self.timeout(self.phase())).min(self.begun + timeouts.opening))
            }
            State::Sending(sending) => {
                let message_s = sending.message_bytes() / timeouts.bytes_per_s_min.max(1);
                let total = timeouts.transaction + Duration::from_secs(message_s);
                Some((self.since + self.timeout(self.phase())).min(self.begun + total))
            }
        }
    }

    /// A transaction may begin.
    pub fn is_ready(&self) -> bool {
        matches!(self.state, State::Ready)
    }

    /// Transactions that may still begin here (RFC 9422 4.1); `None` is no limit.
    pub fn transactions_left(&self) -> Option<u32> {
        self.offers.limits.mails_max.map(|mails_max| mails_max.saturating_sub(self.mails))
    }

    /// What the peer has offered.
    pub fn offers(&self) -> &Offers {
        &self.offers
    }

    pub fn security(&self) -> Security {
        self.security
    }

    /// What the session is at: what the next reply would answer.
    pub fn phase(&self) -> Phase {
        match &self.state {
            State::Opening(opening) => opening.phase(),
            State::Ready | State::Closed => Phase::Ready,
            State::Sending(sending) => sending.phase(),
            State::Quitting => Phase::Quit,
        }
    }

    pub(super) fn push(&mut self, event: Event) {
        self.events.push_back(event);
    }

    /// Says goodbye to a peer that does not do what it should, and closes.
    pub(super) fn leave(&mut self, failure: Failure, out: &mut Output) {
        out.push(b"QUIT\r\n");
        self.end(failure);
    }

    /// Ends the session, and the transaction with it.
    pub(super) fn end(&mut self, failure: Failure) {
        match std::mem::replace(&mut self.state, State::Closed) {
            State::Closed => return,
            State::Sending(sending) => {
                let done = sending.cut(&failure, &self.offers);
                self.push(Event::Done(done));
            }
            // Nobody shakes hands any more.
            State::Opening(_) => self.events.retain(|event| *event != Event::StartTls),
            State::Ready | State::Quitting => {}
        }
        let Failure { reply, phase, origin } = failure;
        self.push(Event::Closed(Closed { reply, phase, origin, transactions: self.transactions }));
    }

    fn handle_answer(&mut self, answer: &Answer, out: &mut Output, now: Instant) {
        self.since = now;
        let phase = self.phase();
        // RFC 5321 3.8: 421 may come at any time, and then the server closes.
        if answer.code == 421 || matches!(self.state, State::Quitting) {
            return self.end(Failure { reply: answer.reply(), phase, origin: Origin::Peer });
        }
        match std::mem::replace(&mut self.state, State::Ready) {
            State::Opening(opening) => self.handle_opening(opening, answer, out),
            State::Sending(sending) => self.handle_sending(sending, answer, out),
            State::Ready => self.end(Failure::confused(Phase::Ready, "a reply that answers nothing")),
            State::Quitting | State::Closed => self.state = State::Closed,
        }
    }

    fn send(&mut self, transaction: Transaction, plan: Plan, out: &mut Output) {
        let protocol = self.settings.protocol;
        let mut sending = Sending::new(transaction, plan, protocol, self.at_peer);
        match sending.start(&self.offers, out) {
            Progress::Going => {
                self.mails = self.mails.saturating_add(1);
                self.state = State::Sending(Box::new(sending));
            }
            Progress::Over => self.finish(sending),
        }
    }

    fn handle_sending(&mut self, mut sending: Box<Sending>, answer: &Answer, out: &mut Output) {
        match sending.handle(answer, &self.offers, out) {
            Ok(Progress::Going) => self.state = State::Sending(sending),
            Ok(Progress::Over) => self.finish(*sending),
            Err(failure) => {
                self.state = State::Sending(sending);
                self.end(failure);
            }
        }
    }

    fn finish(&mut self, sending: Sending) {
        let (done, at_peer) = sending.finish(&self.offers);
        self.at_peer = at_peer;
        self.state = State::Ready;
        self.push(Event::Done(done));
    }

    /// A transaction that was over before it began.
    fn push_done(&mut self, fates: Vec<Fate>) {
        let done = Done::new(fates, &self.offers);
        self.push(Event::Done(done));
    }

    fn timeout(&self, phase: Phase) -> Duration {
        let timeouts = &self.settings.timeouts;
        match phase {
            Phase::Connect | Phase::Greeting => timeouts.greeting,
            Phase::Ehlo | Phase::StartTls | Phase::Tls | Phase::Auth => timeouts.hello,
            Phase::Mail => timeouts.mail,
            Phase::Rcpt => timeouts.rcpt,
            Phase::Data => timeouts.data,
            Phase::Body => timeouts.block,
            Phase::Eod => timeouts.eod,
            Phase::Ready | Phase::Rset => timeouts.rset,
            Phase::Quit => timeouts.quit,
        }
    }
}
