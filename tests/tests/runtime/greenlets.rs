//! Spawning, joining, values and panics.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use greenlet::{Builder, JoinError, WaitError, join_all, kill_all, sleep, spawn, spawn_later, yield_now};
use greenserve_tests::in_time;

use crate::{DropFlag, FOREVER, SHORT};

#[test]
fn join_gives_the_value_once() {
    in_time(|| {
        let job = spawn(|| "value".to_owned());
        assert_eq!(job.join().unwrap(), "value");
        assert!(matches!(job.join(), Err(JoinError::Taken)));
        assert!(job.is_dead());
    });
}

#[test]
fn a_greenlet_starts_when_its_parent_blocks_and_not_before() {
    in_time(|| {
        let order = Rc::new(RefCell::new(Vec::new()));
        let job = spawn({
            let order = Rc::clone(&order);
            move || order.borrow_mut().push("child")
        });
        order.borrow_mut().push("parent");
        job.join().unwrap();
        assert_eq!(*order.borrow(), ["parent", "child"]);
    });
}

#[test]
fn greenlets_run_in_the_order_in_which_they_were_spawned_and_take_turns() {
    in_time(|| {
        let order = Rc::new(RefCell::new(Vec::new()));
        let jobs: Vec<_> = (0..3)
            .map(|n| {
                let order = Rc::clone(&order);
                spawn(move || {
                    for turn in 0..2 {
                        order.borrow_mut().push((turn, n));
                        yield_now();
                    }
                })
            })
            .collect();
        join_all(&jobs, None).unwrap();
        assert_eq!(*order.borrow(), [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2)]);
    });
}

#[test]
fn value_shows_what_a_greenlet_has_returned_without_waiting() {
    in_time(|| {
        let job = spawn(|| 7);
        assert!(job.value().is_none(), "it has not run yet");
        join_all(std::slice::from_ref(&job), None).unwrap();
        assert_eq!(job.value().as_deref(), Some(&7));
        assert_eq!(job.join().unwrap(), 7, "looking at it did not take it");
        assert!(job.value().is_none());
    });
}

#[test]
fn a_dropped_handle_leaves_its_greenlet_running() {
    in_time(|| {
        let (flag, dropped) = DropFlag::new();
        drop(spawn(move || {
            sleep(SHORT);
            drop(flag);
        }));
        while !dropped.get() {
            yield_now();
        }
    });
}

#[test]
fn a_value_nobody_asks_for_is_dropped_when_its_greenlet_ends() {
    in_time(|| {
        let (flag, dropped) = DropFlag::new();
        drop(spawn(move || flag));
        while !dropped.get() {
            yield_now();
        }
    });
}

#[test]
fn a_panic_reaches_the_one_who_joins_with_message_place_and_name() {
    in_time(|| {
        let job = Builder::new().name("unlucky").spawn(|| -> u32 { panic!("number {}", 13) }).unwrap();
        let Err(JoinError::Panicked(panic)) = job.join() else { panic!("expected a panic") };
        assert_eq!(panic.message(), "number 13");
        assert_eq!(panic.greenlet(), "unlucky");
        assert!(
            panic.location().is_some_and(|place| place.contains("greenlets.rs")),
            "{:?}",
            panic.location()
        );
        let text = panic.to_string();
        assert!(
            text.contains("unlucky") && text.contains("number 13") && text.contains("greenlets.rs"),
            "{text}"
        );
    });
}

#[test]
fn a_failed_join_can_travel_on_as_any_error_can() {
    fn fails() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        spawn(|| panic!("on its way")).join()?;
        Ok(())
    }
    in_time(|| {
        assert!(fails().unwrap_err().to_string().contains("on its way"));
        let error = std::io::Error::other(spawn(|| panic!("as io")).join().unwrap_err());
        assert!(error.to_string().contains("as io"));
    });
}

