//! Waiting on behalf of code that knows nothing of greenlets: what `greenlet-interpose` and hosts of other languages stand on.
//!
//! What is called here may have frames of C, of Python or of a library below it that were not made to be unwound. So nothing in
//! here ever unwinds, and nothing panics: a kill or the end of a [`timeout`](crate::timeout()) comes back as
//! [`Woken::Interrupted`], for the caller to turn into an error of its own (`ECANCELED`), **once** for each: the wait after that
//! waits again, so that what cleans up can do its work and what ignores errors does not spin. The kill itself stays due, and is
//! raised by the next blocking call of this crate.
//!
//! Everything can be called at any time: before `main`, on threads without a hub, in destructors of thread-locals, on the
//! hub's own stack, while unwinding, in the child of a fork. Where the caller cannot be parked, [`Woken::Refused`] says so, and
//! the plain system call is to be made.
//!
//! Linux only, since nobody interposes elsewhere yet.

use std::io;
use std::os::fd::RawFd;
use std::time::Duration;

use rustix::event::PollFlags;

use crate::greenlet::WaitsFor;
use crate::hub::{self, Direction, Hub, Moment, Until};

/// How a wait has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Woken {
    /// What was waited for is there, or may be: look again.
    Event,
    /// The deadline has come.
    Deadline,
    /// A kill or the end of a timeout is to be seen to, and has been told by this.
    Interrupted,
    /// The caller cannot be parked here and now, and has not been.
    Refused,
}

/// A point in time by this thread's hub, virtual in a run of [`testing`](crate::testing); see [`deadline`].
#[derive(Clone, Copy, Debug)]
pub struct Deadline(Moment);

impl Deadline {
    /// What is left until then.
    pub fn left(self) -> Duration {
        Hub::existing().map_or(Duration::ZERO, |hub| self.0.since(hub.now()))
    }
}

/// The point in time `after` from now; `None`, which means never, where that lies beyond the clock's end, and on a thread
/// without a hub.
pub fn deadline(after: Duration) -> Option<Deadline> {
    Hub::existing()?.deadline(after).map(Deadline)
}

/// Whether this thread has a hub and a greenlet of it runs, main included: a quick look, for a call to know whether it is worth
/// to look closer. May be asked in a signal handler.
#[inline]
pub fn inside() -> bool {
    Hub::existing().is_some_and(Hub::somebody_runs)
}

/// Whether the caller could be parked here and now. No within [`may_block`](crate::may_block).
pub fn can_park() -> bool {
    Hub::existing().is_some_and(Hub::can_park_foreign)
}

/// The number of the greenlet that runs, unique on its thread, 0 for main; `None` where [`inside`] says no. May be asked in a
/// signal handler.
pub fn current_id() -> Option<u64> {
    Hub::existing()?.with_running(|core| core.id)
}

/// Which hub this thread has, as a number that no other hub of the process has; `None` if it has none.
pub fn hub_id() -> Option<usize> {
    Hub::existing().map(|hub| std::ptr::from_ref(hub).addr())
}

/// Goes to the back of the ready queue and lets the others run; false where the caller cannot be parked.
pub fn yield_now() -> bool {
    Hub::existing().is_some_and(Hub::foreign_yield)
}

/// Counts a call on a descriptor that did not have to wait; after many in a row the caller gives way to others.
#[inline]
pub fn count_call() {
    if let Some(hub) = Hub::existing() {
        hub.foreign_count_call();
    }
}

/// Parks until `deadline` (`None`: for ever). Never returns `Event`.
pub fn sleep(deadline: Option<Deadline>) -> Woken {
    let Some(hub) = Hub::existing() else { return Woken::Refused };
    loop {
        match hub.foreign_park(WaitsFor::Sleep, deadline.map(|deadline| deadline.0), true) {
            Woken::Event => {}
            woken => return woken,
        }
    }
}

/// What is to be heard of a descriptor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Interest {
    /// There is something to read, or the end (`POLLIN`).
    pub read: bool,
    /// There is room to write (`POLLOUT`).
    pub write: bool,
    /// Something exceptional (`POLLPRI`).
    pub exceptional: bool,
    /// The other side has ended its half (`POLLRDHUP`).
    pub half_closed: bool,
}

impl Interest {
    /// [`read`](Self::read) alone.
    pub const READ: Interest = Interest { read: true, write: false, exceptional: false, half_closed: false };
    /// [`write`](Self::write) alone.
    pub const WRITE: Interest = Interest { read: false, write: true, exceptional: false, half_closed: false };

