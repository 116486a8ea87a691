//! A descriptor that parks greenlets: what all sockets are made of.

use std::cell::Cell;
use std::fmt;
use std::io::{self, IoSlice, IoSliceMut};
use std::num::NonZeroU64;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::time::Duration;

use rustix::net::{RecvFlags, SendAncillaryBuffer, SendFlags, SocketAddrAny, SocketFlags};
use socket2::{SockAddr, SockRef};

use crate::error::WaitError;
use crate::greenlet::WaitsFor;
use crate::hub::{Direction, Hub, Moment, Registration};

/// An open, non-blocking descriptor and its registration with the hub, which is made when a greenlet first has to
/// wait for it.
pub(crate) struct Source {
    /// Taken only by `into_fd`.
    fd: Option<OwnedFd>,
    hub: &'static Hub,
    registration: Cell<Option<Registration>>,
    /// Others may hold the same open file, so that closing ours does not end the registration.
    shared: Cell<bool>,
    closed: Cell<bool>,
    /// As the user sees it: calls that would have to wait fail.
    nonblocking: Cell<bool>,
    read_timeout: Cell<Option<Nanos>>,
    write_timeout: Cell<Option<Nanos>>,
}

/// A timeout in half the room: no more than 584 years, after which nobody will ask.
#[derive(Clone, Copy)]
struct Nanos(NonZeroU64);

impl Source {
    /// Takes over a descriptor that is non-blocking and has no duplicates.
    pub(crate) fn new(fd: OwnedFd) -> io::Result<Source> {
        Ok(Source {
            fd: Some(fd),
            hub: Hub::try_get()?,
            registration: Cell::new(None),
            shared: Cell::new(false),
            closed: Cell::new(false),
            nonblocking: Cell::new(false),
            read_timeout: Cell::new(None),
            write_timeout: Cell::new(None),
        })
    }

    /// Takes over a descriptor of unknown history and makes it non-blocking.
    pub(crate) fn adopt(fd: OwnedFd) -> io::Result<Source> {
        SockRef::from(&fd).set_nonblocking(true)?;
        let source = Source::new(fd)?;
        source.shared.set(true);
        Ok(source)
    }

    /// Gives the descriptor away, in blocking mode.
    pub(crate) fn into_fd(mut self) -> io::Result<OwnedFd> {
        self.shared.set(true);
        self.deregister();
        let fd = self.fd.take().ok_or_else(closed)?;
        SockRef::from(&fd).set_nonblocking(false)?;
        Ok(fd)
    }

    pub(crate) fn try_clone(&self) -> io::Result<Source> {
        let source = Source::new(self.open()?.try_clone_to_owned()?)?;
        self.shared.set(true);
        source.shared.set(true);
        source.read_timeout.set(self.read_timeout.get());
        source.write_timeout.set(self.write_timeout.get());
        Ok(source)
    }

