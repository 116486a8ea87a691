//! A queue of values from greenlet to greenlet.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::fmt;
use std::time::Duration;

use super::offers::Offers;
use super::queue_error::{GetError, PutError};
use super::semaphore::Semaphore;
use crate::error::WaitError;
use crate::greenlet::WaitsFor;
use crate::hub::{Hub, Moment};

/// Hands values from greenlet to greenlet of one thread, first in, first out (`gevent.queue.Queue`).
///
/// Those who wait are served in the order in which they came, and nobody who comes later can take what is meant for
/// them. A value stays in the queue until the one that was woken for it runs and takes it: if that one is killed before,
/// the value goes to the next in its old place. A bounded queue makes [`put`](Self::put) wait while it is full.
///
/// ```
/// use std::rc::Rc;
/// use greenlet::sync::Queue;
///
/// let jobs = Rc::new(Queue::bounded(2));
/// let worker = greenlet::spawn({
///     let jobs = jobs.clone();
///     move || std::iter::from_fn(|| jobs.get().ok()).sum::<u32>()
/// });
/// for job in 1..=10 {
///     jobs.put(job).unwrap(); // parks while two wait to be worked on
/// }
/// jobs.close();
/// assert_eq!(worker.join().unwrap(), 55);
/// ```
pub struct Queue<T> {
    items: RefCell<VecDeque<T>>,
    /// One permit for each item. Once closed there may be more, so that nobody waits.
    filled: Semaphore,
    space: Space<T>,
    closed: Cell<bool>,
}

enum Space<T> {
    Unbounded,
    /// One permit for each item that could be put.
    Bounded {
        capacity: usize,
        free: Semaphore,
    },
    /// None: who puts waits with the value until it is taken. Items are those that somebody was woken for.
    Rendezvous(Offers<T>),
}

impl<T> Queue<T> {
    /// A queue that takes any number of values: [`put`](Self::put) never waits.
    pub const fn unbounded() -> Queue<T> {
        Queue::with_space(Space::Unbounded)
    }

    /// A queue that holds at most `capacity` values. Their memory is allocated as they come. For 0 it is a
    /// [`rendezvous`](Self::rendezvous).
    pub const fn bounded(capacity: usize) -> Queue<T> {
        if capacity == 0 {
            return Queue::rendezvous();
        }
        Queue::with_space(Space::Bounded { capacity, free: Semaphore::new(capacity) })
    }

    /// A queue that holds nothing: [`put`](Self::put) waits until somebody takes the value (`gevent.queue.Channel`). If
    /// the one whom the value is meant for is killed before it runs, the value stays for the next.
    #[doc(alias = "Channel")]
    pub const fn rendezvous() -> Queue<T> {
        Queue::with_space(Space::Rendezvous(Offers::new()))
    }

    const fn with_space(space: Space<T>) -> Queue<T> {
        Queue {
            items: RefCell::new(VecDeque::new()),
            filled: Semaphore::new(0),
            space,
            closed: Cell::new(false),
        }
    }

    /// Puts a value at the end, waiting for space if need be. Parks the caller while the queue is full.
    ///
    /// # Errors
    /// `Closed` when the queue is, or while the caller waits becomes, closed; `Wait` with why the wait failed. The value
    /// comes back in both.
    pub fn put(&self, value: T) -> Result<(), PutError<T>> {
        self.put_until(value, None)
    }

    /// As [`put`](Self::put), for a limited time.
    ///
    /// # Errors
    /// `Wait` with `TimedOut`, and those of [`put`](Self::put).
    pub fn put_timeout(&self, value: T, timeout: Duration) -> Result<(), PutError<T>> {
        self.put_until(value, Hub::get().deadline(timeout))
    }

    /// Puts a value at the end if there is space at once (`put_nowait`). Never parks.
    ///
    /// # Errors
    /// `Full` and `Closed`, with the value.
    #[doc(alias = "put_nowait")]
    pub fn try_put(&self, value: T) -> Result<(), PutError<T>> {
        if self.closed.get() {
            return Err(PutError::Closed(value));
        }
        match &self.space {
            Space::Bounded { free, .. } if !free.try_take() => Err(PutError::Full(value)),
            Space::Rendezvous(_) if self.filled.waiting() == 0 => Err(PutError::Full(value)),
            _ => {
                self.push(value);
                Ok(())
            }
        }
    }

