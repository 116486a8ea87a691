//! Values of `ctxlocal` under greenlets: each has its own, and they go with it.

use std::cell::{Cell, RefCell};

use ctxlocal::ctxlocal;
use greenlet::{Builder, JoinError, Locals, join_all, sleep, spawn, yield_now};
use greenserve_tests::in_time;

use crate::{DropFlag, FOREVER, SHORT};

ctxlocal! {
    static USER: RefCell<String> = RefCell::new("nobody".to_owned());
    static HELD: RefCell<Vec<DropFlag>> = RefCell::new(Vec::new());
    static COUNT: Cell<u32> = Cell::new(0);
    copied static REQUEST: RefCell<Vec<u32>> = RefCell::new(Vec::new());
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

#[test]
fn a_greenlet_begins_with_nothing_of_its_parents_values_unless_it_is_told_to() {
    in_time(|| {
        COUNT.set(7);
        REQUEST.set(vec![7]);
        assert_eq!(spawn(|| (COUNT.get(), REQUEST.take())).join().unwrap(), (0, vec![]));
        let fresh = Builder::new().locals(Locals::Fresh).spawn(|| (COUNT.get(), REQUEST.take())).unwrap();
        assert_eq!(fresh.join().unwrap(), (0, vec![]));
    });
}

#[test]
fn a_greenlet_that_shares_values_with_its_parent_sees_what_that_does_to_them_and_the_other_way_round() {
    in_time(|| {
        COUNT.set(1);
        let child = Builder::new()
            .locals(Locals::Shared)
            .spawn(|| {
                let before = COUNT.replace(2);
                yield_now();
                (before, COUNT.get())
            })
            .unwrap();
        yield_now();
        assert_eq!(COUNT.replace(3), 2);
        assert_eq!(child.join().unwrap(), (1, 3));
    });
}

#[test]
fn shared_values_live_until_the_last_greenlet_that_shares_them_has_ended() {
    in_time(|| {
        let (flag, dropped) = DropFlag::new();
        let child = spawn(move || {
            HELD.with_borrow_mut(|held| held.push(flag));
            Builder::new().locals(Locals::Shared).spawn(|| sleep(FOREVER)).unwrap()
        })
        .join()
        .unwrap();
        yield_now();
        assert!(!dropped.get(), "one has ended, the other has not");
        child.kill().unwrap();
        assert!(dropped.get());

        let (flag, dropped) = DropFlag::new();
        let unstarted = spawn(move || {
            HELD.with_borrow_mut(|held| held.push(flag));
            Builder::new().locals(Locals::Shared).spawn(|| unreachable!("killed before it starts")).unwrap()
        });
        unstarted.wait(None).unwrap();
        let unstarted: greenlet::Greenlet<()> = unstarted.join().unwrap();
        unstarted.kill().unwrap();
        assert!(dropped.get(), "although there is still a handle: {unstarted:?}");
    });
}

#[test]
fn a_copy_is_of_the_moment_of_spawning_and_leaves_the_parents_values_alone() {
    in_time(|| {
        REQUEST.set(vec![1]);
        COUNT.set(1);
        let child = Builder::new()
            .locals(Locals::Copied)
            .spawn(|| {
                REQUEST.with_borrow_mut(|request| request.push(2));
                (REQUEST.take(), COUNT.get())
            })
            .unwrap();
        REQUEST.with_borrow_mut(|request| request.push(3));
        assert_eq!(child.join().unwrap(), (vec![1, 2], 0));
        assert_eq!(REQUEST.take(), [1, 3]);
    });
}

#[test]
fn with_value_holds_across_suspensions_and_ends_with_a_kill() {
    in_time(|| {
        let job = spawn(|| {
            COUNT.set(1);
            let inner = greenlet::timeout(SHORT, || COUNT.with_value(Cell::new(2), || sleep(FOREVER)));
            (inner.is_err(), COUNT.get())
        });
        let other = spawn(|| {
            COUNT.with_value(Cell::new(5), || {
                (0..3)
                    .map(|_| {
                        yield_now();
                        COUNT.get()
                    })
                    .sum::<u32>()
            })
        });
        assert_eq!((job.join().unwrap(), other.join().unwrap()), ((true, 1), 15));
    });
}

#[test]
fn the_destructor_of_a_local_value_may_block_and_sees_its_greenlets_other_values() {
    struct Slow(std::rc::Rc<Cell<u32>>);
    impl Drop for Slow {
        fn drop(&mut self) {
            sleep(SHORT);
            self.0.set(COUNT.get());
        }
    }
    ctxlocal! { static SLOW: RefCell<Option<Slow>> = RefCell::new(None); }
    in_time(|| {
        COUNT.set(1);
        let seen = std::rc::Rc::new(Cell::new(0));
        let job = spawn({
            let seen = seen.clone();
            move || {
                COUNT.set(9);
                SLOW.set(Some(Slow(seen)));
            }
        });
        job.join().unwrap();
        assert_eq!((seen.get(), COUNT.get()), (9, 1));
    });
}
