//! What a session sends for each state.

use std::fmt::Write;

use super::fill::message;
use super::options::State;
use super::random::Random;
use super::session::{NUMBERS_MAX, Phase, Running, Session, Wanted, Work};
use super::truth::{Contents, Flags};
use super::view::View;

/// A word of the header that searches look for.
const SEARCHED: [&str; 4] = ["UNSEEN", "SUBJECT \"about it\"", "LARGER 1000", "TEXT \"Zwiebel\""];

const FIELDS: [&str; 7] = ["From", "To", "Cc", "Subject", "Message-ID", "In-Reply-To", "References"];

impl Session {
    /// Sends the command of `state`; says whether there was anything to do for it.
    pub(super) fn start(&mut self, state: State) -> bool {
        match (state, &self.phase) {
            (State::Append, _) => self.start_append(),
            (State::Fetch, Phase::Selected(view)) if !view.is_empty() => self.start_fetch(),
            (State::Fetch2, Phase::Selected(view)) if !view.is_empty() => self.start_fetch_body(),
            (State::Uidfetch, Phase::Selected(view)) if !view.is_empty() => {
                self.sync(1);
                true
            }
            (State::Store | State::Delete, Phase::Selected(view)) if !view.is_empty() => {
                self.start_store(state)
            }
            (State::Copy, Phase::Selected(view)) if !view.is_empty() => self.start_copy(),
            (
                State::Fetch | State::Fetch2 | State::Uidfetch | State::Store | State::Delete | State::Copy,
                _,
            ) => false,
            _ => {
                self.start_plain(state);
                true
            }
        }
    }

    fn start_plain(&mut self, state: State) {
        let mailbox = &self.options.mailbox;
        let (command, work) = match state {
            State::Login => {
                (format!("LOGIN {} {}", quoted(&self.user), quoted(&self.options.pass)), Work::Plain)
            }
            State::List => ("LIST \"\" *".to_owned(), Work::Plain),
            State::Status => (format!("STATUS {} (MESSAGES UNSEEN UIDNEXT)", quoted(mailbox)), Work::Plain),
            State::Select => {
                let mut truth = self.truth.borrow_mut();
                self.phase = Phase::Selected(View::new(truth.now()));
                (format!("SELECT {}", quoted(mailbox)), Work::Select { uid_max: truth.uid_max() })
            }
            State::Search => {
                let word = SEARCHED[self.random.below(SEARCHED.len())];
                (format!("SEARCH {word}"), Work::Plain)
            }
            State::Expunge => {
                ("EXPUNGE".to_owned(), Work::Expunge { began: self.truth.borrow_mut().expunge_began() })
            }
            State::Idle => ("IDLE".to_owned(), Work::Idle),
            state => (state.name().to_owned(), Work::Plain),
        };
        self.send(state, &command, Vec::new(), work);
    }

    /// Asks for UID and flags from this number on.
    pub(super) fn sync(&mut self, first: u32) {
        let Phase::Selected(view) = &self.phase else {
            return;
        };
        let last = u32::try_from(view.len()).unwrap_or(u32::MAX);
        let command = format!("FETCH {first}:{last} (UID FLAGS)");
        self.send(State::Uidfetch, &command, (first..=last).collect(), Work::Sync);
    }

    fn start_fetch(&mut self) -> bool {
        let Some((first, last)) = self.range() else {
            return false;
        };
        let mut wanted = Wanted { uid: true, ..Wanted::default() };
        let mut items = "UID".to_owned();
        let mut maybe = |random: &mut Random, item: &str| {
            let is_wanted = random.percent(50);
            if is_wanted {
                items.push(' ');
                items.push_str(item);
            }
            is_wanted
        };
        wanted.flags = maybe(&mut self.random, "FLAGS");
        wanted.size = maybe(&mut self.random, "RFC822.SIZE");
        wanted.envelope = maybe(&mut self.random, "ENVELOPE");
        maybe(&mut self.random, "INTERNALDATE");
        maybe(&mut self.random, "BODYSTRUCTURE");
        let field = FIELDS[self.random.below(FIELDS.len())];
        let section = format!("BODY.PEEK[HEADER.FIELDS ({field} Date)]");
        wanted.sections = usize::from(maybe(&mut self.random, &section));
        let command = format!("FETCH {first}:{last} ({items})");
        self.send(State::Fetch, &command, (first..=last).collect(), Work::Fetch(wanted));
        true
    }

    fn start_fetch_body(&mut self) -> bool {
        let Phase::Selected(view) = &self.phase else {
            return false;
        };
        let number = u32::try_from(self.random.below(view.len()) + 1).unwrap_or(1);
        let wanted = Wanted { uid: true, size: true, sections: 1, ..Wanted::default() };
        let command = format!("FETCH {number} (UID RFC822.SIZE BODY.PEEK[])");
        self.send(State::Fetch2, &command, vec![number], Work::Fetch(wanted));
        true
    }

