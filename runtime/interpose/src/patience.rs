//! How a call on a descriptor waits: what the descriptor's own settings ask for, and no more.
//!
//! Nothing is cached and nothing is changed for longer than a moment. So what the program believes of a descriptor is what the
//! kernel says, whoever set it: this process, another that shares the file, or code that makes system calls by itself.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use greenlet::foreign::{self, Deadline, Woken};
use libc::{c_int, timeval};

use crate::raw::syscall;

/// Which side of a descriptor a call is about.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    Read,
    Write,
}

/// What is to be done after a wait.
pub(crate) enum Then {
    /// Try again.
    Again,
    /// End the call with this error.
    Fail(c_int),
    /// Nobody can be parked: make the plain call, which blocks the thread.
    Plain,
}

/// The waits of one call on a descriptor: all of them together last as long as its timeout says.
pub(crate) struct Patience {
    fd: c_int,
    side: Side,
    /// `SO_RCVTIMEO` and `SO_SNDTIMEO` are asked for; false once it is known that there are none.
    socket: bool,
    /// Once it is known that the descriptor is in blocking mode: until when.
    deadline: Option<Option<Deadline>>,
    /// No wait has begun yet. The first one to receive asks for its timeout only if it lasts.
    first: bool,
}

impl Patience {
    pub(crate) fn socket(fd: c_int, side: Side) -> Patience {
        Patience { fd, side, socket: true, deadline: None, first: true }
    }

    /// For what has no timeouts.
    pub(crate) fn other(fd: c_int, side: Side) -> Patience {
        Patience { fd, side, socket: false, deadline: None, first: true }
    }

    pub(crate) fn fd(&self) -> c_int {
        self.fd
    }

    /// Until when, and `EAGAIN` if the program wants no waits. The time begins with the first wait.
    pub(crate) fn deadline(&mut self) -> Result<Option<Deadline>, c_int> {
        if let Some(deadline) = self.deadline {
            return Ok(deadline);
        }
        if !is_blocking(self.fd, self.socket)? {
            return Err(libc::EAGAIN);
        }
        let after = if self.socket { timeout(self.fd, self.side) } else { None };
        self.socket = after.is_some();
        let deadline = after.filter(|after| !after.is_zero()).and_then(foreign::deadline);
        self.deadline = Some(deadline);
        Ok(deadline)
    }

    /// The call would have to wait: does so, if the descriptor is in blocking mode.
    #[inline]
    pub(crate) fn wait(&mut self) -> Then {
        self.wait_known(false)
    }

    /// [`wait`](Self::wait); see [`foreign::wait_received`] for what is known.
    #[inline(always)]
    pub(crate) fn wait_known(&mut self, known: bool) -> Then {
        if !std::mem::take(&mut self.first)
            || !self.socket
            || self.side != Side::Read
            || self.deadline.is_some()
        {
            return self.wait_until();
        }
        match is_blocking(self.fd, true) {
            Ok(true) => told(foreign::wait_received(self.fd, known)),
            Ok(false) => Then::Fail(libc::EAGAIN),
            Err(errno) => Then::Fail(errno),
        }
    }

    fn wait_until(&mut self) -> Then {
        let deadline = match self.deadline() {
            Ok(deadline) => deadline,
            Err(errno) => return Then::Fail(errno),
        };
        told(match self.side {
            Side::Read => foreign::wait_readable(self.fd, deadline),
            Side::Write => foreign::wait_writable(self.fd, deadline),
        })
    }
}

fn told(woken: std::io::Result<Woken>) -> Then {
    match woken {
        Ok(woken) => then(woken),
        Err(error) => Then::Fail(error.raw_os_error().unwrap_or(libc::EIO)),
    }
}

/// For each descriptor, up to a number: the last call that received from it had to wait, and took less than it had room for. Very
/// likely the next one has to wait, too, and it is not worth asking. That it may be wrong costs time and nothing else: if more has
/// come meanwhile, or the number stands for another file by now, the wait ends at once.
static DRAINED: [AtomicU64; 1024] = [const { AtomicU64::new(0) }; 1024];

fn drained(fd: c_int) -> Option<(&'static AtomicU64, u64)> {
    let index = usize::try_from(fd).ok()?;
    DRAINED.get(index / 64).map(|word| (word, 1 << (index % 64)))
}

/// See [`DRAINED`].
#[inline]
pub(crate) fn set_drained(fd: c_int, now: bool) {
    let Some((word, bit)) = drained(fd) else { return };
    if (word.load(Ordering::Relaxed) & bit != 0) != now {
        word.fetch_xor(bit, Ordering::Relaxed);
    }
}

/// See [`DRAINED`].
#[inline]
pub(crate) fn is_drained(fd: c_int) -> bool {
    drained(fd).is_some_and(|(word, bit)| word.load(Ordering::Relaxed) & bit != 0)
}

/// What a call does that has been woken, if a timeout's end is `EAGAIN`.
pub(crate) fn then(woken: Woken) -> Then {
    match woken {
        Woken::Event => Then::Again,
        Woken::Deadline => Then::Fail(libc::EAGAIN),
        Woken::Interrupted => Then::Fail(libc::ECANCELED),
        Woken::Refused => Then::Plain,
    }
}

