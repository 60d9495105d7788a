//! `ringpost queue`: the operator's hands, as commands.
//!
//! [`arguments`] is the grammar, [`words`] what goes over the control socket, [`answer`] the server's end, [`table`]
//! the output for people and [`mod@top`] the live one. What suspends and watches needs the server that runs; everything
//! else works without one, too.

mod answer;
mod arguments;
mod table;
mod top;
pub mod words;

pub use arguments::QueueCommand;

use std::io::{self, IsTerminal, Write};

use serde::Serialize;

use crate::admin::cli::Place;
use crate::admin::control::{Control, Reply, Request};
use crate::admin::failure::Failure;
use crate::admin::offline::{OpenStore, Session, connect};
use crate::io::clock;
use crate::queue::selection::{Order, Selection};
use crate::queue::suspension::Does;
use words::{OrderedCounts, QueueReply, QueueRequest, SuspensionRow};

pub fn run(command: QueueCommand, open: OpenStore) -> Result<(), Failure> {
    match command {
        QueueCommand::List { filters, count, json, place } => {
            list(&mut session(&place, open)?, filters.selection(), count, format(json))
        }
        QueueCommand::Show { id, json, place } => show(&mut session(&place, open)?, id, format(json)),
        QueueCommand::Summary { filters, json, place } => {
            summary(&mut session(&place, open)?, filters.selection(), format(json))
        }
        QueueCommand::Top { once, json, place } => top(&mut running(&place)?, once, format(json)),
        QueueCommand::Retry { filters, place } => order(&place, open, filters.meant()?, Order::Retry),
        QueueCommand::Hold { filters, reason, place } => {
            order(&place, open, filters.meant()?, Order::Hold { reason })
        }
        QueueCommand::Release { filters, place } => order(&place, open, filters.meant()?, Order::Release),
        QueueCommand::Bounce { filters, reason, duration: None, place } => {
            order(&place, open, filters.meant()?, Order::Bounce { reason })
        }
        QueueCommand::Bounce { filters, reason, duration: Some(span), place } => {
            bounce_while(&place, filters.standing()?, reason, span.as_secs())
        }
        QueueCommand::Suspend { list: true, json, place, .. } => {
            suspensions(&mut running(&place)?, format(json))
        }
        QueueCommand::Suspend { filters, duration, reason, place, .. } => {
            let selection = filters.meant()?;
            let (seconds, does) = (duration.as_secs(), Does::Suspend);
            suspend(&mut running(&place)?, QueueRequest::Suspend { selection, seconds, reason, does })
        }
        QueueCommand::Resume { id, filters, place } => {
            let selection = if id.is_some() { filters.selection() } else { filters.meant()? };
            resume(&mut running(&place)?, id, selection)
        }
        QueueCommand::Rebind { filters, to, place } => {
            order(&place, open, filters.meant()?, Order::Rebind { destination: to })
        }
        QueueCommand::Explain { recipient, sender, tenant, place } => {
            let mut session = session(&place, open)?;
            explain(&mut session, QueueRequest::Explain { recipient, sender, tenant })
        }
    }
}

#[derive(Clone, Copy)]
enum Format {
    Table,
    Json,
}

fn format(json: bool) -> Format {
    if json { Format::Json } else { Format::Table }
}

fn session(place: &Place, open: OpenStore) -> Result<Session, Failure> {
    Session::for_mail(&place.load()?, open)
}

/// The server that runs, for what is in its memory.
fn running(place: &Place) -> Result<Control, Failure> {
    let config = place.load()?;
    let stream = connect(&config.data)?.ok_or_else(|| {
        let data = config.data.display();
        Failure::unavailable(format!("no server runs on {data}, and this is about what a running one does"))
    })?;
    Control::over(stream).map_err(Failure::unavailable)
}

/// Sites are known to those who send.
fn check_site(session: &Session, selection: &Selection) -> Result<(), Failure> {
    match session.is_offline() && selection.site.is_some() {
        true => Err(Failure::unavailable("no server runs, and without one no site is known; use --domain")),
        false => Ok(()),
    }
}

fn list(session: &mut Session, selection: Selection, count: u64, format: Format) -> Result<(), Failure> {
    check_site(session, &selection)?;
    let is_filtered = !selection.is_empty() && selection != Selection::all();
    let selection = if selection.is_empty() { Selection::all() } else { selection };
    let now = clock::timestamp().seconds;
    let mut out = io::BufWriter::new(io::stdout().lock());
    let (mut rows, mut more) = (0_u64, false);
    session.ask(&Request::Queue(QueueRequest::List { selection, count }), |reply| {
        match (reply, format) {
            (Reply::Queue(QueueReply::Row(row)), Format::Json) => print_json(&mut out, &row)?,
            (Reply::Queue(QueueReply::Row(row)), Format::Table) => {
                if rows == 0 {
                    writeln!(out, "{}", table::LIST_HEAD)?;
                }
                writeln!(out, "{}", table::list_line(&row, now))?;
            }
            (Reply::Queue(QueueReply::More), _) => {
                more = true;
                return Ok(());
            }
            _ => return Ok(()),
        }
        rows += 1;
        Ok(())
    })?;
    out.flush()?;
    match (rows, is_filtered, format) {
        (0, true, _) => return Err(nothing_matches()),
        (0, false, Format::Table) => eprintln!("the queue is empty"),
        _ => {}
    }
    if more {
        eprintln!("there are more; --count 0 lists all");
    }
    Ok(())
}

