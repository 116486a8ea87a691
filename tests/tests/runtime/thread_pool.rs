//! Thread pools: how many threads there are, in what order work is done, and what becomes of results.

use std::cell::Cell;
use std::collections::HashSet;
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, Mutex, mpsc};
use std::thread;
use std::time::Duration;

use greenlet::{
    JoinError, ThreadJob, ThreadPool, WaitError, join_all, sleep, spawn, stats, timeout, unblock, yield_now,
};
use greenserve_tests::{PATIENCE, eventually, in_time};

use crate::{FOREVER, SHORT};

/// Work that goes on until the sender is used.
fn gate() -> (mpsc::Sender<()>, impl FnOnce() + Send) {
    let (open, opened) = mpsc::channel();
    (open, move || assert!(opened.recv_timeout(PATIENCE).is_ok()))
}

#[test]
fn a_job_runs_on_another_thread_and_its_value_comes_back() {
    in_time(|| {
        let pool = ThreadPool::new(2);
        let job = pool.spawn(|| thread::current().id()).unwrap();
        assert_ne!(job.join().unwrap(), thread::current().id());
        assert!(job.is_finished());
        assert!(matches!(job.join(), Err(JoinError::Taken)));
        assert_eq!(pool.apply(|| 5).unwrap(), 5);
    });
}

#[test]
fn no_more_threads_than_allowed_and_no_more_than_needed() {
    in_time(|| {
        let pool = ThreadPool::builder(3).name("few").build();
        assert_eq!((pool.threads(), pool.max_threads()), (0, 3));
        for _ in 0..20 {
            pool.apply(|| assert_eq!(thread::current().name(), Some("few"))).unwrap();
            // it is idle again before the next comes
            pool.join(PATIENCE).unwrap();
        }
        assert_eq!(pool.threads(), 1, "one was enough");
        let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let threads = pool
            .map(0..30, {
                let most = Arc::clone(&most);
                move |_| {
                    most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                    thread::sleep(Duration::from_millis(1));
                    now.fetch_sub(1, Ordering::SeqCst);
                    thread::current().id()
                }
            })
            .unwrap();
        assert!(most.load(Ordering::SeqCst) <= 3);
        assert!(threads.into_iter().collect::<HashSet<_>>().len() <= 3);
    });
}

#[test]
fn idle_threads_end_and_come_back() {
    in_time(|| {
        let pool = ThreadPool::builder(4).idle_timeout(SHORT).build();
        for _ in 0..2 {
            let barrier = Arc::new(Barrier::new(4));
            pool.map(0..4, move |_| barrier.wait().is_leader()).unwrap();
            eventually(PATIENCE, || pool.threads() == 0);
        }
    });
}

#[test]
fn jobs_are_begun_in_the_order_in_which_they_came() {
    in_time(|| {
        let pool = ThreadPool::new(1);
        let order = Arc::new(Mutex::new(Vec::new()));
        let jobs: Vec<_> = (0..50)
            .map(|n| {
                let order = Arc::clone(&order);
                pool.spawn(move || order.lock().unwrap().push(n)).unwrap()
            })
            .collect();
        jobs.iter().for_each(|job| job.join().unwrap());
        assert_eq!(*order.lock().unwrap(), (0..50).collect::<Vec<_>>());
    });
}

#[test]
fn a_panic_reaches_who_joins_and_the_thread_serves_on() {
    in_time(|| {
        let pool = ThreadPool::builder(1).name("panics").build();
        match pool.apply(|| panic!("in the pool")) {
            Err(JoinError::Panicked(panic)) => {
                assert_eq!((panic.message(), panic.greenlet()), ("in the pool", "panics"));
                assert!(panic.location().unwrap().contains("thread_pool.rs"));
            }
            other => panic!("{:?}", other.map(|()| "a value")),
        }
        let failed = pool.map(0..3, |n| if n == 1 { panic!("item") } else { n });
        assert!(matches!(failed, Err(JoinError::Panicked(_))));
        assert_eq!((pool.apply(|| 6).unwrap(), pool.threads()), (6, 1));
    });
}

