//! What a log still owes: recipients of accepted messages whose copy is not settled, a row for each.
//!
//! This is the fold of the records of one log that are about owed mail. It says for each row where the copy goes,
//! when it is tried next and how often it was; everything else is in the records it points at, so that a row is
//! small. Everything below [`Owed::low_water`] is settled for ever: owners of mailboxes need not remember
//! deliveries of such messages. A checkpoint carries it as bytes, drawn at
//! [`Owed::encode_behind`].

mod destinations;
mod rows;

pub use destinations::{DestinationId, Destinations};

use super::fields::{Put, Take};
use super::record::{
    Accepted, Deferred, Message, Moved, ReasonMoved, Record, Released, Route, Selected, Warning,
};
use super::{AccountId, LogId, RecordPlace, Sequence};
use rows::Rows;

/// Open promises of one log.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Owed {
    log: LogId,
    rows: Rows,
    destinations: Destinations,
    /// Messages that have a row.
    messages: usize,
}

/// A recipient that a message is still owed to.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Row {
    pub message: Sequence,
    /// Of the message, with the envelope.
    pub record: RecordPlace,
    /// Number of the recipient in the envelope.
    pub recipient: u32,
    /// When it came, or was released after it was held: it ages from then. Unix seconds, as all times here; they end
    /// in the year 2106.
    pub received: u32,
    pub way: Way,
    /// Not to be tried before.
    pub due: u32,
    /// The last record that put it off, with the reason; offset 0 if there is none.
    deferral: RecordPlace,
    /// 255 stands for more.
    pub attempts: u8,
    /// -9..=9 (RFC 6710).
    pub priority: i8,
    pub state: State,
    pub warning: Warned,
}

/// Where a copy goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Way {
    Local(AccountId),
    Remote(DestinationId),
}

/// Whether a copy is to be sent on.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum State {
    #[default]
    Waiting,
    /// An operator keeps it back.
    Held,
}

/// Whether the sender knows that the message is late, and whether it set a time for it (BY, RFC 2852), which is in
/// the envelope. One enum, so that it is one byte.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Warned {
    #[default]
    No,
    Yes,
    NoAndDated,
    YesAndDated,
}

impl Warned {
    pub fn is_yes(self) -> bool {
        matches!(self, Self::Yes | Self::YesAndDated)
    }

    pub fn is_dated(self) -> bool {
        matches!(self, Self::NoAndDated | Self::YesAndDated)
    }

    fn yes(self) -> Self {
        if self.is_dated() { Self::YesAndDated } else { Self::Yes }
    }

    /// Bits: 1 warned, 2 dated.
    fn to_byte(self) -> u8 {
        u8::from(self.is_yes()) + 2 * u8::from(self.is_dated())
    }

    fn from_byte(byte: u8) -> Result<Self, Malformed> {
        [Self::No, Self::Yes, Self::NoAndDated, Self::YesAndDated]
            .get(usize::from(byte))
            .copied()
            .ok_or(Malformed)
    }
}

/// A message with a destination that it is to be tried at, at a time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Due {
    pub message: Sequence,
    pub destination: DestinationId,
    pub at: u32,
}

/// A checkpoint's bytes that do not hold what they should.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Malformed;

impl Default for Way {
    fn default() -> Self {
        Self::Local(AccountId(0))
    }
}

impl Row {
    fn key(&self) -> rows::Key {
        (self.message, self.recipient)
    }

    /// Where the reason is told why it was put off last.
    pub fn deferral(&self) -> Option<RecordPlace> {
        (self.deferral.offset != 0).then_some(self.deferral)
    }
}

impl Owed {
    pub fn new(log: LogId) -> Self {
        Self { log, rows: Rows::default(), destinations: Destinations::default(), messages: 0 }
    }

