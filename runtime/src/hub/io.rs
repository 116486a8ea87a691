//! Descriptors: what is known of each one's readiness, and who waits for it.
//!
//! A descriptor is registered once, edge-triggered, for both directions. An edge sets a flag; the flag stays until
//! a call has said `WouldBlock` (or a short read has shown that nothing is left). One reader and one writer may
//! wait at a time. Keys carry a generation, so that an event for a descriptor that has been closed since, whose
//! number or slot is used again, finds nobody.
//!
//! A reader is a parked greenlet, or a closure that will run in a new greenlet: what waits for long needs no stack.
//! Its deadline lies in the descriptor's slot and is watched by a lazy timer, which stays when the wait ends in time
//! and looks, when it fires, for the deadline of the wait that there is by then: a connection that is served a
//! hundred times within its timeout costs one timer and not a hundred.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::rc::Rc;
use std::time::Duration;

use slab::Slab;

use super::clock::Moment;
use super::timers::TimerKey;
use super::{Action, Hub};
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

/// Who waits for one side of a descriptor.
pub(crate) enum Waiter {
    Parked(Rc<Core>),
    /// To be run in a new greenlet, and told whether the wait ended in time.
    ToStart(Box<dyn FnOnce(bool)>),
}

impl Waiter {
    fn is(&self, core: &Rc<Core>) -> bool {
        matches!(self, Waiter::Parked(waiter) if Rc::ptr_eq(waiter, core))
    }

    /// For a report.
    fn describe(&self) -> String {
        match self {
            Waiter::Parked(core) => format!("greenlet '{}'", core.name()),
            Waiter::ToStart(_) => "a greenlet that is to start when it is ready".to_owned(),
        }
    }
}

/// What is known of one descriptor: as much as a cache line holds, and each idle connection has one.
pub(super) struct Slot {
    pub(super) fd: RawFd,
    generation: u32,
    pub(super) reader: Option<Waiter>,
    writer: Option<Rc<Core>>,
    pub(super) readable: bool,
    writable: bool,
    /// The peer is gone or there is urgent data: a short read proves nothing any more.
    hangup: bool,
    /// Until when the reader waits, if by the lazy timer; `PAST` once that has ended its wait.
    pub(super) deadline: Moment,
    /// The lazy timer, if one is pending. It is never due later than `deadline` while a reader waits by it.
    timer: Option<TimerKey>,
    /// Whether the reader's deadline is yet to be asked for.
    #[cfg(all(target_os = "linux", not(greenlet_portable)))]
    pub(super) dating: super::undated::Dating,
}