    /// Takes the first value, waiting for one if need be. Parks the caller while the queue is empty. What was put before
    /// the queue was closed can still be taken.
    ///
    /// # Errors
    /// `Closed` when the queue is closed and empty; `Wait` with why the wait failed.
    pub fn get(&self) -> Result<T, GetError> {
        self.get_until(None)
    }

    /// As [`get`](Self::get), for a limited time.
    ///
    /// # Errors
    /// `Wait` with `TimedOut`, and those of [`get`](Self::get).
    pub fn get_timeout(&self, timeout: Duration) -> Result<T, GetError> {
        self.get_until(Hub::get().deadline(timeout))
    }

    /// Takes the first value if there is one that nobody has been woken for (`get_nowait`). Never parks.
    ///
    /// # Errors
    /// `Empty`, or `Closed` when there will never be one.
    #[doc(alias = "get_nowait")]
    pub fn try_get(&self) -> Result<T, GetError> {
        if self.filled.try_take() {
            return self.pop();
        }
        if let Some(value) = self.take_offer() {
            return Ok(value);
        }
        Err(if self.closed.get() { GetError::Closed } else { GetError::Empty })
    }

    /// A copy of the first value, which stays where it is; waits for one if need be (`peek`). Parks the caller while the
    /// queue is empty. Who peeks takes its turn among those who get. In a [`rendezvous`](Self::rendezvous) the put of
    /// a value that somebody waits to peek at ends; the value stays for the next to get.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub fn peek(&self) -> Result<T, GetError>
    where
        T: Clone,
    {
        self.peek_until(None)
    }

    /// As [`peek`](Self::peek), for a limited time.
    ///
    /// # Errors
    /// `Wait` with `TimedOut`, and those of [`peek`](Self::peek).
    pub fn peek_timeout(&self, timeout: Duration) -> Result<T, GetError>
    where
        T: Clone,
    {
        self.peek_until(Hub::get().deadline(timeout))
    }

    /// A copy of the first value if there is one that nobody has been woken for (`peek_nowait`). Never parks.
    ///
    /// # Errors
    /// As [`try_get`](Self::try_get).
    #[doc(alias = "peek_nowait")]
    pub fn try_peek(&self) -> Result<T, GetError>
    where
        T: Clone,
    {
        match self.filled.try_acquire() {
            Some(_permit) => self.items.borrow().front().cloned().ok_or(GetError::Closed),
            None => self.first_offer().ok_or(match self.closed.get() {
                true => GetError::Closed,
                false => GetError::Empty,
            }),
        }
    }

    /// Takes values, waiting for each, until the queue is closed and empty (gevent's iteration over a queue).
    ///
    /// # Panics
    /// With the report of a [`LoopExit`](crate::LoopExit), which gevent raises there too. It just ends where the caller
    /// cannot be parked.
    pub fn iter(&self) -> impl Iterator<Item = T> {
        std::iter::from_fn(|| match self.get() {
            Ok(value) => Some(value),
            Err(GetError::Wait(WaitError::LoopExit(exit))) => panic!("{exit}"),
            Err(_) => None,
        })
    }

    /// Takes no more values, and wakes all who wait. Closing twice is no error.
    #[doc(alias = "shutdown")]
    pub fn close(&self) {
        self.closed.set(true);
        self.filled.give_to_all();
        match &self.space {
            Space::Unbounded => {}
            Space::Bounded { free, .. } => free.give_to_all(),
            Space::Rendezvous(offers) => offers.refuse_all(),
        }
    }

    /// Whether [`close`](Self::close) has been called.
    pub fn is_closed(&self) -> bool {
        self.closed.get()
    }

    /// How many values are in the queue, those included for which somebody has been woken but has not run yet.
    #[doc(alias = "qsize")]
    pub fn len(&self) -> usize {
        self.items.borrow().len()
    }

    /// Whether no value is in the queue.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether as many values are in the queue as it holds (`Queue.full`). Always so for a rendezvous.
    #[doc(alias = "full")]
    pub fn is_full(&self) -> bool {
        self.capacity().is_some_and(|capacity| self.len() >= capacity)
    }

    /// How many values the queue holds at most; `None` if there is no bound.
    #[doc(alias = "maxsize")]
    pub fn capacity(&self) -> Option<usize> {
        match &self.space {
            Space::Unbounded => None,
            Space::Bounded { capacity, .. } => Some(*capacity),
            Space::Rendezvous(_) => Some(0),
        }
    }

