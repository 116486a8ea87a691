//! What the behaviour tests share: the real `greenserve` binary as a child process ([`ServerProcess`]), a client that
//! sends exact bytes and reads answers strictly ([`Client`]), waiting for conditions with a deadline ([`eventually`]),
//! a scratch directory ([`Scratch`]) and what `/proc` says about a process ([`Proc`]).
//!
//! Nothing of the product is linked in here, so that the tests of the server see it from the outside only. The tests
//! lie in `tests/`: `server/` drives the binary, `runtime/` uses the `greenlet` crate as a program would; what needs
//! a process of its own (memory measurements, descriptor counts, a machine full of connections) has its own file.

pub mod c;
mod client;
mod load;
mod manager;
mod process;
mod proxy;
mod response;
mod scratch;
mod sys;
mod wait;

pub use client::{Client, request, uwsgi};
pub use load::{At, Connections, Load, Tally};
pub use manager::Manager;
pub use process::{Binary, ServerBuilder, ServerProcess, children_of};
pub use proxy::Proxy;
pub use response::{Framing, ReadError, Response};
pub use scratch::Scratch;
pub use sys::{Proc, limit_open_files, raise_open_files_limit, send_signal, try_send_signal};
pub use wait::{
    PATIENCE, eventually, eventually_some, in_process, in_process_with, in_time, in_time_of, is_in_process,
    process_of,
};
