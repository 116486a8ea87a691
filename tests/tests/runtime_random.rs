//! Random programs of greenlets against a simple model. Each follows from a seed, order and time included, so that one
//! that has failed fails again: `GREENLET_SEED=7 cargo test -p greenserve-tests --test runtime_random`.
//! `RANDOM_PROGRAMS=100000` makes it run so many, from the seed 0 on.
//!
//! The model says what must hold in whatever order things happen: how long a wait lasts (virtual time is exact), who may
//! hold a permit, which value comes out of a queue, how a greenlet may have ended, and that nothing is left at the end.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::panic::resume_unwind;
use std::rc::Rc;
use std::time::Duration;

use greenlet::net::UnixStream;
use greenlet::sync::{Event, GetError, PutError, Queue, Semaphore};
use greenlet::testing::{self, Sim};
use greenlet::{
    Builder, Greenlet, JoinError, Pool, WaitError, shield, sleep, spawn, spawn_later, timeout, yield_now,
};

#[test]
fn random_programs_do_what_the_model_says_and_leave_nothing_behind() {
    let programs = match std::env::var("RANDOM_PROGRAMS") {
        Ok(text) => text.parse().expect("RANDOM_PROGRAMS is a number"),
        Err(_) => 5000,
    };
    // Both ends of every socket are in the run: what is not there at once does not come.
    Sim::new().settle(Duration::ZERO).each_seed(0..programs, program);
}

#[test]
fn the_same_seed_makes_the_same_program_and_runs_it_the_same_way() {
    let trace = |seed| {
        Sim::new().seed(seed).settle(Duration::ZERO).run(|| {
            program();
            testing::trace()
        })
    };
    for seed in 0..20 {
        assert_eq!(trace(seed), trace(seed), "seed {seed}");
    }
}

fn program() {
    let world = Rc::new(World::new());
    for _ in 0..2 + below(8) {
        world.spawn_actor(0);
    }
    sleep(some_time());
    world.finale.set();
    // More come while these are waited for.
    let mut next = 0;
    while let Some(actor) = world.actor(next) {
        actor.greenlet.wait(None).expect("every wait of an actor comes to an end");
        actor.check_end();
        next += 1;
    }
    world.pool.join(None).expect("what is in the pool comes to an end");
    // Whoever else there is has a limit. Right after the last of them nothing is left: a timer, for instance, that
    // nobody waits for would fire soon and be gone.
    for _ in 0..1000 {
        if greenlet::stats().greenlets == 0 {
            break;
        }
        sleep(Duration::from_millis(1));
    }
    world.check_rest();
}

/// A number below `n`.
fn below(n: u64) -> u64 {
    testing::random() % n
}

fn one_in(n: u64) -> bool {
    below(n) == 0
}

/// Few different ones, so that things happen at the same moment.
fn some_time() -> Duration {
    Duration::from_millis(10 * below(8))
}

// ---- the model

/// What the actors of a program share, and what must be true of it.
struct World {
    locks: [Lock; 3],
    bounded: Mirrored,
    unbounded: Mirrored,
    flag: Flag,
    /// Set at the end for sure, so that it can be waited for without a limit.
    finale: Event,
    pool: Pool,
    pooled: Cell<usize>,
    actors: RefCell<Vec<Rc<Actor>>>,
    /// Made, and not run yet.
    links: Cell<u64>,
    /// Begun and not done.
    shields: Cell<u64>,
    made: Cell<u64>,
    dropped: Cell<u64>,
}

const POOL_SIZE: usize = 2;

