//! Groups, and what is mapped over groups and pools.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use greenlet::sync::Event;
use greenlet::{
    Greenlet, Group, JoinError, Pool, WaitError, sleep, spawn, stats, testing, timeout, yield_now,
};
use greenserve_tests::in_time;

use crate::{DropFlag, FOREVER, SHORT};

#[test]
fn a_group_forgets_those_that_have_ended_however_they_ended() {
    in_time(|| {
        let group = Group::new();
        let done = group.spawn(|| 7);
        let failed = group.spawn(|| panic!("on purpose"));
        let killed = group.spawn(|| sleep(FOREVER));
        let unstarted = group.spawn(|| ());
        assert_eq!((group.len(), group.greenlets().len()), (4, 4));
        unstarted.kill_soon();
        assert_eq!(group.len(), 3);
        yield_now();
        killed.kill().unwrap();
        group.join(None).unwrap();
        assert!(group.is_empty() && group.greenlets().is_empty());
        assert_eq!(done.join().unwrap(), 7);
        assert!(matches!(failed.join(), Err(JoinError::Panicked(_))));
    });
}

#[test]
fn join_waits_for_those_too_that_are_spawned_meanwhile_and_has_a_deadline() {
    in_time(|| {
        let group = Group::new();
        let late = Rc::new(Cell::new(false));
        group.spawn({
            let (group, late) = (group.clone(), Rc::clone(&late));
            move || {
                sleep(SHORT);
                group.spawn(move || (sleep(SHORT), late.set(true)));
            }
        });
        group.join(FOREVER).unwrap();
        assert!(late.get());
        let stuck = group.spawn(|| sleep(FOREVER));
        assert_eq!(group.join(SHORT), Err(WaitError::TimedOut));
        stuck.kill().unwrap();
    });
}

#[test]
fn join_ok_returns_the_first_panic_once_and_leaves_it_to_its_handle() {
    in_time(|| {
        let (group, pool) = (Group::new(), Pool::new(3));
        let first = group.spawn(|| panic!("the first"));
        group.spawn(|| panic!("the second"));
        group.spawn(|| sleep(SHORT));
        sleep(SHORT / 2);
        match group.join_ok(None) {
            Err(JoinError::Panicked(panic)) => {
                assert_eq!(panic.message(), "the first");
                assert!(panic.location().unwrap().contains("group.rs"));
                assert_eq!(panic.greenlet(), first.name());
            }
            other => panic!("{other:?}"),
        }
        group.join_ok(None).unwrap();
        match first.join() {
            Err(JoinError::Panicked(panic)) => assert!(panic.location().unwrap().contains("group.rs")),
            other => panic!("{other:?}"),
        }
        let stuck = pool.spawn(|| sleep(FOREVER)).unwrap();
        pool.spawn(|| panic!("in the pool")).unwrap();
        let told = pool.join_ok(SHORT);
        assert!(matches!(told, Err(JoinError::Panicked(_))), "told although the time is over");
        assert!(matches!(pool.join_ok(SHORT), Err(JoinError::Wait(WaitError::TimedOut))));
        stuck.kill().unwrap();
        pool.join_ok(None).unwrap();
    });
}

#[test]
fn a_kill_is_no_failure() {
    in_time(|| {
        let group = Group::new();
        group.spawn(|| sleep(FOREVER));
        yield_now();
        group.kill().unwrap();
        group.join_ok(None).unwrap();
    });
}

#[test]
fn kill_reaches_those_too_that_are_spawned_by_the_dying() {
    in_time(|| {
        struct Spawner(Group, Rc<Cell<u32>>);
        impl Drop for Spawner {
            fn drop(&mut self) {
                let born = Rc::clone(&self.1);
                self.0.spawn(move || (born.set(born.get() + 1), sleep(FOREVER)));
            }
        }
        let (group, born) = (Group::new(), Rc::new(Cell::new(0)));
        let spawner = Spawner(group.clone(), Rc::clone(&born));
        group.spawn(move || {
            let _spawner = spawner;
            sleep(FOREVER);
        });
        yield_now();
        group.kill_timeout(FOREVER).unwrap();
        assert!(group.is_empty());
        assert_eq!(stats().greenlets, 0);
    });
}

#[test]
fn a_member_that_kills_its_group_takes_all_others_with_it_and_dies() {
    in_time(|| {
        let group = Group::new();
        let killer = group.spawn({
            let group = group.clone();
            move || {
                yield_now();
                let _ = group.kill();
                unreachable!("it is one of them");
            }
        });
        let others: Vec<_> = (0..3).map(|_| group.spawn(|| sleep(FOREVER))).collect();
        group.join(None).unwrap();
        assert!(matches!(killer.join(), Err(JoinError::Killed)));
        assert!(others.iter().all(|other| other.is_dead()));
    });
}

