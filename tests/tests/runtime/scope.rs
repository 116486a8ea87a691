//! Greenlets that borrow from their parent and never outlive it.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use greenlet::{JoinError, Timeout, catch_panic, scope, sleep, spawn, timeout, yield_now};
use greenserve_tests::in_time;

use crate::{DropFlag, FOREVER, SHORT};

/// Runs a closure when it is dropped.
struct Guard<F: FnMut()>(F);

impl<F: FnMut()> Drop for Guard<F> {
    fn drop(&mut self) {
        self.0();
    }
}

#[test]
fn children_may_borrow_and_change_what_is_the_parents() {
    in_time(|| {
        let words = ["one".to_owned(), "two".to_owned(), "three".to_owned()];
        let mut lengths = vec![0; words.len()];
        let total = Cell::new(0);
        scope(|s| {
            for (word, length) in words.iter().zip(&mut lengths) {
                let total = &total;
                s.spawn(move || {
                    sleep(SHORT);
                    *length = word.len();
                    total.set(total.get() + word.len());
                });
            }
        });
        assert_eq!((lengths, total.get()), (vec![3, 3, 5], 11));
    });
}

#[test]
fn a_scope_returns_only_when_all_its_greenlets_have_ended() {
    in_time(|| {
        let done = Cell::new(0);
        let result = scope(|s| {
            for _ in 0..100 {
                s.spawn(|| {
                    sleep(SHORT);
                    done.set(done.get() + 1);
                });
            }
            assert_eq!(done.get(), 0);
            "returned"
        });
        assert_eq!((result, done.get()), ("returned", 100));
    });
}

#[test]
fn a_child_can_be_joined_and_its_value_may_borrow_too() {
    in_time(|| {
        let text = "hello world".to_owned();
        let word = scope(|s| s.spawn(|| text.split(' ').next().unwrap()).join().unwrap());
        assert_eq!(word, "hello");
    });
}

#[test]
fn children_may_spawn_siblings() {
    in_time(|| {
        let count = Cell::new(0);
        scope(|s| {
            let count = &count;
            s.spawn(move || {
                s.spawn(move || {
                    sleep(SHORT);
                    s.spawn(move || count.set(count.get() + 1));
                    count.set(count.get() + 1);
                });
            });
        });
        assert_eq!(count.get(), 2);
    });
}

#[test]
fn a_child_that_fails_ends_its_siblings_and_the_body_and_is_the_scopes_panic() {
    in_time(|| {
        let log = RefCell::new(Vec::new());
        let result = catch_panic(|| {
            scope(|s| {
                for name in ["one", "two"] {
                    let log = &log;
                    s.spawn(move || {
                        let _note = Guard(|| log.borrow_mut().push(name));
                        sleep(FOREVER);
                    });
                }
                s.spawn(|| {
                    sleep(SHORT);
                    panic!("child");
                });
                let _note = Guard(|| log.borrow_mut().push("body"));
                sleep(FOREVER);
            });
        });
        let panic = result.unwrap_err();
        assert_eq!(panic.message(), "child");
        assert!(panic.location().unwrap().contains("scope.rs"), "the child's own place is told");
        let mut log = log.into_inner();
        log.sort();
        assert_eq!(log, ["body", "one", "two"]);
        assert_eq!((greenlet::stats().greenlets, greenlet::stats().timers), (0, 0));
    });
}

#[test]
fn a_child_that_fails_while_the_scope_waits_for_its_end_ends_the_others() {
    in_time(|| {
        let (flag, dropped) = DropFlag::new();
        let result = catch_panic(|| {
            scope(|s| {
                s.spawn(|| {
                    let _flag = flag;
                    sleep(FOREVER);
                });
                s.spawn(|| {
                    sleep(SHORT);
                    panic!("child");
                });
            });
        });
        assert_eq!(result.unwrap_err().message(), "child");
        assert!(dropped.get());
        // the mark by which the body is left is gone with its scope
        sleep(SHORT);
        assert_eq!(greenlet::stats().greenlets, 0);
    });
}

#[test]
fn of_two_failures_the_first_is_the_scopes() {
    in_time(|| {
        let result = catch_panic(|| {
            scope(|s| {
                s.spawn(|| panic!("first"));
                s.spawn(|| panic!("second"));
            });
        });
        assert_eq!(result.unwrap_err().message(), "first");
    });
}

