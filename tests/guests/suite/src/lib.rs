//! Runs tests in green threads.

use greenlet_interpose as _;

use std::cell::Cell;
use std::panic::{catch_unwind, resume_unwind, AssertUnwindSafe};
use std::rc::Rc;
use std::time::{Duration, Instant};

/// Runs a test's body in a greenlet, with what it panics with, and checks that the hub has turned meanwhile.
pub fn run<T: 'static>(body: impl FnOnce() -> T + 'static) -> T {
    let turns = Rc::new(Cell::new(0u32));
    let counted = turns.clone();
    let ticker = greenlet::spawn(move || loop {
        counted.set(counted.get() + 1);
        greenlet::sleep(Duration::from_millis(10));
    });
    let test = greenlet::Builder::new().stack_size(2 << 20).spawn(move || {
        assert!(greenlet::foreign::inside(), "in a greenlet");
        let begin = Instant::now();
        let before = turns.get();
        let result = catch_unwind(AssertUnwindSafe(body));
        (result, begin.elapsed(), turns.get() - before)
    });
    let (result, took, turns) = test.expect("a greenlet").join().unwrap_or_else(|error| panic!("{error}"));
    let _ = ticker.kill();
    println!("green: {took:?}, {turns} turns of another greenlet");
    result.unwrap_or_else(|panic| resume_unwind(panic))
}
