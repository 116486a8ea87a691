//! The ready queue: first in, first out, in turns.
//!
//! A turn runs those that were ready when it began; what becomes ready meanwhile waits for the next one, so that
//! between two turns timers and descriptors get their look, however busy the greenlets are with each other.

use std::collections::VecDeque;
use std::rc::Rc;

use crate::greenlet::Core;

pub(crate) struct Ready {
    queue: VecDeque<Rc<Core>>,
    /// How many of the queue belong to the turn under way.
    turn: usize,
}

impl Ready {
    pub(crate) fn new() -> Ready {
        Ready { queue: VecDeque::new(), turn: 0 }
    }

    pub(crate) fn push(&mut self, core: Rc<Core>) {
        self.queue.push_back(core);
    }

    /// The next greenlet of this turn; `None` at its end.
    #[inline]
    pub(crate) fn pop(&mut self) -> Option<Rc<Core>> {
        self.turn = self.turn.checked_sub(1)?;
        self.queue.pop_front()
    }

    /// Begins a turn with all that are ready now; returns how many that are.
    pub(crate) fn begin_turn(&mut self) -> usize {
        self.turn = self.queue.len();
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
