//! The command line: its grammar, which is also its manual.
//!
//! Each command is a struct whose doc comments are its help; the man pages are printed from the same
//! ([`crate::admin::manual`]). Families of commands live in files of their own beside this one.

use std::env;
use std::num::{NonZeroU64, NonZeroUsize};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum};

use crate::admin::failure::Failure;
use crate::admin::offline::OpenStore;
use crate::admin::queue::QueueCommand;
use crate::admin::{accounts, backup, events, init, manual, queue, sendmail, storage, transfer};
use crate::config::{Config, FILE_NAME};

const EXIT_CODES: &str = "\
Exit status:
  0  it was done
  1  the thing asked for is wrong: a bad configuration, an unknown account, damaged mail
  2  the command line cannot be understood
  3  the server or its data cannot be reached or used";

/// What only the program as a whole can do: start servers.
#[derive(Clone, Copy)]
pub struct Hooks {
    pub serve: fn(&Serve) -> Result<ExitCode, Failure>,
    pub open_store: OpenStore,
}

/// A durable SMTP relay and a POP3/IMAP mailbox server on io_uring, one thread per core.
///
/// Without a configuration file Ringpost keeps its data in ./ringpost-data and listens on this machine alone:
/// SMTP 2525, submission 2587 (STARTTLS) and 2465 (TLS), IMAP 2143 and 2993 (TLS), POP3 2110 and 2995 (TLS).
/// `ringpost init` writes a file to change that.
///
/// Commands about accounts, aliases, domains and mail find the server by its data directory, which --data or
/// the file of --config names; they work while it runs and while it does not.
#[derive(Parser)]
#[command(name = "ringpost", version, after_help = EXIT_CODES, max_term_width = 100)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Serve(Serve),
    Init(Init),
    /// Check a configuration file
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Add, list and remove accounts, change their passwords
    #[command(subcommand)]
    Account(AccountCommand),
    /// Add, list and remove aliases: names for other addresses
    #[command(subcommand)]
    Alias(AliasCommand),
    /// Add, list and remove local domains
    #[command(subcommand)]
    Domain(DomainCommand),
    /// Check what is stored, and say how much it is
    #[command(subcommand)]
    Store(StoreCommand),
    Backup(Backup),
    Restore(Restore),
    Import(Import),
    Export(Export),
    /// Look at the mail that waits for its way out, and say what is to happen to it
    ///
    /// Verbs that change something want to be told for which messages: by ids, by filters that must all match, or by
    /// --everything. Spans of time are written 45s, 5m, 2h, 1d or 1w. What is on a connection at the moment is left
    /// alone, and counted as such. `top`, `suspend`, `resume` and `bounce --duration` need the running server; all
    /// others work without one, too.
    #[command(subcommand)]
    Queue(QueueCommand),
    Events(events::Events),
    Sendmail(sendmail::Sendmail),
    Man(Man),
}

/// Where the configuration is looked for if nothing names it.
const CONFIG_PATH: &str = "/etc/ringpost.toml";
const CONFIG_VARIABLE: &str = "RINGPOST_CONFIG";

/// Where the server's data is.
#[derive(Args, Clone, Debug, Default)]
pub struct Place {
    /// The configuration file; without it the one that RINGPOST_CONFIG names, or /etc/ringpost.toml, or the defaults
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// The data directory, in place of the configuration's
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
}

/// Run the server
///
/// Takes mail by SMTP and serves it by IMAP and POP3 until it gets SIGTERM or SIGINT; a second one ends it at once,
/// and nothing that was acknowledged is lost. SIGHUP makes it read its configuration and certificates again;
/// if they are wrong it says so and goes on with the old ones.
///
/// Prints one line with the word "ready" once all listeners accept. At the first start it also makes a local CA
/// and a certificate (tls/ca.pem in the data directory is what clients may trust).
#[derive(Args, Debug, Clone)]
#[command(after_long_help = "\
Examples:
  ringpost serve
  ringpost serve --config /etc/ringpost.toml
  ringpost serve --data /var/lib/ringpost --cores 4")]
pub struct Serve {
    #[command(flatten)]
    pub place: Place,
    /// How many cores to use, in place of the configuration's; another number than last time is fine
    #[arg(long, value_name = "N")]
    pub cores: Option<NonZeroUsize>,
}

/// Write a commented configuration and print the DNS records to publish
///
/// The file has every setting with its meaning. One that is there already is never overwritten.
#[derive(Args)]
#[command(after_long_help = "\
Examples:
  ringpost init --domain example.org
  ringpost init --domain example.org --config /etc/ringpost.toml --data /var/lib/ringpost --public")]
