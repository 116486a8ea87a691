//! The signals that a call with a mask lets through.

use std::os::fd::RawFd;
use std::time::Duration;

use greenlet::foreign;
use libc::sigset_t;

use super::SIGNALS;
use super::poll::ask_poll;
use crate::raw::syscall;

/// A descriptor that is readable while a signal is pending which the thread holds back and a mask lets through.
pub(super) struct Signals(pub(super) RawFd);

impl Signals {
    pub(super) fn let_through_by(mask: &sigset_t) -> Option<Signals> {
        let mut held: u64 = 0;
        // SAFETY: the kernel's set of signals has 64 bits, and libc's begins with them.
        let (result, mask) = unsafe {
            let result = syscall!(SYS_rt_sigprocmask, libc::SIG_BLOCK, 0, &raw mut held, SIGNALS);
            (result, std::ptr::from_ref(mask).cast::<u64>().read_unaligned())
        };
        let let_through = held & !mask;
        if result < 0 || let_through == 0 {
            return None;
        }
        // SAFETY: the set lives as long as the call.
        let fd = unsafe {
            syscall!(
                SYS_signalfd4,
                -1isize,
                &raw const let_through,
                SIGNALS,
                libc::SFD_CLOEXEC | libc::SFD_NONBLOCK
            )
        };
        // Without one it is as with a signal that comes while a greenlet is parked.
        (fd >= 0).then_some(Signals(fd as RawFd))
    }
}

impl Drop for Signals {
    fn drop(&mut self) {
        foreign::closing(self.0);
        // SAFETY: the descriptor is ours.
        unsafe { syscall!(SYS_close, self.0) };
    }
}

/// Lets the signals through that a mask lets through; gives the error if there was one, or 0.
pub(super) fn deliver(mask: &sigset_t) -> isize {
    // SAFETY: it waits for nothing, for no time.
    unsafe { ask_poll(std::ptr::null_mut(), 0, Some(Duration::ZERO), Some(mask)) }
}
