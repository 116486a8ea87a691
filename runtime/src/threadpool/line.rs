//! Greenlets of any hub that wait for a change of something behind a mutex.

use std::cell::Cell;
use std::collections::VecDeque;
use std::sync::Mutex;

use super::lock;
use crate::error::WaitError;
use crate::greenlet::{WaitsFor, Wake};
use crate::hub::{Hub, Moment, RemoteWaker};

/// A waiting line: first come, first served. It lies behind the mutex whose contents are waited for.
pub(super) struct Line {
    entries: VecDeque<Entry>,
    next_ticket: u64,
}

struct Entry {
    ticket: u64,
    /// `None` once it has been woken and has not looked yet.
    waker: Option<RemoteWaker>,
}

impl Line {
    pub(super) const fn new() -> Line {
        Line { entries: VecDeque::new(), next_ticket: 0 }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Has the first look again. It keeps its place until it leaves by itself.
    pub(super) fn wake_first(&mut self) {
        if let Some(waker) = self.entries.front_mut().and_then(|entry| entry.waker.take()) {
            waker.wake();
        }
    }

    /// Has all look again.
    pub(super) fn wake_all(&mut self) {
        for waker in self.entries.iter_mut().filter_map(|entry| entry.waker.take()) {
            waker.wake();
        }
    }

    /// Puts the greenlet at the end, or, if it has a ticket, has it woken once more.
    fn wait(&mut self, ticket: Option<u64>, waker: RemoteWaker) -> u64 {
        match self.entries.iter_mut().find(|entry| Some(entry.ticket) == ticket) {
            Some(entry) => {
                entry.waker = Some(waker);
                entry.ticket
            }
            None => {
                let ticket = self.next_ticket;
                self.next_ticket += 1;
                self.entries.push_back(Entry { ticket, waker: Some(waker) });
                ticket
            }
        }
    }

    fn is_turn(&self, ticket: Option<u64>) -> bool {
        self.entries.front().is_none_or(|first| Some(first.ticket) == ticket)
    }

    /// Gives a place up. The next one in front may have missed its call.
    fn leave(&mut self, ticket: u64) {
        if self.is_turn(Some(ticket)) {
            self.entries.pop_front();
            self.wake_first();
        } else {
            self.entries.retain(|entry| entry.ticket != ticket);
        }
    }
}

/// Parks the greenlet that runs until `ready` gives something. It is asked under the lock, and told whether it is the
/// caller's turn, that is, nobody stands before it in the line.
pub(super) fn wait<S, R>(
    state: &Mutex<S>,
    line: fn(&mut S) -> &mut Line,
    deadline: Option<Moment>,
    mut ready: impl FnMut(&mut S, bool) -> Option<R>,
) -> Result<R, WaitError> {
    let place = Place { state, line, ticket: Cell::new(None) };
    let mut late = false;
    loop {
        {
            let mut state = lock(state);
            let is_turn = line(&mut state).is_turn(place.ticket.get());
            if let Some(result) = ready(&mut state, is_turn) {
                return Ok(result);
            }
            if late {
                return Err(WaitError::TimedOut);
            }
            let waker = Hub::get().remote_waker()?;
            place.ticket.set(Some(line(&mut state).wait(place.ticket.get(), waker)));
        }
        late = Hub::get().park(WaitsFor::Thread, deadline)? == Wake::Deadline;
    }
}

/// A greenlet's place in a line, given up however its wait ends.
struct Place<'a, S> {
    state: &'a Mutex<S>,
    line: fn(&mut S) -> &mut Line,
    ticket: Cell<Option<u64>>,
}

impl<S> Drop for Place<'_, S> {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket.get() {
            (self.line)(&mut lock(self.state)).leave(ticket);
        }
    }
}
