//! Green threads for blocking code.
//!
//! Write plain blocking code, thousands of jobs at a time, without `async`: each job or connection gets a greenlet,
//! which costs a few kilobytes, and a call that would block parks the greenlet and not the OS thread. The
//! vocabulary is gevent's, spelled in Rust.
//!
//! ```
//! use std::time::Duration;
//!
//! // No run(), no runtime object: the first blocking call in main drives the hub of this thread.
//! let jobs: Vec<_> = ["127.0.0.1:80", "[::1]:80"]
//!     .map(|name| greenlet::spawn(move || greenlet::net::resolve(name)))
//!     .into();
//! greenlet::join_all(&jobs, Duration::from_secs(2)).unwrap();
//! for job in &jobs {
//!     println!("{:?}", job.value());
//! }
//! ```
//!
//! # How it runs
//!
//! - **One hub per thread.** Greenlets never move between threads; handles and sockets stay on theirs. What is
//!   made for it crosses: [`unblock`], [`ThreadPool`], [`HubHandle`].
//! - **Switching is cooperative.** A greenlet runs until it blocks, [yields](yield_now) or ends. Between two
//!   blocking calls nobody else of the thread runs, so data shared by greenlets (`Rc`, `RefCell`) needs no lock;
//!   only don't hold a `RefCell` borrow or a `std` lock across a blocking call.
//! - **The main program is a greenlet too.** Outside [`spawn`]ed ones, a blocking call drives the hub until it is
//!   done. If nobody can ever end it, it fails with [`LoopExit`], which names everyone who is parked.
//! - **Fair.** A turn runs those who were ready when it began, then looks at descriptors and timers. A greenlet
//!   whose sockets are always ready gives way after a number of calls.
//! - **Kill is an unwind**, and so is the end of a [`timeout()`]: the blocking call in which a greenlet is suspended
//!   unwinds, destructors run. Catch panics with [`catch_panic`], which lets both pass.
//! - **No blocking while unwinding.** In a destructor that runs because of a panic or a kill, a call that would
//!   have to wait fails instead ([`WaitError::Unwinding`]).
//! - **A panic stays in its greenlet** and reaches who joins it.
//!
//! # Timeouts
//!
//! Every call that parks has a form that waits for a limited time only. Where std has the call, or its like, it has two
//! names, as there: `recv` and `recv_timeout`, `lock` and `lock_timeout`, `join` and `join_timeout` of a value; so do the kills. Waits for
//! the end of something, as of greenlets, pools and servers, and those for descriptors take gevent's `timeout` as an
//! argument: a [`Duration`](std::time::Duration), or `None` for no limit. Sockets have `set_read_timeout` and
//! `set_write_timeout`. A [`timeout()`] goes around any of them, and around many.
//!
//! # Features
//!
//! - `sanitizer` (off by default): for builds with `-Zsanitizer=address`, and only these: see `tests/sanitize`.
//! - `tls` (off by default): TLS streams for clients and servers, by rustls, in the module `tls`.

#[cfg(panic = "abort")]
compile_error!("greenlet kills greenlets by unwinding them: build with panic = \"unwind\"");

mod error;
#[cfg(all(target_os = "linux", not(greenlet_portable)))]
pub mod foreign;
pub mod fs;
pub mod gevent;
mod greenlet;
mod hub;
pub mod inspect;
mod monitor;
pub mod net;
mod pool;
pub mod process;
mod remote;
pub mod select;
pub mod server;
#[cfg(target_os = "linux")]
pub mod shm;
pub mod signal;
mod stack;
mod switch;
pub mod sync;
mod sys;
pub mod testing;
mod threadpool;
mod timeout;
#[cfg(feature = "tls")]
pub mod tls;
mod unwind;
mod wait;

pub use error::{JoinError, LoopExit, Panic, WaitError};
pub use greenlet::{
    Builder, Greenlet, GreenletRef, LinkId, Locals, Scope, ScopedGreenlet, current, get_all, join_all,
    kill_all, running, scope, spawn, spawn_later,
};
pub use monitor::{assert_yields, may_block};
pub use pool::{Group, Imap, ImapUnordered, Pool, Resource, ResourceError, ResourcePool, Slot};
pub use remote::HubHandle;
pub use threadpool::{ThreadJob, ThreadPool, ThreadPoolBuilder, unblock};
pub use timeout::{Elapsed, Timeout, TimeoutEnder, now, sleep, timeout, yield_now};
pub use unwind::{catch_panic, name_panics_on_stderr, shield};
pub use wait::{IterReady, Waitable, iwait, wait, wait_for_quiet};

/// What one thread's hub holds at the moment; see [`stats`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Greenlets that have not ended, main not counted.
    pub greenlets: usize,
    /// Stacks in use: those of greenlets that have started and not ended.
    pub stacks: usize,
    /// Timers that are pending: deadlines of waits, timeout scopes, late starts.
    pub timers: usize,
    /// Descriptors that are registered with the poller.
    pub descriptors: usize,
}

/// Counts what this thread's hub holds: for tests that look for leaks, and for reports.
pub fn stats() -> Stats {
    hub::Hub::get().stats()
}
