//! Channels between threads and their greenlets, in the manner of [`std::sync::mpsc`].
//!
//! Any number of senders and receivers on any threads; each value goes to one receiver. Errors are those of
//! [`sync::channel`](crate::sync::channel).
//!
//! ```
//! use greenlet::sync::shared::channel;
//!
//! let (sender, receiver) = channel::bounded(16);
//! // a plain thread feeds the greenlets of this one
//! let feeder = std::thread::spawn(move || (1..=100).try_for_each(|n| sender.send(n)));
//! let worker = greenlet::spawn(move || receiver.iter().sum::<u32>());
//! assert_eq!(worker.join().unwrap(), 5050);
//! # feeder.join().unwrap().unwrap();
//! ```

use std::cell::Cell;
use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::line::{Called, Line, Wait, lock};
use crate::error::WaitError;
use crate::greenlet::WaitsFor;
use crate::sync::channel::next;
pub use crate::sync::channel::{RecvError, SendError};

/// A channel that takes any number of values: [`send`](Sender::send) never waits.
pub fn unbounded<T>() -> (Sender<T>, Receiver<T>) {
    halves(usize::MAX)
}

/// A channel that holds at most `capacity` values. With 0 it holds none: [`send`](Sender::send) waits until somebody
/// takes the value. If that one is killed before it runs, the value stays for the next.
pub fn bounded<T>(capacity: usize) -> (Sender<T>, Receiver<T>) {
    halves(capacity)
}

fn halves<T>(capacity: usize) -> (Sender<T>, Receiver<T>) {
    let shared = Arc::new(Mutex::new(State {
        items: VecDeque::new(),
        capacity,
        offers: BTreeMap::new(),
        due: 0,
        promised: 0,
        receiving: Line::new(),
        sending: Line::new(),
        senders: 1,
        receivers: 1,
    }));
    (Sender(shared.clone()), Receiver(shared))
}

struct State<T> {
    items: VecDeque<T>,
    capacity: usize,
    /// Where there is no capacity: the values of those who wait to send, by their numbers in the line.
    offers: BTreeMap<u64, T>,
    /// How many receivers have been called and have not come for their item yet.
    due: usize,
    /// How many senders have been called and have not put their item yet.
    promised: usize,
    receiving: Line,
    sending: Line,
    senders: usize,
    receivers: usize,
}

impl<T> State<T> {
    /// Whether there is an item that nobody has been called for.
    fn has_item(&self) -> bool {
        self.items.len() > self.due
    }

    /// Whether there is space that nobody has been called for; without capacity, somebody who waits for an item.
    fn has_space(&self) -> bool {
        match self.capacity {
            0 => self.receiving.len() > 0,
            capacity => self.items.len() + self.promised < capacity,
        }
    }

    fn put(&mut self, item: T) {
        self.items.push_back(item);
        self.call_receiver();
    }

    /// Takes an item that nobody has been called for.
    fn take_free(&mut self) -> Option<T> {
        if self.has_item() {
            return self.take();
        }
        let (ticket, value) = self.offers.pop_first()?;
        self.sending.call(ticket);
        // behind those that somebody is still to come for: that one takes this, so that values come out in order
        self.items.push_back(value);
        self.items.pop_front()
    }

    fn take(&mut self) -> Option<T> {
        let item = self.items.pop_front()?;
        self.call_sender();
        Some(item)
    }

    fn call_receiver(&mut self) {
        if self.has_item() && self.receiving.call_next() {
            self.due += 1;
        }
    }

    fn call_sender(&mut self) {
        if self.capacity > 0 && self.has_space() && self.sending.call_next() {
            self.promised += 1;
        }
    }

    fn show(&self, name: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct(name)
            .field("len", &self.items.len())
            .field("waiting", &(self.receiving.len() + self.sending.len()))
            .finish_non_exhaustive()
    }
}

/// Puts values into a channel. When the last one is dropped, receivers get what is in it and then `Disconnected`.
pub struct Sender<T>(Arc<Mutex<State<T>>>);

