//! Sleeping.
//!
//! A kill or the end of a timeout ends a sleep early, as though the time were over; only [`sleep`] can tell how much was left.
//! A signal handler that runs meanwhile does not end it. `pause`, `sigsuspend`, `sigwait` and their like wait for signals, which
//! are the thread's and no greenlet's: they are not in here, and stop the thread.

use std::time::Duration;

use greenlet::foreign::{self, Woken};
use libc::{c_int, c_uint, clockid_t, timespec, useconds_t};

use crate::calls::Call;
use crate::gate;
use crate::raw::{self, syscall};

/// How long a greenlet sleeps at most before it looks again at a clock that can be set.
const GLANCE: Duration = Duration::from_secs(1);

/// nanosleep(2). Parks the greenlet; a kill ends it early, as though the time were over.
///
/// # Safety
/// As nanosleep(2): both pointers are valid or null.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nanosleep(request: *const timespec, remaining: *mut timespec) -> c_int {
    // SAFETY: what the caller promises of the pointers; the kernel looks at them itself.
    let plain = || unsafe { raw::result(syscall!(SYS_nanosleep, request, remaining)) as c_int };
    let Some(call) = gate::enter(Call::nanosleep) else { return plain() };
    // SAFETY: null is left to the kernel to refuse, else it is valid.
    let Some(duration) = unsafe { request.as_ref() }.and_then(duration) else {
        drop(call);
        return plain();
    };
    match foreign::sleep(foreign::deadline(duration)) {
        Woken::Refused => {
            drop(call);
            plain()
        }
        _ => 0,
    }
}

/// [`nanosleep`] by the other name that libc has for it.
///
/// # Safety
/// As [`nanosleep`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn __nanosleep(request: *const timespec, remaining: *mut timespec) -> c_int {
    // SAFETY: the caller's promise.
    unsafe { nanosleep(request, remaining) }
}

/// clock_nanosleep(2), which gives the error and leaves `errno` alone; what `std::thread::sleep` calls, and Python's
/// `time.sleep`. Parks the greenlet, by any clock: that it was set is noticed within a second.
///
/// # Safety
/// As clock_nanosleep(2): both pointers are valid or null.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn clock_nanosleep(
    clock: clockid_t,
    flags: c_int,
    request: *const timespec,
    remaining: *mut timespec,
) -> c_int {
    let plain = || {
        // libc has this one rule of its own.
        if clock == libc::CLOCK_THREAD_CPUTIME_ID {
            return libc::EINVAL;
        }
        // SAFETY: what the caller promises of the pointers; the kernel looks at them itself.
        -unsafe { syscall!(SYS_clock_nanosleep, clock, flags, request, remaining) } as c_int
    };
    let Some(call) = gate::enter(Call::clock_nanosleep) else { return plain() };
    // SAFETY: null is left to the kernel to refuse, else it is valid.
    let request = unsafe { request.as_ref() }.and_then(duration);
    let slept = request.and_then(|time| match flags & libc::TIMER_ABSTIME {
        0 => by_clock(clock, time),
        _ => until(clock, time),
    });
    drop(call);
    match slept {
        Some(_) => 0,
        None => plain(),
    }
}

/// Sleeps for a time by a clock. `None` if it has not: the plain call is to be made, which knows what is wrong, too.
fn by_clock(clock: clockid_t, duration: Duration) -> Option<Woken> {
    match clock {
        // That the wall clock is set changes nothing of how long this takes.
        libc::CLOCK_REALTIME | libc::CLOCK_MONOTONIC => {
            Some(foreign::sleep(foreign::deadline(duration))).filter(|woken| *woken != Woken::Refused)
        }
        _ => until(clock, now(clock)?.checked_add(duration)?),
    }
}

/// Sleeps until a clock says so.
fn until(clock: clockid_t, time: Duration) -> Option<Woken> {
    let longest = match clock {
        libc::CLOCK_MONOTONIC => Duration::MAX,
        libc::CLOCK_REALTIME | libc::CLOCK_TAI | libc::CLOCK_BOOTTIME => GLANCE,
        // It may run as much faster than time as there are processors.
        libc::CLOCK_PROCESS_CPUTIME_ID => Duration::from_millis(10),
        _ => return None,
    };
    loop {
        let left = time.saturating_sub(now(clock)?);
        match foreign::sleep(foreign::deadline(left.min(longest))) {
            Woken::Refused => return None,
            // The hub's own clock needs no second look.
            Woken::Deadline if clock != libc::CLOCK_MONOTONIC && now(clock)? < time => {}
            woken => return Some(woken),
        }
    }
}

