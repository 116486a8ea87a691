//! Timeouts as scopes: they end any blocking call, nest, know whose they are, and leave nothing behind.

use std::cell::{Cell, RefCell};
use std::io::{Read, Write};
use std::rc::Rc;
use std::time::{Duration, Instant};

use greenlet::sync::Event;
use greenlet::{JoinError, Timeout, WaitError, sleep, spawn, timeout, yield_now};
use greenserve_tests::in_time;

use crate::blocking::{blocking_calls, tcp_pair};
use crate::{DropFlag, FOREVER, SHORT};

/// That no timer and no waiter of this thread is left: main is told at once that nobody can wake it.
#[track_caller]
fn nothing_is_left() {
    assert_eq!(greenlet::stats().timers, 0);
    assert!(matches!(Event::new().wait(), Err(WaitError::LoopExit(_))));
}

#[test]
fn a_timeout_ends_every_blocking_call_of_a_greenlet() {
    in_time(|| {
        for (name, call) in blocking_calls() {
            let job = spawn(move || {
                let (flag, dropped) = DropFlag::new();
                let result = timeout(SHORT, move || {
                    let _flag = flag;
                    call();
                });
                (result.is_err(), dropped.get(), std::thread::panicking())
            });
            assert_eq!(job.join().unwrap(), (true, true, false), "{name}");
        }
    });
}

#[test]
fn a_timeout_ends_every_blocking_call_of_main() {
    in_time(|| {
        for (name, call) in blocking_calls() {
            let (flag, dropped) = DropFlag::new();
            let result = timeout(SHORT, move || {
                let _flag = flag;
                call();
            });
            assert!(result.is_err() && dropped.get(), "{name}");
        }
    });
}

#[test]
fn what_is_done_in_time_is_returned_and_the_timer_goes() {
    in_time(|| {
        assert_eq!(timeout(FOREVER, || 7), Ok(7));
        assert_eq!(timeout(FOREVER, || (sleep(SHORT), "slept").1), Ok("slept"));
        nothing_is_left();
    });
}

#[test]
fn a_timeout_never_ends_early() {
    in_time(|| {
        for millis in [1, 5, 20] {
            let start = Instant::now();
            assert!(timeout(Duration::from_millis(millis), || sleep(FOREVER)).is_err());
            assert!(start.elapsed() >= Duration::from_millis(millis));
        }
    });
}

#[test]
fn an_outer_timeout_passes_through_inner_ones() {
    in_time(|| {
        let inner_saw = Rc::new(Cell::new(false));
        let result = timeout(SHORT, || {
            let inner = timeout(FOREVER, || timeout(FOREVER, || sleep(FOREVER)));
            inner_saw.set(true);
            inner
        });
        assert!(result.is_err());
        assert!(!inner_saw.get(), "the inner scopes took a timeout for theirs that was not");
        nothing_is_left();
    });
}

#[test]
fn an_inner_timeout_is_the_inner_scopes_alone() {
    in_time(|| {
        let result = timeout(FOREVER, || {
            let inner = timeout(SHORT, || sleep(FOREVER));
            sleep(SHORT);
            inner.is_err()
        });
        assert_eq!(result, Ok(true));
        nothing_is_left();
    });
}

#[test]
fn two_timeouts_over_at_once_end_both_scopes_the_inner_one_first_or_not_at_all() {
    in_time(|| {
        for _ in 0..20 {
            let same = Duration::from_millis(2);
            let inner_ended = Cell::new(false);
            let result = timeout(same, || {
                let inner = timeout(same, || {
                    sleep(FOREVER);
                });
                inner_ended.set(inner.is_err());
                sleep(FOREVER);
            });
            assert!(result.is_err(), "the outer scope ends whatever the inner one did");
        }
        nothing_is_left();
    });
}

#[test]
fn a_timeout_that_is_over_while_its_code_computes_is_raised_at_the_next_wait() {
    in_time(|| {
        let result = timeout(Duration::from_millis(1), || {
            let start = Instant::now();
            while start.elapsed() < SHORT {}
            // the hub has not run meanwhile, so it learns of it here
            sleep(FOREVER);
        });
        assert!(result.is_err());
        let too_late_to_matter = timeout(Duration::from_millis(1), || {
            let start = Instant::now();
            while start.elapsed() < SHORT {}
            5
        });
        assert_eq!(too_late_to_matter, Ok(5), "work that never waits is never interrupted");
        sleep(SHORT);
        nothing_is_left();
    });
}

