//! A lock for one writer or many readers, among processes.

use std::cell::UnsafeCell;
use std::fmt;
use std::io;
use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicU32, Ordering, compiler_fence};
use std::time::Duration;

use super::error::{LockError, OwnerDied};
use super::gate::{Gate, Hold, Patience};
use super::inside::{Inside, Stay};
use super::map::{Layout, Mapping, Shareable};
use crate::greenlet::WaitsFor;

/// Lets greenlets of many processes read the value at once, or one change it. The guards may be held across blocking calls.
///
/// All who come are served in their order, as by [`Mutex`](super::Mutex): readers who come after a waiting writer wait behind it,
/// and the writer waits only for those who were there before. A greenlet that reads and comes again to read while a writer waits
/// would so wait for itself. To read costs five atomic instructions and no system call, as long as nobody waits.
///
/// Readers that die have left. A writer that dies is told of by [`OwnerDied`], to all, until another writer has
/// [recovered](OwnerDied::recover).
///
/// ```
/// use greenlet::shm::RwLock;
///
/// let limits = RwLock::new([100_u32, 10])?;
/// {
///     let (one, two) = (limits.read()?, limits.read()?);
///     assert_eq!(one[0] + two[1], 110);
///     assert!(limits.try_write()?.is_none());
/// }
/// limits.write()?[1] = 20;
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct RwLock<T: Shareable>(Mapping<Locked<T>>);

#[repr(C)]
struct Locked<T> {
    /// Held by the writer, and by who is next to come in.
    gate: Gate,
    readers: Inside,
    /// Not zero while a writer may be changing the value.
    dirty: AtomicU32,
    value: UnsafeCell<T>,
}

// SAFETY: the value is changed only by who holds the gate when no reader is inside, and read only from inside or with the gate held;
// it may be used by any thread, as `Shareable` says.
unsafe impl<T: Shareable> Sync for Locked<T> {}
// SAFETY: zeroes are an open gate with nobody inside and, as for any `Pod`, a value. Aligned to a page at most, or `Mapping` does not
// compile.
unsafe impl<T: Shareable> Layout for Locked<T> {}

type Read<'a, T> = Result<RwLockReadGuard<'a, T>, LockError<RwLockReadGuard<'a, T>>>;
type Write<'a, T> = Result<RwLockWriteGuard<'a, T>, LockError<RwLockWriteGuard<'a, T>>>;

impl<T: Shareable> RwLock<T> {
    /// A lock that nobody holds, shared by this process and those that it forks from now on.
    ///
    /// # Errors
    /// The kernel's: no memory, no room for another mapping.
    pub fn new(value: T) -> io::Result<RwLock<T>> {
        super::registry::Registry::get()?;
        let map = Mapping::<Locked<T>>::new()?;
        // SAFETY: nobody else knows of the mapping.
        unsafe { map.value.get().write(value) };
        Ok(RwLock(map))
    }

    /// Locks for reading, waiting for a writer who has it or came before. Parks the calling greenlet, or blocks a thread that has no
    /// hub.
    ///
    /// # Errors
    /// [`OwnerDied`] with the lock held, and [`Failed`](LockError::Failed).
    pub fn read(&self) -> Result<RwLockReadGuard<'_, T>, LockError<RwLockReadGuard<'_, T>>> {
        self.reader(&self.0.gate.enter(WaitsFor::RwLock, &mut Patience::new(None))?)
    }

    /// As [`read`](Self::read), for a limited time.
    ///
    /// # Errors
    /// `Failed` with `TimedOut`, and those of [`read`](Self::read).
    pub fn read_timeout(
        &self,
        timeout: Duration,
    ) -> Result<RwLockReadGuard<'_, T>, LockError<RwLockReadGuard<'_, T>>> {
        self.reader(&self.0.gate.enter(WaitsFor::RwLock, &mut Patience::new(Some(timeout)))?)
    }

    /// Locks for reading if no writer has it and nobody waits. Never parks.
    ///
    /// # Errors
    /// Those of [`read`](Self::read), but for those of a wait.
    #[allow(clippy::type_complexity)]
    pub fn try_read(&self) -> Result<Option<RwLockReadGuard<'_, T>>, LockError<RwLockReadGuard<'_, T>>> {
        self.0.gate.try_enter()?.map(|hold| self.reader(&hold)).transpose()
    }

