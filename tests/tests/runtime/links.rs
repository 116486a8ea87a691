//! Greenlets from not started to dead, and what is linked to their end.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use greenlet::{
    Builder, Greenlet, JoinError, WaitError, get_all, join_all, kill_all, shield, sleep, spawn, yield_now,
};

const LONG: Duration = Duration::from_secs(60);

fn log() -> (Rc<RefCell<Vec<String>>>, impl Fn(&str) + Clone) {
    let lines = Rc::new(RefCell::new(Vec::new()));
    let inner = lines.clone();
    (lines, move |line: &str| inner.borrow_mut().push(line.to_owned()))
}

/// Lets the hub run until nobody is ready any more.
fn settle() {
    (0..10).for_each(|_| yield_now());
}

#[test]
fn a_greenlet_that_is_not_started_does_not_run_and_counts_as_nobody() {
    let before = greenlet::stats().greenlets;
    let greenlet = Greenlet::new(|| 7);
    settle();
    assert!(!greenlet.is_started() && !greenlet.is_dead());
    assert_eq!(greenlet::stats().greenlets, before);
    greenlet.start();
    assert!(greenlet.is_started());
    assert_eq!(greenlet.join().unwrap(), 7);
    assert!(greenlet.is_dead() && greenlet.is_ready() && greenlet.is_successful() && !greenlet.is_started());
}

#[test]
fn starting_twice_starts_once() {
    let runs = Rc::new(Cell::new(0));
    let inner = runs.clone();
    let greenlet = Greenlet::new(move || inner.set(inner.get() + 1));
    greenlet.start();
    greenlet.start();
    greenlet.start_later(Duration::from_millis(1));
    greenlet.join().unwrap();
    greenlet.start();
    settle();
    assert_eq!(runs.get(), 1);
    assert_eq!(greenlet::stats().timers, 0);
}

#[test]
fn a_closure_that_never_starts_is_dropped_with_its_last_handle() {
    let held = Rc::new(());
    let inner = held.clone();
    let greenlet = Greenlet::new(move || drop(inner));
    let other = (*greenlet).clone();
    drop(greenlet);
    drop(other);
    assert_eq!(Rc::strong_count(&held), 1);
}

#[test]
fn one_that_is_killed_before_it_is_started_is_dead_and_stays_so() {
    let greenlet = Greenlet::new(|| unreachable!("it was killed"));
    greenlet.kill().unwrap();
    greenlet.start();
    settle();
    assert!(greenlet.is_dead() && !greenlet.is_successful());
    assert!(matches!(greenlet.join(), Err(JoinError::Killed)));
}

#[test]
fn start_later_leaves_no_timer_when_the_greenlet_is_killed_first() {
    let greenlet = Greenlet::new(|| ());
    greenlet.start_later(LONG);
    assert_eq!(greenlet::stats().timers, 1);
    greenlet.kill().unwrap();
    assert_eq!(greenlet::stats().timers, 0);
}

#[test]
fn the_parent_is_who_spawned_it() {
    let parent = spawn(|| {
        let child = spawn(|| greenlet::current().parent().unwrap().id());
        (greenlet::current().id(), child.join().unwrap())
    });
    let (own, seen) = parent.join().unwrap();
    assert_eq!(own, seen);
    assert_eq!(parent.parent().unwrap(), greenlet::current());
    assert!(greenlet::current().parent().is_none());
}

#[test]
fn links_run_after_the_end_in_the_order_in_which_they_were_made() {
    let (lines, say) = log();
    let greenlet = {
        let say = say.clone();
        spawn(move || say("end"))
    };
    for name in ["one", "two", "three"] {
        let say = say.clone();
        greenlet.link(move |ended| {
            assert!(ended.is_dead());
            say(name);
        });
    }
    settle();
    assert_eq!(*lines.borrow(), ["end", "one", "two", "three"]);
}

#[test]
fn a_link_made_after_the_end_runs_too() {
    let greenlet = spawn(|| 7);
    greenlet.wait(None).unwrap();
    let seen = Rc::new(Cell::new(0));
    let inner = seen.clone();
    greenlet.link(move |ended| inner.set(ended.join().unwrap()));
    settle();
    assert_eq!(seen.get(), 7);
}

#[test]
fn a_link_can_be_taken_back_until_it_runs() {
    let (lines, say) = log();
    let greenlet = spawn(|| ());
    let [first, second] = ["first", "second"].map(|name| {
        let say = say.clone();
        greenlet.link(move |_| say(name))
    });
    assert!(greenlet.unlink(first));
    assert!(!greenlet.unlink(first));
    settle();
    assert!(!greenlet.unlink(second));
    assert_eq!(*lines.borrow(), ["second"]);
}

