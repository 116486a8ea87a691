//! Waiting on behalf of code that knows nothing of greenlets, and that must not be unwound: see [`crate::foreign`].

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::rc::Rc;
use std::sync::Once;
use std::sync::atomic::{AtomicBool, AtomicPtr, Ordering};

use super::clock::Moment;
use super::io::{Direction, Registration};
use super::remote::{Hold, Remote};
use super::undated::receive_timeout;
use super::{Action, Hub};
use crate::foreign::{Interest, Look, Woken};
use crate::greenlet::{Core, State, WaitsFor};
use crate::stack;
use crate::sys::PollSet;

/// Whether this is the child of a fork which has no hub of its own yet.
static FORKED: AtomicBool = AtomicBool::new(false);

/// The hubs of this process are its own from now on.
pub(super) fn whole() {
    extern "C" fn child() {
        FORKED.store(true, Ordering::Relaxed);
    }
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // SAFETY: the handler stores to an atomic, which is all that it does.
        let _ = unsafe { libc::pthread_atfork(None, None, Some(child)) };
    });
    FORKED.store(false, Ordering::Relaxed);
}

/// The kernel's number of the thread that asks.
pub(super) fn thread() -> libc::pid_t {
    // SAFETY: it takes nothing.
    unsafe { libc::syscall(libc::SYS_gettid) as libc::pid_t }
}

/// What is told of hubs that are given up: null, or a `fn(usize)`. No lock, as those may be what the hook is about.
static CLOSED: AtomicPtr<()> = AtomicPtr::new(std::ptr::null_mut());

pub(crate) fn set_close_hook(hook: fn(usize)) {
    CLOSED.store(hook as *mut (), Ordering::Release);
}

/// What is run around each wait: null, or a `fn(&mut dyn FnMut())`.
static AROUND: AtomicPtr<()> = AtomicPtr::new(std::ptr::null_mut());

pub(crate) fn set_around_waits(around: fn(&mut dyn FnMut())) {
    AROUND.store(around as *mut (), Ordering::Release);
}

#[inline(always)]
pub(super) fn around_waits() -> Option<fn(&mut dyn FnMut())> {
    let around = AROUND.load(Ordering::Acquire);
    // SAFETY: null, or of that type.
    (!around.is_null()).then(|| unsafe { std::mem::transmute::<*mut (), fn(&mut dyn FnMut())>(around) })
}

/// How long a wait for a descriptor may last.
#[derive(Clone, Copy)]
pub(crate) enum Until {
    Moment(Option<Moment>),
    /// As long as the socket's timeout for receiving says. Of one that is believed to be `known`, and is another descriptor that
    /// nobody waited for up to now, nothing is waited for.
    Timeout {
        known: bool,
    },
}

impl Hub {
    /// Whether somebody runs, and not the hub. May be asked in a signal handler.
    #[inline]
    pub(crate) fn somebody_runs(&self) -> bool {
        !self.current.pulse().running().is_null()
    }

    /// Whether it is this hub's own thread that asks, and not the child of its vfork, which has the thread's memory but
    /// descriptors of its own.
    pub(crate) fn is_own_thread(&self) -> bool {
        self.thread.get() == thread()
    }

    /// The thread exits.
    pub(super) fn close_foreign(&self) {
        let hook = CLOSED.load(Ordering::Acquire);
        if !hook.is_null() {
            // SAFETY: what is stored there is null, or such a function.
            let hook = unsafe { std::mem::transmute::<*mut (), fn(usize)>(hook) };
            hook(std::ptr::from_ref(self).addr());
        }
        self.look_hook.set(None);
    }

    pub(crate) fn set_look_hook(&self, hook: Option<fn(Look)>) {
        self.look_hook.set(hook);
    }

    /// Runs the hook that looks where this hub cannot, if there is one.
    #[inline]
    pub(super) fn look(&self, look: Look) {
        if let Some(hook) = self.look_hook.get() {
            hook(look);
        }
    }

