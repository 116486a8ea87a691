//! `sem_*`.

use std::sync::atomic::{AtomicU32, Ordering};

use libc::{EAGAIN, EINVAL, ETIMEDOUT, c_int, clockid_t, sem_t, timespec};

use super::{Obtained, is_valid, is_waited_by, obtain};
use crate::calls::Call;
use crate::gate;
use crate::lot;
use crate::raw;
use crate::real::real;
use greenlet::foreign::Deadline;

/// sem_wait(3). Parks the greenlet until it can be had. One that is shared between processes (`pshared`, or with a name) is
/// looked at again now and then, too, since another process's sem_post(3) calls nobody here.
///
/// # Safety
/// As sem_wait(3).
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn sem_wait(semaphore: *mut sem_t) -> c_int {
    // SAFETY: the caller's promise.
    unsafe {
        let plain = || real!(fn sem_wait(*mut sem_t) -> c_int)(semaphore);
        let Some(call) = gate::enter(Call::sem_wait) else { return plain() };
        match wait(semaphore, None) {
            Some(0) => 0,
            Some(error) => call.fail(error) as c_int,
            None => {
                drop(call);
                plain()
            }
        }
    }
}

/// sem_timedwait(3). As [`sem_wait`].
///
/// # Safety
/// As sem_timedwait(3).
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn sem_timedwait(semaphore: *mut sem_t, until: *const timespec) -> c_int {
    // SAFETY: the caller's promise.
    unsafe {
        let plain = || real!(fn sem_timedwait(*mut sem_t, *const timespec) -> c_int)(semaphore, until);
        let Some(call) = gate::enter(Call::sem_timedwait) else { return plain() };
        wait_until(call, semaphore, libc::CLOCK_REALTIME, until, plain)
    }
}

/// sem_clockwait(3). As [`sem_wait`].
///
/// # Safety
/// As sem_clockwait(3).
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn sem_clockwait(
    semaphore: *mut sem_t,
    clock: clockid_t,
    until: *const timespec,
) -> c_int {
    // SAFETY: the caller's promise.
    unsafe {
        let plain = || {
            real!(fn sem_clockwait(*mut sem_t, clockid_t, *const timespec) -> c_int)(semaphore, clock, until)
        };
        let Some(call) = gate::enter(Call::sem_clockwait) else { return plain() };
        wait_until(call, semaphore, clock, until, plain)
    }
}

/// sem_post(3), and calls a greenlet that waits. May be called in a signal handler: it takes no lock that the thread might have.
///
/// # Safety
/// As sem_post(3).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sem_post(semaphore: *mut sem_t) -> c_int {
    // SAFETY: the caller's promise. Who takes it may free it, so that afterwards it is an address.
    let result = unsafe { real!(fn sem_post(*mut sem_t) -> c_int)(semaphore) };
    if result == 0 {
        let errno = raw::errno();
        lot::call(semaphore.addr(), !0, 1);
        raw::set_errno(errno);
    }
    result
}

unsafe fn wait_until(
    call: gate::Entered,
    semaphore: *mut sem_t,
    clock: clockid_t,
    until: *const timespec,
    plain: impl FnOnce() -> c_int,
) -> c_int {
    // SAFETY: the caller's promise.
    unsafe {
        // libc looks at the time first.
        if !is_waited_by(clock) || !is_valid(until) {
            return call.fail(EINVAL) as c_int;
        }
        let outcome = match attempt(semaphore) {
            Some(result) => Some(result),
            None => super::deadline(clock, until).map_or(Some(EINVAL), |deadline| wait(semaphore, deadline)),
        };
        match outcome {
            Some(0) => 0,
            Some(error) => call.fail(error) as c_int,
            None => {
                drop(call);
                plain()
            }
        }
    }
}

/// `None` if it cannot be waited for here.
unsafe fn wait(semaphore: *mut sem_t, deadline: Option<Deadline>) -> Option<c_int> {
    static WHY: &str = "sem_wait";
    // SAFETY: the caller's promise.
    unsafe {
        let shared = is_shared(semaphore);
        match obtain((semaphore.addr(), !0), &WHY, deadline, || attempt(semaphore), || shared) {
            Obtained::Got(result) => Some(result),
            Obtained::Late => Some(ETIMEDOUT),
            Obtained::Refused => None,
        }
    }
}

/// 0, or an error; `None` if it is to be waited for.
unsafe fn attempt(semaphore: *mut sem_t) -> Option<c_int> {
    // SAFETY: the caller's promise.
    if unsafe { real!(fn sem_trywait(*mut sem_t) -> c_int)(semaphore) } == 0 {
        return Some(0);
    }
    let error = raw::errno();
    (error != EAGAIN).then_some(error)
}

/// Whether other processes may have it.
unsafe fn is_shared(semaphore: *mut sem_t) -> bool {
    // Behind the count, of 64 bits.
    const OFFSET: usize = 8;
    // SAFETY: the word lies in the semaphore, and is aligned.
    unsafe { AtomicU32::from_ptr(semaphore.byte_add(OFFSET).cast()) }.load(Ordering::Relaxed) != 0
}
