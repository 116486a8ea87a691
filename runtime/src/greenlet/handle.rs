//! Handles to greenlets.

use std::cell::Ref;
use std::fmt;
use std::ops::Deref;
use std::panic::Location;
use std::rc::Rc;
use std::time::Duration;

use super::builder::Builder;
use super::core::{Core, End, State, WaitsFor};
use super::job::{Outcome, Yields};
use super::links::{self, LinkId};
use crate::error::{JoinError, Panic, WaitError};
use crate::hub::{Hub, Moment};
use crate::sync::Waiting;

/// A handle to a greenlet that returns a `T` (`gevent.Greenlet`).
///
/// Dropping it leaves the greenlet running. It dereferences to [`GreenletRef`], which has what does not depend on
/// `T`: name, id, [`kill`](GreenletRef::kill), [`is_dead`](GreenletRef::is_dead).
pub struct Greenlet<T> {
    reference: GreenletRef,
    job: Rc<dyn Yields<T>>,
}

impl<T> Greenlet<T> {
    pub(super) fn of(core: Rc<Core>, job: Rc<dyn Yields<T>>) -> Greenlet<T> {
        Greenlet { reference: GreenletRef(core), job }
    }

    /// Waits until the greenlet has ended and takes its value (`Greenlet.get`). Parks the caller.
    ///
    /// # Errors
    /// Its panic, its kill, why it could not start; `Taken` when an earlier join has the value; and why the wait
    /// itself failed.
    ///
    /// ```
    /// let failed = greenlet::spawn(|| -> u32 { panic!("bad luck") });
    /// assert!(failed.join().unwrap_err().to_string().ends_with("bad luck"));
    /// ```
    pub fn join(&self) -> Result<T, JoinError> {
        self.join_until(None)
    }

    /// As [`join`](Self::join), but gives up after a while with `JoinError::Wait(WaitError::TimedOut)`. The
    /// greenlet is not touched.
    ///
    /// # Errors
    /// As [`join`](Self::join).
    pub fn join_timeout(&self, timeout: Duration) -> Result<T, JoinError> {
        self.join_until(Hub::get().deadline(timeout))
    }

    pub(super) fn join_until(&self, deadline: Option<Moment>) -> Result<T, JoinError> {
        self.wait_until(deadline)?;
        self.outcome()
    }

    /// What a join of one that has ended returns.
    pub(crate) fn outcome(&self) -> Result<T, JoinError> {
        match self.job.take() {
            Outcome::Value(value) => Ok(value),
            Outcome::Panicked(panic) => Err(JoinError::Panicked(*panic)),
            Outcome::Taken => Err(JoinError::Taken),
            Outcome::Nothing => Err(match (self.0.end.get(), self.0.take_start_error()) {
                (_, Some(error)) => JoinError::NoStack(error),
                (Some(End::Elapsed), None) => JoinError::Elapsed,
                _ => JoinError::Killed,
            }),
        }
    }

    /// The panic that ended the greenlet, if no join has taken it (`Greenlet.exception`). Never waits.
    #[doc(alias = "exception")]
    pub fn panic(&self) -> Option<Ref<'_, Panic>> {
        self.job.panic()
    }

    /// The value, if the greenlet has returned one and no join has taken it (`Greenlet.value`). Never waits.
    pub fn value(&self) -> Option<Ref<'_, T>> {
        self.job.value()
    }
}

impl<T: 'static> Greenlet<T> {
    /// A greenlet that has yet to be told to start (`gevent.Greenlet`): see [`start`](GreenletRef::start). Dropped before,
    /// it never runs, and its closure goes with the last handle.
    ///
    /// # Panics
    /// As [`spawn`](crate::spawn).
    ///
    /// ```
    /// let greenlet = greenlet::Greenlet::new(|| 7);
    /// assert!(!greenlet.is_started());
    /// greenlet.start();
    /// assert_eq!(greenlet.join().unwrap(), 7);
    /// ```
    #[track_caller]
    pub fn new(f: impl FnOnce() -> T + 'static) -> Greenlet<T> {
        match Builder::new().build(f) {
            Ok(greenlet) => greenlet,
            Err(error) => panic!("cannot make a greenlet: {error}"),
        }
    }

    /// Has `f` run once the greenlet has ended, however that is; at once if it has (`Greenlet.link`). It runs in a greenlet
    /// of its own, with a handle by which it may take the value. All links of a greenlet run one after the other, in the
    /// order in which they were made; a panic in one is logged.
    ///
    /// ```
    /// use greenlet::sync::Queue;
    /// use std::rc::Rc;
    ///
    /// let results = Rc::new(Queue::unbounded());
    /// for n in [3, 4] {
    ///     let results = results.clone();
    ///     greenlet::spawn(move || n * n).link(move |ended| results.put(ended.join().unwrap()).unwrap());
    /// }
    /// assert_eq!((results.get(), results.get()), (Ok(9), Ok(16)));
    /// ```
    pub fn link(&self, f: impl FnOnce(Greenlet<T>) + 'static) -> LinkId {
        let job = self.job.clone();
        self.reference.add_link(Box::new(move |reference| f(Greenlet { reference, job })))
    }

    /// As [`link`](Self::link), but only if the greenlet returns a value (`Greenlet.link_value`).
    pub fn link_value(&self, f: impl FnOnce(Greenlet<T>) + 'static) -> LinkId {
        self.link(move |ended| {
            if ended.is_successful() {
                f(ended)
            }
        })
    }

    /// As [`link`](Self::link), but only if the greenlet does not return a value: it panicked, was killed, or got no stack
    /// (`Greenlet.link_exception`, which in gevent leaves kills out).
    #[doc(alias = "link_exception")]
    pub fn link_failure(&self, f: impl FnOnce(Greenlet<T>) + 'static) -> LinkId {
        self.link(move |ended| {
            if !ended.is_successful() {
                f(ended)
            }
        })
    }
}