/// What a clock says.
fn now(clock: clockid_t) -> Option<Duration> {
    let mut time = timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: there is room for the answer. This never waits, and is not interposed.
    let result = unsafe { libc::clock_gettime(clock, &mut time) };
    if result == 0 { duration(&time) } else { None }
}

/// usleep(3).
#[unsafe(no_mangle)]
pub extern "C" fn usleep(micros: useconds_t) -> c_int {
    let plain = || {
        let time = of_micros(micros);
        // SAFETY: a time of our own.
        unsafe { raw::result(syscall!(SYS_nanosleep, &raw const time, 0)) as c_int }
    };
    let Some(call) = gate::enter(Call::usleep) else { return plain() };
    match foreign::sleep(foreign::deadline(Duration::from_micros(micros.into()))) {
        Woken::Refused => {
            drop(call);
            plain()
        }
        _ => 0,
    }
}

fn of_micros(micros: useconds_t) -> timespec {
    timespec { tv_sec: (micros / 1_000_000).into(), tv_nsec: (micros % 1_000_000 * 1000).into() }
}

/// sleep(3). Gives the seconds that were left, rounded up, when a kill ended it early.
#[unsafe(no_mangle)]
pub extern "C" fn sleep(seconds: c_uint) -> c_uint {
    let plain = || {
        let errno = raw::errno();
        let mut time = timespec { tv_sec: seconds.into(), tv_nsec: 0 };
        // SAFETY: a time of our own, which the kernel may write what is left to.
        let result = unsafe { syscall!(SYS_nanosleep, &raw const time, &raw mut time) };
        if result == 0 {
            return 0;
        }
        // Linux says EINTR, and as libc has it, so does this.
        raw::set_errno(if result == -(libc::EINTR as isize) { libc::EINTR } else { errno });
        whole_seconds(duration(&time).unwrap_or_default())
    };
    let Some(call) = gate::enter(Call::sleep) else { return plain() };
    let deadline = foreign::deadline(Duration::from_secs(seconds.into()));
    match foreign::sleep(deadline) {
        Woken::Refused => {
            drop(call);
            plain()
        }
        Woken::Interrupted => {
            call.fail(libc::EINTR);
            deadline.map_or(seconds, |deadline| whole_seconds(deadline.left()))
        }
        Woken::Event | Woken::Deadline => 0,
    }
}

/// Rounded up, so that what ended early never says that it did not.
fn whole_seconds(left: Duration) -> c_uint {
    let seconds = left.as_secs().saturating_add(u64::from(left.subsec_nanos() > 0));
    c_uint::try_from(seconds).unwrap_or(c_uint::MAX)
}

/// thrd_sleep(3), of C's own threads: 0, -1 if a signal handler ended it, another negative number if it was an error.
///
/// # Safety
/// As thrd_sleep(3): both pointers are valid, or the second is null.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn thrd_sleep(request: *const timespec, remaining: *mut timespec) -> c_int {
    let plain = || {
        // SAFETY: what the caller promises of the pointers; the kernel looks at them itself.
        let result = unsafe { syscall!(SYS_clock_nanosleep, libc::CLOCK_REALTIME, 0, request, remaining) };
        match -result as c_int {
            0 => 0,
            libc::EINTR => -1,
            _ => -2,
        }
    };
    let Some(call) = gate::enter(Call::thrd_sleep) else { return plain() };
    // SAFETY: null is left to the kernel to refuse, else it is valid.
    let request = unsafe { request.as_ref() }.and_then(duration);
    let slept = request.and_then(|time| by_clock(libc::CLOCK_REALTIME, time));
    drop(call);
    match slept {
        Some(_) => 0,
        None => plain(),
    }
}

/// As a `Duration`, if it is valid.
pub(crate) fn duration(time: &timespec) -> Option<Duration> {
    let seconds = u64::try_from(time.tv_sec).ok()?;
    let nanos = u32::try_from(time.tv_nsec).ok().filter(|nanos| *nanos < 1_000_000_000)?;
    Some(Duration::new(seconds, nanos))
}

/// As C has it; what is beyond its end is its end.
pub(crate) fn timespec_of(duration: Duration) -> timespec {
    timespec {
        tv_sec: duration.as_secs().try_into().unwrap_or(i64::MAX),
        tv_nsec: duration.subsec_nanos().into(),
    }
}
