//! `sendmail`: mail from the programs of this machine, in the way that they have known for forty years.
//!
//! [`arguments`] reads the options, [`message`] the message; it goes to the running server through the control socket,
//! where the same rules wait as behind SMTP. [`dialogue`] is `-bs`, SMTP over standard input and output.
//!
//! Invariants: exit status 0 means that the server has the message, durably, for all recipients; nothing is kept
//! anywhere else, so that a server that does not run is said at once and may be tried again later; the exit statuses
//! are those of sysexits.h.

mod arguments;
mod dialogue;
mod message;

use std::ffi::OsString;
use std::fs;
use std::io::{self, BufReader};
use std::path::Path;
use std::process::ExitCode;

use clap::Args;

use crate::admin::control::{Control, Reply, Request, SubmitHead, SubmitRecipient};
use crate::admin::failure::Failure;
use crate::admin::socket;
use crate::config::Config;
use crate::proto::smtp::{self, MessageRefusal, RecipientVerdict};
use arguments::{Arguments, Mode, Recipients};
use message::{Author, Prepared};

/// Hand a message to the running server, as the program of that name does
///
/// Reads a message from standard input and gives it to the server that runs on this machine, without a password,
/// through its control socket. That is open to the user that the server runs as, and to root; others submit by
/// SMTP. A link to this program that is called sendmail does the same.
///
/// Line ends become CRLF; missing Date, From and Message-ID are added; Bcc is removed; addresses without a domain get
/// the first local domain. Recipients that are no accounts or aliases of a local domain are refused, and the others
/// get the message.
#[derive(Args, Clone, Debug)]
#[command(disable_help_flag = true, after_long_help = HELP)]
pub struct Sendmail {
    /// Options as of old, then recipients
    #[arg(value_name = "ARGUMENTS", trailing_var_arg = true, allow_hyphen_values = true)]
    pub arguments: Vec<OsString>,
}

const HELP: &str = "\
Options:
  -t                 also send to the recipients in To, Cc and Bcc
  -i, -oi            a line with a dot alone does not end the message
  -f ADDRESS         the sender of the envelope; also -r. '<>' is nobody
  -F NAME            the name in a From field that is missing
  -N LIST            notify of: never, or success, failure, delay
  -R full|hdrs       how much of the message a notification returns
  -V ID              an identifier that notifications repeat
  -bs                speak SMTP on standard input and output
  -bp                say how the queue is listed
  -v                 say the id of the message
  --                 what follows are recipients
  --config FILE, -C FILE  the server's configuration; without it the file that RINGPOST_CONFIG names, or
                     /etc/ringpost.toml, or the defaults
  --data DIR         the server's data directory, in place of the configuration's
Other options of sendmail are taken and have no effect.

Exit status:
   0  the server has the message
  64  the command line cannot be understood
  65  the message or an address is wrong
  67  a recipient does not exist here; any others have the message
  69  a recipient cannot be served
  74  input or output failed
  75  the server does not run or cannot take it now; try again later
  77  the control socket is not open to this user
  78  the configuration is wrong";

/// How it ended, by sysexits.h, and a sentence.
#[derive(Debug)]
struct Exit {
    code: u8,
    text: String,
}

const EX_USAGE: u8 = 64;
const EX_DATAERR: u8 = 65;
const EX_NOUSER: u8 = 67;
const EX_UNAVAILABLE: u8 = 69;
const EX_IOERR: u8 = 74;
const EX_TEMPFAIL: u8 = 75;
const EX_NOPERM: u8 = 77;
const EX_CONFIG: u8 = 78;

/// Whether the program was called by its old name.
pub fn is_meant(program: &Path) -> bool {
    program.file_name().is_some_and(|name| name == "sendmail")
}

/// Does what these arguments, without the program's name, ask for.
pub fn run(words: &[OsString]) -> ExitCode {
    match try_run(words) {
        Ok(()) => ExitCode::SUCCESS,
        Err(exit) => {
            eprintln!("sendmail: {}", exit.text);
            ExitCode::from(exit.code)
        }
    }
}

fn try_run(words: &[OsString]) -> Result<(), Exit> {
    let arguments = Arguments::parse(words).map_err(|text| Exit::new(EX_USAGE, text))?;
    match arguments.mode {
        Mode::Help => {
            println!("Usage: sendmail [OPTIONS] [RECIPIENTS] < MESSAGE\n\n{HELP}");
            Ok(())
        }
        Mode::Queue => {
            println!("`ringpost queue list` shows the mail that waits for its way out");
            Ok(())
        }
        // Aliases are in effect at once, and the queue runs by itself.
        Mode::Nothing => Ok(()),
        Mode::Dialogue => dialogue::run(&load(&arguments)?),
        Mode::Message => send(&arguments),
    }
}

