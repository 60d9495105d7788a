//! A site in small scenes, each with its reason; `simulation` has the large ones.

use std::num::NonZeroU32;
use std::rc::Rc;
use std::time::Duration;

use super::{LaneView, Scope, Site};
use crate::limits::outbound::TURN;
use crate::mail::reply::{EnhancedCode, Reply};
use crate::mail::time::{Instant, Now};
use crate::queue::job::{
    Action, ConnectionId, FailureKind, FeedId, Job, OpenFailure, PeerLimits, SendOutcome, Sent, Why,
};
use crate::queue::plan::Plan;
use crate::queue::policy::{Member, Part, Pool, PoolId, Shaping, Source, SourceId};
use crate::queue::sources::Sources;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Message {
    number: u32,
    pool: PoolId,
    priority: i8,
    recipients: usize,
}

impl Job for Message {
    fn pool(&self) -> PoolId {
        self.pool
    }

    fn priority(&self) -> i8 {
        self.priority
    }

    fn recipients(&self) -> usize {
        self.recipients
    }
}

fn message(number: u32) -> Message {
    Message { number, pool: PoolId::default(), priority: 0, recipients: 1 }
}

fn feed(home: u32) -> FeedId {
    FeedId { home, destination: 0, pool: PoolId::default() }
}

/// A site with its sources, and a home that answers each `Pull` at once from `waiting`.
struct Scene {
    site: Site<Message>,
    sources: Sources,
    now: Instant,
    waiting: Vec<Message>,
}

impl Scene {
    fn new(shaping: Shaping, sources: &[(&str, u32)]) -> Self {
        let member = |&(name, weight): &(&str, u32)| Member {
            source: SourceId::of(name),
            weight: NonZeroU32::new(weight).unwrap(),
        };
        let pool = Pool { members: sources.iter().map(member).collect(), ..Pool::unbound() };
        Self {
            site: Site::new("mx.example".to_owned(), Plan::uniform(shaping, vec![pool])),
            sources: Sources::new([], Part::WHOLE, Now::default()),
            now: Instant(1_000_000),
            waiting: Vec::new(),
        }
    }

    fn plain(shaping: Shaping) -> Self {
        Self::new(shaping, &[("default", 1)])
    }

    /// Messages come to the home of feed 1.
    fn arrive(&mut self, messages: impl IntoIterator<Item = Message>) {
        self.waiting.extend(messages);
        self.site.handle_work(feed(1), u32::try_from(self.waiting.len()).unwrap());
    }

    /// All that the site wants now; what it pulls from feed 1 it gets.
    fn act(&mut self) -> Vec<Action<Message>> {
        let mut actions = Vec::new();
        while let Some(action) = self.site.poll_action(&mut self.sources, self.now) {
            match action {
                Action::Pull { feed: asked, count } if asked == feed(1) => {
                    let count = self.waiting.len().min(usize::try_from(count).unwrap());
                    let jobs: Vec<Message> = self.waiting.drain(..count).collect();
                    self.site.handle_jobs(asked, jobs, u32::try_from(self.waiting.len()).unwrap());
                }
                other => actions.push(other),
            }
        }
        actions
    }

    fn opened(&mut self, connection: ConnectionId) -> Vec<Action<Message>> {
        self.site.handle_opened(connection, PeerLimits::default(), &mut self.sources, self.now);
        self.act()
    }

    fn failed(&mut self, connection: ConnectionId, kind: FailureKind) -> Vec<Action<Message>> {
        let reply = Reply::new(421, EnhancedCode::new(4, 4, 1), "nobody there");
        let failure = OpenFailure { kind, reply };
        self.site.handle_open_failed(connection, failure, &mut self.sources, self.now);
        self.act()
    }

    fn sent(&mut self, connection: ConnectionId, outcome: SendOutcome) -> Vec<Action<Message>> {
        self.site.handle_sent(connection, Sent { outcome, leftover: None }, &mut self.sources, self.now);
        self.act()
    }

    fn deadline(&self) -> Option<Duration> {
        self.site.deadline(&self.sources, self.now).map(|at| at - self.now)
    }

    fn wait(&mut self, span: Duration) -> Vec<Action<Message>> {
        self.now = self.now + span;
        self.act()
    }

