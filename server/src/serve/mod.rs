//! Serving: listeners, the bounded pool, and one connection's life.
//!
//! Bytes are understood in `http/` and handlers live in `app/`; here they are brought together over sockets. What is
//! particular to green threads or to OS threads stays in one file each, all else is generic over the transport.

mod access;

pub use access::{AccessLog, Exchange};