    pub(crate) fn one(direction: Direction) -> Interest {
        match direction {
            Direction::Read => Interest::READ,
            Direction::Write => Interest::WRITE,
        }
    }

    pub(crate) fn and(self, other: Interest) -> Interest {
        Interest {
            read: self.read || other.read,
            write: self.write || other.write,
            exceptional: self.exceptional || other.exceptional,
            half_closed: self.half_closed || other.half_closed,
        }
    }

    pub(crate) fn flags(self) -> PollFlags {
        let bit = |asked, flag| if asked { flag } else { PollFlags::empty() };
        bit(self.read, PollFlags::IN)
            | bit(self.write, PollFlags::OUT)
            | bit(self.exceptional, PollFlags::PRI)
            | bit(self.half_closed, PollFlags::RDHUP)
    }
}

/// Parks until there is something to read from a descriptor, or its end or an error. See [`wait_writable`].
///
/// # Errors
/// As [`wait_writable`].
#[inline]
pub fn wait_readable(fd: RawFd, deadline: Option<Deadline>) -> io::Result<Woken> {
    wait_one(fd, Direction::Read, deadline)
}

/// Parks until a descriptor has room, or an error. It may be of any kind and in either mode, of which nothing is changed, and
/// any number of greenlets may wait for it. Returning `Event` does not promise that a call will not have to wait.
///
/// The descriptor stays registered with the hub for the next wait, until [`closing`] or for as long as its number stands for
/// that file.
///
/// # Errors
/// `EBADF` if it is no descriptor, or has been [closed](closing) meanwhile: its number may stand for another file now. What
/// the kernel says when it cannot watch it.
#[inline]
pub fn wait_writable(fd: RawFd, deadline: Option<Deadline>) -> io::Result<Woken> {
    wait_one(fd, Direction::Write, deadline)
}

/// As [`wait_readable`], for as long as the socket's `SO_RCVTIMEO` says; for ever if it is no socket. The timeout is asked for
/// only if the wait lasts: before the thread sleeps, or after some milliseconds. The time counts from then, so the wait may last so
/// much longer.
///
/// `known` says that this very file was waited for by this number: if another one has its number now, or nobody on this thread
/// waited for it yet, it is `Event` at once, for the caller to look what it is.
///
/// # Errors
/// As [`wait_writable`].
#[inline]
pub fn wait_received(fd: RawFd, known: bool) -> io::Result<Woken> {
    match Hub::existing() {
        _ if fd < 0 => Err(io::Error::from_raw_os_error(libc::EBADF)),
        Some(hub) => hub.foreign_wait(fd, Direction::Read, Until::Timeout { known }),
        None => Ok(Woken::Refused),
    }
}

fn wait_one(fd: RawFd, direction: Direction, deadline: Option<Deadline>) -> io::Result<Woken> {
    if fd < 0 {
        return Err(io::Error::from_raw_os_error(libc::EBADF));
    }
    match Hub::existing() {
        Some(hub) => hub.foreign_wait(fd, direction, Until::Moment(deadline.map(|deadline| deadline.0))),
        None => Ok(Woken::Refused),
    }
}

/// Parks until one of several descriptors may have what is asked of it. A number may be there several times. With none it is a
/// [`sleep`].
///
/// # Errors
/// `EBADF` if one is no descriptor; what the kernel says when it cannot watch them.
pub fn wait_any(fds: &[(RawFd, Interest)], deadline: Option<Deadline>) -> io::Result<Woken> {
    let Some(hub) = Hub::existing() else { return Ok(Woken::Refused) };
    match fds {
        [] => Ok(sleep(deadline)),
        _ => {
            let why = WaitsFor::Descriptors(fds.len());
            hub.foreign_wait_any(fds, why, deadline.map(|deadline| deadline.0))
        }
    }
}

/// To be called just before a descriptor is closed, or replaced by another (dup2(2)): ends what this thread's greenlets wait
/// for at it by [`wait_readable`] and [`wait_writable`], with `EBADF`.
#[inline]
pub fn closing(fd: RawFd) {
    if let Some(hub) = Hub::existing()
        && fd >= 0
    {
        hub.foreign_closing(fd);
    }
}

/// [`closing`] for all descriptors from `first` to `last`; those that nobody has waited for cost nothing.
pub fn closing_range(first: RawFd, last: RawFd) {
    let Some(hub) = Hub::existing() else { return };
    let known = hub.foreign_known().min(last.max(-1).saturating_add(1));
    (first.max(0)..known).for_each(|fd| hub.foreign_closing(fd));
}

