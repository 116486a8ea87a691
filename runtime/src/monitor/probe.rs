//! Asks a thread who runs on it and where it stands, by a signal: the only file of the monitor with `unsafe`.
//!
//! The thread of the monitor puts a question on a slate, sends the signal, and waits a while for the answer. The handler may
//! interrupt anything, so it takes no lock and allocates nothing: it reads who runs as the handler for stack overflows does,
//! walks the stack by its unwind tables, and writes numbers and a name on the slate. Whose names these numbers are is found out
//! by the thread that has asked.
//!
//! The walk is `_Unwind_Backtrace`, as each panic of the program uses it. Its own state lives on the stack it runs on. It finds
//! the tables by `_dl_find_object`, which takes no lock and is safe in signal handlers (glibc 2.35 and newer); before that by
//! `dl_iterate_phdr`, under the loader's lock, which is recursive, so a handler that interrupts its holder goes on, and one
//! that has to wait for another thread waits for one that runs.

use std::cell::UnsafeCell;
use std::ffi::c_void;
use std::io;
use std::marker::PhantomData;
use std::mem::{self, MaybeUninit};
use std::panic::Location;
use std::ptr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use libc::{c_int, siginfo_t};

use crate::hub::{Hub, Pulse};

/// Ignored by default, and programs that handle it (for out-of-band data) must expect it at any time: what Go stops its threads
/// with, for the same reasons.
const SIGNAL: c_int = libc::SIGURG;

/// Calls of a stack that are kept, and bytes of a name.
const CALLS: usize = 96;
const NAME: usize = 200;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_millis(100);
const PAUSE: Duration = Duration::from_micros(50);

/// What a thread has answered.
#[derive(Clone, Debug)]
pub(super) struct Answer {
    /// [`Pulse::turn`], when it did.
    pub(super) turn: u32,
    pub(super) id: u64,
    /// Empty if it has none.
    pub(super) name: String,
    pub(super) spawned: Option<&'static Location<'static>>,
    /// Whether it is in [`may_block`](super::may_block).
    pub(super) silent: bool,
    /// Where it stands, then where each call returns to.
    pub(super) calls: Vec<usize>,
}

/// A thread of this process.
#[derive(Clone, Copy, Debug)]
pub(super) struct Thread(
    #[cfg(target_os = "linux")] libc::pid_t,
    #[cfg(not(target_os = "linux"))] libc::pthread_t,
);

impl Thread {
    pub(super) fn this() -> Thread {
        #[cfg(target_os = "linux")]
        // SAFETY: has no conditions.
        return Thread(unsafe { libc::syscall(libc::SYS_gettid) } as libc::pid_t);
        #[cfg(not(target_os = "linux"))]
        // SAFETY: has no conditions.
        return Thread(unsafe { libc::pthread_self() });
    }

    /// Sends the signal. False if it cannot be sent, for the thread has ended.
    fn interrupt(self) -> bool {
        #[cfg(target_os = "linux")]
        // SAFETY: numbers only. Should the thread have ended and another of the process have got its number, that one
        // finds nothing on the slate for it.
        let sent = unsafe { libc::syscall(libc::SYS_tgkill, libc::getpid(), self.0, SIGNAL) };
        #[cfg(not(target_os = "linux"))]
        // SAFETY: the thread lives: its hub ends all watches before the thread does (`forget`), for which it takes the lock
        // that whoever asks holds.
        let sent = unsafe { libc::pthread_kill(self.0, SIGNAL) };
        sent == 0
    }
}

/// A hub, named on other threads, where nothing can be done with it.
#[derive(Clone, Copy)]
pub(super) struct HubOf(&'static Hub);

// SAFETY: what is reached through it from another thread is the pulse, which is made of atomics, and the hub itself while its
// own thread is held, as `Held::hub` argues.
unsafe impl Send for HubOf {}
// SAFETY: as above.
unsafe impl Sync for HubOf {}

impl HubOf {
    pub(super) fn this_thread() -> HubOf {
        HubOf(Hub::get())
    }

    pub(super) fn pulse(&self) -> &'static Pulse {
        self.0.pulse()
    }
}

