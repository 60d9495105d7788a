//! SEARCH over a view, in slices (RFC 9051 6.4.4).
//!
//! The key is prepared once: sets become spans of UIDs, keywords become bits, texts are folded. Then each message is
//! asked in up to three rounds: first by what stands in columns, then by the header fields that are kept, then by the
//! message itself. A test that a round cannot answer is open, and `And`, `Or`, `Not` decide what they can with open
//! tests among them; so a body is read only if nothing cheaper settles the matter.
//!
//! Invariants: a message that the client does not count is never found, one that is gone neither; a step does no
//! more than its budget, save for the one look that exceeds it, and a message that takes longer is gone on with in the
//! next; depth is that of the key, which the parser bounds.

use std::cell::{Cell, OnceCell, RefCell};

use super::mailbox::Row;
use super::saved::Saved;
use super::view::{Look, Message, Numbering, intersect};
use crate::bytes::Slice;
use crate::mail::date;
use crate::mail::digest::kept;
use crate::mail::flags::SystemFlags;
use crate::mail::header::Header;
use crate::mail::mime::Structure;
use crate::mail::query::{DateTest, Day, SearchKey, SearchReturn};
use crate::mail::set::Ranges;
use crate::mail::text::{Needle, body_contains, header_contains, is_plainly_without, text_contains};
use crate::mail::time::Timestamp;
use crate::store::Locator;
use crate::store::index::RowDigest;

/// Where bodies come from.
pub trait Bodies {
    /// The whole message, if it can be read.
    fn message(&self, locator: &Locator) -> Option<Slice>;
}

/// Where there are none.
pub struct Nothing;

impl Bodies for Nothing {
    fn message(&self, _: &Locator) -> Option<Slice> {
        None
    }
}

/// How much one step may do before others get their turn.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Budget {
    pub messages: u32,
    /// Octets of messages that are looked through, for each text anew.
    pub bytes: u64,
}

impl Budget {
    pub const UNBOUNDED: Self = Self { messages: u32::MAX, bytes: u64::MAX };
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Progress {
    More,
    Done,
}

/// A search under way.
pub struct Search {
    test: Test,
    /// The messages that can match at all.
    scope: Ranges,
    /// The last UID that was asked.
    after: u32,
    asked: u32,
    all: u32,
    found: Found,
    effort: Effort,
}

/// What a search found.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Found {
    /// In the order of the mailbox; after a SORT, in that order.
    pub uids: Vec<u32>,
    /// A MODSEQ key was used: the answer carries the highest mod-sequence.
    pub with_modseq: bool,
    /// UID and mod-sequence, ascending by UID; kept only if a MODSEQ key was used.
    modseqs: Vec<(u32, u64)>,
}

/// The answer to RETURN options (RFC 4731), in UIDs.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Answer {
    pub min: Option<u32>,
    pub max: Option<u32>,
    /// `None` if not asked for or empty. The order of a SORT is in `Found::uids`.
    pub all: Option<Ranges>,
    pub count: Option<u32>,
    pub modseq: Option<u64>,
    /// What becomes of `$`, if SAVE was asked for.
    pub save: Option<Ranges>,
}

/// A key, prepared.
enum Test {
    Known(bool),
    And(Vec<Test>),
    Or(Box<Test>, Box<Test>),
    Not(Box<Test>),
    Uids(Ranges),
    Flags(SystemFlags),
    Keywords(u64),
    Recent,
    Larger(u64),
    Smaller(u64),
    Internal(DateTest),
    Sent(DateTest),
    Saved(DateTest),
    /// INTERNALDATE in Unix seconds.
    NotBefore(i64),
    NotAfter(i64),
    ModSequence(u64),
    EmailId(String),
    Header {
        name: String,
        sought: Sought,
        is_kept: bool,
    },
    Body(Sought),
    Text(Sought),
}

/// A text to look for.
struct Sought {
    needle: Needle,
    /// Among those of the key.
    place: usize,
}

