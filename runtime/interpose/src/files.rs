//! Files: opening, and what waits for the disk. (Reading and writing is in [`streams`](crate::streams); what reads and writes at an
//! offset, `pread(2)` and its like, is not interposed.)
//!
//! What is done about regular files says [`settings::files`]: in place, to begin with. To open a FIFO is to wait for the other
//! side, as long as that takes, so in a greenlet that always happens on a thread of its own.

use std::ffi::{c_char, c_int};

use greenlet::foreign;
use libc::mode_t;

use crate::aside::{self, Passed};
use crate::calls::Call;
use crate::gate;
use crate::raw::{self, syscall};
use crate::real::real;
use crate::settings::{self, Files};

/// open(2). For a FIFO, parks the greenlet until the other side is there; a kill ends that with `ECANCELED`.
///
/// `mode`, which C's `open` takes as a variable argument, is where the calling convention puts it.
///
/// # Safety
/// As open(2): the path is a C string.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn open(path: *const c_char, flags: c_int, mode: mode_t) -> c_int {
    // SAFETY: the caller's promise.
    unsafe { open_at(Call::open, libc::AT_FDCWD, path, flags, mode) }
}

/// openat(2). As [`open()`].
///
/// # Safety
/// As openat(2): the path is a C string.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn openat(directory: c_int, path: *const c_char, flags: c_int, mode: mode_t) -> c_int {
    // SAFETY: the caller's promise.
    unsafe { open_at(Call::openat, directory, path, flags, mode) }
}

/// creat(2). As [`open()`].
///
/// # Safety
/// As creat(2): the path is a C string.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn creat(path: *const c_char, mode: mode_t) -> c_int {
    let flags = libc::O_CREAT | libc::O_WRONLY | libc::O_TRUNC;
    // SAFETY: the caller's promise.
    unsafe { open_at(Call::open, libc::AT_FDCWD, path, flags, mode) }
}

macro_rules! other_names {
    ($($name:ident($($argument:ident: $kind:ty),*) = $base:ident;)*) => {
        $(
            #[doc = concat!("Another name of [`", stringify!($base), "()`], the same where `off_t` has 64 bits.")]
            ///
            /// # Safety
            /// As of the other.
            #[unsafe(no_mangle)]
            pub unsafe extern "C" fn $name($($argument: $kind),*) -> c_int {
                // SAFETY: the caller's promise.
                unsafe { $base($($argument),*) }
            }
        )*
    };
}

other_names! {
    open64(path: *const c_char, flags: c_int, mode: mode_t) = open;
    __open(path: *const c_char, flags: c_int, mode: mode_t) = open;
    __open64(path: *const c_char, flags: c_int, mode: mode_t) = open;
    openat64(directory: c_int, path: *const c_char, flags: c_int, mode: mode_t) = openat;
    creat64(path: *const c_char, mode: mode_t) = creat;
}

/// Whether flags ask for a mode.
fn creates(flags: c_int) -> bool {
    flags & libc::O_CREAT != 0 || flags & libc::O_TMPFILE == libc::O_TMPFILE
}

/// [`open()`] of fortified code, which has no mode; libc ends the program if it needs one.
///
/// # Safety
/// As [`open()`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn __open_2(path: *const c_char, flags: c_int) -> c_int {
    if creates(flags) {
        let libcs = real!(fn __open_2(*const c_char, c_int) -> c_int);
        // SAFETY: the caller's promise.
        return unsafe { libcs(path, flags) };
    }
    // SAFETY: as above.
    unsafe { open(path, flags, 0) }
}

/// As [`__open_2`].
///
/// # Safety
/// As [`open()`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn __open64_2(path: *const c_char, flags: c_int) -> c_int {
    // SAFETY: the caller's promise.
    unsafe { __open_2(path, flags) }
}

