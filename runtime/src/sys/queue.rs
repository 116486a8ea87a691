//! What the kernel holds for a socket: bytes, and connections.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// How many bytes wait in the send queue (tcp(7), `SIOCOUTQ`).
pub(crate) fn unsent(fd: BorrowedFd<'_>) -> io::Result<usize> {
    let mut count: libc::c_int = 0;
    // SAFETY: this request writes one int, to `count`, which is ours and outlives the call.
    let result = unsafe { libc::ioctl(fd.as_raw_fd(), libc::TIOCOUTQ as _, std::ptr::from_mut(&mut count)) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(usize::try_from(count).unwrap_or(0)) }
}

/// How many connections wait for a TCP listener to accept them (tcp(7), `TCP_INFO`).
#[cfg(target_os = "linux")]
pub(crate) fn accept_queue(fd: BorrowedFd<'_>) -> io::Result<usize> {
    /// Of the kernel's structure, in words: eight bytes, four numbers, and this one, `tcpi_unacked`. Of a socket that listens it is
    /// the length of the queue.
    const UNACKED: usize = 6;
    let mut info = [0_u32; 64];
    let mut length = size_of_val(&info) as libc::socklen_t;
    // SAFETY: the kernel writes at most `length` bytes to `info`, which is ours, holds so many and takes any numbers.
    let result = unsafe {
        libc::getsockopt(
            fd.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            info.as_mut_ptr().cast(),
            std::ptr::from_mut(&mut length),
        )
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    if (length as usize) < (UNACKED + 1) * size_of::<u32>() {
        return Err(io::ErrorKind::Unsupported.into());
    }
    Ok(info[UNACKED] as usize)
}

/// Elsewhere there is no telling.
#[cfg(not(target_os = "linux"))]
pub(crate) fn accept_queue(_: BorrowedFd<'_>) -> io::Result<usize> {
    Err(io::ErrorKind::Unsupported.into())
}
