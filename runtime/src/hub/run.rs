//! The loop: runs who is ready, and between two turns looks at descriptors, other threads and timers.

use std::rc::Rc;
use std::time::Duration;

use super::clock::Moment;
use super::remote::Message;
use super::{Action, Hub};
use crate::error::{LoopExit, WaitError};
use crate::greenlet::{Core, Idle, State, WaitsFor};
use crate::inspect;
use crate::switch::Fiber;
use crate::unwind;

/// Between two looks at the descriptors, at most this many greenlets run…
pub(super) const RUNS_PER_POLL: u32 = 128;
/// …or this much time passes, which is looked at after every so many.
const TIME_PER_POLL: Duration = Duration::from_micros(100);
const RUNS_PER_CLOCK: u32 = 16;
/// Timers fire together that are due within so much time: a wake-up of the process costs more than a timer.
const TIMER_SLACK: Duration = Duration::from_micros(500);
/// An idle hub gives back the memory of idle stacks, so often…
const TIDY_EVERY: Duration = Duration::from_secs(1);
/// …or when nobody has run for so long…
const QUIET: Duration = Duration::from_millis(200);
/// …when it would sleep for longer than this…
const IDLE: Duration = Duration::from_millis(1);
/// …so many at once…
const TIDY_AT_ONCE: usize = 1024;
/// The report that nobody can go on has so many stacks at most.
pub(super) const STACKS_TOLD: usize = 16;
/// …but not of the free stacks that would be taken next.
const KEEP_HOT: usize = 16;

impl Hub {
    /// Leaves the greenlet that runs; returns when it is run again.
    #[inline(always)]
    pub(super) fn switch_out(&self, core: &Rc<Core>) -> Result<(), WaitError> {
        #[cfg(all(target_os = "linux", not(greenlet_portable)))]
        if let Some(around) = super::foreign::around_waits() {
            return self.switch_out_within(core, around);
        }
        self.switch(core)
    }

    #[cfg(all(target_os = "linux", not(greenlet_portable)))]
    #[cold]
    #[inline(never)]
    fn switch_out_within(&self, core: &Rc<Core>, around: fn(&mut dyn FnMut())) -> Result<(), WaitError> {
        let mut result = Ok(());
        around(&mut || result = self.switch(core));
        result
    }

    #[inline(always)]
    fn switch(&self, core: &Rc<Core>) -> Result<(), WaitError> {
        if Rc::ptr_eq(core, &self.main) {
            return self.drive().map_err(WaitError::LoopExit);
        }
        match core.fiber.get() {
            Some(fiber) => fiber.suspend(),
            None => unreachable!("a greenlet that runs has its fiber"),
        }
        Ok(())
    }

    /// Runs the loop until main is ready.
    fn drive(&self) -> Result<(), LoopExit> {
        let result = self.current.during(None, || {
            loop {
                let Some(core) = self.ready.borrow_mut().pop() else {
                    match self.between_turns() {
                        Ok(()) => continue,
                        Err(exit) => {
                            self.pulse().next_turn();
                            break Err(exit);
                        }
                    }
                };
                // Main counts too: alone and yielding, it must not keep the hub from looking at timers.
                self.pulse().next_turn();
                if Rc::ptr_eq(&core, &self.main) {
                    break Ok(());
                }
                self.run(core);
            }
        });
        self.main.state.set(State::Running);
        result
    }

    /// Runs one greenlet until it parks, gives way or ends.
    fn run(&self, core: Rc<Core>) {
        if core.state.get() != State::Ready && !self.may_start(&core) {
            return;
        }
        core.state.set(State::Running);
        self.calls.set(0);
        self.untidy.set(true);
        core.idle.set(Idle::No);
        let mut locals = core.locals.take();
        ctxlocal::swap(&mut locals);
        let done = match core.fiber.get() {
            Some(fiber) => self.current.during(Some(&core), || fiber.resume()),
            None => unreachable!("started above"),
        };
        ctxlocal::swap(&mut locals);
        core.locals.set(locals);
        if done {
            self.bury(&core);
        }
    }

    /// Whether a greenlet that was not parked can run: it is new, and has got its stack.
    fn may_start(&self, core: &Rc<Core>) -> bool {
        core.state.get() == State::New && self.start_fiber(core)
    }

    /// Gives a greenlet its stack; false, and the greenlet has ended, when there is none to be had.
    fn start_fiber(&self, core: &Rc<Core>) -> bool {
        core.waits_for.set(WaitsFor::Nothing);
        let stack = match &mut *self.stacks.borrow_mut() {
            Some(stacks) => stacks.take(core.stack_size()),
            None => return false,
        };
        match stack {
            Ok(stack) => {
                if let Some(job) = core.job.take() {
                    core.fiber.get_or_init(|| Fiber::new(stack, move || job.run()));
                }
                true
            }
            Err(error) => {
                log::error!("greenlet '{}' cannot start: {error}", core.name());
                let job = self.cancel_start(core);
                // A user's values are dropped on the hub's stack only here, where there is no other; blocking
                // calls in their destructors fail.
                unwind::report(unwind::catch(|| {
                    job.iter().for_each(|job| job.cancel());
                    drop(core.locals.take());
                }));
                core.finish_without_stack(self, error);
                false
            }
        }
    }

