//! How long things took: a histogram of nanoseconds that travels as JSON.
//!
//! In JSON stand the percentiles for people, and the occupied buckets, from which the histogram is built again: so
//! spectra of several runs can be added up and drawn.

use hdrhistogram::Histogram;
use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The percentiles that are printed, in this order.
pub const PERCENTILES: [f64; 7] = [50.0, 75.0, 90.0, 95.0, 99.0, 99.9, 99.99];

/// A latency beyond ten minutes counts as ten minutes.
const LONGEST_NS: u64 = 600_000_000_000;

/// Latencies in nanoseconds, with three digits.
#[derive(Clone, Debug, PartialEq)]
pub struct Spectrum(Histogram<u64>);

/// The form in JSON.
#[derive(Serialize, Deserialize)]
struct Written {
    unit: String,
    count: u64,
    min: u64,
    mean: f64,
    max: u64,
    /// Pairs of percentile and value.
    percentiles: Vec<(f64, u64)>,
    /// Pairs of value and how often it was met, of occupied buckets alone.
    buckets: Vec<(u64, u64)>,
}

impl Default for Spectrum {
    fn default() -> Self {
        Self(Histogram::new_with_bounds(1, LONGEST_NS, 3).expect("the bounds are in order"))
    }
}

impl Spectrum {
    pub fn record(&mut self, nanos: u64) {
        self.0.saturating_record(nanos);
    }

    pub fn add(&mut self, other: &Self) {
        self.0.add(&other.0).expect("all spectra have the same bounds");
    }

    pub fn clear(&mut self) {
        self.0.reset();
    }

    pub fn count(&self) -> u64 {
        self.0.len()
    }

    pub fn min(&self) -> u64 {
        self.0.min()
    }

    pub fn max(&self) -> u64 {
        self.0.max()
    }

    pub fn mean(&self) -> f64 {
        self.0.mean()
    }

    /// At so many of a hundred: the value that so many do not exceed.
    pub fn percentile(&self, percentile: f64) -> u64 {
        self.0.value_at_quantile(percentile / 100.0)
    }

    /// Occupied buckets: the highest value of each, and how often it was met.
    pub fn buckets(&self) -> impl Iterator<Item = (u64, u64)> {
        self.0.iter_recorded().map(|step| (step.value_iterated_to(), step.count_at_value()))
    }
}

impl Serialize for Spectrum {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Written {
            unit: "ns".to_owned(),
            count: self.count(),
            min: self.min(),
            mean: self.mean(),
            max: self.max(),
            percentiles: PERCENTILES.iter().map(|&at| (at, self.percentile(at))).collect(),
            buckets: self.buckets().collect(),
        }
        .serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Spectrum {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let written = Written::deserialize(deserializer)?;
        let mut spectrum = Self::default();
        for (value, count) in written.buckets {
            spectrum.0.saturating_record_n(value, count);
        }
        match spectrum.count() == written.count {
            true => Ok(spectrum),
            false => Err(D::Error::custom("the buckets do not add up to the count")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Spectrum;

    #[test]
    fn a_spectrum_survives_json() {
        let mut spectrum = Spectrum::default();
        for value in [1, 90, 5_000, 5_001, 1_000_000, 70_000_000_000] {
            spectrum.record(value);
        }
        let text = serde_json::to_string(&spectrum).expect("it has a JSON form");
        let read: Spectrum = serde_json::from_str(&text).expect("and comes back");
        assert_eq!(read, spectrum);
        assert_eq!(read.percentile(50.0), spectrum.percentile(50.0));
    }
}
