//! A bounded number of greenlets.

use std::cell::RefCell;
use std::fmt;
use std::rc::Rc;
use std::time::Duration;

use slab::Slab;

use crate::error::WaitError;
use crate::greenlet::{Greenlet, GreenletRef, WaitsFor, spawn};
use crate::hub::{Hub, Moment};
use crate::sync::{Semaphore, Waiters, Waiting};

/// Runs at most so many greenlets at once (`gevent.pool.Pool`). Clones share the pool.
///
/// ```
/// let pool = greenlet::Pool::new(2);
/// for n in 0..10 {
///     // parks while two are at work
///     pool.spawn(move || greenlet::sleep(std::time::Duration::from_millis(n))).unwrap();
/// }
/// pool.join(None).unwrap();
/// assert_eq!(pool.len(), 0);
/// ```
#[derive(Clone)]
pub struct Pool(Rc<Shared>);

struct Shared {
    size: usize,
    free: Semaphore,
    members: RefCell<Slab<Option<GreenletRef>>>,
    /// Who waits for the pool to become empty.
    joiners: RefCell<Waiters>,
}

impl Pool {
    /// A pool of at most `size` greenlets.
    pub fn new(size: usize) -> Pool {
        Pool(Rc::new(Shared {
            size,
            free: Semaphore::new(size),
            members: RefCell::new(Slab::new()),
            joiners: RefCell::new(Waiters::new()),
        }))
    }

    /// Spawns a greenlet, waiting for a free slot if need be (`Pool.spawn`). Parks the caller while the pool is
    /// full; those who wait are served in the order in which they came.
    ///
    /// # Errors
    /// Why the wait failed; `f` is dropped then.
    pub fn spawn<F, T>(&self, f: F) -> Result<Greenlet<T>, WaitError>
    where
        F: FnOnce() -> T + 'static,
        T: 'static,
    {
        Ok(self.reserve(None)?.spawn(f))
    }

    /// Spawns a greenlet if a slot is free at once, else hands `f` back. Never parks.
    ///
    /// # Errors
    /// `f`, when the pool is full.
    pub fn try_spawn<F, T>(&self, f: F) -> Result<Greenlet<T>, F>
    where
        F: FnOnce() -> T + 'static,
        T: 'static,
    {
        match self.try_reserve() {
            Some(slot) => Ok(slot.spawn(f)),
            None => Err(f),
        }
    }

    /// Takes a slot for a greenlet that is yet to be spawned, waiting at most `timeout` for it (`None`: without end). A
    /// server takes one before it accepts a connection. Parks the caller while the pool is full.
    ///
    /// # Errors
    /// `TimedOut`, and why the wait failed.
    pub fn reserve(&self, timeout: impl Into<Option<Duration>>) -> Result<Slot, WaitError> {
        self.0.free.take(WaitsFor::PoolSlot, deadline(timeout))?;
        Ok(Slot::new(self))
    }

    /// Takes a slot if one is free at once. Never parks.
    pub fn try_reserve(&self) -> Option<Slot> {
        self.0.free.try_take().then(|| Slot::new(self))
    }

    /// How many greenlets the pool runs at most.
    pub fn size(&self) -> usize {
        self.0.size
    }

    /// How many slots are taken.
    pub fn len(&self) -> usize {
        self.0.members.borrow().len()
    }

    /// Whether no slot is taken.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many more greenlets could be spawned at once (`Pool.free_count`).
    pub fn free_count(&self) -> usize {
        self.0.free.available()
    }

    /// Waits until a slot is free, or `timeout` is over (`Pool.wait_available`). Parks the caller. The slot is not kept for
    /// the caller: see [`reserve`](Self::reserve).
    ///
    /// # Errors
    /// `TimedOut`, and why the wait failed.
    pub fn wait_available(&self, timeout: impl Into<Option<Duration>>) -> Result<(), WaitError> {
        self.reserve(timeout).map(drop)
    }

    /// Waits until the pool is empty, or `timeout` is over (`Pool.join`). Parks the caller.
    ///
    /// # Errors
    /// `TimedOut`, and why the wait failed.
    pub fn join(&self, timeout: impl Into<Option<Duration>>) -> Result<(), WaitError> {
        Waiting::until(&self.0.joiners, WaitsFor::Pool, deadline(timeout), || self.is_empty())
    }

    /// Kills all greenlets of the pool and waits until they have ended (`Pool.kill`).
    ///
    /// # Errors
    /// Why the wait failed; the kills take place all the same.
    pub fn kill(&self) -> Result<(), WaitError> {
        self.kill_soon();
        self.join(None)
    }

