//! `select!`: the first of several things, and what the others keep.

use std::cell::Cell;
use std::io::{Read, Write, pipe};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use greenlet::net::{cancel_wait, wait_read};
use greenlet::select::{after, at, readable, writable};
use greenlet::sync::{
    AsyncResult, BoundedSemaphore, Event, GetError, LifoQueue, Mutex, Queue, RLock, Semaphore, channel,
    shared,
};
use greenlet::{
    Greenlet, GreenletRef, WaitError, now, select, sleep, spawn, spawn_later, stats, timeout, yield_now,
};
use greenserve_tests::in_time;

use crate::{FOREVER, SHORT};

fn assert_nobody_waits(waited_for: &impl std::fmt::Debug) {
    let text = format!("{waited_for:?}");
    assert!(text.contains("waiting: 0"), "{text}");
}

/// A queue with nobody in its list takes a value and gives it to who asks at once.
fn assert_nobody_gets(queue: &Queue<u32>) {
    queue.try_put(99).unwrap();
    assert_eq!(queue.try_get(), Ok(99));
}

#[test]
fn each_kind_of_thing_gives_what_its_own_call_gives() {
    in_time(|| {
        let (queue, stack) = (Rc::new(Queue::unbounded()), LifoQueue::unbounded());
        let (sender, receiver) = channel::unbounded();
        let (event, result) = (Event::new(), AsyncResult::from("set"));
        let (semaphore, bounded) = (Semaphore::new(1), BoundedSemaphore::new(1));
        let (mutex, lock) = (Mutex::new('m'), RLock::new('r'));
        let (job, failed) = (spawn(|| 7), spawn(|| -> u32 { panic!("on purpose") }));
        let reference: GreenletRef = job.as_ref().clone();
        queue.put(1).unwrap();
        [2, 3].into_iter().for_each(|n| stack.put(n).unwrap());
        sender.send(4).unwrap();
        event.set();
        assert_eq!(select! { got = &queue => got }.unwrap(), Ok(1));
        assert_eq!(select! { got = &stack => got }.unwrap(), Ok(3));
        assert_eq!(select! { got = &receiver => got }.unwrap(), Ok(4));
        drop(sender);
        assert_eq!(
            select! { got = &receiver => got.unwrap_err() }.unwrap(),
            channel::RecvError::Disconnected
        );
        select! { () = &event => {} }.unwrap();
        assert_eq!(select! { got = &result => *got.unwrap() }.unwrap(), "set");
        let permit = select! { permit = &semaphore => permit }.unwrap();
        let bounded_permit = select! { permit = &bounded => permit }.unwrap();
        assert_eq!((semaphore.available(), bounded.available()), (0, 0));
        drop((permit, bounded_permit));
        assert_eq!(select! { guard = &mutex => *guard }.unwrap(), 'm');
        assert_eq!(select! { guard = &lock => *guard }.unwrap(), 'r');
        select! { () = &reference => {} }.unwrap();
        assert_eq!(select! { joined = &job => joined.unwrap() }.unwrap(), 7);
        assert!(select! { joined = &failed => joined.is_err() }.unwrap());
        select! { () = at(now() + SHORT) => {} }.unwrap();
    });
}

