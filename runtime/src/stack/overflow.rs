//! What happens when a green thread runs off its stack.
//!
//! The guard faults, the kernel raises SIGSEGV (other systems SIGBUS), and as there is no room left on the
//! stack the handler runs on an alternate one: each thread that has a hub keeps a [`ThreadAltStack`]. A fault
//! in the guard of the green thread which runs is reported with its name and ends the process as an overflow
//! of a thread's stack does. Any other fault goes to the handler that was there before, which as a rule is
//! the one of Rust's `std`.
//!
//! The handler may interrupt anything, so it calls nothing but what signal-safety(7) lists and allocates
//! nothing.

use std::io;
use std::marker::PhantomData;
use std::mem::{self, MaybeUninit};
use std::ops::Range;
use std::ptr;
use std::sync::{Mutex, OnceLock, PoisonError};

use libc::{c_int, c_void, siginfo_t};

use super::guard::Guards;
use super::sys;

/// Bytes of an alternate stack: room for the largest signal frame (about 12 KiB on today's x86-64) and for
/// the handlers of others that faults are handed to.
const ALT_STACK: usize = 64 * 1024;

/// The bytes of a name that are reported; the rest is cut off.
const NAME_SHOWN: usize = 200;

/// The signals that a guard raises.
const SIGNALS: [c_int; 2] = [libc::SIGSEGV, libc::SIGBUS];

/// What the report says of the green thread that runs on the faulting thread.
#[derive(Clone, Debug)]
pub(crate) struct Running {
    /// Its number.
    pub(crate) id: u64,
    /// Its name; empty if it has none.
    pub(crate) name: *const str,
    /// The guard of its stack.
    pub(crate) guard: Range<usize>,
    /// [`Stack::size`](super::Stack::size).
    pub(crate) size: usize,
}

/// Reports overflows from now on, in the whole process. `current` says who runs on the calling thread, `None`
/// if no green thread does. Only the first call has an effect; later ones find everything in place.
///
/// # Errors
///
/// What the system says when it does not take the handlers.
///
/// # Safety
///
/// `current` is called from a signal handler, at any point of any thread: it may read plain thread-local
/// cells, and must not allocate, lock or panic. The name it returns stays valid while the calling thread
/// stands still.
pub(crate) unsafe fn install(current: fn() -> Option<Running>) -> io::Result<()> {
    static INSTALLING: Mutex<()> = Mutex::new(());
    let _one_at_a_time = INSTALLING.lock().unwrap_or_else(PoisonError::into_inner);
    if HANDLING.get().is_some() {
        return Ok(());
    }
    // The handler must know what was there before, before the first fault can reach it.
    let before = [action_of(SIGNALS[0])?, action_of(SIGNALS[1])?];
    HANDLING.get_or_init(|| Handling { current, before });
    for signal in SIGNALS {
        let handler: Handler = handle;
        let mut action = default_action();
        action.sa_sigaction = handler as libc::sighandler_t;
        action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
        set_action(signal, &action)?;
    }
    Ok(())
}

/// The alternate stack of the calling thread, for its signal handlers, as long as this value lives.
///
/// Rust's `std` gives each of its threads one, but a small one; a foreign thread has none at all, and without
/// it an overflow kills the process without a word.
#[derive(Debug)]
pub(crate) struct ThreadAltStack {
    memory: Range<usize>,
    /// Where the part above the guard begins.
    start: *mut c_void,
    before: libc::stack_t,
    /// It belongs to the thread that installed it.
    _not_send: PhantomData<*mut ()>,
}

