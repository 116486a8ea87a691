//! What other threads may hold of a hub.

use std::fmt;
use std::time::Duration;

use crate::error::JoinError;
use crate::hub::{Hold, Hub, Message};
use crate::sync::shared::channel::{self, RecvError};
use crate::unwind::catch_panic;

/// A way into one thread's hub that may be sent to other threads (gevent's `loop.run_callback_threadsafe`).
///
/// As long as one exists, somebody may still wake the hub's greenlets: no wait on it ends with
/// [`LoopExit`](crate::LoopExit).
///
/// ```
/// use std::rc::Rc;
/// use greenlet::sync::Event;
///
/// thread_local!(static DONE: Rc<Event> = Rc::new(Event::new()));
///
/// let hub = greenlet::HubHandle::current();
/// std::thread::spawn(move || hub.spawn(|| DONE.with(|done| done.set())));
/// DONE.with(Rc::clone).wait().unwrap();
/// ```
#[derive(Clone)]
pub struct HubHandle(Hold);

impl HubHandle {
    /// A handle to the hub of the calling thread.
    ///
    /// # Panics
    /// While the thread exits, and if the kernel gives no poller.
    pub fn current() -> HubHandle {
        HubHandle(Hub::get().hold().expect("the hub of a thread that exits cannot be used any more"))
    }

    /// Runs `f` in a new greenlet on the hub's thread. Costs a system call only if that hub sleeps. False when the
    /// thread has exited; `f` is dropped then.
    pub fn spawn(&self, f: impl FnOnce() + Send + 'static) -> bool {
        self.0.send(Message::Spawn(Box::new(f)))
    }

    /// Runs `f` in a new greenlet on the hub's thread and waits for what it returns. Parks the calling greenlet, or
    /// blocks a thread that has no hub.
    ///
    /// # Errors
    /// `Panicked` with `f`'s panic; `Killed` when its greenlet was killed or its thread had exited; `Wait` with why the
    /// wait failed: `f` runs on.
    ///
    /// ```
    /// let hub = greenlet::HubHandle::current();
    /// let here = std::thread::current().id();
    /// let asking = greenlet::spawn(move || {
    ///     greenlet::unblock(move || hub.call(|| std::thread::current().id()).unwrap())
    /// });
    /// assert_eq!(asking.join().unwrap(), here);
    /// ```
    pub fn call<T: Send + 'static>(&self, f: impl FnOnce() -> T + Send + 'static) -> Result<T, JoinError> {
        self.call_within(None, f)
    }

    /// As [`call`](Self::call), for a limited time.
    ///
    /// # Errors
    /// `Wait` with `TimedOut`, and those of [`call`](Self::call).
    pub fn call_timeout<T: Send + 'static>(
        &self,
        timeout: Duration,
        f: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, JoinError> {
        self.call_within(Some(timeout), f)
    }

    fn call_within<T: Send + 'static>(
        &self,
        timeout: Option<Duration>,
        f: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, JoinError> {
        let (sender, receiver) = channel::bounded(1);
        self.spawn(move || {
            // Nobody takes it if the caller has given up.
            let _ = sender.try_send(catch_panic(f));
        });
        let received = match timeout {
            None => receiver.recv(),
            Some(timeout) => receiver.recv_timeout(timeout),
        };
        match received {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(panic)) => Err(JoinError::Panicked(panic)),
            Err(RecvError::Wait(error)) => Err(JoinError::Wait(error)),
            // The greenlet has dropped its sender without a word.
            Err(RecvError::Disconnected | RecvError::Empty) => Err(JoinError::Killed),
        }
    }
}

impl fmt::Debug for HubHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HubHandle")
    }
}