/// A hub whose thread was stopped for good.
pub(super) struct Held {
    hub: HubOf,
    /// Who runs on it; `None` if nobody does.
    pub(super) answer: Option<Answer>,
    /// Where the thread stands, then where each call returns to.
    pub(super) calls: Vec<usize>,
    _this_thread: PhantomData<*const ()>,
}

impl Held {
    /// The hub, for whoever has made sure that it was not stopped at work on its tables.
    pub(super) fn hub(&self) -> &Hub {
        // Its thread is in the handler and never leaves it, what it has written is visible since its answer was read, and there
        // is no second `Held` of it, nor does this one leave its thread. So this thread is the only one from here on, as the
        // hub expects of its own.
        self.hub.0
    }
}

/// The right to ask; there is one in the process.
#[derive(Debug)]
pub(super) struct Probe(());

impl Probe {
    /// Takes the signal's handler over. To be called once.
    pub(super) fn install() -> io::Result<Probe> {
        // What the first walk of all does, setting up its tables, is not left to the handler.
        walk(&mut |_| true);
        let mut before = MaybeUninit::zeroed();
        // SAFETY: the call only writes to `before`, a plain C structure of numbers and addresses, for which zeroes are valid.
        let before = unsafe {
            if libc::sigaction(SIGNAL, ptr::null(), before.as_mut_ptr()) != 0 {
                return Err(io::Error::last_os_error());
            }
            before.assume_init()
        };
        // The handler must know what was there before it can be called.
        BEFORE.get_or_init(|| before);
        let handler: Handler = handle;
        // SAFETY: as above, zeroes are valid: no flags, nothing masked.
        let mut action: libc::sigaction = unsafe { MaybeUninit::zeroed().assume_init() };
        action.sa_sigaction = handler as libc::sighandler_t;
        // On the alternate stack that each thread with a hub has: a green stack may have no room for a signal's frame.
        action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK | libc::SA_RESTART;
        // SAFETY: `handle` does nothing a handler may not, as it argues.
        match unsafe { libc::sigaction(SIGNAL, &action, ptr::null_mut()) } {
            0 => Ok(Probe(())),
            _ => Err(io::Error::last_os_error()),
        }
    }

    /// Asks the thread on which the hub with this pulse runs. `None` if it does not answer in time.
    pub(super) fn ask(&mut self, thread: Thread, pulse: &Pulse) -> Option<Answer> {
        if !self.question(thread, pulse) {
            return None;
        }
        // SAFETY: the answer is complete, which `Acquire` has made visible; nobody writes until the next question is asked,
        // which only this thread can do, for `self` is borrowed.
        let answer = unsafe { (*SLATE.answer.get()).read() };
        SLATE.state.store(EMPTY, Ordering::Relaxed);
        answer
    }

    /// Stops the thread on which this hub runs, for good, in the handler of the signal. `None` if it does not answer in time.
    pub(super) fn hold(&mut self, thread: Thread, hub: HubOf) -> Option<Held> {
        SLATE.hold.store(true, Ordering::Relaxed);
        let answered = self.question(thread, hub.pulse());
        SLATE.hold.store(false, Ordering::Relaxed);
        if !answered {
            return None;
        }
        // SAFETY: as in `ask`.
        let (answer, calls) = unsafe { ((*SLATE.answer.get()).read(), (*SLATE.answer.get()).calls()) };
        SLATE.state.store(EMPTY, Ordering::Relaxed);
        Some(Held { hub, answer, calls, _this_thread: PhantomData })
    }