impl Slot {
    fn ready(&mut self, direction: Direction) -> &mut bool {
        match direction {
            Direction::Read => &mut self.readable,
            Direction::Write => &mut self.writable,
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
        let slot = Slot {
            fd,
            generation,
            reader: None,
            writer: None,
            readable: false,
            writable: false,
            hangup: false,
            deadline: Moment::NEVER,
            timer: None,
            #[cfg(all(target_os = "linux", not(greenlet_portable)))]
            dating: super::undated::Dating::default(),
        };
        Registration { index: self.slots.insert(slot) as u32, generation }
    }

    /// Removes a slot; returns those who waited.
    pub(crate) fn remove(&mut self, registration: Registration) -> [Option<Waiter>; 2] {
        let waiters = self.wake_both(registration);
        if self.get(registration).is_some() {
            self.slots.remove(registration.index as usize);
        }
        waiters
    }

    /// Takes both waiters out, so that they look at the descriptor again.
    pub(crate) fn wake_both(&mut self, registration: Registration) -> [Option<Waiter>; 2] {
        let Some(slot) = self.get(registration) else { return [None, None] };
        let waiters = [slot.reader.take(), slot.writer.take().map(Waiter::Parked)];
        self.waiting -= waiters.iter().flatten().count();
        waiters
    }

    /// Takes in one event; returns whom it wakes.
    pub(crate) fn event(&mut self, readiness: Readiness) -> [Option<Waiter>; 2] {
        let registration =
            Registration { index: readiness.key as u32, generation: (readiness.key >> 32) as u32 };
        let mut woken = [None, None];
        if let Some(slot) = self.get(registration) {
            slot.hangup |= readiness.hangup;
            if readiness.readable {
                slot.readable = true;
                woken[0] = slot.reader.take();
            }
            if readiness.writable {
                slot.writable = true;
                woken[1] = slot.writer.take().map(Waiter::Parked);
            }
        }
        self.waiting -= woken.iter().flatten().count();
        woken
    }

    pub(crate) fn is_ready(&mut self, registration: Registration, direction: Direction) -> bool {
        // A registration that is gone is "ready": the caller's next call tells why.
        self.get(registration).is_none_or(|slot| *slot.ready(direction))
    }

    /// A call said `WouldBlock`.
    pub(crate) fn clear_ready(&mut self, registration: Registration, direction: Direction) {
        if let Some(slot) = self.get(registration) {
            *slot.ready(direction) = false;
        }
    }

    /// A stream read returned less than it had room for: nothing is left, unless the peer's end may hide behind
    /// it: one edge may have carried both the data and the FIN, and no second one follows.
    pub(crate) fn drained(&mut self, registration: Registration) {
        if let Some(slot) = self.get(registration) {
            slot.readable = slot.hangup;
        }
    }

    /// Whether the registration still stands.
    #[cfg(all(target_os = "linux", not(greenlet_portable)))]
    pub(super) fn has(&mut self, registration: Registration) -> bool {
        self.get(registration).is_some()
    }

    /// Whether somebody waits to read, and to write.
    #[cfg(all(target_os = "linux", not(greenlet_portable)))]
    pub(super) fn waited_for(&mut self, registration: Registration) -> (bool, bool) {
        self.get(registration).map_or((false, false), |slot| (slot.reader.is_some(), slot.writer.is_some()))
    }

    /// Notes that a greenlet waits, if nobody does who waits for the same side; false if somebody does.
    #[cfg(all(target_os = "linux", not(greenlet_portable)))]
    pub(super) fn set_parked(
        &mut self,
        registration: Registration,
        direction: Direction,
        core: &Rc<Core>,
    ) -> bool {
        let Some(slot) = self.get(registration) else { return true };
        let is_free = match direction {
            Direction::Read => slot.reader.is_none(),
            Direction::Write => slot.writer.is_none(),
        };
        if is_free {
            match direction {
                Direction::Read => slot.reader = Some(Waiter::Parked(core.clone())),
                Direction::Write => slot.writer = Some(core.clone()),
            }
            self.waiting += 1;
        }
        is_free
    }

    /// Notes who waits to read. When another already does, the waiter comes back with the error, to be dropped where the
    /// table is not borrowed: its destructors may come here.
    fn set_reader(&mut self, registration: Registration, waiter: Waiter) -> Result<(), (io::Error, Waiter)> {
        let Some(slot) = self.get(registration) else { return Ok(()) };
        if let Some(other) = &slot.reader {
            return Err((busy(slot.fd, Direction::Read, &waiter, other), waiter));
        }
        slot.reader = Some(waiter);
        self.waiting += 1;
        Ok(())
    }

    /// As [`set_reader`](Self::set_reader), to write.
    fn set_writer(&mut self, registration: Registration, core: &Rc<Core>) -> io::Result<()> {
        let Some(slot) = self.get(registration) else { return Ok(()) };
        if let Some(other) = &slot.writer {
            let (waiter, other) = (Waiter::Parked(core.clone()), Waiter::Parked(other.clone()));
            return Err(busy(slot.fd, Direction::Write, &waiter, &other));
        }
        slot.writer = Some(core.clone());
        self.waiting += 1;
        Ok(())
    }

    /// `core` no longer waits.
    pub(crate) fn unset_waiter(&mut self, registration: Registration, direction: Direction, core: &Rc<Core>) {
        let Some(slot) = self.get(registration) else { return };
        let was_waiting = match direction {
            Direction::Read => slot.reader.take_if(|waiter| waiter.is(core)).is_some(),
            Direction::Write => slot.writer.take_if(|waiter| Rc::ptr_eq(waiter, core)).is_some(),
        };
        if was_waiting {
            self.waiting -= 1;
        }
    }

    /// The lazy timer has fired at `now`: takes the reader out if its deadline has come; else gives the moment at which
    /// to look again, if there is a reader who waits by it.
    fn due(&mut self, registration: Registration, now: Moment) -> Due {
        let Some(slot) = self.get(registration) else { return Due::Nobody };
        slot.timer = None;
        if slot.reader.is_none() || slot.deadline == Moment::NEVER {
            return Due::Nobody;
        }
        if slot.deadline > now {
            return Due::Later(slot.deadline);
        }
        slot.deadline = Moment::PAST;
        match slot.reader.take() {
            Some(waiter) => {
                self.waiting -= 1;
                Due::Now(waiter)
            }
            None => Due::Nobody,
        }
    }

    /// How many wait for a descriptor.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting
    }

