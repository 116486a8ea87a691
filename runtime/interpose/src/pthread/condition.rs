//! `pthread_cond_*`.

use std::mem::MaybeUninit;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

use libc::{
    EINVAL, EPERM, ETIMEDOUT, c_int, clockid_t, pthread_cond_t, pthread_condattr_t, pthread_mutex_t, timespec,
};

use super::mutex::{self, Sleepers};
use super::{Looks, is_valid, is_waited_by};
use crate::calls::Call;
use crate::gate;
use crate::lot::{self, Wait, Waited};
use crate::real::real;
use greenlet::foreign::Deadline;

/// libc's own, of the kind of condition that there has been since NPTL: on x86-64 there is an older one, of another layout.
macro_rules! own {
    ($($function:tt)*) => {{
        #[cfg(target_arch = "x86_64")]
        let own = real!("GLIBC_2.3.2", $($function)*);
        #[cfg(not(target_arch = "x86_64"))]
        let own = real!($($function)*);
        own
    }};
}

/// pthread_cond_init(3): libc's own.
///
/// # Safety
/// As pthread_cond_init(3).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pthread_cond_init(
    condition: *mut pthread_cond_t,
    attributes: *const pthread_condattr_t,
) -> c_int {
    // SAFETY: the caller's promise.
    unsafe {
        own!(fn pthread_cond_init(*mut pthread_cond_t, *const pthread_condattr_t) -> c_int)(
            condition, attributes,
        )
    }
}

/// pthread_cond_destroy(3): libc's own.
///
/// # Safety
/// As pthread_cond_destroy(3).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pthread_cond_destroy(condition: *mut pthread_cond_t) -> c_int {
    // SAFETY: the caller's promise.
    unsafe { own!(fn pthread_cond_destroy(*mut pthread_cond_t) -> c_int)(condition) }
}

/// pthread_cond_wait(3). Parks the greenlet until it is signalled. A thread without a hub that shares the mutex with greenlets
/// may be woken for nothing, as POSIX has it for everybody.
///
/// # Safety
/// As pthread_cond_wait(3).
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn pthread_cond_wait(
    condition: *mut pthread_cond_t,
    mutex: *mut pthread_mutex_t,
) -> c_int {
    // SAFETY: the caller's promise.
    unsafe {
        let plain = || {
            own!(fn pthread_cond_wait(*mut pthread_cond_t, *mut pthread_mutex_t) -> c_int)(condition, mutex)
        };
        match gate::enter(Call::pthread_cond_wait) {
            Some(_call) => wait(condition, mutex, None, plain),
            None => wait_in_libc(mutex, plain),
        }
    }
}

/// pthread_cond_timedwait(3), by the clock that the condition was made with. As [`pthread_cond_wait`].
///
/// # Safety
/// As pthread_cond_timedwait(3).
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn pthread_cond_timedwait(
    condition: *mut pthread_cond_t,
    mutex: *mut pthread_mutex_t,
    until: *const timespec,
) -> c_int {
    // SAFETY: the caller's promise.
    unsafe {
        let plain = || {
            let own = own!(fn pthread_cond_timedwait(*mut pthread_cond_t, *mut pthread_mutex_t, *const timespec) -> c_int);
            own(condition, mutex, until)
        };
        let Some(_call) = gate::enter(Call::pthread_cond_timedwait) else {
            return wait_in_libc(mutex, plain);
        };
        let clock =
            if Trait::Monotonic.is_had_by(condition) { libc::CLOCK_MONOTONIC } else { libc::CLOCK_REALTIME };
        let Some(deadline) = super::deadline(clock, until) else { return EINVAL };
        wait(condition, mutex, deadline, plain)
    }
}

/// pthread_cond_clockwait(3). As [`pthread_cond_wait`].
///
/// # Safety
/// As pthread_cond_clockwait(3).
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn pthread_cond_clockwait(
    condition: *mut pthread_cond_t,
    mutex: *mut pthread_mutex_t,
    clock: clockid_t,
    until: *const timespec,
) -> c_int {
    // SAFETY: the caller's promise.
    unsafe {
        let plain = || {
            let own = real!(
                fn pthread_cond_clockwait(*mut pthread_cond_t, *mut pthread_mutex_t, clockid_t, *const timespec) -> c_int
            );
            own(condition, mutex, clock, until)
        };
        let Some(_call) = gate::enter(Call::pthread_cond_clockwait) else {
            return wait_in_libc(mutex, plain);
        };
        if !is_valid(until) || !is_waited_by(clock) {
            return EINVAL;
        }
        let Some(deadline) = super::deadline(clock, until) else { return EINVAL };
        wait(condition, mutex, deadline, plain)
    }
}

/// pthread_cond_signal(3): wakes a greenlet that waits, the one that has waited longest, or else a thread.
///
/// # Safety
/// As pthread_cond_signal(3).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pthread_cond_signal(condition: *mut pthread_cond_t) -> c_int {
    // SAFETY: the caller's promise.
    unsafe {
        // Who waits in another process may be the one that is meant.
        let called = lot::call(condition.addr(), u32::MAX, 1);
        if called > 0 && !Trait::Shared.is_had_by(condition) {
            return 0;
        }
        own!(fn pthread_cond_signal(*mut pthread_cond_t) -> c_int)(condition)
    }
}

