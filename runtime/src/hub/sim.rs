//! A run of [`testing`](crate::testing) on this hub: whose turn it is follows from a seed (see `ready`), and the time
//! is virtual. It stands while anybody is ready, and jumps to the next timer once nothing that is real can be
//! expected to happen first.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::{Duration, Instant};

use super::clock::Moment;
use super::random::Random;
use super::ready::Trace;
use super::run::{RUNS_PER_POLL, STACKS_TOLD};
use super::{Action, Hub};
use crate::error::LoopExit;
use crate::greenlet::{Core, State, WaitsFor};
use crate::inspect;

/// After so many turns in which somebody was always ready, the time moves nevertheless: whoever yields in a loop until
/// something has happened waits, too.
const SPINNING: u64 = 1_000_000;

/// A run, from its beginning to its end.
pub(crate) struct Run {
    pub(crate) seed: u64,
    /// How long descriptors and other threads are given, in real time, before the time moves on.
    settle: Duration,
    /// How long they are given before the run is called stuck.
    patience: Duration,
    /// For those who want numbers; the order has its own.
    random: RefCell<Random>,
    /// Turns since nobody was ready the last time.
    busy: Cell<u64>,
    /// The time stands for good.
    over: Cell<bool>,
}

/// Whom a hub where nobody is ready may still hear from, other than the clock.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Outside {
    Nobody,
    /// Somebody waits for a descriptor, or another thread has a way in: it may be in vain.
    Perhaps,
    /// A thread of the pool works for somebody.
    Surely,
}

impl Hub {
    /// Begins a run. The hub must be fresh.
    pub(crate) fn begin_run(&self, seed: u64, settle: Duration, patience: Duration) {
        self.clock.set(Moment::FIRST);
        self.polled_at.set(Moment::FIRST);
        self.tidied_at.set(Moment::FIRST);
        self.quiet_from.set((0, Moment::FIRST));
        self.ready.borrow_mut().seed(seed);
        let run = Run {
            seed,
            settle,
            patience,
            random: RefCell::new(Random::new(!seed)),
            busy: Cell::new(0),
            over: Cell::new(false),
        };
        assert!(self.sim.set(Box::new(run)).is_ok(), "a hub has one run");
    }

    /// The run that this thread is in.
    pub(crate) fn run_here() -> Option<(&'static Hub, &'static Run)> {
        let hub = Hub::existing()?;
        Some((hub, hub.sim.get()?))
    }

    /// Lets all who are ready go on until nobody is, without moving the time; returns what is left then, a line each.
    pub(crate) fn end_run(&self) -> Vec<String> {
        let Some(run) = self.sim.get() else { return Vec::new() };
        run.over.set(true);
        for _ in 0..SPINNING {
            if self.ready.borrow().is_empty() && self.idle_in_run(run).is_err() {
                break;
            }
            self.yield_now();
        }
        self.leaks()
    }

    /// [`between_turns`](Self::between_turns) in a run.
    pub(super) fn between_turns_in_run(&self, run: &Run, busy: bool) -> Result<(), LoopExit> {
        if !busy {
            return self.idle_in_run(run).map_err(|why| match why {
                None => self.loop_exit(),
                Some(why) => self.loop_exit().because(why),
            });
        }
        run.busy.set(run.busy.get() + u64::from(RUNS_PER_POLL));
        self.look_around(Duration::ZERO);
        if run.busy.get() >= SPINNING && !run.over.get() {
            run.busy.set(0);
            let next = self.timers.borrow().next_at();
            match next {
                Some(at) => self.move_time(at),
                None if self.main.state.get() == State::Parked => {
                    return Err(self.loop_exit().because(SPUN.to_owned()));
                }
                None => panic!("{}", self.loop_exit().because(SPUN.to_owned())),
            }
        }
        self.ready.borrow_mut().begin_turn();
        Ok(())
    }