    /// The descriptors that are registered.
    pub(crate) fn descriptors(&self) -> impl Iterator<Item = RawFd> {
        self.slots.iter().map(|(_, slot)| slot.fd)
    }

    /// The descriptors that are registered, each with its key.
    pub(super) fn registered(&self) -> impl Iterator<Item = (RawFd, usize)> {
        self.slots.iter().map(|(index, slot)| {
            (slot.fd, Registration { index: index as u32, generation: slot.generation }.key())
        })
    }

    /// How many descriptors are registered.
    pub(crate) fn len(&self) -> usize {
        self.slots.len()
    }

    pub(super) fn get(&mut self, registration: Registration) -> Option<&mut Slot> {
        self.slots
            .get_mut(registration.index as usize)
            .filter(|slot| slot.generation == registration.generation)
    }
}

/// What the lazy timer has found.
enum Due {
    Nobody,
    Later(Moment),
    Now(Waiter),
}

#[cold]
fn busy(fd: RawFd, direction: Direction, waiter: &Waiter, other: &Waiter) -> io::Error {
    let verb = match direction {
        Direction::Read => "read from",
        Direction::Write => "write to",
    };
    io::Error::new(
        io::ErrorKind::ResourceBusy,
        format!(
            "{} cannot wait to {verb} descriptor {fd}: {} already does; let one greenlet do it, or give each its \
             own socket (try_clone)",
            waiter.describe(),
            other.describe()
        ),
    )
}