#[test]
fn an_added_greenlet_is_waited_for_and_killed_as_the_others_are() {
    in_time(|| {
        let (group, pool) = (Group::new(), Pool::new(1));
        for how in ["join", "kill"] {
            let end = Rc::new(Event::new());
            let other = spawn({
                let end = Rc::clone(&end);
                move || end.wait()
            });
            group.add(&other);
            group.add(&other);
            pool.add(&other).unwrap();
            pool.add(&other).unwrap();
            assert_eq!((group.len(), pool.len(), pool.is_full()), (1, 1, true));
            assert!(group.contains(&other) && pool.contains(&other));
            assert_eq!(group.join(SHORT), Err(WaitError::TimedOut));
            match how {
                "join" => end.set(),
                _ => pool.kill().unwrap(),
            }
            group.join(FOREVER).unwrap();
            pool.join(FOREVER).unwrap();
            assert!(other.is_dead() && group.is_empty() && !pool.is_full());
        }
        let failing = spawn(|| panic!("elsewhere"));
        group.add(&failing);
        match group.join_ok(None) {
            Err(JoinError::Panicked(panic)) => assert_eq!(panic.greenlet(), failing.name()),
            other => panic!("{other:?}"),
        }
        group.add(&failing);
        assert!(group.is_empty(), "the dead are not taken in");
        yield_now();
        assert_eq!(stats().greenlets, 0);
    });
}

#[test]
fn a_discarded_greenlet_lives_on_and_nobody_waits_for_it() {
    in_time(|| {
        let group = Group::new();
        let stays = group.spawn(|| sleep(SHORT));
        let goes = group.spawn(|| sleep(FOREVER));
        let waiting = spawn({
            let group = group.clone();
            move || group.join(FOREVER)
        });
        sleep(SHORT / 4);
        assert!(group.discard(&goes) && !group.discard(&goes));
        assert_eq!(group.len(), 1);
        waiting.join().unwrap().unwrap();
        assert!(stays.is_dead() && !goes.is_dead());
        // its place is not given to another while it lives
        let next = group.spawn(|| sleep(FOREVER));
        goes.kill().unwrap();
        assert_eq!((group.len(), group.contains(&next)), (1, true));
        let last = spawn({
            let group = group.clone();
            move || group.join(FOREVER)
        });
        yield_now();
        assert!(group.discard(&next), "the last one: who waits for the group wakes");
        last.join().unwrap().unwrap();
        next.kill().unwrap();
        assert_eq!((group.len(), stats().greenlets), (0, 0));
    });
}

#[test]
fn apply_runs_in_the_pool_or_in_place_for_its_own() {
    in_time(|| {
        let pool = Pool::new(1);
        let inner = pool.clone();
        let nested = pool.apply(move || inner.apply(|| 5).unwrap()).unwrap();
        assert_eq!(nested, 5, "a full pool's own greenlet does not wait for itself");
        assert!(matches!(pool.apply(|| panic!("x")), Err(JoinError::Panicked(_))));
        let group = Group::new();
        assert_eq!(group.apply(|| 6).unwrap(), 6);
        let inner = group.clone();
        let caught = group.apply(move || inner.apply(|| panic!("inside")).is_err());
        assert!(caught.unwrap());
        assert!(group.is_empty() && pool.is_empty());
    });
}

#[test]
fn apply_async_never_parks_and_keeps_to_the_bound_and_the_order() {
    in_time(|| {
        let pool = Pool::new(2);
        let (now, most, order) =
            (Rc::new(Cell::new(0)), Rc::new(Cell::new(0)), Rc::new(RefCell::new(Vec::new())));
        let jobs: Vec<_> = (0..6)
            .map(|n| {
                let (now, most, order) = (Rc::clone(&now), Rc::clone(&most), Rc::clone(&order));
                pool.apply_async(move || {
                    now.set(now.get() + 1);
                    most.set(most.get().max(now.get()));
                    order.borrow_mut().push(n);
                    sleep(SHORT / 5);
                    now.set(now.get() - 1);
                    n
                })
            })
            .collect();
        assert!(order.borrow().is_empty(), "the caller has not parked");
        for (n, job) in jobs.iter().enumerate() {
            assert_eq!(job.join().unwrap(), n);
        }
        assert_eq!((most.get(), &*order.borrow()), (2, &vec![0, 1, 2, 3, 4, 5]));
        // one that waits outside can be killed, and takes nothing
        let holder = pool.apply_async(|| sleep(FOREVER));
        let other = pool.apply_async(|| sleep(FOREVER));
        let waiting = pool.apply_async(|| ());
        yield_now();
        waiting.kill().unwrap();
        pool.kill().unwrap();
        assert!(holder.is_dead() && other.is_dead());
        assert_eq!(pool.free_count(), 2);
    });
}