    /// Whether the thread has answered: then the answer belongs to the caller.
    fn question(&mut self, thread: Thread, pulse: &Pulse) -> bool {
        SLATE.of.store(ptr::from_ref(pulse).cast_mut(), Ordering::Relaxed);
        SLATE.state.store(ASKED, Ordering::Release);
        let deadline = Instant::now() + PATIENCE;
        let mut hopeless = !thread.interrupt();
        while SLATE.state.load(Ordering::Acquire) != ANSWERED {
            hopeless |= Instant::now() > deadline;
            // Only a question that nobody has begun to answer can be taken back.
            if hopeless
                && SLATE.state.compare_exchange(ASKED, EMPTY, Ordering::Relaxed, Ordering::Relaxed).is_ok()
            {
                return false;
            }
            thread::sleep(PAUSE);
        }
        true
    }
}

/// Where question and answer stand.
struct Slate {
    state: AtomicU32,
    /// Who is asked.
    of: AtomicPtr<Pulse>,
    /// Who answers this question does not go on. Written before the question is asked.
    hold: AtomicBool,
    answer: UnsafeCell<Raw>,
}

/// There is no question, and the answer belongs to nobody.
const EMPTY: u32 = 0;
/// There is a question.
const ASKED: u32 = 1;
/// A handler is writing the answer, which belongs to it.
const ANSWERING: u32 = 2;
/// The answer is complete and belongs to who has asked.
const ANSWERED: u32 = 3;

// SAFETY: `answer` belongs to one thread at a time, as `state` says.
unsafe impl Sync for Slate {}

static SLATE: Slate = Slate {
    state: AtomicU32::new(EMPTY),
    of: AtomicPtr::new(ptr::null_mut()),
    hold: AtomicBool::new(false),
    answer: UnsafeCell::new(Raw {
        known: false,
        turn: 0,
        id: 0,
        name: [0; NAME],
        name_len: 0,
        spawned: None,
        silent: false,
        calls: [0; CALLS],
        depth: 0,
    }),
};

/// An [`Answer`] without anything on the heap.
struct Raw {
    /// Whether a greenlet ran.
    known: bool,
    turn: u32,
    id: u64,
    name: [u8; NAME],
    name_len: usize,
    spawned: Option<&'static Location<'static>>,
    silent: bool,
    calls: [usize; CALLS],
    depth: usize,
}

impl Raw {
    fn read(&self) -> Option<Answer> {
        self.known.then(|| Answer {
            turn: self.turn,
            id: self.id,
            // It may have been cut within a character.
            name: String::from_utf8_lossy(&self.name[..self.name_len]).into_owned(),
            spawned: self.spawned,
            silent: self.silent,
            calls: self.calls(),
        })
    }

    fn calls(&self) -> Vec<usize> {
        self.calls[..self.depth].to_vec()
    }

    /// Called in the handler. `whoever`: the calls are wanted though nobody runs, or somebody who may block.
    fn write(&mut self, hub: &Hub, stands_at: Option<usize>, whoever: bool) {
        self.turn = hub.pulse().turn();
        let known = hub.with_running(|core| {
            self.id = core.id;
            let name = core.given_name().unwrap_or_default().as_bytes();
            self.name_len = name.len().min(NAME);
            self.name[..self.name_len].copy_from_slice(&name[..self.name_len]);
            self.spawned = core.spawned();
            self.silent = core.may_block();
        });
        self.known = known.is_some();
        self.depth = 0;
        if !whoever && (!self.known || self.silent) {
            return;
        }
        // Innermost are the calls of this handler.
        let mut found = stands_at.is_none();
        walk(&mut |address| {
            found |= Some(address) == stands_at;
            if found {
                self.calls[self.depth] = address;
                self.depth += 1;
            }
            self.depth < CALLS
        });
        if let (0, Some(address)) = (self.depth, stands_at) {
            // It stands in code without unwind tables.
            self.calls[0] = address;
            self.depth = 1;
        }
    }
}

/// What the signal did before.
static BEFORE: OnceLock<libc::sigaction> = OnceLock::new();

