//! From what the sections about outbound mail say to what they mean, or to what is wrong with them.
//!
//! Invariant: when no problem was added, the [`Outbound`] is as its module promises.

use std::net::IpAddr;
use std::num::NonZeroU32;
use std::ops::RangeInclusive;
use std::time::Duration;

use toml::Spanned;

use super::keys::{
    BounceClassKeys, EventsKeys, OutboundKeys, PoolKeys, QueueKeys, SourceKeys, TenantKeys, TenantsKeys,
};
use super::shaping::ShapingTable;
use super::{Events, Headers, Outbound, routes, rules, sections};
use crate::config::check::{domain_or_problem, number, path, signed};
use crate::config::document::Problems;
use crate::limits::outbound;
use crate::mail::query::Day;
use crate::queue::classify::{Class, Classifier};
use crate::queue::pattern::Pattern;
use crate::queue::policy::{DEFAULT_NAME, Member, Pool, PoolId, Rate, RetryPolicy, Source, SourceId, Tenant};
use crate::queue::route::Routes;
use crate::queue::rule::Words;
use crate::queue::warm_up::{DAYS_MAX, WarmUp};

/// A span of more than a month is none, where mail waits for its end.
const SPAN_S_MAX: i64 = 31 * 86_400;

const NAME_CHARS_MAX: usize = 64;

/// The names that other sections may use.
pub struct Names {
    pub sources: Vec<String>,
    pub pools: Vec<String>,
    pub tenants: Vec<String>,
}

/// What the sections mean, over logs with segments of this size.
pub fn outbound(keys: OutboundKeys, segment_bytes: u64, problems: &mut Problems<'_>) -> Outbound {
    let queue = keys.queue.unwrap_or_default();
    let retry = retry(&queue, problems);
    let mut sources = sources(&keys.sources, problems);
    let mut names = Names {
        sources: sources.iter().map(|source| source.name.clone()).collect(),
        pools: Vec::new(),
        tenants: keys.tenants.iter().map(|tenant| tenant.name.get_ref().clone()).collect(),
    };
    if !names.sources.iter().any(|name| name == DEFAULT_NAME) {
        names.sources.push(DEFAULT_NAME.to_owned());
        sources.push(Source::unbound());
    }
    let mut pools = pools(&keys.pools, &names, problems);
    if !pools.iter().any(|pool| pool.name == DEFAULT_NAME) {
        pools.push(Pool::unbound());
    }
    names.pools = pools.iter().map(|pool| pool.name.clone()).collect();
    Outbound {
        dsn_return_bytes: dsn_return_bytes(&queue, segment_bytes, problems),
        private_addresses: queue.private_addresses.unwrap_or_default(),
        routes: Routes::new(routes::routes(&keys.routes, &retry, &names, problems)),
        shaping: ShapingTable::new(sections::sections(&keys.shaping, &names, problems)),
        rules: rules::rules(&keys.rules, &names, problems),
        tenants: tenants(&keys.tenants, &names, problems),
        headers: headers(&keys.headers.unwrap_or_default(), problems),
        classes: classes(&keys.classes, problems),
        events: events(&keys.events.unwrap_or_default(), problems),
        retry,
        sources,
        pools,
    }
}

/// As much as there is room for, where nothing is said.
fn dsn_return_bytes(keys: &QueueKeys, segment_bytes: u64, problems: &mut Problems<'_>) -> u64 {
    let most = segment_bytes / outbound::DSN_SEGMENT_SHARE;
    let found = bytes(&keys.dsn_return_bytes, "dsn_return_bytes", 0, problems);
    if let Some(found) = found.filter(|found| *found > most)
        && let Some(key) = &keys.dsn_return_bytes
    {
        let text =
            format!("`dsn_return_bytes`: found {found}, expected at most half of `segment_bytes`: {most}");
        problems.add(key.span(), text);
    }
    found.unwrap_or(outbound::DSN_RETURN_BYTES).min(most)
}

