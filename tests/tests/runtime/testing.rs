//! Runs in virtual time and in an order that follows from a seed, and what fails them.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use greenlet::net::{TcpListener, TcpStream, UnixStream};
use greenlet::sync::{Event, Queue, Semaphore};
use greenlet::testing::{self, Sim};
use greenlet::{Builder, JoinError, WaitError, sleep, spawn, spawn_later, timeout, unblock, yield_now};
use greenserve_tests::in_time;

const HOUR: Duration = Duration::from_secs(3600);
const SECOND: Duration = Duration::from_secs(1);

/// What a run that fails says.
fn failure(sim: &Sim, f: impl FnOnce() + Send) -> String {
    let payload = catch_unwind(AssertUnwindSafe(|| sim.run(f))).expect_err("the run fails");
    *payload.downcast::<String>().expect("it says why")
}

#[test]
fn sleeping_takes_no_time_and_exactly_as_long_as_asked_for() {
    in_time(|| {
        testing::run(1, || {
            let jobs: Vec<_> = (1..=100).map(|n| spawn(move || sleep(n * HOUR))).collect();
            greenlet::join_all(&jobs, None).unwrap();
            assert_eq!(testing::elapsed(), 100 * HOUR);
        });
    });
}

#[test]
fn now_is_the_virtual_time_in_a_run_and_the_machines_outside() {
    in_time(|| {
        testing::run(1, || {
            let began = greenlet::now();
            assert_eq!(greenlet::now(), began, "it stands while somebody runs");
            sleep(HOUR);
            assert_eq!(greenlet::now() - began, HOUR);
        });
        let before = Instant::now();
        sleep(Duration::from_millis(1));
        let told = greenlet::now();
        assert!(before <= told && told <= Instant::now());
    });
}

#[test]
fn timers_fire_in_the_order_of_their_deadlines_whatever_the_seed() {
    in_time(|| {
        testing::each_seed(0..20, || {
            let order = Rc::new(RefCell::new(Vec::new()));
            let jobs: Vec<_> = [3, 1, 2]
                .map(|n| {
                    let order = order.clone();
                    spawn(move || {
                        sleep(n * SECOND);
                        order.borrow_mut().push((n, testing::elapsed()));
                    })
                })
                .into();
            greenlet::join_all(&jobs, None).unwrap();
            assert_eq!(*order.borrow(), [1, 2, 3].map(|n| (n, n * SECOND)));
        });
    });
}

/// Which of three that are ready ran when.
fn order_of_three() -> Vec<u32> {
    let order = Rc::new(RefCell::new(Vec::new()));
    let jobs: Vec<_> = (0..3)
        .map(|n| {
            let order = order.clone();
            spawn(move || order.borrow_mut().push(n))
        })
        .collect();
    greenlet::join_all(&jobs, None).unwrap();
    order.take()
}

#[test]
fn the_seed_decides_who_runs_and_all_orders_are_seen() {
    in_time(|| {
        let seen = Mutex::new(BTreeSet::new());
        testing::each_seed(0..200, || _ = seen.lock().unwrap().insert(order_of_three()));
        assert_eq!(seen.into_inner().unwrap().len(), 6);
    });
}

#[test]
fn who_has_become_ready_later_may_run_first() {
    in_time(|| {
        let overtaken = Mutex::new(false);
        testing::each_seed(0..50, || {
            let event = Rc::new(Event::new());
            let order = Rc::new(RefCell::new(Vec::new()));
            let waiter = spawn({
                let (event, order) = (event.clone(), order.clone());
                move || {
                    event.wait().unwrap();
                    order.borrow_mut().push("woken");
                }
            });
            sleep(SECOND);
            let ready_before = spawn({
                let order = order.clone();
                move || order.borrow_mut().push("ready before")
            });
            event.set();
            greenlet::join_all(&[waiter, ready_before], None).unwrap();
            *overtaken.lock().unwrap() |= order.borrow()[0] == "woken";
        });
        assert!(overtaken.into_inner().unwrap());
    });
}

