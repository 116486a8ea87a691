//! Those who have gone through a gate and are inside: how many of each process.
//!
//! The counts are the truth, and there is no other: what a process that has ended had counted is not counted any more. Only who
//! holds the gate adds; so it alone waits for others to leave, and they need to ring for one process at most.

use std::io;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Instant;

use super::gate::{self, Hold, Patience};
use super::me::{Me, TICK, Waiter};
use super::registry::{MAX_PROCESSES, Registry, Token};
use crate::error::WaitError;
use crate::greenlet::{WaitsFor, Wake};

/// Of a count, so many bits are the number; above are the generation's.
const NUMBER_BITS: u32 = 32;

/// In shared memory. Zeroes: nobody.
#[repr(C)]
pub(super) struct Inside {
    /// Who holds the gate and waits for somebody to leave.
    at_gate: AtomicU32,
    /// For each process the generation of its token and how many it has inside.
    counts: [AtomicU64; MAX_PROCESSES],
}

/// One who is inside; dropping it leaves. In a forked child it is nothing.
pub(super) struct Stay<'a> {
    inside: &'a Inside,
    token: Token,
}

impl Stay<'_> {
    /// As [`Hold::check`].
    #[inline]
    pub(super) fn check(&self) {
        gate::check(self.token);
    }
}

impl Drop for Stay<'_> {
    fn drop(&mut self) {
        if let Some(me) = Me::existing().filter(|me| me.token == self.token) {
            self.inside.counts[self.token.place()].fetch_sub(1, Ordering::SeqCst);
            // Either it sees the new count, or this sees it: both write first and then read. If this process is killed in
            // between, it looks after a while.
            if let Some(waiting) = Token::from_bits(self.inside.at_gate.load(Ordering::SeqCst)) {
                me.registry.ring(waiting);
            }
        }
    }
}

impl Inside {
    /// Lets who holds the gate in.
    pub(super) fn enter(&self, hold: &Hold<'_>) -> Stay<'_> {
        let token = hold.token();
        let count = &self.counts[token.place()];
        let there = count.load(Ordering::SeqCst);
        let generation = u64::from(token.generation());
        if there >> NUMBER_BITS == generation {
            count.fetch_add(1, Ordering::SeqCst);
        } else {
            // What is there is that of a former process in this place. Nobody but this process writes here now.
            count.store(generation << NUMBER_BITS | 1, Ordering::SeqCst);
        }
        Stay { inside: self, token }
    }

    /// How many are inside, of processes that are not known to have ended.
    pub(super) fn number(&self) -> io::Result<u64> {
        Ok(self.count(Registry::get()?, |registry, token| registry.is_gone(token)))
    }

    /// The same, of those that live.
    pub(super) fn living(&self) -> io::Result<u64> {
        Ok(self.count(Registry::get()?, |registry, token| registry.has_ended(token)))
    }

    fn count(&self, registry: &Registry, ended: impl Fn(&Registry, Token) -> bool) -> u64 {
        let mut sum = 0;
        for (place, count) in self.counts[..registry.used()].iter().enumerate() {
            let there = count.load(Ordering::SeqCst);
            let number = there & ((1 << NUMBER_BITS) - 1);
            let token = Token::of(place, (there >> NUMBER_BITS) as u32);
            if number > 0 && token.is_some_and(|token| !ended(registry, token)) {
                sum += number;
            }
        }
        sum
    }

    /// Waits, at the gate, until few enough are inside. False if this is a child that was forked meanwhile: it does not hold the
    /// gate.
    pub(super) fn wait(
        &self,
        hold: &Hold<'_>,
        why: WaitsFor,
        patience: &mut Patience,
        few_enough: impl Fn(u64) -> bool,
    ) -> io::Result<bool> {
        if few_enough(self.number()?) {
            return Ok(true);
        }
        let me = Me::get()?;
        let sleeper = patience.sleeper();
        let ticket = me.lock().ticket();
        let looking = Looking { inside: self, me, ticket };
        self.at_gate.store(hold.token().bits(), Ordering::SeqCst);
        let mut asked: Option<Instant> = None;
        loop {
            let waiter = Waiter::new(sleeper)?;
            {
                let mut local = me.lock();
                local.add_looker(ticket, waiter);
                me.listen(&mut local)?;
            }
            let ask = asked.is_none_or(|asked| asked.elapsed() >= TICK);
            if ask {
                asked = Some(Instant::now());
            }
            if few_enough(if ask { self.living()? } else { self.number()? }) {
                return Ok(true);
            }
            let wake = sleeper.sleep(why)?;
            if !Me::is(me.token) {
                return Ok(false);
            }
            if wake == Wake::Deadline && !few_enough(self.number()?) {
                drop(looking);
                return Err(WaitError::TimedOut.into());
            }
        }
    }
}

/// One who holds the gate and waits.
struct Looking<'a> {
    inside: &'a Inside,
    me: &'static Me,
    ticket: u64,
}

impl Drop for Looking<'_> {
    fn drop(&mut self) {
        if Me::is(self.me.token) {
            self.inside.at_gate.store(0, Ordering::SeqCst);
            self.me.lock().remove_looker(self.ticket);
        }
    }
}
