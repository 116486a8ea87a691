//! The scoreboard: a row of numbers for each worker, in memory that master and workers share.
//!
//! A row has one writer at a time but for its counters, to which all threads of its worker add. Only the master gives rows away and
//! takes them back: then the counters of the worker that has gone are added to a row of their own, so that no sum ever falls. A
//! count of such changes lets who reads see that one came in between.

use std::fmt;
use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use greenlet::shm::Numbers;
use rustix::time::{ClockId, clock_gettime};

/// So many numbers are a row: eight cache lines.
const ROW: usize = 64;
/// More workers at a time than any setting asks for, those that are leaving included.
const PLACES: usize = 8192;
/// A row for the board itself, and one for the workers that have gone.
const RESERVED: usize = 2;

/// So much load is all the time.
const WHOLE: f64 = 1000.0;

/// The upper bounds of the histogram's buckets but the last, in microseconds.
pub(super) const BOUNDS: [u64; 16] = [
    100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000,
    2_500_000, 5_000_000, 10_000_000,
];
/// Beyond the last bound there is one bucket more.
pub(super) const BUCKETS: usize = BOUNDS.len() + 1;

/// The columns of a row. What belongs to a worker as it is now comes first and is forgotten with it.
pub(super) mod column {
    use super::BUCKETS;

    /// Which worker it is; 0: nobody's row.
    pub(in crate::metrics) const AGE: usize = 0;
    pub(in crate::metrics) const PID: usize = 1;
    /// A [`State`](super::State) as a number.
    pub(in crate::metrics) const STATE: usize = 2;
    /// Milliseconds since 1970.
    pub(in crate::metrics) const STARTED: usize = 3;
    /// The last sign of life, in milliseconds of the monotonic clock.
    pub(in crate::metrics) const BEAT: usize = 4;
    /// Resident memory, in bytes.
    pub(in crate::metrics) const MEMORY: usize = 5;
    /// How many connections it takes at a time.
    pub(in crate::metrics) const LIMIT: usize = 6;
    /// How busy it is as the master wants to know it to have more or fewer workers, in thousandths.
    pub(in crate::metrics) const LOAD: usize = 7;
    /// Of the last second or so, in millionths.
    pub(in crate::metrics) const BUSY_SHARE: usize = 8;
    /// The longest time for which the hub looked at no descriptor, in microseconds.
    pub(in crate::metrics) const STALL: usize = 9;
    pub(in crate::metrics) const CONNECTIONS: usize = 16;
    pub(in crate::metrics) const UNDER_WAY: usize = 17;

    /// From here on they are counters, which stay in the sums.
    pub(in crate::metrics) const REQUESTS: usize = 18;
    pub(in crate::metrics) const BYTES: usize = 19;
    pub(in crate::metrics) const ACCEPTED: usize = 20;
    pub(in crate::metrics) const EXCEPTIONS: usize = 21;
    /// All durations together, in microseconds.
    pub(in crate::metrics) const DURATION: usize = 22;
    /// Five, 1xx to 5xx.
    pub(in crate::metrics) const CLASSES: usize = 24;
    pub(in crate::metrics) const QUEUED: usize = 29;
    /// All times in the queue together, in microseconds.
    pub(in crate::metrics) const QUEUE_TIME: usize = 30;
    /// In microseconds.
    pub(in crate::metrics) const BUSY: usize = 32;
    /// Processor time, in microseconds.
    pub(in crate::metrics) const CPU: usize = 33;
    pub(in crate::metrics) const ERRORS: usize = 34;
    pub(in crate::metrics) const WARNINGS: usize = 35;
    /// Datagrams of StatsD that could not be sent.
    pub(in crate::metrics) const DROPPED: usize = 36;
    /// As many as there are [`BUCKETS`], each for itself.
    pub(in crate::metrics) const BUCKET: usize = 40;
    const _: () = assert!(BUCKET + BUCKETS <= super::ROW, "a row has a place for each bucket");
}

/// The counters.
const COUNTERS: Range<usize> = column::REQUESTS..ROW;

/// The columns of the board's own row.
const CHANGES: usize = 0;
/// How many rows have ever been used.
const USED: usize = 1;
const STARTS: usize = 2;
const LOSSES: usize = 3;
/// When the board was made, in milliseconds since 1970.
const BOOT: usize = 4;

/// What a worker is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    Starting,
    /// It accepts.
    Ready,
    /// It finishes what it has begun.
    Stopping,
}

impl State {
    pub(super) const ALL: [State; 3] = [State::Starting, State::Ready, State::Stopping];

    fn of(number: u64) -> State {
        match number {
            2 => State::Ready,
            3 => State::Stopping,
            _ => State::Starting,
        }
    }

    fn number(self) -> u64 {
        match self {
            State::Starting => 1,
            State::Ready => 2,
            State::Stopping => 3,
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            State::Starting => "starting",
            State::Ready => "ready",
            State::Stopping => "stopping",
        }
    }
}