    /// Waits until somebody is ready: for what is real first, then by moving the time. When that is hopeless, says why,
    /// if there is more to it than that nobody is left.
    fn idle_in_run(&self, run: &Run) -> Result<(), Option<String>> {
        run.busy.set(0);
        self.look_around(Duration::ZERO);
        while self.ready.borrow().is_empty() {
            if self.nothing_is_left() && self.tell_quiet() {
                break;
            }
            let next = if run.over.get() { None } else { self.timers.borrow().next_at() };
            let outside = self.outside();
            let wait = match outside {
                Outside::Nobody => Duration::ZERO,
                Outside::Perhaps if next.is_some() || run.over.get() => run.settle,
                Outside::Perhaps | Outside::Surely => run.patience,
            };
            if self.hear(wait) {
                break;
            }
            match (next, outside) {
                (Some(at), Outside::Nobody | Outside::Perhaps) => self.move_time(at),
                (None, Outside::Nobody) => return Err(None),
                // Who was waited for has gone without a word.
                _ if self.outside() != outside => {}
                _ => return Err(Some(silence(wait, outside))),
            }
        }
        self.ready.borrow_mut().begin_turn();
        Ok(())
    }

    /// Waits for at most so much real time for somebody to become ready.
    fn hear(&self, wait: Duration) -> bool {
        let began = Instant::now();
        loop {
            let left = wait.saturating_sub(began.elapsed());
            if left.is_zero() || self.outside() == Outside::Nobody {
                return false;
            }
            self.look_around(left);
            if !self.ready.borrow().is_empty() {
                return true;
            }
        }
    }

    /// Takes in what has happened, waiting for it if need be, and fires the timers that are due by now.
    fn look_around(&self, wait: Duration) {
        self.poll(Some(wait));
        self.deliver_messages();
        self.it_is(self.clock.now());
    }

    fn outside(&self) -> Outside {
        if self.nobody_can_wake() {
            return Outside::Nobody;
        }
        let works = |waits_for| waits_for == WaitsFor::Thread;
        let greenlets = self.greenlets.borrow();
        let mut all = std::iter::once(&self.main).chain(greenlets.iter().map(|(_, core)| core));
        if all.any(|core| works(core.waits_for.get())) { Outside::Surely } else { Outside::Perhaps }
    }

    fn move_time(&self, to: Moment) {
        let to = to.max(self.clock.now());
        self.clock.set(to);
        if let Some(trace) = self.ready.borrow_mut().trace() {
            trace.note(to.as_nanos());
        }
        self.it_is(to);
    }

    /// What should have ended with the run. What greenlets hold is not told apart from them.
    fn leaks(&self) -> Vec<String> {
        if !self.greenlets.borrow().is_empty() {
            let greenlets = self.all().into_iter().filter(|core| !core.is_main());
            return greenlets.enumerate().map(|(n, core)| leaked(&core, n < STACKS_TOLD)).collect();
        }
        let now = self.clock.now();
        let timers = self.timers.borrow();
        let timers = timers
            .iter()
            .map(|(at, action)| format!("timer that {}, due in {:?}", describe(action), at.since(now)));
        let io = self.io.borrow();
        timers.chain(io.descriptors().map(|fd| format!("descriptor {fd} that is still open"))).collect()
    }
}

/// A line for a greenlet, and where it stands.
fn leaked(core: &Rc<Core>, with_stack: bool) -> String {
    let line = format!("greenlet {}", core.describe());
    match with_stack.then(|| inspect::backtrace_of(core)).flatten() {
        None => line,
        Some(stack) => {
            let calls = inspect::users_part(&stack.to_string());
            calls.lines().fold(line, |told, call| format!("{told}\n      {call}"))
        }
    }
}

const SPUN: &str = "a million turns have gone by, somebody was ready all the time, and no timer is pending: somebody \
                    yields in a loop for what will never happen";

fn silence(wait: Duration, outside: Outside) -> String {
    let who = match outside {
        Outside::Surely => "the thread pool has not done its work",
        _ => "no timer is pending, and no descriptor and no other thread has ended it",
    };
    format!("{who} within {wait:?} of real time (`Sim::patience`)")
}

fn describe(action: &Action) -> String {
    match action {
        Action::Wake(core) => format!("ends a wait of '{}'", core.name()),
        Action::Expire(core, _) => format!("ends a timeout scope of '{}'", core.name()),
        Action::Start(core) => format!("starts '{}'", core.name()),
        Action::Readable(_) => "ends a wait for a descriptor".to_owned(),
    }
}

impl Run {
    pub(crate) fn random(&self) -> u64 {
        self.random.borrow_mut().next()
    }

    /// How much virtual time has gone by.
    pub(crate) fn elapsed(hub: &Hub) -> Duration {
        hub.clock.now().since(Moment::FIRST)
    }

    pub(crate) fn trace(hub: &Hub) -> Trace {
        hub.ready.borrow_mut().trace().map_or_else(Trace::default, |trace| *trace)
    }
}
