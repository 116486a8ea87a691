//! A counter of permits that notices when more come back than were taken.

use std::cell::Cell;
use std::fmt;
use std::time::Duration;

use super::semaphore::{Permit, Semaphore};
use crate::error::WaitError;

/// A [`Semaphore`] that never holds more permits than at first (`gevent.lock.BoundedSemaphore`).
///
/// A permit that is dropped is given back once, so only [`release`](Self::release) could give too many: it fails
/// where no permit has been [forgotten](BoundedPermit::forget).
///
/// ```
/// use greenlet::sync::{BoundedSemaphore, OverRelease};
///
/// let semaphore = BoundedSemaphore::new(1);
/// semaphore.acquire().unwrap().forget();
/// assert_eq!(semaphore.release(), Ok(()));
/// assert_eq!(semaphore.release(), Err(OverRelease));
/// ```
pub struct BoundedSemaphore {
    semaphore: Semaphore,
    /// How many permits are taken with nobody to give them back but `release`.
    forgotten: Cell<usize>,
}

impl BoundedSemaphore {
    /// A semaphore with this many permits.
    pub const fn new(permits: usize) -> BoundedSemaphore {
        BoundedSemaphore { semaphore: Semaphore::new(permits), forgotten: Cell::new(0) }
    }

    /// How many permits are to be had at once (`counter`).
    #[doc(alias = "counter")]
    #[doc(alias = "locked")]
    pub fn available(&self) -> usize {
        self.semaphore.available()
    }

    /// Takes a permit, waiting for one if need be. Parks the caller.
    ///
    /// # Errors
    /// `Unwinding`, `LoopExit` and `NoHub` as told at [`WaitError`].
    pub fn acquire(&self) -> Result<BoundedPermit<'_>, WaitError> {
        Ok(self.guard(self.semaphore.acquire()?))
    }

    /// As [`acquire`](Self::acquire), for a limited time.
    ///
    /// # Errors
    /// `TimedOut`, and those of [`acquire`](Self::acquire).
    pub fn acquire_timeout(&self, timeout: Duration) -> Result<BoundedPermit<'_>, WaitError> {
        Ok(self.guard(self.semaphore.acquire_timeout(timeout)?))
    }

    /// Takes a permit if there is one at once and nobody waits. Never parks.
    pub fn try_acquire(&self) -> Option<BoundedPermit<'_>> {
        Some(self.guard(self.semaphore.try_acquire()?))
    }

    /// Gives back a permit that was [forgotten](BoundedPermit::forget). Never parks.
    ///
    /// # Errors
    /// When none was: there would be more permits than at first. Nothing changes then.
    pub fn release(&self) -> Result<(), OverRelease> {
        let forgotten = self.forgotten.get().checked_sub(1).ok_or(OverRelease)?;
        self.forgotten.set(forgotten);
        self.semaphore.release();
        Ok(())
    }

    pub(crate) fn semaphore(&self) -> &Semaphore {
        &self.semaphore
    }

    pub(crate) fn guard<'a>(&'a self, permit: Permit<'a>) -> BoundedPermit<'a> {
        BoundedPermit { permit, forgotten: &self.forgotten }
    }
}

impl fmt::Debug for BoundedSemaphore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BoundedSemaphore").field("available", &self.available()).finish_non_exhaustive()
    }
}

/// A permit of a [`BoundedSemaphore`]; dropping it gives it back.
#[must_use = "a permit that is not held is given back at once"]
pub struct BoundedPermit<'a> {
    permit: Permit<'a>,
    forgotten: &'a Cell<usize>,
}

impl BoundedPermit<'_> {
    /// Keeps the permit taken until somebody calls [`BoundedSemaphore::release`].
    pub fn forget(self) {
        self.forgotten.set(self.forgotten.get() + 1);
        self.permit.forget();
    }
}

impl fmt::Debug for BoundedPermit<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BoundedPermit")
    }
}

/// A [`BoundedSemaphore`] was to be given more permits than were taken: `release` was called once too often.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OverRelease;

impl fmt::Display for OverRelease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a BoundedSemaphore was released more often than permits of it were forgotten")
    }
}

impl std::error::Error for OverRelease {}
