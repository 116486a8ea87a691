//! One green thread: its record and states, how it is spawned, the handle to it, and what is done with several.
//!
//! What may not enter here: the loop (that is `hub`), the switch, descriptors.

mod builder;
mod core;
mod handle;
mod job;
mod links;
mod many;
mod scope;

pub(crate) use self::core::{Core, End, Idle, State, WaitsFor, Wake};
pub(crate) use self::job::Job;
pub use builder::{Builder, Locals, spawn, spawn_later};
pub use handle::{Greenlet, GreenletRef, current, running};
pub use links::LinkId;
pub use many::{get_all, join_all, kill_all};
pub use scope::{Scope, ScopedGreenlet, scope};
