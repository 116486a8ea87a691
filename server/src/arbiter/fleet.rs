//! Which workers there should be, and what to do about those there are. It decides; others fork, kill and wait.
//!
//! A worker holds a *seat*, of which there are as many as workers are wanted. The one that is to replace another (the
//! settings were loaded again, it has served its number of requests) gets the same seat, and the old one is asked to leave
//! when the new one is ready: so there are never less that serve than were asked for, and whatever belongs to a seat (a
//! listening socket of its own, say) passes from one to the next.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

/// How long a worker that was told to go at once may take, as gunicorn has it.
const QUICK: Duration = Duration::from_secs(2);
/// How long after its graceful timeout a worker that was asked to leave is killed: it keeps that time itself, too, and needs a
/// moment for destructors.
const MERCY: Duration = Duration::from_secs(3);
/// How long a worker that hangs may take to write where, before it is killed. Another has its seat meanwhile.
const ABORT: Duration = Duration::from_secs(5);
/// A worker that dies so soon after it was ready is as bad as one that never was.
const SHORT_LIFE: Duration = Duration::from_secs(1);
/// How long to wait after the first of several failures, and at most.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// The number of a worker, never given twice in a master's life. gunicorn calls it age.
pub(super) type Age = u64;

/// How a worker is told to go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) enum Leave {
    /// Requests under way may finish.
    Graceful,
    /// At once.
    Quick,
}

/// What is to be done now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Action {
    /// Start a worker for that seat, and tell [`Fleet::started`] or [`Fleet::not_started`].
    Start { seat: usize },
    /// Have it tell its clients to go elsewhere, while it serves on.
    Drain(Age),
    /// Ask it to leave.
    Ask(Age, Leave),
    /// It hangs: have it say where, and die.
    Abort(Age),
    /// Kill it.
    Kill(Age),
}

/// The times that matter.
#[derive(Debug, Clone, Copy)]
pub(super) struct Times {
    /// After how long without a sign of life a worker is replaced.
    pub(super) timeout: Option<Duration>,
    /// How long a worker that leaves may take.
    pub(super) graceful_timeout: Duration,
    /// For how long all serve on, before a graceful stop, so that others learn of it.
    pub(super) drain_delay: Duration,
}

/// What becomes of a master whose worker has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Loss {
    /// It was to leave.
    Expected,
    /// Another takes its seat.
    Replaced,
    /// It did not come up; the next attempt is made after so long.
    Retried(Duration),
    /// None has ever come up: there is no point in going on.
    Hopeless,
}

#[derive(Debug)]
struct Worker {
    age: Age,
    seat: usize,
    generation: u64,
    state: State,
    started: Instant,
    /// Another is to take its seat, though it still serves.
    outdated: bool,
    /// It tells its clients to go elsewhere.
    drains: bool,
}

/// A worker as others get to see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Member {
    pub(super) age: Age,
    pub(super) seat: usize,
    pub(super) state: &'static str,
    pub(super) uptime: Duration,
    /// Another is to take its seat.
    pub(super) outdated: bool,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum State {
    Booting {
        since: Instant,
    },
    Ready {
        since: Instant,
    },
    Leaving {
        how: Leave,
        until: Instant,
    },
    Aborting {
        until: Instant,
    },
    /// SIGKILL was sent; it is only to be waited for.
    Killed,
}

impl Worker {
    fn serves(&self) -> bool {
        matches!(self.state, State::Booting { .. } | State::Ready { .. })
    }

    fn is_ready(&self) -> bool {
        matches!(self.state, State::Ready { .. })
    }
}

/// The workers of one master.
#[derive(Debug)]
pub(super) struct Fleet {
    workers: Vec<Worker>,
    times: Times,
    seats: usize,
    generation: u64,
    next_age: Age,
    stopping: Option<Leave>,
    /// A graceful stop begins only then.
    drained: Option<Instant>,
    /// One has come up, at least.
    ever_ready: bool,
    failures: u32,
    /// Nobody is started before.
    pause: Option<Instant>,
}

