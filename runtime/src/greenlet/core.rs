//! The record of one greenlet: what the hub, the handles and the waits share.

use std::cell::{Cell, OnceCell, RefCell};
use std::fmt;
use std::io;
use std::os::fd::RawFd;
use std::panic::Location;
use std::rc::{Rc, Weak};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU16, Ordering};

use super::handle::GreenletRef;
use super::job::Job;
use super::links::{self, Links};
use crate::hub::{Hub, TimerKey};
use crate::switch::Fiber;
use crate::sync::Waiters;
use crate::unwind::{self, Interrupt};

/// Where a greenlet stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// Made, and not told to start.
    Unstarted,
    /// Told to start, now or later; has not run yet.
    New,
    /// In the ready queue.
    Ready,
    Running,
    /// Waits to be unparked.
    Parked,
    /// Killed before it started: its closure is being dropped.
    Cancelled,
    Dead,
}

/// How a greenlet ended, for those who have no interest in its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Returned,
    Panicked,
    Killed,
    /// By the end of a timeout that nobody caught.
    Elapsed,
    /// It could not start.
    NoStack,
}

/// What ended a wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wake {
    Event,
    Deadline,
}

/// What a greenlet waits for, for the reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WaitsFor {
    Nothing,
    Start,
    Sleep,
    Greenlet(u64),
    Readable(RawFd),
    Writable(RawFd),
    /// One of so many.
    Descriptors(usize),
    Event,
    Semaphore,
    AsyncResult,
    Mutex,
    RwLock,
    Condvar,
    Barrier,
    QueueItem,
    QueueSpace,
    Tasks,
    PoolSlot,
    Pool,
    Group,
    MapResult,
    MapRoom,
    Resource,
    Scope,
    Thread,
    /// What comes first of so many.
    Any(usize),
    /// So many of several.
    Objects(usize),
    /// Until nobody else can go on.
    Quiet,
    /// The end of the process with this number.
    Process(i32),
    FileLock,
    /// A call of code that knows nothing of greenlets.
    Call(&'static &'static str),
}

impl fmt::Display for WaitsFor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            WaitsFor::Nothing => f.write_str("waits for its turn"),
            WaitsFor::Start => f.write_str("waits for the time of its start"),
            WaitsFor::Sleep => f.write_str("sleeps"),
            WaitsFor::Greenlet(id) => write!(f, "waits for the end of greenlet #{id}"),
            WaitsFor::Readable(fd) => write!(f, "waits to read from descriptor {fd}"),
            WaitsFor::Writable(fd) => write!(f, "waits to write to descriptor {fd}"),
            WaitsFor::Descriptors(count) => write!(f, "waits for one of {count} descriptors"),
            WaitsFor::Event => f.write_str("waits for an Event to be set"),
            WaitsFor::Semaphore => f.write_str("waits for a Semaphore"),
            WaitsFor::AsyncResult => f.write_str("waits for an AsyncResult to be set"),
            WaitsFor::Mutex => f.write_str("waits for a Mutex or RLock"),
            WaitsFor::RwLock => f.write_str("waits for a RwLock"),
            WaitsFor::Condvar => f.write_str("waits for a Condvar to be notified"),
            WaitsFor::Barrier => f.write_str("waits for the others at a Barrier"),
            WaitsFor::QueueItem => f.write_str("waits for a value in a Queue or Channel"),
            WaitsFor::QueueSpace => f.write_str("waits for space in a Queue or Channel"),
            WaitsFor::Tasks => f.write_str("waits for the tasks of a JoinableQueue to be done"),
            WaitsFor::PoolSlot => f.write_str("waits for a free slot in a Pool"),
            WaitsFor::Pool => f.write_str("waits for a Pool to become empty"),
            WaitsFor::Group => f.write_str("waits for a Group to become empty"),
            WaitsFor::MapResult => f.write_str("waits for the next result of an imap"),
            WaitsFor::MapRoom => f.write_str("waits for the results of an imap to be taken"),
            WaitsFor::Resource => f.write_str("waits for a resource of a ResourcePool"),
            WaitsFor::Scope => f.write_str("waits for the greenlets of a scope"),
            WaitsFor::Thread => f.write_str("waits for the thread pool"),
            WaitsFor::Any(count) => write!(f, "waits in a select! of {count}"),
            WaitsFor::Objects(count) => write!(f, "waits for {count} of several objects"),
            WaitsFor::Quiet => f.write_str("waits until nothing is left to run"),
            WaitsFor::Process(pid) => write!(f, "waits for the end of process {pid}"),
            WaitsFor::FileLock => f.write_str("waits for a FileLock"),
            WaitsFor::Call(name) => write!(f, "waits in {name}"),
        }
    }
}

