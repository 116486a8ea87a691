//! The gate: one process's greenlet at a time, across processes, in a fair order, whoever is killed.
//!
//! # The word
//! Everything that counts is in one 64-bit word: the owner's [`Token`] (zero: nobody), whether somebody waits (`WAITED`), whether
//! the owner was handed the gate and has not taken it yet (`HANDED`), and a count of arrivals and departures. The rules:
//!
//! 1. It is taken by `0 -> owner`, and, when nobody waits, left by `owner -> 0`. Nothing else is done then.
//! 2. A process that waits has its ticket in `waiting`, first; then it counts itself in the word. So whoever replaces the word of the
//!    owner by a compare-and-exchange, having read the tickets after it, has missed nobody.
//! 3. A process that waits no more takes its ticket out first and counts again: nobody hands it the gate from an older look.
//! 4. Only the owner replaces its token, by nobody's or that of the oldest ticket; or, when it has died, anyone does in its stead.
//!    A token is never anyone else's, so that this happens once. The heir's bell is rung then. If that is not done any more,
//!    the heir sees it at its next look, at most a [`TICK`](super::me::TICK) later.
//!
//! A process can be killed between any two of these steps: what it leaves behind is its token in the word, for rule 4, and a
//! ticket, with which it may inherit once more, for rule 4 again.
//!
//! # Within a process
//! Those of one process queue in its own memory, under its own lock; the process has one ticket for all of them.

use std::collections::BTreeMap;
use std::io;
use std::mem;
use std::ptr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::me::{Local, Me, Waiter};
use super::registry::{MAX_PROCESSES, Registry, Token};
use crate::error::WaitError;
use crate::greenlet::{WaitsFor, Wake};
use crate::sync::shared::Sleeper;

const WAITED: u64 = 1 << 32;
const HANDED: u64 = 1 << 33;
/// One arrival or departure.
const COUNT: u64 = 1 << 34;

/// How many of its own a process lets in, one after the other, while other processes wait.
const OWN_TURNS: u32 = 16;

/// Of what is in `waiting`, so many bits are the ticket; above are the generation's.
const TICKET_BITS: u32 = 40;

/// The gate, in shared memory. Zeroes are one that is open.
#[repr(C)]
pub(super) struct Gate {
    word: AtomicU64,
    next_ticket: AtomicU64,
    /// For each process the generation of its token and its ticket; zero while it does not wait.
    waiting: [AtomicU64; MAX_PROCESSES],
}

/// A process's hold on a gate; dropping it lets the next one in. In a forked child it is nothing.
pub(super) struct Hold<'a> {
    gate: &'a Gate,
    token: Token,
}

impl Hold<'_> {
    /// Whether it is this process's, and not that of the one which forked it.
    #[inline]
    pub(super) fn is_ours(&self) -> bool {
        Me::is(self.token)
    }

    /// For who is about to use what it protects: panics in a forked child, whose copy protects nothing.
    #[inline]
    pub(super) fn check(&self) {
        check(self.token);
    }

    /// Whose it is.
    pub(super) fn token(&self) -> Token {
        self.token
    }
}

/// Panics unless this process is the one with that token.
#[inline]
pub(super) fn check(token: Token) {
    assert!(
        Me::is(token),
        "a guard of greenlet::shm was used in a forked child: it is the parent's; lock again here"
    );
}

impl Drop for Hold<'_> {
    #[inline]
    fn drop(&mut self) {
        if self.is_ours() {
            self.gate.leave(self.token);
        }
    }
}

/// How long somebody is ready to wait, and how, which is found out when there is need to.
pub(super) struct Patience {
    timeout: Option<Duration>,
    sleeper: Option<Sleeper>,
}

impl Patience {
    #[inline]
    pub(super) fn new(timeout: Option<Duration>) -> Patience {
        Patience { timeout, sleeper: None }
    }

    pub(super) fn sleeper(&mut self) -> &Sleeper {
        let timeout = self.timeout;
        self.sleeper.get_or_insert_with(|| Sleeper::new(timeout))
    }
}

