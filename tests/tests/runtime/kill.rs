//! Kill: an unwind from wherever the greenlet is suspended.

use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;

use greenlet::sync::{Event, Semaphore};
use greenlet::{JoinError, WaitError, kill_all, sleep, spawn, spawn_later, yield_now};
use greenserve_tests::in_time;

use crate::blocking::blocking_calls;
use crate::{DropFlag, FOREVER, SHORT};

#[test]
fn kill_ends_a_greenlet_in_every_blocking_call_and_runs_its_destructors() {
    in_time(|| {
        for (name, call) in blocking_calls() {
            let (flag, dropped) = DropFlag::new();
            let returned = Rc::new(Cell::new(false));
            let victim = spawn({
                let returned = Rc::clone(&returned);
                move || {
                    let _flag = flag;
                    call();
                    returned.set(true);
                }
            });
            sleep(SHORT);
            assert!(!victim.is_dead(), "{name}: does it block?");
            victim.kill().unwrap();
            assert!(victim.is_dead(), "{name}: kill waits until it is dead");
            assert!(dropped.get(), "{name}: destructors run");
            assert!(!returned.get(), "{name}: nothing behind the call runs");
            assert!(matches!(victim.join(), Err(JoinError::Killed)), "{name}");
            assert!(!std::thread::panicking(), "{name}");
        }
    });
}

#[test]
fn one_that_has_not_started_never_starts_and_drops_what_it_owns() {
    in_time(|| {
        let ran = Rc::new(Cell::new(false));
        let start_all = |ran: &Rc<Cell<bool>>| {
            let body = |ran: Rc<Cell<bool>>, flag| {
                move || {
                    let _flag: DropFlag = flag;
                    ran.set(true);
                }
            };
            let ((now, now_dropped), (later, later_dropped)) = (DropFlag::new(), DropFlag::new());
            let jobs = [spawn(body(Rc::clone(ran), now)), spawn_later(SHORT, body(Rc::clone(ran), later))];
            (jobs, now_dropped, later_dropped)
        };
        let (jobs, now, later) = start_all(&ran);
        kill_all(&jobs, None).unwrap();
        assert!(now.get() && later.get(), "their closures are dropped");
        sleep(SHORT * 2);
        assert!(!ran.get());
        for job in jobs {
            assert!(job.is_dead() && matches!(job.join(), Err(JoinError::Killed)));
        }
        assert_eq!(greenlet::stats().greenlets, 0);
    });
}

#[test]
fn kill_soon_does_not_wait() {
    in_time(|| {
        let (flag, dropped) = DropFlag::new();
        let victim = spawn(move || {
            let _flag = flag;
            sleep(FOREVER);
        });
        sleep(SHORT);
        victim.kill_soon();
        assert!(!dropped.get(), "it dies when it next runs");
        assert!(matches!(victim.join(), Err(JoinError::Killed)));
        assert!(dropped.get());
    });
}

#[test]
fn a_greenlet_can_kill_itself() {
    in_time(|| {
        let (flag, dropped) = DropFlag::new();
        let after = Rc::new(Cell::new(false));
        let victim = spawn({
            let after = Rc::clone(&after);
            move || {
                let _flag = flag;
                let _ = greenlet::current().kill();
                after.set(true);
            }
        });
        assert!(matches!(victim.join(), Err(JoinError::Killed)));
        assert!(dropped.get() && !after.get());
    });
}

#[test]
fn killing_the_dead_changes_nothing() {
    in_time(|| {
        let done = spawn(|| 5);
        sleep(SHORT);
        done.kill().unwrap();
        assert_eq!(done.join().unwrap(), 5, "its value is still there");
        let killed = spawn(|| sleep(FOREVER));
        killed.kill().unwrap();
        killed.kill().unwrap();
        assert!(matches!(killed.join(), Err(JoinError::Killed)));
    });
}

#[test]
fn a_kill_reaches_one_who_is_ready_before_it_goes_on() {
    in_time(|| {
        let event = Rc::new(Event::new());
        let after = Rc::new(Cell::new(false));
        let victim = spawn({
            let (event, after) = (Rc::clone(&event), Rc::clone(&after));
            move || {
                let _ = event.wait();
                after.set(true);
            }
        });
        sleep(SHORT);
        event.set();
        victim.kill().unwrap();
        assert!(!after.get());
    });
}

#[test]
fn what_was_granted_to_a_killed_one_goes_to_the_next() {
    in_time(|| {
        let semaphore = Rc::new(Semaphore::new(1));
        let order = Rc::new(RefCell::new(Vec::new()));
        let permit = semaphore.try_acquire().expect("a free permit");
        let waiter = |name: &'static str| {
            let (semaphore, order) = (Rc::clone(&semaphore), Rc::clone(&order));
            spawn(move || {
                let _permit = semaphore.acquire().unwrap();
                order.borrow_mut().push(name);
            })
        };
        let (first, second) = (waiter("first"), waiter("second"));
        sleep(SHORT);
        // the first is granted the permit and killed before it can run
        drop(permit);
        first.kill().unwrap();
        second.join().unwrap();
        assert_eq!(*order.borrow(), ["second"]);
        assert_eq!(semaphore.available(), 1, "and no permit is lost");
    });
}