    /// Follows a record of this log. `place` is where it is, if it is a message or has a reason. What is to be tried at
    /// another time than before is added to `due`.
    pub fn apply(&mut self, (sequence, record): (Sequence, &Record), place: RecordPlace, due: &mut Vec<Due>) {
        match record {
            Record::Message(message) => self.take(sequence, message, place, due),
            Record::Delivered(delivered) => {
                if let Some((id, recipient)) = delivered.key
                    && id.log == self.log
                {
                    self.settle(id.sequence, recipient);
                }
            }
            Record::Settled(settled) => self.settle(settled.message, settled.recipient),
            Record::Deferred(deferred) => self.defer(deferred, place, due),
            Record::Held(selected) => self.hold(selected),
            Record::Released(released) => self.release(released, due),
            Record::Rebound(rebound) => {
                for &recipient in &rebound.recipients {
                    let Some(row) = self.rows.get_mut((rebound.message, recipient)) else {
                        continue;
                    };
                    if let Way::Remote(before) = row.way {
                        // Taken before the other is given back, so that a name keeps its number.
                        row.way = Way::Remote(self.destinations.take(&rebound.destination));
                        self.destinations.give_back(before);
                        due.extend(due_of(row));
                    }
                }
            }
            Record::Moved(Moved { message, .. }) => {
                let recipients: Vec<u32> = self.of_message(*message).map(|row| row.recipient).collect();
                for recipient in recipients {
                    if let Some(row) = self.rows.get_mut((*message, recipient)) {
                        row.record = place;
                    }
                }
            }
            Record::ReasonMoved(moved) => self.move_reason(moved, place),
            _ => {}
        }
    }

    /// The oldest message that is still owed to someone; `next` if there is none.
    pub fn low_water(&self, next: Sequence) -> Sequence {
        self.rows.first().map_or(next, |row| row.message)
    }

    /// The recipients that a message is still owed to.
    pub fn of_message(&self, message: Sequence) -> impl Iterator<Item = &Row> {
        self.rows.from((message, 0)).take_while(move |row| row.message == message)
    }

    fn has(&self, message: Sequence) -> bool {
        self.of_message(message).next().is_some()
    }

    /// Oldest first, from a message on.
    pub fn rows_from(&self, message: Sequence) -> impl Iterator<Item = &Row> {
        self.rows.from((message, 0))
    }

    /// Oldest first.
    pub fn rows(&self) -> impl Iterator<Item = &Row> {
        self.rows_from(Sequence(0))
    }

    pub fn destinations(&self) -> &Destinations {
        &self.destinations
    }

    /// How many messages are owed to someone.
    pub fn count(&self) -> usize {
        self.messages
    }

    /// How many copies are owed.
    pub fn row_count(&self) -> usize {
        self.rows.len()
    }

    /// When and where everything is to be tried that waits for its time.
    pub fn dues(&self) -> impl Iterator<Item = Due> {
        self.rows().filter_map(due_of)
    }

    /// The rows of about so many messages behind one, with the last of them; `None` if that was all.
    ///
    /// ```text
    /// owed := count u32 | count * (number u32 | name: length u32, bytes)        destinations
    ///       | row *
    /// row  := message u64 | segment u32, offset u32 of its record | recipient u32 | received u32
    ///       | to: kind u8 (0 account, 1 destination), number u32 | due u32
    ///       | segment u32, offset u32 of the last deferral | attempts u8 | priority i8 | held u8 | warned u8
    /// ```
    /// All little-endian.
    pub fn encode_behind(&self, message: Sequence, count: usize) -> (Vec<u8>, Option<Sequence>) {
        let from = message + 1;
        let through = self.rows_from(from).nth(count).map(|row| row.message);
        let within = |row: &&Row| through.is_none_or(|through| row.message <= through);
        let ways = self.rows_from(from).take_while(within).filter_map(|row| match row.way {
            Way::Remote(destination) => Some(destination),
            Way::Local(_) => None,
        });
        let destinations: std::collections::BTreeSet<DestinationId> = ways.collect();
        let named = destinations.iter().filter_map(|id| Some((*id, self.destinations.name(*id)?)));
        let mut bytes = Vec::new();
        put_destinations(destinations.len(), named, &mut bytes);
        put_rows(self.rows_from(from).take_while(within), &mut bytes);
        (bytes, through)
    }

    /// About as many bytes as all slices have.
    pub fn encoded_bytes(&self) -> u64 {
        (self.rows.len() * ROW_BYTES) as u64
    }

