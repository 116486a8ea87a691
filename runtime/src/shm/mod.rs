//! Things that several processes share: locks, a semaphore, counters and small values in memory mapped before a fork, and a
//! lock on a file for programs that have no parent in common.
//!
//! A server of several workers makes them in its master, before it forks; each worker then has the same ones. Waiting parks
//! the greenlet and not the worker, and a thread without a hub is itself put to sleep. What a process holds is freed when it ends,
//! however it ends, SIGKILL included, and the next one is told that the value may be half changed ([`OwnerDied`]).
//!
//! ```
//! use greenlet::process::{Fork, fork};
//! use greenlet::shm;
//!
//! let total = shm::Mutex::new(0_u64)?;
//! let add = || total.lock().map(|mut total| *total += 1).is_ok();
//! // SAFETY: the child does no more than to lock, and leaves.
//! match unsafe { fork() }? {
//!     Fork::Child => unsafe { libc::_exit(i32::from(!add())) },
//!     Fork::Parent(child) => {
//!         assert!(add() && child.wait()?.success());
//!         assert_eq!(*total.lock()?, 2);
//!     }
//! }
//! # Ok::<(), std::io::Error>(())
//! ```
//!
//! What may not enter here: anything for one process only (that is [`sync`](crate::sync), and
//! [`sync::shared`](crate::sync::shared) for its threads), and anything that holds a pointer: each process has its own memory.
//!
//! # Who shares what
//!
//! - **An object is shared by the process that made it and those forked from it later**, at any depth, at most 256 alive at once.
//!   One that is made after the fork belongs to the process that made it. The memory (a page or a few for each) goes when the last
//!   process that has it drops it or ends.
//! - **Nothing survives exec.** A program that a worker starts shares nothing with it, and neither does a new master that a
//!   running one has executed in its stead: two generations of workers that serve side by side during an upgrade have locks of their
//!   own. Where they must exclude each other too, use a [`FileLock`].
//! - **A guard is its process's.** What the forking process holds stays its own; the child's copy of the guard does
//!   nothing when it is dropped, and panics when it is used; references from before the fork must not be used there, either, as
//!   fork's own safety section says of other memory. A greenlet that waits at the moment of the fork waits on in both processes, each for itself.
//! - The processes see each other in one process namespace.
//!
//! # How a lock waits and how a dead owner is found
//!
//! To lock and to unlock what nobody else wants is one atomic instruction each and no system call. Who finds it locked queues: the
//! greenlets of a process among themselves, and the processes with a ticket each in the shared memory. Unlocking hands the lock
//! over, to the next greenlet of one's own, or, after at most 16 of these in a row, to the process that has waited longest, which is
//! woken by a futex. One small thread in each process listens for that, from the first time on that it is needed.
//!
//! Each change of the shared state is a single atomic instruction, so that a process can be killed between any two. While
//! somebody of a process waits, its thread looks every 20 ms whether the owner is alive; so what a dead one held, and what it was to
//! pass on, is noticed after at most that time by anyone who cares, and at once when the master calls [`recover`]. A process that
//! is stopped (SIGSTOP) is alive: what it holds, others wait for, with a timeout if they like.
//!
//! # From elsewhere
//!
//! | there | here | difference |
//! |---|---|---|
//! | `multiprocessing.Lock` | [`Mutex`] with `()` | freed when its owner is killed; there all wait for ever |
//! | `multiprocessing.RLock` | none | keep the guard and pass it on |
//! | `multiprocessing.Semaphore`, `BoundedSemaphore` | [`Semaphore`] | permits of the dead come back; only who has one gives it back |
//! | `multiprocessing.Value`, `Array` | [`Mutex`] around the value; [`Slot`] where many read and few write | |
//! | `multiprocessing.Event`, `Condition`, `Barrier`, `Queue` | none | a pipe or a socket pair made before the fork |
//! | `uwsgi.lock(n)`, `uwsgi.unlock(n)` | [`Mutex`] with `()`, as many as you like | a guard; greenlets park |
//! | `uwsgi.sharedarea_*` | [`Mutex`] around an array, [`Slot`] | typed |
//! | uWSGI's metrics of kind counter | [`Counter`]; many of them: [`Numbers`] | |
//! | gunicorn's `pre_request` with a lock made in the configuration file | the same with any of these | nothing has to be put in a header |
//! | gunicorn's `child_exit` | the place to call [`recover`] | |
//! | `fcntl.flock`, `filelock.FileLock`, `uwsgi.lockfile` | [`FileLock`] | |

mod counter;
mod error;
mod file_lock;
mod gate;
mod inside;
mod map;
mod me;
mod mutex;
mod numbers;
mod registry;
mod rwlock;
mod semaphore;
mod slot;

pub use counter::Counter;
pub use error::{LockError, OwnerDied};
pub use file_lock::{FileLock, FileLockGuard};
pub use map::Shareable;
pub(crate) use me::BeforeFork;
pub use mutex::{Mutex, MutexGuard};
pub use numbers::Numbers;
pub use registry::recover;
pub use rwlock::{RwLock, RwLockReadGuard, RwLockWriteGuard};
pub use semaphore::{Permit, Semaphore};
pub use slot::Slot;
