//! Time for greenlets: timeouts, sleeping, giving way.

use std::cell::{Cell, OnceCell};
use std::fmt;
use std::rc::Rc;
use std::time::{Duration, Instant};

use crate::error::WaitError;
use crate::greenlet::Core;
use crate::hub::{Hub, Moment, TimerKey};
use crate::unwind::{self, Caught, Interrupt};

/// The time of a [`timeout`] or [`Timeout`] was over before the work was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Elapsed(());

impl fmt::Display for Elapsed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the time given was over before the work was done")
    }
}

impl std::error::Error for Elapsed {}

impl From<Elapsed> for std::io::Error {
    fn from(elapsed: Elapsed) -> std::io::Error {
        std::io::Error::new(std::io::ErrorKind::TimedOut, elapsed)
    }
}

/// Runs `f` for at most `after` (`gevent.Timeout`, `with_timeout`).
///
/// When the time is over, the blocking call in which `f` is suspended unwinds, destructors run, and this returns
/// [`Elapsed`]. Code that never blocks is not interrupted. Scopes nest, and each has its own identity: the end of
/// an outer one passes through an inner one. Works in any blocking call, in main as in any greenlet.
///
/// # Errors
/// [`Elapsed`] when the time was over first.
///
/// # Panics
/// With `f`'s own panic.
///
/// ```
/// use std::time::Duration;
/// use greenlet::{sleep, timeout};
///
/// assert!(timeout(Duration::from_millis(5), || sleep(Duration::from_secs(3600))).is_err());
/// assert_eq!(timeout(Duration::from_secs(3600), || 7), Ok(7));
/// ```
#[doc(alias = "with_timeout")]
pub fn timeout<T>(after: Duration, f: impl FnOnce() -> T) -> Result<T, Elapsed> {
    Timeout::after(after).catch(f)
}

/// A bound on the time of what the greenlet does from here on (`gevent.Timeout`): it runs from when it is made until it is
/// dropped.
///
/// When the time is over, the blocking call in which the greenlet is suspended, or the next that it makes, unwinds up to
/// the [`run`](Self::run) of this very timeout. If it is in none, the greenlet ends with
/// [`JoinError::Elapsed`](crate::JoinError::Elapsed); the main program, which has nobody to join it, panics without a
/// message.
///
/// It binds the greenlet that made it, and no other.
///
/// ```
/// use std::time::Duration;
/// use greenlet::{Timeout, sleep};
///
/// // one bound for several steps
/// let bound = Timeout::after(Duration::from_millis(20));
/// assert!(bound.run(|| 7).is_ok());
/// assert!(bound.run(|| sleep(Duration::from_secs(3600))).is_err());
/// assert!(bound.run(|| sleep(Duration::from_secs(3600))).is_err(), "it stays over");
/// ```
#[must_use = "a timeout is over as soon as it is dropped"]
pub struct Timeout {
    hub: &'static Hub,
    core: Rc<Core>,
    token: u64,
    /// `None`: never.
    at: Option<Moment>,
    timer: Cell<Option<TimerKey>>,
    /// Shared with those who may end it early, if anybody may.
    early: OnceCell<Rc<Cell<Early>>>,
}

/// What those know of a timeout who may end it early.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Early {
    NotYet,
    Ended,
    /// There is nothing to end any more.
    Dropped,
}

impl Timeout {
    /// It is over `after` from now.
    pub fn after(after: Duration) -> Timeout {
        let hub = Hub::get();
        Timeout::ending(hub, hub.deadline(after))
    }

    /// It is over at a point in time, by the hub's clock: see [`now`].
    pub fn at(deadline: Instant) -> Timeout {
        let hub = Hub::get();
        Timeout::ending(hub, hub.deadline(deadline.saturating_duration_since(hub.instant())))
    }

    /// It is never over (`Timeout(None)`).
    pub fn never() -> Timeout {
        Timeout::ending(Hub::get(), None)
    }

    fn ending(hub: &'static Hub, at: Option<Moment>) -> Timeout {
        let core = hub.current_or_main();
        let (token, timer) = hub.expire_at(&core, at);
        Timeout { hub, core, token, at, timer: Cell::new(timer), early: OnceCell::new() }
    }

    /// What ends it before its time, or at all if it is one that [never](Self::never) is over: for a greenlet that learns
    /// that the work of another is not wanted any more (gevent's `greenlet.throw(timeout)`).
    ///
    /// ```
    /// use greenlet::{Timeout, sleep, spawn};
    /// use std::time::Duration;
    ///
    /// let bound = Timeout::never();
    /// let ender = bound.ender();
    /// spawn(move || ender.end());
    /// assert!(bound.run(|| sleep(Duration::from_secs(3600))).is_err());
    /// ```
    pub fn ender(&self) -> TimeoutEnder {
        let early = Rc::clone(self.early.get_or_init(|| Rc::new(Cell::new(Early::NotYet))));
        TimeoutEnder { core: Rc::clone(&self.core), hub: self.hub, token: self.token, early }
    }

