//! The control socket: an operator's way to a master, and `greenserve ctl`, which speaks through it.
//!
//! A session is a stream of lines: a command in words, or the same as JSON, and an answer in JSON for each. Here are the
//! words, the socket with its sessions, and the client's end; what a command does to a master is the arbiter's, in
//! `arbiter/operator.rs`. What may not enter here: knowledge of workers, and waiting (but in the client).

mod client;
mod command;
mod path;
mod protocol;
mod sessions;
mod table;

pub(crate) use client::{Client, find};
pub(crate) use command::{COMMANDS, Command, Mode, Show, Which};
pub(crate) use path::{absolute, beside, usual};
pub(crate) use protocol::Outcome;
pub(crate) use sessions::{Control, SessionId};
pub(crate) use table::render;
