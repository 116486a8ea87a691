//! Waiting for descriptors of any kind: for libraries that do their own reading and writing.
//!
//! A wait first asks poll(2), which knows every kind of descriptor. Only if nothing is ready does it make a set of its
//! own for the kernel to watch, and parks until that set has something. So a descriptor needs no preparation: its flags
//! stay as they are, it may be registered elsewhere, and nothing of the wait outlives it.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::rc::Rc;
use std::time::Duration;

use rustix::event::{PollFd as KernelPollFd, PollFlags, Timespec};

use crate::error::WaitError;
use crate::greenlet::{Core, WaitsFor};
use crate::hub::{Direction, Hub, IoWait, Moment, Registration};
use crate::sys::PollSet;

/// Parks the greenlet until `fd` can be read without blocking, or `timeout` is over (`None`: never). gevent's
/// `socket.wait_read`, and what a driver written in C (libpq, libmysqlclient) asks of its host.
///
/// Any descriptor will do: sockets, pipes, terminals, eventfds, pidfds. Its flags are not changed, so read at most
/// once after this returns if it is in blocking mode. A regular file is always ready. The peer's end and an error
/// count as readable: the read tells.
///
/// ```
/// use std::io::{Read, Write};
/// use std::time::Duration;
///
/// let (mut reader, mut writer) = std::io::pipe()?;
/// let writing = greenlet::spawn(move || writer.write_all(b"x"));
/// greenlet::net::wait_read(&reader, Duration::from_secs(60))?; // the hub runs the writer meanwhile
/// assert_eq!(reader.read(&mut [0; 8])?, 1);
/// # writing.join().unwrap()
/// # ; Ok::<(), std::io::Error>(())
/// ```
///
/// # Errors
/// `TimedOut`; `ResourceBusy` when another greenlet of this thread waits by these functions to read it;
/// `NotConnected` when [`cancel_wait`] or the socket's `close` ended the wait; what poll(2) says.
pub fn wait_read(fd: &(impl AsFd + ?Sized), timeout: impl Into<Option<Duration>>) -> io::Result<()> {
    wait_one(PollFd::new(fd).read(), timeout.into())
}

/// Parks the greenlet until `fd` can be written without blocking, or `timeout` is over (`None`: never). gevent's
/// `socket.wait_write`; see [`wait_read`].
///
/// # Errors
/// As [`wait_read`].
pub fn wait_write(fd: &(impl AsFd + ?Sized), timeout: impl Into<Option<Duration>>) -> io::Result<()> {
    wait_one(PollFd::new(fd).write(), timeout.into())
}

/// How many bytes that were written to a stream socket the kernel still holds: what the peer has not acknowledged, over a
/// unix socket what it has not read (tcp(7), `SIOCOUTQ`). If it becomes less, the peer takes something, even if there is no
/// room yet for the next write. Does not park.
///
/// ```
/// use std::io::{Read, Write};
///
/// let (mut ours, mut theirs) = std::os::unix::net::UnixStream::pair()?;
/// ours.write_all(b"some bytes")?;
/// assert!(greenlet::net::unsent(&ours)? >= 10); // with what the kernel adds for itself
/// theirs.read_exact(&mut [0; 10])?;
/// assert_eq!(greenlet::net::unsent(&ours)?, 0);
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// # Errors
/// What ioctl(2) says of a descriptor that is no such socket.
pub fn unsent(fd: impl AsFd) -> io::Result<usize> {
    crate::sys::unsent(fd.as_fd())
}

/// How many connections wait for a TCP listener to accept them. Linux only. Does not wait.
///
/// ```
/// let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
/// let _client = std::net::TcpStream::connect(listener.local_addr()?)?;
/// # if cfg!(target_os = "linux") {
/// assert_eq!(greenlet::net::accept_queue(&listener)?, 1);
/// # }
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// # Errors
/// What getsockopt(2) says of a descriptor that is no TCP socket; `Unsupported` elsewhere than on Linux. Of a TCP socket that does not
/// listen the number has another meaning.
pub fn accept_queue(listener: impl AsFd) -> io::Result<usize> {
    crate::sys::accept_queue(listener.as_fd())
}

/// Ends every wait of this thread's greenlets to read or to write `fd` that was begun by [`wait_read`], [`wait_write`],
/// [`poll`] or [`select`]: they fail with `NotConnected` (gevent's `cancel_wait`). Call it before a descriptor is closed
/// that others may wait for; the `close` of this module's sockets does it by itself.
pub fn cancel_wait(fd: &(impl AsFd + ?Sized)) {
    cancel(fd.as_fd().as_raw_fd());
}

