//! The signals of a process that has no hub: queued by their handlers, looked at when there is time.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;

use signal_hook::consts::signal::{
    SIGABRT, SIGCHLD, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGTTIN, SIGTTOU, SIGUSR1, SIGUSR2, SIGWINCH,
};
use signal_hook::iterator::backend::SignalDelivery;
use signal_hook::iterator::exfiltrator::raw::WithRawSiginfo;
use signal_hook::low_level::signal_name;

/// What a master answers, as gunicorn's does.
pub(super) const MASTER: &[i32] =
    &[SIGCHLD, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGTTIN, SIGTTOU, SIGUSR1, SIGUSR2, SIGWINCH];
/// What a worker answers. The others are the master's affair: a terminal sends them to all of its processes.
pub(super) const WORKER: &[i32] =
    &[SIGABRT, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGTTIN, SIGTTOU, SIGUSR1, SIGUSR2, SIGWINCH];

/// Signals that have arrived, in their order. Until it is dropped they do nothing else to the process.
pub(super) struct Signals(SignalDelivery<UnixStream, WithRawSiginfo>);

impl Signals {
    pub(super) fn new(signals: &[i32]) -> io::Result<Signals> {
        let (read, write) = UnixStream::pair()?;
        read.set_nonblocking(true)?;
        write.set_nonblocking(true)?;
        SignalDelivery::with_pipe(read, write, WithRawSiginfo, signals).map(Signals)
    }

    /// What has arrived. Does not wait; the descriptor becomes readable when there is something.
    pub(super) fn take(&mut self) -> Vec<i32> {
        self.0.pending().map(|info| info.si_signo).collect()
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.get_read().as_fd()
    }
}

/// `term` for SIGTERM: as gunicorn's log has it.
pub(super) fn name(signal: i32) -> String {
    signal_name(signal)
        .map_or_else(|| signal.to_string(), |name| name.trim_start_matches("SIG").to_lowercase())
}
