//! `pthread_rwlock_*`.

use std::sync::atomic::{AtomicI32, AtomicU8, Ordering};

use libc::{EBUSY, EDEADLK, EINVAL, ETIMEDOUT, c_int, clockid_t, pthread_rwlock_t, timespec};

use super::{Obtained, holders, is_valid, is_waited_by, obtain};
use crate::calls::Call;
use crate::gate;
use crate::lot;
use crate::real::real;
use greenlet::foreign::{self, Deadline};

/// Those who wait to read, in `lot`.
const READERS: u32 = 1;
/// Those who wait to write.
const WRITERS: u32 = 2;

/// pthread_rwlock_rdlock(3). Parks the greenlet while another has it to write. `EDEADLK` if it does itself.
///
/// A greenlet that waits to write is none of the writers that libc's kinds of lock prefer to readers.
///
/// # Safety
/// As pthread_rwlock_rdlock(3).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pthread_rwlock_rdlock(lock: *mut pthread_rwlock_t) -> c_int {
    // SAFETY: the caller's promise.
    unsafe {
        let plain = || real!(fn pthread_rwlock_rdlock(*mut pthread_rwlock_t) -> c_int)(lock);
        let Some(_call) = gate::enter(Call::pthread_rwlock_rdlock) else { return plain() };
        Way::Read.wait(lock, None, plain)
    }
}

/// pthread_rwlock_wrlock(3). Parks the greenlet while others have it. `EDEADLK` if it has it itself to write.
///
/// # Safety
/// As pthread_rwlock_wrlock(3).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pthread_rwlock_wrlock(lock: *mut pthread_rwlock_t) -> c_int {
    // SAFETY: the caller's promise.
    unsafe {
        let plain = || real!(fn pthread_rwlock_wrlock(*mut pthread_rwlock_t) -> c_int)(lock);
        let Some(_call) = gate::enter(Call::pthread_rwlock_wrlock) else { return plain() };
        Way::Write.wait(lock, None, plain)
    }
}

/// pthread_rwlock_trywrlock(3): libc's own, and notes whose it is.
///
/// # Safety
/// As pthread_rwlock_trywrlock(3).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pthread_rwlock_trywrlock(lock: *mut pthread_rwlock_t) -> c_int {
    // SAFETY: the caller's promise.
    unsafe {
        let result = real!(fn pthread_rwlock_trywrlock(*mut pthread_rwlock_t) -> c_int)(lock);
        if result == 0 && foreign::inside() { note(lock) } else { result }
    }
}

/// pthread_rwlock_timedrdlock(3). As [`pthread_rwlock_rdlock`].
///
/// # Safety
/// As pthread_rwlock_timedrdlock(3).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pthread_rwlock_timedrdlock(
    lock: *mut pthread_rwlock_t,
    until: *const timespec,
) -> c_int {
    // SAFETY: the caller's promise.
    unsafe {
        let plain = || {
            real!(fn pthread_rwlock_timedrdlock(*mut pthread_rwlock_t, *const timespec) -> c_int)(lock, until)
        };
        let Some(_call) = gate::enter(Call::pthread_rwlock_timedrdlock) else { return plain() };
        Way::Read.wait_until(lock, libc::CLOCK_REALTIME, until, plain)
    }
}

/// pthread_rwlock_timedwrlock(3). As [`pthread_rwlock_wrlock`].
///
/// # Safety
/// As pthread_rwlock_timedwrlock(3).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pthread_rwlock_timedwrlock(
    lock: *mut pthread_rwlock_t,
    until: *const timespec,
) -> c_int {
    // SAFETY: the caller's promise.
    unsafe {
        let plain = || {
            real!(fn pthread_rwlock_timedwrlock(*mut pthread_rwlock_t, *const timespec) -> c_int)(lock, until)
        };
        let Some(_call) = gate::enter(Call::pthread_rwlock_timedwrlock) else { return plain() };
        Way::Write.wait_until(lock, libc::CLOCK_REALTIME, until, plain)
    }
}

/// pthread_rwlock_clockrdlock(3). As [`pthread_rwlock_rdlock`].
///
/// # Safety
/// As pthread_rwlock_clockrdlock(3).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pthread_rwlock_clockrdlock(
    lock: *mut pthread_rwlock_t,
    clock: clockid_t,
    until: *const timespec,
) -> c_int {
    // SAFETY: the caller's promise.
    unsafe {
        let plain = || {
            let real = real!(fn pthread_rwlock_clockrdlock(*mut pthread_rwlock_t, clockid_t, *const timespec) -> c_int);
            real(lock, clock, until)
        };
        let Some(_call) = gate::enter(Call::pthread_rwlock_clockrdlock) else { return plain() };
        Way::Read.wait_until(lock, clock, until, plain)
    }
}