#[test]
fn a_failure_in_an_inner_scope_reaches_the_outer_ones_greenlet_and_then_the_outer_scope() {
    in_time(|| {
        let (flag, dropped) = DropFlag::new();
        let result = catch_panic(|| {
            scope(|outer| {
                outer.spawn(|| {
                    let _flag = flag;
                    sleep(FOREVER);
                });
                outer.spawn(|| scope(|inner| drop(inner.spawn(|| panic!("innermost")))));
                sleep(FOREVER);
            });
        });
        assert_eq!(result.unwrap_err().message(), "innermost");
        assert!(dropped.get());
        assert_eq!(greenlet::stats().greenlets, 0);
    });
}

#[test]
fn a_child_that_lets_a_timeout_end_it_fails() {
    in_time(|| {
        let result = catch_panic(|| {
            scope(|s| {
                s.spawn(|| {
                    let _bound = Timeout::after(SHORT);
                    sleep(FOREVER);
                });
                sleep(FOREVER);
            });
        });
        assert!(result.unwrap_err().message().contains("ended by a Timeout"));
    });
}

#[test]
fn a_killed_joiner_does_not_take_the_failure_with_it() {
    in_time(|| {
        let result = catch_panic(|| {
            scope(|s| {
                let child = s.spawn(|| {
                    sleep(SHORT * 4);
                    panic!("child");
                });
                let joiner = s.spawn(move || child.join().map(drop).map_err(drop));
                sleep(SHORT);
                joiner.kill().unwrap();
                sleep(FOREVER);
            });
        });
        assert_eq!(result.unwrap_err().message(), "child");
    });
}

#[test]
fn daemons_end_with_the_scope_and_not_before_the_others() {
    in_time(|| {
        let log = RefCell::new(Vec::new());
        scope(|s| {
            s.spawn_daemon(|| {
                let _note = Guard(|| log.borrow_mut().push("daemon"));
                sleep(FOREVER);
            });
            s.spawn(|| {
                sleep(SHORT);
                log.borrow_mut().push("child");
            });
        });
        assert_eq!(log.into_inner(), ["child", "daemon"]);
        assert_eq!(greenlet::stats().greenlets, 0);
    });
}

#[test]
fn what_a_daemon_spawns_is_waited_for() {
    in_time(|| {
        let done = Cell::new(false);
        scope(|s| {
            let done = &done;
            s.spawn_daemon(move || {
                s.spawn(move || {
                    sleep(SHORT);
                    done.set(true);
                });
                sleep(FOREVER);
            });
            yield_now();
        });
        assert!(done.get());
    });
}

#[test]
fn the_panic_of_a_child_that_is_joined_is_the_joiners() {
    in_time(|| {
        let message = scope(|s| match s.spawn(|| panic!("child")).join() {
            Err(JoinError::Panicked(panic)) => panic.message().to_owned(),
            other => panic!("{other:?}"),
        });
        assert_eq!(message, "child");
    });
}

#[test]
fn when_the_parent_panics_its_children_are_killed_first() {
    in_time(|| {
        let (flag, dropped) = DropFlag::new();
        let local = RefCell::new(vec![1]);
        let result = catch_panic(|| {
            scope(|s| {
                s.spawn(|| {
                    let _flag = flag;
                    sleep(FOREVER);
                    local.borrow_mut().push(2);
                });
                yield_now();
                panic!("parent");
            })
        });
        assert_eq!(result.unwrap_err().message(), "parent");
        assert!(dropped.get());
        assert_eq!(*local.borrow(), [1]);
        assert_eq!(greenlet::stats().greenlets, 0);
    });
}

