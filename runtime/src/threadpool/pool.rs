//! The threads, and the queue before them.

use std::cell::Cell;
use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use super::job::{self, ThreadJob};
use super::line::{Line, wait};
use super::lock;
use crate::error::{JoinError, WaitError};
use crate::hub::Hub;
use crate::unwind;

/// A bounded number of OS threads for work that blocks (`gevent.threadpool.ThreadPool`). Clones share the pool, and may be
/// sent to other threads: greenlets of any hub use it.
///
/// A thread is started when there is work and none is idle, up to the maximum; one that has been idle for a while ends.
/// Jobs are begun in the order in which they came. Those that no thread is free for wait in a queue; when that is full,
/// [`spawn`](Self::spawn) parks, first come, first served.
///
/// A job that waits for another job of the same pool may wait for ever, when all threads do so; [`apply`](Self::apply) knows
/// its own threads and runs in place there. A job cannot be interrupted: if who waits for it is killed or times out, it runs to its end and its result is dropped on
/// the pool's thread.
///
/// Dropping the last clone takes no more work and waits for nothing: what is queued is still run, then the threads end. When
/// the process exits they are not waited for. [`shutdown`](Self::shutdown) waits.
///
/// [`unblock`](crate::unblock) uses a pool of the process; one of your own keeps some work from waiting for other work, or
/// bounds how much of it is done at once.
///
/// ```
/// let pool = greenlet::ThreadPool::new(4);
/// let job = pool.spawn(|| std::fs::read_to_string("/proc/self/comm")).unwrap();
/// assert!(job.join().unwrap().is_ok());
/// assert_eq!(pool.map(1..=3, |n| n * n).unwrap(), [1, 4, 9]);
/// pool.shutdown(None).unwrap();
/// ```
#[derive(Clone)]
pub struct ThreadPool(Arc<Owners>);

/// What the clones share; the threads do not.
struct Owners(Arc<Shared>);

struct Shared {
    name: String,
    max_threads: usize,
    queue: usize,
    idle_timeout: Duration,
    state: Mutex<State>,
    work: Condvar,
}

struct State {
    tasks: VecDeque<Task>,
    threads: usize,
    idle: usize,
    closed: bool,
    /// Who waits for room in the queue.
    room: Line,
    /// Who waits until nothing is done any more.
    rest: Line,
}

type Task = Box<dyn FnOnce() + Send>;

thread_local! {
    /// The pool whose thread this is.
    static OWN: Cell<*const Shared> = const { Cell::new(std::ptr::null()) };
}

/// Whether this is a thread of any pool.
pub(super) fn on_a_pools_thread() -> bool {
    !OWN.get().is_null()
}

impl ThreadPool {
    /// A pool of at most `max_threads` threads, at least one. No thread is started yet.
    pub fn new(max_threads: usize) -> ThreadPool {
        ThreadPool::builder(max_threads).build()
    }

    /// A pool of at most `max_threads` threads with settings of its own.
    pub fn builder(max_threads: usize) -> ThreadPoolBuilder {
        ThreadPoolBuilder {
            name: "greenlet-pool".to_owned(),
            max_threads: max_threads.max(1),
            queue: 1024,
            idle_timeout: Duration::from_secs(10),
        }
    }