    /// Changes flags of some of the messages that it owns.
    fn start_store(&mut self, state: State) -> bool {
        let Phase::Selected(view) = &self.phase else {
            return false;
        };
        let mut truth = self.truth.borrow_mut();
        let mut numbers = view.owned(&truth, self.number);
        let excess = view.len().saturating_sub(self.options.messages);
        let most = match state {
            // The mailbox is kept at about its size.
            State::Delete => excess.clamp(usize::from(!view.is_empty()), NUMBERS_MAX),
            _ => NUMBERS_MAX,
        };
        let first = self.random.below(numbers.len());
        numbers.drain(..first);
        numbers.truncate(1 + self.random.below(most.min(numbers.len())));
        if numbers.is_empty() {
            return false;
        }
        let (sign, flags) = match state {
            State::Delete => ('+', Flags::DELETED),
            _ => {
                // Never the first, \Deleted.
                let flag = Flags::numbered(1 + self.random.below(Flags::COUNT - 1));
                (if self.random.percent(50) { '+' } else { '-' }, flag)
            }
        };
        let mut changes = Vec::with_capacity(numbers.len());
        for uid in numbers.iter().filter_map(|number| view.uid(*number)) {
            let before = truth.flags(uid);
            let after =
                before.map(|before| if sign == '+' { before.with(flags) } else { before.without(flags) });
            changes.push((uid, after));
            truth.changing(uid);
        }
        drop(truth);
        let command = format!("STORE {} {sign}FLAGS {flags}", set(&numbers));
        self.send(state, &command, numbers, Work::Store(changes));
        true
    }

    fn start_copy(&mut self) -> bool {
        let (Some(mailbox), Some((first, last))) = (self.options.copy_to.clone(), self.range()) else {
            return false;
        };
        let last = last.min(first + u32::try_from(self.random.below(5)).unwrap_or(0));
        self.send(State::Copy, &format!("COPY {first}:{last} {}", quoted(&mailbox)), Vec::new(), Work::Plain);
        true
    }

    fn start_append(&mut self) -> bool {
        if let Phase::Selected(view) = &self.phase
            && view.len() >= self.options.messages
        {
            return false;
        }
        let number = self.random.draw() as usize & 0xFFFF_FFFF;
        let text = message(number, self.options.message_bytes);
        let contents = Contents::of(&text);
        let plus = if self.has_literal_plus { "+" } else { "" };
        let command = format!("APPEND {} {{{}{plus}}}", quoted(&self.options.mailbox), text.len());
        match self.has_literal_plus {
            true => {
                self.send(State::Append, &command, Vec::new(), Work::Append(contents));
                self.output.extend_from_slice(&text);
                self.output.extend_from_slice(b"\r\n");
            }
            false => self.send(State::Append, &command, Vec::new(), Work::Literal(text, contents)),
        }
        true
    }

    /// Up to a hundred messages from a random one on.
    fn range(&mut self) -> Option<(u32, u32)> {
        let Phase::Selected(view) = &self.phase else {
            return None;
        };
        let first = self.random.below(view.len()) + 1;
        let last = view.len().min(first + NUMBERS_MAX - 1);
        Some((u32::try_from(first).ok()?, u32::try_from(last).ok()?))
    }

    fn send(&mut self, state: State, command: &str, numbers: Vec<u32>, work: Work) {
        self.commands += 1;
        let tag = format!("c{}", self.commands);
        // Writing to memory does not fail.
        let _ = write!(Text(&mut self.output), "{tag} {command}\r\n");
        let is_answered = vec![false; numbers.len()];
        self.running = Some(Running { tag, state, numbers, is_answered, work });
    }
}

struct Text<'a>(&'a mut Vec<u8>);

impl Write for Text<'_> {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        self.0.extend_from_slice(text.as_bytes());
        Ok(())
    }
}

fn quoted(word: &str) -> String {
    format!("\"{}\"", word.replace('\\', "\\\\").replace('"', "\\\""))
}

/// Numbers in their order as a sequence set.
fn set(numbers: &[u32]) -> String {
    let mut text = String::new();
    let mut rest = numbers;
    while let Some((&first, _)) = rest.split_first() {
        let length = (0_u32..).zip(rest).take_while(|(place, number)| **number == first + place).count();
        let last = rest[length - 1];
        if !text.is_empty() {
            text.push(',');
        }
        text.push_str(&first.to_string());
        if last > first {
            text.push_str(&format!(":{last}"));
        }
        rest = &rest[length..];
    }
    text
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_set_is_as_short_as_it_can_be() {
        assert_eq!(super::set(&[1, 2, 3, 5, 8, 9]), "1:3,5,8:9");
        assert_eq!(super::set(&[7]), "7");
    }
}
