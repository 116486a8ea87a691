//! TCP.

use std::fmt;
use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::time::Duration;

use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use super::addr::{ToSocketAddrs, each};
use super::connect::Connector;
use super::source::Source;
use crate::hub::Direction;

/// The backlog of [`TcpListener::bind`]; the kernel caps it at `net.core.somaxconn`.
const BACKLOG: i32 = 4096;

/// A TCP connection, with the API of [`std::net::TcpStream`].
///
/// `Read` and `Write` are there for `&TcpStream` too, so that one greenlet may read while another writes.
pub struct TcpStream(Source);

impl TcpStream {
    /// Connects to the address that answers first ([`std::net::TcpStream::connect`]): [`Connector`] says how several are
    /// tried, and has settings. Names are resolved off the hub. Parks the caller.
    ///
    /// # Errors
    /// As [`Connector::connect`].
    pub fn connect(address: impl ToSocketAddrs) -> io::Result<TcpStream> {
        Connector::new().connect(address)
    }

    /// Connects to one address within a time ([`std::net::TcpStream::connect_timeout`]). Parks the caller.
    ///
    /// # Errors
    /// `TimedOut`; `InvalidInput` for a timeout of zero; what connecting failed with.
    pub fn connect_timeout(address: &SocketAddr, timeout: Duration) -> io::Result<TcpStream> {
        if timeout.is_zero() {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "a timeout of zero leaves no time to connect",
            ));
        }
        let source = socket(address, Type::STREAM, Protocol::TCP)?;
        source.connect(&SockAddr::from(*address), Some(timeout))?;
        Ok(TcpStream(source))
    }

    /// A stream of a socket that is connected.
    pub(super) fn from_source(source: Source) -> TcpStream {
        TcpStream(source)
    }

    /// The address of the other side.
    ///
    /// # Errors
    /// What getpeername(2) says: `NotConnected` when the peer has reset the connection.
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        inet(self.0.socket()?.peer_addr()?)
    }

    /// Whether Nagle's algorithm is off.
    ///
    /// # Errors
    /// What getsockopt(2) says.
    pub fn nodelay(&self) -> io::Result<bool> {
        self.0.socket()?.tcp_nodelay()
    }

    /// Turns Nagle's algorithm off, or on again.
    ///
    /// # Errors
    /// What setsockopt(2) says.
    pub fn set_nodelay(&self, nodelay: bool) -> io::Result<()> {
        self.0.socket()?.set_tcp_nodelay(nodelay)
    }

    /// Sends the urgent-data-free end that `SO_LINGER` asks for: with `Some(0)` closing resets the connection.
    ///
    /// # Errors
    /// What setsockopt(2) says.
    pub fn set_linger(&self, linger: Option<Duration>) -> io::Result<()> {
        self.0.socket()?.set_linger(linger)
    }
}

/// A listening TCP socket, with the API of [`std::net::TcpListener`].
pub struct TcpListener(Source);

impl TcpListener {
    /// Binds to the first address that can be bound, with `SO_REUSEADDR` as std does, and listens.
    ///
    /// # Errors
    /// What resolving or binding the last address failed with.
    pub fn bind(address: impl ToSocketAddrs) -> io::Result<TcpListener> {
        each(address, |address| {
            let source = socket(&address, Type::STREAM, Protocol::TCP)?;
            let socket = source.socket()?;
            socket.set_reuse_address(true)?;
            socket.bind(&address.into())?;
            socket.listen(BACKLOG)?;
            Ok(TcpListener(source))
        })
    }

    /// Accepts a connection. Parks the caller until there is one; one greenlet at a time may wait.
    ///
    /// # Errors
    /// What accept4(2) says, among it `EMFILE`; `NotConnected` once the listener has been closed.
    pub fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        let (source, address) = self.0.accept()?;
        Ok((TcpStream(source), inet(address)?))
    }

    /// Accepts one connection after the other.
    pub fn incoming(&self) -> Incoming<'_> {
        Incoming { listener: self }
    }
}

/// What [`TcpListener::incoming`] returns. Never ends.
#[derive(Debug)]
pub struct Incoming<'a> {
    listener: &'a TcpListener,
}

impl Iterator for Incoming<'_> {
    type Item = io::Result<TcpStream>;

    fn next(&mut self) -> Option<io::Result<TcpStream>> {
        Some(self.listener.accept().map(|(stream, _)| stream))
    }
}

