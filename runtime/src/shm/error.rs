//! Why a lock was not simply had.

use std::fmt;
use std::io;

use crate::error::WaitError;

/// Why a lock among processes was not simply had.
pub enum LockError<G> {
    /// It is had, but a process died while it changed the value.
    OwnerDied(OwnerDied<G>),
    /// It is not had. A [`WaitError`] tells why the wait ended (`TimedOut`, `Unwinding`, `NoHub`; this error's kind is
    /// `TimedOut` for the first); others are the kernel's: it gives no thread to listen on, or more than 256 processes share the lock.
    Failed(io::Error),
}

/// A lock that is held, around a value that a dead process may have left half changed (`EOWNERDEAD` of pthreads).
///
/// Dropping it unlocks, and tells the next one the same.
pub struct OwnerDied<G> {
    guard: G,
    accept: fn(&mut G),
}

impl<G> LockError<G> {
    /// The guard, where the lock is held; the value is good enough for the caller as it is. For locks around `()` above all:
    /// `lock().or_else(LockError::recover)`.
    ///
    /// # Errors
    /// That of [`Failed`](Self::Failed).
    pub fn recover(self) -> io::Result<G> {
        match self {
            LockError::OwnerDied(died) => Ok(died.recover()),
            LockError::Failed(error) => Err(error),
        }
    }
}

impl<G> OwnerDied<G> {
    pub(super) fn new(guard: G, accept: fn(&mut G)) -> OwnerDied<G> {
        OwnerDied { guard, accept }
    }

    /// The guard, for the caller to put the value right (`pthread_mutex_consistent`). From here on the value counts as whole. A
    /// guard for reading can put nothing right: readers are told until a writer has recovered.
    pub fn recover(mut self) -> G {
        (self.accept)(&mut self.guard);
        self.guard
    }
}

impl<G> fmt::Debug for OwnerDied<G> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OwnerDied")
    }
}

impl<G> fmt::Display for OwnerDied<G> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "a process died while it held the lock; the value may be half changed: recover() gives it",
        )
    }
}

impl<G> std::error::Error for OwnerDied<G> {}

impl<G> fmt::Debug for LockError<G> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LockError::OwnerDied(died) => died.fmt(f),
            LockError::Failed(error) => f.debug_tuple("Failed").field(error).finish(),
        }
    }
}

impl<G> fmt::Display for LockError<G> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LockError::OwnerDied(died) => died.fmt(f),
            LockError::Failed(error) => error.fmt(f),
        }
    }
}

impl<G> std::error::Error for LockError<G> {}

impl<G> From<io::Error> for LockError<G> {
    fn from(error: io::Error) -> LockError<G> {
        LockError::Failed(error)
    }
}

impl<G> From<WaitError> for LockError<G> {
    fn from(error: WaitError) -> LockError<G> {
        LockError::Failed(error.into())
    }
}

/// Gives a lock back that is held, as an error of the kind `Other`.
impl<G> From<LockError<G>> for io::Error {
    fn from(error: LockError<G>) -> io::Error {
        match error {
            LockError::OwnerDied(died) => io::Error::other(died.to_string()),
            LockError::Failed(error) => error,
        }
    }
}
