//! What greenlets tell each other with: events, results, locks, queues and channels, and the waiting list they are
//! made of. Greenlets of one thread share these; for several threads there is [`shared`].
//!
//! Rules that hold for all of them: who waits longest is served first, and nobody who comes later can take what is meant
//! for it; each wait has a form for a limited time; a waiter that is killed or gives up leaves nothing behind, and what it
//! had been woken for goes to the next; a wait in a destructor that runs while unwinding fails
//! ([`WaitError::Unwinding`](crate::WaitError::Unwinding)), but what can be had at once is had there too.
//!
//! What may not enter here: descriptors, and, outside [`shared`], anything that another thread may touch.

mod async_result;
mod barrier;
mod bounded_semaphore;
pub mod channel;
mod condvar;
mod event;
mod mutex;
mod offers;
mod queue;
mod queue_error;
mod rlock;
mod rwlock;
mod semaphore;
pub mod shared;
mod task_queue;
mod waiters;

pub use async_result::{AsyncResult, ResultError, SharedError};
pub use barrier::{Barrier, BarrierWaitResult};
pub use bounded_semaphore::{BoundedPermit, BoundedSemaphore, OverRelease};
pub use condvar::{Condvar, WaitTimeoutResult};
pub use event::Event;
pub use mutex::{Mutex, MutexGuard};
pub use queue::Queue;
pub use queue_error::{GetError, PutError};
pub use rlock::{RLock, RLockGuard};
pub use rwlock::{RwLock, RwLockReadGuard, RwLockWriteGuard};
pub use semaphore::{Permit, Semaphore};
pub use task_queue::{JoinableQueue, LifoQueue, PriorityQueue, Smallest, Store, TaskQueue, TooManyDone};
pub(crate) use waiters::{Waiters, Waiting};
