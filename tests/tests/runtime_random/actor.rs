//! What actors do, one step after the other.

use std::cell::Cell;
use std::io::{ErrorKind, Read, Write};
use std::panic::resume_unwind;
use std::rc::Rc;
use std::time::Duration;

use greenlet::net::UnixStream;
use greenlet::sync::{Event, Queue};
use greenlet::{JoinError, WaitError, shield, sleep, spawn, testing, timeout, yield_now};

use crate::world::{Counted, OnDrop, POOL_SIZE, World, lasts};
use crate::{below, one_in, some_time};

pub(crate) fn step(world: &Rc<World>, depth: u32) {
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