#[test]
fn a_panic_stays_in_its_greenlet() {
    in_time(|| {
        let others: Vec<_> = (0..10).map(|n| spawn(move || (sleep(SHORT), n).1)).collect();
        let failing: Vec<_> = (0..10)
            .map(|n| {
                spawn(move || {
                    if n % 2 == 0 {
                        panic!("even")
                    }
                })
            })
            .collect();
        for (n, job) in failing.iter().enumerate() {
            assert_eq!(matches!(job.join(), Err(JoinError::Panicked(_))), n % 2 == 0);
        }
        for (n, job) in others.iter().enumerate() {
            assert_eq!(job.join().unwrap(), n);
        }
        assert!(!std::thread::panicking());
    });
}

#[test]
fn catch_panic_gives_the_panic_and_the_greenlet_goes_on() {
    in_time(|| {
        let job = spawn(|| {
            let caught = greenlet::catch_panic(|| -> () { panic!("first") });
            sleep(Duration::from_millis(1));
            caught.unwrap_err().message().to_owned()
        });
        assert_eq!(job.join().unwrap(), "first");
    });
}

#[test]
fn a_greenlet_that_ends_wakes_all_who_join_it() {
    in_time(|| {
        let slow = Rc::new(spawn(|| sleep(SHORT)));
        let waiting: Vec<_> = (0..5)
            .map(|_| {
                let slow = Rc::clone(&slow);
                spawn(move || slow.join().is_ok())
            })
            .collect();
        join_all(&waiting, None).unwrap();
        let took: usize = waiting.iter().filter(|job| job.join().unwrap()).count();
        assert_eq!(took, 1, "one has the value, the others learn that it is taken");
    });
}

#[test]
fn a_join_with_a_deadline_gives_up_and_leaves_the_greenlet_alone() {
    in_time(|| {
        let job = spawn(|| (sleep(SHORT), 5).1);
        assert!(matches!(
            job.join_timeout(Duration::from_micros(1)),
            Err(JoinError::Wait(WaitError::TimedOut))
        ));
        assert!(!job.is_dead());
        assert_eq!(job.join_timeout(FOREVER).unwrap(), 5);
    });
}

#[test]
fn join_all_gives_up_at_its_deadline_and_then_can_go_on() {
    in_time(|| {
        let jobs = [spawn(|| sleep(SHORT)), spawn(|| sleep(FOREVER))];
        assert_eq!(join_all(&jobs, SHORT * 3), Err(WaitError::TimedOut));
        assert!(jobs[0].is_dead() && !jobs[1].is_dead());
        kill_all(&jobs, None).unwrap();
        assert_eq!(join_all(&jobs, None), Ok(()));
    });
}

#[test]
fn a_greenlet_spawned_for_later_starts_after_its_time_and_those_before_it_go_first() {
    in_time(|| {
        let start = Instant::now();
        let order = Rc::new(RefCell::new(Vec::new()));
        let spawn_in = |millis: u64| {
            let order = Rc::clone(&order);
            spawn_later(Duration::from_millis(millis), move || {
                order.borrow_mut().push((millis, start.elapsed()))
            })
        };
        let jobs = [spawn_in(30), spawn_in(10), spawn_in(20), spawn_in(0)];
        join_all(&jobs, None).unwrap();
        let order = order.borrow();
        assert_eq!(order.iter().map(|(millis, _)| *millis).collect::<Vec<_>>(), [0, 10, 20, 30]);
        assert!(
            order.iter().all(|(millis, after)| *after >= Duration::from_millis(*millis)),
            "none is early: {order:?}"
        );
    });
}

#[test]
fn sleepers_wake_in_the_order_of_their_times_and_never_early() {
    in_time(|| {
        let order = Rc::new(RefCell::new(Vec::new()));
        let jobs: Vec<_> = [50u64, 10, 40, 20, 30]
            .map(|millis| {
                let order = Rc::clone(&order);
                spawn(move || {
                    let start = Instant::now();
                    sleep(Duration::from_millis(millis));
                    order.borrow_mut().push((millis, start.elapsed()));
                })
            })
            .into();
        join_all(&jobs, None).unwrap();
        let order = order.borrow();
        assert_eq!(order.iter().map(|(millis, _)| *millis).collect::<Vec<_>>(), [10, 20, 30, 40, 50]);
        assert!(order.iter().all(|(millis, slept)| *slept >= Duration::from_millis(*millis)), "{order:?}");
    });
}