pub struct Init {
    /// The domain to take mail for
    #[arg(long, value_name = "DOMAIN")]
    pub domain: String,
    /// The file to write
    #[arg(long, value_name = "FILE", default_value = FILE_NAME)]
    pub config: PathBuf,
    /// The data directory to name in it
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// Listen on all addresses and the usual ports, not on this machine alone
    #[arg(long)]
    pub public: bool,
}

#[derive(Subcommand)]
enum ConfigCommand {
    /// Say what is wrong with a configuration file and where
    ///
    /// Each mistake is one line: the file, the line and the column, what was found and what was expected. The
    /// certificate and the key that the file names are looked at too.
    Check {
        /// The file to check
        #[arg(value_name = "FILE", default_value = FILE_NAME)]
        file: PathBuf,
    },
}

#[derive(Subcommand)]
pub enum AccountCommand {
    /// Add an account, or open a removed one again
    ///
    /// The account's domain becomes local. Once this returns, mail for the account is taken and its owner can
    /// log in. Without --password-stdin a password is made up and printed.
    #[command(after_long_help = "\
Examples:
  echo 'correct horse battery staple' | ringpost account add bob@example.org --password-stdin
  ringpost account add bob@example.org --quota 10000000000 --data /var/lib/ringpost")]
    Add {
        /// The address of the account
        #[arg(value_name = "USER@DOMAIN")]
        address: String,
        /// Read the password from the first line of standard input
        #[arg(long)]
        password_stdin: bool,
        /// The most mail that the account may keep, in bytes
        #[arg(long, value_name = "BYTES")]
        quota: Option<u64>,
        #[command(flatten)]
        place: Place,
    },
    /// List all accounts: address, bytes in use, quota, and whether it was removed
    List {
        #[command(flatten)]
        place: Place,
    },
    /// Change an account's password
    ///
    /// Sessions that are logged in stay so. Without --password-stdin a password is made up and printed.
    Passwd {
        /// The address of the account
        #[arg(value_name = "USER@DOMAIN")]
        address: String,
        /// Read the password from the first line of standard input
        #[arg(long)]
        password_stdin: bool,
        #[command(flatten)]
        place: Place,
    },
    /// Remove an account
    ///
    /// It takes no more mail, its sessions end, and nobody logs in to it. Its mail stays, and is there again when the
    /// account is added again, unless --purge is given, which also works on an account that was removed before.
    Remove {
        /// The address of the account
        #[arg(value_name = "USER@DOMAIN")]
        address: String,
        /// Delete its mail too, for good
        #[arg(long)]
        purge: bool,
        #[command(flatten)]
        place: Place,
    },
}

#[derive(Subcommand)]
pub enum AliasCommand {
    /// Add an alias: mail for it goes to all of its targets
    ///
    /// Targets may be accounts, other aliases, and addresses elsewhere. @DOMAIN as the alias takes whatever no
    /// account or alias of the domain takes.
    #[command(after_long_help = "\
Examples:
  ringpost alias add info@example.org bob@example.org eve@example.net
  ringpost alias add @example.org bob@example.org")]
    Add {
        /// The address that is another name, or @DOMAIN
        #[arg(value_name = "ALIAS")]
        alias: String,
        /// Where mail for it goes
        #[arg(value_name = "TARGET", required = true)]
        targets: Vec<String>,
        #[command(flatten)]
        place: Place,
    },
    /// List all aliases with their targets
    List {
        #[command(flatten)]
        place: Place,
    },
    /// Remove an alias
    Remove {
        /// The address that is another name, or @DOMAIN
        #[arg(value_name = "ALIAS")]
        alias: String,
        #[command(flatten)]
        place: Place,
    },
}

#[derive(Subcommand)]
pub enum DomainCommand {
    /// List the local domains, whose mail stays here
    List {
        #[command(flatten)]
        place: Place,
    },
    /// Make a domain local before it has an account
    Add {
        /// The name of the domain
        #[arg(value_name = "DOMAIN")]
        domain: String,
        #[command(flatten)]
        place: Place,
    },
    /// Make a domain local no more; it must have no accounts and no aliases left
    Remove {
        /// The name of the domain
        #[arg(value_name = "DOMAIN")]
        domain: String,
        #[command(flatten)]
        place: Place,
    },
}