    /// Has a permit for each value; waited for by those who get.
    pub(crate) fn filled(&self) -> &Semaphore {
        &self.filled
    }

    /// What a [`get`](Self::get) returns at once, if it does.
    pub(crate) fn get_at_once(&self) -> Option<Result<T, GetError>> {
        match self.try_get() {
            Err(GetError::Empty) => None,
            got => Some(got),
        }
    }

    /// Whether a [`get`](Self::get) would return at once.
    pub(crate) fn has_something(&self) -> bool {
        let offered = matches!(&self.space, Space::Rendezvous(offers) if offers.has_some());
        self.filled.available() > 0 || self.closed.get() || offered
    }

    fn put_until(&self, value: T, deadline: Option<Moment>) -> Result<(), PutError<T>> {
        if self.closed.get() {
            return Err(PutError::Closed(value));
        }
        match &self.space {
            Space::Unbounded => {}
            Space::Bounded { free, .. } => {
                if let Err(error) = free.take(WaitsFor::QueueSpace, deadline) {
                    return Err(PutError::Wait(value, error));
                }
                if self.closed.get() {
                    return Err(PutError::Closed(value));
                }
            }
            Space::Rendezvous(offers) => {
                if self.filled.waiting() == 0 {
                    return offers.offer(value, deadline);
                }
            }
        }
        self.push(value);
        Ok(())
    }

    fn get_until(&self, deadline: Option<Moment>) -> Result<T, GetError> {
        if !self.filled.try_take() {
            if let Some(value) = self.take_offer() {
                return Ok(value);
            }
            if self.closed.get() {
                return Err(GetError::Closed);
            }
            self.filled.wait(WaitsFor::QueueItem, deadline).map_err(GetError::Wait)?;
        }
        self.pop()
    }

    fn peek_until(&self, deadline: Option<Moment>) -> Result<T, GetError>
    where
        T: Clone,
    {
        match self.try_peek() {
            Err(GetError::Empty) => {}
            known => return known,
        }
        self.filled.wait(WaitsFor::QueueItem, deadline).map_err(GetError::Wait)?;
        // given on when this has looked
        let _permit = self.filled.permit();
        self.items.borrow().front().cloned().ok_or(GetError::Closed)
    }

    fn first_offer(&self) -> Option<T>
    where
        T: Clone,
    {
        match &self.space {
            Space::Rendezvous(offers) if !self.closed.get() => offers.first(),
            _ => None,
        }
    }

    /// Puts a value for which space has been taken.
    fn push(&self, value: T) {
        self.items.borrow_mut().push_back(value);
        self.filled.give();
    }

    /// Takes the value that a permit stands for. A permit that was given because the queue was closed stands for none.
    pub(crate) fn pop(&self) -> Result<T, GetError> {
        let value = self.items.borrow_mut().pop_front().ok_or(GetError::Closed)?;
        if let Space::Bounded { free, .. } = &self.space {
            free.give();
        }
        Ok(value)
    }

    /// Takes a value from one who waits with it. Once closed, all are on their way out with theirs.
    fn take_offer(&self) -> Option<T> {
        match &self.space {
            Space::Rendezvous(offers) if !self.closed.get() => {
                let value = offers.take()?;
                // behind those that somebody is still to come for: that one takes this, so that values come in order
                let mut items = self.items.borrow_mut();
                items.push_back(value);
                items.pop_front()
            }
            _ => None,
        }
    }
}

/// An unbounded queue.
impl<T> Default for Queue<T> {
    fn default() -> Queue<T> {
        Queue::unbounded()
    }
}

