//! Connections that leave HTTP: what a response says to take one over, and what the application gets then.

use std::cell::Cell;
use std::error::Error;
use std::fmt;
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::rc::Rc;
use std::time::Duration;

use ::http::{HeaderValue, StatusCode, header};

use super::body::Kind;
use super::{Addr, Body, IntoResponse, Response};

/// What runs on a connection that was taken over.
pub(crate) type TakeOver = dyn FnOnce(Upgraded) -> io::Result<()>;

impl Response {
    /// Changes the connection to another protocol: `101 Switching Protocols`, and then `run` has the connection for itself
    /// (RFC 9110, 7.8). Further header fields may be added to the response.
    ///
    /// It is sent only to a client that has asked for `protocol`, see
    /// [`Request::upgrade_protocols`](super::Request::upgrade_protocols); any other gets `426 Upgrade Required`. A body of the
    /// request is read away before; one that is too long for that is refused with 400, so a handler that expects a body reads
    /// it. A protocol that is no valid header value is a logged 500.
    ///
    /// `run` is called in the connection's own green thread (or OS thread), in the same scope of `ctxlocal` as the handler and
    /// outside of its request timeout. The connection keeps its place among the server's `worker_connections` and ends when
    /// `run` returns. An error is logged for debugging only, for mostly it says that the client has left; a panic is logged.
    /// The access log gets its line after that, with the number of bytes written.
    ///
    /// ```
    /// use std::io::{self, BufRead, BufReader, Write};
    ///
    /// use greenserve::{Request, Response, Upgraded};
    ///
    /// fn shout(io: Upgraded) -> io::Result<()> {
    ///     for line in BufReader::new(&io).lines() {
    ///         writeln!(&io, "{}", line?.to_uppercase())?;
    ///     }
    ///     Ok(())
    /// }
    ///
    /// fn app(_req: Request) -> Response {
    ///     Response::upgrade("shout/1", shout)
    /// }
    /// ```
    pub fn upgrade(protocol: &str, run: impl FnOnce(Upgraded) -> io::Result<()> + 'static) -> Response {
        let protocol = match HeaderValue::from_str(protocol) {
            Ok(protocol) => protocol,
            Err(error) => return io::Error::other(error).into_response(),
        };
        let mut response = Response::tunnel(run);
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        response.headers_mut().insert(header::UPGRADE, protocol);
        response
    }

    /// Makes the connection a tunnel: the answer to `CONNECT` that lets the client through (RFC 9110, 9.3.6). It is `200` and
    /// nothing else, and then `run` has the connection, as with [`Response::upgrade`]. In answer to any other method it is a
    /// logged 500.
    pub fn tunnel(run: impl FnOnce(Upgraded) -> io::Result<()> + 'static) -> Response {
        Response::new(Body::from(Kind::Upgrade(Box::new(run))))
    }
}

/// A connection that has left HTTP behind: a stream of bytes in both directions, beginning with those that came right behind
/// the request.
///
/// It is a handle: clones are the same connection, and `&Upgraded` reads and writes as well, so that one green thread can
/// read while others write. Only one may read at a time, and only one write: a second one of either gets
/// `ResourceBusy`. The connection ends when the function that was given it returns; clones that are left over fail with
/// `NotConnected` then.
///
/// # When the server stops
/// At a graceful stop a read that waits, or else the next one, fails once with `ConnectionAborted` (see [`Stopping`]). Who
/// does not care ends there, by `?`. Who has something to say goodbye with may do so, and read on, until the graceful
/// timeout is over; then the connection is cut off, and its green thread killed. [`Upgraded::is_stopping`] can be asked
/// at any time.
#[derive(Clone)]
pub struct Upgraded(Rc<Inner>);

struct Inner {
    wire: Rc<dyn Wire>,
    read_timeout: Cell<Option<Duration>>,
    /// A read has said that the server stops.
    has_told: Cell<bool>,
}

impl Upgraded {
    pub(crate) fn new(wire: Rc<dyn Wire>) -> Upgraded {
        Upgraded(Rc::new(Inner { wire, read_timeout: Cell::new(None), has_told: Cell::new(false) }))
    }

    #[cfg(feature = "websocket")]
    pub(crate) fn wire(&self) -> &Rc<dyn Wire> {
        &self.0.wire
    }

    /// The client's address.
    pub fn peer_addr(&self) -> Addr {
        self.0.wire.peer_addr()
    }

    /// The address at which the client reached this server.
    pub fn local_addr(&self) -> Option<Addr> {
        self.0.wire.local_addr()
    }

