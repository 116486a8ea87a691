//! Channels: a [`Queue`] with two kinds of handles to it, which knows when those of one kind are gone.
//!
//! In the manner of [`std::sync::mpsc`], for the greenlets of one thread. [`shared::channel`](super::shared::channel) has
//! the same for several threads.
//!
//! ```
//! use greenlet::sync::channel;
//!
//! let (sender, receiver) = channel::bounded(2);
//! let producer = greenlet::spawn(move || (1..=4).try_for_each(|n| sender.send(n)));
//! // ends when the last sender is gone
//! assert_eq!(receiver.iter().sum::<u32>(), 10);
//! producer.join().unwrap().unwrap();
//! ```

use std::cell::Cell;
use std::fmt;
use std::rc::Rc;
use std::time::Duration;

use super::queue::Queue;
use super::queue_error::{GetError, PutError};
use crate::error::WaitError;

/// A channel that takes any number of values: [`send`](Sender::send) never waits.
pub fn unbounded<T>() -> (Sender<T>, Receiver<T>) {
    halves(Queue::unbounded())
}

/// A channel that holds at most `capacity` values. With 0 it holds none: [`send`](Sender::send) waits until somebody
/// takes the value (`gevent.queue.Channel`).
pub fn bounded<T>(capacity: usize) -> (Sender<T>, Receiver<T>) {
    halves(Queue::bounded(capacity))
}

fn halves<T>(queue: Queue<T>) -> (Sender<T>, Receiver<T>) {
    let shared = Rc::new(Shared { queue, senders: Cell::new(1), receivers: Cell::new(1) });
    (Sender(shared.clone()), Receiver(shared))
}

struct Shared<T> {
    queue: Queue<T>,
    senders: Cell<usize>,
    receivers: Cell<usize>,
}

/// Puts values into a channel. When the last one is dropped, receivers get what is in it and then `Disconnected`.
pub struct Sender<T>(Rc<Shared<T>>);

impl<T> Sender<T> {
    /// Sends a value, waiting for space if need be. Parks the caller while the channel is full.
    ///
    /// # Errors
    /// `Disconnected` when all receivers are gone, or go while the caller waits; `Wait` with why the wait failed. The
    /// value comes back in both.
    pub fn send(&self, value: T) -> Result<(), SendError<T>> {
        Ok(self.0.queue.put(value)?)
    }

    /// As [`send`](Self::send), for a limited time.
    ///
    /// # Errors
    /// `Wait` with `TimedOut`, and those of [`send`](Self::send).
    pub fn send_timeout(&self, value: T, timeout: Duration) -> Result<(), SendError<T>> {
        Ok(self.0.queue.put_timeout(value, timeout)?)
    }

    /// Sends a value if there is space at once, or without capacity somebody who waits for it. Never parks.
    ///
    /// # Errors
    /// `Full` and `Disconnected`, with the value.
    pub fn try_send(&self, value: T) -> Result<(), SendError<T>> {
        Ok(self.0.queue.try_put(value)?)
    }

    /// Whether all receivers are gone.
    pub fn is_disconnected(&self) -> bool {
        self.0.receivers.get() == 0
    }

    /// How many values are in the channel.
    pub fn len(&self) -> usize {
        self.0.queue.len()
    }

    /// Whether no value is in the channel.
    pub fn is_empty(&self) -> bool {
        self.0.queue.is_empty()
    }
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Sender<T> {
        self.0.senders.set(self.0.senders.get() + 1);
        Sender(self.0.clone())
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        let left = self.0.senders.get() - 1;
        self.0.senders.set(left);
        if left == 0 {
            self.0.queue.close();
        }
    }
}

impl<T> fmt::Debug for Sender<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sender").field("len", &self.len()).finish_non_exhaustive()
    }
}

/// Takes values out of a channel, each value by one of the receivers. When the last one is dropped, what is in the
/// channel is dropped, and senders get `Disconnected`.
pub struct Receiver<T>(Rc<Shared<T>>);

impl<T> Receiver<T> {
    /// Takes the first value, waiting for one if need be. Parks the caller while the channel is empty.
    ///
    /// # Errors
    /// `Disconnected` when it is empty and all senders are gone; `Wait` with why the wait failed.
    pub fn recv(&self) -> Result<T, RecvError> {
        Ok(self.0.queue.get()?)
    }

    /// As [`recv`](Self::recv), for a limited time.
    ///
    /// # Errors
    /// `Wait` with `TimedOut`, and those of [`recv`](Self::recv).
    pub fn recv_timeout(&self, timeout: Duration) -> Result<T, RecvError> {
        Ok(self.0.queue.get_timeout(timeout)?)
    }

    /// Takes the first value if there is one that nobody has been woken for. Never parks.
    ///
    /// # Errors
    /// `Empty`, or `Disconnected` when there will never be one.
    pub fn try_recv(&self) -> Result<T, RecvError> {
        Ok(self.0.queue.try_get()?)
    }

