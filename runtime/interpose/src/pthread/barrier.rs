//! `pthread_barrier_*`.
//!
//! libc's own cannot be tried, and to wait in it takes a thread for everyone who does. So this is one of our own, in the place
//! of libc's, for threads as for greenlets.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use greenlet::foreign;
use libc::{EINVAL, c_int, c_uint, pthread_barrier_t, pthread_barrierattr_t};

use super::{Obtained, obtain};
use crate::calls::Call;
use crate::gate;
use crate::lot;
use crate::raw::syscall;

/// What one of those who have waited gets.
const PTHREAD_BARRIER_SERIAL_THREAD: c_int = -1;

#[repr(C)]
struct Barrier {
    /// How many times it was full, in the upper half, and how many have come since.
    state: AtomicU64,
    /// How many are in [`pthread_barrier_wait`]: before nobody is, it cannot be destroyed.
    inside: AtomicU32,
    count: u32,
    shared: u32,
}

const _: () = assert!(size_of::<Barrier>() <= size_of::<pthread_barrier_t>());
const _: () = assert!(align_of::<Barrier>() <= align_of::<pthread_barrier_t>());

/// pthread_barrier_init(3).
///
/// # Safety
/// As pthread_barrier_init(3).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pthread_barrier_init(
    barrier: *mut pthread_barrier_t,
    attributes: *const pthread_barrierattr_t,
    count: c_uint,
) -> c_int {
    if count == 0 || c_int::try_from(count).is_err() {
        return EINVAL;
    }
    let mut shared = 0;
    // SAFETY: the caller's promise, and it is large enough.
    unsafe {
        if !attributes.is_null() {
            libc::pthread_barrierattr_getpshared(attributes, &raw mut shared);
        }
        let shared = u32::from(shared == libc::PTHREAD_PROCESS_SHARED);
        barrier.cast::<Barrier>().write(Barrier {
            state: AtomicU64::new(0),
            inside: AtomicU32::new(0),
            count,
            shared,
        });
    }
    0
}

/// pthread_barrier_destroy(3). Waits until those whom it let go have gone.
///
/// # Safety
/// As pthread_barrier_destroy(3).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pthread_barrier_destroy(barrier: *mut pthread_barrier_t) -> c_int {
    // SAFETY: the caller's promise.
    let barrier = unsafe { &*barrier.cast::<Barrier>() };
    while barrier.inside.load(Ordering::Acquire) > 0 {
        if !foreign::yield_now() {
            // SAFETY: it has no arguments.
            unsafe { syscall!(SYS_sched_yield) };
        }
    }
    0
}

/// pthread_barrier_wait(3). Parks the greenlet until all have come.
///
/// # Safety
/// As pthread_barrier_wait(3).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pthread_barrier_wait(barrier: *mut pthread_barrier_t) -> c_int {
    // SAFETY: the caller's promise; it is not destroyed before this has left it.
    let barrier = unsafe { &*barrier.cast::<Barrier>() };
    barrier.inside.fetch_add(1, Ordering::Relaxed);
    let result = barrier.wait();
    // The last that is done to it.
    barrier.inside.fetch_sub(1, Ordering::Release);
    result
}

impl Barrier {
    fn round(&self) -> u32 {
        (self.state.load(Ordering::Acquire) >> 32) as u32
    }

    fn wait(&self) -> c_int {
        let address = self.state.as_ptr().addr();
        let come = |state: u64| {
            let (round, come) = ((state >> 32) as u32, state as u32 + 1);
            match come == self.count {
                true => u64::from(round.wrapping_add(1)) << 32,
                false => u64::from(round) << 32 | u64::from(come),
            }
        };
        let before =
            match self.state.fetch_update(Ordering::AcqRel, Ordering::Acquire, |state| Some(come(state))) {
                Ok(before) | Err(before) => before,
            };
        if before as u32 + 1 == self.count {
            self.futex(libc::FUTEX_WAKE, i32::MAX as u32);
            lot::call(address, u32::MAX, usize::MAX);
            return PTHREAD_BARRIER_SERIAL_THREAD;
        }
        let round = (before >> 32) as u32;
        self.wait_for_next(round, address);
        0
    }

    fn wait_for_next(&self, round: u32, address: usize) {
        static WHY: &str = "pthread_barrier_wait";
        if let Some(_call) = gate::enter(Call::pthread_barrier_wait) {
            let attempt = || (self.round() != round).then_some(());
            let unheard = || self.shared != 0;
            if let Obtained::Got(()) = obtain((address, u32::MAX), &WHY, None, attempt, unheard) {
                return;
            }
        }
        while self.round() == round {
            self.futex(libc::FUTEX_WAIT, round);
        }
    }

    /// On the upper half of the state.
    fn futex(&self, operation: c_int, value: u32) {
        const UPPER: usize = if cfg!(target_endian = "little") { 4 } else { 0 };
        let operation = if self.shared == 0 { operation | libc::FUTEX_PRIVATE_FLAG } else { operation };
        // SAFETY: the word lies in the state, which is alive. Whatever the call says, the caller looks again.
        unsafe {
            syscall!(SYS_futex, self.state.as_ptr().byte_add(UPPER), operation, value, 0);
        }
    }
}
