//! The grammar of `ringpost queue`, and what its filters select.

use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};

use crate::admin::cli::Place;
use crate::admin::failure::Failure;
use crate::admin::span;
use crate::config::domain_name;
use crate::mail::address::{Address, literal_address};
use crate::queue::selection::{Selection, State};
use crate::store::MessageId;

#[derive(Subcommand, Debug)]
pub enum QueueCommand {
    /// List the messages that wait, the oldest first
    ///
    /// One line for each recipient that is still owed a copy: id, age, size, state, attempts, when the next is, sender
    /// and recipient, and why it waits. Without filters it lists everything.
    #[command(after_long_help = "\
States:
  ready     it may go; the reason says what its destination waits for
  deferred  it was tried and waits for its next attempt, or its sender wants it kept until later
  active    its site has it, and sends it as soon as a connection and the limits allow
  held      an operator keeps it

Examples:
  ringpost queue list
  ringpost queue list --domain example.org --state deferred --count 0
  ringpost queue list --sender @news.example.org --older 2h --json | jq -r .recipient")]
    List {
        #[command(flatten)]
        filters: Filters,
        /// The most messages to list; 0 is all
        #[arg(long, value_name = "N", default_value_t = 100)]
        count: u64,
        /// Print JSON, one object a line
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        place: Place,
    },
    /// Show everything about one message: envelope, each recipient's state, the last answers, the header
    Show {
        /// The message's id, as in `queue list`, in the event log and in Received fields
        #[arg(value_name = "ID", value_parser = message_id)]
        id: String,
        /// Print JSON
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        place: Place,
    },
    /// Count what waits, destination by destination, the longest queue first
    ///
    /// Each line has the destination, its recipients in all and by state, the age of the oldest message, when the next
    /// deferred one is due, why the queue does not move, and the site that its mail goes to.
    #[command(after_long_help = "\
Examples:
  ringpost queue summary
  ringpost queue summary --tenant acme --json")]
    Summary {
        #[command(flatten)]
        filters: Filters,
        /// Print JSON, one object a line
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        place: Place,
    },
    /// Watch the sites that are being sent to, refreshed every second; q ends it
    ///
    /// Each line has a site, its connections and those that carry a message, the messages that it has fetched, the
    /// recipients that were delivered, deferred and failed in the last second, and what it waits for. With --once, and
    /// where the output is no terminal, one table with the sums since the site is being sent to.
    ///
    /// It needs the running server.
    Top {
        /// Print one table and end
        #[arg(long)]
        once: bool,
        /// Print JSON, one object a line, and end
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        place: Place,
    },
    /// Try messages now, not when they are due
    ///
    /// A site that is left alone after failures is tried at once, and its hosts are looked up again. The schedule goes
    /// on from there. Held messages stay held, and messages that their senders want to leave later (FUTURERELEASE) wait
    /// for that.
    #[command(after_long_help = "\
Examples:
  ringpost queue retry 00010000002A
  ringpost queue retry --domain example.org
  ringpost queue retry --everything")]
    Retry {
        #[command(flatten)]
        filters: Filters,
        #[command(flatten)]
        place: Place,
    },
    /// Keep messages until they are released, through restarts too
    ///
    /// They are neither sent nor returned, however old they get.
    #[command(after_long_help = "\
Example:
  ringpost queue hold --sender @news.example.org --reason 'is this spam?'")]
    Hold {
        #[command(flatten)]
        filters: Filters,
        /// Shown by `queue list` and `queue show`
        #[arg(long, value_name = "TEXT")]
        reason: Option<String>,
        #[command(flatten)]
        place: Place,
    },
    /// Let held messages go
    ///
    /// Their age counts from now on.
    Release {
        #[command(flatten)]
        filters: Filters,
        #[command(flatten)]
        place: Place,
    },
    /// Return messages to their senders
    ///
    /// Each sender gets a notification with the reason. With --duration, messages that come meanwhile and match are
    /// returned too; `queue suspend --list` shows such orders and `queue resume` ends them. They stand
    /// through restarts.
    #[command(after_long_help = "\
Examples:
  ringpost queue bounce 00010000002A --reason 'sent by mistake'
  ringpost queue bounce --domain exmaple.org --reason 'there is no such domain' --duration 1d")]
    Bounce {
        #[command(flatten)]
        filters: Filters,
        /// What the senders are told
        #[arg(long, value_name = "TEXT")]
        reason: String,
        /// Return what comes in this time, too
        #[arg(long, value_name = "SPAN", value_parser = span::parse)]
        duration: Option<Duration>,
        #[command(flatten)]
        place: Place,
    },
    /// Send nothing of what matches for a time
    ///
    /// What comes meanwhile waits too, and what is being sent comes to its end. Messages age as always. The time ends
    /// by itself or by `queue resume`; a restart does not end it. To keep messages for as long as you like, and without
    /// their growing old, hold them.
    #[command(after_long_help = "\
Examples:
  ringpost queue suspend --domain example.org --duration 1h --reason 'they asked for it'
  ringpost queue suspend --tenant acme
  ringpost queue suspend --list
  ringpost queue resume --domain example.org")]
    Suspend {
        #[command(flatten)]
        filters: StandingFilters,
        /// How long
        #[arg(long, value_name = "SPAN", default_value = "5m", value_parser = span::parse)]
        duration: Duration,
        /// Shown by `queue list`, `queue summary` and `queue suspend --list`
        #[arg(long, value_name = "TEXT", default_value = "by an operator")]
        reason: String,
        /// List what is suspended, and what is returned by `queue bounce --duration`
        #[arg(long)]
        list: bool,
        /// Print JSON, one object a line
        #[arg(long, requires = "list")]
        json: bool,
        #[command(flatten)]
        place: Place,
    },
    /// End a suspension before its time; what it kept back is sent at once
    ///
    /// By its number, or by filters: all suspensions that were made with these.
    #[command(after_long_help = "\
Examples:
  ringpost queue resume 3
  ringpost queue resume --domain example.org
  ringpost queue resume --everything")]
    Resume {
        /// The number that `queue suspend` printed
        #[arg(value_name = "NUMBER")]
        id: Option<u64>,
        #[command(flatten)]
        filters: StandingFilters,
        #[command(flatten)]
        place: Place,
    },
    /// Send messages to another destination: its routes and MX records in place of the recipients' domain
    ///
    /// The recipients stay as they are. The new way is tried at once.
    #[command(after_long_help = "\
Example:
  ringpost queue rebind --domain example.org --to backup.example.net")]
    Rebind {
        #[command(flatten)]
        filters: Filters,
        /// A domain, or an address such as [192.0.2.1]
        #[arg(long, value_name = "DESTINATION", value_parser = destination)]
        to: String,
        #[command(flatten)]
        place: Place,
    },
    /// Say how mail for an address goes: route, MX records and addresses, site, pool, limits, retries, and what holds
    /// it up
    ///
    /// The name servers are asked for it now.
    #[command(after_long_help = "\
Example:
  ringpost queue explain bob@example.org --sender news@example.net --tenant acme")]
    Explain {
        /// The recipient
        #[arg(value_name = "ADDRESS", value_parser = address)]
        recipient: String,
        /// The sender, where routes mind it
        #[arg(long, value_name = "ADDRESS", value_parser = address)]
        sender: Option<String>,
        /// The tenant, where routes mind it
        #[arg(long, value_name = "NAME")]
        tenant: Option<String>,
        #[command(flatten)]
        place: Place,
    },
}

