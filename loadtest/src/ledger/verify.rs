//! Compares what was promised with what came.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::Path;

use crate::ledger::{Acknowledged, Line, Received, Verdict};
use crate::record::LedgerCounts;

/// Gathers the lines of ledgers, in any order.
#[derive(Default)]
pub struct Reader {
    promised: HashMap<Key, u64>,
    came: HashMap<Key, Copies>,
    /// The highest number that came of each session to each recipient.
    latest: HashMap<(String, u64, String), u64>,
    reordered: u64,
    torn: u64,
}

/// A message: run and number.
type Key = (String, u64);

#[derive(Default)]
struct Copies {
    recipients: HashSet<String>,
    again: u64,
    corrupted: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verification {
    pub counts: LedgerCounts,
    /// Lines that were not whole.
    pub torn: u64,
    /// The first few messages of which a copy is missing.
    pub missing: Vec<(String, u64)>,
}

/// So many missing messages are named.
const NAMED_MAX: usize = 20;

impl Reader {
    pub fn read(&mut self, path: &Path) -> io::Result<()> {
        let mut input = BufReader::with_capacity(1 << 20, File::open(path)?);
        let mut line = Vec::new();
        let mut lines = 0_u64;
        while input.read_until(b'\n', &mut line)? > 0 {
            let text = std::str::from_utf8(&line).ok().and_then(|text| text.strip_suffix('\n'));
            match text {
                Some(text) if text.starts_with("loadtest ledger ") => lines += 1,
                Some(text) if Line::parse(text).is_some_and(|line| self.take(line)) => lines += 1,
                _ => self.torn += 1,
            }
            line.clear();
        }
        match lines {
            0 => Err(io::Error::other(format!("{} is no ledger", path.display()))),
            _ => Ok(()),
        }
    }

    /// Always true, so that it can stand at the end of a condition.
    pub fn take(&mut self, line: Line) -> bool {
        match line {
            Line::Acknowledged(line) => self.promise(line),
            Line::Received(line) => self.receive(line),
        }
        true
    }

    pub fn verify(&self) -> Verification {
        let mut counts = LedgerCounts { reordered: self.reordered, ..LedgerCounts::default() };
        let mut missing = Vec::new();
        for (key, &copies) in &self.promised {
            let came = self.came.get(key).map_or(0, |came| came.recipients.len() as u64);
            counts.acknowledged += copies;
            counts.received += came.min(copies);
            counts.unexpected += came.saturating_sub(copies);
            if came < copies {
                counts.missing += copies - came;
                missing.push(key.clone());
            }
        }
        for (key, came) in &self.came {
            counts.duplicated += came.again;
            counts.corrupted += came.corrupted;
            if !self.promised.contains_key(key) {
                counts.unacknowledged += came.recipients.len() as u64;
            }
        }
        missing.sort_unstable();
        missing.truncate(NAMED_MAX);
        Verification { counts, torn: self.torn, missing }
    }

    fn promise(&mut self, line: Acknowledged) {
        self.promised.insert((line.run, line.number), line.copies);
    }

    fn receive(&mut self, line: Received) {
        let copies = self.came.entry((line.run.clone(), line.number)).or_default();
        copies.corrupted += u64::from(line.verdict == Verdict::Corrupted);
        if !copies.recipients.insert(line.recipient.clone()) {
            copies.again += 1;
            return;
        }
        let latest = self.latest.entry((line.run, line.session, line.recipient)).or_insert(line.number);
        self.reordered += u64::from(line.number < *latest);
        *latest = line.number.max(*latest);
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Write;

    use super::Reader;
    use crate::ledger::{Acknowledged, Durability, Line, Mark, Writer};
    use crate::record::LedgerCounts;

    fn acknowledged(number: u64, copies: u64) -> Line {
        Line::Acknowledged(Acknowledged {
            run: "r".to_owned(),
            session: 0,
            number,
            copies,
            intended_ns: 0,
            sent_ns: 0,
            acknowledged_ns: 1,
            code: 250,
            queue_id: String::new(),
        })
    }

    fn received(number: u64, recipient: &str, checksum: u32) -> Line {
        let mark = Mark { run: "r".to_owned(), session: 0, number, checksum: 5 };
        Line::Received(mark.received(recipient, checksum, 0))
    }

    #[test]
    fn every_fate_is_counted() {
        let mut reader = Reader::default();
        for line in [
            acknowledged(1, 1),
            acknowledged(2, 2),
            acknowledged(3, 1),
            acknowledged(4, 1),
            received(1, "a", 5),
            received(1, "a", 5),
            received(2, "a", 5),
            received(4, "a", 5),
            received(3, "a", 6),
            received(9, "a", 5),
            acknowledged(10, 1),
            received(10, "a", 5),
            received(10, "b", 5),
        ] {
            reader.take(line);
        }
        let verification = reader.verify();
        assert_eq!(
            verification.counts,
            LedgerCounts {
                acknowledged: 6,
                received: 5,
                missing: 1,
                duplicated: 1,
                corrupted: 1,
                reordered: 1,
                unexpected: 1,
                unacknowledged: 1
            }
        );
        assert_eq!(verification.missing, [("r".to_owned(), 2)]);
    }

    #[test]
    fn a_ledger_torn_at_its_end_is_read() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("ledger");
        let mut writer = Writer::open(&path, Durability::Synced).expect("it opens");
        (0..100).for_each(|number| writer.append(&acknowledged(number, 1)).expect("it is written"));
        drop(writer);
        let whole = fs::read(&path).expect("it is there");
        // Cut in the last line; then zeros, as a file system may leave them.
        for tail in [&b""[..], &[0; 300][..], b"A r 0 77 1 0 0 1 250 - 00000000\n"] {
            let mut file = fs::File::create(&path).expect("it is written again");
            file.write_all(&whole[..whole.len() - 7]).expect("most of it");
            file.write_all(tail).expect("and the rest");
            let mut reader = Reader::default();
            reader.read(&path).expect("it is read");
            let verification = reader.verify();
            assert_eq!(verification.counts.acknowledged, 99);
            assert!(verification.torn >= 1);
        }
    }

    #[test]
    fn what_is_no_ledger_is_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("other");
        fs::write(&path, "Dear Sir or Madam,\n").expect("it is written");
        assert!(Reader::default().read(&path).is_err());
    }
}
