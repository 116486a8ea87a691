//! std's locks, condition variables, channels and parked threads.
//!
//! In each of these what ends a wait is another greenlet of the same thread (or waits for one), so that a blocked thread
//! would never see the end.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io::Write;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Barrier, Condvar, LazyLock, Mutex, Once, OnceLock, RwLock};
use std::thread;
use std::time::{Duration, Instant};

use greenlet::{Greenlet, join_all, sleep, spawn, yield_now};
use greenserve_tests::{PATIENCE, eventually, in_time};

const MOMENT: Duration = Duration::from_millis(5);
/// Longer than any test has.
const FOREVER: Duration = Duration::from_secs(600);

/// Runs all and passes on their panics.
fn all(greenlets: impl IntoIterator<Item = Greenlet<()>>) {
    for greenlet in greenlets {
        greenlet.join().unwrap();
    }
}

/// Lets the other greenlets run until the condition holds.
fn until(mut condition: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !condition() {
        assert!(begin.elapsed() < PATIENCE, "it never came true");
        sleep(Duration::from_millis(1));
    }
}

#[test]
fn a_mutex_held_across_a_sleep_is_waited_for_by_other_greenlets_of_the_thread() {
    in_time(|| {
        let mutex = Arc::new(Mutex::new(0));
        let greenlets: Vec<_> = (0..11)
            .map(|_| {
                let mutex = mutex.clone();
                spawn(move || {
                    let mut count = mutex.lock().unwrap();
                    let before = *count;
                    sleep(MOMENT);
                    *count = before + 1;
                })
            })
            .collect();
        all(greenlets);
        assert_eq!(*mutex.lock().unwrap(), 11);
        assert!(!mutex.is_poisoned());
    });
}

#[test]
fn a_mutex_held_by_another_thread_is_waited_for_by_the_greenlet_alone() {
    for with_hub in [false, true] {
        in_time(move || {
            let mutex = Arc::new(Mutex::new(()));
            let (held, release) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
            let holder = {
                let (mutex, held, release) = (mutex.clone(), held.clone(), release.clone());
                let hold = move || {
                    let _guard = mutex.lock().unwrap();
                    held.store(true, Ordering::SeqCst);
                    eventually(PATIENCE, || release.load(Ordering::SeqCst));
                };
                thread::spawn(move || match with_hub {
                    true => spawn(hold).join().unwrap(),
                    false => hold(),
                })
            };
            until(|| held.load(Ordering::SeqCst));
            let wanting: Vec<_> = (0..10)
                .map(|_| {
                    let mutex = mutex.clone();
                    spawn(move || drop(mutex.lock().unwrap()))
                })
                .collect();
            // Runs only if none of them blocks the thread.
            let releasing = spawn(move || {
                sleep(MOMENT);
                release.store(true, Ordering::SeqCst);
            });
            all(wanting.into_iter().chain([releasing]));
            holder.join().unwrap();
        });
    }
}

#[test]
fn a_thread_waits_for_a_mutex_that_a_greenlet_holds() {
    in_time(|| {
        let mutex = Arc::new(Mutex::new(1));
        let guard = mutex.lock().unwrap();
        let other = mutex.clone();
        let (done, seen) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
        let result = done.clone();
        let waiting = seen.clone();
        let thread = thread::spawn(move || {
            waiting.store(true, Ordering::SeqCst);
            result.store(*other.lock().unwrap(), Ordering::SeqCst);
        });
        until(|| seen.load(Ordering::SeqCst));
        sleep(MOMENT);
        assert_eq!(done.load(Ordering::SeqCst), 0);
        drop(guard);
        until(|| done.load(Ordering::SeqCst) == 1);
        thread.join().unwrap();
    });
}

#[test]
fn a_read_write_lock_parks_readers_and_writers() {
    in_time(|| {
        let lock = Arc::new(RwLock::new(0));
        let mut greenlets = Vec::new();
        for number in 0..30 {
            let lock = lock.clone();
            greenlets.push(spawn(move || {
                if number % 3 == 0 {
                    let mut value = lock.write().unwrap();
                    let before = *value;
                    sleep(Duration::from_millis(1));
                    *value = before + 1;
                } else {
                    let value = lock.read().unwrap();
                    let before = *value;
                    sleep(Duration::from_millis(1));
                    assert_eq!(before, *value, "a writer while one reads");
                }
            }));
        }
        all(greenlets);
        assert_eq!(*lock.read().unwrap(), 10);
    });
}

