//! Waiting: who is parked, who goes first, and what is left of one who gave up.

use std::rc::Rc;
use std::time::Duration;

use greenlet::shm::{Counter, LockError, Mutex, Semaphore};
use greenlet::signal::Signal;
use greenlet::{sleep, spawn, stats, yield_now};
use greenserve_tests::{PATIENCE, eventually};

use crate::{SHORT, Worker, in_process};

fn timed_out<G>(result: Result<G, LockError<G>>) -> bool {
    matches!(result, Err(LockError::Failed(error)) if error.kind() == std::io::ErrorKind::TimedOut)
}

#[test]
fn a_wait_parks_the_greenlet_and_the_others_of_the_worker_go_on() {
    in_process("waits::a_wait_parks_the_greenlet_and_the_others_of_the_worker_go_on", || {
        let mutex = Rc::new(Mutex::new(()).unwrap());
        let turns = Rc::new(Counter::new().unwrap());
        let guard = mutex.lock().unwrap();
        let worker = Worker::start(|| {
            let waiter = || {
                let mutex = Rc::clone(&mutex);
                spawn(move || drop(mutex.lock().unwrap()))
            };
            let waiters: Vec<_> = (0..5).map(|_| waiter()).collect();
            let counting = Rc::clone(&turns);
            let others = spawn(move || {
                loop {
                    counting.add(1);
                    sleep(Duration::from_millis(1));
                }
            });
            greenlet::join_all(&waiters, PATIENCE).unwrap();
            others.kill().is_ok()
        });
        eventually(PATIENCE, || turns.get() > 50);
        assert!(worker.0.try_wait().unwrap().is_none());
        drop(guard);
        worker.succeeds();
    });
}

#[test]
fn a_wait_that_timed_out_leaves_nothing_and_stands_in_nobodys_way() {
    in_process("waits::a_wait_that_timed_out_leaves_nothing_and_stands_in_nobodys_way", || {
        let mutex = Mutex::new(0_u32).unwrap();
        let guard = mutex.lock().unwrap();
        let worker = Worker::start(|| {
            timed_out(mutex.lock_timeout(SHORT))
                && timed_out(mutex.lock_timeout(Duration::ZERO))
                && stats().timers == 0
        });
        worker.succeeds();
        assert!(timed_out(mutex.lock_timeout(SHORT)), "its own process is no exception");
        drop(guard);
        assert_eq!(*mutex.try_lock().unwrap().unwrap(), 0);
    });
}

#[test]
fn a_waiter_that_is_killed_leaves_nothing_and_passes_on_what_had_come() {
    in_process("waits::a_waiter_that_is_killed_leaves_nothing_and_passes_on_what_had_come", || {
        let mutex = Rc::new(Mutex::new(0_u32).unwrap());
        let waits = Counter::new().unwrap();
        let guard = mutex.lock().unwrap();
        let worker = Worker::start(|| {
            let jobs = [(); 3].map(|()| {
                let mutex = Rc::clone(&mutex);
                spawn(move || *mutex.lock().unwrap() += 1)
            });
            yield_now();
            jobs[1].kill().unwrap();
            waits.add(1);
            // the lock comes while this blocks the hub; then its heir is killed before it can run
            let deadline = std::time::Instant::now() + PATIENCE;
            while mutex.try_lock().is_ok_and(|guard| guard.is_none()) && waits.get() < 2 {
                assert!(std::time::Instant::now() < deadline);
            }
            std::thread::sleep(SHORT);
            jobs[0].kill().unwrap();
            jobs[2].join().is_ok()
        });
        eventually(PATIENCE, || waits.get() == 1);
        drop(guard);
        waits.add(1);
        worker.succeeds();
        assert_eq!(*mutex.lock().unwrap(), 1);
    });
}

#[test]
fn killing_all_waiters_again_and_again_never_loses_the_lock() {
    in_process("waits::killing_all_waiters_again_and_again_never_loses_the_lock", || {
        let mutex = Rc::new(Mutex::new(0_u64).unwrap());
        let work = |seed: u64| {
            let mut random = crate::Random::new(seed);
            for _ in 0..150 {
                let jobs: Vec<_> = (0..4)
                    .map(|_| {
                        let mutex = Rc::clone(&mutex);
                        let pause = Duration::from_micros(random.below(300));
                        spawn(move || {
                            let mut guard = mutex.lock().unwrap();
                            sleep(pause);
                            *guard += 1;
                        })
                    })
                    .collect();
                sleep(Duration::from_micros(random.below(1500)));
                jobs.iter().for_each(|job| job.kill().unwrap());
                drop(mutex.lock_timeout(PATIENCE).unwrap());
            }
            stats().greenlets == 0
        };
        let workers = [1, 2].map(|seed| Worker::start(|| work(seed)));
        workers.iter().for_each(Worker::succeeds);
        assert!(mutex.try_lock().unwrap().is_some());
    });
}

