//! A lock around a value.

use std::cell::{RefCell, RefMut};
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::time::Duration;

use super::semaphore::{Permit, Semaphore};
use crate::error::WaitError;
use crate::greenlet::WaitsFor;
use crate::hub::Hub;

/// Lets one greenlet of a thread at a time have the value, for as long as it likes: the guard may be held across
/// blocking calls, which a `RefCell` borrow or a `std` guard may not (`gevent.lock.BoundedSemaphore(1)`,
/// `threading.Lock`).
///
/// Those who wait get it in the order in which they came. A greenlet that locks what it has locked waits for itself: use
/// an [`RLock`](super::RLock) where that may happen.
///
/// Unlike std's it is not poisoned when its holder panics or is killed: a kill is an ordinary event here. The value is
/// left as the unwinding found it, so put it right in a destructor if it must not be seen half changed.
///
/// ```
/// use std::rc::Rc;
/// use std::time::Duration;
/// use greenlet::sync::Mutex;
///
/// let balance = Rc::new(Mutex::new(0));
/// let jobs: Vec<_> = (0..10)
///     .map(|_| {
///         let balance = balance.clone();
///         greenlet::spawn(move || {
///             let mut balance = balance.lock().unwrap(); // parks while somebody else has it
///             let seen = *balance;
///             greenlet::sleep(Duration::from_millis(1));
///             *balance = seen + 1;
///         })
///     })
///     .collect();
/// greenlet::join_all(&jobs, None).unwrap();
/// assert_eq!(*balance.lock().unwrap(), 10);
/// ```
#[doc(alias = "Lock")]
pub struct Mutex<T: ?Sized> {
    free: Semaphore,
    /// Borrowed by who has the permit, so never twice.
    value: RefCell<T>,
}

impl<T> Mutex<T> {
    /// A lock that nobody holds.
    pub const fn new(value: T) -> Mutex<T> {
        Mutex { free: Semaphore::new(1), value: RefCell::new(value) }
    }

    /// The value.
    pub fn into_inner(self) -> T {
        self.value.into_inner()
    }
}

impl<T: ?Sized> Mutex<T> {
    /// Locks, waiting while somebody else holds it. Parks the caller.
    ///
    /// # Errors
    /// `Unwinding`, `LoopExit` and `NoHub` as told at [`WaitError`].
    #[doc(alias = "acquire")]
    pub fn lock(&self) -> Result<MutexGuard<'_, T>, WaitError> {
        self.free.take(WaitsFor::Mutex, None)?;
        Ok(self.guard(self.free.permit()))
    }

    /// As [`lock`](Self::lock), for a limited time.
    ///
    /// # Errors
    /// `TimedOut`, and those of [`lock`](Self::lock).
    pub fn lock_timeout(&self, timeout: Duration) -> Result<MutexGuard<'_, T>, WaitError> {
        self.free.take(WaitsFor::Mutex, Hub::get().deadline(timeout))?;
        Ok(self.guard(self.free.permit()))
    }

    /// Locks if nobody holds it or waits for it. Never parks.
    pub fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
        Some(self.guard(self.free.try_acquire()?))
    }

    /// Whether somebody holds it.
    #[doc(alias = "locked")]
    pub fn is_locked(&self) -> bool {
        self.free.available() == 0
    }

    /// The value, without locking: nobody else can have it.
    pub fn get_mut(&mut self) -> &mut T {
        self.value.get_mut()
    }

    fn guard<'a>(&'a self, permit: Permit<'a>) -> MutexGuard<'a, T> {
        MutexGuard { value: self.value.borrow_mut(), _permit: permit, mutex: self }
    }
}

impl<T: Default> Default for Mutex<T> {
    fn default() -> Mutex<T> {
        Mutex::new(T::default())
    }
}

impl<T> From<T> for Mutex<T> {
    fn from(value: T) -> Mutex<T> {
        Mutex::new(value)
    }
}

impl<T: ?Sized + fmt::Debug> fmt::Debug for Mutex<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Mutex");
        match self.value.try_borrow() {
            Ok(value) => shown.field("value", &&*value),
            Err(_) => shown.field("value", &format_args!("<locked>")),
        };
        shown.field("waiting", &self.free.waiting()).finish()
    }
}

/// The hold on a [`Mutex`]; dropping it hands the lock to who has waited longest.
#[must_use = "a lock that is not held is free again at once"]
pub struct MutexGuard<'a, T: ?Sized> {
    // in this order: the borrow must be over when the next one is let in
    value: RefMut<'a, T>,
    _permit: Permit<'a>,
    mutex: &'a Mutex<T>,
}

impl<'a, T: ?Sized> MutexGuard<'a, T> {
    /// Unlocks; what is returned can lock again.
    pub(super) fn unlock(guard: MutexGuard<'a, T>) -> &'a Mutex<T> {
        guard.mutex
    }
}

impl<T: ?Sized> Deref for MutexGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T: ?Sized> DerefMut for MutexGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.value
    }
}

impl<T: ?Sized + fmt::Debug> fmt::Debug for MutexGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

impl<T: ?Sized + fmt::Display> fmt::Display for MutexGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}
