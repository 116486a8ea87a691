//! Waiting for processes.
//!
//! The end of one process is heard by a descriptor of it (pidfd_open(2), Linux 5.3), opened for as long as the wait lasts. What
//! that doesn't tell, the end of any child or of one of a group, and that a child has been stopped or goes on, is asked for again and
//! again, after pauses of 1 to 50 ms. The question is put by the thread that was asked, so that `__WNOTHREAD` means what it
//! says.

use std::ffi::{c_char, c_int};
use std::time::Duration;

use greenlet::foreign::{self, Woken};
use libc::{FILE, id_t, idtype_t, pid_t, rusage, siginfo_t};

use crate::aside::{self, Passed};
use crate::calls::Call;
use crate::gate::{self, Entered};
use crate::raw::{self, syscall};
use crate::real::real;

const FIRST_PAUSE: Duration = Duration::from_millis(1);
const LONGEST_PAUSE: Duration = Duration::from_millis(50);

/// wait(2). Parks the greenlet until a child has ended; a kill ends it with `ECANCELED`.
///
/// # Safety
/// As wait(2): the pointer is valid or null.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wait(status: *mut c_int) -> pid_t {
    // SAFETY: the caller's promise.
    unsafe { wait_child(Call::wait, -1, status, 0, std::ptr::null_mut()) }
}

/// Another name of [`wait`].
///
/// # Safety
/// As [`wait`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn __wait(status: *mut c_int) -> pid_t {
    // SAFETY: the caller's promise.
    unsafe { wait(status) }
}

/// waitpid(2). Parks the greenlet until the child has ended, or whatever `options` ask for; a kill ends it with `ECANCELED`.
///
/// # Safety
/// As waitpid(2): the pointer is valid or null.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn waitpid(pid: pid_t, status: *mut c_int, options: c_int) -> pid_t {
    // SAFETY: the caller's promise.
    unsafe { wait_child(Call::waitpid, pid, status, options, std::ptr::null_mut()) }
}

/// Another name of [`waitpid`].
///
/// # Safety
/// As [`waitpid`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn __waitpid(pid: pid_t, status: *mut c_int, options: c_int) -> pid_t {
    // SAFETY: the caller's promise.
    unsafe { waitpid(pid, status, options) }
}

/// wait3(2). As [`waitpid`] for any child.
///
/// # Safety
/// As wait3(2): the pointers are valid or null.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wait3(status: *mut c_int, options: c_int, usage: *mut rusage) -> pid_t {
    // SAFETY: the caller's promise.
    unsafe { wait_child(Call::wait3, -1, status, options, usage) }
}

/// wait4(2). As [`waitpid`].
///
/// # Safety
/// As wait4(2): the pointers are valid or null.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wait4(pid: pid_t, status: *mut c_int, options: c_int, usage: *mut rusage) -> pid_t {
    // SAFETY: the caller's promise.
    unsafe { wait_child(Call::wait4, pid, status, options, usage) }
}

/// waitid(2). Parks the greenlet until what `options` ask for has come; a kill ends it with `ECANCELED`.
///
/// # Safety
/// As waitid(2): the pointer is valid or null.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn waitid(kind: idtype_t, id: id_t, info: *mut siginfo_t, options: c_int) -> c_int {
    // SAFETY: the caller's promise.
    let plain = |options| unsafe { syscall!(SYS_waitid, kind, id, info, options, 0) };
    if options & libc::WNOHANG != 0 {
        return raw::result(plain(options)) as c_int;
    }
    let Some(call) = gate::enter(Call::waitid) else { return raw::result(plain(options)) as c_int };
    let watched = match kind {
        _ if options & libc::WEXITED == 0 => Watched::Nothing,
        libc::P_PID => Watched::Process(id as pid_t),
        libc::P_PIDFD if is_non_blocking(id as c_int) => return call.result(plain(options)) as c_int,
        libc::P_PIDFD => Watched::Descriptor(id as c_int),
        _ => Watched::Nothing,
    };
    let only_its_end = options & (libc::WSTOPPED | libc::WCONTINUED) == 0;
    let look = || {
        // SAFETY: zeros are a valid siginfo_t, to which the kernel writes; the caller's promise of `info`.
        unsafe {
            let mut found: siginfo_t = std::mem::zeroed();
            match syscall!(SYS_waitid, kind, id, &raw mut found, options | libc::WNOHANG, 0) {
                0 if found.si_signo == 0 => None,
                result => {
                    if result == 0 && !info.is_null() {
                        info.write(found);
                    }
                    Some(result)
                }
            }
        }
    };
    until(call, watched, only_its_end, look, || plain(options)) as c_int
}