fn retry(keys: &QueueKeys, problems: &mut Problems<'_>) -> RetryPolicy {
    let mut retry = RetryPolicy::default();
    if let Some(percent) = &keys.retry_jitter_percent {
        let percent = number(percent, "retry_jitter_percent", 0..=50, problems);
        retry.jitter_percent = u8::try_from(percent).unwrap_or(retry.jitter_percent);
    }
    let waits = [&keys.retry_first_s, &keys.retry_max_s, &keys.warn_after_s, &keys.expire_after_s];
    set_waits(&mut retry, waits, problems);
    retry
}

/// `retry_first_s`, `retry_max_s`, `warn_after_s` and `expire_after_s`, of the queue or of a route.
pub fn set_waits(retry: &mut RetryPolicy, keys: [&Option<Spanned<i64>>; 4], problems: &mut Problems<'_>) {
    let [first, max, warn_after, expire_after] = keys;
    if let Some(span) = span(first, "retry_first_s", 1..=SPAN_S_MAX, problems) {
        retry.first = span;
        retry.max = retry.max.max(span);
    }
    if let Some(key) = max
        && let Some(span) = span(max, "retry_max_s", 1..=SPAN_S_MAX, problems)
    {
        if span < retry.first {
            let first_s = retry.first.as_secs();
            let text = format!(
                "`retry_max_s`: found {}, expected at least `retry_first_s`: {first_s}",
                key.get_ref()
            );
            problems.add(key.span(), text);
        }
        retry.max = span;
    }
    if let Some(span) = span(warn_after, "warn_after_s", 0..=SPAN_S_MAX, problems) {
        retry.warn_after = (!span.is_zero()).then_some(span);
    }
    if let Some(span) = span(expire_after, "expire_after_s", 1..=SPAN_S_MAX, problems) {
        retry.expire_after = span;
    }
}

fn sources(all: &[SourceKeys], problems: &mut Problems<'_>) -> Vec<Source> {
    let mut sources: Vec<Source> = Vec::new();
    for keys in all {
        let name = keys.name.get_ref().clone();
        let is_taken = sources.iter().any(|source| source.id() == SourceId::of(&name));
        check_name(&keys.name, is_taken, problems);
        let ehlo = keys.ehlo.as_ref();
        sources.push(Source {
            name,
            address: keys.address.as_ref().and_then(|address| ip_address(address, problems)),
            ehlo: ehlo.and_then(|ehlo| domain_or_problem(ehlo, "ehlo", "mail.example.org", problems)),
            connections: count(
                &keys.connections,
                "connections",
                outbound::CONNECTIONS_OF_SOURCE_MOST,
                problems,
            ),
            message_rate: keys.message_rate.as_ref().and_then(|text| rate(text, "message_rate", problems)),
            warm_up: warm_up(keys, problems),
        });
    }
    sources
}

fn ip_address(text: &Spanned<String>, problems: &mut Problems<'_>) -> Option<IpAddr> {
    let address = text.get_ref().parse().ok();
    if address.is_none() {
        let found = text.get_ref();
        let text_of = format!(
            "`address`: found {found:?}, expected an IP address such as \"192.0.2.1\" or \"2001:db8::1\""
        );
        problems.add(text.span(), text_of);
    }
    address
}

fn warm_up(keys: &SourceKeys, problems: &mut Problems<'_>) -> Option<WarmUp> {
    let SourceKeys { warm_up_start, warm_up, warm_up_percent, warm_up_days, .. } = keys;
    let (Some(start), Some(caps)) = (warm_up_start, warm_up) else {
        let spans = [
            warm_up_start.as_ref().map(Spanned::span),
            warm_up.as_ref().map(Spanned::span),
            warm_up_percent.as_ref().map(Spanned::span),
            warm_up_days.as_ref().map(Spanned::span),
        ];
        if let Some(span) = spans.into_iter().flatten().next() {
            problems.add(span, "a warm-up needs both `warm_up_start` and `warm_up`");
        }
        return None;
    };
    let day = day(start, problems)?;
    let days = count(warm_up_days, "warm_up_days", DAYS_MAX, problems);
    let percent = warm_up_percent.as_ref().map(|value| number(value, "warm_up_percent", 0..=1000, problems));
    let percent = percent.and_then(|percent| u32::try_from(percent).ok()).unwrap_or(0);
    let listed: Vec<NonZeroU32> =
        caps.get_ref().iter().filter_map(|cap| positive(cap, "warm_up", u32::MAX, problems)).collect();
    let days = days.map_or(0, |days| usize::try_from(days.get()).unwrap_or(usize::MAX));
    let made = WarmUp::growing(day, listed, percent, days);
    if made.is_none() {
        problems.add(caps.span(), format!("`warm_up`: expected the recipients of 1 to {DAYS_MAX} days"));
    }
    made
}

