//! Locks on files. Who has to wait for one waits on a thread of its own, so that the kernel keeps the order and finds deadlocks
//! (`EDEADLK`); the locks belong to the open file or to the process, not to a thread.

use std::ffi::c_int;

use libc::off_t;

use crate::aside;
use crate::calls::Call;
use crate::gate::{self, Entered};
use crate::raw::{self, syscall};
use crate::real::real;

/// flock(2). Parks the greenlet until the lock is free; a kill ends it with `ECANCELED`, without the lock.
///
/// # Safety
/// Has no conditions.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flock(fd: c_int, operation: c_int) -> c_int {
    // SAFETY: numbers only.
    let now = |operation| unsafe { syscall!(SYS_flock, fd, operation) };
    if operation & (libc::LOCK_NB | libc::LOCK_UN) != 0 {
        return raw::result(now(operation)) as c_int;
    }
    let Some(call) = gate::enter(Call::flock) else { return raw::result(now(operation)) as c_int };
    match now(operation | libc::LOCK_NB) {
        refused if refused == -(libc::EWOULDBLOCK as isize) => wait(call, &"flock", &|| now(operation)),
        result => call.result(result) as c_int,
    }
}

/// lockf(3). Parks the greenlet until the lock is free; a kill ends it with `ECANCELED`, without the lock.
///
/// # Safety
/// Has no conditions.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lockf(fd: c_int, command: c_int, length: off_t) -> c_int {
    let libcs = real!(fn lockf(c_int, c_int, off_t) -> c_int);
    // SAFETY: numbers only.
    let plain = || unsafe { libcs(fd, command, length) };
    if command != libc::F_LOCK {
        return plain();
    }
    let Some(call) = gate::enter(Call::lockf) else { return plain() };
    // SAFETY: zeros are a valid lock of the whole rest.
    let mut lock: libc::flock = unsafe { std::mem::zeroed() };
    lock.l_type = libc::F_WRLCK as _;
    lock.l_whence = libc::SEEK_CUR as _;
    lock.l_len = length;
    set_lock(call, &"lockf", fd, libc::F_SETLKW, &raw const lock as usize)
}

/// As [`lockf`], which is the same where `off_t` has 64 bits.
///
/// # Safety
/// Has no conditions.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lockf64(fd: c_int, command: c_int, length: off_t) -> c_int {
    // SAFETY: the caller's promise.
    unsafe { lockf(fd, command, length) }
}

/// fcntl(2) with `F_SETLKW` or `F_OFD_SETLKW`, `argument` being its third one, in a greenlet; `errno` is set by it. `None` if the
/// call is to be the plain one.
pub(crate) fn set_lock_wait(fd: c_int, command: c_int, argument: usize) -> Option<c_int> {
    let call = gate::enter(Call::fcntl)?;
    Some(set_lock(call, &"fcntl", fd, command, argument))
}

fn set_lock(call: Entered, why: &'static &'static str, fd: c_int, command: c_int, lock: usize) -> c_int {
    // SAFETY: the kernel looks at the pointer itself.
    let now = |command| unsafe { syscall!(SYS_fcntl, fd, command, lock) };
    let at_once = if command == libc::F_OFD_SETLKW { libc::F_OFD_SETLK } else { libc::F_SETLK };
    match now(at_once) {
        refused if refused == -(libc::EAGAIN as isize) || refused == -(libc::EACCES as isize) => {
            wait(call, why, &|| now(command))
        }
        result => call.result(result) as c_int,
    }
}

fn wait(call: Entered, why: &'static &'static str, locks: &(dyn Fn() -> isize + Sync)) -> c_int {
    match aside::run(why, locks) {
        // What these calls say when there are too many locks.
        Some(result) if result == -(libc::ENOMEM as isize) => call.fail(libc::ENOLCK) as c_int,
        Some(result) => call.result(result) as c_int,
        None => call.result(locks()) as c_int,
    }
}
