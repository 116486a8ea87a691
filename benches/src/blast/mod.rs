//! The cheapest load generator that still checks what it gets: so that on two cores it is the server that is measured,
//! and not the client.
//!
//! One OS thread, one epoll, requests prepared beforehand. An answer isn't parsed: the first one on a server is, and by
//! its length, or by the last chunk if it is chunked, the others are told apart; each must begin like the first. Large
//! bodies are thrown away by the kernel (`MSG_TRUNC`). Where an answer is to be checked to the last byte, or other clients
//! are to run beside, [`load`](crate::load) is the generator to take. Nothing in here starts servers, prints or draws.

mod answer;
mod closing;
mod hold;
mod keep;

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::time::Duration;

use hdrhistogram::Histogram;

pub use answer::Answer;
pub use hold::{Held, hold};

/// How the connections are used.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Pace {
    /// Each connection is kept and sends its next `depth` requests when the last ones are answered.
    Closed {
        /// Requests sent at once.
        depth: usize,
    },
    /// Each request has a connection of its own, which the server closes.
    Closing,
    /// Requests are due at fixed moments, so many a second over all connections. Latencies count from then. The client
    /// doesn't sleep meanwhile: it asks the kernel over and over.
    Open {
        /// Requests a second.
        rate: f64,
    },
}

/// What is to be done to a server.
#[derive(Clone, Debug)]
pub struct Blast {
    /// Where it listens.
    pub address: SocketAddr,
    /// The bytes of one request.
    pub request: Vec<u8>,
    /// What its answers look like.
    pub answer: Answer,
    /// Connections at once.
    pub connections: usize,
    /// How they are used.
    pub pace: Pace,
    /// The first requests of all connections are spread over this time, so that they don't go on in step.
    pub spread: Duration,
    /// Time under load before anything counts.
    pub warmup: Duration,
    /// Time that counts.
    pub duration: Duration,
}

/// What came of it, within the time that counts.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Good answers.
    pub answers: u64,
    /// Bad answers and connections that ended early, and requests that were due and could not be sent.
    pub errors: u64,
    /// What the first error was.
    pub first_error: Option<String>,
    /// How long it took.
    pub elapsed: Duration,
    /// Nanoseconds from when a request was due to its answer; only for [`Pace::Open`].
    pub latencies: Histogram<u64>,
}

/// Moments at which the server is to be looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Edge {
    /// From here on it counts.
    Begin,
    /// Up to here.
    End,
}

impl Blast {
    /// The bytes of a GET on a connection that is kept, or not.
    pub fn get(address: SocketAddr, target: &str, close: bool) -> Vec<u8> {
        let close = if close { "Connection: close\r\n" } else { "" };
        format!("GET {target} HTTP/1.1\r\nHost: {address}\r\n{close}\r\n").into_bytes()
    }

    /// Carries it out. `look` is called when what counts begins and when it ends.
    ///
    /// # Errors
    ///
    /// If the connections can't be made or lost, nothing can be waited for, or no answer came for ten seconds.
    pub fn run(&self, mut look: impl FnMut(Edge)) -> io::Result<Outcome> {
        match self.pace {
            Pace::Closing => closing::run(self, &mut look),
            Pace::Closed { .. } | Pace::Open { .. } => keep::run(self, &mut look),
        }
    }
}

/// Longer than any answer may take.
const PATIENCE: Duration = Duration::from_secs(10);

impl Outcome {
    fn new() -> Outcome {
        let latencies = Histogram::new_with_bounds(1, 60_000_000_000, 3)
            .expect("constant bounds that the histogram accepts");
        Outcome { answers: 0, errors: 0, first_error: None, elapsed: Duration::ZERO, latencies }
    }

    fn error(&mut self, what: impl FnOnce() -> String) {
        self.errors += 1;
        self.first_error.get_or_insert_with(what);
    }
}

fn connect(address: SocketAddr) -> io::Result<OwnedFd> {
    let stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_nodelay(true)?;
    Ok(stream.into())
}
