//! [`Poll`] on epoll.
//!
//! The descriptor is `polling`'s, and so is the notifier; but a registration also asks for `EPOLLRDHUP`, which
//! `polling` has no word for, and a wait is one `epoll_pwait2` where `polling`'s is five calls (arm a timerfd,
//! register it, wait, read the notifier, register it again). When the notifier itself was raised, a zero-timeout
//! wait of `polling` follows, which resets it.
//!
//! A timeout that is far off, as that of an idle connection or of the next look at idle memory, is not given to each
//! wait, for which the kernel would set and cancel a timer of its own: 0.25 us. It is an alarm's (a timerfd in the same
//! epoll), set once; a wait that is to end later than the alarm goes off leaves it at that and ends early.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;
use std::sync::Arc;
use std::time::Duration;

use polling::{Events, Poller};
use rustix::event::PollFlags;

use super::{BATCH, Notifier, Readiness};

/// The key under which `polling` registers its notifier.
const NOTIFY_KEY: u64 = usize::MAX as u64;

/// The key of the alarm.
const ALARM_KEY: u64 = NOTIFY_KEY - 1;

/// From here on timeouts are the alarm's. Nearer ones would have it set anew over and over.
const FAR: Duration = Duration::from_millis(100);

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
    /// Made at first need.
    alarm: Option<Alarm>,
}

impl Poll {
    pub(crate) fn new() -> io::Result<Poll> {
        Ok(Poll {
            poller: Arc::new(Poller::new()?),
            events: Vec::with_capacity(BATCH),
            notified: Events::new(),
            nanoseconds: true,
            alarm: None,
        })
    }

    /// Becomes a poller of its own, with nothing registered, in the child of a fork.
    pub(crate) fn renew(&mut self) -> io::Result<()> {
        self.poller = Arc::new(super::renew(&self.poller)?);
        self.alarm = None;
        Ok(())
    }

    pub(crate) fn notifier(&self) -> Notifier {
        Notifier(self.poller.clone())
    }

    /// Watches both directions of `fd`, edge-triggered. `key` may be any value but `usize::MAX` and the one before.
    pub(crate) fn add(&self, fd: BorrowedFd<'_>, key: usize) -> io::Result<()> {
        let interest = libc::EPOLLIN | libc::EPOLLPRI | libc::EPOLLOUT | libc::EPOLLRDHUP | libc::EPOLLET;
        self.add_with(fd, interest, key as u64)
    }

    fn add_with(&self, fd: BorrowedFd<'_>, interest: libc::c_int, key: u64) -> io::Result<()> {
        control(self.poller.as_raw_fd(), libc::EPOLL_CTL_ADD, fd, interest, key)
    }

    /// Watches `fd`, edge-triggered, from its present state on, for reading or writing or both, whether it was watched before
    /// or not, which it wasn't if it `is_new`. Tells whether it was.
    pub(crate) fn watch(
        &self,
        fd: BorrowedFd<'_>,
        key: usize,
        is_new: bool,
        read: bool,
        write: bool,
    ) -> io::Result<bool> {
        let reading = libc::EPOLLIN | libc::EPOLLPRI | libc::EPOLLRDHUP;
        let interest =
            libc::EPOLLET | if read { reading } else { 0 } | if write { libc::EPOLLOUT } else { 0 };
        if is_new {
            return self.add_with(fd, interest, key as u64).map(|()| false);
        }
        match control(self.poller.as_raw_fd(), libc::EPOLL_CTL_MOD, fd, interest, key as u64) {
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => {
                self.add_with(fd, interest, key as u64).map(|()| false)
            }
            other => other.map(|()| true),
        }
    }

    /// Stops watching `fd`.
    pub(crate) fn delete(&self, fd: BorrowedFd<'_>) -> io::Result<()> {
        self.poller.delete(fd)
    }