impl ThreadAltStack {
    /// Gives the calling thread an alternate stack of 64 KiB, with a guard.
    ///
    /// # Errors
    ///
    /// `OutOfMemory` without memory for it; what `sigaltstack(2)` says when it is called on an alternate
    /// stack.
    pub(crate) fn install() -> io::Result<ThreadAltStack> {
        let guard = sys::page_size();
        let len = guard + ALT_STACK.next_multiple_of(guard);
        let memory = sys::map(len)?.get();
        let mut this = ThreadAltStack {
            memory: memory..memory + len,
            start: ptr::with_exposed_provenance_mut(memory + guard),
            before: no_alt_stack(),
            _not_send: PhantomData,
        };
        // From here on the drop of `this` cleans up.
        // SAFETY: the memory is new; nothing is in it.
        unsafe { Guards::best().install(memory..memory + guard) }?;
        let new = libc::stack_t { ss_sp: this.start, ss_flags: 0, ss_size: len - guard };
        // SAFETY: `new` describes memory which this value owns and which it unmaps only after it has seen
        // that the thread uses another alternate stack, or none.
        if unsafe { libc::sigaltstack(&new, &mut this.before) } != 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(this)
    }
}

impl Drop for ThreadAltStack {
    fn drop(&mut self) {
        let mut now = no_alt_stack();
        // SAFETY: the call only writes to `now`.
        let known = unsafe { libc::sigaltstack(ptr::null(), &mut now) } == 0;
        let mut ours = !known || (now.ss_sp == self.start && now.ss_flags & libc::SS_DISABLE == 0);
        if ours {
            // SAFETY: this is what the thread had before; whoever owned that would have replaced ours before
            // freeing it (std's threads do). The call fails while a handler runs on our stack.
            ours = unsafe { libc::sigaltstack(&self.before, ptr::null_mut()) } != 0;
        }
        if !ours {
            // SAFETY: made in `install`, and not the alternate stack of this thread any more, nor of any
            // other.
            unsafe { sys::unmap(self.memory.clone()) };
        }
    }
}

/// What the handler goes by.
struct Handling {
    current: fn() -> Option<Running>,
    /// What each of [`SIGNALS`] did before.
    before: [libc::sigaction; 2],
}

static HANDLING: OnceLock<Handling> = OnceLock::new();

/// A signal handler which is told where the fault was.
type Handler = extern "C" fn(c_int, *mut siginfo_t, *mut c_void);

/// The handler for [`SIGNALS`].
extern "C" fn handle(signal: c_int, info: *mut siginfo_t, context: *mut c_void) {
    let Some(handling) = HANDLING.get() else { return };
    // SAFETY: the kernel passes a siginfo that is valid for the time of the call, and for a fault (a positive
    // code) the field read is the address.
    let (is_fault, address) = unsafe { ((*info).si_code > 0, (*info).si_addr().addr()) };
    if is_fault
        && let Some(running) = (handling.current)()
        && running.guard.contains(&address)
    {
        report(&running);
        // SAFETY: abort has no conditions, and signal-safety(7) lists it.
        unsafe { libc::abort() };
    }
    let errno = sys::errno();
    // SAFETY: errno of the calling thread; what the interrupted code finds there must be what it left there.
    let saved = unsafe { errno.read() };
    if let Some(index) = SIGNALS.iter().position(|known| *known == signal) {
        pass_on(&handling.before[index], is_fault, signal, info, context);
    }
    // SAFETY: as above.
    unsafe { errno.write(saved) };
}

