//! Serving: listeners, the bounded pool, and one connection's life.
//!
//! Bytes are understood in `http/` and handlers live in `app/`; here they are brought together over sockets. What is
//! particular to green threads (`green`, and `hubs` for several OS threads of them) or to OS threads (`threads`) stays there, all
//! else is generic over the transport; and what is particular to the uwsgi protocol, in which requests come from a front server, is
//! in one file, too.

mod access;
mod arrive;
mod conn;
mod exchange;
mod failures;
mod green;
mod hubs;
mod input;
mod insight;
mod listen;
mod output;
mod passed;
mod respond;
mod server;
mod settings;
mod side;
mod spare;
mod stop;
mod threads;
#[cfg(feature = "tls")]
mod tls;
mod transport;
mod upgrade;
mod uwsgi;
mod watch;

pub use access::{AccessLog, Exchange};
pub use server::Server;
pub use stop::ServerHandle;
pub use uwsgi::Protocol;

pub(crate) use hubs::HubSign;
pub(crate) use insight::{Blind, Insight};
pub(crate) use listen::{How, Listener, SocketFile, remove_stale};
pub(crate) use passed::passed;
pub(crate) use side::BACKLOG as METRICS_BACKLOG;
pub(crate) use watch::{PULSE, Watch, is_above_average};