    /// The descriptor, if the socket has not been closed.
    pub(crate) fn open(&self) -> io::Result<BorrowedFd<'_>> {
        if self.closed.get() { Err(closed()) } else { Ok(self.as_fd()) }
    }

    /// socket2's view of the socket, if it has not been closed.
    pub(crate) fn socket(&self) -> io::Result<SockRef<'_>> {
        self.open()?;
        Ok(SockRef::from(self))
    }

    /// Marks the socket closed and wakes who waits on it.
    pub(crate) fn close(&self) {
        self.closed.set(true);
        self.wake_waiting();
        if let Some(fd) = &self.fd {
            super::poll::cancel(fd.as_raw_fd());
        }
    }

    /// Has those who wait on the socket look again.
    pub(crate) fn wake_waiting(&self) {
        if let Some(registration) = self.registration.get() {
            self.hub.wake_waiters(registration);
        }
    }

    /// Runs `call` until it says something else than `WouldBlock`, parked in between for at most this socket's
    /// timeout. The clock is read only if the call has to wait.
    #[inline]
    pub(crate) fn io<T>(
        &self,
        direction: Direction,
        mut call: impl FnMut(BorrowedFd<'_>) -> io::Result<T>,
    ) -> io::Result<T> {
        let mut deadline = None;
        loop {
            match self.once(direction, &mut call) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock && !self.nonblocking.get() => {}
                result => return result,
            }
            let deadline = *deadline.get_or_insert_with(|| {
                self.timeout(direction).and_then(|timeout| self.hub.deadline(timeout))
            });
            self.wait(direction, deadline)?;
        }
    }

    /// One try, without waiting. A side that is known to be empty is not asked again before the hub has heard of it.
    fn once<T>(
        &self,
        direction: Direction,
        call: impl FnMut(BorrowedFd<'_>) -> io::Result<T>,
    ) -> io::Result<T> {
        // Before the call: giving way may unwind, and what a call has taken must not be lost then.
        self.hub.count_call();
        self.attempt(direction, call)
    }

    /// As [`once`](Self::once), and never gives way.
    #[inline]
    fn attempt<T>(
        &self,
        direction: Direction,
        mut call: impl FnMut(BorrowedFd<'_>) -> io::Result<T>,
    ) -> io::Result<T> {
        loop {
            let fd = self.open()?;
            if self.registration.get().is_some_and(|r| !self.hub.is_ready(r, direction)) {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            match call(fd) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    if let Some(registration) = self.registration.get() {
                        self.hub.clear_ready(registration, direction);
                    }
                    return Err(error);
                }
                result => return result,
            }
        }
    }

    /// Parks until the descriptor may be ready.
    #[inline]
    pub(super) fn wait(&self, direction: Direction, deadline: Option<Moment>) -> io::Result<()> {
        let fd = self.open()?;
        let registration = self.registered()?;
        let why = match direction {
            Direction::Read => WaitsFor::Readable(fd.as_raw_fd()),
            Direction::Write => WaitsFor::Writable(fd.as_raw_fd()),
        };
        self.hub.wait_io(registration, direction, why, deadline)?;
        self.open().map(drop)
    }

    /// Parks until there may be something to read; see [`Hub::wait_readable`].
    pub(crate) fn wait_readable(&self, timeout: Option<Duration>) -> io::Result<()> {
        let fd = self.open()?;
        self.hub.wait_readable(self.registered()?, WaitsFor::Readable(fd.as_raw_fd()), timeout)?;
        self.open().map(drop)
    }

    /// Parks until there may be room to write, for at most the write timeout.
    pub(crate) fn wait_writable(&self) -> io::Result<()> {
        let deadline = self.timeout(Direction::Write).and_then(|timeout| self.hub.deadline(timeout));
        self.wait(Direction::Write, deadline)
    }

    /// Has `f` run in a new greenlet when there is something to read, or the time is over.
    pub(crate) fn spawn_when_readable(
        &self,
        timeout: Option<Duration>,
        f: Box<dyn FnOnce(bool)>,
    ) -> io::Result<()> {
        self.open()?;
        let deadline = timeout.and_then(|timeout| self.hub.deadline(timeout));
        self.hub.start_when_readable(self.registered()?, deadline, f)
    }

    /// The registration with the hub, made at first need.
    fn registered(&self) -> io::Result<Registration> {
        if let Some(registration) = self.registration.get() {
            return Ok(registration);
        }
        let registration = self.hub.register(self.open()?)?;
        self.registration.set(Some(registration));
        Ok(registration)
    }

    fn deregister(&self) {
        if let Some(registration) = self.registration.take() {
            self.hub.deregister(registration, self.as_fd(), self.shared.get());
        }
    }

    // ---- calls that several kinds of sockets share

    /// Reads from a stream.
    #[inline]
    pub(crate) fn read_stream(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let room = buffer.len();
        let count = self.io(Direction::Read, |fd| recv(fd, buffer, RecvFlags::empty()))?;
        self.note_short_read(count, room);
        Ok(count)
    }

    /// Reads from a stream what is there. Neither waits nor gives way.
    pub(crate) fn try_read_stream(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let room = buffer.len();
        let count = self.attempt(Direction::Read, |fd| recv(fd, buffer, RecvFlags::empty()))?;
        self.note_short_read(count, room);
        Ok(count)
    }

    pub(crate) fn read_stream_vectored(&self, buffers: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        let room = buffers.iter().map(|buffer| buffer.len()).sum();
        let count = self.io(Direction::Read, |fd| Ok(rustix::io::readv(fd, buffers)?))?;
        self.note_short_read(count, room);
        Ok(count)
    }

    fn note_short_read(&self, count: usize, room: usize) {
        if let (true, Some(registration)) = (count > 0 && count < room, self.registration.get()) {
            self.hub.drained(registration);
        }
    }

    pub(crate) fn peek(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.io(Direction::Read, |fd| recv(fd, buffer, RecvFlags::PEEK))
    }

    pub(crate) fn recv(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.io(Direction::Read, |fd| recv(fd, buffer, RecvFlags::empty()))
    }

    pub(crate) fn recv_from(&self, buffer: &mut [u8], flags: i32) -> io::Result<(usize, SockAddr)> {
        let flags = RecvFlags::from_bits_retain(flags as u32);
        self.io(Direction::Read, |fd| {
            let (count, _, address) = rustix::net::recvfrom(fd, &mut *buffer, flags)?;
            Ok((count, address_of(address)?))
        })
    }

    pub(crate) fn send(&self, buffer: &[u8]) -> io::Result<usize> {
        self.io(Direction::Write, |fd| send(fd, buffer))
    }

    /// Sends what there is room for. Neither waits nor gives way.
    pub(crate) fn try_send(&self, buffer: &[u8]) -> io::Result<usize> {
        self.attempt(Direction::Write, |fd| send(fd, buffer))
    }

    pub(crate) fn send_vectored(&self, buffers: &[IoSlice<'_>]) -> io::Result<usize> {
        self.io(Direction::Write, |fd| send_vectored(fd, buffers))
    }

    /// As [`try_send`](Self::try_send), from several buffers.
    pub(crate) fn try_send_vectored(&self, buffers: &[IoSlice<'_>]) -> io::Result<usize> {
        self.attempt(Direction::Write, |fd| send_vectored(fd, buffers))
    }

    pub(crate) fn send_to(&self, buffer: &[u8], to: &SockAddr) -> io::Result<usize> {
        self.io(Direction::Write, |fd| SockRef::from(&fd).send_to_with_flags(buffer, to, libc::MSG_NOSIGNAL))
    }

    /// Sends a piece of a file, at most 1 MiB of it, without copying it through the process.
    pub(crate) fn send_file(&self, file: BorrowedFd<'_>, offset: u64, len: usize) -> io::Result<usize> {
        // One call for a large piece would hold up the hub for as long as the disk takes.
        let len = len.min(1 << 20);
        if libc::off_t::try_from(offset).is_err() {
            let what = "the offset lies beyond any file's end";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, what));
        }
        self.io(Direction::Write, |fd| {
            let mut position = offset;
            Ok(rustix::fs::sendfile(fd, file, Some(&mut position), len)?)
        })
    }

    /// Connects, parked until the peer has answered or the time is over.
    pub(crate) fn connect(&self, address: &SockAddr, timeout: Option<Duration>) -> io::Result<()> {
        let deadline = timeout.and_then(|timeout| self.hub.deadline(timeout));
        let socket = self.socket()?;
        let mut pause = Duration::from_millis(1);
        loop {
            match socket.connect(address) {
                Ok(()) => return Ok(()),
                Err(error) if error.raw_os_error() == Some(libc::EINPROGRESS) => break,
                // A unix socket's listener with a full backlog says so at once, and no edge tells when it has room.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock && address.is_unix() => {
                    if deadline.is_some_and(|deadline| self.hub.now() >= deadline) {
                        return Err(io::ErrorKind::TimedOut.into());
                    }
                    if std::thread::panicking() {
                        return Err(WaitError::Unwinding.into());
                    }
                    crate::sleep(pause);
                    pause = (pause * 2).min(Duration::from_millis(50));
                }
                Err(error) => return Err(error),
            }
        }
        self.wait(Direction::Write, deadline)?;
        while !self.connected()? {
            self.wait(Direction::Write, deadline)?;
        }
        Ok(())
    }

    /// Begins to connect; true when that was all.
    pub(crate) fn start_connect(&self, address: &SockAddr) -> io::Result<bool> {
        match self.socket()?.connect(address) {
            Ok(()) => Ok(true),
            Err(error) if error.raw_os_error() == Some(libc::EINPROGRESS) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Whether a connect that was begun is done; to be asked when the socket is writable.
    pub(crate) fn connected(&self) -> io::Result<bool> {
        let socket = self.socket()?;
        if let Some(error) = socket.take_error()? {
            return Err(error);
        }
        match socket.peer_addr() {
            Ok(_) => Ok(true),
            Err(error) if error.raw_os_error() == Some(libc::ENOTCONN) => {
                if let Some(registration) = self.registration.get() {
                    self.hub.clear_ready(registration, Direction::Write);
                }
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    /// Accepts a connection; the new descriptor is non-blocking and closed on exec.
    pub(crate) fn accept(&self) -> io::Result<(Source, SockAddr)> {
        let (fd, address) = self.io(Direction::Read, accept)?;
        Ok((Source::new(fd)?, address))
    }

    // ---- timeouts

    pub(crate) fn timeout(&self, direction: Direction) -> Option<Duration> {
        match direction {
            Direction::Read => self.read_timeout.get(),
            Direction::Write => self.write_timeout.get(),
        }
        .map(|Nanos(nanos)| Duration::from_nanos(nanos.get()))
    }

    pub(crate) fn set_nonblocking(&self, nonblocking: bool) {
        self.nonblocking.set(nonblocking);
    }

    pub(crate) fn set_timeout(&self, direction: Direction, timeout: Option<Duration>) -> io::Result<()> {
        let timeout = match timeout.map(|timeout| u64::try_from(timeout.as_nanos()).unwrap_or(u64::MAX)) {
            None => None,
            Some(nanos) => Some(Nanos(NonZeroU64::new(nanos).ok_or_else(|| {
                let message = "a timeout of zero cannot be set: use None for no timeout";
                io::Error::new(io::ErrorKind::InvalidInput, message)
            })?)),
        };
        match direction {
            Direction::Read => self.read_timeout.set(timeout),
            Direction::Write => self.write_timeout.set(timeout),
        }
        Ok(())
    }
}

impl AsFd for Source {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.fd {
            Some(fd) => fd.as_fd(),
            None => unreachable!("taken only by into_fd, which consumes the source"),
        }
    }
}

impl AsRawFd for Source {
    fn as_raw_fd(&self) -> RawFd {
        self.as_fd().as_raw_fd()
    }
}

impl Drop for Source {
    fn drop(&mut self) {
        self.deregister();
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Source").field("fd", &self.as_raw_fd()).field("closed", &self.closed.get()).finish()
    }
}

fn closed() -> io::Error {
    io::Error::new(io::ErrorKind::NotConnected, "the socket has been closed by this program")
}

fn send_vectored(fd: BorrowedFd<'_>, buffers: &[IoSlice<'_>]) -> io::Result<usize> {
    let buffers = &buffers[..buffers.len().min(1024)];
    let mut nothing = SendAncillaryBuffer::default();
    Ok(rustix::net::sendmsg(fd, buffers, &mut nothing, SendFlags::NOSIGNAL)?)
}

// All calls that are made often are rustix's: with more than one thread libc's cost thirty instructions more each, so that a thread
// could be cancelled in them, and `greenlet-interpose` takes their place.

#[inline]
fn recv(fd: BorrowedFd<'_>, buffer: &mut [u8], flags: RecvFlags) -> io::Result<usize> {
    let (count, _) = rustix::net::recv(fd, buffer, flags)?;
    Ok(count)
}

#[inline]
fn send(fd: BorrowedFd<'_>, buffer: &[u8]) -> io::Result<usize> {
    Ok(rustix::net::send(fd, buffer, SendFlags::NOSIGNAL)?)
}

fn accept(fd: BorrowedFd<'_>) -> io::Result<(OwnedFd, SockAddr)> {
    let (fd, address) = rustix::net::acceptfrom_with(fd, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC)?;
    Ok((fd, address_of(address)?))
}

/// An address that the kernel has told, if it has.
fn address_of(told: Option<SocketAddrAny>) -> io::Result<SockAddr> {
    // SAFETY: so many bytes of what was told are initialised, and they are no more than there is room for.
    let init = |storage: *mut socket2::SockAddrStorage, length: *mut libc::socklen_t| unsafe {
        let count = told.as_ref().map_or(0, |told| told.addr_len().min(*length));
        if let Some(told) = &told {
            storage.cast::<u8>().copy_from_nonoverlapping(told.as_ptr().cast(), count as usize);
        }
        *length = count;
        Ok(())
    };
    // SAFETY: it fills in what it says.
    let ((), address) = unsafe { SockAddr::try_init(init) }?;
    Ok(address)
}
