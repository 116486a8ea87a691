//! Handles to greenlets.

use std::cell::Ref;
use std::fmt;
use std::ops::Deref;
use std::panic::Location;
use std::rc::Rc;
use std::time::Duration;

use super::core::{Core, End, State, WaitsFor};
use super::job::{Outcome, Yields};
use crate::error::{JoinError, WaitError};
use crate::hub::{Hub, Moment};
use crate::sync::Waiting;

/// A handle to a greenlet that returns a `T` (`gevent.Greenlet`).
///
/// Dropping it leaves the greenlet running. It dereferences to [`GreenletRef`], which has what does not depend on
/// `T`: name, id, [`kill`](GreenletRef::kill), [`is_dead`](GreenletRef::is_dead).
pub struct Greenlet<T> {
    reference: GreenletRef,
    job: Rc<dyn Yields<T>>,
}

impl<T> Greenlet<T> {
    pub(super) fn new(core: Rc<Core>, job: Rc<dyn Yields<T>>) -> Greenlet<T> {
        Greenlet { reference: GreenletRef(core), job }
    }

    /// Waits until the greenlet has ended and takes its value (`Greenlet.get`). Parks the caller.
    ///
    /// # Errors
    /// Its panic, its kill, why it could not start; `Taken` when an earlier join has the value; and why the wait
    /// itself failed.
    ///
    /// ```
    /// let failed = greenlet::spawn(|| -> u32 { panic!("bad luck") });
    /// assert!(failed.join().unwrap_err().to_string().ends_with("bad luck"));
    /// ```
    pub fn join(&self) -> Result<T, JoinError> {
        self.join_until(None)
    }

    /// As [`join`](Self::join), but gives up after a while with `JoinError::Wait(WaitError::TimedOut)`. The
    /// greenlet is not touched.
    ///
    /// # Errors
    /// As [`join`](Self::join).
    pub fn join_timeout(&self, timeout: Duration) -> Result<T, JoinError> {
        self.join_until(Hub::get().deadline(timeout))
    }

    fn join_until(&self, deadline: Option<Moment>) -> Result<T, JoinError> {
        self.wait_until(deadline)?;
        match self.job.take() {
            Outcome::Value(value) => Ok(value),
            Outcome::Panicked(panic) => Err(JoinError::Panicked(*panic)),
            Outcome::Taken => Err(JoinError::Taken),
            Outcome::Nothing => Err(match self.0.take_end() {
                Some(End::NoStack(error)) => JoinError::NoStack(error),
                _ => JoinError::Killed,
            }),
        }
    }

    /// The value, if the greenlet has returned one and no join has taken it (`Greenlet.value`). Never waits.
    pub fn value(&self) -> Option<Ref<'_, T>> {
        self.job.value()
    }
}

impl<T> Deref for Greenlet<T> {
    type Target = GreenletRef;

    fn deref(&self) -> &GreenletRef {
        &self.reference
    }
}

impl<T> fmt::Debug for Greenlet<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.reference.fmt(f)
    }
}

/// A reference to a greenlet, whatever it returns. Cheap to clone; stays on its thread.
#[derive(Clone)]
pub struct GreenletRef(pub(crate) Rc<Core>);

/// The greenlet that runs (`gevent.getcurrent`): on a thread's own stack the one that stands for the thread's
/// program, named after the thread, with id 0.
pub fn current() -> GreenletRef {
    GreenletRef(Hub::get().current_or_main())
}

impl GreenletRef {
    /// A number that no other greenlet of this thread has or had. Main is 0.
    pub fn id(&self) -> u64 {
        self.0.id
    }

    /// The name given by [`Builder::name`](crate::Builder::name), else `greenlet-` and the id.
    pub fn name(&self) -> &str {
        self.0.name()
    }

    /// Where it was spawned; `None` for main.
    pub fn spawned_at(&self) -> Option<&'static Location<'static>> {
        self.0.spawned()
    }

    /// Whether it has ended, in whatever way (`Greenlet.dead`). Never waits.
    pub fn is_dead(&self) -> bool {
        self.0.is_dead()
    }

    /// How deep its stack has been used, in bytes of whole pages, since the hub last gave back what lay idle: to
    /// choose a [stack size](crate::Builder::stack_size) by. One system call. `None` before it has started, once it
    /// has ended, and for main.
    pub fn stack_used(&self) -> Option<usize> {
        self.0.fiber.get().filter(|_| !self.is_dead())?.bounds().high_water().ok()
    }

    /// Waits until the greenlet has ended, or `timeout` is over, and leaves its value alone (gevent's `join`).
    /// Parks the caller.
    ///
    /// # Errors
    /// `TimedOut`, and why the wait itself failed.
    pub fn wait(&self, timeout: impl Into<Option<Duration>>) -> Result<(), WaitError> {
        self.wait_until(timeout.into().and_then(|timeout| Hub::get().deadline(timeout)))
    }

    pub(crate) fn wait_until(&self, deadline: Option<Moment>) -> Result<(), WaitError> {
        let core = &self.0;
        let waiting = || WaitsFor::Greenlet(core.id);
        Waiting::until(&core.joiners, waiting(), deadline, || core.is_dead())
    }

    /// Kills the greenlet and waits until it has ended (`Greenlet.kill`).
    ///
    /// Where it is suspended, the call it made unwinds: destructors run, and calls in them that would have to
    /// wait fail. One that has not started never starts. One that is dead stays as it is. Killing oneself unwinds
    /// from here. The thread's main greenlet cannot be killed: asking for it is logged and has no effect.
    ///
    /// The unwinding can be caught by [`catch_unwind`](std::panic::catch_unwind), which then has swallowed the
    /// kill; [`catch_panic`](crate::catch_panic) lets it pass.
    ///
    /// # Errors
    /// Why the wait failed. The kill itself takes place all the same.
    pub fn kill(&self) -> Result<(), WaitError> {
        self.kill_soon();
        if self.0.is_main() { Ok(()) } else { self.wait_until(None) }
    }

    /// Asks for the greenlet's death and returns at once (`kill(block=False)`). It unwinds when it next runs, or,
    /// if it is the caller, here.
    pub fn kill_soon(&self) {
        let core = &self.0;
        let hub = Hub::get();
        match core.state.get() {
            State::Dead | State::Cancelled => {}
            State::New => {
                let job = hub.cancel_start(core);
                // Dead only once the closure is dropped, for a scope may wait for just that. Its destructors may
                // do anything, even park or panic.
                let _end = FinishOnDrop(hub, core);
                job.iter().for_each(|job| job.cancel());
            }
            _ if core.is_main() => {
                log::warn!("the main greenlet '{}' cannot be killed", core.name());
            }
            State::Running if !std::thread::panicking() => {
                core.ask_kill();
                core.raise_interrupts();
            }
            State::Running | State::Ready => core.ask_kill(),
            State::Parked => {
                core.ask_kill();
                hub.unpark(core);
            }
        }
    }
}

struct FinishOnDrop<'a>(&'a Hub, &'a Core);

impl Drop for FinishOnDrop<'_> {
    fn drop(&mut self) {
        self.1.finish(self.0, End::Killed);
    }
}

impl PartialEq for GreenletRef {
    fn eq(&self, other: &GreenletRef) -> bool {
        Rc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for GreenletRef {}

impl fmt::Debug for GreenletRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Greenlet")
            .field("name", &self.name())
            .field("id", &self.id())
            .field("state", &self.0.state.get())
            .finish()
    }
}