    /// Runs `f` until it returns or the time is over; does not even begin if it is over already. What gevent writes
    /// `Timeout(seconds, False)` is `.ok()` here, and `with_timeout(…, timeout_value=value)` is `.unwrap_or(value)`.
    ///
    /// # Errors
    /// [`Elapsed`] when the time was over first. The end of any other timeout passes through.
    ///
    /// # Panics
    /// With `f`'s own panic. In another greenlet than that which made this.
    pub fn run<T>(&self, f: impl FnOnce() -> T) -> Result<T, Elapsed> {
        assert!(
            Rc::ptr_eq(&self.core, &self.hub.current_or_main()),
            "a Timeout of greenlet '{}' was run in another greenlet",
            self.core.name()
        );
        if self.is_over() {
            self.cancel();
            return Err(Elapsed(()));
        }
        self.catch(f)
    }

    fn catch<T>(&self, f: impl FnOnce() -> T) -> Result<T, Elapsed> {
        match unwind::catch(f) {
            // A call was cut short for it that could not be unwound.
            Caught::Returned(_) if self.core.was_told_of(self.token) => {
                self.cancel();
                Err(Elapsed(()))
            }
            Caught::Returned(value) => Ok(value),
            Caught::Interrupted(Interrupt::Leave(ended)) if ended == self.token => {
                // One that was ended early may have its timer still.
                self.cancel();
                Err(Elapsed(()))
            }
            Caught::Interrupted(other) => unwind::raise(other),
            Caught::Panicked(panic) => panic.resume(),
        }
    }

    /// Whether the time is over (the contrary of gevent's `Timeout.pending`).
    pub fn is_over(&self) -> bool {
        self.remaining() == Some(Duration::ZERO)
    }

    /// How much time is left; `None` if it never ends.
    pub fn remaining(&self) -> Option<Duration> {
        if self.early.get().is_some_and(|early| early.get() == Early::Ended) {
            return Some(Duration::ZERO);
        }
        Some(self.at?.since(self.hub.now()))
    }

    /// From here on nothing is raised. Leaves no timer and no mark behind.
    fn cancel(&self) {
        let pending = self.timer.take().is_some_and(|key| self.hub.remove_timer(key));
        if !pending {
            self.core.leave_timeout(self.token);
        }
    }
}

impl Drop for Timeout {
    fn drop(&mut self) {
        if let Some(early) = self.early.get() {
            early.set(Early::Dropped);
            // It may have been ended although its timer is pending.
            self.core.leave_timeout(self.token);
        }
        self.cancel();
    }
}

/// Ends a [`Timeout`] before its time; made by [`Timeout::ender`]. Stays on its thread.
#[derive(Clone)]
pub struct TimeoutEnder {
    core: Rc<Core>,
    hub: &'static Hub,
    token: u64,
    early: Rc<Cell<Early>>,
}

impl TimeoutEnder {
    /// Ends it: what its greenlet is suspended in, or the next call that would suspend it, unwinds up to the timeout's
    /// [`run`](Timeout::run). Nothing happens if it has ended already, or was dropped. Never waits.
    pub fn end(&self) {
        if self.early.get() == Early::NotYet {
            self.early.set(Early::Ended);
            self.core.expire(self.token);
            self.hub.unpark(&self.core);
        }
    }
}

impl fmt::Debug for TimeoutEnder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TimeoutEnder").field("ended", &(self.early.get() != Early::NotYet)).finish()
    }
}

impl fmt::Debug for Timeout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Timeout").field("remaining", &self.remaining()).finish()
    }
}

/// The time by this thread's hub: [`Instant::now`], but in a run of [`testing`](crate::testing) the run's virtual time.
///
/// Code that is to be tested in virtual time reads the time here, and takes differences: [`Instant::elapsed`] looks at
/// the machine's clock.
///
/// ```
/// let began = greenlet::now();
/// greenlet::sleep(std::time::Duration::from_millis(1));
/// assert!(greenlet::now() - began >= std::time::Duration::from_millis(1));
/// ```
pub fn now() -> Instant {
    match Hub::existing() {
        Some(hub) => hub.instant(),
        None => Instant::now(),
    }
}

/// Parks the greenlet for at least `duration` (`gevent.sleep`). Main drives the hub meanwhile.
///
/// In a destructor that runs while unwinding, and while the thread exits, it returns at once.
#[inline]
pub fn sleep(duration: Duration) {
    use crate::greenlet::{WaitsFor, Wake};

    let hub = Hub::get();
    let deadline = hub.deadline(duration);
    loop {
        match hub.park(WaitsFor::Sleep, deadline) {
            Ok(Wake::Event) => {}
            Ok(Wake::Deadline)
            | Err(WaitError::Unwinding | WaitError::NoHub | WaitError::TimedOut | WaitError::LoopExit(_)) => {
                return;
            }
        }
    }
}

/// Goes to the back of the ready queue and lets the others run (`gevent.sleep(0)`). In a destructor that runs
/// while unwinding it returns at once.
#[inline]
#[doc(alias = "idle")]
pub fn yield_now() {
    Hub::get().yield_now();
}