#[test]
fn a_condition_is_told_among_greenlets_of_one_thread() {
    in_time(|| {
        let pair = Arc::new((Mutex::new(0_u32), Condvar::new()));
        let woken = Rc::new(Cell::new(0));
        let waiting: Vec<_> = (0..5)
            .map(|_| {
                let (pair, woken) = (pair.clone(), woken.clone());
                spawn(move || {
                    let mut tokens = pair.0.lock().unwrap();
                    while *tokens == 0 {
                        tokens = pair.1.wait(tokens).unwrap();
                    }
                    *tokens -= 1;
                    woken.set(woken.get() + 1);
                })
            })
            .collect();
        sleep(MOMENT);
        for expected in 1..=2 {
            *pair.0.lock().unwrap() += 1;
            pair.1.notify_one();
            until(|| woken.get() == expected);
        }
        let (other, count) = (pair.clone(), 3);
        thread::spawn(move || {
            *other.0.lock().unwrap() += count;
            other.1.notify_all();
        });
        all(waiting);
        assert_eq!(woken.get(), 5);
    });
}

#[test]
fn a_condition_with_a_timeout_ends_by_either() {
    in_time(|| {
        let pair = Rc::new((Mutex::new(false), Condvar::new()));
        let ran = Rc::new(Cell::new(false));
        let seen = ran.clone();
        spawn(move || seen.set(true));
        let begin = Instant::now();
        let (guard, end) = pair.1.wait_timeout(pair.0.lock().unwrap(), MOMENT).unwrap();
        assert!(end.timed_out() && begin.elapsed() >= MOMENT && ran.get());
        drop(guard);
        let other = pair.clone();
        spawn(move || {
            *other.0.lock().unwrap() = true;
            other.1.notify_one();
        });
        let (guard, end) = pair.1.wait_timeout_while(pair.0.lock().unwrap(), FOREVER, |told| !*told).unwrap();
        assert!(*guard && !end.timed_out());
    });
}

#[test]
fn a_barrier_is_met_by_greenlets_and_threads() {
    in_time(|| {
        let barrier = Arc::new(Barrier::new(8));
        let leaders = Arc::new(AtomicUsize::new(0));
        let arrive = || {
            let (barrier, leaders) = (barrier.clone(), leaders.clone());
            move || {
                for _ in 0..50 {
                    if barrier.wait().is_leader() {
                        leaders.fetch_add(1, Ordering::SeqCst);
                    }
                }
            }
        };
        let done = Arc::new(AtomicUsize::new(0));
        for _ in 0..2 {
            let (arrive, done) = (arrive(), done.clone());
            thread::spawn(move || {
                arrive();
                done.fetch_add(1, Ordering::SeqCst);
            });
        }
        let greenlets: Vec<_> = (0..6).map(|_| spawn(arrive())).collect();
        all(greenlets);
        until(|| done.load(Ordering::SeqCst) == 2);
        assert_eq!(leaders.load(Ordering::SeqCst), 50);
    });
}

#[test]
fn what_is_made_once_may_take_its_time() {
    static ONCE: Once = Once::new();
    static LAZY: LazyLock<u32> = LazyLock::new(|| {
        sleep(MOMENT);
        7
    });
    in_time(|| {
        let cell = Arc::new(OnceLock::new());
        let made = Rc::new(Cell::new(0));
        let greenlets: Vec<_> = (0..10)
            .map(|_| {
                let (cell, made) = (cell.clone(), made.clone());
                spawn(move || {
                    let value = cell.get_or_init(|| {
                        sleep(MOMENT);
                        made.set(made.get() + 1);
                        5
                    });
                    assert_eq!(*value, 5);
                    ONCE.call_once(|| {
                        sleep(MOMENT);
                        made.set(made.get() + 1);
                    });
                    assert_eq!(*LAZY, 7);
                })
            })
            .collect();
        all(greenlets);
        assert_eq!(made.get(), 2);
    });
}

