//! Dates as mail writes them: RFC 5322 3.3 and 4.3, the date and date-time of RFC 9051 9, and RFC 3339 in UTC.
//!
//! Reading a Date field is lenient, since what people send is; reading a client's command is exact.
//!
//! Invariants: what [`ImapDateTime`] prints [`parse_imap_date_time`] reads back, and [`parse_rfc3339_utc`] what
//! [`Rfc3339`] prints; no number in a date, however
//! large, overflows; years are 0 to 9999.

use std::fmt;

use super::address_list::comment_len;
use super::query::Day;
use super::time::Timestamp;

const DAY_S: i64 = 86_400;

const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// From the day of the epoch on, which was a Thursday.
const WEEKDAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];

/// The value of a Date field. Obsolete zones, two-digit years, comments and a missing weekday are read; a
/// time that makes no sense counts as 00:00:00 and a zone as UTC (RFC 5256 2.2). `None` if there is no day.
pub fn parse_rfc5322(value: &[u8]) -> Option<Timestamp> {
    let mut words = Words { rest: value };
    let mut word = words.next()?;
    if word[0].is_ascii_alphabetic() {
        word = words.next()?;
    }
    let day = number(word)?;
    let month = month(words.next()?)?;
    let year = words.next()?;
    // Some write `24-Nov-2026`.
    let year = year.strip_prefix(b"-").unwrap_or(year);
    let day = day_of(full_year(number(year)?, year.len())?, month, day)?;
    let seconds = time(&mut words);
    let zone_minutes = seconds.and(words.next()).and_then(zone).unwrap_or(0);
    let seconds = i64::from(day.0) * DAY_S + seconds.unwrap_or(0) - i64::from(zone_minutes) * 60;
    Some(Timestamp { seconds, zone_minutes })
}

/// `2026-11-24T10:00:00Z`, with or without a fraction, which is dropped, and with any numeric zone (RFC 3339 5.6).
pub fn parse_rfc3339(text: &str) -> Option<Timestamp> {
    let (date, rest) = text.as_bytes().split_at_checked(10)?;
    let [y1, y2, y3, y4, b'-', m1, m2, b'-', d1, d2] = date else {
        return None;
    };
    let [b'T' | b't' | b' ', h1, h2, b':', n1, n2, b':', s1, s2, rest @ ..] = rest else {
        return None;
    };
    let rest = match rest {
        [b'.', fraction @ ..] => {
            &fraction[fraction.iter().take_while(|byte| byte.is_ascii_digit()).count()..]
        }
        _ => rest,
    };
    let zone_minutes = match rest {
        [b'Z' | b'z'] => 0,
        [sign @ (b'+' | b'-'), z1, z2, b':', z3, z4] => zone(&[*sign, *z1, *z2, *z3, *z4])?,
        _ => return None,
    };
    let year = i32::try_from(number(&[*y1, *y2, *y3, *y4])?).ok()?;
    let day = Day::of_civil(year, number(&[*m1, *m2])?, number(&[*d1, *d2])?)?;
    let seconds = seconds_of_day(number(&[*h1, *h2])?, number(&[*n1, *n2])?, number(&[*s1, *s2])?)?;
    let seconds = i64::from(day.0) * DAY_S + seconds - i64::from(zone_minutes) * 60;
    Some(Timestamp { seconds, zone_minutes })
}

/// `dd-Mon-yyyy hh:mm:ss +zzzz` without its quotes, exactly (RFC 9051 `date-time`).
pub fn parse_imap_date_time(text: &[u8]) -> Option<Timestamp> {
    let [date @ .., b' ', h1, h2, b':', m1, m2, b':', s1, s2, b' ', sign @ (b'+' | b'-'), z1, z2, z3, z4] =
        text
    else {
        return None;
    };
    let date: &[u8; 11] = date.try_into().ok()?;
    let day = match date {
        [b' ', rest @ ..] => parse_imap_date(rest)?,
        whole => parse_imap_date(whole)?,
    };
    let seconds = seconds_of_day(number(&[*h1, *h2])?, number(&[*m1, *m2])?, number(&[*s1, *s2])?)?;
    let zone_minutes = zone(&[*sign, *z1, *z2, *z3, *z4])?;
    let seconds = i64::from(day.0) * DAY_S + seconds - i64::from(zone_minutes) * 60;
    Some(Timestamp { seconds, zone_minutes })
}

