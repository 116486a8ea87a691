//! What a connection needs of its socket and of the threads it runs on.

use std::cell::RefCell;
use std::fs::File;
use std::io::{self, IoSlice};
use std::net::Shutdown;
use std::os::fd::{AsFd, BorrowedFd};
use std::rc::Rc;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::app::{Addr, Leaving, TlsInfo};

/// A connected stream socket. Reads and writes suspend their green thread, or block their OS thread.
///
/// A handle: cloning gives another one to the same socket, through which the server can close it.
pub(crate) trait Transport: Clone + 'static {
    /// How long a connection that waits for its next request stays with its thread, before the thread ends and leaves it
    /// to whoever watches the sockets. `None`: as long as it takes.
    const PATIENCE: Option<Duration>;

    /// Whether there are other green threads for [`when_waiting`](Transport::when_waiting).
    const GREEN: bool;

    /// Reads what is there, or waits for it about as long as `wait`, which is not zero: a caller to whom a little less
    /// matters looks at the clock.
    fn read(&self, buf: &mut [u8], wait: Duration) -> io::Result<usize>;

    /// As `read`, into memory that all connections of this thread share; `take` gets to see it. Nothing is held for this
    /// connection while it waits.
    fn read_with<R>(&self, wait: Duration, take: impl FnOnce(&[u8]) -> R) -> io::Result<R>;

    /// Reads from the socket itself, beneath whatever else is spoken over it (TLS, say); with `peek` the bytes stay there.
    /// Waits about as long as `wait`, which is not zero.
    fn receive(&self, buf: &mut [u8], peek: bool, wait: Duration) -> io::Result<usize>;

    /// Reads what is there, and never waits nor gives way.
    fn try_read(&self, buf: &mut [u8]) -> io::Result<usize>;

    /// Waits until there may be something to read, until [`wake`](Transport::wake), or as long as `wait`: `TimedOut` then.
    fn wait_readable(&self, wait: Option<Duration>) -> io::Result<()>;

    /// From now on the connection speaks another protocol, and can be woken.
    fn set_upgraded(&self) -> io::Result<()>;

    /// Ends the present wait in [`wait_readable`](Transport::wait_readable) if the connection is upgraded.
    fn wake(&self);

    /// Notes whether the connection waits for a request of which nothing has come.
    fn set_idle(&self, idle: bool);

    /// The request under way has been answered, or never will be.
    #[inline(always)]
    fn answered(&self) {}

    /// Whether it does: then the server may end it when it stops.
    fn is_idle(&self) -> bool;

    /// Writes at least one byte of `buf`, which is not empty.
    fn write(&self, buf: &[u8]) -> io::Result<usize>;

    /// Writes what there is room for, and never waits.
    fn try_write(&self, buf: &[u8]) -> io::Result<usize>;

    /// Runs `f` when this green thread next waits for something. OS threads can't know when they will: they never do.
    fn when_waiting(f: impl FnOnce() + 'static);

    /// Writes at least one byte of `bufs`, of which one is not empty.
    fn write_vectored(&self, bufs: &[IoSlice<'_>]) -> io::Result<usize>;

    /// Sends at least one byte of the file, by sendfile(2). 0: the file ends there.
    fn send_file(&self, file: &File, offset: u64, length: usize) -> io::Result<usize>;

    /// How long each write waits from now on before it looks whether the client takes anything ([`patiently`]); `None`,
    /// without end.
    fn set_write_timeout(&self, timeout: Option<Duration>) -> io::Result<()>;

    /// Closes one direction or both, for everyone who holds this socket.
    fn shutdown(&self, how: Shutdown) -> io::Result<()>;

    /// Tells the client that nothing more will be sent, where the protocol has a way to besides closing the socket.
    fn goodbye(&self) {}

    /// Makes the coming close a reset, which the client can't take for a regular end.
    fn reset_on_close(&self);

    /// The address at which the client reached the server.
    fn local_addr(&self) -> Option<Addr>;

    /// What the TLS handshake has come to, if there was one.
    fn tls(&self) -> Option<Rc<TlsInfo>> {
        None
    }

    /// Lets others run, after a while of serving one connection without ever having to wait.
    fn yield_now(&self);

    /// Runs `f`, catching a panic (but not what the runtime unwinds with). The error is the panic in words.
    fn catch<R>(f: impl FnOnce() -> R) -> Result<R, String>;

    /// Whether the client has left. Never waits.
    fn has_left(&self, how: Leaving) -> bool;

    /// Runs `f`, unwinding it when the client leaves: false then. OS threads can't be unwound: they run it to its end.
    fn unless_left(&self, how: Leaving, f: &mut dyn FnMut()) -> bool;

    /// Runs `f`, unwinding it when `limit` is over; `None` then.
    fn within<R>(limit: Duration, f: impl FnOnce() -> R) -> Option<R>;
}

/// How much is read at once by [`Transport::read_with`].
pub(super) const READ: usize = 16 * 1024;

thread_local! {
    /// What all connections of this thread read into.
    static READ_BUFFER: RefCell<Box<[u8]>> = RefCell::new(vec![0; READ].into_boxed_slice());
}

/// Calls `f` with this thread's read buffer. `f` must not suspend.
pub(super) fn with_read_buffer<R>(f: impl FnOnce(&mut [u8]) -> R) -> R {
    READ_BUFFER.with_borrow_mut(|buffer| f(buffer))
}

/// Whether the other side of a stream socket has gone: unread input is in nobody's way.
pub(super) fn has_left(socket: impl AsFd, how: Leaving) -> bool {
    let signs = match how {
        Leaving::Reset => PollFlags::empty(),
        Leaving::Close => PollFlags::RDHUP,
    };
    let mut fds = [PollFd::new(&socket, signs)];
    // A socket that can't be asked is taken to be there: the next write tells.
    let _ = poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 }));
    !fds[0].revents().is_empty()
}

