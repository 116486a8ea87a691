//! Signs of life: two numbers in shared memory for each worker, the time at which its hub last turned, and how busy it is.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::{MemfdFlags, memfd_create};
use rustix::io::{pread, pwrite};
use rustix::time::{ClockId, clock_gettime};

/// The numbers of all workers of a master. They lie in memory that has no name and that forked processes share.
///
/// Both are written and read as a whole by a system call, about once a second: what nobody maps nobody can damage.
#[derive(Debug, Clone)]
pub(super) struct Beats(Arc<OwnedFd>);

const SIZE: usize = size_of::<[u64; 2]>();
/// So much is all the time.
const WHOLE: f64 = 1000.0;

impl Beats {
    pub(super) fn new() -> io::Result<Beats> {
        Ok(Beats(Arc::new(memfd_create("greenserve beats", MemfdFlags::CLOEXEC)?)))
    }

    /// The worker of this place lives, and has been busy for this share of the last time.
    pub(super) fn beat(&self, place: usize, busy: f64) {
        // Fails only if there is no memory: then the worker looks dead, and the master can't know better.
        let both = [now().to_ne_bytes(), ((busy * WHOLE) as u64).to_ne_bytes()];
        let _ = pwrite(&*self.0, both.as_flattened(), (place * SIZE) as u64);
    }

    /// For how long the worker of this place has given no sign.
    pub(super) fn silence(&self, place: usize) -> Duration {
        let last = self.read(place);
        last.map_or(Duration::ZERO, |[last, _]| Duration::from_millis(now().saturating_sub(last)))
    }

    /// For which share of the last time the worker of this place was busy.
    pub(super) fn busy(&self, place: usize) -> f64 {
        self.read(place).map_or(0.0, |[_, busy]| busy as f64 / WHOLE)
    }

    fn read(&self, place: usize) -> Option<[u64; 2]> {
        let mut both = [[0; 8]; 2];
        match pread(&*self.0, both.as_flattened_mut(), (place * SIZE) as u64) {
            Ok(SIZE) => Some(both.map(u64::from_ne_bytes)),
            _ => None,
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
        beats.beat(3, 0.25);
        assert_eq!(beats.busy(3), 0.25);
        assert!(beats.silence(2) > Duration::ZERO, "the place before was never written");
        std::thread::sleep(Duration::from_millis(30));
        let silence = beats.silence(3);
        assert!(silence >= Duration::from_millis(20), "{silence:?}");
        beats.clone().beat(3, 0.0);
        assert!(beats.silence(3) < silence);
    }
}