#[test]
fn greenlets_receive_what_other_threads_send() {
    in_time(|| {
        const RECEIVERS: usize = 20;
        let received = Rc::new(RefCell::new(Vec::new()));
        let (mut senders, mut greenlets) = (Vec::new(), Vec::new());
        for _ in 0..RECEIVERS {
            let (sender, receiver) = mpsc::channel();
            senders.push(sender);
            let received = received.clone();
            greenlets.push(spawn(move || {
                while let Ok(value) = receiver.recv() {
                    received.borrow_mut().push(value);
                }
            }));
        }
        // All of them wait, and others run.
        sleep(MOMENT);
        let sending = thread::spawn(move || {
            for round in 0..50 {
                for (number, sender) in senders.iter().enumerate() {
                    sender.send(round * RECEIVERS + number).unwrap();
                    if number % 7 == 0 {
                        thread::yield_now();
                    }
                }
            }
        });
        all(greenlets);
        sending.join().unwrap();
        let mut received = received.take();
        received.sort_unstable();
        assert!(received.into_iter().eq(0..RECEIVERS * 50));
    });
}

#[test]
fn a_channel_without_room_hands_over_between_a_greenlet_and_a_thread() {
    in_time(|| {
        for to_greenlets in [true, false] {
            let (sender, receiver) = mpsc::sync_channel(0);
            let (send, receive) = (
                move || (0..100).for_each(|number| sender.send(number).unwrap()),
                move || assert!(receiver.into_iter().eq(0..100)),
            );
            let ticks = Rc::new(Cell::new(0));
            let counted = ticks.clone();
            let ticking = spawn(move || {
                loop {
                    counted.set(counted.get() + 1);
                    sleep(Duration::from_millis(1));
                }
            });
            let (thread, greenlet) = match to_greenlets {
                true => (thread::spawn(send), spawn(receive)),
                false => (thread::spawn(receive), spawn(send)),
            };
            greenlet.join().unwrap();
            thread.join().unwrap();
            let _ = ticking.kill();
            assert!(ticks.get() > 0);
        }
    });
}

#[test]
fn a_receiver_with_a_timeout_ends_by_either() {
    in_time(|| {
        let (sender, receiver) = mpsc::channel();
        let late = Rc::new(Cell::new(false));
        let told = late.clone();
        let greenlet = spawn(move || {
            assert_eq!(receiver.recv_timeout(MOMENT), Err(RecvTimeoutError::Timeout));
            told.set(true);
            assert_eq!(receiver.recv_timeout(FOREVER), Ok(3));
        });
        until(|| late.get());
        sender.send(3).unwrap();
        greenlet.join().unwrap();
    });
}

#[test]
fn a_receiver_hears_that_a_greenlet_of_its_thread_has_hung_up() {
    in_time(|| {
        let (sender, receiver) = mpsc::channel::<()>();
        let greenlet = spawn(move || assert!(receiver.recv().is_err()));
        spawn(move || drop(sender));
        greenlet.join().unwrap();
    });
}

#[test]
fn a_parked_thread_is_one_greenlet_if_only_one_parks() {
    in_time(|| {
        let me = thread::current();
        let told = Arc::new(AtomicBool::new(false));
        // By a greenlet of the thread itself.
        let (this, flag) = (me.clone(), told.clone());
        spawn(move || {
            sleep(MOMENT);
            flag.store(true, Ordering::SeqCst);
            this.unpark();
        });
        while !told.load(Ordering::SeqCst) {
            thread::park();
        }
        // By another thread.
        told.store(false, Ordering::SeqCst);
        let flag = told.clone();
        let unparking = thread::spawn(move || {
            thread::sleep(MOMENT);
            flag.store(true, Ordering::SeqCst);
            me.unpark();
        });
        while !told.load(Ordering::SeqCst) {
            thread::park();
        }
        unparking.join().unwrap();
        // What came before is not lost.
        thread::current().unpark();
        thread::park();
        let begin = Instant::now();
        thread::park_timeout(MOMENT);
        assert!(begin.elapsed() >= MOMENT);
    });
}

