//! What holds for a source over all sites of a shard: its rate, its warm-up, and whether its address works here.
//!
//! A shard has its share of each count, so that all shards together keep to what the operator allowed. Everything
//! here changes with time alone and not by events: a site that has to wait for a source knows until when. Another
//! site may be quicker then, and it waits again.
//!
//! Invariant: in no day of a warm-up more recipients are sent to than its cap, and no more transactions in any span
//! than the rate of the source, as far as [`Rate::share`] can divide it.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::time::Duration;

use super::job::Why;
use super::limit::Bucket;
use super::memory::{KeptDay, Moment};
use super::policy::{Part, Rate, Source, SourceId};
use super::warm_up::{Cap, DAY_S, WarmUp};
use crate::limits::outbound::{ASIDE_FIRST, ASIDE_MAX};
use crate::mail::time::{Instant, Now};

/// See the module. A source that is not known is unbound and without limits.
pub struct Sources {
    part: Part,
    /// One moment on both clocks: days are days of the calendar.
    clock: Now,
    known: HashMap<SourceId, Known>,
}

#[derive(Default)]
struct Known {
    rate: Option<Bucket>,
    warm_up: Option<WarmingUp>,
    aside: Option<Aside>,
}

struct WarmingUp {
    schedule: WarmUp,
    /// Of this day, the tokens are recipients.
    day: Option<(i64, Bucket)>,
}

/// The address could not be bound.
#[derive(Clone, Copy)]
struct Aside {
    until: Instant,
    span: Duration,
}

impl Sources {
    pub fn new<'a>(sources: impl IntoIterator<Item = &'a Source>, part: Part, clock: Now) -> Self {
        let mut made = Self { part, clock, known: HashMap::new() };
        made.set_sources(sources, clock);
        made
    }

    /// Another configuration, or another setting of the calendar's clock; what was used stays used.
    pub fn set_sources<'a>(&mut self, sources: impl IntoIterator<Item = &'a Source>, clock: Now) {
        self.clock = clock;
        let mut before = std::mem::take(&mut self.known);
        for source in sources {
            let mut known = before.remove(&source.id()).unwrap_or_default();
            known.set_rate(source.message_rate.map(|rate| rate.share(self.part)), clock.instant);
            known.set_warm_up(source.warm_up.as_ref());
            self.known.insert(source.id(), known);
        }
    }

    /// The address could not be bound: others are used for a time, a longer one each time.
    pub fn put_aside(&mut self, source: SourceId, now: Instant) {
        let known = self.known.entry(source).or_default();
        let span = match known.aside {
            // Connections that were begun together find it out together.
            Some(aside) if now < aside.until => return,
            Some(aside) => (aside.span * 2).min(ASIDE_MAX),
            None => ASIDE_FIRST,
        };
        known.aside = Some(Aside { until: now + span, span });
    }

    /// A connection came about from it.
    pub fn take_back(&mut self, source: SourceId) {
        if let Some(known) = self.known.get_mut(&source) {
            known.aside = None;
        }
    }

    /// Counts a transaction that begins now, to so many recipients. [`Sources::recipients_max`] allowed them.
    pub fn take(&mut self, source: SourceId, recipients: usize, now: Instant) {
        let day = self.day(now);
        let part = self.part;
        let Some(known) = self.known.get_mut(&source) else {
            return;
        };
        if let Some(rate) = &mut known.rate {
            rate.take(1, now);
        }
        if let Some(warm_up) = &mut known.warm_up
            && let Some(bucket) = warm_up.bucket(day, part)
        {
            bucket.take(u32::try_from(recipients).unwrap_or(u32::MAX), now);
        }
    }

    /// Recipients that were counted and not sent to after all.
    pub fn put_back(&mut self, source: SourceId, recipients: usize, now: Instant) {
        let day = self.day(now);
        let warm_up = self.known.get_mut(&source).and_then(|known| known.warm_up.as_mut());
        if let Some((of_day, bucket)) = warm_up.and_then(|warm_up| warm_up.day.as_mut())
            && *of_day == day
        {
            bucket.put_back(u32::try_from(recipients).unwrap_or(u32::MAX));
        }
    }

    /// What of the day is used, of each source that is warming up.
    pub fn remember(&self, now: Moment) -> Vec<KeptDay> {
        let kept = |(source, known): (&SourceId, &Known)| {
            let (day, bucket) = known.warm_up.as_ref()?.day.as_ref()?;
            let full_ms = now.unix_of(bucket.full_at());
            (full_ms > now.unix_ms).then_some(KeptDay { source: *source, day: *day, full_ms })
        };
        let mut days: Vec<KeptDay> = self.known.iter().filter_map(kept).collect();
        days.sort_unstable_by_key(|kept| kept.source);
        days
    }

    /// What was used before a restart stays used.
    pub fn recall(&mut self, kept: &[KeptDay], now: Moment) {
        let (today, part) = (self.day(now.instant), self.part);
        for KeptDay { source, day, full_ms } in kept.iter().copied().filter(|kept| kept.day == today) {
            let warm_up = self.known.get_mut(&source).and_then(|known| known.warm_up.as_mut());
            if let Some(bucket) = warm_up.and_then(|warm_up| warm_up.bucket(day, part)) {
                bucket.set_full_at(now.instant_of(full_ms), now.instant);
            }
        }
    }

    /// To how many recipients one transaction may go now.
    pub fn recipients_max(&self, source: SourceId, now: Instant) -> usize {
        let Some(known) = self.known.get(&source) else {
            return usize::MAX;
        };
        if known.rate.as_ref().is_some_and(|rate| rate.available(now) == 0) {
            return 0;
        }
        let of_day = |warm_up: &WarmingUp| warm_up.available(self.second(now), self.part, now);
        known.warm_up.as_ref().map_or(usize::MAX, of_day)
    }

    /// From when on a connection from it may be tried.
    pub fn opens_at(&self, source: SourceId, now: Instant) -> Instant {
        let aside = self.known.get(&source).and_then(|known| known.aside);
        aside.map_or(now, |aside| aside.until.max(now))
    }

    /// From when on a transaction may begin, and what it waits for.
    pub fn sends_at(&self, source: SourceId, now: Instant) -> (Instant, Why) {
        let Some(known) = self.known.get(&source) else {
            return (now, Why::Throttled);
        };
        let by_rate = known.rate.as_ref().map_or(now, |rate| rate.next(now));
        let by_warm_up = known.warm_up.as_ref().map_or(now, |warm_up| self.warm_up_sends_at(warm_up, now));
        if by_warm_up > by_rate { (by_warm_up, Why::WarmingUp) } else { (by_rate, Why::Throttled) }
    }

    /// About how many transactions may be had in such a span, at most.
    pub fn most_within(&self, source: SourceId, span: Duration) -> u32 {
        let Some(known) = self.known.get(&source) else {
            return u32::MAX;
        };
        let of_day =
            known.warm_up.as_ref().and_then(|warm_up| warm_up.day.as_ref()).map(|(_, bucket)| bucket);
        known.rate.iter().chain(of_day).map(|bucket| bucket.most_within(span)).min().unwrap_or(u32::MAX)
    }

    fn warm_up_sends_at(&self, warm_up: &WarmingUp, now: Instant) -> Instant {
        let second = self.second(now);
        if warm_up.available(second, self.part, now) > 0 {
            return now;
        }
        let change = warm_up.schedule.next_change(second).map_or(Instant(u64::MAX), |at| self.instant(at));
        match &warm_up.day {
            Some((day, bucket)) if *day == second.div_euclid(DAY_S) => bucket.next(now).min(change),
            _ => change,
        }
    }

    fn day(&self, now: Instant) -> i64 {
        self.second(now).div_euclid(DAY_S)
    }

    /// Unix seconds at `now`.
    fn second(&self, now: Instant) -> i64 {
        let passed_ms = i128::from(now.0) - i128::from(self.clock.instant.0);
        let second = i128::from(self.clock.timestamp.seconds) + passed_ms.div_euclid(1000);
        i64::try_from(second).unwrap_or(i64::MAX)
    }

    /// The first instant of a second.
    fn instant(&self, second: i64) -> Instant {
        let seconds = i128::from(second) - i128::from(self.clock.timestamp.seconds);
        let at = i128::from(self.clock.instant.0) + seconds * 1000;
        Instant(u64::try_from(at.max(0)).unwrap_or(u64::MAX))
    }
}

