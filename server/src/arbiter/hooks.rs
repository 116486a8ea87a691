//! Where a program may put in its own at each step of a server's life.

use std::any::Any;
use std::fmt;

use crate::app::{Request, Response};
use crate::config::Config;

/// A worker process, as hooks get to see it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct WorkerInfo {
    /// Its process id; 0 before the fork.
    pub pid: u32,
    /// How many workers this master had started when it came, itself included: never given twice (gunicorn's `age`).
    pub age: u64,
}

impl WorkerInfo {
    pub(super) fn new(pid: u32, age: u64) -> WorkerInfo {
        WorkerInfo { pid, age }
    }
}

/// What gunicorn calls server hooks, by the same names: each is called at its point of a server's life, and does nothing
/// unless it is overridden. Those of the master run in the master, which has one thread and no hub: they must neither
/// block for long nor start threads, for what waits there keeps workers from being replaced. Those of a worker run in it.
///
/// In order: `on_starting`; for each worker `pre_fork` (master), `post_fork`, `post_worker_init` (worker); `when_ready` (master)
/// when all of them serve; `pre_request` and `post_request` (worker) around each request; `worker_exit` (worker) and
/// `child_exit` (master) when one ends; `on_exit` (master).
///
/// A panic in a hook of the master ends the server; in `post_fork` and `post_worker_init` the worker does not come up.
///
/// ```
/// use greenserve::{Hooks, Request, WorkerInfo};
///
/// struct Mine;
/// impl Hooks for Mine {
///     fn post_fork(&self, worker: &WorkerInfo) {
///         log::info!("worker {} is process {}", worker.age, worker.pid);
///     }
///     fn pre_request(&self, _worker: &WorkerInfo, req: &mut Request) {
///         req.extensions_mut().insert("what all handlers may want");
///     }
/// }
/// ```
pub trait Hooks: Any + Send + Sync {
    /// In the master, before it listens.
    fn on_starting(&self, config: &Config) {
        let _ = config;
    }

    /// In the master, when it has loaded its settings again (SIGHUP) and before workers are replaced.
    fn on_reload(&self, config: &Config) {
        let _ = config;
    }

    /// In the master, when all workers serve for the first time.
    fn when_ready(&self, config: &Config) {
        let _ = config;
    }

    /// In the master, before a worker is forked.
    fn pre_fork(&self, worker: &WorkerInfo) {
        let _ = worker;
    }

    /// In the new worker, first of all, before it becomes `--user`.
    fn post_fork(&self, worker: &WorkerInfo) {
        let _ = worker;
    }

    /// In the new worker, when all is set up and before it accepts: in its first thread, that of the first hub if there are several.
    fn post_worker_init(&self, worker: &WorkerInfo) {
        let _ = worker;
    }

    /// In a worker that got SIGINT or SIGQUIT.
    fn worker_int(&self, worker: &WorkerInfo) {
        let _ = worker;
    }

    /// In a worker that got SIGABRT, mostly since it hung. Called by another thread than the one that serves, which was stopped
    /// for good where it was: locks may be held for ever.
    fn worker_abort(&self, worker: &WorkerInfo) {
        let _ = worker;
    }

    /// In the master, before it starts its successor (SIGUSR2).
    fn pre_exec(&self, config: &Config) {
        let _ = config;
    }

    /// In a worker, before the handler gets the request; it may change it, or attach to it what handlers need.
    fn pre_request(&self, worker: &WorkerInfo, req: &mut Request) {
        let _ = (worker, req);
    }

    /// In a worker, when the handler has answered; the answer is not sent yet, and may be changed.
    fn post_request(&self, worker: &WorkerInfo, response: &mut Response) {
        let _ = (worker, response);
    }

    /// In the master, when a worker has ended.
    fn child_exit(&self, worker: &WorkerInfo) {
        let _ = worker;
    }

    /// In a worker that ends regularly, last of all.
    fn worker_exit(&self, worker: &WorkerInfo) {
        let _ = worker;
    }

    /// In the master, when the number of workers that are wanted has changed.
    fn nworkers_changed(&self, new: usize, old: usize) {
        let _ = (new, old);
    }

    /// In the master, last of all.
    fn on_exit(&self) {}
}

/// No hooks.
impl Hooks for () {}

impl fmt::Debug for dyn Hooks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hooks")
    }
}
