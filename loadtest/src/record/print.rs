//! The block at the end of a run, as an operator pastes it.

use std::fmt::Write;

use crate::cost::Cost;
use crate::record::{PERCENTILES, Record, Spectrum};

/// A time with the unit in which it reads best.
pub fn duration(nanos: u64) -> String {
    let value = nanos as f64;
    match nanos {
        0..1_000 => format!("{nanos} ns"),
        1_000..1_000_000 => format!("{:.1} us", value / 1e3),
        1_000_000..1_000_000_000 => format!("{:.2} ms", value / 1e6),
        _ => format!("{:.2} s", value / 1e9),
    }
}

/// Everything, or the reason why there is nothing.
pub fn summary(record: &Record) -> String {
    let mut text = String::new();
    write_summary(record, &mut text).expect("a String takes everything");
    text
}

fn write_summary(record: &Record, out: &mut String) -> std::fmt::Result {
    let what = &record.what;
    if let Some(reason) = &record.health.invalid {
        return writeln!(out, "INVALID: {reason}. There is no result.");
    }
    match what.durability.as_str() {
        "" => writeln!(out, "{}", what.target)?,
        durability => writeln!(out, "{} ({durability})", what.target)?,
    }
    let (rate, unit) = (record.rate, &record.unit);
    writeln!(
        out,
        "{rate:.0} {unit}s/s, {:.0} {unit}s/minute, {:.0} {unit}s/hour",
        rate * 60.0,
        rate * 3600.0
    )?;
    let counts = &record.counts;
    writeln!(
        out,
        "{} succeeded, {} failed, {} dropped in {:.2} s; {} connections, {:.1} MB/s",
        counts.succeeded,
        counts.failed,
        counts.dropped,
        record.seconds,
        counts.connections,
        counts.bytes as f64 / record.seconds.max(1e-9) / 1e6,
    )?;
    write_latencies(record, out)?;
    for (name, value) in &record.figures {
        writeln!(out, "{name} {value:.2}")?;
    }
    for (what, count) in &record.errors {
        writeln!(out, "error {what}: {count}")?;
    }
    if let Some(cost) = &record.cost {
        write_cost(record, cost, out)?;
    }
    if let Some(ledger) = &record.ledger {
        writeln!(
            out,
            "{} acknowledged, {} received, {} missing, {} duplicated, {} corrupted, {} reordered, {} unexpected, \
             {} unacknowledged",
            ledger.acknowledged,
            ledger.received,
            ledger.missing,
            ledger.duplicated,
            ledger.corrupted,
            ledger.reordered,
            ledger.unexpected,
            ledger.unacknowledged
        )?;
    }
    write_health(record, out)?;
    if let Some(verdict) = &record.verdict {
        match verdict.is_held() {
            true => writeln!(out, "objective held: {}", verdict.objective)?,
            false => writeln!(out, "objective missed: {}", verdict.missed.join("; "))?,
        }
    }
    Ok(())
}

fn write_latencies(record: &Record, out: &mut String) -> std::fmt::Result {
    let width = record.latency.keys().map(String::len).max().unwrap_or(0).max(9);
    if record.latency.values().all(|spectrum| spectrum.count() == 0) {
        return Ok(());
    }
    write!(out, "{:width$}", "")?;
    let names = PERCENTILES.iter().map(|at| format!("p{at}"));
    for name in ["avg", "min", "max"].into_iter().map(str::to_owned).chain(names) {
        write!(out, " {name:>9}")?;
    }
    writeln!(out)?;
    for (name, spectrum) in record.latency.iter().filter(|(_, spectrum)| spectrum.count() > 0) {
        write!(out, "{name:width$}")?;
        for value in row(spectrum) {
            write!(out, " {:>9}", duration(value))?;
        }
        writeln!(out)?;
    }
    Ok(())
}

fn row(spectrum: &Spectrum) -> impl Iterator<Item = u64> {
    let ends = [spectrum.mean() as u64, spectrum.min(), spectrum.max()];
    ends.into_iter().chain(PERCENTILES.iter().map(|&at| spectrum.percentile(at)))
}

fn write_cost(record: &Record, cost: &Cost, out: &mut String) -> std::fmt::Result {
    let optional = |count: Option<u64>| {
        count.map_or_else(|| "not counted".to_owned(), |count| format!("{:.3}", record.each(count)))
    };
    writeln!(
        out,
        "server, each {}: {:.1} us CPU ({}), {} system calls, {} syncs, {:.0} bytes written; \
         peak memory {:.1} MB in {} process(es)",
        record.unit,
        record.each(cost.cpu_us),
        cost.cpu_from,
        optional(cost.system_calls),
        optional(cost.syncs),
        record.each(cost.written_bytes),
        cost.memory_peak_bytes as f64 / 1e6,
        cost.processes_max,
    )
}

fn write_health(record: &Record, out: &mut String) -> std::fmt::Result {
    let health = &record.health;
    if health.threads == 0 {
        return Ok(());
    }
    writeln!(
        out,
        "generator: {:.1} us CPU each {}, {:.0} % of {} thread(s), lag p99 {}, {:.1} ms waiting for a \
         processor, {:.1} ms of active waiting apart",
        record.each(health.cpu_us),
        record.unit,
        health.cpu_share * 100.0,
        health.threads,
        duration(health.lag_p99_ns),
        health.queued_us as f64 / 1e3,
        health.spin_us as f64 / 1e3,
    )
}