    /// Waits for events, a notification or the end of `timeout` (`None`: no end), and hands the events to `each`. It
    /// may return earlier.
    pub(crate) fn wait(
        &mut self,
        timeout: Option<Duration>,
        mut each: impl FnMut(Readiness),
    ) -> io::Result<()> {
        let timeout = timeout.filter(|timeout| *timeout < FAR || !self.alarm_within(*timeout));
        match self.epoll_wait(timeout) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(()),
            other => other?,
        }
        let mut notified = false;
        for event in &self.events {
            match event.u64 {
                NOTIFY_KEY => notified = true,
                ALARM_KEY => {}
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

    /// Sees to it that the alarm goes off before `timeout` is over; false when there is none to be had.
    fn alarm_within(&mut self, timeout: Duration) -> bool {
        let now = nanos();
        let until = now.saturating_add(u64::try_from(timeout.as_nanos()).unwrap_or(u64::MAX));
        if self.alarm.is_none() {
            // Edge-triggered, it need not be read, which would only tell how many times it went off.
            self.alarm = Alarm::new().ok().filter(|alarm| {
                self.add_with(alarm.fd.as_fd(), libc::EPOLLIN | libc::EPOLLET, ALARM_KEY).is_ok()
            });
        }
        let Some(alarm) = &mut self.alarm else { return false };
        // One that has gone off may have been heard already.
        (now < alarm.at && alarm.at <= until) || alarm.set(until).is_ok()
    }

    /// One wait of the kernel's; `events` holds what it returned.
    fn epoll_wait(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        self.events.clear();
        let fd = self.poller.as_raw_fd();
        if let (true, Some(timeout)) = (self.nanoseconds, timeout.filter(|timeout| !timeout.is_zero())) {
            let spec = timespec(timeout);
            // SAFETY: `events` has room for BATCH entries, `spec` is alive, the null signal mask means "leave it as it
            // is" (its size is then ignored).
            let count = unsafe {
                libc::syscall(
                    libc::SYS_epoll_pwait2,
                    fd,
                    self.events.as_mut_ptr(),
                    BATCH as libc::c_int,
                    &raw const spec,
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
        // Not by libc's function for it, which costs more with several threads, so that a thread could be cancelled in it.
        // SAFETY: as above.
        let count = unsafe {
            libc::syscall(
                libc::SYS_epoll_pwait,
                fd,
                self.events.as_mut_ptr(),
                BATCH as libc::c_int,
                millis,
                ptr::null::<libc::sigset_t>(),
                0usize,
            )
        };
        if count < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: as above.
        unsafe { self.events.set_len(count as usize) };
        Ok(())
    }
}

/// A timer of the kernel's that is a descriptor.
struct Alarm {
    fd: OwnedFd,
    /// The value of [`nanos`] at which it goes off.
    at: u64,
}

impl Alarm {
    /// One that is not set.
    fn new() -> io::Result<Alarm> {
        // SAFETY: the call touches no memory of ours.
        let fd =
            unsafe { libc::timerfd_create(libc::CLOCK_MONOTONIC, libc::TFD_NONBLOCK | libc::TFD_CLOEXEC) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the kernel has just made this descriptor for us.
        Ok(Alarm { fd: unsafe { OwnedFd::from_raw_fd(fd) }, at: 0 })
    }

    /// Has it go off once, at `at` and not when it was told before.
    fn set(&mut self, at: u64) -> io::Result<()> {
        let once = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        let spec = libc::itimerspec { it_interval: once, it_value: timespec(Duration::from_nanos(at)) };
        // SAFETY: `spec` is alive, and the old value is not asked for.
        let result = unsafe {
            libc::timerfd_settime(self.fd.as_raw_fd(), libc::TFD_TIMER_ABSTIME, &spec, ptr::null_mut())
        };
        if result < 0 {
            return Err(io::Error::last_os_error());
        }
        self.at = at;
        Ok(())
    }
}

fn timespec(time: Duration) -> libc::timespec {
    libc::timespec {
        tv_sec: libc::time_t::try_from(time.as_secs()).unwrap_or(libc::time_t::MAX),
        tv_nsec: time.subsec_nanos().into(),
    }
}

/// Nanoseconds on the monotonic clock since some moment in the past, never fewer than before. What std's `Instant` is
/// made of, without its arithmetic: 25 ns a call, not 32.
#[inline]
pub(crate) fn nanos() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the call writes to `time` alone. It cannot fail: every Linux has this clock.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut time) };
    // Neither part is ever negative, and 64 bits hold 584 years.
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
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
    pub(crate) fn add(&self, fd: BorrowedFd<'_>, asked: PollFlags) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_ADD, fd, asked)
    }

    /// Asks for something else of a descriptor that is in the set.
    pub(crate) fn change(&self, fd: BorrowedFd<'_>, asked: PollFlags) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_MOD, fd, asked)
    }

    fn control(&self, what: libc::c_int, fd: BorrowedFd<'_>, asked: PollFlags) -> io::Result<()> {
        let bit = |flag, bit| if asked.contains(flag) { bit } else { 0 };
        let interest = bit(PollFlags::IN, libc::EPOLLIN)
            | bit(PollFlags::OUT, libc::EPOLLOUT)
            | bit(PollFlags::PRI, libc::EPOLLPRI)
            | bit(PollFlags::RDHUP, libc::EPOLLRDHUP);
        control(self.0.as_raw_fd(), what, fd, interest, 0)
    }
}

fn control(
    epoll: RawFd,
    what: libc::c_int,
    fd: BorrowedFd<'_>,
    interest: libc::c_int,
    key: u64,
) -> io::Result<()> {
    let mut event = libc::epoll_event { events: interest as u32, u64: key };
    // SAFETY: `event` outlives the call, which keeps no pointer to it; of the descriptors the kernel says if they are none.
    let result = unsafe { libc::epoll_ctl(epoll, what, fd.as_raw_fd(), &mut event) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

impl AsFd for PollSet {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the alarm's next event is waited for, in milliseconds, before a test fails.
    const LONG: libc::c_int = 60_000;

    fn at(poll: &Poll) -> u64 {
        poll.alarm.as_ref().unwrap().at
    }

    #[test]
    fn an_alarm_is_set_anew_only_for_what_is_nearer() {
        let mut poll = Poll::new().unwrap();
        assert!(poll.alarm_within(Duration::from_secs(100)));
        let first = at(&poll);
        assert!(poll.alarm_within(Duration::from_secs(1000)));
        assert_eq!(at(&poll), first);
        assert!(poll.alarm_within(Duration::from_secs(10)));
        assert!(at(&poll) < first);
    }

    #[test]
    fn an_alarm_ends_waits_and_those_after_it_need_another() {
        let mut poll = Poll::new().unwrap();
        for _ in 0..2 {
            let before = nanos();
            assert!(poll.alarm_within(Duration::from_millis(2)));
            let mut heard = libc::epoll_event { events: 0, u64: 0 };
            // SAFETY: there is room for the one event asked for.
            let count = unsafe { libc::epoll_wait(poll.poller.as_raw_fd(), &mut heard, 1, LONG) };
            assert_eq!((count, { heard.u64 }), (1, ALARM_KEY));
            assert!((before..=nanos()).contains(&at(&poll)));
        }
    }

    #[test]
    fn an_alarm_is_no_event_of_anybody() {
        let mut poll = Poll::new().unwrap();
        let end = nanos() + FAR.as_nanos() as u64;
        while nanos() < end {
            poll.wait(Some(FAR), |_| panic!("nothing is watched")).unwrap();
        }
        assert!(poll.alarm.is_some());
    }

    #[test]
    fn a_timeout_without_end_does_not_overflow() {
        let mut poll = Poll::new().unwrap();
        assert!(poll.alarm_within(Duration::MAX));
        assert!(nanos() < at(&poll));
    }
}
