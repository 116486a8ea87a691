//! One green thread per connection, all of them on the calling OS thread.

use std::cell::{Cell, RefCell};
use std::fs::File;
use std::io::{self, IoSlice, Read, Write};
use std::net::Shutdown;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream as StdUnixStream;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use greenlet::inspect::Monitor;
use greenlet::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use greenlet::server::{AcceptFailure, Backoff};
use greenlet::{Greenlet, Pool, Slot};
use socket2::{SockRef, Socket};

use super::conn::Conn;
use super::exchange::live;
use super::listen::{Listener, SocketFile};
use super::settings::Settings;
use super::stop::{Registered, Registry, ServerHandle};
use super::threads::addr;
use super::transport::{Transport, between_looks, patiently, with_read_buffer};
use crate::app::{Addr, Handler};

/// Accepts on each listener in a green thread of its own until the server is stopped.
pub(crate) fn serve(
    listeners: Vec<Listener>,
    settings: Arc<Settings>,
    handle: ServerHandle,
    woken: StdUnixStream,
    app: Rc<dyn Handler>,
) -> io::Result<()> {
    let woken = UnixStream::from_std(woken)?;
    let _monitor = settings.blocked_threshold.and_then(monitor);
    let server = Rc::new(Green {
        pool: Pool::new(settings.worker_connections),
        live: Registry::new(),
        failure: RefCell::new(None),
        settings,
        handle,
        app,
    });
    let mut running = Running { server: Rc::clone(&server), listeners: Vec::new(), acceptors: Vec::new() };
    for listener in listeners {
        let listener = Rc::new(GreenListener::new(listener)?);
        running.listeners.push(Rc::clone(&listener));
        let name = format!("accept on {}", listener.addr);
        let server = Rc::clone(&server);
        running.acceptors.push(greenlet::Builder::new().name(name).spawn(move || server.accept(&listener))?);
    }
    while !server.handle.is_stopping() && server.failure.borrow().is_none() {
        (&woken).read_exact(&mut [0])?;
    }
    running.stop()?;
    match server.failure.take() {
        Some(error) => Err(error),
        None => Ok(()),
    }
}

/// Has somebody say who holds up the others. The server serves without, too.
fn monitor(threshold: Duration) -> Option<Monitor> {
    let monitor = greenlet::inspect::watch(threshold);
    monitor.inspect_err(|error| log::warn!("nobody will tell who blocks the server: {error}")).ok()
}

struct Green {
    settings: Arc<Settings>,
    handle: ServerHandle,
    app: Rc<dyn Handler>,
    pool: Pool,
    live: Registry<GreenSocket>,
    /// Why accepting has ended.
    failure: RefCell<Option<io::Error>>,
}

impl Green {
    /// An acceptor's life. Nobody is accepted before there is a place in the pool.
    fn accept(self: &Rc<Self>, listener: &GreenListener) {
        let mut backoff = Backoff::new();
        let error = loop {
            let slot = match self.pool.reserve(None) {
                Ok(slot) => slot,
                Err(error) => break io::Error::from(error),
            };
            match listener.accept() {
                Ok((socket, peer)) => {
                    backoff.succeeded();
                    self.start(slot, socket, peer);
                }
                Err(error) => match AcceptFailure::of(&error) {
                    AcceptFailure::Nobody => {}
                    AcceptFailure::Passing => {
                        log::debug!("a connection was lost before it was accepted: {error}")
                    }
                    AcceptFailure::Exhausted => {
                        let pause = backoff.failed(listener, &error);
                        greenlet::sleep(pause);
                    }
                    AcceptFailure::Fatal => break error,
                },
            }
        };
        let error =
            io::Error::new(error.kind(), format!("can't accept on {} any more: {error}", listener.addr));
        self.failure.replace(Some(error));
        self.handle.wake();
    }

    fn start(self: &Rc<Self>, slot: Slot, socket: GreenSocket, peer: Addr) {
        // A setting of the handle, which can't fail for a time that is not zero.
        let _ = socket.set_write_timeout(Some(self.settings.write_timeout));
        let (server, place) = (Rc::clone(self), self.live.register(socket.clone()));
        let mut caller =
            Box::new(Caller { server, socket, peer, served_any: false, slot: None, _place: place });
        slot.spawn_with(move |slot| {
            caller.slot = Some(slot);
            caller.serve();
        });
    }
}

