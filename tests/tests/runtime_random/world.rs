//! The model: what the actors of a program share, and what must be true of it.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::panic::resume_unwind;
use std::rc::Rc;
use std::time::Duration;

use greenlet::sync::{Event, GetError, PutError, Queue, Semaphore};
use greenlet::{Builder, Greenlet, JoinError, Pool, WaitError, spawn, spawn_later, testing};

use crate::actor::step;
use crate::{below, one_in, some_time};

/// What the actors of a program share, and what must be true of it.
pub(crate) struct World {
    pub(crate) locks: [Lock; 3],
    pub(crate) bounded: Mirrored,
    pub(crate) unbounded: Mirrored,
    pub(crate) flag: Flag,
    /// Set at the end for sure, so that it can be waited for without a limit.
    pub(crate) finale: Event,
    pub(crate) pool: Pool,
    pub(crate) pooled: Cell<usize>,
    pub(crate) actors: RefCell<Vec<Rc<Actor>>>,
    /// Made, and not run yet.
    pub(crate) links: Cell<u64>,
    /// Begun and not done.
    pub(crate) shields: Cell<u64>,
    pub(crate) made: Cell<u64>,
    pub(crate) dropped: Cell<u64>,
}

pub(crate) const POOL_SIZE: usize = 2;

impl World {
    pub(crate) fn new() -> World {
        World {
            locks: [1, 1, 2].map(Lock::new),
            bounded: Mirrored::new(Queue::bounded(2), 2),
            unbounded: Mirrored::new(Queue::unbounded(), usize::MAX),
            flag: Flag::default(),
            finale: Event::new(),
            pool: Pool::new(POOL_SIZE),
            pooled: Cell::new(0),
            actors: RefCell::default(),
            links: Cell::new(0),
            shields: Cell::new(0),
            made: Cell::new(0),
            dropped: Cell::new(0),
        }
    }

    pub(crate) fn actor(&self, index: usize) -> Option<Rc<Actor>> {
        self.actors.borrow().get(index).cloned()
    }

    pub(crate) fn any_actor(&self) -> Rc<Actor> {
        let actors = self.actors.borrow();
        actors[below(actors.len() as u64) as usize].clone()
    }

    pub(crate) fn spawn_actor(self: &Rc<Self>, depth: u32) -> Rc<Actor> {
        let fate = Rc::new(Fate { panics: one_in(10), ..Fate::default() });
        let (world, value, its_fate) = (self.clone(), below(1 << 32), fate.clone());
        let counted = Counted::new(self);
        let life = move || {
            let _counted = counted;
            its_fate.started.set(true);
            for _ in 0..below(16) {
                step(&world, depth);
            }
            if its_fate.panics {
                // the panic hook would print it
                resume_unwind(Box::new("on purpose"));
            }
            value
        };
        let greenlet = match below(4) {
            0 => spawn_later(some_time(), life),
            1 => Builder::new().name("actor").stack_size(64 * 1024).spawn(life).unwrap(),
            _ => spawn(life),
        };
        if one_in(2) {
            let world = self.clone();
            world.links.set(world.links.get() + 1);
            greenlet.link(move |ended| {
                assert!(ended.is_dead());
                world.links.set(world.links.get() - 1);
            });
        }
        if one_in(4) {
            let link = greenlet.link(|_| unreachable!("taken back"));
            assert!(greenlet.unlink(link) && !greenlet.unlink(link));
        }
        let actor = Rc::new(Actor { greenlet, value, fate });
        self.actors.borrow_mut().push(actor.clone());
        actor
    }

