//! How busy the thread is that serves: asked of the kernel once a second, so that serving pays nothing for it.

use std::fs;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::process::Pid;
use rustix::thread::gettid;
use rustix::time::{ClockId, clock_gettime};

use crate::config::WorkerClass;

/// Measures from look to look.
pub(super) struct Busy {
    class: WorkerClass,
    /// The threads of a process with several hubs. Empty: the one that looks.
    hubs: Mutex<Vec<Pid>>,
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
        Busy { class, hubs: Mutex::default(), last: Mutex::new(None) }
    }

    /// The calling thread is one of several that have a hub.
    pub(super) fn joins(&self) {
        self.hubs().push(gettid());
    }

    fn hubs(&self) -> MutexGuard<'_, Vec<Pid>> {
        self.hubs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// For which share of the time since the last look it has worked, or waited for a processor: 0 to 1. `every`: how long after
    /// the last look this one was due. To be called by a thread that serves; of several hubs it is the average.
    pub(super) fn look(&self, every: Duration) -> f64 {
        let now = Look { at: Instant::now(), worked: self.worked() };
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(last) = last.replace(now) else { return 0.0 };
        share(now.at - last.at, now.worked.saturating_sub(last.worked), every)
    }

    fn worked(&self) -> Duration {
        let hubs = self.hubs();
        if let Some(count) = u32::try_from(hubs.len()).ok().filter(|count| *count > 0) {
            let of = |hub: &Pid| {
                let path = format!("/proc/self/task/{}/schedstat", hub.as_raw_nonzero());
                fs::read_to_string(path).ok().as_deref().and_then(worked)
            };
            let all: Option<Duration> = hubs.iter().map(of).sum();
            return all.unwrap_or_else(|| clock(ClockId::ProcessCPUTime)) / count;
        }
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
        self::clock(clock)
    }
}

fn clock(id: ClockId) -> Duration {
    let time = clock_gettime(id);
    Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec.unsigned_abs() as u32)
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
    use std::sync::{Arc, Barrier};

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

    #[test]
    fn of_two_hubs_of_which_one_computes_the_average_is_less_than_that_one() {
        let (one, both) = (Arc::new(Busy::new(WorkerClass::Green)), Arc::new(Busy::new(WorkerClass::Green)));
        let barrier = Arc::new(Barrier::new(3));
        let hub = |computes: bool| {
            let (one, both, barrier) = (Arc::clone(&one), Arc::clone(&both), Arc::clone(&barrier));
            std::thread::spawn(move || {
                both.joins();
                if computes {
                    one.joins();
                }
                barrier.wait();
                let end = Instant::now() + Duration::from_millis(200);
                while computes && Instant::now() < end {
                    std::hint::black_box(());
                }
                // There is nothing to be read of a thread that has ended.
                barrier.wait();
                barrier.wait();
            })
        };
        let hubs = [hub(true), hub(false)];
        barrier.wait();
        let before = (one.worked(), both.worked());
        barrier.wait();
        let (one, both) = (one.worked() - before.0, both.worked() - before.1);
        barrier.wait();
        hubs.into_iter().for_each(|hub| hub.join().unwrap());
        assert!(Duration::ZERO < both && both < one, "{both:?} {one:?}");
    }
}