/// How far a kill has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kill {
    No,
    /// To be raised at the next suspension point.
    Asked,
    /// The greenlet unwinds, or has swallowed it.
    Raised,
}

/// How long a greenlet has been parked, in passes over the idle stacks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Idle {
    No,
    Once,
    /// Its stack has been seen to.
    Tidied,
}

/// One greenlet.
pub(crate) struct Core {
    pub(crate) id: u64,
    /// Its place in the hub's table, from its start on.
    pub(crate) slot: Cell<u32>,
    /// The hub's tick when it was parked last.
    pub(crate) parked_at: Cell<u32>,
    /// While above zero, nothing is raised.
    shield: Cell<u32>,
    /// Rounded up, to fit in less room than a `usize` takes.
    stack_kib: u32,
    /// How many calls of `may_block` it is in. Read in signal handlers.
    may_block: AtomicU16,
    pub(crate) end: Cell<Option<End>>,
    pub(crate) state: Cell<State>,
    pub(crate) idle: Cell<Idle>,
    /// Whether there is a kill or a timeout to see to: the one thing looked at when nothing is.
    due: Cell<bool>,
    /// Whether what is due has been told to a call that cannot be unwound.
    told: Cell<bool>,
    kill: Cell<Kill>,
    pub(crate) waits_for: Cell<WaitsFor>,
    spawned: Option<&'static Location<'static>>,
    /// Who spawned it.
    parent: Weak<Core>,
    /// What it is to do, until it starts.
    pub(crate) job: Cell<Option<Rc<dyn Job>>>,
    /// Made when it starts.
    pub(crate) fiber: OnceCell<Fiber>,
    /// Its values while it does not run; while it does, those of the hub's thread.
    pub(crate) locals: Cell<ctxlocal::Map>,
    /// Who waits for its end.
    pub(crate) joiners: RefCell<Waiters>,
    /// Not a `OnceCell`, for signal handlers look in here for the name: what they find is complete.
    rare: OnceLock<Box<Rare>>,
}

/// What few greenlets have.
#[derive(Default)]
struct Rare {
    name: OnceLock<Box<str>>,
    start_timer: Cell<Option<TimerKey>>,
    /// Why it could not start.
    no_stack: Cell<Option<io::Error>>,
    /// Tokens of timeout scopes that are over and not raised yet, in the order in which they ended.
    expired: RefCell<Vec<u64>>,
    links: RefCell<Links>,
}

impl Core {
    #[inline]
    pub(crate) fn new(
        id: u64,
        name: Option<Box<str>>,
        stack_size: usize,
        spawned: &'static Location<'static>,
        parent: Weak<Core>,
        job: Rc<dyn Job>,
    ) -> Core {
        let core = Core {
            spawned: Some(spawned),
            parent,
            job: Cell::new(Some(job)),
            ..Core::blank(id, State::Unstarted, stack_size)
        };
        if let Some(name) = name {
            let _ = core.rare().name.set(name);
        }
        core
    }

