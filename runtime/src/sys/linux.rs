//! [`Poll`] on epoll.
//!
//! The descriptor is `polling`'s, and so is the notifier; but a registration also asks for `EPOLLRDHUP`, which
//! `polling` has no word for, and a wait is one `epoll_pwait2` where `polling`'s is five calls (arm a timerfd,
//! register it, wait, read the notifier, register it again). When the notifier itself was raised, a zero-timeout
//! wait of `polling` follows, which resets it.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr;
use std::sync::Arc;
use std::time::Duration;

use polling::{Events, Poller};

use super::{BATCH, Notifier, Readiness};

/// The key under which `polling` registers its notifier.
const NOTIFY_KEY: u64 = usize::MAX as u64;

const READABLE: u32 =
    (libc::EPOLLIN | libc::EPOLLPRI | libc::EPOLLRDHUP | libc::EPOLLHUP | libc::EPOLLERR) as u32;
const WRITABLE: u32 = (libc::EPOLLOUT | libc::EPOLLHUP | libc::EPOLLERR) as u32;
const HANGUP: u32 = (libc::EPOLLPRI | libc::EPOLLRDHUP | libc::EPOLLHUP | libc::EPOLLERR) as u32;

pub(crate) struct Poll {
    poller: Arc<Poller>,
    events: Vec<libc::epoll_event>,
    /// Scratch for the wait that resets the notifier.
    notified: Events,
    /// Whether the kernel has `epoll_pwait2` (Linux 5.11).
    nanoseconds: bool,
}

impl Poll {
    pub(crate) fn new() -> io::Result<Poll> {
        Ok(Poll {
            poller: Arc::new(Poller::new()?),
            events: Vec::with_capacity(BATCH),
            notified: Events::new(),
            nanoseconds: true,
        })
    }

    /// Becomes a poller of its own, with nothing registered, in the child of a fork.
    pub(crate) fn renew(&mut self) -> io::Result<()> {
        self.poller = Arc::new(super::renew(&self.poller)?);
        Ok(())
    }

    pub(crate) fn notifier(&self) -> Notifier {
        Notifier(self.poller.clone())
    }

    /// Watches both directions of `fd`, edge-triggered. `key` may be any value but `usize::MAX`.
    pub(crate) fn add(&self, fd: BorrowedFd<'_>, key: usize) -> io::Result<()> {
        let interest = libc::EPOLLIN | libc::EPOLLPRI | libc::EPOLLOUT | libc::EPOLLRDHUP | libc::EPOLLET;
        let mut event = libc::epoll_event { events: interest as u32, u64: key as u64 };
        // SAFETY: both descriptors are open (one is owned, one borrowed) and `event` outlives the call, which
        // keeps no pointer to it.
        let result = unsafe {
            libc::epoll_ctl(self.poller.as_raw_fd(), libc::EPOLL_CTL_ADD, fd.as_raw_fd(), &mut event)
        };
        if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }

    /// Stops watching `fd`.
    pub(crate) fn delete(&self, fd: BorrowedFd<'_>) -> io::Result<()> {
        self.poller.delete(fd)
    }

    /// Waits for events, a notification or the end of `timeout` (`None`: no end), and hands the events to `each`.
    pub(crate) fn wait(
        &mut self,
        timeout: Option<Duration>,
        mut each: impl FnMut(Readiness),
    ) -> io::Result<()> {
        match self.epoll_wait(timeout) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(()),
            other => other?,
        }
        let mut notified = false;
        for event in &self.events {
            match event.u64 {
                NOTIFY_KEY => notified = true,
                key => each(readiness(key as usize, event.events)),
            }
        }
        if notified {
            self.notified.clear();
            self.poller.wait(&mut self.notified, Some(Duration::ZERO))?;
            for event in self.notified.iter() {
                each(Readiness {
                    key: event.key,
                    readable: event.readable,
                    writable: event.writable,
                    hangup: true,
                });
            }
        }
        Ok(())
    }

    /// One wait of the kernel's; `events` holds what it returned.
    fn epoll_wait(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        self.events.clear();
        let fd = self.poller.as_raw_fd();
        if self.nanoseconds {
            let spec = timeout.map(|timeout| libc::timespec {
                tv_sec: libc::time_t::try_from(timeout.as_secs()).unwrap_or(libc::time_t::MAX),
                tv_nsec: timeout.subsec_nanos().into(),
            });
            let spec = spec.as_ref().map_or(ptr::null(), ptr::from_ref);
            // SAFETY: `events` has room for BATCH entries, `spec` is null or points to a live timespec, the null
            // signal mask means "leave it as it is" (its size is then ignored).
            let count = unsafe {
                libc::syscall(
                    libc::SYS_epoll_pwait2,
                    fd,
                    self.events.as_mut_ptr(),
                    BATCH as libc::c_int,
                    spec,
                    ptr::null::<libc::sigset_t>(),
                    0usize,
                )
            };
            if count >= 0 {
                // SAFETY: the kernel wrote `count` entries, at most BATCH.
                unsafe { self.events.set_len(count as usize) };
                return Ok(());
            }
            let error = io::Error::last_os_error();
            // Kernels before 5.11 lack the call; some sandboxes forbid what they don't know.
            if !matches!(error.raw_os_error(), Some(libc::ENOSYS | libc::EPERM)) {
                return Err(error);
            }
            self.nanoseconds = false;
        }
        let millis = match timeout {
            None => -1,
            // Rounded up: a timer must not fire early, nor its last part be spent in zero-length waits.
            Some(timeout) => i32::try_from(timeout.as_nanos().div_ceil(1_000_000)).unwrap_or(i32::MAX),
        };
        // SAFETY: as above.
        let count = unsafe { libc::epoll_wait(fd, self.events.as_mut_ptr(), BATCH as libc::c_int, millis) };
        if count < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: as above.
        unsafe { self.events.set_len(count as usize) };
        Ok(())
    }
}

fn readiness(key: usize, events: u32) -> Readiness {
    Readiness {
        key,
        readable: events & READABLE != 0,
        writable: events & WRITABLE != 0,
        hangup: events & HANGUP != 0,
    }
}

/// A set of descriptors that is a descriptor itself: readable while one of them is ready.
pub(crate) struct PollSet(OwnedFd);

impl PollSet {
    pub(crate) fn new() -> io::Result<PollSet> {
        // SAFETY: the call takes no pointers.
        let fd = unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the kernel has just made this descriptor for us.
        Ok(PollSet(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// Adds a descriptor, once. `PermissionDenied` for one that cannot be waited for: a regular file.
    pub(crate) fn add(
        &self,
        fd: BorrowedFd<'_>,
        read: bool,
        write: bool,
        exceptional: bool,
    ) -> io::Result<()> {
        let interest = if read { libc::EPOLLIN } else { 0 }
            | if write { libc::EPOLLOUT } else { 0 }
            | if exceptional { libc::EPOLLPRI } else { 0 };
        let mut event = libc::epoll_event { events: interest as u32, u64: 0 };
        // SAFETY: both descriptors are open (one is owned, one borrowed) and `event` outlives the call, which
        // keeps no pointer to it.
        let result =
            unsafe { libc::epoll_ctl(self.0.as_raw_fd(), libc::EPOLL_CTL_ADD, fd.as_raw_fd(), &mut event) };
        if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }
}

impl AsFd for PollSet {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
