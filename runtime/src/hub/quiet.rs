//! Waiting until nothing is left to run.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use super::Hub;
use super::clock::Moment;
use crate::error::WaitError;
use crate::greenlet::{Core, WaitsFor, Wake};

/// Those who wait until nobody else can go on.
#[derive(Default)]
pub(super) struct Quiet {
    waiting: RefCell<Vec<Rc<Core>>>,
    /// How many of them have a deadline. Their timers keep nobody else going.
    timers: Cell<usize>,
}

impl Hub {
    /// Parks until no greenlet is ready, no timer is pending, and nobody outside can make one ready.
    ///
    /// # Errors
    /// `TimedOut`, and those of [`park`](Self::park).
    pub(crate) fn wait_for_quiet(&self, deadline: Option<Moment>) -> Result<(), WaitError> {
        let core = self.current()?;
        let waiting = || self.quiet.waiting.borrow().iter().any(|other| Rc::ptr_eq(other, &core));
        self.quiet.waiting.borrow_mut().push(core.clone());
        let timers = usize::from(deadline.is_some());
        self.quiet.timers.set(self.quiet.timers.get() + timers);
        let _leave = Leave { quiet: &self.quiet, core: &core, timers };
        loop {
            let wake = self.park(WaitsFor::Quiet, deadline)?;
            if !waiting() {
                return Ok(());
            }
            if wake == Wake::Deadline {
                return Err(WaitError::TimedOut);
            }
        }
    }

    /// Nobody is ready, and nobody ever will be by a timer or from outside. (That nobody is ready is the caller's to
    /// know.)
    pub(super) fn nothing_is_left(&self) -> bool {
        self.timers.borrow().len() <= self.quiet.timers.get() && self.nobody_can_wake()
    }

    /// Makes those ready who have waited for this; false if nobody has.
    pub(super) fn tell_quiet(&self) -> bool {
        let waiting = self.quiet.waiting.take();
        waiting.iter().for_each(|core| self.unpark(core));
        !waiting.is_empty()
    }
}

struct Leave<'a> {
    quiet: &'a Quiet,
    core: &'a Rc<Core>,
    timers: usize,
}

impl Drop for Leave<'_> {
    fn drop(&mut self) {
        self.quiet.timers.set(self.quiet.timers.get() - self.timers);
        self.quiet.waiting.borrow_mut().retain(|core| !Rc::ptr_eq(core, self.core));
    }
}
