//! The hub's sockets: those that accept, and those that a connection is.

use std::cell::Cell;
use std::fs::File;
use std::io::{self, IoSlice, Read, Write};
use std::net::Shutdown;
use std::os::fd::{AsFd, BorrowedFd};
use std::rc::Rc;
use std::time::Duration;

use greenlet::Timeout;
use greenlet::net::{PollFd, TcpListener, TcpStream, UnixListener, UnixStream, poll};
use socket2::{SockRef, Socket};

use super::Watching;
use super::look::Notes;
use crate::app::{Addr, Leaving};
use crate::serve::listen::{Listener, SocketFile, turn_away_from};
use crate::serve::transport::{Transport, between_looks, has_left, patiently, with_read_buffer};

/// A listener of this thread's hub.
pub(super) struct GreenListener {
    pub(super) addr: Addr,
    socket: ListenerKind,
    #[cfg(feature = "tls")]
    pub(super) tls: Option<crate::tls::TlsConfig>,
    /// See [`Listener::kept`].
    pub(super) kept: bool,
    /// Removed after the socket is closed.
    file: Cell<Option<SocketFile>>,
}

enum ListenerKind {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl GreenListener {
    pub(super) fn new(listener: Listener) -> io::Result<GreenListener> {
        let Listener { socket, addr, file, kept, .. } = listener;
        let socket = match addr {
            Addr::Inet(_) => ListenerKind::Tcp(TcpListener::from_std(socket.into())?),
            Addr::Unix(_) => ListenerKind::Unix(UnixListener::from_std(socket.into())?),
        };
        Ok(GreenListener {
            addr,
            socket,
            #[cfg(feature = "tls")]
            tls: listener.tls,
            kept,
            file: Cell::new(file),
        })
    }

    pub(super) fn accept(&self) -> io::Result<(GreenSocket, Addr)> {
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
    pub(super) fn adopt(&self, socket: Socket) -> io::Result<GreenSocket> {
        Ok(GreenSocket::new(match &self.socket {
            ListenerKind::Tcp(_) => Stream::Tcp(TcpStream::from_std(socket.into())?),
            ListenerKind::Unix(_) => Stream::Unix(UnixStream::from_std(socket.into())?),
        }))
    }
}

/// See [`Listener::turn_away`].
pub(super) fn turn_away(listener: &GreenListener) {
    if !listener.kept {
        listener.file.take();
        turn_away_from(SockRef::from(listener));
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
pub(super) struct GreenSocket(pub(super) Rc<Watched>);

pub(super) struct Watched {
    pub(super) stream: Stream,
    idle: Cell<bool>,
    pub(super) upgraded: Cell<bool>,
    pub(super) notes: Notes,
}

pub(super) enum Stream {
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
        GreenSocket(Rc::new(Watched {
            stream,
            idle: Cell::new(false),
            upgraded: Cell::new(false),
            notes: Notes::default(),
        }))
    }

    /// Parks until the client leaves.
    fn wait_left(&self, how: Leaving) -> io::Result<()> {
        let asked = |fd: PollFd<'_>| match how {
            Leaving::Reset => poll(&mut [fd], None),
            Leaving::Close => poll(&mut [fd.half_closed()], None),
        };
        either!(self, stream => asked(PollFd::new(stream))).map(drop)
    }
}

impl Transport for GreenSocket {
    /// Long enough that a connection in use keeps its thread from one request to the next, and short because those that
    /// have just come and are silent hold one so long: what they take meanwhile is never given back.
    const PATIENCE: Option<Duration> = Some(Duration::from_millis(30));

    const GREEN: bool = true;

    fn receive(&self, buf: &mut [u8], peek: bool, wait: Duration) -> io::Result<usize> {
        // By the socket's own calls, which know when it is empty; its timeout is nobody else's.
        either!(self, stream => {
            stream.set_read_timeout(Some(wait))?;
            let result = if peek { stream.peek(buf) } else { (&mut &*stream).read(buf) };
            stream.set_read_timeout(None)?;
            result
        })
    }

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

    fn try_read(&self, buf: &mut [u8]) -> io::Result<usize> {
        either!(self, stream => stream.try_read(buf))
    }

    fn wait_readable(&self, wait: Option<Duration>) -> io::Result<()> {
        either!(self, stream => stream.wait_readable(wait))
    }

    fn set_upgraded(&self) -> io::Result<()> {
        self.0.upgraded.set(true);
        Ok(())
    }

    fn wake(&self) {
        if self.0.upgraded.get() {
            either!(self, stream => stream.wake_waiting());
        }
    }

    fn set_idle(&self, idle: bool) {
        self.0.idle.set(idle);
    }

    fn is_idle(&self) -> bool {
        self.0.idle.get()
    }

    #[inline(always)]
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

    #[inline]
    fn catch<R>(f: impl FnOnce() -> R) -> Result<R, String> {
        greenlet::catch_panic(f).map_err(in_words)
    }

    fn has_left(&self, how: Leaving) -> bool {
        either!(self, stream => has_left(stream, how))
    }

    fn unless_left(&self, how: Leaving, f: &mut dyn FnMut()) -> bool {
        let bound = Timeout::never();
        let (ender, socket) = (bound.ender(), self.clone());
        let watching = greenlet::spawn(move || {
            if socket.wait_left(how).is_ok() {
                ender.end();
            }
        });
        let _watching = Watching(watching);
        bound.run(f).is_ok()
    }

    fn within<R>(limit: Duration, f: impl FnOnce() -> R) -> Option<R> {
        greenlet::timeout(limit, f).ok()
    }
}

/// A socket that is watched while no green thread serves it.
pub(super) trait Parked: Transport {
    /// Has `f` run in a new green thread: with true as soon as something comes, with false when `wait` is over.
    fn spawn_when_readable(&self, wait: Duration, f: impl FnOnce(bool) + 'static) -> io::Result<()>;

    /// The socket itself, beneath whatever is spoken over it.
    fn green(&self) -> &GreenSocket;
}

impl Parked for GreenSocket {
    fn spawn_when_readable(&self, wait: Duration, f: impl FnOnce(bool) + 'static) -> io::Result<()> {
        either!(self, stream => stream.spawn_when_readable(wait, f))
    }

    fn green(&self) -> &GreenSocket {
        self
    }
}

#[cfg(feature = "tls")]
impl Parked for crate::serve::tls::Tls<GreenSocket> {
    fn spawn_when_readable(&self, wait: Duration, f: impl FnOnce(bool) + 'static) -> io::Result<()> {
        // All that has come was decrypted and read before, so what is next shows on the socket.
        self.socket().spawn_when_readable(wait, f)
    }

    fn green(&self) -> &GreenSocket {
        self.socket()
    }
}

#[cfg(feature = "tls")]
impl crate::serve::tls::Wire for GreenSocket {
    fn try_write_vectored(&self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        either!(self, stream => stream.try_write_vectored(bufs))
    }

    fn wait_writable(&self) -> io::Result<()> {
        either!(self, stream => patiently(stream, || stream.wait_writable()))
    }
}

#[cold]
fn in_words(panic: greenlet::Panic) -> String {
    panic.to_string()
}
