//! The `greenlet` crate through its public interface, as a program uses it. One file per theme.
//!
//! Each test has a thread of its own and so a hub of its own; `in_time` makes a hang a failure.

mod async_result;
mod blocking;
mod channels;
mod connect;
mod cross_thread;
mod descriptors;
mod edges;
mod fairness;
mod files;
#[cfg(all(target_os = "linux", not(greenlet_portable)))]
mod foreign;
mod fork;
mod greenlets;
mod group;
mod inspect;
mod kill;
mod links;
mod locals;
mod locks;
mod logs;
mod loop_exit;
mod monitor;
mod overflow;
mod passed_descriptors;
mod pool;
mod processes;
mod queues;
mod remote_wakes;
mod resolver;
mod resource_pool;
mod scope;
mod select;
mod servers;
mod shared;
mod signals;
mod stacks;
mod sync_random;
mod tcp;
mod testing;
mod thread_pool;
mod timeouts;
mod tls;
mod udp_and_unix;
mod unblock;
mod wait;

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

/// Long enough never to be over within a test.
const FOREVER: Duration = Duration::from_secs(3600);

/// Long enough that everybody who is ready has run before it is over.
const SHORT: Duration = Duration::from_millis(10);

/// Notes that it has been dropped.
struct DropFlag(Rc<Cell<bool>>);

impl DropFlag {
    fn new() -> (DropFlag, Rc<Cell<bool>>) {
        let dropped = Rc::new(Cell::new(false));
        (DropFlag(Rc::clone(&dropped)), dropped)
    }
}

impl Drop for DropFlag {
    fn drop(&mut self) {
        self.0.set(true);
    }
}