/// A greenlet that others can call: the building block of locks. Lives on the stack of the greenlet that waits; whoever
/// is to call it holds a pointer, from any thread; it must not be moved any more then. Neither waiting nor calling allocates.
///
/// As long as one exists nobody's wait is called hopeless ([`LoopExit`](crate::LoopExit)).
#[allow(missing_debug_implementations, reason = "other threads change it")]
pub struct Parker(hub::Parker);

impl Parker {
    /// For the greenlet that runs; `None` where it cannot be parked.
    pub fn new() -> Option<Parker> {
        Hub::existing()?.foreign_parker().map(Parker)
    }

    /// The hub of the greenlet: what [`hub_id`] says on its thread. From any thread.
    pub fn hub_id(&self) -> usize {
        self.0.hub()
    }

    /// Whether it has been called.
    pub fn is_called(&self) -> bool {
        self.0.is_called()
    }

    /// Parks the greenlet until it is called (`Event`), or `deadline`. May return `Event` early: ask
    /// [`is_called`](Self::is_called). It is to be told of kills and timeouts only if it is `interruptible`; locks are
    /// not, as in pthreads. `why` is what reports say that it waits for.
    pub fn park(&self, why: &'static &'static str, deadline: Option<Deadline>, interruptible: bool) -> Woken {
        self.0.park(WaitsFor::Call(why), deadline.map(|deadline| deadline.0), interruptible)
    }

    /// Calls the greenlet: it will run again. At most once for each parker; may be done from any thread, and in a signal
    /// handler that has found it without waiting for a lock: it is done by atomics and at most one write(2).
    ///
    /// # Safety
    /// `this` is a live parker that has not been called, nor moved since the pointer was made. It must not be dropped before
    /// this has begun: take it out of the list in which its owner looks, under that list's lock, and call it under that lock.
    /// (Its owner's drop waits for the rest.)
    pub unsafe fn unpark(this: *const Parker) {
        // SAFETY: the caller's promise. The wrapper has the address of what it wraps.
        unsafe { hub::Parker::unpark(&raw const (*this).0) }
    }
}

/// Has `hook` run when a hub is given up, with its [`hub_id`]: on its thread, at the thread's exit, before the stacks of the
/// greenlets that were parked then are unmapped. What points into them is to be forgotten. There is one for the process; the
/// last that was set counts.
pub fn on_close(hook: fn(usize)) {
    hub::set_close_hook(hook);
}

/// When a hub [looks](on_look).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    /// Nobody is ready, and it is about to wait in the kernel. Who is [called](Parker::unpark) now keeps it from that.
    BeforeSleep,
    /// It has looked at the descriptors, whether it waited or not: now and then while it is busy, and always before
    /// anybody runs after it has slept.
    Awake,
}

/// Has this thread's hub run `hook`, on its own stack, each time that it looks at its descriptors: for what tells of itself only
/// if it is looked at. One for each hub; `None` takes it away. The hook must not block, and can call [`Parker`]s.
pub fn on_look(hook: Option<fn(Look)>) {
    if let Some(hub) = Hub::existing() {
        hub.set_look_hook(hook);
    }
}

/// Has `around` run every wait of every greenlet, main's too, for state of the OS thread that is to be the greenlet's: it runs on
/// the stack of the one that waits, calls its argument once, and that returns when the wait is over, or unwinds if the thread ends
/// first. It must not wait itself. Only one can be set, and holds from then on for all threads.
pub fn around_waits(around: fn(&mut dyn FnMut())) {
    hub::set_around_waits(around);
}

/// Runs `f` on a thread of the default thread pool and parks the caller until it is done; in place where the caller cannot be
/// parked. A kill waits until it is done.
///
/// As [`unblock`](crate::unblock), but `f` may borrow, and must neither panic nor be long-lived on purpose: it cannot be given up.
pub fn unblock<T: Send>(f: impl FnOnce() -> T + Send) -> T {
    crate::threadpool::unblock_foreign(f)
}

/// As [`unblock`], on the threads for name resolution, so that slow look-ups and slow files do not wait for each other.
pub fn unblock_names<T: Send>(f: impl FnOnce() -> T + Send) -> T {
    crate::threadpool::unblock_names_foreign(f)
}

/// Runs `f` on a thread for name resolution and parks the caller until it is done, as [`unblock_names`], but tells of a kill or the
/// end of a timeout at once, by `None`: `f` then runs to its end, and its result is dropped on its thread.
pub fn look_up<T: Send + 'static>(f: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    crate::threadpool::look_up_foreign(f)
}