impl Gate {
    /// Goes through, waiting while somebody else holds it.
    #[inline]
    pub(super) fn enter(&self, why: WaitsFor, patience: &mut Patience) -> io::Result<Hold<'_>> {
        let token = Me::get()?.token;
        if self.take(token) { Ok(Hold { gate: self, token }) } else { self.wait(why, patience) }
    }

    /// Goes through if nobody else holds it. Somebody who has died holds nothing.
    #[inline]
    pub(super) fn try_enter(&self) -> io::Result<Option<Hold<'_>>> {
        let me = Me::get()?;
        let taken = self.take(me.token) || (self.bury(me) && self.take(me.token));
        // Made only if it is held: it lets go when it is dropped.
        Ok(taken.then(|| Hold { gate: self, token: me.token }))
    }

    #[inline]
    fn take(&self, token: Token) -> bool {
        self.word.compare_exchange(0, token.bits().into(), Ordering::SeqCst, Ordering::Relaxed).is_ok()
    }

    #[inline]
    fn leave(&self, token: Token) {
        let alone =
            self.word.compare_exchange(token.bits().into(), 0, Ordering::SeqCst, Ordering::Relaxed).is_ok();
        if !alone && let Some(me) = Me::existing() {
            self.release(me, &mut me.lock());
        }
    }

    /// The key of the queue of this process.
    fn key(&self) -> usize {
        ptr::from_ref(self).addr()
    }

    fn replace(&self, word: u64, new: u64) -> bool {
        self.word.compare_exchange(word, new, Ordering::SeqCst, Ordering::SeqCst).is_ok()
    }

    fn ticket_of(&self, token: Token) -> &AtomicU64 {
        &self.waiting[token.place()]
    }

    #[cold]
    #[inline(never)]
    fn wait(&self, why: WaitsFor, patience: &mut Patience) -> io::Result<Hold<'_>> {
        let sleeper = patience.sleeper();
        loop {
            let me = Me::get()?;
            let waiter = Waiter::new(sleeper)?;
            let place = {
                let mut local = me.lock();
                let alone = local.queues.get(&self.key()).is_none_or(Queue::is_empty);
                if self.come(me, alone) {
                    return Ok(Hold { gate: self, token: me.token });
                }
                let ticket = local.ticket();
                // SAFETY: the queue uses it only while somebody is in the line, under the lock, and who is in it borrows
                // the gate: the place takes it out before that borrow ends. One that is abandoned where it stands, when
                // its thread exits, never ends its borrow.
                let gate = unsafe { &*ptr::from_ref(self) };
                let queue = local.queues.entry(self.key()).or_insert_with(|| Queue::new(gate));
                queue.line.insert(ticket, waiter);
                // From here on, however it ends, the place takes it back.
                let place = Place { gate: self, me, ticket };
                let listening = me.listen(&mut local);
                drop(local);
                listening?;
                place
            };
            match place.wait(why, sleeper)? {
                Waited::Called => return Ok(Hold { gate: self, token: me.token }),
                Waited::Forked => {}
            }
        }
    }

    /// Takes the gate if it is to be had at once; otherwise counts this process among those who wait for it, or for it to be
    /// passed on within the process. `alone`: none of this process waits yet.
    fn come(&self, me: &Me, alone: bool) -> bool {
        let own = u64::from(me.token.bits());
        loop {
            let word = self.word.load(Ordering::SeqCst);
            let owner = Token::from_bits(word as u32);
            match owner {
                None if alone => {
                    if self.replace(word, own) {
                        self.ticket_of(me.token).store(0, Ordering::SeqCst);
                        return true;
                    }
                }
                // It was meant for those in the queue, who have gone.
                Some(owner) if owner == me.token && word & HANDED != 0 && alone => {
                    if self.replace(word, word & !HANDED) {
                        self.ticket_of(me.token).store(0, Ordering::SeqCst);
                        return true;
                    }
                }
                Some(owner) if owner == me.token => {
                    if word & WAITED != 0 || self.replace(word, word | WAITED) {
                        return false;
                    }
                }
                Some(owner) if me.registry.is_gone(owner) => drop(self.pass_on(me.registry, word)),
                // Those in the queue have counted this process.
                _ if !alone && self.ticket_of(me.token).load(Ordering::SeqCst) != 0 => return false,
                _ => {
                    self.draw(me);
                    if owner.is_some() && self.replace(word, (word | WAITED).wrapping_add(COUNT)) {
                        return false;
                    }
                }
            }
        }
    }

    /// Draws a ticket, if this process has none.
    fn draw(&self, me: &Me) {
        let own = self.ticket_of(me.token);
        let there = own.load(Ordering::SeqCst);
        if there == 0 || (there >> TICKET_BITS) as u32 != me.token.generation() {
            let ticket = self.next_ticket.fetch_add(1, Ordering::SeqCst) & ((1 << TICKET_BITS) - 1);
            own.store(u64::from(me.token.generation()) << TICKET_BITS | ticket, Ordering::SeqCst);
        }
    }

    /// The process that has waited longest.
    fn first(&self, registry: &Registry) -> Option<Token> {
        let mut first = None;
        for (place, waiting) in self.waiting[..registry.used()].iter().enumerate() {
            let there = waiting.load(Ordering::SeqCst);
            let Some(token) = Token::of(place, (there >> TICKET_BITS) as u32) else { continue };
            if registry.is_gone(token) {
                // Nobody else writes it but a successor in its place.
                let _ = waiting.compare_exchange(there, 0, Ordering::SeqCst, Ordering::SeqCst);
                continue;
            }
            let ticket = there & ((1 << TICKET_BITS) - 1);
            if first.is_none_or(|(oldest, _)| ticket < oldest) {
                first = Some((ticket, token));
            }
        }
        first.map(|(_, token)| token)
    }

    /// Passes the gate on from the owner in `word` to who has waited longest; false if the word has changed.
    fn pass_on(&self, registry: &Registry, word: u64) -> bool {
        let next = self.first(registry);
        let passed = self.replace(word, next.map_or(0, |next| HANDED | WAITED | u64::from(next.bits())));
        if let Some(next) = next.filter(|_| passed) {
            registry.ring(next);
        }
        passed
    }

    /// Passes the gate on if its owner has ended; false if it lives.
    #[cold]
    #[inline(never)]
    fn bury(&self, me: &Me) -> bool {
        loop {
            let word = self.word.load(Ordering::SeqCst);
            match Token::from_bits(word as u32) {
                None => return true,
                Some(owner) if owner == me.token || !me.registry.has_ended(owner) => return false,
                Some(owner) => {
                    self.forget_ticket(owner);
                    self.pass_on(me.registry, word);
                }
            }
        }
    }

    /// One that has ended inherits no more.
    fn forget_ticket(&self, ended: Token) {
        let waiting = self.ticket_of(ended);
        let there = waiting.load(Ordering::SeqCst);
        if (there >> TICKET_BITS) as u32 == ended.generation() {
            // It fails where a successor in its place has drawn its own.
            let _ = waiting.compare_exchange(there, 0, Ordering::SeqCst, Ordering::SeqCst);
        }
    }

    /// Lets the next one in: the gate is this process's, and taken.
    #[cold]
    #[inline(never)]
    fn release(&self, me: &Me, local: &mut Local) {
        if let Some(queue) = local.queues.get_mut(&self.key()) {
            if queue.turns < OWN_TURNS || self.first(me.registry).is_none() {
                queue.turns = queue.turns.saturating_add(1);
                if queue.call_next() {
                    return;
                }
            }
            if queue.is_empty() {
                local.queues.remove(&self.key());
            } else {
                // The others' turn; those here come behind them.
                queue.turns = 0;
            }
        }
        match local.queues.contains_key(&self.key()) {
            true => self.draw(me),
            false => self.ticket_of(me.token).store(0, Ordering::SeqCst),
        }
        while !self.pass_on(me.registry, self.word.load(Ordering::SeqCst)) {}
    }

    /// Takes this process's ticket back: none of its own waits any more.
    fn withdraw(&self, me: &Me, local: &mut Local) {
        self.ticket_of(me.token).store(0, Ordering::SeqCst);
        loop {
            let word = self.word.load(Ordering::SeqCst);
            match Token::from_bits(word as u32) {
                None => return,
                Some(owner) if owner != me.token => {
                    if self.replace(word, word.wrapping_add(COUNT)) {
                        return;
                    }
                }
                Some(_) if word & HANDED == 0 => return,
                // It has come at this moment: it goes on.
                Some(_) => {
                    if self.replace(word, word & !HANDED) {
                        return self.release(me, local);
                    }
                }
            }
        }
    }
}