    /// Adds what [`Owed::encode_behind`] gave, behind the rows there are. Destinations may get other numbers.
    pub fn take_in(&mut self, bytes: &[u8]) -> Result<(), Malformed> {
        let mut take = Take::new(bytes);
        let mut names = std::collections::HashMap::new();
        for _ in 0..take.count(8)? {
            let number = take.u32()?;
            names.insert(number, take.text()?);
        }
        let mut before = None;
        while take.left() > 0 {
            let message = Sequence(take.u64()?);
            let record = take_place(&mut take)?;
            let (recipient, received) = (take.u32()?, take.u32()?);
            let way = match (take.u8()?, take.u32()?) {
                (0, number) => Way::Local(AccountId(number)),
                (1, number) => {
                    let name = names.get(&number).ok_or(Malformed)?;
                    Way::Remote(self.destinations.take(name))
                }
                _ => return Err(Malformed),
            };
            let due = take.u32()?;
            let deferral = take_place(&mut take)?;
            let attempts = take.u8()?;
            let priority = i8::from_le_bytes([take.u8()?]);
            let state = if take.u8()? == 0 { State::Waiting } else { State::Held };
            let warning = Warned::from_byte(take.u8()?)?;
            self.messages += usize::from(before != Some(message));
            before = Some(message);
            self.rows.insert(Row {
                message,
                record,
                recipient,
                received,
                way,
                due,
                deferral,
                attempts,
                priority,
                state,
                warning,
            });
        }
        Ok(())
    }

    fn take(&mut self, sequence: Sequence, message: &Message, record: RecordPlace, due: &mut Vec<Due>) {
        let Some(Accepted { envelope, routes, .. }) = message.accepted.as_deref() else {
            return;
        };
        let received = seconds(message.received.seconds);
        // A replay may come upon a message that a checkpoint had already.
        let known: Vec<u32> = self.of_message(sequence).map(|row| row.recipient).collect();
        known.into_iter().for_each(|recipient| self.settle(sequence, recipient));
        for (number, (route, recipient)) in (0..).zip(routes.iter().zip(&envelope.recipients)) {
            let way = match route {
                Route::Local(account) => Way::Local(*account),
                Route::Remote => {
                    let domain = recipient.address.ascii_domain();
                    let domain = domain.as_deref().unwrap_or(&recipient.address.domain);
                    Way::Remote(self.destinations.take(domain))
                }
            };
            let row = Row {
                message: sequence,
                record,
                recipient: number,
                received,
                way,
                due: envelope.hold_until.map_or(received, |until| seconds(until).max(received)),
                priority: envelope.priority,
                warning: envelope.deliver_by.map_or(Warned::No, |_| Warned::NoAndDated),
                ..Row::default()
            };
            self.rows.insert(row);
            due.extend(due_of(&row));
        }
        self.messages += usize::from(!routes.is_empty());
    }

    fn defer(&mut self, deferred: &Deferred, place: RecordPlace, due: &mut Vec<Due>) {
        for &recipient in &deferred.recipients {
            let Some(row) = self.rows.get_mut((deferred.message, recipient)) else {
                continue;
            };
            row.due = seconds(deferred.due);
            row.attempts = u8::try_from(deferred.attempts).unwrap_or(u8::MAX);
            row.warning = match deferred.warning {
                Warning::Sent => row.warning.yes(),
                Warning::NotSent => row.warning,
            };
            if !deferred.reply.is_empty() {
                row.deferral = place;
            }
            due.extend(due_of(row));
        }
    }

    /// Rows that were put off again meanwhile have another reason by now.
    fn move_reason(&mut self, moved: &ReasonMoved, place: RecordPlace) {
        for &recipient in &moved.deferred.recipients {
            if let Some(row) = self.rows.get_mut((moved.deferred.message, recipient))
                && row.deferral == moved.from
            {
                row.deferral = place;
            }
        }
    }

    fn hold(&mut self, selected: &Selected) {
        for &recipient in &selected.recipients {
            if let Some(row) = self.rows.get_mut((selected.message, recipient)) {
                row.state = State::Held;
            }
        }
    }

    fn release(&mut self, released: &Released, due: &mut Vec<Due>) {
        for &recipient in &released.recipients {
            if let Some(row) = self.rows.get_mut((released.message, recipient)) {
                row.state = State::Waiting;
                row.received = row.received.max(released.at.map_or(0, seconds));
                due.extend(due_of(row));
            }
        }
    }

    fn settle(&mut self, message: Sequence, recipient: u32) {
        let Some(row) = self.rows.remove((message, recipient)) else {
            return;
        };
        if let Way::Remote(destination) = row.way {
            self.destinations.give_back(destination);
        }
        self.messages -= usize::from(!self.has(message));
    }
}

