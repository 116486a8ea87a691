//! Why a wait or a greenlet ended otherwise than hoped: small enums, each variant one cause.

use std::any::Any;
use std::backtrace::Backtrace;
use std::borrow::Cow;
use std::fmt;
use std::io;
use std::iter;
use std::sync::{Arc, Mutex, PoisonError};

use crate::inspect;

/// Why a blocking call gave up waiting.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum WaitError {
    /// The time given to the call is over.
    TimedOut,
    /// The call was made by a destructor while its thread unwinds from a panic, a kill or a timeout. Switching
    /// then would show the panic to other greenlets and poison their locks, so the call fails at once.
    Unwinding,
    /// Nothing can ever end this wait: see [`LoopExit`].
    LoopExit(LoopExit),
    /// There is no greenlet to park: the call was made on the hub's own stack or while the thread exits.
    NoHub,
}

impl fmt::Display for WaitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            WaitError::TimedOut => f.write_str("timed out"),
            WaitError::Unwinding => f.write_str(
                "a blocking call was made while unwinding, where the green thread cannot be parked; finish the \
                 work before the end of the scope instead of in a destructor",
            ),
            WaitError::LoopExit(exit) => exit.fmt(f),
            WaitError::NoHub => {
                f.write_str("a blocking call was made where no green thread runs: the thread is exiting")
            }
        }
    }
}

impl std::error::Error for WaitError {}

impl From<WaitError> for io::Error {
    fn from(error: WaitError) -> io::Error {
        let kind = match error {
            WaitError::TimedOut => io::ErrorKind::TimedOut,
            WaitError::LoopExit(_) => io::ErrorKind::Deadlock,
            WaitError::Unwinding | WaitError::NoHub => io::ErrorKind::Other,
        };
        io::Error::new(kind, error)
    }
}

/// The report that the main program waits for something that nobody can bring about any more: no greenlet is
/// ready, no timer is pending, nobody waits for a descriptor, and no other thread holds a way to wake this hub
/// (gevent's `LoopExit`).
///
/// [`Display`](fmt::Display) names every parked greenlet and what it waits for; `{:#}` and [`Debug`], which is what `unwrap`
/// prints, tell also where the first of them stand in their code.
#[derive(Clone)]
pub struct LoopExit {
    parked: Arc<[String]>,
    /// Of the first of them.
    stacks: Arc<[Option<Backtrace>]>,
    why: Cow<'static, str>,
}

impl LoopExit {
    pub(crate) fn new(lines: Vec<String>, stacks: Vec<Option<Backtrace>>) -> LoopExit {
        LoopExit {
            parked: lines.into(),
            stacks: stacks.into(),
            why: "nobody is left who could end it".into(),
        }
    }

    /// With another reason than the usual one.
    pub(crate) fn because(self, why: String) -> LoopExit {
        LoopExit { why: why.into(), ..self }
    }

    /// One line for each parked greenlet, main first: its name, what it waits for, where it was spawned.
    pub fn parked(&self) -> &[String] {
        &self.parked
    }

    fn report(&self, f: &mut fmt::Formatter<'_>, stacks: bool) -> fmt::Result {
        write!(f, "LoopExit: this wait can never end, for {}. Parked:", self.why)?;
        let all = self.stacks.iter().map(Option::as_ref).chain(iter::repeat(None));
        for (line, stack) in self.parked.iter().zip(all) {
            write!(f, "\n  {line}")?;
            if let Some(stack) = stack.filter(|_| stacks) {
                let calls = inspect::users_part(&stack.to_string());
                calls.lines().try_for_each(|call| write!(f, "\n      {call}"))?;
            }
        }
        Ok(())
    }
}

impl fmt::Display for LoopExit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.report(f, f.alternate())
    }
}

impl fmt::Debug for LoopExit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.report(f, true)
    }
}

impl PartialEq for LoopExit {
    fn eq(&self, other: &LoopExit) -> bool {
        self.parked == other.parked && self.why == other.why
    }
}

impl Eq for LoopExit {}