/// Those of this process who wait at one gate.
pub(super) struct Queue {
    /// Good while somebody is in the line.
    gate: &'static Gate,
    line: BTreeMap<u64, Waiter>,
    /// How many of this process have been let in one after the other.
    turns: u32,
}

impl Queue {
    fn new(gate: &'static Gate) -> Queue {
        Queue { gate, line: BTreeMap::new(), turns: 0 }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.line.is_empty()
    }

    pub(super) fn into_waiters(self) -> impl Iterator<Item = Waiter> {
        self.line.into_values()
    }

    /// Lets the first of the line through; false when nobody is left.
    fn call_next(&mut self) -> bool {
        while let Some((_, waiter)) = self.line.pop_first() {
            if waiter.wake() {
                return true;
            }
        }
        false
    }

    /// Lets the first of the line through if the gate has come to this process. With `ask`, looks also whether its owner is
    /// still alive.
    pub(super) fn look(&mut self, me: &Me, ask: bool) {
        if self.is_empty() {
            return;
        }
        let gate = self.gate;
        loop {
            let word = gate.word.load(Ordering::SeqCst);
            let ours = u64::from(me.token.bits()) | WAITED;
            let taken = match Token::from_bits(word as u32) {
                // By the rules it cannot be free while somebody waits. It does no harm to see to it.
                None => gate.replace(word, ours),
                Some(owner) if owner == me.token && word & HANDED != 0 => gate.replace(word, word & !HANDED),
                Some(owner) if owner == me.token => return,
                Some(owner) if me.registry.is_gone(owner) || (ask && me.registry.has_ended(owner)) => {
                    gate.forget_ticket(owner);
                    gate.pass_on(me.registry, word);
                    false
                }
                Some(_) => return,
            };
            if !taken {
                continue;
            }
            gate.ticket_of(me.token).store(0, Ordering::SeqCst);
            self.turns = 0;
            if !self.call_next() {
                while !gate.pass_on(me.registry, gate.word.load(Ordering::SeqCst)) {}
            }
            return;
        }
    }
}

