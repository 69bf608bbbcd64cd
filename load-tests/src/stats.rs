//! Latency distributions, and the median and spread over runs.

use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

/// A distribution of durations: whole microseconds up to two minutes, three significant digits.
#[derive(Clone, Debug)]
pub(crate) struct Latencies(Histogram<u64>);

const HIGHEST_US: u64 = 120_000_000;

impl Latencies {
    /// An empty distribution.
    #[expect(clippy::expect_used, reason = "the bounds are constants that the library accepts")]
    pub(crate) fn new() -> Self {
        Self(Histogram::new_with_bounds(1, HIGHEST_US, 3).expect("constant bounds are valid"))
    }

    /// Counts one duration; beyond two minutes it counts as two minutes.
    pub(crate) fn record(&mut self, duration: Duration) {
        self.0.saturating_record(u64::try_from(duration.as_micros()).unwrap_or(HIGHEST_US));
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The value at a percentile, 0 to 100, in milliseconds.
    pub(crate) fn percentile_ms(&self, percentile: f64) -> f64 {
        self.0.value_at_percentile(percentile) as f64 / 1_000.0
    }

    pub(crate) fn max_ms(&self) -> f64 {
        self.0.max() as f64 / 1_000.0
    }

    pub(crate) fn summary(&self) -> Summary {
        Summary {
            count: self.0.len(),
            min_ms: self.0.min() as f64 / 1_000.0,
            mean_ms: self.0.mean() / 1_000.0,
            p50_ms: self.percentile_ms(50.0),
            p90_ms: self.percentile_ms(90.0),
            p99_ms: self.percentile_ms(99.0),
            p999_ms: self.percentile_ms(99.9),
            max_ms: self.max_ms(),
        }
    }

    /// Points (1 / (1 - p), milliseconds) from the median to the last one that single samples support.
    pub(crate) fn tail_curve(&self) -> Vec<(f64, f64)> {
        let highest = (self.0.len() as f64).max(2.0);
        let mut points = Vec::new();
        let mut odds = 1.0;
        while odds < highest {
            points.push((odds, self.percentile_ms(100.0 * (1.0 - 1.0 / odds))));
            odds *= 1.1;
        }
        points.push((highest, self.max_ms()));
        points
    }
}

/// What is written down of a distribution.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Summary {
    pub(crate) count: u64,
    pub(crate) min_ms: f64,
    pub(crate) mean_ms: f64,
    pub(crate) p50_ms: f64,
    pub(crate) p90_ms: f64,
    pub(crate) p99_ms: f64,
    pub(crate) p999_ms: f64,
    pub(crate) max_ms: f64,
}

/// A figure over several runs.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) min: f64,
    pub(crate) max: f64,
}

impl Spread {
    /// None for no runs at all.
    pub(crate) fn of(values: &[f64]) -> Option<Self> {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        let (&min, &max) = (sorted.first()?, sorted.last()?);
        let middle = sorted.len() / 2;
        let median = if sorted.len().is_multiple_of(2) {
            f64::midpoint(sorted[middle - 1], sorted[middle])
        } else {
            sorted[middle]
        };
        Some(Self { median, min, max })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle_or_between_the_two_middles() {
        let spread = Spread::of(&[9.0, 1.0, 4.0]).unwrap();
        assert_eq!(spread, Spread { median: 4.0, min: 1.0, max: 9.0 });
        assert_eq!(Spread::of(&[4.0, 1.0, 2.0, 9.0]).unwrap().median, 3.0);
        assert_eq!(Spread::of(&[]), None);
    }

    #[test]
    fn percentiles_are_within_a_thousandth() {
        let mut latencies = Latencies::new();
        for ms in 1..=1_000 {
            latencies.record(Duration::from_millis(ms));
        }
        let summary = latencies.summary();
        assert_eq!(summary.count, 1_000);
        assert!((summary.p50_ms - 500.0).abs() < 1.0, "{summary:?}");
        assert!((summary.p99_ms - 990.0).abs() < 1.0, "{summary:?}");
        assert!((summary.max_ms - 1_000.0).abs() < 1.0, "{summary:?}");
    }

    #[test]
    fn what_is_too_long_counts_as_the_longest() {
        let mut latencies = Latencies::new();
        latencies.record(Duration::from_secs(3_600));
        assert!((latencies.max_ms() - 120_000.0).abs() < 100.0);
    }

    #[test]
    fn the_tail_curve_never_falls_and_ends_at_the_maximum() {
        let mut latencies = Latencies::new();
        for us in [5, 50, 500, 5_000, 50_000] {
            latencies.record(Duration::from_micros(us));
        }
        let curve = latencies.tail_curve();
        assert!(curve.windows(2).all(|pair| pair[0].1 <= pair[1].1 && pair[0].0 < pair[1].0));
        assert_eq!(curve.last().unwrap().1, latencies.max_ms());
    }
}
