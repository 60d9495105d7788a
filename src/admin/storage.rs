//! The commands that look at what is stored.

use std::io::{self, Write};
use std::process::ExitCode;

use indicatif::{ProgressBar, ProgressStyle};

use crate::admin::cli::StoreCommand;
use crate::admin::control::{Reply, Request};
use crate::admin::failure::Failure;
use crate::admin::offline::{OpenStore, Session};

pub fn store(command: &StoreCommand, open: OpenStore) -> Result<ExitCode, Failure> {
    match command {
        StoreCommand::Verify { place } => verify(&mut Session::for_mail(&place.load()?, open)?),
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
