//! A transaction under way: which commands are out, what their replies did to each recipient.
//!
//! ```text
//!   [RSET] MAIL RCPT RCPT ...  DATA  ──> 354 ──> message, dot ──> reply (LMTP: one for each recipient)
//!   [RSET] MAIL RCPT RCPT ...  BDAT, message          ──────────> the same
//!   └──── pipelined in groups ────┘
//! ```
//!
//! Replies answer commands in their order, and by nothing else (RFC 2920 3.1): `expected` holds what is out. With
//! PIPELINING the commands go in groups of a bounded size; DATA ends the last one. BDAT goes along only if its message
//! is small, since nobody may want it.
//!
//! Invariants: every recipient gets one fate, and keeps it; a reply that nobody asked for, or of a class that its
//! command cannot have, ends the session; nothing is accepted before the message has been sent whole.

use std::collections::VecDeque;
use std::fmt::Write;

use crate::bytes::Output;
use crate::limits::smtp::client::{PIPELINED_MAX, PIPELINED_MESSAGE_BYTES_MAX};
use crate::mail::reply::{EnhancedCode, Reply};

use super::command;
use super::content::{Content, Left};
use super::event::{Done, Failure, Fate, Origin, Phase};
use super::offers::Offers;
use super::plan::{Carriage, Charset, Plan};
use super::replies::{Answer, Class};
use super::settings::Protocol;
use super::transaction::Transaction;

#[derive(Debug)]
pub(super) struct Sending {
    transaction: Transaction,
    charset: Charset,
    carriage: Carriage,
    protocol: Protocol,
    message_bytes: u64,
    /// One for each recipient.
    slots: Vec<Slot>,
    next: Next,
    expected: VecDeque<Expected>,
    /// What of the message is not sent yet.
    content: Option<Content>,
    at_peer: AtPeer,
}

/// What the peer holds of us.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum AtPeer {
    Nothing,
    /// A transaction is open, or may be: RSET comes before the next MAIL.
    Transaction,
}

#[derive(Debug)]
enum Slot {
    /// RCPT was not answered.
    Open,
    /// RCPT was accepted, the message is not.
    Taken,
    Settled(Fate),
}

/// The next command.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Next {
    Rset,
    Mail,
    /// Of this recipient, or of the next one that is open.
    Rcpt(usize),
    Content,
    Nothing,
}

/// What the next reply answers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Expected {
    Rset,
    Mail,
    Rcpt(usize),
    Data,
    Eod(For),
}

/// Whose fate the reply to a message decides.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum For {
    All,
    /// RFC 2033 4.2.
    One(usize),
}

/// Whether the transaction goes on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Progress {
    Going,
    Over,
}

impl Sending {
    /// Nothing is said yet.
    pub fn new(transaction: Transaction, plan: Plan, protocol: Protocol, at_peer: AtPeer) -> Self {
        let slots = plan.fates.into_iter().map(|fate| fate.map_or(Slot::Open, Slot::Settled));
        Self {
            message_bytes: transaction.message_bytes(),
            transaction,
            charset: plan.charset,
            carriage: plan.carriage,
            protocol,
            slots: slots.collect(),
            next: Next::Nothing,
            expected: VecDeque::new(),
            content: None,
            at_peer,
        }
    }

    /// Says the first commands; over at once if there is nobody to ask for.
    pub fn start(&mut self, offers: &Offers, out: &mut Output) -> Progress {
        self.next = match (self.next_open(0), self.at_peer) {
            (Next::Content, _) => Next::Nothing,
            (_, AtPeer::Nothing) => Next::Mail,
            (_, AtPeer::Transaction) => Next::Rset,
        };
        self.issue(offers, out)
    }

    /// The reply to the command that has waited longest. An error ends the session.
    pub fn handle(
        &mut self,
        answer: &Answer,
        offers: &Offers,
        out: &mut Output,
    ) -> Result<Progress, Failure> {
        let phase = self.phase();
        let Some(expected) = self.expected.pop_front() else {
            return Err(Failure::confused(phase, "a reply that answers nothing"));
        };
        match (expected, answer.class()) {
            (Expected::Rset, Class::Positive) => self.at_peer = AtPeer::Nothing,
            (Expected::Rset, _) => return Err(Failure::confused(phase, "RSET was refused")),
            (Expected::Mail, Class::Positive) => self.at_peer = AtPeer::Transaction,
            (Expected::Rcpt(index), Class::Positive) => self.take(index),
            (Expected::Data, Class::Intermediate) => self.handle_go_ahead(out)?,
            (Expected::Data, Class::Positive) => {
                return Err(Failure::confused(phase, "DATA was not answered with 354"));
            }
            (Expected::Eod(_), Class::Positive) if self.content.is_some() => {
                return Err(Failure::confused(phase, "a reply before the end of the message"));
            }
            (Expected::Eod(of), Class::Positive) => {
                self.at_peer = AtPeer::Nothing;
                self.settle(of, &Fate::Accepted(answer.reply()));
            }
            (_, Class::Intermediate) => {
                return Err(Failure::confused(phase, "354 where no message was announced"));
            }
            (Expected::Mail, _) => self.handle_mail_refused(answer),
            (Expected::Rcpt(index), _) => self.handle_rcpt_refused(index, answer),
            (Expected::Data, _) => self.fail_taken(For::All, &peer(answer, phase)),
            (Expected::Eod(of), _) => self.handle_message_refused(of, peer(answer, phase))?,
        }
        Ok(self.issue(offers, out))
    }

