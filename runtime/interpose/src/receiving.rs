//! Receiving from sockets.
//!
//! Each call is first made with `MSG_DONTWAIT`. Only if it would have to wait it is looked at what the program wants:
//! `O_NONBLOCK`, the timeouts, or to be parked.

use std::time::Duration;

use greenlet::foreign;
use libc::{c_int, c_uint, mmsghdr, msghdr, size_t, sockaddr, socklen_t, ssize_t, timespec};

use crate::calls::Call;
use crate::gate::{self, Entered};
use crate::patience::{self, Patience, Side, Then, either, socket_option};
use crate::pieces::Pieces;
use crate::raw::{self, syscall};
use crate::real::real;

/// These never wait, in whatever mode the socket is.
const NEVER_WAITS: c_int = libc::MSG_DONTWAIT | libc::MSG_OOB | libc::MSG_ERRQUEUE;

/// Makes a call that receives, until it needn't wait. It is told the flags to make it with.
#[inline(always)]
pub(crate) fn receive(call: Entered, fd: c_int, flags: c_int, attempt: impl Fn(c_int) -> isize) -> isize {
    let got = attempt(flags | libc::MSG_DONTWAIT);
    if got != -libc::EAGAIN as isize {
        foreign::count_call();
        return call.result(got);
    }
    let mut patience = Patience::socket(fd, Side::Read);
    call.result(receive_later(&mut patience, flags, attempt))
}

/// The first attempt would have had to wait.
fn receive_later(patience: &mut Patience, flags: c_int, attempt: impl Fn(c_int) -> isize) -> isize {
    loop {
        match patience.wait() {
            Then::Again => {}
            Then::Fail(errno) => return -errno as isize,
            Then::Plain => return attempt(flags),
        }
        let got = attempt(flags | libc::MSG_DONTWAIT);
        if got != -libc::EAGAIN as isize {
            return got;
        }
    }
}

/// [`receive`] to one buffer of `length` bytes, for what is likely to be a stream: a call after one that took all there was waits
/// before it asks. Gives what the kernel gives.
#[inline(always)]
pub(crate) fn receive_stream(fd: c_int, length: usize, attempt: impl Fn(c_int) -> isize) -> isize {
    if !patience::is_drained(fd) {
        let got = attempt(libc::MSG_DONTWAIT);
        if got != -libc::EAGAIN as isize {
            foreign::count_call();
            return got;
        }
    }
    receive_next(fd, length, attempt)
}

/// There was nothing left after the last call: waits first.
#[inline]
fn receive_known(patience: &mut Patience, attempt: impl Fn(c_int) -> isize) -> isize {
    let then = patience.wait_known(true);
    let got = match then {
        Then::Fail(errno) if errno != libc::EAGAIN => return -errno as isize,
        Then::Plain => return attempt(0),
        // Or it is not to wait, or not any longer, and there may be something all the same.
        _ => attempt(libc::MSG_DONTWAIT),
    };
    if got == -libc::EAGAIN as isize && matches!(then, Then::Again) {
        return receive_later(patience, 0, attempt);
    }
    got
}

fn receive_next(fd: c_int, length: usize, attempt: impl Fn(c_int) -> isize) -> isize {
    let mut patience = Patience::socket(fd, Side::Read);
    let known = patience::is_drained(fd);
    let got =
        if known { receive_known(&mut patience, &attempt) } else { receive_later(&mut patience, 0, attempt) };
    let short = got > 0 && (got as usize) < length;
    let stream = short && (known || socket_option(fd, libc::SO_TYPE) == Some(libc::SOCK_STREAM));
    patience::set_drained(fd, stream);
    got
}