/// pthread_cond_broadcast(3): wakes all greenlets and all threads that wait.
///
/// # Safety
/// As pthread_cond_broadcast(3).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pthread_cond_broadcast(condition: *mut pthread_cond_t) -> c_int {
    lot::call(condition.addr(), u32::MAX, usize::MAX);
    // SAFETY: the caller's promise.
    unsafe { own!(fn pthread_cond_broadcast(*mut pthread_cond_t) -> c_int)(condition) }
}

/// In a greenlet.
unsafe fn wait(
    condition: *mut pthread_cond_t,
    mutex: *mut pthread_mutex_t,
    deadline: Option<Deadline>,
    plain: impl FnOnce() -> c_int,
) -> c_int {
    static WHY: &str = "pthread_cond_wait";
    // SAFETY: the caller's promise.
    unsafe {
        if mutex::is_anothers(mutex) {
            return EPERM;
        }
        // Of another process's signals nothing is heard: what is waited for is looked at now and then.
        let looks_again = Trait::Shared.is_had_by(condition);
        let wait = Wait {
            address: condition.addr(),
            bits: u32::MAX,
            deadline: if looks_again { Looks(Looks::LAST).next(deadline) } else { deadline },
            interruptible: false,
            why: &WHY,
        };
        let mut unlocked = None;
        let waited = wait.run(|| true, || unlocked = Some(mutex::unlock(mutex)));
        match unlocked {
            None => return wait_in_libc(mutex, plain),
            Some(0) => {}
            Some(error) => return error,
        }
        let locked = mutex::lock(mutex);
        let late = waited == Waited::Deadline && deadline.is_some_and(|deadline| deadline.left().is_zero());
        if locked == 0 && late { ETIMEDOUT } else { locked }
    }
}

/// In a thread: libc unlocks the mutex within, and a greenlet that waits for it would not hear of that.
unsafe fn wait_in_libc(mutex: *mut pthread_mutex_t, plain: impl FnOnce() -> c_int) -> c_int {
    // From here on those who want the mutex look for themselves...
    let _sleeps = Sleepers::of(mutex).enter();
    // ...but not those who wait already: they are let in, and this looks again at what it waits for.
    if lot::waiting(mutex.addr()) > 0 {
        // SAFETY: the caller's promise: it is locked.
        return unsafe {
            match mutex::unlock(mutex) {
                0 => real!(fn pthread_mutex_lock(*mut pthread_mutex_t) -> c_int)(mutex),
                error => error,
            }
        };
    }
    plain()
}

/// What a condition was made to be. Where libc keeps it has changed with its versions, so libc is asked: what differs in a
/// condition that is made so.
#[derive(Clone, Copy)]
enum Trait {
    /// Its clock is `CLOCK_MONOTONIC`.
    Monotonic,
    /// It is shared between processes.
    Shared,
}

const WORDS: usize = size_of::<pthread_cond_t>() / 4;

impl Trait {
    unsafe fn is_had_by(self, condition: *mut pthread_cond_t) -> bool {
        // How far the word is into the condition, in bytes, above its bit; 0: not known yet.
        static PLACES: [AtomicUsize; 2] = [const { AtomicUsize::new(0) }; 2];
        let place = &PLACES[self as usize];
        let known = match place.load(Ordering::Relaxed) {
            0 => {
                let found = self.find();
                place.store(found, Ordering::Relaxed);
                found
            }
            known => known,
        };
        let (offset, bit) = (known >> 32, known as u32);
        // SAFETY: the word lies in the condition, which is alive, as the caller says, and whose words are changed by atomics.
        unsafe { AtomicU32::from_ptr(condition.byte_add(offset).cast()) }.load(Ordering::Relaxed) & bit != 0
    }

    #[cold]
    fn find(self) -> usize {
        let (plain, special) = (made(None), made(Some(self)));
        let differing = (0..WORDS).find(|index| plain[*index] != special[*index]);
        // Without a difference libc doesn't tell: then no condition has it.
        differing.map_or(1 << 32, |index| (index * 4) << 32 | (plain[index] ^ special[index]) as usize)
    }
}

/// The words of a new condition.
fn made(with: Option<Trait>) -> [u32; WORDS] {
    let mut condition = [0; WORDS];
    let mut attributes = MaybeUninit::<pthread_condattr_t>::zeroed();
    // SAFETY: the attributes are initialised first; the words are as large as a condition, and aligned for what is used of it.
    // Neither allocates.
    unsafe {
        libc::pthread_condattr_init(attributes.as_mut_ptr());
        match with {
            Some(Trait::Monotonic) => {
                libc::pthread_condattr_setclock(attributes.as_mut_ptr(), libc::CLOCK_MONOTONIC);
            }
            Some(Trait::Shared) => {
                libc::pthread_condattr_setpshared(attributes.as_mut_ptr(), libc::PTHREAD_PROCESS_SHARED);
            }
            None => {}
        }
        let mut made = MaybeUninit::<pthread_cond_t>::zeroed();
        pthread_cond_init(made.as_mut_ptr(), attributes.as_ptr());
        std::ptr::copy_nonoverlapping(made.as_ptr().cast(), condition.as_mut_ptr(), WORDS);
        libc::pthread_condattr_destroy(attributes.as_mut_ptr());
    }
    condition
}
