//! Why there is no server, in words.

use std::fmt;
use std::io;
use std::path::PathBuf;

use crate::arbiter::Halt;
use crate::config::LogTarget;
use crate::log::SyslogAddress;

/// Why there is no server.
#[derive(Debug)]
pub(super) enum Failure {
    App(io::Error),
    Folder(PathBuf, io::Error),
    Identity(io::Error),
    Process(&'static str, io::Error),
    Log(&'static str, LogTarget, io::Error),
    Syslog(SyslogAddress, io::Error),
    Tls(io::Error),
    Bind(io::Error),
    LogThread(io::Error),
    Signals(io::Error),
    Master(Halt),
    Serve(io::Error),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::App(error) | Failure::Tls(error) | Failure::Identity(error) => error.fmt(f),
            Failure::Folder(dir, error) => write!(f, "--chdir: can't change to {}: {error}", dir.display()),
            Failure::Process(what, error) => write!(f, "{what}: {error}"),
            Failure::Log(what, LogTarget::File(path), error) => {
                write!(f, "cannot write the {what} log to {}: {error}", path.display())
            }
            Failure::Log(what, LogTarget::Standard, error) => {
                write!(f, "cannot start the {what} log: {error}")
            }
            Failure::Syslog(address, error) => write!(f, "cannot send messages to {address}: {error}"),
            Failure::Bind(error) | Failure::Master(Halt::Bind(error)) => {
                error.fmt(f)?;
                f.write_str(remedy(error.kind()))
            }
            Failure::LogThread(error) => write!(f, "cannot start the thread that writes the logs: {error}"),
            Failure::Master(halt) => halt.fmt(f),
            Failure::Signals(error) => write!(f, "cannot handle signals: {error}"),
            Failure::Serve(error) => write!(f, "the server failed: {error}"),
        }
    }
}

/// What to do about an address that can't be had.
fn remedy(kind: io::ErrorKind) -> &'static str {
    match kind {
        io::ErrorKind::AddrInUse => "; stop the server that is there, or choose another address with --bind",
        io::ErrorKind::PermissionDenied => {
            "; ports below 1024 are for privileged programs: choose another with --bind"
        }
        io::ErrorKind::AddrNotAvailable => {
            "; this machine does not have that address: choose another with --bind"
        }
        _ => "",
    }
}
