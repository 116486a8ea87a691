//! Queues of tasks: in an order of their own, and counted until they are done.

use std::cell::{Cell, RefCell};
use std::cmp::Ordering;
use std::collections::{BinaryHeap, VecDeque};
use std::fmt;
use std::time::Duration;

use super::event::Event;
use super::queue::Queue;
use super::queue_error::{GetError, PutError};
use crate::error::WaitError;
use crate::greenlet::WaitsFor;
use crate::hub::Hub;

/// A queue that knows when all that was put has been worked on (`gevent.queue.JoinableQueue`).
///
/// ```
/// use std::rc::Rc;
/// use greenlet::sync::JoinableQueue;
///
/// let jobs = Rc::new(JoinableQueue::unbounded());
/// for _ in 0..3 {
///     let jobs = jobs.clone();
///     greenlet::spawn(move || {
///         for job in jobs.iter() {
///             let _: u32 = job; // work on it
///             jobs.task_done().unwrap();
///         }
///     });
/// }
/// (0..10).for_each(|job| jobs.put(job).unwrap());
/// jobs.join().unwrap();
/// assert_eq!(jobs.unfinished_tasks(), 0);
/// jobs.close();
/// ```
pub type JoinableQueue<T> = TaskQueue<T, VecDeque<T>>;

/// A queue that gives the value that was put last (`gevent.queue.LifoQueue`).
///
/// ```
/// let queue = greenlet::sync::LifoQueue::unbounded();
/// queue.put('a').unwrap();
/// queue.put('b').unwrap();
/// assert_eq!((queue.get(), queue.get()), (Ok('b'), Ok('a')));
/// ```
pub type LifoQueue<T> = TaskQueue<T, Vec<T>>;

/// A queue that gives the smallest value (`gevent.queue.PriorityQueue`); of equal ones, that which was put first. For
/// the greatest first, put [`Reverse`](std::cmp::Reverse)s.
///
/// ```
/// let queue = greenlet::sync::PriorityQueue::unbounded();
/// [(2, "wash"), (1, "eat"), (3, "sleep")].map(|task| queue.put(task).unwrap());
/// assert_eq!(queue.get().unwrap(), (1, "eat"));
/// ```
pub type PriorityQueue<T> = TaskQueue<T, Smallest<T>>;

/// What [`JoinableQueue`], [`LifoQueue`] and [`PriorityQueue`] are: a [`Queue`] in the order of the store `S`, which
/// counts what was put until [`task_done`](Self::task_done) has been called for it.
///
/// Who waits for a value or for space is served in the order in which it came, whatever the order of the values. One
/// who was woken for a value takes the first of those that are there when it runs.
pub struct TaskQueue<T, S: Store<T>> {
    /// One token for each value: whoever has got one may take one.
    tokens: Queue<()>,
    values: RefCell<S>,
    unfinished: Cell<usize>,
    /// Set while nothing is unfinished.
    all_done: Event,
    _values: std::marker::PhantomData<T>,
}

impl<T, S: Store<T>> TaskQueue<T, S> {
    /// A queue that takes any number of values: [`put`](Self::put) never waits.
    pub fn unbounded() -> TaskQueue<T, S> {
        TaskQueue::with_tokens(Queue::unbounded())
    }

    /// A queue that holds at most `capacity` values.
    ///
    /// # Panics
    /// If `capacity` is 0: values that are never held have no order.
    pub fn bounded(capacity: usize) -> TaskQueue<T, S> {
        assert!(capacity > 0, "a queue of tasks needs room for one at least; Queue::rendezvous() needs none");
        TaskQueue::with_tokens(Queue::bounded(capacity))
    }

    fn with_tokens(tokens: Queue<()>) -> TaskQueue<T, S> {
        let all_done = Event::new();
        all_done.set();
        TaskQueue {
            tokens,
            values: RefCell::default(),
            unfinished: Cell::new(0),
            all_done,
            _values: std::marker::PhantomData,
        }
    }

    /// Puts a value, waiting for space if need be, and counts it as unfinished. Parks the caller while the queue is
    /// full.
    ///
    /// # Errors
    /// `Closed` when the queue is, or while the caller waits becomes, closed; `Wait` with why the wait failed. The value
    /// comes back in both.
    pub fn put(&self, value: T) -> Result<(), PutError<T>> {
        self.put_after(self.tokens.put(()), value)
    }

    /// As [`put`](Self::put), for a limited time.
    ///
    /// # Errors
    /// `Wait` with `TimedOut`, and those of [`put`](Self::put).
    pub fn put_timeout(&self, value: T, timeout: Duration) -> Result<(), PutError<T>> {
        self.put_after(self.tokens.put_timeout((), timeout), value)
    }