/// A look into nothing takes as long as one into so much.
const LOOK_OCTETS: u64 = 64;

/// What a step has looked through, and what it found out about the message under way. Where a message takes more than
/// a step, the next goes on from that.
#[derive(Default)]
struct Effort {
    /// Octets.
    spent: Cell<u64>,
    most: u64,
    /// The message under way.
    uid: u32,
    /// Whether it has the texts, by their places, as far as they were looked for.
    verdicts: RefCell<Vec<Option<bool>>>,
    /// A text was left to the next step.
    is_cut: Cell<bool>,
}

/// A message as far as it was looked at.
struct Subject<'a, 'b> {
    message: &'b Message<'a>,
    row: &'b Row<'a>,
    digest: &'b OnceCell<Option<RowDigest<'a>>>,
    round: Round<'b>,
    effort: &'b Effort,
}

#[derive(Clone, Copy)]
enum Round<'b> {
    Columns,
    KeptFields,
    Whole(&'b Whole<'b>),
}

/// A message that was read; its parts are found when they are asked for.
struct Whole<'b> {
    bytes: &'b [u8],
    header: OnceCell<Header<'b>>,
    sent: OnceCell<Option<Timestamp>>,
    structure: OnceCell<Structure<'b>>,
}

impl Search {
    /// `now` is in Unix seconds, for YOUNGER and OLDER.
    pub fn new(key: &SearchKey, look: &Look<'_>, saved: &Saved, now: i64) -> Self {
        let preparation = Preparation { look, saved, now, texts: Cell::new(0) };
        let test = preparation.prepare(key);
        let scope = test.scope(&look.everything());
        let all = look.to_numbers(&scope).count();
        let found = Found { with_modseq: uses_modseq(key), ..Found::default() };
        let effort = Effort::for_texts(preparation.texts.get());
        Self { test, scope, after: 0, asked: 0, all: u32::try_from(all).unwrap_or(u32::MAX), found, effort }
    }

    pub fn step(&mut self, look: &Look<'_>, bodies: &dyn Bodies, budget: Budget) -> Progress {
        let scope = std::mem::take(&mut self.scope);
        self.effort.begin(budget.bytes);
        let mut progress = Progress::Done;
        for (asked, message) in (1..).zip(look.messages(&scope, self.after)) {
            let Some(matches) = self.ask(&message, bodies) else {
                progress = Progress::More;
                break;
            };
            if let Some(row) = message.row.filter(|_| matches) {
                self.note(&row);
            }
            self.after = message.uid;
            self.asked = self.asked.saturating_add(1).min(self.all);
            if asked >= budget.messages || self.effort.is_enough() {
                progress = Progress::More;
                break;
            }
        }
        self.scope = scope;
        progress
    }

    /// Messages looked at so far and in all, for INPROGRESS.
    pub fn progress(&self) -> (u32, u32) {
        (self.asked, self.all)
    }

    pub fn finish(self) -> Found {
        self.found
    }

    /// Whether a message matches; `None` if that takes another step.
    fn ask(&mut self, message: &Message<'_>, bodies: &dyn Bodies) -> Option<bool> {
        let Some(row) = &message.row else {
            return Some(false);
        };
        self.effort.turn_to(row.uid);
        let digest = OnceCell::new();
        let subject = |round| Subject { message, row, digest: &digest, round, effort: &self.effort };
        if let Some(verdict) = self.test.ask(&subject(Round::Columns)) {
            return Some(verdict);
        }
        if let Some(verdict) = self.test.ask(&subject(Round::KeptFields)) {
            return Some(verdict);
        }
        if self.effort.is_enough() {
            return None;
        }
        // What cannot be read is not found, whatever was asked.
        let Some(bytes) = bodies.message(&row.locator) else {
            return Some(false);
        };
        let spent_before = self.effort.spent.get();
        let whole = Whole::of(&bytes);
        let verdict = self.test.ask(&subject(Round::Whole(&whole)));
        self.effort.spend_through(spent_before.saturating_add(bytes.len() as u64));
        match self.effort.is_cut.get() {
            true => verdict,
            false => Some(verdict.unwrap_or(false)),
        }
    }

