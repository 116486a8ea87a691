//! `pthread_once`.

use std::sync::atomic::{AtomicI32, Ordering};

use libc::c_int;

use super::{Obtained, obtain};
use crate::calls::Call;
use crate::gate;
use crate::lot;
use crate::raw::syscall;
use crate::real::real;

type Routine = unsafe extern "C-unwind" fn();

/// libc's word says that it is done.
const DONE: c_int = 2;
/// libc's word says that somebody is at it; the other bits are then the fork's number.
const BEGUN: c_int = 1;

/// pthread_once(3). A greenlet that comes while another one, of this thread too, is at it is parked until that is done. As ever,
/// an exception that leaves the routine leaves it undone.
///
/// C++'s `std::call_once` stands on this, but GNU's hands over what to do in a variable of the thread. So if an exception leaves
/// it while other greenlets of the thread wait, the next of them finds nothing to do there, and the program ends.
///
/// # Safety
/// As pthread_once(3).
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn pthread_once(control: *mut c_int, routine: Routine) -> c_int {
    static WHY: &str = "pthread_once";
    // SAFETY: the caller's promise: it lives, and is changed by atomics alone.
    let word = unsafe { AtomicI32::from_ptr(control) };
    if word.load(Ordering::Acquire) & DONE != 0 {
        return 0;
    }
    let Some(_call) = gate::enter(Call::pthread_once) else {
        let _ended = Ended { word };
        // SAFETY: the caller's promise.
        return unsafe { plain(control, routine) };
    };
    let begun = begun();
    let attempt = || {
        let mut seen = word.load(Ordering::Acquire);
        loop {
            if seen & DONE != 0 {
                return Some(false);
            }
            // What was begun before a fork has nobody who ends it.
            if seen == begun {
                return None;
            }
            match word.compare_exchange(seen, begun, Ordering::Acquire, Ordering::Acquire) {
                Ok(_) => return Some(true),
                Err(other) => seen = other,
            }
        }
    };
    match obtain((control.addr(), u32::MAX), &WHY, None, attempt, || false) {
        Obtained::Got(false) => 0,
        Obtained::Got(true) => {
            let undone = Undone { word };
            // SAFETY: the caller's promise.
            unsafe { routine() };
            word.store(DONE, Ordering::Release);
            drop(undone);
            0
        }
        // SAFETY: the caller's promise.
        Obtained::Late | Obtained::Refused => unsafe { plain(control, routine) },
    }
}

unsafe fn plain(control: *mut c_int, routine: Routine) -> c_int {
    // SAFETY: the caller's promise.
    unsafe { real!(fn pthread_once(*mut c_int, Routine) -> c_int)(control, routine) }
}

/// What libc writes when it begins in this process: its own word, looked at from within.
fn begun() -> c_int {
    std::thread_local! {
        static PROBE: AtomicI32 = const { AtomicI32::new(0) };
        static SEEN: AtomicI32 = const { AtomicI32::new(BEGUN) };
    }
    unsafe extern "C-unwind" fn look() {
        SEEN.with(|seen| PROBE.with(|probe| seen.store(probe.load(Ordering::Relaxed), Ordering::Relaxed)));
    }
    PROBE.with(|probe| {
        probe.store(0, Ordering::Relaxed);
        // SAFETY: the word is this thread's own, and the routine only looks at it.
        unsafe { plain(probe.as_ptr(), look) };
    });
    SEEN.with(|seen| seen.load(Ordering::Relaxed))
}

/// Calls those greenlets that wait for libc to end.
struct Ended<'a> {
    word: &'a AtomicI32,
}

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        lot::call(self.word.as_ptr().addr(), u32::MAX, usize::MAX);
    }
}

/// Wakes all who wait; what isn't done by then was left by an exception.
struct Undone<'a> {
    word: &'a AtomicI32,
}

impl Drop for Undone<'_> {
    fn drop(&mut self) {
        let address = self.word.as_ptr();
        if self.word.load(Ordering::Relaxed) != DONE {
            self.word.store(0, Ordering::Release);
        }
        // SAFETY: only the address is used, by which threads wait within libc.
        unsafe {
            syscall!(SYS_futex, address, libc::FUTEX_WAKE | libc::FUTEX_PRIVATE_FLAG, c_int::MAX);
        }
        lot::call(address.addr(), u32::MAX, usize::MAX);
    }
}