/// What a call gives of which a part was done before its last attempt: an error only if it is all that there is.
pub(crate) fn either(done: usize, last: isize) -> isize {
    match last {
        0.. => done as isize + last,
        _ if done > 0 => done as isize,
        _ => last,
    }
}

/// A socket's `SO_RCVTIMEO` or `SO_SNDTIMEO`, zero for ever; `None` if it is no socket.
fn timeout(fd: c_int, side: Side) -> Option<Duration> {
    let option = match side {
        Side::Read => libc::SO_RCVTIMEO,
        Side::Write => libc::SO_SNDTIMEO,
    };
    let time: timeval = socket_option(fd, option)?;
    Some(Duration::new(u64::try_from(time.tv_sec).ok()?, u32::try_from(time.tv_usec).ok()? * 1_000))
}

/// An option of a socket; `None` if it is none, or has no such option.
pub(crate) fn socket_option<T: Copy>(fd: c_int, option: c_int) -> Option<T> {
    let mut value = std::mem::MaybeUninit::<T>::zeroed();
    let mut length = size_of::<T>() as libc::socklen_t;
    // SAFETY: the kernel writes at most `length` bytes to a value that has as many.
    let got = unsafe {
        syscall!(SYS_getsockopt, fd, libc::SOL_SOCKET, option, value.as_mut_ptr(), &raw mut length)
    };
    // SAFETY: it was zeroed, and `T` is one of the kernel's plain structures.
    (got == 0 && length as usize == size_of::<T>()).then(|| unsafe { value.assume_init() })
}

/// Whether one of these events (`POLLIN` and so on) is there, or an error.
pub(crate) fn is_ready(fd: c_int, events: libc::c_short) -> bool {
    let mut poll = libc::pollfd { fd, events, revents: 0 };
    let at_once = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: both live until it returns.
    unsafe { syscall!(SYS_ppoll, &raw mut poll, 1, &raw const at_once, 0, 0) != 0 }
}

/// Marks that `O_NONBLOCK` is set by [`at_once`], for other processes that have the same socket: `O_APPEND` says nothing of a
/// socket, and nobody sets it.
const MARK: c_int = libc::O_APPEND;

/// One thread of the process at a time is in [`at_once`].
static FLIPPING: AtomicBool = AtomicBool::new(false);

/// Holds [`FLIPPING`]. If it can't be had for long it is taken: its holder was a thread of which a fork has made no copy.
struct Flipping;

impl Flipping {
    fn begin() -> Flipping {
        for _ in 0..1_000 {
            if !FLIPPING.swap(true, Ordering::Acquire) {
                return Flipping;
            }
            // SAFETY: it takes nothing.
            unsafe { syscall!(SYS_sched_yield) };
        }
        Flipping
    }
}

impl Drop for Flipping {
    fn drop(&mut self) {
        FLIPPING.store(false, Ordering::Release);
    }
}

/// A descriptor's `O_` flags.
fn flags(fd: c_int) -> Result<c_int, c_int> {
    // SAFETY: it takes only numbers.
    let flags = unsafe { syscall!(SYS_fcntl, fd, libc::F_GETFL) };
    if flags < 0 { Err(-flags as c_int) } else { Ok(flags as c_int) }
}

/// Whether calls on a descriptor may wait: the program has not set `O_NONBLOCK`.
fn is_blocking(fd: c_int, socket: bool) -> Result<bool, c_int> {
    if flags(fd)? & libc::O_NONBLOCK == 0 {
        return Ok(true);
    }
    // Another thread, or for a socket another process, may have set it for a moment.
    let _flipping = Flipping::begin();
    let flags = flags(fd)?;
    Ok(flags & libc::O_NONBLOCK == 0 || socket && flags & MARK != 0)
}

/// Makes a call that can't be told not to wait, with `O_NONBLOCK` set for its length; `EAGAIN` and its like say that it would
/// have waited. As it is, with `Err`, if the program has set `O_NONBLOCK` itself: what it gave is the answer.
///
/// Who has the same open file and makes a plain call in that moment does not wait either: threads without a hub, other processes.
/// `mark` tells other processes that do as we do, and is for sockets alone.
pub(crate) fn at_once(fd: c_int, mark: bool, call: impl Fn() -> isize) -> Result<isize, isize> {
    let _flipping = Flipping::begin();
    let flags = match flags(fd) {
        Ok(flags) => flags,
        Err(errno) => return Err(-errno as isize),
    };
    let marks = libc::O_NONBLOCK | if mark { MARK } else { 0 };
    if flags & libc::O_NONBLOCK != 0 && !(mark && flags & MARK != 0) {
        return Err(call());
    }
    // SAFETY: these take only numbers; the descriptor may be closed by another thread, which the kernel tells `call`.
    unsafe { syscall!(SYS_fcntl, fd, libc::F_SETFL, flags | marks) };
    let result = call();
    // SAFETY: as above.
    unsafe { syscall!(SYS_fcntl, fd, libc::F_SETFL, flags & !marks) };
    Ok(result)
}