/// `2026-12-01`, as days since 1970.
fn day(text: &Spanned<String>, problems: &mut Problems<'_>) -> Option<i64> {
    let found = text.get_ref();
    let mut numbers = found.splitn(3, '-').map(|part| part.parse::<u32>().ok());
    let mut number = || numbers.next().flatten();
    let day = match (number(), number(), number()) {
        (Some(year), Some(month), Some(day)) => {
            i32::try_from(year).ok().and_then(|year| Day::of_civil(year, month, day))
        }
        _ => None,
    };
    if day.is_none() {
        let text_of = format!("`warm_up_start`: found {found:?}, expected a day such as \"2026-12-01\"");
        problems.add(text.span(), text_of);
    }
    day.map(|day| i64::from(day.0))
}

fn pools(all: &[PoolKeys], names: &Names, problems: &mut Problems<'_>) -> Vec<Pool> {
    let mut pools: Vec<Pool> = Vec::new();
    for keys in all {
        let name = keys.name.get_ref().clone();
        check_name(&keys.name, pools.iter().any(|pool| pool.id() == PoolId::of(&name)), problems);
        let listed = keys.sources.get_ref();
        if listed.is_empty() {
            problems.add(keys.sources.span(), "`sources`: found an empty list, expected at least one source");
        }
        let weights = weights(&keys.weights, listed.len(), "sources", problems);
        let mut members: Vec<Member> = Vec::new();
        for (index, source) in listed.iter().enumerate() {
            check_reference(source, "sources", "source", &names.sources, problems);
            let weight = weights.get(index).copied().unwrap_or(NonZeroU32::MIN);
            let member = Member { source: SourceId::of(source.get_ref()), weight };
            if members.iter().any(|other| other.source == member.source) {
                problems.add(
                    source.span(),
                    format!("{:?} is there twice, expected each source once", source.get_ref()),
                );
            }
            members.push(member);
        }
        pools.push(Pool { name, members });
    }
    pools
}

/// One for each of the list beside it; empty if nothing is said.
pub fn weights(
    keys: &Option<Spanned<Vec<Spanned<i64>>>>,
    beside: usize,
    key_beside: &str,
    problems: &mut Problems<'_>,
) -> Vec<NonZeroU32> {
    let Some(keys) = keys else {
        return Vec::new();
    };
    let found = keys.get_ref().len();
    if found != beside {
        let text = format!("`weights`: found {found}, expected {beside}, one for each of `{key_beside}`");
        problems.add(keys.span(), text);
    }
    keys.get_ref().iter().filter_map(|weight| positive(weight, "weights", 1_000_000, problems)).collect()
}

fn tenants(all: &[TenantKeys], names: &Names, problems: &mut Problems<'_>) -> Vec<Tenant> {
    let mut tenants: Vec<Tenant> = Vec::new();
    for keys in all {
        let name = keys.name.get_ref().clone();
        check_name(&keys.name, tenants.iter().any(|tenant| tenant.name == name), problems);
        let mut logins: Vec<String> = Vec::new();
        for login in &keys.logins {
            let is_same = |other: &String| other.eq_ignore_ascii_case(login.get_ref());
            let is_taken = tenants.iter().flat_map(|tenant| &tenant.logins).chain(&logins).any(is_same);
            if is_taken {
                let found = login.get_ref();
                problems.add(
                    login.span(),
                    format!("{found:?} is there twice, expected each login at one tenant"),
                );
            }
            logins.push(login.get_ref().clone());
        }
        tenants.push(Tenant {
            name,
            logins,
            pool: keys.pool.as_ref().and_then(|pool| pool_id(pool, names, problems)),
            message_rate: keys.message_rate.as_ref().and_then(|text| rate(text, "message_rate", problems)),
        });
    }
    tenants
}