#[test]
fn a_full_queue_parks_who_comes_in_the_order_of_coming() {
    in_time(|| {
        let pool = ThreadPool::builder(1).queue(1).build();
        let (open, work) = gate();
        let running = pool.spawn(work).unwrap();
        eventually(PATIENCE, || pool.queued() == 0);
        let order = Arc::new(Mutex::new(Vec::new()));
        let note = |n: usize| {
            let order = Arc::clone(&order);
            move || order.lock().unwrap().push(n)
        };
        let queued = pool.spawn(note(0)).unwrap();
        assert!(pool.try_spawn(|| 9).map(drop).is_err_and(|back| back() == 9));
        let waiters: Vec<_> = (1..5)
            .map(|n| {
                let (pool, work) = (pool.clone(), note(n));
                spawn(move || pool.spawn(work).unwrap().join().unwrap())
            })
            .collect();
        sleep(SHORT);
        assert_eq!(pool.queued(), 1, "they wait outside");
        assert!(timeout(SHORT, || pool.spawn(|| ()).map(drop)).is_err());
        waiters[0].kill().unwrap();
        waiters[2].kill().unwrap();
        open.send(()).unwrap();
        running.join().unwrap();
        queued.join().unwrap();
        join_all(&waiters, PATIENCE).unwrap();
        assert_eq!(*order.lock().unwrap(), [0, 2, 4]);
        assert_eq!((stats().timers, stats().greenlets), (0, 0));
        assert!(pool.try_spawn(|| ()).is_ok(), "nobody is left in the line");
    });
}

#[test]
fn one_killed_when_its_turn_has_come_hands_it_on() {
    in_time(|| {
        let pool = ThreadPool::builder(1).queue(1).build();
        let (open, work) = gate();
        let running = pool.spawn(work).unwrap();
        eventually(PATIENCE, || pool.queued() == 0);
        let queued = pool.spawn(|| ()).unwrap();
        let waiters = [(); 2].map(|()| {
            let pool = pool.clone();
            spawn(move || pool.apply(|| 7).unwrap())
        });
        sleep(SHORT);
        open.send(()).unwrap();
        // The wake-up has been sent by the time the queue is empty; the hub has not looked yet.
        eventually(PATIENCE, || pool.queued() == 0 && running.is_finished());
        waiters[0].kill_soon();
        assert_eq!(waiters[1].join_timeout(PATIENCE).unwrap(), 7);
        queued.join().unwrap();
        assert!(matches!(waiters[0].join(), Err(JoinError::Killed)));
    });
}

#[test]
fn the_result_of_a_killed_waiter_is_dropped_on_the_pools_thread() {
    in_time(|| {
        struct Tells(mpsc::Sender<thread::ThreadId>);
        impl Drop for Tells {
            fn drop(&mut self) {
                let _ = self.0.send(thread::current().id());
            }
        }
        let pool = ThreadPool::new(1);
        let (tell, told) = mpsc::channel();
        let (open, work) = gate();
        let (began, has_begun) = mpsc::channel();
        let waiter = spawn({
            let pool = pool.clone();
            move || {
                drop(pool.apply(move || {
                    began.send(thread::current().id()).unwrap();
                    work();
                    Tells(tell)
                }))
            }
        });
        yield_now();
        let worker = has_begun.recv_timeout(PATIENCE).unwrap();
        waiter.kill().unwrap();
        assert!(told.try_recv().is_err(), "the work cannot be interrupted");
        open.send(()).unwrap();
        assert_eq!(told.recv_timeout(PATIENCE).unwrap(), worker);
        assert_eq!(pool.apply(|| 1).unwrap(), 1);
    });
}

