//! One question through its servers, rounds, carriers and aliases, until there is an answer or nobody left to ask.
//!
//! `poll_ask` gives the next query, `handle_*` take what came of it. A server that says something useless is not
//! asked again; a silent one is asked once in each round. A truncated answer is asked for again by TCP, and so is
//! one that somebody tries to guess. An alias whose end is not in the answer makes the next question.
//!
//! Invariants: a lookup ends: by its deadline, and after so many queries as servers, rounds, carriers, dialects
//! and aliases allow; what is not an answer is an error that names each server with its last words.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use super::answer::{self, Answer, Reading};
use super::message::{Dialect, Question, Response, Unread};
use crate::limits;
use crate::mail::time::Instant;

/// How long servers are waited for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Patience {
    /// For one answer.
    pub timeout: Duration,
    /// Rounds through the servers that keep silent; at least one.
    pub attempts: usize,
}

/// A query to send.
#[derive(PartialEq, Eq, Debug)]
pub struct Ask {
    pub server: SocketAddr,
    pub carrier: Carrier,
    pub message: Vec<u8>,
    pub timeout: Duration,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Carrier {
    Udp,
    /// With two octets of length in front of each message (RFC 1035 4.2.2).
    Tcp,
}

/// What became of bytes that came from a server.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Received {
    /// The query is over; poll for the next.
    Taken,
    /// They answer nothing; the query is still open.
    Stray,
}

/// One question on its way.
#[derive(Debug)]
pub struct Lookup {
    /// What was asked at first, to be named in errors.
    subject: String,
    /// What is asked now: an alias later on.
    question: Question,
    servers: Vec<SocketAddr>,
    patience: Patience,
    deadline: Instant,
    /// What is still to be tried, in this order.
    attempts: VecDeque<Attempt>,
    open: Option<Open>,
    aliases: usize,
    /// Of the aliases so far.
    ttl_s: u32,
    is_authentic: bool,
    /// Each server's last words.
    words: Vec<(SocketAddr, String)>,
    answer: Option<Answer>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Attempt {
    server: SocketAddr,
    carrier: Carrier,
    dialect: Dialect,
}

/// The query that is out.
#[derive(Debug)]
struct Open {
    attempt: Attempt,
    id: u16,
    strays: u32,
    timeout: Duration,
}

impl Lookup {
    /// Asks `servers` in their order.
    pub fn new(question: Question, servers: Vec<SocketAddr>, patience: Patience, now: Instant) -> Self {
        let asks = u32::try_from(servers.len() * patience.attempts).unwrap_or(u32::MAX);
        let longest = Duration::from_secs(limits::dns::LOOKUP_S_MAX);
        let mut lookup = Self {
            subject: format!("{} of {}", question.kind.name(), question.text()),
            question,
            servers,
            patience,
            deadline: now + patience.timeout.saturating_mul(asks).min(longest),
            attempts: VecDeque::new(),
            open: None,
            aliases: 0,
            ttl_s: u32::MAX,
            is_authentic: true,
            words: Vec::new(),
            answer: None,
        };
        lookup.plan();
        lookup
    }

    /// The next query, under the number `id`, which nobody could have guessed; none when there is nothing to ask.
    pub fn poll_ask(&mut self, id: u16, now: Instant) -> Option<Ask> {
        assert!(self.open.is_none(), "one query is open at a time");
        let left = self.deadline - now;
        if self.answer.is_some() || left.is_zero() {
            return None;
        }
        let attempt = self.attempts.pop_front()?;
        let timeout = self.patience.timeout.min(left);
        self.open = Some(Open { attempt, id, strays: 0, timeout });
        let message = self.question.to_message(id, attempt.dialect);
        Some(Ask { server: attempt.server, carrier: attempt.carrier, message, timeout })
    }

    /// Bytes came from the server, or from somebody who writes in its name.
    pub fn handle_message(&mut self, bytes: &[u8]) -> Received {
        let Some(mut open) = self.open.take() else {
            return Received::Stray;
        };
        let response = match Response::read(bytes, open.id, &self.question) {
            Ok(response) => response,
            Err(Unread::Stray) if open.attempt.carrier == Carrier::Udp => {
                open.strays += 1;
                if open.strays <= limits::dns::STRAYS_MAX {
                    self.open = Some(open);
                    return Received::Stray;
                }
                self.attempts.push_front(Attempt { carrier: Carrier::Tcp, ..open.attempt });
                return Received::Taken;
            }
            Err(_) => {
                self.strike(open.attempt.server, "sent what is no answer".to_owned());
                return Received::Taken;
            }
        };
        self.take_response(response, open.attempt);
        Received::Taken
    }

