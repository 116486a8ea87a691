//! Connecting to a host that has several addresses: "Happy Eyeballs" (RFC 8305).
//!
//! All attempts are made by the one greenlet that calls: each is a socket that connects by itself, and the greenlet
//! waits for the first of them. So a kill leaves no attempt behind.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use socket2::{Protocol, SockAddr, SockRef, Type};

use super::addr::ToSocketAddrs;
use super::poll::{PollFd, poll};
use super::source::Source;
use super::tcp::{TcpStream, socket};
use crate::error::WaitError;
use crate::hub::{Direction, Hub, Moment};

/// Connects to a host by TCP, within `timeout` (`None`: as long as the kernel tries), the look-up of its name
/// included. gevent's `socket.create_connection`; [`Connector`] has further settings.
///
/// A host with several addresses is tried at all of them, as [`Connector`] says.
///
/// ```
/// use std::time::Duration;
/// use greenlet::net::{TcpListener, create_connection};
///
/// let listener = TcpListener::bind("127.0.0.1:0")?;
/// let port = listener.local_addr()?.port();
/// let stream = create_connection(("localhost", port), Duration::from_secs(60))?;
/// assert_eq!(stream.peer_addr()?.port(), port);
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// # Errors
/// As [`Connector::connect`].
pub fn create_connection(
    address: impl ToSocketAddrs,
    timeout: impl Into<Option<Duration>>,
) -> io::Result<TcpStream> {
    Connector { timeout: timeout.into(), ..Connector::new() }.connect(address)
}

/// Connects to hosts by TCP: settings for [`connect`](Self::connect).
///
/// Several addresses are tried as RFC 8305 (Happy Eyeballs v2) has it: in the resolver's order, but with the address
/// families taking turns; the next attempt begins as soon as one fails, or after
/// [`attempt_delay`](Self::attempt_delay) while earlier ones still try; the first to connect wins and the others are
/// closed. Other than there, both families come from one look-up, so none begins before both are known.
///
/// ```
/// use std::time::Duration;
/// use greenlet::net::{Connector, TcpListener};
///
/// let listener = TcpListener::bind("127.0.0.1:0")?;
/// let stream = Connector::new()
///     .timeout(Duration::from_secs(60))
///     .source_address("127.0.0.2:0".parse().unwrap())
///     .connect(listener.local_addr()?)?;
/// assert_eq!(stream.local_addr()?.ip().to_string(), "127.0.0.2");
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Connector {
    timeout: Option<Duration>,
    attempt_delay: Duration,
    source_address: Option<SocketAddr>,
}

impl Connector {
    /// The bounds of RFC 8305, section 5 and 8.
    const DELAYS: (Duration, Duration) = (Duration::from_millis(10), Duration::from_secs(2));

    /// No timeout, 250 ms between attempts, any source address.
    pub fn new() -> Connector {
        Connector { timeout: None, attempt_delay: Duration::from_millis(250), source_address: None }
    }

    /// The time for all of it, from the look-up of the name to the connection. `None`, the default: as long as the
    /// resolver and the kernel try, which may be minutes.
    #[must_use]
    pub fn timeout(mut self, timeout: impl Into<Option<Duration>>) -> Connector {
        self.timeout = timeout.into();
        self
    }

    /// How long an attempt goes on alone before the next address is tried beside it (RFC 8305's Connection Attempt
    /// Delay). 250 ms by default; from 10 ms, below which a network could be flooded, to 2 s.
    #[must_use]
    pub fn attempt_delay(mut self, delay: Duration) -> Connector {
        self.attempt_delay = delay;
        self
    }

    /// Connects from this address (gevent's `source_address`); port 0 is any. Addresses of the other family are left
    /// out.
    #[must_use]
    pub fn source_address(mut self, address: SocketAddr) -> Connector {
        self.source_address = Some(address);
        self
    }