/// As [`receive`], with `MSG_WAITALL`: until `total` bytes are there, the end, or an error. The call is told how many it has got
/// already, too; `more` tells of what came last whether there can be a rest.
#[cold]
fn receive_all(
    call: Entered,
    fd: c_int,
    flags: c_int,
    total: impl Fn() -> usize,
    attempt: impl Fn(usize, c_int) -> isize,
    more: impl Fn() -> bool,
) -> isize {
    let mut patience = Patience::socket(fd, Side::Read);
    let peek = flags & libc::MSG_PEEK != 0;
    let mut done = 0;
    let mut pause = Duration::from_millis(1);
    loop {
        let got = attempt(if peek { 0 } else { done }, flags | libc::MSG_DONTWAIT);
        match got {
            // At the end.
            0 => return call.result(done as isize),
            1.. if peek => done = got as usize,
            1.. => done += got as usize,
            _ if got == -libc::EAGAIN as isize => {}
            _ if done > 0 => return call.result(done as isize),
            _ => return call.result(got),
        }
        // Only of streams there is a rest.
        if got > 0
            && (done >= total() || !more() || socket_option(fd, libc::SO_TYPE) != Some(libc::SOCK_STREAM))
        {
            foreign::count_call();
            return call.result(done as isize);
        }
        let then = if peek && done > 0 {
            // What is there stays there, so that there is no telling when more has come but by looking.
            if patience::is_ready(fd, libc::POLLRDHUP) {
                return call.result(done as isize);
            }
            let until = match patience.deadline() {
                Ok(until) => until,
                Err(_) => return call.result(done as isize),
            };
            let short = foreign::deadline(pause);
            pause = (pause * 2).min(Duration::from_millis(16));
            let over = until.is_some_and(|until| until.left().is_zero());
            match foreign::sleep(short) {
                foreign::Woken::Interrupted => Then::Fail(libc::ECANCELED),
                foreign::Woken::Refused => Then::Plain,
                _ if over => Then::Fail(libc::EAGAIN),
                _ => Then::Again,
            }
        } else {
            patience.wait()
        };
        match then {
            Then::Again => {}
            Then::Fail(_) if done > 0 => return call.result(done as isize),
            Then::Fail(errno) => return call.fail(errno),
            Then::Plain => {
                let got = attempt(if peek { 0 } else { done }, flags);
                return call.result(if peek && got >= 0 { got } else { either(done, got) });
            }
        }
    }
}

/// recv(2). Parks the greenlet until there is something to receive, the end, or an error; with `MSG_WAITALL` until all of it is there.
/// As long as `SO_RCVTIMEO` says. A kill ends it with `ECANCELED`, or with what it has received.
///
/// # Safety
/// As recv(2): `buffer` has room for `length` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn recv(fd: c_int, buffer: *mut libc::c_void, length: size_t, flags: c_int) -> ssize_t {
    // SAFETY: what the caller promises of the buffer; the kernel looks at it itself.
    let attempt = |flags| unsafe { syscall!(SYS_recvfrom, fd, buffer, length, flags, 0, 0) };
    let plain = || raw::result(attempt(flags));
    let Some(call) = gate::enter(Call::recv) else { return plain() };
    if flags & !libc::MSG_NOSIGNAL == 0 {
        return call.result(receive_stream(fd, length, attempt));
    }
    if flags & (NEVER_WAITS | libc::MSG_WAITALL) == 0 {
        return receive(call, fd, flags, attempt);
    }
    // SAFETY: as `recvfrom`.
    unsafe { received(call, fd, buffer, length, flags, std::ptr::null_mut(), std::ptr::null_mut()) }
}

/// recvfrom(2). As [`recv`].
///
/// # Safety
/// As recvfrom(2): as [`recv`], and the address and its length are valid or null.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn recvfrom(
    fd: c_int,
    buffer: *mut libc::c_void,
    length: size_t,
    flags: c_int,
    address: *mut sockaddr,
    address_length: *mut socklen_t,
) -> ssize_t {
    // SAFETY: what the caller promises of the pointers; the kernel looks at them itself.
    let attempt =
        |flags| unsafe { syscall!(SYS_recvfrom, fd, buffer, length, flags, address, address_length) };
    let plain = || raw::result(attempt(flags));
    let Some(call) = gate::enter(Call::recvfrom) else { return plain() };
    if flags & (NEVER_WAITS | libc::MSG_WAITALL) == 0 {
        return receive(call, fd, flags, attempt);
    }
    // SAFETY: the caller's promise.
    unsafe { received(call, fd, buffer, length, flags, address, address_length) }
}