fn show(session: &mut Session, id: String, format: Format) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    session.ask(&Request::Queue(QueueRequest::Show { id }), |reply| {
        if let Reply::Queue(QueueReply::Message(message)) = reply {
            match format {
                Format::Json => print_json(&mut out, &message)?,
                Format::Table => write!(out, "{}", table::message(&message, clock::timestamp().seconds))?,
            }
        }
        Ok(())
    })
}

fn summary(session: &mut Session, selection: Selection, format: Format) -> Result<(), Failure> {
    check_site(session, &selection)?;
    let is_filtered = !selection.is_empty() && selection != Selection::all();
    let selection = if selection.is_empty() { Selection::all() } else { selection };
    let mut rows = Vec::new();
    session.ask(&Request::Queue(QueueRequest::Summary { selection }), |reply| {
        if let Reply::Queue(QueueReply::Summary(row)) = reply {
            rows.push(row);
        }
        Ok(())
    })?;
    let mut out = io::BufWriter::new(io::stdout().lock());
    match format {
        _ if rows.is_empty() && is_filtered => return Err(nothing_matches()),
        Format::Json => rows.iter().try_for_each(|row| print_json(&mut out, row))?,
        Format::Table if rows.is_empty() => eprintln!("the queue is empty"),
        Format::Table => {
            for line in table::summary(&rows, clock::timestamp().seconds) {
                writeln!(out, "{line}")?;
            }
        }
    }
    out.flush()?;
    Ok(())
}

fn top(control: &mut Control, once: bool, format: Format) -> Result<(), Failure> {
    let mut out = io::stdout();
    match format {
        Format::Json => {
            let rows = top::sites(control)?;
            rows.iter().try_for_each(|row| print_json(&mut out, row))
        }
        Format::Table if once || !out.is_terminal() => {
            for line in table::sites(&top::sites(control)?, &[]) {
                writeln!(out, "{line}")?;
            }
            Ok(())
        }
        Format::Table => top::watch(control),
    }
}

fn order(place: &Place, open: OpenStore, selection: Selection, order: Order) -> Result<(), Failure> {
    let mut session = session(place, open)?;
    check_site(&session, &selection)?;
    let counts = give(session.control(), selection, &order)?;
    writeln!(io::stdout(), "{}", table::ordered(&order, counts))?;
    Ok(())
}

fn give(control: &mut Control, selection: Selection, order: &Order) -> Result<OrderedCounts, Failure> {
    let mut counts = OrderedCounts::default();
    let request = QueueRequest::Order { selection, order: order.clone() };
    control.ask(&Request::Queue(request), |reply| {
        if let Reply::Queue(QueueReply::Ordered(ordered)) = reply {
            counts = ordered;
        }
        Ok(())
    })?;
    if counts.matched == 0 { Err(nothing_matches()) } else { Ok(counts) }
}

/// What matches now need not be there, for an order about what comes.
fn bounce_while(place: &Place, selection: Selection, reason: String, seconds: u64) -> Result<(), Failure> {
    let mut control = running(place)?;
    let order = Order::Bounce { reason: reason.clone() };
    let does = Does::Bounce;
    // It stands before what is there is returned, so that nothing slips through between.
    suspend(&mut control, QueueRequest::Suspend { selection: selection.clone(), seconds, reason, does })?;
    match give(&mut control, selection, &order) {
        Ok(counts) => writeln!(io::stdout(), "{}", table::ordered(&order, counts))?,
        Err(Failure::Wrong(_)) => writeln!(io::stdout(), "nothing matches yet")?,
        Err(failure) => return Err(failure),
    }
    Ok(())
}

fn suspend(control: &mut Control, request: QueueRequest) -> Result<(), Failure> {
    for row in ask_suspensions(control, request)? {
        writeln!(io::stdout(), "{}", table::suspension(&row))?;
    }
    Ok(())
}

fn suspensions(control: &mut Control, format: Format) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    for row in ask_suspensions(control, QueueRequest::Suspensions)? {
        match format {
            Format::Json => print_json(&mut out, &row)?,
            Format::Table => writeln!(out, "{}", table::suspension(&row))?,
        }
    }
    Ok(())
}

fn resume(control: &mut Control, id: Option<u64>, selection: Selection) -> Result<(), Failure> {
    let lifted = ask_suspensions(control, QueueRequest::Resume { id, selection })?;
    if lifted.is_empty() {
        return Err(Failure::wrong("no such suspension; `ringpost queue suspend --list` names all"));
    }
    for row in lifted {
        writeln!(io::stdout(), "{}  resumed  {}", row.id, table::clean(&row.selection))?;
    }
    Ok(())
}

fn ask_suspensions(control: &mut Control, request: QueueRequest) -> Result<Vec<SuspensionRow>, Failure> {
    let mut rows = Vec::new();
    control.ask(&Request::Queue(request), |reply| {
        if let Reply::Queue(QueueReply::Suspension(row)) = reply {
            rows.push(row);
        }
        Ok(())
    })?;
    Ok(rows)
}

fn explain(session: &mut Session, request: QueueRequest) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    session.ask(&Request::Queue(request), |reply| {
        if let Reply::Queue(QueueReply::Line(line)) = reply {
            writeln!(out, "{}", table::clean(&line))?;
        }
        Ok(())
    })?;
    if session.is_offline() {
        writeln!(out, "no server runs: what may hold it up there is not known")?;
    }
    Ok(())
}

fn print_json(out: &mut impl Write, row: &impl Serialize) -> Result<(), Failure> {
    let line = serde_json::to_string(row).map_err(Failure::unavailable)?;
    writeln!(out, "{line}")?;
    Ok(())
}

fn nothing_matches() -> Failure {
    Failure::wrong("nothing matches")
}
