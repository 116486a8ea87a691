//! `pthread_join` and its like, and `pthread_spin_lock`.

use std::ffi::c_void;
use std::os::fd::RawFd;
use std::ptr;

use greenlet::foreign::{self, Deadline, Woken};
use libc::{EINVAL, ETIMEDOUT, c_int, clockid_t, pthread_t, timespec};

use super::{Looks, deadline, is_waited_by};
use crate::calls::Call;
use crate::gate;
use crate::raw::syscall;
use crate::real::real;

/// pthread_join(3). Parks the greenlet until the thread has ended, without a thread that waits for it.
///
/// That two threads wait for each other is told (`EDEADLK`) only to the one of them that does so in no greenlet.
///
/// # Safety
/// As pthread_join(3).
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn pthread_join(thread: pthread_t, result: *mut *mut c_void) -> c_int {
    // SAFETY: the caller's promise.
    unsafe {
        let plain = || real!(fn pthread_join(pthread_t, *mut *mut c_void) -> c_int)(thread, result);
        let Some(_call) = gate::enter(Call::pthread_join) else { return plain() };
        join(thread, result, None).unwrap_or_else(plain)
    }
}

/// pthread_timedjoin_np(3). As [`pthread_join`].
///
/// # Safety
/// As pthread_timedjoin_np(3).
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn pthread_timedjoin_np(
    thread: pthread_t,
    result: *mut *mut c_void,
    until: *const timespec,
) -> c_int {
    // SAFETY: the caller's promise.
    unsafe {
        let plain = || plain_timedjoin(thread, result, until);
        let Some(_call) = gate::enter(Call::pthread_timedjoin_np) else { return plain() };
        join_until(thread, result, libc::CLOCK_REALTIME, until, plain)
    }
}

/// pthread_clockjoin_np(3). As [`pthread_join`].
///
/// # Safety
/// As pthread_clockjoin_np(3).
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn pthread_clockjoin_np(
    thread: pthread_t,
    result: *mut *mut c_void,
    clock: clockid_t,
    until: *const timespec,
) -> c_int {
    // SAFETY: the caller's promise.
    unsafe {
        let plain = || {
            let real = real!(fn pthread_clockjoin_np(pthread_t, *mut *mut c_void, clockid_t, *const timespec) -> c_int);
            real(thread, result, clock, until)
        };
        let Some(_call) = gate::enter(Call::pthread_clockjoin_np) else { return plain() };
        join_until(thread, result, clock, until, plain)
    }
}

/// pthread_spin_lock(3). A greenlet lets others run between attempts, since one of them may have it.
///
/// # Safety
/// As pthread_spin_lock(3).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pthread_spin_lock(lock: *mut c_int) -> c_int {
    // SAFETY: the caller's promise.
    unsafe {
        if let Some(_call) = gate::enter(Call::pthread_spin_lock) {
            let attempt = real!(fn pthread_spin_trylock(*mut c_int) -> c_int);
            loop {
                if attempt(lock) == 0 {
                    return 0;
                }
                if !foreign::yield_now() {
                    break;
                }
            }
        }
        real!(fn pthread_spin_lock(*mut c_int) -> c_int)(lock)
    }
}

unsafe fn plain_timedjoin(thread: pthread_t, result: *mut *mut c_void, until: *const timespec) -> c_int {
    // SAFETY: the caller's promise.
    unsafe {
        real!(fn pthread_timedjoin_np(pthread_t, *mut *mut c_void, *const timespec) -> c_int)(
            thread, result, until,
        )
    }
}

unsafe fn join_until(
    thread: pthread_t,
    result: *mut *mut c_void,
    clock: clockid_t,
    until: *const timespec,
    plain: impl FnOnce() -> c_int,
) -> c_int {
    // SAFETY: the caller's promise.
    unsafe {
        let deadline = match until.is_null() {
            true => Some(None),
            false if is_waited_by(clock) => deadline(clock, until),
            false => None,
        };
        match deadline {
            Some(deadline) => join(thread, result, deadline).unwrap_or_else(plain),
            None => EINVAL,
        }
    }
}

/// `None` if the greenlet cannot be parked.
unsafe fn join(thread: pthread_t, result: *mut *mut c_void, deadline: Option<Deadline>) -> Option<c_int> {
    /// Long ago. By this, and not by pthread_tryjoin_np(3), libc says what is wrong with the thread.
    static NOW: timespec = timespec { tv_sec: 0, tv_nsec: 0 };
    let mut looks = Looks::new();
    let mut end = None;
    loop {
        // SAFETY: the caller's promise.
        let joined = unsafe { plain_timedjoin(thread, result, &raw const NOW) };
        if joined != ETIMEDOUT || deadline.is_some_and(|deadline| deadline.left().is_zero()) {
            return Some(joined);
        }
        let woken = match &end {
            None => {
                // SAFETY: the caller's promise. It must not have ended before this was made: so it is looked at once more.
                end = Some(unsafe { End::of(thread) });
                continue;
            }
            Some(Some(end)) => end.wait(deadline),
            // An older kernel.
            Some(None) => foreign::sleep(looks.next(deadline)),
        };
        if woken == Woken::Refused {
            return None;
        }
    }
}

/// A descriptor that tells of a thread's end.
struct End(RawFd);

impl End {
    /// # Safety
    /// The thread has not been joined.
    unsafe fn of(thread: pthread_t) -> Option<End> {
        /// `PIDFD_THREAD`, since Linux 6.9.
        const THREAD: c_int = libc::O_EXCL;
        let mut clock = 0;
        // SAFETY: the caller's promise.
        if unsafe { libc::pthread_getcpuclockid(thread, &raw mut clock) } != 0 {
            return None;
        }
        // The kernel's way to name the clock of a thread: its number, inverted, above three bits.
        let number = !(clock >> 3);
        // SAFETY: numbers only.
        let fd = unsafe { syscall!(SYS_pidfd_open, number, THREAD) };
        (fd >= 0).then_some(End(fd as RawFd))
    }

    fn wait(&self, deadline: Option<Deadline>) -> Woken {
        foreign::wait_readable(self.0, deadline).unwrap_or_else(|_| {
            // It cannot be watched.
            foreign::sleep(Looks(Looks::LAST).next(deadline))
        })
    }
}

impl Drop for End {
    fn drop(&mut self) {
        foreign::closing(self.0);
        // SAFETY: it is ours alone.
        unsafe { syscall!(SYS_close, self.0) };
    }
}

/// For C11's: joins, and gives what the thread has returned.
pub(super) unsafe fn join_for_int(thread: pthread_t, result: *mut c_int) -> c_int {
    let mut returned = ptr::null_mut();
    // SAFETY: the caller's promise.
    unsafe {
        let joined = pthread_join(thread, &raw mut returned);
        if joined == 0 && !result.is_null() {
            *result = returned.addr() as c_int;
        }
        joined
    }
}
