//! The master and its workers, as gunicorn has them: one process that listens, forks, watches and replaces, and never
//! touches a client.
//!
//! The master has one thread and no hub: it forks before there is either. Who should be there is decided in `fleet`, without a
//! system call; `master` carries it out. A worker is a fork of the master in which somebody else's function serves; what it
//! knows of its master is in `worker`, and what the two say to each other in `link`. What may not enter here: HTTP, and what a
//! worker serves.

mod answers;
mod births;
mod busy;
mod deaths;
mod fleet;
mod hooks;
mod link;
mod loads;
mod look;
mod master;
mod operator;
mod pidfile;
mod privileges;
mod scale;
mod signals;
mod sockets;
mod systemd;
mod upgrade;
mod wear;
mod worker;

pub use hooks::{Hooks, WorkerInfo};
pub(crate) use master::{Halt, Master, Program};
pub(crate) use privileges::{Identity, with_umask};
pub(crate) use sockets::listeners;
pub(crate) use systemd::Notify;
pub(crate) use upgrade::Start;
pub(crate) use worker::{Errands, Line, Worker};