impl Fleet {
    pub(super) fn new(seats: usize, times: Times) -> Fleet {
        Fleet {
            workers: Vec::new(),
            times,
            seats,
            generation: 0,
            next_age: 1,
            stopping: None,
            drained: None,
            ever_ready: false,
            failures: 0,
            pause: None,
        }
    }

    /// How many are wanted.
    pub(super) fn seats(&self) -> usize {
        self.seats
    }

    /// How many are wanted from now on.
    pub(super) fn set_seats(&mut self, seats: usize) {
        self.seats = seats;
    }

    pub(super) fn set_times(&mut self, times: Times) {
        self.times = times;
    }

    /// All that serve now are to be replaced, one after the other.
    pub(super) fn renew(&mut self) {
        self.generation += 1;
        self.failures = 0;
        self.pause = None;
    }

    /// This one is to be replaced.
    pub(super) fn replace(&mut self, age: Age) {
        if let Some(worker) = self.find(age) {
            worker.outdated = true;
        }
    }

    /// It was killed, on purpose.
    pub(super) fn killed(&mut self, age: Age) {
        if let Some(worker) = self.find(age) {
            worker.state = State::Killed;
        }
    }

    /// All are to leave, and nobody comes after them. A quicker way replaces a graceful one, but not the other way round.
    /// The first graceful one waits for the drain delay.
    pub(super) fn stop(&mut self, how: Leave, now: Instant) {
        if self.stopping.is_none() && !self.times.drain_delay.is_zero() {
            self.drained = now.checked_add(self.times.drain_delay);
        }
        self.stopping = self.stopping.max(Some(how));
        if how == Leave::Quick {
            self.drained = None;
        }
    }

    /// How all are to leave, once they are to.
    fn leaving(&self) -> Option<Leave> {
        self.stopping.filter(|_| self.drained.is_none())
    }

    /// Whether all are to leave now, and not after a delay.
    pub(super) fn is_leaving(&self) -> bool {
        self.leaving().is_some()
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.stopping.is_some()
    }

    /// Whether there is nobody any more.
    pub(super) fn is_empty(&self) -> bool {
        self.workers.is_empty()
    }

    /// How many were started.
    pub(super) fn spawned(&self) -> u64 {
        self.next_age - 1
    }

    /// Who there is.
    pub(super) fn members(&self, now: Instant) -> impl Iterator<Item = Member> {
        self.workers.iter().map(move |worker| Member {
            age: worker.age,
            seat: worker.seat,
            state: match worker.state {
                State::Booting { .. } => "booting",
                State::Ready { .. } => "ready",
                State::Leaving { .. } => "leaving",
                State::Aborting { .. } => "aborting",
                State::Killed => "killed",
            },
            uptime: now.saturating_duration_since(worker.started),
            outdated: worker.outdated || !self.is_current(worker),
        })
    }

    /// The seat of a worker.
    pub(super) fn seat(&self, age: Age) -> Option<usize> {
        self.workers.iter().find(|worker| worker.age == age).map(|worker| worker.seat)
    }

    /// How many seats are wanted or still in use.
    pub(super) fn seats_in_use(&self) -> usize {
        self.workers.iter().map(|worker| worker.seat + 1).max().unwrap_or(0).max(self.seats)
    }

    /// Whether each seat is held by one that is ready and of the newest settings.
    pub(super) fn is_complete(&self) -> bool {
        (0..self.seats).all(|seat| self.current(seat).is_some_and(Worker::is_ready))
    }

    /// Whether somebody serves, or nobody is to.
    pub(super) fn is_alive(&self) -> bool {
        self.seats == 0 || self.stopping.is_some() || self.workers.iter().any(Worker::is_ready)
    }

    /// A worker was started for that seat.
    pub(super) fn started(&mut self, seat: usize, now: Instant) -> Age {
        let age = self.next_age;
        self.next_age += 1;
        let state = State::Booting { since: now };
        self.workers.push(Worker {
            age,
            seat,
            generation: self.generation,
            state,
            started: now,
            outdated: false,
            drains: false,
        });
        age
    }

    /// There was no process to be had.
    pub(super) fn not_started(&mut self, now: Instant) {
        self.failed(now);
    }

