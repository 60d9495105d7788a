//! Makes a mailbox of many messages, as fast as the server takes them.
//!
//! Where the server knows MULTIAPPEND, a thousand messages go in one command. Elsewhere commands are pipelined over
//! several connections, so that their syncs can be shared. Literals are not waited for where LITERAL+ is known. The
//! same number always gives the same message; every [`NEEDLE_EVERY`]th has a word in its body that no other has, for
//! a search to find.

use std::collections::VecDeque;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use super::answer::{Answer, Status};
use super::client::{Client, Login, unexpected};

/// What a search is to find, and in which messages.
pub const NEEDLE: &str = "Zwiebelfisch";
pub const NEEDLE_EVERY: usize = 1000;

/// Commands under way on a connection.
const WINDOW: usize = 64;

/// Messages in one command, and their bytes together.
const MULTIAPPEND_MESSAGES: usize = 1000;
const MULTIAPPEND_BYTES: usize = 16 << 20;

#[derive(Clone, Debug)]
pub struct Fill {
    pub login: Login,
    pub mailbox: String,
    /// Which messages: those with numbers from `first` and below `end`.
    pub first: usize,
    pub end: usize,
    pub message_bytes: usize,
    pub pace: Pace,
}

/// How a mailbox is filled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// As fast as the server takes it, over so many connections at most.
    Fast { connections: usize },
    /// One message after the other, so that the server needs no memory for it that it would keep.
    Gentle,
}

/// What the server can do for a filler.
#[derive(Clone, Copy)]
struct Abilities {
    has_literal_plus: bool,
    has_multiappend: bool,
}

impl Fill {
    /// Appends them all; `progress` is told how many are in.
    pub fn run(&self, progress: &(impl Fn(usize) + Sync)) -> io::Result<()> {
        let abilities = self.prepare()?;
        let (connections, is_in_bulk) = match self.pace {
            Pace::Fast { .. } if abilities.has_multiappend => (1, true),
            Pace::Fast { connections } => (connections, false),
            Pace::Gentle => (1, false),
        };
        let next = AtomicUsize::new(self.first);
        let done = AtomicUsize::new(0);
        let told = |count: usize| progress(done.fetch_add(count, Ordering::Relaxed) + count);
        thread::scope(|scope| {
            let fillers: Vec<_> = (0..connections)
                .map(|_| {
                    scope.spawn(|| match is_in_bulk {
                        true => self.in_bulk(&next, &told),
                        false => self.one_by_one(abilities, &next, &told),
                    })
                })
                .collect();
            fillers
                .into_iter()
                .try_for_each(|filler| filler.join().map_err(|_| io::Error::other("a filler panicked"))?)
        })
    }

    /// Makes sure of the mailbox.
    fn prepare(&self) -> io::Result<Abilities> {
        let mut client = self.login.open()?;
        let abilities = Abilities::of(&mut client)?;
        if !self.mailbox.eq_ignore_ascii_case("INBOX") {
            // It may be there already; what is wrong otherwise, APPEND will tell.
            let _ = client.command(&format!("CREATE \"{}\"", self.mailbox), |_| Ok(()));
        }
        client.logout()?;
        Ok(abilities)
    }

    fn one_by_one(&self, abilities: Abilities, next: &AtomicUsize, told: &impl Fn(usize)) -> io::Result<()> {
        let mut client = self.login.open()?;
        let mut under_way: VecDeque<String> = VecDeque::new();
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= self.end {
                break;
            }
            let text = message(number, self.message_bytes);
            let tag = client.next_tag();
            let plus = if abilities.has_literal_plus { "+" } else { "" };
            let mut command =
                format!("{tag} APPEND \"{}\" {{{}{plus}}}\r\n", self.mailbox, text.len()).into_bytes();
            if !abilities.has_literal_plus {
                client.send(&command)?;
                command.clear();
                wait_for_continue(&mut client)?;
            }
            command.extend_from_slice(&text);
            command.extend_from_slice(b"\r\n");
            client.send(&command)?;
            under_way.push_back(tag);
            let window = match self.pace {
                Pace::Fast { .. } if abilities.has_literal_plus => WINDOW,
                _ => 1,
            };
            if under_way.len() >= window {
                self.wait_for_append(&mut client, &mut under_way, told)?;
            }
        }
        while !under_way.is_empty() {
            self.wait_for_append(&mut client, &mut under_way, told)?;
        }
        client.logout()
    }

    fn wait_for_append(
        &self,
        client: &mut Client,
        under_way: &mut VecDeque<String>,
        told: &impl Fn(usize),
    ) -> io::Result<()> {
        let tag = under_way.pop_front().unwrap_or_default();
        wait_for_ok(client, &tag)?;
        told(1);
        Ok(())
    }

    fn in_bulk(&self, next: &AtomicUsize, told: &impl Fn(usize)) -> io::Result<()> {
        let mut client = self.login.open()?;
        let messages = (MULTIAPPEND_BYTES / self.message_bytes.max(1)).clamp(1, MULTIAPPEND_MESSAGES);
        loop {
            let first = next.fetch_add(messages, Ordering::Relaxed);
            let end = (first + messages).min(self.end);
            if first >= end {
                return client.logout();
            }
            let tag = client.next_tag();
            let mut command = format!("{tag} APPEND \"{}\"", self.mailbox).into_bytes();
            for number in first..end {
                let text = message(number, self.message_bytes);
                command.extend_from_slice(format!(" {{{}+}}\r\n", text.len()).as_bytes());
                command.extend_from_slice(&text);
            }
            command.extend_from_slice(b"\r\n");
            client.send(&command)?;
            wait_for_ok(&mut client, &tag)?;
            told(end - first);
        }
    }
}

