//! libc's calls in green threads: the program itself has them interposed, C code is compiled here and loaded.

#![cfg(all(target_os = "linux", target_env = "gnu", not(greenlet_portable)))]

use greenlet_interpose as _;

mod c_calls;
mod descriptors;
mod file_locks;
mod futex;
mod guests;
mod names;
mod pairs;
mod processes;
mod pthread;
mod settings;
mod signals;
mod sockets;
mod std_sync;
mod stdin;
mod streams;
mod symbols;
mod thread_locals;
mod time;
mod waiting;

use std::cell::Cell;
use std::rc::Rc;

/// Runs `waits`, which has to wait for a moment, in a greenlet, and checks that another greenlet of the thread runs before it is done.
fn meanwhile(waits: impl FnOnce() + 'static) {
    let ran = Rc::new(Cell::new(false));
    let seen = ran.clone();
    let waiting = greenlet::spawn(move || {
        waits();
        seen.get()
    });
    greenlet::spawn(move || ran.set(true));
    assert!(waiting.join().unwrap(), "nobody else ran while it waited");
}