/// `d-Mon-yyyy` without quotes (RFC 9051 `date-text`).
pub fn parse_imap_date(text: &[u8]) -> Option<Day> {
    let mut parts = text.split(|byte| *byte == b'-');
    let (day, name, year) = (parts.next()?, parts.next()?, parts.next()?);
    if parts.next().is_some() || day.len() > 2 || name.len() != 3 || year.len() != 4 {
        return None;
    }
    day_of(number(year)?, month(name)?, number(day)?)
}

/// `yyyy-mm-ddThh:mm:ss[.fraction]Z` (RFC 3339 5.6): the Unix second, the next one if there is a fraction of it.
/// Another zone than UTC is none.
pub fn parse_rfc3339_utc(text: &[u8]) -> Option<i64> {
    let (date, rest) = text.split_at_checked(10)?;
    let [y1, y2, y3, y4, b'-', m1, m2, b'-', d1, d2] = date else {
        return None;
    };
    let [b'T' | b't', h1, h2, b':', n1, n2, b':', s1, s2, rest @ ..] = rest else {
        return None;
    };
    let day = day_of(number(&[*y1, *y2, *y3, *y4])?, number(&[*m1, *m2])?, number(&[*d1, *d2])?)?;
    let seconds = seconds_of_day(number(&[*h1, *h2])?, number(&[*n1, *n2])?, number(&[*s1, *s2])?)?;
    let digits =
        rest.strip_prefix(b".").map(|rest| rest.iter().take_while(|byte| byte.is_ascii_digit()).count());
    let (fraction, zone) = match digits {
        None => (&[][..], rest),
        Some(0) => return None,
        Some(digits) => rest[1..].split_at(digits),
    };
    let is_utc = matches!(zone, b"Z" | b"z" | b"+00:00" | b"-00:00");
    let is_more = fraction.iter().any(|digit| *digit != b'0');
    is_utc.then_some(i64::from(day.0) * DAY_S + seconds + i64::from(is_more))
}

/// Prints `Tue, 24 Nov 2026 10:00:00 +0000`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rfc5322(pub Timestamp);

/// Prints `2026-11-24T10:00:00.250Z`, from Unix milliseconds (RFC 3339).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rfc3339Millis(pub i64);

/// Prints `24-Nov-2026 10:00:00 +0000`, the day padded with a space, without quotes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ImapDateTime(pub Timestamp);

/// Prints `2026-11-24T10:00:00Z`, in UTC whatever the zone.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rfc3339(pub Timestamp);

impl fmt::Display for Rfc5322 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let civil = Civil::of(self.0);
        let weekday = WEEKDAYS[usize::try_from(self.0.day().0.rem_euclid(7)).expect("less than 7")];
        let Civil { year, month, day, hour, minute, second } = civil;
        let month = MONTHS[month];
        write!(f, "{weekday}, {day} {month} {year:04} {hour:02}:{minute:02}:{second:02} {}", Zone(self.0))
    }
}

impl fmt::Display for Rfc3339Millis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let civil = Civil::of(Timestamp::utc(self.0.div_euclid(1000)));
        let Civil { year, month, day, hour, minute, second } = civil;
        let millis = self.0.rem_euclid(1000);
        write!(f, "{year:04}-{:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millis:03}Z", month + 1)
    }
}

impl fmt::Display for ImapDateTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Civil { year, month, day, hour, minute, second } = Civil::of(self.0);
        let month = MONTHS[month];
        write!(f, "{day:2}-{month}-{year:04} {hour:02}:{minute:02}:{second:02} {}", Zone(self.0))
    }
}

impl fmt::Display for Rfc3339 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Civil { year, month, day, hour, minute, second } = Civil::of(Timestamp::utc(self.0.seconds));
        let month = month + 1;
        write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
    }
}

impl Timestamp {
    /// A time without a zone of its own.
    pub fn utc(seconds: i64) -> Self {
        Self { seconds, zone_minutes: 0 }
    }

    /// The calendar day in the zone it was written in.
    pub fn day(self) -> Day {
        let days = self.local_seconds().div_euclid(DAY_S);
        Day(i32::try_from(days).unwrap_or(if days < 0 { i32::MIN } else { i32::MAX }))
    }

