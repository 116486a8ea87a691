//! HTTP/1.1 as bytes: heads in, body framing, heads out, dates, limits.
//!
//! Everything here is a pure function or a small state machine over byte slices: no sockets, no clock, no logging, so it can
//! be fuzzed as it stands. A request's head is read by a [`HeadReader`]; how its body is framed is decided in one place
//! ([`framing`]) and nothing else may guess. Each refusal is a [`ParseError`], one variant per rule.

pub mod chunked;
mod date;
mod encode;
mod error;
mod fields;
pub mod framing;
mod head;
mod known;
mod limits;
mod line;
mod scan;
mod target;
mod upgrade;

pub use date::DateCache;
pub use encode::{CONTINUE, Connection, Openings, ResponseHead, encode_chunk_size, encode_head};
pub use error::ParseError;
pub(crate) use fields::Lines;
pub use head::{Found, Head, HeadReader};
pub use known::KnownFields;
pub use limits::Limits;
pub use line::RequestLine;
use scan::Scanner;
pub use upgrade::protocols;