#[test]
fn link_value_and_link_failure_each_see_only_their_own_end() {
    let (lines, say) = log();
    let jobs = [("value", 0), ("panic", 1), ("kill", 2)].map(|(name, what)| {
        let job = spawn(move || match what {
            0 => (),
            1 => panic!("as the test wants"),
            _ => sleep(LONG),
        });
        let (value, failure) = (say.clone(), say.clone());
        job.link_value(move |_| value(&format!("{name}: value")));
        job.link_failure(move |_| failure(&format!("{name}: failure")));
        job
    });
    yield_now();
    jobs[2].kill().unwrap();
    settle();
    let mut lines = lines.borrow().clone();
    lines.sort();
    assert_eq!(lines, ["kill: failure", "panic: failure", "value: value"]);
    assert_eq!(jobs[1].panic().unwrap().message(), "as the test wants");
}

#[test]
fn a_link_that_panics_does_not_keep_the_next_from_running() {
    let (lines, say) = log();
    let greenlet = spawn(|| ());
    greenlet.link(|_| panic!("as the test wants"));
    greenlet.link(move |_| say("next"));
    settle();
    assert_eq!(*lines.borrow(), ["next"]);
}

#[test]
fn links_of_a_greenlet_that_never_starts_are_dropped_with_it() {
    let held = Rc::new(());
    let greenlet = Greenlet::new(|| ());
    let inner = held.clone();
    greenlet.link(move |_| drop(inner));
    assert_eq!(Rc::strong_count(&held), 2);
    drop(greenlet);
    assert_eq!(Rc::strong_count(&held), 1);
}

#[test]
fn a_shield_defers_a_kill_to_its_end() {
    let (lines, say) = log();
    let greenlet = spawn(move || {
        shield(|| {
            shield(|| sleep(Duration::from_millis(1)));
            say("inner over");
            sleep(Duration::from_millis(5));
            say("outer over");
        });
        say("not reached");
    });
    yield_now();
    greenlet.kill().unwrap();
    assert_eq!(*lines.borrow(), ["inner over", "outer over"]);
    assert!(matches!(greenlet.join(), Err(JoinError::Killed)));
}

#[test]
fn a_kill_of_oneself_in_a_shield_waits_for_its_end() {
    let (lines, say) = log();
    let greenlet = spawn(move || {
        shield(|| {
            greenlet::current().kill_soon();
            say("still here");
        });
        say("not reached");
    });
    assert!(matches!(greenlet.join(), Err(JoinError::Killed)));
    assert_eq!(*lines.borrow(), ["still here"]);
}

#[test]
fn a_kill_gives_up_waiting_for_one_who_is_shielded() {
    let greenlet = spawn(|| shield(|| sleep(LONG)));
    yield_now();
    assert_eq!(greenlet.kill_timeout(Duration::from_millis(1)), Err(WaitError::TimedOut));
    assert!(!greenlet.is_dead());
    assert_eq!(kill_all(&[greenlet], Duration::from_millis(1)), Err(WaitError::TimedOut));
    assert_eq!(greenlet::stats().timers, 1);
}

#[test]
fn greenlets_of_different_types_are_waited_for_together() {
    let (number, text) = (spawn(|| 7), spawn(|| "seven"));
    join_all(&[(*number).clone(), (*text).clone()], LONG).unwrap();
    assert_eq!((number.join().unwrap(), text.join().unwrap()), (7, "seven"));
}

#[test]
fn get_all_gives_the_values_in_order_or_the_first_failure() {
    let jobs = [3, 1, 2].map(|n| {
        spawn(move || {
            sleep(Duration::from_millis(n));
            n
        })
    });
    assert_eq!(get_all(&jobs, LONG).unwrap(), [3, 1, 2]);
    let jobs = [spawn(|| 1), spawn(|| panic!("as the test wants")), spawn(|| 3)];
    assert!(matches!(get_all(&jobs, LONG), Err(JoinError::Panicked(_))));
    assert_eq!(jobs[2].join().unwrap(), 3);
}

#[test]
fn a_builder_builds_without_starting() {
    let greenlet = Builder::new().name("late").build(|| greenlet::current().name().to_owned()).unwrap();
    settle();
    assert!(!greenlet.is_dead());
    greenlet.start();
    assert_eq!(greenlet.join().unwrap(), "late");
}
