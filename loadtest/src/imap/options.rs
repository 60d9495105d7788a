//! imaptest's spelling: `key=value` words, and `state=percent[,percent2]`.
//!
//! What imaptest knows and this does not is refused by name rather than taken without effect. Three of its switches
//! are always on here, and taken: a client changes only messages that it owns (`own_msgs`), everything that can be
//! checked is checked (`checkpoint`), and a client has one command under way (`no_pipelining`).

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

/// What a client does next, in the order in which it considers them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum State {
    Login,
    List,
    Status,
    Select,
    Uidfetch,
    Fetch,
    Fetch2,
    Search,
    Copy,
    Store,
    Delete,
    Expunge,
    Append,
    Noop,
    Idle,
    Check,
    Logout,
}

/// How likely a state is, in percent, and how likely it is done once more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chance {
    pub percent: u32,
    pub again: u32,
}

struct StateRow {
    state: State,
    name: &'static str,
    short: &'static str,
    chance: Chance,
}

const fn row(state: State, name: &'static str, short: &'static str, percent: u32, again: u32) -> StateRow {
    StateRow { state, name, short, chance: Chance { percent, again } }
}

/// Names and default percentages as imaptest has them.
const STATES: [StateRow; 17] = [
    row(State::Login, "LOGIN", "Logi", 100, 0),
    row(State::List, "LIST", "List", 50, 0),
    row(State::Status, "STATUS", "Stat", 50, 0),
    row(State::Select, "SELECT", "Sele", 100, 0),
    row(State::Uidfetch, "UIDFETCH", "UIDF", 0, 0),
    row(State::Fetch, "FETCH", "Fetc", 100, 0),
    row(State::Fetch2, "FETCH2", "Fet2", 100, 30),
    row(State::Search, "SEARCH", "Sear", 0, 0),
    row(State::Copy, "COPY", "Copy", 33, 5),
    row(State::Store, "STORE", "Stor", 50, 0),
    row(State::Delete, "DELETE", "Dele", 100, 0),
    row(State::Expunge, "EXPUNGE", "Expu", 100, 0),
    row(State::Append, "APPEND", "Appe", 100, 5),
    row(State::Noop, "NOOP", "Noop", 0, 0),
    row(State::Idle, "IDLE", "Idle", 0, 0),
    row(State::Check, "CHECK", "Chec", 0, 0),
    row(State::Logout, "LOGOUT", "Logo", 100, 0),
];

impl State {
    pub const COUNT: usize = STATES.len();

    pub fn all() -> impl Iterator<Item = Self> {
        STATES.iter().map(|row| row.state)
    }

    /// In their order.
    pub fn at(place: usize) -> Self {
        STATES[place].state
    }

    pub fn name(self) -> &'static str {
        STATES[self as usize].name
    }

    fn named(word: &str) -> Option<Self> {
        let known =
            |row: &&StateRow| row.name.eq_ignore_ascii_case(word) || row.short.eq_ignore_ascii_case(word);
        STATES.iter().find(known).map(|row| row.state)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Security {
    Plain,
    /// TLS from the first byte; the certificate is not looked at, since it is seldom a test's subject.
    Tls,
}

/// What was asked for.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    pub host: String,
    pub port: u16,
    /// With `%d` for the number of the user and, a second time, of the domain.
    pub user: String,
    pub pass: String,
    pub users: usize,
    pub domains: usize,
    pub mailbox: String,
    pub copy_to: Option<String>,
    pub clients: usize,
    /// About how many messages a mailbox is to hold.
    pub messages: usize,
    pub message_bytes: usize,
    pub duration: Duration,
    pub seed: u64,
    pub security: Security,
    pub chances: [Chance; State::COUNT],
    pub order: Order,
    pub tracking: Tracking,
    pub on_error: OnError,
    /// Commands a second of all clients together, on a schedule that does not wait; none: as fast as answered.
    pub rate: Option<f64>,
    pub profile: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    InTurn,
    Random,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tracking {
    Full,
    Off,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnError {
    Count,
    Quit,
}

/// A word that was not understood.
#[derive(Debug, PartialEq, Eq)]
pub struct BadOption {
    pub word: String,
    pub reason: String,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            host: "127.0.0.1".to_owned(),
            port: 143,
            user: "user%d".to_owned(),
            pass: String::new(),
            users: 100,
            domains: 100,
            mailbox: "INBOX".to_owned(),
            copy_to: None,
            clients: 10,
            messages: 30,
            message_bytes: 2048,
            duration: Duration::from_secs(60),
            seed: 1,
            security: Security::Plain,
            chances: STATES.map(|row| row.chance),
            order: Order::InTurn,
            tracking: Tracking::Full,
            on_error: OnError::Count,
            rate: None,
            profile: None,
        }
    }
}