/// The table. Clones are the same one, in forked processes, too.
#[derive(Clone)]
pub(crate) struct Board(Arc<Numbers>);

/// A copy of a row.
pub(super) type Numbered = [u64; ROW];

impl Board {
    /// An empty one, shared with the processes that are forked from now on. Rows take memory as they are used.
    pub(crate) fn new() -> io::Result<Board> {
        let board = Board(Arc::new(Numbers::new((PLACES + RESERVED) * ROW)?));
        board.own()[BOOT].store(wall_millis(), Ordering::Relaxed);
        Ok(board)
    }

    fn own(&self) -> &[AtomicU64] {
        &self.0[..ROW]
    }

    fn gone(&self) -> &[AtomicU64] {
        &self.0[ROW..2 * ROW]
    }

    /// The row of this place; there are so many that one is missing for nobody who got it by [`Board::begin`].
    #[inline]
    pub(super) fn row(&self, place: usize) -> &[AtomicU64] {
        let start = (place + RESERVED) * ROW;
        &self.0[start..start + ROW]
    }

    /// In the master: a free row is that of the worker of this age from now on, and its life begins.
    ///
    /// # Errors
    /// There is no free row.
    pub(crate) fn begin(&self, age: u64) -> io::Result<usize> {
        let free = |place: &usize| self.row(*place)[column::AGE].load(Ordering::Relaxed) == 0;
        let full = || io::Error::other(format!("there are {PLACES} workers already"));
        let place = (0..PLACES).find(free).ok_or_else(full)?;
        self.change(|| {
            let row = self.row(place);
            row[column::STARTED].store(wall_millis(), Ordering::Relaxed);
            row[column::STATE].store(State::Starting.number(), Ordering::Relaxed);
            row[column::AGE].store(age, Ordering::Relaxed);
            self.own()[USED].fetch_max(place as u64 + 1, Ordering::Relaxed);
            self.own()[STARTS].fetch_add(1, Ordering::Relaxed);
        });
        self.beat(place);
        Ok(place)
    }

    /// In the master: the worker has gone, unexpectedly or not. What it has counted stays in the sums.
    pub(crate) fn end(&self, place: usize, is_lost: bool) {
        self.change(|| {
            let (row, gone) = (self.row(place), self.gone());
            for column in COUNTERS {
                gone[column].fetch_add(row[column].load(Ordering::Relaxed), Ordering::Relaxed);
            }
            row.iter().for_each(|number| number.store(0, Ordering::Relaxed));
            self.own()[LOSSES].fetch_add(u64::from(is_lost), Ordering::Relaxed);
        });
    }

    fn change(&self, change: impl FnOnce()) {
        let changes = &self.own()[CHANGES];
        changes.fetch_add(1, Ordering::SeqCst);
        change();
        changes.fetch_add(1, Ordering::SeqCst);
    }

    /// In the master: it has logged so many messages itself.
    pub(crate) fn logged(&self, errors: u64, warnings: u64) {
        self.gone()[column::ERRORS].fetch_add(errors, Ordering::Relaxed);
        self.gone()[column::WARNINGS].fetch_add(warnings, Ordering::Relaxed);
    }

    /// The worker of this place lives.
    pub(crate) fn beat(&self, place: usize) {
        self.row(place)[column::BEAT].store(monotonic_millis(), Ordering::Relaxed);
    }

    /// For how long the worker of this place has given no sign of life.
    pub(crate) fn silence(&self, place: usize) -> Duration {
        silence(self.row(place)[column::BEAT].load(Ordering::Relaxed))
    }

    /// The worker of this place has been busy for this share of the last time.
    pub(crate) fn set_load(&self, place: usize, busy: f64) {
        self.row(place)[column::LOAD].store((busy * WHOLE) as u64, Ordering::Relaxed);
    }

    /// See [`Board::set_load`]; 0 if nobody has said.
    pub(crate) fn load(&self, place: usize) -> f64 {
        self.row(place)[column::LOAD].load(Ordering::Relaxed) as f64 / WHOLE
    }

    pub(crate) fn set_state(&self, place: usize, state: State) {
        self.row(place)[column::STATE].store(state.number(), Ordering::Relaxed);
    }

    /// What the worker of this place has done, as far as it counts.
    pub(crate) fn done(&self, place: usize) -> Done {
        Done::of(|column| self.row(place)[column].load(Ordering::Relaxed))
    }

    /// What all workers have done, those that have gone included.
    pub(crate) fn all_done(&self) -> Done {
        let look = self.look();
        let gone = |column| if COUNTERS.contains(&column) { look.gone[column] } else { 0 };
        Done::of(|column| look.rows.iter().fold(gone(column), |sum, row| sum.wrapping_add(row[column])))
    }