    /// Connects. Parks the caller.
    ///
    /// # Errors
    /// What resolving the name failed with; else a [`ConnectError`], which names every attempt (of kind `TimedOut` when
    /// the time was over, else of the last failure's kind). `InvalidInput` for a timeout of zero, an `attempt_delay` out
    /// of bounds, and when the name has no address, or none of the source address's family.
    pub fn connect(&self, address: impl ToSocketAddrs) -> io::Result<TcpStream> {
        self.check()?;
        let hub = Hub::try_get()?;
        let deadline = self.timeout.and_then(|timeout| hub.deadline(timeout));
        let resolve = || address.to_socket_addrs().map(Vec::from_iter);
        let addresses = match self.timeout {
            Some(timeout) => crate::timeout(timeout, resolve).map_err(|_| {
                let what = format!("the name was not resolved within the {timeout:?} given to connect");
                io::Error::new(io::ErrorKind::TimedOut, what)
            })??,
            None => resolve()?,
        };
        let addresses = self.usable(interleave(addresses))?;
        let attempts = Attempts {
            connector: self,
            hub,
            waiting: addresses.into(),
            open: Vec::new(),
            failed: Vec::new(),
        };
        attempts.run(deadline)
    }

    fn check(&self) -> io::Result<()> {
        let (least, most) = Connector::DELAYS;
        let what = if self.timeout == Some(Duration::ZERO) {
            "a timeout of zero leaves no time to connect: use None for no timeout".to_owned()
        } else if !(least..=most).contains(&self.attempt_delay) {
            format!(
                "an attempt_delay of {:?} is out of bounds: from {least:?} to {most:?}",
                self.attempt_delay
            )
        } else {
            return Ok(());
        };
        Err(io::Error::new(io::ErrorKind::InvalidInput, what))
    }

    /// The addresses that can be reached from the source address.
    fn usable(&self, mut addresses: Vec<SocketAddr>) -> io::Result<Vec<SocketAddr>> {
        let what = match self.source_address {
            _ if addresses.is_empty() => "the name has no address to connect to".to_owned(),
            Some(source) => {
                addresses.retain(|address| address.is_ipv4() == source.is_ipv4());
                let family = if source.is_ipv4() { "IPv4" } else { "IPv6" };
                format!("the name has no {family} address, so it cannot be reached from {source}")
            }
            None => String::new(),
        };
        if addresses.is_empty() {
            Err(io::Error::new(io::ErrorKind::InvalidInput, what))
        } else {
            Ok(addresses)
        }
    }

    /// A socket to connect with.
    fn socket(&self, address: &SocketAddr) -> io::Result<Source> {
        let source = socket(address, Type::STREAM, Protocol::TCP)?;
        if let Some(from) = self.source_address {
            let socket = SockRef::from(&source);
            // Several attempts from one port would else exclude each other.
            socket.set_reuse_address(from.port() != 0)?;
            socket.bind(&from.into())?;
        }
        Ok(source)
    }
}

impl Default for Connector {
    fn default() -> Connector {
        Connector::new()
    }
}

/// Why no address of a host could be connected to: found in the [`io::Error`] of [`Connector::connect`].
#[derive(Debug)]
pub struct ConnectError {
    attempts: Vec<(SocketAddr, io::Error)>,
    /// Those not tried before the time was over.
    untried: usize,
}

impl ConnectError {
    /// Each attempt and why it failed, in the order in which they ended.
    pub fn attempts(&self) -> &[(SocketAddr, io::Error)] {
        &self.attempts
    }
}

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("cannot connect to ")?;
        for (index, (address, error)) in self.attempts.iter().enumerate() {
            write!(f, "{}{address}: {error}", if index == 0 { "" } else { "; nor to " })?;
        }
        match self.untried {
            0 => Ok(()),
            more => write!(f, "; {more} more were not tried in time"),
        }
    }
}

impl std::error::Error for ConnectError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.attempts.last().map(|(_, error)| error as _)
    }
}

/// The attempts to reach one host.
struct Attempts<'a> {
    connector: &'a Connector,
    hub: &'static Hub,
    waiting: VecDeque<SocketAddr>,
    /// Those under way, oldest first.
    open: Vec<(SocketAddr, Source)>,
    failed: Vec<(SocketAddr, io::Error)>,
}

