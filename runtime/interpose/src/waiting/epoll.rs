//! epoll_wait and its kin.

use std::time::Duration;

use greenlet::foreign::Interest;
use libc::{c_int, epoll_event, sigset_t, timespec};

use super::signals::deliver;
use super::{List, SIGNALS, mask_pointer, of_milliseconds, wait};
use crate::calls::Call;
use crate::gate::{self, Entered};
use crate::raw::{self, syscall};
use crate::time::duration;

/// epoll_wait(2).
///
/// # Safety
/// As epoll_wait(2): there is room for `count` events.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn epoll_wait(
    epoll: c_int,
    events: *mut epoll_event,
    count: c_int,
    milliseconds: c_int,
) -> c_int {
    let entered = gate::enter(Call::epoll_wait);
    // SAFETY: the caller's promise.
    unsafe { epoll_with(entered, epoll, events, count, of_milliseconds(milliseconds), None) }
}

/// epoll_pwait(2).
///
/// # Safety
/// As epoll_pwait(2): there is room for `count` events, and the mask is valid or null.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn epoll_pwait(
    epoll: c_int,
    events: *mut epoll_event,
    count: c_int,
    milliseconds: c_int,
    mask: *const sigset_t,
) -> c_int {
    let entered = gate::enter(Call::epoll_pwait);
    // SAFETY: the caller's promise.
    unsafe { epoll_with(entered, epoll, events, count, of_milliseconds(milliseconds), mask.as_ref()) }
}

/// epoll_pwait2(2).
///
/// # Safety
/// As epoll_pwait2(2): there is room for `count` events, and the other pointers are valid or null.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn epoll_pwait2(
    epoll: c_int,
    events: *mut epoll_event,
    count: c_int,
    timeout: *const timespec,
    mask: *const sigset_t,
) -> c_int {
    let plain = || {
        // SAFETY: the caller's promise.
        let kernels = unsafe { syscall!(SYS_epoll_pwait2, epoll, events, count, timeout, mask, SIGNALS) };
        raw::result(kernels) as c_int
    };
    let Some(call) = gate::enter(Call::epoll_pwait2) else { return plain() };
    // SAFETY: the caller's promise.
    let timeout = match unsafe { timeout.as_ref() }.map(|time| duration(time).ok_or(())) {
        None => None,
        Some(Ok(timeout)) => Some(timeout),
        Some(Err(())) => {
            drop(call);
            return plain();
        }
    };
    // SAFETY: the caller's promise.
    unsafe { epoll_with(Some(call), epoll, events, count, timeout, mask.as_ref()) }
}

/// # Safety
/// There is room for `count` events.
unsafe fn epoll_with(
    entered: Option<Entered>,
    epoll: c_int,
    events: *mut epoll_event,
    count: c_int,
    timeout: Option<Duration>,
    mask: Option<&sigset_t>,
) -> c_int {
    let ask = |timeout: Option<Duration>| {
        // Rounded up, so that it is not over too early.
        let milliseconds = timeout
            .map_or(-1, |time| c_int::try_from(time.as_nanos().div_ceil(1_000_000)).unwrap_or(c_int::MAX));
        // SAFETY: the caller's promise.
        unsafe { syscall!(SYS_epoll_pwait, epoll, events, count, milliseconds, mask_pointer(mask), SIGNALS) }
    };
    let Some(call) = entered else { return raw::result(ask(timeout)) as c_int };
    let look = |timeout: Option<Duration>| {
        let found = ask(timeout);
        match mask {
            // Without waiting, this call alone would not deliver a signal.
            Some(mask) if found == 0 && timeout == Some(Duration::ZERO) => deliver(mask),
            _ => found,
        }
    };
    wait(call, libc::EINTR, timeout, mask, || List::from_iter([(epoll, Interest::READ)]), look) as c_int
}