#[test]
fn when_the_parent_is_killed_its_children_end_before_what_they_borrow() {
    in_time(|| {
        let log = Rc::new(RefCell::new(Vec::new()));
        struct Note(Rc<RefCell<Vec<&'static str>>>, &'static str);
        impl Drop for Note {
            fn drop(&mut self) {
                self.0.borrow_mut().push(self.1);
            }
        }
        let parent = spawn({
            let log = Rc::clone(&log);
            move || {
                let borrowed = Note(Rc::clone(&log), "what is borrowed");
                scope(|s| {
                    s.spawn(|| {
                        let _note = Note(Rc::clone(&borrowed.0), "child");
                        sleep(FOREVER);
                    });
                    sleep(FOREVER);
                });
            }
        });
        sleep(SHORT);
        parent.kill().unwrap();
        assert_eq!(*log.borrow(), ["child", "what is borrowed"]);
        assert!(matches!(parent.join(), Err(JoinError::Killed)));
        assert_eq!(greenlet::stats().greenlets, 0);
    });
}

#[test]
fn a_parent_killed_while_it_waits_at_the_end_of_its_scope_dies_only_after_its_children() {
    in_time(|| {
        let finished = Rc::new(Cell::new(false));
        let parent = spawn({
            let finished = Rc::clone(&finished);
            move || {
                let local = Cell::new(0);
                scope(|s| {
                    s.spawn(|| {
                        for n in 0..5 {
                            sleep(SHORT);
                            local.set(n);
                        }
                        finished.set(true);
                    });
                });
                unreachable!("it has been killed");
            }
        });
        sleep(SHORT * 2);
        parent.kill().unwrap();
        assert!(matches!(parent.join(), Err(JoinError::Killed)));
        assert_eq!(greenlet::stats().greenlets, 0);
    });
}

#[test]
fn a_timeout_around_a_scope_ends_its_children() {
    in_time(|| {
        let (flag, dropped) = DropFlag::new();
        let borrowed = Cell::new(1);
        let result = timeout(SHORT, || {
            scope(|s| {
                s.spawn(|| {
                    let _flag = flag;
                    borrowed.set(2);
                    sleep(FOREVER);
                });
                sleep(FOREVER);
            });
        });
        assert!(result.is_err() && dropped.get());
        assert_eq!(borrowed.get(), 2);
        assert_eq!(greenlet::stats().greenlets, 0);
    });
}

#[test]
fn scopes_nest() {
    in_time(|| {
        let sum = Cell::new(0);
        scope(|outer| {
            outer.spawn(|| {
                scope(|inner| {
                    inner.spawn(|| sum.set(sum.get() + 1));
                    inner.spawn(|| sum.set(sum.get() + 10));
                });
                assert_eq!(sum.get() % 100, 11);
                sum.set(sum.get() + 100);
            });
        });
        assert_eq!(sum.get(), 111);
    });
}

#[test]
fn a_child_that_is_killed_does_not_harm_the_scope() {
    in_time(|| {
        scope(|s| {
            let child = s.spawn(|| sleep(FOREVER));
            yield_now();
            child.kill().unwrap();
            assert!(matches!(child.join(), Err(JoinError::Killed)));
        });
    });
}

#[test]
fn a_destructor_that_panics_while_the_scope_kills_does_not_end_the_wait_for_the_others() {
    in_time(|| {
        let ended = Cell::new(0);
        let caught = catch_panic(|| {
            scope(|s| {
                for _ in 0..2 {
                    s.spawn(|| {
                        let _end = Guard(|| ended.set(ended.get() + 1));
                        sleep(FOREVER);
                    });
                }
                yield_now();
                for _ in 0..2 {
                    let unlucky = Guard(|| panic!("in a destructor"));
                    s.spawn(move || drop(unlucky));
                }
                panic!("in the scope");
            })
        });
        assert_eq!((caught.unwrap_err().message(), ended.get()), ("in the scope", 2));
    });
}

#[test]
fn a_timeout_while_the_scope_drops_those_that_never_started_does_not_end_the_wait_for_the_others() {
    in_time(|| {
        let ended = Cell::new(false);
        let caught = catch_panic(|| {
            timeout(SHORT, || {
                scope(|s| {
                    s.spawn(|| {
                        let _end = Guard(|| ended.set(true));
                        sleep(FOREVER);
                    });
                    yield_now();
                    let slow = Guard(|| sleep(5 * SHORT));
                    s.spawn(move || drop(slow));
                    panic!("in the scope");
                })
            })
        });
        assert_eq!((caught.unwrap_err().message(), ended.get()), ("in the scope", true));
    });
}