impl<T> AsRef<GreenletRef> for Greenlet<T> {
    fn as_ref(&self) -> &GreenletRef {
        &self.reference
    }
}

impl<T> Deref for Greenlet<T> {
    type Target = GreenletRef;

    fn deref(&self) -> &GreenletRef {
        &self.reference
    }
}

impl<T> fmt::Debug for Greenlet<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.reference.fmt(f)
    }
}

/// A reference to a greenlet, whatever it returns. Cheap to clone; stays on its thread.
#[derive(Clone)]
pub struct GreenletRef(pub(crate) Rc<Core>);

/// The greenlet that runs (`gevent.getcurrent`): on a thread's own stack the one that stands for the thread's
/// program, named after the thread, with id 0.
#[doc(alias = "getcurrent")]
pub fn current() -> GreenletRef {
    GreenletRef(Hub::get().current_or_main())
}

/// The greenlet that runs, and `None` on a thread's own stack. Unlike [`current`] it makes no hub where there is none.
pub fn running() -> Option<GreenletRef> {
    Hub::running_greenlet().map(GreenletRef)
}

impl GreenletRef {
    /// A number that no other greenlet of this thread has or had. Main is 0.
    pub fn id(&self) -> u64 {
        self.0.id
    }

    /// The name given by [`Builder::name`](crate::Builder::name), else `greenlet-` and the id.
    pub fn name(&self) -> &str {
        self.0.name()
    }

    /// Where it was spawned; `None` for main.
    pub fn spawned_at(&self) -> Option<&'static Location<'static>> {
        self.0.spawned()
    }

    /// The greenlet that spawned it, while it is alive or somebody holds a handle to it (`Greenlet.spawning_greenlet`).
    /// `None` for main.
    #[doc(alias = "spawning_greenlet")]
    pub fn parent(&self) -> Option<GreenletRef> {
        self.0.parent().map(GreenletRef)
    }

    /// Whether it has been told to start and has not ended (`Greenlet.started`): it waits for its turn or its time, runs, or
    /// is parked.
    #[doc(alias = "started")]
    pub fn is_started(&self) -> bool {
        !matches!(self.0.state.get(), State::Unstarted | State::Cancelled | State::Dead)
    }

    /// Whether it has ended, in whatever way (`Greenlet.dead`). Never waits.
    pub fn is_dead(&self) -> bool {
        self.0.is_dead()
    }

    /// As [`is_dead`](Self::is_dead), by gevent's other name for it (`Greenlet.ready`): a join would not wait.
    #[doc(alias = "ready")]
    pub fn is_ready(&self) -> bool {
        self.is_dead()
    }

    /// Whether it has ended by returning a value (`Greenlet.successful`). One that was killed has not, unlike in gevent,
    /// where a kill counts as a value.
    #[doc(alias = "successful")]
    pub fn is_successful(&self) -> bool {
        self.0.end.get() == Some(End::Returned)
    }

    /// Lets a greenlet that was [made](Greenlet::new) but not started begin in the hub's next turn (`Greenlet.start`). Does
    /// nothing for any other.
    pub fn start(&self) {
        Hub::get().start_greenlet(&self.0, None);
    }

    /// As [`start`](Self::start), but after a while (`Greenlet.start_later`).
    pub fn start_later(&self, after: Duration) {
        Hub::get().start_greenlet(&self.0, Some(after));
    }

