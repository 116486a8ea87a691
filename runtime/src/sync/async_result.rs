//! A value that comes later.

use std::cell::OnceCell;
use std::error::Error;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::event::Event;
use crate::error::WaitError;
use crate::greenlet::WaitsFor;
use crate::hub::{Hub, Moment};

/// An error that all who wait for a result get: any error, also one made of a string.
pub type SharedError = Arc<dyn Error + Send + Sync>;

/// A value, or an error in its place, that any number of greenlets of one thread can wait for
/// (`gevent.event.AsyncResult`). It is set once, and then stays: all who ask get a reference to it.
///
/// ```
/// use std::rc::Rc;
/// use greenlet::sync::AsyncResult;
///
/// let answer = Rc::new(AsyncResult::new());
/// let asking = greenlet::spawn({ let answer = answer.clone(); move || answer.get().copied() });
/// answer.set(42).unwrap();
/// assert_eq!(asking.join().unwrap().unwrap(), 42);
///
/// let failed = AsyncResult::<u32>::new();
/// failed.set_error("no such luck").unwrap();
/// assert_eq!(failed.get().unwrap_err().to_string(), "no such luck");
/// ```
pub struct AsyncResult<T> {
    outcome: OnceCell<Result<T, Arc<dyn Error + Send + Sync>>>,
    ready: Event,
}

impl<T> AsyncResult<T> {
    /// A result that is yet to come.
    pub const fn new() -> AsyncResult<T> {
        AsyncResult { outcome: OnceCell::new(), ready: Event::new() }
    }

    /// Sets the value and wakes all who wait, in the order in which they came. Never parks.
    ///
    /// # Errors
    /// The value comes back when the result is set already: unlike gevent's, it does not change any more.
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

    /// Waits for the value. Parks the caller.
    ///
    /// # Errors
    /// `Failed` with the error that was set; `Wait` with why the wait failed.
    pub fn get(&self) -> Result<&T, ResultError> {
        self.get_until(None)
    }

    /// As [`get`](Self::get), for a limited time.
    ///
    /// # Errors
    /// `Wait` with `TimedOut`, and those of [`get`](Self::get).
    pub fn get_timeout(&self, timeout: Duration) -> Result<&T, ResultError> {
        self.get_until(Hub::get().deadline(timeout))
    }

    /// Waits until the result is set, whatever it is (`wait`). Parks the caller.
    ///
    /// # Errors
    /// `Unwinding`, `LoopExit` and `NoHub` as told at [`WaitError`].
    pub fn wait(&self) -> Result<(), WaitError> {
        self.ready.wait_for(WaitsFor::AsyncResult, None)
    }

    /// As [`wait`](Self::wait), for a limited time.
    ///
    /// # Errors
    /// `TimedOut`, and those of [`wait`](Self::wait).
    pub fn wait_timeout(&self, timeout: Duration) -> Result<(), WaitError> {
        self.ready.wait_for(WaitsFor::AsyncResult, Hub::get().deadline(timeout))
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

    fn get_until(&self, deadline: Option<Moment>) -> Result<&T, ResultError> {
        loop {
            if let Some(outcome) = self.try_get() {
                return outcome;
            }
            self.ready.wait_for(WaitsFor::AsyncResult, deadline)?;
        }
    }
}

impl<T> Default for AsyncResult<T> {
    fn default() -> AsyncResult<T> {
        AsyncResult::new()
    }
}

/// A result that is set already.
impl<T> From<T> for AsyncResult<T> {
    fn from(value: T) -> AsyncResult<T> {
        let ready = Event::new();
        ready.set();
        AsyncResult { outcome: OnceCell::from(Ok(value)), ready }
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

/// Why there is no value to be had of an [`AsyncResult`].
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum ResultError {
    /// This error was set in its place.
    Failed(SharedError),
    /// The wait for it failed; the time given may be over.
    Wait(WaitError),
}

impl fmt::Display for ResultError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ResultError::Failed(error) => error.fmt(f),
            ResultError::Wait(error) => write!(f, "cannot wait for the result: {error}"),
        }
    }
}

impl Error for ResultError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            ResultError::Failed(error) => error.source(),
            ResultError::Wait(error) => Some(error),
        }
    }
}

impl From<WaitError> for ResultError {
    fn from(error: WaitError) -> ResultError {
        ResultError::Wait(error)
    }
}
