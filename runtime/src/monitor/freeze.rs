//! A hub that hangs, looked at from another thread: its own is stopped for good, so that nothing changes meanwhile.

use std::fmt::{self, Write};
use std::io;

use super::probe::Held;
use super::report;
use super::watcher::{self, WatchId};
use crate::inspect;

/// What can [freeze](Freezer::freeze) this thread's hub from another thread, when it hangs and its process is to be ended.
///
/// Uses the signal of [`watch`](crate::inspect::watch), whose remarks hold here, too; no thread is made for it.
///
/// # Errors
/// The system does not take the signal's handler.
///
/// # Panics
/// When the kernel gives no poller for this thread's hub.
pub fn freezer() -> io::Result<Freezer> {
    watcher::freezable().map(|id| Freezer { id })
}

/// The right to stop a hub, from any thread; made by [`freezer`].
#[derive(Debug)]
pub struct Freezer {
    id: WatchId,
}

impl Freezer {
    /// Stops the hub's thread where it is, for good: it never goes on, what it holds is never given back, and the process
    /// should be ended as soon as what can be told is told. `None` if it has ended, or does not answer the signal within a
    /// tenth of a second, because it is stopped in the kernel or has the signal blocked.
    ///
    /// What the thread was in the midst of stays locked: if that is the allocator or the logger, whoever tells hangs as
    /// well. Have somebody end the process then.
    pub fn freeze(self) -> Option<FrozenHub> {
        let held = watcher::hold(self.id)?;
        let calls = report::calls(&held.calls);
        Some(FrozenHub { held, calls })
    }
}

/// A hub that was stopped for good.
pub struct FrozenHub {
    held: Held,
    calls: Vec<String>,
}

impl FrozenHub {
    /// Who runs, and the calls in which it stands, innermost first, a line for each.
    pub fn running(&self) -> String {
        let mut text = match &self.held.answer {
            Some(answer) => report::who(answer),
            None => "no greenlet runs, but the hub itself".to_owned(),
        };
        if let Some(place) = self.held.answer.as_ref().and_then(|answer| answer.spawned) {
            let _ = write!(text, ", spawned at {place},");
        }
        text.push_str(" stands in");
        self.calls.iter().for_each(|call| text.extend(["\n", call]));
        text
    }

    /// The other greenlets, at most `limit` of them, each as [`run_info`](crate::inspect::run_info) tells of it: what it waits
    /// for, since when, and where it stands. `None` if the hub was stopped while it changes what it knows of them.
    pub fn others(&self, limit: usize) -> Option<String> {
        if !is_at_rest(&self.calls) {
            return None;
        }
        inspect::others(self.held.hub(), limit)
    }
}

impl fmt::Debug for FrozenHub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FrozenHub").field("calls", &self.calls).finish_non_exhaustive()
    }
}

/// Whether a hub that was stopped in these calls was not at work on its tables: nobody is in it, or it waits in the kernel.
fn is_at_rest(calls: &[String]) -> bool {
    let within = |call: &str, room| call.trim_start_matches('<').starts_with(room);
    let innermost = calls.iter().find(|call| within(call, "greenlet::hub") || within(call, "greenlet::sys"));
    innermost.is_none_or(|call| within(call, "greenlet::sys"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hub_is_at_rest_unless_its_own_code_is_interrupted() {
        let at_rest = |calls: &[&str]| is_at_rest(&calls.iter().map(ToString::to_string).collect::<Vec<_>>());
        assert!(at_rest(&["clock_nanosleep", "app::handler at app.rs:3", "greenlet::timeout::timeout"]));
        assert!(at_rest(&["epoll_pwait2", "greenlet::sys::linux::Poll::wait", "greenlet::hub::run::poll"]));
        assert!(!at_rest(&[
            "realloc",
            "slab::Slab<T>::insert",
            "<greenlet::hub::Hub>::start_greenlet",
            "app"
        ]));
    }
}
