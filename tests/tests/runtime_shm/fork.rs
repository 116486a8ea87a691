//! What a fork makes of those who hold or wait.

use std::rc::Rc;

use greenlet::shm::{Counter, Mutex, Semaphore};
use greenlet::{sleep, spawn};
use greenserve_tests::{PATIENCE, eventually};

use crate::{SHORT, Worker, in_process};

#[test]
fn what_the_parent_holds_stays_its_own() {
    in_process("fork::what_the_parent_holds_stays_its_own", || {
        let (mutex, semaphore) = (Mutex::new(0_u32).unwrap(), Semaphore::new(1).unwrap());
        let (guard, permit) = (mutex.lock().unwrap(), semaphore.acquire().unwrap());
        let mut held = Some((guard, permit));
        let child = Worker::start(|| {
            assert!(greenlet::catch_panic(|| *held.as_ref().unwrap().0).is_err());
            drop(held.take());
            mutex.try_lock().unwrap().is_none() && semaphore.try_acquire().unwrap().is_none()
        });
        child.succeeds();
        assert!(mutex.try_lock().unwrap().is_none());
        drop(held);
        assert!(mutex.try_lock().unwrap().is_some() && semaphore.available().unwrap() == 1);
    });
}

#[test]
fn who_waits_at_the_fork_waits_on_in_both() {
    in_process("fork::who_waits_at_the_fork_waits_on_in_both", || {
        let mutex = Rc::new(Mutex::new(0_u32).unwrap());
        let semaphore = Rc::new(Semaphore::new(1).unwrap());
        let (permit, go) = (semaphore.acquire().unwrap(), Counter::new().unwrap());
        let holder = Worker::start(|| {
            let _guard = mutex.lock().unwrap();
            go.add(1);
            eventually(PATIENCE, || go.get() == 2);
            true
        });
        eventually(PATIENCE, || go.get() == 1);
        let waiters = [(); 2].map(|()| {
            let (mutex, semaphore) = (Rc::clone(&mutex), Rc::clone(&semaphore));
            spawn(move || {
                let _permit = semaphore.acquire().unwrap();
                *mutex.lock().unwrap() += 1;
            })
        });
        let waiter = {
            let mutex = Rc::clone(&mutex);
            spawn(move || *mutex.lock().unwrap() += 1)
        };
        sleep(SHORT);
        let both = || greenlet::join_all(&waiters, PATIENCE).is_ok() && waiter.join().is_ok();
        let child = Worker::start(both);
        go.add(1);
        drop(permit);
        assert!(both());
        child.succeeds();
        holder.succeeds();
        assert_eq!(*mutex.lock().unwrap(), 6);
        assert_eq!(semaphore.available().unwrap(), 1);
    });
}

#[test]
fn a_child_of_a_child_shares_too_and_what_is_made_later_is_its_makers() {
    in_process("fork::a_child_of_a_child_shares_too_and_what_is_made_later_is_its_makers", || {
        let mutex = Mutex::new(0_u32).unwrap();
        let child = Worker::start(|| {
            let later = Mutex::new(0_u32).unwrap();
            let grandchild = Worker::start(|| {
                *mutex.lock().unwrap() += 1;
                *later.lock().unwrap() += 1;
                true
            });
            grandchild.succeeds();
            *mutex.lock().unwrap() += *later.lock().unwrap();
            true
        });
        child.succeeds();
        assert_eq!(*mutex.lock().unwrap(), 2);
    });
}