    /// The greenlet that a thread's own program is.
    pub(crate) fn main(thread: Option<String>) -> Core {
        let core = Core::blank(0, State::Running, 0);
        let _ = core.rare().name.set(thread.unwrap_or_else(|| "main".to_owned()).into());
        core
    }

    #[inline(always)]
    fn blank(id: u64, state: State, stack_size: usize) -> Core {
        Core {
            id,
            slot: Cell::new(u32::MAX),
            parked_at: Cell::new(0),
            shield: Cell::new(0),
            state: Cell::new(state),
            idle: Cell::new(Idle::No),
            due: Cell::new(false),
            told: Cell::new(false),
            kill: Cell::new(Kill::No),
            waits_for: Cell::new(WaitsFor::Nothing),
            spawned: None,
            parent: Weak::new(),
            stack_kib: u32::try_from(stack_size.div_ceil(1024)).unwrap_or(u32::MAX),
            job: Cell::new(None),
            fiber: OnceCell::new(),
            locals: Cell::default(),
            joiners: RefCell::default(),
            end: Cell::new(None),
            may_block: AtomicU16::new(0),
            rare: OnceLock::new(),
        }
    }

    fn rare(&self) -> &Rare {
        self.rare.get_or_init(Box::default)
    }

    /// The name; one made of the id for a greenlet that was given none.
    pub(crate) fn name(&self) -> &str {
        self.rare().name.get_or_init(|| format!("greenlet-{}", self.id).into())
    }

    /// The name, if it has been given or asked for: allocates nothing, and may be called in a signal handler.
    pub(crate) fn given_name(&self) -> Option<&str> {
        self.rare.get()?.name.get().map(|name| &**name)
    }

    /// Whether it has said that it may block the hub.
    pub(crate) fn may_block(&self) -> bool {
        self.may_block.load(Ordering::Relaxed) > 0
    }

    /// It may block the hub until it is said as often that this is over.
    pub(crate) fn enter_may_block(&self) {
        let depth = self.may_block.load(Ordering::Relaxed);
        assert!(depth < u16::MAX, "may_block was called in itself {depth} times");
        self.may_block.store(depth + 1, Ordering::Relaxed);
    }

    pub(crate) fn leave_may_block(&self) {
        self.may_block.store(self.may_block.load(Ordering::Relaxed) - 1, Ordering::Relaxed);
    }

    /// How many bytes of stack it has, or is to have.
    pub(crate) fn stack_size(&self) -> usize {
        self.stack_kib as usize * 1024
    }

    pub(crate) fn is_main(&self) -> bool {
        self.id == 0
    }

    pub(crate) fn is_dead(&self) -> bool {
        self.state.get() == State::Dead
    }

    /// Where it was spawned; `None` for main.
    pub(crate) fn spawned(&self) -> Option<&'static Location<'static>> {
        self.spawned
    }

    /// Who spawned it, if it still is there.
    pub(crate) fn parent(&self) -> Option<Rc<Core>> {
        self.parent.upgrade()
    }

    /// The timer of a start to come.
    pub(crate) fn set_start_timer(&self, key: TimerKey) {
        self.rare().start_timer.set(Some(key));
    }

    pub(crate) fn take_start_timer(&self) -> Option<TimerKey> {
        self.rare.get()?.start_timer.take()
    }

    /// One line for a report.
    pub(crate) fn describe(&self) -> String {
        let mut line = format!("'{}' (#{}) {}", self.name(), self.id, self.waits_for.get());
        if let Some(place) = self.spawned {
            line.push_str(&format!(", spawned at {place}"));
        }
        line
    }

    // ---- the end

    /// The greenlet is over: from here on it counts as dead, and those who wait for that wake.
    pub(crate) fn finish(self: &Rc<Self>, hub: &Hub, end: End) {
        self.report_swallowed_kill(end);
        self.end.set(Some(end));
        self.state.set(State::Dead);
        Waiters::wake_all(&self.joiners, hub);
        if let Some(rare) = self.rare.get() {
            links::follow(GreenletRef(self.clone()), rare.links.take());
        }
    }

