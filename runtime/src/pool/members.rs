//! Who belongs to a group or a pool.

use std::cell::{Cell, RefCell};
use std::time::Duration;

use slab::Slab;

use crate::error::{JoinError, Panic, WaitError};
use crate::greenlet::{End, GreenletRef, WaitsFor, current};
use crate::hub::{Hub, Moment};
use crate::sync::{Waiters, Waiting};
use crate::unwind::catch_panic;

/// The places of a group or a pool, and the greenlets in them.
pub(super) struct Members {
    places: RefCell<Slab<Option<GreenletRef>>>,
    /// Who waits for it to become empty.
    joiners: RefCell<Waiters>,
    /// The first panic that nobody has been told of.
    failure: RefCell<Option<Panic>>,
    /// Places whose greenlet has been discarded: kept until it ends, so that nobody else gets their number.
    discarded: Cell<usize>,
}

impl Members {
    pub(super) fn new() -> Members {
        Members {
            places: RefCell::new(Slab::new()),
            joiners: RefCell::new(Waiters::new()),
            failure: RefCell::new(None),
            discarded: Cell::new(0),
        }
    }

    /// Takes a place, as yet without a greenlet.
    #[inline]
    pub(super) fn enter(&self) -> usize {
        self.places.borrow_mut().insert(None)
    }

    /// Gives a place up; returns whether the last is free now. The caller wakes the joiners then.
    #[inline]
    pub(super) fn leave(&self, index: usize) -> bool {
        let (member, left) = {
            let mut places = self.places.borrow_mut();
            (places.remove(index), places.len())
        };
        drop(member);
        left == self.discarded.get()
    }

    pub(super) fn wake_joiners(&self) {
        Waiters::wake_all(&self.joiners, Hub::get());
    }

    /// Says who is in a place.
    #[inline]
    pub(super) fn set(&self, index: usize, member: Option<GreenletRef>) {
        let before = std::mem::replace(&mut self.places.borrow_mut()[index], member);
        drop(before);
    }

    pub(super) fn len(&self) -> usize {
        self.places.borrow().len() - self.discarded.get()
    }

    pub(super) fn greenlets(&self) -> Vec<GreenletRef> {
        let places = self.places.borrow();
        places.iter().filter_map(|(_, member)| member.clone()).filter(|member| !member.is_dead()).collect()
    }

    pub(super) fn contains(&self, greenlet: &GreenletRef) -> bool {
        self.find(greenlet).is_some()
    }

    fn find(&self, greenlet: &GreenletRef) -> Option<usize> {
        let places = self.places.borrow();
        places.iter().find(|(_, member)| member.as_ref() == Some(greenlet)).map(|(index, _)| index)
    }

    /// The place counts no longer. Who holds it says so before it [leaves](Self::leave): [`forget`](Self::forget).
    pub(super) fn discard(&self, greenlet: &GreenletRef) -> Option<usize> {
        let index = self.find(greenlet)?;
        self.set(index, None);
        self.discarded.set(self.discarded.get() + 1);
        if self.len() == 0 {
            self.wake_joiners();
        }
        Some(index)
    }

    /// A discarded place is about to leave.
    pub(super) fn forget(&self) {
        self.discarded.set(self.discarded.get() - 1);
    }

    /// Runs a member's closure, and notes the first panic.
    pub(super) fn watch<T>(&self, f: impl FnOnce() -> T) -> T {
        match catch_panic(f) {
            Ok(value) => value,
            Err(panic) => {
                self.note_failure(panic.retold());
                panic.resume()
            }
        }
    }

    fn note_failure(&self, panic: Panic) {
        self.failure.borrow_mut().get_or_insert(panic);
    }

    /// Notes the panic of a greenlet that was spawned elsewhere and has ended.
    pub(super) fn note_end(&self, greenlet: &GreenletRef) {
        if greenlet.0.end.get() == Some(End::Panicked) {
            let told = Box::new("its own handle has the message".to_owned());
            self.note_failure(Panic::new(told, None, greenlet.name().to_owned()));
        }
    }

    pub(super) fn join(&self, why: WaitsFor, deadline: Option<Moment>) -> Result<(), WaitError> {
        Waiting::until(&self.joiners, why, deadline, || self.len() == 0)
    }

    pub(super) fn join_ok(&self, why: WaitsFor, deadline: Option<Moment>) -> Result<(), JoinError> {
        let waited = self.join(why, deadline);
        match self.failure.take() {
            Some(panic) => Err(JoinError::Panicked(panic)),
            None => waited.map_err(JoinError::Wait),
        }
    }

    /// Kills all, those too that come while the others die, and waits until none is left.
    pub(super) fn kill(&self, why: WaitsFor, deadline: Option<Moment>) -> Result<(), WaitError> {
        loop {
            let greenlets = self.greenlets();
            if greenlets.is_empty() {
                return self.join(why, deadline);
            }
            ask_for_death(&greenlets);
            greenlets.iter().try_for_each(|greenlet| greenlet.wait_until(deadline))?;
        }
    }

    pub(super) fn kill_soon(&self) {
        // Copied out: a kill may run destructors, which may use the pool.
        ask_for_death(&self.greenlets());
    }
}

/// The caller comes last, if it is one of them: it does not return from its own kill.
fn ask_for_death(greenlets: &[GreenletRef]) {
    let caller = current();
    greenlets.iter().filter(|greenlet| **greenlet != caller).for_each(GreenletRef::kill_soon);
    if greenlets.contains(&caller) {
        caller.kill_soon();
    }
}

pub(super) fn deadline(timeout: impl Into<Option<Duration>>) -> Option<Moment> {
    timeout.into().and_then(|timeout| Hub::get().deadline(timeout))
}
