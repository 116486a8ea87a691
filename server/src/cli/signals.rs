//! Signals, as gunicorn answers them.

use std::io;
use std::thread;

use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM};
use signal_hook::iterator::Signals;
use signal_hook::low_level::signal_name;

/// What a signal asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stop {
    /// SIGTERM: requests in flight may finish.
    Graceful,
    /// SIGINT, SIGQUIT: at once.
    Quick,
    /// SIGINT or SIGQUIT again: now, whatever state things are in.
    Now,
}

/// Calls `stop` from a thread of its own for each signal that ends the program, and `reload`, if there is one, for SIGHUP. The
/// thread has to do with no hub, so it answers even if a handler blocks one.
///
/// # Errors
/// The handlers or the thread cannot be set up.
pub(super) fn answer(
    stop: impl Fn(Stop) + Send + 'static,
    reload: Option<impl Fn() + Send + 'static>,
) -> io::Result<()> {
    let mut signals = Signals::new([SIGTERM, SIGINT, SIGQUIT])?;
    if reload.is_some() {
        signals.add_signal(SIGHUP)?;
    }
    thread::Builder::new().name("signals".to_owned()).spawn(move || {
        let mut quick = false;
        for signal in signals.forever() {
            let name = signal_name(signal).unwrap_or_default().trim_start_matches("SIG").to_lowercase();
            log::info!("Handling signal: {name}");
            match signal {
                SIGHUP => reload.iter().for_each(|reload| reload()),
                SIGTERM => stop(Stop::Graceful),
                _ if quick => stop(Stop::Now),
                _ => {
                    quick = true;
                    stop(Stop::Quick);
                }
            }
        }
    })?;
    Ok(())
}
