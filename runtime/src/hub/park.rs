//! Waiting: how a greenlet leaves the hub's hands, and how it comes back to the ready queue.
//!
//! What lies between a public blocking call and the switch is marked `#[inline]`, here and in its callers: after a
//! switch the processor's return predictor holds another stack's frames, so each `ret` on the way back costs a
//! misprediction, some 5 ns. (A `yield_now` took 30 ns behind two calls, 19 ns without.)

use std::mem;
use std::rc::Rc;
use std::time::{Duration, Instant};

use super::clock::Moment;
use super::timers::TimerKey;
use super::{Action, Hub};
use crate::error::WaitError;
use crate::greenlet::{Core, State, WaitsFor, Wake};

/// A greenlet whose descriptors are always ready gives way after this many calls in a row.
const CALLS_PER_TURN: u32 = 128;
impl Hub {
    /// Parks the greenlet that runs until somebody unparks it or `deadline` has come. May return early: callers
    /// loop until what they wait for is there.
    ///
    /// Unwinds with a private payload when the greenlet is killed or a timeout scope around it ends.
    ///
    /// # Errors
    /// `Unwinding` when the thread is panicking (a switch would show the panic to other greenlets), `NoHub` on
    /// the hub's own stack, `LoopExit` for main when nobody can ever wake it.
    #[inline(always)]
    pub(crate) fn park(&self, why: WaitsFor, deadline: Option<Moment>) -> Result<Wake, WaitError> {
        if std::thread::panicking() {
            return Err(WaitError::Unwinding);
        }
        let core = self.current()?;
        core.raise_interrupts();
        let timer = deadline.map(|at| self.timers.borrow_mut().insert(at, Action::Wake(core.clone())));
        core.waits_for.set(why);
        core.parked_at.set(self.tick.get());
        core.state.set(State::Parked);
        let wait = Wait { hub: self, core: &core, timer };
        let result = self.switch_out(&core);
        mem::forget(wait);
        core.waits_for.set(WaitsFor::Nothing);
        let in_time = match timer {
            Some(key) => self.timers.borrow_mut().remove(key).is_some(),
            None => true,
        };
        result?;
        core.raise_interrupts();
        Ok(if in_time { Wake::Event } else { Wake::Deadline })
    }

    /// Goes to the back of the ready queue.
    #[inline(always)]
    pub(crate) fn yield_now(&self) {
        if std::thread::panicking() {
            return;
        }
        let Ok(core) = self.current() else { return };
        core.raise_interrupts();
        core.state.set(State::Ready);
        self.ready.borrow_mut().push(core.clone());
        // Main is in the queue, so it cannot be told that nobody wakes it.
        let _ = self.switch_out(&core);
        core.raise_interrupts();
    }

    /// Counts a call on a descriptor, and gives way before it if there were many in a row without a wait.
    #[inline]
    pub(crate) fn count_call(&self) {
        if self.calls_are_many() {
            self.yield_now();
        }
    }

    /// Counts a call on a descriptor; whether there were many in a row without a wait, after which they are counted anew.
    #[inline]
    pub(super) fn calls_are_many(&self) -> bool {
        let calls = self.calls.get() + 1;
        let many = calls >= CALLS_PER_TURN;
        self.calls.set(if many { 0 } else { calls });
        many
    }

    /// Makes a parked greenlet ready. One that is not parked is left alone.
    #[inline]
    pub(crate) fn unpark(&self, core: &Rc<Core>) {
        if core.state.get() == State::Parked {
            core.state.set(State::Ready);
            self.ready.borrow_mut().push(core.clone());
        }
    }

    /// The moment `after` from now; `None` means never.
    pub(crate) fn deadline(&self, after: Duration) -> Option<Moment> {
        self.clock.deadline(after)
    }

    /// Now, for users.
    pub(crate) fn instant(&self) -> Instant {
        self.clock.instant()
    }

    pub(crate) fn now(&self) -> Moment {
        self.clock.now()
    }

    /// Names a block that may have to be left early.
    pub(crate) fn new_token(&self) -> u64 {
        let token = self.next_token.get();
        self.next_token.set(token + 1);
        token
    }

    /// Adds the timer that ends a timeout; returns the timeout's token with it.
    pub(crate) fn expire_at(&self, core: &Rc<Core>, at: Option<Moment>) -> (u64, Option<TimerKey>) {
        let token = self.new_token();
        let insert = |at| self.timers.borrow_mut().insert(at, Action::Expire(core.clone(), token));
        (token, at.map(insert))
    }

    /// Takes a timer out; false if it has fired.
    pub(crate) fn remove_timer(&self, key: TimerKey) -> bool {
        let action = self.timers.borrow_mut().remove(key);
        action.is_some()
    }
}

/// A wait that has begun. Dropped only when the switch panics, as it does on a stack that is not the greenlet's own: then
/// there was no wait.
struct Wait<'a> {
    hub: &'a Hub,
    core: &'a Rc<Core>,
    timer: Option<TimerKey>,
}

impl Drop for Wait<'_> {
    #[cold]
    fn drop(&mut self) {
        self.core.state.set(State::Running);
        self.core.waits_for.set(WaitsFor::Nothing);
        if let Some(key) = self.timer {
            self.hub.remove_timer(key);
        }
    }
}
