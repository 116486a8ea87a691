//! Signs of life: a number in shared memory for each worker, the time at which its hub last turned.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::{MemfdFlags, memfd_create};
use rustix::io::{pread, pwrite};
use rustix::time::{ClockId, clock_gettime};

/// The numbers of all workers of a master. They lie in memory that has no name and that forked processes share.
///
/// A number is written and read as a whole by a system call, about once a second: what nobody maps nobody can damage.
#[derive(Debug, Clone)]
pub(super) struct Beats(Arc<OwnedFd>);

const SIZE: usize = size_of::<u64>();

impl Beats {
    pub(super) fn new() -> io::Result<Beats> {
        Ok(Beats(Arc::new(memfd_create("greenserve beats", MemfdFlags::CLOEXEC)?)))
    }

    /// The worker of this place lives.
    pub(super) fn beat(&self, place: usize) {
        // Fails only if there is no memory: then the worker looks dead, and the master can't know better.
        let _ = pwrite(&*self.0, &now().to_ne_bytes(), (place * SIZE) as u64);
    }

    /// For how long the worker of this place has given no sign.
    pub(super) fn silence(&self, place: usize) -> Duration {
        let mut last = [0; SIZE];
        match pread(&*self.0, &mut last, (place * SIZE) as u64) {
            Ok(SIZE) => Duration::from_millis(now().saturating_sub(u64::from_ne_bytes(last))),
            _ => Duration::ZERO,
        }
    }
}

/// The same clock for all processes.
fn now() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    let (seconds, nanoseconds) = (now.tv_sec.unsigned_abs(), now.tv_nsec.unsigned_abs());
    seconds * 1000 + nanoseconds / 1_000_000
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_begins_anew_with_each_sign() {
        let beats = Beats::new().unwrap();
        assert_eq!(beats.silence(3), Duration::ZERO, "nobody was there yet");
        beats.beat(3);
        assert!(beats.silence(2) > Duration::ZERO, "the place before was never written");
        std::thread::sleep(Duration::from_millis(30));
        let silence = beats.silence(3);
        assert!(silence >= Duration::from_millis(20), "{silence:?}");
        beats.clone().beat(3);
        assert!(beats.silence(3) < silence);
    }
}