    /// It says that it serves.
    pub(super) fn ready(&mut self, age: Age, now: Instant) {
        let Some(worker) = self.find(age) else { return };
        if let State::Booting { .. } = worker.state {
            worker.state = State::Ready { since: now };
            self.ever_ready = true;
        }
    }

    /// It is no more.
    pub(super) fn ended(&mut self, age: Age, now: Instant) -> Loss {
        let Some(place) = self.workers.iter().position(|worker| worker.age == age) else {
            return Loss::Expected;
        };
        let worker = self.workers.remove(place);
        match worker.state {
            State::Leaving { .. } | State::Aborting { .. } | State::Killed => Loss::Expected,
            _ if self.is_leaving() => Loss::Expected,
            State::Booting { .. } if !self.ever_ready => Loss::Hopeless,
            State::Ready { since } if now.saturating_duration_since(since) > SHORT_LIFE => Loss::Replaced,
            State::Booting { .. } | State::Ready { .. } => Loss::Retried(self.failed(now)),
        }
    }

    fn failed(&mut self, now: Instant) -> Duration {
        let pause = FIRST_PAUSE.saturating_mul(1 << self.failures.min(16)).min(LONGEST_PAUSE);
        self.failures += 1;
        self.pause = Some(now + pause);
        pause
    }

    /// What is to be done now. `silent` tells for how long a worker has given no sign of life.
    pub(super) fn plan(&mut self, now: Instant, silent: impl Fn(Age) -> Duration) -> Vec<Action> {
        let mut actions = Vec::new();
        self.hurry(now, &silent, &mut actions);
        self.drained = self.drained.filter(|drained| *drained > now);
        match self.leaving() {
            Some(how) => {
                for at in 0..self.workers.len() {
                    self.ask(at, how, now, &mut actions);
                }
            }
            None => {
                self.dismiss(now, &mut actions);
                self.fill(now, &mut actions);
                self.drain(&mut actions);
            }
        }
        actions
    }

    /// When to plan again, if nothing happens before; whoever is watched for signs of life is looked at from time to time.
    pub(super) fn next_look(&self) -> Option<Instant> {
        let ends = self.workers.iter().filter_map(|worker| match worker.state {
            State::Leaving { until, .. } | State::Aborting { until } => Some(until),
            _ => None,
        });
        let pause = self.pause.filter(|_| !self.is_leaving());
        ends.chain(pause).chain(self.drained).min()
    }

    /// Those that hang, and those whose time is over.
    fn hurry(&mut self, now: Instant, silent: &impl Fn(Age) -> Duration, actions: &mut Vec<Action>) {
        for worker in &mut self.workers {
            match worker.state {
                State::Booting { .. } | State::Ready { .. } | State::Leaving { .. }
                    if self.times.timeout.is_some_and(|timeout| silent(worker.age) > timeout) =>
                {
                    actions.push(Action::Abort(worker.age));
                    worker.state = State::Aborting { until: now + ABORT };
                }
                State::Leaving { until, .. } | State::Aborting { until } if until <= now => {
                    actions.push(Action::Kill(worker.age));
                    worker.state = State::Killed;
                }
                _ => {}
            }
        }
    }

    /// Those that are not needed, or whose successor is ready.
    fn dismiss(&mut self, now: Instant, actions: &mut Vec<Action>) {
        for at in 0..self.workers.len() {
            let worker = &self.workers[at];
            if !worker.serves() {
                continue;
            }
            let replaced = || {
                self.workers.iter().any(|other| {
                    other.seat == worker.seat
                        && other.is_ready()
                        && other.age > worker.age
                        && self.is_current(other)
                })
            };
            // What has not come up yet serves nobody.
            let useless = !worker.is_ready() && !self.is_current(worker);
            if worker.seat >= self.seats || useless || replaced() {
                self.ask(at, Leave::Graceful, now, actions);
            }
        }
    }

