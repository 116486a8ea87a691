//! Unix domain sockets. Addresses are std's [`SocketAddr`], abstract ones included.

use std::fmt;
use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::net::Shutdown;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use socket2::{Domain, SockAddr, Socket, Type};

use super::source::Source;
use super::tcp::{listener_close, socket_common, socket_timeouts, stream};
use crate::hub::Direction;

const BACKLOG: i32 = 4096;

/// A stream between two processes of one machine, with the API of [`std::os::unix::net::UnixStream`].
pub struct UnixStream(pub(super) Source);

impl UnixStream {
    /// Connects to the socket at a path. Parks the caller while the listener's backlog is full.
    ///
    /// # Errors
    /// What connect(2) says.
    pub fn connect(path: impl AsRef<Path>) -> io::Result<UnixStream> {
        UnixStream::connect_to(&SockAddr::unix(path)?, None)
    }

    /// As [`connect`](Self::connect), within a time.
    ///
    /// # Errors
    /// `TimedOut`; as [`connect`](Self::connect).
    pub fn connect_timeout(path: impl AsRef<Path>, timeout: Duration) -> io::Result<UnixStream> {
        UnixStream::connect_to(&SockAddr::unix(path)?, Some(timeout))
    }

    /// Connects to an address, which may be abstract.
    ///
    /// # Errors
    /// What connect(2) says.
    pub fn connect_addr(address: &SocketAddr) -> io::Result<UnixStream> {
        UnixStream::connect_to(&sock_addr(address)?, None)
    }

    fn connect_to(address: &SockAddr, timeout: Option<Duration>) -> io::Result<UnixStream> {
        let source = socket(Type::STREAM)?;
        source.connect(address, timeout)?;
        Ok(UnixStream(source))
    }

    /// Two streams that are connected to each other (socketpair(2)).
    ///
    /// # Errors
    /// What socketpair(2) says.
    pub fn pair() -> io::Result<(UnixStream, UnixStream)> {
        let (a, b) = pair(Type::STREAM)?;
        Ok((UnixStream(a), UnixStream(b)))
    }

    /// The address of the other side.
    ///
    /// # Errors
    /// What getpeername(2) says.
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        unix(self.0.socket()?.peer_addr()?)
    }
}

/// A listening unix socket, with the API of [`std::os::unix::net::UnixListener`].
pub struct UnixListener(Source);

impl UnixListener {
    /// Binds to a path, which must not exist, and listens. The file stays when the listener is dropped, as std's
    /// does.
    ///
    /// # Errors
    /// What bind(2) says: `AddrInUse` when the path exists.
    pub fn bind(path: impl AsRef<Path>) -> io::Result<UnixListener> {
        UnixListener::bind_to(&SockAddr::unix(path)?)
    }

    /// Binds to an address, which may be abstract, and listens.
    ///
    /// # Errors
    /// What bind(2) says.
    pub fn bind_addr(address: &SocketAddr) -> io::Result<UnixListener> {
        UnixListener::bind_to(&sock_addr(address)?)
    }

    fn bind_to(address: &SockAddr) -> io::Result<UnixListener> {
        let source = socket(Type::STREAM)?;
        source.socket()?.bind(address)?;
        source.socket()?.listen(BACKLOG)?;
        Ok(UnixListener(source))
    }

    /// Accepts a connection. Parks the caller until there is one; one greenlet at a time may wait.
    ///
    /// # Errors
    /// What accept4(2) says; `NotConnected` once the listener has been closed.
    pub fn accept(&self) -> io::Result<(UnixStream, SocketAddr)> {
        let (source, address) = self.0.accept()?;
        Ok((UnixStream(source), unix(address)?))
    }

    /// Accepts one connection after the other.
    pub fn incoming(&self) -> UnixIncoming<'_> {
        UnixIncoming { listener: self }
    }
}

/// What [`UnixListener::incoming`] returns. Never ends.
#[derive(Debug)]
pub struct UnixIncoming<'a> {
    listener: &'a UnixListener,
}

impl Iterator for UnixIncoming<'_> {
    type Item = io::Result<UnixStream>;

    fn next(&mut self) -> Option<io::Result<UnixStream>> {
        Some(self.listener.accept().map(|(stream, _)| stream))
    }
}

/// A datagram socket between processes of one machine, with the API of [`std::os::unix::net::UnixDatagram`].
pub struct UnixDatagram(pub(super) Source);

impl UnixDatagram {
    /// Binds to a path, which must not exist.
    ///
    /// # Errors
    /// What bind(2) says.
    pub fn bind(path: impl AsRef<Path>) -> io::Result<UnixDatagram> {
        let datagram = UnixDatagram::unbound()?;
        datagram.0.socket()?.bind(&SockAddr::unix(path)?)?;
        Ok(datagram)
    }