/// A write looks so many times in the course of its timeout whether the client takes anything.
const LOOKS: u32 = 4;

/// What a socket is to be told as its timeout for writes.
pub(super) fn between_looks(timeout: Duration) -> Duration {
    // None is no timeout at all to a socket.
    (timeout / LOOKS).max(Duration::from_millis(1))
}

/// Repeats a write whose time was over as long as the client takes something of what the kernel holds for it. The kernel
/// says that there is room again only when a good part of its buffer, which may be megabytes, is free; one that reads
/// slowly but steadily gets there, too.
#[inline]
pub(super) fn patiently<R>(socket: &impl AsFd, mut write: impl FnMut() -> io::Result<R>) -> io::Result<R> {
    match write() {
        Err(error) if is_timeout(&error) => write_on(socket.as_fd(), &mut write, error),
        result => result,
    }
}

#[cold]
#[inline(never)]
fn write_on<R>(
    socket: BorrowedFd<'_>,
    write: &mut dyn FnMut() -> io::Result<R>,
    mut error: io::Error,
) -> io::Result<R> {
    let mut unsent = usize::MAX;
    let mut looks_in_vain = 0;
    loop {
        let left = greenlet::net::unsent(socket)?;
        // What there was before the first look nobody knows.
        looks_in_vain = if left < unsent && unsent < usize::MAX { 0 } else { looks_in_vain + 1 };
        if looks_in_vain >= LOOKS {
            return Err(error);
        }
        unsent = left;
        match write() {
            Err(again) if is_timeout(&again) => error = again,
            result => return result,
        }
    }
}

/// Whether a read or write gave up because its time was over.
pub(crate) fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock)
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;

    use super::*;

    /// A write that always takes too long, until `most` were tried, to a client that reads a piece every `nth` time. Gives how
    /// often it was tried if it was given up.
    fn tries(most: u32, nth: u32) -> Option<u32> {
        let (mut server, mut client) = UnixStream::pair().unwrap();
        (0..100).for_each(|_| server.write_all(b"a piece").unwrap());
        let mut tried = 0;
        let result = patiently(&server, || {
            tried += 1;
            if tried % nth == 0 {
                client.read_exact(&mut [0; 7]).unwrap();
            }
            if tried == most { Ok(()) } else { Err(io::ErrorKind::TimedOut.into()) }
        });
        result.is_err().then_some(tried)
    }

    #[test]
    fn a_client_that_takes_nothing_is_given_up_when_the_time_is_over() {
        assert_eq!(tries(50, 1000), Some(LOOKS));
    }

    #[test]
    fn a_client_that_takes_a_little_now_and_then_is_waited_for() {
        for nth in 1..LOOKS {
            assert_eq!(tries(50, nth), None, "every {nth}");
        }
    }

    #[test]
    fn other_errors_and_successes_are_not_waited_for() {
        let (server, _client) = UnixStream::pair().unwrap();
        assert_eq!(patiently(&server, || Ok(7)).unwrap(), 7);
        let broken = patiently(&server, || Err::<(), _>(io::ErrorKind::BrokenPipe.into()));
        assert_eq!(broken.unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    }
}
