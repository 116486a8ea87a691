//! `wait`, `iwait`, `wait_for_quiet`: gevent's waiting for many objects.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use greenlet::sync::{
    AsyncResult, BoundedSemaphore, Event, Mutex, PriorityQueue, Queue, RLock, Semaphore, channel,
};
use greenlet::{
    Greenlet, GreenletRef, WaitError, Waitable, catch_panic, iwait, join_all, sleep, spawn, spawn_later,
    stats, timeout, wait, wait_for_quiet, yield_now,
};
use greenserve_tests::in_time;

use crate::{FOREVER, SHORT};

/// Greenlets that end when theirs is set.
fn held(events: &[Rc<Event>]) -> Vec<Greenlet<()>> {
    let jobs = events.iter().map(|event| {
        let event = event.clone();
        spawn(move || event.wait().unwrap())
    });
    let jobs = jobs.collect();
    yield_now();
    jobs
}

fn events(count: usize) -> Vec<Rc<Event>> {
    (0..count).map(|_| Rc::default()).collect()
}

/// Where in the list each of these is.
fn places<W>(all: &[W], some: &[&W]) -> Vec<usize> {
    some.iter().map(|one| all.iter().position(|other| std::ptr::eq(other, *one)).unwrap()).collect()
}

fn assert_nobody_waits(waited_for: &impl std::fmt::Debug) {
    let text = format!("{waited_for:?}");
    assert!(text.contains("waiting: 0"), "{text}");
}

#[test]
fn wait_gives_all_in_the_order_in_which_they_ended_even_within_one_turn() {
    in_time(|| {
        let events = events(5);
        let jobs = held(&events);
        let setter = spawn(move || [3, 0, 4, 1, 2].map(|n: usize| events[n].set()));
        let ready = wait(&jobs, FOREVER, None).unwrap();
        assert_eq!(places(&jobs, &ready), [3, 0, 4, 1, 2]);
        setter.join().unwrap();
        assert_eq!((stats().greenlets, stats().timers), (0, 0));
    });
}

#[test]
fn those_that_are_ready_from_the_beginning_come_first_in_the_order_given() {
    in_time(|| {
        let events = events(3);
        events[2].set();
        events[1].set();
        let setter = spawn({
            let event = events[0].clone();
            move || event.set()
        });
        let ready = wait(&events, None, None).unwrap();
        assert_eq!(places(&events, &ready), [1, 2, 0]);
        setter.join().unwrap();
    });
}

#[test]
fn wait_ends_after_count_and_leaves_the_others_alone() {
    in_time(|| {
        let events = events(4);
        events[3].set();
        let setter = spawn({
            let event = events[1].clone();
            move || event.set()
        });
        let ready = wait(&events, None, 2).unwrap();
        assert_eq!(places(&events, &ready), [3, 1]);
        events.iter().for_each(assert_nobody_waits);
        assert!(wait(&events, None, 0).unwrap().is_empty(), "no wait for nothing");
        setter.join().unwrap();
        assert_eq!(wait(&events, SHORT, 9).unwrap().len(), 2, "no more than there are");
        assert!(wait::<Event>(&[], None, None).unwrap().is_empty());
    });
}

#[test]
fn the_end_of_the_time_is_no_error_and_leaves_nothing() {
    in_time(|| {
        let events = events(3);
        events[0].set();
        let jobs = held(&events);
        let ready = wait(&jobs, SHORT, None).unwrap();
        assert_eq!(places(&jobs, &ready), [0]);
        assert_eq!(stats().timers, 0);
        assert!(wait(&jobs[1..], Duration::ZERO, None).unwrap().is_empty());
        events.iter().for_each(|event| event.set());
        join_all(&jobs, None).unwrap();
    });
}