#[test]
fn each_kind_of_thing_wakes_the_one_who_waits() {
    in_time(|| {
        let queue = Rc::new(Queue::rendezvous());
        let (stack, event) = (Rc::new(LifoQueue::unbounded()), Rc::new(Event::new()));
        let (sender, receiver) = channel::bounded(1);
        let result = Rc::new(AsyncResult::new());
        let (semaphore, bounded) = (Rc::new(Semaphore::new(0)), Rc::new(BoundedSemaphore::new(1)));
        let (mutex, lock) = (Rc::new(Mutex::new(())), Rc::new(RLock::new(())));
        let job = spawn(|| sleep(Duration::from_millis(1)));
        bounded.acquire().unwrap().forget();
        let holder = spawn({
            let (mutex, lock) = (mutex.clone(), lock.clone());
            move || {
                let _both = (mutex.lock().unwrap(), lock.lock().unwrap());
                sleep(Duration::from_millis(1));
            }
        });
        yield_now();
        spawn({
            let (queue, stack, event, result, semaphore, bounded) = (
                queue.clone(),
                stack.clone(),
                event.clone(),
                result.clone(),
                semaphore.clone(),
                bounded.clone(),
            );
            move || {
                queue.put(1).unwrap();
                yield_now();
                stack.put(2).unwrap();
                yield_now();
                sender.send(3).unwrap();
                yield_now();
                event.set();
                event.clear();
                yield_now();
                result.set(4).unwrap();
                yield_now();
                semaphore.release();
                yield_now();
                bounded.release().unwrap();
            }
        });
        assert_eq!(select! { got = &queue => got }.unwrap(), Ok(1));
        assert_eq!(select! { got = &stack => got }.unwrap(), Ok(2));
        assert_eq!(select! { got = &receiver => got }.unwrap(), Ok(3));
        select! { _ = &event => () }.unwrap();
        assert_eq!(select! { got = &result => *got.unwrap() }.unwrap(), 4);
        select! { permit = &semaphore => permit.forget() }.unwrap();
        select! { permit = &bounded => permit.forget() }.unwrap();
        assert_eq!((semaphore.available(), bounded.available()), (0, 0));
        select! { _guard = &mutex => assert!(mutex.is_locked()) }.unwrap();
        select! { _guard = &lock => assert!(lock.is_owned()) }.unwrap();
        assert!(!mutex.is_locked() && !lock.is_locked());
        select! { joined = &job => joined.unwrap() }.unwrap();
        holder.join().unwrap();
    });
}

#[test]
fn the_first_ready_arm_in_the_order_written_wins_and_the_others_take_nothing() {
    in_time(|| {
        let (one, two) = (Queue::unbounded(), Queue::unbounded());
        let semaphore = Semaphore::new(1);
        [&one, &two].into_iter().for_each(|queue| queue.put(1).unwrap());
        let won = select! {
            _ = after(FOREVER) => "after",
            got = &two => { got.unwrap(); "two" }
            _ = &one => "one",
            _ = &semaphore => "semaphore",
        };
        assert_eq!(won, Ok("two"));
        assert_eq!((one.len(), two.len(), semaphore.available()), (1, 0, 1));
        assert_eq!(stats().timers, 0);
    });
}

#[test]
fn what_was_handed_to_an_arm_that_lost_goes_to_who_waits_next() {
    in_time(|| {
        let stop = Rc::new(Event::new());
        let (queue, semaphore) = (Rc::new(Queue::bounded(2)), Rc::new(Semaphore::new(0)));
        let selecting = spawn({
            let (stop, queue, semaphore) = (stop.clone(), queue.clone(), semaphore.clone());
            move || {
                select! {
                    _ = &stop => "stop",
                    _ = &queue => "queue",
                    _ = &semaphore => "semaphore",
                }
            }
        });
        yield_now();
        let getter = spawn({
            let queue = queue.clone();
            move || (queue.get(), queue.get())
        });
        let taker = spawn({
            let semaphore = semaphore.clone();
            move || semaphore.acquire().map(|permit| permit.forget())
        });
        yield_now();
        // It is called for all three before it can run.
        queue.put(1).unwrap();
        semaphore.release();
        stop.set();
        queue.put(2).unwrap();
        assert_eq!(selecting.join().unwrap(), Ok("stop"));
        assert_eq!(getter.join_timeout(FOREVER).unwrap(), (Ok(1), Ok(2)), "in their order");
        assert_eq!(taker.join_timeout(FOREVER).unwrap(), Ok(()));
        assert_nobody_waits(&*semaphore);
        assert_eq!((semaphore.available(), queue.len()), (0, 0));
        assert_nobody_gets(&queue);
    });
}

#[test]
fn one_killed_after_it_was_called_hands_everything_on() {
    in_time(|| {
        let (queue, semaphore) = (Rc::new(Queue::unbounded()), Rc::new(Semaphore::new(0)));
        let selecting = spawn({
            let (queue, semaphore) = (queue.clone(), semaphore.clone());
            move || {
                select! {
                    _ = &queue => (),
                    permit = &semaphore => permit.forget(),
                }
            }
        });
        yield_now();
        queue.put(1).unwrap();
        semaphore.release();
        assert_eq!(queue.try_get(), Err(GetError::Empty), "handed over");
        selecting.kill().unwrap();
        assert_eq!((queue.try_get(), semaphore.available()), (Ok(1), 1));
        assert_nobody_gets(&queue);
    });
}

