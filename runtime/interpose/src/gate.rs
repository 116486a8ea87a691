//! Whether a call is to be cooperative.

use libc::c_int;

use crate::calls::Call;
use crate::raw;
use crate::settings;
use crate::signals;
use greenlet::foreign;

/// A call that is cooperative, for as long as it lasts. `errno` is as it was when it began, whatever other greenlets do
/// meanwhile, unless it [fails](Entered::fail).
pub(crate) struct Entered {
    errno: c_int,
}

/// The call may park the greenlet; `None` if it is to be the plain one. A few nanoseconds where there is no greenlet.
#[inline(always)]
pub(crate) fn enter(call: Call) -> Option<Entered> {
    if foreign::inside() { look_closer(call) } else { None }
}

fn look_closer(call: Call) -> Option<Entered> {
    (settings::is_on(call) && !in_signal_handler()).then(|| Entered { errno: raw::errno() })
}

/// Whether a signal handler runs on this thread, as far as [that can be known](crate::signals).
#[inline]
pub(crate) fn in_signal_handler() -> bool {
    signals::handler_runs()
}

impl Entered {
    /// Ends the call with an error; gives what C functions return for that.
    pub(crate) fn fail(mut self, errno: c_int) -> isize {
        self.errno = errno;
        -1
    }

    /// Ends the call with what the kernel gave.
    pub(crate) fn result(self, kernels: isize) -> isize {
        if (-4095..0).contains(&kernels) { self.fail(-kernels as c_int) } else { kernels }
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        raw::set_errno(self.errno);
    }
}