/// A signal handler which is told where the thread stood.
type Handler = extern "C" fn(c_int, *mut siginfo_t, *mut c_void);

extern "C" fn handle(signal: c_int, info: *mut siginfo_t, context: *mut c_void) {
    // Atomics, a thread-local cell without a destructor and the hub's own cells, as the overflow handler reads them.
    let asked = Hub::existing().filter(|hub| is_asked(hub.pulse()));
    if let Some(hub) = asked {
        // Nothing above or below sets errno, but for the walk, which promises nothing.
        let errno = Errno::save();
        let hold = SLATE.hold.load(Ordering::Relaxed);
        // SAFETY: the state says that the answer belongs to this handler, which the monitor respects.
        unsafe { (*SLATE.answer.get()).write(hub, stands_at(context), hold) };
        drop(errno);
        SLATE.state.store(ANSWERED, Ordering::Release);
        if hold {
            loop {
                // SAFETY: has no conditions; handlers may call it.
                unsafe { libc::pause() };
            }
        }
        return;
    }
    let Some(before) = BEFORE.get() else { return };
    match before.sa_sigaction {
        libc::SIG_DFL | libc::SIG_IGN => {}
        handler if before.sa_flags & libc::SA_SIGINFO != 0 => {
            // SAFETY: SA_SIGINFO says that the address is that of a handler with three arguments.
            let handler = unsafe { mem::transmute::<libc::sighandler_t, Handler>(handler) };
            handler(signal, info, context);
        }
        handler => {
            // SAFETY: without SA_SIGINFO, the address is that of a handler with one argument.
            let handler = unsafe { mem::transmute::<libc::sighandler_t, extern "C" fn(c_int)>(handler) };
            handler(signal);
        }
    }
}

/// Whether there is a question for the hub with this pulse. If so, the answer belongs to the caller from now on.
fn is_asked(pulse: &Pulse) -> bool {
    let of_this = || ptr::eq(SLATE.of.load(Ordering::Relaxed), pulse);
    if !of_this()
        || SLATE.state.compare_exchange(ASKED, ANSWERING, Ordering::Acquire, Ordering::Relaxed).is_err()
    {
        return false;
    }
    if !of_this() {
        // Between the two steps the question was taken back, and another was asked.
        SLATE.state.store(ASKED, Ordering::Release);
        return false;
    }
    true
}

/// Calls `each` with the address of each call on this stack, innermost first, until it returns false.
fn walk(each: &mut dyn FnMut(usize) -> bool) {
    // SAFETY: `backtrace` asks that no other thread be in its functions at the time, for the sake of systems whose walk is not
    // thread-safe (Windows' dbghelp); on unix it is a call of `_Unwind_Backtrace`, which is, and nothing is looked up here. The
    // closure does not unwind.
    unsafe { backtrace::trace_unsynchronized(|frame| each(frame.ip().addr())) };
}

/// The address at which the signal has interrupted its thread, where it is known how to tell.
fn stands_at(context: *mut c_void) -> Option<usize> {
    #[cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]
    {
        // SAFETY: the kernel hands a handler with SA_SIGINFO a context that is valid for the time of the call.
        let context = unsafe { &(*context.cast::<libc::ucontext_t>()).uc_mcontext };
        #[cfg(target_arch = "x86_64")]
        return Some(context.gregs[libc::REG_RIP as usize] as usize);
        #[cfg(target_arch = "aarch64")]
        return Some(context.pc as usize);
    }
    #[cfg(not(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64"))))]
    {
        let _ = context;
        None
    }
}

/// What the interrupted code finds in errno is what it left there.
struct Errno(c_int);

impl Errno {
    fn save() -> Errno {
        // SAFETY: errno of the calling thread.
        Errno(unsafe { crate::stack::errno().read() })
    }
}

impl Drop for Errno {
    fn drop(&mut self) {
        // SAFETY: errno of the calling thread.
        unsafe { crate::stack::errno().write(self.0) };
    }
}
