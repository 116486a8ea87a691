//! A greenlet for each connection.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::os::unix::net::SocketAddr as UnixAddr;
use std::rc::Rc;
use std::time::Duration;

use super::accept::{AcceptFailure, Backoff};
use super::life::{LAST_MOMENT, Life};
use crate::error::WaitError;
use crate::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use crate::pool::Pool;
use crate::{sleep, spawn, yield_now};

/// What a [`StreamServer`] accepts on: TCP and unix listeners, and whatever wraps one, such as a TLS listener.
pub trait Listen: AsFd + 'static {
    /// A connection.
    type Stream: 'static;
    /// A peer's, or this side's, address.
    type Addr: Clone + fmt::Debug + 'static;

    /// Accepts a connection. Parks the caller until there is one.
    ///
    /// # Errors
    /// What accept4(2) says.
    fn accept(&self) -> io::Result<(Self::Stream, Self::Addr)>;

    /// The address that is listened on.
    ///
    /// # Errors
    /// What getsockname(2) says.
    fn local_addr(&self) -> io::Result<Self::Addr>;
}

impl Listen for TcpListener {
    type Stream = TcpStream;
    type Addr = SocketAddr;

    fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        TcpListener::accept(self)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        TcpListener::local_addr(self)
    }
}

impl Listen for UnixListener {
    type Stream = UnixStream;
    type Addr = UnixAddr;

    fn accept(&self) -> io::Result<(UnixStream, UnixAddr)> {
        UnixListener::accept(self)
    }

    fn local_addr(&self) -> io::Result<UnixAddr> {
        UnixListener::local_addr(self)
    }
}

/// Accepts connections and runs a handler for each, in a greenlet of its own (`gevent.server.StreamServer`). Clones share
/// the server; dropping the last leaves it running.
///
/// The connection is closed when the handler drops it, at the latest when it ends. A handler that panics is logged, and the
/// server goes on.
///
/// **Accepting**: up to [`max_accept`](Self::max_accept) connections are accepted before others get their turn. When there
/// are no descriptors or no memory left (`EMFILE`, `ENFILE`, `ENOBUFS`, `ENOMEM`) it pauses, 10 ms doubling to 1 s, and logs a
/// warning: see [`Backoff`]. Other errors of one connection are passed over. An unusable listener ends the server.
///
/// ```
/// use std::io::{Read, Write};
/// use std::time::Duration;
/// use greenlet::net::{TcpListener, TcpStream};
/// use greenlet::server::StreamServer;
///
/// let server = StreamServer::new(TcpListener::bind("127.0.0.1:0")?, |mut stream: TcpStream, peer| {
///     let _ = writeln!(stream, "hello, {peer}");
/// })?
/// .max_connections(1000);
/// server.start()?; // or server.serve_forever()
///
/// let mut text = String::new();
/// TcpStream::connect(server.local_addr())?.read_to_string(&mut text)?;
/// assert!(text.starts_with("hello, 127.0.0.1:"));
/// server.stop(Duration::from_secs(1))?;
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct StreamServer<L: Listen = TcpListener>(Rc<Inner<L>>);

type Handler<L> = dyn Fn(<L as Listen>::Stream, <L as Listen>::Addr);

struct Inner<L: Listen> {
    /// Gone once the server has been closed.
    listener: RefCell<Option<Rc<L>>>,
    addr: L::Addr,
    handler: Rc<Handler<L>>,
    max_accept: Cell<u32>,
    life: Life,
}

impl<L: Listen> StreamServer<L> {
    /// A server on `listener`, which does not accept yet. Handlers are not bounded: see [`pool`](Self::pool).
    ///
    /// # Errors
    /// What getsockname(2) says.
    pub fn new(listener: L, handler: impl Fn(L::Stream, L::Addr) + 'static) -> io::Result<StreamServer<L>> {
        Ok(StreamServer(Rc::new(Inner {
            addr: listener.local_addr()?,
            listener: RefCell::new(Some(Rc::new(listener))),
            handler: Rc::new(handler),
            max_accept: Cell::new(100),
            life: Life::new(),
        })))
    }

    /// Runs the handlers in a pool (`spawn=pool`), which others may use too. While it is full nobody is accepted: clients wait
    /// in the kernel's queue.
    pub fn pool(self, pool: Pool) -> StreamServer<L> {
        self.0.life.set_pool(pool);
        self
    }

    /// Serves at most so many connections at a time (`spawn=1000`), in a [pool](Self::pool) of its own.
    pub fn max_connections(self, count: usize) -> StreamServer<L> {
        self.pool(Pool::new(count))
    }

    /// How many connections are accepted in a row before others get their turn; at least one. Default 100, as in gevent; 1
    /// where several processes accept on one socket, so that one does not take all.
    pub fn max_accept(self, count: u32) -> StreamServer<L> {
        self.0.max_accept.set(count.max(1));
        self
    }

