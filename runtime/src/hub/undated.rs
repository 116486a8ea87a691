//! Deadlines that are asked for late: how long a program wants to wait for a socket that is not our own is known to the kernel
//! alone (`SO_RCVTIMEO`), may be changed by anybody, and matters only to a wait that lasts. So it is not asked when the wait
//! begins, but before the thread sleeps, and where others keep it busy some milliseconds later. From then on the time counts: the
//! wait ends so much later and never earlier. (The kernel counts in steps of up to ten milliseconds itself.)

use std::cell::{Cell, RefCell};
use std::os::fd::{BorrowedFd, RawFd};
use std::time::Duration;

use rustix::net::sockopt;

use super::Hub;
use super::clock::Moment;
use super::io::{Registration, Waiter};

/// A wait that has lasted so long is asked about even if the hub is busy, in milliseconds.
const LASTS: u32 = 4;

/// How a descriptor stands to the list.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Dating {
    #[default]
    Unlisted,
    /// The wait for which it came into it is over.
    Listed,
    /// The reader's deadline is yet to be asked for.
    Due,
}

/// The descriptors of which the present wait, or an earlier one, began without a deadline.
#[derive(Default)]
pub(super) struct Undated {
    list: RefCell<Vec<Registration>>,
    /// When the busy hub went through the list, in milliseconds.
    looked: Cell<u32>,
}

/// How long a call on a socket may wait to receive; `None` for ever, and if it is no socket.
pub(super) fn receive_timeout(fd: RawFd) -> Option<Duration> {
    // SAFETY: the number is only handed to the kernel, which says if it stands for nothing.
    let fd = unsafe { BorrowedFd::borrow_raw(fd) };
    sockopt::socket_timeout(fd, sockopt::Timeout::Recv).ok().flatten()
}

impl Hub {
    /// The greenlet that is about to be parked as this descriptor's reader does not know yet for how long.
    #[inline]
    pub(super) fn begin_undated(&self, registration: Registration) {
        let mut io = self.io.borrow_mut();
        let Some(slot) = io.get(registration) else { return };
        slot.deadline = Moment::NEVER;
        if std::mem::replace(&mut slot.dating, Dating::Due) == Dating::Unlisted {
            self.undated.list.borrow_mut().push(registration);
        }
    }

    /// It runs again; whether its deadline has ended the wait. What arrived in the same moment is taken.
    #[inline]
    pub(super) fn end_undated(&self, registration: Registration) -> bool {
        let mut io = self.io.borrow_mut();
        let Some(slot) = io.get(registration) else { return false };
        if slot.dating == Dating::Due {
            slot.dating = Dating::Listed;
        }
        let deadline = std::mem::replace(&mut slot.deadline, Moment::NEVER);
        deadline == Moment::PAST && !slot.readable
    }

    #[inline]
    pub(super) fn has_undated(&self) -> bool {
        !self.undated.list.borrow().is_empty()
    }

    /// Others are ready: asks about those who have waited for some time nevertheless.
    #[inline]
    pub(super) fn date_old(&self, now: Moment) {
        if self.has_undated() && (now.millis() as u32).wrapping_sub(self.undated.looked.get()) >= LASTS {
            self.undated.looked.set(now.millis() as u32);
            self.date(now, LASTS);
        }
    }

    /// Nobody is ready: asks about all.
    pub(super) fn date_all(&self) {
        self.date(self.clock.now(), 0);
    }

    fn date(&self, now: Moment, lasts: u32) {
        let millis = now.millis() as u32;
        self.undated.list.borrow_mut().retain(|registration| {
            let mut io = self.io.borrow_mut();
            let Some(slot) = io.get(*registration) else { return false };
            match &slot.reader {
                Some(Waiter::Parked(core)) if slot.dating == Dating::Due => {
                    if millis.wrapping_sub(core.parked_at.get()) < lasts {
                        return true;
                    }
                    let fd = slot.fd;
                    slot.dating = Dating::Unlisted;
                    drop(io);
                    if let Some(after) = receive_timeout(fd) {
                        self.set_deadline(*registration, now.plus(after));
                    }
                }
                _ => slot.dating = Dating::Unlisted,
            }
            false
        });
    }
}
