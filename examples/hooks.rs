//! Every hook of a server, each of which says that it was called, by gunicorn's names and in gunicorn's order.
//!
//! ```text
//! cargo run --bin hooks -- -w 2
//! ```

use greenserve::config::Config;
use greenserve::{ExitCode, Hooks, Request, Response, WorkerInfo};

struct Tell;

fn tell(hook: &str, worker: &WorkerInfo) {
    log::info!("hook {hook}, worker {}", worker.age);
}

impl Hooks for Tell {
    fn on_starting(&self, config: &Config) {
        log::info!("hook on_starting, {} workers", config.workers);
    }

    fn on_reload(&self, config: &Config) {
        log::info!("hook on_reload, {} workers", config.workers);
    }

    fn when_ready(&self, _config: &Config) {
        log::info!("hook when_ready");
    }

    fn pre_fork(&self, worker: &WorkerInfo) {
        tell("pre_fork", worker);
    }

    fn post_fork(&self, worker: &WorkerInfo) {
        tell("post_fork", worker);
    }

    fn post_worker_init(&self, worker: &WorkerInfo) {
        tell("post_worker_init", worker);
    }

    fn worker_int(&self, worker: &WorkerInfo) {
        tell("worker_int", worker);
    }

    fn worker_abort(&self, worker: &WorkerInfo) {
        tell("worker_abort", worker);
    }

    fn pre_exec(&self, _config: &Config) {
        log::info!("hook pre_exec");
    }

    fn pre_request(&self, worker: &WorkerInfo, req: &mut Request) {
        tell(&format!("pre_request {}", req.path()), worker);
    }

    fn post_request(&self, worker: &WorkerInfo, response: &mut Response) {
        response.headers_mut().insert("x-worker", worker.age.into());
        tell("post_request", worker);
    }

    fn child_exit(&self, worker: &WorkerInfo) {
        tell("child_exit", worker);
    }

    fn worker_exit(&self, worker: &WorkerInfo) {
        tell("worker_exit", worker);
    }

    fn nworkers_changed(&self, new: usize, old: usize) {
        log::info!("hook nworkers_changed, {new} after {old}");
    }

    fn on_exit(&self) {
        log::info!("hook on_exit");
    }
}

fn main() -> ExitCode {
    greenserve::main_with(|_req: Request| "Hello!\n", Tell)
}
