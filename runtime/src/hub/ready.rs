//! The ready queue: first in, first out, in turns.
//!
//! A turn runs those that were ready when it began; what becomes ready meanwhile waits for the next one, so that
//! between two turns timers and descriptors get their look, however busy the greenlets are with each other.

use std::collections::VecDeque;
use std::rc::Rc;

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
}

impl Ready {
    pub(crate) fn new() -> Ready {
        Ready { queue: VecDeque::new(), turn: 0, many: false }
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

    /// Begins a turn with all that are ready now; returns how many that are.
    pub(crate) fn begin_turn(&mut self) -> usize {
        self.turn = self.queue.len();
        self.many = self.turn >= MANY;
        self.turn
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    pub(crate) fn clear(&mut self) -> VecDeque<Rc<Core>> {
        self.turn = 0;
        std::mem::take(&mut self.queue)
    }
}
