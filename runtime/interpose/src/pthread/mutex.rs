//! `pthread_mutex_*`.

use std::mem::offset_of;
use std::sync::atomic::{AtomicI32, AtomicU32, Ordering};

use greenlet::foreign::{self, Deadline};
use libc::{
    EBUSY, EDEADLK, EINVAL, EOWNERDEAD, EPERM, ETIMEDOUT, c_int, clockid_t, pthread_mutex_t, timespec,
};

use super::{Obtained, holders, obtain};
use crate::calls::Call;
use crate::gate;
use crate::lot;
use crate::real::real;

/// pthread_mutex_lock(3). Parks the greenlet while another has it, be it a greenlet of this thread, of another, or a thread.
///
/// A mutex of the normal kind that is locked again by its own greenlet stops that greenlet for good, and nobody else.
///
/// # Safety
/// As pthread_mutex_lock(3).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pthread_mutex_lock(mutex: *mut pthread_mutex_t) -> c_int {
    // SAFETY: the caller's promise.
    unsafe {
        let Some(_call) = gate::enter(Call::pthread_mutex_lock) else { return plain_lock(mutex) };
        lock(mutex)
    }
}

/// pthread_mutex_trylock(3). Never waits, but knows greenlets: a recursive mutex that another one holds is `EBUSY`.
///
/// # Safety
/// As pthread_mutex_trylock(3).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pthread_mutex_trylock(mutex: *mut pthread_mutex_t) -> c_int {
    // SAFETY: the caller's promise.
    unsafe {
        if !Kind::of(mutex).has_owner() || gate::enter(Call::pthread_mutex_lock).is_none() {
            return plain_trylock(mutex);
        }
        match attempt(mutex) {
            // Locking it would be a deadlock, but this is what "busy" is for.
            Some(EDEADLK) => plain_trylock(mutex),
            Some(result) => result,
            None => EBUSY,
        }
    }
}

/// pthread_mutex_timedlock(3). As [`pthread_mutex_lock`].
///
/// # Safety
/// As pthread_mutex_timedlock(3).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pthread_mutex_timedlock(
    mutex: *mut pthread_mutex_t,
    until: *const timespec,
) -> c_int {
    // SAFETY: the caller's promise.
    unsafe {
        let plain = || {
            real!(fn pthread_mutex_timedlock(*mut pthread_mutex_t, *const timespec) -> c_int)(mutex, until)
        };
        let Some(_call) = gate::enter(Call::pthread_mutex_timedlock) else { return plain() };
        lock_until(mutex, libc::CLOCK_REALTIME, until, plain)
    }
}

/// pthread_mutex_clocklock(3). As [`pthread_mutex_lock`].
///
/// # Safety
/// As pthread_mutex_clocklock(3).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pthread_mutex_clocklock(
    mutex: *mut pthread_mutex_t,
    clock: clockid_t,
    until: *const timespec,
) -> c_int {
    // SAFETY: the caller's promise.
    unsafe {
        let plain = || {
            let real =
                real!(fn pthread_mutex_clocklock(*mut pthread_mutex_t, clockid_t, *const timespec) -> c_int);
            real(mutex, clock, until)
        };
        let Some(_call) = gate::enter(Call::pthread_mutex_clocklock) else { return plain() };
        if !super::is_waited_by(clock) {
            return EINVAL;
        }
        lock_until(mutex, clock, until, plain)
    }
}

/// pthread_mutex_unlock(3), and calls a greenlet that waits for it. A mutex whose kind has an owner is given back by the
/// greenlet that has it; another one, of the same thread too, is told `EPERM`.
///
/// # Safety
/// As pthread_mutex_unlock(3).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pthread_mutex_unlock(mutex: *mut pthread_mutex_t) -> c_int {
    // SAFETY: the caller's promise.
    unsafe { unlock(mutex) }
}

/// # Safety
/// As pthread_mutex_unlock(3).
#[inline]
pub(super) unsafe fn unlock(mutex: *mut pthread_mutex_t) -> c_int {
    // SAFETY: the caller's promise. Who locks it next may free it, so that afterwards it is an address.
    unsafe {
        if foreign::inside() && Kind::of(mutex).has_owner() && !give_back(mutex) {
            return EPERM;
        }
        let result = plain_unlock(mutex);
        lot::call_after_exchange(mutex.addr(), u32::MAX, 1);
        result
    }
}

