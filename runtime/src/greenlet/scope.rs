//! Greenlets that borrow from their parent.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::marker::PhantomData;
use std::mem;
use std::panic::Location;
use std::rc::Rc;

use super::core::{Core, End, WaitsFor};
use super::handle::{Greenlet, GreenletRef};
use crate::WaitError;
use crate::error::{JoinError, Panic};
use crate::hub::Hub;
use crate::sync::Waiting;
use crate::unwind::{self, Caught, Interrupt};

/// Runs `f`, which may spawn greenlets that borrow from the caller, and returns when all of them have ended.
/// In the manner of [`std::thread::scope`], with the failures of structured concurrency.
///
/// A greenlet of the scope fails when it panics while nobody waits in [`ScopedGreenlet::join`] for it. Then its siblings are
/// killed, `f` unwinds from the blocking call in which it is, and when all have ended the scope panics with that greenlet's
/// own panic. A panic that somebody waits for is his to see, and a kill is nobody's failure.
///
/// If `f` panics, or its greenlet is killed or timed out, be it in `f` or while it waits for the end of the scope,
/// the greenlets of the scope are killed, waited for, and the unwinding goes on. Until they have ended the caller
/// cannot be interrupted further, for they may use its values. A deadline for the whole is a
/// [`timeout`](crate::timeout()) around it.
///
/// # Panics
/// With `f`'s panic, or the first failure of a greenlet. With a report when main waits for greenlets that nobody can wake any
/// more ([`LoopExit`](crate::LoopExit)), after killing them. When called while the thread unwinds, since it could not wait.
///
/// ```
/// let mut counts = [0; 3];
/// greenlet::scope(|s| {
///     for (n, count) in counts.iter_mut().enumerate() {
///         s.spawn(move || *count = n * 10);
///     }
/// });
/// assert_eq!(counts, [0, 10, 20]);
/// ```
pub fn scope<'env, T>(f: impl for<'scope> FnOnce(&'scope Scope<'scope, 'env>) -> T) -> T {
    assert!(
        !std::thread::panicking(),
        "greenlet::scope was called while unwinding, where it could not wait for its greenlets"
    );
    let hub = Hub::get();
    let scope = Scope {
        owner: hub.current_or_main(),
        token: hub.new_token(),
        children: RefCell::default(),
        daemons: RefCell::default(),
        sweep_at: Cell::new(SWEEP_AT),
        failure: RefCell::default(),
        scope: PhantomData,
        env: PhantomData,
    };
    let result = unwind::catch(|| f(&scope));
    let here = Stays;
    let in_peace = matches!(result, Caught::Returned(_)) && scope.failure.borrow().is_none();
    if !in_peace {
        scope.kill();
    }
    let early = scope.wait(in_peace);
    mem::forget(here);
    scope.owner.leave_timeout(scope.token);
    let failure = scope.failure.take();
    let interrupt = match result {
        Caught::Panicked(panic) => {
            report(failure);
            panic.resume()
        }
        Caught::Interrupted(interrupt) => Some(interrupt),
        Caught::Returned(_) => early.map(|early| match early {
            EarlyEnd::Interrupted(interrupt) => interrupt,
            EarlyEnd::Stuck(exit) => {
                panic!("the greenlets of a scope were killed, since they could never end: {exit}")
            }
        }),
    };
    if let Some(interrupt) = interrupt.filter(|interrupt| *interrupt != Interrupt::Leave(scope.token)) {
        report(failure);
        unwind::raise(interrupt);
    }
    match (failure, result) {
        (Some(panic), _) => panic.resume(),
        (None, Caught::Returned(value)) => value,
        (None, _) => unreachable!("a scope is left early only with a failure or an interrupt"),
    }
}

/// Lives while greenlets of a scope may live, of which none may see the frames go that it borrows from.
struct Stays;

impl Drop for Stays {
    fn drop(&mut self) {
        eprintln!("fatal: a panic would have left a scope before its greenlets had ended");
        std::process::abort();
    }
}

/// Tells of a failure that something else has overtaken.
fn report(failure: Option<Panic>) {
    if let Some(panic) = failure {
        log::error!("{panic} (in a scope that was left for another reason)");
    }
}

/// A scope of greenlets, see [`scope`].
pub struct Scope<'scope, 'env: 'scope> {
    owner: Rc<Core>,
    /// By which the owner is made to leave `f`.
    token: u64,
    children: RefCell<Vec<Child>>,
    daemons: RefCell<Vec<Child>>,
    /// At so many of either, those that have ended are let go.
    sweep_at: Cell<usize>,
    failure: RefCell<Option<Panic>>,
    scope: PhantomData<&'scope mut &'scope ()>,
    env: PhantomData<&'env mut &'env ()>,
}

const SWEEP_AT: usize = 64;

