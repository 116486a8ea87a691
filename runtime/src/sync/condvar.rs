//! Waiting for a change of what a lock protects.

use std::cell::RefCell;
use std::fmt;
use std::time::Duration;

use super::mutex::MutexGuard;
use super::waiters::{Waiters, Waiting};
use crate::error::WaitError;
use crate::greenlet::WaitsFor;
use crate::hub::{Hub, Moment};

/// A place to wait in until what a [`Mutex`](super::Mutex) protects has changed (`threading.Condition`).
///
/// A wait gives the lock up, parks, and locks again. Who has waited longest is woken first. A notification is not lost:
/// if the one it woke is killed before it has the lock back, it goes to the next. Nobody wakes without one, but the
/// value may have changed again before the lock is had: [`wait_while`](Self::wait_while) looks.
///
/// ```
/// use std::rc::Rc;
/// use greenlet::sync::{Condvar, Mutex};
///
/// let shared = Rc::new((Mutex::new(false), Condvar::new()));
/// let setter = greenlet::spawn({
///     let shared = shared.clone();
///     move || {
///         *shared.0.lock().unwrap() = true;
///         shared.1.notify_one();
///     }
/// });
/// let (lock, changed) = &*shared;
/// let ready = changed.wait_while(lock.lock().unwrap(), |ready| !*ready).unwrap();
/// assert!(*ready);
/// # drop(ready);
/// # setter.join().unwrap();
/// ```
#[doc(alias = "Condition")]
pub struct Condvar {
    waiters: RefCell<Waiters>,
}

impl Condvar {
    /// A place in which nobody waits.
    pub const fn new() -> Condvar {
        Condvar { waiters: RefCell::new(Waiters::new()) }
    }

    /// Gives the lock up, waits for a notification and locks again. Parks the caller.
    ///
    /// # Errors
    /// `Unwinding`, `LoopExit` and `NoHub` as told at [`WaitError`]. The lock is not held any more then.
    pub fn wait<'a, T: ?Sized>(&self, guard: MutexGuard<'a, T>) -> Result<MutexGuard<'a, T>, WaitError> {
        self.wait_until(guard, None).map(|(guard, _)| guard)
    }

    /// Waits for notifications until `condition` does not hold any more; not at all if it does not at first
    /// (`wait_for`). Parks the caller.
    ///
    /// # Errors
    /// As [`wait`](Self::wait).
    #[doc(alias = "wait_for")]
    pub fn wait_while<'a, T: ?Sized>(
        &self,
        guard: MutexGuard<'a, T>,
        condition: impl FnMut(&mut T) -> bool,
    ) -> Result<MutexGuard<'a, T>, WaitError> {
        self.wait_while_until(guard, None, condition).map(|(guard, _)| guard)
    }

    /// As [`wait`](Self::wait), for a limited time. The time is for the notification: the lock is waited for without
    /// end.
    ///
    /// # Errors
    /// As [`wait`](Self::wait). That the time is over is no error: the second value tells.
    pub fn wait_timeout<'a, T: ?Sized>(
        &self,
        guard: MutexGuard<'a, T>,
        timeout: Duration,
    ) -> Result<(MutexGuard<'a, T>, WaitTimeoutResult), WaitError> {
        self.wait_until(guard, Hub::get().deadline(timeout))
    }

    /// As [`wait_while`](Self::wait_while), for a limited time in all.
    ///
    /// # Errors
    /// As [`wait_timeout`](Self::wait_timeout).
    pub fn wait_timeout_while<'a, T: ?Sized>(
        &self,
        guard: MutexGuard<'a, T>,
        timeout: Duration,
        condition: impl FnMut(&mut T) -> bool,
    ) -> Result<(MutexGuard<'a, T>, WaitTimeoutResult), WaitError> {
        self.wait_while_until(guard, Hub::get().deadline(timeout), condition)
    }

    /// Wakes the one who has waited longest (`notify`). Never parks; the caller need not hold the lock.
    #[doc(alias = "notify")]
    pub fn notify_one(&self) {
        let next = self.waiters.borrow_mut().pop();
        if let Some(waiter) = next {
            Hub::get().unpark(&waiter);
        }
    }

    /// Wakes all who wait; they get the lock in the order in which they came. Never parks.
    pub fn notify_all(&self) {
        if self.waiters.borrow().len() > 0 {
            Waiters::wake_all(&self.waiters, Hub::get());
        }
    }

    fn wait_until<'a, T: ?Sized>(
        &self,
        guard: MutexGuard<'a, T>,
        deadline: Option<Moment>,
    ) -> Result<(MutexGuard<'a, T>, WaitTimeoutResult), WaitError> {
        // Nobody else runs between the two, so no notification is missed.
        let mutex = MutexGuard::unlock(guard);
        let pass_on = || self.notify_one();
        match Waiting::turn(&self.waiters, WaitsFor::Condvar, deadline, pass_on, || mutex.lock()) {
            Ok(guard) => Ok((guard, WaitTimeoutResult(false))),
            // not the lock's: that is waited for without end
            Err(WaitError::TimedOut) => Ok((mutex.lock()?, WaitTimeoutResult(true))),
            Err(error) => Err(error),
        }
    }

    fn wait_while_until<'a, T: ?Sized>(
        &self,
        mut guard: MutexGuard<'a, T>,
        deadline: Option<Moment>,
        mut condition: impl FnMut(&mut T) -> bool,
    ) -> Result<(MutexGuard<'a, T>, WaitTimeoutResult), WaitError> {
        let mut result = WaitTimeoutResult(false);
        while condition(&mut guard) {
            if result.timed_out() {
                return Ok((guard, result));
            }
            (guard, result) = self.wait_until(guard, deadline)?;
        }
        Ok((guard, WaitTimeoutResult(false)))
    }
}

impl Default for Condvar {
    fn default() -> Condvar {
        Condvar::new()
    }
}

impl fmt::Debug for Condvar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Condvar").field("waiting", &self.waiters.borrow().len()).finish()
    }
}

/// Whether a wait for a limited time ended because the time was over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WaitTimeoutResult(bool);

impl WaitTimeoutResult {
    /// Whether the time was over before a notification came, or before the condition did not hold any more.
    pub fn timed_out(&self) -> bool {
        self.0
    }
}