#[test]
fn objects_of_all_kinds_can_be_mixed_and_told_apart_by_labels() {
    in_time(|| {
        let (job, gone) = (spawn(|| 7), spawn(|| 8));
        let reference: GreenletRef = gone.as_ref().clone();
        let (event, result) = (Event::new(), Rc::new(AsyncResult::<u8>::new()));
        let (semaphore, bounded) = (Semaphore::new(0), BoundedSemaphore::new(1));
        let (mutex, lock) = (Mutex::new(1), RLock::new(()));
        let (queue, heap) = (Queue::<u8>::unbounded(), PriorityQueue::<u8>::unbounded());
        let (sender, receiver) = channel::bounded::<u8>(1);
        let permit = bounded.acquire().unwrap();
        let (guard, mine) = (mutex.lock().unwrap(), lock.lock().unwrap());
        let objects: [(&str, &dyn Waitable); 11] = [
            ("job", &job),
            ("reference", &reference),
            ("event", &event),
            ("result", &result),
            ("semaphore", &semaphore),
            ("bounded", &bounded),
            ("mutex", &mutex),
            ("own lock", &lock),
            ("queue", &queue),
            ("heap", &heap),
            ("receiver", &receiver),
        ];
        let mut ready = iwait(&objects, FOREVER, None).map(|(label, _)| *label);
        assert_eq!(ready.next(), Some("own lock"));
        drop(mine);
        sender.send(1).unwrap();
        heap.put(1).unwrap();
        queue.close();
        drop(guard);
        drop(permit);
        semaphore.release();
        result.set_error("no").unwrap();
        event.set();
        event.clear();
        let noted: Vec<_> = ready.by_ref().take(8).collect();
        let done = ["receiver", "heap", "queue", "mutex", "bounded", "semaphore", "result", "event"];
        assert_eq!(noted, done);
        assert_eq!(ready.collect::<Vec<_>>(), ["job", "reference"]);
        assert_eq!((job.join().unwrap(), gone.join().unwrap()), (7, 8), "nothing was taken");
        assert_eq!((receiver.try_recv(), heap.try_get()), (Ok(1), Ok(1)));
        assert_eq!((semaphore.available(), bounded.available(), mutex.is_locked()), (1, 1, false));
    });
}

#[test]
fn an_object_given_twice_counts_twice() {
    in_time(|| {
        let event = Rc::new(Event::new());
        let setter = spawn({
            let event = event.clone();
            move || event.set()
        });
        assert_eq!(wait(&[&event, &event], FOREVER, None).unwrap().len(), 2);
        let job = spawn(|| ());
        assert_eq!(wait(&[&job, &job], FOREVER, 1).unwrap().len(), 1);
        setter.join().unwrap();
        assert_nobody_waits(&event);
    });
}

#[test]
fn who_waits_for_a_semaphore_takes_nothing_from_those_behind() {
    in_time(|| {
        let semaphore = Rc::new(Semaphore::new(0));
        let waiter = spawn({
            let semaphore = semaphore.clone();
            move || wait(&[semaphore], None, None).unwrap().len()
        });
        yield_now();
        let taker = spawn({
            let semaphore = semaphore.clone();
            move || semaphore.acquire().map(|permit| permit.forget())
        });
        yield_now();
        semaphore.release();
        assert_eq!(semaphore.available(), 0, "it went to the one behind at once");
        assert_eq!((waiter.join().unwrap(), taker.join().unwrap()), (1, Ok(())));
        assert_nobody_waits(&semaphore);
    });
}

#[test]
fn what_becomes_ready_between_two_steps_of_iwait_is_noted_in_its_order() {
    in_time(|| {
        let events = events(4);
        let mut ready = iwait(&events, None, None);
        [2, 0].into_iter().for_each(|n: usize| events[n].set());
        sleep(SHORT);
        [3, 1].into_iter().for_each(|n: usize| events[n].set());
        assert_eq!(places(&events, &ready.by_ref().collect::<Vec<_>>()), [2, 0, 3, 1]);
        assert!(ready.next().is_none());
    });
}

#[test]
fn iwait_dropped_early_leaves_every_list() {
    in_time(|| {
        let events = events(3);
        events[0].set();
        let mut ready = iwait(&events, FOREVER, None);
        assert!(ready.next().is_some());
        assert!(format!("{:?}", events[1]).contains("waiting: 1"));
        drop(ready);
        events.iter().for_each(assert_nobody_waits);
    });
}

#[test]
fn iwait_ends_with_its_time_and_then_stays_at_its_end() {
    in_time(|| {
        let events = events(2);
        let mut ready = iwait(&events, SHORT, None);
        assert!(ready.next().is_none());
        events.iter().for_each(assert_nobody_waits);
        events[0].set();
        assert!(ready.next().is_none());
        assert_eq!(stats().timers, 0);
    });
}

#[test]
fn iwait_may_be_stepped_by_another_greenlet_than_made_it() {
    in_time(|| {
        let events: &'static [Rc<Event>] = Box::leak(events(1).into());
        let ready = iwait(events, None, None);
        let stepper = spawn(move || ready.count());
        yield_now();
        events[0].set();
        assert_eq!(stepper.join().unwrap(), 1);
    });
}

