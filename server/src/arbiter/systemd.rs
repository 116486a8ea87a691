//! What systemd is told by a service: how things stand (sd_notify(3)). The protocol is an environment variable and datagrams; no
//! library is needed.
//!
//! systemd listens to a service's main process. Of two masters that is the old one, until it says who comes after it.

use std::env;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::process;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// The way to tell the service manager something. Does nothing where there is none.
#[derive(Debug)]
pub(crate) struct Notify {
    socket: Option<(UnixDatagram, SocketAddr)>,
    /// How often it wants to hear that all is well.
    pub(crate) watchdog: Option<Duration>,
}

impl Notify {
    /// As the environment has it.
    pub(crate) fn new() -> Notify {
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

    /// Whether there is anybody to tell.
    pub(crate) fn is_heard(&self) -> bool {
        self.socket.is_some()
    }

    /// It serves, and how that is.
    pub(crate) fn ready(&self, status: &str) {
        self.tell(&format!("READY=1\nSTATUS={status}"));
    }

    /// This process has taken another's place, and serves.
    pub(super) fn took_over(&self, status: &str) {
        self.tell(&format!("MAINPID={}\nREADY=1\nSTATUS={status}", process::id()));
    }

    /// Another process serves in place of this one, which is about to end.
    pub(super) fn hand_over(&self, successor: u32) {
        self.tell(&format!("MAINPID={successor}\nSTATUS=a new master serves"));
    }

    /// The settings are loaded again, and workers replaced.
    pub(super) fn reloading(&self) {
        let now = clock_gettime(ClockId::Monotonic);
        let micros = now.tv_sec * 1_000_000 + now.tv_nsec / 1000;
        self.tell(&format!("RELOADING=1\nMONOTONIC_USEC={micros}\nSTATUS=workers are replaced"));
    }

    pub(crate) fn stopping(&self) {
        self.tell("STOPPING=1\nSTATUS=requests under way are finished");
    }

    /// All is well.
    pub(crate) fn alive(&self) {
        self.tell("WATCHDOG=1");
    }

    fn tell(&self, what: &str) {
        let Some((socket, addr)) = &self.socket else { return };
        if let Err(error) = socket.send_to_addr(what.as_bytes(), addr) {
            log::debug!("the service manager does not hear: {error}");
        }
    }
}