enum Waited {
    Called,
    /// This is a child, forked meanwhile.
    Forked,
}

/// A place in the queue of this process. However the wait ends, it is left, or the gate that had come goes on to the next.
struct Place<'a> {
    gate: &'a Gate,
    me: &'static Me,
    ticket: u64,
}

impl Place<'_> {
    /// Waits until called; the gate is the caller's then.
    fn wait(self, why: WaitsFor, sleeper: &Sleeper) -> io::Result<Waited> {
        loop {
            let wake = sleeper.sleep(why)?;
            if !Me::is(self.me.token) {
                mem::forget(self);
                return Ok(Waited::Forked);
            }
            let waits = {
                let local = self.me.lock();
                let queue = local.queues.get(&self.gate.key());
                queue.is_some_and(|queue| queue.line.contains_key(&self.ticket))
            };
            if !waits {
                mem::forget(self);
                return Ok(Waited::Called);
            }
            if wake == Wake::Deadline {
                return Err(WaitError::TimedOut.into());
            }
        }
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        if !Me::is(self.me.token) {
            return;
        }
        let mut local = self.me.lock();
        let queue = local.queues.get_mut(&self.gate.key());
        let waited = queue.and_then(|queue| queue.line.remove(&self.ticket).map(|_| queue.is_empty()));
        let Some(last) = waited else { return self.gate.release(self.me, &mut local) };
        if last {
            // Those who went through in a row are remembered while one of them holds the gate.
            if Token::from_bits(self.gate.word.load(Ordering::SeqCst) as u32) != Some(self.me.token) {
                local.queues.remove(&self.gate.key());
            }
            self.gate.withdraw(self.me, &mut local);
        }
    }
}
