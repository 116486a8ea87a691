//! A hub in the two processes that come from one.

use std::io;
use std::os::fd::BorrowedFd;

use super::Hub;

impl Hub {
    /// In the process that is going to fork.
    pub(crate) fn before_fork(&self) {
        self.forked.set(true);
        // What has come until now is there in both.
        self.deliver_messages();
    }

    /// Makes the hub whole in the child. The poller and the way in for other threads are made anew, since the parent has
    /// those there were; what was registered is registered again. Of messages, those are lost that came while the process
    /// forked.
    ///
    /// # Safety
    /// This is the child of a fork, and its only thread.
    ///
    /// # Errors
    /// The kernel's: it gives no poller.
    pub(crate) unsafe fn after_fork(&self) -> io::Result<()> {
        #[cfg(all(target_os = "linux", not(greenlet_portable)))]
        {
            super::foreign::whole();
            self.thread.set(super::foreign::thread());
        }
        let mut poll = self.poll.borrow_mut();
        let Some(poll) = &mut *poll else { return Ok(()) };
        poll.renew()?;
        if let Some(remote) = &*self.remote.borrow() {
            // SAFETY: there is no other thread, and this one is in the middle of a fork, not of a message.
            let messages = unsafe { remote.renew(poll.notifier()) };
            // Not dropped: it might wait for the rest of a message whose sender is not here.
            std::mem::forget(self.messages.borrow_mut().replace(messages));
        }
        let registered: Vec<_> = self.io.borrow().registered().collect();
        for (fd, key) in registered {
            // SAFETY: a descriptor stays open for as long as it is registered: who registers it closes it afterwards. Of one
            // that is somebody else's the number is only handed to the kernel, which says if it stands for nothing.
            let added = poll.add(unsafe { BorrowedFd::borrow_raw(fd) }, key);
            #[cfg(all(target_os = "linux", not(greenlet_portable)))]
            let added = added.or_else(|error| if self.foreign_lost(fd, key) { Ok(()) } else { Err(error) });
            added?;
        }
        Ok(())
    }
}
