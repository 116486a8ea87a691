//! libc's calls that move bytes, made by C code: all of one shape, so that a test can go through them.

use std::io;
use std::os::fd::RawFd;

use greenserve_tests::c;

/// A call with a buffer.
#[derive(Clone, Copy)]
pub(crate) struct Moves {
    pub(crate) name: &'static str,
    call: unsafe extern "C" fn(RawFd, *mut u8, usize) -> isize,
}

impl Moves {
    /// Fills a buffer.
    pub(crate) fn receive(self, fd: RawFd, buffer: &mut [u8]) -> io::Result<usize> {
        // SAFETY: it writes to the buffer at most as many bytes as it has.
        told(unsafe { (self.call)(fd, buffer.as_mut_ptr(), buffer.len()) })
    }

    /// Sends a buffer.
    pub(crate) fn send(self, fd: RawFd, buffer: &[u8]) -> io::Result<usize> {
        // SAFETY: it reads the buffer only, though C's types don't say so.
        told(unsafe { (self.call)(fd, buffer.as_ptr().cast_mut(), buffer.len()) })
    }
}

/// What a C function gave.
pub(crate) fn told(got: isize) -> io::Result<usize> {
    usize::try_from(got).map_err(|_| io::Error::last_os_error())
}

/// `calls.c`, compiled.
pub(crate) struct Calls(c::Library);

impl Calls {
    pub(crate) fn load() -> Calls {
        Calls(c::load(include_str!("calls.c")))
    }

    pub(crate) fn get(&self, name: &'static str) -> Moves {
        // SAFETY: all functions of the file have this type.
        Moves { name, call: unsafe { self.0.function(name) } }
    }

    fn all(&self, names: &[&'static str]) -> Vec<Moves> {
        names.iter().map(|name| self.get(name)).collect()
    }

    /// Those that read from anything.
    pub(crate) fn readers(&self) -> Vec<Moves> {
        self.all(&["call_read", "call_read_chk", "call_readv", "call_preadv2", "call_preadv64v2"])
    }

    /// Those that receive from a socket: these and the readers.
    pub(crate) fn receivers(&self) -> Vec<Moves> {
        let own = [
            "call_recv",
            "call_recv_chk",
            "call_recvfrom",
            "call_recvfrom_chk",
            "call_recvmsg",
            "call_recvmmsg",
        ];
        [self.readers(), self.all(&own)].concat()
    }

    /// Those that write to anything.
    pub(crate) fn writers(&self) -> Vec<Moves> {
        self.all(&["call_write", "call_writev", "call_pwritev2", "call_pwritev64v2"])
    }

    /// Those that send to a socket: these and the writers.
    pub(crate) fn senders(&self) -> Vec<Moves> {
        [self.writers(), self.all(&["call_send", "call_sendto", "call_sendmsg", "call_sendmmsg"])].concat()
    }
}