    /// The greenlet that runs, if it can be parked where it stands: on its own stack, not unwinding, and not inside a part of
    /// the hub that calls out.
    fn parkable(&self) -> Option<Rc<Core>> {
        let core = self.current.get()?;
        let own_stack = match core.fiber.get() {
            Some(fiber) => fiber.bounds().contains(stack::here()),
            None => core.is_main(),
        };
        let untouched = self.ready.try_borrow_mut().is_ok()
            && self.timers.try_borrow_mut().is_ok()
            && self.io.try_borrow_mut().is_ok()
            && self.greenlets.try_borrow_mut().is_ok()
            && self.stacks.try_borrow_mut().is_ok()
            && self.messages.try_borrow_mut().is_ok()
            && self.remote.try_borrow_mut().is_ok()
            && matches!(self.poll.try_borrow_mut().as_deref(), Ok(Some(_)));
        let here = own_stack
            && untouched
            && !core.may_block()
            && !std::thread::panicking()
            && !FORKED.load(Ordering::Relaxed);
        here.then_some(core)
    }

    /// Whether somebody runs whom [`foreign_park`](Self::foreign_park) would park.
    pub(crate) fn can_park_foreign(&self) -> bool {
        self.parkable().is_some()
    }

    /// Parks the greenlet that runs until somebody unparks it, the deadline has come, or, if it may be interrupted, a kill or
    /// the end of a timeout is to be told. Never unwinds.
    #[inline]
    pub(crate) fn foreign_park(&self, why: WaitsFor, deadline: Option<Moment>, interruptible: bool) -> Woken {
        match self.parkable() {
            Some(core) => self.foreign_park_as(&core, why, deadline, interruptible),
            None => Woken::Refused,
        }
    }

    /// [`foreign_park`](Self::foreign_park), of the greenlet that is known to be [`parkable`](Self::parkable).
    #[inline]
    fn foreign_park_as(
        &self,
        core: &Rc<Core>,
        why: WaitsFor,
        deadline: Option<Moment>,
        interruptible: bool,
    ) -> Woken {
        if interruptible && core.tell_interrupt() {
            return Woken::Interrupted;
        }
        let timer = deadline.map(|at| self.timers.borrow_mut().insert(at, Action::Wake(core.clone())));
        core.waits_for.set(why);
        core.parked_at.set(self.tick.get());
        core.state.set(State::Parked);
        let result = self.switch_out(core);
        core.waits_for.set(WaitsFor::Nothing);
        let in_time = match timer {
            Some(key) => self.timers.borrow_mut().remove(key).is_some(),
            None => true,
        };
        if result.is_err() {
            return Woken::Refused;
        }
        if interruptible && core.tell_interrupt() {
            return Woken::Interrupted;
        }
        if in_time { Woken::Event } else { Woken::Deadline }
    }

    /// Goes to the back of the ready queue; false if nobody runs who can be parked.
    pub(crate) fn foreign_yield(&self) -> bool {
        let Some(core) = self.parkable() else { return false };
        core.state.set(State::Ready);
        self.ready.borrow_mut().push(core.clone());
        // Main is in the queue, so it cannot be told that nobody wakes it.
        let _ = self.switch_out(&core);
        true
    }

    /// Counts a call on a descriptor, and gives way if there were many in a row without a wait.
    #[inline]
    pub(crate) fn foreign_count_call(&self) {
        if self.calls_are_many() {
            self.foreign_yield();
        }
    }

    /// Parks until a descriptor may be ready that is somebody else's: it may be in blocking mode, registered elsewhere,
    /// watched by several, and closed at any time.
    pub(crate) fn foreign_wait(&self, fd: RawFd, direction: Direction, until: Until) -> io::Result<Woken> {
        let Some(core) = self.parkable() else { return Ok(Woken::Refused) };
        let why = match direction {
            Direction::Read => WaitsFor::Readable(fd),
            Direction::Write => WaitsFor::Writable(fd),
        };
        let (registration, is_new) = self.guest(fd);
        if !self.io.borrow_mut().set_parked(registration, direction, &core) {
            return self.foreign_wait_alone(fd, direction, why, until);
        }
        let waiting = Waiting { hub: self, registration, direction, core: &core };
        let watched = self.watch(registration, is_new, fd, direction);
        if let Err(error) = watched {
            drop(waiting);
            self.forget_guest(fd, registration);
            return match error.raw_os_error() {
                // A regular file, which is always ready.
                Some(libc::EPERM) => Ok(Woken::Event),
                // The descriptor of one of our own sockets, which is registered for that.
                Some(libc::EEXIST) => self.foreign_wait_alone(fd, direction, why, until),
                _ => Err(error),
            };
        }
        let woken = match until {
            Until::Timeout { known: true } if !matches!(watched, Ok(true)) => return Ok(Woken::Event),
            Until::Timeout { .. } if self.sim.get().is_none() => {
                self.begin_undated(registration);
                let woken = self.foreign_park_as(&core, why, None, true);
                let over = self.end_undated(registration);
                if over && woken == Woken::Event { Woken::Deadline } else { woken }
            }
            until => self.foreign_park_as(&core, why, self.moment(fd, until), true),
        };
        if !self.io.borrow_mut().has(registration) {
            return Err(io::Error::from_raw_os_error(libc::EBADF));
        }
        if !self.is_guest(fd, registration) {
            drop(waiting);
            self.forget_guest(fd, registration);
            return Ok(Woken::Event);
        }
        // What arrived in the same moment as the deadline is taken.
        if woken == Woken::Deadline && self.is_ready(registration, direction) {
            return Ok(Woken::Event);
        }
        Ok(woken)
    }