    fn note(&mut self, row: &Row<'_>) {
        self.found.uids.push(row.uid);
        if self.found.with_modseq {
            self.found.modseqs.push((row.uid, row.modseq));
        }
    }
}

impl Effort {
    fn for_texts(count: usize) -> Self {
        Self { verdicts: RefCell::new(vec![None; count]), ..Self::default() }
    }

    /// A step that may look through so many octets.
    fn begin(&mut self, most: u64) {
        (self.spent, self.most, self.is_cut) = (Cell::new(0), most, Cell::new(false));
    }

    fn turn_to(&mut self, uid: u32) {
        if self.uid != uid {
            self.uid = uid;
            self.verdicts.get_mut().fill(None);
        }
    }

    fn is_enough(&self) -> bool {
        self.spent.get() >= self.most
    }

    /// Whatever was less than this was this.
    fn spend_through(&self, spent: u64) {
        self.spent.set(self.spent.get().max(spent));
    }

    /// Whether the message has a text, for which so many octets are looked through. `None` if that is for the next
    /// step.
    fn look(&self, sought: &Sought, octets: usize, has: impl FnOnce(&Needle) -> bool) -> Option<bool> {
        if let Some(verdict) = self.verdicts.borrow()[sought.place] {
            return Some(verdict);
        }
        if self.is_enough() {
            self.is_cut.set(true);
            return None;
        }
        self.spent.set(self.spent.get().saturating_add(octets as u64 + LOOK_OCTETS));
        let verdict = has(&sought.needle);
        self.verdicts.borrow_mut()[sought.place] = Some(verdict);
        Some(verdict)
    }
}

impl Found {
    /// The same messages in the order of a SORT.
    pub fn in_order(self, uids: Vec<u32>) -> Self {
        Self { uids, ..self }
    }

    /// The highest mod-sequence of all, if a MODSEQ key was used and something was found (RFC 7162 3.1.5).
    pub fn modseq(&self) -> Option<u64> {
        self.modseqs.iter().map(|(_, modseq)| *modseq).max()
    }

    /// MIN and MAX are the first and the last, of a SORT in its order (RFC 5267 3.1).
    pub fn answer(&self, returns: SearchReturn) -> Answer {
        let min = self.uids.first().copied().filter(|_| returns.min);
        let max = self.uids.last().copied().filter(|_| returns.max);
        let all = || self.uids.iter().copied().collect::<Ranges>();
        let ends = || min.into_iter().chain(max).collect::<Ranges>();
        let only_ends = (returns.min || returns.max) && !returns.all && !returns.count;
        // RFC 5182 2.4: what is saved is what was asked for.
        let save = returns.save.then(|| if only_ends { ends() } else { all() });
        // RFC 7162 3.1.10: of the messages that are named.
        let modseq = match only_ends {
            true => ends().iter().filter_map(|uid| self.modseq_of(uid)).max(),
            false => self.modseq(),
        };
        Answer {
            min,
            max,
            all: (returns.all && !self.uids.is_empty()).then(all),
            count: returns.count.then_some(u32::try_from(self.uids.len()).unwrap_or(u32::MAX)),
            modseq,
            save,
        }
    }

    fn modseq_of(&self, uid: u32) -> Option<u64> {
        let at = self.modseqs.binary_search_by_key(&uid, |(of, _)| *of).ok()?;
        Some(self.modseqs[at].1)
    }
}

/// What keys are prepared with.
struct Preparation<'a> {
    look: &'a Look<'a>,
    saved: &'a Saved,
    now: i64,
    /// Texts to look for so far.
    texts: Cell<usize>,
}

