//! `greenlet::shm` between real processes, which are stopped and killed. Each test runs in a process of its own, which forks.

mod crashes;
mod file_lock;
mod fork;
mod locks;
mod waits;

use std::process::ExitStatus;
use std::time::Duration;

use greenlet::process::{ChildHandle, Fork, fork};
use greenserve_tests::{PATIENCE, in_process};

/// Long enough that everybody who is ready has run before it is over.
const SHORT: Duration = Duration::from_millis(10);

/// Long enough never to be over within a test.
const FOREVER: Duration = Duration::from_secs(3600);

/// A forked process. Killed if the test ends before it does.
struct Worker(ChildHandle);

impl Worker {
    /// Forks; the child runs `body` and leaves, with 0 if it returned true.
    fn start(body: impl FnOnce() -> bool) -> Worker {
        // SAFETY: the test's other threads are the harness's, which wait for the test, and the one that listens for other
        // processes.
        match unsafe { fork() }.unwrap() {
            Fork::Parent(child) => {
                child.set_kill_on_drop(true);
                Worker(child)
            }
            Fork::Child => {
                let well = greenlet::catch_panic(body);
                // SAFETY: it takes an integer and does not return.
                unsafe { libc::_exit(i32::from(!matches!(well, Ok(true)))) }
            }
        }
    }

    fn succeeds(&self) {
        let status = self.0.wait_timeout(PATIENCE).unwrap();
        assert!(status.success(), "the worker: {status}");
    }

    /// SIGKILL; returns when it has been reaped.
    fn kill(&self) -> ExitStatus {
        self.0.kill().unwrap();
        self.0.wait_timeout(PATIENCE).unwrap()
    }

    fn signal(&self, signal: greenlet::signal::Signal) {
        self.0.signal(signal).unwrap();
    }
}

/// Numbers that follow from a seed (xorshift).
struct Random(u64);

impl Random {
    fn new(seed: u64) -> Random {
        Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % end
    }
}
