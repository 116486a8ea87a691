//! libc's calls in green threads: the program itself has them interposed, C code is compiled here and loaded.

#![cfg(all(target_os = "linux", target_env = "gnu", not(greenlet_portable)))]

use greenlet_interpose as _;

mod c_calls;
mod descriptors;
mod pairs;
mod sockets;
mod streams;
mod futex;
mod std_sync;
mod pthread;
mod guests;
mod file_locks;
mod names;
mod processes;
mod settings;
mod signals;
mod stdin;
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
