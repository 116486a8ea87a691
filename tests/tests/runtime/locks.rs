//! `BoundedSemaphore`, `Mutex`, `RwLock`, `RLock`, `Condvar` and `Barrier`.

use std::cell::{Cell, RefCell};
use std::fmt::Debug;
use std::rc::Rc;

use greenlet::sync::{Barrier, BoundedSemaphore, Condvar, Mutex, OverRelease, RLock, RwLock, Semaphore};
use greenlet::{Greenlet, JoinError, WaitError, join_all, sleep, spawn, timeout, yield_now};
use greenserve_tests::in_time;

use crate::{FOREVER, SHORT};

fn assert_nobody_waits(what: &impl Debug) {
    let shown = format!("{what:?}");
    assert!(shown.contains("waiting: 0"), "{shown}");
}

fn spawn_with<S: 'static, T: 'static>(shared: &Rc<S>, f: impl FnOnce(&S) -> T + 'static) -> Greenlet<T> {
    let shared = Rc::clone(shared);
    spawn(move || f(&shared))
}

type Order = Rc<RefCell<Vec<usize>>>;

/// So many greenlets, each of which notes its number in `f`'s turn; all have run until they wait.
fn in_line<S: 'static>(
    shared: &Rc<S>,
    count: usize,
    f: impl Fn(&S, &dyn Fn()) + Clone + 'static,
) -> (Vec<Greenlet<()>>, Order) {
    let order = Order::default();
    let jobs = (0..count).map(|n| {
        let (order, f) = (Rc::clone(&order), f.clone());
        spawn_with(shared, move |shared| f(shared, &|| order.borrow_mut().push(n)))
    });
    let jobs = jobs.collect();
    yield_now();
    (jobs, order)
}

/// Runs `f` in a destructor while a greenlet unwinds.
fn while_unwinding<T: 'static>(f: impl FnOnce() -> T + 'static) -> T {
    struct OnDrop<F: FnOnce()>(Option<F>);
    impl<F: FnOnce()> Drop for OnDrop<F> {
        fn drop(&mut self) {
            self.0.take().into_iter().for_each(|f| f());
        }
    }
    let result = Rc::new(Cell::new(None));
    let killed = spawn({
        let result = Rc::clone(&result);
        move || {
            let _on_drop = OnDrop(Some(move || result.set(Some(f()))));
            sleep(FOREVER);
        }
    });
    yield_now();
    killed.kill().unwrap();
    result.take().expect("the destructor has run")
}

// ---- semaphores

#[test]
fn a_forgotten_permit_stays_taken_until_it_is_released() {
    in_time(|| {
        let semaphore = Semaphore::new(1);
        semaphore.acquire().unwrap().forget();
        assert!(semaphore.try_acquire().is_none());
        semaphore.release();
        assert_eq!(semaphore.available(), 1);
        semaphore.release();
        assert_eq!(semaphore.available(), 2, "a Semaphore has no bound");
    });
}

#[test]
fn a_bounded_semaphore_released_once_too_often_is_an_error_and_changes_nothing() {
    in_time(|| {
        let semaphore = BoundedSemaphore::new(1);
        assert_eq!(semaphore.release(), Err(OverRelease));
        let permit = semaphore.acquire().unwrap();
        assert_eq!(semaphore.release(), Err(OverRelease), "the guard gives it back");
        drop(permit);
        semaphore.try_acquire().unwrap().forget();
        assert!(semaphore.try_acquire().is_none());
        assert_eq!(semaphore.release(), Ok(()));
        assert_eq!(semaphore.release(), Err(OverRelease));
        assert_eq!(semaphore.available(), 1);
    });
}

#[test]
fn a_bounded_semaphore_releases_to_the_longest_waiting() {
    in_time(|| {
        let semaphore = Rc::new(BoundedSemaphore::new(1));
        semaphore.acquire().unwrap().forget();
        assert!(matches!(semaphore.acquire_timeout(SHORT), Err(WaitError::TimedOut)));
        let (jobs, order) = in_line(&semaphore, 3, |semaphore, note| {
            let _permit = semaphore.acquire().unwrap();
            note();
        });
        semaphore.release().unwrap();
        join_all(&jobs, None).unwrap();
        assert_eq!((&order.borrow()[..], semaphore.available()), (&[0, 1, 2][..], 1));
    });
}

