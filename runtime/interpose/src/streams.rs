//! Reading and writing, of descriptors of any kind.
//!
//! A socket is received from and sent to, see [`receiving`](crate::receiving) and [`sending`](crate::sending). Files on disk are
//! read and written in place, or by the thread pool, as [`settings::files`] says; what is written to the standard output and error
//! goes straight through, unless [`settings::stdout`] says otherwise: std holds a lock around them which the same thread may take
//! twice, and every greenlet is on the same thread. Pipes and the like are asked by `preadv2` and `pwritev2` not to wait, and what can't be asked is
//! looked at by `poll` before it is read, and set to `O_NONBLOCK` while it is written.

use libc::{c_int, iovec, msghdr, off_t, size_t, ssize_t};

use crate::calls::Call;
use crate::files;
use crate::gate::{self, Entered};
use crate::patience::{self, Patience, Side, Then};
use crate::pieces::Pieces;
use crate::raw::{self, syscall};
use crate::receiving::{check, receive, receive_stream};
use crate::sending::give;
use crate::settings::{self, Stdout};
use greenlet::foreign;

const NOT_A_SOCKET: isize = -(libc::ENOTSOCK as isize);

/// read(2). Parks the greenlet until there is something to read, the end, or an error. Sockets have their timeouts.
/// A kill ends it with `ECANCELED`. Files on disk are read at once, if [`settings::files`] says no more.
///
/// # Safety
/// As read(2): `buffer` has room for `length` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn read(fd: c_int, buffer: *mut libc::c_void, length: size_t) -> ssize_t {
    // SAFETY: what the caller promises of the buffer; the kernel looks at it itself.
    let plain = || unsafe { syscall!(SYS_read, fd, buffer, length) };
    let Some(call) = gate::enter(Call::read) else { return raw::result(plain()) };
    // SAFETY: as above.
    let attempt = |flags| unsafe { syscall!(SYS_recvfrom, fd, buffer, length, flags, 0, 0) };
    if length == 0 {
        return call.result(plain());
    }
    let got = receive_stream(fd, length, attempt);
    if got != NOT_A_SOCKET {
        return call.result(got);
    }
    // SAFETY: the caller's promise.
    unsafe { read_other(call, fd, &iovec { iov_base: buffer, iov_len: length }, 1) }
}

/// [`read`], by way of fortified headers.
///
/// # Safety
/// As read(2), and `room` is the size of the buffer.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn __read_chk(
    fd: c_int,
    buffer: *mut libc::c_void,
    length: size_t,
    room: size_t,
) -> ssize_t {
    check(length, room);
    // SAFETY: the caller's promise.
    unsafe { read(fd, buffer, length) }
}

/// readv(2). As [`read`].
///
/// # Safety
/// As readv(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn readv(fd: c_int, list: *const iovec, count: c_int) -> ssize_t {
    // SAFETY: what the caller promises of the list; the kernel looks at it itself.
    let plain = || unsafe { syscall!(SYS_readv, fd, list, count) };
    let Some(call) = gate::enter(Call::readv) else { return raw::result(plain()) };
    // SAFETY: the caller's promise.
    match unsafe { total(list, count) } {
        Some(1..) => {}
        // Nothing to do, or to be refused.
        _ => return call.result(plain()),
    }
    let attempt = |flags| {
        let mut message = message(list, count);
        // SAFETY: as above, and a message that is nothing but this list.
        unsafe { syscall!(SYS_recvmsg, fd, &raw mut message, flags) }
    };
    let got = attempt(libc::MSG_DONTWAIT);
    if got != NOT_A_SOCKET {
        return receive_after(call, fd, got, attempt);
    }
    // SAFETY: the caller's promise.
    unsafe { read_other(call, fd, list, count) }
}

/// preadv2(2). As [`readv`] where the offset is -1, which means the descriptor's own position; else, or with flags, it is the plain
/// call: only files on disk have offsets.
///
/// # Safety
/// As preadv2(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn preadv2(
    fd: c_int,
    list: *const iovec,
    count: c_int,
    offset: off_t,
    flags: c_int,
) -> ssize_t {
    if offset == -1 && flags == 0 && foreign::inside() {
        // SAFETY: the caller's promise.
        return unsafe { readv(fd, list, count) };
    }
    // SAFETY: what the caller promises of the list; the kernel looks at it itself.
    raw::result(unsafe { syscall!(SYS_preadv2, fd, list, count, offset, 0, flags) })
}

/// [`preadv2`], with large files.
///
/// # Safety
/// As preadv2(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn preadv64v2(
    fd: c_int,
    list: *const iovec,
    count: c_int,
    offset: off_t,
    flags: c_int,
) -> ssize_t {
    // SAFETY: the caller's promise.
    unsafe { preadv2(fd, list, count, offset, flags) }
}

