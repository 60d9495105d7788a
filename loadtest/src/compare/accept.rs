//! Mail that is durably accepted: at how many sessions, what it costs, how soon it is acknowledged.
//!
//! The peers hold what they have accepted in their queue; ours delivers it to mailboxes as well, which is more.

use std::io;
use std::time::Duration;

use crate::compare::bench::{Bench, add, samples};
use crate::compare::drive::{Connections, Drive, Driven, Until};
use crate::compare::row::{Better, Goal, Measure, Samples};
use crate::compare::server::{Mode, Server};
use crate::cost::Cost;
use crate::limits::sync_latency;
use crate::record::Spectrum;
use crate::report::scale::Unit;

pub const BYTES: usize = 4096;

/// Where one message waits for the next, the first ones wait for processes to be made.
const WARM: Duration = Duration::from_millis(500);

/// Sessions at half load.
const HALF_SESSIONS: usize = 64;

pub fn measures(sessions: usize, connections: Connections) -> Vec<Measure> {
    let cpu = match connections {
        Connections::Kept => Goal::TimesOf(25.0, Server::Postfix),
        Connections::New => Goal::TimesOf(8.0, Server::Postfix),
    };
    let (rate, flushes) = match (sessions, connections) {
        (1, Connections::Kept) => (Goal::Times(3.0), Goal::None),
        (64, Connections::Kept) => (Goal::Times(15.0), Goal::AtMost(0.05)),
        _ => (Goal::None, Goal::None),
    };
    let measures = vec![
        Measure::new("cpu", "CPU a message", Unit::Micros, Better::Less).with_goal(cpu),
        Measure::new("rate", "messages a second", Unit::PerSecond, Better::More).with_goal(rate),
        Measure::new("p50", "acknowledged after (p50)", Unit::Micros, Better::Less),
        Measure::new("p99.9", "acknowledged after (p99.9)", Unit::Micros, Better::Less),
        Measure::new("syncs", "syncs a message", Unit::Count, Better::Less),
        Measure::new("flushes", "device flushes a message", Unit::Count, Better::Less).with_goal(flushes),
        Measure::new("load", "processor share of the load itself", Unit::Count, Better::Less).uncompared(),
    ];
    let among_synced = |measure: Measure| match measure.name.as_str() {
        "load" => measure,
        _ => measure.among_synced(),
    };
    measures.into_iter().map(among_synced).collect()
}

pub fn measure(
    bench: &Bench,
    server: Server,
    sessions: usize,
    connections: Connections,
) -> io::Result<Samples> {
    let running = bench.start_fresh(server, &bench.setup(Mode::Accept))?;
    let drive = Drive {
        to: running.port("smtp")?,
        sessions,
        bytes: BYTES,
        recipients: bench.recipients(),
        connections,
        until: Until::After(WARM),
    };
    drive.run()?;
    let until = Until::After(Duration::from_secs_f64(bench.sizes.seconds));
    let (driven, cost) = bench.metered(&running, || Drive { until, ..drive }.run())?;
    Ok(found(&driven, &cost))
}

fn found(driven: &Driven, cost: &Cost) -> Samples {
    let each = |count: u64| count as f64 / driven.acknowledged.max(1) as f64;
    let mut samples = samples([
        ("cpu", each(cost.cpu_us)),
        ("rate", driven.acknowledged as f64 / driven.seconds),
        ("p50", driven.ack.percentile(50.0) as f64 / 1e3),
        ("p99.9", driven.ack.percentile(99.9) as f64 / 1e3),
        ("load", driven.load_share),
    ]);
    add(&mut samples, "syncs", cost.syncs.map(each));
    add(&mut samples, "flushes", cost.device.as_ref().map(|device| each(device.flushes)));
    samples
}

pub fn half_measures() -> Vec<Measure> {
    vec![
        Measure::new("p50", "acknowledged after (p50)", Unit::Micros, Better::Less),
        Measure::new("p99.9", "acknowledged after (p99.9)", Unit::Micros, Better::Less),
        Measure::new("sync", "a bare sync (p50)", Unit::Micros, Better::Less).uncompared(),
        Measure::new("share", "p50 to 1.5 syncs + 0.3 ms", Unit::Times, Better::Less)
            .with_goal(Goal::AtMost(1.0)),
    ]
}

/// On schedule, at half of what the same server just took.
pub fn measure_half(bench: &Bench, server: Server) -> io::Result<Samples> {
    let running = bench.start_fresh(server, &bench.setup(Mode::Accept))?;
    let seconds = bench.sizes.seconds;
    let drive = Drive {
        to: running.port("smtp")?,
        sessions: HALF_SESSIONS,
        bytes: BYTES,
        recipients: bench.recipients(),
        connections: Connections::Kept,
        until: Until::After(Duration::from_secs_f64(seconds)),
    };
    let driven = drive.run()?;
    let rate = driven.acknowledged as f64 / driven.seconds / 2.0;
    // Before and after, since a disk that others use too is not the same at all times.
    let mut sync = sync_latency(&bench.folder)?;
    let messages = ((rate * seconds) as usize).max(HALF_SESSIONS);
    let ack = Drive { until: Until::Messages(messages), ..drive }.run_paced(rate)?.ack;
    sync.add(&sync_latency(&bench.folder)?);
    let micros = |spectrum: &Spectrum, at: f64| spectrum.percentile(at) as f64 / 1e3;
    let (p50, sync) = (micros(&ack, 50.0), micros(&sync, 50.0));
    Ok(samples([
        ("p50", p50),
        ("p99.9", micros(&ack, 99.9)),
        ("sync", sync),
        ("share", p50 / (1.5 * sync + 300.0)),
    ]))
}
