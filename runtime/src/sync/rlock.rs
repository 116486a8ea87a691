//! A lock that its holder may take again.

use std::cell::Cell;
use std::fmt;
use std::ops::Deref;
use std::time::Duration;

use super::semaphore::Semaphore;
use crate::error::WaitError;
use crate::greenlet::WaitsFor;
use crate::hub::{Hub, Moment};

/// A lock that belongs to the greenlet that took it, which may take it again (`gevent.lock.RLock`,
/// `threading.RLock`). It is free when it has been given back as often as it was taken.
///
/// As its holder may have several guards at once, they give a shared reference: to change the value, make it a
/// `Cell` or a `RefCell`. Who waits gets it in its turn. Not poisoned, as [`Mutex`](super::Mutex) is not.
///
/// ```
/// use greenlet::sync::RLock;
///
/// let lock = RLock::new(());
/// let outer = lock.lock().unwrap();
/// let inner = lock.lock().unwrap(); // no wait: it is ours
/// assert_eq!(lock.count(), 2);
/// drop((outer, inner));
/// assert!(!lock.is_locked());
/// ```
#[doc(alias = "ReentrantLock")]
#[doc(alias = "ReentrantMutex")]
pub struct RLock<T: ?Sized = ()> {
    free: Semaphore,
    /// The id of the greenlet that holds it.
    owner: Cell<Option<u64>>,
    /// How often it holds it.
    count: Cell<usize>,
    value: T,
}

impl<T> RLock<T> {
    /// A lock that nobody holds.
    pub const fn new(value: T) -> RLock<T> {
        RLock { free: Semaphore::new(1), owner: Cell::new(None), count: Cell::new(0), value }
    }

    /// The value.
    pub fn into_inner(self) -> T {
        self.value
    }
}

impl<T: ?Sized> RLock<T> {
    /// Locks, or locks once more, waiting while another greenlet holds it. Parks the caller.
    ///
    /// # Errors
    /// `Unwinding`, `LoopExit` and `NoHub` as told at [`WaitError`].
    #[doc(alias = "acquire")]
    pub fn lock(&self) -> Result<RLockGuard<'_, T>, WaitError> {
        self.lock_until(None)
    }

    /// As [`lock`](Self::lock), for a limited time.
    ///
    /// # Errors
    /// `TimedOut`, and those of [`lock`](Self::lock).
    pub fn lock_timeout(&self, timeout: Duration) -> Result<RLockGuard<'_, T>, WaitError> {
        self.lock_until(Hub::get().deadline(timeout))
    }

    /// Locks if the caller holds it, or nobody holds it or waits for it. Never parks.
    pub fn try_lock(&self) -> Option<RLockGuard<'_, T>> {
        let me = Hub::get().current().ok()?.id;
        (self.is_held_by(me) || self.free.try_take()).then(|| self.enter(me))
    }

    /// How often its holder holds it; 0 when nobody does.
    pub fn count(&self) -> usize {
        self.count.get()
    }

    /// Whether somebody holds it.
    pub fn is_locked(&self) -> bool {
        self.count() > 0
    }

    /// Whether the caller holds it (`_is_owned`).
    #[doc(alias = "_is_owned")]
    pub fn is_owned(&self) -> bool {
        Hub::get().current().is_ok_and(|core| self.is_held_by(core.id))
    }

    /// The value, without locking: nobody else can have it.
    pub fn get_mut(&mut self) -> &mut T {
        &mut self.value
    }

    fn lock_until(&self, deadline: Option<Moment>) -> Result<RLockGuard<'_, T>, WaitError> {
        let me = Hub::get().current()?.id;
        if !self.is_held_by(me) {
            self.free.take(WaitsFor::Mutex, deadline)?;
        }
        Ok(self.enter(me))
    }

    fn is_held_by(&self, id: u64) -> bool {
        self.owner.get() == Some(id)
    }

    fn enter(&self, id: u64) -> RLockGuard<'_, T> {
        self.owner.set(Some(id));
        self.count.set(self.count.get() + 1);
        RLockGuard(self)
    }
}

impl<T: Default> Default for RLock<T> {
    fn default() -> RLock<T> {
        RLock::new(T::default())
    }
}

impl<T> From<T> for RLock<T> {
    fn from(value: T) -> RLock<T> {
        RLock::new(value)
    }
}

impl<T: ?Sized + fmt::Debug> fmt::Debug for RLock<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RLock")
            .field("value", &&self.value)
            .field("owner", &self.owner.get())
            .field("count", &self.count.get())
            .field("waiting", &self.free.waiting())
            .finish()
    }
}

/// A hold on an [`RLock`].
#[must_use = "a lock that is not held is free again at once"]
pub struct RLockGuard<'a, T: ?Sized = ()>(&'a RLock<T>);

impl<T: ?Sized> Deref for RLockGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0.value
    }
}

impl<T: ?Sized> Drop for RLockGuard<'_, T> {
    fn drop(&mut self) {
        let count = self.0.count.get() - 1;
        self.0.count.set(count);
        if count == 0 {
            self.0.owner.set(None);
            self.0.free.give();
        }
    }
}

impl<T: ?Sized + fmt::Debug> fmt::Debug for RLockGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}
