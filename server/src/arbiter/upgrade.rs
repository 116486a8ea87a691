//! A new master beside the old one, with the same sockets (SIGUSR2).
//!
//! What it needs to know comes by two environment variables: `GREENSERVE_PID`, the old master's process id, and
//! `GREENSERVE_FD`, which names the descriptors and what each listens on: `4=127.0.0.1:8000,5=unix:/run/x.sock`. With `all` in front
//! they are all to be used, whatever the settings say: they were the service manager's.

use std::env;
use std::ffi::OsString;
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};

use command_fds::{CommandFdExt, FdMapping};

use super::sockets::Sockets;
use crate::config::Bind;
use crate::serve::Listener;

const PID: &str = "GREENSERVE_PID";
const FD: &str = "GREENSERVE_FD";
const ALL: &str = "all";

/// How this program was started, so that it can be started once more.
#[derive(Debug, Clone)]
pub(super) struct Start {
    program: PathBuf,
    args: Vec<OsString>,
    dir: PathBuf,
}

impl Start {
    /// To be called before anything changes the working folder.
    pub(super) fn of_this_program() -> io::Result<Start> {
        let mut args = env::args_os();
        let program = args.next().map(PathBuf::from).unwrap_or_default();
        Ok(Start { program, args: args.collect(), dir: here()? })
    }

    /// Starts it once more, as it is found on the disk now, with the sockets.
    pub(super) fn again(&self, sockets: &Sockets, all: bool) -> io::Result<Child> {
        let mut names = Vec::from_iter(all.then(|| ALL.to_owned()));
        let mut mappings = Vec::new();
        for (number, (bind, socket)) in (FIRST..).zip(sockets.all()) {
            names.push(format!("{number}={bind}"));
            let parent_fd = socket.socket.as_fd().try_clone_to_owned()?;
            mappings.push(FdMapping { parent_fd, child_fd: number });
        }
        let mut command = Command::new(&self.program);
        command
            .args(&self.args)
            .current_dir(&self.dir)
            .env(PID, std::process::id().to_string())
            .env(FD, names.join(","))
            .env_remove("LISTEN_FDS")
            .env_remove("LISTEN_PID")
            .env_remove("LISTEN_FDNAMES")
            // The one that is watched is going to be the new one.
            .env_remove("WATCHDOG_PID");
        command.fd_mappings(mappings).map_err(|_| io::ErrorKind::InvalidInput)?;
        command.spawn()
    }
}

/// Behind the three standard ones.
const FIRST: i32 = 3;

/// The working folder by the name it was entered by: if that is a symbolic link which leads elsewhere by now, that is meant.
fn here() -> io::Result<PathBuf> {
    let real = env::current_dir()?;
    let named = env::var_os("PWD").map(PathBuf::from).filter(|named| named.is_absolute());
    let same = |named: &Path| std::fs::canonicalize(named).ok() == std::fs::canonicalize(&real).ok();
    Ok(named.filter(|named| same(named)).unwrap_or(real))
}

/// What the master has left that started this one by SIGUSR2.
#[derive(Debug)]
pub(super) struct Legacy {
    /// Its process id.
    pub(super) master: u32,
    /// Its sockets.
    pub(super) sockets: Vec<(Bind, Listener)>,
    /// They are to be used whatever the settings say.
    pub(super) all: bool,
}

impl Legacy {
    /// `None`: this is no such start.
    ///
    /// # Errors
    /// A descriptor that is named there does not listen.
    pub(super) fn take() -> io::Result<Option<Legacy>> {
        let master = env::var(PID).ok().and_then(|pid| pid.parse().ok());
        let (Some(master), Ok(named)) = (master, env::var(FD)) else { return Ok(None) };
        // Somebody who was started by hand with an inherited environment has no right to it.
        if std::os::unix::process::parent_id() != master {
            return Ok(None);
        }
        let (mut sockets, mut all) = (Vec::new(), false);
        for part in named.split(',').filter(|part| !part.is_empty()) {
            if part == ALL {
                all = true;
                continue;
            }
            let wrong = || io::Error::new(io::ErrorKind::InvalidInput, format!("{FD}: {part:?}"));
            let (number, bind) = part.split_once('=').ok_or_else(wrong)?;
            let number = number.parse().map_err(|_| wrong())?;
            let bind = bind.parse::<Bind>().map_err(|_| wrong())?;
            sockets.push((bind, Listener::inherited(number)?));
        }
        Ok(Some(Legacy { master, sockets, all }))
    }
}