impl Preparation<'_> {
    fn prepare(&self, key: &SearchKey) -> Test {
        match key {
            SearchKey::All => Test::Known(true),
            SearchKey::And(keys) => Test::And(keys.iter().map(|key| self.prepare(key)).collect()),
            SearchKey::Or(one, other) => Test::Or(Box::new(self.prepare(one)), Box::new(self.prepare(other))),
            SearchKey::Not(key) => Test::Not(Box::new(self.prepare(key))),
            SearchKey::Numbers(set) => {
                Test::Uids(self.look.resolve_leniently(set, Numbering::Sequence, self.saved))
            }
            SearchKey::Uids(set) => Test::Uids(self.look.resolve_leniently(set, Numbering::Uid, self.saved)),
            SearchKey::Flags(flags) => Test::Flags(*flags),
            SearchKey::Keyword(keyword) => self.prepare_keyword(keyword),
            SearchKey::Recent => Test::Recent,
            SearchKey::Larger(size) => Test::Larger(*size),
            SearchKey::Smaller(size) => Test::Smaller(*size),
            SearchKey::Internal(test) => Test::Internal(*test),
            SearchKey::Sent(test) => Test::Sent(*test),
            SearchKey::Saved(test) => Test::Saved(*test),
            SearchKey::Younger(seconds) => Test::NotBefore(self.now.saturating_sub(i64::from(*seconds))),
            SearchKey::Older(seconds) => Test::NotAfter(self.now.saturating_sub(i64::from(*seconds))),
            SearchKey::Header(name, text) => {
                Test::Header { name: name.clone(), is_kept: kept(name), sought: self.prepare_text(text) }
            }
            // Every message has a body and a text, be they empty.
            SearchKey::Body(text) | SearchKey::Text(text) if text.is_empty() => Test::Known(true),
            SearchKey::Body(text) => Test::Body(self.prepare_text(text)),
            SearchKey::Text(text) => Test::Text(self.prepare_text(text)),
            SearchKey::ModSequence(modseq) => Test::ModSequence(*modseq),
            SearchKey::EmailId(id) => Test::EmailId(id.clone()),
            // No message has one.
            SearchKey::ThreadId(_) => Test::Known(false),
        }
    }

    fn prepare_text(&self, text: &str) -> Sought {
        let place = self.texts.get();
        self.texts.set(place + 1);
        Sought { needle: Needle::new(text), place }
    }

    /// A keyword that the mailbox does not know is on no message.
    fn prepare_keyword(&self, keyword: &str) -> Test {
        match self.look.mailbox().keyword_bit(keyword) {
            Some(bit) => Test::Keywords(1 << bit),
            None => Test::Known(false),
        }
    }
}

impl Test {
    /// Whether the message matches; `None` if this round cannot say.
    fn ask(&self, subject: &Subject<'_, '_>) -> Option<bool> {
        let row = subject.row;
        match self {
            Self::Known(verdict) => Some(*verdict),
            Self::And(tests) => all_of(tests.iter().map(|test| test.ask(subject))),
            Self::Or(one, other) => {
                let unlike = [one, other].into_iter().map(|test| test.ask(subject).map(|verdict| !verdict));
                all_of(unlike).map(|neither| !neither)
            }
            Self::Not(test) => test.ask(subject).map(|verdict| !verdict),
            Self::Uids(uids) => Some(uids.contains(row.uid)),
            Self::Flags(flags) => Some(row.flags.contains(*flags)),
            Self::Keywords(bits) => Some(row.keywords & bits == *bits),
            Self::Recent => Some(subject.message.recent),
            Self::Larger(size) => Some(row.locator.length > *size),
            Self::Smaller(size) => Some(row.locator.length < *size),
            Self::Internal(test) => Some(is_day(*test, row.internal.day())),
            // The save date has no zone of its own.
            Self::Saved(test) => Some(is_day(*test, Timestamp { seconds: row.saved, zone_minutes: 0 }.day())),
            Self::NotBefore(seconds) => Some(row.internal.seconds >= *seconds),
            Self::NotAfter(seconds) => Some(row.internal.seconds <= *seconds),
            Self::ModSequence(modseq) => Some(row.modseq >= *modseq),
            Self::EmailId(id) => Some(row.locator.id.to_string() == *id),
            // A message without a date was sent on no day.
            Self::Sent(test) => subject.sent().map(|sent| sent.is_some_and(|sent| is_day(*test, sent.day()))),
            Self::Header { name, is_kept, sought } => {
                let header = subject.header(*is_kept)?;
                subject.effort.look(sought, header.len(), |needle| header_contains(&header, name, needle))
            }
            Self::Body(sought) => subject.look(sought, body_contains),
            Self::Text(sought) => subject.look(sought, text_contains),
        }
    }

