//! What arms can wait for.

use std::cell::Cell;
use std::fmt;
use std::io;
use std::os::fd::AsFd;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::list::{Arm, Kind, Plan, Turn};
use crate::error::{JoinError, WaitError};
use crate::greenlet::{Greenlet, GreenletRef};
use crate::hub::{Hub, Moment};
use crate::net::{PollFd, Watch};
use crate::sync::channel::{Receiver, RecvError};
use crate::sync::shared;
use crate::sync::{
    AsyncResult, BoundedPermit, BoundedSemaphore, Event, GetError, Mutex, MutexGuard, Permit, Queue, RLock,
    RLockGuard, ResultError, Semaphore, Store, TaskQueue, Waiting,
};

/// For an arm of [`select!`](crate::select!): ready when so much time is over, counted from here; `None` never is. Made
/// outside a loop, it limits all rounds together if it is given as a copy.
pub fn after(duration: impl Into<Option<Duration>>) -> After {
    After(duration.into().and_then(|duration| Hub::get().deadline(duration)))
}

/// For an arm of [`select!`](crate::select!): ready at a point in time, by the hub's clock: see [`now`](crate::now).
pub fn at(deadline: Instant) -> After {
    after(deadline.saturating_duration_since(crate::now()))
}

/// See [`after`] and [`at`].
#[derive(Clone, Copy, Debug)]
#[must_use = "it waits only in an arm of select!"]
pub struct After(Option<Moment>);

impl<'a> Arm<'a> for After {
    type Output = ();

    fn attempt(&self) -> Option<()> {
        self.0.filter(|at| *at <= Hub::get().now()).map(drop)
    }

    fn enter(&self, plan: &mut Plan) -> Result<Turn<'a>, WaitError> {
        if let Some(at) = self.0 {
            plan.until(at);
        }
        Ok(Turn(Kind::Own))
    }

    fn claim(&self, _: &Turn<'_>) -> Option<()> {
        self.attempt()
    }
}

/// For an arm of [`select!`](crate::select!): ready when the descriptor can be read without blocking, as told at
/// [`wait_read`](crate::net::wait_read).
///
/// ```
/// use greenlet::select;
/// use greenlet::select::{after, readable};
/// use std::time::Duration;
///
/// let (reader, writer) = std::io::pipe()?;
/// let silent = select! {
///     found = readable(&reader) => { found?; false }
///     _ = after(Duration::from_millis(1)) => true,
/// }?;
/// assert!(silent);
/// # drop(writer);
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn readable(fd: &(impl AsFd + ?Sized)) -> Ready<'_> {
    Ready { fd: PollFd::new(fd).read(), refused: Cell::new(None) }
}

/// For an arm of [`select!`](crate::select!): ready when the descriptor can be written without blocking, as told at
/// [`wait_write`](crate::net::wait_write).
pub fn writable(fd: &(impl AsFd + ?Sized)) -> Ready<'_> {
    Ready { fd: PollFd::new(fd).write(), refused: Cell::new(None) }
}

/// See [`readable`] and [`writable`].
#[must_use = "it waits only in an arm of select!"]
pub struct Ready<'a> {
    fd: PollFd<'a>,
    /// Why it cannot be waited for.
    refused: Cell<Option<io::Error>>,
}

impl fmt::Debug for Ready<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.fd.fmt(f)
    }
}

impl<'a> Arm<'a> for Ready<'a> {
    type Output = io::Result<()>;

    fn attempt(&self) -> Option<io::Result<()>> {
        self.fd.ready_now()
    }

    fn enter(&self, _: &mut Plan) -> Result<Turn<'a>, WaitError> {
        match Watch::enter(self.fd.clone()) {
            Ok(watch) => Ok(Turn(Kind::Descriptor(watch))),
            Err(error) => {
                self.refused.set(Some(error));
                Ok(Turn(Kind::Own))
            }
        }
    }

    fn claim(&self, turn: &Turn<'_>) -> Option<io::Result<()>> {
        match &turn.0 {
            Kind::Descriptor(watch) => watch.outcome(),
            _ => self.refused.take().map(Err),
        }
    }
}

impl<'a> Arm<'a> for &'a Event {
    type Output = ();

    fn attempt(&self) -> Option<()> {
        self.is_set().then_some(())
    }

    fn enter(&self, _: &mut Plan) -> Result<Turn<'a>, WaitError> {
        Ok(Turn(Kind::Called(Waiting::enter(self.waiters(), Hub::get())?)))
    }

    fn claim(&self, turn: &Turn<'_>) -> Option<()> {
        turn.was_called().then_some(())
    }
}

