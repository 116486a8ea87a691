//! Panics in the error log rather than on standard error, where a stuck pipe would hold up everybody.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::panic;
use std::ptr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

static LOGGED: AtomicBool = AtomicBool::new(false);

/// Has every panic logged as an error by the `log` facade, with the green thread (or thread), the fields of the request,
/// the place and, if `RUST_BACKTRACE` asks for it, the calls; and nothing of it written to standard error.
///
/// Does nothing, and says false, if the program has a panic hook of its own: that one stays.
pub fn log_panics() -> bool {
    let hook = panic::take_hook();
    // After the first call this is std's own. Neither has a size, so what is compared is whose code it is.
    #[allow(ambiguous_wide_pointer_comparisons)]
    let is_standard = ptr::eq(&*hook, &*panic::take_hook());
    if !is_standard {
        panic::set_hook(hook);
        return false;
    }
    greenlet::name_panics_on_stderr(false);
    panic::set_hook(Box::new(|info| {
        let payload = info.payload();
        let message = payload.downcast_ref::<&str>().copied();
        let message = message.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
        let message = message.unwrap_or("a value that is no text");
        let location = info.location().map(ToString::to_string).unwrap_or_default();
        let greenlet = greenlet::running();
        let who = match &greenlet {
            Some(greenlet) => format!("greenlet '{}'", greenlet.name()),
            None => format!("thread '{}'", thread::current().name().unwrap_or_default()),
        };
        let calls = Backtrace::capture();
        match calls.status() {
            BacktraceStatus::Captured => log::error!("{who} panicked at {location}: {message}\n{calls}"),
            _ => log::error!("{who} panicked at {location}: {message}"),
        }
        if greenlet.is_none() {
            // It may be the end of the program.
            log::logger().flush();
        }
    }));
    LOGGED.store(true, Ordering::Relaxed);
    true
}

/// Whether each panic was logged when it happened.
pub(crate) fn are_logged() -> bool {
    LOGGED.load(Ordering::Relaxed)
}