// ---- Mutex

#[test]
fn a_mutex_is_held_across_blocking_calls_and_handed_over_in_order() {
    in_time(|| {
        let mutex = Rc::new(Mutex::new(0));
        let (jobs, order) = in_line(&mutex, 5, |mutex, note| {
            let mut value = mutex.lock().unwrap();
            note();
            let seen = *value;
            sleep(SHORT / 10);
            *value = seen + 1;
        });
        assert!(mutex.is_locked() && mutex.try_lock().is_none());
        join_all(&jobs, None).unwrap();
        assert_eq!(*order.borrow(), [0, 1, 2, 3, 4]);
        assert_eq!(*mutex.lock().unwrap(), 5);
        assert_nobody_waits(&mutex);
        assert_eq!(Rc::into_inner(mutex).unwrap().into_inner(), 5);
    });
}

#[test]
fn who_comes_later_cannot_take_a_mutex_that_was_handed_over() {
    in_time(|| {
        let mutex = Rc::new(Mutex::new(()));
        let held = mutex.lock().unwrap();
        let waiter = spawn_with(&mutex, |mutex| drop(mutex.lock().unwrap()));
        yield_now();
        drop(held);
        assert!(mutex.try_lock().is_none(), "the waiter has it, though it has not run yet");
        waiter.join().unwrap();
        assert!(mutex.try_lock().is_some());
    });
}

#[test]
fn a_mutex_is_not_poisoned_by_a_kill_or_a_panic_in_its_holder() {
    in_time(|| {
        let mutex = Rc::new(Mutex::new(1));
        let killed = spawn_with(&mutex, |mutex| {
            let mut value = mutex.lock().unwrap();
            *value = 2;
            sleep(FOREVER);
        });
        let panicking = spawn_with(&mutex, |mutex| {
            let mut value = mutex.lock().unwrap();
            *value += 1;
            panic!("as the test wants");
        });
        yield_now();
        killed.kill().unwrap();
        assert!(matches!(panicking.join(), Err(JoinError::Panicked(_))));
        assert_eq!(*mutex.lock().unwrap(), 3, "it is as the unwinding left it");
    });
}

#[test]
fn one_who_waits_for_a_mutex_and_gives_up_leaves_no_trace() {
    in_time(|| {
        let mutex = Rc::new(Mutex::new(()));
        let held = mutex.lock().unwrap();
        let timed = spawn_with(&mutex, |mutex| mutex.lock_timeout(SHORT).map(drop));
        assert_eq!(timed.join().unwrap(), Err(WaitError::TimedOut));
        let in_scope = spawn_with(&mutex, |mutex| timeout(SHORT, || drop(mutex.lock())).is_err());
        assert!(in_scope.join().unwrap());
        let killed = spawn_with(&mutex, |mutex| drop(mutex.lock()));
        yield_now();
        killed.kill().unwrap();
        assert_nobody_waits(&mutex);
        drop(held);
        assert!(!mutex.is_locked());
    });
}

#[test]
fn a_mutex_handed_to_one_that_is_killed_goes_on_to_the_next() {
    in_time(|| {
        let mutex = Rc::new(Mutex::new(()));
        let held = mutex.lock().unwrap();
        let (jobs, order) = in_line(&mutex, 2, |mutex, note| {
            let _held = mutex.lock().unwrap();
            note();
        });
        drop(held);
        jobs[0].kill_soon();
        jobs[1].join().unwrap();
        assert_eq!(*order.borrow(), [1]);
        assert_nobody_waits(&mutex);
        assert!(!mutex.is_locked());
    });
}

#[test]
fn while_unwinding_a_lock_that_is_free_can_be_had_and_none_can_be_waited_for() {
    in_time(|| {
        let mutex = Rc::new(Mutex::new(0));
        let free = Rc::clone(&mutex);
        assert_eq!(while_unwinding(move || free.lock().map(|mut value| *value = 1)), Ok(()));
        let held = mutex.lock().unwrap();
        let taken = Rc::clone(&mutex);
        assert_eq!(while_unwinding(move || taken.lock().map(drop)), Err(WaitError::Unwinding));
        assert_eq!(*held, 1);
        assert_nobody_waits(&mutex);
    });
}

