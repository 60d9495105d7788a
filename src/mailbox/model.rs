//! The mailbox against a naive model of it: lists of messages, one for the truth and one for each session.
//!
//! Random commands are planned, left in flight for a while, applied in order or abandoned, and told to two sessions at
//! random moments, with expunges withheld or not. The sessions keep what an IMAP client would: a list of UIDs and flags
//! that only EXPUNGE, EXISTS and FETCH lines change.

use std::collections::VecDeque;

use proptest::collection::vec;
use proptest::prelude::{Just, ProptestConfig, Strategy, any};
use proptest::{prop_assert, prop_assert_eq, prop_oneof, proptest};

use super::account::Account;
use super::plan::{Doomed, StoreFlags};
use super::saved::Saved;
use super::test_mail::incoming;
use super::view::{Access, Expunges, Numbering, View};
use super::{Change, Plan};
use crate::mail::flags::{Flags, FlagsAction, SystemFlags};
use crate::mail::set::{Bound, NumberSet, Ranges};
use crate::store::record::Record;
use crate::store::{AccountId, MailboxId, MessageId};

#[derive(Clone, Debug)]
enum Step {
    Append {
        flags: u8,
        keyword: Option<u8>,
    },
    Deliver {
        recipient: u32,
    },
    Store {
        session: usize,
        from: u32,
        to: u32,
        action: FlagsAction,
        flags: u8,
        keyword: Option<u8>,
        silent: bool,
    },
    StoreUnchanged {
        from: u32,
        to: u32,
        back: u64,
    },
    Expunge {
        among: Option<(u32, u32)>,
    },
    Copy {
        from: u32,
        to: u32,
        moves: bool,
    },
    Apply(usize),
    AbandonAll,
    Poll {
        session: usize,
        told: bool,
    },
}

fn steps() -> impl Strategy<Value = Step> {
    let action =
        || prop_oneof![Just(FlagsAction::Replace), Just(FlagsAction::Add), Just(FlagsAction::Remove)];
    let numbers = || (1u32..25, 0u32..8).prop_map(|(from, more)| (from, from + more));
    prop_oneof![
        4 => (0u8..32, any::<Option<u8>>()).prop_map(|(flags, keyword)| Step::Append { flags, keyword }),
        1 => (0u32..4).prop_map(|recipient| Step::Deliver { recipient }),
        4 => (0usize..2, numbers(), action(), 0u8..32, any::<Option<u8>>(), any::<bool>()).prop_map(
            |(session, (from, to), action, flags, keyword, silent)| Step::Store {
                session, from, to, action, flags, keyword, silent
            }
        ),
        3 => (numbers(), 0u64..8).prop_map(|((from, to), back)| Step::StoreUnchanged { from, to, back }),
        2 => proptest::option::of(numbers()).prop_map(|among| Step::Expunge { among }),
        1 => (numbers(), any::<bool>()).prop_map(|((from, to), moves)| Step::Copy { from, to, moves }),
        6 => (1usize..4).prop_map(Step::Apply),
        1 => Just(Step::AbandonAll),
        4 => (0usize..2, any::<bool>()).prop_map(|(session, told)| Step::Poll { session, told }),
    ]
}

/// A message as it truly is.
#[derive(Clone, PartialEq, Debug)]
struct Truth {
    uid: u32,
    modseq: u64,
    flags: SystemFlags,
    keywords: Vec<String>,
    message: MessageId,
}

/// Flags and keywords of a message.
type Marks = (SystemFlags, Vec<String>);

/// A plan that was made, with the session and the mod-sequence that need no echo.
type Group = (Vec<Change>, Option<(usize, u64)>);

/// What a client has in its memory.
struct Session {
    view: View,
    /// UID and, as last told, flags; flags are `None` before they were fetched.
    known: Vec<(u32, Option<Marks>)>,
}

struct World {
    account: Account,
    mailbox: MailboxId,
    log: Vec<Change>,
    in_flight: VecDeque<Group>,
    truth: Vec<Truth>,
    keywords: Vec<String>,
    uids_given: u32,
    modseq_given: u64,
    sessions: Vec<Session>,
    sequence: u64,
}

