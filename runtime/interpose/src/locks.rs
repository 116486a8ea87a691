//! Locks on files.

use libc::c_int;

/// `fcntl` with `F_SETLKW` or `F_OFD_SETLKW`, in a greenlet or not; `None` if it is to be the plain call.
pub(crate) fn set_lock_wait(_fd: c_int, _command: c_int, _argument: usize) -> Option<c_int> {
    None
}