#[test]
fn showing_a_lock_does_not_wait_for_it() {
    in_time(|| {
        let (mutex, lock) = (Mutex::from(7), RwLock::from(8));
        assert!(format!("{mutex:?} {lock:?}").contains("value: 7"));
        let (_mutex, _lock) = (mutex.lock().unwrap(), lock.write().unwrap());
        assert_eq!(format!("{mutex:?} {lock:?}").matches("<locked>").count(), 2);
    });
}

// ---- RwLock

#[test]
fn many_read_at_once_and_one_writes_alone() {
    in_time(|| {
        let lock = Rc::new(RwLock::new(0));
        let (inside, most) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(0)));
        let readers: Vec<_> = (0..5)
            .map(|_| {
                let (inside, most) = (Rc::clone(&inside), Rc::clone(&most));
                spawn_with(&lock, move |lock| {
                    let _value = lock.read().unwrap();
                    inside.set(inside.get() + 1);
                    most.set(most.get().max(inside.get()));
                    sleep(SHORT);
                    inside.set(inside.get() - 1);
                })
            })
            .collect();
        let writer = spawn_with(&lock, move |lock| {
            *lock.write().unwrap() += 1;
            inside.get()
        });
        join_all(&readers, None).unwrap();
        assert_eq!((writer.join().unwrap(), most.get()), (0, 5));
        assert_eq!(*lock.read().unwrap(), 1);
        assert_nobody_waits(&lock);
    });
}

#[test]
fn a_writer_that_waits_is_not_starved_by_readers_who_come_after_it() {
    in_time(|| {
        let lock = Rc::new(RwLock::new("old"));
        let first = lock.read().unwrap();
        let writer = spawn_with(&lock, |lock| *lock.write().unwrap() = "new");
        yield_now();
        assert!(lock.try_read().is_none(), "it would overtake the writer");
        let late = spawn_with(&lock, |lock| *lock.read().unwrap());
        yield_now();
        drop(first);
        assert!(lock.try_read().is_none() && lock.try_write().is_none(), "the writer is called");
        assert_eq!(late.join().unwrap(), "new");
        writer.join().unwrap();
        assert_nobody_waits(&lock);
    });
}

#[test]
fn a_writer_that_gives_up_lets_the_readers_behind_it_in() {
    in_time(|| {
        let lock = Rc::new(RwLock::new(()));
        let held = lock.read().unwrap();
        let killed = spawn_with(&lock, |lock| drop(lock.write()));
        let timed = spawn_with(&lock, |lock| lock.write_timeout(SHORT).map(drop));
        let reader = spawn_with(&lock, |lock| lock.read().map(drop));
        yield_now();
        killed.kill().unwrap();
        assert_eq!(timed.join().unwrap(), Err(WaitError::TimedOut));
        assert_eq!(reader.join().unwrap(), Ok(()), "it reads beside the first reader");
        assert_nobody_waits(&lock);
        drop(held);
        assert!(lock.try_write().is_some());
    });
}

#[test]
fn a_writer_that_is_killed_when_its_turn_has_come_hands_it_on() {
    in_time(|| {
        let lock = Rc::new(RwLock::new(0));
        let held = lock.write().unwrap();
        let (jobs, order) = in_line(&lock, 3, |lock, note| {
            *lock.write().unwrap() += 1;
            note();
        });
        drop(held);
        jobs[0].kill_soon();
        join_all(&jobs, None).unwrap();
        assert_eq!((&order.borrow()[..], *lock.read().unwrap()), (&[1, 2][..], 2));
        assert_nobody_waits(&lock);
    });
}

#[test]
fn readers_time_out_while_a_writer_holds_the_lock() {
    in_time(|| {
        let lock = RwLock::new(());
        let held = lock.write().unwrap();
        assert!(matches!(lock.read_timeout(SHORT), Err(WaitError::TimedOut)));
        assert!(matches!(lock.read_timeout(SHORT), Err(WaitError::TimedOut)), "the door is free again");
        drop(held);
        assert!(lock.try_read().is_some());
        assert_nobody_waits(&lock);
    });
}

// ---- RLock