    fn local_seconds(self) -> i64 {
        self.seconds.saturating_add(i64::from(self.zone_minutes) * 60)
    }
}

impl Day {
    /// Year, month from 1, day from 1, in the calendar of today carried back.
    pub fn civil(self) -> (i32, u32, u32) {
        // Years are counted from March, so that the leap day is the last of its year; 719468 days lie between
        // 0000-03-01 and 1970-01-01, and 146097 days make 400 years.
        let days = i64::from(self.0) + 719_468;
        let (era, day_of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
        let year_of_era =
            (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        // Months from March on take 153 days every five.
        let month = (5 * day_of_year + 2) / 153;
        let day = day_of_year - (153 * month + 2) / 5 + 1;
        let month = if month < 10 { month + 3 } else { month - 9 };
        let year = era * 400 + year_of_era + i64::from(month <= 2);
        let small = |number: i64| u32::try_from(number).expect("a month or a day");
        (i32::try_from(year).expect("days of 32 bits are years of fewer"), small(month), small(day))
    }

    /// The day of a date that exists.
    pub fn of_civil(year: i32, month: u32, day: u32) -> Option<Self> {
        let is_leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
        let days = match month {
            2 if is_leap => 29,
            2 => 28,
            4 | 6 | 9 | 11 => 30,
            1 | 3 | 5 | 7 | 8 | 10 | 12 => 31,
            _ => return None,
        };
        if !(0..=9999).contains(&year) || day == 0 || day > days {
            return None;
        }
        let (month, day) = (month.cast_signed(), day.cast_signed());
        let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
        let (era, year_of_era) = (year.div_euclid(400), year.rem_euclid(400));
        let day_of_year = (153 * month + 2) / 5 + day - 1;
        Some(Self(
            era * 146_097 + 365 * year_of_era + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468,
        ))
    }
}

/// A timestamp as a clock on the wall of its zone.
struct Civil {
    year: i32,
    /// From 0.
    month: usize,
    day: u32,
    hour: i64,
    minute: i64,
    second: i64,
}

impl Civil {
    fn of(timestamp: Timestamp) -> Self {
        let (year, month, day) = timestamp.day().civil();
        let seconds = timestamp.local_seconds().rem_euclid(DAY_S);
        let month = month as usize - 1;
        Self { year, month, day, hour: seconds / 3600, minute: seconds / 60 % 60, second: seconds % 60 }
    }
}

/// Prints `+0100`.
struct Zone(Timestamp);

impl fmt::Display for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let minutes = self.0.zone_minutes;
        let sign = if minutes < 0 { '-' } else { '+' };
        write!(f, "{sign}{:02}{:02}", minutes.unsigned_abs() / 60, minutes.unsigned_abs() % 60)
    }
}

/// Runs of letters and digits with their sign; comments, commas and blanks lie between.
struct Words<'a> {
    rest: &'a [u8],
}

impl<'a> Words<'a> {
    fn next(&mut self) -> Option<&'a [u8]> {
        loop {
            let rest = self.rest;
            let len = match rest.first()? {
                b'(' => comment_len(rest),
                b'+' | b'-' if rest.get(1).is_some_and(u8::is_ascii_digit) => {
                    1 + rest[1..].iter().take_while(|byte| byte.is_ascii_digit()).count()
                }
                byte if byte.is_ascii_digit() => rest.iter().take_while(|byte| byte.is_ascii_digit()).count(),
                byte if byte.is_ascii_alphabetic() => {
                    rest.iter().take_while(|byte| byte.is_ascii_alphabetic()).count()
                }
                _ => 1,
            };
            let (word, after) = rest.split_at(len);
            self.rest = after;
            if word[0].is_ascii_alphanumeric() || (len > 1 && matches!(word[0], b'+' | b'-')) {
                return Some(word);
            }
        }
    }

    /// Goes past a colon, if that is next but for blanks and comments.
    fn take_colon(&mut self) -> bool {
        let mut rest = self.rest;
        loop {
            match rest.first() {
                Some(b' ' | b'\t' | b'\r' | b'\n') => rest = &rest[1..],
                Some(b'(') => rest = &rest[comment_len(rest)..],
                Some(b':') => {
                    self.rest = &rest[1..];
                    return true;
                }
                _ => return false,
            }
        }
    }
}

