//! One OS thread per connection, or one for all of them in turn: the counterpart to which the green threads are compared,
//! with the same code for the connection's life.

use std::any::Any;
use std::cell::Cell;
use std::fs::File;
use std::io::{self, IoSlice, Read, Write};
use std::net::Shutdown;
use std::num::NonZeroUsize;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use greenlet::server::{AcceptFailure, Backoff};
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::net::{RecvFlags, recv};
use socket2::{SockAddr, Socket};

use super::arrive::{Arrival, Ends, arrive};
use super::conn::Conn;
use super::exchange::live;
use super::insight::{Blind, Insight, Seen, State};
use super::listen::{HANDSHAKE, Listener};
use super::settings::Settings;
use super::stop::{Registered, Registry, ServerHandle};
use super::transport::{Transport, between_looks, has_left, patiently, with_read_buffer};
use super::watch::{COURTESY, PULSE};
use crate::app::{Addr, Handler, Leaving, Request, Response};
use crate::http::ProxyProtocol;
use crate::metrics::Meter;

/// Accepts on all listeners in this thread until the server is stopped, and waits for the connections' threads.
pub(crate) fn serve(
    listeners: Vec<Listener>,
    settings: Arc<Settings>,
    handle: ServerHandle,
    woken: UnixStream,
    app: Arc<dyn Handler + Send + Sync>,
    runs: Runs,
) -> io::Result<()> {
    woken.set_nonblocking(true)?;
    let live = Registry::new(settings.meter.clone());
    let turns =
        settings.threads.filter(|_| runs == Runs::Beside).map(|most| Arc::new(Turns::new(most.get())));
    let server = Threads {
        settings,
        handle,
        app,
        runs,
        live,
        waiting: Arc::new(AtomicBool::new(false)),
        turns,
        turned: Cell::new(None),
    };
    let mut backoff = Backoff::new();
    if let Some(meter) = &server.settings.meter {
        meter.accepts(server.settings.worker_connections);
    }
    if let Some(watch) = &server.settings.watch {
        watch.shows(None, Arc::new(Look(server.live.clone())));
        watch.accepts();
    }
    while !server.handle.is_stopping() {
        let ready = wait(&listeners, &woken, server.is_full(), server.pulse())?;
        server.waiting.store(false, Ordering::SeqCst);
        if let Some(watch) = &server.settings.watch
            && watch.has_more(server.live.len())
            && !ready.is_empty()
        {
            std::thread::sleep(COURTESY);
        }
        for index in ready {
            // One each, so that no listener starves the others and the pool is looked at in between.
            match listeners[index].socket.accept() {
                Ok((socket, peer)) => {
                    backoff.succeeded();
                    server.start(&listeners[index], socket, peer);
                }
                Err(error) => match AcceptFailure::of(&error) {
                    AcceptFailure::Nobody => {}
                    AcceptFailure::Passing => {
                        log::debug!("a connection was lost before it was accepted: {error}")
                    }
                    AcceptFailure::Exhausted => {
                        std::thread::sleep(backoff.failed(&listeners[index].socket, &error))
                    }
                    AcceptFailure::Fatal => return Err(error),
                },
            }
        }
    }
    server.settings.meter.iter().for_each(Meter::stops);
    server.stop(listeners, &woken)
}

/// The connections can be looked at from any thread, but for what only their own threads know.
struct Look(Registry<ThreadSocket>);

impl Insight for Look {
    fn answers(&self, _: Duration) -> Result<(), Blind> {
        Ok(())
    }

    fn connections(&self, _: Duration) -> Result<Vec<Seen>, Blind> {
        Ok(self.0.map(|socket| Seen {
            peer: socket.0.socket.peer_addr().ok().map(|peer| addr(&peer).to_string()),
            state: match (socket.0.woken.get(), socket.is_idle()) {
                (Some(_), _) => State::Upgraded,
                (None, true) => State::Idle,
                (None, false) => State::Busy,
            },
            since: None,
            waits: None,
            requests: None,
            request: None,
        }))
    }