/// What the scope keeps of a greenlet, whatever it returns.
struct Child {
    reference: GreenletRef,
    /// Whether somebody waits for it in `join`, or has.
    watched: Rc<Cell<bool>>,
}

impl<'scope> Scope<'scope, '_> {
    /// Spawns a greenlet that ends before the scope does.
    #[track_caller]
    pub fn spawn<F, T>(&'scope self, f: F) -> ScopedGreenlet<'scope, T>
    where
        F: FnOnce() -> T + 'scope,
        T: 'scope,
    {
        self.spawn_at(Location::caller(), &self.children, f)
    }

    /// Spawns a greenlet that the scope does not wait for: once `f` has returned and the others have ended, it is killed
    /// (trio's and Eio's daemons). For what serves the others: a ticker, a reader of a log.
    ///
    /// ```
    /// use greenlet::{scope, sync::Event};
    /// use std::{cell::Cell, time::Duration};
    ///
    /// let ticks = Cell::new(0);
    /// scope(|s| {
    ///     s.spawn_daemon(|| loop {
    ///         ticks.set(ticks.get() + 1);
    ///         greenlet::sleep(Duration::from_millis(1));
    ///     });
    ///     s.spawn(|| greenlet::sleep(Duration::from_millis(5)));
    /// });
    /// assert!(ticks.get() > 1);
    /// ```
    #[track_caller]
    pub fn spawn_daemon<F, T>(&'scope self, f: F) -> ScopedGreenlet<'scope, T>
    where
        F: FnOnce() -> T + 'scope,
        T: 'scope,
    {
        self.spawn_at(Location::caller(), &self.daemons, f)
    }

    fn spawn_at<F, T>(
        &'scope self,
        place: &'static Location<'static>,
        family: &RefCell<Vec<Child>>,
        f: F,
    ) -> ScopedGreenlet<'scope, T>
    where
        F: FnOnce() -> T + 'scope,
        T: 'scope,
    {
        let watched = Rc::new(Cell::new(false));
        let value: Rc<RefCell<Option<T>>> = Rc::new(RefCell::new(None));
        let body: Box<dyn FnOnce() + 'scope> = {
            let (value, watched) = (value.clone(), watched.clone());
            Box::new(move || match unwind::catch(f) {
                Caught::Returned(result) => drop(value.replace(Some(result))),
                Caught::Panicked(panic) if watched.get() => panic.resume(),
                Caught::Panicked(panic) => self.fail(panic),
                Caught::Interrupted(Interrupt::Leave(_)) if !watched.get() => {
                    self.fail_with("was ended by a Timeout that it did not catch");
                }
                Caught::Interrupted(interrupt) => unwind::raise(interrupt),
            })
        };
        // SAFETY: only the lifetime changes. `scope` does not return, nor does it unwind, before every child has
        // ended (`Scope::wait`, which cannot be interrupted and aborts the process where it would fail, as `Stays` does
        // for what comes before and after it), and a greenlet that has ended has dropped its closure: whatever
        // `'scope` stands for outlives the closure.
        // A thread that exits under a parked scope abandons the stack that the closure borrows from, unfreed.
        let body: Box<dyn FnOnce() + 'static> = unsafe { mem::transmute(body) };
        let greenlet = super::builder::spawn_at(place, None, body);
        let child = Child { reference: (*greenlet).clone(), watched: watched.clone() };
        family.borrow_mut().push(child);
        self.sweep();
        ScopedGreenlet { greenlet, value, watched, scope: PhantomData }
    }

    /// The greenlet that runs has failed: all others of the scope are told to end, and so is `f`.
    fn fail(&self, panic: Panic) {
        let earlier = self.failure.borrow().is_some();
        if earlier {
            log::error!("{panic} (in a scope where another greenlet had failed before)");
        } else {
            self.failure.replace(Some(panic));
            self.owner.expire(self.token);
            Hub::get().unpark(&self.owner);
            self.kill();
        }
        unwind::raise(Interrupt::Kill);
    }

    fn fail_with(&self, what: &str) {
        let name = crate::greenlet::current().name().to_owned();
        self.fail(Panic::new(Box::new(format!("greenlet '{name}' of a scope {what}")), None, name));
    }

    /// Lets go of those that have ended, once there may be many.
    fn sweep(&self) {
        let most = || self.children.borrow().len().max(self.daemons.borrow().len());
        if most() >= self.sweep_at.get() {
            for family in [&self.children, &self.daemons] {
                family.borrow_mut().retain(|child| !self.is_over(child));
            }
            self.sweep_at.set((2 * most()).max(SWEEP_AT));
        }
    }

    /// Whether a child has ended. One that could not start has failed, and could not say so.
    fn is_over(&self, child: &Child) -> bool {
        let core = &child.reference.0;
        if core.end.get() == Some(End::NoStack)
            && !child.watched.get()
            && self.failure.borrow().is_none()
            && let Some(error) = core.take_start_error()
        {
            let message = format!("greenlet '{}' of a scope could not be started: {error}", core.name());
            self.failure.replace(Some(Panic::new(Box::new(message), None, core.name().to_owned())));
        }
        core.is_dead()
    }

    /// Asks for the death of all but the greenlet that runs. Those that have not started are dropped here and now, by
    /// destructors that may do anything: they may park, but neither their panics nor a kill meanwhile get any further.
    fn kill(&self) {
        let me = Hub::get().current_or_main();
        let (children, daemons) = (self.children.borrow(), self.daemons.borrow());
        let all = children.iter().chain(&*daemons).map(|child| child.reference.clone());
        let others: Vec<_> = all.filter(|child| !Rc::ptr_eq(&child.0, &me)).collect();
        // A kill may run destructors, which may spawn.
        drop((children, daemons));
        let _shield = me.shield();
        others.iter().for_each(|child| unwind::report(unwind::catch(|| child.kill_soon())));
    }

    /// Somebody who has not ended, and whether it is a daemon: these come last.
    fn next_child(&self) -> Option<(GreenletRef, bool)> {
        for (family, daemons) in [(&self.children, false), (&self.daemons, true)] {
            let mut family = family.borrow_mut();
            while family.pop_if(|child| self.is_over(child)).is_some() {}
            if let Some(child) = family.last() {
                return Some((child.reference.clone(), daemons));
            }
        }
        None
    }

    /// Waits until every child has ended, those too that children spawn meanwhile. If they end in peace, the wait
    /// can be interrupted: that kills them, and is returned when they are dead. While they are being killed
    /// nothing is raised here, for they may borrow.
    fn wait(&self, in_peace: bool) -> Option<EarlyEnd> {
        let mut early = None;
        while let Some((child, daemon)) = self.next_child() {
            let core = &child.0;
            let killed = early.is_some() || !in_peace || daemon;
            if daemon {
                self.kill();
            }
            let _shield = killed.then(|| self.owner.shield());
            let wait = || Waiting::until(&core.joiners, WaitsFor::Scope, None, || core.is_dead());
            let end = match unwind::catch(wait) {
                Caught::Returned(Ok(())) => continue,
                Caught::Returned(Err(error)) => EarlyEnd::Stuck(error),
                Caught::Interrupted(interrupt) => EarlyEnd::Interrupted(interrupt),
                Caught::Panicked(panic) => {
                    eprintln!("fatal: a scope cannot wait for its greenlets: {panic}");
                    std::process::abort();
                }
            };
            if killed {
                // They were told to die and did not: returning would leave them with dangling borrows.
                eprintln!(
                    "fatal: greenlet '{}' of a scope does not end although it was killed",
                    child.name()
                );
                std::process::abort();
            }
            early = Some(end);
            self.kill();
        }
        early
    }
}

