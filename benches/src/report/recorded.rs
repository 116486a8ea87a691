//! What the programs record, as it stands in their JSON files. Times are seconds, memory is bytes.

use std::collections::BTreeMap;

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use crate::compare::Machine;

/// What `marks` records: servers beside each other.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Http {
    /// Where and when.
    pub machine: Machine,
    /// What was typed.
    pub command: String,
    /// How it was measured, in sentences.
    pub method: Vec<String>,
    /// Who was measured.
    pub versions: Vec<Version>,
    /// Who would have been, but isn't installed.
    pub missing: Vec<String>,
    /// What was to be reached.
    pub marks: Vec<Mark>,
    /// What was measured.
    pub rows: Vec<Row>,
    /// What was counted.
    pub counts: Vec<Counted>,
}

/// What `runtime_marks` records: runtimes beside each other.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Runtime {
    /// Where and when.
    pub machine: Machine,
    /// What was typed.
    pub command: String,
    /// What was to be reached.
    pub marks: Vec<Mark>,
    /// What was measured.
    pub rows: Vec<Benchmark>,
    /// What many greenlets at once take.
    pub growth: Vec<Growth>,
}

/// One server's version.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Version {
    /// Which.
    pub server: String,
    /// What it is, in a few words.
    pub what: String,
    /// Its version, as it says itself.
    pub version: String,
}

/// A mark with what came of it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Mark {
    /// What is measured.
    pub title: String,
    /// Our figure, in words.
    pub figure: String,
    /// What has to be reached, in words.
    pub mark: String,
    /// Whether it is; `None` if it can't be told.
    pub met: Option<bool>,
}

/// A median with the least and the most.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Spread {
    /// The median.
    pub median: f64,
    /// The least.
    pub min: f64,
    /// The most.
    pub max: f64,
}

/// What a row is about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Processor time per request.
    #[default]
    Load,
    /// The same over the number of connections.
    Connections,
    /// Latencies at a fixed rate.
    Latency,
    /// Memory of connections.
    Memory,
}

/// One row of the marks: all servers, the best first.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// Its name on the command line.
    pub name: String,
    /// What is measured.
    pub title: String,
    /// What it is about.
    pub kind: Kind,
    /// The servers.
    pub servers: Vec<Server>,
    /// All of it as a table for readers; the first line is its head.
    pub table: Vec<Vec<String>>,
}

/// One server in one row. What the row isn't about is empty.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Server {
    /// Which.
    pub server: String,
    /// Processor time of the server for each request.
    pub cpu_seconds_per_request: Option<Spread>,
    /// The same as a multiple of bare's in the same round.
    pub cpu_of_bare: Option<Spread>,
    /// Answers a second.
    pub requests_per_second: Option<Spread>,
    /// Share of its processor that the server used.
    pub server_busy: Option<Spread>,
    /// Share of its processor that the load generator used.
    pub client_busy: Option<Spread>,
    /// The rate that was asked for.
    pub asked_rate: f64,
    /// Half of the answers took at most so long.
    pub p50_seconds: Option<Spread>,
    /// 99 % did.
    pub p99_seconds: Option<Spread>,
    /// 99.9 % did.
    pub p999_seconds: Option<Spread>,
    /// The latencies of all rounds together.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub distribution: Vec<Quantile>,
    /// One for each number of connections.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub by_connections: Vec<AtConnections>,
    /// Memory that each connection adds.
    pub bytes_per_connection: Option<f64>,
    /// Memory of the server on the way to all connections.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub resident: Vec<Resident>,
    /// Requests that failed.
    pub errors: u64,
    /// Why something failed.
    pub error: Option<String>,
}

/// A share of the requests took at most so long.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Quantile {
    /// The share.
    pub quantile: f64,
    /// How long.
    pub seconds: f64,
}

/// What a number of connections gives.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct AtConnections {
    /// How many.
    pub connections: usize,
    /// Answers a second.
    pub requests_per_second: Option<f64>,
    /// Processor time of the server for each.
    pub cpu_seconds_per_request: Option<f64>,
    /// Why there is nothing.
    pub error: Option<String>,
}

/// What a number of idle connections takes, the server's own share included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Resident {
    /// How many.
    pub connections: usize,
    /// Resident bytes of all processes of the server.
    pub bytes: u64,
}

/// What was counted of one server, for each request.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Counted {
    /// Which.
    pub server: String,
    /// User-space instructions.
    pub instructions: Option<f64>,
    /// Heap allocations.
    pub allocations: Option<f64>,
    /// System calls by name.
    pub system_calls: BTreeMap<String, f64>,
    /// Why nothing was.
    pub error: Option<String>,
}