    /// Nothing came in time.
    pub fn handle_silence(&mut self) {
        if let Some(open) = self.open.take() {
            let seconds = open.timeout.as_secs_f32().ceil();
            let by = if open.attempt.carrier == Carrier::Tcp { " by TCP" } else { "" };
            self.note(open.attempt.server, format!("gave no answer{by} in {seconds} s"));
        }
    }

    /// The server cannot be reached, as the system says.
    pub fn handle_error(&mut self, error: &str) {
        if let Some(open) = self.open.take() {
            self.strike(open.attempt.server, format!("cannot be reached ({error})"));
        }
    }

    /// What was found out, when there is nothing left to ask; or who said what.
    pub fn into_answer(self) -> Result<Answer, String> {
        if let Some(answer) = self.answer {
            return Ok(answer);
        }
        let words: Vec<String> =
            self.words.iter().map(|(server, words)| format!("{server} {words}")).collect();
        Err(format!("{}: {}", self.subject, words.join("; ")))
    }

    fn take_response(&mut self, response: Response, attempt: Attempt) {
        if response.is_truncated {
            match attempt.carrier {
                Carrier::Udp => self.attempts.push_front(Attempt { carrier: Carrier::Tcp, ..attempt }),
                Carrier::Tcp => self.strike(attempt.server, "cut its answer short by TCP".to_owned()),
            }
            return;
        }
        // Over a network anybody could have set the bit.
        let is_authentic = response.is_authentic && attempt.server.ip().is_loopback();
        match answer::read(response, &self.question) {
            Reading::Answered(answer) => {
                let ttl_s = answer.ttl_s.map(|ttl_s| ttl_s.min(self.ttl_s));
                let is_authentic = self.is_authentic && is_authentic;
                self.answer = Some(Answer { is_authentic, ttl_s, ..answer });
            }
            Reading::Alias { target, hops, ttl_s } => {
                self.is_authentic &= is_authentic;
                self.ttl_s = self.ttl_s.min(ttl_s);
                self.aliases += hops;
                self.question.name = target;
                self.follow_alias(attempt.server);
            }
            // RFC 6891 7: a server from before EDNS.
            Reading::NotUnderstood if attempt.dialect == Dialect::Extended => {
                self.attempts.push_front(Attempt { dialect: Dialect::Plain, ..attempt });
            }
            Reading::NotUnderstood => self.strike(attempt.server, "does not understand the query".to_owned()),
            Reading::Useless(words) => self.strike(attempt.server, words),
        }
    }

    /// Begins anew with the question that the alias makes, at the server that told it.
    fn follow_alias(&mut self, server: SocketAddr) {
        if self.aliases > limits::dns::ALIASES_MAX {
            self.note(server, format!("gave more than {} aliases in a row", limits::dns::ALIASES_MAX));
            self.attempts.clear();
            return;
        }
        self.servers.sort_by_key(|other| *other != server);
        self.plan();
    }

    fn plan(&mut self) {
        let attempt = |server: &SocketAddr| Attempt {
            server: *server,
            carrier: Carrier::Udp,
            dialect: Dialect::Extended,
        };
        let rounds = (0..self.patience.attempts).flat_map(|_| self.servers.iter().map(attempt));
        self.attempts = rounds.collect();
    }

    /// Has enough of `server`.
    fn strike(&mut self, server: SocketAddr, words: String) {
        self.attempts.retain(|attempt| attempt.server != server);
        self.note(server, words);
    }