    /// Messages outside of it cannot match. `everything` is all there is.
    fn scope(&self, everything: &Ranges) -> Ranges {
        match self {
            Self::Known(false) => Ranges::default(),
            Self::Uids(uids) => intersect(uids, everything.ranges()),
            Self::And(tests) => tests.iter().fold(everything.clone(), |scope, test| test.scope(&scope)),
            Self::Or(one, other) => {
                let (one, other) = (one.scope(everything), other.scope(everything));
                Ranges::from_unordered(one.ranges().iter().chain(other.ranges()).copied().collect())
            }
            _ => everything.clone(),
        }
    }
}

impl<'a, 'b> Subject<'a, 'b> {
    fn digest(&self) -> Option<&'b RowDigest<'a>> {
        self.digest.get_or_init(|| self.row.digest.get()).as_ref()
    }

    /// The Date field; `None` while it is not known.
    fn sent(&self) -> Option<Option<Timestamp>> {
        match (self.digest(), self.round) {
            (Some(digest), _) => Some(digest.sent),
            (None, Round::Whole(whole)) => Some(whole.sent()),
            (None, _) => None,
        }
    }

    fn header(&self, is_kept: bool) -> Option<Header<'b>> {
        match self.round {
            Round::KeptFields if is_kept => self.digest().map(|digest| Header::whole(digest.fields)),
            Round::Whole(whole) => Some(whole.header()),
            _ => None,
        }
    }

    /// Whether the parts of the message hold a text; they are told apart only where that has to be known.
    fn look(&self, sought: &Sought, contains: fn(&Structure<'_>, &Needle) -> bool) -> Option<bool> {
        let Round::Whole(whole) = self.round else {
            return None;
        };
        self.effort.look(sought, whole.bytes.len(), |needle| {
            let structure = || whole.structure.get_or_init(|| Structure::of(whole.bytes));
            let is_without = is_plainly_without(whole.bytes, needle, self.row.digest.is_plain());
            !is_without && contains(structure(), needle)
        })
    }
}

impl<'b> Whole<'b> {
    fn of(bytes: &'b [u8]) -> Self {
        Self { bytes, header: OnceCell::new(), sent: OnceCell::new(), structure: OnceCell::new() }
    }

    fn header(&self) -> Header<'b> {
        *self.header.get_or_init(|| Header::of(self.bytes))
    }

    fn sent(&self) -> Option<Timestamp> {
        *self.sent.get_or_init(|| self.header().find("Date").and_then(date::parse_rfc5322))
    }
}

/// One `false` settles it, whatever is open.
fn all_of(verdicts: impl Iterator<Item = Option<bool>>) -> Option<bool> {
    let mut all = Some(true);
    for verdict in verdicts {
        match verdict {
            Some(false) => return Some(false),
            Some(true) => {}
            None => all = None,
        }
    }
    all
}

fn is_day(test: DateTest, day: Day) -> bool {
    match test {
        DateTest::Before(other) => day < other,
        DateTest::On(other) => day == other,
        DateTest::Since(other) => day >= other,
    }
}