impl World {
    fn new() -> Self {
        let mut account = Account::new(AccountId(1));
        let plan = account.plan_new();
        for change in &plan.changes {
            account.apply(&change.record, None);
        }
        let mailbox = account.named("inbox").expect("there is an INBOX").id();
        let open =
            |account: &Account| View::open(account.mailbox(mailbox).expect("it is there"), Access::ReadWrite);
        let sessions = (0..2).map(|_| Session { view: open(&account), known: Vec::new() }).collect();
        Self {
            account,
            mailbox,
            log: plan.changes,
            in_flight: VecDeque::new(),
            truth: Vec::new(),
            keywords: Vec::new(),
            uids_given: 0,
            modseq_given: 1,
            sessions,
            sequence: 0,
        }
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Append { flags, keyword } => {
                self.sequence += 1;
                let mut message = incoming(self.sequence, b"Subject: x\r\n\r\n");
                message.flags = named(*flags, *keyword);
                let plan = self.account.plan_append(self.mailbox, message).expect("room");
                self.take_off(plan.changes, None);
            }
            Step::Deliver { recipient } => {
                let mut message = incoming(1000, b"Subject: y\r\n\r\n");
                let key = (message.message.id, *recipient);
                message.key = Some(key);
                let known = self.account.is_delivered(key);
                let plan = self.account.plan_deliver(self.mailbox, message).expect("a mailbox");
                assert_eq!(plan.is_none(), known, "a delivery is made once");
                if let Some(plan) = plan {
                    self.take_off(plan.changes, None);
                }
            }
            Step::Store { session, from, to, action, flags, keyword, silent } => {
                let uids = self.resolve(*session, *from, *to);
                let flags = named(*flags, *keyword);
                let store = StoreFlags { uids: &uids, action: *action, flags: &flags, unchanged_since: None };
                let plan = self.account.plan_store(self.mailbox, store).expect("it is there");
                let silenced = plan.answer.modseq.filter(|_| *silent).map(|modseq| (*session, modseq));
                self.take_off(plan.changes, silenced);
            }
            Step::StoreUnchanged { from, to, back } => {
                self.store_unchanged(*from, *to, self.modseq_given.saturating_sub(*back));
            }
            Step::Expunge { among } => {
                let uids = among.map(|(from, to)| Ranges::from_unordered(vec![(from, to)]));
                let doomed = uids.as_ref().map_or(Doomed::Deleted, Doomed::DeletedAmong);
                let plan = self.account.plan_expunge(self.mailbox, doomed).expect("it is there");
                self.take_off(plan.changes, None);
            }
            Step::Copy { from, to, moves } => {
                let uids = Ranges::from_unordered(vec![(*from, *to)]);
                let plan = match moves {
                    true => self.account.plan_move(self.mailbox, &uids, self.mailbox, 7),
                    false => self.account.plan_copy(self.mailbox, &uids, self.mailbox, 7),
                };
                let plan = plan.expect("room");
                assert_eq!(plan.answer.source.count(), plan.answer.target.count());
                self.take_off(plan.changes, None);
            }
            Step::Apply(groups) => (0..*groups).for_each(|_| self.apply_next()),
            Step::AbandonAll => {
                for (changes, _) in std::mem::take(&mut self.in_flight) {
                    self.account.abandon(&changes);
                }
            }
            Step::Poll { session, told } => self.poll(*session, *told),
        }
    }

    fn resolve(&mut self, session: usize, from: u32, to: u32) -> Ranges {
        let mailbox = self.account.mailbox(self.mailbox).expect("it is there");
        let session = &mut self.sessions[session];
        let look = session.view.look(mailbox);
        let set = NumberSet::Ranges(vec![(Bound::Number(from), Bound::Number(to))]);
        let spans = look.resolve(&set, Numbering::Sequence, &Saved::default());
        let exists = session.known.len() as u32;
        assert_eq!(spans.is_err(), to > exists, "only what was told has a number");
        let spans = spans.unwrap_or_default();
        let meant: Vec<_> = look.messages(&spans, 0).map(|message| (message.msn, message.uid)).collect();
        let known = session.known.iter().map(|(uid, _)| *uid);
        let numbered = (1..).zip(known).filter(|(msn, _)| to <= exists && (from..=to).contains(msn));
        assert_eq!(meant, numbered.collect::<Vec<_>>());
        spans
    }

    /// Whether a mod-sequence is too high depends on what is in flight, too.
    fn store_unchanged(&mut self, from: u32, to: u32, since: u64) {
        let uids = Ranges::from_unordered(vec![(from, to)]);
        let flags = Flags::system(SystemFlags::FLAGGED);
        let action = FlagsAction::Add;
        let mut future = self.truth.clone();
        let mut keywords = self.keywords.clone();
        for (changes, _) in &self.in_flight {
            changes.iter().for_each(|change| change_truth(&mut future, &mut keywords, &change.record));
        }
        let visible: Vec<_> = self.truth.iter().map(|message| message.uid).collect();
        future.retain(|message| visible.contains(&message.uid) && uids.contains(message.uid));
        let store = StoreFlags { uids: &uids, action, flags: &flags, unchanged_since: Some(since) };
        let plan = self.account.plan_store(self.mailbox, store).expect("it is there");
        let (modified, passed): (Vec<_>, Vec<_>) = future.iter().partition(|message| message.modseq > since);
        let uids_of =
            |messages: Vec<&Truth>| messages.into_iter().map(|message| message.uid).collect::<Ranges>();
        assert_eq!(plan.answer.modified, uids_of(modified));
        let changes = passed.iter().any(|message| !message.flags.contains(SystemFlags::FLAGGED));
        assert_eq!(plan.answer.modseq.is_some(), changes, "what changes nothing has no number");
        assert_eq!(plan.answer.passed, uids_of(passed));
        self.take_off(plan.changes, None);
    }

    fn take_off(&mut self, changes: Vec<Change>, silenced: Option<(usize, u64)>) {
        for change in &changes {
            match &change.record {
                Record::Delivered(delivered) => {
                    assert!(delivered.uid > self.uids_given, "UIDs are never used again");
                    self.uids_given = delivered.uid;
                    self.rises(delivered.modseq);
                }
                Record::FlagsChanged(changed) => self.rises(changed.modseq),
                Record::Expunged(expunged) => self.rises(expunged.modseq),
                _ => {}
            }
        }
        if !changes.is_empty() {
            self.in_flight.push_back((changes, silenced));
        }
    }

    fn rises(&mut self, modseq: u64) {
        assert!(modseq > self.modseq_given, "mod-sequences only rise");
        self.modseq_given = modseq;
    }

    fn apply_next(&mut self) {
        let Some((changes, silenced)) = self.in_flight.pop_front() else {
            return;
        };
        if let Some((session, modseq)) = silenced {
            self.sessions[session].view.silence(modseq);
        }
        for change in changes {
            change_truth(&mut self.truth, &mut self.keywords, &change.record);
            self.account.apply(&change.record, change.digest.as_ref());
            // The client of a silent STORE knows what it did.
            if let (Some((session, own)), Record::FlagsChanged(changed)) = (silenced, &change.record) {
                assert_eq!(own, changed.modseq);
                let now = |uid: u32| self.truth.iter().find(|message| message.uid == uid);
                for (uid, flags) in &mut self.sessions[session].known {
                    if let (Some(message), true) = (now(*uid), changed.uids.contains(*uid)) {
                        *flags = Some((message.flags, message.keywords.clone()));
                    }
                }
            }
            self.log.push(change);
        }
    }

    /// Tells a session its news and lets its client take them in.
    fn poll(&mut self, session: usize, told: bool) {
        let mailbox = self.account.mailbox(self.mailbox).expect("it is there");
        let session = &mut self.sessions[session];
        let expunges = if told { Expunges::Told } else { Expunges::Withheld };
        let had_news = session.view.has_news(mailbox);
        let updates = session.view.poll(mailbox, expunges);
        assert!(had_news || updates == Default::default(), "no news are no news");
        assert!(told || updates.expunged.is_empty());
        let gone: Vec<_> =
            updates.expunged.iter().map(|&msn| session.known.remove(msn as usize - 1).0).collect();
        assert_eq!(gone.iter().copied().collect::<Ranges>(), updates.vanished);
        let look = session.view.look(mailbox);
        if let Some(exists) = updates.exists {
            assert!(exists as usize > session.known.len());
            for msn in session.known.len() as u32 + 1..=exists {
                session.known.push((look.uid_of(msn).expect("it was told"), None));
            }
        }
        let fetch = |uid: u32| {
            let message = self.truth.iter().find(|message| message.uid == uid)?;
            Some((message.flags, message.keywords.clone()))
        };
        for (msn, uid) in updates.flags {
            let known = &mut session.known[msn as usize - 1];
            assert_eq!(known.0, uid);
            known.1 = fetch(uid);
        }
        // A client fetches what is new to it.
        for (uid, flags) in &mut session.known {
            if flags.is_none() {
                *flags = fetch(*uid);
            }
        }
    }

    /// What both sides say must agree at any moment.
    fn agree(&mut self) {
        let mailbox = self.account.mailbox(self.mailbox).expect("it is there");
        let live: Vec<_> = self.truth.iter().map(|message| message.uid).collect();
        assert_eq!(mailbox.uids(), live);
        let counts = mailbox.counts();
        let with = |flag| self.truth.iter().filter(|message| message.flags.contains(flag)).count() as u32;
        assert_eq!(counts.messages, live.len() as u32);
        assert_eq!(counts.unseen, counts.messages - with(SystemFlags::SEEN));
        assert_eq!(counts.deleted, with(SystemFlags::DELETED));
        assert_eq!(counts.size, 14 * u64::from(counts.messages));
        assert_eq!(self.account.usage().bytes, counts.size);
        for message in &self.truth {
            let row = mailbox.row(message.uid).expect("it lives");
            assert_eq!(
                (row.flags, row.modseq, row.locator.id),
                (message.flags, message.modseq, message.message)
            );
            assert_eq!(names(mailbox.keywords(), row.keywords), message.keywords);
            assert!(row.digest.get().is_some());
        }
        for session in &mut self.sessions {
            let look = session.view.look(mailbox);
            let all = look.everything();
            let seen: Vec<_> = look.messages(&all, 0).collect();
            let known: Vec<_> = session.known.iter().map(|(uid, _)| *uid).collect();
            assert_eq!(seen.iter().map(|message| message.uid).collect::<Vec<_>>(), known);
            assert_eq!(look.exists() as usize, known.len());
            for (msn, message) in (1..).zip(&seen) {
                assert_eq!(
                    (message.msn, look.uid_of(msn), look.msn_of(message.uid)),
                    (msn, Some(message.uid), Some(msn))
                );
                assert_eq!(
                    message.row.map(|row| row.uid),
                    Some(message.uid).filter(|uid| live.contains(uid))
                );
            }
            assert_eq!((look.uid_of(0), look.uid_of(known.len() as u32 + 1)), (None, None));
        }
    }

    /// Everything applied and told: the clients know the truth.
    fn settle(&mut self) {
        while !self.in_flight.is_empty() {
            self.apply_next();
        }
        for session in 0..2 {
            self.poll(session, true);
            let known = &self.sessions[session].known;
            let truth = self
                .truth
                .iter()
                .map(|message| (message.uid, Some((message.flags, message.keywords.clone()))));
            assert_eq!(*known, truth.collect::<Vec<_>>());
        }
        let both = self.sessions.iter_mut().map(|session| {
            let mailbox = self.account.mailbox(self.mailbox).expect("it is there");
            session.view.look(mailbox).recent()
        });
        assert_eq!(both.sum::<u32>() as usize, self.truth.len(), "a message is recent in one session");
    }
}