impl Known {
    fn set_rate(&mut self, rate: Option<Rate>, now: Instant) {
        match (&mut self.rate, rate) {
            (Some(bucket), Some(rate)) => bucket.set_rate(rate, now),
            (known, rate) => *known = rate.map(Bucket::new),
        }
    }

    fn set_warm_up(&mut self, schedule: Option<&WarmUp>) {
        let is_same = self.warm_up.as_ref().map(|warm_up| &warm_up.schedule) == schedule;
        if !is_same {
            self.warm_up = schedule.map(|schedule| WarmingUp { schedule: schedule.clone(), day: None });
        }
    }
}

impl WarmingUp {
    /// What is left of the day's cap at the moment.
    fn available(&self, second: i64, part: Part, now: Instant) -> usize {
        let available = match (self.schedule.cap(second), &self.day) {
            (Cap::NotBegun, _) => 0,
            (Cap::Warm, _) => return usize::MAX,
            (Cap::PerDay(_), Some((day, bucket))) if *day == second.div_euclid(DAY_S) => {
                bucket.available(now)
            }
            (Cap::PerDay(cap), _) => Bucket::new(per_day(cap, part)).available(now),
        };
        usize::try_from(available).unwrap_or(usize::MAX)
    }

    /// The bucket of this day; `None` if it has no cap.
    fn bucket(&mut self, day: i64, part: Part) -> Option<&mut Bucket> {
        let Cap::PerDay(cap) = self.schedule.cap(day * DAY_S) else {
            self.day = None;
            return None;
        };
        if self.day.as_ref().is_none_or(|(of, _)| *of != day) {
            self.day = Some((day, Bucket::new(per_day(cap, part))));
        }
        self.day.as_mut().map(|(_, bucket)| bucket)
    }
}

