//! A service manager's side: it hears what a service tells it, by systemd's protocol (sd_notify(3)).

use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use crate::PATIENCE;

/// Hears a service.
#[derive(Debug)]
pub struct Manager {
    socket: UnixDatagram,
    /// What `NOTIFY_SOCKET` is to be.
    name: String,
}

impl Manager {
    /// Hears at a path.
    ///
    /// # Panics
    /// When there can be no socket.
    pub fn at(path: &Path) -> Manager {
        let socket = UnixDatagram::bind(path).expect("a datagram socket");
        Manager { socket, name: path.display().to_string() }
    }

    /// Hears at an abstract name.
    ///
    /// # Panics
    /// When there can be no socket.
    pub fn named() -> Manager {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("gs-manager-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let addr = SocketAddr::from_abstract_name(&name).expect("a short name");
        let socket = UnixDatagram::bind_addr(&addr).expect("a datagram socket");
        Manager { socket, name: format!("@{name}") }
    }

    /// The value of `NOTIFY_SOCKET`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The next message but for signs of life.
    ///
    /// # Panics
    /// When none comes.
    #[track_caller]
    pub fn news(&self) -> String {
        let start = Instant::now();
        loop {
            let message = self.next(PATIENCE).expect("a message");
            if message != "WATCHDOG=1" {
                return message;
            }
            assert!(start.elapsed() < PATIENCE, "nothing but signs of life");
        }
    }

    /// The next message, whatever it says; `None` if there is none for so long.
    pub fn next(&self, wait: Duration) -> Option<String> {
        self.socket.set_read_timeout(Some(wait)).expect("a time that is not zero");
        let mut buffer = [0; 4096];
        match self.socket.recv(&mut buffer) {
            Ok(length) => Some(String::from_utf8_lossy(&buffer[..length]).into_owned()),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => None,
            Err(error) => panic!("no message: {error}"),
        }
    }
}