#[derive(Subcommand)]
pub enum StoreCommand {
    /// Read everything that is stored and check it
    ///
    /// Every damaged piece is one line on standard output, with the account, mailbox and UID of a message, or its id in
    /// the queue; the exit status is 1 if there is any. Nothing is changed. Works with and without a running server.
    Verify {
        /// Print an object a line
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        place: Place,
    },
    /// Put aside what is damaged, so that the rest is sound
    ///
    /// Nothing is deleted: what is left of each damaged piece goes to quarantine/ in the data directory, with a text
    /// that says what it was. A note takes the place of a damaged message in its mailbox; one that waits to be sent is
    /// returned to its sender, or taken out of the queue if nobody knows who that is. Works with and without a running
    /// server. What was done is one line for each piece; the exit status is 1 if any stayed as it was.
    Repair {
        /// Print an object a line
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        place: Place,
    },
    /// Give back the space of mail that nobody has any more, now
    ///
    /// The server does so by itself when enough has come and gone. Each log is one line on standard output.
    Clean {
        #[command(flatten)]
        place: Place,
    },
    /// Print numbers about what is stored, one a line: name, then value
    Stats {
        #[command(flatten)]
        place: Place,
    },
}

/// Copy everything that is stored to a folder, as of now
///
/// All mail that was acknowledged before this was begun is in the backup, with accounts, keys and the queue, but not
/// the configuration file. The server may run, and mail goes on; without one it works, too. A second backup into the
/// same folder copies only what is new since the first and takes its place, once it is complete: until then, whatever
/// happens, the first can be restored. The folder holds one store's backup and is as secret as the mail.
#[derive(Args)]
#[command(after_long_help = "\
Examples:
  ringpost backup /backup/mail --config /etc/ringpost.toml
  ringpost backup /backup/mail --data /var/lib/ringpost --bytes-per-s 10000000")]
pub struct Backup {
    /// The folder to copy to: an empty one, or that of the last backup
    #[arg(value_name = "DIR")]
    pub folder: PathBuf,
    /// How many bytes to copy in a second at most [default: 67108864 beside a running server, else as many as can be]
    #[arg(long, value_name = "N")]
    pub bytes_per_s: Option<NonZeroU64>,
    /// Read again what the folder has already, and copy anew what is not as it was
    #[arg(long)]
    pub check: bool,
    #[command(flatten)]
    pub place: Place,
}

/// Make a data directory from a backup
///
/// The backup is checked whole before anything is written, and nothing is if it is damaged, unless --damaged is
/// given. The data directory must be empty; no server takes it before the restore is finished. One that was
/// interrupted is run again.
///
/// What happened after the backup is lost, but clients and other servers remember it. So every mailbox gets a new
/// UIDVALIDITY, by which mail programs fetch their mail again (POP3 programs that leave mail on the server too), and
/// queued mail, which may have been sent since, is held: `ringpost queue release` sends it.
#[derive(Args)]
#[command(after_long_help = "\
Examples:
  ringpost restore /backup/mail --check
  ringpost restore /backup/mail --config /etc/ringpost.toml
  ringpost restore /backup/mail --data /var/lib/ringpost --set-aside")]
pub struct Restore {
    /// The folder of the backup
    #[arg(value_name = "DIR")]
    pub folder: PathBuf,
    /// Check the backup and restore nothing
    #[arg(long)]
    pub check: bool,
    /// Rename the data directory first if it is not empty; nothing in it is deleted
    #[arg(long, conflicts_with = "check")]
    pub set_aside: bool,
    /// Leave queued mail to be sent, though it may have been sent after the backup
    #[arg(long, conflicts_with = "check")]
    pub send_queue: bool,
    /// Restore what can be read of a damaged backup, and say what is lost
    #[arg(long, conflicts_with = "check")]
    pub damaged: bool,
    #[command(flatten)]
    pub place: Place,
}

/// How other programs keep mail.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum Format {
    /// A folder with cur and new in it, and perhaps Maildir++ subfolders
    Maildir,
    /// A file (mboxrd), or a folder of .mbox files
    Mbox,
}

/// Take mail over from a Maildir or mbox
///
/// Flags and dates come along; line ends become CRLF. PATH is only read. Each batch is durable before the next is
/// read: an import that ends early, for whatever reason, says with which --skip it goes on.
///
/// Without --mailbox, a Maildir's own messages and a single mbox file go to INBOX, and folders to mailboxes of
/// their names; with it, they go there and below.
#[derive(Args)]
#[command(after_long_help = "\
Examples:
  ringpost import maildir /home/bob/Maildir --account bob@example.org
  ringpost import mbox archive.mbox --account bob@example.org --mailbox Archive/2025")]
