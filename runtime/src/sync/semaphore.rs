//! A counter of permits.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::time::Duration;

use super::waiters::{Waiters, Waiting};
use crate::error::WaitError;
use crate::greenlet::WaitsFor;
use crate::hub::{Hub, Moment};

/// A number of permits, given out first come, first served (`gevent.lock.Semaphore`).
///
/// A permit that is given back goes straight to the one who has waited longest; nobody who comes later can take
/// it. If that one is killed before it can run, the permit goes on to the next.
///
/// A [`Permit`] gives itself back when it is dropped. Where one greenlet takes permits and another gives them back,
/// [forget](Permit::forget) the one and [`release`](Self::release) the other.
///
/// ```
/// let semaphore = greenlet::sync::Semaphore::new(2);
/// let first = semaphore.acquire().unwrap(); // parks while there is none
/// let second = semaphore.try_acquire().unwrap();
/// assert!(semaphore.try_acquire().is_none());
/// drop(first);
/// assert_eq!(semaphore.available(), 1);
/// # drop(second);
/// ```
pub struct Semaphore {
    free: Cell<usize>,
    waiters: RefCell<Waiters>,
}

impl Semaphore {
    /// A semaphore with this many permits.
    pub const fn new(permits: usize) -> Semaphore {
        Semaphore { free: Cell::new(permits), waiters: RefCell::new(Waiters::new()) }
    }

    /// How many permits are to be had at once (`counter`; gevent's `locked()` is that there are none).
    #[doc(alias = "counter")]
    #[doc(alias = "locked")]
    pub fn available(&self) -> usize {
        self.free.get()
    }

    /// Takes a permit, waiting for one if need be. Parks the caller.
    ///
    /// # Errors
    /// `Unwinding`, `LoopExit` and `NoHub` as told at [`WaitError`].
    pub fn acquire(&self) -> Result<Permit<'_>, WaitError> {
        self.take(WaitsFor::Semaphore, None)?;
        Ok(self.permit())
    }

    /// As [`acquire`](Self::acquire), for a limited time.
    ///
    /// # Errors
    /// `TimedOut`, and those of [`acquire`](Self::acquire).
    pub fn acquire_timeout(&self, timeout: Duration) -> Result<Permit<'_>, WaitError> {
        self.take(WaitsFor::Semaphore, Hub::get().deadline(timeout))?;
        Ok(self.permit())
    }

    /// Takes a permit if there is one at once and nobody waits. Never parks.
    pub fn try_acquire(&self) -> Option<Permit<'_>> {
        self.try_take().then(|| self.permit())
    }

    /// Gives one permit more, to the longest waiting if somebody waits. Gives back one that was
    /// [forgotten](Permit::forget), or adds to those there were at first: a [`BoundedSemaphore`](super::BoundedSemaphore)
    /// refuses that. Never parks.
    pub fn release(&self) {
        self.give();
    }

    pub(crate) fn try_take(&self) -> bool {
        // A permit is free only when nobody waits: `give` hands over.
        let free = self.free.get();
        self.free.set(free.saturating_sub(1));
        free > 0
    }

    /// Takes a permit without a guard; [`give`](Self::give) gives it back.
    #[inline]
    pub(crate) fn take(&self, why: WaitsFor, deadline: Option<Moment>) -> Result<(), WaitError> {
        if self.try_take() { Ok(()) } else { self.wait(why, deadline) }
    }

    /// The guard of a permit that has been taken.
    #[inline]
    pub(super) fn permit(&self) -> Permit<'_> {
        Permit(self)
    }

    /// Waits for a permit that [`try_take`](Self::try_take) did not get.
    #[inline]
    pub(super) fn wait(&self, why: WaitsFor, deadline: Option<Moment>) -> Result<(), WaitError> {
        Waiting::turn(&self.waiters, why, deadline, || self.give(), || Ok(()))
    }

    /// Gives a permit to the longest waiting, or back.
    #[inline]
    pub(crate) fn give(&self) {
        let next = self.waiters.borrow_mut().pop();
        match next {
            Some(waiter) => Hub::get().unpark(&waiter),
            None => self.free.set(self.free.get() + 1),
        }
    }

    /// Gives each one who waits a permit, and keeps none.
    pub(super) fn give_to_all(&self) {
        while self.waiting() > 0 {
            self.give();
        }
    }

    pub(super) fn waiting(&self) -> usize {
        self.waiters.borrow().len()
    }
}