    /// [`foreign_wait`](Self::foreign_wait) where the descriptor is watched for somebody else already.
    #[cold]
    fn foreign_wait_alone(
        &self,
        fd: RawFd,
        direction: Direction,
        why: WaitsFor,
        until: Until,
    ) -> io::Result<Woken> {
        self.foreign_wait_any(&[(fd, Interest::one(direction))], why, self.moment(fd, until))
    }

    fn moment(&self, fd: RawFd, until: Until) -> Option<Moment> {
        match until {
            Until::Moment(moment) => moment,
            Until::Timeout { .. } => receive_timeout(fd).and_then(|after| self.deadline(after)),
        }
    }

    /// What is kept of a descriptor from one wait to the next, and whether this is the first.
    fn guest(&self, fd: RawFd) -> (Registration, bool) {
        let mut guests = self.guests.borrow_mut();
        let index = fd.unsigned_abs() as usize;
        if guests.len() <= index {
            guests.resize(index + 1, None);
        }
        let is_new = guests[index].is_none();
        (*guests[index].get_or_insert_with(|| self.io.borrow_mut().insert(fd)), is_new)
    }

    fn is_guest(&self, fd: RawFd, registration: Registration) -> bool {
        self.guests.borrow().get(fd.unsigned_abs() as usize) == Some(&Some(registration))
    }

    /// Keeps nothing of a descriptor for which nobody waits any more.
    fn forget_guest(&self, fd: RawFd, registration: Registration) {
        if self.io.borrow_mut().waited_for(registration) != (false, false) {
            return;
        }
        if self.is_guest(fd, registration) {
            self.guests.borrow_mut()[fd.unsigned_abs() as usize] = None;
        }
        self.set_deadline(registration, None);
        // Nobody waits, so nobody is woken.
        self.io.borrow_mut().remove(registration);
    }

    /// The descriptor becomes one of our own, which is registered in another way. Those who wait for it look again, and wait in a
    /// set of their own then.
    pub(super) fn foreign_evict(&self, fd: BorrowedFd<'_>) {
        let Some(guest) = self.take_guest(fd.as_raw_fd()) else { return };
        if let Some(poll) = &*self.poll.borrow() {
            // It fails if the number stood for another file.
            let _ = poll.delete(fd);
        }
        self.let_look_again(guest);
    }

    /// In the child of a fork a descriptor cannot be watched that was registered with this key. False if it is one of our own;
    /// somebody else's may have been closed without a word of it, by another thread for one.
    pub(super) fn foreign_lost(&self, fd: RawFd, key: usize) -> bool {
        let guest = self.guests.borrow().get(fd.unsigned_abs() as usize).copied().flatten();
        let Some(guest) = guest.filter(|guest| guest.key() == key) else { return false };
        self.take_guest(fd);
        self.let_look_again(guest);
        true
    }

    fn take_guest(&self, fd: RawFd) -> Option<Registration> {
        self.guests.borrow_mut().get_mut(fd.unsigned_abs() as usize).and_then(Option::take)
    }

    /// Wakes those who wait for a descriptor that is no guest any more.
    fn let_look_again(&self, guest: Registration) {
        let waited_for = self.io.borrow_mut().waited_for(guest);
        self.set_deadline(guest, None);
        if waited_for == (false, false) {
            self.io.borrow_mut().remove(guest);
        } else {
            // The last of them to look removes it.
            self.wake_waiters(guest);
        }
    }

