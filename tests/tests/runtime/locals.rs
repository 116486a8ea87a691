//! Values of `ctxlocal` under greenlets: each has its own, and they go with it.

use std::cell::{Cell, RefCell};

use ctxlocal::ctxlocal;
use greenlet::{JoinError, join_all, sleep, spawn, yield_now};
use greenserve_tests::in_time;

use crate::{DropFlag, FOREVER, SHORT};

ctxlocal! {
    static USER: RefCell<String> = RefCell::new("nobody".to_owned());
    static HELD: RefCell<Vec<DropFlag>> = RefCell::new(Vec::new());
    static COUNT: Cell<u32> = Cell::new(0);
}

#[test]
fn each_greenlet_has_values_of_its_own_across_suspensions() {
    in_time(|| {
        let jobs: Vec<_> = (0..50)
            .map(|n| {
                spawn(move || {
                    let fresh = USER.with(|user| user.borrow().clone());
                    USER.with(|user| *user.borrow_mut() = format!("user {n}"));
                    for turn in 0..5 {
                        COUNT.with(|count| count.set(count.get() + turn));
                        if n % 2 == 0 { yield_now() } else { sleep(SHORT / 10) }
                    }
                    let seen = USER.with(|user| user.borrow().clone());
                    fresh == "nobody" && seen == format!("user {n}") && COUNT.with(Cell::get) == 10
                })
            })
            .collect();
        for job in jobs {
            assert!(job.join().unwrap());
        }
    });
}

#[test]
fn main_has_its_own_too() {
    in_time(|| {
        USER.with(|user| *user.borrow_mut() = "main".to_owned());
        spawn(|| USER.with(|user| *user.borrow_mut() = "child".to_owned())).join().unwrap();
        assert_eq!(USER.with(|user| user.borrow().clone()), "main");
    });
}

#[test]
fn values_are_dropped_when_their_greenlet_ends_in_whatever_way() {
    in_time(|| {
        let hold = |flag| HELD.with(|held| held.borrow_mut().push(flag));
        let (flag, dropped) = DropFlag::new();
        spawn(move || hold(flag)).join().unwrap();
        assert!(dropped.get(), "returned");

        let (flag, dropped) = DropFlag::new();
        let failed = spawn(move || {
            hold(flag);
            panic!("on purpose");
        });
        assert!(matches!(failed.join(), Err(JoinError::Panicked(_))));
        assert!(dropped.get(), "panicked");

        let (flag, dropped) = DropFlag::new();
        let killed = spawn(move || {
            hold(flag);
            sleep(FOREVER);
        });
        yield_now();
        assert!(!dropped.get());
        killed.kill().unwrap();
        assert!(dropped.get(), "killed");
    });
}

#[test]
fn a_scope_of_values_is_the_requests_and_not_the_connections() {
    in_time(|| {
        let connection = spawn(|| {
            USER.with(|user| *user.borrow_mut() = "connection".to_owned());
            let seen: Vec<String> = (0..3)
                .map(|n| {
                    ctxlocal::scope(|| {
                        let before = USER.with(|user| user.replace(format!("request {n}")));
                        sleep(SHORT / 10);
                        assert_eq!(USER.with(|user| user.borrow().clone()), format!("request {n}"));
                        before
                    })
                })
                .collect();
            (seen, USER.with(|user| user.borrow().clone()))
        });
        let (seen, after) = connection.join().unwrap();
        assert_eq!(seen, ["nobody", "nobody", "nobody"]);
        assert_eq!(after, "connection");
    });
}

#[test]
fn a_scope_that_is_left_by_a_kill_drops_its_values() {
    in_time(|| {
        let (flag, dropped) = DropFlag::new();
        let job = spawn(move || {
            ctxlocal::scope(|| {
                HELD.with(|held| held.borrow_mut().push(flag));
                sleep(FOREVER);
            });
        });
        yield_now();
        job.kill().unwrap();
        assert!(dropped.get());
        let others: Vec<_> = (0..3).map(|_| spawn(|| HELD.with(|held| held.borrow().len()))).collect();
        join_all(&others, None).unwrap();
        assert!(others.iter().all(|job| job.join().unwrap() == 0));
    });
}
