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
mod current;
#[cfg(all(target_os = "linux", not(greenlet_portable)))]
mod foreign;
mod fork;
mod io;
mod load;
mod park;
mod pulse;
mod quiet;
mod random;
mod ready;
mod remote;
mod run;
mod sim;
mod timers;
#[cfg(all(target_os = "linux", not(greenlet_portable)))]
mod undated;

use std::cell::{Cell, OnceCell, RefCell};
use std::collections::VecDeque;
use std::panic::Location;
use std::rc::{Rc, Weak};
use std::sync::{Arc, Once};
use std::time::Duration;

use crossbeam_channel::Receiver;
use slab::Slab;

pub(crate) use clock::Moment;
#[cfg(all(target_os = "linux", not(greenlet_portable)))]
pub(crate) use foreign::{Parker, Until, set_around_waits, set_close_hook};
pub(crate) use io::{Direction, IoWait, Registration};
pub(crate) use pulse::{Beat, Pulse};
pub(crate) use ready::Trace;
use remote::Remote;
pub(crate) use remote::{Hold, Message, RemoteWaker};
pub(crate) use sim::Run;
pub(crate) use timers::TimerKey;

use crate::Stats;
use crate::error::WaitError;
use crate::greenlet::{Core, Job, State, WaitsFor};
use crate::monitor;
use crate::stack::{self, Running, StackPool, ThreadAltStack};
use crate::sys::Poll;
use crate::unwind;
use clock::Clock;
use current::Current;
use io::IoTable;
use load::Load;
use quiet::Quiet;
use ready::Ready;
use timers::Timers;

