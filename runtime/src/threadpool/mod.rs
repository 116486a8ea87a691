//! Work that blocks its OS thread, done beside the hub: pools of plain threads, and what hands results back.
//!
//! Two pools serve the whole process: one for [`unblock`], one for name resolution, so that slow look-ups and slow files do
//! not wait for each other. What may not enter here: greenlets that run on a pool's thread, and anything of a hub but the
//! way to wake a greenlet of it.

mod job;
#[cfg(all(target_os = "linux", not(greenlet_portable)))]
mod left;
mod line;
mod pool;

use std::sync::{Mutex, MutexGuard, PoisonError};

pub use job::ThreadJob;
pub use pool::{ThreadPool, ThreadPoolBuilder};

use crate::error::JoinError;
use crate::hub::Hub;

static WORK: ProcessPool = ProcessPool::new(64, "greenlet-unblock");
static NAMES: ProcessPool = ProcessPool::new(32, "greenlet-resolve");

/// A pool of the process, made at first need.
struct ProcessPool {
    max_threads: usize,
    name: &'static str,
    pool: Mutex<Option<ThreadPool>>,
}

impl ProcessPool {
    const fn new(max_threads: usize, name: &'static str) -> ProcessPool {
        ProcessPool { max_threads, name, pool: Mutex::new(None) }
    }

    fn get(&self) -> ThreadPool {
        let make = || ThreadPool::builder(self.max_threads).name(self.name).build();
        lock(&self.pool).get_or_insert_with(make).clone()
    }
}

/// Runs `f` on a thread of a pool and parks the greenlet until it is done (`hub.threadpool.apply`): for file systems,
/// computation, and libraries that block.
///
/// The pool is one for all hubs of the process. At most 64 such closures run at once, 1,024 more wait their turn, and who
/// comes then waits to be let in, all of them first come, first served. If the greenlet is killed meanwhile, `f` still runs
/// to its end and its result is dropped, on its thread.
///
/// `f` runs in place, and blocks the hub, where the greenlet cannot be parked (in a destructor, while unwinding), where no
/// thread can be started, and on a thread of such a pool, which is there to be blocked.
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
    run(&WORK, f)
}

/// As [`unblock`], on the threads for name resolution.
pub(crate) fn unblock_names<F, T>(f: F) -> T
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    run(&NAMES, f)
}

fn run<F, T>(pool: &ProcessPool, f: F) -> T
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    if std::thread::panicking() || pool::on_a_pools_thread() || Hub::get().current().is_err() {
        return f();
    }
    match pool.get().spawn(f).and_then(|job| job.join()) {
        Ok(value) => value,
        Err(JoinError::Panicked(panic)) => panic.resume(),
        // The pool is never shut down, and the job holds the hub, so that this is no LoopExit; the thread exits.
        Err(error) => panic!("cannot wait for the thread pool: {error}"),
    }
}

/// See [`crate::foreign::unblock`].
#[cfg(all(target_os = "linux", not(greenlet_portable)))]
pub(crate) fn unblock_foreign<T: Send>(f: impl FnOnce() -> T + Send) -> T {
    run_foreign(&WORK, f)
}

/// See [`crate::foreign::unblock_names`].
#[cfg(all(target_os = "linux", not(greenlet_portable)))]
pub(crate) fn unblock_names_foreign<T: Send>(f: impl FnOnce() -> T + Send) -> T {
    run_foreign(&NAMES, f)
}

/// See [`crate::foreign::look_up`].
#[cfg(all(target_os = "linux", not(greenlet_portable)))]
pub(crate) fn look_up_foreign<T: Send + 'static>(f: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    left::run(&NAMES, f)
}

#[cfg(all(target_os = "linux", not(greenlet_portable)))]
fn run_foreign<T: Send>(pool: &ProcessPool, f: impl FnOnce() -> T + Send) -> T {
    // The pool's threads have not the descriptors of a vfork's child.
    let hub = Hub::existing()
        .filter(|hub| hub.can_park_foreign() && !pool::on_a_pools_thread() && hub.is_own_thread());
    let Some(core) = hub.and_then(|hub| hub.current().ok()) else { return f() };
    // Nothing is raised in here: this returns after `f`.
    let _shield = core.shield();
    let mut f = Some(f);
    let mut result = None;
    let work: Box<dyn FnOnce() + Send + '_> = Box::new(|| result = f.take().map(|f| f()));
    // SAFETY: only the lifetime changes. What the closure borrows outlives it: if it is accepted, the loop below returns
    // only when it has ended, and if not it has been dropped.
    let work = unsafe {
        std::mem::transmute::<Box<dyn FnOnce() + Send + '_>, Box<dyn FnOnce() + Send + 'static>>(work)
    };
    if let Ok(job) = pool.get().spawn(work) {
        while !job.is_finished() {
            let _ = job.join();
        }
    }
    match (result, f) {
        (Some(result), _) => result,
        (None, Some(f)) => f(),
        // It has panicked, and its caller cannot be unwound.
        (None, None) => std::process::abort(),
    }
}

/// What no other thread may hold while the process forks.
pub(crate) struct BeforeFork([MutexGuard<'static, Option<ThreadPool>>; 2]);

impl BeforeFork {
    pub(crate) fn new() -> BeforeFork {
        BeforeFork([lock(&WORK.pool), lock(&NAMES.pool)])
    }

    /// The threads are the parent's; here there will be others.
    pub(crate) fn in_child(self) {
        // Not dropped: one of the threads may have been in the midst of a change.
        self.0.into_iter().for_each(|mut pool| std::mem::forget(pool.take()));
    }
}

/// Jobs catch their panics and no lock is held across user code: there is nothing a panic could break.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