fn send(arguments: &Arguments) -> Result<(), Exit> {
    let config = load(arguments)?;
    // First of all, so that the caller's pipe never breaks.
    let bytes_max = usize::try_from(config.limits.message_bytes).unwrap_or(usize::MAX);
    let input = message::read(&mut BufReader::new(io::stdin().lock()), arguments.dots, bytes_max)
        .map_err(|error| Exit::new(EX_IOERR, format!("the message cannot be read: {error}")))?;
    let input = input.ok_or_else(|| {
        Exit::new(EX_DATAERR, format!("the message is larger than the {bytes_max} bytes that are taken"))
    })?;
    let mut control = connect(&config)?;
    let domain = local_domain(&config, &mut control)?;
    let sender = match arguments.sender.as_deref() {
        Some("<>" | "") => String::new(),
        Some(sender) => message::qualified(sender.trim_start_matches('<').trim_end_matches('>'), &domain),
        None => message::qualified(&user_name(), &domain),
    };
    let author = if sender.is_empty() { message::qualified(&user_name(), &domain) } else { sender.clone() };
    let author = Author { address: &author, name: arguments.full_name.as_deref() };
    let Prepared { message, recipients } = message::prepare(&input, &author, &domain);
    let mut all: Vec<String> =
        arguments.recipients.iter().map(|address| message::qualified(address, &domain)).collect();
    if arguments.from_header == Recipients::AlsoOfHeader {
        all.extend(recipients);
    }
    if all.is_empty() {
        return Err(Exit::new(EX_USAGE, "no recipients; name them, or let -t find them in To, Cc and Bcc"));
    }
    let recipient = |address| SubmitRecipient { address, notify: arguments.notify, orcpt: None };
    let head = SubmitHead {
        sender,
        recipients: all.into_iter().map(recipient).collect(),
        ret: arguments.ret,
        envid: arguments.envid.clone(),
        bytes: message.len() as u64,
    };
    let taken = submit(&mut control, head, &message)?;
    taken.check(arguments.is_verbose)
}

/// What the server took, and for whom not.
struct Taken {
    id: Option<String>,
    refused: Vec<(String, RecipientVerdict)>,
}

impl Taken {
    fn check(self, is_verbose: bool) -> Result<(), Exit> {
        if let (Some(id), true) = (&self.id, is_verbose) {
            println!("the message is {id}");
        }
        if self.refused.is_empty() {
            return Ok(());
        }
        let reason = |verdict: RecipientVerdict| smtp::Reply::from(verdict).line();
        let lines: Vec<String> = self
            .refused
            .iter()
            .map(|(address, verdict)| format!("{address}: {}", reason(*verdict)))
            .collect();
        let has = |wanted| self.refused.iter().any(|(_, verdict)| *verdict == wanted);
        let code = match () {
            () if has(RecipientVerdict::UnknownUser) => EX_NOUSER,
            () if self.refused.iter().all(|(_, verdict)| reason(*verdict).starts_with('4')) => EX_TEMPFAIL,
            () => EX_UNAVAILABLE,
        };
        let rest = match self.id {
            Some(id) => format!("\nthe other recipients get it, as message {id}"),
            None => String::new(),
        };
        Err(Exit { code, text: lines.join("\n") + &rest })
    }
}

/// The message is durable when this returns an id.
fn submit(control: &mut Control, head: SubmitHead, message: &[u8]) -> Result<Taken, Exit> {
    control.send(&Request::Submit(head)).map_err(refused)?;
    control.send_octets(message).map_err(refused)?;
    let mut answer = None;
    loop {
        match control.receive().map_err(refused)? {
            Reply::Submitted { id, refused } => answer = Some(Ok(Taken { id, refused })),
            Reply::NotKept(why) => answer = Some(Err(not_kept(why))),
            Reply::Done => break,
            _ => {}
        }
    }
    answer.unwrap_or_else(|| Err(Exit::new(EX_TEMPFAIL, "the server gave no answer that is known here")))
}

fn not_kept(why: MessageRefusal) -> Exit {
    let code = match why {
        MessageRefusal::Temporary | MessageRefusal::NoSpace => EX_TEMPFAIL,
        MessageRefusal::BadHeader => EX_DATAERR,
        _ => EX_UNAVAILABLE,
    };
    Exit::new(code, smtp::Reply::from(why).line())
}

fn refused(failure: Failure) -> Exit {
    let code = match failure {
        Failure::Wrong(_) => EX_DATAERR,
        _ => EX_TEMPFAIL,
    };
    Exit::new(code, failure)
}

fn load(arguments: &Arguments) -> Result<Config, Exit> {
    arguments.place.load().map_err(|failure| Exit::new(EX_CONFIG, failure))
}

