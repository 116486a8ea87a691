//! The hub: one thread's event loop.
//!
//! It owns the ready queue, the timers, what is known of each descriptor and the way in for other threads, and it
//! switches. What may not enter here: sockets (only descriptors), locks and queues (they use [`Hub::park`] and
//! [`Hub::unpark`]), user code (values of users are made, run and dropped in greenlets, never on the hub's own
//! stack). No cell of the hub is borrowed while a greenlet runs.
//!
//! There is one hub per thread, made at first need. The thread's own program ("main") is a greenlet too: when it
//! waits, it drives the loop until it is ready again.

mod clock;
mod io;
mod ready;
mod remote;
mod timers;

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::panic::Location;
use std::rc::Rc;
use std::sync::{Arc, Once};
use std::time::Duration;

use crossbeam_channel::Receiver;
use slab::Slab;

pub(crate) use clock::Moment;
pub(crate) use io::{Direction, Registration};
pub(crate) use remote::{Message, Remote, RemoteWaker};
pub(crate) use timers::TimerKey;

use crate::Stats;
use crate::error::{LoopExit, WaitError};
use crate::greenlet::{Core, End, State, WaitsFor, Wake};
use crate::stack::{self, Running, StackPool, ThreadAltStack};
use crate::switch::Fiber;
use crate::sys::Poll;
use crate::unwind;
use clock::Clock;
use io::IoTable;
use ready::Ready;
use timers::Timers;

/// Between two looks at the descriptors, at most this many greenlets run…
const RUNS_PER_POLL: u32 = 64;
/// …or this much time passes, which is looked at after every so many.
const TIME_PER_POLL: Duration = Duration::from_micros(100);
const RUNS_PER_CLOCK: u32 = 8;
/// A greenlet whose descriptors are always ready gives way after this many calls in a row.
const CALLS_PER_TURN: u32 = 128;
/// An idle hub gives back the memory of deep free stacks, at most so often, all but the hottest few.
const TRIM_EVERY: Duration = Duration::from_secs(1);
const TRIM_KEEP: usize = 16;
const TRIM_AT_ONCE: usize = 256;

/// What a timer does.
pub(crate) enum Action {
    /// The deadline of a wait.
    Wake(Rc<Core>),
    /// The end of a [`timeout`](crate::timeout) scope.
    Expire(Rc<Core>, u64),
    /// The start of a greenlet spawned for later.
    Start(Rc<Core>),
}

/// One thread's event loop.
pub(crate) struct Hub {
    clock: Clock,
    ready: RefCell<Ready>,
    timers: RefCell<Timers<Action>>,
    io: RefCell<IoTable>,
    /// `None` once the thread is exiting.
    poll: RefCell<Option<Poll>>,
    remote: RefCell<Option<Arc<Remote>>>,
    messages: RefCell<Option<Receiver<Message>>>,
    stacks: RefCell<Option<StackPool>>,
    alt_stack: RefCell<Option<ThreadAltStack>>,
    greenlets: RefCell<Slab<Rc<Core>>>,
    main: Rc<Core>,
    /// Who runs; `None` while the hub itself does.
    current: RefCell<Option<Rc<Core>>>,
    next_id: Cell<u64>,
    next_token: Cell<u64>,
    runs: Cell<u32>,
    runs_at_clock: Cell<u32>,
    polled_at: Cell<Moment>,
    trimmed_at: Cell<Moment>,
    calls: Cell<u32>,
}

thread_local! {
    static HUB: Cell<Option<&'static Hub>> = const { Cell::new(None) };
    static CLOSER: Closer = const { Closer };
}

/// Takes the hub apart when its thread exits.
struct Closer;

impl Drop for Closer {
    fn drop(&mut self) {
        if let Some(hub) = HUB.get() {
            hub.close();
        }
    }
}