    fn greenlets(&self, _: Duration) -> Result<Vec<greenlet::inspect::Info>, Blind> {
        Err(Blind::NotGreen)
    }

    fn stacks(&self, _: usize, _: Duration) -> Result<String, Blind> {
        Err(Blind::NotGreen)
    }
}

/// Where a connection is served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Runs {
    /// In a thread of its own.
    Beside,
    /// In the accepting thread, which accepts nobody else meanwhile.
    Here,
}

struct Threads {
    settings: Arc<Settings>,
    handle: ServerHandle,
    app: Arc<dyn Handler + Send + Sync>,
    runs: Runs,
    live: Registry<ThreadSocket>,
    /// The accepting thread waits for something to end.
    waiting: Arc<AtomicBool>,
    /// If not all may have their requests handled at once.
    turns: Option<Arc<Turns>>,
    /// When it was last shown that this thread lives.
    turned: Cell<Option<Instant>>,
}

impl Threads {
    /// Whether nobody may be accepted; then the end of a connection is a wake-up.
    fn is_full(&self) -> bool {
        let full = || self.live.len() >= self.settings.worker_connections;
        full() && {
            self.waiting.store(true, Ordering::SeqCst);
            // One may have ended before it saw that.
            full()
        }
    }

    /// Shows that the accepting thread lives; gives how long it may wait until it has to do so again.
    fn pulse(&self) -> Option<Duration> {
        let Settings { watch, meter, .. } = &*self.settings;
        if watch.is_none() && meter.is_none() {
            return None;
        }
        let now = Instant::now();
        let due = self.turned.get().map_or(now, |turned| turned + PULSE);
        if due > now {
            return Some(due - now);
        }
        watch.iter().for_each(|watch| watch.turns());
        if let Some(meter) = meter {
            meter.is_ready(self.handle.is_ready());
            meter.turns();
        }
        self.turned.set(Some(now));
        Some(PULSE)
    }

    fn start(
        &self,
        #[cfg_attr(not(feature = "tls"), expect(unused))] listener: &Listener,
        socket: Socket,
        peer: SockAddr,
    ) {
        let socket = ThreadSocket(Arc::new(Blocking {
            socket,
            idle: AtomicBool::new(false),
            read_timeout: AtomicU64::new(0),
            woken: OnceLock::new(),
            turn: Mutex::new(None),
        }));
        let place = self.live.register(socket.clone());
        let (settings, handle, app) =
            (Arc::clone(&self.settings), self.handle.clone(), Arc::clone(&self.app));
        let ending =
            Ending { place: Some(place), waiting: Arc::clone(&self.waiting), handle: handle.clone() };
        let peer = addr(&peer);
        let accepted = self.settings.meter.as_ref().map(|_| Instant::now());
        #[cfg(feature = "tls")]
        let tls = listener.tls.clone();
        let name = format!("connection {peer}");
        let app = InTurn { app, turns: self.turns.clone(), socket: socket.clone() };
        let serve = move || {
            let _ending = ending;
            settings.has_waited(accepted);
            let mut ends = Ends::Socket(peer);
            if settings.proxy_protocol != ProxyProtocol::Off {
                match arrive(&socket, ends.peer(), &settings, &handle, false) {
                    Arrival::Here(found) => ends = found,
                    Arrival::Silent(_) | Arrival::Gone => return,
                }
            }
            #[cfg(feature = "tls")]
            if let Some(tls) = tls {
                if let Some(socket) = super::tls::accept(&socket, &ends, &tls, &settings, &handle) {
                    live(&Conn::new(socket, ends, settings, handle), &app);
                }
                return;
            }
            if socket.set_write_timeout(Some(settings.write_timeout)).is_ok() {
                live(&Conn::new(socket, ends, settings, handle), &app);
            }
        };
        if self.runs == Runs::Here {
            // What panics outside of a handler would end its own thread, and no other.
            let _ = catch_unwind(AssertUnwindSafe(serve));
            return;
        }
        let spawned = std::thread::Builder::new().name(name).spawn(serve);
        if let Err(error) = spawned {
            log::error!("can't start a thread for a connection, which is closed: {error}");
        }
    }