/// One figure of one benchmark, for all runtimes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Benchmark {
    /// What it says, for readers.
    pub what: String,
    /// The benchmark's name.
    pub bench: String,
    /// The unit of the figures.
    pub unit: String,
    /// What it ought to be, in words; empty if there is no mark.
    pub mark: String,
    /// Whether it is.
    pub met: Option<bool>,
    /// One for each runtime.
    pub results: Vec<Measured>,
}

/// What one runtime has for a benchmark.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Measured {
    /// Which.
    pub runtime: String,
    /// Whether it is ours.
    pub ours: bool,
    /// The figure.
    #[serde(flatten)]
    pub spread: Option<Spread>,
    /// Why there is none.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub failure: Option<String>,
}

/// What more and more greenlets of one runtime take that are parked at once.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Growth {
    /// Which.
    pub runtime: String,
    /// Whether it is ours.
    pub ours: bool,
    /// From few to many.
    pub stages: Vec<Stage>,
    /// Where it went no further.
    pub broken: Option<Broken>,
}

/// What a number of parked greenlets takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Stage {
    /// How many.
    pub count: usize,
    /// Processor time until all of them were parked.
    pub seconds: f64,
    /// Resident bytes that each added.
    pub bytes: f64,
}

/// Where something failed.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Broken {
    /// With so many.
    pub count: usize,
    /// Why.
    pub why: String,
}

impl Spread {
    /// Of some values; `None` of none.
    pub fn of(values: impl IntoIterator<Item = f64>) -> Option<Spread> {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        let (min, max) = (*values.first()?, *values.last()?);
        let middle = values.len() / 2;
        let median = match values.len() % 2 {
            0 => (values[middle - 1] + values[middle]) / 2.0,
            _ => values[middle],
        };
        Some(Spread { median, min, max })
    }
}

impl Http {
    /// For a file.
    pub fn json(&self) -> String {
        format!("{:#}\n", serde_json::json!(self))
    }
}

impl Runtime {
    /// For a file.
    pub fn json(&self) -> String {
        format!("{:#}\n", serde_json::json!(self))
    }
}

/// The upper half of a distribution of nanoseconds, each step closer to 1 by a tenth of a decade, up to 99.99 %; as far as
/// enough was measured for at least one latency to lie beyond.
pub fn distribution(nanoseconds: &Histogram<u64>) -> Vec<Quantile> {
    let beyond = |step: i32| if step == 0 { 0.5 } else { 10_f64.powf(-0.3 - 0.1 * f64::from(step)) };
    (0..=37)
        .map(beyond)
        .take_while(|beyond| beyond * nanoseconds.len() as f64 >= 1.0)
        .map(|beyond| {
            let quantile = 1.0 - beyond;
            Quantile { quantile, seconds: nanoseconds.value_at_quantile(quantile) as f64 / 1e9 }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::page::tests::{http, runtime};
    use super::*;

    #[test]
    fn spreads() {
        assert_eq!(Spread::of([]), None);
        assert_eq!(Spread::of([3.0, 1.0, 2.0]), Some(Spread { median: 2.0, min: 1.0, max: 3.0 }));
        assert_eq!(Spread::of([4.0, 1.0]), Some(Spread { median: 2.5, min: 1.0, max: 4.0 }));
    }

    #[test]
    fn what_is_written_is_what_is_read() {
        let (http, runtime) = (http(), runtime());
        assert_eq!(serde_json::from_str::<Http>(&http.json()).unwrap(), http);
        assert_eq!(serde_json::from_str::<Runtime>(&runtime.json()).unwrap(), runtime);
    }

    #[test]
    fn a_distribution_goes_as_far_as_it_was_measured() {
        let mut histogram = Histogram::<u64>::new(3).unwrap();
        assert!(distribution(&histogram).is_empty());
        (1..=100_000_u64).for_each(|number| histogram.record(number * 1000).unwrap());
        let all = distribution(&histogram);
        let (first, last) = (all[0], all[all.len() - 1]);
        assert_eq!(first.quantile, 0.5);
        assert!((first.seconds / 0.05 - 1.0).abs() < 1e-3, "{first:?}");
        assert!((last.quantile - 0.9999).abs() < 1e-9 && (last.seconds / 0.099_99 - 1.0).abs() < 1e-3);
        assert!(all.is_sorted_by_key(|it| it.quantile) && all.is_sorted_by_key(|it| it.seconds));
        histogram.reset();
        (0..100).for_each(|_| histogram.record(7).unwrap());
        let few = distribution(&histogram);
        assert!((few[few.len() - 1].quantile - 0.99).abs() < 0.003, "{few:?}");
    }
}
