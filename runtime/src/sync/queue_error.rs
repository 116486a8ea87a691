//! Why a queue did not take or give a value.

use std::fmt;

use crate::error::WaitError;

/// Why a value was not put into a [`Queue`](super::Queue); it holds the value.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum PutError<T> {
    /// There is no space at once (`gevent.queue.Full`).
    Full(T),
    /// The queue is closed.
    Closed(T),
    /// The wait for space failed; the time given may be over.
    Wait(T, WaitError),
}

impl<T> PutError<T> {
    /// The value that was not put.
    pub fn into_value(self) -> T {
        match self {
            PutError::Full(value) | PutError::Closed(value) | PutError::Wait(value, _) => value,
        }
    }
}

impl<T> fmt::Display for PutError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PutError::Full(_) => f.write_str("the queue is full"),
            PutError::Closed(_) => f.write_str("the queue is closed"),
            PutError::Wait(_, error) => write!(f, "cannot wait for space in the queue: {error}"),
        }
    }
}

impl<T> fmt::Debug for PutError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // without the value, so that any queue's result can be unwrapped
        let mut tuple = match self {
            PutError::Full(_) => f.debug_tuple("Full"),
            PutError::Closed(_) => f.debug_tuple("Closed"),
            PutError::Wait(..) => f.debug_tuple("Wait"),
        };
        if let PutError::Wait(_, error) = self {
            tuple.field(error);
        }
        tuple.finish_non_exhaustive()
    }
}

impl<T> std::error::Error for PutError<T> {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            PutError::Wait(_, error) => Some(error),
            _ => None,
        }
    }
}

/// Why no value came out of a [`Queue`](super::Queue).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum GetError {
    /// There is none at once (`gevent.queue.Empty`).
    Empty,
    /// The queue is closed and all its values have been taken.
    Closed,
    /// The wait for one failed; the time given may be over.
    Wait(WaitError),
}

impl fmt::Display for GetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            GetError::Empty => f.write_str("the queue is empty"),
            GetError::Closed => f.write_str("the queue is closed and empty"),
            GetError::Wait(error) => write!(f, "cannot wait for a value in the queue: {error}"),
        }
    }
}

impl std::error::Error for GetError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            GetError::Wait(error) => Some(error),
            _ => None,
        }
    }
}
