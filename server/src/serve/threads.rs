//! One OS thread per connection: the counterpart to which the green threads are compared, with the same code for the
//! connection's life.

use std::any::Any;
use std::fs::File;
use std::io::{self, IoSlice, Read, Write};
use std::net::Shutdown;
use std::num::NonZeroUsize;
use std::os::unix::net::UnixStream;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use greenlet::server::{AcceptFailure, Backoff};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use socket2::{SockAddr, Socket};

use super::conn::Conn;
use super::exchange::live;
use super::listen::Listener;
use super::settings::Settings;
use super::stop::{Registered, Registry, ServerHandle};
use super::transport::{Transport, between_looks, patiently, with_read_buffer};
use crate::app::{Addr, Handler};

/// Accepts on all listeners in this thread until the server is stopped, and waits for the connections' threads.
pub(crate) fn serve(
    listeners: Vec<Listener>,
    settings: Arc<Settings>,
    handle: ServerHandle,
    woken: UnixStream,
    app: Arc<dyn Handler + Send + Sync>,
) -> io::Result<()> {
    woken.set_nonblocking(true)?;
    let server =
        Threads { settings, handle, app, live: Registry::new(), waiting: Arc::new(AtomicBool::new(false)) };
    let mut backoff = Backoff::new();
    while !server.handle.is_stopping() {
        let ready = wait(&listeners, &woken, server.is_full())?;
        server.waiting.store(false, Ordering::SeqCst);
        for index in ready {
            // One each, so that no listener starves the others and the pool is looked at in between.
            match listeners[index].socket.accept() {
                Ok((socket, peer)) => {
                    backoff.succeeded();
                    server.start(socket, peer);
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
    server.stop(listeners, &woken)
}

struct Threads {
    settings: Arc<Settings>,
    handle: ServerHandle,
    app: Arc<dyn Handler + Send + Sync>,
    live: Registry<ThreadSocket>,
    /// The accepting thread waits for something to end.
    waiting: Arc<AtomicBool>,
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

    fn start(&self, socket: Socket, peer: SockAddr) {
        let socket = ThreadSocket(Arc::new(Blocking {
            socket,
            idle: AtomicBool::new(false),
            read_timeout: AtomicU64::new(0),
        }));
        let place = self.live.register(socket.clone());
        let (settings, handle, app) =
            (Arc::clone(&self.settings), self.handle.clone(), Arc::clone(&self.app));
        let leaving =
            Leaving { place: Some(place), waiting: Arc::clone(&self.waiting), handle: handle.clone() };
        let peer = addr(&peer);
        let spawned = std::thread::Builder::new().name(format!("connection {peer}")).spawn(move || {
            let _leaving = leaving;
            if socket.set_write_timeout(Some(settings.write_timeout)).is_ok() {
                live(&Conn::new(socket, peer, settings, handle), &*app);
            }
        });
        if let Err(error) = spawned {
            log::error!("can't start a thread for a connection, which is closed: {error}");
        }
    }

    fn stop(&self, listeners: Vec<Listener>, woken: &UnixStream) -> io::Result<()> {
        let deadline = Instant::now().checked_add(self.settings.graceful_timeout);
        self.live.end_idle();
        for listener in &listeners {
            // What the kernel has completed until now would be reset.
            for _ in 0..self.settings.backlog {
                let Ok((socket, peer)) = listener.socket.accept() else { break };
                self.start(socket, peer);
            }
        }
        drop(listeners);
        self.waiting.store(true, Ordering::SeqCst);
        while self.live.len() > 0 {
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            if left.is_some_and(|left| left.is_zero()) {
                log::warn!("{} connections are cut off: the graceful timeout is over", self.live.len());
                self.live.end_all();
                break;
            }
            wait_woken(woken, left)?;
        }
        Ok(())
    }
}

/// Gives a connection's place up, and tells the accepting thread if it waits for one.
struct Leaving {
    place: Option<Registered<ThreadSocket>>,
    waiting: Arc<AtomicBool>,
    handle: ServerHandle,
}

impl Drop for Leaving {
    fn drop(&mut self) {
        self.place = None;
        if self.waiting.load(Ordering::SeqCst) {
            self.handle.wake();
        }
    }
}

/// Waits until somebody can be accepted or a wake-up has come; gives the listeners that are ready.
fn wait(listeners: &[Listener], woken: &UnixStream, full: bool) -> io::Result<Vec<usize>> {
    let mut fds = vec![PollFd::new(woken, PollFlags::IN)];
    if !full {
        fds.extend(listeners.iter().map(|listener| PollFd::new(&listener.socket, PollFlags::IN)));
    }
    match poll(&mut fds, None) {
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

/// A blocking socket.
#[derive(Clone)]
struct ThreadSocket(Arc<Blocking>);

struct Blocking {
    socket: Socket,
    idle: AtomicBool,
    /// What the socket was told last, in nanoseconds, so that it is told changes only. 0: nothing yet.
    read_timeout: AtomicU64,
}

impl Transport for ThreadSocket {
    /// Its thread would have nothing else to do.
    const PATIENCE: Option<Duration> = None;

    fn read(&self, buf: &mut [u8], wait: Duration) -> io::Result<usize> {
        let nanos = u64::try_from(wait.as_nanos()).unwrap_or(u64::MAX);
        // Only the connection's own thread reads.
        if self.0.read_timeout.swap(nanos, Ordering::Relaxed) != nanos {
            self.0.socket.set_read_timeout(Some(wait))?;
        }
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

    /// An OS thread can't be unwound from outside: the limit is not kept.
    fn within<R>(_limit: Duration, f: impl FnOnce() -> R) -> Option<R> {
        Some(f())
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
        None => Addr::Unix(address.as_pathname().map(std::path::Path::to_path_buf)),
    }
}