impl<T> Sender<T> {
    /// Sends a value, waiting for space if need be. While the channel is full it parks the calling greenlet, or blocks
    /// a thread that has no hub.
    ///
    /// # Errors
    /// `Disconnected` when all receivers are gone, or go while the caller waits; `Wait` with why the wait failed. The
    /// value comes back in both.
    pub fn send(&self, value: T) -> Result<(), SendError<T>> {
        self.send_within(value, None)
    }

    /// As [`send`](Self::send), for a limited time.
    ///
    /// # Errors
    /// `Wait` with `TimedOut`, and those of [`send`](Self::send).
    pub fn send_timeout(&self, value: T, timeout: Duration) -> Result<(), SendError<T>> {
        self.send_within(value, Some(timeout))
    }

    /// Sends a value if there is space at once. Never parks.
    ///
    /// # Errors
    /// `Full` and `Disconnected`, with the value.
    pub fn try_send(&self, value: T) -> Result<(), SendError<T>> {
        let mut state = lock(&self.0);
        if state.receivers == 0 {
            return Err(SendError::Disconnected(value));
        }
        if !state.has_space() {
            return Err(SendError::Full(value));
        }
        state.put(value);
        Ok(())
    }

    /// Whether all receivers are gone.
    pub fn is_disconnected(&self) -> bool {
        lock(&self.0).receivers == 0
    }

    /// How many values are in the channel.
    pub fn len(&self) -> usize {
        lock(&self.0).items.len()
    }

    /// Whether no value is in the channel.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn send_within(&self, value: T, timeout: Option<Duration>) -> Result<(), SendError<T>> {
        let wait = Wait {
            why: WaitsFor::QueueSpace,
            line: |state: &mut State<T>| &mut state.sending,
            pass_on: |state| {
                // without capacity it was called because its value is taken
                if state.capacity > 0 {
                    state.promised -= 1;
                    state.call_sender();
                }
            },
        };
        // taken by whichever of the closures runs
        let value = Cell::new(Some(value));
        let put = |state: &mut State<T>| {
            if state.receivers > 0 {
                value.take().into_iter().for_each(|value| state.put(value));
            }
        };
        let offer = Offer { channel: &self.0, ticket: Cell::new(None) };
        let waited = wait.wait(
            &self.0,
            timeout,
            |state| {
                if state.receivers == 0 || state.has_space() {
                    put(state);
                    return Some(());
                }
                if state.capacity == 0 {
                    let ticket = state.sending.next_ticket();
                    offer.ticket.set(Some(ticket));
                    value.take().into_iter().for_each(|value| drop(state.offers.insert(ticket, value)));
                }
                None
            },
            |state| {
                if state.capacity > 0 {
                    state.promised -= 1;
                    put(state);
                }
            },
        );
        match (value.into_inner().or_else(|| offer.withdraw()), waited) {
            (None, _) => Ok(()),
            (Some(value), Ok(())) => Err(SendError::Disconnected(value)),
            (Some(value), Err(error)) => Err(SendError::Wait(value, error)),
        }
    }
}

/// A value that is offered for as long as its sender waits.
struct Offer<'a, T> {
    channel: &'a Mutex<State<T>>,
    ticket: Cell<Option<u64>>,
}

impl<T> Offer<'_, T> {
    /// The value, if one was offered and nobody has taken it.
    fn withdraw(&self) -> Option<T> {
        lock(self.channel).offers.remove(&self.ticket.take()?)
    }
}

impl<T> Drop for Offer<'_, T> {
    fn drop(&mut self) {
        drop(self.withdraw());
    }
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Sender<T> {
        lock(&self.0).senders += 1;
        Sender(self.0.clone())
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        let mut state = lock(&self.0);
        state.senders -= 1;
        if state.senders == 0 {
            // they find nothing, and that they are not to wait any more
            state.due += state.receiving.call_all();
        }
    }
}