impl World {
    fn new() -> World {
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

    fn actor(&self, index: usize) -> Option<Rc<Actor>> {
        self.actors.borrow().get(index).cloned()
    }

    fn any_actor(&self) -> Rc<Actor> {
        let actors = self.actors.borrow();
        actors[below(actors.len() as u64) as usize].clone()
    }

    fn spawn_actor(self: &Rc<Self>, depth: u32) -> Rc<Actor> {
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
    fn check_rest(&self) {
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

fn assert_nobody_waits(waited_for: &impl std::fmt::Debug) {
    let text = format!("{waited_for:?}");
    assert!(text.contains("waiting: 0"), "{text}");
}

/// A greenlet, and how it may end.
struct Actor {
    greenlet: Greenlet<u64>,
    value: u64,
    fate: Rc<Fate>,
}

#[derive(Default)]
struct Fate {
    panics: bool,
    killed: Cell<bool>,
    killed_unstarted: Cell<bool>,
    started: Cell<bool>,
    joined: Cell<bool>,
}

impl Actor {
    fn kill_soon(&self) {
        self.fate.killed.set(true);
        if !self.fate.started.get() && !self.greenlet.is_dead() {
            self.fate.killed_unstarted.set(true);
        }
        self.greenlet.kill_soon();
    }

    /// It is dead: takes its value, if nobody has.
    fn check_end(&self) {
        assert!(self.greenlet.is_dead());
        let result = self.greenlet.join();
        self.check(&result);
    }

    fn check(&self, result: &Result<u64, JoinError>) {
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
struct Counted(Rc<World>);

impl Counted {
    fn new(world: &Rc<World>) -> Counted {
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
struct Lock {
    semaphore: Semaphore,
    permits: usize,
    inside: Cell<usize>,
    /// Tickets of those who want in, in the order in which they came.
    came: RefCell<VecDeque<u64>>,
    tickets: Cell<u64>,
}

impl Lock {
    fn new(permits: usize) -> Lock {
        Lock {
            semaphore: Semaphore::new(permits),
            permits,
            inside: Cell::new(0),
            came: RefCell::default(),
            tickets: Cell::new(0),
        }
    }

    fn hold(&self, limit: Option<Duration>, f: impl FnOnce()) {
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

struct OnDrop<F: FnMut()>(F);

impl<F: FnMut()> Drop for OnDrop<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}

/// A queue, and what must be in it.
struct Mirrored {
    queue: Queue<(u64, Counted)>,
    inside: RefCell<VecDeque<u64>>,
    capacity: usize,
    numbers: Cell<u64>,
}

impl Mirrored {
    fn new(queue: Queue<(u64, Counted)>, capacity: usize) -> Mirrored {
        Mirrored { queue, inside: RefCell::default(), capacity, numbers: Cell::new(0) }
    }

    fn put(&self, world: &Rc<World>, limit: Duration) {
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

    fn get(&self, limit: Duration) {
        let got = lasts(Some(limit), |_| match self.queue.get_timeout(limit) {
            Ok(value) => Ok(value),
            Err(GetError::Wait(error)) => Err(error),
            Err(other) => panic!("{other:?}"),
        });
        got.iter().for_each(|value| self.came_out(value));
    }

    fn came_out(&self, value: &(u64, Counted)) {
        assert_eq!(self.inside.borrow_mut().pop_front(), Some(value.0));
    }
}

/// An event, and how often it was set.
#[derive(Default)]
struct Flag {
    event: Event,
    sets: Cell<u64>,
}

impl Flag {
    fn set(&self) {
        self.sets.set(self.sets.get() + 1);
        self.event.set();
    }

    fn wait(&self, limit: Duration) {
        let (sets, up) = (self.sets.get(), self.event.is_set());
        let seen = lasts(Some(limit), |_| self.event.wait_timeout(limit)).is_some();
        assert_eq!(seen, up || self.sets.get() > sets, "a set that was missed or made up");
    }
}

/// Makes a call that waits: it must end within its limit, or with `TimedOut` exactly at its end.
fn lasts<T>(
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

// ---- what actors do

fn step(world: &Rc<World>, depth: u32) {
    match below(16) {
        0 => yield_now(),
        1 => sleep_exactly(some_time()),
        2 => world.flag.set(),
        3 => world.flag.event.clear(),
        4 => world.flag.wait(some_time()),
        5 => world.bounded.put(world, some_time()),
        6 => world.bounded.get(some_time()),
        7 => match one_in(2) {
            true => world.unbounded.put(world, some_time()),
            false => world.unbounded.get(some_time()),
        },
        8 => lock_one_or_two(world),
        9 => within_a_timeout(world, depth),
        10 if depth < 3 => child(world, depth),
        11 => kill_somebody(world),
        12 if depth < 3 => in_the_pool(world),
        13 if depth < 3 => scope(world, depth),
        14 => socket(world),
        15 if one_in(3) => world.finale.wait().unwrap(),
        15 => shield_from_kills(world),
        _ => pipeline(world),
    }
}

fn sleep_exactly(time: Duration) {
    let began = testing::elapsed();
    sleep(time);
    assert_eq!(testing::elapsed() - began, time);
}

/// Who holds nothing may wait without a limit; who holds something may not, or two could wait for each other.
fn lock_one_or_two(world: &World) {
    let [first, second, third] = &world.locks;
    let limit = if one_in(2) { None } else { Some(some_time()) };
    match below(3) {
        0 => first.hold(limit, || sleep_exactly(some_time())),
        1 => third.hold(limit, || sleep_exactly(some_time())),
        _ => second.hold(limit, || first.hold(Some(some_time()), yield_now)),
    }
}

fn within_a_timeout(world: &Rc<World>, depth: u32) {
    let limit = some_time();
    let began = testing::elapsed();
    // What holds off kills holds off the end of the time, too; and if an inner timeout's end is raised after it, nothing
    // may be left to be done that this one could interrupt.
    let mut shielded = false;
    let ended = timeout(limit, || match below(4) {
        0 if depth < 4 => {
            shielded = true;
            (0..1 + below(3)).for_each(|_| step(world, depth + 1));
        }
        1 => drop(Event::new().wait()),
        2 => {
            shielded = true;
            shield_from_kills(world);
        }
        _ => world.locks[0].hold(None, || sleep(some_time())),
    });
    let lasted = testing::elapsed() - began;
    match ended {
        Ok(()) => assert!(lasted <= limit || shielded, "{lasted:?} of {limit:?}"),
        Err(_) => assert!(lasted == limit || shielded && lasted > limit, "{lasted:?} of {limit:?}"),
    }
}

/// Whoever is killed in here, or runs out of time, is so once it is done.
fn shield_from_kills(world: &World) {
    world.shields.set(world.shields.get() + 1);
    shield(|| {
        sleep_exactly(some_time());
        world.shields.set(world.shields.get() - 1);
    });
}

fn child(world: &Rc<World>, depth: u32) {
    let child = world.spawn_actor(depth + 1);
    match below(6) {
        0 => {}
        1 => child.kill_soon(),
        2 => {
            sleep(some_time());
            child.kill_soon();
            child.greenlet.kill().unwrap();
            child.check_end();
        }
        3 => {
            let limit = some_time();
            let joined = lasts(Some(limit), |_| match child.greenlet.join_timeout(limit) {
                Err(JoinError::Wait(error)) => Err(error),
                result => Ok(result),
            });
            joined.iter().for_each(|result| child.check(result));
        }
        _ => {
            let result = child.greenlet.join();
            child.check(&result);
        }
    }
}

fn kill_somebody(world: &World) {
    let victim = world.any_actor();
    match one_in(2) {
        true => victim.kill_soon(),
        false => {
            victim.kill_soon();
            victim.greenlet.wait(some_time()).ok();
        }
    }
}

fn in_the_pool(world: &Rc<World>) {
    let (inner, counted) = (world.clone(), Counted::new(world));
    let work = move || {
        let _counted = counted;
        inner.pooled.set(inner.pooled.get() + 1);
        assert!(inner.pooled.get() <= POOL_SIZE);
        let _leaving = OnDrop(|| inner.pooled.set(inner.pooled.get() - 1));
        sleep(some_time());
    };
    match below(4) {
        0 => drop(world.pool.try_spawn(work).map(drop).map_err(drop)),
        1 => match world.pool.reserve(some_time()) {
            Ok(slot) => slot.spawn(work).join().unwrap(),
            Err(error) => assert_eq!(error, WaitError::TimedOut),
        },
        _ => {
            let job = world.pool.spawn(work).unwrap();
            if one_in(2) {
                job.kill_soon();
                job.wait(None).unwrap();
            }
        }
    }
}

/// Children that borrow; the whole may be killed or time out while it waits for them, or one of them fails.
fn scope(world: &Rc<World>, depth: u32) {
    let (ended, failed) = (Cell::new(0), Cell::new(0));
    let children = below(4);
    let daemon = one_in(3);
    let result = greenlet::catch_panic(|| {
        greenlet::scope(|scope| {
            for _ in 0..children {
                let ending = OnDrop(|| ended.set(ended.get() + 1));
                let failed = &failed;
                scope.spawn(move || {
                    let _ending = ending;
                    step(world, depth + 1);
                    if one_in(8) {
                        failed.set(failed.get() + 1);
                        resume_unwind(Box::new("on purpose"));
                    }
                });
            }
            if daemon {
                scope.spawn_daemon(|| drop(Event::new().wait()));
            }
            if one_in(2) {
                sleep(some_time());
            }
        });
    });
    assert_eq!(ended.get(), children, "whoever has not ended borrows from here");
    match result {
        Ok(()) => assert_eq!(failed.get(), 0),
        Err(panic) => assert!(failed.get() > 0 && panic.message() == "on purpose", "{panic}"),
    }
}

/// One end speaks after a while, the other may have lost patience by then.
fn socket(world: &Rc<World>) {
    let (mut near, mut far) = UnixStream::pair().unwrap();
    let (pause, limit) = (some_time(), some_time());
    let counted = Counted::new(world);
    let speaker = spawn(move || {
        let _counted = counted;
        sleep(pause);
        far.write_all(b"a word").is_ok()
    });
    let mut bytes = [0; 6];
    let read = match below(3) {
        0 => Ok(near.wait_readable(limit).and_then(|()| near.read_exact(&mut bytes))),
        1 if !limit.is_zero() => {
            near.set_read_timeout(Some(limit)).unwrap();
            Ok(near.read_exact(&mut bytes))
        }
        _ => timeout(limit, || near.read_exact(&mut bytes)),
    };
    match read {
        Ok(Ok(())) => {
            assert_eq!(&bytes, b"a word");
            assert!(pause <= limit && speaker.join().unwrap());
        }
        failed => {
            assert!(failed.map_or(true, |read| read.unwrap_err().kind() == ErrorKind::TimedOut));
            assert!(limit <= pause);
            if one_in(2) {
                speaker.kill().unwrap();
            }
        }
    }
}

/// A producer and a consumer who rely on each other without limits.
fn pipeline(world: &Rc<World>) {
    let queue = Rc::new(Queue::bounded(1 + below(2) as usize));
    let count = below(6);
    let (filling, counted) = (queue.clone(), Counted::new(world));
    let producer = spawn(move || {
        let _counted = counted;
        let _closing = OnDrop(|| filling.close());
        for n in 0..count {
            filling.put(n).unwrap();
            if one_in(3) {
                sleep(some_time());
            }
        }
    });
    let _killed = OnDrop(|| producer.kill_soon());
    let got: Vec<u64> = std::iter::from_fn(|| queue.get().ok()).collect();
    assert_eq!(got, (0..count).collect::<Vec<_>>());
}
