//! Sending to sockets: as [`receiving`](crate::receiving), and until all is taken.

use greenlet::foreign;
use libc::{c_int, c_uint, mmsghdr, msghdr, size_t, sockaddr, socklen_t, ssize_t};

use crate::calls::Call;
use crate::gate::{self, Entered};
use crate::patience::{Patience, Side, Then, either};
use crate::pieces::Pieces;
use crate::raw::{self, syscall};

/// Notes of a few bytes, as signal handlers write them to a pipe or an eventfd of their own, are no occasion to give way.
const NOTE: usize = 8;

/// Makes a call that sends, until all is sent: `attempt` is told how many bytes are done already, and whether it may wait.
#[inline(always)]
pub(crate) fn give(
    call: Entered,
    patience: impl FnOnce() -> Patience,
    total: impl Fn() -> usize,
    attempt: impl Fn(usize, bool) -> isize,
) -> isize {
    let got = attempt(0, false);
    let waits = got == -libc::EAGAIN as isize || got == -libc::EINPROGRESS as isize;
    if got >= 0 && got as usize >= total() || got < 0 && !waits {
        if got > NOTE as isize {
            foreign::count_call();
        }
        return call.result(got);
    }
    call.result(give_rest(&mut patience(), got.max(0) as usize, total, attempt))
}

/// Sends what is left after `done` bytes. Gives what the kernel would: how many bytes are done in the end, or an error.
pub(crate) fn give_rest(
    patience: &mut Patience,
    mut done: usize,
    total: impl Fn() -> usize,
    attempt: impl Fn(usize, bool) -> isize,
) -> isize {
    loop {
        match patience.wait() {
            Then::Again => {}
            Then::Fail(errno) => return either(done, -errno as isize),
            Then::Plain => return either(done, attempt(done, true)),
        }
        match attempt(done, false) {
            got @ 0.. => done += got as usize,
            // In progress: the connection is being made (`TCP_FASTOPEN`).
            got if got == -libc::EAGAIN as isize || got == -libc::EINPROGRESS as isize => continue,
            got => return either(done, got),
        }
        if done >= total() {
            return done as isize;
        }
    }
}

/// The flags of one attempt to send.
fn send_flags(flags: c_int, done: usize, may_wait: bool) -> c_int {
    let flags = if may_wait { flags } else { flags | libc::MSG_DONTWAIT };
    // What comes after a part raises no signal, since the part is what the call tells of; and the connection is there.
    if done > 0 { (flags | libc::MSG_NOSIGNAL) & !libc::MSG_FASTOPEN } else { flags }
}

/// How much of `length` bytes is to be taken at least. With `MSG_ZEROCOPY` the program counts the kernel's calls.
fn least(flags: c_int, length: usize) -> usize {
    if flags & libc::MSG_ZEROCOPY != 0 { length.min(1) } else { length }
}

/// send(2). Parks the greenlet until all of it is taken, or as long as `SO_SNDTIMEO` says. A kill ends it with `ECANCELED`, or with
/// how much was taken.
///
/// # Safety
/// As send(2): `length` bytes at `buffer` can be read.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn send(
    fd: c_int,
    buffer: *const libc::c_void,
    length: size_t,
    flags: c_int,
) -> ssize_t {
    // SAFETY: what the caller promises of the buffer; the kernel looks at it itself.
    unsafe { sent(Call::send, fd, buffer, length, flags, std::ptr::null(), 0) }
}

/// sendto(2). As [`send`].
///
/// # Safety
/// As sendto(2): as [`send`], and the address is valid or null.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sendto(
    fd: c_int,
    buffer: *const libc::c_void,
    length: size_t,
    flags: c_int,
    address: *const sockaddr,
    address_length: socklen_t,
) -> ssize_t {
    // SAFETY: the caller's promise.
    unsafe { sent(Call::sendto, fd, buffer, length, flags, address, address_length) }
}

/// # Safety
/// As sendto(2).
#[inline(always)]
unsafe fn sent(
    call: Call,
    fd: c_int,
    buffer: *const libc::c_void,
    length: size_t,
    flags: c_int,
    address: *const sockaddr,
    address_length: socklen_t,
) -> ssize_t {
    // SAFETY: what the caller promises of the pointers; `done` bytes of the buffer have been sent.
    let attempt = |done: usize, flags| unsafe {
        let rest = buffer.wrapping_byte_add(done);
        syscall!(SYS_sendto, fd, rest, length - done, flags, address, address_length)
    };
    let Some(call) = gate::enter(call) else { return raw::result(attempt(0, flags)) };
    if flags & libc::MSG_DONTWAIT != 0 {
        return call.result(attempt(0, flags));
    }
    let attempt = |done, may_wait| attempt(done, send_flags(flags, done, may_wait));
    give(call, || Patience::socket(fd, Side::Write), || least(flags, length), attempt)
}

