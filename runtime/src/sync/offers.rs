//! What a queue without room has in place of items: values whose putters wait for them to be taken.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;

use super::queue_error::PutError;
use super::waiters::{Waiters, Waiting};
use crate::greenlet::WaitsFor;
use crate::hub::{Hub, Moment};

/// Values in the order in which they were offered, and in the same order those who offer them.
pub(super) struct Offers<T> {
    values: RefCell<BTreeMap<u64, T>>,
    next: Cell<u64>,
    putters: RefCell<Waiters>,
}

impl<T> Offers<T> {
    pub(super) const fn new() -> Offers<T> {
        Offers {
            values: RefCell::new(BTreeMap::new()),
            next: Cell::new(0),
            putters: RefCell::new(Waiters::new()),
        }
    }

    /// Waits until the value has been taken. Parks the caller.
    #[cold]
    #[inline(never)]
    pub(super) fn offer(&self, value: T, deadline: Option<Moment>) -> Result<(), PutError<T>> {
        let ticket = self.next.get();
        self.next.set(ticket + 1);
        self.values.borrow_mut().insert(ticket, value);
        let offer = Offer { offers: self, ticket };
        let waited = Waiting::turn(&self.putters, WaitsFor::QueueSpace, deadline, || (), || Ok(()));
        match (offer.withdraw(), waited) {
            (None, _) => Ok(()),
            (Some(value), Ok(())) => Err(PutError::Closed(value)),
            (Some(value), Err(error)) => Err(PutError::Wait(value, error)),
        }
    }

    /// Takes the value that has been offered longest, and lets its putter go.
    #[cold]
    #[inline(never)]
    pub(super) fn take(&self) -> Option<T> {
        let (_, value) = self.values.borrow_mut().pop_first()?;
        let putter = self.putters.borrow_mut().pop();
        putter.iter().for_each(|putter| Hub::get().unpark(putter));
        Some(value)
    }

    /// A copy of the value that has been offered longest.
    pub(super) fn first(&self) -> Option<T>
    where
        T: Clone,
    {
        self.values.borrow().first_key_value().map(|(_, value)| value.clone())
    }

    /// Sends all putters away with their values.
    pub(super) fn refuse_all(&self) {
        Waiters::wake_all(&self.putters, Hub::get());
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.values.borrow().is_empty() && self.putters.borrow().len() == 0
    }
}

/// A value that is offered for as long as its putter waits.
struct Offer<'a, T> {
    offers: &'a Offers<T>,
    ticket: u64,
}

impl<T> Offer<'_, T> {
    /// The value, if nobody has taken it.
    fn withdraw(&self) -> Option<T> {
        self.offers.values.borrow_mut().remove(&self.ticket)
    }
}

impl<T> Drop for Offer<'_, T> {
    fn drop(&mut self) {
        drop(self.withdraw());
    }
}