/// How many messages a mailbox holds; none if there is no such mailbox.
pub fn count(login: &Login, mailbox: &str) -> io::Result<usize> {
    let mut client = login.open()?;
    let mut messages = 0;
    // A mailbox that is not there is refused, and an empty one is as good.
    let _ = client.command(&format!("STATUS \"{mailbox}\" (MESSAGES)"), |answer| {
        if let Answer::MailboxStatus(items) = answer {
            let found = items.iter().find(|(name, _)| *name == b"MESSAGES");
            messages = found.and_then(|(_, count)| usize::try_from(*count).ok()).unwrap_or(0);
        }
        Ok(())
    });
    client.logout()?;
    Ok(messages)
}

impl Abilities {
    fn of(client: &mut Client) -> io::Result<Self> {
        let mut words = Vec::new();
        client.capabilities(&mut words)?;
        let knows = |word: &str| words.iter().any(|known| known.eq_ignore_ascii_case(word));
        let has_literal_plus = knows("LITERAL+");
        Ok(Self { has_literal_plus, has_multiappend: has_literal_plus && knows("MULTIAPPEND") })
    }
}

fn wait_for_continue(client: &mut Client) -> io::Result<()> {
    loop {
        let is_there = client.answer(|answer| match answer {
            Answer::Continue => Ok(true),
            Answer::Tagged { .. } => Err(unexpected("APPEND", &answer)),
            _ => Ok(false),
        })?;
        if is_there {
            return Ok(());
        }
    }
}

fn wait_for_ok(client: &mut Client, tag: &str) -> io::Result<()> {
    loop {
        let is_done = client.answer(|answer| match answer {
            Answer::Tagged { tag: found, status: Status::Ok, .. } if found == tag.as_bytes() => Ok(true),
            Answer::Tagged { .. } | Answer::Status { status: Status::Bye, .. } => {
                Err(unexpected("APPEND", &answer))
            }
            _ => Ok(false),
        })?;
        if is_done {
            return Ok(());
        }
    }
}

/// Message `number` of about `size` bytes: the header that mail has, and a body like no other's.
pub fn message(number: usize, size: usize) -> Vec<u8> {
    let (sender, recipient) = (number % 251, number % 83);
    let (day, hour, minute, second) = (number % 28 + 1, number % 24, number / 24 % 60, number / 1440 % 60);
    let mut text = format!(
        "Return-Path: <sender{sender}@example.org>\r\n\
         Received: from mx{sender}.example.org (mx{sender}.example.org [192.0.2.{sender}])\r\n\
         \tby mail.load.test with ESMTPS id {number:08x};\r\n\
         \tTue, {day:02} Sep 2026 {hour:02}:{minute:02}:{second:02} +0000\r\n\
         From: \"Sender {sender}\" <sender{sender}@example.org>\r\n\
         To: Recipient {recipient} <recipient{recipient}@load.test>, office@load.test\r\n\
         Cc: list@lists.load.test\r\n\
         Subject: =?utf-8?q?N=C3=BAmero?= {number}: what was said about it\r\n\
         Date: Tue, {day:02} Sep 2026 {hour:02}:{minute:02}:{second:02} +0000\r\n\
         Message-ID: <{number}.load@example.org>\r\n\
         In-Reply-To: <{}.load@example.org>\r\n\
         References: <{}.load@example.org> <{}.load@example.org>\r\n\
         MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n",
        number.saturating_sub(1),
        number.saturating_sub(2),
        number.saturating_sub(1),
    )
    .into_bytes();
    if number.is_multiple_of(NEEDLE_EVERY) {
        text.extend_from_slice(NEEDLE.as_bytes());
        text.extend_from_slice(b"\r\n");
    }
    fill_body(&mut text, number, size);
    text
}

/// Words of lower case letters in lines of 72, up to `size` bytes.
pub fn fill_body(text: &mut Vec<u8>, number: usize, size: usize) {
    let mut state = (number as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut column = 0;
    while text.len() + 2 < size {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        if column == 72 {
            text.extend_from_slice(b"\r\n");
            column = 0;
            continue;
        }
        // Spaces about as often as in text.
        let letter = (state >> 32) % 31;
        text.push(if letter < 26 || column == 0 { b'a' + (letter % 26) as u8 } else { b' ' });
        column += 1;
    }
    text.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_of_their_size_and_like_no_other() {
        let sizes = [1024, 4096, 20 << 10];
        for (number, size) in (0..3000).zip(sizes.into_iter().cycle()) {
            let text = message(number, size);
            assert!(text.len() >= size && text.len() <= size + 4, "{} for {size}", text.len());
            let holds = memchr::memmem::find(&text, NEEDLE.as_bytes()).is_some();
            assert_eq!(holds, number.is_multiple_of(NEEDLE_EVERY));
            let lines = text.strip_suffix(b"\r\n").expect("it ends with a line").split(|byte| *byte == b'\n');
            assert!(lines.into_iter().all(|line| line.len() < 100));
        }
        assert_eq!(message(7, 2048), message(7, 2048));
        assert_ne!(message(7, 2048)[1000..], message(8, 2048)[1000..]);
    }
}
