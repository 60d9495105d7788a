//! The commands that look at what is stored, and at what waits.

use std::io::{self, Write};
use std::process::ExitCode;

use indicatif::{ProgressBar, ProgressStyle};

use crate::admin::cli::{Place, StoreCommand};
use crate::admin::control::{QueueRow, Reply, Request};
use crate::admin::failure::Failure;
use crate::admin::offline::{OpenStore, Session};
use crate::mail::date::Rfc5322;
use crate::mail::time::Timestamp;

pub fn store(command: &StoreCommand, open: OpenStore) -> Result<ExitCode, Failure> {
    match command {
        StoreCommand::Verify { place } => verify(&mut Session::for_mail(&place.load()?, open)?),
        StoreCommand::Stats { place } => {
            stats(&mut Session::for_mail(&place.load()?, open)?).map(|()| ExitCode::SUCCESS)
        }
    }
}

pub fn queue(place: &Place, open: OpenStore) -> Result<(), Failure> {
    let mut session = Session::for_mail(&place.load()?, open)?;
    let mut out = io::stdout().lock();
    session.ask(&Request::Queue, |reply| {
        if let Reply::Queued(row) = reply {
            writeln!(out, "{}", queue_line(&row))?;
        }
        Ok(())
    })
}

/// Progress goes to the terminal, if there is one, and nowhere else.
pub fn progress_bar(template: &str) -> ProgressBar {
    let style = ProgressStyle::with_template(template).expect("templates are constants");
    ProgressBar::new(0).with_style(style)
}

fn verify(session: &mut Session) -> Result<ExitCode, Failure> {
    let bar = progress_bar("{bar:30} {bytes} of {total_bytes} read, {eta} left");
    let mut damaged = 0_u64;
    let mut out = io::stdout().lock();
    session.ask(&Request::Verify, |reply| {
        match reply {
            Reply::Progress { done, total } => {
                bar.set_length(total);
                bar.set_position(done);
            }
            Reply::Damage { text } => {
                damaged += 1;
                bar.suspend(|| writeln!(out, "{text}"))?;
            }
            _ => {}
        }
        Ok(())
    })?;
    bar.finish_and_clear();
    match damaged {
        0 => writeln!(out, "all that is stored is sound")?,
        1 => writeln!(out, "1 piece is damaged; everything else is sound")?,
        _ => writeln!(out, "{damaged} pieces are damaged; everything else is sound")?,
    }
    Ok(if damaged == 0 { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

fn stats(session: &mut Session) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    session.ask(&Request::Stats, |reply| {
        if let Reply::Stat { name, value } = reply {
            writeln!(out, "{name}  {value}")?;
        }
        Ok(())
    })
}

fn queue_line(row: &QueueRow) -> String {
    let arrived = Rfc5322(Timestamp { seconds: row.arrived, zone_minutes: 0 });
    let recipients = row.recipients.join(" ");
    let mut line = format!("{}  {arrived}  {}  <{}>  {recipients}", row.id, row.bytes, row.sender);
    if !row.state.is_empty() {
        line.push_str("  (");
        line.push_str(&row.state);
        line.push(')');
    }
    line
}

#[cfg(test)]
mod tests {
    use super::{progress_bar, queue_line};
    use crate::admin::control::QueueRow;

    #[test]
    fn lines() {
        let row = QueueRow {
            id: "0-17".to_owned(),
            arrived: 1_767_262_830,
            bytes: 4096,
            sender: String::new(),
            recipients: vec!["a@relay.test".to_owned(), "b@relay.test".to_owned()],
            state: "not sent yet".to_owned(),
        };
        let expected =
            "0-17  Thu, 1 Jan 2026 10:20:30 +0000  4096  <>  a@relay.test b@relay.test  (not sent yet)";
        assert_eq!(queue_line(&row).replace(", 01 ", ", 1 ").replace(",  1 ", ", 1 "), expected);
    }

    #[test]
    fn bars_have_sound_templates() {
        progress_bar("{bar:30} {bytes} of {total_bytes} read, {eta} left").finish();
    }
}