#[test]
fn an_rlock_is_its_holders_as_often_as_it_likes_and_nobody_elses() {
    in_time(|| {
        let lock = Rc::new(RLock::new(Cell::new(0)));
        let (outer, inner) = (lock.lock().unwrap(), lock.try_lock().unwrap());
        inner.set(outer.get() + 1);
        assert_eq!((lock.count(), lock.is_owned()), (2, true));
        let given_up = Rc::new(Cell::new(false));
        let other = spawn_with(&lock, {
            let given_up = Rc::clone(&given_up);
            move |lock| {
                assert!(lock.try_lock().is_none() && !lock.is_owned());
                assert!(matches!(lock.lock_timeout(SHORT), Err(WaitError::TimedOut)));
                given_up.set(true);
                lock.lock().unwrap().get()
            }
        });
        while !given_up.get() {
            sleep(SHORT);
        }
        drop(outer);
        yield_now();
        assert!(!other.is_dead(), "once is not often enough");
        drop(inner);
        assert_eq!(other.join().unwrap(), 1);
        assert_eq!((lock.count(), lock.is_locked()), (0, false));
        assert_nobody_waits(&lock);
    });
}

#[test]
fn an_rlock_whose_holder_is_killed_goes_to_the_next() {
    in_time(|| {
        let lock = Rc::new(RLock::new(()));
        let holder = spawn_with(&lock, |lock| {
            let _twice = (lock.lock().unwrap(), lock.lock().unwrap());
            sleep(FOREVER);
        });
        yield_now();
        let (jobs, order) = in_line(&lock, 3, |lock, note| {
            let _held = lock.lock().unwrap();
            note();
        });
        holder.kill_soon();
        jobs[0].kill_soon();
        join_all(&jobs, None).unwrap();
        assert_eq!((&order.borrow()[..], lock.count()), (&[1, 2][..], 0));
    });
}

// ---- Condvar

type Watched<T> = Rc<(Mutex<T>, Condvar)>;

#[test]
fn a_condvar_gives_the_lock_up_while_it_waits_and_wakes_in_order() {
    in_time(|| {
        let shared: Watched<usize> = Rc::default();
        let (jobs, order) = in_line(&shared, 3, |(lock, changed), note| {
            let mut left = changed.wait(lock.lock().unwrap()).unwrap();
            *left -= 1;
            note();
        });
        *shared.0.try_lock().expect("they have given it up") = 3;
        shared.1.notify_one();
        yield_now();
        assert_eq!(*order.borrow(), [0]);
        shared.1.notify_all();
        join_all(&jobs, None).unwrap();
        assert_eq!((&order.borrow()[..], *shared.0.lock().unwrap()), (&[0, 1, 2][..], 0));
        assert_nobody_waits(&shared.1);
    });
}

#[test]
fn a_condvar_remembers_no_notification() {
    in_time(|| {
        let shared: Watched<()> = Rc::default();
        let (lock, changed) = &*shared;
        changed.notify_all();
        let (guard, result) = changed.wait_timeout(lock.lock().unwrap(), SHORT).unwrap();
        assert!(result.timed_out() && lock.is_locked());
        drop(guard);
        assert_nobody_waits(changed);
    });
}

#[test]
fn wait_while_looks_again_at_each_notification() {
    in_time(|| {
        let shared: Watched<u32> = Rc::default();
        let waiter = spawn_with(&shared, |(lock, changed)| {
            *changed.wait_while(lock.lock().unwrap(), |value| *value < 3).unwrap()
        });
        for _ in 0..3 {
            yield_now();
            assert!(!waiter.is_dead());
            *shared.0.lock().unwrap() += 1;
            shared.1.notify_one();
        }
        assert_eq!(waiter.join().unwrap(), 3);
        let (lock, changed) = &*shared;
        let guard = lock.lock().unwrap();
        let (guard, result) = changed.wait_timeout_while(guard, SHORT, |value| *value == 3).unwrap();
        assert!(result.timed_out());
        let (_guard, result) = changed.wait_timeout_while(guard, SHORT, |value| *value != 3).unwrap();
        assert!(!result.timed_out(), "no wait where there is nothing to wait for");
    });
}

