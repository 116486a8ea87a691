//! One thread's handlers, and how its hub comes to run them.

use std::cell::RefCell;
use std::io;
use std::os::fd::AsFd;
use std::rc::Rc;
use std::sync::MutexGuard;

use super::mailbox::{Dispositions, Mailbox};
use super::{Arrived, Signal};
use crate::greenlet::Builder;
use crate::hub::{Direction, Hub, Registration};

/// Who gets a signal.
#[derive(Clone)]
pub(super) enum Taker {
    /// Runs in a greenlet of its own.
    Start(Rc<dyn Fn()>),
    /// Is told.
    Note(Rc<Arrived>),
}

/// There is one while the thread has any handler.
struct Room {
    hub: &'static Hub,
    mailbox: &'static Mailbox,
    registration: Registration,
    entries: Vec<Entry>,
}

struct Entry {
    id: u64,
    signal: Signal,
    taker: Taker,
}

thread_local! {
    static ROOM: RefCell<Option<Room>> = const { RefCell::new(None) };
    static NEXT_ID: std::cell::Cell<u64> = const { std::cell::Cell::new(0) };
}

/// An entry in this thread's room; dropping it takes the entry out.
pub(super) struct Subscription {
    id: u64,
    signal: Signal,
    /// Rooms belong to their thread.
    _not_send: std::marker::PhantomData<*const ()>,
}

pub(super) fn subscribe(signal: Signal, taker: Taker) -> io::Result<Subscription> {
    if !signal.can_be_handled() {
        let what = format!("{signal} cannot be handled: it is a fault's, or the kernel keeps it for itself");
        return Err(io::Error::new(io::ErrorKind::InvalidInput, what));
    }
    ROOM.with(|room| {
        let is_open = room.borrow().is_some();
        if !is_open {
            let opened = Room::open()?;
            let registration = opened.registration;
            *room.borrow_mut() = Some(opened);
            arm(Hub::try_get()?, registration)?;
        }
        let acquired = Dispositions::lock().acquire(signal);
        let mut borrowed = room.borrow_mut();
        if let (Ok(()), Some(room)) = (&acquired, &mut *borrowed) {
            let id = NEXT_ID.get();
            NEXT_ID.set(id + 1);
            room.entries.push(Entry { id, signal, taker });
            room.mailbox.want(signal);
            return Ok(Subscription { id, signal, _not_send: std::marker::PhantomData });
        }
        let emptied = borrowed.take_if(|room| room.entries.is_empty());
        drop(borrowed);
        drop(emptied);
        Err(acquired.err().unwrap_or_else(|| io::ErrorKind::InvalidInput.into()))
    })
}

impl Subscription {
    pub(super) fn signal(&self) -> Signal {
        self.signal
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        // While the thread exits the room may be gone, and all its entries with it.
        let taken = ROOM.try_with(|cell| {
            let mut borrowed = cell.borrow_mut();
            let room = borrowed.as_mut()?;
            let place = room.entries.iter().position(|entry| entry.id == self.id)?;
            let entry = room.entries.remove(place);
            if !room.entries.iter().any(|entry| entry.signal == self.signal) {
                room.mailbox.want_no_more(self.signal);
            }
            Dispositions::lock().release(self.signal);
            let emptied = borrowed.take_if(|room| room.entries.is_empty());
            Some((entry, emptied))
        });
        // A user's closure: its destructor may come here again.
        drop(taken);
    }
}

impl Room {
    fn open() -> io::Result<Room> {
        let hub = Hub::try_get()?;
        let mailbox = Mailbox::take()?;
        match hub.register(mailbox.as_fd()) {
            Ok(registration) => Ok(Room { hub, mailbox, registration, entries: Vec::new() }),
            Err(error) => {
                mailbox.give_back();
                Err(error)
            }
        }
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        for entry in &self.entries {
            self.mailbox.want_no_more(entry.signal);
            Dispositions::lock().release(entry.signal);
        }
        self.hub.deregister(self.registration, self.mailbox.as_fd(), true);
        self.mailbox.give_back();
    }
}

/// Has the room looked at when its mailbox is next raised. Waiting takes neither a greenlet nor a stack.
fn arm(hub: &Hub, registration: Registration) -> io::Result<()> {
    let look = Look { registration };
    hub.start_when_readable(registration, None, Box::new(move |_| drop(look)))
}

/// Looks at the room when it is dropped: by the greenlet that was started for it, or in its stead if that is killed before
/// it has begun.
struct Look {
    registration: Registration,
}

impl Drop for Look {
    fn drop(&mut self) {
        // Nothing when the room has been closed since, or while the thread exits.
        let found = ROOM.try_with(|room| {
            let room = room.borrow();
            let room = room.as_ref().filter(|room| room.registration == self.registration)?;
            room.hub.hold()?;
            room.hub.clear_ready(room.registration, Direction::Read);
            Some((room.hub, room.mailbox.collect()))
        });
        let Ok(Some((hub, arrived))) = found else { return };
        if let Err(error) = arm(hub, self.registration) {
            log::error!("signals are not handled any more on this thread: {error}");
        }
        for signal in Signal::in_set(arrived) {
            deliver(signal);
        }
    }
}

fn deliver(signal: Signal) {
    let takers = ROOM.try_with(|room| {
        let room = room.borrow();
        let entries = room.iter().flat_map(|room| &room.entries);
        entries.filter(|entry| entry.signal == signal).map(|entry| entry.taker.clone()).collect::<Vec<_>>()
    });
    for taker in takers.unwrap_or_default() {
        match taker {
            Taker::Note(arrived) => arrived.add(signal),
            Taker::Start(f) => {
                let started = Builder::new().name(format!("on {signal}")).spawn(move || f());
                if let Err(error) = started {
                    log::error!("a handler of {signal} cannot start: {error}");
                }
            }
        }
    }
}

/// What no other thread may hold while the process forks.
pub(crate) struct BeforeFork(MutexGuard<'static, Dispositions>);

impl BeforeFork {
    pub(crate) fn new() -> BeforeFork {
        BeforeFork(Dispositions::lock())
    }

    /// This thread's handlers are all there are.
    pub(crate) fn in_child(mut self) -> io::Result<()> {
        ROOM.with(|room| {
            let room = room.borrow();
            let entries = room.iter().flat_map(|room| &room.entries);
            self.0.keep_only(room.as_ref().map(|room| room.mailbox), entries.map(|entry| entry.signal))
        })
    }
}
