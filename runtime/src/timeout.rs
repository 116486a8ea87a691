//! Timeouts as scopes.

use std::fmt;
use std::rc::Rc;
use std::time::{Duration, Instant};

use crate::error::WaitError;
use crate::greenlet::Core;
use crate::hub::{Hub, TimerKey};
use crate::unwind::{self, Caught, Interrupt};

/// The time of a [`timeout`] scope was over before its closure returned.
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
pub fn timeout<T>(after: Duration, f: impl FnOnce() -> T) -> Result<T, Elapsed> {
    let hub = Hub::get();
    let core = hub.current_or_main();
    let (token, timer) = hub.expire_later(&core, after);
    let scope = TimeoutScope { hub, core, token, timer };
    match unwind::catch(f) {
        Caught::Returned(value) => Ok(value),
        Caught::Interrupted(Interrupt::Timeout(ended)) if ended == scope.token => Err(Elapsed(())),
        Caught::Interrupted(other) => {
            drop(scope);
            unwind::raise(other)
        }
        Caught::Panicked(panic) => {
            drop(scope);
            panic.resume()
        }
    }
}

/// Leaves no timer and no mark behind, however the scope ends.
struct TimeoutScope {
    hub: &'static Hub,
    core: Rc<Core>,
    token: u64,
    timer: Option<TimerKey>,
}

impl Drop for TimeoutScope {
    fn drop(&mut self) {
        let pending = self.timer.is_some_and(|key| self.hub.remove_timer(key));
        if !pending {
            self.core.leave_timeout(self.token);
        }
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
pub fn yield_now() {
    Hub::get().yield_now();
}
