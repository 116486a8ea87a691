//! Wake-ups from other threads: a channel into the hub and a notifier for when it sleeps.
//!
//! The only part of the hub that other threads may touch. A wake-up costs a system call only while the hub waits
//! in the kernel: `sleeping` says so.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crossbeam_channel::{Receiver, Sender, unbounded};

use crate::sys::Notifier;

/// What another thread may ask of a hub.
pub(crate) enum Message {
    /// Wake the greenlet with this slot and id, if it still lives and is parked.
    Wake { slot: usize, id: u64 },
    /// Run this in a greenlet of its own.
    Spawn(Box<dyn FnOnce() + Send>),
}

/// The sending side, shared by everything outside that may wake the hub. As long as a clone beyond the hub's own
/// exists, somebody may still wake a greenlet, and no wait is called hopeless.
pub(crate) struct Remote {
    sender: Sender<Message>,
    notifier: Notifier,
    sleeping: AtomicBool,
}

impl Remote {
    pub(crate) fn new(notifier: Notifier) -> (Arc<Remote>, Receiver<Message>) {
        let (sender, receiver) = unbounded();
        (Arc::new(Remote { sender, notifier, sleeping: AtomicBool::new(false) }), receiver)
    }

    /// Hands a message to the hub and wakes it if it sleeps; false when the hub is gone.
    pub(crate) fn send(&self, message: Message) -> bool {
        let sent = self.sender.send(message).is_ok();
        // Sequentially consistent on both sides: either the hub sees the message before it sleeps, or this sees
        // that it sleeps (or is about to).
        if self.sleeping.swap(false, Ordering::SeqCst) {
            self.notifier.notify();
        }
        sent
    }

    /// The hub is about to wait in the kernel; it must look at the channel once more before it does.
    pub(crate) fn going_to_sleep(&self) {
        self.sleeping.store(true, Ordering::SeqCst);
    }

    pub(crate) fn awake(&self) {
        self.sleeping.store(false, Ordering::SeqCst);
    }
}

/// Wakes one greenlet from any thread.
pub(crate) struct RemoteWaker {
    remote: Arc<Remote>,
    slot: usize,
    id: u64,
}

impl RemoteWaker {
    pub(crate) fn new(remote: Arc<Remote>, slot: usize, id: u64) -> RemoteWaker {
        RemoteWaker { remote, slot, id }
    }

    pub(crate) fn wake(self) {
        // A hub that is gone has nobody left to wake.
        self.remote.send(Message::Wake { slot: self.slot, id: self.id });
    }
}