impl<T> fmt::Debug for Queue<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Queue")
            .field("len", &self.len())
            .field("capacity", &self.capacity())
            .field("closed", &self.closed.get())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use super::*;
    use crate::{Greenlet, JoinError, join_all, spawn, yield_now};

    const LONG: Duration = Duration::from_secs(60);
    const SHORT: Duration = Duration::from_millis(1);

    fn spawn_with<T: 'static, R: 'static>(
        queue: &Rc<Queue<T>>,
        f: impl FnOnce(&Queue<T>) -> R + 'static,
    ) -> Greenlet<R> {
        let queue = queue.clone();
        spawn(move || f(&queue))
    }

    /// No waiter is left, and what may be taken and put agrees with what is there.
    fn assert_at_rest<T>(queue: &Queue<T>) {
        assert_eq!((queue.filled.waiting(), queue.filled.available()), (0, queue.len()));
        match &queue.space {
            Space::Unbounded => {}
            Space::Bounded { capacity, free } => {
                assert_eq!((free.waiting(), free.available()), (0, capacity - queue.len()));
            }
            Space::Rendezvous(offers) => assert!(offers.is_empty()),
        }
    }

    #[test]
    fn values_come_out_in_the_order_in_which_they_were_put() {
        for queue in [Queue::unbounded(), Queue::bounded(1), Queue::bounded(3), Queue::bounded(100)] {
            let queue = Rc::new(queue);
            let producer = spawn_with(&queue, |queue| (0..100).try_for_each(|n| queue.put(n)));
            let got: Vec<_> = (0..100).map(|_| queue.get_timeout(LONG).unwrap()).collect();
            assert_eq!(got, (0..100).collect::<Vec<_>>());
            producer.join_timeout(LONG).unwrap().unwrap();
            assert_at_rest(&queue);
        }
    }

    #[test]
    fn those_who_wait_for_a_value_are_served_in_the_order_in_which_they_came() {
        let queue = Rc::new(Queue::unbounded());
        let getters: Vec<_> = (0..5).map(|_| spawn_with(&queue, Queue::get)).collect();
        yield_now();
        (0..5).for_each(|n| queue.put(n).unwrap());
        join_all(&getters, LONG).unwrap();
        let got: Vec<_> = getters.iter().map(|getter| getter.join().unwrap().unwrap()).collect();
        assert_eq!(got, [0, 1, 2, 3, 4]);
        assert_at_rest(&queue);
    }

    #[test]
    fn those_who_wait_for_space_are_served_in_the_order_in_which_they_came() {
        let queue = Rc::new(Queue::bounded(1));
        let putters: Vec<_> = (0..5).map(|n| spawn_with(&queue, move |queue| queue.put(n))).collect();
        yield_now();
        assert_eq!(queue.len(), 1, "the bound holds however many want to put");
        let got: Vec<_> = (0..5).map(|_| queue.get_timeout(LONG).unwrap()).collect();
        assert_eq!(got, [0, 1, 2, 3, 4]);
        join_all(&putters, LONG).unwrap();
        assert_at_rest(&queue);
    }

    #[test]
    fn what_never_parks_tells_full_and_empty() {
        let queue = Queue::bounded(1);
        assert_eq!(queue.try_get(), Err(GetError::Empty));
        assert_eq!(queue.try_put('a'), Ok(()));
        assert_eq!(queue.try_put('b'), Err(PutError::Full('b')));
        assert_eq!(queue.try_get(), Ok('a'));
        assert_at_rest(&queue);
    }

    #[test]
    fn who_comes_later_cannot_take_what_somebody_was_woken_for() {
        let queue = Rc::new(Queue::unbounded());
        let getter = spawn_with(&queue, Queue::get);
        yield_now();
        queue.put('a').unwrap();
        assert_eq!(queue.try_get(), Err(GetError::Empty));
        assert_eq!(getter.join_timeout(LONG).unwrap(), Ok('a'));

        let queue = Rc::new(Queue::bounded(1));
        queue.put('a').unwrap();
        let putter = spawn_with(&queue, |queue| queue.put('b'));
        yield_now();
        assert_eq!(queue.try_get(), Ok('a'));
        assert_eq!(queue.try_put('c'), Err(PutError::Full('c')));
        putter.join_timeout(LONG).unwrap().unwrap();
        assert_eq!(queue.try_get(), Ok('b'));
    }

    #[test]
    fn a_wait_that_timed_out_leaves_nothing_behind() {
        let queue = Queue::bounded(1);
        assert_eq!(queue.get_timeout(SHORT), Err(GetError::Wait(WaitError::TimedOut)));
        assert_at_rest(&queue);
        queue.put('a').unwrap();
        assert_eq!(queue.put_timeout('b', SHORT), Err(PutError::Wait('b', WaitError::TimedOut)));
        assert_at_rest(&queue);
        assert_eq!(queue.try_get(), Ok('a'));
    }

    #[test]
    fn a_waiter_that_is_killed_while_it_waits_leaves_nothing_behind() {
        let queue = Rc::new(Queue::bounded(1));
        let getter = spawn_with(&queue, Queue::get);
        yield_now();
        getter.kill().unwrap();
        assert_at_rest(&queue);
        queue.put('a').unwrap();
        let putter = spawn_with(&queue, |queue| queue.put('b'));
        yield_now();
        putter.kill().unwrap();
        assert_at_rest(&queue);
        assert_eq!(queue.try_get(), Ok('a'));
    }

    #[test]
    fn a_value_whose_getter_is_killed_goes_to_the_next_in_its_old_place() {
        let queue = Rc::new(Queue::unbounded());
        let getters = [(); 2].map(|()| spawn_with(&queue, Queue::get));
        yield_now();
        queue.put('a').unwrap();
        queue.put('b').unwrap();
        // Both have been woken, for a and b; the first dies before it can run.
        getters[0].kill_soon();
        assert_eq!(getters[1].join_timeout(LONG).unwrap(), Ok('a'));
        assert!(matches!(getters[0].join(), Err(JoinError::Killed)));
        assert_eq!(queue.try_get(), Ok('b'));
        assert_at_rest(&queue);
    }

    #[test]
    fn space_whose_putter_is_killed_goes_to_the_next() {
        let queue = Rc::new(Queue::bounded(1));
        queue.put('a').unwrap();
        let putters = ['b', 'c'].map(|value| spawn_with(&queue, move |queue| queue.put(value)));
        yield_now();
        assert_eq!(queue.get(), Ok('a'));
        putters[0].kill_soon();
        assert_eq!(putters[1].join_timeout(LONG).unwrap(), Ok(()));
        assert_eq!(queue.get_timeout(LONG), Ok('c'));
        assert_at_rest(&queue);
    }

    #[test]
    fn closing_wakes_all_who_wait() {
        let queue = Rc::new(Queue::<char>::unbounded());
        let getters: Vec<_> = (0..3).map(|_| spawn_with(&queue, Queue::get)).collect();
        yield_now();
        queue.close();
        for getter in &getters {
            assert_eq!(getter.join_timeout(LONG).unwrap(), Err(GetError::Closed));
        }

        let queue = Rc::new(Queue::bounded(1));
        queue.put('a').unwrap();
        let putters: Vec<_> = (0..3).map(|_| spawn_with(&queue, |queue| queue.put('b'))).collect();
        yield_now();
        queue.close();
        for putter in &putters {
            assert_eq!(putter.join_timeout(LONG).unwrap(), Err(PutError::Closed('b')));
        }
        assert_eq!((queue.get(), queue.get()), (Ok('a'), Err(GetError::Closed)));
    }

    #[test]
    fn a_closed_queue_gives_what_it_holds_and_takes_no_more() {
        let queue = Queue::unbounded();
        queue.put('a').unwrap();
        queue.close();
        assert_eq!(queue.put('b'), Err(PutError::Closed('b')));
        assert_eq!(queue.try_put('b'), Err(PutError::Closed('b')));
        assert_eq!((queue.get(), queue.get()), (Ok('a'), Err(GetError::Closed)));
        assert_eq!(queue.try_get(), Err(GetError::Closed));
        queue.close();
    }

    #[test]
    fn a_kill_after_the_close_makes_up_no_value() {
        let queue = Rc::new(Queue::<char>::unbounded());
        let getter = spawn_with(&queue, Queue::get);
        yield_now();
        queue.close();
        getter.kill().unwrap();
        assert_eq!(queue.get(), Err(GetError::Closed));
        assert_eq!(queue.try_get(), Err(GetError::Closed));
    }

    #[test]
    fn a_value_is_dropped_once_wherever_it_ends() {
        let value = Rc::new(());
        let queue = Rc::new(Queue::bounded(1));
        queue.put(value.clone()).unwrap();
        drop(queue.try_put(value.clone()));
        drop(queue.put_timeout(value.clone(), SHORT));
        assert_eq!(Rc::strong_count(&value), 2, "what was not put came back");
        let putter = {
            let value = value.clone();
            spawn_with(&queue, move |queue| queue.put(value).is_ok())
        };
        yield_now();
        putter.kill().unwrap();
        assert_eq!(Rc::strong_count(&value), 2, "a killed put drops its value");
        drop(queue.get());
        assert_eq!(Rc::strong_count(&value), 1);
        queue.put(value.clone()).unwrap();
        drop((queue, putter));
        assert_eq!(Rc::strong_count(&value), 1, "a queue drops what it holds");
    }
}
