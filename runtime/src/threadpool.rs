//! Work that blocks its OS thread, done beside the hub.
//!
//! Two pools of plain threads serve the whole process: one for [`unblock`], one for name resolution, so that slow
//! look-ups and slow files do not wait for each other. A pool starts threads as work comes, up to a limit, and lets
//! idle ones go. The hub is told of a result through its channel.

use std::collections::VecDeque;
use std::panic::{self, AssertUnwindSafe};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::error::WaitError;
use crate::greenlet::WaitsFor;
use crate::hub::Hub;

/// How long a thread without work stays.
const IDLE: Duration = Duration::from_secs(10);

static WORK: ThreadPool = ThreadPool::new("unblock", 64);
static NAMES: ThreadPool = ThreadPool::new("resolve", 32);

/// Runs `f` on a thread of a pool and parks the greenlet until it is done (`gevent.threadpool.ThreadPool.apply`):
/// for file systems, computation, and libraries that block.
///
/// At most 64 such closures of a process run at once; more wait their turn. If the greenlet is killed meanwhile,
/// `f` still runs to its end and its result is dropped, on its thread. Where the greenlet cannot be parked (in a
/// destructor, while unwinding), and where no thread can be started, `f` runs in place and blocks the hub.
///
/// # Panics
/// With `f`'s panic.
///
/// ```
/// let text = greenlet::unblock(|| std::fs::read_to_string("/proc/self/comm"));
/// assert!(text.is_ok());
/// ```
pub fn unblock<F, T>(f: F) -> T
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    WORK.run(f)
}

/// As [`unblock`], on the threads for name resolution.
pub(crate) fn unblock_names<F, T>(f: F) -> T
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    NAMES.run(f)
}

type Job = Box<dyn FnOnce() + Send>;

struct ThreadPool {
    name: &'static str,
    max_threads: usize,
    state: Mutex<PoolState>,
    work: Condvar,
}

struct PoolState {
    jobs: VecDeque<Job>,
    threads: usize,
    idle: usize,
}

impl ThreadPool {
    const fn new(name: &'static str, max_threads: usize) -> ThreadPool {
        ThreadPool {
            name,
            max_threads,
            state: Mutex::new(PoolState { jobs: VecDeque::new(), threads: 0, idle: 0 }),
            work: Condvar::new(),
        }
    }

    fn run<F, T>(&'static self, f: F) -> T
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        let hub = Hub::get();
        let waker = match hub.remote_waker() {
            Ok(waker) if !std::thread::panicking() => waker,
            _ => return f(),
        };
        let result = Arc::new(Mutex::new(None));
        let job = {
            let result = Arc::downgrade(&result);
            Box::new(move || {
                let value = panic::catch_unwind(AssertUnwindSafe(f));
                // Nobody waits any more when the greenlet was killed: the value goes here, on this thread.
                if let Some(result) = result.upgrade() {
                    *lock(&result) = Some(value);
                }
                waker.wake();
            })
        };
        self.submit(job);
        loop {
            if let Some(value) = lock(&result).take() {
                return value.unwrap_or_else(|payload| panic::resume_unwind(payload));
            }
            match hub.park(WaitsFor::Thread, None) {
                Ok(_) => {}
                // The waker is alive until the job is done, so this is no LoopExit; the thread exits.
                Err(error @ (WaitError::NoHub | WaitError::Unwinding | WaitError::TimedOut))
                | Err(error @ WaitError::LoopExit(_)) => panic!("cannot wait for the thread pool: {error}"),
            }
        }
    }

    fn submit(&'static self, job: Job) {
        let mut state = lock(&self.state);
        state.jobs.push_back(job);
        if state.idle >= state.jobs.len() {
            self.work.notify_one();
            return;
        }
        if state.threads < self.max_threads {
            state.threads += 1;
            drop(state);
            let name = format!("greenlet-{}", self.name);
            if let Err(error) = std::thread::Builder::new().name(name).spawn(|| self.serve()) {
                self.thread_not_started(&error);
            }
        }
    }

    /// The machine gives no more threads: those there are must do, and if there are none the caller itself.
    fn thread_not_started(&self, error: &std::io::Error) {
        log::error!("cannot start a thread for the '{}' pool: {error}", self.name);
        let mut state = lock(&self.state);
        state.threads -= 1;
        let job = if state.threads == 0 { state.jobs.pop_back() } else { None };
        drop(state);
        job.into_iter().for_each(|job| job());
    }

    /// The life of one thread.
    fn serve(&self) {
        let mut state = lock(&self.state);
        loop {
            if let Some(job) = state.jobs.pop_front() {
                drop(state);
                job();
                state = lock(&self.state);
                continue;
            }
            state.idle += 1;
            let (guard, wait) = self.work.wait_timeout(state, IDLE).unwrap_or_else(PoisonError::into_inner);
            state = guard;
            state.idle -= 1;
            if wait.timed_out() && state.jobs.is_empty() {
                state.threads -= 1;
                return;
            }
        }
    }
}

/// Jobs catch their panics and the lock is never held across user code: there is nothing a panic could break.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