    /// Begins to accept, in a greenlet of its own, and returns at once (`start`, `start_accepting`). No effect if it does.
    ///
    /// # Errors
    /// `NotConnected` once the server has been stopped or closed; the kernel's error when there is no poller to be had.
    pub fn start(&self) -> io::Result<()> {
        let inner = self.0.clone();
        let name = format!("accept on {:?}", inner.addr);
        self.0.life.start(name, move || inner.accept())
    }

    /// Whether it accepts.
    pub fn is_started(&self) -> bool {
        self.0.life.is_started()
    }

    /// [Starts](Self::start) and waits until another greenlet has [stopped](Self::stop) or [closed](Self::close) the server
    /// (`serve_forever`). Parks the caller. If that is interrupted by a kill or a timeout, the server is stopped, with one
    /// second for its handlers, in a greenlet that nobody waits for.
    ///
    /// # Errors
    /// Why it cannot accept any more; those of [`start`](Self::start); why the wait failed.
    pub fn serve_forever(&self) -> io::Result<()> {
        self.start()?;
        let mut interrupted = Interrupted(Some(self));
        let result = self.0.life.wait();
        interrupted.0 = None;
        result
    }

    /// Stops accepting, and leaves the socket and the handlers as they are (`stop_accepting`): clients wait in the kernel's
    /// queue until the next [`start`](Self::start). Parks the caller until the accepting greenlet has ended.
    ///
    /// # Errors
    /// Why the wait failed; it stops all the same.
    pub fn stop_accepting(&self) -> Result<(), WaitError> {
        self.0.life.stop_accepting()
    }

    /// Stops accepting and closes the socket, waits at most `timeout` (`None`: without end) for the handlers, then kills those
    /// that are left and waits one more second for them (`stop`). Parks the caller. gevent's default is one second. A handler
    /// may stop its own server: it is not waited for.
    ///
    /// Connections that the kernel has completed and that were not accepted are reset.
    ///
    /// # Errors
    /// `TimedOut` when handlers had to be killed; why the wait failed, in which case they are killed too.
    pub fn stop(&self, timeout: impl Into<Option<Duration>>) -> Result<(), WaitError> {
        drop(self.0.listener.take());
        self.0.life.stop(timeout.into())
    }

    /// Stops accepting and closes the socket, in the hub's next turn, and leaves the handlers running (`close`). Never parks.
    pub fn close(&self) {
        drop(self.0.listener.take());
        self.0.life.close();
    }

    /// Whether the server has been stopped or closed, or has failed.
    pub fn is_closed(&self) -> bool {
        self.0.listener.borrow().is_none()
    }

    /// The address that is, or was, listened on: with the port that the kernel chose, if 0 was asked for (`server_port`).
    pub fn local_addr(&self) -> L::Addr {
        self.0.addr.clone()
    }

    /// How many handlers are at work.
    pub fn connections(&self) -> usize {
        self.0.life.handlers()
    }
}

impl<L: Listen> Clone for StreamServer<L> {
    fn clone(&self) -> StreamServer<L> {
        StreamServer(self.0.clone())
    }
}

impl<L: Listen> fmt::Debug for StreamServer<L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StreamServer")
            .field("addr", &self.0.addr)
            .field("started", &self.is_started())
            .field("connections", &self.connections())
            .finish()
    }
}

impl<L: Listen> Inner<L> {
    /// The acceptor's life.
    fn accept(&self) {
        let Some(listener) = self.listener.borrow().clone() else { return };
        let error = self.accept_on(&*listener);
        drop((self.listener.take(), listener));
        self.life
            .fail(io::Error::new(error.kind(), format!("can't accept on {:?} any more: {error}", self.addr)));
    }

    /// Accepts until the listener is unusable. Nobody is accepted before there is a place in the pool.
    fn accept_on(&self, listener: &L) -> io::Error {
        let mut backoff = Backoff::new();
        let mut in_a_row = 0;
        loop {
            let slot = match self.life.reserve() {
                Ok(slot) => slot,
                Err(error) => return error.into(),
            };
            match listener.accept() {
                Ok((stream, peer)) => {
                    backoff.succeeded();
                    let handler = self.handler.clone();
                    self.life.handle(slot, move || handler(stream, peer));
                    in_a_row += 1;
                    if in_a_row >= self.max_accept.get() {
                        in_a_row = 0;
                        yield_now();
                    }
                }
                Err(error) => match AcceptFailure::of(&error) {
                    AcceptFailure::Nobody => {}
                    AcceptFailure::Passing => {
                        log::debug!("a connection was lost before it was accepted: {error}");
                    }
                    AcceptFailure::Exhausted => {
                        // The place is free meanwhile: others may use the pool.
                        drop(slot);
                        sleep(backoff.failed(listener, &error));
                    }
                    AcceptFailure::Fatal => return error,
                },
            }
        }
    }
}

/// What becomes of a server whose `serve_forever` unwinds.
struct Interrupted<'a, L: Listen>(Option<&'a StreamServer<L>>);

impl<L: Listen> Drop for Interrupted<'_, L> {
    fn drop(&mut self) {
        if let Some(server) = self.0.take().cloned() {
            spawn(move || drop(server.stop(LAST_MOMENT)));
        }
    }
}
