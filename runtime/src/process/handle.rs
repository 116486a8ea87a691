//! Waiting for a process of one's own, and seeing to it that none is forgotten.

use std::cell::Cell;
use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::rc::Rc;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::io::Errno;
use rustix::process::{Pid, WaitOptions, waitpid};

use crate::error::WaitError;
use crate::greenlet::WaitsFor;
use crate::hub::{Hub, Moment};
use crate::signal::Signal;

/// Where a process's end cannot be watched, it is looked for after pauses that double from the first to the second.
const FIRST_PAUSE: Duration = Duration::from_millis(1);
const LONGEST_PAUSE: Duration = Duration::from_millis(50);

/// How many of the forgotten are looked at when a process is started or forgotten.
const SWEEP: usize = 16;

/// A handle to a child of this process. Clones are for the same child; any number of greenlets may wait for it.
///
/// When the last handle goes, the [`Child`](super::Child) included, and the child has not ended, it is left running or
/// killed; see [the module](super).
#[derive(Clone)]
pub struct ChildHandle(Rc<Process>);

struct Process {
    pid: Pid,
    /// Known once it has been reaped: from then on the number may be another's.
    status: Cell<Option<ExitStatus>>,
    kill_on_drop: Cell<bool>,
}

impl ChildHandle {
    pub(super) fn new(pid: u32, status: Option<ExitStatus>) -> io::Result<ChildHandle> {
        sweep(&mut orphans(), SWEEP);
        let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).ok_or(io::ErrorKind::InvalidInput)?;
        Ok(ChildHandle(Rc::new(Process { pid, status: Cell::new(status), kill_on_drop: Cell::new(false) })))
    }

    /// The process's number. Once its end has been seen, the number may be given to another.
    pub fn id(&self) -> u32 {
        self.0.pid.as_raw_nonzero().get().unsigned_abs()
    }

    /// Kills it (SIGKILL). Does not wait for its end. No error once it has ended.
    ///
    /// # Errors
    /// The kernel's: it runs as another user now.
    pub fn kill(&self) -> io::Result<()> {
        self.signal(Signal::KILL)
    }

    /// Sends it a signal. Nothing happens once its end has been seen.
    ///
    /// # Errors
    /// As [`kill`](Self::kill).
    pub fn signal(&self, signal: Signal) -> io::Result<()> {
        if self.0.status.get().is_some() {
            return Ok(());
        }
        send(self.0.pid, signal)
    }

    /// Whether it is killed when the last handle is dropped before its end has been seen.
    pub fn set_kill_on_drop(&self, kill: bool) {
        self.0.kill_on_drop.set(kill);
    }

    /// Its exit status, if it has ended. Never waits.
    ///
    /// # Errors
    /// The kernel's: somebody else has reaped it (a `waitpid(-1)`, or SIGCHLD is ignored), or it is a child of this
    /// process's parent, which has [forked](super::fork).
    pub fn try_wait(&self) -> io::Result<Option<ExitStatus>> {
        if self.0.status.get().is_none() {
            self.0.status.set(reap(self.0.pid)?);
        }
        Ok(self.0.status.get())
    }

    /// Waits for its end. Parks the greenlet.
    ///
    /// # Errors
    /// As [`try_wait`](Self::try_wait); why the wait failed, as a [`WaitError`] inside.
    pub fn wait(&self) -> io::Result<ExitStatus> {
        self.wait_until(None)
    }

    /// As [`wait`](Self::wait), but gives up after a while; the process is not touched then.
    ///
    /// # Errors
    /// `TimedOut`; as [`wait`](Self::wait).
    pub fn wait_timeout(&self, timeout: Duration) -> io::Result<ExitStatus> {
        self.wait_until(Hub::try_get()?.deadline(timeout))
    }

    pub(super) fn wait_until(&self, deadline: Option<Moment>) -> io::Result<ExitStatus> {
        if let Some(status) = self.try_wait()? {
            return Ok(status);
        }
        let hub = Hub::try_get()?;
        let watch = Watch::new(hub, self.0.pid);
        let mut pause = FIRST_PAUSE;
        loop {
            let waited = match &watch {
                Some(watch) => watch.park(deadline),
                None => sleep(hub, self.0.pid, pause, deadline),
            };
            // What ended in the same moment counts.
            if let Some(status) = self.try_wait()? {
                return Ok(status);
            }
            waited?;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }
}

