//! What each of them does, among processes that are not killed or die while they hold it.

use std::sync::Arc;
use std::thread;

use greenlet::shm::{Counter, LockError, Mutex, RwLock, Semaphore, Slot, recover};
use greenlet::{sleep, spawn};
use greenserve_tests::{PATIENCE, eventually, in_time};

use crate::{FOREVER, SHORT, Worker, in_process};

/// A worker that holds `held` when this returns, until it is killed.
fn holding<G>(hold: impl FnOnce() -> G) -> Worker {
    let ready = Counter::new().unwrap();
    let worker = Worker::start(|| {
        let _held = hold();
        ready.add(1);
        sleep(FOREVER);
        true
    });
    eventually(PATIENCE, || ready.get() == 1);
    worker
}

#[test]
fn what_nobody_else_wants_costs_no_system_call() {
    in_process("locks::what_nobody_else_wants_costs_no_system_call", || {
        let mutex = Mutex::new(0_u64).unwrap();
        let lock = RwLock::new(0_u64).unwrap();
        let semaphore = Semaphore::new(2).unwrap();
        let counter = Counter::new().unwrap();
        let slot = Slot::new([0_u64; 3]).unwrap();
        let round = || {
            *mutex.lock().unwrap() += 1;
            *mutex.try_lock().unwrap().unwrap() += 1;
            *lock.write().unwrap() += 1;
            assert!(*lock.read().unwrap() + *lock.read().unwrap() > 0);
            let first = semaphore.acquire().unwrap();
            drop((semaphore.try_acquire().unwrap().unwrap(), first));
            counter.add(1);
            slot.set([*mutex.lock().unwrap(); 3]).unwrap();
        };
        let worker = Worker::start(|| {
            round(); // it enters its place in the table of processes
            // SAFETY: integers only. From here on any call but read, write and exit kills the process.
            unsafe {
                assert_eq!(libc::prctl(libc::PR_SET_SECCOMP, 1), 0);
                (0..1000).for_each(|_| round());
                libc::syscall(libc::SYS_exit, 0);
            }
            unreachable!()
        });
        worker.succeeds();
        assert_eq!(*mutex.lock().unwrap(), 2002);
        assert_eq!((*lock.read().unwrap(), counter.get(), slot.get()), (1001, 1001, [2002; 3]));
        let forbidden = Worker::start(|| {
            // SAFETY: as above.
            unsafe { libc::prctl(libc::PR_SET_SECCOMP, 1) };
            // SAFETY: kill(2) takes integers.
            unsafe { libc::kill(0, 0) == 0 }
        });
        assert!(!forbidden.0.wait().unwrap().success(), "the kernel does watch");
    });
}

#[test]
fn who_gets_a_lock_after_its_owner_died_is_told_until_somebody_recovers() {
    in_process("locks::who_gets_a_lock_after_its_owner_died_is_told_until_somebody_recovers", || {
        let mutex = Mutex::new([7_u32, 7]).unwrap();
        let worker = holding(|| {
            let mut guard = mutex.lock().unwrap();
            guard[0] = 8;
            guard
        });
        assert!(mutex.try_lock().unwrap().is_none());
        worker.kill();
        let Err(LockError::OwnerDied(died)) = mutex.lock() else { panic!("nobody told") };
        drop(died);
        let Err(LockError::OwnerDied(died)) = mutex.try_lock() else { panic!("only the first was told") };
        let mut guard = died.recover();
        assert_eq!(*guard, [8, 7]);
        guard[1] = 8;
        drop(guard);
        assert_eq!(*mutex.lock().unwrap(), [8, 8]);
    });
}

#[test]
fn a_dead_worker_that_nobody_has_reaped_holds_nothing() {
    in_process("locks::a_dead_worker_that_nobody_has_reaped_holds_nothing", || {
        let mutex = Mutex::new(()).unwrap();
        let worker = holding(|| mutex.lock().unwrap());
        worker.0.kill().unwrap();
        let waiter = spawn(move || matches!(mutex.lock(), Err(LockError::OwnerDied(_))));
        assert!(waiter.join().unwrap());
    });
}

