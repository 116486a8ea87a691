//! Signal handlers: what they call is the plain call.
//!
//! A handler may have interrupted the greenlet at any instruction, in the midst of `malloc` or of the hub's own work, so it must
//! not be parked. A handler that is set by `sigaction`, `signal` and their like is called by way of this module, which notes that it
//! runs; the program sees only its own handlers, flags and masks, and the kernel gets the flags and masks as they are.
//!
//! - A handler that leaves by `siglongjmp` or by unwinding is noticed: by unwinding at once, else as soon as a call is made from
//!   further up the stack than it was, or on another greenlet's. Until then calls stay plain.
//! - A process can have 64 different handlers that way. Those that are set afterwards are set as they are. So are those
//!   that are set without libc (by a system call of their own, as the Go runtime does), and those of glibc itself. On an alternate stack
//!   these are known all the same, except in the thread's own program (main).
//!
//! All of it may be called in signal handlers and in the child of a fork.

use std::arch::asm;
use std::cell::Cell;
use std::ffi::{c_int, c_void};
use std::sync::atomic::{AtomicI32, AtomicUsize, Ordering};

use greenlet::foreign;
use libc::{sighandler_t, stack_t};

use crate::calls::Call;
use crate::raw::syscall;
use crate::real::real;
use crate::settings;

type Handler = unsafe extern "C-unwind" fn(c_int, *mut c_void, *mut c_void);

/// The handlers that there have been, and for each a function through which it is called. A place once taken stays so: which
/// handler is set is known to the kernel alone, and changes in one step.
static HANDLERS: [AtomicUsize; 64] = [const { AtomicUsize::new(0) }; 64];

macro_rules! ways_in {
    ($($index:literal)*) => { [$(handle::<$index> as Handler),*] };
}

static WAYS_IN: [Handler; HANDLERS.len()] = ways_in!(
    0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30 31
    32 33 34 35 36 37 38 39 40 41 42 43 44 45 46 47 48 49 50 51 52 53 54 55 56 57 58 59 60 61 62 63
);

/// Calls the handler that has this place.
unsafe extern "C-unwind" fn handle<const INDEX: usize>(
    signal: c_int,
    info: *mut c_void,
    context: *mut c_void,
) {
    let _noted = Noted::new();
    let handler = HANDLERS[INDEX].load(Ordering::Relaxed);
    // SAFETY: who has set it says that it is a handler. One that takes the signal's number only does not look at the other two, which the
    // calling convention passes in registers.
    unsafe { std::mem::transmute::<usize, Handler>(handler)(signal, info, context) };
}

/// Where the innermost handler of this thread runs.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Place {
    /// The stack pointer, 0 if there is none.
    stack: usize,
    /// What [`foreign::current_id`] says there.
    greenlet: Option<u64>,
}

const NOWHERE: Place = Place { stack: 0, greenlet: None };

thread_local! {
    static INNERMOST: Cell<Place> = const { Cell::new(NOWHERE) };
}

/// A handler runs for as long as this lives.
struct Noted {
    before: Place,
}

impl Noted {
    #[inline(always)]
    fn new() -> Noted {
        Noted { before: INNERMOST.replace(Place { stack: here(), greenlet: foreign::current_id() }) }
    }
}

impl Drop for Noted {
    fn drop(&mut self) {
        INNERMOST.set(self.before);
    }
}

/// See [`crate::gate::in_signal_handler`].
#[inline]
pub(crate) fn handler_runs() -> bool {
    let place = INNERMOST.get();
    place.stack != 0 && still_runs(place)
}

/// Whether the handler that runs there has not left by a jump.
#[cold]
fn still_runs(place: Place) -> bool {
    let here = here();
    let alternate = alternate_stack();
    let below = here < place.stack;
    let runs = match (alternate.contains(&place.stack), alternate.contains(&here)) {
        (true, true) => below,
        (true, false) => false,
        (false, true) => true,
        (false, false) => below && foreign::current_id() == place.greenlet,
    };
    if !runs {
        INNERMOST.set(NOWHERE);
    }
    runs
}

#[inline(always)]
fn here() -> usize {
    let here: usize;
    // SAFETY: reads the stack pointer.
    #[cfg(target_arch = "x86_64")]
    unsafe {
        asm!("mov {}, rsp", out(reg) here, options(nomem, nostack, preserves_flags))
    };
    // SAFETY: as above.
    #[cfg(target_arch = "aarch64")]
    unsafe {
        asm!("mov {}, sp", out(reg) here, options(nomem, nostack, preserves_flags))
    };
    here
}

/// This thread's alternate stack; empty if it has none.
fn alternate_stack() -> std::ops::Range<usize> {
    let mut stack = stack_t { ss_sp: std::ptr::null_mut(), ss_flags: libc::SS_DISABLE, ss_size: 0 };
    // SAFETY: the kernel writes to `stack`.
    unsafe { syscall!(SYS_sigaltstack, 0, &raw mut stack) };
    match stack.ss_flags & libc::SS_DISABLE {
        0 => stack.ss_sp.addr()..stack.ss_sp.addr() + stack.ss_size,
        _ => 0..0,
    }
}

/// What to set in place of a handler.
fn way_in(handler: sighandler_t, call: Call) -> sighandler_t {
    // SIG_DFL, SIG_IGN, SIG_HOLD, SIG_ERR.
    if handler <= 2 || handler == libc::SIG_ERR || !settings::is_on(call) || own(handler) != handler {
        return handler;
    }
    let place = HANDLERS.iter().position(|place| {
        let taken = place.compare_exchange(0, handler, Ordering::Relaxed, Ordering::Relaxed);
        taken.is_ok() || taken == Err(handler)
    });
    place.map_or(handler, |index| WAYS_IN[index] as sighandler_t)
}