    /// Appends the next burst of the message; false when there was none.
    pub fn poll_content(&mut self, out: &mut Output) -> bool {
        let Some(content) = &mut self.content else {
            return false;
        };
        if content.poll(out) == Left::Nothing {
            self.content = None;
        }
        true
    }

    /// What the next reply answers.
    pub fn phase(&self) -> Phase {
        match self.expected.front() {
            Some(Expected::Rset) => Phase::Rset,
            Some(Expected::Mail) => Phase::Mail,
            Some(Expected::Rcpt(_)) => Phase::Rcpt,
            Some(Expected::Data) => Phase::Data,
            Some(Expected::Eod(_)) if self.content.is_some() => Phase::Body,
            Some(Expected::Eod(_)) => Phase::Eod,
            None => Phase::Ready,
        }
    }

    pub fn message_bytes(&self) -> u64 {
        self.message_bytes
    }

    /// The session goes on behind this transaction.
    pub fn finish(self, offers: &Offers) -> (Done, AtPeer) {
        let at_peer = self.at_peer;
        (self.done(Fate::NotTried, offers), at_peer)
    }

    /// The session ends with `failure`. Before MAIL was answered nothing has been tried.
    pub fn cut(self, failure: &Failure, offers: &Offers) -> Done {
        let rest = match failure.phase {
            Phase::Rset | Phase::Mail => Fate::NotTried,
            _ => Fate::Failed(transient(failure)),
        };
        self.done(rest, offers)
    }

    fn done(self, rest: Fate, offers: &Offers) -> Done {
        let fates = self.slots.into_iter().map(|slot| match slot {
            Slot::Open | Slot::Taken => rest.clone(),
            Slot::Settled(fate) => fate,
        });
        Done::new(fates.collect(), offers)
    }

    /// Says the next group of commands, once the last one is answered.
    fn issue(&mut self, offers: &Offers, out: &mut Output) -> Progress {
        if !self.expected.is_empty() {
            return Progress::Going;
        }
        if self.next == Next::Content && !self.is_wanted() {
            self.next = Next::Nothing;
        }
        while self.may_issue(offers) {
            self.issue_next(offers, out);
        }
        if self.expected.is_empty() { Progress::Over } else { Progress::Going }
    }

    fn may_issue(&self, offers: &Offers) -> bool {
        let has_room = offers.pipelining && self.expected.len() < PIPELINED_MAX;
        match self.next {
            Next::Nothing => false,
            _ if self.expected.is_empty() => true,
            Next::Content => has_room && self.may_follow_unseen(),
            _ => has_room,
        }
    }

    /// Whether the message may be begun before anybody is known to want it. LMTP answers BDAT as often as RCPT was
    /// accepted, which has to be known by then.
    fn may_follow_unseen(&self) -> bool {
        match self.carriage {
            Carriage::Data => true,
            Carriage::Chunk => {
                self.protocol == Protocol::Smtp && self.message_bytes <= PIPELINED_MESSAGE_BYTES_MAX
            }
        }
    }

    fn issue_next(&mut self, offers: &Offers, out: &mut Output) {
        match self.next {
            Next::Rset => {
                out.push(b"RSET\r\n");
                self.expected.push_back(Expected::Rset);
                self.next = Next::Mail;
            }
            Next::Mail => {
                command::mail(&self.transaction, offers, self.charset, out);
                self.expected.push_back(Expected::Mail);
                self.next = self.next_open(0);
            }
            Next::Rcpt(index) => {
                let recipient = &self.transaction.recipients[index];
                command::rcpt(recipient, &self.transaction, offers, self.charset, out);
                self.expected.push_back(Expected::Rcpt(index));
                self.next = self.next_open(index + 1);
            }
            Next::Content => {
                self.next = Next::Nothing;
                self.issue_content(out);
            }
            Next::Nothing => {}
        }
    }

    fn issue_content(&mut self, out: &mut Output) {
        if self.carriage == Carriage::Data {
            out.push(b"DATA\r\n");
            return self.expected.push_back(Expected::Data);
        }
        write!(out, "BDAT {} LAST\r\n", self.message_bytes).expect("writing to memory does not fail");
        let mut content = Content::raw(std::mem::take(&mut self.transaction.message));
        if self.message_bytes <= PIPELINED_MESSAGE_BYTES_MAX {
            while content.poll(out) == Left::More {}
        } else {
            self.content = Some(content);
        }
        self.expect_eod();
    }