    /// All rows that are somebody's, that of those who have gone, and the board's own, as they are between two changes.
    pub(super) fn look(&self) -> Look {
        let changes = &self.own()[CHANGES];
        // A master that was killed in the midst of a change leaves it half done for ever: then that is what there is to see.
        let mut attempts = 1000;
        loop {
            let before = changes.load(Ordering::SeqCst);
            let look = self.look_once();
            // Nothing read above may be from after this.
            std::sync::atomic::fence(Ordering::SeqCst);
            attempts -= 1;
            if attempts == 0 || (before.is_multiple_of(2) && changes.load(Ordering::SeqCst) == before) {
                return look;
            }
            std::thread::yield_now();
        }
    }

    fn look_once(&self) -> Look {
        let copy = |row: &[AtomicU64]| std::array::from_fn(|column| row[column].load(Ordering::Relaxed));
        let own = self.own();
        let used = usize::try_from(own[USED].load(Ordering::Relaxed)).unwrap_or(PLACES).min(PLACES);
        let rows = (0..used).map(|place| copy(self.row(place)));
        Look {
            rows: rows.filter(|row: &Numbered| row[column::AGE] != 0).collect(),
            gone: copy(self.gone()),
            starts: own[STARTS].load(Ordering::Relaxed),
            losses: own[LOSSES].load(Ordering::Relaxed),
            boot_millis: own[BOOT].load(Ordering::Relaxed),
        }
    }
}

impl fmt::Debug for Board {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Board").finish_non_exhaustive()
    }
}

/// The numbers that a master shows to operators.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Done {
    pub(crate) requests: u64,
    pub(crate) under_way: u64,
    pub(crate) connections: u64,
}

impl Done {
    fn of(number: impl Fn(usize) -> u64) -> Done {
        Done {
            requests: number(column::REQUESTS),
            under_way: number(column::UNDER_WAY),
            connections: number(column::CONNECTIONS),
        }
    }
}

/// What there was to see on a board.
pub(super) struct Look {
    pub(super) rows: Vec<Numbered>,
    pub(super) gone: Numbered,
    pub(super) starts: u64,
    pub(super) losses: u64,
    pub(super) boot_millis: u64,
}

/// Of a row: what its worker does.
pub(super) fn state(row: &Numbered) -> State {
    State::of(row[column::STATE])
}

/// How long ago a sign of life was.
pub(super) fn silence(beat: u64) -> Duration {
    Duration::from_millis(monotonic_millis().saturating_sub(beat))
}

/// The same clock for all processes.
fn monotonic_millis() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec.unsigned_abs() * 1000 + now.tv_nsec.unsigned_abs() / 1_000_000
}

fn wall_millis() -> u64 {
    // A clock before 1970 is broken.
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_millis() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_begins_anew_with_each_sign() {
        let board = Board::new().unwrap();
        let place = board.begin(7).unwrap();
        std::thread::sleep(Duration::from_millis(30));
        let silence = board.silence(place);
        assert!(silence >= Duration::from_millis(20), "{silence:?}");
        board.clone().beat(place);
        assert!(board.silence(place) < silence);
    }

    #[test]
    fn what_a_worker_has_counted_outlives_it_and_what_it_was_does_not() {
        let board = Board::new().unwrap();
        let place = board.begin(1).unwrap();
        let other = board.begin(2).unwrap();
        for number in board.row(place) {
            number.fetch_add(5, Ordering::Relaxed);
        }
        board.end(place, true);
        let look = board.look();
        assert_eq!(look.rows.iter().map(|row| row[column::AGE]).collect::<Vec<_>>(), [2]);
        assert_eq!((look.gone[column::REQUESTS], look.gone[column::BUCKET + BUCKETS - 1]), (5, 5));
        assert_eq!((look.gone[column::CONNECTIONS], look.gone[column::MEMORY]), (0, 0));
        assert_eq!((look.starts, look.losses), (2, 1));
        board.row(other)[column::CONNECTIONS].fetch_add(3, Ordering::Relaxed);
        let done = |requests, connections| Done { requests, under_way: 0, connections };
        assert_eq!((board.all_done(), board.done(other)), (done(5, 3), done(0, 3)));
        assert_ne!(place, other);
        assert_eq!(board.begin(3).unwrap(), place, "a row is used again");
        assert_eq!(board.look().rows[0][column::REQUESTS], 0);
    }

    #[test]
    fn a_look_never_sees_a_counter_fall() {
        let board = Board::new().unwrap();
        let seen = board.clone();
        let reader = std::thread::spawn(move || {
            let mut last = 0;
            while last < 2000 {
                let look = seen.look();
                let sum = look.gone[column::REQUESTS]
                    + look.rows.iter().map(|row| row[column::REQUESTS]).sum::<u64>();
                assert!(sum >= last, "{sum} after {last}");
                last = sum;
            }
        });
        for age in 1..=2000 {
            let place = board.begin(age).unwrap();
            board.row(place)[column::REQUESTS].fetch_add(1, Ordering::Relaxed);
            board.end(place, false);
        }
        reader.join().unwrap();
    }
}