    fn note(&mut self, server: SocketAddr, words: String) {
        self.words.retain(|(other, _)| *other != server);
        self.words.push((server, words));
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;
    use std::time::Duration;

    use hickory_proto::op::{Message, ResponseCode};
    use proptest::prelude::{any, prop, proptest};

    use super::{Ask, Carrier, Lookup, Patience, Received};
    use crate::limits;
    use crate::mail::time::Instant;
    use crate::proto::dns::test_wire::{answered, bytes, question, response};
    use crate::proto::dns::{Answer, Found, Kind, Question};

    const PATIENCE: Patience = Patience { timeout: Duration::from_secs(5), attempts: 2 };
    const ONE: &str = "127.0.0.1:53";
    const TWO: &str = "192.0.2.2:53";

    /// A lookup of the MX records of a.test, the number of queries so far, and the clock.
    struct Case {
        lookup: Lookup,
        question: Question,
        id: u16,
        now: Instant,
    }

    impl Case {
        fn begin() -> Self {
            let question = question("a.test", Kind::Mx);
            let servers: Vec<SocketAddr> = [ONE, TWO].map(|text| text.parse().unwrap()).to_vec();
            let lookup = Lookup::new(question.clone(), servers, PATIENCE, Instant(0));
            Self { lookup, question, id: 0, now: Instant(0) }
        }

        fn poll(&mut self) -> Option<Ask> {
            self.id += 1;
            let ask = self.lookup.poll_ask(self.id, self.now)?;
            let asked = Message::from_vec(&ask.message).unwrap();
            assert_eq!((asked.metadata.id, &asked.queries[0].name), (self.id, &self.question.name));
            Some(ask)
        }

        /// The next query goes to `server` by `carrier`.
        fn expect(&mut self, server: &str, carrier: Carrier) -> Ask {
            let ask = self.poll().expect("there is a query");
            assert_eq!((ask.server.to_string().as_str(), ask.carrier), (server, carrier));
            ask
        }

        fn say(&mut self, code: ResponseCode) {
            let message = bytes(&response(self.id, &self.question, code));
            assert_eq!(self.lookup.handle_message(&message), Received::Taken);
        }

        fn answer(&mut self, answers: &[&str], authorities: &[&str]) {
            let mut message = answered(self.id, &self.question, answers, authorities);
            message.metadata.authentic_data = true;
            assert_eq!(self.lookup.handle_message(&bytes(&message)), Received::Taken);
        }

        fn truncate(&mut self) {
            let mut message = response(self.id, &self.question, ResponseCode::NoError);
            message.metadata.truncation = true;
            assert_eq!(self.lookup.handle_message(&bytes(&message)), Received::Taken);
        }

        fn end(mut self) -> Result<Answer, String> {
            assert_eq!(self.poll(), None);
            self.lookup.into_answer()
        }
    }

    #[test]
    fn one_query_one_answer() {
        let mut case = Case::begin();
        let ask = case.expect(ONE, Carrier::Udp);
        assert_eq!(ask.timeout, PATIENCE.timeout);
        case.answer(&["a.test 60 MX 1 m.test"], &[]);
        let answer = case.end().unwrap();
        assert!(matches!(answer.found, Found::Data(_)));
        assert_eq!((answer.ttl_s, answer.is_authentic), (Some(60), true));
    }

    /// The bit is worth nothing from a server that is not on this machine.
    #[test]
    fn only_this_machine_vouches_for_answers() {
        let mut case = Case::begin();
        case.expect(ONE, Carrier::Udp);
        case.say(ResponseCode::ServFail);
        case.expect(TWO, Carrier::Udp);
        case.answer(&["a.test 60 MX 1 m.test"], &[]);
        assert!(!case.end().unwrap().is_authentic);
    }

    #[test]
    fn silent_servers_are_asked_in_each_round_and_others_once() {
        let mut case = Case::begin();
        for server in [ONE, TWO] {
            case.expect(server, Carrier::Udp);
            case.lookup.handle_silence();
        }
        case.expect(ONE, Carrier::Udp);
        case.say(ResponseCode::Refused);
        case.expect(TWO, Carrier::Udp);
        case.lookup.handle_silence();
        assert_eq!(
            case.end().unwrap_err(),
            "MX of a.test: 127.0.0.1:53 said REFUSED; 192.0.2.2:53 gave no answer in 5 s"
        );
    }

    #[test]
    fn a_server_that_failed_is_not_asked_again() {
        let mut case = Case::begin();
        case.expect(ONE, Carrier::Udp);
        case.lookup.handle_error("Connection refused");
        case.expect(TWO, Carrier::Udp);
        case.say(ResponseCode::ServFail);
        assert_eq!(
            case.end().unwrap_err(),
            "MX of a.test: 127.0.0.1:53 cannot be reached (Connection refused); 192.0.2.2:53 said SERVFAIL"
        );
    }

    #[test]
    fn the_name_that_does_not_exist_is_asked_for_once() {
        let mut case = Case::begin();
        case.expect(ONE, Carrier::Udp);
        case.say(ResponseCode::NXDomain);
        assert_eq!(case.end().unwrap().found, Found::NoSuchName);
    }

    #[test]
    fn a_truncated_answer_is_asked_for_by_tcp() {
        let mut case = Case::begin();
        case.expect(ONE, Carrier::Udp);
        case.truncate();
        case.expect(ONE, Carrier::Tcp);
        case.truncate();
        case.expect(TWO, Carrier::Udp);
        case.truncate();
        case.expect(TWO, Carrier::Tcp);
        case.lookup.handle_silence();
        case.expect(TWO, Carrier::Udp);
        case.answer(&[], &["test 60 SOA 60"]);
        assert_eq!(case.end().unwrap().found, Found::Nothing);
    }

    #[test]
    fn a_server_from_before_edns_gets_a_plain_query() {
        let mut case = Case::begin();
        let extended = case.expect(ONE, Carrier::Udp);
        case.say(ResponseCode::FormErr);
        let plain = case.expect(ONE, Carrier::Udp);
        assert!(plain.message.len() < extended.message.len());
        case.say(ResponseCode::NotImp);
        case.expect(TWO, Carrier::Udp);
        case.say(ResponseCode::ServFail);
        assert!(case.end().unwrap_err().contains("127.0.0.1:53 does not understand the query"));
    }

    /// SA-13: whoever guesses numbers is not heard, and soon there is nothing to guess.
    #[test]
    fn strays_are_passed_over_and_many_lead_to_tcp() {
        let mut case = Case::begin();
        case.expect(ONE, Carrier::Udp);
        let forged = bytes(&answered(999, &case.question, &["a.test 60 MX 1 evil.test"], &[]));
        for _ in 0..limits::dns::STRAYS_MAX {
            assert_eq!(case.lookup.handle_message(&forged), Received::Stray);
        }
        assert_eq!(case.lookup.handle_message(&forged), Received::Taken);
        case.expect(ONE, Carrier::Tcp);
        assert_eq!(case.lookup.handle_message(&forged), Received::Taken);
        assert_eq!(case.lookup.handle_message(&forged), Received::Stray);
        case.expect(TWO, Carrier::Udp);
        case.answer(&["a.test 60 MX 1 m.test"], &[]);
        assert!(case.end().is_ok());
    }

    #[test]
    fn an_alias_that_leads_out_of_the_answer_is_followed() {
        let mut case = Case::begin();
        case.expect(ONE, Carrier::Udp);
        case.lookup.handle_silence();
        case.expect(TWO, Carrier::Udp);
        case.answer(&["a.test 30 CNAME b.test", "b.test 20 CNAME c.example"], &[]);
        case.question = question("c.example", Kind::Mx);
        // Who told of it is asked first, then everybody.
        case.expect(TWO, Carrier::Udp);
        case.lookup.handle_silence();
        case.expect(ONE, Carrier::Udp);
        case.answer(&["c.example 60 MX 1 m.test"], &[]);
        let answer = case.end().unwrap();
        assert_eq!((answer.ttl_s, answer.is_authentic), (Some(20), false));
    }

    /// SA-13: an alias in each answer, for ever.
    #[test]
    fn aliases_end() {
        let mut case = Case::begin();
        for index in 0..=limits::dns::ALIASES_MAX {
            case.expect(ONE, Carrier::Udp);
            let owner = case.question.text();
            let target = format!("c{index}.test");
            case.answer(&[&format!("{owner} 60 CNAME {target}")], &[]);
            case.question = question(&target, Kind::Mx);
        }
        let words = format!("gave more than {} aliases in a row", limits::dns::ALIASES_MAX);
        assert_eq!(case.end().unwrap_err(), format!("MX of a.test: {ONE} {words}"));
    }

    #[test]
    fn a_lookup_ends_by_its_deadline() {
        let mut case = Case::begin();
        case.expect(ONE, Carrier::Udp);
        case.now = Instant(18_000);
        case.lookup.handle_silence();
        assert_eq!(case.expect(TWO, Carrier::Udp).timeout, Duration::from_secs(2));
        case.now = Instant(20_000);
        case.lookup.handle_silence();
        assert!(case.end().is_err());
    }

    proptest! {
        /// Whatever servers say, and however late, a lookup ends, and says why.
        #[test]
        fn lookups_end(script in prop::collection::vec(0_u8..8, 1..40), noise in prop::collection::vec(any::<u8>(), 0..64)) {
            let mut case = Case::begin();
            let mut count = 0;
            for event in script.iter().cycle() {
                if case.poll().is_none() {
                    break;
                }
                count += 1;
                match event {
                    0 => case.lookup.handle_silence(),
                    1 => case.lookup.handle_error("gone"),
                    2 => case.truncate(),
                    3 => case.say(ResponseCode::FormErr),
                    4 => case.say(ResponseCode::ServFail),
                    5 => {
                        let target = format!("c{count}.test");
                        case.answer(&[&format!("{} 60 CNAME {target}", case.question.text())], &[]);
                        case.question = question(&target, Kind::Mx);
                    }
                    _ => while case.lookup.handle_message(&noise) == Received::Stray {},
                }
                // Aliases, servers, rounds; each by two carriers in two dialects.
                assert!(count <= (limits::dns::ALIASES_MAX + 1) * 2 * 2 * 4);
            }
            let why = case.lookup.into_answer().unwrap_err();
            assert!(why.starts_with("MX of a.test: 1"), "{why}");
        }
    }
}