    /// Asks for the death of all greenlets of the pool and returns at once.
    pub fn kill_soon(&self) {
        // Copied out: a kill may run destructors, which may use the pool.
        let members: Vec<_> =
            self.0.members.borrow().iter().filter_map(|(_, member)| member.clone()).collect();
        members.iter().for_each(GreenletRef::kill_soon);
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").field("size", &self.size()).field("taken", &self.len()).finish()
    }
}

fn deadline(timeout: impl Into<Option<Duration>>) -> Option<Moment> {
    timeout.into().and_then(|timeout| Hub::get().deadline(timeout))
}

/// A slot of a [`Pool`]: given back when it is dropped, or when the greenlet spawned with it has ended.
#[must_use = "a slot that is not used is given back at once"]
pub struct Slot {
    pool: Rc<Shared>,
    index: usize,
}

impl Slot {
    /// Takes note of a permit that has been taken.
    fn new(pool: &Pool) -> Slot {
        let index = pool.0.members.borrow_mut().insert(None);
        Slot { pool: pool.0.clone(), index }
    }

    /// Spawns a greenlet in this slot.
    #[track_caller]
    pub fn spawn<F, T>(self, f: F) -> Greenlet<T>
    where
        F: FnOnce() -> T + 'static,
        T: 'static,
    {
        // The closure owns the slot: it is given back when the closure ends or is dropped unstarted.
        self.spawn_with(move |_slot| f())
    }

    /// As [`spawn`](Self::spawn), and hands the slot to `f`, which may keep it for when its greenlet has ended: a
    /// connection that waits without a greenlet still takes up its place.
    #[track_caller]
    pub fn spawn_with<F, T>(self, f: F) -> Greenlet<T>
    where
        F: FnOnce(Slot) -> T + 'static,
        T: 'static,
    {
        let (pool, index) = (self.pool.clone(), self.index);
        let greenlet = spawn(move || f(self));
        pool.members.borrow_mut()[index] = Some((*greenlet).clone());
        greenlet
    }

    /// Makes the greenlet that runs the slot's, so that [`Pool::kill`] reaches it.
    pub fn occupy(&self) {
        let current = crate::greenlet::current();
        let before = self.pool.members.borrow_mut()[self.index].replace(current);
        drop(before);
    }

    /// The slot stays taken with no greenlet in it.
    pub fn vacate(&self) {
        let before = self.pool.members.borrow_mut()[self.index].take();
        drop(before);
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let empty = {
            let mut members = self.pool.members.borrow_mut();
            let _member = members.remove(self.index);
            members.is_empty()
        };
        self.pool.free.give();
        if empty {
            Waiters::wake_all(&self.pool.joiners, Hub::get());
        }
    }
}

impl fmt::Debug for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Slot")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{sleep, yield_now};

    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn a_full_pool_makes_the_next_spawn_wait_for_a_free_slot() {
        let pool = Pool::new(2);
        let most = Rc::new(std::cell::Cell::new(0));
        for _ in 0..10 {
            let (inner, most) = (pool.clone(), most.clone());
            pool.spawn(move || {
                most.set(most.get().max(inner.len()));
                yield_now();
            })
            .unwrap();
        }
        pool.join(LONG).unwrap();
        assert_eq!(most.get(), 2);
        assert_eq!((pool.len(), pool.free_count()), (0, 2));
    }

    #[test]
    fn try_spawn_hands_the_closure_back_when_the_pool_is_full() {
        let pool = Pool::new(1);
        pool.try_spawn(|| sleep(LONG)).map(drop).map_err(drop).unwrap();
        let refused = pool.try_spawn(|| 7).map(drop).unwrap_err();
        assert_eq!(refused(), 7);
        pool.kill().unwrap();
        assert!(pool.is_empty());
    }

    #[test]
    fn kill_frees_the_slots_of_those_that_never_started_too() {
        let pool = Pool::new(3);
        for _ in 0..3 {
            pool.spawn(|| unreachable!("killed before the hub ran")).unwrap();
        }
        pool.kill().unwrap();
        assert_eq!(pool.free_count(), 3);
    }

    #[test]
    fn a_greenlet_that_panics_gives_its_slot_back() {
        let pool = Pool::new(1);
        pool.spawn(|| panic!("as the test wants")).unwrap();
        pool.wait_available(LONG).unwrap();
        assert_eq!(pool.free_count(), 1);
    }
}