    fn expect_eod(&mut self) {
        match self.protocol {
            Protocol::Smtp => self.expected.push_back(Expected::Eod(For::All)),
            Protocol::Lmtp => {
                let slots = self.slots.iter().enumerate();
                let taken = slots.filter(|(_, slot)| matches!(slot, Slot::Taken));
                self.expected.extend(taken.map(|(index, _)| Expected::Eod(For::One(index))));
            }
        }
    }

    /// The next recipient from `from` on that was not asked for.
    fn next_open(&self, from: usize) -> Next {
        let open = self.slots[from..].iter().position(|slot| matches!(slot, Slot::Open));
        open.map_or(Next::Content, |at| Next::Rcpt(from + at))
    }

    /// Somebody is there to get the message.
    fn is_wanted(&self) -> bool {
        self.slots.iter().any(|slot| matches!(slot, Slot::Taken))
    }

    fn take(&mut self, index: usize) {
        if matches!(self.slots[index], Slot::Open) {
            self.slots[index] = Slot::Taken;
        }
    }

    /// The answer to DATA is 354. RFC 2920 3.1: if nobody is left, the message is a lone dot.
    fn handle_go_ahead(&mut self, out: &mut Output) -> Result<(), Failure> {
        if self.is_wanted() {
            self.content = Some(Content::dotted(std::mem::take(&mut self.transaction.message)));
            self.expect_eod();
            return Ok(());
        }
        // Behind a refused MAIL, or where each recipient has a reply, nobody can tell whom the dot would be for.
        if self.at_peer == AtPeer::Nothing || self.protocol == Protocol::Lmtp {
            return Err(Failure::confused(Phase::Data, "DATA was accepted and no recipient"));
        }
        out.push(b".\r\n");
        self.expected.push_back(Expected::Eod(For::All));
        Ok(())
    }

    fn handle_mail_refused(&mut self, answer: &Answer) {
        let failure = peer(answer, Phase::Mail);
        for slot in self.slots.iter_mut().filter(|slot| matches!(slot, Slot::Open)) {
            *slot = Slot::Settled(Fate::Failed(failure.clone()));
        }
        self.next = Next::Nothing;
        self.at_peer = AtPeer::Nothing;
    }

    fn handle_rcpt_refused(&mut self, index: usize, answer: &Answer) {
        if !matches!(self.slots[index], Slot::Open) {
            return;
        }
        let mut failure = peer(answer, Phase::Rcpt);
        let is_full = mend_too_many(&mut failure.reply) && self.is_wanted();
        if !is_full {
            self.slots[index] = Slot::Settled(Fate::Failed(failure));
            return;
        }
        self.slots[index] = Slot::Settled(Fate::NotTried);
        if let Next::Rcpt(unasked) = self.next {
            for slot in self.slots[unasked..].iter_mut().filter(|slot| matches!(slot, Slot::Open)) {
                *slot = Slot::Settled(Fate::NotTried);
            }
            self.next = Next::Content;
        }
    }

    /// An error where the rest of the message cannot be called back.
    fn handle_message_refused(&mut self, of: For, failure: Failure) -> Result<(), Failure> {
        self.fail_taken(of, &failure);
        if failure.phase == Phase::Body {
            return Err(failure);
        }
        // RFC 3030 2: what a refused chunk leaves behind is unknown until RSET.
        if self.carriage == Carriage::Data {
            self.at_peer = AtPeer::Nothing;
        }
        Ok(())
    }

    fn fail_taken(&mut self, of: For, failure: &Failure) {
        self.settle(of, &Fate::Failed(failure.clone()));
    }

    /// Decides what was waiting for the message.
    fn settle(&mut self, of: For, fate: &Fate) {
        let slots = match of {
            For::All => &mut self.slots[..],
            For::One(index) => &mut self.slots[index..=index],
        };
        for slot in slots.iter_mut().filter(|slot| matches!(slot, Slot::Taken)) {
            *slot = Slot::Settled(fate.clone());
        }
    }
}

/// What the peer said against it.
fn peer(answer: &Answer, phase: Phase) -> Failure {
    Failure { reply: answer.reply(), phase, origin: Origin::Peer }
}

/// RFC 5321 4.5.3.1.10: whether a reply to RCPT says that there are too many of them. 552 is the old code for it, and
/// means 452; with another enhanced code it is what it says.
fn mend_too_many(reply: &mut Reply) -> bool {
    let is_unsaid = reply.enhanced.is_none();
    match reply.code {
        452 => is_unsaid || reply.enhanced == Some(EnhancedCode::new(4, 5, 3)),
        552 if is_unsaid || reply.enhanced == Some(EnhancedCode::new(5, 5, 3)) => {
            *reply = Reply { code: 452, enhanced: Some(EnhancedCode::new(4, 5, 3)), ..reply.clone() };
            true
        }
        _ => false,
    }
}

/// What the end of the session means for a recipient whose fate is open: another time, whatever ended it.
fn transient(failure: &Failure) -> Failure {
    match failure.reply.is_transient() {
        true => failure.clone(),
        false => Failure::local(421, EnhancedCode::new(4, 4, 2), "the session ended early", failure.phase),
    }
}