    /// What is to be run after its end.
    pub(super) fn links(&self) -> &RefCell<Links> {
        &self.rare().links
    }

    /// The greenlet cannot start, for there is no stack for it.
    pub(crate) fn finish_without_stack(self: &Rc<Self>, hub: &Hub, error: io::Error) {
        self.rare().no_stack.set(Some(error));
        self.finish(hub, End::NoStack);
    }

    /// Why it could not start. Handed over once.
    pub(crate) fn take_start_error(&self) -> Option<io::Error> {
        self.rare.get()?.no_stack.take()
    }

    // ---- interrupts

    /// Asks for a kill, to be raised at the suspension point where the greenlet is or which it comes to next.
    pub(crate) fn ask_kill(&self) {
        self.kill.set(Kill::Asked);
        self.due.set(true);
        self.told.set(false);
    }

    /// A timeout scope is over.
    pub(crate) fn expire(&self, token: u64) {
        self.rare().expired.borrow_mut().push(token);
        self.due.set(true);
        self.told.set(false);
    }

    /// Whether there is something to raise that nobody has been told yet. From now on somebody has.
    #[inline]
    pub(crate) fn tell_interrupt(&self) -> bool {
        if !self.due.get() || self.shield.get() > 0 || self.told.get() {
            return false;
        }
        let expired = self.rare.get().is_some_and(|rare| !rare.expired.borrow().is_empty());
        let is_new = self.kill.get() == Kill::Asked || expired;
        self.told.set(is_new);
        is_new
    }

    /// Whether a call that cannot be unwound has been told of the end of this timeout.
    pub(crate) fn was_told_of(&self, token: u64) -> bool {
        self.told.get() && self.rare.get().is_some_and(|rare| rare.expired.borrow().contains(&token))
    }

    /// A timeout scope has been left; if it was over and that has not been raised, it never will be.
    pub(crate) fn leave_timeout(&self, token: u64) {
        if let Some(rare) = self.rare.get() {
            rare.expired.borrow_mut().retain(|other| *other != token);
        }
    }

    /// Raises what is due: a kill first, then the timeouts in the order in which they ended.
    #[inline]
    pub(crate) fn raise_interrupts(&self) {
        if self.due.get() {
            self.raise_due();
        }
    }

    #[cold]
    fn raise_due(&self) {
        if self.shield.get() > 0 {
            return;
        }
        match self.kill.get() {
            Kill::No => {}
            Kill::Asked => {
                // Still due: should somebody swallow it, the next time here will tell.
                self.kill.set(Kill::Raised);
                unwind::raise(Interrupt::Kill);
            }
            Kill::Raised => {
                self.kill.set(Kill::No);
                self.report_swallowed();
            }
        }
        let token = self.rare.get().and_then(|rare| {
            let mut expired = rare.expired.borrow_mut();
            (!expired.is_empty()).then(|| expired.remove(0))
        });
        match token {
            Some(token) => unwind::raise(Interrupt::Leave(token)),
            None => self.due.set(false),
        }
    }

    fn report_swallowed_kill(&self, end: End) {
        if self.kill.get() == Kill::Raised && end != End::Killed {
            self.report_swallowed();
        }
    }

    fn report_swallowed(&self) {
        log::error!(
            "greenlet '{}' swallowed its kill and lives on: a catch_unwind around a blocking call caught it; use \
             greenlet::catch_panic, which lets kills pass",
            self.name()
        );
    }

    /// While the guard lives nothing is raised in this greenlet.
    pub(crate) fn shield(self: &Rc<Self>) -> Shield {
        self.shield.set(self.shield.get() + 1);
        Shield(self.clone())
    }
}

/// See [`Core::shield`].
pub(crate) struct Shield(Rc<Core>);

impl Drop for Shield {
    fn drop(&mut self) {
        self.0.shield.set(self.0.shield.get() - 1);
    }
}