    fn stop(&self, mut listeners: Vec<Listener>, woken: &UnixStream) -> io::Result<()> {
        if self.handle.is_quitting() {
            drop(listeners);
            self.live.end_all();
            return Ok(());
        }
        let began = Instant::now();
        let deadline = began.checked_add(self.settings.graceful_timeout);
        let last = self.handle.is_last();
        if last {
            listeners.iter_mut().for_each(Listener::turn_away);
        }
        // What the kernel has completed until the sockets are closed would be reset.
        let serve_rest = || {
            for listener in listeners.iter().filter(|listener| last && !listener.kept) {
                for _ in 0..self.settings.backlog {
                    let Ok((socket, peer)) = listener.socket.accept() else { break };
                    self.start(listener, socket, peer);
                }
            }
        };
        self.live.end_idle_after_grace(&self.handle, |wait| {
            serve_rest();
            std::thread::sleep(wait);
        });
        if last && !self.handle.is_quitting() {
            std::thread::sleep((began + HANDSHAKE).saturating_duration_since(Instant::now()));
        }
        serve_rest();
        drop(listeners);
        self.waiting.store(true, Ordering::SeqCst);
        while self.live.len() > 0 {
            if self.handle.is_quitting() {
                self.live.end_all();
                break;
            }
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            if left.is_some_and(|left| left.is_zero()) {
                log::warn!("{} connections are cut off: the graceful timeout is over", self.live.len());
                self.live.end_all();
                break;
            }
            wait_woken(woken, left.into_iter().chain(self.pulse()).min())?;
        }
        Ok(())
    }
}

/// Gives a connection's place up, and tells the accepting thread if it waits for one.
struct Ending {
    place: Option<Registered<ThreadSocket>>,
    waiting: Arc<AtomicBool>,
    handle: ServerHandle,
}

impl Drop for Ending {
    fn drop(&mut self) {
        self.place = None;
        if self.waiting.load(Ordering::SeqCst) {
            self.handle.wake();
        }
    }
}

/// Waits until somebody can be accepted, a wake-up has come or `most` is over; gives the listeners that are ready.
fn wait(
    listeners: &[Listener],
    woken: &UnixStream,
    full: bool,
    most: Option<Duration>,
) -> io::Result<Vec<usize>> {
    let mut fds = vec![PollFd::new(woken, PollFlags::IN)];
    if !full {
        fds.extend(listeners.iter().map(|listener| PollFd::new(&listener.socket, PollFlags::IN)));
    }
    let timeout = most.and_then(|most| Timespec::try_from(most).ok());
    match poll(&mut fds, timeout.as_ref()) {
        Err(rustix::io::Errno::INTR) => return Ok(Vec::new()),
        result => result?,
    };
    if !fds[0].revents().is_empty() {
        let _ = (&mut &*woken).read(&mut [0; 64]);
    }
    Ok((0..fds.len() - 1).filter(|index| !fds[index + 1].revents().is_empty()).collect())
}

fn wait_woken(woken: &UnixStream, most: Option<Duration>) -> io::Result<()> {
    let timeout = most.and_then(|most| Timespec::try_from(most).ok());
    match poll(&mut [PollFd::new(woken, PollFlags::IN)], timeout.as_ref()) {
        Ok(0) | Err(rustix::io::Errno::INTR) => Ok(()),
        Ok(_) => {
            let _ = (&mut &*woken).read(&mut [0; 64]);
            Ok(())
        }
        Err(error) => Err(error.into()),
    }
}

/// How many more requests may be handled at once.
struct Turns {
    left: Mutex<usize>,
    given_back: Condvar,
}

/// The right to handle one.
struct Turn(Arc<Turns>);

impl Turns {
    fn new(most: usize) -> Turns {
        Turns { left: Mutex::new(most), given_back: Condvar::new() }
    }

