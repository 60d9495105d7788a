//! What has been measured so far: a JSON file for each row, written after every repetition.
//!
//! A comparison that was interrupted goes on where it stood; a row that is whole is not measured again unless that is
//! asked for. Rows of several runs merge, and each says of which day and which commit it is.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::compare::row::Samples;
use crate::compare::server::Server;
use crate::record::Machine;

/// Readers refuse rows of another version: they would not be measured alike.
const VERSION: u32 = 2;

/// A row as far as it has been measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Measured {
    pub version: u32,
    pub row: String,
    pub started_at: u64,
    pub commit: String,
    pub command: String,
    pub machine: Machine,
    /// How large everything was, in words.
    pub sizes: String,
    pub servers: BTreeMap<Server, Side>,
}

/// One server's side of it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Side {
    /// Such as `Postfix 3.7.11`.
    pub version: String,
    pub durability: String,
    /// One for each repetition.
    pub samples: Vec<Samples>,
    /// Why it could not be measured, if so.
    pub failed: Option<String>,
}

/// Where rows are kept.
#[derive(Clone, Debug)]
pub struct Results {
    folder: PathBuf,
}

impl Results {
    pub fn open(folder: &Path) -> io::Result<Self> {
        fs::create_dir_all(folder)?;
        Ok(Self { folder: folder.to_owned() })
    }

    /// `None` if nothing has been measured, or not as it is measured now.
    pub fn read(&self, row: &str) -> Option<Measured> {
        let text = fs::read_to_string(self.path(row)).ok()?;
        let measured: Measured = serde_json::from_str(&text).ok()?;
        (measured.version == VERSION).then_some(measured)
    }

    /// Replaced whole, so that a row is never half a file.
    pub fn write(&self, measured: &Measured) -> io::Result<()> {
        let mut text = serde_json::to_string_pretty(measured).map_err(io::Error::other)?;
        text.push('\n');
        let path = self.path(&measured.row);
        let unfinished = path.with_extension("unfinished");
        fs::write(&unfinished, text)?;
        fs::rename(unfinished, path)
    }

    pub fn forget(&self, row: &str) -> io::Result<()> {
        match fs::remove_file(self.path(row)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    fn path(&self, row: &str) -> PathBuf {
        self.folder.join(format!("{row}.json"))
    }
}

impl Measured {
    pub fn new(row: &str, commit: &str, sizes: &str, started_at: u64) -> Self {
        Self {
            version: VERSION,
            row: row.to_owned(),
            started_at,
            commit: commit.to_owned(),
            command: std::env::args().collect::<Vec<_>>().join(" "),
            machine: Machine::here(),
            sizes: sizes.to_owned(),
            servers: BTreeMap::new(),
        }
    }

    /// Who is measured next, so that repetitions of all servers alternate: the order turns with each round (ABBA).
    pub fn next(&self, servers: &[Server], repetitions: usize) -> Option<Server> {
        let done = |server: &Server| match self.servers.get(server) {
            Some(side) if side.failed.is_some() => repetitions,
            Some(side) => side.samples.len(),
            None => 0,
        };
        let round = servers.iter().map(done).min()?;
        if round >= repetitions {
            return None;
        }
        let mut order = servers.to_vec();
        if round % 2 == 1 {
            order.reverse();
        }
        order.into_iter().find(|server| done(server) == round)
    }

    pub fn samples(&self) -> BTreeMap<Server, Vec<Samples>> {
        self.servers.iter().map(|(server, side)| (*server, side.samples.clone())).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::{Measured, Results};
    use crate::compare::row::Samples;
    use crate::compare::server::Server;

    const SERVERS: [Server; 3] = [Server::Ringpost, Server::Postfix, Server::Exim];

    fn take(measured: &mut Measured, server: Server) {
        measured.servers.entry(server).or_default().samples.push(Samples::from([("cpu".to_owned(), 1.5)]));
    }

    #[test]
    fn repetitions_alternate_and_turn() {
        let mut measured = Measured::new("accept-64", "abc", "", 0);
        let mut order = Vec::new();
        while let Some(server) = measured.next(&SERVERS, 2) {
            take(&mut measured, server);
            order.push(server);
        }
        let [a, b, c] = SERVERS;
        assert_eq!(order, [a, b, c, c, b, a]);
    }

    #[test]
    fn an_interrupted_row_goes_on_where_it_stood() {
        let folder = tempfile::tempdir().expect("a folder");
        let results = Results::open(folder.path()).expect("it is made");
        assert_eq!(results.read("accept-64"), None);
        let mut measured = Measured::new("accept-64", "abc", "", 7);
        take(&mut measured, Server::Ringpost);
        results.write(&measured).expect("it is written");
        let mut again = results.read("accept-64").expect("it is there");
        assert_eq!(again, measured);
        assert_eq!(again.next(&SERVERS, 1), Some(Server::Postfix));
        again.servers.entry(Server::Postfix).or_default().failed = Some("not installed".to_owned());
        assert_eq!(again.next(&SERVERS, 1), Some(Server::Exim));
        take(&mut again, Server::Exim);
        assert_eq!(again.next(&SERVERS, 1), None);
        // More repetitions than there were: the row is not whole any more.
        assert_eq!(again.next(&SERVERS, 2), Some(Server::Exim));
        results.forget("accept-64").expect("it is forgotten");
        results.forget("accept-64").expect("twice does no harm");
        assert_eq!(results.read("accept-64"), None);
    }

    #[test]
    fn a_damaged_or_foreign_row_is_measured_again() {
        let folder = tempfile::tempdir().expect("a folder");
        let results = Results::open(folder.path()).expect("it is made");
        std::fs::write(folder.path().join("a.json"), "{").expect("written");
        assert_eq!(results.read("a"), None);
        let other = Measured { version: 99, ..Measured::new("b", "abc", "", 0) };
        results.write(&other).expect("it is written");
        assert_eq!(results.read("b"), None);
    }
}
