//! How a server bore its disk's trouble, and the table of it.

use std::collections::BTreeMap;
use std::fmt;

use crate::audit::Findings;
use crate::cast::Kind;
use crate::fault::Case;

/// How the server bore it.
#[derive(Clone, Default)]
pub struct Conduct {
    pub rounds: u64,
    /// Requests that the disk refused.
    pub struck: u64,
    /// Times that it did not start where it could not read, and said so.
    pub refused_starts: u64,
    /// Times that the file system turned read-only.
    pub read_only: u64,
    pub acknowledged: usize,
    /// Commands that were refused for now.
    pub refused: usize,
    /// Commands that were refused in the wrong words.
    pub wrong: usize,
    /// Connections that broke.
    pub broken: usize,
    /// Messages that could not be read while their place could not.
    pub hidden: usize,
    /// Mail that could not be read, and should have been.
    pub unread: usize,
    /// Ends of the server by itself.
    pub ended: usize,
    /// Clients that get nothing done when the trouble is over.
    pub stuck: usize,
    /// Rounds in which something was refused and the log does not say why.
    pub silent: usize,
    pub findings: Findings,
}

impl Conduct {
    pub fn note_unread(&mut self, reply: String) {
        self.unread += 1;
        self.findings.details.push(reply);
    }

    /// Others are only looked at.
    pub fn is_bad(&self, server: Kind) -> bool {
        let Self { wrong, broken, unread, ended, stuck, silent, findings, .. } = self;
        let sum = wrong + unread + ended + stuck + silent + findings.broken();
        sum + if server == Kind::Ringpost { *broken } else { 0 } > 0
    }

    pub fn add(&mut self, other: Self) {
        self.rounds += other.rounds;
        self.struck += other.struck;
        self.refused_starts += other.refused_starts;
        self.read_only += other.read_only;
        self.acknowledged += other.acknowledged;
        self.refused += other.refused;
        self.wrong += other.wrong;
        self.broken += other.broken;
        self.hidden += other.hidden;
        self.unread += other.unread;
        self.ended += other.ended;
        self.stuck += other.stuck;
        self.silent += other.silent;
        self.findings.add(other.findings);
    }
}

impl fmt::Display for Conduct {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { struck, refused, wrong, broken, unread, ended, stuck, silent, findings, .. } = self;
        write!(
            f,
            "{struck} requests failed, {refused} commands refused, {wrong} in the wrong words, {broken} connections \
             broken, {unread} not readable, {ended} ended, {stuck} stuck, {silent} without a word; {findings}"
        )?;
        findings.details.iter().try_for_each(|detail| write!(f, "\n    {detail}"))
    }
}

/// Rows of a table.
pub fn print(server: Kind, table: &BTreeMap<Case, Conduct>) {
    println!(
        "| server | trouble | rounds | requests failed | starts refused | read-only | acknowledged \
         | refused for now | wrong words | connections broken | hidden | not readable | ended | stuck \
         | without a word | not started | lost (mended) | came back | doubled | damaged | flags lost | other UIDs \
         | refused mailboxes | sent on again |"
    );
    for (case, conduct) in table {
        let Conduct { rounds, struck, read_only, acknowledged, refused, wrong, broken, .. } = conduct;
        let Conduct { refused_starts, hidden, unread, ended, stuck, silent, findings, .. } = conduct;
        let Findings { dead, lost, mended, returned, doubled, corrupted, flags, uids, .. } = findings;
        let (not_read, repeated) = (findings.refused, findings.repeated);
        println!(
            "| {server} | {case} | {rounds} | {struck} | {refused_starts} | {read_only} | {acknowledged} | {refused} \
             | {wrong} | {broken} | {hidden} | {unread} | {ended} | {stuck} | {silent} | {dead} \
             | {lost} ({mended}) | {returned} | {doubled} | {corrupted} | {flags} | {uids} | {not_read} \
             | {repeated} |"
        );
    }
}

/// Whether a line of a log says what the system said.
pub fn names_the_cause(line: &str) -> bool {
    let is_grave =
        ["ERROR", "Error", "WARN", "warning", "error", "fatal"].iter().any(|word| line.contains(word));
    is_grave && (line.contains("os error") || CAUSES.iter().any(|cause| line.contains(cause)))
}

const CAUSES: [&str; 5] = [
    "Input/output error",
    "No space left on device",
    "Read-only file system",
    "File too large",
    "No such file or directory",
];
