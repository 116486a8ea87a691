//! What the kernel holds of a socket's bytes.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// How many bytes wait in the send queue (tcp(7), `SIOCOUTQ`).
pub(crate) fn unsent(fd: BorrowedFd<'_>) -> io::Result<usize> {
    let mut count: libc::c_int = 0;
    // SAFETY: this request writes one int, to `count`, which is ours and outlives the call.
    let result = unsafe { libc::ioctl(fd.as_raw_fd(), libc::TIOCOUTQ as _, std::ptr::from_mut(&mut count)) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(usize::try_from(count).unwrap_or(0)) }
}
