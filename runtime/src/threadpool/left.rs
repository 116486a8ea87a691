//! Work for code that must not be unwound, which can be left behind: see [`crate::foreign::look_up`].

use std::sync::{Arc, Mutex};

use super::{ProcessPool, lock, pool};
use crate::foreign::{Parker, Woken};
use crate::hub::Hub;

/// What the greenlet that waits and the thread that works share.
struct Shared<T> {
    result: Option<T>,
    /// Who waits; `None` once it has been called, or has left.
    waits: Option<Waits>,
}

struct Waits(*const Parker);

// SAFETY: a parker may be called from any thread.
unsafe impl Send for Waits {}

pub(super) fn run<T: Send + 'static>(
    pool: &ProcessPool,
    f: impl FnOnce() -> T + Send + 'static,
) -> Option<T> {
    let hub = Hub::existing().filter(|hub| hub.can_park_foreign() && !pool::on_a_pools_thread());
    let Some(core) = hub.and_then(|hub| hub.current().ok()) else { return Some(f()) };
    let Some(parker) = Parker::new() else { return Some(f()) };
    let shared = Arc::new(Mutex::new(Shared { result: None, waits: Some(Waits(&raw const parker)) }));
    let end = End(shared.clone());
    let spawned = {
        // Nothing is raised while it waits for room.
        let _shield = core.shield();
        pool.get().spawn(move || {
            let result = f();
            let mut shared = lock(&end.0);
            if shared.waits.is_some() {
                shared.result = Some(result);
            } else {
                drop(shared);
                drop(result);
            }
        })
    };
    if spawned.is_ok() {
        loop {
            match parker.park(&"a look-up", None, true) {
                Woken::Event if !parker.is_called() => {}
                _ => break,
            }
        }
    }
    let mut shared = lock(&shared);
    shared.waits = None;
    shared.result.take()
}

/// The thread's side: however the work ends, who waits is called.
struct End<T>(Arc<Mutex<Shared<T>>>);

impl<T> Drop for End<T> {
    fn drop(&mut self) {
        let mut shared = lock(&self.0);
        if let Some(Waits(parker)) = shared.waits.take() {
            // SAFETY: it lives as long as it stands here, since its owner takes it out under the lock that is held; and this is
            // the one call.
            unsafe { Parker::unpark(parker) };
        }
    }
}