    /// Has a thread run `f` (`ThreadPool.spawn`). Parks the caller while the queue is full. Where no thread can be started at
    /// all, `f` runs in place.
    ///
    /// # Errors
    /// `ShutDown`; `Wait` with why the wait for room failed. `f` is dropped then.
    pub fn spawn<F, T>(&self, f: F) -> Result<ThreadJob<T>, JoinError>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        let shared = self.shared();
        let (task, job) = job::new(f);
        let mut task = Some(task);
        let accepted = wait(
            &shared.state,
            |state| &mut state.room,
            None,
            |state, is_turn| {
                if state.closed {
                    return Some(None);
                }
                let room = is_turn && state.tasks.len() < shared.queue;
                room.then(|| task.take().map(|task| shared.push(state, task)))
            },
        );
        match accepted.map_err(JoinError::Wait)? {
            None => Err(JoinError::ShutDown),
            Some(start) => {
                shared.start_thread(start);
                Ok(job)
            }
        }
    }

    /// As [`spawn`](Self::spawn), but hands `f` back if the queue is full, or the pool shut down. Never parks.
    ///
    /// # Errors
    /// `f`.
    pub fn try_spawn<F, T>(&self, f: F) -> Result<ThreadJob<T>, F>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        let shared = self.shared();
        let (job, start) = {
            let mut state = lock(&shared.state);
            if state.closed || state.tasks.len() >= shared.queue || !state.room.is_empty() {
                return Err(f);
            }
            let (task, job) = job::new(f);
            (job, shared.push(&mut state, task))
        };
        shared.start_thread(start);
        Ok(job)
    }

    /// Has a thread run `f` and waits for its value (`ThreadPool.apply`). Parks the caller. On one of the pool's own threads
    /// it runs `f` in place.
    ///
    /// # Errors
    /// `f`'s panic; `ShutDown`; `Wait` with why the wait failed.
    pub fn apply<F, T>(&self, f: F) -> Result<T, JoinError>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        if std::ptr::eq(OWN.get(), Arc::as_ptr(self.shared())) {
            return unwind::catch_panic(f).map_err(JoinError::Panicked);
        }
        self.spawn(f)?.join()
    }

    /// Runs `f` on each item, on as many threads as the pool has, and collects what it returns, in the order of the items
    /// (`ThreadPool.map`). Parks the caller. For results as they come, and for an endless input, see
    /// [`Pool::imap`](crate::Pool::imap) with a closure that calls [`apply`](Self::apply).
    ///
    /// # Errors
    /// The first failure in the order of the items; `ShutDown`; `Wait`. What has been handed to the pool by then still runs.
    pub fn map<I, F, R>(&self, items: I, f: F) -> Result<Vec<R>, JoinError>
    where
        I: IntoIterator<Item: Send + 'static>,
        F: Fn(I::Item) -> R + Send + Sync + 'static,
        R: Send + 'static,
    {
        let f = Arc::new(f);
        let mut jobs = Vec::new();
        for item in items {
            let f = f.clone();
            jobs.push(self.spawn(move || f(item))?);
        }
        jobs.into_iter().map(|job| job.join()).collect()
    }

    /// How many threads there are at most (`ThreadPool.maxsize`).
    #[doc(alias = "maxsize")]
    pub fn max_threads(&self) -> usize {
        self.shared().max_threads
    }

    /// How many threads there are now, idle ones included (`ThreadPool.size`).
    pub fn threads(&self) -> usize {
        lock(&self.shared().state).threads
    }

    /// How many jobs wait for a thread.
    pub fn queued(&self) -> usize {
        lock(&self.shared().state).tasks.len()
    }

    /// Waits until all jobs have been done, or `timeout` is over (`ThreadPool.join`). Parks the caller.
    ///
    /// # Errors
    /// `TimedOut`, and why the wait failed.
    pub fn join(&self, timeout: impl Into<Option<Duration>>) -> Result<(), WaitError> {
        self.wait_for_rest(timeout, |state| state.tasks.is_empty() && state.idle == state.threads)
    }

    /// Takes no more work, and waits until what is running and queued has been done and the threads have ended, or `timeout`
    /// is over (`ThreadPool.kill`). Who waits for room in the queue gets `ShutDown`. Parks the caller. Called twice it is no
    /// error; called by one of the pool's own threads it would wait for itself.
    ///
    /// # Errors
    /// `TimedOut`: what is running goes on to its end. Why the wait failed.
    #[doc(alias = "kill")]
    pub fn shutdown(&self, timeout: impl Into<Option<Duration>>) -> Result<(), WaitError> {
        self.shared().close();
        self.wait_for_rest(timeout, |state| state.threads == 0 && state.tasks.is_empty())
    }

    /// Drops the jobs that wait for a thread; who waits for them gets `ShutDown`. Returns how many there were. Before a
    /// [`shutdown`](Self::shutdown) that should not run them.
    pub fn cancel_queued(&self) -> usize {
        let tasks = {
            let mut state = lock(&self.shared().state);
            state.room.wake_first();
            std::mem::take(&mut state.tasks)
        };
        tasks.len()
    }

    fn wait_for_rest(
        &self,
        timeout: impl Into<Option<Duration>>,
        at_rest: fn(&State) -> bool,
    ) -> Result<(), WaitError> {
        let deadline = timeout.into().and_then(|timeout| Hub::get().deadline(timeout));
        wait(&self.shared().state, |state| &mut state.rest, deadline, |state, _| at_rest(state).then_some(()))
    }

    fn shared(&self) -> &Arc<Shared> {
        &self.0.0
    }
}