    /// Takes values, waiting for each, until all senders are gone and the channel is empty.
    ///
    /// # Panics
    /// With the report of a [`LoopExit`](crate::LoopExit). It just ends where the caller cannot be parked.
    pub fn iter(&self) -> Iter<'_, T> {
        Iter(self)
    }

    /// Takes the values that are there, without waiting.
    pub fn try_iter(&self) -> impl Iterator<Item = T> {
        std::iter::from_fn(|| self.try_recv().ok())
    }

    /// Whether all senders are gone; there may be values left.
    pub fn is_disconnected(&self) -> bool {
        self.0.senders.get() == 0
    }

    /// How many values are in the channel, those included for which somebody has been woken but has not run yet.
    pub fn len(&self) -> usize {
        self.0.queue.len()
    }

    /// Whether no value is in the channel.
    pub fn is_empty(&self) -> bool {
        self.0.queue.is_empty()
    }
}

impl<T> Clone for Receiver<T> {
    fn clone(&self) -> Receiver<T> {
        self.0.receivers.set(self.0.receivers.get() + 1);
        Receiver(self.0.clone())
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        let left = self.0.receivers.get() - 1;
        self.0.receivers.set(left);
        if left == 0 {
            self.0.queue.close();
            // A sender that is kept must not keep what nobody can take.
            self.try_iter().for_each(drop);
        }
    }
}

impl<T> fmt::Debug for Receiver<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Receiver").field("len", &self.len()).finish_non_exhaustive()
    }
}

impl<'a, T> IntoIterator for &'a Receiver<T> {
    type Item = T;
    type IntoIter = Iter<'a, T>;

    fn into_iter(self) -> Iter<'a, T> {
        self.iter()
    }
}

impl<T> IntoIterator for Receiver<T> {
    type Item = T;
    type IntoIter = IntoIter<T>;

    fn into_iter(self) -> IntoIter<T> {
        IntoIter(self)
    }
}

/// See [`Receiver::iter`].
#[derive(Debug)]
pub struct Iter<'a, T>(&'a Receiver<T>);

impl<T> Iterator for Iter<'_, T> {
    type Item = T;

    fn next(&mut self) -> Option<T> {
        next(self.0.recv())
    }
}

/// [`Receiver::iter`] that owns its receiver.
#[derive(Debug)]
pub struct IntoIter<T>(Receiver<T>);

impl<T> Iterator for IntoIter<T> {
    type Item = T;

    fn next(&mut self) -> Option<T> {
        next(self.0.recv())
    }
}

/// What an iterator makes of a `recv`.
pub(super) fn next<T>(received: Result<T, RecvError>) -> Option<T> {
    match received {
        Ok(value) => Some(value),
        Err(RecvError::Wait(WaitError::LoopExit(exit))) => panic!("{exit}"),
        Err(_) => None,
    }
}

/// Why a value was not sent; it holds the value.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum SendError<T> {
    /// There is no space at once.
    Full(T),
    /// All receivers are gone.
    Disconnected(T),
    /// The wait for space failed; the time given may be over.
    Wait(T, WaitError),
}

impl<T> SendError<T> {
    /// The value that was not sent.
    pub fn into_value(self) -> T {
        match self {
            SendError::Full(value) | SendError::Disconnected(value) | SendError::Wait(value, _) => value,
        }
    }
}

impl<T> From<PutError<T>> for SendError<T> {
    fn from(error: PutError<T>) -> SendError<T> {
        match error {
            PutError::Full(value) => SendError::Full(value),
            PutError::Closed(value) => SendError::Disconnected(value),
            PutError::Wait(value, error) => SendError::Wait(value, error),
        }
    }
}

impl<T> fmt::Display for SendError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SendError::Full(_) => f.write_str("the channel is full"),
            SendError::Disconnected(_) => f.write_str("all receivers of the channel are gone"),
            SendError::Wait(_, error) => write!(f, "cannot wait for space in the channel: {error}"),
        }
    }
}

impl<T> fmt::Debug for SendError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // without the value, so that any channel's result can be unwrapped
        match self {
            SendError::Full(_) => f.write_str("Full(..)"),
            SendError::Disconnected(_) => f.write_str("Disconnected(..)"),
            SendError::Wait(_, error) => f.debug_tuple("Wait").field(error).finish_non_exhaustive(),
        }
    }
}

impl<T> std::error::Error for SendError<T> {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            SendError::Wait(_, error) => Some(error),
            _ => None,
        }
    }
}

/// Why no value was received.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RecvError {
    /// There is none at once.
    Empty,
    /// All senders are gone and all their values have been taken.
    Disconnected,
    /// The wait for one failed; the time given may be over.
    Wait(WaitError),
}

impl From<GetError> for RecvError {
    fn from(error: GetError) -> RecvError {
        match error {
            GetError::Empty => RecvError::Empty,
            GetError::Closed => RecvError::Disconnected,
            GetError::Wait(error) => RecvError::Wait(error),
        }
    }
}

impl fmt::Display for RecvError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RecvError::Empty => f.write_str("the channel is empty"),
            RecvError::Disconnected => f.write_str("the channel is empty and all its senders are gone"),
            RecvError::Wait(error) => write!(f, "cannot wait for a value in the channel: {error}"),
        }
    }
}

impl std::error::Error for RecvError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            RecvError::Wait(error) => Some(error),
            _ => None,
        }
    }
}
