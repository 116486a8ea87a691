//! Pools of resources: who gets one, when one is made, and what becomes of those that were held by the unlucky.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use greenlet::sync::Event;
use greenlet::{
    JoinError, Resource, ResourceError, ResourcePool, WaitError, join_all, sleep, spawn, stats, timeout,
    yield_now,
};
use greenserve_tests::in_time;

use crate::{FOREVER, SHORT};

/// A resource with a number; counts how many there are.
struct Conn {
    number: u32,
    alive: Rc<Cell<u32>>,
}

impl Drop for Conn {
    fn drop(&mut self) {
        self.alive.set(self.alive.get() - 1);
    }
}

/// Makes numbered resources.
#[derive(Clone, Default)]
struct Maker {
    made: Rc<Cell<u32>>,
    alive: Rc<Cell<u32>>,
}

impl Maker {
    fn make(&self) -> Conn {
        self.made.set(self.made.get() + 1);
        self.alive.set(self.alive.get() + 1);
        Conn { number: self.made.get(), alive: Rc::clone(&self.alive) }
    }

    fn pool(&self, size: usize) -> ResourcePool<Conn, &'static str> {
        let maker = self.clone();
        ResourcePool::new(size, move || Ok(maker.make()))
    }
}

#[test]
fn resources_are_made_at_need_and_used_again_the_last_used_first() {
    in_time(|| {
        let maker = Maker::default();
        let pool = maker.pool(3);
        assert_eq!((maker.made.get(), pool.in_use(), pool.idle(), pool.size()), (0, 0, 0, 3));
        let (first, second) = (pool.get().unwrap(), pool.get().unwrap());
        assert_eq!((first.number, second.number, pool.in_use(), pool.idle()), (1, 2, 2, 0));
        drop(second);
        drop(first);
        assert_eq!((pool.in_use(), pool.idle()), (0, 2));
        assert_eq!(pool.get().unwrap().number, 1);
        assert_eq!((maker.made.get(), maker.alive.get()), (2, 2));
        drop(pool);
        assert_eq!(maker.alive.get(), 0, "the idle go with the pool");
    });
}

#[test]
fn those_who_wait_are_served_in_the_order_in_which_they_came() {
    in_time(|| {
        let maker = Maker::default();
        let pool = maker.pool(1);
        let held = pool.get().unwrap();
        let order = Rc::new(RefCell::new(Vec::new()));
        let waiters: Vec<_> = (0..4)
            .map(|n| {
                let (pool, order) = (pool.clone(), Rc::clone(&order));
                spawn(move || {
                    let _held = pool.get().map_err(drop).unwrap();
                    order.borrow_mut().push(n);
                    yield_now();
                })
            })
            .collect();
        sleep(SHORT);
        waiters[1].kill().unwrap();
        drop(held);
        assert!(pool.try_get().unwrap().is_none(), "it has been handed to the one who waited longest");
        join_all(&waiters, FOREVER).unwrap();
        assert_eq!((&*order.borrow(), maker.made.get()), (&vec![0, 2, 3], 1));
        assert_eq!((pool.in_use(), pool.idle(), stats().timers), (0, 1, 0));
    });
}

#[test]
fn a_wait_has_a_deadline_and_leaves_nothing_behind() {
    in_time(|| {
        let pool = Maker::default().pool(1);
        let held = pool.get().unwrap();
        assert!(matches!(pool.get_timeout(SHORT), Err(ResourceError::Wait(WaitError::TimedOut))));
        assert!(pool.try_get().unwrap().is_none());
        drop(held);
        assert!(pool.get_timeout(SHORT).is_ok());
        assert_eq!((pool.in_use(), stats().timers), (0, 0));
    });
}

#[test]
fn what_was_held_while_unwinding_is_discarded() {
    in_time(|| {
        let maker = Maker::default();
        let pool = maker.pool(1);
        let hold = |then: fn()| {
            let pool = pool.clone();
            move || {
                let _held = pool.get().map_err(drop).unwrap();
                then();
            }
        };
        let panics = spawn(hold(|| panic!("in the middle of it")));
        assert!(matches!(panics.join(), Err(JoinError::Panicked(_))));
        assert_eq!((pool.in_use(), pool.idle(), maker.alive.get()), (0, 0, 0));
        let parks = spawn(hold(|| sleep(FOREVER)));
        yield_now();
        assert_eq!((pool.in_use(), maker.alive.get()), (1, 1));
        parks.kill().unwrap();
        assert_eq!((pool.in_use(), pool.idle(), maker.alive.get()), (0, 0, 0));
        assert!(timeout(SHORT, hold(|| sleep(FOREVER))).is_err());
        assert_eq!((pool.in_use(), pool.idle(), maker.alive.get()), (0, 0, 0));
    });
}

