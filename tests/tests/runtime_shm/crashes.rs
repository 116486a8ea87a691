//! Workers are killed at random: nothing is lost, nothing is stuck, nobody is where another is.

use std::rc::Rc;
use std::time::{Duration, Instant};

use greenlet::shm::{Counter, LockError, Mutex, RwLock, Semaphore, Slot};
use greenlet::{sleep, spawn, yield_now};
use greenserve_tests::PATIENCE;

use crate::{FOREVER, Random, Worker, in_process};

/// What the lock protects: two counts that are changed one after the other, and who is at it.
const A: usize = 0;
const B: usize = 1;
const AT_IT: usize = 2;
const WRONG: usize = 3;
const RECOVERED: usize = 4;

/// One increment, in steps between which others run. `done` counts what `A` counts, elsewhere.
fn increment(lock: &Mutex<[u64; 5]>, done: &Counter, own: u64, patience: Duration) {
    let mut counts = match lock.lock_timeout(patience) {
        Ok(counts) => {
            if counts[A] != counts[B] || counts[AT_IT] != 0 || counts[A] != done.get() as u64 {
                eprintln!("found {:?}, done {}", *counts, done.get());
                let mut counts = counts;
                counts[WRONG] += 1;
                return;
            }
            counts
        }
        Err(LockError::OwnerDied(died)) => {
            let mut counts = died.recover();
            // the dead one has taken each of these steps or not, in this order
            done.add(counts[A] as i64 - done.get());
            counts[B] = counts[A];
            counts[AT_IT] = 0;
            counts[RECOVERED] += 1;
            counts
        }
        Err(LockError::Failed(error)) if error.kind() == std::io::ErrorKind::TimedOut => return,
        Err(error) => panic!("{error}"),
    };
    counts[AT_IT] = own;
    if own.is_multiple_of(3) {
        yield_now();
    }
    counts[A] += 1;
    done.add(1);
    if own.is_multiple_of(7) {
        sleep(Duration::from_micros(100));
    }
    counts[B] += 1;
    counts[WRONG] += u64::from(counts[AT_IT] != own);
    counts[AT_IT] = 0;
}

#[test]
fn many_greenlets_of_workers_that_are_killed_at_random_count_right() {
    in_process("crashes::many_greenlets_of_workers_that_are_killed_at_random_count_right", || {
        let lock = Rc::new(Mutex::new([0_u64; 5]).unwrap());
        let done = Rc::new(Counter::new().unwrap());
        let mut random = Random::new(7);
        let start = |worker: u64| {
            Worker::start(|| {
                for n in 0..50 {
                    let (lock, done) = (Rc::clone(&lock), Rc::clone(&done));
                    spawn(move || {
                        loop {
                            // some give up now and then
                            let patience = if n % 10 == 9 { Duration::from_micros(500) } else { PATIENCE };
                            increment(&lock, &done, 1 + worker * 50 + n, patience);
                            if n % 5 == 4 {
                                sleep(Duration::from_micros(200));
                            }
                        }
                    });
                }
                sleep(FOREVER);
                true
            })
        };
        let mut workers: Vec<_> = (0..4).map(start).collect();
        for kill in 0..150 {
            let before = done.get();
            sleep(Duration::from_micros(random.below(8000)));
            let victim = random.below(4) as usize;
            workers[victim].kill();
            if kill % 3 == 0 {
                greenlet::shm::recover(workers[victim].0.id());
            }
            workers[victim] = start(victim as u64);
            let end = Instant::now() + PATIENCE;
            while done.get() < before + 10 {
                assert!(Instant::now() < end, "stuck after {kill} kills");
                sleep(Duration::from_millis(1));
            }
        }
        for worker in &workers {
            worker.kill();
        }
        increment(&lock, &done, 1, PATIENCE);
        let counts = lock.lock().unwrap();
        println!("{:?} in all", *counts);
        assert_eq!(counts[WRONG], 0, "{:?}", *counts);
        assert_eq!((counts[A], counts[A]), (counts[B], done.get() as u64));
        assert!(counts[RECOVERED] > 0, "nobody was killed while holding it");
    });
}

