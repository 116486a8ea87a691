//! Descriptors: what is known of each one's readiness, and which greenlet waits for it.
//!
//! A descriptor is registered once, edge-triggered, for both directions. An edge sets a flag; the flag stays until
//! a call has said `WouldBlock` (or a short read has shown that nothing is left). One reader and one writer may
//! wait at a time. Keys carry a generation, so that an event for a descriptor that has been closed since, whose
//! number or slot is used again, finds nobody.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::rc::Rc;

use slab::Slab;

use super::Hub;
use super::clock::Moment;
use crate::error::WaitError;
use crate::greenlet::{Core, WaitsFor, Wake};
use crate::sys::Readiness;

/// Which side of a descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    Read,
    Write,
}

/// Names one registration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Registration {
    index: u32,
    generation: u32,
}

// Slot and generation share the poller's key.
const _: () = assert!(usize::BITS == 64, "greenlet needs a 64-bit system");

impl Registration {
    pub(crate) fn key(self) -> usize {
        (self.generation as usize) << 32 | self.index as usize
    }
}

#[derive(Default)]
struct Side {
    ready: bool,
    waiter: Option<Rc<Core>>,
}

struct Slot {
    fd: RawFd,
    generation: u32,
    read: Side,
    write: Side,
    /// The peer is gone or there is urgent data: a short read proves nothing any more.
    hangup: bool,
}

impl Slot {
    fn side(&mut self, direction: Direction) -> &mut Side {
        match direction {
            Direction::Read => &mut self.read,
            Direction::Write => &mut self.write,
        }
    }
}

/// All registrations of a hub.
pub(crate) struct IoTable {
    slots: Slab<Slot>,
    generation: u32,
    waiting: usize,
}

impl IoTable {
    pub(crate) fn new() -> IoTable {
        IoTable { slots: Slab::new(), generation: 0, waiting: 0 }
    }

    /// Makes a slot for `fd`. Its flags are down: the poller reports what is ready as soon as it is asked.
    pub(crate) fn insert(&mut self, fd: RawFd) -> Registration {
        // Below 2^31, so that no key can be the poller's reserved one.
        self.generation = (self.generation + 1) & (u32::MAX >> 1);
        let generation = self.generation;
        let slot = Slot { fd, generation, read: Side::default(), write: Side::default(), hangup: false };
        Registration { index: self.slots.insert(slot) as u32, generation }
    }

    /// Removes a slot; returns those who waited.
    pub(crate) fn remove(&mut self, registration: Registration) -> [Option<Rc<Core>>; 2] {
        let waiters = self.wake_both(registration);
        if self.get(registration).is_some() {
            self.slots.remove(registration.index as usize);
        }
        waiters
    }

    /// Takes both waiters out, so that they look at the descriptor again.
    pub(crate) fn wake_both(&mut self, registration: Registration) -> [Option<Rc<Core>>; 2] {
        let Some(slot) = self.get(registration) else { return [None, None] };
        let waiters = [slot.read.waiter.take(), slot.write.waiter.take()];
        self.waiting -= waiters.iter().flatten().count();
        waiters
    }

    /// Takes in one event; returns whom it wakes.
    pub(crate) fn event(&mut self, readiness: Readiness) -> [Option<Rc<Core>>; 2] {
        let registration =
            Registration { index: readiness.key as u32, generation: (readiness.key >> 32) as u32 };
        let mut woken = [None, None];
        if let Some(slot) = self.get(registration) {
            slot.hangup |= readiness.hangup;
            if readiness.readable {
                slot.read.ready = true;
                woken[0] = slot.read.waiter.take();
            }
            if readiness.writable {
                slot.write.ready = true;
                woken[1] = slot.write.waiter.take();
            }
        }
        self.waiting -= woken.iter().flatten().count();
        woken
    }

    pub(crate) fn is_ready(&mut self, registration: Registration, direction: Direction) -> bool {
        // A registration that is gone is "ready": the caller's next call tells why.
        self.get(registration).is_none_or(|slot| slot.side(direction).ready)
    }

    /// A call said `WouldBlock`.
    pub(crate) fn clear_ready(&mut self, registration: Registration, direction: Direction) {
        if let Some(slot) = self.get(registration) {
            slot.side(direction).ready = false;
        }
    }

    /// A stream read returned less than it had room for: nothing is left, unless the peer's end may hide behind
    /// it: one edge may have carried both the data and the FIN, and no second one follows.
    pub(crate) fn drained(&mut self, registration: Registration) {
        if let Some(slot) = self.get(registration) {
            slot.read.ready = slot.hangup;
        }
    }

