//! A new master beside the old one, with the same sockets (SIGUSR2).
//!
//! What it needs to know comes by two environment variables: `GREENSERVE_PID`, the old master's process id, and
//! `GREENSERVE_FD`, which names the descriptors and what each listens on: `4=127.0.0.1:8000,5=unix:/run/x.sock`. With `all` in front
//! they are all to be used, whatever the settings say: they were the service manager's. Those of the metrics' addresses have an
//! `m` before the number.

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
const METRICS: &str = "m";

/// How this program was started, so that it can be started once more.
#[derive(Debug, Clone)]
pub(crate) struct Start {
    /// The program's name first.
    pub(crate) args: Vec<OsString>,
    pub(crate) vars: Vec<(OsString, OsString)>,
    pub(crate) dir: PathBuf,
}

impl Start {
    /// To be called before anything changes the working folder or the environment.
    pub(crate) fn of_this_program() -> io::Result<Start> {
        Ok(Start { args: env::args_os().collect(), vars: env::vars_os().collect(), dir: here()? })
    }

    /// A variable of the environment as it was.
    pub(crate) fn var(&self, name: &str) -> Option<&OsString> {
        self.vars.iter().find(|(known, _)| known == name).map(|(_, value)| value)
    }

    /// Whether this is a new master that an old one has started, by SIGUSR2.
    pub(crate) fn is_upgrade(&self) -> bool {
        let master = self.var(PID).and_then(|pid| pid.to_str()?.parse().ok());
        // Somebody who was started by hand with an inherited environment is none.
        master == Some(std::os::unix::process::parent_id())
    }

    /// Starts it once more, as it is found on the disk now, with the sockets.
    pub(super) fn again(&self, sockets: &Sockets, metrics: &Sockets, all: bool) -> io::Result<Child> {
        let mut names = Vec::from_iter(all.then(|| ALL.to_owned()));
        let mut mappings = Vec::new();
        let both = sockets.all().map(|it| ("", it)).chain(metrics.all().map(|it| (METRICS, it)));
        for (number, (kind, (bind, socket))) in (FIRST..).zip(both) {
            names.push(format!("{kind}{number}={bind}"));
            let parent_fd = socket.socket.as_fd().try_clone_to_owned()?;
            mappings.push(FdMapping { parent_fd, child_fd: number });
        }
        let (program, args) = self.args.split_first().ok_or(io::ErrorKind::InvalidInput)?;
        let mut command = Command::new(program);
        command
            .args(args)
            .current_dir(&self.dir)
            .env_clear()
            .envs(self.vars.iter().map(|(name, value)| (name, value)))
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
    /// Its sockets for numbers and health.
    pub(super) metrics: Vec<(Bind, Listener)>,
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
        let (mut sockets, mut metrics, mut all) = (Vec::new(), Vec::new(), false);
        for part in named.split(',').filter(|part| !part.is_empty()) {
            if part == ALL {
                all = true;
                continue;
            }
            let wrong = || io::Error::new(io::ErrorKind::InvalidInput, format!("{FD}: {part:?}"));
            let (number, bind) = part.split_once('=').ok_or_else(wrong)?;
            let (kind, number) = match number.strip_prefix(METRICS) {
                Some(number) => (&mut metrics, number),
                None => (&mut sockets, number),
            };
            let number = number.parse().map_err(|_| wrong())?;
            let bind = bind.parse::<Bind>().map_err(|_| wrong())?;
            kind.push((bind, Listener::inherited(number)?));
        }
        Ok(Some(Legacy { master, sockets, metrics, all }))
    }
}