/// pthread_rwlock_clockwrlock(3). As [`pthread_rwlock_wrlock`].
///
/// # Safety
/// As pthread_rwlock_clockwrlock(3).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pthread_rwlock_clockwrlock(
    lock: *mut pthread_rwlock_t,
    clock: clockid_t,
    until: *const timespec,
) -> c_int {
    // SAFETY: the caller's promise.
    unsafe {
        let plain = || {
            let real = real!(fn pthread_rwlock_clockwrlock(*mut pthread_rwlock_t, clockid_t, *const timespec) -> c_int);
            real(lock, clock, until)
        };
        let Some(_call) = gate::enter(Call::pthread_rwlock_clockwrlock) else { return plain() };
        Way::Write.wait_until(lock, clock, until, plain)
    }
}

/// pthread_rwlock_unlock(3), and calls the greenlets that may have it now: those who wait to read, and one that waits to write.
///
/// # Safety
/// As pthread_rwlock_unlock(3).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pthread_rwlock_unlock(lock: *mut pthread_rwlock_t) -> c_int {
    // SAFETY: the caller's promise. Who locks it next may free it, so that afterwards it is an address.
    unsafe {
        if foreign::inside() {
            holders::given_back(lock.addr());
        }
        let result = real!(fn pthread_rwlock_unlock(*mut pthread_rwlock_t) -> c_int)(lock);
        lot::call_after_exchange(lock.addr(), WRITERS, 1);
        lot::call_after_exchange(lock.addr(), READERS, usize::MAX);
        result
    }
}

/// What it is locked for.
#[derive(Clone, Copy)]
enum Way {
    Read,
    Write,
}

impl Way {
    unsafe fn wait_until(
        self,
        lock: *mut pthread_rwlock_t,
        clock: clockid_t,
        until: *const timespec,
        plain: impl FnOnce() -> c_int,
    ) -> c_int {
        // SAFETY: the caller's promise.
        unsafe {
            // libc looks at the time first.
            if !is_waited_by(clock) || !is_valid(until) {
                return EINVAL;
            }
            if let Some(result) = self.attempt(lock) {
                return result;
            }
            let Some(deadline) = super::deadline(clock, until) else { return EINVAL };
            self.wait(lock, deadline, plain)
        }
    }

    unsafe fn wait(
        self,
        lock: *mut pthread_rwlock_t,
        deadline: Option<Deadline>,
        plain: impl FnOnce() -> c_int,
    ) -> c_int {
        static READ: &str = "pthread_rwlock_rdlock";
        static WRITE: &str = "pthread_rwlock_wrlock";
        let (bits, why) = match self {
            Way::Read => (READERS, &READ),
            Way::Write => (WRITERS, &WRITE),
        };
        // SAFETY: the caller's promise.
        unsafe {
            let shared = is_shared(lock);
            match obtain((lock.addr(), bits), why, deadline, || self.attempt(lock), || shared) {
                Obtained::Got(result) => result,
                Obtained::Late => ETIMEDOUT,
                Obtained::Refused => match (plain(), self) {
                    (0, Way::Write) => note(lock),
                    (result, _) => result,
                },
            }
        }
    }

    /// Locks it if that can be done now, or says what is wrong; `None` if it is to be waited for.
    unsafe fn attempt(self, lock: *mut pthread_rwlock_t) -> Option<c_int> {
        // SAFETY: the caller's promise.
        unsafe {
            let result = match self {
                Way::Read => real!(fn pthread_rwlock_tryrdlock(*mut pthread_rwlock_t) -> c_int)(lock),
                Way::Write => real!(fn pthread_rwlock_trywrlock(*mut pthread_rwlock_t) -> c_int)(lock),
            };
            match (result, self) {
                (0, Way::Write) => Some(note(lock)),
                (EBUSY, _) => (is_written_here(lock) && holders::is_mine(lock.addr())).then_some(EDEADLK),
                (result, _) => Some(result),
            }
        }
    }
}

/// Notes whose it is, since it was locked to be written.
unsafe fn note(lock: *mut pthread_rwlock_t) -> c_int {
    if holders::taken(lock.addr()) {
        return 0;
    }
    // SAFETY: the caller's promise, and it was just locked.
    unsafe { real!(fn pthread_rwlock_unlock(*mut pthread_rwlock_t) -> c_int)(lock) };
    libc::EAGAIN
}

/// Where libc keeps the number of the thread that writes. The tests look at both places.
const WRITER: usize = if cfg!(target_arch = "x86_64") { 24 } else { 28 };

/// Where libc keeps whether it is for several processes: not zero.
const SHARED: usize = if cfg!(target_arch = "x86_64") { 28 } else { 25 };

/// Whether libc says that this thread has it to write.
unsafe fn is_written_here(lock: *mut pthread_rwlock_t) -> bool {
    // SAFETY: the word lies in the lock, and is aligned.
    unsafe { AtomicI32::from_ptr(lock.byte_add(WRITER).cast()) }.load(Ordering::Relaxed) == super::thread()
}

unsafe fn is_shared(lock: *mut pthread_rwlock_t) -> bool {
    // SAFETY: as above.
    unsafe { AtomicU8::from_ptr(lock.byte_add(SHARED).cast()) }.load(Ordering::Relaxed) != 0
}
