//! Time is told right: a known stall shows in the corrected latency, and a generator that is late says so.

use std::sync::Arc;
use std::time::Duration;

use loadtest::plan::{Arrivals, Bodies, Rate, Sizes};
use loadtest::sink::{Conduct, Sink};
use loadtest::smtp::{Limit, Load, Pace};

use crate::fake::{Fake, Treated};

const RATE: f64 = 200.0;
const RUN: Duration = Duration::from_secs(3);
const STALL: Duration = Duration::from_millis(500);

#[test]
fn a_known_stall_shows_in_corrected_latencies_alone() {
    let fake = Fake::start(None, |_| Treated::Well, Some((Duration::from_secs(1), STALL)));
    let bodies = Arc::new(Bodies::new(&Sizes::Same(1000), 1));
    let load = Load {
        pace: Pace::Open(Rate(RATE), Arrivals::Constant),
        ..Load::plain(fake.address(), 3, Limit::Time(RUN), bodies)
    };
    let sent = load.run().expect("it runs");
    let tally = &sent.tally;
    assert_eq!(tally.counts.succeeded, 600, "{:?}", tally.errors);
    let ms = |nanos: u64| nanos / 1_000_000;
    // A hundred of six hundred messages fell due in the stall and waited from 500 ms down to nothing: one in ten
    // more than 200 ms, one in twenty more than 350 ms. Three sessions alone saw it, as they were.
    let corrected = |at: f64| ms(tally.corrected.percentile(at));
    assert!((150..300).contains(&corrected(90.0)), "{}", corrected(90.0));
    assert!((300..450).contains(&corrected(95.0)), "{}", corrected(95.0));
    assert!((450..600).contains(&corrected(99.5)), "{}", corrected(99.5));
    assert!(ms(tally.service.percentile(98.0)) < 150, "{}", ms(tally.service.percentile(98.0)));
    assert!(ms(tally.service.max()) >= 450);
    // The series has the second in which it happened.
    let worst = sent.series.iter().max_by_key(|moment| moment.max_ns).expect("there are seconds");
    assert_eq!(worst.second, 1);
}

#[test]
fn a_generator_that_cannot_keep_up_is_invalid() {
    let sink = Sink::start(([127, 0, 0, 1], 0).into(), Conduct::default(), None, 1).expect("a free port");
    let bodies = Arc::new(Bodies::new(&Sizes::Same(1000), 1));
    let load = Load {
        pace: Pace::Open(Rate(3e7), Arrivals::Poisson),
        drain_max: Duration::from_millis(10),
        ..Load::plain(sink.address(), 4, Limit::Time(Duration::from_millis(700)), bodies)
    };
    let sent = load.run().expect("it runs");
    assert!(!sent.health.is_valid(), "{:?}", sent.health);
    assert!(sent.tally.counts.dropped > 0);
}

#[test]
fn an_open_loop_keeps_its_rate_whatever_the_sessions_do() {
    let sink = Sink::start(([127, 0, 0, 1], 0).into(), Conduct::default(), None, 1).expect("a free port");
    let bodies = Arc::new(Bodies::new(&Sizes::Same(1000), 1));
    let load = Load {
        pace: Pace::Open(Rate(500.0), Arrivals::Poisson),
        threads: 2,
        ..Load::plain(sink.address(), 8, Limit::Time(Duration::from_secs(2)), bodies)
    };
    let sent = load.run().expect("it runs");
    assert!((850..1150).contains(&sent.tally.counts.succeeded), "{:?}", sent.tally.counts);
    assert!(sent.seconds > 1.8, "{}", sent.seconds);
    assert_eq!(sent.tally.counts.connections, 8);
}
