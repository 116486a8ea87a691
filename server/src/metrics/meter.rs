//! What a worker counts with: its row of the board, and StatsD if somebody listens to that.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use ::http::StatusCode;
use rustix::time::{ClockId, clock_gettime};

use super::board::{BOUNDS, Board, State, column};
use super::statsd::Statsd;
use crate::log::take_logged;

/// Counts for one worker, from all of its threads. Clones count together.
#[derive(Clone)]
pub(crate) struct Meter {
    board: Board,
    place: usize,
    statsd: Option<Arc<Statsd>>,
    /// Of each hub.
    recent: Arc<[Recent]>,
}

/// What the last pulses of a hub have seen. Only who has that pulse writes it.
#[derive(Default)]
struct Recent {
    /// Microseconds since the meter began, at the last pulse; how long the hub had been idle by then.
    at: AtomicU64,
    idle: AtomicU64,
    /// The longest stalls of this minute and of the one before, and when this one began.
    this: AtomicU64,
    before: AtomicU64,
    since: AtomicU64,
    /// The longest stall of both minutes, and how busy it was at last, in millionths.
    stall: AtomicU64,
    share: AtomicU64,
}

/// A request that is being counted, from its head on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Begun(Instant);

/// How the hub fares, where there is one.
#[derive(Debug, Clone, Copy)]
pub(crate) struct HubLoad {
    pub(crate) idle: Duration,
    pub(crate) longest_stall: Duration,
}

impl Meter {
    pub(crate) fn new(board: Board, place: usize, statsd: Option<Statsd>) -> Meter {
        Meter { board, place, statsd: statsd.map(Arc::new), recent: Arc::new([Recent::default()]) }
    }

    /// For so many hubs, each of which is noted by itself.
    pub(crate) fn of_hubs(self, count: usize) -> Meter {
        Meter { recent: (0..count).map(|_| Recent::default()).collect(), ..self }
    }

    pub(crate) fn board(&self) -> &Board {
        &self.board
    }

    #[inline]
    fn row(&self) -> &[AtomicU64] {
        self.board.row(self.place)
    }

    #[inline]
    fn add(&self, column: usize, number: u64) {
        self.row()[column].fetch_add(number, Ordering::Relaxed);
    }

    /// A connection was accepted.
    pub(crate) fn opened(&self) {
        self.add(column::ACCEPTED, 1);
        self.add(column::CONNECTIONS, 1);
    }

    /// A connection has ended.
    pub(crate) fn closed(&self) {
        self.row()[column::CONNECTIONS].fetch_sub(1, Ordering::Relaxed);
    }

    /// A connection's green thread, or thread, has begun, so long after it was accepted.
    pub(crate) fn waited(&self, accepted: Instant) {
        self.add(column::QUEUED, 1);
        self.add(column::QUEUE_TIME, micros(accepted.elapsed()));
    }

    /// A request's head has come.
    #[inline]
    pub(crate) fn begin(&self) -> Begun {
        self.add(column::UNDER_WAY, 1);
        Begun(Instant::now())
    }

    /// A request has been answered, with so many bytes of body.
    #[inline]
    pub(crate) fn end(&self, begun: Begun, status: StatusCode, bytes: u64) {
        let took = begun.0.elapsed();
        let row = self.row();
        row[column::UNDER_WAY].fetch_sub(1, Ordering::Relaxed);
        self.answered(status, bytes);
        // A connection that has left HTTP may have lived for days: that is no duration of a request.
        if status != StatusCode::SWITCHING_PROTOCOLS {
            let took = micros(took);
            row[column::BUCKET + bucket(took)].fetch_add(1, Ordering::Relaxed);
            row[column::DURATION].fetch_add(took, Ordering::Relaxed);
        }
        if let Some(statsd) = &self.statsd {
            statsd.request(status, took);
        }
    }

    /// Something was refused that was no request, or none that may be served.
    #[cold]
    pub(crate) fn refused(&self, status: StatusCode, bytes: u64) {
        self.answered(status, bytes);
        if let Some(statsd) = &self.statsd {
            statsd.refusal(status);
        }
    }