macro_rules! inet_socket {
    ($type:ident, $std:ty) => {
        impl $type {
            /// The address of this side.
            ///
            /// # Errors
            /// What getsockname(2) says.
            pub fn local_addr(&self) -> io::Result<SocketAddr> {
                inet(self.0.socket()?.local_addr()?)
            }

            /// The time to live of the packets sent (`IP_TTL`).
            ///
            /// # Errors
            /// What getsockopt(2) says.
            pub fn ttl(&self) -> io::Result<u32> {
                self.0.socket()?.ttl_v4()
            }

            /// Sets the time to live of the packets sent (`IP_TTL`).
            ///
            /// # Errors
            /// What setsockopt(2) says.
            pub fn set_ttl(&self, ttl: u32) -> io::Result<()> {
                self.0.socket()?.set_ttl_v4(ttl)
            }
        }

        socket_common!($type, $std);
    };
}

/// What all kinds of sockets have.
macro_rules! socket_common {
    ($type:ident, $std:ty) => {
        impl $type {
            /// A second handle to the same open socket, registered on its own, with this one's timeouts. It may be
            /// read by one greenlet while this one is read by another; each gets what it happens to read.
            ///
            /// # Errors
            /// What dup(2) says: too many open files.
            pub fn try_clone(&self) -> io::Result<$type> {
                self.0.try_clone().map($type)
            }

            /// Takes the socket's pending error, if there is one.
            ///
            /// # Errors
            /// What getsockopt(2) says.
            pub fn take_error(&self) -> io::Result<Option<io::Error>> {
                self.0.socket()?.take_error()
            }

            /// With true, calls that would have to wait fail with `WouldBlock` instead of parking the greenlet.
            /// A setting of this handle; the descriptor itself is always non-blocking.
            ///
            /// # Errors
            /// None; the type is std's.
            pub fn set_nonblocking(&self, nonblocking: bool) -> io::Result<()> {
                self.0.set_nonblocking(nonblocking);
                Ok(())
            }

            /// Gives the descriptor away as std's type, in blocking mode.
            ///
            /// # Errors
            /// What fcntl(2) says.
            pub fn into_std(self) -> io::Result<$std> {
                self.0.into_fd().map(<$std>::from)
            }

            /// Takes std's type over and makes it non-blocking.
            ///
            /// # Errors
            /// What fcntl(2) says, and, at the thread's first use of the runtime, why there is no poller.
            pub fn from_std(socket: $std) -> io::Result<$type> {
                Source::adopt(OwnedFd::from(socket)).map($type)
            }
        }

        impl From<$std> for $type {
            /// As `from_std`.
            ///
            /// # Panics
            /// Where `from_std` returns an error.
            fn from(socket: $std) -> $type {
                $type::from_std(socket)
                    .unwrap_or_else(|error| panic!("cannot take a socket over from std: {error}"))
            }
        }

        impl From<$type> for $std {
            /// As `into_std`.
            ///
            /// # Panics
            /// Where `into_std` returns an error.
            fn from(socket: $type) -> $std {
                socket
                    .into_std()
                    .unwrap_or_else(|error| panic!("cannot make a std socket blocking again: {error}"))
            }
        }

        impl AsFd for $type {
            fn as_fd(&self) -> BorrowedFd<'_> {
                self.0.as_fd()
            }
        }

        impl AsRawFd for $type {
            fn as_raw_fd(&self) -> RawFd {
                self.0.as_raw_fd()
            }
        }

        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_struct(stringify!($type)).field("fd", &self.as_raw_fd()).finish()
            }
        }
    };
}

