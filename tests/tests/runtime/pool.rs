//! Pools, events and semaphores.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use greenlet::sync::{Event, Semaphore};
use greenlet::{JoinError, Pool, WaitError, join_all, sleep, spawn, yield_now};
use greenserve_tests::in_time;

use crate::{DropFlag, FOREVER, SHORT};

#[test]
fn a_pool_never_runs_more_than_its_size_and_spawn_waits_for_room() {
    in_time(|| {
        let pool = Pool::new(3);
        let (running, most, done) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(0)), Rc::new(Cell::new(0)));
        for _ in 0..20 {
            let (running, most, done) = (Rc::clone(&running), Rc::clone(&most), Rc::clone(&done));
            pool.spawn(move || {
                running.set(running.get() + 1);
                most.set(most.get().max(running.get()));
                sleep(SHORT / 5);
                running.set(running.get() - 1);
                done.set(done.get() + 1);
            })
            .unwrap();
        }
        pool.join(None).unwrap();
        assert_eq!((most.get(), done.get(), pool.free_count(), pool.len()), (3, 20, 3, 0));
    });
}

#[test]
fn try_spawn_hands_the_closure_back_when_the_pool_is_full() {
    in_time(|| {
        let pool = Pool::new(1);
        let job = pool.try_spawn(|| sleep(FOREVER)).unwrap_or_else(|_| panic!("there is room"));
        assert_eq!(pool.free_count(), 0);
        let back = pool.try_spawn(|| 7).expect_err("no room");
        assert_eq!(back(), 7);
        job.kill().unwrap();
        assert_eq!(pool.free_count(), 1);
    });
}

#[test]
fn a_place_is_free_again_however_its_greenlet_ended() {
    in_time(|| {
        let pool = Pool::new(1);
        assert!(matches!(pool.spawn(|| panic!("one")).unwrap().join(), Err(JoinError::Panicked(_))));
        let unstarted = pool.spawn(|| ()).unwrap();
        unstarted.kill().unwrap();
        let parked = pool.spawn(|| sleep(FOREVER)).unwrap();
        yield_now();
        parked.kill().unwrap();
        assert_eq!(pool.spawn(|| 5).unwrap().join().unwrap(), 5);
        pool.join(None).unwrap();
        assert_eq!((pool.free_count(), pool.is_empty()), (1, true));
    });
}

#[test]
fn one_who_waits_for_a_place_and_is_killed_takes_none() {
    in_time(|| {
        let pool = Rc::new(Pool::new(1));
        let holder = pool.spawn(|| sleep(FOREVER)).unwrap();
        let (flag, dropped) = DropFlag::new();
        let waiting = spawn({
            let pool = Rc::clone(&pool);
            move || drop(pool.spawn(move || drop(flag)))
        });
        sleep(SHORT);
        waiting.kill().unwrap();
        assert!(dropped.get(), "the closure is dropped");
        holder.kill().unwrap();
        assert_eq!(pool.free_count(), 1);
        // killed in the very moment in which the place is granted
        let holder = pool.spawn(|| sleep(FOREVER)).unwrap();
        let waiting = spawn({
            let pool = Rc::clone(&pool);
            move || drop(pool.spawn(|| ()))
        });
        sleep(SHORT);
        holder.kill_soon();
        yield_now();
        waiting.kill().unwrap();
        pool.join(None).unwrap();
        assert_eq!(pool.free_count(), 1);
    });
}

#[test]
fn waits_for_a_pool_have_deadlines() {
    in_time(|| {
        let pool = Pool::new(1);
        pool.wait_available(None).unwrap();
        let job = pool.spawn(|| sleep(FOREVER)).unwrap();
        assert_eq!(pool.wait_available(SHORT), Err(WaitError::TimedOut));
        assert_eq!(pool.join(SHORT), Err(WaitError::TimedOut));
        job.kill().unwrap();
        assert_eq!(pool.wait_available(SHORT), Ok(()));
        assert_eq!(pool.join(SHORT), Ok(()));
    });
}

#[test]
fn kill_empties_a_pool() {
    in_time(|| {
        let pool = Pool::new(10);
        let dropped: Vec<_> = (0..10)
            .map(|_| {
                let (flag, dropped) = DropFlag::new();
                pool.spawn(move || {
                    let _flag = flag;
                    sleep(FOREVER);
                })
                .unwrap();
                dropped
            })
            .collect();
        yield_now();
        pool.kill().unwrap();
        assert!(pool.is_empty() && dropped.iter().all(|dropped| dropped.get()));
        assert_eq!(pool.free_count(), 10);
    });
}

#[test]
fn an_event_wakes_all_who_wait_in_their_order_and_stays_set() {
    in_time(|| {
        let event = Rc::new(Event::new());
        let order = Rc::new(RefCell::new(Vec::new()));
        let waiters: Vec<_> = (0..5)
            .map(|n| {
                let (event, order) = (Rc::clone(&event), Rc::clone(&order));
                spawn(move || {
                    event.wait().unwrap();
                    order.borrow_mut().push(n);
                })
            })
            .collect();
        sleep(SHORT);
        assert!(order.borrow().is_empty() && !event.is_set());
        event.set();
        event.clear();
        join_all(&waiters, None).unwrap();
        assert_eq!(*order.borrow(), [0, 1, 2, 3, 4], "woken though it was cleared right after");
        event.set();
        assert!(event.wait().is_ok() && event.is_set());
    });
}

#[test]
fn a_semaphore_serves_first_come_first_served() {
    in_time(|| {
        let semaphore = Rc::new(Semaphore::new(2));
        let order = Rc::new(RefCell::new(Vec::new()));
        let jobs: Vec<_> = (0..6)
            .map(|n| {
                let (semaphore, order) = (Rc::clone(&semaphore), Rc::clone(&order));
                spawn(move || {
                    let _permit = semaphore.acquire().unwrap();
                    order.borrow_mut().push(n);
                    sleep(SHORT / 5);
                })
            })
            .collect();
        join_all(&jobs, None).unwrap();
        assert_eq!(*order.borrow(), [0, 1, 2, 3, 4, 5]);
        assert_eq!(semaphore.available(), 2);
        let first = semaphore.try_acquire();
        let second = semaphore.try_acquire();
        assert!(first.is_some() && second.is_some() && semaphore.try_acquire().is_none());
        let r = semaphore.acquire_timeout(SHORT);
        assert!(matches!(r, Err(WaitError::TimedOut)), "{r:?}");
    });
}
