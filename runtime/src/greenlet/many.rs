//! What is done with several greenlets.

use std::time::Duration;

use super::handle::Greenlet;
use crate::error::WaitError;
use crate::hub::Hub;

/// Waits until all have ended, or `timeout` is over; `None` waits for ever (`gevent.joinall`). Their values stay
/// where they are: see [`Greenlet::value`] and [`Greenlet::join`]. Parks the caller.
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
pub fn join_all<T>(greenlets: &[Greenlet<T>], timeout: impl Into<Option<Duration>>) -> Result<(), WaitError> {
    let deadline = timeout.into().and_then(|timeout| Hub::get().deadline(timeout));
    greenlets.iter().try_for_each(|greenlet| greenlet.wait_until(deadline))
}

/// Kills all and waits until they have ended (`gevent.killall`). All are asked before any is waited for.
///
/// # Errors
/// Why the wait failed; the kills take place all the same.
pub fn kill_all<T>(greenlets: &[Greenlet<T>]) -> Result<(), WaitError> {
    greenlets.iter().for_each(|greenlet| greenlet.kill_soon());
    join_all(greenlets, None)
}
