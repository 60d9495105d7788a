//! Spans of time as they are written on the command line.

use std::time::Duration;

/// `90`, `45s`, `30m`, `2h`, `7d`, `1w`; in seconds. `None` if it is none of these.
pub fn seconds(text: &str) -> Option<i64> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let unit = match &text[digits..] {
        "" | "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 86_400,
        "w" => 7 * 86_400,
        _ => return None,
    };
    i64::checked_mul(text[..digits].parse().ok()?, unit)
}

/// As [`seconds`], for an argument.
pub fn parse(text: &str) -> Result<Duration, String> {
    let seconds = seconds(text).and_then(|seconds| u64::try_from(seconds).ok());
    let seconds = seconds.ok_or("not a span of time such as 45s, 5m, 2h or 1d")?;
    Ok(Duration::from_secs(seconds))
}

/// `5s`, `3m`, `2h`, `4d`: whole units, as many as fit.
pub fn words(seconds: i64) -> String {
    let seconds = seconds.max(0);
    let (unit, name) = match seconds {
        0..120 => (1, "s"),
        120..7200 => (60, "m"),
        7200..172_800 => (3600, "h"),
        _ => (86_400, "d"),
    };
    format!("{}{name}", seconds / unit)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{parse, words};

    #[test]
    fn spans() {
        for (text, expected) in [
            ("90", Some(90)),
            ("5m", Some(300)),
            ("2h", Some(7200)),
            ("1d", Some(86_400)),
            ("1w", Some(604_800)),
            ("", None),
            ("m", None),
            ("-5m", None),
            ("5 m", None),
            ("5min", None),
            ("99999999999999999w", None),
        ] {
            assert_eq!(parse(text).ok(), expected.map(Duration::from_secs), "{text}");
        }
    }

    #[test]
    fn spans_in_words() {
        let cases = [
            (-5, "0s"),
            (0, "0s"),
            (119, "119s"),
            (120, "2m"),
            (7199, "119m"),
            (7200, "2h"),
            (200_000, "2d"),
        ];
        for (seconds, expected) in cases {
            assert_eq!(words(seconds), expected);
        }
    }
}