/// `hh:mm[:ss]` in seconds.
fn time(words: &mut Words<'_>) -> Option<i64> {
    let hour = number(words.next()?)?;
    let minute = words.take_colon().then(|| words.next())??;
    let second = match words.take_colon() {
        true => number(words.next()?)?,
        false => 0,
    };
    seconds_of_day(hour, number(minute)?, second)
}

fn seconds_of_day(hour: u32, minute: u32, second: u32) -> Option<i64> {
    // RFC 5322 3.3: a leap second is 60; it counts as the first of the next minute.
    let is_time = hour < 24 && minute < 60 && second <= 60;
    is_time.then(|| i64::from(hour * 3600 + minute * 60 + second))
}

/// Minutes east of Greenwich; `None` if it makes no sense.
fn zone(word: &[u8]) -> Option<i16> {
    let hours = |hours: i16| Some(hours * 60);
    match word {
        [sign @ (b'+' | b'-'), digits @ ..] if digits.len() == 4 => {
            let minutes = i16::try_from(number(&digits[..2])? * 60 + number(&digits[2..])?).ok()?;
            let is_zone = minutes <= 1440 && digits[2] < b'6';
            is_zone.then_some(if *sign == b'-' { -minutes } else { minutes })
        }
        // RFC 5322 4.3. The letters of the military say nothing certain and count as UTC, like unknown names.
        _ => match word.to_ascii_uppercase().as_slice() {
            b"EDT" => hours(-4),
            b"EST" | b"CDT" => hours(-5),
            b"CST" | b"MDT" => hours(-6),
            b"MST" | b"PDT" => hours(-7),
            b"PST" => hours(-8),
            _ => None,
        },
    }
}

/// RFC 5322 4.3: years of two and three digits.
fn full_year(year: u32, digits: usize) -> Option<u32> {
    match digits {
        2 if year < 50 => Some(year + 2000),
        2 | 3 => Some(year + 1900),
        4.. => Some(year),
        _ => None,
    }
}

/// From 1.
fn month(name: &[u8]) -> Option<u32> {
    // Only the first three letters count, since some write the month in full.
    let abbreviation = name.get(..3)?;
    let index = MONTHS.iter().position(|known| known.as_bytes().eq_ignore_ascii_case(abbreviation))?;
    u32::try_from(index + 1).ok()
}

fn day_of(year: u32, month: u32, day: u32) -> Option<Day> {
    Day::of_civil(i32::try_from(year).ok()?, month, day)
}

