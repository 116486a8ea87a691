//! The waiting list: first in, first out, with removal from the middle for those who give up.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use slab::Slab;

use crate::error::WaitError;
use crate::greenlet::{Core, WaitsFor, Wake};
use crate::hub::{Hub, Moment};

/// Marks the end of the list in both directions.
const NONE: usize = usize::MAX;
/// The place of the one who waits outside the list.
const ALONE: usize = usize::MAX - 1;

/// A queue of parked greenlets. It owns memory only once two have waited at the same time.
pub(crate) struct Waiters {
    /// Came when nobody waited, and so goes first.
    alone: Option<Entry>,
    others: Option<Box<List>>,
    next_ticket: u64,
}

struct Entry {
    core: Rc<Core>,
    ticket: u64,
}

/// A doubly linked list of entries.
struct List {
    links: Slab<Link>,
    head: usize,
    tail: usize,
}

struct Link {
    entry: Entry,
    before: usize,
    after: usize,
}

/// A place in the queue. It stays unique when the slot is used again.
#[derive(Clone, Copy)]
struct Place {
    slot: usize,
    ticket: u64,
}

impl Waiters {
    pub(crate) const fn new() -> Waiters {
        Waiters { alone: None, others: None, next_ticket: 0 }
    }

    pub(crate) fn len(&self) -> usize {
        usize::from(self.alone.is_some()) + self.others.as_ref().map_or(0, |others| others.links.len())
    }

    #[inline]
    fn push(&mut self, core: Rc<Core>) -> Place {
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        let entry = Entry { core, ticket };
        let slot = match &mut self.others {
            Some(others) if self.alone.is_some() || !others.links.is_empty() => others.push(entry),
            None if self.alone.is_some() => self.others.insert(Box::default()).push(entry),
            _ => {
                self.alone = Some(entry);
                ALONE
            }
        };
        Place { slot, ticket }
    }

    /// Takes the one who has waited longest.
    #[inline]
    pub(crate) fn pop(&mut self) -> Option<Rc<Core>> {
        let first = self.alone.take().or_else(|| self.others.as_mut()?.pop());
        first.map(|entry| entry.core)
    }

    /// Makes all of them ready, in the order in which they came.
    pub(crate) fn wake_all(list: &RefCell<Waiters>, hub: &Hub) {
        while let Some(waiter) = { list.borrow_mut().pop() } {
            hub.unpark(&waiter);
        }
    }

    #[inline]
    fn contains(&self, place: Place) -> bool {
        let entry = match place.slot {
            ALONE => self.alone.as_ref(),
            slot => self.others.as_ref().and_then(|others| others.links.get(slot)).map(|link| &link.entry),
        };
        entry.is_some_and(|entry| entry.ticket == place.ticket)
    }

    /// Takes out somebody who is known to be there.
    #[inline]
    fn remove(&mut self, place: Place) -> Option<Entry> {
        match place.slot {
            ALONE => self.alone.take(),
            slot => self.others.as_mut().map(|others| others.unlink(slot)),
        }
    }
}

impl List {
    fn push(&mut self, entry: Entry) -> usize {
        let before = self.tail;
        let slot = self.links.insert(Link { entry, before, after: NONE });
        match self.links.get_mut(before) {
            Some(last) => last.after = slot,
            None => self.head = slot,
        }
        self.tail = slot;
        slot
    }

    fn pop(&mut self) -> Option<Entry> {
        (self.head != NONE).then(|| self.unlink(self.head))
    }

    fn unlink(&mut self, slot: usize) -> Entry {
        let Link { entry, before, after } = self.links.remove(slot);
        match self.links.get_mut(before) {
            Some(link) => link.after = after,
            None => self.head = after,
        }
        match self.links.get_mut(after) {
            Some(link) => link.before = before,
            None => self.tail = before,
        }
        entry
    }
}

impl Default for List {
    fn default() -> List {
        List { links: Slab::new(), head: NONE, tail: NONE }
    }
}

impl Default for Waiters {
    fn default() -> Waiters {
        Waiters::new()
    }
}

/// The greenlet that runs, in a waiting list. However the wait ends, the list forgets it.
pub(crate) struct Waiting<'a> {
    list: &'a RefCell<Waiters>,
    place: Place,
    /// Set once it is known to be off the list: it does not come back, so there is no need to look again.
    called: Cell<bool>,
}

impl<'a> Waiting<'a> {
    /// Queues the greenlet that runs.
    #[inline(always)]
    pub(crate) fn enter(list: &'a RefCell<Waiters>, hub: &Hub) -> Result<Waiting<'a>, WaitError> {
        let place = list.borrow_mut().push(hub.current()?);
        Ok(Waiting { list, place, called: Cell::new(false) })
    }

    /// Whether somebody has taken it off the list, which is how a turn is handed over.
    #[inline]
    pub(crate) fn was_called(&self) -> bool {
        if !self.called.get() {
            self.called.set(!self.list.borrow().contains(self.place));
        }
        self.called.get()
    }

    /// Parks until somebody takes the greenlet that runs off the list, or the deadline has come; then does `then`.
    ///
    /// If that does not come to a good end after it was called (it is killed before it could run, say, or in `then`),
    /// `pass_on` gives what it was called for to the next.
    #[inline(always)]
    pub(crate) fn turn<R>(
        list: &'a RefCell<Waiters>,
        why: WaitsFor,
        deadline: Option<Moment>,
        pass_on: impl Fn(),
        then: impl FnOnce() -> Result<R, WaitError>,
    ) -> Result<R, WaitError> {
        let hub = Hub::get();
        let turn = Turn { waiting: Waiting::enter(list, hub)?, taken: Cell::new(false), pass_on };
        loop {
            let wake = hub.park(why, deadline)?;
            if turn.waiting.was_called() {
                let result = then()?;
                turn.taken.set(true);
                return Ok(result);
            }
            if wake == Wake::Deadline {
                return Err(WaitError::TimedOut);
            }
        }
    }

    /// Parks until `done` holds or the deadline has come.
    #[inline]
    pub(crate) fn until(
        list: &RefCell<Waiters>,
        why: WaitsFor,
        deadline: Option<Moment>,
        done: impl Fn() -> bool,
    ) -> Result<(), WaitError> {
        let hub = Hub::get();
        while !done() {
            let _waiting = Waiting::enter(list, hub)?;
            if hub.park(why, deadline)? == Wake::Deadline && !done() {
                return Err(WaitError::TimedOut);
            }
        }
        Ok(())
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if !self.was_called() {
            let _gone = self.list.borrow_mut().remove(self.place);
        }
    }
}

/// A wait to be called. However it ends, what it was called for is taken or passed on.
struct Turn<'a, F: Fn()> {
    waiting: Waiting<'a>,
    taken: Cell<bool>,
    pass_on: F,
}

impl<F: Fn()> Drop for Turn<'_, F> {
    #[inline(always)]
    fn drop(&mut self) {
        if !self.taken.get() && self.waiting.was_called() {
            (self.pass_on)();
        }
    }
}
