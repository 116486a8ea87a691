//! Bytes from one descriptor to another, within the kernel.

use greenlet::foreign;
use libc::{c_int, c_uint, iovec, off_t, size_t, ssize_t};

use crate::calls::Call;
use crate::gate::{self, Entered};
use crate::patience::{Patience, Side, Then, at_once, either, is_ready, socket_option};
use crate::raw::{self, syscall};

/// How much of a file is sent at once, so that others may run.
const PIECE: usize = 1 << 20;

/// sendfile(2). Parks the greenlet until `count` bytes are taken, or the file ends. A kill ends it with `ECANCELED`, or with how
/// much was taken. The file is read on the thread.
///
/// # Safety
/// As sendfile(2): the offset is valid or null.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sendfile(to: c_int, from: c_int, offset: *mut off_t, count: size_t) -> ssize_t {
    // SAFETY: what the caller promises of the offset; the kernel looks at it itself.
    let some = |count: usize| unsafe { syscall!(SYS_sendfile, to, from, offset, count) };
    let Some(call) = gate::enter(Call::sendfile) else { return raw::result(some(count)) };
    let attempt = |done: usize| some((count - done).min(PIECE));
    let mut ends = Ends::new(from, to);
    let mut done = 0;
    if !foreign::can_park() {
        return call.result(some(count));
    }
    let result = loop {
        let got = match at_once(to, false, || attempt(done)) {
            Ok(got) => got,
            Err(programs) => break either(done, programs),
        };
        match got {
            0 => break done as isize,
            1.. => {
                done += got as usize;
                foreign::count_call();
                if done >= count {
                    break done as isize;
                }
            }
            _ if got == -libc::EAGAIN as isize => match ends.wait() {
                Then::Again => {}
                Then::Fail(errno) => break either(done, -errno as isize),
                Then::Plain => break either(done, some(count - done)),
            },
            _ => break either(done, got),
        }
    };
    call.result(result)
}

/// [`sendfile`], with large files.
///
/// # Safety
/// As sendfile(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sendfile64(to: c_int, from: c_int, offset: *mut off_t, count: size_t) -> ssize_t {
    // SAFETY: the caller's promise.
    unsafe { sendfile(to, from, offset, count) }
}

/// splice(2). Parks the greenlet until something can be moved, or the end has come. A kill ends it with `ECANCELED`.
///
/// # Safety
/// As splice(2): the offsets are valid or null.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn splice(
    from: c_int,
    from_offset: *mut off_t,
    to: c_int,
    to_offset: *mut off_t,
    count: size_t,
    flags: c_uint,
) -> ssize_t {
    // SAFETY: what the caller promises of the offsets; the kernel looks at them itself.
    let attempt = |flags| unsafe { syscall!(SYS_splice, from, from_offset, to, to_offset, count, flags) };
    let Some(call) = gate::enter(Call::splice) else { return raw::result(attempt(flags)) };
    // Pipes go by the flag, sockets by their mode.
    let socket = [from, to].into_iter().find(|fd| socket_option::<c_int>(*fd, libc::SO_TYPE).is_some());
    let once = || {
        let attempt = || attempt(flags | libc::SPLICE_F_NONBLOCK);
        match socket {
            Some(socket) => at_once(socket, false, attempt).unwrap_or_else(|programs| programs),
            None => attempt(),
        }
    };
    move_some(call, Ends::new(from, to), flags, once, || attempt(flags))
}

/// tee(2). As [`splice`].
///
/// # Safety
/// It is safe.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tee(from: c_int, to: c_int, count: size_t, flags: c_uint) -> ssize_t {
    // SAFETY: it takes only numbers.
    let attempt = |flags| unsafe { syscall!(SYS_tee, from, to, count, flags) };
    let Some(call) = gate::enter(Call::tee) else { return raw::result(attempt(flags)) };
    let once = || attempt(flags | libc::SPLICE_F_NONBLOCK);
    move_some(call, Ends::new(from, to), flags, once, || attempt(flags))
}

/// vmsplice(2). As [`splice`], but for a part of the list if the pipe has no room for all of it.
///
/// # Safety
/// As vmsplice(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vmsplice(pipe: c_int, list: *const iovec, count: size_t, flags: c_uint) -> ssize_t {
    // SAFETY: what the caller promises of the list; the kernel looks at it itself.
    let attempt = |flags| unsafe { syscall!(SYS_vmsplice, pipe, list, count, flags) };
    let Some(call) = gate::enter(Call::vmsplice) else { return raw::result(attempt(flags)) };
    let once = || attempt(flags | libc::SPLICE_F_NONBLOCK);
    // SAFETY: it takes only numbers.
    let mode = unsafe { syscall!(SYS_fcntl, pipe, libc::F_GETFL) } as c_int;
    let side = if mode & libc::O_ACCMODE == libc::O_RDONLY { Side::Read } else { Side::Write };
    let patience = Patience::other(pipe, side);
    move_some(call, Ends { from: None, to: patience }, flags, once, || attempt(flags))
}

fn move_some(
    call: Entered,
    mut ends: Ends,
    flags: c_uint,
    once: impl Fn() -> isize,
    plain: impl Fn() -> isize,
) -> isize {
    if flags & libc::SPLICE_F_NONBLOCK != 0 || !foreign::can_park() {
        return call.result(plain());
    }
    loop {
        let got = once();
        if got != -libc::EAGAIN as isize {
            foreign::count_call();
            return call.result(got);
        }
        match ends.wait() {
            Then::Again => {}
            Then::Fail(errno) => return call.fail(errno),
            Then::Plain => return call.result(plain()),
        }
    }
}

/// Where bytes come from, if that may have to be waited for, and where they go.
struct Ends {
    from: Option<Patience>,
    to: Patience,
}

impl Ends {
    fn new(from: c_int, to: c_int) -> Ends {
        Ends { from: Some(Patience::socket(from, Side::Read)), to: Patience::socket(to, Side::Write) }
    }

    /// Waits for the end that is not ready.
    fn wait(&mut self) -> Then {
        match &mut self.from {
            Some(from) if !is_ready(from.fd(), libc::POLLIN) => from.wait(),
            _ => self.to.wait(),
        }
    }
}
