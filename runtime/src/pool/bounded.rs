//! A bounded number of greenlets.

use std::fmt;
use std::rc::Rc;
use std::time::Duration;

use super::group::Group;
use super::map::{Crew, Imap, ImapUnordered, apply, map};
use super::members::{Members, deadline};
use crate::error::{JoinError, WaitError};
use crate::greenlet::{Greenlet, GreenletRef, WaitsFor, current, spawn};
use crate::sync::Semaphore;

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
    members: Members,
}

impl Pool {
    /// A pool of at most `size` greenlets.
    pub fn new(size: usize) -> Pool {
        Pool(Rc::new(Shared { size, free: Semaphore::new(size), members: Members::new() }))
    }

    /// Spawns a greenlet, waiting for a free slot if need be (`Pool.spawn`). Parks the caller while the pool is
    /// full; those who wait are served in the order in which they came.
    ///
    /// # Errors
    /// Why the wait failed; `f` is dropped then.
    #[track_caller]
    pub fn spawn<F, T>(&self, f: F) -> Result<Greenlet<T>, WaitError>
    where
        F: FnOnce() -> T + 'static,
        T: 'static,
    {
        Ok(self.reserve(None)?.spawn_watched(f))
    }

    /// Spawns a greenlet if a slot is free at once, else hands `f` back. Never parks.
    ///
    /// # Errors
    /// `f`, when the pool is full.
    #[track_caller]
    pub fn try_spawn<F, T>(&self, f: F) -> Result<Greenlet<T>, F>
    where
        F: FnOnce() -> T + 'static,
        T: 'static,
    {
        match self.try_reserve() {
            Some(slot) => Ok(slot.spawn_watched(f)),
            None => Err(f),
        }
    }

