//! HTTP/1.1 as bytes: heads in, body framing, heads out, dates, limits; and the PROXY header before them.
//!
//! Everything here is a pure function or a small state machine over byte slices: no sockets, no clock, no logging, so it can
//! be fuzzed as it stands. A request's head is read by a [`HeadReader`], and one that comes by another protocol ([`uwsgi`])
//! is made such a head first; how its body is framed is decided in one place ([`framing`]) and nothing else may guess. Each
//! refusal is a [`ParseError`], one variant per rule.

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
mod proxy_protocol;
mod scan;
mod target;
mod trailers;
mod upgrade;
pub mod uwsgi;

pub use date::DateCache;
pub use encode::{
    CONTINUE, Connection, Openings, ResponseHead, encode_chunk_size, encode_head, encode_interim,
};
pub use error::ParseError;
pub(crate) use fields::{Lines, list};
pub use head::{Found, Head, HeadReader};
pub use known::KnownFields;
pub use limits::Limits;
pub use line::RequestLine;
pub use proxy_protocol::{ProxyEnds, ProxyError, ProxyHeader, ProxyProtocol};
use scan::Scanner;
pub(crate) use target::{is_host, is_token_byte};
pub use trailers::{encode_last_chunk, may_be_trailer};
pub use upgrade::protocols;
