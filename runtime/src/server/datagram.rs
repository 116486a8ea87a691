//! A greenlet for each datagram.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::os::unix::net::SocketAddr as UnixAddr;
use std::rc::Rc;
use std::time::Duration;

use super::accept::{AcceptFailure, Backoff};
use super::life::{LAST_MOMENT, Life};
use crate::error::WaitError;
use crate::net::{UdpSocket, UnixDatagram};
use crate::pool::Pool;
use crate::sync::Semaphore;
use crate::{sleep, spawn};

/// What a [`DatagramServer`] receives from.
pub trait DatagramSocket: 'static {
    /// A peer's, or this side's, address.
    type Addr: Clone + fmt::Debug + 'static;

    /// Receives a datagram; what does not fit in `buffer` is lost. Parks the caller.
    ///
    /// # Errors
    /// What recvfrom(2) says.
    fn recv_from(&self, buffer: &mut [u8]) -> io::Result<(usize, Self::Addr)>;

    /// Sends a datagram to a peer. Parks the caller while the send buffer is full.
    ///
    /// # Errors
    /// What sendto(2) says.
    fn send_to(&self, data: &[u8], peer: &Self::Addr) -> io::Result<usize>;

    /// The address that is received on.
    ///
    /// # Errors
    /// What getsockname(2) says.
    fn local_addr(&self) -> io::Result<Self::Addr>;
}

impl DatagramSocket for UdpSocket {
    type Addr = SocketAddr;

    fn recv_from(&self, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        UdpSocket::recv_from(self, buffer)
    }

    fn send_to(&self, data: &[u8], peer: &SocketAddr) -> io::Result<usize> {
        UdpSocket::send_to(self, data, peer)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        UdpSocket::local_addr(self)
    }
}

/// A reply reaches senders that are bound to a path.
impl DatagramSocket for UnixDatagram {
    type Addr = UnixAddr;

    fn recv_from(&self, buffer: &mut [u8]) -> io::Result<(usize, UnixAddr)> {
        UnixDatagram::recv_from(self, buffer)
    }

    fn send_to(&self, data: &[u8], peer: &UnixAddr) -> io::Result<usize> {
        match peer.as_pathname() {
            Some(path) => UnixDatagram::send_to(self, data, path),
            None => Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "the sender is bound to no path: it cannot be answered",
            )),
        }
    }

    fn local_addr(&self) -> io::Result<UnixAddr> {
        UnixDatagram::local_addr(self)
    }
}

/// Receives datagrams and runs a handler for each, in a greenlet of its own (`gevent.server.DatagramServer`). Clones share
/// the server; dropping the last leaves it running.
///
/// A handler that panics is logged, and the server goes on; so it does after errors of single datagrams.
///
/// ```
/// use std::time::Duration;
/// use greenlet::net::UdpSocket;
/// use greenlet::server::{Datagram, DatagramServer};
///
/// let server = DatagramServer::new(UdpSocket::bind("127.0.0.1:0")?, |datagram: Datagram<UdpSocket>| {
///     let _ = datagram.reply(&datagram.data.to_ascii_uppercase());
/// })?;
/// server.start()?;
///
/// let client = UdpSocket::bind("127.0.0.1:0")?;
/// client.send_to(b"ping", server.local_addr())?;
/// let mut answer = [0; 16];
/// let count = client.recv(&mut answer)?;
/// assert_eq!(&answer[..count], b"PING");
/// server.stop(Duration::from_secs(1))?;
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct DatagramServer<S: DatagramSocket = UdpSocket>(Rc<Inner<S>>);

struct Inner<S: DatagramSocket> {
    /// Gone once the server has been closed.
    socket: RefCell<Option<Rc<Shared<S>>>>,
    addr: S::Addr,
    handler: Rc<dyn Fn(Datagram<S>)>,
    max_size: Cell<usize>,
    life: Life,
}

/// What the receiver and the handlers share.
struct Shared<S> {
    socket: S,
    /// One reply at a time may wait for the send buffer.
    sending: Semaphore,
}

/// A datagram that a [`DatagramServer`] has received.
pub struct Datagram<S: DatagramSocket = UdpSocket> {
    /// What it says.
    pub data: Vec<u8>,
    /// Who sent it.
    pub peer: S::Addr,
    shared: Rc<Shared<S>>,
}

impl<S: DatagramSocket> Datagram<S> {
    /// Sends a datagram back (`DatagramServer.sendto`). Parks the caller while the send buffer is full; several replies are
    /// sent one after the other.
    ///
    /// # Errors
    /// What sendto(2) says; why the wait failed.
    pub fn reply(&self, data: &[u8]) -> io::Result<usize> {
        let _turn = self.shared.sending.acquire()?;
        self.shared.socket.send_to(data, &self.peer)
    }
}

impl<S: DatagramSocket> fmt::Debug for Datagram<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Datagram")
            .field("len", &self.data.len())
            .field("peer", &self.peer)
            .finish_non_exhaustive()
    }
}

impl<S: DatagramSocket> DatagramServer<S> {
    /// A server on `socket`, which does not receive yet. Handlers are not bounded: see [`pool`](Self::pool).
    ///
    /// # Errors
    /// What getsockname(2) says.
    pub fn new(socket: S, handler: impl Fn(Datagram<S>) + 'static) -> io::Result<DatagramServer<S>> {
        Ok(DatagramServer(Rc::new(Inner {
            addr: socket.local_addr()?,
            socket: RefCell::new(Some(Rc::new(Shared { socket, sending: Semaphore::new(1) }))),
            handler: Rc::new(handler),
            max_size: Cell::new(65_535),
            life: Life::new(),
        })))
    }