/// What sockets have that send and receive.
macro_rules! socket_timeouts {
    ($type:ident) => {
        impl $type {
            /// How long a read may wait; `None` (the default) is without end.
            ///
            /// # Errors
            /// None; the type is std's.
            pub fn read_timeout(&self) -> io::Result<Option<Duration>> {
                Ok(self.0.timeout(Direction::Read))
            }

            /// How long a write may wait; `None` (the default) is without end.
            ///
            /// # Errors
            /// None; the type is std's.
            pub fn write_timeout(&self) -> io::Result<Option<Duration>> {
                Ok(self.0.timeout(Direction::Write))
            }

            /// Sets how long a read may wait before it fails with `TimedOut`. A setting of this handle, without a
            /// system call.
            ///
            /// # Errors
            /// `InvalidInput` for a timeout of zero, as std's.
            pub fn set_read_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
                self.0.set_timeout(Direction::Read, timeout)
            }

            /// Sets how long a write may wait before it fails with `TimedOut`. A setting of this handle, without a
            /// system call.
            ///
            /// # Errors
            /// `InvalidInput` for a timeout of zero, as std's.
            pub fn set_write_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
                self.0.set_timeout(Direction::Write, timeout)
            }

            /// Closes one or both directions (shutdown(2)); who waits in a closed one wakes.
            ///
            /// # Errors
            /// What shutdown(2) says: `NotConnected`.
            pub fn shutdown(&self, how: Shutdown) -> io::Result<()> {
                self.0.socket()?.shutdown(how)
            }

            /// Closes the socket although others may still hold it: from now on every call on it fails, and those
            /// who wait in one wake with that error (`NotConnected`). The peer sees the connection end. The
            /// descriptor itself goes when the last reference does.
            pub fn close(&self) {
                // A socket that is not connected has nothing to shut down.
                let _ = self.shutdown(Shutdown::Both);
                self.0.close();
            }
        }
    };
}

macro_rules! listener_close {
    ($type:ident) => {
        impl $type {
            /// Stops accepting although others may still hold the listener: from now on every call on it fails,
            /// and who waits in `accept` wakes with that error (`NotConnected`). The descriptor goes, and the
            /// port becomes free, when the last reference does.
            pub fn close(&self) {
                self.0.close();
            }

            /// How long `accept` may wait; `None` (the default) is without end.
            pub fn accept_timeout(&self) -> Option<Duration> {
                self.0.timeout(Direction::Read)
            }

            /// Sets how long `accept` may wait before it fails with `TimedOut` (Python's `settimeout`). A setting of this
            /// handle, without a system call.
            ///
            /// # Errors
            /// `InvalidInput` for a timeout of zero.
            pub fn set_accept_timeout(&self, timeout: impl Into<Option<Duration>>) -> io::Result<()> {
                self.0.set_timeout(Direction::Read, timeout.into())
            }
        }
    };
}

