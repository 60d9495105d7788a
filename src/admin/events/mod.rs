//! `ringpost events`: the lines of the event log, picked and printed.
//!
//! The files are read directly, so that it works whether the server runs or not, and costs it nothing. [`tail`] gives
//! the lines one after the other, [`filter`] picks, [`cursor`] remembers how far a reader has come.
//!
//! Invariants: only whole lines are shown; a cursor moves past lines only when they were handed to standard output,
//! so that each is shown at least once; memory holds a line and a buffer, however long the files are.

mod cursor;
mod filter;
mod table;
mod tail;

use std::io::{self, BufWriter, StdoutLock, Write};
use std::path::Path;
use std::thread;
use std::time::Duration;

use clap::Args;

use crate::admin::cli::Place;
use crate::admin::failure::Failure;
use crate::admin::user;
use crate::io::clock;
use crate::queue::event::EventKind;
use cursor::Cursor;
use filter::{Filter, When};
use tail::{Next, Tail};

/// How often files are looked at that have nothing new.
const LOOK: Duration = Duration::from_millis(100);

/// Lines after which a cursor is written even if more are there.
const LINES_PER_MARK: u64 = 1000;

/// Show what happened to messages: the event log
///
/// One JSON object a line, as the server wrote it, the oldest first. Filters that are given must all match; a
/// repeated --type matches any of the types. The server need not run.
///
/// With --cursor, the next call of that NAME goes on behind the last line that was printed. A line is never left
/// out for that, but may be printed again after a crash. If files were removed before they were read, that is
/// said on standard error.
#[derive(Args, Clone, Debug)]
#[command(after_long_help = "\
Types: Reception, Delivery, TransientFailure, Bounce, Expiration, Delayed, AdminBounce, AdminRebind, Rejection,
Automation.

Examples:
  ringpost events --since 2h --type Bounce --table
  ringpost events --follow --domain example.org
  ringpost events --cursor billing --type Delivery >> deliveries.jsonl
  ringpost events --id 00010000002A")]
pub struct Events {
    /// Wait for more at the end, until interrupted
    #[arg(long, short)]
    pub follow: bool,
    /// Only from then on: 45s, 30m, 2h, 7d ago, or a time such as 2026-11-24T10:00:00Z
    #[arg(long, value_name = "WHEN", value_parser = When::parse)]
    pub since: Option<When>,
    /// Only events of this type; may be given several times
    #[arg(long = "type", value_name = "TYPE", value_parser = kind)]
    pub kinds: Vec<EventKind>,
    /// Only recipients of this domain
    #[arg(long, value_name = "DOMAIN")]
    pub domain: Option<String>,
    /// Only messages from this address, or from @DOMAIN
    #[arg(long, value_name = "ADDRESS")]
    pub sender: Option<String>,
    /// Only this recipient
    #[arg(long, value_name = "ADDRESS")]
    pub recipient: Option<String>,
    /// Only messages of this tenant
    #[arg(long, value_name = "TENANT")]
    pub tenant: Option<String>,
    /// Only this message
    #[arg(long, value_name = "ID")]
    pub id: Option<String>,
    /// Go on where the last call with this name ended
    #[arg(long, value_name = "NAME")]
    pub cursor: Option<String>,
    /// End after so many lines
    #[arg(long, value_name = "N")]
    pub count: Option<u64>,
    /// Print JSON, which is the default
    #[arg(long, conflicts_with = "table")]
    pub json: bool,
    /// Print columns for people
    #[arg(long)]
    pub table: bool,
    #[command(flatten)]
    pub place: Place,
}

fn kind(name: &str) -> Result<EventKind, String> {
    EventKind::named(name).ok_or_else(|| {
        let names = EventKind::ALL.map(EventKind::name).join(", ");
        format!("there is no such type; types are {names}")
    })
}