#[test]
fn first_come_first_served_stays_so() {
    in_time(|| {
        testing::each_seed(0..50, || {
            let semaphore = Rc::new(Semaphore::new(1));
            let (came, served) = (Rc::new(RefCell::new(Vec::new())), Rc::new(RefCell::new(Vec::new())));
            let held = semaphore.acquire().unwrap();
            let waiters: Vec<_> = (0..5)
                .map(|n| {
                    let (semaphore, came, served) = (semaphore.clone(), came.clone(), served.clone());
                    spawn(move || {
                        came.borrow_mut().push(n);
                        let _permit = semaphore.acquire().unwrap();
                        served.borrow_mut().push(n);
                    })
                })
                .collect();
            sleep(SECOND);
            drop(held);
            greenlet::join_all(&waiters, None).unwrap();
            assert_eq!(came, served);
        });
    });
}

/// A program with a bit of everything that comes from within.
fn program() -> testing::Trace {
    let queue = Rc::new(Queue::bounded(2));
    let workers: Vec<_> = (0..4)
        .map(|_| {
            let queue = queue.clone();
            spawn(move || {
                while let Ok(n) = queue.get_timeout(HOUR) {
                    sleep(Duration::from_millis(n));
                }
            })
        })
        .collect();
    for _ in 0..30 {
        queue.put(testing::random() % 100).unwrap();
    }
    let (mut near, mut far) = UnixStream::pair().unwrap();
    let echo = spawn(move || {
        let mut byte = [0];
        far.read_exact(&mut byte).unwrap();
        far.write_all(&byte).unwrap();
    });
    near.write_all(b"x").unwrap();
    near.read_exact(&mut [0]).unwrap();
    echo.join().unwrap();
    queue.close();
    greenlet::join_all(&workers, None).unwrap();
    testing::trace()
}

#[test]
fn the_same_seed_gives_the_same_run_and_another_another() {
    in_time(|| {
        let traces: Vec<_> = (0..20).map(|seed| testing::run(seed, program)).collect();
        let again: Vec<_> = (0..20).map(|seed| testing::run(seed, program)).collect();
        assert_eq!(traces, again);
        let hashes: BTreeSet<_> = traces.iter().map(testing::Trace::hash).collect();
        assert_eq!(hashes.len(), 20, "{traces:?}");
        assert!(traces.iter().all(|trace| trace.turns() > 30 && trace.elapsed() > Duration::ZERO));
    });
}

#[test]
fn random_numbers_follow_from_the_seed_and_leave_the_order_alone() {
    in_time(|| {
        let numbers = || [testing::random(), testing::random()];
        assert_eq!(testing::run(3, numbers), testing::run(3, numbers));
        assert_ne!(testing::run(3, numbers), testing::run(4, numbers));
        let orders = [0, 1, 50].map(|taken| {
            testing::run(5, move || {
                (0..taken).for_each(|_| _ = testing::random());
                order_of_three()
            })
        });
        assert!(orders.iter().all(|order| *order == orders[0]), "{orders:?}");
    });
}

#[test]
fn time_stands_while_the_thread_pool_works() {
    in_time(|| {
        testing::run(1, || {
            let sleeper = spawn(|| sleep(SECOND));
            let done = timeout(HOUR, || {
                unblock(|| std::thread::sleep(Duration::from_millis(50)));
                testing::elapsed()
            });
            assert_eq!(done, Ok(Duration::ZERO));
            sleeper.join().unwrap();
        });
    });
}

#[test]
fn time_goes_on_while_descriptors_are_silent() {
    in_time(|| {
        testing::run(1, || {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let address = listener.local_addr().unwrap();
            let client = spawn(move || {
                let mut stream = TcpStream::connect(address).unwrap();
                sleep(HOUR);
                stream.write_all(b"late").unwrap();
                stream
            });
            let (mut server, _) = listener.accept().unwrap();
            let mut bytes = [0; 4];
            assert!(timeout(HOUR / 2, || server.read(&mut bytes)).is_err());
            assert_eq!(testing::elapsed(), HOUR / 2);
            server.read_exact(&mut bytes).unwrap();
            assert_eq!((&bytes, testing::elapsed()), (b"late", HOUR));
            drop(client.join().unwrap());
        });
    });
}

