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