    fn lane(&self, name: &str) -> LaneView {
        let mut lanes = self.site.lanes(&self.sources, self.now);
        lanes.find(|lane| lane.source == SourceId::of(name)).unwrap()
    }
}

fn opens(actions: &[Action<Message>]) -> Vec<(ConnectionId, SourceId)> {
    let open = |action: &Action<Message>| match action {
        Action::Open { connection, source } => Some((*connection, *source)),
        _ => None,
    };
    actions.iter().filter_map(open).collect()
}

fn sends(actions: &[Action<Message>]) -> Vec<(ConnectionId, u32)> {
    let send = |action: &Action<Message>| match action {
        Action::Send { connection, job, .. } => Some((*connection, job.number)),
        _ => None,
    };
    actions.iter().filter_map(send).collect()
}

fn given_back(actions: &[Action<Message>]) -> usize {
    actions.iter().filter(|action| matches!(action, Action::Return { .. })).count()
}

fn failed(actions: &[Action<Message>]) -> usize {
    actions.iter().filter(|action| matches!(action, Action::Fail { .. })).count()
}

fn shaping(connections: u32) -> Shaping {
    let connections = NonZeroU32::new(connections).unwrap();
    Shaping { connections, site_connections: connections, ..Shaping::default() }
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[test]
fn a_message_from_its_home_to_the_host() {
    let mut scene = Scene::plain(shaping(3));
    scene.arrive([message(1)]);
    let actions = scene.act();
    let [(connection, _)] = opens(&actions)[..] else { panic!("{actions:?}") };
    assert_eq!(sends(&scene.opened(connection)), [(connection, 1)]);
    assert_eq!(scene.deadline(), None, "while it is sent there is nothing to wait for");
    assert!(scene.sent(connection, SendOutcome::Ok).is_empty());
    assert_eq!(scene.deadline(), Some(Shaping::default().idle));
    scene.arrive([message(2)]);
    assert_eq!(sends(&scene.act()), [(connection, 2)], "the connection is used again");
    scene.sent(connection, SendOutcome::Permanent);
    let closed = scene.wait(Shaping::default().idle);
    assert!(matches!(closed[..], [Action::Close { connection: of }] if of == connection), "{closed:?}");
    assert!(!scene.site.is_idle(scene.now));
    scene.site.handle_closed(connection);
    assert!(scene.site.is_idle(scene.now) && scene.deadline().is_none());
}

#[test]
fn no_more_is_pulled_than_can_soon_be_sent() {
    let mut scene = Scene::plain(shaping(20));
    scene.arrive((0..1000).map(message));
    let actions = scene.act();
    // The window of a site that is not known yet has five.
    assert_eq!(opens(&actions).len(), 5);
    assert_eq!(scene.site.job_count(), 2 * 5 + 4);
}

#[test]
fn a_home_with_a_million_does_not_starve_one_with_three() {
    let mut scene = Scene::plain(shaping(2));
    scene.site.handle_work(feed(7), 1_000_000);
    scene.site.handle_work(feed(8), 3);
    let (mut asked, mut rest) = (Vec::new(), 3);
    while asked.len() < 6 {
        match scene.site.poll_action(&mut scene.sources, scene.now) {
            Some(Action::Pull { feed, count }) => {
                asked.push((feed.home, count));
                let count = if feed.home == 7 { count } else { count.min(rest) };
                rest -= if feed.home == 8 { count } else { 0 };
                let remaining = if feed.home == 7 { 1_000_000 } else { rest };
                scene.site.handle_jobs(feed, (0..count).map(message).collect(), remaining);
            }
            Some(Action::Open { connection, .. }) => {
                scene.site.handle_opened(connection, PeerLimits::default(), &mut scene.sources, scene.now);
            }
            Some(Action::Send { connection, .. }) => {
                let (sources, now) = (&mut scene.sources, scene.now);
                scene.site.handle_sent(
                    connection,
                    Sent { outcome: SendOutcome::Ok, leftover: None },
                    sources,
                    now,
                );
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(asked[..2], [(7, 4), (8, 3)], "each gets its share of the eight places");
}

#[test]
fn pools_that_share_a_source_take_turns() {
    let mut scene = Scene::plain(shaping(1));
    let pools = ["a", "b"].map(|name| Pool { name: name.to_owned(), ..Pool::unbound() });
    let feeds = ["a", "b"].map(|name| FeedId { pool: PoolId::of(name), ..feed(7) });
    scene.site.set_plan(Plan::uniform(shaping(1), pools.to_vec()), scene.now);
    for feed in feeds {
        scene.site.handle_work(feed, 1000);
    }
    let mut counts = [0u32, 0];
    for _ in 0..400 {
        match scene.site.poll_action(&mut scene.sources, scene.now) {
            Some(Action::Pull { feed, .. }) => {
                counts[usize::from(feed == feeds[1])] += 1;
                scene.site.handle_jobs(feed, vec![Message { pool: feed.pool, ..message(0) }], 1000);
            }
            Some(Action::Open { connection, .. }) => {
                scene.site.handle_opened(connection, PeerLimits::default(), &mut scene.sources, scene.now);
            }
            Some(Action::Send { connection, .. }) => {
                let sent = Sent { outcome: SendOutcome::Ok, leftover: None };
                scene.site.handle_sent(connection, sent, &mut scene.sources, scene.now);
            }
            other => panic!("{other:?}"),
        }
    }
    assert!(counts[0].abs_diff(counts[1]) <= 1 && counts[0] > 90, "{counts:?}");
}

#[test]
fn a_higher_priority_goes_first() {
    let mut scene = Scene::plain(shaping(1));
    let messages = [(1, 0), (2, -3), (3, 9), (4, 0)];
    scene.arrive(messages.map(|(number, priority)| Message { priority, ..message(number) }));
    let actions = scene.act();
    let (connection, _) = opens(&actions)[0];
    let mut order = sends(&scene.opened(connection));
    for _ in 0..3 {
        order.extend(sends(&scene.sent(connection, SendOutcome::Ok)));
    }
    assert_eq!(order.iter().map(|(_, number)| *number).collect::<Vec<_>>(), [3, 1, 4, 2]);
}

#[test]
fn recipients_beyond_the_limits_go_in_another_transaction() {
    let limits = Shaping { recipients_per_message: NonZeroU32::new(100).unwrap(), ..shaping(1) };
    let mut scene = Scene::plain(limits);
    scene.arrive([Message { recipients: 250, ..message(1) }]);
    let (connection, _) = opens(&scene.act())[0];
    let peer = PeerLimits { recipients: Some(120), ..PeerLimits::default() };
    scene.site.handle_opened(connection, peer, &mut scene.sources, scene.now);
    for (left, expected) in [(150, 100), (50, 100), (0, 100)] {
        let actions = scene.act();
        let [Action::Send { recipients_max, job, .. }] = actions[..] else { panic!("{actions:?}") };
        assert_eq!((recipients_max, job.recipients), (expected, left + 100 - usize::from(left == 0) * 50));
        let leftover = (left > 0).then_some(Message { recipients: left, ..job });
        scene.site.handle_sent(
            connection,
            Sent { outcome: SendOutcome::Ok, leftover },
            &mut scene.sources,
            scene.now,
        );
    }
}

#[test]
fn a_peer_that_takes_few_messages_gets_a_new_connection_for_the_rest() {
    let mut scene = Scene::plain(shaping(1));
    scene.arrive((0..3).map(message));
    let (first, _) = opens(&scene.act())[0];
    let peer = PeerLimits { messages: Some(2), ..PeerLimits::default() };
    scene.site.handle_opened(first, peer, &mut scene.sources, scene.now);
    assert_eq!(sends(&scene.act()).len(), 1);
    assert_eq!(sends(&scene.sent(first, SendOutcome::Ok)).len(), 1);
    let actions = scene.sent(first, SendOutcome::Ok);
    assert!(matches!(actions[..], [Action::Close { .. }]), "{actions:?}");
    scene.site.handle_closed(first);
    assert_eq!(opens(&scene.act()).len(), 1);
}

#[test]
fn weights_share_the_mail_among_sources_that_keep_up() {
    let mut scene = Scene::new(shaping(100), &[("a", 3), ("b", 1)]);
    let mut sources: Vec<(ConnectionId, SourceId)> = Vec::new();
    let mut counts = [0, 0];
    for number in 0..400 {
        scene.arrive([message(number)]);
        let mut actions = scene.act();
        for (connection, source) in opens(&actions) {
            sources.push((connection, source));
            actions.extend(scene.opened(connection));
        }
        let (connection, _) = sends(&actions)[0];
        let source = sources.iter().find(|(known, _)| *known == connection).unwrap().1;
        counts[usize::from(source == SourceId::of("b"))] += 1;
        scene.sent(connection, SendOutcome::Ok);
    }
    assert_eq!(counts, [300, 100]);
}

#[test]
fn a_source_that_hangs_does_not_hold_up_another() {
    let mut scene = Scene::new(shaping(2), &[("a", 3), ("b", 1)]);
    scene.arrive((0..200).map(message));
    let open = opens(&scene.act());
    let of = |name: &str| open.iter().find(|(_, source)| *source == SourceId::of(name)).unwrap().0;
    assert_eq!(open.len(), 2);
    assert_eq!(sends(&scene.opened(of("a"))).len(), 1);
    let mut actions = scene.opened(of("b"));
    let mut sent = 0;
    while let Some((connection, _)) = sends(&actions).first().copied() {
        actions = scene.sent(connection, SendOutcome::Ok);
        sent += 1;
    }
    assert!(sent > 180, "{sent}");
}

#[test]
fn only_what_was_pulled_fails_when_a_site_is_dead_and_one_message_tries_it_again() {
    let mut scene = Scene::plain(shaping(1));
    scene.arrive((0..100).map(message));
    let mut actions = scene.act();
    for pause in [1, 2] {
        actions = scene.failed(opens(&actions)[0].0, FailureKind::Refused);
        assert!(actions.is_empty(), "it is tried again with the same messages");
        assert_eq!(scene.deadline(), Some(seconds(pause)));
        actions = scene.wait(seconds(pause));
    }
    actions = scene.failed(opens(&actions)[0].0, FailureKind::Refused);
    assert_eq!((failed(&actions), scene.waiting.len()), (6, 94));
    let Some(Action::Blocked { block, .. }) = actions.last() else { panic!("{actions:?}") };
    assert_eq!(block.until, Some(scene.now + Shaping::default().dead_first));
    assert!(matches!(&block.why, Why::Dead(failure) if failure.reply.text == "nobody there"));

    for back_off in [60, 120, 240] {
        let deadline = scene.deadline().unwrap();
        actions = scene.wait(deadline);
        assert!(matches!(actions[0], Action::Unblocked { .. }), "{actions:?}");
        let rest = seconds(back_off) - deadline;
        actions.extend(scene.wait(rest));
        assert_eq!(opens(&actions).len(), 1);
        assert_eq!(scene.site.job_count(), 1, "one message is the probe");
        actions = scene.failed(opens(&actions)[0].0, FailureKind::Unreachable);
        assert_eq!(failed(&actions), 1);
    }
}

#[test]
fn an_operator_may_have_a_dead_site_tried_at_once() {
    let once = Shaping { failures_until_dead: NonZeroU32::MIN, ..shaping(1) };
    let mut scene = Scene::plain(once);
    scene.arrive((0..50).map(message));
    let open = opens(&scene.act());
    scene.failed(open[0].0, FailureKind::Refused);
    assert!(scene.wait(seconds(10)).is_empty());
    scene.site.end_pauses(scene.now);
    let actions = scene.act();
    assert!(actions.iter().any(|action| matches!(action, Action::Unblocked { .. })), "{actions:?}");
    let [(probe, _)] = opens(&actions)[..] else { panic!("one connection tries") };
    // What was learnt stays: the pause is longer than the last.
    scene.failed(probe, FailureKind::Refused);
    assert_eq!(scene.lane("default").gate.at, scene.now + seconds(120));
}

/// With no more mail for it a site is not remembered for ever, though nothing ever went through.
#[test]
fn what_went_wrong_is_forgotten_in_the_end() {
    for failures_until_dead in [1, 3] {
        let failures_until_dead = NonZeroU32::new(failures_until_dead).unwrap();
        let mut scene = Scene::plain(Shaping { failures_until_dead, ..shaping(1) });
        scene.arrive([message(1)]);
        let open = opens(&scene.act());
        scene.failed(open[0].0, FailureKind::Refused);
        scene.site.give_back();
        assert!(scene.act().is_empty() && !scene.site.is_idle(scene.now));
        let pause = if failures_until_dead.get() == 1 { Shaping::default().dead_first } else { seconds(1) };
        let fades = pause + Shaping::default().dead_max;
        assert_eq!(scene.deadline(), Some(fades));
        assert!(scene.wait(fades - seconds(1)).is_empty() && !scene.site.is_idle(scene.now));
        assert!(scene.wait(seconds(1)).is_empty() && scene.site.is_idle(scene.now));
        assert_eq!(scene.deadline(), None);
    }
}

#[test]
fn what_is_given_back_is_what_no_connection_has() {
    let mut scene = Scene::plain(shaping(1));
    scene.arrive((0..4).map(message));
    let open = opens(&scene.act());
    assert_eq!(sends(&scene.opened(open[0].0)).len(), 1);
    let held = scene.site.job_count();
    assert_eq!((scene.site.give_back().len(), scene.site.job_count()), (held, 0));
    assert_eq!(scene.site.connection_count(), 1);
}

#[test]
fn the_back_off_is_kept_through_suspension_reload_and_a_greeting_and_ends_with_a_transaction() {
    let once = Shaping { failures_until_dead: NonZeroU32::MIN, ..shaping(4) };
    let mut scene = Scene::plain(once.clone());
    scene.arrive((0..50).map(message));
    let open = opens(&scene.act());
    assert_eq!(open.len(), 4);
    for (connection, _) in open {
        scene.failed(connection, FailureKind::GreetingPermanent);
    }
    scene.site.suspend(Scope::Site, Some(scene.now + seconds(5)), "a moment");
    scene.wait(seconds(6));
    scene
        .site
        .set_plan(Plan::uniform(Shaping { idle: seconds(1), ..once }, vec![Pool::unbound()]), scene.now);
    assert!(opens(&scene.wait(seconds(53))).is_empty());
    let [(probe, _)] = opens(&scene.wait(seconds(1)))[..] else { panic!("one connection tries") };
    // It greets, and hangs up on the first message.
    assert_eq!(sends(&scene.opened(probe)).len(), 1);
    scene.sent(probe, SendOutcome::ConnectionLost);
    assert_eq!(scene.lane("default").gate.at, scene.now + seconds(120));
    let [(probe, _)] = opens(&scene.wait(seconds(120)))[..] else { panic!("one connection tries") };
    scene.opened(probe);
    let actions = scene.sent(probe, SendOutcome::Transient);
    assert_eq!((sends(&actions).len(), opens(&actions).len()), (1, 0), "the window had shrunk to one");
    assert_eq!(scene.lane("default").gate.at, scene.now);
}

#[test]
fn a_refusal_while_others_are_connected_only_shrinks_the_window() {
    let mut scene = Scene::plain(shaping(5));
    scene.arrive((0..50).map(message));
    let open = opens(&scene.act());
    scene.opened(open[0].0);
    for (connection, _) in &open[1..] {
        assert_eq!(failed(&scene.failed(*connection, FailureKind::GreetingTransient)), 0);
    }
    assert_eq!(scene.lane("default").window, 1);
    assert_eq!(sends(&scene.sent(open[0].0, SendOutcome::Ok)).len(), 1);
}

#[test]
fn a_source_that_cannot_be_bound_is_put_aside_and_another_used() {
    let mut scene = Scene::new(shaping(2), &[("a", 1), ("b", 1)]);
    scene.arrive([message(1), message(2)]);
    let open = opens(&scene.act());
    assert_eq!(open.len(), 2);
    let (of_a, of_b) =
        if open[0].1 == SourceId::of("a") { (open[0].0, open[1].0) } else { (open[1].0, open[0].0) };
    let actions = scene.failed(of_a, FailureKind::SourceUnusable);
    assert!(matches!(opens(&actions)[..], [(_, source)] if source == SourceId::of("b")), "{actions:?}");
    let second = opens(&actions)[0].0;
    scene.failed(of_b, FailureKind::SourceUnusable);
    let actions = scene.failed(second, FailureKind::SourceUnusable);
    assert_eq!((given_back(&actions), failed(&actions)), (2, 0), "the site is not to blame");
    scene.arrive([message(3)]);
    let actions = scene.act();
    assert!(
        matches!(&actions[..], [Action::Blocked { block, .. }] if block.why == Why::SourceUnusable),
        "{actions:?}"
    );
    assert_eq!(opens(&scene.wait(seconds(60))).len(), 1);
}

#[test]
fn a_suspension_gives_back_and_its_end_is_known() {
    let mut scene = Scene::plain(shaping(2));
    scene.arrive((0..5).map(message));
    let open = opens(&scene.act());
    assert_eq!(sends(&scene.opened(open[0].0)).len(), 1);
    scene.opened(open[1].0);
    scene.site.suspend(Scope::Site, Some(scene.now + seconds(600)), "asked by them");
    let actions = scene.act();
    assert_eq!(given_back(&actions), 3);
    scene.arrive((5..8).map(message));
    let actions = scene.sent(open[0].0, SendOutcome::Ok);
    assert!(
        matches!(actions[..], [Action::Blocked { .. }, ..] | [.., Action::Blocked { .. }]),
        "{actions:?}"
    );
    assert!(actions.iter().any(|action| matches!(action, Action::Close { .. })), "what is idle is closed");
    assert_eq!(scene.site.block(PoolId::default()).unwrap().why.to_string(), "suspended: asked by them");
    scene.site.handle_closed(open[0].0);
    assert_eq!(scene.deadline(), Some(seconds(599)), "mail is fetched a second before");
    scene.wait(seconds(599));
    assert!(opens(&scene.wait(seconds(1))).len() == 1);
    scene.site.suspend(Scope::Site, None, "for good");
    scene.act();
    assert_eq!(scene.deadline(), None);
    scene.site.resume(Scope::Site);
    assert!(matches!(scene.act()[..], [Action::Unblocked { .. }, ..] | []));
}

#[test]
fn a_slow_rate_returns_what_it_cannot_send_soon() {
    let mut scene = Scene::plain(Shaping { message_rate: Some("1/min".parse().unwrap()), ..shaping(2) });
    scene.arrive((0..9).map(message));
    let (connection, _) = opens(&scene.act())[0];
    assert_eq!(sends(&scene.opened(connection)), [(connection, 0)]);
    assert_eq!((scene.site.job_count(), scene.waiting.len()), (0, 8), "one a minute is fetched one by one");
    scene.sent(connection, SendOutcome::Ok);
    let mut sent_at = Vec::new();
    while scene.now < Instant(1_000_000 + 130_000) {
        let wait = scene.deadline().unwrap();
        for action in scene.wait(wait) {
            match action {
                Action::Open { connection, .. } => {
                    scene.site.handle_opened(
                        connection,
                        PeerLimits::default(),
                        &mut scene.sources,
                        scene.now,
                    );
                }
                Action::Close { connection } => scene.site.handle_closed(connection),
                Action::Send { connection, .. } => {
                    sent_at.push(scene.now.0 - 1_000_000);
                    let (sources, now) = (&mut scene.sources, scene.now);
                    scene.site.handle_sent(
                        connection,
                        Sent { outcome: SendOutcome::Ok, leftover: None },
                        sources,
                        now,
                    );
                }
                _ => {}
            }
        }
    }
    assert_eq!(sent_at, [60_000, 120_000]);
}

#[test]
fn a_lane_without_a_connection_gets_its_turn_where_the_site_has_one_for_all() {
    let mut scene = Scene::new(shaping(1), &[("a", 1), ("b", 1)]);
    scene.arrive((0..200).map(message));
    let (first, source) = opens(&scene.act())[0];
    let mut actions = scene.opened(first);
    let mut sent = 0;
    while !sends(&actions).is_empty() {
        scene.now = scene.now + seconds(1);
        actions = scene.sent(first, SendOutcome::Ok);
        sent += 1;
    }
    assert_eq!(sent, TURN.as_secs());
    assert!(matches!(actions[..], [Action::Close { .. }]), "{actions:?}");
    scene.site.handle_closed(first);
    let open = opens(&scene.act());
    assert!(open.len() == 1 && open[0].1 != source);
}

#[test]
fn an_idle_connection_gives_way_to_a_source_that_needs_one() {
    let mut scene = Scene::new(shaping(1), &[("a", 1), ("b", 1)]);
    scene.arrive([message(1), message(2)]);
    let (first, source) = opens(&scene.act())[0];
    scene.opened(first);
    let actions = scene.sent(first, SendOutcome::Ok);
    assert!(matches!(actions[..], [Action::Close { .. }]), "{actions:?}");
    assert_eq!(scene.now, Instant(1_000_000), "without waiting for its time to be over");
    scene.site.handle_closed(first);
    let open = opens(&scene.act());
    assert!(open.len() == 1 && open[0].1 != source);
}

#[test]
fn another_pool_may_stand_in_for_a_time() {
    let pool = |name: &str, source: &str| Pool {
        name: name.to_owned(),
        members: vec![Member { source: SourceId::of(source), weight: NonZeroU32::MIN }],
    };
    let mut scene = Scene::plain(shaping(1));
    scene.site.set_plan(Plan::uniform(shaping(1), vec![pool("default", "a"), pool("other", "b")]), scene.now);
    let until = scene.now + seconds(60);
    scene.site.switch_pool(PoolId::default(), PoolId::of("other"), until);
    scene.arrive([message(1)]);
    let (connection, source) = opens(&scene.act())[0];
    assert_eq!(source, SourceId::of("b"));
    scene.opened(connection);
    scene.sent(connection, SendOutcome::Ok);
    scene.now = until;
    scene.arrive([message(2)]);
    let actions = scene.act();
    let closed = actions.iter().any(|action| matches!(action, Action::Close { .. }));
    assert!(closed && opens(&actions).is_empty(), "{actions:?}");
    scene.site.handle_closed(connection);
    assert_eq!(opens(&scene.act())[0].1, SourceId::of("a"));
}

#[test]
fn mail_of_a_pool_that_is_gone_goes_home() {
    let mut scene = Scene::plain(shaping(1));
    scene.arrive([message(1), message(2)]);
    let (connection, _) = opens(&scene.act())[0];
    scene.opened(connection);
    let other = Pool { name: "other".to_owned(), ..Pool::unbound() };
    scene.site.set_plan(Plan::new(Rc::new(shaping(1)), vec![other], |_| Rc::new(shaping(1))), scene.now);
    assert_eq!(given_back(&scene.act()), 0, "its source serves another pool still");
    let nothing = Plan { lanes: Vec::new(), ..Plan::uniform(shaping(1), Vec::new()) };
    scene.site.set_plan(nothing, scene.now);
    assert_eq!(given_back(&scene.act()), 1);
    let actions = scene.sent(connection, SendOutcome::Ok);
    assert!(matches!(actions[..], [Action::Close { .. }]), "{actions:?}");
    scene.arrive([message(3)]);
    let actions = scene.act();
    assert!(
        matches!(&actions[..], [Action::Blocked { block, .. }] if block.why == Why::NoSource && block.until.is_none()),
        "{actions:?}"
    );
}

#[test]
fn a_stop_gives_back_and_closes() {
    let mut scene = Scene::plain(shaping(2));
    scene.arrive((0..6).map(message));
    let open = opens(&scene.act());
    scene.opened(open[0].0);
    scene.site.stop();
    let actions = scene.act();
    assert_eq!(given_back(&actions), 5);
    let actions = scene.opened(open[1].0);
    assert!(actions.iter().any(|action| matches!(action, Action::Close { .. })), "{actions:?}");
    scene.site.handle_closed(open[1].0);
    scene.sent(open[0].0, SendOutcome::Ok);
    scene.site.handle_closed(open[0].0);
    assert_eq!((scene.site.connection_count(), scene.site.job_count()), (0, 0));
}

#[test]
fn a_warm_up_counts_recipients_and_caps_a_transaction() {
    let caps = vec![NonZeroU32::new(100).unwrap()];
    let warm_up = crate::queue::warm_up::WarmUp::new(0, caps);
    let source = Source { warm_up, ..Source::unbound() };
    let mut scene = Scene::plain(shaping(1));
    scene.sources = Sources::new([&source], Part::WHOLE, Now::default());
    scene.arrive([Message { recipients: 5, ..message(1) }]);
    let (connection, _) = opens(&scene.act())[0];
    let actions = scene.opened(connection);
    let [Action::Send { recipients_max: 2, job, .. }] = actions[..] else { panic!("{actions:?}") };
    // Two of a hundred are saved up. One was refused before it was sent to.
    let leftover = Message { recipients: 4, ..job };
    scene.site.handle_sent(
        connection,
        Sent { outcome: SendOutcome::Ok, leftover: Some(leftover) },
        &mut scene.sources,
        scene.now,
    );
    let actions = scene.act();
    assert!(matches!(actions[..], [Action::Send { recipients_max: 1, .. }]), "{actions:?}");
}
