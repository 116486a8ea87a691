//! Random use of what `sync` has, in orders that follow from seeds, with waiters killed and timed out at any moment:
//! locks exclude, no turn and no value is lost, nothing is left.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::rc::Rc;
use std::time::Duration;

use greenlet::sync::shared::channel::{self, SendError};
use greenlet::sync::{Condvar, JoinableQueue, Mutex, PriorityQueue, PutError, Queue, RLock, RwLock};
use greenlet::testing::{self, Sim};
use greenlet::{Greenlet, JoinError, WaitError, sleep, spawn, timeout, yield_now};

const SEEDS: std::ops::Range<u64> = 0..300;
const GREENLETS: u64 = 8;
const STEPS: u64 = 6;

fn below(n: u64) -> u64 {
    testing::random() % n
}

fn some_time() -> Duration {
    Duration::from_millis(below(5))
}

fn linger() {
    match below(3) {
        0 => {}
        1 => yield_now(),
        _ => sleep(some_time()),
    }
}

/// Runs so many greenlets, each of which takes random steps, some under a timeout, and kills some of them meanwhile.
fn crowd(step: impl Fn() + 'static) {
    let step = Rc::new(step);
    let jobs: Vec<Greenlet<()>> = (0..GREENLETS)
        .map(|_| {
            let step = Rc::clone(&step);
            spawn(move || {
                for _ in 0..STEPS {
                    linger();
                    match below(4) {
                        0 => drop(timeout(some_time(), || step())),
                        _ => step(),
                    }
                }
            })
        })
        .collect();
    for _ in 0..GREENLETS / 2 {
        sleep(some_time());
        jobs[below(GREENLETS) as usize].kill_soon();
    }
    all_well(jobs);
}

/// Waits until all have ended, by themselves or killed.
fn all_well(jobs: Vec<Greenlet<()>>) {
    for job in jobs {
        match job.join() {
            Ok(()) | Err(JoinError::Killed) => {}
            Err(error) => panic!("{error}"),
        }
    }
}

/// Counts up for as long as it lives.
struct Inside(Rc<Cell<usize>>);