impl From<super::fields::Malformed> for Malformed {
    fn from(_: super::fields::Malformed) -> Self {
        Self
    }
}

const ROW_BYTES: usize = 8 + 8 + 4 + 4 + 5 + 4 + 8 + 1 + 1 + 1 + 1;

fn due_of(row: &Row) -> Option<Due> {
    match (row.way, row.state) {
        (Way::Remote(destination), State::Waiting) => {
            Some(Due { message: row.message, destination, at: row.due })
        }
        _ => None,
    }
}

/// Unix seconds as rows keep them: a clock that is far off gives the nearest time there is.
fn seconds(unix: i64) -> u32 {
    u32::try_from(unix.max(0)).unwrap_or(u32::MAX)
}

fn put_destinations<'a>(
    count: usize,
    named: impl Iterator<Item = (DestinationId, &'a str)>,
    bytes: &mut Vec<u8>,
) {
    bytes.put_u32(u32::try_from(count).expect("there are fewer destinations than rows"));
    for (DestinationId(number), name) in named {
        bytes.put_u32(number);
        bytes.put_text(name);
    }
}

fn put_rows<'a>(rows: impl Iterator<Item = &'a Row>, bytes: &mut Vec<u8>) {
    for row in rows {
        bytes.put_u64(row.message.0);
        put_place(row.record, bytes);
        bytes.put_u32(row.recipient);
        bytes.put_u32(row.received);
        let (kind, number) = match row.way {
            Way::Local(AccountId(number)) => (0, number),
            Way::Remote(DestinationId(number)) => (1, number),
        };
        bytes.put_u8(kind);
        bytes.put_u32(number);
        bytes.put_u32(row.due);
        put_place(row.deferral, bytes);
        bytes.put_u8(row.attempts);
        bytes.put(&row.priority.to_le_bytes());
        bytes.put_u8(u8::from(row.state == State::Held));
        bytes.put_u8(row.warning.to_byte());
    }
}

fn put_place(place: RecordPlace, to: &mut impl Put) {
    to.put_u32(place.segment);
    to.put_u32(place.offset);
}