#[test]
fn one_killed_or_timed_out_while_it_waits_is_off_all_lists() {
    in_time(|| {
        let (queue, event) = (Rc::new(Queue::unbounded()), Rc::new(Event::new()));
        let semaphore = Rc::new(Semaphore::new(0));
        let (reader, _writer) = pipe().unwrap();
        let reader = Rc::new(reader);
        let wait_for_all = {
            let (queue, event, semaphore, reader) =
                (queue.clone(), event.clone(), semaphore.clone(), reader.clone());
            move |limit: Option<Duration>| {
                select! {
                    _ = &queue => "queue",
                    _ = &event => "event",
                    _ = &semaphore => "semaphore",
                    _ = readable(&*reader) => "readable",
                    _ = after(limit) => "after",
                }
            }
        };
        let at_rest = || {
            assert_nobody_gets(&queue);
            assert_nobody_waits(&*event);
            assert_nobody_waits(&*semaphore);
            assert_eq!((stats().timers, stats().descriptors), (0, 0));
        };
        assert_eq!(wait_for_all(Some(SHORT)), Ok("after"));
        at_rest();
        assert!(timeout(SHORT, || wait_for_all(Some(FOREVER))).is_err());
        at_rest();
        let killed = spawn({
            let wait_for_all = wait_for_all.clone();
            move || wait_for_all(Some(FOREVER))
        });
        yield_now();
        killed.kill().unwrap();
        at_rest();
        spawn({
            let event = event.clone();
            move || event.set()
        });
        assert_eq!(wait_for_all(None), Ok("event"));
        at_rest();
    });
}

#[test]
fn those_who_select_and_those_who_get_are_served_in_the_order_in_which_they_came() {
    in_time(|| {
        let (queue, never) = (Rc::new(Queue::unbounded()), Rc::new(Event::new()));
        let consumers: Vec<Greenlet<u32>> = (0..6)
            .map(|n| {
                let (queue, never) = (queue.clone(), never.clone());
                spawn(move || match n % 2 {
                    0 => queue.get().unwrap(),
                    _ => select! {
                        _ = &never => unreachable!(),
                        got = &queue => got.unwrap(),
                    }
                    .unwrap(),
                })
            })
            .collect();
        yield_now();
        (0..6).for_each(|n| queue.put(n).unwrap());
        let got: Vec<_> = consumers.iter().map(|consumer| consumer.join().unwrap()).collect();
        assert_eq!(got, [0, 1, 2, 3, 4, 5]);
        assert_nobody_waits(&*never);
    });
}

#[test]
fn the_same_thing_twice_takes_once() {
    in_time(|| {
        let queue = Rc::new(Queue::unbounded());
        spawn({
            let queue = queue.clone();
            move || [1, 2].map(|n| queue.put(n).unwrap())
        });
        let got = select! {
            got = &queue => (1, got),
            got = &queue => (2, got),
        };
        assert_eq!(got.unwrap(), (1, Ok(1)));
        assert_eq!((queue.try_get(), queue.len()), (Ok(2), 0));
    });
}

#[test]
fn what_comes_with_the_end_of_the_time_is_taken_by_the_arm_written_first() {
    in_time(|| {
        let queue = Rc::new(Queue::unbounded());
        queue.put(1).unwrap();
        assert_eq!(select! { got = &queue => got, _ = after(Duration::ZERO) => Ok(0) }.unwrap(), Ok(1));
        queue.put(1).unwrap();
        assert_eq!(select! { _ = after(Duration::ZERO) => Ok(0), got = &queue => got }.unwrap(), Ok(0));
        assert_eq!(queue.len(), 1);
    });
}