    /// Takes an ended greenlet's stack back.
    fn bury(&self, core: &Core) {
        self.forget(core);
        let stack = core.fiber.get().and_then(|fiber| fiber.take_stack());
        if let (Some(stack), Some(stacks)) = (stack, &mut *self.stacks.borrow_mut()) {
            stacks.put(stack);
        }
    }

    /// Looks at descriptors, other threads and timers if it is time to, and begins the next turn.
    fn between_turns(&self) -> Result<(), LoopExit> {
        let busy = !self.ready.borrow().is_empty();
        if busy && !self.poll_is_due() {
            self.ready.borrow_mut().begin_turn();
            return Ok(());
        }
        let turn = self.pulse().turn();
        self.turn_at_poll.set(turn);
        self.turn_at_clock.set(turn);
        if let Some(run) = self.sim.get() {
            return self.between_turns_in_run(run, busy);
        }
        let mut timeout = Some(Duration::ZERO);
        let mut asleep = None;
        let mut quiet = !busy;
        let mut polled = false;
        if quiet {
            if self.nothing_is_left() {
                return self.all_is_quiet();
            }
            #[cfg(all(target_os = "linux", not(greenlet_portable)))]
            if self.has_undated() {
                // Very likely somebody need not wait, and then nobody need be asked for how long.
                self.poll(timeout);
                polled = true;
                quiet = self.ready.borrow().is_empty();
                if quiet {
                    self.date_all();
                }
            }
        }
        if quiet {
            let next = self.timers.borrow().next_at();
            let now = self.clock.now();
            asleep = Some(now);
            timeout = next.map(|at| at.since(now));
            // Not idle, if the next timer is about to fire.
            let idle = timeout.is_none_or(|timeout| timeout > IDLE);
            if let Some(again) = if idle { self.tidy(now) } else { None } {
                timeout = Some(timeout.map_or(again, |timeout| timeout.min(again)));
            } else if let Some(timeout) = timeout.as_mut().filter(|timeout| !timeout.is_zero()) {
                *timeout += TIMER_SLACK;
            }
        }
        if quiet || !polled {
            self.poll(timeout);
        }
        self.deliver_messages();
        let now = self.clock.now();
        #[cfg(all(target_os = "linux", not(greenlet_portable)))]
        self.date_old(now);
        self.load.note(self.polled_at.get(), asleep, now);
        self.it_is(now);
        self.ready.borrow_mut().begin_turn();
        Ok(())
    }

    /// Nothing is left to run: that is what some wait for, and for all others the end.
    fn all_is_quiet(&self) -> Result<(), LoopExit> {
        if !self.tell_quiet() {
            return Err(self.loop_exit());
        }
        self.ready.borrow_mut().begin_turn();
        Ok(())
    }

    /// Notes the time and fires the timers that are due.
    pub(super) fn it_is(&self, now: Moment) {
        self.polled_at.set(now);
        self.tick.set(now.millis() as u32);
        self.fire_timers(now);
    }

    fn poll_is_due(&self) -> bool {
        let turn = self.pulse().turn();
        if turn.wrapping_sub(self.turn_at_poll.get()) >= RUNS_PER_POLL {
            return true;
        }
        if turn.wrapping_sub(self.turn_at_clock.get()) < RUNS_PER_CLOCK {
            return false;
        }
        self.turn_at_clock.set(turn);
        self.clock.now().since(self.polled_at.get()) >= TIME_PER_POLL
    }

    /// Waits for descriptors, and notes who is ready.
    pub(super) fn poll(&self, mut timeout: Option<Duration>) {
        let mut poll = self.poll.borrow_mut();
        let Some(poll) = &mut *poll else { return };
        if timeout == Some(Duration::ZERO) && self.io.borrow().len() == 0 {
            return;
        }
        let remote = self.remote.borrow();
        if let (Some(remote), true) = (&*remote, timeout != Some(Duration::ZERO)) {
            remote.going_to_sleep();
            #[cfg(all(target_os = "linux", not(greenlet_portable)))]
            self.look(crate::foreign::Look::BeforeSleep);
            // What came, or the last hold that went, before that cannot have woken anybody.
            if self.has_messages() || self.nothing_is_left() {
                timeout = Some(Duration::ZERO);
            }
        }
        let result = poll.wait(timeout, |readiness| {
            let woken = self.io.borrow_mut().event(readiness);
            woken.into_iter().flatten().for_each(|waiter| self.wake(waiter, true));
        });
        if let Some(remote) = &*remote {
            remote.awake();
        }
        if let Err(error) = result {
            // The poller's descriptor is ours alone: only code that closes descriptors it does not own does this.
            panic!(
                "the event loop cannot wait: {error}; has something closed a descriptor that is not its own?"
            );
        }
    }