    #[inline]
    fn answered(&self, status: StatusCode, bytes: u64) {
        let class = usize::from(status.as_u16() / 100).clamp(1, 5) - 1;
        let row = self.row();
        row[column::REQUESTS].fetch_add(1, Ordering::Relaxed);
        row[column::CLASSES + class].fetch_add(1, Ordering::Relaxed);
        row[column::BYTES].fetch_add(bytes, Ordering::Relaxed);
    }

    /// A handler has panicked or failed.
    #[cold]
    pub(crate) fn exception(&self) {
        self.add(column::EXCEPTIONS, 1);
        if let Some(statsd) = &self.statsd {
            statsd.exception();
        }
    }

    /// The server, or one hub of it, accepts from now on, so many connections at a time.
    pub(crate) fn accepts(&self, limit: usize) {
        let row = self.row();
        row[column::PID].store(std::process::id().into(), Ordering::Relaxed);
        row[column::LIMIT].fetch_add(limit as u64, Ordering::Relaxed);
        self.board.set_state(self.place, State::Ready);
    }

    /// It finishes what it has begun.
    pub(crate) fn stops(&self) {
        self.board.set_state(self.place, State::Stopping);
    }

    /// Whether it wants more requests, for now.
    pub(crate) fn is_ready(&self, ready: bool) {
        self.board.set_state(self.place, if ready { State::Ready } else { State::Stopping });
    }

    /// Called about every second by who serves, to note what nobody counts in between, and to send what is to be sent.
    pub(crate) fn turns(&self) {
        self.board.beat(self.place);
        let row = self.row();
        let cpu = clock_gettime(ClockId::ProcessCPUTime);
        let cpu = cpu.tv_sec.unsigned_abs() * 1_000_000 + cpu.tv_nsec.unsigned_abs() / 1000;
        row[column::CPU].store(cpu, Ordering::Relaxed);
        row[column::MEMORY].store(resident().unwrap_or(0), Ordering::Relaxed);
        let (errors, warnings) = take_logged();
        self.add(column::ERRORS, errors);
        self.add(column::WARNINGS, warnings);
        if let Some(statsd) = &self.statsd {
            statsd.logged(errors, warnings);
            statsd.flush();
            row[column::DROPPED].store(statsd.dropped(), Ordering::Relaxed);
        }
    }

    /// Called about every second in each hub: how that one fares. The worker's share is the hubs' average, its stall the longest.
    pub(crate) fn note(&self, index: usize, hub: HubLoad) {
        let row = self.row();
        let Some(recent) = self.recent.get(index) else { return };
        let clock = clock_gettime(ClockId::Monotonic);
        let now = clock.tv_sec.unsigned_abs() * 1_000_000 + clock.tv_nsec.unsigned_abs() / 1000;
        let idle = micros(hub.idle);
        let (at, was_idle) =
            (recent.at.swap(now, Ordering::Relaxed), recent.idle.swap(idle, Ordering::Relaxed));
        let mut stall = micros(hub.longest_stall);
        if at == 0 {
            // What was before the server began is none of its own.
            stall = 0;
            recent.since.store(now, Ordering::Relaxed);
        } else {
            let (passed, slept) = (now.saturating_sub(at), idle.saturating_sub(was_idle));
            let busy = passed.saturating_sub(slept);
            self.add(column::BUSY, busy);
            let share = (busy * 1_000_000).checked_div(passed).unwrap_or(0);
            recent.share.store(share, Ordering::Relaxed);
            let sum: u64 = self.recent.iter().map(|hub| hub.share.load(Ordering::Relaxed)).sum();
            row[column::BUSY_SHARE].store(sum / self.recent.len() as u64, Ordering::Relaxed);
        }
        if now.saturating_sub(recent.since.load(Ordering::Relaxed)) >= MINUTE {
            recent.since.store(now, Ordering::Relaxed);
            let this = recent.this.swap(0, Ordering::Relaxed);
            recent.before.store(this, Ordering::Relaxed);
        }
        let this = recent.this.fetch_max(stall, Ordering::Relaxed).max(stall);
        recent.stall.store(this.max(recent.before.load(Ordering::Relaxed)), Ordering::Relaxed);
        let longest = self.recent.iter().map(|hub| hub.stall.load(Ordering::Relaxed)).max();
        row[column::STALL].store(longest.unwrap_or(0), Ordering::Relaxed);
    }
}

