//! A second process with the same greenlets.

use std::fmt::Write as _;
use std::io;
use std::os::fd::AsFd;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::handle::{ChildHandle, orphans};
use crate::hub::Hub;
#[cfg(target_os = "linux")]
use crate::shm;
use crate::{monitor, net, signal, threadpool};

/// Which of the two processes this is.
#[derive(Debug)]
pub enum Fork {
    /// The one that was there before, with a handle to the new one.
    Parent(ChildHandle),
    /// The new one.
    Child,
}

/// Makes a copy of this process in which this thread's hub goes on as well (`gevent.os.fork`, fork(2)). Returns in both.
/// Does not park.
///
/// # What is there in the child
/// - **This thread's greenlets, all of them**, as in gevent: each stands where it stood, and goes on in both processes
///   until somebody ends it there. Sleepers wake in both; who waits for a descriptor is told in both what happens to it
///   (and if both read from it, each byte goes to one of them). A child that wants none of them kills them by
///   their handles.
/// - **An event loop of its own.** Poller, wake-up and signal descriptors are made anew, what was waited for is registered
///   again; the parent's are not touched. Timers go on. [`HubHandle`](crate::HubHandle)s of this thread stay good.
/// - **No other thread.** The threads of [`unblock`](crate::unblock) and of name resolution are started afresh when they
///   are needed. But work that was under way is done in the parent only: a greenlet that waits for it waits for ever in the
///   child, unless it is killed, and so does one that waits for something from another thread. A
///   [`ThreadPool`](crate::ThreadPool) of one's own must not be used again. Hubs of other threads are gone, with their
///   signal handlers; their memory and descriptors stay.
/// - **This thread's signal handlers**; signals that only other threads handled have their earlier disposition again.
/// - **No children.** A [`ChildHandle`] for a child of the parent fails to wait.
/// - **Nothing that it holds of [`shm`](crate::shm).** Guards are the parent's, and their copies must not be used.
/// - [`LoopExit`](crate::LoopExit) may go unnoticed, where another thread had a way into this hub.
///
/// What is not this crate's is shared or doubled as fork(2) says: positions of files, buffers that are not flushed. The end
/// of a process closes nothing twice, but a destructor that runs in both removes a temporary file for both: let the child
/// leave by `libc::_exit` or [`std::process::exit`], or a program of its own.
///
/// To run another program, use a [`Command`](super::Command), which needs none of this.
///
/// # Safety
/// If the process has other threads (those of [`unblock`](crate::unblock) count), the child has a copy of their memory as it
/// was at this moment: locks that they hold are held for ever, what they were changing stays half changed. The caller must
/// see to it that the child does not touch such things: that the other threads are idle, or that the child does no more than
/// what fork(2) allows (async-signal-safe functions) until it executes another program. This crate's own are taken care of,
/// and the C library's allocator is, by itself. Nor may the child use copies of what the parent holds of
/// [`shm`](crate::shm): dropping them does nothing, but what they give is the parent's to change.
///
/// # Errors
/// The kernel's: too many processes, too little memory. Where the child gets no descriptors for its event loop, it aborts
/// with a message.
///
/// ```no_run
/// use greenlet::process::{Fork, fork};
///
/// // SAFETY: this program has no other thread.
/// match unsafe { fork() }? {
///     Fork::Child => {
///         greenlet::sleep(std::time::Duration::from_millis(1));
///         std::process::exit(7)
///     }
///     Fork::Parent(child) => assert_eq!(child.wait()?.code(), Some(7)),
/// }
/// # Ok::<(), std::io::Error>(())
/// ```
pub unsafe fn fork() -> io::Result<Fork> {
    // SAFETY: the caller's promise.
    match unsafe { fork_hub() }? {
        Some(pid) => ChildHandle::new(pid, None).map(Fork::Parent),
        None => Ok(Fork::Child),
    }
}

