//! One SMTP or LMTP connection of the mix: messages one after the other, with all commands of one in a single send.

use std::collections::VecDeque;

use memchr::memchr;

/// A message on its way in.
#[derive(Clone, Debug)]
pub struct Letter {
    pub number: u64,
    pub recipients: Vec<String>,
    pub text: Vec<u8>,
    /// When it should have been sent.
    pub due: u64,
}

#[derive(Debug)]
pub enum Event {
    /// The server has taken it.
    Taken(Letter),
    Refused(Letter, String),
}

/// LMTP greets with LHLO and answers a message once for each recipient (RFC 2033).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    Smtp,
    Lmtp,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Greeting,
    Ehlo,
    Ready,
    /// Replies to MAIL and each RCPT, then to DATA.
    Envelope(usize),
    /// Replies to the message.
    Data(usize),
}

pub struct Talk {
    dialect: Dialect,
    step: Step,
    letter: Option<Letter>,
    line: Vec<u8>,
    output: Vec<u8>,
    events: VecDeque<Event>,
}

impl Talk {
    /// Begins with a letter, which is sent as soon as the server is ready.
    pub fn new(dialect: Dialect, letter: Letter) -> Self {
        Self {
            dialect,
            step: Step::Greeting,
            letter: Some(letter),
            line: Vec::new(),
            output: Vec::new(),
            events: VecDeque::new(),
        }
    }

    pub fn is_free(&self) -> bool {
        self.step == Step::Ready && self.letter.is_none()
    }

    pub fn output(&mut self) -> &mut Vec<u8> {
        &mut self.output
    }

    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// When the letter under way should have been sent.
    pub fn due(&self) -> Option<u64> {
        self.letter.as_ref().map(|letter| letter.due)
    }

    /// What was under way when the connection was lost.
    pub fn abandon(&mut self) -> Option<Letter> {
        self.letter.take()
    }

    /// Only for one that is free.
    pub fn send(&mut self, letter: Letter) {
        self.letter = Some(letter);
        self.envelope();
    }

    pub fn handle_bytes(&mut self, bytes: &[u8]) {
        let mut rest = bytes;
        while let Some(end) = memchr(b'\n', rest) {
            self.line.extend_from_slice(&rest[..end]);
            rest = &rest[end + 1..];
            let line = std::mem::take(&mut self.line);
            if line.get(3) != Some(&b'-') {
                self.handle_reply(&line);
            }
        }
        self.line.extend_from_slice(rest);
    }

    fn handle_reply(&mut self, line: &[u8]) {
        let code = line.first().copied().unwrap_or(b'0');
        self.step = match (self.step, code) {
            (Step::Greeting, b'2') => {
                let greeting: &[u8] = match self.dialect {
                    Dialect::Smtp => b"EHLO load.test\r\n",
                    Dialect::Lmtp => b"LHLO load.test\r\n",
                };
                self.output.extend_from_slice(greeting);
                Step::Ehlo
            }
            (Step::Ehlo, b'2') => return self.envelope(),
            (Step::Envelope(0), b'3') => {
                let mut replies = 1;
                if let Some(letter) = &self.letter {
                    self.output.extend_from_slice(&letter.text);
                    self.output.extend_from_slice(b".\r\n");
                    if self.dialect == Dialect::Lmtp {
                        replies = letter.recipients.len();
                    }
                }
                Step::Data(replies)
            }
            (Step::Envelope(left @ 1..), b'2') => Step::Envelope(left - 1),
            (Step::Data(left @ 2..), b'2') => Step::Data(left - 1),
            (Step::Data(_), b'2') => {
                self.events.extend(self.letter.take().map(Event::Taken));
                Step::Ready
            }
            _ => {
                let text = String::from_utf8_lossy(line).trim_end().to_owned();
                self.events.extend(self.letter.take().map(|letter| Event::Refused(letter, text)));
                Step::Greeting
            }
        };
    }

    fn envelope(&mut self) {
        let Some(letter) = &self.letter else {
            self.step = Step::Ready;
            return;
        };
        self.output.extend_from_slice(b"MAIL FROM:<mix@load.test>\r\n");
        for recipient in &letter.recipients {
            self.output.extend_from_slice(format!("RCPT TO:<{recipient}>\r\n").as_bytes());
        }
        self.output.extend_from_slice(b"DATA\r\n");
        self.step = Step::Envelope(1 + letter.recipients.len());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn letter() -> Letter {
        Letter {
            number: 7,
            recipients: vec!["a@x".into(), "b@x".into()],
            text: b"S: x\r\n\r\nx\r\n".to_vec(),
            due: 0,
        }
    }

    #[test]
    fn letters_go_one_after_the_other() {
        let mut talk = Talk::new(Dialect::Smtp, letter());
        talk.handle_bytes(b"220 hi\r\n250-a\r\n250 b\r\n");
        let sent = String::from_utf8_lossy(talk.output()).into_owned();
        assert!(sent.ends_with("RCPT TO:<a@x>\r\nRCPT TO:<b@x>\r\nDATA\r\n"), "{sent}");
        talk.handle_bytes(b"250 ok\r\n250 ok\r\n250 o");
        talk.handle_bytes(b"k\r\n354 go\r\n250 taken\r\n");
        assert!(matches!(talk.poll_event(), Some(Event::Taken(Letter { number: 7, .. }))));
        assert!(talk.is_free());
        talk.send(letter());
        talk.handle_bytes(b"250 ok\r\n550 no\r\n");
        assert!(matches!(talk.poll_event(), Some(Event::Refused(_, text)) if text == "550 no"));
        assert!(!talk.is_free());
    }

    #[test]
    fn lmtp_answers_for_each_recipient() {
        let mut talk = Talk::new(Dialect::Lmtp, letter());
        talk.handle_bytes(b"220 hi\r\n250 b\r\n250 ok\r\n250 ok\r\n250 ok\r\n354 go\r\n250 for a\r\n");
        assert!(String::from_utf8_lossy(talk.output()).starts_with("LHLO "));
        assert!(talk.poll_event().is_none());
        talk.handle_bytes(b"250 for b\r\n");
        assert!(matches!(talk.poll_event(), Some(Event::Taken(_))));
    }
}
