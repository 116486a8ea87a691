//! The arms of one `select!` as a nested list, and the wait for the first of them. Public for the macro only.

use std::convert::Infallible;

use crate::error::WaitError;
use crate::greenlet::WaitsFor;
use crate::hub::{Hub, Moment};
use crate::net::Watch;
use crate::sync::shared::Called;
use crate::sync::{Claim, Waiting};

/// What an arm can wait for.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be waited for in select!",
    note = "an arm waits for a reference to a queue, receiver, event, result, semaphore, lock or greenlet, or for \
            `after`, `at`, `readable` or `writable` of `greenlet::select`"
)]
pub trait Arm<'a> {
    /// What it gives.
    type Output;

    /// Takes what is there at once.
    fn attempt(&self) -> Option<Self::Output>;

    /// Queues the greenlet that runs.
    fn enter(&self, plan: &mut Plan) -> Result<Turn<'a>, WaitError>;

    /// Takes what was handed to the turn, if something was.
    fn claim(&self, turn: &Turn<'_>) -> Option<Self::Output>;
}

/// What all arms together ask of the wait.
#[derive(Debug)]
pub struct Plan {
    deadline: Option<Moment>,
    arms: usize,
}

impl Plan {
    /// Not beyond this moment.
    pub(super) fn until(&mut self, at: Moment) {
        self.deadline = Some(self.deadline.map_or(at, |deadline| deadline.min(at)));
    }
}

/// How one arm waits. Dropping it leaves, and hands on what was not taken.
#[allow(missing_debug_implementations, reason = "no user has one")]
pub struct Turn<'a>(pub(super) Kind<'a>);

pub(super) enum Kind<'a> {
    /// To be called, with nothing to take.
    Called(Waiting<'a>),
    Claim(Claim<'a>),
    Shared(Box<dyn Called + 'a>),
    Descriptor(Watch<'a>),
    /// The arm itself knows.
    Own,
}

impl Turn<'_> {
    pub(super) fn was_called(&self) -> bool {
        matches!(&self.0, Kind::Called(waiting) if waiting.was_called())
    }

    pub(super) fn take(&self) -> bool {
        match &self.0 {
            Kind::Claim(claim) => claim.take(),
            Kind::Shared(called) => called.take(),
            _ => false,
        }
    }
}

/// An arm, and those below it.
#[derive(Debug)]
pub struct First<A, R>(pub A, pub R);

/// What the arm gave, or one of those below it.
#[derive(Debug)]
pub enum Either<L, R> {
    /// The arm.
    Left(L),
    /// Those below.
    Right(R),
}

/// A list of arms.
pub trait Arms<'a> {
    /// What the arm gives that wins.
    type Output;
    /// The turns of all.
    type Turns;

    /// As [`Arm::attempt`], of the first that gives something.
    fn attempt(&self) -> Option<Self::Output>;
    /// As [`Arm::enter`], for all.
    fn enter(&self, plan: &mut Plan) -> Result<Self::Turns, WaitError>;
    /// As [`Arm::claim`], of the first that gives something.
    fn claim(&self, turns: &Self::Turns) -> Option<Self::Output>;
}

impl Arms<'_> for () {
    type Output = Infallible;
    type Turns = ();

    fn attempt(&self) -> Option<Infallible> {
        None
    }

    fn enter(&self, _: &mut Plan) -> Result<(), WaitError> {
        Ok(())
    }

    fn claim(&self, (): &()) -> Option<Infallible> {
        None
    }
}

impl<'a, A: Arm<'a>, R: Arms<'a>> Arms<'a> for First<A, R> {
    type Output = Either<A::Output, R::Output>;
    type Turns = (Turn<'a>, R::Turns);

    fn attempt(&self) -> Option<Self::Output> {
        match self.0.attempt() {
            Some(taken) => Some(Either::Left(taken)),
            None => self.1.attempt().map(Either::Right),
        }
    }

    fn enter(&self, plan: &mut Plan) -> Result<Self::Turns, WaitError> {
        plan.arms += 1;
        let turn = self.0.enter(plan)?;
        Ok((turn, self.1.enter(plan)?))
    }

    fn claim(&self, turns: &Self::Turns) -> Option<Self::Output> {
        match self.0.claim(&turns.0) {
            Some(taken) => Some(Either::Left(taken)),
            None => self.1.claim(&turns.1).map(Either::Right),
        }
    }
}

/// Takes from the first arm that is ready at once.
pub fn attempt<'a, L: Arms<'a>>(arms: L) -> Option<L::Output> {
    arms.attempt()
}

/// Takes from the first arm that is ready, parking until one is.
pub fn first<'a, L: Arms<'a>>(arms: L) -> Result<L::Output, WaitError> {
    if let Some(taken) = arms.attempt() {
        return Ok(taken);
    }
    let hub = Hub::get();
    let mut plan = Plan { deadline: None, arms: 0 };
    let turns = arms.enter(&mut plan)?;
    loop {
        // Before the first park, too: a descriptor may have refused.
        if let Some(taken) = arms.claim(&turns) {
            return Ok(taken);
        }
        hub.park(WaitsFor::Any(plan.arms), plan.deadline)?;
    }
}
