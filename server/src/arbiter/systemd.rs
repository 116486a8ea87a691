//! What systemd gives a service, and is told by it: sockets that it has opened (sd_listen_fds(3)), and how things stand
//! (sd_notify(3)). The protocols are environment variables and datagrams; no library is needed for either.

use std::env;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::process;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

use crate::serve::Listener;

/// The first descriptor that is passed.
const FIRST: i32 = 3;

/// The sockets that systemd has opened for this process, in the order of the unit's files. Empty: none, or they are for
/// another process.
///
/// # Errors
/// One of them does not listen.
pub(super) fn sockets() -> io::Result<Vec<Listener>> {
    let number = |name| env::var(name).ok().and_then(|text| text.parse::<u32>().ok());
    let (Some(pid), Some(count)) = (number("LISTEN_PID"), number("LISTEN_FDS")) else {
        return Ok(Vec::new());
    };
    if pid != process::id() {
        return Ok(Vec::new());
    }
    (FIRST..).take(count as usize).map(Listener::inherited).collect()
}

/// The way to tell the service manager something. Does nothing where there is none.
#[derive(Debug)]
pub(super) struct Notify {
    socket: Option<(UnixDatagram, SocketAddr)>,
    /// How often it wants to hear that all is well.
    pub(super) watchdog: Option<Duration>,
}

impl Notify {
    /// As the environment has it.
    pub(super) fn new() -> Notify {
        let socket = env::var_os("NOTIFY_SOCKET").and_then(|name| {
            let addr = match name.as_bytes().strip_prefix(b"@") {
                Some(name) => SocketAddr::from_abstract_name(name),
                None => SocketAddr::from_pathname(&name),
            };
            let unbound = || -> io::Result<_> {
                let socket = UnixDatagram::unbound()?;
                socket.set_nonblocking(true)?;
                Ok((socket, addr?))
            };
            unbound().inspect_err(|error| log::warn!("the service manager can't be told: {error}")).ok()
        });
        let number = |name| env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
        let ours = number("WATCHDOG_PID").is_none_or(|pid| pid == u64::from(process::id()));
        let watchdog = number("WATCHDOG_USEC").filter(|_| ours).map(Duration::from_micros);
        // Half of it leaves room for one that is lost.
        Notify { socket, watchdog: watchdog.map(|every| every / 2).filter(|every| !every.is_zero()) }
    }

    /// Workers serve. With `main`, this process has taken another's place.
    pub(super) fn ready(&self, workers: usize, main: bool) {
        let main = if main { format!("MAINPID={}\n", process::id()) } else { String::new() };
        self.tell(&format!("{main}READY=1\nSTATUS={workers} workers serve"));
    }

    /// The settings are loaded again, and workers replaced.
    pub(super) fn reloading(&self) {
        let now = clock_gettime(ClockId::Monotonic);
        let micros = now.tv_sec * 1_000_000 + now.tv_nsec / 1000;
        self.tell(&format!("RELOADING=1\nMONOTONIC_USEC={micros}\nSTATUS=workers are replaced"));
    }

    pub(super) fn stopping(&self) {
        self.tell("STOPPING=1\nSTATUS=workers finish their requests");
    }

    /// All is well.
    pub(super) fn alive(&self) {
        self.tell("WATCHDOG=1");
    }

    fn tell(&self, what: &str) {
        let Some((socket, addr)) = &self.socket else { return };
        if let Err(error) = socket.send_to_addr(what.as_bytes(), addr) {
            log::debug!("the service manager does not hear: {error}");
        }
    }
}
