//! How often the heap is asked for memory for one request on a connection that is kept alive.
//!
//! A test binary of its own, because it counts in the global allocator.

mod support;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering};

use greenserve::Request;
use support::{Mode, Running};

/// The system's allocator, which counts for each thread by itself.
struct Counting;

thread_local! {
    static COUNT: Cell<u64> = const { Cell::new(0) };
}

fn count() {
    // Neither allocates nor fails: the cell needs no initialisation and no destructor.
    COUNT.set(COUNT.get() + 1);
}

// SAFETY: every call goes to `System` as it came, and what `System` returns goes back as it is; counting touches a
// thread-local cell only.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller keeps the contract of `alloc`, which is the same.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller keeps the contract of `alloc_zeroed`, which is the same.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: the caller keeps the contract of `realloc`, which is the same; `memory` came from `System`.
        unsafe { System.realloc(memory, layout, size) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps the contract of `dealloc`, which is the same; `memory` came from `System`.
        unsafe { System.dealloc(memory, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// What the server's thread has counted when it called the application last.
static SEEN: AtomicU64 = AtomicU64::new(0);

fn app(_: Request) -> &'static str {
    SEEN.store(COUNT.get(), Ordering::SeqCst);
    "Hello, World!"
}

/// Allocations for each of many requests, of which `at_once` are sent together: what is usual, so that what happens once
/// a second, like a new date, does not count.
fn allocations(server: &Running, request: &str, at_once: usize) -> f64 {
    let mut client = server.client();
    let mut round = || {
        client.send(request.repeat(at_once));
        for _ in 0..at_once {
            client.until("Hello, World!");
        }
        SEEN.load(Ordering::SeqCst)
    };
    // Buffers and caches have their size after a few.
    let mut before = (0..20).map(|_| round()).last().unwrap();
    let mut found: Vec<_> =
        (0..101).map(|_| round()).map(|now| now - std::mem::replace(&mut before, now)).collect();
    found.sort_unstable();
    found[found.len() / 2] as f64 / at_once as f64
}

#[test]
fn a_request_on_a_connection_that_is_kept_alive_asks_the_heap_for_next_to_nothing() {
    const SMALL: &str = "GET /plaintext HTTP/1.1\r\nHost: localhost\r\n\r\n";
    const USUAL: &str = "GET /plaintext HTTP/1.1\r\nHost: localhost:8080\r\nUser-Agent: curl/8.0\r\nAccept: */*\r\n\
        Accept-Encoding: gzip, br\r\nAccept-Language: en\r\nCookie: a=1; b=2\r\nX-Forwarded-For: 127.0.0.1\r\n\r\n";
    let server = Running::start(Mode::Green, |server| server, app);
    // Where several have come together it takes a few to have the answers sent, however many they are.
    for (request, at_once, bound) in [(SMALL, 1, 0.0), (USUAL, 1, 0.0), (SMALL, 16, 1.0), (USUAL, 16, 1.0)] {
        let found = allocations(&server, request, at_once);
        assert!(
            found <= bound,
            "{found} allocations for each of {at_once} × {request:?}; the bound is {bound}"
        );
    }
}