fn connect(config: &Config) -> Result<Control, Exit> {
    let data = config.data.display();
    match socket::connect(&config.data) {
        Ok(Some(stream)) => Control::over(stream).map_err(|error| Exit::new(EX_IOERR, error)),
        Ok(None) => Err(Exit::new(
            EX_TEMPFAIL,
            format!("no server runs on {data}, and the message was not kept; start it and send again"),
        )),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Err(Exit::new(
            EX_NOPERM,
            format!(
                "the control socket in {data} is open to the user that the server runs as, and to root; \
                 submit by SMTP with a password instead"
            ),
        )),
        Err(error) => Err(Exit::new(EX_TEMPFAIL, format!("the server on {data} cannot be reached: {error}"))),
    }
}

/// What addresses without a domain get: the first one that mail is taken for.
fn local_domain(config: &Config, control: &mut Control) -> Result<String, Exit> {
    if let Some(first) = config.domains.first() {
        return Ok(first.clone());
    }
    let mut first = None;
    let each = |reply| {
        if let Reply::Domain { name } = reply {
            first.get_or_insert(name);
        }
        Ok(())
    };
    control.ask(&Request::Domains, each).map_err(refused)?;
    Ok(first.unwrap_or_else(|| config.hostname.clone()))
}

/// The name of the user that this runs as.
fn user_name() -> String {
    let id = rustix::process::getuid().as_raw();
    let known = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let name = known.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(id)).then(|| name.to_owned())
    });
    name.or_else(|| std::env::var("LOGNAME").ok()).unwrap_or_else(|| format!("user-{id}"))
}

impl Exit {
    fn new(code: u8, text: impl ToString) -> Self {
        Self { code, text: text.to_string() }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{EX_NOUSER, EX_TEMPFAIL, EX_UNAVAILABLE, Taken, is_meant, submit};
    use crate::admin::control::{Control, SubmitHead, SubmitRecipient};
    use crate::admin::memory::MemoryBackend;
    use crate::admin::offline::Session;
    use crate::proto::smtp::RecipientVerdict;

    fn head(recipients: &[&str], message: &[u8]) -> SubmitHead {
        let recipient =
            |address: &&str| SubmitRecipient { address: (*address).to_owned(), ..SubmitRecipient::default() };
        SubmitHead {
            sender: "ann@example.net".to_owned(),
            recipients: recipients.iter().map(recipient).collect(),
            bytes: message.len() as u64,
            ..SubmitHead::default()
        }
    }

    fn code(control: &mut Control, recipients: &[&str], message: &[u8]) -> u8 {
        match submit(control, head(recipients, message), message).and_then(|taken| taken.check(false)) {
            Ok(()) => 0,
            Err(exit) => exit.code,
        }
    }

    #[test]
    fn the_name_of_old() {
        assert!(is_meant(Path::new("/usr/sbin/sendmail")) && is_meant(Path::new("sendmail")));
        assert!(!is_meant(Path::new("/usr/bin/ringpost")) && !is_meant(Path::new("sendmail/ringpost")));
    }

    #[test]
    fn what_is_taken_and_what_is_not() {
        let backend = MemoryBackend::with_bob();
        let mut session = Session::within(backend.clone()).unwrap();
        let message = b"Subject: x\r\n\r\nHello\r\n";
        assert_eq!(code(session.control(), &["bob@example.org", "eve@relay.test"], message), 0);
        assert_eq!(code(session.control(), &["bob@example.org", "nobody@example.org"], message), EX_NOUSER);
        assert_eq!(code(session.control(), &["nobody@example.org"], message), EX_NOUSER);
        assert_eq!(backend.contents("ann@example.net").len(), 2);
        // These end the conversation.
        for (recipients, message) in [(&["bob@"][..], &message[..]), (&["bob@example.org"], &[b'x'; 10_001])]
        {
            let mut session = Session::within(backend.clone()).unwrap();
            assert_eq!(code(session.control(), recipients, message), super::EX_DATAERR);
        }
    }

    #[test]
    fn refusals_that_may_pass() {
        let taken = |refused: &[RecipientVerdict]| {
            let refused = refused.iter().map(|verdict| ("a@b".to_owned(), *verdict)).collect();
            Taken { id: None, refused }.check(false).map_err(|exit| exit.code)
        };
        assert_eq!(taken(&[RecipientVerdict::Temporary]), Err(EX_TEMPFAIL));
        assert_eq!(taken(&[RecipientVerdict::Temporary, RecipientVerdict::Disabled]), Err(EX_UNAVAILABLE));
        assert_eq!(taken(&[RecipientVerdict::Temporary, RecipientVerdict::UnknownUser]), Err(EX_NOUSER));
    }
}
