//! poll and ppoll.

use std::time::Duration;

use greenlet::foreign::Interest;
use libc::{c_int, nfds_t, pollfd, sigset_t, size_t, timespec};

use super::{List, SIGNALS, mask_pointer, of_milliseconds, pointer, wait};
use crate::calls::Call;
use crate::gate;
use crate::raw::{self, syscall};
use crate::real::real;
use crate::time::{duration, timespec_of};

/// poll(2).
///
/// # Safety
/// As poll(2): there are `count` entries at `fds`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn poll(fds: *mut pollfd, count: nfds_t, milliseconds: c_int) -> c_int {
    let timeout = of_milliseconds(milliseconds);
    // SAFETY: the caller's promise.
    let ask = |timeout| unsafe { ask_poll(fds, count, timeout, None) };
    let Some(call) = gate::enter(Call::poll) else { return raw::result(ask(timeout)) as c_int };
    // SAFETY: the caller's promise.
    let descriptors = || unsafe { polled(fds, count) };
    wait(call, libc::ECANCELED, timeout, None, descriptors, ask) as c_int
}

/// [`poll`] by the other name that libc has for it.
///
/// # Safety
/// As [`poll`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn __poll(fds: *mut pollfd, count: nfds_t, milliseconds: c_int) -> c_int {
    // SAFETY: the caller's promise.
    unsafe { poll(fds, count, milliseconds) }
}

/// [`poll`] as C code calls it that is compiled with `_FORTIFY_SOURCE`; `bytes` is how large the array is.
///
/// # Safety
/// As [`poll`]; it ends the program if the array is too small.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn __poll_chk(
    fds: *mut pollfd,
    count: nfds_t,
    milliseconds: c_int,
    bytes: size_t,
) -> c_int {
    if fit(count, bytes) {
        // SAFETY: the caller's promise.
        return unsafe { poll(fds, count, milliseconds) };
    }
    let real = real!(fn __poll_chk(*mut pollfd, nfds_t, c_int, size_t) -> c_int);
    // SAFETY: it says what is wrong, and aborts.
    unsafe { real(fds, count, milliseconds, bytes) }
}

/// ppoll(2).
///
/// # Safety
/// As ppoll(2): there are `count` entries at `fds`, the other pointers are valid or null.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ppoll(
    fds: *mut pollfd,
    count: nfds_t,
    timeout: *const timespec,
    mask: *const sigset_t,
) -> c_int {
    let entered = gate::enter(Call::ppoll);
    // SAFETY: the caller's promise.
    let timeout = match unsafe { timeout.as_ref() }.map(|time| duration(time).ok_or(*time)) {
        None => None,
        Some(Ok(timeout)) => Some(timeout),
        // The kernel says what is wrong with it.
        Some(Err(wrong)) => {
            drop(entered);
            // SAFETY: the caller's promise, but for the timeout, which is a copy.
            let kernels = unsafe { syscall!(SYS_ppoll, fds, count, &raw const wrong, mask, SIGNALS) };
            return raw::result(kernels) as c_int;
        }
    };
    // SAFETY: the caller's promise.
    let (ask, mask) =
        (|timeout| unsafe { ask_poll(fds, count, timeout, mask.as_ref()) }, unsafe { mask.as_ref() });
    let Some(call) = entered else { return raw::result(ask(timeout)) as c_int };
    // SAFETY: the caller's promise.
    let descriptors = || unsafe { polled(fds, count) };
    wait(call, libc::ECANCELED, timeout, mask, descriptors, ask) as c_int
}

/// [`ppoll`] as C code calls it that is compiled with `_FORTIFY_SOURCE`; `bytes` is how large the array is.
///
/// # Safety
/// As [`ppoll`]; it ends the program if the array is too small.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn __ppoll_chk(
    fds: *mut pollfd,
    count: nfds_t,
    timeout: *const timespec,
    mask: *const sigset_t,
    bytes: size_t,
) -> c_int {
    if fit(count, bytes) {
        // SAFETY: the caller's promise.
        return unsafe { ppoll(fds, count, timeout, mask) };
    }
    let real = real!(fn __ppoll_chk(*mut pollfd, nfds_t, *const timespec, *const sigset_t, size_t) -> c_int);
    // SAFETY: it says what is wrong, and aborts.
    unsafe { real(fds, count, timeout, mask, bytes) }
}

fn fit(count: nfds_t, bytes: size_t) -> bool {
    bytes / size_of::<pollfd>() >= count as usize
}

/// # Safety
/// There are `count` entries at `fds`.
pub(super) unsafe fn ask_poll(
    fds: *mut pollfd,
    count: nfds_t,
    timeout: Option<Duration>,
    mask: Option<&sigset_t>,
) -> isize {
    let timeout = timeout.map(timespec_of);
    // SAFETY: the caller's promise; the timeout is a copy, to which the kernel may write.
    unsafe { syscall!(SYS_ppoll, fds, count, pointer(&timeout), mask_pointer(mask), SIGNALS) }
}

/// What poll is asked to wait for.
///
/// # Safety
/// There are `count` entries at `fds`.
unsafe fn polled(fds: *const pollfd, count: nfds_t) -> List {
    // The kernel looks at the lower half of the number.
    let count = count as u32 as usize;
    if count == 0 {
        return List::default();
    }
    // SAFETY: the caller's promise.
    let fds = unsafe { std::slice::from_raw_parts(fds, count) };
    fds.iter().filter(|entry| entry.fd >= 0).map(|entry| (entry.fd, interest(entry.events))).collect()
}

fn interest(events: libc::c_short) -> Interest {
    let any = |bits| events & bits != 0;
    Interest {
        read: any(libc::POLLIN | libc::POLLRDNORM),
        write: any(libc::POLLOUT | libc::POLLWRNORM | libc::POLLWRBAND),
        exceptional: any(libc::POLLPRI | libc::POLLRDBAND),
        half_closed: any(libc::POLLRDHUP),
    }
}