/// What belongs to a connection besides what serving it needs: all that is kept while it only waits for its next request.
///
/// Boxed, so that it takes no room in the frames under the handler.
struct Caller {
    server: Rc<Green>,
    socket: GreenSocket,
    peer: Addr,
    served_any: bool,
    /// Its place in the pool, once it has been given it.
    slot: Option<Slot>,
    _place: Registered<GreenSocket>,
}

impl Caller {
    /// Serves it in this green thread until it ends or has been waiting for a while.
    fn serve(mut self: Box<Caller>) {
        let conn = self.enter();
        if let Some(wait) = live(&conn, &*self.server.app)
            && self.left(conn)
        {
            self.wait(wait);
        }
    }

    #[inline(never)]
    fn enter(&mut self) -> Rc<Conn<GreenSocket>> {
        let Caller { server, socket, peer, served_any, .. } = self;
        let peer = std::mem::replace(peer, Addr::Unix(None));
        let conn = Conn::new(socket.clone(), peer, Arc::clone(&server.settings), server.handle.clone());
        conn.served_any.set(*served_any);
        conn
    }

    /// Takes back what has to be kept.
    #[inline(never)]
    fn left(&mut self, conn: Rc<Conn<GreenSocket>>) -> bool {
        // Nobody else has it, or `live` had gone on waiting.
        let Some(Conn { peer, served_any, .. }) = Rc::into_inner(conn) else { return false };
        self.peer = peer;
        self.served_any = served_any.get();
        true
    }

    /// Has the hub wait for the next request, without a green thread.
    #[inline(never)]
    fn wait(self: Box<Caller>, wait: Duration) {
        self.slot.iter().for_each(Slot::vacate);
        let socket = self.socket.clone();
        let watched = socket.spawn_when_readable(wait, move |in_time| {
            if in_time {
                self.slot.iter().for_each(Slot::occupy);
                self.serve();
            }
        });
        if let Err(error) = watched {
            log::error!("a connection is closed, for it can't be waited for: {error}");
        }
    }
}

/// What must not go on when `serve` has ended, however it ends.
struct Running {
    server: Rc<Green>,
    listeners: Vec<Rc<GreenListener>>,
    acceptors: Vec<Greenlet<()>>,
}

impl Running {
    fn stop(&mut self) -> io::Result<()> {
        let Green { settings, pool, live, .. } = &*self.server;
        let deadline = Instant::now().checked_add(settings.graceful_timeout);
        let left = || deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        greenlet::kill_all(&self.acceptors, None)?;
        live.end_idle();
        // What the kernel has completed until now would be reset.
        'all: for listener in &self.listeners {
            for _ in 0..settings.backlog {
                let Ok(socket) = SockRef::from(&**listener).accept() else { break };
                let Ok(slot) = pool.reserve(left()) else { break 'all };
                let peer = addr(&socket.1);
                self.server.start(slot, listener.adopt(socket.0)?, peer);
            }
        }
        self.acceptors.clear();
        self.listeners.clear();
        if pool.join(left()).is_err() && !pool.is_empty() {
            log::warn!("{} connections are cut off: the graceful timeout is over", pool.len());
            pool.kill_soon();
            // Their destructors get a moment; what computes without end can't be helped.
            let _ = pool.join(Duration::from_secs(1));
        }
        Ok(())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.acceptors.iter().for_each(|acceptor| acceptor.kill_soon());
        self.server.pool.kill_soon();
        // Those that wait without a green thread.
        self.server.live.end_all();
    }
}

/// A listener of this thread's hub.
struct GreenListener {
    addr: Addr,
    socket: ListenerKind,
    /// Removed after the socket is closed.
    _file: Option<SocketFile>,
}

enum ListenerKind {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl GreenListener {
    fn new(listener: Listener) -> io::Result<GreenListener> {
        let Listener { socket, addr, file } = listener;
        let socket = match addr {
            Addr::Inet(_) => ListenerKind::Tcp(TcpListener::from_std(socket.into())?),
            Addr::Unix(_) => ListenerKind::Unix(UnixListener::from_std(socket.into())?),
        };
        Ok(GreenListener { addr, socket, _file: file })
    }

    fn accept(&self) -> io::Result<(GreenSocket, Addr)> {
        match &self.socket {
            ListenerKind::Tcp(listener) => {
                let (stream, peer) = listener.accept()?;
                Ok((GreenSocket::new(Stream::Tcp(stream)), peer.into()))
            }
            ListenerKind::Unix(listener) => {
                let (stream, peer) = listener.accept()?;
                Ok((GreenSocket::new(Stream::Unix(stream)), peer.into()))
            }
        }
    }