    /// Nobody is left: everything is where it was in the beginning.
    pub(crate) fn check_rest(&self) {
        for lock in &self.locks {
            assert_eq!((lock.inside.get(), lock.semaphore.available()), (0, lock.permits));
            assert!(lock.came.borrow().is_empty());
            assert_nobody_waits(&lock.semaphore);
        }
        for mirrored in [&self.bounded, &self.unbounded] {
            while let Ok(value) = mirrored.queue.try_get() {
                mirrored.came_out(&value);
            }
            assert!(mirrored.inside.borrow().is_empty(), "a value was lost");
        }
        assert_nobody_waits(&self.flag.event);
        assert_nobody_waits(&self.finale);
        assert_eq!((self.pool.len(), self.pool.free_count(), self.pooled.get()), (0, POOL_SIZE, 0));
        assert_eq!(self.links.get(), 0, "each link is run once");
        assert_eq!(self.shields.get(), 0, "a kill or a timeout got through a shield");
        assert_eq!(self.made, self.dropped, "closures and values that were made, and dropped");
        let stats = greenlet::stats();
        assert_eq!((stats.greenlets, stats.stacks, stats.timers, stats.descriptors), (0, 0, 0, 0));
    }
}

pub(crate) fn assert_nobody_waits(waited_for: &impl std::fmt::Debug) {
    let text = format!("{waited_for:?}");
    assert!(text.contains("waiting: 0"), "{text}");
}

/// A greenlet, and how it may end.
pub(crate) struct Actor {
    pub(crate) greenlet: Greenlet<u64>,
    pub(crate) value: u64,
    pub(crate) fate: Rc<Fate>,
}

#[derive(Default)]
pub(crate) struct Fate {
    pub(crate) panics: bool,
    pub(crate) killed: Cell<bool>,
    pub(crate) killed_unstarted: Cell<bool>,
    pub(crate) started: Cell<bool>,
    pub(crate) joined: Cell<bool>,
}

impl Actor {
    pub(crate) fn kill_soon(&self) {
        self.fate.killed.set(true);
        if !self.fate.started.get() && !self.greenlet.is_dead() {
            self.fate.killed_unstarted.set(true);
        }
        self.greenlet.kill_soon();
    }

    /// It is dead: takes its value, if nobody has.
    pub(crate) fn check_end(&self) {
        assert!(self.greenlet.is_dead());
        let result = self.greenlet.join();
        self.check(&result);
    }

    pub(crate) fn check(&self, result: &Result<u64, JoinError>) {
        let fate = &self.fate;
        match result {
            Ok(value) => {
                assert!(!fate.panics && !fate.joined.replace(true));
                assert_eq!(*value, self.value);
            }
            Err(JoinError::Panicked(panic)) => {
                assert!(
                    fate.panics && !fate.joined.replace(true) && panic.message() == "on purpose",
                    "{panic}"
                );
            }
            Err(JoinError::Killed) => assert!(fate.killed.get()),
            Err(JoinError::Taken) => assert!(fate.joined.get()),
            Err(error) => panic!("{error}"),
        }
        if fate.killed_unstarted.get() {
            assert!(!fate.started.get(), "killed before it started, and started nevertheless");
        }
    }
}

/// Notes in the world that it was made and that it was dropped.
pub(crate) struct Counted(Rc<World>);

impl Counted {
    pub(crate) fn new(world: &Rc<World>) -> Counted {
        world.made.set(world.made.get() + 1);
        Counted(world.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.dropped.set(self.0.dropped.get() + 1);
    }
}

/// A semaphore, and who is inside and who waits.
pub(crate) struct Lock {
    pub(crate) semaphore: Semaphore,
    pub(crate) permits: usize,
    pub(crate) inside: Cell<usize>,
    /// Tickets of those who want in, in the order in which they came.
    pub(crate) came: RefCell<VecDeque<u64>>,
    pub(crate) tickets: Cell<u64>,
}

impl Lock {
    pub(crate) fn new(permits: usize) -> Lock {
        Lock {
            semaphore: Semaphore::new(permits),
            permits,
            inside: Cell::new(0),
            came: RefCell::default(),
            tickets: Cell::new(0),
        }
    }

