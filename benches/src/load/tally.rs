//! What a run has measured.

use std::collections::BTreeMap;
use std::time::Duration;

use hdrhistogram::Histogram;

use super::client::Failure;

/// Counts and latencies of the requests whose answers came within the measured time.
#[derive(Clone, Debug)]
pub struct Tally {
    latencies: Histogram<u64>,
    failures: BTreeMap<Failure, u64>,
    /// Bytes of response bodies.
    pub body_bytes: u64,
    /// How long was measured.
    pub measured: Duration,
}

/// Latencies are kept in microseconds to three significant digits up to this; longer ones count as this long.
const LONGEST: Duration = Duration::from_secs(600);

impl Default for Tally {
    fn default() -> Tally {
        let latencies = Histogram::new_with_bounds(1, LONGEST.as_micros() as u64, 3)
            .expect("constant bounds that the histogram accepts");
        Tally { latencies, failures: BTreeMap::new(), body_bytes: 0, measured: Duration::ZERO }
    }
}

impl Tally {
    /// Counts a good answer.
    pub fn success(&mut self, latency: Duration, body_length: u64) {
        self.latencies.saturating_record(latency.as_micros().max(1) as u64);
        self.body_bytes += body_length;
    }

    /// Counts requests that failed.
    pub fn failure(&mut self, failure: Failure, times: u64) {
        if times > 0 {
            *self.failures.entry(failure).or_default() += times;
        }
    }

    /// Good answers.
    pub fn successes(&self) -> u64 {
        self.latencies.len()
    }

    /// Failed requests.
    pub fn failed(&self) -> u64 {
        self.failures.values().sum()
    }

    /// Failed requests by kind.
    pub fn failures(&self) -> impl Iterator<Item = (&Failure, u64)> {
        self.failures.iter().map(|(failure, times)| (failure, *times))
    }

    /// Good answers per second.
    pub fn rate(&self) -> f64 {
        match self.measured.as_secs_f64() {
            0.0 => 0.0,
            seconds => self.successes() as f64 / seconds,
        }
    }

    /// The latencies that count; `None` if there was no good answer.
    pub fn percentiles(&self) -> Option<Percentiles> {
        let at = |quantile| Duration::from_micros(self.latencies.value_at_quantile(quantile));
        (self.successes() > 0).then(|| Percentiles {
            p50: at(0.5),
            p99: at(0.99),
            p999: at(0.999),
            max: Duration::from_micros(self.latencies.max()),
        })
    }
}

/// Latencies of a run: half, 99 % and 99.9 % of the answers came within, and the slowest one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Percentiles {
    /// The median.
    pub p50: Duration,
    /// One in a hundred took longer.
    pub p99: Duration,
    /// One in a thousand took longer.
    pub p999: Duration,
    /// The slowest.
    pub max: Duration,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_of_known_latencies() {
        let mut tally = Tally { measured: Duration::from_secs(10), ..Tally::default() };
        for ms in 1..=1000 {
            tally.success(Duration::from_millis(ms), 13);
        }
        let p = tally.percentiles().unwrap();
        let near = |got: Duration, ms: f64| (got.as_secs_f64() * 1e3 - ms).abs() <= ms / 1000.0 + 0.001;
        assert!(near(p.p50, 500.0), "{p:?}");
        assert!(near(p.p99, 990.0), "{p:?}");
        assert!(near(p.p999, 999.0), "{p:?}");
        assert!(near(p.max, 1000.0), "{p:?}");
        assert_eq!((tally.successes(), tally.rate(), tally.body_bytes), (1000, 100.0, 13_000));
    }

    #[test]
    fn latencies_outside_the_histogram_are_counted_at_its_ends() {
        let mut tally = Tally::default();
        tally.success(Duration::ZERO, 0);
        tally.success(Duration::from_secs(100_000), 0);
        assert_eq!(tally.successes(), 2);
        assert!(tally.percentiles().unwrap().max >= LONGEST);
    }

    #[test]
    fn failures_are_counted_by_kind() {
        let mut tally = Tally::default();
        tally.failure(Failure::Status(503), 2);
        tally.failure(Failure::TimedOut, 1);
        tally.failure(Failure::Status(503), 1);
        tally.failure(Failure::NeverSent, 0);
        let counted: Vec<_> = tally.failures().map(|(f, n)| (f.to_string(), n)).collect();
        assert_eq!(counted, [("timed out".into(), 1), ("status 503".into(), 3)]);
        assert_eq!((tally.failed(), tally.successes(), tally.percentiles()), (4, 0, None));
    }
}