impl fmt::Debug for ThreadPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ThreadPool")
            .field("name", &self.shared().name)
            .field("max_threads", &self.max_threads())
            .field("threads", &self.threads())
            .field("queued", &self.queued())
            .finish()
    }
}

/// Makes a [`ThreadPool`] with settings of its own.
#[derive(Clone, Debug)]
#[must_use = "a builder makes nothing until `build` is called"]
pub struct ThreadPoolBuilder {
    name: String,
    max_threads: usize,
    queue: usize,
    idle_timeout: Duration,
}

impl ThreadPoolBuilder {
    /// The threads' name. Default `greenlet-pool`; Linux shows the first 15 bytes.
    pub fn name(mut self, name: impl Into<String>) -> ThreadPoolBuilder {
        self.name = name.into();
        self
    }

    /// How many jobs may wait for a thread, at least one. Default 1,024.
    pub fn queue(mut self, jobs: usize) -> ThreadPoolBuilder {
        self.queue = jobs.max(1);
        self
    }

    /// How long a thread without work stays. Default 10 s.
    pub fn idle_timeout(mut self, timeout: Duration) -> ThreadPoolBuilder {
        self.idle_timeout = timeout;
        self
    }

    /// The pool. No thread is started yet.
    pub fn build(self) -> ThreadPool {
        let ThreadPoolBuilder { name, max_threads, queue, idle_timeout } = self;
        let state = State {
            tasks: VecDeque::new(),
            threads: 0,
            idle: 0,
            closed: false,
            room: Line::new(),
            rest: Line::new(),
        };
        let state = Mutex::new(state);
        let shared = Shared { name, max_threads, queue, idle_timeout, state, work: Condvar::new() };
        ThreadPool(Arc::new(Owners(Arc::new(shared))))
    }
}

impl Drop for Owners {
    fn drop(&mut self) {
        self.0.close();
    }
}

impl Shared {
    /// Queues a task; returns whether the caller is to start a thread once it has let go of the lock.
    fn push(&self, state: &mut State, task: Task) -> bool {
        state.tasks.push_back(task);
        if state.idle >= state.tasks.len() {
            self.work.notify_one();
            return false;
        }
        let start = state.threads < self.max_threads;
        state.threads += usize::from(start);
        start
    }

    fn start_thread(self: &Arc<Self>, start: bool) {
        if !start {
            return;
        }
        let shared = self.clone();
        let thread = std::thread::Builder::new().name(self.name.clone());
        if let Err(error) = thread.spawn(move || shared.serve()) {
            self.thread_not_started(&error);
        }
    }

    /// The machine gives no more threads: those there are must do, and if there are none the caller itself.
    fn thread_not_started(&self, error: &std::io::Error) {
        log::error!("cannot start a thread for the '{}' pool: {error}", self.name);
        let mut state = lock(&self.state);
        state.threads -= 1;
        let task = if state.threads == 0 { state.tasks.pop_back() } else { None };
        state.look_for_rest();
        drop(state);
        task.into_iter().for_each(|task| task());
    }

    /// The life of one thread.
    fn serve(&self) {
        OWN.set(self);
        let mut state = lock(&self.state);
        loop {
            if let Some(task) = state.tasks.pop_front() {
                state.room.wake_first();
                drop(state);
                // The task catches the job's panics; this one would come from a result that nobody waits for.
                unwind::report(unwind::catch(task));
                state = lock(&self.state);
                continue;
            }
            if state.closed {
                break;
            }
            state.idle += 1;
            state.look_for_rest();
            let waited = self.work.wait_timeout(state, self.idle_timeout);
            let (guard, wait) = waited.unwrap_or_else(PoisonError::into_inner);
            state = guard;
            state.idle -= 1;
            if wait.timed_out() && state.tasks.is_empty() {
                break;
            }
        }
        state.threads -= 1;
        state.look_for_rest();
    }

    fn close(&self) {
        let mut state = lock(&self.state);
        state.closed = true;
        state.room.wake_all();
        self.work.notify_all();
    }
}

impl State {
    fn look_for_rest(&mut self) {
        if self.tasks.is_empty() && self.idle == self.threads {
            self.rest.wake_all();
        }
    }
}
