//! One line of a ledger, and the header that a message carries.

use std::io::Write;

/// The header's name, with the colon and the space that follow it.
pub const HEADER: &str = "X-Loadtest: ";

/// Which message this is, and what its body is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark {
    pub run: String,
    pub session: u64,
    pub number: u64,
    pub checksum: u32,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Line {
    Acknowledged(Acknowledged),
    Received(Received),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Acknowledged {
    pub run: String,
    pub session: u64,
    pub number: u64,
    /// Recipients that were accepted.
    pub copies: u64,
    pub intended_ns: u64,
    pub sent_ns: u64,
    pub acknowledged_ns: u64,
    pub code: u16,
    pub queue_id: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Received {
    pub run: String,
    pub session: u64,
    pub number: u64,
    /// Whose copy this is.
    pub recipient: String,
    pub verdict: Verdict,
    pub at_ns: u64,
}

/// Whether the body is what was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Intact,
    Corrupted,
}

impl Mark {
    /// Finds the mark in a header section.
    pub fn find(head: &[u8]) -> Option<Self> {
        let lines = head.split(|byte| *byte == b'\n');
        let line = lines.filter_map(|line| strip_prefix_ignoring_case(line, HEADER.as_bytes())).next()?;
        let mut words = std::str::from_utf8(line).ok()?.split_ascii_whitespace();
        Some(Self {
            run: words.next()?.to_owned(),
            session: words.next()?.parse().ok()?,
            number: words.next()?.parse().ok()?,
            checksum: u32::from_str_radix(words.next()?, 16).ok()?,
        })
    }

    /// The line of a copy of this message.
    pub fn received(&self, recipient: &str, checksum: u32, at_ns: u64) -> Received {
        Received {
            run: self.run.clone(),
            session: self.session,
            number: self.number,
            recipient: recipient.to_owned(),
            verdict: if checksum == self.checksum { Verdict::Intact } else { Verdict::Corrupted },
            at_ns,
        }
    }
}

/// The line for a whole message as it lies in a mailbox, if it is one of a load test.
pub fn received_of(message: &[u8], recipient: &str, at_ns: u64) -> Option<Received> {
    let end = memchr::memmem::find(message, b"\r\n\r\n")?;
    let mark = Mark::find(&message[..end + 2])?;
    Some(mark.received(recipient, crc32fast::hash(&message[end + 4..]), at_ns))
}

impl Line {
    /// With its check and its end.
    pub fn write(&self, out: &mut Vec<u8>) {
        let begin = out.len();
        match self {
            Self::Acknowledged(line) => write!(
                out,
                "A {} {} {} {} {} {} {} {} {}",
                line.run,
                line.session,
                line.number,
                line.copies,
                line.intended_ns,
                line.sent_ns,
                line.acknowledged_ns,
                line.code,
                word(&line.queue_id)
            ),
            Self::Received(line) => write!(
                out,
                "R {} {} {} {} {} {}",
                line.run,
                line.session,
                line.number,
                word(&line.recipient),
                match line.verdict {
                    Verdict::Intact => "intact",
                    Verdict::Corrupted => "corrupted",
                },
                line.at_ns
            ),
        }
        .expect("a Vec takes everything");
        let check = crc32fast::hash(&out[begin..]);
        writeln!(out, " {check:08x}").expect("a Vec takes everything");
    }

    /// `None` for what is not a whole line.
    pub fn parse(line: &str) -> Option<Self> {
        let (content, check) = line.rsplit_once(' ')?;
        if u32::from_str_radix(check, 16).ok()? != crc32fast::hash(content.as_bytes()) {
            return None;
        }
        let mut words = content.split(' ');
        let kind = words.next()?;
        let run = words.next()?.to_owned();
        let (session, number) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
        match kind {
            "A" => Some(Self::Acknowledged(Acknowledged {
                run,
                session,
                number,
                copies: words.next()?.parse().ok()?,
                intended_ns: words.next()?.parse().ok()?,
                sent_ns: words.next()?.parse().ok()?,
                acknowledged_ns: words.next()?.parse().ok()?,
                code: words.next()?.parse().ok()?,
                queue_id: words.next()?.to_owned(),
            })),
            "R" => Some(Self::Received(Received {
                run,
                session,
                number,
                recipient: words.next()?.to_owned(),
                verdict: match words.next()? {
                    "intact" => Verdict::Intact,
                    "corrupted" => Verdict::Corrupted,
                    _ => return None,
                },
                at_ns: words.next()?.parse().ok()?,
            })),
            _ => None,
        }
    }
}

/// What stands between blanks holds none, and is not empty.
fn word(text: &str) -> String {
    let clean: String = text.chars().filter(|c| !c.is_whitespace() && !c.is_control()).collect();
    if clean.is_empty() { "-".to_owned() } else { clean }
}

fn strip_prefix_ignoring_case<'a>(line: &'a [u8], prefix: &[u8]) -> Option<&'a [u8]> {
    let (begin, rest) = line.split_at_checked(prefix.len())?;
    begin.eq_ignore_ascii_case(prefix).then_some(rest)
}

#[cfg(test)]
mod tests {
    use super::{Acknowledged, Line, Mark, Verdict};

    #[test]
    fn lines_are_read_as_they_were_written() {
        let acknowledged = Line::Acknowledged(Acknowledged {
            run: "r1".to_owned(),
            session: 3,
            number: 17,
            copies: 2,
            intended_ns: 5,
            sent_ns: 6,
            acknowledged_ns: 7,
            code: 250,
            queue_id: "4A C1".to_owned(),
        });
        let mark = Mark { run: "r1".to_owned(), session: 3, number: 17, checksum: 9 };
        let received = Line::Received(mark.received("me@a.test", 8, 99));
        let mut text = Vec::new();
        acknowledged.write(&mut text);
        received.write(&mut text);
        let text = String::from_utf8(text).expect("text");
        let lines: Vec<_> = text.lines().map(|line| Line::parse(line).expect("a line")).collect();
        assert!(matches!(&lines[0], Line::Acknowledged(line) if line.queue_id == "4AC1" && line.copies == 2));
        assert!(matches!(&lines[1], Line::Received(line) if line.verdict == Verdict::Corrupted));
        for torn in (0..text.len() - 1).map(|end| &text[..end]) {
            let last = torn.rsplit('\n').next().expect("there is always a last");
            let was_whole = torn.lines().all(|line| text.lines().any(|whole| whole == line));
            assert!(was_whole || Line::parse(last).is_none(), "{last}");
        }
    }

    #[test]
    fn the_mark_is_found_in_a_header() {
        let head = b"Received: x\r\nx-loadtest: run 4 12 00ff00ff\r\nSubject: y\r\n\r\n";
        let mark = Mark::find(head).expect("it is there");
        assert_eq!(mark, Mark { run: "run".to_owned(), session: 4, number: 12, checksum: 0x00ff_00ff });
        assert_eq!(Mark::find(b"Subject: X-Loadtest: 1 2 3 4\r\n\r\n"), None);
    }
}