fn take_place(take: &mut Take<'_>) -> Result<RecordPlace, Malformed> {
    Ok(RecordPlace { segment: take.u32()?, offset: take.u32()? })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::{DestinationId, Due, Malformed, Owed, State, Warned, Way};
    use crate::bytes::Slice;
    use crate::mail::address::Address;
    use crate::mail::envelope::{ByMode, DeliverBy, Envelope, Recipient};
    use crate::mail::time::Timestamp;
    use crate::store::record::{
        Accepted, Body, Deferred, Message, Moved, ReasonMoved, Rebound, Record, Released, Route, Selected,
        Settled, Warning,
    };
    use crate::store::{AccountId, LogId, RecordPlace, Sequence};

    const LOG: LogId = LogId(3);
    const PLACE: RecordPlace = RecordPlace { segment: 7, offset: 4096 };

    fn message() -> Record {
        let recipient =
            |domain: &str| Recipient::new(Address { local: "x".to_owned(), domain: domain.to_owned() });
        let recipients = ["here.example", "a.example", "bücher.example", "a.example"].map(recipient);
        let accepted = Accepted {
            envelope: Envelope { recipients: recipients.to_vec(), ..Envelope::default() },
            routes: vec![Route::Local(AccountId(7)), Route::Remote, Route::Remote, Route::Remote],
            ..Accepted::default()
        };
        let body = Body::Inline { bytes: Slice::from(Vec::new()), return_path_length: 2 };
        let received = Timestamp { seconds: 99, zone_minutes: 0 };
        Record::Message(Message { received, accepted: Some(Arc::new(accepted)), body })
    }

    fn apply(owed: &mut Owed, sequence: u64, record: &Record) -> Vec<Due> {
        let mut due = Vec::new();
        owed.apply((Sequence(sequence), record), PLACE, &mut due);
        due
    }

    fn owed_of(messages: &[u64]) -> Owed {
        let mut owed = Owed::new(LOG);
        messages.iter().for_each(|&sequence| drop(apply(&mut owed, sequence, &message())));
        owed
    }

    fn settled(message: u64, recipient: u32) -> Record {
        Record::Settled(Settled { message: Sequence(message), recipient })
    }

    #[test]
    fn the_low_water_rises_when_all_recipients_of_the_oldest_are_settled() {
        let mut owed = owed_of(&[5, 9]);
        assert_eq!(owed.count(), 2);
        for recipient in [0, 0, 2, 3, 1] {
            assert_eq!(owed.low_water(Sequence(10)), Sequence(5));
            apply(&mut owed, 20, &settled(5, recipient));
        }
        assert_eq!((owed.low_water(Sequence(10)), owed.count()), (Sequence(9), 1));
        (0..4).for_each(|recipient| drop(apply(&mut owed, 20, &settled(9, recipient))));
        assert_eq!((owed.low_water(Sequence(10)), owed.count()), (Sequence(10), 0));
        assert_eq!(owed.destinations().iter().count(), 0);
    }

    #[test]
    fn what_is_owed_elsewhere_is_due_at_once_then_later_then_elsewhere() {
        let mut owed = Owed::new(LOG);
        let [a, buecher] = [0, 1].map(DestinationId);
        let due = |destination, at| Due { message: Sequence(5), destination, at };
        assert_eq!(apply(&mut owed, 5, &message()), [due(a, 99), due(buecher, 99), due(a, 99)]);
        assert_eq!(owed.destinations().name(buecher), Some("xn--bcher-kva.example"));

        let deferred = Deferred {
            message: Sequence(5),
            recipients: vec![1, 9],
            attempts: 1,
            due: 400,
            warning: Warning::Sent,
            reply: "451".to_owned(),
        };
        assert_eq!(apply(&mut owed, 6, &Record::Deferred(deferred.clone())), [due(a, 400)]);
        let moved = Deferred { due: 7, warning: Warning::NotSent, reply: String::new(), ..deferred };
        assert_eq!(apply(&mut owed, 7, &Record::Deferred(moved)), [due(a, 7)]);
        let row = *owed.of_message(Sequence(5)).nth(1).expect("the second recipient");
        assert_eq!((row.attempts, row.due, row.warning, row.deferral()), (1, 7, Warned::Yes, Some(PLACE)));

        let selected = Selected { message: Sequence(5), recipients: vec![1, 2] };
        assert_eq!(apply(&mut owed, 8, &Record::Held(selected)), []);
        assert_eq!(owed.of_message(Sequence(5)).filter(|row| row.state == State::Held).count(), 2);
        let released = |at| Record::Released(Released { message: Sequence(5), recipients: vec![1, 2], at });
        assert_eq!(apply(&mut owed, 9, &released(None)), [due(a, 7), due(buecher, 99)]);
        let ages_from = |owed: &Owed| owed.rows().map(|row| row.received).collect::<Vec<_>>();
        assert_eq!(ages_from(&owed), [99; 4]);
        apply(&mut owed, 9, &released(Some(500)));
        apply(&mut owed, 9, &released(Some(98)));
        assert_eq!(ages_from(&owed), [99, 500, 500, 99], "what was held ages from its release");

        let (recipients, destination) = (vec![0, 1, 2], "c.example".to_owned());
        let rebound = Rebound { message: Sequence(5), recipients, destination };
        let moved = apply(&mut owed, 10, &Record::Rebound(rebound));
        let there = owed.destinations().find("c.example").expect("it has rows");
        assert_eq!(moved, [due(there, 7), due(there, 99)]);
        let ways: Vec<Way> = owed.of_message(Sequence(5)).map(|row| row.way).collect();
        let expected = [Way::Local(AccountId(7)), Way::Remote(there), Way::Remote(there), Way::Remote(a)];
        assert_eq!(ways, expected);
        assert_eq!(owed.destinations().find("xn--bcher-kva.example"), None);
    }

    #[test]
    fn a_message_is_due_when_its_sender_says_and_not_before_it_came() {
        for (hold_until, expected) in
            [(None, 99), (Some(500), 500), (Some(98), 99), (Some(i64::MAX), u32::MAX)]
        {
            let Record::Message(mut message) = message() else {
                unreachable!("it is a message");
            };
            let accepted = Arc::make_mut(message.accepted.as_mut().expect("it was accepted"));
            (accepted.envelope.hold_until, accepted.envelope.priority) = (hold_until, -3);
            let mut owed = Owed::new(LOG);
            let due = apply(&mut owed, 5, &Record::Message(message));
            assert!(due.iter().all(|due| due.at == expected), "{due:?}");
            assert!(owed.rows().all(|row| (row.due, row.priority) == (expected, -3)));
        }
    }

    #[test]
    fn a_message_that_is_replayed_is_as_new() {
        let mut owed = owed_of(&[5]);
        apply(&mut owed, 6, &settled(5, 1));
        assert_eq!(apply(&mut owed, 5, &message()).len(), 3);
        assert_eq!(owed, owed_of(&[5]));
    }

    #[test]
    fn what_is_moved_is_found_at_its_new_place_and_is_else_as_it_was() {
        let mut owed = owed_of(&[5]);
        let deferred = Deferred {
            message: Sequence(5),
            recipients: vec![1, 2],
            attempts: 1,
            due: 400,
            warning: Warning::Sent,
            reply: "451".to_owned(),
        };
        apply(&mut owed, 6, &Record::Deferred(deferred.clone()));
        let reason = ReasonMoved { from: PLACE, deferred: Deferred { due: 0, attempts: 0, ..deferred } };
        let Record::Message(content) = message() else { unreachable!("it is a message") };
        let place = RecordPlace { segment: 8, offset: 64 };
        let before = owed.clone();
        for record in [
            Record::ReasonMoved(reason.clone()),
            Record::Moved(Moved { message: Sequence(5), content }),
            Record::ReasonMoved(reason),
        ] {
            let mut due = Vec::new();
            owed.apply((Sequence(7), &record), place, &mut due);
            assert_eq!(due, []);
        }
        for (row, before) in owed.rows().zip(before.rows()) {
            let deferral = before.deferral().map(|_| place);
            assert_eq!((row.record, row.deferral()), (place, deferral));
            assert_eq!(super::Row { record: before.record, deferral: before.deferral, ..*row }, *before);
        }
    }

    #[test]
    fn slices_of_it_are_all_of_it() {
        let mut owed = owed_of(&[5, 9, 12, 13]);
        apply(&mut owed, 14, &settled(9, 2));
        for count in [0, 1, 3, 100] {
            let (mut again, mut behind) = (Owed::new(LOG), Some(Sequence(0)));
            while let Some(message) = behind {
                let (bytes, next) = owed.encode_behind(message, count);
                again.take_in(&bytes).expect("it was just made");
                behind = next;
            }
            assert_eq!(again, owed);
        }
    }

    #[test]
    fn a_checkpoint_gives_it_back_and_a_cut_one_is_refused() {
        let mut owed = owed_of(&[5, 9]);
        let held = Selected { message: Sequence(9), recipients: vec![3] };
        apply(&mut owed, 10, &Record::Held(held));
        let Record::Message(mut dated) = message() else {
            unreachable!("it is a message");
        };
        let by = DeliverBy { at: 1, mode: ByMode::Notify, trace: true };
        Arc::make_mut(dated.accepted.as_mut().expect("it was accepted")).envelope.deliver_by = Some(by);
        apply(&mut owed, 11, &Record::Message(dated));
        let warned = Deferred {
            message: Sequence(11),
            recipients: vec![2],
            attempts: 1,
            due: 400,
            warning: Warning::Sent,
            reply: String::new(),
        };
        apply(&mut owed, 12, &Record::Deferred(warned));
        let marks: Vec<Warned> = owed.of_message(Sequence(11)).map(|row| row.warning).collect();
        assert_eq!(marks[1..], [Warned::NoAndDated, Warned::YesAndDated, Warned::NoAndDated]);
        let (bytes, _) = owed.encode_behind(Sequence(0), usize::MAX);
        let decode = |bytes: &[u8]| {
            let mut owed = Owed::new(LOG);
            owed.take_in(bytes).map(|()| owed)
        };
        assert_eq!(decode(&bytes), Ok(owed));
        for length in 1..bytes.len() {
            if let Ok(shorter) = decode(&bytes[..length]) {
                assert!(shorter.rows().count() < 12);
            }
        }
        assert_eq!(decode(&bytes[..bytes.len() - 1]), Err(Malformed));
        let (nothing, _) = Owed::new(LOG).encode_behind(Sequence(0), usize::MAX);
        assert_eq!(decode(&nothing), Ok(Owed::new(LOG)));
    }
}