#[test]
fn a_timeout_belongs_to_the_greenlet_that_made_it() {
    in_time(|| {
        let victim = spawn(|| timeout(SHORT, || sleep(FOREVER)).is_err());
        let bystander = spawn(|| (sleep(SHORT * 3), true).1);
        assert!(victim.join().unwrap() && bystander.join().unwrap());
    });
}

#[test]
fn a_kill_passes_through_a_timeout() {
    in_time(|| {
        let after = Rc::new(Cell::new(false));
        let victim = spawn({
            let after = Rc::clone(&after);
            move || {
                let _ = timeout(FOREVER, || sleep(FOREVER));
                after.set(true);
            }
        });
        sleep(SHORT);
        victim.kill().unwrap();
        assert!(!after.get());
        assert!(matches!(victim.join(), Err(JoinError::Killed)));
        nothing_is_left();
    });
}

#[test]
fn a_panic_passes_through_a_timeout() {
    in_time(|| {
        let job = spawn(|| {
            let _ = timeout(FOREVER, || panic!("inside"));
        });
        assert!(matches!(job.join(), Err(JoinError::Panicked(panic)) if panic.message() == "inside"));
        nothing_is_left();
    });
}

#[test]
fn catch_panic_lets_a_timeout_pass() {
    in_time(|| {
        let result = timeout(SHORT, || {
            loop {
                let _ = greenlet::catch_panic(|| sleep(FOREVER));
            }
        });
        assert!(result.is_err());
    });
}

#[test]
fn waits_with_a_deadline_leave_no_waiter_and_no_timer() {
    in_time(|| {
        let event = Event::new();
        assert_eq!(event.wait_timeout(Duration::from_millis(1)), Err(WaitError::TimedOut));
        assert!(format!("{event:?}").contains("waiting: 0"), "{event:?}");
        event.set();
        assert_eq!(event.wait_timeout(FOREVER), Ok(()));
        let event = Rc::new(Event::new());
        let setter = spawn({
            let event = Rc::clone(&event);
            move || event.set()
        });
        assert_eq!(event.wait_timeout(FOREVER), Ok(()));
        setter.join_timeout(FOREVER).unwrap();
        nothing_is_left();
    });
}

#[test]
fn a_wait_that_lasts_longer_than_time_itself_is_a_wait_without_end() {
    in_time(|| {
        let event = Rc::new(Event::new());
        let setter = spawn({
            let event = Rc::clone(&event);
            move || event.set()
        });
        assert_eq!(event.wait_timeout(Duration::MAX), Ok(()));
        setter.join().unwrap();
        assert_eq!(timeout(Duration::MAX, || 1), Ok(1));
        let sleeper = spawn(|| sleep(Duration::MAX));
        yield_now();
        sleeper.kill().unwrap();
        nothing_is_left();
    });
}

#[test]
fn thousands_of_timeouts_in_a_row_and_at_once_are_all_told_apart() {
    in_time(|| {
        let jobs: Vec<_> = (0..1000u64)
            .map(|n| {
                spawn(move || {
                    let quick = n % 2 == 0;
                    let (limit, work) =
                        if quick { (SHORT * 100, SHORT / 10) } else { (SHORT / 10, SHORT * 100) };
                    timeout(limit, || sleep(work)).is_ok() == quick
                })
            })
            .collect();
        let wrong = RefCell::new(0);
        for job in jobs {
            *wrong.borrow_mut() += usize::from(!job.join().unwrap());
        }
        // those whose work was due before their limit may still be late on a busy machine
        assert_eq!(*wrong.borrow(), 0);
        nothing_is_left();
    });
}

#[test]
fn a_timeout_loses_nothing_of_what_a_read_has_taken() {
    const COUNT: usize = 20_000;
    in_time(|| {
        let (mut sending, reading) = tcp_pair();
        let content: Vec<u8> = (0..COUNT).map(|n| (n % 251) as u8).collect();
        let expected = content.clone();
        let sender = spawn(move || sending.write_all(&content));
        let got = RefCell::new(Vec::new());
        while got.borrow().len() < COUNT {
            // so short that it is over somewhere in the midst of reads that need not wait
            let _ = timeout(Duration::from_micros(50), || {
                while got.borrow().len() < COUNT {
                    let mut byte = [0];
                    assert_eq!((&reading).read(&mut byte).unwrap(), 1);
                    got.borrow_mut().push(byte[0]);
                }
            });
        }
        sender.join().unwrap().unwrap();
        assert!(*got.borrow() == expected, "bytes were lost or came twice");
    });
}