#[test]
fn a_result_that_panics_when_it_is_dropped_costs_no_thread() {
    in_time(|| {
        struct Bad;
        impl Drop for Bad {
            fn drop(&mut self) {
                panic!("in a destructor");
            }
        }
        let pool = ThreadPool::new(1);
        let (open, work) = gate();
        drop(pool.spawn(move || (work(), Bad).1).unwrap());
        open.send(()).unwrap();
        assert_eq!(pool.apply(|| 2).unwrap(), 2);
        assert_eq!(pool.threads(), 1);
    });
}

#[test]
fn a_wait_for_a_job_has_a_deadline_and_leaves_nothing_behind() {
    in_time(|| {
        let pool = ThreadPool::new(1);
        let (open, work) = gate();
        let job = pool.spawn(work).unwrap();
        assert!(matches!(job.join_timeout(SHORT), Err(JoinError::Wait(WaitError::TimedOut))));
        assert_eq!((stats().timers, job.is_finished()), (0, false));
        assert_eq!(pool.join(SHORT), Err(WaitError::TimedOut));
        let never = Rc::new(greenlet::sync::Event::new());
        // No waker of ours is left in the job: that nobody can end this wait is seen although the job runs.
        assert!(matches!(never.wait(), Err(WaitError::LoopExit(_))));
        open.send(()).unwrap();
        job.join().unwrap();
        pool.join(PATIENCE).unwrap();
    });
}

#[test]
fn a_job_may_be_joined_from_another_thread_and_by_several_greenlets() {
    in_time(|| {
        let pool = ThreadPool::new(1);
        let (open, work) = gate();
        let job: Arc<ThreadJob<u32>> = Arc::new(pool.spawn(move || (work(), 8).1).unwrap());
        let elsewhere = thread::spawn({
            let job = Arc::clone(&job);
            move || job.join().ok()
        });
        let here = [(); 2].map(|()| {
            let job = Arc::clone(&job);
            spawn(move || job.join().ok())
        });
        sleep(SHORT);
        open.send(()).unwrap();
        let mut got = vec![unblock(move || elsewhere.join().unwrap())];
        got.extend(here.iter().map(|waiter| waiter.join().unwrap()));
        got.sort();
        assert_eq!(got, [None, None, Some(8)], "one gets the value");
    });
}

#[test]
fn greenlets_of_several_hubs_share_a_pool() {
    in_time(|| {
        let pool = ThreadPool::builder(2).queue(1).build();
        let hubs: Vec<_> = (0..3)
            .map(|hub| {
                let pool = pool.clone();
                thread::spawn(move || {
                    let jobs: Vec<_> = (0..30)
                        .map(|n| {
                            let pool = pool.clone();
                            spawn(move || pool.apply(move || hub * 100 + n).unwrap())
                        })
                        .collect();
                    jobs.iter().map(|job| job.join().unwrap()).sum::<usize>()
                })
            })
            .collect();
        let sums = unblock(move || hubs.into_iter().map(|hub| hub.join().unwrap()).collect::<Vec<_>>());
        assert_eq!(sums, [435, 3435, 6435]);
    });
}

#[test]
fn kills_and_timeouts_on_several_hubs_lose_no_turn() {
    in_time(|| {
        let pool = ThreadPool::builder(2).queue(1).build();
        let hubs: Vec<_> = (0..3u64)
            .map(|hub| {
                let pool = pool.clone();
                thread::spawn(move || {
                    let waiters: Vec<_> = (0..60)
                        .map(|n| {
                            let pool = pool.clone();
                            spawn(move || {
                                let wait = Duration::from_micros(50 * ((n * 7 + hub) % 11));
                                let work =
                                    || pool.apply(|| thread::sleep(Duration::from_micros(100))).unwrap();
                                match n % 3 {
                                    0 => work(),
                                    _ => drop(timeout(wait, work)),
                                }
                            })
                        })
                        .collect();
                    for victim in waiters.iter().step_by(4) {
                        yield_now();
                        victim.kill_soon();
                    }
                    // Nobody waits in vain.
                    join_all(&waiters, PATIENCE).is_ok() && stats().timers == 0
                })
            })
            .collect();
        assert!(unblock(move || hubs.into_iter().all(|hub| hub.join().unwrap())));
        pool.join(PATIENCE).unwrap();
        assert!(pool.try_spawn(|| ()).is_ok(), "nobody is left in the line");
    });
}