/// write(2). Parks the greenlet until all of it is taken. Sockets have their timeouts. A kill ends it with `ECANCELED`, or with how
/// much was taken. Files on disk, and descriptors 1 and 2, are written at once.
///
/// # Safety
/// As write(2): `length` bytes at `buffer` can be read.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn write(fd: c_int, buffer: *const libc::c_void, length: size_t) -> ssize_t {
    // SAFETY: what the caller promises of the buffer; the kernel looks at it itself.
    let plain = || unsafe { syscall!(SYS_write, fd, buffer, length) };
    if is_standard(fd) {
        return raw::result(plain());
    }
    let Some(call) = gate::enter(Call::write) else { return raw::result(plain()) };
    let attempt = |done: usize, may_wait| {
        let (rest, flags) = (buffer.wrapping_byte_add(done), flags_of_send(done, may_wait));
        // SAFETY: as above; so many bytes of it are done.
        unsafe { syscall!(SYS_sendto, fd, rest, length - done, flags, 0, 0) }
    };
    let got = attempt(0, false);
    if got != NOT_A_SOCKET {
        return give_after(call, fd, got, || length, attempt);
    }
    // SAFETY: the caller's promise.
    unsafe { write_other(call, fd, &iovec { iov_base: buffer.cast_mut(), iov_len: length }, 1) }
}

/// writev(2). As [`write()`].
///
/// # Safety
/// As writev(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn writev(fd: c_int, list: *const iovec, count: c_int) -> ssize_t {
    // SAFETY: what the caller promises of the list; the kernel looks at it itself.
    let plain = || unsafe { syscall!(SYS_writev, fd, list, count) };
    if is_standard(fd) {
        return raw::result(plain());
    }
    let Some(call) = gate::enter(Call::writev) else { return raw::result(plain()) };
    // SAFETY: the caller's promise.
    let Some(total @ 1..) = (unsafe { total(list, count) }) else { return call.result(plain()) };
    let attempt = |done: usize, may_wait| {
        // SAFETY: as above; the list is valid for as many as there are.
        let mut window = unsafe { Pieces::new(list, count as usize) }.after(done);
        let message = match done {
            0 => message(list, count),
            _ => message(window.list.as_mut_ptr(), window.count as c_int),
        };
        // SAFETY: as above, and a message that is nothing but this list.
        unsafe { syscall!(SYS_sendmsg, fd, &raw const message, flags_of_send(done, may_wait)) }
    };
    let got = attempt(0, false);
    if got != NOT_A_SOCKET {
        return give_after(call, fd, got, || total, attempt);
    }
    // SAFETY: the caller's promise.
    unsafe { write_other(call, fd, list, count) }
}

/// pwritev2(2). As [`writev`] where [`preadv2`] is as [`readv`].
///
/// # Safety
/// As pwritev2(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pwritev2(
    fd: c_int,
    list: *const iovec,
    count: c_int,
    offset: off_t,
    flags: c_int,
) -> ssize_t {
    if offset == -1 && flags == 0 && foreign::inside() {
        // SAFETY: the caller's promise.
        return unsafe { writev(fd, list, count) };
    }
    // SAFETY: what the caller promises of the list; the kernel looks at it itself.
    raw::result(unsafe { syscall!(SYS_pwritev2, fd, list, count, offset, 0, flags) })
}

/// [`pwritev2`], with large files.
///
/// # Safety
/// As pwritev2(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pwritev64v2(
    fd: c_int,
    list: *const iovec,
    count: c_int,
    offset: off_t,
    flags: c_int,
) -> ssize_t {
    // SAFETY: the caller's promise.
    unsafe { pwritev2(fd, list, count, offset, flags) }
}

/// The standard output and error, if they are not like all others.
fn is_standard(fd: c_int) -> bool {
    (fd == libc::STDOUT_FILENO || fd == libc::STDERR_FILENO) && settings::stdout() == Stdout::Through
}

/// How many bytes a list has together; `None` if the kernel is to refuse it.
///
/// # Safety
/// As readv(2).
unsafe fn total(list: *const iovec, count: c_int) -> Option<usize> {
    let count = usize::try_from(count).ok().filter(|count| *count <= libc::UIO_MAXIOV as usize)?;
    if list.is_null() {
        return None;
    }
    // SAFETY: the caller's promise.
    let total = unsafe { Pieces::new(list, count) }.total();
    isize::try_from(total).is_ok().then_some(total)
}

/// A message that is nothing but a list of buffers.
fn message(list: *const iovec, count: c_int) -> msghdr {
    // SAFETY: a C structure of numbers and pointers, for which zeroes mean that there is nothing.
    let mut message: msghdr = unsafe { std::mem::zeroed() };
    (message.msg_iov, message.msg_iovlen) = (list.cast_mut(), count as usize);
    message
}

