//! Numbers out: what a server and all workers of a master have done, for Prometheus, StatsD and whoever asks for JSON.
//!
//! `board` is the table in memory that the processes share, with a row for each worker; `meter` is what a worker counts with.
//! `exports` has every number by the name it is exported under, `render` writes them down, `pages` answers for
//! them over HTTP, and `statsd` sends them. What may not enter here: a decision that depends on a number, but for the
//! master's on signs of life; sockets other than StatsD's (`serve` answers for the pages, as for any application); and anything
//! that a request would have to wait for.

mod board;
mod exports;
mod meter;
mod pages;
mod render;
mod statsd;

pub(crate) use board::{Board, Done};
pub(crate) use meter::{Begun, HubLoad, Meter};
pub(crate) use pages::Pages;
pub(crate) use statsd::{Gauges, Statsd};
