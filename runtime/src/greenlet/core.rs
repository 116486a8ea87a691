//! The record of one greenlet: what the hub, the handles and the waits share.

use std::cell::{Cell, OnceCell, RefCell};
use std::fmt;
use std::io;
use std::os::fd::RawFd;
use std::panic::Location;
use std::rc::Rc;

use crate::hub::{Hub, TimerKey};
use crate::switch::Fiber;
use crate::sync::Waiters;
use crate::unwind::{self, Interrupt};

/// Where a greenlet stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// Spawned; has not run yet.
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
#[derive(Debug)]
pub(crate) enum End {
    Returned,
    Panicked,
    Killed,
    NoStack(io::Error),
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
    Scope,
    Thread,
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
            WaitsFor::Scope => f.write_str("waits for the greenlets of a scope"),
            WaitsFor::Thread => f.write_str("waits for the thread pool"),
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
    /// Its place in the hub's table.
    pub(crate) slot: usize,
    name: OnceCell<Box<str>>,
    spawned: Option<&'static Location<'static>>,
    pub(crate) stack_size: usize,
    pub(crate) state: Cell<State>,
    pub(crate) waits_for: Cell<WaitsFor>,
    /// The closure, until it starts.
    pub(crate) entry: Cell<Option<Box<dyn FnOnce()>>>,
    pub(crate) start_timer: Cell<Option<TimerKey>>,
    /// Made when it starts.
    pub(crate) fiber: OnceCell<Box<Fiber>>,
    pub(crate) idle: Cell<Idle>,
    /// Its values while it does not run; while it does, those of the hub's thread.
    pub(crate) locals: RefCell<ctxlocal::Map>,
    /// Who waits for its end. Few greenlets are waited for, so it is made at need.
    joiners: OnceCell<Box<RefCell<Waiters>>>,
    end: RefCell<Option<End>>,
    /// Whether there is a kill or a timeout to see to: the one thing looked at when nothing is.
    due: Cell<bool>,
    kill: Cell<Kill>,
    /// Tokens of timeout scopes that are over and not raised yet, in the order in which they ended.
    expired: OnceCell<Box<RefCell<Vec<u64>>>>,
    /// While above zero, nothing is raised.
    shield: Cell<u32>,
}

impl Core {
    pub(crate) fn new(
        id: u64,
        slot: usize,
        name: Option<Box<str>>,
        stack_size: usize,
        spawned: &'static Location<'static>,
        entry: Box<dyn FnOnce()>,
    ) -> Core {
        let core = Core::blank(id, slot, State::New, stack_size);
        core.entry.set(Some(entry));
        if let Some(name) = name {
            let _ = core.name.set(name);
        }
        Core { spawned: Some(spawned), ..core }
    }

    /// The greenlet that a thread's own program is.
    pub(crate) fn main(thread: Option<String>) -> Core {
        let core = Core::blank(0, usize::MAX, State::Running, 0);
        let _ = core.name.set(thread.unwrap_or_else(|| "main".to_owned()).into());
        core
    }

    fn blank(id: u64, slot: usize, state: State, stack_size: usize) -> Core {
        Core {
            id,
            slot,
            name: OnceCell::new(),
            spawned: None,
            stack_size,
            state: Cell::new(state),
            waits_for: Cell::new(WaitsFor::Nothing),
            entry: Cell::new(None),
            start_timer: Cell::new(None),
            fiber: OnceCell::new(),
            idle: Cell::new(Idle::No),
            locals: RefCell::new(ctxlocal::Map::new()),
            joiners: OnceCell::new(),
            end: RefCell::new(None),
            due: Cell::new(false),
            kill: Cell::new(Kill::No),
            expired: OnceCell::new(),
            shield: Cell::new(0),
        }
    }

    /// The name; one made of the id for a greenlet that was given none.
    pub(crate) fn name(&self) -> &str {
        self.name.get_or_init(|| format!("greenlet-{}", self.id).into())
    }

    /// The name, if it has been given or asked for: allocates nothing.
    pub(crate) fn given_name(&self) -> Option<&str> {
        self.name.get().map(|name| &**name)
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
    pub(crate) fn finish(&self, hub: &Hub, end: End) {
        self.report_swallowed_kill(&end);
        self.end.replace(Some(end));
        self.state.set(State::Dead);
        if let Some(joiners) = self.joiners.get() {
            Waiters::wake_all(joiners, hub);
        }
    }

    /// Who waits for its end.
    pub(crate) fn joiners(&self) -> &RefCell<Waiters> {
        self.joiners.get_or_init(Box::default)
    }

    pub(crate) fn has_panicked(&self) -> bool {
        matches!(*self.end.borrow(), Some(End::Panicked))
    }

    /// How it ended, if it has. A start error is handed over once.
    pub(crate) fn take_end(&self) -> Option<End> {
        self.end.replace_with(|end| match end {
            None => None,
            Some(End::Returned) => Some(End::Returned),
            Some(End::Panicked) => Some(End::Panicked),
            Some(End::Killed | End::NoStack(_)) => Some(End::Killed),
        })
    }

    // ---- interrupts

    /// Asks for a kill, to be raised at the suspension point where the greenlet is or which it comes to next.
    pub(crate) fn ask_kill(&self) {
        self.kill.set(Kill::Asked);
        self.due.set(true);
    }

    /// A timeout scope is over.
    pub(crate) fn expire(&self, token: u64) {
        self.expired.get_or_init(Box::default).borrow_mut().push(token);
        self.due.set(true);
    }

    /// A timeout scope has been left; if it was over and that has not been raised, it never will be.
    pub(crate) fn leave_timeout(&self, token: u64) {
        if let Some(expired) = self.expired.get() {
            expired.borrow_mut().retain(|other| *other != token);
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
        let token = self.expired.get().and_then(|expired| {
            let mut expired = expired.borrow_mut();
            (!expired.is_empty()).then(|| expired.remove(0))
        });
        match token {
            Some(token) => unwind::raise(Interrupt::Timeout(token)),
            None => self.due.set(false),
        }
    }

    fn report_swallowed_kill(&self, end: &End) {
        if self.kill.get() == Kill::Raised && !matches!(end, End::Killed) {
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