    /// Has the kernel tell of what those wait for who wait for this descriptor, from its present state on. So it does not
    /// matter what became of the number since the last wait: whatever file it stands for now is the one that is watched.
    ///
    /// Whether this descriptor, and no other of that number, was watched up to now.
    ///
    /// # Errors
    /// `EEXIST` if it is registered as one of our own.
    fn watch(
        &self,
        registration: Registration,
        is_new: bool,
        fd: RawFd,
        direction: Direction,
    ) -> io::Result<bool> {
        let (read, write) = {
            let mut io = self.io.borrow_mut();
            io.clear_ready(registration, direction);
            io.waited_for(registration)
        };
        match &*self.poll.borrow() {
            Some(poll) => {
                // SAFETY: the number is only handed to the kernel, which says if it stands for nothing.
                poll.watch(unsafe { BorrowedFd::borrow_raw(fd) }, registration.key(), is_new, read, write)
            }
            None => Err(io::ErrorKind::NotConnected.into()),
        }
    }

    /// Parks until one of several descriptors is ready, by a set made for this wait alone.
    pub(crate) fn foreign_wait_any(
        &self,
        fds: &[(RawFd, Interest)],
        why: WaitsFor,
        deadline: Option<Moment>,
    ) -> io::Result<Woken> {
        let Some(core) = self.parkable() else { return Ok(Woken::Refused) };
        let set = PollSet::new()?;
        for (fd, interest) in fds {
            // SAFETY: the number is only handed to the kernel, which says if it stands for nothing.
            match set.add(unsafe { BorrowedFd::borrow_raw(*fd) }, interest.flags()) {
                // A regular file is always ready.
                Err(error) if error.raw_os_error() == Some(libc::EPERM) => return Ok(Woken::Event),
                // The same number twice: its first entry may ask for something else than this one.
                Err(error) if error.raw_os_error() == Some(libc::EEXIST) => {
                    let all = fds.iter().filter(|(other, _)| other == fd);
                    let all = all.fold(Interest::default(), |all, (_, one)| all.and(*one));
                    // SAFETY: as above.
                    set.change(unsafe { BorrowedFd::borrow_raw(*fd) }, all.flags())?;
                }
                other => other?,
            }
        }
        let set = Set { hub: self, registration: self.register(set.as_fd())?, set };
        let direction = Direction::Read;
        // Nobody else knows of this set.
        self.io.borrow_mut().set_parked(set.registration, direction, &core);
        let _waiting = Waiting { hub: self, registration: set.registration, direction, core: &core };
        Ok(self.foreign_park(why, deadline, true))
    }

    /// A descriptor's number is about to stand for nothing, or for another file.
    pub(crate) fn foreign_closing(&self, fd: RawFd) {
        let Ok(mut guests) = self.guests.try_borrow_mut() else { return };
        let Some(guest) = guests.get_mut(fd.unsigned_abs() as usize) else { return };
        let (Some(registration), Ok(mut io)) = (*guest, self.io.try_borrow_mut()) else { return };
        if io.waited_for(registration) != (false, false) && !self.is_own_thread() {
            // For those who wait the number goes on to stand for what it does.
            return;
        }
        *guest = None;
        drop((guests, io));
        if FORKED.load(Ordering::Relaxed) {
            return;
        }
        // SAFETY: the number is only handed to the kernel, and the registration is that of this number.
        self.deregister(registration, unsafe { BorrowedFd::borrow_raw(fd) }, true);
    }

    /// Above all numbers that somebody has waited for.
    pub(crate) fn foreign_known(&self) -> RawFd {
        self.guests.try_borrow().map_or(0, |guests| RawFd::try_from(guests.len()).unwrap_or(RawFd::MAX))
    }

    /// Who is parked in a wait that others may end, if anybody can be.
    pub(crate) fn foreign_parker(&'static self) -> Option<Parker> {
        let core = self.parkable()?;
        let hold = self.hold()?;
        Some(Parker {
            hub: self,
            core,
            hold,
            next: AtomicPtr::new(std::ptr::null_mut()),
            called: AtomicBool::new(false),
            heard: AtomicBool::new(false),
        })
    }