    /// A connection accepted past the hub.
    fn adopt(&self, socket: Socket) -> io::Result<GreenSocket> {
        Ok(GreenSocket::new(match &self.socket {
            ListenerKind::Tcp(_) => Stream::Tcp(TcpStream::from_std(socket.into())?),
            ListenerKind::Unix(_) => Stream::Unix(UnixStream::from_std(socket.into())?),
        }))
    }
}

impl AsFd for GreenListener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.socket {
            ListenerKind::Tcp(listener) => listener.as_fd(),
            ListenerKind::Unix(listener) => listener.as_fd(),
        }
    }
}

/// A socket of this thread's hub.
#[derive(Clone)]
struct GreenSocket(Rc<Watched>);

struct Watched {
    stream: Stream,
    idle: Cell<bool>,
}

enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

/// The same call on either kind.
macro_rules! either {
    ($socket:expr, $stream:ident => $call:expr) => {
        match &$socket.0.stream {
            Stream::Tcp($stream) => $call,
            Stream::Unix($stream) => $call,
        }
    };
}

impl GreenSocket {
    fn new(stream: Stream) -> GreenSocket {
        GreenSocket(Rc::new(Watched { stream, idle: Cell::new(false) }))
    }

    fn spawn_when_readable(&self, wait: Duration, f: impl FnOnce(bool) + 'static) -> io::Result<()> {
        either!(self, stream => stream.spawn_when_readable(wait, f))
    }
}

impl Transport for GreenSocket {
    /// Long enough that a connection in use keeps its thread from one request to the next, and short because those that
    /// have just come and are silent hold one so long: what they take meanwhile is never given back.
    const PATIENCE: Option<Duration> = Some(Duration::from_millis(30));

    fn read(&self, buf: &mut [u8], wait: Duration) -> io::Result<usize> {
        loop {
            match either!(self, stream => stream.try_read(buf)) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                result => return result,
            }
            either!(self, stream => stream.wait_readable(wait))?;
        }
    }

    fn read_with<R>(&self, wait: Duration, take: impl FnOnce(&[u8]) -> R) -> io::Result<R> {
        let mut take = Some(take);
        loop {
            // Given back before the wait: the next one to read is another connection.
            let read: io::Result<Option<R>> = with_read_buffer(|buffer| {
                let count = either!(self, stream => stream.try_read(buffer))?;
                Ok(take.take().map(|take| take(&buffer[..count])))
            });
            match read {
                Ok(Some(result)) => return Ok(result),
                Err(error) if error.kind() != io::ErrorKind::WouldBlock => return Err(error),
                _ => either!(self, stream => stream.wait_readable(wait))?,
            }
        }
    }

    fn set_idle(&self, idle: bool) {
        self.0.idle.set(idle);
    }

    fn is_idle(&self) -> bool {
        self.0.idle.get()
    }

    fn write(&self, buf: &[u8]) -> io::Result<usize> {
        either!(self, stream => patiently(stream, || (&mut &*stream).write(buf)))
    }

    fn try_write(&self, buf: &[u8]) -> io::Result<usize> {
        either!(self, stream => stream.try_write(buf))
    }

    fn when_waiting(f: impl FnOnce() + 'static) {
        // It starts when the hub is next reached.
        drop(greenlet::spawn(f));
    }

    fn write_vectored(&self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        either!(self, stream => patiently(stream, || (&mut &*stream).write_vectored(bufs)))
    }

    fn send_file(&self, file: &File, offset: u64, length: usize) -> io::Result<usize> {
        either!(self, stream => patiently(stream, || stream.send_file(file, offset, length)))
    }

    fn set_write_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        either!(self, stream => stream.set_write_timeout(timeout.map(between_looks)))
    }

    fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        either!(self, stream => stream.shutdown(how))
    }

    fn reset_on_close(&self) {
        let _ = either!(self, stream => SockRef::from(stream).set_linger(Some(Duration::ZERO)));
    }

    fn local_addr(&self) -> Option<Addr> {
        match &self.0.stream {
            Stream::Tcp(stream) => stream.local_addr().ok().map(Addr::from),
            Stream::Unix(stream) => stream.local_addr().ok().map(Addr::from),
        }
    }

    fn yield_now(&self) {
        greenlet::yield_now();
    }

    fn catch<R>(f: impl FnOnce() -> R) -> Result<R, String> {
        greenlet::catch_panic(f).map_err(in_words)
    }

    fn within<R>(limit: Duration, f: impl FnOnce() -> R) -> Option<R> {
        greenlet::timeout(limit, f).ok()
    }
}

#[cold]
fn in_words(panic: greenlet::Panic) -> String {
    panic.to_string()
}