impl Options {
    pub fn parse<'a>(words: impl IntoIterator<Item = &'a str>) -> Result<Self, BadOption> {
        let mut options = Self::default();
        for word in words {
            let taken = match word.split_once('=') {
                _ if word == "-" => {
                    options.switch_off();
                    Ok(())
                }
                Some((key, value)) => options.set(key, value),
                None => options.switch_on(word),
            };
            taken.map_err(|reason| BadOption { word: word.to_owned(), reason })?;
        }
        Ok(options)
    }

    pub fn chance(&self, state: State) -> Chance {
        self.chances[state as usize]
    }

    /// The name of user `number`, from 1.
    pub fn user_name(&self, number: usize) -> String {
        let mut name = self.user.replacen("%d", &number.to_string(), 1);
        if name.contains("%d") {
            let domain = (number - 1) % self.domains.max(1) + 1;
            name = name.replace("%d", &domain.to_string());
        }
        name
    }

    /// `-`: only what every session needs is left.
    fn switch_off(&mut self) {
        for state in State::all() {
            if !matches!(state, State::Login | State::Select | State::Logout) {
                self.chances[state as usize] = Chance { percent: 0, again: 0 };
            }
        }
    }

    fn switch_on(&mut self, word: &str) -> Result<(), String> {
        match word {
            "no_pipelining" | "own_msgs" | "own_flags" => Ok(()),
            "no_tracking" => {
                self.tracking = Tracking::Off;
                Ok(())
            }
            "random" => {
                self.order = Order::Random;
                Ok(())
            }
            "error_quit" | "disconnect_quit" => {
                self.on_error = OnError::Quit;
                Ok(())
            }
            "ssl" => {
                self.security = Security::Tls;
                Ok(())
            }
            "qresync" | "imap4rev2" | "rawlog" => Err("imaptest knows it, this does not".to_owned()),
            _ => Err("neither key=value nor a switch".to_owned()),
        }
    }

    fn set(&mut self, key: &str, value: &str) -> Result<(), String> {
        match key {
            "host" => value.clone_into(&mut self.host),
            "port" => self.port = number(value)?,
            "user" => value.clone_into(&mut self.user),
            "pass" => value.clone_into(&mut self.pass),
            "users" => self.users = at_least_one(value)?,
            "domains" => self.domains = at_least_one(value)?,
            "box" => value.clone_into(&mut self.mailbox),
            "copybox" => self.copy_to = Some(value.to_owned()),
            "clients" => self.clients = at_least_one(value)?,
            "msgs" => self.messages = number(value)?,
            "random_msg_size" => self.message_bytes = number(value)?,
            "secs" => self.duration = Duration::from_secs(number(value)?),
            "seed" => self.seed = number(value)?,
            "rate" => self.rate = Some(rate(value)?),
            "profile" => self.profile = Some(PathBuf::from(value)),
            "checkpoint" => {
                let _: u64 = number(value)?;
            }
            "mbox" => return Err("messages are made, see random_msg_size".to_owned()),
            "mech" | "master" | "userfile" | "test" | "stalled_disconnect_timeout" | "results_output" => {
                return Err("imaptest knows it, this does not".to_owned());
            }
            _ => return self.set_state_or_switch(key, value),
        }
        Ok(())
    }

    fn set_state_or_switch(&mut self, key: &str, value: &str) -> Result<(), String> {
        let Some(state) = State::named(key) else {
            // imaptest takes any value for a switch.
            return self.switch_on(key).map_err(|_| "neither an option nor a state".to_owned());
        };
        let (percent, again) = value.split_once(',').unwrap_or((value, "0"));
        self.chances[state as usize] = Chance { percent: percentage(percent)?, again: percentage(again)? };
        Ok(())
    }
}

fn number<T: std::str::FromStr>(value: &str) -> Result<T, String> {
    value.parse().map_err(|_| format!("{value} is no number in range"))
}

fn at_least_one(value: &str) -> Result<usize, String> {
    match number(value)? {
        0 => Err("at least one".to_owned()),
        count => Ok(count),
    }
}

fn rate(value: &str) -> Result<f64, String> {
    let rate: f64 = number(value.trim_end_matches("/s"))?;
    (rate.is_finite() && rate > 0.0).then_some(rate).ok_or_else(|| "a rate above zero".to_owned())
}

fn percentage(value: &str) -> Result<u32, String> {
    match number(value.trim_end_matches('%'))? {
        percent @ 0..=100 => Ok(percent),
        _ => Err("a percentage is at most 100".to_owned()),
    }
}

impl fmt::Display for BadOption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.word, self.reason)
    }
}

impl std::error::Error for BadOption {}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Options, BadOption> {
        Options::parse(line.split_whitespace())
    }

    #[test]
    fn a_line_for_imaptest_means_the_same() {
        let options = parse(
            "host=127.0.0.2 port=1143 user=u%d@d%d.test pass=x users=5 domains=2 clients=50 msgs=100 secs=9 \
             seed=3 box=Work copybox=Trash ssl=any-cert no_pipelining random_msg_size=4096",
        )
        .expect("the line is right");
        assert_eq!((options.port, options.users, options.clients, options.messages), (1143, 5, 50, 100));
        assert_eq!((options.mailbox.as_str(), options.copy_to.as_deref()), ("Work", Some("Trash")));
        assert_eq!((options.security, options.message_bytes), (Security::Tls, 4096));
        assert_eq!(options.user_name(3), "u3@d1.test");
        assert_eq!(options.user_name(4), "u4@d2.test");
        assert_eq!(options.chance(State::Fetch2), Chance { percent: 100, again: 30 });
    }

    #[test]
    fn a_dash_leaves_what_a_session_needs() {
        let options = parse("- append=100,0 Fet2=30% logo=0").expect("the line is right");
        let on: Vec<_> = State::all().filter(|state| options.chance(*state).percent > 0).collect();
        assert_eq!(on, [State::Login, State::Select, State::Fetch2, State::Append]);
        assert_eq!(options.chance(State::Fetch2), Chance { percent: 30, again: 0 });
        // Later words count, earlier ones do not survive the dash.
        let off = parse("append=100 -").expect("the line is right");
        assert_eq!(off.chance(State::Append).percent, 0);
    }

    #[test]
    fn rows_stand_where_their_states_say() {
        for (index, state) in State::all().enumerate() {
            assert_eq!(state as usize, index);
            assert_eq!(State::named(STATES[index].short), Some(state));
        }
    }

    #[test]
    fn what_would_have_no_effect_is_refused() {
        for line in
            ["qresync", "mbox=x", "append=101", "append=1,x", "port=99999", "clients=0", "nonsense", "a=b"]
        {
            assert!(parse(line).is_err(), "{line}");
        }
    }
}