    /// Wakes those who were called from outside, in the order in which they were.
    pub(super) fn hear_calls(&self) {
        let called = match &*self.remote.borrow() {
            Some(remote) if remote.has_calls() => remote.take_calls(),
            _ => return,
        };
        self.hear_from(called);
    }

    #[cold]
    fn hear_from(&self, mut last: *mut Parker) {
        let mut first = std::ptr::null_mut();
        while !last.is_null() {
            // SAFETY: a parker that was called stays where it is until it is `heard`.
            let parker = unsafe { &*last };
            last = parker.next.swap(first, Ordering::Relaxed);
            first = std::ptr::from_ref(parker).cast_mut();
        }
        while !first.is_null() {
            // SAFETY: as above, and this hub is its own, whose thread alone touches `core`.
            let parker = unsafe { &*first };
            first = parker.next.load(Ordering::Relaxed);
            self.unpark(&parker.core);
            parker.heard.store(true, Ordering::Release);
        }
    }
}

/// See [`crate::foreign::Parker`].
pub(crate) struct Parker {
    hub: &'static Hub,
    core: Rc<Core>,
    hold: Hold,
    /// The next among those called.
    pub(super) next: AtomicPtr<Parker>,
    called: AtomicBool,
    /// The hub has seen that it was called, and has no pointer to it any more.
    heard: AtomicBool,
}

impl Parker {
    pub(crate) fn hub(&self) -> usize {
        std::ptr::from_ref(self.hub).addr()
    }

    pub(crate) fn is_called(&self) -> bool {
        self.called.load(Ordering::Acquire)
    }

    pub(crate) fn park(&self, why: WaitsFor, deadline: Option<Moment>, interruptible: bool) -> Woken {
        if self.is_called() {
            return Woken::Event;
        }
        match self.hub.foreign_park(why, deadline, interruptible) {
            _ if self.is_called() => Woken::Event,
            woken => woken,
        }
    }

    /// # Safety
    /// `this` points to a parker that has not been called yet, and that is not dropped meanwhile by its owner.
    pub(crate) unsafe fn unpark(this: *const Parker) {
        // SAFETY: the caller says that it lives; what is used of it may be used from any thread.
        let parker = unsafe { &*this };
        // Once it is called its owner may go on and be gone; this keeps the way to its hub.
        let remote: Hold = parker.hold.clone();
        parker.called.store(true, Ordering::Release);
        // From here on the hub may have heard it, and it may be no more: it is only a pointer.
        remote.call(this);
    }
}

impl Drop for Parker {
    fn drop(&mut self) {
        // Between its call and its hub's having heard of it, it may be in the list. The caller is a few instructions away
        // from putting it there.
        while self.is_called() && !self.heard.load(Ordering::Acquire) {
            self.hub.hear_calls();
            std::hint::spin_loop();
        }
    }
}

/// Takes a waiter off its descriptor when the wait ends.
struct Waiting<'a> {
    hub: &'a Hub,
    registration: Registration,
    direction: Direction,
    core: &'a Rc<Core>,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.hub.io.borrow_mut().unset_waiter(self.registration, self.direction, self.core);
    }
}

/// A set of descriptors and its registration.
struct Set<'a> {
    hub: &'a Hub,
    registration: Registration,
    set: PollSet,
}

impl Drop for Set<'_> {
    fn drop(&mut self) {
        self.hub.deregister(self.registration, self.set.as_fd(), false);
    }
}

impl Remote {
    /// Hands over one who is called. May be used from any thread and allocates nothing.
    fn call(&self, parker: *const Parker) {
        let parker = parker.cast_mut();
        let mut first = self.calls.load(Ordering::Relaxed);
        loop {
            // SAFETY: it is in no list yet, so that its hub has not heard of it: its owner waits for that before it is gone.
            unsafe { (*parker).next.store(first, Ordering::Relaxed) };
            match self.calls.compare_exchange_weak(first, parker, Ordering::Release, Ordering::Relaxed) {
                Ok(_) => break,
                Err(other) => first = other,
            }
        }
        self.wake_hub();
    }

    pub(super) fn take_calls(&self) -> *mut Parker {
        self.calls.swap(std::ptr::null_mut(), Ordering::Acquire)
    }

    pub(super) fn has_calls(&self) -> bool {
        !self.calls.load(Ordering::SeqCst).is_null()
    }
}

impl Hold {
    fn call(&self, parker: *const Parker) {
        self.remote().call(parker);
    }
}