impl fmt::Debug for ChildHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChildHandle").field("id", &self.id()).field("status", &self.0.status.get()).finish()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.status.get().is_some() {
            return;
        }
        if self.kill_on_drop.get() {
            // It fails only if there is nothing left to kill, or nothing to be done about it.
            let _ = send(self.pid, Signal::KILL);
        }
        let mut orphans = orphans();
        orphans.push_front(self.pid);
        sweep(&mut orphans, SWEEP);
    }
}

/// Watches for the end of a process by a descriptor.
#[cfg(all(target_os = "linux", not(greenlet_portable)))]
struct Watch {
    hub: &'static Hub,
    registration: crate::hub::Registration,
    pidfd: std::os::fd::OwnedFd,
    pid: Pid,
}

#[cfg(all(target_os = "linux", not(greenlet_portable)))]
impl Watch {
    /// `None` where there is no such descriptor: the kernel is older than 5.3, a sandbox forbids it, too many are open. The
    /// process has not been reaped, so that it is the one with this number.
    fn new(hub: &'static Hub, pid: Pid) -> Option<Watch> {
        let pidfd = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()).ok()?;
        let registration = hub.register(std::os::fd::AsFd::as_fd(&pidfd)).ok()?;
        Some(Watch { hub, registration, pidfd, pid })
    }

    fn park(&self, deadline: Option<Moment>) -> io::Result<()> {
        self.hub.clear_ready(self.registration, crate::hub::Direction::Read);
        let why = WaitsFor::Process(self.pid.as_raw_nonzero().get());
        self.hub.wait_io(self.registration, crate::hub::Direction::Read, why, deadline)
    }
}

#[cfg(all(target_os = "linux", not(greenlet_portable)))]
impl Drop for Watch {
    fn drop(&mut self) {
        self.hub.deregister(self.registration, std::os::fd::AsFd::as_fd(&self.pidfd), false);
    }
}

/// There is no watching here.
#[cfg(any(not(target_os = "linux"), greenlet_portable))]
enum Watch {}

#[cfg(any(not(target_os = "linux"), greenlet_portable))]
impl Watch {
    fn new(_: &'static Hub, _: Pid) -> Option<Watch> {
        None
    }

    fn park(&self, _: Option<Moment>) -> io::Result<()> {
        match *self {}
    }
}

/// Parks for a while, but not beyond the deadline.
fn sleep(hub: &Hub, pid: Pid, pause: Duration, deadline: Option<Moment>) -> io::Result<()> {
    let now = hub.now();
    if deadline.is_some_and(|deadline| deadline <= now) {
        return Err(WaitError::TimedOut.into());
    }
    let until = match (now.plus(pause), deadline) {
        (Some(until), Some(deadline)) => Some(until.min(deadline)),
        (until, deadline) => until.or(deadline),
    };
    hub.park(WaitsFor::Process(pid.as_raw_nonzero().get()), until)?;
    Ok(())
}

/// The status of a child that has ended, which is gone then.
fn reap(pid: Pid) -> io::Result<Option<ExitStatus>> {
    loop {
        match waitpid(Some(pid), WaitOptions::NOHANG) {
            Err(Errno::INTR) => {}
            other => return Ok(other?.map(|(_, status)| ExitStatus::from_raw(status.as_raw()))),
        }
    }
}

fn send(pid: Pid, signal: Signal) -> io::Result<()> {
    // SAFETY: kill(2) takes two integers.
    match unsafe { libc::kill(pid.as_raw_nonzero().get(), signal.as_raw()) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Children without a handle that had not ended when they were last looked at.
static ORPHANS: Mutex<VecDeque<Pid>> = Mutex::new(VecDeque::new());

pub(super) fn orphans() -> MutexGuard<'static, VecDeque<Pid>> {
    // Held across no code of others.
    ORPHANS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Reaps those of the first `count` that have ended; the others go to the end of the line.
fn sweep(orphans: &mut VecDeque<Pid>, count: usize) {
    for _ in 0..count.min(orphans.len()) {
        // One that cannot be waited for is no child of ours any more.
        if let Some(pid) = orphans.pop_front()
            && let Ok(None) = reap(pid)
        {
            orphans.push_back(pid);
        }
    }
}