#[test]
fn one_who_waits_in_a_list_is_taken_out_of_it() {
    in_time(|| {
        let event = Rc::new(Event::new());
        let victims: Vec<_> = (0..5)
            .map(|_| {
                let event = Rc::clone(&event);
                spawn(move || drop(event.wait()))
            })
            .collect();
        sleep(SHORT);
        assert!(format!("{event:?}").contains("waiting: 5"), "{event:?}");
        kill_all(&victims, None).unwrap();
        assert!(format!("{event:?}").contains("waiting: 0"), "{event:?}");
        event.set();
        assert_eq!(greenlet::stats().greenlets, 0);
    });
}

#[test]
fn catch_panic_lets_a_kill_pass() {
    in_time(|| {
        let rounds = Rc::new(Cell::new(0));
        // the shape of a server: catch the panic of one request, go on with the next
        let victim = spawn({
            let rounds = Rc::clone(&rounds);
            move || {
                loop {
                    rounds.set(rounds.get() + 1);
                    let _ = greenlet::catch_panic(|| sleep(FOREVER));
                }
            }
        });
        sleep(SHORT);
        victim.kill().unwrap();
        assert_eq!(rounds.get(), 1);
        assert!(matches!(victim.join(), Err(JoinError::Killed)));
    });
}

#[test]
fn a_swallowed_kill_is_reported_by_name() {
    in_time(|| {
        crate::logs::collect();
        let job = greenlet::Builder::new()
            .name("glutton")
            .spawn(|| {
                let swallowed = catch_unwind(|| sleep(FOREVER)).is_err();
                yield_now();
                swallowed
            })
            .unwrap();
        sleep(SHORT);
        job.kill_soon();
        assert!(job.join().unwrap(), "it lives on, for it has caught the unwinding");
        assert!(crate::logs::any(|line| line.contains("glutton") && line.contains("kill")));
    });
}

#[test]
fn a_destructor_may_not_wait_while_it_unwinds_and_is_told_so() {
    struct Waits(Rc<RefCell<Vec<String>>>);
    impl Drop for Waits {
        fn drop(&mut self) {
            sleep(FOREVER);
            yield_now();
            let result = Event::new().wait_timeout(FOREVER);
            self.0.borrow_mut().push(format!("{result:?}"));
            let job = spawn(|| ());
            self.0.borrow_mut().push(format!("{:?}", job.join().is_err()));
        }
    }
    in_time(|| {
        let seen = Rc::new(RefCell::new(Vec::new()));
        let victim = spawn({
            let seen = Rc::clone(&seen);
            move || {
                let _waits = Waits(seen);
                sleep(FOREVER);
            }
        });
        sleep(SHORT);
        victim.kill().unwrap();
        assert_eq!(*seen.borrow(), [format!("{:?}", Err::<(), _>(WaitError::Unwinding)), "true".to_owned()]);
    });
}

#[test]
fn a_kill_poisons_no_lock_of_others() {
    in_time(|| {
        let lock = Rc::new(std::sync::Mutex::new(0));
        let other = spawn({
            let lock = Rc::clone(&lock);
            move || {
                for _ in 0..20 {
                    *lock.lock().unwrap() += 1;
                    yield_now();
                }
            }
        });
        for _ in 0..5 {
            let victim = spawn(|| sleep(FOREVER));
            yield_now();
            victim.kill().unwrap();
        }
        other.join().unwrap();
        assert_eq!(*lock.lock().unwrap(), 20);
    });
}

#[test]
fn main_cannot_be_killed() {
    in_time(|| {
        let main = greenlet::current();
        spawn(move || {
            let _ = main.kill();
        })
        .join()
        .unwrap();
        let alive = catch_unwind(AssertUnwindSafe(|| sleep(SHORT)));
        assert!(alive.is_ok());
    });
}

#[test]
fn kill_all_asks_all_before_it_waits_for_any() {
    in_time(|| {
        let order = Rc::new(RefCell::new(Vec::new()));
        struct Note(Rc<RefCell<Vec<u32>>>, u32);
        impl Drop for Note {
            fn drop(&mut self) {
                self.0.borrow_mut().push(self.1);
            }
        }
        let jobs: Vec<_> = (0..4)
            .map(|n| {
                let note = Note(Rc::clone(&order), n);
                spawn(move || {
                    let _note = note;
                    sleep(FOREVER);
                })
            })
            .collect();
        sleep(SHORT);
        kill_all(&jobs, None).unwrap();
        assert_eq!(*order.borrow(), [0, 1, 2, 3]);
        assert_eq!(greenlet::stats().greenlets, 0);
    });
}