/// What a socket gave to the first attempt, and the others if it would have had to wait.
#[inline(always)]
fn receive_after(call: Entered, fd: c_int, got: isize, attempt: impl Fn(c_int) -> isize) -> isize {
    let first = std::cell::Cell::new(Some(got));
    receive(call, fd, 0, |flags| first.take().unwrap_or_else(|| attempt(flags)))
}

#[inline(always)]
fn give_after(
    call: Entered,
    fd: c_int,
    got: isize,
    total: impl Fn() -> usize,
    attempt: impl Fn(usize, bool) -> isize,
) -> isize {
    let first = std::cell::Cell::new(Some(got));
    let attempt = |done, may_wait| first.take().unwrap_or_else(|| attempt(done, may_wait));
    give(call, || Patience::socket(fd, Side::Write), total, attempt)
}

fn flags_of_send(done: usize, may_wait: bool) -> c_int {
    let wait = if may_wait { 0 } else { libc::MSG_DONTWAIT };
    if done > 0 { wait | libc::MSG_NOSIGNAL } else { wait }
}

/// What is not a socket.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// A file on disk, or what is no descriptor: the plain call.
    File,
    /// A terminal or another device. Some read short if they are told not to wait, where they would not have waited.
    Device,
    /// A pipe, an eventfd and so on.
    Pipe,
}

fn kind(fd: c_int) -> Kind {
    let mut stat = std::mem::MaybeUninit::<libc::stat>::zeroed();
    // SAFETY: the kernel writes one such structure.
    let got = unsafe { syscall!(SYS_fstat, fd, stat.as_mut_ptr()) };
    if got < 0 {
        return Kind::File;
    }
    // SAFETY: it was zeroed and then filled.
    match unsafe { stat.assume_init() }.st_mode & libc::S_IFMT {
        libc::S_IFREG | libc::S_IFDIR | libc::S_IFBLK | libc::S_IFLNK => Kind::File,
        libc::S_IFCHR => Kind::Device,
        _ => Kind::Pipe,
    }
}

/// Whether a call has said that it can't be told not to wait.
fn cannot(got: isize) -> bool {
    got == -libc::EOPNOTSUPP as isize || got == -libc::ENOSYS as isize
}

/// Reads from what is not a socket.
///
/// # Safety
/// As readv(2).
#[inline(never)]
unsafe fn read_other(call: Entered, fd: c_int, list: *const iovec, count: c_int) -> ssize_t {
    // SAFETY: what the caller promises of the list; the kernel looks at it itself.
    let plain = || unsafe { syscall!(SYS_readv, fd, list, count) };
    let kind = kind(fd);
    if kind == Kind::File {
        return call.result(files::on_disk(&plain));
    }
    let asked = || match kind {
        // SAFETY: as above.
        Kind::Pipe => unsafe { syscall!(SYS_preadv2, fd, list, count, -1isize, -1isize, libc::RWF_NOWAIT) },
        _ => -libc::EOPNOTSUPP as isize,
    };
    let mut patience = Patience::other(fd, Side::Read);
    loop {
        let mut got = asked();
        if cannot(got) {
            got = if patience::is_ready(fd, libc::POLLIN) { plain() } else { -libc::EAGAIN as isize };
        }
        if got != -libc::EAGAIN as isize {
            foreign::count_call();
            return call.result(got);
        }
        match patience.wait() {
            Then::Again => {}
            Then::Fail(errno) => return call.fail(errno),
            Then::Plain => return call.result(plain()),
        }
    }
}

/// Writes to what is not a socket.
///
/// # Safety
/// As writev(2).
#[inline(never)]
unsafe fn write_other(call: Entered, fd: c_int, list: *const iovec, count: c_int) -> ssize_t {
    let kind = kind(fd);
    // SAFETY: the caller's promise.
    let pieces = unsafe { Pieces::new(list, count as usize) };
    let total = pieces.total();
    if kind == Kind::File || total == 0 || !foreign::can_park() {
        // SAFETY: as above.
        return call.result(files::on_disk(&|| unsafe { syscall!(SYS_writev, fd, list, count) }));
    }
    let attempt = |done: usize, may_wait| {
        let window = pieces.after(done);
        let (list, count) = match done {
            0 => (list, count as usize),
            _ => (window.list.as_ptr(), window.count),
        };
        // SAFETY: as above, or a part of it.
        let plain = || unsafe { syscall!(SYS_writev, fd, list, count) };
        if may_wait {
            return plain();
        }
        if kind == Kind::Pipe {
            // SAFETY: as above.
            let got = unsafe { syscall!(SYS_pwritev2, fd, list, count, -1isize, -1isize, libc::RWF_NOWAIT) };
            if !cannot(got) {
                return got;
            }
        }
        patience::at_once(fd, false, plain).unwrap_or_else(|programs| programs)
    };
    give(call, || Patience::other(fd, Side::Write), || total, attempt)
}