fn uses_modseq(key: &SearchKey) -> bool {
    match key {
        SearchKey::ModSequence(_) => true,
        SearchKey::And(keys) => keys.iter().any(uses_modseq),
        SearchKey::Or(one, other) => uses_modseq(one) || uses_modseq(other),
        SearchKey::Not(key) => uses_modseq(key),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::{Bodies, Budget, Found, Progress, Search};
    use crate::bytes::Slice;
    use crate::mail::flags::{Flags, SystemFlags};
    use crate::mail::query::{DateTest, Day, SearchKey as Key, SearchReturn};
    use crate::mail::set::{Bound, NumberSet, Ranges};
    use crate::mailbox::account::Account;
    use crate::mailbox::saved::Saved;
    use crate::mailbox::test_mail::incoming;
    use crate::mailbox::view::{Access, Expunges, View};
    use crate::store::{AccountId, Locator, MailboxId};

    const MESSAGES: [&str; 5] = [
        "From: Ann <ann@a.test>\r\nSubject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=\r\nDate: Wed, 31 Dec 2025 23:30:00 -0500\r\n\r\nHello world\r\n",
        "From: bob@b.test\r\nSubject: plans\r\nX-Odd: tulip\r\nDate: Thu, 1 Jan 2026 08:00:00 +0000\r\n\r\nthe Needle is here\r\n",
        "From: cy@c.test\r\nSubject:\r\n\r\nnothing\r\n",
        "From: dan@d.test\r\nContent-Transfer-Encoding: base64\r\nContent-Type: text/plain; charset=utf-8\r\n\r\nbmVlZGxlIHdpdGhpbg==\r\n",
        "Date: nonsense\r\n\r\nlast one, longer than all the others, so that its size alone tells it from them, whatever they say of themselves in their headers and bodies\r\n",
    ];

    /// Reads are counted, so that a test can say what must not be read.
    struct Counted(Cell<u32>);

    impl Bodies for Counted {
        fn message(&self, locator: &Locator) -> Option<Slice> {
            self.0.set(self.0.get() + 1);
            let index = locator.id.sequence.0 as usize - 1;
            MESSAGES.get(index).map(|message| Slice::from(message.as_bytes().to_vec()))
        }
    }

    fn account() -> (Account, MailboxId) {
        let mut account = Account::new(AccountId(1));
        let plan = account.plan_create("box", None).expect("a new name");
        let id = plan.answer;
        plan.changes.iter().for_each(|change| account.apply(&change.record, None));
        let all_flags =
            [SystemFlags::SEEN, SystemFlags::DELETED, SystemFlags::NONE, SystemFlags::ALL, SystemFlags::NONE];
        for (minute, (message, flags)) in (1..).zip(MESSAGES.iter().zip(all_flags)) {
            let mut incoming = incoming(minute, message.as_bytes());
            incoming.flags = Flags::system(flags);
            if minute == 3 {
                incoming.flags.add_keyword("$Junk");
            }
            // The third has no digest, as after a replay.
            incoming.digest = incoming.digest.filter(|_| minute != 3);
            let plan = account.plan_append(id, incoming).expect("room");
            plan.changes.iter().for_each(|change| account.apply(&change.record, change.digest.as_ref()));
        }
        (account, id)
    }

    fn found(key: &Key) -> (Vec<u32>, u32) {
        let (account, id) = account();
        let mailbox = account.mailbox(id).expect("just made");
        let bodies = Counted(Cell::new(0));
        let mut saved = Saved::new();
        saved.uids = [2, 3, 9].into_iter().collect();
        let mut view = View::open(mailbox, Access::ReadWrite);
        let look = view.look(mailbox);
        let mut search = Search::new(key, &look, &saved, 1_767_225_600 + 240);
        while search.step(&look, &bodies, Budget { messages: 2, bytes: 1000 }) == Progress::More {}
        (search.finish().uids, bodies.0.get())
    }

    fn day(number: i32) -> Day {
        Day(20_454 + number)
    }

    fn from(number: u32) -> NumberSet {
        NumberSet::Ranges(vec![(Bound::Number(number), Bound::Last)])
    }

    fn header(name: &str, text: &str) -> Key {
        Key::Header(name.to_owned(), text.to_owned())
    }

    fn not(key: Key) -> Key {
        Key::Not(Box::new(key))
    }

    #[test]
    fn keys_find_what_they_say_and_read_no_more_than_they_must() {
        let needle = || Key::Body("nEEdle".to_owned());
        // Day 0 is the first of 2026.
        let table: Vec<(Key, &[u32], u32)> = vec![
            (Key::All, &[1, 2, 3, 4, 5], 0),
            (Key::Flags(SystemFlags::SEEN), &[1, 4], 0),
            (not(Key::Flags(SystemFlags::SEEN)), &[2, 3, 5], 0),
            (Key::Keyword("$junk".to_owned()), &[3], 0),
            (Key::Keyword("unheard-of".to_owned()), &[], 0),
            (not(Key::Keyword("unheard-of".to_owned())), &[1, 2, 3, 4, 5], 0),
            (Key::Numbers(from(4)), &[4, 5], 0),
            (Key::Numbers(from(40)), &[5], 0),
            (Key::Uids(from(40)), &[5], 0),
            (Key::Uids(NumberSet::Saved), &[2, 3], 0),
            (Key::Larger(140), &[5], 0),
            (Key::Smaller(50), &[3], 0),
            (Key::Internal(DateTest::On(day(0))), &[1, 2, 3, 4, 5], 0),
            (Key::Internal(DateTest::Before(day(0))), &[], 0),
            (Key::Saved(DateTest::Since(day(0))), &[1, 2, 3, 4, 5], 0),
            // The day as it was written, whatever the zone; the third has no digest to tell.
            (Key::Sent(DateTest::On(day(-1))), &[1], 1),
            (Key::Sent(DateTest::Since(day(0))), &[2], 1),
            (Key::Younger(120), &[2, 3, 4, 5], 0),
            (Key::Older(120), &[1, 2], 0),
            (header("subject", "GRÜSSE"), &[1], 1),
            (header("SUBJECT", ""), &[1, 2, 3], 1),
            (header("From", "ann"), &[1], 1),
            (header("X-Odd", "LIP"), &[2], 5),
            (header("X-Odd", ""), &[2], 5),
            (needle(), &[2, 4], 5),
            (Key::Body("within".to_owned()), &[4], 5),
            (Key::Body("plans".to_owned()), &[], 5),
            (Key::Text("plans".to_owned()), &[2], 5),
            (Key::Text(String::new()), &[1, 2, 3, 4, 5], 0),
            // A body is read only where nothing cheaper decides.
            (Key::And(vec![needle(), Key::Flags(SystemFlags::SEEN)]), &[4], 2),
            (Key::And(vec![needle(), Key::Uids(from(5))]), &[], 1),
            (Key::Or(Box::new(needle()), Box::new(header("From", "ann"))), &[1, 2, 4], 4),
            (not(Key::Or(Box::new(needle()), Box::new(Key::Uids(from(3))))), &[1], 2),
            (Key::EmailId("000000000002".to_owned()), &[2], 0),
            (Key::ThreadId("x".to_owned()), &[], 0),
        ];
        for (key, uids, reads) in table {
            let (got, got_reads) = found(&key);
            assert_eq!(got, uids, "{key:?}");
            assert!(got_reads <= reads, "{key:?} read {got_reads} messages");
        }
    }

    #[test]
    fn a_message_in_which_many_texts_are_looked_for_takes_many_steps() {
        let absent = (0..20).map(|number| not(Key::Body(format!("absent {number}"))));
        let fields = ["Subject", "X-Odd"].map(|name| not(header(name, "absent")));
        let key = Key::And(absent.chain(fields).collect());
        let (account, id) = account();
        let mailbox = account.mailbox(id).expect("just made");
        let mut view = View::open(mailbox, Access::ReadWrite);
        let look = view.look(mailbox);
        for (bytes, pauses) in [(1, 5 * 22), (1 << 20, 0)] {
            let mut search = Search::new(&key, &look, &Saved::new(), 0);
            let bodies = Counted(Cell::new(0));
            let mut more = 0;
            while search.step(&look, &bodies, Budget { messages: 100, bytes }) == Progress::More {
                more += 1;
            }
            assert_eq!(more, pauses);
            assert_eq!(search.finish().uids, [1, 2, 3, 4, 5]);
        }
    }

    #[test]
    fn mod_sequences_and_return_options() {
        let returns = |text: &str| SearchReturn {
            min: text.contains("MIN"),
            max: text.contains("MAX"),
            all: text.contains("ALL"),
            count: text.contains("COUNT"),
            save: text.contains("SAVE"),
        };
        let found =
            Found { uids: vec![2, 5, 9], with_modseq: true, modseqs: vec![(2, 30), (5, 90), (9, 40)] };
        let ranges = |uids: &[u32]| Some(uids.iter().copied().collect::<Ranges>());
        let table = [
            ("MIN", Some(2), None, None, None, Some(30), None),
            ("MIN MAX", Some(2), Some(9), None, None, Some(40), None),
            ("ALL COUNT", None, None, ranges(&[2, 5, 9]), Some(3), Some(90), None),
            ("SAVE", None, None, None, None, Some(90), ranges(&[2, 5, 9])),
            ("SAVE MIN", Some(2), None, None, None, Some(30), ranges(&[2])),
            ("SAVE MIN MAX", Some(2), Some(9), None, None, Some(40), ranges(&[2, 9])),
            ("SAVE MAX COUNT", None, Some(9), None, Some(3), Some(90), ranges(&[2, 5, 9])),
        ];
        for (options, min, max, all, count, modseq, save) in table {
            let answer = found.answer(returns(options));
            assert_eq!(
                (answer.min, answer.max, answer.all, answer.count),
                (min, max, all, count),
                "{options}"
            );
            assert_eq!((answer.modseq, answer.save), (modseq, save), "{options}");
        }
        let nothing = Found::default().answer(returns("MIN MAX ALL COUNT SAVE"));
        assert_eq!((nothing.min, nothing.max, nothing.all, nothing.count), (None, None, None, Some(0)));
        assert_eq!(nothing.save, Some(Ranges::default()));
        let sorted = found.in_order(vec![9, 2, 5]).answer(returns("MIN MAX"));
        assert_eq!((sorted.min, sorted.max, sorted.modseq), (Some(9), Some(5), Some(90)));
    }

    #[test]
    fn what_is_expunged_drops_out_of_the_saved_result() {
        let (mut account, id) = account();
        let mut view = View::open(account.mailbox(id).expect("just made"), Access::ReadWrite);
        let mut saved = Saved::new();
        let key = Key::ModSequence(1);
        let mut search = Search::new(&key, &view.look(account.mailbox(id).expect("just made")), &saved, 0);
        let budget = Budget { messages: 100, bytes: 100 };
        search.step(&view.look(account.mailbox(id).expect("just made")), &Counted(Cell::new(0)), budget);
        assert_eq!(search.progress(), (5, 5));
        saved.take(&search.finish().answer(SearchReturn { save: true, ..SearchReturn::default() }));
        let plan = account.plan_expunge(id, crate::mailbox::plan::Doomed::Deleted).expect("it is there");
        plan.changes.iter().for_each(|change| account.apply(&change.record, None));
        let mailbox = account.mailbox(id).expect("just made");
        assert_eq!(view.poll(mailbox, Expunges::Told).expunged, [4, 2]);
        let look = view.look(mailbox);
        let spans = look.resolve(&NumberSet::Saved, super::Numbering::Sequence, &saved).expect("always good");
        assert_eq!(look.messages(&spans, 0).map(|message| message.uid).collect::<Vec<_>>(), [1, 3, 5]);
        assert_eq!(look.to_numbers(&spans).to_string(), "1:3");
        saved.clear();
        assert!(saved.uids().is_empty());
    }
}
