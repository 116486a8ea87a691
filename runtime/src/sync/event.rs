//! A flag to wait for.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::time::Duration;

use super::waiters::{Waiters, Waiting};
use crate::error::WaitError;
use crate::greenlet::WaitsFor;
use crate::hub::{Hub, Moment};

/// A flag that greenlets of one thread can wait for (`gevent.event.Event`).
///
/// ```
/// use std::rc::Rc;
/// use greenlet::sync::Event;
///
/// let ready = Rc::new(Event::new());
/// let waiter = greenlet::spawn({ let ready = ready.clone(); move || ready.wait() });
/// ready.set();
/// assert!(waiter.join().unwrap().is_ok());
/// ```
pub struct Event {
    set: Cell<bool>,
    waiters: RefCell<Waiters>,
}

impl Event {
    /// An event that is not set.
    pub const fn new() -> Event {
        Event { set: Cell::new(false), waiters: RefCell::new(Waiters::new()) }
    }

    /// Sets the flag and wakes all who wait, in the order in which they came.
    pub fn set(&self) {
        self.set.set(true);
        if self.waiters.borrow().len() > 0 {
            Waiters::wake_all(&self.waiters, Hub::get());
        }
    }

    /// Takes the flag down.
    pub fn clear(&self) {
        self.set.set(false);
    }

    /// Whether the flag is up (`isSet`, `ready`).
    #[doc(alias = "ready")]
    #[doc(alias = "isSet")]
    pub fn is_set(&self) -> bool {
        self.set.get()
    }

    /// Waits until the event has been set; returns at once if it is. Who waits when it is set is woken even if it
    /// is cleared right after. Parks the caller.
    ///
    /// # Errors
    /// `Unwinding`, `LoopExit` and `NoHub` as told at [`WaitError`].
    pub fn wait(&self) -> Result<(), WaitError> {
        self.wait_for(WaitsFor::Event, None)
    }

    /// As [`wait`](Self::wait), for a limited time.
    ///
    /// # Errors
    /// `TimedOut`, and those of [`wait`](Self::wait).
    pub fn wait_timeout(&self, timeout: Duration) -> Result<(), WaitError> {
        self.wait_for(WaitsFor::Event, Hub::get().deadline(timeout))
    }

    /// As [`wait`](Self::wait), reported as a wait for something else that is made of an event.
    pub(super) fn wait_for(&self, why: WaitsFor, deadline: Option<Moment>) -> Result<(), WaitError> {
        if self.is_set() {
            return Ok(());
        }
        // It stands for all: one that is killed has nothing to pass on.
        Waiting::turn(&self.waiters, why, deadline, || (), || Ok(()))
    }
}

impl Default for Event {
    fn default() -> Event {
        Event::new()
    }
}

impl fmt::Debug for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Event")
            .field("set", &self.is_set())
            .field("waiting", &self.waiters.borrow().len())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use super::*;
    use crate::{spawn, yield_now};

    #[test]
    fn who_waits_when_it_is_set_wakes_even_if_it_is_cleared_right_after() {
        let event = Rc::new(Event::new());
        let waiter = spawn({
            let event = event.clone();
            move || event.wait()
        });
        yield_now();
        event.set();
        event.clear();
        assert_eq!(waiter.join_timeout(Duration::from_secs(60)).unwrap(), Ok(()));
        assert!(!event.is_set());
    }

    #[test]
    fn a_wait_that_timed_out_or_was_killed_leaves_no_waiter() {
        let event = Rc::new(Event::new());
        assert_eq!(event.wait_timeout(Duration::from_millis(1)), Err(WaitError::TimedOut));
        let waiter = spawn({
            let event = event.clone();
            move || event.wait()
        });
        yield_now();
        assert_eq!(event.waiters.borrow().len(), 1);
        waiter.kill().unwrap();
        assert_eq!(event.waiters.borrow().len(), 0);
    }
}