#[test]
fn one_that_is_handed_over_to_a_greenlet_killed_before_it_runs_goes_on_to_the_next() {
    in_time(|| {
        let pool = Maker::default().pool(1);
        let held = pool.get().unwrap();
        let waiters = [(); 2].map(|()| {
            let pool = pool.clone();
            spawn(move || pool.get().map(|held| held.number).map_err(drop))
        });
        yield_now();
        drop(held);
        waiters[0].kill_soon();
        assert_eq!(waiters[1].join_timeout(FOREVER).unwrap(), Ok(1));
        assert!(matches!(waiters[0].join(), Err(JoinError::Killed)));
        assert_eq!((pool.in_use(), pool.idle()), (0, 1));
    });
}

#[test]
fn one_held_by_a_greenlet_that_never_started_is_returned() {
    in_time(|| {
        let pool = Maker::default().pool(1);
        let held = pool.get().unwrap();
        let holder = spawn(move || drop(held));
        holder.kill().unwrap();
        assert_eq!((pool.in_use(), pool.idle()), (0, 1));
    });
}

#[test]
fn a_broken_one_is_discarded_and_one_can_be_taken_out() {
    in_time(|| {
        let maker = Maker::default();
        let pool = maker.pool(1);
        pool.get().unwrap().discard();
        assert_eq!((pool.in_use(), pool.idle(), maker.alive.get()), (0, 0, 0));
        let mine = Resource::into_inner(pool.get().unwrap());
        assert_eq!((mine.number, pool.in_use(), pool.idle()), (2, 0, 0));
        assert_eq!(pool.get().unwrap().number, 3, "its place is free");
    });
}

#[test]
fn a_constructor_that_fails_panics_or_is_killed_frees_its_place() {
    in_time(|| {
        let (mode, maker) = (Rc::new(Cell::new("fails")), Maker::default());
        let pool = ResourcePool::new(1, {
            let (mode, maker) = (Rc::clone(&mode), maker.clone());
            move || match mode.get() {
                "fails" => Err("no luck"),
                "panics" => panic!("worse luck"),
                "parks" => {
                    sleep(FOREVER);
                    Err("unreachable")
                }
                _ => Ok(maker.make()),
            }
        });
        assert!(matches!(pool.get(), Err(ResourceError::Make("no luck"))));
        mode.set("panics");
        assert!(greenlet::catch_panic(|| pool.get().map(drop)).is_err());
        mode.set("parks");
        let making = spawn({
            let pool = pool.clone();
            move || pool.get().map(drop)
        });
        yield_now();
        assert_eq!(pool.in_use(), 1);
        let next = spawn({
            let pool = pool.clone();
            move || pool.get().map(|held| held.number)
        });
        yield_now();
        mode.set("works");
        making.kill().unwrap();
        assert_eq!(next.join_timeout(FOREVER).unwrap(), Ok(1));
        assert_eq!((pool.in_use(), pool.idle()), (0, 1));
    });
}

#[test]
fn one_that_fails_its_check_is_replaced() {
    in_time(|| {
        let (maker, good) = (Maker::default(), Rc::new(Event::new()));
        let pool = maker.pool(2).check({
            let good = Rc::clone(&good);
            // may park, as one that asks the other side does
            move |conn| (yield_now(), good.is_set() || conn.number > 2).1
        });
        drop([pool.get().unwrap(), pool.get().unwrap()]);
        assert_eq!(pool.idle(), 2);
        assert_eq!(pool.get().unwrap().number, 3, "both were found broken");
        assert_eq!((maker.alive.get(), pool.idle()), (1, 1));
        good.set();
        assert_eq!(pool.get().unwrap().number, 3);
    });
}

#[test]
fn the_long_idle_are_dropped_and_the_others_kept() {
    in_time(|| {
        let maker = Maker::default();
        let pool = maker.pool(2).max_idle(SHORT * 5);
        let (first, second) = (pool.get().unwrap(), pool.get().unwrap());
        drop(first);
        sleep(SHORT * 10);
        drop(second);
        assert_eq!((pool.idle(), maker.alive.get()), (1, 1), "at a return the old one goes");
        sleep(SHORT * 10);
        assert_eq!(pool.get().unwrap().number, 3, "at a get too");
        let kept = maker.pool(1).max_idle(Duration::MAX);
        drop(kept.get().unwrap());
        kept.trim();
        assert_eq!(kept.idle(), 1);
        kept.clear();
        assert_eq!(kept.idle(), 0);
    });
}

#[test]
fn a_destructor_that_panics_frees_the_place() {
    in_time(|| {
        struct Bad;
        impl Drop for Bad {
            fn drop(&mut self) {
                panic!("in the destructor");
            }
        }
        let pool = ResourcePool::<Bad, ()>::new(1, || Ok(Bad));
        let held = pool.get().unwrap();
        assert!(greenlet::catch_panic(|| held.discard()).is_err());
        assert_eq!(pool.in_use(), 0);
        std::mem::forget(pool.get().unwrap().into_inner());
    });
}
