//! What is particular to an operating system, behind one neutral interface.
//!
//! [`Poll`] is the readiness poller of one hub: `add`, `delete`, `wait`, and a [`Notifier`] with which other
//! threads end a wait; [`nanos`] reads the clock. [`PollSet`] bundles descriptors into one. Nothing in here knows greenlets,
//! nothing above it knows `polling`. On Linux the wait goes
//! straight to the poller's own epoll descriptor; `--cfg greenlet_portable` builds everything on the portable
//! interface of `polling` alone, as other systems do and as our tests do once.

#[cfg(all(target_os = "linux", not(greenlet_portable)))]
mod linux;
#[cfg(all(target_os = "linux", not(greenlet_portable)))]
pub(crate) use linux::{Poll, PollSet, nanos};

#[cfg(any(not(target_os = "linux"), greenlet_portable))]
mod portable;
#[cfg(any(not(target_os = "linux"), greenlet_portable))]
pub(crate) use portable::{Poll, PollSet, nanos};

mod names;
mod peer;
mod queue;
pub(crate) use names::name_of;
pub(crate) use peer::peer_cred;
pub(crate) use queue::{accept_queue, unsent};

use std::io;
use std::os::fd::AsRawFd;
use std::sync::Arc;

use polling::Poller;

/// How many events one wait hands over at most. More would save little of the wait's cost, and what the kernel has just
/// touched for the first would be cold when its greenlet runs.
const BATCH: usize = 128;

/// What the kernel said of one descriptor.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Readiness {
    /// The key the descriptor was added with.
    pub(crate) key: usize,
    pub(crate) readable: bool,
    pub(crate) writable: bool,
    /// The peer has closed its side, the descriptor is in error, or there is urgent data: from now on a short
    /// read does not mean that nothing more is to be had.
    pub(crate) hangup: bool,
}

/// A new poller in the stead of one that another process has, too. The old one may be dropped then.
fn renew(old: &Poller) -> io::Result<Poller> {
    let new = Poller::new()?;
    // Dropping a poller takes its notifier out of the kernel's list, which would be the other process's. So the old
    // one's number is given to the new one's list first.
    // SAFETY: both descriptors are open. The second is the old poller's own and is used by it as a poller's, which it is
    // before and after.
    let result = unsafe { libc::dup3(new.as_raw_fd(), old.as_raw_fd(), libc::O_CLOEXEC) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(new) }
}

/// Ends a wait of its [`Poll`] from any thread.
#[derive(Clone, Debug)]
pub(crate) struct Notifier(Arc<Poller>);

impl Notifier {
    /// Makes the current or the next wait return.
    pub(crate) fn notify(&self) {
        // Writing to an eventfd that is already raised cannot fail in a way that matters: it is raised.
        let _ = self.0.notify();
    }
}