impl Attempts<'_> {
    fn run(mut self, deadline: Option<Moment>) -> io::Result<TcpStream> {
        while let Some(address) = self.waiting.pop_front() {
            match self.begin(&address) {
                Ok((source, true)) => return Ok(TcpStream::from_source(source)),
                Ok((source, false)) => self.open.push((address, source)),
                Err(error) => {
                    self.failed.push((address, error));
                    continue;
                }
            }
            let delay = || self.hub.deadline(self.connector.attempt_delay);
            let delay = if self.waiting.is_empty() { None } else { delay() };
            let until = [deadline, delay].into_iter().flatten().min();
            if let Some(stream) = self.first(until)? {
                return Ok(stream);
            }
            if deadline.is_some_and(|deadline| self.hub.now() >= deadline) {
                break;
            }
        }
        while !self.open.is_empty() && deadline.is_none_or(|deadline| self.hub.now() < deadline) {
            if let Some(stream) = self.first(deadline)? {
                return Ok(stream);
            }
        }
        Err(self.error())
    }

    /// Begins to connect to one address; true when that was all.
    fn begin(&self, address: &SocketAddr) -> io::Result<(Source, bool)> {
        let source = self.connector.socket(address)?;
        let done = source.start_connect(&SockAddr::from(*address))?;
        Ok((source, done))
    }

    /// Waits until one has connected, one has failed, or the time is over (`None` for both).
    fn first(&mut self, until: Option<Moment>) -> io::Result<Option<TcpStream>> {
        loop {
            if !self.wait(until)? {
                return Ok(None);
            }
            let before = self.open.len();
            for (address, source) in std::mem::take(&mut self.open) {
                match source.connected() {
                    Ok(true) => return Ok(Some(TcpStream::from_source(source))),
                    Ok(false) => self.open.push((address, source)),
                    Err(error) => self.failed.push((address, error)),
                }
            }
            if self.open.len() < before {
                return Ok(None);
            }
        }
    }

    /// Parks until one of the sockets has something to say; false when the time is over first.
    fn wait(&self, until: Option<Moment>) -> io::Result<bool> {
        // In most cases there is one, which needs no set.
        if let [(_, source)] = &*self.open {
            return match source.wait(Direction::Write, until) {
                Err(error) if error.kind() == io::ErrorKind::TimedOut => Ok(false),
                other => other.map(|()| true),
            };
        }
        let left = until.map(|until| until.since(self.hub.now()));
        let mut sockets: Vec<_> = self.open.iter().map(|(_, source)| PollFd::new(source).write()).collect();
        Ok(poll(&mut sockets, left)? > 0)
    }

    fn error(mut self) -> io::Error {
        let late = !(self.open.is_empty() && self.waiting.is_empty());
        for (address, _) in self.open {
            self.failed.push((address, WaitError::TimedOut.into()));
        }
        let kind = match self.failed.last() {
            Some((_, error)) if !late => error.kind(),
            _ => io::ErrorKind::TimedOut,
        };
        io::Error::new(kind, ConnectError { attempts: self.failed, untried: self.waiting.len() })
    }
}

/// The families take turns, beginning with the first address's (RFC 8305, section 4).
fn interleave(addresses: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let Some(first) = addresses.first().map(SocketAddr::is_ipv4) else { return addresses };
    let (one, other): (Vec<_>, Vec<_>) =
        addresses.into_iter().partition(|address| address.is_ipv4() == first);
    let (mut mixed, mut other) = (Vec::with_capacity(one.len() + other.len()), other.into_iter());
    for address in one {
        mixed.push(address);
        mixed.extend(other.next());
    }
    mixed.extend(other);
    mixed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_families_take_turns_from_the_first_addresses_on() {
        let addresses = |text: &str| -> Vec<SocketAddr> {
            text.split_whitespace().map(|address| address.parse().unwrap()).collect()
        };
        for (given, tried) in [
            ("", ""),
            ("10.0.0.1:1 10.0.0.2:1", "10.0.0.1:1 10.0.0.2:1"),
            ("[::1]:1 [::2]:1 10.0.0.1:1 10.0.0.2:1", "[::1]:1 10.0.0.1:1 [::2]:1 10.0.0.2:1"),
            ("10.0.0.1:1 [::1]:1 [::2]:1 [::3]:1", "10.0.0.1:1 [::1]:1 [::2]:1 [::3]:1"),
            ("[::1]:1 [::2]:1 [::3]:1 10.0.0.1:1", "[::1]:1 10.0.0.1:1 [::2]:1 [::3]:1"),
        ] {
            assert_eq!(interleave(addresses(given)), addresses(tried), "{given}");
        }
    }
}
