//! A counter of permits.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::time::Duration;

use super::waiters::{Waiters, Waiting};
use crate::error::WaitError;
use crate::greenlet::{WaitsFor, Wake};
use crate::hub::{Hub, Moment};

/// A number of permits, given out first come, first served (`gevent.lock.Semaphore`).
///
/// A permit that is given back goes straight to the one who has waited longest; nobody who comes later can take
/// it. If that one is killed before it can run, the permit goes on to the next.
pub struct Semaphore {
    free: Cell<usize>,
    waiters: RefCell<Waiters>,
}

impl Semaphore {
    /// A semaphore with this many permits.
    pub const fn new(permits: usize) -> Semaphore {
        Semaphore { free: Cell::new(permits), waiters: RefCell::new(Waiters::new()) }
    }

    /// How many permits are to be had at once.
    pub fn available(&self) -> usize {
        self.free.get()
    }

    /// Takes a permit, waiting for one if need be. Parks the caller.
    ///
    /// # Errors
    /// `Unwinding`, `LoopExit` and `NoHub` as told at [`WaitError`].
    pub fn acquire(&self) -> Result<Permit<'_>, WaitError> {
        self.take(WaitsFor::Semaphore, None)?;
        Ok(Permit(self))
    }

    /// As [`acquire`](Self::acquire), for a limited time.
    ///
    /// # Errors
    /// `TimedOut`, and those of [`acquire`](Self::acquire).
    pub fn acquire_timeout(&self, timeout: Duration) -> Result<Permit<'_>, WaitError> {
        self.take(WaitsFor::Semaphore, Hub::get().deadline(timeout))?;
        Ok(Permit(self))
    }

    /// Takes a permit if there is one at once and nobody waits. Never parks.
    pub fn try_acquire(&self) -> Option<Permit<'_>> {
        self.try_take().then(|| Permit(self))
    }

    pub(crate) fn try_take(&self) -> bool {
        // A permit is free only when nobody waits: `give` hands over.
        let free = self.free.get();
        self.free.set(free.saturating_sub(1));
        free > 0
    }

    /// Takes a permit without a guard; [`give`](Self::give) gives it back.
    pub(crate) fn take(&self, why: WaitsFor, deadline: Option<Moment>) -> Result<(), WaitError> {
        if self.try_take() {
            return Ok(());
        }
        let hub = Hub::get();
        let turn =
            Turn { semaphore: self, waiting: Waiting::enter(&self.waiters, hub)?, taken: Cell::new(false) };
        while !turn.waiting.was_called() {
            if hub.park(why, deadline)? == Wake::Deadline && !turn.waiting.was_called() {
                return Err(WaitError::TimedOut);
            }
        }
        turn.taken.set(true);
        Ok(())
    }

    /// Gives a permit to the longest waiting, or back.
    pub(crate) fn give(&self) {
        let next = self.waiters.borrow_mut().pop();
        match next {
            Some(waiter) => Hub::get().unpark(&waiter),
            None => self.free.set(self.free.get() + 1),
        }
    }
}

impl fmt::Debug for Semaphore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Semaphore")
            .field("available", &self.free.get())
            .field("waiting", &self.waiters.borrow().len())
            .finish()
    }
}

/// A wait for a permit. If it ends by unwinding after the permit was handed over, the permit goes on.
struct Turn<'a> {
    semaphore: &'a Semaphore,
    waiting: Waiting<'a>,
    taken: Cell<bool>,
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        if self.waiting.was_called() && !self.taken.get() {
            self.semaphore.give();
        }
    }
}

/// A permit of a [`Semaphore`]; dropping it gives it back.
#[must_use = "a permit that is not held is given back at once"]
pub struct Permit<'a>(&'a Semaphore);

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        self.0.give();
    }
}

impl fmt::Debug for Permit<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Permit")
    }
}
