//! Connections: making them, and taking them.
//!
//! The kernel has no way to tell one such call not to wait, so `O_NONBLOCK` is set for its length.

use std::time::Duration;

use greenlet::foreign;
use libc::{c_int, sockaddr, socklen_t};

use crate::calls::Call;
use crate::gate::{self, Entered};
use crate::patience::{Patience, Side, Then, at_once, then};
use crate::raw::{self, syscall};

/// connect(2). Parks the greenlet until there is a connection or an error, or as long as `SO_SNDTIMEO` says, whose end is
/// `EINPROGRESS` (`EAGAIN` for a unix socket). A kill ends it with `ECANCELED`, and the attempt, too.
///
/// A unix socket whose listener's queue is full is tried again every few milliseconds: the kernel tells nobody when there is room.
///
/// # Safety
/// As connect(2): the address is valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn connect(fd: c_int, address: *const sockaddr, length: socklen_t) -> c_int {
    // SAFETY: what the caller promises of the address; the kernel looks at it itself.
    let plain = || unsafe { syscall!(SYS_connect, fd, address, length) };
    let Some(call) = gate::enter(Call::connect) else { return raw::result(plain()) as c_int };
    connect_later(call, fd, plain) as c_int
}

fn connect_later(call: Entered, fd: c_int, plain: impl Fn() -> isize) -> isize {
    if !foreign::can_park() {
        return call.result(plain());
    }
    let mut patience = Patience::socket(fd, Side::Write);
    let mut pause = Duration::from_millis(1);
    loop {
        let got = match at_once(fd, false, &plain) {
            Ok(got) => got,
            Err(programs) => return call.result(programs),
        };
        let then = if got == -libc::EINPROGRESS as isize || got == -libc::EALREADY as isize {
            // Called again when it is done, `connect` tells how, and leaves the socket as a call that waited would have.
            match patience.wait() {
                Then::Fail(libc::EAGAIN) => Then::Fail(-got as c_int),
                Then::Fail(libc::ECANCELED) => {
                    dissolve(fd);
                    Then::Fail(libc::ECANCELED)
                }
                then => then,
            }
        } else if got == -libc::EAGAIN as isize {
            match patience.deadline() {
                Ok(until) => {
                    let left = until.map_or(pause, |until| until.left().min(pause));
                    pause = (pause * 2).min(Duration::from_millis(16));
                    match then(foreign::sleep(foreign::deadline(left))) {
                        Then::Fail(libc::EAGAIN) if until.is_none_or(|until| !until.left().is_zero()) => {
                            Then::Again
                        }
                        then => then,
                    }
                }
                Err(errno) => Then::Fail(errno),
            }
        } else {
            return call.result(got);
        };
        match then {
            Then::Again => {}
            Then::Fail(errno) => return call.fail(errno),
            Then::Plain => return call.result(plain()),
        }
    }
}

/// Gives up a connection that is being made, so that the other side does not get one that nobody uses.
#[cold]
fn dissolve(fd: c_int) {
    // SAFETY: a C structure of numbers, for which zeroes mean no address (`AF_UNSPEC`).
    let nowhere: sockaddr = unsafe { std::mem::zeroed() };
    // SAFETY: it lives until the call returns. It does not wait.
    unsafe { syscall!(SYS_connect, fd, &raw const nowhere, size_of::<sockaddr>()) };
}

/// accept(2). As [`accept4`].
///
/// # Safety
/// As accept(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn accept(fd: c_int, address: *mut sockaddr, length: *mut socklen_t) -> c_int {
    // SAFETY: the caller's promise.
    unsafe { accepted(Call::accept, fd, address, length, 0) }
}

/// accept4(2). Parks the greenlet until there is a connection or an error, or as long as `SO_RCVTIMEO` says. A kill ends it with
/// `ECANCELED`.
///
/// # Safety
/// As accept4(2): the pointers are valid or null.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn accept4(
    fd: c_int,
    address: *mut sockaddr,
    length: *mut socklen_t,
    flags: c_int,
) -> c_int {
    // SAFETY: the caller's promise.
    unsafe { accepted(Call::accept4, fd, address, length, flags) }
}

/// # Safety
/// As accept4(2).
unsafe fn accepted(
    call: Call,
    fd: c_int,
    address: *mut sockaddr,
    length: *mut socklen_t,
    flags: c_int,
) -> c_int {
    // SAFETY: what the caller promises of the pointers; the kernel looks at them itself.
    let plain = || unsafe { syscall!(SYS_accept4, fd, address, length, flags) };
    let Some(call) = gate::enter(call) else { return raw::result(plain()) as c_int };
    if !foreign::can_park() {
        return call.result(plain()) as c_int;
    }
    let mut patience = Patience::socket(fd, Side::Read);
    loop {
        match at_once(fd, true, plain) {
            Ok(got) if got == -libc::EAGAIN as isize => {}
            Ok(got) => {
                foreign::count_call();
                return call.result(got) as c_int;
            }
            Err(programs) => return call.result(programs) as c_int,
        }
        match patience.wait() {
            Then::Again => {}
            Then::Fail(errno) => return call.fail(errno) as c_int,
            Then::Plain => return call.result(plain()) as c_int,
        }
    }
}