    /// Waits for it. Nothing that can panic runs under the lock.
    fn take(self: &Arc<Self>) -> Turn {
        let left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.given_back.wait_while(left, |left| *left == 0);
        *waited.unwrap_or_else(PoisonError::into_inner) -= 1;
        Turn(Arc::clone(self))
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        *self.0.left.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        self.0.given_back.notify_one();
    }
}

/// The application, as one connection's thread calls it.
struct InTurn {
    app: Arc<dyn Handler + Send + Sync>,
    turns: Option<Arc<Turns>>,
    socket: ThreadSocket,
}

impl Handler for InTurn {
    fn call(&self, req: Request) -> Response {
        if let Some(turns) = &self.turns {
            self.socket.set_turn(Some(turns.take()));
        }
        self.app.call(req)
    }
}

/// A blocking socket.
#[derive(Clone)]
struct ThreadSocket(Arc<Blocking>);

struct Blocking {
    socket: Socket,
    idle: AtomicBool,
    /// What the socket was told last, in nanoseconds, so that it is told changes only. 0: nothing yet.
    read_timeout: AtomicU64,
    /// An eventfd that ends waits, once the connection is upgraded.
    woken: OnceLock<OwnedFd>,
    /// Held while one of its requests is handled, if turns are taken.
    turn: Mutex<Option<Turn>>,
}

impl ThreadSocket {
    /// Whether a request of this connection is being handled, as far as turns are taken.
    fn set_turn(&self, turn: Option<Turn>) {
        *self.0.turn.lock().unwrap_or_else(PoisonError::into_inner) = turn;
    }
}

impl Blocking {
    fn set_read_timeout(&self, wait: Duration) -> io::Result<()> {
        let nanos = u64::try_from(wait.as_nanos()).unwrap_or(u64::MAX);
        // Only the connection's own thread reads.
        if self.read_timeout.swap(nanos, Ordering::Relaxed) == nanos {
            return Ok(());
        }
        self.socket.set_read_timeout(Some(wait))
    }
}

/// One recv(2), which leaves the bytes in the socket if `peek`.
fn receive(socket: &Socket, buf: &mut [u8], peek: bool) -> io::Result<usize> {
    let flags = if peek { RecvFlags::PEEK } else { RecvFlags::empty() };
    Ok(recv(socket, buf, flags)?.0)
}

impl Transport for ThreadSocket {
    /// Its thread would have nothing else to do.
    const PATIENCE: Option<Duration> = None;

    const GREEN: bool = false;