/// # Safety
/// The pointers are valid or null.
unsafe fn wait_child(
    name: Call,
    pid: pid_t,
    status: *mut c_int,
    options: c_int,
    usage: *mut rusage,
) -> pid_t {
    // SAFETY: the caller's promise.
    let now = |options| unsafe { syscall!(SYS_wait4, pid, status, options, usage) };
    if options & libc::WNOHANG != 0 {
        return raw::result(now(options)) as pid_t;
    }
    let Some(call) = gate::enter(name) else { return raw::result(now(options)) as pid_t };
    let watched = if pid > 0 { Watched::Process(pid) } else { Watched::Nothing };
    let only_its_end = options & (libc::WUNTRACED | libc::WCONTINUED) == 0;
    let look = || match now(options | libc::WNOHANG) {
        0 => None,
        result => Some(result),
    };
    until(call, watched, only_its_end, look, || now(options)) as pid_t
}

/// What tells of the end that is waited for.
enum Watched {
    Process(pid_t),
    Descriptor(c_int),
    Nothing,
}

/// Parks until `look` has found something.
fn until(
    call: Entered,
    watched: Watched,
    only_its_end: bool,
    mut look: impl FnMut() -> Option<isize>,
    plain: impl Fn() -> isize,
) -> isize {
    if let Some(result) = look() {
        return call.result(result);
    }
    let opened = match watched {
        Watched::Process(pid) => Opened::new(pid),
        _ => None,
    };
    let mut fd = match (&opened, watched) {
        (Some(opened), _) => Some(opened.0),
        (None, Watched::Descriptor(fd)) => Some(fd),
        _ => None,
    };
    let mut pause = FIRST_PAUSE;
    loop {
        // Also after the descriptor was opened: before, the number may have become another's.
        if let Some(result) = look() {
            return call.result(result);
        }
        let deadline = match fd {
            Some(_) if only_its_end => None,
            _ => foreign::deadline(pause),
        };
        let woken = match fd {
            Some(fd) => foreign::wait_readable(fd, deadline),
            None => Ok(foreign::sleep(deadline)),
        };
        match woken {
            Ok(Woken::Deadline) => {}
            Ok(Woken::Interrupted) => return call.fail(libc::ECANCELED),
            Ok(Woken::Refused) => return call.result(plain()),
            // If that was not what is waited for, it tells nothing any more.
            Ok(Woken::Event) | Err(_) => {
                if let Some(result) = look() {
                    return call.result(result);
                }
                fd = None;
            }
        }
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// A descriptor of a process.
struct Opened(c_int);

impl Opened {
    fn new(pid: pid_t) -> Option<Opened> {
        // SAFETY: numbers only.
        let fd = unsafe { syscall!(SYS_pidfd_open, pid, 0) };
        (fd >= 0).then_some(Opened(fd as c_int))
    }
}

impl Drop for Opened {
    fn drop(&mut self) {
        foreign::closing(self.0);
        // SAFETY: it is ours.
        unsafe { syscall!(SYS_close, self.0) };
    }
}

fn is_non_blocking(fd: c_int) -> bool {
    // SAFETY: numbers only.
    let flags = unsafe { syscall!(SYS_fcntl, fd, libc::F_GETFL) };
    flags > 0 && flags & libc::O_NONBLOCK as isize != 0
}

/// system(3). Runs on the thread pool, as a whole; a kill waits for its end.
///
/// # Safety
/// As system(3): the pointer is a C string or null.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn system(command: *const c_char) -> c_int {
    let libcs = real!(fn system(*const c_char) -> c_int);
    // SAFETY: the caller's promise.
    let Some(call) = gate::enter(Call::system) else { return unsafe { libcs(command) } };
    let command = Passed(command);
    // SAFETY: as above.
    let done = foreign::unblock(move || aside::with_errno(|| unsafe { libcs(command.get()) }));
    finish(call, done)
}

/// pclose(3). Runs on the thread pool, as a whole; a kill waits for its end.
///
/// # Safety
/// As pclose(3): the stream comes from popen(3), and is not used any more.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pclose(stream: *mut FILE) -> c_int {
    let libcs = real!(fn pclose(*mut FILE) -> c_int);
    // SAFETY: the caller's promise.
    let Some(call) = gate::enter(Call::pclose) else { return unsafe { libcs(stream) } };
    let stream = Passed(stream);
    // SAFETY: as above.
    let done = foreign::unblock(move || aside::with_errno(|| unsafe { libcs(stream.get()) }));
    finish(call, done)
}

fn finish(call: Entered, done: Passed<(c_int, c_int)>) -> c_int {
    let (result, errno) = done.get();
    if result == -1 {
        return call.fail(errno) as c_int;
    }
    result
}
