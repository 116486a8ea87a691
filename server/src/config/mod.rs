//! Every setting once: its type, default, flag, environment variable, unit, check and help text.
//!
//! `settings` is the table; `command` turns it into the command line, `file` reads a settings file, and both with the environment come together in gunicorn's
//! order of precedence and resolves all of it into one immutable [`Config`]; `value` holds the types that only
//! settings need and their parsers. Adding a setting means adding one entry to the table: flag, help, checks,
//! `--print-config` and the README's table (which a test compares) follow from it.
//!
//! Nothing in here opens a socket or a file, and nothing but `cli` reads flags or environment variables:
//! the rest of the crate is handed a [`Config`].

mod command;
mod file;
mod process;
mod settings;
mod value;
mod words;

#[cfg(test)]
mod gunicorn;
#[cfg(test)]
mod readme;

pub use command::{Action, App, CommandLine, Origin, UsageError};
pub use process::{Account, Environment, Umask};
pub use settings::{Config, Group, SETTINGS, Setting};
pub use value::{Bind, CertReqs, FileMode, LogTarget, StatsdHost, WorkerClass};

pub(crate) use settings::MOST_WORKERS;
pub(crate) use value::level;
