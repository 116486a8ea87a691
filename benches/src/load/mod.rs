//! The load generator: HTTP/1.1 clients that keep a server busy and write down how long each answer took.
//!
//! It is plain blocking code. A [`World`] says what a connection is and how to wait, so that the same client runs on
//! green threads (tens of thousands of connections on one OS thread) and on OS threads (its own tests). Nothing in
//! here starts servers, prints or draws.
//!
//! Two ways to drive a server, because they answer different questions ([`Mode`]):
//!
//! - **Closed loop**: each connection sends its next request when the last one is answered. This finds the peak
//!   rate. Its latencies flatter a server that stalls: while it stalls nobody sends, so nobody notices
//!   ("coordinated omission").
//! - **Open loop**: requests are due at fixed moments, whatever the server does, and a latency counts from the moment
//!   the request was *due*, not from when a connection was free to send it. A stall is then felt by all whom it
//!   would have kept waiting.

mod client;
mod response;
mod run;
mod tally;
mod world;

pub use client::{Client, Expect, Failure};
pub use response::{Malformed, Responses, Summary};
pub use run::{Mode, Moment, Plan, run};
pub use tally::{Percentiles, Tally};
pub use world::{Green, Threads, World};