    /// Seats that nobody holds, and one at a time of those whose holder is to be replaced.
    fn fill(&mut self, now: Instant, actions: &mut Vec<Action>) {
        if self.is_complete() {
            self.failures = 0;
        }
        if self.pause.is_some_and(|until| until > now) {
            return;
        }
        self.pause = None;
        let held = |seat: usize| self.workers.iter().any(|worker| worker.seat == seat && worker.serves());
        let mut replacing = self.workers.iter().any(|worker| {
            let other =
                |other: &Worker| other.seat == worker.seat && other.serves() && other.age < worker.age;
            worker.serves() && !worker.is_ready() && self.workers.iter().any(other)
        });
        for seat in 0..self.seats {
            if self.current(seat).is_some() || (held(seat) && replacing) {
                continue;
            }
            replacing |= held(seat);
            actions.push(Action::Start { seat });
            // After a failure one is enough to see whether it goes better now.
            if self.failures > 0 {
                return;
            }
        }
    }

    /// All of them, while a stop is to come. One that is just being born hears of it when it listens.
    fn drain(&mut self, actions: &mut Vec<Action>) {
        if self.stopping.is_none() {
            return;
        }
        for worker in self.workers.iter_mut().filter(|worker| worker.serves() && !worker.drains) {
            worker.drains = true;
            actions.push(Action::Drain(worker.age));
        }
    }

    fn ask(&mut self, at: usize, how: Leave, now: Instant, actions: &mut Vec<Action>) {
        let worker = &mut self.workers[at];
        match worker.state {
            State::Booting { .. } | State::Ready { .. } => {}
            State::Leaving { how: before, .. } if before < how => {}
            _ => return,
        }
        let patience = match how {
            Leave::Graceful => self.times.graceful_timeout.saturating_add(MERCY),
            Leave::Quick => QUICK,
        };
        let until = now.checked_add(patience).unwrap_or(now + Duration::from_secs(365 * 24 * 3600));
        worker.state = State::Leaving { how, until };
        actions.push(Action::Ask(worker.age, how));
    }

    fn is_current(&self, worker: &Worker) -> bool {
        worker.generation == self.generation && !worker.outdated
    }

    /// Who holds that seat for good.
    fn current(&self, seat: usize) -> Option<&Worker> {
        self.workers.iter().find(|worker| worker.seat == seat && worker.serves() && self.is_current(worker))
    }