/// Locks it for the greenlet that runs.
///
/// # Safety
/// As pthread_mutex_lock(3).
pub(super) unsafe fn lock(mutex: *mut pthread_mutex_t) -> c_int {
    // SAFETY: the caller's promise.
    unsafe { wait(mutex, None, || plain_lock(mutex)) }
}

unsafe fn lock_until(
    mutex: *mut pthread_mutex_t,
    clock: clockid_t,
    until: *const timespec,
    plain: impl FnOnce() -> c_int,
) -> c_int {
    // SAFETY: the caller's promise.
    unsafe {
        // What is free is taken without a look at the time, as libc does.
        if let Some(result) = attempt(mutex) {
            return result;
        }
        let Some(deadline) = super::deadline(clock, until) else { return EINVAL };
        wait(mutex, deadline, plain)
    }
}

unsafe fn wait(
    mutex: *mut pthread_mutex_t,
    deadline: Option<Deadline>,
    plain: impl FnOnce() -> c_int,
) -> c_int {
    static WHY: &str = "pthread_mutex_lock";
    // SAFETY: the caller's promise.
    unsafe {
        let kind = Kind::of(mutex);
        let unheard = || kind.changes_unheard() || Sleepers::of(mutex).any();
        match obtain((mutex.addr(), u32::MAX), &WHY, deadline, || attempt(mutex), unheard) {
            Obtained::Got(result) => result,
            Obtained::Late => ETIMEDOUT,
            // Nobody else of this thread will run before this returns, and libc would let it in, or tell it the same.
            Obtained::Refused if kind.has_owner() && is_this_threads(mutex) => EDEADLK,
            Obtained::Refused => match plain() {
                0 if kind.has_owner() => note(mutex, 0),
                result => result,
            },
        }
    }
}

/// Locks it if it is free, or says what is wrong; `None` if it is to be waited for.
unsafe fn attempt(mutex: *mut pthread_mutex_t) -> Option<c_int> {
    // SAFETY: the caller's promise.
    unsafe {
        let result = plain_trylock(mutex);
        let kind = Kind::of(mutex);
        if !kind.has_owner() {
            return (result != EBUSY).then_some(result);
        }
        match result {
            // This thread had it before.
            0 if kind.is_recursive() && depth(mutex) > 1 => {
                if holders::is_mine(mutex.addr()) {
                    return Some(0);
                }
                plain_unlock(mutex);
                None
            }
            0 | EOWNERDEAD => Some(note(mutex, result)),
            EBUSY | EDEADLK => {
                let again =
                    kind.is_error_checking() && is_this_threads(mutex) && holders::is_mine(mutex.addr());
                again.then_some(EDEADLK)
            }
            other => Some(other),
        }
    }
}

/// Notes whose it is, since it was taken with this result.
unsafe fn note(mutex: *mut pthread_mutex_t, result: c_int) -> c_int {
    if holders::taken(mutex.addr()) {
        return result;
    }
    // SAFETY: the caller's promise, and it was just locked.
    unsafe { plain_unlock(mutex) };
    libc::EAGAIN
}

/// Whether the greenlet that runs may unlock it; if so, and nothing of it is left to it then, it isn't its own any more.
unsafe fn give_back(mutex: *mut pthread_mutex_t) -> bool {
    if gate::enter(Call::pthread_mutex_lock).is_none() {
        return true;
    }
    // SAFETY: the caller's promise.
    unsafe {
        // If it is another thread's, libc would say the same.
        if !holders::is_mine(mutex.addr()) {
            return false;
        }
        if !Kind::of(mutex).is_recursive() || depth(mutex) <= 1 {
            holders::given_back(mutex.addr());
        }
        true
    }
}

/// Whether the greenlet that runs may not unlock it, as its kind has it.
///
/// # Safety
/// It is a mutex.
pub(super) unsafe fn is_anothers(mutex: *mut pthread_mutex_t) -> bool {
    // SAFETY: the caller's promise.
    unsafe { Kind::of(mutex).has_owner() && !(is_this_threads(mutex) && holders::is_mine(mutex.addr())) }
}

