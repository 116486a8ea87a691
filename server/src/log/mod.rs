//! The error log and the access log.
//!
//! [`ErrorLog`] is an implementation of the `log` facade in gunicorn's line format, so `log::warn!` anywhere (the
//! application included) ends up in it. [`FormattedLog`] writes one line per request in gunicorn's access log
//! format, compiled once. Both hand their lines to a [`Sink`]: a bounded queue and a writer thread, so that a
//! slow disk or a pipe nobody reads never holds up a hub; lines that do not fit are dropped, counted and reported.
//!
//! They are text or JSON, and go to a file, a standard stream, or a syslog daemon besides.
//!
//! Lines made under a request say the request's id and whatever [`field`]s it was given, without being told.
//!
//! What comes from a peer is escaped before it is written: nobody can forge a line. Nothing in here knows
//! settings, sockets or green threads. Dates are UTC.

mod access;
mod clock;
mod context;
mod error;
mod json;
mod out;
mod panics;
mod sink;
mod syslog;

pub use access::{AccessFormat, FormattedLog};
pub(crate) use context::adopt_request_id;
pub use context::{Context, context, field, fields, request_id};
pub(crate) use error::take_logged;
pub use error::{ErrorLog, LogFormat};
pub(crate) use panics::are_logged as panics_are_logged;
pub use panics::log_panics;
pub use sink::{Sink, dropped};
pub use syslog::{Envelope, Facility, SyslogAddress};