/// Why a scope did not wait for its greenlets to end by themselves.
enum EarlyEnd {
    /// Its own greenlet was killed, a timeout around it is over, or a child has failed.
    Interrupted(Interrupt),
    /// Nobody could have woken them.
    Stuck(WaitError),
}

impl fmt::Debug for Scope<'_, '_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scope").field("greenlets", &self.children.borrow().len()).finish()
    }
}

/// A handle to a greenlet of a [`Scope`]. Dropping it leaves the greenlet running, until the scope's end.
pub struct ScopedGreenlet<'scope, T> {
    greenlet: Greenlet<()>,
    value: Rc<RefCell<Option<T>>>,
    watched: Rc<Cell<bool>>,
    scope: PhantomData<&'scope ()>,
}

impl<T> ScopedGreenlet<'_, T> {
    /// Waits until the greenlet has ended and takes its value. Parks the caller.
    ///
    /// # Errors
    /// As [`Greenlet::join`]. A panic while this waits is returned here, and is no failure of the scope.
    pub fn join(self) -> Result<T, JoinError> {
        let watch = Watch(&self.watched);
        self.watched.set(true);
        let result = self.greenlet.join();
        mem::forget(watch);
        result.and_then(|()| self.value.take().ok_or(JoinError::Taken))
    }
}

/// Who is unwound while he waits sees nothing.
struct Watch<'a>(&'a Cell<bool>);

impl Drop for Watch<'_> {
    fn drop(&mut self) {
        self.0.set(false);
    }
}

impl<T> std::ops::Deref for ScopedGreenlet<'_, T> {
    type Target = GreenletRef;

    fn deref(&self) -> &GreenletRef {
        &self.greenlet
    }
}

impl<T> fmt::Debug for ScopedGreenlet<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.greenlet.fmt(f)
    }
}
