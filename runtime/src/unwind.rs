//! Unwinding: how a kill and the end of a timeout get out of a suspended call, and how panics are caught.
//!
//! Kill and timeout unwind with a payload of our own, which only this file knows. Every catch of ours lets it
//! pass ([`catch_panic`]); the greenlet's root and the timeout's scope recognise it.

use std::any::Any;
use std::cell::RefCell;
use std::panic::{self, AssertUnwindSafe};
use std::sync::atomic::{AtomicBool, Ordering};

use crate::error::{JoinError, Panic};
use crate::hub::Hub;

/// What is raised in a greenlet from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Interrupt {
    Kill,
    /// The block with this token is to be left: its time is over, or a greenlet of its scope has failed.
    Leave(u64),
}

/// As the end of the work that it interrupted.
impl From<Interrupt> for JoinError {
    fn from(interrupt: Interrupt) -> JoinError {
        match interrupt {
            Interrupt::Kill => JoinError::Killed,
            Interrupt::Leave(_) => JoinError::Elapsed,
        }
    }
}

/// Unwinds the greenlet that runs. The panic hook is not called.
pub(crate) fn raise(interrupt: Interrupt) -> ! {
    panic::resume_unwind(Box::new(interrupt))
}

/// How a closure ended.
pub(crate) enum Caught<T> {
    Returned(T),
    Interrupted(Interrupt),
    Panicked(Panic),
}

/// Runs `f` and tells how it ended.
pub(crate) fn catch<T>(f: impl FnOnce() -> T) -> Caught<T> {
    match panic::catch_unwind(AssertUnwindSafe(f)) {
        Ok(value) => Caught::Returned(value),
        Err(payload) => match payload.downcast::<Interrupt>() {
            Ok(interrupt) => Caught::Interrupted(*interrupt),
            Err(payload) => Caught::Panicked(describe(payload)),
        },
    }
}

/// Runs `f` and catches a panic in it, but lets kills and timeouts pass.
///
/// Use it wherever a server would use [`catch_unwind`](std::panic::catch_unwind), for instance around one request
/// of many: `catch_unwind` would also swallow the unwinding by which [`kill`](crate::GreenletRef::kill) and
/// [`timeout`](crate::timeout()) work, and the greenlet would live on (the runtime logs an error when it sees that).
///
/// # Errors
/// The panic, with its message, its location and the greenlet's name.
///
/// ```
/// let caught = greenlet::catch_panic(|| { if true { panic!("no such luck") } });
/// assert_eq!(caught.unwrap_err().message(), "no such luck");
/// ```
pub fn catch_panic<T>(f: impl FnOnce() -> T) -> Result<T, Panic> {
    match catch(f) {
        Caught::Returned(value) => Ok(value),
        Caught::Panicked(panic) => Err(panic),
        Caught::Interrupted(interrupt) => raise(interrupt),
    }
}

/// Runs `f` and defers what would unwind it: a kill and the end of a [`timeout`](crate::timeout()) are raised when `f` has
/// returned, in here. Nests. For the few steps that must not be left half done, such as giving a connection back; they
/// should not wait for long, since who kills waits for them.
///
/// ```
/// use std::time::Duration;
/// use greenlet::{shield, sleep, timeout};
///
/// let mut done = false;
/// let elapsed = timeout(Duration::from_millis(1), || {
///     shield(|| {
///         sleep(Duration::from_millis(5));
///         done = true;
///     });
///     unreachable!("the end of the time is raised at the end of the shield");
/// });
/// assert!(done && elapsed.is_err());
/// ```
pub fn shield<T>(f: impl FnOnce() -> T) -> T {
    let core = Hub::get().current_or_main();
    let shield = core.shield();
    let value = f();
    drop(shield);
    if !std::thread::panicking() {
        core.raise_interrupts();
    }
    value
}

impl Panic {
    /// Goes on panicking, without calling the panic hook again. Who catches it next still learns where it began.
    pub fn resume(self) -> ! {
        let (payload, location) = self.into_parts();
        let _ = LOCATION.try_with(|cell| cell.replace(location));
        panic::resume_unwind(payload)
    }
}

/// Logs a panic of values that were dropped where nobody could catch it.
pub(crate) fn report(caught: Caught<()>) {
    if let Caught::Panicked(panic) = caught {
        log::error!("{panic} (in a destructor, after the end of its work)");
    }
}

thread_local! {
    /// Where the last panic of this thread happened, noted by the hook, taken by the catch.
    static LOCATION: RefCell<Option<String>> = const { RefCell::new(None) };
}

// Apart, so that a catch takes up little stack.
#[cold]
#[inline(never)]
fn describe(payload: Box<dyn Any + Send>) -> Panic {
    let location = LOCATION.try_with(|location| location.take()).ok().flatten();
    // A thread without a hub gets none for this.
    let greenlet = match Hub::running_greenlet() {
        Some(core) => core.name().to_owned(),
        None => std::thread::current().name().unwrap_or("main").to_owned(),
    };
    Panic::new(payload, location, greenlet)
}

static NAMED: AtomicBool = AtomicBool::new(true);

/// Whether the name of a greenlet that panics is written to standard error, before what the program's panic hook says
/// (yes). For programs whose own hook says it elsewhere: with [`running`](crate::running).
pub fn name_panics_on_stderr(yes: bool) {
    NAMED.store(yes, Ordering::Relaxed);
}

/// Puts a hook before the present one: it notes the location of each panic and names the greenlet, which std's
/// own report, made per OS thread, does not.
pub(crate) fn install_hook() {
    if std::thread::panicking() {
        // The hook cannot be changed now; locations stay unknown.
        return;
    }
    let previous = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        let location = info.location().map(ToString::to_string);
        let _ = LOCATION.try_with(|cell| cell.replace(location));
        if NAMED.load(Ordering::Relaxed)
            && let Some(core) = Hub::running_greenlet()
        {
            eprintln!("\nin greenlet '{}':", core.name());
        }
        previous(info);
    }));
}
