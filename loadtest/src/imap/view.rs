//! What one session has been told of the mailbox it selected: sequence numbers, UIDs, and what they may become.
//!
//! Numbers begin at one, as in the protocol. A message that EXISTS told of has no UID until a FETCH gave it; a
//! session
//! asks for these before it does anything else.

use super::answer::Row;
use super::truth::{Contents, Flags, Rule, Truth, Wrong};
use crate::ledger::{Verdict, received_of};

#[derive(Debug, Default)]
pub struct View {
    /// Zero where it is not known yet.
    uids: Vec<u32>,
    /// When SELECT was sent.
    looked: u64,
}

impl View {
    pub fn new(looked: u64) -> Self {
        Self { uids: Vec::new(), looked }
    }

    pub fn len(&self) -> usize {
        self.uids.len()
    }

    pub fn is_empty(&self) -> bool {
        self.uids.is_empty()
    }

    pub fn looked(&self) -> u64 {
        self.looked
    }

    /// `None` while it is not known.
    pub fn uid(&self, number: u32) -> Option<u32> {
        let place = (number as usize).checked_sub(1)?;
        self.uids.get(place).copied().filter(|uid| *uid != 0)
    }

    /// The first number without a UID.
    pub fn first_unknown(&self) -> Option<u32> {
        // Messages come at the end, so the unknown ones stand there.
        let known = self.uids.iter().rposition(|uid| *uid != 0).map_or(0, |place| place + 1);
        (known < self.uids.len()).then(|| u32::try_from(known + 1).unwrap_or(u32::MAX))
    }

    /// Numbers of the messages that this session owns.
    pub fn owned(&self, truth: &Truth, session: usize) -> Vec<u32> {
        (1..)
            .zip(&self.uids)
            .filter(|(_, uid)| **uid != 0 && truth.is_owner(session, **uid))
            .map(|(n, _)| n)
            .collect()
    }

    pub fn exists(&mut self, count: u32) -> Result<(), Wrong> {
        if (count as usize) < self.uids.len() {
            let detail = format!("{count} after {}", self.uids.len());
            return Err(Wrong::new(Rule::ExistsShrank, detail));
        }
        self.uids.resize(count as usize, 0);
        Ok(())
    }

    pub fn expunge(&mut self, number: u32, truth: &mut Truth) -> Result<(), Wrong> {
        self.check_number(number, "EXPUNGE")?;
        match self.uids.remove(number as usize - 1) {
            0 => Ok(()),
            uid => truth.expunged(uid),
        }
    }

    /// Takes in one row of a FETCH.
    pub fn row(
        &mut self,
        number: u32,
        row: &Row<'_>,
        session: usize,
        truth: &mut Truth,
    ) -> Result<(), Wrong> {
        self.check_number(number, "FETCH")?;
        if let Some(uid) = row.uid {
            self.learn(number, uid)?;
            truth.saw(uid);
        }
        let Some(uid) = self.uid(number) else {
            return Ok(());
        };
        if let Some(list) = row.flags {
            truth.check_flags(uid, Flags::parse(list), session, self.looked)?;
        }
        if let Some(bytes) = row.size {
            truth.check_size(uid, bytes)?;
        }
        if let Some(message) = row.message() {
            if received_of(message, "", 0).is_some_and(|received| received.verdict == Verdict::Corrupted) {
                return Err(Wrong::new(Rule::BodyWrong, format!("UID {uid} does not have its checksum")));
            }
            truth.check_contents(uid, Contents::of(message))?;
        }
        Ok(())
    }

    /// All that is there was asked for: what was there before must be among it.
    pub fn check_complete(&self, truth: &Truth) -> Result<(), Wrong> {
        let known: Vec<u32> = self.uids.iter().copied().filter(|uid| *uid != 0).collect();
        truth.check_complete(&known, self.looked)
    }

    /// After this session's EXPUNGE nothing is left that it had deleted.
    pub fn check_expunged(&self, truth: &Truth, session: usize) -> Result<(), Wrong> {
        let stayed = self.uids.iter().find(|uid| truth.is_owner(session, **uid) && truth.is_deleted(**uid));
        match stayed {
            Some(uid) => Err(Wrong::new(Rule::DeletedStayed, format!("UID {uid}"))),
            None => Ok(()),
        }
    }

    fn check_number(&self, number: u32, what: &str) -> Result<(), Wrong> {
        match number >= 1 && number as usize <= self.uids.len() {
            true => Ok(()),
            false => {
                let detail = format!("{what} of {number}, there are {}", self.uids.len());
                Err(Wrong::new(Rule::NumberOutOfRange, detail))
            }
        }
    }

    fn learn(&mut self, number: u32, uid: u32) -> Result<(), Wrong> {
        let place = number as usize - 1;
        if let Some(before) = self.uid(number) {
            return match before == uid {
                true => Ok(()),
                false => {
                    Err(Wrong::new(Rule::UidChanged, format!("message {number}: UID {before}, then {uid}")))
                }
            };
        }
        let below = self.uids[..place].iter().rev().find(|uid| **uid != 0);
        let above = self.uids[place + 1..].iter().find(|uid| **uid != 0);
        let is_between = below.is_none_or(|below| *below < uid) && above.is_none_or(|above| uid < *above);
        if uid == 0 || !is_between {
            return Err(Wrong::new(
                Rule::UidOrder,
                format!("message {number} has UID {uid}, between {below:?} and {above:?}"),
            ));
        }
        self.uids[place] = uid;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(uid: u32) -> Row<'static> {
        Row { uid: Some(uid), ..Row::default() }
    }

    #[test]
    fn numbers_and_uids_move_together() {
        let (mut view, mut truth) = (View::new(1), Truth::new(1));
        view.exists(3).expect("more than before");
        assert_eq!(view.first_unknown(), Some(1));
        for (number, uid) in [(1, 5), (2, 7), (3, 9)] {
            view.row(number, &row(uid), 0, &mut truth).expect("in order");
        }
        truth.changed(7, Some(Flags::DELETED));
        assert_eq!(view.expunge(2, &mut truth), Ok(()));
        assert_eq!((view.uid(2), view.len(), view.first_unknown()), (Some(9), 2, None));
        view.exists(3).expect("more than before");
        assert_eq!(view.first_unknown(), Some(3));
        let rule = |result: Result<(), Wrong>| result.err().map(|wrong| wrong.rule);
        assert_eq!(rule(view.row(2, &row(8), 0, &mut truth)), Some(Rule::UidChanged));
        assert_eq!(rule(view.row(3, &row(9), 0, &mut truth)), Some(Rule::UidOrder));
        assert_eq!(rule(view.row(4, &row(11), 0, &mut truth)), Some(Rule::NumberOutOfRange));
        assert_eq!(rule(view.exists(2)), Some(Rule::ExistsShrank));
        assert_eq!(rule(view.expunge(0, &mut truth)), Some(Rule::NumberOutOfRange));
    }
}