fn named(flags: u8, keyword: Option<u8>) -> Flags {
    let mut flags = Flags::system(SystemFlags(flags));
    if let Some(keyword) = keyword {
        let name = ["$Junk", "work", "Later"][usize::from(keyword % 3)];
        flags.add_keyword(&if keyword < 128 { name.to_owned() } else { name.to_uppercase() });
    }
    flags
}

fn names(table: &[String], bits: u64) -> Vec<String> {
    (0..).zip(table).filter(|(bit, _)| bits >> bit & 1 == 1).map(|(_, name)| name.clone()).collect()
}

/// What a record does, in the plainest way.
fn change_truth(truth: &mut Vec<Truth>, keywords: &mut Vec<String>, record: &Record) {
    match record {
        Record::Delivered(delivered) => truth.push(Truth {
            uid: delivered.uid,
            modseq: delivered.modseq,
            flags: delivered.flags,
            keywords: names(keywords, delivered.keywords),
            message: delivered.message.id,
        }),
        Record::FlagsChanged(changed) => {
            let named = names(keywords, changed.keywords);
            for message in truth.iter_mut().filter(|message| changed.uids.contains(message.uid)) {
                message.modseq = changed.modseq;
                match changed.action {
                    FlagsAction::Replace => {
                        (message.flags, message.keywords) = (changed.flags, named.clone())
                    }
                    FlagsAction::Add => {
                        message.flags |= changed.flags;
                        message.keywords.extend(
                            named
                                .iter()
                                .filter(|name| !message.keywords.contains(name))
                                .cloned()
                                .collect::<Vec<_>>(),
                        );
                    }
                    FlagsAction::Remove => {
                        message.flags = message.flags & !changed.flags;
                        message.keywords.retain(|name| !named.contains(name));
                    }
                }
                message.keywords.sort_by_key(|name| keywords.iter().position(|known| known == name));
            }
        }
        Record::Expunged(expunged) => truth.retain(|message| !expunged.uids.contains(message.uid)),
        Record::KeywordAdded(added) => {
            keywords.resize(keywords.len().max(usize::from(added.bit) + 1), String::new());
            keywords[usize::from(added.bit)].clone_from(&added.name);
        }
        _ => {}
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn views_agree_with_a_naive_model(steps in vec(steps(), 1..80)) {
        let mut world = World::new();
        for step in &steps {
            world.step(step);
            world.agree();
        }
        world.settle();
        world.agree();

        // The records alone make the same account again, and so does a snapshot.
        let mut replayed = Account::new(AccountId(1));
        for change in &world.log {
            replayed.apply(&change.record, change.digest.as_ref());
            replayed.apply(&change.record, change.digest.as_ref());
        }
        let snapshot = world.account.snapshot();
        prop_assert_eq!(&replayed.snapshot(), &snapshot);
        let mut restored = Account::restore(&snapshot).expect("it was just made");
        for mailbox in world.account.mailboxes() {
            let state = mailbox.snapshot(AccountId(1));
            let of_replay = replayed.mailbox(mailbox.id()).expect("it is there");
            prop_assert_eq!(&of_replay.snapshot(AccountId(1)), &state);
            prop_assert_eq!(restored.restore_awake(&state, Vec::new()), Ok(mailbox.id()));
            let of_restore = restored.mailbox(mailbox.id()).expect("it is there");
            prop_assert_eq!(&of_restore.snapshot(AccountId(1)), &state);
        }
        prop_assert_eq!(&restored.snapshot(), &snapshot);
        prop_assert_eq!(restored.usage(), world.account.usage());
    }

    #[test]
    fn damaged_snapshots_are_refused_without_panic(
        steps in vec(steps(), 1..30),
        cut in any::<proptest::sample::Index>(),
        bit in 0u8..8,
    ) {
        let mut world = World::new();
        steps.iter().for_each(|step| world.step(step));
        let mailbox = world.account.mailbox(world.mailbox).expect("it is there");
        for (whole, is_account) in [(world.account.snapshot(), true), (mailbox.snapshot(AccountId(1)), false)] {
            let mut damaged = whole.clone();
            let at = cut.index(whole.len());
            damaged[at] ^= 1 << bit;
            for bytes in [&whole[..at], &damaged] {
                if is_account {
                    let restored = Account::restore(bytes);
                    prop_assert!(bytes.len() == whole.len() || restored.is_err());
                } else {
                    let mut account = Account::restore(&world.account.snapshot()).expect("it was just made");
                    let restored = account.restore_awake(bytes, Vec::new());
                    prop_assert!(bytes.len() == whole.len() || restored.is_err());
                }
            }
        }
    }
}

#[test]
fn plans_are_small_values() {
    // One is made for each message of a large COPY.
    assert!(size_of::<Change>() <= 256, "{}", size_of::<Change>());
    assert!(size_of::<View>() < 200, "{}", size_of::<View>());
    assert_eq!(size_of::<Plan<()>>(), size_of::<Vec<Change>>());
}
