//! Waiting for several things at once, of one kind or of many (`gevent.wait`, `gevent.iwait`). To wait for the first of
//! several and take it, use [`select!`](crate::select!).

use std::cell::RefCell;
use std::fmt;
use std::iter::FusedIterator;
use std::rc::Rc;
use std::time::Duration;

use crate::error::WaitError;
use crate::greenlet::{Greenlet, GreenletRef, ScopedGreenlet, WaitsFor};
use crate::hub::{Hub, Moment};
use crate::sync::channel::Receiver;
use crate::sync::{
    AsyncResult, BoundedSemaphore, Event, Gather, Mutex, Queue, RLock, Semaphore, Store, TaskQueue, Waiters,
    Watching,
};

/// Waits until `count` of the objects are ready (`None`: all of them), or `timeout` is over (`None`: never), and returns
/// those that are, in the order in which they became so (`gevent.wait`). Parks the caller.
///
/// Those that are ready from the beginning come first, in the order in which they are given. Nothing is taken: join the
/// greenlet, get from the queue. So an object may be ready no more when this returns, because somebody else was quicker;
/// who waits here for a semaphore, a lock or a queue keeps its place among those who wait for it, and what it is handed
/// goes on to the next at once.
///
/// | object | ready when |
/// |---|---|
/// | [`Greenlet`], [`GreenletRef`], [`ScopedGreenlet`] | it has ended, however it has |
/// | [`Event`], [`AsyncResult`] | it has been set, even if it is cleared right after |
/// | [`Semaphore`], [`BoundedSemaphore`], [`Mutex`], [`RLock`] | it could be taken |
/// | [`Queue`], [`JoinableQueue`](crate::sync::JoinableQueue) and its kin, [`Receiver`] | there is a value, or there will never be one again |
/// | `(label, object)` | the object is |
///
/// Objects of several kinds go as `&dyn Waitable`; a label tells them apart. An object that is given twice counts twice.
///
/// ```
/// use greenlet::sync::Event;
/// use greenlet::{Waitable, sleep, spawn, wait};
/// use std::time::Duration;
///
/// let jobs = [3600, 0].map(|seconds| spawn(move || sleep(Duration::from_secs(seconds))));
/// let first = wait(&jobs, None, 1).unwrap();
/// assert_eq!(first[0].id(), jobs[1].id());
///
/// let stop = Event::new();
/// let objects: [(&str, &dyn Waitable); 2] = [("stop", &stop), ("job", &jobs[1])];
/// let ready = wait(&objects, Duration::from_secs(60), 1).unwrap();
/// assert_eq!(ready[0].0, "job");
/// ```
///
/// # Errors
/// Why the wait failed, as told at [`WaitError`]; that the time is over is no error.
pub fn wait<W: Waitable>(
    objects: &[W],
    timeout: impl Into<Option<Duration>>,
    count: impl Into<Option<usize>>,
) -> Result<Vec<&W>, WaitError> {
    let mut waiting = iwait(objects, timeout, count);
    let mut ready = Vec::new();
    while let Some(object) = waiting.advance()? {
        ready.push(object);
    }
    Ok(ready)
}

/// As [`wait()`], but gives each object as soon as it is ready (`gevent.iwait`): an iterator that parks the caller for the
/// next, and ends after `count` of them, or when `timeout` is over, counted from this call.
///
/// What becomes ready between two steps is noted, in its order. Dropped early, it leaves nothing behind. It may be moved
/// to another greenlet.
///
/// # Panics
/// The iterator: with the report of a [`LoopExit`](crate::LoopExit). It just ends where the caller cannot be parked.
///
/// ```
/// use greenlet::{iwait, sleep, spawn};
/// use std::time::Duration;
///
/// let jobs = [30, 1, 15].map(|ms| spawn(move || { sleep(Duration::from_millis(ms)); ms }));
/// let ended: Vec<u64> = iwait(&jobs, None, None).map(|job| job.join().unwrap()).collect();
/// assert_eq!(ended, [1, 15, 30]);
/// ```
pub fn iwait<W: Waitable>(
    objects: &[W],
    timeout: impl Into<Option<Duration>>,
    count: impl Into<Option<usize>>,
) -> IterReady<'_, W> {
    let gather = Gather::new(objects.len());
    let mut watching = Vec::new();
    for (number, object) in objects.iter().enumerate() {
        if object.is_ready_now() {
            gather.came(number);
        } else {
            watching.push(Watching::enter(object.line().0, &gather, number));
        }
    }
    let count = count.into().unwrap_or(objects.len()).min(objects.len());
    let deadline = timeout.into().and_then(|timeout| Hub::get().deadline(timeout));
    IterReady { objects, gather, watching, left: count, deadline }
}

/// See [`iwait`].
#[must_use = "an iterator that is not stepped waits for nothing"]
pub struct IterReady<'a, W> {
    objects: &'a [W],
    gather: Rc<Gather>,
    watching: Vec<Watching<'a>>,
    left: usize,
    deadline: Option<Moment>,
}

