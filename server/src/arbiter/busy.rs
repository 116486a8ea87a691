//! How busy the thread is that serves: asked of the kernel once a second, so that serving pays nothing for it.

use std::fs;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

use crate::config::WorkerClass;

/// Measures from look to look.
pub(super) struct Busy {
    class: WorkerClass,
    last: Mutex<Option<Look>>,
}

#[derive(Clone, Copy)]
struct Look {
    at: Instant,
    /// How long it had worked then, or wanted to.
    worked: Duration,
}

impl Busy {
    pub(super) fn new(class: WorkerClass) -> Busy {
        Busy { class, last: Mutex::new(None) }
    }

    /// For which share of the time since the last look it has worked, or waited for a processor: 0 to 1. `every`: how long after
    /// the last look this one was due. To be called by the thread that serves.
    pub(super) fn look(&self, every: Duration) -> f64 {
        let now = Look { at: Instant::now(), worked: self.worked() };
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(last) = last.replace(now) else { return 0.0 };
        share(now.at - last.at, now.worked.saturating_sub(last.worked), every)
    }

    fn worked(&self) -> Duration {
        let clock = match self.class {
            WorkerClass::Green | WorkerClass::Sync => {
                if let Some(worked) =
                    fs::read_to_string("/proc/thread-self/schedstat").ok().as_deref().and_then(worked)
                {
                    return worked;
                }
                ClockId::ThreadCPUTime
            }
            // Many threads serve.
            WorkerClass::Threads => ClockId::ProcessCPUTime,
        };
        let time = clock_gettime(clock);
        Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec.unsigned_abs() as u32)
    }
}

/// Nanoseconds on a processor, and nanoseconds in which it waited for one: then others had it, and this one was busy all the same.
fn worked(schedstat: &str) -> Option<Duration> {
    let mut fields = schedstat.split_ascii_whitespace().map(str::parse::<u64>);
    let (ran, waited) = (fields.next()?.ok()?, fields.next()?.ok()?);
    Some(Duration::from_nanos(ran.saturating_add(waited)))
}

/// A look that comes late was held up by somebody, who may have blocked the thread without any work.
fn share(passed: Duration, worked: Duration, every: Duration) -> f64 {
    let busy = worked.max(passed.saturating_sub(every));
    (busy.as_secs_f64() / passed.as_secs_f64().max(f64::EPSILON)).min(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_and_waiting_for_a_processor_count_and_so_does_a_late_look() {
        let share = |passed, worked| {
            share(Duration::from_millis(passed), Duration::from_millis(worked), Duration::from_secs(1))
        };
        assert_eq!(share(1000, 250), 0.25);
        assert_eq!(share(1000, 1200), 1.0);
        assert_eq!(share(4000, 0), 0.75);
        assert_eq!(share(0, 0), 0.0);
    }

    #[test]
    fn the_kernels_line_is_read() {
        assert_eq!(worked("1500 500 7\n"), Some(Duration::from_nanos(2000)));
        assert_eq!(worked(""), None);
    }

    #[test]
    fn a_thread_that_computes_is_busy_and_one_that_sleeps_is_not() {
        let busy = Busy::new(WorkerClass::Green);
        busy.look(Duration::from_secs(1));
        let end = Instant::now() + Duration::from_millis(200);
        while Instant::now() < end {
            std::hint::black_box(());
        }
        let computed = busy.look(Duration::from_secs(1));
        std::thread::sleep(Duration::from_millis(200));
        assert!(computed > busy.look(Duration::from_secs(1)));
    }
}