/// [`fork`] for a process in which this thread is the only one, which is all that makes it unsafe: for a master, say, that
/// keeps a number of workers. Gives the child's process id, and `None` in the child. The parent has to wait for the child by
/// itself (waitpid(2)); there is no handle. What starts threads ends this: [`unblock`](crate::unblock), name resolution, a wait
/// for an object of [`shm`](crate::shm) that another process holds.
///
/// # Errors
/// `Unsupported` where there is another thread, or where the system does not tell; the kernel's.
///
/// ```no_run
/// match greenlet::process::fork_alone()? {
///     None => std::process::exit(7),
///     Some(pid) => println!("its number is {pid}"),
/// }
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn fork_alone() -> io::Result<Option<u32>> {
    let others = other_threads()?;
    if others > 0 {
        let what =
            format!("this process has {others} more threads, and a copy of it would have none of them");
        return Err(io::Error::new(io::ErrorKind::Unsupported, what));
    }
    // SAFETY: there is no other thread, nor anyone who could start one meanwhile, so that no lock is held and nothing is half
    // changed but what this thread is about itself.
    unsafe { fork_hub() }
}

/// How many threads there are besides this one.
pub(super) fn other_threads() -> io::Result<usize> {
    let threads = || std::fs::read_dir("/proc/self/task").map(Iterator::count);
    let unknown = |error| io::Error::new(io::ErrorKind::Unsupported, format!("/proc/self/task: {error}"));
    // One that has just been joined may be listed for a moment.
    for _ in 0..20 {
        if threads().map_err(unknown)? == 1 {
            return Ok(0);
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(threads().map_err(unknown)?.saturating_sub(1))
}

/// Forks, and makes the hub and this crate's own threads whole in the child. Gives the child's process id to the parent.
///
/// # Safety
/// As of [`fork`].
unsafe fn fork_hub() -> io::Result<Option<u32>> {
    let hub = Hub::existing();
    if let Some(hub) = hub {
        hub.before_fork();
    }
    let mut orphans = orphans();
    let hooks = hooks();
    let signals = signal::BeforeFork::new();
    let pools = threadpool::BeforeFork::new();
    let names = net::BeforeFork::new();
    let watched = monitor::BeforeFork::new();
    #[cfg(target_os = "linux")]
    let sharing = shm::BeforeFork::new();
    // SAFETY: no pointers; what the child may do is the caller's promise, and all locks of this crate that may be taken
    // without a hub of another thread are held by this one.
    let pid = unsafe { libc::fork() };
    if pid > 0 {
        drop((orphans, hooks, signals, pools, names, watched));
        #[cfg(target_os = "linux")]
        drop(sharing);
        return Ok(Some(pid.unsigned_abs()));
    }
    if pid < 0 {
        return Err(io::Error::last_os_error());
    }
    orphans.clear();
    names.in_child();
    pools.in_child();
    // The signals' descriptors change under the numbers which the hub then registers.
    let whole = signals.in_child().and_then(|()| match hub {
        // SAFETY: this is the child of a fork, whose only thread is this one.
        Some(hub) => unsafe { hub.after_fork() },
        None => Ok(()),
    });
    let whole = whole.and_then(|()| watched.in_child(hub.map(Hub::pulse)));
    if let Err(error) = whole {
        give_up(&error);
    }
    #[cfg(target_os = "linux")]
    sharing.in_child();
    let to_call = hooks.clone();
    drop((orphans, hooks));
    to_call.iter().for_each(|hook| hook());
    Ok(None)
}

/// Has `hook` run in every child of [`fork`], on the thread and in the greenlet that forked, when its hub is whole again
/// (`os.register_at_fork(after_in_child=…)`): for libraries that have threads, connections or random numbers of their own.
/// Hooks run in the order in which they came and cannot be taken back.
pub fn after_fork(hook: fn()) {
    hooks().push(hook);
}

static HOOKS: Mutex<Vec<fn()>> = Mutex::new(Vec::new());

fn hooks() -> MutexGuard<'static, Vec<fn()>> {
    HOOKS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A child without an event loop can do nothing. It must not take std's lock of stderr, which another thread of the parent
/// may have held.
fn give_up(error: &io::Error) -> ! {
    let mut message = String::new();
    // Writing to a string does not fail.
    let _ = writeln!(message, "fork: the child gets no event loop: {error}; raise the limit of open files?");
    let _ = rustix::io::write(io::stderr().as_fd(), message.as_bytes());
    std::process::abort()
}