#[test]
fn shutdown_takes_no_more_does_what_is_queued_and_ends_the_threads() {
    in_time(|| {
        let pool = ThreadPool::builder(1).queue(2).build();
        let (open, work) = gate();
        let running = pool.spawn(work).unwrap();
        eventually(PATIENCE, || pool.queued() == 0);
        let queued = [pool.spawn(|| 1).unwrap(), pool.spawn(|| 2).unwrap()];
        let outside = spawn({
            let pool = pool.clone();
            move || pool.apply(|| 3)
        });
        sleep(SHORT);
        assert_eq!(pool.shutdown(SHORT), Err(WaitError::TimedOut));
        assert!(matches!(outside.join().unwrap(), Err(JoinError::ShutDown)));
        assert!(matches!(pool.spawn(|| ()), Err(JoinError::ShutDown)));
        assert!(pool.try_spawn(|| ()).is_err());
        open.send(()).unwrap();
        pool.shutdown(PATIENCE).unwrap();
        pool.shutdown(None).unwrap();
        running.join().unwrap();
        assert_eq!(queued.map(|job| job.join().unwrap()), [1, 2]);
        assert_eq!((pool.threads(), pool.queued()), (0, 0));
        ThreadPool::new(3).shutdown(None).unwrap();
    });
}

#[test]
fn what_is_queued_can_be_cancelled() {
    in_time(|| {
        let pool = ThreadPool::new(1);
        let (open, work) = gate();
        let running = pool.spawn(work).unwrap();
        eventually(PATIENCE, || pool.queued() == 0);
        let queued = pool.spawn(|| ()).unwrap();
        assert_eq!(pool.cancel_queued(), 1);
        assert!(matches!(queued.join(), Err(JoinError::ShutDown)));
        open.send(()).unwrap();
        running.join().unwrap();
        assert_eq!(pool.apply(|| 4).unwrap(), 4, "the pool goes on");
    });
}

#[test]
fn dropping_the_pool_lets_its_work_be_done() {
    in_time(|| {
        let pool = ThreadPool::new(1);
        let (open, work) = gate();
        let running = pool.spawn(work).unwrap();
        let queued = pool.spawn(|| 5).unwrap();
        drop(pool);
        open.send(()).unwrap();
        running.join().unwrap();
        assert_eq!(queued.join().unwrap(), 5);
    });
}

#[test]
fn work_that_calls_the_pool_it_runs_on_does_not_wait_for_itself() {
    in_time(|| {
        let pool = ThreadPool::new(1);
        let inner = pool.clone();
        assert_eq!(pool.apply(move || inner.apply(|| 6).unwrap()).unwrap(), 6);
        fn nested(depth: u32) -> u32 {
            if depth == 0 { 0 } else { unblock(move || nested(depth - 1) + 1) }
        }
        assert_eq!(nested(100), 100, "deeper than there are threads");
    });
}

#[test]
fn in_a_destructor_work_runs_in_place() {
    in_time(|| {
        struct Late(Rc<Cell<bool>>);
        impl Drop for Late {
            fn drop(&mut self) {
                let here = thread::current().id();
                self.0.set(unblock(move || thread::current().id() == here));
            }
        }
        let in_place = Rc::new(Cell::new(false));
        let job = spawn({
            let late = Late(Rc::clone(&in_place));
            move || {
                let _late = late;
                sleep(FOREVER);
            }
        });
        yield_now();
        job.kill().unwrap();
        assert!(in_place.get());
    });
}