fn headers(keys: &TenantsKeys, problems: &mut Problems<'_>) -> Headers {
    let mut field = |name: &Option<Spanned<String>>, key: &str| {
        let name = name.as_ref()?;
        let found = name.get_ref();
        // RFC 5322 3.6.8.
        if found.is_empty() || !found.bytes().all(|byte| byte.is_ascii_graphic() && byte != b':') {
            let text =
                format!("`{key}`: found {found:?}, expected the name of a header field such as \"X-Tenant\"");
            problems.add(name.span(), text);
        }
        Some(found.clone())
    };
    Headers {
        tenant: field(&keys.header, "header"),
        campaign: field(&keys.campaign_header, "campaign_header"),
    }
}

fn classes(all: &[BounceClassKeys], problems: &mut Problems<'_>) -> Classifier {
    let mut classes: Vec<Class> = Vec::new();
    for keys in all {
        let name = keys.name.get_ref().clone();
        check_name(&keys.name, classes.iter().any(|class| class.name == name), problems);
        if keys.texts.is_empty() && keys.codes.is_empty() {
            problems.add(keys.name.span(), format!("the class {name:?} needs `texts` or `codes`"));
        }
        let mut texts = Vec::new();
        for text in &keys.texts {
            texts.extend(words(text, "texts", problems).map(|words| words.as_str().to_owned()));
        }
        classes.push(Class { texts, codes: keys.codes.iter().map(|code| *code.get_ref()).collect(), name });
    }
    let first = all.first().map(|keys| keys.name.span()).unwrap_or_default();
    Classifier::new(classes).unwrap_or_else(|_| {
        problems.add(first, "the texts of all bounce classes together are too large");
        Classifier::default()
    })
}

fn events(keys: &EventsKeys, problems: &mut Problems<'_>) -> Events {
    let rotate_bytes =
        bytes(&keys.rotate_bytes, "rotate_bytes", outbound::EVENTS_ROTATE_BYTES_LEAST, problems);
    let rotate = span(&keys.rotate_s, "rotate_s", 1..=SPAN_S_MAX, problems);
    let keep_bytes = bytes(&keys.keep_bytes, "keep_bytes", 0, problems);
    let keep = span(&keys.keep_s, "keep_s", 0..=i64::from(u32::MAX), problems);
    Events {
        dir: keys.dir.as_ref().map(|dir| path(dir, "dir", problems)),
        rotate_bytes: rotate_bytes.unwrap_or(outbound::EVENTS_ROTATE_BYTES),
        rotate: rotate.unwrap_or(outbound::EVENTS_ROTATE),
        keep_bytes: Some(keep_bytes.unwrap_or(outbound::EVENTS_KEEP_BYTES)).filter(|bytes| *bytes > 0),
        keep: Some(keep.unwrap_or(outbound::EVENTS_KEEP)).filter(|keep| !keep.is_zero()),
        local: keys.local.unwrap_or(true),
    }
}

/// The name of a thing of ours: it stands in log lines and on command lines.
pub fn check_name(name: &Spanned<String>, is_taken: bool, problems: &mut Problems<'_>) {
    let found = name.get_ref();
    let is_plain = |char: char| char.is_alphanumeric() || "-_.@".contains(char);
    if found.is_empty() || found.chars().count() > NAME_CHARS_MAX || !found.chars().all(is_plain) {
        let text = format!(
            "`name`: found {found:?}, expected 1 to {NAME_CHARS_MAX} letters, digits, \"-\", \"_\", \".\" and \"@\""
        );
        problems.add(name.span(), text);
    } else if is_taken {
        problems.add(
            name.span(),
            format!("`name`: another section has {found:?} already, expected one of its own"),
        );
    }
}

