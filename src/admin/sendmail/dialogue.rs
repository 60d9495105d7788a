//! `-bs`: SMTP on standard input and output, for programs that like to hear about each recipient.
//!
//! The engine is the server's own; what it asks is answered over the control socket. Whoever may use that is trusted,
//! so that mail for other domains is taken without a login. A conversation with the server lasts for one question:
//! programs that keep a dialogue open must not keep operators out.

use std::io::{self, Read, Write};
use std::rc::Rc;

use super::{EX_IOERR, Exit, connect, refused, submit};
use crate::admin::control::{Control, Reply, Request, SubmitHead, SubmitRecipient};
use crate::bytes::Output;
use crate::config::Config;
use crate::io::clock;
use crate::limits;
use crate::mail::address::Address;
use crate::mail::envelope::Envelope;
use crate::mail::line_ends::LineEnds;
use crate::proto::smtp::{
    Event, LoginVerdict, MessageRefusal, Outcome, Policy, RecipientVerdict, Role, SenderVerdict, Server,
};

const READ_BYTES: usize = 64 << 10;

/// Speaks until the other side ends.
pub fn run(config: &Config) -> Result<(), Exit> {
    // A server that does not run is said before the greeting.
    drop(connect(config)?);
    let policy = Policy {
        hostname: config.hostname.clone(),
        role: Role::Relay,
        is_tls_available: false,
        message_bytes_max: config.limits.message_bytes,
        recipients_max: config.limits.recipients,
        idle_s: config.limits.smtp_idle_s,
        mails_max: None,
        hold_s_max: limits::smtp::HOLD_S_MAX,
        deliver_by_s_min: limits::smtp::DELIVER_BY_S_MIN,
        mechanisms: Vec::new(),
    };
    let mut out = Output::new();
    let engine = Server::new(Rc::new(policy), None, &mut out, clock::instant());
    let dialogue = Dialogue { reach: || connect(config), engine, out, begun: Vec::new() };
    let (input, output) = (io::stdin().lock(), io::stdout().lock());
    dialogue
        .run(input, output)
        .map_err(|error| Exit::new(EX_IOERR, format!("the dialogue broke off: {error}")))
}

struct Dialogue<F> {
    /// Begins a conversation with the server.
    reach: F,
    engine: Server,
    out: Output,
    /// What the engine has given of a message so far.
    begun: Vec<u8>,
}

/// Whether anything more may come.
#[derive(PartialEq, Eq)]
enum State {
    Open,
    Closed,
}

impl<F: Fn() -> Result<Control, Exit>> Dialogue<F> {
    fn run(mut self, mut input: impl Read, mut output: impl Write) -> io::Result<()> {
        let mut ends = LineEnds::default();
        let mut waiting = Vec::new();
        let mut piece = vec![0; READ_BYTES];
        loop {
            let state = self.take(&mut waiting);
            output.write_all(&self.out.to_vec())?;
            output.flush()?;
            self.out.clear();
            if state == State::Closed {
                return Ok(());
            }
            let count = input.read(&mut piece)?;
            if count == 0 {
                return Ok(());
            }
            // Scripts end their lines with LF alone.
            ends.push(&piece[..count], &mut waiting);
        }
    }

    /// Lets the engine take all that is there.
    fn take(&mut self, waiting: &mut Vec<u8>) -> State {
        loop {
            let taken = self.engine.handle_bytes(waiting, &mut self.out, clock::now());
            waiting.drain(..taken);
            let mut has_asked = false;
            while let Some(event) = self.engine.poll_event() {
                has_asked = true;
                let outcome = match event {
                    Event::Sender { .. } => Outcome::Sender(SenderVerdict::Accepted),
                    Event::Recipient { recipient, .. } => {
                        Outcome::Recipient(judge((self.reach)(), &recipient.address))
                    }
                    Event::Begin { .. } => {
                        self.begun.clear();
                        Outcome::Begin { prefix: Vec::new() }
                    }
                    Event::BodyFull(part) => {
                        self.begun.extend_from_slice(&part);
                        Outcome::Continue { spare: part }
                    }
                    Event::Message { envelope, body } => {
                        let mut message = std::mem::take(&mut self.begun);
                        message.extend_from_slice(&body);
                        Outcome::Message(keep((self.reach)(), envelope, &message))
                    }
                    // Neither is offered.
                    Event::Password(_) | Event::Proved(_) | Event::Verifier(_) => {
                        Outcome::Login(LoginVerdict::Unavailable)
                    }
                    Event::Close | Event::StartTls => return State::Closed,
                    Event::Aborted | Event::Rejected(_) | Event::Refused(_) => continue,
                };
                self.engine.handle_done(outcome, &mut self.out, clock::instant());
            }
            if !has_asked && (taken == 0 || waiting.is_empty()) {
                return State::Open;
            }
        }
    }
}