    /// Puts a value if there is space at once (`put_nowait`). Never parks.
    ///
    /// # Errors
    /// `Full` and `Closed`, with the value.
    #[doc(alias = "put_nowait")]
    pub fn try_put(&self, value: T) -> Result<(), PutError<T>> {
        self.put_after(self.tokens.try_put(()), value)
    }

    /// Takes the first value, waiting for one if need be. Parks the caller while the queue is empty. What was put before
    /// the queue was closed can still be taken.
    ///
    /// # Errors
    /// `Closed` when the queue is closed and empty; `Wait` with why the wait failed.
    pub fn get(&self) -> Result<T, GetError> {
        self.take_after(self.tokens.get())
    }

    /// As [`get`](Self::get), for a limited time.
    ///
    /// # Errors
    /// `Wait` with `TimedOut`, and those of [`get`](Self::get).
    pub fn get_timeout(&self, timeout: Duration) -> Result<T, GetError> {
        self.take_after(self.tokens.get_timeout(timeout))
    }

    /// Takes the first value if there is one that nobody has been woken for (`get_nowait`). Never parks.
    ///
    /// # Errors
    /// `Empty`, or `Closed` when there will never be one.
    #[doc(alias = "get_nowait")]
    pub fn try_get(&self) -> Result<T, GetError> {
        self.take_after(self.tokens.try_get())
    }

    /// A copy of the first value, which stays where it is; waits for one if need be. Parks the caller while the queue
    /// is empty.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub fn peek(&self) -> Result<T, GetError>
    where
        T: Clone,
    {
        self.look_after(self.tokens.peek())
    }

    /// As [`peek`](Self::peek), for a limited time.
    ///
    /// # Errors
    /// `Wait` with `TimedOut`, and those of [`peek`](Self::peek).
    pub fn peek_timeout(&self, timeout: Duration) -> Result<T, GetError>
    where
        T: Clone,
    {
        self.look_after(self.tokens.peek_timeout(timeout))
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
        self.look_after(self.tokens.try_peek())
    }

    /// Takes values, waiting for each, until the queue is closed and empty.
    ///
    /// # Panics
    /// With the report of a [`LoopExit`](crate::LoopExit), which gevent raises there too. It just ends where the caller
    /// cannot be parked.
    pub fn iter(&self) -> impl Iterator<Item = T> {
        self.tokens.iter().map_while(|()| self.values.borrow_mut().pop())
    }

    /// Says that what has been got is worked on: once for each value. Never parks.
    ///
    /// # Errors
    /// When it has been called for all that were put already. Nothing changes then.
    pub fn task_done(&self) -> Result<(), TooManyDone> {
        let unfinished = self.unfinished.get().checked_sub(1).ok_or(TooManyDone)?;
        self.unfinished.set(unfinished);
        if unfinished == 0 {
            self.all_done.set();
        }
        Ok(())
    }

    /// Waits until [`task_done`](Self::task_done) has been called for all that was put. Parks the caller. Who waits when
    /// the last is done is woken even if more is put right after.
    ///
    /// # Errors
    /// `Unwinding`, `LoopExit` and `NoHub` as told at [`WaitError`].
    pub fn join(&self) -> Result<(), WaitError> {
        self.all_done.wait_for(WaitsFor::Tasks, None)
    }

    /// As [`join`](Self::join), for a limited time.
    ///
    /// # Errors
    /// `TimedOut`, and those of [`join`](Self::join).
    pub fn join_timeout(&self, timeout: Duration) -> Result<(), WaitError> {
        self.all_done.wait_for(WaitsFor::Tasks, Hub::get().deadline(timeout))
    }

    /// How many were put for which [`task_done`](Self::task_done) has not been called.
    pub fn unfinished_tasks(&self) -> usize {
        self.unfinished.get()
    }

    /// Takes no more values, and wakes all who wait to put or get. Closing twice is no error.
    #[doc(alias = "shutdown")]
    pub fn close(&self) {
        self.tokens.close();
    }

    /// Whether [`close`](Self::close) has been called.
    pub fn is_closed(&self) -> bool {
        self.tokens.is_closed()
    }

    /// How many values are in the queue, those included for which somebody has been woken but has not run yet
    /// (`qsize`).
    #[doc(alias = "qsize")]
    pub fn len(&self) -> usize {
        self.tokens.len()
    }

    /// Whether no value is in the queue (`empty`).
    pub fn is_empty(&self) -> bool {
        self.tokens.is_empty()
    }

    /// Whether as many values are in the queue as it holds (`Queue.full`).
    #[doc(alias = "full")]
    pub fn is_full(&self) -> bool {
        self.capacity().is_some_and(|capacity| self.len() >= capacity)
    }

    /// How many values the queue holds at most (`maxsize`); `None` if there is no bound.
    #[doc(alias = "maxsize")]
    pub fn capacity(&self) -> Option<usize> {
        self.tokens.capacity()
    }

