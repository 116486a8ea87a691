//! A value that comes later, maybe from another thread.

use std::error::Error;
use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use super::event::Event;
use crate::error::WaitError;
use crate::greenlet::WaitsFor;
use crate::sync::{ResultError, SharedError};

/// A value, or an error in its place, that greenlets and threads can wait for:
/// [`sync::AsyncResult`](crate::sync::AsyncResult) for several threads (`gevent.event.AsyncResult`). It is set once, and
/// then stays: all who ask get a reference to it.
///
/// ```
/// use std::sync::Arc;
/// use greenlet::sync::shared::AsyncResult;
///
/// let answer = Arc::new(AsyncResult::new());
/// std::thread::spawn({ let answer = answer.clone(); move || answer.set(42) });
/// assert_eq!(*answer.get().unwrap(), 42);
/// ```
pub struct AsyncResult<T> {
    outcome: OnceLock<Result<T, SharedError>>,
    ready: Event,
}

impl<T> AsyncResult<T> {
    /// A result that is yet to come.
    pub const fn new() -> AsyncResult<T> {
        AsyncResult { outcome: OnceLock::new(), ready: Event::new() }
    }

    /// Sets the value and wakes all who wait. Never parks.
    ///
    /// # Errors
    /// The value comes back when the result is set already.
    pub fn set(&self, value: T) -> Result<(), T> {
        match self.outcome.set(Ok(value)) {
            Ok(()) => {
                self.ready.set();
                Ok(())
            }
            Err(Ok(value)) => Err(value),
            Err(Err(_)) => unreachable!("a value was to be set"),
        }
    }

    /// Sets an error in place of the value and wakes all who wait (`set_exception`). Never parks.
    ///
    /// # Errors
    /// The error comes back when the result is set already.
    #[doc(alias = "set_exception")]
    pub fn set_error(&self, error: impl Into<Box<dyn Error + Send + Sync>>) -> Result<(), SharedError> {
        match self.outcome.set(Err(Arc::from(error.into()))) {
            Ok(()) => {
                self.ready.set();
                Ok(())
            }
            Err(Err(error)) => Err(error),
            Err(Ok(_)) => unreachable!("an error was to be set"),
        }
    }

    /// Waits for the value. Parks the calling greenlet, or blocks a thread that has no hub.
    ///
    /// # Errors
    /// `Failed` with the error that was set; `Wait` with why the wait failed.
    pub fn get(&self) -> Result<&T, ResultError> {
        self.get_within(None)
    }

    /// As [`get`](Self::get), for a limited time.
    ///
    /// # Errors
    /// `Wait` with `TimedOut`, and those of [`get`](Self::get).
    pub fn get_timeout(&self, timeout: Duration) -> Result<&T, ResultError> {
        self.get_within(Some(timeout))
    }

    /// Waits until the result is set, whatever it is (`wait`). Parks as [`get`](Self::get) does.
    ///
    /// # Errors
    /// `Unwinding` and `NoHub` as told at [`WaitError`].
    pub fn wait(&self) -> Result<(), WaitError> {
        self.ready.wait_for(WaitsFor::AsyncResult, None)
    }

    /// As [`wait`](Self::wait), for a limited time.
    ///
    /// # Errors
    /// `TimedOut`, and those of [`wait`](Self::wait).
    pub fn wait_timeout(&self, timeout: Duration) -> Result<(), WaitError> {
        self.ready.wait_for(WaitsFor::AsyncResult, Some(timeout))
    }

    /// The value, or the error that was set, if there is one at once (`get_nowait`). Never parks.
    #[doc(alias = "get_nowait")]
    pub fn try_get(&self) -> Option<Result<&T, ResultError>> {
        self.outcome.get().map(|outcome| outcome.as_ref().map_err(|error| ResultError::Failed(error.clone())))
    }

    /// The value, if it is there.
    pub fn value(&self) -> Option<&T> {
        self.outcome.get()?.as_ref().ok()
    }

    /// The error, if one was set (`exception`).
    #[doc(alias = "exception")]
    pub fn error(&self) -> Option<&(dyn Error + Send + Sync + 'static)> {
        self.outcome.get()?.as_ref().err().map(|error| &**error)
    }

    /// Whether a value or an error is set (`ready`).
    #[doc(alias = "ready")]
    pub fn is_ready(&self) -> bool {
        self.outcome.get().is_some()
    }

    /// Whether a value is set (`successful`).
    #[doc(alias = "successful")]
    pub fn is_successful(&self) -> bool {
        self.value().is_some()
    }

    /// The value, if it is there, for oneself.
    pub fn into_value(self) -> Option<T> {
        self.outcome.into_inner()?.ok()
    }

    /// Set with the result.
    pub(crate) fn ready(&self) -> &Event {
        &self.ready
    }

    fn get_within(&self, timeout: Option<Duration>) -> Result<&T, ResultError> {
        // The outcome is there before the event is set, and neither goes again.
        if !self.is_ready() {
            self.ready.wait_for(WaitsFor::AsyncResult, timeout)?;
        }
        match self.try_get() {
            Some(outcome) => outcome,
            None => unreachable!("its event is set"),
        }
    }
}

impl<T> Default for AsyncResult<T> {
    fn default() -> AsyncResult<T> {
        AsyncResult::new()
    }
}

impl<T: fmt::Debug> fmt::Debug for AsyncResult<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.outcome.get() {
            Some(outcome) => f.debug_tuple("AsyncResult").field(outcome).finish(),
            None => f.write_str("AsyncResult(<not set>)"),
        }
    }
}
