//! Descriptors that a program finds open when it starts.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd, RawFd};

/// A descriptor that whoever started this program has left open for it, under a number that both know: systemd's
/// `LISTEN_FDS`, an earlier incarnation of a server. What is given is a duplicate which programs started from here do not
/// inherit; the number itself stays open, but is not passed on either from now on. Does not park.
///
/// # Errors
/// `InvalidInput` for a number below 3 (those are standard streams), `EBADF` if nothing is open there.
pub fn inherited(number: RawFd) -> io::Result<OwnedFd> {
    if number < 3 {
        let what = format!("descriptor {number} is a standard stream, or none");
        return Err(io::Error::new(io::ErrorKind::InvalidInput, what));
    }
    // SAFETY: the number is used for two system calls, and nobody keeps it. If nothing is open there they fail with EBADF; if
    // it is somebody else's, its owner keeps it, and the duplicate is as good as one made by a friend.
    let theirs = unsafe { BorrowedFd::borrow_raw(number) };
    let ours = rustix::io::fcntl_dupfd_cloexec(theirs, 3)?;
    rustix::io::fcntl_setfd(theirs, rustix::io::FdFlags::CLOEXEC)?;
    Ok(ours)
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::fd::AsRawFd;

    use super::*;

    #[test]
    fn what_is_open_can_be_had_and_what_is_not_is_an_error() {
        let (mut reader, writer) = io::pipe().unwrap();
        let mut same = std::fs::File::from(inherited(writer.as_raw_fd()).unwrap());
        same.write_all(b"x").unwrap();
        reader.read_exact(&mut [0]).unwrap();
        assert_eq!(inherited(1).unwrap_err().kind(), io::ErrorKind::InvalidInput);
        assert_eq!(inherited(RawFd::MAX).unwrap_err().raw_os_error(), Some(libc::EBADF));
    }
}
