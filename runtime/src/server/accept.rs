//! What to do when accepting fails.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

use socket2::SockRef;

/// What to do after a failed accept(2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AcceptFailure {
    /// Nobody is there (any more): go on.
    Nobody,
    /// That connection or the network had a problem: go on.
    Passing,
    /// Descriptors or memory are used up: wait before the next try.
    Exhausted,
    /// The listener is unusable.
    Fatal,
}

impl AcceptFailure {
    /// What an error of accept(2), or of receiving a datagram, calls for.
    pub fn of(error: &io::Error) -> AcceptFailure {
        match error.raw_os_error() {
            Some(libc::EAGAIN | libc::EINTR) => AcceptFailure::Nobody,
            Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM) => AcceptFailure::Exhausted,
            Some(libc::EBADF | libc::EINVAL | libc::ENOTSOCK | libc::EFAULT | libc::EOPNOTSUPP) => {
                AcceptFailure::Fatal
            }
            // ECONNABORTED, EPROTO, EPERM by a firewall, and the errors of the network that accept(2) passes on.
            Some(_) => AcceptFailure::Passing,
            None => AcceptFailure::Fatal,
        }
    }
}

/// Patience while descriptors are used up: 10 ms doubling to 1 s, as gevent's servers have it, and one log line per period of
/// want. When that has gone on for long, one waiting client per try is let in and sent away, by means of a descriptor held in
/// reserve for it.
#[derive(Debug)]
pub struct Backoff {
    delay: Duration,
    reserve: Option<File>,
}

impl Backoff {
    /// The first pause.
    pub const FIRST: Duration = Duration::from_millis(10);
    /// The longest pause.
    pub const LONGEST: Duration = Duration::from_secs(1);

    /// Patience that has not been tried. Opens the descriptor in reserve.
    pub fn new() -> Backoff {
        Backoff { delay: Duration::ZERO, reserve: spare() }
    }

    /// Accepting works.
    pub fn succeeded(&mut self) {
        if !self.delay.is_zero() {
            log::warn!("accepting connections again");
            self.delay = Duration::ZERO;
        }
    }

    /// Accepting failed for want of something ([`AcceptFailure::Exhausted`]); returns how long to wait. `listener` is a
    /// listening socket that does not block.
    pub fn failed(&mut self, listener: impl AsFd, error: &io::Error) -> Duration {
        if self.delay.is_zero() {
            log::warn!(
                "can't accept connections for now: {error}; raise the limit on open files or lower the pool's size"
            );
            self.delay = Self::FIRST;
        } else if self.delay < Self::LONGEST {
            self.delay = (self.delay * 2).min(Self::LONGEST);
        } else if self.reserve.take().is_some() {
            drop(SockRef::from(&listener).accept());
        }
        if self.reserve.is_none() {
            self.reserve = spare();
        }
        self.delay
    }
}

impl Default for Backoff {
    fn default() -> Backoff {
        Backoff::new()
    }
}

fn spare() -> Option<File> {
    File::open("/dev/null").ok()
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn accept_errors_by_what_can_be_done() {
        let of = |errno| AcceptFailure::of(&io::Error::from_raw_os_error(errno));
        assert_eq!(of(libc::EMFILE), AcceptFailure::Exhausted);
        assert_eq!(of(libc::ECONNABORTED), AcceptFailure::Passing);
        assert_eq!(of(libc::EAGAIN), AcceptFailure::Nobody);
        assert_eq!(of(libc::EBADF), AcceptFailure::Fatal);
    }

    #[test]
    fn backing_off_doubles_up_to_a_second_and_starts_anew() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let error = io::Error::from_raw_os_error(libc::EMFILE);
        let mut backoff = Backoff::new();
        let delays: Vec<_> = (0..9).map(|_| backoff.failed(&listener, &error).as_millis()).collect();
        assert_eq!(delays, [10, 20, 40, 80, 160, 320, 640, 1000, 1000]);
        backoff.succeeded();
        assert_eq!(backoff.failed(&listener, &error), Backoff::FIRST);
    }
}