#[test]
fn many_parked_greenlets_of_a_thread_are_all_unparked_in_the_end() {
    in_time(|| {
        const PARKED: usize = 50;
        const ROUNDS: u64 = 30;
        let rounds: Arc<Vec<AtomicU64>> = Arc::new((0..PARKED).map(|_| AtomicU64::new(0)).collect());
        let acks: Arc<Vec<AtomicU64>> = Arc::new((0..PARKED).map(|_| AtomicU64::new(0)).collect());
        let me = thread::current();
        let greenlets: Vec<_> = (0..PARKED)
            .map(|number| {
                let (rounds, acks) = (rounds.clone(), acks.clone());
                spawn(move || {
                    for round in 1..=ROUNDS {
                        while rounds[number].load(Ordering::SeqCst) < round {
                            match number % 2 {
                                0 => thread::park(),
                                _ => thread::park_timeout(FOREVER),
                            }
                        }
                        acks[number].store(round, Ordering::SeqCst);
                    }
                })
            })
            .collect();
        let threads: Vec<_> = (0..2)
            .map(|half| {
                let (rounds, acks, me) = (rounds.clone(), acks.clone(), me.clone());
                thread::spawn(move || {
                    for round in 1..=ROUNDS {
                        for number in (half..PARKED).step_by(2) {
                            rounds[number].store(round, Ordering::SeqCst);
                            me.unpark();
                        }
                        for number in (half..PARKED).step_by(2) {
                            while acks[number].load(Ordering::SeqCst) < round {
                                thread::yield_now();
                            }
                        }
                    }
                })
            })
            .collect();
        all(greenlets);
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    });
}

#[test]
fn a_thread_of_a_scope_is_waited_for_by_the_greenlet_alone() {
    in_time(|| {
        let done = Arc::new(AtomicBool::new(false));
        let seen = done.clone();
        let greenlet = spawn(move || {
            thread::scope(|scope| {
                scope.spawn(|| eventually(PATIENCE, || seen.load(Ordering::SeqCst)));
            });
        });
        // Runs only if the wait for the scope's end does not block.
        let ending = spawn(move || {
            sleep(MOMENT);
            done.store(true, Ordering::SeqCst);
        });
        all([greenlet, ending]);
    });
}

#[test]
fn a_killed_greenlet_gets_its_lock_and_then_the_kill() {
    in_time(|| {
        let mutex = Rc::new(Mutex::new(()));
        let guard = mutex.lock().unwrap();
        let (got, after) = (Rc::new(Cell::new(false)), Rc::new(Cell::new(false)));
        let (other, first, second) = (mutex.clone(), got.clone(), after.clone());
        let greenlet = spawn(move || {
            let guard = other.lock().unwrap();
            first.set(true);
            drop(guard);
            yield_now();
            second.set(true);
        });
        yield_now();
        let killer = {
            let greenlet = greenlet.clone();
            spawn(move || greenlet.kill())
        };
        sleep(MOMENT);
        assert!(!got.get(), "the mutex is held");
        drop(guard);
        let _ = join_all(&[greenlet], None);
        let _ = killer.join().unwrap();
        assert!(got.get() && !after.get());
        assert!(!mutex.is_poisoned() && mutex.try_lock().is_ok());
    });
}

#[test]
fn two_greenlets_write_to_standard_output_at_once() {
    in_time(|| {
        let greenlets: Vec<_> = (0..2)
            .map(|number| {
                spawn(move || {
                    for _ in 0..3 {
                        let mut out = std::io::stdout().lock();
                        write!(out, "").unwrap();
                        sleep(Duration::from_millis(1));
                        write!(out, "").unwrap();
                        drop(out);
                        print!("{}", if number > 5 { "never" } else { "" });
                    }
                })
            })
            .collect();
        all(greenlets);
    });
}

/// What they all do to each other.
#[derive(Default)]
struct Shared {
    counter: Mutex<u64>,
    table: RwLock<[u64; 2]>,
    queue: Mutex<VecDeque<u64>>,
    more: Condvar,
    popped: AtomicU64,
}