/// [`recv`] and [`recvfrom`] with one of the flags that change how they wait.
///
/// # Safety
/// As recvfrom(2).
#[cold]
unsafe fn received(
    call: Entered,
    fd: c_int,
    buffer: *mut libc::c_void,
    length: size_t,
    flags: c_int,
    address: *mut sockaddr,
    address_length: *mut socklen_t,
) -> ssize_t {
    // SAFETY: what the caller promises of the pointers; `done` bytes of the buffer have been filled.
    let attempt = |done: usize, flags| unsafe {
        let rest = buffer.wrapping_byte_add(done);
        syscall!(SYS_recvfrom, fd, rest, length - done, flags, address, address_length)
    };
    if flags & NEVER_WAITS != 0 {
        return call.result(attempt(0, flags));
    }
    receive_all(call, fd, flags, || length, attempt, || true)
}

/// recvmsg(2). As [`recv`].
///
/// # Safety
/// As recvmsg(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn recvmsg(fd: c_int, message: *mut msghdr, flags: c_int) -> ssize_t {
    // SAFETY: what the caller promises of the pointer; the kernel looks at it itself.
    let attempt = |flags| unsafe { syscall!(SYS_recvmsg, fd, message, flags) };
    let plain = || raw::result(attempt(flags));
    let Some(call) = gate::enter(Call::recvmsg) else { return plain() };
    if flags & (NEVER_WAITS | libc::MSG_WAITALL) == 0 {
        return receive(call, fd, flags, attempt);
    }
    if flags & NEVER_WAITS != 0 {
        return call.result(attempt(flags));
    }
    // The kernel writes to these fields what there was, and they say how much room there is when it is called again.
    // SAFETY: the kernel refuses null itself, and so do we.
    let room = unsafe { message.as_ref() }.map(|message| (message.msg_namelen, message.msg_controllen));
    let attempt_after = |done: usize, flags| {
        if done == 0 {
            if let Some((name, control)) = room {
                // SAFETY: `room` says that it is not null.
                unsafe { ((*message).msg_namelen, (*message).msg_controllen) = (name, control) };
            }
            return attempt(flags);
        }
        // SAFETY: the kernel has taken it.
        let (mut window, mut part) = unsafe { (Pieces::of(message).after(done), message.read()) };
        (part.msg_iov, part.msg_iovlen) = (window.list.as_mut_ptr(), window.count);
        (part.msg_namelen, part.msg_controllen) = room.unwrap_or_default();
        // SAFETY: a copy of the caller's with fewer buffers.
        let got = unsafe { syscall!(SYS_recvmsg, fd, &raw mut part, flags) };
        if got > 0 {
            // SAFETY: the kernel has taken it.
            unsafe {
                (*message).msg_controllen = part.msg_controllen;
                (*message).msg_flags |= part.msg_flags;
            }
        }
        got
    };
    // What came with descriptors or credentials ends there, as in the kernel.
    // SAFETY: the kernel has taken it.
    let more = || unsafe { (*message).msg_controllen == 0 };
    // SAFETY: as above.
    receive_all(call, fd, flags, || unsafe { Pieces::of(message) }.total(), attempt_after, more)
}