    pub(crate) fn hold(&self, limit: Option<Duration>, f: impl FnOnce()) {
        let ticket = self.tickets.replace(self.tickets.get() + 1);
        self.came.borrow_mut().push_back(ticket);
        let leaving = OnDrop(|| self.came.borrow_mut().retain(|other| *other != ticket));
        let permit = match lasts(limit, |limit| match limit {
            Some(limit) => self.semaphore.acquire_timeout(limit),
            None => self.semaphore.acquire(),
        }) {
            Some(permit) => permit,
            None => return,
        };
        // Those who came before may be ahead only if they have been handed their permits and have not run since.
        let handed_over = self.permits - self.inside.get() - self.semaphore.available();
        let ahead = self.came.borrow().iter().position(|other| *other == ticket).unwrap();
        assert!(ahead < handed_over, "overtaken: {ahead} ahead, {handed_over} permits on their way");
        drop(leaving);
        self.inside.set(self.inside.get() + 1);
        assert!(self.inside.get() <= self.permits);
        let _leaving = OnDrop(|| self.inside.set(self.inside.get() - 1));
        f();
        drop(permit);
    }
}

pub(crate) struct OnDrop<F: FnMut()>(pub(crate) F);

impl<F: FnMut()> Drop for OnDrop<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}

/// A queue, and what must be in it.
pub(crate) struct Mirrored {
    pub(crate) queue: Queue<(u64, Counted)>,
    pub(crate) inside: RefCell<VecDeque<u64>>,
    pub(crate) capacity: usize,
    pub(crate) numbers: Cell<u64>,
}

impl Mirrored {
    pub(crate) fn new(queue: Queue<(u64, Counted)>, capacity: usize) -> Mirrored {
        Mirrored { queue, inside: RefCell::default(), capacity, numbers: Cell::new(0) }
    }

    pub(crate) fn put(&self, world: &Rc<World>, limit: Duration) {
        let number = self.numbers.replace(self.numbers.get() + 1);
        let value = (number, Counted::new(world));
        let put = lasts(Some(limit), |_| match self.queue.put_timeout(value, limit) {
            Ok(()) => Ok(()),
            Err(PutError::Wait((returned, _), error)) => {
                assert_eq!(returned, number);
                Err(error)
            }
            Err(other) => panic!("{other}"),
        });
        if put.is_some() {
            self.inside.borrow_mut().push_back(number);
            assert!(self.inside.borrow().len() <= self.capacity);
        }
    }

    pub(crate) fn get(&self, limit: Duration) {
        let got = lasts(Some(limit), |_| match self.queue.get_timeout(limit) {
            Ok(value) => Ok(value),
            Err(GetError::Wait(error)) => Err(error),
            Err(other) => panic!("{other:?}"),
        });
        got.iter().for_each(|value| self.came_out(value));
    }

    pub(crate) fn came_out(&self, value: &(u64, Counted)) {
        assert_eq!(self.inside.borrow_mut().pop_front(), Some(value.0));
    }
}

/// An event, and how often it was set.
#[derive(Default)]
pub(crate) struct Flag {
    pub(crate) event: Event,
    pub(crate) sets: Cell<u64>,
}

impl Flag {
    pub(crate) fn set(&self) {
        self.sets.set(self.sets.get() + 1);
        self.event.set();
    }

    pub(crate) fn wait(&self, limit: Duration) {
        let (sets, up) = (self.sets.get(), self.event.is_set());
        let seen = lasts(Some(limit), |_| self.event.wait_timeout(limit)).is_some();
        assert_eq!(seen, up || self.sets.get() > sets, "a set that was missed or made up");
    }
}

/// Makes a call that waits: it must end within its limit, or with `TimedOut` exactly at its end.
pub(crate) fn lasts<T>(
    limit: Option<Duration>,
    wait: impl FnOnce(Option<Duration>) -> Result<T, WaitError>,
) -> Option<T> {
    let began = testing::elapsed();
    let result = wait(limit);
    let lasted = testing::elapsed() - began;
    match result {
        Ok(value) => {
            assert!(limit.is_none_or(|limit| lasted <= limit), "{lasted:?} of {limit:?}");
            Some(value)
        }
        Err(WaitError::TimedOut) => {
            assert_eq!(Some(lasted), limit);
            None
        }
        Err(error) => panic!("{error}"),
    }
}