#[test]
fn time_stands_still_for_a_peer_outside_if_it_is_told_to() {
    in_time(|| {
        Sim::new().settle(Duration::MAX).run(|| {
            let (mut ours, theirs) = UnixStream::pair().unwrap();
            let theirs = std::os::unix::net::UnixStream::from(theirs);
            let outside = std::thread::spawn(move || {
                std::thread::sleep(Duration::from_millis(30));
                (&theirs).write_all(b"x").unwrap();
                theirs
            });
            timeout(SECOND, || ours.read_exact(&mut [0])).expect("the timeout never comes").unwrap();
            assert_eq!(testing::elapsed(), Duration::ZERO);
            drop(outside.join().unwrap());
        });
    });
}

#[test]
fn another_thread_can_end_a_wait_that_nothing_else_can() {
    in_time(|| {
        thread_local!(static DONE: Rc<Event> = Rc::new(Event::new()));
        testing::run(1, || {
            let hub = greenlet::HubHandle::current();
            let outside = std::thread::spawn(move || {
                std::thread::sleep(Duration::from_millis(30));
                assert!(hub.spawn(|| DONE.with(|done| done.set())));
            });
            DONE.with(Rc::clone).wait().unwrap();
            outside.join().unwrap();
        });
    });
}

#[test]
fn who_yields_until_the_time_has_come_waits_too() {
    in_time(|| {
        testing::run(1, || {
            let flag = Rc::new(Cell::new(false));
            spawn_later(SECOND, {
                let flag = flag.clone();
                move || flag.set(true)
            });
            let spinner = spawn({
                let flag = flag.clone();
                move || {
                    while !flag.get() {
                        yield_now();
                    }
                    testing::elapsed()
                }
            });
            assert_eq!(spinner.join().unwrap(), SECOND);
        });
    });
}

#[test]
fn a_panic_fails_the_run_and_names_the_seed() {
    in_time(|| {
        let said = failure(&Sim::new().seed(42), || panic!("on purpose"));
        assert!(said.starts_with("on purpose (") && said.contains("GREENLET_SEED=42"), "{said}");
    });
}

#[test]
fn a_deadlock_fails_the_run_and_names_who_is_parked() {
    in_time(|| {
        let said = failure(&Sim::new().seed(9), || {
            let semaphore = Rc::new(Semaphore::new(0));
            let stuck = Builder::new().name("stuck").spawn(move || drop(semaphore.acquire())).unwrap();
            stuck.join().unwrap();
        });
        assert!(said.contains("LoopExit") && said.contains("GREENLET_SEED=9"), "{said}");
        assert!(said.contains("'stuck'") && said.contains("waits for a Semaphore"), "{said}");
    });
}

#[test]
fn a_wait_for_a_descriptor_that_never_ends_is_hopeless_when_patience_is_over() {
    in_time(|| {
        Sim::new().patience(Duration::from_millis(20)).run(|| {
            let (mut near, far) = UnixStream::pair().unwrap();
            let error = near.read(&mut [0]).unwrap_err();
            assert_eq!(error.kind(), std::io::ErrorKind::Deadlock);
            assert!(error.to_string().contains("Sim::patience"), "{error}");
            drop(far);
        });
    });
}

#[test]
fn a_program_that_yields_for_ever_is_hopeless_too() {
    in_time(|| {
        testing::run(1, || {
            let stop = Rc::new(Cell::new(false));
            let spinner = spawn({
                let stop = stop.clone();
                move || {
                    while !stop.get() {
                        yield_now();
                    }
                }
            });
            let Err(JoinError::Wait(WaitError::LoopExit(exit))) = spinner.join() else {
                panic!("expected a LoopExit")
            };
            assert!(exit.to_string().contains("yields in a loop"), "{exit}");
            stop.set(true);
            spinner.join().unwrap();
        });
    });
}

