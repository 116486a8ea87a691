//! `syscall(2)`, which is how std, `parking_lot` and most of who make locks of their own reach futex(2).
//!
//! A futex that greenlets wait for is kept in `lot`; the kernel has those who wait on threads. Who wakes wakes
//! the greenlets first. What is told apart:
//! - [`FUTEX_WAIT`](libc::FUTEX_WAIT) and [`FUTEX_WAIT_BITSET`](libc::FUTEX_WAIT_BITSET) park the greenlet,
//!   [`FUTEX_WAKE`](libc::FUTEX_WAKE) and [`FUTEX_WAKE_BITSET`](libc::FUTEX_WAKE_BITSET) call it, from any thread, with
//!   [`FUTEX_PRIVATE_FLAG`](libc::FUTEX_PRIVATE_FLAG).
//! - Without that flag the word may be shared with another process, whose wake-ups only the kernel hears of: the wait is made
//!   on a thread of the pool.
//! - A word in the calling thread's own thread-local memory is the thread's, not the greenlet's (`parking_lot` has one for each
//!   thread, and puts it in its queues): the wait blocks the thread, as it always did.
//! - A wait in [`std::thread::park`] is for the thread, too, and all greenlets of it share what ends it: see there.
//! - Everything else goes to the kernel: `FUTEX_REQUEUE`, `FUTEX_CMP_REQUEUE` and `FUTEX_WAKE_OP` neither move nor wake
//!   greenlets, `FUTEX_LOCK_PI` and the newer `futex_waitv` and `futex_wait` block the thread. So do other calls that block, if
//!   they are made by number (`syscall(SYS_read, …)`).
//!
//! A wait is not interruptible by a kill or a timeout, as no lock is: it ends as it would on a thread, and the kill comes with
//! the next call that is. A signal that is handled on the thread does not end it (`EINTR`) either.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use greenlet::foreign::{self, Deadline};
use libc::{c_int, c_long, timespec};

use crate::block;
use crate::calls::Call;
use crate::gate;
use crate::lot::{self, Wait, Waited};
use crate::parking;
use crate::raw;

/// syscall(2), for [futexes](self); every other call goes to the kernel as it is.
///
/// It has six arguments here where C has any number: those that a caller leaves out are whatever lies in their registers, which
/// the kernel doesn't look at.
///
/// # Safety
/// As the system call of that number asks. The word that a futex call waits for must be readable: where the kernel
/// would say `EFAULT` this reads it all the same.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn syscall(
    number: c_long,
    a: usize,
    b: usize,
    c: usize,
    d: usize,
    e: usize,
    f: usize,
) -> c_long {
    if number == libc::SYS_futex {
        let futex = Futex { word: a as *const AtomicU32, operation: b as c_int, value: c as u32, d, e, f };
        // SAFETY: what the caller promises.
        return unsafe { futex.run() } as c_long;
    }
    // SAFETY: what the caller promises.
    raw::result(unsafe { raw::syscall6(number, a, b, c, d, e, f) }) as c_long
}

/// futex(2), by its arguments.
struct Futex {
    word: *const AtomicU32,
    operation: c_int,
    value: u32,
    d: usize,
    e: usize,
    f: usize,
}

impl Futex {
    /// # Safety
    /// As the call asks.
    #[inline]
    unsafe fn run(self) -> isize {
        let private = self.operation & libc::FUTEX_PRIVATE_FLAG != 0;
        match self.operation & libc::FUTEX_CMD_MASK {
            libc::FUTEX_WAKE if private => self.wake(!0),
            libc::FUTEX_WAKE_BITSET if private => self.wake(self.f as u32),
            // SAFETY: what the caller promises.
            libc::FUTEX_WAIT => unsafe { self.wait(!0, private) },
            // SAFETY: what the caller promises.
            libc::FUTEX_WAIT_BITSET => unsafe { self.wait(self.f as u32, private) },
            _ => raw::result(self.kernel(self.value)),
        }
    }