impl<'a, T> Arm<'a> for &'a AsyncResult<T> {
    type Output = Result<&'a T, ResultError>;

    fn attempt(&self) -> Option<Self::Output> {
        self.try_get()
    }

    fn enter(&self, plan: &mut Plan) -> Result<Turn<'a>, WaitError> {
        enter(self.ready(), plan)
    }

    fn claim(&self, _: &Turn<'_>) -> Option<Self::Output> {
        // it is set once, and stays
        self.attempt()
    }
}

impl<'a> Arm<'a> for &'a GreenletRef {
    type Output = ();

    fn attempt(&self) -> Option<()> {
        self.is_dead().then_some(())
    }

    fn enter(&self, _: &mut Plan) -> Result<Turn<'a>, WaitError> {
        Ok(Turn(Kind::Called(Waiting::enter(&self.0.joiners, Hub::get())?)))
    }

    fn claim(&self, _: &Turn<'_>) -> Option<()> {
        self.attempt()
    }
}

impl<'a, T> Arm<'a> for &'a Greenlet<T> {
    type Output = Result<T, JoinError>;

    fn attempt(&self) -> Option<Self::Output> {
        self.is_dead().then(|| self.outcome())
    }

    fn enter(&self, plan: &mut Plan) -> Result<Turn<'a>, WaitError> {
        enter(Greenlet::as_ref(*self), plan)
    }

    fn claim(&self, _: &Turn<'_>) -> Option<Self::Output> {
        self.attempt()
    }
}

impl<'a> Arm<'a> for &'a Semaphore {
    type Output = Permit<'a>;

    fn attempt(&self) -> Option<Permit<'a>> {
        self.try_acquire()
    }

    fn enter(&self, _: &mut Plan) -> Result<Turn<'a>, WaitError> {
        Ok(Turn(Kind::Claim(self.queue_up()?)))
    }

    fn claim(&self, turn: &Turn<'_>) -> Option<Permit<'a>> {
        turn.take().then(|| self.permit())
    }
}

impl<'a> Arm<'a> for &'a BoundedSemaphore {
    type Output = BoundedPermit<'a>;

    fn attempt(&self) -> Option<BoundedPermit<'a>> {
        self.try_acquire()
    }

    fn enter(&self, plan: &mut Plan) -> Result<Turn<'a>, WaitError> {
        enter(self.semaphore(), plan)
    }

    fn claim(&self, turn: &Turn<'_>) -> Option<BoundedPermit<'a>> {
        Some(self.guard(self.semaphore().claim(turn)?))
    }
}

impl<'a, T: ?Sized> Arm<'a> for &'a Mutex<T> {
    type Output = MutexGuard<'a, T>;

    fn attempt(&self) -> Option<MutexGuard<'a, T>> {
        self.try_lock()
    }

    fn enter(&self, plan: &mut Plan) -> Result<Turn<'a>, WaitError> {
        enter(self.free(), plan)
    }

    fn claim(&self, turn: &Turn<'_>) -> Option<MutexGuard<'a, T>> {
        Some(self.guard(self.free().claim(turn)?))
    }
}

impl<'a, T: ?Sized> Arm<'a> for &'a RLock<T> {
    type Output = RLockGuard<'a, T>;

    fn attempt(&self) -> Option<RLockGuard<'a, T>> {
        self.try_lock()
    }

    fn enter(&self, plan: &mut Plan) -> Result<Turn<'a>, WaitError> {
        enter(self.free(), plan)
    }

    fn claim(&self, turn: &Turn<'_>) -> Option<RLockGuard<'a, T>> {
        turn.take().then(|| RLock::enter(self, Hub::get().current_or_main().id))
    }
}

impl<'a, T> Arm<'a> for &'a Queue<T> {
    type Output = Result<T, GetError>;

    fn attempt(&self) -> Option<Self::Output> {
        self.get_at_once()
    }

    fn enter(&self, plan: &mut Plan) -> Result<Turn<'a>, WaitError> {
        enter(self.filled(), plan)
    }

    fn claim(&self, turn: &Turn<'_>) -> Option<Self::Output> {
        turn.take().then(|| self.pop())
    }
}

