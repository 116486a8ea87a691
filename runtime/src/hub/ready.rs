//! The ready queue: first in, first out, in turns.
//!
//! A turn runs those that were ready when it began; what becomes ready meanwhile waits for the next one, so that
//! between two turns timers and descriptors get their look, however busy the greenlets are with each other.
//!
//! In a run of [`testing`](crate::testing) a turn is one greenlet, picked from all that are ready.

use std::collections::VecDeque;
use std::rc::Rc;

use super::random::{Random, mix};
use crate::greenlet::Core;
use crate::stack;

/// From so many on, the greenlets of a turn have pushed each other out of the nearer caches since they last ran.
const MANY: usize = 32;

pub(crate) struct Ready {
    queue: VecDeque<Rc<Core>>,
    /// How many of the queue belong to the turn under way.
    turn: usize,
    /// Whether the turn under way began with many.
    many: bool,
    /// Who is next, where it is not the one who came first.
    picks: Option<Box<Picks>>,
}

/// The order of a run that follows from a seed.
struct Picks {
    random: Random,
    trace: Trace,
}

/// What has happened so far in a run: who ran and when, boiled down.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Trace {
    pub(crate) turns: u64,
    pub(crate) hash: u64,
}

impl Trace {
    pub(crate) fn note(&mut self, what: u64) {
        self.hash = mix(self.hash.rotate_left(5) ^ what);
    }
}

impl Ready {
    pub(crate) fn new() -> Ready {
        Ready { queue: VecDeque::new(), turn: 0, many: false, picks: None }
    }

    /// From here on the seed decides who runs next.
    pub(crate) fn seed(&mut self, seed: u64) {
        self.picks = Some(Box::new(Picks { random: Random::new(seed), trace: Trace::default() }));
    }

    pub(crate) fn push(&mut self, core: Rc<Core>) {
        self.queue.push_back(core);
    }

    /// The next greenlet of this turn; `None` at its end.
    #[inline]
    pub(crate) fn pop(&mut self) -> Option<Rc<Core>> {
        self.turn = self.turn.checked_sub(1)?;
        let core = self.queue.pop_front();
        if self.many {
            self.fetch_ahead();
        }
        core
    }

    /// Has the processor fetch what the next ones will need while this one runs: the stack of the next, whose record it
    /// has by now, and the record of the one after.
    fn fetch_ahead(&self) {
        if let Some(fiber) = self.queue.front().and_then(|core| core.fiber.get()) {
            fiber.fetch();
        }
        if let Some(core) = self.queue.get(1) {
            stack::fetch(Rc::as_ptr(core).addr(), size_of::<Core>());
        }
    }

    /// Begins a turn with all that are ready now.
    pub(crate) fn begin_turn(&mut self) {
        self.turn = self.queue.len();
        if self.picks.is_some() {
            self.pick();
        }
        self.many = self.turn >= MANY;
    }

    #[cold]
    fn pick(&mut self) {
        let (Some(picks), 1..) = (&mut self.picks, self.turn) else { return };
        self.queue.swap(0, picks.random.below(self.turn));
        self.turn = 1;
        picks.trace.turns += 1;
        picks.trace.note(self.queue[0].id);
    }

    /// What has happened in a run; `None` outside one.
    pub(crate) fn trace(&mut self) -> Option<&mut Trace> {
        self.picks.as_mut().map(|picks| &mut picks.trace)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    pub(crate) fn clear(&mut self) -> VecDeque<Rc<Core>> {
        self.turn = 0;
        std::mem::take(&mut self.queue)
    }
}