/// recvmmsg(2). Parks the greenlet until all messages are there, or with `MSG_WAITFORONE` the first. `timeout` ends it at its
/// time as soon as there is one message, where the kernel alone would wait for the next.
///
/// # Safety
/// As recvmmsg(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn recvmmsg(
    fd: c_int,
    messages: *mut mmsghdr,
    count: c_uint,
    flags: c_int,
    timeout: *mut timespec,
) -> c_int {
    // SAFETY: what the caller promises of the pointers; the kernel looks at them itself.
    let attempt = |done: c_uint, flags, timeout: *mut timespec| unsafe {
        syscall!(SYS_recvmmsg, fd, messages.wrapping_add(done as usize), count - done, flags, timeout)
    };
    let plain = || raw::result(attempt(0, flags, timeout)) as c_int;
    let Some(call) = gate::enter(Call::recvmmsg) else { return plain() };
    // SAFETY: null or valid, says the caller.
    let time = match unsafe { timeout.as_ref() } {
        Some(time) => match (u64::try_from(time.tv_sec), u32::try_from(time.tv_nsec)) {
            (Ok(seconds), Ok(nanos @ 0..1_000_000_000)) => Some(Duration::new(seconds, nanos)),
            // The kernel refuses it.
            _ => return call.result(attempt(0, flags, timeout)) as c_int,
        },
        None => None,
    };
    if flags & NEVER_WAITS != 0 || count == 0 {
        return call.result(attempt(0, flags, timeout)) as c_int;
    }
    let until = time.and_then(foreign::deadline);
    let mut patience = Patience::socket(fd, Side::Read);
    let mut done: c_uint = 0;
    let result = loop {
        let got = attempt(done, flags | libc::MSG_DONTWAIT, std::ptr::null_mut());
        if got > 0 {
            done += got as c_uint;
            let over = until.is_some_and(|until| until.left().is_zero());
            if done >= count || flags & libc::MSG_WAITFORONE != 0 || over {
                foreign::count_call();
                break done as isize;
            }
        } else if got != -libc::EAGAIN as isize {
            break either(done as usize, got);
        }
        let first = match patience.deadline() {
            Ok(deadline) => deadline,
            Err(errno) => break either(done as usize, -errno as isize),
        };
        let then = match (done, until) {
            (1.., Some(until)) if first.is_none_or(|first| until.left() < first.left()) => {
                match foreign::wait_readable(fd, Some(until)) {
                    Ok(woken) => patience::then(woken),
                    Err(error) => Then::Fail(error.raw_os_error().unwrap_or(libc::EIO)),
                }
            }
            _ => patience.wait(),
        };
        match then {
            Then::Again => {}
            Then::Fail(errno) => break either(done as usize, -errno as isize),
            Then::Plain => {
                let got = attempt(done, flags, timeout);
                return call.result(either(done as usize, got)) as c_int;
            }
        }
    };
    // SAFETY: null or valid, says the caller.
    if let (Some(timeout), Some(until)) = (unsafe { timeout.as_mut() }, until)
        && result >= 0
    {
        let left = until.left();
        timeout.tv_sec = left.as_secs() as libc::time_t;
        timeout.tv_nsec = left.subsec_nanos().into();
    }
    call.result(result) as c_int
}

/// [`recv`], by way of fortified headers.
///
/// # Safety
/// As recv(2), and `room` is the size of the buffer.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn __recv_chk(
    fd: c_int,
    buffer: *mut libc::c_void,
    length: size_t,
    room: size_t,
    flags: c_int,
) -> ssize_t {
    check(length, room);
    // SAFETY: the caller's promise.
    unsafe { recv(fd, buffer, length, flags) }
}

/// [`recvfrom`], by way of fortified headers.
///
/// # Safety
/// As recvfrom(2), and `room` is the size of the buffer.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn __recvfrom_chk(
    fd: c_int,
    buffer: *mut libc::c_void,
    length: size_t,
    room: size_t,
    flags: c_int,
    address: *mut sockaddr,
    address_length: *mut socklen_t,
) -> ssize_t {
    check(length, room);
    // SAFETY: the caller's promise.
    unsafe { recvfrom(fd, buffer, length, flags, address, address_length) }
}

/// Ends the program as libc does if a buffer is smaller than the program says.
#[inline]
pub(crate) fn check(length: size_t, room: size_t) {
    #[cold]
    fn fail() -> ! {
        let libcs = real!(fn __chk_fail());
        // SAFETY: it takes nothing and ends the program.
        unsafe { libcs() };
        std::process::abort()
    }
    if length > room {
        fail();
    }
}