pub struct Import {
    /// How the mail is kept there
    pub format: Format,
    /// The folder or file
    #[arg(value_name = "PATH")]
    pub path: PathBuf,
    /// The account that gets the mail
    #[arg(long, value_name = "USER@DOMAIN")]
    pub account: String,
    /// The mailbox that it goes to
    #[arg(long, value_name = "MAILBOX")]
    pub mailbox: Option<String>,
    /// Leave the first N messages out, which an import that ended early has taken over
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub skip: u64,
    #[command(flatten)]
    pub place: Place,
}

/// Copy an account's mail to a Maildir or mbox
///
/// For maildir, PATH is a folder, and each mailbox but INBOX a Maildir++ subfolder; messages that an interrupted
/// export has written are kept. For mbox, PATH is a folder of .mbox files, or, with --mailbox, one file.
///
/// A message that cannot be read is told of and left out, and the exit status is 1.
#[derive(Args)]
#[command(after_long_help = "\
Examples:
  ringpost export maildir backup --account bob@example.org
  ringpost export mbox sent.mbox --account bob@example.org --mailbox Sent")]
pub struct Export {
    /// How the mail is kept there
    pub format: Format,
    /// The folder or file
    #[arg(value_name = "PATH")]
    pub path: PathBuf,
    /// The account whose mail it is
    #[arg(long, value_name = "USER@DOMAIN")]
    pub account: String,
    /// The one mailbox to copy; all, if none is named
    #[arg(long, value_name = "MAILBOX")]
    pub mailbox: Option<String>,
    #[command(flatten)]
    pub place: Place,
}

/// Write the manual as man pages
#[derive(Args)]
#[command(hide = true)]
struct Man {
    /// The folder to write them to
    #[arg(value_name = "DIR")]
    folder: PathBuf,
}

/// Reads the command line and does what it says.
pub fn run(hooks: Hooks) -> ExitCode {
    let mut words = std::env::args_os();
    if words.next().is_some_and(|program| sendmail::is_meant(Path::new(&program))) {
        return sendmail::run(&words.collect::<Vec<_>>());
    }
    // Prints help and usage errors itself, and exits with 2 for the latter.
    let cli = Cli::parse();
    match cli.command.run(hooks) {
        Ok(code) => code,
        Err(failure) => failure.report(),
    }
}

/// The whole grammar, for the manual.
pub fn grammar() -> clap::Command {
    Cli::command()
}

impl Command {
    fn run(self, hooks: Hooks) -> Result<ExitCode, Failure> {
        let open_store = hooks.open_store;
        match self {
            Self::Serve(serve) => return (hooks.serve)(&serve),
            Self::Init(init) => init::run(&init)?,
            Self::Config(ConfigCommand::Check { file }) => init::check(&file)?,
            Self::Account(command) => accounts::account(command, open_store)?,
            Self::Alias(command) => accounts::alias(command)?,
            Self::Domain(command) => accounts::domain(command)?,
            Self::Store(command) => return storage::store(&command, open_store),
            Self::Queue(command) => queue::run(command, open_store)?,
            Self::Events(events) => events::run(&events)?,
            Self::Sendmail(sendmail) => return Ok(sendmail::run(&sendmail.arguments)),
            Self::Backup(arguments) => backup::backup(&arguments, open_store)?,
            Self::Restore(arguments) => backup::restore::restore(&arguments, open_store)?,
            Self::Import(import) => return transfer::import(&import, open_store),
            Self::Export(export) => return transfer::export(&export, open_store),
            Self::Man(man) => manual::write(&man.folder)?,
        }
        Ok(ExitCode::SUCCESS)
    }
}

impl Place {
    /// The configuration, with the data directory of the command line.
    pub fn load(&self) -> Result<Config, Failure> {
        let mut config =
            Config::load(self.file(Path::new(CONFIG_PATH)).as_deref()).map_err(Failure::wrong)?;
        if let Some(data) = &self.data {
            config.data.clone_from(data);
        }
        Ok(config)
    }

    /// The file that is read: one that was named, or the usual one if it is there.
    fn file(&self, usual: &Path) -> Option<PathBuf> {
        let named = self.config.clone().or_else(|| env::var_os(CONFIG_VARIABLE).map(PathBuf::from));
        named.or_else(|| Some(usual.to_owned()).filter(|path| path.exists()))
    }

    /// The same, with the file that is read now: if it is gone later, the defaults do not take its place.
    fn settled(&self, usual: &Path) -> Self {
        Self { config: self.file(usual), data: self.data.clone() }
    }
}

impl Serve {
    /// The same for a server that will read its file again.
    pub fn settled(&self) -> Self {
        Self { place: self.place.settled(Path::new(CONFIG_PATH)), cores: self.cores }
    }

