//! What a wake from another thread costs: a system call only while the hub sleeps.
#![cfg(target_os = "linux")]

use std::cell::Cell;
use std::fs;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use greenlet::sync::Event;
use greenlet::{HubHandle, spawn, yield_now};
use greenserve_tests::{PATIENCE, eventually, in_time};

use crate::SHORT;

thread_local! {
    static WOKEN: Cell<u32> = const { Cell::new(0) };
    static ENOUGH: Rc<Event> = Rc::new(Event::new());
}

/// How many times the calling thread has asked the kernel to write something: the poller is woken by a write.
fn writes() -> u64 {
    let io = fs::read_to_string("/proc/thread-self/io").unwrap();
    io.lines().find_map(|line| line.strip_prefix("syscw: ")?.parse().ok()).unwrap()
}

#[test]
fn a_wake_of_a_busy_hub_writes_to_no_descriptor() {
    const WAKES: u32 = 10_000;
    in_time(|| {
        let hub = HubHandle::current();
        let done = Arc::new(AtomicBool::new(false));
        let waker = thread::spawn({
            let done = Arc::clone(&done);
            move || {
                let before = writes();
                for _ in 0..WAKES {
                    assert!(hub.spawn(|| WOKEN.set(WOKEN.get() + 1)));
                }
                let after = writes();
                done.store(true, Ordering::SeqCst);
                after - before
            }
        });
        let busy = spawn(move || {
            while !done.load(Ordering::SeqCst) || WOKEN.get() < WAKES {
                yield_now();
            }
        });
        busy.join().unwrap();
        assert_eq!(waker.join().unwrap(), 0);
    });
}

#[test]
fn a_wake_of_a_hub_that_sleeps_is_seen_to_write() {
    in_time(|| {
        let hub = HubHandle::current();
        let waker = thread::spawn(move || {
            eventually(PATIENCE, || {
                thread::sleep(SHORT);
                let before = writes();
                assert!(hub.spawn(|| {}));
                writes() > before
            });
            hub.spawn(|| ENOUGH.with(|enough| enough.set()))
        });
        ENOUGH.with(Rc::clone).wait_timeout(2 * PATIENCE).unwrap();
        assert!(waker.join().unwrap());
    });
}