/// Digits alone, of a number that is not large.
fn number(digits: &[u8]) -> Option<u32> {
    let is_number = (1..=9).contains(&digits.len()) && digits.iter().all(u8::is_ascii_digit);
    is_number.then(|| digits.iter().fold(0, |number, digit| number * 10 + u32::from(digit - b'0')))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, proptest};

    use super::{
        ImapDateTime, Rfc3339, Rfc3339Millis, Rfc5322, parse_imap_date, parse_imap_date_time, parse_rfc3339,
        parse_rfc3339_utc, parse_rfc5322,
    };
    use crate::mail::query::Day;
    use crate::mail::time::Timestamp;

    #[test]
    fn dates_of_rfc_3339() {
        let cases = [
            ("2026-11-24T10:00:00Z", Some("2026-11-24T10:00:00.000Z")),
            ("2026-11-24t10:00:00.123456z", Some("2026-11-24T10:00:00.000Z")),
            ("2026-11-24 10:00:00+02:30", Some("2026-11-24T07:30:00.000Z")),
            ("1969-12-31T23:59:59Z", Some("1969-12-31T23:59:59.000Z")),
            ("2026-11-24T10:00:00", None),
            ("2026-11-24T10:00:00+0230", None),
            ("2026-02-30T10:00:00Z", None),
            ("2026-11-24T24:00:00Z", None),
            ("2026-11-24", None),
            ("2026-11-2\u{e9}T10:00:00Z", None),
            ("", None),
        ];
        for (text, expected) in cases {
            let parsed = parse_rfc3339(text).map(|at| Rfc3339Millis(at.seconds * 1000).to_string());
            assert_eq!(parsed.as_deref(), expected, "{text}");
        }
        assert_eq!(Rfc3339Millis(-1).to_string(), "1969-12-31T23:59:59.999Z");
    }

    #[test]
    fn date_fields() {
        let cases = [
            ("Tue, 24 Nov 2026 10:00:00 +0000", "Tue, 24 Nov 2026 10:00:00 +0000"),
            ("Fri, 21 Nov 1997 09:55:06 -0600", "Fri, 21 Nov 1997 09:55:06 -0600"),
            ("21 nov 97 09:55 GMT", "Fri, 21 Nov 1997 09:55:00 +0000"),
            ("Fri, 21 Nov 1997 09(comment):   55  :  06 -0600", "Fri, 21 Nov 1997 09:55:06 -0600"),
            (
                "Thu,\r\n 13\r\n Feb\r\n 1969\r\n 23:32\r\n -0330 (Newfoundland Time)",
                "Thu, 13 Feb 1969 23:32:00 -0330",
            ),
            ("1 Jan 49 0:00 EST", "Fri, 1 Jan 2049 00:00:00 -0500"),
            ("1 Jan 50 0:00 PDT", "Sun, 1 Jan 1950 00:00:00 -0700"),
            ("1 Jan 126 0:00 Z", "Thu, 1 Jan 2026 00:00:00 +0000"),
            ("Mon, 30 June 2025 23:59:60 +0200", "Tue, 1 Jul 2025 00:00:00 +0200"),
            ("29 Feb 2024 12:00:00 XYZ", "Thu, 29 Feb 2024 12:00:00 +0000"),
            ("29 Feb 2024 12:00:00 +9999", "Thu, 29 Feb 2024 12:00:00 +0000"),
            ("29 Feb 2024 25:00:00 +0100", "Thu, 29 Feb 2024 00:00:00 +0000"),
            ("29 Feb 2024", "Thu, 29 Feb 2024 00:00:00 +0000"),
            ("29 Feb 2024 12:00:00", "Thu, 29 Feb 2024 12:00:00 +0000"),
            ("Someday, 29-Feb-2024 12:00:00 -0000", "Thu, 29 Feb 2024 12:00:00 +0000"),
            ("1 Jan 0000 00:00:00 +0000", "Sat, 1 Jan 0000 00:00:00 +0000"),
            ("31 Dec 9999 23:59:59 -1200", "Fri, 31 Dec 9999 23:59:59 -1200"),
        ];
        for (value, printed) in cases {
            let timestamp = parse_rfc5322(value.as_bytes()).expect(value);
            assert_eq!(Rfc5322(timestamp).to_string(), printed, "{value}");
        }
        let refused = [
            "",
            "Tue",
            "99 Foo 99999 99:99:99 +9999",
            "30 Feb 2024",
            "29 Feb 2023",
            "0 Jan 2024",
            "1 Jan 10000",
            "1 Jan 1000000000000000000",
            "1 Jan 5",
            "Jan 1 2024",
            "(24 Nov 2026",
            "24 Nov",
        ];
        for value in refused {
            assert_eq!(parse_rfc5322(value.as_bytes()), None, "{value}");
        }
    }

    #[test]
    fn the_zone_counts_for_seconds_and_not_for_days() {
        let late = parse_rfc5322(b"31 Dec 2000 16:01:33 -0800").expect("a date");
        assert_eq!(late.seconds, parse_rfc5322(b"1 Jan 2001 00:01:33 +0000").expect("a date").seconds);
        assert_eq!(late.day(), parse_imap_date(b"31-Dec-2000").expect("a day"));
    }

    #[test]
    fn imap_dates() {
        let cases =
            [" 1-Feb-2026 00:00:00 +0000", "17-Jul-1996 02:44:25 -0700", "31-Dec-9999 23:59:59 +1400"];
        for text in cases {
            let timestamp = parse_imap_date_time(text.as_bytes()).expect(text);
            assert_eq!(ImapDateTime(timestamp).to_string(), text);
        }
        let refused = [
            "",
            "1-Feb-2026 00:00:00 +0000",
            "32-Jan-2026 00:00:00 +0000",
            " 1-Feb-2026 24:00:00 +0000",
            " 1-Feb-2026 00:00:00 0000",
            " 1-Feb-2026 00:00:00 +00:0",
            " 1-Feb-26 00:00:00 +0000",
            " 1-Feb-2026  0:00:00 +0000",
            "  -Feb-2026 00:00:00 +0000",
            " 1-Feb-2026 00:00:00 +0060",
        ];
        for text in refused {
            assert_eq!(parse_imap_date_time(text.as_bytes()), None, "{text}");
        }
        assert_eq!(parse_imap_date(b"1-jan-1970"), Some(Day(0)));
        assert_eq!(parse_imap_date(b"01-Jan-1970"), Some(Day(0)));
        for text in
            ["001-Jan-1970", "1-January-1970", "1-Jan-70", "1-Jan", "1-Jan-1970-", "99-Foo-9999", "-Jan-1970"]
        {
            assert_eq!(parse_imap_date(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn every_day_has_its_date() {
        let mut previous = Day::of_civil(0, 1, 1).expect("a day");
        for number in previous.0 + 1..=Day::of_civil(2101, 1, 1).expect("a day").0 {
            let (year, month, day) = Day(number).civil();
            assert_eq!(Day::of_civil(year, month, day), Some(Day(number)));
            assert!(Day(number).civil() > previous.civil());
            previous = Day(number);
        }
    }

    #[test]
    fn times_of_rfc_3339() {
        let cases = [
            ("1970-01-01T00:00:00Z", Some(0)),
            ("2026-11-24t10:00:00z", Some(1_795_514_400)),
            ("2026-11-24T10:00:00+00:00", Some(1_795_514_400)),
            ("2026-11-24T10:00:00.000Z", Some(1_795_514_400)),
            ("2026-11-24T10:00:00.0001Z", Some(1_795_514_401)),
            ("9999-12-31T23:59:59Z", Some(253_402_300_799)),
            ("2026-11-24T10:00:00", None),
            ("2026-11-24T10:00:00.Z", None),
            ("2026-11-24T10:00:00+01:00", None),
            ("2026-11-24T10:00:00ZZ", None),
            ("2026-11-24 10:00:00Z", None),
            ("2026-02-29T10:00:00Z", None),
            ("2026-11-24T24:00:00Z", None),
            ("2026-11-24T10:60:00Z", None),
            ("26-11-24T10:00:00Z", None),
            ("2026-1-24T10:00:00Z", None),
            ("", None),
        ];
        for (text, expected) in cases {
            assert_eq!(parse_rfc3339_utc(text.as_bytes()), expected, "{text}");
        }
        let zoned = Timestamp { seconds: 1_795_514_400, zone_minutes: 60 };
        assert_eq!(Rfc3339(zoned).to_string(), "2026-11-24T10:00:00Z");
    }

    #[test]
    fn a_zone_that_nobody_can_be_in_is_printed() {
        let timestamp = Timestamp { seconds: 0, zone_minutes: i16::MIN };
        assert!(ImapDateTime(timestamp).to_string().ends_with("-54608"));
    }

    proptest! {
        #[test]
        fn rfc_3339_there_and_back(seconds in -62_167_219_200..=253_402_300_799_i64, junk in any::<Vec<u8>>()) {
            let text = Rfc3339(Timestamp::utc(seconds)).to_string();
            assert_eq!(parse_rfc3339_utc(text.as_bytes()), Some(seconds));
            parse_rfc3339_utc(&junk);
        }

        #[test]
        fn nothing_panics(junk in any::<Vec<u8>>(), near in "[0-9]{1,2} [JF][ae][nb] [0-9]{1,12}[ :+0-9(-]{0,16}",
                seconds in any::<i64>(), zone_minutes in any::<i16>()) {
            for value in [&junk[..], near.as_bytes()] {
                parse_rfc5322(value);
                parse_imap_date_time(value);
                parse_imap_date(value);
            }
            let timestamp = Timestamp { seconds, zone_minutes };
            let _ = (Rfc5322(timestamp).to_string(), ImapDateTime(timestamp).to_string());
        }

        #[test]
        fn what_is_printed_is_read(seconds in -62_000_000_000i64..253_000_000_000, zone_minutes in -1440i16..=1440) {
            let timestamp = Timestamp { seconds, zone_minutes };
            assert_eq!(parse_imap_date_time(ImapDateTime(timestamp).to_string().as_bytes()), Some(timestamp));
            assert_eq!(parse_rfc5322(Rfc5322(timestamp).to_string().as_bytes()), Some(timestamp));
        }
    }
}