impl<'a, T> Arm<'a> for &'a Receiver<T> {
    type Output = Result<T, RecvError>;

    fn attempt(&self) -> Option<Self::Output> {
        Some(self.queue().attempt()?.map_err(RecvError::from))
    }

    fn enter(&self, plan: &mut Plan) -> Result<Turn<'a>, WaitError> {
        enter(self.queue(), plan)
    }

    fn claim(&self, turn: &Turn<'_>) -> Option<Self::Output> {
        Some(self.queue().claim(turn)?.map_err(RecvError::from))
    }
}

impl<'a, T, S: Store<T>> Arm<'a> for &'a TaskQueue<T, S> {
    type Output = Result<T, GetError>;

    fn attempt(&self) -> Option<Self::Output> {
        Some(self.take_after(self.tokens().attempt()?))
    }

    fn enter(&self, plan: &mut Plan) -> Result<Turn<'a>, WaitError> {
        enter(self.tokens(), plan)
    }

    fn claim(&self, turn: &Turn<'_>) -> Option<Self::Output> {
        Some(self.take_after(self.tokens().claim(turn)?))
    }
}

impl<'a, W: ?Sized> Arm<'a> for &'a Rc<W>
where
    &'a W: Arm<'a>,
{
    type Output = <&'a W as Arm<'a>>::Output;

    fn attempt(&self) -> Option<Self::Output> {
        (&***self).attempt()
    }

    fn enter(&self, plan: &mut Plan) -> Result<Turn<'a>, WaitError> {
        (&***self).enter(plan)
    }

    fn claim(&self, turn: &Turn<'_>) -> Option<Self::Output> {
        (&***self).claim(turn)
    }
}

// Between the attempt and the entry another thread may have put something: so a claim looks, too.

impl<'a> Arm<'a> for &'a shared::Event {
    type Output = ();

    fn attempt(&self) -> Option<()> {
        self.is_set().then_some(())
    }

    fn enter(&self, _: &mut Plan) -> Result<Turn<'a>, WaitError> {
        Ok(Turn(Kind::Shared(self.queue_up()?)))
    }

    fn claim(&self, turn: &Turn<'_>) -> Option<()> {
        if turn.take() { Some(()) } else { self.attempt() }
    }
}

impl<'a, T> Arm<'a> for &'a shared::AsyncResult<T> {
    type Output = Result<&'a T, ResultError>;

    fn attempt(&self) -> Option<Self::Output> {
        self.try_get()
    }

    fn enter(&self, plan: &mut Plan) -> Result<Turn<'a>, WaitError> {
        enter(self.ready(), plan)
    }

    fn claim(&self, _: &Turn<'_>) -> Option<Self::Output> {
        self.attempt()
    }
}

impl<'a, T> Arm<'a> for &'a shared::channel::Receiver<T> {
    type Output = Result<T, RecvError>;

    fn attempt(&self) -> Option<Self::Output> {
        match self.try_recv() {
            Err(RecvError::Empty) => None,
            received => Some(received),
        }
    }

    fn enter(&self, _: &mut Plan) -> Result<Turn<'a>, WaitError> {
        Ok(Turn(Kind::Shared(self.queue_up()?)))
    }

    fn claim(&self, turn: &Turn<'_>) -> Option<Self::Output> {
        if turn.take() { Some(self.take_due()) } else { self.attempt() }
    }
}

impl<'a, W: ?Sized> Arm<'a> for &'a Arc<W>
where
    &'a W: Arm<'a>,
{
    type Output = <&'a W as Arm<'a>>::Output;

    fn attempt(&self) -> Option<Self::Output> {
        (&***self).attempt()
    }

    fn enter(&self, plan: &mut Plan) -> Result<Turn<'a>, WaitError> {
        (&***self).enter(plan)
    }

    fn claim(&self, turn: &Turn<'_>) -> Option<Self::Output> {
        (&***self).claim(turn)
    }
}

impl<'a, A: Arm<'a>> Arm<'a> for Option<A> {
    type Output = A::Output;

    fn attempt(&self) -> Option<Self::Output> {
        self.as_ref()?.attempt()
    }

    fn enter(&self, plan: &mut Plan) -> Result<Turn<'a>, WaitError> {
        self.as_ref().map_or(Ok(Turn(Kind::Own)), |arm| arm.enter(plan))
    }

    fn claim(&self, turn: &Turn<'_>) -> Option<Self::Output> {
        self.as_ref()?.claim(turn)
    }
}

fn enter<'a>(arm: impl Arm<'a>, plan: &mut Plan) -> Result<Turn<'a>, WaitError> {
    arm.enter(plan)
}
