//! The `greenserve` binary as a client sees it: real process, real sockets, exact bytes. One file per theme.
//!
//! `router` is about what only an application of one's own can have, and has the public API serve one.
//!
//! Each test starts a server of its own. What the RFCs say of single requests is in `rfc/`.

mod access_log;
mod blocked;
mod cli;
mod core_table;
mod demo;
mod disconnects;
mod expect_continue;
mod failures;
mod half_closed;
mod head_and_http10;
mod hubs;
mod keep_alive;
mod limits;
mod logs;
mod pipelining;
mod pool;
mod proxies;
mod request_bodies;
mod robustness;
mod router;
mod static_files;
mod stop;
mod streaming;
mod sync;
mod threads;
mod timeouts;
mod tls;
mod unix_socket;
mod upgrade;
mod uwsgi;