    fn find(&mut self, age: Age) -> Option<&mut Worker> {
        self.workers.iter_mut().find(|worker| worker.age == age)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// A fleet in virtual time, whose orders are carried out at once.
    struct World {
        fleet: Fleet,
        now: Instant,
        silent: Vec<Age>,
    }

    impl World {
        fn new(seats: usize) -> World {
            let times = Times {
                timeout: Some(30 * SECOND),
                graceful_timeout: 10 * SECOND,
                drain_delay: Duration::ZERO,
            };
            World { fleet: Fleet::new(seats, times), now: Instant::now(), silent: Vec::new() }
        }

        /// With all workers up.
        fn up(seats: usize) -> World {
            let mut world = World::new(seats);
            let started = world.step();
            assert_eq!(started.len(), seats);
            (1..=seats as Age).for_each(|age| world.fleet.ready(age, world.now));
            world.now += 10 * SECOND;
            assert_eq!(world.step(), []);
            world
        }

        fn step(&mut self) -> Vec<Action> {
            let silent = |age| if self.silent.contains(&age) { 31 * SECOND } else { Duration::ZERO };
            let actions = self.fleet.plan(self.now, silent);
            for action in &actions {
                if let Action::Start { seat } = action {
                    self.fleet.started(*seat, self.now);
                }
            }
            actions
        }

        fn ends(&mut self, age: Age) -> Loss {
            self.fleet.ended(age, self.now)
        }

        fn serving(&self) -> usize {
            self.fleet.workers.iter().filter(|worker| worker.is_ready()).count()
        }
    }

    #[test]
    fn a_worker_that_dies_is_replaced_on_its_seat() {
        let mut world = World::up(3);
        assert_eq!(world.ends(2), Loss::Replaced);
        assert_eq!(world.step(), [Action::Start { seat: 1 }]);
        assert_eq!(world.step(), [], "once");
    }

    #[test]
    fn it_is_alive_while_somebody_serves_or_nobody_is_to() {
        let mut world = World::up(2);
        world.ends(1);
        assert!(world.fleet.is_alive());
        world.ends(2);
        assert!(!world.fleet.is_alive());
        let started = world.step();
        assert_eq!(started.len(), 2);
        assert!(!world.fleet.is_alive(), "who boots does not serve");
        world.fleet.ready(3, world.now);
        assert!(world.fleet.is_alive());
        world.ends(3);
        world.fleet.set_seats(0);
        assert!(world.fleet.is_alive(), "nobody is to");
    }

    #[test]
    fn a_reload_replaces_one_after_the_other_and_never_serves_with_less() {
        let mut world = World::up(3);
        world.fleet.renew();
        assert_eq!(world.step(), [Action::Start { seat: 0 }]);
        for seat in 0..3 {
            assert_eq!(world.step(), [], "the old one serves until the new one does");
            let (old, new) = (seat as Age + 1, seat as Age + 4);
            world.fleet.ready(new, world.now);
            assert_eq!(world.serving(), 4);
            let ask = Action::Ask(old, Leave::Graceful);
            let next = Action::Start { seat: seat + 1 };
            assert_eq!(world.step(), if seat < 2 { vec![ask, next] } else { vec![ask] });
            assert_eq!(world.ends(old), Loss::Expected);
            assert_eq!(world.serving(), 3);
        }
        assert!(world.fleet.is_complete());
    }

    #[test]
    fn a_second_reload_in_the_midst_of_one_wastes_no_time_on_the_first() {
        let mut world = World::up(2);
        world.fleet.renew();
        assert_eq!(world.step(), [Action::Start { seat: 0 }]);
        world.fleet.renew();
        assert_eq!(world.step(), [Action::Ask(3, Leave::Graceful), Action::Start { seat: 0 }]);
    }

    #[test]
    fn a_reload_whose_workers_do_not_come_up_leaves_the_old_ones_serving() {
        let mut world = World::up(2);
        world.fleet.renew();
        assert_eq!(world.step(), [Action::Start { seat: 0 }]);
        let mut pauses = Vec::new();
        for age in 3..12 {
            let Loss::Retried(pause) = world.ends(age) else { panic!("the master must go on") };
            pauses.push(pause);
            assert_eq!(world.step(), [], "not before the pause is over");
            assert_eq!(world.fleet.next_look(), Some(world.now + pause));
            world.now += pause;
            assert_eq!(world.step(), [Action::Start { seat: 0 }]);
            assert_eq!(world.serving(), 2);
        }
        assert!(pauses.is_sorted() && pauses[1] == 2 * pauses[0], "{pauses:?}");
        assert_eq!(*pauses.last().unwrap(), LONGEST_PAUSE);
        world.fleet.ready(12, world.now);
        world.step();
        assert_eq!(world.ends(1), Loss::Expected);
    }

    #[test]
    fn if_none_ever_came_up_there_is_no_second_attempt() {
        let mut world = World::new(2);
        assert_eq!(world.step().len(), 2);
        assert_eq!(world.ends(1), Loss::Hopeless);
    }

    #[test]
    fn a_worker_that_dies_at_once_is_not_started_as_fast_as_it_dies() {
        let mut world = World::up(1);
        assert_eq!(world.ends(1), Loss::Replaced);
        assert_eq!(world.step(), [Action::Start { seat: 0 }]);
        world.fleet.ready(2, world.now);
        assert_eq!(world.ends(2), Loss::Retried(FIRST_PAUSE));
        assert_eq!(world.step(), []);
        world.now += FIRST_PAUSE;
        assert_eq!(world.step(), [Action::Start { seat: 0 }]);
    }

    #[test]
    fn a_worker_that_hangs_is_aborted_then_killed_then_replaced() {
        let mut world = World::up(2);
        world.silent.push(2);
        // Another takes its seat without waiting for its end.
        assert_eq!(world.step(), [Action::Abort(2), Action::Start { seat: 1 }]);
        world.now += ABORT;
        assert_eq!(world.step(), [Action::Kill(2)]);
        assert_eq!(world.step(), []);
        assert_eq!(world.ends(2), Loss::Expected);
        assert_eq!(world.step(), []);
    }

    #[test]
    fn one_that_an_operator_kills_is_replaced_at_once() {
        let mut world = World::up(2);
        world.fleet.killed(1);
        assert_eq!(world.step(), [Action::Start { seat: 0 }]);
        assert_eq!(world.ends(1), Loss::Expected);
        let states: Vec<_> =
            world.fleet.members(world.now).map(|member| (member.age, member.state)).collect();
        assert_eq!(states, [(2, "ready"), (3, "booting")]);
        assert_eq!(world.fleet.spawned(), 3);
    }

    #[test]
    fn fewer_seats_ask_the_surplus_to_leave_and_more_are_filled() {
        let mut world = World::up(3);
        world.fleet.set_seats(1);
        assert_eq!(world.step(), [Action::Ask(2, Leave::Graceful), Action::Ask(3, Leave::Graceful)]);
        world.fleet.set_seats(3);
        assert_eq!(world.step(), [Action::Start { seat: 1 }, Action::Start { seat: 2 }]);
    }

    #[test]
    fn one_that_has_done_its_share_serves_until_its_successor_does() {
        let mut world = World::up(2);
        world.fleet.replace(1);
        assert_eq!(world.step(), [Action::Start { seat: 0 }]);
        world.fleet.ready(3, world.now);
        assert_eq!(world.step(), [Action::Ask(1, Leave::Graceful)]);
        assert_eq!(world.step(), []);
    }

    #[test]
    fn a_stop_asks_all_gets_quicker_but_not_slower_and_kills_who_stays() {
        let mut world = World::up(2);
        world.fleet.stop(Leave::Graceful, world.now);
        assert_eq!(world.step(), [Action::Ask(1, Leave::Graceful), Action::Ask(2, Leave::Graceful)]);
        assert_eq!(world.ends(1), Loss::Expected);
        assert_eq!(world.step(), [], "nobody comes after it");
        world.fleet.stop(Leave::Quick, world.now);
        assert_eq!(world.step(), [Action::Ask(2, Leave::Quick)]);
        world.fleet.stop(Leave::Graceful, world.now);
        assert_eq!(world.step(), []);
        world.now += QUICK;
        assert_eq!(world.step(), [Action::Kill(2)]);
        assert_eq!(world.ends(2), Loss::Expected);
        assert!(world.fleet.is_empty());
    }

    #[test]
    fn a_graceful_leaver_gets_its_graceful_timeout_and_a_little_more() {
        let mut world = World::up(1);
        world.fleet.stop(Leave::Graceful, world.now);
        world.step();
        world.now += 10 * SECOND;
        assert_eq!(world.step(), []);
        world.now += MERCY;
        assert_eq!(world.step(), [Action::Kill(1)]);
    }
    #[test]
    fn with_a_drain_delay_all_serve_on_for_so_long_and_tell_their_clients() {
        let mut world = World::up(2);
        world.fleet.times.drain_delay = 5 * SECOND;
        world.fleet.stop(Leave::Graceful, world.now);
        assert_eq!(world.step(), [Action::Drain(1), Action::Drain(2)]);
        assert_eq!(world.fleet.next_look(), Some(world.now + 5 * SECOND));
        world.now += 4 * SECOND;
        world.fleet.stop(Leave::Graceful, world.now);
        assert_eq!(world.step(), [], "asking again does not begin it anew");
        // As many serve as before.
        assert_eq!(world.ends(2), Loss::Replaced);
        assert_eq!(world.step(), [Action::Start { seat: 1 }]);
        assert_eq!(world.step(), [Action::Drain(3)]);
        world.now += SECOND;
        assert_eq!(world.step(), [Action::Ask(1, Leave::Graceful), Action::Ask(3, Leave::Graceful)]);
    }

    #[test]
    fn a_quick_stop_does_not_wait_for_the_drain_delay() {
        let mut world = World::up(1);
        world.fleet.times.drain_delay = 5 * SECOND;
        world.fleet.stop(Leave::Graceful, world.now);
        world.step();
        world.fleet.stop(Leave::Quick, world.now);
        assert_eq!(world.step(), [Action::Ask(1, Leave::Quick)]);
    }
}
