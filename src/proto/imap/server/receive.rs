//! What the client's bytes are, where the session stands: commands, answers to challenges, DONE, a message.

use super::{Activity, Event, IdleEnd, Phase, Server};
use crate::bytes::Output;
use crate::limits::imap::{
    COMMAND_LINE_BEFORE_LOGIN_BYTES_MAX, COMMAND_LINE_BYTES_MAX, LITERALS_BEFORE_LOGIN_BYTES_MAX,
    LITERALS_BYTES_MAX,
};
use crate::mail::time::Now;
use crate::proto::imap::append::{Append, Form, Progress};
use crate::proto::imap::command::AppendStart;
use crate::proto::imap::framing::Frame;
use crate::proto::imap::lexer::{Fault, Literal, Sync};
use crate::proto::imap::parse::{self, AppendHead, Request};
use crate::proto::imap::reply::{Code, Done};

/// What becomes of the command that a frame was of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Verdict {
    /// It goes on, or is skipped already.
    Continue,
    /// It was handled.
    Clear,
    /// Its literal is gathered.
    Accept,
    /// Its literal is not wanted.
    Refuse,
}

/// What a literal is for.
enum Use {
    Argument,
    Message(AppendStart),
}

impl Server {
    /// Takes what one step wants of `input`. It may take nothing where the step changes what is waited for.
    pub(super) fn take(&mut self, input: &[u8], out: &mut Output, now: Now) -> usize {
        if let Activity::Appending(append) = &mut self.activity {
            let (taken, progress) = append.take(input);
            self.handle_progress(progress, out);
            return taken;
        }
        let mut framing = std::mem::take(&mut self.framing);
        let (taken, frame) = framing.take(input, self.line_bytes_max());
        let verdict = self.handle_frame(frame, out, now);
        match verdict {
            Verdict::Continue => (),
            Verdict::Clear => framing.clear(),
            Verdict::Accept => framing.accept(),
            Verdict::Refuse => framing.refuse(),
        }
        self.framing = framing;
        taken
    }

    fn line_bytes_max(&self) -> usize {
        match self.phase {
            Phase::NotAuthenticated => COMMAND_LINE_BEFORE_LOGIN_BYTES_MAX,
            _ => COMMAND_LINE_BYTES_MAX,
        }
    }

    fn literals_bytes_max(&self) -> usize {
        match self.phase {
            Phase::NotAuthenticated => LITERALS_BEFORE_LOGIN_BYTES_MAX,
            _ => LITERALS_BYTES_MAX,
        }
    }

    fn handle_frame(&mut self, frame: Frame<'_>, out: &mut Output, now: Now) -> Verdict {
        match frame {
            Frame::More => Verdict::Continue,
            Frame::Endless => {
                self.bye(out, "A command without end");
                Verdict::Clear
            }
            Frame::Command(text) => {
                self.handle_line(text, out, now);
                Verdict::Clear
            }
            Frame::TooLong { text } => {
                self.handle_too_long(text, out);
                Verdict::Continue
            }
            Frame::Literal { text, literal, literals_bytes } => match self.activity {
                Activity::Reading => self.handle_literal(text, literal, literals_bytes, out),
                _ => {
                    self.handle_stray_literal(out);
                    Verdict::Refuse
                }
            },
        }
    }

    /// A whole line, or a whole command with its literals.
    fn handle_line(&mut self, text: &[u8], out: &mut Output, now: Now) {
        match std::mem::replace(&mut self.activity, Activity::Reading) {
            Activity::Challenged(exchange) => self.handle_response(exchange, text, out),
            Activity::Idling { .. } if text.eq_ignore_ascii_case(b"DONE") => self.leave_idle(IdleEnd::Done),
            Activity::Idling { .. } => self.leave_idle(IdleEnd::Garbage),
            Activity::AppendEnding(append) if text.is_empty() => {
                self.activity = Activity::Keeping(append);
                self.event = Some(Event::AppendEnd);
            }
            Activity::AppendEnding(_) => self.cancel_append(bad_end(), out),
            _ => self.handle_command(text, out, now),
        }
    }

    fn handle_command(&mut self, text: &[u8], out: &mut Output, now: Now) {
        let Some(tag) = parse::tag(text) else {
            return self.complain("A command begins with a tag", out);
        };
        self.tag = tag.to_owned();
        match self.parse(text) {
            Ok(request) => self.execute(request, out, now),
            Err(fault) => self.finish(fault.into(), out),
        }
    }

    fn parse(&self, text: &[u8]) -> Result<Request, Fault> {
        let head = parse::head(text, self.dialect())?;
        self.check_state(head.row)?;
        head.request()
    }

