//! Waiting for descriptors: poll, select and epoll.
//!
//! Each call first asks the kernel what there is without waiting, parks the greenlet until a descriptor may have something,
//! and asks again; so what it gives is what the kernel says, for descriptors of any kind. An epoll descriptor is itself one that
//! can be waited for: whole event loops can be guests, several of them on one thread, and several greenlets may wait at one of
//! them as several threads may.
//!
//! What differs from the plain calls while a greenlet is parked:
//! - A signal handler does not end the wait with `EINTR`, for it interrupts the hub and no greenlet. The forms with a signal mask
//!   are made for that and do end: a signal that the mask lets through, and that the thread otherwise holds back, is
//!   delivered in the call, which then fails with `EINTR`. What a mask holds back beyond the thread's own
//!   mask is not held back: the thread goes on running others.
//! - A descriptor that is closed on this thread while it alone is waited for is seen to be closed: `POLLNVAL` or `EBADF`. One of
//!   several is heard of no more. (Linux waits on for the file that it stood for.)
//! - A kill or the end of a timeout ends it with `ECANCELED`, once; `epoll_wait` and its like with `EINTR`, since event loops (tokio,
//!   libuv, libev) abort or panic for any other error, and look for what else they have to do after this one.
//! - `select` gives the descriptors' sets as they are when it ends, and of its timeout what is left, as Linux does.

mod epoll;
mod poll;
mod select;
mod signals;

use std::os::fd::RawFd;
use std::time::Duration;

use greenlet::foreign::{self, Deadline, Interest, Woken};
use libc::{c_int, sigset_t, timespec};

use crate::gate::Entered;
use signals::Signals;

pub use epoll::*;
pub use poll::*;
pub use select::*;

/// What the kernel takes for the size of its own sets of signals.
const SIGNALS: usize = 8;

/// The one way in which all of them wait: `ask` is the call with another timeout, `descriptors` what it is asked to wait for.
fn wait(
    call: Entered,
    interrupted: c_int,
    timeout: Option<Duration>,
    mask: Option<&sigset_t>,
    descriptors: impl FnOnce() -> List,
    mut ask: impl FnMut(Option<Duration>) -> isize,
) -> isize {
    let found = ask(Some(Duration::ZERO));
    if found != 0 || timeout == Some(Duration::ZERO) {
        foreign::count_call();
        return call.result(found);
    }
    let deadline = timeout.and_then(foreign::deadline);
    let mut descriptors = descriptors();
    let signals = mask.and_then(Signals::let_through_by);
    signals.iter().for_each(|signals| descriptors.push((signals.0, Interest::READ)));
    let mut in_vain = 0;
    loop {
        let woken = match park(descriptors.all(), deadline) {
            // It was closed: what that means is the kernel's to say.
            Err(error) if error.raw_os_error() == Some(libc::EBADF) => Woken::Event,
            // The kernel cannot watch them (too many descriptors, too deep a nest of epolls): look from time to time.
            Err(_) => nap(deadline, &mut in_vain),
            // Something stays ready that was not asked for, such as the end of a connection whose urgent data are waited for.
            Ok(Woken::Event) if in_vain > 16 => nap(deadline, &mut in_vain),
            Ok(woken) => woken,
        };
        let found = match woken {
            Woken::Event => ask(Some(Duration::ZERO)),
            Woken::Deadline => return call.result(ask(Some(Duration::ZERO))),
            Woken::Interrupted => return call.fail(interrupted),
            Woken::Refused => {
                let left = timeout.map(|timeout| deadline.map_or(timeout, Deadline::left));
                return call.result(ask(left));
            }
        };
        if found != 0 {
            return call.result(found);
        }
        in_vain += 1;
    }
}

fn park(descriptors: &[(RawFd, Interest)], deadline: Option<Deadline>) -> std::io::Result<Woken> {
    match *descriptors {
        [] => Ok(foreign::sleep(deadline)),
        [(fd, Interest::READ)] => foreign::wait_readable(fd, deadline),
        [(fd, Interest::WRITE)] => foreign::wait_writable(fd, deadline),
        _ => foreign::wait_any(descriptors, deadline),
    }
}

/// Parks for a moment, longer each time; its end is an `Event`, unless it is the `deadline`.
fn nap(deadline: Option<Deadline>, in_vain: &mut u32) -> Woken {
    *in_vain = (*in_vain).max(16) + 1;
    let moment = Duration::from_millis(1 << (*in_vain - 17).min(4));
    let last = deadline.is_some_and(|deadline| deadline.left() <= moment);
    match foreign::sleep(if last { deadline } else { foreign::deadline(moment) }) {
        Woken::Deadline if !last => Woken::Event,
        woken => woken,
    }
}

/// What is waited for; a few of them take no memory of their own.
#[derive(Default)]
struct List {
    few: [(RawFd, Interest); 4],
    count: usize,
    /// All of them, if they are more.
    many: Vec<(RawFd, Interest)>,
}

impl List {
    fn push(&mut self, one: (RawFd, Interest)) {
        match self.few.get_mut(self.count) {
            Some(place) => *place = one,
            None => {
                if self.many.is_empty() {
                    self.many.extend(self.few);
                }
                self.many.push(one);
            }
        }
        self.count += 1;
    }

    fn all(&self) -> &[(RawFd, Interest)] {
        if self.many.is_empty() { &self.few[..self.count] } else { &self.many }
    }
}

impl FromIterator<(RawFd, Interest)> for List {
    fn from_iter<I: IntoIterator<Item = (RawFd, Interest)>>(all: I) -> List {
        let mut list = List::default();
        all.into_iter().for_each(|one| list.push(one));
        list
    }
}

fn of_milliseconds(milliseconds: c_int) -> Option<Duration> {
    u64::try_from(milliseconds).ok().map(Duration::from_millis)
}

fn pointer(timeout: &Option<timespec>) -> *const timespec {
    timeout.as_ref().map_or(std::ptr::null(), std::ptr::from_ref)
}

fn mask_pointer(mask: Option<&sigset_t>) -> *const sigset_t {
    mask.map_or(std::ptr::null(), std::ptr::from_ref)
}