#[test]
fn a_holder_that_is_stopped_is_waited_for_with_a_timeout_or_until_it_goes_on() {
    in_process("waits::a_holder_that_is_stopped_is_waited_for_with_a_timeout_or_until_it_goes_on", || {
        let (mutex, holds) = (Mutex::new(0_u32).unwrap(), Counter::new().unwrap());
        let worker = Worker::start(|| {
            let mut guard = mutex.lock().unwrap();
            holds.add(1);
            eventually(PATIENCE, || holds.get() == 2);
            *guard += 1;
            true
        });
        eventually(PATIENCE, || holds.get() == 1);
        worker.signal(Signal::STOP);
        assert!(timed_out(mutex.lock_timeout(SHORT * 10)), "it lives");
        assert!(mutex.try_lock().unwrap().is_none());
        holds.add(1);
        let waiter = spawn(move || *mutex.lock().unwrap());
        sleep(SHORT);
        worker.signal(Signal::CONT);
        assert_eq!(waiter.join_timeout(PATIENCE).unwrap(), 1);
        worker.succeeds();
    });
}

#[test]
fn a_waiter_that_dies_before_its_turn_or_at_it_is_passed_over() {
    in_process("waits::a_waiter_that_dies_before_its_turn_or_at_it_is_passed_over", || {
        let (mutex, waits) = (Mutex::new(0_u32).unwrap(), Counter::new().unwrap());
        let guard = mutex.lock().unwrap();
        let mut workers = Vec::new();
        for n in 0..4 {
            workers.push(Worker::start(|| {
                waits.add(1);
                *mutex.lock().or_else(LockError::recover).unwrap() += 1;
                true
            }));
            eventually(PATIENCE, || waits.get() == n + 1);
            sleep(SHORT);
        }
        workers[1].kill();
        // the first is handed the lock while it cannot take it, and dies so
        workers[0].signal(Signal::STOP);
        drop(guard);
        workers[0].kill();
        workers[2..].iter().for_each(Worker::succeeds);
        assert_eq!(*mutex.lock().or_else(LockError::recover).unwrap(), 2);
    });
}

#[test]
fn no_process_starves_and_none_is_let_in_out_of_turn() {
    in_process("waits::no_process_starves_and_none_is_let_in_out_of_turn", || {
        // how often each process had the lock since all have come; then who has come, who had it last, how often in a row,
        // and the most of that
        let lock = Rc::new(Mutex::new([0_u32; 8]).unwrap());
        let work = |own: usize| {
            let one = move |lock: &Mutex<[u32; 8]>| {
                let mut had = lock.lock().unwrap();
                had[4] |= 1 << own;
                if had[4] == 0b1111 {
                    had[own] += 1;
                    had[6] = if had[5] == own as u32 { had[6] + 1 } else { 1 };
                    had[5] = own as u32;
                    had[7] = had[7].max(had[6]);
                }
                yield_now();
                had[..4].iter().sum::<u32>() < 4000
            };
            let jobs = [(); 10].map(|()| {
                let lock = Rc::clone(&lock);
                spawn(move || while one(&lock) {})
            });
            greenlet::join_all(&jobs, PATIENCE).is_ok()
        };
        let workers = [0, 1, 2, 3].map(|own| Worker::start(|| work(own)));
        workers.iter().for_each(Worker::succeeds);
        let had = *lock.lock().unwrap();
        assert!(had[..4].iter().all(|&had| had >= 600), "{had:?}");
        // those who are let in one after the other, and the first of them; and twice if nobody waited in between
        assert!(had[7] <= 2 * 17, "{had:?}");
    });
}

#[test]
fn no_wait_for_other_processes_is_called_hopeless() {
    in_process("waits::no_wait_for_other_processes_is_called_hopeless", || {
        let (semaphore, waits) = (Semaphore::new(0).unwrap(), Counter::new().unwrap());
        let mutex = Mutex::new(()).unwrap();
        let worker = Worker::start(|| {
            let _guard = mutex.lock().unwrap();
            waits.add(1);
            semaphore.acquire_timeout(SHORT * 5).is_err()
        });
        sleep(SHORT); // this thread has a hub
        eventually(PATIENCE, || waits.get() == 1);
        drop(mutex.lock().or_else(LockError::recover).unwrap());
        worker.succeeds();
    });
}