    pub(super) fn deliver_messages(&self) {
        #[cfg(all(target_os = "linux", not(greenlet_portable)))]
        {
            self.look(crate::foreign::Look::Awake);
            self.hear_calls();
        }
        loop {
            let message = self.messages.borrow().as_ref().and_then(|messages| messages.try_recv().ok());
            let Some(message) = message else { return };
            match message {
                Message::Wake { slot, id } => {
                    let core = self.find(slot, id);
                    core.iter().for_each(|core| self.unpark(core));
                }
                Message::Spawn(f) => drop(crate::greenlet::spawn(f)),
            }
        }
    }

    fn has_messages(&self) -> bool {
        #[cfg(all(target_os = "linux", not(greenlet_portable)))]
        if self.remote.borrow().as_ref().is_some_and(|remote| remote.has_calls()) {
            return true;
        }
        self.messages.borrow().as_ref().is_some_and(|messages| !messages.is_empty())
    }

    fn find(&self, slot: usize, id: u64) -> Option<Rc<Core>> {
        if id == self.main.id {
            return Some(self.main.clone());
        }
        self.greenlets.borrow().get(slot).filter(|core| core.id == id).cloned()
    }

    fn fire_timers(&self, now: Moment) {
        loop {
            // Taken out first: the queue and the greenlet's cells are touched with no borrow held.
            let due = self.timers.borrow_mut().pop_due(now);
            match due {
                None => return,
                Some(Action::Wake(core)) => self.unpark(&core),
                Some(Action::Expire(core, token)) => {
                    core.expire(token);
                    self.unpark(&core);
                }
                Some(Action::Start(core)) => {
                    core.take_start_timer();
                    self.ready.borrow_mut().push(core);
                }
                Some(Action::Readable(registration)) => self.readable_due(registration, now),
            }
        }
    }

    /// No descriptor is waited for, and nobody outside holds a way in. (Timers and the ready queue are the
    /// caller's to ask.)
    pub(super) fn nobody_can_wake(&self) -> bool {
        let held = self.remote.borrow().as_ref().is_some_and(|remote| remote.is_held());
        self.io.borrow().waiting() == 0 && !held && !self.has_messages()
    }

    pub(super) fn loop_exit(&self) -> LoopExit {
        let all = self.all();
        let lines = all.iter().map(|core| core.describe()).collect();
        let stacks = all.iter().take(STACKS_TOLD).map(|core| inspect::backtrace_of(core)).collect();
        LoopExit::new(lines, stacks)
    }

    /// Gives back memory that idle stacks hold, in portions, when nobody is ready; returns when to be called again.
    ///
    /// Free stacks are given back but for the hottest few; of a greenlet that has been parked from one pass to the
    /// next, the part of the stack below where it stands, which it may have used in some deep call long ago.
    fn tidy(&self, now: Moment) -> Option<Duration> {
        if !self.untidy.get() {
            return None;
        }
        let turn = self.pulse().turn();
        if self.quiet_from.get().0 != turn {
            self.quiet_from.set((turn, now));
        }
        let quiet = now.since(self.quiet_from.get().1);
        let since = now.since(self.tidied_at.get());
        let rest = TIDY_EVERY.saturating_sub(since).min(QUIET.saturating_sub(quiet));
        if !rest.is_zero() {
            return Some(rest);
        }
        let free = match &mut *self.stacks.borrow_mut() {
            Some(stacks) => stacks.trim(KEEP_HOT, TIDY_AT_ONCE),
            None => 0,
        };
        if !self.tidy_parked() || free == TIDY_AT_ONCE {
            // A pass over the greenlets may have ended with this portion; the stacks' has not.
            self.untidy.set(true);
            return Some(Duration::ZERO);
        }
        self.tidied_at.set(now);
        self.quiet_from.set((turn, now));
        self.untidy.get().then_some(QUIET)
    }

    /// Looks at the next portion of greenlets; true at the end of a pass.
    fn tidy_parked(&self) -> bool {
        let greenlets = self.greenlets.borrow();
        let begin = self.tidy_cursor.get();
        if begin == 0 {
            self.untidy.set(false);
        }
        let end = (begin + TIDY_AT_ONCE).min(greenlets.capacity());
        for core in (begin..end).filter_map(|slot| greenlets.get(slot)) {
            match (core.state.get(), core.idle.get()) {
                (State::Parked, Idle::No) => {
                    core.idle.set(Idle::Once);
                    self.untidy.set(true);
                }
                (State::Parked, Idle::Once) => {
                    core.idle.set(Idle::Tidied);
                    if let Some(fiber) = core.fiber.get() {
                        fiber.trim();
                    }
                }
                _ => {}
            }
        }
        let done = end == greenlets.capacity();
        self.tidy_cursor.set(if done { 0 } else { end });
        done
    }
}
