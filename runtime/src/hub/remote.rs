//! Wake-ups from other threads: a channel into the hub and a notifier for when it sleeps.
//!
//! The only part of the hub that other threads may touch. A wake-up costs a system call only while the hub waits
//! in the kernel: `sleeping` says so.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicUsize, Ordering};

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
    /// Made by `Box::into_raw`, never null; another one in the child of a fork.
    way: AtomicPtr<Way>,
    sleeping: AtomicBool,
    /// How many [`Hold`]s there are.
    holds: AtomicUsize,
    /// Those called from outside by [`foreign`](super::foreign), the last one first.
    #[cfg(all(target_os = "linux", not(greenlet_portable)))]
    pub(super) calls: AtomicPtr<super::Parker>,
}

/// How messages reach the hub.
struct Way {
    sender: Sender<Message>,
    notifier: Notifier,
}

impl Way {
    fn new(notifier: Notifier) -> (*mut Way, Receiver<Message>) {
        let (sender, receiver) = unbounded();
        (Box::into_raw(Box::new(Way { sender, notifier })), receiver)
    }
}

impl Remote {
    pub(crate) fn new(notifier: Notifier) -> (Arc<Remote>, Receiver<Message>) {
        let (way, receiver) = Way::new(notifier);
        (
            Arc::new(Remote {
                way: AtomicPtr::new(way),
                sleeping: AtomicBool::new(false),
                holds: AtomicUsize::new(0),
                #[cfg(all(target_os = "linux", not(greenlet_portable)))]
                calls: AtomicPtr::new(std::ptr::null_mut()),
            }),
            receiver,
        )
    }

    fn way(&self) -> &Way {
        // SAFETY: it came from a box, which is freed by `drop` or by `renew`, and both are alone with it.
        unsafe { &*self.way.load(Ordering::Acquire) }
    }

    /// Begins anew in the child of a fork: the channel may have been caught halfway through a message of another thread,
    /// and the notifier is the parent's.
    ///
    /// # Safety
    /// No other thread has this, as there is none, and nobody is in `send` or `wake_hub`.
    pub(super) unsafe fn renew(&self, notifier: Notifier) -> Receiver<Message> {
        let (way, receiver) = Way::new(notifier);
        let old = self.way.swap(way, Ordering::AcqRel);
        // SAFETY: it came from a box, and nobody refers to it, as the caller promises.
        let Way { sender, notifier } = *unsafe { Box::from_raw(old) };
        std::mem::forget(sender);
        drop(notifier);
        self.awake();
        receiver
    }

    /// Hands a message to the hub and wakes it if it sleeps; false when the hub is gone.
    pub(crate) fn send(&self, message: Message) -> bool {
        let sent = self.way().sender.send(message).is_ok();
        self.wake_hub();
        sent
    }

    /// Whether somebody outside may still send something.
    pub(crate) fn is_held(&self) -> bool {
        self.holds.load(Ordering::SeqCst) > 0
    }

    pub(super) fn wake_hub(&self) {
        // Sequentially consistent on both sides: either the hub sees the change before it sleeps, or this sees
        // that it sleeps (or is about to).
        if self.sleeping.swap(false, Ordering::SeqCst) {
            self.way().notifier.notify();
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

impl Drop for Remote {
    fn drop(&mut self) {
        // SAFETY: it came from a box, and this is the last to refer to it.
        drop(unsafe { Box::from_raw(*self.way.get_mut()) });
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

    #[cfg(all(target_os = "linux", not(greenlet_portable)))]
    pub(super) fn remote(&self) -> &Remote {
        &self.0
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
