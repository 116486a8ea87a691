//! A place where several wait for each other.

use std::cell::RefCell;
use std::fmt;
use std::time::Duration;

use super::waiters::{Waiters, Waiting};
use crate::error::WaitError;
use crate::greenlet::WaitsFor;
use crate::hub::{Hub, Moment};

/// Lets nobody pass until so many have come, then all of them, in the order in which they came, and begins anew
/// (`threading.Barrier`).
///
/// One who gives up before (the time is over, or it is killed) has not come: the others wait for somebody in its
/// place. There is no broken state as Python's has, nothing to reset, and once the last has come nobody is held back by
/// what happens to another. Who could wait in vain uses [`wait_timeout`](Self::wait_timeout).
///
/// ```
/// use std::rc::Rc;
///
/// let barrier = Rc::new(greenlet::sync::Barrier::new(3));
/// let jobs: Vec<_> = (0..3)
///     .map(|_| {
///         let barrier = barrier.clone();
///         greenlet::spawn(move || barrier.wait().unwrap().is_leader())
///     })
///     .collect();
/// let leaders = jobs.iter().filter(|job| job.join().unwrap()).count();
/// assert_eq!(leaders, 1);
/// ```
pub struct Barrier {
    parties: usize,
    waiters: RefCell<Waiters>,
}

impl Barrier {
    /// A barrier for so many greenlets. For 0 or 1, nobody waits.
    pub const fn new(parties: usize) -> Barrier {
        Barrier { parties, waiters: RefCell::new(Waiters::new()) }
    }

    /// Waits until all have come. The last one, who does not wait, is the leader. Parks the caller.
    ///
    /// # Errors
    /// `Unwinding`, `LoopExit` and `NoHub` as told at [`WaitError`].
    pub fn wait(&self) -> Result<BarrierWaitResult, WaitError> {
        self.wait_until(None)
    }

    /// As [`wait`](Self::wait), for a limited time.
    ///
    /// # Errors
    /// `TimedOut`, and those of [`wait`](Self::wait). The caller has not come, then.
    pub fn wait_timeout(&self, timeout: Duration) -> Result<BarrierWaitResult, WaitError> {
        self.wait_until(Hub::get().deadline(timeout))
    }

    /// How many must come.
    pub fn parties(&self) -> usize {
        self.parties
    }

    /// How many have come and wait for the others (`n_waiting`).
    #[doc(alias = "n_waiting")]
    pub fn waiting(&self) -> usize {
        self.waiters.borrow().len()
    }

    fn wait_until(&self, deadline: Option<Moment>) -> Result<BarrierWaitResult, WaitError> {
        if self.waiting() + 1 >= self.parties {
            Waiters::wake_all(&self.waiters, Hub::get());
            return Ok(BarrierWaitResult(true));
        }
        // One that is killed after all have come has come: nothing to pass on.
        Waiting::turn(&self.waiters, WaitsFor::Barrier, deadline, || (), || Ok(BarrierWaitResult(false)))
    }
}

impl fmt::Debug for Barrier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Barrier").field("parties", &self.parties).field("waiting", &self.waiting()).finish()
    }
}

/// What [`Barrier::wait`] tells the one it lets pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BarrierWaitResult(bool);

impl BarrierWaitResult {
    /// Whether this is the one who came last: exactly one of those who pass together.
    pub fn is_leader(&self) -> bool {
        self.0
    }
}