impl Hub {
    /// Registers a descriptor, for both directions, edge-triggered.
    pub(crate) fn register(&self, fd: BorrowedFd<'_>) -> io::Result<Registration> {
        #[cfg(all(target_os = "linux", not(greenlet_portable)))]
        self.foreign_evict(fd);
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

    /// Forgets the registration of a descriptor that is about to be closed. Greenlets that waited on it wake, what was to
    /// start never will. If nobody else has the open file the kernel forgets it by itself; if it is `shared`, or the
    /// process has forked, the poller is told.
    pub(crate) fn deregister(&self, registration: Registration, fd: BorrowedFd<'_>, shared: bool) {
        self.set_deadline(registration, None);
        let waiters = self.io.borrow_mut().remove(registration);
        if let (true, Some(poll)) = (shared || self.forked.get(), &*self.poll.borrow()) {
            // It fails only if the kernel has dropped the registration already.
            let _ = poll.delete(fd);
        }
        for waiter in waiters.into_iter().flatten() {
            if let Waiter::Parked(core) = waiter {
                self.unpark(&core);
            }
        }
    }

    /// Wakes who waits on a descriptor, so that they look again.
    pub(crate) fn wake_waiters(&self, registration: Registration) {
        let waiters = self.io.borrow_mut().wake_both(registration);
        waiters.into_iter().flatten().for_each(|waiter| self.wake(waiter, true));
    }

    /// Makes ready who has waited.
    #[inline]
    pub(crate) fn wake(&self, waiter: Waiter, in_time: bool) {
        match waiter {
            Waiter::Parked(core) => self.unpark(&core),
            Waiter::ToStart(f) => drop(crate::greenlet::spawn(move || f(in_time))),
        }
    }

    /// Has somebody wait to read.
    #[inline]
    fn queue_reader(&self, registration: Registration, waiter: Waiter) -> io::Result<()> {
        let result = self.io.borrow_mut().set_reader(registration, waiter);
        result.map_err(|(error, _waiter)| error)
    }

    /// Has the greenlet that runs wait, for as long as what is returned lives, until it parks and is woken.
    ///
    /// # Errors
    /// `ResourceBusy` when another greenlet waits for the same side of the descriptor.
    #[inline]
    pub(crate) fn queue_for_io(
        &'static self,
        registration: Registration,
        direction: Direction,
    ) -> io::Result<IoWait> {
        let core = self.current()?;
        match direction {
            Direction::Read => self.queue_reader(registration, Waiter::Parked(core.clone()))?,
            Direction::Write => self.io.borrow_mut().set_writer(registration, &core)?,
        }
        Ok(IoWait { hub: self, registration, direction, core })
    }

    /// Parks until the descriptor is ready, or until somebody else wants it looked at again.
    ///
    /// # Errors
    /// `ResourceBusy` when another greenlet waits for the same side of it; `TimedOut`; and those of
    /// [`park`](Self::park).
    #[inline]
    pub(crate) fn wait_io(
        &'static self,
        registration: Registration,
        direction: Direction,
        why: WaitsFor,
        deadline: Option<Moment>,
    ) -> io::Result<()> {
        if self.io.borrow_mut().is_ready(registration, direction) {
            return Ok(());
        }
        let _waiting = self.queue_for_io(registration, direction)?;
        match self.park(why, deadline)? {
            Wake::Event => Ok(()),
            // What arrived in the same moment as the deadline is taken.
            Wake::Deadline if self.io.borrow_mut().is_ready(registration, direction) => Ok(()),
            Wake::Deadline => Err(WaitError::TimedOut.into()),
        }
    }

    /// Parks until the descriptor is readable, somebody wants it looked at again, or `after` is over. In most cases no
    /// timer is touched.
    ///
    /// # Errors
    /// As [`wait_io`](Self::wait_io).
    pub(crate) fn wait_readable(
        &'static self,
        registration: Registration,
        why: WaitsFor,
        after: Option<Duration>,
    ) -> io::Result<()> {
        let direction = Direction::Read;
        if self.io.borrow_mut().is_ready(registration, direction) {
            return Ok(());
        }
        let _waiting = self.queue_for_io(registration, direction)?;
        self.set_deadline(registration, after.and_then(|after| self.clock.deadline(after)));
        self.park(why, None)?;
        let mut io = self.io.borrow_mut();
        match io.get(registration) {
            Some(slot) if slot.deadline == Moment::PAST && !slot.readable => Err(WaitError::TimedOut.into()),
            _ => Ok(()),
        }
    }

    /// Has `f` run in a new greenlet as soon as the descriptor is readable, somebody wants it looked at again (it is
    /// told true), or the deadline has come (false).
    ///
    /// # Errors
    /// `ResourceBusy` when somebody else waits for the same side of it; `f` is dropped then.
    pub(crate) fn start_when_readable(
        &self,
        registration: Registration,
        deadline: Option<Moment>,
        f: Box<dyn FnOnce(bool)>,
    ) -> io::Result<()> {
        let waiter = Waiter::ToStart(f);
        if self.io.borrow_mut().is_ready(registration, Direction::Read) {
            self.wake(waiter, true);
            return Ok(());
        }
        self.queue_reader(registration, waiter)?;
        self.set_deadline(registration, deadline);
        Ok(())
    }

    /// Notes until when the reader waits, and sees to it that a timer is pending which is due no later.
    pub(super) fn set_deadline(&self, registration: Registration, deadline: Option<Moment>) {
        let mut io = self.io.borrow_mut();
        let Some(slot) = io.get(registration) else { return };
        slot.deadline = deadline.unwrap_or(Moment::NEVER);
        let mut timers = self.timers.borrow_mut();
        let pending = slot.timer.and_then(|key| timers.due_at(key));
        let keep = match (deadline, pending) {
            (Some(deadline), Some(at)) => at <= deadline,
            (None, pending) => pending.is_none(),
            (Some(_), None) => false,
        };
        if !keep {
            slot.timer.take().map(|key| timers.remove(key));
            slot.timer = deadline.map(|at| timers.insert(at, Action::Readable(registration)));
        }
    }

    /// A lazy timer has fired.
    pub(crate) fn readable_due(&self, registration: Registration, now: Moment) {
        let due = self.io.borrow_mut().due(registration, now);
        match due {
            Due::Nobody => {}
            Due::Now(waiter) => self.wake(waiter, false),
            Due::Later(at) => {
                let key = self.timers.borrow_mut().insert(at, Action::Readable(registration));
                if let Some(slot) = self.io.borrow_mut().get(registration) {
                    slot.timer = Some(key);
                }
            }
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
pub(crate) struct IoWait {
    hub: &'static Hub,
    registration: Registration,
    direction: Direction,
    core: Rc<Core>,
}

impl Drop for IoWait {
    fn drop(&mut self) {
        self.hub.io.borrow_mut().unset_waiter(self.registration, self.direction, &self.core);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_known_of_a_descriptor_fits_in_a_cache_line() {
        assert!(size_of::<Slot>() <= 64);
    }
}