    /// The configuration, with what the command line says above it. Reads the file anew each time.
    pub fn load(&self) -> Result<Config, Failure> {
        let mut config = self.place.load()?;
        config.cores = self.cores.or(config.cores);
        Ok(config)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use clap::Parser;
    use tempfile::TempDir;

    use super::{Cli, Place, grammar};

    #[test]
    fn a_file_that_was_read_is_not_done_without() {
        let folder = TempDir::new().unwrap();
        let usual = folder.path().join("ringpost.toml");
        let unnamed = Place::default();
        assert_eq!(unnamed.settled(&usual).config, None);
        fs::write(&usual, "").unwrap();
        let settled = unnamed.settled(&usual);
        assert!(settled.load().is_ok());
        fs::remove_file(&usual).unwrap();
        assert!(settled.load().is_err());
    }

    #[test]
    fn the_grammar_is_sound() {
        grammar().debug_assert();
    }

    #[test]
    fn the_names_are_a_contract() {
        let table = [
            "serve",
            "serve --config c.toml --data d --cores 2",
            "init --domain example.org",
            "init --domain example.org --config c.toml --data d",
            "config check",
            "config check c.toml",
            "account add bob@example.org --password-stdin",
            "account add bob@example.org --password-stdin --data d",
            "account list --config c.toml",
            "account passwd bob@example.org --password-stdin",
            "account remove bob@example.org",
            "account remove bob@example.org --purge --data d",
            "alias add info@example.org bob@example.org eve@example.net --data d",
            "alias list",
            "alias remove info@example.org",
            "domain list",
            "domain add example.org --data d",
            "domain remove example.org",
            "store verify --data d",
            "store verify --json",
            "store repair --data d --json",
            "store stats --config c.toml",
            "store clean",
            "backup b --data d",
            "backup b --config c.toml --bytes-per-s 1000",
            "restore b --data d",
            "restore b --check",
            "restore b --config c.toml --set-aside --send-queue",
            "import maildir p --account bob@example.org",
            "import mbox p --account bob@example.org --mailbox M --data d",
            "export maildir p --account bob@example.org",
            "export mbox p --account bob@example.org --mailbox M",
            "queue list --data d",
            "queue list 00010000002A --domain d.test --site s --tenant t --campaign c --sender <> --recipient @d.test",
            "queue list --state held --older 2h --younger 1d --count 0 --json",
            "queue show 00010000002A --json --data d",
            "queue summary --everything --json",
            "queue top --once",
            "queue retry 00010000002A 00010000002B",
            "queue hold --domain d.test --reason r",
            "queue release --everything",
            "queue bounce --sender @d.test --reason r --duration 1h",
            "queue suspend --tenant t --duration 5m --reason r",
            "queue suspend --list --json",
            "queue resume 3",
            "queue resume --tenant t",
            "queue rebind --everything --to [192.0.2.1]",
            "queue explain a@b.test --sender c@d.test --tenant t",
            "events --data d",
            "events --follow --since 2h --type Bounce --type Delivery --domain d --cursor c --count 3 --table",
            "events --sender a@b --recipient c@d --tenant t --id i --json",
            "sendmail -t -oi -f a@b -bs --data d -- c@d",
            "man m",
        ];
        for line in table {
            let words = ["ringpost"].into_iter().chain(line.split(' '));
            assert!(Cli::try_parse_from(words).is_ok(), "{line}");
        }
        for line in [
            "",
            "serve --cores 0",
            "account add",
            "alias add a@b",
            "init",
            "import tar p --account a@b",
            "backup",
            "backup b --bytes-per-s 0",
            "restore b --check --set-aside",
            "restore b --check --damaged",
            "events --type X",
            "queue list --state lost",
            "queue list --older soon",
            "queue list no-id",
            "queue show",
            "queue bounce --everything",
            "queue rebind --everything",
            "queue suspend --json",
            "queue explain nobody",
        ] {
            let words = ["ringpost"].into_iter().chain(line.split_whitespace());
            assert!(Cli::try_parse_from(words).is_err(), "{line}");
        }
    }

    #[test]
    fn every_command_and_argument_has_help() {
        let mut commands = vec![grammar()];
        while let Some(command) = commands.pop() {
            assert!(command.get_about().is_some(), "{}", command.get_name());
            for argument in command.get_arguments() {
                // clap writes the help of its own `help` command.
                let is_helped = argument.get_help().is_some();
                assert!(is_helped, "{} {}", command.get_name(), argument.get_id());
            }
            commands.extend(command.get_subcommands().cloned());
        }
    }
}
