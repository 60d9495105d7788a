//! Runs as a page to look at: one self-contained HTML file with drawings in SVG, readable in light and dark, on paper
//! and without scripts.
//!
//! Every figure of a drawing also stands in a table or in a title that a pointer or a screen reader finds. What an
//! invalid run measured is not drawn; that it was invalid is said.

pub mod bars;
pub mod charts;
pub mod page;
pub mod plot;
pub mod scale;
mod svg;

use crate::record::{PERCENTILES, Record, duration, summary};
use page::{Column, Page};
use scale::trimmed;

/// The page of some runs.
pub fn of_records(title: &str, records: &[Record]) -> String {
    let mut page = Page::new(title);
    if let Some(first) = records.first() {
        page.facts(&place(first));
    }
    for record in records {
        if let Some(reason) = &record.health.invalid {
            page.warning(&format!("{} is left out: {reason}.", charts::name_of(record)));
        }
    }
    let valid: Vec<Record> = records.iter().filter(|record| record.health.is_valid()).cloned().collect();
    write_overview(&mut page, &valid);
    for plot in [
        charts::percentiles(&valid),
        charts::rate_over_time(&valid),
        charts::latency_over_time(&valid),
        charts::latency_by_rate(&valid),
    ] {
        page.figure(&plot.title, plot.draw());
    }
    for plot in charts::growth(&valid) {
        page.figure(&plot.title, plot.draw());
    }
    let stack = charts::cost_stack(&valid);
    page.figure(&stack.title, stack.draw());
    write_latencies(&mut page, &valid);
    page.heading("The runs in full");
    for record in records {
        let text = format!("{}\n\n{}", record.what.arguments.join(" "), summary(record));
        page.folded_text(&charts::name_of(record), &text);
    }
    page.finish()
}

fn place(record: &Record) -> String {
    let machine = &record.what.machine;
    format!(
        "{}, {} processor(s), {} GB of memory, Linux {}; {}",
        machine.processor,
        machine.processors,
        trimmed(machine.memory_bytes as f64 / 1e9),
        machine.kernel,
        date(record.what.started_at)
    )
}

fn write_overview(page: &mut Page, records: &[Record]) {
    let optional = |value: Option<f64>| value.map_or_else(|| "not counted".to_owned(), trimmed);
    // What was measured of a mailbox, one thing at a time, has no rate.
    let with_rate = records.iter().filter(|record| !record.figures.contains_key(charts::MAILBOX_MESSAGES));
    let rows: Vec<Vec<String>> = with_rate
        .map(|record| {
            let cost = record.cost.as_ref();
            let each = |count: Option<u64>| count.map(|count| record.each(count));
            vec![
                charts::name_of(record),
                record.what.durability.clone(),
                trimmed(record.rate),
                record.counts.succeeded.to_string(),
                record.counts.failed.to_string(),
                optional(each(cost.map(|cost| cost.cpu_us))),
                optional(each(cost.and_then(|cost| cost.system_calls))),
                optional(each(cost.and_then(|cost| cost.syncs))),
                record.ledger.map_or_else(|| "not compared".to_owned(), |ledger| ledger.missing.to_string()),
            ]
        })
        .collect();
    let columns = [
        ("server", Column::Text),
        ("what an OK promises", Column::Text),
        ("rate, /s", Column::Number),
        ("succeeded", Column::Number),
        ("failed", Column::Number),
        ("CPU, us each", Column::Number),
        ("system calls each", Column::Number),
        ("syncs each", Column::Number),
        ("missing", Column::Number),
    ];
    if !rows.is_empty() {
        page.table(&columns, &rows);
    }
}

fn write_latencies(page: &mut Page, records: &[Record]) {
    let mut rows = Vec::new();
    for record in records {
        for (name, spectrum) in record.latency.iter().filter(|(_, spectrum)| spectrum.count() > 0) {
            let mut row = vec![charts::name_of(record), name.clone(), spectrum.count().to_string()];
            row.extend(PERCENTILES.iter().map(|&percentile| duration(spectrum.percentile(percentile))));
            row.push(duration(spectrum.max()));
            rows.push(row);
        }
    }
    if rows.is_empty() {
        return;
    }
    let names: Vec<String> = PERCENTILES.iter().map(|percentile| format!("p{percentile}")).collect();
    let mut columns = vec![("server", Column::Text), ("latency", Column::Text), ("count", Column::Number)];
    columns.extend(names.iter().map(|name| (name.as_str(), Column::Number)));
    columns.push(("max", Column::Number));
    page.heading("Latencies");
    page.table(&columns, &rows);
}

/// Year, month, day and minute of a time in seconds since 1970, in UTC.
pub fn date(seconds: u64) -> String {
    let (days, minutes) = ((seconds / 86_400) as i64, seconds % 86_400 / 60);
    // Days are counted from 1 March of the year 0, so that a leap day is the last of its year.
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02} {:02}:{:02} UTC", minutes / 60, minutes % 60)
}

#[cfg(test)]
/// Fails where an element is not ended as it began, or an attribute or entity is not one.
pub fn check_well_formed(page: &str) {
    let mut open: Vec<&str> = Vec::new();
    let mut rest = page.strip_prefix("<!DOCTYPE html>").expect("it is HTML");
    while let Some((text, after)) = rest.split_once('<') {
        assert!(!text.contains('>') || open.last() == Some(&"style"), "{text}");
        for entity in text.split('&').skip(1) {
            let name = entity.split(';').next().expect("split gives one at least");
            assert!(["amp", "lt", "gt", "quot"].contains(&name), "&{entity}");
        }
        let (tag, after) = after.split_once('>').expect("every tag ends");
        assert_eq!(tag.matches('"').count() % 2, 0, "{tag}");
        match tag.strip_prefix('/') {
            Some(name) => assert_eq!(open.pop(), Some(name)),
            None if tag.ends_with('/') => {}
            None => open.push(tag.split(' ').next().expect("split gives one at least")),
        }
        rest = after;
    }
    assert!(open.is_empty(), "{open:?} is left open");
}

#[cfg(test)]
mod tests;