/// What a timer does.
pub(crate) enum Action {
    /// The deadline of a wait.
    Wake(Rc<Core>),
    /// The end of a [`timeout`](crate::timeout()) scope.
    Expire(Rc<Core>, u64),
    /// The start of a greenlet spawned for later.
    Start(Rc<Core>),
    /// The lazy deadline of those who wait to read a descriptor.
    Readable(Registration),
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
    current: Current,
    next_id: Cell<u64>,
    next_token: Cell<u64>,
    /// The turn of the last look at the descriptors.
    turn_at_poll: Cell<u32>,
    /// The turn of the last look at the clock, or at the descriptors.
    turn_at_clock: Cell<u32>,
    polled_at: Cell<Moment>,
    load: Load,
    /// Milliseconds since the hub began, as of the last look at the descriptors; wraps.
    tick: Cell<u32>,
    /// Whether somebody ran since the last pass over the stacks.
    untidy: Cell<bool>,
    tidied_at: Cell<Moment>,
    /// The turn of the last look at idle memory, and since when it is that turn.
    quiet_from: Cell<(u32, Moment)>,
    tidy_cursor: Cell<usize>,
    /// The run of `testing` that this hub is for.
    sim: OnceCell<Box<Run>>,
    calls: Cell<u32>,
    quiet: Quiet,
    /// Whether this process has forked while it had this hub: open files may then be in another process, too.
    forked: Cell<bool>,
    /// The registrations of descriptors that are not our own, by their numbers.
    #[cfg(all(target_os = "linux", not(greenlet_portable)))]
    guests: RefCell<Vec<Option<Registration>>>,
    #[cfg(all(target_os = "linux", not(greenlet_portable)))]
    look_hook: Cell<Option<fn(crate::foreign::Look)>>,
    #[cfg(all(target_os = "linux", not(greenlet_portable)))]
    undated: undated::Undated,
    /// The kernel's number of this hub's thread.
    #[cfg(all(target_os = "linux", not(greenlet_portable)))]
    thread: Cell<libc::pid_t>,
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
            current: Current::new(main),
            next_id: Cell::new(1),
            next_token: Cell::new(0),
            turn_at_poll: Cell::new(1),
            turn_at_clock: Cell::new(1),
            polled_at: Cell::new(now),
            load: Load::default(),
            tick: Cell::new(0),
            untidy: Cell::new(false),
            tidied_at: Cell::new(now),
            quiet_from: Cell::new((0, now)),
            tidy_cursor: Cell::new(0),
            sim: OnceCell::new(),
            calls: Cell::new(0),
            quiet: Quiet::default(),
            forked: Cell::new(false),
            #[cfg(all(target_os = "linux", not(greenlet_portable)))]
            guests: RefCell::default(),
            #[cfg(all(target_os = "linux", not(greenlet_portable)))]
            look_hook: Cell::new(None),
            #[cfg(all(target_os = "linux", not(greenlet_portable)))]
            undated: undated::Undated::default(),
            #[cfg(all(target_os = "linux", not(greenlet_portable)))]
            thread: Cell::new(foreign::thread()),
        }));
        #[cfg(all(target_os = "linux", not(greenlet_portable)))]
        foreign::whole();
        HUB.set(Some(hub));
        // Fails only while the thread's destructors already run; then the hub goes with the process.
        let _ = CLOSER.try_with(|_| ());
        static ONCE: Once = Once::new();
        ONCE.call_once(|| {
            unwind::install_hook();
            // SAFETY: `running` only reads cells of this thread, and the name it returns
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
        monitor::forget(self.pulse());
        #[cfg(all(target_os = "linux", not(greenlet_portable)))]
        self.close_foreign();
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
    #[inline(always)]
    pub(crate) fn current(&self) -> Result<Rc<Core>, WaitError> {
        self.current.get().ok_or(WaitError::NoHub)
    }

    /// This thread's hub, if there is one.
    #[inline]
    pub(crate) fn existing() -> Option<&'static Hub> {
        HUB.get()
    }

    /// The greenlet that runs on this thread, if there is a hub and it is not main. Makes no hub.
    pub(crate) fn running_greenlet() -> Option<Rc<Core>> {
        HUB.get()?.current.get().filter(|core| !core.is_main())
    }

    /// Who runs; main where that cannot be told.
    pub(crate) fn current_or_main(&self) -> Rc<Core> {
        self.current().unwrap_or_else(|_| self.main.clone())
    }

    /// Whether this hub is in a run of `testing`.
    pub(crate) fn is_virtual(&self) -> bool {
        self.sim.get().is_some()
    }

    /// The sign of life of this hub.
    pub(crate) fn pulse(&self) -> &Pulse {
        self.current.pulse()
    }

    /// Runs `f` on the greenlet that runs. May be called in a signal handler.
    pub(crate) fn with_running<R>(&self, f: impl FnOnce(&Core) -> R) -> Option<R> {
        self.current.with(f)
    }

    /// Makes a greenlet that has yet to be told to start.
    #[inline]
    pub(crate) fn make(
        &self,
        name: Option<Box<str>>,
        stack_size: usize,
        spawned: &'static Location<'static>,
        job: Rc<dyn Job>,
    ) -> Rc<Core> {
        let id = self.next_id.get();
        self.next_id.set(id + 1);
        let parent = self.current.get().as_ref().map_or_else(Weak::new, Rc::downgrade);
        Rc::new(Core::new(id, name, stack_size, spawned, parent, job))
    }

    /// Takes a greenlet in, to start in the next turn or `after` a while. One that was told before is left alone.
    #[inline]
    pub(crate) fn start_greenlet(&self, core: &Rc<Core>, after: Option<Duration>) {
        if core.state.get() != State::Unstarted {
            return;
        }
        core.state.set(State::New);
        core.slot.set(self.greenlets.borrow_mut().insert(core.clone()) as u32);
        match after {
            None => self.ready.borrow_mut().push(core.clone()),
            Some(after) => {
                core.waits_for.set(WaitsFor::Start);
                if let Some(at) = self.clock.deadline(after) {
                    core.set_start_timer(self.timers.borrow_mut().insert(at, Action::Start(core.clone())));
                }
            }
        }
    }

    /// Ends a greenlet that has not started: it never will. Returns its job, for the caller to cancel.
    pub(crate) fn cancel_start(&self, core: &Core) -> Option<Rc<dyn Job>> {
        core.state.set(State::Cancelled);
        if let Some(key) = core.take_start_timer() {
            self.timers.borrow_mut().remove(key);
        }
        self.forget(core);
        core.job.take()
    }

    fn forget(&self, core: &Core) {
        let mut greenlets = self.greenlets.borrow_mut();
        let slot = core.slot.get() as usize;
        if greenlets.get(slot).is_some_and(|other| other.id == core.id) {
            greenlets.remove(slot);
        }
    }

    /// Main, and all greenlets that have started and not ended.
    pub(crate) fn all(&self) -> Vec<Rc<Core>> {
        let greenlets = self.greenlets.borrow();
        std::iter::once(&self.main).chain(greenlets.iter().map(|(_, core)| core)).cloned().collect()
    }

    /// As [`Hub::all`]; `None` if the table is being changed.
    pub(crate) fn try_all(&self) -> Option<Vec<Rc<Core>>> {
        let greenlets = self.greenlets.try_borrow().ok()?;
        Some(std::iter::once(&self.main).chain(greenlets.iter().map(|(_, core)| core)).cloned().collect())
    }

    pub(crate) fn stats(&self) -> Stats {
        Stats {
            greenlets: self.greenlets.borrow().len(),
            stacks: self.stacks.borrow().as_ref().map_or(0, StackPool::in_use),
            timers: self.timers.borrow().len(),
            descriptors: self.io.borrow().len(),
        }
    }

    /// A way to wake the greenlet that runs from another thread.
    pub(crate) fn remote_waker(&self) -> Result<RemoteWaker, WaitError> {
        let core = self.current()?;
        let hold = self.hold().ok_or(WaitError::NoHub)?;
        Ok(RemoteWaker::new(hold, core.slot.get() as usize, core.id))
    }

    /// The way in for other threads; `None` once the thread exits.
    pub(crate) fn hold(&self) -> Option<Hold> {
        self.remote.borrow().clone().map(Hold::new)
    }
}

/// Who runs on this thread, for the report of an overflow: called in a signal handler, so it only reads cells.
fn running() -> Option<Running> {
    HUB.get()?.current.with(|core| {
        let bounds = core.fiber.get()?.bounds();
        let name = std::ptr::from_ref(core.given_name().unwrap_or(""));
        Some(Running { id: core.id, name, guard: bounds.guard(), size: bounds.size() })
    })?
}
