//! One function on many items, each in a greenlet of a group or pool.
//!
//! A feeder greenlet takes the items and has the pool spawn a worker for each; the consumer takes the results. What is at
//! work or done and not yet taken is counted: the feeder waits while it is as much as allowed.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::rc::Rc;
use std::time::Duration;

use super::members::deadline;
use crate::error::{JoinError, WaitError};
use crate::greenlet::{GreenletRef, WaitsFor, current, spawn};
use crate::hub::{Hub, Moment};
use crate::sync::{Waiters, Waiting};
use crate::unwind::{self, Caught, catch_panic};

/// Where the workers come from.
pub(super) trait Crew: Clone + 'static {
    /// Spawns a worker, waiting for room if need be. `work` is dropped if that fails.
    fn hire(&self, work: impl FnOnce() + 'static) -> Result<GreenletRef, WaitError>;
}

/// Runs `f` here, as if it had been spawned and joined.
pub(super) fn apply<T>(f: impl FnOnce() -> T) -> Result<T, JoinError> {
    catch_panic(f).map_err(JoinError::Panicked)
}

pub(super) fn map<C, I, F, R>(crew: C, items: I, f: F) -> Result<Vec<R>, JoinError>
where
    C: Crew,
    I: IntoIterator<IntoIter: 'static, Item: 'static>,
    F: Fn(I::Item) -> R + 'static,
    R: 'static,
{
    Imap::new(crew, items, f).collect()
}

macro_rules! imap {
    ($(#[$doc:meta])* $name:ident, $order:expr) => {
        $(#[$doc])*
        ///
        /// Each yield parks the caller until there is a result, and frees the room that it took up. An item whose greenlet
        /// panicked or was killed yields that as an error, and the others go on. If the input iterator itself panics, that is
        /// the last error. When the wait fails ([`JoinError::Wait`]), the iterator ends.
        ///
        /// Dropping it early kills its feeder and the workers it has spawned, without waiting for them, and drops the rest
        /// of the input and the results that are there.
        #[must_use = "dropping it kills its workers"]
        pub struct $name<R: 'static>(Run<R>);

        impl<R: 'static> $name<R> {
            pub(super) fn new<C, I, F>(crew: C, items: I, f: F) -> $name<R>
            where
                C: Crew,
                I: IntoIterator<IntoIter: 'static, Item: 'static>,
                F: Fn(I::Item) -> R + 'static,
            {
                $name(Run::start(crew, items.into_iter(), f, $order))
            }

            /// Lets at most `count` items be at work, or done and waiting to be taken; at least one.
            pub fn maxsize(self, count: usize) -> $name<R> {
                self.0.state.maxsize.set(count.max(1));
                Waiters::wake_all(&self.0.state.feeder, Hub::get());
                self
            }

            /// The next result, waited for at most so long; `None` at the end. After `Wait(TimedOut)` it can be asked again.
            ///
            /// # Errors
            /// How the worker failed; `Wait` with `TimedOut`, and why the wait failed.
            pub fn next_timeout(&mut self, timeout: Duration) -> Result<Option<R>, JoinError> {
                self.0.take(deadline(timeout))
            }
        }

        impl<R: 'static> Iterator for $name<R> {
            type Item = Result<R, JoinError>;

            fn next(&mut self) -> Option<Result<R, JoinError>> {
                let next = self.0.take(None).transpose();
                if let Some(Err(JoinError::Wait(_))) = next {
                    self.0.abandon();
                }
                next
            }
        }

        impl<R: 'static> fmt::Debug for $name<R> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_struct(stringify!($name)).field("under_way", &self.0.state.taken_in.get()).finish()
            }
        }
    };
}

imap!(
    /// The results of a map as they come, in the order of the items: what [`Pool::imap`](crate::Pool::imap) returns.
    Imap,
    Order::OfItems
);
imap!(
    /// The results of a map in the order in which they come: what [`Pool::imap_unordered`](crate::Pool::imap_unordered)
    /// returns.
    ImapUnordered,
    Order::OfCompletion
);

#[derive(Clone, Copy, PartialEq, Eq)]
enum Order {
    OfItems,
    OfCompletion,
}

type Outcome<R> = Result<R, JoinError>;

/// The consumer's side.
struct Run<R> {
    state: Rc<State<R>>,
    feeder: GreenletRef,
}

struct State<R> {
    order: Order,
    maxsize: Cell<usize>,
    /// How many items are at work, or done and not yet taken.
    taken_in: Cell<usize>,
    /// The number of the next item.
    next: Cell<u64>,
    /// Results not yet taken; in the order of items a `None` holds the place of one still at work.
    results: RefCell<VecDeque<Option<Outcome<R>>>>,
    /// The number of the first of `results`, in the order of items.
    first: Cell<u64>,
    workers: RefCell<BTreeMap<u64, GreenletRef>>,
    /// No more items will come.
    fed: Cell<bool>,
    /// Nobody takes results any more.
    abandoned: Cell<bool>,
    consumer: RefCell<Waiters>,
    feeder: RefCell<Waiters>,
}

