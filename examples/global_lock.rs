//! A lock that all workers of a server share, put into each request by a hook, as people do under gunicorn with a
//! `multiprocessing.Lock`. Here waiting for it holds up one request and not its worker, and a worker that is killed with the lock
//! in its hands does not take it into its grave.
//!
//! ```text
//! cargo run --bin global_lock -- -w 4
//! curl -X POST http://127.0.0.1:8000/count && curl http://127.0.0.1:8000/count
//! ```

use std::sync::Arc;
use std::time::Duration;

use greenserve::shared::{LockError, Mutex};
use greenserve::{Error, ExitCode, Hooks, Request, Router, StatusCode, WorkerInfo};

/// How often something was begun, and how often it was done. In between they differ, which nobody else may see.
type Count = Arc<Mutex<[u64; 2]>>;

struct GiveLock(Count);

impl Hooks for GiveLock {
    fn pre_request(&self, _worker: &WorkerInfo, req: &mut Request) {
        req.extensions_mut().insert(Arc::clone(&self.0));
    }
}

fn count(req: Request) -> Result<String, Error> {
    let lock = lock_of(&req)?;
    let mut count = match lock.lock() {
        Ok(count) => count,
        // Its worker was killed in the midst of it: what it had begun is not done.
        Err(LockError::OwnerDied(died)) => {
            let mut count = died.recover();
            count[0] = count[1];
            count
        }
        Err(LockError::Failed(error)) => return Err(error.into()),
    };
    if count[0] != count[1] {
        return Err(Error::new(StatusCode::INTERNAL_SERVER_ERROR, "somebody else was in there"));
    }
    count[0] += 1;
    // Others of this worker are served meanwhile.
    greenlet::sleep(Duration::from_millis(1));
    count[1] += 1;
    Ok(format!("{}\n", count[1]))
}

fn look(req: Request) -> Result<String, Error> {
    let lock = lock_of(&req)?;
    let count = lock.lock().or_else(LockError::recover)?;
    Ok(format!("{}\n", count[1]))
}

fn lock_of(req: &Request) -> Result<Count, Error> {
    let lock = req.extensions().get::<Count>().cloned();
    lock.ok_or_else(|| Error::new(StatusCode::INTERNAL_SERVER_ERROR, "start this with workers: -w 4"))
}

fn main() -> ExitCode {
    // Before there are workers, so that all of them have the same one.
    let lock = match Mutex::new([0; 2]) {
        Ok(lock) => Arc::new(lock),
        Err(error) => {
            eprintln!("Error: no shared memory for the lock: {error}");
            return ExitCode::FAILURE;
        }
    };
    greenserve::main_with(Router::new().post("/count", count).get("/count", look), GiveLock(lock))
}