/// Which messages. All that is given must match.
#[derive(Args, Clone, Debug, Default)]
pub struct Filters {
    /// Messages with these ids
    #[arg(value_name = "ID", value_parser = message_id)]
    pub ids: Vec<String>,
    #[command(flatten)]
    pub standing: StandingFilters,
    /// To this address, or to @DOMAIN as it was written
    #[arg(long, value_name = "ADDRESS", value_parser = pattern)]
    pub recipient: Option<String>,
    /// In this state
    #[arg(long, value_name = "STATE")]
    pub state: Option<StateName>,
    /// That came, or was released, at least so long ago, such as 5m, 2h or 1d
    #[arg(long, value_name = "SPAN", value_parser = span::parse)]
    pub older: Option<Duration>,
    /// That came, or was released, at most so long ago
    #[arg(long, value_name = "SPAN", value_parser = span::parse)]
    pub younger: Option<Duration>,
}

/// Filters by what does not change while a message waits.
#[derive(Args, Clone, Debug, Default)]
pub struct StandingFilters {
    /// To this domain, or rebound to it
    #[arg(long, value_name = "DOMAIN", value_parser = destination)]
    pub domain: Option<String>,
    /// For this site, by the name that `queue summary` shows; needs the running server
    ///
    /// Meant are destinations whose mail goes there if nothing but the destination decides. Where routes or limits are
    /// for some senders or tenants alone, the mail of those at other sites is selected with the destination; say
    /// --tenant or --sender, too.
    #[arg(long, value_name = "SITE")]
    pub site: Option<String>,
    /// Of this tenant
    #[arg(long, value_name = "NAME")]
    pub tenant: Option<String>,
    /// Of this campaign
    #[arg(long, value_name = "NAME")]
    pub campaign: Option<String>,
    /// From this address, from @DOMAIN, or from '<>'
    #[arg(long, value_name = "ADDRESS", value_parser = sender_pattern)]
    pub sender: Option<String>,
    /// All of them
    #[arg(long)]
    pub everything: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum StateName {
    Ready,
    Deferred,
    Active,
    Held,
}

impl Filters {
    pub fn selection(self) -> Selection {
        let Self { ids, standing, recipient, state, older, younger } = self;
        let state = state.map(|state| match state {
            StateName::Ready => State::Ready,
            StateName::Deferred => State::Deferred,
            StateName::Active => State::Active,
            StateName::Held => State::Held,
        });
        let (older_s, younger_s) = (older.map(|span| span.as_secs()), younger.map(|span| span.as_secs()));
        Selection { ids, recipient, state, older_s, younger_s, ..standing.selection() }
    }