    /// A socket without an address, which can send but not be answered.
    ///
    /// # Errors
    /// What socket(2) says.
    pub fn unbound() -> io::Result<UnixDatagram> {
        socket(Type::DGRAM).map(UnixDatagram)
    }

    /// Two sockets that are connected to each other (socketpair(2)).
    ///
    /// # Errors
    /// What socketpair(2) says.
    pub fn pair() -> io::Result<(UnixDatagram, UnixDatagram)> {
        let (a, b) = pair(Type::DGRAM)?;
        Ok((UnixDatagram(a), UnixDatagram(b)))
    }

    /// Fixes the peer.
    ///
    /// # Errors
    /// What connect(2) says.
    pub fn connect(&self, path: impl AsRef<Path>) -> io::Result<()> {
        self.0.socket()?.connect(&SockAddr::unix(path)?)
    }

    /// The peer fixed by [`connect`](Self::connect).
    ///
    /// # Errors
    /// `NotConnected` when there is none.
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        unix(self.0.socket()?.peer_addr()?)
    }

    /// Receives a datagram; what does not fit in `buffer` is lost. Parks the caller.
    ///
    /// # Errors
    /// `TimedOut`; what recv(2) says.
    pub fn recv(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.recv(buffer)
    }

    /// As [`recv`](Self::recv), with the sender's address.
    ///
    /// # Errors
    /// As [`recv`](Self::recv).
    pub fn recv_from(&self, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        let (count, address) = self.0.recv_from(buffer, 0)?;
        Ok((count, unix(address)?))
    }

    /// As [`recv`](Self::recv), but leaves the datagram in the queue.
    ///
    /// # Errors
    /// As [`recv`](Self::recv).
    pub fn peek(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.peek(buffer)
    }

    /// Sends a datagram to the peer. Parks the caller while its queue is full.
    ///
    /// # Errors
    /// `TimedOut`; what send(2) says.
    pub fn send(&self, buffer: &[u8]) -> io::Result<usize> {
        self.0.send(buffer)
    }

    /// Sends a datagram to the socket at a path. Parks the caller while its queue is full.
    ///
    /// # Errors
    /// `TimedOut`; what sendto(2) says.
    pub fn send_to(&self, buffer: &[u8], path: impl AsRef<Path>) -> io::Result<usize> {
        self.0.send_to(buffer, &SockAddr::unix(path)?)
    }
}

macro_rules! local_addr {
    ($($type:ident),*) => {$(
        impl $type {
            /// The address of this side.
            ///
            /// # Errors
            /// What getsockname(2) says.
            pub fn local_addr(&self) -> io::Result<SocketAddr> {
                unix(self.0.socket()?.local_addr()?)
            }
        }
    )*};
}

local_addr!(UnixStream, UnixListener, UnixDatagram);
socket_common!(UnixStream, std::os::unix::net::UnixStream);
socket_common!(UnixListener, std::os::unix::net::UnixListener);
socket_common!(UnixDatagram, std::os::unix::net::UnixDatagram);
stream!(UnixStream);
socket_timeouts!(UnixDatagram);
listener_close!(UnixListener);

fn socket(kind: Type) -> io::Result<Source> {
    Source::new(Socket::new(Domain::UNIX, kind.nonblocking(), None)?.into())
}

fn pair(kind: Type) -> io::Result<(Source, Source)> {
    let (a, b) = Socket::pair(Domain::UNIX, kind.nonblocking(), None)?;
    Ok((Source::new(a.into())?, Source::new(b.into())?))
}

/// std's form of socket2's address. Sockets that were never bound, as most clients', have none: "unnamed".
fn unix(address: SockAddr) -> io::Result<SocketAddr> {
    use std::os::linux::net::SocketAddrExt;

    match (address.as_unix(), address.as_abstract_namespace()) {
        (Some(path), _) => Ok(path),
        (None, Some(name)) => SocketAddr::from_abstract_name(name),
        (None, None) => SocketAddr::from_pathname(""),
    }
}

/// socket2's form of std's address.
fn sock_addr(address: &SocketAddr) -> io::Result<SockAddr> {
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::ffi::OsStrExt;

    if let Some(path) = address.as_pathname() {
        return SockAddr::unix(path);
    }
    match address.as_abstract_name() {
        // A leading NUL is the kernel's mark of an abstract name.
        Some(name) => {
            let name = [b"\0", name].concat();
            SockAddr::unix(Path::new(std::ffi::OsStr::from_bytes(&name)))
        }
        None => Err(io::Error::new(io::ErrorKind::InvalidInput, "the address names no socket")),
    }
}
