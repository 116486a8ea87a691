//! What only a thread can wait for, since the kernel tells nobody when it is there: the locks of files, the other end of a FIFO.
//!
//! Each wait has a thread of its own while it lasts. A pool would have an end, and those who wait for a lock could keep the one who
//! is to release it from its place in there.

use std::ffi::c_int;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicIsize, Ordering};
use std::thread;
use std::time::Duration;

use greenlet::foreign::{self, Parker};

use crate::raw::{self, syscall};
use crate::signals;

/// Runs `call`, a system call that gives what the kernel gives, on a thread of its own, and parks the greenlet meanwhile. A kill or
/// the end of a timeout makes it end by `ECANCELED`, without having done anything. `ENOMEM` if there can be no thread; `None` if
/// the greenlet cannot be parked.
pub(crate) fn run(why: &'static &'static str, call: &(dyn Fn() -> isize + Sync)) -> Option<isize> {
    let wait = Wait {
        call,
        parker: Parker::new()?,
        result: AtomicIsize::new(0),
        thread: AtomicI32::new(0),
        stop: AtomicBool::new(false),
    };
    let signal = signals::interrupting();
    let place = Place(&raw const wait);
    let body = move || {
        let place = place;
        // SAFETY: whoever waits stays until it has been called, below.
        unsafe { (*place.0).fulfil() };
    };
    let spawned = {
        // The thread begins with what is blocked here: the program's handlers are not to run in it.
        let _blocked = AllBlocked::but(signal);
        // SAFETY: what the closure borrows outlives it, for the same reason.
        unsafe {
            thread::Builder::new()
                .name("greenlet-aside".to_owned())
                .stack_size(64 << 10)
                .spawn_unchecked(body)
        }
    };
    if spawned.is_err() {
        return Some(-(libc::ENOMEM as isize));
    }
    let mut interrupted = false;
    while !wait.parker.is_called() {
        // A signal that comes before the thread has begun its call is lost, so it is sent until the call has ended.
        let soon = if interrupted { foreign::deadline(Duration::from_millis(1)) } else { None };
        match wait.parker.park(why, soon, !interrupted) {
            foreign::Woken::Event => {}
            foreign::Woken::Interrupted if signal.is_none() => interrupted = false,
            foreign::Woken::Interrupted | foreign::Woken::Deadline => {
                interrupted = true;
                wait.stop.store(true, Ordering::SeqCst);
                let thread = wait.thread.load(Ordering::SeqCst);
                if let (Some(signal), true) = (signal, thread != 0 && !wait.parker.is_called()) {
                    // SAFETY: the signal has a handler that does nothing.
                    unsafe { syscall!(SYS_tgkill, libc::getpid(), thread, signal) };
                }
            }
            // The hub ends: there is nothing to do but to wait.
            foreign::Woken::Refused => std::hint::spin_loop(),
        }
    }
    match wait.result.load(Ordering::Acquire) {
        result if result == -(libc::EINTR as isize) => Some(-(libc::ECANCELED as isize)),
        result => Some(result),
    }
}

struct Wait<'a> {
    call: &'a (dyn Fn() -> isize + Sync),
    parker: Parker,
    result: AtomicIsize,
    thread: AtomicI32,
    stop: AtomicBool,
}

struct Place<'a>(*const Wait<'a>);

// SAFETY: what the thread uses of it is atomic, for any thread, or its own alone.
unsafe impl Send for Place<'_> {}

impl Wait<'_> {
    /// On the thread: makes the call, and calls who waits. Nothing of `self` may be used afterwards.
    fn fulfil(&self) {
        // SAFETY: has no conditions.
        self.thread.store(unsafe { syscall!(SYS_gettid) } as c_int, Ordering::SeqCst);
        let interrupted = -(libc::EINTR as isize);
        let mut result = interrupted;
        while result == interrupted && !self.stop.load(Ordering::SeqCst) {
            result = (self.call)();
        }
        self.result.store(result, Ordering::Release);
        // SAFETY: its owner waits for this one call.
        unsafe { Parker::unpark(&raw const self.parker) };
    }
}

/// All signals are blocked on this thread for as long as it lives, but for one.
struct AllBlocked(u64);

impl AllBlocked {
    fn but(signal: Option<c_int>) -> AllBlocked {
        let set = !signal.map_or(0, |signal| 1_u64 << (signal - 1));
        let mut before = 0_u64;
        // SAFETY: the kernel reads and writes sets of 64 signals.
        unsafe {
            syscall!(SYS_rt_sigprocmask, libc::SIG_SETMASK, &raw const set, &raw mut before, size_of::<u64>())
        };
        AllBlocked(before)
    }
}

impl Drop for AllBlocked {
    fn drop(&mut self) {
        // SAFETY: as above.
        unsafe { syscall!(SYS_rt_sigprocmask, libc::SIG_SETMASK, &raw const self.0, 0, size_of::<u64>()) };
    }
}

/// A value that may go to the thread on which a call is made that its caller waits for.
pub(crate) struct Passed<T>(pub(crate) T);

// SAFETY: C's pointers, which C calls do not bind to a thread; who has passed them waits meanwhile.
unsafe impl<T> Send for Passed<T> {}

impl<T> Passed<T> {
    pub(crate) fn get(self) -> T {
        self.0
    }
}

/// What a call of libc's has given on another thread, with that thread's `errno`.
pub(crate) fn with_errno<R>(call: impl FnOnce() -> R) -> Passed<(R, c_int)> {
    raw::set_errno(0);
    let result = call();
    Passed((result, raw::errno()))
}
