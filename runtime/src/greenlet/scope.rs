//! Greenlets that borrow from their parent.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::marker::PhantomData;
use std::mem;
use std::panic::Location;
use std::rc::Rc;

use super::core::{End, WaitsFor};
use super::handle::{Greenlet, GreenletRef};
use crate::WaitError;
use crate::error::JoinError;
use crate::hub::Hub;
use crate::sync::Waiting;
use crate::unwind::{self, Caught, Interrupt};

/// Runs `f`, which may spawn greenlets that borrow from the caller, and returns when all of them have ended.
/// In the manner of [`std::thread::scope`].
///
/// If `f` panics, or its greenlet is killed or timed out, be it in `f` or while it waits for the end of the scope,
/// the greenlets of the scope are killed, waited for, and the unwinding goes on. Until they have ended the caller
/// cannot be interrupted further, for they may use its values.
///
/// # Panics
/// With `f`'s panic. With a message when a greenlet of the scope panicked and nobody joined it. With a report when
/// main waits for greenlets that nobody can wake any more ([`LoopExit`](crate::LoopExit)), after killing them.
/// When called while the thread unwinds, since it could not wait.
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
    let scope = Scope { children: RefCell::new(Vec::new()), scope: PhantomData, env: PhantomData };
    let result = unwind::catch(|| f(&scope));
    let in_peace = matches!(result, Caught::Returned(_));
    if !in_peace {
        scope.kill();
    }
    let early = scope.wait(in_peace);
    match result {
        Caught::Interrupted(interrupt) => unwind::raise(interrupt),
        Caught::Panicked(panic) => panic.resume(),
        Caught::Returned(value) => {
            match early {
                Some(EarlyEnd::Interrupted(interrupt)) => unwind::raise(interrupt),
                Some(EarlyEnd::Stuck(exit)) => {
                    panic!("the greenlets of a scope were killed, since they could never end: {exit}")
                }
                None => {}
            }
            if let Some(child) = scope.children.borrow().iter().find(|child| child.unseen_panic()) {
                panic!("greenlet '{}' of a scope panicked", child.reference.name());
            }
            value
        }
    }
}

/// A scope of greenlets, see [`scope`].
pub struct Scope<'scope, 'env: 'scope> {
    children: RefCell<Vec<Child>>,
    scope: PhantomData<&'scope mut &'scope ()>,
    env: PhantomData<&'env mut &'env ()>,
}

/// What the scope keeps of a greenlet, whatever it returns.
struct Child {
    reference: GreenletRef,
    /// Whether a join has returned how it ended.
    seen: Rc<Cell<bool>>,
}

impl Child {
    fn unseen_panic(&self) -> bool {
        self.reference.0.end.get() == Some(End::Panicked) && !self.seen.get()
    }
}

impl<'scope> Scope<'scope, '_> {
    /// Spawns a greenlet that ends before the scope does.
    #[track_caller]
    pub fn spawn<F, T>(&'scope self, f: F) -> ScopedGreenlet<'scope, T>
    where
        F: FnOnce() -> T + 'scope,
        T: 'scope,
    {
        let seen = Rc::new(Cell::new(false));
        let value: Rc<RefCell<Option<T>>> = Rc::new(RefCell::new(None));
        let body: Box<dyn FnOnce() + 'scope> = {
            let value = value.clone();
            Box::new(move || drop(value.replace(Some(f()))))
        };
        // SAFETY: only the lifetime changes. `scope` does not return, nor does it unwind, before every child has
        // ended (`Scope::wait`, which cannot be interrupted and aborts the process where it would fail), and a
        // greenlet that has ended has dropped its closure: whatever `'scope` stands for outlives the closure.
        // A thread that exits under a parked scope abandons the stack that the closure borrows from, unfreed.
        let body: Box<dyn FnOnce() + 'static> = unsafe { mem::transmute(body) };
        let greenlet = super::builder::spawn_at(Location::caller(), None, body);
        let mut children = self.children.borrow_mut();
        children.retain(|child| !child.reference.is_dead() || child.unseen_panic());
        children.push(Child { reference: (*greenlet).clone(), seen: seen.clone() });
        ScopedGreenlet { greenlet, value, seen, scope: PhantomData }
    }

    fn kill(&self) {
        let children: Vec<_> = self.children.borrow().iter().map(|child| child.reference.clone()).collect();
        children.iter().for_each(GreenletRef::kill_soon);
    }

    /// Waits until every child has ended, those too that children spawn meanwhile. If they end in peace, the wait
    /// can be interrupted: that kills them, and is returned when they are dead. While they are being killed
    /// nothing is raised here, for they may borrow.
    fn wait(&self, in_peace: bool) -> Option<EarlyEnd> {
        let mut early = None;
        let mut next = 0;
        loop {
            let child = self.children.borrow().get(next).map(|child| child.reference.clone());
            let Some(child) = child else { return early };
            if child.is_dead() {
                next += 1;
                continue;
            }
            let core = &child.0;
            let killed = early.is_some() || !in_peace;
            let _shield = killed.then(|| Hub::get().current_or_main().shield());
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
            if early.is_some() {
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
    }
}

/// Why a scope did not wait for its greenlets to end by themselves.
enum EarlyEnd {
    /// Its own greenlet was killed, or a timeout around it is over.
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
    seen: Rc<Cell<bool>>,
    scope: PhantomData<&'scope ()>,
}

impl<T> ScopedGreenlet<'_, T> {
    /// Waits until the greenlet has ended and takes its value. Parks the caller.
    ///
    /// # Errors
    /// As [`Greenlet::join`]. A panic that was returned here is not raised again by the scope.
    pub fn join(self) -> Result<T, JoinError> {
        let result = self.greenlet.join();
        self.seen.set(true);
        result.and_then(|()| self.value.take().ok_or(JoinError::Taken))
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