/// What streams have.
macro_rules! stream {
    ($type:ident) => {
        socket_timeouts!($type);

        impl $type {
            /// Reads without taking the bytes out (`MSG_PEEK`). Parks the caller.
            ///
            /// # Errors
            /// As `read`.
            pub fn peek(&self, buffer: &mut [u8]) -> io::Result<usize> {
                self.0.peek(buffer)
            }

            /// Reads what is there. Never parks, whatever the timeouts, nor gives way to others: many sockets can
            /// share one buffer that is borrowed for the length of this call only.
            ///
            /// # Errors
            /// `WouldBlock` when nothing is there; else as `read`.
            pub fn try_read(&self, buffer: &mut [u8]) -> io::Result<usize> {
                self.0.try_read_stream(buffer)
            }

            /// Writes what there is room for. Never parks, whatever the timeouts, nor gives way to others.
            ///
            /// # Errors
            /// `WouldBlock` when there is no room; else as `write`.
            pub fn try_write(&self, buffer: &[u8]) -> io::Result<usize> {
                self.0.try_send(buffer)
            }

            /// As [`try_write`](Self::try_write), from several buffers.
            ///
            /// # Errors
            /// As [`try_write`](Self::try_write).
            pub fn try_write_vectored(&self, buffers: &[IoSlice<'_>]) -> io::Result<usize> {
                self.0.try_send_vectored(buffers)
            }

            /// Parks until there may be room to write, for at most the socket's write timeout. For those who write by
            /// [`try_write`](Self::try_write), which must have found none.
            ///
            /// # Errors
            /// `TimedOut`; `NotConnected` once the socket was closed.
            pub fn wait_writable(&self) -> io::Result<()> {
                self.0.wait_writable()
            }

            /// Parks until there may be something to read: data, the peer's end or an error. What was read before is
            /// no longer there, so ask [`try_read`](Self::try_read) first.
            ///
            /// Meant for waits that mostly end long before their timeout, such as those between two requests: it
            /// needs no timer of its own.
            ///
            /// # Errors
            /// `TimedOut`; `ResourceBusy` when another reader waits; `NotConnected` once the socket was closed.
            pub fn wait_readable(&self, timeout: impl Into<Option<Duration>>) -> io::Result<()> {
                self.0.wait_readable(timeout.into())
            }

            /// Has those who wait on this socket look again: a [`wait_readable`](Self::wait_readable) returns as if there were
            /// something to read, while a read or write that waits finds that nothing has changed and waits on. Nothing happens
            /// if nobody waits.
            ///
            /// It tells a reader of something else than data: have it look at a flag before it waits, set that, then call this.
            pub fn wake_waiting(&self) {
                self.0.wake_waiting();
            }

            /// Has `f` run in a new greenlet as soon as there may be something to read, and then tells it true, or
            /// when `timeout` is over (`None`: never): false. Returns at once.
            ///
            /// Until then there is no greenlet and no stack, only what `f` holds: the way to keep a great many
            /// connections that say nothing. `f` is this socket's one reader meanwhile. It should own the socket: when
            /// that is dropped before, so is `f`, without having run. [`close`](Self::close) makes it run. Who waits
            /// for something else meanwhile, in main say, waits on: this counts as something that can still happen.
            ///
            /// ```
            /// use std::io::{Read, Write};
            /// use std::rc::Rc;
            /// use std::time::Duration;
            ///
            /// let (ours, theirs) = greenlet::net::UnixStream::pair()?;
            /// let (ours, done) = (Rc::new(ours), Rc::new(greenlet::sync::Event::new()));
            /// let (socket, finished) = (ours.clone(), done.clone());
            /// ours.spawn_when_readable(Duration::from_secs(60), move |in_time| {
            ///     assert!(in_time);
            ///     let mut buffer = [0; 8];
            ///     assert_eq!((&*socket).read(&mut buffer).unwrap(), 5);
            ///     finished.set();
            /// })?;
            /// (&theirs).write_all(b"hello")?;
            /// done.wait().unwrap();
            /// # Ok::<(), std::io::Error>(())
            /// ```
            ///
            /// # Errors
            /// `ResourceBusy` when another reader waits; `NotConnected` once the socket was closed; and why the poller
            /// did not take it. `f` is dropped then.
            pub fn spawn_when_readable(
                &self,
                timeout: impl Into<Option<Duration>>,
                f: impl FnOnce(bool) + 'static,
            ) -> io::Result<()> {
                self.0.spawn_when_readable(timeout.into(), Box::new(f))
            }

            /// Sends up to `len` bytes of a file from `offset` on, at most 1 MiB a call, without copying them
            /// through the process (sendfile(2)); returns how many were sent, 0 at the file's end. Parks the
            /// caller while the peer does not read; waits for the disk block the hub.
            ///
            /// # Errors
            /// `TimedOut`; what sendfile(2) says.
            pub fn send_file(&self, file: &std::fs::File, offset: u64, len: usize) -> io::Result<usize> {
                self.0.send_file(file.as_fd(), offset, len)
            }
        }

        impl Read for &$type {
            fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
                self.0.read_stream(buffer)
            }

            fn read_vectored(&mut self, buffers: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
                self.0.read_stream_vectored(buffers)
            }
        }

        impl Write for &$type {
            fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
                self.0.send(buffer)
            }

            fn write_vectored(&mut self, buffers: &[IoSlice<'_>]) -> io::Result<usize> {
                self.0.send_vectored(buffers)
            }

            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }

        impl Read for $type {
            fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
                (&*self).read(buffer)
            }

            fn read_vectored(&mut self, buffers: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
                (&*self).read_vectored(buffers)
            }
        }

        impl Write for $type {
            fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
                (&*self).write(buffer)
            }

            fn write_vectored(&mut self, buffers: &[IoSlice<'_>]) -> io::Result<usize> {
                (&*self).write_vectored(buffers)
            }

            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
    };
}

pub(super) use {inet_socket, listener_close, socket_common, socket_timeouts, stream};

inet_socket!(TcpStream, std::net::TcpStream);
inet_socket!(TcpListener, std::net::TcpListener);
stream!(TcpStream);
listener_close!(TcpListener);

/// A non-blocking socket for an address.
pub(super) fn socket(address: &SocketAddr, kind: Type, protocol: Protocol) -> io::Result<Source> {
    let socket = Socket::new(Domain::for_address(*address), kind.nonblocking(), Some(protocol))?;
    Source::new(socket.into())
}

pub(super) fn inet(address: SockAddr) -> io::Result<SocketAddr> {
    address.as_socket().ok_or_else(|| {
        io::Error::new(io::ErrorKind::InvalidData, "the kernel returned an address that is not IPv4 or IPv6")
    })
}