/// What `key` names must be one of `known`.
pub fn check_reference(
    name: &Spanned<String>,
    key: &str,
    section: &str,
    known: &[String],
    problems: &mut Problems<'_>,
) {
    let found = name.get_ref();
    if !known.contains(found) {
        let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
        let text = format!("`{key}`: found {found:?}, but no [[{section}]] has this name; known: {known}");
        problems.add(name.span(), text);
    }
}

pub fn pool_id(pool: &Spanned<String>, names: &Names, problems: &mut Problems<'_>) -> Option<PoolId> {
    check_reference(pool, "pool", "pool", &names.pools, problems);
    Some(PoolId::of(pool.get_ref()))
}

pub fn tenant_name(
    tenant: &Option<Spanned<String>>,
    names: &Names,
    problems: &mut Problems<'_>,
) -> Option<String> {
    let tenant = tenant.as_ref()?;
    check_reference(tenant, "tenant", "tenant", &names.tenants, problems);
    Some(tenant.get_ref().clone())
}

/// `*`, `*.name` or a name; what is not said is `*`.
pub fn pattern(text: &Option<Spanned<String>>, key: &str, problems: &mut Problems<'_>) -> Pattern {
    let Some(text) = text else {
        return Pattern::Any;
    };
    let found = text.get_ref().as_str();
    if found == "*" {
        return Pattern::Any;
    }
    let (name, is_under) = found.strip_prefix("*.").map_or((found, false), |name| (name, true));
    match crate::config::domain_name(name) {
        Ok(name) if is_under => Pattern::under(&name),
        Ok(name) => Pattern::Exactly(name),
        Err(why) => {
            let text_of = format!(
                "`{key}`: {found:?} is no domain name such as \"example.net\", \"*.example.net\" or \"*\": {why}"
            );
            problems.add(text.span(), text_of);
            Pattern::Any
        }
    }
}

pub fn rate(text: &Spanned<String>, key: &str, problems: &mut Problems<'_>) -> Option<Rate> {
    let rate = text.get_ref().parse().ok();
    if rate.is_none() {
        let found = text.get_ref();
        let text_of =
            format!("`{key}`: found {found:?}, expected a rate such as \"100/h\", \"10/s\" or \"1/30s\"");
        problems.add(text.span(), text_of);
    }
    rate
}

pub fn words(text: &Spanned<String>, key: &str, problems: &mut Problems<'_>) -> Option<Words> {
    match Words::new(text.get_ref()) {
        Ok(words) => Some(words),
        Err(error) => {
            // The last line says what is wrong, those above draw where.
            let why = error.to_string();
            let why = why.lines().last().unwrap_or_default().trim_start_matches("error: ");
            let found = text.get_ref();
            problems.add(
                text.span(),
                format!("`{key}`: {found:?} is no regular expression that is taken: {why}"),
            );
            None
        }
    }
}

pub fn span(
    value: &Option<Spanned<i64>>,
    key: &str,
    range: RangeInclusive<i64>,
    problems: &mut Problems<'_>,
) -> Option<Duration> {
    let seconds = number(value.as_ref()?, key, range, problems);
    u64::try_from(seconds).ok().map(Duration::from_secs)
}

pub fn count(
    value: &Option<Spanned<i64>>,
    key: &str,
    most: usize,
    problems: &mut Problems<'_>,
) -> Option<NonZeroU32> {
    positive(value.as_ref()?, key, u32::try_from(most).unwrap_or(u32::MAX), problems)
}

fn positive(value: &Spanned<i64>, key: &str, most: u32, problems: &mut Problems<'_>) -> Option<NonZeroU32> {
    let count = number(value, key, 1..=i64::from(most), problems);
    u32::try_from(count).ok().and_then(NonZeroU32::new)
}

fn bytes(value: &Option<Spanned<i64>>, key: &str, least: u64, problems: &mut Problems<'_>) -> Option<u64> {
    let bytes = number(value.as_ref()?, key, signed(least)..=signed(u64::MAX), problems);
    u64::try_from(bytes).ok()
}
