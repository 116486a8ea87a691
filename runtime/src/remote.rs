//! What other threads may hold of a hub.

use std::fmt;

use crate::hub::{Hold, Hub, Message};

/// A way into one thread's hub that may be sent to other threads (gevent's `loop.run_callback_threadsafe`).
///
/// As long as one exists, somebody may still wake the hub's greenlets: no wait on it ends with
/// [`LoopExit`](crate::LoopExit).
///
/// ```
/// use std::rc::Rc;
/// use greenlet::sync::Event;
///
/// thread_local!(static DONE: Rc<Event> = Rc::new(Event::new()));
///
/// let hub = greenlet::HubHandle::current();
/// std::thread::spawn(move || hub.spawn(|| DONE.with(|done| done.set())));
/// DONE.with(Rc::clone).wait().unwrap();
/// ```
#[derive(Clone)]
pub struct HubHandle(Hold);

impl HubHandle {
    /// A handle to the hub of the calling thread.
    ///
    /// # Panics
    /// While the thread exits, and if the kernel gives no poller.
    pub fn current() -> HubHandle {
        HubHandle(Hub::get().hold().expect("the hub of a thread that exits cannot be used any more"))
    }

    /// Runs `f` in a new greenlet on the hub's thread. Costs a system call only if that hub sleeps. False when the
    /// thread has exited; `f` is dropped then.
    pub fn spawn(&self, f: impl FnOnce() + Send + 'static) -> bool {
        self.0.send(Message::Spawn(Box::new(f)))
    }
}

impl fmt::Debug for HubHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HubHandle")
    }
}
