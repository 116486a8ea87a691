//! What greenlets of one thread tell each other with: events, semaphores and queues, and the waiting list
//! they are made of.
//!
//! What may not enter here: descriptors, and anything that another thread may touch.

mod event;
mod queue;
mod semaphore;
mod waiters;

pub use event::Event;
pub use queue::{GetError, PutError, Queue};
pub use semaphore::{Permit, Semaphore};
pub(crate) use waiters::{Waiters, Waiting};