/// What [`select`] found ready, in the order in which it was asked.
#[derive(Clone, Debug, Default)]
pub struct Selected<'a> {
    /// Can be read without blocking.
    pub readable: Vec<BorrowedFd<'a>>,
    /// Can be written without blocking.
    pub writable: Vec<BorrowedFd<'a>>,
    /// Have an exceptional condition: urgent data, say.
    pub exceptional: Vec<BorrowedFd<'a>>,
}

impl Selected<'_> {
    /// Whether the time was over before anything was ready.
    pub fn is_empty(&self) -> bool {
        self.readable.is_empty() && self.writable.is_empty() && self.exceptional.is_empty()
    }
}

/// Parks the greenlet until one of many descriptors is ready, or `timeout` is over (`None`: never); all lists are empty
/// then (gevent's `select.select`). With a timeout of zero it only looks. Not limited to descriptors below 1024.
///
/// ```
/// use std::os::fd::AsFd;
/// use std::time::Duration;
///
/// let (reader, writer) = std::io::pipe()?;
/// let ready = greenlet::net::select(&[reader.as_fd()], &[writer.as_fd()], &[], Duration::from_secs(60))?;
/// assert_eq!((ready.readable.len(), ready.writable.len()), (0, 1));
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// # Errors
/// As [`poll`].
pub fn select<'a>(
    read: &[BorrowedFd<'a>],
    write: &[BorrowedFd<'a>],
    exceptional: &[BorrowedFd<'a>],
    timeout: impl Into<Option<Duration>>,
) -> io::Result<Selected<'a>> {
    let mut fds: Vec<_> = (read.iter().map(|fd| PollFd::of(*fd).read()))
        .chain(write.iter().map(|fd| PollFd::of(*fd).write()))
        .chain(exceptional.iter().map(|fd| PollFd::of(*fd).exceptional()))
        .collect();
    poll(&mut fds, timeout)?;
    let ready = |part: &[PollFd<'a>]| part.iter().filter(|fd| fd.is_ready()).map(|fd| fd.fd).collect();
    let (reads, rest) = fds.split_at(read.len());
    let (writes, exceptions) = rest.split_at(write.len());
    Ok(Selected { readable: ready(reads), writable: ready(writes), exceptional: ready(exceptions) })
}

/// A descriptor for [`poll`]: what is asked of it, and what was found.
#[derive(Clone, Debug)]
pub struct PollFd<'a> {
    fd: BorrowedFd<'a>,
    asked: PollFlags,
    found: PollFlags,
}

impl<'a> PollFd<'a> {
    /// Asks for nothing yet but errors, which are always reported.
    pub fn new(fd: &'a (impl AsFd + ?Sized)) -> PollFd<'a> {
        PollFd::of(fd.as_fd())
    }

    fn of(fd: BorrowedFd<'a>) -> PollFd<'a> {
        PollFd { fd, asked: PollFlags::empty(), found: PollFlags::empty() }
    }

    /// Asks whether it can be read (`POLLIN`).
    #[must_use]
    pub fn read(mut self) -> PollFd<'a> {
        self.asked |= PollFlags::IN;
        self
    }

    /// Asks whether it can be written (`POLLOUT`).
    #[must_use]
    pub fn write(mut self) -> PollFd<'a> {
        self.asked |= PollFlags::OUT;
        self
    }

    /// Asks whether it has an exceptional condition (`POLLPRI`).
    #[must_use]
    pub fn exceptional(mut self) -> PollFd<'a> {
        self.asked |= PollFlags::PRI;
        self
    }

    /// Asks whether the other side of a stream socket has closed its sending half (`POLLRDHUP`), which it may have done to
    /// say no more than that it has said all. Seen even if there is something left to read. Built with the portable poller, nobody
    /// is woken by that alone.
    #[must_use]
    pub fn half_closed(mut self) -> PollFd<'a> {
        self.asked |= PollFlags::RDHUP;
        self
    }

    /// Whether the last [`poll`] found anything.
    pub fn is_ready(&self) -> bool {
        !self.found.is_empty()
    }

    /// Whether a read would not block: there is something, the peer's end, or an error.
    pub fn is_readable(&self) -> bool {
        self.found.intersects(PollFlags::IN | PollFlags::HUP | PollFlags::ERR)
    }

    /// Whether a write would not block: there is room, nobody to read it any more, or an error.
    pub fn is_writable(&self) -> bool {
        self.found.intersects(PollFlags::OUT | PollFlags::HUP | PollFlags::ERR)
    }

    /// Whether there is an exceptional condition: urgent data, say.
    pub fn is_exceptional(&self) -> bool {
        self.found.contains(PollFlags::PRI)
    }

    /// Whether the other side has closed its sending half, if that was [asked](Self::half_closed) (`POLLRDHUP`).
    pub fn is_half_closed(&self) -> bool {
        self.found.contains(PollFlags::RDHUP)
    }

    /// Whether the other side has gone (`POLLHUP`).
    pub fn is_hangup(&self) -> bool {
        self.found.contains(PollFlags::HUP)
    }

    /// Whether it is in error (`POLLERR`).
    pub fn is_error(&self) -> bool {
        self.found.contains(PollFlags::ERR)
    }
}

