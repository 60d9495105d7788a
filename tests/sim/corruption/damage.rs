//! What is done to a file.

use std::fmt;
use std::ops::Range;
use std::str::FromStr;

use crate::random::Random;

pub const SECTOR_BYTES: usize = 512;

/// Cases of each kind and file in a sample.
const SAMPLE: u64 = 8;

/// What was done to a file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Damage {
    Flip { bit: usize },
    Zero { sector: usize },
    Swap { one: usize, other: usize },
    Old { sector: usize },
}

impl Damage {
    /// What it changes in a file: where, and what stands there then.
    pub fn patches(self, file: &[u8], older: &[u8]) -> Vec<(usize, Vec<u8>)> {
        let range = |sector: usize| sector * SECTOR_BYTES..((sector + 1) * SECTOR_BYTES).min(file.len());
        let patches = match self {
            Self::Flip { bit } => vec![(bit / 8, vec![file[bit / 8] ^ 1 << (bit % 8)])],
            Self::Zero { sector } => vec![(range(sector).start, vec![0; range(sector).len()])],
            Self::Swap { one, other } => {
                let length = range(one).len().min(range(other).len());
                let sector = |number: usize| file[range(number)][..length].to_vec();
                vec![(range(one).start, sector(other)), (range(other).start, sector(one))]
            }
            Self::Old { sector } => {
                let old = older.get(range(sector)).map(<[u8]>::to_vec);
                old.into_iter().map(|old| (range(sector).start, old)).collect()
            }
        };
        patches.into_iter().filter(|(at, bytes)| file[*at..*at + bytes.len()] != **bytes).collect()
    }

    /// Whether it changes any of these bytes.
    pub fn touches(self, bytes: &Range<usize>) -> bool {
        let within =
            |sector: usize| sector * SECTOR_BYTES < bytes.end && bytes.start < (sector + 1) * SECTOR_BYTES;
        match self {
            Self::Flip { bit } => bytes.contains(&(bit / 8)),
            Self::Zero { sector } | Self::Old { sector } => within(sector),
            Self::Swap { one, other } => within(one) || within(other),
        }
    }

    /// The last byte that it changes, or one behind it.
    pub fn reaches(self) -> usize {
        match self {
            Self::Flip { bit } => bit / 8,
            Self::Zero { sector } | Self::Old { sector } => (sector + 1) * SECTOR_BYTES - 1,
            Self::Swap { one, other } => (one.max(other) + 1) * SECTOR_BYTES - 1,
        }
    }

    /// All damage there can be to a file, a share of it, or a sample. Of a sector in which nothing stands one bit is
    /// flipped: to who reads it, all are the same.
    pub fn cases(file: &[u8], random: &mut Random) -> Vec<Self> {
        let length = file.len();
        let sectors = length.div_ceil(SECTOR_BYTES);
        if let Some((from, step)) = share() {
            let flips = file.chunks(SECTOR_BYTES).enumerate().flat_map(|(sector, bytes)| {
                let is_blank = bytes.iter().all(|byte| *byte == 0);
                let bits = sector * SECTOR_BYTES * 8..(sector * SECTOR_BYTES + bytes.len()) * 8;
                // Any of them, and another in the next.
                let of_blank = bits.start + sector * 37 % bits.len();
                if is_blank { of_blank..of_blank + 1 } else { bits }
            });
            let flips = flips.map(|bit| Self::Flip { bit });
            let zeroes = (0..sectors).map(|sector| Self::Zero { sector });
            let swaps = (0..sectors).flat_map(|one| [1, 2, 8, 16].map(|far| (one, one + far)));
            let swaps = swaps.filter(|(_, other)| *other < sectors);
            let swaps = swaps.map(|(one, other)| Self::Swap { one, other });
            let olds = (0..sectors).map(|sector| Self::Old { sector });
            return zeroes.chain(swaps).chain(olds).chain(flips).skip(from).step_by(step).collect();
        }
        // A sector that cannot be read: each of them.
        let mut cases: Vec<Self> = (0..sectors).map(|sector| Self::Zero { sector }).collect();
        for _ in 0..SAMPLE {
            let mut sector = || random.below(sectors as u64) as usize;
            cases.push(Self::Old { sector: sector() });
            cases.push(Self::Swap { one: sector(), other: sector() });
            cases.push(Self::Flip { bit: random.below(length as u64 * 8) as usize });
        }
        // Headers stand at the beginning.
        cases.extend((0..64 * 8).step_by(37).filter(|bit| *bit < length * 8).map(|bit| Self::Flip { bit }));
        cases
    }
}

/// As whoever repeats a case gives it.
impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flip { bit } => write!(f, "flip {bit}"),
            Self::Zero { sector } => write!(f, "zero {sector}"),
            Self::Swap { one, other } => write!(f, "swap {one} {other}"),
            Self::Old { sector } => write!(f, "old {sector}"),
        }
    }
}

impl FromStr for Damage {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parsed = || {
            let mut words = text.split(' ');
            let what = words.next()?;
            let mut number = || words.next()?.parse().ok();
            Some(match what {
                "flip" => Self::Flip { bit: number()? },
                "zero" => Self::Zero { sector: number()? },
                "swap" => Self::Swap { one: number()?, other: number()? },
                "old" => Self::Old { sector: number()? },
                _ => return None,
            })
        };
        parsed().ok_or_else(|| format!("{text:?} is no damage"))
    }
}

/// Which of all cases are taken: from which on, every how manieth. `None`: a sample of another kind.
fn share() -> Option<(usize, usize)> {
    let value = std::env::var("RINGPOST_CORRUPTION").ok()?;
    if value == "all" {
        return Some((0, 1));
    }
    Some(fraction(&value).unwrap_or_else(|| panic!("RINGPOST_CORRUPTION is neither all nor K/N")))
}

/// The K-th of N, from zero on, and N.
pub fn fraction(text: &str) -> Option<(usize, usize)> {
    let (at, of) = text.split_once('/')?;
    let (at, of): (usize, usize) = (at.parse().ok()?, of.parse().ok()?);
    (1..=of).contains(&at).then(|| (at - 1, of))
}

#[test]
fn damage_is_read_as_it_is_told() {
    let all = [
        Damage::Flip { bit: 7 },
        Damage::Zero { sector: 1 },
        Damage::Swap { one: 2, other: 18 },
        Damage::Old { sector: 0 },
    ];
    for damage in all {
        assert_eq!(damage.to_string().parse(), Ok(damage));
    }
    assert!("flip".parse::<Damage>().is_err() && "burn 3".parse::<Damage>().is_err());
}
