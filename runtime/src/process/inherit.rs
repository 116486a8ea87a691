//! Descriptors that a program finds open when it starts.

use std::fs::File;
use std::io;
use std::mem::ManuallyDrop;
use std::os::fd::{BorrowedFd, FromRawFd, OwnedFd, RawFd};

use rustix::io::{DupFlags, FdFlags, dup3, fcntl_dupfd_cloexec, fcntl_getfd};

/// A descriptor that whoever started this program has left open for it, under a number that both know: systemd's
/// `LISTEN_FDS`, an earlier incarnation of a server. What is given programs started from here do not inherit. Does not park.
///
/// It is moved away from its number, so that it is closed when what is given is closed: the number leads to `/dev/null` from
/// then on. One that this program has opened itself (with `FD_CLOEXEC`, as std does) is duplicated and left alone.
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
    let ours = fcntl_dupfd_cloexec(theirs, 3)?;
    if !fcntl_getfd(theirs)?.contains(FdFlags::CLOEXEC) {
        let nothing = File::open("/dev/null")?;
        // SAFETY: the number is not closed, for the destructor never runs. What has no CLOEXEC has come by exec(2): no file, socket
        // or pipe of this program's own is swapped for another here. A number stays valid all the time, whoever uses it.
        let mut theirs = ManuallyDrop::new(unsafe { OwnedFd::from_raw_fd(number) });
        dup3(&nothing, &mut theirs, DupFlags::CLOEXEC)?;
    }
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
        // As if it had come by exec(2): it goes when what is given goes.
        rustix::io::fcntl_setfd(&writer, FdFlags::empty()).unwrap();
        drop(std::mem::replace(&mut same, inherited(writer.as_raw_fd()).unwrap().into()));
        same.write_all(b"y").unwrap();
        drop(same);
        let mut rest = String::new();
        reader.read_to_string(&mut rest).unwrap();
        assert_eq!(rest, "y", "nobody else holds the pipe open, and the number does no harm");
        assert_eq!(inherited(1).unwrap_err().kind(), io::ErrorKind::InvalidInput);
        assert_eq!(inherited(RawFd::MAX).unwrap_err().raw_os_error(), Some(libc::EBADF));
    }
}
