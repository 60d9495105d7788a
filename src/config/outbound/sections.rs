//! What the `[[shaping]]` sections mean.

use std::num::NonZeroU32;
use std::ops::Range;
use std::time::Duration;

use toml::Spanned;

use super::check::{self, Names, check_reference, pattern, tenant_name};
use super::keys::ShapingKeys;
use super::shaping::{Overlay, RateKey, Section, ShapingMatch};
use crate::config::document::Problems;
use crate::limits::outbound;

/// A host that answers after more than an hour is none.
const TIMEOUT_S_MAX: i64 = 3600;

/// A day and more between two tries of a dead site is what the retries of its messages are for.
const DEAD_S_MAX: i64 = 86_400;

/// In the order of the text.
pub fn sections(all: &[ShapingKeys], names: &Names, problems: &mut Problems<'_>) -> Vec<Section> {
    let mut sections: Vec<Section> = Vec::new();
    for keys in all {
        let matches = ShapingMatch {
            domain: pattern(&keys.domain, "domain", problems),
            mx: pattern(&keys.mx, "mx", problems),
            tenant: tenant_name(&keys.tenant, names, problems),
            source: source_name(&keys.source, names, problems),
        };
        if sections.iter().any(|other| other.matches.is_same(&matches)) {
            let text = format!("another section says the shaping for {matches} already, expected one");
            problems.add(anchor(keys), text);
        }
        sections.push(Section { matches, sets: overlay(keys, problems) });
    }
    sections
}

fn source_name(
    source: &Option<Spanned<String>>,
    names: &Names,
    problems: &mut Problems<'_>,
) -> Option<String> {
    let source = source.as_ref()?;
    check_reference(source, "source", "source", &names.sources, problems);
    Some(source.get_ref().clone())
}

/// Where a problem with the section as a whole is shown: at its first key.
fn anchor(keys: &ShapingKeys) -> Range<usize> {
    let texts =
        [&keys.domain, &keys.mx, &keys.tenant, &keys.source, &keys.connection_rate, &keys.message_rate];
    let numbers = [
        &keys.connections,
        &keys.site_connections,
        &keys.messages_per_connection,
        &keys.recipients_per_message,
        &keys.idle_s,
        &keys.failures_until_dead,
        &keys.dead_first_s,
        &keys.dead_max_s,
        &keys.connect_s,
        &keys.greeting_s,
        &keys.command_s,
        &keys.data_s,
        &keys.block_s,
        &keys.end_s,
        &keys.transaction_s,
    ];
    let texts = texts.into_iter().flatten().map(Spanned::span);
    let words = keys.tls.iter().map(Spanned::span).chain(keys.eight_bit.iter().map(Spanned::span));
    let numbers = numbers.into_iter().flatten().map(Spanned::span);
    texts.chain(numbers).chain(words).min_by_key(|span| span.start).unwrap_or_default()
}

fn overlay(keys: &ShapingKeys, problems: &mut Problems<'_>) -> Overlay {
    let most = outbound::CONNECTIONS_MOST;
    let million = 1_000_000;
    Overlay {
        connections: count(&keys.connections, "connections", most, problems),
        site_connections: count(&keys.site_connections, "site_connections", most, problems),
        connection_rate: rate(&keys.connection_rate, "connection_rate", problems),
        message_rate: rate(&keys.message_rate, "message_rate", problems),
        messages_per_connection: count(
            &keys.messages_per_connection,
            "messages_per_connection",
            million,
            problems,
        ),
        recipients_per_message: count(
            &keys.recipients_per_message,
            "recipients_per_message",
            outbound::RECIPIENTS_MOST,
            problems,
        ),
        idle: idle(&keys.idle_s, problems),
        failures_until_dead: count(&keys.failures_until_dead, "failures_until_dead", 1000, problems),
        dead_first: seconds(&keys.dead_first_s, "dead_first_s", DEAD_S_MAX, problems),
        dead_max: seconds(&keys.dead_max_s, "dead_max_s", DEAD_S_MAX, problems),
        tls: keys.tls.as_ref().map(|tls| *tls.get_ref()),
        eight_bit: keys.eight_bit.as_ref().map(|eight_bit| *eight_bit.get_ref()),
        connect: seconds(&keys.connect_s, "connect_s", TIMEOUT_S_MAX, problems),
        greeting: seconds(&keys.greeting_s, "greeting_s", TIMEOUT_S_MAX, problems),
        command: seconds(&keys.command_s, "command_s", TIMEOUT_S_MAX, problems),
        data: seconds(&keys.data_s, "data_s", TIMEOUT_S_MAX, problems),
        block: seconds(&keys.block_s, "block_s", TIMEOUT_S_MAX, problems),
        end: seconds(&keys.end_s, "end_s", TIMEOUT_S_MAX, problems),
        transaction: seconds(&keys.transaction_s, "transaction_s", DEAD_S_MAX, problems),
    }
}

fn count(
    value: &Option<Spanned<i64>>,
    key: &str,
    most: u32,
    problems: &mut Problems<'_>,
) -> Option<NonZeroU32> {
    check::count(value, key, usize::try_from(most).unwrap_or(usize::MAX), problems)
}

/// `"none"` takes away what a less exact section says.
fn rate(text: &Option<Spanned<String>>, key: &str, problems: &mut Problems<'_>) -> Option<RateKey> {
    match text.as_ref()? {
        none if none.get_ref() == "none" => Some(RateKey::None),
        text => check::rate(text, key, problems).map(RateKey::Rate),
    }
}

fn idle(value: &Option<Spanned<i64>>, problems: &mut Problems<'_>) -> Option<Duration> {
    let most = i64::try_from(outbound::IDLE_MOST.as_secs()).unwrap_or(i64::MAX);
    check::span(value, "idle_s", 0..=most, problems)
}

fn seconds(
    value: &Option<Spanned<i64>>,
    key: &str,
    most: i64,
    problems: &mut Problems<'_>,
) -> Option<Duration> {
    check::span(value, key, 1..=most, problems)
}
