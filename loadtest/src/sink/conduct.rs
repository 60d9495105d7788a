//! How a sink behaves: what it refuses, how long it takes, when it hangs up.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;
use std::str::FromStr;
use std::time::Duration;

use crate::plan::random::Random;
use crate::plan::time;

/// Where in the dialogue something happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Place {
    Connect,
    Hello,
    Mail,
    Recipient,
    Data,
    /// The end of data.
    Dot,
}

/// What becomes of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fate {
    Temporary,
    Permanent,
    /// The connection is closed without an answer.
    Drop,
}

/// `dot:3` or `3`, in percent; without a place it is the end of data.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Chance {
    pub place: Place,
    pub percent: f64,
}

/// `50ms`, `50ms..200ms`, `rcpt:1s`; without a place it is the end of data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Delay {
    pub place: Place,
    pub least: Duration,
    pub most: Duration,
}

/// Answers to choose from, by place: lines such as `dot 451 4.7.1 Greylisted, come back later`.
#[derive(Clone, Debug, Default)]
pub struct Replies(BTreeMap<Place, Vec<String>>);

#[derive(Clone, Debug, Default)]
pub struct Conduct {
    pub hostname: String,
    pub fates: Vec<(Fate, Chance)>,
    pub delays: Vec<Delay>,
    pub replies: Replies,
    /// Bytes a second that are read of a connection.
    pub read_rate: Option<usize>,
    /// Extensions that EHLO does not list.
    pub hidden: Vec<&'static str>,
    /// Connections at once; more are told 421.
    pub connections_max: Option<usize>,
}

impl Conduct {
    /// What becomes of a command, if not what it asks for.
    pub fn fate(&self, place: Place, random: &mut Random) -> Option<Fate> {
        let here = self.fates.iter().filter(|(_, chance)| chance.place == place && chance.percent > 0.0);
        let mut draw = random.unit() * 100.0;
        for (fate, chance) in here {
            if draw <= chance.percent {
                return Some(*fate);
            }
            draw -= chance.percent;
        }
        None
    }

    pub fn delay(&self, place: Place, random: &mut Random) -> Option<Duration> {
        let delay = self.delays.iter().find(|delay| delay.place == place)?;
        let spread = (delay.most - delay.least).as_nanos() as usize;
        Some(delay.least + Duration::from_nanos(random.below(spread + 1) as u64))
    }

    /// A refusal, one of the canned ones if there are any of its kind.
    pub fn refusal(&self, place: Place, fate: Fate, random: &mut Random) -> String {
        let first = if fate == Fate::Temporary { '4' } else { '5' };
        let canned: Vec<&String> =
            self.replies.0.get(&place).into_iter().flatten().filter(|line| line.starts_with(first)).collect();
        match canned.as_slice() {
            [] if fate == Fate::Temporary => "450 4.3.0 Not now".to_owned(),
            [] => "550 5.7.1 Not ever".to_owned(),
            lines => lines[random.below(lines.len())].clone(),
        }
    }
}

impl Replies {
    pub fn read(path: &Path) -> io::Result<Self> {
        fs::read_to_string(path)?
            .parse()
            .map_err(|error| io::Error::other(format!("{}: {error}", path.display())))
    }
}

impl FromStr for Replies {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut replies = Self::default();
        for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
            let (place, reply) = line.split_once(' ').ok_or_else(|| format!("{line:?} has no reply"))?;
            let code = reply.get(..3).and_then(|code| code.parse::<u16>().ok());
            if !code.is_some_and(|code| (400..600).contains(&code)) {
                return Err(format!("{line:?}: a reply begins with 4 or 5 and two more digits"));
            }
            replies.0.entry(place.parse()?).or_default().push(reply.to_owned());
        }
        Ok(replies)
    }
}

impl FromStr for Place {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.to_ascii_lowercase().as_str() {
            "connect" => Ok(Self::Connect),
            "ehlo" | "helo" | "lhlo" | "hello" => Ok(Self::Hello),
            "mail" => Ok(Self::Mail),
            "rcpt" => Ok(Self::Recipient),
            "data" => Ok(Self::Data),
            "dot" | "." => Ok(Self::Dot),
            other => Err(format!("{other:?} is none of connect, ehlo, mail, rcpt, data, dot")),
        }
    }
}

fn placed(text: &str) -> Result<(Place, &str), String> {
    match text.split_once(':') {
        Some((place, rest)) => Ok((place.parse()?, rest)),
        None => Ok((Place::Dot, text)),
    }
}

impl FromStr for Chance {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (place, percent) = placed(text)?;
        match percent.trim_end_matches('%').parse::<f64>() {
            Ok(percent) if (0.0..=100.0).contains(&percent) => Ok(Self { place, percent }),
            _ => Err(format!("{percent:?} is no percentage")),
        }
    }
}

impl FromStr for Delay {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (place, range) = placed(text)?;
        let (least, most) = range.split_once("..").unwrap_or((range, range));
        let (least, most) = (time(least)?, time(most)?);
        match least <= most {
            true => Ok(Self { place, least, most }),
            false => Err(format!("{range:?} ends before it begins")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Chance, Conduct, Delay, Fate, Place};
    use crate::plan::random::Random;

    #[test]
    fn shares_are_kept() {
        let chance = |text: &str| text.parse::<Chance>().expect("a chance");
        let conduct = Conduct {
            fates: vec![
                (Fate::Temporary, chance("10")),
                (Fate::Permanent, chance("dot:5%")),
                (Fate::Drop, chance("rcpt:100")),
            ],
            replies: "dot 451 4.7.1 Greylisted\nrcpt 550 No\n".parse().expect("replies"),
            ..Conduct::default()
        };
        let mut random = Random::new(1, 1);
        let drawn: Vec<_> = (0..10_000).map(|_| conduct.fate(Place::Dot, &mut random)).collect();
        let count = |fate| drawn.iter().filter(|drawn| **drawn == fate).count();
        assert!((900..1100).contains(&count(Some(Fate::Temporary))));
        assert!((400..600).contains(&count(Some(Fate::Permanent))));
        assert_eq!(conduct.fate(Place::Recipient, &mut random), Some(Fate::Drop));
        assert_eq!(conduct.fate(Place::Mail, &mut random), None);
        assert_eq!(conduct.refusal(Place::Dot, Fate::Temporary, &mut random), "451 4.7.1 Greylisted");
        assert_eq!(conduct.refusal(Place::Dot, Fate::Permanent, &mut random), "550 5.7.1 Not ever");
    }

    #[test]
    fn delays_lie_in_their_range() {
        let delay: Delay = "rcpt:50ms..200ms".parse().expect("a delay");
        let conduct = Conduct { delays: vec![delay], ..Conduct::default() };
        let mut random = Random::new(1, 1);
        for _ in 0..1000 {
            let drawn = conduct.delay(Place::Recipient, &mut random).expect("there is one");
            assert!((50..=200).contains(&drawn.as_millis()));
        }
        assert!("9s..1s".parse::<Delay>().is_err() && "noon:1s".parse::<Delay>().is_err());
        assert!("dot:101".parse::<Chance>().is_err());
    }
}