impl Inside {
    fn new(count: &Rc<Cell<usize>>) -> Inside {
        count.set(count.get() + 1);
        Inside(Rc::clone(count))
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

fn each_seed(f: impl Fn() + Sync) {
    Sim::new().settle(Duration::ZERO).each_seed(SEEDS, f);
}

#[test]
fn locks_exclude_and_are_free_at_the_end() {
    each_seed(|| {
        let all = Rc::new((Mutex::new(()), RwLock::new(()), RLock::new(())));
        let (inside, readers, writers, owners) =
            <(Rc<Cell<_>>, Rc<Cell<_>>, Rc<Cell<_>>, Rc<Cell<_>>)>::default();
        let shared = Rc::clone(&all);
        crowd(move || {
            let (mutex, lock, again) = &*shared;
            match below(5) {
                0 => {
                    let Ok(_guard) = mutex.lock_timeout(some_time()) else { return };
                    let _inside = Inside::new(&inside);
                    linger();
                    assert_eq!(inside.get(), 1);
                }
                1 => {
                    let _guard = mutex.lock().unwrap();
                    let _inside = Inside::new(&inside);
                    linger();
                    assert_eq!(inside.get(), 1);
                }
                2 => {
                    let Ok(_guard) = lock.write_timeout(some_time()) else { return };
                    let _inside = Inside::new(&writers);
                    linger();
                    assert_eq!((writers.get(), readers.get()), (1, 0));
                }
                3 => {
                    let _guard = lock.read().unwrap();
                    let _inside = Inside::new(&readers);
                    linger();
                    assert_eq!(writers.get(), 0);
                }
                _ => {
                    let _outer = again.lock().unwrap();
                    let _inside = Inside::new(&owners);
                    let _inner = again.lock_timeout(Duration::ZERO).expect("it is ours");
                    linger();
                    assert_eq!(owners.get(), 1);
                }
            }
        });
        assert!(all.0.try_lock().is_some() && all.1.try_write().is_some() && !all.2.is_locked());
        assert_eq!(format!("{all:?}").matches("waiting: 0").count(), 3, "{all:?}");
    });
}

#[test]
fn no_notification_is_lost() {
    each_seed(|| {
        let shared: Rc<(Mutex<u64>, Condvar)> = Rc::default();
        let consumers: Vec<_> = (0..GREENLETS)
            .map(|_| {
                let shared = Rc::clone(&shared);
                spawn(move || {
                    let (count, changed) = &*shared;
                    linger();
                    let guard = count.lock().unwrap();
                    let mut left = match below(2) {
                        0 => changed.wait_while(guard, |count| *count == 0).unwrap(),
                        _ => {
                            let limit = some_time();
                            let (left, result) =
                                changed.wait_timeout_while(guard, limit, |count| *count == 0).unwrap();
                            if result.timed_out() {
                                return;
                            }
                            left
                        }
                    };
                    // no wait in between: one killed there would have had its notification
                    *left -= 1;
                    linger();
                })
            })
            .collect();
        // fewer than there are consumers
        let producer = spawn({
            let shared = Rc::clone(&shared);
            move || {
                for _ in 0..GREENLETS / 2 {
                    linger();
                    *shared.0.lock().unwrap() += 1;
                    shared.1.notify_one();
                }
            }
        });
        for _ in 0..GREENLETS / 2 {
            sleep(some_time());
            consumers[below(GREENLETS) as usize].kill_soon();
        }
        producer.join().unwrap();
        sleep(Duration::from_secs(1));
        let (count, changed) = &*shared;
        let idle = format!("{changed:?}").contains("waiting: 0");
        assert!(idle || *count.lock().unwrap() == 0, "somebody waits for what is there: {shared:?}");
        *count.lock().unwrap() += GREENLETS;
        changed.notify_all();
        all_well(consumers);
        assert_eq!(format!("{shared:?}").matches("waiting: 0").count(), 2, "{shared:?}");
    });
}

/// Numbers that have been made, and those that came out.
#[derive(Default)]
struct Ledger {
    made: Cell<u64>,
    live: Rc<Cell<usize>>,
    out: RefCell<BTreeSet<u64>>,
}

#[derive(Clone)]
struct Value {
    number: u64,
    _live: Rc<Inside>,
}

impl Ledger {
    fn make(&self) -> Value {
        self.made.set(self.made.get() + 1);
        Value { number: self.made.get(), _live: Rc::new(Inside::new(&self.live)) }
    }

    fn came_out(&self, value: &Value) {
        assert!(self.out.borrow_mut().insert(value.number), "{} came out twice", value.number);
    }
}

#[test]
fn queues_lose_and_double_no_value() {
    each_seed(|| {
        for queue in [Queue::rendezvous(), Queue::bounded(1), Queue::bounded(3)] {
            let (queue, ledger) = (Rc::new(queue), Rc::new(Ledger::default()));
            let confirmed = Rc::new(RefCell::new(BTreeSet::new()));
            let (inner, book, put) = (Rc::clone(&queue), Rc::clone(&ledger), Rc::clone(&confirmed));
            crowd(move || {
                let got = match below(6) {
                    0 | 1 => {
                        let value = book.make();
                        let number = value.number;
                        return match inner.put_timeout(value, some_time()) {
                            Ok(()) => assert!(put.borrow_mut().insert(number)),
                            Err(PutError::Wait(value, WaitError::TimedOut)) => {
                                assert_eq!(value.number, number)
                            }
                            Err(error) => panic!("{error}"),
                        };
                    }
                    2 => {
                        return drop(
                            inner.try_put(book.make()).map(|()| put.borrow_mut().insert(book.made.get())),
                        );
                    }
                    3 => return drop(inner.peek_timeout(some_time())),
                    4 => inner.try_get(),
                    _ => inner.get_timeout(some_time()),
                };
                got.iter().for_each(|value| book.came_out(value));
            });
            while let Ok(value) = queue.try_get() {
                ledger.came_out(&value);
            }
            assert!(queue.is_empty());
            assert!(confirmed.borrow().is_subset(&ledger.out.borrow()), "what was put has come out");
            if let Some(capacity) = queue.capacity() {
                (0..capacity).for_each(|_| queue.try_put(ledger.make()).unwrap());
                assert!(queue.try_put(ledger.make()).is_err(), "all the space is there again, and no more");
            }
            drop(queue);
            assert_eq!(ledger.live.get(), 0);
        }
    });
}

#[test]
fn a_shared_channel_loses_and_doubles_no_value() {
    each_seed(|| {
        let (sender, receiver) = channel::bounded(below(4) as usize);
        let (out, confirmed) = <(Rc<RefCell<BTreeSet<u64>>>, Rc<RefCell<BTreeSet<u64>>>)>::default();
        let next = Cell::new(0);
        let (tx, rx, seen, put) = (sender.clone(), receiver.clone(), Rc::clone(&out), Rc::clone(&confirmed));
        crowd(move || {
            if below(2) == 0 {
                next.set(next.get() + 1);
                let number = next.get();
                match tx.send_timeout(number, some_time()) {
                    Ok(()) => assert!(put.borrow_mut().insert(number)),
                    Err(error) => assert_eq!(error, SendError::Wait(number, WaitError::TimedOut)),
                }
            } else if let Ok(number) = rx.recv_timeout(some_time()) {
                assert!(seen.borrow_mut().insert(number));
            }
        });
        drop(sender);
        receiver.iter().for_each(|number| assert!(out.borrow_mut().insert(number)));
        assert!(confirmed.borrow().is_subset(&out.borrow()));
        assert!(format!("{receiver:?}").contains("waiting: 0"), "{receiver:?}");
    });
}

#[test]
fn queues_of_tasks_end_when_all_is_done() {
    each_seed(|| {
        let queues = Rc::new((JoinableQueue::bounded(2), PriorityQueue::<u64>::unbounded()));
        let inner = Rc::clone(&queues);
        crowd(move || {
            let (jobs, urgent) = &*inner;
            match below(4) {
                0 => drop(jobs.put_timeout(below(9), some_time())),
                1 => urgent.put(below(9)).unwrap(),
                2 => drop(jobs.get_timeout(some_time()).map(|_| jobs.task_done().unwrap())),
                _ => drop(urgent.get_timeout(some_time()).map(|_| urgent.task_done().unwrap())),
            }
        });
        let (jobs, urgent) = &*queues;
        jobs.close();
        urgent.close();
        jobs.iter().for_each(|_| jobs.task_done().unwrap());
        let rest: Vec<_> = urgent.iter().inspect(|_| urgent.task_done().unwrap()).collect();
        assert!(rest.is_sorted());
        assert_eq!((jobs.join(), urgent.join()), (Ok(()), Ok(())));
        assert_eq!((jobs.unfinished_tasks(), urgent.unfinished_tasks()), (0, 0));
    });
}