#[test]
fn with_default_nothing_is_waited_for() {
    in_time(|| {
        let (queue, event) = (Queue::unbounded(), Event::new());
        let look = || {
            select! {
                got = &queue => got.unwrap(),
                _ = &event => 100,
                default => 0,
            }
        };
        assert_eq!(look(), 0);
        queue.put(1).unwrap();
        assert_eq!((look(), look()), (1, 0));
        event.set();
        assert_eq!(look(), 100);
    });
}

#[test]
fn return_break_and_question_mark_act_on_the_code_around() {
    fn until_closed(queue: &Queue<u32>, stop_at: u32) -> Result<&'static str, GetError> {
        loop {
            select! {
                got = queue => {
                    let got = got?;
                    if got == stop_at {
                        break;
                    } else if got > stop_at {
                        return Ok("returned");
                    }
                    continue;
                }
                _ = after(FOREVER) => unreachable!(),
            }
            .map_err(GetError::Wait)?;
        }
        Ok("broken")
    }
    in_time(|| {
        let queue = Queue::unbounded();
        [1, 2, 3, 9].into_iter().for_each(|n| queue.put(n).unwrap());
        queue.close();
        assert_eq!(until_closed(&queue, 3), Ok("broken"));
        assert_eq!(until_closed(&queue, 5), Ok("returned"));
        assert_eq!(until_closed(&queue, 5), Err(GetError::Closed));
    });
}

#[test]
fn things_are_evaluated_once_each_and_a_none_never_is_ready() {
    in_time(|| {
        let (evaluated, queue) = (Cell::new(0), Queue::<u32>::unbounded());
        let counted = || {
            evaluated.set(evaluated.get() + 1);
            &queue
        };
        let absent: Option<&Event> = None;
        let ended = select! {
            _ = absent => "absent",
            _ = after(None) => "never",
            _ = counted() => "counted",
            _ = Some(after(SHORT)) => "after",
        };
        assert_eq!((ended, evaluated.get()), (Ok("after"), 1));
    });
}

#[test]
fn an_underscore_gives_a_permit_back_at_once_and_a_name_keeps_it_for_the_arm() {
    in_time(|| {
        let semaphore = Semaphore::new(1);
        assert_eq!(select! { _ = &semaphore => semaphore.available() }, Ok(1));
        assert_eq!(select! { _permit = &semaphore => semaphore.available() }, Ok(0));
        assert_eq!(semaphore.available(), 1);
    });
}

// ---- descriptors

#[test]
fn a_descriptor_is_waited_for_beside_other_things() {
    in_time(|| {
        let (mut reader, mut writer) = pipe().unwrap();
        let event = Event::new();
        assert!(select! { found = writable(&writer) => found, _ = &event => Ok(()) }.unwrap().is_ok());
        let writing = spawn_later(Duration::from_millis(1), move || writer.write_all(b"x"));
        let won = select! {
            _ = &event => "event",
            found = readable(&reader) => { found.unwrap(); "readable" }
            _ = after(FOREVER) => "after",
        };
        assert_eq!(won, Ok("readable"));
        assert_eq!(reader.read(&mut [0; 8]).unwrap(), 1);
        writing.join().unwrap().unwrap();
        assert_nobody_waits(&event);
        assert_eq!((stats().timers, stats().descriptors), (0, 0));
    });
}

#[test]
fn a_descriptor_that_another_waits_for_makes_its_arm_win_with_the_error() {
    in_time(|| {
        let (reader, _writer) = pipe().unwrap();
        let reader = Rc::new(reader);
        let other = spawn({
            let reader = reader.clone();
            move || wait_read(&*reader, None)
        });
        yield_now();
        let event = Event::new();
        let won = select! { _ = &event => None, found = readable(&*reader) => found.err() }.unwrap();
        assert_eq!(won.unwrap().kind(), std::io::ErrorKind::ResourceBusy);
        assert_nobody_waits(&event);
        other.kill().unwrap();
        assert_eq!(stats().descriptors, 0);
    });
}

#[test]
fn a_cancelled_wait_makes_its_arm_win_with_the_error() {
    in_time(|| {
        let (reader, _writer) = pipe().unwrap();
        let reader = Rc::new(reader);
        let selecting = spawn({
            let reader = reader.clone();
            move || select! { found = readable(&*reader) => found, _ = after(FOREVER) => Ok(()) }.unwrap()
        });
        yield_now();
        cancel_wait(&*reader);
        assert_eq!(selecting.join().unwrap().unwrap_err().kind(), std::io::ErrorKind::NotConnected);
        assert_eq!((stats().timers, stats().descriptors), (0, 0));
    });
}