/// [`openat()`] of fortified code, which has no mode; libc ends the program if it needs one.
///
/// # Safety
/// As [`openat()`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn __openat_2(directory: c_int, path: *const c_char, flags: c_int) -> c_int {
    if creates(flags) {
        let libcs = real!(fn __openat_2(c_int, *const c_char, c_int) -> c_int);
        // SAFETY: the caller's promise.
        return unsafe { libcs(directory, path, flags) };
    }
    // SAFETY: as above.
    unsafe { openat(directory, path, flags, 0) }
}

/// As [`__openat_2`].
///
/// # Safety
/// As [`openat()`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn __openat64_2(directory: c_int, path: *const c_char, flags: c_int) -> c_int {
    // SAFETY: the caller's promise.
    unsafe { __openat_2(directory, path, flags) }
}

/// # Safety
/// The path is a C string.
unsafe fn open_at(name: Call, directory: c_int, path: *const c_char, flags: c_int, mode: mode_t) -> c_int {
    // Without these flags C callers leave anything there.
    let mode = if creates(flags) { mode } else { 0 };
    let path = path.expose_provenance();
    // SAFETY: the kernel looks at the path itself.
    let plain = move || unsafe { syscall!(SYS_openat, directory, path, flags, mode) };
    let Some(call) = gate::enter(name) else { return raw::result(plain()) as c_int };
    let may_wait = flags & (libc::O_NONBLOCK | libc::O_PATH) == 0
        && flags & libc::O_DIRECTORY == 0
        && flags & (libc::O_CREAT | libc::O_EXCL) != libc::O_CREAT | libc::O_EXCL
        && flags & libc::O_ACCMODE != libc::O_RDWR;
    if may_wait && is_fifo(directory, path, flags) {
        let result = aside::run(&"open", &plain);
        return call.result(result.unwrap_or_else(plain)) as c_int;
    }
    if settings::files() == Files::Pool && flags & libc::O_PATH == 0 {
        return call.result(foreign::unblock(plain)) as c_int;
    }
    call.result(plain()) as c_int
}

fn is_fifo(directory: c_int, path: usize, flags: c_int) -> bool {
    let follow = if flags & libc::O_NOFOLLOW != 0 { libc::AT_SYMLINK_NOFOLLOW } else { 0 };
    // SAFETY: zeros are a valid `stat`, to which the kernel writes; it looks at the path itself.
    unsafe {
        let mut found: libc::stat = std::mem::zeroed();
        syscall!(SYS_newfstatat, directory, path, &raw mut found, follow) == 0
            && found.st_mode & libc::S_IFMT == libc::S_IFIFO
    }
}

/// Makes a call on a file on disk, in place or on the thread pool, as [`settings::files`] says.
pub(crate) fn on_disk(plain: &dyn Fn() -> isize) -> isize {
    match settings::files() {
        Files::Through => plain(),
        Files::Pool => {
            let plain = Passed(plain);
            foreign::unblock(move || plain.get()())
        }
    }
}

/// fsync(2), in place or on the thread pool, as [`settings::files`] says.
///
/// # Safety
/// Has no conditions.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fsync(fd: c_int) -> c_int {
    // SAFETY: a number only.
    flush(Call::fsync, move || unsafe { syscall!(SYS_fsync, fd) })
}

/// fdatasync(2), as [`fsync()`].
///
/// # Safety
/// Has no conditions.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fdatasync(fd: c_int) -> c_int {
    // SAFETY: a number only.
    flush(Call::fdatasync, move || unsafe { syscall!(SYS_fdatasync, fd) })
}

fn flush(name: Call, plain: impl Fn() -> isize + Send + Sync) -> c_int {
    if settings::files() == Files::Through {
        return raw::result(plain()) as c_int;
    }
    match gate::enter(name) {
        Some(call) => {
            let plain = Passed(plain);
            call.result(foreign::unblock(move || plain.get()())) as c_int
        }
        None => raw::result(plain()) as c_int,
    }
}
