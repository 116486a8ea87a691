//! Timers: a four-ary heap of deadlines whose entries can be taken out again.
//!
//! Every entry knows its place in the heap, so that a wait which ends early removes its timer at once: nothing is
//! left behind to be skipped later, and memory follows the number of pending timers.

use slab::Slab;

use super::clock::Moment;

/// Names one pending timer. A key whose timer has fired or was removed is harmless.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TimerKey {
    slot: u32,
    seq: u32,
}

/// What the heap compares, kept together so that four children share a cache line.
#[derive(Clone, Copy)]
struct Node {
    at: Moment,
    /// Order of insertion: equal deadlines fire first come, first served.
    seq: u32,
    slot: u32,
}

impl Node {
    fn before(&self, other: &Node) -> bool {
        self.at < other.at || (self.at == other.at && (self.seq.wrapping_sub(other.seq) as i32) < 0)
    }
}

struct Entry<A> {
    position: u32,
    seq: u32,
    action: A,
}

/// Pending timers, each with an action that `pop_due` hands back when its time has come.
pub(crate) struct Timers<A> {
    heap: Vec<Node>,
    entries: Slab<Entry<A>>,
    next_seq: u32,
}

const ARITY: usize = 4;

impl<A> Timers<A> {
    pub(crate) fn new() -> Self {
        Timers { heap: Vec::new(), entries: Slab::new(), next_seq: 0 }
    }

    /// Adds a timer that is due at `at`.
    #[inline]
    pub(crate) fn insert(&mut self, at: Moment, action: A) -> TimerKey {
        let seq = self.next_seq;
        self.next_seq = seq.wrapping_add(1);
        let vacant = self.entries.vacant_key();
        let node = Node { at, seq, slot: vacant as u32 };
        let end = self.heap.len();
        self.heap.push(node);
        let position = self.rise(end, node);
        self.entries.insert(Entry { position: position as u32, seq, action });
        TimerKey { slot: node.slot, seq }
    }

    /// Takes a timer out; `None` if it has fired or was removed before.
    #[inline]
    pub(crate) fn remove(&mut self, key: TimerKey) -> Option<A> {
        match self.entries.get(key.slot as usize) {
            Some(entry) if entry.seq == key.seq => {
                let position = entry.position as usize;
                Some(self.take(position))
            }
            _ => None,
        }
    }

    /// When a timer is due; `None` if it has fired or was removed before.
    pub(crate) fn due_at(&self, key: TimerKey) -> Option<Moment> {
        let entry = self.entries.get(key.slot as usize).filter(|entry| entry.seq == key.seq)?;
        Some(self.heap[entry.position as usize].at)
    }

    /// When the earliest timer is due.
    pub(crate) fn next_at(&self) -> Option<Moment> {
        self.heap.first().map(|node| node.at)
    }

    /// Takes the earliest timer if it is due at `now`.
    pub(crate) fn pop_due(&mut self, now: Moment) -> Option<A> {
        (self.next_at()? <= now).then(|| self.take(0))
    }

    /// All that are pending, in no order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (Moment, &A)> {
        self.heap.iter().map(|node| (node.at, &self.entries[node.slot as usize].action))
    }

    /// How many timers are pending.
    pub(crate) fn len(&self) -> usize {
        self.heap.len()
    }

    #[inline]
    fn take(&mut self, position: usize) -> A {
        let node = self.heap[position];
        if let Some(last) = self.heap.pop().filter(|last| last.slot != node.slot) {
            self.refill(position, last);
        }
        self.entries.remove(node.slot as usize).action
    }

    /// Fills a hole in the heap with the node that was its last.
    fn refill(&mut self, hole: usize, node: Node) {
        let mut position = self.rise(hole, node);
        if position == hole {
            position = self.sink(hole, node);
        }
        self.entries[node.slot as usize].position = position as u32;
    }

    /// Moves the hole up to where `node` belongs and puts it there; its entry is left to the caller.
    #[inline]
    fn rise(&mut self, mut hole: usize, node: Node) -> usize {
        while hole > 0 {
            let parent = (hole - 1) / ARITY;
            if !node.before(&self.heap[parent]) {
                break;
            }
            self.shift(parent, hole);
            hole = parent;
        }
        self.heap[hole] = node;
        hole
    }

    /// As [`rise`](Self::rise), downwards.
    fn sink(&mut self, mut hole: usize, node: Node) -> usize {
        loop {
            let first = hole * ARITY + 1;
            let end = (first + ARITY).min(self.heap.len());
            let Some((eldest, others)) = self.heap.get(first..end).and_then(<[Node]>::split_first) else {
                break;
            };
            let mut least = (first, *eldest);
            for (place, child) in (first + 1..).zip(others) {
                if child.before(&least.1) {
                    least = (place, *child);
                }
            }
            if !least.1.before(&node) {
                break;
            }
            self.shift(least.0, hole);
            hole = least.0;
        }
        self.heap[hole] = node;
        hole
    }

    /// Moves a node into the hole and leaves one where it was.
    #[inline]
    fn shift(&mut self, from: usize, hole: usize) {
        let node = self.heap[from];
        self.heap[hole] = node;
        self.entries[node.slot as usize].position = hole as u32;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(n: u64) -> Moment {
        Moment::from_nanos(n)
    }

    /// A small generator, so that the test needs no crate and repeats exactly.
    fn random(state: &mut u64) -> u64 {
        *state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        *state >> 33
    }

    #[test]
    fn timers_fire_in_order_of_deadline_then_of_insertion() {
        let mut timers = Timers::new();
        for (n, action) in [(5, 'c'), (1, 'a'), (5, 'd'), (3, 'b'), (5, 'e')] {
            timers.insert(at(n), action);
        }
        let fired: String = std::iter::from_fn(|| timers.pop_due(at(9))).collect();
        assert_eq!(fired, "abcde");
    }

    #[test]
    fn nothing_fires_before_its_time() {
        let mut timers = Timers::new();
        timers.insert(at(10), ());
        assert!(timers.pop_due(at(9)).is_none());
        assert!(timers.pop_due(at(10)).is_some());
    }

    #[test]
    fn a_removed_timer_is_gone_and_its_key_harmless() {
        let mut timers = Timers::new();
        let key = timers.insert(at(1), 'x');
        assert_eq!(timers.remove(key), Some('x'));
        let other = timers.insert(at(1), 'y');
        assert_eq!(timers.remove(key), None, "the slot was used again, by another timer");
        assert_eq!(timers.remove(other), Some('y'));
        assert_eq!(timers.len(), 0);
    }

    #[test]
    fn random_insertions_and_removals_agree_with_a_sorted_map() {
        let mut state = 7;
        let mut timers = Timers::new();
        let mut model = std::collections::BTreeMap::new();
        let mut keys = Vec::new();
        for n in 0..20_000u64 {
            match random(&mut state) % 4 {
                0 | 1 => {
                    let due = random(&mut state) % 1000;
                    keys.push((timers.insert(at(due), n), due, n));
                    model.insert((due, n), n);
                }
                2 if !keys.is_empty() => {
                    let (key, due, n) = keys.swap_remove(random(&mut state) as usize % keys.len());
                    assert_eq!(timers.remove(key), model.remove(&(due, n)));
                }
                _ => {
                    let first = model.first_key_value().map(|(k, _)| *k);
                    assert_eq!(timers.next_at(), first.map(|(due, _)| at(due)));
                    if let Some(k) = first {
                        model.remove(&k);
                        assert_eq!(timers.pop_due(at(k.0)), Some(k.1));
                    }
                }
            }
        }
        assert_eq!(timers.len(), model.len());
    }
}
