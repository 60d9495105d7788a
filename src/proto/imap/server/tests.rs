//! Sessions that no transcript can show: sizes, random dialogues in random cuts, work per byte.

use std::time::Duration;

use proptest::prelude::{Just, Strategy, any, prop_oneof, proptest};
use proptest::{collection, prop_assert_eq};

use super::{Channel, Event, Outcome, Refusal, Server, Settings};
use crate::bytes::Output;
use crate::limits::imap::{COMMAND_LINE_BYTES_MAX, IDLE_S, LITERALS_BYTES_MAX};
use crate::limits::server::LOGIN_S;
use crate::mail::time::{Instant, Now};
use crate::proto::imap::command::{Access, Command};
use crate::proto::imap::render::state;
use crate::proto::imap::reply::Done;
use crate::proto::sasl::Nonce;

/// What a driver would see and do, in short.
struct Session {
    server: Server,
    out: Output,
    log: Vec<String>,
}

impl Session {
    fn new(channel: Channel) -> Self {
        let settings =
            Settings { message_bytes_max: 1 << 20, starttls: true, login_s: LOGIN_S, idle_s: IDLE_S };
        let server = Server::new(settings, channel, Now::default());
        Self { server, out: Output::new(), log: Vec::new() }
    }

    fn logged_in() -> Self {
        let mut session = Self::new(Channel::Trusted);
        session.feed(b"a LOGIN user secret\r\n");
        session.out.clear();
        session
    }

    fn feed(&mut self, mut input: &[u8]) {
        loop {
            let taken = self.server.handle_bytes(input, &mut self.out, Now::default());
            input = &input[taken..];
            let mut is_idle = taken == 0;
            while let Some(event) = self.server.poll_event() {
                is_idle = false;
                self.answer(event);
            }
            if is_idle {
                return;
            }
        }
    }

    fn answer(&mut self, event: Event) {
        let outcome = match event {
            Event::Verify(credentials) if credentials.password.bytes() == b"secret" => Outcome::LoggedIn,
            Event::Verify(_) => Outcome::Refused(Refusal::Credentials),
            Event::Admit(_) => Outcome::LoggedIn,
            Event::Lookup(_) => Outcome::Verifier(None, Nonce([0; 18])),
            Event::Command { command: Command::Select(select), .. } => {
                Outcome::Done(Done::selected(select.access))
            }
            Event::Command { command, announce_modseq } => {
                self.log.push(format!("{command:?} {announce_modseq} {}", self.server.may_expunge()));
                Outcome::Done(Done::ok("Done"))
            }
            Event::AppendStart(_) => Outcome::AppendAccepted { prefix: Vec::new() },
            Event::AppendFull => {
                self.server.take_body();
                Outcome::BodyTaken
            }
            Event::AppendEnd => {
                self.log.push(format!("appended {}", self.server.take_body().escape_ascii()));
                Outcome::Done(Done::ok("APPEND completed"))
            }
            Event::IdleEnd => Outcome::Done(Done::ok("IDLE completed")),
            event @ (Event::Rejected(_)
            | Event::AppendCancelled
            | Event::IdleStart
            | Event::StartTls
            | Event::Close) => {
                return self.log.push(format!("{event:?}"));
            }
        };
        self.server.handle_done(outcome, &mut self.out, Now::default());
    }

    fn said(&self) -> String {
        self.out.to_vec().escape_ascii().to_string()
    }
}

#[test]
fn an_idle_session_is_small_and_holds_no_buffer() {
    assert!(size_of::<Server>() < 1024, "{}", size_of::<Server>());
    let mut session = Session::logged_in();
    for piece in
        ["b SELECT INB", "OX\r\nc DELETE {1}\r\n", "x\r\nd APPEND INBOX {3+}\r\nab", "c\r\ne ID", "LE\r\n"]
    {
        session.feed(piece.as_bytes());
    }
    assert!(session.server.is_idle() && session.server.framing.buffer_bytes() == 0);
    assert_eq!(session.server.selected(), Some(Access::ReadWrite));
    session.feed(b"DONE\r\n");
    assert!(session.server.tag.capacity() == 0 && session.server.framing.buffer_bytes() == 0);
}

#[test]
fn a_session_can_move_to_another_shard() {
    fn moved<T: Send>(_: T) {}
    moved(Session::logged_in().server);
}

#[test]
fn nobody_is_late_while_the_driver_works() {
    let mut session = Session::new(Channel::Trusted);
    assert_eq!(session.server.deadline(), Some(Instant(LOGIN_S * 1000)));
    session.server.handle_bytes(b"a LOGIN user secret\r\n", &mut session.out, Now::default());
    assert_eq!(session.server.deadline(), None);
    let late = Now { instant: Instant(0) + Duration::from_secs(90), ..Now::default() };
    session.server.handle_done(Outcome::LoggedIn, &mut session.out, late);
    session.server.poll_event();
    assert_eq!(session.server.deadline(), Some(late.instant + Duration::from_secs(IDLE_S)));
}