/// Tight loops over everything, by one thread without a hub, so that most kills hit the locks' own instructions.
struct All {
    mutex: Mutex<[u64; 2]>,
    rwlock: RwLock<[u64; 2]>,
    semaphore: Semaphore,
    inside: Mutex<()>,
    slot: Slot<[u64; 4]>,
    rounds: Counter,
}

impl All {
    fn round(&self, random: &mut Random) -> bool {
        let patience = PATIENCE;
        let well = match random.below(6) {
            0 | 1 => match self.mutex.lock_timeout(patience) {
                Ok(mut two) => {
                    let same = two[0] == two[1];
                    two[0] += 1;
                    two[1] += 1;
                    same
                }
                Err(LockError::OwnerDied(died)) => {
                    let mut two = died.recover();
                    two[1] = two[0];
                    true
                }
                Err(LockError::Failed(error)) => panic!("the mutex: {error}"),
            },
            2 => match self.rwlock.read_timeout(patience) {
                Ok(two) => two[0] == two[1],
                Err(LockError::OwnerDied(_)) => true,
                Err(LockError::Failed(error)) => panic!("reading: {error}"),
            },
            3 => match self.rwlock.write_timeout(patience) {
                Ok(mut two) => {
                    two[0] += 1;
                    two[1] += 1;
                    true
                }
                Err(LockError::OwnerDied(died)) => {
                    let mut two = died.recover();
                    two[1] = two[0];
                    true
                }
                Err(LockError::Failed(error)) => panic!("writing: {error}"),
            },
            4 => {
                let _permit = self.semaphore.acquire_timeout(patience).expect("a permit");
                if random.below(10) == 0 {
                    drop(self.inside.lock_timeout(Duration::from_micros(50)));
                }
                true
            }
            _ => {
                let now = self.slot.get();
                if random.below(3) == 0 {
                    let own = random.below(u64::MAX);
                    self.slot.set([own; 4]).expect("the slot");
                }
                now.iter().all(|&word| word == now[0])
            }
        };
        self.rounds.add(1);
        well
    }
}

#[test]
fn a_kill_at_any_instruction_leaves_nothing_locked() {
    in_process("crashes::a_kill_at_any_instruction_leaves_nothing_locked", || {
        let all = All {
            mutex: Mutex::new([0; 2]).unwrap(),
            rwlock: RwLock::new([0; 2]).unwrap(),
            semaphore: Semaphore::new(2).unwrap(),
            inside: Mutex::new(()).unwrap(),
            slot: Slot::new([0; 4]).unwrap(),
            rounds: Counter::new().unwrap(),
        };
        let wrong = Counter::new().unwrap();
        let mut random = Random::new(11);
        let start = |seed: u64| {
            Worker::start(|| {
                let mut random = Random::new(seed);
                loop {
                    let well = greenlet::catch_panic(|| all.round(&mut random));
                    if !matches!(well, Ok(true)) {
                        wrong.add(1);
                    }
                }
            })
        };
        let mut workers: Vec<_> = (0..3).map(start).collect();
        let end = Instant::now() + PATIENCE * 4 / 5;
        let mut kills = 0;
        while kills < 1000 && Instant::now() < end {
            std::thread::sleep(Duration::from_micros(random.below(1500)));
            let victim = random.below(3) as usize;
            workers[victim].kill();
            kills += 1;
            workers[victim] = start(kills);
            if kills % 100 == 0 {
                let before = all.rounds.get();
                greenserve_tests::eventually(PATIENCE, || all.rounds.get() > before + 100);
            }
        }
        println!("{kills} kills, {} rounds", all.rounds.get());
        assert!(kills >= 200, "{kills} kills");
        for worker in &workers {
            worker.kill();
        }
        assert_eq!(wrong.get(), 0);
        // no living process holds or waits for anything
        drop(all.mutex.lock_timeout(PATIENCE).or_else(LockError::recover).unwrap());
        drop(all.rwlock.write_timeout(PATIENCE).or_else(LockError::recover).unwrap());
        let two = [(); 2].map(|()| all.semaphore.acquire_timeout(PATIENCE).unwrap());
        drop(two);
        assert_eq!(all.semaphore.available().unwrap(), 2);
    });
}