#[test]
fn a_panic_or_a_kill_is_no_death() {
    in_process("locks::a_panic_or_a_kill_is_no_death", || {
        let mutex = Arc::new(Mutex::new(1_u8).unwrap());
        let panics = spawn({
            let mutex = Arc::clone(&mutex);
            move || {
                let _guard = mutex.lock().unwrap();
                panic!("on purpose");
            }
        });
        assert!(panics.join().is_err());
        let killed = spawn({
            let mutex = Arc::clone(&mutex);
            move || {
                let _guard = mutex.lock().unwrap();
                sleep(FOREVER);
            }
        });
        sleep(SHORT);
        killed.kill().unwrap();
        assert_eq!(*mutex.lock().unwrap(), 1);
    });
}

#[test]
fn a_master_may_tell_of_an_end_and_only_the_dead_are_affected() {
    in_process("locks::a_master_may_tell_of_an_end_and_only_the_dead_are_affected", || {
        let mutex = Mutex::new(0_u64).unwrap();
        let worker = holding(|| mutex.lock().unwrap());
        recover(worker.0.id());
        assert!(mutex.try_lock().unwrap().is_none(), "it lives");
        worker.kill();
        recover(worker.0.id());
        assert!(matches!(mutex.try_lock(), Err(LockError::OwnerDied(_))));
        recover(std::process::id());
        recover(0);
        let guard = mutex.lock().or_else(LockError::recover).unwrap();
        let worker = Worker::start(|| mutex.try_lock().unwrap().is_none());
        worker.succeeds();
        drop(guard);
    });
}

#[test]
fn many_read_or_one_writes() {
    in_process("locks::many_read_or_one_writes", || {
        let lock = RwLock::new(5_u64).unwrap();
        let reader = holding(|| lock.read().unwrap());
        assert_eq!(*lock.read().unwrap(), 5);
        assert!(lock.try_write().unwrap().is_none());
        let late = lock.write_timeout(SHORT).unwrap_err();
        assert!(matches!(late, LockError::Failed(error) if error.kind() == std::io::ErrorKind::TimedOut));
        assert_eq!(*lock.try_read().unwrap().unwrap(), 5, "who gave up is in nobody's way");
        reader.kill();
        *lock.write().unwrap() = 6;
        let writer = holding(|| lock.write().unwrap());
        assert!(lock.try_read().unwrap().is_none());
        assert!(lock.read_timeout(SHORT).is_err());
        drop(writer);
    });
}

#[test]
fn all_are_told_of_a_writer_that_died_until_a_writer_has_recovered() {
    in_process("locks::all_are_told_of_a_writer_that_died_until_a_writer_has_recovered", || {
        let lock = RwLock::new(5_u64).unwrap();
        holding(|| lock.write().unwrap()).kill();
        for _ in 0..2 {
            let Err(LockError::OwnerDied(died)) = lock.read() else { panic!("nobody told") };
            assert_eq!(*died.recover(), 5);
        }
        let Err(LockError::OwnerDied(died)) = lock.write() else { panic!("nobody told") };
        *died.recover() = 6;
        assert_eq!(*lock.read().unwrap(), 6);
        holding(|| lock.read().unwrap()).kill();
        assert_eq!(*lock.write().unwrap(), 6, "a reader changes nothing");
    });
}

#[test]
fn a_writer_that_waits_keeps_later_readers_out_and_is_let_in_when_the_readers_leave() {
    in_process(
        "locks::a_writer_that_waits_keeps_later_readers_out_and_is_let_in_when_the_readers_leave",
        || {
            let lock = RwLock::new(0_u64).unwrap();
            let read = lock.read().unwrap();
            let waits = Counter::new().unwrap();
            let writer = Worker::start(|| {
                waits.add(1);
                *lock.write().unwrap() += 1;
                true
            });
            eventually(PATIENCE, || waits.get() == 1 && lock.try_read().unwrap().is_none());
            drop(read);
            writer.succeeds();
            assert_eq!(*lock.read().unwrap(), 1);
        },
    );
}