/// In microseconds.
const MINUTE: u64 = 60_000_000;

fn micros(time: Duration) -> u64 {
    time.as_secs() * 1_000_000 + u64::from(time.subsec_micros())
}

/// In which bucket a duration falls, whose upper bound belongs to it.
#[inline]
fn bucket(micros: u64) -> usize {
    BOUNDS.iter().filter(|bound| micros > **bound).count()
}

/// How much memory of this process is resident, in bytes.
fn resident() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = text.split(' ').nth(1)?.parse().ok()?;
    Some(pages * rustix::param::page_size() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::board::BUCKETS;

    fn meter() -> (Board, Meter) {
        let board = Board::new().unwrap();
        let place = board.begin(1).unwrap();
        (board.clone(), Meter::new(board, place, None))
    }

    #[test]
    fn a_duration_is_in_the_bucket_whose_bound_it_does_not_exceed() {
        assert_eq!((bucket(0), bucket(100), bucket(101), bucket(250)), (0, 0, 1, 1));
        assert_eq!((bucket(10_000_000), bucket(10_000_001), bucket(u64::MAX)), (15, 16, 16));
        assert_eq!(BUCKETS, 17);
    }

    #[test]
    fn a_request_is_counted_once_by_class_and_bytes() {
        let (board, meter) = meter();
        let begun = meter.begin();
        assert_eq!(board.look().rows[0][column::UNDER_WAY], 1);
        meter.end(begun, StatusCode::NOT_FOUND, 12);
        meter.refused(StatusCode::BAD_REQUEST, 3);
        let row = board.look().rows[0];
        assert_eq!((row[column::UNDER_WAY], row[column::REQUESTS], row[column::BYTES]), (0, 2, 15));
        assert_eq!(row[column::CLASSES..column::CLASSES + 5], [0, 0, 0, 2, 0]);
        assert_eq!(row[column::BUCKET..column::BUCKET + BUCKETS].iter().sum::<u64>(), 1);
    }

    #[test]
    fn a_pulse_notes_memory_time_and_how_busy_the_hub_was() {
        let (board, meter) = meter();
        let load = |idle, stall| {
            let (idle, longest_stall) = (Duration::from_micros(idle), Duration::from_millis(stall));
            HubLoad { idle, longest_stall }
        };
        meter.turns();
        meter.note(0, load(0, 9000));
        assert_eq!(board.look().rows[0][column::STALL], 0, "from before it served");
        std::thread::sleep(Duration::from_millis(20));
        meter.note(0, load(5_000, 7));
        meter.note(0, load(5_000, 3));
        let row = board.look().rows[0];
        assert!(row[column::MEMORY] > 100_000 && row[column::CPU] > 0);
        assert!(row[column::BUSY] >= 15_000, "{}", row[column::BUSY]);
        assert_eq!(row[column::STALL], 7_000);
    }

    #[test]
    fn of_several_hubs_the_average_share_and_the_longest_stall_are_the_workers() {
        let (board, meter) = meter();
        let meter = meter.of_hubs(2);
        let load = |idle, stall| HubLoad { idle, longest_stall: Duration::from_millis(stall) };
        (0..2).for_each(|hub| meter.note(hub, load(Duration::ZERO, 0)));
        std::thread::sleep(Duration::from_millis(20));
        // One has not slept at all, and one the whole time.
        meter.note(0, load(Duration::ZERO, 9));
        meter.note(1, load(Duration::from_secs(60), 4));
        let row = board.look().rows[0];
        assert_eq!((row[column::BUSY_SHARE], row[column::STALL]), (500_000, 9_000));
        meter.accepts(3);
        meter.accepts(2);
        assert_eq!(board.look().rows[0][column::LIMIT], 5);
    }
}