#[test]
fn map_keeps_the_order_of_the_items_and_the_bound() {
    in_time(|| {
        let pool = Pool::new(3);
        let (now, most) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(0)));
        let doubled = pool.map(0..20u32, {
            let (now, most) = (Rc::clone(&now), Rc::clone(&most));
            move |n| {
                now.set(now.get() + 1);
                most.set(most.get().max(now.get()));
                sleep(SHORT / (1 + n % 4));
                now.set(now.get() - 1);
                n * 2
            }
        });
        assert_eq!(doubled.unwrap(), (0..20).map(|n| n * 2).collect::<Vec<_>>());
        assert_eq!(most.get(), 3);
        assert!(Group::new().map(Vec::<u8>::new(), |n| n).unwrap().is_empty(), "of nothing comes nothing");
    });
}

#[test]
fn a_map_that_fails_returns_the_first_failure_and_leaves_nobody_at_work() {
    in_time(|| {
        let pool = Pool::new(4);
        let failed = pool.map(0..4, |n| match n {
            1 => panic!("item one"),
            2 => {
                sleep(FOREVER);
                n
            }
            _ => n,
        });
        assert!(matches!(failed, Err(JoinError::Panicked(panic)) if panic.message() == "item one"));
        pool.join(FOREVER).unwrap();
        sleep(SHORT);
        assert_eq!((stats().greenlets, stats().timers), (0, 0));
    });
}

#[test]
fn a_panic_or_a_kill_of_one_item_is_that_items_result() {
    in_time(|| {
        let pool = Pool::new(2);
        let results: Vec<_> = pool
            .imap(0..4, |n| match n {
                1 => panic!("one"),
                2 => {
                    greenlet::current().kill_soon();
                    n
                }
                _ => n,
            })
            .collect();
        assert!(matches!(results[..], [Ok(0), Err(JoinError::Panicked(_)), Err(JoinError::Killed), Ok(3)]));
        let pool = Pool::new(3);
        let mut stuck = pool.imap_unordered(0..3, |n| {
            sleep(FOREVER);
            n
        });
        sleep(SHORT);
        pool.kill().unwrap();
        assert!(stuck.by_ref().all(|result| matches!(result, Err(JoinError::Killed))));
    });
}

#[test]
fn imap_takes_no_more_items_than_it_has_room_for() {
    in_time(|| {
        let (taken, pool) = (Rc::new(Cell::new(0)), Pool::new(2));
        let items = |taken: &Rc<Cell<u32>>| {
            let taken = Rc::clone(taken);
            (0..).inspect(move |_| taken.set(taken.get() + 1))
        };
        let mut all = pool.imap(items(&taken), |n: u32| n);
        sleep(SHORT);
        assert_eq!(taken.get(), 4, "twice the pool's size");
        assert_eq!(all.next().unwrap().unwrap(), 0);
        sleep(SHORT);
        assert_eq!(taken.get(), 5, "it went on by itself once there was room");
        drop(all);
        taken.set(0);
        let mut few = pool.imap_unordered(items(&taken), |n: u32| n).maxsize(1);
        for n in 0..3 {
            sleep(SHORT / 5);
            assert_eq!(taken.get(), n + 1);
            assert_eq!(few.next().unwrap().unwrap(), n);
        }
        drop(few);
        sleep(SHORT);
        assert_eq!((pool.free_count(), stats().greenlets), (2, 0));
    });
}

#[test]
fn imap_unordered_yields_as_they_end() {
    in_time(|| {
        let gates: Vec<_> = (0..3).map(|_| Rc::new(Event::new())).collect();
        let waiting = gates.clone().into_iter().enumerate();
        let mut results = Group::new().imap_unordered(waiting, |(n, gate)| {
            gate.wait().unwrap();
            n
        });
        for n in [2, 0, 1] {
            gates[n].set();
            assert_eq!(results.next().unwrap().unwrap(), n);
        }
        assert!(results.next().is_none() && results.next().is_none());
    });
}

#[test]
fn an_imap_dropped_early_kills_its_workers_and_drops_items_and_results() {
    in_time(|| {
        let group = Group::new();
        let (flags, dropped): (Vec<_>, Vec<_>) = (0..4).map(|_| DropFlag::new()).unzip();
        let mut results = group
            .imap(flags.into_iter().enumerate(), |(n, flag)| {
                if n > 0 {
                    sleep(FOREVER);
                }
                flag
            })
            .maxsize(3);
        let first = results.next().unwrap().unwrap();
        sleep(SHORT);
        drop(results);
        group.join(FOREVER).unwrap();
        yield_now();
        assert_eq!(
            dropped.iter().map(|dropped| dropped.get()).collect::<Vec<_>>(),
            [false, true, true, true]
        );
        drop(first);
        assert_eq!((stats().greenlets, stats().timers), (0, 0));
    });
}

