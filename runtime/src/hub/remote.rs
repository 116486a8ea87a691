//! Wake-ups from other threads: a channel into the hub and a notifier for when it sleeps.
//!
//! The only part of the hub that other threads may touch. A wake-up costs a system call only while the hub waits
//! in the kernel: `sleeping` says so.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use crossbeam_channel::{Receiver, Sender, unbounded};

use crate::sys::Notifier;

/// What another thread may ask of a hub.
pub(crate) enum Message {
    /// Wake the greenlet with this slot and id, if it still lives and is parked.
    Wake { slot: usize, id: u64 },
    /// Run this in a greenlet of its own.
    Spawn(Box<dyn FnOnce() + Send>),
}

/// The sending side, shared by the hub and everything outside that may wake it.
pub(crate) struct Remote {
    sender: Sender<Message>,
    notifier: Notifier,
    sleeping: AtomicBool,
    /// How many [`Hold`]s there are.
    holds: AtomicUsize,
}

impl Remote {
    pub(crate) fn new(notifier: Notifier) -> (Arc<Remote>, Receiver<Message>) {
        let (sender, receiver) = unbounded();
        (
            Arc::new(Remote {
                sender,
                notifier,
                sleeping: AtomicBool::new(false),
                holds: AtomicUsize::new(0),
            }),
            receiver,
        )
    }

    /// Hands a message to the hub and wakes it if it sleeps; false when the hub is gone.
    pub(crate) fn send(&self, message: Message) -> bool {
        let sent = self.sender.send(message).is_ok();
        self.wake_hub();
        sent
    }

    /// Whether somebody outside may still send something.
    pub(crate) fn is_held(&self) -> bool {
        self.holds.load(Ordering::SeqCst) > 0
    }

    fn wake_hub(&self) {
        // Sequentially consistent on both sides: either the hub sees the change before it sleeps, or this sees
        // that it sleeps (or is about to).
        if self.sleeping.swap(false, Ordering::SeqCst) {
            self.notifier.notify();
        }
    }

    /// The hub is about to wait in the kernel; it must look at the channel and the holds once more before it does.
    pub(crate) fn going_to_sleep(&self) {
        self.sleeping.store(true, Ordering::SeqCst);
    }

    pub(crate) fn awake(&self) {
        self.sleeping.store(false, Ordering::SeqCst);
    }
}

/// A hold on a hub from outside. As long as one exists somebody may still wake a greenlet, and no wait is called
/// hopeless; when the last one goes the hub looks again.
pub(crate) struct Hold(Arc<Remote>);

impl Hold {
    pub(crate) fn new(remote: Arc<Remote>) -> Hold {
        remote.holds.fetch_add(1, Ordering::SeqCst);
        Hold(remote)
    }

    pub(crate) fn send(&self, message: Message) -> bool {
        self.0.send(message)
    }
}

impl Clone for Hold {
    fn clone(&self) -> Hold {
        Hold::new(self.0.clone())
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        if self.0.holds.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.0.wake_hub();
        }
    }
}

/// Wakes one greenlet from any thread.
pub(crate) struct RemoteWaker {
    hold: Hold,
    slot: usize,
    id: u64,
}

impl RemoteWaker {
    pub(crate) fn new(hold: Hold, slot: usize, id: u64) -> RemoteWaker {
        RemoteWaker { hold, slot, id }
    }

    /// False when the hub is gone: there is nobody left to wake.
    pub(crate) fn wake(self) -> bool {
        self.hold.send(Message::Wake { slot: self.slot, id: self.id })
    }
}