    /// One token for each value.
    pub(crate) fn tokens(&self) -> &Queue<()> {
        &self.tokens
    }

    /// Nobody else runs between the token and the value, here and below.
    fn put_after(&self, token: Result<(), PutError<()>>, value: T) -> Result<(), PutError<T>> {
        match token {
            Ok(()) => {
                self.values.borrow_mut().push(value);
                self.unfinished.set(self.unfinished.get() + 1);
                self.all_done.clear();
                Ok(())
            }
            Err(PutError::Full(())) => Err(PutError::Full(value)),
            Err(PutError::Closed(())) => Err(PutError::Closed(value)),
            Err(PutError::Wait((), error)) => Err(PutError::Wait(value, error)),
        }
    }

    pub(crate) fn take_after(&self, token: Result<(), GetError>) -> Result<T, GetError> {
        token?;
        self.values.borrow_mut().pop().ok_or(GetError::Closed)
    }

    fn look_after(&self, token: Result<(), GetError>) -> Result<T, GetError>
    where
        T: Clone,
    {
        token?;
        self.values.borrow().first().cloned().ok_or(GetError::Closed)
    }
}

impl<T, S: Store<T>> Default for TaskQueue<T, S> {
    fn default() -> TaskQueue<T, S> {
        TaskQueue::unbounded()
    }
}

impl<T, S: Store<T>> fmt::Debug for TaskQueue<T, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TaskQueue")
            .field("len", &self.len())
            .field("capacity", &self.capacity())
            .field("closed", &self.is_closed())
            .field("unfinished_tasks", &self.unfinished_tasks())
            .finish_non_exhaustive()
    }
}

/// [`TaskQueue::task_done`] was called more often than values were put.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooManyDone;

impl fmt::Display for TooManyDone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("task_done was called more often than values were put into the queue")
    }
}

impl std::error::Error for TooManyDone {}

/// Where a [`TaskQueue`] keeps its values, and so in which order it gives them: a `VecDeque` the first, a `Vec` the
/// last, [`Smallest`] the smallest. Closed to other types.
pub trait Store<T>: Default + sealed::Sealed {
    /// Takes a value in.
    fn push(&mut self, value: T);
    /// Takes out the value whose turn it is.
    fn pop(&mut self) -> Option<T>;
    /// The value whose turn it is.
    fn first(&self) -> Option<&T>;
}

impl<T> Store<T> for VecDeque<T> {
    fn push(&mut self, value: T) {
        self.push_back(value);
    }

    fn pop(&mut self) -> Option<T> {
        self.pop_front()
    }

    fn first(&self) -> Option<&T> {
        self.front()
    }
}

impl<T> Store<T> for Vec<T> {
    fn push(&mut self, value: T) {
        self.push(value);
    }

    fn pop(&mut self) -> Option<T> {
        self.pop()
    }

    fn first(&self) -> Option<&T> {
        self.last()
    }
}

/// A heap that gives the smallest value first, and equal ones in the order in which they came.
pub struct Smallest<T> {
    heap: BinaryHeap<Ranked<T>>,
    next: u64,
}

impl<T: Ord> Default for Smallest<T> {
    fn default() -> Smallest<T> {
        Smallest { heap: BinaryHeap::new(), next: 0 }
    }
}

impl<T: Ord> Store<T> for Smallest<T> {
    fn push(&mut self, value: T) {
        self.heap.push(Ranked { value, came: self.next });
        self.next += 1;
    }

    fn pop(&mut self) -> Option<T> {
        self.heap.pop().map(|ranked| ranked.value)
    }

    fn first(&self) -> Option<&T> {
        self.heap.peek().map(|ranked| &ranked.value)
    }
}

impl<T> fmt::Debug for Smallest<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Smallest").field("len", &self.heap.len()).finish_non_exhaustive()
    }
}

struct Ranked<T> {
    value: T,
    came: u64,
}

impl<T: Ord> Ord for Ranked<T> {
    fn cmp(&self, other: &Ranked<T>) -> Ordering {
        // the other way round, for the heap gives the greatest
        other.value.cmp(&self.value).then(other.came.cmp(&self.came))
    }
}

impl<T: Ord> PartialOrd for Ranked<T> {
    fn partial_cmp(&self, other: &Ranked<T>) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<T: Ord> PartialEq for Ranked<T> {
    fn eq(&self, other: &Ranked<T>) -> bool {
        self.cmp(other).is_eq()
    }
}

impl<T: Ord> Eq for Ranked<T> {}

mod sealed {
    pub trait Sealed {}
    impl<T> Sealed for std::collections::VecDeque<T> {}
    impl<T> Sealed for Vec<T> {}
    impl<T> Sealed for super::Smallest<T> {}
}
