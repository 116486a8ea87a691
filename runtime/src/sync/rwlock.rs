//! A lock for one writer or many readers.

use std::cell::{Ref, RefCell, RefMut};
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::time::Duration;

use super::semaphore::{Permit, Semaphore};
use super::waiters::{Waiters, Waiting};
use crate::error::WaitError;
use crate::greenlet::WaitsFor;
use crate::hub::{Hub, Moment};

/// Lets many greenlets of a thread read the value at once, or one change it (gevent has none of its own). The guards
/// may be held across blocking calls.
///
/// All who come are served in their order: readers who come after a waiting writer wait behind it, so that writers are not
/// starved, and the writer waits only for those who were there before. A greenlet that reads and comes again to read
/// while a writer waits would so wait for itself. Not poisoned, as [`Mutex`](super::Mutex) is not.
///
/// ```
/// use greenlet::sync::RwLock;
///
/// let settings = RwLock::new(vec!["a"]);
/// {
///     let (one, two) = (settings.read().unwrap(), settings.read().unwrap());
///     assert_eq!(one.len(), two.len());
///     assert!(settings.try_write().is_none());
/// }
/// settings.write().unwrap().push("b");
/// ```
pub struct RwLock<T: ?Sized> {
    /// Held by who is next to come in; the others queue for it.
    door: Semaphore,
    /// Where the one at the door waits for those inside to leave.
    at_door: RefCell<Waiters>,
    /// Its borrows are the readers and the writer.
    value: RefCell<T>,
}

impl<T> RwLock<T> {
    /// A lock that nobody holds.
    pub const fn new(value: T) -> RwLock<T> {
        RwLock { door: Semaphore::new(1), at_door: RefCell::new(Waiters::new()), value: RefCell::new(value) }
    }

    /// The value.
    pub fn into_inner(self) -> T {
        self.value.into_inner()
    }
}

impl<T: ?Sized> RwLock<T> {
    /// Locks for reading, waiting for a writer who has it or came before. Parks the caller.
    ///
    /// # Errors
    /// `Unwinding`, `LoopExit` and `NoHub` as told at [`WaitError`].
    pub fn read(&self) -> Result<RwLockReadGuard<'_, T>, WaitError> {
        self.read_until(None)
    }

    /// As [`read`](Self::read), for a limited time.
    ///
    /// # Errors
    /// `TimedOut`, and those of [`read`](Self::read).
    pub fn read_timeout(&self, timeout: Duration) -> Result<RwLockReadGuard<'_, T>, WaitError> {
        self.read_until(Hub::get().deadline(timeout))
    }

    /// Locks for reading if no writer has it and nobody waits. Never parks.
    pub fn try_read(&self) -> Option<RwLockReadGuard<'_, T>> {
        let _door = self.door.try_acquire()?;
        Some(RwLockReadGuard { value: self.value.try_borrow().ok()?, _leave: Leave(self) })
    }

    /// Locks for writing, waiting for all who have it or came before. Parks the caller.
    ///
    /// # Errors
    /// `Unwinding`, `LoopExit` and `NoHub` as told at [`WaitError`].
    pub fn write(&self) -> Result<RwLockWriteGuard<'_, T>, WaitError> {
        self.write_until(None)
    }

    /// As [`write`](Self::write), for a limited time.
    ///
    /// # Errors
    /// `TimedOut`, and those of [`write`](Self::write).
    pub fn write_timeout(&self, timeout: Duration) -> Result<RwLockWriteGuard<'_, T>, WaitError> {
        self.write_until(Hub::get().deadline(timeout))
    }

    /// Locks for writing if nobody has it or waits. Never parks.
    pub fn try_write(&self) -> Option<RwLockWriteGuard<'_, T>> {
        let _door = self.door.try_acquire()?;
        Some(RwLockWriteGuard { value: self.value.try_borrow_mut().ok()?, _leave: Leave(self) })
    }

    /// The value, without locking: nobody else can have it.
    pub fn get_mut(&mut self) -> &mut T {
        self.value.get_mut()
    }

    fn read_until(&self, deadline: Option<Moment>) -> Result<RwLockReadGuard<'_, T>, WaitError> {
        let _door = self.come_in(deadline, || self.value.try_borrow().is_ok())?;
        Ok(RwLockReadGuard { value: self.value.borrow(), _leave: Leave(self) })
    }

    fn write_until(&self, deadline: Option<Moment>) -> Result<RwLockWriteGuard<'_, T>, WaitError> {
        let _door = self.come_in(deadline, || self.value.try_borrow_mut().is_ok())?;
        Ok(RwLockWriteGuard { value: self.value.borrow_mut(), _leave: Leave(self) })
    }

    /// Queues for the door, then waits there until there is room. However that ends, the door goes to the next.
    fn come_in(&self, deadline: Option<Moment>, room: impl Fn() -> bool) -> Result<Permit<'_>, WaitError> {
        self.door.take(WaitsFor::RwLock, deadline)?;
        let door = self.door.permit();
        Waiting::until(&self.at_door, WaitsFor::RwLock, deadline, room)?;
        Ok(door)
    }
}

impl<T: Default> Default for RwLock<T> {
    fn default() -> RwLock<T> {
        RwLock::new(T::default())
    }
}

impl<T> From<T> for RwLock<T> {
    fn from(value: T) -> RwLock<T> {
        RwLock::new(value)
    }
}

impl<T: ?Sized + fmt::Debug> fmt::Debug for RwLock<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("RwLock");
        match self.value.try_borrow() {
            Ok(value) => shown.field("value", &&*value),
            Err(_) => shown.field("value", &format_args!("<locked>")),
        };
        shown.field("waiting", &(self.door.waiting() + self.at_door.borrow().len())).finish()
    }
}

/// A hold on a [`RwLock`] for reading.
#[must_use = "a lock that is not held is free again at once"]
pub struct RwLockReadGuard<'a, T: ?Sized> {
    // in this order: the borrow must be over when the next one is called
    value: Ref<'a, T>,
    _leave: Leave<'a, T>,
}

impl<T: ?Sized> Deref for RwLockReadGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T: ?Sized + fmt::Debug> fmt::Debug for RwLockReadGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

/// The hold on a [`RwLock`] for writing.
#[must_use = "a lock that is not held is free again at once"]
pub struct RwLockWriteGuard<'a, T: ?Sized> {
    // in this order, as above
    value: RefMut<'a, T>,
    _leave: Leave<'a, T>,
}

impl<T: ?Sized> Deref for RwLockWriteGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T: ?Sized> DerefMut for RwLockWriteGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.value
    }
}

impl<T: ?Sized + fmt::Debug> fmt::Debug for RwLockWriteGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

/// Calls the one at the door when the last one inside has left.
struct Leave<'a, T: ?Sized>(&'a RwLock<T>);

impl<T: ?Sized> Drop for Leave<'_, T> {
    fn drop(&mut self) {
        let RwLock { at_door, value, .. } = self.0;
        if at_door.borrow().len() > 0 && value.try_borrow_mut().is_ok() {
            Waiters::wake_all(at_door, Hub::get());
        }
    }
}
