//! Many greenlets held together, and things that many greenlets share: groups, bounded pools, what is mapped over them,
//! and pools of resources.
//!
//! What may not enter here: threads (that is `threadpool`), descriptors, and the hub's inside: a pool is made of
//! greenlets, semaphores and waiting lists.

mod bounded;
mod group;
mod map;
mod members;
mod resource;

pub use bounded::{Pool, Slot};
pub use group::Group;
pub use map::{Imap, ImapUnordered};
pub use resource::{Resource, ResourceError, ResourcePool};