    fn receive(&self, buf: &mut [u8], peek: bool, wait: Duration) -> io::Result<usize> {
        self.0.set_read_timeout(wait)?;
        loop {
            match receive(&self.0.socket, buf, peek) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => return result,
            }
        }
    }

    fn read(&self, buf: &mut [u8], wait: Duration) -> io::Result<usize> {
        self.0.set_read_timeout(wait)?;
        loop {
            match (&self.0.socket).read(buf) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => return result,
            }
        }
    }

    fn read_with<R>(&self, wait: Duration, take: impl FnOnce(&[u8]) -> R) -> io::Result<R> {
        with_read_buffer(|buffer| {
            let count = self.read(buffer, wait)?;
            Ok(take(&buffer[..count]))
        })
    }

    fn try_read(&self, buf: &mut [u8]) -> io::Result<usize> {
        Ok(rustix::net::recv(&self.0.socket, buf, rustix::net::RecvFlags::DONTWAIT)?.0)
    }

    fn wait_readable(&self, wait: Option<Duration>) -> io::Result<()> {
        let timeout = wait.and_then(|wait| Timespec::try_from(wait).ok());
        let mut fds = vec![PollFd::new(&self.0.socket, PollFlags::IN)];
        fds.extend(self.0.woken.get().map(|woken| PollFd::new(woken, PollFlags::IN)));
        match poll(&mut fds, timeout.as_ref()) {
            Ok(0) => return Err(io::ErrorKind::TimedOut.into()),
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        if let (Some(woken), true) =
            (self.0.woken.get(), fds.get(1).is_some_and(|fd| !fd.revents().is_empty()))
        {
            // It holds the wake-ups since it was last read.
            let _ = rustix::io::read(woken, &mut [0; 8]);
        }
        Ok(())
    }

    fn set_upgraded(&self) -> io::Result<()> {
        let woken = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        // Only the connection's own thread comes here, once.
        let _ = self.0.woken.set(woken);
        Ok(())
    }

    fn wake(&self) {
        if let Some(woken) = self.0.woken.get() {
            // A counter that is full wakes as well.
            let _ = rustix::io::write(woken, &1_u64.to_ne_bytes());
        }
    }

    fn answered(&self) {
        self.set_turn(None);
    }

    fn set_idle(&self, idle: bool) {
        self.0.idle.store(idle, Ordering::SeqCst);
    }

    fn is_idle(&self) -> bool {
        self.0.idle.load(Ordering::SeqCst)
    }

    fn write(&self, buf: &[u8]) -> io::Result<usize> {
        patiently(&self.0.socket, || (&self.0.socket).write(buf))
    }

    fn try_write(&self, buf: &[u8]) -> io::Result<usize> {
        let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
        self.0.socket.send_with_flags(buf, flags)
    }

    fn when_waiting(_f: impl FnOnce() + 'static) {}

    fn write_vectored(&self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        patiently(&self.0.socket, || (&self.0.socket).write_vectored(bufs))
    }

    fn send_file(&self, file: &File, offset: u64, length: usize) -> io::Result<usize> {
        let offset = usize::try_from(offset).map_err(|_| io::Error::from(io::ErrorKind::FileTooLarge))?;
        patiently(&self.0.socket, || self.0.socket.sendfile(file, offset, NonZeroUsize::new(length)))
    }

    fn set_write_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        self.0.socket.set_write_timeout(timeout.map(between_looks))
    }

    fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        self.0.socket.shutdown(how)
    }

    fn reset_on_close(&self) {
        let _ = self.0.socket.set_linger(Some(Duration::ZERO));
    }

    fn local_addr(&self) -> Option<Addr> {
        self.0.socket.local_addr().ok().as_ref().map(addr)
    }

    fn yield_now(&self) {
        // The kernel shares the processor among threads by itself.
    }

    fn catch<R>(f: impl FnOnce() -> R) -> Result<R, String> {
        catch_unwind(AssertUnwindSafe(f)).map_err(describe)
    }

    fn has_left(&self, how: Leaving) -> bool {
        has_left(&self.0.socket, how)
    }

    fn unless_left(&self, _how: Leaving, f: &mut dyn FnMut()) -> bool {
        f();
        true
    }

    /// An OS thread can't be unwound from outside: the limit is not kept.
    fn within<R>(_limit: Duration, f: impl FnOnce() -> R) -> Option<R> {
        Some(f())
    }
}

#[cfg(feature = "tls")]
impl super::tls::Wire for ThreadSocket {
    fn try_write_vectored(&self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        self.0.socket.send_vectored_with_flags(bufs, libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL)
    }

    fn wait_writable(&self) -> io::Result<()> {
        let timeout = self.0.socket.write_timeout()?.and_then(|timeout| Timespec::try_from(timeout).ok());
        patiently(&self.0.socket, || {
            match poll(&mut [PollFd::new(&self.0.socket, PollFlags::OUT)], timeout.as_ref()) {
                Ok(0) => Err(io::ErrorKind::TimedOut.into()),
                // Whoever writes will see.
                Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
                Err(error) => Err(error.into()),
            }
        })
    }
}

fn describe(payload: Box<dyn Any + Send>) -> String {
    match payload.downcast::<String>() {
        Ok(text) => *text,
        Err(payload) => match payload.downcast::<&'static str>() {
            Ok(text) => (*text).to_owned(),
            Err(_) => "with a value that is no text".to_owned(),
        },
    }
}

pub(super) fn addr(address: &SockAddr) -> Addr {
    match address.as_socket() {
        Some(inet) => Addr::Inet(inet),
        None => address.as_unix().map_or(Addr::Unix(None), Addr::from),
    }
}