impl Hub {
    /// This thread's hub, made if there is none.
    ///
    /// # Errors
    /// What the kernel says when it gives no poller: too many open files, most likely.
    #[inline]
    pub(crate) fn try_get() -> std::io::Result<&'static Hub> {
        match HUB.get() {
            Some(hub) => Ok(hub),
            None => Hub::start(),
        }
    }

    /// This thread's hub, made if there is none.
    ///
    /// # Panics
    /// When the kernel gives no poller.
    #[inline]
    pub(crate) fn get() -> &'static Hub {
        Hub::try_get().unwrap_or_else(|error| {
            panic!(
                "cannot make this thread's event loop: {error}; raise the limit of open files (ulimit -n)?"
            )
        })
    }

    #[cold]
    fn start() -> std::io::Result<&'static Hub> {
        let poll = Poll::new()?;
        let (remote, messages) = Remote::new(poll.notifier());
        let clock = Clock::new();
        let now = clock.now();
        let name = std::thread::current().name().map(str::to_owned);
        let main = Rc::new(Core::main(name));
        // Leaked on purpose, once per thread: sockets and handles refer to their hub for as long as they live,
        // which may be longer than the thread's last destructor. What is costly in it goes at `close`.
        let hub: &'static Hub = Box::leak(Box::new(Hub {
            clock,
            ready: RefCell::new(Ready::new()),
            timers: RefCell::new(Timers::new()),
            io: RefCell::new(IoTable::new()),
            poll: RefCell::new(Some(poll)),
            remote: RefCell::new(Some(remote)),
            messages: RefCell::new(Some(messages)),
            stacks: RefCell::new(Some(StackPool::new())),
            alt_stack: RefCell::new(ThreadAltStack::install().ok()),
            greenlets: RefCell::new(Slab::new()),
            main: main.clone(),
            current: RefCell::new(Some(main)),
            next_id: Cell::new(1),
            next_token: Cell::new(0),
            runs: Cell::new(0),
            runs_at_clock: Cell::new(0),
            polled_at: Cell::new(now),
            trimmed_at: Cell::new(now),
            calls: Cell::new(0),
        }));
        HUB.set(Some(hub));
        // Fails only while the thread's destructors already run; then the hub goes with the process.
        let _ = CLOSER.try_with(|_| ());
        static ONCE: Once = Once::new();
        ONCE.call_once(|| {
            unwind::install_hook();
            // SAFETY: `running` only reads thread-local cells (a `try_borrow` among them), and the name it returns
            // lies in a greenlet's record, which the hub holds for as long as that greenlet runs.
            if let Err(error) = unsafe { stack::install(running) } {
                log::warn!("overflows of green stacks will not be reported: {error}");
            }
        });
        Ok(hub)
    }

    /// The thread exits: what is left never runs again. Greenlets that were parked are abandoned where they
    /// stand, without running their destructors, as a detached thread is when the process ends.
    fn close(&self) {
        drop((self.remote.take(), self.messages.take()));
        let greenlets = self.greenlets.take();
        let ready: VecDeque<_> = self.ready.borrow_mut().clear();
        let timers = self.timers.replace(Timers::new());
        let io = self.io.replace(IoTable::new());
        let (poll, stacks, alt_stack) = (self.poll.take(), self.stacks.take(), self.alt_stack.take());
        drop((greenlets, ready, timers, io, poll, stacks, alt_stack));
    }

    /// Who runs.
    ///
    /// # Errors
    /// `NoHub` on the hub's own stack and at the thread's exit: nothing can be parked there.
    pub(crate) fn current(&self) -> Result<Rc<Core>, WaitError> {
        self.current.borrow().clone().ok_or(WaitError::NoHub)
    }

    /// The greenlet that runs on this thread, if there is a hub and it is not main. Makes no hub.
    pub(crate) fn running_greenlet() -> Option<Rc<Core>> {
        let current = HUB.get()?.current.try_borrow().ok()?;
        current.as_ref().filter(|core| !core.is_main()).cloned()
    }

    /// Who runs; main where that cannot be told.
    pub(crate) fn current_or_main(&self) -> Rc<Core> {
        self.current().unwrap_or_else(|_| self.main.clone())
    }

    // ---- greenlets

    /// Takes a new greenlet in, to start in the next turn or `after` a while.
    pub(crate) fn adopt(
        &self,
        name: Option<Box<str>>,
        stack_size: usize,
        spawned: &'static Location<'static>,
        after: Option<Duration>,
        entry: Box<dyn FnOnce()>,
    ) -> Rc<Core> {
        let id = self.next_id.get();
        self.next_id.set(id + 1);
        let core = {
            let mut greenlets = self.greenlets.borrow_mut();
            let vacant = greenlets.vacant_entry();
            let core = Rc::new(Core::new(id, vacant.key(), name, stack_size, spawned, entry));
            vacant.insert(core.clone());
            core
        };
        match after {
            None => self.ready.borrow_mut().push(core.clone()),
            Some(after) => {
                core.waits_for.set(WaitsFor::Start);
                if let Some(at) = self.clock.deadline(after) {
                    let key = self.timers.borrow_mut().insert(at, Action::Start(core.clone()));
                    core.start_timer.set(Some(key));
                }
            }
        }
        core
    }

    /// Ends a greenlet that has not started: it never will. Returns its closure, for the caller to drop.
    pub(crate) fn cancel_start(&self, core: &Core) -> Option<Box<dyn FnOnce()>> {
        core.state.set(State::Cancelled);
        if let Some(key) = core.start_timer.take() {
            self.timers.borrow_mut().remove(key);
        }
        self.forget(core);
        core.entry.take()
    }

    fn forget(&self, core: &Core) {
        let mut greenlets = self.greenlets.borrow_mut();
        if greenlets.get(core.slot).is_some_and(|other| other.id == core.id) {
            greenlets.remove(core.slot);
        }
    }

    pub(crate) fn stats(&self) -> Stats {
        Stats {
            greenlets: self.greenlets.borrow().len(),
            timers: self.timers.borrow().len(),
            descriptors: self.io.borrow().len(),
        }
    }

    // ---- waiting

    /// Parks the greenlet that runs until somebody unparks it or `deadline` has come. May return early: callers
    /// loop until what they wait for is there.
    ///
    /// Unwinds with a private payload when the greenlet is killed or a timeout scope around it ends.
    ///
    /// # Errors
    /// `Unwinding` when the thread is panicking (a switch would show the panic to other greenlets), `NoHub` on
    /// the hub's own stack, `LoopExit` for main when nobody can ever wake it.
    pub(crate) fn park(&self, why: WaitsFor, deadline: Option<Moment>) -> Result<Wake, WaitError> {
        if std::thread::panicking() {
            return Err(WaitError::Unwinding);
        }
        let core = self.current()?;
        core.raise_interrupts();
        let timer = deadline.map(|at| self.timers.borrow_mut().insert(at, Action::Wake(core.clone())));
        core.waits_for.set(why);
        core.state.set(State::Parked);
        let result = self.switch_out(&core);
        core.waits_for.set(WaitsFor::Nothing);
        let in_time = match timer {
            Some(key) => self.timers.borrow_mut().remove(key).is_some(),
            None => true,
        };
        result?;
        core.raise_interrupts();
        Ok(if in_time { Wake::Event } else { Wake::Deadline })
    }

    /// Goes to the back of the ready queue.
    pub(crate) fn yield_now(&self) {
        if std::thread::panicking() {
            return;
        }
        let Ok(core) = self.current() else { return };
        core.raise_interrupts();
        core.state.set(State::Ready);
        self.ready.borrow_mut().push(core.clone());
        // Main is in the queue, so it cannot be told that nobody wakes it.
        let _ = self.switch_out(&core);
        core.raise_interrupts();
    }

    /// Counts a call that did not have to wait, and gives way after many of them in a row.
    #[inline]
    pub(crate) fn count_call(&self) {
        let calls = self.calls.get() + 1;
        if calls < CALLS_PER_TURN {
            self.calls.set(calls);
        } else {
            self.calls.set(0);
            self.yield_now();
        }
    }

    /// Makes a parked greenlet ready. One that is not parked is left alone.
    #[inline]
    pub(crate) fn unpark(&self, core: &Rc<Core>) {
        if core.state.get() == State::Parked {
            core.state.set(State::Ready);
            self.ready.borrow_mut().push(core.clone());
        }
    }

    /// The moment `after` from now; `None` means never.
    pub(crate) fn deadline(&self, after: Duration) -> Option<Moment> {
        self.clock.deadline(after)
    }

    pub(crate) fn now(&self) -> Moment {
        self.clock.now()
    }

    /// Adds the timer that ends a timeout scope; returns the scope's token with it.
    pub(crate) fn expire_later(&self, core: &Rc<Core>, after: Duration) -> (u64, Option<TimerKey>) {
        let token = self.next_token.get();
        self.next_token.set(token + 1);
        let key = self
            .clock
            .deadline(after)
            .map(|at| self.timers.borrow_mut().insert(at, Action::Expire(core.clone(), token)));
        (token, key)
    }

    /// Takes a timer out; false if it has fired.
    pub(crate) fn remove_timer(&self, key: TimerKey) -> bool {
        let action = self.timers.borrow_mut().remove(key);
        action.is_some()
    }

    /// A way to wake the greenlet that runs from another thread.
    pub(crate) fn remote_waker(&self) -> Result<RemoteWaker, WaitError> {
        let core = self.current()?;
        let remote = self.remote().ok_or(WaitError::NoHub)?;
        Ok(RemoteWaker::new(remote, core.slot, core.id))
    }

    /// The way in for other threads; `None` once the thread exits.
    pub(crate) fn remote(&self) -> Option<Arc<Remote>> {
        self.remote.borrow().clone()
    }

    // ---- descriptors

    /// Registers a descriptor, for both directions, edge-triggered.
    pub(crate) fn register(&self, fd: BorrowedFd<'_>) -> std::io::Result<Registration> {
        let registration = self.io.borrow_mut().insert(fd.as_raw_fd());
        let added = match &*self.poll.borrow() {
            Some(poll) => poll.add(fd, registration.key()),
            None => Err(WaitError::NoHub.into()),
        };
        if added.is_err() {
            self.io.borrow_mut().remove(registration);
        }
        added.map(|()| registration)
    }

    /// Forgets a registration and wakes who waited on it. With `delete` the poller is told; without, the
    /// descriptor is about to be closed and nobody else has the open file, so the kernel forgets it by itself.
    pub(crate) fn deregister(&self, registration: Registration, delete: Option<BorrowedFd<'_>>) {
        let waiters = self.io.borrow_mut().remove(registration);
        if let (Some(fd), Some(poll)) = (delete, &*self.poll.borrow()) {
            // It fails only if the kernel has dropped the registration already.
            let _ = poll.delete(fd);
        }
        waiters.iter().flatten().for_each(|core| self.unpark(core));
    }

    /// Wakes who waits on a descriptor, so that they look again.
    pub(crate) fn wake_waiters(&self, registration: Registration) {
        let waiters = self.io.borrow_mut().wake_both(registration);
        waiters.iter().flatten().for_each(|core| self.unpark(core));
    }

    /// Parks until the descriptor is ready, or until somebody else wants it looked at again.
    ///
    /// # Errors
    /// `ResourceBusy` when another greenlet waits for the same side of it; `TimedOut`; and those of
    /// [`park`](Self::park).
    pub(crate) fn wait_io(
        &self,
        registration: Registration,
        direction: Direction,
        why: WaitsFor,
        deadline: Option<Moment>,
    ) -> std::io::Result<()> {
        if self.io.borrow_mut().is_ready(registration, direction) {
            return Ok(());
        }
        let core = self.current()?;
        self.io.borrow_mut().set_waiter(registration, direction, &core)?;
        let _waiting = IoWait { hub: self, registration, direction, core: &core };
        match self.park(why, deadline)? {
            Wake::Event => Ok(()),
            // What arrived in the same moment as the deadline is taken.
            Wake::Deadline if self.io.borrow_mut().is_ready(registration, direction) => Ok(()),
            Wake::Deadline => Err(WaitError::TimedOut.into()),
        }
    }

    pub(crate) fn clear_ready(&self, registration: Registration, direction: Direction) {
        self.io.borrow_mut().clear_ready(registration, direction);
    }

    pub(crate) fn drained(&self, registration: Registration) {
        self.io.borrow_mut().drained(registration);
    }

    pub(crate) fn is_ready(&self, registration: Registration, direction: Direction) -> bool {
        self.io.borrow_mut().is_ready(registration, direction)
    }

    // ---- the loop

    /// Leaves the greenlet that runs; returns when it is run again.
    #[inline]
    fn switch_out(&self, core: &Rc<Core>) -> Result<(), WaitError> {
        if Rc::ptr_eq(core, &self.main) {
            return self.drive().map_err(WaitError::LoopExit);
        }
        match &*core.fiber.borrow() {
            Some(fiber) => fiber.suspend(),
            None => unreachable!("a greenlet that runs has its fiber"),
        }
        Ok(())
    }

    /// Runs the loop until main is ready.
    fn drive(&self) -> Result<(), LoopExit> {
        self.current.replace(None);
        let result = loop {
            let Some(core) = self.ready.borrow_mut().pop() else {
                match self.between_turns() {
                    Ok(()) => continue,
                    Err(exit) => break Err(exit),
                }
            };
            if Rc::ptr_eq(&core, &self.main) {
                break Ok(());
            }
            self.run(core);
        };
        self.main.state.set(State::Running);
        self.current.replace(Some(self.main.clone()));
        result
    }

    /// Runs one greenlet until it parks, gives way or ends.
    fn run(&self, core: Rc<Core>) {
        match core.state.get() {
            State::Dead | State::Cancelled => return,
            State::New if !self.start_fiber(&core) => return,
            _ => {}
        }
        core.state.set(State::Running);
        self.runs.set(self.runs.get().wrapping_add(1));
        self.calls.set(0);
        self.current.replace(Some(core.clone()));
        let mut locals = core.locals.take();
        ctxlocal::swap(&mut locals);
        let done = match &*core.fiber.borrow() {
            Some(fiber) => fiber.resume(),
            None => unreachable!("started above"),
        };
        ctxlocal::swap(&mut locals);
        core.locals.set(locals);
        self.current.replace(None);
        if done {
            self.bury(&core);
        }
    }

    /// Gives a greenlet its stack; false, and the greenlet has ended, when there is none to be had.
    fn start_fiber(&self, core: &Rc<Core>) -> bool {
        core.start_timer.set(None);
        core.waits_for.set(WaitsFor::Nothing);
        let stack = match &mut *self.stacks.borrow_mut() {
            Some(stacks) => stacks.take(core.stack_size),
            None => return false,
        };
        match stack {
            Ok(stack) => {
                core.stack_bounds.set(Some(stack.bounds()));
                if let Some(entry) = core.entry.take() {
                    *core.fiber.borrow_mut() = Some(Fiber::new(stack, entry));
                }
                true
            }
            Err(error) => {
                log::error!("greenlet '{}' cannot start: {error}", core.name());
                let entry = self.cancel_start(core);
                // A user's values are dropped on the hub's stack only here, where there is no other; blocking
                // calls in their destructors fail.
                unwind::report(unwind::catch(|| drop(entry)));
                core.finish(self, End::NoStack(error));
                false
            }
        }
    }

    /// Takes an ended greenlet's stack back.
    fn bury(&self, core: &Core) {
        self.forget(core);
        let fiber = core.fiber.borrow_mut().take();
        core.stack_bounds.set(None);
        if let (Some(fiber), Some(stacks)) = (fiber, &mut *self.stacks.borrow_mut()) {
            stacks.put(fiber.into_stack());
        }
    }

    /// Looks at descriptors, other threads and timers if it is time to, and begins the next turn.
    fn between_turns(&self) -> Result<(), LoopExit> {
        let busy = !self.ready.borrow().is_empty();
        if busy && !self.poll_is_due() {
            self.ready.borrow_mut().begin_turn();
            return Ok(());
        }
        self.runs.set(0);
        self.runs_at_clock.set(0);
        let mut timeout = Some(Duration::ZERO);
        if !busy {
            let next = self.timers.borrow().next_at();
            if next.is_none() && self.nobody_can_wake() {
                return Err(self.loop_exit());
            }
            let now = self.clock.now();
            timeout = next.map(|at| at.since(now));
            self.trim_stacks(now);
        }
        self.poll(timeout);
        self.deliver_messages();
        let now = self.clock.now();
        self.polled_at.set(now);
        self.fire_timers(now);
        self.ready.borrow_mut().begin_turn();
        Ok(())
    }

    fn poll_is_due(&self) -> bool {
        let runs = self.runs.get();
        if runs >= RUNS_PER_POLL {
            return true;
        }
        if runs - self.runs_at_clock.get() < RUNS_PER_CLOCK {
            return false;
        }
        self.runs_at_clock.set(runs);
        self.clock.now().since(self.polled_at.get()) >= TIME_PER_POLL
    }

    /// Waits for descriptors, and notes who is ready.
    fn poll(&self, mut timeout: Option<Duration>) {
        let mut poll = self.poll.borrow_mut();
        let Some(poll) = &mut *poll else { return };
        if timeout == Some(Duration::ZERO) && self.io.borrow().len() == 0 {
            return;
        }
        let remote = self.remote.borrow();
        if let (Some(remote), true) = (&*remote, timeout != Some(Duration::ZERO)) {
            remote.going_to_sleep();
            if self.has_messages() {
                timeout = Some(Duration::ZERO);
            }
        }
        let result = poll.wait(timeout, |readiness| {
            let woken = self.io.borrow_mut().event(readiness);
            woken.iter().flatten().for_each(|core| self.unpark(core));
        });
        if let Some(remote) = &*remote {
            remote.awake();
        }
        if let Err(error) = result {
            // The poller's descriptor is ours alone: only code that closes descriptors it does not own does this.
            panic!(
                "the event loop cannot wait: {error}; has something closed a descriptor that is not its own?"
            );
        }
    }

    fn deliver_messages(&self) {
        loop {
            let message = self.messages.borrow().as_ref().and_then(|messages| messages.try_recv().ok());
            let Some(message) = message else { return };
            match message {
                Message::Wake { slot, id } => {
                    let core = self.find(slot, id);
                    core.iter().for_each(|core| self.unpark(core));
                }
                Message::Spawn(f) => drop(crate::greenlet::spawn(f)),
            }
        }
    }

    fn has_messages(&self) -> bool {
        self.messages.borrow().as_ref().is_some_and(|messages| !messages.is_empty())
    }

    fn find(&self, slot: usize, id: u64) -> Option<Rc<Core>> {
        if id == self.main.id {
            return Some(self.main.clone());
        }
        self.greenlets.borrow().get(slot).filter(|core| core.id == id).cloned()
    }

    fn fire_timers(&self, now: Moment) {
        loop {
            // Taken out first: the queue and the greenlet's cells are touched with no borrow held.
            let due = self.timers.borrow_mut().pop_due(now);
            match due {
                None => return,
                Some(Action::Wake(core)) => self.unpark(&core),
                Some(Action::Expire(core, token)) => {
                    core.expired.borrow_mut().push(token);
                    self.unpark(&core);
                }
                Some(Action::Start(core)) => {
                    core.start_timer.set(None);
                    self.ready.borrow_mut().push(core);
                }
            }
        }
    }

    /// No descriptor is waited for, and nobody outside holds a way in. (Timers and the ready queue are the
    /// caller's to ask.)
    fn nobody_can_wake(&self) -> bool {
        let outside = self.remote.borrow().as_ref().is_some_and(|remote| Arc::strong_count(remote) > 1);
        self.io.borrow().waiting() == 0 && !outside && !self.has_messages()
    }

    fn loop_exit(&self) -> LoopExit {
        let mut lines = Vec::new();
        for core in std::iter::once(&self.main).chain(self.greenlets.borrow().iter().map(|(_, core)| core)) {
            lines.push(core.describe());
        }
        LoopExit::new(lines)
    }

    fn trim_stacks(&self, now: Moment) {
        if now.since(self.trimmed_at.get()) < TRIM_EVERY {
            return;
        }
        self.trimmed_at.set(now);
        if let Some(stacks) = &mut *self.stacks.borrow_mut() {
            stacks.trim(TRIM_KEEP, TRIM_AT_ONCE);
        }
    }
}

/// Takes a waiter off its descriptor when the wait ends, however it ends.
struct IoWait<'a> {
    hub: &'a Hub,
    registration: Registration,
    direction: Direction,
    core: &'a Rc<Core>,
}

impl Drop for IoWait<'_> {
    fn drop(&mut self) {
        self.hub.io.borrow_mut().unset_waiter(self.registration, self.direction, self.core);
    }
}

/// Who runs on this thread, for the report of an overflow: called in a signal handler, so it only reads cells.
fn running() -> Option<Running> {
    let hub = HUB.get()?;
    // A borrow that is held means that the hub itself runs, in the midst of a switch: not a greenlet's overflow.
    let current = hub.current.try_borrow().ok()?;
    let core = current.as_ref()?;
    let bounds = core.stack_bounds.get()?;
    let name = std::ptr::from_ref(core.given_name().unwrap_or(""));
    Some(Running { id: core.id, name, guard: bounds.guard(), size: bounds.size() })
}
