//! `queue top`: the sites, again every second, until a key ends it.

use std::io::{self, IsTerminal, Read, Write};
use std::thread;
use std::time::Duration;

use rustix::termios::{LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcsetattr};

use super::table;
use super::words::{QueueReply, QueueRequest, SiteRow};
use crate::admin::control::{Control, Reply, Request};
use crate::admin::failure::Failure;

/// Between two looks.
const REFRESH: Duration = Duration::from_secs(1);

/// Home, and nothing left below.
const CLEAR: &str = "\x1b[H\x1b[J";

const CTRL_C: u8 = 3;

pub fn sites(control: &mut Control) -> Result<Vec<SiteRow>, Failure> {
    let mut rows = Vec::new();
    control.ask(&Request::Queue(QueueRequest::Sites), |reply| {
        if let Reply::Queue(QueueReply::Site(row)) = reply {
            rows.push(row);
        }
        Ok(())
    })?;
    rows.sort_by(|left, right| (right.connections, &left.site).cmp(&(left.connections, &right.site)));
    Ok(rows)
}

/// Shows rates until somebody has seen enough.
pub fn watch(control: &mut Control) -> Result<(), Failure> {
    let keys = Keys::begin();
    let mut before = sites(control)?;
    let mut out = io::stdout().lock();
    loop {
        if keys.wait_for_end() {
            return Ok(());
        }
        let rows = sites(control)?;
        let connections: u64 = rows.iter().map(|row| row.connections).sum();
        write!(
            out,
            "{CLEAR}{} sites, {connections} connections; recipients in the last second; q ends\r\n\r\n",
            rows.len()
        )?;
        for line in table::sites(&rows, &before) {
            write!(out, "{line}\r\n")?;
        }
        out.flush()?;
        before = rows;
    }
}

/// The keyboard, each key as it is pressed. Dropped, the terminal is as before.
struct Keys {
    /// `None` if there is no terminal.
    before: Option<Termios>,
}

impl Keys {
    fn begin() -> Self {
        let stdin = io::stdin();
        let before = stdin.is_terminal().then(|| tcgetattr(&stdin).ok()).flatten();
        if let Some(before) = &before {
            let mut keys = before.clone();
            keys.local_modes -= LocalModes::ICANON | LocalModes::ECHO | LocalModes::ISIG;
            // A read ends after a second without a key.
            keys.special_codes[SpecialCodeIndex::VMIN] = 0;
            keys.special_codes[SpecialCodeIndex::VTIME] = 10;
            // Without it keys need Enter, and it works nevertheless.
            let _ = tcsetattr(&stdin, OptionalActions::Now, &keys);
        }
        Self { before }
    }

    /// Waits for a second, or for the key that ends it.
    fn wait_for_end(&self) -> bool {
        if self.before.is_none() {
            thread::sleep(REFRESH);
            return false;
        }
        let mut key = [0];
        let read = io::stdin().lock().read(&mut key);
        matches!((read, key[0]), (Ok(1), b'q' | b'Q' | CTRL_C))
    }
}

impl Drop for Keys {
    fn drop(&mut self) {
        if let Some(before) = &self.before {
            let _ = tcsetattr(io::stdin(), OptionalActions::Now, before);
        }
    }
}