/// sendmsg(2). As [`send`]; what goes with the bytes goes with the first of them.
///
/// # Safety
/// As sendmsg(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sendmsg(fd: c_int, message: *const msghdr, flags: c_int) -> ssize_t {
    let Some(call) = gate::enter(Call::sendmsg) else {
        // SAFETY: what the caller promises of the pointer; the kernel looks at it itself.
        return raw::result(unsafe { syscall!(SYS_sendmsg, fd, message, flags) });
    };
    if flags & libc::MSG_DONTWAIT != 0 {
        // SAFETY: as above.
        return call.result(unsafe { syscall!(SYS_sendmsg, fd, message, flags) });
    }
    let attempt = |done: usize, may_wait| {
        let flags = send_flags(flags, done, may_wait);
        match done {
            // SAFETY: as above.
            0 => unsafe { syscall!(SYS_sendmsg, fd, message, flags) },
            // SAFETY: the kernel has taken the first part.
            _ => unsafe { send_after(fd, message, done, flags) },
        }
    };
    // SAFETY: it is asked for when the kernel has taken something.
    let total = || least(flags, unsafe { Pieces::of(message) }.total());
    give(call, || Patience::socket(fd, Side::Write), total, attempt)
}

/// Sends what comes after the first bytes of a message. What goes with a message has gone with the first.
///
/// # Safety
/// The kernel has taken the message.
unsafe fn send_after(fd: c_int, message: *const msghdr, done: usize, flags: c_int) -> isize {
    // SAFETY: so it is valid.
    let (mut window, mut part) = unsafe { (Pieces::of(message).after(done), message.read()) };
    (part.msg_iov, part.msg_iovlen) = (window.list.as_mut_ptr(), window.count);
    (part.msg_control, part.msg_controllen) = (std::ptr::null_mut(), 0);
    // SAFETY: a copy of the caller's with fewer buffers.
    unsafe { syscall!(SYS_sendmsg, fd, &raw const part, flags) }
}

/// sendmmsg(2). As [`send`], for one message after the other.
///
/// # Safety
/// As sendmmsg(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sendmmsg(fd: c_int, messages: *mut mmsghdr, count: c_uint, flags: c_int) -> c_int {
    // SAFETY: what the caller promises of the list; the kernel looks at it itself.
    let attempt = |done: c_uint, flags| unsafe {
        syscall!(SYS_sendmmsg, fd, messages.wrapping_add(done as usize), count - done, flags)
    };
    let Some(call) = gate::enter(Call::sendmmsg) else { return raw::result(attempt(0, flags)) as c_int };
    if flags & libc::MSG_DONTWAIT != 0 || count == 0 {
        return call.result(attempt(0, flags)) as c_int;
    }
    let mut patience = Patience::socket(fd, Side::Write);
    // The kernel takes no more than so many.
    let count_taken = count.min(libc::UIO_MAXIOV as c_uint);
    let mut done: c_uint = 0;
    let result = loop {
        let got = attempt(done, send_flags(flags, done as usize, false));
        if got > 0 {
            done += got as c_uint;
            // SAFETY: so many have been taken.
            let last = unsafe { &mut *messages.add(done as usize - 1) };
            let message = &raw const last.msg_hdr;
            // SAFETY: the kernel has taken it.
            let total = || least(flags, unsafe { Pieces::of(message) }.total());
            if (last.msg_len as usize) < total() {
                // A stream has taken a part of it.
                let rest = |done, may_wait| {
                    // SAFETY: the kernel has taken it.
                    unsafe { send_after(fd, message, done, send_flags(flags, done, may_wait)) }
                };
                last.msg_len = give_rest(&mut patience, last.msg_len as usize, total, rest) as c_uint;
                if (last.msg_len as usize) < total() {
                    break done as isize;
                }
            }
            if done >= count_taken {
                foreign::count_call();
                break done as isize;
            }
            continue;
        }
        if got != -libc::EAGAIN as isize && got != -libc::EINPROGRESS as isize {
            break either(done as usize, got);
        }
        match patience.wait() {
            Then::Again => {}
            Then::Fail(errno) => break either(done as usize, -errno as isize),
            Then::Plain => break either(done as usize, attempt(done, flags)),
        }
    };
    call.result(result) as c_int
}