impl<'a, W> IterReady<'a, W> {
    fn advance(&mut self) -> Result<Option<&'a W>, WaitError> {
        let next = match self.left {
            0 => Ok(None),
            left => self.gather.next(WaitsFor::Objects(left), self.deadline),
        };
        self.left = match next {
            Ok(Some(_)) => self.left - 1,
            _ => 0,
        };
        if self.left == 0 {
            self.watching.clear();
        }
        Ok(next?.map(|number| &self.objects[number]))
    }
}

impl<'a, W> Iterator for IterReady<'a, W> {
    type Item = &'a W;

    fn next(&mut self) -> Option<&'a W> {
        match self.advance() {
            Ok(next) => next,
            Err(WaitError::LoopExit(exit)) => panic!("{exit}"),
            Err(_) => None,
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (0, Some(self.left))
    }
}

impl<W> FusedIterator for IterReady<'_, W> {}

impl<W> fmt::Debug for IterReady<'_, W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IterReady").field("left", &self.left).finish_non_exhaustive()
    }
}

/// Waits until nothing is left to run on this thread, or `timeout` is over (`None`: never): no greenlet is ready, no timer
/// is pending, nobody waits for a descriptor, and no other thread has a way in (`gevent.wait()` without objects,
/// `hub.join`). Parks the caller, and so lets everything else run: what a program whose work is in greenlets ends with.
///
/// Greenlets that wait for what nobody can bring about any more are left where they are, as gevent leaves them: this is
/// where any other wait of the main program would fail with [`LoopExit`](crate::LoopExit). A server that listens never
/// lets it end.
///
/// Not `gevent.idle`, which lets others go first once: that is [`yield_now`](crate::yield_now).
///
/// ```
/// use std::{cell::Cell, rc::Rc, time::Duration};
///
/// let done = Rc::new(Cell::new(0));
/// for n in 1..=3 {
///     let done = done.clone();
///     greenlet::spawn_later(Duration::from_millis(n), move || done.set(done.get() + 1));
/// }
/// greenlet::wait_for_quiet(Duration::from_secs(60)).unwrap();
/// assert_eq!(done.get(), 3);
/// ```
///
/// # Errors
/// `TimedOut`, `Unwinding` and `NoHub` as told at [`WaitError`].
pub fn wait_for_quiet(timeout: impl Into<Option<Duration>>) -> Result<(), WaitError> {
    let hub = Hub::get();
    hub.wait_for_quiet(timeout.into().and_then(|timeout| hub.deadline(timeout)))
}

/// What [`wait()`] and [`iwait`] wait for: the table there tells what each kind is ready by. Closed to other types.
pub trait Waitable: sealed::Line {}

impl<W: sealed::Line + ?Sized> Waitable for W {}

mod sealed {
    use super::*;

    pub trait Line {
        /// Whether there is nothing to wait for.
        fn is_ready_now(&self) -> bool;
        /// Where to wait.
        fn line(&self) -> List<'_>;
    }

    #[allow(missing_debug_implementations, reason = "nobody can see it")]
    pub struct List<'a>(pub(super) &'a RefCell<Waiters>);
}

use sealed::{Line, List};

impl Line for GreenletRef {
    fn is_ready_now(&self) -> bool {
        self.is_dead()
    }

    fn line(&self) -> List<'_> {
        List(&self.0.joiners)
    }
}

impl Line for Event {
    fn is_ready_now(&self) -> bool {
        self.is_set()
    }

    fn line(&self) -> List<'_> {
        List(self.waiters())
    }
}

impl Line for Semaphore {
    fn is_ready_now(&self) -> bool {
        self.available() > 0
    }

    fn line(&self) -> List<'_> {
        List(self.waiters())
    }
}

impl<T: ?Sized> Line for RLock<T> {
    fn is_ready_now(&self) -> bool {
        self.is_owned() || self.free().is_ready_now()
    }

    fn line(&self) -> List<'_> {
        self.free().line()
    }
}

impl<T> Line for Queue<T> {
    fn is_ready_now(&self) -> bool {
        self.has_something()
    }

    fn line(&self) -> List<'_> {
        self.filled().line()
    }
}

impl<L, W: Line> Line for (L, W) {
    fn is_ready_now(&self) -> bool {
        self.1.is_ready_now()
    }

    fn line(&self) -> List<'_> {
        self.1.line()
    }
}

/// Those that wait as another does.
macro_rules! waits_as {
    ($([$($generics:tt)*] $object:ty: |$this:ident| $other:expr;)*) => {$(
        impl<$($generics)*> Line for $object {
            fn is_ready_now(&self) -> bool {
                let $this = self;
                $other.is_ready_now()
            }

            fn line(&self) -> List<'_> {
                let $this = self;
                $other.line()
            }
        }
    )*};
}

waits_as! {
    [T] Greenlet<T>: |this| **this;
    [T] ScopedGreenlet<'_, T>: |this| **this;
    [T] AsyncResult<T>: |this| this.ready();
    [] BoundedSemaphore: |this| this.semaphore();
    [T: ?Sized] Mutex<T>: |this| this.free();
    [T, S: Store<T>] TaskQueue<T, S>: |this| this.tokens();
    [T] Receiver<T>: |this| this.queue();
    [W: Line + ?Sized] &W: |this| **this;
    [W: Line + ?Sized] Rc<W>: |this| **this;
    [W: Line + ?Sized] Box<W>: |this| **this;
}