#[test]
fn main_that_yields_for_ever_fails_the_run() {
    in_time(|| {
        let said = failure(&Sim::new().seed(6), || {
            loop {
                yield_now();
            }
        });
        assert!(said.contains("yields in a loop") && said.contains("GREENLET_SEED=6"), "{said}");
    });
}

#[inline(never)]
fn oversleep() {
    sleep(HOUR);
}

#[test]
fn a_greenlet_that_has_not_ended_fails_the_run_and_is_named() {
    in_time(|| {
        let said = failure(&Sim::new().seed(3), || {
            drop(Builder::new().name("sleeper").spawn(oversleep).unwrap());
            drop(Builder::new().name("later").start_after(HOUR).spawn(|| ()).unwrap());
        });
        assert!(said.contains("there is left") && said.contains("GREENLET_SEED=3"), "{said}");
        assert!(said.contains("greenlet 'sleeper' (#1) sleeps, spawned at"), "{said}");
        assert!(said.contains("runtime::testing::oversleep"), "where it stands: {said}");
        assert!(said.contains("greenlet 'later' (#2) waits for the time of its start"), "{said}");
    });
}

#[test]
fn a_descriptor_that_is_still_open_fails_the_run() {
    in_time(|| {
        let said = failure(&Sim::new(), || {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            assert!(timeout(SECOND, || listener.accept()).is_err());
            std::mem::forget(listener);
        });
        assert!(said.contains("descriptor ") && said.contains("that is still open"), "{said}");
    });
}

#[test]
fn a_timer_that_is_left_fails_the_run() {
    in_time(|| {
        let said = failure(&Sim::new(), || std::mem::forget(greenlet::Timeout::after(HOUR)));
        assert!(
            said.contains("timer that ends a timeout scope of '") && said.contains("due in 3600s"),
            "{said}"
        );
    });
}

#[test]
fn who_is_ready_when_the_closure_returns_goes_on_to_its_end() {
    in_time(|| {
        testing::each_seed(0..20, || {
            let queue = Rc::new(Queue::bounded(1));
            let worker = queue.clone();
            spawn(move || while worker.get().is_ok() {});
            for n in 0..5 {
                queue.put(n).unwrap();
            }
            queue.close();
            spawn(|| unblock(|| std::thread::sleep(Duration::from_millis(1))));
        });
    });
}

#[test]
fn a_run_has_values_of_its_own() {
    ctxlocal::ctxlocal! { static N: Cell<u32> = Cell::new(0); }
    thread_local!(static M: Cell<u32> = const { Cell::new(0) });
    in_time(|| {
        N.set(1);
        M.set(1);
        testing::each_seed(0..3, || assert_eq!((N.replace(2), M.replace(2)), (0, 0)));
        assert_eq!((N.get(), M.get()), (1, 1));
    });
}

#[test]
fn the_seed_of_the_environment_has_the_last_word() {
    if std::env::var_os("GREENLET_SEED").is_some() {
        assert_eq!(testing::run(1, testing::seed), 5);
        let seen = Mutex::new(Vec::new());
        testing::each_seed(0..100, || seen.lock().unwrap().push(testing::seed()));
        assert_eq!(*seen.lock().unwrap(), [5]);
        return;
    }
    assert_eq!(testing::run(1, testing::seed), 1);
    let myself = |seed| {
        let name = "testing::the_seed_of_the_environment_has_the_last_word";
        let output = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", name, "--nocapture"])
            .env("GREENLET_SEED", seed)
            .output()
            .unwrap();
        (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (passed, said) = myself("5");
    assert!(passed, "{said}");
    let (passed, said) = myself("five");
    assert!(!passed && said.contains("GREENLET_SEED is \"five\", but must be a number"), "{said}");
}

#[test]
fn what_only_a_run_has_is_refused_outside_one() {
    in_time(|| {
        let payloads = [
            catch_unwind(testing::elapsed).unwrap_err(),
            catch_unwind(testing::trace).unwrap_err(),
            catch_unwind(testing::random).unwrap_err(),
        ];
        for payload in payloads {
            assert!(payload.downcast_ref::<&str>().unwrap().contains("in no run of greenlet::testing"));
        }
    });
}