    pub(crate) fn add_link(&self, link: Box<dyn FnOnce(GreenletRef)>) -> LinkId {
        let id = self.0.links().borrow_mut().add(link);
        if self.is_dead() {
            links::follow(self.clone(), self.0.links().take());
        }
        id
    }

    /// Takes a link back (`Greenlet.unlink`). False if it was before, or has run, or is about to.
    pub fn unlink(&self, link: LinkId) -> bool {
        let link = self.0.links().borrow_mut().remove(link);
        link.is_some()
    }

    /// How deep its stack has been used, in bytes of whole pages, since the hub last gave back what lay idle: to
    /// choose a [stack size](crate::Builder::stack_size) by. One system call. `None` before it has started, once it
    /// has ended, and for main.
    pub fn stack_used(&self) -> Option<usize> {
        self.0.fiber.get().filter(|_| !self.is_dead())?.bounds().high_water().ok()
    }

    /// Waits until the greenlet has ended, or `timeout` is over, and leaves its value alone (gevent's `join`).
    /// Parks the caller.
    ///
    /// # Errors
    /// `TimedOut`, and why the wait itself failed.
    pub fn wait(&self, timeout: impl Into<Option<Duration>>) -> Result<(), WaitError> {
        self.wait_until(timeout.into().and_then(|timeout| Hub::get().deadline(timeout)))
    }

    pub(crate) fn wait_until(&self, deadline: Option<Moment>) -> Result<(), WaitError> {
        let core = &self.0;
        let waiting = || WaitsFor::Greenlet(core.id);
        Waiting::until(&core.joiners, waiting(), deadline, || core.is_dead())
    }

    /// Kills the greenlet and waits until it has ended (`Greenlet.kill`). Parks the caller.
    ///
    /// Where it is suspended, the call it made unwinds: destructors run, and calls in them that would have to
    /// wait fail. One that has not started never starts. One that is dead stays as it is. Killing oneself unwinds
    /// from here. The thread's main greenlet cannot be killed: asking for it is logged and has no effect.
    ///
    /// The unwinding can be caught by [`catch_unwind`](std::panic::catch_unwind), which then has swallowed the
    /// kill; [`catch_panic`](crate::catch_panic) lets it pass.
    ///
    /// # Errors
    /// Why the wait failed. The kill itself takes place all the same.
    pub fn kill(&self) -> Result<(), WaitError> {
        self.kill_soon();
        if self.0.is_main() { Ok(()) } else { self.wait_until(None) }
    }

    /// As [`kill`](Self::kill), but waits no longer than `timeout` (`Greenlet.kill(timeout=…)`): one that defers its kill by
    /// a [`shield`](crate::shield), or ignores it, would keep the caller.
    ///
    /// # Errors
    /// `TimedOut` if it has not ended by then, and why the wait failed. The kill itself takes place all the same.
    pub fn kill_timeout(&self, timeout: Duration) -> Result<(), WaitError> {
        let deadline = Hub::get().deadline(timeout);
        self.kill_soon();
        if self.0.is_main() { Ok(()) } else { self.wait_until(deadline) }
    }

    /// Asks for the greenlet's death and returns at once (`kill(block=False)`). It unwinds when it next runs, or,
    /// if it is the caller, here.
    pub fn kill_soon(&self) {
        let core = &self.0;
        let hub = Hub::get();
        match core.state.get() {
            State::Dead | State::Cancelled => {}
            State::Unstarted | State::New => {
                let job = hub.cancel_start(core);
                // Dead only once the closure is dropped, for a scope may wait for just that. Its destructors may
                // do anything, even park or panic.
                let _end = FinishOnDrop(hub, core);
                job.iter().for_each(|job| job.cancel());
                drop(core.locals.take());
            }
            _ if core.is_main() => {
                log::warn!("the main greenlet '{}' cannot be killed", core.name());
            }
            State::Running if !std::thread::panicking() => {
                core.ask_kill();
                core.raise_interrupts();
            }
            State::Running | State::Ready => core.ask_kill(),
            State::Parked => {
                core.ask_kill();
                hub.unpark(core);
            }
        }
    }
}

struct FinishOnDrop<'a>(&'a Hub, &'a Rc<Core>);

impl Drop for FinishOnDrop<'_> {
    fn drop(&mut self) {
        self.1.finish(self.0, End::Killed);
    }
}

impl AsRef<GreenletRef> for GreenletRef {
    fn as_ref(&self) -> &GreenletRef {
        self
    }
}

impl PartialEq for GreenletRef {
    fn eq(&self, other: &GreenletRef) -> bool {
        Rc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for GreenletRef {}

impl fmt::Debug for GreenletRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Greenlet")
            .field("name", &self.name())
            .field("id", &self.id())
            .field("state", &self.0.state.get())
            .finish()
    }
}
