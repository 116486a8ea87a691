//! The waiting line that several threads share, and how one waits in it: parked by a hub, or as a thread.
//!
//! A line is part of some state behind a `std` lock, which is held for moments and never across a wait.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use crate::error::WaitError;
use crate::greenlet::{WaitsFor, Wake};
use crate::hub::{Hub, Moment, RemoteWaker};

/// Those who wait, by the number they drew.
#[derive(Default)]
pub(super) struct Line {
    waiting: BTreeMap<u64, Waker>,
    next: u64,
}

impl Line {
    pub(super) const fn new() -> Line {
        Line { waiting: BTreeMap::new(), next: 0 }
    }

    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Calls the one who has waited longest; false when nobody waits. One whose hub is gone is passed over.
    pub(super) fn call_next(&mut self) -> bool {
        while let Some((_, waker)) = self.waiting.pop_first() {
            if waker.wake() {
                return true;
            }
        }
        false
    }

    /// Calls all, in the order in which they came; returns how many.
    pub(super) fn call_all(&mut self) -> usize {
        std::iter::from_fn(|| self.call_next().then_some(())).count()
    }

    /// The number that the next to join draws.
    pub(super) fn next_ticket(&self) -> u64 {
        self.next
    }

    /// Calls the one who drew this number, if it still waits.
    pub(super) fn call(&mut self, ticket: u64) {
        self.waiting.remove(&ticket).map(Waker::wake);
    }

    fn join(&mut self, waker: Waker) -> u64 {
        let ticket = self.next;
        self.next += 1;
        self.waiting.insert(ticket, waker);
        ticket
    }
}

/// What a line is part of: what its lock protects is whole whenever the lock is free, whoever panics.
pub(super) fn lock<S>(state: &Mutex<S>) -> MutexGuard<'_, S> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What one waits for, and in which line.
pub(super) struct Wait<S> {
    pub(super) why: WaitsFor,
    pub(super) line: fn(&mut S) -> &mut Line,
    /// What was handed over goes to the next: the one who was called for it is killed.
    pub(super) pass_on: fn(&mut S),
}

impl<S> Wait<S> {
    /// Tries `at_once`; if that gives nothing, waits in the line until called, and returns what `called` gives. The
    /// lock stays taken from `at_once` until the caller is in the line.
    pub(super) fn wait<R>(
        &self,
        state: &Mutex<S>,
        timeout: Option<Duration>,
        at_once: impl FnOnce(&mut S) -> Option<R>,
        called: impl FnOnce(&mut S) -> R,
    ) -> Result<R, WaitError> {
        let mut locked = lock(state);
        if let Some(result) = at_once(&mut locked) {
            return Ok(result);
        }
        let sleeper = Sleeper::new(timeout);
        let ticket = (self.line)(&mut locked).join(sleeper.waker()?);
        drop(locked);
        let place = self.place(state, ticket);
        loop {
            let wake = sleeper.sleep(self.why)?;
            let mut locked = lock(state);
            if !(self.line)(&mut locked).waiting.contains_key(&ticket) {
                place.ticket.set(None);
                return Ok(called(&mut locked));
            }
            if wake == Wake::Deadline {
                drop(locked);
                return Err(WaitError::TimedOut);
            }
        }
    }

    /// Queues the greenlet that runs, among other things that it waits for. What has come since it looked last came to
    /// nobody: it is to look once more before it parks.
    pub(super) fn queue_up<'a>(&self, state: &'a Mutex<S>) -> Result<Box<dyn Called + 'a>, WaitError> {
        let waker = Waker::Greenlet(Hub::get().remote_waker()?);
        let ticket = (self.line)(&mut lock(state)).join(waker);
        Ok(Box::new(self.place(state, ticket)))
    }

    fn place<'a>(&self, state: &'a Mutex<S>, ticket: u64) -> Place<'a, S> {
        Place { line: self.line, pass_on: self.pass_on, state, ticket: Cell::new(Some(ticket)) }
    }
}

/// A place in the line of some state.
pub(crate) trait Called {
    /// Whether somebody has called; what for is the caller's own then.
    fn take(&self) -> bool;
}

impl<S> Called for Place<'_, S> {
    fn take(&self) -> bool {
        let Some(ticket) = self.ticket.get() else { return false };
        let called = !(self.line)(&mut lock(self.state)).waiting.contains_key(&ticket);
        if called {
            self.ticket.set(None);
        }
        called
    }
}

/// A place in a line. However the wait ends, the line forgets it, or what it was called for goes on.
struct Place<'a, S> {
    line: fn(&mut S) -> &mut Line,
    pass_on: fn(&mut S),
    state: &'a Mutex<S>,
    /// `None` once what it waited for is its own.
    ticket: Cell<Option<u64>>,
}

impl<S> Drop for Place<'_, S> {
    fn drop(&mut self) {
        let Some(ticket) = self.ticket.get() else { return };
        let mut locked = lock(self.state);
        let still_there = (self.line)(&mut locked).waiting.remove(&ticket);
        if still_there.is_none() {
            (self.pass_on)(&mut locked);
        }
    }
}

/// How the caller waits.
pub(crate) enum Sleeper {
    Greenlet(&'static Hub, Option<Moment>),
    Thread(Option<Instant>),
}

impl Sleeper {
    pub(crate) fn new(timeout: Option<Duration>) -> Sleeper {
        match Hub::existing() {
            Some(hub) => Sleeper::Greenlet(hub, timeout.and_then(|timeout| hub.deadline(timeout))),
            None => Sleeper::Thread(timeout.and_then(|timeout| Instant::now().checked_add(timeout))),
        }
    }

    pub(crate) fn waker(&self) -> Result<Waker, WaitError> {
        Ok(match self {
            Sleeper::Greenlet(hub, _) => Waker::Greenlet(hub.remote_waker()?),
            Sleeper::Thread(_) => Waker::Thread(thread::current()),
        })
    }

    /// Waits to be woken; may return early.
    pub(crate) fn sleep(&self, why: WaitsFor) -> Result<Wake, WaitError> {
        match self {
            Sleeper::Greenlet(hub, deadline) => hub.park(why, *deadline),
            Sleeper::Thread(None) => {
                thread::park();
                Ok(Wake::Event)
            }
            Sleeper::Thread(Some(deadline)) => {
                let left = deadline.saturating_duration_since(Instant::now());
                if left.is_zero() {
                    return Ok(Wake::Deadline);
                }
                thread::park_timeout(left);
                Ok(Wake::Event)
            }
        }
    }
}

/// How one who waits is woken, from any thread.
pub(crate) enum Waker {
    Greenlet(RemoteWaker),
    Thread(Thread),
}

impl Waker {
    /// False when there is nobody left to wake.
    pub(crate) fn wake(self) -> bool {
        match self {
            Waker::Greenlet(waker) => waker.wake(),
            Waker::Thread(thread) => {
                thread.unpark();
                true
            }
        }
    }
}
