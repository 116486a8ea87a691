//! The lock below everything that this crate defines.

use std::sync::atomic::{AtomicU32, Ordering};

use crate::raw::syscall;

/// Held for moments, never while parked. Waits by system calls made by hand, so that it cannot come back to itself.
pub(crate) struct Lock {
    /// 0: free, 1: taken, 2: taken, and somebody waits in the kernel.
    word: AtomicU32,
}

impl Lock {
    pub(crate) const fn new() -> Lock {
        Lock { word: AtomicU32::new(0) }
    }

    /// Runs `f` with the lock held: for moments, and without a call of anybody else's code.
    #[inline]
    pub(crate) fn with<R>(&self, f: impl FnOnce() -> R) -> R {
        self.hold();
        let result = f();
        self.let_go();
        result
    }

    /// As [`with`](Self::with), if it is free.
    #[inline]
    pub(crate) fn try_with<R>(&self, f: impl FnOnce() -> R) -> Option<R> {
        self.take().then(|| {
            let result = f();
            self.let_go();
            result
        })
    }

    /// Takes it, to be [let go](Self::let_go).
    #[inline]
    pub(crate) fn hold(&self) {
        if !self.take() {
            self.wait();
        }
    }

    fn take(&self) -> bool {
        self.word.compare_exchange(0, 1, Ordering::SeqCst, Ordering::SeqCst).is_ok()
    }

    #[cold]
    fn wait(&self) {
        while self.word.swap(2, Ordering::Acquire) != 0 {
            // SAFETY: the word is ours, and alive as long as it is borrowed. Whatever the call says, the loop looks again.
            unsafe {
                syscall!(SYS_futex, &raw const self.word, libc::FUTEX_WAIT | libc::FUTEX_PRIVATE_FLAG, 2, 0);
            }
        }
    }

    /// Gives it back, by the thread that holds it, or its copy in the child of a fork.
    pub(crate) fn let_go(&self) {
        if self.word.swap(0, Ordering::SeqCst) == 2 {
            // SAFETY: as above.
            unsafe {
                syscall!(SYS_futex, &raw const self.word, libc::FUTEX_WAKE | libc::FUTEX_PRIVATE_FLAG, 1);
            }
        }
    }
}