    /// What the kernel says.
    fn kernel(&self, value: u32) -> isize {
        // SAFETY: the kernel looks at every pointer itself, and what it writes to is what the caller has given it for that.
        unsafe {
            raw::syscall6(
                libc::SYS_futex,
                self.word.addr(),
                self.operation as usize,
                value as usize,
                self.d,
                self.e,
                self.f,
            )
        }
    }

    fn wake(&self, bits: u32) -> isize {
        let address = self.word.addr();
        let count = self.value as i32;
        if parking::is_asked_for(address) {
            return 0;
        }
        if bits == 0 || count <= 0 {
            return raw::result(self.kernel(self.value));
        }
        let called = lot::call(address, bits, count as usize);
        if called >= count as usize {
            return called as isize;
        }
        let more = self.kernel(self.value - called as u32);
        match called {
            0 => raw::result(more),
            _ => called as isize + more.max(0),
        }
    }

    /// # Safety
    /// The word can be read for as long as somebody waits.
    unsafe fn wait(&self, bits: u32, private: bool) -> isize {
        match gate::enter(Call::futex) {
            // SAFETY: what the caller promises.
            Some(call) => unsafe { self.wait_inside(call, bits, private) },
            None => self.wait_plain(),
        }
    }

    /// Blocks the thread.
    fn wait_plain(&self) -> isize {
        let result = self.kernel(self.value);
        parking::thread_was_blocked(self.word.addr());
        raw::result(result)
    }

    /// # Safety
    /// As [`wait`](Self::wait).
    #[inline(never)]
    unsafe fn wait_inside(&self, call: gate::Entered, bits: u32, private: bool) -> isize {
        let address = self.word.addr();
        let valid = address != 0 && address.is_multiple_of(align_of::<AtomicU32>()) && bits != 0;
        // SAFETY: null, or a time that the caller has for this call.
        let timeout = unsafe { (self.d as *const timespec).as_ref() };
        let left = timeout.map(|time| self.left(time));
        if !valid || left == Some(None) || !foreign::can_park() {
            drop(call);
            return self.wait_plain();
        }
        if !private {
            let this = Shared(self);
            return call.result(foreign::unblock(move || this.kernel()));
        }
        if block::bounds().contains(&address) {
            drop(call);
            return self.wait_plain();
        }
        let deadline = left.flatten().and_then(foreign::deadline);
        // SAFETY: not null, aligned, and readable for as long as this waits, as the caller promises.
        let word = unsafe { &*self.word };
        let waited = if self.value == parking::PARKED && parking::is_stds(address) {
            parking::wait(word, deadline)
        } else {
            self.wait_in_lot(word, bits, deadline)
        };
        match waited {
            Waited::Called | Waited::Interrupted => 0,
            Waited::Changed => call.fail(libc::EAGAIN),
            Waited::Deadline => call.fail(libc::ETIMEDOUT),
            Waited::Refused => {
                drop(call);
                self.wait_plain()
            }
        }
    }

    fn wait_in_lot(&self, word: &AtomicU32, bits: u32, deadline: Option<Deadline>) -> Waited {
        let address = self.word.addr();
        Wait { address, bits, deadline, interruptible: false, why: &"futex" }
            .run(|| word.load(Ordering::SeqCst) == self.value, || ())
    }

    /// How long until then; `None` if that is no time.
    fn left(&self, time: &timespec) -> Option<Duration> {
        let time = crate::time::duration(time)?;
        if self.operation & libc::FUTEX_CMD_MASK == libc::FUTEX_WAIT {
            return Some(time);
        }
        let clock = match self.operation & libc::FUTEX_CLOCK_REALTIME {
            0 => libc::CLOCK_MONOTONIC,
            _ => libc::CLOCK_REALTIME,
        };
        let mut now = timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: `now` is there for it to write to.
        unsafe { libc::clock_gettime(clock, &raw mut now) };
        Some(time.saturating_sub(crate::time::duration(&now)?))
    }
}

/// A wait that is made on another thread.
struct Shared<'a>(&'a Futex);

// SAFETY: what it points to is for the kernel to look at, and the caller waits until that is done.
unsafe impl Send for Shared<'_> {}

impl Shared<'_> {
    fn kernel(self) -> isize {
        self.0.kernel(self.0.value)
    }
}