#[test]
fn ten_thousand_sleepers_take_the_time_of_a_few() {
    in_time(|| {
        let start = Instant::now();
        sleep(Duration::from_millis(100));
        let one = start.elapsed();
        let jobs: Vec<_> = (0..10_000).map(|_| spawn(|| sleep(Duration::from_millis(100)))).collect();
        join_all(&jobs, None).unwrap();
        assert!(start.elapsed() < one * 100, "one took {one:?}, ten thousand {:?}", start.elapsed());
    });
}

#[test]
fn greenlets_have_names_and_numbers_of_their_own() {
    in_time(|| {
        assert_eq!((greenlet::current().id(), greenlet::current().name()), (0, "main"));
        let seen = |job: greenlet::Greenlet<(u64, String)>| job.join().unwrap();
        let ask = || (greenlet::current().id(), greenlet::current().name().to_owned());
        let (first, name) = seen(spawn(ask));
        assert!(name.contains(&first.to_string()), "{name}");
        let (second, name) = seen(Builder::new().name("worker").spawn(ask).unwrap());
        assert_eq!(name, "worker");
        assert_ne!(first, second);
    });
}

#[test]
fn a_greenlet_may_spawn_and_join_others_to_any_depth() {
    fn depth(n: u32) -> u32 {
        if n == 0 { 0 } else { 1 + spawn(move || depth(n - 1)).join().unwrap() }
    }
    in_time(|| assert_eq!(depth(200), 200));
}

#[test]
fn a_greenlet_that_joins_itself_is_told_and_does_not_hang() {
    in_time(|| {
        let handle = Rc::new(RefCell::new(None::<greenlet::Greenlet<()>>));
        let job = spawn({
            let handle = Rc::clone(&handle);
            move || {
                let own = handle.borrow_mut().take().expect("the handle");
                let _ = own.join();
            }
        });
        handle.borrow_mut().replace(job);
        let waiting = greenlet::sync::Event::new();
        // nobody sets it: main is told who is stuck
        assert!(matches!(waiting.wait(), Err(WaitError::LoopExit(_))));
    });
}

#[test]
fn a_small_stack_of_ones_own_is_enough_for_small_work_and_a_large_one_for_recursion() {
    #[inline(never)]
    fn recurse(n: u32) -> u64 {
        let frame = std::hint::black_box([u64::from(n); 64]);
        if n == 0 { 0 } else { frame[17] + recurse(n - 1) }
    }
    in_time(|| {
        let small = Builder::new().stack_size(64 * 1024).spawn(|| recurse(10)).unwrap();
        assert_eq!(small.join().unwrap(), 55);
        let large = Builder::new().stack_size(8 << 20).spawn(|| recurse(4000)).unwrap();
        assert_eq!(large.join().unwrap(), 4000 * 4001 / 2);
    });
}

#[test]
fn an_impossible_stack_is_an_error_and_no_panic() {
    in_time(|| {
        let error = match Builder::new().stack_size(usize::MAX).spawn(|| ()) {
            Err(error) => error.to_string(),
            Ok(job) => job.join().unwrap_err().to_string(),
        };
        assert!(error.contains("stack"), "{error}");
    });
}

#[test]
fn formatting_panics_and_backtraces_fit_on_the_default_stack() {
    in_time(|| {
        let job = spawn(|| {
            let trace = std::backtrace::Backtrace::force_capture().to_string();
            format!("{:?} {:>40.17e} {trace}", vec![Some("x"); 3], 1.0 / 3.0).len()
        });
        assert!(job.join().unwrap() > 0);
    });
}
