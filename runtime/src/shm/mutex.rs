//! A lock around a value, among processes.

use std::cell::UnsafeCell;
use std::fmt;
use std::io;
use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicU32, Ordering, compiler_fence};
use std::time::Duration;

use super::error::{LockError, OwnerDied};
use super::gate::{Gate, Hold, Patience};
use super::map::{Layout, Mapping, Shareable};
use crate::greenlet::WaitsFor;

/// Lets one greenlet of one process at a time have the value (`multiprocessing.Lock`, `uwsgi.lock()`; `()` where there is
/// no value). The guard may be held across blocking calls: other greenlets of all processes go on, as long as they do not want it.
///
/// To lock and to unlock it costs one atomic instruction each and no system call, as long as nobody waits. Those who wait get it in
/// the order in which they came, within a process, and processes take turns of at most 16 in a row: see [the module](super).
///
/// A process that ends while it holds the lock, however it ends, frees it, and who gets it then is told: [`OwnerDied`]. A panic or a kill
/// of the greenlet that holds it is no such end, as for [`sync::Mutex`](crate::sync::Mutex): destructors run, and may put the value
/// right. A greenlet that locks what it has locked waits for itself.
///
/// ```
/// use greenlet::shm::{LockError, Mutex};
///
/// let balance = Mutex::new(100_i64)?; // before the workers are forked
/// match balance.lock() {
///     Ok(mut balance) => *balance -= 10,
///     Err(LockError::OwnerDied(died)) => *died.recover() = 0, // whatever makes it whole again
///     Err(LockError::Failed(error)) => return Err(error),
/// }
/// assert_eq!(*balance.lock().or_else(LockError::recover)?, 90);
/// # Ok::<(), std::io::Error>(())
/// ```
#[doc(alias = "Lock")]
pub struct Mutex<T: Shareable>(Mapping<Locked<T>>);

#[repr(C)]
struct Locked<T> {
    gate: Gate,
    /// Not zero while somebody may be changing the value.
    dirty: AtomicU32,
    value: UnsafeCell<T>,
}

// SAFETY: the value is touched only by who holds the gate, one at a time among all processes; it may be used by any thread, as
// `Shareable` says.
unsafe impl<T: Shareable> Sync for Locked<T> {}
// SAFETY: zeroes are an open gate and, as for any `Pod`, a value. Aligned to a page at most, or `Mapping` does not compile.
unsafe impl<T: Shareable> Layout for Locked<T> {}

impl<T: Shareable> Mutex<T> {
    /// A lock that nobody holds, shared by this process and those that it forks from now on.
    ///
    /// # Errors
    /// The kernel's: no memory, no room for another mapping.
    pub fn new(value: T) -> io::Result<Mutex<T>> {
        super::registry::Registry::get()?;
        let map = Mapping::<Locked<T>>::new()?;
        // SAFETY: nobody else knows of the mapping.
        unsafe { map.value.get().write(value) };
        Ok(Mutex(map))
    }

    /// Locks, waiting while somebody else holds it. Parks the calling greenlet, or blocks a thread that has no hub.
    ///
    /// # Errors
    /// [`OwnerDied`] with the lock held, and [`Failed`](LockError::Failed).
    #[doc(alias = "acquire")]
    #[inline]
    pub fn lock(&self) -> Result<MutexGuard<'_, T>, LockError<MutexGuard<'_, T>>> {
        self.guard(self.0.gate.enter(WaitsFor::Mutex, &mut Patience::new(None))?)
    }

    /// As [`lock`](Self::lock), for a limited time.
    ///
    /// # Errors
    /// `Failed` with `TimedOut`, and those of [`lock`](Self::lock).
    pub fn lock_timeout(&self, timeout: Duration) -> Result<MutexGuard<'_, T>, LockError<MutexGuard<'_, T>>> {
        self.guard(self.0.gate.enter(WaitsFor::Mutex, &mut Patience::new(Some(timeout)))?)
    }

    /// Locks if nobody holds it; `None` if somebody does who lives, which is asked of the kernel. Never parks.
    ///
    /// # Errors
    /// Those of [`lock`](Self::lock), but for those of a wait.
    #[allow(clippy::type_complexity)]
    pub fn try_lock(&self) -> Result<Option<MutexGuard<'_, T>>, LockError<MutexGuard<'_, T>>> {
        self.0.gate.try_enter()?.map(|hold| self.guard(hold)).transpose()
    }

    #[inline]
    fn guard<'a>(&'a self, hold: Hold<'a>) -> Result<MutexGuard<'a, T>, LockError<MutexGuard<'a, T>>> {
        let dirty = &self.0.dirty;
        if dirty.load(Ordering::Relaxed) == 0 {
            dirty.store(1, Ordering::Relaxed);
            // A kill comes between two instructions of this thread, as a signal does; other processors see what was done before it.
            compiler_fence(Ordering::SeqCst);
            return Ok(MutexGuard { locked: &self.0, hold, whole: true });
        }
        let guard = MutexGuard { locked: &self.0, hold, whole: false };
        Err(LockError::OwnerDied(OwnerDied::new(guard, |guard| guard.whole = true)))
    }
}

impl<T: Shareable> fmt::Debug for Mutex<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Mutex")
    }
}

/// The hold on a [`Mutex`]; dropping it hands the lock to the next.
#[must_use = "a lock that is not held is free again at once"]
pub struct MutexGuard<'a, T: Shareable> {
    locked: &'a Locked<T>,
    hold: Hold<'a>,
    /// Whether the value counts as whole when this goes.
    whole: bool,
}

impl<T: Shareable> Deref for MutexGuard<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        self.hold.check();
        // SAFETY: the gate is held, so nobody else has the value, in any process: its word has this process's token, and
        // within the process it is handed from one to the next. Any bytes are a `T`, if half of a change of a dead process's.
        unsafe { &*self.locked.value.get() }
    }
}

impl<T: Shareable> DerefMut for MutexGuard<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        self.hold.check();
        // SAFETY: as above.
        unsafe { &mut *self.locked.value.get() }
    }
}

impl<T: Shareable> Drop for MutexGuard<'_, T> {
    #[inline]
    fn drop(&mut self) {
        if self.whole && self.hold.is_ours() {
            compiler_fence(Ordering::SeqCst);
            self.locked.dirty.store(0, Ordering::Relaxed);
        }
    }
}

impl<T: Shareable + fmt::Debug> fmt::Debug for MutexGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}
