//! What a connection needs of its socket and of the threads it runs on.

use std::fs::File;
use std::io::{self, IoSlice};
use std::net::Shutdown;
use std::time::Duration;

use crate::app::Addr;

/// A connected stream socket. Reads and writes suspend their green thread, or block their OS thread.
///
/// A handle: cloning gives another one to the same socket, through which the server can close it.
pub(crate) trait Transport: Clone + 'static {
    /// Reads what is there, or waits for it.
    fn read(&self, buf: &mut [u8]) -> io::Result<usize>;

    /// Writes at least one byte of `buf`, which is not empty.
    fn write(&self, buf: &[u8]) -> io::Result<usize>;

    /// Writes at least one byte of `bufs`, of which one is not empty.
    fn write_vectored(&self, bufs: &[IoSlice<'_>]) -> io::Result<usize>;

    /// Sends at least one byte of the file, by sendfile(2). 0: the file ends there.
    fn send_file(&self, file: &File, offset: u64, length: usize) -> io::Result<usize>;

    /// How long reads wait from now on; `None`, without end.
    fn set_read_timeout(&self, timeout: Option<Duration>) -> io::Result<()>;

    /// How long each write waits for progress from now on; `None`, without end.
    fn set_write_timeout(&self, timeout: Option<Duration>) -> io::Result<()>;

    /// Closes one direction or both, for everyone who holds this socket.
    fn shutdown(&self, how: Shutdown) -> io::Result<()>;

    /// Makes the coming close a reset, which the client can't take for a regular end.
    fn reset_on_close(&self);

    /// The address at which the client reached the server.
    fn local_addr(&self) -> Option<Addr>;

    /// Lets others run, after a while of serving one connection without ever having to wait.
    fn yield_now(&self);

    /// Runs `f`, catching a panic (but not what the runtime unwinds with). The error is the panic in words.
    fn catch<R>(f: impl FnOnce() -> R) -> Result<R, String>;

    /// Runs `f`, unwinding it when `limit` is over; `None` then.
    fn within<R>(limit: Duration, f: impl FnOnce() -> R) -> Option<R>;
}

/// Whether a read or write gave up because its time was over.
pub(crate) fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock)
}