#[test]
fn an_outcome_that_comes_after_the_end_changes_nothing() {
    let mut session = Session::logged_in();
    session.server.handle_bytes(b"b NOOP\r\n", &mut session.out, Now::default());
    assert!(session.server.poll_event().is_some());
    session.server.handle_shutdown(&mut session.out, "Shutting down");
    session.server.handle_done(Outcome::Done(Done::ok("NOOP completed")), &mut session.out, Now::default());
    assert_eq!(session.said(), "* BYE Shutting down\\r\\n");
    assert!(matches!(session.server.poll_event(), Some(Event::Close)));
}

#[test]
fn what_a_driver_says_stays_in_its_line() {
    let mut out = Output::new();
    state::no(&mut out, None, "a\r\nb OK");
    assert_eq!(out.to_vec(), b"* NO a  b OK\r\n");
}

/// The longest commands of the worst kinds must not take time that grows faster than they do.
#[test]
fn bombs() {
    let line = COMMAND_LINE_BYTES_MAX - 100;
    let bombs = [
        format!("b SEARCH {}\r\n", "(".repeat(line - 20)),
        format!("b SEARCH {}ALL\r\n", "NOT ".repeat(line / 4 - 20)),
        format!("b FETCH 1 {}\r\n", "(".repeat(line - 20)),
        format!("b FETCH {}1 UID\r\n", "1:*,".repeat(line / 4 - 20)),
        format!("b FETCH 1 BODY[{}1]\r\n", "1.".repeat(line / 2 - 20)),
        format!("b FETCH 1 BODY[HEADER.FIELDS ({}x)]\r\n", "x ".repeat(line / 2 - 40)),
        format!("b STORE 1 FLAGS ({}x)\r\n", "x ".repeat(line / 2 - 40)),
        format!("b LIST \"\" ({}x)\r\n", "* ".repeat(line / 2 - 40)),
        format!("b DELETE \"{}\"\r\n", "\\\\".repeat(line / 2 - 40)),
        format!("b ENABLE {}x\r\n", "x ".repeat(line / 2 - 40)),
        format!("b SEARCH{}\r\n", " TEXT {0+}\r\n".repeat(line / 12 - 20)),
        format!("b SEARCH TEXT {{{LITERALS_BYTES_MAX}+}}\r\n{}\r\n", "{".repeat(LITERALS_BYTES_MAX)),
        "\r\n".repeat(30),
        "{1+}\r\n".repeat(30),
    ];
    for bomb in bombs {
        let mut session = Session::logged_in();
        session.feed(b"a SELECT INBOX\r\n");
        session.out.clear();
        session.feed(bomb.as_bytes());
        session.feed(b"z LOGOUT\r\n");
        let said = session.said();
        assert!(said.contains("BYE") && said.len() < 4096, "{} says {said}", &bomb[..40.min(bomb.len())]);
    }
}

/// Pieces that dialogues are made of; together they reach every state.
fn piece() -> impl Strategy<Value = Vec<u8>> {
    const PIECES: &[&str] = &[
        "a ",
        "b1 ",
        "LOGIN user secret",
        "LOGIN {4}\r\nuser {6+}\r\nsecret",
        "LOGIN user x",
        "\r\n",
        "\r\n",
        "\r\n",
        "\r\n",
        "AUTHENTICATE PLAIN",
        "AUTHENTICATE PLAIN AHVzZXIAc2VjcmV0",
        "AHVzZXIAc2VjcmV0",
        "*",
        "SELECT INBOX",
        "EXAMINE x (CONDSTORE)",
        "FETCH 1:* (FLAGS BODY[])",
        "UID ",
        "STORE 1 FLAGS (\\Seen)",
        "SEARCH ALL",
        "NOOP",
        "APPEND INBOX {5}\r\nhe\nlo",
        "APPEND INBOX {5+}\r\nhello",
        "APPEND INBOX ~{2+}\r\n\0\r",
        "APPEND {1+}\r\nx {2}\r\n",
        "IDLE\r\n",
        "DONE\r\n",
        "ENABLE IMAP4rev2",
        "STARTTLS",
        "LOGOUT",
        "{3}",
        "{3+}",
        "~{3+}",
        "{99999+}",
        "\"",
        "(",
        ")",
        "\r",
        "\n",
        "\0",
        " ",
        "x",
        "CLOSE",
        "LIST \"\" *",
        "CREATE &AOQ-",
    ];
    prop_oneof![
        40 => (0..PIECES.len()).prop_map(|index| PIECES[index].as_bytes().to_vec()),
        1 => collection::vec(any::<u8>(), 0..6),
        // A line, so that dialogues get somewhere.
        20 => (0..PIECES.len()).prop_map(|index| [b"c ", PIECES[index].as_bytes(), b"\r\n"].concat()),
        3 => Just(b"c LOGIN user secret\r\n".to_vec()),
    ]
}

proptest! {
    #[test]
    fn no_split_matters(pieces in collection::vec(piece(), 0..30), steps in collection::vec(1_usize..9, 1..8)) {
        let input = pieces.concat();
        let mut whole = Session::new(Channel::Trusted);
        whole.feed(&input);
        let mut cut = Session::new(Channel::Trusted);
        let mut rest = input.as_slice();
        for &step in steps.iter().cycle() {
            let (piece, after) = rest.split_at(step.min(rest.len()));
            cut.feed(piece);
            rest = after;
            if rest.is_empty() {
                break;
            }
        }
        prop_assert_eq!(cut.said(), whole.said());
        prop_assert_eq!(cut.log, whole.log);
    }
}