impl fmt::Debug for Semaphore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Semaphore")
            .field("available", &self.free.get())
            .field("waiting", &self.waiting())
            .finish()
    }
}

/// A permit of a [`Semaphore`]; dropping it gives it back.
#[must_use = "a permit that is not held is given back at once"]
pub struct Permit<'a>(&'a Semaphore);

impl Permit<'_> {
    /// Keeps the permit taken until somebody calls [`Semaphore::release`].
    pub fn forget(self) {
        std::mem::forget(self);
    }
}

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

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use super::*;
    use crate::{Greenlet, JoinError, spawn, yield_now};

    const LONG: Duration = Duration::from_secs(60);

    /// So many greenlets that wait for a permit, and the order in which they got theirs.
    fn queue(semaphore: &Rc<Semaphore>, count: usize) -> (Vec<Greenlet<()>>, Rc<RefCell<Vec<usize>>>) {
        let order = Rc::new(RefCell::new(Vec::new()));
        let waiters = (0..count)
            .map(|n| {
                let (semaphore, order) = (semaphore.clone(), order.clone());
                spawn(move || {
                    semaphore.take(WaitsFor::Semaphore, None).unwrap();
                    order.borrow_mut().push(n);
                })
            })
            .collect();
        yield_now();
        (waiters, order)
    }

    #[test]
    fn permits_go_to_waiters_in_the_order_in_which_they_came() {
        let semaphore = Rc::new(Semaphore::new(0));
        let (waiters, order) = queue(&semaphore, 5);
        assert_eq!(semaphore.waiting(), 5);
        (0..5).for_each(|_| semaphore.give());
        crate::join_all(&waiters, LONG).unwrap();
        assert_eq!(*order.borrow(), [0, 1, 2, 3, 4]);
    }

    #[test]
    fn who_comes_later_cannot_take_a_permit_that_was_handed_over() {
        let semaphore = Rc::new(Semaphore::new(0));
        let waiter = {
            let semaphore = semaphore.clone();
            spawn(move || semaphore.acquire().map(drop))
        };
        yield_now();
        semaphore.give();
        assert!(semaphore.try_acquire().is_none(), "the waiter has it, though it has not run yet");
        waiter.join_timeout(LONG).unwrap().unwrap();
        assert!(semaphore.try_acquire().is_some());
    }

    #[test]
    fn a_wait_that_timed_out_leaves_no_waiter_and_takes_no_permit() {
        let semaphore = Semaphore::new(0);
        let result = semaphore.acquire_timeout(Duration::from_millis(1));
        assert_eq!(result.err(), Some(WaitError::TimedOut));
        assert_eq!(semaphore.waiting(), 0);
        semaphore.give();
        assert_eq!(semaphore.available(), 1);
    }

    #[test]
    fn a_permit_given_to_a_waiter_that_is_killed_goes_on_to_the_next() {
        let semaphore = Rc::new(Semaphore::new(0));
        let waiters = [(); 2].map(|()| {
            let semaphore = semaphore.clone();
            spawn(move || semaphore.take(WaitsFor::Semaphore, None).is_ok())
        });
        yield_now();
        semaphore.give();
        // The first has the permit now, and dies before it can run.
        waiters[0].kill_soon();
        assert!(waiters[1].join_timeout(LONG).unwrap());
        assert!(matches!(waiters[0].join(), Err(JoinError::Killed)));
        assert_eq!((semaphore.available(), semaphore.waiting()), (0, 0));
    }

    #[test]
    fn a_waiter_killed_in_the_middle_leaves_the_order_of_the_others() {
        let semaphore = Rc::new(Semaphore::new(0));
        let (waiters, order) = queue(&semaphore, 3);
        waiters[1].kill().unwrap();
        assert_eq!(semaphore.waiting(), 2);
        semaphore.give();
        semaphore.give();
        crate::join_all(&waiters, LONG).unwrap();
        assert_eq!(*order.borrow(), [0, 2]);
    }
}