    /// Gives a greenlet that was made elsewhere a slot, which it keeps until it has ended (`Pool.add`); it may not have been
    /// [started](GreenletRef::start) yet (`Pool.start`). Parks the caller while the pool is full. One that is dead, or in the
    /// pool already, is left alone.
    ///
    /// # Errors
    /// Why the wait failed.
    pub fn add(&self, greenlet: &GreenletRef) -> Result<(), WaitError> {
        if greenlet.is_dead() || self.contains(greenlet) {
            return Ok(());
        }
        let slot = self.reserve(None)?;
        slot.pool.members.set(slot.index, Some(greenlet.clone()));
        // The link owns the slot.
        greenlet.add_link(Box::new(move |ended| slot.pool.members.note_end(&ended)));
        Ok(())
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

    /// Runs `f` in a greenlet of the pool and waits for its value (`Pool.apply`). Parks the caller while the pool is full
    /// and until `f` has ended. Called by one of the pool's own greenlets it runs `f` in place, for that one has a slot.
    ///
    /// # Errors
    /// `f`'s panic; `Killed` when its greenlet was; why the wait failed.
    pub fn apply<F, T>(&self, f: F) -> Result<T, JoinError>
    where
        F: FnOnce() -> T + 'static,
        T: 'static,
    {
        if self.contains(&current()) { apply(f) } else { self.reserve(None)?.spawn(f).join() }
    }

    /// Has `f` run in the pool and returns at once (`Pool.apply_async`). While the pool is full, the new greenlet waits
    /// outside for a slot, in the order in which they came: nothing bounds how many wait so. Never parks.
    #[track_caller]
    pub fn apply_async<F, T>(&self, f: F) -> Greenlet<T>
    where
        F: FnOnce() -> T + 'static,
        T: 'static,
    {
        match self.try_spawn(f) {
            Ok(greenlet) => greenlet,
            Err(f) => {
                let pool = self.clone();
                spawn(move || match pool.reserve(None) {
                    Ok(slot) => {
                        slot.occupy();
                        pool.0.members.watch(f)
                    }
                    Err(error) => panic!("cannot wait for a slot of the pool: {error}"),
                })
            }
        }
    }

    /// Runs `f` on each item, each in a greenlet of the pool, and collects what they return, in the order of the items
    /// (`Pool.map`). Parks the caller.
    ///
    /// # Errors
    /// The first failure in the order of the items, as [`imap`](Self::imap) yields it. Those still at work are killed.
    ///
    /// ```
    /// let squares = greenlet::Pool::new(2).map(1..=4, |n| n * n).unwrap();
    /// assert_eq!(squares, [1, 4, 9, 16]);
    /// ```
    pub fn map<I, F, R>(&self, items: I, f: F) -> Result<Vec<R>, JoinError>
    where
        I: IntoIterator<IntoIter: 'static, Item: 'static>,
        F: Fn(I::Item) -> R + 'static,
        R: 'static,
    {
        map(self.clone(), items, f)
    }

    /// Runs `f` on each item, each in a greenlet of the pool, and yields what they return, in the order of the items
    /// (`Pool.imap`). Begins by itself, and goes on while the caller is busy elsewhere.
    ///
    /// Items are taken as there is room for them: at most twice the pool's size is at work or waits to be yielded, see
    /// [`Imap::maxsize`]. `items` runs in a greenlet of its own. A caller that is itself a greenlet of the pool keeps its slot
    /// meanwhile: in a pool of one it would wait for ever.
    ///
    /// ```
    /// let pool = greenlet::Pool::new(2);
    /// let lengths: Vec<usize> = pool.imap(["a", "bb"], str::len).map(Result::unwrap).collect();
    /// assert_eq!(lengths, [1, 2]);
    /// ```
    pub fn imap<I, F, R>(&self, items: I, f: F) -> Imap<R>
    where
        I: IntoIterator<IntoIter: 'static, Item: 'static>,
        F: Fn(I::Item) -> R + 'static,
        R: 'static,
    {
        Imap::new(self.clone(), items, f).maxsize(self.room())
    }

    /// As [`imap`](Self::imap), but yields in the order of completion (`Pool.imap_unordered`).
    pub fn imap_unordered<I, F, R>(&self, items: I, f: F) -> ImapUnordered<R>
    where
        I: IntoIterator<IntoIter: 'static, Item: 'static>,
        F: Fn(I::Item) -> R + 'static,
        R: 'static,
    {
        ImapUnordered::new(self.clone(), items, f).maxsize(self.room())
    }

    /// How many greenlets the pool runs at most.
    pub fn size(&self) -> usize {
        self.0.size
    }

    /// How many slots are taken.
    pub fn len(&self) -> usize {
        self.0.members.len()
    }

    /// Whether no slot is taken.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether no slot is free (`Pool.full`): [`spawn`](Self::spawn) would park.
    #[doc(alias = "full")]
    pub fn is_full(&self) -> bool {
        self.free_count() == 0
    }

    /// How many more greenlets could be spawned at once (`Pool.free_count`).
    pub fn free_count(&self) -> usize {
        self.0.free.available()
    }

    /// The living greenlets of the pool.
    pub fn greenlets(&self) -> Vec<GreenletRef> {
        self.0.members.greenlets()
    }

    /// Whether a greenlet is in the pool.
    pub fn contains(&self, greenlet: &GreenletRef) -> bool {
        self.0.members.contains(greenlet)
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
        self.0.members.join(WaitsFor::Pool, deadline(timeout))
    }

    /// As [`join`](Self::join), and tells of a failure (`Pool.join(raise_error=True)`): see
    /// [`Group::join_ok`](super::Group::join_ok).
    ///
    /// # Errors
    /// `Panicked` with the first panic; `Wait` with `TimedOut`, and why the wait failed.
    #[doc(alias = "raise_error")]
    pub fn join_ok(&self, timeout: impl Into<Option<Duration>>) -> Result<(), JoinError> {
        self.0.members.join_ok(WaitsFor::Pool, deadline(timeout))
    }

    /// Kills all greenlets of the pool, those too that are spawned meanwhile, and waits until it is empty (`Pool.kill`). A
    /// caller that is one of them dies last.
    ///
    /// # Errors
    /// Why the wait failed; the kills take place all the same.
    pub fn kill(&self) -> Result<(), WaitError> {
        self.0.members.kill(WaitsFor::Pool, None)
    }

    /// As [`kill`](Self::kill), but gives up waiting after a while.
    ///
    /// # Errors
    /// `TimedOut` when some have not ended in time; why the wait failed. The kills take place all the same.
    pub fn kill_timeout(&self, timeout: Duration) -> Result<(), WaitError> {
        self.0.members.kill(WaitsFor::Pool, deadline(timeout))
    }

    /// Asks for the death of all greenlets of the pool and returns at once (`Pool.kill(block=False)`).
    pub fn kill_soon(&self) {
        self.0.members.kill_soon();
    }

    /// How many items a map has under way unless told otherwise.
    fn room(&self) -> usize {
        self.0.size.saturating_mul(2)
    }
}

impl Crew for Pool {
    fn hire(&self, work: impl FnOnce() + 'static) -> Result<GreenletRef, WaitError> {
        Ok((*self.reserve(None)?.spawn(work)).clone())
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").field("size", &self.size()).field("taken", &self.len()).finish()
    }
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
        Slot { pool: pool.0.clone(), index: pool.0.members.enter() }
    }

    /// Spawns a greenlet in this slot. Its panic reaches who joins it, not [`Pool::join_ok`].
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
        pool.members.set(index, Some((*greenlet).clone()));
        greenlet
    }

    /// As [`spawn`](Self::spawn), for those whose panic is told by [`Pool::join_ok`].
    #[track_caller]
    fn spawn_watched<F, T>(self, f: F) -> Greenlet<T>
    where
        F: FnOnce() -> T + 'static,
        T: 'static,
    {
        self.spawn_with(move |slot| slot.pool.members.watch(f))
    }

    /// As [`spawn`](Self::spawn), of a greenlet that belongs to `group` too.
    pub(crate) fn spawn_in<F, T>(self, group: &Group, f: F) -> Greenlet<T>
    where
        F: FnOnce() -> T + 'static,
        T: 'static,
    {
        let (pool, index) = (self.pool.clone(), self.index);
        let greenlet = group.spawn(move || {
            let _slot = self;
            f()
        });
        pool.members.set(index, Some((*greenlet).clone()));
        greenlet
    }

    /// Makes the greenlet that runs the slot's, so that [`Pool::kill`] reaches it.
    pub fn occupy(&self) {
        self.pool.members.set(self.index, Some(current()));
    }

    /// The slot stays taken with no greenlet in it.
    pub fn vacate(&self) {
        self.pool.members.set(self.index, None);
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let empty = self.pool.members.leave(self.index);
        self.pool.free.give();
        if empty {
            self.pool.members.wake_joiners();
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
