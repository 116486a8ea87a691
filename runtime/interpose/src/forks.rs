//! What a fork must find in order: no list of ours halfway through a change of another thread.

use std::sync::atomic::{AtomicBool, Ordering};

use greenlet::foreign;

use crate::lot;
use crate::pthread::holders;

/// To be called before anything is put into a list. Waits for nobody: whoever comes meanwhile goes on.
#[inline]
pub(crate) fn prepare() {
    static PREPARED: AtomicBool = AtomicBool::new(false);
    if !PREPARED.load(Ordering::Relaxed) && !PREPARED.swap(true, Ordering::Relaxed) {
        foreign::on_close(lot::forget_hub);
        // SAFETY: the handlers take and give back locks of ours. If there is no memory for it, forks are as they were.
        let _ = unsafe { libc::pthread_atfork(Some(before), Some(in_parent), Some(in_child)) };
    }
}

// Who holds a lock of `lot` may want one of `holders`.

extern "C" fn before() {
    lot::hold_all();
    holders::hold_all();
}

extern "C" fn in_parent() {
    holders::let_go_all();
    lot::let_go_all();
}

extern "C" fn in_child() {
    holders::let_go_all();
    // Of the hubs there is only that of the thread that has forked.
    lot::keep_hub(foreign::hub_id());
    lot::let_go_all();
}