impl AsFd for PollFd<'_> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd
    }
}

/// Parks the greenlet until one of `fds` is ready, or `timeout` is over (`None`: never), and returns how many are; 0
/// when the time was over (poll(2); gevent's `select.poll`). With a timeout of zero it only looks.
///
/// # Errors
/// `ResourceBusy` when another greenlet of this thread waits by these functions for the same side of one of them, and
/// names both; `NotConnected` when [`cancel_wait`] or a socket's `close` ended the wait; `InvalidInput` for no
/// descriptor and no timeout; what poll(2) says.
pub fn poll(fds: &mut [PollFd<'_>], timeout: impl Into<Option<Duration>>) -> io::Result<usize> {
    let timeout = timeout.into();
    let hub = Hub::try_get()?;
    hub.count_call();
    let mut asked: Vec<_> = fds.iter().map(|fd| KernelPollFd::from_borrowed_fd(fd.fd, fd.asked)).collect();
    let mut count = look(&mut asked)?;
    if count == 0 && timeout != Some(Duration::ZERO) {
        if fds.is_empty() && timeout.is_none() {
            let what = "there is no descriptor to wait for and no timeout: this would wait for ever";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, what));
        }
        let deadline = timeout.and_then(|timeout| hub.deadline(timeout));
        let wait = Wait::begin(hub, fds)?;
        while count == 0 {
            let waited = wait.park(deadline);
            count = look(&mut asked)?;
            match waited {
                // What became ready in the same moment counts.
                Err(error) if error.kind() == io::ErrorKind::TimedOut => break,
                waited => waited?,
            }
        }
    }
    for (fd, asked) in fds.iter_mut().zip(&asked) {
        fd.found = asked.revents();
    }
    Ok(count)
}

fn wait_one(fd: PollFd<'_>, timeout: Option<Duration>) -> io::Result<()> {
    match poll(&mut [fd], timeout)? {
        0 => Err(WaitError::TimedOut.into()),
        _ => Ok(()),
    }
}

/// A descriptor that is waited for among other things: see [`select!`](crate::select!).
pub(crate) struct Watch<'a> {
    fd: PollFd<'a>,
    /// In this order: it refers to the wait.
    queued: Cell<Option<IoWait>>,
    wait: Wait,
}

impl<'a> Watch<'a> {
    /// Queues the greenlet that runs.
    ///
    /// # Errors
    /// As [`poll`].
    pub(crate) fn enter(fd: PollFd<'a>) -> io::Result<Watch<'a>> {
        let wait = Wait::begin(Hub::try_get()?, std::slice::from_ref(&fd))?;
        let watch = Watch { fd, queued: Cell::new(None), wait };
        watch.queue()?;
        Ok(watch)
    }

    fn queue(&self) -> io::Result<()> {
        let Shared { hub, registration, .. } = *self.wait.shared;
        self.queued.take();
        hub.clear_ready(registration, Direction::Read);
        self.queued.set(Some(hub.queue_for_io(registration, Direction::Read)?));
        Ok(())
    }

    /// What the wait has come to, if it is over. Asks the kernel only if the hub has heard something.
    pub(crate) fn outcome(&self) -> Option<io::Result<()>> {
        let Shared { hub, registration, .. } = *self.wait.shared;
        if self.wait.shared.cancelled.get() {
            return Some(Err(cancelled()));
        }
        if !hub.is_ready(registration, Direction::Read) {
            return None;
        }
        match self.fd.ready_now() {
            Some(ready) => Some(ready),
            None => self.queue().err().map(Err),
        }
    }
}

impl PollFd<'_> {
    /// Whether it is ready at this moment, or cannot be asked.
    pub(crate) fn ready_now(&self) -> Option<io::Result<()>> {
        match look(&mut [KernelPollFd::from_borrowed_fd(self.fd, self.asked)]) {
            Ok(0) => None,
            other => Some(other.map(drop)),
        }
    }
}

/// What is ready at this moment.
fn look(fds: &mut [KernelPollFd<'_>]) -> io::Result<usize> {
    loop {
        match rustix::event::poll(fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })) {
            Err(rustix::io::Errno::INTR) => {}
            other => return Ok(other?),
        }
    }
}