impl<R: 'static> Run<R> {
    fn start<C, I, F>(crew: C, mut items: I, f: F, order: Order) -> Run<R>
    where
        C: Crew,
        I: Iterator<Item: 'static> + 'static,
        F: Fn(I::Item) -> R + 'static,
    {
        let state = Rc::new(State {
            order,
            maxsize: Cell::new(usize::MAX),
            taken_in: Cell::new(0),
            next: Cell::new(0),
            results: RefCell::new(VecDeque::new()),
            first: Cell::new(0),
            workers: RefCell::new(BTreeMap::new()),
            fed: Cell::new(false),
            abandoned: Cell::new(false),
            consumer: RefCell::new(Waiters::new()),
            feeder: RefCell::new(Waiters::new()),
        });
        let feeding = Feeding(state.clone());
        let feeder = spawn(move || {
            let f = Rc::new(f);
            while feeding.0.wait_for_room().is_ok() {
                match catch_panic(|| items.next()) {
                    Ok(Some(item)) => {
                        let (job, number, f) = (Job::new(&feeding.0), feeding.0.next.get() - 1, f.clone());
                        match crew.hire(move || job.run(|| f(item))) {
                            Ok(worker) => drop(feeding.0.workers.borrow_mut().insert(number, worker)),
                            // The job, dropped unrun, is the last error.
                            Err(_) => return feeding.0.fed.set(true),
                        }
                    }
                    Ok(None) => {
                        feeding.0.fed.set(true);
                        return;
                    }
                    Err(panic) => {
                        feeding.0.fed.set(true);
                        Job::new(&feeding.0).end(Err(JoinError::Panicked(panic)));
                        return;
                    }
                }
            }
        });
        Run { state, feeder: (*feeder).clone() }
    }

    fn take(&self, deadline: Option<Moment>) -> Result<Option<R>, JoinError> {
        let state = &*self.state;
        if state.abandoned.get() {
            return Ok(None);
        }
        let done = || state.has_result() || (state.fed.get() && state.taken_in.get() == 0);
        Waiting::until(&state.consumer, WaitsFor::MapResult, deadline, done)?;
        let Some(Some(result)) = state.results.borrow_mut().pop_front() else { return Ok(None) };
        state.first.set(state.first.get() + 1);
        state.taken_in.set(state.taken_in.get() - 1);
        Waiters::wake_all(&state.feeder, Hub::get());
        result.map(Some)
    }
}

impl<R> Run<R> {
    fn abandon(&self) {
        self.state.abandoned.set(true);
        self.feeder.kill_soon();
        let workers: Vec<_> = self.state.workers.borrow().values().cloned().collect();
        // A worker that drops the iterator whose item it works on goes on to its end.
        let caller = current();
        workers.iter().filter(|worker| **worker != caller).for_each(GreenletRef::kill_soon);
        drop(self.state.results.take());
    }
}

impl<R> Drop for Run<R> {
    fn drop(&mut self) {
        self.abandon();
    }
}

impl<R> State<R> {
    fn wait_for_room(&self) -> Result<(), WaitError> {
        let room = || self.taken_in.get() < self.maxsize.get();
        Waiting::until(&self.feeder, WaitsFor::MapRoom, None, room)
    }

    fn has_result(&self) -> bool {
        matches!(self.results.borrow().front(), Some(Some(_)))
    }

    fn wake_consumer(&self) {
        Waiters::wake_all(&self.consumer, Hub::get());
    }
}

/// The feeder's mark: however it ends, the consumer learns of it.
struct Feeding<R>(Rc<State<R>>);

impl<R> Drop for Feeding<R> {
    fn drop(&mut self) {
        if !self.0.fed.get() && !self.0.abandoned.get() {
            // It could not start, or could not go on: what is missing must not look like the end.
            Job::new(&self.0).end(Err(JoinError::Killed));
        }
        self.0.fed.set(true);
        self.0.wake_consumer();
    }
}

/// One item under way. However it ends, the consumer gets a result.
struct Job<R> {
    state: Rc<State<R>>,
    number: u64,
    result: Outcome<R>,
}

impl<R> Job<R> {
    fn new(state: &Rc<State<R>>) -> Job<R> {
        let number = state.next.get();
        state.next.set(number + 1);
        state.taken_in.set(state.taken_in.get() + 1);
        if state.order == Order::OfItems {
            state.results.borrow_mut().push_back(None);
        }
        Job { state: state.clone(), number, result: Err(JoinError::Killed) }
    }

    fn run(mut self, f: impl FnOnce() -> R) {
        self.result = match unwind::catch(f) {
            Caught::Returned(value) => Ok(value),
            Caught::Panicked(panic) => Err(JoinError::Panicked(panic)),
            Caught::Interrupted(interrupt) => {
                self.result = Err(interrupt.into());
                unwind::raise(interrupt)
            }
        };
    }

    fn end(mut self, result: Outcome<R>) {
        self.result = result;
    }
}

impl<R> Drop for Job<R> {
    fn drop(&mut self) {
        let state = &*self.state;
        let worker = state.workers.borrow_mut().remove(&self.number);
        drop(worker);
        let result = std::mem::replace(&mut self.result, Err(JoinError::Killed));
        if state.abandoned.get() {
            if let Err(JoinError::Panicked(panic)) = result {
                log::error!("{panic} (and nobody takes the results of its imap any more)");
            }
            return;
        }
        {
            let mut results = state.results.borrow_mut();
            match state.order {
                Order::OfCompletion => results.push_back(Some(result)),
                Order::OfItems => {
                    let place = usize::try_from(self.number - state.first.get()).unwrap_or(usize::MAX);
                    if let Some(place) = results.get_mut(place) {
                        *place = Some(result);
                    }
                }
            }
        }
        if state.has_result() {
            state.wake_consumer();
        }
    }
}
