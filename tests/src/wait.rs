//! Waiting for a condition instead of for a time.

use std::panic::Location;
use std::process::Command;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use crate::sys::raise_open_files_limit;

/// How long a test waits for what must happen before it gives up: long enough for a debug build on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Returns as soon as `condition` holds; it is asked again every few milliseconds.
///
/// # Panics
/// When `deadline` has passed and the condition still does not hold. The message points at the caller.
#[track_caller]
pub fn eventually(deadline: Duration, mut condition: impl FnMut() -> bool) {
    eventually_some(deadline, || condition().then_some(()));
}

/// Like [`eventually`], for a condition that yields a value once it holds.
///
/// # Panics
/// When `deadline` has passed and there is still no value.
#[track_caller]
pub fn eventually_some<T>(deadline: Duration, mut attempt: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(value) = attempt() {
            return value;
        }
        if start.elapsed() > deadline {
            panic!("the condition at {} did not come true within {deadline:?}", Location::caller());
        }
        thread::sleep(Duration::from_millis(5));
    }
}

/// Runs `f` on a thread of its own and fails if it has not returned within [`PATIENCE`]: for code that would hang
/// where it is wrong. The thread is named `main`, as the program's own would be.
///
/// # Panics
/// With `f`'s panic; or when it is late, which leaves its thread behind.
#[track_caller]
pub fn in_time<T: Send + 'static>(f: impl FnOnce() -> T + Send + 'static) -> T {
    in_time_of(PATIENCE, f)
}

/// [`in_time`] with another deadline.
///
/// # Panics
/// As [`in_time`].
#[track_caller]
pub fn in_time_of<T: Send + 'static>(deadline: Duration, f: impl FnOnce() -> T + Send + 'static) -> T {
    // Many tests run in one process, and each thread's hub has descriptors of its own.
    raise_open_files_limit();
    let (done, result) = mpsc::channel();
    let runner = thread::Builder::new().name("main".to_owned()).spawn(move || {
        let value = f();
        // nobody listens any more if it is late
        let _ = done.send(());
        value
    });
    let runner = runner.expect("a thread for the test");
    if let Err(RecvTimeoutError::Timeout) = result.recv_timeout(deadline) {
        panic!("the code at {} still runs after {deadline:?}", Location::caller());
    }
    runner.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// Names the test in the process that was started for it.
const ROLE: &str = "TEST_IN_PROCESS";

/// Runs `body` in a process of its own, which runs this one test again, by its full name: for what forks.
///
/// # Panics
/// When the test fails there or is late, or there is none of that name.
#[track_caller]
pub fn in_process(test: &str, body: impl FnOnce() + Send + 'static) {
    in_process_with(test, |_| {}, body);
}

/// [`in_process`], with a process that `prepare` makes ready. Gives what it has said on standard error, and `None` in that process,
/// where the test is over.
///
/// # Panics
/// As [`in_process`].
#[track_caller]
pub fn in_process_with(
    test: &str,
    prepare: impl FnOnce(&mut Command),
    body: impl FnOnce() + Send + 'static,
) -> Option<String> {
    if is_in_process(test) {
        in_time(body);
        return None;
    }
    let mut command = process_of(test);
    prepare(&mut command);
    let output = command.output().expect("the process runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}\n{said}", String::from_utf8_lossy(&output.stdout));
    assert!(String::from_utf8_lossy(&output.stdout).contains("1 passed"), "the test is called {test}");
    Some(said.into_owned())
}

/// Whether this is the process that [`process_of`] describes.
pub fn is_in_process(test: &str) -> bool {
    std::env::var(ROLE).is_ok_and(|role| role == test)
}

/// A process that runs this one test again, by its full name, and in which [`is_in_process`] is true.
pub fn process_of(test: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().expect("the test's own path"));
    command.args([test, "--exact", "--include-ignored", "--nocapture", "--test-threads=1"]).env(ROLE, test);
    command
}