    /// For an order: a selection that names nothing is refused.
    pub fn meant(self) -> Result<Selection, Failure> {
        meant(self.selection())
    }

    /// For an order that stands: of what may come.
    pub fn standing(self) -> Result<Selection, Failure> {
        let selection = self.meant()?;
        let is_fixed = selection.ids.is_empty()
            && selection.state.is_none()
            && selection.older_s.is_none()
            && selection.younger_s.is_none();
        match is_fixed {
            true => Ok(selection),
            false => Err(Failure::wrong(
                "--duration is about mail that comes: ids, --state, --older and --younger do not go with it",
            )),
        }
    }
}

impl StandingFilters {
    pub fn selection(self) -> Selection {
        let Self { domain, site, tenant, campaign, sender, everything } = self;
        Selection { domain, site, tenant, campaign, sender, everything, ..Selection::default() }
    }

    pub fn meant(self) -> Result<Selection, Failure> {
        meant(self.selection())
    }
}

fn meant(selection: Selection) -> Result<Selection, Failure> {
    match selection.is_empty() {
        true => Err(Failure::wrong(
            "say which messages: ids, filters such as --domain or --sender, or --everything for all of them",
        )),
        false => Ok(selection),
    }
}

fn message_id(text: &str) -> Result<String, String> {
    match MessageId::parse(text) {
        Some(id) => Ok(id.to_string()),
        None => Err("not a message's id, such as 00010000002A".to_owned()),
    }
}

fn destination(text: &str) -> Result<String, String> {
    match literal_address(text) {
        Some(_) => Ok(text.to_ascii_lowercase()),
        None => domain_name(text).map_err(str::to_owned),
    }
}

fn address(text: &str) -> Result<String, String> {
    match Address::parse(text) {
        Ok(_) => Ok(text.to_owned()),
        Err(_) => Err("not an address of the form user@domain".to_owned()),
    }
}

fn pattern(text: &str) -> Result<String, String> {
    match text.strip_prefix('@') {
        Some(domain) if !domain.is_empty() => Ok(text.to_owned()),
        _ => address(text).map_err(|_| "neither an address nor @DOMAIN".to_owned()),
    }
}

fn sender_pattern(text: &str) -> Result<String, String> {
    match text {
        "<>" | "" => Ok("<>".to_owned()),
        _ => pattern(text).map_err(|_| "neither an address nor @DOMAIN nor <>".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Filters, StandingFilters, destination, message_id, pattern, sender_pattern};
    use crate::queue::selection::Selection;

    #[test]
    fn arguments_in_their_own_form() {
        assert_eq!(message_id("00010000002a").as_deref(), Ok("00010000002A"));
        assert!(message_id("12").is_err());
        assert_eq!(destination("Bücher.Example.").as_deref(), Ok("xn--bcher-kva.example"));
        assert_eq!(destination("[192.0.2.1]").as_deref(), Ok("[192.0.2.1]"));
        assert!(destination("a b").is_err());
        assert_eq!(sender_pattern("").as_deref(), Ok("<>"));
        for (text, is_pattern) in
            [("@example.org", true), ("a@example.org", true), ("@", false), ("a", false)]
        {
            assert_eq!(pattern(text).is_ok(), is_pattern, "{text}");
        }
    }

    #[test]
    fn orders_want_to_be_told_for_what() {
        assert!(Filters::default().meant().is_err());
        assert_eq!(Filters::default().selection(), Selection::default());
        let everything = Filters {
            standing: StandingFilters { everything: true, ..Default::default() },
            ..Default::default()
        };
        assert_eq!(everything.clone().meant().unwrap(), Selection::all());
        assert!(everything.clone().standing().is_ok());
        let older = Filters { older: Some(Duration::from_secs(5)), ..everything };
        assert_eq!(older.clone().meant().unwrap().older_s, Some(5));
        assert!(older.standing().is_err());
    }
}