/// Does what would have been done without us.
fn pass_on(
    before: &libc::sigaction,
    is_fault: bool,
    signal: c_int,
    info: *mut siginfo_t,
    context: *mut c_void,
) {
    match before.sa_sigaction {
        libc::SIG_IGN if !is_fault => {}
        libc::SIG_DFL | libc::SIG_IGN => {
            // A fault happens again as soon as we return; a signal somebody sent has to be sent again.
            let _ = set_action(signal, &default_action());
            if !is_fault {
                // SAFETY: raise has no conditions, and signal-safety(7) lists it.
                unsafe { libc::raise(signal) };
            }
        }
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

/// Says on standard error whose stack was too small.
fn report(running: &Running) {
    // SAFETY: whoever gave us `current` promised that the name is valid while this thread stands still.
    let name = unsafe { &*running.name };
    let mut line = Line::new();
    line.push("\ngreenlet ");
    if !name.is_empty() {
        line.push("'");
        line.push_name(name);
        line.push("' (");
    }
    line.push("#");
    line.push_number(running.id);
    line.push(if name.is_empty() { "" } else { ")" });
    line.push(" has overflowed its stack of ");
    line.push_number(running.size as u64 / 1024);
    line.push(" KiB: give it a larger one with Builder::stack_size, or recurse less deeply\n");
    line.push("fatal runtime error: stack overflow, aborting\n");
    line.write();
}

/// Text put together without `fmt`, whose machinery promises nothing about signal handlers.
struct Line {
    bytes: [u8; 512],
    len: usize,
}

impl Line {
    fn new() -> Line {
        Line { bytes: [0; 512], len: 0 }
    }

    fn push(&mut self, text: &str) {
        text.bytes().for_each(|byte| self.push_byte(byte));
    }

    /// As much of a name as is shown, control characters made harmless.
    fn push_name(&mut self, name: &str) {
        let shown = (0..=name.len().min(NAME_SHOWN)).rfind(|end| name.is_char_boundary(*end));
        for byte in name.bytes().take(shown.unwrap_or(0)) {
            self.push_byte(if byte.is_ascii_control() { b'?' } else { byte });
        }
    }

    fn push_number(&mut self, number: u64) {
        if number >= 10 {
            self.push_number(number / 10);
        }
        self.push_byte(b'0' + (number % 10) as u8);
    }

    /// What does not fit is left out.
    fn push_byte(&mut self, byte: u8) {
        if let Some(place) = self.bytes.get_mut(self.len) {
            *place = byte;
            self.len += 1;
        }
    }

    fn write(&self) {
        let mut rest = self.bytes.get(..self.len).unwrap_or_default();
        while !rest.is_empty() {
            // SAFETY: the bytes are ours; write(2) is listed by signal-safety(7).
            let written = unsafe { libc::write(libc::STDERR_FILENO, rest.as_ptr().cast(), rest.len()) };
            match usize::try_from(written).ok().and_then(|written| rest.get(written..)) {
                Some(left) if left.len() < rest.len() => rest = left,
                // Nobody can be told that nobody can be told.
                _ => return,
            }
        }
    }
}

/// What the signal does now.
fn action_of(signal: c_int) -> io::Result<libc::sigaction> {
    let mut action = default_action();
    // SAFETY: the call only writes to `action`.
    match unsafe { libc::sigaction(signal, ptr::null(), &mut action) } {
        0 => Ok(action),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Makes the signal do something else. The handler in `action`, if any, is one of this file.
fn set_action(signal: c_int, action: &libc::sigaction) -> io::Result<()> {
    // SAFETY: the only handler given here is `handle`, which does nothing a handler may not, as long as the
    // function it was installed with does not either.
    match unsafe { libc::sigaction(signal, action, ptr::null_mut()) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// `SIG_DFL`, without flags, with an empty mask.
fn default_action() -> libc::sigaction {
    // SAFETY: a plain C structure of numbers and an optional function, all of which may be zero: SIG_DFL is
    // 0.
    unsafe { MaybeUninit::zeroed().assume_init() }
}

/// The description of no alternate stack.
fn no_alt_stack() -> libc::stack_t {
    libc::stack_t { ss_sp: ptr::null_mut(), ss_flags: libc::SS_DISABLE, ss_size: 0 }
}

#[cfg(test)]
mod tests {
    use super::super::child::{in_child, stderr};
    use super::super::tests::{Ground, dig};
    use super::super::{MIN_SIZE, StackPool};
    use super::*;
    use corosensei::{Coroutine, CoroutineResult};
    use std::cell::Cell;
    use std::os::unix::process::ExitStatusExt;
    use std::process::Output;
    use std::sync::atomic::{AtomicI32, Ordering};
    use std::thread;

    thread_local! {
        static NAME: Cell<&'static str> = const { Cell::new("") };
        static GUARD: Cell<(usize, usize)> = const { Cell::new((0, 0)) };
    }

    /// Who runs, by the cells above; the guard is empty while nobody does.
    fn current() -> Option<Running> {
        let (start, end) = GUARD.get();
        (start < end).then(|| Running { id: 17, name: NAME.get(), guard: start..end, size: MIN_SIZE })
    }

    /// Runs `body` as a green thread of that name, with all that a hub has in place.
    fn run(name: &'static str, body: impl FnOnce() + 'static) {
        // SAFETY: `current` reads two thread-local cells without destructors; the names are static.
        unsafe { install(current) }.unwrap();
        let _alt_stack = ThreadAltStack::install().unwrap();
        let stack = StackPool::new().take(MIN_SIZE).unwrap();
        NAME.set(name);
        let guard = stack.bounds().guard();
        GUARD.set((guard.start, guard.end));
        let mut coroutine = Coroutine::<(), (), (), _>::with_stack(Ground(stack), |_, ()| body());
        assert!(matches!(coroutine.resume(()), CoroutineResult::Return(())));
        GUARD.set((0, 0));
    }

    #[track_caller]
    fn assert_died(child: &Output, signal: c_int, said: &str) {
        assert_eq!(child.status.signal(), Some(signal), "{}", stderr(child));
        assert!(stderr(child).contains(said), "{}", stderr(child));
    }

    #[test]
    fn an_overflow_names_the_green_thread_and_aborts() {
        let child = in_child(an_overflow_names_the_green_thread_and_aborts, || {
            run("conn-17", || {
                dig(usize::MAX);
            });
        });
        let said = "\ngreenlet 'conn-17' (#17) has overflowed its stack of 32 KiB: give it a larger one with \
                    Builder::stack_size, or recurse less deeply\nfatal runtime error: stack overflow, aborting\n";
        assert_died(&child, libc::SIGABRT, said);
    }

    #[test]
    fn an_overflow_by_one_large_frame_hits_the_guard_too() {
        #[inline(never)]
        fn large_frame() -> u8 {
            std::hint::black_box([1_u8; 200 * 1024])[std::hint::black_box(7)]
        }
        let child = in_child(an_overflow_by_one_large_frame_hits_the_guard_too, || {
            run("", || {
                large_frame();
            });
        });
        assert_died(&child, libc::SIGABRT, "\ngreenlet #17 has overflowed its stack of 32 KiB");
    }

    #[test]
    fn a_long_or_odd_name_does_no_harm() {
        const NAME: &str = concat!(
            "odd\n\u{1b}[31mname ",
            "ééééééééééééééééééééééééééééééééééééééééééééééééééééééééééééééééééééééééééééééééééééééééé",
            "ééééééééééééééééééééééééééééééééééééééééééééééééééééééééééééééééééééééééééééééééééééééééé"
        );
        let child = in_child(a_long_or_odd_name_does_no_harm, || {
            run(NAME, || {
                dig(usize::MAX);
            });
        });
        assert_died(&child, libc::SIGABRT, "greenlet 'odd??[31mname éé");
        assert_died(&child, libc::SIGABRT, "ééé' (#17) has overflowed");
        assert!(!stderr(&child).contains('\u{fffd}'), "a character was cut in two: {}", stderr(&child));
    }

    #[test]
    fn any_other_fault_is_none_of_our_business() {
        let child = in_child(any_other_fault_is_none_of_our_business, || {
            run("innocent", || {
                // SAFETY: not at all, which is the point: the first page is never mapped.
                unsafe { ptr::without_provenance_mut::<u8>(8).write_volatile(1) };
            });
        });
        assert_died(&child, libc::SIGSEGV, "");
        assert!(!stderr(&child).contains("overflow"), "{}", stderr(&child));
    }

    #[test]
    fn an_overflow_of_a_thread_is_still_reported_by_std() {
        let child = in_child(an_overflow_of_a_thread_is_still_reported_by_std, || {
            run("done before", || ());
            let thread = thread::Builder::new().name("plain".into()).spawn(|| {
                let _alt_stack = ThreadAltStack::install().unwrap();
                dig(usize::MAX);
            });
            thread.unwrap().join().unwrap();
        });
        assert_died(&child, libc::SIGABRT, "thread 'plain' (");
        assert_died(&child, libc::SIGABRT, "has overflowed its stack\n");
    }

    #[test]
    fn a_fault_somebody_sends_kills_as_it_did_before() {
        let child = in_child(a_fault_somebody_sends_kills_as_it_did_before, || {
            let sent = default_action();
            set_action(libc::SIGBUS, &sent).unwrap();
            run("", || {
                // SAFETY: raise has no conditions.
                unsafe { libc::raise(libc::SIGBUS) };
            });
        });
        assert_died(&child, libc::SIGBUS, "");
    }

    #[test]
    fn the_handler_that_was_there_before_is_called_and_errno_is_kept() {
        static CALLED_WITH: AtomicI32 = AtomicI32::new(0);

        extern "C" fn before(signal: c_int) {
            CALLED_WITH.store(signal, Ordering::Relaxed);
            // SAFETY: errno of this thread.
            unsafe { sys::errno().write(libc::EXDEV) };
        }

        let child = in_child(the_handler_that_was_there_before_is_called_and_errno_is_kept, || {
            let mut action = default_action();
            action.sa_sigaction = before as extern "C" fn(c_int) as libc::sighandler_t;
            set_action(libc::SIGBUS, &action).unwrap();
            run("", || {
                // SAFETY: errno of this thread; raise has no conditions.
                let errno = unsafe {
                    sys::errno().write(libc::ENOTTY);
                    libc::raise(libc::SIGBUS);
                    sys::errno().read()
                };
                assert_eq!(CALLED_WITH.load(Ordering::Relaxed), libc::SIGBUS);
                assert_eq!(errno, libc::ENOTTY);
            });
        });
        assert!(child.status.success(), "{}", stderr(&child));
    }

    /// The alternate stack of this thread: where, how large, and whether there is one.
    fn alt_stack() -> (usize, usize, c_int) {
        let mut now = no_alt_stack();
        // SAFETY: the call only writes to `now`.
        assert_eq!(unsafe { libc::sigaltstack(ptr::null(), &mut now) }, 0);
        (now.ss_sp.addr(), now.ss_size, now.ss_flags)
    }

    #[test]
    fn an_alternate_stack_makes_way_for_the_one_before_when_it_goes() {
        let before = alt_stack();
        let outer = ThreadAltStack::install().unwrap();
        let during = alt_stack();
        assert_eq!(during, (outer.start.addr(), ALT_STACK, 0));
        let inner = ThreadAltStack::install().unwrap();
        assert_ne!(alt_stack(), during);
        drop(inner);
        assert_eq!(alt_stack(), during);
        drop(outer);
        assert_eq!(alt_stack(), before);
    }

    #[test]
    fn an_alternate_stack_that_was_replaced_stays_replaced() {
        thread::spawn(|| {
            let replaced = ThreadAltStack::install().unwrap();
            let now = ThreadAltStack::install().unwrap();
            let (start, ..) = alt_stack();
            drop(replaced);
            assert_eq!((alt_stack().0, start), (start, now.start.addr()));
            // What `now` would restore is gone; the thread ends with none.
            let none = no_alt_stack();
            // SAFETY: takes the alternate stack away from this thread, which is not on it.
            assert_eq!(unsafe { libc::sigaltstack(&none, ptr::null_mut()) }, 0);
        })
        .join()
        .unwrap();
    }
}