    /// Locks for writing, waiting for all who have it or came before. Parks the calling greenlet, or blocks a thread that has no
    /// hub.
    ///
    /// # Errors
    /// [`OwnerDied`] with the lock held, and [`Failed`](LockError::Failed).
    pub fn write(&self) -> Result<RwLockWriteGuard<'_, T>, LockError<RwLockWriteGuard<'_, T>>> {
        self.write_with(Patience::new(None))
    }

    /// As [`write`](Self::write), for a limited time.
    ///
    /// # Errors
    /// `Failed` with `TimedOut`, and those of [`write`](Self::write).
    pub fn write_timeout(
        &self,
        timeout: Duration,
    ) -> Result<RwLockWriteGuard<'_, T>, LockError<RwLockWriteGuard<'_, T>>> {
        self.write_with(Patience::new(Some(timeout)))
    }

    /// Locks for writing if nobody has it or waits; whether those who have it live is asked of the kernel. Never parks.
    ///
    /// # Errors
    /// Those of [`write`](Self::write), but for those of a wait.
    #[allow(clippy::type_complexity)]
    pub fn try_write(&self) -> Result<Option<RwLockWriteGuard<'_, T>>, LockError<RwLockWriteGuard<'_, T>>> {
        let Some(hold) = self.0.gate.try_enter()? else { return Ok(None) };
        if self.0.readers.number()? > 0 && self.0.readers.living()? > 0 {
            return Ok(None);
        }
        self.writer(hold).map(Some)
    }

    fn write_with(&self, mut patience: Patience) -> Write<'_, T> {
        loop {
            let hold = self.0.gate.enter(WaitsFor::RwLock, &mut patience)?;
            if self.0.readers.wait(&hold, WaitsFor::RwLock, &mut patience, |inside| inside == 0)? {
                return self.writer(hold);
            }
        }
    }

    fn reader(&self, hold: &Hold<'_>) -> Read<'_, T> {
        let guard = RwLockReadGuard { locked: &self.0, stay: self.0.readers.enter(hold) };
        if self.0.dirty.load(Ordering::Relaxed) == 0 {
            return Ok(guard);
        }
        Err(LockError::OwnerDied(OwnerDied::new(guard, |_| ())))
    }

    fn writer<'a>(&'a self, hold: Hold<'a>) -> Write<'a, T> {
        let dirty = &self.0.dirty;
        if dirty.load(Ordering::Relaxed) == 0 {
            dirty.store(1, Ordering::Relaxed);
            // As in `Mutex`: a kill is like a signal to this thread.
            compiler_fence(Ordering::SeqCst);
            return Ok(RwLockWriteGuard { locked: &self.0, hold, whole: true });
        }
        let guard = RwLockWriteGuard { locked: &self.0, hold, whole: false };
        Err(LockError::OwnerDied(OwnerDied::new(guard, |guard| guard.whole = true)))
    }
}

impl<T: Shareable> fmt::Debug for RwLock<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RwLock")
    }
}

/// A hold on a [`RwLock`] for reading.
#[must_use = "a lock that is not held is free again at once"]
pub struct RwLockReadGuard<'a, T: Shareable> {
    locked: &'a Locked<T>,
    stay: Stay<'a>,
}

impl<T: Shareable> Deref for RwLockReadGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.stay.check();
        // SAFETY: while this is counted as inside, no writer is, in any process. Any bytes are a `T`.
        unsafe { &*self.locked.value.get() }
    }
}

impl<T: Shareable + fmt::Debug> fmt::Debug for RwLockReadGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

/// The hold on a [`RwLock`] for writing.
#[must_use = "a lock that is not held is free again at once"]
pub struct RwLockWriteGuard<'a, T: Shareable> {
    locked: &'a Locked<T>,
    hold: Hold<'a>,
    /// Whether the value counts as whole when this goes.
    whole: bool,
}

impl<T: Shareable> Deref for RwLockWriteGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.hold.check();
        // SAFETY: the gate is held and nobody is inside, so nobody else has the value, in any process. Any bytes are a `T`.
        unsafe { &*self.locked.value.get() }
    }
}

impl<T: Shareable> DerefMut for RwLockWriteGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        self.hold.check();
        // SAFETY: as above.
        unsafe { &mut *self.locked.value.get() }
    }
}

impl<T: Shareable> Drop for RwLockWriteGuard<'_, T> {
    fn drop(&mut self) {
        if self.whole && self.hold.is_ours() {
            compiler_fence(Ordering::SeqCst);
            self.locked.dirty.store(0, Ordering::Relaxed);
        }
    }
}

impl<T: Shareable + fmt::Debug> fmt::Debug for RwLockWriteGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}