impl std::error::Error for LoopExit {}

/// A panic that ended a greenlet or was caught by [`catch_panic`](crate::catch_panic).
pub struct Panic {
    /// Never locked: in a lock because that makes the whole `Sync`, as errors that travel on must be.
    payload: Mutex<Box<dyn Any + Send>>,
    message: Cow<'static, str>,
    location: Option<String>,
    greenlet: String,
}

impl Panic {
    pub(crate) fn new(payload: Box<dyn Any + Send>, location: Option<String>, greenlet: String) -> Panic {
        let message = if let Some(text) = payload.downcast_ref::<&'static str>() {
            Cow::Borrowed(*text)
        } else if let Some(text) = payload.downcast_ref::<String>() {
            Cow::Owned(text.clone())
        } else {
            Cow::Borrowed("a value that is no string")
        };
        Panic { payload: Mutex::new(payload), message, location, greenlet }
    }

    /// What the panic said; a stand-in where its payload is no string.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// Where it happened, as `file:line:column`. `None` for a payload raised by
    /// [`resume_unwind`](std::panic::resume_unwind), and where the program has replaced the panic hook.
    pub fn location(&self) -> Option<&str> {
        self.location.as_deref()
    }

    /// The name of the greenlet that panicked.
    pub fn greenlet(&self) -> &str {
        &self.greenlet
    }

    /// The payload, as [`catch_unwind`](std::panic::catch_unwind) would have returned it.
    pub fn into_payload(self) -> Box<dyn Any + Send> {
        self.into_parts().0
    }

    /// The same panic told once more: its payload is the message.
    pub(crate) fn retold(&self) -> Panic {
        Panic::new(Box::new(self.message.to_string()), self.location.clone(), self.greenlet.clone())
    }

    pub(crate) fn into_parts(self) -> (Box<dyn Any + Send>, Option<String>) {
        (self.payload.into_inner().unwrap_or_else(PoisonError::into_inner), self.location)
    }
}

impl fmt::Display for Panic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "greenlet '{}' panicked", self.greenlet)?;
        if let Some(location) = &self.location {
            write!(f, " at {location}")?;
        }
        write!(f, ": {}", self.message())
    }
}

impl fmt::Debug for Panic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Panic").field(&format_args!("{self}")).finish()
    }
}

impl std::error::Error for Panic {}

/// Why [`Greenlet::join`](crate::Greenlet::join) has no value to give.
#[derive(Debug)]
#[non_exhaustive]
pub enum JoinError {
    /// The greenlet panicked.
    Panicked(Panic),
    /// The greenlet was killed.
    Killed,
    /// The greenlet was ended by a [`Timeout`](crate::Timeout) of its own that it did not catch.
    Elapsed,
    /// The greenlet could not be started: there was no stack for it.
    NoStack(io::Error),
    /// An earlier join has taken the value.
    Taken,
    /// The [`ThreadPool`](crate::ThreadPool) was shut down before it ran the job.
    ShutDown,
    /// The join gave up waiting; the greenlet lives on.
    Wait(WaitError),
}

impl fmt::Display for JoinError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            JoinError::Panicked(panic) => panic.fmt(f),
            JoinError::Elapsed => f.write_str("the greenlet was ended by a timeout that it did not catch"),
            JoinError::Killed => f.write_str("the greenlet was killed"),
            JoinError::NoStack(error) => write!(f, "the greenlet could not be started: {error}"),
            JoinError::Taken => f.write_str("an earlier join has taken the greenlet's value"),
            JoinError::ShutDown => f.write_str("the thread pool was shut down before it ran the job"),
            JoinError::Wait(error) => write!(f, "cannot wait for the greenlet: {error}"),
        }
    }
}

impl std::error::Error for JoinError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            JoinError::NoStack(error) => Some(error),
            JoinError::Wait(error) => Some(error),
            _ => None,
        }
    }
}

impl From<WaitError> for JoinError {
    fn from(error: WaitError) -> JoinError {
        JoinError::Wait(error)
    }
}