fn per_day(cap: NonZeroU32, part: Part) -> Rate {
    let day = Duration::from_secs(DAY_S.unsigned_abs());
    Rate::new(cap, day).unwrap_or(Rate::MOST_A_DAY).share(part)
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;
    use std::time::Duration;

    use super::{Part, Sources};
    use crate::mail::time::{Instant, Now, Timestamp};
    use crate::queue::job::Why;
    use crate::queue::policy::{Source, SourceId};
    use crate::queue::warm_up::{DAY_S, WarmUp};

    const DAY_MS: u64 = 86_400_000;

    /// The clock shows a quarter past the noon of day 20,000.
    fn clock() -> Now {
        let seconds = 20_000 * DAY_S + 12 * 3600 + 900;
        Now { instant: Instant(5_000), timestamp: Timestamp { seconds, zone_minutes: 0 } }
    }

    fn id() -> SourceId {
        SourceId::of("one")
    }

    fn source(start_day: i64, caps: &[u32], rate: Option<&str>) -> Source {
        let caps = caps.iter().map(|&cap| NonZeroU32::new(cap).unwrap()).collect();
        Source {
            name: "one".to_owned(),
            warm_up: WarmUp::new(start_day, caps),
            message_rate: rate.map(|rate| rate.parse().unwrap()),
            ..Source::unbound()
        }
    }

    /// Sends whenever it may; the recipients of each day of the calendar, counted from day 20,000.
    fn days(sources: &mut Sources, until: Instant, at_once: usize) -> Vec<usize> {
        let mut sent = vec![0; 5];
        let mut now = clock().instant;
        while now < until {
            let recipients = sources.recipients_max(id(), now).min(at_once);
            if recipients > 0 {
                sources.take(id(), recipients, now);
                sent[usize::try_from(sources.day(now) - 20_000).unwrap()] += recipients;
            }
            let (next, _) = sources.sends_at(id(), now);
            assert_eq!(sources.recipients_max(id(), next).min(1), 1, "the promise holds");
            if next > now {
                assert_eq!(sources.recipients_max(id(), Instant(next.0 - 1)), 0, "and is not late");
            }
            now = next.max(Instant(now.0 + 1));
        }
        sent
    }

    #[test]
    fn the_caps_of_the_days_are_kept() {
        let known = [source(20_001, &[50, 200, 1000], None)];
        let mut sources = Sources::new(&known, Part::WHOLE, clock());
        let until = Instant(clock().instant.0 + 3 * DAY_MS);
        let sent = days(&mut sources, until, 7);
        assert_eq!(sent[..3], [0, 50, 200]);
        assert!((450..=520).contains(&sent[3]), "a good half of the third day: {}", sent[3]);
    }

    #[test]
    fn a_warm_source_has_no_cap() {
        let known = [source(19_000, &[50], None)];
        let sources = Sources::new(&known, Part::WHOLE, clock());
        assert_eq!(sources.recipients_max(id(), clock().instant), usize::MAX);
        assert_eq!(sources.sends_at(id(), clock().instant).0, clock().instant);
    }

    #[test]
    fn shards_share_a_cap_and_a_rate() {
        let known = [source(20_000, &[51], Some("10/s"))];
        let mut total = 0;
        for index in 0..3 {
            let mut sources = Sources::new(&known, Part { index, of: 3 }, clock());
            let end_of_day = Instant(clock().instant.0 + DAY_MS / 2 - 900_000);
            total += days(&mut sources, Instant(end_of_day.0 - 1), 100)[0];
        }
        // Half of the day is over; each shard has saved up one.
        assert!((24..=30).contains(&total), "{total}");
    }

    #[test]
    fn what_was_used_stays_used_through_a_reload() {
        let known = [source(20_000, &[50], None)];
        let mut sources = Sources::new(&known, Part::WHOLE, clock());
        sources.take(id(), 1, clock().instant);
        let before = sources.sends_at(id(), clock().instant);
        assert!(before.0 > clock().instant && before.1 == Why::WarmingUp);
        sources.set_sources(&known, clock());
        assert_eq!(sources.sends_at(id(), clock().instant), before);
        sources.put_back(id(), 1, clock().instant);
        assert_eq!(sources.recipients_max(id(), clock().instant), 1);
    }

    #[test]
    fn an_address_that_does_not_work_is_put_aside_for_longer_each_time() {
        let mut sources = Sources::new(&[], Part::WHOLE, clock());
        let mut now = clock().instant;
        for minutes in [1, 2, 4, 8, 16, 32, 60, 60] {
            sources.put_aside(id(), now);
            sources.put_aside(id(), now);
            let until = now + Duration::from_secs(minutes * 60);
            assert_eq!(sources.opens_at(id(), now), until);
            now = until;
        }
        assert_eq!(sources.opens_at(id(), now), now);
        sources.take_back(id());
        sources.put_aside(id(), now);
        assert_eq!(sources.opens_at(id(), now), now + Duration::from_secs(60));
    }
}