#[test]
fn one_who_is_killed_or_timed_out_within_a_map_leaves_nobody_behind() {
    in_time(|| {
        let pool = Pool::new(2);
        assert!(timeout(SHORT, || pool.map(0..10, |_| sleep(FOREVER)).is_ok()).is_err());
        let mapping = spawn({
            let pool = pool.clone();
            move || pool.map(0..10, |_| sleep(FOREVER)).is_ok()
        });
        sleep(SHORT);
        mapping.kill().unwrap();
        pool.join(FOREVER).unwrap();
        yield_now();
        assert_eq!((stats().greenlets, stats().timers, pool.free_count()), (0, 0, 2));
    });
}

#[test]
fn a_wait_for_the_next_result_has_a_deadline_and_can_be_repeated() {
    in_time(|| {
        let gate = Rc::new(Event::new());
        let mut results = Group::new().imap([Rc::clone(&gate)], |gate| gate.wait().is_ok());
        assert!(matches!(results.next_timeout(SHORT), Err(JoinError::Wait(WaitError::TimedOut))));
        gate.set();
        assert!(results.next_timeout(FOREVER).unwrap().unwrap());
        assert!(results.next_timeout(FOREVER).unwrap().is_none());
    });
}

#[test]
fn an_added_greenlet_may_be_started_later_or_never() {
    in_time(|| {
        let (group, pool) = (Group::new(), Pool::new(1));
        let (late, never) = (Greenlet::new(|| 5), Greenlet::new(|| ()));
        group.add(&late);
        pool.add(&late).unwrap();
        group.add(&never);
        late.start();
        assert_eq!(late.join().unwrap(), 5);
        pool.join(FOREVER).unwrap();
        assert_eq!(group.len(), 1);
        group.kill().unwrap();
        assert!(never.is_dead() && group.is_empty());
    });
}

#[test]
fn in_any_order_of_events_imap_yields_each_item_once_and_keeps_its_bounds() {
    in_time(|| {
        testing::each_seed(0..40, || {
            let seed = testing::seed();
            let (size, room) = (1 + seed as usize % 4, 1 + seed as usize % 5);
            let pool = Pool::new(size);
            let (under_way, most) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(0)));
            let items = (0..30u64).inspect({
                let (under_way, most) = (Rc::clone(&under_way), Rc::clone(&most));
                move |_| {
                    under_way.set(under_way.get() + 1);
                    most.set(most.get().max(under_way.get()));
                }
            });
            let work = move |n: u64| {
                sleep(SHORT * ((n * 7 + seed) % 5) as u32);
                assert_ne!(n % 7, 3, "on purpose");
                n
            };
            let took = |result: Result<u64, JoinError>| {
                under_way.set(under_way.get() - 1);
                result.ok()
            };
            let in_order = seed.is_multiple_of(2);
            let mut got: Vec<_> = if in_order {
                pool.imap(items, work).maxsize(room).map(took).collect()
            } else {
                pool.imap_unordered(items, work).maxsize(room).map(took).collect()
            };
            let wanted = (0..30).map(|n| (n % 7 != 3).then_some(n));
            if in_order {
                assert!(wanted.eq(got), "in the order of the items");
            } else {
                let mut wanted: Vec<_> = wanted.collect();
                got.sort();
                wanted.sort();
                assert_eq!(got, wanted);
            }
            // One more than the bound: the consumer has taken it and not counted yet.
            assert!(most.get() <= room + 1 && pool.is_empty());
        });
    });
}

#[test]
fn an_input_that_panics_is_the_last_error_and_one_that_parks_is_waited_for() {
    in_time(|| {
        let input = (0..3).inspect(|n| {
            sleep(SHORT / 10);
            assert_ne!(*n, 2, "the input fails");
        });
        let results: Vec<_> = Pool::new(2).imap(input, |n| n).collect();
        assert!(matches!(results[..], [Ok(0), Ok(1), Err(JoinError::Panicked(_))]), "{results:?}");
    });
}

#[test]
fn an_imap_that_nobody_can_go_on_with_ends_with_the_report() {
    in_time(|| {
        let never = Rc::new(Event::new());
        let mut results = Group::new().imap([Rc::clone(&never)], |never| never.wait().is_ok());
        assert!(matches!(results.next(), Some(Err(JoinError::Wait(WaitError::LoopExit(_))))));
        assert!(results.next().is_none());
    });
}
