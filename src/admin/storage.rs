//! The commands that look at what is stored.

use std::io::{self, Write};
use std::process::ExitCode;

use indicatif::{ProgressBar, ProgressStyle};

use crate::admin::cli::StoreCommand;
use crate::admin::control::{DamageRow, Reply, Request};
use crate::admin::failure::Failure;
use crate::admin::offline::{OpenStore, Session};

pub fn store(command: &StoreCommand, open: OpenStore) -> Result<ExitCode, Failure> {
    match command {
        StoreCommand::Verify { json, place } => {
            verify(&mut Session::for_mail(&place.load()?, open)?, Form::of(*json))
        }
        StoreCommand::Repair { json, place } => {
            repair(&mut Session::for_mail(&place.load()?, open)?, Form::of(*json))
        }
        StoreCommand::Clean { place } => clean(&mut Session::for_mail(&place.load()?, open)?),
        StoreCommand::Stats { place } => {
            stats(&mut Session::for_mail(&place.load()?, open)?).map(|()| ExitCode::SUCCESS)
        }
    }
}

/// Progress goes to the terminal, if there is one, and nowhere else.
pub fn progress_bar(template: &str) -> ProgressBar {
    let style = ProgressStyle::with_template(template).expect("templates are constants");
    ProgressBar::new(0).with_style(style)
}

/// How damage is told of.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    Lines,
    Json,
}

impl Form {
    fn of(json: bool) -> Self {
        if json { Self::Json } else { Self::Lines }
    }
}

/// Exit status 1 says that something is damaged.
fn verify(session: &mut Session, form: Form) -> Result<ExitCode, Failure> {
    let damaged = find(session, &Request::Verify, form, |_| true)?;
    if form == Form::Lines {
        let mut out = io::stdout().lock();
        match damaged {
            0 => writeln!(out, "all that is stored is sound")?,
            1 => writeln!(out, "1 piece is damaged; everything else is sound")?,
            _ => writeln!(out, "{damaged} pieces are damaged; everything else is sound")?,
        }
    }
    Ok(if damaged == 0 { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

/// Exit status 1 says that something stayed as it was.
fn repair(session: &mut Session, form: Form) -> Result<ExitCode, Failure> {
    let mut found = 0;
    let left = find(session, &Request::Repair, form, |row| {
        found += 1;
        row.done.is_none()
    })?;
    if form == Form::Lines {
        let mut out = io::stdout().lock();
        match (found, left) {
            (0, _) => writeln!(out, "all that is stored is sound; nothing was changed")?,
            (_, 0) => writeln!(out, "what is damaged was set aside; everything else is sound")?,
            _ => writeln!(
                out,
                "{left} of {found} damaged pieces stayed as they were; run `ringpost store verify`"
            )?,
        }
    }
    Ok(if left == 0 { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

/// Asks, and prints what is damaged. Says how many of these pieces count.
fn find(
    session: &mut Session,
    request: &Request,
    form: Form,
    mut counts: impl FnMut(&DamageRow) -> bool,
) -> Result<u64, Failure> {
    let bar = progress_bar("{bar:30} {bytes} of {total_bytes} read, {eta} left");
    let mut count = 0;
    let mut out = io::stdout().lock();
    session.ask(request, |reply| {
        match reply {
            Reply::Progress { done, total } => {
                bar.set_length(total);
                bar.set_position(done);
            }
            Reply::Damage(row) => {
                count += u64::from(counts(&row));
                let done = row.done.iter().map(|done| format!(": {done}")).collect::<String>();
                let line = match form {
                    Form::Lines => format!("{}{done}", row.text),
                    Form::Json => serde_json::to_string(&row).map_err(Failure::unavailable)?,
                };
                bar.suspend(|| writeln!(out, "{line}"))?;
            }
            _ => {}
        }
        Ok(())
    })?;
    bar.finish_and_clear();
    Ok(count)
}

fn clean(session: &mut Session) -> Result<ExitCode, Failure> {
    let mut out = io::stdout().lock();
    let mut failed = false;
    session.ask(&Request::Clean, |reply| {
        match reply {
            Reply::Cleaned { text } => writeln!(out, "{text}")?,
            Reply::Uncleaned { text } => {
                failed = true;
                writeln!(out, "{text}")?;
            }
            _ => {}
        }
        Ok(())
    })?;
    Ok(if failed { ExitCode::from(1) } else { ExitCode::SUCCESS })
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

#[cfg(test)]
mod tests {
    use super::progress_bar;

    #[test]
    fn bars_have_sound_templates() {
        progress_bar("{bar:30} {bytes} of {total_bytes} read, {eta} left").finish();
    }
}