    /// Runs the handlers in a pool (`spawn=pool`), which others may use too. While it is full nothing is received: the kernel
    /// keeps what fits in the socket's buffer, and drops the rest of UDP's.
    pub fn pool(self, pool: Pool) -> DatagramServer<S> {
        self.0.life.set_pool(pool);
        self
    }

    /// Runs at most so many handlers at a time (`spawn=1000`), in a [pool](Self::pool) of its own.
    pub fn max_handlers(self, count: usize) -> DatagramServer<S> {
        self.pool(Pool::new(count))
    }

    /// How many bytes of a datagram are received; the rest of a longer one is lost. Default 65,535, more than any UDP datagram
    /// has (gevent: 8,192). One buffer of this size is allocated when the server starts.
    pub fn max_size(self, bytes: usize) -> DatagramServer<S> {
        self.0.max_size.set(bytes);
        self
    }

    /// Begins to receive, in a greenlet of its own, and returns at once (`start`). No effect if it does.
    ///
    /// # Errors
    /// `NotConnected` once the server has been stopped or closed; the kernel's error when there is no poller to be had.
    pub fn start(&self) -> io::Result<()> {
        let inner = self.0.clone();
        let name = format!("receive on {:?}", inner.addr);
        self.0.life.start(name, move || inner.receive())
    }

    /// Whether it receives.
    pub fn is_started(&self) -> bool {
        self.0.life.is_started()
    }

    /// [Starts](Self::start) and waits until another greenlet has [stopped](Self::stop) or [closed](Self::close) the server
    /// (`serve_forever`). Parks the caller. If that is interrupted by a kill or a timeout, the server is stopped, with one
    /// second for its handlers, in a greenlet that nobody waits for.
    ///
    /// # Errors
    /// Why it cannot receive any more; those of [`start`](Self::start); why the wait failed.
    pub fn serve_forever(&self) -> io::Result<()> {
        self.start()?;
        let mut interrupted = Interrupted(Some(self));
        let result = self.0.life.wait();
        interrupted.0 = None;
        result
    }

    /// Stops receiving, waits at most `timeout` (`None`: without end) for the handlers, then kills those that are left and
    /// waits one more second for them (`stop`). Parks the caller. The socket is closed when the last handler has gone. A handler
    /// may stop its own server: it is not waited for.
    ///
    /// # Errors
    /// `TimedOut` when handlers had to be killed; why the wait failed, in which case they are killed too.
    pub fn stop(&self, timeout: impl Into<Option<Duration>>) -> Result<(), WaitError> {
        drop(self.0.socket.take());
        self.0.life.stop(timeout.into())
    }

    /// Stops receiving, in the hub's next turn, and leaves the handlers running, which may still reply (`close`). Never parks.
    pub fn close(&self) {
        drop(self.0.socket.take());
        self.0.life.close();
    }

    /// Whether the server has been stopped or closed, or has failed.
    pub fn is_closed(&self) -> bool {
        self.0.socket.borrow().is_none()
    }

    /// The address that is, or was, received on: with the port that the kernel chose, if 0 was asked for.
    pub fn local_addr(&self) -> S::Addr {
        self.0.addr.clone()
    }

    /// How many handlers are at work.
    pub fn handlers(&self) -> usize {
        self.0.life.handlers()
    }
}

impl<S: DatagramSocket> Clone for DatagramServer<S> {
    fn clone(&self) -> DatagramServer<S> {
        DatagramServer(self.0.clone())
    }
}

impl<S: DatagramSocket> fmt::Debug for DatagramServer<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DatagramServer")
            .field("addr", &self.0.addr)
            .field("started", &self.is_started())
            .field("handlers", &self.handlers())
            .finish()
    }
}

impl<S: DatagramSocket> Inner<S> {
    /// The receiver's life.
    fn receive(&self) {
        let Some(shared) = self.socket.borrow().clone() else { return };
        let error = self.receive_on(&shared);
        drop((self.socket.take(), shared));
        self.life.fail(io::Error::new(
            error.kind(),
            format!("can't receive on {:?} any more: {error}", self.addr),
        ));
    }

    /// Receives until the socket is unusable. Nothing is received before there is a place in the pool.
    fn receive_on(&self, shared: &Rc<Shared<S>>) -> io::Error {
        let mut buffer = vec![0; self.max_size.get()];
        loop {
            let slot = match self.life.reserve() {
                Ok(slot) => slot,
                Err(error) => return error.into(),
            };
            match shared.socket.recv_from(&mut buffer) {
                Ok((count, peer)) => {
                    let datagram = Datagram { data: buffer[..count].to_vec(), peer, shared: shared.clone() };
                    let handler = self.handler.clone();
                    self.life.handle(slot, move || handler(datagram));
                }
                Err(error) => match AcceptFailure::of(&error) {
                    AcceptFailure::Nobody => {}
                    AcceptFailure::Passing => log::debug!("a datagram was not received: {error}"),
                    AcceptFailure::Exhausted => {
                        log::warn!("can't receive datagrams for now: {error}");
                        drop(slot);
                        sleep(Backoff::LONGEST);
                    }
                    AcceptFailure::Fatal => return error,
                },
            }
        }
    }
}

/// What becomes of a server whose `serve_forever` unwinds.
struct Interrupted<'a, S: DatagramSocket>(Option<&'a DatagramServer<S>>);

impl<S: DatagramSocket> Drop for Interrupted<'_, S> {
    fn drop(&mut self) {
        if let Some(server) = self.0.take().cloned() {
            spawn(move || drop(server.stop(LAST_MOMENT)));
        }
    }
}
