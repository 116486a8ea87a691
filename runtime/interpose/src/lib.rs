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
//! [`table`] says of each call what it does in a greenlet and who arrives there, and what escapes.
//!
//! # Laws
//! - Below every definition there are system calls made by hand (`raw`), so none of them can come back to itself.
//! - `errno` is what the plain call would have left.
//! - Where there is no greenlet to park, nothing is different: before `main`, on threads without a hub, at a thread's exit,
//!   in signal handlers, in the child of a fork, while unwinding, within [`may_block`](greenlet::may_block).
//! - A call never unwinds. A kill or the end of a timeout ends what can fail with `ECANCELED` and a sleep early, once; see
//!   [`greenlet::foreign`].
//!
//! # Descriptors
//! - A call on a socket is made with `MSG_DONTWAIT` first. If it would have to wait, `O_NONBLOCK` and the socket's timeouts are
//!   looked at, and the greenlet is parked. Nothing of that is cached: `fcntl`, `ioctl(FIONBIO)`, `setsockopt`, `dup` and what
//!   other processes do need no attention. `SO_RCVTIMEO` is asked for only if a wait lasts, so its time may be over some milliseconds
//!   late, never early.
//! - What the kernel can't be told for one call is made with `O_NONBLOCK` set for its length: `accept`, `connect`, `sendfile`,
//!   `splice` with a socket, writes to terminals and eventfds. Who makes a plain call on the same open file in that moment, a
//!   thread without a hub or a process that doesn't use this crate, may get `EAGAIN`.
//! - A blocking write, send or `sendfile` returns when all is taken. If it can't go on it says how much was.
//! - A blocking `recv` returns what there is, even if it is less than `SO_RCVLOWAT` asks for.
//! - Files on disk, and writing to descriptors 1 and 2, go straight through.
//! - `close` wakes the greenlets of its own thread that wait for the descriptor, with `EBADF`. Those of other threads wait on, as
//!   threads would.
//! - A signal's handler ends the plain call with `EINTR` if it was set without `SA_RESTART`; a parked greenlet waits on. Threads
//!   can't be cancelled (`pthread_cancel`) while they are in one of these calls.
//!
//! What may not enter here: anything that waits by itself (that is `greenlet::foreign`'s), and anything that allocates on the
//! way to a plain system call.
//!
//! # Where it works
//! Linux with glibc, linked dynamically, on x86-64 and aarch64. Elsewhere it does not compile, rather than leave calls that block
//! every greenlet of the thread: name it under `[target.'cfg(all(target_os = "linux", target_env = "gnu"))'.dependencies]`. With
//! `--cfg greenlet_portable` it compiles, and is empty.
//!
//! # Signal handlers
//! What a signal handler calls is the plain call, since it may have interrupted anything. Handlers are known by the way in
//! which they were set: see [`signals`].

#![cfg(not(greenlet_portable))]

#[cfg(not(all(
    target_os = "linux",
    target_env = "gnu",
    not(target_feature = "crt-static"),
    any(target_arch = "x86_64", target_arch = "aarch64")
)))]
compile_error!(
    "greenlet-interpose takes the place of glibc's functions, so it needs Linux on x86-64 or aarch64 with glibc, linked \
     dynamically; a static or musl build cannot have it. Make the dependency one of \
     [target.'cfg(all(target_os = \"linux\", target_env = \"gnu\"))'.dependencies]."
);

mod aside;
mod block;
mod calls;
mod channel;
mod forks;
mod gate;
mod lock;
mod lot;
mod parking;
mod patience;
mod pieces;
mod raw;
mod real;

pub mod descriptors;
pub mod files;
pub mod futex;
pub mod locks;
pub mod names;
pub mod processes;
pub mod pthread;
pub mod receiving;
pub mod sending;
pub mod settings;
pub mod signals;
pub mod sockets;
pub mod streams;
pub mod table;
pub mod thread_locals;
pub mod time;
pub mod transfers;
pub mod waiting;

pub use calls::Call;
pub use settings::{configure, is_on, set};

/// Run by the loader, before `main`, while there is one thread.
#[used]
#[unsafe(link_section = ".init_array")]
static BEGIN: unsafe extern "C" fn(
    std::ffi::c_int,
    *const *const std::ffi::c_char,
    *const *const std::ffi::c_char,
) = {
    unsafe extern "C" fn begin(
        _: std::ffi::c_int,
        _: *const *const std::ffi::c_char,
        environment: *const *const std::ffi::c_char,
    ) {
        // SAFETY: glibc hands its constructors what `main` is handed.
        unsafe { settings::read(environment) };
        signals::prepare();
    }
    begin
};