#[test]
fn a_notification_of_one_that_is_killed_goes_to_the_next() {
    in_time(|| {
        let shared: Watched<()> = Rc::default();
        let wait = |(lock, changed): &(Mutex<()>, Condvar), note: &dyn Fn()| {
            let _guard = changed.wait(lock.lock().unwrap()).unwrap();
            note();
        };
        // killed before it runs
        let (jobs, order) = in_line(&shared, 2, wait);
        shared.1.notify_one();
        jobs[0].kill_soon();
        jobs[1].join().unwrap();
        assert_eq!(*order.borrow(), [1]);
        // killed while it waits for the lock
        let (jobs, order) = in_line(&shared, 2, wait);
        let held = shared.0.lock().unwrap();
        shared.1.notify_one();
        yield_now();
        jobs[0].kill().unwrap();
        drop(held);
        jobs[1].join().unwrap();
        assert_eq!(*order.borrow(), [1]);
        // killed before any notification
        let (jobs, order) = in_line(&shared, 2, wait);
        jobs[0].kill().unwrap();
        shared.1.notify_one();
        jobs[1].join().unwrap();
        assert_eq!(*order.borrow(), [1]);
        assert_nobody_waits(&shared.1);
        assert_nobody_waits(&shared.0);
        assert!(!shared.0.is_locked());
    });
}

// ---- Barrier

#[test]
fn a_barrier_lets_all_pass_when_the_last_has_come_and_begins_anew() {
    in_time(|| {
        let barrier = Rc::new(Barrier::new(3));
        for _ in 0..2 {
            let leaders = Rc::new(Cell::new(0));
            let count = Rc::clone(&leaders);
            let (jobs, order) = in_line(&barrier, 2, move |barrier, note| {
                count.set(count.get() + usize::from(barrier.wait().unwrap().is_leader()));
                note();
            });
            assert_eq!((barrier.waiting(), order.borrow().len()), (2, 0));
            assert!(barrier.wait().unwrap().is_leader());
            join_all(&jobs, None).unwrap();
            assert_eq!((&order.borrow()[..], leaders.get(), barrier.waiting()), (&[0, 1][..], 0, 0));
        }
        assert!(Barrier::new(1).wait().unwrap().is_leader() && Barrier::new(0).wait().unwrap().is_leader());
    });
}

#[test]
fn one_who_gives_up_has_not_come_to_the_barrier() {
    in_time(|| {
        let barrier = Rc::new(Barrier::new(2));
        assert_eq!(barrier.wait_timeout(SHORT), Err(WaitError::TimedOut));
        let killed = spawn_with(&barrier, |barrier| drop(barrier.wait()));
        yield_now();
        killed.kill().unwrap();
        assert_eq!(barrier.waiting(), 0);
        let waiter = spawn_with(&barrier, |barrier| barrier.wait().unwrap().is_leader());
        yield_now();
        assert!(!waiter.is_dead());
        assert!(barrier.wait().unwrap().is_leader());
        assert!(!waiter.join().unwrap());
    });
}

#[test]
fn one_killed_after_the_last_has_come_holds_nobody_back() {
    in_time(|| {
        let barrier = Rc::new(Barrier::new(3));
        let (jobs, order) = in_line(&barrier, 2, |barrier, note| {
            barrier.wait().unwrap();
            note();
        });
        barrier.wait().unwrap();
        jobs[0].kill_soon();
        jobs[1].join().unwrap();
        assert_eq!((&order.borrow()[..], barrier.waiting()), (&[1][..], 0));
    });
}

#[test]
fn main_waiting_for_a_lock_that_nobody_can_free_is_told_so() {
    in_time(|| {
        let exits = |error: WaitError| assert!(matches!(error, WaitError::LoopExit(_)), "{error}");
        let mutex = Mutex::new(());
        let _held = mutex.lock().unwrap();
        exits(mutex.lock().unwrap_err());
        let lock = RwLock::new(());
        let _read = lock.read().unwrap();
        exits(lock.write().unwrap_err());
        exits(Barrier::new(2).wait().unwrap_err());
        let other = Mutex::new(());
        exits(Condvar::new().wait(other.lock().unwrap()).unwrap_err());
        assert!(!other.is_locked(), "the wait has given it up");
    });
}
