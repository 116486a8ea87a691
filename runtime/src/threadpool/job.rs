//! A job of a thread pool, and its result.

use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::line::{Line, wait};
use super::lock;
use crate::error::{JoinError, WaitError};
use crate::hub::{Hub, Moment};
use crate::unwind::{self, Caught};

/// A handle to work on a thread of a [`ThreadPool`](crate::ThreadPool).
///
/// It may be sent to other threads: whoever has it may wait for the result, in a greenlet of any hub. Dropping it leaves the
/// job running; its result is dropped then, on the pool's thread if the job has not ended before.
pub struct ThreadJob<T>(Arc<Packet<T>>);

struct Packet<T> {
    state: Mutex<State<T>>,
}

struct State<T> {
    ended: bool,
    /// `None` before the end, and once it has been taken.
    result: Option<Result<T, JoinError>>,
    joiners: Line,
}

impl<T> ThreadJob<T> {
    /// Waits until the job is done and takes its value (`AsyncResult.get`). Parks the caller.
    ///
    /// # Errors
    /// The job's panic; `ShutDown` when it never ran; `Taken` when an earlier join has the value; `Wait` with why the wait
    /// failed.
    pub fn join(&self) -> Result<T, JoinError> {
        self.join_until(None)
    }

    /// As [`join`](Self::join), but gives up after a while with `JoinError::Wait(WaitError::TimedOut)`. The job is not
    /// touched.
    ///
    /// # Errors
    /// As [`join`](Self::join).
    pub fn join_timeout(&self, timeout: Duration) -> Result<T, JoinError> {
        self.join_until(Hub::get().deadline(timeout))
    }

    /// Whether the job has ended, in whatever way. Never waits.
    #[doc(alias = "ready")]
    pub fn is_finished(&self) -> bool {
        lock(&self.0.state).ended
    }

    fn join_until(&self, deadline: Option<Moment>) -> Result<T, JoinError> {
        let ready = |state: &mut State<T>, _| state.ended.then(|| state.result.take());
        let taken = wait(&self.0.state, |state| &mut state.joiners, deadline, ready);
        taken.map_err(|error: WaitError| JoinError::Wait(error))?.unwrap_or(Err(JoinError::Taken))
    }
}

impl<T> fmt::Debug for ThreadJob<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ThreadJob").field("finished", &self.is_finished()).finish()
    }
}

/// Makes a job of `f`: what a thread is to run, and the handle to it.
pub(super) fn new<F, T>(f: F) -> (Box<dyn FnOnce() + Send>, ThreadJob<T>)
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    let packet =
        Arc::new(Packet { state: Mutex::new(State { ended: false, result: None, joiners: Line::new() }) });
    let end = End { packet: packet.clone(), result: Err(JoinError::ShutDown) };
    let task = Box::new(move || end.after(f));
    (task, ThreadJob(packet))
}

/// The task's side. However it goes, those who wait learn of it.
struct End<T> {
    packet: Arc<Packet<T>>,
    result: Result<T, JoinError>,
}

impl<T> End<T> {
    fn after(mut self, f: impl FnOnce() -> T) {
        self.result = match unwind::catch(f) {
            Caught::Returned(value) => Ok(value),
            Caught::Panicked(panic) => Err(JoinError::Panicked(panic)),
            // Raised by the job in its own thread's hub.
            Caught::Interrupted(interrupt) => Err(interrupt.into()),
        };
    }
}

impl<T> Drop for End<T> {
    fn drop(&mut self) {
        let result = std::mem::replace(&mut self.result, Err(JoinError::Taken));
        let mut state = lock(&self.packet.state);
        state.ended = true;
        state.result = Some(result);
        state.joiners.wake_all();
    }
}