impl<T> fmt::Debug for Sender<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        lock(&self.0).show("Sender", f)
    }
}

/// Takes values out of a channel, each value by one of the receivers. When the last one is dropped, what is in the
/// channel is dropped, and senders get `Disconnected`.
pub struct Receiver<T>(Arc<Mutex<State<T>>>);

impl<T> Receiver<T> {
    /// Takes the first value, waiting for one if need be. While the channel is empty it parks the calling greenlet, or
    /// blocks a thread that has no hub.
    ///
    /// # Errors
    /// `Disconnected` when it is empty and all senders are gone; `Wait` with why the wait failed.
    pub fn recv(&self) -> Result<T, RecvError> {
        self.recv_within(None)
    }

    /// As [`recv`](Self::recv), for a limited time.
    ///
    /// # Errors
    /// `Wait` with `TimedOut`, and those of [`recv`](Self::recv).
    pub fn recv_timeout(&self, timeout: Duration) -> Result<T, RecvError> {
        self.recv_within(Some(timeout))
    }

    /// Takes values, waiting for each, until all senders are gone and the channel is empty. It also ends where the
    /// caller cannot be parked.
    pub fn iter(&self) -> Iter<'_, T> {
        Iter(self)
    }

    /// Takes the first value if there is one that nobody has been woken for. Never parks.
    ///
    /// # Errors
    /// `Empty`, or `Disconnected` when there will never be one.
    pub fn try_recv(&self) -> Result<T, RecvError> {
        let mut state = lock(&self.0);
        state.take_free().ok_or(if state.senders == 0 { RecvError::Disconnected } else { RecvError::Empty })
    }

    /// Takes the values that are there, without waiting.
    pub fn try_iter(&self) -> impl Iterator<Item = T> {
        std::iter::from_fn(|| self.try_recv().ok())
    }

    /// Whether all senders are gone; there may be values left.
    pub fn is_disconnected(&self) -> bool {
        lock(&self.0).senders == 0
    }

    /// How many values are in the channel, those included for which somebody has been woken but has not run yet.
    pub fn len(&self) -> usize {
        lock(&self.0).items.len()
    }

    /// Whether no value is in the channel.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn recv_within(&self, timeout: Option<Duration>) -> Result<T, RecvError> {
        let received = receiving().wait(
            &self.0,
            timeout,
            |state| match state.take_free() {
                None => (state.senders == 0).then_some(None),
                item => Some(item),
            },
            |state| {
                state.due -= 1;
                state.take()
            },
        );
        received.map_err(RecvError::Wait)?.ok_or(RecvError::Disconnected)
    }

    /// Queues the greenlet that runs, among other things that it waits for.
    pub(crate) fn queue_up(&self) -> Result<Box<dyn Called + '_>, WaitError> {
        receiving().queue_up(&self.0)
    }

    /// Takes what one was called for.
    pub(crate) fn take_due(&self) -> Result<T, RecvError> {
        let mut state = lock(&self.0);
        state.due -= 1;
        state.take().ok_or(RecvError::Disconnected)
    }
}

fn receiving<T>() -> Wait<State<T>> {
    Wait {
        why: WaitsFor::QueueItem,
        line: |state| &mut state.receiving,
        pass_on: |state| {
            state.due -= 1;
            state.call_receiver();
        },
    }
}

impl<T> Clone for Receiver<T> {
    fn clone(&self) -> Receiver<T> {
        lock(&self.0).receivers += 1;
        Receiver(self.0.clone())
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        let mut state = lock(&self.0);
        state.receivers -= 1;
        if state.receivers == 0 {
            state.promised += state.sending.call_all();
            // A sender that is kept must not keep what nobody can take. Users' values go when the lock is free.
            let items = std::mem::take(&mut state.items);
            drop(state);
            drop(items);
        }
    }
}

impl<T> fmt::Debug for Receiver<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        lock(&self.0).show("Receiver", f)
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
