//! C11's `<threads.h>`. In libc they are thin around POSIX's, and call these within; here they call ours.

use libc::{EBUSY, ENOMEM, ETIMEDOUT, c_int, pthread_cond_t, pthread_mutex_t, pthread_t, timespec};

use super::{condition, mutex, once, thread};

/// `thrd_success`, `thrd_busy`, `thrd_error`, `thrd_nomem` or `thrd_timedout`.
fn result(error: c_int) -> c_int {
    match error {
        0 => 0,
        EBUSY => 1,
        ENOMEM => 3,
        ETIMEDOUT => 4,
        _ => 2,
    }
}

/// mtx_lock(3). As [`mutex::pthread_mutex_lock`].
///
/// # Safety
/// As mtx_lock(3).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mtx_lock(mutex: *mut pthread_mutex_t) -> c_int {
    // SAFETY: the caller's promise; it is made of the same words.
    result(unsafe { mutex::pthread_mutex_lock(mutex) })
}

/// mtx_timedlock(3). As [`mutex::pthread_mutex_timedlock`].
///
/// # Safety
/// As mtx_timedlock(3).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mtx_timedlock(mutex: *mut pthread_mutex_t, until: *const timespec) -> c_int {
    // SAFETY: as above.
    result(unsafe { mutex::pthread_mutex_timedlock(mutex, until) })
}

/// mtx_trylock(3). As [`mutex::pthread_mutex_trylock`].
///
/// # Safety
/// As mtx_trylock(3).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mtx_trylock(mutex: *mut pthread_mutex_t) -> c_int {
    // SAFETY: as above.
    result(unsafe { mutex::pthread_mutex_trylock(mutex) })
}

/// mtx_unlock(3). As [`mutex::pthread_mutex_unlock`].
///
/// # Safety
/// As mtx_unlock(3).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mtx_unlock(mutex: *mut pthread_mutex_t) -> c_int {
    // SAFETY: as above.
    result(unsafe { mutex::pthread_mutex_unlock(mutex) })
}

/// cnd_wait(3). As [`condition::pthread_cond_wait`].
///
/// # Safety
/// As cnd_wait(3).
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn cnd_wait(
    condition: *mut pthread_cond_t,
    mutex: *mut pthread_mutex_t,
) -> c_int {
    // SAFETY: as above.
    result(unsafe { condition::pthread_cond_wait(condition, mutex) })
}

/// cnd_timedwait(3). As [`condition::pthread_cond_timedwait`].
///
/// # Safety
/// As cnd_timedwait(3).
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn cnd_timedwait(
    condition: *mut pthread_cond_t,
    mutex: *mut pthread_mutex_t,
    until: *const timespec,
) -> c_int {
    // SAFETY: as above.
    result(unsafe { condition::pthread_cond_timedwait(condition, mutex, until) })
}

/// cnd_signal(3). As [`condition::pthread_cond_signal`].
///
/// # Safety
/// As cnd_signal(3).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cnd_signal(condition: *mut pthread_cond_t) -> c_int {
    // SAFETY: as above.
    result(unsafe { condition::pthread_cond_signal(condition) })
}

/// cnd_broadcast(3). As [`condition::pthread_cond_broadcast`].
///
/// # Safety
/// As cnd_broadcast(3).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cnd_broadcast(condition: *mut pthread_cond_t) -> c_int {
    // SAFETY: as above.
    result(unsafe { condition::pthread_cond_broadcast(condition) })
}

/// thrd_join(3). As [`thread::pthread_join`].
///
/// # Safety
/// As thrd_join(3).
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn thrd_join(thread: pthread_t, returned: *mut c_int) -> c_int {
    // SAFETY: the caller's promise.
    result(unsafe { thread::join_for_int(thread, returned) })
}

/// call_once(3). As [`once::pthread_once`].
///
/// # Safety
/// As call_once(3).
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn call_once(flag: *mut c_int, routine: unsafe extern "C-unwind" fn()) {
    // SAFETY: the caller's promise.
    unsafe { once::pthread_once(flag, routine) };
}