    /// Notes that `core` waits; an error when another greenlet already does.
    pub(crate) fn set_waiter(
        &mut self,
        registration: Registration,
        direction: Direction,
        core: &Rc<Core>,
    ) -> io::Result<()> {
        let Some(slot) = self.get(registration) else { return Ok(()) };
        let fd = slot.fd;
        let side = slot.side(direction);
        if let Some(other) = &side.waiter {
            let verb = match direction {
                Direction::Read => "read from",
                Direction::Write => "write to",
            };
            return Err(io::Error::new(
                io::ErrorKind::ResourceBusy,
                format!(
                    "greenlet '{}' cannot wait to {verb} descriptor {fd}: greenlet '{}' already does; let one \
                     greenlet do it, or give each its own socket (try_clone)",
                    core.name(),
                    other.name()
                ),
            ));
        }
        side.waiter = Some(core.clone());
        self.waiting += 1;
        Ok(())
    }

    /// `core` no longer waits.
    pub(crate) fn unset_waiter(&mut self, registration: Registration, direction: Direction, core: &Rc<Core>) {
        let Some(slot) = self.get(registration) else { return };
        let side = slot.side(direction);
        if side.waiter.as_ref().is_some_and(|waiter| Rc::ptr_eq(waiter, core)) {
            side.waiter = None;
            self.waiting -= 1;
        }
    }

    /// How many greenlets wait for a descriptor.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting
    }

    /// How many descriptors are registered.
    pub(crate) fn len(&self) -> usize {
        self.slots.len()
    }

    fn get(&mut self, registration: Registration) -> Option<&mut Slot> {
        self.slots
            .get_mut(registration.index as usize)
            .filter(|slot| slot.generation == registration.generation)
    }
}

impl Hub {
    /// Registers a descriptor, for both directions, edge-triggered.
    pub(crate) fn register(&self, fd: BorrowedFd<'_>) -> io::Result<Registration> {
        let registration = self.io.borrow_mut().insert(fd.as_raw_fd());
        let added = match &*self.poll.borrow() {
            Some(poll) => poll.add(fd, registration.key()),
            None => Err(WaitError::NoHub.into()),
        };
        if added.is_err() {
            self.io.borrow_mut().remove(registration);
        }
        added.map(|()| registration)
    }

    /// Forgets a registration and wakes who waited on it. With `delete` the poller is told; without, the
    /// descriptor is about to be closed and nobody else has the open file, so the kernel forgets it by itself.
    pub(crate) fn deregister(&self, registration: Registration, delete: Option<BorrowedFd<'_>>) {
        let waiters = self.io.borrow_mut().remove(registration);
        if let (Some(fd), Some(poll)) = (delete, &*self.poll.borrow()) {
            // It fails only if the kernel has dropped the registration already.
            let _ = poll.delete(fd);
        }
        waiters.iter().flatten().for_each(|core| self.unpark(core));
    }

    /// Wakes who waits on a descriptor, so that they look again.
    pub(crate) fn wake_waiters(&self, registration: Registration) {
        let waiters = self.io.borrow_mut().wake_both(registration);
        waiters.iter().flatten().for_each(|core| self.unpark(core));
    }

    /// Parks until the descriptor is ready, or until somebody else wants it looked at again.
    ///
    /// # Errors
    /// `ResourceBusy` when another greenlet waits for the same side of it; `TimedOut`; and those of
    /// [`park`](Self::park).
    #[inline]
    pub(crate) fn wait_io(
        &self,
        registration: Registration,
        direction: Direction,
        why: WaitsFor,
        deadline: Option<Moment>,
    ) -> io::Result<()> {
        if self.io.borrow_mut().is_ready(registration, direction) {
            return Ok(());
        }
        let core = self.current()?;
        self.io.borrow_mut().set_waiter(registration, direction, &core)?;
        let _waiting = IoWait { hub: self, registration, direction, core: &core };
        match self.park(why, deadline)? {
            Wake::Event => Ok(()),
            // What arrived in the same moment as the deadline is taken.
            Wake::Deadline if self.io.borrow_mut().is_ready(registration, direction) => Ok(()),
            Wake::Deadline => Err(WaitError::TimedOut.into()),
        }
    }

    pub(crate) fn clear_ready(&self, registration: Registration, direction: Direction) {
        self.io.borrow_mut().clear_ready(registration, direction);
    }

    pub(crate) fn drained(&self, registration: Registration) {
        self.io.borrow_mut().drained(registration);
    }

    pub(crate) fn is_ready(&self, registration: Registration, direction: Direction) -> bool {
        self.io.borrow_mut().is_ready(registration, direction)
    }
}

/// Takes a waiter off its descriptor when the wait ends, however it ends.
struct IoWait<'a> {
    hub: &'a Hub,
    registration: Registration,
    direction: Direction,
    core: &'a Rc<Core>,
}

impl Drop for IoWait<'_> {
    fn drop(&mut self) {
        self.hub.io.borrow_mut().unset_waiter(self.registration, self.direction, self.core);
    }
}