#[test]
fn permits_of_the_dead_come_back() {
    in_process("locks::permits_of_the_dead_come_back", || {
        let semaphore = Semaphore::new(3).unwrap();
        let own = semaphore.acquire().unwrap();
        let worker = holding(|| (semaphore.acquire().unwrap(), semaphore.acquire().unwrap()));
        assert_eq!(semaphore.available().unwrap(), 0);
        assert!(semaphore.try_acquire().unwrap().is_none());
        assert_eq!(semaphore.acquire_timeout(SHORT).unwrap_err().kind(), std::io::ErrorKind::TimedOut);
        worker.kill();
        let two = (semaphore.acquire().unwrap(), semaphore.try_acquire().unwrap().unwrap());
        assert!(semaphore.try_acquire().unwrap().is_none());
        drop((own, two));
        assert_eq!(semaphore.available().unwrap(), 3);
    });
}

#[test]
fn a_permit_that_is_given_back_in_one_process_wakes_who_waits_in_another() {
    in_process("locks::a_permit_that_is_given_back_in_one_process_wakes_who_waits_in_another", || {
        let (semaphore, rounds) = (Semaphore::new(1).unwrap(), Counter::new().unwrap());
        let work = || {
            let jobs = (0..200).map(|_| {
                let _permit = semaphore.acquire().unwrap();
                greenlet::yield_now();
                rounds.add(1);
            });
            jobs.count() == 200
        };
        let workers = [(); 3].map(|()| Worker::start(work));
        assert!(work());
        workers.iter().for_each(Worker::succeeds);
        assert_eq!((rounds.get(), semaphore.available().unwrap()), (800, 1));
    });
}

#[test]
fn a_counter_keeps_what_the_dead_have_added() {
    in_process("locks::a_counter_keeps_what_the_dead_have_added", || {
        let counter = Counter::new().unwrap();
        for round in 1..=4 {
            let worker = Worker::start(|| {
                counter.add(10);
                sleep(FOREVER);
                true
            });
            eventually(PATIENCE, || counter.get() == round * 10);
            worker.kill();
        }
        counter.add(-40);
        assert_eq!(counter.get(), 0);
    });
}

#[test]
fn threads_without_a_hub_and_hubs_of_several_threads_use_the_same_lock() {
    in_process("locks::threads_without_a_hub_and_hubs_of_several_threads_use_the_same_lock", || {
        let mutex = Arc::new(Mutex::new(0_u64).unwrap());
        let add = |mutex: &Mutex<u64>, between: fn()| {
            for _ in 0..200 {
                let mut value = mutex.lock().unwrap();
                let seen = *value;
                between();
                *value = seen + 1;
            }
        };
        let worker = Worker::start(|| {
            add(&mutex, thread::yield_now);
            true
        });
        let threads = [true, false].map(|hub| {
            let mutex = Arc::clone(&mutex);
            thread::spawn(move || {
                if !hub {
                    return add(&mutex, thread::yield_now);
                }
                let jobs: Vec<_> = (0..3)
                    .map(|_| {
                        let mutex = Arc::clone(&mutex);
                        spawn(move || add(&mutex, greenlet::yield_now))
                    })
                    .collect();
                greenlet::join_all(&jobs, PATIENCE).unwrap();
            })
        });
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        worker.succeeds();
        assert_eq!(*mutex.lock().unwrap(), 1000);
    });
}

#[test]
fn what_is_dropped_is_unmapped() {
    in_time(|| {
        let before = greenserve_tests::Proc::current().mappings();
        let many: Vec<_> = (0..100).map(|n| Mutex::new(n).unwrap()).collect();
        let sum: i32 = many.iter().map(|mutex| *mutex.lock().unwrap()).sum();
        assert_eq!(sum, 4950);
        drop(many);
        // the kernel merges and splits what lies side by side, and other tests run
        assert!(greenserve_tests::Proc::current().mappings() < before + 90);
    });
}