    fn handle_too_long(&mut self, text: &[u8], out: &mut Output) {
        let too_long = Done::bad("The line is too long").with(Code::TooBig);
        match std::mem::replace(&mut self.activity, Activity::Reading) {
            Activity::Idling { .. } => self.leave_idle(IdleEnd::Garbage),
            Activity::AppendEnding(_) => self.cancel_append(too_long, out),
            Activity::Challenged(_) => self.finish(too_long, out),
            _ => match parse::tag(text) {
                Some(tag) => {
                    self.tag = tag.to_owned();
                    self.finish(too_long, out);
                }
                None => self.complain("The line is too long", out),
            },
        }
    }

    /// A literal where none can be.
    fn handle_stray_literal(&mut self, out: &mut Output) {
        match std::mem::replace(&mut self.activity, Activity::Reading) {
            Activity::Idling { .. } => self.leave_idle(IdleEnd::Garbage),
            Activity::AppendEnding(_) => self.cancel_append(bad_end(), out),
            _ => self.finish(Done::bad("The response is not base64"), out),
        }
    }

    /// A command up to a literal: whether it may go on is decided before the client sends the octets, so that
    /// what is bound to fail costs it nothing.
    fn handle_literal(
        &mut self,
        text: &[u8],
        literal: Literal,
        literals_bytes: usize,
        out: &mut Output,
    ) -> Verdict {
        let Some(tag) = parse::tag(text) else {
            self.complain("A command begins with a tag", out);
            return Verdict::Refuse;
        };
        self.tag = tag.to_owned();
        match self.judge_literal(text, literal, literals_bytes) {
            Ok(Use::Argument) => {
                invite(literal, out);
                Verdict::Accept
            }
            Ok(Use::Message(start)) => {
                let bytes_max = self.settings.message_bytes_max;
                self.activity = Activity::AppendAsked { literal, bytes_max };
                self.event = Some(Event::AppendStart(start));
                Verdict::Continue
            }
            Err(done) => {
                self.finish(done, out);
                Verdict::Refuse
            }
        }
    }

    fn judge_literal(&self, text: &[u8], literal: Literal, literals_bytes: usize) -> Result<Use, Done> {
        let head = parse::head(text, self.dialect())?;
        self.check_state(head.row)?;
        if head.row.takes_message()
            && let AppendHead::Message(start) = head.append()?
        {
            return self.judge_message(start, literal);
        }
        let size = usize::try_from(literal.size).unwrap_or(usize::MAX);
        if literals_bytes.saturating_add(size) > self.literals_bytes_max() {
            return Err(Done::bad("The literal is too large").with(Code::TooBig));
        }
        match literal.binary {
            true => Err(Done::bad("Only a message can be a literal8")),
            false => Ok(Use::Argument),
        }
    }

    fn judge_message(&self, start: AppendStart, literal: Literal) -> Result<Use, Done> {
        match literal.size {
            // RFC 3502 3: an empty one is how a client gives up.
            0 => Err(Done::no(None, "An empty message is no message")),
            size if size > self.settings.message_bytes_max => {
                Err(Done::no(Some(Code::TooBig), "The message is too large"))
            }
            size => Ok(Use::Message(AppendStart { size, ..start })),
        }
    }

    /// The driver takes the message.
    pub(super) fn start_message(
        &mut self,
        literal: Literal,
        bytes_max: u64,
        prefix: Vec<u8>,
        out: &mut Output,
    ) {
        let form = match literal.binary {
            true => Form::Binary,
            false => Form::Text,
        };
        self.framing.stream();
        invite(literal, out);
        self.activity = Activity::Appending(Box::new(Append::new(prefix, literal.size, bytes_max, form)));
    }

    fn handle_progress(&mut self, progress: Progress, out: &mut Output) {
        let Activity::Appending(append) = std::mem::replace(&mut self.activity, Activity::Reading) else {
            return;
        };
        match progress {
            Progress::More => self.activity = Activity::Appending(append),
            Progress::Complete => self.activity = Activity::AppendEnding(append),
            Progress::Full => {
                self.activity = Activity::AppendFull(append);
                self.event = Some(Event::AppendFull);
            }
            Progress::Nul => {
                self.framing.skip(append.left());
                self.cancel_append(Done::bad("NUL in a literal"), out);
            }
            Progress::TooBig => {
                self.framing.skip(append.left());
                self.cancel_append(Done::no(Some(Code::TooBig), "The message is too large"), out);
            }
        }
    }

    /// Answers an APPEND whose message has begun to come, and has the driver forget it.
    fn cancel_append(&mut self, done: Done, out: &mut Output) {
        self.event = Some(Event::AppendCancelled);
        // This may close the session, and then closing is the event.
        self.finish(done, out);
    }

    fn leave_idle(&mut self, end: IdleEnd) {
        self.activity = Activity::LeavingIdle(end);
        self.event = Some(Event::IdleEnd);
    }
}

/// `continue-req = "+" SP [resp-text] CRLF`, for a client that waits for it.
fn invite(literal: Literal, out: &mut Output) {
    if literal.sync == Sync::Waits {
        out.push(b"+ Ready for literal data\r\n");
    }
}

fn bad_end() -> Done {
    Done::bad("Unexpected text behind the message")
}