impl Shared {
    fn work(&self, seed: u64, rounds: u64, may_yield: bool) {
        let mut state = seed | 1;
        for _ in 0..rounds {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            let pause = |one_in: u64| {
                if may_yield && state.is_multiple_of(one_in) {
                    yield_now();
                }
            };
            {
                let mut counter = self.counter.lock().unwrap();
                let before = *counter;
                pause(3);
                *counter = before + 1;
            }
            if state & 8 == 0 {
                let mut table = self.table.write().unwrap();
                table[0] += 1;
                pause(5);
                table[1] += 1;
            } else {
                let table = self.table.read().unwrap();
                pause(7);
                assert_eq!(table[0], table[1]);
            }
            self.queue.lock().unwrap().push_back(1);
            self.more.notify_one();
            let mut queue = self.queue.lock().unwrap();
            let value = loop {
                match queue.pop_front() {
                    Some(value) => break value,
                    None if state & 16 == 0 => queue = self.more.wait(queue).unwrap(),
                    None => queue = self.more.wait_timeout(queue, Duration::from_millis(2)).unwrap().0,
                }
            };
            drop(queue);
            self.popped.fetch_add(value, Ordering::SeqCst);
        }
    }
}

#[test]
fn greenlets_of_two_threads_and_plain_threads_share_locks() {
    const GREENLETS: u64 = 20;
    const ROUNDS: u64 = 150;
    in_time(|| {
        let shared = Arc::new(Shared::default());
        let threads: Vec<_> = (0..4_u64)
            .map(|number| {
                let shared = shared.clone();
                thread::spawn(move || match number {
                    0 | 1 => all((0..GREENLETS).map(|greenlet| {
                        let shared = shared.clone();
                        spawn(move || shared.work(0x9E37_79B9 * (greenlet + 100 * number + 1), ROUNDS, true))
                    })),
                    _ => shared.work(0x1234_5677 * (number + 1), GREENLETS * ROUNDS, false),
                })
            })
            .collect();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        assert_eq!(*shared.counter.lock().unwrap(), 4 * GREENLETS * ROUNDS);
        assert_eq!(shared.popped.load(Ordering::SeqCst), 4 * GREENLETS * ROUNDS);
        assert!(shared.queue.lock().unwrap().is_empty());
    });
}

#[test]
fn what_waits_on_a_thread_that_exits_is_forgotten() {
    in_time(|| {
        let pair = Arc::new((Mutex::new(false), Condvar::new()));
        let other = pair.clone();
        thread::spawn(move || {
            for _ in 0..10 {
                let pair = other.clone();
                spawn(move || drop(pair.1.wait(pair.0.lock().unwrap())));
            }
            yield_now();
        })
        .join()
        .unwrap();
        let other = pair.clone();
        let waiting = spawn(move || {
            let mut told = other.0.lock().unwrap();
            while !*told {
                told = other.1.wait(told).unwrap();
            }
        });
        yield_now();
        *pair.0.lock().unwrap() = true;
        pair.1.notify_one();
        waiting.join().unwrap();
    });
}

#[test]
fn greenlets_of_one_thread_send_to_each_other() {
    in_time(|| {
        const ROUNDS: usize = 200;
        let (ask, questions) = mpsc::channel();
        let answering: Vec<_> = {
            let questions = Arc::new(Mutex::new(questions));
            (0..3)
                .map(|_| {
                    let questions = questions.clone();
                    spawn(move || {
                        loop {
                            // The lock is held while it waits, as pools of workers do.
                            let next = questions.lock().unwrap().recv();
                            let Ok((number, answer)) = next else { break };
                            let answer: mpsc::SyncSender<usize> = answer;
                            answer.send(number + 1).unwrap();
                        }
                    })
                })
                .collect()
        };
        let asking = (0..10).map(|capacity| {
            let ask = ask.clone();
            spawn(move || {
                let (answer, answers) = mpsc::sync_channel(capacity % 3);
                for number in 0..ROUNDS {
                    ask.send((number, answer.clone())).unwrap();
                    assert_eq!(answers.recv(), Ok(number + 1));
                }
            })
        });
        all(asking);
        drop(ask);
        all(answering);
    });
}

#[test]
fn a_channel_hands_over_between_greenlets_of_one_thread_in_either_order() {
    in_time(|| {
        for (capacity, first) in [(0, true), (0, false), (1, true), (1, false)] {
            let (sender, receiver) = mpsc::sync_channel(capacity);
            let send = move || (0..100).for_each(|number| sender.send(number).unwrap());
            let receive = move || assert!(receiver.into_iter().eq(0..100));
            all(match first {
                true => [spawn(send), spawn(receive)],
                false => [spawn(receive), spawn(send)],
            });
        }
    });
}