thread_local! {
    /// Who waits, by descriptor and whether it is for its writing side.
    static WAITERS: RefCell<HashMap<(RawFd, bool), Rc<Shared>>> = RefCell::default();
}

/// One wait: its places in the table of waiters, which it gives back.
struct Wait {
    shared: Rc<Shared>,
    why: WaitsFor,
    places: Vec<(RawFd, bool)>,
}

/// What others see of a wait.
struct Shared {
    hub: &'static Hub,
    greenlet: Rc<Core>,
    /// Watched by the kernel; readable while one of the descriptors is ready.
    set: PollSet,
    registration: Registration,
    cancelled: Cell<bool>,
}

impl Wait {
    fn begin(hub: &'static Hub, fds: &[PollFd<'_>]) -> io::Result<Wait> {
        // One descriptor may be named several times, but be put into a set only once.
        let mut all: HashMap<RawFd, PollFd<'_>> = HashMap::with_capacity(fds.len());
        for fd in fds {
            all.entry(fd.fd.as_raw_fd()).or_insert_with(|| PollFd::of(fd.fd)).asked |= fd.asked;
        }
        let set = PollSet::new()?;
        for fd in all.values() {
            match set.add(fd.fd, fd.asked) {
                // A regular file, which poll(2) has already said to be ready if that was asked for.
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {}
                other => other?,
            }
        }
        let why = match fds {
            [fd] if fd.asked == PollFlags::OUT => WaitsFor::Writable(fd.fd.as_raw_fd()),
            [fd] => WaitsFor::Readable(fd.fd.as_raw_fd()),
            _ => WaitsFor::Descriptors(all.len()),
        };
        let greenlet = hub.current()?;
        let registration = hub.register(set.as_fd())?;
        let shared = Rc::new(Shared { hub, greenlet, set, registration, cancelled: Cell::new(false) });
        let mut wait = Wait { shared, why, places: Vec::with_capacity(all.len()) };
        for (fd, asked) in all {
            for (writing, flag) in [(false, PollFlags::IN), (true, PollFlags::OUT)] {
                if asked.asked.contains(flag) {
                    wait.enter(fd, writing)?;
                }
            }
        }
        Ok(wait)
    }

    /// Takes the place of the one greenlet that may wait for this side.
    fn enter(&mut self, fd: RawFd, writing: bool) -> io::Result<()> {
        let entered = WAITERS.try_with(|waiters| match waiters.borrow_mut().entry((fd, writing)) {
            Entry::Occupied(other) => {
                Err(busy(fd, writing, self.shared.greenlet.name(), other.get().greenlet.name()))
            }
            Entry::Vacant(place) => {
                place.insert(self.shared.clone());
                Ok(())
            }
        });
        entered.map_err(|_| WaitError::NoHub)??;
        self.places.push((fd, writing));
        Ok(())
    }

    /// Parks until the set may have something.
    fn park(&self, deadline: Option<Moment>) -> io::Result<()> {
        let Shared { hub, registration, .. } = *self.shared;
        hub.clear_ready(registration, Direction::Read);
        hub.wait_io(registration, Direction::Read, self.why, deadline)?;
        if self.shared.cancelled.get() {
            return Err(cancelled());
        }
        Ok(())
    }
}

impl Drop for Wait {
    fn drop(&mut self) {
        for place in &self.places {
            // While the thread exits the table may be gone, and the wait with it.
            let _ = WAITERS.try_with(|waiters| waiters.borrow_mut().remove(place));
        }
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.hub.deregister(self.registration, self.set.as_fd(), false);
    }
}

/// As [`cancel_wait`].
pub(super) fn cancel(fd: RawFd) {
    for writing in [false, true] {
        let waiter = WAITERS.try_with(|waiters| waiters.borrow().get(&(fd, writing)).cloned());
        if let Ok(Some(waiter)) = waiter {
            waiter.cancelled.set(true);
            waiter.hub.wake_waiters(waiter.registration);
        }
    }
}

#[cold]
fn cancelled() -> io::Error {
    let what = "the wait was cancelled: this program closes the descriptor";
    io::Error::new(io::ErrorKind::NotConnected, what)
}

#[cold]
fn busy(fd: RawFd, writing: bool, one: &str, other: &str) -> io::Error {
    let verb = if writing { "write to" } else { "read from" };
    io::Error::new(
        io::ErrorKind::ResourceBusy,
        format!(
            "greenlet '{one}' cannot wait to {verb} descriptor {fd}: greenlet '{other}' already does; let one greenlet \
             do it, or give each its own descriptor (try_clone)"
        ),
    )
}