pub fn run(events: &Events) -> Result<(), Failure> {
    let config = events.place.load()?;
    // A cursor is written, and the next one to move it may not be root.
    if events.cursor.is_some() {
        user::become_configured(&config)?;
    }
    let dir = config.outbound.events.settings(&config.data).dir;
    let cursor = match &events.cursor {
        Some(name) => Some(Cursor::open(&dir, name)?),
        None => None,
    };
    let filter = Filter::new(events, clock::timestamp());
    let tail = Tail::open(&dir, cursor.as_ref().and_then(Cursor::position), filter.since_s(), &mut warn)
        .map_err(unreadable(&dir))?;
    if !dir.exists() && !events.follow {
        eprintln!("there are no events in {} yet", dir.display());
    }
    let printer = Printer {
        out: BufWriter::with_capacity(64 << 10, io::stdout().lock()),
        format: if events.table { Format::Table } else { Format::Json },
        left: events.count,
        since_mark: 0,
    };
    print(tail, &filter, printer, cursor, events).map_err(|error| match error {
        Trouble::Output(error) => error.into(),
        Trouble::Files(error) => unreadable(&dir)(error),
        Trouble::Cursor(failure) => failure,
    })
}

enum Trouble {
    /// Standard output takes nothing.
    Output(io::Error),
    Files(io::Error),
    Cursor(Failure),
}

fn print(
    mut tail: Tail,
    filter: &Filter,
    mut printer: Printer,
    mut cursor: Option<Cursor>,
    events: &Events,
) -> Result<(), Trouble> {
    while printer.left != Some(0) {
        match tail.next(&mut warn).map_err(Trouble::Files)? {
            Next::Line(line) => {
                if filter.takes(line) {
                    printer.show(line).map_err(Trouble::Output)?;
                }
                printer.since_mark += 1;
                if cursor.is_some() && printer.since_mark >= LINES_PER_MARK {
                    mark(&mut printer, &mut cursor, &tail)?;
                }
            }
            Next::End => {
                mark(&mut printer, &mut cursor, &tail)?;
                if !events.follow {
                    return Ok(());
                }
                thread::sleep(LOOK);
            }
        }
    }
    mark(&mut printer, &mut cursor, &tail)
}

/// Hands over what was printed, and only then moves the cursor. It never stands behind a line that a crash of the
/// machine could take back: what came in its place would be passed over.
fn mark(printer: &mut Printer, cursor: &mut Option<Cursor>, tail: &Tail) -> Result<(), Trouble> {
    printer.out.flush().map_err(Trouble::Output)?;
    printer.since_mark = 0;
    match (cursor, tail.position()) {
        (Some(cursor), Some(position)) => {
            tail.sync().map_err(Trouble::Files)?;
            cursor.move_to(position).map_err(Trouble::Cursor)
        }
        _ => Ok(()),
    }
}

#[derive(Clone, Copy)]
enum Format {
    Json,
    Table,
}

struct Printer {
    out: BufWriter<StdoutLock<'static>>,
    format: Format,
    /// Lines that may still be printed.
    left: Option<u64>,
    /// Lines that were read since the cursor was written.
    since_mark: u64,
}

impl Printer {
    fn show(&mut self, line: &[u8]) -> io::Result<()> {
        if let Some(left) = &mut self.left {
            *left -= 1;
        }
        match self.format {
            Format::Json => self.out.write_all(line)?,
            Format::Table => self.out.write_all(table::row(line).as_bytes())?,
        }
        self.out.write_all(b"\n")
    }
}

fn warn(text: &str) {
    eprintln!("{text}");
}

fn unreadable(dir: &Path) -> impl Fn(io::Error) -> Failure {
    let dir = dir.display().to_string();
    move |error| {
        let hint = match error.kind() {
            io::ErrorKind::PermissionDenied => "; run this as the user that the server runs as",
            _ => "",
        };
        Failure::Unavailable(format!("the events in {dir} cannot be read: {error}{hint}"))
    }
}