/// Whether libc says that this thread has it, whose kind has an owner.
unsafe fn is_this_threads(mutex: *mut pthread_mutex_t) -> bool {
    // SAFETY: a mutex's words are read like this by libc, too.
    unsafe { word(mutex, offset_of!(Layout, owner)) == super::thread() }
}

/// How often it is locked, if it is recursive and this thread's.
unsafe fn depth(mutex: *mut pthread_mutex_t) -> c_int {
    // SAFETY: as above.
    unsafe { word(mutex, offset_of!(Layout, count)) }
}

/// The beginning of libc's mutex. The kind's place cannot change, because of static initialisers; the others have
/// been in theirs since there is NPTL. The tests look at all three.
#[repr(C)]
struct Layout {
    lock: c_int,
    count: c_int,
    owner: c_int,
    #[cfg(target_arch = "x86_64")]
    users: c_int,
    kind: c_int,
}

unsafe fn word(mutex: *mut pthread_mutex_t, offset: usize) -> c_int {
    // SAFETY: it lies in the mutex, and is aligned.
    unsafe { AtomicI32::from_ptr(mutex.byte_add(offset).cast()) }.load(Ordering::Relaxed)
}

/// What a mutex was made to be.
#[derive(Clone, Copy)]
struct Kind(c_int);

impl Kind {
    const RECURSIVE: c_int = 1;
    const ERROR_CHECKING: c_int = 2;
    const TYPE: c_int = 3;
    const ROBUST: c_int = 16;
    const SHARED: c_int = 128;

    #[inline]
    unsafe fn of(mutex: *mut pthread_mutex_t) -> Kind {
        // SAFETY: the caller's promise.
        Kind(unsafe { word(mutex, offset_of!(Layout, kind)) })
    }

    fn is_recursive(self) -> bool {
        self.0 & Kind::TYPE == Kind::RECURSIVE
    }

    fn is_error_checking(self) -> bool {
        self.0 & Kind::TYPE == Kind::ERROR_CHECKING
    }

    /// Whether it matters who has it.
    #[inline]
    fn has_owner(self) -> bool {
        self.is_recursive() || self.is_error_checking() || self.0 & Kind::ROBUST != 0
    }

    /// Whether it may become free without a call of ours: by another process, or because its owner has died.
    fn changes_unheard(self) -> bool {
        self.0 & (Kind::ROBUST | Kind::SHARED) != 0
    }
}

/// Threads that wait for a condition in libc, by the mutex that they wait with, some mutexes as one: libc unlocks that within,
/// and calls nobody.
pub(super) struct Sleepers(&'static AtomicU32);

impl Sleepers {
    pub(super) fn of(mutex: *mut pthread_mutex_t) -> Sleepers {
        const COUNT: usize = 256;
        static ALL: [AtomicU32; COUNT] = [const { AtomicU32::new(0) }; COUNT];
        Sleepers(&ALL[mutex.addr().wrapping_mul(0x9E37_79B9_7F4A_7C15) >> (usize::BITS - COUNT.ilog2())])
    }

    fn any(&self) -> bool {
        self.0.load(Ordering::SeqCst) > 0
    }

    /// There is one, until what this gives is dropped.
    pub(super) fn enter(self) -> Sleeps {
        self.0.fetch_add(1, Ordering::SeqCst);
        Sleeps(self.0)
    }
}

pub(super) struct Sleeps(&'static AtomicU32);

impl Drop for Sleeps {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

#[inline]
unsafe fn plain_lock(mutex: *mut pthread_mutex_t) -> c_int {
    // SAFETY: the caller's promise.
    unsafe { real!(fn pthread_mutex_lock(*mut pthread_mutex_t) -> c_int)(mutex) }
}

#[inline]
unsafe fn plain_trylock(mutex: *mut pthread_mutex_t) -> c_int {
    // SAFETY: the caller's promise.
    unsafe { real!(fn pthread_mutex_trylock(*mut pthread_mutex_t) -> c_int)(mutex) }
}

#[inline]
unsafe fn plain_unlock(mutex: *mut pthread_mutex_t) -> c_int {
    // SAFETY: the caller's promise.
    unsafe { real!(fn pthread_mutex_unlock(*mut pthread_mutex_t) -> c_int)(mutex) }
}