// ---- from other threads

#[test]
fn what_other_threads_send_and_set_is_waited_for_beside_other_things() {
    in_time(|| {
        let (sender, receiver) = shared::channel::bounded(1);
        let stop = Arc::new(shared::Event::new());
        let answer = Arc::new(shared::AsyncResult::new());
        let feeder = std::thread::spawn({
            let (stop, answer) = (stop.clone(), answer.clone());
            move || {
                (0..1000).for_each(|n| sender.send(n).unwrap());
                drop(sender);
                answer.set(42).unwrap();
                stop.set();
            }
        });
        let mut got = Vec::new();
        loop {
            select! {
                received = &receiver => match received {
                    Ok(n) => got.push(n),
                    Err(_) => break,
                },
                _ = after(FOREVER) => unreachable!(),
            }
            .unwrap();
        }
        assert_eq!(got, (0..1000).collect::<Vec<u32>>());
        let never = Event::new();
        assert_eq!(select! { _ = &never => 0, result = &answer => *result.unwrap() }, Ok(42));
        select! { _ = &never => unreachable!(), _ = &stop => {} }.unwrap();
        feeder.join().unwrap();
        assert_nobody_waits(&never);
        assert_eq!(stats().timers, 0);
    });
}

#[test]
fn what_another_thread_handed_to_an_arm_that_lost_or_was_killed_goes_on() {
    in_time(|| {
        let (sender, receiver) = shared::channel::unbounded();
        let (receiver, stop) = (Rc::new(receiver), Rc::new(Event::new()));
        let select_both = {
            let (receiver, stop) = (receiver.clone(), stop.clone());
            move || select! { _ = &stop => 0, received = &receiver => received.unwrap() }
        };
        for killed in [false, true] {
            stop.clear();
            let selecting = spawn(select_both.clone());
            yield_now();
            let getter = spawn({
                let receiver = receiver.clone();
                move || receiver.recv()
            });
            yield_now();
            sender.send(1).unwrap();
            match killed {
                true => selecting.kill().unwrap(),
                false => {
                    stop.set();
                    assert_eq!(selecting.join().unwrap(), Ok(0));
                }
            }
            assert_eq!(getter.join_timeout(FOREVER).unwrap(), Ok(1));
            assert_nobody_waits(&*stop);
            assert_nobody_waits(&*receiver);
        }
    });
}

// ---- failures

#[test]
fn a_select_that_can_never_end_is_told() {
    in_time(|| {
        let (event, queue) = (Event::new(), Queue::<u32>::unbounded());
        let result = select! { _ = &event => (), _ = &queue => () };
        let Err(WaitError::LoopExit(exit)) = result else { panic!("expected a LoopExit") };
        assert!(exit.parked()[0].contains("select! of 2"), "{exit}");
        assert_nobody_waits(&event);
        assert_nobody_gets(&queue);
    });
}

#[test]
fn while_unwinding_what_is_ready_is_taken_and_a_wait_fails() {
    struct Selects(Rc<Queue<u32>>, Rc<Cell<Option<WaitError>>>);
    impl Drop for Selects {
        fn drop(&mut self) {
            assert_eq!(select! { got = &self.0 => got }.unwrap(), Ok(1));
            self.1.set(select! { _ = &self.0 => (), _ = after(FOREVER) => () }.err());
        }
    }
    in_time(|| {
        let (queue, failed) = (Rc::new(Queue::unbounded()), Rc::new(Cell::new(None)));
        queue.put(1).unwrap();
        let selects = Selects(queue.clone(), failed.clone());
        let panicking = spawn(move || {
            let _selects = selects;
            panic!("on purpose");
        });
        assert!(panicking.join().is_err());
        assert_eq!(failed.take(), Some(WaitError::Unwinding));
        assert_nobody_gets(&queue);
        assert_eq!(stats().timers, 0);
    });
}
