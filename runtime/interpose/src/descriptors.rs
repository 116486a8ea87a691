//! Numbers that end, or stand for another file: who waits for them is told.

use greenlet::foreign;
use libc::{c_int, c_uint};

use crate::calls::Call;
use crate::patience::{set_drained, socket_option};
use crate::raw::{self, syscall};
use crate::real::real;
use crate::{gate, locks};

/// close(2). Greenlets of this thread that wait for the descriptor in a call of this crate get `EBADF`. If the socket is to linger
/// (`SO_LINGER`) the greenlet is parked, and the kernel waits on a thread of the pool.
///
/// # Safety
/// As close(2): nobody else owns the descriptor.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn close(fd: c_int) -> c_int {
    // SAFETY: the caller's promise.
    let plain = || unsafe { syscall!(SYS_close, fd) };
    ending(fd);
    let Some(call) = gate::enter(Call::close) else { return raw::result(plain()) as c_int };
    let lingers = socket_option::<libc::linger>(fd, libc::SO_LINGER)
        .is_some_and(|linger| linger.l_onoff != 0 && linger.l_linger > 0);
    let result = if lingers { foreign::unblock(plain) } else { plain() };
    call.result(result) as c_int
}

/// A number is about to stand for something else, or nothing.
fn ending(fd: c_int) {
    foreign::closing(fd);
    set_drained(fd, false);
}

/// close_range(2). As [`close`], for each of them, but for lingering.
///
/// # Safety
/// As close_range(2): nobody else owns the descriptors.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn close_range(first: c_uint, last: c_uint, flags: c_int) -> c_int {
    let ends = flags as c_uint & libc::CLOSE_RANGE_CLOEXEC == 0;
    if ends {
        closing(first, last);
    }
    // SAFETY: the caller's promise.
    raw::result(unsafe { syscall!(SYS_close_range, first, last, flags) }) as c_int
}

/// closefrom(3). As [`close_range`].
///
/// # Safety
/// As closefrom(3): nobody else owns the descriptors.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn closefrom(first: c_int) {
    closing(first.max(0).unsigned_abs(), c_uint::MAX);
    let libcs = real!(fn closefrom(c_int));
    // SAFETY: the caller's promise. On kernels without close_range(2) libc looks for them by itself.
    unsafe { libcs(first) }
}

fn closing(first: c_uint, last: c_uint) {
    let first = c_int::try_from(first).unwrap_or(c_int::MAX);
    foreign::closing_range(first, c_int::try_from(last).unwrap_or(c_int::MAX));
}

/// dup2(2). Greenlets of this thread that wait for the descriptor that is replaced get `EBADF`.
///
/// # Safety
/// As dup2(2): nobody else owns `new`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dup2(old: c_int, new: c_int) -> c_int {
    if old == new {
        // SAFETY: it takes only numbers.
        let flags = unsafe { syscall!(SYS_fcntl, old, libc::F_GETFD) };
        return raw::result(if flags < 0 { flags } else { new as isize }) as c_int;
    }
    // SAFETY: the caller's promise.
    unsafe { dup3(old, new, 0) }
}

/// dup3(2). As [`dup2`].
///
/// # Safety
/// As dup3(2): nobody else owns `new`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dup3(old: c_int, new: c_int, flags: c_int) -> c_int {
    // Nobody is told where nothing is replaced.
    // SAFETY: it takes only numbers.
    if old != new && foreign::hub_id().is_some() && unsafe { syscall!(SYS_fcntl, old, libc::F_GETFD) } >= 0 {
        ending(new);
    }
    // SAFETY: the caller's promise.
    raw::result(unsafe { syscall!(SYS_dup3, old, new, flags) }) as c_int
}

/// fcntl(2). Where it waits for a lock the greenlet is parked. What it says of `O_NONBLOCK` is always what the program has set,
/// since nothing is changed behind its back for longer than a call.
///
/// In C it takes any number of arguments. The one that there may be is passed as a fixed one would be.
///
/// # Safety
/// As fcntl(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fcntl(fd: c_int, command: c_int, argument: usize) -> c_int {
    match command {
        libc::F_SETLKW | libc::F_OFD_SETLKW => {
            if let Some(result) = locks::set_lock_wait(fd, command, argument) {
                return result;
            }
        }
        // libc asks for the owner in another way, since a group of processes is a negative number.
        libc::F_GETOWN => {
            let libcs = real!(fn fcntl(c_int, c_int, usize) -> c_int);
            // SAFETY: it looks at no argument.
            return unsafe { libcs(fd, command, argument) };
        }
        _ => {}
    }
    // SAFETY: what the caller promises of the argument.
    raw::result(unsafe { syscall!(SYS_fcntl, fd, command, argument) }) as c_int
}

/// [`fcntl`], with large files.
///
/// # Safety
/// As fcntl(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fcntl64(fd: c_int, command: c_int, argument: usize) -> c_int {
    // SAFETY: the caller's promise.
    unsafe { fcntl(fd, command, argument) }
}
