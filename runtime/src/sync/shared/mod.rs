//! What threads tell each other with, and their greenlets: event, result and channel.
//!
//! All of it may be used from any thread. A greenlet that waits is parked, and its hub goes on; a thread without a hub
//! (one that has not spawned or parked anything) is itself put to sleep. Greenlets of several hubs may wait for one
//! thing; who has waited longest is called first, and runs when its thread does. To wake somebody on a hub that is busy
//! takes no system call.
//!
//! While a greenlet waits here, no wait on its hub ends with [`LoopExit`](crate::LoopExit): another thread may help.
//! Values are dropped on the thread that has them. A thread that exits abandons its parked greenlets, so let it join
//! those that wait here first: what they were just woken for would be lost with them.
//!
//! What may not enter here: anything that is for one thread only. It costs a lock per use, so [`sync`](super) is the
//! place for what stays on one.

mod async_result;
pub mod channel;
mod event;
mod line;

pub use async_result::AsyncResult;
pub use event::Event;
pub(crate) use line::{Called, Sleeper, Waker};
