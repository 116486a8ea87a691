//! A flag that any thread may set and wait for.

use std::fmt;
use std::sync::Mutex;
use std::time::Duration;

use super::line::{Called, Line, Wait, lock};
use crate::error::WaitError;
use crate::greenlet::WaitsFor;

/// A flag that greenlets and threads can wait for: [`sync::Event`](crate::sync::Event) for several threads
/// (`gevent.event.Event`, `threading.Event`).
///
/// ```
/// use greenlet::sync::shared::Event;
///
/// static READY: Event = Event::new();
///
/// let other = std::thread::spawn(|| READY.set());
/// let waiter = greenlet::spawn(|| READY.wait());
/// waiter.join().unwrap().unwrap();
/// # other.join().unwrap();
/// ```
pub struct Event(Mutex<Flag>);

struct Flag {
    set: bool,
    waiting: Line,
}

impl Event {
    /// An event that is not set.
    pub const fn new() -> Event {
        Event(Mutex::new(Flag { set: false, waiting: Line::new() }))
    }

    /// Sets the flag and wakes all who wait, in the order in which they came. Never parks.
    pub fn set(&self) {
        let mut flag = lock(&self.0);
        flag.set = true;
        flag.waiting.call_all();
    }

    /// Takes the flag down.
    pub fn clear(&self) {
        lock(&self.0).set = false;
    }

    /// Whether the flag is up.
    #[doc(alias = "ready")]
    pub fn is_set(&self) -> bool {
        lock(&self.0).set
    }

    /// Waits until the event has been set; returns at once if it is. Who waits when it is set is woken even if it is
    /// cleared right after. Parks the calling greenlet, or blocks a thread that has no hub.
    ///
    /// # Errors
    /// `Unwinding` and `NoHub` as told at [`WaitError`].
    pub fn wait(&self) -> Result<(), WaitError> {
        self.wait_for(WaitsFor::Event, None)
    }

    /// As [`wait`](Self::wait), for a limited time.
    ///
    /// # Errors
    /// `TimedOut`, and those of [`wait`](Self::wait).
    pub fn wait_timeout(&self, timeout: Duration) -> Result<(), WaitError> {
        self.wait_for(WaitsFor::Event, Some(timeout))
    }

    /// As [`wait`](Self::wait), reported as a wait for something else that is made of an event.
    pub(super) fn wait_for(&self, why: WaitsFor, timeout: Option<Duration>) -> Result<(), WaitError> {
        waiting(why).wait(&self.0, timeout, |flag| flag.set.then_some(()), |_| ())
    }

    /// Queues the greenlet that runs, among other things that it waits for.
    pub(crate) fn queue_up(&self) -> Result<Box<dyn Called + '_>, WaitError> {
        waiting(WaitsFor::Event).queue_up(&self.0)
    }
}

/// It stands for all: one that is killed has nothing to pass on.
fn waiting(why: WaitsFor) -> Wait<Flag> {
    Wait { why, line: |flag| &mut flag.waiting, pass_on: |_| () }
}

impl Default for Event {
    fn default() -> Event {
        Event::new()
    }
}

impl fmt::Debug for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let flag = lock(&self.0);
        f.debug_struct("Event").field("set", &flag.set).field("waiting", &flag.waiting.len()).finish()
    }
}