fn judge(control: Result<Control, Exit>, address: &Address) -> RecipientVerdict {
    let mut verdict = RecipientVerdict::Temporary;
    let asked = control.and_then(|mut control| {
        let ask = Request::Judge { address: address.to_string() };
        let each = |reply| {
            if let Reply::Judged(judged) = reply {
                verdict = judged;
            }
            Ok(())
        };
        control.ask(&ask, each).map_err(refused)
    });
    match asked {
        Ok(()) => verdict,
        Err(exit) => {
            eprintln!("sendmail: {}", exit.text);
            RecipientVerdict::Temporary
        }
    }
}

fn keep(
    control: Result<Control, Exit>,
    envelope: Envelope,
    message: &[u8],
) -> Result<String, MessageRefusal> {
    let recipient = |to: crate::mail::envelope::Recipient| SubmitRecipient {
        address: to.address.to_string(),
        notify: to.notify,
        orcpt: to.orcpt,
    };
    let head = SubmitHead {
        sender: envelope.sender.map(|sender| sender.to_string()).unwrap_or_default(),
        recipients: envelope.recipients.into_iter().map(recipient).collect(),
        ret: envelope.ret,
        envid: envelope.envid,
        bytes: message.len() as u64,
    };
    let taken = control.and_then(|mut control| submit(&mut control, head, message)).map_err(|exit| {
        eprintln!("sendmail: {}", exit.text);
        if exit.code == super::EX_DATAERR { MessageRefusal::BadHeader } else { MessageRefusal::Temporary }
    })?;
    // Each was judged at RCPT; who has gone since then is told of.
    for (address, verdict) in &taken.refused {
        eprintln!("sendmail: {address} gets nothing: {verdict:?}");
    }
    taken.id.ok_or(MessageRefusal::Temporary)
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;
    use std::rc::Rc;
    use std::sync::Arc;

    use super::Dialogue;
    use crate::admin::control::Control;
    use crate::admin::memory::MemoryBackend;
    use crate::admin::server::serve;
    use crate::bytes::Output;
    use crate::io::clock;
    use crate::limits;
    use crate::proto::smtp::{Policy, Role, Server};

    #[test]
    fn a_dialogue_with_bare_line_feeds() {
        let backend = MemoryBackend::with_bob();
        let reach = || {
            let (ours, theirs) = UnixStream::pair().expect("a pair of sockets");
            let backend = Arc::clone(&backend);
            std::thread::spawn(move || serve(&*backend, theirs));
            Ok(Control::over(ours).expect("a conversation"))
        };
        let policy = Policy {
            hostname: "mx.test".to_owned(),
            role: Role::Relay,
            is_tls_available: false,
            message_bytes_max: 10_000,
            recipients_max: 100,
            idle_s: limits::smtp::IDLE_S,
            mails_max: None,
            hold_s_max: limits::smtp::HOLD_S_MAX,
            deliver_by_s_min: limits::smtp::DELIVER_BY_S_MIN,
            mechanisms: Vec::new(),
        };
        let mut out = Output::new();
        let engine = Server::new(Rc::new(policy), None, &mut out, clock::instant());
        let dialogue = Dialogue { reach, engine, out, begun: Vec::new() };
        let input = "EHLO me\nMAIL FROM:<ann@example.net>\nRCPT TO:<nobody@example.org>\n\
            RCPT TO:<bob@example.org>\nRCPT TO:<eve@relay.test>\nDATA\nSubject: x\n\nText\n..\n.\nQUIT\n";
        let mut said = Vec::new();
        dialogue.run(input.as_bytes(), &mut said).expect("a dialogue");
        let codes: String = String::from_utf8_lossy(&said)
            .lines()
            .filter(|line| line.as_bytes().get(3) == Some(&b' '))
            .map(|line| format!("{} ", &line[..3]))
            .collect();
        assert_eq!(codes, "220 250 250 550 250 250 354 250 221 ", "{}", String::from_utf8_lossy(&said));
        assert_eq!(backend.contents("ann@example.net")[0].2, b"Subject: x\r\n\r\nText\r\n.\r\n");
    }
}