    /// How long a read may wait before it fails with `TimedOut`. `None`, as it is at first: as long as it takes.
    ///
    /// # Errors
    /// `InvalidInput` for a timeout of zero.
    pub fn set_read_timeout(&self, timeout: impl Into<Option<Duration>>) -> io::Result<()> {
        let timeout = timeout.into();
        not_zero(timeout)?;
        self.0.read_timeout.set(timeout);
        Ok(())
    }

    /// How long a write may wait for room before it fails with `TimedOut`. At first it is the server's `write_timeout`;
    /// `None`: as long as it takes.
    ///
    /// # Errors
    /// `InvalidInput` for a timeout of zero.
    pub fn set_write_timeout(&self, timeout: impl Into<Option<Duration>>) -> io::Result<()> {
        let timeout = timeout.into();
        not_zero(timeout)?;
        self.0.wire.set_write_timeout(timeout)
    }

    /// Closes one direction or both, for all clones. A half-closed connection can still be used the other way.
    ///
    /// # Errors
    /// Those of `shutdown(2)`.
    pub fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        self.0.wire.shutdown(how)
    }

    /// Whether the server is to stop.
    pub fn is_stopping(&self) -> bool {
        self.0.wire.is_stopping()
    }
}

fn not_zero(timeout: Option<Duration>) -> io::Result<()> {
    match timeout {
        Some(Duration::ZERO) => {
            Err(io::Error::new(io::ErrorKind::InvalidInput, "a timeout of zero: None means no timeout"))
        }
        _ => Ok(()),
    }
}

/// Parks until something has come. 0 is the client's end. `TimedOut` after the read timeout, `ConnectionAborted` once when
/// the server stops (see [`Upgraded`]).
impl Read for &Upgraded {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let Inner { wire, read_timeout, has_told } = &*self.0;
        if buf.is_empty() {
            return Ok(0);
        }
        wire.give_way();
        loop {
            if wire.is_stopping() && !has_told.replace(true) {
                return Err(Stopping.into());
            }
            match wire.try_read(buf) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                result => return result,
            }
            wire.wait_readable(read_timeout.get())?;
        }
    }
}

/// Parks while the client takes nothing: `TimedOut` after the write timeout. Nothing is gathered, `flush` does nothing.
impl Write for &Upgraded {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        if buf.is_empty() { Ok(0) } else { self.0.wire.write(buf) }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// As for `&Upgraded`.
impl Read for Upgraded {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        (&*self).read(buf)
    }
}

/// As for `&Upgraded`.
impl Write for Upgraded {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        (&*self).write(buf)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl fmt::Debug for Upgraded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Upgraded").field("peer", &self.peer_addr()).finish_non_exhaustive()
    }
}

/// The server has been told to stop; the inner error of an [`io::Error`] of kind `ConnectionAborted`.
///
/// ```
/// use greenserve::Stopping;
///
/// assert!(Stopping::is(&Stopping.into()));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stopping;

impl Stopping {
    /// Whether that is what the error says.
    pub fn is(error: &io::Error) -> bool {
        error.get_ref().is_some_and(|inner| inner.is::<Stopping>())
    }
}

impl fmt::Display for Stopping {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the server stops")
    }
}

impl Error for Stopping {}

impl From<Stopping> for io::Error {
    fn from(stopping: Stopping) -> io::Error {
        io::Error::new(io::ErrorKind::ConnectionAborted, stopping)
    }
}

/// What an upgraded connection asks of its socket.
pub(crate) trait Wire {
    /// Reads what is there, and never parks.
    fn try_read(&self, buf: &mut [u8]) -> io::Result<usize>;
    /// Parks until there may be something to read or the server begins to stop; `TimedOut`.
    fn wait_readable(&self, timeout: Option<Duration>) -> io::Result<()>;
    /// Ends the present wait to read.
    #[cfg_attr(not(feature = "websocket"), expect(dead_code, reason = "WebSockets alone need it"))]
    fn wake(&self);
    fn write(&self, buf: &[u8]) -> io::Result<usize>;
    /// Writes what there is room for, and never parks.
    #[cfg_attr(not(feature = "websocket"), expect(dead_code, reason = "WebSockets alone need it"))]
    fn try_write(&self, buf: &[u8]) -> io::Result<usize>;
    fn set_write_timeout(&self, timeout: Option<Duration>) -> io::Result<()>;
    fn shutdown(&self, how: Shutdown) -> io::Result<()>;
    fn peer_addr(&self) -> Addr;
    fn local_addr(&self) -> Option<Addr>;
    fn is_stopping(&self) -> bool;
    /// Lets others run now and then.
    fn give_way(&self);
    /// Whether other green threads can go on while this one waits. Not so for an OS thread.
    #[cfg_attr(not(feature = "websocket"), expect(dead_code, reason = "WebSockets alone need it"))]
    fn is_green(&self) -> bool;
}
