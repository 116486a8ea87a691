//! One cell of the comparison, and how its figures are written.

use std::fmt;
use std::time::Duration;

use crate::load::Percentiles;

/// Which worker the server ran with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// `-k green`: a green thread per connection.
    Green,
    /// `-k threads`: an OS thread per connection.
    Threads,
}

impl Kind {
    /// As the server's `-k` takes it.
    pub fn flag(self) -> &'static str {
        match self {
            Kind::Green => "green",
            Kind::Threads => "threads",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Kind::Green => "green threads",
            Kind::Threads => "OS threads",
        })
    }
}

/// How the server was driven.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Load {
    /// Each connection sends its next request when the last is answered: finds the peak.
    Closed,
    /// This many requests a second are due, whatever the server does: shows the latency that users see.
    Open(f64),
}

/// One kind of server, at one path, under one load.
#[derive(Clone, Debug)]
pub struct Measurement {
    /// Which worker.
    pub kind: Kind,
    /// The request target.
    pub target: String,
    /// Connections at once.
    pub connections: usize,
    /// How it was driven.
    pub load: Load,
    /// What came out, or why nothing did.
    pub outcome: Result<Figures, String>,
}

/// What was measured.
#[derive(Clone, Debug)]
pub struct Figures {
    /// Good answers a second.
    pub rate: f64,
    /// Latencies; `None` without a good answer.
    pub latency: Option<Percentiles>,
    /// Most OS threads of the server process at once.
    pub threads: u64,
    /// Most resident memory of the server process, in bytes.
    pub resident: u64,
    /// Its resident memory before the first connection, in bytes.
    pub resident_idle: u64,
    /// Processor time that the server took for each good answer; `None` if it is too little to be told.
    pub cpu_per_request: Option<Duration>,
    /// Failed requests by kind.
    pub failures: Vec<(String, u64)>,
}

impl Figures {
    /// Resident memory that each connection has added, in bytes.
    pub fn resident_per_connection(&self, connections: usize) -> u64 {
        self.resident.saturating_sub(self.resident_idle) / connections.max(1) as u64
    }
}

/// `1234567.0` as `1.23 M`.
pub(crate) fn count(value: f64) -> String {
    scaled(value, &[(1e9, " G"), (1e6, " M"), (1e3, " k"), (1.0, "")])
}

/// Bytes as `1.23 MB` (10^6).
pub(crate) fn bytes(value: f64) -> String {
    scaled(value, &[(1e9, " GB"), (1e6, " MB"), (1e3, " kB"), (1.0, " B")])
}

/// Seconds as `1.23 ms`.
pub(crate) fn seconds(value: f64) -> String {
    scaled(value, &[(1.0, " s"), (1e-3, " ms"), (1e-6, " µs"), (1e-9, " ns")])
}

/// Three significant digits in the largest unit that leaves one before the point.
fn scaled(value: f64, units: &[(f64, &str)]) -> String {
    if value == 0.0 {
        return "0".into();
    }
    let mut chosen = units[units.len() - 1];
    for unit in units.iter().rev() {
        // 999.6 of a unit would be written as 1000
        if value >= unit.0 * 0.9995 {
            chosen = *unit;
        }
    }
    let number = value / chosen.0;
    let decimals = match number {
        n if n >= 99.95 => 0,
        n if n >= 9.995 => 1,
        _ => 2,
    };
    let text = format!("{number:.decimals$}");
    let text = if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    format!("{text}{}", chosen.1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_written_with_three_digits() {
        for (value, expected) in [
            (0.0, "0"),
            (1.0, "1"),
            (10.0, "10"),
            (999.4, "999"),
            (999.6, "1 k"),
            (1234.0, "1.23 k"),
            (20_000.0, "20 k"),
            (123_456.0, "123 k"),
            (1_999_999.0, "2 M"),
        ] {
            assert_eq!(count(value), expected, "{value}");
        }
        assert_eq!(seconds(0.1), "100 ms");
        assert_eq!(seconds(0.000_021_5), "21.5 µs");
        assert_eq!(seconds(2.0), "2 s");
        assert_eq!(bytes(4_138.0), "4.14 kB");
        assert_eq!(bytes(512.0), "512 B");
    }
}