#[test]
fn one_timeout_binds_several_steps_and_stays_over() {
    let bound = Timeout::after(Duration::from_millis(5));
    assert_eq!(bound.run(|| 7), Ok(7));
    assert!(bound.run(|| sleep(FOREVER)).is_err());
    assert!(bound.is_over());
    let mut ran = false;
    assert!(bound.run(|| ran = true).is_err());
    assert!(!ran);
    // It was told: what blocks from here on is let be.
    sleep(Duration::from_millis(1));
    drop(bound);
    assert_eq!(greenlet::stats().timers, 0);
}

#[test]
fn a_timeout_that_is_found_over_before_its_timer_fires_raises_nothing_later() {
    let bound = Timeout::after(Duration::ZERO);
    assert!(bound.run(|| unreachable!("it is over")).is_err());
    sleep(Duration::from_millis(2));
    assert_eq!(greenlet::stats().timers, 0);
}

#[test]
fn a_timeout_at_a_past_moment_is_over_and_one_that_never_ends_is_not() {
    assert!(Timeout::at(greenlet::now()).is_over());
    let never = Timeout::never();
    assert_eq!((never.is_over(), never.remaining()), (false, None));
    assert_eq!(greenlet::stats().timers, 0);
    let far = Timeout::at(greenlet::now() + FOREVER);
    assert!(far.remaining().is_some_and(|left| left <= FOREVER && left > FOREVER / 2));
}

#[test]
fn a_guard_that_nobody_runs_ends_its_greenlet() {
    let greenlet = spawn(|| {
        let _bound = Timeout::after(Duration::from_millis(1));
        sleep(FOREVER);
    });
    assert!(matches!(greenlet.join(), Err(JoinError::Elapsed)));
    assert!(!greenlet.is_successful());
}

#[test]
fn a_guard_that_is_dropped_in_time_does_nothing() {
    let greenlet = spawn(|| {
        drop(Timeout::after(Duration::from_millis(1)));
        sleep(Duration::from_millis(5));
        7
    });
    assert_eq!(greenlet.join().unwrap(), 7);
}

#[test]
fn the_end_of_an_outer_timeout_passes_through_the_run_of_an_inner() {
    let outer = Timeout::after(Duration::from_millis(1));
    let result = outer.run(|| {
        let inner = Timeout::after(FOREVER);
        let result = inner.run(|| sleep(FOREVER));
        unreachable!("the inner one returned {result:?}")
    });
    assert!(result.is_err());
}

#[test]
fn a_timeout_of_one_greenlet_cannot_be_run_in_another() {
    let bound = Timeout::after(FOREVER);
    let thief = spawn(move || bound.run(|| ()).is_ok());
    let error = thief.join().unwrap_err().to_string();
    assert!(error.contains("was run in another greenlet"), "{error}");
    assert_eq!(greenlet::stats().timers, 0);
}

#[test]
fn a_timeout_that_is_ended_early_unwinds_what_it_bounds_and_stays_over() {
    let bound = Timeout::after(FOREVER);
    let (ender, dropped) = (bound.ender(), Rc::new(Cell::new(false)));
    let again = ender.clone();
    spawn(move || ender.end());
    let told = dropped.clone();
    let result = bound.run(move || {
        struct Told(Rc<Cell<bool>>);
        impl Drop for Told {
            fn drop(&mut self) {
                self.0.set(true);
            }
        }
        let _told = Told(told);
        sleep(FOREVER);
    });
    assert!(result.is_err() && dropped.get());
    assert!(bound.is_over() && bound.run(|| ()).is_err());
    again.end();
    drop(bound);
    again.end();
    sleep(SHORT);
    nothing_is_left();
}

#[test]
fn a_timeout_that_is_ended_before_its_block_and_one_that_is_ended_after_it_harm_nobody() {
    let early = Timeout::never();
    early.ender().end();
    let mut ran = false;
    assert!(early.run(|| ran = true).is_err() && !ran);
    sleep(SHORT);
    drop(early);
    let late = Timeout::never();
    let ender = late.ender();
    assert_eq!(late.run(|| 7), Ok(7));
    drop(late);
    ender.end();
    sleep(SHORT);
}

#[test]
fn ending_an_outer_timeout_passes_through_an_inner_one() {
    let outer = Timeout::never();
    let ender = outer.ender();
    spawn(move || ender.end());
    let inner = Timeout::after(FOREVER);
    let result = outer.run(|| inner.run(|| sleep(FOREVER)));
    assert!(result.is_err());
    assert!(!inner.is_over() && inner.run(|| 7) == Ok(7));
}
