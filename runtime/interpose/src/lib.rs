//! libc's blocking calls made cooperative: blocking code parks the green thread, unmodified.
//!
//! A program that says
//!
//! ```
//! use greenlet_interpose as _;
//! # fn main() {}
//! ```
//!
//! has its own `read`, `connect`, `poll`, `nanosleep` and so on: this crate defines them, and the linker takes them before libc's
//! for everybody, for std, for crates, for C libraries linked or loaded later. Called in a greenlet they park the greenlet while
//! they would have to wait. Called anywhere else they make the plain system call.
//!
//! ```
//! use greenlet_interpose as _;
//! use std::time::{Duration, Instant};
//!
//! let begin = Instant::now();
//! let sleepers: Vec<_> = (0..100).map(|_| greenlet::spawn(|| std::thread::sleep(Duration::from_millis(50)))).collect();
//! greenlet::join_all(&sleepers, None)?;
//! assert!(begin.elapsed() < Duration::from_secs(5), "one after the other");
//! # Ok::<(), greenlet::WaitError>(())
//! ```
//!
//! # Laws
//! - Below every definition there are system calls made by hand (`raw`), so none of them can come back to itself.
//! - `errno` is what the plain call would have left.
//! - Where there is no greenlet to park, nothing is different: before `main`, on threads without a hub, at a thread's exit,
//!   in signal handlers, in the child of a fork, while unwinding, within [`may_block`](greenlet::may_block).
//! - A call never unwinds. A kill or the end of a timeout ends what can fail with `ECANCELED` and a sleep early, once; see
//!   [`greenlet::foreign`].
//!
//! What may not enter here: anything that waits by itself (that is `greenlet::foreign`'s), and anything that allocates on the
//! way to a plain system call.

#![cfg(all(target_os = "linux", target_env = "gnu", not(greenlet_portable)))]

mod calls;
mod gate;
mod lot;
mod raw;
mod real;

pub mod thread_locals;
pub mod time;

pub use calls::Call;