/// The program's own handler, for what is set.
fn own(set: sighandler_t) -> sighandler_t {
    match WAYS_IN.iter().position(|way_in| *way_in as sighandler_t == set) {
        Some(index) => HANDLERS[index].load(Ordering::Relaxed),
        None => set,
    }
}

type Sigaction = unsafe extern "C-unwind" fn(c_int, *const libc::sigaction, *mut libc::sigaction) -> c_int;
type Signal = unsafe extern "C-unwind" fn(c_int, sighandler_t) -> sighandler_t;

fn libcs_sigaction() -> Sigaction {
    real!(fn sigaction(c_int, *const libc::sigaction, *mut libc::sigaction) -> c_int)
}

fn libcs_signal() -> Signal {
    real!(fn signal(c_int, sighandler_t) -> sighandler_t)
}

fn libcs_sysv_signal() -> Signal {
    real!(fn sysv_signal(c_int, sighandler_t) -> sighandler_t)
}

fn libcs_sigset() -> Signal {
    real!(fn sigset(c_int, sighandler_t) -> sighandler_t)
}

/// Looks libc's own up, which must not be done in a signal handler.
pub(crate) fn prepare() {
    let _ = (libcs_sigaction(), libcs_signal(), libcs_sysv_signal(), libcs_sigset());
}

/// sigaction(2).
///
/// # Safety
/// As sigaction(2): both pointers are valid or null, and a handler can be called when the signal comes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sigaction(
    signal: c_int,
    new: *const libc::sigaction,
    old: *mut libc::sigaction,
) -> c_int {
    // SAFETY: what the caller promises of the pointers, which libc reads and writes without a look, too.
    unsafe {
        let ours = new.as_ref().map(|new| {
            let mut ours = *new;
            ours.sa_sigaction = way_in(new.sa_sigaction, Call::sigaction);
            ours
        });
        let ours = ours.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
        let result = libcs_sigaction()(signal, ours, old);
        if let (0, Some(old)) = (result, old.as_mut()) {
            old.sa_sigaction = own(old.sa_sigaction);
        }
        result
    }
}

/// Another name of [`sigaction`].
///
/// # Safety
/// As [`sigaction`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn __sigaction(
    signal: c_int,
    new: *const libc::sigaction,
    old: *mut libc::sigaction,
) -> c_int {
    // SAFETY: the caller's promise.
    unsafe { sigaction(signal, new, old) }
}

/// signal(2), as BSD has it: the handler stays, and calls are restarted.
///
/// # Safety
/// As signal(2): the handler can be called when the signal comes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn signal(signal: c_int, handler: sighandler_t) -> sighandler_t {
    // SAFETY: the caller's promise.
    own(unsafe { libcs_signal()(signal, way_in(handler, Call::signal)) })
}

/// Another name of [`signal`].
///
/// # Safety
/// As [`signal`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bsd_signal(number: c_int, handler: sighandler_t) -> sighandler_t {
    // SAFETY: the caller's promise.
    unsafe { signal(number, handler) }
}

/// Another name of [`signal`].
///
/// # Safety
/// As [`signal`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ssignal(number: c_int, handler: sighandler_t) -> sighandler_t {
    // SAFETY: the caller's promise.
    unsafe { signal(number, handler) }
}

/// sysv_signal(3): the handler is called once.
///
/// # Safety
/// As signal(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sysv_signal(signal: c_int, handler: sighandler_t) -> sighandler_t {
    // SAFETY: the caller's promise.
    own(unsafe { libcs_sysv_signal()(signal, way_in(handler, Call::sysv_signal)) })
}

/// What `signal` is in C that is compiled for plain X/Open: [`sysv_signal`].
///
/// # Safety
/// As [`sysv_signal`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn __sysv_signal(signal: c_int, handler: sighandler_t) -> sighandler_t {
    // SAFETY: the caller's promise.
    unsafe { sysv_signal(signal, handler) }
}

/// sigset(3).
///
/// # Safety
/// As signal(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sigset(signal: c_int, handler: sighandler_t) -> sighandler_t {
    // SAFETY: the caller's promise.
    own(unsafe { libcs_sigset()(signal, way_in(handler, Call::sigset)) })
}

/// A signal whose handler does nothing but to interrupt the system call of a thread, of those that nobody uses; `None` if all are in
/// use. It is sent to threads of this crate only.
pub(crate) fn interrupting() -> Option<c_int> {
    extern "C" fn nothing(_: c_int) {}
    static CHOSEN: AtomicI32 = AtomicI32::new(0);
    let nothing = nothing as extern "C" fn(c_int) as sighandler_t;
    let now = |signal| {
        // SAFETY: zeros are a valid sigaction; libc writes to it.
        unsafe {
            let mut now: libc::sigaction = std::mem::zeroed();
            (libcs_sigaction()(signal, std::ptr::null(), &raw mut now) == 0).then_some(now.sa_sigaction)
        }
    };
    let chosen = CHOSEN.load(Ordering::Relaxed);
    if chosen != 0 && now(chosen) == Some(nothing) {
        return Some(chosen);
    }
    let free = (libc::SIGRTMIN()..=libc::SIGRTMAX()).rev().find(|signal| {
        let found = now(*signal);
        found == Some(libc::SIG_DFL) || found == Some(nothing)
    })?;
    // SAFETY: zeros are a valid sigaction, without flags (so that calls are not restarted) and with nothing masked.
    let set = unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = nothing;
        libcs_sigaction()(free, &raw const action, std::ptr::null_mut()) == 0
    };
    CHOSEN.store(free, Ordering::Relaxed);
    set.then_some(free)
}
