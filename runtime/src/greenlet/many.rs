//! What is done with several greenlets.

use std::time::Duration;

use super::handle::{Greenlet, GreenletRef};
use crate::error::{JoinError, WaitError};
use crate::hub::Hub;

/// Waits until all have ended, or `timeout` is over; `None` waits for ever (`gevent.joinall`). Their values stay
/// where they are: see [`Greenlet::value`], [`Greenlet::join`] and [`get_all`]. Parks the caller.
///
/// # Errors
/// `TimedOut` when some have not ended in time: they live on. Those of [`WaitError`].
///
/// ```
/// use std::time::Duration;
///
/// let jobs: Vec<_> = (1..=3).map(|n| greenlet::spawn(move || n * n)).collect();
/// greenlet::join_all(&jobs, Duration::from_secs(2)).unwrap();
/// let squares: Vec<u32> = jobs.iter().map(|job| *job.value().unwrap()).collect();
/// assert_eq!(squares, [1, 4, 9]);
/// ```
#[doc(alias = "joinall")]
pub fn join_all(
    greenlets: &[impl AsRef<GreenletRef>],
    timeout: impl Into<Option<Duration>>,
) -> Result<(), WaitError> {
    let deadline = timeout.into().and_then(|timeout| Hub::get().deadline(timeout));
    greenlets.iter().try_for_each(|greenlet| greenlet.as_ref().wait_until(deadline))
}

/// Waits for all and takes their values, in the order of the handles (`gevent.joinall(raise_error=True)`). Parks the caller.
///
/// # Errors
/// That of the first greenlet, in this order, that has no value to give; that the time is over. The others live on, and what
/// was not taken stays where it is.
///
/// ```
/// let jobs = [3, 4].map(|n| greenlet::spawn(move || n * n));
/// assert_eq!(greenlet::get_all(&jobs, None).unwrap(), [9, 16]);
/// ```
pub fn get_all<T>(
    greenlets: &[Greenlet<T>],
    timeout: impl Into<Option<Duration>>,
) -> Result<Vec<T>, JoinError> {
    let deadline = timeout.into().and_then(|timeout| Hub::get().deadline(timeout));
    greenlets.iter().map(|greenlet| greenlet.join_until(deadline)).collect()
}

/// Kills all and waits until they have ended, or `timeout` is over (`gevent.killall`). All are asked before any is waited
/// for.
///
/// # Errors
/// `TimedOut` when some have not ended in time; why the wait failed. The kills take place all the same.
#[doc(alias = "killall")]
pub fn kill_all(
    greenlets: &[impl AsRef<GreenletRef>],
    timeout: impl Into<Option<Duration>>,
) -> Result<(), WaitError> {
    greenlets.iter().for_each(|greenlet| greenlet.as_ref().kill_soon());
    join_all(greenlets, timeout)
}