#[test]
fn one_killed_or_timed_out_while_it_waits_is_off_all_lists() {
    in_time(|| {
        let events = events(3);
        let waiter = spawn({
            let events = events.clone();
            move || wait(&events, FOREVER, None).map(|ready| ready.len())
        });
        yield_now();
        events[0].set(); // noted, and not run yet
        waiter.kill().unwrap();
        events.iter().for_each(assert_nobody_waits);
        assert!(timeout(SHORT, || wait(&events, None, None).map(|ready| ready.len())).is_err());
        events.iter().for_each(assert_nobody_waits);
        assert_eq!((stats().greenlets, stats().timers), (0, 0));
    });
}

#[test]
fn a_wait_that_can_never_end_is_told_and_iwait_panics_with_it() {
    in_time(|| {
        let never = [Event::new(), Event::new()];
        never[0].set();
        let Err(WaitError::LoopExit(exit)) = wait(&never, None, None) else { panic!("expected a LoopExit") };
        assert!(exit.parked()[0].contains("waits for 1 of several objects"), "{exit}");
        assert_nobody_waits(&never[1]);
        let panic = catch_panic(|| iwait(&never, None, None).count()).unwrap_err();
        assert!(panic.message().contains("LoopExit"), "{panic}");
        assert_nobody_waits(&never[1]);
    });
}

#[test]
fn while_unwinding_what_is_ready_is_given_and_a_wait_fails() {
    struct Waits([Event; 2], Rc<Cell<Option<WaitError>>>);
    impl Drop for Waits {
        fn drop(&mut self) {
            assert_eq!(iwait(&self.0, None, None).count(), 1);
            self.1.set(wait(&self.0, None, None).err());
            assert_nobody_waits(&self.0[1]);
        }
    }
    in_time(|| {
        let failed = Rc::new(Cell::new(None));
        let events = [Event::new(), Event::new()];
        events[0].set();
        let waits = Waits(events, failed.clone());
        spawn(move || {
            let _waits = waits;
            panic!("on purpose");
        })
        .join()
        .unwrap_err();
        assert_eq!(failed.take(), Some(WaitError::Unwinding));
    });
}

// ---- until nothing is left

#[test]
fn wait_for_quiet_ends_when_all_have_run_and_all_timers_fired() {
    in_time(|| {
        let done = Rc::new(Cell::new(0));
        for n in 0..3 {
            let done = done.clone();
            spawn_later(SHORT * n, move || {
                sleep(SHORT);
                done.set(done.get() + 1);
            });
        }
        wait_for_quiet(None).unwrap();
        assert_eq!((done.get(), stats().greenlets, stats().timers), (3, 0, 0));
        wait_for_quiet(FOREVER).unwrap();
        assert_eq!(stats().timers, 0);
    });
}

#[test]
fn wait_for_quiet_leaves_those_who_can_never_go_on_where_they_are() {
    in_time(|| {
        let event = Rc::new(Event::new());
        let stuck = held(std::slice::from_ref(&event));
        wait_for_quiet(FOREVER).unwrap();
        assert!(!stuck[0].is_dead());
        event.set();
        wait_for_quiet(None).unwrap();
        assert!(stuck[0].is_dead());
    });
}

#[test]
fn wait_for_quiet_times_out_while_somebody_sleeps_or_waits_for_a_descriptor() {
    in_time(|| {
        let sleeper = spawn(|| sleep(FOREVER));
        assert_eq!(wait_for_quiet(SHORT), Err(WaitError::TimedOut));
        sleeper.kill().unwrap();
        let (reader, _writer) = std::io::pipe().unwrap();
        let reading = spawn(move || greenlet::net::wait_read(&reader, None));
        assert_eq!(wait_for_quiet(SHORT), Err(WaitError::TimedOut));
        reading.kill().unwrap();
        assert_eq!(stats().timers, 0);
    });
}

#[test]
fn wait_for_quiet_waits_for_other_threads_that_have_a_way_in() {
    in_time(|| {
        let job = spawn(|| greenlet::unblock(|| std::thread::sleep(SHORT)));
        wait_for_quiet(None).unwrap();
        assert!(job.is_successful());
    });
}

#[test]
fn several_may_wait_for_quiet_and_one_killed_meanwhile_is_forgotten() {
    in_time(|| {
        let waiters: Vec<_> = (0..3).map(|_| spawn(|| wait_for_quiet(FOREVER))).collect();
        yield_now();
        waiters[1].kill().unwrap();
        wait_for_quiet(None).unwrap();
        join_all(&waiters, FOREVER).unwrap();
        assert_eq!((waiters[0].join().unwrap(), waiters[2].join().unwrap()), (Ok(()), Ok(())));
        assert_eq!(stats().timers, 0);
    });
}
